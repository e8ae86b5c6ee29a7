"""Networks as nodes: weights as arrays, and the names of their models."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from ..networks import Backbone, make_backbone
from ..networks._backbones import blank_network
from ..networks._fingerprint import module_digest, object_digest
from ..networks._timm import PREFIX, fit_to_size, timm_model
from ._classes import class_name, find_class
from ._objects import Node, Reader, Writer

__all__ = ["make_network", "network_node"]

# Attributes of every module, which are stored separately or not at all.
_BARE = vars(nn.Module())
_OUTPUTS = ("pool", "fc6", "fc7", None)
_TENSORS = ("_parameters", "_buffers", "_modules")


def network_node(writer: Writer, value: Any, path: str) -> Node | None:
    """Describe a tensor or a module; None if it is neither."""
    if isinstance(value, torch.Tensor):
        return _tensor_node(writer, value, path)
    if type(value) is Backbone:
        return _backbone_node(writer, value, path)
    if not isinstance(value, nn.Module):
        return None
    if all(class_name(type(module), "module") for module in value.modules()):
        return _module_node(writer, value, path)
    return (
        _torchvision_node(writer, value, path)
        or _timm_node(writer, value, path)
        or _given_node(writer, value, path)
    )


def make_network(reader: Reader, node: Node) -> Any:
    """Make the object that :func:`network_node` described."""
    match node:
        case {"tensor": place, "dtype": dtype}:
            tensor = torch.from_numpy(reader.array(place))
            return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor
        case {"backbone": net, "settings": settings, "scales": scales, "trainable": trainable}:
            backbone = Backbone(reader.value(net), **reader.values(settings))
            # With their original precision.
            backbone.mean, backbone.std = (reader.value(scales[key]) for key in ("mean", "std"))
            backbone.set_trainable(reader.value(trainable))
            return backbone.eval()
        case {"torchvision": name, "output": output, "weights": state}:
            return _with_weights(blank_network(name, output), reader.value(state))
        case {"torchvision": name, "output": output, "digest": digest}:
            return _with_digest(name, output, digest, reader.weights)
        case {"timm": name, "image_size": size, "weights": state}:
            return _of_timm(name, reader.value(size), reader.value(state))
        case {"given": name, "weights": state}:
            return _given_again(reader.modules, name, reader.value(state))
        case {"module": name, "attributes": attributes}:
            return _module(reader, name, attributes, node)
    raise ValueError(f"it has a network of an unknown kind, {', '.join(node)!r}")


def _tensor_node(writer: Writer, tensor: torch.Tensor, path: str) -> Node:
    kind = "bfloat16" if tensor.dtype == torch.bfloat16 else str(tensor.dtype)
    try:
        plain = tensor.detach().cpu().contiguous()
        # numpy does not know bfloat16.
        array = (plain.view(torch.int16) if kind == "bfloat16" else plain).numpy()
    except (RuntimeError, TypeError) as error:  # sparse, quantised, without data, of 8 bits, ...
        raise TypeError(
            f"{path} is a tensor which a file cannot hold ({error}): convert it to float32 or "
            "another dtype of numpy, dense and with data, first."
        ) from error
    return {"tensor": writer.put(array), "dtype": kind}


def _module_node(writer: Writer, module: nn.Module, path: str) -> Node:
    own = vars(module)
    for name, value in _BARE.items():
        if name not in (*_TENSORS, "training") and own.get(name, value) != value:
            raise TypeError(
                f"{path} has hooks or buffers that are not stored ({name}); remove them before "
                "skhash.save."
            )
    attributes = {k: v for k, v in own.items() if k not in _BARE or k == "training"}
    parts = {name: writer.write_all(own[name], path) for name in _TENSORS}
    return {
        "module": class_name(type(module), "module"),
        "attributes": writer.write_all(attributes, path),
        **parts,
    }


def _module(reader: Reader, name: str, attributes: dict[str, Any], node: Node) -> nn.Module:
    cls: Any = find_class(name, "module")
    module = cls.__new__(cls)  # its constructor would draw weights at random
    nn.Module.__init__(module)
    for key, value in reader.values(node["_parameters"]).items():
        module.register_parameter(key, None if value is None else nn.Parameter(value))
    for key, value in reader.values(node["_buffers"]).items():
        module.register_buffer(key, value)
    for key, value in reader.values(node["_modules"]).items():
        module.add_module(key, value)
    vars(module).update(reader.values(attributes))
    return module


def _backbone_node(writer: Writer, backbone: Backbone, path: str) -> Node:
    trainable = [name for name, p in backbone.net.named_parameters() if p.requires_grad]
    settings = {k: getattr(backbone, k) for k in ("image_size", "crop", "interpolation")}
    scales = {"mean": backbone.mean, "std": backbone.std}
    return {
        "backbone": writer.write(backbone.net, f"{path}.net"),
        "settings": writer.write_all(settings, path),
        "scales": writer.write_all(scales, path),
        "trainable": writer.write(trainable, path),
    }


def _torchvision_node(writer: Writer, net: nn.Module, path: str) -> Node | None:
    model = _recognise(net)
    if model is None:
        return None
    name, output = model
    frozen = output is not None and not any(p.requires_grad for p in net.parameters())
    if writer.backbone == "digest" and frozen:
        return {"torchvision": name, "output": output, "digest": _weights_digest(net)}
    state = writer.write(dict(net.state_dict()), path)
    return {"torchvision": name, "output": output, "weights": state}


def _recognise(net: nn.Module) -> tuple[str, str | None] | None:
    """The torchvision model that a network is, apart from its weights, and its output."""
    if not type(net).__module__.startswith("torchvision.models."):
        return None
    from ..networks._torchvision import models

    state = net.state_dict()
    shapes = {key: tensor.shape for key, tensor in state.items()}
    digest = module_digest(net, weights=False)
    n_parameters = sum(parameter.numel() for parameter in net.parameters())
    sizes = {
        name: models.get_model_weights(name).DEFAULT.meta["num_params"]
        for name in models.list_models(module=models)
        if models.get_model_builder(name).__module__ == type(net).__module__
    }
    # Models with at least as many parameters, the smallest first: only the classifier may be
    # missing.
    for name in sorted((n for n in sizes if sizes[n] >= n_parameters), key=sizes.__getitem__):
        whole = {k: tensor.shape for k, tensor in blank_network(name, None).state_dict().items()}
        for output in _OUTPUTS if shapes.items() <= whole.items() else ():
            with suppress(RuntimeError, ValueError):  # other weights, no such output
                same = _with_weights(blank_network(name, output), state)
                if module_digest(same, weights=False) == digest:
                    return name, output
    return None


def _weights_digest(net: nn.Module) -> str:
    return object_digest(dict(net.state_dict()))


def _with_weights(net: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    net.load_state_dict(state, assign=True)
    return net


def _with_digest(name: str, output: str, digest: str, weights: Any) -> nn.Module:
    blank_network(name, output)  # raises an error if it is not of torchvision
    net = make_backbone(name, weights, output=output).net
    if _weights_digest(net) != digest:
        raise ValueError(
            f"it was saved with other weights of {name!r} than weights={weights!r}; give the path "
            "of the weights that the hasher was fitted with"
        )
    return net


def _timm_node(writer: Writer, net: Any, path: str) -> Node | None:
    """Describe a timm model by its name, if its name and image size define it."""
    if not type(net).__module__.startswith("timm.models."):
        return None
    name = net.pretrained_cfg["architecture"]
    fitted = getattr(getattr(net, "patch_embed", None), "img_size", None)
    digest, state = module_digest(net, weights=False), dict(net.state_dict())
    for size in [None] if fitted is None else [None, int(fitted[0])]:
        with suppress(RuntimeError, ValueError):  # other settings, other shapes
            if module_digest(_of_timm(name, size, state), weights=False) == digest:
                weights = writer.write(state, path)
                return {"timm": name, "image_size": writer.write(size, path), "weights": weights}
    return None


def _of_timm(name: str, image_size: int | None, state: dict[str, torch.Tensor]) -> nn.Module:
    net, *_ = timm_model(PREFIX + name, pretrained=False)
    if image_size is not None:
        fit_to_size(net, image_size)
    return _with_weights(net, state).eval()


def _given_node(writer: Writer, module: nn.Module, path: str) -> Node:
    state = writer.write(dict(module.state_dict()), path)
    return {"given": type(module).__name__, "weights": state}


def _given_again(modules: list[Any], name: str, state: dict[str, torch.Tensor]) -> nn.Module:
    """A copy of the given module that the weights belong to."""
    shapes = {key: tensor.shape for key, tensor in state.items()}
    for module in (*modules, *(m.net for m in modules if isinstance(m, Backbone))):
        own = {key: tensor.shape for key, tensor in module.state_dict().items()}
        if type(module).__name__ == name and own == shapes:
            module = copy.deepcopy(module)
            module.load_state_dict(state)
            return module
    raise ValueError(
        f"it holds the weights of a network of your own, {name}, which must be given: "
        f"skhash.load(path, modules={name}(...)), with its original sizes"
        + (f"; none of the {len(modules)} given fits" if modules else "")
    )

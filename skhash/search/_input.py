"""Checks of the arguments of a search: photos, ids, tags and numbers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.validation import _num_samples

from .._image_rows import as_rows, gather, holds_images, is_one_image
from ..images import is_row, kind_of, path_of, resolve
from ..neighbors._ids import Ids, check_ids
from ..tags import TagMatrix, clean_tag, encode_tags

__all__ = [
    "Arrivals",
    "check_arrivals",
    "check_count",
    "check_having",
    "check_names",
    "check_queries",
    "rows_of_tags",
    "tag_rows",
]


@dataclass(frozen=True)
class Arrivals:
    """New photos of a search, not encoded yet.

    Parameters
    ----------
    X : features, or list or array of images
        The photos.
    images : bool
        Whether X is images.
    paths : ndarray of shape (n_photos,), object
        Absolute paths of their files, None for photos that are not files.
    tags : TagMatrix
        Their tags.
    ids : ndarray of shape (n_photos,), int64 or object (str), or None
        Their names; None if they are to be numbered.
    """

    X: Any
    images: bool
    paths: NDArray[np.object_]
    tags: TagMatrix
    ids: Ids | None

    def __len__(self) -> int:
        return len(self.paths)


def check_arrivals(X: Any, y: Any, ids: Any) -> Arrivals:
    """Check photos, their tags and their ids.

    Raises
    ------
    ValueError, TypeError
        If there are no photos, or the numbers differ.
    """
    X = gather(X)
    images = holds_images(X)
    if images:
        X = _as_images(X)
    n_photos = _num_samples(X)
    paths = np.empty(n_photos, object)
    names = None
    if images and not isinstance(X, np.ndarray):
        files = [path_of(resolve(x) if is_row(x) else x) for x in X]  # None for bytes
        paths[:] = [None if file is None else os.path.abspath(file) for file in files]
        names = None if None in files else files
    if ids is None and names is not None:
        ids = names
    return Arrivals(
        X,
        images,
        paths,
        _no_tags(n_photos) if y is None else encode_tags(y, n_samples=n_photos),
        None if ids is None else check_names(ids, n_photos),
    )


def check_queries(X: Any) -> tuple[Any, bool]:
    """Check query photos, and find whether they are images; a single image is allowed."""
    X = [X] if is_one_image(X) else gather(X)
    images = holds_images(X)
    return (_as_images(X) if images else X), images


def _as_images(X: Any) -> Any:
    if is_one_image(X):
        raise TypeError(f"X must be a sequence of photos, got {kind_of(X)}; give [X].")
    rows = as_rows(X)
    return rows if isinstance(rows, np.ndarray) else list(rows)


def check_names(ids: Any, n_photos: int | None = None) -> Ids:
    """Check an id, or a sequence of ids, of photos.

    Raises
    ------
    ValueError, TypeError
        See :func:`skhash.neighbors._ids.check_ids`.
    """
    if isinstance(ids, str | os.PathLike | Integral):
        ids = [ids]
    return check_ids(ids, n_samples=n_photos)


def check_count(value: Any, name: str) -> int:
    """Check a number of results.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is less than 1.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
    return int(value)


def check_having(having: Any) -> list[Any] | None:
    """Check tags that photos must have; None means any photo."""
    if having is None:
        return None
    if isinstance(having, str):
        having = [having]
    if isinstance(having, bytes | dict) or not hasattr(having, "__iter__"):
        raise TypeError(f"having must be a sequence of tags, got {type(having).__name__}.")
    tags = [clean_tag(tag) if isinstance(tag, str) else tag for tag in having]
    if not tags:
        raise ValueError("having has no tags; give None to find any photo.")
    if "" in tags:
        raise ValueError("having has an empty tag.")
    others = [tag for tag in tags if not isinstance(tag, str | Real)]
    if others:
        raise TypeError(f"having must be a sequence of tags, got {others[0]!r:.100} as a tag.")
    return tags


def tag_rows(tags: TagMatrix, rows: NDArray[np.intp]) -> TagMatrix:
    """The tags of some photos."""
    return TagMatrix(tags.indicator[rows], tags.vocabulary)


def rows_of_tags(tags: TagMatrix, rows: Any = None) -> list[list[Any]]:
    """The tags of photos as lists, of all or of some rows."""
    indices, indptr, words = tags.indicator.indices, tags.indicator.indptr, tags.vocabulary
    rows = range(tags.n_samples) if rows is None else rows
    return [words[indices[indptr[row] : indptr[row + 1]]].tolist() for row in rows]


def _no_tags(n_photos: int) -> TagMatrix:
    return TagMatrix(sp.csr_array((n_photos, 0), dtype=np.float32), np.empty(0, object))

"""Which photos are nearest: by codes, and if wanted by real numbers after that."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._photos import Photos, Rows

__all__ = ["nearest_photos", "unit_vectors"]

Found = tuple[NDArray[Any], Rows]


def nearest_photos(
    photos: Photos,
    codes: NDArray[np.uint8],
    n_neighbors: int,
    *,
    directions: NDArray[np.float32] | None = None,
    n_candidates: int = 1,
    own_rows: Rows | None = None,
    among: Rows | None = None,
) -> list[Found]:
    """The nearest photos of each query.

    Parameters
    ----------
    photos : Photos
        What is searched.
    codes : ndarray of shape (n_queries, n_bytes), uint8
        Packed codes of the queries.
    n_neighbors : int
        How many photos to find; where there are fewer, all.
    directions : ndarray of shape (n_queries, n_bits), float32, default=None
        Directions of the queries: ranks the nearest by codes anew.
    n_candidates : int, default=1
        How many of these there are for each photo wanted.
    own_rows : ndarray of shape (n_queries,), int, default=None
        Row of each query, which is not to find itself.
    among : ndarray of int, default=None
        Rows to choose from, ascending; None is all.

    Returns
    -------
    list of (distances, rows)
        For each query: Hamming distances in bits, int32; where there are
        directions ``n_bits * (1 - cosine) / 2``, float32, which is the Hamming
        distance if all values are as far from 0.
    """
    if directions is None:
        n_candidates = 1
    n_wanted = n_neighbors + (own_rows is not None)
    answers = []
    for i, (distances, rows) in enumerate(
        zip(*photos.nearest(codes, n_wanted * n_candidates, among), strict=True)
    ):
        if own_rows is not None:
            others = rows != own_rows[i]
            distances, rows = distances[others], rows[others]
        if directions is not None:
            distances = _asymmetric(directions[i], photos, rows)
            order = np.argsort(distances, kind="stable")
            distances, rows = distances[order], rows[order]
        answers.append((distances[:n_neighbors], rows[:n_neighbors]))
    return answers


def _asymmetric(direction: NDArray[np.float32], photos: Photos, rows: Rows) -> NDArray[np.float32]:
    """Distances of a query to photos, on the scale of bits."""
    assert photos.directions is not None
    cosines = photos.directions[rows].astype(np.float32) @ direction
    return np.float32(len(direction) / 2) * (1 - cosines)


def unit_vectors(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Decision values scaled to length 1; zeros stay."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return (values / np.maximum(lengths, np.finfo(values.dtype).tiny)).astype(np.float32)

"""The nearest photos by codes, and optionally their ranking by decision values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes import pack, sign_bits
from ._photos import Photos, Rows

__all__ = ["Queries", "nearest_photos", "queries_by_row", "queries_by_value", "unit_vectors"]

Found = tuple[NDArray[Any], Rows]


@dataclass(frozen=True)
class Queries:
    """Queries in the form that a search needs.

    Parameters
    ----------
    codes : ndarray of shape (n_queries, n_bytes), uint8
        Packed codes.
    directions : ndarray of shape (n_queries, n_bits), float32, or None
        Decision values, scaled to length 1.
    rows : ndarray of shape (n_queries,), int, or None
        Rows of queries that are photos of the search; these do not find
        themselves.
    """

    codes: NDArray[np.uint8]
    directions: NDArray[np.float32] | None
    rows: Rows | None = None


def queries_by_value(values: NDArray[np.floating[Any]]) -> Queries:
    """Queries that have decision values."""
    return Queries(pack(sign_bits(values)), unit_vectors(values))


def queries_by_row(photos: Photos, rows: Rows) -> Queries:
    """Queries that are photos of the search."""
    directions = photos.directions
    if directions is not None:
        return Queries(photos.codes[rows], directions[rows].astype(np.float32), rows)
    return Queries(photos.codes[rows], None, rows)


def nearest_photos(
    photos: Photos,
    queries: Queries,
    n_neighbors: int,
    *,
    n_candidates: int = 0,
    among: Rows | None = None,
) -> list[Found]:
    """The nearest photos of each query.

    Parameters
    ----------
    photos : Photos
        The photos to search.
    queries : Queries
        The queries.
    n_neighbors : int
        Number of photos to find; all if there are fewer.
    n_candidates : int, default=0
        Number of candidates by codes, per requested photo, that are ranked
        again by directions; 0 means none. Needs photos with directions.
    among : ndarray of int, default=None
        Rows to choose from, ascending; None means all.

    Returns
    -------
    list of (distances, rows)
        For each query: Hamming distances in bits, int32; if ranked again,
        ``n_bits * (1 - cosine) / 2``, float32, which is the Hamming distance
        if all values have the same absolute value.
    """
    rescore = n_candidates > 0 and photos.directions is not None
    n_wanted = (n_neighbors + (queries.rows is not None)) * (n_candidates if rescore else 1)
    answers = []
    nearest = photos.nearest(queries.codes, n_wanted, among)
    for i, (distances, rows) in enumerate(zip(*nearest, strict=True)):
        if queries.rows is not None:
            others = rows != queries.rows[i]
            distances, rows = distances[others], rows[others]
        if rescore:
            assert queries.directions is not None
            distances = _asymmetric(queries.directions[i], photos, rows)
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

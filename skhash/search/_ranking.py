"""Which photos are nearest: by codes, and if wanted by real numbers after that."""

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
    """What to search for.

    Parameters
    ----------
    codes : ndarray of shape (n_queries, n_bytes), uint8
        Packed codes.
    directions : ndarray of shape (n_queries, n_bits), float32, or None
        Decision values, scaled to length 1.
    rows : ndarray of shape (n_queries,), int, or None
        Rows of queries that are photos of the search: they do not find
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
        What is searched.
    queries : Queries
        What for.
    n_neighbors : int
        How many photos to find; where there are fewer, all.
    n_candidates : int, default=0
        How many of the nearest by codes are ranked anew by directions, for each
        photo wanted; 0 is none. Needs photos that have directions.
    among : ndarray of int, default=None
        Rows to choose from, ascending; None is all.

    Returns
    -------
    list of (distances, rows)
        For each query: Hamming distances in bits, int32; if ranked anew
        ``n_bits * (1 - cosine) / 2``, float32, which is the Hamming distance
        if all values are as far from 0.
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

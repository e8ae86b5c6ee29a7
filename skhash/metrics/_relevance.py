"""Relevance of the items of a database to queries."""

from __future__ import annotations

import itertools
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from ..tags import TagMatrix
from ._checks import GAINS, check_option


class Relevance(Protocol):
    """The interface of relevance: which items of the database are relevant to a query."""

    def mark(self, query: int, out: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mark in ``out`` (n_database,) the items that are relevant to a query, and return it."""

    def gains(self, query: int) -> NDArray[np.float64]:
        """How relevant each item is to a query, of shape (n_database,); 0 where it is not."""


class SharedLabels:
    """Items are relevant if they share a label with the query; more shared labels, more gain.

    Parameters
    ----------
    queries : TagMatrix
        Labels of the queries, in the vocabulary of the database.
    database : TagMatrix
        Labels of the database.
    gain : {"linear", "exponential"}, default="linear"
        Whether the gain of s shared labels is s or 2^s - 1.
    """

    def __init__(self, queries: TagMatrix, database: TagMatrix, gain: str = "linear") -> None:
        self._gain = gain
        self._n_database = database.n_samples
        columns = database.indicator.tocsc()
        self._items = columns.indices.astype(np.intp)
        self._spans = list(itertools.pairwise(columns.indptr.tolist()))
        # Or-ing the mask of a label costs about as much as marking a thirtieth of the items.
        self._masks = {}
        for label in np.flatnonzero(np.diff(columns.indptr) * 32 > database.n_samples).tolist():
            self._masks[label] = mask = np.zeros(database.n_samples, bool)
            mask[self._items[slice(*self._spans[label])]] = True
        self._queries = queries.indicator

    def mark(self, query: int, out: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mark in ``out`` (n_database,) the items that are relevant to a query, and return it."""
        out.fill(False)
        for label in self._labels(query):
            if label in self._masks:
                np.logical_or(out, self._masks[label], out=out)
            else:
                out[self._items[slice(*self._spans[label])]] = True
        return out

    def gains(self, query: int) -> NDArray[np.float64]:
        """How relevant each item is to a query, of shape (n_database,)."""
        shared = np.zeros(self._n_database)
        for label in self._labels(query):
            if label in self._masks:
                np.add(shared, self._masks[label], out=shared)
            else:
                shared[self._items[slice(*self._spans[label])]] += 1
        return shared if self._gain == "linear" else np.exp2(shared) - 1

    def _labels(self, query: int) -> list[int]:
        start, stop = self._queries.indptr[query : query + 2]
        labels: list[int] = self._queries.indices[start:stop].tolist()
        return labels


class GivenGains:
    """Relevance from a matrix of gains.

    Parameters
    ----------
    gains : array-like or sparse matrix of shape (n_queries, n_database)
        At least 0.
    n_queries, n_database : int
        The shape expected.
    """

    def __init__(self, gains: Any, n_queries: int, n_database: int) -> None:
        matrix: Any = gains.tocsr() if sp.issparse(gains) else np.asarray(gains)
        if matrix.dtype.kind not in "buif":
            raise TypeError(
                f"gain must be {' or '.join(map(repr, GAINS))} or an array of numbers, "
                f"got {gains!r}."
            )
        if matrix.shape != (n_queries, n_database):
            raise ValueError(
                f"gain must have a row per query and a column per item of the database, "
                f"{(n_queries, n_database)}, got shape {matrix.shape}."
            )
        values = matrix.data if sp.issparse(matrix) else matrix
        if values.size and not (values.min() >= 0 and np.isfinite(values.max())):
            raise ValueError("gain must be finite and at least 0; an irrelevant item has gain 0.")
        self._matrix = matrix

    def mark(self, query: int, out: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mark in ``out`` (n_database,) the items that are relevant to a query, and return it."""
        return np.greater(self.gains(query), 0, out=out)

    def gains(self, query: int) -> NDArray[np.float64]:
        """How relevant each item is to a query, of shape (n_database,)."""
        row = self._matrix[[query]]
        dense: NDArray[Any] = row.toarray() if sp.issparse(row) else row
        return dense[0].astype(np.float64)


def is_gain_matrix(gain: str | ArrayLike) -> bool:
    """Whether ``gain`` is a matrix rather than the name of a formula, which is checked."""
    if isinstance(gain, str) or gain is None:
        check_option("gain", gain, GAINS)
        return False
    return True

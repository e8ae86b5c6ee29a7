"""Matrices that are too large to be held in the form in which they are used.

Features may lie in a memory-mapped file, in half precision. What reads them takes block after
block of their rows, and each block is cast, or computed, when it is read: the whole never is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite, gen_batches

__all__ = [
    "CastRows",
    "ColumnSummary",
    "Features",
    "Rows",
    "TakenRows",
    "open_rows",
    "row_blocks",
    "squares_about",
    "summarise_columns",
]

# Of a block in float64, which products and their operands may become.
_BLOCK_BYTES = 64 * 2**20


class Rows:
    """A matrix whose rows are made each time they are read.

    A subclass defines ``_read``.

    Parameters
    ----------
    shape : tuple of two int
        Of the matrix.
    dtype : dtype
        Of its rows.
    width : int, default=None
        How many numbers are in memory to make a row, where they are more than
        its columns.
    """

    ndim = 2

    def __init__(self, shape: tuple[int, int], dtype: Any, width: int | None = None) -> None:
        self.shape = shape
        self.width = max(shape[1], width or 0)
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[Any]) -> NDArray[Any]:
        """Some rows, as an array of ``dtype``; ``[:]`` is all of them."""
        return self._read(rows)

    def _read(self, rows: Any) -> NDArray[Any]:
        raise NotImplementedError

    def content(self) -> list[Any]:
        """Arrays and plain values that decide what the rows are."""
        raise NotImplementedError


# What methods that read features by blocks take.
Features: TypeAlias = "NDArray[np.floating[Any]] | Rows"


class CastRows(Rows):
    """An array in another dtype.

    Parameters
    ----------
    array : ndarray of shape (n_samples, n_features)
        Such as a memory map of float16.
    dtype : dtype
        What rows become as they are read.
    """

    def __init__(self, array: NDArray[Any], dtype: Any) -> None:
        super().__init__((array.shape[0], array.shape[1]), dtype)
        self._array = np.asarray(array)

    def _read(self, rows: Any) -> NDArray[Any]:
        return np.ascontiguousarray(self._array[rows], self.dtype)

    def content(self) -> list[Any]:
        """The array, and what it is cast to."""
        return [self._array, self.dtype.str]


class TakenRows(Rows):
    """Some rows of a matrix.

    Parameters
    ----------
    matrix : ndarray or Rows
        Of which.
    rows : ndarray of int
        Which.
    """

    def __init__(self, matrix: Features, rows: NDArray[np.integer[Any]]) -> None:
        super().__init__((len(rows), matrix.shape[1]), matrix.dtype, _width(matrix))
        self._matrix, self._rows = matrix, rows

    def _read(self, rows: Any) -> NDArray[Any]:
        return self._matrix[self._rows[rows]]

    def content(self) -> list[Any]:
        """The matrix, and which rows of it."""
        whole = self._matrix.content() if isinstance(self._matrix, Rows) else self._matrix
        return [whole, self._rows]


def open_rows(check: Callable[..., NDArray[Any]], X: Any) -> Features:
    """Check a matrix of finite numbers; half precision is left as it is, to be cast by blocks.

    Parameters
    ----------
    check : callable
        ``check_array`` of scikit-learn, or what takes its arguments.
    X : array-like or Rows of shape (n_samples, n_features)
        The matrix.

    Returns
    -------
    ndarray of float32 or float64, or Rows
        No copy if X is an array of floats.
    """
    if isinstance(X, Rows):
        return X
    is_half = getattr(X, "dtype", None) == np.float16
    kinds = [np.float64, np.float32, np.float16]
    # Of half precision scikit-learn would make an array of as many bool.
    array = check(X, dtype=kinds, ensure_all_finite=not is_half)
    if array.dtype != np.float16:
        return array
    rows = CastRows(array, np.float32)
    for _, block in row_blocks(rows):
        assert_all_finite(block, input_name="X")
    return rows


def row_blocks(X: Features | Any) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Blocks of rows of a matrix, of up to 64 MiB in float64, and where they are."""
    for rows in gen_batches(X.shape[0], max(1, _BLOCK_BYTES // (8 * max(_width(X), 1)))):
        yield rows, X[rows]


def _width(X: Features | Any) -> int:
    return X.width if isinstance(X, Rows) else int(X.shape[1])


class ColumnSummary(NamedTuple):
    """The least and the largest value of each column, and its mean in float64."""

    low: NDArray[Any]
    high: NDArray[Any]
    mean: NDArray[np.float64]


def summarise_columns(X: Features) -> ColumnSummary:
    """What one pass over the rows tells of each column."""
    lows, highs, sums = [], [], np.zeros(X.shape[1])
    for _, block in row_blocks(X):
        lows.append(block.min(axis=0))
        highs.append(block.max(axis=0))
        sums += block.sum(axis=0, dtype=np.float64)
    return ColumnSummary(np.min(lows, axis=0), np.max(highs, axis=0), sums / len(X))


def squares_about(X: Features, mean: NDArray[np.float64]) -> float:
    """The sum of all squared distances of rows from their mean."""
    return sum(float(np.square(block - mean).sum()) for _, block in row_blocks(X))

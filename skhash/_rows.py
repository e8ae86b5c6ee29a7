"""Matrices that are too large for memory in the form in which they are used.

Features may be in a memory-mapped file, in half precision. They are read by blocks of rows, and
each block is cast, or computed, when it is read. The whole matrix never is in memory.
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

# Size of a block in bytes, as if in float64: products and their operands may have this dtype.
_BLOCK_BYTES = 64 * 2**20


class Rows:
    """A matrix whose rows are computed each time they are read.

    A subclass defines ``_read``.

    Parameters
    ----------
    shape : tuple of two int
        Shape of the matrix.
    dtype : dtype
        Dtype of its rows.
    width : int, default=None
        Number of values in memory for the computation of a row, if they are
        more than its columns.
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
        """Arrays and plain values that determine the rows."""
        raise NotImplementedError


# The type of features in methods that read them by blocks.
Features: TypeAlias = "NDArray[np.floating[Any]] | Rows"


class CastRows(Rows):
    """An array in another dtype.

    Parameters
    ----------
    array : ndarray of shape (n_samples, n_features)
        For example a memory map of float16.
    dtype : dtype
        Dtype to which rows are cast when they are read.
    """

    def __init__(self, array: NDArray[Any], dtype: Any) -> None:
        super().__init__((array.shape[0], array.shape[1]), dtype)
        self._array = np.asarray(array)

    def _read(self, rows: Any) -> NDArray[Any]:
        return np.ascontiguousarray(self._array[rows], self.dtype)

    def content(self) -> list[Any]:
        """The array and the dtype to which it is cast."""
        return [self._array, self.dtype.str]


class TakenRows(Rows):
    """Some rows of a matrix.

    Parameters
    ----------
    matrix : ndarray or Rows
        The matrix.
    rows : ndarray of int
        Numbers of the rows.
    """

    def __init__(self, matrix: Features, rows: NDArray[np.integer[Any]]) -> None:
        super().__init__((len(rows), matrix.shape[1]), matrix.dtype, _width(matrix))
        self._matrix, self._rows = matrix, rows

    def _read(self, rows: Any) -> NDArray[Any]:
        return self._matrix[self._rows[rows]]

    def content(self) -> list[Any]:
        """The matrix and the numbers of the rows."""
        whole = self._matrix.content() if isinstance(self._matrix, Rows) else self._matrix
        return [whole, self._rows]


def open_rows(check: Callable[..., NDArray[Any]], X: Any) -> Features:
    """Check a matrix of finite numbers; half precision is not cast here, but later by blocks.

    Parameters
    ----------
    check : callable
        ``check_array`` of scikit-learn, or a function with its arguments.
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
    # For half precision scikit-learn would make a bool array of the same shape.
    array = check(X, dtype=kinds, ensure_all_finite=not is_half)
    if array.dtype != np.float16:
        return array
    rows = CastRows(array, np.float32)
    for _, block in row_blocks(rows):
        assert_all_finite(block, input_name="X")
    return rows


def row_blocks(X: Features | Any) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Blocks of rows of a matrix, up to 64 MiB each in float64, and their positions."""
    for rows in gen_batches(X.shape[0], max(1, _BLOCK_BYTES // (8 * max(_width(X), 1)))):
        yield rows, X[rows]


def _width(X: Features | Any) -> int:
    return X.width if isinstance(X, Rows) else int(X.shape[1])


class ColumnSummary(NamedTuple):
    """The smallest and the largest value of each column, and its mean in float64."""

    low: NDArray[Any]
    high: NDArray[Any]
    mean: NDArray[np.float64]


def summarise_columns(X: Features) -> ColumnSummary:
    """Statistics of each column from one pass over the rows."""
    lows, highs, sums = [], [], np.zeros(X.shape[1])
    for _, block in row_blocks(X):
        lows.append(block.min(axis=0))
        highs.append(block.max(axis=0))
        sums += block.sum(axis=0, dtype=np.float64)
    return ColumnSummary(np.min(lows, axis=0), np.max(highs, axis=0), sums / len(X))


def squares_about(X: Features, mean: NDArray[np.float64]) -> float:
    """The sum of all squared distances between rows and their mean."""
    return sum(float(np.square(block - mean).sum()) for _, block in row_blocks(X))

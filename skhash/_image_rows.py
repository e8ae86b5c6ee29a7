"""Collections of images in all forms that users have, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .images import ImageReadError, is_image, is_open_file

__all__ = ["LazyRows", "as_rows", "gather", "holds_images", "is_one_image"]


class LazyRows:
    """Some items of a sequence, fetched each time they are needed."""

    def __init__(self, source: Any, rows: Any, column: str | None = None) -> None:
        self.source = source
        self.rows = rows
        self.column = column

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        place = int(self.rows[row])
        try:
            item = self.source[place]
            return item if self.column is None else item[self.column]
        except Exception as error:  # from an unknown library, when it reads or decodes
            cause = str(error) or type(error).__name__
            raise ImageReadError(f"cannot fetch image {place}: {cause}") from error

    def take(self, rows: NDArray[np.integer[Any]]) -> LazyRows:
        """Some of these items."""
        return LazyRows(self.source, np.asarray(self.rows)[rows], self.column)

    def same_as(self, other: Any) -> bool:
        """Whether these are the same items of the same sequence."""
        return (
            isinstance(other, LazyRows)
            and self.source is other.source
            and self.column == other.column
            and np.array_equal(self.rows, other.rows)
        )


def gather(X: Any) -> Any:
    """X in a form that can be read repeatedly by rows: a list for an iterator, an array for Arrow.

    Raises
    ------
    ValueError
        If the iterator is empty, for example because it was read before.
    """
    if hasattr(X, "__array__") and not hasattr(X, "shape"):
        return np.asarray(X)  # of Arrow, whose items are Arrow objects
    if not hasattr(X, "__next__") or is_open_file(X):
        return X
    X = list(X)
    if not X:
        raise ValueError(
            "X is an iterator that is empty, or was read by an earlier call: pass list(X), "
            "which can be read again."
        )
    return X


def holds_images(X: Any) -> bool:
    """Whether X is images, valid or not, and not a matrix of numbers."""
    if is_one_image(X):
        return True
    shape = getattr(X, "shape", None)
    if shape is None or len(shape) == 1:
        if not _is_sequence(X):
            return False
        try:
            return is_image(X[0] if shape is None else next(iter(X)))
        except (IndexError, StopIteration):
            return False
        except Exception:  # from a lazy sequence, when it reads or decodes its first image
            return not isinstance(X, Sequence)
    if len(shape) != 2:
        return len(shape) == 4 or (len(shape) > 2 and getattr(X, "dtype", None) == np.uint8)
    # An array of str is probably a matrix of numbers that were not converted.
    is_table = _columns(X) is not None and 0 not in shape
    return is_table and any(is_image(value) for value in _first_row(X))


def is_one_image(X: Any) -> bool:
    """Whether X is a single image and not a collection of images."""
    return is_image(X) and not isinstance(X, np.ndarray)


def _first_row(table: Any) -> list[Any]:
    """The values in the first row of a data frame or dataset."""
    if hasattr(table, "__array__"):
        return list(np.asarray(table[:1]).ravel())
    return list(table[0].values())


def _columns(table: Any) -> list[Any] | None:
    """Names of the columns of a data frame or dataset; None for other objects."""
    for attribute in ("column_names", "columns"):  # pyarrow has both
        if hasattr(type(table), attribute):
            return list(getattr(table, attribute))
    return None


def _is_sequence(X: Any) -> bool:
    return hasattr(X, "__len__") and hasattr(X, "__getitem__") and not isinstance(X, dict)


def as_rows(X: Any) -> Any:
    """Images as a list, an array of several dimensions, or a lazy sequence; None if X has no rows.

    Raises
    ------
    TypeError
        If X is a table with several columns.
    """
    X = gather(X)
    if not _is_sequence(X):
        return None
    columns = _columns(X)
    if columns is not None and len(getattr(X, "shape", (1, 1))) == 2:
        if len(columns) != 1:
            raise TypeError(
                f"X must be images, got a table with the columns {columns}: pass the column with "
                f"the images, such as X[{columns[0]!r}]."
            )
        if not hasattr(X, "__array__"):
            return LazyRows(X, range(len(X)), columns[0])
        X = np.asarray(X)
    shape = getattr(X, "shape", None)
    if isinstance(X, np.ndarray) and X.ndim > 1:
        # One column, as passed by a ColumnTransformer.
        return list(X.ravel()) if X.dtype.kind in "OU" and X.shape[1:] == (1,) else X
    if isinstance(X, list | tuple) or (shape is not None and len(shape) == 1):
        return list(X)
    return LazyRows(X, range(len(X)))

"""Ids of codes: from any form that a user gives to one array."""

from __future__ import annotations

import os
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]


def check_ids(ids: Any, *, n_samples: int | None = None, unique: bool = True) -> Ids:
    """Convert ids to a one-dimensional array of int64 or of str (dtype object).

    Parameters
    ----------
    ids : iterable of int or of str
        Paths are converted to str.
    n_samples : int, default=None
        Expected number of ids; None means any number.
    unique : bool, default=True
        Whether all must be different.

    Raises
    ------
    ValueError
        If some ids are equal, there are too many or too few, or a number does
        not fit in 64 bits.
    TypeError
        If the ids are neither all int nor all str.
    """
    array = _as_array(ids)
    if n_samples is not None and len(array) != n_samples:
        raise ValueError(
            f"ids has {len(array)} entries, but X has {n_samples} rows; give one for each."
        )
    if unique and not is_ascending(array):
        values, counts = np.unique(array, return_counts=True)
        if len(values) < len(array):
            raise ValueError(
                f"ids must differ, but {name_some(values[counts > 1])} occur more than once; "
                "give each code a different id."
            )
    return array


def _as_array(ids: Any) -> Ids:
    if (
        getattr(ids, "ndim", 1) != 1
        or isinstance(ids, str | bytes)
        or not isinstance(ids, Iterable)
    ):
        raise TypeError(f"ids must be a sequence of int or of str, got {ids!r:.100}.")
    if isinstance(ids, np.ndarray) and ids.dtype.kind == "i":
        return ids.astype(np.int64)
    values = [os.fspath(i) if isinstance(i, os.PathLike) else i for i in ids]
    if all(isinstance(i, str) for i in values) and values:
        array = np.empty(len(values), dtype=object)
        array[:] = [str(i) for i in values]  # not numpy.str_
        return array
    if all(isinstance(i, Integral) and not isinstance(i, bool) for i in values):
        try:
            return np.array([int(i) for i in values], dtype=np.int64)
        except OverflowError:
            raise ValueError("ids must fit in 64 bits; give larger numbers as str.") from None
    kinds = ", ".join(sorted({type(i).__name__ for i in values}))
    raise TypeError(f"ids must be all int or all str, got {kinds}.")


def next_numbers(first: int, n: int) -> Ids:
    """Ids from a number on.

    Raises
    ------
    ValueError
        If they do not fit in 64 bits.
    """
    if first + n > np.iinfo(np.int64).max:
        raise ValueError("ids must be given: no number follows the largest id.")
    return np.arange(first, first + n, dtype=np.int64)


def check_unicode(text: str, name: str) -> None:
    """Refuse a text that UTF-8, and so a database, cannot hold; the name of a file can be such.

    Raises
    ------
    ValueError
        It begins with ``name``.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} is {text!r}, which is not Unicode: rename it.") from None


def check_unicode_ids(ids: Ids, first: int = 0) -> None:
    """The same for ids, of which the first is ``ids[first]`` of the caller."""
    if kind_of(ids) == "str":
        for i, text in enumerate(ids, first):
            check_unicode(text, f"ids[{i}]")


def check_name(text: str, name: str) -> None:
    """Refuse a name that is empty, or that a database or a file system cannot hold.

    Raises
    ------
    ValueError
        It begins with ``name``.
    """
    if not text or "\0" in text:
        raise ValueError(f"{name} must have characters, none of them NUL, got {text!r}.")
    check_unicode(text, name)


def kind_of(ids: Ids) -> str:
    """Type of ids: "int" or "str"."""
    return "str" if ids.dtype == object else "int"


def is_ascending(ids: Ids) -> bool:
    """Whether ids are numbers, each larger than the one before."""
    return ids.dtype != object and bool((ids[1:] > ids[:-1]).all())


def name_some(ids: Any) -> str:
    """The first few ids, for a message."""
    shown = ", ".join(repr(i) for i in np.asarray(ids, dtype=object)[:5].tolist())
    return shown + f" and {len(ids) - 5} more" * (len(ids) > 5)

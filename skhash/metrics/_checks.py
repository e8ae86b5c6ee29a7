"""Checks of the options that metrics share."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DIVISORS = ("min", "relevant", "hits")
EMPTY = ("zero", "skip")
TIES = ("expected", "stable", "best", "worst")
AVERAGES = ("micro", "macro")


def check_option(name: str, value: Any, options: tuple[str, ...]) -> None:
    """Raise a ValueError unless ``value`` is one of ``options``."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}.")


def check_integer(name: str, value: Any, least: int) -> int:
    """Check an integer that must be at least ``least``."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
    return int(value)


def check_ranks(name: str, ks: ArrayLike) -> NDArray[np.int64]:
    """Check several numbers of ranks."""
    ranks = np.asarray(ks)
    if ranks.ndim != 1 or ranks.size == 0 or ranks.dtype.kind not in "iu" or ranks.min() < 1:
        raise ValueError(
            f"{name} must be a non-empty sequence of integers of at least 1, got {ks!r}."
        )
    return ranks.astype(np.int64)

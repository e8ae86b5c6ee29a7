"""Real values whose signs do not depend on which samples are computed together.

The order of summation in matrix products depends on the shapes of the matrices and on a row's
position. So the last bits of a sample's values differ between batches. This changes signs of values
that are 0 up to rounding, which are common with features that have few different values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._rows import Features

__all__ = ["affine_values", "centred_projection", "settled_values"]

Values = NDArray[np.floating[Any]]

# Large enough for fast products, and small enough that a block stays in the cache for its norms.
_BLOCK_ROWS = 1024
# Limit of the rounding of inner products, in units of the rounding of one product. The worst case,
# large sums of one sign that cancel with those of the other sign, reaches half of it.
_ROUNDING = 8.0


def settled_values(
    compute: Callable[[Values], tuple[Values, NDArray[np.bool_]]],
    X: Features,
    *,
    block_rows: int = _BLOCK_ROWS,
) -> Values:
    """Values of samples, whose signs are the same in any batch.

    The sign of a value that is larger than its rounding error is certain. If a
    value of a sample is not, all values of the sample are computed from its row
    alone. This computation is the same for every batch.

    Parameters
    ----------
    compute : callable
        Takes rows of X. Returns their values, shape (n_rows, n_bits), and which
        rows have a value whose sign may have been changed by rounding.
    X : ndarray or Rows of shape (n_samples, n_features)
        Features.
    block_rows : int, default=1024
        Maximum number of rows for a call of ``compute``.

    Returns
    -------
    ndarray of shape (n_samples, n_bits)
        The values.

    Raises
    ------
    ValueError
        If values overflow.
    """
    settled: Values | None = None
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(X), block_rows):
            rows = X[start : start + block_rows]
            values, doubtful = compute(rows)
            for i in np.flatnonzero(doubtful):
                values[i] = compute(np.ascontiguousarray(rows[i : i + 1]))[0][0]
            if not np.isfinite(values.sum()) and not np.isfinite(values).all():
                raise ValueError(
                    "X has values so large that sums of their products overflow; scale it like the "
                    "features of fit."
                )
            if len(values) == len(X):
                return values
            if settled is None:
                settled = np.empty((len(X), values.shape[1]), values.dtype)
            settled[start : start + block_rows] = values
    assert settled is not None  # X has rows
    return settled


def centred_projection(mean: Values, coef: Values, dtype: np.dtype[Any]) -> tuple[Values, Values]:
    """Coefficients and intercepts, in a dtype, of values ``(X - mean) @ coef.T``."""
    return coef.astype(dtype, copy=False), -(coef @ mean).astype(dtype, copy=False)


def affine_values(
    X: Features, coef: Values, intercept: Values, link: Callable[[Values], Values] | None = None
) -> Values:
    """``X @ coef.T + intercept``, with signs that are the same in any batch.

    Parameters
    ----------
    X : ndarray or Rows of shape (n_samples, n_features)
        Features.
    coef : ndarray of shape (n_bits, n_features)
        Coefficients.
    intercept : ndarray of shape (n_bits,)
        Intercepts.
    link : callable, default=None
        A function applied to the values, with a slope of at most 1.

    Returns
    -------
    ndarray of shape (n_samples, n_bits)
        The values.
    """
    weights = coef.T
    lengths = np.sqrt(np.vecdot(coef, coef))
    varying: Any = lengths > 0
    if varying.all():
        varying = slice(None)  # makes no copy
    unit = _ROUNDING * np.finfo(np.result_type(X.dtype, coef)).eps
    slope, level = unit * lengths.max(), unit * np.abs(intercept).max()

    def compute(rows: Values) -> tuple[Values, NDArray[np.bool_]]:
        values: Values = rows @ weights
        values += intercept
        if link is not None:
            values = link(values)
        least = np.abs(values[:, varying]).min(axis=1, initial=np.inf)
        return values, least <= slope * np.sqrt(np.vecdot(rows, rows)) + level

    return settled_values(compute, X)

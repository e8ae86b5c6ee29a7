"""Real values whose signs do not depend on which samples are computed together.

Matrix products sum in an order that hangs on the shapes of the matrices and on a row's place in
them, so the last bits of a sample's values differ from batch to batch. That turns signs where a
value is 0 but for rounding, as it is for all samples of features that take few values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._rows import Features

__all__ = ["affine_values", "centred_projection", "settled_values"]

Values = NDArray[np.floating[Any]]

# Enough for fast products, and few enough that a block stays in the cache for its norms.
_BLOCK_ROWS = 1024
# Of products of vectors, in units of the rounding of a single one. Sums of like signs that others
# of the other sign undo, the worst case, come to half of it.
_ROUNDING = 8.0


def settled_values(
    compute: Callable[[Values], tuple[Values, NDArray[np.bool_]]],
    X: Features,
    *,
    block_rows: int = _BLOCK_ROWS,
) -> Values:
    """Values of samples, whose signs are the same in any batch.

    The sign of a value that is larger than its rounding is certain. Where one is
    not, all values of the sample are computed from its row alone, which is the
    same computation whatever batch it came in.

    Parameters
    ----------
    compute : callable
        Takes rows of X, and returns their values, shape (n_rows, n_bits), and
        which rows have one whose sign rounding may have turned.
    X : ndarray or Rows of shape (n_samples, n_features)
        Features.
    block_rows : int, default=1024
        Most rows that ``compute`` gets at once.

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
                    "X has values so large that sums of their products overflow; scale it as the "
                    "features of fit were."
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
        Applied to the values, in which it changes no faster than they do.

    Returns
    -------
    ndarray of shape (n_samples, n_bits)
        The values.
    """
    weights = coef.T
    lengths = np.sqrt(np.vecdot(coef, coef))
    varying: Any = lengths > 0
    if varying.all():
        varying = slice(None)  # which takes no copy
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

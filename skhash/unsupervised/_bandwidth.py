"""The width of a Gaussian kernel that suits given features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

__all__ = ["median_gamma"]

_SAMPLE_ROWS = 1000  # half a million pairs settle a median to well under one per cent


def median_gamma(X: NDArray[np.floating[Any]], rng: np.random.RandomState) -> float:
    """Choose the Gaussian kernel ``exp(-gamma d^2)`` by the median heuristic.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
        Finite features.
    rng : RandomState
        Draws at most 1,000 samples, whose pairs are taken.

    Returns
    -------
    float
        ``1 / (2 m)``, m the median of the squared distances of pairs that
        differ; 1.0 if none do.

    Raises
    ------
    ValueError
        If there is one sample only.
    """
    if len(X) < 2:
        raise ValueError(
            'X has n_samples = 1, but gamma="median" needs at least 2; give more samples, or '
            "gamma as a number."
        )
    if len(X) > _SAMPLE_ROWS:
        X = X[np.sort(rng.choice(len(X), _SAMPLE_ROWS, replace=False))]
    squares = pdist(X, "sqeuclidean")  # in float64, and exactly 0 for duplicates
    squares = squares[squares > 0]
    return 1 / (2 * float(np.median(squares))) if len(squares) else 1.0

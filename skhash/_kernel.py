"""Gaussian kernels to anchors, and the hashers whose bits are signs of their sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist
from sklearn.base import BaseEstimator
from sklearn.utils import gen_batches

from ._decisions import settled_values
from ._rows import Features
from .base import HasherMixin, check_features

__all__ = ["KernelHasher", "gaussian_kernel", "median_gamma"]

_SAMPLE_ROWS = 1000  # half a million pairs settle a median to well under one per cent
# Kernels are taken block by block, so that samples are never copied whole.
_BLOCK_ROWS = 4096
# How far kernels may be off, in units of rounding: those of the squares that make a distance.
_ROUNDING = 16.0
# Beyond this square of a distance, times gamma, a kernel is 0.
_VANISHING = 745.0


def median_gamma(X: Features, rng: np.random.RandomState) -> float:
    """Choose the Gaussian kernel ``exp(-gamma d^2)`` by the median heuristic.

    Parameters
    ----------
    X : ndarray or Rows of shape (n_samples, n_features), float32 or float64
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
    rows: Any = slice(None)
    if len(X) > _SAMPLE_ROWS:
        rows = np.sort(rng.choice(len(X), _SAMPLE_ROWS, replace=False))
    squares = pdist(X[rows], "sqeuclidean")  # in float64, and exactly 0 for duplicates
    squares = squares[squares > 0]
    return 1 / (2 * float(np.median(squares))) if len(squares) else 1.0


class KernelHasher(HasherMixin, BaseEstimator):
    """Base of hashers whose bits are signs of ``coef_ @ (k(x) - kernel_mean_)``.

    k(x) is the Gaussian kernel of x to the anchors. A subclass sets in ``fit``

    - ``anchors_``, by :meth:`_draw_anchors`,
    - ``gamma_``, float,
    - ``kernel_mean_``, by :meth:`_centred_kernel`,
    - ``coef_``, ndarray of shape (n_bits, n_anchors).
    """

    n_anchors: int
    gamma_: float
    anchors_: NDArray[np.floating[Any]]
    kernel_mean_: NDArray[np.floating[Any]]
    coef_: NDArray[np.floating[Any]]

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Real values whose signs are the codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_bits), float32 or float64
            Centred kernels to the anchors times ``coef_.T``.
        """
        data = check_features(self, X, reset=False, in_blocks=True)
        longest = float(np.linalg.norm(self.coef_, axis=1).max(initial=0))
        unit = _ROUNDING * float(np.finfo(np.float64).eps) * longest
        mean = self.kernel_mean_.astype(np.float64)
        weights = self.coef_.T.astype(np.float64)
        live = self.coef_.any(axis=1)

        def compute(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
            kernel, steepness = gaussian_kernel(rows, self.anchors_, self.gamma_)
            rounding = steepness * np.sqrt(np.vecdot(kernel, kernel)) + np.linalg.norm(mean)
            kernel -= mean
            values = kernel @ weights
            least = np.abs(values[:, live]).min(axis=1, initial=np.inf)
            return values, least <= unit * rounding

        values = settled_values(compute, data, block_rows=_BLOCK_ROWS)
        return values.astype(np.result_type(data.dtype, self.coef_), copy=False)

    def _draw_anchors(self, X: NDArray[Any], rng: np.random.RandomState) -> None:
        """Take ``n_anchors`` of the training samples, or all if there are fewer."""
        rows = rng.choice(len(X), min(self.n_anchors, len(X)), replace=False)
        self.anchors_ = X[np.sort(rows)]

    def _centred_kernel(self, X: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Kernels of the training samples less their mean, in the dtype of X; sets the mean."""
        kernel = np.empty((len(X), len(self.anchors_)), X.dtype)
        for block in gen_batches(len(X), _BLOCK_ROWS):
            kernel[block] = gaussian_kernel(X[block], self.anchors_, self.gamma_)[0]
        self.kernel_mean_ = kernel.mean(axis=0, dtype=np.float64).astype(X.dtype)
        kernel -= self.kernel_mean_
        return kernel


def gaussian_kernel(
    X: NDArray[np.floating[Any]], anchors: NDArray[np.floating[Any]], gamma: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernels of shape (n_samples, n_anchors), and how much they magnify rounding, (n_samples,)."""
    # Centred, because distances of samples far from the origin are taken with much rounding.
    centre = anchors.mean(axis=0, dtype=np.float64)
    X, anchors = X - centre, anchors - centre
    lengths, anchor_lengths = np.vecdot(X, X), np.vecdot(anchors, anchors)
    kernel = X @ anchors.T
    kernel *= -2
    kernel += lengths[:, None]
    kernel += anchor_lengths
    np.maximum(kernel, 0, out=kernel)
    kernel *= -gamma
    np.exp(kernel, out=kernel)
    reach = gamma * float(anchor_lengths.max())
    steepness = 1 + reach + np.minimum(gamma * lengths, 2 * (reach + _VANISHING))
    return kernel, steepness

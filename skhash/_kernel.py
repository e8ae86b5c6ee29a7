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

_SAMPLE_ROWS = 1000  # half a million pairs give the median with an error well below one per cent
# Kernels are computed block by block, so that there is no copy of all samples.
_BLOCK_ROWS = 4096
# Largest error of kernels, in units of the rounding of the squares in a distance.
_ROUNDING = 16.0
# If gamma times the squared distance is larger than this, a kernel is 0.
_VANISHING = 745.0


def median_gamma(X: Features, rng: np.random.RandomState) -> float:
    """Choose the Gaussian kernel ``exp(-gamma d^2)`` by the median heuristic.

    Parameters
    ----------
    X : ndarray or Rows of shape (n_samples, n_features), float32 or float64
        Finite features.
    rng : RandomState
        Seed of the sample of at most 1,000 rows, whose pairs are used.

    Returns
    -------
    float
        ``1 / (2 m)``, where m is the median of the squared distances of pairs
        that differ; 1.0 if no pair differs.

    Raises
    ------
    ValueError
        If there is only one sample.
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

    k(x) is the Gaussian kernel of x to the anchors. A subclass sets in ``fit``:

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
        """Draw ``n_anchors`` of the training samples, or all if there are fewer."""
        rows = rng.choice(len(X), min(self.n_anchors, len(X)), replace=False)
        self.anchors_ = X[np.sort(rows)]

    def _centred_kernel(self, X: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Kernels of the training samples minus their mean, in the dtype of X; sets the mean."""
        kernel = np.empty((len(X), len(self.anchors_)), X.dtype)
        for block in gen_batches(len(X), _BLOCK_ROWS):
            kernel[block] = gaussian_kernel(X[block], self.anchors_, self.gamma_)[0]
        self.kernel_mean_ = kernel.mean(axis=0, dtype=np.float64).astype(X.dtype)
        kernel -= self.kernel_mean_
        return kernel


def gaussian_kernel(
    X: NDArray[np.floating[Any]], anchors: NDArray[np.floating[Any]], gamma: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernels of shape (n_samples, n_anchors), and factors of rounding errors, (n_samples,)."""
    # Centred, because distances of samples far from the origin have large rounding errors.
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

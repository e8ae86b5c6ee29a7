"""Features together with non-linear functions of them, as inputs of linear models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from sklearn.utils import gen_batches

from ._kernel import gaussian_kernel, median_gamma
from ._rows import Features, Rows, squares_about, summarise_columns

__all__ = ["KernelFeatures"]

_BLOCK_ROWS = 4096
# Features of more bytes than this are not stored but computed again.
_MOST_BYTES = 2**31


class KernelFeatures:
    """The features and Nystroem features of a Gaussian kernel.

    Inner products of Nystroem features approximate the kernel of samples; for
    anchors they are exact (Williams and Seeger, 2001). If no feature is
    negative, the kernel compares square roots of features, which suits counts
    and outputs of a ReLU. Both blocks are scaled to a total variance of 1.

    Parameters
    ----------
    X : ndarray or Rows of shape (n_samples, n_features), float32 or float64
        Training samples.
    n_anchors : int
        Number of training samples drawn as anchors, at most all.
    rng : RandomState
        Seed of the anchors, and of the samples for the width of the kernel.

    Attributes
    ----------
    anchors : ndarray of shape (n_anchors, n_features), dtype of X
        Anchors; their square roots if ``root``.
    gamma : float
        The kernel is ``exp(-gamma d^2)``, by the median heuristic.
    root : bool
        Whether the kernel compares square roots.
    """

    def __init__(self, X: Features, n_anchors: int, rng: np.random.RandomState) -> None:
        columns = summarise_columns(X)
        self.root = bool(columns.low.min() >= 0)
        compared = _Compared(self, X)
        rows = rng.choice(len(X), min(n_anchors, len(X)), replace=False)
        self.anchors = compared[np.sort(rows)]
        self.gamma = median_gamma(compared, rng)
        kernel = gaussian_kernel(self.anchors, self.anchors, self.gamma)[0]
        # The total variance follows from the kernel's mean, because each sample has length 1.
        curved = 1 - float(kernel.mean())
        eigenvalues, vectors = scipy.linalg.eigh(kernel, overwrite_a=True)
        kept = eigenvalues > 1e-10 * eigenvalues[-1]
        vectors, lengths = vectors[:, kept], np.sqrt(eigenvalues[kept] * (curved or 1.0))
        # Rotated back to the anchors, so that features do not depend on the choice of eigenvectors.
        self._root_inverse = (vectors / lengths) @ vectors.T
        self._scale = float(np.sqrt(squares_about(X, columns.mean) / len(X))) or 1.0

    def _compared(self, X: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return np.sqrt(np.maximum(X, 0)) if self.root else X

    def kernel(self, X: NDArray[np.floating[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Kernels to the anchors, and the factor of rounding errors: see ``gaussian_kernel``."""
        return gaussian_kernel(self._compared(X), self.anchors, self.gamma)

    def transform(self, X: Features) -> Features:
        """Both blocks, of shape (n_samples, n_features + n_anchors) and the dtype of X.

        For many samples they are computed each time they are read.
        """
        blocks = _Blocks(self, X)
        if math.prod(blocks.shape) * blocks.dtype.itemsize > _MOST_BYTES:
            return blocks
        computed = np.empty(blocks.shape, blocks.dtype)
        for rows in gen_batches(len(X), _BLOCK_ROWS):
            computed[rows] = blocks[rows]
        return computed

    def unfold(
        self, coef: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients of both blocks as coefficients of X and of its kernels to the anchors."""
        linear, curved = np.split(coef.astype(np.float64), [self.anchors.shape[1]], axis=1)
        return linear / self._scale, curved @ self._root_inverse.T


class _Compared(Rows):
    """The values of samples that the kernel compares."""

    def __init__(self, features: KernelFeatures, X: Features) -> None:
        super().__init__((len(X), X.shape[1]), X.dtype)
        self._features, self._X = features, X

    def _read(self, rows: Any) -> NDArray[Any]:
        return self._features._compared(self._X[rows])


class _Blocks(Rows):
    """Samples and their Nystroem features."""

    def __init__(self, features: KernelFeatures, X: Features) -> None:
        self._features, self._X = features, X
        self._projection = features._root_inverse.astype(X.dtype)
        super().__init__((len(X), X.shape[1] + self._projection.shape[1]), X.dtype)

    def _read(self, rows: Any) -> NDArray[Any]:
        X = self._X[rows]
        kernel = self._features.kernel(X)[0].astype(self.dtype)
        return np.hstack([X / self._features._scale, kernel @ self._projection], dtype=self.dtype)

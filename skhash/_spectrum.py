"""The principal directions of features, used by projections and regressions."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from sklearn.utils.extmath import svd_flip

from ._rows import Features, row_blocks, summarise_columns

__all__ = ["fix_signs", "scatter_spectrum"]


def scatter_spectrum(
    X: Features, n_directions: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean of features and the eigenvectors of their centred scatter matrix.

    Parameters
    ----------
    X : ndarray or Rows of shape (n_samples, n_features), float32 or float64
        Finite features.
    n_directions : int, default=None
        Maximum number of directions; all in which X varies if None.

    Returns
    -------
    mean : ndarray of shape (n_features,), float64
        Mean of each feature.
    eigenvalues : ndarray of shape (rank,), float64
        Sums of squares along the directions, in decreasing order, all positive.
    directions : ndarray of shape (rank, n_features), float64
        Orthonormal eigenvectors as rows, with a positive entry of largest
        magnitude. There are fewer than ``n_directions`` if X varies in fewer.
    """
    n_samples, n_features = X.shape
    n_directions = min(n_samples, n_features, n_directions or n_features)
    low, high, mean = summarise_columns(X)
    constant = low == high
    mean[constant] = low[constant]  # without rounding, so that they are exactly 0 after centring
    if n_features <= n_samples:
        scatter = np.zeros((n_features, n_features))
        for _, block in row_blocks(X):
            centred = block - mean
            scatter += centred.T @ centred
        eigenvalues, vectors = scipy.linalg.eigh(
            scatter, subset_by_index=[n_features - n_directions, n_features - 1], overwrite_a=True
        )
        eigenvalues, directions = eigenvalues[::-1], vectors.T[::-1]
    else:
        _, singular, directions = scipy.linalg.svd(
            X[:] - mean, full_matrices=False, overwrite_a=True
        )
        eigenvalues = singular**2
    # Values that rounding gives if there is no variance; their directions are arbitrary.
    rank = int((eigenvalues[:n_directions] > 1e-12 * eigenvalues[0]).sum())
    eigenvalues, directions = eigenvalues[:rank], directions[:rank]
    return mean, eigenvalues, fix_signs(directions)


def fix_signs(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eigenvectors with fixed signs, which do not depend on the solver.

    Parameters
    ----------
    directions : ndarray of shape (n_directions, n_features)
        Eigenvectors, or products of them, as rows.

    Returns
    -------
    ndarray of shape (n_directions, n_features)
        The same rows, with a positive entry of largest magnitude in each.
    """
    return svd_flip(None, directions.copy(), u_based_decision=False)[1]

"""Ridge regression from one matrix of features to many targets at many strengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import gen_batches

__all__ = ["RidgePath"]

_BLOCK_ROWS = 16_384
# Strengths tried by "auto", in units of the mean variance of the features.
_STRENGTHS = np.logspace(-3, 3, 25)


class RidgePath:
    """Ridge regressions that share the features, and so one eigendecomposition.

    The penalty of strength ``s`` is ``s * n_samples * v ||W||_F^2`` where v is
    the mean variance of the features, so a strength means the same for data of
    any size and scale.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
        Features.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
        Mean of the features.
    directions : ndarray of shape (n_features, rank)
        Eigenvectors U of the scatter matrix of the centred features.
    eigenvalues : ndarray of shape (rank,), float64
        Its eigenvalues, all positive.
    """

    def __init__(self, X: NDArray[np.floating[Any]]) -> None:
        self.X = X
        self.mean = X.mean(axis=0, dtype=np.float64)
        n_samples, n_features = X.shape
        if n_samples >= n_features:
            scatter = np.zeros((n_features, n_features))
            for rows in gen_batches(n_samples, _BLOCK_ROWS):
                centred = X[rows] - self.mean
                scatter += centred.T @ centred
            values, vectors = np.linalg.eigh(scatter)
        else:
            _, singular, right = np.linalg.svd(X - self.mean, full_matrices=False)
            values, vectors = singular**2, right.T
        keep = values > max(float(values.max(initial=0)), 1e-300) * 1e-10
        self.eigenvalues, self.directions = values[keep], vectors[:, keep]
        self._unit = float(values.sum()) / n_features or 1.0

    def moments(self, targets: Any) -> tuple[NDArray[np.float64], float]:
        """``U' Xc' T`` of shape (rank, n_targets), and the sum of squares of centred targets T."""
        target_mean = np.asarray(targets.mean(axis=0), dtype=np.float64).ravel()
        cross = np.asarray(targets.T @ self.X, dtype=np.float64).T
        cross -= np.outer(self.mean, target_mean * len(self.X))
        if sp.issparse(targets):
            total = float(np.square(targets.data, dtype=np.float64).sum())
        else:
            total = float(np.square(targets, dtype=np.float64).sum())
        total = max(total - len(self.X) * float(target_mean @ target_mean), 0.0)
        return self.directions.T @ cross, total

    def choose(self, cross: NDArray[np.float64], total: float) -> float:
        """Strength of least generalised cross-validation error, given :meth:`moments`."""
        energy = np.square(cross).sum(axis=1)
        errors = []
        for strength in _STRENGTHS:
            damped = self.eigenvalues + strength * self._unit
            residual = total - float((energy * (2 - self.eigenvalues / damped) / damped).sum())
            left = 1 - (float((self.eigenvalues / damped).sum()) + 1) / len(self.X)
            errors.append(residual / left**2 if left > 1e-3 else np.inf)
        # Of equal errors the stronger ridge.
        return float(_STRENGTHS[::-1][int(np.argmin(errors[::-1]))])

    def shrink(self, cross: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
        """Coefficients in the basis of :attr:`directions`, of shape (rank, n_targets)."""
        return cross / (self.eigenvalues + strength * self._unit)[:, None]

    def fit(
        self,
        targets: Any,
        strength: float | str = "auto",
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]], float]:
        """Regress targets on the features.

        Parameters
        ----------
        targets : ndarray or csr_array of shape (n_samples, n_targets)
            What to predict.
        strength : float or "auto", default="auto"
            Strength of the ridge, at least 0. "auto" minimises the
            generalised cross-validation error (Golub, Heath and Wahba, 1979)
            over 1e-3 to 1e3.

        Returns
        -------
        coef : ndarray of shape (n_targets, n_features), dtype of X
            Coefficients.
        intercept : ndarray of shape (n_targets,), dtype of X
            Intercepts.
        strength : float
            The strength used.
        """
        target_mean = np.asarray(targets.mean(axis=0), dtype=np.float64).ravel()
        cross, total = self.moments(targets)
        if strength == "auto":
            strength = self.choose(cross, total)
        coef = (self.directions @ self.shrink(cross, float(strength))).T
        intercept = target_mean - coef @ self.mean
        dtype = self.X.dtype
        return coef.astype(dtype), intercept.astype(dtype), float(strength)

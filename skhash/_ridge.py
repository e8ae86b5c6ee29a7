"""Ridge regression from one matrix of features to many targets at many strengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import gen_batches

from ._spectrum import scatter_spectrum

__all__ = ["RidgePath"]

_CHUNK_BYTES = 64 * 2**20  # of X in float64, so that it is never copied whole
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
        self.mean, values, directions = scatter_spectrum(X)
        # Along thinner directions float32 coefficients would only magnify their own rounding.
        kept = values > 1e-10 * values.max(initial=0)
        self.eigenvalues, self.directions = values[kept], directions[kept].T
        self._unit = float(values.sum()) / X.shape[1] or 1.0

    def _centred(self) -> Iterator[tuple[slice, NDArray[np.floating[Any]]]]:
        """Blocks of rows of X less its mean, in the dtype of X."""
        n_samples, n_features = self.X.shape
        for rows in gen_batches(n_samples, max(1, _CHUNK_BYTES // (8 * n_features))):
            yield rows, (self.X[rows] - self.mean).astype(self.X.dtype, copy=False)

    def project(self, coef: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Centred features times ``coef.T``, of shape (n_samples, n_targets) and dtype of X."""
        projected = np.empty((len(self.X), len(coef)), self.X.dtype)
        for rows, centred in self._centred():
            projected[rows] = centred @ coef.T
        return projected

    def moments(self, targets: Any) -> tuple[NDArray[np.float64], float]:
        """``U' Xc' T`` of shape (rank, n_targets), and the sum of squares of centred targets T."""
        # Centred features meet targets as they are: their product is that with centred targets.
        cross = np.zeros((targets.shape[1], self.X.shape[1]))
        for rows, centred in self._centred():
            cross += targets[rows].T @ centred
        target_mean = _column_means(targets)
        values = targets.data if sp.issparse(targets) else targets
        total = float(np.square(values, dtype=np.float64).sum())
        total = max(total - len(self.X) * float(target_mean @ target_mean), 0.0)
        return (cross @ self.directions).T, total

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
        target_mean = _column_means(targets)
        cross, total = self.moments(targets)
        if strength == "auto":
            strength = self.choose(cross, total)
        coef = (self.directions @ self.shrink(cross, float(strength))).T
        intercept = target_mean - coef @ self.mean
        dtype = self.X.dtype
        return coef.astype(dtype), intercept.astype(dtype), float(strength)


def _column_means(targets: Any) -> NDArray[np.float64]:
    # The mean of a sparse matrix would be summed in its own precision.
    return targets.T @ np.full(targets.shape[0], 1 / targets.shape[0])

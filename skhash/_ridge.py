"""Ridge regression from one matrix of features to many targets with many strengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ._rows import Features, row_blocks
from ._spectrum import scatter_spectrum

__all__ = ["Moments", "RidgePath"]

# Strengths tried by "auto", in units of the mean variance of the features.
_STRENGTHS = np.logspace(-3, 3, 25)


class Moments(NamedTuple):
    """Moments of targets T, of shape (n_samples, n_targets), for a regression.

    ``cross`` is ``U' Xc' T`` of shape (rank, n_targets), ``mean`` the mean of T.
    ``total`` is the sum of squares of T minus its mean, ``squares`` the sum of
    squares of T.
    """

    cross: NDArray[np.float64]
    mean: NDArray[np.float64]
    total: float
    squares: float


class RidgePath:
    """Ridge regressions on the same features, with one eigendecomposition.

    The penalty of strength ``s`` is ``s * n_samples * v ||W||_F^2`` where v is
    the mean variance of the features. So a strength has the same meaning for
    data of any size and scale.

    Parameters
    ----------
    X : ndarray or Rows of shape (n_samples, n_features), float32 or float64
        Features.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
        Mean of the features.
    directions : ndarray of shape (n_features, rank)
        Eigenvectors U of the scatter matrix of the centred features.
    eigenvalues : ndarray of shape (rank,), float64
        Eigenvalues of the scatter matrix, all positive.
    """

    def __init__(self, X: Features) -> None:
        self.X = X
        self.mean, values, directions = scatter_spectrum(X)
        # In directions with less variance, float32 coefficients would only magnify rounding errors.
        kept = values > 1e-10 * values.max(initial=0)
        self.eigenvalues, self.directions = values[kept], directions[kept].T
        self._unit = float(values.sum()) / X.shape[1] or 1.0

    def _centred(self) -> Iterator[tuple[slice, NDArray[np.floating[Any]]]]:
        """Blocks of rows of X minus its mean, in the dtype of X."""
        for rows, block in row_blocks(self.X):
            yield rows, (block - self.mean).astype(self.X.dtype, copy=False)

    def project(self, coef: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Centred features times ``coef.T``, of shape (n_samples, n_targets) and dtype of X."""
        projected = np.empty((len(self.X), len(coef)), self.X.dtype)
        for rows, centred in self._centred():
            projected[rows] = centred @ coef.T
        return projected

    def moments(self, targets: Any) -> Moments:
        """Moments of an array, Rows or csr_array of targets, for :meth:`choose`, :meth:`shrink`."""
        n_samples, n_targets = targets.shape
        cross = np.zeros((n_targets, self.X.shape[1]))
        sums, squares = np.zeros(n_targets), 0.0
        # Targets need no centring: products of centred features with both are the same.
        for rows, centred in self._centred():
            part = targets[rows]
            cross += part.T @ centred
            # The sum of a sparse matrix would have its precision.
            if sp.issparse(part):
                sums += part.T @ np.ones(part.shape[0])
            else:
                sums += part.sum(axis=0, dtype=np.float64)
            values = part.data if sp.issparse(part) else part
            squares += float(np.square(values, dtype=np.float64).sum())
        mean = sums / n_samples
        total = max(squares - n_samples * float(mean @ mean), 0.0)
        return Moments((cross @ self.directions).T, mean, total, squares)

    def choose(self, cross: NDArray[np.float64], total: float) -> float:
        """Strength with the smallest generalised cross-validation error, from :meth:`moments`."""
        energy = np.square(cross).sum(axis=1)
        errors = []
        for strength in _STRENGTHS:
            damped = self.eigenvalues + strength * self._unit
            residual = total - float((energy * (2 - self.eigenvalues / damped) / damped).sum())
            left = 1 - (float((self.eigenvalues / damped).sum()) + 1) / len(self.X)
            errors.append(residual / left**2 if left > 1e-3 else np.inf)
        # With equal errors, the stronger ridge.
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
        targets : ndarray, Rows or csr_array of shape (n_samples, n_targets)
            Targets to predict.
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
        of = self.moments(targets)
        if strength == "auto":
            strength = self.choose(of.cross, of.total)
        coef = (self.directions @ self.shrink(of.cross, float(strength))).T
        intercept = of.mean - coef @ self.mean
        dtype = self.X.dtype
        return coef.astype(dtype), intercept.astype(dtype), float(strength)

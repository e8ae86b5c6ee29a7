"""Hashers whose bits are signs of cosines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._decisions import affine_values
from ..base import LinearHasher, check_features
from ..codes import sign_bits

__all__ = ["CosineHasher"]


class CosineHasher(LinearHasher):
    """Base of hashers whose bits are signs of cosines of affine functions of the features.

    In ``fit``, a subclass sets by :meth:`_set_waves`

    - ``coef_``, ndarray of shape (n_bits, n_features),
    - ``intercept_``, ndarray of shape (n_bits,),
    - ``offset_``, ndarray of shape (n_bits,).
    """

    offset_: NDArray[np.floating[Any]]

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Real values whose signs are the codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_bits), float32 or float64
            ``cos(X @ coef_.T + intercept_) + offset_``.
        """
        return self._waves(check_features(self, X, reset=False))

    def _waves(self, X: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        def link(phases: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
            np.cos(phases, out=phases)
            phases += self.offset_
            return phases

        return affine_values(X, self.coef_, self.intercept_, link)

    def _set_waves(
        self,
        X: NDArray[np.floating[Any]],
        coef: NDArray[np.float64],
        intercept: NDArray[np.float64],
        offset: NDArray[np.float64],
    ) -> NDArray[np.uint8]:
        """Set the attributes in the dtype of X, and return the codes of X."""
        self.coef_ = coef.astype(X.dtype)
        self.intercept_ = intercept.astype(X.dtype)
        self.offset_ = offset.astype(X.dtype)
        return sign_bits(self._waves(X))

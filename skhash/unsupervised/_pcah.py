"""Principal component hashing, and the projection that other methods use too."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._rows import Features
from .._sklearn import Interval, fit_context
from .._spectrum import scatter_spectrum
from ..base import LinearHasher, check_features

__all__ = ["PCAH", "principal_projection"]


def principal_projection(
    X: Features, n_bits: int
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Mean and leading principal directions of features.

    Parameters
    ----------
    X : ndarray or Rows of shape (n_samples, n_features), float32 or float64
        Finite features.
    n_bits : int
        Number of directions.

    Returns
    -------
    mean : ndarray of shape (n_features,), dtype of X
        Mean of each feature.
    components : ndarray of shape (n_bits, n_features), dtype of X
        Eigenvectors of the covariance as rows, by decreasing variance, with
        the entry of largest magnitude positive. Rows of directions in which X
        does not vary are zero.

    Raises
    ------
    ValueError
        If there are fewer samples or features than ``n_bits``.
    """
    n_samples, n_features = X.shape
    if n_bits > min(n_samples, n_features):
        raise ValueError(
            f"n_bits={n_bits} needs at least as many samples and features as bits, got "
            f"n_samples = {n_samples} and n_features = {n_features}; lower n_bits, or use LSH, "
            "which has no such limit."
        )
    mean, _, directions = scatter_spectrum(X, n_bits)
    # A direction without variance is arbitrary, and signs along it would be noise.
    components = np.zeros((n_bits, n_features), X.dtype)
    components[: len(directions)] = directions
    return mean.astype(X.dtype), components


class PCAH(LinearHasher):
    """Principal component hashing: signs of the leading principal components.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code; at most the number of samples and of features.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        Eigenvectors of the covariance of the features, by decreasing variance;
        zero beyond its rank.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        Minus the projected mean.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    ITQ : The same projection, rotated for a smaller quantisation error.

    References
    ----------
    .. [1] J. Wang, S. Kumar and S.-F. Chang, "Semi-supervised hashing for
       large-scale search", IEEE TPAMI 34(12), 2012, without its labelled pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import PCAH
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> PCAH(n_bits=4).fit_transform(X).shape
    (100, 4)
    """

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, n_bits: int = 64) -> None:
        self.n_bits = n_bits

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Find the principal directions of the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : None
            Ignored.

        Returns
        -------
        PCAH
            The fitted hasher.
        """
        data = check_features(self, X, reset=True, in_blocks=True)
        self._set_projection(
            data,
            *principal_projection(data, self.n_bits),
            cause="the features vary in fewer directions than n_bits; lower n_bits, or use ITQ.",
        )
        return self

"""Locality-sensitive hashing by random projections."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from .._sklearn import Interval, fit_context
from ..base import LinearHasher, check_features

__all__ = ["LSH", "random_projection"]


def random_projection(
    X: NDArray[np.floating[Any]], n_bits: int, rng: np.random.RandomState
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of features and random directions.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
        Finite features.
    n_bits : int
        Number of directions.
    rng : RandomState
        Random numbers.

    Returns
    -------
    mean : ndarray of shape (n_features,), float64
        Mean of each feature.
    components : ndarray of shape (n_bits, n_features), float64
        Entries from N(0, 1), zero for features that do not vary.
    """
    components = rng.standard_normal((n_bits, X.shape[1]))
    # After centring, a constant feature is 0 up to rounding, which must not decide a bit.
    components[:, X.min(axis=0) == X.max(axis=0)] = 0
    return X.mean(axis=0, dtype=np.float64), components


class LSH(LinearHasher):
    """Locality-sensitive hashing: signs of random projections of centred features.

    The probability that two samples differ in a bit is their angle, measured
    from the mean, divided by pi [1]_. Only the mean is learned, so codes may
    have more bits than there are features.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code.
    random_state : int, RandomState instance or None, default=None
        Seed of the projections.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        Projections with entries from N(0, 1), zero for features that are
        constant over the training samples.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        Minus the projected mean.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    PCAH : Principal directions instead of random ones.

    References
    ----------
    .. [1] M. Charikar, "Similarity estimation techniques from rounding
       algorithms", STOC 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import LSH
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> LSH(n_bits=16, random_state=0).fit_transform(X).shape
    (100, 16)
    """

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self, n_bits: int = 64, *, random_state: int | np.random.RandomState | None = None
    ) -> None:
        self.n_bits = n_bits
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Draw the projections and compute the mean of the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : None
            Ignored.

        Returns
        -------
        LSH
            The fitted hasher.
        """
        X = check_features(self, X, reset=True)
        self._set_projection(
            X,
            *random_projection(X, self.n_bits, check_random_state(self.random_state)),
            cause="no feature varies; fit on samples that differ.",
        )
        return self

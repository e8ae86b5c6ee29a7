"""Spectral hashing."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._sklearn import Interval, fit_context
from ..base import check_features, check_n_samples, warn_constant_bits
from ._cosine import CosineHasher
from ._pcah import principal_projection

__all__ = ["SpectralHashing"]


class SpectralHashing(CosineHasher):
    r"""Spectral hashing: signs of the smoothest waves along principal components.

    Codes that are balanced, uncorrelated and similar for similar samples are
    thresholded eigenvectors of a graph Laplacian. For samples that are uniform
    in a box they are known [1]_: along side j, from a to b, the eigenfunctions

    .. math::
        \Phi_{jk}(x) = \sin\left(\frac{\pi}{2} + \frac{k \pi}{b - a} (x - a)\right),
        \quad k = 1, 2, \ldots

    have eigenvalues that increase with the frequency k / (b - a). The box is
    that of the principal components of the training samples, and the bits are
    the signs of the n_bits eigenfunctions with the lowest frequencies. So long
    directions get several bits, and codes may have more bits than there are
    features.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        A principal direction per bit, times the angular frequency.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        Minus the phase of the near side of the box.
    offset_ : ndarray of shape (n_bits,), dtype of X
        Zeros: bits are signs of the waves themselves.
    directions_ : ndarray of shape (n_bits,), int
        Number of the principal component of each bit, from 0.
    modes_ : ndarray of shape (n_bits,), int
        Number k of half waves of each bit over the box; 0 if no feature
        varies.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    PCAH : One bit for each principal component, its sign.

    Notes
    -----
    As in the authors' program, products of waves along several directions,
    which are eigenfunctions too, are left out: their signs are products of
    signs of other bits.

    References
    ----------
    .. [1] Y. Weiss, A. Torralba and R. Fergus, "Spectral hashing", NIPS 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import SpectralHashing
    >>> X = np.random.default_rng(0).uniform(size=(100, 2)) * [3, 1]
    >>> hasher = SpectralHashing(n_bits=4).fit(X)
    >>> hasher.directions_, hasher.modes_
    (array([0, 0, 1, 0]), array([1, 2, 1, 3]))
    """

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, n_bits: int = 64) -> None:
        self.n_bits = n_bits

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Find the box of the principal components and its smoothest waves.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : None
            Ignored.

        Returns
        -------
        SpectralHashing
            The fitted hasher.
        """
        X = check_features(self, X, reset=True)
        check_n_samples(X)
        _, components = principal_projection(X, min(self.n_bits, *X.shape))
        projected = X @ components.T
        low = projected.min(axis=0).astype(np.float64)
        lengths = projected.max(axis=0) - low
        self.directions_, self.modes_ = _smoothest(lengths, self.n_bits)
        frequencies = np.pi * self.modes_ / np.where(self.modes_, lengths[self.directions_], 1)
        codes = self._set_waves(
            X,
            frequencies[:, None] * components[self.directions_],
            -frequencies * low[self.directions_],
            np.zeros(self.n_bits),
        )
        warn_constant_bits(codes, "the samples differ too little; fit on samples that differ more.")
        return self


def _smoothest(
    lengths: NDArray[np.floating[Any]], n_bits: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sides and numbers of half waves of the ``n_bits`` lowest frequencies ``k / length``.

    Equal frequencies come in the order of the sides. Zeros if all lengths are 0.
    """
    longest = float(lengths.max())
    if longest == 0:
        return np.zeros(n_bits, np.intp), np.zeros(n_bits, np.intp)
    # The longest side alone has n_bits waves up to the frequency n_bits / longest.
    most = np.floor(n_bits * (lengths / longest)).astype(np.intp)
    sides = np.repeat(np.arange(len(lengths)), most)
    modes = np.concatenate([np.arange(1, count + 1) for count in most])
    order = np.argsort(modes / lengths[sides], kind="stable")[:n_bits]
    return sides[order], modes[order]

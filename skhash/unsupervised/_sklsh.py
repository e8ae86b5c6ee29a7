"""Locality-sensitive hashing for the Gaussian kernel."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from .._kernel import median_gamma
from .._sklearn import Interval, StrOptions, fit_context
from ..base import check_features, warn_constant_bits
from ._cosine import CosineHasher
from ._lsh import random_projection

__all__ = ["SKLSH"]

_MAX_DRAWS = 30  # of a bit, until it differs between two training samples


class SKLSH(CosineHasher):
    r"""Locality-sensitive hashing for the Gaussian kernel: signs of random waves.

    Bits are the signs of ``cos(w'x + b) + t`` with w from N(0, 2 gamma I), b
    uniform in [0, 2 pi] and t uniform in [-1, 1] [1]_. The probability that
    two samples differ in a bit depends only on their distance d, through the
    kernel ``k(d) = exp(-gamma d^2)``:

    .. math:: \frac{8}{\pi^2} \sum_{m=1}^\infty \frac{1 - k(m d)}{4 m^2 - 1}

    It increases from 0 for equal samples to 4 / pi^2 for distant ones. Only
    the bandwidth is learned, so codes may have more bits than there are
    features.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code.
    gamma : float or "median", default="median"
        The kernel is ``exp(-gamma d^2)``. "median" is ``1 / (2 m)``, m the
        median squared distance of training samples (at most 1,000, drawn at
        random). A wrong scale makes codes useless: with a gamma that is much
        too large, no two samples are similar, and all codes are at the same
        distance.
    random_state : int, RandomState instance or None, default=None
        Seed of the waves, and of the samples of the median.

    Attributes
    ----------
    gamma_ : float
        The gamma used.
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        Frequencies w, zero for features that are constant over the training
        samples.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        Phases b, minus the projected mean.
    offset_ : ndarray of shape (n_bits,), dtype of X
        Thresholds t.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    LSH : Signs of the random projections themselves.

    Notes
    -----
    With these thresholds some bits are rarely different. Unlike in [1]_, bits
    that are the same in all training samples are drawn again, as they carry no
    information; with fewer samples there are more such bits. The authors'
    program leaves the choice of gamma to the user. A gamma of 1 on features
    with a large norm explains the chance-level rows of some published tables.

    References
    ----------
    .. [1] M. Raginsky and S. Lazebnik, "Locality-sensitive binary codes from
       shift-invariant kernels", NIPS 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import SKLSH
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> SKLSH(n_bits=16, random_state=0).fit_transform(X).shape
    (100, 16)
    """

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "gamma": [StrOptions({"median"}), Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        gamma: float | str = "median",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.gamma = gamma
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Choose the bandwidth and draw the waves.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : None
            Ignored.

        Returns
        -------
        SKLSH
            The fitted hasher.
        """
        X = check_features(self, X, reset=True)
        rng = check_random_state(self.random_state)
        self.gamma_ = median_gamma(X, rng) if self.gamma == "median" else float(self.gamma)
        coef = np.empty((self.n_bits, X.shape[1]))
        intercept, offset = np.empty((2, self.n_bits))
        constant = np.ones(self.n_bits, dtype=bool)
        for _ in range(_MAX_DRAWS):
            n_draws = int(constant.sum())
            mean, directions = random_projection(X, n_draws, rng)
            coef[constant] = np.sqrt(2 * self.gamma_) * directions
            # Phases are relative to the mean, so that a shift of all features changes nothing.
            phases = rng.uniform(0, 2 * np.pi, n_draws)
            intercept[constant] = phases - coef[constant] @ mean
            offset[constant] = rng.uniform(-1, 1, n_draws)
            codes = self._set_waves(X, coef, intercept, offset)
            constant = (codes == codes[0]).all(axis=0)
            if not constant.any():
                break
        warn_constant_bits(codes, "the samples hardly differ; fit on more, or increase gamma.")
        return self

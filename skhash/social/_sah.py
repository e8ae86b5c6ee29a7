"""Semantic-aware hashing."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from .._ridge import RidgePath
from .._sklearn import Interval, fit_context
from ..base import LinearHasher, check_features, check_n_samples
from ..tags import encode_tags
from ..unsupervised._itq import itq_codes
from ._tag_itq import weighted_tags

__all__ = ["SAH"]


class SAH(LinearHasher):
    r"""Semantic-aware hashing: relaxed codes that reconstruct features and tags [1]_.

    Implemented from the description of the method in [2]_; its authors released
    no program. The codes V are relaxed to real numbers. They reconstruct the
    features X and the TF-IDF weighted tags T, both centred and scaled to unit
    mean square, and a linear function W of the features reproduces them:

    .. math::

        \min_{V, P, U, W} \|X - V P\|_F^2 + \alpha \|T - V U\|_F^2
        + \frac{\nu}{r} \left( \|V - X W\|_F^2 + \eta \|W\|_F^2 \right)
        + \gamma \left( \|P\|_F^2 + \alpha \|U\|_F^2 \right).

    The fit starts from the codes of ITQ. It sets each block of variables in
    turn to its exact minimum. The code of a sample is the sign of its centred
    features times W: every bit is cut at its mean over the training samples.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code; at most the number of samples and of features.
    alpha : float, default=30.0
        Weight of the tags, relative to the features.
    nu : float, default=1.0
        Weight of the agreement between relaxed codes and linear functions.
    ridge : float, default=1.0
        Ridge eta of the linear functions, in units of the mean variance of the
        features.
    gamma : float, default=0.01
        Ridge of the two reconstructions, for each of the n samples.
    max_iter : int, default=20
        Maximum number of rounds over the blocks. With 0, W is the regression of
        the codes of ITQ.
    tol : float, default=1e-4
        Stop once a round lowers the objective by at most this share.
    random_state : int, RandomState instance or None, default=None
        Seed of ITQ's rotation, and of the random projection of the tags if
        there are more than 4,096.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        W, transposed, for features without scaling.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        The projected mean with a minus sign.
    objective_ : ndarray of shape (n_iter_,), float64
        The objective per sample after each round; it never rises.
    n_iter_ : int
        Number of rounds.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    WMH : Orthonormal linear functions from one eigenproblem.
    TagITQ : Codes of the tags that the features predict.

    Notes
    -----
    The objective is the same for any rotation of V. Therefore V keeps the
    rotation of its start, the codes of ITQ, where taking signs loses little.
    Without tags the second term is omitted.

    References
    ----------
    .. [1] Semantic-aware hashing, SAH, as described and compared with in [2]_
       (its reference 26).
    .. [2] L. Zhu, H. Cui, Z. Cheng, J. Li and Z. Zhang, "Dual-level semantic
       transfer deep hashing for efficient social image retrieval", IEEE
       Transactions on Circuits and Systems for Video Technology, 2020, section II-C.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import SAH
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> tags = [["warm"] if row[0] > 0 else ["cold"] for row in X]
    >>> SAH(n_bits=4, random_state=0).fit_transform(X, tags).shape
    (100, 4)
    """

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "nu": [Interval(Real, 0, None, closed="neither")],
        "ridge": [Interval(Real, 0, None, closed="neither")],
        "gamma": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        alpha: float = 30.0,
        nu: float = 1.0,
        ridge: float = 1.0,
        gamma: float = 0.01,
        max_iter: int = 20,
        tol: float = 1e-4,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.alpha = alpha
        self.nu = nu
        self.ridge = ridge
        self.gamma = gamma
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn the hash function from features and tags.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : tags of n_samples images, default=None
            In any form that :func:`skhash.tags.encode_tags` takes.

        Returns
        -------
        SAH
            The fitted hasher.

        Raises
        ------
        ValueError
            If lengths differ, there are fewer samples or features than bits, or
            there is only one sample.
        """
        X = check_features(self, X, reset=True)
        check_n_samples(X)
        indicator = encode_tags(y, n_samples=len(X)).indicator if y is not None else None
        random_state = check_random_state(self.random_state)
        path = RidgePath(X)
        codes = itq_codes(X, self.n_bits, random_state=random_state)
        model = _JointFactors(
            path,
            None if indicator is None else weighted_tags(indicator, random_state),
            codes,
            alpha=self.alpha,
            nu=self.nu,
            ridge=self.ridge,
            gamma=self.gamma,
        )
        objective: list[float] = []
        for _ in range(self.max_iter):
            model.update()
            objective.append(model.objective())
            if len(objective) > 1 and objective[-2] - objective[-1] <= self.tol * objective[-2]:
                break
        self.objective_ = np.asarray(objective)
        self.n_iter_ = len(objective)
        self._set_projection(
            X,
            path.mean,
            (path.directions @ model.W).T,
            cause="the features vary in fewer directions than n_bits; lower n_bits.",
        )
        return self


class _JointFactors:
    """The factors of SAH: V of shape (n, r), the other ones in the principal basis of the features.

    Parameters
    ----------
    path : RidgePath
        The features.
    tags : csr_array of shape (n_samples, n_columns) or None
        Weighted tags.
    codes : ndarray of shape (n_samples, n_bits), float64
        V at the start.
    alpha, nu, ridge, gamma : float
        See :class:`SAH`.
    """

    def __init__(
        self,
        path: RidgePath,
        tags: sp.csr_array | None,
        codes: NDArray[np.float64],
        *,
        alpha: float,
        nu: float,
        ridge: float,
        gamma: float,
    ) -> None:
        self.path, self.V = path, codes
        self.n_samples, n_bits = codes.shape
        self.ridge, self.gamma = ridge, gamma
        # Dividing weights by mean squares replaces the scaling of features and tags.
        self.visual_weight = self.n_samples / (float(path.eigenvalues.sum()) or 1.0)
        self.fit_weight = nu / n_bits
        self.tags, self.tag_weight = None, 0.0
        if tags is not None:
            self.tag_mean = tags.T @ np.full(self.n_samples, 1 / self.n_samples)
            squares = float(np.square(tags.data, dtype=np.float64).sum())
            self.tag_total = squares - self.n_samples * float(self.tag_mean @ self.tag_mean)
            # For tags that are the same for all, rounding gives a value near 0, not 0.
            if self.tag_total > 1e-9 * squares:
                self.tags, self.tag_weight = tags, alpha * self.n_samples / self.tag_total
        self._solve_others()

    def _solve_others(self) -> None:
        """Set P, U and W to their minimum given V."""
        n, V, tags = self.n_samples, self.V, self.tags
        self.cross = self.path.moments(V).cross  # of shape (rank, r)
        self.W = self.path.shrink(self.cross, self.ridge)
        gram = V.T @ V + n * self.gamma * np.eye(V.shape[1])
        self.P = np.linalg.solve(gram, self.cross.T)
        if tags is not None:
            self.tag_cross = (tags.T @ V - np.outer(self.tag_mean, V.sum(axis=0))).T
            self.U = np.linalg.solve(gram, self.tag_cross)

    def update(self) -> None:
        """Set V to its minimum given the other factors, then the others given V."""
        A = self.visual_weight * self.P @ self.P.T + self.fit_weight * np.eye(len(self.P))
        coef = self.visual_weight * self.P + self.fit_weight * self.W.T
        target = self.path.project(coef @ self.path.directions.T).astype(np.float64)
        if self.tags is not None:
            A += self.tag_weight * self.U @ self.U.T
            target += self.tag_weight * (self.tags @ self.U.T - self.U @ self.tag_mean)
        self.V = np.linalg.solve(A, target.T).T
        self._solve_others()

    def objective(self) -> float:
        """The objective per sample."""
        n, gram = self.n_samples, self.V.T @ self.V

        def reconstruction(total: float, F: NDArray[Any], cross: NDArray[Any]) -> float:
            # ||X - V F||^2 + n gamma ||F||^2 from ||X||^2 = total and V'X = cross.
            penalty = n * self.gamma * np.vdot(F, F)
            return total - 2 * np.vdot(F, cross) + np.vdot(F, gram @ F) + penalty

        value = self.visual_weight * reconstruction(
            float(self.path.eigenvalues.sum()), self.P, self.cross.T
        )
        if self.tags is not None:
            value += self.tag_weight * reconstruction(self.tag_total, self.U, self.tag_cross)
        # W is the minimum, so the term is ||V||^2 - tr(cross' W).
        value += self.fit_weight * (np.trace(gram) - np.vdot(self.cross, self.W))
        return float(value) / n

"""Latent semantic minimal hashing."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from .._sklearn import Interval, fit_context
from ..base import LinearHasher, check_features
from ..codes import sign_bits
from ._pcah import principal_projection

__all__ = ["LSMH", "factorise"]


class LSMH(LinearHasher):
    r"""Latent semantic minimal hashing: factors of the features, rotated towards codes.

    This follows the description in the literature [1]_, as the authors'
    program is not available. The features are factored into n_bits latent
    factors V, which a rotation moves close to the corners of a cube,

    .. math::
        \min_{U, V, R, B} \|X - V U\|_F^2 + \alpha (\|U\|_F^2 + \|V\|_F^2)
        + \beta \|B - V R\|_F^2,
        \quad R' R = I, \quad B \in \{-1, 1\}^{n \times r}

    with samples as rows of X, centred and scaled to a mean square norm of
    n_bits, like the codes. Factors, rotation and codes are learned in turn:
    each is solved for exactly while the others are fixed, so the objective
    never increases. The factors of a new sample x minimise the same objective
    without the codes, ``v = x U' (U U' + alpha I)^-1``, and its code is the
    sign of ``v R``.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code, and number of latent factors; at most the number of
        samples and of features.
    alpha : float, default=0.03
        Weight of the ridge on both factors, positive.
    beta : float, default=0.03
        Weight of the distance between rotated factors and codes. If it is
        large, the codes hardly change from the initial codes, and the factors
        describe codes rather than features.
    max_iter : int, default=50
        Number of rounds.
    random_state : int, RandomState instance or None, default=None
        Seed of the first rotation.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        Projection to rotated factors.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        Minus the projected mean.
    factors_ : ndarray of shape (n_bits, n_features), dtype of X
        U, for features scaled as above.
    rotation_ : ndarray of shape (n_bits, n_bits), dtype of X
        R.
    codes_ : ndarray of shape (n_samples, n_bits), uint8
        B, as 0 and 1: the learned codes of the training samples, similar but
        not equal to those of ``transform``.
    objective_ : ndarray of shape (n_iter_,), float64
        The objective after each round.
    n_iter_ : int
        Number of rounds.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    ITQ : Principal components first, then the rotation.

    Notes
    -----
    The description has ``beta = 1`` and does not define the scale of the
    features, on which the weight of the codes then depends. Here the scale is
    fixed and the weight is a parameter. V starts from the principal
    components.

    References
    ----------
    .. [1] X. Lu, X. Zheng and X. Li, "Latent semantic minimal hashing for image
       retrieval", IEEE TIP 26(1), 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import LSMH
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> LSMH(n_bits=4, random_state=0).fit_transform(X).shape
    (100, 4)
    """

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        alpha: float = 0.03,
        beta: float = 0.03,
        max_iter: int = 50,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.alpha = alpha
        self.beta = beta
        self.max_iter = max_iter
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn factors, rotation and codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : None
            Ignored.

        Returns
        -------
        LSMH
            The fitted hasher.
        """
        X = check_features(self, X, reset=True)
        mean, components = principal_projection(X, self.n_bits)
        centred = X - mean
        total = np.square(centred, dtype=np.float64).sum()
        scale = np.sqrt(len(X) * self.n_bits / total) if total else 1.0
        centred *= X.dtype.type(scale)
        U, R, codes, self.objective_ = factorise(
            centred,
            centred @ components.T,
            alpha=self.alpha,
            beta=self.beta,
            n_iter=self.max_iter,
            random_state=self.random_state,
        )
        self.factors_, self.rotation_, self.codes_ = U.astype(X.dtype), R, sign_bits(codes)
        self.n_iter_ = self.max_iter
        self._set_projection(
            X,
            mean,
            scale * (R.T @ np.linalg.solve(_ridge(U, self.alpha), U)),
            cause="the features hardly vary; fit on samples that differ.",
        )
        return self


def factorise(
    X: NDArray[np.floating[Any]],
    V: NDArray[np.floating[Any]],
    *,
    alpha: float,
    beta: float,
    n_iter: int,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[
    NDArray[np.float64], NDArray[np.floating[Any]], NDArray[np.floating[Any]], NDArray[np.float64]
]:
    """Factor features into latent factors near to rotated codes.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
        Centred features.
    V : ndarray of shape (n_samples, n_bits), dtype of X
        Latent factors to start from.
    alpha, beta : float
        Weights of the ridge and of the distance to the codes.
    n_iter : int
        Number of rounds, each of which minimises over U, V, R and B in turn.
    random_state : int, RandomState instance or None, default=None
        Seed of the first rotation.

    Returns
    -------
    U : ndarray of shape (n_bits, n_features), float64
        Features of the latent factors.
    R : ndarray of shape (n_bits, n_bits), dtype of X
        Rotation.
    B : ndarray of shape (n_samples, n_bits), dtype of X
        Codes in {-1, 1}.
    losses : ndarray of shape (n_iter,), float64
        The objective after each round.
    """
    n_bits, dtype = V.shape[1], X.dtype
    rng = check_random_state(random_state)
    R = np.linalg.qr(rng.standard_normal((n_bits, n_bits)))[0].astype(dtype)
    rotated = V @ R
    gram, cross = _moments(V, X)
    total = np.square(X, dtype=np.float64).sum()
    losses = np.empty(n_iter)
    for i in range(n_iter):
        B = np.where(rotated >= 0, dtype.type(1), dtype.type(-1))
        U: NDArray[Any] = np.linalg.solve(gram + alpha * np.eye(n_bits), cross)
        # The rotation keeps norms: ||B - V R||^2 = ||B R' - V||^2.
        target = X @ U.T.astype(dtype) + dtype.type(beta) * (B @ R.T)
        V = target @ np.linalg.inv(_ridge(U, alpha + beta)).astype(dtype)
        R = scipy.linalg.orthogonal_procrustes(V, B)[0].astype(dtype)
        rotated = V @ R
        gram, cross = _moments(V, X)
        square = np.trace(gram)
        # With B the signs of V R, ||B - V R||^2 = ||B||^2 + ||V||^2 - 2 sum |V R|.
        losses[i] = (
            total
            - 2 * (U * cross).sum()
            + (U * (gram @ U)).sum()
            + alpha * (np.square(U).sum() + square)
            + beta * (B.size + square - 2 * np.abs(rotated).sum(dtype=np.float64))
        )
    return U, R, np.where(rotated >= 0, dtype.type(1), dtype.type(-1)), losses


def _moments(
    V: NDArray[np.floating[Any]], X: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``V' V`` and ``V' X``."""
    return (V.T @ V).astype(np.float64), (V.T @ X).astype(np.float64)


def _ridge(U: NDArray[Any], alpha: float) -> NDArray[Any]:
    return U @ U.T + alpha * np.eye(len(U))

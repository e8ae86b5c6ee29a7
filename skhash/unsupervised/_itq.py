"""Iterative quantisation."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state, gen_batches

from .._decisions import affine_values, centred_projection
from .._rows import Features, row_blocks
from .._sklearn import Interval, fit_context
from ..base import LinearHasher, check_features
from ._pcah import principal_projection

__all__ = ["ITQ", "itq_codes", "itq_projection", "itq_rotation"]

# Samples that are rotated at once, in the cache.
_BLOCK_ROWS = 8192


def itq_rotation(
    V: NDArray[np.floating[Any]],
    *,
    n_iter: int = 50,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64]]:
    """Rotate projected data so that its signs have a small quantisation error.

    Alternates the two exact minimisers of ``||B - V R||_F^2`` over codes ``B``
    in {-1, 1} and orthogonal ``R``, from a random rotation.

    Parameters
    ----------
    V : ndarray of shape (n_samples, n_bits), float32 or float64
        Centred data projected to ``n_bits`` dimensions.
    n_iter : int, default=50
        Number of alternations.
    random_state : int, RandomState instance or None, default=None
        Seed of the first rotation.

    Returns
    -------
    R : ndarray of shape (n_bits, n_bits), dtype of V
        The rotation: codes are the signs of ``V @ R``. Its rows are
        orthonormal, but zero for dimensions in which V is all zero.
    losses : ndarray of shape (n_iter,), float64
        The quantisation loss after each alternation; it never increases.
    """
    rng = check_random_state(random_state)
    n_samples, n_bits = V.shape
    # Rows of R for dimensions of zeros have no effect; without them few dimensions cost little.
    used = V.any(axis=0)
    if not used.all():
        V = V[:, used]
    R = np.linalg.qr(rng.standard_normal((n_bits, V.shape[1])))[0].T.astype(V.dtype)

    def turn(R: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], float]:
        """``V' B`` for the signs B of V R, and the sum of the sizes of V R."""
        cross, size = np.zeros(R.shape), 0.0
        for rows in blocks:
            rotated = V[rows] @ R
            signs = np.where(rotated >= 0, V.dtype.type(1), V.dtype.type(-1))
            cross += V[rows].T @ signs
            size += float(np.abs(rotated).sum(dtype=np.float64))
        return cross, size

    blocks = list(gen_batches(n_samples, _BLOCK_ROWS))
    # ||B - V R||^2 = ||B||^2 + ||V||^2 - 2 sum |V R|, as R R' = I and B are the signs of V R.
    constant = n_samples * n_bits
    constant += sum(float(np.square(V[rows], dtype=np.float64).sum()) for rows in blocks)
    losses = np.empty(n_iter)
    cross, _ = turn(R)
    for i in range(n_iter):
        left, _, right = np.linalg.svd(cross, full_matrices=False)
        R = (left @ right).astype(V.dtype)
        cross, size = turn(R)
        losses[i] = constant - 2 * size
    full = np.zeros((n_bits, n_bits), V.dtype)
    full[used] = R
    return full, losses


def itq_projection(
    X: Features,
    n_bits: int,
    *,
    n_iter: int = 50,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]], NDArray[np.float64]]:
    """Mean of features, and their principal directions rotated towards their signs.

    Parameters
    ----------
    X : ndarray or Rows of shape (n_samples, n_features), float32 or float64
        Finite features.
    n_bits : int
        Number of directions.
    n_iter : int, default=50
        Number of ITQ's alternations.
    random_state : int, RandomState instance or None, default=None
        Seed of the first rotation.

    Returns
    -------
    mean : ndarray of shape (n_features,), dtype of X
        Mean of each feature.
    coef : ndarray of shape (n_bits, n_features), dtype of X
        Rotated principal directions.
    losses : ndarray of shape (n_iter,), float64
        The quantisation loss after each alternation.
    """
    mean, components = principal_projection(X, n_bits)
    V = np.empty((len(X), n_bits), X.dtype)
    for rows, block in row_blocks(X):
        V[rows] = block @ components.T - components @ mean
    R, losses = itq_rotation(V, n_iter=n_iter, random_state=random_state)
    return mean, R.T @ components, losses


def itq_codes(
    X: Features,
    n_bits: int,
    *,
    n_iter: int = 50,
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.float64]:
    """Codes in {-1, 1} of :class:`ITQ` for its training samples, as a start for other methods.

    The parameters are those of :func:`itq_projection`.
    """
    mean, coef, _ = itq_projection(X, n_bits, n_iter=n_iter, random_state=random_state)
    return np.where(affine_values(X, *centred_projection(mean, coef, X.dtype)) >= 0, 1.0, -1.0)


class ITQ(LinearHasher):
    """Iterative quantisation: principal components rotated towards their signs [1]_.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code; at most the number of samples and of features.
    max_iter : int, default=50
        Number of alternations between codes and rotation.
    random_state : int, RandomState instance or None, default=None
        Seed of the first rotation.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        Rotated principal directions.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        Minus the projected mean.
    objective_ : ndarray of shape (n_iter_,), float64
        The quantisation loss ``||B - V R||_F^2`` ([1]_, Eq. 2) after each
        alternation, where V are the centred features projected to n_bits
        dimensions, R the rotation and B the codes in {-1, 1}.
    n_iter_ : int
        Number of alternations.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    PCAH : The projection without the rotation.

    References
    ----------
    .. [1] Y. Gong and S. Lazebnik, "Iterative quantization: a Procrustean
       approach to learning binary codes", CVPR 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import ITQ
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> ITQ(n_bits=4, random_state=0).fit_transform(X).shape
    (100, 4)
    """

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        max_iter: int = 50,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.max_iter = max_iter
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Find the principal directions of the features and rotate them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : None
            Ignored.

        Returns
        -------
        ITQ
            The fitted hasher.
        """
        data = check_features(self, X, reset=True, in_blocks=True)
        mean, coef, self.objective_ = itq_projection(
            data, self.n_bits, n_iter=self.max_iter, random_state=self.random_state
        )
        self.n_iter_ = self.max_iter
        self._set_projection(
            data,
            mean,
            coef,
            cause="the features hardly vary; fit on samples that differ.",
        )
        return self

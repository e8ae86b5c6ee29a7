"""Scalable graph hashing."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state, gen_batches

from .._kernel import KernelHasher, median_gamma
from .._sklearn import Interval, StrOptions, fit_context
from .._spectrum import fix_signs
from ..base import check_features, warn_constant_bits
from ..codes import sign_bits

__all__ = ["SGH"]

# The features are scaled block by block, so that there is never a copy of all samples.
_BLOCK_ROWS = 16_384
# Directions of the kernels with less than this share of the variance of the first are rounding.
_MIN_SHARE = 1e-8


class SGH(KernelHasher):
    r"""Scalable graph hashing: codes whose products follow the similarities of all pairs.

    Bits are the signs of ``coef_ @ (k(x) - kernel_mean_)``, with k(x) the
    Gaussian kernel of x to ``n_anchors`` training samples. They are learned
    one after another to minimise

    .. math:: \| r \tilde S - B B' \|_F^2, \quad \tilde S_{ij} = 2 e^{-\|x_i - x_j\|^2 / 2} - 1

    with codes B in {-1, 1} of r bits and features x centred and scaled to norm
    1 at most [1]_. The values of each bit, before the sign, have the largest
    correlation with the residual of the other bits (an eigenvector). After all
    bits, each is learned once more, in random order, given all others. The n x
    n matrix is never formed: as ``2 x_i'x_j / 2`` lies in [-1, 1], where
    ``e^z`` is nearly ``(e + 1/e) / 2 + z (e - 1/e) / 2``, it is a product
    ``P Q'`` of n x (n_features + 2) matrices. Time and memory grow linearly
    with n.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code.
    n_anchors : int, default=300
        Number of training samples, drawn at random, whose kernels are the
        features; all if there are fewer.
    gamma : float or "median", default="median"
        The kernel is ``exp(-gamma d^2)``. "median" is ``1 / (2 m)``, m the
        median squared distance of training samples (at most 1,000, drawn at
        random).
    scaling : {"rows", "all"}, default="rows"
        Scale every centred sample to norm 1, or all by the largest norm.
    random_state : int, RandomState instance or None, default=None
        Seed of the anchors, the samples of the median, and the order of the
        second pass.

    Attributes
    ----------
    anchors_ : ndarray of shape (n_anchors, n_features), dtype of X
        Samples of the kernels.
    gamma_ : float
        The gamma used.
    kernel_mean_ : ndarray of shape (n_anchors,), dtype of X
        Mean kernels of the training samples.
    coef_ : ndarray of shape (n_bits, n_anchors), dtype of X
        Weights of the kernels, the entry of largest magnitude positive.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    KSH : Bits of the same form, learned from tags or labels.

    Notes
    -----
    The authors' program has ``scaling="all"``. There a sample with a large
    norm moves all others close to the centre, where all are similar. With
    "rows", samples are compared by their angle, and codes of network features
    are clearly better. Instead of a ridge of 1e-6 on the Gram matrix of the
    kernels, directions in which the kernels vary by little more than rounding
    are left out.

    References
    ----------
    .. [1] Q. Jiang and W. Li, "Scalable graph hashing with feature
       transformation", IJCAI 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import SGH
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> SGH(n_bits=16, random_state=0).fit_transform(X).shape
    (100, 16)
    """

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "gamma": [StrOptions({"median"}), Interval(Real, 0, None, closed="neither")],
        "scaling": [StrOptions({"rows", "all"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        n_anchors: int = 300,
        gamma: float | str = "median",
        scaling: str = "rows",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.n_anchors = n_anchors
        self.gamma = gamma
        self.scaling = scaling
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn the bits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : None
            Ignored.

        Returns
        -------
        SGH
            The fitted hasher.
        """
        X = check_features(self, X, reset=True)
        rng = check_random_state(self.random_state)
        self.gamma_ = median_gamma(X, rng) if self.gamma == "median" else float(self.gamma)
        self._draw_anchors(X, rng)
        kernel = self._centred_kernel(X)
        whitening = _whitening(kernel)
        features = kernel @ whitening.astype(X.dtype)
        weights = self._learn_bits(features, self._similarity(X, features), rng)
        self.coef_ = fix_signs(weights @ whitening.T).astype(X.dtype)
        warn_constant_bits(
            sign_bits(kernel @ self.coef_.T),
            "the kernels hardly vary; fit on samples that differ, or change gamma.",
        )
        return self

    def _similarity(
        self, X: NDArray[np.floating[Any]], features: NDArray[np.floating[Any]]
    ) -> NDArray[np.float64]:
        """``features' r S~ features``, with S~ approximated by P Q'.

        P = [sqrt(e - 1/e) g x, sqrt(e + 1/e) g, 1] with g = exp(-|x|^2 / 2), and Q is the same
        except for its last column, -1. Features have mean 0, so the last columns have no effect.
        """
        # The norm is taken in float64, block by block.
        batches = list(gen_batches(len(X), _BLOCK_ROWS))
        mean = X.mean(axis=0, dtype=np.float64)
        centred = (X[block] - mean for block in batches)
        norms = np.concatenate([np.linalg.norm(block, axis=1) for block in centred])
        scales = norms if self.scaling == "rows" else np.full(len(X), norms.max())
        scales[scales == 0] = 1
        cross = np.zeros((features.shape[1], X.shape[1] + 1))
        slope, level = math.sqrt(math.e - 1 / math.e), math.sqrt(math.e + 1 / math.e)
        for block in batches:
            scaled = (X[block] - mean) / scales[block, None]
            damping = np.exp(-np.square(norms[block] / scales[block]) / 2)[:, None]
            P = damping * np.hstack([slope * scaled, np.full((len(scaled), 1), level)])
            cross += features[block].T @ P
        return self.n_bits * (cross @ cross.T)

    def _learn_bits(
        self,
        features: NDArray[np.floating[Any]],
        similarity: NDArray[np.float64],
        rng: np.random.RandomState,
    ) -> NDArray[np.float64]:
        """Weights of orthonormal features, bit after bit and then each once more."""
        rank = features.shape[1]
        weights = np.zeros((self.n_bits, rank))
        if rank == 0:
            return weights
        residual = similarity
        images = np.zeros((self.n_bits, rank))  # features' b of each bit b so far
        for bit in [*range(self.n_bits), *rng.permutation(self.n_bits)]:
            residual += np.outer(images[bit], images[bit])
            weights[bit] = scipy.linalg.eigh(residual, subset_by_index=[rank - 1, rank - 1])[1].T
            values = features @ weights[bit].astype(features.dtype)
            images[bit] = features.T @ np.where(values >= 0, 1, -1).astype(features.dtype)
            residual -= np.outer(images[bit], images[bit])
        return weights


def _whitening(kernel: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Matrix that makes the columns of centred kernels orthonormal.

    It has fewer columns than rows if the kernels vary in fewer directions.
    """
    gram = np.zeros((kernel.shape[1],) * 2)
    for block in gen_batches(len(kernel), _BLOCK_ROWS):
        values = kernel[block].astype(np.float64)
        gram += values.T @ values
    eigenvalues, vectors = scipy.linalg.eigh(gram)
    rounding = 10 * kernel.size * float(np.finfo(kernel.dtype).eps) ** 2  # kernels are 1 at most
    kept = eigenvalues > max(_MIN_SHARE * eigenvalues[-1], rounding)
    return vectors[:, kept] / np.sqrt(eigenvalues[kept])

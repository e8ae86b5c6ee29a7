"""KSH: supervised hashing with kernels."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state, gen_batches

from .._kernel import KernelHasher
from .._labels import labelled_rows
from .._sklearn import Interval, fit_context
from ..base import check_features, check_n_samples, warn_constant_bits
from ..codes import sign_bits
from ..tags import share_any

__all__ = ["KSH"]

_BLOCK_ROWS = 16_384


class KSH(KernelHasher):
    """Supervised hashing with kernels.

    Bits are signs of ``coef_ @ (k(x) - kernel_mean_)``, with k(x) the Gaussian
    kernel of x to ``n_anchors`` training samples. They are learned one after
    another so that the inner products of codes are close to ``n_bits * S``,
    where S is 1 for pairs of training samples that share a label and -1 for
    others. Each bit fits the residual of the bits before it, first with signs
    relaxed to values (an eigenvector), then to a sigmoid.

    Liu, Wang, Ji, Jiang and Chang, "Supervised hashing with kernels", CVPR 2012.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes.
    n_anchors : int, default=300
        Number of training samples, drawn at random, whose kernels are the
        features.
    n_pair_samples : int, default=2000
        Number of labelled training samples, drawn at random, whose pairs are
        fitted. Time and memory grow with its square.
    max_iter : int, default=500
        Largest number of iterations per bit, when the sigmoid is optimised.
    random_state : int, RandomState instance or None, default=None
        Seed of the anchors and samples.

    Attributes
    ----------
    anchors_ : ndarray of shape (n_anchors, n_features)
        Samples of the kernels.
    gamma_ : float
        The kernel is ``exp(-gamma_ |x - anchor|^2)``, where gamma_ is half the
        inverse of the mean squared distance of training samples and anchors.
    kernel_mean_ : ndarray of shape (n_anchors,)
        Mean kernels of the training samples.
    coef_ : ndarray of shape (n_bits, n_anchors)
        Weights of the kernels.
    objective_ : ndarray of shape (n_bits,)
        Mean square of the residual after each bit, divided by ``n_bits``
        squared. The residual is ``n_bits * S`` minus the sum of b b' over the
        bits b so far. The last value is the objective
        ``|| H H' / n_bits - S ||_F^2 / n^2``.
    n_iter_ : int
        Largest number of iterations for a bit.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    KSHHasher : The same objective by a network.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import KSH
    >>> X = np.repeat(np.eye(4), 10, axis=0)
    >>> y = np.repeat(["cat", "dog", "boat", "tree"], 10)
    >>> KSH(n_bits=8, random_state=0).fit(X, y).score(X, y)
    1.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "n_pair_samples": [Interval(Integral, 2, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        n_anchors: int = 300,
        n_pair_samples: int = 2000,
        max_iter: int = 500,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.n_anchors = n_anchors
        self.n_pair_samples = n_pair_samples
        self.max_iter = max_iter
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any) -> KSH:
        """Learn the bits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : labels or tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes. Two samples
            are similar if they share a label. Pairs with a sample without
            labels are unknown and left out.

        Returns
        -------
        KSH
            The fitted hasher.

        Raises
        ------
        ValueError
            If fewer than 2 samples have labels.
        """
        X = check_features(self, X, reset=True)
        check_n_samples(X)
        if (X[0] == X).all():
            raise ValueError("X has features that do not vary; fit on samples that differ.")
        labels, rows = labelled_rows(y, len(X), self)
        rng = check_random_state(self.random_state)
        self._draw_anchors(X, rng)
        self.gamma_ = 1 / (2 * _mean_square_distance(X, self.anchors_))
        kernel = self._centred_kernel(X)
        if len(rows) > self.n_pair_samples:
            rows = np.sort(rng.choice(rows, self.n_pair_samples, replace=False))
        similar = share_any(labels[rows], labels[rows]).toarray()
        similarity = np.where(similar, np.float32(1), np.float32(-1))
        centred = kernel[rows].astype(np.float64)
        self.coef_ = self._learn_bits(centred, similarity).astype(X.dtype)
        warn_constant_bits(
            sign_bits(centred @ self.coef_.T),
            "the labels or features distinguish too few samples; lower n_bits.",
        )
        return self

    def _learn_bits(
        self, kernel: NDArray[np.float64], similarity: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Learn bit after bit on the residual of ``n_bits * similarity``."""
        n, n_anchors = kernel.shape
        residual = self.n_bits * similarity
        gram = kernel.T @ kernel
        gram.flat[:: n_anchors + 1] += 1e-6 * np.trace(gram) / n_anchors + 1e-12
        projected = kernel.T @ (residual @ kernel)
        coef = np.empty((self.n_bits, n_anchors))
        self.objective_ = np.empty(self.n_bits)
        self.n_iter_ = 0
        top = (n_anchors - 1, n_anchors - 1)
        for k in range(self.n_bits):
            spectral = scipy.linalg.eigh(projected, gram, subset_by_index=top)[1][:, 0]
            spectral *= np.sqrt(n) / (np.linalg.norm(kernel @ spectral) or 1.0)
            candidates = (spectral, self._refine(kernel, residual, spectral))
            bits = [np.where(kernel @ w >= 0, 1, -1).astype(np.float32) for w in candidates]
            best = int(np.argmax([bit @ residual @ bit for bit in bits]))
            coef[k], bit = candidates[best], bits[best]
            residual -= np.outer(bit, bit)
            projection = kernel.T @ bit
            projected -= np.outer(projection, projection)
            self.objective_[k] = np.square(residual / self.n_bits).mean()
        return coef

    def _refine(
        self, kernel: NDArray[np.float64], residual: NDArray[np.float32], start: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Maximise phi' R phi from ``start`` on, phi = tanh(kernel @ w / 2)."""
        if self.max_iter == 0:
            return start
        scale = float(np.abs(residual).sum()) or 1.0

        def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            phi = np.tanh(kernel @ w / 2)
            image = residual @ phi.astype(np.float32) / scale
            return -float(phi @ image), -(image * (1 - phi**2)) @ kernel

        options = {"maxiter": self.max_iter, "ftol": 1e-7}
        result = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        self.n_iter_ = max(self.n_iter_, result.nit)
        return result.x

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _mean_square_distance(
    X: NDArray[np.floating[Any]], anchors: NDArray[np.floating[Any]]
) -> float:
    """Mean squared distance of all pairs of a sample and an anchor."""
    centre = anchors.mean(axis=0, dtype=np.float64)
    # Relative to the mean of the anchors, the products of samples and anchors have mean 0.
    squares = (
        float(np.square(X[block] - centre).sum()) for block in gen_batches(len(X), _BLOCK_ROWS)
    )
    return sum(squares) / len(X) + float(np.square(anchors - centre).sum()) / len(anchors)

"""Weakly-supervised multimodal hashing."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from .._ridge import RidgePath
from .._sklearn import Interval, StrOptions, fit_context
from .._spectrum import fix_signs
from ..base import LinearHasher, check_features, check_n_samples
from ..graphs import anchor_graph
from ..tags import encode_tags
from ..unsupervised._itq import itq_rotation
from ._tag_itq import weighted_tags

__all__ = ["WMH"]


class WMH(LinearHasher):
    r"""Weakly-supervised multimodal hashing: orthonormal projections from four traces [1]_.

    Implemented from the description of the method; its authors released no
    program. The projections W of the centred features maximise

    .. math::

        \operatorname{tr} \, W^\top \left( w_s A_s + w_l A_l - w_g A_g + w_e A_e \right) W,
        \qquad W^\top W = I,

    Every matrix has unit trace. X are the centred features, T the centred tags
    (TF-IDF weighted), and S is the anchor graph of the features.

    - :math:`A_s \propto B B^\top, B = (X^\top X + \eta I)^{-1} X^\top T`, is the
      semantic structure: directions that predict the tags of an image.
    - :math:`A_l` is the same for :math:`(I - S) X` and T, the local
      discriminative structure: directions that predict tags from the difference
      between an image and its visual neighbours.
    - :math:`A_g \propto X^\top (I - S) X` is the geometric structure: directions
      in which visual neighbours differ.
    - :math:`A_e \propto X^\top X` is the variance, for bits of large entropy.

    One eigenproblem gives W. Bits are cut at their mean.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code; at most the number of features.
    semantic : float, default=1.0
        Weight w_s of the semantic structure.
    local : float, default=1.0
        Weight w_l of the local discriminative structure.
    geometric : float, default=1.0
        Weight w_g of the geometric structure.
    entropy : float, default=0.3
        Weight w_e of the variance. Alone it gives the codes of PCAH.
    ridge : float or "auto", default="auto"
        Strength eta of the ridge, in units of the mean variance of the features
        (in A_l, of the differences between neighbours). "auto" takes the
        strength with the smallest generalised cross-validation error for the
        prediction of tags. With a large eta, A_s tends to
        :math:`X^\top T T^\top X`, in which features with a large variance
        dominate.
    n_anchors : int, default=100
        Number of anchors of the graph; ``n_samples`` if that is smaller. The
        graph compares samples by their cosine: centre features whose mean is
        far from 0.
    n_nearest_anchors : int, default=2
        Number of anchors to which a sample is connected.
    rotate : bool, default=False
        Whether to rotate W by ITQ, so that taking signs loses less. The trace is
        the same for any rotation. False uses the eigenvectors, as in the
        description of the method.
    random_state : int, RandomState instance or None, default=None
        Seed of k-means and ITQ's rotation, and of the random projection of the
        tags if there are more than 4,096.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        W, transposed; its rows are orthonormal. Without rotation, rows beyond
        the rank of the features are zero.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        The projected mean with a minus sign.
    eigenvalues_ : ndarray of shape (n_bits,), float64
        The largest eigenvalues of the weighted sum, in decreasing order. Their
        sum is the trace reached.
    ridge_ : float
        The strength of the ridge used; None without tags.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    SAH : Codes that explain features and tags together.
    TagITQ : Codes of the tags that the features predict.

    Notes
    -----
    Without tags the first two terms are omitted. On features of photos the
    rotation improves retrieval more than any choice of the weights.

    References
    ----------
    .. [1] J. Tang and Z. Li, "Weakly supervised multimodal hashing for scalable
       social image retrieval", IEEE Transactions on Circuits and Systems for
       Video Technology 28(10), 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import WMH
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> tags = [["warm"] if row[0] > 0 else ["cold"] for row in X]
    >>> WMH(n_bits=4, random_state=0).fit_transform(X, tags).shape
    (100, 4)
    """

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "semantic": [Interval(Real, 0, None, closed="left")],
        "local": [Interval(Real, 0, None, closed="left")],
        "geometric": [Interval(Real, 0, None, closed="left")],
        "entropy": [Interval(Real, 0, None, closed="left")],
        "ridge": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "n_nearest_anchors": [Interval(Integral, 1, None, closed="left")],
        "rotate": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        semantic: float = 1.0,
        local: float = 1.0,
        geometric: float = 1.0,
        entropy: float = 0.3,
        ridge: float | str = "auto",
        n_anchors: int = 100,
        n_nearest_anchors: int = 2,
        rotate: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.semantic = semantic
        self.local = local
        self.geometric = geometric
        self.entropy = entropy
        self.ridge = ridge
        self.n_anchors = n_anchors
        self.n_nearest_anchors = n_nearest_anchors
        self.rotate = rotate
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn the projections from features and tags.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : tags of n_samples images, default=None
            In any form that :func:`skhash.tags.encode_tags` takes.

        Returns
        -------
        WMH
            The fitted hasher.

        Raises
        ------
        ValueError
            If lengths differ, there are fewer features than bits, there is only
            one sample, or there is nothing to learn from.
        """
        X = check_features(self, X, reset=True)
        check_n_samples(X)
        if self.n_bits > X.shape[1]:
            raise ValueError(
                f"n_bits={self.n_bits} needs at least as many features as bits, got n_features = "
                f"{X.shape[1]}; lower n_bits, or use TagITQ, which has no such limit."
            )
        indicator = encode_tags(y, n_samples=len(X)).indicator if y is not None else None
        random_state = check_random_state(self.random_state)
        graph = anchor_graph(
            X, self.n_anchors, n_neighbors=self.n_nearest_anchors, random_state=random_state
        )
        tags = None if indicator is None else weighted_tags(indicator, random_state)
        path = RidgePath(X)
        matrix = self._weighted_sum(path, tags, graph)
        coef = np.zeros((self.n_bits, X.shape[1]))
        self.eigenvalues_ = np.zeros(self.n_bits)
        rank = len(matrix)
        if rank and not matrix.any():
            raise ValueError(
                "y does not distinguish the images, and geometric and entropy are 0, so there is "
                "nothing to learn from; give tags that differ, or raise one of these weights."
            )
        if rank:
            values, vectors = scipy.linalg.eigh(
                matrix, subset_by_index=[max(rank - self.n_bits, 0), rank - 1]
            )
            self.eigenvalues_[: len(values)] = values[::-1]
            coef[: len(values)] = fix_signs((path.directions @ vectors[:, ::-1]).T)
        if self.rotate:
            R, _ = itq_rotation(path.project(coef), random_state=random_state)
            coef = R.T @ coef
        self._set_projection(
            X,
            path.mean,
            coef,
            cause="the features vary in fewer directions than n_bits; lower n_bits, or set "
            "rotate=True.",
        )
        return self

    def _weighted_sum(
        self, path: RidgePath, tags: sp.csr_array | None, graph: Any
    ) -> NDArray[np.float64]:
        """The matrix of the eigenproblem in the features' principal basis; sets ``ridge_``."""
        Z = path.project(path.directions.T)
        matrix = self.entropy * _unit_trace(np.diag(path.eigenvalues))
        unlike = Z - graph @ Z  # difference from the mean of each sample's visual neighbours
        # For samples that equal their neighbours, rounding gives values near 0, not 0.
        apart = np.vdot(unlike, unlike) > 1e-10 * path.eigenvalues.sum()
        if apart:
            geometric = np.asarray(Z.T @ unlike, np.float64)
            matrix -= self.geometric * _unit_trace((geometric + geometric.T) / 2)
        self.ridge_ = None
        if tags is None:
            return matrix
        of = path.moments(tags)
        # The same holds for tags that are the same for all.
        if of.total <= 1e-9 * of.squares:
            return matrix
        self.ridge_ = path.choose(of.cross, of.total) if self.ridge == "auto" else float(self.ridge)
        predictors = path.shrink(of.cross, self.ridge_)
        matrix += self.semantic * _unit_trace(predictors @ predictors.T)
        if apart:
            local = RidgePath(unlike)
            predictors = local.directions @ local.shrink(local.moments(tags).cross, self.ridge_)
            matrix += self.local * _unit_trace(predictors @ predictors.T)
        return matrix


def _unit_trace(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A positive semidefinite matrix divided by its trace; zero stays zero."""
    return matrix / (np.trace(matrix) or 1.0)

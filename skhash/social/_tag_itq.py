"""Iterative quantisation of the tags that features predict."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state

from .._decisions import affine_values, settled_values
from .._kernel_features import KernelFeatures
from .._ridge import RidgePath
from .._rows import Features, Rows, summarise_columns
from .._sklearn import Interval, StrOptions, fit_context
from .._spectrum import fix_signs
from ..base import LinearHasher, check_features, check_n_samples, warn_constant_bits
from ..codes import sign_bits
from ..semantic._tag_hasher import TagCodesMixin
from ..semantic._targets import TARGET_TYPES, SemanticTargets, Target
from ..tags import encode_tags
from ..unsupervised._itq import itq_rotation

__all__ = ["TagITQ", "TagProjection", "tag_projection", "weighted_tags"]

_BLOCK_ROWS = 4096
_ROUNDING = 16 * float(np.finfo(np.float64).eps)


def weighted_tags(indicator: sp.csr_array, random_state: Any) -> sp.csr_array:
    """TF-IDF tags as regression targets, with a limited number of columns.

    Parameters
    ----------
    indicator : csr_array of shape (n_samples, n_tags)
        Tags.
    random_state : int, RandomState instance or None
        Seed of the random projection, which limits the number of columns.

    Returns
    -------
    csr_array of shape (n_samples, n_columns), float32
    """
    if not indicator.nnz:
        return indicator
    return SemanticTargets("tfidf", random_state=random_state).fit_transform(indicator)


class TagProjection(NamedTuple):
    """Principal directions of the targets that features predict.

    ``projection @ (x - mean)`` are the principal components of the predictions,
    in order of decreasing variance. ``directions @ t`` are the components of
    targets on the same axes. Rows beyond the rank of the predictions are zero;
    all rows are zero if the tags do not distinguish the samples. ``strength``
    is the strength of the ridge used.
    """

    projection: NDArray[np.floating[Any]]
    directions: NDArray[np.floating[Any]]
    strength: float


def tag_projection(
    path: RidgePath,
    targets: NDArray[np.float32] | Rows | sp.csr_array,
    n_bits: int,
    strength: float | str = "auto",
) -> TagProjection:
    """Principal directions of the meaning of tags that features predict.

    Parameters
    ----------
    path : RidgePath
        The features.
    targets : ndarray, Rows or csr_array of shape (n_samples, n_columns)
        The tags as vectors, from :class:`~skhash.SemanticTargets`.
    n_bits : int
        Number of directions.
    strength : float or "auto", default="auto"
        Strength of the ridge.

    Returns
    -------
    TagProjection
        Arrays of shape (n_bits, n_features) and (n_bits, n_columns), with the
        dtype of the features.
    """
    of = path.moments(targets)
    projection = np.zeros((n_bits, len(path.mean)), path.X.dtype)
    directions = np.zeros((n_bits, targets.shape[1]), path.X.dtype)
    if strength == "auto":
        strength = path.choose(of.cross, of.total)
    # For targets that are all the same, rounding gives values near 0, not 0.
    if not len(of.cross) or of.total <= 1e-9 * of.squares:
        return TagProjection(projection, directions, float(strength))
    # The predictions are Q M with Q'Q = diag(eigenvalues). So their principal components come from
    # a small matrix, as large as the rank of the features or the number of targets.
    root = np.sqrt(path.eigenvalues)
    predicted = root[:, None] * path.shrink(of.cross, float(strength))
    left, singular, right = _leading_singular(predicted, n_bits)
    projection[: len(singular)] = (path.directions @ (left * singular / root[:, None])).T
    directions[: len(singular)] = right
    # The sign of an eigenvector is arbitrary. It is fixed, so that results do not depend on the
    # solver.
    signed = fix_signs(projection)
    flipped = (signed * projection).sum(axis=1) < 0
    directions[flipped] *= -1
    return TagProjection(signed, directions, float(strength))


def _leading_singular(
    M: NDArray[np.float64], n_leading: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Leading singular vectors and values of a matrix, at most as many as its rank."""
    wide = M.shape[0] <= M.shape[1]
    squares, vectors = np.linalg.eigh(M @ M.T if wide else M.T @ M)
    squares, vectors = squares[::-1][:n_leading], vectors[:, ::-1][:, :n_leading]
    rank = int((squares > 1e-10 * squares[0]).sum())
    singular, vectors = np.sqrt(squares[:rank]), vectors[:, :rank]
    if wide:
        return vectors, singular, (M.T @ vectors / singular).T
    return M @ vectors / singular, singular, vectors.T


class TagITQ(TagCodesMixin, LinearHasher):
    """Iterative quantisation of the meaning of tags, predicted from features.

    A ridge regression predicts vectors of the training images' tags from
    features. ITQ [1]_ rotates the principal components of the predictions,
    which are then cut at zero. If the predictions have fewer dimensions than
    there are bits, the rotation spreads them over all bits. All steps have
    closed forms or few iterations: a fit takes seconds.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code.
    target : str, vectors of your own or SemanticSpace, default="ppmi"
        How the tags of an image become a vector, as in
        :class:`~skhash.SemanticTargets`. "ppmi", "word2vec" or your own
        vectors: the mean of the vectors of its tags. "sem-vectors" or a
        :class:`~skhash.SemanticSpace`: its sem-vector. "tfidf": its TF-IDF
        weighted tags.
    kernel : {"rbf"} or None, default="rbf"
        "rbf": besides the features, the regression uses non-linear features, of
        a Gaussian kernel to some training samples (Nystroem's method [3]_).
        None: the hash functions are linear.
    n_anchors : int, default=1000
        Number of these training samples, at most all. Not used without a
        kernel.
    ridge : float or "auto", default="auto"
        Strength of the ridge of the regression, in units of the mean variance
        of the features. "auto" minimises the generalised cross-validation
        error, which is leave-one-out cross-validation up to a rotation of the
        samples [2]_.
    max_iter : int, default=50
        Number of alternations of ITQ.
    random_state : int, RandomState instance or None, default=None
        Seed of the anchors, of ITQ's first rotation and of the random steps of
        the targets.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        Rotated directions; with a kernel float64.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        The projected mean with a minus sign; with a kernel float64.
    kernel_coef_ : ndarray of shape (n_bits, n_anchors), float64
        Weights of the kernel values to the anchors, if there is a kernel.
    kernel_features_ : KernelFeatures or None
        The kernel: its ``anchors``, its ``gamma`` and ``root``, whether it
        compares square roots of features. It does if no training feature is
        negative.
    targets_ : SemanticTargets
        Turns tags into targets.
    target_coef_ : ndarray of shape (n_bits, n_dimensions), dtype of X
        The axes of ``decision_function`` in the space of the targets.
    ridge_ : float
        Strength of the ridge used.
    objective_ : ndarray of shape (n_iter_,), float64
        ITQ's quantisation loss after each alternation.
    n_iter_ : int
        Number of alternations.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    skhash.ITQ : The same without tags.
    skhash.SemanticTargets : The targets of the regression.
    skhash.DSTDHLinear : Starts from these codes by default.

    References
    ----------
    .. [1] Y. Gong and S. Lazebnik, "Iterative quantization: a Procrustean
       approach to learning binary codes", CVPR 2011.
    .. [2] G. Golub, M. Heath and G. Wahba, "Generalized cross-validation as a
       method for choosing a good ridge parameter", Technometrics 21, 1979.
    .. [3] C. Williams and M. Seeger, "Using the Nystroem method to speed up
       kernel machines", NIPS 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import TagITQ
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> tags = [["warm"] if row[0] > 0 else ["cold"] for row in X]
    >>> TagITQ(n_bits=4, random_state=0).fit_transform(X, tags).shape
    (100, 4)
    """

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "target": TARGET_TYPES,
        "kernel": [StrOptions({"rbf"}), None],
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "ridge": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        target: Target = "ppmi",
        kernel: str | None = "rbf",
        n_anchors: int = 1000,
        ridge: float | str = "auto",
        max_iter: int = 50,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.target = target
        self.kernel = kernel
        self.n_anchors = n_anchors
        self.ridge = ridge
        self.max_iter = max_iter
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any) -> Self:
        """Learn the hash function from features and tags.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes.

        Returns
        -------
        TagITQ
            The fitted hasher.

        Raises
        ------
        ValueError
            If the tags do not distinguish the images, lengths differ, or there
            is only one sample.
        """
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None. Pass the images' tags, or use ITQ, which needs none."
            )
        data = check_features(self, X, reset=True, in_blocks=True)
        check_n_samples(data)
        tags = encode_tags(y, n_samples=len(data))
        nothing = (
            "y does not distinguish the images (no tags, the same tags for all, or features that "
            "do not vary); use ITQ, which needs no tags."
        )
        columns = summarise_columns(data)
        if not tags.indicator.nnz or (columns.low == columns.high).all():
            raise ValueError(nothing)
        random_state = check_random_state(self.random_state)
        self.targets_ = SemanticTargets(self.target, random_state=random_state)
        # A frozen space has its own vocabulary.
        known = y if isinstance(self.target, FrozenEstimator) else tags
        targets = self.targets_._fit_rows(known)
        self.kernel_features_: KernelFeatures | None = None
        features: Features = data
        if self.kernel is not None:
            self.kernel_features_ = KernelFeatures(data, self.n_anchors, random_state)
            features = self.kernel_features_.transform(data)
        path = RidgePath(features)
        projection, directions, self.ridge_ = tag_projection(path, targets, self.n_bits, self.ridge)
        if not projection.any():
            raise ValueError(nothing)
        R, self.objective_ = itq_rotation(
            path.project(projection), n_iter=self.max_iter, random_state=random_state
        )
        self.n_iter_ = self.max_iter
        self.target_coef_ = R.T @ directions
        coef = R.T @ projection
        cause = "the predicted tags have almost no variance."
        if self.kernel_features_ is None:
            self._set_projection(data, path.mean, coef, cause=cause)
        else:
            self.coef_, self.kernel_coef_ = self.kernel_features_.unfold(coef)
            self.intercept_ = -(coef.astype(np.float64) @ path.mean)
            warn_constant_bits(sign_bits(self._values(data)), cause)
        self._learn_tag_codes(targets, self._values(data))
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Real values whose signs are the codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_bits), float32 or float64
            ``X @ coef_.T + intercept_``. With a kernel, plus the kernel values
            to the anchors times ``kernel_coef_.T``.
        """
        return self._values(check_features(self, X, reset=False, in_blocks=True))

    def _values(self, X: Features) -> NDArray[np.floating[Any]]:
        features = self.kernel_features_
        if features is None:
            return affine_values(X, self.coef_, self.intercept_)
        linear, curved = self.coef_.T, self.kernel_coef_.T
        slope, bend = (float(np.linalg.norm(w, axis=0).max()) for w in (linear, curved))
        level = float(np.abs(self.intercept_).max())
        live = self.coef_.any(axis=1) | self.kernel_coef_.any(axis=1)

        def compute(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
            kernel, steepness = features.kernel(rows)
            values = rows @ linear + kernel @ curved + self.intercept_
            rounding = bend * steepness * np.sqrt(np.vecdot(kernel, kernel))
            rounding += slope * np.linalg.norm(rows, axis=1) + level
            least = np.abs(values[:, live]).min(axis=1, initial=np.inf)
            return values.astype(X.dtype, copy=False), least <= _ROUNDING * rounding

        return settled_values(compute, X, block_rows=_BLOCK_ROWS)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

"""Iterative quantisation of the tags that features predict."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from .._ridge import RidgePath
from .._sklearn import Interval, StrOptions, fit_context
from .._spectrum import fix_signs
from ..base import LinearHasher, check_features, check_n_samples
from ..tags import encode_tags, project_tags, tfidf
from ..unsupervised._itq import itq_rotation

__all__ = ["TagITQ", "tag_projection", "weighted_tags"]

# Predictions of more tags than this are made for a random projection of them.
_MAX_TAG_COLUMNS = 4096


def weighted_tags(indicator: sp.csr_array, random_state: Any) -> sp.csr_array:
    """TF-IDF tags as regression targets, their number bounded.

    Parameters
    ----------
    indicator : csr_array of shape (n_samples, n_tags)
        Tags.
    random_state : int, RandomState instance or None
        Draws the projection that bounds the number of columns.

    Returns
    -------
    csr_array of shape (n_samples, n_columns), float32
    """
    return project_tags(tfidf(indicator), _MAX_TAG_COLUMNS, random_state)


def tag_projection(
    path: RidgePath, targets: sp.csr_array, n_bits: int, strength: float | str = "auto"
) -> tuple[NDArray[np.floating[Any]], float]:
    """Principal directions of what features predict of tags.

    Parameters
    ----------
    path : RidgePath
        The features.
    targets : csr_array of shape (n_samples, n_columns)
        Weighted tags.
    n_bits : int
        Number of directions.
    strength : float or "auto", default="auto"
        Strength of the ridge.

    Returns
    -------
    projection : ndarray of shape (n_bits, n_features), dtype of the features
        ``projection @ (x - mean)`` are the principal components of the
        predicted tags, by falling variance. Rows beyond the rank of the
        predictions are zero, all of them if no tag tells samples apart.
    strength : float
        The strength used.
    """
    cross, total = path.moments(targets)
    projection = np.zeros((n_bits, len(path.mean)), path.X.dtype)
    if strength == "auto":
        strength = path.choose(cross, total)
    # Rounding leaves a trace of targets that are all the same.
    if not len(cross) or total <= 1e-9 * float(np.square(targets.data, dtype=np.float64).sum()):
        return projection, float(strength)
    # The predictions are Q M with Q'Q = diag(eigenvalues), so their principal components come from
    # a matrix of the features' rank, whatever the number of tags.
    root = np.sqrt(path.eigenvalues)
    predicted = root[:, None] * path.shrink(cross, float(strength))
    variances, vectors = np.linalg.eigh(predicted @ predicted.T)
    variances, vectors = variances[::-1][:n_bits], vectors[:, ::-1][:, :n_bits]
    rank = int((variances > 1e-10 * variances[0]).sum())
    scaled = vectors[:, :rank] * np.sqrt(variances[:rank]) / root[:, None]
    projection[:rank] = (path.directions @ scaled).T
    return fix_signs(projection), float(strength)


class TagITQ(LinearHasher):
    """Iterative quantisation of predicted tags, the simple baseline for learning from tags.

    Features are regressed on the TF-IDF weighted tags of the training images;
    the principal components of the predictions are rotated by ITQ [1]_ and cut
    at zero. Where the predictions have fewer dimensions than there are bits,
    the rotation spreads them over all bits.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code.
    ridge : float or "auto", default="auto"
        Strength of the ridge of the regression, in units of the mean variance
        of the features. "auto" minimises the generalised cross-validation
        error, which is leave-one-out cross-validation up to a rotation of the
        samples [2]_.
    max_iter : int, default=50
        Number of ITQ's alternations.
    random_state : int, RandomState instance or None, default=None
        Draws ITQ's first rotation, and the random projection of the tags if
        there are more than 4,096.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        Rotated directions.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        Minus the projected mean.
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
    skhash.unsupervised.ITQ : The same without tags.
    skhash.dstdh.DSTDHLinear : Starts from these codes by default.

    References
    ----------
    .. [1] Y. Gong and S. Lazebnik, "Iterative quantization: a Procrustean
       approach to learning binary codes", CVPR 2011.
    .. [2] G. Golub, M. Heath and G. Wahba, "Generalized cross-validation as a
       method for choosing a good ridge parameter", Technometrics 21, 1979.

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
        "ridge": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        ridge: float | str = "auto",
        max_iter: int = 50,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
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
            If no tag tells one image from another, the lengths differ, or there
            is one sample only.
        """
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None. Pass the images' tags, or use ITQ, which needs none."
            )
        X = check_features(self, X, reset=True)
        check_n_samples(X)
        tags = encode_tags(y, n_samples=len(X))
        random_state = check_random_state(self.random_state)
        path = RidgePath(X)
        targets = weighted_tags(tags.indicator, random_state)
        projection, self.ridge_ = tag_projection(path, targets, self.n_bits, self.ridge)
        if not projection.any():
            raise ValueError(
                "y tells no image from another (no tags, the same for all, or features that do "
                "not vary); use ITQ, which needs no tags."
            )
        R, self.objective_ = itq_rotation(
            path.project(projection), n_iter=self.max_iter, random_state=random_state
        )
        self.n_iter_ = self.max_iter
        self._set_projection(
            X, path.mean, R.T @ projection, cause="the tags predicted hardly vary."
        )
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

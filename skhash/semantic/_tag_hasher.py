"""Codes of words, in the space of the codes of photos."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._parameters import ParametersMixin
from .._ridge import RidgePath
from .._rows import row_blocks
from .._sklearn import HasMethods, Interval, StrOptions, fit_context
from ..codes import sign_bits
from ..tags import TagMatrix, encode_tags
from ._targets import TARGET_TYPES, SemanticTargets

__all__ = [
    "MAX_IMAGES",
    "TagCodes",
    "TagCodesMixin",
    "TagHasher",
    "known_tag_codes",
    "learn_tag_codes",
    "tagged_rows",
]

# Number of images that is enough to learn the map from words to codes.
MAX_IMAGES = 20_000


class TagCodes:
    """A map from the target vectors of words to the decision values of a hasher.

    It is a ridge regression of the decision values of the training images on
    the targets of their tags.

    Parameters
    ----------
    targets : SemanticTargets
        Fitted to the tags of the training images.
    vectors : ndarray, Rows or csr_array of shape (n_samples, n_dimensions)
        Targets of the training images.
    values : ndarray of shape (n_samples, n_bits)
        Decision values of the images.
    ridge : float or "auto", default="auto"
        Strength of the ridge.
    random_state : int, default=0
        Seed of the sample of images, if there are more than needed.
    """

    def __init__(
        self,
        targets: SemanticTargets,
        vectors: Any,
        values: NDArray[np.floating[Any]],
        *,
        ridge: float | str = "auto",
        random_state: int = 0,
    ) -> None:
        self.targets = targets
        rows = tagged_rows(vectors)
        if len(rows) > MAX_IMAGES:
            rows = check_random_state(random_state).choice(rows, MAX_IMAGES, replace=False)
            rows.sort()
        path = RidgePath(np.ascontiguousarray(_dense(vectors[rows]), values.dtype))
        # Without this scale, bits with large values would determine the strength of the ridge.
        scale = np.maximum(np.abs(values[rows]).mean(axis=0), np.finfo(values.dtype).tiny)
        self.scale = scale
        self.coef, self.intercept, self.ridge = path.fit(values[rows] / scale, ridge)
        of_tags = np.abs(path.X[:] @ self.coef.T + self.intercept).mean(axis=0)
        self.tag_scale = np.maximum(of_tags, np.finfo(values.dtype).tiny)

    def values(self, tags: Any, *, none_known: str = "raise") -> NDArray[np.floating[Any]]:
        """Decision values for lists of words; NaN for a list without known words."""
        vectors = self.targets._transform(tags, none_known=none_known)
        values = _dense(vectors) @ self.coef.T + self.intercept
        unknown = np.ones(len(values), bool)
        unknown[tagged_rows(vectors)] = False
        values[unknown] = np.nan
        return values

    def combined(
        self,
        values: NDArray[np.floating[Any]],
        tags: Any,
        weight: float,
        *,
        none_known: str = "warn",
    ) -> NDArray[np.floating[Any]]:
        """Decision values of images plus those of their tags, on the same scale."""
        of_tags = self.values(tags, none_known=none_known)
        if len(of_tags) != len(values):
            raise ValueError(
                f"tags has {len(of_tags)} images and X {len(values)}; the numbers must be equal."
            )
        return values / self.scale + weight * np.nan_to_num(of_tags / self.tag_scale)


def learn_tag_codes(
    tags: TagMatrix,
    values: NDArray[np.floating[Any]],
    *,
    target: Any = "ppmi",
    ridge: float | str = "auto",
    random_state: int = 0,
) -> TagCodes | None:
    """Learn codes of words from the tags of images, and their decision values by any hasher.

    Returns None if the tags do not distinguish the images.
    """
    targets = SemanticTargets(target, random_state=random_state)
    vectors = targets.fit_transform(tags)
    # A photo that could not be read has no finite values.
    readable = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(tagged_rows(vectors[readable])):
        return None
    return TagCodes(
        targets, vectors[readable], values[readable], ridge=ridge, random_state=random_state
    )


def known_tag_codes(hasher: Any) -> TagCodes | None:
    """The codes of words of a fitted hasher, or of a pipeline that ends in one; None if none."""
    return getattr(hasher[-1] if hasattr(hasher, "steps") else hasher, "_tag_codes", None)


class TagCodesMixin:
    """Mixin of hashers that learn from tags and therefore can encode words too.

    ``fit`` sets ``targets_`` and ends with :meth:`_learn_tag_codes`.
    """

    targets_: SemanticTargets | None
    _tag_codes: TagCodes | None
    decision_function: Callable[[Any], NDArray[np.floating[Any]]]

    def _learn_tag_codes(self, vectors: Any, values: NDArray[np.floating[Any]]) -> None:
        """Learn the map from words to codes, from the same rows of vectors and values."""
        assert self.targets_ is not None
        self._tag_codes = TagCodes(self.targets_, vectors, values)

    def transform_tags(self, tags: Any) -> NDArray[np.uint8]:
        """Encode words, to be compared with the codes of photos.

        A ridge regression, learned on the training images, maps vectors of
        tags to decision values.

        Parameters
        ----------
        tags : words, a list of them per query
            In any form that :func:`skhash.tags.encode_tags` takes. An indicator
            has the same columns as the tags in ``fit``. Unknown words are
            ignored, with a warning that names them.

        Returns
        -------
        ndarray of shape (n_queries, n_bits), uint8
            Codes of 0 and 1. A query without a known word has a row of
            :data:`skhash.codes.MISSING`.

        Raises
        ------
        ValueError
            If no word of any query is known, or the hasher learned without
            tags.
        """
        return sign_bits(self._known_tag_codes("transform_tags").values(tags), missing=True)

    def transform_with_tags(
        self, X: Any, tags: Any, *, tag_weight: float = 0.5
    ) -> NDArray[np.uint8]:
        """Encode images with tags, from the content and the tags.

        In a database of such codes, images and words find more relevant images.
        Tags add information that is not visible, and images add information
        that the tags do not contain.

        Parameters
        ----------
        X : n_samples samples
            As in ``transform``.
        tags : tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes. Unknown
            words are ignored. An image without a known tag gets the same code
            as from ``transform``.
        tag_weight : float, default=0.5
            Weight of the tags, where the image has the weight 1; both are on
            the scale of the training images. The default was chosen on noisy
            tags of a photo community; reliable tags allow a larger weight.

        Returns
        -------
        ndarray of shape (n_samples, n_bits), uint8
            Codes of 0 and 1, to be compared with codes of ``transform`` and
            ``transform_tags``. An unreadable image has a row of
            :data:`skhash.codes.MISSING`.

        Raises
        ------
        ValueError
            If lengths differ, ``tag_weight`` is negative, or the hasher learned
            without tags.
        """
        codes = self._known_tag_codes("transform_with_tags")
        return codes_with_tags(codes, self.decision_function(X), tags, tag_weight)

    def _known_tag_codes(self, method: str) -> TagCodes:
        check_is_fitted(self)
        codes: TagCodes | None = getattr(self, "_tag_codes", None)
        if codes is None:
            raise ValueError(f"{method} needs a hasher that has learned from tags; fit it with y.")
        return codes


def codes_with_tags(
    codes: TagCodes, values: NDArray[np.floating[Any]], tags: Any, tag_weight: float
) -> NDArray[np.uint8]:
    """Codes of images and their tags, given the decision values of the images."""
    if not (isinstance(tag_weight, Real) and 0 <= tag_weight < np.inf):
        raise ValueError(f"tag_weight must be a number of at least 0, got {tag_weight!r}.")
    return sign_bits(codes.combined(values, tags, float(tag_weight)), missing=True)


def tagged_rows(vectors: Any) -> NDArray[np.intp]:
    """Rows of target vectors that are not zero: images with a tag that has a meaning."""
    if sp.issparse(vectors):
        return np.flatnonzero(np.diff(sp.csr_array(vectors).indptr))
    found = [block.any(axis=1) for _, block in row_blocks(vectors)]
    return np.flatnonzero(np.concatenate(found)) if found else np.empty(0, np.intp)


def _dense(vectors: Any) -> NDArray[np.floating[Any]]:
    return vectors.toarray() if sp.issparse(vectors) else vectors[:]


class TagHasher(ParametersMixin, MetaEstimatorMixin, BaseEstimator):
    """Words as codes of any fitted hasher, to search photos by words.

    A ridge regression learns, from photos with tags, a map from the vectors of
    the tags to the decision values of the hasher. Codes of words can then be
    compared with codes of photos. Hashers that learn from tags have the method
    ``transform_tags`` for this.

    Parameters
    ----------
    hasher : fitted estimator
        Its ``decision_function`` gives the values whose signs are the codes. It
        is not fitted again.
    target : str, path, mapping, callable or SemanticSpace, default="ppmi"
        How words become vectors; see :class:`SemanticTargets`.
    ridge : float or "auto", default="auto"
        Strength of the ridge regression, in units of the mean variance of the
        vectors; "auto" minimises the generalised cross-validation error.
    random_state : int, RandomState instance or None, default=None
        Seed of the vectors, and of the sample of 20,000 photos if there are
        more.

    Attributes
    ----------
    vocabulary_ : ndarray of shape (n_tags,)
        The tags that have a vector.
    coef_ : ndarray of shape (n_bits, n_dimensions)
        Coefficients of the regression.
    intercept_ : ndarray of shape (n_bits,)
        Intercepts of the regression.

    See Also
    --------
    SemanticTargets : Vectors of words and images.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import ITQ, TagHasher
    >>> X = np.repeat(np.eye(3), 20, axis=0)
    >>> tags = [["sea", "beach"]] * 20 + [["tree", "leaf"]] * 20 + [["cat", "pet"]] * 20
    >>> words = TagHasher(ITQ(2, random_state=0).fit(X)).fit(X, tags)
    >>> words.transform([["beach"], ["cat", "pet"]]).shape
    (2, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hasher": [HasMethods(["decision_function"])],
        "target": TARGET_TYPES,
        "ridge": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        hasher: Any,
        *,
        target: Any = "ppmi",
        ridge: float | str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hasher = hasher
        self.target = target
        self.ridge = ridge
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> Self:
        """Learn the map from words to codes of the hasher.

        Parameters
        ----------
        X : n_samples samples
            As in the ``transform`` of the hasher.
        y : tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes.

        Returns
        -------
        TagHasher
            The fitted estimator.

        Raises
        ------
        ValueError
            If no tag has a vector, or lengths differ.
        """
        values = np.asarray(self.hasher.decision_function(X))
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        tags = encode_tags(y, n_samples=len(values))
        codes = learn_tag_codes(
            tags, values, target=self.target, ridge=self.ridge, random_state=seed
        )
        if codes is None:
            raise ValueError(
                "y does not distinguish the images: all images with tags have the same tags; "
                "give tags that differ."
            )
        self._codes = codes
        self.vocabulary_ = self._codes.targets.vocabulary_
        self.coef_, self.intercept_ = self._codes.coef, self._codes.intercept
        return self

    def decision_function(self, tags: Any) -> NDArray[np.floating[Any]]:
        """Real values whose signs are the codes.

        Parameters
        ----------
        tags : words, a list of them per query
            In any form that :func:`skhash.tags.encode_tags` takes.

        Returns
        -------
        ndarray of shape (n_queries, n_bits)
            NaN for a query without known words.

        Raises
        ------
        ValueError
            If no word of any query is known.
        """
        check_is_fitted(self)
        return self._codes.values(tags)

    def transform(self, tags: Any) -> NDArray[np.uint8]:
        """Encode words.

        Parameters
        ----------
        tags : words, a list of them per query
            In any form that :func:`skhash.tags.encode_tags` takes. Unknown
            words are ignored, with a warning that names them.

        Returns
        -------
        ndarray of shape (n_queries, n_bits), uint8
            Codes of 0 and 1, to be compared with codes of photos. A query
            without a known word has a row of :data:`skhash.codes.MISSING`.

        Raises
        ------
        ValueError
            If no word of any query is known.
        """
        return sign_bits(self.decision_function(tags), missing=True)

    def transform_with_tags(
        self, X: Any, tags: Any, *, tag_weight: float = 0.5
    ) -> NDArray[np.uint8]:
        """Encode images with tags, from the content and the tags.

        Parameters
        ----------
        X : n_samples samples
            As in the ``transform`` of the hasher.
        tags : tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes. An image
            without a known tag gets the same code as from the hasher.
        tag_weight : float, default=0.5
            Weight of the tags, where the image has the weight 1; both are on
            the scale of the training images.

        Returns
        -------
        ndarray of shape (n_samples, n_bits), uint8
            Codes of 0 and 1. An unreadable image has a row of
            :data:`skhash.codes.MISSING`.

        Raises
        ------
        ValueError
            If lengths differ or ``tag_weight`` is negative.
        """
        check_is_fitted(self)
        values = np.asarray(self.hasher.decision_function(X))
        return codes_with_tags(self._codes, values, tags, tag_weight)

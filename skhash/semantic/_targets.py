"""Targets of regression: vectors of the meaning of images' tags."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import normalize
from sklearn.utils import check_random_state, metadata_routing
from sklearn.utils.validation import check_is_fitted

from .._parameters import ParametersMixin
from .._rows import Rows, summarise_columns
from .._sklearn import fit_context
from ..tags import encode_tags, project_tags
from ._embedding import EMBEDDING_TYPES, Embedding, TagEmbedding
from ._space import SemanticSpace

__all__ = ["TARGET_TYPES", "SemanticTargets", "Target"]

TARGET_TYPES: list[Any] = [*EMBEDDING_TYPES, SemanticSpace, FrozenEstimator]
Target: TypeAlias = Embedding | SemanticSpace | Any  # or a frozen one
# A larger number of tags is projected, so that the products with features stay small.
_MAX_COLUMNS = 4096


class SemanticTargets(
    ParametersMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Vectors of the meaning of images' tags, as targets for a regression on features.

    A transformer whose X is the tags, in any form that
    :func:`skhash.tags.encode_tags` takes. Every hasher that learns from tags by
    regression uses these targets.

    Parameters
    ----------
    target : str, path, mapping, KeyedVectors, callable or SemanticSpace, default="ppmi"
        How the tags of an image become a vector:

        - "ppmi": the mean of its tags' vectors, computed from counts. The
          vector of a tag says with which tags it occurs together more often
          than by chance (see :class:`SemanticSpace`). This is deterministic and
          takes a second.
        - "word2vec": the same with vectors learned by skip-gram, which needs
          gensim.
        - Your own vectors: a mapping from tags to arrays, gensim's
          KeyedVectors, the path of a text file of vectors, or a function that
          turns a list of str into an array with one row per str. Then words
          that are not in the training data have a meaning, too.
        - "sem-vectors", or a :class:`SemanticSpace`: its sem-vectors. A fitted
          space in a :class:`~sklearn.frozen.FrozenEstimator` is not fitted
          again.
        - "tfidf": the tags themselves, weighted by their rarity.

    random_state : int, RandomState instance or None, default=None
        Seed of word2vec, of a semantic space without a seed, and of the
        projection of more than 4,096 tags with "tfidf".

    Attributes
    ----------
    vocabulary_ : ndarray of shape (n_tags,)
        The tags that have a meaning.
    ignored_tags_ : ndarray of shape (n_ignored_tags,)
        The other tags seen in ``fit``, which have no vector.
    tag_vectors_ : ndarray of shape (n_tags, n_dimensions), float32
        Vectors of the tags. Targets are their means. With "tfidf" it has no
        columns.
    mean_ : ndarray of shape (n_dimensions,), float32
        Mean of the training images, which is subtracted; empty with "tfidf".
    space_ : SemanticSpace or None
        The space of sem-vectors, if ``target`` is one.

    See Also
    --------
    skhash.TagITQ : Codes from these targets.

    Examples
    --------
    >>> from skhash import SemanticTargets
    >>> tags = [["cat", "pet"], ["kitten", "pet"], ["sea", "beach"], ["sea", "sand"]] * 5
    >>> T = SemanticTargets("ppmi").fit_transform(tags)
    >>> bool(T[0] @ T[1] > T[0] @ T[2])
    True
    """

    __metadata_request__fit: ClassVar[dict[str, str]] = {"tags": metadata_routing.UNUSED}
    __metadata_request__transform: ClassVar[dict[str, str]] = {"tags": metadata_routing.UNUSED}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "target": TARGET_TYPES,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        target: Target = "ppmi",
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.target = target
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, tags: Any, y: Any = None) -> Self:
        """Learn the vectors of tags from the tags of images.

        Parameters
        ----------
        tags : tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes. An image
            may have none.
        y : Ignored, default=None
            Only for compatibility with scikit-learn.

        Returns
        -------
        SemanticTargets
            The fitted transformer.

        Raises
        ------
        ValueError
            If there are no tags, or your own vectors contain none of them.
        """
        self._fit_rows(tags)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, tags: Any, y: Any = None) -> NDArray[np.float32] | sp.csr_array:
        """Learn the vectors of tags, and compute the targets of the same images.

        Parameters
        ----------
        tags : tags of n_samples images
            As in :meth:`fit`.
        y : Ignored, default=None
            Only for compatibility with scikit-learn.

        Returns
        -------
        ndarray or csr_array of shape (n_samples, n_dimensions), float32
            As from :meth:`transform`.
        """
        return _whole(self._fit_rows(tags))

    def _fit_rows(self, tags: Any) -> Rows | sp.csr_array:
        """Like ``fit_transform``, but the vectors of images are computed when they are read."""
        target = self.target
        encoded = encode_tags(tags, name="tags")
        if not encoded.indicator.nnz:
            raise ValueError("tags holds no tag at all; give images that have some.")
        self._seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.space_ = self._make_space()
        if self.space_ is None:
            source = None if self._is_tfidf else target
            self._embedding = TagEmbedding(
                encoded, source, seed=self._seed, name="target", others=("tfidf", "sem-vectors")
            )
            indicator, table = self._embedding.forget_images(), self._embedding.vectors
            self.vocabulary_ = self._embedding.vocabulary
            self.ignored_tags_ = self._embedding.ignored
            if self._is_tfidf:
                frequency = indicator.sum(axis=0)
                self._rarity = np.log((1 + encoded.n_samples) / (1 + frequency)) + 1
        else:
            frozen = isinstance(target, FrozenEstimator)
            if not frozen:
                self.space_.fit(encoded)
            # A frozen space has its own vocabulary.
            indicator, table, unknown = self.space_._resolve(tags if frozen else encoded)
            if unknown.all:
                raise ValueError(
                    f"target is a space that knows none of the tags: {unknown}; use a space that "
                    "was fitted to such tags."
                )
            self.vocabulary_ = self.space_.vocabulary_
            self.ignored_tags_ = self.space_.ignored_tags_
        self.tag_vectors_ = table[: len(self.vocabulary_)]
        # The mean of the images with tags: the vectors of the others are 0.
        n_tagged = max(int(np.count_nonzero(np.diff(indicator.indptr))), 1)
        directions = _MeanVectors(indicator, table)
        self.mean_ = (summarise_columns(directions).mean * (len(directions) / n_tagged)).astype(
            np.float32
        )
        return self._describe(indicator, table)

    @property
    def _is_tfidf(self) -> bool:
        return isinstance(self.target, str) and self.target == "tfidf"

    def _make_space(self) -> SemanticSpace | None:
        """The space whose sem-vectors are the targets, or None."""
        target = self.target
        if isinstance(target, FrozenEstimator):
            if not isinstance(target.estimator, SemanticSpace):
                raise TypeError(
                    "target is a FrozenEstimator, but not of a SemanticSpace; freeze one."
                )
            check_is_fitted(target.estimator)
            return target.estimator
        if isinstance(target, str) and target == "sem-vectors":
            return SemanticSpace(random_state=self._seed)
        if isinstance(target, SemanticSpace):
            space = clone(target)
            if space.random_state is None:
                space.set_params(random_state=self._seed)
            space._validate_params()
            return space
        return None

    def transform(self, tags: Any) -> NDArray[np.float32] | sp.csr_array:
        """Compute the targets of images from their tags.

        Parameters
        ----------
        tags : tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes. An indicator
            has the same columns as in ``fit``. Words that ``fit`` did not see
            are used if your own vectors contain them. Other words are ignored,
            with a warning that names them.

        Returns
        -------
        ndarray or csr_array of shape (n_samples, n_dimensions), float32
            The mean of the vectors of an image's tags, scaled to length 1,
            minus ``mean_``; zero for an image without known tags. With "tfidf"
            sparse rows of length 1.

        Raises
        ------
        ValueError
            If none of the tags is known.
        """
        return _whole(self._transform(tags))

    def _transform(self, tags: Any, *, none_known: str = "raise") -> Rows | sp.csr_array:
        """Like :meth:`transform`, but no tag of the images needs to be known.

        If no tag is known, ``none_known="raise"`` raises an error, "warn" only
        warns, and "ignore" does neither.
        """
        check_is_fitted(self)
        if self.space_ is None:
            indicator, new, unknown = self._embedding.resolve(tags)
            table = self.tag_vectors_
            if len(new):
                table = np.concatenate([table, new])
        else:
            indicator, table, unknown = self.space_._resolve(tags)
        if unknown.all and none_known == "raise":
            raise ValueError(
                f"tags has only words that {type(self).__name__} does not know: {unknown}; use "
                "words of vocabulary_, or your own vectors with more words."
            )
        if unknown.words and none_known != "ignore":
            warnings.warn(
                f"tags has words that {type(self).__name__} does not know, which are ignored: "
                f"{unknown}.",
                UserWarning,
                stacklevel=3,
            )
        return self._describe(indicator, table)

    def _describe(self, indicator: sp.csr_array, table: NDArray[np.float32]) -> Rows | sp.csr_array:
        if self._is_tfidf:
            weights = self._rarity[indicator.indices].astype(np.float32)
            bags = sp.csr_array((weights, indicator.indices, indicator.indptr), indicator.shape)
            return project_tags(sp.csr_array(normalize(bags)), _MAX_COLUMNS, self._seed)
        return _MeanVectors(indicator, table, self.mean_)

    @property
    def _n_features_out(self) -> int:
        if self._is_tfidf:
            return min(len(self.vocabulary_), _MAX_COLUMNS)
        return len(self.mean_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _whole(vectors: Rows | sp.csr_array) -> NDArray[np.float32] | sp.csr_array:
    return vectors[:] if isinstance(vectors, Rows) else vectors


class _MeanVectors(Rows):
    """Mean vectors of images' tags, scaled to length 1, minus their mean; 0 without tags."""

    def __init__(
        self,
        indicator: sp.csr_array,
        table: NDArray[np.float32],
        mean: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__((indicator.shape[0], table.shape[1]), np.float32)
        self._indicator, self._table, self._mean = indicator, table, mean
        # If vectors cancel out, only rounding errors remain, which must not be scaled up.
        self._least = 1e-5 * np.abs(table).max(initial=0)

    def _read(self, rows: Any) -> NDArray[Any]:
        indicator = self._indicator[rows]
        sums = np.asarray(indicator @ self._table, dtype=np.float32)
        sums[np.linalg.norm(sums, axis=1) <= self._least] = 0
        vectors = normalize(sums, copy=False) if sums.size else sums
        if self._mean is not None:
            vectors[np.diff(indicator.indptr) > 0] -= self._mean
        return vectors

    def content(self) -> list[Any]:
        """Tags, their vectors and the mean."""
        tags = self._indicator
        return [tags.data, tags.indices, tags.indptr, self._table, self._mean]

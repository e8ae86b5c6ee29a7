"""Tags as vectors from any source, and the tags of images in terms of these vectors."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from .._sklearn import HasMethods
from ..tags import TagMatrix, encode_tags
from ._ppmi import ppmi_vectors
from ._vectors import look_up_tag_vectors, train_tag_vectors

__all__ = ["EMBEDDING_TYPES", "Embedding", "TagEmbedding", "Unknown"]

# Valid values of `embedding`, for `_parameter_constraints`: the two names, a path, or own vectors.
EMBEDDING_TYPES: list[Any] = [
    str,
    os.PathLike,
    HasMethods(["__contains__", "__getitem__"]),
    callable,
]
Embedding: TypeAlias = (
    str | os.PathLike[str] | Mapping[Any, ArrayLike] | Callable[[list[str]], Any] | Any
)
LEARNED = ("ppmi", "word2vec")
_INTERNAL = {"skhash", "sklearn"}
_SHOWN = 5  # words shown in a message
_VECTOR_SIZE = 200  # of word2vec
# With fewer pairs of tags per tag, word2vec is no better than counting.
_ENOUGH_PAIRS = 20


class TagEmbedding:
    """Vectors of the tags that images have.

    Parameters
    ----------
    tags : TagMatrix
        Tags of the training images.
    embedding : "ppmi", "word2vec", path, mapping, gensim KeyedVectors, callable or None
        See :class:`SemanticSpace`. None: no vectors; the tags themselves are
        used.
    min_count : int, default=1
        Tags of fewer images are ignored.
    n_dimensions : int, default=None
        Length of learned vectors. If None, 100 for PPMI and 200 for word2vec.
    window, epochs : int, default=None
        Parameters of word2vec.
    seed : int, default=0
        Seed of word2vec.
    name : str, default="embedding"
        Name of ``embedding`` in messages.
    others : tuple of str, default=()
        Other values that the caller accepts for it, for messages.

    Attributes
    ----------
    vocabulary : ndarray of shape (n_tags,)
        Tags that have a vector.
    ignored : ndarray of shape (n_ignored_tags,)
        The other tags seen.
    vectors : ndarray of shape (n_tags, n_dimensions), float32
    indicator : csr_array of shape (n_images, n_tags), float32
        Which training image has which tag.
    """

    def __init__(
        self,
        tags: TagMatrix,
        embedding: Any,
        *,
        min_count: int = 1,
        n_dimensions: int | None = None,
        window: int | None = None,
        epochs: int | None = None,
        seed: int = 0,
        name: str = "embedding",
        others: tuple[str, ...] = (),
    ) -> None:
        counts = tags.indicator.sum(axis=0)
        kept = (counts >= min_count) & (counts > 0)
        learned = isinstance(embedding, str) and embedding in LEARNED
        if isinstance(embedding, str) and not learned and not os.path.exists(embedding):
            names = ", ".join(map(repr, (*others, *LEARNED)))
            raise ValueError(
                f"{name} must be one of {names}, your own vectors or the path of a file "
                f"of vectors; there is no file {embedding!r}."
            )
        own = not learned and embedding is not None
        self._source, self._name = embedding if own else None, name
        vectors = np.zeros((0, 0), np.float32)
        if own and kept.any():
            vectors, known = look_up_tag_vectors(tags.vocabulary[kept], embedding, name=name)
            if not known.any():
                where = os.fspath(embedding) if isinstance(embedding, str | os.PathLike) else name
                raise ValueError(
                    f"{where} knows none of the {len(known)} tags; check their spelling."
                )
            kept[kept] = known
        self._columns, self._kept = tags.vocabulary, np.flatnonzero(kept)
        self.vocabulary, self.ignored = tags.vocabulary[kept], tags.vocabulary[~kept]
        self.indicator = tags.indicator[:, self._kept]
        if learned and kept.any():
            vectors = self._learn(embedding, n_dimensions, window, epochs, seed)
        elif embedding is None:
            vectors = np.zeros((len(self.vocabulary), 0), np.float32)
        self.vectors = vectors

    def _learn(
        self,
        method: str,
        n_dimensions: int | None,
        window: int | None,
        epochs: int | None,
        seed: int,
    ) -> NDArray[np.float32]:
        lengths = np.diff(self.indicator.indptr).astype(np.int64)
        n_pairs = int((lengths * (lengths - 1)).sum())
        few = n_pairs < _ENOUGH_PAIRS * len(self.vocabulary)
        if method == "word2vec" and few and len(self.vocabulary) > 1:
            warnings.warn(
                f"word2vec has too little to learn from: {len(self.vocabulary)} tags occur in "
                f"{n_pairs} pairs, fewer than {_ENOUGH_PAIRS} per tag. The vectors are computed as "
                'with "ppmi" instead. Your own vectors, learned from other data, may be better.',
                UserWarning,
                stacklevel=_outside(),
            )
        if method == "ppmi" or few:
            return ppmi_vectors(self.indicator, n_dimensions)
        return train_tag_vectors(
            self.indicator,
            vector_size=n_dimensions or _VECTOR_SIZE,
            window=window,
            epochs=epochs,
            seed=seed,
        )

    def forget_images(self) -> sp.csr_array:
        """Return the indicator of the training images and do not keep it."""
        indicator = self.indicator
        del self.indicator
        return indicator

    def resolve(self, tags: Any, name: str = "tags") -> tuple[sp.csr_array, NDArray[Any], Unknown]:
        """Which images have which tags, including words that training did not see.

        Parameters
        ----------
        tags : tags of n_images images
            In any form that :func:`skhash.tags.encode_tags` takes. An indicator
            has the same columns as in training.
        name : str, default="tags"
            Name of the argument in messages.

        Returns
        -------
        indicator : csr_array of shape (n_images, n_tags + n_new), float32
            Columns are ``vocabulary``, then new words that own vectors know.
        new : ndarray of shape (n_new, n_dimensions), float32
            Vectors of the new words.
        unknown : Unknown
            The tags that have no vector.
        """
        encoded = encode_tags(tags, vocabulary=self._columns, name=name)
        known = encoded.indicator[:, self._kept]
        new = self.vectors[:0]
        left_out = np.bincount(encoded.indicator.indices, minlength=len(self._columns)) > 0
        left_out[self._kept] = False
        missing = self._columns[left_out].tolist()
        if encoded.n_unknown:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the first call has warned
                everything = encode_tags(tags, name=name)
            seen = set(self._columns.tolist())
            others = [j for j, tag in enumerate(everything.vocabulary.tolist()) if tag not in seen]
            words = everything.vocabulary[others]
            found = np.zeros(len(words), dtype=bool)
            if self._source is not None:
                new, found = look_up_tag_vectors(words, self._source, name=self._name)
                new = new if found.any() else self.vectors[:0]
                if new.shape[1] != self.vectors.shape[1]:
                    raise ValueError(
                        f"{self._name} gives vectors of length {new.shape[1]}, and gave vectors of "
                        f"length {self.vectors.shape[1]} in fit; the length must be the same."
                    )
                more = everything.indicator[:, np.asarray(others)[found]]
                known = sp.csr_array(sp.hstack([known, more], format="csr"))
            missing += words[~found].tolist()
        given = encoded.indicator.nnz + encoded.n_unknown
        return known, new, Unknown(missing, int(given - known.nnz), int(given))


def _outside() -> int:
    """The ``stacklevel`` of the first caller outside this package and scikit-learn."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals["__name__"].split(".")[0] in _INTERNAL:
        frame, level = frame.f_back, level + 1
    return level


class Unknown:
    """Tags of images that have no vector.

    Parameters
    ----------
    words : list of tags
        The unknown tags, without repetition.
    count : int
        Number of occurrences of unknown tags.
    given : int
        Number of occurrences of all tags.
    """

    def __init__(self, words: list[Any], count: int, given: int) -> None:
        self.words, self.count, self.given = words, count, given

    @property
    def all(self) -> bool:
        """Whether there are tags, and all are unknown."""
        return 0 < self.count == self.given

    def __str__(self) -> str:
        shown = ", ".join(map(repr, self.words[:_SHOWN]))
        n_more = len(self.words) - _SHOWN
        return f"{shown} and {n_more} more" if n_more > 0 else shown

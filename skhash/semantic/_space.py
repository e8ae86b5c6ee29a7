"""The space that sem-words span, and the sem-vectors of images in it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_array, check_random_state, metadata_routing
from sklearn.utils.validation import check_is_fitted

from .._parameters import ParametersMixin
from .._rows import Rows
from .._sklearn import Interval, StrOptions, fit_context
from ..tags import clean_tag, encode_tags
from ._coding import encode, learn_sparse_coding
from ._embedding import EMBEDDING_TYPES, Embedding, TagEmbedding, Unknown

__all__ = ["SemVectors", "SemanticSpace"]

# Number of images whose sem-vectors are dense at a time: 2 MiB with 512 sem-words fit in the cache.
_BLOCK = 1024


class SemVectors(Rows):
    """Sem-vectors of images (Eq. 2): the mean code of their tags.

    Parameters
    ----------
    indicator : csr_array of shape (n_samples, n_tags)
        Which image has which tag.
    codes : ndarray of shape (n_tags, n_components), float32
        Codes of the tags.
    """

    def __init__(self, indicator: sp.csr_array, codes: NDArray[np.float32]) -> None:
        super().__init__((indicator.shape[0], codes.shape[1]), np.float32)
        counts = np.diff(indicator.indptr)
        shares = np.repeat((1 / np.maximum(counts, 1)).astype(np.float32), counts)
        self._weights = sp.csr_array((shares, indicator.indices, indicator.indptr), indicator.shape)
        self._codes = codes

    def _read(self, rows: Any) -> NDArray[Any]:
        return self._weights[rows] @ self._codes

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All sem-vectors, block by block."""
        for start in range(0, len(self), _BLOCK):
            yield self[start : start + _BLOCK]

    def content(self) -> list[Any]:
        """Weights and codes of the tags."""
        weights = self._weights
        return [weights.data, weights.indices, weights.indptr, self._codes]


class SemanticSpace(
    ParametersMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Sem-vectors of images: the meaning of their tags, in a space learned from all tags [1]_.

    Users have many words for one thing, and one word for many things. Here each
    tag gets a vector from word2vec, learned from the tags that it occurs with.
    A dictionary of "sem-words" is learned from all vectors, and each vector gets
    a sparse code over it (Eq. 1). Tags with a similar meaning share sem-words.
    The sem-vector of an image is the mean of its tags' codes (Eq. 2).

    A transformer whose X is the tags, in any form that
    :func:`skhash.tags.encode_tags` takes.

    Parameters
    ----------
    n_components : int, default=512
        Number of sem-words, at most the number of tags.
    vector_size : int, default=None
        Length of learned tag vectors. With PPMI they may be shorter, if the
        rank of the counts is lower. None: 200 for word2vec, 100 for PPMI.
    embedding : {"word2vec", "ppmi"}, path, mapping, KeyedVectors or callable, default="word2vec"
        Source of the tag vectors. "word2vec": learned by gensim's skip-gram.
        "ppmi": computed from counts of tags that occur together, see Notes; this
        needs no gensim and no seed, and at most a second. Your own vectors: a
        mapping from tags to arrays; a similar object, such as gensim's
        KeyedVectors; the path of a file in the text format of word2vec or GloVe
        (``.gz`` if compressed), from which only the needed tags are kept; or a
        function that turns a list of str into an array with one row per str,
        such as the ``encode`` of a sentence transformer. Tags without a vector
        are not in ``vocabulary_`` but in ``ignored_tags_``. In a grid search
        use a path, because clones copy any other source.
    density : float, default=0.1
        Share of nonzeros in the codes of tags, to which alpha is calibrated. At
        least one nonzero per tag is wanted, and at most half as many as a
        vector has dimensions, because many more are not possible. The resulting
        share is ``density_``.
    alpha : float, default=None
        Weight of the l1 norm in the sparse coding
        ``1/2 ||t - u @ components_||^2 + alpha ||u||_1``; overrides
        ``density``. The paper's form has no 1/2, so its lambda is twice this
        alpha: its 0.4 is 0.2 here. The number of nonzeros depends on the length
        of the tag vectors, and so on the data.
    algorithm : {"cd", "lars"}, default="cd"
        Solver of the sparse coding: coordinate descent, or the slower homotopy
        method of the paper. Both minimise the same function.
    center : bool, default=True
        Whether to subtract the mean tag vector before the sparse coding, unlike
        the paper. All tag vectors have a large common part. Its coding would
        need many sem-words and carry no information.
    normalized_laplacian : bool, default=False
        Whether ``laplacian_`` is ``I - D^-1/2 R D^-1/2``, with eigenvalues
        from 0 to 2 on all data, or the paper's ``D - R``, whose eigenvalues
        grow with the number of sem-words (to 200 and more).
    min_count : int, default=1
        Tags of fewer images are ignored.
    window : int, default=None
        Largest distance in the list at which two tags of an image are a context
        for each other. None: all tags of an image, because they have no order.
        The cost grows with the square of the length of a list; set a window if
        lists are very long.
    epochs : int, default=None
        Passes of word2vec over the images. None: enough for 2,000 pairs of tags
        per tag of the vocabulary, from 1 to 100 (about 5 on MIR Flickr).
    max_iter : int, default=8
        Passes over the tag vectors when the dictionary is learned.
    sparse_output : bool, default=True
        Whether ``transform`` returns a CSR array or a dense array.
    random_state : int, RandomState instance or None, default=None
        Seed of word2vec and of the dictionary. An int gives the same space in
        every process.
    verbose : int, default=0
        1 prints a line per step.

    Attributes
    ----------
    vocabulary_ : ndarray of shape (n_tags,)
        The tags of the space.
    ignored_tags_ : ndarray of shape (n_ignored_tags,)
        Tags given to ``fit`` that are not in the vocabulary, because they are
        rarer than ``min_count`` or have no vector.
    tag_vectors_ : ndarray of shape (n_tags, n_dimensions), float32
        Vectors of the tags. :class:`SemanticTargets` are their means.
    mean_ : ndarray of shape (n_dimensions,), float32
        The vector subtracted from them: their mean, or 0 if ``center=False``.
    components_ : ndarray of shape (n_components_, n_dimensions), float32
        The sem-words, each of length at most 1. Every sem-word is used by some
        tag: an unused one is replaced by the direction of the worst coded tag's
        residual, and removed if it is still unused after five rounds. The codes
        of a sem-word have a positive sum.
    n_components_ : int
        Number of sem-words: ``n_components``, or less if there are fewer tags or
        unused sem-words were removed.
    tag_codes_ : csr_array of shape (n_tags, n_components_), float32
        Codes of the tags; ``tag_codes_ @ components_ + mean_`` approximates
        ``tag_vectors_``.
    alpha_ : float
        Weight of the l1 norm that was used.
    density_ : float
        Share of nonzeros in ``tag_codes_``.
    correlation_ : ndarray of shape (n_components_, n_components_), float64
        The number of images whose sem-vectors use both sem-words, divided by
        the number that use at least one of them (Eq. 4); 0 on the diagonal.
    laplacian_ : ndarray of shape (n_components_, n_components_), float64
        Graph Laplacian of the correlations (Eq. 5).

    See Also
    --------
    SemanticTargets : Targets of regression from tags, by this space or simpler methods.
    skhash.semantic.SemanticSpaceDisplay : Plots of sem-words and of similar tags.
    skhash.tags.tfidf : Weighted bags of tags, which do not use the meaning of tags.

    Notes
    -----
    The PPMI of tags a and b is ``max(0, log p(a, b) / (p(a) q(b)))``, counted
    over the images that have both. q are the shares of the tags to the power
    0.75. A tag's vector is its row of left singular vectors, times the singular
    values [2]_. If tags occur together too rarely for "word2vec", it gives a
    warning and uses "ppmi" instead.

    References
    ----------
    .. [1] Z. Guan, F. Xie, W. Zhao, X. Wang, L. Chen, W. Zhao and J. Peng,
       "Tag-based weakly-supervised hashing for image retrieval", IJCAI 2018.
    .. [2] O. Levy, Y. Goldberg and I. Dagan, "Improving distributional similarity
       with lessons learned from word embeddings", TACL 3, 2015.

    Examples
    --------
    >>> from skhash import SemanticSpace
    >>> tags = [["cat", "pet"], ["kitten", "pet"], ["sea", "beach"], ["sea", "sand"]] * 50
    >>> space = SemanticSpace(n_components=4, vector_size=8, random_state=0).fit(tags)
    >>> space.transform([["cat", "kitten"], []]).shape
    (2, 4)
    """

    # Tags are in the place of X, so they are not a routed argument.
    __metadata_request__fit: ClassVar[dict[str, str]] = {"tags": metadata_routing.UNUSED}
    __metadata_request__transform: ClassVar[dict[str, str]] = {"tags": metadata_routing.UNUSED}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "vector_size": [Interval(Integral, 1, None, closed="left"), None],
        "embedding": EMBEDDING_TYPES,
        "density": [Interval(Real, 0, 1, closed="right")],
        "alpha": [Interval(Real, 0, None, closed="neither"), None],
        "algorithm": [StrOptions({"cd", "lars"})],
        "center": ["boolean"],
        "normalized_laplacian": ["boolean"],
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "window": [Interval(Integral, 1, None, closed="left"), None],
        "epochs": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "sparse_output": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components: int = 512,
        *,
        vector_size: int | None = None,
        embedding: Embedding = "word2vec",
        density: float = 0.1,
        alpha: float | None = None,
        algorithm: str = "cd",
        center: bool = True,
        normalized_laplacian: bool = False,
        min_count: int = 1,
        window: int | None = None,
        epochs: int | None = None,
        max_iter: int = 8,
        sparse_output: bool = True,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.vector_size = vector_size
        self.embedding = embedding
        self.density = density
        self.alpha = alpha
        self.algorithm = algorithm
        self.center = center
        self.normalized_laplacian = normalized_laplacian
        self.min_count = min_count
        self.window = window
        self.epochs = epochs
        self.max_iter = max_iter
        self.sparse_output = sparse_output
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, tags: Any, y: Any = None) -> Self:
        """Learn the space from the tags of images.

        Parameters
        ----------
        tags : tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes. An image
            may have none.
        y : Ignored, default=None
            Only for compatibility with scikit-learn.

        Returns
        -------
        SemanticSpace
            The fitted space.

        Raises
        ------
        ValueError
            If fewer than two tags remain, your own vectors contain none of the
            tags, all vectors are the same, or alpha is so large that all codes
            are zero.
        """
        rng = check_random_state(self.random_state)
        self._embedding = TagEmbedding(
            encode_tags(tags, name="tags"),
            self.embedding,
            min_count=self.min_count,
            n_dimensions=self.vector_size,
            window=self.window,
            epochs=self.epochs,
            seed=rng.randint(np.iinfo(np.int32).max),
        )
        vectors = self.tag_vectors_ = self._embedding.vectors
        self.vocabulary_ = self._embedding.vocabulary
        self.ignored_tags_ = self._embedding.ignored
        if len(self.vocabulary_) < 2:
            raise ValueError(
                f"tags must hold at least two tags with min_count={self.min_count} images or more "
                f"each, got {len(self.vocabulary_)}."
            )
        indicator = self._embedding.forget_images()
        if self.verbose:
            print(
                f"[SemanticSpace] vectors of {len(vectors)} tags; "
                f"{len(self.ignored_tags_)} tags ignored"
            )
        self._learn_sem_words(rng)
        self.correlation_ = self._correlate(indicator)
        self.laplacian_ = _laplacian(self.correlation_, normalized=self.normalized_laplacian)
        return self

    def _learn_sem_words(self, rng: np.random.RandomState) -> None:
        vectors = self.tag_vectors_
        n_tags, n_dimensions = vectors.shape
        self.mean_ = vectors.mean(axis=0) if self.center else np.zeros(n_dimensions, np.float32)
        centred = (vectors - self.mean_).astype(np.float64)
        n_usable = int(np.count_nonzero(np.abs(centred).max(axis=1) > 1e-6 * np.abs(vectors).max()))
        if n_usable < 2:
            raise ValueError(
                "All tag vectors are the same; give vectors that differ, or more tags."
            )
        n_components = min(self.n_components, n_usable)
        target = min(max(self.density, 1 / n_components), max(n_dimensions / 2, 1) / n_components)
        coding = learn_sparse_coding(
            centred,
            n_components,
            density=target,
            alpha=self.alpha,
            algorithm=self.algorithm,
            max_iter=self.max_iter,
            random_state=rng,
            verbose=self.verbose,
        )
        self.components_ = coding.components.astype(np.float32)
        self.n_components_ = len(coding.components)
        self.tag_codes_ = sp.csr_array(coding.codes.astype(np.float32))
        self.alpha_ = coding.alpha
        self.density_ = self.tag_codes_.nnz / (n_tags * self.n_components_)

    def _correlate(self, indicator: sp.csr_array) -> NDArray[np.float64]:
        """Eq. 4, without self-loops."""
        together = np.zeros((self.n_components_, self.n_components_))
        for Z in SemVectors(indicator, self.tag_codes_.toarray()).blocks():
            present = (Z != 0).astype(np.float32)
            together += present.T @ present
        alone = np.diag(together)
        either = alone[:, None] + alone - together
        # Every sem-word has a tag, but its codes may cancel out in all images of its tags.
        R = np.divide(together, either, out=np.zeros_like(together), where=either > 0)
        np.fill_diagonal(R, 0)
        return R

    def transform(self, tags: Any) -> sp.csr_array | NDArray[np.float32]:
        """Sem-vectors of images.

        Parameters
        ----------
        tags : tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes. An indicator
            has the same columns as in ``fit``. New words are coded if your own
            vectors contain them. Other tags that are not in ``vocabulary_`` are
            ignored; see :meth:`count_unknown`. If no tag at all is known,
            there is a warning.

        Returns
        -------
        csr_array or ndarray of shape (n_samples, n_components_), float32
            The mean code of each image's known tags; zero for an image without
            known tags.
        """
        vectors = self._transform_rows(tags)
        return _as_sparse(vectors) if self.sparse_output else vectors[:]

    def _transform_rows(self, tags: Any) -> SemVectors:
        """Like ``transform``, but the sem-vectors are computed when they are read."""
        check_is_fitted(self)
        indicator, codes, unknown = self._resolve(tags)
        if unknown.all:
            warnings.warn(
                "None of the tags is in the vocabulary of this SemanticSpace; all sem-vectors "
                "are zero.",
                UserWarning,
                stacklevel=4,
            )
        return SemVectors(indicator, codes)

    def count_unknown(self, tags: Any) -> NDArray[np.int64]:
        """Number of tags of each image that ``transform`` ignores.

        Parameters
        ----------
        tags : tags of n_samples images
            As in :meth:`transform`.

        Returns
        -------
        ndarray of shape (n_samples,), int64
        """
        check_is_fitted(self)
        known, _, _ = self._resolve(tags)
        given = encode_tags(tags, name="tags").indicator
        return np.diff(given.indptr).astype(np.int64) - np.diff(known.indptr)

    def _resolve(self, tags: Any) -> tuple[sp.csr_array, NDArray[np.float32], Unknown]:
        """Indicator of the tags that have codes, their codes, and the other tags.

        New words that own vectors know are coded like the tags of ``fit``.
        """
        indicator, new, unknown = self._embedding.resolve(tags)
        codes = self.tag_codes_.toarray()
        if len(new):
            atoms = self.components_.astype(np.float64)
            more = encode((new - self.mean_).astype(np.float64), atoms, self.alpha_, self.algorithm)
            codes = np.concatenate([codes, more.astype(np.float32)])
        return indicator, codes, unknown

    def smooth(self, Z: ArrayLike | sp.csr_array, beta: float) -> NDArray[np.float64]:
        """Smooth sem-vectors over sem-words that often occur together.

        This adds meaning that is missing in the tags. For each sem-vector, the
        result is the minimiser over zh of ``1/2 ||zh - z||^2 + beta/2 zh' L zh``
        (Eqs. 3 and 5). It is ``(I + beta L)^-1 z``, where L is ``laplacian_``.

        Parameters
        ----------
        Z : array-like or sparse array of shape (n_samples, n_components_)
            Sem-vectors.
        beta : float
            Strength, at least 0, on the scale of the inverse eigenvalues of
            ``laplacian_``.

        Returns
        -------
        ndarray of shape (n_samples, n_components_), float64
            Dense, because the smoothing makes all values nonzero.
        """
        check_is_fitted(self)
        if not beta >= 0:
            raise ValueError(f"beta must be at least 0, got {beta}.")
        Z = check_array(Z, accept_sparse="csr", dtype=np.float64)
        if Z.shape[1] != self.n_components_:
            raise ValueError(f"Z has {Z.shape[1]} columns, expected {self.n_components_}.")
        dense = Z.toarray() if sp.issparse(Z) else Z
        system = np.eye(self.n_components_) + beta * self.laplacian_
        return scipy.linalg.solve(system, dense.T, assume_a="pos").T

    def top_tags(self, component: int, n_tags: int = 10) -> list[tuple[Any, float]]:
        """The tags with the strongest codes in a sem-word.

        Parameters
        ----------
        component : int
            Number of the sem-word, from 0.
        n_tags : int, default=10
            Maximum number of tags. Tags that do not use the sem-word are
            omitted.

        Returns
        -------
        list of (tag, code)
            In order of decreasing size of the code, which may be negative.
        """
        check_is_fitted(self)
        if not 0 <= component < self.n_components_:
            raise ValueError(
                f"component must be from 0 to {self.n_components_ - 1}, got {component}."
            )
        codes = self.tag_codes_[:, [component]].toarray().ravel()
        return self._ranked(codes, np.abs(codes), n_tags)

    def similar_tags(self, tag: Any, n_tags: int = 10) -> list[tuple[Any, float]]:
        """The tags whose codes are most similar to the code of a tag.

        Parameters
        ----------
        tag : str or number
            A tag of ``vocabulary_``.
        n_tags : int, default=10
            Maximum number of tags.

        Returns
        -------
        list of (tag, similarity)
            In order of decreasing cosine similarity of codes. Tags that share no
            sem-word with the tag are omitted.
        """
        check_is_fitted(self)
        wanted = clean_tag(tag) if isinstance(tag, str) else tag
        place = np.flatnonzero(self.vocabulary_ == wanted)
        if not len(place):
            raise ValueError(f"tag {tag!r} is not in the vocabulary of this SemanticSpace.")
        codes = self.tag_codes_
        lengths = np.sqrt((codes * codes).sum(axis=1))
        products = (codes @ codes[place].T).toarray().ravel()
        cosines = products / np.maximum(lengths * lengths[place], np.finfo(np.float32).tiny)
        cosines[place] = 0
        return self._ranked(cosines, cosines, n_tags)

    def _ranked(
        self, values: NDArray[Any], keys: NDArray[Any], n_tags: int
    ) -> list[tuple[Any, float]]:
        """Tags and values in order of decreasing key, where the key is positive."""
        order = np.argsort(-keys, kind="stable")[:n_tags]
        order = order[keys[order] > 0]
        return list(zip(self.vocabulary_[order].tolist(), values[order].tolist(), strict=True))

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _as_sparse(vectors: SemVectors) -> sp.csr_array:
    """All sem-vectors as a CSR array.

    At least a third of their values are nonzero. So this function is several
    times faster than a product of sparse arrays, although it computes the
    sem-vectors twice, first to find where each row begins. Its columns are
    sorted.
    """
    indptr = np.zeros(len(vectors) + 1, dtype=np.int64)
    for block, Z in enumerate(vectors.blocks()):
        row = block * _BLOCK + 1
        indptr[row : row + len(Z)] = np.count_nonzero(Z, axis=1)
    np.cumsum(indptr, out=indptr)
    data = np.empty(indptr[-1], dtype=np.float32)
    indices = np.empty(indptr[-1], dtype=np.int32)
    columns = np.tile(np.arange(vectors.shape[1], dtype=np.int32), _BLOCK)
    for block, Z in enumerate(vectors.blocks()):
        row = block * _BLOCK
        places = slice(indptr[row], indptr[row + len(Z)])
        present = np.flatnonzero(Z != 0)
        # "clip", because with the default mode numpy uses a buffer.
        np.take(Z, present, out=data[places], mode="clip")
        np.take(columns, present, out=indices[places], mode="clip")
    return sp.csr_array((data, indices, indptr), vectors.shape)


def _laplacian(R: NDArray[np.float64], *, normalized: bool) -> NDArray[np.float64]:
    degrees = R.sum(axis=1)
    if not normalized:
        return np.diag(degrees) - R
    # A sem-word that never occurs with another has no edge: its row is zero.
    scale = np.divide(1, np.sqrt(degrees), out=np.zeros_like(degrees), where=degrees > 0)
    return np.diag((degrees > 0).astype(float)) - scale[:, None] * R * scale

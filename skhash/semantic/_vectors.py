"""Vectors of tags: trained by word2vec, or looked up in given ones."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import IO, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .._files import open_regular
from ..tags import clean_tag

# Pairs of tags in training per tag of the vocabulary, if the number of epochs is not given. On MIR
# Flickr this gives 5 to 6 epochs; with more, sem-vectors get worse.
_PAIRS_PER_TAG = 2_000
_MAX_EPOCHS = 100
# gensim ignores the rest of a longer list.
_MAX_LIST = 10_000


def train_tag_vectors(
    indicator: sp.csr_array,
    *,
    vector_size: int,
    window: int | None,
    epochs: int | None,
    seed: int,
) -> NDArray[np.float32]:
    """Skip-gram vectors of tags that occur at least once, by gensim.

    Every pair of tags of an image is a context pair, in any order. The result
    depends only on the arguments: there is one worker, and gensim draws the
    first vectors by the number of a tag, not by its hash.
    """
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise ImportError(
            'embedding="word2vec" needs gensim, which is not installed; install it, or use '
            'embedding="ppmi", which does not need it.'
        ) from error

    n_tags = indicator.shape[1]
    lengths = np.diff(indicator.indptr).astype(np.int64)
    longest = int(lengths.max())
    contexts = lengths - 1 if window is None else np.minimum(lengths - 1, 2 * window)
    n_pairs = int((lengths * contexts).sum())
    if epochs is None:
        wanted = -(-_PAIRS_PER_TAG * n_tags // max(n_pairs, 1))
        epochs = min(max(wanted, 1), _MAX_EPOCHS)
    model = Word2Vec(
        _TagLists(indicator),
        sg=1,
        vector_size=vector_size,
        window=longest if window is None else window,
        # Lists have no order, so a distant tag is a context like the next one.
        shrink_windows=False,
        min_count=1,
        # Frequent tags are subsampled. gensim's default threshold is made for the vocabulary of a
        # language; it would remove almost all of a small vocabulary.
        sample=max(1e-3, 1 / n_tags),
        epochs=epochs,
        seed=seed,
        workers=1,
    )
    order = [model.wv.key_to_index[str(column)] for column in range(n_tags)]
    return np.asarray(model.wv.vectors[order], dtype=np.float32)


class _TagLists:
    """The lists of tags of an indicator, for gensim, which iterates over them in each epoch.

    Tags are represented by the numbers of their columns. So the result does not
    depend on the form of the tags or on their order within an image.
    """

    def __init__(self, indicator: sp.csr_array) -> None:
        self.indicator = indicator
        self.names = np.array([str(column) for column in range(indicator.shape[1])], dtype=object)

    def __iter__(self) -> Iterator[list[str]]:
        indices, indptr = self.indicator.indices, self.indicator.indptr.tolist()
        for start, stop in pairwise(indptr):
            for first in range(start, stop, _MAX_LIST):
                yield self.names[indices[first : min(stop, first + _MAX_LIST)]].tolist()


def look_up_tag_vectors(
    vocabulary: NDArray[Any], source: Any, *, name: str = "embedding"
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors of the tags that a source contains, and which tags these are.

    Parameters
    ----------
    vocabulary : ndarray of shape (n_tags,)
        Tags. A tag that is not a str is looked up as it is, then as ``str(tag)``.
    source : mapping from tags to vectors, gensim KeyedVectors, path or callable
        See :class:`SemanticSpace`.
    name : str, default="embedding"
        Name of the source in messages, if it is not a path.

    Returns
    -------
    vectors : ndarray of shape (n_known, n_dimensions), float32
    known : ndarray of shape (n_tags,), bool

    Raises
    ------
    ValueError
        If vectors differ in length or are not finite, or the callable does not
        return one for each tag.
    """
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        source = _read_text_vectors(name, {str(tag) for tag in vocabulary.tolist()})
    elif callable(source) and not hasattr(source, "__getitem__"):
        return _call(source, [str(tag) for tag in vocabulary.tolist()], name)
    vectors, known = [], np.zeros(len(vocabulary), dtype=bool)
    keys = getattr(source, "key_to_index", source if isinstance(source, Mapping) else ())
    spellings = {clean_tag(key): key for key in keys if isinstance(key, str)}
    for j, tag in enumerate(vocabulary.tolist()):
        key = tag if isinstance(tag, str) or tag in source else str(tag)
        if key not in source:
            key = spellings.get(key, key)
        if key in source:
            known[j] = True
            vectors.append(_as_numbers(source[key], name))
    if not vectors:
        return np.zeros((0, 1), np.float32), known
    if len({vector.shape for vector in vectors}) > 1 or vectors[0].ndim != 1 or not vectors[0].size:
        raise ValueError(f"{name} must hold one-dimensional vectors of the same length.")
    return _check_finite(np.stack(vectors), name), known


def _call(
    encode: Callable[[list[str]], Any], words: list[str], name: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors of words from a user's function, which gives a vector for every word."""
    if not words:
        return np.zeros((0, 1), np.float32), np.zeros(0, dtype=bool)
    vectors = _as_numbers(encode(words), name)
    if vectors.ndim != 2 or len(vectors) != len(words) or not vectors.size:
        raise ValueError(
            f"{name} must return one vector for each word of a list of str, here an array of shape "
            f"({len(words)}, n_dimensions); it returned an array of shape {vectors.shape}."
        )
    return _check_finite(vectors, name), np.ones(len(words), dtype=bool)


def _as_numbers(values: Any, name: str) -> NDArray[np.float32]:
    try:
        return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must give vectors of numbers of the same length: {error}"
        ) from error


def _check_finite(vectors: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        raise ValueError(
            f"{name} holds vectors with NaN or infinite values; remove the words with such vectors."
        )
    return vectors


@contextmanager
def _open_text(path: str) -> Iterator[IO[str]]:
    with ExitStack() as stack:
        file: Any = stack.enter_context(open_regular(path))
        if path.endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        yield stack.enter_context(io.TextIOWrapper(file, encoding="utf-8-sig", newline="\n"))


def _read_text_vectors(path: str, wanted: set[str]) -> dict[str, NDArray[np.float32]]:
    """The wanted vectors of a text file; for a repeated word the first vector.

    A line is a word and its numbers, separated by spaces. word2vec writes the
    number of words and of dimensions into a first line, GloVe does not.
    """
    found: dict[str, NDArray[np.float32]] = {}
    n_dimensions = None
    with _open_text(path) as file:
        try:
            for number, line in enumerate(file, 1):
                line = line.strip(" \r\n")
                if number == 1 and (header := re.fullmatch(r"\d+[ \t](\d{1,9})", line)):
                    n_dimensions = int(header[1])
                    continue
                if n_dimensions is None:
                    n_dimensions = len(line.split(" ")) - 1
                # From the right, because a word may hold spaces.
                word, *numbers = line.rsplit(" ", n_dimensions)
                word = clean_tag(word)
                if word not in wanted or word in found:
                    continue
                try:
                    found[word] = np.array(numbers, dtype=np.float32)
                except ValueError:
                    found[word] = np.empty(0, np.float32)
                if len(found[word]) != n_dimensions or n_dimensions == 0:
                    raise ValueError(
                        f"{path}, line {number}: expected a word and {n_dimensions} numbers "
                        "(the text format of word2vec or GloVe)."
                    )
        except UnicodeDecodeError:
            raise ValueError(
                f"{path} is not UTF-8 text; load a binary file with gensim's "
                "KeyedVectors.load_word2vec_format(path, binary=True) and give the result."
            ) from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{path} is cut off, damaged or not gzip ({error}); get the file again."
            ) from None
    return found

"""From whatever a user calls tags to a sparse indicator matrix and its vocabulary."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

__all__ = ["TagMatrix", "encode_tags", "project_tags", "share_any", "tfidf"]

_FORMS = (
    "a sequence with one list of str per image, a 1-D sequence of one tag each, "
    "or an indicator array or sparse matrix of 0 and 1 of shape (n_samples, n_tags)"
)


@dataclass(frozen=True)
class TagMatrix:
    """Tags of a set of images, as :func:`encode_tags` returns them.

    Attributes
    ----------
    indicator : csr_array of shape (n_samples, n_tags), float32
        1 where an image has a tag; sorted indices, no explicit zeros.
    vocabulary : ndarray of shape (n_tags,)
        The tag of each column: sorted str (dtype object) or numbers, or the
        column names or numbers of an indicator.
    n_unknown : int
        How many tags were ignored because a given vocabulary lacks them
        (counted once per image).
    """

    indicator: sp.csr_array
    vocabulary: NDArray[Any]
    n_unknown: int = 0

    @property
    def n_samples(self) -> int:
        """Number of images."""
        return int(self.indicator.shape[0])


def encode_tags(
    tags: Any,
    *,
    vocabulary: ArrayLike | None = None,
    n_samples: int | None = None,
    name: str = "y",
) -> TagMatrix:
    """Turn tags into a sparse indicator matrix and its vocabulary.

    Parameters
    ----------
    tags : sequence, array, data frame or sparse matrix
        One of

        - a sequence with one collection of str per image (list, tuple, set or
          array; None or an empty one for an image without tags);
        - a 1-D sequence with one tag per image, all str or all finite numbers
          (None: no tag);
        - an indicator of 0 and 1, shape (n_samples, n_tags): nested lists of
          numbers, array, sparse matrix or data frame. The columns of a data
          frame name the tags, else their numbers do.
    vocabulary : array-like of shape (n_tags,), default=None
        Columns of the result. Tags it lacks are ignored and counted in
        ``n_unknown``. A data frame is matched to it by its column names; any
        other indicator must have these columns. If None, the vocabulary is
        the sorted set of tags that occur.
    n_samples : int, default=None
        The number of images expected.
    name : str, default="y"
        How error messages call the argument.

    Returns
    -------
    TagMatrix
        The indicator, its vocabulary, and the number of unknown tags.

    Raises
    ------
    TypeError
        For a bare string, a collection without order or length, a row that is
        neither a tag nor a collection of tags, or tags that are not str.
    ValueError
        For a wrong number of rows or columns, an empty tag, NaN, an indicator
        with other values than 0 and 1, or a vocabulary that repeats a tag.

    Examples
    --------
    >>> from skhash.tags import encode_tags
    >>> encoded = encode_tags([["cat", "sofa"], [], ["cat"]])
    >>> encoded.vocabulary.tolist()
    ['cat', 'sofa']
    >>> encoded.indicator.toarray()
    array([[1., 1.],
           [0., 0.],
           [1., 0.]], dtype=float32)
    """
    known = None if vocabulary is None else _check_vocabulary(vocabulary)
    if isinstance(tags, TagMatrix):
        if known is None or np.array_equal(tags.vocabulary, known):
            _check_length(tags.n_samples, n_samples, name)
            return tags
        raise ValueError(f"{name} was encoded with another vocabulary; pass the tags themselves.")
    if hasattr(tags, "__array__") and not isinstance(tags, str | bytes) and not _is_frame(tags):
        tags = np.asarray(tags)  # a series, a tensor
    is_sequence = sp.issparse(tags) or (hasattr(tags, "__len__") and hasattr(tags, "__getitem__"))
    if isinstance(tags, str | bytes | dict) or not is_sequence:
        raise TypeError(f"{name} must be {_FORMS}, got {type(tags).__name__}.")
    indicator = _as_indicator(tags, name)
    if indicator is None:
        rows = _as_tag_rows(tags, name)
        _check_length(len(rows), n_samples, name)
        return _index_rows(rows, known)
    _check_length(indicator.shape[0], n_samples, name)
    n_columns = indicator.shape[1]
    if _is_frame(tags):
        columns = _check_vocabulary(tags.columns, name=f"{name}.columns")
        return TagMatrix(indicator, columns) if known is None else _align(indicator, columns, known)
    if known is None:
        known = np.arange(n_columns)
    elif n_columns != len(known):
        raise ValueError(f"{name} is an indicator of {n_columns} tags, expected {len(known)}.")
    return TagMatrix(indicator, known)


def _is_frame(tags: Any) -> bool:
    return hasattr(tags, "columns") and hasattr(tags, "to_numpy")


def _check_vocabulary(vocabulary: ArrayLike, name: str = "vocabulary") -> NDArray[Any]:
    known = np.asarray(vocabulary)
    if known.ndim != 1:
        raise TypeError(f"{name} must be a 1-D sequence of tags, got {type(vocabulary).__name__}.")
    if len(set(known.tolist())) < len(known):
        raise ValueError(f"{name} names a tag twice; give every column its own tag.")
    return known


def _check_length(n_rows: int, n_samples: int | None, name: str) -> None:
    if n_samples is not None and n_rows != n_samples:
        raise ValueError(
            f"{name} has tags for {n_rows} images, expected {n_samples}: "
            "give one row per image, an empty one for an image without tags."
        )


def _as_indicator(tags: Any, name: str) -> sp.csr_array | None:
    """The indicator that ``tags`` is, or None if it is something else."""
    if sp.issparse(tags) and tags.ndim != 2:
        raise ValueError(f"{name} must be {_FORMS}, got a sparse array of shape {tags.shape}.")
    source = tags if sp.issparse(tags) else _as_numbers(tags, name)
    if source is None:
        return None
    matrix = sp.csr_array(source).astype(np.float32)  # a copy: the user's stays as it is
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if np.isnan(matrix.data).any():
        raise ValueError(f"{name} contains NaN; an image without a tag has 0.")
    if (matrix.data != 1).any():
        raise ValueError(
            f"{name} is an indicator and must hold only 0 and 1 (no counts, weights or "
            f"negative values); pass `({name} > 0)` if that is what you mean."
        )
    return matrix


def _as_numbers(tags: Any, name: str) -> NDArray[Any] | None:
    """A 2-D array of numbers, or None if ``tags`` are something else."""
    if _is_frame(tags):
        dense = tags.to_numpy()
    elif isinstance(tags, np.ndarray):
        dense = tags
    else:
        first = next((row for row in tags if row is not None), None)
        if (
            not isinstance(first, list | tuple | np.ndarray)
            or not len(first)
            or not all(isinstance(value, numbers.Number | np.bool_) for value in first)
        ):
            return None
        try:
            dense = np.asarray(tags)
        except ValueError:
            raise TypeError(
                f"{name} has rows of numbers of different lengths; it must be {_FORMS}."
            ) from None
    if dense.ndim == 0 or dense.ndim > 2:
        raise ValueError(f"{name} must be {_FORMS}, got an array of {dense.ndim} dimensions.")
    if dense.ndim == 1:
        return None
    # The str "1" would become a number, but is a tag.
    if dense.dtype.kind in "buifO" and not any(isinstance(value, str) for value in dense.flat[:1]):
        try:
            return dense.astype(np.float32, copy=False)
        except (TypeError, ValueError):  # objects that are not numbers
            pass
    if _is_frame(tags):
        raise TypeError(
            f"{name} is a data frame with columns that are not numbers; it must be {_FORMS}. "
            "Pass one column, as a list, if that one holds the tags."
        )
    return None  # rows of str, if the check of rows finds nothing else


def _as_tag_rows(tags: Any, name: str) -> list[Iterable[Any]]:
    """One collection of tags per image, each tag checked."""
    rows: list[Iterable[Any]] = []
    kinds = set()
    for i, row in enumerate(tags.tolist() if isinstance(tags, np.ndarray) else tags):
        if isinstance(row, np.ndarray):
            row = row.tolist()
        if row is None:
            rows.append(())
        elif isinstance(row, str):
            kinds.add("str")
            if not row:
                raise ValueError(
                    f"{name}[{i}] is an empty tag; use None for an image without tags."
                )
            rows.append((row,))
        elif isinstance(row, numbers.Real):
            kinds.add("number")
            if not math.isfinite(row):
                raise ValueError(f"{name}[{i}] is {row}; use None or [] for an image without tags.")
            rows.append((row,))
        elif isinstance(row, list | tuple | set | frozenset):
            kinds.add("collection")
            for tag in row:
                if not isinstance(tag, str):
                    raise TypeError(f"{name}[{i}] holds {tag!r}; tags in a collection must be str.")
                if not tag:
                    raise ValueError(
                        f"{name}[{i}] holds an empty tag; use [] for an image without tags."
                    )
            rows.append(row)
        else:
            raise TypeError(f"{name}[{i}] is {type(row).__name__}; {name} must be {_FORMS}.")
    if len(kinds) > 1:
        raise TypeError(f"{name} mixes {' and '.join(sorted(kinds))}; it must be {_FORMS}.")
    return rows


def _index_rows(rows: list[Iterable[Any]], known: NDArray[Any] | None) -> TagMatrix:
    if known is None:
        ordered = sorted({tag for row in rows for tag in row})
        is_str = not ordered or isinstance(ordered[0], str)
        known = np.asarray(ordered, dtype=object if is_str else None)
    column_of = {tag: j for j, tag in enumerate(known.tolist())}
    indices: list[int] = []
    indptr = [0]
    n_unknown = 0
    for row in rows:
        distinct = set(row)
        found = sorted(column_of[tag] for tag in distinct if tag in column_of)
        n_unknown += len(distinct) - len(found)
        indices += found
        indptr.append(len(indices))
    indicator = sp.csr_array(
        (np.ones(len(indices), np.float32), np.asarray(indices, np.int32), np.asarray(indptr)),
        shape=(len(rows), len(known)),
    )
    return TagMatrix(indicator, known, n_unknown)


def _align(indicator: sp.csr_array, columns: NDArray[Any], known: NDArray[Any]) -> TagMatrix:
    """The columns of an indicator in the order of a vocabulary, others counted as unknown."""
    column_of = {tag: j for j, tag in enumerate(known.tolist())}
    target = np.array([column_of.get(tag, -1) for tag in columns.tolist()], dtype=np.int32)
    kept = np.flatnonzero(target >= 0)
    selection = sp.csr_array(
        (np.ones(len(kept), np.float32), (kept, target[kept])), shape=(len(columns), len(known))
    )
    aligned = sp.csr_array(indicator @ selection)
    aligned.sort_indices()
    return TagMatrix(aligned, known, int(indicator.nnz - aligned.nnz))


def tfidf(indicator: sp.csr_array) -> sp.csr_array:
    """Weight tags by their rarity and give every image unit length.

    The weight of a tag is the smoothed inverse document frequency
    ``log((1 + n) / (1 + df)) + 1``, as in scikit-learn; rows are then scaled to
    Euclidean norm 1. Rows without tags stay zero.

    Parameters
    ----------
    indicator : csr_array of shape (n_samples, n_tags)
        Values 0 and 1.

    Returns
    -------
    csr_array of shape (n_samples, n_tags), float32

    Raises
    ------
    TypeError
        If ``indicator`` is not sparse.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    _check_sparse(indicator, "indicator")
    if 0 in indicator.shape:
        return sp.csr_array(indicator.shape, dtype=np.float32)
    return sp.csr_array(TfidfTransformer().fit_transform(indicator)).astype(np.float32)


def share_any(A: sp.csr_array, B: sp.csr_array) -> sp.csr_array:
    """Which images share at least one tag.

    Parameters
    ----------
    A : csr_array of shape (n_a, n_tags)
        Indicator of the first images.
    B : csr_array of shape (n_b, n_tags)
        Indicator of the second images, over the same tags.

    Returns
    -------
    csr_array of shape (n_a, n_b), bool
        True where an image of A and one of B share a tag.

    Raises
    ------
    TypeError
        If A or B is not sparse.
    ValueError
        If they have different numbers of columns.
    """
    _check_sparse(A, "A")
    _check_sparse(B, "B")
    if A.shape[1] != B.shape[1]:
        raise ValueError(
            f"A and B have {A.shape[1]} and {B.shape[1]} tags; encode both with one vocabulary."
        )
    shared = sp.csr_array(A.astype(np.float32) @ B.T.astype(np.float32))
    return shared.astype(bool)


def project_tags(matrix: sp.csr_array, max_columns: int, random_state: Any = None) -> sp.csr_array:
    """Bound the number of columns of a matrix of tags, so that what follows scales.

    More than ``max_columns`` are replaced by a count sketch: every tag is added
    with a random sign to a random column, which keeps inner products in
    expectation.

    Parameters
    ----------
    matrix : csr_array of shape (n_samples, n_tags)
        Tags, weighted or not.
    max_columns : int
        Most columns of the result.
    random_state : int, RandomState instance or None, default=None
        Draws the projection.

    Returns
    -------
    csr_array of shape (n_samples, min(n_tags, max_columns)), float32

    Raises
    ------
    TypeError
        If ``matrix`` is not sparse.
    """
    _check_sparse(matrix, "matrix")
    n_tags = matrix.shape[1]
    if n_tags <= max_columns:
        return matrix.astype(np.float32)
    rng = check_random_state(random_state)
    signs = rng.choice(np.array([-1, 1], np.float32), n_tags)
    columns = rng.randint(max_columns, size=n_tags)
    sketch = sp.csr_array((signs, columns, np.arange(n_tags + 1)), shape=(n_tags, max_columns))
    return sp.csr_array(matrix @ sketch).astype(np.float32)


def _check_sparse(matrix: Any, name: str) -> None:
    if not sp.issparse(matrix):
        raise TypeError(
            f"{name} must be a sparse indicator, got {type(matrix).__name__}; "
            "encode_tags makes one of tags in any form."
        )

"""Tags in any form of users, as a sparse indicator matrix and its vocabulary."""

from __future__ import annotations

import math
import numbers
import re
import sys
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state, check_scalar

from ._tag_forms import group_tags, plain_case

__all__ = ["TagMatrix", "clean_tag", "encode_tags", "project_tags", "share_any", "tfidf"]

_FORMS = (
    "a sequence with one list of str per image, a 1-D sequence of one tag each, "
    "or an indicator array or sparse matrix of 0 and 1 of shape (n_samples, n_tags)"
)
MAX_TAG_LENGTH = 1000  # of a tag, in characters
# Invisible characters: control characters that are not spaces, the soft hyphen, marks of direction,
# zero-width spaces. Joiners stay inside a word, where scripts and emoji need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)
_JOINERS = "\u200c\u200d"
_SEPARATORS = {sep: f"split({sep!r})" for sep in (",", ";", "|", "\u3001", "\uff0c")} | {
    "#": "replace('#', ' ').split()",
    " ": "split()",
}
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_MIXED_CASE = 0.05  # share of the vocabulary
_STOPPED = object()  # replaces a stopped tag; no vocabulary has it


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
        Number of tags that were left out because a given vocabulary lacks
        them, or by ``stop_tags`` or ``min_count`` (counted once per image).
    """

    indicator: sp.csr_array
    vocabulary: NDArray[Any]
    n_unknown: int = 0

    @property
    def n_samples(self) -> int:
        """Number of images."""
        return int(self.indicator.shape[0])


def clean_tag(tag: str) -> str:
    """Clean a tag, so that tags that look the same are the same.

    The result has Unicode form NFC, no spaces around it, single spaces inside,
    and no invisible characters. Upper and lower case are kept.

    Parameters
    ----------
    tag : str
        A tag as a user typed it.

    Returns
    -------
    str
        The clean tag, which may be empty.

    Examples
    --------
    >>> from skhash.tags import clean_tag
    >>> clean_tag("  new   york ")
    'new york'
    """
    tag = str.__str__(tag)  # of NumPy's str, or a member of an enumeration
    if tag.isascii() and tag.isalnum():  # most tags
        return tag
    if not tag.isprintable():
        tag = _INVISIBLE.sub("", tag)
    tag = " ".join(tag.split())
    if tag.isascii():
        return tag
    return unicodedata.normalize("NFC", tag.strip(_JOINERS + " "))


def encode_tags(
    tags: Any,
    *,
    vocabulary: ArrayLike | None = None,
    n_samples: int | None = None,
    name: str = "y",
    normalize: str | None = None,
    stop_tags: Collection[str] = (),
    min_count: int = 1,
) -> TagMatrix:
    """Turn tags into a sparse indicator matrix and its vocabulary.

    Parameters
    ----------
    tags : sequence, array, data frame or sparse matrix
        One of

        - a sequence with one collection of str per image (list, tuple, set or
          array; None or an empty one for an image without tags);
        - a 1-D sequence with one tag per image, all str or all finite numbers
          (None: no tag). Among whole numbers, -1 means no tag, like unlabelled
          samples in scikit-learn;
        - an indicator of 0 and 1, shape (n_samples, n_tags): nested lists of
          numbers, array, sparse matrix or data frame. The column names of a
          data frame are the tags, otherwise the column numbers. An indicator
          of a single tag must be sparse, or a data frame with a named column:
          a column of numbers may also be classes.
    vocabulary : array-like of shape (n_tags,), default=None
        Columns of the result. Other tags are ignored and counted in
        ``n_unknown``. A data frame is matched to it by column names; any other
        indicator must have these columns. If None, the vocabulary is the
        sorted set of tags that occur.
    n_samples : int, default=None
        Expected number of images.
    name : str, default="y"
        Name of the argument in error messages.
    normalize : {"case", "forms"} or None, default=None
        Which tags are merged. None: tags that look the same. "case": also tags
        that differ in case or in compatible forms of letters (NFKC); they
        become lower case. "forms": also joined words (new york, new-york,
        newyork) and English plurals (cats, cat), if both forms occur. The most
        used form becomes the tag, or the form in ``vocabulary``.
    stop_tags : collection of str, default=()
        Tags to leave out, in all forms that ``normalize`` merges.
    min_count : int, default=1
        Tags of fewer images are left out; tags are counted after forms are
        merged. All tags of a given vocabulary are kept.

    Returns
    -------
    TagMatrix
        The indicator, its vocabulary, and the number of tags left out.

    Raises
    ------
    TypeError
        For a bare string, a collection without order or length, a row that is
        neither a tag nor a collection of tags, or tags that are not str.
    ValueError
        For a wrong number of rows or columns, an empty tag, NaN, masked
        entries, an indicator with other values than 0 and 1, a column of
        numbers, a sequence of only -1 and 1, or a vocabulary that repeats a
        tag.

    Warns
    -----
    UserWarning
        If a str seems to contain several tags, or many tags differ from
        another tag only in case.

    Notes
    -----
    Tags of str are compared after :func:`clean_tag`, so words that look the
    same are the same. Sunset and sunset are two tags, unless ``normalize`` is
    "case" or "forms". This is not the default, because labels are encoded here
    too, and because it does not help for clean tags: on MIR Flickr, whose tags
    are in lower case, "forms" does not change the mean average precision of
    :class:`skhash.TagITQ` (16 bits .731 and .732, 64 bits .745 and .745). If
    the same tags are written carelessly, "forms" recovers the loss (.726 and
    .733, .741 and .745). A missing value of pandas among str or lists is an
    image without tags. If ``vocabulary`` contains -1, it is a class.

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
    >>> raw = [["Cat", "New York"], ["cats", "newyork"], ["cat"]]
    >>> encode_tags(raw, normalize="forms").vocabulary.tolist()
    ['cat', 'new york']
    """
    known = None if vocabulary is None else _check_vocabulary(vocabulary, "vocabulary")
    stop_tags = _check_cleaning(normalize, stop_tags, min_count)
    if normalize is None and not stop_tags and min_count == 1:
        return _encode(tags, known, n_samples, name)
    raw = _encode(tags, None, n_samples, name, mixed_case=normalize is None)
    return _clean(raw, known, normalize, stop_tags, min_count, name)


def _check_cleaning(normalize: Any, stop_tags: Any, min_count: Any) -> set[str]:
    """Check the options of :func:`encode_tags` for cleaning; return the clean stop tags."""
    if normalize not in (None, "case", "forms"):
        raise ValueError(f'normalize must be "case", "forms" or None, got {_shown(normalize)}.')
    if isinstance(stop_tags, str) or not all(isinstance(tag, str) for tag in stop_tags):
        raise TypeError(f"stop_tags must be a collection of str, got {_shown(stop_tags)}.")
    check_scalar(min_count, "min_count", numbers.Integral, min_val=1)
    return {clean_tag(tag) for tag in stop_tags}


def _clean(
    raw: TagMatrix,
    known: NDArray[Any] | None,
    normalize: str | None,
    stop_tags: set[str],
    min_count: int,
    name: str,
) -> TagMatrix:
    """Merge the columns of tags that are forms of the same tag, and leave out others."""
    words, vocabulary = raw.vocabulary.tolist(), raw.vocabulary
    wanted = [] if known is None else known.tolist()
    forms = words
    if normalize is not None or stop_tags:
        if not all(isinstance(tag, str) for tag in (*words, *wanted)):
            raise TypeError(f"normalize and stop_tags are for tags of str; {name} has other tags.")
        groups = group_tags({*words, *wanted, *stop_tags}, normalize)
        if normalize is not None:
            forms = _choose_forms(raw, wanted, groups)
            distinct = sorted(set(forms))
            vocabulary = np.empty(len(distinct), dtype=object)
            vocabulary[:] = distinct
        stopped = {groups[tag] for tag in stop_tags}
        stop_tags = {
            form for word, form in zip(words, forms, strict=True) if groups[word] in stopped
        }
    tags = vocabulary.tolist()
    column_of = {tag: column for column, tag in enumerate(tags)}
    selection = sp.csr_array(
        (
            np.ones(len(forms), np.float32),
            [column_of[form] for form in forms],
            np.arange(len(forms) + 1),
        ),
        shape=(len(forms), len(tags)),
    )
    merged = sp.csr_array(raw.indicator @ selection)
    merged.data[:] = 1  # of an image with two forms of a tag
    is_stopped = np.array([tag in stop_tags for tag in tags], dtype=bool)
    if known is None:
        known = vocabulary[(np.asarray(merged.sum(axis=0)) >= min_count) & ~is_stopped]
    columns = np.empty(len(tags), dtype=object)
    columns[:] = tags
    columns[is_stopped] = _STOPPED
    return _align(merged, columns, known)


def _choose_forms(raw: TagMatrix, wanted: list[str], groups: dict[str, str]) -> list[str]:
    """The form that each tag gets: a wanted one, or otherwise the most used of its group."""
    form_of = {groups[tag]: tag for tag in reversed(wanted)}
    words = raw.vocabulary.tolist()
    uses: Counter[tuple[str, str]] = Counter()
    for word, n in zip(words, np.asarray(raw.indicator.sum(axis=0)), strict=True):
        uses[groups[word], plain_case(word)] += n
    for group, form in sorted(uses, key=lambda use: (-uses[use], use)):
        form_of.setdefault(group, form)
    as_it_is = set(wanted)
    return [word if word in as_it_is else form_of[groups[word]] for word in words]


def _encode(
    tags: Any,
    known: NDArray[Any] | None,
    n_samples: int | None,
    name: str,
    mixed_case: bool = True,
) -> TagMatrix:
    """Encode tags as they are; ``mixed_case`` warns of those that differ only in case."""
    if isinstance(tags, TagMatrix):
        _check_length(tags.n_samples, n_samples, name)
        if known is None or np.array_equal(tags.vocabulary, known):
            return tags
        return _align(tags.indicator, tags.vocabulary, known)
    columns = _column_names(tags)
    if columns is not None:
        columns = _check_vocabulary(columns, f"{name}.columns")
    source = _open(tags, name)
    indicator = _as_indicator(source, columns, name)
    if indicator is None:
        rows = _as_tag_rows(source, known, name)
        _check_length(len(rows), n_samples, name)
        if known is None:
            _warn_of_slips(rows, name, mixed_case)
        return _index_rows(rows, known)
    _check_length(indicator.shape[0], n_samples, name)
    n_columns = indicator.shape[1]
    if columns is not None:
        return TagMatrix(indicator, columns) if known is None else _align(indicator, columns, known)
    if known is None:
        known = np.arange(n_columns)
    elif n_columns != len(known):
        raise ValueError(f"{name} is an indicator of {n_columns} tags, expected {len(known)}.")
    return TagMatrix(indicator, known)


def _check_vocabulary(vocabulary: ArrayLike, name: str) -> NDArray[Any]:
    known = _to_array(vocabulary, name)
    values = known.tolist()
    if (
        known.ndim != 1
        or known.dtype.kind not in "buifUOT"
        or not all(isinstance(tag, str | tuple | None) or _is_number(tag) for tag in values)
    ):
        raise TypeError(
            f"{name} must be a 1-D sequence of tags, all str or all numbers, got "
            f"{type(vocabulary).__name__} {_shown(vocabulary)}."
        )
    if known.dtype.kind == "U" and not all(isinstance(tag, str) for tag in cast(Any, vocabulary)):
        raise TypeError(f"{name} mixes str and others; give all its tags as str.")
    if any(isinstance(tag, str) for tag in values):
        values = [clean_tag(tag) if isinstance(tag, str) else tag for tag in values]
        known = np.empty(len(values), dtype=object)
        known[:] = values
    if "" in values:
        raise ValueError(f"{name} holds an empty tag; give every column a tag.")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} names a tag twice; give every column a different tag.")
    return known


def _check_length(n_rows: int, n_samples: int | None, name: str) -> None:
    if n_samples is not None and n_rows != n_samples:
        raise ValueError(
            f"{name} has {n_rows} rows, expected {n_samples}: give one row per image, an empty one "
            "for an image without tags."
        )


def _column_names(tags: Any) -> Any:
    """Names of the columns of a data frame or table, None for anything else."""
    if hasattr(tags, "__array__"):
        for attribute in ("column_names", "columns"):  # pyarrow has both
            if hasattr(type(tags), attribute):  # of the type, not a column with this name
                return getattr(tags, attribute)
    return None


def _open(tags: Any, name: str) -> Any:
    """Tags as sparse matrix, array, or list of rows that are arrays or plain objects."""
    if sp.issparse(tags):
        return tags
    if hasattr(tags, "__array__") and not isinstance(tags, str | bytes):
        return _to_array(tags, name)  # a series, a tensor, a data frame
    is_sequence = hasattr(tags, "__len__") and hasattr(tags, "__getitem__")
    if isinstance(tags, str | bytes | dict) or not is_sequence:
        raise TypeError(f"{name} must be {_FORMS}, got {type(tags).__name__}.")
    return [_open_row(row, f"{name}[{i}]") for i, row in enumerate(tags)]


def _open_row(row: Any, name: str) -> Any:
    """A row as an array if it is or becomes one; a scalar of NumPy or torch as a number."""
    if isinstance(row, str | bytes) or not hasattr(row, "__array__"):
        return row
    array = _to_array(row, name)
    return array if array.ndim else row if array.dtype.kind in "mM" else array.item()


def _to_array(values: Any, name: str) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.is_masked(values):
            raise ValueError(f"{name} has masked entries; pass lists with None or [] for them.")
        return np.ma.getdata(values)
    try:
        return np.asarray(values)
    except Exception as error:  # of an unknown library
        raise TypeError(f"{name} does not become an array: {error}") from error


def _as_indicator(source: Any, columns: NDArray[Any] | None, name: str) -> sp.csr_array | None:
    """``source`` as an indicator, or None if it has rows of tags."""
    if sp.issparse(source):
        return _as_sparse_indicator(source, name)
    dense = source if isinstance(source, np.ndarray) else _stack_numbers(source, name)
    if dense is None:
        return None
    if dense.ndim == 0 or dense.ndim > 2:
        raise ValueError(f"{name} must be {_FORMS}, got an array of {dense.ndim} dimensions.")
    if dense.ndim == 1:
        return None
    if not _holds_numbers(dense, name):
        if columns is None:
            return None  # rows of str, unless the check of rows finds something else
        raise TypeError(
            f"{name} is a data frame with columns that are not numbers; it must be {_FORMS}. "
            "Pass one column, as a list, if that one holds the tags."
        )
    # Compared in its own dtype, in which nothing is rounded to 1.
    ones = np.asarray(dense == 1, dtype=bool)
    is_column = dense.shape[1] == 1
    if not (ones | np.asarray(dense == 0, dtype=bool)).all():
        raise _no_indicator(dense, name, is_column)
    if is_column and len(dense) and not (columns is not None and isinstance(columns[0], str)):
        raise ValueError(
            f"{name} is a column of 0 and 1, which may be classes or an indicator of one "
            f"tag: pass `np.ravel({name})` for classes, a sparse matrix or a data frame with a "
            "named column for an indicator."
        )
    return sp.csr_array(ones, dtype=np.float32)


def _as_sparse_indicator(source: Any, name: str) -> sp.csr_array:
    if source.ndim != 2:
        raise ValueError(f"{name} must be {_FORMS}, got a sparse array of shape {source.shape}.")
    kind = source.dtype.kind
    if kind not in "buif":
        raise TypeError(f"{name} must be {_FORMS}, got a sparse matrix of {source.dtype}.")
    # A copy: the user's stays as it is. In float64 duplicates add up without overflow.
    dtype = source.dtype if kind == "b" else np.result_type(source.dtype, np.float64)
    matrix = sp.csr_array(source.astype(dtype, copy=True))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if (matrix.data != 1).any():
        raise _no_indicator(matrix.data, name, source.shape[1] == 1)
    return matrix.astype(np.float32)


def _no_indicator(values: NDArray[Any], name: str, is_column: bool) -> ValueError:
    """The error about numbers that are not all 0 and 1."""
    if np.asarray(values != values, dtype=bool).any():
        return ValueError(f"{name} contains NaN; an image without a tag has 0.")
    remedy = f"pass `({name} > 0)` if that is what you mean"
    if is_column:
        remedy = f"pass `np.ravel({name})` if this column holds a class each"
    return ValueError(
        f"{name} is an indicator and must hold only 0 and 1 (no counts, weights or "
        f"negative values); {remedy}."
    )


def _stack_numbers(rows: list[Any], name: str) -> NDArray[Any] | None:
    """A list of rows of numbers as array, or None if the rows are something else."""
    first = next((row for row in rows if row is not None), None)
    if (
        not isinstance(first, list | tuple | np.ndarray)
        or not len(first)
        or not all(isinstance(value, numbers.Number | np.bool_) for value in first)
    ):
        return None
    try:
        return np.asarray(rows)
    except ValueError:
        raise TypeError(
            f"{name} has rows of numbers of different lengths; it must be {_FORMS}. "
            "Numbers of classes, some per image, must be str."
        ) from None
    except Exception:  # of a later row; the check of rows says which
        return None


def _holds_numbers(array: NDArray[Any], name: str) -> bool:
    if array.dtype.kind != "O":
        return array.dtype.kind in "buif"
    one_of_each = {type(value): value for value in array.ravel().tolist()}.values()
    others = [value for value in one_of_each if not _is_missing(value)]
    if not others or not all(map(_is_number, others)):
        return False
    if len(others) < len(one_of_each):
        raise ValueError(f"{name} contains NaN; an image without a tag has 0.")
    return True


def _is_number(value: Any) -> bool:
    """Whether a value is real and can be compared with all others; a span of time is not."""
    kinds = (int, float, np.bool_, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, np.timedelta64)


def _is_missing(value: Any) -> bool:
    """Whether a value is None or a missing value of pandas, except NaN of numbers."""
    pandas = sys.modules.get("pandas")  # imported, if there is a value of it
    return value is None or (pandas is not None and (value is pandas.NA or value is pandas.NaT))


def _as_tag_rows(source: Any, known: NDArray[Any] | None, name: str) -> list[Collection[Any]]:
    """One collection of tags per image, each tag checked and cleaned."""
    if isinstance(source, np.ndarray):
        if source.dtype.kind not in "buifUSOT":
            raise TypeError(f"{name} must be {_FORMS}, got an array of {source.dtype}.")
        source = source.tolist()
    cleaned: dict[str, str] = {}
    rows: list[Collection[Any]] = []
    kinds = set()
    nan = None
    for i, row in enumerate(source):
        place = f"{name}[{i}]"
        row = _open_row(row, place)
        if isinstance(row, np.ndarray):
            row = row.tolist()
        if _is_missing(row):
            rows.append(())
        elif isinstance(row, str):
            kinds.add("str")
            rows.append((_checked(row, cleaned, f"{place} is", "None"),))
        elif _is_number(row):
            if row != row:  # a missing value, if the others are not numbers
                nan = place if nan is None else nan
                rows.append(())
                continue
            kinds.add("number")
            _check_finite(row, place)
            rows.append((row,))
        elif isinstance(row, list | tuple | set | frozenset):
            kinds.add("collection")
            rows.append([_checked(tag, cleaned, f"{place} holds", "[]") for tag in row])
        else:
            raise TypeError(
                f"{place} is {type(row).__name__}; {name} must be {_FORMS}.{_remedy(row)}"
            )
    if nan is not None and not kinds & {"str", "collection"}:
        raise ValueError(f"{nan} is nan; use None or [] for an image without tags.")
    if len(kinds) > 1:
        raise TypeError(f"{name} mixes {' and '.join(sorted(kinds))}; it must be {_FORMS}.")
    return _without_unlabelled(rows, known, name) if kinds == {"number"} else rows


def _checked(tag: Any, cleaned: dict[str, str], where: str, nothing: str) -> str:
    """A tag after :func:`clean_tag`; ``cleaned`` holds those seen before.

    For messages, ``where`` begins a sentence about the tag, ``nothing`` is written for no tag.
    """
    if not isinstance(tag, str):
        raise TypeError(f"{where} {_shown(tag)}; tags in a collection must be str.{_remedy(tag)}")
    found = cleaned.get(tag)
    if found is None:
        if len(tag) > MAX_TAG_LENGTH:
            raise ValueError(
                f"{where} a tag of {len(tag)} characters, {_shown(tag)}; at most "
                f"{MAX_TAG_LENGTH} are allowed: give a list of tags, not a text."
            )
        found = cleaned[tag] = clean_tag(tag)
        if not found:
            raise ValueError(f"{where} an empty tag; use {nothing} for an image without tags.")
    return found


def _check_finite(number: Any, place: str) -> None:
    try:
        if not math.isfinite(number):
            raise ValueError(f"{place} is {number}; use None or [] for an image without tags.")
    except OverflowError:
        raise ValueError(f"{place} is a number too large for a class; give it as str.") from None


def _remedy(value: Any) -> str:
    return " Decode bytes: `tag.decode()`." if isinstance(value, bytes) else ""


def _shown(value: Any) -> str:
    """A value for a message, cut to some length."""
    try:
        text = repr(value)
    except Exception:  # numbers of thousands of digits, objects of others
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _without_unlabelled(
    rows: list[Collection[Any]], known: NDArray[Any] | None, name: str
) -> list[Collection[Any]]:
    """Rows of one number each; a row of -1 becomes empty if -1 means unlabelled."""
    values = {number for row in rows for number in row}
    if -1 not in values or any(isinstance(v, bool) or v != int(v) for v in values):
        return rows
    if known is not None:
        return rows if -1 in known.tolist() else [row if -1 not in row else () for row in rows]
    if values == {-1, 1}:
        raise ValueError(
            f"{name} holds only -1 and 1: pass `{name} > 0` if both are classes, or None "
            "instead of -1 if it means unlabelled."
        )
    return [row if -1 not in row else () for row in rows]


def _index_rows(rows: list[Collection[Any]], known: NDArray[Any] | None) -> TagMatrix:
    if known is None:
        ordered = sorted({tag for row in rows for tag in row})
        is_str = not ordered or isinstance(ordered[0], str)
        known = np.asarray(ordered, dtype=object if is_str else None)
        if known.tolist() != ordered:  # integers and fractions that no single dtype can hold
            known = np.asarray(ordered, dtype=object)
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


def _warn_of_slips(rows: list[Collection[Any]], name: str, mixed_case: bool) -> None:
    """Warn if tags of str look like a mistake in preparing them."""
    tagged = [row for row in rows if row]
    if not tagged or not isinstance(next(iter(tagged[0])), str):
        return
    slips = []
    if joined := _find_joined(tagged):
        example, call = joined
        split = f"s.{call}" if call else "ast.literal_eval(s)"
        # Single tags are in tuples here, collections in lists.
        remedy = (
            f"[{split} for s in {name}]"
            if isinstance(tagged[0], tuple)
            else f"[[t for s in tags for t in {split}] for tags in {name}]"
        )
        slips.append(
            f"{name} seems to join the tags of an image in one str, such as {_shown(example)}, "
            f"which counts as one tag. If so, split them: `{remedy}`."
        )
    distinct = {tag for row in tagged for tag in row}
    n_mixed = len(distinct) - len({tag.lower() for tag in distinct})
    if mixed_case and n_mixed >= _MIXED_CASE * len(distinct):
        first_of: dict[str, str] = {}
        twin = next(
            (first_of[tag.lower()], tag)
            for tag in sorted(distinct)
            if first_of.setdefault(tag.lower(), tag) != tag
        )
        slips.append(
            f"{name} has {n_mixed} tags that differ from another only in case, such as "
            f"{_shown(twin[0])} and {_shown(twin[1])}, and count as different tags. If they "
            f"should be the same, pass `encode_tags({name}, normalize='case')`."
        )
    for slip in slips:
        warnings.warn(slip, UserWarning, stacklevel=5)


def _find_joined(rows: list[Collection[str]]) -> tuple[str, str | None] | None:
    """A str that seems to contain several tags, and the call that splits it, if there are many.

    The call is None if the str is a list in Python's notation.
    """
    uses = Counter(tag for row in rows if len(row) == 1 for tag in row)

    def are_many(tags: list[str]) -> bool:
        return len(tags) > 1 and 4 * sum(uses[tag] for tag in tags) >= len(rows)

    written = [tag for tag in uses if _BRACKETS.get(tag[0]) == tag[-1]]
    if are_many(written):
        return written[0], None
    for separator, call in _SEPARATORS.items():
        if not are_many([tag for tag in uses if separator in tag]):
            continue
        pieces_of = {
            tag: [piece for piece in map(str.strip, tag.split(separator)) if piece] for tag in uses
        }
        joined = [tag for tag in uses if len(pieces_of[tag]) > 1]
        pieces = Counter(piece for parts in pieces_of.values() for piece in parts)
        # Spaces are common in tags. Other separators are not, so a few repeated pieces are enough.
        if are_many(joined) and (
            _are_words_tags(pieces_of, joined, uses)
            if separator == " "
            else pieces.total() >= 1.1 * len(pieces)
        ):
            return joined[0], call
    return None


def _are_words_tags(words_of: dict[str, list[str]], joined: list[str], uses: Counter[str]) -> bool:
    """Whether words seem to be tags, and not parts of names such as great white shark."""
    words = [word for tag in joined for word in words_of[tag]]
    # Tags occur in many combinations, and alone too.
    alone = sum(word in uses for word in words) >= len(words) / 2
    if alone and len(joined) >= len(set(words)):
        return True
    # Or nearly every image has a different str of few words, unlike classes.
    n_rows, n_tags = uses.total(), len(uses)
    n_uses = sum(uses[tag] * len(parts) for tag, parts in words_of.items())
    n_words = len({word for parts in words_of.values() for word in parts})
    return n_tags >= max(10, 0.8 * n_rows) and n_uses / n_words >= 1.5 * n_rows / n_tags


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
    """Limit the number of columns of a matrix of tags, so that later steps scale.

    More than ``max_columns`` are replaced by a count sketch: every tag is added
    with a random sign to a random column, which keeps inner products in
    expectation.

    Parameters
    ----------
    matrix : csr_array of shape (n_samples, n_tags)
        Tags, weighted or not.
    max_columns : int
        Largest number of columns of the result.
    random_state : int, RandomState instance or None, default=None
        Seed of the projection.

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
            "encode_tags makes one from tags in any form."
        )

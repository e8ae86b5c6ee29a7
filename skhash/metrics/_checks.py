"""Checks of the arguments of metrics: options, codes, labels."""

from __future__ import annotations

import numbers
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray

from .._sklearn import n_openmp_threads
from ..codes import check_codes, pack
from ..tags import TagMatrix, _align, encode_tags

DIVISORS = ("min", "relevant", "hits")
EMPTY = ("zero", "skip")
TIES = ("expected", "stable", "best", "worst")
AVERAGES = ("micro", "macro")
GAINS = ("linear", "exponential")

_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points to the line that called the package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


# Options


def check_option(name: str, value: Any, options: tuple[str, ...]) -> None:
    """Raise a ValueError unless ``value`` is one of ``options``."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}.")


def check_integer(name: str, value: Any, least: int) -> int:
    """Check an integer that must be at least ``least``."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
    return int(value)


def check_ranks(name: str, ks: ArrayLike) -> NDArray[np.int64]:
    """Check several numbers of ranks."""
    ranks = np.asarray(ks)
    if ranks.ndim != 1 or ranks.size == 0 or ranks.dtype.kind not in "iu" or ranks.min() < 1:
        raise ValueError(
            f"{name} must be a non-empty sequence of integers of at least 1, got {ks!r}."
        )
    return ranks.astype(np.int64)


def check_threads(n_jobs: int | None) -> int:
    """Number of threads; as many as OpenMP would use if ``n_jobs`` is None."""
    if n_jobs is None:
        return int(n_openmp_threads())
    if not isinstance(n_jobs, numbers.Integral) or isinstance(n_jobs, bool):
        raise TypeError(f"n_jobs must be an integer or None, got {n_jobs!r}.")
    if n_jobs == 0:
        raise ValueError("n_jobs must not be 0; give 1 for one thread or -1 for all processors.")
    return int(effective_n_jobs(n_jobs))


# Codes


def packed_codes(codes: ArrayLike, packed: bool, name: str) -> tuple[NDArray[np.uint8], int]:
    """Packed codes and their number of bits (8 per byte if they were already packed)."""
    array = np.asarray(codes)
    if packed:
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] == 0:
            raise ValueError(
                f"{name} must be packed codes of shape (n_samples, n_bytes) and dtype uint8, "
                f"got {array.shape} and {array.dtype}; see skhash.codes.pack()."
            )
        n_bits = 8 * array.shape[1]
    else:
        array = check_codes(array, name=name)
        n_bits = array.shape[1]
        array = pack(array)
    if len(array) == 0:
        raise ValueError(f"{name} is empty; give at least one code.")
    return array, n_bits


def packed_pair(
    query_codes: ArrayLike, database_codes: ArrayLike, packed: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
    """Checked codes of queries and database, packed, and their number of bits."""
    queries, n_query_bits = packed_codes(query_codes, packed, "query_codes")
    database, n_bits = packed_codes(database_codes, packed, "database_codes")
    if n_query_bits != n_bits:
        raise ValueError(
            "query_codes and database_codes must have the same number of bits, "
            f"got {n_query_bits} and {n_bits}."
        )
    return queries, database, n_bits


# Labels


def label_pair(
    query_labels: Any,
    database_labels: Any,
    n_queries: int | None = None,
    n_database: int | None = None,
) -> tuple[TagMatrix, TagMatrix]:
    """Labels of queries and database in the vocabulary of the database."""
    queries = encode_tags(query_labels, n_samples=n_queries, name="query_labels")
    database = encode_tags(database_labels, n_samples=n_database, name="database_labels")
    for name, tags in {"query_labels": queries, "database_labels": database}.items():
        if not tags.n_samples:
            raise ValueError(f"{name} is empty; give the labels of at least one item.")
    if isinstance(query_labels, TagMatrix) and np.array_equal(
        queries.vocabulary, database.vocabulary
    ):
        return queries, database
    forms = [_form(query_labels, queries), _form(database_labels, database)]
    if None not in forms and forms[0] != forms[1]:
        raise ValueError(
            "query_labels and database_labels must have the same form, but query_labels holds "
            f"{forms[0]}, and database_labels {forms[1]}. Give both as lists of str, or both as "
            "indicators with the same columns (data frames have named columns), or encode both "
            "with one vocabulary: skhash.tags.encode_tags(labels, vocabulary=...)."
        )
    if forms[0] == _COLUMNS and not np.array_equal(queries.vocabulary, database.vocabulary):
        raise ValueError(
            "query_labels and database_labels are indicators of "
            f"{len(queries.vocabulary)} and {len(database.vocabulary)} labels: give both with "
            "the same columns, or as data frames with named columns."
        )
    queries = _align(queries.indicator, queries.vocabulary, database.vocabulary)
    if queries.n_unknown and not queries.indicator.nnz:
        warn(
            "database_labels shares no label with query_labels, so nothing is relevant; "
            "give both in the same form."
        )
    return queries, database


_COLUMNS = "an indicator with numbered columns"


def _form(labels: Any, encoded: TagMatrix) -> str | None:
    """The form of labels, for messages; None if there are none."""
    if not len(encoded.vocabulary):
        return None
    if isinstance(encoded.vocabulary[0], str):
        return "labels of str"
    has_columns = isinstance(labels, TagMatrix) or sp.issparse(labels) or hasattr(labels, "columns")
    if not has_columns and np.ndim(next((row for row in labels if row is not None), 0)) == 0:
        return "a number per item"
    return _COLUMNS

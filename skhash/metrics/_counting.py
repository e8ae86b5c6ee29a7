"""From codes and labels to counts of items and relevant items along a ranking.

Every metric of this package is a function of such counts, so this is the only place that
measures distances or decides what is relevant. Items at the same distance are counted, not
sorted, which is what makes rankings of millions of pairs cheap.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import gen_even_slices

from .._sklearn import n_openmp_threads
from ..codes import check_codes, hamming_blocks, pack
from ..tags import TagMatrix, encode_tags
from ._checks import TIES, check_option

# Counts held at once, so few that the metrics' temporary arrays stay in the processor's cache.
_CHUNK = 2**17


@dataclass(frozen=True)
class Groups:
    """Rankings of some queries, each a run of groups whose items are in random order.

    Attributes
    ----------
    size : ndarray of shape (n_queries or 1, n_groups), int64
        How many items each group has, the nearest group first.
    relevant : ndarray of shape (n_queries, n_groups), int64 (bool if every size is 1)
        How many of them are relevant.
    n_relevant : ndarray of shape (n_queries,), int64
        How many items of the whole database are relevant, ranked here or not.
    """

    size: NDArray[np.int64]
    relevant: NDArray[Any]
    n_relevant: NDArray[np.int64]

    def split(self, *, relevant_first: bool) -> Groups:
        """Order each group by relevance: the best or the worst order of its items."""
        irrelevant = self.size - self.relevant
        pure = [(self.relevant, self.relevant), (irrelevant, np.zeros_like(irrelevant))]
        size, relevant = (
            np.stack(parts, axis=-1).reshape(len(self.relevant), -1)
            for parts in zip(*(pure if relevant_first else pure[::-1]), strict=True)
        )
        return Groups(size, relevant, self.n_relevant)

    def merge(self) -> Groups:
        """Put all items into one group: a ranking in random order."""
        return Groups(
            self.size.sum(axis=1, keepdims=True),
            self.relevant.sum(axis=1, keepdims=True),
            self.n_relevant,
        )


class Relevance:
    """Which items of a database share a label with a query.

    Parameters
    ----------
    queries : TagMatrix
        Labels of the queries, in the vocabulary of the database.
    database : TagMatrix
        Labels of the database.
    """

    def __init__(self, queries: TagMatrix, database: TagMatrix) -> None:
        columns = database.indicator.tocsc()
        self._items = columns.indices.astype(np.intp)
        self._spans = list(itertools.pairwise(columns.indptr.tolist()))
        # Or-ing the mask of a label costs about as much as marking a thirtieth of the items.
        self._masks = {}
        for label in np.flatnonzero(np.diff(columns.indptr) * 32 > database.n_samples).tolist():
            self._masks[label] = mask = np.zeros(database.n_samples, bool)
            mask[self._items[slice(*self._spans[label])]] = True
        self._queries = queries.indicator

    def mark(self, query: int, out: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Set ``out`` (n_database,) to what is relevant to a query, and return it."""
        out.fill(False)
        start, stop = self._queries.indptr[query : query + 2]
        for label in self._queries.indices[start:stop].tolist():
            if label in self._masks:
                np.logical_or(out, self._masks[label], out=out)
            else:
                out[self._items[slice(*self._spans[label])]] = True
        return out


class Retrieval:
    """Queries, a database, and the labels of both, checked and ready to be ranked.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits) or (n, n_bytes)
        Codes of 0 and 1, or packed ones.
    query_labels, database_labels : labels
        In any form that :func:`skhash.tags.encode_tags` takes.
    packed : bool
        Whether the codes are packed.
    """

    def __init__(
        self,
        query_codes: ArrayLike,
        database_codes: ArrayLike,
        query_labels: Any,
        database_labels: Any,
        *,
        packed: bool = False,
    ) -> None:
        self.queries, self.database, self.n_bits = packed_pair(query_codes, database_codes, packed)
        self.query_tags, self.database_tags = tag_pair(
            query_labels, database_labels, len(self.queries), len(self.database)
        )
        self.leave_one_out = False

    @classmethod
    def within(
        cls, codes: ArrayLike, labels: Any, *, packed: bool = False, name: str = "labels"
    ) -> Retrieval:
        """Every item is the query against all others; ``name`` is for errors about labels."""
        checked, _ = _packed_codes(codes, packed, "codes")
        if len(checked) < 2:
            raise ValueError(
                "codes must have at least 2 samples: each is ranked against the others."
            )
        tags = encode_tags(labels, n_samples=len(checked), name=name)
        retrieval = cls(checked, checked, tags, tags, packed=True)
        retrieval.leave_one_out = True
        return retrieval

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self.queries)

    @property
    def n_searched(self) -> int:
        """Number of items that a query is ranked against."""
        return len(self.database) - self.leave_one_out

    def rankings(
        self, ties: str = "expected", limit: int | None = None
    ) -> Iterator[tuple[Groups, Groups]]:
        """Rank the database for all queries, some of them at a time.

        Parameters
        ----------
        ties : {"expected", "stable", "best", "worst"}, default="expected"
            Order of the items at one distance: random, as in the database,
            relevant ones first, relevant ones last.
        limit : int, default=None
            How many ranks matter. Saves sorting when ties are "stable", has no
            effect otherwise.

        Yields
        ------
        by_distance : Groups
            A group per Hamming distance 0, 1, .., n_bits.
        ranking : Groups
            The ranking with ties resolved; ``by_distance`` if they are "expected".
        """
        check_option("ties", ties, TIES)
        n_ranks = self.n_searched if limit is None else min(limit, self.n_searched)
        n_distances = self.n_bits + 1
        relevance = Relevance(self.query_tags, self.database_tags)
        n_threads = n_openmp_threads()
        step = max(n_threads, _CHUNK // (n_ranks if ties == "stable" else 2 * n_distances))
        with ThreadPoolExecutor(n_threads) as pool:
            for start in range(0, self.n_queries, step):
                queries = range(start, min(start + step, self.n_queries))
                counts = np.empty((len(queries), 2, n_distances), np.int64)
                in_order = np.empty((len(queries), n_ranks if ties == "stable" else 0), bool)
                parts = list(gen_even_slices(len(queries), min(n_threads, len(queries))))
                count = partial(self._count, relevance)
                arguments = (
                    [array[part] for part in parts] for array in (queries, counts, in_order)
                )
                list(pool.map(count, *arguments))  # a list, to hear of errors
                relevant = counts[:, 1]
                by_distance = Groups(counts.sum(axis=1), relevant, relevant.sum(axis=1))
                if ties == "stable":
                    ones = np.ones((1, n_ranks), np.int64)
                    yield by_distance, Groups(ones, in_order, by_distance.n_relevant)
                elif ties == "expected":
                    yield by_distance, by_distance
                else:
                    yield by_distance, by_distance.split(relevant_first=ties == "best")

    def _count(
        self,
        relevance: Relevance,
        queries: range,
        counts: NDArray[np.int64],
        in_order: NDArray[np.bool_],
    ) -> None:
        """Fill in how many items, not relevant and relevant, lie at each distance of some queries.

        ``in_order`` (n_queries, n_ranks) takes what is relevant at the first ranks.
        """
        n_distances = counts.shape[2]
        marks = np.empty(len(self.database), bool)
        # One number per item, counted at once: its distance, plus n_distances if it is relevant.
        keys = np.empty(len(self.database), np.min_scalar_type(2 * n_distances - 1))
        # Small blocks stay in the processor's cache.
        blocks = hamming_blocks(
            self.queries[queries.start : queries.stop], self.database, working_memory=2.0
        )
        for rows, block in blocks:
            for i, distances in enumerate(block, rows.start):
                query = queries[i]
                relevance.mark(query, out=marks)
                np.multiply(marks.view(np.uint8), n_distances, out=keys, dtype=keys.dtype)
                keys += distances
                counts[i] = _histogram(keys, 2 * n_distances).reshape(2, -1)
                without = None
                if self.leave_one_out:
                    without = query
                    counts[i, int(marks[query]), 0] -= 1
                if in_order.shape[1]:
                    in_order[i] = marks[nearest(distances, in_order.shape[1], without)]


def _histogram(keys: NDArray[np.unsignedinteger[Any]], n: int) -> NDArray[np.intp]:
    """Count each of the values 0, 1, .., n - 1; ``keys`` are overwritten."""
    if keys.dtype != np.uint8 or len(keys) < 4 * n * n:
        return np.bincount(keys, minlength=n)
    # Count pairs of bytes, in half the steps, then sum over either partner.
    n_even = len(keys) // 2 * 2
    pairs = keys[:n_even].view(np.uint16)
    pairs -= (pairs >> 8) * np.uint16(256 - n)
    counts = np.bincount(pairs, minlength=n * n).reshape(n, n)
    return counts.sum(axis=0) + counts.sum(axis=1) + np.bincount(keys[n_even:], minlength=n)


def nearest(
    distances: NDArray[np.unsignedinteger[Any]], k: int, without: int | None = None
) -> NDArray[np.intp]:
    """The k nearest items in the order of (distance, position), ``without`` left out."""
    if without is not None:
        k += 1
    if k < len(distances):
        cut = int(np.searchsorted(np.cumsum(np.bincount(distances)), k))
        candidates = np.flatnonzero(distances <= cut)
        # NumPy sorts short integers stably in linear time.
        order = candidates[np.argsort(distances[candidates], kind="stable")]
    else:
        order = np.argsort(distances, kind="stable")
    return order[:k] if without is None else order[order != without][: k - 1]


def packed_pair(
    query_codes: ArrayLike, database_codes: ArrayLike, packed: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
    """Checked codes of queries and database, packed, and their number of bits."""
    queries, n_query_bits = _packed_codes(query_codes, packed, "query_codes")
    database, n_bits = _packed_codes(database_codes, packed, "database_codes")
    if n_query_bits != n_bits:
        raise ValueError(
            "query_codes and database_codes must have the same number of bits, "
            f"got {n_query_bits} and {n_bits}."
        )
    return queries, database, n_bits


def _packed_codes(codes: ArrayLike, packed: bool, name: str) -> tuple[NDArray[np.uint8], int]:
    """Packed codes and their number of bits (that of whole bytes if they came packed)."""
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


def tag_pair(
    query_labels: Any,
    database_labels: Any,
    n_queries: int | None = None,
    n_database: int | None = None,
) -> tuple[TagMatrix, TagMatrix]:
    """Labels of queries and database in the vocabulary of the database."""
    database = encode_tags(database_labels, n_samples=n_database, name="database_labels")
    queries = encode_tags(
        query_labels, vocabulary=database.vocabulary, n_samples=n_queries, name="query_labels"
    )
    for name, tags in {"query_labels": queries, "database_labels": database}.items():
        if not tags.n_samples:
            raise ValueError(f"{name} is empty; give the labels of at least one item.")
    if queries.n_unknown and not queries.indicator.nnz:
        warnings.warn(
            "database_labels has no label of query_labels, so nothing is relevant; "
            "give both in the same form.",
            UserWarning,
            stacklevel=4,
        )
    return queries, database

"""From codes and labels to counts of items and relevant items at each distance.

Every metric of this package is a function of such counts, so this is the only place that measures
distances. Items at the same distance are counted, not sorted. This makes rankings of millions of
pairs cheap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import hamming_blocks, smallest
from ..tags import encode_tags
from ._checks import GAINS, TIES, check_option, check_threads, label_pair, packed_codes, packed_pair
from ._relevance import GivenGains, Relevance, SharedLabels, is_gain_matrix

# Counts held at once, so few that the metrics' temporary arrays stay in the processor's cache.
_CHUNK = 2**17
# Queries per task of a thread: few enough to share the work, enough to outweigh the overhead.
_PAIRS = 2**20
_FEWEST_QUERIES = 16


@dataclass(frozen=True)
class Groups:
    """Rankings of some queries: sequences of groups, with the items of a group in random order.

    Attributes
    ----------
    size : ndarray of shape (n_queries or 1, n_groups), int64
        How many items each group has, the nearest group first.
    relevant : ndarray of shape (n_queries, n_groups), int64 (bool if every size is 1)
        Number of relevant items in each group.
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


@dataclass(frozen=True)
class Gains:
    """Gains (graded relevance) of the items of the same rankings.

    Attributes
    ----------
    size : ndarray of shape (n_queries or 1, n_groups), int64
        How many items each group has, the nearest group first.
    total : ndarray of shape (n_queries, n_groups), float64
        Sum of the gains of its items.
    ideal : ndarray of shape (n_queries, n_ideal), float64
        The greatest gains of the whole database, in descending order.
    all_gains : ndarray of shape (n_queries,), float64
        Sum of the gains of the whole database.
    """

    size: NDArray[np.int64]
    total: NDArray[np.float64]
    ideal: NDArray[np.float64]
    all_gains: NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """Rankings of some queries.

    Attributes
    ----------
    by_distance : Groups
        A group per Hamming distance 0, 1, .., n_bits.
    ranking : Groups
        The ranking with ties resolved; ``by_distance`` if they are "expected".
    gains : Gains or None
        Gains for the ranking with ties resolved, if requested.
    n_searched : int
        How many items a query is ranked against.
    """

    by_distance: Groups
    ranking: Groups
    gains: Gains | None
    n_searched: int

    @property
    def n_relevant(self) -> NDArray[np.int64]:
        """How many items are relevant to each query."""
        return self.by_distance.n_relevant

    def shuffled(self) -> Ranked:
        """Rank at random: all items in one group."""
        merged, gains = self.by_distance.merge(), self.gains
        if gains is not None:
            gains = Gains(merged.size, gains.all_gains[:, None], gains.ideal, gains.all_gains)
        return Ranked(merged, merged, gains, self.n_searched)


class Retrieval:
    """Queries, a database, and the labels of both, checked and ready to be ranked.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits) or (n, n_bytes)
        Codes of 0 and 1, or packed ones.
    query_labels, database_labels : labels
        In any form that :func:`skhash.tags.encode_tags` takes; None if
        ``gain`` is a matrix.
    packed : bool
        Whether the codes are packed.
    gain : {"linear", "exponential"} or array-like of shape (n_queries, n_database)
        Gain of an item: how relevant it is.
    """

    def __init__(
        self,
        query_codes: ArrayLike,
        database_codes: ArrayLike,
        query_labels: Any,
        database_labels: Any,
        *,
        packed: bool = False,
        gain: str | ArrayLike = "linear",
    ) -> None:
        self.queries, self.database, self.n_bits = packed_pair(query_codes, database_codes, packed)
        self.leave_one_out = False
        self.n_unknown_labels = 0
        self.relevance: Relevance
        if is_gain_matrix(gain):
            if query_labels is not None or database_labels is not None:
                raise ValueError(
                    "gain is a matrix, which already defines relevance: give None as query_labels "
                    "and database_labels, or gain='linear'."
                )
            self.relevance = GivenGains(gain, len(self.queries), len(self.database))
        else:
            queries, database = label_pair(
                query_labels, database_labels, len(self.queries), len(self.database)
            )
            self.relevance = SharedLabels(queries, database, str(gain))
            self.n_unknown_labels = queries.n_unknown

    @classmethod
    def within(
        cls,
        codes: ArrayLike,
        labels: Any,
        *,
        packed: bool = False,
        gain: str = "linear",
        name: str = "labels",
    ) -> Retrieval:
        """Use every item as the query against all others; messages call the labels ``name``."""
        checked, n_bits = packed_codes(codes, packed, "codes")
        if len(checked) < 2:
            raise ValueError(
                "codes must have at least 2 samples: each is ranked against the others."
            )
        check_option("gain", gain, GAINS)
        tags = encode_tags(labels, n_samples=len(checked), name=name)
        retrieval = cls(checked, checked, tags, tags, packed=True, gain=gain)
        retrieval.n_bits = n_bits
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
        self,
        ties: str = "expected",
        *,
        limit: int | None = None,
        n_ideal: int = 0,
        n_jobs: int | None = None,
    ) -> Iterator[Ranked]:
        """Rank the database for all queries, some of them at a time.

        Parameters
        ----------
        ties : {"expected", "stable", "best", "worst"}, default="expected"
            Order of the items at one distance: random, as in the database,
            relevant ones first, relevant ones last.
        limit : int, default=None
            Number of ranks needed. It saves time where items must be sorted,
            and has no effect otherwise.
        n_ideal : int, default=0
            Number of the greatest gains to return; 0 means no gains.
        n_jobs : int, default=None
            Number of threads, see :func:`check_threads`. The queries are
            divided in the same way for any number.

        Yields
        ------
        Ranked
        """
        check_option("ties", ties, TIES)
        n_ranks = self.n_searched if limit is None else min(limit, self.n_searched)
        n_ideal = min(n_ideal, self.n_searched)
        is_sorted = ties == "stable" or (n_ideal > 0 and ties != "expected")
        n_counts = (n_ranks if is_sorted else 2 * (self.n_bits + 1)) + n_ideal
        step = max(_FEWEST_QUERIES, _PAIRS // len(self.database))
        step = max(1, min(step, _CHUNK // n_counts))
        parts = (
            range(start, min(start + step, self.n_queries))
            for start in range(0, self.n_queries, step)
        )
        rank = partial(self._rank, ties=ties, n_ranks=n_ranks, n_ideal=n_ideal)
        return _in_threads(rank, parts, check_threads(n_jobs))

    def _rank(self, queries: range, ties: str, n_ranks: int, n_ideal: int) -> Ranked:
        """Rank the database for some queries."""
        n, n_distances = len(queries), self.n_bits + 1
        counts = np.empty((n, 2, n_distances), np.int64)
        in_order = np.empty((n, n_ranks if ties == "stable" else 0), bool)
        n_groups = n_distances if ties == "expected" else n_ranks
        gains = np.empty((n, n_groups if n_ideal else 0))
        ideal = np.empty((n, n_ideal))
        all_gains = np.empty(n)
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
                self.relevance.mark(query, out=marks)
                np.multiply(marks.view(np.uint8), n_distances, out=keys, dtype=keys.dtype)
                keys += distances
                counts[i] = _histogram(keys, 2 * n_distances).reshape(2, -1)
                if self.leave_one_out:
                    counts[i, int(marks[query]), 0] -= 1
                order = None
                if ties == "stable":
                    order = self._without(query, smallest(distances[None], n_ranks + 1)[0])
                    in_order[i] = marks[order[:n_ranks]]
                if n_ideal:
                    values = self.relevance.gains(query)
                    if self.leave_one_out:
                        values[query] = 0
                    all_gains[i] = values.sum()
                    ideal[i] = _greatest(values, n_ideal)
                    if ties == "expected":
                        gains[i] = np.bincount(distances, values, n_distances)
                        continue
                    if order is None:
                        sign = -1 if ties == "best" else 1
                        order = self._without(query, np.lexsort((sign * values, distances)))
                    gains[i] = values[order[:n_ranks]]
        relevant = counts[:, 1]
        ranking = by_distance = Groups(counts.sum(axis=1), relevant, relevant.sum(axis=1))
        ones = np.ones((1, n_ranks), np.int64)
        if ties == "stable":
            ranking = Groups(ones, in_order, by_distance.n_relevant)
        elif ties != "expected":
            ranking = by_distance.split(relevant_first=ties == "best")
        graded = None
        if n_ideal:
            size = by_distance.size if ties == "expected" else ones
            graded = Gains(size, gains, ideal, all_gains)
        return Ranked(by_distance, ranking, graded, self.n_searched)

    def _without(self, query: int, order: NDArray[np.intp]) -> NDArray[np.intp]:
        return order[order != query] if self.leave_one_out else order


def _greatest(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The n greatest values in descending order."""
    if n < len(values):
        values = np.partition(values, len(values) - n)[-n:]
    return np.sort(values)[::-1]


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def _in_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item], n_threads: int
) -> Iterator[_Result]:
    """Map a function over items in threads, in order, a few items ahead of the consumer."""
    if n_threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        ahead: deque[Future[_Result]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > n_threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # after an error, or if the consumer stops
            for future in ahead:
                future.cancel()


def _histogram(keys: NDArray[np.unsignedinteger[Any]], n: int) -> NDArray[np.intp]:
    """Count each of the values 0, 1, .., n - 1; ``keys`` are overwritten."""
    if keys.dtype != np.uint8 or len(keys) < 4 * n * n:
        return np.bincount(keys, minlength=n)
    # Count pairs of bytes, which halves the steps; then sum over either byte of the pairs.
    n_even = len(keys) // 2 * 2
    pairs = keys[:n_even].view(np.uint16)
    pairs -= (pairs >> 8) * np.uint16(256 - n)
    counts = np.bincount(pairs, minlength=n * n).reshape(n, n)
    return counts.sum(axis=0) + counts.sum(axis=1) + np.bincount(keys[n_even:], minlength=n)

"""The metrics as formulas of grouped rankings."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma
from scipy.stats import hypergeom
from sklearn.exceptions import UndefinedMetricWarning

from ._checks import warn
from ._distance_counts import Gains, Groups

Floats = NDArray[np.float64]


def average_precision(groups: Groups, k: int | None, divisor: str) -> Floats:
    """Average precision of each ranking, 0 if nothing is relevant."""
    size, relevant = groups.size, groups.relevant
    start = np.cumsum(size, axis=1) - size
    hits = np.cumsum(relevant, axis=1)
    taken = size if k is None else np.clip(k - start, 0, size)
    if np.max(size) <= 1:  # nothing is tied
        sums = hits * relevant * (taken / (start + 1.0))
    else:
        sums = _precision_sums(start, hits - relevant, taken, size, relevant)
    if divisor == "hits" and k is not None:
        return _over_hits(groups, sums, start, hits - relevant, taken)
    most = groups.n_relevant
    if divisor == "min" and k is not None:
        most = np.minimum(most, k)
    return sums.sum(axis=1) / np.maximum(most, 1)


def _precision_sums(start: Any, found: Any, taken: Any, size: Any, relevant: Any) -> Floats:
    """Expected sum of precisions at the relevant ranks among the first ``taken`` of a group.

    Before the group lie ``start`` items, ``found`` of them relevant. Its t-th item is relevant
    with probability relevant / size, and then the t - 1 before it in the group hold on average
    (t - 1) density relevant ones, where density = (relevant - 1) / (size - 1); so its precision is
    (found + 1 + (t - 1) density) / (start + t). Summed over t that has a closed form in the sum of
    1 / (start + t).
    """
    density = (relevant - 1) / np.maximum(size - 1, 1)
    harmonic = digamma(start + taken + 1.0) - digamma(start + 1.0)
    sums = (found + 1) * harmonic + density * (taken - (start + 1) * harmonic)
    return sums * relevant / np.maximum(size, 1)


def _over_hits(groups: Groups, sums: Any, start: Any, found: Any, taken: Any) -> Floats:
    """Expected quotient of the sum of precisions and the number of hits within a cut-off.

    Both depend on the number of relevant items before the cut-off in the group that the cut-off
    divides. This number is hypergeometric.
    """
    shape = groups.relevant.shape
    size, start, taken = (np.broadcast_to(a, shape) for a in (groups.size, start, taken))
    whole = taken == size
    hits = (groups.relevant * whole).sum(axis=1)
    totals = (sums * whole).sum(axis=1)
    result = totals / np.maximum(hits, 1)
    parted = np.argwhere(~whole & (taken > 0))
    for query, group in parted:
        at = (query, group)
        m, n, r = taken[at], size[at], groups.relevant[at]
        before_cut = np.arange(max(0, m - (n - r)), min(r, m) + 1)
        sums_to_cut = _precision_sums(start[at], found[at], m, m, before_cut)
        quotients = (totals[query] + sums_to_cut) / np.maximum(hits[query] + before_cut, 1)
        result[query] = quotients @ hypergeom.pmf(before_cut, n, r, m)
    return result


def hits_at(groups: Groups, ks: NDArray[np.int64]) -> Floats:
    """Expected number of relevant items among the first k, of shape (n_queries, n_ks)."""
    # Within a group the number grows linearly with k.
    return _at(ks, np.cumsum(groups.size, axis=1), groups.relevant)


def hits_within(by_distance: Groups, radii: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Relevant items, and all items, within each radius, of shape (n_queries, n_radii)."""
    at = np.minimum(radii, by_distance.size.shape[1] - 1)
    hits = np.cumsum(by_distance.relevant, axis=1)[:, at]
    return hits, np.cumsum(by_distance.size, axis=1)[:, at]


def ndcg_at(gains: Gains, ks: NDArray[np.int64]) -> Floats:
    """Normalized discounted cumulative gain of the first k, of shape (n_queries, n_ks).

    The gain at rank r is divided by log2(1 + r). Every item of a group may be at each of its ranks.
    So the expected gain at these ranks is the mean gain of the group, and the sum grows linearly
    with the sum of the discounts.
    """
    n_searched = int(gains.size.sum(axis=1).max())
    discounts = _cumulative_discounts(max(n_searched, gains.ideal.shape[1]))
    ends = discounts[np.cumsum(gains.size, axis=1)]
    in_groups = gains.total / np.maximum(gains.size, 1) * np.diff(ends, prepend=0)
    found = _at(discounts[np.minimum(ks, n_searched)], ends, in_groups)
    best = np.cumsum(gains.ideal * np.diff(discounts[: gains.ideal.shape[1] + 1]), axis=1)
    return quotient(found, best[:, np.minimum(ks, best.shape[1]) - 1])


@lru_cache(maxsize=4)
def _cumulative_discounts(n: int) -> Floats:
    """Sums of the discounts of the first 0, 1, .., n ranks."""
    sums = np.zeros(n + 1)
    np.cumsum(1 / np.log2(np.arange(2.0, n + 2)), out=sums[1:])
    return sums


def _at(x: NDArray[Any], ends: NDArray[Any], totals: NDArray[Any]) -> Floats:
    """Sums of totals up to x; within a group the sum grows linearly."""
    reached = np.pad(np.cumsum(totals, axis=1), ((0, 0), (1, 0)))
    ends = np.broadcast_to(np.pad(ends, ((0, 0), (1, 0))), reached.shape)
    return np.array([np.interp(x, *curve) for curve in zip(ends, reached, strict=True)])


class Mean:
    """Mean over queries, summed up block by block.

    Parameters
    ----------
    empty : {"zero", "skip"}
        Whether queries without relevant items count as 0 or are left out.
    """

    def __init__(self, empty: str) -> None:
        self.empty = empty
        self.n_queries = 0
        self.total: Any = 0.0

    def add(self, values: NDArray[Any], n_relevant: NDArray[np.int64]) -> None:
        """Add values of shape (n_queries, ..)."""
        if self.empty == "skip":
            values = values[n_relevant > 0]
        self.n_queries += len(values)
        self.total = self.total + values.sum(axis=0)

    def result(self) -> Any:
        """Return the mean; NaN, with a warning, if all queries are left out."""
        if self.n_queries == 0:
            warn(
                "No query has a relevant item and empty='skip' skips them all: the result is NaN.",
                UndefinedMetricWarning,
            )
            return self.total * np.nan
        return self.total / self.n_queries


class RadiusCurve:
    """Precision and recall by Hamming radius, summed up block by block.

    Parameters
    ----------
    average : {"micro", "macro"}
        Whether to pool pairs or to average over queries.
    empty : {"zero", "skip"}
        Whether queries without relevant items count as 0 or are left out.
    """

    def __init__(self, average: str, empty: str) -> None:
        self.average = average
        self.hits, self.retrieved, self.relevant = Mean(empty), Mean(empty), Mean(empty)
        self.precision, self.recall = Mean(empty), Mean(empty)

    def add(self, by_distance: Groups) -> None:
        """Add the rankings of some queries."""
        n_relevant = by_distance.n_relevant
        hits = np.cumsum(by_distance.relevant, axis=1)
        retrieved = np.cumsum(by_distance.size, axis=1)
        self.hits.add(hits, n_relevant)
        self.retrieved.add(retrieved, n_relevant)
        self.relevant.add(n_relevant[:, None], n_relevant)
        self.precision.add(quotient(hits, retrieved), n_relevant)
        self.recall.add(quotient(hits, n_relevant[:, None]), n_relevant)

    def result(self) -> tuple[Floats, Floats]:
        """Return precision and recall at each radius."""
        if self.average == "macro":
            return self.precision.result(), self.recall.result()
        hits = self.hits.result()
        return quotient(hits, self.retrieved.result()), quotient(hits, self.relevant.result())


def quotient(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """Divide, with 0 / 0 = 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b != 0)

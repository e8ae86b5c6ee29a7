"""The table of metrics, from which functions, reports, scorers and displays are made.

A metric is an entry of :data:`METRICS`: its title, its values for some ranked queries, and its
options. All metrics of one ranking are computed in one pass over it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import DIVISORS, EMPTY, check_integer, check_option, check_ranks
from ._distance_counts import Ranked, Retrieval
from ._formulas import Floats, Mean, average_precision, hits_at, hits_within, ndcg_at, quotient

Cuts = NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """A mean over queries.

    Attributes
    ----------
    title : str
        Name in tables and displays.
    values : callable
        ``values(ranked, cuts, **options)`` gives an array (n_queries, n_cuts).
    cut : {"k", "at", "radius"}
        Cut-off of the ranking in reports, by the name of its argument: rank
        ``k`` (None is the full ranking), each of the ranks ``at``, or a
        Hamming ``radius``.
    whole : bool
        Whether it is meaningful for a full ranking.
    graded : bool
        Whether it uses gains (graded relevance).
    options : tuple of str
        Further arguments of ``values``.
    by_chance : callable or None
        The same for a random order; if None, ``values`` of the shuffled
        ranking.
    """

    title: str
    values: Callable[..., Floats]
    cut: Literal["k", "at", "radius"]
    whole: bool = False
    graded: bool = False
    options: tuple[str, ...] = ()
    by_chance: Callable[..., Floats] | None = None

    def chance(self, ranked: Ranked, cuts: Cuts, **options: Any) -> Floats:
        """Values of a database in random order."""
        if self.by_chance is not None:
            return self.by_chance(ranked, cuts, **options)
        return self.values(ranked.shuffled(), cuts, **options)

    def title_at(self, cut: int | None) -> str:
        """Title with the cut-off."""
        if self.cut == "radius":
            return f"{self.title} {cut}"
        return self.title if cut is None else f"{self.title}@{cut}"


def _average_precision(ranked: Ranked, cuts: Cuts, divisor: str = "min") -> Floats:
    ks = [None if k >= ranked.n_searched else int(k) for k in cuts]
    values = [average_precision(ranked.ranking, k, divisor) for k in ks]
    return np.stack(values, axis=1)


def _precision(ranked: Ranked, cuts: Cuts) -> Floats:
    return hits_at(ranked.ranking, cuts) / np.minimum(cuts, ranked.n_searched)


def _recall(ranked: Ranked, cuts: Cuts) -> Floats:
    return quotient(hits_at(ranked.ranking, cuts), ranked.n_relevant[:, None])


def _ndcg(ranked: Ranked, cuts: Cuts) -> Floats:
    assert ranked.gains is not None
    return ndcg_at(ranked.gains, cuts)


def _precision_within(ranked: Ranked, radii: Cuts) -> Floats:
    return quotient(*hits_within(ranked.by_distance, radii))


def _share(ranked: Ranked, cuts: Cuts) -> Floats:
    """Share of the database that is relevant: the precision of any choice at random."""
    return np.repeat(ranked.n_relevant[:, None] / ranked.n_searched, len(cuts), axis=1)


METRICS: dict[str, Metric] = {
    "map": Metric("MAP", _average_precision, "k", whole=True, options=("divisor",)),
    "precision": Metric("precision", _precision, "at", by_chance=_share),
    "recall": Metric("recall", _recall, "at"),
    "ndcg": Metric("nDCG", _ndcg, "at", whole=True, graded=True),
    "precision_within_radius": Metric(
        "precision within radius", _precision_within, "radius", by_chance=_share
    ),
}

# Metrics of the first k items of a ranking.
AT_RANKS = tuple(name for name, metric in METRICS.items() if metric.cut != "radius")


class Measure:
    """A metric of one retrieval, summed up block by block.

    Parameters
    ----------
    name : str
        Key of :data:`METRICS`.
    cuts : array-like of int, or None
        Numbers of ranks or radii; None is the full ranking.
    empty : {"zero", "skip"}
        Whether queries without relevant items count as 0 or are left out.
    options : dict
        Options of all metrics; the metric uses its own.
    with_chance : bool
        Whether to measure a random order too.
    """

    def __init__(
        self,
        name: str,
        cuts: ArrayLike | None,
        empty: str = "zero",
        options: dict[str, Any] | None = None,
        *,
        with_chance: bool = False,
    ) -> None:
        self.metric = METRICS[name]
        self.cuts = np.array([np.iinfo(np.int64).max]) if cuts is None else np.asarray(cuts)
        self.options = {key: (options or {})[key] for key in self.metric.options}
        self.mean = Mean(empty)
        self.chance = Mean(empty) if with_chance else None

    def values(self, ranked: Ranked) -> Floats:
        """Values of some queries, of shape (n_queries, n_cuts)."""
        return self.metric.values(ranked, self.cuts, **self.options)

    def add(self, ranked: Ranked) -> None:
        """Add some queries."""
        self.mean.add(self.values(ranked), ranked.n_relevant)
        if self.chance is not None:
            chance = self.metric.chance(ranked, self.cuts, **self.options)
            self.chance.add(chance, ranked.n_relevant)


def rank_for(
    measures: Sequence[Measure], retrieval: Retrieval, ties: str, n_jobs: int | None
) -> Any:
    """Rank as deep as the measures need: an iterator of :class:`Ranked`."""
    at_ranks = [measure for measure in measures if measure.metric.cut != "radius"]
    limit = max((int(measure.cuts.max()) for measure in at_ranks), default=1)
    n_ideal = max((int(m.cuts.max()) for m in at_ranks if m.metric.graded), default=0)
    return retrieval.rankings(ties, limit=limit, n_ideal=n_ideal, n_jobs=n_jobs)


def score(
    retrieval: Retrieval,
    name: str,
    cuts: ArrayLike | None,
    *,
    empty: str,
    ties: str = "expected",
    n_jobs: int | None = None,
    **options: Any,
) -> Floats:
    """Mean of a metric over queries, at each cut."""
    check_option("empty", empty, EMPTY)
    measure = Measure(name, cuts, empty, options)
    for ranked in rank_for([measure], retrieval, ties, n_jobs):
        measure.add(ranked)
    return np.asarray(measure.mean.result())


def check_average_precision(k: int | None, divisor: str, empty: str) -> None:
    """Check the options of average precision."""
    check_k(k)
    check_option("divisor", divisor, DIVISORS)
    check_option("empty", empty, EMPTY)


def check_k(k: int | None) -> list[int] | None:
    """Check a cut-off that may be None, the full ranking."""
    return None if k is None else [check_integer("k", k, 1)]


def curve_ranks(ks: ArrayLike | None, n_searched: int) -> Cuts:
    """Check the ranks of a curve, or choose them."""
    return np.arange(1, min(n_searched, 1000) + 1) if ks is None else check_ranks("ks", ks)

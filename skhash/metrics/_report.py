"""One report on how well codes retrieve: the evaluation of the hashing literature in one pass."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch

from ._checks import AVERAGES, check_integer, check_option, check_ranks
from ._counting import Retrieval
from ._formulas import Mean, RadiusCurve, average_precision, hits_at
from ._ranking import check_average_precision, curve_ranks


class RetrievalReport(Bunch):
    """What :func:`retrieval_report` found: a dictionary whose keys are attributes too.

    Printed, it is a small table.
    """

    def __str__(self) -> str:
        rows = [
            ("queries x database", f"{self.n_queries} x {self.n_database}"),
            ("queries with nothing relevant", str(self.n_empty_queries)),
            ("bits (constant ones)", f"{self.n_bits} ({self.n_constant_bits})"),
            (f"MAP{'' if self.k is None else f'@{self.k}'}", f"{self.map:.4f}"),
            ("  in random order", f"{self.chance_map:.4f}"),
            *((f"precision@{k}", f"{value:.4f}") for k, value in self.precision_at.items()),
            (f"precision within radius {self.radius}", f"{self.precision_within_radius:.4f}"),
            ("  in random order", f"{self.chance_precision:.4f}"),
        ]
        if self.encode_seconds is not None:
            rows.append(("seconds to encode", f"{self.encode_seconds:.3g}"))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value:>13}" for name, value in rows)


def retrieval_report(
    hasher: Any,
    X_query: Any,
    X_database: Any,
    query_labels: Any,
    database_labels: Any,
    *,
    k: int | None = None,
    divisor: str = "min",
    empty: str = "zero",
    ties: str = "expected",
    precision_at: Sequence[int] = (10, 100, 500),
    radius: int = 2,
    average: str = "micro",
    ks: ArrayLike | None = None,
) -> RetrievalReport:
    """Encode queries and a database, search, and measure all that papers report.

    Parameters
    ----------
    hasher : fitted estimator
        Its ``transform`` gives codes of 0 and 1.
    X_query : n_queries samples
        Input of ``transform``.
    X_database : n_database samples
        Input of ``transform``.
    query_labels : labels of n_queries items
        Ground truth in any form that :func:`skhash.tags.encode_tags` takes.
    database_labels : labels of n_database items
        Ground truth in the same form. Items that share a label are relevant.
    k : int, default=None
        Cut-off of the mean average precision; the full ranking if None.
    divisor : {"min", "relevant", "hits"}, default="min"
        See :func:`mean_average_precision`.
    empty : {"zero", "skip"}, default="zero"
        Whether queries to which nothing is relevant count as 0 or not at all.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        How items at the same distance count; see
        :func:`mean_average_precision`.
    precision_at : sequence of int, default=(10, 100, 500)
        Where to report precision@k.
    radius : int, default=2
        Hamming radius of the lookup whose precision is reported.
    average : {"micro", "macro"}, default="micro"
        Of the precision-recall curve; see :func:`precision_recall_by_radius`.
    ks : array-like of int, default=None
        Ranks of the precision curve; 1, 2, .., min(n_database, 1000) if None.

    Returns
    -------
    RetrievalReport
        A dictionary with attribute access; ``str`` makes a table of

        - ``map`` and ``chance_map``, its expectation in random order;
        - ``precision_at``, a dict from k to precision, and
          ``precision_within_radius``, for ``radius``; ``chance_precision`` is
          the expectation of both in random order;
        - ``precision_recall``: a Bunch of ``precision``, ``recall``, ``radius``,
          the arguments of :class:`PrecisionRecallDisplay`;
        - ``precision_curve``: a Bunch of ``precision`` and ``ks``, the
          arguments of :class:`PrecisionCurveDisplay`;
        - ``n_queries``, ``n_database``, ``n_empty_queries`` (nothing is
          relevant to them), ``n_unknown_labels`` (labels of queries that the
          database lacks, counted once per query);
        - ``n_bits`` and ``n_constant_bits``, those with one value in the whole
          database;
        - ``encode_seconds``, the wall time of both ``transform`` calls;
        - the options ``k``, ``divisor``, ``empty``, ``ties``, ``average``.

    Raises
    ------
    ValueError, TypeError
        If codes, labels or options do not fit; the message names the argument.

    Examples
    --------
    >>> from sklearn.preprocessing import Binarizer
    >>> from skhash.metrics import retrieval_report
    >>> X_query, X_database = [[0.0, 3.0]], [[0.0, 1.0], [0.0, 4.0], [2.0, 0.0]]
    >>> labels = ["cat", "cat", "dog"]
    >>> report = retrieval_report(Binarizer(), X_query, X_database, ["cat"], labels)
    >>> report.map
    1.0
    """
    start = time.perf_counter()
    query_codes, database_codes = (np.asarray(hasher.transform(X)) for X in (X_query, X_database))
    seconds = time.perf_counter() - start
    report = report_from_codes(
        query_codes,
        database_codes,
        query_labels,
        database_labels,
        k=k,
        divisor=divisor,
        empty=empty,
        ties=ties,
        precision_at=precision_at,
        radius=radius,
        average=average,
        ks=ks,
    )
    report.encode_seconds = seconds
    return report


def report_from_codes(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    *,
    k: int | None = None,
    divisor: str = "min",
    empty: str = "zero",
    ties: str = "expected",
    precision_at: Sequence[int] = (10, 100, 500),
    radius: int = 2,
    average: str = "micro",
    ks: ArrayLike | None = None,
    packed: bool = False,
) -> RetrievalReport:
    """Measure all that papers report, from codes.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits)
        Codes of 0 and 1.
    query_labels, database_labels : labels of n items
        Ground truth.
    k, divisor, empty, ties, precision_at, radius, average, ks
        See :func:`retrieval_report`.
    packed : bool, default=False
        Whether the codes are packed; bits are then those of whole bytes.

    Returns
    -------
    RetrievalReport
        See :func:`retrieval_report`; ``encode_seconds`` is None.

    Raises
    ------
    ValueError, TypeError
        If codes, labels or options do not fit; the message names the argument.
    """
    check_average_precision(k, divisor, empty)
    check_option("average", average, AVERAGES)
    check_integer("radius", radius, 0)
    points = check_ranks("precision_at", precision_at)
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    ranks = curve_ranks(ks, retrieval.n_searched)
    limit = None if k is None else max(k, points.max(), ranks.max())

    n_empty = 0
    scores, random_scores, random_hits = Mean(empty), Mean(empty), Mean(empty)
    hits, hits_at_points = Mean(empty), Mean(empty)
    curve, lookup = RadiusCurve(average, empty), RadiusCurve("macro", empty)
    for by_distance, ranking in retrieval.rankings(ties, limit):
        n_relevant, random = ranking.n_relevant, by_distance.merge()
        n_empty += int((n_relevant == 0).sum())
        scores.add(average_precision(ranking, k, divisor), n_relevant)
        random_scores.add(average_precision(random, k, divisor), n_relevant)
        random_hits.add(n_relevant, n_relevant)
        hits.add(hits_at(ranking, ranks), n_relevant)
        hits_at_points.add(hits_at(ranking, points), n_relevant)
        curve.add(by_distance)
        lookup.add(by_distance)
    precision, recall = curve.result()
    precision_at_points = hits_at_points.result() / np.minimum(points, retrieval.n_searched)
    ones = np.unpackbits(np.bitwise_or.reduce(retrieval.database))[: retrieval.n_bits]
    zeros = np.unpackbits(~np.bitwise_and.reduce(retrieval.database))[: retrieval.n_bits]
    return RetrievalReport(
        map=float(scores.result()),
        chance_map=float(random_scores.result()),
        precision_at=dict(zip(points.tolist(), precision_at_points.tolist(), strict=True)),
        precision_within_radius=float(lookup.result()[0][min(radius, retrieval.n_bits)]),
        chance_precision=float(random_hits.result() / retrieval.n_searched),
        precision_recall=Bunch(
            precision=precision, recall=recall, radius=np.arange(retrieval.n_bits + 1)
        ),
        precision_curve=Bunch(
            precision=hits.result() / np.minimum(ranks, retrieval.n_searched), ks=ranks
        ),
        n_queries=retrieval.n_queries,
        n_database=retrieval.n_searched,
        n_empty_queries=n_empty,
        n_unknown_labels=retrieval.query_tags.n_unknown,
        n_bits=retrieval.n_bits,
        n_constant_bits=int((~(ones & zeros).astype(bool)).sum()),
        encode_seconds=None,
        k=k,
        divisor=divisor,
        empty=empty,
        ties=ties,
        average=average,
        radius=radius,
    )

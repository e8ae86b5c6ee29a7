"""A report on retrieval with codes: the metrics of the hashing literature in one pass."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch

from ._checks import AVERAGES, check_integer, check_option, check_ranks
from ._distance_counts import Retrieval
from ._formulas import Mean, RadiusCurve
from ._table import METRICS, Measure, check_average_precision, check_k, curve_ranks, rank_for

_CHANCE = "in random order"


class RetrievalReport(Bunch):
    """Result of :func:`retrieval_report`: a dictionary whose keys are also attributes.

    Printed or shown in a notebook, it is a small table.
    """

    def figures(self) -> Iterator[tuple[str, float, float]]:
        """Iterate over the metrics: title, value, and value for a database in random order.

        Yields
        ------
        title : str
            Name of the metric, with its cut-off.
        value : float
            Measured value.
        chance : float
            Expected value for a database in random order.
        """
        for name in self.metrics:
            metric, key = METRICS[name], key_of(name)
            if metric.cut == "at":
                for k, value in self[key].items():
                    yield metric.title_at(k), value, self[f"chance_{key}"][k]
            else:
                yield metric.title_at(self[metric.cut]), self[key], self[f"chance_{key}"]

    def to_frame(self) -> Any:
        """Return the metrics as a data frame; needs pandas.

        Returns
        -------
        pandas.DataFrame
            A row per metric; columns "value" and "in random order".
        """
        titles, *columns = zip(*self.figures(), strict=True)
        return data_frame(dict(zip(["value", _CHANCE], columns, strict=True)), titles, "metric")

    def __str__(self) -> str:
        return text_table(*self._table())

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            ["queries x database", f"{self.n_queries} x {self.n_database}", ""],
            ["queries with nothing relevant", str(self.n_empty_queries), ""],
            ["bits (constant ones)", f"{self.n_bits} ({self.n_constant_bits})", ""],
        ]
        rows += [[title, *(f"{v:.4f}" for v in values)] for title, *values in self.figures()]
        if self.encode_seconds is not None:
            rows.append(["seconds to encode", f"{self.encode_seconds:.3g}", ""])
        return ["", "value", _CHANCE], rows


def check_names(metrics: Sequence[str] | None) -> list[str]:
    """Check which metrics to report."""
    if metrics is not None and (isinstance(metrics, str) or not len(metrics)):
        raise ValueError(f"metrics must be a non-empty list of names, got {metrics!r}.")
    names = list(dict.fromkeys(METRICS if metrics is None else metrics))
    for name in names:
        check_option("metrics", name, tuple(METRICS))
    return names


def key_of(name: str) -> str:
    """Key of a metric in a report."""
    return f"{name}_at" if METRICS[name].cut == "at" else name


def text_table(header: list[str], rows: list[list[str]]) -> str:
    """Align columns, all but the first to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = (
        [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        for row in (header, *rows)
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def html_table(header: list[str], rows: list[list[str]]) -> str:
    """Make a table for notebooks."""
    lines = [
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        for tag, row in [("th", header), *(("td", row) for row in rows)]
    ]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def data_frame(columns: dict[str, Any], index: Sequence[Any], index_name: str) -> Any:
    """Make a data frame, importing pandas on use only."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install pandas") from error
    return pd.DataFrame(columns, index=pd.Index(index, name=index_name))


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
    gain: str = "linear",
    at: Sequence[int] = (10, 100, 500),
    radius: int = 2,
    average: str = "micro",
    ks: ArrayLike | None = None,
    metrics: Sequence[str] | None = None,
    n_jobs: int | None = None,
) -> RetrievalReport:
    """Encode queries and a database, search, and compute the metrics that papers report.

    Parameters
    ----------
    hasher : fitted estimator
        Its ``transform`` returns codes of 0 and 1.
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
        Whether queries without relevant items count as 0 or are left out.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        How items at the same distance count; see
        :func:`mean_average_precision`.
    gain : {"linear", "exponential"}, default="linear"
        Gain for nDCG; see :func:`ndcg_at_k`.
    at : sequence of int, default=(10, 100, 500)
        Numbers of ranks at which to report precision, recall and nDCG.
    radius : int, default=2
        Hamming radius of the lookup whose precision is reported.
    average : {"micro", "macro"}, default="micro"
        Average for the precision-recall curve; see
        :func:`precision_recall_by_radius`.
    ks : array-like of int, default=None
        Ranks of the precision curve; 1, 2, .., min(n_database, 1000) if None.
    metrics : sequence of str, default=None
        Metrics to report, from "map", "precision", "recall", "ndcg" and
        "precision_within_radius"; all if None.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.

    Returns
    -------
    RetrievalReport
        A dictionary with attribute access. ``str`` returns it as a table,
        ``to_frame`` as a data frame. It has

        - ``map``;
        - ``precision_at``, ``recall_at`` and ``ndcg_at``, each a dict from k;
        - ``precision_within_radius``, for ``radius``;
        - each of these with ``chance_`` before its name: the values expected
          for a database in random order. ``chance_map`` is the MAP of such an
          order. ``chance_precision`` is the share of the database that is
          relevant: the expected precision of a random choice, the same at all
          k. For a full ranking it is below ``chance_map``;
        - ``precision_recall``: a Bunch of ``precision``, ``recall``, ``radius``,
          the arguments of :class:`PrecisionRecallDisplay`;
        - ``precision_curve``: a Bunch of ``precision`` and ``ks``, the
          arguments of :class:`PrecisionCurveDisplay`;
        - ``n_queries``, ``n_database``, ``n_empty_queries`` (nothing is
          relevant to them), ``n_unknown_labels`` (labels of queries that are
          not in the database, counted once per query);
        - ``n_bits``, and ``n_constant_bits``, the number of bits with only one
          value in the database;
        - ``encode_seconds``, the wall time of both ``transform`` calls;
        - the options ``k``, ``divisor``, ``empty``, ``ties``, ``gain``,
          ``average``, ``radius``, ``metrics``.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.

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
        gain=gain,
        at=at,
        radius=radius,
        average=average,
        ks=ks,
        metrics=metrics,
        n_jobs=n_jobs,
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
    gain: str = "linear",
    at: Sequence[int] = (10, 100, 500),
    radius: int = 2,
    average: str = "micro",
    ks: ArrayLike | None = None,
    metrics: Sequence[str] | None = None,
    n_jobs: int | None = None,
    packed: bool = False,
) -> RetrievalReport:
    """Compute the metrics that papers report, from codes.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits)
        Codes of 0 and 1.
    query_labels, database_labels : labels of n items
        Ground truth.
    k, divisor, empty, ties, gain, at, radius, average, ks, metrics, n_jobs
        See :func:`retrieval_report`.
    packed : bool, default=False
        Whether the codes are packed; ``n_bits`` is then 8 times the number of
        bytes.

    Returns
    -------
    RetrievalReport
        See :func:`retrieval_report`; ``encode_seconds`` is None.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.
    """
    check_average_precision(k, divisor, empty)
    check_option("average", average, AVERAGES)
    names = check_names(metrics)
    cuts = {
        "k": check_k(k),
        "at": check_ranks("at", at),
        "radius": [check_integer("radius", radius, 0)],
    }
    retrieval = Retrieval(
        query_codes, database_codes, query_labels, database_labels, packed=packed, gain=gain
    )
    options = {"divisor": divisor}
    found = {
        name: Measure(name, cuts[METRICS[name].cut], empty, options, with_chance=True)
        for name in names
    }
    precision_curve = Measure("precision", curve_ranks(ks, retrieval.n_searched), empty)
    precision_recall, n_relevant, n_empty = RadiusCurve(average, empty), Mean(empty), 0
    measures = [*found.values(), precision_curve]
    for ranked in rank_for(measures, retrieval, ties, n_jobs):
        for measure in measures:
            measure.add(ranked)
        precision_recall.add(ranked.by_distance)
        n_relevant.add(ranked.n_relevant, ranked.n_relevant)
        n_empty += int((ranked.n_relevant == 0).sum())

    report = RetrievalReport()
    for name, measure in found.items():
        for prefix, mean in (("", measure.mean), ("chance_", measure.chance)):
            assert mean is not None
            values = mean.result().tolist()
            report[prefix + key_of(name)] = (
                dict(zip(measure.cuts.tolist(), values, strict=True))
                if measure.metric.cut == "at"
                else values[0]
            )
    precision, recall = precision_recall.result()
    ones = np.unpackbits(np.bitwise_or.reduce(retrieval.database))[: retrieval.n_bits]
    zeros = np.unpackbits(~np.bitwise_and.reduce(retrieval.database))[: retrieval.n_bits]
    report.update(
        chance_precision=float(n_relevant.result() / retrieval.n_searched),
        precision_recall=Bunch(
            precision=precision, recall=recall, radius=np.arange(retrieval.n_bits + 1)
        ),
        precision_curve=Bunch(precision=precision_curve.mean.result(), ks=precision_curve.cuts),
        n_queries=retrieval.n_queries,
        n_database=retrieval.n_searched,
        n_empty_queries=n_empty,
        n_unknown_labels=retrieval.n_unknown_labels,
        n_bits=retrieval.n_bits,
        n_constant_bits=int((~(ones & zeros).astype(bool)).sum()),
        encode_seconds=None,
        k=k,
        divisor=divisor,
        empty=empty,
        ties=ties,
        gain=gain,
        average=average,
        radius=radius,
        metrics=names,
    )
    return report

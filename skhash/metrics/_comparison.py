"""Reports on several hashers side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ._checks import check_option
from ._curves import PrecisionCurveDisplay, PrecisionRecallDisplay
from ._report import RetrievalReport, data_frame, html_table, retrieval_report, text_table

_CHANCE = "random order"
# What must be the same for two reports to be compared.
_SAME = ("n_queries", "n_database", "k", "divisor", "empty", "ties", "gain", "average", "radius")


class RetrievalComparison(dict[str, RetrievalReport]):
    """Reports by name of the hasher, as returned by :func:`compare_hashers`.

    Printed or shown in a notebook, it is a table. It has a column per hasher
    and a column of the values expected for a database in random order.

    Parameters
    ----------
    reports : dict of str to RetrievalReport
        Reports, such as those of :func:`report_from_codes`, on the same
        queries, database, labels and options.

    Raises
    ------
    ValueError
        If the reports differ in queries, database, labels or options.
    """

    def __init__(self, reports: Mapping[str, RetrievalReport]) -> None:
        if not reports:
            raise ValueError("reports is empty; give at least one report.")
        first, *others = reports.values()
        for other in others:
            differing = [key for key in _SAME if first[key] != other[key]]
            expected, found = (list(report.figures()) for report in (first, other))
            if [title for title, *_ in expected] != [title for title, *_ in found]:
                differing.append("metrics")
            elif not np.allclose([f[2] for f in expected], [f[2] for f in found], equal_nan=True):
                differing.append("labels")
            if differing:
                raise ValueError(f"reports differ in {', '.join(differing)}; these must be equal.")
        super().__init__(reports)

    def to_frame(self) -> Any:
        """Return the metrics as a data frame; needs pandas.

        Returns
        -------
        pandas.DataFrame
            One row per hasher, after a first row for a database in random
            order. One column per metric, and the columns "bits" and "seconds
            to encode".
        """
        columns: dict[str, list[Any]] = {"bits": [None, *(r.n_bits for r in self.values())]}
        for figures in zip(*(report.figures() for report in self.values()), strict=True):
            columns[figures[0][0]] = [figures[0][2], *(value for _, value, _ in figures)]
        columns["seconds to encode"] = [None, *(r.encode_seconds for r in self.values())]
        return data_frame(columns, [_CHANCE, *self], "hasher")

    def plot(
        self,
        curve: Literal["precision_recall", "precision_curve"] = "precision_recall",
        *,
        ax: Any = None,
        plot_chance_level: bool = True,
        **kwargs: Any,
    ) -> dict[str, PrecisionRecallDisplay | PrecisionCurveDisplay]:
        """Draw a curve of each hasher on the same axes.

        Parameters
        ----------
        curve : {"precision_recall", "precision_curve"}, default="precision_recall"
            Precision over recall, or over the number of items retrieved.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.
        plot_chance_level : bool, default=True
            Whether to draw the precision of a random order.
        **kwargs
            Arguments of matplotlib for the curves.

        Returns
        -------
        dict of str to display
            :class:`PrecisionRecallDisplay` or :class:`PrecisionCurveDisplay`
            by the names of the hashers.
        """
        check_option("curve", curve, ("precision_recall", "precision_curve"))
        displays: dict[str, PrecisionRecallDisplay | PrecisionCurveDisplay] = {}
        for name, report in self.items():
            display: PrecisionRecallDisplay | PrecisionCurveDisplay
            if curve == "precision_recall":
                display = PrecisionRecallDisplay(**report.precision_recall, name=name)
            else:
                display = PrecisionCurveDisplay(
                    **report.precision_curve, name=name, chance_level=report.chance_precision
                )
            is_last = len(displays) == len(self) - 1
            display.plot(ax, plot_chance_level=plot_chance_level and is_last, **kwargs)
            ax, displays[name] = display.ax_, display
        return displays

    def __str__(self) -> str:
        return text_table(*self._table())

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        reports = list(self.values())
        rows = [["bits", "", *(str(report.n_bits) for report in reports)]]
        for figures in zip(*(report.figures() for report in reports), strict=True):
            values = [figures[0][2], *(value for _, value, _ in figures)]
            rows.append([figures[0][0], *(f"{value:.4f}" for value in values)])
        seconds = [report.encode_seconds for report in reports]
        if None not in seconds:
            rows.append(["seconds to encode", "", *(f"{value:.3g}" for value in seconds)])
        return ["", _CHANCE, *self], rows


def compare_hashers(
    hashers: Mapping[str, Any],
    X_query: Any,
    X_database: Any,
    query_labels: Any,
    database_labels: Any,
    **options: Any,
) -> RetrievalComparison:
    """Report on several hashers: :func:`retrieval_report` of each, side by side.

    Parameters
    ----------
    hashers : dict of str to fitted estimator
        Hashers by the names to show in tables and legends. Each ``transform``
        returns codes of 0 and 1.
    X_query, X_database : n samples
        Input of every ``transform``.
    query_labels, database_labels : labels of n items
        Ground truth; see :func:`retrieval_report`.
    **options
        Further options of :func:`retrieval_report`.

    Returns
    -------
    RetrievalComparison
        A dictionary from name to :class:`RetrievalReport` that prints as a
        table, and has ``to_frame`` and ``plot``.

    Raises
    ------
    ValueError, TypeError
        If ``hashers`` is not a dict or is empty, or if codes, labels or
        options are invalid; the message names the argument.

    Examples
    --------
    >>> from sklearn.preprocessing import Binarizer
    >>> from skhash.metrics import compare_hashers
    >>> X_query, X_database = [[0.0, 3.0]], [[0.0, 1.0], [0.0, 4.0], [2.0, 0.0]]
    >>> hashers = {"low": Binarizer(), "high": Binarizer(threshold=2)}
    >>> labels = ["cat", "cat", "dog"]
    >>> comparison = compare_hashers(
    ...     hashers, X_query, X_database, ["cat"], labels, metrics=["map", "recall"], at=[1]
    ... )
    >>> {name: round(report.map, 4) for name, report in comparison.items()}
    {'low': 1.0, 'high': 0.9167}
    """
    if not isinstance(hashers, Mapping):
        raise TypeError(
            f"hashers must be a dict from name to fitted hasher, got {type(hashers).__name__}."
        )
    if not hashers:
        raise ValueError("hashers is empty; give at least one hasher.")
    data = (X_query, X_database, query_labels, database_labels)
    return RetrievalComparison(
        {name: retrieval_report(hasher, *data, **options) for name, hasher in hashers.items()}
    )

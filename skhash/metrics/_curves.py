"""Displays of metrics as curves."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._radius import precision_recall_by_radius
from ._ranking import chance_level, metric_curve, precision_curve
from ._table import METRICS


def pyplot(display: object) -> Any:
    """Import matplotlib.pyplot, on use only."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{type(display).__name__}.plot needs matplotlib: pip install "scikit-hash[plot]"'
        ) from error
    return plt


class _CurveDisplay:
    """A curve of a metric, and its chance level: the values of a database in random order.

    A subclass has ``name`` and ``chance_level``, and defines what to draw.
    """

    name: str | None

    def _curve(self) -> tuple[NDArray[Any], NDArray[Any], str, str]:
        """Both coordinates, and the names of the axes."""
        raise NotImplementedError

    @classmethod
    def from_estimator(
        cls,
        hasher: Any,
        X_query: Any,
        X_database: Any,
        query_labels: Any,
        database_labels: Any,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Self:
        """Encode samples, compute the metric and plot it.

        Parameters
        ----------
        hasher : fitted estimator
            Its ``transform`` returns codes of 0 and 1.
        X_query, X_database : n samples
            Input of ``transform``.
        query_labels, database_labels : labels of n items
            Ground truth in any form that :func:`skhash.tags.encode_tags`
            takes. Items that share a label are relevant.
        name : str, default=None
            Label of the curve; the name of the class of ``hasher`` if None.
        **options
            Further options of ``from_codes``.

        Returns
        -------
        display
            The display, plotted.
        """
        display: Self = cls.from_codes(  # type: ignore[attr-defined]
            np.asarray(hasher.transform(X_query)),
            np.asarray(hasher.transform(X_database)),
            query_labels,
            database_labels,
            name=type(hasher).__name__ if name is None else name,
            **options,
        )
        return display

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        plot_chance_level: bool = False,
        chance_level_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.
        name : str, default=None
            Label of the curve, in place of the display's.
        plot_chance_level : bool, default=False
            Whether to draw the values of a database in random order. Several
            curves on the same axes share one legend entry for it.
        chance_level_kw : dict, default=None
            Arguments of matplotlib for the line of the chance level.
        **kwargs
            Arguments of matplotlib for the curve.

        Returns
        -------
        display
            The display itself.
        """
        level = self.chance_level if plot_chance_level else None  # type: ignore[attr-defined]
        if plot_chance_level and level is None:
            raise ValueError("chance_level is None; give it, or plot_chance_level=False.")
        plt = pyplot(self)
        self.ax_ = plt.subplots()[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        x, y, xlabel, ylabel = self._curve()
        (self.line_,) = self.ax_.plot(
            x, y, **({"label": self.name if name is None else name} | kwargs)
        )
        self.chance_level_ = None
        if level is not None:
            label = "random order" + (f" ({level:.3f})" if np.ndim(level) == 0 else "")
            style = {"color": "gray", "linestyle": ":", "label": label} | (chance_level_kw or {})
            if style["label"] in self.ax_.get_legend_handles_labels()[1]:
                style["label"] = "_nolegend_"
            if np.ndim(level) == 0:
                self.chance_level_ = self.ax_.axhline(level, **style)
            else:
                (self.chance_level_,) = self.ax_.plot(x, level, **style)
        self.ax_.set(xlabel=xlabel, ylabel=ylabel)
        if self.ax_.get_legend_handles_labels()[0]:
            self.ax_.legend()
        return self


class PrecisionRecallDisplay(_CurveDisplay):
    """Precision over recall as the Hamming radius of the search grows.

    Make it with :meth:`from_estimator` or :meth:`from_codes`, or from the
    ``precision_recall`` of a :func:`retrieval_report`.

    Parameters
    ----------
    precision, recall : ndarray of shape (n_radii,)
        Precision and recall at each radius, as returned by
        :func:`precision_recall_by_radius`.
    radius : ndarray of shape (n_radii,)
        Hamming radii.
    name : str, default=None
        Label of the curve.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    chance_level_ : matplotlib Line2D or None
        The line of the chance level: the precision if the whole database is
        retrieved.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    PrecisionCurveDisplay : Precision over the number of items retrieved.
    """

    def __init__(
        self,
        precision: NDArray[np.float64],
        recall: NDArray[np.float64],
        radius: NDArray[np.int64],
        *,
        name: str | None = None,
    ) -> None:
        self.precision = precision
        self.recall = recall
        self.radius = radius
        self.name = name

    @property
    def chance_level(self) -> float:
        """Precision of a random order: the precision of the whole database."""
        return float(self.precision[-1])

    def _curve(self) -> tuple[NDArray[Any], NDArray[Any], str, str]:
        # The curve begins where the first relevant item is found.
        found = self.recall > 0
        return self.recall[found], self.precision[found], "Recall", "Precision"

    @classmethod
    def from_codes(
        cls,
        query_codes: ArrayLike,
        database_codes: ArrayLike,
        query_labels: Any,
        database_labels: Any,
        *,
        average: str = "micro",
        empty: str = "zero",
        packed: bool = False,
        n_jobs: int | None = None,
        name: str | None = None,
        ax: Any = None,
        plot_chance_level: bool = False,
        chance_level_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> PrecisionRecallDisplay:
        """Compute the metric from codes and plot it.

        Parameters
        ----------
        query_codes, database_codes : array-like of shape (n, n_bits)
            Codes of 0 and 1.
        query_labels, database_labels : labels of n items
            Ground truth. Items that share a label are relevant.
        average, empty, packed, n_jobs
            See :func:`precision_recall_by_radius`.
        name : str, default=None
            Label of the curve.
        ax, plot_chance_level, chance_level_kw, **kwargs
            See :meth:`plot`.

        Returns
        -------
        PrecisionRecallDisplay
            The display, plotted.
        """
        curve = precision_recall_by_radius(
            query_codes,
            database_codes,
            query_labels,
            database_labels,
            average=average,
            empty=empty,
            packed=packed,
            n_jobs=n_jobs,
        )
        return cls(*curve, name=name).plot(
            ax, plot_chance_level=plot_chance_level, chance_level_kw=chance_level_kw, **kwargs
        )


class MetricCurveDisplay(_CurveDisplay):
    """Any metric over the number of items retrieved.

    Make it with :meth:`from_estimator` or :meth:`from_codes`.

    Parameters
    ----------
    values : ndarray of shape (n_ks,)
        Values of the metric, as returned by :func:`metric_curve`.
    ks : ndarray of shape (n_ks,)
        Numbers of items retrieved.
    metric : {"map", "precision", "recall", "ndcg"}
        Name of the metric.
    name : str, default=None
        Label of the curve.
    chance_level : float or ndarray of shape (n_ks,), default=None
        Values for a random order.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    chance_level_ : matplotlib Line2D or None
        The line of the chance level.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    PrecisionCurveDisplay : Precision, the curve that most papers show.
    """

    def __init__(
        self,
        values: NDArray[np.float64],
        ks: NDArray[np.int64],
        *,
        metric: str,
        name: str | None = None,
        chance_level: float | NDArray[np.float64] | None = None,
    ) -> None:
        self.values = values
        self.ks = ks
        self.metric = metric
        self.name = name
        self.chance_level = chance_level

    def _curve(self) -> tuple[NDArray[Any], NDArray[Any], str, str]:
        title = METRICS[self.metric].title
        title = title.capitalize() if title.islower() else title
        return self.ks, self.values, "Items retrieved", title

    @classmethod
    def from_codes(
        cls,
        query_codes: ArrayLike,
        database_codes: ArrayLike,
        query_labels: Any,
        database_labels: Any,
        *,
        metric: str,
        ks: ArrayLike | None = None,
        divisor: str = "min",
        gain: str | ArrayLike = "linear",
        empty: str = "zero",
        ties: str = "expected",
        packed: bool = False,
        n_jobs: int | None = None,
        name: str | None = None,
        ax: Any = None,
        plot_chance_level: bool = False,
        chance_level_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> MetricCurveDisplay:
        """Compute the metric from codes and plot it.

        Parameters
        ----------
        query_codes, database_codes : array-like of shape (n, n_bits)
            Codes of 0 and 1.
        query_labels, database_labels : labels of n items
            Ground truth. Items that share a label are relevant.
        metric, ks, divisor, gain, empty, ties, packed, n_jobs
            See :func:`metric_curve`.
        name : str, default=None
            Label of the curve.
        ax, plot_chance_level, chance_level_kw, **kwargs
            See :meth:`plot`.

        Returns
        -------
        MetricCurveDisplay
            The display, plotted.
        """
        labels = (query_labels, database_labels)
        options: dict[str, Any] = {
            "metric": metric,
            "divisor": divisor,
            "gain": gain,
            "empty": empty,
            "n_jobs": n_jobs,
        }
        values, ks = metric_curve(
            query_codes, database_codes, *labels, ks, ties=ties, packed=packed, **options
        )
        chance = None
        if plot_chance_level:
            # With equal codes the whole database is tied: a random order.
            alike = [np.zeros((len(np.asarray(c)), 1)) for c in (query_codes, database_codes)]
            chance, _ = metric_curve(alike[0], alike[1], *labels, ks, **options)
        return cls(values, ks, metric=metric, name=name, chance_level=chance).plot(
            ax, plot_chance_level=plot_chance_level, chance_level_kw=chance_level_kw, **kwargs
        )


class PrecisionCurveDisplay(_CurveDisplay):
    """Precision over the number of items retrieved.

    Make it with :meth:`from_estimator` or :meth:`from_codes`, or from the
    ``precision_curve`` of a :func:`retrieval_report`.

    Parameters
    ----------
    precision : ndarray of shape (n_ks,)
        Precision at each k, as returned by :func:`precision_curve`.
    ks : ndarray of shape (n_ks,)
        Numbers of items retrieved.
    name : str, default=None
        Label of the curve.
    chance_level : float, default=None
        Precision of a random order; see :func:`skhash.metrics.chance_level`.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    chance_level_ : matplotlib Line2D or None
        The line of the chance level.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    PrecisionRecallDisplay : Precision over recall.
    MetricCurveDisplay : Other metrics over the number of items retrieved.
    """

    def __init__(
        self,
        precision: NDArray[np.float64],
        ks: NDArray[np.int64],
        *,
        name: str | None = None,
        chance_level: float | None = None,
    ) -> None:
        self.precision = precision
        self.ks = ks
        self.name = name
        self.chance_level = chance_level

    def _curve(self) -> tuple[NDArray[Any], NDArray[Any], str, str]:
        return self.ks, self.precision, "Items retrieved", "Precision"

    @classmethod
    def from_codes(
        cls,
        query_codes: ArrayLike,
        database_codes: ArrayLike,
        query_labels: Any,
        database_labels: Any,
        *,
        ks: ArrayLike | None = None,
        empty: str = "zero",
        ties: str = "expected",
        packed: bool = False,
        n_jobs: int | None = None,
        name: str | None = None,
        ax: Any = None,
        plot_chance_level: bool = False,
        chance_level_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> PrecisionCurveDisplay:
        """Compute the metric from codes and plot it.

        Parameters
        ----------
        query_codes, database_codes : array-like of shape (n, n_bits)
            Codes of 0 and 1.
        query_labels, database_labels : labels of n items
            Ground truth. Items that share a label are relevant.
        ks, empty, ties, packed, n_jobs
            See :func:`precision_curve`.
        name : str, default=None
            Label of the curve.
        ax, plot_chance_level, chance_level_kw, **kwargs
            See :meth:`plot`.

        Returns
        -------
        PrecisionCurveDisplay
            The display, plotted.
        """
        curve = precision_curve(
            query_codes,
            database_codes,
            query_labels,
            database_labels,
            ks,
            empty=empty,
            ties=ties,
            packed=packed,
            n_jobs=n_jobs,
        )
        chance = (
            chance_level(query_labels, database_labels, empty=empty) if plot_chance_level else None
        )
        return cls(*curve, name=name, chance_level=chance).plot(
            ax, plot_chance_level=plot_chance_level, chance_level_kw=chance_level_kw, **kwargs
        )

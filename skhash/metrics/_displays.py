"""Pictures of retrieval: precision curves and sheets of neighbours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import hamming_blocks
from ._checks import check_integer
from ._counting import Relevance, nearest, packed_pair, tag_pair
from ._ranking import chance_level, precision_curve, precision_recall_by_radius


def _pyplot(display: object) -> Any:
    """Import matplotlib.pyplot, on use only."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{type(display).__name__}.plot needs matplotlib: pip install "scikit-hash[plot]"'
        ) from error
    return plt


class _CurveDisplay:
    """A curve of precision over something."""

    name: str | None

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
    ) -> Any:
        """Encode samples, measure and plot.

        Parameters
        ----------
        hasher : fitted estimator
            Its ``transform`` gives codes of 0 and 1.
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
        return cls.from_codes(  # type: ignore[attr-defined]
            np.asarray(hasher.transform(X_query)),
            np.asarray(hasher.transform(X_database)),
            query_labels,
            database_labels,
            name=type(hasher).__name__ if name is None else name,
            **options,
        )

    def _plot(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        xlabel: str,
        *,
        ax: Any,
        name: str | None,
        chance_level: float | None,
        chance_level_kw: dict[str, Any] | None,
        line_kw: dict[str, Any],
    ) -> None:
        plt = _pyplot(self)
        self.ax_ = plt.subplots()[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        name = self.name if name is None else name
        (self.line_,) = self.ax_.plot(x, y, **({"label": name} | line_kw))
        self.chance_level_ = None
        if chance_level is not None:
            style = {"color": "gray", "linestyle": ":", "label": f"chance ({chance_level:.3f})"}
            self.chance_level_ = self.ax_.axhline(chance_level, **(style | (chance_level_kw or {})))
        self.ax_.set(xlabel=xlabel, ylabel="Precision")
        if self.ax_.get_legend_handles_labels()[0]:
            self.ax_.legend()


class PrecisionRecallDisplay(_CurveDisplay):
    """Precision over recall as the Hamming radius of the search grows.

    Make it with :meth:`from_estimator` or :meth:`from_codes`, or from the
    ``precision_recall`` of a :func:`retrieval_report`.

    Parameters
    ----------
    precision, recall : ndarray of shape (n_radii,)
        As :func:`precision_recall_by_radius` gives them.
    radius : ndarray of shape (n_radii,)
        Hamming radii.
    name : str, default=None
        Label of the curve.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    chance_level_ : matplotlib Line2D or None
        The line of the chance level: the precision where all is retrieved.
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
        """Precision of random order: that of the whole database."""
        return float(self.precision[-1])

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
        name: str | None = None,
        ax: Any = None,
        plot_chance_level: bool = False,
        chance_level_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> PrecisionRecallDisplay:
        """Measure and plot.

        Parameters
        ----------
        query_codes, database_codes : array-like of shape (n, n_bits)
            Codes of 0 and 1.
        query_labels, database_labels : labels of n items
            Ground truth. Items that share a label are relevant.
        average, empty, packed
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
        )
        return cls(*curve, name=name).plot(
            ax, plot_chance_level=plot_chance_level, chance_level_kw=chance_level_kw, **kwargs
        )

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        plot_chance_level: bool = False,
        chance_level_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> PrecisionRecallDisplay:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.
        name : str, default=None
            Label of the curve, in place of the display's.
        plot_chance_level : bool, default=False
            Whether to draw the precision of random order.
        chance_level_kw : dict, default=None
            Arguments of matplotlib for that line.
        **kwargs
            Arguments of matplotlib for the curve.

        Returns
        -------
        PrecisionRecallDisplay
            The display itself.
        """
        # Where nothing relevant is found yet, there is no point of the curve.
        found = self.recall > 0
        self._plot(
            self.recall[found],
            self.precision[found],
            "Recall",
            ax=ax,
            name=name,
            chance_level=self.chance_level if plot_chance_level else None,
            chance_level_kw=chance_level_kw,
            line_kw=kwargs,
        )
        return self


class PrecisionCurveDisplay(_CurveDisplay):
    """Precision over the number of items retrieved.

    Make it with :meth:`from_estimator` or :meth:`from_codes`, or from the
    ``precision_curve`` of a :func:`retrieval_report`.

    Parameters
    ----------
    precision : ndarray of shape (n_ks,)
        As :func:`precision_curve` gives it.
    ks : ndarray of shape (n_ks,)
        Numbers of items retrieved.
    name : str, default=None
        Label of the curve.
    chance_level : float, default=None
        Precision of random order, see :func:`skhash.metrics.chance_level`.

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
        name: str | None = None,
        ax: Any = None,
        plot_chance_level: bool = False,
        chance_level_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> PrecisionCurveDisplay:
        """Measure and plot.

        Parameters
        ----------
        query_codes, database_codes : array-like of shape (n, n_bits)
            Codes of 0 and 1.
        query_labels, database_labels : labels of n items
            Ground truth. Items that share a label are relevant.
        ks, empty, ties, packed
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
        )
        chance = (
            chance_level(query_labels, database_labels, empty=empty) if plot_chance_level else None
        )
        return cls(*curve, name=name, chance_level=chance).plot(
            ax, plot_chance_level=plot_chance_level, chance_level_kw=chance_level_kw, **kwargs
        )

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        plot_chance_level: bool = False,
        chance_level_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> PrecisionCurveDisplay:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.
        name : str, default=None
            Label of the curve, in place of the display's.
        plot_chance_level : bool, default=False
            Whether to draw the precision of random order.
        chance_level_kw : dict, default=None
            Arguments of matplotlib for that line.
        **kwargs
            Arguments of matplotlib for the curve.

        Returns
        -------
        PrecisionCurveDisplay
            The display itself.
        """
        if plot_chance_level and self.chance_level is None:
            raise ValueError("chance_level is None: give it to plot it.")
        self._plot(
            self.ks,
            self.precision,
            "Items retrieved",
            ax=ax,
            name=name,
            chance_level=self.chance_level if plot_chance_level else None,
            chance_level_kw=chance_level_kw,
            line_kw=kwargs,
        )
        return self


class NeighborsDisplay:
    """A sheet of query images, each with its nearest neighbours to the right.

    A neighbour that is relevant to its query has a solid green frame, another
    one a dashed red frame; without labels there are no frames.

    Parameters
    ----------
    query_images : sequence of n_queries images
        Paths of image files, or arrays of shape (height, width) or
        (height, width, 3 or 4), uint8 or float in [0, 1].
    database_images : sequence of n_database images
        In the same forms; only the neighbours are read.
    neighbors : array-like of shape (n_queries, n_neighbors), int
        Positions of the neighbours in ``database_images``, nearest first, such
        as ``kneighbors`` of a search gives.
    relevant : array-like of shape (n_queries, n_neighbors), bool, default=None
        Which neighbours are relevant, if that is known.

    Attributes
    ----------
    images_ : list of matplotlib AxesImage
        The images, row by row, each query before its neighbours.
    frames_ : list of matplotlib Rectangle
        The frames of the neighbours, row by row.
    ax_ : matplotlib Axes
        Axes of the sheet.
    figure_ : matplotlib Figure
        Figure of the axes.
    """

    def __init__(
        self,
        query_images: Sequence[Any] | NDArray[Any],
        database_images: Sequence[Any] | NDArray[Any],
        neighbors: ArrayLike,
        *,
        relevant: ArrayLike | None = None,
    ) -> None:
        self.query_images = query_images
        self.database_images = database_images
        self.neighbors = neighbors
        self.relevant = relevant

    @classmethod
    def from_estimator(
        cls,
        hasher: Any,
        X_query: Any,
        X_database: Any,
        *,
        query_images: Sequence[Any] | NDArray[Any] | None = None,
        database_images: Sequence[Any] | NDArray[Any] | None = None,
        **options: Any,
    ) -> NeighborsDisplay:
        """Encode samples, search and plot.

        Parameters
        ----------
        hasher : fitted estimator
            Its ``transform`` gives codes of 0 and 1.
        X_query, X_database : n samples
            Input of ``transform``.
        query_images, database_images : sequence of n images, default=None
            What to show of the samples; the samples themselves if None, for
            hashers that take images.
        **options
            Further options of :meth:`from_codes`.

        Returns
        -------
        NeighborsDisplay
            The display, plotted.
        """
        return cls.from_codes(
            np.asarray(hasher.transform(X_query)),
            np.asarray(hasher.transform(X_database)),
            X_query if query_images is None else query_images,
            X_database if database_images is None else database_images,
            **options,
        )

    @classmethod
    def from_codes(
        cls,
        query_codes: ArrayLike,
        database_codes: ArrayLike,
        query_images: Sequence[Any] | NDArray[Any],
        database_images: Sequence[Any] | NDArray[Any],
        *,
        n_neighbors: int = 8,
        query_labels: Any = None,
        database_labels: Any = None,
        packed: bool = False,
        ax: Any = None,
        size: float = 1.0,
    ) -> NeighborsDisplay:
        """Search and plot.

        Parameters
        ----------
        query_codes, database_codes : array-like of shape (n, n_bits)
            Codes of 0 and 1.
        query_images, database_images : sequence of n images
            Paths or arrays.
        n_neighbors : int, default=8
            How many neighbours to show, ties in database order.
        query_labels, database_labels : labels of n items, default=None
            Ground truth, to tell which neighbours are relevant: those that
            share a label with their query. Both or neither.
        packed : bool, default=False
            Whether the codes are packed.
        ax, size
            See :meth:`plot`.

        Returns
        -------
        NeighborsDisplay
            The display, plotted.

        Raises
        ------
        ValueError, TypeError
            If codes, images or labels do not fit; the message names the
            argument.
        """
        if (query_labels is None) != (database_labels is None):
            raise ValueError("Give both query_labels and database_labels, or neither.")
        check_integer("n_neighbors", n_neighbors, 1)
        queries, database, _ = packed_pair(query_codes, database_codes, packed)
        for name, images, codes in (
            ("query_images", query_images, queries),
            ("database_images", database_images, database),
        ):
            if len(images) != len(codes):
                raise ValueError(f"{name} has {len(images)} images for {len(codes)} codes.")
        neighbors = np.array(
            [
                nearest(distances, n_neighbors)
                for _, block in hamming_blocks(queries, database)
                for distances in block
            ]
        )
        relevant = None
        if query_labels is not None:
            tags = tag_pair(query_labels, database_labels, len(queries), len(database))
            relevance, marks = Relevance(*tags), np.empty(len(database), bool)
            relevant = [relevance.mark(i, out=marks)[row] for i, row in enumerate(neighbors)]
        return cls(query_images, database_images, neighbors, relevant=relevant).plot(ax, size=size)

    def plot(self, ax: Any = None, *, size: float = 1.0) -> NeighborsDisplay:
        """Draw the sheet.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.
        size : float, default=1.0
            Width of an image in inches, in a new figure.

        Returns
        -------
        NeighborsDisplay
            The display itself.
        """
        plt = _pyplot(self)
        from matplotlib.patches import Rectangle

        neighbors = np.asarray(self.neighbors)
        if neighbors.ndim != 2 or len(neighbors) != len(self.query_images):
            raise ValueError(
                "neighbors must have one row per query image, "
                f"got shape {neighbors.shape} for {len(self.query_images)} images."
            )
        relevant = None if self.relevant is None else np.asarray(self.relevant, bool)
        if relevant is not None and relevant.shape != neighbors.shape:
            raise ValueError(
                f"relevant must have the shape of neighbors, {neighbors.shape}, "
                f"got {relevant.shape}."
            )
        n_queries, n_neighbors = neighbors.shape
        width = n_neighbors + 1 + _GAP
        if ax is None:
            _, ax = plt.subplots(figsize=(size * width, size * n_queries), layout="tight")
        self.ax_, self.figure_ = ax, ax.figure
        self.images_, self.frames_ = [], []
        for row in range(n_queries):
            self.images_.append(_show(ax, self.query_images[row], 0.0, row))
            for rank, item in enumerate(neighbors[row]):
                left = 1 + _GAP + rank
                self.images_.append(_show(ax, self.database_images[item], left, row))
                if relevant is not None:
                    # The dashes tell what the colours do, to those who do not see them.
                    color, style = ("green", "-") if relevant[row, rank] else ("red", "--")
                    frame = Rectangle((left + 0.03, row + 0.03), 0.94, 0.94, fill=False)
                    frame.set(edgecolor=color, linestyle=style, linewidth=2)
                    self.frames_.append(ax.add_patch(frame))
        ax.set(xlim=(0, width), ylim=(n_queries, 0), aspect="equal")
        ax.set_axis_off()
        return self


# Between a query and its neighbours, in widths of an image.
_GAP = 0.25


def _show(ax: Any, image: Any, left: float, top: float) -> Any:
    """Draw an image into the middle of a unit square, in its own proportions."""
    pixels = _read(image)
    height, width = np.array(pixels.shape[:2]) / max(pixels.shape[:2]) * 0.44
    x, y = left + 0.5, top + 0.5
    # Grey levels mean what they say; by default each image would be stretched to full contrast.
    levels = {"cmap": "gray", "vmin": 0, "vmax": 255 if pixels.dtype == np.uint8 else 1}
    return ax.imshow(pixels, extent=(x - width, x + width, y + height, y - height), **levels)


def _read(image: Any) -> NDArray[Any]:
    """Pixels of an image given as a path or an array."""
    if not isinstance(image, str | os.PathLike):
        return np.squeeze(np.asarray(image))
    from ..images import read_thumbnail

    return read_thumbnail(image, 256)

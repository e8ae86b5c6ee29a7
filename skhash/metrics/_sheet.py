"""Displays of query images and their neighbours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import hamming_blocks, smallest
from ._checks import check_integer, label_pair, packed_pair
from ._curves import pyplot
from ._relevance import SharedLabels


class NeighborsDisplay:
    """A sheet of query images, each with its nearest neighbours to the right.

    Relevant neighbours have a solid green frame, the others a dashed red
    frame. Without labels there are no frames.

    Parameters
    ----------
    query_images : sequence of n_queries images
        Image files in any form that :func:`skhash.images.read_image` reads, PIL
        images, or arrays of shape (height, width) or (height, width, 3 or 4),
        uint8 or float in [0, 1].
    database_images : sequence of n_database images
        In the same forms; only the neighbours are read.
    neighbors : array-like of shape (n_queries, n_neighbors), int
        Positions of the neighbours in ``database_images``, nearest first, as
        returned by ``kneighbors``.
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
            Its ``transform`` returns codes of 0 and 1.
        X_query, X_database : n samples
            Input of ``transform``.
        query_images, database_images : sequence of n images, default=None
            Images to show; the samples themselves if None, for hashers of
            images.
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
            Number of neighbours to show; ties are in database order.
        query_labels, database_labels : labels of n items, default=None
            Ground truth: neighbours that share a label with their query are
            relevant. Give both or neither.
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
            If an argument is invalid; the message names it.
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
        neighbors = np.concatenate(
            [smallest(block, n_neighbors) for _, block in hamming_blocks(queries, database)]
        )
        relevant = None
        if query_labels is not None:
            labels = label_pair(query_labels, database_labels, len(queries), len(database))
            relevance, marks = SharedLabels(*labels), np.empty(len(database), bool)
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
        plt = pyplot(self)
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
                    # Dashes repeat the colours, for readers who cannot distinguish them.
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
    # Keep grey levels: by default matplotlib would stretch each image to full contrast.
    levels = {"cmap": "gray", "vmin": 0, "vmax": 255 if pixels.dtype == np.uint8 else 1}
    return ax.imshow(pixels, extent=(x - width, x + width, y + height, y - height), **levels)


def _read(image: Any) -> NDArray[Any]:
    """Pixels of an image given as a file in some form, or as an array."""
    from ..images import read_thumbnail, resolve

    image = resolve(image)
    if isinstance(image, str | os.PathLike | bytes):
        return read_thumbnail(image, 256)
    return np.squeeze(np.asarray(image))

"""The results of a search."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

from numpy.typing import NDArray

from .._files import PathLike, replacing

__all__ = ["Hit", "SearchResult", "number", "shortened"]


class Hit(NamedTuple):
    """A photo found by :func:`skhash.ImageSearch.query`.

    Attributes
    ----------
    id : str or int
        Name of the photo.
    distance : float or int
        Distance from the query, in bits.
    tags : list
        Its tags.
    path : str or None
        Its file, if it was given as a file.
    """

    id: str | int
    distance: float
    tags: list[Any]
    path: str | None


class SearchResult(Sequence["list[Hit]"]):
    """Results of queries, as returned by :func:`skhash.ImageSearch.query`.

    A sequence with a list of :class:`Hit` for each query, nearest first. The
    attributes ``ids``, ``distances`` and ``tags`` hold the same data. In a
    notebook it shows the photos.

    Attributes
    ----------
    queries : list of str
        Names of the queries: files, words, ids or row numbers.
    ids : list of ndarray
        For each query the ids of the photos found, int64 or object (str).
    distances : list of ndarray
        Their distances in bits: int32, or float32 if they were ranked again by
        decision values.
    tags : list of list of list
        Their tags.
    paths : list of list of (str or None)
        Their files, if they were given as files.
    query_images : list
        For each query its image, or None.
    """

    # Number of queries, and of photos per query, in the text.
    _shown = 5

    def __init__(
        self,
        *,
        queries: list[str],
        ids: list[NDArray[Any]],
        distances: list[NDArray[Any]],
        tags: list[list[list[Any]]],
        paths: list[list[str | None]],
        query_images: list[Any],
    ) -> None:
        self.queries = queries
        self.ids = ids
        self.distances = distances
        self.tags = tags
        self.paths = paths
        self.query_images = query_images

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, query: Any) -> Any:
        """Photos found for a query."""
        if not isinstance(query, Integral):
            raise TypeError(
                f"a result has a list for each query, 0 to {len(self) - 1}, got {query!r}."
            )
        names, distances = self.ids[query].tolist(), self.distances[query].tolist()
        columns = zip(names, distances, self.tags[query], self.paths[query], strict=True)
        return [Hit(*row) for row in columns]

    def __repr__(self) -> str:
        lines = [f"SearchResult of {len(self)} queries"]
        for name, hits in zip(self.queries[: self._shown], self, strict=False):
            found = ", ".join(f"{hit.id} ({number(hit.distance)})" for hit in hits[: self._shown])
            more = f" and {len(hits) - self._shown} more" if len(hits) > self._shown else ""
            lines.append(f"  {name}: {found or 'nothing'}{more}")
        if len(self) > self._shown:
            lines.append(f"  and {len(self) - self._shown} more queries")
        return "\n".join(lines)

    def to_frame(self) -> Any:
        """Return the results as a data frame; needs pandas.

        Returns
        -------
        pandas.DataFrame
            One row per photo found, with its rank (from 1) as index; columns
            "query", "id", "distance", "tags" and "path".
        """
        from ..metrics._report import data_frame

        hits = [hit for hits in self for hit in hits]
        columns: dict[str, Any] = {
            "query": [name for name, hits in zip(self.queries, self, strict=True) for _ in hits]
        }
        columns |= {name: [getattr(hit, name) for hit in hits] for name in Hit._fields}
        ranks = [rank for hits in self for rank in range(1, len(hits) + 1)]
        return data_frame(columns, ranks, "rank")

    def plot(self, *, size: float = 1.4) -> Any:
        """Draw the photos, each with its name and distance; needs matplotlib.

        Parameters
        ----------
        size : float, default=1.4
            Width of a photo in inches.

        Returns
        -------
        matplotlib Figure
            One row for each query: its image, then the photos found.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ..metrics._curves import pyplot

        plt = pyplot(self)
        n_columns = 1 + max(map(len, self), default=0)
        figure, axes = plt.subplots(
            max(len(self), 1),
            n_columns,
            figsize=(size * n_columns, 1.25 * size * max(len(self), 1)),
            squeeze=False,
            layout="constrained",
        )
        for ax in axes.flat:
            ax.set_axis_off()
        for row, (name, hits) in enumerate(zip(self.queries, self, strict=True)):
            _draw(axes[row, 0], self.query_images[row], shortened(name), weight="bold")
            for ax, hit in zip(axes[row, 1:], hits, strict=False):
                _draw(ax, hit.path, f"{shortened(str(hit.id))}\n{number(hit.distance)}")
        return figure

    def to_html(self, path: PathLike, *, title: str = "Photos found") -> None:
        """Write the results as an HTML page that contains the photos.

        Parameters
        ----------
        path : path
            The file; an existing file is replaced when the new one is
            complete. The page contains small copies of the photos, so it can
            be moved and sent.
        title : str, default="Photos found"
            Title of the page.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        from ._page import page

        with replacing(path) as file:
            file.write(page(self, title).encode("utf-8", "replace"))

    def _repr_html_(self) -> str:
        from ._page import fragment

        return fragment(self)


def number(distance: float) -> str:
    """A distance as text: whole bits, or with one decimal."""
    return f"{distance:.1f}" if isinstance(distance, float) else str(distance)


def shortened(name: str, length: int = 18) -> str:
    """The end of a name, where the names of files differ."""
    return name if len(name) <= length else "…" + name[1 - length :]


def _draw(ax: Any, image: Any, caption: str, **font: Any) -> None:
    from ..images import ImageReadError, read_thumbnail

    ax.set_title(caption, fontsize=7, parse_math=False, **font)
    try:
        if image is not None:
            ax.imshow(read_thumbnail(image, 256))
    except ImageReadError:
        ax.text(0.5, 0.5, "no picture", ha="center", va="center", transform=ax.transAxes)

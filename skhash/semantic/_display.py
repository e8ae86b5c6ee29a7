"""Plots of a learned semantic space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from ._space import SemanticSpace

__all__ = ["SemanticSpaceDisplay"]


class SemanticSpaceDisplay:
    """Bar plots of the tags of sem-words, or of the tags most similar to a tag.

    Make it with :meth:`from_estimator`.

    Parameters
    ----------
    panels : list of (str, list of (tag, float))
        Title of each panel, and its tags with their values.

    Attributes
    ----------
    axes_ : ndarray of shape (n_panels,)
        Axes of the panels, of matplotlib.
    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    skhash.SemanticSpace.top_tags : The same for a sem-word, as a list.
    skhash.SemanticSpace.similar_tags : The same for a tag, as a list.
    """

    def __init__(self, panels: Sequence[tuple[str, list[tuple[Any, float]]]]) -> None:
        self.panels = panels

    @classmethod
    def from_estimator(
        cls,
        space: SemanticSpace,
        *,
        components: Sequence[int] | None = None,
        tags: Sequence[Any] | None = None,
        n_tags: int = 10,
        axes: Any = None,
        n_columns: int = 3,
        **bar_kw: Any,
    ) -> Self:
        """Look up tags in a fitted space and plot them.

        Parameters
        ----------
        space : SemanticSpace
            A fitted space.
        components : sequence of int, default=None
            Sem-words; a panel shows the strongest tags of each. If neither
            ``components`` nor ``tags`` are given, the six sem-words with the
            strongest codes.
        tags : sequence of tags, default=None
            Tags; a panel shows the tags most similar to each.
        n_tags : int, default=10
            Number of tags in a panel.
        axes : sequence of matplotlib Axes, default=None
            See :meth:`plot`.
        n_columns : int, default=3
            See :meth:`plot`.
        **bar_kw
            See :meth:`plot`.

        Returns
        -------
        SemanticSpaceDisplay
            The plotted display.
        """
        if components is None:
            components = []
            if tags is None:
                strength = np.abs(space.tag_codes_).sum(axis=0)
                components = np.argsort(-strength, kind="stable")[:6].tolist()
        panels = [(f"sem-word {k}", space.top_tags(k, n_tags)) for k in components]
        panels += [(f"like {tag}", space.similar_tags(tag, n_tags)) for tag in tags or ()]
        return cls(panels).plot(axes, n_columns=n_columns, **bar_kw)

    def plot(self, axes: Any = None, *, n_columns: int = 3, **bar_kw: Any) -> Self:
        """Plot the panels.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            One for each panel. If None, a new figure is made.
        n_columns : int, default=3
            Number of panels in a row of a new figure.
        **bar_kw
            Arguments of matplotlib's ``barh``.

        Returns
        -------
        SemanticSpaceDisplay
            The display.
        """
        if axes is None:
            import matplotlib.pyplot as plt

            n_columns = min(n_columns, len(self.panels))
            n_rows = -(-len(self.panels) // n_columns)
            n_bars = max(len(tags) for _, tags in self.panels)
            _, grid = plt.subplots(
                n_rows,
                n_columns,
                figsize=(3.2 * n_columns, n_rows * (0.8 + 0.22 * n_bars)),
                squeeze=False,
                layout="constrained",
            )
            for unused in grid.flat[len(self.panels) :]:
                unused.set_axis_off()
            axes = grid.flat[: len(self.panels)]
        self.axes_ = np.asarray(axes, dtype=object).ravel()
        if len(self.axes_) != len(self.panels):
            raise ValueError(f"axes holds {len(self.axes_)} axes for {len(self.panels)} panels.")
        self.figure_ = self.axes_[0].figure
        for ax, (title, tags) in zip(self.axes_, self.panels, strict=True):
            # By position, because matplotlib would merge equal names, and sort numbers.
            places = np.arange(len(tags))
            ax.barh(places, [value for _, value in tags], **bar_kw)
            ax.set_yticks(places, [str(tag) for tag, _ in tags])
            ax.invert_yaxis()
            ax.set_title(title)
        return self

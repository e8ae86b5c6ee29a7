"""Tags for photos, by votes of the most similar photos."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._photos import Photos, Rows

__all__ = ["TagSuggestion", "vote"]


class TagSuggestion(NamedTuple):
    """A tag suggested for a photo by :func:`skhash.ImageSearch.suggest_tags`.

    Attributes
    ----------
    tag : str
        The tag.
    score : float
        Share of the nearest photos that have it, minus the share of all photos
        that have it; in (0, 1].
    """

    tag: Any
    score: float


def vote(photos: Photos, voters: list[Rows], *, n_tags: int) -> list[list[TagSuggestion]]:
    """The tags that some photos have more often than all photos with tags.

    Parameters
    ----------
    photos : Photos
        All photos.
    voters : list of ndarray of int
        For each query, rows of photos that have tags.
    n_tags : int
        Largest number of tags.

    Returns
    -------
    list of list of TagSuggestion
        For each query, best first; equal scores in the order of the vocabulary.
    """
    indicator, words = photos.tags.indicator, photos.tags.vocabulary
    counts = np.bincount(indicator.indices, minlength=len(words))
    prior = counts / max(len(photos.tagged()), 1)
    suggestions = []
    for rows in voters:
        votes = np.bincount(indicator[rows].indices, minlength=len(words))
        scores = votes / max(len(rows), 1) - prior
        # Only tags with a vote can be above chance.
        some = np.flatnonzero(scores > 0)
        best = some[np.argsort(-scores[some], kind="stable")[:n_tags]]
        suggestions.append([TagSuggestion(words[j], float(scores[j])) for j in best])
    return suggestions

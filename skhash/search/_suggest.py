"""Tags for photos, by votes of the photos that are most like them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._photos import Photos

__all__ = ["TagSuggestion", "vote"]


class TagSuggestion(NamedTuple):
    """A tag that may fit a photo, as :func:`skhash.ImageSearch.suggest_tags` makes it.

    Attributes
    ----------
    tag : str
        The tag.
    score : float
        Share of the nearest photos that have it, less the share of all photos
        that have it: in (0, 1].
    """

    tag: Any
    score: float


def vote(
    photos: Photos, codes: NDArray[np.uint8], *, n_tags: int, n_neighbors: int
) -> list[list[TagSuggestion]]:
    """The tags that the nearest photos with tags have more often than all.

    Parameters
    ----------
    photos : Photos
        Who votes.
    codes : ndarray of shape (n_queries, n_bytes), uint8
        Packed codes of the photos to find tags for.
    n_tags : int
        How many tags at most.
    n_neighbors : int
        How many photos vote.

    Returns
    -------
    list of list of TagSuggestion
        For each photo, best first; equal scores in the order of the vocabulary.
    """
    tagged = photos.tagged()
    if not len(tagged):
        return [[] for _ in codes]
    among = None if len(tagged) == len(photos) else tagged
    _, voters = photos.nearest(codes, n_neighbors, among)
    indicator, words = photos.tags.indicator, photos.tags.vocabulary
    prior = np.asarray(indicator.sum(axis=0)).ravel() / len(tagged)
    suggestions = []
    for rows in voters:
        votes = np.bincount(indicator[rows].indices, minlength=len(words))
        scores = votes / len(rows) - prior
        # Only tags with a vote can be above chance.
        some = np.flatnonzero(scores > 0)
        best = some[np.argsort(-scores[some], kind="stable")[:n_tags]]
        suggestions.append([TagSuggestion(words[j], float(scores[j])) for j in best])
    return suggestions

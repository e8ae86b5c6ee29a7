"""The photos of a search: one row each, in arrays that never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import clone

from ..neighbors import HammingNeighbors, Store
from ..neighbors._ids import Ids, name_some
from ..tags import TagMatrix, encode_tags
from ._input import tag_rows

__all__ = ["Photos"]

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Photos:
    """The photos of a search: ids, files, tags and codes.

    A change of the search makes a new table and assigns it in one step. So the
    ids, codes and tags of a table always belong together.

    Parameters
    ----------
    ids : ndarray of shape (n_photos,), int64 or object (str)
        Names of the photos, all different.
    paths : ndarray of shape (n_photos,), object
        Their files, None for a photo without a file.
    tags : TagMatrix
        Their tags.
    codes : ndarray of shape (n_photos, n_bytes), uint8
        Their packed codes.
    directions : ndarray of shape (n_photos, n_bits), float16, or None
        Decision values, scaled to length 1, if they are kept.
    neighbors : HammingNeighbors
        Index of the codes; see :meth:`indexed`.
    store : Store, default=None
        A store with the same ids and codes, which searches all photos instead.
    """

    ids: Ids
    paths: NDArray[np.object_]
    tags: TagMatrix
    codes: NDArray[np.uint8]
    directions: NDArray[np.float16] | None
    neighbors: HammingNeighbors
    store: Store | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def row_of(self) -> dict[str | int, int]:
        """The row of each id."""
        return {name: row for row, name in enumerate(self.ids.tolist())}

    def rows(self, ids: Ids) -> Rows:
        """Rows of photos.

        Raises
        ------
        ValueError
            If no photo has such an id; the message names it.
        """
        unknown = [name for name in ids.tolist() if name not in self.row_of]
        if unknown:
            raise ValueError(f"ids has names that are not in the search: {name_some(unknown)}.")
        return np.array([self.row_of[name] for name in ids.tolist()], np.intp)

    def indexed(self, **columns: Any) -> Self:
        """These photos with some columns replaced, and an index of them."""
        photos = replace(self, **columns, neighbors=clone(self.neighbors))
        if len(photos) and self.store is None:
            photos.neighbors.fit(photos.codes)
        return photos

    def take(self, rows: Rows) -> Self:
        """The photos of some rows."""
        return self.indexed(
            ids=self.ids[rows],
            paths=self.paths[rows],
            tags=tag_rows(self.tags, rows),
            codes=self.codes[rows],
            directions=None if self.directions is None else self.directions[rows],
        )

    def without(self, rows: Rows) -> Self:
        """The photos of all other rows."""
        return self.take(np.delete(np.arange(len(self)), rows))

    def join(self, more: Self) -> Self:
        """These photos followed by others, which may have other tags."""
        if not len(self):  # whose ids may be of another type
            return more.indexed()
        directions = None
        if self.directions is not None and more.directions is not None:
            directions = np.concatenate([self.directions, more.directions])
        return self.indexed(
            ids=np.concatenate([self.ids, more.ids]),
            paths=np.concatenate([self.paths, more.paths]),
            tags=_join_tags(self.tags, more.tags),
            codes=np.concatenate([self.codes, more.codes]),
            directions=directions,
        )

    @cached_property
    def column_of(self) -> dict[Any, int]:
        """The column of each tag."""
        return {tag: column for column, tag in enumerate(self.tags.vocabulary.tolist())}

    def with_tags(self, tags: Sequence[Any]) -> Rows:
        """Rows of the photos that have all of some tags."""
        if not all(tag in self.column_of for tag in tags):
            return np.empty(0, np.intp)
        columns = sorted({self.column_of[tag] for tag in tags})
        n_found = np.asarray(self.tags.indicator[:, columns].sum(axis=1)).ravel()
        return np.flatnonzero(n_found == len(columns))

    def tagged(self) -> Rows:
        """Rows of the photos that have any tag."""
        return np.flatnonzero(np.diff(self.tags.indicator.indptr))

    def nearest(
        self, codes: NDArray[np.uint8], n_neighbors: int, among: Rows | None = None
    ) -> tuple[NDArray[np.int32], Rows]:
        """The nearest photos by Hamming distance, of all or of some rows.

        Parameters
        ----------
        codes : ndarray of shape (n_queries, n_bytes), uint8
            Packed codes.
        n_neighbors : int
            Number of photos to find; all if there are fewer.
        among : ndarray of int, default=None
            Rows to choose from, ascending; None means all.

        Returns
        -------
        distances : ndarray of shape (n_queries, n), int32
            In bits, ascending.
        rows : ndarray of shape (n_queries, n), intp
            Rows of the photos; equal distances in the order of rows.
        """
        n = min(n_neighbors, len(self) if among is None else len(among))
        if not n or not len(codes):
            empty = np.empty((len(codes), n), np.intp)
            return empty.astype(np.int32), empty
        if among is None and self.store is not None:
            found = self._nearest_in_store(self.store, codes, n)
            if found is not None:
                return found
            among = np.arange(len(self))
        neighbors = self.neighbors
        if among is not None:
            neighbors = clone(neighbors).fit(self.codes[among])
        distances, rows = cast(tuple[Any, Any], neighbors.kneighbors(codes, n))
        return distances, rows if among is None else among[rows]

    def _nearest_in_store(
        self, store: Store, codes: NDArray[np.uint8], n: int
    ) -> tuple[NDArray[np.int32], Rows] | None:
        """The results of the store; None if it does not hold exactly these photos."""
        try:
            distances, ids = store.kneighbors(codes, n)
        except ValueError:
            if len(store) >= n:
                raise
            return None
        rows = np.array([self.row_of.get(name, -1) for name in ids.ravel().tolist()], np.intp)
        return None if (rows < 0).any() else (distances, rows.reshape(ids.shape))


def _join_tags(some: TagMatrix, more: TagMatrix) -> TagMatrix:
    known = set(some.vocabulary.tolist())
    words = [*some.vocabulary.tolist(), *(t for t in more.vocabulary.tolist() if t not in known)]
    vocabulary = np.empty(len(words), object)
    vocabulary[:] = words
    indicators = [encode_tags(part, vocabulary=vocabulary).indicator for part in (some, more)]
    return TagMatrix(sp.csr_array(sp.vstack(indicators, format="csr")), vocabulary)

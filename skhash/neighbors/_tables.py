"""TableStore: the common part of stores in database tables. Subclasses contain the SQL.

A table has one row per code. Besides the code, its columns are ``place``, a number that grows with
every code, ``id``, bigint or text, and ``tags``, texts. The table is created when the first codes
are added: they define its width and the type of ids.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ._backends import Distances, Packed
from ._ids import (
    Ids,
    check_ids,
    check_name,
    check_unicode,
    check_unicode_ids,
    kind_of,
    name_some,
    next_numbers,
)

__all__ = ["Layout", "TableStore"]


class Layout(NamedTuple):
    """Type of the ids, length and version of the codes in a table."""

    n_bits: int
    kind: str  # of ids: "int" or "str"
    version: str | None


class TableStore(ABC):
    """A store in a table; see the subclasses.

    Every method is one transaction: if it fails, the table stays as it was, and a search sees the
    table at one time. ``c`` is a cursor of that transaction.
    """

    exact = True

    def __init__(self, table: str, version: str | None) -> None:
        if not isinstance(table, str) or not table:
            raise TypeError(f"table must be the name of a table, got {table!r}.")
        if not (version is None or isinstance(version, str)):
            raise TypeError(f"version must be a str or None, got {version!r}.")
        check_name(table, "table")
        if version is not None:
            check_name(version, "version")
        self.table = table
        self.version = version

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Any]:
        """A transaction, as a cursor."""

    @abstractmethod
    def _changing(self) -> AbstractContextManager[Any]:
        """A transaction; only one at a time can change the table."""

    @abstractmethod
    def _read_layout(self, c: Any) -> Layout | None:
        """None if there is no table; ValueError if it was made by another program."""

    @abstractmethod
    def _create(self, c: Any, layout: Layout) -> None: ...

    @abstractmethod
    def _drop(self, c: Any) -> None:
        """Drop the table."""

    @abstractmethod
    def _count(self, c: Any) -> int: ...

    @abstractmethod
    def _largest_number(self, c: Any) -> int:
        """The largest id, or -1."""

    @abstractmethod
    def _append(
        self, c: Any, layout: Layout, ids: Ids, packed: Packed, tags: list[list[str]] | None
    ) -> None:
        """Add rows; ValueError if an id is already there."""

    @abstractmethod
    def _delete(self, c: Any, ids: list[Any]) -> list[Any]:
        """Delete rows; return the ids that were there."""

    @abstractmethod
    def _ids(self, c: Any) -> list[Any]: ...

    @abstractmethod
    def _codes(self, c: Any, layout: Layout) -> Packed: ...

    @abstractmethod
    def _tags(self, c: Any, ids: list[Any]) -> list[tuple[Any, list[str] | None]]: ...

    @abstractmethod
    def _nearest(
        self, c: Any, layout: Layout, queries: Packed, k: int
    ) -> list[list[tuple[int, Any]]]:
        """Distances and ids of the nearest, for each query; fewer than k if there are no more."""

    @abstractmethod
    def _within(
        self, c: Any, layout: Layout, queries: Packed, radius: int
    ) -> list[list[tuple[int, Any]]]:
        """Distances and ids of those within a radius, for each query, in the order of the table."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @property
    def n_bits(self) -> int | None:
        """Length of the codes in bits; None if there is no table yet."""
        with self._reading() as c:
            layout = self._layout(c)
        return layout and layout.n_bits

    def __len__(self) -> int:
        with self._reading() as c:
            return self._count(c) if self._layout(c) else 0

    def ids(self) -> Ids:
        """All ids, in the order in which they were added.

        Returns
        -------
        ndarray of shape (n,), int64 or object with str
        """
        with self._reading() as c:
            layout = self._layout(c)
            return _array(self._ids(c), layout) if layout else np.empty(0, np.int64)

    def codes(self) -> Packed:
        """All codes, packed, in the order in which they were added.

        Returns
        -------
        ndarray of shape (n, n_bytes), uint8
        """
        with self._reading() as c:
            layout = self._layout(c)
            return self._codes(c, layout) if layout else np.empty((0, 0), np.uint8)

    def tags(self, ids: Any) -> list[list[str]]:
        """Tags that were given with codes.

        Parameters
        ----------
        ids : sequence of int or of str
            Ids of codes; they may repeat.

        Returns
        -------
        list of lists of str
            One list for each id, empty where there are none.

        Raises
        ------
        ValueError
            If an id is not in the table.
        """
        ids = _checked(ids, unique=False)
        with self._reading() as c:
            layout = self._layout(c)
            known = layout is not None and layout.kind == kind_of(ids)
            found = dict(self._tags(c, list(set(ids.tolist())))) if known else {}
        self._check_known(ids, list(found))
        return [found[i] or [] for i in ids.tolist()]

    def add(
        self,
        ids: Any,
        packed: Packed,
        n_bits: int,
        *,
        tags: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Add codes at the end; the table is created if there is none.

        Parameters
        ----------
        ids : sequence of int or of str of shape (n_new,), or None
            All different. None means the next numbers: from 0 in an empty
            table, otherwise after the largest id.
        packed : ndarray of shape (n_new, n_bytes), uint8
            Their codes.
        n_bits : int
            Length of the codes in bits.
        tags : sequence of shape (n_new,) of sequences of str, default=None
            Tags to keep with the codes, for :meth:`tags` and for your own SQL
            queries.

        Raises
        ------
        ValueError
            If the table already has one of the ids, or has ids of the other
            type or codes of another length or version.
        """
        with self._changing() as c:
            self._add(c, ids, packed, n_bits, tags)

    def replace(
        self,
        ids: Any,
        packed: Packed,
        n_bits: int,
        *,
        tags: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Create the table again with these codes, in one transaction.

        Parameters
        ----------
        ids : sequence of int or of str of shape (n_new,), or None
            All different, of either type. None means 0, 1, 2 ....
        packed : ndarray of shape (n_new, n_bytes), uint8
            Their codes.
        n_bits : int
            Length of the codes in bits; it may differ from before.
        tags : sequence of shape (n_new,) of sequences of str, default=None
            Tags to keep with the codes.
        """
        with self._changing() as c:
            if self._read_layout(c):
                self._drop(c)
            self._add(c, ids, packed, n_bits, tags)

    def update(
        self,
        ids: Any,
        packed: Packed,
        n_bits: int,
        *,
        tags: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Remove codes and add new codes with the same ids at the end, in one transaction.

        Parameters
        ----------
        ids : sequence of int or of str of shape (n_old,)
            All different.
        packed : ndarray of shape (n_old, n_bytes), uint8
            The new codes.
        n_bits : int
            Length of the codes in bits.
        tags : sequence of shape (n_old,) of sequences of str, default=None
            The new tags.

        Raises
        ------
        ValueError
            If one of the ids is not in the table, or the table has codes of
            another length or version.
        """
        with self._changing() as c:
            self._remove(c, _checked(ids))
            self._add(c, ids, packed, n_bits, tags)

    def remove(self, ids: Any) -> None:
        """Remove codes.

        Parameters
        ----------
        ids : sequence of int or of str of shape (n_old,)
            All different.

        Raises
        ------
        ValueError
            If one of the ids is not in the table.
        """
        ids = _checked(ids)
        if not len(ids):
            return
        with self._changing() as c:
            self._remove(c, ids)

    def kneighbors(self, queries: Packed, k: int) -> tuple[Distances, Ids]:
        """Nearest k codes of every query.

        Parameters
        ----------
        queries : ndarray of shape (n_queries, n_bytes), uint8
            Packed codes.
        k : int
            At least 1.

        Returns
        -------
        distances : ndarray of shape (n_queries, k), int32
            Ascending; equal distances in the order of the table.
        ids : ndarray of shape (n_queries, k), int64 or object with str

        Raises
        ------
        ValueError
            If the table has fewer than k codes.
        """
        with self._reading() as c:
            layout = self._searched_layout(c, queries)
            found = self._nearest(c, layout, queries, k)
        for rows in found:
            if len(rows) < k:
                raise ValueError(f"{self} has {len(rows)} codes, fewer than the {k} requested.")
        distances, ids = _columns(found, layout)
        return distances.reshape(-1, k), ids.reshape(-1, k)

    def radius_neighbors(
        self, queries: Packed, radius: int
    ) -> tuple[NDArray[np.intp], Distances, Ids]:
        """All codes within a distance of every query, in the order of the table.

        Parameters
        ----------
        queries : ndarray of shape (n_queries, n_bytes), uint8
            Packed codes.
        radius : int
            In bits, inclusive.

        Returns
        -------
        indptr : ndarray of shape (n_queries + 1,), intp
            The results for query i are at ``indptr[i]:indptr[i + 1]`` of the
            other arrays.
        distances : ndarray of shape (n_found,), int32
        ids : ndarray of shape (n_found,), int64 or object with str
        """
        with self._reading() as c:
            layout = self._searched_layout(c, queries)
            found = self._within(c, layout, queries, radius)
        indptr = np.cumsum([0, *map(len, found)], dtype=np.intp)
        return indptr, *_columns(found, layout)

    def _layout(self, c: Any) -> Layout | None:
        layout = self._read_layout(c)
        if layout and self.version not in (None, layout.version):
            raise ValueError(
                f"{self} has codes of version {layout.version!r}, not {self.version!r}: codes of "
                "different models cannot be compared. Use that version, or another table."
            )
        return layout

    def _searched_layout(self, c: Any, queries: Packed) -> Layout:
        layout = self._layout(c)
        if layout is None:
            raise ValueError(f"{self} has no codes yet.")
        if queries.shape[1] != -(-layout.n_bits // 8):
            raise ValueError(
                f"queries have {queries.shape[1]} bytes, but the codes of {self} have "
                f"{layout.n_bits} bits: encode them with the model that made the table."
            )
        return layout

    def _add(
        self,
        c: Any,
        ids: Any,
        packed: Packed,
        n_bits: int,
        tags: Sequence[Sequence[str]] | None,
    ) -> None:
        n_bytes = -(-n_bits // 8)
        if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != n_bytes:
            raise ValueError(
                f"packed must be bytes of shape (n, {n_bytes}) for {n_bits} bits, got "
                f"{packed.dtype} of shape {packed.shape}; skhash.codes.pack makes them."
            )
        if ids is not None:
            ids = _checked(ids, n_samples=len(packed))
        if tags is not None:
            tags = _check_tags(tags, len(packed))
        layout = self._layout(c)
        if layout and layout.n_bits != n_bits:
            raise ValueError(
                f"the codes have {n_bits} bits, but those of {self} have {layout.n_bits}: use "
                "another table."
            )
        kind = "int" if ids is None else kind_of(ids)
        if layout and layout.kind != kind:
            if self._count(c):
                given = f"ids must be {layout.kind}" if ids is not None else "ids must be given"
                raise ValueError(f"{given}: the ids of {self} are {layout.kind}.")
            self._drop(c)
            layout = None
        if layout is None:
            layout = Layout(n_bits, kind, self.version)
            self._create(c, layout)
        if ids is None:
            ids = next_numbers(self._largest_number(c) + 1, len(packed))
        self._append(c, layout, ids, packed, tags)

    def _remove(self, c: Any, ids: Ids) -> None:
        layout = self._layout(c)
        known = layout is not None and layout.kind == kind_of(ids)
        self._check_known(ids, self._delete(c, ids.tolist()) if known else [])

    def _check_known(self, ids: Ids, known: list[Any]) -> None:
        missing = set(ids.tolist()).difference(known)
        if missing:
            names = [i for i in ids.tolist() if i in missing]
            raise ValueError(f"ids {name_some(names)} are not in {self}; ids() has those that are.")


def _checked(ids: Any, **options: Any) -> Ids:
    """Ids that a database can hold."""
    ids = check_ids(ids, **options)
    check_unicode_ids(ids)
    return ids


def _check_tags(tags: Any, n: int) -> list[list[str]]:
    if isinstance(tags, str) or any(isinstance(some, str) for some in tags):
        raise TypeError("tags must be a sequence of sequences of str, one for each code.")
    lists = [list(some) for some in tags]
    if len(lists) != n:
        raise ValueError(f"tags has {len(lists)} entries for {n} codes; give one for each.")
    if not all(isinstance(tag, str) for some in lists for tag in some):
        raise TypeError("tags must be a sequence of sequences of str, one for each code.")
    for i, some in enumerate(lists):
        for tag in some:
            check_unicode(tag, f"a tag of tags[{i}]")
    return lists


def _array(ids: list[Any], layout: Layout) -> Ids:
    return np.array(ids, dtype=np.int64 if layout.kind == "int" else object)


def _columns(found: list[list[tuple[int, Any]]], layout: Layout) -> tuple[Distances, Ids]:
    rows = [row for rows in found for row in rows]
    return np.array([d for d, _ in rows], np.int32), _array([i for _, i in rows], layout)

"""The protocol of stores of codes, and how HammingNeighbors uses the store of a user."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._sklearn import HasMethods
from ._backends import Distances, Indices, Packed
from ._ids import Ids
from ._urls import holds_password, is_url

__all__ = ["Store", "check_store"]


class Store(Protocol):
    """Interface of a store, which keeps and searches codes for :class:`~skhash.HammingNeighbors`.

    Any object with these members can be given as ``backend=``: it need not
    derive from this class. It may keep its codes in this process, as
    :class:`MemoryStore` does, or elsewhere, such as in a table of a database.

    The contract, which all methods share:

    - Codes are packed, as returned by :func:`skhash.codes.pack`, in arrays of
      shape (n, ceil(n_bits / 8)), uint8. All codes of a store have the same
      number of bits.
    - Each code has an id, and an id has one code. All ids of a store are int
      (of 64 bits) or all are str. Arrays of ids are int64, or object with str.
    - The order of the store is the order in which its codes were added, even
      after some were removed. A code that was removed and added again is the
      last. A table needs a column for this order: a number that only grows.
    - Searches are exact. Distances are Hamming distances in bits; equal
      distances are in the order of the store. A store may offer approximate
      searches if the user asks for them; its attribute ``exact`` is then
      False.
    - A method that raises leaves the store as it was.

    The function ``check_store`` in ``tests/_stores.py`` of this package tests
    whether a store keeps this contract.

    Attributes
    ----------
    n_bits : int or None
        Length of the codes in bits; None if nothing was added yet.

    See Also
    --------
    MemoryStore : The store behind ``backend="auto"``, "numpy" and "faiss".
    """

    @property
    def n_bits(self) -> int | None:
        """Length of the codes in bits; None if nothing was added yet."""

    def __len__(self) -> int:
        """Number of codes."""

    def ids(self) -> Ids:
        """All ids, in the order of the store.

        Returns
        -------
        ndarray of shape (n,), int64 or object with str
        """

    def codes(self) -> Packed:
        """All codes, packed, in the order of the store.

        Returns
        -------
        ndarray of shape (n, n_bytes), uint8
        """

    def add(self, ids: Ids | None, packed: Packed, n_bits: int) -> None:
        """Add codes at the end.

        Parameters
        ----------
        ids : ndarray of shape (n_new,), int64 or object with str, or None
            All different. None means the next numbers: from 0 in an empty
            store, otherwise after the largest id.
        packed : ndarray of shape (n_new, n_bytes), uint8
            Their codes.
        n_bits : int
            Length of the codes in bits.

        Raises
        ------
        ValueError
            If the store already has one of the ids, or has ids of the other
            type or codes of another length.
        """

    def remove(self, ids: Ids) -> None:
        """Remove codes.

        Parameters
        ----------
        ids : ndarray of shape (n_old,), int64 or object with str
            All different.

        Raises
        ------
        ValueError
            If one of the ids is not in the store.
        """

    def replace(self, ids: Ids | None, packed: Packed, n_bits: int) -> None:
        """Replace all codes by these, in one change.

        Parameters
        ----------
        ids : ndarray of shape (n_new,), int64 or object with str, or None
            All different, of either type. None means 0, 1, 2 ....
        packed : ndarray of shape (n_new, n_bytes), uint8
            Their codes.
        n_bits : int
            Length of the codes in bits; it may differ from before.
        """

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
            Ascending; equal distances in the order of the store.
        ids : ndarray of shape (n_queries, k), int64 or object with str

        Raises
        ------
        ValueError
            If the store has fewer than k codes.
        """

    def radius_neighbors(
        self, queries: Packed, radius: int
    ) -> tuple[NDArray[np.intp], Distances, Ids]:
        """All codes within a distance of every query, in the order of the store.

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


_NAMES = [name for name in vars(Store) if not name.startswith("_")] + ["__len__"]


def check_store(store: Any) -> None:
    """Raise a TypeError that names the missing members if an object is not a store."""
    missing = sorted(name for name in _NAMES if not hasattr(store, name))
    if missing:
        raise TypeError(
            f"backend must be a name or a store, but {type(store).__name__} lacks "
            f"{', '.join(missing)}; see skhash.neighbors.Store."
        )


class IsStore(HasMethods):
    """Constraint of a parameter to stores; the error names the missing members."""

    def __init__(self) -> None:
        super().__init__(_NAMES)

    def is_satisfied_by(self, val: Any) -> bool:
        if isinstance(val, str):
            if is_url(val) and holds_password(val):
                raise ValueError(
                    "backend must not contain a password, as parameters are printed and saved: "
                    "leave it to PGPASSWORD or libpq's password file, or give PostgresStore(...)."
                )
            return is_url(val)
        check_store(val)
        return True

    def __str__(self) -> str:
        return "a store or its URL (see skhash.neighbors.Store)"


_CHANGED = (
    "the store was changed during the search, so row numbers are not those of one time: give X and "
    "return_ids=True, or search again."
)


class StoreView:
    """A store of a user, as HammingNeighbors uses it; its searches return ids."""

    takes_threads = False  # it may support only one

    def __init__(self, store: Store) -> None:
        self._store = store
        self.kneighbors = store.kneighbors
        self.radius_neighbors = store.radius_neighbors

    def __len__(self) -> int:
        return len(self._store)

    @property
    def backend(self) -> Store:
        return self._store

    @cached_property
    def ids(self) -> Ids:
        return self._store.ids()

    @property
    def own(self) -> Ids:
        """For each code, the result by which a search returns the code itself."""
        if len(self.ids) != len(self.codes):
            raise RuntimeError(_CHANGED)
        return self.ids

    @cached_property
    def codes(self) -> Packed:
        return self._store.codes()

    def ids_of(self, found: Ids) -> Ids:
        return found

    @cached_property
    def _places(self) -> dict[Any, int]:
        return {name: place for place, name in enumerate(self.ids.tolist())}

    def positions(self, ids: Ids) -> Indices:
        get = self._places.get
        places = np.fromiter((get(i, -1) for i in ids.ravel().tolist()), np.intp, ids.size)
        return places.reshape(ids.shape)

    def positions_of(self, found: Ids) -> Indices:
        places = self.positions(found)
        if (places < 0).any():
            raise RuntimeError(_CHANGED)
        return places

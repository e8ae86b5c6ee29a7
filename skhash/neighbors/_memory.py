"""MemoryStore: codes in memory, or memory-mapped, that can be added and removed.

Searches use a :class:`View`, which never changes. A change of the store makes a new view, which
replaces the old one in one assignment. A search that is running continues with the old view.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._backends import (
    N_PROBES,
    Backend,
    Clusters,
    Distances,
    Indices,
    IVFBackend,
    Packed,
    clusters_of,
    is_memory_mapped,
    make_backend,
)
from ._ids import Ids, is_ascending, kind_of, name_some, next_numbers

__all__ = ["MemoryStore", "View"]


class View:
    """The codes of a MemoryStore at one time; its searches return positions.

    Parameters
    ----------
    backends : tuple of Backend
        Each searches one array of codes. There is only one array, unless some are memory-mapped:
        these stay separate.
    keys : ndarray of shape (n,), int64, or None
        A number for each code, ascending, which identifies it even after others were removed; None
        means 0, 1, 2 ....
    ids : ndarray of shape (n,) or None
        None means that the keys are the ids.
    has_removed : bool, default=False
        Whether the store must drop removed codes before the view may be searched.
    """

    takes_threads = True

    def __init__(
        self,
        backends: tuple[Backend, ...],
        keys: NDArray[np.int64] | None,
        ids: Ids | None,
        *,
        has_removed: bool = False,
    ) -> None:
        self.backends = backends
        self.given_keys = keys
        self.given_ids = ids
        self.has_removed = has_removed
        self._starts = np.cumsum([0, *(len(backend.packed) for backend in backends)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def backend(self) -> str:
        """Name of the backend that searches most codes."""
        return max(self.backends, key=lambda b: len(b.packed)).name if self.backends else "numpy"

    @cached_property
    def codes(self) -> Packed:
        """All codes; a copy if there are several arrays."""
        arrays = [backend.packed for backend in self.backends]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    @property
    def clusters(self) -> Clusters | None:
        """The clusters of an "ivf" search, with the codes of the first array; made if necessary."""
        first = self.backends[0] if self.backends else None
        return first.make_clusters() if isinstance(first, IVFBackend) else None

    def slices(self, start: int, stop: int) -> list[Packed]:
        """Some consecutive codes, as slices of the arrays that hold them."""
        parts = [
            backend.packed[max(start - first, 0) : max(stop - first, 0)]
            for backend, first in zip(self.backends, self._starts[:-1].tolist(), strict=True)
        ]
        return [part for part in parts if len(part)]

    @property
    def own(self) -> Indices:
        """For each code, the result by which a search returns the code itself."""
        return np.arange(len(self))

    @property
    def keys(self) -> NDArray[np.int64]:
        return np.arange(len(self)) if self.given_keys is None else self.given_keys

    @property
    def ids(self) -> Ids:
        return self.keys if self.given_ids is None else self.given_ids

    def ids_of(self, found: Indices) -> Ids:
        if self.given_ids is None and self.given_keys is None:
            return found.astype(np.int64, copy=False)
        return self.ids[found]

    def positions_of(self, found: Indices) -> Indices:
        return found

    def places(self, keys: NDArray[np.int64]) -> Indices:
        """Positions of keys, -1 where there is no such key."""
        if self.given_keys is None:
            return np.where((keys >= 0) & (keys < len(self)), keys, -1).astype(np.intp)
        places = np.searchsorted(self.given_keys, keys)
        places[places == len(self)] = -1
        if len(self):
            places[self.given_keys[places] != keys] = -1
        return places

    def kneighbors(self, queries: Packed, k: int) -> tuple[Distances, Indices]:
        found = [b.kneighbors(queries, min(k, len(b.packed))) for b in self.backends]
        if len(found) == 1:
            return found[0]
        distances = np.concatenate([d for d, _ in found], axis=1)
        indices = np.concatenate(
            [i + start for (_, i), start in zip(found, self._starts[:-1], strict=True)], axis=1
        )
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return tuple(np.take_along_axis(a, order, axis=1) for a in (distances, indices))  # type: ignore[return-value]

    def radius_neighbors(
        self, queries: Packed, radius: int
    ) -> tuple[NDArray[np.intp], Distances, Indices]:
        found = [backend.radius_neighbors(queries, radius) for backend in self.backends]
        if len(found) == 1:
            return found[0]
        counts = np.zeros((len(found), len(queries)), np.intp)
        for i, (indptr, _, _) in enumerate(found):
            counts[i] = np.diff(indptr)
        query_of = np.concatenate([np.repeat(np.arange(len(queries)), row) for row in counts])
        order = np.argsort(query_of, kind="stable")
        distances = np.concatenate([d for _, d, _ in found])[order]
        indices = np.concatenate(
            [i + start for (_, _, i), start in zip(found, self._starts[:-1], strict=True)]
        )[order]
        return np.concatenate([[0], np.cumsum(counts.sum(axis=0))]), distances, indices


class _Growing:
    """Makes arrays that can be appended to; usually only new rows are copied.

    An array that was returned never changes: new rows are written after its end, only once.
    """

    # If at most this share of the rows is removed, the rows between them are copied in blocks,
    # which is ten times as fast.
    _FEW = 0.01

    def __init__(self) -> None:
        self._room: NDArray[Any] = np.empty(0)
        self._last: NDArray[Any] | None = None

    def append(self, array: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
        """An array followed by rows."""
        n = len(array)
        if array is not self._last or n + len(rows) > len(self._room):
            self._make_room(n + len(rows), array)
            self._room[:n] = array
        self._room[n : n + len(rows)] = rows
        self._last = self._room[: n + len(rows)]
        return self._last

    def select(self, array: NDArray[Any], rows: NDArray[np.bool_]) -> NDArray[Any]:
        """Some rows of an array."""
        others = np.flatnonzero(~rows)
        n = len(array) - len(others)
        self._make_room(n, array)
        self._last = self._room[:n]
        if len(others) > self._FEW * len(array):
            np.compress(rows, array, axis=0, out=self._last)
            return self._last
        starts, stops = [0, *(others + 1).tolist()], [*others.tolist(), len(array)]
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            self._last[start - i : stop - i] = array[start:stop]
        return self._last

    def _make_room(self, n: int, like: NDArray[Any]) -> None:
        # Unused space costs no memory: the system allocates it when it is first written to.
        self._room = np.empty((n + n // 2, *like.shape[1:]), like.dtype)


class MemoryStore:
    """A store in the memory of this process, as used by ``backend="auto"``.

    The cost of an addition or a removal depends only on the number of codes
    added or removed. After removals, the next search makes one pass over all
    codes, which costs about as much as a search for one query. Threads may
    search and change the store at the same time: each search sees the codes
    either before or after a change.

    Parameters
    ----------
    backend : {"auto", "numpy", "faiss", "ivf"}, default="auto"
        Search method; see :class:`~skhash.HammingNeighbors`.
    n_probes : int, default=32
        Number of clusters that "ivf" searches.

    Attributes
    ----------
    n_bits : int or None
        Length of the codes in bits; None if nothing was added yet.
    exact : bool
        Whether searches for the nearest are exact.
    view : object
        The current codes, for :class:`~skhash.HammingNeighbors`.

    See Also
    --------
    Store : The contract of the methods.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import HammingNeighbors
    >>> from skhash.neighbors import MemoryStore
    >>> store = MemoryStore("numpy")
    >>> neighbors = HammingNeighbors(1, backend=store).fit(np.eye(3), ids=["a", "b", "c"])
    >>> neighbors.predict([[0, 1, 0]])
    array([['b']], dtype=object)
    >>> store.ids()
    array(['a', 'b', 'c'], dtype=object)
    """

    def __init__(self, backend: str = "auto", n_probes: int = N_PROBES) -> None:
        if backend not in ("auto", "numpy", "faiss", "ivf"):
            raise ValueError(f'backend must be "auto", "numpy", "faiss" or "ivf", got {backend!r}.')
        self.backend = backend
        self.n_probes = n_probes
        self._lock = threading.RLock()
        self._clear()

    @property
    def exact(self) -> bool:
        """Whether searches for the nearest are exact; those of "ivf" are not."""
        return self.backend != "ivf"

    @property
    def n_bits(self) -> int | None:
        """Length of the codes in bits; None if nothing was added yet."""
        return self._n_bits

    @property
    def view(self) -> View:
        """The current contents of the store."""
        view = self._view
        if self._alive is None and not view.has_removed:  # another thread may be changing both
            return view
        with self._lock:
            self._compact()
            return self._view

    def __len__(self) -> int:
        return len(self.view)

    def ids(self) -> Ids:
        """All ids, in the order of the store.

        Returns
        -------
        ndarray of shape (n,), int64 or object with str
        """
        return self.view.ids

    def codes(self) -> Packed:
        """All codes, packed, in the order of the store.

        Returns
        -------
        ndarray of shape (n, n_bytes), uint8
        """
        return self.view.codes

    def _clear(self) -> None:
        """Remove everything."""
        with self._lock:
            self._n_bits: int | None = None
            self._kind: str | None = None
            self._next_key = self._next_id = 0
            # The key of each id, if ids are not the keys.
            self._key_of: dict[Any, int] | None = None
            self._codes, self._keys, self._ids = _Growing(), _Growing(), _Growing()
            # The folder of skhash.neighbors._saving that holds these codes or some of them.
            self._saved: Any = None
            # Which rows of the view are not removed; rows after the end are not. None means all.
            self._alive: NDArray[np.bool_] | None = None
            self._view = View((), None, None)

    def replace(self, ids: Ids | None, packed: Packed, n_bits: int) -> None:
        """Replace all codes by these, in one change.

        Parameters
        ----------
        ids : ndarray of shape (n_new,), int64 or object with str, or None
            All different, of either type. None means 0, 1, 2 ....
        packed : ndarray of shape (n_new, n_bytes), uint8
            Their codes, which are not copied.
        n_bits : int
            Length of the codes in bits; it may differ from before.
        """
        new = MemoryStore(self.backend, self.n_probes)
        new.add(ids, packed, n_bits)
        with self._lock:
            self.__dict__ |= vars(new) | {"_lock": self._lock}

    def add(self, ids: Ids | None, packed: Packed, n_bits: int) -> None:
        """Add codes at the end.

        Parameters
        ----------
        ids : ndarray of shape (n_new,), int64 or object with str, or None
            All different. None means the numbers after the largest id that the
            store ever had, from 0 on.
        packed : ndarray of shape (n_new, n_bytes), uint8
            Their codes; the first codes of a store are not copied.
        n_bits : int
            Length of the codes in bits.

        Raises
        ------
        ValueError
            If the store already has one of the ids, or has ids of the other
            type or codes of another length.
        """
        with self._lock:
            if self._n_bits not in (None, n_bits):
                raise ValueError(
                    f"the codes have {n_bits} bits, but those of the store have {self._n_bits}."
                )
            ids = self._new_ids(ids, len(packed))
            if self._key_of is None and not self._can_be_keys(ids):
                self._separate_ids(ids.dtype)
            if self._key_of is None:
                keys = ids
            else:
                known = [i for i in ids.tolist() if i in self._key_of]
                if known:
                    raise ValueError(
                        f"ids {name_some(known)} are already in the database: call "
                        "remove(ids) first to replace their codes, or give other ids."
                    )
                keys = np.arange(self._next_key, self._next_key + len(packed))
            view = self._view
            n = len(view)
            all_keys = None
            if view.given_keys is not None or not np.array_equal(keys, np.arange(n, n + len(keys))):
                all_keys = self._keys.append(view.keys, keys)
            all_ids = None if self._key_of is None else self._ids.append(view.ids, ids)
            backends = self._extended(view.backends, packed)
            has_removed = self._alive is not None
            self._view = View(backends, all_keys, all_ids, has_removed=has_removed)
            if self._key_of is not None:
                self._key_of.update(zip(ids.tolist(), keys.tolist(), strict=True))
            if len(ids):
                self._n_bits, self._kind = n_bits, kind_of(ids)
                self._next_key = int(keys[-1]) + 1
                if self._kind == "int":
                    self._next_id = max(self._next_id, int(ids.max()) + 1)

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
        with self._lock:
            rows = self._rows(ids)
            if (rows < 0).any():
                raise ValueError(
                    f"ids {name_some(ids[rows < 0])} are not in the database; ids_ has those that "
                    "are."
                )
            if not len(ids):
                return
            # From here on searches wait.
            self._alive = self._alive_rows()
            self._alive[rows] = False
            if self._key_of is not None:
                for i in ids.tolist():
                    del self._key_of[i]
            if not self._alive.any():
                self._compact()

    def positions(self, ids: Ids) -> Indices:
        """Positions of codes in the order of the store.

        Parameters
        ----------
        ids : ndarray of shape (n_ids,), int64 or object with str
            They may repeat.

        Returns
        -------
        ndarray of shape (n_ids,), intp
            -1 for an id that is not in the store.
        """
        with self._lock:
            self._compact()
            return self._rows(ids)

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
        view = self.view
        if k > len(view):
            raise ValueError(f"the store has {len(view)} codes, fewer than the {k} requested.")
        distances, found = view.kneighbors(queries, k)
        return distances, view.ids_of(found)

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
        view = self.view
        if not view.backends:
            raise ValueError("the store has no codes yet.")
        indptr, distances, found = view.radius_neighbors(queries, radius)
        return indptr, distances, view.ids_of(found)

    def _contents(self) -> tuple[dict[str, Any], View]:
        """The contents of the store: numbers for :meth:`_fill`, and a view."""
        with self._lock:
            numbers = {
                "n_bits": self._n_bits,
                "next_key": self._next_key,
                "next_id": self._next_id,
            }
            return numbers, self.view

    def _fill(
        self,
        arrays: list[Packed],
        *,
        n_bits: int | None,
        keys: NDArray[np.int64] | None,
        ids: Ids | None,
        next_key: int,
        next_id: int,
        clusters: Clusters | None = None,
        saved: Any = None,
    ) -> None:
        """Replace the contents by those of another store; see :meth:`_contents`."""
        with self._lock:
            self._clear()
            backends, start = [], 0
            for packed in arrays:
                stop = start + len(packed)
                part = clusters and clusters._replace(numbers=clusters.numbers[start:stop])
                backends.append(self._make_backend(packed, part))
                start = stop
            self._view = View(tuple(backends), keys, ids)
            self._n_bits = n_bits
            if len(self._view):
                self._kind = "int" if ids is None else kind_of(ids)
            self._next_key, self._next_id = next_key, next_id
            if ids is not None:
                self._key_of = dict(zip(ids.tolist(), self._view.keys.tolist(), strict=True))
            self._saved = saved

    def __getstate__(self) -> dict[str, Any]:
        numbers, view = self._contents()
        arrays = [backend.packed for backend in view.backends]
        contents = {"arrays": arrays, "keys": view.given_keys, "ids": view.given_ids, **numbers}
        clusters = view.clusters
        contents["clusters"] = None if clusters is None else tuple(clusters)
        return {"backend": self.backend, "n_probes": self.n_probes, "contents": contents}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["backend"], state["n_probes"])  # type: ignore[misc]
        contents = state["contents"]
        if contents.get("clusters") is not None:
            arrays, clusters = contents["arrays"], Clusters(*contents["clusters"])
            clusters.check(sum(map(len, arrays)), arrays[0].shape[1] if arrays else 0)
            contents = {**contents, "clusters": clusters}
        self._fill(**contents)

    def _new_ids(self, ids: Ids | None, n: int) -> Ids:
        """Make ids if None is given; check the type of others."""
        if ids is None:
            if self._kind == "str":
                raise ValueError("ids must be given: the ids of the database are str.")
            return next_numbers(self._next_id, n)
        if self._kind not in (None, kind_of(ids)):
            raise ValueError(f"ids must be {self._kind}, as the ids of the database are.")
        return ids

    def _can_be_keys(self, ids: Ids) -> bool:
        return is_ascending(ids) and (
            not len(ids) or bool(ids[0] >= self._next_key and ids[-1] < _LARGEST_KEY)
        )

    def _separate_ids(self, dtype: Any) -> None:
        """Keep ids separate from the keys from now on."""
        self._compact()
        view = self._view
        ids = view.ids.astype(dtype)  # of another dtype only if it is empty
        self._key_of = dict(zip(ids.tolist(), view.keys.tolist(), strict=True))
        self._view = View(view.backends, view.given_keys, ids)

    def _extended(self, backends: tuple[Backend, ...], packed: Packed) -> tuple[Backend, ...]:
        if backends and not is_memory_mapped(backends[-1].packed):
            packed = self._codes.append(backends[-1].packed, packed)
            return (*backends[:-1], self._make_backend(packed, clusters_of(backends[-1])))
        return (*backends, self._make_backend(packed))

    def _make_backend(self, packed: Packed, clusters: Clusters | None = None) -> Backend:
        return make_backend(packed, self.backend, n_probes=self.n_probes, clusters=clusters)

    def _alive_rows(self) -> NDArray[np.bool_]:
        """Which rows of the view are not removed, as an array with all rows."""
        n = len(self._view)
        if self._alive is None:
            return np.ones(n, bool)
        n_more = n - len(self._alive)
        return np.pad(self._alive, (0, n_more), constant_values=True) if n_more else self._alive

    def _rows(self, ids: Ids) -> Indices:
        """Rows of ids in the view, -1 for ids that are not there."""
        if len(ids) and kind_of(ids) != (self._kind or "int"):
            return np.full(len(ids), -1, np.intp)
        keys = ids
        if self._key_of is not None:
            get = self._key_of.get
            keys = np.fromiter((get(i, -1) for i in ids.tolist()), np.int64, len(ids))
        rows = self._view.places(keys)
        if self._alive is not None:
            rows[~self._alive_rows()[rows]] = -1
        return rows

    def _compact(self) -> None:
        """Drop removed codes from the view."""
        if self._alive is None:
            return
        alive, view = self._alive_rows(), self._view
        keys = view.keys
        backends, start = [], 0
        for backend in view.backends:
            kept = alive[start : start + len(backend.packed)]
            start += len(backend.packed)
            if not kept.all():
                packed = self._codes.select(backend.packed, kept)
                backend = self._make_backend(packed, clusters_of(backend, kept))
            if kept.any():
                backends.append(backend)
        if not backends:  # only the length of codes is left: ids may be of another type
            self._view = View((self._make_backend(view.codes[:0].copy()),), keys[:0], None)
            self._kind = self._key_of = self._alive = None
            return
        self._view = View(
            tuple(backends),
            self._keys.select(keys, alive),
            None if view.given_ids is None else self._ids.select(view.given_ids, alive),
        )
        self._alive = None


# Keys are smaller than this, so that there is always a next key.
_LARGEST_KEY = 2**62

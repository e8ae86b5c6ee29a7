"""What every store promises, and one in SQL that shows how little it takes."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone

from skhash import HammingNeighbors
from skhash.codes import hamming_distances, pack
from skhash.neighbors import Store


class SQLiteStore:
    """Codes in a table of a database."""

    def __init__(self, path: str = ":memory:") -> None:
        self.path = path
        self._connect(path)

    def _connect(self, path: str) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.create_function(
            "distance", 2, lambda a, b: (int.from_bytes(a) ^ int.from_bytes(b)).bit_count()
        )
        with self._database:
            self._database.execute(
                "create table if not exists codes (place integer primary key autoincrement, "
                "id unique not null, code blob not null, n_bits integer not null)"
            )

    def __deepcopy__(self, memo: Any) -> SQLiteStore:
        return SQLiteStore(self.path)  # the same table

    def _all(self, query: str, *values: Any) -> list[Any]:
        return self._database.execute(query, values).fetchall()

    @property
    def n_bits(self) -> int | None:
        found = self._all("select n_bits from codes limit 1")
        return found[0][0] if found else None

    def __len__(self) -> int:
        return self._all("select count(*) from codes")[0][0]

    def _array(self, ids: list[Any]) -> np.ndarray:
        if any(isinstance(i, str) for i in ids):
            return np.array(ids, dtype=object)
        return np.array(ids, dtype=np.int64)

    def ids(self) -> np.ndarray:
        return self._array([i for (i,) in self._all("select id from codes order by place")])

    def codes(self) -> np.ndarray:
        rows = self._all("select code from codes order by place")
        return np.frombuffer(b"".join(code for (code,) in rows), np.uint8).reshape(len(rows), -1)

    def add(self, ids: np.ndarray | None, packed: np.ndarray, n_bits: int) -> None:
        known = self._all("select typeof(id), n_bits from codes limit 1")
        if ids is None:
            if known and known[0][0] == "text":
                raise ValueError("ids must be given: those of the store are str.")
            start = self._all("select coalesce(max(id) + 1, 0) from codes")[0][0]
            ids = np.arange(start, start + len(packed))
        if known and known[0] != ("text" if ids.dtype == object else "integer", n_bits):
            raise ValueError("ids or codes are of another kind than those of the store.")
        rows = zip(ids.tolist(), (code.tobytes() for code in packed), strict=True)
        try:
            with self._database:
                self._database.executemany(
                    f"insert into codes (id, code, n_bits) values (?, ?, {n_bits})", rows
                )
        except sqlite3.IntegrityError as error:
            raise ValueError(f"ids are in the store already: {error}") from error

    def remove(self, ids: np.ndarray) -> None:
        with self._database:
            for i in ids.tolist():
                if not self._database.execute("delete from codes where id = ?", (i,)).rowcount:
                    raise ValueError(f"ids {i!r} is not in the store.")

    def replace(self, ids: np.ndarray | None, packed: np.ndarray, n_bits: int) -> None:
        with self._database:
            self._database.execute("delete from codes")
            self.add(ids, packed, n_bits)

    def kneighbors(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        rows = [
            self._all(
                "select distance(code, ?) as d, id from codes order by d, place limit ?",
                query.tobytes(),
                k,
            )
            for query in queries
        ]
        distances = np.array([[d for d, _ in row] for row in rows], np.int32)
        return distances, self._array([i for row in rows for _, i in row]).reshape(-1, k)

    def radius_neighbors(
        self, queries: np.ndarray, radius: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = [
            self._all(
                "select distance(code, ?1) as d, id from codes where d <= ?2 order by place",
                query.tobytes(),
                radius,
            )
            for query in queries
        ]
        found = [pair for row in rows for pair in row]
        indptr = np.cumsum([0, *map(len, rows)])
        return indptr, np.array([d for d, _ in found], np.int32), self._array([i for _, i in found])


def check_store(make_store: Callable[[], Store]) -> None:
    """Put a new store through all that :class:`skhash.neighbors.Store` asks for.

    Parameters
    ----------
    make_store : callable
        Returns an empty store; called once for each part of the check.
    """
    for check in (_changes, _refusals, _numbers, _estimator):
        check(make_store())


def _names(*names: str) -> np.ndarray:
    return np.array(names, dtype=object)


def _codes(n: int, n_bits: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return pack(rng.integers(0, 2, (6, n_bits))[rng.integers(0, 6, n)])  # full of ties


def _holds(store: Store, ids: list[Any], packed: np.ndarray) -> None:
    """The store holds just this, and finds it as sorting all distances does."""
    assert len(store) == len(ids)
    assert store.ids().tolist() == ids
    if not ids:
        return
    assert_array_equal(store.codes(), packed)
    assert store.n_bits == 12
    queries = _codes(5, seed=1)
    distances = hamming_distances(queries, packed).astype(int)
    order = np.argsort(distances, axis=1, kind="stable")
    for k in {1, (len(ids) + 1) // 2, len(ids)}:
        found_distances, found = store.kneighbors(queries, k)
        assert_array_equal(found, np.array(ids, store.ids().dtype)[order[:, :k]])
        assert_array_equal(found_distances, np.take_along_axis(distances, order[:, :k], axis=1))
        assert found_distances.dtype == np.int32
    for radius in (0, 3, 12):
        indptr, found_distances, found = store.radius_neighbors(queries, radius)
        rows, columns = np.nonzero(distances <= radius)
        assert_array_equal(indptr, np.searchsorted(rows, np.arange(6)))
        assert_array_equal(found_distances, distances[rows, columns])
        assert found.tolist() == [ids[i] for i in columns]


def _changes(store: Store) -> None:
    packed = _codes(30)
    names = [f"photo {i}é" for i in range(30)]
    assert store.n_bits is None
    _holds(store, [], packed[:0])
    store.add(_names(*names[:10]), packed[:10], 12)
    _holds(store, names[:10], packed[:10])
    store.add(_names(*names[10:]), packed[10:], 12)
    _holds(store, names, packed)
    store.remove(_names(names[25], names[3], names[0]))
    left = [i for i in range(30) if i not in (0, 3, 25)]
    _holds(store, [names[i] for i in left], packed[left])
    store.add(_names(names[3]), packed[7:8], 12)  # again, with another code: it is the last
    _holds(store, [*(names[i] for i in left), names[3]], packed[[*left, 7]])
    store.replace(np.array([5, -3, 2]), packed[:3], 12)
    _holds(store, [5, -3, 2], packed[:3])
    store.remove(store.ids())
    _holds(store, [], packed[:0])
    store.add(_names("a", "b"), packed[:2], 12)
    _holds(store, ["a", "b"], packed[:2])
    store.replace(None, pack(np.eye(2, 70)), 70)
    assert store.n_bits == 70
    assert store.ids().tolist() == [0, 1]
    assert_array_equal(store.codes(), pack(np.eye(2, 70)))


def _refusals(store: Store) -> None:
    packed = _codes(4)
    store.add(_names("a", "b", "c", "d"), packed, 12)
    for change in (
        lambda: store.add(_names("e", "b"), packed[:2], 12),
        lambda: store.add(np.array([1, 2]), packed[:2], 12),
        lambda: store.add(None, packed[:2], 12),
        lambda: store.add(_names("e"), packed[:1], 16),
        lambda: store.remove(_names("a", "e")),
        lambda: store.remove(np.array([0])),
    ):
        with pytest.raises(ValueError):
            change()
        _holds(store, ["a", "b", "c", "d"], packed)


def _numbers(store: Store) -> None:
    packed = _codes(9)
    store.add(None, packed[:4], 12)
    store.add(None, packed[4:6], 12)
    _holds(store, list(range(6)), packed[:6])
    store.remove(np.array([2]))
    store.add(np.array([40, 30]), packed[6:8], 12)
    store.add(None, packed[8:], 12)
    _holds(store, [0, 1, 3, 4, 5, 40, 30, 41], packed[[0, 1, 3, 4, 5, 6, 7, 8]])


def _estimator(store: Store) -> None:
    codes = np.random.default_rng(0).integers(0, 2, (40, 3)).repeat(4, axis=1)
    names = [f"{i}.jpg" for i in range(40)]
    index = HammingNeighbors(4, radius=4, backend=store).fit(codes[:30], ids=names[:30])
    index.partial_fit(codes[30:], ids=names[30:]).remove(names[5:9])
    left = np.r_[0:5, 9:40]
    expected = HammingNeighbors(4, radius=4).fit(codes[left], ids=[names[i] for i in left])
    for again in (index, HammingNeighbors.from_store(store, n_neighbors=4, radius=4)):
        assert again.backend is store
        assert again.n_samples_fit_ == 36
        assert_array_equal(again.ids_, expected.ids_)
        assert_array_equal(again.packed_codes_, expected.packed_codes_)
        assert_array_equal(again.positions(names), expected.positions(names))
        for X in (codes[:3], None):
            for method in ("kneighbors", "radius_neighbors"):
                for return_ids in (False, True):
                    for found, wanted in zip(
                        getattr(again, method)(X, return_ids=return_ids),
                        getattr(expected, method)(X, return_ids=return_ids),
                        strict=True,
                    ):
                        assert all(map(np.array_equal, found, wanted))
            for method in ("kneighbors_graph", "radius_neighbors_graph"):
                assert (getattr(again, method)(X) != getattr(expected, method)(X)).nnz == 0
        assert_array_equal(again.predict(codes[:3]), expected.predict(codes[:3]))
    with pytest.raises(TypeError, match="nothing to save"):
        index.save("nowhere")
    index.fit(codes[:3])  # what was there is replaced
    assert index.ids_.tolist() == [0, 1, 2]
    assert not hasattr(clone(index), "ids_")
    assert len(copy.deepcopy(index).ids_) in (0, 3)  # of a copy, or of the same table

"""DuckDBStore: codes in a table of a DuckDB file, which needs no server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

import numpy as np

from .._files import PathLike
from ._backends import Packed
from ._ids import Ids, check_ids, check_name, name_some
from ._tables import Layout, TableStore

# Rows of a Parquet file that are in memory at the same time.
_ROWS_TOGETHER = 2**17


class DuckDBStore(TableStore):
    """Codes in a table of a `DuckDB <https://duckdb.org>`_ file; no server is needed.

    Searches are exact: every code is compared, on the cores that DuckDB may
    use. Only one process at a time can open the file; its threads may share
    the store, but not a process that it forks. Each change is one transaction:
    if the process is killed or the disk is full, the table stays as it was.

    Parameters
    ----------
    path : str or path-like
        The file; it is created if it does not exist. ":memory:" keeps the
        codes only in memory, until the store is closed.
    table : str, default="codes"
        Name of the table, which is created when the first codes are added. Its
        columns are ``place`` (the order in which the codes were added),
        ``id``, ``n_bits``, ``version``, ``tags``, and the code as 64-bit
        numbers ``code0``, ``code1`` .... The first bit of the code is the most
        significant bit of the first number.
    version : str, default=None
        A name for the model that made the codes, such as the name of the
        hasher's file. It is kept with the table, and a table with another
        version is refused. None means that the version is not checked.

    Attributes
    ----------
    n_bits : int or None
        Length of the codes in bits; None if there is no table yet.
    exact : bool
        True.

    Raises
    ------
    ImportError
        If duckdb is not installed: ``pip install "scikit-hash[duckdb]"``.
    OSError
        If the file cannot be opened, or another process has it open.
    RuntimeError
        If a forked process uses the store of its parent.
    ValueError
        If the table was not made by this class, or has another version.

    See Also
    --------
    Store : The contract of the methods.
    PostgresStore : Codes on a server.

    Notes
    -----
    Codes at equal distances are in the order in which they were added, as in
    all stores.

    Examples
    --------
    >>> from skhash import HammingNeighbors
    >>> from skhash.neighbors import DuckDBStore
    >>> store = DuckDBStore(":memory:")  # doctest: +SKIP
    >>> neighbors = HammingNeighbors(1, backend=store)  # doctest: +SKIP
    >>> neighbors.fit([[0, 1], [1, 1]], ids=["a", "b"]).predict([[1, 1]])  # doctest: +SKIP
    array([['b']], dtype=object)
    """

    def __init__(self, path: PathLike, *, table: str = "codes", version: str | None = None) -> None:
        super().__init__(table, version)
        path = os.fspath(path)
        check_name(path, "path")
        # The same file from any folder, and never the address of a service, such as "md:...".
        self.path = path if path == ":memory:" else os.path.abspath(path)
        self._process = os.getpid()
        self._lock = threading.RLock()  # of changes
        with self._translated():
            self._connection: Any = _load_duckdb().connect(self.path)
        try:
            with self._reading() as c:
                self._layout(c)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"DuckDBStore({str(self.path)!r}, table={self.table!r})"

    def __deepcopy__(self, memo: Any) -> Self:
        """Another connection to the same table."""
        copy = type(self).__new__(type(self))
        with self._translated():
            copy.__dict__ = {**self.__dict__, "_connection": self._cursor()}
        return copy

    def __getstate__(self) -> dict[str, Any]:
        if self.path == ":memory:":
            raise TypeError("a DuckDBStore in memory cannot be pickled; give a file as path.")
        return {"path": self.path, "table": self.table, "version": self.version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def close(self) -> None:
        """Close the file, so that other processes can open it."""
        self._connection.close()

    def add_parquet(
        self,
        path: PathLike,
        *,
        id: str | None = "id",
        code: str = "code",
        n_bits: int | None = None,
    ) -> None:
        """Add the codes of Parquet files at the end, in the order of their rows.

        Parameters
        ----------
        path : str or path-like
            A file, or several by a pattern such as ``"codes/shard-*.parquet"``.
        id : str or None, default="id"
            Column of ids, all different, integers or strings. None means the
            next numbers.
        code : str, default="code"
            Column of packed codes, binary and all of the same length.
        n_bits : int, default=None
            Length of the codes in bits; None means eight for each byte.

        Raises
        ------
        OSError
            If a file cannot be read.
        ValueError, TypeError
            If a column is missing or has another type, or for the reasons of
            :meth:`add`. The table stays as it was.
        """
        columns = _quoted(code) if id is None else f"{_quoted(code)}, {_quoted(id)}"
        with self._changing() as c, c.cursor() as rows:
            rows.execute(f"select {columns} from read_parquet(?)", [os.fspath(path)])
            while block := rows.fetchmany(_ROWS_TOGETHER):
                codes = [row[0] for row in block]
                if not all(isinstance(some, bytes) for some in codes):
                    raise TypeError(f"column {code!r} of {path} must be binary, without nulls.")
                n_bytes = len(codes[0]) if n_bits is None else -(-n_bits // 8)
                if {len(some) for some in codes} != {n_bytes}:
                    raise ValueError(f"column {code!r} of {path} needs {n_bytes} bytes per row.")
                packed = np.frombuffer(b"".join(codes), np.uint8).reshape(len(block), n_bytes)
                ids = None if id is None else check_ids([row[1] for row in block])
                self._add(c, ids, packed, 8 * n_bytes if n_bits is None else n_bits, None)

    def _cursor(self) -> Any:
        if self._process != os.getpid():
            raise RuntimeError(
                f"{self} is open in the process that forked this one, and only one process at a "
                'time can use the file: start processes with the method "spawn", or close the '
                "store before and open it in one of them."
            )
        return self._connection.cursor()

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        # A cursor is a separate connection, so threads can search at the same time.
        with self._translated(), self._cursor() as c:
            c.begin()
            try:
                yield c
                c.commit()
            except BaseException:
                with suppress(_load_duckdb().Error):  # the transaction may have ended
                    c.rollback()
                raise

    @contextmanager
    def _changing(self) -> Iterator[Any]:
        with self._lock, self._reading() as c:
            yield c

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn errors of DuckDB into errors of Python that name the store and the remedy."""
        duckdb = _load_duckdb()
        try:
            yield
        except duckdb.IOException as error:
            raise OSError(
                f"{self}: {error} The table is unchanged. Check whether the file can be written, "
                "the disk is full, or another process has the file open."
            ) from error
        except duckdb.ConnectionException as error:
            raise ValueError(f"{self} is closed, or its file is open with other settings.") from (
                error
            )
        except duckdb.Error as error:
            raise RuntimeError(f"{self}: {error} The table is unchanged.") from error

    @property
    def _name(self) -> str:
        return _quoted(self.table)

    def _read_layout(self, c: Any) -> Layout | None:
        found = _rows(
            c,
            "select table_name, column_name, data_type from duckdb_columns() "
            "where lower(table_name) = lower(?) "
            "and schema_name = current_schema() and database_name = current_database()",
            [self.table],
        )
        # DuckDB ignores the case of ASCII letters in names, but not that of others, as lower does.
        name = self.table.encode().lower()
        columns = {column: kind for table, column, kind in found if table.encode().lower() == name}
        if not columns:
            return None
        kind = {"BIGINT": "int", "VARCHAR": "str"}.get(columns.get("id", ""))
        if kind is None or not {"place", "n_bits", "version", "tags", "code0"} <= columns.keys():
            raise ValueError(
                f"the table of {self} was not made by skhash: give the name of another table."
            )
        rows = _rows(c, f"select n_bits, version from {self._name} limit 1")
        return Layout(rows[0][0], kind, rows[0][1]) if rows else None

    def _create(self, c: Any, layout: Layout) -> None:
        words = "".join(f", code{i} ubigint not null" for i in range(_n_words(layout.n_bits)))
        _rows(
            c,
            f"create or replace table {self._name} (place bigint not null, "
            f"id {'bigint' if layout.kind == 'int' else 'varchar'} not null, "
            f"n_bits integer not null, version varchar, tags varchar[]{words})",
        )

    def _drop(self, c: Any) -> None:
        _rows(c, f"drop table {self._name}")

    def _count(self, c: Any) -> int:
        return _rows(c, f"select count(*) from {self._name}")[0][0]

    def _largest_number(self, c: Any) -> int:
        return _rows(c, f"select coalesce(max(id), -1) from {self._name}")[0][0]

    def _append(
        self, c: Any, layout: Layout, ids: Ids, packed: Packed, tags: list[list[str]] | None
    ) -> None:
        start = _rows(c, f"select coalesce(max(place) + 1, 0) from {self._name}")[0][0]
        words = _words(packed)
        new = {f"code{i}": np.ascontiguousarray(column) for i, column in enumerate(words.T)}
        new = {"place": np.arange(start, start + len(ids)), "id": ids, **new}
        c.register("skhash_new", new)
        known = _rows(
            c, f"select id from skhash_new semi join {self._name} using (id) order by place"
        )
        if known:
            raise ValueError(
                f"ids {name_some([i for (i,) in known])} are already in {self}: call remove(ids) "
                "first to replace their codes, or give other ids."
            )
        _rows(
            c,
            f"insert into {self._name} by name "
            "select *, ?::integer as n_bits, ?::varchar as version from skhash_new",
            [layout.n_bits, layout.version],
        )
        c.unregister("skhash_new")
        if tags:
            c.executemany(
                f"update {self._name} set tags = ? where place = ?",
                [[some, start + i] for i, some in enumerate(tags)],
            )

    def _delete(self, c: Any, ids: list[Any]) -> list[Any]:
        found = _rows(
            c, f"delete from {self._name} where id in (select unnest(?)) returning id", [ids]
        )
        return [i for (i,) in found]

    def _ids(self, c: Any) -> list[Any]:
        return [i for (i,) in _rows(c, f"select id from {self._name} order by place")]

    def _codes(self, c: Any, layout: Layout) -> Packed:
        names = [f"code{i}" for i in range(_n_words(layout.n_bits))]
        found = c.execute(f"select {', '.join(names)} from {self._name} order by place")
        columns = found.fetchnumpy()
        words = np.stack([np.asarray(columns[name]) for name in names], axis=1)
        packed = words.astype(">u8").view(np.uint8)[:, : -(-layout.n_bits // 8)]
        return np.ascontiguousarray(packed)

    def _tags(self, c: Any, ids: list[Any]) -> list[tuple[Any, list[str] | None]]:
        return _rows(c, f"select id, tags from {self._name} where id in (select unnest(?))", [ids])

    def _nearest(
        self, c: Any, layout: Layout, queries: Packed, k: int
    ) -> list[list[tuple[int, Any]]]:
        return self._searched(c, layout, queries, "", "distance, place limit ?", k)

    def _within(
        self, c: Any, layout: Layout, queries: Packed, radius: int
    ) -> list[list[tuple[int, Any]]]:
        return self._searched(c, layout, queries, "where distance <= ?", "place", radius)

    def _searched(
        self, c: Any, layout: Layout, queries: Packed, where: str, order: str, value: int
    ) -> list[list[tuple[int, Any]]]:
        distance = " + ".join(
            f"bit_count(xor(code{i}, ?::ubigint))::integer" for i in range(_n_words(layout.n_bits))
        )
        query = (
            f"select distance, id from (select {distance} as distance, id, place "
            f"from {self._name}) {where} order by {order}"
        )
        return [_rows(c, query, [*words, value]) for words in _words(queries).tolist()]


def _rows(c: Any, query: str, values: Sequence[Any] = ()) -> list[Any]:
    """All rows of a query, read at once: the connection needs that before its next query."""
    return c.execute(query, list(values)).fetchall()


def _n_words(n_bits: int) -> int:
    return -(-n_bits // 64)


def _words(packed: Packed) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Packed codes as 64-bit numbers: DuckDB compares them ten times as fast as its bit strings."""
    packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    return packed.view(">u8").astype(np.uint64)


def _quoted(name: str) -> str:
    """Quote a name for SQL, which has no parameters for names."""
    return '"' + name.replace('"', '""') + '"'


def _load_duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise ImportError(
            f'DuckDBStore needs duckdb ({error}): pip install "scikit-hash[duckdb]".'
        ) from error
    return duckdb

"""PostgresStore: codes in a table of a PostgreSQL server, searched exactly or by pgvector."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, Self

import numpy as np

from ..codes import unpack
from ._backends import Packed
from ._ids import Ids
from ._tables import Layout, TableStore

# Connections that forked processes must not close: the server would end those of their parents.
_OF_PARENTS: list[Any] = []

# In bytes, of a name in PostgreSQL.
_LONGEST_NAME = 63

# Number of rows that are sent together.
_ROWS = 2**14

# pgvector's largest hnsw.ef_search.
_LARGEST_EF_SEARCH = 1000

# SQLSTATE classes and codes: the errors of the server.
_NO_CONNECTION = ("08", "57P")
_DISK_FULL = ("53100",)
_FORBIDDEN = ("42501", "28")
_BAD_VALUE = ("22",)


class PostgresStore(TableStore):
    """Codes in a table of a PostgreSQL server.

    Searches are exact unless ``search="hnsw"``. Each change is one
    transaction: a search at the same time sees the table either before or
    after it. If the client is killed, the connection breaks or the disk is
    full, the table stays as it was. Several processes may search and change
    one table; changes wait for each other. A forked process opens its own
    connection.

    Parameters
    ----------
    conninfo : str, default=""
        Connection string of libpq: "postgresql://user@host/database" or
        "host=... dbname=... user=...". Missing values come from libpq's
        environment variables (``PGHOST``, ``PGPASSWORD`` ...) and its password
        file. A password given here is used only to connect. It does not appear
        in messages, in ``repr`` or in pickles; an unpickled store takes the
        password from the environment.
    table : str, default="codes"
        Name of the table, which is created when the first codes are added. The
        schemas of ``search_path`` are used to find and to create it. Its
        columns are ``place`` (the order in which the codes were added),
        ``id``, ``code``, of type bit(n_bits), and ``tags``.
    version : str, default=None
        A name for the model that made the codes, such as the name of the
        hasher's file. It is kept as the table's comment, and a table with
        another version is refused. None means that the version is not checked.
    search : {"exact", "hnsw"}, default="exact"
        How :meth:`kneighbors` searches. "exact" compares all codes. "hnsw" is
        approximate and faster: an index of the extension pgvector (0.8 or
        later) returns ``ef_search`` codes, which are then sorted. The index is
        created if there is none. Radius searches are always exact.
    ef_search : int, default=200
        Number of candidates of an HNSW search, up to 1000. More candidates
        find more of the nearest codes, but take longer. A search for more
        neighbors than candidates is exact.
    timeout : int, default=10
        Seconds to wait for a connection.

    Attributes
    ----------
    n_bits : int or None
        Length of the codes in bits; None if there is no table yet.
    exact : bool
        Whether :meth:`kneighbors` is exact.

    Raises
    ------
    ImportError
        If psycopg is not installed: ``pip install "scikit-hash[postgres]"``.
    ConnectionError
        If the server cannot be reached or refuses the user, or the connection
        breaks; the next call connects again.
    PermissionError
        If the user has no permission for this.
    OSError
        If the server's disk is full.
    ValueError
        If the table was not made by this class, or has another version.

    See Also
    --------
    Store : The contract of the methods.
    DuckDBStore : Codes in a file, without a server.

    Notes
    -----
    Codes at equal distances are in the order in which they were added, as in
    all stores.

    The exact search computes ``bit_count(code # query)``, for which no index
    is used. Sorting by pgvector's distance, ``code <~> query``, would be
    approximate as soon as there is an HNSW index.

    Examples
    --------
    >>> from skhash import HammingNeighbors
    >>> from skhash.neighbors import PostgresStore
    >>> store = PostgresStore("postgresql://me@localhost/photos")  # doctest: +SKIP
    >>> neighbors = HammingNeighbors(backend=store).fit(codes, ids=paths)  # doctest: +SKIP
    """

    def __init__(
        self,
        conninfo: str = "",
        *,
        table: str = "codes",
        version: str | None = None,
        search: Literal["exact", "hnsw"] = "exact",
        ef_search: int = 200,
        timeout: int = 10,
    ) -> None:
        super().__init__(table, version)
        if len(table.encode()) > _LONGEST_NAME:
            raise ValueError(
                f"table must have at most {_LONGEST_NAME} bytes, got {table!r}: PostgreSQL cuts "
                "longer names, so they may name another table."
            )
        if search not in ("exact", "hnsw"):
            raise ValueError(f'search must be "exact" or "hnsw", got {search!r}.')
        if not isinstance(ef_search, int | np.integer) or not 1 <= ef_search <= _LARGEST_EF_SEARCH:
            raise ValueError(
                f"ef_search must be between 1 and {_LARGEST_EF_SEARCH}, got {ef_search!r}."
            )
        self.search = search
        self.ef_search = ef_search
        self.timeout = timeout
        self._conninfo = _parse(conninfo)
        self._start()

    def _start(self) -> None:
        self._disconnected()
        try:
            with self._reading() as c:
                layout = self._layout(c)
            if layout and not self.exact:
                with self._changing() as c:
                    self._make_index(c, layout)
        except BaseException:
            self.close()
            raise

    def _disconnected(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._connection: Any = None

    def _leave_to_parent(self) -> None:
        """In a forked process, leave the connection to the parent: both would read its answers."""
        if self._process != os.getpid():
            _OF_PARENTS.append(self._connection)
            self._disconnected()

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Whether :meth:`kneighbors` is exact."""
        return self.search == "exact"

    def __repr__(self) -> str:
        place = ", ".join(
            f"{name}={self._conninfo[name]}"
            for name in ("host", "port", "dbname")
            if self._conninfo.get(name)
        )
        return f"PostgresStore({place!r}, table={self.table!r}, search={self.search!r})"

    def __deepcopy__(self, memo: Any) -> Self:
        """Another connection to the same table."""
        copy = type(self).__new__(type(self))
        copy.__dict__ = self.__dict__.copy()
        copy._start()
        return copy

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"], state["_connection"], state["_process"]
        state["_conninfo"] = {
            name: value for name, value in self._conninfo.items() if "password" not in name
        }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self._start()

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self._leave_to_parent()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connected(self) -> Any:
        """The connection; a new one if there is none or it broke."""
        psycopg = _load_psycopg()
        if self._connection is None or self._connection.closed:
            try:
                self._connection = psycopg.connect(
                    **{"connect_timeout": self.timeout, **self._conninfo}, autocommit=True
                )
            except psycopg.Error as error:
                raise ConnectionError(
                    f"{self} cannot connect: {_said(error)}. Check that the server runs "
                    "there and accepts this user; the password is taken from conninfo, "
                    "PGPASSWORD or libpq's password file."
                ) from error
            if self._connection.info.server_version < 140000:
                self.close()
                raise RuntimeError(f"{self} needs PostgreSQL 14 or later, which has bit_count.")
        return self._connection

    @contextmanager
    def _transaction(self, mode: Literal["read", "write"]) -> Iterator[Any]:
        psycopg = _load_psycopg()
        self._leave_to_parent()
        with self._lock, self._translated():
            connection = self._connected()
            # All reads of one call see the table at one time. A change must see the changes of
            # others that it waited for.
            level = psycopg.IsolationLevel
            connection.isolation_level = (
                level.REPEATABLE_READ if mode == "read" else level.READ_COMMITTED
            )
            with connection.transaction(), connection.cursor(binary=True) as c:
                if mode == "read":
                    self._lock_for_reading(c)
                yield c

    def _lock_for_reading(self, c: Any) -> None:
        """Keep other processes from replacing the table until the transaction ends.

        PostgreSQL finds a new table of the same name at once, but its rows are not in the snapshot
        of a transaction that began before: the table would seem empty. To lock takes no snapshot,
        so the snapshot is taken afterwards.
        """
        errors = _load_psycopg().errors
        missing = errors.UndefinedTable, errors.WrongObjectType  # _read_layout reports these
        with suppress(*missing), c.connection.transaction():
            c.execute(self._sql("lock table {table} in access share mode"))

    def _reading(self) -> Any:
        return self._transaction("read")

    @contextmanager
    def _changing(self) -> Iterator[Any]:
        with self._transaction("write") as c:
            # There may be no table yet to lock.
            c.execute("select pg_advisory_xact_lock(hashtext(%s))", [f"skhash {self.table}"])
            yield c

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn errors of psycopg into errors of Python that name the store and the remedy."""
        psycopg = _load_psycopg()
        try:
            yield
        except psycopg.errors.UniqueViolation as error:
            raise ValueError(
                f"ids are already in {self} ({error.diag.message_detail}): call remove(ids) first "
                "to replace their codes, or give other ids."
            ) from error
        except psycopg.Error as error:
            state = error.sqlstate or ""
            message = f"{self}: {_said(error)}. The table is unchanged. "
            if state.startswith(_DISK_FULL):
                raise OSError(f"{message}Free some space on the disk of the server.") from error
            if state.startswith(_FORBIDDEN):
                raise PermissionError(
                    f"{message}Ask the owner of the database for the permission."
                ) from error
            if state.startswith(_BAD_VALUE):
                raise ValueError(f"{message}The server does not accept this value.") from error
            lost = self._connection is None or self._connection.closed
            if lost or state.startswith(_NO_CONNECTION):
                raise ConnectionError(
                    f"{self}: the connection was lost: {_said(error)}. A change is made "
                    "completely or not at all. The next call connects again."
                ) from error
            raise RuntimeError(message) from error

    def _sql(self, query: str, **numbers: int) -> Any:
        """A query with the quoted name of the table, and numbers where SQL allows no parameters."""
        sql = _load_psycopg().sql
        literals = {name: sql.Literal(number) for name, number in numbers.items()}
        return sql.SQL(query).format(table=sql.Identifier(self.table), **literals)

    def _read_layout(self, c: Any) -> Layout | None:
        version, columns = c.execute(
            "select obj_description(t, 'pg_class'), (select json_object_agg("
            "attname, json_build_array(format_type(atttypid, null), atttypmod)) "
            "from pg_attribute where attrelid = t and attnum > 0 and not attisdropped) "
            "from to_regclass(quote_ident(%s)) as t",
            [self.table],
        ).fetchone()
        if columns is None:
            return None
        types = {name: kind for name, (kind, _) in columns.items()}
        kind = {"bigint": "int", "text": "str"}.get(types.get("id", ""))
        expected = {"place": "bigint", "code": "bit", "tags": "text[]"}
        if kind is None or any(types.get(name) != kind for name, kind in expected.items()):
            raise ValueError(
                f"the table of {self} was not made by skhash: give the name of another table."
            )
        return Layout(columns["code"][1], kind, version)

    def _create(self, c: Any, layout: Layout) -> None:
        c.execute(
            self._sql(
                "create table {table} (place bigint generated always as identity primary key, "
                "id bigint not null unique, code bit({n_bits}) not null, tags text[])"
                if layout.kind == "int"
                else "create table {table} (place bigint generated always as identity primary "
                'key, id text collate "C" not null unique, code bit({n_bits}) not null, '
                "tags text[])",
                n_bits=layout.n_bits,
            )
        )
        if layout.version is not None:
            sql = _load_psycopg().sql
            c.execute(
                sql.SQL("comment on table {} is {}").format(
                    sql.Identifier(self.table), sql.Literal(layout.version)
                )
            )

    def _make_index(self, c: Any, layout: Layout) -> None:
        sql = _load_psycopg().sql
        found = c.execute(
            "select 1 from pg_index join pg_class i on i.oid = indexrelid "
            "join pg_am on pg_am.oid = i.relam where indrelid = to_regclass(quote_ident(%s)) "
            "and amname = 'hnsw'",
            [self.table],
        ).fetchone()
        if found:
            return
        available = c.execute(
            "select 1 from pg_available_extensions where name = 'vector'"
        ).fetchone()
        if not available:
            raise RuntimeError(
                f"{self} needs the extension pgvector, which the server does not have: install it "
                'there, or use search="exact".'
            )
        c.execute("create extension if not exists vector")
        c.execute(
            sql.SQL("create index on {} using hnsw (code bit_hamming_ops)").format(
                sql.Identifier(self.table)
            )
        )

    def _drop(self, c: Any) -> None:
        c.execute(self._sql("drop table {table}"))

    def _count(self, c: Any) -> int:
        return c.execute(self._sql("select count(*) from {table}")).fetchone()[0]

    def _largest_number(self, c: Any) -> int:
        return c.execute(self._sql("select coalesce(max(id), -1) from {table}")).fetchone()[0]

    def _append(
        self, c: Any, layout: Layout, ids: Ids, packed: Packed, tags: list[list[str]] | None
    ) -> None:
        with c.copy(self._sql("copy {table} (id, code, tags) from stdin (format binary)")) as copy:
            copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
            for start in range(0, len(ids), _ROWS):
                part = slice(start, start + _ROWS)
                some = [None] * len(packed[part]) if tags is None else tags[part]
                rows = zip(ids[part].tolist(), packed[part], some, strict=True)
                copy.write(b"".join(_row(*row, layout.n_bits) for row in rows))
            copy.write(struct.pack("!h", -1))
        if not self.exact:
            self._make_index(c, layout)

    def _delete(self, c: Any, ids: list[Any]) -> list[Any]:
        c.execute(self._sql("delete from {table} where id = any(%s) returning id"), [ids])
        return [i for (i,) in c.fetchall()]

    def _ids(self, c: Any) -> list[Any]:
        return [i for (i,) in c.execute(self._sql("select id from {table} order by place"))]

    def _codes(self, c: Any, layout: Layout) -> Packed:
        rows = c.execute(self._sql("select code from {table} order by place")).fetchall()
        n_bytes = -(-layout.n_bits // 8)
        # Each begins with its number of bits, in four bytes.
        codes = np.frombuffer(b"".join(code for (code,) in rows), np.uint8)
        return codes.reshape(len(rows), 4 + n_bytes)[:, 4:].copy()

    def _tags(self, c: Any, ids: list[Any]) -> list[tuple[Any, list[str] | None]]:
        return c.execute(
            self._sql("select id, tags from {table} where id = any(%s)"), [ids]
        ).fetchall()

    def _nearest(
        self, c: Any, layout: Layout, queries: Packed, k: int
    ) -> list[list[tuple[int, Any]]]:
        exactly = self._sql(
            "select bit_count(code # %s::bit({n_bits})) as distance, id from {table} "
            "order by distance, place limit %s",
            n_bits=layout.n_bits,
        )
        if self.exact or k > self.ef_search:
            return [c.execute(exactly, [q, k]).fetchall() for q in _literals(queries, layout)]
        approximately = self._sql(
            "select distance::bigint, id from ("
            "select code <~> %s::bit({n_bits}) as distance, id, place from {table} "
            "order by code <~> %s::bit({n_bits}) limit %s"
            ") as candidates order by distance, place limit %s",
            n_bits=layout.n_bits,
        )
        c.execute(
            "select set_config('hnsw.ef_search', %s, true), "
            "set_config('hnsw.iterative_scan', 'strict_order', true), "
            "set_config('enable_seqscan', 'off', true)",
            [str(self.ef_search)],
        )
        found = []
        for q in _literals(queries, layout):
            rows = c.execute(approximately, [q, q, self.ef_search, k]).fetchall()
            if len(rows) < k:  # the index missed some, or the table has no more
                rows = c.execute(exactly, [q, k]).fetchall()
            found.append(rows)
        return found

    def _within(
        self, c: Any, layout: Layout, queries: Packed, radius: int
    ) -> list[list[tuple[int, Any]]]:
        query = self._sql(
            "select distance, id from ("
            "select bit_count(code # %s::bit({n_bits})) as distance, id, place from {table}"
            ") as all_codes where distance <= %s order by place",
            n_bits=layout.n_bits,
        )
        return [c.execute(query, [q, radius]).fetchall() for q in _literals(queries, layout)]


def _literals(queries: Packed, layout: Layout) -> Iterator[str]:
    """Codes as text for the server: 0 and 1, the first bit first."""
    for bits in unpack(queries, layout.n_bits):
        yield (bits + ord("0")).tobytes().decode()


def _row(id: int | str, code: Packed, tags: list[str] | None, n_bits: int) -> bytes:
    """A row in the format of binary COPY.

    A bit string is its length in bits, followed by its bytes, with the first bit the most
    significant. Packed codes have the same order.
    """
    name = id.encode() if isinstance(id, str) else struct.pack("!q", id)
    fields = [name, struct.pack("!i", n_bits) + code.tobytes()]
    row = struct.pack("!h", 3) + b"".join(struct.pack("!i", len(f)) + f for f in fields)
    if tags is None:
        return row + struct.pack("!i", -1)  # null
    texts = [tag.encode() for tag in tags]
    # Dimensions (one, or none if it is empty), no nulls, the type, the length, the first index.
    head = struct.pack("!iiI", bool(texts), 0, _OID_OF_TEXT)
    head += struct.pack("!ii", len(texts), 1) if texts else b""
    array = head + b"".join(struct.pack("!i", len(text)) + text for text in texts)
    return row + struct.pack("!i", len(array)) + array


_OID_OF_TEXT = 25


def _parse(conninfo: str) -> dict[str, Any]:
    """Parse a connection string. It may contain a password, so no message repeats it."""
    if not isinstance(conninfo, str):
        raise TypeError(f"conninfo must be a str, got {type(conninfo).__name__}.")
    psycopg = _load_psycopg()
    try:
        place = psycopg.conninfo.conninfo_to_dict(conninfo)
    except (psycopg.Error, UnicodeError):
        place = None
    # In a URL, a part of a password that has a "/" can seem to be the port.
    if place is None or place.get("port", "").strip("0123456789, "):
        raise ValueError(
            "conninfo must be a connection string of libpq, such as "
            "postgresql://user@host:5432/database; characters like @, / and % in a part of a URL "
            "must be written as %40, %2F, %25."
        )
    return place


def _said(error: Exception) -> str:
    """An error of the server or of libpq in one line."""
    return " ".join(str(error).split()).rstrip(".")


def _load_psycopg() -> Any:
    try:
        import psycopg
        import psycopg.sql
    except ImportError as error:
        raise ImportError(
            f'PostgresStore needs psycopg ({error}): pip install "scikit-hash[postgres]".'
        ) from error
    return psycopg

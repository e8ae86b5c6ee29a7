"""Stores in databases: the contract, exactness, faults, and credentials, with real servers."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
from copy import deepcopy

import numpy as np
import pytest
from _postgres import Cable
from _stores import check_store
from _threads import in_threads
from numpy.testing import assert_array_equal
from sklearn.base import clone

import skhash
from skhash import HammingNeighbors
from skhash.codes import hamming_distances, pack
from skhash.neighbors import DuckDBStore, MemoryStore, PostgresStore, open_store
from skhash.neighbors._urls import holds_password

PASSWORD = "tr0ub4dor"
KINDS = ["postgres", "duckdb"]


def names(n, start=0):
    return np.array([f"{i}.jpg" for i in range(start, start + n)], dtype=object)


def clustered(n, n_bits=32, seed=0):
    """Codes near few others, as those of real photos are."""
    rng = np.random.default_rng(seed)
    centers = rng.integers(0, 2, (20, n_bits))
    return pack(centers[rng.integers(0, 20, n)] ^ (rng.random((n, n_bits)) < 0.08))


def nearest(queries, packed, k):
    distances = hamming_distances(queries, packed)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind, make_store):
    check_store(lambda: make_store(kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bits", [1, 8, 63, 64, 65, 200])
def test_lengths(kind, n_bits, make_store):
    rng = np.random.default_rng(n_bits)
    packed = pack(rng.integers(0, 2, (50, n_bits)))
    store = make_store(kind, table='Tab"le; drop -- é')
    store.replace(None, packed, n_bits)
    assert store.n_bits == n_bits
    assert_array_equal(store.codes(), packed)
    for found, expected in zip(
        store.kneighbors(packed[:7], 20), nearest(packed[:7], packed, 20), strict=True
    ):
        assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_found_again(kind, make_store):
    store = make_store(kind, version="model 1")
    store.add(names(20), clustered(20), 32)
    for again in (deepcopy(store), None):
        if again is None:  # DuckDB's file is open in one process, but for its own connections
            state = pickle.dumps(store)
            if kind == "duckdb":
                store.close()
            again = pickle.loads(state)
        assert again.ids().tolist() == names(20).tolist()
        assert again.version == "model 1"
        again.close()


@pytest.mark.parametrize("kind", KINDS)
def test_tags(kind, make_store):
    store = make_store(kind)
    tags = [["sun", "été"], [], ['a "quoted", {one}', "NULL"]]
    store.add(names(3), clustered(3), 32, tags=tags)
    store.add(names(2, 3), clustered(2), 32)
    assert store.tags(["2.jpg", "0.jpg", "1.jpg", "4.jpg"]) == [tags[2], tags[0], [], []]
    with pytest.raises(ValueError, match=r"'9.jpg' are not in"):
        store.tags(["9.jpg"])
    for wrong in ("abc", ["a", "b", "c"], [["a"]] * 2, [[1]] * 3):
        with pytest.raises((ValueError, TypeError), match="tags"):
            store.add(names(3, 5), clustered(3), 32, tags=wrong)
    assert len(store) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input(kind, make_store):
    store = make_store(kind)
    store.add(["a", "b"], clustered(2), 32)
    for use, message in (
        (lambda: store.add(["c", "c"], clustered(2), 32), "'c' occur more than once"),
        (lambda: store.add(["c"], clustered(2), 32), "ids has 1 entries"),
        (lambda: store.add(["c", "d"], clustered(2), 40), r"shape \(n, 5\) for 40 bits"),
        (lambda: store.add(["c", "d"], clustered(2).astype(int), 32), "got int64"),
        (lambda: store.remove(["a", "a"]), "'a' occur more than once"),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    assert store.ids().tolist() == ["a", "b"]


@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_adds_to_what_a_store_holds(kind, make_store):
    codes = np.random.default_rng(0).integers(0, 2, (30, 16))
    store = make_store(kind)
    HammingNeighbors(backend=store).partial_fit(codes[:20], ids=names(20))
    index = HammingNeighbors(3, backend=store).partial_fit(codes[20:], ids=names(10, 20))
    assert_array_equal(index.ids_, names(30))
    assert_array_equal(index.predict(codes[:5])[:, 0], names(5))
    assert index.exact_


@pytest.mark.parametrize("kind", KINDS)
def test_other_versions_and_lengths_are_refused(kind, make_store):
    store = make_store(kind, version="model 1")
    store.add(names(20), clustered(20), 32)
    other = deepcopy(store)
    other.version = "model 2"
    for use in (
        lambda: other.add(names(2, 20), clustered(2), 32),
        lambda: other.kneighbors(clustered(2), 1),
        lambda: HammingNeighbors.from_store(other),
    ):
        with pytest.raises(ValueError, match=r"version 'model 1', not 'model 2'.*table"):
            use()
    with pytest.raises(ValueError, match=r"queries have 2 bytes.* 32 bits"):
        store.kneighbors(clustered(2, 16), 1)
    with pytest.raises(ValueError, match="store has codes of 32 bits, but n_bits=16"):
        HammingNeighbors.from_store(store, n_bits=16)
    with pytest.raises(ValueError, match="20 codes, fewer than the 21"):
        store.kneighbors(clustered(2), 21)
    assert_array_equal(store.codes(), clustered(20))
    other.replace(None, clustered(3), 32)  # a new table, of the new version
    assert len(other) == 3
    with pytest.raises(ValueError, match="version 'model 2'"):
        len(store)
    other.close()


@pytest.mark.parametrize("kind", KINDS)
def test_searches_see_a_change_wholly_or_not_at_all(kind, make_store):
    store = make_store(kind)
    store.add(np.arange(100), clustered(100), 32)

    def change():
        for i in range(1, 9):
            store.replace(np.arange(1000 * i, 1000 * i + 100), clustered(100), 32)

    def search():
        for _ in range(20):
            _, found = store.kneighbors(clustered(3), 100)
            assert len(set(found.ravel() // 1000)) == 1

    in_threads(change, search, search)
    assert store.ids().tolist() == list(range(8000, 8100))


@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_are_not_unicode_are_named(kind, make_store):
    store = make_store(kind)
    store.add(["a", "b"], clustered(2), 32)
    for use, message in (
        (lambda: store.add(["c", "\udc80"], clustered(2), 32), r"ids\[1\] is .*rename"),
        (lambda: store.remove(["\udc80"]), r"ids\[0\] is"),
        (lambda: store.tags(["\udc80"]), r"ids\[0\] is"),
        (lambda: store.add(["c"], clustered(1), 32, tags=[["\udc80"]]), r"tags\[0\] is"),
        (lambda: make_store(kind, table="\udc80"), "table is"),
        (lambda: make_store(kind, table="a\0b"), "table must have characters"),
        (lambda: make_store(kind, version="\udc80"), "version is"),
        (lambda: make_store(kind, version=""), "version must have characters"),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    assert store.ids().tolist() == ["a", "b"]


@pytest.mark.parametrize("kind", [*KINDS, "memory"])
def test_no_number_follows_the_largest(kind, make_store):
    store = MemoryStore() if kind == "memory" else make_store(kind)
    store.add(np.array([2**63 - 2, 5]), clustered(2), 32)
    with pytest.raises(ValueError, match="ids must be given: no number follows"):
        store.add(None, clustered(1), 32)
    assert store.ids().tolist() == [2**63 - 2, 5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", KINDS)
def test_forked_processes_do_not_disturb_their_parent(kind, make_store, capfd):
    packed = clustered(2000)
    store = make_store(kind)
    store.add(np.arange(2000), packed, 32)
    expected = store.kneighbors(packed[:1], 5)[1]

    def search():
        for _ in range(30):
            assert_array_equal(store.kneighbors(packed[:1], 5)[1], expected)

    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            status = 1
            try:
                signal.alarm(30)
                if kind == "duckdb":  # the file has one process
                    with pytest.raises(RuntimeError, match=r"only one process.*spawn"):
                        store.add(None, packed[:1], 32)
                    with pytest.raises(RuntimeError, match="only one process"):
                        deepcopy(store)
                else:
                    search()
                    store.close()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    search()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    search()
    assert len(store) == 2000


# PostgreSQL


def test_a_table_that_another_process_replaces_during_a_search_does_not_seem_empty(make_store):
    store = make_store("postgres")
    store.add(names(5), clustered(5), 32)
    other = deepcopy(store)
    replacing = threading.Thread(target=store.replace, args=(names(7), clustered(7), 32))

    def replaced_after(c):
        layout = PostgresStore._read_layout(other, c)
        replacing.start()
        replacing.join(0.5)  # it waits until the search ends
        return layout

    other._read_layout = replaced_after
    found = other.radius_neighbors(clustered(1), 32)[2]
    del other._read_layout
    replacing.join()
    assert_array_equal(found, names(5))
    assert_array_equal(other.radius_neighbors(clustered(1), 32)[2], names(7))
    other.close()


def test_tables_with_long_names_are_not_confused(make_store):
    name = "é" * 31
    with pytest.raises(ValueError, match="table must have at most 63 bytes"):
        make_store("postgres", table=name + "ab")
    make_store("postgres", table=name + "a").add(names(5), clustered(5), 32)
    assert make_store("postgres", table=name).n_bits is None


def test_exact_is_exact_beside_an_index(server, make_store):
    packed = clustered(3000)
    approximate = make_store("postgres", search="hnsw")
    approximate.add(None, packed, 32)
    # What tempts the server to use the index, which then finds one code.
    settings = f"{server.uri}&options=-c%20enable_seqscan%3Doff%20-c%20hnsw.ef_search%3D1"
    queries = clustered(20, seed=1)
    expected = nearest(queries, packed, 10)
    with PostgresStore(settings, table=approximate.table) as store:
        assert store.exact
        for found, wanted in zip(store.kneighbors(queries, 10), expected, strict=True):
            assert_array_equal(found, wanted)
        indptr, distances, ids = store.radius_neighbors(queries, 4)
        all_distances = hamming_distances(queries, packed)
        rows, columns = np.nonzero(all_distances <= 4)
        assert_array_equal(indptr, np.searchsorted(rows, np.arange(21)))
        assert_array_equal(ids, columns)
        assert_array_equal(distances, all_distances[rows, columns])
        with store._reading() as c:  # sorted by the index's own operator
            found = c.execute(
                store._sql(
                    "select id from {table} order by code <~> %s::bit({n_bits}), place limit 10",
                    n_bits=32,
                ),
                ["".join(map(str, np.unpackbits(queries[0])))],
            ).fetchall()
        assert [i for (i,) in found] != expected[1][0].tolist()


def test_hnsw(make_store):
    packed = clustered(3000)
    store = make_store("postgres", search="hnsw", ef_search=100)
    store.add(None, packed[:2000], 32)
    store.add(None, packed[2000:], 32)
    store.remove(np.arange(0, 3000, 7))
    kept = np.setdiff1d(np.arange(3000), np.arange(0, 3000, 7))
    queries = clustered(20, seed=1)
    expected = nearest(queries, packed[kept], 10)[0]
    distances, ids = store.kneighbors(queries, 10)
    true = np.take_along_axis(hamming_distances(queries, packed), ids, axis=1)
    assert_array_equal(distances, true)
    assert set(ids.ravel()) <= set(kept)
    assert (distances <= expected[:, -1:]).mean() > 0.9
    order = np.lexsort((ids, distances))  # ids are in the order of the table
    assert_array_equal(np.take_along_axis(ids, order, axis=1), ids)
    # More than the index is asked for, and all: exactly.
    assert_array_equal(store.kneighbors(queries, 101)[0], nearest(queries, packed[kept], 101)[0])
    index = HammingNeighbors.from_store(store)
    assert not index.exact_
    assert len(store.kneighbors(queries, len(kept))[1][0]) == len(kept)
    with PostgresStore(_uri(store), table=store.table) as exact:
        exact.remove(kept[50:])
    assert sorted(store.kneighbors(queries[:1], 50)[1][0]) == kept[:50].tolist()


def _uri(store):
    return " ".join(f"{name}='{value}'" for name, value in store._conninfo.items())


def test_an_index_is_made_for_a_table_that_has_none(make_store):
    store = make_store("postgres")
    store.add(None, clustered(100), 32)
    for _ in range(2):
        with PostgresStore(_uri(store), table=store.table, search="hnsw") as indexed:
            assert len(indexed.kneighbors(clustered(2), 5)[1]) == 2
    with store._reading() as c:
        found = c.execute(
            "select indexdef from pg_indexes where tablename = %s", [store.table]
        ).fetchall()
    assert sum("bit_hamming_ops" in text for (text,) in found) == 1


def test_processes_that_add_at_the_same_time(make_store):
    stores = [make_store("postgres", table="shared") for _ in range(3)]

    def add(store):
        for _ in range(5):
            store.add(None, clustered(40), 32)

    in_threads(*(lambda store=store: add(store) for store in stores))
    assert stores[0].ids().tolist() == list(range(600))


def _dies(code, *args):
    """Run a program that kills itself."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -9, done.stderr


def test_a_load_that_is_killed_leaves_the_table(server, make_store):
    store = make_store("postgres")
    store.add(names(500), clustered(500), 32)
    _dies(
        """
import os, sys
import numpy as np, psycopg
from skhash.neighbors import PostgresStore, _postgres
_postgres._ROWS = 100
write, n = psycopg.Copy.write, 0
def write_some(self, data):
    global n
    n += 1
    write(self, data)
    if n == 5:
        self.connection.pgconn.flush()
        os.kill(os.getpid(), 9)
psycopg.Copy.write = write_some
store = PostgresStore(sys.argv[1], table=sys.argv[2])
getattr(store, sys.argv[3])(np.arange(1000), np.zeros((1000, 4), np.uint8), 32)
""",
        server.uri,
        store.table,
        "replace",
    )
    assert_array_equal(store.ids(), names(500))
    assert_array_equal(store.codes(), clustered(500))
    store.add(names(5, 500), clustered(5), 32)  # and nothing is locked


@pytest.mark.parametrize("change", ["add", "replace"])
def test_a_network_that_is_cut_during_a_load(change, server, make_store):
    store = make_store("postgres")
    store.add(names(500), clustered(500), 32)
    with Cable(server.socket) as cable:
        remote = PostgresStore(
            f"postgresql://postgres@127.0.0.1:{cable.port}/postgres", table=store.table
        )
        assert len(remote) == 500
        cable.left = 100_000
        with pytest.raises(ConnectionError, match=r"PostgresStore\('host=127.*completely or not"):
            getattr(remote, change)(names(20_000, 500), clustered(20_000), 32)
        assert_array_equal(store.ids(), names(500))
        cable.left = np.inf
        assert len(remote) == 500  # connected again
        remote.add(names(20_000, 500), clustered(20_000), 32)
        assert len(store) == 20_500
        remote.close()


def test_a_network_that_is_cut_during_a_search(server, make_store):
    store = make_store("postgres")
    store.add(names(50), clustered(50), 32)
    with Cable(server.socket) as cable:
        remote = PostgresStore(
            f"postgresql://postgres@127.0.0.1:{cable.port}/postgres", table=store.table
        )
        index = HammingNeighbors.from_store(remote, packed=True)
        expected = index.kneighbors(clustered(3), return_ids=True)
        cable.left = 300
        with pytest.raises(ConnectionError, match=r"connection was lost.*connects again"):
            index.kneighbors(clustered(300), return_ids=True)
        cable.left = np.inf
        for found, wanted in zip(
            index.kneighbors(clustered(3), return_ids=True), expected, strict=True
        ):
            assert_array_equal(found, wanted)
        remote.close()


def test_a_full_disk_of_the_server(make_store):
    store = make_store("postgres", table="full")
    store.add(names(500), clustered(500), 32)
    with store._changing() as c:
        # What the server says when a file cannot grow.
        c.execute(
            "create function no_room() returns trigger language plpgsql as $$ begin "
            "if new.id = '900.jpg' then raise exception using "
            "errcode = 'disk_full', message = 'could not extend file'; end if; "
            "return new; end $$"
        )
        c.execute(
            'create trigger t before insert on "full" for each row execute function no_room()'
        )
    with pytest.raises(OSError, match=r"PostgresStore.*could not extend.*Free some space"):
        store.add(names(1000, 500), clustered(1000), 32)
    assert_array_equal(store.ids(), names(500))
    store.add(names(10, 500), clustered(10), 32)


def test_rights_and_values_that_the_server_refuses(server, make_store):
    store = make_store("postgres")
    store.add(names(5), clustered(5), 32)
    with PostgresStore(
        f"host={server.host} user=guarded password={PASSWORD} dbname=postgres", table="new"
    ) as guest:
        with pytest.raises(PermissionError, match="owner"):
            guest.add(names(5), clustered(5), 32)
        guest.table = store.table
        with pytest.raises(PermissionError, match="owner"):
            guest.kneighbors(clustered(1), 1)
    with pytest.raises(ValueError, match="does not accept this value"):
        store.add(np.array(["a\0b"], dtype=object), clustered(1), 32)
    assert len(store) == 5


def test_a_server_that_is_not_there():
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/photos"
    with pytest.raises(ConnectionError, match=r"port=\d+, dbname=photos.*cannot connect") as info:
        PostgresStore(url)
    assert "server runs" in str(info.value)
    assert PASSWORD not in "".join(traceback.format_exception(info.value))


def test_passwords(server, monkeypatch, tmp_path):
    place = f"host={server.host} user=guarded dbname=postgres"
    wrong = PASSWORD[::-1]
    with pytest.raises(ConnectionError, match="PGPASSWORD") as info:
        PostgresStore(f"{place} password={wrong}")
    assert wrong not in "".join(traceback.format_exception(info.value))

    store = PostgresStore(f"{place} password={PASSWORD}")
    index = HammingNeighbors(backend=store)
    seen = [repr(store), str(store), repr(index), str(index.get_params()), repr(clone(index))]
    assert not any(PASSWORD in text for text in seen)
    assert "guarded" not in repr(store)
    state = pickle.dumps(index)
    assert PASSWORD.encode() not in state
    assert deepcopy(store).n_bits is None  # which keeps the password
    with pytest.raises(ConnectionError):
        pickle.loads(state)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert pickle.loads(state).backend.n_bits is None
    for path in (tmp_path / "saved", tmp_path / "folder"):
        with pytest.raises((TypeError, ValueError)):
            skhash.save(index, path)
        assert not path.exists()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@localhost/photos",
        "postgresql://localhost/photos?password=s3cret",
        "postgresql://localhost/photos?sslpassword=s3cret",
        "mysql://me:s3cret@localhost/photos",
        # Characters that should be escaped, of which libpq accepts some.
        "postgresql://me:#s3cret@localhost/photos",
        "postgresql://me:?s3cret@localhost/photos",
        "postgresql://me#1:s3cret@localhost/photos",
        "postgresql://me:/s3cret@localhost/photos",
        "postgresql://me:@s3cret@localhost/photos",
        "postgresql://me:s3cret/1@localhost/photos",
        "postgresql://me:[s3cret]@localhost/photos",
        "postgresql://me:\u2100s3cret@localhost/photos",
    ],
)
def test_parameters_hold_no_passwords(url):
    with pytest.raises(ValueError, match="must not contain a password") as info:
        HammingNeighbors(backend=url).fit([[0, 1]])
    assert "s3cret" not in "".join(traceback.format_exception(info.value))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@localhost:5432/photos",
        "postgresql://localhost:5432/photos?application_name=me@home",
        "duckdb:///C:/me@home/photos",
    ],
)
def test_urls_without_passwords_are_no_secrets(url):
    assert not holds_password(url)


def test_malformed_places_are_not_repeated():
    pytest.importorskip("psycopg")
    for url in ("postgresql://me:[s3cret]@host/db", "postgresql://me:\u2100s3cret@host/db"):
        with pytest.raises(ValueError, match="url cannot be parsed") as info:
            open_store(url)
        assert "s3cret" not in "".join(traceback.format_exception(info.value))
    for conninfo in (
        "postgresql://me:s3cret%zz@host/db",
        "postgresql://me:s3cret/1@host/db",
        "host=h password='s3cret",
        "a s3cret",
    ):
        with pytest.raises(ValueError, match="conninfo must be a connection string") as info:
            PostgresStore(conninfo)
        assert "s3cret" not in "".join(traceback.format_exception(info.value))


def test_a_table_of_something_else(server, tmp_path):
    psycopg = pytest.importorskip("psycopg")
    duckdb = pytest.importorskip("duckdb")
    with psycopg.connect(server.uri) as connection:
        connection.execute("create table users (id bigint, name text)")
    with duckdb.connect(tmp_path / "file") as connection:
        connection.execute("create table users (id bigint, name text)")
    for make in (
        lambda: PostgresStore(server.uri, table="users"),
        lambda: DuckDBStore(tmp_path / "file", table="users"),
    ):
        with pytest.raises(ValueError, match="not made by skhash"):
            make()


@pytest.mark.parametrize(
    "options",
    [{"search": "fast"}, {"ef_search": 0}, {"ef_search": 1001}, {"ef_search": "9"}, {"table": ""}],
)
def test_bad_parameters(options):
    pytest.importorskip("psycopg")
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        PostgresStore("", **options)


# DuckDB


def test_duckdb_tables_of_names_that_differ_only_in_case_are_the_same(tmp_path):
    pytest.importorskip("duckdb")
    with DuckDBStore(tmp_path / "file", table="codes É") as store:
        store.add(names(5), clustered(5), 32)
        with DuckDBStore(tmp_path / "file", table="CODES É") as same:
            assert same.n_bits == 32
            same.add(names(2, 5), clustered(2), 32)
        with DuckDBStore(tmp_path / "file", table="codes é") as other:
            assert other.n_bits is None
            other.add(None, clustered(2), 32)
        assert_array_equal(store.ids(), names(7))


def test_duckdb_file_is_found_from_another_folder(tmp_path, monkeypatch):
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    store = DuckDBStore("file")
    store.add(names(5), clustered(5), 32)
    state = pickle.dumps(store)
    store.close()
    with pytest.raises(ValueError, match="is closed"):
        deepcopy(store)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pickle.loads(state) as again:
        assert_array_equal(again.ids(), names(5))
    assert not os.listdir()


@pytest.mark.parametrize("path", ["", "a\0b", "\udc80"])
def test_duckdb_paths_that_cannot_be(path, tmp_path, monkeypatch):
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="path "):
        DuckDBStore(path)
    assert not os.listdir()


@pytest.mark.slow
def test_duckdb_file_is_closed_for_others(make_store, tmp_path):
    store = make_store("duckdb")
    store.add(names(5), clustered(5), 32)
    read = (
        "import sys; from skhash.neighbors import DuckDBStore\n"
        "try: print(len(DuckDBStore(sys.argv[1])))\n"
        "except OSError as error: print('another process has the file open' in str(error))"
    )
    for expected in ("True", "5"):
        done = subprocess.run(
            [sys.executable, "-c", read, store.path], capture_output=True, text=True, timeout=120
        )
        assert done.stdout.strip() == expected, done.stderr
        store.close()
    with pytest.raises(ValueError, match="is closed"):
        store.ids()


_DUCKDB_CHANGE = """
import os, resource, signal, sys
import numpy as np
from skhash.neighbors import DuckDBStore
rng = np.random.default_rng(0)
with DuckDBStore(sys.argv[1]) as store:
    if sys.argv[2] == "killed":
        append = DuckDBStore._append
        def append_and_die(self, *args):
            append(self, *args)
            os.kill(os.getpid(), 9)
        DuckDBStore._append = append_and_die
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    try:
        store.add(None, rng.integers(0, 256, (500_000, 32), dtype=np.uint8), 256)
    except OSError as error:
        print(error)
        os._exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "full"])
def test_duckdb_faults(fault, make_store):
    pytest.importorskip("resource")
    store = make_store("duckdb")
    packed = clustered(100, 256)
    store.add(None, packed, 256)
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", _DUCKDB_CHANGE, store.path, fault],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == {"killed": -9, "full": 3}[fault], done.stderr
    if fault == "full":
        assert "DuckDBStore" in done.stdout
        assert "disk is full" in done.stdout
    with DuckDBStore(store.path) as again:
        assert_array_equal(again.codes(), packed)
        again.add(None, packed, 256)
        assert len(again) == 200


def test_parquet(make_store, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    packed = clustered(1000, 20)
    codes = pa.array([code.tobytes() for code in packed], pa.binary())
    pq.write_table(pa.table({"name": list(names(1000)), "my code": codes}), tmp_path / "codes.pq")
    store = make_store("duckdb")
    store.add_parquet(tmp_path / "codes.pq", id="name", code="my code", n_bits=20)
    assert store.n_bits == 20
    assert_array_equal(store.ids(), names(1000))
    assert_array_equal(store.codes(), packed)
    for options, error in (
        ({"id": "name", "code": "my code", "n_bits": 20}, ValueError),  # ids are there already
        ({"id": "name", "code": "my code", "n_bits": 40}, ValueError),
        ({"id": "name", "code": "name"}, TypeError),
        ({"id": "missing", "code": "my code"}, (ValueError, RuntimeError)),
    ):
        with pytest.raises(error):
            store.add_parquet(tmp_path / "codes.pq", **options)
    with pytest.raises(OSError, match="nowhere"):
        store.add_parquet(tmp_path / "nowhere.pq")
    assert len(store) == 1000
    numbered = make_store("duckdb")
    numbered.add_parquet(tmp_path / "codes.pq", id=None, code="my code")
    assert numbered.ids().tolist() == list(range(1000))
    assert numbered.n_bits == 24


# URLs


def test_urls(server, tmp_path):
    pytest.importorskip("duckdb")
    codes = np.random.default_rng(0).integers(0, 2, (20, 16))
    urls = [
        f"duckdb:///{tmp_path}/a file.duckdb?table=the%20codes",
        f"{server.uri}&table=the%20codes&version=2",
    ]
    for url in urls:
        index = HammingNeighbors(3, backend=url).fit(codes, ids=names(20))
        assert_array_equal(index.predict(codes)[:, 0], names(20))
        assert index.backend_.table == "the codes"
        index.backend_.close()
        again = HammingNeighbors.from_store(url)
        assert_array_equal(again.ids_, names(20))
        again.backend_.close()
        with pytest.raises(TypeError, match=r"Store, which keeps them itself"):
            index.save(tmp_path / "saved")
    with open_store(urls[1] + "&search=hnsw&ef_search=50") as store:
        assert (store.search, store.ef_search, store.version) == ("hnsw", 50, "2")
    for url, message in (
        ("duckdb://host/file", "url must begin with"),
        ("duckdb:file", "url must begin with"),
        ("mysql://host/photos", "url must begin with"),
        ("duckdb:///file?search=hnsw", "no parameter 'search'"),
        ("duckdb:///file?table=a&table=b", "'table' more than once"),
        ("duckdb:///file#1", "%23"),
        ("postgresql://host/photos?ef_search=many", "ef_search must be a number"),
    ):
        with pytest.raises(ValueError, match=message):
            open_store(url)


@pytest.mark.parametrize("package", ["duckdb", "psycopg"])
def test_missing_packages(package, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install .scikit-hash\["):
        open_store({"duckdb": "duckdb:///x", "psycopg": "postgresql://localhost/x"}[package])
    assert not os.listdir(tmp_path)

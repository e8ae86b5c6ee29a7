"""HammingNeighbors that grow and shrink: ids, histories, threads, stores, and their files."""

import os
import pickle
import subprocess
import sys
import threading
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
from _stores import SQLiteStore, check_store
from _strategies import explore, with_effort
from _threads import in_threads
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from test_neighbors import (
    BACKENDS,
    among_others,
    brute_distances,
    brute_kneighbors,
    make_codes,
)

import skhash
from skhash import ITQ, HammingNeighbors
from skhash.codes import pack
from skhash.neighbors import MemoryStore, _files, _saving

NAMES = [f"{i:03}.jpg" for i in range(100)]


class Model:
    """The same history in lists."""

    def __init__(self, n_bits):
        self.codes, self.ids, self.next = np.empty((0, n_bits), np.uint8), [], 0

    def add(self, codes, ids):
        self.codes = np.concatenate([self.codes, codes])
        if ids is None:
            ids = list(range(self.next, self.next + len(codes)))
        self.ids += ids
        if isinstance(ids[0], int):
            self.next = max(self.next, max(ids) + 1)

    def remove(self, ids):
        left = [i for i, name in enumerate(self.ids) if name not in set(ids)]
        self.codes, self.ids = self.codes[left], [self.ids[i] for i in left]


def check_same(index, model):
    """The index answers as brute force does on what the model has, in every way to ask."""
    codes, ids, n = model.codes, model.ids, len(model.ids)
    assert index.n_samples_fit_ == n
    assert index.ids_.tolist() == ids
    assert_array_equal(index.packed_codes_, pack(codes))
    assert_array_equal(index.positions(ids[::-1]), np.arange(n)[::-1])
    queries = np.concatenate([make_codes(3, codes.shape[1], seed=9), codes[:2]])
    if n < 2:
        return
    names = np.array(ids, dtype=object)
    for X, distances in (
        (queries, brute_distances(queries, codes)),
        (None, among_others(brute_distances(codes, codes))),
    ):
        for k in {1, n // 2, n - 1}:
            expected_distances, expected = brute_kneighbors(distances, k)
            for return_ids, wanted in ((False, expected), (True, names[expected])):
                found = index.kneighbors(X, k, return_ids=return_ids)
                assert_array_equal(found[0], expected_distances)
                assert_array_equal(found[1], wanted)
            graph = index.kneighbors_graph(X, k, mode="distance")
            assert_array_equal(graph.indices.reshape(-1, k), expected)
        for radius in (0, 2, codes.shape[1]):
            found_distances, found = index.radius_neighbors(X, radius)
            found_ids = index.radius_neighbors(X, radius, return_distance=False, return_ids=True)
            graph = index.radius_neighbors_graph(X, radius, mode="distance")
            for i, row in enumerate(distances):
                near = np.flatnonzero(row <= radius)
                assert_array_equal(found[i], near)
                assert_array_equal(found_distances[i], row[near])
                assert_array_equal(found_ids[i], names[near])
                assert_array_equal(graph[[i]].indices, near)
    assert_array_equal(index.predict(queries, n_neighbors=1), index.ids_[index.kneighbors(
        queries, 1, return_distance=False
    )])  # fmt: skip


@st.composite
def histories(draw):
    """Additions, removals, searches, and saves, with ids of a kind."""
    kind = draw(st.sampled_from(["rows", "str", "int", "ascending"]))
    fresh = iter(range(10_000))
    step = st.sampled_from(["add", "add", "remove", "search", "file", "folder", "map", "pickle"])
    steps = []
    for _ in range(draw(st.integers(1, 12))):
        what = draw(step) if steps else "add"
        if what == "add":
            n = draw(st.integers(1, 9))
            ids = [next(fresh) for _ in range(n)]
            if kind == "str":
                ids = [f"{i} \udc80é\0" for i in ids]
            elif kind == "int":
                ids = [i * (-1) ** i for i in draw(st.permutations(ids))]
            elif kind == "ascending":
                ids = [3 * i for i in ids]
            use = kind != "rows" and not (kind != "str" and draw(st.integers(0, 4)) == 0)
            steps.append((what, n, ids if use else None))
        else:
            steps.append((what, draw(st.integers(0, 2**32 - 1)), None))
    return draw(st.sampled_from([3, 13, 64])), steps


@with_effort
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_history_answers_as_brute_force_on_what_is_left(backend, effort, tmp_path):
    counter = iter(range(10**6))

    @explore(20 * effort, history=histories())
    def check(history):
        n_bits, steps = history
        index, model = HammingNeighbors(1, backend=backend), Model(n_bits)
        folder = tmp_path / f"folder{next(counter)}"
        removed = []
        for what, number, ids in steps:
            if what == "add":
                codes = make_codes(number, n_bits, seed=len(model.ids))
                if ids is not None:
                    # Some come back that were removed.
                    ids = [*removed[: number // 2], *ids][:number]
                    ids = ids if not set(ids) & set(model.ids) else ids[::-1]
                    if set(ids) & set(model.ids) or len(set(ids)) < len(ids):
                        continue
                index.partial_fit(codes, ids=ids)
                model.add(codes, ids)
            elif what == "remove":
                rng = np.random.default_rng(number)
                removed = [model.ids[i] for i in rng.permutation(len(model.ids))]
                removed = removed[: rng.integers(0, len(removed) + 1)]
                index.remove(removed)
                model.remove(removed)
            elif what == "pickle":
                index = pickle.loads(pickle.dumps(index))
            elif what == "search":
                check_same(index, model)
            elif what == "file":
                index.save(folder.with_suffix(".one"))
                index = HammingNeighbors.load(folder.with_suffix(".one"))
            else:
                index.save(folder, incremental=True)
                mode = "r" if what == "map" else None
                again = HammingNeighbors.load(folder, mmap_mode=mode)
                check_same(again, model)
                index = again if number % 2 else index
        check_same(index, model)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_steps_end_where_one_fit_begins(backend):
    codes = make_codes(3000, 64)
    rng = np.random.default_rng(0)
    grown = HammingNeighbors(7, backend=backend)
    for start in range(0, 3000, 30):
        grown.partial_fit(codes[start : start + 30])
    removed = rng.permutation(3000)[:1000]
    for start in range(0, 1000, 10):
        grown.remove(removed[start : start + 10])
    left = np.setdiff1d(np.arange(3000), removed)
    fresh = HammingNeighbors(7, backend=backend).fit(codes[left])
    assert_array_equal(grown.ids_, left)
    assert_array_equal(grown.kneighbors(codes[:50]), fresh.kneighbors(codes[:50]))
    grown.partial_fit(codes[:2])
    assert grown.ids_[-2:].tolist() == [3000, 3001]


# Ids


def test_ids_are_row_numbers_that_go_on():
    index = HammingNeighbors().fit(make_codes(4, 8))
    assert index.ids_.tolist() == [0, 1, 2, 3]
    index.remove([3]).partial_fit(make_codes(2, 8))
    assert index.ids_.tolist() == [0, 1, 2, 4, 5]  # 3 is not used again
    index.partial_fit(make_codes(2, 8), ids=[3, 90]).partial_fit(make_codes(1, 8))
    assert index.ids_.tolist() == [0, 1, 2, 4, 5, 3, 90, 91]
    assert index.ids_.dtype == np.int64


def test_paths_are_ids_of_str(tmp_path):
    index = HammingNeighbors().fit(make_codes(2, 8), ids=[tmp_path / "a", tmp_path / "b"])
    assert index.ids_.tolist() == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert index.positions([tmp_path / "b", "c"]).tolist() == [1, -1]


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (["a", "b"], ValueError, "ids has 2 entries, but X has 3 rows"),
        (["a", "b", "a"], ValueError, "ids must differ, but 'a' occur"),
        ([1, 2, 1], ValueError, "ids must differ, but 1 occur"),
        ([1, "a", 2], TypeError, "ids must be all int or all str, got int, str"),
        ([1.0, 2.0, 3.0], TypeError, "all int or all str, got float"),
        ([True, False, 2], TypeError, "all int or all str, got bool"),
        ([None, "a", "b"], TypeError, "all int or all str"),
        ([2**64, 1, 2], ValueError, "ids must fit in 64 bits"),
        (np.array([2**63, 1, 2], np.uint64), ValueError, "ids must fit in 64 bits"),
        ("abc", TypeError, "ids must be a sequence"),
        (np.ones((3, 1), int), TypeError, "ids must be a sequence"),
        (3, TypeError, "ids must be a sequence"),
    ],
)
def test_bad_ids_are_named_and_change_nothing(ids, error, message):
    codes = make_codes(3, 8)
    with pytest.raises(error, match=message):
        HammingNeighbors().fit(codes, ids=ids)
    index = HammingNeighbors(2).fit(make_codes(5, 8, seed=1))
    before = index.kneighbors(codes)
    for change in (index.fit, index.partial_fit):
        with pytest.raises(error, match=message):
            change(codes, ids=ids)
    with pytest.raises(error, match=message):
        index.fit(make_codes(3, 9), ids=ids)
    assert index.ids_.tolist() == [0, 1, 2, 3, 4]
    assert_array_equal(index.kneighbors(codes), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda i: i.partial_fit(make_codes(2, 8), ids=["z", "b"]),
            "ids 'b' are already in the database",
        ),
        (lambda i: i.partial_fit(make_codes(2, 8), ids=[7, 8]), "ids must be str"),
        (lambda i: i.partial_fit(make_codes(2, 8)), "ids must be given"),
        (lambda i: i.partial_fit(make_codes(2, 9), ids=["y", "z"]), "X has 9 features"),
        (lambda i: i.partial_fit(2 * make_codes(2, 8), ids=["y", "z"]), "only 0 and 1"),
        (lambda i: i.remove(["a", "z", "y"]), "ids 'z', 'y' are not in the database"),
        (lambda i: i.remove(["a", "a"]), "ids must differ"),
        (lambda i: i.remove([0]), "ids 0 are not in the database"),
    ],
)
def test_a_change_is_made_whole_or_not_at_all(change, message):
    index = HammingNeighbors(2).fit(make_codes(4, 8), ids=list("abcd")).remove(["c"])
    with pytest.raises(ValueError, match=message):
        change(index)
    assert index.ids_.tolist() == ["a", "b", "d"]
    assert index.positions(list("abcdyz")).tolist() == [0, 1, -1, 2, -1, -1]
    index.partial_fit(make_codes(2, 8), ids=["z", "y"])  # nothing of it was left
    assert index.ids_.tolist() == ["a", "b", "d", "z", "y"]


def test_default_ids_in_the_database_are_refused_too():
    index = HammingNeighbors().fit(make_codes(4, 8)).remove([1])
    with pytest.raises(ValueError, match="ids 2, 3 are already in the database"):
        index.partial_fit(make_codes(3, 8), ids=[1, 2, 3])
    with pytest.raises(ValueError, match="ids 1 are not in the database"):
        index.remove([1])
    assert index.partial_fit(make_codes(1, 8), ids=[1]).ids_.tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize("incremental", [False, True])
def test_an_empty_database_takes_ids_of_another_kind(incremental, tmp_path):
    index = HammingNeighbors(1).fit(make_codes(2, 8), ids=["a", "b"]).remove(["b", "a"])
    index.save(tmp_path / "codes", incremental=incremental)
    for empty in (index, HammingNeighbors.load(tmp_path / "codes")):
        assert len(empty.ids_) == 0
        assert empty.partial_fit(make_codes(2, 8), ids=[4, 3]).ids_.tolist() == [4, 3]
        empty.remove([4, 3]).partial_fit(make_codes(1, 8), ids=["a"])
        assert empty.ids_.tolist() == ["a"]


def test_the_largest_numbers_are_ids(tmp_path):
    top = 2**63 - 1
    index = HammingNeighbors(1).fit(make_codes(2, 8), ids=[top, -(2**63)])
    with pytest.raises(ValueError, match="no number follows the largest"):
        index.partial_fit(make_codes(1, 8))
    index.partial_fit(make_codes(1, 8), ids=[0]).save(tmp_path / "codes")
    for again in (index, HammingNeighbors.load(tmp_path / "codes")):
        assert again.positions([0, top, 0, 1]).tolist() == [2, 0, 2, -1]


def test_a_database_may_become_empty_and_grow_again():
    index = HammingNeighbors(1).fit(make_codes(4, 8)).remove([0, 1, 2, 3])
    assert index.n_samples_fit_ == 0
    assert index.packed_codes_.shape == (0, 1)
    assert [len(found) for found in index.radius_neighbors(make_codes(2, 8), 8)[1]] == [0, 0]
    with pytest.raises(ValueError, match="n_neighbors must be between 1 and 0"):
        index.kneighbors(make_codes(2, 8))
    codes = make_codes(3, 8)
    assert index.partial_fit(codes).predict(codes).ravel()[0] == 4


def test_what_is_not_fitted_has_nothing_to_change():
    for call in (lambda i: i.remove([0]), lambda i: i.positions([0])):
        with pytest.raises(NotFittedError):
            call(HammingNeighbors())
    for name in ("ids_", "packed_codes_", "n_samples_fit_", "backend_"):
        assert not hasattr(HammingNeighbors(), name)


def test_a_fit_forgets_what_was_there():
    index = HammingNeighbors().fit(make_codes(4, 8), ids=list("abcd"))
    assert index.fit(make_codes(2, 9)).ids_.tolist() == [0, 1]


# Codes are shared where that is safe


def test_packed_codes_are_not_copied_until_the_first_addition_and_never_written_to():
    packed = pack(make_codes(20, 64))
    before = packed.copy()
    index = HammingNeighbors(packed=True).fit(packed)
    assert np.shares_memory(index.packed_codes_, packed)
    view = index.packed_codes_
    index.partial_fit(packed[:5]).remove([0, 1]).partial_fit(packed[:5])
    assert_array_equal(packed, before)
    assert_array_equal(view, before)


def test_copies_do_not_write_into_each_other():
    codes = make_codes(60, 64)
    index = HammingNeighbors(1).fit(codes[:20]).partial_fit(codes[20:30])
    twins = [deepcopy(index), pickle.loads(pickle.dumps(index)), index]
    for i, twin in enumerate(twins):
        twin.partial_fit(codes[30 + 10 * i : 40 + 10 * i])
    for i, twin in enumerate(twins):
        expected = np.concatenate([codes[:30], codes[30 + 10 * i : 40 + 10 * i]])
        assert_array_equal(twin.packed_codes_, pack(expected))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_memory_mapped_database_grows_without_being_read_to_memory(backend, tmp_path):
    codes = make_codes(50, 64)
    HammingNeighbors(3, backend=backend).fit(codes[:30]).save(tmp_path / "codes")
    index = HammingNeighbors.load(tmp_path / "codes", mmap_mode="r")
    index.partial_fit(codes[30:40]).partial_fit(codes[40:])
    arrays = [b.packed for b in index._store.view.backends]
    assert isinstance(arrays[0], np.memmap)
    assert [len(array) for array in arrays] == [30, 20]
    index.remove([35])
    assert isinstance(index._store.view.backends[0].packed, np.memmap)
    left = np.delete(np.arange(50), 35)
    fresh = HammingNeighbors(3).fit(codes[left])
    assert_array_equal(index.kneighbors(), fresh.kneighbors())


# Pipelines


def test_a_pipeline_is_searched_by_what_its_first_step_takes():
    X = np.random.default_rng(0).standard_normal((40, 6))
    names = NAMES[:40]
    pipeline = Pipeline([("hasher", ITQ(6, random_state=0)), ("search", HammingNeighbors(3))])
    pipeline.fit(X, search__ids=names)
    found = pipeline.predict(X[:5])
    codes = pipeline["hasher"].transform(X)
    expected = brute_kneighbors(brute_distances(codes[:5], codes), 3)[1]
    assert_array_equal(found, np.array(names, dtype=object)[expected])
    assert pipeline.predict(X[:5], n_neighbors=1).shape == (5, 1)


def test_ids_are_routed(metadata_routing):
    X = np.random.default_rng(0).standard_normal((40, 6))
    search = HammingNeighbors(1).set_fit_request(ids=True).set_partial_fit_request(ids=True)
    pipeline = Pipeline([("hasher", ITQ(6, random_state=0)), ("search", search)])
    pipeline.fit(X, ids=NAMES[:40])
    assert pipeline["search"].ids_.tolist() == NAMES[:40]


# Threads


@pytest.mark.parametrize("backend", BACKENDS)
def test_searches_in_threads_do_not_disturb_each_other(backend):
    codes = make_codes(3000, 64)
    index = HammingNeighbors(backend=backend).fit(codes)
    ks = (1, 2, 3, 10, 50, 300, 1000, 2999)
    expected = [index.kneighbors(codes[:20], k) for k in ks]
    expected_radius = index.radius_neighbors_graph(codes[:20], 20)

    def search(k):
        found = [index.kneighbors(codes[:20], k) for _ in range(5)]
        assert (index.radius_neighbors_graph(codes[:20], 20) != expected_radius).nnz == 0
        return found

    for wanted, results in zip(
        expected, in_threads(*[lambda k=k: search(k) for k in ks]), strict=True
    ):
        for found in results:
            assert_array_equal(found, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_search_sees_the_database_before_a_change_or_after_it(backend):
    # All codes of one generation are equal: an answer that mixes two shows.
    n, query = 500, np.zeros((1, 64), np.uint8)
    index = HammingNeighbors(n, backend=backend)
    index.fit(np.zeros((n, 64)), ids=[f"0 {i}" for i in range(n)])
    done = threading.Event()

    def change():
        try:
            for generation in range(1, 60):
                codes = np.zeros((n, 64), np.uint8)
                codes[:, :generation] = 1
                index.partial_fit(codes, ids=[f"{generation} {i}" for i in range(n)])
                index.remove([f"{generation - 1} {i}" for i in range(n)])
        finally:
            done.set()

    def search():
        seen = 0
        while not done.is_set():
            distances, ids = index.kneighbors(query, n, return_ids=True)
            generation = int(ids[0, 0].split()[0])
            assert ids[0].tolist() == [f"{generation} {i}" for i in range(n)]
            assert (distances == generation).all()
            assert generation >= seen
            seen = generation
            assert (index.positions([f"{seen} 0", f"{seen + 1} 0"]) >= -1).all()
            assert index.n_samples_fit_ in (n, 2 * n)
        return True

    assert in_threads(change, search, search, search)[1:] == [True] * 3
    assert index.ids_[0] == "59 0"


def test_additions_in_threads_are_all_kept():
    index = HammingNeighbors(1).fit(np.zeros((1, 8)))

    def add(value):
        for _ in range(50):
            index.partial_fit(np.full((3, 8), value))

    in_threads(*[lambda v=v: add(v) for v in (0, 1, 0, 1)])
    assert index.ids_.tolist() == list(range(601))
    assert (index.packed_codes_ == 255).sum() == 300


# Stores


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_store_in_memory_keeps_the_contract(backend):
    check_store(lambda: MemoryStore(backend))


def test_a_store_in_sql_can_keep_the_contract():
    check_store(SQLiteStore)


def test_what_is_no_store_is_refused_by_what_it_lacks():
    half = SimpleNamespace(**dict.fromkeys(["add", "kneighbors", "n_bits", "ids"]))
    with pytest.raises(TypeError, match="lacks __len__, codes, radius_neighbors, remove, replace"):
        HammingNeighbors(backend=half).fit(make_codes(3, 8))
    with pytest.raises(TypeError, match="object lacks"):
        HammingNeighbors.from_store(object())
    with pytest.raises(ValueError, match="store has no codes yet"):
        HammingNeighbors.from_store(MemoryStore())
    with pytest.raises(ValueError, match='backend must be "auto"'):
        MemoryStore("annoy")
    index = HammingNeighbors(backend=MemoryStore()).fit(make_codes(3, 8))
    with pytest.raises(ValueError, match="store has codes of 8 bits, but n_bits=9"):
        HammingNeighbors.from_store(index.backend, n_bits=9)
    with pytest.raises(TypeError, match=r"HammingNeighbors\.backend"):
        skhash.save(index, "nowhere")


# Files


def test_an_index_without_history_is_in_the_first_version_of_the_format(tmp_path):
    HammingNeighbors().fit(make_codes(4, 8)).partial_fit(make_codes(3, 8)).save(tmp_path / "codes")
    assert (tmp_path / "codes").read_bytes()[8] == 1
    header, payload = _files.read_bytes(tmp_path / "codes")
    assert header.keys() == {"params", "n_bits", "n_samples", "feature_names"}
    assert len(payload) == 7


def test_an_index_with_ids_goes_through_skhash_save(tmp_path):
    index = HammingNeighbors(2).fit(make_codes(9, 8), ids=NAMES[:9]).remove(NAMES[2:4])
    skhash.save(index, tmp_path / "index.skhash")
    again = skhash.load(tmp_path / "index.skhash")
    assert_array_equal(again.ids_, index.ids_)
    assert_array_equal(again.kneighbors(), index.kneighbors())
    again.partial_fit(make_codes(1, 8), ids=["new"])


@pytest.fixture
def folder(tmp_path):
    """A folder of three parts, and the index that it holds."""
    index = HammingNeighbors(3, backend="numpy").fit(make_codes(60, 13), ids=NAMES[:60])
    for start, stop in ((60, 80), (80, 86)):
        index.save(tmp_path / "folder", incremental=True)
        index.partial_fit(make_codes(stop - start, 13, seed=start), ids=NAMES[start:stop])
    index.remove(NAMES[10:13]).save(tmp_path / "folder", incremental=True)
    return index, tmp_path / "folder"


def sizes(folder):
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_folder_gets_only_what_is_new(folder):
    index, path = folder
    before = sizes(path)
    assert len(before) == 4
    index.partial_fit(make_codes(2, 13), ids=NAMES[86:88]).remove([NAMES[5]])
    index.save(path, incremental=True)
    after = sizes(path)
    new = after.keys() - before.keys()
    assert len(new) == 1
    assert before.keys() < after.keys()
    assert after[new.pop()] < 500
    again = HammingNeighbors.load(path)
    assert_array_equal(again.ids_, index.ids_)
    assert_array_equal(again.kneighbors(), index.kneighbors())
    # One that was loaded knows what is there.
    again.partial_fit(make_codes(1, 13), ids=["new"]).save(path, incremental=True)
    assert before.keys() < sizes(path).keys()
    assert HammingNeighbors.load(path).ids_[-1] == "new"


def test_the_parts_of_a_folder_stay_few_and_are_written_a_few_times_each(tmp_path, monkeypatch):
    written = []
    plain = _saving.write_bytes

    def counted(path, header, arrays, **options):
        written.append(header.get("n_samples", 0))
        return plain(path, header, arrays, **options)

    monkeypatch.setattr(_saving, "write_bytes", counted)
    index = HammingNeighbors().fit(make_codes(4000, 8))
    for i in range(64):
        index.save(tmp_path, incremental=True)
        index.partial_fit(make_codes(10, 8, seed=i))
    assert len(sizes(tmp_path)) < 10
    assert sum(written) < 4000 + 640 * np.log2(64)


def test_a_part_with_few_codes_left_is_written_anew(folder):
    index, path = folder
    before = sizes(path)
    index.remove(NAMES[60:72]).save(path, incremental=True)  # most of the second part
    assert len(sizes(path)) == 4
    assert len(before.keys() - sizes(path).keys()) == 1
    index.remove(NAMES[72:80]).save(path, incremental=True)
    assert len(sizes(path)) == 3
    assert_array_equal(HammingNeighbors.load(path).ids_, index.ids_)


def test_a_folder_of_another_index_is_written_anew(folder):
    index, path = folder
    twin = deepcopy(index)
    index.partial_fit(make_codes(1, 13), ids=["mine"]).save(path, incremental=True)
    twin.partial_fit(make_codes(1, 13), ids=["other"]).save(path, incremental=True)
    assert HammingNeighbors.load(path).ids_[-1] == "other"
    index.save(path, incremental=True)
    assert HammingNeighbors.load(path).ids_[-1] == "mine"
    index.fit(make_codes(5, 9)).save(path, incremental=True)
    assert len(sizes(path)) == 2
    assert HammingNeighbors.load(path).ids_.tolist() == [0, 1, 2, 3, 4]


def test_other_files_of_a_folder_are_left_alone(folder):
    index, path = folder
    (path / "hasher.skhash").write_text("mine")
    index.fit(make_codes(5, 9)).save(path, incremental=True)
    assert (path / "hasher.skhash").read_text() == "mine"


@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_any_damaged_or_missing_file_of_a_folder_is_named(folder, mmap_mode):
    _, path = folder
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        for i in range(0, len(content), 7):
            file.write_bytes(content[:i] + bytes([content[i] ^ 0x10]) + content[i + 1 :])
            with pytest.raises(ValueError) as caught:
                HammingNeighbors.load(path, mmap_mode=mmap_mode)
            assert str(file) in str(caught.value)
        file.write_bytes(content[:-1])
        with pytest.raises(ValueError, match="truncated") as caught:
            HammingNeighbors.load(path, mmap_mode=mmap_mode)
        assert str(file) in str(caught.value)
        file.unlink()
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            HammingNeighbors.load(path, mmap_mode=mmap_mode)
        assert str(file) in str(caught.value)
        file.write_bytes(content)
    HammingNeighbors.load(path, mmap_mode=mmap_mode)


def test_parts_that_change_places_are_refused(folder):
    _, path = folder
    first, second, _ = (file for file in path.iterdir() if file.name != "index.skhn")
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(ValueError, match="is not the file that was saved there"):
        HammingNeighbors.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"n_bits": 12}, {"n_bits": "13"}, {"n_stored": 85}, {"n_stored": None}, {"parts": None},
        {"parts": []}, {"parts": [{"name": "../index.skhn", "checksum": 0}]}, {"next_key": 3},
        {"next_key": 2**70}, {"next_id": -1}, {"params": {"n_bits": 9}},
    ],
)  # fmt: skip
def test_a_folder_that_makes_no_sense_is_refused(folder, change):
    _, path = folder
    header, removed = _files.read_bytes(path / "index.skhn")
    _files.write_bytes(path / "index.skhn", header | change, [removed], version=2)
    with pytest.raises(ValueError, match="invalid header") as caught:
        HammingNeighbors.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"ids": "int"}, {"ids": None}, {"ids": "float"}, {"ids": 3}, {"first_key": None},
        {"first_key": -1}, {"first_key": 2**63 - 1}, {"first_key": "0"}, {"next_key": 1},
        {"n_samples": 3}, {"n_samples": 10**30}, {"n_bits": 80},
    ],
)  # fmt: skip
def test_a_file_with_ids_that_makes_no_sense_is_refused(tmp_path, change):
    path = tmp_path / "codes"
    HammingNeighbors().fit(make_codes(9, 8), ids=NAMES[:9]).save(path)
    header, payload = _files.read_bytes(path)
    _files.write_bytes(path, header | change, [payload], version=2)
    with pytest.raises(ValueError, match="invalid header") as caught:
        HammingNeighbors.load(path)
    assert str(path) in str(caught.value)


def test_ids_of_a_file_must_differ_and_keys_ascend(tmp_path):
    path = tmp_path / "codes"
    HammingNeighbors().fit(make_codes(4, 8), ids=[9, 5, 7, 8]).remove([5]).save(path)
    header, payload = _files.read_bytes(path)
    for place in (3, 3 + 24):  # of the keys, and of the ids
        numbers = payload[place : place + 24].copy()
        numbers[8:16] = numbers[:8]
        wrong = np.concatenate([payload[:place], numbers, payload[place + 24 :]])
        _files.write_bytes(path, header, [wrong], version=2)
        with pytest.raises(ValueError, match=r"an id occurs twice|do not ascend"):
            HammingNeighbors.load(path)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("n_before", [0, 1])
def test_a_failed_incremental_save_leaves_the_folder_as_it_was(
    folder, monkeypatch, error, n_before
):
    index, path = folder
    expected = HammingNeighbors.load(path).ids_
    index.partial_fit(make_codes(2, 13), ids=NAMES[86:88]).remove(NAMES[:3])
    plain, calls = os.replace, iter(range(100))

    def fail(*args):
        if next(calls) == n_before:
            raise error
        plain(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(type(error)):
            index.save(path, incremental=True)
    assert_array_equal(HammingNeighbors.load(path).ids_, expected)
    index.save(path, incremental=True)
    assert len(sizes(path)) == 5  # the part that was left over is gone
    assert_array_equal(HammingNeighbors.load(path).ids_, index.ids_)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_killed_incremental_save_leaves_the_folder_as_it_was(folder):
    index, path = folder
    expected = index.ids_
    code = f"""
import os
from skhash import HammingNeighbors
from skhash.neighbors import _saving
index = HammingNeighbors.load({str(path)!r})
index.partial_fit([[0] * 13] * 2, ids=["x", "y"]).remove(["000.jpg"])
plain = _saving.write_bytes
def killed(path, *args, **options):
    if path.name == "index.skhn":
        os.kill(os.getpid(), 9)
    return plain(path, *args, **options)
_saving.write_bytes = killed
index.save({str(path)!r}, incremental=True)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert_array_equal(HammingNeighbors.load(path).ids_, expected)
    index.save(path, incremental=True)
    assert_array_equal(HammingNeighbors.load(path).ids_, expected)


def test_a_folder_that_is_saved_again_while_it_is_read_is_read_again(folder, monkeypatch):
    index, path = folder
    plain, saved = _saving.read_bytes, []

    def read(file, **options):
        if str(file).endswith("part.skhn") and not saved:
            saved.append(True)
            index.fit(make_codes(5, 13)).save(path, incremental=True)
        return plain(file, **options)

    monkeypatch.setattr(_saving, "read_bytes", read)
    assert HammingNeighbors.load(path).ids_.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("place", range(1, 9))
def test_a_search_interrupted_anywhere_sees_all_of_a_change_or_nothing(place):
    """Another thread replaces a code, while the search reads its place-th attribute."""

    class Interrupted(MemoryStore):
        def __getattribute__(self, name):
            value = super().__getattribute__(name)
            if threading.current_thread() is threading.main_thread() and next(left, None) == 0:
                changing.start()
                changing.join(0.2)  # it may wait until the search has the view
            return value

    def change():
        store.remove(np.array([1]))
        store.add(np.array([7]), np.zeros((1, 1), np.uint8), 8)

    left = iter(())
    changing = threading.Thread(target=change)
    store = Interrupted("numpy")
    store.add(np.arange(3), np.zeros((3, 1), np.uint8), 8)
    left = iter(range(place - 1, -1, -1))
    found = store.radius_neighbors(np.zeros((1, 1), np.uint8), 0)[2].tolist()
    left = iter(())
    if changing.ident is not None:
        changing.join()
        assert store.ids().tolist() == [0, 2, 7]
    assert found in ([0, 1, 2], [0, 2], [0, 2, 7])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_emptied_database_has_no_pairs(backend):
    index = HammingNeighbors(backend=backend).fit(np.eye(4)).remove(range(4))
    distances, indices = index.radius_neighbors()
    assert len(distances) == len(indices) == 0
    assert index.radius_neighbors_graph().shape == (0, 0)
    assert [len(found) for found in index.radius_neighbors(np.eye(4))[1]] == [0] * 4
    with pytest.raises(ValueError, match="no codes yet"):
        MemoryStore(backend).radius_neighbors(np.zeros((1, 1), np.uint8), 1)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"backend": "gpu"}, "backend"),
        ({"backend": "duckdb:///codes"}, "backend"),
        ({"n_bits": 3}, "n_bits"),
        ({"radius": -1}, "radius"),
    ],
)
def test_a_file_that_could_not_be_loaded_is_not_written(params, name, tmp_path):
    index = HammingNeighbors().fit(np.eye(4))
    for incremental in (False, True):
        with pytest.raises(ValueError, match=name):
            index.set_params(**params).save(tmp_path / "saved", incremental=incremental)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("change", ["remove", "add"])
def test_row_numbers_of_a_store_that_changes_during_a_search_are_refused(change):
    class Changing(SQLiteStore):
        def kneighbors(self, queries, k):
            found = super().kneighbors(queries, k)
            if change == "remove":
                self.remove(self.ids()[:1])
            else:
                self.add(None, pack(np.eye(1, 4)), 4)
            return found

    index = HammingNeighbors(1, backend=Changing()).fit(np.eye(4))
    assert index.kneighbors(np.eye(4)[:1], return_ids=True)[1].tolist() == [[0]]
    with pytest.raises(RuntimeError, match=r"changed during the search.*return_ids"):
        index.kneighbors(None if change == "add" else np.eye(4)[1:2])

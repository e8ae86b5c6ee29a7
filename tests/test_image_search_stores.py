"""ImageSearch with stores: the answers of one in memory, through changes, faults and files."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
from _photos import rendered_photos
from _stores import SQLiteStore
from numpy.testing import assert_array_equal

from skhash import ImageSearch, TagITQ
from skhash.codes import pack, sign_bits
from skhash.neighbors import DuckDBStore, MemoryStore

pytestmark = pytest.mark.filterwarnings("ignore:.*bits are constant", "ignore:tags has words")
KINDS = ["memory", "sqlite", "duckdb", "postgres"]


@pytest.fixture(scope="module")
def photos():
    data = rendered_photos(80)
    ids = [f"photos/{i}.jpg" for i in range(len(data.X))]
    return SimpleNamespace(X=data.X, tags=[list(row) for row in data.tags], ids=ids)


@pytest.fixture
def make_any_store(make_store):
    def make(kind):
        own = {"memory": MemoryStore, "sqlite": SQLiteStore}
        return own[kind]() if kind in own else make_store(kind)

    return make


def searches(photos, store, n=60):
    """The same search in memory, and with a store."""
    return [
        ImageSearch(TagITQ(16, random_state=0), backend=backend).fit(
            photos.X[:n], photos.tags[:n], photos.ids[:n]
        )
        for backend in ("numpy", store)
    ]


def check_same(expected, found, store, photos):
    """Both answer the same, and the store holds what the search does."""
    assert_array_equal(store.ids(), expected.ids_)
    assert_array_equal(store.codes(), expected.photos_.codes)
    for having in (None, photos.tags[0][0]):
        answers = [search.query(photos.X[::7], 9, having=having) for search in (expected, found)]
        assert_array_equal(answers[0].ids, answers[1].ids)
        assert_array_equal(answers[0].distances, answers[1].distances)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_memory_through_all_changes(kind, photos, make_any_store):
    store = make_any_store(kind)
    if kind in ("duckdb", "postgres"):  # what it held is replaced
        store.replace(np.array([3, 4]), np.zeros((2, 1), np.uint8), 8)
    in_memory, stored = searches(photos, store)
    check_same(in_memory, stored, store, photos)
    for search in (in_memory, stored):
        search.add(photos.X[60:], photos.tags[60:], photos.ids[60:])
    check_same(in_memory, stored, store, photos)
    for search in (in_memory, stored):
        search.remove(photos.ids[5:40:3])
    check_same(in_memory, stored, store, photos)
    changed = [photos.ids[0], photos.ids[70]]
    for search in (in_memory, stored):
        search.update(photos.X[[1, 2]], [["sky"], photos.tags[2]], changed)
    check_same(in_memory, stored, store, photos)
    assert list(store.ids()[-2:]) == changed
    if kind in ("duckdb", "postgres"):
        kept = store.tags([*changed, photos.ids[60]])
        assert kept[0] == ["sky"]
        assert list(map(sorted, kept[1:])) == [sorted(photos.tags[i]) for i in (2, 60)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_store_is_what_answers(kind, photos, make_any_store):
    store = make_any_store(kind)
    _, search = searches(photos, store)
    expected = search.query(photos.X[:1], 1).ids[0][0]
    # Another code for the photo that is nearest: only the store knows of it.
    far = 255 - search.photos_.codes[[search.photos_.row_of[expected]]]
    store.remove(np.array([expected], object))
    store.add(np.array([expected], object), far, 16)
    assert search.query(photos.X[:1], 1).ids[0][0] != expected


@pytest.mark.parametrize("kind", KINDS)
def test_photos_of_other_programs_are_no_answers(kind, photos, make_any_store):
    store = make_any_store(kind)
    in_memory, stored = searches(photos, store)
    query = pack(sign_bits(in_memory.hasher_.decision_function(photos.X[:1])))
    store.add(np.array(["stranger"], object), query, 16)
    assert_array_equal(stored.query(photos.X[:5], 4).ids, in_memory.query(photos.X[:5], 4).ids)
    store.remove(store.ids()[10:])  # fewer than are asked for
    assert_array_equal(stored.query(photos.X[:5], 30).ids, in_memory.query(photos.X[:5], 30).ids)


class Failing(MemoryStore):
    """Its next addition fails, as that of a server that went away would."""

    failing = False

    def add(self, ids, packed, n_bits):
        if self.failing:
            self.failing = False
            raise ConnectionError("the server went away")
        super().add(ids, packed, n_bits)


def test_a_store_that_fails_leaves_the_search_as_it_was(photos):
    store = Failing()
    in_memory, stored = searches(photos, store)
    changes = [
        lambda: stored.add(photos.X[60:], photos.tags[60:], photos.ids[60:]),
        lambda: stored.update(photos.X[1:2], None, photos.ids[:1]),
    ]
    for change in changes:
        store.failing = True
        with pytest.raises(ConnectionError, match="went away"):
            change()
        assert_array_equal(stored.ids_, in_memory.ids_)
        assert sorted(store.ids()) == sorted(in_memory.ids_)
        assert_array_equal(store.codes()[np.argsort(store.ids())],
                           in_memory.photos_.codes[np.argsort(in_memory.ids_)])  # fmt: skip


@pytest.mark.parametrize("kind", ["duckdb", "postgres"])
def test_an_update_that_fails_is_rolled_back(kind, make_store):
    store = make_store(kind)
    ids = np.array(["a", "b", "c"], object)
    codes = np.arange(3, dtype=np.uint8)[:, None]
    store.replace(ids, codes, 8)
    with pytest.raises(ValueError, match="16 bits"):
        store.update(ids[:1], np.zeros((1, 2), np.uint8), 16)
    with pytest.raises(ValueError, match="'z'"):
        store.update(np.array(["a", "z"], object), codes[:2], 8)
    assert_array_equal(store.ids(), ids)
    assert_array_equal(store.codes(), codes)


def test_on_disk(photos, tmp_path):
    pytest.importorskip("duckdb")
    url = f"duckdb:///{tmp_path / 'photos.duckdb'}?table=codes"
    in_memory, stored = searches(photos, url)
    stored.save(tmp_path / "search")
    stored._store.close()
    loaded = ImageSearch.load(tmp_path / "search")
    assert loaded.backend == url and isinstance(loaded._store, DuckDBStore)
    check_same(in_memory, loaded, loaded._store, photos)
    check_same(in_memory, deepcopy(loaded), loaded._store, photos)
    # An empty store is filled, one of other photos refused.
    empty = MemoryStore()
    check_same(in_memory, ImageSearch.load(tmp_path / "search", backend=empty), empty, photos)
    loaded.remove(photos.ids[:1])
    loaded._store.close()
    with pytest.raises(ValueError, match=r"DuckDBStore.*other photos"):
        ImageSearch.load(tmp_path / "search")
    free = ImageSearch.load(tmp_path / "search", backend="numpy")
    assert_array_equal(free.ids_, in_memory.ids_)


def test_codes_of_another_hasher_are_refused(photos, tmp_path):
    store = MemoryStore()
    _, stored = searches(photos, store)
    stored.set_params(backend="auto").save(tmp_path / "search")
    store.replace(stored.ids_, ~stored.photos_.codes, stored.n_bits_)  # the same ids
    with pytest.raises(ValueError, match="codes of another hasher"):
        ImageSearch.load(tmp_path / "search", backend=store)


@pytest.mark.parametrize("backend", ["auto", "duckdb"])
def test_an_emptied_search_takes_ids_of_another_type(backend, photos, tmp_path, make_store):
    store = backend if backend == "auto" else make_store(backend)
    search = ImageSearch(TagITQ(8), backend=store).fit(
        photos.X[:9], photos.tags[:9], list("abcdefghi")
    )
    search.remove(list("abcdefghi")).set_params(backend="auto").save(tmp_path / "search")
    if backend != "auto":
        assert len(ImageSearch.load(tmp_path / "search", backend=store)) == 0
    search.add(photos.X[:2])
    assert search.ids_.dtype == np.int64
    with pytest.raises(TypeError, match="ids of the search are int"):
        search.add(photos.X[:1], ids=["a"])


def test_no_number_follows_the_largest(photos):
    search = ImageSearch(TagITQ(8)).fit(photos.X[:2], photos.tags[:2], [2**63 - 1, 0])
    with pytest.raises(ValueError, match="ids must be given: no number follows"):
        search.add(photos.X[2:3])
    assert search.ids_.tolist() == [2**63 - 1, 0]


def test_bad_backends(photos, tmp_path):
    for backend, words in [
        ("gpu", "backend"),
        (object(), "lacks"),
        ("ftp://host", "postgresql://"),
    ]:
        with pytest.raises((TypeError, ValueError), match=words):
            ImageSearch(TagITQ(8), backend=backend).fit(photos.X, photos.tags)
    with pytest.raises(ValueError, match="password"):
        ImageSearch(backend="postgresql://me:secret@host/db").fit(photos.X, photos.tags)
    _, search = searches(photos, MemoryStore())
    with pytest.raises(TypeError, match="backend is a MemoryStore"):
        search.save(tmp_path / "search")
    assert not (tmp_path / "search").exists()

"""backend="ivf": approximate search by clusters, through every change of the database."""

import pickle
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_neighbors import brute_distances, brute_kneighbors

import skhash
from skhash import HammingNeighbors
from skhash.neighbors import MemoryStore, _backends

pytest.importorskip("faiss")


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    monkeypatch.setattr(_backends, "_WORTH_FAISS", 500)


def clustered(n, n_bits=40, seed=0):
    """Codes near 60 others; neighbors share their cluster, but for codes between two."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(9).integers(0, 2, (60, n_bits))
    noise = rng.random((n, n_bits)) < 0.06
    return (centers[rng.integers(0, 60, n)] ^ noise).astype(np.uint8)


def check(index, codes, least):
    """Distances are those of what is found, in order, and almost all that is near is found."""
    queries = clustered(100, seed=5)
    all_distances = brute_distances(queries, codes)
    expected = brute_kneighbors(all_distances, 7)[0]
    distances, rows = index.kneighbors(queries, 7)
    assert_array_equal(np.take_along_axis(all_distances, rows, axis=1), distances)
    assert all(len(set(row)) == 7 for row in rows.tolist())
    order = np.lexsort((rows, distances))
    assert_array_equal(np.take_along_axis(rows, order, axis=1), rows)
    recall = (distances <= expected[:, -1:]).mean()
    assert recall >= least
    assert_array_equal(index.ids_[rows], index.predict(queries, n_neighbors=7))
    if least == 1:
        assert_array_equal(distances, expected)
    found = index.radius_neighbors(queries[:5], 6)[1]
    for i, some in enumerate(found):
        assert_array_equal(some, np.flatnonzero(all_distances[i] <= 6))
    return recall


@pytest.mark.parametrize(("n_probes", "least"), [(1, 0.7), (8, 0.97), (10**6, 1)])
def test_changes(n_probes, least):
    codes = clustered(6000)
    index = HammingNeighbors(backend="ivf", n_probes=n_probes)
    index.fit(codes[:800])
    assert index.backend_ == "ivf"
    kept = np.arange(800)
    for start, stop, step in [
        (800, 1200, 3),  # added, then every third removed
        (1200, 1201, 1000),
        (1201, 1700, 2),
        (1700, 6000, 5),  # so many that clusters are made anew
    ]:
        index.partial_fit(codes[start:stop], ids=np.arange(start, stop))
        kept = np.r_[kept, start:stop]
        if step == 2:  # no search between an addition and a removal
            removed = kept[::step]
        else:
            check(index, codes[kept], least)
            removed = kept[::step]
        index.remove(removed)
        kept = np.setdiff1d(kept, removed)
        assert_array_equal(index.ids_, kept)
        check(index, codes[kept], least)
    # The last one goes, and another takes its place.
    index.remove(kept[-1:]).partial_fit(codes[:1], ids=[10_000])
    check(index, codes[np.r_[kept[:-1], 0]], least)


def test_more_probes_find_more():
    codes = clustered(3000)
    recalls = [
        check(HammingNeighbors(backend="ivf", n_probes=n).fit(codes), codes, 0.5)
        for n in (1, 4, 16, 64)
    ]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1] == 1


def test_is_declared():
    codes = clustered(600)
    index = HammingNeighbors(backend="ivf")
    assert not hasattr(index, "exact_")
    assert not index.fit(codes).exact_
    assert HammingNeighbors(backend="numpy").fit(codes).exact_
    assert not MemoryStore("ivf").exact


def test_few_codes_are_searched_exactly():
    codes = clustered(499)
    index = HammingNeighbors(backend="ivf", n_probes=1).fit(codes)
    assert index.backend_ == "faiss"
    check(index, codes, 1)
    index.partial_fit(clustered(300, seed=1))
    assert index.backend_ == "ivf"
    check(index, np.concatenate([codes, clustered(300, seed=1)]), 0.7)


def test_clusters_with_too_few_codes():
    codes = clustered(600)
    index = HammingNeighbors(backend="ivf", n_probes=1).fit(codes)
    distances, rows = index.kneighbors(codes[:5], 400)
    expected, expected_rows = brute_kneighbors(brute_distances(codes[:5], codes), 400)
    assert_array_equal(distances, expected)
    assert_array_equal(rows, expected_rows)


def test_files_and_pickles(tmp_path):
    codes = clustered(1000)
    index = HammingNeighbors(backend="ivf", n_probes=3).fit(codes)
    expected = index.kneighbors(codes[:50])
    index.save(tmp_path / "saved")
    for again in (HammingNeighbors.load(tmp_path / "saved"), pickle.loads(pickle.dumps(index))):
        assert again.n_probes == 3
        for found, wanted in zip(again.kneighbors(codes[:50]), expected, strict=True):
            assert_array_equal(found, wanted)
    store = pickle.loads(pickle.dumps(MemoryStore("ivf", n_probes=5)))
    assert (store.backend, store.n_probes) == ("ivf", 5)


def save_to_file(index, path):
    index.save(path / "file")
    return HammingNeighbors.load(path / "file")


def save_and_map(index, path):
    index.save(path / "file")
    return HammingNeighbors.load(path / "file", mmap_mode="r")


def save_to_folder(index, path):
    index.save(path / "folder", incremental=True)
    return HammingNeighbors.load(path / "folder")


def save_with_pickle(index, path):
    return pickle.loads(pickle.dumps(index))


def save_with_skhash(index, path):
    skhash.save(index, path / "any")
    return skhash.load(path / "any")


@pytest.mark.parametrize("ids", [None, "int", "str"])
@pytest.mark.parametrize(
    "again", [save_to_file, save_and_map, save_to_folder, save_with_pickle, save_with_skhash]
)
def test_a_saved_index_has_its_clusters(tmp_path, monkeypatch, again, ids):
    codes = clustered(1600)
    names = {None: None, "int": np.arange(1600)[::-1], "str": np.arange(1600).astype(str)}[ids]
    index = HammingNeighbors(backend="ivf", n_probes=3).fit(codes, ids=names)
    saved_unused = again(index, tmp_path)
    expected = index.kneighbors(codes[:50])
    with monkeypatch.context() as patch:
        patch.setattr(_backends.IVFBackend, "_new_centers", None)
        for found, wanted in zip(saved_unused.kneighbors(codes[:50]), expected, strict=True):
            assert_array_equal(found, wanted)
        index = again(index, tmp_path)
        for found, wanted in zip(index.kneighbors(codes[:50]), expected, strict=True):
            assert_array_equal(found, wanted)
        # Changed, and saved again before a search.
        more = clustered(300, seed=2)
        index.remove(index.ids_[::3])
        index.partial_fit(more, ids=None if ids != "str" else np.arange(2000, 2300).astype(str))
        index = again(index, tmp_path)
        left = np.concatenate([np.delete(codes, np.s_[::3], axis=0), more])
        check(index, left, 0.8)
        check(again(index, tmp_path), left, 0.8)
    # Many more: clusters are made again.
    others = clustered(8000, seed=4)
    index.partial_fit(others, ids=None if ids != "str" else np.arange(3000, 11000).astype(str))
    check(again(index, tmp_path), np.concatenate([left, others]), 0.8)


def test_mapped_parts_share_the_clusters(tmp_path, monkeypatch):
    codes = clustered(2200)
    index = HammingNeighbors(backend="ivf", n_probes=3).fit(codes[:1500])
    index.save(tmp_path, incremental=True)
    index.partial_fit(codes[1500:])
    expected = index.kneighbors(codes[:50])[0]
    index.save(tmp_path, incremental=True)
    monkeypatch.setattr(_backends.IVFBackend, "_new_centers", None)
    mapped = HammingNeighbors.load(tmp_path, mmap_mode="r")
    assert len(mapped._store.view.backends) == 2
    # A part whose clusters have too few codes is searched exactly.
    assert (mapped.kneighbors(codes[:50])[0] <= expected).all()
    check(mapped, codes, 0.8)


BAD_CLUSTERS = {
    # With this number, faiss would write beyond its lists.
    "number": lambda good: good._replace(numbers=good.numbers + np.uint16(len(good.centers))),
    "more codes": lambda good: good._replace(numbers=np.tile(good.numbers, 2)),
    "no centers": lambda good: good._replace(centers=good.centers[:0]),
    "none learned": lambda good: good._replace(n_learned=0),
}


@pytest.mark.parametrize("again", [save_to_file, save_to_folder, save_with_skhash])
@pytest.mark.parametrize("change", BAD_CLUSTERS)
def test_clusters_that_do_not_fit_are_refused(tmp_path, change, again):
    index = HammingNeighbors(backend="ivf").fit(clustered(600))
    backend = index._store.view.backends[0]
    faiss_index, good = backend._searched
    backend._searched = faiss_index, BAD_CLUSTERS[change](good)
    with pytest.raises(ValueError, match="clusters do not fit"):
        again(index, tmp_path)


def test_without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    _backends._load_faiss.cache_clear()
    try:
        with pytest.raises(ImportError, match=r"pip install .scikit-hash\[faiss\]"):
            HammingNeighbors(backend="ivf").fit(clustered(10))
    finally:
        monkeypatch.undo()
        _backends._load_faiss.cache_clear()


def test_bad_numbers():
    with pytest.raises(ValueError, match="n_probes"):
        HammingNeighbors(backend="ivf", n_probes=0).fit(clustered(10))

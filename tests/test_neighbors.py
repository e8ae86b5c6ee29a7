"""HammingNeighbors against brute force and scikit-learn, and its files."""

import os
import pickle
import subprocess
import sys
import warnings
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from joblib import parallel_config
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer
from sklearn.utils.estimator_checks import parametrize_with_checks

from skhash.codes import MISSING, pack
from skhash.neighbors import HammingNeighbors, _backends, _files, _hamming

try:
    import faiss
except ImportError:
    faiss = None

needs_faiss = pytest.mark.skipif(faiss is None, reason="faiss is not installed")
BACKENDS = ["numpy", pytest.param("faiss", marks=needs_faiss)]
N_BITS = [1, 7, 8, 9, 24, 64, 65, 128, 300]


def make_codes(n_samples, n_bits, seed=0):
    """Codes with many twins, so that every search meets ties."""
    rng = np.random.default_rng(seed)
    distinct = rng.integers(0, 2, (max(2, n_samples // 4), n_bits), dtype=np.uint8)
    return distinct[rng.integers(0, len(distinct), n_samples)]


def brute_distances(queries, codes):
    return (queries[:, None, :] != codes[None, :, :]).sum(axis=2)


def brute_kneighbors(distances, k):
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, indices, axis=1), indices


def among_others(distances):
    """Distances within one set where no code may find itself."""
    distances = distances.copy()
    np.fill_diagonal(distances, distances.max() + 100)
    return distances


# Search


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_bits", N_BITS)
def test_kneighbors_is_the_start_of_a_stable_sort(n_bits, backend):
    codes, queries = make_codes(200, n_bits), make_codes(30, n_bits, seed=1)
    neighbors = HammingNeighbors(backend=backend).fit(codes)
    for k in (1, 3, 50, 200):
        distances, indices = neighbors.kneighbors(queries, k)
        expected_distances, expected = brute_kneighbors(brute_distances(queries, codes), k)
        assert_array_equal(distances, expected_distances)
        assert_array_equal(indices, expected)
        assert_array_equal(neighbors.kneighbors(queries, k, return_distance=False), expected)
        assert distances.dtype == np.int32
        assert indices.dtype == np.intp


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_bits", N_BITS)
def test_distances_are_those_of_scikit_learn(n_bits, backend):
    codes, queries = make_codes(100, n_bits), make_codes(20, n_bits, seed=1)
    neighbors = HammingNeighbors(backend=backend).fit(codes)
    reference = NearestNeighbors(metric="hamming", algorithm="brute").fit(codes)
    for X in (queries, None):
        distances, _ = neighbors.kneighbors(X)
        np.testing.assert_allclose(distances, reference.kneighbors(X)[0] * n_bits, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_values", [1, 2, 5])
def test_heavy_ties_come_in_database_order_in_every_backend(n_values, backend):
    # Far more codes than distances, and more than faiss handles in one block.
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (n_values, 4), dtype=np.uint8)
    packed = values[rng.integers(0, n_values, 70_000)]
    queries = np.concatenate([values, ~values])
    distances = np.bitwise_count(queries[:, None, :] ^ packed[None]).sum(axis=2)
    neighbors = HammingNeighbors(backend=backend, packed=True).fit(packed)
    for k in (1, 100, 20_000):
        found_distances, found = neighbors.kneighbors(queries, k)
        expected_distances, expected = brute_kneighbors(distances, k)
        assert_array_equal(found, expected)
        assert_array_equal(found_distances, expected_distances)


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_the_database_does_not_hide_neighbors(backend):
    # The nearest code is the only one of its kind, at every place in turn.
    for place in range(50):
        codes = np.ones((50, 16), np.uint8)
        codes[place, 3:] = 0
        neighbors = HammingNeighbors(1, backend=backend).fit(codes)
        assert neighbors.kneighbors(np.zeros((1, 16)))[1] == place
        assert neighbors.kneighbors(np.zeros((1, 16)))[0] == 3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_values", [1, 3, 60])
def test_without_queries_every_code_is_asked_and_excluded(n_values, backend):
    # With few values, most codes have more than k twins before them.
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, (n_values, 12))[rng.integers(0, n_values, 80)]
    neighbors = HammingNeighbors(backend=backend).fit(codes)
    others = among_others(brute_distances(codes, codes))
    for k in (1, 5, 79):
        distances, indices = neighbors.kneighbors(n_neighbors=k)
        expected_distances, expected = brute_kneighbors(others, k)
        assert_array_equal(indices, expected)
        assert_array_equal(distances, expected_distances)
    _, indices = neighbors.radius_neighbors(radius=4)
    for found, row in zip(indices, others, strict=True):
        assert_array_equal(found, np.flatnonzero(row <= 4))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_bits", N_BITS)
def test_radius_neighbors_are_all_codes_within_the_radius(n_bits, backend):
    codes, queries = make_codes(150, n_bits), make_codes(40, n_bits, seed=1)
    expected = brute_distances(queries, codes)
    neighbors = HammingNeighbors(backend=backend).fit(codes)
    for radius in (0, 1, n_bits // 2, n_bits / 2 + 0.5, n_bits, 3 * n_bits, np.inf):
        distances, indices = neighbors.radius_neighbors(queries, radius)
        assert distances.shape == indices.shape == (40,)
        for row, found_distances, found in zip(expected, distances, indices, strict=True):
            assert_array_equal(found, np.flatnonzero(row <= radius))
            assert_array_equal(found_distances, row[found])
            assert found_distances.dtype == np.int32
            assert found.dtype == np.intp
        only_indices = neighbors.radius_neighbors(queries, radius, return_distance=False)
        assert all(map(np.array_equal, only_indices, indices))


@pytest.mark.parametrize("backend", BACKENDS)
def test_radius_neighbors_sorts_by_distance_then_by_database_order(backend):
    codes, queries = make_codes(150, 16), make_codes(10, 16, seed=1)
    neighbors = HammingNeighbors(radius=7, backend=backend).fit(codes)
    _, indices = neighbors.radius_neighbors(queries, sort_results=True)
    for row, found in zip(brute_distances(queries, codes), indices, strict=True):
        n_within = np.count_nonzero(row <= 7)
        assert_array_equal(found, np.argsort(row, kind="stable")[:n_within])


def test_equally_many_radius_neighbors_still_come_as_an_array_of_arrays():
    indices = HammingNeighbors(backend="numpy").fit(np.eye(4)).radius_neighbors(radius=2)[1]
    assert indices.shape == (4,)
    assert [len(found) for found in indices] == [3, 3, 3, 3]


@pytest.mark.parametrize("backend", BACKENDS)
def test_graphs_hold_the_neighbors(backend):
    codes = make_codes(60, 10)
    queries = np.concatenate([codes[:5], make_codes(20, 10, seed=1)])
    neighbors = HammingNeighbors(4, radius=3, backend=backend).fit(codes)
    for X, distances in (
        (queries, brute_distances(queries, codes)),
        (None, among_others(brute_distances(codes, codes))),
    ):
        chosen = np.zeros_like(distances)
        np.put_along_axis(chosen, brute_kneighbors(distances, 4)[1], 1, axis=1)
        for method, is_neighbor in (
            ("kneighbors_graph", chosen),
            ("radius_neighbors_graph", distances <= 3),
        ):
            connectivity = getattr(neighbors, method)(X)
            assert connectivity.format == "csr"
            assert_array_equal(connectivity.toarray(), is_neighbor)
            weighted = getattr(neighbors, method)(X, mode="distance")
            assert_array_equal(weighted.toarray(), is_neighbor * distances)
            # Twins are neighbors, at a stored distance of 0.
            assert weighted.nnz == is_neighbor.sum() > np.count_nonzero(weighted.data)


def test_graph_can_be_sorted_by_distance():
    neighbors = HammingNeighbors(radius=5).fit(make_codes(60, 10))
    graph = neighbors.radius_neighbors_graph(mode="distance", sort_results=True)
    assert all((np.diff(row) >= 0).all() for row in np.split(graph.data, graph.indptr[1:-1]))


def test_scikit_learn_clusters_on_the_graph():
    codes = np.repeat(np.eye(3, 30, k=1, dtype=np.uint8), 20, axis=0)
    codes[:, 10:] = make_codes(60, 20) * (np.arange(20) < 3)
    graph = HammingNeighbors(radius=2).fit(codes).radius_neighbors_graph(mode="distance")
    found = DBSCAN(eps=2, min_samples=3, metric="precomputed").fit_predict(graph)
    direct = DBSCAN(eps=2 / 30, min_samples=3, metric="hamming").fit_predict(codes)
    assert_array_equal(found, direct)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_bits", [8, 13, 64])
def test_packed_codes_give_the_same(n_bits, backend):
    codes, queries = make_codes(100, n_bits), make_codes(20, n_bits, seed=1)
    plain = HammingNeighbors(backend=backend).fit(codes)
    packed = HammingNeighbors(backend=backend, packed=True, n_bits=n_bits).fit(pack(codes))
    assert plain.n_bits_ == packed.n_bits_ == n_bits
    assert packed.n_features_in_ == pack(codes).shape[1]
    for X in (queries, None):
        expected = plain.kneighbors(X)
        assert_array_equal(packed.kneighbors(None if X is None else pack(X)), expected)


def test_packed_codes_are_whole_bytes_unless_told():
    assert HammingNeighbors(packed=True).fit(pack(make_codes(10, 13))).n_bits_ == 16


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32, object])
def test_any_numeric_dtype_is_a_code(dtype):
    codes = make_codes(40, 20)
    expected = HammingNeighbors().fit(codes).kneighbors()
    neighbors = HammingNeighbors().fit(codes.astype(dtype))
    assert_array_equal(neighbors.kneighbors(), expected)
    assert_array_equal(neighbors.fit(codes.tolist()).kneighbors(), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("context", ["loky", "threading"])
def test_threads_do_not_change_results(backend, context):
    codes, queries = make_codes(300, 33), make_codes(101, 33, seed=1)
    one = HammingNeighbors(backend=backend).fit(codes)
    with parallel_config(context):
        many = HammingNeighbors(backend=backend, n_jobs=3).fit(codes)
        assert_array_equal(many.kneighbors(queries), one.kneighbors(queries))
        assert_array_equal(many.kneighbors(), one.kneighbors())
        difference = many.radius_neighbors_graph(radius=9) != one.radius_neighbors_graph(radius=9)
        assert difference.nnz == 0
        assert many.radius_neighbors_graph(radius=9).nnz > 300


# Backends


@needs_faiss
def test_auto_takes_faiss_where_it_pays(tmp_path, monkeypatch):
    monkeypatch.setattr(_backends, "_WORTH_FAISS", 20)
    codes = make_codes(20, 16)
    neighbors = HammingNeighbors().fit(codes)
    assert neighbors.backend_ == "faiss"
    assert HammingNeighbors().fit(codes[:19]).backend_ == "numpy"
    assert HammingNeighbors(backend="numpy").fit(codes).backend_ == "numpy"
    neighbors.save(tmp_path / "codes")
    assert HammingNeighbors.load(tmp_path / "codes").backend_ == "faiss"
    assert HammingNeighbors.load(tmp_path / "codes", mmap_mode="r").backend_ == "numpy"
    np.save(tmp_path / "codes.npy", pack(codes))
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    assert HammingNeighbors(packed=True).fit(mapped).backend_ == "numpy"


@pytest.fixture
def forget_faiss():
    _backends._load_faiss.cache_clear()
    yield
    _backends._load_faiss.cache_clear()


def test_without_faiss_auto_searches_and_faiss_names_the_extra(monkeypatch, forget_faiss):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(_backends, "_WORTH_FAISS", 1)
    codes = make_codes(20, 16)
    neighbors = HammingNeighbors().fit(codes)
    assert neighbors.backend_ == "numpy"
    assert neighbors.kneighbors()[0].shape == (20, 5)
    with pytest.raises(ImportError, match=r'pip install "scikit-hash\[faiss\]"'):
        HammingNeighbors(backend="faiss").fit(codes)


@needs_faiss
def test_a_faiss_with_another_order_of_ties_is_refused(monkeypatch, forget_faiss):
    plain = faiss.knn_hamming

    def last_first(queries, codes, k, variant):
        distances, indices = plain(queries, np.ascontiguousarray(codes[::-1]), k, variant)
        return distances, len(codes) - 1 - indices

    monkeypatch.setattr(faiss, "knn_hamming", last_first)
    monkeypatch.setattr(_backends, "_WORTH_FAISS", 1)
    with pytest.raises(ImportError, match="order of the database"):
        HammingNeighbors(backend="faiss").fit(make_codes(20, 16))
    assert HammingNeighbors().fit(make_codes(20, 16)).backend_ == "numpy"


@needs_faiss
def test_faiss_leaves_many_neighbors_of_long_codes_to_numpy(monkeypatch):
    codes = make_codes(100, 40)
    expected = HammingNeighbors(backend="numpy").fit(codes).kneighbors()
    neighbors = HammingNeighbors(backend="faiss").fit(codes)
    monkeypatch.setattr(_backends.FaissBackend, "_QUERY_MEMORY", 0)
    monkeypatch.setattr(faiss, "knn_hamming", None)
    assert_array_equal(neighbors.kneighbors(), expected)


@needs_faiss
def test_faiss_runs_in_one_thread_and_its_setting_is_restored(monkeypatch):
    neighbors = HammingNeighbors(backend="faiss").fit(make_codes(50, 16))
    before = faiss.omp_get_max_threads()
    seen = []

    def fail(*args, **kwargs):
        seen.append(faiss.omp_get_max_threads())
        raise MemoryError

    try:
        faiss.omp_set_num_threads(3)
        neighbors.kneighbors()
        neighbors.radius_neighbors()
        assert faiss.omp_get_max_threads() == 3
        monkeypatch.setattr(faiss, "knn_hamming", fail)
        monkeypatch.setattr(faiss, "hamming_range_search", fail)
        for method in (neighbors.kneighbors, neighbors.radius_neighbors):
            with pytest.raises(MemoryError):
                method()
        assert seen == [1, 1]
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_importing_loads_neither_faiss_nor_torch():
    code = "import sys, skhash.neighbors; print({'faiss', 'torch'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


# Conventions of scikit-learn


class TestCommonChecks:
    @pytest.fixture(autouse=True)
    def codes_are_signs(self, monkeypatch):
        """The checks feed real values: let their signs be the codes."""
        monkeypatch.setattr(_hamming, "check_codes", lambda X, name: (X > 0).astype(np.uint8))

    @parametrize_with_checks([HammingNeighbors()])
    def test_estimator(self, estimator, check):
        check(estimator)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("copy", [deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_search_alike(copy, backend):
    neighbors = HammingNeighbors(3, backend=backend).fit(make_codes(50, 20))
    again = copy(neighbors)
    assert_array_equal(again.kneighbors(), neighbors.kneighbors())
    assert again.backend_ == backend


def test_clone_is_not_fitted():
    neighbors = clone(HammingNeighbors(3, radius=4, packed=True).fit(pack(make_codes(9, 8))))
    assert neighbors.get_params() == HammingNeighbors(3, radius=4, packed=True).get_params()
    assert not hasattr(neighbors, "packed_codes_")


@pytest.mark.parametrize(
    "method", ["kneighbors", "radius_neighbors", "kneighbors_graph", "radius_neighbors_graph"]
)
def test_searching_unfitted_is_an_error(method):
    with pytest.raises(NotFittedError):
        getattr(HammingNeighbors(), method)(np.eye(3))


def test_saving_unfitted_is_an_error(tmp_path):
    with pytest.raises(NotFittedError):
        HammingNeighbors().save(tmp_path / "codes")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_fit_does_not_count():
    neighbors = HammingNeighbors()
    with pytest.raises(ValueError, match="X must hold only 0 and 1"):
        neighbors.fit(2 * np.eye(3))
    with pytest.raises(NotFittedError):
        neighbors.kneighbors()


# Bad input


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_neighbors": 0}, "'n_neighbors'"),
        ({"n_neighbors": 1.5}, "'n_neighbors'"),
        ({"radius": -1}, "'radius'"),
        ({"radius": np.nan}, "'radius'"),
        ({"backend": "annoy"}, "'backend'"),
        ({"packed": "yes"}, "'packed'"),
        ({"n_bits": 0}, "'n_bits'"),
        ({"n_bits": True}, "'n_bits'"),
        ({"n_neighbors": True}, "'n_neighbors'"),
        ({"radius": True}, "'radius'"),
        ({"n_jobs": True}, "'n_jobs'"),
        ({"n_bits": 8}, "X has 7 columns, but n_bits=8"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        HammingNeighbors(**params).fit(make_codes(10, 7))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.full((5, 7), 2), ValueError, "X must hold only 0 and 1"),
        (np.full((5, 7), -1), ValueError, "X must hold only 0 and 1"),
        (np.full((5, 7), 0.5), ValueError, "X must hold only 0 and 1"),
        (np.full((5, 7), np.nan), ValueError, "X contains NaN"),
        (np.full((5, 7), "a"), ValueError, "arrays? of bytes/strings"),
        (np.zeros((0, 7), int), ValueError, "X has 0 samples"),
        (np.zeros((5, 0), int), ValueError, "0 feature"),
        (np.zeros(7, int), ValueError, "2D array"),
    ],
)
def test_bad_codes_are_refused(X, error, message):
    with pytest.raises(error, match=message):
        HammingNeighbors().fit(X)
    neighbors = HammingNeighbors().fit(make_codes(10, 7))
    for method in (neighbors.kneighbors, neighbors.radius_neighbors):
        with pytest.raises(error, match=message):
            method(X)


def test_queries_of_another_length_are_refused():
    with pytest.raises(ValueError, match="X has 8 features, but HammingNeighbors is expecting 7"):
        HammingNeighbors().fit(make_codes(10, 7)).kneighbors(make_codes(2, 8))


@pytest.mark.parametrize(
    ("X", "n_bits", "error", "message"),
    [
        (
            np.zeros((5, 2), np.uint8),
            17,
            ValueError,
            "X has 2 bytes per code, but .* n_bits=17 have 3",
        ),
        (
            np.zeros((5, 2), np.uint8),
            8,
            ValueError,
            "X has 2 bytes per code, but .* n_bits=8 have 1",
        ),
        (np.full((5, 2), 1, np.uint8), 15, ValueError, "X has bits set beyond .* n_bits=15"),
        (np.zeros((5, 2), np.int64), None, TypeError, "X must be packed codes of dtype uint8"),
        (np.zeros((0, 2), np.uint8), None, ValueError, "X has 0 samples"),
    ],
)
def test_bad_packed_codes_are_refused(X, n_bits, error, message):
    with pytest.raises(error, match=message):
        HammingNeighbors(packed=True, n_bits=n_bits).fit(X)


def test_packed_queries_with_bits_beyond_the_code_are_refused():
    neighbors = HammingNeighbors(packed=True, n_bits=15).fit(pack(make_codes(10, 15)))
    with pytest.raises(ValueError, match="X has bits set beyond"):
        neighbors.kneighbors(np.ones((1, 2), np.uint8))


def test_bad_arguments_of_a_search_are_named():
    codes = make_codes(10, 7)
    neighbors = HammingNeighbors().fit(codes)
    for k in (0, -1, 11):
        with pytest.raises(ValueError, match="n_neighbors must be between 1 and 10"):
            neighbors.kneighbors(codes, k)
    with pytest.raises(ValueError, match="n_neighbors must be between 1 and 9"):
        neighbors.kneighbors_graph(n_neighbors=10)
    with pytest.raises(TypeError, match="n_neighbors must be an integer"):
        neighbors.kneighbors(codes, 2.0)
    for radius in (-1, -0.5, np.nan):
        with pytest.raises(ValueError, match="radius must be"):
            neighbors.radius_neighbors(codes, radius)
    with pytest.raises(TypeError, match="radius must be a number"):
        neighbors.radius_neighbors_graph(codes, "2")
    for method in (neighbors.kneighbors_graph, neighbors.radius_neighbors_graph):
        with pytest.raises(ValueError, match="mode must be"):
            method(mode="weights")


def test_one_code_has_no_neighbors_but_itself():
    neighbors = HammingNeighbors(1).fit([[0, 1, 1]])
    assert neighbors.kneighbors([[1, 1, 1]]) == (1, 0)
    assert neighbors.radius_neighbors(radius=3)[1][0].size == 0
    with pytest.raises(ValueError, match="n_neighbors must be between 1 and 0"):
        neighbors.kneighbors()


def test_names_of_the_samples_are_not_ignored_in_silence(tmp_path):
    codes = make_codes(4, 7)
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    for given in (names, np.array(names), [tmp_path / name for name in names]):
        with pytest.warns(UserWarning, match="y is ignored: .* row numbers") as caught:
            HammingNeighbors().fit(codes, given)
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "tags",
    [
        None,
        [["sea"], ["sky"], ["sun"], ["sand"]],
        ["sea", "sky", "sea", "sky"],
        np.arange(4),
        sp.csr_array(np.eye(4)),
        np.eye(4),
        "four",
    ],
)
def test_tags_are_handed_on_by_a_pipeline_and_ignored(tags):
    X = np.random.default_rng(0).standard_normal((4, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = make_pipeline(Binarizer(), HammingNeighbors()).fit(X, tags)
    assert pipeline[-1].n_samples_fit_ == 4


def test_codes_of_unreadable_samples_are_refused():
    codes = make_codes(9, 7)
    neighbors = HammingNeighbors(2).fit(codes)
    codes[[3, 5]] = MISSING
    for call in (neighbors.kneighbors, neighbors.radius_neighbors, HammingNeighbors().fit):
        with pytest.raises(ValueError, match=r"X has 2 row.* read: 3, 5.*missing_rows"):
            call(codes)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_bits", [65_536, 70_001])
def test_distances_of_very_long_codes_do_not_overflow(n_bits, backend):
    codes = np.zeros((3, n_bits), np.uint8)
    codes[1] = 1
    codes[2, :5] = 1
    neighbors = HammingNeighbors(3, backend=backend).fit(codes)
    distances, indices = neighbors.kneighbors(codes[:1])
    assert distances.tolist() == [[0, 5, n_bits]]
    assert indices.tolist() == [[0, 2, 1]]
    distances, indices = neighbors.radius_neighbors(codes[:1], radius=n_bits - 1)
    assert distances[0].tolist() == [0, 5]
    assert indices[0].tolist() == [0, 2]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("packed", [False, True])
def test_the_layout_of_codes_in_memory_does_not_matter(packed, backend):
    codes = make_codes(50, 24)
    if packed:
        codes = pack(codes)
    expected = HammingNeighbors(packed=packed, backend=backend).fit(codes).kneighbors(codes)
    read_only = codes.copy()
    read_only.flags.writeable = False
    for same in (codes[::-1, ::-1].copy()[::-1, ::-1], np.asfortranarray(codes), read_only):
        neighbors = HammingNeighbors(packed=packed, backend=backend).fit(same)
        assert_array_equal(neighbors.kneighbors(same), expected)


# Files


@pytest.fixture
def saved(tmp_path):
    neighbors = HammingNeighbors(3, radius=4.5, backend="numpy").fit(make_codes(30, 13))
    neighbors.save(tmp_path / "codes")
    return neighbors, tmp_path / "codes"


@pytest.mark.parametrize("mmap_mode", [None, "r"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("packed", [False, True])
def test_load_gives_back_what_was_saved(packed, backend, mmap_mode, tmp_path):
    codes = make_codes(30, 13)
    neighbors = HammingNeighbors(
        np.int64(3), radius=np.float32(4.5), backend=backend, packed=packed, n_bits=13
    ).fit(pack(codes) if packed else codes)
    neighbors.save(str(tmp_path / "codes"))
    again = HammingNeighbors.load(tmp_path / "codes", mmap_mode=mmap_mode)
    assert again.get_params() == neighbors.get_params()
    for name in ("n_bits_", "n_samples_fit_", "n_features_in_", "backend_"):
        assert getattr(again, name) == getattr(neighbors, name)
    assert isinstance(again.packed_codes_, np.memmap) == (mmap_mode == "r")
    assert_array_equal(again.packed_codes_, pack(codes))
    assert_array_equal(again.kneighbors(), neighbors.kneighbors())
    queries = neighbors.packed_codes_ if packed else codes
    assert_array_equal(again.kneighbors(queries), neighbors.kneighbors(queries))


def test_load_can_change_the_backend(saved, monkeypatch, forget_faiss):
    # Or else codes saved with faiss were out of reach where there is none.
    neighbors, path = saved
    neighbors.set_params(backend="faiss").save(path)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="faiss"):
        HammingNeighbors.load(path)
    again = HammingNeighbors.load(path, backend="numpy")
    assert again.backend == again.backend_ == "numpy"
    assert_array_equal(again.kneighbors(), neighbors.kneighbors())
    with pytest.raises(ValueError, match="'backend'"):
        HammingNeighbors.load(path, backend="annoy")


def test_a_memory_mapped_estimator_can_be_saved_onto_its_own_file_and_pickled(saved):
    neighbors, path = saved
    mapped = HammingNeighbors.load(path, mmap_mode="r")
    mapped.save(path)
    assert_array_equal(mapped.kneighbors(), neighbors.kneighbors())
    assert_array_equal(HammingNeighbors.load(path).kneighbors(), neighbors.kneighbors())
    assert_array_equal(pickle.loads(pickle.dumps(mapped)).kneighbors(), neighbors.kneighbors())


def test_load_gives_back_the_names_of_columns(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(make_codes(30, 4), columns=[f"itq{i}" for i in range(4)])
    neighbors = HammingNeighbors().fit(frame)
    neighbors.save(tmp_path / "codes")
    again = HammingNeighbors.load(tmp_path / "codes")
    assert_array_equal(again.feature_names_in_, neighbors.feature_names_in_)
    assert_array_equal(again.kneighbors(frame), neighbors.kneighbors(frame))
    with pytest.raises(ValueError, match="feature names"):
        again.kneighbors(frame.rename(columns={"itq0": "lsh0"}))


@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_any_changed_byte_is_refused(saved, mmap_mode):
    _, path = saved
    content = path.read_bytes()
    for i in range(len(content)):
        for change in (0x01, 0x80):
            path.write_bytes(content[:i] + bytes([content[i] ^ change]) + content[i + 1 :])
            with pytest.raises(ValueError) as caught:
                HammingNeighbors.load(path, mmap_mode=mmap_mode)
            assert str(path) in str(caught.value)


@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_any_truncation_is_refused(saved, mmap_mode):
    _, path = saved
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="is truncated: it has") as caught:
            HammingNeighbors.load(path, mmap_mode=mmap_mode)
        assert str(path) in str(caught.value)


def test_other_files_are_refused(saved, tmp_path):
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="is corrupt"):
        HammingNeighbors.load(path)
    path.write_bytes(content.replace(b"\r\n", b"\n"))
    with pytest.raises(ValueError, match="is not a file of HammingNeighbors"):
        HammingNeighbors.load(path)
    path.write_bytes(pickle.dumps(HammingNeighbors()))
    with pytest.raises(ValueError, match="is not a file of HammingNeighbors"):
        HammingNeighbors.load(path)
    path.write_bytes(content[:8] + bytes([9]) + content[9:])
    with pytest.raises(ValueError, match="has version 9"):
        HammingNeighbors.load(path)
    with pytest.raises(FileNotFoundError):
        HammingNeighbors.load(tmp_path / "absent")
    with pytest.raises(ValueError, match="mmap_mode"):
        HammingNeighbors.load(path, mmap_mode="r+")


@pytest.mark.parametrize(
    "change",
    [
        {"n_samples": 31},
        {"n_samples": -1},
        {"n_samples": 0},
        {"n_samples": 30.0},
        {"n_samples": 10**4000},
        {"n_samples": float("nan")},
        {"n_samples": None},
        {"n_bits": 17},
        {"n_bits": 12},
        {"n_bits": "13"},
        {"n_bits": 10**4000},
        {"n_bits": True},
        {"feature_names": 13},
        {"feature_names": ["a"]},
        {"feature_names": [["a"]] * 13},
        {"params": {"n_bits": 14}},
        {"params": {"radius": float("nan")}},
        {"params": []},
        {"params": {"n_neighbors": 0}},
        {"params": {"metric": "cosine"}},
        {"params": None},
    ],
)
def test_a_sound_file_with_a_senseless_header_is_refused(saved, change):
    _, path = saved
    header, payload = _files.read_bytes(path)
    _files.write_bytes(path, header | change, [payload], version=1)
    with pytest.raises(ValueError, match="invalid header") as caught:
        HammingNeighbors.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"n_samples": ' + b"9" * 5000 + b"}",
        b'{"n_samples": 30, "n_samples": 30}',
        b"[]",
        b"null",
        b"",
        b"{",
        b"\xff\xfe",
    ],
)
def test_a_header_that_is_no_json_object_is_refused(saved, text, monkeypatch):
    _, path = saved
    _, payload = _files.read_bytes(path)
    header = SimpleNamespace(encode=lambda: text)
    with monkeypatch.context() as patch:
        patch.setattr(_files.json, "dumps", lambda _: header)
        _files.write_bytes(path, {}, [payload], version=1)
    with pytest.raises(ValueError, match="invalid header") as caught:
        HammingNeighbors.load(path)
    assert str(path) in str(caught.value)


def test_what_is_no_regular_file_is_refused(tmp_path):
    paths = [tmp_path]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer for ever
        paths.append(tmp_path / "pipe")
    for path in paths:
        with pytest.raises(OSError) as caught:
            HammingNeighbors.load(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_alone(saved, monkeypatch, step, error):
    neighbors, path = saved
    content = path.read_bytes()

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(error)):
            neighbors.fit(make_codes(40, 13)).save(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]
    neighbors.save(path)
    assert HammingNeighbors.load(path).n_samples_fit_ == 40


def test_a_save_cut_off_midway_leaves_the_old_file_alone(saved):
    resource = pytest.importorskip("resource")
    _, path = saved
    content = path.read_bytes()
    larger = HammingNeighbors(backend="numpy").fit(make_codes(20_000, 64))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            larger.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_save_through_a_link_replaces_the_file_it_leads_to(saved, tmp_path):
    neighbors, path = saved
    link = tmp_path / "link"
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("links cannot be made here")
    neighbors.fit(make_codes(40, 13)).save(link)
    assert link.is_symlink()
    assert HammingNeighbors.load(path).n_samples_fit_ == 40

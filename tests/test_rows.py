"""Features that are read by blocks: in half precision, from a file, and never copied whole."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.utils import check_array

import skhash
from skhash import _kernel_features, _rows, graphs
from skhash._ridge import RidgePath
from skhash._rows import CastRows, TakenRows, open_rows, row_blocks, summarise_columns
from skhash._spectrum import scatter_spectrum
from skhash.dstdh import _alm
from skhash.graphs import anchor_graph, concept_hypergraph
from skhash.networks import _extract
from skhash.tags import encode_tags
from skhash.unsupervised import _itq

FAST = {"n_bits": 8, "random_state": 0}
MAKE = {
    "itq": lambda: skhash.ITQ(**FAST),
    "pcah": lambda: skhash.PCAH(8),
    "lsh": lambda: skhash.LSH(**FAST),
    "tag-itq": lambda: skhash.TagITQ(**FAST, n_anchors=50),
    "tag-itq-linear": lambda: skhash.TagITQ(**FAST, kernel=None),
    "dstdh": lambda: skhash.DSTDHLinear(**FAST, n_anchors=20, n_concepts=40),
    "dstdh-from-itq": lambda: skhash.DSTDHLinear(**FAST, n_concepts=40, init="itq"),
    "network": lambda: skhash.TagITQHasher(**FAST, max_epochs=1),
    "wp": lambda: skhash.WeaklySupervisedHasher(
        skhash.DSHHasher(8, max_epochs=1),
        skhash.SemanticSpace(8, embedding="ppmi"),
        max_epochs=2,
        random_state=0,
    ),
}


@pytest.fixture
def photos(rng):
    """Features in half precision, tags by cluster and at random."""
    cluster = rng.integers(6, size=600)
    X = np.maximum(rng.normal(size=(6, 24))[cluster] + rng.normal(size=(600, 24)), 0)
    noise = rng.integers(6, 12, size=600)
    tags = [[f"tag{k}", f"tag{n}"] for k, n in zip(cluster, noise, strict=True)]
    return X.astype(np.float16), tags


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of few rows, so that there are many."""
    monkeypatch.setattr(_rows, "_BLOCK_BYTES", 8 * 24 * 70)
    for module in (_alm, _itq, graphs, _kernel_features):
        monkeypatch.setattr(module, "_BLOCK_ROWS", 90)
    monkeypatch.setattr(_kernel_features, "_MOST_BYTES", 0)


def mapped(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


@pytest.mark.parametrize("name", MAKE)
def test_half_precision_counts_as_single(name, photos):
    X, tags = photos
    single = MAKE[name]().fit(X.astype(np.float32), tags)
    half = MAKE[name]().fit(X, tags)
    expected = single.decision_function(X.astype(np.float32))
    assert expected.dtype == np.float32
    for hasher in (single, half):
        assert_array_equal(hasher.decision_function(X), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("name", MAKE)
def test_a_memory_map_counts_as_its_array(name, dtype, photos, tmp_path):
    X, tags = photos[0].astype(dtype), photos[1]
    values = MAKE[name]().fit(X, tags).decision_function(X)
    there = mapped(X, tmp_path)
    assert_array_equal(MAKE[name]().fit(there, tags).decision_function(there), values)


@pytest.mark.parametrize("name", MAKE)
def test_the_size_of_blocks_makes_no_difference_but_rounding(name, photos, request):
    X, tags = photos
    codes = MAKE[name]().fit(X, tags).transform(X)
    request.getfixturevalue("small_blocks")
    assert np.mean(MAKE[name]().fit(X, tags).transform(X) == codes) > 0.99


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_half_precision_is_checked_too(bad, photos):
    X, tags = photos
    hasher = MAKE["dstdh"]().fit(X, tags)
    X = X.copy()
    X[500, 3] = bad
    with pytest.raises(ValueError, match="Input X contains"):
        MAKE["dstdh"]().fit(X, tags)
    with pytest.raises(ValueError, match="Input X contains"):
        hasher.transform(X)
    with pytest.raises(ValueError, match="24 features"):
        hasher.transform(X[:100, :5])


BIG = {
    "itq": lambda: skhash.ITQ(8),
    "tag-itq-linear": lambda: skhash.TagITQ(8, kernel=None),
    "dstdh": lambda: skhash.DSTDHLinear(8, n_anchors=5, n_concepts=5),
    "wp": lambda: skhash.WeaklySupervisedHasher(
        skhash.DSHHasher(8),
        skhash.SemanticSpace(4, embedding="ppmi"),
        max_epochs=1,
        batch_size=256,
        random_state=0,
    ),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("name", BIG)
def test_features_are_never_copied_whole(name, dtype, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(_rows, "_BLOCK_BYTES", 2**20)
    monkeypatch.setattr(graphs, "_BLOCK_ROWS", 1000)
    monkeypatch.setattr(_extract, "_HEAD_BATCH", 1000)
    X = rng.standard_normal((20_000, 400), np.float32).astype(dtype)
    X[:10_000, :50] += 1
    tags = [["one"], ["other"]] * 10_000
    tags[:10_000] = [["one", "both"]] * 10_000
    there = mapped(X, tmp_path)
    n_bytes = X.size * 2  # in half precision, whatever it is
    del X
    tags = encode_tags(tags)
    some = np.arange(9_900, 10_100)
    BIG[name]().fit(there[some], tags.indicator[some])  # which loads libraries
    tracemalloc.start()
    try:
        hasher = BIG[name]().fit(there, tags)
        _, in_fit = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        hasher.transform(there)
        _, in_transform = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(in_fit, in_transform) < 0.7 * n_bytes


# -------------------------------------------------------------------------------- the mechanism


def test_rows_are_the_matrix_that_they_stand_for(photos, small_blocks):
    X, _ = photos
    single, order = X.astype(np.float32), np.arange(0, 600, 7)[::-1]
    for rows, whole in (
        (CastRows(X, np.float32), single),
        (TakenRows(CastRows(X, np.float32), order), single[order]),
        (TakenRows(single, order), single[order]),
        (open_rows(check_array, X), single),
    ):
        assert (rows.shape, rows.dtype, len(rows)) == (whole.shape, whole.dtype, len(whole))
        assert_array_equal(rows[:], whole)
        assert_array_equal(rows[np.array([3, 1, 1])], whole[[3, 1, 1]])
        blocks = list(row_blocks(rows))
        assert len(blocks) > 1
        assert_array_equal(np.concatenate([block for _, block in blocks]), whole)
        columns = summarise_columns(rows)
        assert_array_equal(columns.low, whole.min(axis=0))
        assert_array_equal(columns.high, whole.max(axis=0))
        np.testing.assert_allclose(columns.mean, whole.mean(axis=0, dtype=float), rtol=1e-12)
    assert open_rows(check_array, single) is single


def test_regression_and_spectrum_of_blocks_are_those_of_the_whole(photos, small_blocks, rng):
    X = photos[0].astype(np.float64)
    mean, values, directions = scatter_spectrum(X)
    centred = X - X.mean(axis=0)
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(directions.T * values @ directions, centred.T @ centred, atol=1e-8)
    T = rng.normal(size=(600, 3)) + [1, 2, 3]
    of = RidgePath(X).moments(T)
    np.testing.assert_allclose(of.mean, T.mean(axis=0), rtol=1e-12)
    assert of.squares == pytest.approx(np.square(T).sum())
    assert of.total == pytest.approx(np.square(T - T.mean(axis=0)).sum())


def test_a_large_incidence_is_kept_in_half_precision(photos, monkeypatch):
    X, tags = photos
    Y = encode_tags(tags).indicator
    single = concept_hypergraph(X, Y, 30, random_state=0)
    monkeypatch.setattr(graphs, "_MOST_BYTES", 4 * 600 * 30 - 1)
    half = concept_hypergraph(X, Y, 30, random_state=0)
    assert single.incidence.dtype == np.float32
    assert half.incidence.dtype == np.float16
    np.testing.assert_allclose(half.incidence, single.incidence, rtol=1e-3)
    M = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    np.testing.assert_allclose(half @ M, single @ M, atol=1e-3)
    np.testing.assert_allclose(half @ half.trivial, half.trivial, atol=1e-3)
    # However far from all concepts, no image is without any.
    far = concept_hypergraph(X, Y, 30, bandwidth=1e-3, random_state=0)
    assert (far.incidence > 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_graphs_take_half_precision_by_blocks(dtype, photos, small_blocks):
    X, tags = photos
    Y = encode_tags(tags).indicator
    eye = np.eye(600, dtype=np.float32)
    for graph, expected in (
        (anchor_graph(X.astype(dtype), 20, random_state=0), anchor_graph(X, 20, random_state=0)),
        (
            concept_hypergraph(X.astype(dtype), Y, 20, random_state=0),
            concept_hypergraph(X, Y, 20, random_state=0),
        ),
    ):
        np.testing.assert_allclose(graph @ eye, expected @ eye, atol=1e-4)
        blocks = [graph.block(slice(start, start + 200)) for start in range(0, 600, 200)]
        G = np.concatenate(blocks)
        np.testing.assert_allclose(G * graph.weights @ G.T, graph @ eye, atol=1e-5)

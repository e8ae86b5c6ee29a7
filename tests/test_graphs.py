"""The graphs' operators against the n x n formulas of the paper, written out."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import eigsh
from scipy.spatial.distance import cdist

from skhash import graphs
from skhash.graphs import AnchorGraph, ConceptHypergraph, anchor_graph, concept_hypergraph
from skhash.tags import encode_tags

N_SAMPLES, N_FEATURES, N_TAGS = 60, 5, 7
NO_TAGS = sp.csr_array((N_SAMPLES, 0), dtype=np.float32)


@pytest.fixture
def X(rng):
    return rng.normal(size=(N_SAMPLES, N_FEATURES)) + 1


@pytest.fixture
def tags(rng):
    return sp.csr_array((rng.random((N_SAMPLES, N_TAGS)) < 0.2).astype(np.float32))


@pytest.fixture
def centres(monkeypatch):
    """The centres that k-means found, in the order of the calls."""
    found = []
    find = graphs._centres

    def find_and_keep(*args):
        found.append(find(*args))
        return found[-1]

    monkeypatch.setattr(graphs, "_centres", find_and_keep)
    return found


def dense(graph):
    """The n x n matrix that an operator stands for."""
    return graph @ np.eye(graph.shape[0])


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def dense_anchor_graph(X, anchors, n_neighbors=2, bandwidth=None):
    """V Lambda^-1 V' with every matrix in full."""
    distances = cdist(unit(X), anchors)
    nearest = np.argsort(distances, axis=1)[:, :n_neighbors]
    if bandwidth is None:
        bandwidth = np.mean([row[near[-1]] for row, near in zip(distances, nearest, strict=True)])
    V = np.zeros_like(distances)
    for i, near in enumerate(nearest):
        V[i, near] = np.exp(-(distances[i, near] ** 2) / bandwidth**2)
        V[i] /= V[i].sum()
    Lambda = np.diag(V.sum(axis=0))
    return V @ np.linalg.pinv(Lambda) @ V.T


def dense_hypergraph(stack, concepts, bandwidth=None):
    """Dv^-1/2 H Dw De^-1 H' Dv^-1/2 with every matrix in full."""
    distances = cdist(stack, concepts)
    if bandwidth is None:
        bandwidth = distances.min(axis=1).mean()
    H = np.exp(-(distances**2) / (2 * bandwidth**2))
    Dv, Dw, De = np.diag(H.sum(axis=1)), np.eye(H.shape[1]), np.diag(H.sum(axis=0))
    root = np.linalg.inv(np.sqrt(Dv))
    return root @ H @ Dw @ np.linalg.inv(De) @ H.T @ root


def make(kind, X, tags, **arguments):
    arguments = {"random_state": 0, **arguments}
    if kind == "anchor":
        return anchor_graph(X, 8, **arguments)
    return concept_hypergraph(X, tags, 8, **arguments)


both = pytest.mark.parametrize("kind", ["anchor", "hypergraph"])

# ------------------------------------------------------------------------ the formulas


@pytest.mark.parametrize("n_neighbors", [1, 2, 4])
@pytest.mark.parametrize("bandwidth", [None, 0.3])
def test_the_anchor_graph_is_the_formula_of_the_paper(X, centres, n_neighbors, bandwidth):
    graph = anchor_graph(X, 8, n_neighbors=n_neighbors, bandwidth=bandwidth, random_state=0)
    expected = dense_anchor_graph(X, centres[0], n_neighbors, bandwidth)
    np.testing.assert_allclose(dense(graph), expected, atol=1e-6)
    assert (np.diff(graph.similarities.indptr) == n_neighbors).all()


@pytest.mark.parametrize("bandwidth", [None, 0.8])
@pytest.mark.parametrize("tag_scale", [1.0, 0.3])
def test_the_hypergraph_is_the_formula_of_the_paper(X, tags, centres, bandwidth, tag_scale):
    graph = concept_hypergraph(X, tags, 8, bandwidth=bandwidth, tag_scale=tag_scale, random_state=0)
    stack = np.hstack([unit(X), tag_scale * tags.toarray()])
    expected = dense_hypergraph(stack, centres[0], bandwidth)
    np.testing.assert_allclose(dense(graph), expected, atol=1e-6)


@both
def test_many_samples_are_worked_on_in_blocks_and_clustered_in_part(
    monkeypatch, X, tags, centres, kind
):
    monkeypatch.setattr(graphs, "_BLOCK_ROWS", 7)
    monkeypatch.setattr(graphs, "_SAMPLES_PER_CENTRE", 3)
    sizes = []
    find = graphs._centres
    monkeypatch.setattr(
        graphs, "_centres", lambda sample, *rest: sizes.append(len(sample)) or find(sample, *rest)
    )
    graph = make(kind, X, tags)
    assert sizes == [24]
    if kind == "anchor":
        expected = dense_anchor_graph(X, centres[0])
    else:
        expected = dense_hypergraph(np.hstack([unit(X), tags.toarray()]), centres[0])
    np.testing.assert_allclose(dense(graph), expected, atol=1e-6)


def test_anchors_and_concepts_are_means_of_the_samples_nearest_them(X, tags, centres):
    anchor_graph(X, 6, max_iter=300, random_state=0)
    concept_hypergraph(X, tags, 6, max_iter=300, random_state=0)
    for samples, found in zip(
        (unit(X), np.hstack([unit(X), tags.toarray()])), centres, strict=True
    ):
        nearest = cdist(samples, found).argmin(axis=1)
        means = [samples[nearest == j].mean(axis=0) for j in range(6)]
        np.testing.assert_allclose(found, means, atol=1e-5)


@both
def test_operators_are_symmetric_with_eigenvalues_from_0_to_1(X, tags, kind):
    graph = make(kind, X, tags)
    S = dense(graph)
    np.testing.assert_allclose(S, S.T, atol=1e-6)
    eigenvalues = np.linalg.eigvalsh(S)
    assert eigenvalues.min() > -1e-6
    assert eigenvalues.max() == pytest.approx(1, abs=1e-5)
    assert (eigenvalues > 1e-6).sum() <= 8


def test_constant_vectors_are_fixed_points_of_the_anchor_graph(X):
    constant = np.full((N_SAMPLES, 3), 2.5)
    np.testing.assert_allclose(make("anchor", X, None) @ constant, constant, rtol=1e-5)


@both
def test_the_trivial_direction_is_the_eigenvector_of_eigenvalue_1(X, tags, kind):
    graph = make(kind, X, tags)
    assert np.linalg.norm(graph.trivial) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(graph @ graph.trivial, graph.trivial, atol=1e-6)
    value, vector = eigsh(graph, k=1)
    assert value[0] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(np.abs(vector[:, 0]), graph.trivial, atol=1e-3)


@both
def test_products_with_vectors_matrices_and_transposes_agree(rng, X, tags, kind):
    graph = make(kind, X, tags)
    M = rng.normal(size=(N_SAMPLES, 3)).astype(np.float32)
    product = graph @ M
    assert product.dtype == graph.dtype == np.float32
    np.testing.assert_allclose(product, dense(graph) @ M, atol=1e-5)
    for other in (graph.T, graph.H):
        np.testing.assert_array_equal(other @ M, product)
    np.testing.assert_allclose(graph @ M[:, 0], product[:, 0], atol=1e-6)


@both
def test_the_random_state_decides(X, tags, kind):
    np.testing.assert_array_equal(dense(make(kind, X, tags)), dense(make(kind, X, tags)))
    assert (dense(make(kind, X, tags, random_state=1)) != dense(make(kind, X, tags))).any()


# ---------------------------------------------------------------- what samples are alike


@both
def test_samples_of_a_cluster_are_tied_and_others_are_not(rng, kind):
    cluster = np.arange(N_SAMPLES) % 2
    X = np.eye(2)[cluster] + 0.05 * rng.normal(size=(N_SAMPLES, 2))
    graph = make(kind, X, sp.csr_array(np.eye(2, dtype=np.float32)[cluster]))
    S = dense(graph)
    same = cluster[:, None] == cluster
    assert S[same].mean() > 20 * abs(S[~same].mean())


def test_tags_tie_samples_that_look_different(rng, X):
    topic = np.arange(N_SAMPLES) % 3
    tags = sp.csr_array(np.eye(3, dtype=np.float32)[topic])
    same = topic[:, None] == topic
    by_tags = dense(concept_hypergraph(X, tags, 8, random_state=0))
    by_looks = dense(concept_hypergraph(X, NO_TAGS, 8, random_state=0))
    assert by_tags[same].mean() > 2 * by_tags[~same].mean()
    assert by_looks[same].mean() < 1.5 * by_looks[~same].mean()


def test_tags_of_scale_zero_are_no_tags(X, tags):
    scaled = concept_hypergraph(X, tags, 8, tag_scale=0, random_state=0)
    np.testing.assert_allclose(
        dense(scaled), dense(concept_hypergraph(X, NO_TAGS, 8, random_state=0)), atol=1e-5
    )


def test_the_wide_bandwidth_of_the_authors_program_ties_all_samples_alike(X, tags):
    wide = concept_hypergraph(X, tags, 8, bandwidth=40, random_state=0)
    assert wide.incidence.min() > 0.99
    np.testing.assert_allclose(dense(wide), 1 / N_SAMPLES, rtol=0.01)
    narrow = concept_hypergraph(X, tags, 8, random_state=0)
    assert narrow.incidence.min() < 0.5
    assert dense(narrow).max() > 2 / N_SAMPLES


def test_a_narrow_bandwidth_leaves_no_sample_without_a_hyperedge(X, tags):
    graph = concept_hypergraph(X, tags, 8, bandwidth=1e-3, random_state=0)
    assert (graph.incidence > 0).all()
    assert np.isfinite(dense(graph)).all()
    np.testing.assert_allclose(graph @ graph.trivial, graph.trivial, atol=1e-6)


def test_a_narrow_bandwidth_ties_a_sample_to_its_nearest_anchor(X, centres):
    graph = anchor_graph(X, 8, bandwidth=1e-3, random_state=0)
    nearest = cdist(unit(X), centres[0]).argmin(axis=1)
    np.testing.assert_allclose(graph.similarities.toarray(), np.eye(8)[nearest], atol=1e-6)


def test_more_tags_than_fit_are_projected_to_the_same_distances(monkeypatch, rng, X):
    topic = np.arange(N_SAMPLES) % 3
    words = [[f"{topic[i]}-{k}" for k in rng.permutation(1000)[:600]] for i in range(N_SAMPLES)]
    tags = encode_tags(words).indicator
    assert tags.shape[1] > graphs._MAX_TAG_COLUMNS
    projected = dense(concept_hypergraph(X, tags, 8, random_state=0))
    np.testing.assert_array_equal(dense(concept_hypergraph(X, tags, 8, random_state=0)), projected)
    monkeypatch.setattr(graphs, "_MAX_TAG_COLUMNS", tags.shape[1])
    exact = dense(concept_hypergraph(X, tags, 8, random_state=0))
    assert (projected != exact).any()
    same = topic[:, None] == topic
    assert exact[same].mean() > 2 * exact[~same].mean()
    for part in (same, ~same):
        assert projected[part].mean() == pytest.approx(exact[part].mean(), rel=0.1)


@both
def test_the_scale_of_the_features_does_not_matter(X, tags, kind):
    expected = dense(make(kind, X, tags))
    for scale in (1e-9, 10, 1e30):
        np.testing.assert_allclose(dense(make(kind, X * scale, tags)), expected, atol=1e-5)
    rows = np.random.default_rng(1).uniform(0.1, 10, size=(N_SAMPLES, 1))
    np.testing.assert_allclose(dense(make(kind, X * rows, tags)), expected, atol=1e-5)


@both
def test_features_are_not_changed(X, tags, kind):
    for dtype in (np.float32, np.float64):
        features = X.astype(dtype)
        make(kind, features, tags)
        np.testing.assert_array_equal(features, X.astype(dtype))


# --------------------------------------------------------------------------- odd inputs


def test_anchors_without_samples_take_no_part():
    V = sp.csr_array(([1, 0.5, 0.5], ([0, 1, 1], [0, 0, 2])), shape=(2, 4), dtype=np.float32)
    graph = AnchorGraph(V)
    expected = [[1 / 1.5, 0.5 / 1.5], [0.5 / 1.5, 0.25 / 1.5 + 0.25 / 0.5]]
    np.testing.assert_allclose(dense(graph), expected, rtol=1e-6)
    np.testing.assert_allclose(graph @ np.ones(2), 1, rtol=1e-5)


@both
def test_duplicate_samples_have_the_same_rows(X, tags, kind):
    rows = np.arange(N_SAMPLES) % 12
    S = dense(make(kind, X[rows], tags[rows]))
    np.testing.assert_allclose(S[:12], S[12:24], atol=1e-5)
    np.testing.assert_allclose(S[:, :12], S[:, 12:24], atol=1e-5)


@both
def test_fewer_samples_than_centres_are_centres_themselves(X, tags, centres, kind):
    graph = make(kind, X[:5], tags[:5])
    np.testing.assert_allclose(centres[0][:, :N_FEATURES], unit(X[:5]), rtol=1e-5)
    assert graph.factor.shape == (5, 5)
    np.testing.assert_allclose(graph @ graph.trivial, graph.trivial, atol=1e-6)


@both
@pytest.mark.parametrize("n_samples", [1, 2, 30])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.3])
def test_samples_that_are_all_equal_are_all_alike(kind, n_samples, value):
    X = np.full((n_samples, 3), value)
    tags = sp.csr_array(np.ones((n_samples, 2), np.float32))
    np.testing.assert_allclose(dense(make(kind, X, tags)), 1 / n_samples, rtol=1e-4)


@both
def test_zero_features_stay_zero(X, tags, centres, kind):
    X[3] = 0
    S = dense(make(kind, X, tags))
    assert np.isfinite(S).all()
    samples = unit(np.where(X == 0, 1e-30, X)) * (X != 0)
    if kind == "anchor":
        V = np.zeros(len(centres[0]))
        V[np.argsort(np.linalg.norm(centres[0], axis=1))[:2]] = 1
        assert (make(kind, X, tags).similarities.toarray()[3] > 0).tolist() == (V > 0).tolist()
    else:
        expected = dense_hypergraph(np.hstack([samples, tags.toarray()]), centres[0])
        np.testing.assert_allclose(S, expected, atol=1e-6)


def test_no_more_neighbors_than_anchors(X):
    graph = anchor_graph(X, 3, n_neighbors=10, random_state=0)
    assert graph.similarities.nnz == 3 * N_SAMPLES


def test_given_incidence_is_kept():
    H = np.array([[1, 0.5], [0.25, 1]], np.float32)
    graph = ConceptHypergraph(H)
    np.testing.assert_array_equal(H, [[1, 0.5], [0.25, 1]])
    root = np.diag(1 / np.sqrt(H.sum(axis=1)))
    expected = root @ H @ np.diag(1 / H.sum(axis=0)) @ H.T @ root
    np.testing.assert_allclose(dense(graph), expected, rtol=1e-6)


BAD_ARGUMENTS = {
    "nan": ({"X": np.array([[np.nan, 1], [0, 1]])}, ValueError, "X contains NaN"),
    "one-dimension": ({"X": np.ones(3)}, ValueError, "2D array"),
    "no-samples": ({"X": np.ones((0, 3))}, ValueError, "0 sample"),
    "bandwidth-0": ({"bandwidth": 0}, ValueError, "^bandwidth must be positive or None, got 0"),
    "bandwidth-nan": ({"bandwidth": np.nan}, ValueError, "^bandwidth must be positive"),
    "no-iterations": ({"max_iter": 0}, ValueError, "^max_iter must be at least 1, got 0"),
    "count-of-float": ({"max_iter": 2.5}, TypeError, "^max_iter must be an int, got 2.5"),
}


@both
@pytest.mark.parametrize(("bad", "error", "match"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments_are_refused_by_name(X, tags, kind, bad, error, match):
    with pytest.raises(error, match=match):
        make(kind, **{"X": X, "tags": tags, **bad})


def test_bad_counts_and_tags_are_refused_by_name(X, tags):
    with pytest.raises(ValueError, match=r"^n_anchors must be at least 1, got 0"):
        anchor_graph(X, 0)
    with pytest.raises(ValueError, match=r"^n_neighbors must be at least 1, got -1"):
        anchor_graph(X, n_neighbors=-1)
    with pytest.raises(TypeError, match=r"^n_concepts must be an int, got 'all'"):
        concept_hypergraph(X, tags, "all")
    with pytest.raises(ValueError, match=r"^tag_scale must be at least 0, got -1"):
        concept_hypergraph(X, tags, tag_scale=-1)
    with pytest.raises(ValueError, match=r"^tags must have a row per sample of X \(60\), got 59"):
        concept_hypergraph(X, tags[:-1])
    with pytest.raises(TypeError, match=r"^tags must be a sparse indicator, got list"):
        concept_hypergraph(X, [["sea"]] * N_SAMPLES)

"""WMH against its matrices written out, its limits, and planted structure."""

import numpy as np
import pytest
from _photos import rendered_photos

from skhash import PCAH, WMH
from skhash._ridge import RidgePath
from skhash.graphs import anchor_graph
from skhash.metrics import leave_one_out_map
from skhash.semantic import _targets
from skhash.social._tag_itq import weighted_tags
from skhash.tags import encode_tags

TERMS = ("semantic", "local", "geometric", "entropy")
NONE = dict.fromkeys(TERMS, 0.0)


@pytest.fixture
def planted(rng):
    """Features whose loudest directions mean nothing, tags of the quiet ones, and labels."""
    labels = rng.integers(0, 4, 400)
    X = np.hstack([5 * rng.normal(size=(400, 6)), 0.5 * rng.normal(size=(400, 6))])
    X[:, 6:10] += 2 * np.eye(4)[labels]
    X = X @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
    words = np.array(["sea", "tree", "face", "cat"])
    noise = np.array(["nikon", "2007", "wow"])
    tags = [
        [words[label]] * (rng.random() < 0.7) + noise[rng.random(3) < 0.3].tolist()
        for label in labels
    ]
    return X, tags, labels


def matrices(X, tags, ridge, n_anchors):
    """The four matrices of the docstring, dense, by name."""
    n = len(X)
    T = weighted_tags(encode_tags(tags).indicator, 0).toarray().astype(float)
    T -= T.mean(axis=0)
    Xc = X - X.mean(axis=0)
    S = anchor_graph(X, n_anchors, random_state=np.random.RandomState(0)) @ np.eye(n)
    unlike = Xc - S @ Xc

    def structure(F):
        eta = ridge * n * F.var(axis=0).mean()
        B = np.linalg.solve(F.T @ F + eta * np.eye(X.shape[1]), F.T @ T)
        return B @ B.T / np.square(B).sum()

    return {
        "semantic": structure(Xc),
        "local": structure(unlike),
        "geometric": -Xc.T @ unlike / np.vdot(Xc, unlike),
        "entropy": Xc.T @ Xc / np.square(Xc).sum(),
    }


def weighted_sum(parts, weights):
    total = sum(weights[name] * parts[name] for name in TERMS)
    return (total + total.T) / 2


@pytest.mark.parametrize(
    "weights",
    [
        *({**NONE, name: 1.0} for name in TERMS),
        {"semantic": 1.0, "local": 2.0, "geometric": 0.5, "entropy": 0.3},
    ],
    ids=[*TERMS, "all"],
)
def test_projections_are_the_top_eigenvectors_of_the_weighted_sum(rng, planted, weights):
    X, tags, _ = planted
    hasher = WMH(5, **weights, ridge=0.4, n_anchors=30, random_state=0).fit(X, tags)
    W = hasher.coef_
    M = weighted_sum(matrices(X, tags, 0.4, 30), weights)
    expected = np.linalg.eigvalsh(M)[::-1][:5]
    np.testing.assert_allclose(hasher.eigenvalues_, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(W @ W.T, np.eye(5), atol=1e-8)
    assert np.trace(W @ M @ W.T) == pytest.approx(expected.sum(), rel=1e-4, abs=1e-5)
    for _ in range(20):  # no other orthonormal projection attains more
        other = np.linalg.qr(rng.normal(size=(12, 5)))[0].T
        assert np.trace(other @ M @ other.T) < np.trace(W @ M @ W.T)


@pytest.mark.parametrize("shape", [(100, 9), (12, 30)], ids=["tall", "wide"])
def test_the_variance_alone_gives_pcah(rng, shape):
    X = rng.normal(size=shape) * 1.5 ** -np.arange(shape[1]) + 3
    y = [["sea"], ["sky"]] * (shape[0] // 2)
    hasher = WMH(6, **{**NONE, "entropy": 2.0}, random_state=0).fit(X, y)
    pcah = PCAH(6).fit(X)
    np.testing.assert_allclose(hasher.coef_, pcah.coef_, atol=1e-8)
    np.testing.assert_array_equal(hasher.transform(X), pcah.transform(X))


def test_a_strong_ridge_leaves_the_covariance_with_tags(planted):
    X, tags, _ = planted
    T = weighted_tags(encode_tags(tags).indicator, 0).toarray()
    C = (X - X.mean(axis=0)).T @ (T - T.mean(axis=0))
    hasher = WMH(3, **{**NONE, "semantic": 1.0}, ridge=1e9, random_state=0).fit(X, tags)
    top = np.linalg.svd(C)[0][:, :3]
    np.testing.assert_allclose(np.linalg.svd(hasher.coef_ @ top)[1], 1, atol=1e-4)


def test_auto_is_the_ridge_chosen_for_the_tags(planted):
    X, tags, _ = planted
    hasher = WMH(4, random_state=0).fit(X, tags)
    _, _, chosen = RidgePath(X).fit(weighted_tags(encode_tags(tags).indicator, 0))
    assert hasher.ridge_ == chosen
    assert WMH(4, ridge=7, random_state=0).fit(X, tags).ridge_ == 7
    assert WMH(4, random_state=0).fit(X).ridge_ is None


def test_the_weights_count_relative_to_each_other(planted):
    X, tags, _ = planted
    one = WMH(4, semantic=1, local=2, geometric=3, entropy=4, random_state=0).fit(X, tags)
    ten = WMH(4, semantic=10, local=20, geometric=30, entropy=40, random_state=0).fit(X, tags)
    np.testing.assert_allclose(ten.coef_, one.coef_, atol=1e-8)
    np.testing.assert_allclose(ten.eigenvalues_, 10 * one.eigenvalues_)


def test_a_rotation_keeps_the_subspace_and_quantises_better(planted):
    X, tags, _ = planted
    plain = WMH(6, random_state=0).fit(X, tags)
    rotated = WMH(6, rotate=True, random_state=0).fit(X, tags)
    np.testing.assert_allclose(rotated.coef_ @ rotated.coef_.T, np.eye(6), atol=1e-8)
    np.testing.assert_allclose(np.linalg.svd(rotated.coef_ @ plain.coef_.T)[1], 1, atol=1e-8)
    loss, least = (
        np.square(2.0 * h.transform(X) - 1 - h.decision_function(X)).sum() for h in (plain, rotated)
    )
    assert least < loss


def test_bits_are_cut_at_their_mean(planted):
    X, tags, _ = planted
    for rotate in (False, True):
        hasher = WMH(4, rotate=rotate, random_state=0).fit(X + 100, tags)
        np.testing.assert_allclose(hasher.decision_function(X + 100).mean(axis=0), 0, atol=1e-9)


# ------------------------------------------------------------------------------- tags


def test_the_planted_tags_span_the_projections(planted):
    X, tags, labels = planted
    kinds = np.stack([X[labels == k].mean(axis=0) for k in range(4)])
    within = np.cov((X - kinds[labels]).T)
    discriminants = np.linalg.solve(within, (kinds - kinds.mean(axis=0)).T)
    basis = np.linalg.qr(discriminants)[0][:, :3]
    for name in ("semantic", "local"):
        W = WMH(3, **{**NONE, name: 1.0}, ridge=0.001, random_state=0).fit(X, tags).coef_
        assert np.square(W @ basis).sum() > 2  # of 3; 0.75 by chance


@pytest.mark.parametrize("n_bits", [3, 6])
def test_tags_tell_what_features_alone_do_not(planted, n_bits):
    X, tags, labels = planted
    by_tags, alone = (
        WMH(n_bits, random_state=0).fit(X[:200], y).score(X[200:], labels=labels[200:])
        for y in (tags[:200], None)
    )
    assert by_tags > alone + 0.1


def test_the_local_structure_sees_tags_within_visual_neighbourhoods(rng):
    """A tag that goes with the cluster tells nothing locally; one that varies within does."""
    clusters = rng.integers(0, 5, 500)
    X = 0.5 * rng.normal(size=(500, 6))
    X[:, 0] += 3 * (clusters - 2)
    X[:, 1] += 10  # so that directions from the origin keep the clusters apart
    within = X[:, 2] > 0
    tags = [
        ["high"] * int(c > 2) + ["inside"] * int(w) for c, w in zip(clusters, within, strict=True)
    ]
    local, semantic = (
        WMH(1, **{**NONE, name: 1.0}, ridge=10, n_anchors=5, random_state=0).fit(X, tags).coef_[0]
        for name in ("local", "semantic")
    )
    assert abs(local[2]) > 0.9
    assert abs(semantic[0]) > abs(semantic[2])


def test_neighbours_that_are_the_samples_themselves_tell_nothing(planted):
    X, tags, _ = planted
    alone = WMH(4, n_anchors=400, n_nearest_anchors=1, random_state=0).fit(X, tags)
    none = WMH(4, local=0, geometric=0, random_state=0).fit(X, tags)
    np.testing.assert_allclose(alone.coef_, none.coef_, atol=1e-8)


@pytest.mark.parametrize("tags", [[[]] * 400, [["sea"]] * 400, np.zeros((400, 0))])
def test_tags_that_tell_nothing_are_no_tags(planted, tags):
    X, _, _ = planted
    hasher, none = (WMH(6, random_state=0).fit(X, y) for y in (tags, None))
    np.testing.assert_array_equal(hasher.coef_, none.coef_)
    with pytest.raises(ValueError, match=r"^y does not distinguish the images, .* raise one"):
        WMH(6, geometric=0, entropy=0, random_state=0).fit(X, tags)


def test_more_tags_than_fit_are_projected(planted, monkeypatch):
    X, tags, labels = planted
    tags = [[f"{tag}{i}" for tag in row for i in range(10)] for row in tags]
    exact = WMH(3, random_state=0).fit(X, tags)
    monkeypatch.setattr(_targets, "_MAX_COLUMNS", 30)
    sketched = WMH(3, random_state=0).fit(X, tags)
    assert (sketched.coef_ != exact.coef_).any()
    assert sketched.score(X, labels=labels) > exact.score(X, labels=labels) - 0.05


def test_codes_ignore_the_scale_of_the_features(planted):
    X, tags, _ = planted
    codes = WMH(6, random_state=0).fit_transform(X, tags)
    np.testing.assert_array_equal(WMH(6, random_state=0).fit_transform(8 * X, tags), codes)


def test_rendered_photos_of_a_kind_get_similar_codes():
    photos = rendered_photos(600)
    X, labels = photos.X, photos.labels
    hasher = WMH(16, random_state=0).fit(X[:400], photos.tags[:400])
    random = np.random.default_rng(0).integers(0, 2, (200, 16), dtype=np.uint8)
    gain = hasher.score(X[400:], labels=labels[400:]) - leave_one_out_map(random, labels[400:])
    assert gain > 0.05

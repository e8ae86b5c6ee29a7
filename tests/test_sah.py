"""SAH against its objective written out, invariances and planted structure."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from _photos import rendered_photos

from skhash import ITQ, SAH
from skhash._ridge import RidgePath
from skhash.metrics import leave_one_out_map
from skhash.semantic import _targets
from skhash.social._sah import _JointFactors
from skhash.social._tag_itq import weighted_tags

WEIGHTS = {"alpha": 3.0, "nu": 2.0, "ridge": 0.7, "gamma": 0.05}


@pytest.fixture
def planted(rng):
    """Features whose loudest directions mean nothing, tags of the quiet ones, and labels."""
    labels = rng.integers(0, 4, 400)
    X = np.hstack([2 * rng.normal(size=(400, 6)), 0.5 * rng.normal(size=(400, 6))])
    X[:, 6:10] += 2 * np.eye(4)[labels]
    X = X @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
    words = np.array(["sea", "tree", "face", "cat"])
    noise = np.array(["nikon", "2007", "wow"])
    tags = [
        [words[label]] * (rng.random() < 0.7) + noise[rng.random(3) < 0.3].tolist()
        for label in labels
    ]
    return X, tags, labels


@pytest.fixture
def model(rng):
    X = rng.normal(size=(40, 7)) * rng.uniform(0.5, 3, 7) + 4
    tags = weighted_tags(sp.csr_array((rng.random((40, 9)) < 0.3).astype(np.float32)), 0)
    codes = rng.choice([-1.0, 1.0], (40, 3))
    return _JointFactors(RidgePath(X), tags, codes, **WEIGHTS)


def factors(model):
    """V, P, U and W, those of the features in their own coordinates."""
    directions = model.path.directions
    return model.V, model.P @ directions.T, model.U, directions @ model.W


def objective(model, V, P, U, W):
    """The objective of the docstring, with dense, centred and scaled matrices."""
    X = model.path.X - model.path.X.mean(axis=0)
    T = model.tags.toarray().astype(float)
    T -= T.mean(axis=0)
    eta = WEIGHTS["ridge"] * len(X) * X.var(axis=0).mean()
    n, r = V.shape
    visual = np.square(X - V @ P).sum() + n * WEIGHTS["gamma"] * np.square(P).sum()
    textual = np.square(T - V @ U).sum() + n * WEIGHTS["gamma"] * np.square(U).sum()
    fit = np.square(V - X @ W).sum() + eta * np.square(W).sum()
    visual_part = n * visual / np.square(X).sum()
    textual_part = WEIGHTS["alpha"] * n * textual / np.square(T).sum()
    return (visual_part + textual_part + WEIGHTS["nu"] / r * fit) / n


def test_the_objective_is_its_definition(model):
    for _ in range(3):
        assert model.objective() == pytest.approx(objective(model, *factors(model)), rel=1e-5)
        model.update()


def test_every_block_is_set_to_its_minimum(rng, model):
    model.update()
    V, P, U, W = factors(model)
    least = objective(model, V, P, U, W)
    for block in range(1, 4):  # V was set before the others
        for _ in range(30):
            moved = [V, P, U, W]
            moved[block] = moved[block] + 1e-2 * rng.normal(size=moved[block].shape)
            assert objective(model, *moved) > least
    model.update()
    updated = model.V
    least = objective(model, updated, P, U, W)
    assert least < objective(model, V, P, U, W)
    for _ in range(30):
        assert objective(model, updated + 1e-2 * rng.normal(size=V.shape), P, U, W) > least


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_objective_never_rises(planted, dtype):
    X, tags, _ = planted
    hasher = SAH(6, max_iter=60, tol=0, random_state=0).fit(X.astype(dtype), tags)
    course = hasher.objective_
    assert course.shape == (hasher.n_iter_,)
    assert (np.diff(course) <= 1e-6 * course[0]).all()
    assert course[-1] < 0.98 * course[0]


def test_it_stops_when_the_objective_stays(planted):
    X, tags, _ = planted
    hasher = SAH(6, max_iter=1000, tol=1e-3, random_state=0).fit(X, tags)
    drops = -np.diff(hasher.objective_) / hasher.objective_[:-1]
    assert hasher.n_iter_ < 1000
    assert drops[-1] <= 1e-3
    assert (drops[:-1] > 1e-3).all()


def test_bits_are_cut_at_their_mean(planted):
    X, tags, _ = planted
    values = SAH(6, random_state=0).fit(X + 100, tags).decision_function(X + 100)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-9)


def test_without_rounds_the_codes_of_itq_are_regressed(planted):
    X, tags, _ = planted
    hasher = SAH(6, max_iter=0, ridge=0.5, random_state=0).fit(X, tags)
    codes = 2.0 * ITQ(6, random_state=0).fit_transform(X) - 1
    coef, _, _ = RidgePath(X).fit(codes, 0.5)
    np.testing.assert_allclose(hasher.coef_, coef, atol=1e-12)
    assert hasher.n_iter_ == 0


# ------------------------------------------------------------------------------- tags


@pytest.mark.parametrize("n_bits", [4, 8, 12])
def test_tags_tell_what_features_alone_do_not(planted, n_bits):
    X, tags, labels = planted
    by_tags = SAH(n_bits, random_state=0).fit(X[:200], tags[:200])
    alone = SAH(n_bits, random_state=0).fit(X[:200])
    gain = by_tags.score(X[200:], labels=labels[200:]) - alone.score(X[200:], labels=labels[200:])
    assert gain > 0.04


def test_the_planted_tags_span_the_functions(planted):
    """With the weight on tags, all bits are functions of what tags tell, up to little."""
    X, tags, labels = planted
    W = SAH(4, alpha=1e4, ridge=1e-3, random_state=0).fit(X, tags).coef_
    kinds = np.stack([X[labels == k].mean(axis=0) for k in range(4)])
    within = np.cov((X - kinds[labels]).T)
    between = np.linalg.solve(within, (kinds - kinds.mean(axis=0)).T)  # discriminants
    basis = np.linalg.qr(between)[0][:, :3]
    share = np.square(W @ basis).sum() / np.square(W).sum()
    assert share > 0.5  # 3 of 12 directions: a quarter by chance


@pytest.mark.parametrize("tags", [None, [[]] * 400, [["sea"]] * 400, np.zeros((400, 0))])
def test_tags_that_tell_nothing_are_no_tags(planted, tags):
    X, _, _ = planted
    hasher, none = (SAH(6, random_state=0).fit(X, y) for y in (tags, None))
    np.testing.assert_array_equal(hasher.coef_, none.coef_)
    np.testing.assert_array_equal(SAH(6, alpha=0, random_state=0).fit(X).coef_, none.coef_)


def test_a_weight_of_zero_leaves_tags_out(planted):
    X, tags, _ = planted
    hasher = SAH(6, alpha=0, random_state=0).fit(X, tags)
    np.testing.assert_allclose(
        hasher.coef_, SAH(6, random_state=0).fit(X).coef_, rtol=1e-6, atol=1e-9
    )


def test_more_tags_than_fit_are_projected(planted, monkeypatch):
    X, tags, labels = planted
    tags = [[f"{tag}{i}" for tag in row for i in range(10)] for row in tags]
    exact, alone = (SAH(6, random_state=0).fit(X, y) for y in (tags, None))
    monkeypatch.setattr(_targets, "_MAX_COLUMNS", 30)
    sketched = SAH(6, random_state=0).fit(X, tags)
    assert (sketched.coef_ != exact.coef_).any()
    assert sketched.score(X, labels=labels) > alone.score(X, labels=labels) + 0.3


# ------------------------------------------------------------------------ invariances


def test_codes_ignore_shift_and_scale_of_the_features(planted):
    X, tags, _ = planted
    codes = SAH(6, random_state=0).fit_transform(X, tags)
    np.testing.assert_array_equal(SAH(6, random_state=0).fit_transform(10 * X + 3, tags), codes)


def test_repeated_samples_change_nothing(planted):
    X, tags, _ = planted
    once = SAH(6, max_iter=5, tol=0, random_state=0).fit(X, tags)
    # TF-IDF smooths by one document, which a second copy dilutes.
    twice = SAH(6, max_iter=5, tol=0, random_state=0).fit(np.tile(X, (2, 1)), tags * 2)
    np.testing.assert_allclose(twice.objective_, once.objective_, rtol=1e-3)
    assert (twice.transform(X) == once.transform(X)).mean() > 0.99


def test_rendered_photos_of_a_kind_get_similar_codes():
    photos = rendered_photos(600)
    X, labels = photos.X, photos.labels
    hasher = SAH(16, random_state=0).fit(X[:400], photos.tags[:400])
    random = np.random.default_rng(0).integers(0, 2, (200, 16), dtype=np.uint8)
    gain = hasher.score(X[400:], labels=labels[400:]) - leave_one_out_map(random, labels[400:])
    assert gain > 0.05


def test_no_bit_is_constant_where_features_are_duplicates(planted):
    X, tags, _ = planted
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = SAH(6, random_state=0).fit_transform(np.repeat(X[:50], 8, axis=0), tags)
    assert (codes.std(axis=0) > 0).all()

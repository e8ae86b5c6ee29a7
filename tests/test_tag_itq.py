"""TagITQ against regression, PCA and ITQ done one by one, invariances and planted structure."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import Ridge

from skhash import ITQ, TagITQ
from skhash._ridge import RidgePath
from skhash.semantic import SemanticTargets, _targets
from skhash.social._tag_itq import tag_projection, weighted_tags
from skhash.tags import encode_tags
from skhash.unsupervised._itq import itq_rotation


@pytest.fixture
def planted(rng):
    """Features whose loudest directions mean nothing, tags of the quiet ones, and labels."""
    labels = rng.integers(0, 4, 400)
    X = np.hstack([5 * rng.normal(size=(400, 6)), 0.5 * rng.normal(size=(400, 6))])
    X[:, 6:10] += np.eye(4)[labels]
    X = X @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
    words = np.array(["sea", "tree", "face", "cat"])
    noise = np.array(["nikon", "2007", "wow"])
    tags = [
        [words[label]] * (rng.random() < 0.7) + noise[rng.random(3) < 0.3].tolist()
        for label in labels
    ]
    return X, tags, labels


def explicit_components(X, indicator, n_bits, ridge):
    """Principal components of what scikit-learn's Ridge predicts of TF-IDF tags."""
    targets = TfidfTransformer().fit_transform(indicator).toarray()
    model = Ridge(alpha=ridge * len(X) * X.var(axis=0).mean())
    predictions = model.fit(X, targets).predict(X)
    n_components = min(n_bits, *predictions.shape)
    return PCA(n_components).fit_transform(predictions)


@pytest.mark.parametrize("shape", [(80, 10, 25), (80, 10, 4), (15, 40, 25)])
@pytest.mark.parametrize("ridge", [0.01, 1, 30])
def test_the_projection_is_the_principal_components_of_predicted_tags(rng, shape, ridge):
    n_samples, n_features, n_tags = shape
    X = rng.normal(size=(n_samples, n_features)) * rng.uniform(0.5, 3, n_features) + 2
    indicator = sp.csr_array((rng.random((n_samples, n_tags)) < 0.3).astype(np.float32))
    n_bits = 6
    path = RidgePath(X)
    projection, directions, used = tag_projection(path, weighted_tags(indicator, 0), n_bits, ridge)
    expected = explicit_components(X, indicator, n_bits, ridge)
    rank = min(n_bits, n_tags, n_features)
    assert used == ridge
    # Components are defined up to their sign.
    components = path.project(projection)
    signs = np.sign((components[:, :rank] * expected[:, :rank]).sum(axis=0))
    np.testing.assert_allclose(
        components[:, :rank] * signs, expected[:, :rank], atol=1e-6 * np.abs(expected).max()
    )
    np.testing.assert_array_equal(projection[rank:], 0)
    # The same axes among the targets: there the predictions have the same components.
    targets = weighted_tags(indicator, 0)
    coef, intercept, _ = path.fit(targets, ridge)
    predictions = X @ coef.T + intercept
    predictions -= predictions.mean(axis=0)
    np.testing.assert_allclose(predictions @ directions.T, components, atol=1e-8)
    np.testing.assert_array_equal(directions[rank:], 0)


def test_the_ridge_of_auto_is_chosen_for_the_weighted_tags(planted):
    X, tags, _ = planted
    linear = {"n_bits": 4, "target": "tfidf", "kernel": None, "random_state": 0}
    hasher = TagITQ(**linear).fit(X, tags)
    _, _, chosen = RidgePath(X).fit(weighted_tags(encode_tags(tags).indicator, 0))
    assert hasher.ridge_ == chosen
    by_hand = TagITQ(**linear, ridge=chosen).fit(X, tags)
    np.testing.assert_array_equal(by_hand.coef_, hasher.coef_)
    assert TagITQ(**linear, ridge=7).fit(X, tags).ridge_ == 7


def test_codes_are_the_rotated_components_cut_at_zero(planted):
    X, tags, _ = planted
    target = SemanticTargets("ppmi", random_state=0)
    hasher = TagITQ(n_bits=4, kernel=None, max_iter=9, random_state=3).fit(X, tags)
    path = RidgePath(X)
    V = path.project(tag_projection(path, target.fit_transform(tags), 4).projection)
    rng = np.random.RandomState(3)
    rng.randint(np.iinfo(np.int32).max)  # the seed of the targets
    R, losses = itq_rotation(V, n_iter=9, random_state=rng)
    np.testing.assert_array_equal(hasher.transform(X), V @ R >= 0)
    np.testing.assert_allclose(hasher.decision_function(X), V @ R, atol=1e-9)
    np.testing.assert_allclose(hasher.objective_, losses)
    assert hasher.n_iter_ == 9


@pytest.mark.parametrize("n_bits", [4, 8, 12])
def test_tags_tell_what_features_alone_do_not(planted, n_bits):
    X, tags, labels = planted
    by_tags = TagITQ(n_bits, random_state=0).fit(X, tags).score(X, labels=labels)
    alone = ITQ(n_bits, random_state=0).fit(X).score(X, labels=labels)
    assert by_tags > alone + 0.1


def test_held_out_samples_get_the_codes_of_their_kind(planted):
    X, tags, labels = planted
    hasher = TagITQ(8, random_state=0).fit(X[:200], tags[:200])
    alone = ITQ(8, random_state=0).fit(X[:200])
    assert hasher.score(X[200:], labels=labels[200:]) > alone.score(X[200:], labels=labels[200:])


# -------------------------------------------------------------------------- invariances


def test_the_order_of_the_tags_does_not_matter(rng, planted):
    X, tags, _ = planted
    indicator = encode_tags(tags).indicator
    codes = TagITQ(4, random_state=0).fit_transform(X, indicator)
    shuffled = indicator[:, rng.permutation(indicator.shape[1])]
    np.testing.assert_array_equal(TagITQ(4, random_state=0).fit_transform(X, shuffled), codes)


def test_tags_that_all_come_twice_do_not_matter(planted):
    X, tags, _ = planted
    codes = TagITQ(4, random_state=0).fit_transform(X, tags)
    twice = [[form for tag in row for form in (tag, f"{tag}s")] for row in tags]
    np.testing.assert_array_equal(TagITQ(4, random_state=0).fit_transform(X, twice), codes)


def test_the_order_of_the_samples_does_not_matter(rng, planted):
    X, tags, _ = planted
    hasher = TagITQ(4, random_state=0).fit(X, tags)
    order = rng.permutation(len(X))
    shuffled = TagITQ(4, random_state=0).fit(X[order], [tags[i] for i in order])
    np.testing.assert_array_equal(shuffled.transform(X), hasher.transform(X))
    assert shuffled.ridge_ == hasher.ridge_


def test_codes_ignore_shift_and_scale_of_the_features(planted):
    X, tags, _ = planted
    codes = TagITQ(4, random_state=0).fit_transform(X, tags)
    np.testing.assert_array_equal(TagITQ(4, random_state=0).fit_transform(10 * X + 3, tags), codes)


# ----------------------------------------------------------------- ranks, many tags, none


@pytest.mark.parametrize("n_bits", [3, 16, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_tags_fill_any_number_of_bits(planted, n_bits, dtype):
    X, _, labels = planted
    words = np.array(["sea", "tree"])[labels % 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = TagITQ(n_bits, random_state=0).fit_transform(X.astype(dtype), words)
    assert codes.shape == (400, n_bits)
    assert (codes.std(axis=0) > 0).all()


def test_more_bits_than_features_work(rng):
    X = rng.normal(size=(60, 3))
    tags = sp.csr_array((rng.random((60, 20)) < 0.3).astype(np.float32))
    codes = TagITQ(24, random_state=0).fit_transform(X, tags)
    assert (codes.std(axis=0) > 0).all()


def test_many_tags_are_projected_and_tell_nearly_as_much(monkeypatch, rng, planted):
    X, tags, labels = planted
    # Every tag in one of six spellings.
    spelt = [[f"{tag}{rng.integers(6)}" for tag in row] for row in tags]
    exact = TagITQ(8, target="tfidf", kernel=None, random_state=0).fit(X, spelt)
    monkeypatch.setattr(_targets, "_MAX_COLUMNS", 30)
    projected = clone(exact).fit(X, spelt)
    assert (exact.coef_ != projected.coef_).any()
    alone = ITQ(8, random_state=0).fit(X).score(X, labels=labels)
    gain = exact.score(X, labels=labels) - alone
    assert projected.score(X, labels=labels) - alone > gain / 2 > 0


@pytest.mark.parametrize(
    "tags",
    [[[]] * 30, [None] * 30, np.zeros((30, 2)), [["sea", "sky"]] * 30, np.ones((30, 500))],
    ids=["empty", "none", "zeros", "the-same", "ones"],
)
@pytest.mark.parametrize("ridge", ["auto", 0, 1])
def test_tags_that_tell_no_image_from_another_are_refused(rng, tags, ridge):
    with pytest.raises(ValueError, match=r"^y does not distinguish the images .* use ITQ"):
        TagITQ(4, ridge=ridge).fit(rng.normal(size=(30, 5)), tags)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_that_do_not_vary_are_refused(value, dtype):
    with pytest.raises(ValueError, match=r"features that do not vary"):
        TagITQ(4).fit(np.full((30, 5), value, dtype), [["sea"], ["sky"]] * 15)


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match=r"^X has n_samples = 1: give at least 2"):
        TagITQ(4).fit(np.ones((1, 5)), [["sea"]])

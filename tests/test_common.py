"""What holds for every hasher: scikit-learn's common tests, and the conventions of the package."""

import inspect
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
import torch
from _estimators import (
    ARGUMENTS,
    GRAPHS,
    NEEDS_TAGS,
    NETWORKS,
    TAKES_LABELS,
    WRAPPERS,
    expected_failed_checks,
    make_hasher,
    n_bits_parameter,
    public_hashers,
)
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.fixes import parse_version

import skhash
from skhash._sklearn import Interval
from skhash.metrics import leave_one_out_map, retrieval_scorer

every_hasher = pytest.mark.parametrize("name", ARGUMENTS)


@parametrize_with_checks(
    [make_hasher(name) for name in ARGUMENTS], expected_failed_checks=expected_failed_checks
)
def test_scikit_learn_compatibility(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def samples():
    """Features with three clusters, tags that name the cluster now and then, and its labels."""
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 3
    X = rng.normal(size=(60, 8))
    X[np.arange(60), labels] += 4
    words = ["sea", "tree", "face"]
    tags = [
        [words[label]] * (rng.random() < 0.8) + ["nikon"] * (rng.random() < 0.3) for label in labels
    ]
    assert [] in tags
    return X, tags, labels


def fitted(name, samples, **changes):
    X, tags, _ = samples
    return make_hasher(name, **{"n_bits": 4, **changes}).fit(X, tags)


def test_the_table_names_every_public_hasher():
    assert set(ARGUMENTS) == public_hashers()


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - WRAPPERS))
def test_a_hasher_can_be_made_without_arguments(name):
    hasher = getattr(skhash, name)()
    assert next(iter(inspect.signature(type(hasher)).parameters)) == "n_bits"
    assert hasher.n_bits == 64


@every_hasher
def test_codes_are_the_signs_of_the_decision_function(name, samples):
    X, tags, _ = samples
    hasher = fitted(name, samples)
    codes, values = hasher.transform(X), hasher.decision_function(X)
    assert codes.shape == values.shape == (60, 4)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, values >= 0)
    assert (codes.std(axis=0) > 0).all()
    np.testing.assert_array_equal(make_hasher(name, n_bits=4).fit_transform(X, tags), codes)


@every_hasher
def test_a_code_does_not_depend_on_the_other_samples(name, samples):
    X, _, _ = samples
    hasher = fitted(name, samples)
    alone = np.concatenate([hasher.decision_function(row[None]) for row in X])
    np.testing.assert_allclose(alone, hasher.decision_function(X), atol=1e-9)


@every_hasher
@pytest.mark.filterwarnings("ignore:.*bits are constant", "ignore:No image has two tags")
@pytest.mark.parametrize("features", ["one-hot", "repeated", "counts"])
def test_no_bit_depends_on_the_batch(name, features):
    """Not even where values are 0 but for rounding, for want of different samples."""
    rng = np.random.default_rng(0)
    X = {
        "one-hot": np.eye(20)[rng.integers(20, size=120)],
        "repeated": np.repeat(rng.normal(size=(12, 20)), 10, axis=0),
        "counts": rng.integers(3, size=(120, 20)),
    }[features].astype(np.float32)
    tags = [["sea", "tree", "face"][label : label + 1] for label in rng.integers(3, size=120)]
    hasher = make_hasher(name, n_bits=16).fit(X, tags)
    codes = hasher.transform(X)
    order = rng.permutation(120)
    np.testing.assert_array_equal(hasher.transform(X[order]), codes[order])
    for size in (1, 7):
        batches = [hasher.transform(X[i : i + size]) for i in range(0, 120, size)]
        np.testing.assert_array_equal(np.concatenate(batches), codes)
    np.testing.assert_array_equal(hasher.transform(np.tile(X, (20, 1)))[-120:], codes)
    np.testing.assert_array_equal(hasher.transform(np.asfortranarray(X)), codes)
    different, same = np.unique(X, axis=0, return_inverse=True)
    np.testing.assert_array_equal(hasher.transform(different)[same.ravel()], codes)


def codes_or_refusal(name, X, tags):
    """Codes of the training samples, or None where X is refused by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return make_hasher(name, n_bits=4).fit(X, tags).transform(X)
        except ValueError as error:
            assert re.match(r"X (has values .* beyond the range|varies too little)", str(error))
            return None


@every_hasher
@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [(np.float64, k) for k in (-60, 20, 100, 480)] + [(np.float32, k) for k in (-60, -45, 40, 60)],
)
def test_codes_do_not_depend_on_the_scale_of_the_features(name, samples, dtype, exponent):
    X, tags, _ = samples
    X = X.astype(dtype)
    codes = codes_or_refusal(name, X * dtype(2) ** dtype(exponent), tags)
    if codes is not None:
        np.testing.assert_array_equal(codes, make_hasher(name, n_bits=4).fit(X, tags).transform(X))
    # Networks are trained in float32, and squares are taken in the dtype of X.
    narrow = name in NETWORKS | WRAPPERS or dtype == np.float32
    assert (codes is None) == (narrow and not -50 < exponent < 50)


@every_hasher
def test_codes_do_not_depend_on_the_origin_of_the_features_or_the_docstring_says_so(name, samples):
    X, tags, _ = samples
    codes = codes_or_refusal(name, X + 2.0**20, tags)
    if name in NETWORKS | WRAPPERS:
        assert codes is None
    elif name in GRAPHS:
        assert re.search(r"far\s+from\s+(0|it)\b", inspect.getdoc(type(make_hasher(name))))
    else:
        np.testing.assert_array_equal(codes, fitted(name, samples).transform(X))


@every_hasher
def test_samples_of_overflowing_size_are_refused_by_name(name, samples):
    X, tags, _ = samples
    hasher = fitted(name, samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(ValueError, match=r"^X has values .* beyond the range of float64"):
            make_hasher(name, n_bits=4).fit(X * 1e200, tags)
        if name not in NETWORKS | WRAPPERS:
            try:
                codes = hasher.transform(X * 1e307)
            except ValueError as error:
                assert re.match("X has values so large", str(error))
            else:
                assert codes.shape == (60, 4)


def numbers(constraints):
    """Names of parameters that are numbers, and nothing that a bool could be meant for."""
    return [
        name
        for name, kinds in constraints.items()
        if "boolean" not in kinds and any(isinstance(kind, Interval) for kind in kinds)
    ]


@every_hasher
def test_a_bool_is_no_number(name, samples):
    X, tags, _ = samples
    for parameter in numbers(make_hasher(name)._parameter_constraints):
        for value in (True, np.True_):
            hasher = make_hasher(name).set_params(**{parameter: value})
            with pytest.raises(ValueError, match=f"'{parameter}' parameter"):
                hasher.fit(X, tags)


@every_hasher
def test_similar_samples_get_similar_codes(name, samples):
    X, _, labels = samples
    chance = np.equal.outer(labels, labels).mean()
    assert fitted(name, samples, n_bits=8).score(X, labels=labels) > chance + 0.1


@every_hasher
def test_the_random_state_decides_everything_random(name, samples):
    X, _, _ = samples
    first, again = (fitted(name, samples).decision_function(X) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    if "random_state" in ARGUMENTS[name]:
        others = [fitted(name, samples, random_state=seed) for seed in (1, 2)]
        assert any((other.decision_function(X) != first).any() for other in others)


# scikit-learn's coordinate descent, which codes tags, draws from it by itself.
@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {"WeaklySupervisedHasher"}))
def test_the_global_random_state_is_left_alone(name, samples):
    before = np.random.get_state()  # noqa: NPY002
    fitted(name, samples)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(after[1], before[1])
    assert after[2] == before[2]


@every_hasher
def test_clones_and_pickles_give_the_same_codes(name, samples):
    X, tags, _ = samples
    hasher = fitted(name, samples)
    values = hasher.decision_function(X)
    np.testing.assert_array_equal(clone(hasher).fit(X, tags).decision_function(X), values)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(hasher)).decision_function(X), values)


@every_hasher
def test_float32_is_kept_float16_becomes_it_and_other_numbers_float64(name, samples):
    X, tags, _ = samples
    X = np.round(X)
    narrow = X.astype(np.float32)
    half = X.astype(np.float16)
    hasher = make_hasher(name, n_bits=4).fit(narrow, tags)
    values = hasher.decision_function(narrow)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(hasher.decision_function(half), values)
    again = make_hasher(name, n_bits=4).fit(half, tags)
    np.testing.assert_array_equal(again.decision_function(narrow), values)
    hasher = make_hasher(name, n_bits=4).fit(X, tags)
    values = hasher.decision_function(X)
    assert values.dtype == np.float64
    for same in (X.astype(np.int16), X.tolist(), torch.tensor(X)):
        np.testing.assert_array_equal(hasher.decision_function(same), values)
        again = make_hasher(name, n_bits=4).fit(same, tags)
        np.testing.assert_array_equal(again.decision_function(X), values)


@every_hasher
def test_neither_features_nor_tags_are_changed(name, samples):
    X, tags, _ = samples
    features, words = X.copy(), [list(row) for row in tags]
    make_hasher(name, n_bits=4).fit(features, words).transform(features)
    np.testing.assert_array_equal(features, X)
    assert words == tags


@every_hasher
def test_every_form_of_tags_gives_the_same_codes(name, samples):
    X, tags, _ = samples
    codes = fitted(name, samples).transform(X)
    encoded = skhash.tags.encode_tags(tags)
    dense = encoded.indicator.toarray()
    for same in (
        [set(row) for row in tags],
        dense,
        dense.astype(bool).tolist(),
        sp.csc_matrix(encoded.indicator),
        pd.DataFrame(dense, columns=encoded.vocabulary),
        encoded,
    ):
        np.testing.assert_array_equal(make_hasher(name, n_bits=4).fit(X, same).transform(X), codes)


@every_hasher
def test_a_single_tag_each_is_a_list_of_one(name, samples):
    X, _, labels = samples
    words = np.array(["sea", "tree", "face"])[labels]
    np.testing.assert_array_equal(
        make_hasher(name, n_bits=4).fit_transform(X, words),
        make_hasher(name, n_bits=4).fit_transform(X, [[word] for word in words]),
    )


@every_hasher
def test_y_may_be_left_out_where_the_tags_are_not_needed(name, samples):
    X, _, _ = samples
    if name in NEEDS_TAGS:
        with pytest.raises((TypeError, ValueError), match=r"missing .* 'y'|requires y"):
            make_hasher(name).fit(X)
        with pytest.raises(ValueError, match="requires y"):
            make_hasher(name).fit(X, None)
    else:
        assert make_hasher(name).fit(X).transform(X).shape == (60, 2)


@every_hasher
def test_codes_come_as_a_data_frame(name, samples):
    X, tags, _ = samples
    frame = pd.DataFrame(X, columns=list("abcdefgh"), index=np.arange(60) + 7)
    hasher = make_hasher(name, n_bits=4).set_output(transform="pandas").fit(frame, tags)
    codes = hasher.transform(frame)
    assert codes.columns.tolist() == [f"{name.lower()}{bit}" for bit in range(4)]
    assert codes.index.equals(frame.index)
    np.testing.assert_array_equal(codes, fitted(name, samples).transform(X))


@every_hasher
def test_a_hasher_ends_a_pipeline(name, samples):
    X, tags, labels = samples
    pipeline = make_pipeline(StandardScaler(), make_hasher(name, n_bits=4)).fit(X, tags)
    scaled = StandardScaler().fit_transform(X)
    hasher = make_hasher(name, n_bits=4).fit(scaled, tags)
    np.testing.assert_array_equal(pipeline.transform(X), hasher.transform(scaled))
    assert pipeline.score(X, labels) == hasher.score(scaled, labels)
    assert len(pipeline.get_feature_names_out()) == 4


@every_hasher
def test_grid_search_scores_by_tags(name, samples):
    X, tags, _ = samples
    grid = {n_bits_parameter(name): [1, 4]}
    search = GridSearchCV(make_hasher(name), grid, cv=3, error_score="raise")
    search.fit(X, tags)
    for i, n_bits in enumerate([1, 4]):
        train, test = np.arange(20, 60), np.arange(20)
        hasher = make_hasher(name, n_bits=n_bits).fit(X[train], [tags[j] for j in train])
        assert search.cv_results_["split0_test_score"][i] == pytest.approx(
            hasher.score(X[test], [tags[j] for j in test])
        )


def make_tag_hasher(name):
    """A hasher that gets no labels in fit, though they are routed."""
    hasher = make_hasher(name)
    return hasher.set_fit_request(labels=False) if name in TAKES_LABELS else hasher


def assert_scores_of_first_split(search, hasher, parameter, samples):
    """The search scored as a fit and a score by hand do, with the labels of the held-out part."""
    X, tags, labels = samples
    train, test = np.arange(20, 60), np.arange(20)
    for i, value in enumerate(search.param_grid[parameter]):
        hasher = clone(hasher).set_params(**{parameter: value})
        hasher.fit(X[train], [tags[j] for j in train])
        expected = leave_one_out_map(hasher.transform(X[test]), labels[test])
        assert search.cv_results_["split0_test_score"][i] == pytest.approx(expected)


@every_hasher
def test_grid_search_scores_by_routed_labels(name, samples, metadata_routing):
    X, tags, labels = samples
    hasher = make_tag_hasher(name).set_score_request(labels=True)
    parameter = n_bits_parameter(name)
    search = GridSearchCV(hasher, {parameter: [1, 4]}, cv=3, error_score="raise")
    search.fit(X, tags, labels=labels)
    assert_scores_of_first_split(search, hasher, parameter, samples)


@every_hasher
def test_a_scorer_routes_labels_past_a_pipeline(name, samples, metadata_routing):
    X, tags, labels = samples
    pipeline = make_pipeline(StandardScaler(), make_tag_hasher(name))
    parameter = f"{pipeline.steps[-1][0]}__{n_bits_parameter(name)}"
    scorer = retrieval_scorer().set_score_request(labels=True)
    search = GridSearchCV(pipeline, {parameter: [1, 4]}, scoring=scorer, cv=3, error_score="raise")
    search.fit(X, tags, labels=labels)
    assert_scores_of_first_split(search, pipeline, parameter, samples)


@every_hasher
def test_a_pipeline_routes_labels_to_score(name, samples, metadata_routing):
    X, tags, labels = samples
    hasher = make_tag_hasher(name).set_score_request(labels=True)
    pipeline = make_pipeline(StandardScaler(), hasher).fit(X, tags)
    expected = leave_one_out_map(pipeline.transform(X), labels)
    assert pipeline.score(X, labels=labels) == pytest.approx(expected)
    if parse_version(sklearn.__version__) >= parse_version("1.8"):  # older ones forget pipelines
        parameter = f"{pipeline.steps[-1][0]}__{n_bits_parameter(name)}"
        search = GridSearchCV(pipeline, {parameter: [1, 4]}, cv=3, error_score="raise")
        search.fit(X, tags, labels=labels)
        assert_scores_of_first_split(search, pipeline, parameter, samples)

"""The mixins that make a hasher of a decision function."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from skhash.base import (
    HasherMixin,
    LinearHasher,
    check_features,
    check_n_samples,
    narrow_features,
    warn_constant_bits,
)


class Thresholds(HasherMixin, BaseEstimator):
    """Bit j tells whether the one feature is at least j."""

    def __init__(self, n_bits=3):
        self.n_bits = n_bits

    def fit(self, X, y=None):
        check_features(self, X, reset=True)
        self.fitted_ = True
        return self

    def decision_function(self, X):
        return check_features(self, X, reset=False) - np.arange(self.n_bits)


class Affine(LinearHasher):
    """Codes are the signs of (x0 - 1, x0 + x1)."""

    def fit(self, X, y=None):
        X = check_features(self, X, reset=True)
        self.coef_ = np.array([[1, 0], [1, 1]], dtype=X.dtype)
        self.intercept_ = np.array([-1, 0], dtype=X.dtype)
        return self


X_LINE = np.array([[-1.0], [0.0], [1.0], [1.5], [9.0]])
X_PLANE = np.array([[1.0, -1.0], [0.5, 0.0], [-3.0, 2.0]])


def test_codes_are_one_where_the_decision_function_is_not_negative():
    codes = Thresholds().fit(X_LINE).transform(X_LINE)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]])


def test_affine_hasher_equals_its_formula():
    hasher = Affine().fit(X_PLANE)
    np.testing.assert_array_equal(
        hasher.decision_function(X_PLANE), [[0, 0], [-0.5, 0.5], [-4, -1]]
    )
    np.testing.assert_array_equal(hasher.transform(X_PLANE), [[1, 1], [0, 1], [0, 0]])


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int64, np.float64),
        (np.uint8, np.float64),
        (bool, np.float64),
    ],
)
def test_features_become_float64_unless_they_are_float32_or_less(dtype, expected):
    X = np.array([[0, 1], [1, 1]], dtype=dtype)
    hasher = Affine().fit(X)
    assert hasher.decision_function(X).dtype == expected
    assert hasher.n_features_in_ == 2


def test_checked_features_are_not_copied():
    for dtype in (np.float32, np.float64):
        X = np.ones((3, 2), dtype)
        assert check_features(Affine(), X, reset=True) is X


def test_numbers_keep_their_precision_in_every_form():
    values = 1e9 + np.arange(64.0)
    for same in (
        values[:, None].tolist(),
        torch.tensor(values[:, None]),
        values.astype(int)[:, None],
    ):
        assert len(np.unique(check_features(Affine(), same, reset=True))) == 64
    frame = pd.DataFrame({"when": values.astype(int)})
    assert len(np.unique(check_features(Affine(), frame, reset=True))) == 64
    single = torch.ones((3, 2), dtype=torch.float32)
    assert check_features(Affine(), single, reset=True).dtype == np.float32


def test_a_tensor_with_gradients_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^X must be .*requires grad"):
        Affine().fit(torch.ones((3, 2), requires_grad=True))


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [(np.float32, (1e-15, 1e15), (1e-17, 1e19)), (np.float64, (1e-140, 1e140), (1e-152, 1e154))],
)
def test_features_whose_squares_are_out_of_range_are_refused_in_fit(dtype, good, bad):
    for size in good:
        Affine().fit(np.array([[size, 0], [0, -size]], dtype))
    for size in bad:
        X = np.array([[0, 0], [0, -size]], dtype)
        with pytest.raises(ValueError, match=rf"^X has values .* range of {X.dtype}"):
            Affine().fit(X)
        Affine().fit(X_PLANE.astype(dtype)).transform(X)
    Affine().fit(np.zeros((2, 2), dtype))


def test_features_are_narrowed_where_float32_can_tell_them_apart():
    X = np.array([[0.1, 1.0], [0.2, 1.0], [0.3, 1.0]])
    np.testing.assert_array_equal(narrow_features(X), X.astype(np.float32))
    narrow = X.astype(np.float32)
    assert narrow_features(narrow) is narrow
    assert narrow_features(np.asfortranarray(narrow)).flags.c_contiguous
    # A large value that is the same for all takes nothing from the others.
    np.testing.assert_array_equal(narrow_features(X * [1, 1e9]), narrow * np.float32([1, 1e9]))
    narrow_features(X + 1e3)
    for bad, reason in ((X + 1e6, "X varies too little"), (X * 1e30, "X has values .* float32")):
        with pytest.raises(ValueError, match=reason):
            narrow_features(bad)
    assert not narrow_features(np.zeros((2, 2))).any()


def test_one_sample_is_too_few_to_learn_from():
    check_n_samples(["a.jpg", "b.jpg"])
    for few in ([], ["a.jpg"]):
        with pytest.raises(ValueError, match=rf"^X has n_samples = {len(few)}: .*at least 2"):
            check_n_samples(few)


@pytest.mark.parametrize("hasher", [Thresholds(), Affine()], ids=["mixin", "linear"])
def test_an_unfitted_hasher_has_neither_codes_nor_names(hasher):
    for method in (hasher.transform, hasher.decision_function):
        with pytest.raises(NotFittedError):
            method(X_PLANE if isinstance(hasher, Affine) else X_LINE)
    with pytest.raises(NotFittedError):
        hasher.get_feature_names_out()


def test_codes_come_as_a_data_frame_with_names_and_index():
    frame = pd.DataFrame(X_LINE, columns=["width"], index=list("edcba"))
    hasher = Thresholds(n_bits=2).set_output(transform="pandas").fit(frame)
    codes = hasher.transform(frame)
    assert codes.columns.tolist() == ["thresholds0", "thresholds1"]
    assert codes.index.tolist() == list("edcba")
    assert (codes.dtypes == np.uint8).all()
    assert hasher.feature_names_in_.tolist() == ["width"]
    assert hasher.score(frame, [0, 0, 1, 1, 1]) == Thresholds(n_bits=2).fit(X_LINE).score(
        X_LINE, [0, 0, 1, 1, 1]
    )


def test_names_count_the_bits_of_the_fit():
    assert Affine().fit(X_PLANE).get_feature_names_out().tolist() == ["affine0", "affine1"]


def leave_one_out_map(codes, tags):
    """Mean average precision from the definition, for rankings without ties."""
    precisions = []
    for query in range(len(codes)):
        distances = (codes != codes[query]).sum(axis=1)
        others = [i for i in np.argsort(distances, kind="stable") if i != query]
        assert len(set(distances[others])) == len(others)
        relevant = [bool(set(tags[i]) & set(tags[query])) for i in others]
        hits = np.cumsum(relevant)
        ranks = np.arange(1, len(others) + 1)
        precisions.append((hits / ranks)[relevant].sum() / max(sum(relevant), 1))
    return np.mean(precisions)


# Gaps 1, 2, 4, 8: no two distances from one sample are equal.
X_GAPS = np.array([[0.0], [1.0], [3.0], [7.0], [15.0]])
TAGS = [["a"], ["b", "a"], ["b"], [], ["a"]]


def test_score_is_leave_one_out_mean_average_precision():
    hasher = Thresholds(n_bits=16).fit(X_GAPS)
    expected = leave_one_out_map(hasher.transform(X_GAPS), TAGS)
    assert 0 < expected < 1
    assert hasher.score(X_GAPS, TAGS) == pytest.approx(expected, abs=1e-12)


def test_score_takes_every_form_of_tags():
    hasher = Thresholds(n_bits=16).fit(X_GAPS)
    indicator = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0]])
    expected = hasher.score(X_GAPS, TAGS)
    for same in (indicator, sp.csr_array(indicator), pd.DataFrame(indicator), pd.Series(TAGS)):
        assert hasher.score(X_GAPS, same) == expected
        assert hasher.score(X_GAPS, labels=same) == expected
    classes = [0, 1, 1, 0, 0]
    assert hasher.score(X_GAPS, classes) == hasher.score(X_GAPS, np.eye(2)[classes])


def test_score_prefers_labels_to_tags():
    hasher = Thresholds(n_bits=16).fit(X_GAPS)
    labels = [["x"], ["y"], ["x"], ["y"], ["y"]]
    assert hasher.score(X_GAPS, TAGS, labels=labels) == hasher.score(X_GAPS, labels)
    assert hasher.score(X_GAPS, labels) != hasher.score(X_GAPS, TAGS)


def test_score_needs_something_to_be_relevant():
    hasher = Thresholds().fit(X_GAPS)
    with pytest.raises(ValueError, match="score needs labels or y"):
        hasher.score(X_GAPS)


@pytest.mark.parametrize("argument", ["y", "labels"])
def test_score_names_the_argument_of_the_wrong_length(argument):
    hasher = Thresholds().fit(X_GAPS)
    with pytest.raises(ValueError, match=rf"^{argument}\b.*\b4\b.*\b5\b"):
        hasher.score(X_GAPS, **{argument: ["a"] * 4})


def test_labels_are_routed_to_score(metadata_routing, rng):
    X = rng.normal(size=(30, 1)) * 3
    tags = [["t"]] * 30
    labels = (X[:, 0] > 1).astype(int)
    hasher = Thresholds(n_bits=1).set_score_request(labels=True)
    search = GridSearchCV(hasher, {"n_bits": [1, 2]}, cv=3).fit(X, tags, labels=labels)
    # With every tag shared all rankings are perfect; only the labels tell the two apart.
    assert search.best_params_ == {"n_bits": 2}
    assert search.cv_results_["mean_test_score"][0] < search.cv_results_["mean_test_score"][1]


@pytest.mark.parametrize("low", [0, -1])
def test_constant_bits_are_counted_in_the_warning(low):
    codes = np.array([[1, 1, low, low], [1, low, low, 1]])
    with pytest.warns(UserWarning, match=r"^2 of 4 bits are constant .*: the reason\.$"):
        warn_constant_bits(codes, "the reason.")


def test_no_warning_without_constant_bits():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_constant_bits(np.eye(3), "the reason.")


BAD_FEATURES = {
    "nan": ([[np.nan, 0.0]], ValueError, "X contains NaN"),
    "infinite": ([[np.inf, 0.0]], ValueError, "X contains infinity"),
    "no-samples": (np.empty((0, 2)), ValueError, r"^X must be .* 0 sample"),
    "no-features": (np.empty((3, 0)), ValueError, r"^X must be .* 0 feature"),
    "one-dimension": ([1.0, 2.0], ValueError, r"^X must be .*(?s:.)*1D array"),
    "three-dimensions": (np.ones((2, 2, 2)), ValueError, r"^X must be .*dim 3"),
    "str": ([["a", "b"]], ValueError, r"^X must be a dense array of numbers"),
    "a-str": ("photos", ValueError, r"^X must be a dense array of numbers"),
    "none": (None, ValueError, r"^X must be a dense array of numbers"),
    "ragged": ([[1.0, 2.0], [1.0]], ValueError, r"^X must be a dense array of numbers"),
    "complex": (np.ones((2, 2), complex), ValueError, r"^X must be .*[Cc]omplex"),
    "sparse": (sp.csr_array(np.eye(2)), TypeError, r"\bX\b.*dense"),
}


@pytest.mark.parametrize(("X", "error", "match"), BAD_FEATURES.values(), ids=BAD_FEATURES)
def test_bad_features_are_refused_by_name(X, error, match):
    with pytest.raises(error, match=match):
        Affine().fit(X)
    with pytest.raises(error, match=match):
        Affine().fit(X_PLANE).transform(X)


def test_another_number_of_features_is_refused():
    with pytest.raises(ValueError, match="X has 3 features, but Affine is expecting 2"):
        Affine().fit(X_PLANE).transform(np.ones((2, 3)))


def test_features_in_another_order_are_refused():
    frame = pd.DataFrame(X_PLANE, columns=["width", "height"])
    with pytest.raises(ValueError, match="feature names should match"):
        Affine().fit(frame).transform(frame[["height", "width"]])

"""The ridge path against scikit-learn's Ridge and cross-validation by explicit hat matrices."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge

from skhash import _rows
from skhash._ridge import _STRENGTHS, RidgePath


def make_regression(rng, n_samples=50, n_features=8, n_targets=3, noise=1.0):
    """Correlated features of different scales off the origin, and targets that they tell of."""
    X = rng.normal(size=(n_samples, n_features)) @ rng.normal(size=(n_features, n_features)) + 4
    T = X @ rng.normal(size=(n_features, n_targets)) + noise * rng.normal(
        size=(n_samples, n_targets)
    )
    return X, T + 7


def penalty(X, strength):
    """The penalty of a strength, as scikit-learn's Ridge takes it."""
    return strength * len(X) * X.var(axis=0).mean()


def hat(X, strength):
    """The n x n matrix from targets to fitted values, intercept included."""
    centred = X - X.mean(axis=0)
    gram = centred.T @ centred + penalty(X, strength) * np.eye(X.shape[1])
    return 1 / len(X) + centred @ np.linalg.solve(gram, centred.T)


def generalised_cross_validation(X, T, strength):
    H = hat(X, strength)
    return np.square(T - H @ T).sum() / (1 - np.trace(H) / len(X)) ** 2


def leave_one_out(X, T, strength):
    """Squared error of each sample predicted by the others, by fitting as often."""
    error = 0.0
    for i in range(len(X)):
        others = np.delete(np.arange(len(X)), i)
        # The same penalty in all fits: a strength is relative to the samples at hand.
        model = Ridge(alpha=penalty(X, strength)).fit(X[others], T[others])
        error += np.square(T[i] - model.predict(X[[i]])).sum()
    return error


sizes = pytest.mark.parametrize(("n_samples", "n_features"), [(50, 8), (8, 8), (12, 30), (2, 3)])


@sizes
@pytest.mark.parametrize("strength", [1e-3, 0.1, 10])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_coefficients_are_those_of_a_ridge(rng, n_samples, n_features, strength, form):
    X, T = make_regression(rng, n_samples, n_features)
    T = np.where(rng.random(T.shape) < 0.3, T, 0)
    expected = Ridge(alpha=penalty(X, strength), solver="svd").fit(X, T)
    coef, intercept, used = RidgePath(X).fit(form(T), strength)
    np.testing.assert_allclose(coef, expected.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(intercept, expected.intercept_, rtol=1e-6, atol=1e-9)
    assert used == strength


@sizes
def test_strength_zero_is_least_squares_of_least_norm(rng, n_samples, n_features):
    X, T = make_regression(rng, n_samples, n_features)
    coef, intercept, _ = RidgePath(X).fit(T, 0)
    expected = np.linalg.lstsq(X - X.mean(axis=0), T - T.mean(axis=0), rcond=1e-10)[0].T
    np.testing.assert_allclose(coef, expected, atol=1e-8)
    np.testing.assert_allclose(intercept, T.mean(axis=0) - coef @ X.mean(axis=0), atol=1e-7)


def test_least_squares_of_repeated_features_shares_the_coefficients(rng):
    X, T = make_regression(rng)
    expected, _, _ = RidgePath(X).fit(T, 0)
    coef, _, _ = RidgePath(np.hstack([X, X])).fit(T, 0)
    np.testing.assert_allclose(coef, np.hstack([expected, expected]) / 2, atol=1e-8)


@sizes
@pytest.mark.parametrize("noise", [0.01, 3, 30, 1e4])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_auto_has_the_least_generalised_cross_validation_error(
    rng, n_samples, n_features, noise, form
):
    X, T = make_regression(rng, n_samples, n_features, noise=noise)
    _, _, chosen = RidgePath(X).fit(form(T))
    errors = {strength: generalised_cross_validation(X, T, strength) for strength in _STRENGTHS}
    assert chosen in errors
    # No test of equality: where n <= d the errors of weak ridges are nearly 0 / 0.
    assert errors[chosen] <= min(errors.values()) * (1 + 1e-6)


def test_noisier_targets_get_a_stronger_ridge(rng):
    X, _ = make_regression(rng, 200)
    coef = rng.normal(size=(8, 3))
    chosen = [
        RidgePath(X).fit(X @ coef + noise * rng.normal(size=(200, 3)))[2]
        for noise in (0.1, 10, 1e4)
    ]
    assert chosen[0] < chosen[1] < chosen[2]


@pytest.mark.parametrize("noise", [1, 10, 100])
def test_auto_is_nearly_as_good_as_leave_one_out_can_choose(rng, noise):
    X, T = make_regression(rng, 40, noise=noise)
    _, _, chosen = RidgePath(X).fit(T)
    errors = {strength: leave_one_out(X, T, strength) for strength in _STRENGTHS[::4]}
    assert leave_one_out(X, T, chosen) <= 1.03 * min(errors.values())


def test_targets_that_nothing_tells_of_get_the_strongest_ridge(rng):
    X = rng.normal(size=(100, 5))
    centred = X - X.mean(axis=0)
    T = rng.normal(size=(100, 2))
    T -= centred @ np.linalg.lstsq(centred, T, rcond=None)[0]
    coef, _, chosen = RidgePath(X).fit(T)
    assert chosen == _STRENGTHS[-1]
    np.testing.assert_allclose(coef, 0, atol=1e-9)


@pytest.mark.parametrize("strength", [0.3, "auto"])
def test_a_strength_means_the_same_at_any_scale_and_size(rng, strength):
    X, T = make_regression(rng, noise=5)
    coef, intercept, used = RidgePath(X).fit(T, strength)
    scaled = RidgePath(1000 * X).fit(T, strength)
    np.testing.assert_allclose(scaled[0] * 1000, coef, rtol=1e-9)
    np.testing.assert_allclose(scaled[1], intercept, rtol=1e-9)
    assert scaled[2] == used
    shifted = RidgePath(X - 100).fit(T, strength)
    np.testing.assert_allclose(shifted[0], coef, rtol=1e-9)
    scaled = RidgePath(X).fit(5 * T, strength)
    np.testing.assert_allclose(scaled[0] / 5, coef, rtol=1e-9)
    assert scaled[2] == used


def test_a_strength_means_the_same_for_samples_taken_twice(rng):
    X, T = make_regression(rng)
    coef, intercept, _ = RidgePath(X).fit(T, 0.3)
    twice = RidgePath(np.vstack([X, X])).fit(np.vstack([T, T]), 0.3)
    np.testing.assert_allclose(twice[0], coef, rtol=1e-9)
    np.testing.assert_allclose(twice[1], intercept, rtol=1e-9)


def test_blocks_of_rows_make_no_difference(rng, monkeypatch):
    X, T = make_regression(rng)
    path = RidgePath(X)
    coef, intercept, used = path.fit(T)
    projected = path.project(coef)
    assert [len(centred) for _, centred in path._centred()] == [50]
    monkeypatch.setattr(_rows, "_BLOCK_BYTES", 7 * 8 * X.shape[1])
    assert [len(centred) for _, centred in path._centred()] == [7] * 7 + [1]
    for form in (np.asarray, sp.csr_array):
        again = path.fit(form(T))
        np.testing.assert_allclose(again[0], coef, rtol=1e-9)
        np.testing.assert_allclose(again[1], intercept, rtol=1e-9)
        assert again[2] == used
    np.testing.assert_allclose(path.project(coef), projected, rtol=1e-9)
    monkeypatch.setattr(_rows, "_BLOCK_BYTES", 1)  # less than a row
    assert [len(centred) for _, centred in path._centred()] == [1] * 50


def test_a_projection_is_of_the_centred_features(rng):
    X, T = make_regression(rng)
    coef, intercept, _ = RidgePath(X).fit(T, 0.3)
    projected = RidgePath(X).project(coef)
    np.testing.assert_allclose(projected, (X - X.mean(axis=0)) @ coef.T, atol=1e-9)
    np.testing.assert_allclose(projected + T.mean(axis=0), X @ coef.T + intercept, atol=1e-9)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_single_precision_is_kept_and_survives_a_large_offset(rng, form):
    X, T = make_regression(rng, 5000)
    offset = np.float32(X + 1000)
    T = np.maximum(T - T.mean(), 0).astype(np.float32)
    single = RidgePath(offset).fit(form(T), 0.1)
    double = RidgePath(offset.astype(float)).fit(form(T.astype(float)), 0.1)
    assert single[0].dtype == single[1].dtype == np.float32
    assert double[0].dtype == double[1].dtype == np.float64
    np.testing.assert_allclose(single[0], double[0], rtol=1e-3, atol=1e-4)
    assert RidgePath(offset).fit(form(T))[2] == RidgePath(offset.astype(float)).fit(form(T))[2]


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
@pytest.mark.parametrize("strength", [0, 0.3, "auto"])
def test_constant_features_predict_the_mean(rng, value, strength):
    X, T = np.full((20, 4), value), rng.normal(size=(20, 2))
    coef, intercept, _ = RidgePath(X).fit(T, strength)
    np.testing.assert_array_equal(coef, 0)
    np.testing.assert_allclose(intercept, T.mean(axis=0))


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_means_of_many_single_precision_targets_are_exact(rng, form):
    targets = np.repeat(np.float32([[1, 0.7, 0]]), 200_000, axis=0)
    path = RidgePath(rng.normal(size=(200_000, 1)).astype(np.float32))
    total = path.moments(form(targets)).total
    assert total < 1e-9 * np.square(targets, dtype=np.float64).sum()
    coef, intercept, _ = path.fit(form(targets))
    np.testing.assert_allclose(coef, 0, atol=1e-6)
    np.testing.assert_allclose(intercept, targets[0], atol=1e-6)


def test_constant_targets_are_their_own_prediction(rng):
    coef, intercept, _ = RidgePath(rng.normal(size=(20, 4))).fit(np.full((20, 2), 3.0))
    np.testing.assert_allclose(coef, 0, atol=1e-12)
    np.testing.assert_allclose(intercept, 3)

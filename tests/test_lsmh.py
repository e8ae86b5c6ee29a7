"""LSMH: the objective is what it says, every step lessens it, and new samples follow from it."""

import numpy as np
import pytest

from skhash import LSMH
from skhash.unsupervised._lsmh import factorise


@pytest.fixture
def X(rng):
    """Six latent factors behind twelve features, off the origin."""
    return rng.normal(size=(150, 6)) @ rng.normal(size=(6, 12)) + rng.normal(size=(150, 12)) + 5


def objective(X, U, V, R, B, alpha, beta):
    return (
        np.square(X - V @ U).sum()
        + alpha * (np.square(U).sum() + np.square(V).sum())
        + beta * np.square(B - V @ R).sum()
    )


def factors_of(X, U, R, B, alpha, beta):
    """V that minimises the objective: ridge regression on [U, sqrt(beta) R'] stacked."""
    root = np.sqrt(beta)
    stack = np.hstack([U, root * R])
    target = np.hstack([X, root * B])
    return target @ stack.T @ np.linalg.inv(stack @ stack.T + alpha * np.eye(len(U)))


def centred_and_scaled(X, n_bits):
    Z = X - X.mean(axis=0)
    return Z * np.sqrt(n_bits * len(Z) / np.square(Z).sum())


WEIGHTS = [(0.03, 0.03), (1.0, 0.1), (0.1, 1.0), (10.0, 5.0)]


@pytest.mark.parametrize(("alpha", "beta"), WEIGHTS)
@pytest.mark.parametrize("n_bits", [1, 4, 12])
def test_the_objective_never_rises(X, alpha, beta, n_bits):
    hasher = LSMH(n_bits, alpha=alpha, beta=beta, max_iter=40, random_state=0).fit(X)
    assert hasher.objective_.shape == (hasher.n_iter_,) == (40,)
    assert (np.diff(hasher.objective_) <= 1e-10 * hasher.objective_[0]).all()
    assert hasher.objective_[-1] < hasher.objective_[0]


def run(X, n_bits, alpha, beta, n_iter):
    """Scaled features, start, and where a run ends: its factors are those of the code before."""
    Z = centred_and_scaled(X, n_bits)
    V = Z @ np.linalg.svd(Z, full_matrices=False)[2][:n_bits].T
    return Z, factorise(Z, V, alpha=alpha, beta=beta, n_iter=n_iter, random_state=0)


@pytest.mark.parametrize(("alpha", "beta"), WEIGHTS)
def test_the_last_objective_is_that_of_the_definition(X, alpha, beta):
    """Run to where the codes rest, V follows from what a run returns."""
    Z, (U, R, B, losses) = run(X, 4, alpha, beta, 2000)
    V = factors_of(Z, U, R, B, alpha, beta)
    assert losses[-1] == pytest.approx(objective(Z, U, V, R, B, alpha, beta), rel=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), WEIGHTS)
def test_a_long_run_ends_where_no_part_can_be_bettered(rng, X, alpha, beta):
    Z, (U, R, B, _) = run(X, 4, alpha, beta, 2000)
    V = factors_of(Z, U, R, B, alpha, beta)
    best = objective(Z, U, V, R, B, alpha, beta)
    np.testing.assert_allclose(R.T @ R, np.eye(4), atol=1e-9)
    np.testing.assert_array_equal(B, np.where(V @ R >= 0, 1, -1))
    for _ in range(20):
        skew = 0.05 * rng.normal(size=(4, 4))
        turned = R @ np.linalg.qr(np.eye(4) + skew - skew.T)[0]
        for nearby in (
            (U + 0.05 * rng.normal(size=U.shape), V, R),
            (U, V + 0.05 * rng.normal(size=V.shape), R),
            (U, V, turned),
        ):
            assert objective(Z, *nearby, B, alpha, beta) > best


def test_new_samples_get_the_rotated_factors_of_ridge_regression(rng, X):
    hasher = LSMH(4, alpha=0.5, random_state=0).fit(X)
    U, R = hasher.factors_, hasher.rotation_
    new = rng.normal(size=(20, 12)) + 5
    Z = X - X.mean(axis=0)
    scale = np.sqrt(4 * len(X) / np.square(Z).sum())
    V = np.stack(
        [
            np.linalg.lstsq(
                np.vstack([U.T, np.sqrt(0.5) * np.eye(4)]),
                np.concatenate([scale * (x - X.mean(axis=0)), np.zeros(4)]),
            )[0]
            for x in new
        ]
    )
    np.testing.assert_allclose(hasher.decision_function(new), V @ R, atol=1e-9)


def test_codes_of_the_training_samples_are_nearly_those_learned(X):
    hasher = LSMH(6, random_state=0).fit(X)
    assert hasher.codes_.dtype == np.uint8
    assert (hasher.transform(X) != hasher.codes_).mean() < 0.05


def test_with_hardly_any_weight_on_codes_factors_span_the_principal_components(X):
    """Then U and V are those of a ridge factorisation, which principal components solve."""
    hasher = LSMH(4, alpha=0.1, beta=1e-9, max_iter=300, random_state=0).fit(X)
    leading = np.linalg.svd(X - X.mean(axis=0))[2][:4]
    basis = np.linalg.qr(hasher.factors_.T)[0]
    np.testing.assert_allclose(np.linalg.svd(leading @ basis)[1], 1, atol=1e-6)


def test_planted_codes_are_found(rng):
    corners = rng.integers(0, 2, (300, 5), dtype=np.uint8)
    cube = 2.0 * corners - 1
    noise = 0.1 * rng.normal(size=(300, 20))
    X = cube @ np.linalg.qr(rng.normal(size=(20, 5)))[0].T + noise + 3
    hashers = [LSMH(5, random_state=seed).fit(X) for seed in range(5)]
    best = min(hashers, key=lambda hasher: hasher.objective_[-1])
    agree = (2.0 * best.transform(X) - 1).T @ cube / len(X)
    assert np.sort(np.abs(agree), axis=1)[:, -1] == pytest.approx(1)


def test_codes_ignore_shift_and_scale(X):
    codes = LSMH(5, random_state=0).fit_transform(X)
    np.testing.assert_array_equal(LSMH(5, random_state=0).fit_transform(10 * X - 3), codes)


def test_float32_keeps_the_objective_falling(X):
    hasher = LSMH(5, random_state=0).fit(X.astype(np.float32))
    assert hasher.coef_.dtype == hasher.factors_.dtype == hasher.rotation_.dtype == np.float32
    assert (np.diff(hasher.objective_) <= 1e-5 * hasher.objective_[0]).all()
    double = LSMH(5, random_state=0).fit(X)
    np.testing.assert_allclose(hasher.objective_, double.objective_, rtol=1e-2)


def test_more_bits_than_directions_are_refused(rng):
    with pytest.raises(ValueError, match=r"^n_bits=5 needs at least as many samples and features"):
        LSMH(5).fit(rng.normal(size=(9, 4)))


def test_the_more_codes_weigh_the_nearer_the_factors_are_to_them(X):
    distances = []
    for beta in (0.01, 0.1, 1.0, 10.0):
        Z, (U, R, B, _) = run(X, 4, 0.1, beta, 500)
        distances.append(np.square(B - factors_of(Z, U, R, B, 0.1, beta) @ R).mean())
    assert (np.diff(distances) < 0).all()
    assert distances[-1] < 0.1

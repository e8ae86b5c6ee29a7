"""SKLSH against its kernel, in closed form, and the median heuristic against its definition."""

import warnings

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from skhash import SKLSH
from skhash._kernel import median_gamma


def chance_to_differ(distance, gamma):
    m = np.arange(1, 100_000)
    kernel = np.exp(-gamma * np.square(m * distance))
    return 8 / np.pi**2 * ((1 - kernel) / (4 * m**2 - 1)).sum()


@pytest.mark.parametrize("gamma", [0.1, 2.0])
def test_bits_differ_with_the_chance_that_the_kernel_gives(gamma):
    distances = np.array([0.1, 0.5, 1.0, 2.0, 10.0])
    # The far ones make sure that no bit is the same in all training samples and drawn again.
    line = np.concatenate([[0.0], distances, 100.0 * np.arange(1, 60)])
    X = np.outer(line, [0.6, 0.8]) + 3
    codes = SKLSH(n_bits=20_000, gamma=gamma, random_state=0).fit_transform(X)
    expected = [chance_to_differ(distance, gamma) for distance in distances]
    # Five standard deviations of the mean of 20,000 draws.
    differ = (codes[1 : 1 + len(distances)] != codes[0]).mean(axis=1)
    np.testing.assert_allclose(differ, expected, atol=0.018)
    assert expected[-1] == pytest.approx(4 / np.pi**2, rel=1e-4)


def test_the_kernel_may_be_seen_in_the_waves(rng):
    """Mean products of two samples' waves are half the kernel: frequencies are not off by 2."""
    X = rng.normal(size=(30, 5))
    hasher = SKLSH(n_bits=50_000, gamma=0.3, random_state=0).fit(X * 50)
    waves = hasher.decision_function(X[:8]) - hasher.offset_
    squares = np.square(X[:8, None] - X[None, :8]).sum(axis=2)
    np.testing.assert_allclose(
        2 * waves @ waves.T / 50_000, np.exp(-0.3 * squares), atol=5 / np.sqrt(50_000)
    )


def test_values_are_those_of_the_definition(rng):
    X = rng.normal(size=(30, 5))
    hasher = SKLSH(n_bits=7, random_state=0).fit(X)
    np.testing.assert_allclose(
        hasher.decision_function(X),
        np.cos(X @ hasher.coef_.T + hasher.intercept_) + hasher.offset_,
        atol=1e-12,
    )


def test_the_median_is_that_of_all_pairs(rng):
    X = rng.normal(size=(50, 4))
    hasher = SKLSH(n_bits=2, random_state=0).fit(X)
    assert hasher.gamma_ == pytest.approx(1 / (2 * np.median(pdist(X) ** 2)))
    assert SKLSH(n_bits=2, gamma=3, random_state=0).fit(X).gamma_ == 3.0


def test_pairs_of_duplicates_do_not_count(rng):
    X = rng.normal(size=(3, 4))
    gamma = median_gamma(np.repeat(X, 40, axis=0), np.random.RandomState(0))
    assert gamma == pytest.approx(1 / (2 * np.median(pdist(X) ** 2)))
    assert median_gamma(np.full((5, 2), 0.1), np.random.RandomState(0)) == 1.0


def test_the_median_of_many_samples_is_that_of_some(rng):
    X = rng.normal(size=(3000, 4))
    gamma = median_gamma(X, np.random.RandomState(0))
    assert gamma == pytest.approx(1 / (2 * np.median(pdist(X[:2000]) ** 2)), rel=0.05)
    assert gamma != median_gamma(X, np.random.RandomState(1))


def test_one_sample_has_no_median():
    with pytest.raises(ValueError, match=r"^X has n_samples = 1, but gamma=\"median\""):
        SKLSH(n_bits=2).fit([[1.0, 2.0]])
    with pytest.warns(UserWarning, match="2 of 2 bits are constant"):
        SKLSH(n_bits=2, gamma=1.0).fit([[1.0, 2.0]])


@pytest.mark.parametrize("gamma", [0, -1.0, "mean", None])
def test_a_gamma_that_is_none_is_refused(rng, gamma):
    with pytest.raises(ValueError, match="'gamma' parameter of SKLSH must be"):
        SKLSH(n_bits=2, gamma=gamma).fit(rng.normal(size=(5, 2)))


def test_codes_ignore_shift_and_scale(rng):
    X = rng.normal(size=(50, 6))
    codes = SKLSH(n_bits=64, random_state=0).fit_transform(X)
    np.testing.assert_array_equal(SKLSH(64, random_state=0).fit_transform(3 * X + 100), codes)


def test_constant_features_have_no_frequency(rng):
    X = np.insert(rng.normal(size=(50, 3)), 1, 0.1, axis=1)
    coef = SKLSH(n_bits=8, random_state=0).fit(X).coef_
    assert not coef[:, 1].any()
    assert coef[:, [0, 2, 3]].all()


def test_bits_that_tell_no_samples_apart_are_drawn_again(rng):
    X = rng.normal(size=(20, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = SKLSH(n_bits=300, random_state=0).fit_transform(X)
    assert (codes.std(axis=0) > 0).all()


def test_bits_that_no_draw_helps_are_told(rng):
    X = rng.normal(size=(20, 6))
    with pytest.warns(UserWarning, match=r"bits are constant .* increase gamma"):
        SKLSH(n_bits=32, gamma=1e-12, random_state=0).fit(X)

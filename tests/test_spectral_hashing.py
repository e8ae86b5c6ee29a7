"""Spectral hashing against eigenfunctions of boxes, and its choice of waves against brute force."""

import numpy as np
import pytest

from skhash import SpectralHashing
from skhash.unsupervised._pcah import principal_projection
from skhash.unsupervised._spectral import _smoothest


def rotated_box(rng, sides, n_samples=400):
    X = rng.uniform(size=(n_samples, len(sides))) * sides
    return X @ np.linalg.qr(rng.normal(size=(len(sides),) * 2))[0] + 7


def product_of_sines(X, X_train, n_bits):
    """Bit by bit as the authors' program goes: sort all modes, multiply over all directions."""
    mean, components = principal_projection(X_train, min(n_bits, *X_train.shape))
    V, V_train = (X - mean) @ components.T, (X_train - mean) @ components.T
    low, lengths = V_train.min(axis=0), np.ptp(V_train, axis=0)
    most = np.ceil((n_bits + 1) * lengths / lengths.max()).astype(int)
    modes = np.array(
        [k * np.eye(len(most), dtype=int)[j] for j in range(len(most)) for k in range(1, most[j])]
    )
    omegas = modes * np.pi / lengths
    omegas = omegas[np.argsort(np.square(omegas).sum(axis=1), kind="stable")[:n_bits]]
    return np.stack([np.sin(np.pi / 2 + w * (V - low)).prod(axis=1) for w in omegas], axis=1)


@pytest.mark.parametrize("n_bits", [1, 3, 8, 40])
def test_values_are_products_of_sines_over_the_principal_components(rng, n_bits):
    X = rotated_box(rng, [4.0, 3.0, 1.0, 0.5])
    hasher = SpectralHashing(n_bits).fit(X[:300])
    np.testing.assert_allclose(
        hasher.decision_function(X), product_of_sines(X, X[:300], n_bits), atol=1e-9
    )


def test_the_lowest_frequencies_are_chosen(rng):
    for _ in range(20):
        lengths = rng.uniform(0.1, 3, size=5)
        sides, modes = _smoothest(lengths, 12)
        waves = sorted((k / length, j, k) for j, length in enumerate(lengths) for k in range(1, 99))
        assert list(zip(sides, modes, strict=True)) == [(j, k) for _, j, k in waves[:12]]


def test_sides_without_length_have_no_waves():
    sides, modes = _smoothest(np.array([2.0, 0.0, 1.0]), 3)
    assert sides.tolist() == [0, 0, 2]
    assert modes.tolist() == [1, 2, 1]
    assert not np.any(_smoothest(np.zeros(3), 4))


def test_waves_over_a_line_are_orthogonal_and_of_mean_0():
    """The eigenfunctions of an interval: any wrong shift or frequency mixes them."""
    X = np.linspace(5, 9, 20_001)[:, None]
    values = SpectralHashing(n_bits=6).fit(X).decision_function(X)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(values.T @ values / len(X), np.eye(6) / 2, atol=1e-3)


def test_a_bit_of_mode_k_changes_k_times_over_the_line():
    X = np.linspace(0, 1, 1000)[:, None]
    hasher = SpectralHashing(n_bits=5).fit(X)
    changes = np.abs(np.diff(hasher.transform(X).astype(int), axis=0)).sum(axis=0)
    assert changes.tolist() == hasher.modes_.tolist() == [1, 2, 3, 4, 5]


def test_long_sides_get_more_bits(rng):
    hasher = SpectralHashing(n_bits=8).fit(rotated_box(rng, [10.0, 4.0, 0.1], 2000))
    # Half waves per unit: 0.1 to 0.6 along the first side, 0.25 and 0.5 along the second.
    assert np.bincount(hasher.directions_).tolist() == [6, 2]


def test_codes_ignore_shift_scale_and_rotation(rng):
    X = rotated_box(rng, [4.0, 3.0, 1.0])
    codes = SpectralHashing(n_bits=12).fit_transform(X)
    np.testing.assert_array_equal(SpectralHashing(12).fit_transform(5 * X - 2), codes)
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = SpectralHashing(12).fit_transform(X @ Q)
    # A direction may be seen from its other end: odd modes flip, Hamming distances do not.
    flips = (turned != codes).mean(axis=0)
    assert np.isin(flips, [0, 1]).all()


def test_the_box_is_that_of_the_training_samples(rng):
    X = rotated_box(rng, [4.0, 3.0])
    hasher = SpectralHashing(n_bits=4).fit(X)
    middle, far = X.mean(axis=0), 3 * X - 2 * X.mean(axis=0)
    together = hasher.decision_function(np.vstack([middle, far]))
    np.testing.assert_allclose(together[0], hasher.decision_function(middle[None])[0])
    assert np.abs(together).max() <= 1


def test_equal_samples_have_no_box():
    with pytest.warns(UserWarning, match="3 of 3 bits are constant"):
        hasher = SpectralHashing(n_bits=3).fit(np.full((5, 2), 0.1))
    assert hasher.modes_.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"^X has n_samples = 1\b"):
        SpectralHashing(n_bits=3).fit([[1.0, 2.0]])

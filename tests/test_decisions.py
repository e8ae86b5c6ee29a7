"""Values whose signs are the same in any batch."""

import numpy as np
import pytest

from skhash._decisions import affine_values, centred_projection, settled_values
from skhash._kernel import gaussian_kernel


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_bits", [1, 5])
def test_affine_values_are_the_formula(rng, dtype, n_bits):
    X, coef = rng.normal(size=(2500, 7)).astype(dtype), rng.normal(size=(n_bits, 7)).astype(dtype)
    intercept = rng.normal(size=n_bits).astype(dtype)
    values = affine_values(X, coef, intercept)
    assert values.dtype == dtype
    exact = X.astype(float) @ coef.T.astype(float) + intercept
    np.testing.assert_allclose(values, exact, atol=1e-5 if dtype == np.float32 else 1e-12)
    np.testing.assert_array_equal(affine_values(X, coef, intercept, np.negative), -values)


def test_coefficients_of_centred_projections(rng):
    X, mean, directions = rng.normal(size=(9, 4)), rng.normal(size=4), rng.normal(size=(3, 4))
    coef, intercept = centred_projection(mean, directions, np.dtype(np.float64))
    np.testing.assert_allclose(affine_values(X, coef, intercept), (X - mean) @ directions.T)
    narrow = centred_projection(mean, directions, np.dtype(np.float32))
    assert [array.dtype for array in narrow] == [np.float32] * 2


def test_rows_in_doubt_are_computed_alone(rng):
    X = np.arange(12.0)[:, None]
    calls = []

    def compute(rows):
        calls.append(rows.ravel().tolist())
        # Rounding that hangs on the batch: of 0, and of 5 within what rounding may be.
        return np.where(rows % 5 == 0, 1e-9 * (-1) ** len(rows), rows), (rows % 5 == 0).ravel()

    values = settled_values(compute, X, block_rows=8)
    assert calls == [[0, 1, 2, 3, 4, 5, 6, 7], [0], [5], [8, 9, 10, 11], [10]]
    np.testing.assert_array_equal(values[[0, 5, 10]], -1e-9)
    np.testing.assert_array_equal(values[:5, 0], [-1e-9, 1, 2, 3, 4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [3, 40, 700])
def test_signs_are_the_same_in_any_batch_where_values_are_0_but_for_rounding(rng, dtype, d):
    X = rng.normal(size=(300, d)).astype(dtype)
    coef = rng.normal(size=(24, d)).astype(dtype)
    # Every row meets some bit exactly at its threshold.
    intercept = -np.einsum("ij,ij->i", X[:24].astype(float), coef).astype(dtype)
    X[24:48] = X[:24][::-1]
    bits = affine_values(X, coef, intercept) >= 0
    alone = np.concatenate([affine_values(row[None], coef, intercept) for row in X]) >= 0
    np.testing.assert_array_equal(alone, bits)
    order = rng.permutation(300)
    np.testing.assert_array_equal(affine_values(X[order], coef, intercept) >= 0, bits[order])
    for same in (np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(affine_values(same, coef, intercept) >= 0, bits)
    np.testing.assert_array_equal(bits[24:48], bits[:24][::-1])


def test_values_without_coefficients_are_certain(rng, monkeypatch):
    """Bits beyond the rank of the features cost nothing: their rows are not computed again."""
    seen = []
    vecdot = np.vecdot
    monkeypatch.setattr(np, "vecdot", lambda a, b: seen.append(len(a)) or vecdot(a, b))
    values = affine_values(rng.normal(size=(50, 3)) + 9, np.eye(4, 3), np.zeros(4))
    assert seen == [4, 50]  # of the coefficients, and of all rows once
    assert (values[:, 3] == 0).all()


def test_values_that_overflow_are_refused():
    for huge in ([[1e308, 1e308]], [[1e308, -1e308]]):
        with pytest.raises(ValueError, match=r"^X has values so large"):
            affine_values(np.array(huge), np.array([[9.0, 9.0]]), np.zeros(1))


def test_thegaussian_kernel_is_its_formula_far_from_the_origin_too(rng):
    X, anchors = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    squares = np.square(X[:, None] - anchors).sum(axis=2)
    np.testing.assert_allclose(gaussian_kernel(X, anchors, 0.3)[0], np.exp(-0.3 * squares))
    far = gaussian_kernel(X + 2.0**20, anchors + 2.0**20, 0.3)[0]
    np.testing.assert_allclose(far, np.exp(-0.3 * squares), rtol=1e-8)
    np.testing.assert_array_equal(gaussian_kernel(X + 1e6, anchors, 0.3)[0], 0)

"""SGH against a recursion on the dense n x n similarities, and its invariances."""

import numpy as np
import pytest
import scipy.linalg
from sklearn.metrics.pairwise import rbf_kernel

from skhash import LSH, SGH
from skhash.unsupervised import _sgh


@pytest.fixture
def X(rng):
    centres = 2 * rng.normal(size=(4, 6))
    return centres[np.arange(120) % 4] + rng.normal(size=(120, 6)) + 5


def scaled(X, scaling):
    Z = X - X.mean(axis=0)
    norms = np.linalg.norm(Z, axis=1)
    return Z / (norms[:, None] if scaling == "rows" else norms.max())


def exact_similarities(Z):
    return 2 * np.exp(-np.square(Z[:, None] - Z[None, :]).sum(axis=2) / 2) - 1


def linear_similarities(Z):
    """As the paper transforms them: P Q' with every column, dense."""
    damping = np.exp(-np.square(Z).sum(axis=1, keepdims=True) / 2)
    one = np.ones((len(Z), 1))
    slope, level = np.sqrt(np.e - 1 / np.e), np.sqrt(np.e + 1 / np.e)
    P = np.hstack([slope * damping * Z, level * damping, one])
    Q = np.hstack([slope * damping * Z, level * damping, -one])
    return P @ Q.T


def dense_codes(X, n_bits, n_anchors, gamma, scaling, seed):
    """The paper's recursion with n x n matrices and generalised eigenvectors."""
    rng = np.random.RandomState(seed)
    anchors = X[np.sort(rng.choice(len(X), n_anchors, replace=False))]
    K = rbf_kernel(X, anchors, gamma)
    K -= K.mean(axis=0)
    gram = K.T @ K
    residual = n_bits * linear_similarities(scaled(X, scaling))
    B = np.zeros((len(X), n_bits))
    for bit in [*range(n_bits), *rng.permutation(n_bits)]:
        residual += np.outer(B[:, bit], B[:, bit])
        w = scipy.linalg.eigh(K.T @ residual @ K, gram)[1][:, -1]
        B[:, bit] = np.where(K @ w >= 0, 1, -1)
        residual -= np.outer(B[:, bit], B[:, bit])
    return B


@pytest.mark.parametrize("scaling", ["rows", "all"])
@pytest.mark.parametrize("n_bits", [1, 5, 12])
def test_codes_are_those_of_the_dense_recursion(X, scaling, n_bits):
    hasher = SGH(n_bits, n_anchors=15, gamma=0.05, scaling=scaling, random_state=3)
    ours = 2.0 * hasher.fit_transform(X) - 1
    dense = dense_codes(X, n_bits, 15, 0.05, scaling, 3)
    # Eigenvectors have no sign of their own.
    np.testing.assert_array_equal(np.abs((ours * dense).mean(axis=0)), 1)


@pytest.mark.parametrize("scaling", ["rows", "all"])
def test_the_linear_similarities_follow_the_exact_ones(X, scaling):
    Z = scaled(X, scaling)
    off = ~np.eye(len(Z), dtype=bool)
    assert np.corrcoef(linear_similarities(Z)[off], exact_similarities(Z)[off])[0, 1] > 0.95


def test_products_of_codes_are_nearer_to_the_similarities_than_those_of_lsh(X):
    target = 16 * exact_similarities(scaled(X, "rows"))

    def error(hasher):
        B = 2.0 * hasher.fit_transform(X) - 1
        return np.square(target - B @ B.T).mean()

    lsh = np.mean([error(LSH(16, random_state=seed)) for seed in range(5)])
    assert error(SGH(16, random_state=0)) < 0.8 * lsh


def test_values_are_centred_kernels_times_weights(X):
    hasher = SGH(4, n_anchors=20, random_state=0).fit(X)
    kernel = rbf_kernel(X, hasher.anchors_, hasher.gamma_)
    np.testing.assert_allclose(hasher.kernel_mean_, kernel.mean(axis=0))
    values = (kernel - hasher.kernel_mean_) @ hasher.coef_.T
    np.testing.assert_allclose(hasher.decision_function(X), values, atol=1e-9)
    # Whitened features and unit weights: values of a bit have mean 0 and sum of squares 1.
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.square(values).sum(axis=0), 1)


def test_samples_may_come_in_blocks(X, monkeypatch):
    whole = SGH(6, n_anchors=20, random_state=0).fit(X).decision_function(X)
    monkeypatch.setattr(_sgh, "_BLOCK_ROWS", 7)
    blocks = SGH(6, n_anchors=20, random_state=0).fit(X).decision_function(X)
    np.testing.assert_allclose(blocks, whole, atol=1e-8)


@pytest.mark.parametrize("scaling", ["rows", "all"])
def test_codes_ignore_shift_and_scale(X, scaling):
    codes, moved = (
        SGH(8, n_anchors=20, scaling=scaling, random_state=0).fit_transform(Z)
        for Z in (X, 10 * X - 1e7)
    )
    np.testing.assert_array_equal(moved, codes)


def test_float32_features_far_from_the_origin_give_nearly_the_same_codes(X):
    double = SGH(8, n_anchors=20, random_state=0).fit_transform(X)
    single = SGH(8, n_anchors=20, random_state=0).fit_transform((X + 1000).astype(np.float32))
    assert (single != double).mean() < 0.01


def test_scaled_by_rows_samples_of_all_norms_compare_by_their_angle(rng):
    labels = np.arange(240) % 6
    directions = np.repeat(np.eye(6)[None], 40, axis=0).reshape(240, 6)
    X = (directions + 0.3 * rng.normal(size=(240, 6))) * rng.lognormal(0, 1.5, (240, 1))
    scores = {
        scaling: SGH(16, scaling=scaling, random_state=0).fit(X).score(X, labels=labels)
        for scaling in ("rows", "all")
    }
    assert scores["rows"] > scores["all"] + 0.05


def test_few_distinct_samples_have_few_directions(rng):
    X = np.repeat(rng.normal(size=(4, 6)), 10, axis=0)
    hasher = SGH(10, random_state=0).fit(X)
    assert hasher.anchors_.shape == (40, 6)
    codes = hasher.transform(X)
    np.testing.assert_array_equal(codes, np.repeat(codes[::10], 10, axis=0))
    assert len(np.unique(codes, axis=0)) == 4


def test_directions_in_which_kernels_vary_by_rounding_take_no_part(rng):
    """Kernels so wide span a few directions only; float32 knows less of the others."""
    X = rng.normal(size=(200, 2))
    single = SGH(16, gamma=1e-3, random_state=0).fit_transform(X.astype(np.float32))
    double = SGH(16, gamma=1e-3, random_state=0).fit_transform(X)
    assert (single != double).mean() < 0.01


def with_spectrum(rng, eigenvalues):
    """A matrix whose scatter has these eigenvalues."""
    size = len(eigenvalues)
    left, right = (np.linalg.qr(rng.normal(size=(n, size)))[0] for n in (50, size))
    return left * np.sqrt(eigenvalues) @ right.T


@pytest.mark.parametrize("largest", [100, 0.01])
def test_whitening_keeps_what_has_a_hundred_millionth_of_the_first_direction(rng, largest):
    kernel = with_spectrum(rng, largest * np.array([1, 1e-3, 1.2e-8, 0.8e-8, 1e-10]))
    whitening = _sgh._whitening(kernel)
    assert whitening.shape == (5, 3)
    features = kernel @ whitening
    np.testing.assert_allclose(features.T @ features, np.eye(3), atol=1e-6)


def test_whitening_of_float32_kernels_leaves_their_rounding_out(rng):
    """Differences as small as the rounding of numbers near 1; in float64 they would count."""
    noise = np.finfo(np.float32).eps * rng.uniform(-0.5, 0.5, size=(200, 6))
    assert _sgh._whitening(noise.astype(np.float32)).shape == (6, 0)
    assert _sgh._whitening((100 * noise).astype(np.float32)).shape == (6, 6)
    assert _sgh._whitening(noise).shape == (6, 6)


def test_a_scaling_that_is_none_is_refused(X):
    with pytest.raises(ValueError, match="'scaling' parameter of SGH must be"):
        SGH(2, scaling="columns").fit(X)

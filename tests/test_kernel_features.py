"""Nystroem features against the kernel they approximate, and the hasher that learns from them."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import rbf_kernel

from skhash import TagITQ
from skhash._kernel_features import KernelFeatures

RANDOM = np.random.RandomState


def blocks(features, X):
    rows = features.transform(X)
    return rows[:, : X.shape[1]], rows[:, X.shape[1] :]


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_the_kernel_if_all_samples_are_anchors(rng, root, dtype):
    X = rng.normal(size=(60, 5)).astype(dtype)
    X = np.abs(X) if root else X
    features = KernelFeatures(X, 100, RANDOM(0))
    assert features.root == root
    _, curved = blocks(features, X)
    assert curved.dtype == dtype
    compared = np.sqrt(X) if root else X
    kernel = rbf_kernel(compared, gamma=features.gamma)
    scale = 1 - kernel.mean()
    np.testing.assert_allclose(curved @ curved.T * scale, kernel, atol=1e-4)


def test_products_are_those_of_nystroem_and_come_near_the_kernel_with_more_anchors(rng):
    X, new = rng.normal(size=(400, 3)), rng.normal(size=(50, 3))
    errors = []
    for n_anchors in (10, 40, 160):
        features = KernelFeatures(X, n_anchors, RANDOM(0))
        _, curved = blocks(features, new)
        kernel = rbf_kernel(new, gamma=features.gamma)
        scale = 1 - rbf_kernel(features.anchors, gamma=features.gamma).mean()
        if n_anchors < 100:  # where both are exact: with more the kernel has hardly any rank left
            other = Nystroem(gamma=features.gamma, n_components=n_anchors).fit(features.anchors)
            expected = other.transform(new) @ other.transform(new).T
            np.testing.assert_allclose(curved @ curved.T * scale, expected, atol=1e-4)
        errors.append(np.abs(curved @ curved.T * scale - kernel).max())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_both_blocks_vary_as_much(rng):
    X = 7 * rng.normal(size=(500, 4)) + 2
    variances = [block.var(axis=0).sum() for block in blocks(KernelFeatures(X, 500, RANDOM(0)), X)]
    np.testing.assert_allclose(variances, 1, rtol=1e-4)


def test_unfolded_coefficients_are_those_of_kernels(rng):
    X, new = rng.normal(size=(80, 4)), rng.normal(size=(20, 4))
    features = KernelFeatures(X, 30, RANDOM(0))
    coef = rng.normal(size=(3, 34))
    linear, curved = features.unfold(coef)
    values = new @ linear.T + rbf_kernel(new, features.anchors, features.gamma) @ curved.T
    np.testing.assert_allclose(values, features.transform(new) @ coef.T, atol=1e-8)


# --- TagITQ ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rings():
    """Two rings about one centre, and tags that tell the inner one from the outer one."""
    rng = np.random.default_rng(0)
    radius, angle = 1 + np.arange(600) % 2, rng.uniform(0, 2 * np.pi, 600)
    X = np.c_[radius * np.cos(angle), radius * np.sin(angle)] + 0.1 * rng.normal(size=(600, 2))
    tags = [["inner" if r == 1 else "outer", f"noise{rng.integers(5)}"] for r in radius]
    return X, tags, radius


def test_a_kernel_tells_what_no_linear_function_does(rings):
    X, tags, labels = rings
    scores = {
        kernel: TagITQ(2, kernel=kernel, random_state=0)
        .fit(X[:300], tags[:300])
        .score(X[300:], labels=labels[300:])
        for kernel in (None, "rbf")
    }
    assert scores[None] < 0.6
    assert scores["rbf"] > 0.9


def test_values_are_those_of_the_parts(rings):
    X, tags, _ = rings
    hasher = TagITQ(3, n_anchors=50, random_state=0).fit(X, tags)
    kernel = rbf_kernel(X, hasher.kernel_features_.anchors, hasher.kernel_features_.gamma)
    values = X @ hasher.coef_.T + kernel @ hasher.kernel_coef_.T + hasher.intercept_
    np.testing.assert_allclose(hasher.decision_function(X), values, atol=1e-8)
    assert hasher.kernel_coef_.shape == (3, 50)


def test_codes_do_not_hang_on_the_batch_and_repeat(rings):
    X, tags, _ = rings
    hasher = TagITQ(8, n_anchors=50, random_state=0).fit(X, tags)
    codes = hasher.transform(X)
    np.testing.assert_array_equal(
        np.vstack([hasher.transform(x[None]) for x in X[:80]]), codes[:80]
    )
    np.testing.assert_array_equal(clone(hasher).fit(X, tags).transform(X), codes)


def test_values_below_the_training_range_have_the_root_of_nothing(rng):
    X = rng.uniform(size=(80, 4))
    hasher = TagITQ(2, random_state=0).fit(X, np.where(X[:, 0] > 0.5, "a", "b"))
    assert hasher.kernel_features_.root
    assert np.isfinite(hasher.decision_function(X - 0.5)).all()


def test_axes_of_the_targets_point_where_the_values_do(rings):
    X, tags, _ = rings
    hasher = TagITQ(3, random_state=0).fit(X, tags)
    wanted = hasher.targets_.transform(tags) @ hasher.target_coef_.T
    values = hasher.decision_function(X)
    assert (np.sign(wanted[:, 0]) == np.sign(values[:, 0])).mean() > 0.5
    assert np.corrcoef(wanted.ravel(), values.ravel())[0, 1] > 0.5

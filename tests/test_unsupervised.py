"""LSH, PCAH and ITQ against their definitions, invariances and planted structure."""

import warnings

import numpy as np
import pytest

from skhash import ITQ, LSH, LSMH, PCAH, SGH, SKLSH, SpectralHashing, _rows, _spectrum
from skhash._decisions import affine_values, centred_projection
from skhash.datasets import make_social_images
from skhash.dstdh._alm import signs
from skhash.metrics import chance_level, leave_one_out_map, mean_average_precision
from skhash.unsupervised._itq import (
    itq_codes,
    itq_rotation,
    principal_projection,
)


def random_orthogonal(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def anisotropic(rng, n_samples=200, n_features=8):
    """Samples off the origin whose principal directions are neither axes nor tied."""
    scales = 2.0 ** -np.arange(n_features)
    X = rng.normal(size=(n_samples, n_features)) * scales
    return X @ random_orthogonal(rng, n_features) + 5


def pairwise(codes):
    return (codes[:, None, :] != codes[None, :, :]).sum(axis=2)


# ---------------------------------------------------------------------------------- LSH


def test_lsh_bits_differ_with_the_chance_of_the_angle_over_pi():
    angle = 0.4
    ray = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    X = np.concatenate([ray, -ray])  # its mean is 0
    codes = LSH(n_bits=20_000, random_state=0).fit_transform(X)
    # Five standard deviations of the mean of 20,000 draws.
    assert (codes[0] != codes[1]).mean() == pytest.approx(angle / np.pi, abs=0.012)
    assert (codes[0] != codes[2]).all()


def test_lsh_projections_are_standard_normal():
    coef = LSH(n_bits=100, random_state=0).fit(np.random.default_rng(0).normal(size=(5, 100))).coef_
    assert coef.mean() == pytest.approx(0, abs=0.05)
    assert coef.std() == pytest.approx(1, abs=0.04)


def test_lsh_codes_ignore_shift_and_scale(rng):
    X = rng.normal(size=(50, 6))
    codes = LSH(n_bits=32, random_state=0).fit_transform(X)
    np.testing.assert_array_equal(LSH(32, random_state=0).fit_transform(3 * X + 100), codes)


def test_lsh_centres_with_the_mean_of_the_training_samples(rng):
    X = rng.normal(size=(50, 6)) + 100
    hasher = LSH(n_bits=16, random_state=0).fit(X)
    np.testing.assert_allclose(hasher.decision_function(X).mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(
        hasher.decision_function(X[:1]), (X[:1] - X.mean(axis=0)) @ hasher.coef_.T, atol=1e-9
    )


def test_lsh_ignores_constant_features(rng):
    X = rng.normal(size=(50, 3))
    hasher = LSH(n_bits=8, random_state=0).fit(np.insert(X, 1, 0.1, axis=1))
    assert not hasher.coef_[:, 1].any()
    assert hasher.coef_[:, [0, 2, 3]].all()


# --------------------------------------------------------------------------------- PCAH


def test_principal_projection_equals_the_eigenvectors_of_the_covariance(rng):
    X = anisotropic(rng)
    mean, components = principal_projection(X, 5)
    variances, vectors = np.linalg.eigh(np.cov(X.T))
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(np.abs(components @ vectors[:, ::-1]), np.eye(5, 8), atol=1e-8)
    np.testing.assert_allclose(
        np.var((X - mean) @ components.T, axis=0, ddof=1), variances[::-1][:5], rtol=1e-9
    )


def test_principal_directions_point_to_their_largest_entry(rng):
    _, components = principal_projection(anisotropic(rng), 8)
    assert (components[np.arange(8), np.abs(components).argmax(axis=1)] > 0).all()


def test_the_covariance_may_be_summed_in_chunks(rng, monkeypatch):
    X = anisotropic(rng, n_samples=203)
    _, whole = principal_projection(X, 4)
    monkeypatch.setattr(_rows, "_BLOCK_BYTES", 8 * 8 * 10)  # ten rows
    _, chunked = principal_projection(X, 4)
    np.testing.assert_allclose(chunked, whole, atol=1e-12)


def test_more_features_than_samples_give_the_same_projection(rng):
    """The directions lie in the span of the samples, whichever way they are computed."""
    X = anisotropic(rng, n_samples=30)
    embedding = np.linalg.qr(rng.normal(size=(100, 8)))[0].T
    _, narrow = principal_projection(X, 6)
    _, wide = principal_projection(X @ embedding, 6)
    np.testing.assert_allclose(np.abs(wide @ (narrow @ embedding).T), np.eye(6), atol=1e-9)


@pytest.mark.parametrize("shape", [(40, 8), (40, 60)], ids=["tall", "wide"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_directions_without_variance_are_zero(rng, shape, offset, dtype):
    distinct = rng.normal(size=(3, shape[1])) + offset
    X = distinct[np.arange(shape[0]) % 3].astype(dtype)  # rank two, once centred
    mean, components = principal_projection(X, 5)
    assert mean.dtype == components.dtype == dtype
    np.testing.assert_allclose(components[:2] @ components[:2].T, np.eye(2), atol=1e-6)
    assert not components[2:].any()


def test_small_directions_survive_large_ones_and_an_offset(rng):
    """Float32 features are centred and summed in float64."""
    X = (rng.normal(size=(500, 3)) * [100, 1, 0.1] + 1000).astype(np.float32)
    _, components = principal_projection(X, 3)
    assert np.abs(components[2, 2]) > 0.999


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)], ids=["tall", "wide"])
def test_the_spectrum_rebuilds_the_scatter_matrix(rng, shape):
    X = anisotropic(rng, *shape)
    mean, eigenvalues, directions = _spectrum.scatter_spectrum(X)
    assert len(eigenvalues) == min(shape[1], shape[0] - 1)
    assert (np.diff(eigenvalues) <= 0).all()
    np.testing.assert_allclose(
        (directions.T * eigenvalues) @ directions, (X - mean).T @ (X - mean), atol=1e-9
    )


@pytest.mark.parametrize("hasher", [PCAH(5), ITQ(5)], ids=["PCAH", "ITQ"])
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)], ids=["few-samples", "few-features"])
def test_more_bits_than_directions_are_refused(rng, hasher, shape):
    with pytest.raises(ValueError, match=r"^n_bits=5 needs at least as many samples and features"):
        hasher.fit(rng.normal(size=shape))


def test_pcah_codes_are_the_signs_of_principal_components(rng):
    X = anisotropic(rng)
    mean, components = principal_projection(X, 6)
    codes = PCAH(n_bits=6).fit_transform(X)
    np.testing.assert_array_equal(codes, (X - mean) @ components.T >= 0)


def test_pcah_codes_nest(rng):
    X = anisotropic(rng)
    np.testing.assert_array_equal(
        PCAH(n_bits=3).fit_transform(X), PCAH(n_bits=7).fit_transform(X)[:, :3]
    )


def test_pcah_warns_of_bits_beyond_the_rank(rng):
    X = np.outer(rng.normal(size=20), rng.normal(size=4))
    with pytest.warns(UserWarning, match=r"^2 of 3 bits are constant .*lower n_bits"):
        codes = PCAH(n_bits=3).fit_transform(X)
    assert codes[:, 0].std() > 0
    assert (codes[:, 1:] == 1).all()


# ---------------------------------------------------------------------------------- ITQ


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rotation_is_orthogonal_and_its_losses_are_those_of_the_definition(rng, dtype):
    V = (rng.normal(size=(300, 6)) * 2.0 ** -np.arange(6)).astype(dtype)
    for n_iter in (1, 2, 7):
        R, losses = itq_rotation(V, n_iter=n_iter, random_state=0)
        rotated = V @ R
        signs = np.where(rotated >= 0, 1, -1)
        assert R.dtype == dtype
        np.testing.assert_allclose(R.T @ R, np.eye(6), atol=1e-5)
        assert losses.shape == (n_iter,)
        assert losses[-1] == pytest.approx(np.square(signs - rotated).sum(), rel=1e-5)


def test_the_loss_never_rises(rng):
    V = rng.normal(size=(300, 16)) * 1.3 ** -np.arange(16)
    _, losses = itq_rotation(V, n_iter=50, random_state=0)
    assert (np.diff(losses) <= 1e-9 * losses[0]).all()
    assert losses[-1] < 0.98 * losses[0]


def test_more_iterations_continue_the_same_run(rng):
    V = rng.normal(size=(100, 5))
    short, long = (itq_rotation(V, n_iter=n, random_state=3)[1] for n in (5, 20))
    np.testing.assert_array_equal(short, long[:5])


def test_the_rotation_is_the_best_for_the_codes_before_it(rng):
    """One alternation solves the Procrustes problem: no rotation near it loses less."""
    V = rng.normal(size=(200, 4)) + [1, 0, 0, 0]  # off centre, or signs of any two sizes would do
    start, _ = itq_rotation(V, n_iter=0, random_state=0)
    signs = np.where(V @ start >= 0, 1, -1)
    R, _ = itq_rotation(V, n_iter=1, random_state=0)
    # R'V'B is symmetric and has no negative eigenvalue just where R is the best.
    product = R.T @ V.T @ signs
    np.testing.assert_allclose(product, product.T, atol=1e-9)
    assert np.linalg.eigvalsh(product).min() > 0
    best = np.square(signs - V @ R).sum()
    for _ in range(50):
        skew = rng.normal(size=(4, 4)) * 0.05
        nearby = R @ np.linalg.qr(np.eye(4) + skew - skew.T)[0]
        assert np.square(signs - V @ nearby).sum() > best


def test_dimensions_of_zeros_leave_the_rotation_to_the_others(rng):
    V = rng.normal(size=(100, 6))
    V[:, [1, 4]] = 0
    R, losses = itq_rotation(V, n_iter=10, random_state=0)
    np.testing.assert_allclose(R @ R.T, np.diag([1, 0, 1, 1, 0, 1]), atol=1e-12)
    signs = np.where(V @ R >= 0, 1, -1)
    assert losses[-1] == pytest.approx(np.square(signs - V @ R).sum())
    assert (np.diff(losses) <= 1e-9 * losses[0]).all()


def test_itq_finds_the_corners_of_a_rotated_cube(rng):
    corners = rng.integers(0, 2, (400, 5), dtype=np.uint8)
    cube = 2.0 * corners - 1 + 0.1 * rng.normal(size=(400, 5))
    X = cube @ random_orthogonal(rng, 5) + 3
    hashers = [ITQ(n_bits=5, random_state=seed).fit(X) for seed in range(5)]
    # The loss has local minima; the best of a few starts recovers the corners, up to the order
    # and the sense of the bits, which Hamming distances do not see.
    best = min(hashers, key=lambda hasher: hasher.objective_[-1])
    np.testing.assert_array_equal(pairwise(best.transform(X)), pairwise(corners))


def test_itq_loses_less_than_pcah(rng):
    X = anisotropic(rng)
    mean, components = principal_projection(X, 4)
    V = (X - mean) @ components.T
    hasher = ITQ(n_bits=4, random_state=0).fit(X)
    assert hasher.objective_[-1] < np.square(np.where(V >= 0, 1, -1) - V).sum()
    assert hasher.objective_.shape == (hasher.n_iter_,) == (50,)


def test_itq_objective_is_the_loss_of_its_codes(rng):
    X = anisotropic(rng)
    hasher = ITQ(n_bits=4, max_iter=3, random_state=0).fit(X)
    values = hasher.decision_function(X)
    signs = 2.0 * hasher.transform(X) - 1
    assert hasher.objective_[-1] == pytest.approx(np.square(signs - values).sum(), rel=1e-9)


def test_codes_that_others_start_from_are_those_of_itq(rng):
    X = anisotropic(rng)
    codes = ITQ(n_bits=4, max_iter=7, random_state=3).fit_transform(X)
    np.testing.assert_array_equal(itq_codes(X, 4, n_iter=7, random_state=3), 2.0 * codes - 1)


def test_signs_of_a_projection_are_1_from_0_on():
    X = np.array([[1, 2], [1.25, 2.25], [0.75, 1.75]])
    mean, coef = np.array([1.0, 2]), np.array([[1.0, 0], [0, -1]])
    values = affine_values(X, *centred_projection(mean, coef, X.dtype))
    np.testing.assert_array_equal(signs(values), [[1, 1], [1, -1], [-1, 1]])


def test_itq_codes_ignore_a_shift_of_the_features(rng):
    X = anisotropic(rng)
    codes = ITQ(n_bits=4, random_state=0).fit_transform(X)
    np.testing.assert_array_equal(ITQ(n_bits=4, random_state=0).fit_transform(X + 7), codes)


def test_itq_spreads_one_direction_over_all_bits(rng):
    X = np.outer(rng.normal(size=50), rng.normal(size=6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = ITQ(n_bits=4, random_state=0).fit_transform(X)
    assert (codes.std(axis=0) > 0).all()


def test_itq_of_duplicates_gives_them_one_code(rng):
    X = rng.normal(size=(4, 6))
    codes = ITQ(n_bits=3, random_state=0).fit_transform(X[np.arange(40) % 4])
    np.testing.assert_array_equal(codes, codes[np.arange(40) % 4])


# ------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("hasher", [LSH(3), PCAH(3), ITQ(3)], ids=["LSH", "PCAH", "ITQ"])
@pytest.mark.parametrize("value", [0.1, 1e6, -3.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_features_give_one_code_and_a_warning(hasher, value, dtype):
    X = np.full((23, 5), value, dtype)
    with pytest.warns(UserWarning, match=r"^3 of 3 bits are constant"):
        codes = hasher.fit_transform(X)
    assert (codes == 1).all()


@pytest.mark.parametrize(
    "hasher", [LSH(4, random_state=0), PCAH(4), ITQ(4, random_state=0)], ids=["LSH", "PCAH", "ITQ"]
)
def test_float32_and_float64_features_give_nearly_the_same_codes(rng, hasher):
    X = anisotropic(rng)
    single = hasher.fit_transform(X.astype(np.float32))
    assert hasher.coef_.dtype == hasher.intercept_.dtype == np.float32
    double = hasher.fit_transform(X)
    assert hasher.coef_.dtype == hasher.intercept_.dtype == np.float64
    assert (single != double).mean() < 0.01


# ----------------------------------------------------------------------------- on photos


@pytest.fixture(scope="module")
def photos():
    """Mean colours of 4 x 4 cells of rendered photos, and their labels."""
    data = make_social_images(600, image_size=16, random_state=0)
    return data.images.reshape(600, 4, 4, 4, 4, 3).mean(axis=(2, 4)).reshape(600, -1), data.labels


@pytest.mark.parametrize(
    "hasher",
    [
        LSH(32, random_state=0),
        SKLSH(32, random_state=0),
        PCAH(32),
        SpectralHashing(32),
        SGH(32, random_state=0),
        ITQ(32, random_state=0),
        LSMH(32, random_state=0),
    ],
    ids=lambda hasher: type(hasher).__name__,
)
def test_codes_of_rendered_photos_beat_chance(rng, photos, hasher):
    X, labels = photos
    codes = hasher.fit(X[:300]).transform(X[300:])
    chance = leave_one_out_map(rng.integers(0, 2, codes.shape), labels[300:])
    assert leave_one_out_map(codes, labels[300:]) > chance + 0.05


def test_on_real_photos_every_method_beats_chance_and_itq_most_others(real_data):
    folder = real_data / "mirflickr25k"
    X = np.load(folder / "vgg16_pool5_gap512_f16.npy")
    labels = np.loadtxt(folder / "labels24.txt", dtype=np.uint8)
    split = np.load(folder / "split_dstdh.npz")
    query, train = split["validation"], split["train"]
    database = np.setdiff1d(split["database"], query)
    maps = {}
    for hasher in (
        LSH(16, random_state=0),
        SKLSH(16, random_state=0),
        PCAH(16),
        SpectralHashing(16),
        SGH(16, random_state=0),
        ITQ(16, random_state=0),
        LSMH(16, random_state=0),
    ):
        hasher.fit(X[train])
        maps[type(hasher).__name__] = mean_average_precision(
            hasher.transform(X[query]),
            hasher.transform(X[database]),
            labels[query],
            labels[database],
        )
    chance = chance_level(labels[query], labels[database])
    assert chance + 0.015 < min(maps.values())
    assert maps["LSH"] < maps["PCAH"] < maps["ITQ"]
    assert maps["LSH"] + 0.03 < maps["SGH"]
    assert min(maps["ITQ"], maps["LSMH"]) > 0.66

"""UH-BDNN: each step against brute force, and what it learns."""

import itertools

import numpy as np
import pytest
import torch
from _photos import rendered_photos
from skorch.callbacks import Callback
from torch import nn

from skhash import UHBDNN
from skhash.codes import MISSING
from skhash.metrics import leave_one_out_map
from skhash.unsupervised._losses import UHBDNNLoss
from skhash.unsupervised._uhbdnn import Decoder, descend_codes


@pytest.fixture
def problem(rng):
    """Features, codes of 4 bits, and outputs of an encoder."""
    X = rng.normal(size=(30, 6)) * np.arange(1, 7) + 5
    codes = np.where(rng.random((30, 4)) < 0.6, 1, -1)
    return tuple(a.astype(np.float32) for a in (X, codes, rng.normal(size=(30, 4))))


def reconstruction(X, codes, W, c, ridge):
    """The decoder's part of the objective by its definition."""
    return np.square(X - codes @ W - c).sum() / 2 / len(X) + ridge / 2 * np.square(W).sum()


def scaled(X):
    centred = X.astype(float) - X.mean(axis=0, dtype=float)
    return centred / (centred.max() - centred.min())


# --------------------------------------------------------------------------- the network


def test_the_loss_is_its_formula(problem):
    _, codes, H = problem
    m = len(H)
    expected = (
        0.3 / (2 * m) * np.square(H - codes).sum()
        + 0.2 / 2 * np.square(H.T @ H / m - np.eye(4)).sum()
        + 0.1 / (2 * m) * np.square(H.sum(axis=0)).sum()
    )
    loss = UHBDNNLoss(m, 0.3, 0.2, 0.1)
    assert loss(torch.tensor(H), torch.tensor(codes)).item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_finite_differences(problem):
    _, codes, H = problem
    outputs = torch.tensor(H[:7].astype(float), requires_grad=True)
    signs = torch.tensor(codes[:7].astype(float))
    loss = UHBDNNLoss(30, 0.3, 0.2, 0.1)
    assert torch.autograd.gradcheck(lambda outputs: loss(outputs, signs), outputs)


def test_balanced_uncorrelated_codes_cost_nothing():
    codes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))
    assert UHBDNNLoss(8, 1.0, 1.0, 1.0)(codes, codes).item() == 0


def test_hidden_layers_are_sigmoid_and_the_code_layer_is_linear(problem):
    hasher = UHBDNN(2, hidden_layers=(5, 3), n_rounds=1, max_epochs=1, random_state=0)
    layers = hasher.fit(problem[0]).head_.layers
    kinds = [nn.Linear, nn.Sigmoid, nn.Linear, nn.Sigmoid, nn.Linear]
    assert [type(layer) for layer in layers] == kinds


def test_bits_start_out_balanced(problem):
    X, _, _ = problem
    hasher = UHBDNN(4, n_rounds=1, max_epochs=1, lr=1e-9, random_state=0).fit(X)
    np.testing.assert_allclose(hasher.decision_function(X).mean(axis=0), 0, atol=1e-5)


# --------------------------------------------------------------------------- the decoder


def test_the_decoder_minimises_its_part_of_the_objective(problem, rng):
    X, codes, _ = problem
    S = scaled(X)
    W, value = Decoder(X, 0.01).solve(codes)
    c = -codes.mean(axis=0) @ W
    assert value == pytest.approx(reconstruction(S, codes, W, c, 0.01), rel=1e-5)
    for _ in range(20):
        others = W + 0.01 * rng.normal(size=W.shape), c + 0.01 * rng.normal(size=c.shape)
        assert reconstruction(S, codes, W, others[1], 0.01) > value
        assert reconstruction(S, codes, others[0], c, 0.01) > value


def test_shift_and_scale_of_the_features_make_no_difference_to_it(problem):
    X, codes, _ = problem
    W, value = Decoder(X, 0.01).solve(codes)
    moved = Decoder((100 * X + np.arange(6) * 50).astype(np.float32), 0.01).solve(codes)
    np.testing.assert_allclose(moved[0], W, atol=1e-5)
    assert moved[1] == pytest.approx(value, rel=1e-3)


# ------------------------------------------------------------------------------ the codes


def test_the_terms_of_codes_are_those_of_the_objective(problem):
    """Up to a constant, over all 16 codes that a sample could have."""
    X, codes, H = problem
    S, decoder, weight = scaled(X), Decoder(X, 0.01), 0.05
    W, _ = decoder.solve(codes)
    c = -codes.mean(axis=0) @ W
    linear, quadratic = decoder.code_terms(codes)
    linear = linear + weight * H
    patterns = np.array(list(itertools.product([-1, 1], repeat=4)), float)
    for i in range(5):
        direct = [
            np.square(S[i] - b @ W - c).sum() + weight * np.square(H[i] - b).sum() for b in patterns
        ]
        short = [b @ quadratic @ b - 2 * linear[i] @ b for b in patterns]
        differences = np.subtract(direct, short)
        np.testing.assert_allclose(differences, differences[0], atol=1e-6)
        assert np.ptp(direct) > 0.01


def objective(codes, linear, quadratic):
    return np.einsum("ij,jk,ik->i", codes, quadratic, codes) - 2 * (codes * linear).sum(axis=1)


def random_terms(rng, n_bits):
    A = rng.normal(size=(n_bits, n_bits))
    codes = np.where(rng.random((40, n_bits)) < 0.5, 1, -1).astype(np.float32)
    return codes, rng.normal(size=(40, n_bits)).astype(np.float32), (A @ A.T).astype(np.float32)


def test_one_sweep_sets_each_bit_to_the_better_of_its_values(rng):
    codes, linear, quadratic = random_terms(rng, 5)
    expected = codes.copy()
    for i, bit in itertools.product(range(40), range(5)):
        both = np.repeat(expected[i : i + 1], 2, axis=0)
        both[:, bit] = 1, -1
        expected[i] = both[np.argmin(objective(both, linear[[i, i]], quadratic))]
    np.testing.assert_array_equal(descend_codes(codes, linear, quadratic, n_sweeps=1), expected)
    assert (expected != codes).mean() > 0.2


def test_sweeps_end_where_no_single_bit_does_better(rng):
    start, linear, quadratic = random_terms(rng, 5)
    kept = start.copy()
    codes = descend_codes(start, linear, quadratic, n_sweeps=50)
    np.testing.assert_array_equal(start, kept)
    values = objective(codes, linear, quadratic)
    assert (values <= objective(start, linear, quadratic) + 1e-4).all()
    for bit in range(5):
        flipped = codes.copy()
        flipped[:, bit] *= -1
        assert (objective(flipped, linear, quadratic) >= values - 1e-4).all()
    patterns = np.array(list(itertools.product([-1, 1], repeat=5)), np.float32)
    best = [objective(patterns, linear[[i] * 32], quadratic).min() for i in range(40)]
    assert np.mean(values <= np.array(best) + 1e-4) > 0.4


def test_bits_that_do_not_interact_are_solved_at_once(rng):
    codes, linear, _ = random_terms(rng, 4)
    linear[0, 0] = 0  # either value is as good: 1 by the convention
    solved = descend_codes(codes, linear, np.eye(4, dtype=np.float32), n_sweeps=1)
    np.testing.assert_array_equal(solved, np.where(linear >= 0, 1, -1))


# --------------------------------------------------------------------------------- the fit


@pytest.fixture(scope="module")
def photos():
    """Features and labels of rendered photos."""
    data = rendered_photos(600)
    return data.X, data.labels


@pytest.fixture(scope="module")
def fitted(photos):
    return UHBDNN(16, random_state=0).fit(photos[0][:300])


def test_codes_of_rendered_photos_beat_chance(rng, photos, fitted):
    X, labels = photos
    codes = fitted.transform(X[300:])
    chance = leave_one_out_map(rng.integers(0, 2, codes.shape), labels[300:])
    assert leave_one_out_map(codes, labels[300:]) > chance + 0.05


def test_the_objective_falls_from_round_to_round_and_is_its_formula(photos, fitted):
    X = photos[0][:300].astype(np.float32)
    assert fitted.objective_.shape == (fitted.n_iter_,) == (5,)
    assert (np.diff(fitted.objective_) < 0).all()
    codes, H = 2.0 * fitted.codes_ - 1, fitted.decision_function(X).astype(float)
    S, m = scaled(X), 300
    mean = codes.mean(axis=0)
    W = np.linalg.solve(
        (codes - mean).T @ (codes - mean) / m + 1e-5 * np.eye(16), (codes - mean).T @ S / m
    )
    expected = reconstruction(S, codes, W, -mean @ W, 1e-5)
    expected += 0.05 / 2 / m * np.square(H - codes).sum()
    expected += 0.01 / 2 * np.square(H.T @ H / m - np.eye(16)).sum()
    expected += 5e-7 / 2 / m * np.square(H.sum(axis=0)).sum()
    assert fitted.objective_[-1] == pytest.approx(expected, rel=1e-4)


def test_the_network_gives_the_codes_that_reconstruct(photos, fitted):
    agreement = (fitted.transform(photos[0][:300]) == fitted.codes_).mean()
    assert agreement > 0.9
    rounds = [row["round"] for row in fitted.history_]
    assert rounds == sorted([1, 2, 3, 4, 5] * 15)


def test_a_round_begins_with_the_descent_of_codes_at_the_last_network_and_decoder(photos):
    X = photos[0][:300].astype(np.float32)
    one, two = (UHBDNN(8, n_rounds=n, random_state=0).fit(X) for n in (1, 2))
    assert two.objective_[0] == one.objective_[0]
    codes = 2 * one.codes_.astype(np.float32) - 1
    linear, quadratic = Decoder(X, 1e-5).code_terms(codes)
    improved = descend_codes(codes, linear + 0.05 * one.decision_function(X), quadratic)
    np.testing.assert_array_equal(two.codes_, improved > 0)
    assert 0.01 < (one.codes_ != two.codes_).mean() < 0.5


def test_more_bits_than_features_or_samples_are_refused(rng):
    with pytest.raises(ValueError, match="n_bits=9 needs"):
        UHBDNN(9).fit(rng.normal(size=(30, 8)))


class Break(Callback):
    """Breaks the training off in the second epoch of the second round."""

    trainings = 0

    def on_train_begin(self, net, **kwargs):
        Break.trainings += 1

    def on_epoch_begin(self, net, **kwargs):
        if Break.trainings == 2 and len(net.history) == 2:
            raise RuntimeError("power cut")


def test_a_fit_that_was_broken_off_ends_as_an_unbroken_one(photos, tmp_path):
    X = photos[0][:100]
    settings = {"max_epochs": 4, "n_rounds": 3, "random_state": 0}
    Break.trainings = 0
    with pytest.raises(RuntimeError, match="power cut"):
        UHBDNN(8, checkpoint=tmp_path, callbacks=[Break()], **settings).fit(X)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["round-1.pt", "round-2.pt"]
    resumed = UHBDNN(8, checkpoint=tmp_path, **settings).fit(X)
    unbroken = UHBDNN(8, **settings).fit(X)
    np.testing.assert_array_equal(resumed.decision_function(X), unbroken.decision_function(X))
    np.testing.assert_array_equal(resumed.objective_, unbroken.objective_)
    longer = UHBDNN(8, checkpoint=tmp_path, **{**settings, "n_rounds": 4}).fit(X)
    np.testing.assert_array_equal(longer.objective_[:3], unbroken.objective_)
    with pytest.raises(ValueError, match=r"round-1\.pt.* is of another training .*max_epochs"):
        UHBDNN(8, checkpoint=tmp_path, **{**settings, "max_epochs": 6}).fit(X)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_images_unreadable_ones_left_out(rng, trainable):
    images = list(rng.integers(0, 256, (20, 8, 8, 3), np.uint8))
    images[5] = np.zeros((3, 3), np.uint16)  # no image

    def fit(images, **params):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            backbone = nn.Conv2d(3, 6, 5, 2)
        hasher = UHBDNN(
            3, backbone=backbone, image_size=8, trainable=trainable, hidden_layers=(6, 5),
            n_rounds=2, max_epochs=3, lr=0.05, random_state=0, **params,
        )  # fmt: skip
        return hasher.fit(images)

    with pytest.warns(UserWarning, match="1 of 20 images cannot be read"):
        hasher = fit(images, on_error="skip")
    assert (hasher.codes_[5] == MISSING).all()
    good = np.delete(np.arange(20), 5)
    without = fit([images[i] for i in good])
    np.testing.assert_array_equal(hasher.codes_[good], without.codes_)
    np.testing.assert_allclose(hasher.objective_, without.objective_, rtol=1e-4)

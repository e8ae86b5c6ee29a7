"""GreedyHash: its loss against the definition, and what it learns."""

import numpy as np
import pytest
import torch
from _photos import rendered_photos
from sklearn.metrics.pairwise import cosine_similarity
from torch import nn

from skhash import LSH, GreedyHash
from skhash.metrics import leave_one_out_map
from skhash.networks import ImageFeatures
from skhash.unsupervised._losses import GreedyHashLoss, straight_through_sign


@pytest.fixture
def batch(rng):
    """Outputs and features of five samples, of which no number is special."""
    outputs = torch.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    return outputs, torch.tensor(rng.normal(size=(5, 4)) + 1)


def test_the_sign_of_zero_is_one_and_its_gradient_that_of_the_identity():
    values = torch.tensor([-2.0, -0.0, 0.0, 0.3], requires_grad=True)
    signs = straight_through_sign(values)
    assert signs.tolist() == [-1, 1, 1, 1]
    weights = torch.tensor([1.0, 2.0, -3.0, 4.0])
    (signs * weights).sum().backward()
    assert torch.equal(values.grad, weights)


def test_the_loss_is_its_formula(batch):
    outputs, features = batch
    centre = torch.tensor([1.0, 0.5, 0.0, 2.0], dtype=torch.float64)
    codes = np.where(outputs.detach() >= 0, 1.0, -1.0)
    wanted = cosine_similarity(features - centre)
    errors = [
        (codes[i] @ codes[j] / 3 - wanted[i, j]) ** 2 for i in (0, 1) for j in (2, 3, 4)
    ]  # an odd batch: two and three samples
    penalty = np.mean(np.abs(np.abs(outputs.detach().numpy()) - 1) ** 3)
    loss = GreedyHashLoss(centre, quantization=0.2)(outputs, features)
    assert loss.item() == pytest.approx(np.mean(errors) + 0.2 * penalty)


def test_a_batch_of_one_has_the_penalty_only():
    loss = GreedyHashLoss(torch.zeros(2), quantization=1.0)
    assert loss(torch.tensor([[3.0, -1.0]]), torch.tensor([[1.0, 2.0]])).item() == 4


def test_codes_that_are_as_alike_as_features_cost_nothing():
    codes = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    assert GreedyHashLoss(torch.zeros(2))(codes, 7 * codes).item() == pytest.approx(0, abs=1e-12)
    assert GreedyHashLoss(torch.ones(2))(codes, 7 * codes + 1).item() == pytest.approx(0, abs=1e-12)
    assert GreedyHashLoss(torch.zeros(2))(codes, -7 * codes[[0, 1, 3, 2]]).item() > 0.5


def test_the_penalty_has_the_gradient_of_finite_differences(batch):
    outputs = batch[0].detach().reshape(1, -1).requires_grad_()
    loss = GreedyHashLoss(torch.zeros(4, dtype=torch.float64), quantization=0.3)
    assert torch.autograd.gradcheck(lambda h: loss(h, batch[1][:1]), outputs)


def test_the_gradient_of_the_similarity_goes_straight_through_the_sign(batch):
    outputs, features = batch
    centre = torch.zeros(4, dtype=torch.float64)
    codes = torch.where(outputs >= 0, 1.0, -1.0).double().requires_grad_()

    def similarity(b):
        a, c = nn.functional.normalize(b), nn.functional.normalize(features)
        return (a[:2] @ a[2:].T - c[:2] @ c[2:].T).square().mean()

    assert torch.autograd.gradcheck(similarity, codes)
    (expected,) = torch.autograd.grad(similarity(codes), codes)
    (gradient,) = torch.autograd.grad(
        GreedyHashLoss(centre, quantization=0.0)(outputs, features), outputs
    )
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(gradient, expected)


@pytest.fixture(scope="module")
def photos():
    """Features and labels of rendered photos."""
    data = rendered_photos(600)
    return data.X, data.labels


def test_codes_of_rendered_photos_beat_chance(rng, photos):
    X, labels = photos
    hasher = GreedyHash(32, random_state=0).fit(X[:300])
    codes = hasher.transform(X[300:])
    chance = leave_one_out_map(rng.integers(0, 2, codes.shape), labels[300:])
    assert leave_one_out_map(codes, labels[300:]) > chance + 0.05
    assert hasher.objective_[-1] < 0.95 * hasher.objective_[0]


def test_cosines_of_codes_follow_those_of_centred_features(photos):
    X = photos[0]
    wanted = cosine_similarity(X - X.mean(axis=0))

    def error(hasher):
        signs = 2.0 * hasher.fit(X).transform(X) - 1
        return np.square(signs @ signs.T / 32 - wanted).mean()

    learned = error(GreedyHash(32, weight_decay=0.0, random_state=0))
    assert learned < 0.7 * error(LSH(32, random_state=0))
    raw = error(GreedyHash(32, weight_decay=0.0, center=False, random_state=0))
    assert learned < raw


class Tiny(nn.Module):
    """A convolution with dropout, which features must be free of."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 6, 5, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.conv(x).relu())


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_images_are_compared_by_features_of_the_untrained_backbone(rng, trainable, monkeypatch):
    images = rng.integers(0, 256, (21, 16, 16, 3), np.uint8)
    seen = []

    def watch(self, outputs, features):
        seen.append(features.clone())
        return forward(self, outputs, features)

    forward = GreedyHashLoss.forward
    monkeypatch.setattr(GreedyHashLoss, "forward", watch)
    hasher = GreedyHash(
        4, backbone=Tiny(), image_size=16, trainable=trainable, max_epochs=3, random_state=0,
        lr=0.01, batch_size=5,
    ).fit(images)  # fmt: skip
    expected = ImageFeatures(Tiny(), image_size=16).fit_transform(images)
    order = np.lexsort(expected.T)
    assert len(seen) == 3 * 5  # with a last batch of one image
    for epoch in range(3):
        targets = torch.cat(seen[5 * epoch : 5 * epoch + 5]).numpy()
        np.testing.assert_allclose(targets[np.lexsort(targets.T)], expected[order], atol=1e-5)
    assert np.isfinite(hasher.objective_).all()
    changed = not torch.equal(hasher.backbone_.net.conv.weight, Tiny().conv.weight)
    assert changed == (trainable == "all")


def test_a_resumed_fit_ends_as_an_unbroken_one(photos, tmp_path):
    X = photos[0][:100]
    GreedyHash(8, max_epochs=2, checkpoint=tmp_path, random_state=0).fit(X)
    resumed = GreedyHash(8, max_epochs=5, checkpoint=tmp_path, random_state=0).fit(X)
    unbroken = GreedyHash(8, max_epochs=5, random_state=0).fit(X)
    np.testing.assert_array_equal(resumed.decision_function(X), unbroken.decision_function(X))
    np.testing.assert_array_equal(resumed.objective_, unbroken.objective_)

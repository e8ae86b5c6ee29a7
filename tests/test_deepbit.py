"""DeepBit: its loss against the definition, turned images, and what it learns."""

import numpy as np
import pytest
import torch
from _photos import Tally, rendered_photos
from PIL import Image
from torch import nn

from skhash import DeepBit
from skhash.metrics import leave_one_out_map
from skhash.networks import ImageFeatures
from skhash.unsupervised._deepbit import turn
from skhash.unsupervised._losses import DeepBitLoss

ANGLES = (-10.0, -5.0, 5.0, 10.0)


@pytest.fixture
def views(rng):
    """Outputs of six images upright and turned by four angles, none at a kink of the loss."""
    outputs = rng.normal(size=(6, 5, 3)) + 0.5
    outputs = outputs + 0.05 * np.sign(outputs)  # off 0
    outputs = np.where(np.abs(outputs - 0.5) < 0.05, 0.6, outputs)  # and off 1/2
    return torch.tensor(outputs, requires_grad=True)


def terms_of(outputs):
    """The three terms by their definition, undivided."""
    f = np.maximum(outputs.detach().numpy(), 0)
    b = (f[:, 0] >= 0.5).astype(float)
    weights = [np.exp(-((angle / 5) ** 2) / 2) for angle in ANGLES]
    evenness = sum((b[:, k].mean() - 0.5) ** 2 for k in range(3))
    quantization = sum(np.sum((b[i] - f[i, 0]) ** 2) for i in range(6)) / 6
    rotation = sum(
        weights[k] * np.sum((f[i, 1 + k] - f[i, 0]) ** 2) for i in range(6) for k in range(4)
    )
    return evenness, quantization, rotation / 6


def test_the_loss_is_its_formula(views):
    evenness, quantization, rotation = terms_of(views)
    assert min(evenness, quantization, rotation) > 0
    loss = DeepBitLoss(0.7, 1.3, 0.4, ANGLES)(views)
    expected = (0.7 * evenness + 1.3 * quantization + 0.4 * rotation) / 3
    assert loss.item() == pytest.approx(expected)
    upright = DeepBitLoss(0.7, 1.3)(views[:, 0])
    assert upright.item() == pytest.approx((0.7 * evenness + 1.3 * quantization) / 3)


def test_even_bits_at_0_and_1_cost_nothing():
    outputs = torch.tensor([[0.0, 1.0], [1.0, -3.0], [1.0, 1.0], [-1.0, 0.0]])
    assert DeepBitLoss()(outputs).item() == 0
    still = outputs[:, None].expand(4, 5, 2)
    assert DeepBitLoss(rotation=1.0, angles=ANGLES)(still).item() == 0


def test_quantisation_and_rotation_have_the_gradient_of_finite_differences(views):
    assert torch.autograd.gradcheck(DeepBitLoss(0.0, 1.3, 0.4, ANGLES), views)


def test_the_gradient_of_evenness_is_that_of_the_mean_output_where_active(views):
    outputs = views[:, 0].detach().requires_grad_()
    (gradient,) = torch.autograd.grad(DeepBitLoss(1.0, 0.0)(outputs), outputs)
    bits = (outputs >= 0.5).double()
    # d/df (mean b - 1/2)^2 with db/df = 1, over 3 bits; ReLU lets nothing through below 0.
    expected = 2 * (bits.mean(0) - 0.5) / 6 / 3 * (outputs > 0)
    assert expected.abs().max() > 0
    torch.testing.assert_close(gradient, expected)


def test_turning_goes_counter_clockwise_and_mirrors_edges(rng):
    images = torch.tensor(rng.integers(0, 256, (2, 3, 7, 7)), dtype=torch.uint8)
    for quarter in range(4):
        turned = turn(images, 90.0 * quarter)
        assert turned.dtype == torch.uint8
        assert torch.equal(turned, torch.rot90(images, quarter, (2, 3)))
    even = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
    assert torch.equal(turn(even, 10.0), even)
    one = turn(images, 5.0)
    assert not torch.equal(one, images)
    assert not torch.equal(one, turn(images, -5.0))


@pytest.fixture(scope="module")
def photos():
    """Features and labels of rendered photos."""
    data = rendered_photos(600)
    return data.X, data.labels


def test_codes_of_rendered_photos_beat_chance(rng, photos):
    X, labels = photos
    hasher = DeepBit(32, random_state=0).fit(X[:300])
    codes = hasher.transform(X[300:])
    chance = leave_one_out_map(rng.integers(0, 2, codes.shape), labels[300:])
    assert leave_one_out_map(codes, labels[300:]) > chance + 0.05
    assert hasher.objective_[-1] < 0.8 * hasher.objective_[0]
    assert np.abs(hasher.transform(X[:300]).mean(axis=0) - 0.5).max() < 0.2


def test_bits_are_cut_at_the_mean_output_of_the_training_samples(photos):
    X = photos[0].astype(np.float32)
    hasher = DeepBit(8, max_epochs=5, random_state=0).fit(X)
    outputs = np.maximum(hasher.decision_function(X) + hasher.threshold_, 0)  # the ReLU's
    np.testing.assert_allclose(outputs.mean(axis=0), hasher.threshold_, rtol=1e-4)
    assert (hasher.threshold_ > 0.1).all()
    np.testing.assert_array_equal(
        hasher.transform(X), hasher.decision_function(X) + hasher.threshold_ >= hasher.threshold_
    )


def test_features_cannot_be_turned(photos):
    X = photos[0][:50]
    with pytest.raises(ValueError, match=r"rotation=0\.001 needs images"):
        DeepBit(4, rotation=0.001).fit(X)
    none, zero = (
        DeepBit(4, rotation=rotation, max_epochs=2, random_state=0).fit(X).decision_function(X)
        for rotation in (None, 0)
    )
    np.testing.assert_array_equal(none, zero)


class Tiny(nn.Module, metaclass=Tally):
    """A convolution that counts the images it sees."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 6, 5, 4)

    def forward(self, x):
        Tiny.seen += len(x)
        return self.conv(x).relu()


@pytest.fixture
def images(rng):
    Tiny.seen = 0
    return rng.integers(0, 256, (20, 16, 16, 3), np.uint8)


def on_images(**params):
    settings = {"backbone": Tiny(), "image_size": 16, "max_epochs": 3, "batch_size": 8}
    return DeepBit(4, lr=0.01, random_state=0, **{**settings, **params})


def test_a_frozen_backbone_sees_every_image_and_its_turned_versions_once(images, tmp_path):
    expected = on_images().fit(images)
    assert Tiny.seen == 5 * 20
    on_images(cache=tmp_path).fit(images)
    assert Tiny.seen == 2 * 5 * 20
    cached = on_images(cache=tmp_path).fit(images)
    assert Tiny.seen == 2 * 5 * 20
    np.testing.assert_array_equal(
        cached.decision_function(images), expected.decision_function(images)
    )
    Tiny.seen = 0
    on_images(rotation=0).fit(images)
    assert Tiny.seen == 20


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_the_loss_sees_turned_images_in_the_order_of_its_angles(images, trainable, monkeypatch):
    given = []

    def watch(self, outputs, targets=None):
        given.append((outputs.detach(), targets, self.angles))
        return forward(self, outputs, targets)

    forward = DeepBitLoss.forward
    monkeypatch.setattr(DeepBitLoss, "forward", watch)
    hasher = on_images(trainable=trainable, max_epochs=1, batch_size=20).fit(images)
    outputs, rows, angles = given[0]  # of the untrained network
    assert outputs.shape == (20, 5, 4)
    pixels = torch.tensor(images.transpose(0, 3, 1, 2))
    network = on_images()
    start = network.build(network.open_inputs(images))
    for k, angle in enumerate((0.0, *angles)):
        turned = turn(pixels, angle).numpy().transpose(0, 2, 3, 1)
        features = ImageFeatures(Tiny(), image_size=16).fit_transform(turned)
        if k == 0:
            np.testing.assert_array_equal(features, start)
        expected = network.head_(torch.tensor(features)).detach()
        torch.testing.assert_close(outputs[:, k], expected[rows], rtol=1e-4, atol=1e-4)
    assert hasher.loss_.rotation == 1e-3


def test_rotation_alone_brings_outputs_of_turned_images_together(images):
    settings = {"bit_balance": 0, "quantization": 0, "rotation": 1.0, "weight_decay": 0.0}
    objective = on_images(max_epochs=20, **settings).fit(images).objective_
    assert objective[-1] < 0.3 * objective[0]


def test_unreadable_images_may_be_skipped(images, tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(20)]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file)
    files[3].write_text("no image")
    with pytest.warns(UserWarning, match=r"1 of 20 images"):
        hasher = on_images(on_error="skip").fit(files)
    assert hasher.skipped_.tolist() == [3]
    without = on_images().fit(np.delete(images, 3, 0))
    np.testing.assert_allclose(
        hasher.decision_function(images), without.decision_function(images), atol=1e-5
    )

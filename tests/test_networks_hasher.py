import inspect
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from _photos import Tally
from _threads import global_generators_left_alone, in_threads
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from skhash import DSHHasher, DSTDHHasher, KSHHasher
from skhash.codes import missing_rows, pack
from skhash.neighbors import HammingNeighbors
from skhash.networks import DeepHasher, ImageFeatures, ImageReadError


class CentersLoss(nn.Module):
    """Pulls the outputs of up to three labels to corners of their own."""

    def __init__(self, n_bits, strength):
        super().__init__()
        ones = torch.ones(n_bits)
        self.corners = torch.stack([ones, -ones, (-1) ** torch.arange(n_bits)])
        self.strength = strength

    def forward(self, outputs, labels):
        target = labels @ self.corners[: labels.shape[1]] / labels.sum(1, keepdim=True)
        return self.strength * (outputs - target).square().mean()


class CentersHasher(DeepHasher):
    """A hasher as a third party would write it.

    Parameters
    ----------
    n_bits : int, default=16
        Length.
    strength : float, default=1.0
        Weight of the loss.
    lr : float, default=0.01
        Learning rate.

    Attributes
    ----------
    fame_ : int
        Nothing.
    """

    def __init__(self, n_bits=16, *, strength=1.0, lr=0.01, **network):
        super().__init__(n_bits, lr=lr, **network)
        self.strength = strength

    def make_loss(self):
        return CentersLoss(self.n_bits, self.strength)


class Counting(nn.Module, metaclass=Tally):
    """Two convolutions that count the images they see."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU())
            self.second = nn.Conv2d(6, 7, 3, 2)

    def forward(self, x):
        Counting.seen += len(x)
        return self.second(self.first(x))


@pytest.fixture
def clusters(rng):
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 8)).astype(np.float32)
    X[np.arange(60), y] += 5
    return X, y


@pytest.fixture
def photos(rng):
    """Noise tinted by label."""
    y = np.arange(30) % 3
    pixels = rng.integers(0, 160, (30, 16, 16, 3))
    pixels[np.arange(30), :, :, y] += 90
    Counting.seen = 0
    return pixels.astype(np.uint8), y


def on_photos(**params):
    settings = {"n_bits": 8, "backbone": Counting(), "image_size": 16, "batch_size": 10}
    return CentersHasher(**{**settings, "max_epochs": 4, "random_state": 0, **params})


def weights_of(hasher):
    modules = [module for module in (hasher.backbone_, hasher.head_) if module is not None]
    return torch.cat([p.detach().ravel() for module in modules for p in module.parameters()])


def test_a_loss_is_all_that_a_hasher_needs(clusters):
    X, y = clusters
    hasher = CentersHasher(random_state=0).fit(X, y)
    assert hasher.score(X, y) > 0.99
    assert hasher.objective_.shape == (hasher.n_iter_,) == (30,)
    assert hasher.objective_[-1] < 0.5 * hasher.objective_[0]
    assert [row["epoch"] for row in hasher.history_] == list(range(1, 31))
    assert isinstance(hasher.loss_, CentersLoss)
    values = hasher.decision_function(X)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(hasher.transform(X), values >= 0)


def test_a_class_without_a_loss_says_what_is_missing(clusters):
    with pytest.raises(NotImplementedError, match=r"DeepHasher must define make_loss"):
        DeepHasher().fit(*clusters)


def test_inherited_parameters_are_written_out():
    hasher = CentersHasher(strength=2.0, max_epochs=7)
    parameters = inspect.signature(CentersHasher).parameters
    base = inspect.signature(DeepHasher).parameters
    assert list(parameters)[:3] == ["n_bits", "strength", "lr"]
    assert set(parameters) == set(base) | {"strength"}
    assert (parameters["n_bits"].default, parameters["lr"].default) == (16, 0.01)
    assert all(parameters[k].default == base[k].default for k in base if k not in ("n_bits", "lr"))
    assert set(hasher.get_params()) == set(parameters)
    assert clone(hasher).get_params() == hasher.get_params()
    assert repr(hasher) == "CentersHasher(max_epochs=7, strength=2.0)"
    with pytest.raises(TypeError, match="strenght"):
        CentersHasher(strenght=2.0)


def test_inherited_parameters_are_documented():
    doc = inspect.getdoc(CentersHasher)
    assert doc.startswith("A hasher as a third party would write it.\n\nParameters\n----------\n")
    order = [f"\n{name} : " for name in inspect.signature(CentersHasher).parameters]
    assert order == sorted(order, key=doc.index)
    assert "lr : float, default=0.01\n    Learning rate.\n" in doc
    assert doc.count("\nlr : ") == doc.count("\nn_bits : ") == 1
    assert "\nfame_ : int\n    Nothing." in doc
    assert "\nobjective_ : ndarray" in doc


def test_parameters_of_grandchildren():
    class Grandchild(CentersHasher):
        def __init__(self, n_bits=4, **network):
            super().__init__(n_bits, **network)

    assert Grandchild(strength=3.0, lr=0.5).get_params()["strength"] == 3.0
    assert list(inspect.signature(Grandchild).parameters)[:3] == ["n_bits", "strength", "lr"]


def test_the_random_state_decides_everything(clusters):
    X, y = clusters
    before = torch.random.get_rng_state()
    first, again, other = (
        CentersHasher(hidden_layers=(20,), max_epochs=20, random_state=seed).fit(X, y)
        for seed in (0, 0, 1)
    )
    assert torch.equal(weights_of(first), weights_of(again))
    assert not torch.equal(weights_of(first), weights_of(other))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_fit_with_hidden_layers_solves_what_a_linear_head_cannot(rng):
    X = rng.normal(size=(300, 2)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    linear = CentersHasher(8, weight_decay=0, random_state=0).fit(X, y)
    deep = CentersHasher(8, weight_decay=0, hidden_layers=(32,), random_state=0).fit(X, y)
    assert [type(layer) for layer in deep.head_.layers] == [nn.Linear, nn.ReLU, nn.Linear]
    assert linear.score(X, y) < 0.7 < 0.9 < deep.score(X, y)


def test_features_are_centred_and_scaled_by_stored_numbers(clusters):
    X, y = clusters
    plain = CentersHasher(max_epochs=3, random_state=0).fit(X, y)
    moved = CentersHasher(max_epochs=3, random_state=0).fit(1000 * X + 300, y)
    np.testing.assert_allclose(
        moved.decision_function(1000 * X[:5] + 300), plain.decision_function(X[:5]), atol=1e-3
    )
    np.testing.assert_allclose(plain.head_.mean, X.mean(0), atol=1e-6)
    for value in (0.0, 0.1, 1e6):
        with pytest.raises(ValueError, match="X has features that do not vary"):
            CentersHasher().fit(np.full((4, 3), value), [0, 1, 0, 1])


def test_samples_without_labels_take_no_part(clusters):
    X, y = clusters
    labels = [[str(label)] for label in y]
    labels[4] = labels[7] = []
    hasher = CentersHasher(random_state=0).fit(X, labels)  # a row of zeros makes its loss NaN
    assert hasher.score(X, y) > 0.99
    with pytest.raises(ValueError, match="y has labels for 1 sample"):
        CentersHasher().fit(X, [["a"]] + [[]] * 59)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_bits": 0}, "n_bits"),
        ({"batch_size": 1}, "batch_size"),
        ({"optimizer": "newton"}, "optimizer"),
        ({"lr": 0.0}, "lr"),
        ({"trainable": "body"}, "trainable"),
        ({"device": "abacus"}, "device='abacus'"),
        ({"checkpoint": "folder"}, "checkpoint needs an integer random_state"),
        ({"backbone": "vgg17"}, "backbone='vgg17'"),
        ({"early_stopping": True, "validation_fraction": 0.99}, "early_stopping needs"),
    ],
)
def test_bad_parameters_are_named(clusters, params, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y = clusters
    if "backbone" in params:
        X = np.zeros((60, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        CentersHasher(**params).fit(X, y)
    assert not list(tmp_path.iterdir())


def test_bad_input_is_named(clusters, photos):
    X, y = clusters
    pixels, _ = photos
    for bad in (X[:1], np.where(X > 4, np.nan, X), X[0]):
        with pytest.raises(ValueError, match=r"X|sample|dim"):
            CentersHasher().fit(bad, y[: len(bad)])
    with pytest.raises(ValueError, match=r"X must be .* dim 4"):
        CentersHasher(backbone=None).fit(pixels, y)
    with pytest.raises(ValueError, match=r"X has values .* beyond the range of float"):
        CentersHasher().fit(X.astype(float) * 1e300, y)
    with pytest.raises(ValueError, match="y has a label that all labelled samples share"):
        CentersHasher().fit(X, [["all", str(label)] for label in y])
    with pytest.raises(ValueError, match="y has 59 rows, expected 60"):
        CentersHasher().fit(X, y[:59])
    with pytest.raises(ValueError, match="CentersHasher requires y"):
        CentersHasher().fit(X, None)
    with pytest.raises(TypeError, match="X must be a sequence of image files"):
        on_photos().fit(X, y)
    with pytest.raises(ValueError, match="y has 3 rows"):
        on_photos().fit(pixels, y[:3])
    assert Counting.seen == 0  # labels are checked before images are computed


def test_optimizers_differ(clusters):
    X, y = clusters
    weights = {
        optimizer: weights_of(CentersHasher(max_epochs=2, random_state=0, **params).fit(X, y))
        for optimizer, params in {
            "adamw": {},
            "sgd": {"optimizer": "sgd"},
            "no momentum": {"optimizer": "sgd", "momentum": 0.0},
            "no decay": {"optimizer": "sgd", "weight_decay": 0.0},
        }.items()
    }
    assert len({tuple(values.tolist()) for values in weights.values()}) == 4
    assert weights["sgd"].norm() < weights["no decay"].norm()


def test_callbacks_see_the_training(clusters):
    class Watch(Callback):
        epochs = 0

        def on_epoch_end(self, net, **kwargs):
            self.epochs += 1

    watch = Watch()
    CentersHasher(max_epochs=3, callbacks=[watch]).fit(*clusters)
    assert watch.epochs == 3


def test_early_stopping_holds_out_a_part(clusters):
    X, y = clusters
    params = {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 3}
    hasher = CentersHasher(max_epochs=500, lr=0.05, random_state=0, **params).fit(X, y)
    assert hasher.n_iter_ < 500
    losses = [row["valid_loss"] for row in hasher.history_]
    assert min(losses) < losses[0]
    assert hasher.history_[0]["train_batch_count"] == 1
    assert hasher.score(X, y) > 0.99


def test_grid_search_over_network_parameters(clusters):
    X, y = clusters
    hasher = CentersHasher(2, max_epochs=3, random_state=0)
    search = GridSearchCV(hasher, {"lr": [0.01, 0.1]}, error_score="raise", cv=3).fit(X, y)
    for i, lr in enumerate([0.01, 0.1]):
        expected = clone(hasher).set_params(lr=lr).fit(X[20:], y[20:]).score(X[:20], y[:20])
        assert search.cv_results_["split0_test_score"][i] == pytest.approx(expected)


def test_float64_features_are_computed_in_float64(clusters):
    X, y = clusters
    hasher = CentersHasher(max_epochs=2, random_state=0).fit(X, y)
    wide = X.astype(float)
    values = hasher.decision_function(wide)
    assert values.dtype == np.float64
    one_by_one = np.concatenate([hasher.decision_function(row[None]) for row in wide])
    np.testing.assert_allclose(values, one_by_one, rtol=1e-12, atol=1e-12)
    assert hasher.decision_function(X).dtype == np.float32
    np.testing.assert_allclose(hasher.decision_function(X), values, rtol=1e-4, atol=1e-6)


def test_features_may_be_a_file_that_cannot_be_written(clusters, tmp_path):
    X, y = clusters
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    hasher = CentersHasher(max_epochs=2, random_state=0).fit(mapped, y)
    expected = CentersHasher(max_epochs=2, random_state=0).fit(X, y).decision_function(X)
    np.testing.assert_array_equal(hasher.decision_function(mapped), expected)


def test_it_pickles(clusters, photos):
    X, y = clusters
    hasher = CentersHasher(max_epochs=2).fit(X, y)
    again = pickle.loads(pickle.dumps(hasher))
    np.testing.assert_array_equal(again.decision_function(X), hasher.decision_function(X))
    pixels, y = photos
    hasher = on_photos(trainable="all").fit(pixels, y)
    again = pickle.loads(pickle.dumps(hasher))
    np.testing.assert_array_equal(again.decision_function(pixels), hasher.decision_function(pixels))


def test_a_frozen_backbone_sees_every_image_once(photos):
    pixels, y = photos
    hasher = on_photos().fit(pixels, y)
    assert Counting.seen == 30
    hasher.transform(pixels[:7])
    assert Counting.seen == 37


def test_a_trained_backbone_sees_the_images_in_every_epoch(photos):
    pixels, y = photos
    on_photos(trainable="all").fit(pixels, y)
    # The first pass finds the scale of the features, the last one looks for constant bits.
    assert Counting.seen == 30 + 4 * 30 + 30


def test_a_cache_serves_later_hashers(photos, tmp_path):
    pixels, y = photos
    first = on_photos(cache=tmp_path).fit(pixels, y)
    second = on_photos(cache=tmp_path, strength=0.5).fit(pixels, y)
    codes = second.transform(pixels)
    assert Counting.seen == 30
    np.testing.assert_array_equal(codes, on_photos(strength=0.5).fit(pixels, y).transform(pixels))
    np.testing.assert_array_equal(
        first.decision_function(pixels), on_photos().fit(pixels, y).decision_function(pixels)
    )
    trained = on_photos(cache=tmp_path, trainable="all").fit(pixels, y)
    trained.transform(pixels)
    # Of one network, beside the digests of files.
    assert len({path.name for path in tmp_path.iterdir()} - {"digests"}) == 1


def test_a_frozen_backbone_is_the_same_as_features(photos):
    pixels, y = photos
    hasher = on_photos().fit(pixels, y)
    features = ImageFeatures(Counting(), image_size=16).fit_transform(pixels)
    on_features = on_photos(backbone=None).fit(features, y)
    np.testing.assert_array_equal(
        hasher.decision_function(pixels), on_features.decision_function(features)
    )


def test_constant_bits_are_told(clusters):
    X, y = clusters

    class Biased(nn.Module):
        def forward(self, outputs, labels):
            return (outputs - 3).square().mean()

    class BiasedHasher(CentersHasher):
        def make_loss(self):
            return Biased()

    with pytest.warns(UserWarning, match="16 of 16 bits are constant"):
        BiasedHasher(lr=0.1, max_epochs=60, random_state=0).fit(X, y)


def test_trainable_says_what_is_trained(photos):
    pixels, y = photos
    start = Counting().state_dict()

    def changed(**params):
        hasher = on_photos(**params).fit(pixels, y)
        state = hasher.backbone_.net.state_dict()
        return {k.split(".")[0] for k, value in state.items() if not torch.equal(value, start[k])}

    assert changed() == set()
    assert changed(trainable=["second"]) == {"second"}
    assert changed(trainable="all") == {"first", "second"}


def test_backbone_and_head_have_their_own_learning_rates(photos):
    def gain(**params):
        hasher = on_photos(max_epochs=20, **params).fit(*photos)
        return 1 - hasher.objective_[-1] / hasher.objective_[0]

    assert gain(lr=1e-9) < 0.01
    assert gain(lr=1e-9, trainable="all") < 0.05
    assert gain(lr=1e-9, trainable="all", backbone_lr=0.01) > 0.3
    assert gain(lr=0.01, trainable="all", backbone_lr=1e-9) > 0.3


@pytest.fixture
def files(photos, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(30)]
    for path, image in zip(paths, photos[0], strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_unreadable_images_may_be_skipped(photos, files, trainable):
    pixels, y = photos
    files[4].write_text("no image")
    files[9].unlink()
    with pytest.raises(ImageReadError, match=r"4\.png"):
        on_photos(trainable=trainable).fit(files, y)
    with pytest.warns(UserWarning, match=r"2 of 30 images .*4\.png, .*9\.png"):
        hasher = on_photos(trainable=trainable, on_error="skip").fit(files, y)
    assert hasher.skipped_.tolist() == [4, 9]
    good = np.setdiff1d(np.arange(30), [4, 9])
    without = on_photos(trainable=trainable).fit(pixels[good], y[good])
    assert without.skipped_.tolist() == []
    assert torch.equal(weights_of(hasher), weights_of(without))
    with pytest.warns(UserWarning, match="cannot be read"):
        values = hasher.decision_function(files)
    expected = without.decision_function(pixels[good])
    np.testing.assert_allclose(values[good], expected, rtol=1e-4, atol=1e-6)
    assert np.isnan(values[[4, 9]]).all()
    with pytest.warns(UserWarning, match=r"rows .* are NaN, their codes MISSING"):
        codes = hasher.transform(files)
    np.testing.assert_array_equal(np.flatnonzero(missing_rows(codes)), [4, 9])
    np.testing.assert_array_equal(codes[good], values[good] >= 0)
    for use in (pack, HammingNeighbors().fit):
        with pytest.raises(ValueError, match=r"2 row\(s\) of MISSING .*4, 9.*missing_rows"):
            use(codes)
    with (
        pytest.raises(ValueError, match=r"2 row\(s\) of MISSING"),
        pytest.warns(UserWarning, match="cannot be read"),
    ):
        hasher.score(files, y)


def test_a_photo_that_vanishes_in_a_fit_is_named(photos, files, monkeypatch):
    def find_and_remove(images, **options):
        files[7].unlink()
        return np.empty(0, np.intp)

    monkeypatch.setattr("skhash.networks._base.find_unreadable", find_and_remove)
    with pytest.raises(ImageReadError, match=r"7\.png cannot be read any more, or not by all"):
        on_photos(trainable="all", on_error="skip").fit(files, photos[1])


def test_mixed_precision_gives_about_the_same_codes(photos):
    pixels, y = photos
    for trainable in ("head", "all"):
        exact = on_photos(trainable=trainable, max_epochs=10).fit(pixels, y)
        rough = on_photos(trainable=trainable, max_epochs=10, amp=True).fit(pixels, y)
        codes = [hasher.transform(pixels) for hasher in (exact, rough)]
        assert (codes[0] == codes[1]).mean() > 0.95
        assert not torch.equal(weights_of(exact), weights_of(rough))


SCRIPT = """
    import os, signal, sys
    sys.path.insert(0, {folder!r})
    import numpy as np
    import torch
    from skorch.callbacks import Callback
    from test_networks_hasher import on_photos

    class Kill(Callback):
        def on_batch_begin(self, net, **kwargs):
            if len(net.history) == 3 and len(net.history[-1]["batches"]) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    photos = np.load({photos!r})
    hasher = on_photos(trainable="all", checkpoint={checkpoint!r}, callbacks=[Kill()])
    hasher.fit(photos["pixels"], photos["y"])
"""


def test_a_killed_fit_goes_on_to_the_same_weights(photos, tmp_path):
    pixels, y = photos
    np.savez(tmp_path / "photos.npz", pixels=pixels, y=y)
    script = SCRIPT.format(
        folder=os.path.dirname(__file__),
        photos=str(tmp_path / "photos.npz"),
        checkpoint=str(tmp_path / "state"),
    )
    command = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    Counting.seen = 0
    resumed = on_photos(trainable="all", checkpoint=tmp_path / "state").fit(pixels, y)
    assert Counting.seen == 30 + 2 * 30 + 30  # two of four epochs were done
    unbroken = on_photos(trainable="all").fit(pixels, y)
    torch.set_num_threads(n_threads)
    assert torch.equal(weights_of(resumed), weights_of(unbroken))
    np.testing.assert_array_equal(resumed.objective_, unbroken.objective_)
    state = resumed.backbone_.state_dict()
    for key, value in unbroken.backbone_.state_dict().items():
        assert torch.equal(state[key], value), key
    with pytest.raises(ValueError, match="is of another training"):
        on_photos(trainable="all", checkpoint=tmp_path / "state").fit(pixels[::-1], y)


def test_a_hasher_can_train_in_rounds_towards_other_targets(clusters):
    """What the hashers that alternate between codes and network do."""

    class RegressionHasher(DeepHasher):
        tanh_outputs = True

        def fit(self, X, y=None):
            inputs = self.build(self.open_inputs(X))
            rng = np.random.default_rng(0)
            self.codes_ = np.where(X @ rng.normal(size=(X.shape[1], self.n_bits)) >= 0, 1, -1)
            self.losses_ = []
            for n in range(3):
                self.train_network(
                    inputs, self.codes_.astype(np.float32), nn.MSELoss(), stage=f"round-{n}"
                )
                self.losses_.append(self.objective_[-1])
            return self

    X, _ = clusters
    hasher = RegressionHasher(4, max_epochs=10, lr=0.02, random_state=0).fit(X)
    assert hasher.losses_[2] < hasher.losses_[1] < hasher.losses_[0]
    assert (np.abs(hasher.decision_function(X)) <= 1).all()
    assert ((hasher.decision_function(X) >= 0) == (hasher.codes_ > 0)).mean() > 0.85


# ------------------------------------------------------------ several fits, broken fits


class Raise(Callback):
    """Raises in the second epoch."""

    def __init__(self, error):
        self.error = error

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise self.error


class Wait(Callback):
    """Stays in the first epoch until it is told to go on."""

    begun, go_on = threading.Event(), threading.Event()

    def on_epoch_begin(self, net, **kwargs):
        self.begun.set()
        assert self.go_on.wait(60)


class Dropping(nn.Module):
    """A network that draws random numbers in training, by a function that is no layer."""

    def __init__(self, rate=0.5):
        super().__init__()
        self.rate = rate
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(7, 3, 3, 3, generator=generator) / 5)

    def forward(self, x):
        maps = nn.functional.conv2d(x, self.weight, stride=2)
        return nn.functional.dropout(maps, self.rate, self.training)


class Leaking(Dropping):
    """The same weights, and the same representation, but another function."""

    def forward(self, x):
        return nn.functional.leaky_relu(super().forward(x))


Leaking.__name__ = Leaking.__qualname__ = "Dropping"


def several_fits(clusters, photos):
    """Fits of hashers of several kinds; each gives what was learned."""
    X, y = clusters
    pixels, labels = photos
    tags = [[f"tag{label}", f"word{i % 4}"] for i, label in enumerate(y)]
    short = {"max_epochs": 4, "batch_size": 10, "random_state": 0}
    on_own = {"backbone": Dropping(), "image_size": 16, "trainable": "all"}
    fits = [
        (DSHHasher(8, hidden_layers=(16,), **short), X, y),
        (KSHHasher(8, early_stopping=True, **short), X, y),
        (CentersHasher(8, **on_own, **short), pixels, labels),
        (CentersHasher(8, **on_own, early_stopping=True, **{**short, "random_state": 1}),
         pixels, labels),
        (CentersHasher(8, **{**on_own, "trainable": "head"}, **short), pixels, labels),
        (DSTDHHasher(4, backbone=None, n_rounds=2, n_concepts=8, n_anchors=10, **short), X, tags),
    ]  # fmt: skip

    def fit(hasher, X, y):
        return lambda: clone(hasher).fit(X, y).decision_function(X)

    return [fit(*arguments) for arguments in fits]


def test_fits_in_threads_give_what_each_gives_alone(clusters, photos):
    fits = several_fits(clusters, photos)
    alone = [fit() for fit in fits]
    for _ in range(3):
        for values, expected in zip(in_threads(*fits), alone, strict=True):
            np.testing.assert_array_equal(values, expected)


def test_no_fit_draws_from_or_seeds_a_global_generator(clusters, photos):
    for fit in several_fits(clusters, photos):
        with global_generators_left_alone():
            fit()


@pytest.mark.parametrize("trained", [False, True])
def test_a_grid_search_in_threads_gives_the_same_scores(clusters, photos, trained):
    X, y = clusters
    hasher = CentersHasher(3, hidden_layers=(16,), max_epochs=3, batch_size=10, random_state=0)
    if trained:
        X, y = photos
        hasher.set_params(backbone=Dropping(), image_size=16, trainable="all", hidden_layers=())
    grid = {"lr": [0.001, 0.01, 0.1], "strength": [0.5, 1.0]}
    scores = []
    for n_jobs in (1, 2):
        with joblib.parallel_backend("threading"):
            search = GridSearchCV(
                hasher, grid, cv=2, n_jobs=n_jobs, error_score="raise", refit=False
            )
            scores.append(search.fit(X, y).cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*scores)
    assert len(set(scores[0])) > 1


@pytest.mark.parametrize("again", [False, True], ids=["fresh", "refitted"])
@pytest.mark.parametrize("kind", ["features", "images", "rounds"])
@pytest.mark.parametrize(
    "params",
    [{"callbacks": [Raise(KeyboardInterrupt())]}, {"lr": 1e30, "optimizer": "sgd"}],
    ids=["interrupted", "diverged"],
)
def test_a_fit_that_does_not_end_leaves_nothing_fitted(clusters, photos, again, kind, params):
    X, y = photos if kind == "images" else clusters
    hasher = on_photos(trainable="all", max_epochs=5)
    if kind == "features":
        hasher = CentersHasher(8, max_epochs=5, batch_size=10, random_state=0)
    elif kind == "rounds":
        hasher = DSTDHHasher(
            4, backbone=None, n_rounds=2, n_concepts=8, n_anchors=10, max_epochs=5, batch_size=10
        )
        y = [[f"tag{label}", f"word{i % 4}"] for i, label in enumerate(y)]
    if again:
        hasher.fit(X, y).transform(X)
    hasher.set_params(**params)
    with pytest.raises((KeyboardInterrupt, FloatingPointError)) as caught:
        hasher.fit(X, y)
    assert caught.type is (KeyboardInterrupt if "callbacks" in params else FloatingPointError)
    with pytest.raises(NotFittedError):
        hasher.transform(X)
    assert not [name for name in vars(hasher) if name.endswith("_")]


def test_a_folder_of_checkpoints_is_for_one_fit_at_a_time(clusters, tmp_path):
    X, y = clusters
    params = {"max_epochs": 3, "random_state": 0}
    Wait.begun.clear()
    Wait.go_on.clear()
    first = CentersHasher(checkpoint=tmp_path / "state", callbacks=[Wait()], **params)
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(first.fit, X, y)
        try:
            assert Wait.begun.wait(60)
            with pytest.raises(RuntimeError, match="in use by another process or thread"):
                CentersHasher(checkpoint=tmp_path / "state", **params).fit(X, y)
        finally:
            Wait.go_on.set()
        fit.result()
    alone = CentersHasher(**params).fit(X, y)
    np.testing.assert_array_equal(first.decision_function(X), alone.decision_function(X))
    CentersHasher(checkpoint=tmp_path / "state", **params).fit(X, y)  # the folder is free again


def test_a_checkpoint_of_other_settings_of_the_hasher_is_refused(clusters, tmp_path):
    X, y = clusters
    params = {"checkpoint": tmp_path, "random_state": 0}
    CentersHasher(max_epochs=2, **params).fit(X, y)
    with pytest.raises(ValueError, match="is of another training"):
        CentersHasher(max_epochs=4, strength=9, **params).fit(X, y)
    assert CentersHasher(max_epochs=4, **params).fit(X, y).n_iter_ == 4


def test_a_checkpoint_of_another_backbone_is_refused_though_it_looks_the_same(photos, tmp_path):
    pixels, y = photos
    params = {"trainable": "all", "checkpoint": tmp_path}
    on_photos(backbone=Dropping(), max_epochs=1, **params).fit(pixels, y)
    for other in (Dropping(rate=0.1), Leaking()):
        assert repr(other) == repr(Dropping())
        with pytest.raises(ValueError, match="is of another training"):
            on_photos(backbone=other, **params).fit(pixels, y)
    on_photos(backbone=Dropping(), max_epochs=2, **params).fit(pixels, y)


def test_what_cannot_be_told_from_others_does_without_a_checkpoint(clusters, tmp_path):
    class LockedHasher(CentersHasher):
        def __init__(self, n_bits=4, *, lock=None, **network):
            super().__init__(n_bits, **network)
            self.lock = lock

    hasher = LockedHasher(lock=threading.Lock(), max_epochs=1, random_state=0)
    assert hasher.fit(*clusters).n_iter_ == 1
    with pytest.raises(TypeError, match=r"lock.*cannot be identified .* nor checkpoint"):
        hasher.set_params(checkpoint=tmp_path).fit(*clusters)


def test_more_epochs_go_on_as_if_they_had_been_asked_for_at_once(clusters, tmp_path):
    X, y = clusters
    params = {"hidden_layers": (16,), "random_state": 0}
    DSHHasher(8, max_epochs=3, checkpoint=tmp_path, **params).fit(X, y)
    longer = DSHHasher(8, max_epochs=6, checkpoint=tmp_path, **params).fit(X, y)
    at_once = DSHHasher(8, max_epochs=6, **params).fit(X, y)
    np.testing.assert_array_equal(longer.decision_function(X), at_once.decision_function(X))
    np.testing.assert_array_equal(longer.objective_, at_once.objective_)


def test_more_epochs_are_refused_where_a_schedule_is_for_so_many(clusters, tmp_path):
    X, y = clusters

    def fit(max_epochs):
        schedule = LRScheduler(CosineAnnealingLR, T_max=max_epochs)
        hasher = DSHHasher(8, max_epochs=max_epochs, callbacks=[schedule], random_state=0)
        return hasher.set_params(checkpoint=tmp_path).fit(X, y)

    values = fit(3).decision_function(X)
    with pytest.raises(ValueError, match=r"is of another training .*max_epochs"):
        fit(6)
    np.testing.assert_array_equal(fit(3).decision_function(X), values)


def test_more_epochs_are_refused_where_later_rounds_build_on_them(clusters, tmp_path):
    X, y = clusters
    tags = [[f"tag{label}", f"word{i % 4}"] for i, label in enumerate(y)]
    hasher = DSTDHHasher(
        4, backbone=None, n_rounds=2, n_concepts=8, n_anchors=10, max_epochs=2, random_state=0
    ).set_params(checkpoint=tmp_path)
    values = hasher.fit(X, tags).decision_function(X)
    with pytest.raises(ValueError, match=r"targets\.pt.* is of another training .*max_epochs"):
        clone(hasher).set_params(max_epochs=4).fit(X, tags)
    np.testing.assert_array_equal(clone(hasher).fit(X, tags).decision_function(X), values)


@pytest.mark.slow
def test_a_process_that_reads_images_makes_no_difference(photos):
    pixels, y = photos
    here, elsewhere = (
        on_photos(trainable="all", max_epochs=2, num_workers=n).fit(pixels, y) for n in (0, 1)
    )
    assert torch.equal(weights_of(here), weights_of(elsewhere))
    np.testing.assert_array_equal(here.objective_, elsewhere.objective_)

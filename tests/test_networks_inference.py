"""Fitted networks: read by many threads, saved, loaded in other processes, run on any photos."""

import copy
import hashlib
import os
import pickle
import subprocess
import sys
import textwrap
import warnings

import joblib
import numpy as np
import pytest
import torch
from _estimators import NETWORKS, TAKES_LABELS, make_hasher
from PIL import Image
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from test_networks_hasher import CentersHasher
from torch import nn

from skhash import DSHHasher, ImageFeatures, SemanticSpace, WeaklySupervisedHasher
from skhash._image_rows import holds_images
from skhash.codes import missing_rows
from skhash.networks import Backbone, make_backbone
from skhash.networks._placement import placed
from skhash.networks._torchvision import models


def digest(modules):
    """Of all numbers of modules, with their types, layouts, places and modes."""
    digest = hashlib.blake2b()
    for module in modules:
        for name, tensor in module.state_dict().items():
            layout = f"{name} {tensor.dtype} {tensor.device} {tensor.stride()}"
            digest.update(layout.encode() + tensor.contiguous().numpy().tobytes())
        digest.update(str([part.training for part in module.modules()]).encode())
    return digest.hexdigest()


def networks_of(hasher):
    hasher = getattr(hasher, "estimator_", hasher)
    return [part for part in (hasher.backbone_, hasher.head_) if part is not None]


def small_net():
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2))
    for parameter in net.parameters():
        nn.init.uniform_(parameter, -0.3, 0.3, generator)
    return net


@pytest.fixture
def pixels(rng):
    y = np.arange(40) % 2
    pixels = rng.integers(0, 160, (40, 16, 16, 3))
    pixels[np.arange(40), :, :, y] += 90
    return pixels.astype(np.uint8), y


@pytest.mark.parametrize("name", sorted(NETWORKS | TAKES_LABELS))
@pytest.mark.parametrize("data", ["features", "images"])
def test_threads_share_a_fitted_hasher(name, data, pixels):
    images, y = pixels
    tags = [["red"], ["green"]]
    hasher = make_hasher(name, n_bits=4)
    settings = {"max_epochs": 2, "random_state": 0}
    if data == "features":
        X = images.reshape(40, -1)[:, ::16].astype(np.float64)
        inputs = [X, X.astype(np.float32)]
    else:
        settings |= {"backbone": small_net(), "image_size": 16, "amp": True}
        inputs = [images, images[::-1]]
    prefix = "estimator__" if name in TAKES_LABELS else ""
    hasher.set_params(**{prefix + key: value for key, value in settings.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bits that are constant after so short a training
        hasher.fit(inputs[0], [tags[k] for k in y])
    before = digest(networks_of(hasher))
    during = set()
    for part in networks_of(hasher):
        part.register_forward_pre_hook(lambda *_: during.add(digest(networks_of(hasher))))
    expected = [hasher.decision_function(X) for X in inputs]
    tasks = [task for _ in range(6) for task in (0, 1)]
    found = joblib.Parallel(4, prefer="threads")(
        joblib.delayed(hasher.decision_function)(inputs[task]) for task in tasks
    )
    for task, values in zip(tasks, found, strict=True):
        np.testing.assert_array_equal(values, expected[task])
    assert during == {before} == {digest(networks_of(hasher))}


def test_a_network_that_is_right_already_is_not_copied():
    net = small_net().eval()
    assert placed(net, "cpu") is net
    assert placed(net, "cpu", dtype=torch.float32) is net
    wide = placed(net, "cpu", dtype=torch.float64)
    assert {p.dtype for p in wide.parameters()} == {torch.float64}
    assert wide[1].num_batches_tracked.dtype == torch.int64
    rearranged = placed(net, "cpu", channels_last=True)
    assert rearranged[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert rearranged[0].bias is net[0].bias  # shared: it needs no change
    net.train()
    assert not any(part.training for part in placed(net, "cpu").modules())
    assert net[1].training
    assert placed(net, "cpu")[0].weight is net[0].weight


def test_codes_of_features_do_not_depend_on_the_batch(rng):
    X = np.repeat(np.eye(6, dtype=np.float32), 40, axis=0)
    hasher = CentersHasher(32, max_epochs=1, random_state=0).fit(X, np.arange(240) % 3)
    # Bits of samples on the border: what rounding leaves of 0.
    hasher.head_.lower(hasher.decision_function(X[:1])[0])
    for dtype in (np.float32, np.float64):
        codes = hasher.transform(X.astype(dtype))
        alone = np.concatenate([hasher.transform(row[None]) for row in X.astype(dtype)])
        np.testing.assert_array_equal(codes, alone)
        order = rng.permutation(240)
        np.testing.assert_array_equal(hasher.transform(X[order].astype(dtype)), codes[order])


def test_codes_of_images_do_not_depend_on_the_batch(pixels):
    images, y = pixels
    network = {"backbone": "squeezenet1_1", "weights": None, "image_size": 32}
    hasher = CentersHasher(8, max_epochs=1, random_state=0, **network).fit(images, y)
    # The first image is on the border in all bits, as far as rounding lets it be.
    hasher.head_.lower(hasher.decision_function(images[:1])[0])
    hasher.head_.lower(hasher.decision_function(images[:1])[0])
    alone = hasher.transform(images[:1])
    for start in range(1, 40, 3):
        batch = np.concatenate([images[start : start + 9], images[:1]])
        np.testing.assert_array_equal(hasher.transform(batch)[-1:], alone)


def test_fits_in_threads_are_as_fits_alone(pixels):
    images, y = pixels

    def fit(seed):
        network = {"backbone": "squeezenet1_1", "weights": None, "image_size": 32}
        hasher = DSHHasher(8, max_epochs=2, random_state=seed, **network)
        return hasher.fit(images, y).decision_function(images)

    alone = [fit(seed) for seed in range(2)]
    state = torch.random.get_rng_state()
    together = joblib.Parallel(2, prefer="threads")(joblib.delayed(fit)(k % 2) for k in range(4))
    for k, values in enumerate(together):
        np.testing.assert_array_equal(values, alone[k % 2])
    assert torch.equal(torch.random.get_rng_state(), state)


# Pickles.


def in_new_process(script, *arguments):
    code = textwrap.dedent(script)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


LOAD = """
    import sys
    import joblib, numpy as np
    load = joblib.load if sys.argv[1].endswith("joblib") else __import__("pickle").load
    with open(sys.argv[1], "rb") as file:
        fitted, unfitted = load(file)
    images = np.load(sys.argv[2])
    np.savez(sys.argv[3], *[estimator.transform(images) for estimator in fitted])
"""


@pytest.mark.parametrize("library", ["pickle", "joblib"])
def test_saved_networks_of_torchvision_load_in_a_new_process(library, pixels, tmp_path):
    images, y = pixels
    network = {"backbone": "squeezenet1_1", "weights": None, "image_size": 32, "random_state": 0}
    own = nn.Sequential(models.squeezenet1_1(weights=None).features[:4])
    space = SemanticSpace(2, vector_size=4, window=2, epochs=4, max_iter=1)
    hasher = DSHHasher(8, max_epochs=1, **network)
    tags = [[["a"], ["b"]][k] for k in y]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = [
            hasher.fit(images, y),
            make_pipeline(ImageFeatures(**network), PCA(2)).fit(images),
            WeaklySupervisedHasher(clone(hasher), space, max_epochs=1).fit(images, tags),
            ImageFeatures(own, image_size=32).fit(images),
        ]
    # One that is not fitted holds the network as a parameter.
    unfitted = [clone(fitted[3]), ImageFeatures(make_backbone("squeezenet1_1", None))]
    estimators = fitted, unfitted
    file = tmp_path / f"estimators.{library}"
    if library == "joblib":
        joblib.dump(estimators, file)
    else:
        file.write_bytes(pickle.dumps(estimators))
    np.save(tmp_path / "images.npy", images[:5])
    result = in_new_process(LOAD, file, tmp_path / "images.npy", tmp_path / "found.npz")
    assert result.returncode == 0, result.stderr
    found = np.load(tmp_path / "found.npz")
    assert len(found.files) == len(fitted)
    for name, estimator in zip(found.files, fitted, strict=True):
        np.testing.assert_allclose(
            found[name], estimator.transform(images[:5]), rtol=1e-4, atol=1e-5
        )


CROSS_VALIDATE = """
    import numpy as np
    from sklearn.model_selection import cross_validate
    from skhash import DSHHasher

    if __name__ == "__main__":
        images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
        hasher = DSHHasher(4, backbone="squeezenet1_1", weights=None, image_size=32, max_epochs=1,
                           random_state=0)
        results = cross_validate(hasher, images, np.arange(12) % 2, cv=2, n_jobs=2,
                                 return_estimator=True, error_score="raise")
        print([e.transform(images).shape for e in results["estimator"]])
"""


@pytest.mark.slow
def test_estimators_come_back_from_other_processes():
    result = in_new_process(CROSS_VALIDATE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[(12, 4), (12, 4)]"


def test_backbones_are_copied_whole():
    backbone = Backbone(small_net(), 16, [0.5] * 3, [0.25] * 3, crop=0.5, interpolation="bicubic")
    torchvisions = make_backbone("squeezenet1_1", None, image_size=32, random_state=0)
    for original in (backbone.eval(), torchvisions):
        for again in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
            assert again.fingerprint() == original.fingerprint()
            assert type(again) is Backbone
    hasher = DSHHasher(backbone=torchvisions)
    again = clone(hasher)
    assert again.backbone is not torchvisions
    assert again.backbone.fingerprint() == torchvisions.fingerprint()


# Processes.


FORK = """
    import multiprocessing, sys
    import numpy as np
    from skhash import DSHHasher

    def encode(hasher, X, queue):
        queue.put(hasher.transform(X).sum())

    X = np.random.default_rng(0).normal(size=(4000, 512)).astype(np.float32)
    hasher = DSHHasher(64, max_epochs=1, hidden_layers=(256,), random_state=0)
    hasher.fit(X, np.arange(4000) % 3)
    expected = hasher.transform(X).sum()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=encode, args=(hasher, X, queue), daemon=True)
    process.start()
    process.join(60)
    sys.exit(0 if not process.is_alive() and queue.get(timeout=5) == expected else 3)
"""


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="needs processes that fork")
def test_a_forked_process_encodes_after_a_fit():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORK)]
    result = subprocess.run(command, env=environment, timeout=300, check=False)
    assert result.returncode == 0


# Preprocessing.


def test_a_backbone_may_be_given_whole(pixels):
    images, y = pixels
    backbone = Backbone(small_net(), 12, [0.5] * 3, [0.25] * 3, crop=0.5, interpolation="bicubic")
    features = ImageFeatures(backbone).fit_transform(images)
    seen = [
        Image.fromarray(image).resize((12, 12), Image.Resampling.BICUBIC, box=(4, 4, 12, 12))
        for image in images
    ]
    x = torch.from_numpy(np.stack([np.asarray(image) for image in seen])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = small_net().eval()((x / 255 - 0.5) / 0.25).mean((2, 3))
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    hasher = CentersHasher(8, backbone=backbone, max_epochs=2, random_state=0).fit(images, y)
    on_features = CentersHasher(8, max_epochs=2, random_state=0).fit(features, y)
    np.testing.assert_array_equal(
        hasher.decision_function(images), on_features.decision_function(features)
    )
    assert hasher.backbone_ is not backbone
    assert make_backbone(backbone, image_size=20).image_size == 20
    assert make_backbone(backbone).image_size == 12


def test_preprocessing_of_a_backbone_is_checked():
    for name, value in (
        ("image_size", 0), ("mean", [0.5] * 2), ("std", [0.5, 0.5, 0.0]), ("mean", [np.nan] * 3),
        ("crop", 0), ("crop", 1.5), ("interpolation", "cubist"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            Backbone(nn.Identity(), **{name: value})


def test_preprocessing_is_part_of_the_fingerprint():
    settings = [
        {}, {"image_size": 100}, {"crop": 0.875}, {"interpolation": "bicubic"},
        {"mean": [0.5] * 3}, {"std": [0.5] * 3},
    ]  # fmt: skip
    prints = {Backbone(nn.Identity(), **setting).fingerprint() for setting in settings}
    assert len(prints) == len(settings)


def test_models_of_torchvision_scale_as_they_were_trained():
    assert make_backbone("squeezenet1_1", None).interpolation == "bilinear"
    bicubic = models.get_model_weights("regnet_y_400mf").DEFAULT.transforms().interpolation.value
    assert make_backbone("regnet_y_400mf", None).interpolation == bicubic


# What X is, and how often it is computed.


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (np.zeros((3, 4)), False),
        (np.zeros((3, 4), np.uint8), False),
        ([[0.0, 1.0], [1.0, 0.0]], False),
        ([np.zeros(4), np.zeros(4)], False),
        (np.zeros(3), False),
        (np.zeros((3, 4, 4)), False),
        (np.zeros((4, 4, 3), np.uint8), True),
        ([], False),
        (np.zeros((3, 4, 4, 3), np.uint8), True),
        ([np.zeros((4, 4, 3), np.uint8)], True),
        (["a.jpg"], True),
        (np.array(["a.jpg"]), True),
        (np.array(["a.jpg"], object), True),
        ([Image.new("L", (2, 2))], True),
        ("a.jpg", True),
    ],
)
def test_images_are_told_from_features(X, expected):
    assert holds_images(X) is expected


def test_data_frames_are_features_and_their_columns_may_be_images():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0], "path": ["a.jpg", "b.jpg"]})
    assert not holds_images(table[["a", "b"]])
    assert not holds_images(table[["a"]])
    assert holds_images(table["path"])
    assert holds_images(table[["path"]])
    # Numbers beside paths are no features: the error about images says how to choose a column.
    with pytest.raises(TypeError, match=r"X\['a'\]\. If X is a matrix .* set backbone=None"):
        DSHHasher(4).fit(table, [0, 1])


def test_the_default_takes_features_or_the_default_network(pixels, monkeypatch):
    images, y = pixels
    made = []

    def make(backbone, *args, **kwargs):
        made.append(backbone)
        return Backbone(small_net(), 16)

    monkeypatch.setattr("skhash.networks._base.make_backbone", make)
    hasher = DSHHasher(4, max_epochs=1, random_state=0)
    assert hasher.backbone == "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert hasher.fit(images.reshape(40, -1), y).backbone_ is None
        assert not made
        hasher.fit(images, y)
    assert made == ["vgg16"]


class Watched(Backbone):
    """A backbone that counts the images it sees."""

    seen = 0

    def forward(self, images):
        Watched.seen += len(images)
        return super().forward(images)


@pytest.mark.parametrize("trainable", ["head", "all"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_fit_transform_is_fit_and_transform(pixels, trainable, wrapped):
    images, y = pixels
    network = {"backbone": Watched(small_net(), 16), "trainable": trainable, "max_epochs": 2}
    hasher = CentersHasher(8, random_state=0, **network)
    y = [[["a"], ["b"]][k] for k in y]
    if wrapped:
        space = SemanticSpace(2, vector_size=4, window=2, epochs=4, max_iter=1)
        hasher = WeaklySupervisedHasher(hasher, space, max_epochs=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for X in (images, list(images), [Image.fromarray(image) for image in images]):
            expected = clone(hasher).fit(X, y).transform(X)
            Watched.seen = 0
            np.testing.assert_array_equal(clone(hasher).fit_transform(X, y), expected)
            if trainable == "head":
                assert 40 <= Watched.seen < 60  # a bit near 0 is decided on its image alone
        frame = clone(hasher).set_output(transform="pandas").fit_transform(images, y)
    np.testing.assert_array_equal(frame, expected)


def test_fit_transform_takes_only_the_same_images_for_computed(pixels):
    images, y = pixels

    class Curious(CentersHasher):
        def learn(self, X, y):
            super().learn(X, y)
            self.others_ = self.transform(255 - X)

    hasher = Curious(8, backbone=Backbone(small_net(), 16), max_epochs=2, random_state=0)
    codes = hasher.fit_transform(images, y)
    np.testing.assert_array_equal(hasher.others_, hasher.transform(255 - images))
    np.testing.assert_array_equal(codes, hasher.transform(images))


def test_images_at_a_time(pixels):
    images, y = pixels
    sizes = []
    net = small_net()
    net.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    hasher = CentersHasher(
        8, backbone=net, image_size=16, inference_batch_size=7, max_epochs=1, random_state=0
    )
    hasher.fit(images, y)
    assert sizes == [7] * 5 + [5]
    with pytest.raises(ValueError, match="inference_batch_size"):
        hasher.set_params(inference_batch_size=0).fit(images, y)


def test_images_of_too_many_pixels_are_unreadable(pixels):
    images, y = pixels
    hasher = CentersHasher(
        8, backbone=small_net(), image_size=16, max_pixels=256, on_error="skip", random_state=0
    )
    larger = [*images, np.zeros((17, 16, 3), np.uint8)]
    with pytest.warns(UserWarning, match="1 of 41 images cannot be read"):
        codes = hasher.fit_transform(larger, [*y, 0])
    assert np.flatnonzero(missing_rows(codes)).tolist() == [40]
    features = ImageFeatures(small_net(), image_size=16, max_pixels=255)
    with pytest.raises(ValueError, match="max_pixels=255"):
        features.fit_transform(images)

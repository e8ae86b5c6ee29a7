"""Engines: networks computed by other libraries than torch, with torch's codes."""

import pickle
import sys
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from torch import nn

import skhash
from skhash import DSHHasher, ImageFeatures
from skhash.networks import _engines
from skhash.networks._export import check_installed
from skhash.networks._images import ImageReadError

compilers = pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])


def need(engine):
    """Skip a test where an engine lacks something."""
    try:
        check_installed(engine, "this test")
    except ImportError as error:
        pytest.skip(str(error))


def small_net():
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2))
    for parameter in net.parameters():
        nn.init.uniform_(parameter, -0.3, 0.3, generator)
    return net.eval()


class Choosy(nn.Module):
    """Computes what depends on the values that it gets."""

    def forward(self, images):
        return (images if images.mean() > 0 else -images).flatten(2).mean(2)


@pytest.fixture
def pixels(rng):
    y = np.arange(40) % 2
    pixels = rng.integers(0, 160, (40, 16, 16, 3))
    pixels[np.arange(40), :, :, y] += 90
    return pixels.astype(np.uint8), y


def features_of(images, net=None, **params):
    return ImageFeatures(net or small_net(), image_size=16, **params).fit_transform(images)


def hasher_of(**params):
    settings = {"max_epochs": 2, "batch_size": 16, "lr": 0.01, "random_state": 0, **params}
    return DSHHasher(12, backbone=small_net(), image_size=16, **settings)


@pytest.fixture
def rough_engine(monkeypatch):
    """In place of onnxruntime, torch with errors as large as compilers make; a list of its loads.

    Its errors differ from call to call, as those of another batch do.
    """
    loads = []
    noise = np.random.default_rng(0)

    def compile_roughly(backbone, engine, amp):
        loads.append(engine)
        exact = _engines._torch_forward(backbone, torch.device("cpu"), amp)

        def forward(batch):
            features = exact(batch)
            return features + np.float32(5e-6 * np.abs(features).max()) * noise.uniform(
                -1, 1, features.shape
            ).astype(np.float32)

        return forward

    monkeypatch.setattr(_engines, "_compile", compile_roughly)
    monkeypatch.setattr(_engines, "check_installed", lambda *_: None)
    return loads


@compilers
def test_features_are_those_of_torch_in_batches_of_any_size(engine, pixels, three_threads):
    need(engine)
    images, _ = pixels
    exact = features_of(images)
    tolerance = 1e-5 * np.abs(exact).max()
    features = ImageFeatures(small_net(), image_size=16, engine=engine, batch_size=16).fit(images)
    whole = features.transform(images)
    for batch in (images, images[:1], images[:5]):  # 16 + 16 + 8, 1, 5
        found = features.transform(batch)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact[: len(batch)], rtol=0, atol=tolerance)
        np.testing.assert_array_equal(found, whole[: len(batch)])  # each image is computed alone
    found = joblib.Parallel(4, prefer="threads")(
        joblib.delayed(features.transform)(images) for _ in range(8)
    )
    for threaded in found:
        np.testing.assert_array_equal(threaded, whole)


def test_a_network_that_was_changed_is_compiled_anew(pixels, rough_engine):
    images, _ = pixels
    features = ImageFeatures(small_net(), image_size=16, engine="onnxruntime").fit(images)
    before = features.transform(images)
    with torch.no_grad():
        features.backbone_.net[3].bias += 1
    np.testing.assert_allclose(features.transform(images), before + 1, atol=1e-4)
    features.backbone_.net[3] = nn.Identity()
    assert features.transform(images).shape == (40, 8)
    assert len(rough_engine) == 3


def test_a_network_that_hangs_on_values_is_refused(pixels, monkeypatch):
    need("onnxruntime")
    images, _ = pixels
    with pytest.raises(ValueError, match=r"engine='onnxruntime'.*'Choosy'.*use engine='torch'"):
        features_of(images, Choosy(), engine="onnxruntime")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(_engines, "_WORTH_COMPILING", 1)
    np.testing.assert_array_equal(
        features_of(images, Choosy(), engine="auto"), features_of(images, Choosy())
    )


def test_auto_compiles_where_that_is_worth_it(pixels, monkeypatch):
    need("openvino")
    images, _ = pixels
    features = ImageFeatures(small_net(), engine="auto").fit(images)
    backbone = features.backbone_

    def chosen():
        return _engines.choose_engine(backbone, "auto", "cpu", amp=False, n_images=len(images))[0]

    exact = features.transform(images)
    assert chosen() == "torch" and backbone not in _engines._compiled
    monkeypatch.setattr(_engines, "_WORTH_COMPILING", len(images))
    assert chosen() == "openvino" and backbone in _engines._compiled
    monkeypatch.setattr(_engines, "_WORTH_COMPILING", len(images) + 1)
    assert chosen() == "openvino"
    np.testing.assert_allclose(features.transform(images), exact, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        backbone.net[0].weight += 1
    assert chosen() == "torch"


def test_openvino_computes_in_bfloat16(pixels):
    need("openvino")
    images, _ = pixels
    exact = features_of(images)
    rough = features_of(images, amp=True, engine="openvino")
    np.testing.assert_allclose(rough, exact, atol=0.02)


def test_codes_of_all_engines_are_the_same_where_outputs_are_0_but_for_rounding(
    pixels, rough_engine
):
    images, y = pixels
    images = np.concatenate([images, np.repeat(images[:1], 8, axis=0)])
    hasher = hasher_of().fit(images, np.append(y, [0] * 8))
    hasher.head_.lower(hasher.decision_function(images[:1])[0])
    # Without a second look by torch, the engine would turn bits.
    engine, device = _engines.choose_engine(
        hasher.backbone_, "onnxruntime", "cpu", amp=False, n_images=1
    )
    forward = _engines.make_forward(hasher.backbone_, engine, device, amp=False)
    with torch.no_grad():
        batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        values = hasher.head_(torch.from_numpy(forward(batch))).numpy()
    codes = hasher.transform(images)
    assert ((values >= 0) != codes)[[0, *range(40, 48)]].any()
    hasher.set_params(engine="onnxruntime")
    np.testing.assert_array_equal(hasher.transform(images), codes)
    alone = np.concatenate([hasher.transform(image[None]) for image in images])
    np.testing.assert_array_equal(alone, codes)
    assert len(rough_engine) == 1


@compilers
def test_codes_are_those_of_torch(engine, pixels):
    need(engine)
    images, y = pixels
    hasher = hasher_of().fit(images, y)
    hasher.head_.lower(hasher.decision_function(images[:1])[0])
    codes = hasher.transform(images)
    np.testing.assert_array_equal(hasher.set_params(engine=engine).transform(images), codes)


def test_a_network_in_training_is_torchs(pixels, rough_engine):
    images, y = pixels
    ours, other = (
        hasher_of(trainable="all", engine=engine).fit(images, y)
        for engine in ("torch", "onnxruntime")
    )
    assert not rough_engine
    for name, weights in other.backbone_.state_dict().items():
        assert torch.equal(weights, ours.backbone_.state_dict()[name])
    np.testing.assert_array_equal(other.transform(images), ours.transform(images))
    assert len(rough_engine) == 1


def test_what_is_compiled_is_kept_and_never_stored(pixels, rough_engine, tmp_path):
    images, y = pixels
    hasher = hasher_of(engine="onnxruntime").fit(images, y)
    codes = hasher.transform(images)
    assert len(rough_engine) == 1
    again = pickle.loads(pickle.dumps(hasher))
    skhash.save(hasher, tmp_path / "hasher.skhash")
    loaded = skhash.load(tmp_path / "hasher.skhash", modules=small_net())
    for copied in (again, loaded):
        assert copied.engine == "onnxruntime"
        np.testing.assert_array_equal(copied.transform(images), codes)
    assert len(rough_engine) == 3
    assert clone(hasher).engine == "onnxruntime"


def test_engines_have_features_of_their_own_in_a_cache(pixels, rough_engine, tmp_path):
    images, _ = pixels
    exact = features_of(images, cache=tmp_path)
    rough = features_of(images, cache=tmp_path, engine="onnxruntime")
    assert not np.array_equal(rough, exact)
    assert len(list(tmp_path.glob("*/*.npz"))) == 2
    np.testing.assert_array_equal(features_of(images, cache=tmp_path), exact)
    kept = features_of(images, cache=tmp_path, engine="onnxruntime")
    np.testing.assert_array_equal(kept, rough)


@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_an_engine_that_is_far_off_is_refused(factor, pixels, monkeypatch):
    images, _ = pixels
    backbone = ImageFeatures(small_net(), image_size=16).fit(images).backbone_
    exact = _engines._torch_forward(backbone, torch.device("cpu"), False)
    monkeypatch.setattr(_engines, "check_installed", lambda *_: None)
    monkeypatch.setattr(
        _engines, "onnx_model", lambda *_, **__: SimpleNamespace(SerializeToString=bytes)
    )
    monkeypatch.setitem(
        _engines._LOADERS,
        "onnxruntime",
        lambda *_: lambda images: factor * exact(torch.from_numpy(images)),
    )
    with pytest.raises(ValueError, match=r"engine='onnxruntime'.* off.*use engine='torch'"):
        features_of(images, engine="onnxruntime")


@pytest.mark.parametrize(
    ("engine", "missing", "extra"),
    [
        ("openvino", "openvino", "openvino"),
        ("onnxruntime", "onnxruntime", "onnx"),
        ("onnxruntime", "onnxscript", "onnx"),
    ],
)
def test_an_engine_that_is_not_installed_names_the_command(
    engine, missing, extra, pixels, monkeypatch, tmp_path
):
    monkeypatch.setattr("skhash.networks._export._TORCH", (0,))
    images, y = pixels
    exact = features_of(images)
    hasher = hasher_of().fit(images, y).set_params(engine=engine)
    skhash.save(hasher, tmp_path / "hasher.skhash")
    for package in {"onnx", "onnxruntime", "onnxscript", "openvino"} - {missing}:
        monkeypatch.setitem(sys.modules, package, sys)  # as if it were there
    monkeypatch.setitem(sys.modules, missing, None)
    message = rf"engine='{engine}' needs {missing}: `pip install scikit-hash\[{extra}\]`"
    loaded = skhash.load(tmp_path / "hasher.skhash", modules=small_net())
    for use in (
        lambda: loaded.transform(images),
        lambda: clone(hasher).fit(images, y),
        lambda: features_of(images, engine=engine),
    ):
        with pytest.raises(ImportError, match=message):
            use()
    for package in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    with monkeypatch.context() as newer:
        newer.setattr("skhash.networks._export._TORCH", (1000, 1))
        with pytest.raises(ImportError, match=r"needs torch 1000\.1 or newer"):
            features_of(images, engine=engine)
    monkeypatch.setattr(_engines, "_WORTH_COMPILING", 1)
    np.testing.assert_array_equal(features_of(images, engine="auto"), exact)
    features = np.eye(40, 8)  # of no network: there is nothing to compute
    DSHHasher(2, engine=engine, max_epochs=1).fit(features, y).transform(features)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"engine": "tensorrt"}, "The 'engine' parameter .*'onnxruntime'"),
        ({"engine": "openvino", "device": "meta"}, "computes on the CPU, got device='meta'"),
        ({"engine": "onnxruntime", "amp": True}, "engine='onnxruntime' .*bfloat16.*amp=False"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(params, message, pixels, monkeypatch):
    monkeypatch.setattr(_engines, "check_installed", lambda *_: None)
    images, y = pixels
    with pytest.raises(ValueError, match=message):
        features_of(images, **params)
    with pytest.raises(ValueError, match=message):
        hasher_of(**params).fit(images, y)


# Threads that read.


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def files(pixels, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(40)]
    for path, image in zip(paths, pixels[0], strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_threads_read_images_in_their_order(pixels, files, three_threads):
    images, _ = pixels
    expected = features_of(list(images), batch_size=3)
    one = Image.open(files[0])  # decoded when first asked for, by whom?
    for same in (files, images, [one, *files[1:]]):
        np.testing.assert_array_equal(features_of(same, batch_size=3), expected)
    twice = features_of([one] * 8, batch_size=4)
    np.testing.assert_allclose(twice, expected[[0] * 8], rtol=1e-5)


def test_threads_read_turned_images(pixels, three_threads):
    images, _ = pixels
    network = {"backbone": small_net(), "image_size": 16, "max_epochs": 1, "random_state": 0}
    hasher = skhash.DeepBit(4, **network, rotation=1.0).fit(images)
    torch.set_num_threads(1)
    alone = skhash.DeepBit(4, **network, rotation=1.0).fit(images)
    for name, weights in hasher.head_.state_dict().items():
        torch.testing.assert_close(weights, alone.head_.state_dict()[name])


def test_threads_name_the_first_unreadable_image(files, three_threads):
    for i in (17, 5):
        files[i].write_bytes(b"torn")
    with pytest.raises(ImageReadError, match=r"[/\\]5\.png"):
        features_of(files, batch_size=3)
    with pytest.warns(UserWarning, match=r"2 of 40 images cannot be read: .*5\.png.*17\.png"):
        features = features_of(files, batch_size=3, on_error="skip")
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(features).any(axis=1)), [5, 17])

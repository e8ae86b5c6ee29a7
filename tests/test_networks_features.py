import os
import pickle

import numpy as np
import pytest
import torch
from _photos import Tally
from PIL import Image
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from torch import nn

from skhash._files import write_checked
from skhash._progress import Progress
from skhash.networks import Backbone, ImageFeatures, ImageReadError, _cache
from skhash.networks._cache import FeatureCache


class Counting(nn.Module, metaclass=Tally):
    """Two convolutions that count the images they see."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 7, 3, 2))

    def forward(self, x):
        Counting.seen += len(x)
        if Counting.fail_at is not None and Counting.seen > Counting.fail_at:
            raise RuntimeError("power cut")
        return self.layers(x)


@pytest.fixture(autouse=True)
def _count_from_zero():
    Counting.seen, Counting.fail_at = 0, None


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def files(pixels, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths


def features_of(images, **params):
    return ImageFeatures(Counting(), image_size=16, **params).fit_transform(images)


def test_rows_do_not_depend_on_the_others(pixels):
    features = features_of(pixels)
    assert features.shape == (7, 7)
    assert features.dtype == np.float32
    alone = np.concatenate([features_of(image[None]) for image in pixels])
    np.testing.assert_allclose(features, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features, features_of(pixels, batch_size=2), rtol=1e-5, atol=1e-6)
    assert len(np.unique(features, axis=0)) == 7


def test_files_and_arrays_give_the_same(pixels, files):
    features = features_of(pixels)
    for images in (files, [str(file) for file in files], np.array(files, dtype=str), list(pixels)):
        np.testing.assert_array_equal(features_of(images), features)


def test_images_are_read_in_other_processes(pixels, files):
    np.testing.assert_array_equal(features_of(files, num_workers=1), features_of(pixels))


def test_images_of_all_sizes_are_cut_to_one(pixels):
    images = [pixels[0], np.repeat(pixels[1], 3, axis=0), pixels[2][:5]]
    assert features_of(images).shape == (3, 7)


def test_mixed_precision_is_close(pixels):
    exact = features_of(pixels)
    rough = features_of(pixels, amp=True)
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.02)


def test_no_image_is_computed_twice(pixels, files, tmp_path):
    cache = tmp_path / "cache"
    features = features_of(files, cache=cache)
    assert Counting.seen == 7
    np.testing.assert_array_equal(features_of(files[::-1], cache=cache), features[::-1])
    np.testing.assert_array_equal(features_of(files[2:3], cache=cache), features[2:3])
    (tmp_path / "other").mkdir()
    moved = [file.rename(tmp_path / "other" / file.name) for file in files]
    np.testing.assert_array_equal(features_of(moved, cache=cache), features)
    assert Counting.seen == 7


def test_only_new_and_changed_images_are_computed(pixels, files, tmp_path):
    cache = tmp_path / "cache"
    features = features_of(files[:4], cache=cache)
    Image.fromarray(255 - pixels[0]).save(files[0])
    again = features_of(files, cache=cache)
    assert Counting.seen == 4 + 1 + 3
    np.testing.assert_array_equal(again[1:4], features[1:])
    np.testing.assert_array_equal(again, features_of(files))


def test_other_settings_have_their_own_features(pixels, tmp_path):
    exact = features_of(pixels, cache=tmp_path)
    rough = features_of(pixels, cache=tmp_path, amp=True)
    small = ImageFeatures(Counting(), image_size=12, cache=tmp_path).fit_transform(pixels)
    net = Counting()
    with torch.no_grad():
        net.layers[2].bias += 1
    shifted = ImageFeatures(net, image_size=16, cache=tmp_path).fit_transform(pixels)
    assert Counting.seen == 4 * 7
    np.testing.assert_allclose(shifted, exact + 1, rtol=1e-5)
    for other in (rough, small):
        assert not np.array_equal(other, exact)


def test_an_interrupted_run_keeps_what_it_had(pixels, tmp_path):
    Counting.fail_at = 5
    with pytest.raises(RuntimeError, match="power cut"):
        features_of(pixels, batch_size=2, cache=tmp_path)
    Counting.seen, Counting.fail_at = 0, None
    features = features_of(pixels, batch_size=2, cache=tmp_path)
    assert Counting.seen == 3
    np.testing.assert_array_equal(features, features_of(pixels, batch_size=2))


@pytest.fixture
def cached(pixels, tmp_path):
    """A cache, its only file, and the arrays in it."""
    features_of(pixels, cache=tmp_path)
    (file,) = tmp_path.glob("*/*.npz")
    with np.load(file) as arrays:
        return tmp_path, file, dict(arrays)


def test_any_damage_to_a_cache_file_is_named(pixels, cached, rng):
    cache, file, _ = cached
    whole = file.read_bytes()
    damaged = [whole[:100], whole[:-1], whole[:-40], b"", whole + b"0"]
    for place in rng.integers(len(whole), size=60):
        bit = 1 << rng.integers(8)
        damaged.append(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"cache file '.*{file.name}' .*delete it"):
            features_of(pixels, cache=cache)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda keys, rows: (keys, rows[:5]), "7 keys for 5 rows"),
        (lambda keys, rows: (keys, np.where(rows == rows[2], np.nan, rows)), "NaN or infinite"),
        (lambda keys, rows: (keys, rows * np.float32(np.inf)), "NaN or infinite"),
        (lambda keys, rows: (keys, rows.astype(np.float64)), "rows of float64"),
        (lambda keys, rows: (keys, rows.ravel()), "rows of float32 of shape"),
        (lambda keys, rows: (keys.astype(np.int16), rows), "keys of int16"),
    ],
)
def test_a_cache_file_of_what_no_network_gives_is_named(pixels, cached, change, fault):
    cache, file, arrays = cached
    network = arrays.pop("network")
    keys, rows = change(**arrays)
    write_checked(file, lambda stream: np.savez(stream, keys=keys, rows=rows, network=network))
    with pytest.raises(ValueError, match=rf"{file.name}' has .*{fault}.*; delete it"):
        features_of(pixels, cache=cache)


def test_cache_files_with_rows_of_two_lengths_are_named(pixels, cached):
    cache, file, arrays = cached
    for name, part, width in (("a.npz", slice(3), 7), ("b.npz", slice(3, None), 6)):
        keys, rows = arrays["keys"][part], arrays["rows"][part, :width]
        changed = {**arrays, "keys": keys, "rows": rows}
        write_checked(file.with_name(name), lambda stream, a=changed: np.savez(stream, **a))
    file.unlink()
    with pytest.raises(ValueError, match=r"has rows of [67] features, but [ab]\.npz has [67]"):
        features_of(pixels, cache=cache)


def test_a_cache_file_of_another_network_is_named(pixels, cached):
    cache, file, _ = cached
    other = cache / "other"
    other.mkdir()
    (other / file.name).write_bytes(file.read_bytes())
    keys = FeatureCache(file.parent)._index
    assert FeatureCache(file.parent).get(list(keys)) is not None
    with pytest.raises(ValueError, match=rf"other/{file.name}' has features of another network"):
        FeatureCache(other).get(list(keys))


def test_rows_of_nan_are_not_kept(tmp_path):
    cache = FeatureCache(tmp_path)
    keys = [bytes([i]) * 16 for i in range(3)]
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    rows[1, 0] = np.nan
    cache.put(keys, rows)
    cache.put(keys[1:2], rows[1:2])
    for some in (cache, FeatureCache(tmp_path)):
        assert [key in some for key in keys] == [True, False, True]
        np.testing.assert_array_equal(some.get(keys), [[0, 1], [0, 0], [4, 5]])
    assert len(list(tmp_path.iterdir())) == 1


def test_images_that_differ_in_their_palette_only_have_features_of_their_own(tmp_path):
    images = [Image.fromarray(np.full((16, 16), 7, np.uint8)) for _ in range(2)]
    for image, level in zip(images, (0, 255), strict=True):
        image.putpalette([level] * 768)
    first, second = features_of(images, cache=tmp_path)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(features_of(images[::-1], cache=tmp_path), [second, first])


def test_an_unreadable_image_raises_with_its_path(files):
    files[3].write_text("no image")
    with pytest.raises(ImageReadError, match=files[3].name):
        features_of(files)


@pytest.mark.parametrize("cached", [False, True])
def test_unreadable_images_may_be_skipped(pixels, files, tmp_path, cached):
    files[3].write_text("no image")
    files[5].unlink()
    cache = tmp_path / "cache" if cached else None
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"2 of 7 images .*3\.png, .*5\.png.* rows are NaN"):
            features = features_of(files, on_error="skip", cache=cache)
        good = [0, 1, 2, 4, 6]
        np.testing.assert_array_equal(features[good], features_of(pixels)[good])
        assert np.isnan(features[[3, 5]]).all()
    Image.fromarray(pixels[3]).save(files[3])
    Image.fromarray(pixels[5]).save(files[5])
    np.testing.assert_array_equal(features_of(files, cache=cache), features_of(pixels))


def test_images_none_of_which_can_be_read_raise(tmp_path):
    with pytest.raises(ValueError, match=r"none of the 2 images .*a\.png"):
        features_of([tmp_path / "a.png", tmp_path / "b.png"], on_error="skip")


def test_progress_is_shown_in_images_per_second(pixels, capsys):
    features_of(pixels)
    assert capsys.readouterr() == ("", "")
    features_of(pixels, verbose=1)
    assert "7/7" in (shown := capsys.readouterr().err)
    assert "image/s" in shown


def test_progress_leaves_what_is_cached_out_of_the_rate(pixels, tmp_path, capsys):
    features_of(pixels[:4], cache=tmp_path)
    for _ in range(2):
        features_of(pixels, cache=tmp_path, verbose=1)
        assert "7/7" in capsys.readouterr().err
    with Progress(7, unit="image", desc="features", verbose=1) as progress:
        progress.skip(4)
        progress.add(3)
        state = progress._bar.format_dict
    assert (state["n"], state["initial"]) == (7, 4)


def hashed(monkeypatch):
    """The files that are read to be hashed from now on."""
    seen = []
    digest = _cache.file_digest
    monkeypatch.setattr(_cache, "file_digest", lambda path: seen.append(path) or digest(path))
    return seen


@pytest.fixture
def any_change_time(monkeypatch):
    """Have files count as old enough to be remembered, however new they are."""
    monkeypatch.setattr(_cache, "_CLOCK_STEP", -(10**12))


def test_files_that_stay_are_hashed_once(files, tmp_path, monkeypatch, any_change_time):
    seen, cache = hashed(monkeypatch), tmp_path / "cache"
    features = features_of(files, cache=cache)
    assert seen == files
    _cache._opened.cache_clear()  # as in another process
    for images in (files[::-1], [str(file) for file in files[::-1]]):
        np.testing.assert_array_equal(features_of(images, cache=cache), features[::-1])
    ImageFeatures(Counting(), image_size=12, cache=cache).fit_transform(files)  # another network
    assert len(seen) == 7


@pytest.mark.parametrize("change", ["size", "time", "replaced"])
def test_a_changed_file_is_hashed_again(
    pixels, files, tmp_path, monkeypatch, any_change_time, change
):
    for path, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(path.with_suffix(".bmp"))  # all of one size
    files = [path.with_suffix(".bmp") for path in files]
    seen, cache = hashed(monkeypatch), tmp_path / "cache"
    features = features_of(files, cache=cache)
    before = files[2].stat()
    new = Image.fromarray(255 - pixels[2] if change != "size" else pixels[2][:8])
    new.save(files[2])
    if change == "replaced":  # with its time of before
        os.utime(files[2], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (files[2].stat().st_size == before.st_size) == (change != "size")
    again = features_of(files, cache=cache)
    assert seen[7:] == [files[2]]
    assert Counting.seen == 8
    assert not np.array_equal(again[2], features[2])
    np.testing.assert_array_equal(np.delete(again, 2, 0), np.delete(features, 2, 0))


def test_a_file_that_has_just_changed_is_not_remembered(files, tmp_path, monkeypatch):
    seen = hashed(monkeypatch)
    for _ in range(2):
        features_of(files, cache=tmp_path / "cache")
    assert seen == files + files


def test_files_are_hashed_as_they_are_computed(files, tmp_path, monkeypatch):
    seen = hashed(monkeypatch)
    Counting.fail_at = 3
    with pytest.raises(RuntimeError, match="power cut"):
        features_of(files, batch_size=2, cache=tmp_path / "cache")
    assert len(seen) <= 6


def test_the_index_of_a_cache_is_read_once(pixels, tmp_path, monkeypatch):
    features = features_of(pixels[:4], cache=tmp_path)
    features_of(pixels[4:], cache=tmp_path)
    _cache._opened.cache_clear()
    read = []
    index = FeatureCache._read_index
    monkeypatch.setattr(
        FeatureCache, "_read_index", lambda self, file: read.append(file) or index(self, file)
    )
    for _ in range(3):
        np.testing.assert_array_equal(features_of(pixels, cache=tmp_path)[:4], features)
    assert len(read) == 2
    other = FeatureCache(next(tmp_path.glob("*/*.npz")).parent)  # as another process has it
    other.put([bytes(16)], features[:1])
    read.clear()
    features_of(pixels, cache=tmp_path)
    assert len(read) == 1
    for file in tmp_path.glob("*/*.npz"):
        file.unlink()
    Counting.seen = 0
    np.testing.assert_array_equal(features_of(pixels, cache=tmp_path)[:4], features)
    assert Counting.seen == 7


def test_damage_to_what_is_known_of_files_is_named(files, tmp_path, any_change_time):
    features_of(files, cache=tmp_path / "cache")
    (file,) = tmp_path.glob("cache/digests/*.npz")
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"cache file '.*{file.name}' is damaged.*delete it"):
            features_of(files, cache=tmp_path / "cache")


def test_networks_that_differ_only_in_their_code_have_their_own_features(pixels, tmp_path):
    class Turned(Counting):
        def forward(self, x):
            return -super().forward(x)

    Turned.__qualname__ = Turned.__name__ = "Counting"
    settings = {"image_size": 16, "cache": tmp_path}
    features = ImageFeatures(Counting(), **settings).fit_transform(pixels)
    turned = ImageFeatures(Turned(), **settings).fit_transform(pixels)
    np.testing.assert_array_equal(turned, -features)


def test_a_network_without_a_digest_is_refused_by_a_cache(pixels, tmp_path):
    net = Counting()
    net.lines = open(__file__)  # noqa: SIM115
    net.__deepcopy__ = lambda memo: net
    with net.lines, pytest.raises(TypeError, match=r"net\.lines, 'TextIOWrapper'"):
        ImageFeatures(net, image_size=16, cache=tmp_path).fit_transform(pixels)


def test_it_works_in_a_pipeline(pixels, files):
    pipeline = make_pipeline(ImageFeatures(Counting(), image_size=16), PCA(2)).fit(files)
    np.testing.assert_allclose(
        pipeline.transform(pixels), PCA(2).fit_transform(features_of(pixels)), rtol=1e-4, atol=1e-5
    )
    assert pipeline.get_feature_names_out().tolist() == ["pca0", "pca1"]


def test_features_have_names_and_come_as_a_data_frame(pixels):
    transformer = ImageFeatures(Counting(), image_size=16).set_output(transform="pandas")
    frame = transformer.fit_transform(pixels)
    assert frame.columns.tolist() == [f"imagefeatures{i}" for i in range(7)]


def test_it_clones_and_pickles(pixels):
    transformer = ImageFeatures("resnet18", weights=None, image_size=32, random_state=3)
    features = transformer.fit_transform(pixels)
    np.testing.assert_array_equal(clone(transformer).fit_transform(pixels), features)
    again = pickle.loads(pickle.dumps(transformer))
    np.testing.assert_array_equal(again.transform(pixels), features)
    other = clone(transformer).set_params(random_state=4).fit_transform(pixels)
    assert not np.array_equal(other, features)


def test_bad_parameters_are_named(pixels):
    for params in ({"device": "abacus"}, {"output": "fc9"}, {"batch_size": 0}, {"image_size": 0}):
        with pytest.raises(ValueError, match=next(iter(params))):
            ImageFeatures(Counting(), **params).fit_transform(pixels)
    with pytest.raises(TypeError, match="X must be"):
        features_of(np.zeros((3, 5)))


def test_real_photos_give_the_known_features(real_data):
    folder = real_data / "mirflickr25k"
    weights = real_data / "weights" / "vgg16_features_imagenet_tv_fp16.pth"
    known = np.load(folder / "vgg16_pool5_gap512_f16.npy").astype(np.float32)
    rows = np.random.default_rng(0).choice(len(known), 10, replace=False)
    names = (folder / "images.txt").read_text().splitlines()
    files = [folder / "images" / names[row] for row in rows]
    features = ImageFeatures("vgg16", weights=weights, image_size=128).fit_transform(files)

    # The network by its definition, on the pixels as Pillow reads them.
    state = torch.load(weights, weights_only=True)
    x = torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files]))
    x = (x / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    x = x.permute(0, 3, 1, 2)
    position = 0
    for n_convolutions in (2, 2, 3, 3, 3):
        for _ in range(n_convolutions):
            weight, bias = (
                state[f"features.{position}.{part}"].float() for part in ("weight", "bias")
            )
            x = nn.functional.conv2d(x, weight, bias, padding=1).relu()
            position += 2
        x = nn.functional.max_pool2d(x, 2)
        position += 1
    np.testing.assert_allclose(features, x.mean((2, 3)), rtol=1e-3, atol=1e-3)

    # The known ones are of the photos before they were stored as JPEG: near, but not the same.
    distances = np.linalg.norm(features[:, None] - known, axis=2)
    np.testing.assert_array_equal(distances.argmin(axis=1), rows)
    assert (distances.min(axis=1) < 0.25 * np.linalg.norm(known[rows], axis=1)).all()


class Divides(nn.Module):
    """A network whose features of black images are infinite."""

    def forward(self, images):
        return 1 / images.mean((2, 3))


def test_features_that_are_not_finite_are_an_error_and_not_cached(tmp_path):
    images = np.full((6, 16, 16, 3), 200, np.uint8)
    images[4] = 0
    plain = Backbone(Divides(), 16, mean=(0, 0, 0), std=(1, 1, 1))
    features = ImageFeatures(plain, batch_size=2, cache=tmp_path)
    with pytest.raises(ValueError, match=r"features of X\[4\] that are NaN or infinite"):
        features.fit_transform(images)
    assert np.isfinite(features.fit_transform(images[:4])).all()
    with pytest.raises(ValueError, match=r"features of X\[0\] that are NaN or infinite"):
        features.fit_transform(images[4:])

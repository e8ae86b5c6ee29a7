"""The forms in which images may be given, wherever images go."""

import io
import pickle
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_networks_inference import small_net

from skhash import DSHHasher, ImageFeatures, ImageSearch
from skhash._image_rows import gather, holds_images
from skhash.images import ImageReadError, read_image, read_thumbnail
from skhash.networks import Backbone
from skhash.networks._images import Images


@pytest.fixture
def paths(rng, tmp_path):
    paths = [tmp_path / f"{i}.jpg" for i in range(6)]
    for path in paths:
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 30)).save(path)
    return paths


class Sequence:
    """The least that a lazy sequence has; counts what is fetched."""

    def __init__(self, items):
        self.items = items
        self.fetched = []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        assert type(row) is int
        self.fetched.append(row)
        item = self.items[row]
        if isinstance(item, Exception):
            raise item
        return item


class Table(Sequence):
    """What a dataset of Hugging Face looks like: rows by number, columns by name."""

    def __init__(self, **columns):
        self.columns = columns
        super().__init__(
            [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        )

    column_names = property(lambda self: list(self.columns))
    shape = property(lambda self: (len(self), len(self.columns)))

    def __getitem__(self, key):
        return Sequence(self.columns[key]) if isinstance(key, str) else super().__getitem__(key)


def read_bytes(path):
    return path.read_bytes()


def is_plain(images):
    return isinstance(images[0], str | bytes | dict)


def as_arrow(images, *, table=False):
    pa = pytest.importorskip("pyarrow")
    return pa.table({"image": images}) if table else pa.chunked_array([images[:2], images[2:]])


ONE = {
    "str": str,
    "path": lambda path: path,
    "bytes": read_bytes,
    "bytearray": lambda path: bytearray(read_bytes(path)),
    "memoryview": lambda path: memoryview(read_bytes(path)),
    "file": lambda path: path.open("rb"),
    "buffer": lambda path: io.BytesIO(read_bytes(path)),
    "row": lambda path: {"bytes": read_bytes(path), "path": None},
    "named row": lambda path: {"bytes": read_bytes(path), "path": "not there.jpg"},
    "row of a path": lambda path: {"bytes": None, "path": str(path)},
    "PIL": Image.open,
    "array": lambda path: np.asarray(Image.open(path)),
}
ALL = {
    "tuple": tuple,
    "generator": lambda images: (image for image in images),
    "iterator": iter,
    "lazy": Sequence,
    "array of objects": lambda images: pd.Series(images).to_numpy(),
    "series": lambda images: pd.Series(images, index=range(10, 10 + len(images))),
    "frame": lambda images: pd.DataFrame({"image": pd.Series(images)}, index=range(len(images))),
    "column": lambda images: pd.DataFrame({"image": pd.Series(images)}).to_numpy(),
    "dataset": lambda images: Table(image=images),
    "arrow": lambda images: as_arrow(images) if is_plain(images) else images,
    "arrow table": lambda images: as_arrow(images, table=True) if is_plain(images) else images,
}


@pytest.mark.parametrize("form", ONE)
def test_every_form_of_an_image_gives_the_same_pixels(paths, form):
    expected = read_image(paths[0], 16)
    for _ in range(2):
        image = ONE[form](paths[0])
        tolerance = 0 if form not in ("PIL", "array") else 12  # no JPEG decoded at a fraction
        for _ in range(2):  # read again, an open file is at the same place
            difference = np.abs(read_image(image, 16).astype(int) - expected)
            assert difference.max() <= tolerance
        assert read_thumbnail(image, 20).shape == (15, 20, 3)
        batch = Images([image], 16)[[0]]
        assert np.abs(batch.numpy()[0].transpose(1, 2, 0).astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("collection", ALL)
@pytest.mark.parametrize("form", ["str", "path", "bytes", "row", "PIL"])
def test_every_collection_of_every_form_gives_the_same_batches(paths, form, collection):
    images = [ONE[form](path) for path in paths]
    expected = Images(images, 16)[range(6)]
    X = gather(ALL[collection](images))
    assert holds_images(X) or collection == "column"  # which may be numbers in str
    assert torch.equal(Images(X, 16)[range(6)], expected)
    some = Images(X, 16).take(np.array([4, 1]))
    assert torch.equal(some[range(2)], expected[[4, 1]])
    assert torch.equal(some.take(np.array([1]))[[0]], expected[[1]])


def test_an_open_file_is_read_from_its_start_and_stays_where_it_is(paths):
    with open(paths[0], "rb") as file:
        file.seek(7)
        np.testing.assert_array_equal(read_image(file, 8), read_image(paths[0], 8))
        assert file.tell() == 7
        images = Images([file], 8)
    assert images[[0]].shape == (1, 3, 8, 8)  # closed by now
    with open(paths[0], encoding="latin-1") as file, pytest.raises(ImageReadError, match="binary"):
        read_image(file, 8)


def test_a_lazy_sequence_is_fetched_only_where_it_is_asked_for(paths):
    X = Sequence(paths)
    images = Images(X, 8)
    assert set(X.fetched) <= {0}
    X.fetched.clear()
    images[[3]]
    images.take(np.array([5, 2]))[[1]]
    assert X.fetched == [3, 2]


def test_the_first_image_shows_what_a_lazy_sequence_holds(paths):
    assert holds_images(Sequence(paths))
    assert not holds_images(Sequence([[0.0, 1.0]]))
    assert not holds_images(Sequence([]))
    with pytest.raises(TypeError, match=r"X\[0\] is tuple"):
        Images(Sequence([(paths[0], 1)]), 8)
    with pytest.raises(ValueError, match="0 images"):
        Images(Sequence([]), 8)
    torn = Sequence([OSError("torn"), paths[1]])
    assert holds_images(torn)
    assert len(Images(torn, 8)) == 2


def test_what_a_lazy_sequence_raises_concerns_one_image(paths):
    X = Sequence([paths[0], OSError("torn"), IndexError("odd"), 3, paths[1]])
    _, readable = Images(X, 8, skip_unreadable=True).__getitems__(range(5))
    assert readable.tolist() == [True, False, False, False, True]
    images = Images(X, 8)
    with pytest.raises(ImageReadError, match="cannot fetch image 1: torn"):
        images[[1]]
    with pytest.raises(ImageReadError, match=r"image 3: .*got int"):
        images[[3]]
    assert images.key(1) == images.key(2) == images.key(3) == b""
    assert images.name(1) == "row 1"
    with pytest.raises(ImageReadError, match="cannot fetch image 2: odd"):
        images.take(np.array([4, 2]))[[1]]


def test_an_image_is_identified_by_its_content_in_every_form(paths):
    by_path = Images(paths, 8)
    for form in ("bytes", "bytearray", "buffer", "row", "named row", "row of a path", "file"):
        for X in ([ONE[form](path) for path in paths], Sequence([ONE[form](p) for p in paths])):
            images = Images(X, 8)
            assert [images.key(i) for i in range(6)] == [by_path.key(i) for i in range(6)]
            assert images.key(0) != images.key(1)
    assert Images([b"torn"], 8).stamp(0) != Images([b"torm"], 8).stamp(0)


def test_the_same_sequence_is_the_same_images(paths):
    X = Sequence(paths)
    assert Images(X, 8).same_as(Images(X, 8))
    assert not Images(X, 8).same_as(Images(Sequence(paths), 8))
    assert not Images(X, 8).same_as(Images(paths, 8))
    assert not Images(paths, 8).same_as(Images(X, 8))
    assert not Images(X, 8).same_as(Images(X, 8).take(np.array([0, 1, 2, 3, 5, 4])))
    contents = [path.read_bytes() for path in paths]
    assert Images(contents, 8).same_as(Images([bytes(bytearray(c)) for c in contents], 8))


def test_messages_name_images_by_path_or_number(paths):
    torn = paths[2].read_bytes()[:100]
    images = Images([paths[0], torn, {"bytes": torn, "path": "sea.jpg"}, {"path": "no.jpg"}], 8)
    for row, name in ((1, "image 1: cannot read .* bytes"), (2, "'sea.jpg'"), (3, "'no.jpg'")):
        with pytest.raises(ImageReadError, match=name):
            images[[row]]
    assert [images.name(row) for row in range(4)] == [str(paths[0]), "row 1", "sea.jpg", "no.jpg"]


@pytest.mark.parametrize("form", [form for form in ONE if form != "array"])
def test_one_image_is_to_be_wrapped_in_a_list(paths, form):
    image = ONE[form](paths[0])
    assert holds_images(image)
    with pytest.raises(TypeError, match=r"wrap it in a list, \[X\]"):
        Images(image, 8)


@pytest.mark.parametrize(
    ("X", "match"),
    [
        ({"a.jpg", "b.jpg"}, "got set"),
        ({"a": "b.jpg"}, "got dict"),
        ([{"a": "b.jpg"}], r"X\[0\] is dict"),
        ([{"bytes": None, "path": None}], r"X\[0\] is NoneType"),
        (["a.jpg", None], r"X\[1\] is NoneType"),
        (["a.jpg", 3.0], r"X\[1\] is float"),
        (np.array([["a.jpg", "b.jpg"]]), "shape"),
        (np.zeros((8, 8, 3), np.uint8), r"wrap it in a list, \[X\]"),
        (torch.zeros(2, 3, 8, 8), r"X\[0\] is Tensor"),
    ],
)
def test_what_is_no_collection_of_images_is_named(X, match):
    with pytest.raises(TypeError, match=f"X must be .*{match}"):
        Images(X, 8)


@pytest.mark.parametrize("make", [pd.DataFrame, lambda columns: Table(**columns)])
def test_of_a_table_one_column_is_to_be_passed(paths, make):
    table = make({"image": [str(path) for path in paths], "label": list(range(6))})
    assert holds_images(table)
    with pytest.raises(TypeError, match=r"columns \['image', 'label'\]: .* X\['image'\]"):
        Images(table, 8)
    assert torch.equal(Images(table["image"], 8)[range(6)], Images(paths, 8)[range(6)])
    assert not holds_images(make({"a": [0.5], "b": [1.5]}))


def test_an_iterator_that_was_read_before_says_so(paths):
    X = iter(paths)
    assert len(Images(X, 8)) == 6
    with pytest.raises(ValueError, match=r"earlier call: pass list\(X\)"):
        Images(X, 8)


def test_lazy_images_travel_to_other_processes(paths):
    images = pickle.loads(pickle.dumps(Images(Sequence(paths), 8)))
    assert torch.equal(images[range(6)], Images(paths, 8)[range(6)])


@pytest.mark.filterwarnings("ignore:.*bits:UserWarning")
@pytest.mark.parametrize("collection", ALL)
def test_hashers_and_features_take_them(paths, collection):
    X = [path.read_bytes() for path in paths]
    y = [0, 1, 0, 1, 0, 1]
    hasher = DSHHasher(4, backbone=Backbone(small_net(), 16), max_epochs=2, random_state=0)
    expected = hasher.fit_transform(X, y)
    np.testing.assert_array_equal(hasher.fit_transform(ALL[collection](X), y), expected)
    np.testing.assert_array_equal(hasher.fit(ALL[collection](X), y).transform(X), expected)
    np.testing.assert_array_equal(hasher.transform(ALL[collection](X)), expected)
    features = ImageFeatures(Backbone(small_net(), 16))
    np.testing.assert_array_equal(
        features.fit_transform(ALL[collection](X)), features.fit_transform(X)
    )


def test_glob_may_be_passed_as_it_is(paths, tmp_path):
    features = ImageFeatures(Backbone(small_net(), 16)).fit(None)
    found = tmp_path.glob("*.jpg")
    assert isinstance(found, Iterator)  # a generator until Python 3.12
    np.testing.assert_array_equal(
        features.transform(found), features.transform(list(tmp_path.glob("*.jpg")))
    )


def test_the_cache_knows_a_photo_in_every_form(paths, tmp_path):
    features = ImageFeatures(Backbone(small_net(), 16), cache=tmp_path / "cache").fit(None)
    expected = features.transform(paths)
    for path in paths:
        contents = path.read_bytes()
        path.unlink()
        np.testing.assert_array_equal(
            features.transform([contents])[0], expected[paths.index(path)]
        )


def test_a_checkpoint_goes_on_with_images_in_memory(paths, tmp_path):
    X = Sequence([{"bytes": path.read_bytes(), "path": None} for path in paths])
    settings = {"max_epochs": 2, "checkpoint": tmp_path / "state", "random_state": 0}
    hasher = DSHHasher(4, backbone=Backbone(small_net(), 16), trainable="all", **settings)
    first = hasher.fit(X, [0, 1] * 3).n_iter_
    again = hasher.set_params(max_epochs=3).fit(X, [0, 1] * 3)
    assert (first, again.n_iter_) == (2, 3)


@pytest.mark.filterwarnings("ignore:.*bits:UserWarning")
@pytest.mark.parametrize("collection", ["generator", "lazy", "frame", "series", "dataset"])
def test_a_search_takes_them(paths, collection):
    hasher = DSHHasher(8, backbone=Backbone(small_net(), 16), max_epochs=1, random_state=0)
    y = [["sea"], ["sky"]] * 3
    expected = ImageSearch(hasher).fit([str(path) for path in paths], y).photos_.codes
    search = ImageSearch(hasher).fit(ALL[collection]([str(path) for path in paths]), y)
    np.testing.assert_array_equal(search.photos_.codes, expected)
    assert search.photos_.paths.tolist() == [str(path) for path in paths]
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    search = ImageSearch(hasher).fit(ALL[collection](rows), y)
    np.testing.assert_array_equal(search.photos_.codes, expected)
    assert search.photos_.paths.tolist() == [None] * 6  # no files of these names are there
    for form in ("str", "bytes", "file", "row", "PIL"):
        assert len(search.query(ONE[form](paths[2]), 2).to_frame()) == 2

"""The public interface under every form, scale, order, thread and damage that hypothesis draws.

By public names only. Each test that is named for a property runs on a few draws in every run, and
on many with ``-m slow``; the draws are the same every time. What the properties once found:

=====================================================  =============================================
wrong without a word                                   found by
=====================================================  =============================================
a Backbone normalised twice, its image size lost       a_backbone_states_its_preprocessing
threads corrupt a fitted network                       threads_may_share_a_fitted_hasher
fits in threads share the global generators            fits_in_threads_equal_fits_alone,
                                                       grid_search_in_threads_equals_one_job
the global generator is rewound or used                fits_leave_the_global_generators
codes depend on the batch around a sample              a_code_does_not_depend_on_its_batch
an unreadable photo has a code like any other          unreadable_photos_cannot_be_indexed
a column of classes is an indicator                    a_column_of_classes_is_refused
an indicator is matched with names by position         an_indicator_is_not_matched_with_names
joined tags                                            joined_tags_are_told
-1 is a class                                          minus_one_is_no_class
Unicode forms, blanks                                  tags_that_look_alike_are_one
case                                                   tags_that_differ_in_case_are_told
fractions that round to 1                              fractions_are_no_indicator
images that differ share a key of the cache            images_that_differ_have_their_own_features
networks that differ share a key of the cache          networks_that_differ_have_their_own_features
cached rows of other width or NaN                      cached_rows_that_do_not_fit_are_refused
the loss of a checkpoint is told by its repr           a_checkpoint_of_another_loss_is_refused
changed callbacks                                      other_callbacks_are_refused_or_equal_one_go
flipped bits of checkpoints, weights, features         damaged_files_are_refused_or_read_right
more epochs differ from one go                         more_epochs_equal_one_go_or_are_refused
lists, ints, tensors, polars become float32            numbers_mean_the_same_in_every_form,
                                                       distant_numbers_are_told_apart_in_every_form
joined numbers of photos are a range                   joined_numbers_of_photos_are_refused
distances overflow                                     distances_of_long_codes
n_bits=True                                            n_bits_is_no_bool
features of any size and origin                        codes_do_not_depend_on_the_scale,
                                                       codes_do_not_depend_on_the_origin
=====================================================  =============================================
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import subprocess
import sys
import unicodedata
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from _estimators import ARGUMENTS, BOUNDED_BITS, NETWORKS, WRAPPERS, make_hasher
from _strategies import (
    FEATURES,
    FORMS_OF_COUNTS,
    FORMS_OF_DOUBLES,
    FORMS_OF_INDICATORS,
    FORMS_OF_SINGLES,
    FORMS_OF_TAGS,
    LABELS,
    N_SAMPLES,
    TAGS,
    batches,
    damages,
    explore,
    flip,
    indicator_of,
    names,
    tag_rows,
    with_effort,
)
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import EarlyStopping, LRScheduler
from torch import nn

import skhash
from skhash.codes import hamming_distances, pack
from skhash.datasets import load_mirflickr25k
from skhash.metrics import leave_one_out_map, mean_average_precision
from skhash.networks import Backbone
from skhash.tags import encode_tags

# What is drawn is odd on purpose: few samples, constant bits, names of columns in one call only.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

TRAINED = NETWORKS | WRAPPERS
COSINES = {"SKLSH", "SpectralHashing"}  # hashers whose values are cosines
every_hasher = pytest.mark.parametrize("name", ARGUMENTS)


def small_hasher(name, **changes):
    """A hasher of 4 bits; a network of few epochs."""
    if "max_epochs" in ARGUMENTS[name]:
        changes = {"max_epochs": 3, **changes}
    return make_hasher(name, **{"n_bits": 4, **changes})


@cache
def fitted(name, kind="clusters", dtype=np.float64, **changes):
    """Features and a hasher of them, which no test may change."""
    X = FEATURES[kind]().astype(dtype)
    return X, small_hasher(name, **changes).fit(X, TAGS)


def result(function, *arguments):
    """What a call returns, or which error it raises for its arguments."""
    try:
        return function(*arguments)
    except ValueError as error:
        return type(error)


def assert_same(actual, expected, scale=1.0):
    """Equal but for rounding of numbers of a scale, of one dtype, or the same refusal."""
    if isinstance(expected, type):
        assert actual is expected
        return
    assert not isinstance(actual, type), f"refused: {actual}"
    assert actual.dtype == expected.dtype
    if actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected)
        return
    scale = np.abs(expected).max(initial=scale)
    np.testing.assert_allclose(actual, expected, atol=1e3 * np.finfo(actual.dtype).eps * scale)


# ------------------------------------------------------------------------------------- features


@with_effort
@every_hasher
def test_numbers_mean_the_same_in_every_form(name, effort, tmp_path):
    doubles, hasher = fitted(name, "counts")
    singles, of_singles = fitted(name, "counts", np.float32)
    groups = (
        (hasher, doubles, FORMS_OF_DOUBLES),
        (hasher, doubles, FORMS_OF_COUNTS),
        (of_singles, singles, FORMS_OF_SINGLES),
    )
    for model, X, forms in groups:
        expected = model.decision_function(X)
        for make in forms.values():
            assert_same(model.decision_function(make(X, tmp_path)), expected)

    @explore(effort, group=st.sampled_from(groups), data=st.data())
    def check(group, data):
        model, X, forms = group
        form = data.draw(st.sampled_from(sorted(forms)))
        again = small_hasher(name).fit(forms[form](X, tmp_path), TAGS)
        assert_same(again.decision_function(X), model.decision_function(X))


@every_hasher
def test_distant_numbers_are_told_apart_in_every_form(name, tmp_path):
    distant, (_, hasher) = FEATURES["distant"](), fitted(name)
    expected = result(hasher.decision_function, distant)
    # A cosine is at most 1, but has the rounding of its phase, here of 1e7 to 1e9: NumPy before 2.3
    # sums strided rows in another order. In float32 phases would be wrong by whole turns.
    scale = np.abs(distant @ hasher.coef_.T).max() if name in COSINES else 1.0
    for make in FORMS_OF_DOUBLES.values():
        assert_same(result(hasher.decision_function, make(distant, tmp_path)), expected, scale)


@pytest.mark.parametrize("form", ["list", "torch"])
def test_a_fit_keeps_what_float64_tells_apart(form, tmp_path):
    distant = FEATURES["distant"]()
    hasher = skhash.PCAH(1).fit(FORMS_OF_DOUBLES[form](distant, tmp_path))
    values = hasher.decision_function(distant)
    assert len(np.unique(values.round(3))) > N_SAMPLES / 2
    assert_same(values, skhash.PCAH(1).fit(distant).decision_function(distant))


@pytest.mark.parametrize(
    ("kind", "dtype", "effort"),
    [
        ("one-hot", np.float64, 1),
        ("duplicated", np.float32, 1),
        *(
            pytest.param(kind, dtype, 10, marks=pytest.mark.slow)
            for kind in sorted(set(FEATURES) - {"distant"})
            for dtype in (np.float64, np.float32)
        ),
    ],
)
@every_hasher
def test_a_code_does_not_depend_on_its_batch(name, kind, dtype, effort):
    # The last of many bits are nearly nothing but rounding.
    X, hasher = fitted(name, kind, dtype, n_bits=8 if name in BOUNDED_BITS else 16)
    codes = hasher.transform(X)
    one_by_one = np.vstack([hasher.transform(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_array_equal(one_by_one, codes)

    @explore(3 * effort, rows=batches(len(X)))
    def check(rows):
        np.testing.assert_array_equal(hasher.transform(X[rows]), codes[rows])


def codes_or_refusal(name, X):
    """Codes of a fit, or None if it says that X is unfit; NaN or another error is a failure."""
    try:
        codes = small_hasher(name).fit(X, TAGS).transform(X)
    except ValueError as error:
        assert re.search(r"\bX\b", str(error)), error
        assert not re.search("NaN|array must not contain", str(error)), error
        return None
    return codes


EXPONENTS = {
    (np.float64, 1): (-100, 20, 100, 1000),
    (np.float32, 1): (-60, 60),
    (np.float64, 10): range(-1000, 1001, 50),
    (np.float32, 10): range(-120, 121, 10),
}


@with_effort
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@every_hasher
def test_codes_do_not_depend_on_the_scale(name, dtype, effort):
    X, hasher = fitted(name, dtype=dtype)
    codes = hasher.transform(X)
    for exponent in EXPONENTS[dtype, effort]:
        scaled = codes_or_refusal(name, X * dtype(2) ** dtype(exponent))
        assert scaled is None or (scaled == codes).mean() > 0.95, exponent
        # Nobody refuses what float32 holds with room to spare.
        assert scaled is not None or abs(exponent) > 40, exponent


@with_effort
@every_hasher
def test_codes_do_not_depend_on_the_origin(name, effort):
    X, hasher = fitted(name)
    codes = hasher.transform(X)
    for exponent in (20,) if effort == 1 else range(4, 41, 6):
        moved = codes_or_refusal(name, X + 2.0**exponent)
        says_so = re.search(r"origin|far from", type(hasher).__doc__)
        assert moved is None or says_so or (moved == codes).mean() > 0.95, exponent


@every_hasher
def test_n_bits_is_no_bool(name):
    with pytest.raises((ValueError, TypeError), match="n_bits"):
        make_hasher(name, n_bits=True).fit(FEATURES["clusters"](), TAGS)


# ----------------------------------------------------------------------------- tags and labels


def pairs(tags):
    """Which image has which tag, by name."""
    columns = tags.vocabulary[tags.indicator.indices].tolist()
    rows = np.repeat(np.arange(tags.n_samples), np.diff(tags.indicator.indptr)).tolist()
    return sorted(zip(rows, columns, strict=True))


@with_effort
@pytest.mark.parametrize("form", FORMS_OF_TAGS)
def test_tags_mean_the_same_in_every_form(form, effort):
    @explore(5 * effort, rows=tag_rows())
    def check(rows):
        expected = encode_tags(rows)
        assert pairs(expected) == sorted((i, tag) for i, row in enumerate(rows) for tag in row)
        assert pairs(encode_tags(FORMS_OF_TAGS[form](rows))) == pairs(expected)


@with_effort
@pytest.mark.parametrize("form", FORMS_OF_INDICATORS)
def test_indicators_mean_the_same_in_every_form(form, effort):
    @explore(5 * effort, rows=tag_rows(min_size=3))
    def check(rows):
        indicator, vocabulary = indicator_of([*rows, ["a", "b"]])
        found = encode_tags(FORMS_OF_INDICATORS[form](indicator))
        np.testing.assert_array_equal(found.indicator.toarray(), indicator)
        found = encode_tags(pd.DataFrame(indicator, columns=vocabulary))
        assert pairs(found) == pairs(encode_tags([*rows, ["a", "b"]]))


@with_effort
@every_hasher
def test_every_form_of_tags_gives_the_same_codes(name, effort):
    X, hasher = fitted(name)
    indicator, vocabulary = indicator_of(TAGS)
    forms = [make(TAGS) for make in FORMS_OF_TAGS.values()]
    forms += [make(indicator) for make in FORMS_OF_INDICATORS.values()]
    forms += [pd.DataFrame(indicator, columns=vocabulary)]

    @explore(effort, form=st.sampled_from(range(len(forms))))
    def check(form):
        codes = small_hasher(name).fit(X, forms[form]).transform(X)
        np.testing.assert_array_equal(codes, hasher.transform(X))


@with_effort
def test_tags_that_look_alike_are_one(effort):
    blanks = st.sampled_from(["", " ", "\t", "\u00a0", "  "])

    @explore(20 * effort, tag=names, before=blanks, after=blanks)
    def check(tag, before, after):
        spellings = [unicodedata.normalize(form, tag) for form in ("NFC", "NFD")]
        found = encode_tags([[before + tag + after], *([s] for s in spellings), ["other one"]])
        assert found.indicator.toarray()[:3].sum(axis=0).max() == 3
        assert len(found.vocabulary) == 2

    caf = encode_tags([["caf\u00e9"], ["cafe\u0301"], [" caf\u00e9 "]])
    assert caf.vocabulary.tolist() == ["caf\u00e9"]


@pytest.mark.filterwarnings("default::UserWarning")
def test_tags_that_differ_in_case_are_told():
    with pytest.warns(UserWarning, match="case"):
        encode_tags([["Sea", "sky"], ["sea"], ["SKY", "tree"]])


@with_effort
@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("separator", [",", ", ", ";", " "])
def test_joined_tags_are_told(separator, effort):
    words = ["sea", "sky", "tree", "face", "nikon", "night"]
    rows = st.lists(st.lists(st.sampled_from(words), max_size=3, unique=True), min_size=40)

    @explore(2 * effort, rows=rows.filter(lambda r: sum(len(row) > 1 for row in r) > len(r) / 2))
    def check(rows):
        joined = [separator.join(row) or None for row in rows] + words
        with pytest.warns(UserWarning, match="split"):
            encode_tags(joined)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            encode_tags(rows)


@pytest.mark.parametrize("dtype", [int, np.int8, float, object])
def test_minus_one_is_no_class(dtype):
    labels = np.array([0, 1, -1, 2, 1, -1], dtype=dtype)
    for form in (labels, labels.tolist(), pd.Series(labels)):
        found = encode_tags(form)
        assert found.indicator.sum(axis=1).tolist() == [1, 1, 0, 1, 1, 0]
        assert found.vocabulary.tolist() == [0, 1, 2]
    codes = np.random.default_rng(0).integers(0, 2, (6, 8))
    unlabelled = leave_one_out_map(codes, [[str(c)] if c >= 0 else [] for c in labels])
    assert leave_one_out_map(codes, labels) == unlabelled


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, pd.DataFrame])
def test_a_column_of_classes_is_refused(form):
    with pytest.raises(ValueError, match="y"):
        encode_tags(form(np.array([[0], [1], [1], [0]])))


def test_an_indicator_is_not_matched_with_names():
    codes = np.random.default_rng(0).integers(0, 2, (6, 8))
    indicator, labels = np.eye(3)[[0, 1, 2]], ["c", "b", "a", "c", "b", "a"]
    for queries, database in ((indicator, labels), (labels[:3], np.eye(3)[[0, 1, 2, 0, 1, 2]])):
        with pytest.raises(ValueError, match="labels"):
            mean_average_precision(codes[:3], codes, queries, database)


@with_effort
@pytest.mark.parametrize("form", ["float", "csr-of-floats", "data-frame"])
def test_fractions_are_no_indicator(form, effort):
    make = {"float": np.asarray, "csr-of-floats": sp.csr_array, "data-frame": pd.DataFrame}[form]
    # Float32 rounds all of these to 1.
    near_one = st.floats(1 - 2**-27, 1 + 2**-26).filter(lambda value: value != 1)

    @explore(10 * effort, value=near_one, row=st.integers(0, 3), column=st.integers(0, 1))
    def check(value, row, column):
        indicator = np.tile(np.eye(2), (2, 1))
        indicator[row, column] = value
        with pytest.raises(ValueError, match="0 and 1"):
            encode_tags(make(indicator))


@pytest.mark.parametrize("line", ["1234512", "25001", "1 2"])
def test_joined_numbers_of_photos_are_refused(tmp_path, line):
    photos, annotations = tmp_path / "mirflickr", tmp_path / "mirflickr" / "annotations"
    (photos / "meta" / "tags").mkdir(parents=True)
    annotations.mkdir()
    for i in range(1, 7):
        Image.new("RGB", (2, 2)).save(photos / f"im{i}.jpg")
        (photos / "meta" / "tags" / f"tags{i}.txt").write_text("sky\n")
    load = {"protocol": None, "n_query": 1, "n_train": 2}
    with pytest.raises(FileNotFoundError) as missing:  # which tells what the files are called
        load_mirflickr25k(tmp_path, **load)
    assert "animals" in str(missing.value)
    for name in (*POTENTIAL, *(f"{name}_r1" for name in RELEVANT)):
        (annotations / f"{name}.txt").write_text("1\n2\n")
    assert len(load_mirflickr25k(tmp_path, **load).images) == 6
    (annotations / "sky.txt").write_text(f"1\n{line}\n3\n")
    with pytest.raises(ValueError, match=r"sky\.txt"):
        load_mirflickr25k(tmp_path, **load)


# Files of the collection, as its authors name them.
POTENTIAL = (
    "animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food", "indoor",
    "lake", "male", "night", "people", "plant_life", "portrait", "river", "sea", "sky",
    "structures", "sunset", "transport", "tree", "water",
)  # fmt: skip
RELEVANT = (
    "baby", "bird", "car", "clouds", "dog", "female", "flower", "male", "night", "people",
    "portrait", "river", "sea", "tree",
)  # fmt: skip


# ------------------------------------------------------------------------- codes and the index


@pytest.mark.parametrize("n_bits", [255, 256, 65_535, 65_536, 65_544])
def test_distances_of_long_codes(n_bits):
    codes = np.zeros((3, n_bits), np.uint8)
    codes[1] = 1
    codes[2, 1:] = 1
    expected = [[0, n_bits, n_bits - 1], [n_bits, 0, 1], [n_bits - 1, 1, 0]]
    packed = pack(codes)
    assert hamming_distances(packed, packed).tolist() == expected
    neighbors = skhash.HammingNeighbors(n_neighbors=3).fit(codes)
    distances, indices = neighbors.kneighbors(codes[:1])
    assert distances.tolist() == [[0, n_bits - 1, n_bits]]
    assert indices.tolist() == [[0, 2, 1]]
    _, indices = neighbors.radius_neighbors(codes[:1], radius=n_bits - 1)
    assert indices[0].tolist() == [0, 2]


# ------------------------------------------------------------------------------------ networks


class TinyNet(nn.Module):
    """Features of photos of 16 x 16 pixels, in no time."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 6, 3, 2)
            self.second = nn.Conv2d(6, 7, 3, 2)

    def forward(self, x):
        return self.second(self.first(x).relu())


class Scaled(nn.Module):
    """A network whose attribute is in neither its weights nor its representation."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return self.scale * x


class Slope(nn.Module):
    """A loss whose attribute is in neither its weights nor its representation."""

    def __init__(self, strength):
        super().__init__()
        self.strength = strength

    def forward(self, outputs, labels):
        target = 2 * labels[:, :1] - 1
        return (outputs * self.strength - target).square().mean()


class MyHasher(skhash.DeepHasher):
    """A hasher as the documentation of its base has it.

    Parameters
    ----------
    n_bits : int, default=4
        Length.
    strength : float, default=1.0
        Of the loss.
    """

    def __init__(self, n_bits=4, *, strength=1.0, **network):
        super().__init__(n_bits, **network)
        self.strength = strength

    def make_loss(self):
        return Slope(self.strength)


def my_hasher(**params):
    settings = {"max_epochs": 3, "batch_size": 16, "lr": 0.05, "random_state": 0}
    return MyHasher(**{**settings, **params})


@cache
def photos():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 160, (N_SAMPLES, 16, 16, 3))
    pixels[np.arange(N_SAMPLES), :, :, LABELS] += 90
    return pixels.astype(np.uint8)


def photo_features(backbone, images, **params):
    return skhash.ImageFeatures(backbone, **{"image_size": 16, **params}).fit_transform(images)


channel = st.floats(0.1, 0.9)
channels = st.tuples(channel, channel, channel)


@with_effort
def test_a_backbone_states_its_preprocessing(effort):
    net, pixels = TinyNet(), photos()[:4]

    @explore(3 * effort, mean=channels, std=channels, size=st.sampled_from([12, 16]))
    def check(mean, std, size):
        images = pixels[:, :size, :size]
        normal = (images / 255 - np.array(mean)) / np.array(std)
        with torch.no_grad():
            maps = net(torch.tensor(normal.transpose(0, 3, 1, 2), dtype=torch.float32))
        backbone = Backbone(net, size, mean=mean, std=std)
        features = skhash.ImageFeatures(backbone).fit_transform(images)
        np.testing.assert_allclose(features, maps.mean((2, 3)).numpy(), atol=1e-4)

    backbone = Backbone(net, 16, mean=(0, 0, 0), std=(1, 1, 1))
    hasher = my_hasher(backbone=backbone).fit(photos(), LABELS > 0)
    on_features = my_hasher().fit(photo_features(backbone, photos(), image_size=None), LABELS > 0)
    expected = on_features.decision_function(photo_features(backbone, photos(), image_size=None))
    np.testing.assert_allclose(hasher.decision_function(photos()), expected, atol=1e-5)


@contextmanager
def hasty_threads():
    """Threads that take turns all the time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def in_threads(calls, n_threads=3):
    with hasty_threads():
        delayed = [joblib.delayed(call)() for call in calls]
        return joblib.Parallel(n_threads, prefer="threads")(delayed)


@with_effort
@every_hasher
def test_threads_may_share_a_fitted_hasher(name, effort):
    X = np.tile(FEATURES["clusters"](), (4, 1))
    hasher = small_hasher(name).fit(X, TAGS * 4)  # its own: it may be spoilt
    inputs = [X, X.astype(np.float32), X[::3], X[:1].astype(np.float32)]
    methods = [hasher.decision_function, hasher.transform]
    expected = [method(x) for method in methods for x in inputs]
    calls = [lambda m=method, x=x: m(x) for method in methods for x in inputs]
    for found in in_threads(calls * (8 * effort)):
        del found  # errors are raised; values are compared below
    for _ in range(2):
        found = in_threads(calls * 3)
        for values, right in zip(found, expected * 3, strict=True):
            assert_same(values, right)
    for call, right in zip(calls, expected, strict=True):
        np.testing.assert_array_equal(call(), right)
    scores = in_threads([lambda: hasher.score(X, labels=np.tile(LABELS, 4))] * 3)
    assert len(set(scores)) == 1


@with_effort
@pytest.mark.parametrize("amp", [False, True])
def test_threads_may_share_a_fitted_network_of_photos(amp, effort):
    hasher = my_hasher(backbone=TinyNet(), image_size=16, amp=amp).fit(photos(), LABELS > 0)
    inputs = [photos(), photos()[:5], photos()[::-1]]
    expected = [hasher.decision_function(x) for x in inputs]
    weights = [p.detach().clone() for p in hasher.backbone_.parameters()]
    strides = [p.stride() for p in hasher.backbone_.parameters()]
    calls = [lambda x=x: hasher.decision_function(x) for x in inputs]
    found = in_threads(calls * (4 * effort))
    tolerance = 0.05 if amp else 1e-5
    for values, right in zip(found, expected * (4 * effort), strict=True):
        np.testing.assert_allclose(values, right, atol=tolerance)
    assert [p.stride() for p in hasher.backbone_.parameters()] == strides
    for p, before in zip(hasher.backbone_.parameters(), weights, strict=True):
        assert torch.equal(p, before)
    for call, right in zip(calls, expected, strict=True):
        np.testing.assert_array_equal(call(), right)


@with_effort
@pytest.mark.parametrize("backend", ["numpy", "faiss"])
def test_threads_may_share_an_index(backend, effort):
    if backend == "faiss":
        pytest.importorskip("faiss")
    codes = np.random.default_rng(0).integers(0, 2, (500, 24))
    neighbors = skhash.HammingNeighbors(backend=backend).fit(codes)
    expected = neighbors.kneighbors(codes)
    for found in in_threads([lambda: neighbors.kneighbors(codes)] * (4 * effort)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "effort"),
    [(name, 1) for name in sorted(TRAINED | {"LSMH"})]
    + [pytest.param(name, 5, marks=pytest.mark.slow) for name in ARGUMENTS],
)
def test_fits_in_threads_equal_fits_alone(name, effort):
    X, hasher = fitted(name)
    expected = hasher.decision_function(X)
    fits = in_threads([lambda: small_hasher(name).fit(X, TAGS)] * (3 * effort))
    for again in fits:
        np.testing.assert_allclose(again.decision_function(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["GreedyHash", "DSHHasher"])
def test_grid_search_in_threads_equals_one_job(name):
    X = FEATURES["clusters"]()
    # At random features and short trainings scores tell the least change of the weights.
    X = X - X.mean(axis=0) + np.random.default_rng(0).normal(size=X.shape) * 3
    tags = [str(label) for label in LABELS]

    def search(n_jobs):
        grid = {"lr": [0.003, 0.01, 0.03], "weight_decay": [0.1, 1.0]}
        hasher = small_hasher(name, n_bits=8, max_epochs=4, batch_size=8)
        with hasty_threads(), joblib.parallel_backend("threading", n_jobs=n_jobs):
            return GridSearchCV(hasher, grid, cv=2, n_jobs=n_jobs).fit(X, tags)

    alone, threads = search(1), search(2)
    for key in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(threads.cv_results_[key], alone.cv_results_[key])
    np.testing.assert_allclose(
        threads.best_estimator_.decision_function(X),
        alone.best_estimator_.decision_function(X),
        atol=1e-5,
    )


@every_hasher
def test_fits_leave_the_global_generators(name, monkeypatch):
    X = FEATURES["clusters"]()
    rewound = []
    for function in ("seed", "set_state"):
        monkeypatch.setattr(np.random, function, lambda *args, f=function: rewound.append(f))
    monkeypatch.setattr(random, "seed", lambda *args: rewound.append("random.seed"))
    unseeded = small_hasher(name)
    if "random_state" in unseeded.get_params():
        unseeded.set_params(random_state=None)
    before = torch.random.get_rng_state(), random.getstate()
    unseeded.fit(X, TAGS).transform(X)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert not rewound


def test_unreadable_photos_cannot_be_indexed(tmp_path):
    labels = LABELS[:24]
    files = [tmp_path / f"{i}.png" for i in range(24)]
    for file, pixels in zip(files, photos(), strict=False):
        Image.fromarray(pixels).save(file)
    hasher = my_hasher(backbone=TinyNet(), image_size=16, on_error="skip").fit(files, labels > 0)
    extractor = skhash.ImageFeatures(TinyNet(), image_size=16, on_error="skip")
    on_features = skhash.PCAH(2).fit(extractor.fit_transform(files))
    right = hasher.transform(files)
    index = skhash.HammingNeighbors().fit(right)

    files[3].write_bytes(b"no photo")
    files[20].write_bytes(b"")
    codes = hasher.transform(files)
    readable = np.delete(np.arange(24), [3, 20])
    np.testing.assert_array_equal(codes[readable], right[readable])
    uses = {
        "pack": pack,
        "index": skhash.HammingNeighbors().fit,
        "search": index.kneighbors,
        "score": lambda codes: leave_one_out_map(codes, labels),
    }
    for use in uses.values():
        with pytest.raises(ValueError, match=r"\b3\b.*\b20\b"):
            use(codes)
    with pytest.raises(ValueError, match="NaN"):
        on_features.transform(extractor.transform(files))


# --------------------------------------------------------------------------------- feature cache


def _with_orientation(image, orientation):
    image = image.copy()
    image.getexif()[0x0112] = orientation
    return image


def _palette_image(pixels, palette, transparency=None):
    image = Image.new("P", (16, 16))
    image.putdata((pixels[..., 0].ravel() % 4).tolist())
    image.putpalette(palette)
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


@cache
def lookalikes():
    """Images whose pixels are the same bytes, but which look different."""
    pixels = photos()[0]
    palettes = [[0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255], [9, 9, 9, 90, 90, 90, 0, 0, 0, 255] * 3]
    whole = Image.fromarray(pixels)
    return {
        **{f"orientation-{i}": _with_orientation(whole, i) for i in range(1, 9)},
        **{f"palette-{i}": _palette_image(pixels, palette) for i, palette in enumerate(palettes)},
        **{f"transparent-{i}": _palette_image(pixels, palettes[0], i) for i in range(4)},
        "grey": Image.fromarray(pixels[..., 0]),
        "grey-of-16-bits": Image.fromarray(pixels[..., 0].astype(np.uint16) * 256),
        "of-another-shape": Image.fromarray(pixels.reshape(8, 32, 3)),
    }


@with_effort
def test_images_that_differ_have_their_own_features(tmp_path, effort):
    images = lookalikes()
    own = {name: photo_features(TinyNet(), [image]) for name, image in images.items()}
    assert len({features.tobytes() for features in own.values()}) > len(own) - 4
    cached = skhash.ImageFeatures(TinyNet(), image_size=16, cache=tmp_path).fit([])

    @explore(1 + effort, order=st.permutations(sorted(images)))
    def check(order):
        for name in order:
            found = cached.transform([images[name]])
            np.testing.assert_allclose(found, own[name], atol=1e-5, err_msg=name)


def net_with(function):
    """A network of a class of the same name and origin, as a notebook defines it anew."""
    return type("Net", (nn.Module,), {"forward": lambda self, x: function(x)})()


def test_networks_that_differ_have_their_own_features(tmp_path):
    nets = [
        *(Scaled(scale) for scale in (1, 2, -1.5)),
        net_with(lambda x: x),
        net_with(lambda x: x.relu()),
        net_with(lambda x: x.square()),
    ]
    for net in nets:
        expected = photo_features(net, photos()[:3])
        found = photo_features(net, photos()[:3], cache=tmp_path)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def cache_files(folder):
    return sorted(file for file in Path(folder).rglob("*") if file.is_file())


@pytest.mark.parametrize("fault", ["nan", "infinite", "width", "of-another-network"])
def test_cached_rows_that_do_not_fit_are_refused(tmp_path, fault):
    net, images = TinyNet(), photos()[:4]
    expected = photo_features(net, images, cache=tmp_path / "cache")
    (file,) = cache_files(tmp_path / "cache")
    if fault == "of-another-network":
        photo_features(Scaled(1), images, cache=tmp_path / "other")
        (other,) = cache_files(tmp_path / "other")
        file.write_bytes(other.read_bytes())
    else:
        with np.load(file) as stored:
            arrays = dict(stored)
        (rows,) = (name for name, array in arrays.items() if array.shape == expected.shape)
        if fault == "width":
            arrays[rows] = arrays[rows][:, :3]
        else:
            arrays[rows][1, 2] = np.nan if fault == "nan" else np.inf
        with open(file, "wb") as stream:
            np.savez(stream, **arrays)
    assert_read_right(lambda: photo_features(net, images, cache=tmp_path / "cache"), expected, file)


# ------------------------------------------------------------------- checkpoints, damaged files


def assert_read_right(read, expected, file):
    """Reading gives what was written, or an error that names the file."""
    try:
        found = read()
    except ValueError as error:
        assert file.name in str(error), error
    else:
        np.testing.assert_allclose(found, expected, atol=1e-5)


def values_after(hasher, y=LABELS > 0):
    X = FEATURES["clusters"]()
    return hasher.fit(X, y).decision_function(X)


def checkpoint_file(folder):
    file = max(Path(folder).rglob("*"), key=lambda path: path.is_file() * path.stat().st_size)
    assert file.is_file()
    return file


def written_index(folder):
    codes = np.random.default_rng(0).integers(0, 2, (40, 20))
    index = skhash.HammingNeighbors(3).fit(codes)
    index.save(folder / "index.bin")

    def read():
        found = skhash.HammingNeighbors.load(folder / "index.bin")
        return np.hstack([found.packed_codes_, np.full((40, 1), found.n_bits_)])

    return folder / "index.bin", read, [index.packed_codes_.tobytes()]


def written_features(folder):
    features = photo_features(TinyNet(), photos()[:4], cache=folder)
    (file,) = cache_files(folder)
    return file, lambda: photo_features(TinyNet(), photos()[:4], cache=folder), [features.tobytes()]


def written_checkpoint(folder):
    hasher = my_hasher(checkpoint=folder)
    values_after(hasher)
    weights = [p.detach().numpy().tobytes() for p in hasher.head_.parameters()]
    return checkpoint_file(folder), lambda: values_after(my_hasher(checkpoint=folder)), weights


def written_weights(folder):
    state = TinyNet().state_dict()
    torch.save(state, folder / "weights.pth")
    net = TinyNet()
    nn.init.zeros_(net.first.weight)
    return (
        folder / "weights.pth",
        lambda: photo_features(net, photos()[:4], weights=folder / "weights.pth"),
        [tensor.numpy().tobytes() for tensor in state.values()],
    )


WRITTEN = {
    "index": written_index,
    "features": written_features,
    "checkpoint": written_checkpoint,
    "weights": written_weights,
}


@with_effort
@pytest.mark.parametrize("kind", WRITTEN)
def test_damaged_files_are_refused_or_read_right(kind, effort, tmp_path):
    file, read, parts = WRITTEN[kind](tmp_path)
    expected, content = read(), file.read_bytes()
    for start in (content.index(part) for part in parts if part in content):
        for place, bit in ((start, 0), (start + 3, 6)):  # the last and the first of a float
            file.write_bytes(flip(content, place, bit))
            assert_read_right(read, expected, file)

    @explore(25 * effort, damaged=damages(content, *parts))
    def check(damaged):
        file.write_bytes(damaged)
        assert_read_right(read, expected, file)


@with_effort
def test_weights_without_a_checksum_are_refused_if_cut(effort, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    file, net = tmp_path / "weights.safetensors", TinyNet()
    safetensors.save_file(net.state_dict(), file)
    content = file.read_bytes()

    @explore(10 * effort, length=st.integers(0, len(content) - 1), tail=st.binary(max_size=9))
    def check(length, tail):
        if length + len(tail) != len(content):
            file.write_bytes(content[:length] + tail)
            with pytest.raises(ValueError, match=file.name):
                photo_features(net, photos()[:2], weights=file)


def test_a_checkpoint_of_another_loss_is_refused(tmp_path):
    expected = values_after(my_hasher(checkpoint=tmp_path))
    with pytest.raises(ValueError, match="checkpoint"):
        values_after(my_hasher(checkpoint=tmp_path, strength=9.0))
    np.testing.assert_array_equal(values_after(my_hasher(checkpoint=tmp_path)), expected)


CALLBACKS = {
    "none": lambda: None,
    "rate": lambda: [LRScheduler("StepLR", step_size=1, gamma=0.5)],
    "another-rate": lambda: [LRScheduler("CosineAnnealingLR", T_max=5)],
    "stopping": lambda: [EarlyStopping("train_loss", patience=50)],
}


@pytest.mark.parametrize("later", CALLBACKS)
@pytest.mark.parametrize("first", CALLBACKS)
def test_other_callbacks_are_refused_or_equal_one_go(first, later, tmp_path):
    values_after(my_hasher(checkpoint=tmp_path, callbacks=CALLBACKS[first](), max_epochs=2))
    one_go = values_after(my_hasher(callbacks=CALLBACKS[later](), max_epochs=4))
    resumed = my_hasher(checkpoint=tmp_path, callbacks=CALLBACKS[later](), max_epochs=4)
    try:
        found = values_after(resumed)
    except ValueError as error:
        assert "checkpoint" in str(error)
        assert first != later
    else:
        np.testing.assert_allclose(found, one_go, atol=1e-5)


STAGES = [
    (name, stage)
    for name in sorted(TRAINED)
    for stage in ("max_epochs", "estimator__max_epochs", "n_rounds")
    if stage in make_hasher(name).get_params()
]


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_more_epochs_equal_one_go_or_are_refused(name, stage, tmp_path):
    folder = f"{'estimator__' * (name in WRAPPERS)}checkpoint"

    def values(hasher):
        X = FEATURES["clusters"]()
        # Without a second stage that could refuse what the first one does wrong.
        labels = {"labels": LABELS} if stage.startswith("estimator__") else {}
        return hasher.fit(X, TAGS, **labels).decision_function(X)

    first = values(small_hasher(name, **{stage: 2, folder: tmp_path}))
    again = values(small_hasher(name, **{stage: 2, folder: tmp_path}))
    np.testing.assert_allclose(again, first, atol=1e-6)
    for n in (3, 5):
        try:
            resumed = values(small_hasher(name, **{stage: n, folder: tmp_path}))
        except ValueError as error:
            assert "checkpoint" in str(error)
        else:
            one_go = values(small_hasher(name, **{stage: n}))
            np.testing.assert_allclose(resumed, one_go, atol=1e-5)


# ------------------------------------------------------------------------------- a new process

ENCODE = """
import hashlib, json, pickle, sys
import numpy as np
X, photos, files = pickle.load(open(sys.argv[1], "rb"))
found = {}
for name, file in files.items():
    try:
        fitted = pickle.load(open(file, "rb"))
        found[name] = fitted.transform(photos if name.startswith("photos") else X).tolist()
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
json.dump(found, open(sys.argv[1] + ".json", "w"))
"""


@pytest.fixture(scope="module")
def in_a_new_process(tmp_path_factory):
    """What a process that knows nothing of this one encodes, by everything that can be pickled."""
    folder = tmp_path_factory.mktemp("pickles")
    own = {"backbone": "squeezenet1_1", "weights": None, "image_size": 32}
    images = photos().repeat(2, axis=1).repeat(2, axis=2)
    dsh = {**ARGUMENTS["DSHHasher"], "max_epochs": 1, **own}
    weakly = small_hasher("WeaklySupervisedHasher").set_params(
        **{f"estimator__{key}": value for key, value in own.items()}, max_epochs=1
    )
    objects = {
        # First, while nothing has brought torchvision in.
        "photos-features": skhash.ImageFeatures(**own, random_state=0).fit(images),
        "photos-hasher": skhash.DSHHasher(**dsh).fit(images, TAGS),
        "photos-weakly": weakly.fit(images, TAGS),
        **{name: fitted(name)[1] for name in ARGUMENTS},
    }
    files = {name: folder / f"{name}.pkl" for name in objects}
    for name, value in objects.items():
        files[name].write_bytes(pickle.dumps(value))
    X = FEATURES["clusters"]()
    task = folder / "task.pkl"
    task.write_bytes(pickle.dumps((X, images, files)))
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-W", "ignore", "-c", ENCODE, task]
    subprocess.run(command, check=True, env=environment, cwd=folder)
    found = json.loads(Path(f"{task}.json").read_text())
    return {
        name: (values, objects[name].transform(images if name.startswith("photos") else X))
        for name, values in found.items()
    }


@pytest.mark.parametrize("name", ["photos-features", "photos-hasher", "photos-weakly", *ARGUMENTS])
def test_a_new_process_gives_the_same(name, in_a_new_process):
    found, expected = in_a_new_process[name]
    assert not isinstance(found, str), found
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

"""Odd input gives a correct result or an error that names the argument: nothing in between."""

import re
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from _estimators import (
    ARGUMENTS,
    BOUNDED_BITS,
    GRAPHS,
    NEEDS_TAGS,
    NETWORKS,
    STARTS_WITH_ITQ,
    USES_TAGS,
    WRAPPERS,
    make_hasher,
)
from sklearn.base import clone

from skhash.codes import (
    check_codes,
    hamming_blocks,
    hamming_distances,
    pack,
    sign_bits,
    unpack,
)
from skhash.tags import encode_tags, project_tags, share_any, tfidf

every_hasher = pytest.mark.parametrize("name", ARGUMENTS)
N_SAMPLES, N_FEATURES = 40, 9


@pytest.fixture
def X(rng):
    return rng.normal(size=(N_SAMPLES, N_FEATURES))


@pytest.fixture
def y():
    return [["sea"], ["sea", "sky"], ["tree"], ["face", "nikon"]] * (N_SAMPLES // 4)


def assert_encodes(hasher, X, y):
    """Codes are 0 and 1 of the right shape, and a second fit gives the same."""
    codes = hasher.fit(X, y).transform(X)
    assert codes.shape == (len(X), hasher.n_bits)
    assert codes.dtype == np.uint8
    assert codes.max() <= 1
    assert np.isfinite(hasher.decision_function(X)).all()
    np.testing.assert_array_equal(clone(hasher).fit(X, y).transform(X), codes)
    return codes


# ---------------------------------------------------------------------------- features

BAD_X = {
    "nan": lambda X: np.where(np.arange(X.size).reshape(X.shape) == 5, np.nan, X),
    "infinite": lambda X: np.where(np.arange(X.size).reshape(X.shape) == 5, np.inf, X),
    "no-samples": lambda X: X[:0],
    "no-features": lambda X: X[:, :0],
    "one-dimension": lambda X: X[:, 0],
    "three-dimensions": lambda X: X[:, :, None],
    "str": lambda X: X.astype(str)[:, :1] + "px",
    "a-str": lambda X: "photos",
    "none": lambda X: None,
    "objects": lambda X: [[object()] * X.shape[1]] * len(X),
    "ragged": lambda X: [[1.0] * (1 + i % 2) for i in range(len(X))],
    "complex": lambda X: X + 1j,
    "sparse": lambda X: sp.csr_array(X),
}


@every_hasher
@pytest.mark.parametrize("spoil", BAD_X.values(), ids=BAD_X)
def test_bad_features_are_refused_by_name(name, spoil, X, y):
    hasher = make_hasher(name)
    with pytest.raises((ValueError, TypeError), match=r"\bX\b"):
        hasher.fit(spoil(X), y)
    hasher.fit(X, y)
    for method in (hasher.transform, hasher.decision_function, hasher.score):
        with pytest.raises((ValueError, TypeError), match=r"\bX\b"):
            method(spoil(X))


@every_hasher
def test_another_number_of_features_is_refused(name, X, y):
    hasher = make_hasher(name).fit(X, y)
    with pytest.raises(ValueError, match=r"X has 8 features, but .* is expecting 9"):
        hasher.transform(X[:, 1:])


@every_hasher
def test_one_sample_is_refused_by_all_that_learn_from_more(name, X, y):
    if name == "LSH":
        with pytest.warns(UserWarning, match="2 of 2 bits are constant"):
            assert_encodes(make_hasher(name), X[:1], y[:1])
    else:
        with pytest.raises(ValueError, match=r"n_samples = 1\b"):
            make_hasher(name).fit(X[:1], y[:1])


@every_hasher
def test_one_sample_cannot_be_scored(name, X, y):
    with pytest.raises(ValueError, match=r"^X must have at least 2 samples"):
        make_hasher(name).fit(X, y).score(X[:1], y[:1])


@every_hasher
def test_two_samples_are_told_apart(name, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # centred, two samples vary in one direction only
        codes = assert_encodes(make_hasher(name, n_bits=2), X[1:3], y[1:3])
    assert (codes[0] != codes[1]).any()


@every_hasher
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_features_that_are_all_constant_give_one_code_or_are_refused(name, value, y):
    X = np.full((N_SAMPLES, N_FEATURES), value)
    if name in NEEDS_TAGS | NETWORKS:
        with pytest.raises(ValueError, match="features that do not vary"):
            make_hasher(name).fit(X, y)
    else:
        with pytest.warns(UserWarning, match=r"2 of 2 bits are constant"):
            codes = assert_encodes(make_hasher(name), X, y)
        assert (codes == codes[0]).all()


@every_hasher
def test_a_constant_feature_makes_no_difference(name, X, y):
    X[:, 3] = 0.1
    codes = assert_encodes(make_hasher(name, n_bits=4), X, y)
    X[:, 3] = 1e3
    others = assert_encodes(make_hasher(name, n_bits=4), X, y)
    if name not in GRAPHS:  # they see directions from the origin, which do change
        np.testing.assert_array_equal(others, codes)


@every_hasher
def test_duplicate_samples_get_one_code(name, X, y):
    X, y = np.repeat(X[:4], 10, axis=0), [row for row in y[:4] for _ in range(10)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # four distinct samples may not need every bit
        codes = assert_encodes(make_hasher(name, n_bits=3), X, y)
    np.testing.assert_array_equal(codes, np.repeat(codes[::10], 10, axis=0))
    assert len(np.unique(codes, axis=0)) > 1


# -------------------------------------------------------------------------- parameters


@every_hasher
@pytest.mark.parametrize("n_bits", [0, -1, 2.5, "8", None])
def test_a_number_of_bits_that_is_none_is_refused(name, n_bits, X, y):
    hasher = make_hasher(name, n_bits=n_bits)
    owner = type(getattr(hasher, "estimator", hasher)).__name__
    with pytest.raises(ValueError, match=rf"'n_bits' parameter of {owner} must be an int"):
        hasher.fit(X, y)


@every_hasher
@pytest.mark.parametrize("n_bits", [1, 7, 9])
def test_any_number_of_bits_up_to_the_features_works(name, n_bits, X, y):
    codes = assert_encodes(make_hasher(name, n_bits=n_bits), X, y)
    assert (codes[:, 0] != codes[0, 0]).any()


@every_hasher
@pytest.mark.parametrize("n_bits", [10, 1024])
def test_more_bits_than_features_work_or_are_refused(name, n_bits, X, y):
    hasher = make_hasher(name, n_bits=n_bits)
    if name in BOUNDED_BITS:
        with pytest.raises(ValueError, match=rf"n_bits={n_bits} needs .*; lower n_bits"):
            hasher.fit(X, y)
    else:
        codes = assert_encodes(hasher, X, y)
        assert (codes.std(axis=0) > 0).all()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in STARTS_WITH_ITQ)) for n in ARGUMENTS],
)
def test_a_thousand_bits_work(name, rng):
    X = rng.normal(size=(1030, 1030)).astype(np.float32)
    max_iter = {"max_iter": 1} if "max_iter" in make_hasher(name).get_params() else {}
    y = [["sea"], ["sky"], ["sea", "sky"], [], ["tree"]] * 206
    codes = make_hasher(name, n_bits=1024, **max_iter).fit_transform(X, y)
    assert codes.shape == (1030, 1024)
    # UHBDNN has one constant bit with two of three seeds.
    assert (codes.std(axis=0) == 0).sum() <= 2


@every_hasher
def test_parameters_of_a_wrong_type_are_refused_by_name(name, X, y):
    for parameter in make_hasher(name).get_params(deep=False):
        hasher = make_hasher(name).set_params(**{parameter: object()})
        with pytest.raises(ValueError, match=rf"'{parameter}' parameter of {name} must be"):
            hasher.fit(X, y)


# --------------------------------------------------------------------------------- tags


@every_hasher
def test_images_without_any_tag_count_as_images(name, X, y):
    y[::2] = [[]] * (N_SAMPLES // 2)
    assert_encodes(make_hasher(name), X, y)
    assert_encodes(make_hasher(name), X, [row or None for row in y])


@every_hasher
def test_one_image_with_a_tag(name, X):
    y = [["sea"], *[[]] * (N_SAMPLES - 1)]
    if name in NEEDS_TAGS:  # one tagged image tells nothing
        with pytest.raises(ValueError, match=r"^y\b"):
            make_hasher(name).fit(X, y)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bits that a single tag cannot tell apart
        assert_encodes(make_hasher(name), X, y)


@every_hasher
@pytest.mark.parametrize(
    "nothing", [[[]] * N_SAMPLES, [None] * N_SAMPLES, np.zeros((N_SAMPLES, 3))]
)
def test_no_tags_on_all_images_are_no_tags(name, nothing, X):
    hasher = make_hasher(name)
    if name in NEEDS_TAGS:
        with pytest.raises(ValueError, match=r"\by\b"):
            hasher.fit(X, nothing)
    else:
        codes = assert_encodes(hasher, X, nothing)
        np.testing.assert_array_equal(codes, clone(hasher).fit(X).transform(X))


@every_hasher
def test_one_tag_on_all_images_tells_nothing_and_is_survived(name, X):
    hasher = make_hasher(name)
    if name in NEEDS_TAGS:
        with pytest.raises(ValueError, match=r"\by\b"):
            hasher.fit(X, [["sea"]] * N_SAMPLES)
    else:
        assert_encodes(hasher, X, [["sea"]] * N_SAMPLES)


# A space of sem-words codes every tag, at 0.1 ms and several times.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in WRAPPERS)) for name in ARGUMENTS],
)
def test_a_hundred_thousand_distinct_tags(name, rng):
    X = rng.normal(size=(2000, 8)).astype(np.float32)
    tags = [f"tag{i}" for i in range(100_000)]
    codes = make_hasher(name).fit_transform(X, [tags[i::2000] for i in range(2000)])
    assert (codes.std(axis=0) > 0).all()


BAD_TAGS = {
    "a-str": ("sea", TypeError, "must be"),
    "bytes": (b"sea", TypeError, "must be"),
    "a-number": (3, TypeError, "must be"),
    "a-dict": ({"sea": 1}, TypeError, "must be"),
    "a-set": ({"sea", "sky"}, TypeError, "must be"),
    "a-generator": ((row for row in [["sea"]]), TypeError, "must be"),
    "too-few": ([["sea"]] * 39, ValueError, "39 rows, expected 40"),
    "too-many": (["sea"] * 41, ValueError, "41 rows, expected 40"),
    "indicator-too-short": (np.ones((39, 2)), ValueError, "39 rows, expected 40"),
    "nan-tag": ([float("nan")] * 40, ValueError, "nan"),
    "infinite-tag": ([float("inf")] * 40, ValueError, "inf"),
    "empty-tag": ([""] * 40, ValueError, "empty tag"),
    "empty-tag-in-a-list": ([["sea", ""]] * 40, ValueError, "empty tag"),
    "numbers-in-lists": ([["sea", 3]] * 40, TypeError, "must be str"),
    "lists-and-single-tags": ([["sea"], "sky"] * 20, TypeError, "mixes"),
    "numbers-and-str": ([3, "sky"] * 20, TypeError, "mixes"),
    "rows-that-are-dicts": ([{"sea": 1}] * 40, TypeError, "is dict"),
    "ragged-numbers": ([[1, 0], [1]] * 20, TypeError, "different lengths"),
    "nan-indicator": (np.full((40, 2), np.nan), ValueError, "NaN"),
    "nan-sparse": (sp.csr_array(np.full((40, 2), np.nan)), ValueError, "NaN"),
    "negative-indicator": (np.full((40, 2), -1), ValueError, "only 0 and 1"),
    "counts": (np.full((40, 2), 2), ValueError, "only 0 and 1"),
    "sparse-counts": (sp.csr_array(np.full((40, 2), 2)), ValueError, "only 0 and 1"),
    "weights": (np.full((40, 2), 0.5), ValueError, "only 0 and 1"),
    "no-dimension": (np.array(1), ValueError, "0 dimensions"),
    "three-dimensions": (np.ones((40, 2, 2)), ValueError, "3 dimensions"),
    "complex": (np.ones((40, 2), complex), TypeError, "must be"),
    "one-sparse-dimension": (sp.coo_array(np.ones(40)), ValueError, "sparse array of shape"),
    "frame-of-str": (
        pd.DataFrame({"file": ["a.jpg"] * 40, "tags": ["sea"] * 40}),
        TypeError,
        "data frame",
    ),
    "frame-of-nan": (pd.DataFrame({"sea": [1.0, np.nan] * 20}), ValueError, "NaN"),
    "column-of-classes": (np.arange(40).reshape(-1, 1) % 2, ValueError, r"np\.ravel"),
    "frame-with-a-name-twice": (
        pd.DataFrame(np.ones((40, 2)), columns=["sea", "sea"]),
        ValueError,
        "twice",
    ),
}
bad_tags = pytest.mark.parametrize(("tags", "error", "match"), BAD_TAGS.values(), ids=BAD_TAGS)
# All tags go through encode_tags; these are not tried on every hasher too.
MORE_BAD_TAGS = {
    "column-as-lists": ([[0], [1]] * 20, ValueError, r"np\.ravel"),
    "column-as-frame": (pd.DataFrame(np.arange(40) % 2), ValueError, r"np\.ravel"),
    "column-of-zeros": (np.zeros((40, 1)), ValueError, r"np\.ravel"),
    "column-of-numbers": (np.arange(40).reshape(-1, 1), ValueError, r"np\.ravel"),
    "column-of-numbers-in-a-frame": (
        pd.DataFrame({"class": range(40)}),
        ValueError,
        r"np\.ravel",
    ),
    "minus-and-plus-one": ([-1, 1] * 20, ValueError, "only -1 and 1"),
    "nearly-one": (np.full((40, 2), 1 + 1e-9), ValueError, "only 0 and 1"),
    "nearly-one-sparse": (sp.csr_array(np.full((40, 2), 1 - 1e-10)), ValueError, "only 0 and 1"),
    "nearly-one-object": (np.full((40, 2), 1 + 1e-9, dtype=object), ValueError, "only 0 and 1"),
    "overflowing-duplicates": (
        sp.coo_array(
            (np.array([255, 2], np.uint8), (np.array([0, 0]), np.array([0, 0]))), shape=(40, 2)
        ),
        ValueError,
        "only 0 and 1",
    ),
    "complex-sparse": (sp.csr_array(np.full((40, 2), 1j)), TypeError, "sparse matrix of complex"),
    "huge-numbers": ([10**5000] * 40, ValueError, "too large"),
    "huge-number-in-a-list": ([["sea", 10**5000]] * 40, TypeError, "must be str"),
    "huge-indicator": ([[10**5000, 0]] * 40, ValueError, "only 0 and 1"),
    "a-text": (["word " * 1000] * 40, ValueError, "5000 characters"),
    "blank-tag": (["  "] * 40, ValueError, "empty tag"),
    "blank-tag-in-a-list": ([["sea", "\u00a0\t"]] * 40, ValueError, "empty tag"),
    "invisible-tag": (["\u200b\u200d"] * 40, ValueError, "empty tag"),
    "masked": (np.ma.array([1, 2] * 20, mask=[False, True] * 20), ValueError, "masked"),
    "masked-indicator": (
        np.ma.array(np.ones((40, 2)), mask=np.eye(40, 2, dtype=bool)),
        ValueError,
        "masked",
    ),
    "masked-rows": ([np.ma.array([1, 0], mask=[False, True])] * 40, ValueError, "masked"),
    "missing-among-numbers": (pd.Series([1, None] * 20), ValueError, "nan"),
    "missing-in-an-indicator": (
        pd.DataFrame({"sea": pd.array([1, None] * 20, dtype="Int64"), "sky": [0, 1] * 20}),
        ValueError,
        "NaN",
    ),
    "missing-in-lists": ([["sea", pd.NA]] * 40, TypeError, "must be str"),
    "rows-of-bytes": ([[b"sea"]] * 40, TypeError, "Decode"),
    "array-of-bytes": (np.array([b"sea"] * 40), TypeError, "Decode"),
    "dates": (np.full(40, "2020-01-01", dtype="datetime64[ns]"), TypeError, "datetime64"),
    "decimals": ([Decimal(1)] * 40, TypeError, "Decimal"),
    "no-array": (torch.ones(40, 2, requires_grad=True), TypeError, "does not become an array"),
    "classes-in-lists": ([[3], [], [5, 7], [2]] * 10, TypeError, "must be str"),
}


@pytest.mark.parametrize(
    ("tags", "error", "match"),
    [*BAD_TAGS.values(), *MORE_BAD_TAGS.values()],
    ids=[*BAD_TAGS, *MORE_BAD_TAGS],
)
@pytest.mark.parametrize("name", ["y", "labels"])
def test_bad_tags_are_refused_by_name(tags, error, match, name):
    with pytest.raises(error, match=rf"^{name}\b(?s:.)*{match}"):
        encode_tags(tags, n_samples=40, name=name)


@bad_tags
@pytest.mark.parametrize("hasher_name", sorted(USES_TAGS))
def test_hashers_refuse_bad_tags_by_name(tags, error, match, hasher_name, X):
    with pytest.raises(error, match=rf"^y\b(?s:.)*{match}"):
        make_hasher(hasher_name).fit(X, tags)


@every_hasher
@bad_tags
def test_scores_refuse_bad_tags_by_name(name, tags, error, match, X, y):
    hasher = make_hasher(name).fit(X, y)
    with pytest.raises(error, match=rf"^y\b(?s:.)*{match}"):
        hasher.score(X, tags)
    with pytest.raises(error, match=rf"^labels\b(?s:.)*{match}"):
        hasher.score(X, y, labels=tags)


# --------------------------------------------------------------------- functions of tags

INDICATOR = sp.csr_array(np.eye(3, dtype=np.float32))

TAG_CALLS = {
    "vocabulary-a-str": (
        lambda: encode_tags([["a"]], vocabulary="a"),
        TypeError,
        "vocabulary must be a 1-D sequence",
    ),
    "vocabulary-2-d": (
        lambda: encode_tags([["a"]], vocabulary=[["a"]]),
        TypeError,
        "vocabulary must be a 1-D sequence",
    ),
    "vocabulary-twice-but-for-blanks": (
        lambda: encode_tags([["a"]], vocabulary=["a", " a"]),
        ValueError,
        "vocabulary names a tag twice",
    ),
    "vocabulary-blank": (
        lambda: encode_tags([["a"]], vocabulary=["a", " "]),
        ValueError,
        "vocabulary holds an empty tag",
    ),
    "vocabulary-of-str-and-numbers": (
        lambda: encode_tags([["a"]], vocabulary=["a", 1]),
        TypeError,
        "vocabulary mixes",
    ),
    "vocabulary-of-lists": (
        lambda: encode_tags([["a"]], vocabulary=np.array([["a"], ["b", "c"]], dtype=object)),
        TypeError,
        "vocabulary must be a 1-D sequence",
    ),
    "vocabulary-of-bytes": (
        lambda: encode_tags([["a"]], vocabulary=[b"a"]),
        TypeError,
        "vocabulary must be a 1-D sequence",
    ),
    "labels-of-another-length": (
        lambda: encode_tags(["a"] * 3, n_samples=4, name="labels"),
        ValueError,
        "labels has 3 rows, expected 4",
    ),
    "vocabulary-twice": (
        lambda: encode_tags([["a"]], vocabulary=["a", "a"]),
        ValueError,
        "vocabulary names a tag twice",
    ),
    "indicator-of-others": (
        lambda: encode_tags(np.eye(2), vocabulary=["a", "b", "c"]),
        ValueError,
        "y is an indicator of 2 tags, expected 3",
    ),
    "tfidf-of-lists": (lambda: tfidf([["a"]]), TypeError, "indicator must be a sparse"),
    "tfidf-of-dense": (lambda: tfidf(np.eye(2)), TypeError, "indicator must be a sparse"),
    "project-dense": (lambda: project_tags(np.eye(9), 3), TypeError, "matrix must be a sparse"),
    "share-any-dense": (lambda: share_any(np.eye(3), INDICATOR), TypeError, "A must be a sparse"),
    "share-any-lists": (lambda: share_any(INDICATOR, [["a"]]), TypeError, "B must be a sparse"),
    "share-any-width": (
        lambda: share_any(INDICATOR, INDICATOR[:, :2]),
        ValueError,
        "A and B have 3 and 2 tags; encode both with one vocabulary",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), TAG_CALLS.values(), ids=TAG_CALLS)
def test_functions_of_tags_name_the_argument(call, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        call()


# -------------------------------------------------------------------- functions of codes

PACKED = np.zeros((2, 2), np.uint8)

CODE_CALLS = {
    "pack-str": (lambda: pack("0101"), TypeError, "codes must be an array of 0 and 1"),
    "pack-list-of-str": (lambda: pack([["0", "1"]]), TypeError, "codes must be"),
    "pack-none": (lambda: pack(None), TypeError, "codes must be"),
    "pack-complex": (lambda: pack(np.ones((1, 2), complex)), TypeError, "codes must be"),
    "pack-sparse": (lambda: pack(sp.csr_array(np.eye(2))), TypeError, "codes must be"),
    "pack-1-d": (lambda: pack([0, 1]), ValueError, "codes must have shape"),
    "pack-3-d": (lambda: pack(np.zeros((1, 2, 3))), ValueError, "codes must have shape"),
    "pack-no-bits": (lambda: pack(np.zeros((2, 0))), ValueError, "codes has 0 bits"),
    "pack-plus-minus": (lambda: pack([[-1, 1]]), ValueError, "codes must hold only 0 and 1"),
    "pack-counts": (lambda: pack([[0, 2]]), ValueError, "codes must hold only 0 and 1"),
    "pack-halves": (lambda: pack([[0.5, 1]]), ValueError, "codes must hold only 0 and 1"),
    "pack-nan": (lambda: pack([[np.nan, 1]]), ValueError, "codes must hold only 0 and 1"),
    "pack-packed": (lambda: pack(PACKED + 200), ValueError, "codes must hold only 0 and 1"),
    "check-codes-name": (lambda: check_codes([[3]], name="Q"), ValueError, "Q must hold only"),
    "unpack-dtype": (lambda: unpack([[1, 2]], 16), TypeError, "packed must be packed codes"),
    "unpack-1-d": (lambda: unpack(PACKED[0], 16), ValueError, "packed must have shape"),
    "unpack-no-bytes": (lambda: unpack(PACKED[:, :0], 0), ValueError, "packed must have shape"),
    "unpack-0-bits": (lambda: unpack(PACKED, 0), ValueError, "n_bits=0"),
    "unpack-too-few": (lambda: unpack(PACKED, 8), ValueError, "n_bits=8 needs 1 bytes"),
    "unpack-too-many": (lambda: unpack(PACKED, 17), ValueError, "n_bits=17 needs 3 bytes"),
    "unpack-negative": (lambda: unpack(PACKED, -3), ValueError, "n_bits=-3"),
    "unpack-str": (lambda: unpack(PACKED, "16"), TypeError, "n_bits must be an int"),
    "unpack-float": (lambda: unpack(PACKED, 16.0), TypeError, "n_bits must be an int"),
    "unpack-cuts": (lambda: unpack(PACKED + 1, 15), ValueError, "packed has bits set beyond"),
    "sign-str": (lambda: sign_bits(["a"]), TypeError, "values must be an array of real"),
    "sign-none": (lambda: sign_bits(None), TypeError, "values must be an array of real"),
    "sign-nan": (lambda: sign_bits([0.0, np.nan]), ValueError, "values contains NaN"),
    "distances-dtype": (lambda: hamming_distances([[1.0]]), TypeError, "X must be packed codes"),
    "distances-Y": (lambda: hamming_distances(PACKED, "a"), TypeError, "Y must be packed codes"),
    "distances-1-d": (lambda: hamming_distances(PACKED[0]), ValueError, "X must have shape"),
    "distances-width": (
        lambda: hamming_distances(PACKED, PACKED[:, :1]),
        ValueError,
        "X and Y must hold codes of the same length, got 2 and 1 bytes",
    ),
    "blocks-memory": (
        lambda: next(hamming_blocks(PACKED, PACKED, working_memory="64")),
        TypeError,
        "working_memory must be a number",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), CODE_CALLS.values(), ids=CODE_CALLS)
def test_functions_of_codes_name_the_argument(call, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        call()

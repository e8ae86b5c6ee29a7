"""Every form of tags becomes the same indicator and vocabulary."""

import enum
import math
import random
import unicodedata
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch

from skhash.tags import TagMatrix, clean_tag, encode_tags, project_tags, share_any, tfidf

# Three images over the tags a, b, c; the second has none.
DENSE = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])


def assert_encodes(tags, vocabulary, expected=DENSE, **kwargs):
    encoded = encode_tags(tags, **kwargs)
    indicator = encoded.indicator
    assert isinstance(indicator, sp.csr_array)
    assert indicator.dtype == np.float32
    assert indicator.has_canonical_format
    assert indicator.nnz == np.count_nonzero(expected)
    np.testing.assert_array_equal(indicator.toarray(), expected)
    assert encoded.vocabulary.tolist() == vocabulary
    assert encoded.n_samples == len(expected)


def array_of(rows):
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


@pytest.mark.parametrize(
    "tags",
    [
        [["c", "a"], [], ["b"]],
        [["c", "a", "c"], None, ["b", "b"]],
        (("a", "c"), (), ("b",)),
        [{"a", "c"}, set(), frozenset("b")],
        [np.array(["c", "a"]), np.array([]), np.array(["b"], dtype=object)],
        array_of([["c", "a"], [], ["b"]]),
        pd.Series([["c", "a"], [], ["b"]], index=[7, 3, 5]),
    ],
    ids=["lists", "repeats-and-none", "tuples", "sets", "arrays", "object-array", "series"],
)
def test_collections_of_str(tags):
    assert_encodes(tags, ["a", "b", "c"])


@pytest.mark.parametrize(
    "tags",
    [
        ["b", None, "a", "b"],
        np.array(["b", None, "a", "b"], dtype=object),
        pd.Series(["b", None, "a", "b"], dtype=object),
    ],
    ids=["list", "object-array", "series"],
)
def test_one_str_each(tags):
    assert_encodes(tags, ["a", "b"], np.array([[0, 1], [0, 0], [1, 0], [0, 1]]))


@pytest.mark.parametrize(
    "tags",
    [[10, 2, 10], np.array([10, 2, 10]), np.array([10.0, 2.0, 10.0]), pd.Series([10, 2, 10])],
    ids=["list", "ints", "floats", "series"],
)
def test_one_number_each_sorts_as_numbers(tags):
    assert_encodes(tags, [2, 10], np.array([[0, 1], [1, 0], [0, 1]]))


def test_one_bool_each():
    assert_encodes(np.array([True, False]), [False, True], np.array([[0, 1], [1, 0]]))


class ArrayLike:
    """What is no array but becomes one, as tensors do."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype=dtype)


INDICATOR_FORMS = {
    "int": np.asarray,
    "fortran": np.asfortranarray,
    "bool": lambda a: a.astype(bool),
    "float16": lambda a: a.astype(np.float16),
    "object": lambda a: a.astype(object),
    "lists": lambda a: a.tolist(),
    "array-like": ArrayLike,
    "rows": list,
    "rows-of-bool": lambda a: list(a.astype(bool)),
    "csr-matrix": sp.csr_matrix,
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "lil": sp.lil_array,
    "coo-bool": lambda a: sp.coo_array(a.astype(bool)),
}


@pytest.mark.parametrize("convert", INDICATOR_FORMS.values(), ids=INDICATOR_FORMS)
def test_indicators_number_their_columns(convert):
    assert_encodes(convert(DENSE), [0, 1, 2])


def test_a_data_frame_names_its_columns():
    assert_encodes(pd.DataFrame(DENSE, columns=["c", "a", "b"]), ["c", "a", "b"])
    assert_encodes(pd.DataFrame(DENSE.astype(bool), columns=["c", "a", "b"]), ["c", "a", "b"])


def test_a_two_dimensional_array_of_str_is_rows_of_tags():
    for dtype in (None, object):
        tags = np.array([["b", "a"], ["1", "0"]], dtype=dtype)
        assert_encodes(tags, ["0", "1", "a", "b"], np.array([[0, 0, 1, 1], [1, 1, 0, 0]]))


def test_explicit_zeros_are_no_tags():
    matrix = sp.csr_array((np.array([1.0, 0.0]), ([0, 1], [0, 1])), shape=(2, 2))
    assert matrix.nnz == 2
    assert_encodes(matrix, [0, 1], np.array([[1, 0], [0, 0]]))


def test_the_users_sparse_matrix_stays_as_it_is():
    matrix = sp.csr_array(
        (np.ones(3, np.float32), np.array([2, 0, 1]), np.array([0, 2, 2, 3])), shape=(3, 3)
    )
    assert_encodes(matrix, [0, 1, 2])
    np.testing.assert_array_equal(matrix.indices, [2, 0, 1])


def test_a_tag_matrix_comes_back():
    encoded = encode_tags(DENSE)
    assert encode_tags(encoded) is encoded
    assert encode_tags(encoded, vocabulary=[0, 1, 2], n_samples=3) is encoded
    aligned = encode_tags(encoded, vocabulary=[1, 2, 3])
    expected = np.hstack([np.asarray(DENSE)[:, 1:], np.zeros((3, 1))])
    np.testing.assert_array_equal(aligned.indicator.toarray(), expected)
    assert aligned.n_unknown == np.asarray(DENSE)[:, 0].sum()
    with pytest.raises(ValueError, match=r"^y has 3 rows, expected 4"):
        encode_tags(encoded, n_samples=4)


@pytest.mark.parametrize(
    "tags",
    [
        sp.csr_array([[1], [0], [1]]),
        pd.DataFrame({"sea": [1, 0, 1]}),
        pd.DataFrame({"sea": [True, False, True]}),
        pa.table({"sea": [1, 0, 1]}),
    ],
    ids=["sparse", "frame", "frame-of-bool", "table"],
)
def test_one_tag_is_an_indicator_where_nothing_else_is_meant(tags):
    assert_encodes(tags, [0] if sp.issparse(tags) else ["sea"], np.array([[1], [0], [1]]))


@pytest.mark.parametrize(
    "tags",
    [
        [7, -1, 3],
        np.array([7, -1, 3], dtype=np.int8),
        np.array([7.0, -1.0, 3.0]),
        np.array([7, -1, 3], dtype=object),
        torch.tensor([7, -1, 3]),
        list(torch.tensor([7, -1, 3])),
        pd.Series([7, -1, 3], dtype="Int64"),
        pd.Categorical([7, -1, 3]),
        pa.array([7, -1, 3]),
    ],
)
@pytest.mark.parametrize("name", ["y", "labels"])
def test_minus_one_is_no_class(tags, name):
    assert_encodes(tags, [3, 7], np.array([[0, 1], [0, 0], [1, 0]]), name=name)


def test_minus_one_is_not_unknown_to_a_vocabulary():
    encoded = encode_tags([1, -1, 5], vocabulary=[1, 2])
    np.testing.assert_array_equal(encoded.indicator.toarray(), [[1, 0], [0, 0], [0, 0]])
    assert encoded.n_unknown == 1


def test_minus_one_is_a_class_where_the_vocabulary_says_so():
    encoded = encode_tags([1, -1], vocabulary=[-1, 1])
    np.testing.assert_array_equal(encoded.indicator.toarray(), [[0, 1], [1, 0]])


def test_other_negative_numbers_and_fractions_are_as_they_are():
    assert encode_tags([-2, 3, -2]).vocabulary.tolist() == [-2, 3]
    assert encode_tags([-1.0, 0.5]).vocabulary.tolist() == [-1.0, 0.5]
    assert encode_tags(["-1", "1"]).vocabulary.tolist() == ["-1", "1"]


CAFE = "caf\u00e9"
SPELLINGS = [
    "cafe\u0301",
    f" {CAFE}\n",
    f"\ufeff{CAFE}",
    "ca\u200bf\u00e9",
    f"{CAFE}\u00a0",
    f"\u200e{CAFE}\u200d",
    f"{CAFE}\x00",
    "caf\u00ade\u0301",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_words_that_look_the_same_are_the_same(spelling):
    assert_encodes([CAFE, spelling], [CAFE], np.array([[1], [1]]))
    assert_encodes([[spelling, CAFE], [spelling]], [CAFE], np.array([[1], [1]]))
    for known, given in ((CAFE, spelling), (spelling, CAFE)):
        frame = pd.DataFrame({given: [1, 0], "tea": [0, 1]})
        for tags in ([[given], ["tea"]], frame):
            encoded = encode_tags(tags, vocabulary=[known])
            assert encoded.vocabulary.tolist() == [CAFE]
            np.testing.assert_array_equal(encoded.indicator.toarray(), [[1], [0]])


def test_blanks_inside_are_one_blank():
    tags = ["new york", "new  york", "new\u00a0york", "new\tyork"]
    assert_encodes(tags, ["new york"], np.ones((4, 1)))


def test_joiners_inside_a_word_and_signs_stay():
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    half_space = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    for tag in (family, half_space, "c#", "c++", "100%", "rock'n'roll", "\u2764\ufe0f"):
        assert clean_tag(tag) == tag


def test_cleaning_twice_is_cleaning_once():
    rng = random.Random(0)
    letters = (
        "aAe\u0301\u0327\u00e9\u1100\u1161\u212b \t\u00a0\u2003\u200b\u200c\u200d\ufeff\x00\x1f\x85"
    )
    for _ in range(2000):
        tag = "".join(rng.choices(letters, k=rng.randrange(9)))
        clean = clean_tag(tag)
        assert clean_tag(clean) == clean == unicodedata.normalize("NFC", clean) == clean.strip()
        assert clean_tag(unicodedata.normalize("NFD", tag)) == clean


def test_str_of_other_kinds_become_plain():
    class Color(enum.StrEnum):
        RED = "red"

    class Old(str, enum.Enum):  # noqa: UP042
        RED = "red"

    encoded = encode_tags([[Color.RED], [Old.RED], [np.str_("red")]])
    assert [type(tag) for tag in encoded.vocabulary] == [str]
    assert encoded.vocabulary.tolist() == ["red"]


def test_upper_and_lower_case_are_two_tags_and_bring_a_warning():
    with pytest.warns(UserWarning, match="^labels has 1 tags .* only in case, .*'Sky' and 'sky'"):
        encoded = encode_tags(["Sky", "sky", "sea"], name="labels")
    assert encoded.vocabulary.tolist() == ["Sky", "sea", "sky"]


def test_a_few_tags_in_two_cases_bring_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_tags([["Sky", *(f"tag{i}" for i in range(50))], ["sky"]])


@pytest.mark.parametrize(
    "tags",
    [
        pd.Series(["b", None, "a"], dtype="str"),
        pd.Series(["b", None, "a"], dtype="string"),
        pd.Series(["b", np.nan, "a"], dtype=object),
        pd.Series(["b", None, "a"], dtype="category"),
        pd.Series([["b"], np.nan, ["a"]]),
        pa.array(["b", None, "a"]),
        pa.array([["b"], None, ["a"]]),
        ["b", pd.NA, "a"],
        ["b", pd.NaT, "a"],
    ],
)
def test_a_missing_value_is_an_image_without_tags(tags):
    assert_encodes(tags, ["a", "b"], np.array([[0, 1], [0, 0], [1, 0]]))


@pytest.mark.parametrize(
    "numbers",
    [
        [2**53 + 1, 0.5],
        [2**53 + 1, 2**53, 0.5],
        [2**64 - 1, -5],
        [10**100, 3],
        np.array([2**64 - 1, 0], np.uint64),
    ],
)
def test_large_numbers_stay_apart_and_are_found(numbers):
    encoded = encode_tags(numbers)
    assert encoded.vocabulary.tolist() == sorted(int(v) if v >= 1 else v for v in numbers)
    assert encoded.indicator.sum() == len(numbers)
    assert encoded.n_unknown == 0


# ------------------------------------------------------------------- forms of one tag


def cleaned(tags, **options):
    """The tags of each image after cleaning, and how many were left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = encode_tags(tags, **options)
    assert set(encoded.indicator.data.tolist()) <= {1.0}
    assert encoded.indicator.has_sorted_indices
    rows = [
        [encoded.vocabulary[j] for j in row.nonzero()[0]] for row in encoded.indicator.toarray()
    ]
    return rows, encoded.n_unknown


@pytest.mark.parametrize(
    ("tags", "normalize", "expected"),
    [
        ([["Sea"], ["sea"], ["SEA", "sea"]], "case", [["sea"]] * 3),
        ([["STRASSE"], ["Straße"], ["Straße"]], "case", [["straße"]] * 3),
        ([["\ufb01sh"], ["fish"], ["\uff26ish"]], "case", [["fish"]] * 3),
        ([["cats"], ["cat"]], "case", [["cats"], ["cat"]]),
        ([["cats"], ["cat"]], "forms", [["cat"]] * 2),
        ([["CAT"], ["Cat"], ["cat"], ["cats"], ["cats"]], "forms", [["cat"]] * 5),
        ([["Cats"], ["cat"], ["cats"]], "forms", [["cats"]] * 3),
        ([["New York"], ["newyork"], ["new-york"], ["newyork"]], "forms", [["newyork"]] * 4),
        ([["new_york"], ["New Yorks"]], "forms", [["new yorks"]] * 2),
        ([["city", "cities"], ["cities"]], "forms", [["cities"]] * 2),
        ([["box"], ["boxes"], ["church"], ["churches"]], "forms", [["box"]] * 2 + [["church"]] * 2),
        ([["leaf"], ["leaves"], ["knife"], ["knives"]], "forms", [["leaf"]] * 2 + [["knife"]] * 2),
        ([["glass"], ["bus"], ["this"], ["news"], ["new"], ["as"], ["a"]], "forms", None),
        ([["d70"], ["d70s"], ["glas"], ["glass"], ["-"], ["--"]], "forms", None),
        ([["houses"], ["boss"], ["bos"]], "forms", None),
    ],
)
def test_forms_of_a_tag_count_as_one(tags, normalize, expected):
    rows, n_left_out = cleaned(tags, normalize=normalize)
    assert rows == (tags if expected is None else expected)
    assert n_left_out == 0


def test_cleaning_does_not_depend_on_the_order_of_images(rng):
    words = ["cat", "Cats", "CAT", "new york", "New-York", "newyork", "dogs", "dog", "box", "boxes"]
    tags = [list(rng.choice(words, rng.integers(4), replace=False)) for _ in range(60)]
    rows, _ = cleaned(tags, normalize="forms")
    order = rng.permutation(60)
    assert cleaned([tags[i] for i in order], normalize="forms")[0] == [rows[i] for i in order]
    # And is done once.
    assert cleaned(rows, normalize="forms")[0] == rows


def test_a_vocabulary_decides_on_the_form():
    vocabulary = ["Cat", "new york", "dogs", "Dog"]
    tags = [["cats", "NEWYORK"], ["dog", "dogs"], ["Dogs"], ["sea"]]
    rows, n_left_out = cleaned(tags, normalize="forms", vocabulary=vocabulary)
    assert rows[0] == ["Cat", "new york"]
    assert rows[1] == ["dogs"]  # the first of those that the vocabulary holds of a group
    assert rows[2:] == [["dogs"], []]
    assert n_left_out == 1
    rows, _ = cleaned([["dogs", "Dog"]], normalize="forms", vocabulary=vocabulary)
    assert rows == [["dogs", "Dog"]]


def test_stop_tags_are_left_out_in_all_their_forms_and_counted():
    tags = [["Nikon", "sea"], ["nikons"], ["sky", "NIKON", "nikon"]]
    assert cleaned(tags, stop_tags=["nikon"], normalize="forms") == ([["sea"], [], ["sky"]], 3)
    assert cleaned(tags, stop_tags={" NIKON "}, normalize="case")[0] == [
        ["sea"],
        ["nikons"],
        ["sky"],
    ]
    tags = [["nikon", "sea"], ["canon"], ["sky", "nikon"]]
    rows, n_left_out = cleaned(tags, stop_tags=["nikon"], vocabulary=["sea", "nikon", "sky"])
    assert (rows, n_left_out) == ([["sea"], [], ["sky"]], 3)


def test_a_stop_tag_holds_for_every_form_that_a_vocabulary_has():
    tags, vocabulary = [["Cat"], ["cat", "sea"], ["CATS"]], ["Cat", "cat", "sea"]
    rows, n_left_out = cleaned(tags, stop_tags=["cats"], normalize="forms", vocabulary=vocabulary)
    assert (rows, n_left_out) == ([[], ["sea"], []], 3)


def test_the_columns_of_an_indicator_keep_their_order_and_names():
    frame = pd.DataFrame({("b", 1): [1, 1], ("a", 2): [0, 1], ("c", 3): [1, 1]})
    encoded = encode_tags(frame, min_count=2)
    assert encoded.vocabulary.tolist() == [("b", 1), ("c", 3)]
    np.testing.assert_array_equal(encoded.indicator.toarray(), np.ones((2, 2)))


def test_rare_tags_are_left_out_after_forms_are_merged():
    tags = [["Cat", "sea"], ["cats"], ["sky"], ["sky", "cat"]]
    assert cleaned(tags, min_count=3, normalize="forms") == ([["cat"], ["cat"], [], ["cat"]], 3)
    assert cleaned(["a", "b", "b"], min_count=2) == ([[], ["b"], ["b"]], 1)
    assert cleaned([3, 5, 5], min_count=2) == ([[], [5], [5]], 1)
    assert cleaned(["a"], min_count=2, vocabulary=["a"]) == ([["a"]], 0)


def test_columns_of_an_indicator_are_cleaned_as_tags_are():
    frame = pd.DataFrame({"Cat": [1, 1, 0], "cats": [1, 0, 0], "sea": [0, 0, 1]})
    encoded = encode_tags(frame, normalize="forms")
    assert encoded.vocabulary.tolist() == ["cat", "sea"]
    np.testing.assert_array_equal(encoded.indicator.toarray(), [[1, 0], [1, 0], [0, 1]])
    again = encode_tags(encode_tags(frame), normalize="forms")
    np.testing.assert_array_equal(again.indicator.toarray(), encoded.indicator.toarray())


def test_cleaning_of_what_cannot_be_cleaned_is_refused():
    with pytest.raises(ValueError, match='normalize must be "case"'):
        encode_tags(["a"], normalize="lower")
    with pytest.raises(TypeError, match="stop_tags must be a collection of str"):
        encode_tags(["a"], stop_tags="a")
    with pytest.raises(TypeError, match="stop_tags"):
        encode_tags(["a"], stop_tags=[1])
    with pytest.raises(ValueError, match="min_count"):
        encode_tags(["a"], min_count=0)
    for options in ({"normalize": "case"}, {"stop_tags": ["a"]}):
        with pytest.raises(TypeError, match="for tags of str; labels has other tags"):
            encode_tags([1, 2], name="labels", **options)


def test_no_tags_at_all_can_be_cleaned():
    assert cleaned([[], []], normalize="forms", stop_tags=["a"], min_count=2) == ([[], []], 0)


# ------------------------------------------------------------------- tags joined in one str

# 200 images with one to four of eleven words.
WORDS = ["sea", "sky", "tree", "face", "nikon", "night", "dog", "cat", "red", "blue", "boat"]
LISTS = [random.Random(i).sample(WORDS, 1 + i % 4) for i in range(200)]


@pytest.mark.parametrize(
    ("joined", "split"),
    [
        (",", "split(',')"),
        (", ", "split(',')"),
        (";", "split(';')"),
        ("|", "split('|')"),
        (" ", "split()"),
        ("#", "replace('#', ' ').split()"),
    ],
)
def test_joined_tags_bring_one_warning_with_a_remedy_that_works(joined, split):
    for y in ([joined.join(row) for row in LISTS], [[joined.join(row)] for row in LISTS]):
        with pytest.warns(UserWarning, match="^y seems to join the tags of an image") as record:
            encoded = encode_tags(y)
        assert len(record) == 1
        assert encoded.indicator.sum() == len(LISTS)  # a warning, and nothing split
        message = str(record[0].message)
        assert split in message
        repaired = eval(message.split("`")[1], {"y": y})
        assert_encodes(repaired, sorted(WORDS), encode_tags(LISTS).indicator.toarray())


def test_lists_written_as_str_bring_a_warning():
    with pytest.warns(UserWarning, match=r"ast\.literal_eval\(s\) for s in labels"):
        encode_tags([str(row) for row in LISTS], name="labels")


def test_joined_tags_among_untagged_images_bring_a_warning():
    tags = [",".join(row) if i % 2 else None for i, row in enumerate(LISTS)]
    with pytest.warns(UserWarning, match="^y seems to join"):
        encode_tags(tags)


SHARKS = ["great white shark", "tiger shark", "hammerhead shark", "whale shark", "shark"]
SUPERCLASSES = """aquatic mammals, fish, flowers, food containers, fruit and vegetables,
household electrical devices, household furniture, insects, large carnivores, large man-made
outdoor things, large natural outdoor scenes, large omnivores and herbivores, medium mammals,
non-insect invertebrates, people, reptiles, small mammals, trees, vehicles 1, vehicles 2"""
SYNSETS = ["tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark, white shark"]

UNSUSPICIOUS = {
    "lists": LISTS,
    "single-words": [row[0] for row in LISTS],
    "a-few-of-two-words": ["new york", "san francisco", *WORDS] * 10,
    "lists-with-two-words": [[*row, "new york"] for row in LISTS] + [["york"], ["new york"]] * 30,
    "classes-of-words": SHARKS * 10,
    "superclasses": [name.strip() for name in SUPERCLASSES.replace("\n", " ").split(",")] * 20,
    "synonyms": SYNSETS * 20,
    "colours-of-things": [f"{a} {b}" for a in WORDS[:4] for b in WORDS[4:]] * 5,
    "signs": ["c#", "f#", "#1", "#sky"] * 10,
    "numbers": list(range(20)) * 5,
}


@pytest.mark.parametrize("tags", UNSUSPICIOUS.values(), ids=UNSUSPICIOUS)
def test_names_of_several_words_bring_no_warning(tags):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_tags(tags)


def test_unknown_tags_are_counted_once_per_image():
    encoded = encode_tags([["x", "a", "x", "z"], [], ["x"]], vocabulary=["c", "a"])
    np.testing.assert_array_equal(encoded.indicator.toarray(), [[0, 1], [0, 0], [0, 0]])
    assert encoded.vocabulary.tolist() == ["c", "a"]
    assert encoded.n_unknown == 3


def test_numbers_are_looked_up_in_a_vocabulary_of_numbers():
    encoded = encode_tags(np.array([3, 9, 1]), vocabulary=np.array([1, 2, 3]))
    np.testing.assert_array_equal(encoded.indicator.toarray(), [[0, 0, 1], [0, 0, 0], [1, 0, 0]])
    assert encoded.n_unknown == 1


def test_a_data_frame_is_matched_to_a_vocabulary_by_name(rng):
    indicator = (rng.random((30, 10)) < 0.5).astype(int)
    columns = [f"tag{i}" for i in rng.permutation(10)]
    vocabulary = [f"tag{i}" for i in range(5, 15)]  # lacks five columns, has five more
    encoded = encode_tags(pd.DataFrame(indicator, columns=columns), vocabulary=vocabulary)
    as_lists = [[columns[j] for j in np.flatnonzero(row)] for row in indicator]
    expected = encode_tags(as_lists, vocabulary=vocabulary)
    np.testing.assert_array_equal(encoded.indicator.toarray(), expected.indicator.toarray())
    assert encoded.n_unknown == expected.n_unknown > 0
    assert encoded.vocabulary.tolist() == vocabulary
    assert encoded.indicator.has_canonical_format


def test_an_indicator_with_a_vocabulary_takes_its_names():
    encoded = encode_tags(DENSE, vocabulary=["x", "y", "z"])
    np.testing.assert_array_equal(encoded.indicator.toarray(), DENSE)
    assert encoded.vocabulary.tolist() == ["x", "y", "z"]


@pytest.mark.parametrize("tags", [[[], [], []], [None] * 3, np.empty((3, 0)), sp.csr_array((3, 0))])
def test_no_tags_at_all_is_an_empty_vocabulary(tags):
    assert_encodes(tags, [], np.empty((3, 0)))


def test_indicators_of_no_tags_keep_their_columns():
    assert_encodes(np.zeros((2, 4)), [0, 1, 2, 3], np.zeros((2, 4)))


def test_no_images():
    assert_encodes([], [], np.empty((0, 0)))


def test_a_hundred_thousand_distinct_tags_stay_sparse():
    tags = [[f"tag{i:05d}"] for i in range(100_000)]
    encoded = encode_tags(tags)
    assert encoded.indicator.shape == (100_000, 100_000)
    assert encoded.indicator.nnz == 100_000
    np.testing.assert_array_equal(encoded.indicator.indices, np.arange(100_000))
    assert tfidf(encoded.indicator).nnz == 100_000
    assert project_tags(encoded.indicator, 64, 0).shape == (100_000, 64)
    assert share_any(encoded.indicator, encoded.indicator).nnz == 100_000


def test_the_result_does_not_depend_on_the_order_of_images_and_tags(rng):
    tags = [list(rng.choice(list("abcdefgh"), size=rng.integers(0, 5))) for _ in range(40)]
    order = rng.permutation(40)
    shuffled = [list(rng.permutation(tags[i])) for i in order]
    whole, permuted = encode_tags(tags), encode_tags(shuffled)
    assert whole.vocabulary.tolist() == permuted.vocabulary.tolist()
    np.testing.assert_array_equal(whole.indicator.toarray()[order], permuted.indicator.toarray())


def test_tfidf_equals_its_formula():
    weighted = tfidf(encode_tags([["a", "c"], [], ["a"], ["a", "b", "c"]]).indicator)
    idf = {tag: math.log(5 / (1 + df)) + 1 for tag, df in {"a": 3, "b": 1, "c": 2}.items()}
    expected = np.array(
        [
            [idf["a"], 0, idf["c"]],
            [0, 0, 0],
            [idf["a"], 0, 0],
            [idf["a"], idf["b"], idf["c"]],
        ]
    )
    norms = np.linalg.norm(expected, axis=1, keepdims=True)
    assert weighted.dtype == np.float32
    np.testing.assert_allclose(
        weighted.toarray(), expected / np.where(norms == 0, 1, norms), rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_tfidf_of_nothing_is_nothing(shape):
    assert tfidf(sp.csr_array(shape, dtype=np.float32)).shape == shape


def test_share_any_equals_the_definition_on_sets(rng):
    A = (rng.random((15, 9)) < 0.2).astype(int)
    B = (rng.random((12, 9)) < 0.2).astype(int)
    shared = share_any(encode_tags(A).indicator, encode_tags(B).indicator)
    expected = [[bool(set(np.flatnonzero(a)) & set(np.flatnonzero(b))) for b in B] for a in A]
    assert shared.dtype == bool
    np.testing.assert_array_equal(shared.toarray(), expected)


def test_many_shared_tags_do_not_overflow():
    ones = sp.csr_array(np.ones((1, 1000), np.uint8))
    assert share_any(ones, ones).toarray().tolist() == [[True]]


def test_a_tag_matrix_cannot_be_changed():
    with pytest.raises(AttributeError):
        encode_tags(DENSE).n_unknown = 3
    assert isinstance(encode_tags(DENSE), TagMatrix)


def test_few_tags_are_not_projected(rng):
    tags = sp.csr_array((rng.random((10, 7)) < 0.3).astype(np.float32))
    np.testing.assert_array_equal(project_tags(tags, 7, 0).toarray(), tags.toarray())


def test_projected_tags_keep_inner_products_in_expectation(rng):
    tags = sp.csr_array((rng.random((6, 50)) < 0.3).astype(np.float32))
    projected = [project_tags(tags, 20, seed) for seed in range(2000)]
    assert all(matrix.shape == (6, 20) and matrix.dtype == np.float32 for matrix in projected)
    # An inner product has a standard deviation of at most 17 / sqrt(20) for 17 tags an image.
    mean = sum((matrix @ matrix.T).toarray() for matrix in projected) / len(projected)
    np.testing.assert_allclose(mean, (tags @ tags.T).toarray(), atol=0.4)
    assert (projected[0] != project_tags(tags, 20, 0)).nnz == 0
    assert (projected[0] != projected[1]).nnz > 0

"""Every form of tags becomes the same indicator and vocabulary."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from skhash.tags import TagMatrix, encode_tags, project_tags, share_any, tfidf

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
    with pytest.raises(ValueError, match=r"^y was encoded with another vocabulary"):
        encode_tags(encoded, vocabulary=[1, 2, 3])
    with pytest.raises(ValueError, match=r"^y has 3 rows, expected 4"):
        encode_tags(encoded, n_samples=4)


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

"""Packing, unpacking and Hamming distances against their definitions."""

import numpy as np
import pytest

from skhash.codes import (
    MISSING,
    check_codes,
    hamming_blocks,
    hamming_distances,
    missing_rows,
    pack,
    sign_bits,
    smallest,
    unpack,
)

LENGTHS = [1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 100, 128, 248, 249, 256, 1024]


def random_codes(rng, n_samples, n_bits):
    return rng.integers(0, 2, (n_samples, n_bits), dtype=np.uint8)


def brute_force_distances(X, Y):
    return (X[:, None, :] != Y[None, :, :]).sum(axis=2)


@pytest.mark.parametrize("n_bits", LENGTHS)
def test_unpack_inverts_pack(rng, n_bits):
    codes = random_codes(rng, 10, n_bits)
    packed = pack(codes)
    assert packed.dtype == np.uint8
    assert packed.shape == (10, -(-n_bits // 8))
    np.testing.assert_array_equal(unpack(packed, n_bits), codes)


def test_first_bit_is_the_most_significant_and_padding_is_zero():
    codes = np.zeros((1, 11), np.uint8)
    codes[0, [0, 7, 8]] = 1
    np.testing.assert_array_equal(pack(codes), [[0b10000001, 0b10000000]])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint16, np.float32, np.float64])
def test_pack_takes_any_dtype_of_zeros_and_ones(rng, dtype):
    codes = random_codes(rng, 5, 13)
    np.testing.assert_array_equal(pack(codes.astype(dtype)), pack(codes))


def test_pack_takes_fortran_order_slices_and_lists(rng):
    codes = random_codes(rng, 6, 20)
    for same in (np.asfortranarray(codes), np.repeat(codes, 2, axis=1)[:, ::2], codes.tolist()):
        np.testing.assert_array_equal(pack(same), pack(codes))


def test_pack_of_no_samples_keeps_the_width():
    assert pack(np.empty((0, 12))).shape == (0, 2)
    assert unpack(np.empty((0, 2), np.uint8), 12).shape == (0, 12)


@pytest.mark.parametrize("n_bits", LENGTHS)
def test_distances_equal_the_count_of_differing_bits(rng, n_bits):
    X, Y = random_codes(rng, 7, n_bits), random_codes(rng, 11, n_bits)
    distances = hamming_distances(pack(X), pack(Y))
    np.testing.assert_array_equal(distances, brute_force_distances(X, Y))


@pytest.mark.parametrize(
    ("n_bits", "dtype"),
    [
        (248, np.uint8),
        (249, np.uint16),
        (1024, np.uint16),
        (65_528, np.uint16),
        (65_529, np.uint32),
        (65_536, np.uint32),
        (70_001, np.uint32),
    ],
)
def test_the_greatest_distance_does_not_overflow(n_bits, dtype):
    distances = hamming_distances(
        pack(np.zeros((1, n_bits), np.uint8)), pack(np.ones((1, n_bits), np.uint8))
    )
    assert distances.dtype == dtype
    assert distances[0, 0] == n_bits


def test_distances_of_one_set_are_a_metric(rng):
    packed = pack(random_codes(rng, 20, 19))
    distances = hamming_distances(packed).astype(int)
    np.testing.assert_array_equal(distances, distances.T)
    assert not distances.diagonal().any()
    assert (distances[:, None, :] <= distances[:, :, None] + distances[None, :, :]).all()


def test_distances_take_views_that_are_not_contiguous(rng):
    X = random_codes(rng, 12, 72)
    strided = pack(X)[::2]
    np.testing.assert_array_equal(
        hamming_distances(strided, np.asfortranarray(pack(X))), brute_force_distances(X[::2], X)
    )


@pytest.mark.parametrize("n_bits", [6, 60, 300])
def test_blocks_cover_every_row_once_in_order(rng, n_bits):
    X, Y = random_codes(rng, 83, n_bits), random_codes(rng, 9, n_bits)
    seen, blocks = [], []
    for rows, block in hamming_blocks(pack(X), pack(Y), working_memory=300 / 2**20):
        seen += range(rows.start, rows.stop)
        blocks.append(block.copy())  # the next block overwrites it
    assert len(blocks) > 5
    assert seen == list(range(83))
    np.testing.assert_array_equal(np.concatenate(blocks), brute_force_distances(X, Y))


def test_a_block_has_one_row_when_memory_allows_none(rng):
    packed = pack(random_codes(rng, 4, 8))
    assert [rows for rows, _ in hamming_blocks(packed, packed, working_memory=0)] == [
        slice(i, i + 1) for i in range(4)
    ]


@pytest.mark.parametrize(("n_x", "n_y"), [(0, 3), (3, 0), (0, 0)])
def test_distances_of_empty_sets_are_empty(n_x, n_y):
    X, Y = np.empty((n_x, 2), np.uint8), np.empty((n_y, 2), np.uint8)
    assert hamming_distances(X, Y).shape == (n_x, n_y)


def test_sign_bits_are_one_from_zero_on():
    values = np.array([[-1.0, -0.0, 0.0], [1e-300, np.inf, -np.inf]])
    bits = sign_bits(values)
    assert bits.dtype == np.uint8
    np.testing.assert_array_equal(bits, [[0, 1, 1], [1, 1, 0]])


def test_check_codes_does_not_copy_uint8(rng):
    codes = random_codes(rng, 3, 4)
    assert check_codes(codes) is codes


def test_the_inputs_stay_as_they_are(rng):
    X, Y = pack(random_codes(rng, 5, 70)), pack(random_codes(rng, 6, 70))
    X_before, Y_before = X.copy(), Y.copy()
    hamming_distances(X, Y)
    unpack(X, 70)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(Y, Y_before)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "fortran": np.asfortranarray,
    "columns of a wider array": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "read-only": read_only,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n_bits", [7, 72, 300])
def test_the_layout_in_memory_does_not_matter(rng, layout, n_bits):
    codes, others = random_codes(rng, 12, n_bits), random_codes(rng, 9, n_bits)
    change = LAYOUTS[layout]
    np.testing.assert_array_equal(pack(change(codes)), pack(codes))
    np.testing.assert_array_equal(unpack(change(pack(codes)), n_bits), codes)
    np.testing.assert_array_equal(
        hamming_distances(change(pack(codes)), change(pack(others))),
        brute_force_distances(codes, others),
    )


def test_memory_mapped_codes_are_measured(rng, tmp_path):
    codes = random_codes(rng, 12, 40)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        hamming_distances(pack(mapped)), brute_force_distances(codes, codes)
    )


@pytest.mark.parametrize("n_columns", [1, 5, 300, 4000])
@pytest.mark.parametrize("n_values", [1, 3, 60, 70_000])
def test_smallest_is_the_start_of_a_stable_sort(rng, n_columns, n_values):
    distances = rng.integers(0, n_values, (6, n_columns)).astype(np.min_scalar_type(n_values))
    order = np.argsort(distances, axis=1, kind="stable")
    for k in (1, 2, n_columns // 5, n_columns // 2, n_columns - 1, n_columns, 2 * n_columns):
        if k:
            np.testing.assert_array_equal(smallest(distances, k), order[:, :k])


@pytest.mark.parametrize("memory", [-1, np.nan])
def test_a_bound_on_memory_is_a_size(rng, memory):
    packed = pack(random_codes(rng, 4, 8))
    with pytest.raises(ValueError, match="working_memory must be at least 0"):
        next(hamming_blocks(packed, packed, working_memory=memory))
    with pytest.raises(TypeError, match="working_memory must be a number"):
        next(hamming_blocks(packed, packed, working_memory=True))
    assert len(list(hamming_blocks(packed, packed, working_memory=np.inf))) == 1


# Samples that could not be read


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_missing_codes_are_told_and_refused(rng, dtype):
    codes = random_codes(rng, 12, 9).astype(dtype)
    assert not missing_rows(codes).any()
    rows = [1, 4, 5, 7, 8, 11]
    codes[rows] = MISSING
    assert np.flatnonzero(missing_rows(codes)).tolist() == rows
    for refuse in (check_codes, pack):
        with pytest.raises(ValueError, match=r"codes has 6 row.* read: 1, 4, 5, 7, 8 and 1 more"):
            refuse(codes)
    with pytest.raises(ValueError, match=r"X has .*codes\[~missing_rows\(codes\)\]"):
        check_codes(codes[1:2], name="X")
    assert len(pack(codes[~missing_rows(codes)])) == 6


def test_a_part_of_a_row_or_packed_bytes_are_no_missing_codes(rng):
    codes = random_codes(rng, 3, 9)
    codes[1, 2] = MISSING
    assert not missing_rows(codes).any()
    packed = np.array([[255, 255], [3, 4]], np.uint8)
    for other in (codes, packed):
        with pytest.raises(ValueError, match="codes must hold only 0 and 1"):
            check_codes(other)
    with pytest.raises(ValueError, match="codes must have shape"):
        missing_rows(codes[0])
    assert missing_rows(codes[:0]).shape == (0,)


def test_rows_of_nan_have_missing_bits_where_that_is_asked():
    values = np.array([[1.0, -1.0], [np.nan, np.nan], [0.0, 2.0]])
    bits = sign_bits(values, missing=True)
    assert bits.dtype == np.uint8
    np.testing.assert_array_equal(bits, [[1, 0], [MISSING, MISSING], [1, 1]])
    np.testing.assert_array_equal(sign_bits(values[::2], missing=True), [[1, 0], [1, 1]])
    partly = np.array([[1.0, np.nan], [np.nan, np.nan]])
    for wrong in (
        lambda: sign_bits(values),
        lambda: sign_bits(partly, missing=True),
        lambda: sign_bits(values[1], missing=True),
        lambda: sign_bits(np.nan, missing=True),
    ):
        with pytest.raises(ValueError, match="values contains NaN"):
            wrong()

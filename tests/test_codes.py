"""Packing, unpacking and Hamming distances against their definitions."""

import numpy as np
import pytest

from skhash.codes import (
    check_codes,
    hamming_blocks,
    hamming_distances,
    pack,
    sign_bits,
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
    ("n_bits", "dtype"), [(248, np.uint8), (249, np.uint16), (256, np.uint16), (1024, np.uint16)]
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

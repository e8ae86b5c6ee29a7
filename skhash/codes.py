"""Packing binary codes into bytes and measuring Hamming distances.

Only this module knows the bit order. A code of ``n_bits`` values in {0, 1} has
``ceil(n_bits / 8)`` bytes. The first bit is the most significant bit of the
first byte, as in :func:`numpy.packbits` by default. The unused bits of the
last byte are zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MISSING",
    "check_codes",
    "hamming_blocks",
    "hamming_distances",
    "missing_rows",
    "pack",
    "sign_bits",
    "unpack",
]

#: The value of every bit in the code of a sample that could not be read.
MISSING = 255


def check_codes(codes: ArrayLike, *, name: str = "codes") -> NDArray[np.uint8]:
    """Validate unpacked codes.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_bits)
        Boolean or numeric array whose values are all 0 or 1.
    name : str, default="codes"
        Name of the argument in error messages.

    Returns
    -------
    ndarray of shape (n_samples, n_bits), uint8
        The codes; not copied if they are already uint8.

    Raises
    ------
    ValueError
        If the array is not two-dimensional, has no bits, or holds other values
        than 0 and 1; the message says which rows are :data:`MISSING`.
    TypeError
        If the values are not numbers.
    """
    array = _check_table(codes, name)
    # Integers in {0, 1} are checked by their extremes: cheaper than comparing every element twice.
    if array.size and (
        array.min() < 0
        or array.max() > 1
        or (array.dtype.kind == "f" and not ((array == 0) | (array == 1)).all())
    ):
        raise _not_codes(array, name)
    return array.astype(np.uint8, copy=False)


def _check_table(codes: ArrayLike, name: str) -> NDArray[Any]:
    """An array of numbers with a row per sample and a column per bit."""
    array = np.asarray(codes)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must be an array of 0 and 1, got dtype {array.dtype}.")
    if array.ndim != 2:
        raise ValueError(
            f"{name} must have shape (n_samples, n_bits), got {array.ndim} dimension(s); "
            "a single code is codes.reshape(1, -1)."
        )
    if array.shape[1] == 0:
        raise ValueError(f"{name} has 0 bits; give at least one column.")
    return array


def _not_codes(array: NDArray[Any], name: str) -> ValueError:
    """The error for an array with other values than 0 and 1."""
    missing = missing_rows(array)
    if missing.any() and np.isin(array[~missing], (0, 1)).all():
        rows = np.flatnonzero(missing)
        first = ", ".join(map(str, rows[:5])) + (f" and {len(rows) - 5} more" * (len(rows) > 5))
        return ValueError(
            f"{name} has {len(rows)} row(s) of MISSING ({MISSING}), the code of a sample that "
            f"could not be read: {first}. Leave them out, with all that goes with them row by "
            "row: `codes[~missing_rows(codes)]`; see skhash.codes.missing_rows."
        )
    return ValueError(
        f"{name} must hold only 0 and 1; pass `codes > 0` for codes in {{-1, 1}}, "
        "or `unpack(codes, n_bits)` for packed bytes."
    )


def missing_rows(codes: ArrayLike) -> NDArray[np.bool_]:
    """Find the codes of samples that could not be read.

    A hasher with ``on_error="skip"`` returns a row of :data:`MISSING` for such
    a sample, so that rows stay in order. All functions that take codes refuse
    such a row.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_bits)
        Codes as ``transform`` returns them, not packed.

    Returns
    -------
    ndarray of shape (n_samples,), bool
        True where all values of a row are MISSING.

    Raises
    ------
    ValueError, TypeError
        If ``codes`` is not a two-dimensional array of numbers, or has no bits.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash.codes import MISSING, missing_rows
    >>> codes = np.array([[0, 1], [MISSING, MISSING], [1, 1]], np.uint8)
    >>> missing_rows(codes)
    array([False,  True, False])
    >>> codes[~missing_rows(codes)]
    array([[0, 1],
           [1, 1]], dtype=uint8)
    """
    return (_check_table(codes, "codes") == MISSING).all(axis=1)


def sign_bits(values: ArrayLike, *, missing: bool = False) -> NDArray[np.uint8]:
    """Turn real values into bits: 1 where a value is at least 0, else 0.

    Parameters
    ----------
    values : array-like of any shape
        Real values, such as the output of ``decision_function``.
    missing : bool, default=False
        Whether NaN in a whole row stands for a sample that could not be read:
        its bits are :data:`MISSING`. For values of two dimensions. NaN in only
        a part of a row is always an error.

    Returns
    -------
    ndarray of the same shape, uint8

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If some are NaN.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise TypeError(f"values must be an array of real numbers, got dtype {array.dtype}.")
    bits = (array >= 0).view(np.uint8)
    nan = np.isnan(array)
    if nan.any():
        rows = nan.all(axis=1) if missing and array.ndim == 2 else None
        if rows is None or nan[~rows].any():
            raise ValueError("values contains NaN, which has no sign; find where it arose.")
        bits[rows] = MISSING
    return bits


def pack(codes: ArrayLike) -> NDArray[np.uint8]:
    """Pack codes of 0 and 1 into bytes.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_bits)
        Values 0 and 1, of any numeric or boolean dtype.

    Returns
    -------
    ndarray of shape (n_samples, ceil(n_bits / 8)), uint8
        Big-endian within a byte; the last byte is filled with zeros.

    Raises
    ------
    ValueError, TypeError
        See :func:`check_codes`.

    See Also
    --------
    unpack : The inverse.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash.codes import pack
    >>> pack(np.array([[1, 0, 0, 0, 0, 0, 0, 1, 1]]))
    array([[129, 128]], dtype=uint8)
    """
    return np.packbits(check_codes(codes), axis=1)


def _check_packed(packed: ArrayLike, name: str) -> NDArray[np.uint8]:
    array = np.asarray(packed)
    if array.dtype != np.uint8:
        raise TypeError(
            f"{name} must be packed codes of dtype uint8, got {array.dtype}; see pack()."
        )
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n_samples, n_bytes), got {array.shape}.")
    return array


def unpack(packed: ArrayLike, n_bits: int) -> NDArray[np.uint8]:
    """Unpack bytes into codes of 0 and 1.

    Parameters
    ----------
    packed : array-like of shape (n_samples, n_bytes), uint8
        As :func:`pack` returns them.
    n_bits : int
        Number of bits of a code; ``ceil(n_bits / 8)`` must be ``n_bytes``.

    Returns
    -------
    ndarray of shape (n_samples, n_bits), uint8
        Values 0 and 1.

    Raises
    ------
    ValueError
        If the shape does not match ``n_bits``, or bits beyond it are set.
    TypeError
        If ``packed`` is not uint8, or ``n_bits`` not an int.
    """
    array = _check_packed(packed, "packed")
    if not isinstance(n_bits, Integral) or isinstance(n_bits, bool):
        raise TypeError(f"n_bits must be an int, got {type(n_bits).__name__}.")
    if n_bits < 1 or -(-n_bits // 8) != array.shape[1]:
        raise ValueError(
            f"n_bits={n_bits} needs {max(-(-n_bits // 8), 0)} bytes per code, "
            f"but packed has {array.shape[1]}."
        )
    if (array[:, -1] & (2 ** (-n_bits % 8) - 1)).any():
        raise ValueError(f"packed has bits set beyond n_bits={n_bits}: the codes are longer.")
    return np.unpackbits(array, axis=1, count=n_bits)


def _as_words(packed: NDArray[np.uint8]) -> NDArray[Any]:
    """View packed codes as the widest unsigned words, zero-padded to a whole number of them."""
    n_bytes = packed.shape[1]
    width = 8 if n_bytes > 4 else 4 if n_bytes > 2 else n_bytes
    padding = -n_bytes % width
    if padding:
        packed = np.pad(packed, ((0, 0), (0, padding)))
    return np.ascontiguousarray(packed).view(f"u{width}")


def _distance_dtype(n_bytes: int) -> np.dtype[Any]:
    """The smallest unsigned integer that holds the distance of two codes of some bytes."""
    return np.min_scalar_type(8 * n_bytes)


def hamming_blocks(
    X: ArrayLike, Y: ArrayLike, *, working_memory: float = 64.0
) -> Iterator[tuple[slice, NDArray[np.unsignedinteger[Any]]]]:
    """Hamming distances in blocks of rows of X, so that memory stays bounded.

    Parameters
    ----------
    X : array-like of shape (n_x, n_bytes), uint8
        Packed codes.
    Y : array-like of shape (n_y, n_bytes), uint8
        Packed codes.
    working_memory : float, default=64.0
        Bound on the memory of a block and its temporaries, in MiB (a block has
        at least one row of X, even if this needs more).

    Yields
    ------
    rows : slice
        Which rows of X.
    distances : ndarray of shape (n_rows, n_y), uint8, uint16 or uint32
        The smallest of these that holds the number of bits: uint8 for codes of
        up to 31 bytes, uint16 up to 8,191. The array is overwritten by the
        next block.

    Raises
    ------
    ValueError, TypeError
        If the inputs are not packed codes of the same width, or
        ``working_memory`` not a number of at least 0.
    """
    X, Y = _check_packed(X, "X"), _check_packed(Y, "Y")
    if not isinstance(working_memory, Real) or isinstance(working_memory, bool):
        raise TypeError(f"working_memory must be a number of MiB, got {working_memory!r}.")
    if not working_memory >= 0:
        raise ValueError(f"working_memory must be at least 0 MiB, got {working_memory}.")
    if X.shape[1] != Y.shape[1]:
        raise ValueError(
            f"X and Y must hold codes of the same length, got {X.shape[1]} and {Y.shape[1]} bytes."
        )
    dtype = _distance_dtype(X.shape[1])
    X_words, Y_words = _as_words(X), _as_words(Y)
    n_words = X_words.shape[1]
    # Word columns are contiguous, so that the inner loop reads Y in order.
    Y_columns = np.ascontiguousarray(Y_words.T)
    row_bytes = max(len(Y), 1) * (X_words.itemsize + 1 + dtype.itemsize)
    n_rows = max(1, int(min(len(X), working_memory * 2**20 // row_bytes)))
    xor = np.empty((n_rows, len(Y)), X_words.dtype)
    distances = np.empty((n_rows, len(Y)), dtype)
    count = np.empty((n_rows, len(Y)), np.uint8) if n_words > 1 else None
    for start in range(0, len(X), n_rows):
        rows = slice(start, min(start + n_rows, len(X)))
        n = rows.stop - start
        for word in range(n_words):
            np.bitwise_xor(X_words[rows, word, None], Y_columns[word], out=xor[:n])
            if word == 0:
                np.bitwise_count(xor[:n], out=distances[:n])
            else:
                assert count is not None
                np.bitwise_count(xor[:n], out=count[:n])
                distances[:n] += count[:n]
        yield rows, distances[:n]


def hamming_distances(X: ArrayLike, Y: ArrayLike | None = None) -> NDArray[np.unsignedinteger[Any]]:
    """Hamming distances between all pairs of packed codes.

    Parameters
    ----------
    X : array-like of shape (n_x, n_bytes), uint8
        Packed codes.
    Y : array-like of shape (n_y, n_bytes), uint8, default=None
        Packed codes; X itself if None.

    Returns
    -------
    ndarray of shape (n_x, n_y), uint8, uint16 or uint32
        Number of bits in which the codes differ, in the smallest of these that
        holds the number of bits: uint8 for codes of up to 31 bytes, uint16 up
        to 8,191.

    Raises
    ------
    ValueError, TypeError
        If the inputs are not packed codes of the same width.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash.codes import hamming_distances, pack
    >>> hamming_distances(pack(np.array([[0, 0, 1], [1, 1, 1]])))
    array([[0, 2],
           [2, 0]], dtype=uint8)
    """
    X = _check_packed(X, "X")
    Y = X if Y is None else _check_packed(Y, "Y")
    distances = np.empty((len(X), len(Y)), _distance_dtype(X.shape[1]))
    for rows, block in hamming_blocks(X, Y):
        distances[rows] = block
    return distances


def smallest(distances: NDArray[np.unsignedinteger[Any]], k: int) -> NDArray[np.intp]:
    """Columns of the k smallest values of each row, in the order of a stable sort.

    Every search and ranking of the package selects and orders neighbours in
    this way: by distance, and by position at equal distances.

    Parameters
    ----------
    distances : ndarray of shape (n_rows, n_columns), unsigned integers
        Such as a block of :func:`hamming_blocks`.
    k : int
        At least 1; all columns if there are fewer.

    Returns
    -------
    ndarray of shape (n_rows, min(k, n_columns)), intp
    """
    n_columns = distances.shape[1]
    if 4 * k >= n_columns:
        # NumPy sorts short integers stably in linear time: selecting first would not be faster.
        return np.argsort(distances, axis=1, kind="stable")[:, :k]
    # The k-th smallest value of a sample is at least that of all columns. With a larger sample,
    # fewer columns remain to be sorted: about sqrt(n_columns * k) of both have the smallest total
    # cost.
    sample = distances[:, :: max(1, isqrt(n_columns // k) // 2)]
    bounds: Any
    if k < _WORTH_COUNTING:
        bounds = np.partition(sample, k - 1, axis=1)[:, k - 1]
    else:
        bounds = [np.searchsorted(np.cumsum(np.bincount(row)), k) for row in sample]
    columns = np.empty((len(distances), k), np.intp)
    for i, (row, bound) in enumerate(zip(distances, bounds, strict=True)):
        near = np.flatnonzero(row <= bound)
        columns[i] = near[np.argsort(row[near], kind="stable")[:k]]
    return columns


# From this k on, counting values finds the k-th smallest of a sample faster than partition.
_WORTH_COUNTING = 64

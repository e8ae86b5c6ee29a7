"""One file for a header and arrays of bytes, written whole or not at all.

The layout, little-endian: 8 bytes of magic, version (uint32), length of the header (uint32),
length of the file (uint64); the header in JSON (UTF-8); zeros up to a multiple of 64; the arrays;
the CRC-32 of everything before (uint32).
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._files import PathLike, open_regular, replacing

# As in PNG files: not text, and damaged by any conversion of line ends.
_MAGIC = b"\x89SKHN\r\n\n"
_VERSIONS = (1, 2, 3)
_PREFIX = struct.Struct("<8sIIQ")
_CHECKSUM = struct.Struct("<I")
_ALIGNMENT = 64


def write_bytes(
    path: PathLike, header: dict[str, Any], arrays: Iterable[NDArray[Any]], *, version: int
) -> int:
    """Write a header that JSON can hold and the bytes of arrays; return the checksum."""
    text = json.dumps(header).encode()
    start = -(-(_PREFIX.size + len(text)) // _ALIGNMENT) * _ALIGNMENT
    payloads = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
    total = start + sum(payload.nbytes for payload in payloads) + _CHECKSUM.size
    head = (_PREFIX.pack(_MAGIC, version, len(text), total) + text).ljust(start, b"\0")
    checksum = zlib.crc32(head)
    with replacing(path) as file:
        file.write(head)
        for payload in payloads:
            file.write(payload.data)
            checksum = zlib.crc32(payload.data, checksum)
        file.write(_CHECKSUM.pack(checksum))
    return checksum


def read_bytes(
    path: PathLike, *, mmap_mode: Literal["r"] | None = None, checksum: int | None = None
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Read a file of :func:`write_bytes`; the arrays are returned as one flat array.

    The whole file is read once to check it, even if the arrays are then memory-mapped. A complete
    file with another checksum than the given one is refused too.

    Raises
    ------
    ValueError
        If the file is of another kind, truncated or corrupt; the message begins with its path.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(_PREFIX.size)
        if prefix[:8] != _MAGIC[: len(prefix)]:
            raise ValueError(
                f"{path} is not a file of HammingNeighbors: it begins with other bytes."
            )
        if len(prefix) < _PREFIX.size:
            raise ValueError(f"{path} is truncated: it has only {size} bytes.")
        _, version, n_text, total = _PREFIX.unpack(prefix)
        if version not in _VERSIONS:
            raise ValueError(
                f"{path} has version {version} of the format, but this release reads up to version "
                f"{max(_VERSIONS)}: load it with the release that wrote it, or fit and save again."
            )
        if size != total:
            what = "truncated" if size < total else "corrupt"
            raise ValueError(f"{path} is {what}: it has {size} bytes where {total} were written.")
        corrupt = ValueError(f"{path} is corrupt: its contents do not match its checksum.")
        start = -(-(_PREFIX.size + n_text) // _ALIGNMENT) * _ALIGNMENT
        n_payload = total - start - _CHECKSUM.size
        if n_payload < 0:
            raise corrupt
        head = prefix + file.read(start - _PREFIX.size)
        payload: NDArray[np.uint8]
        if mmap_mode is not None and n_payload:
            payload = np.memmap(path, np.uint8, mmap_mode, offset=start, shape=(n_payload,))
            file.seek(start + n_payload)
        else:
            payload = np.fromfile(file, np.uint8, n_payload)
        found = zlib.crc32(payload.data, zlib.crc32(head))
        if file.read() != _CHECKSUM.pack(found):
            raise corrupt
        if checksum not in (None, found):
            raise ValueError(f"{path} is not the file that was saved there.")
    try:
        header = json.loads(
            head[_PREFIX.size : _PREFIX.size + n_text], object_pairs_hook=_without_repetition
        )
        if not isinstance(header, dict):
            raise ValueError("it is not a JSON object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} has an invalid header: {error}") from error
    return header, payload


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dictionary; each key must occur only once."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key occurs twice")
    return content

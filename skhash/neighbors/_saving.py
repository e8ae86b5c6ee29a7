"""The contents of a MemoryStore in one file, or in a folder to which only changes are written.

The file holds the codes, then the keys unless they are consecutive, then the ids unless they are
the keys, then the clusters of an "ivf" search if there are any. The folder holds such files, its
parts, in the order of the database, and an index file that names them and has the clusters. The
index file is replaced last: until then the contents of the folder do not change. Codes that were
removed after a part was written stay in it; the index file marks them.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._files import PathLike, folder_lock
from ._backends import Clusters
from ._files import read_bytes, write_bytes
from ._ids import Ids, is_ascending
from ._memory import MemoryStore, View

__all__ = ["add_to_folder", "read_index", "write_index"]

_INDEX = "index.skhn"
_PART = re.compile(r"[0-9a-f]{16}\.part\.skhn")
# New codes are merged with the part before them if they are more than this share of it.
_SHARE_NEW = 0.5
# A part is written again if fewer than this share of its codes are left.
_SHARE_LEFT = 0.5


@dataclass(frozen=True)
class Part:
    """A file of a folder."""

    name: str
    checksum: int
    keys: range | NDArray[np.int64]

    def alive_in(self, view: View) -> NDArray[np.bool_]:
        """Which of its codes are in a view."""
        keys = self.keys
        return (
            view.places(np.arange(keys[0], keys[-1] + 1) if isinstance(keys, range) else keys) >= 0
        )


@dataclass(frozen=True)
class Saved:
    """The folder that a store was last saved to or loaded from."""

    token: str
    parts: tuple[Part, ...]


def write_index(path: PathLike, header: dict[str, Any], store: MemoryStore) -> None:
    """Write a header and the contents of a store to one file."""
    contents, view = store._contents()
    about, arrays = _rows(view, 0, len(view))
    header = {**header, "n_bits": contents["n_bits"], "n_samples": len(view)}
    plain = about == {"first_key": 0, "ids": None} and contents["next_id"] == len(view) > 0
    if plain and view.clusters is None:
        write_bytes(path, header, arrays, version=1)  # and its header describes them
        return
    numbers = {name: contents[name] for name in ("next_key", "next_id")}
    _write(path, {**header, **about, **numbers}, arrays, view)


def read_index(
    path: PathLike, *, mmap_mode: Literal["r"] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a file or folder of this module: a header, and arguments of MemoryStore._fill.

    Raises
    ------
    ValueError
        If a file is of another kind, damaged, missing or invalid; the message begins with its path.
    """
    if os.path.isdir(path):
        return _read_folder(Path(path), mmap_mode)
    header, payload = read_bytes(path, mmap_mode=mmap_mode)
    with _sense(path):
        payload, clusters = _split(header, payload)
        codes, keys, ids = _rows_of(header, payload)
        if not len(codes) and "next_key" not in header:
            raise ValueError("n_samples must be a whole number of at least 1.")
        return header, _contents(header, [codes], keys, ids, clusters)


def add_to_folder(folder: PathLike, header: dict[str, Any], store: MemoryStore) -> None:
    """Update a folder: write only the codes of a store that it lacks.

    If the folder does not hold the codes that the store last saved there, it is written again.
    Files of other names are not changed.

    Raises
    ------
    ValueError
        If the index file is damaged.
    RuntimeError
        If another process saves to the folder.
    """
    with folder_lock(folder) as folder:
        contents, view = store._contents()
        parts, alive = [], []
        for step in _plan(view, _known(folder, store._saved)):
            if isinstance(step, Part):
                part = step
                alive.append(part.alive_in(view))
            else:
                start, stop = step
                about, arrays = _rows(view, start, stop)
                about |= {"n_bits": contents["n_bits"], "n_samples": stop - start}
                name = f"{secrets.token_hex(8)}.part.skhn"
                checksum = write_bytes(folder / name, about, arrays, version=2)
                part = Part(name, checksum, _short(view.keys[start:stop]))
                alive.append(np.ones(stop - start, bool))
            parts.append(part)
        left = np.concatenate([np.empty(0, bool), *alive])
        saved = Saved(secrets.token_hex(16), tuple(parts))
        header = {
            **header,
            **contents,
            "n_stored": len(left),
            "parts": [{"name": part.name, "checksum": part.checksum} for part in parts],
            "token": saved.token,
        }
        removed = [] if left.all() else [np.packbits(~left)]
        _write(folder / _INDEX, header, removed, view)
        store._saved = saved
        names = {part.name for part in parts}
        for path in folder.iterdir():
            if _PART.fullmatch(path.name) and path.name not in names:
                with suppress(OSError):  # Windows cannot remove a file that is mapped
                    path.unlink()


def _write(path: PathLike, header: dict[str, Any], arrays: list[NDArray[Any]], view: View) -> None:
    """Write a header and arrays, and after them the clusters of a view, if there are any."""
    clusters = view.clusters
    if clusters is None:
        write_bytes(path, header, arrays, version=2)
        return
    centers, numbers, n_learned = clusters
    about = {"n_clusters": len(centers), "n_samples": len(numbers), "n_learned": n_learned}
    arrays = [*arrays, centers, numbers.astype("<u2", copy=False)]
    write_bytes(path, {**header, "clusters": about}, arrays, version=3)


def _split(
    header: dict[str, Any], payload: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], Clusters | None]:
    """What was written before the clusters, and the clusters; the inverse of :func:`_write`."""
    if "clusters" not in header:
        return payload, None
    names = "n_clusters", "n_samples", "n_learned"
    n_clusters, n, n_learned = (_whole(header["clusters"], name) for name in names)
    n_bytes = -(-_whole(header, "n_bits") // 8)
    start = len(payload) - 2 * n
    first = start - n_clusters * n_bytes
    if first < 0:
        raise ValueError(f"{len(payload)} bytes do not hold its clusters.")
    numbers = payload[start:].copy().view("<u2").astype(np.uint16, copy=False)
    centers = payload[first:start].reshape(n_clusters, n_bytes).copy()
    return payload[:first], Clusters(centers, numbers, n_learned)


def _known(folder: Path, saved: Saved | None) -> tuple[Part, ...]:
    """Parts of a folder that hold codes of the store."""
    if saved is None or not (folder / _INDEX).exists():
        return ()
    header, _ = read_bytes(folder / _INDEX)
    return saved.parts if header.get("token") == saved.token else ()


def _plan(view: View, known: tuple[Part, ...]) -> list[Part | tuple[int, int]]:
    """Which parts to keep and which rows to write, in the order of the database."""
    steps: list[Part | tuple[int, int]] = []
    stop, keys = 0, view.keys
    for part in known:
        start, stop = np.searchsorted(keys, [part.keys[0], part.keys[-1] + 1]).tolist()
        if stop - start >= _SHARE_LEFT * len(part.keys):
            steps.append(part)
        elif stop > start:
            steps.append((start, stop))
    start, stop = stop, len(view)
    while steps and start < stop:
        last = steps[-1]
        if isinstance(last, Part) and stop - start <= _SHARE_NEW * len(last.keys):
            break
        first = last[0] if isinstance(last, tuple) else np.searchsorted(keys, last.keys[0])
        start = int(first)
        steps.pop()
    return [*steps, (start, stop)] if start < stop else steps


def _rows(view: View, start: int, stop: int) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Some codes with their keys and ids: their entries of a header, and their arrays."""
    keys = view.keys[start:stop]
    arrays: list[NDArray[Any]] = view.slices(start, stop)
    about: dict[str, Any] = {"first_key": int(keys[0]) if len(keys) else 0, "ids": None}
    if len(keys) and keys[-1] - keys[0] != len(keys) - 1:
        about["first_key"] = None
        arrays.append(keys.astype("<i8"))
    if view.given_ids is not None:
        ids = view.given_ids[start:stop]
        about["ids"] = "str" if ids.dtype == object else "int"
        if about["ids"] == "int":
            arrays.append(ids.astype("<i8"))
        else:
            text = "".join(ids.tolist()).encode("utf-8", "surrogatepass")
            lengths = np.fromiter(map(len, ids.tolist()), "<i8", len(ids))
            arrays += [lengths, np.frombuffer(text, np.uint8)]
    return about, arrays


def _rows_of(
    header: dict[str, Any], payload: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], Ids | None]:
    """Codes, keys and ids from the results of :func:`_rows`, with all checks."""
    n, n_bits = (_whole(header, name) for name in ("n_samples", "n_bits"))
    n_bytes = -(-n_bits // 8)
    first, kind = header.get("first_key", 0), header.get("ids")
    size = n * (n_bytes + 8 * (first is None) + 8 * (kind is not None))
    if n_bits < 1 or (len(payload) < size if kind == "str" else len(payload) != size):
        raise ValueError(f"{len(payload)} bytes do not hold so many codes of so many bits.")
    codes, rest = payload[: n * n_bytes].reshape(n, n_bytes), payload[n * n_bytes :]
    if first is None:
        keys, rest = _numbers(rest[: 8 * n]), rest[8 * n :]
        if not is_ascending(keys) or keys[:1] < 0:
            raise ValueError("the keys of codes do not ascend.")
    else:
        first = _whole(header, "first_key") if "first_key" in header else 0
        if first + n >= 2**63:
            raise ValueError("first_key is too large.")
        keys = np.arange(first, first + n)
    if kind is None:
        return codes, keys, None
    if kind == "int":
        return codes, keys, _numbers(rest)
    if kind != "str":
        raise ValueError(f"ids are {kind!r}.")
    lengths = _numbers(rest[: 8 * n])
    text = rest[8 * n :].tobytes().decode("utf-8", "surrogatepass")
    ends = np.cumsum([0, *lengths.tolist()]).tolist()
    if (lengths < 0).any() or ends[-1] != len(text):
        raise ValueError("the lengths of ids do not add up.")
    ids = np.empty(n, dtype=object)
    ids[:] = [text[start:stop] for start, stop in pairwise(ends)]
    return codes, keys, ids


def _contents(
    header: dict[str, Any],
    arrays: list[NDArray[np.uint8]],
    keys: NDArray[np.int64],
    ids: Ids | None,
    clusters: Clusters | None,
) -> dict[str, Any]:
    n = len(keys)
    if clusters is not None:
        clusters.check(n, -(-header["n_bits"] // 8))
    next_key = _whole(header, "next_key") if "next_key" in header else n
    next_id = _whole(header, "next_id") if "next_id" in header else n
    if ids is not None and len(set(ids.tolist())) < n:
        raise ValueError("an id occurs twice.")
    if not is_ascending(keys) or (n and next_key <= keys[-1]):
        raise ValueError("the keys of codes do not ascend.")
    numbers = keys if ids is None else ids
    if n and numbers.dtype != object and next_id <= numbers.max():
        raise ValueError("the next id is already in use.")
    return {
        "arrays": arrays,
        "n_bits": header["n_bits"],
        "keys": None if n and keys[-1] == n - 1 else keys,
        "ids": ids if n else None,
        "next_key": next_key,
        "next_id": next_id,
        "clusters": clusters,
    }


def _read_folder(
    folder: Path, mmap_mode: Literal["r"] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    path = folder / _INDEX
    header, removed = read_bytes(path)
    with _sense(path):
        removed, clusters = _split(header, removed)
        for name in ("n_bits", "n_stored", "next_key", "next_id"):
            _whole(header, name)
        named = [(str(part["name"]), part["checksum"]) for part in header["parts"]]
        if not all(_PART.fullmatch(name) for name, _ in named):
            raise ValueError("it names files that are not parts of an index.")
    parts, arrays, keys_of, ids = [], [], [], []
    for name, checksum in named:
        try:
            about, payload = read_bytes(folder / name, mmap_mode=mmap_mode, checksum=checksum)
        except FileNotFoundError as error:
            if read_bytes(path)[0].get("token") != header["token"]:  # saved again in the meantime
                return _read_folder(folder, mmap_mode)
            raise ValueError(f"{folder / name}, which {path} names, is missing.") from error
        with _sense(folder / name):
            if about["n_bits"] != header["n_bits"]:
                raise ValueError("the length of its codes differs from that of other parts.")
            codes, keys, own = _rows_of(about, payload)
            if not len(codes):
                raise ValueError("it has no codes.")
        arrays.append(codes)
        keys_of.append(keys)
        ids.append(own)
        parts.append(Part(name, checksum, _short(keys)))
    with _sense(path):
        keys = np.concatenate([np.empty(0, np.int64), *keys_of])
        if len(keys) != header["n_stored"] or len(removed) not in (0, -(-len(keys) // 8)):
            raise ValueError("its parts have more or fewer codes than it says.")
        alive = np.ones(len(keys), bool)
        if len(removed):
            alive = np.unpackbits(removed, count=len(keys)) == 0
        for i, place in enumerate(np.cumsum([0, *map(len, arrays)])[:-1].tolist()):
            kept = alive[place : place + len(arrays[i])]
            if not kept.all():
                arrays[i] = arrays[i][kept]
        arrays = [array for array in arrays if len(array)]
        if mmap_mode is None or not arrays:
            n_bytes = -(-header["n_bits"] // 8)
            arrays = [np.concatenate([np.empty((0, n_bytes), np.uint8), *arrays])]
        names = None
        if any(own is not None for own in ids):
            pairs = zip(ids, keys_of, strict=True)
            names = np.concatenate([k if own is None else own for own, k in pairs])[alive]
        contents = _contents(header, arrays, keys[alive], names, clusters)
    return header, {**contents, "saved": Saved(str(header["token"]), tuple(parts))}


@contextmanager
def _sense(path: PathLike) -> Iterator[None]:
    """Add the path of the file to errors about its contents."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} has an invalid header: {error}") from error


def _whole(header: dict[str, Any], name: str) -> int:
    value = header[name]
    if type(value) is not int or not 0 <= value <= 2**63:
        raise ValueError(f"{name} must be a whole number of at least 0.")
    return value


def _numbers(payload: NDArray[np.uint8]) -> NDArray[np.int64]:
    return payload.copy().view("<i8").astype(np.int64, copy=False)


def _short(keys: NDArray[np.int64]) -> range | NDArray[np.int64]:
    """Keys as a range if they are consecutive: it needs no memory."""
    follow = keys[-1] - keys[0] == len(keys) - 1
    return range(int(keys[0]), int(keys[-1]) + 1) if follow else keys

"""Feature rows on disk, stored by the content from which they were computed."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._files import PathLike, content_digest, file_digest, read_checked, write_checked

__all__ = ["FeatureCache", "FileDigests", "open_cache"]

# Largest step of file clocks: a file that changes twice within a step may keep its time.
_CLOCK_STEP = 2 * 10**9


class _KeyedFiles:
    """A folder of ``.npz`` files, each with some keys and their values.

    A file is written once and completely. So an interrupted run keeps its
    finished files, and several processes may share a folder. An object can be
    used by several threads.

    Parameters
    ----------
    folder : path
        Created if missing.

    Raises
    ------
    ValueError
        If a file of the folder is damaged or not of this kind; the message
        names it.
    """

    _dtypes: ClassVar[dict[str, Any]]

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        self._files: dict[Path, tuple[int, ...]] = {}
        self._index: dict[bytes, Any] = {}
        self._lock = Lock()
        self.refresh()

    def refresh(self) -> None:
        """Read the keys of new or changed files, and remove the keys of deleted files.

        A file is checked completely when its rows are read.
        """
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            present = {}
            for file in sorted(self.folder.glob("*.npz")):
                with suppress(FileNotFoundError):  # deleted by another process just now
                    present[file] = _stamp(os.stat(file))
            same = self._files.items() <= present.items()
            index, files = (dict(self._index), dict(self._files)) if same else ({}, {})
            for file in present:
                if file not in files:
                    index.update(self._read_index(file))
            self._index, self._files = index, present

    def _read_index(self, file: Path) -> dict[bytes, Any]:
        raise NotImplementedError

    def _add(self, keys: Sequence[bytes], arrays: dict[str, Any]) -> Path:
        """Write a file; the caller then enters its keys into the index."""
        file = self.folder / f"{secrets.token_hex(8)}.npz"
        arrays["keys"] = np.array([list(key) for key in keys], np.uint8)
        write_checked(file, lambda stream: np.savez(stream, **arrays))
        return file

    def _enter(self, file: Path, entries: dict[bytes, Any]) -> None:
        with self._lock:
            self._index.update(entries)
            self._files[file] = _stamp(os.stat(file))

    def _read(self, file: Path, source: Any, *members: str) -> list[NDArray[Any]]:
        try:
            with np.load(source, allow_pickle=False) as stored:
                arrays = [stored[member] for member in members]
        except Exception as error:  # a file that is not a zip file can raise almost anything
            raise _refusal(file, f"is damaged ({error})") from error
        for member, array in zip(members, arrays, strict=True):
            if array.ndim != 2 or array.dtype != self._dtypes[member]:
                raise _refusal(file, f"has {member} of {array.dtype} of shape {array.shape}")
        return arrays

    def _content(self, file: Path, *members: str) -> list[NDArray[Any]]:
        """Arrays of a file, which is checked completely."""
        try:
            content = read_checked(file)
        except (OSError, ValueError) as error:
            raise _refusal(file, f"is damaged ({error})") from error
        return self._read(file, content, *members)


class FeatureCache(_KeyedFiles):
    """Rows of features by the digest of their image.

    Only new images need to be computed; a renamed image does not.

    Parameters
    ----------
    folder : path
        Created if missing. Its name identifies the network of the features;
        files of another network raise an error.

    Raises
    ------
    ValueError
        If a file of the folder is damaged or not of this cache; the message
        names it.
    """

    _dtypes: ClassVar = {"keys": np.uint8, "rows": np.float32, "network": np.uint8}

    def __contains__(self, key: bytes) -> bool:
        return key in self._index

    def get(
        self, keys: Sequence[bytes], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32] | None:
        """Rows of the keys, zero if not stored; None if no key is stored.

        With ``out``, the rows are written into it; its rows of other keys do not change.
        """
        index = self._index
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for i, key in enumerate(keys):
            if key in index:
                file, row = index[key]
                wanted.setdefault(file, []).append((i, row))
        source = "the network has"
        for file, pairs in wanted.items():
            to, of = np.array(pairs).T
            rows = self._read_rows(file)
            if out is None:
                out, source = np.zeros((len(keys), rows.shape[1]), np.float32), f"{file.name} has"
            if rows.shape[1] != out.shape[1]:
                widths = f"{rows.shape[1]} features, but {source} {out.shape[1]}"
                raise _refusal(file, f"has rows of {widths}")
            out[to] = rows[of]
        return out

    def put(self, keys: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        """Store rows of shape (n_keys, n_features) under their keys, if they are finite."""
        stored = np.flatnonzero(np.isfinite(rows).all(axis=1)).tolist()
        if stored:
            some = [keys[i] for i in stored]
            file = self._add(some, {"rows": rows[stored], "network": self._network()})
            self._enter(file, {key: (file, row) for row, key in enumerate(some)})

    def _network(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.folder.name.encode(), np.uint8)[None]

    def _read_index(self, file: Path) -> dict[bytes, Any]:
        (keys,) = self._read(file, file, "keys")
        return {key.tobytes(): (file, i) for i, key in enumerate(keys)}

    def _read_rows(self, file: Path) -> NDArray[np.float32]:
        keys, rows, network = self._content(file, "keys", "rows", "network")
        if not np.array_equal(network, self._network()):
            raise _refusal(file, "has features of another network")
        if len(keys) != len(rows):
            raise _refusal(file, f"has {len(keys)} keys for {len(rows)} rows")
        if not np.isfinite(rows).all():
            raise _refusal(file, "has rows with NaN or infinite values")
        return rows


class FileDigests(_KeyedFiles):
    """Digests of files, stored by path, size and times, so that files are read once.

    Parameters
    ----------
    folder : path
        Created if missing.

    Raises
    ------
    ValueError
        If a file of the folder is damaged or not of this kind; the message
        names it.
    """

    _dtypes: ClassVar = {"keys": np.uint8, "digests": np.uint8}

    def __init__(self, folder: PathLike) -> None:
        self._new: dict[bytes, bytes] = {}
        super().__init__(folder)

    def __call__(self, path: PathLike) -> bytes:
        """Digest of the bytes of a file, see :func:`skhash._files.file_digest`."""
        stamp = _stamp(os.stat(path))
        name = f"{stamp} {os.path.abspath(path)}".encode(errors="surrogatepass")
        key = content_digest(name)
        digest = self._index.get(key)
        if digest is None:
            digest = file_digest(path)
            if max(stamp[1:]) < time.time_ns() - _CLOCK_STEP and _stamp(os.stat(path)) == stamp:
                self._new[key] = self._index[key] = digest
        return digest

    def save(self) -> None:
        """Write new digests to the disk."""
        if self._new:
            new, self._new = self._new, {}
            digests = np.array([list(digest) for digest in new.values()], np.uint8)
            self._enter(self._add(list(new), {"digests": digests}), new)

    def _read_index(self, file: Path) -> dict[bytes, Any]:
        keys, digests = self._content(file, "keys", "digests")
        if len(keys) != len(digests):
            raise _refusal(file, f"has {len(keys)} keys for {len(digests)} digests")
        return {k.tobytes(): d.tobytes() for k, d in zip(keys, digests, strict=True)}


@lru_cache(maxsize=8)
def _opened(kind: type[_KeyedFiles], folder: str) -> _KeyedFiles:
    return kind(folder)


def open_cache(folder: PathLike, network: str) -> tuple[FeatureCache, FileDigests]:
    """Open the cache of a network in a folder; a process reads the index of a file once.

    Parameters
    ----------
    folder : path
        The parameter ``cache``.
    network : str
        Digest that identifies the network.

    Returns
    -------
    features : FeatureCache
        Features of the network.
    digests : FileDigests
        Digests of image files, for all networks.
    """
    root = os.path.abspath(folder)
    found: list[Any] = []
    for kind, name in ((FeatureCache, network), (FileDigests, "digests")):
        files = _opened(kind, os.path.join(root, name))
        files.refresh()
        found.append(files)
    return found[0], found[1]


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """Size and times of a file; the result differs after the file has changed."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _refusal(file: Path, fault: str) -> ValueError:
    return ValueError(f"cache file {str(file)!r} {fault}; delete it, or the whole folder.")

"""Feature rows kept on disk under the content they were computed from."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._files import read_checked, write_checked

__all__ = ["FeatureCache"]

_DTYPES = {"keys": np.uint8, "rows": np.float32, "network": np.uint8}


class FeatureCache:
    """Rows of features by the digest of the image they belong to.

    A folder of ``.npz`` files, each with some keys and their rows, written once
    and whole, and checked when read. So an interrupted run keeps what it had
    finished, a new image costs only itself, a renamed one nothing, and two
    processes may share a folder.

    Parameters
    ----------
    folder : path
        Made if missing. Its name tells the network whose features it holds;
        files of another one are refused.

    Raises
    ------
    ValueError
        If a file of the folder is damaged or not of this cache; the message
        names it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._place: dict[bytes, tuple[Path, int]] = {}
        for file in sorted(self.folder.glob("*.npz")):
            # Files are checked as a whole when rows of them are asked for.
            (keys,) = self._read(file, file, "keys")
            self._place.update((key.tobytes(), (file, i)) for i, key in enumerate(keys))

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Positions of the keys that are not stored."""
        return [i for i, key in enumerate(keys) if key not in self._place]

    def get(self, keys: Sequence[bytes]) -> NDArray[np.float32] | None:
        """Rows of the keys, zero where none is stored; None if none of all is."""
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for i, key in enumerate(keys):
            if key in self._place:
                file, row = self._place[key]
                wanted.setdefault(file, []).append((i, row))
        found: NDArray[np.float32] | None = None
        for file, pairs in wanted.items():
            to, of = np.array(pairs).T
            rows = self._read_rows(file)
            if found is None:
                found, first = np.zeros((len(keys), rows.shape[1]), np.float32), file
            if rows.shape[1] != found.shape[1]:
                widths = f"{rows.shape[1]} features where {first.name} has {found.shape[1]}"
                raise _refusal(file, f"has rows of {widths}")
            found[to] = rows[of]
        return found

    def put(self, keys: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        """Store rows of shape (n_keys, n_features) under their keys, if they are finite."""
        stored = np.flatnonzero(np.isfinite(rows).all(axis=1)).tolist()
        if not stored:
            return
        file = self.folder / f"{secrets.token_hex(8)}.npz"
        digests = np.array([list(keys[i]) for i in stored], np.uint8)
        arrays: dict[str, Any] = {"keys": digests, "rows": rows[stored], "network": self._network()}
        write_checked(file, lambda stream: np.savez(stream, **arrays))
        self._place.update((keys[i], (file, row)) for row, i in enumerate(stored))

    def _network(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.folder.name.encode(), np.uint8)[None]

    def _read_rows(self, file: Path) -> NDArray[np.float32]:
        try:
            content = read_checked(file)
        except (OSError, ValueError) as error:
            raise _refusal(file, f"is damaged ({error})") from error
        keys, rows, network = self._read(file, content, "keys", "rows", "network")
        if not np.array_equal(network, self._network()):
            raise _refusal(file, "has features of another network")
        if len(keys) != len(rows):
            raise _refusal(file, f"has {len(keys)} keys for {len(rows)} rows")
        if not np.isfinite(rows).all():
            raise _refusal(file, "has rows with NaN or infinite values")
        return rows

    @staticmethod
    def _read(file: Path, source: Any, *members: str) -> list[NDArray[Any]]:
        try:
            with np.load(source, allow_pickle=False) as stored:
                arrays = [stored[member] for member in members]
        except Exception as error:  # what is no zip file can raise nearly anything
            raise _refusal(file, f"is damaged ({error})") from error
        for member, array in zip(members, arrays, strict=True):
            if array.ndim != 2 or array.dtype != _DTYPES[member]:
                raise _refusal(file, f"has {member} of {array.dtype} of shape {array.shape}")
        return arrays


def _refusal(file: Path, fault: str) -> ValueError:
    return ValueError(f"cache file {str(file)!r} {fault}; delete it, or the whole folder.")

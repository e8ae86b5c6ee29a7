"""Feature rows kept on disk under the content they were computed from."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FeatureCache"]


class FeatureCache:
    """Rows of features by the digest of the image they belong to.

    A folder of ``.npz`` files, each with some keys and their rows, written once
    and whole. So an interrupted run keeps what it had finished, a new image
    costs only itself, a renamed one nothing, and two processes may share a
    folder.

    Parameters
    ----------
    folder : path
        Made if missing. One folder holds rows of one length.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._place: dict[bytes, tuple[Path, int]] = {}
        for file in sorted(self.folder.glob("*.npz")):
            for i, key in enumerate(self._read(file, "keys")):
                self._place[key.tobytes()] = (file, i)

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
            rows = self._read(file, "rows")
            if found is None:
                found = np.zeros((len(keys), rows.shape[1]), np.float32)
            found[to] = rows[of]
        return found

    def put(self, keys: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        """Store rows of shape (n_keys, n_features) under their keys."""
        file = self.folder / f"{secrets.token_hex(8)}.npz"
        partial = file.with_suffix(".partial")
        try:
            with open(partial, "wb") as stream:
                np.savez(stream, keys=np.array([list(key) for key in keys], np.uint8), rows=rows)
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
        self._place.update((key, (file, i)) for i, key in enumerate(keys))

    @staticmethod
    def _read(file: Path, member: str) -> NDArray[Any]:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return arrays[member]
        except Exception as error:  # a damaged zip file can raise nearly anything
            raise ValueError(
                f"cache file {str(file)!r} is damaged ({error}); delete it."
            ) from error

"""The folder of codes: a Parquet file per shard, and a manifest.

A shard is finished when its file exists. The file identifies its photos. Unfinished shards leave no
files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._files import PathLike, open_regular, replacing
from ..neighbors._ids import Ids

__all__ = [
    "Manifest",
    "Shard",
    "ShardInfo",
    "check_pyarrow",
    "iter_codes",
    "read_codes",
    "read_info",
    "shard_numbers",
    "shard_path",
    "write_shard",
]

_FORMAT = 1
_MANIFEST = "encoding.json"
_SHARD = re.compile(r"shard-(\d{5,})\.parquet")
_INFO = b"skhash"


@dataclass(frozen=True)
class Shard:
    """Photos that are encoded together.

    Attributes
    ----------
    number : int
        Number of the shard, from 0.
    hasher : str
        Digest of the hasher.
    photos : list of str
        Their files.
    ids : ndarray of int64 or of str (dtype object)
        Their ids.
    """

    number: int
    hasher: str
    photos: list[str]
    ids: Ids

    def digest(self) -> str:
        """A digest that identifies these photos and ids."""
        return hashlib.sha256(json.dumps([self.photos, self.ids.tolist()]).encode()).hexdigest()


@dataclass(frozen=True)
class ShardInfo:
    """The data about a finished shard in its file."""

    number: int
    hasher: str
    photos: str
    n_photos: int
    n_unreadable: int
    content: str  # the footer of a Parquet file has no checksum


@dataclass(frozen=True)
class Manifest:
    """The data that all shards of a folder share.

    Attributes
    ----------
    hasher : str
        Digest of the hasher.
    n_bits : int
        Length of the codes.
    shard_size : int
        Photos in a shard.
    n_shards : int or None
        Number of shards, when all are finished.
    """

    hasher: str
    n_bits: int
    shard_size: int
    n_shards: int | None = None
    format: int = _FORMAT

    @staticmethod
    def read(folder: Path) -> Manifest | None:
        """Read the manifest of a folder; None if there is none.

        Raises
        ------
        ValueError
            If it is invalid.
        """
        path = folder / _MANIFEST
        try:
            with open_regular(path) as file:
                manifest = Manifest(**json.load(file))
            if manifest.format == _FORMAT:
                return manifest
            cause = f"its format is {manifest.format}"
        except FileNotFoundError:
            return None
        except (TypeError, ValueError) as error:
            cause = str(error)
        raise ValueError(
            f"{path} is damaged, or of a newer release ({cause}): choose another folder, or empty "
            "this one."
        )

    def write(self, folder: Path) -> None:
        """Write the manifest to a folder."""
        with replacing(folder / _MANIFEST) as file:
            file.write(json.dumps(vars(self)).encode())


def check_pyarrow() -> None:
    """Check that Parquet files can be written and read.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Codes in Parquet files need pyarrow: `pip install "scikit-hash[parquet]"`.'
        ) from error


def shard_numbers(folder: Path) -> list[int]:
    """Numbers of the shards that are finished, in order."""
    found = (_SHARD.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(name[1]) for name in found if name)


def write_shard(
    folder: Path, shard: Shard, codes: NDArray[np.uint8], unreadable: dict[int, str]
) -> ShardInfo:
    """Write the codes of a shard, and the reasons for photos without a code.

    Parameters
    ----------
    folder : path
        Where to write.
    shard : Shard
        Its photos.
    codes : ndarray of shape (n_readable, n_bytes), uint8
        Packed codes of the photos that can be read.
    unreadable : dict of int to str
        Positions of the other photos, and the reasons.

    Returns
    -------
    ShardInfo
        The data about the shard.
    """
    import pyarrow as pa

    kind = pa.string() if shard.ids.dtype == object else pa.int64()
    side = folder / f"unreadable-{shard.number:05}.parquet"
    if unreadable:
        ids = pa.array(shard.ids[list(unreadable)], kind)
        _write(side, pa.table({"id": ids, "reason": list(unreadable.values())}))
    else:  # from an earlier try, when fewer could be read
        side.unlink(missing_ok=True)
    readable = np.delete(shard.ids, list(unreadable))
    n_bytes = codes.shape[1]
    packed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(n_bytes), len(codes), [None, pa.py_buffer(np.ascontiguousarray(codes))]
    )
    n_photos = len(shard.photos)
    content = _digest(readable, codes)
    info = ShardInfo(shard.number, shard.hasher, shard.digest(), n_photos, len(unreadable), content)
    about = {_INFO: json.dumps(vars(info))}
    table = pa.table({"id": pa.array(readable, kind), "code": packed})
    # Last: the shard is finished.
    _write(shard_path(folder, shard.number), table.replace_schema_metadata(about))
    return info


def _digest(ids: Ids, codes: NDArray[np.uint8]) -> str:
    """A digest of the contents of a file of codes."""
    digest = hashlib.sha256(json.dumps(ids.tolist()).encode())
    digest.update(np.ascontiguousarray(codes).data)
    return digest.hexdigest()


def _write(path: Path, table: Any) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    content = pa.BufferOutputStream()
    parquet.write_table(
        table, content, compression="zstd", use_dictionary=False, write_page_checksum=True
    )
    with replacing(path) as file:
        file.write(content.getvalue())


def iter_codes(out: PathLike) -> Iterator[tuple[Ids, NDArray[np.uint8]]]:
    """Read the codes of :func:`skhash.encode`, one shard at a time.

    Parameters
    ----------
    out : path
        The folder.

    Yields
    ------
    ids : ndarray of shape (n,), int64 or object with str
        Ids of the photos that could be read, in the order of the photos.
    codes : ndarray of shape (n, n_bytes), uint8
        Their packed codes.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    ValueError
        If the folder is not from :func:`skhash.encode` or is not finished, or
        if a file is missing or damaged.
    """
    check_pyarrow()
    folder = Path(out)
    manifest, n_shards = _finished(folder)
    return (_read(folder, number, manifest.hasher) for number in range(n_shards))


def read_codes(out: PathLike) -> tuple[Ids, NDArray[np.uint8]]:
    """Read all codes of :func:`skhash.encode`.

    Parameters
    ----------
    out : path
        The folder.

    Returns
    -------
    ids : ndarray of shape (n,), int64 or object with str
        Ids of all photos that could be read, in the order of the photos.
    codes : ndarray of shape (n, n_bytes), uint8
        Their packed codes, for ``HammingNeighbors(packed=True)``.

    Raises
    ------
    ImportError, ValueError
        See :func:`iter_codes`.

    See Also
    --------
    iter_codes : The same, one shard at a time.
    """
    ids, codes = zip(*iter_codes(out), strict=True)
    return np.concatenate(ids), np.concatenate(codes)


def _finished(folder: Path) -> tuple[Manifest, int]:
    """The manifest of a finished folder, and its number of shards."""
    manifest = Manifest.read(folder)
    if manifest is None:
        raise ValueError(f"{str(folder)!r} is no folder of skhash.encode: it has no {_MANIFEST}.")
    numbers = shard_numbers(folder)
    # More shards are those of a later call with more photos, which was interrupted.
    if manifest.n_shards is None or numbers[manifest.n_shards :]:
        raise ValueError(
            f"{str(folder)!r} is not finished, it has {len(numbers)} shard(s): call skhash.encode "
            "again to continue."
        )
    missing = set(range(manifest.n_shards)).difference(numbers)
    if missing:
        raise ValueError(
            f"{str(folder)!r} lacks {shard_path(folder, min(missing)).name}: call skhash.encode "
            "again to make it."
        )
    return manifest, manifest.n_shards


def _read(folder: Path, number: int, hasher: str) -> tuple[Ids, NDArray[np.uint8]]:
    with _opened(folder, number, hasher) as (file, info):
        table = file.read()
        ids, packed = table["id"].to_numpy(), table["code"].combine_chunks()
        width = packed.type.byte_width
        codes = np.frombuffer(packed.buffers()[1] or b"", np.uint8, len(ids) * width)
        codes = codes.reshape(-1, width).copy()
        if _digest(ids, codes) != info.content:
            raise ValueError("its contents do not match its checksum")
        return ids, codes


def read_info(folder: Path, number: int, hasher: str) -> ShardInfo:
    """The data about a shard in its file.

    Raises
    ------
    ValueError
        If it is damaged, or the shard is another one or of another hasher.
    """
    with _opened(folder, number, hasher) as (_, info):
        return info


@contextmanager
def _opened(folder: Path, number: int, hasher: str) -> Iterator[tuple[Any, ShardInfo]]:
    """Open the file of a shard, with a clear error if it is not this shard of this hasher."""
    from pyarrow.parquet import ParquetFile

    path = shard_path(folder, number)
    try:
        with open_regular(path) as file:
            shard = ParquetFile(file, page_checksum_verification=True)
            info = ShardInfo(**json.loads(shard.schema_arrow.metadata[_INFO]))
            if (info.number, info.hasher) != (number, hasher):
                raise ValueError("it is another shard, or of another hasher")
            yield shard, info
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or not a shard of skhash.encode ({error}): delete it, and call "
            "skhash.encode again."
        ) from error


def shard_path(folder: Path, number: int) -> Path:
    """Path of the file of a shard."""
    return folder / f"shard-{number:05}.parquet"

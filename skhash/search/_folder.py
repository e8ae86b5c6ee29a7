"""A search as a folder: a save is complete, or changes nothing.

``search.json`` names a subfolder that holds everything else. A save writes a new subfolder, then
replaces ``search.json``, then removes the old subfolder. At any time ``search.json`` names a
complete subfolder.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

import skhash

from .._files import PathLike, content_digest, file_digest, folder_lock, open_regular, replacing
from ..neighbors._ids import check_ids
from ..persistence._files import array_of
from ..tags import TagMatrix
from ._input import rows_of_tags
from ._photos import Photos

__all__ = ["read_folder", "read_manifest", "write_folder"]

# Increase this if an older release would misread a folder.
_FORMAT = 1
_MANIFEST = "search.json"
_PREFIX = "data-"
# Only these entries of the folder may be removed.
_OURS = re.compile(r"data-[0-9a-f]{16}")
_MODEL = "model.skhash"
_CODES = "codes.npy"
_DIRECTIONS = "directions.npy"
_PHOTOS = "photos.jsonl"
_VOCABULARY = "vocabulary.json"
_FILES = {_MODEL, _CODES, _DIRECTIONS, _PHOTOS, _VOCABULARY}


def write_folder(
    folder: PathLike, model: Any, photos: Photos, *, backbone: str, replaces: str | None
) -> str:
    """Write a search.

    Parameters
    ----------
    folder : path
        Where to write.
    model : ImageSearch
        The search without its photos.
    photos : Photos
        Its photos.
    backbone : str
        As in :func:`skhash.save`.
    replaces : str or None
        The version that this one was made from; None replaces any.

    Returns
    -------
    str
        This version.

    Raises
    ------
    RuntimeError
        If the folder has another version than ``replaces``.
    """
    with folder_lock(folder) as folder:
        current = _remove_others(folder)
        if replaces is not None and current not in (None, replaces):
            raise RuntimeError(
                f"folder {str(folder)!r} was changed by another process since this search was "
                "loaded or saved there: load it again and repeat the change, or save to another "
                "folder."
            )
        data = folder / f"{_PREFIX}{secrets.token_hex(8)}"
        data.mkdir()
        try:
            skhash.save(model, data / _MODEL, backbone=backbone)
            _write(data / _CODES, lambda file: np.save(file, photos.codes))
            if (directions := photos.directions) is not None:
                _write(data / _DIRECTIONS, lambda file: np.save(file, directions))
            _write(data / _PHOTOS, lambda file: file.writelines(_lines(photos)))
            vocabulary = photos.tags.vocabulary.tolist()
            _write(data / _VOCABULARY, lambda file: file.write(_json_line(vocabulary)))
            about = {
                "format": _FORMAT,
                "skhash": skhash.__version__,
                "n_photos": len(photos),
                "n_bits": model.n_bits_,
                "data": data.name,
                "blake2b": {path.name: file_digest(path).hex() for path in sorted(data.iterdir())},
            }
            _write(folder / _MANIFEST, lambda file: file.write(_json_line(about)))
        finally:
            _remove_others(folder)
    return data.name


def _write(path: Path, write: Callable[[Any], object]) -> None:
    with replacing(path) as file:
        write(file)


def _json_line(value: Any) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _lines(photos: Photos) -> Iterator[bytes]:
    columns = photos.ids.tolist(), photos.paths.tolist(), rows_of_tags(photos.tags)
    for name, path, tags in zip(*columns, strict=True):
        yield _json_line({"id": name, "path": path, "tags": tags})


def _remove_others(folder: Path) -> str | None:
    """Remove what earlier saves left, and return the current version.

    The lock ensures that no other save is running.
    """
    try:
        current = read_manifest(folder)["data"]
    except FileNotFoundError:
        current = None
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name != current:
            shutil.rmtree(path, ignore_errors=True)
    return current


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read ``search.json``.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    ValueError
        If it is another file, or from a newer release.
    """
    path = folder / _MANIFEST
    with open_regular(path) as file:
        content = file.read()
    try:
        about = json.loads(content)
        form = about["format"]
        if form > _FORMAT:
            raise ValueError(
                f"it was saved by skhash {about['skhash']} in format {form}, but this skhash "
                f"{skhash.__version__} reads up to format {_FORMAT}; upgrade scikit-hash"
            )
        if not _OURS.fullmatch(about["data"]):
            raise ValueError("it does not name a subfolder")
        if type(about["blake2b"]) is not dict or type(about["n_bits"]) is not int:
            raise ValueError("it does not describe its files")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a file of ImageSearch.save: {error!s:.300}.") from error
    return about


def read_folder(
    folder: PathLike, *, modules: Any, weights: PathLike
) -> tuple[Any, dict[str, Any], str]:
    """Read a search.

    Parameters
    ----------
    folder : path
        The folder.
    modules, weights
        As in :func:`skhash.load`.

    Returns
    -------
    model : ImageSearch
        The search without its photos.
    columns : dict of str to ndarray or TagMatrix
        Columns of :class:`Photos`.
    version : str
        What ``replaces`` of :func:`write_folder` takes.

    Raises
    ------
    ValueError
        If it is damaged, of another kind, or of a newer release.
    OSError
        If files cannot be read.
    """
    folder = Path(folder)
    about = read_manifest(folder)
    while True:
        try:
            model, columns = _read_data(folder, about, modules=modules, weights=weights)
            return model, columns, about["data"]
        except FileNotFoundError:
            # Another process may have saved in the meantime, and removed the files to read.
            before, about = about, read_manifest(folder)
            if about["data"] == before["data"]:
                raise


def _read_data(
    folder: Path, about: dict[str, Any], *, modules: Any, weights: PathLike
) -> tuple[Any, dict[str, Any]]:
    data = folder / about["data"]
    files = {}
    for name in sorted(_FILES & about["blake2b"].keys()):  # no path that somebody wrote there
        digest = about["blake2b"][name]
        if name == _MODEL:
            found = file_digest(data / name)
        else:
            with open_regular(data / name) as file:
                files[name] = file.read()
            found = content_digest(files[name])
        if found.hex() != digest:
            raise ValueError(f"{data / name} is damaged: its contents do not match its checksum.")
    try:
        lines = [json.loads(line) for line in files[_PHOTOS].splitlines()]
        paths = np.empty(len(lines), object)
        paths[:] = [line["path"] for line in lines]
        codes = _array(files, _CODES)
        directions = _array(files, _DIRECTIONS) if _DIRECTIONS in files else None
        if codes.dtype != np.uint8 or codes.shape != (len(lines), -(-about["n_bits"] // 8)):
            raise ValueError(f"codes of shape {codes.shape} for {len(lines)} photos")
        shape = len(lines), about["n_bits"]
        if directions is not None and (directions.dtype, directions.shape) != (np.float16, shape):
            raise ValueError(f"directions of shape {directions.shape} for {len(lines)} photos")
        columns = {
            "ids": check_ids([line["id"] for line in lines]),
            "paths": paths,
            "tags": _tag_matrix([line["tags"] for line in lines], json.loads(files[_VOCABULARY])),
            "codes": codes,
            "directions": directions,
        }
    except Exception as error:  # files that no release wrote can cause any error
        raise ValueError(f"{data} is not a valid search: {error!r}") from error
    model = skhash.load(data / _MODEL, modules=modules, weights=weights)
    if getattr(model, "n_bits_", None) != about["n_bits"]:
        raise ValueError(f"{data / _MODEL} is not the fitted search that wrote {_CODES}.")
    return model, columns


def _array(files: dict[str, bytes], name: str) -> NDArray[Any]:
    return array_of(memoryview(files[name]), name).copy()


def _tag_matrix(rows: list[list[Any]], words: list[Any]) -> TagMatrix:
    vocabulary = np.empty(len(words), object)
    vocabulary[:] = words
    column_of = {word: column for column, word in enumerate(words)}
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.array([column_of[tag] for row in rows for tag in row], np.int32)
    indicator = sp.csr_array(
        (np.ones(len(indices), np.float32), indices, indptr), shape=(len(rows), len(words))
    )
    return TagMatrix(indicator, vocabulary)

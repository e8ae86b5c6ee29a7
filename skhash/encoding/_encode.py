"""encode: photo files to Parquet files of codes, on one machine or many."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._files import PathLike, folder_lock, walk
from .._progress import Progress
from .._sklearn import Interval, validate_params
from ..images import IMAGE_SUFFIXES, kind_of
from ..neighbors._ids import check_ids, check_unicode, check_unicode_ids
from ..persistence import save
from ..persistence._files import describe
from ._encoder import ENCODER_PARAMETERS, PhotoEncoder
from ._shards import (
    Manifest,
    Shard,
    ShardInfo,
    check_pyarrow,
    read_info,
    shard_numbers,
    shard_path,
    write_shard,
)
from ._workers import run_on_dask, run_on_joblib

__all__ = ["EncodingReport", "encode"]

_HASHER = "hasher.skhash"
# Number of photos that a process keeps at a time, with their features: it limits the memory.
_AT_A_TIME = 1024


@dataclass(frozen=True)
class EncodingReport:
    """The result of :func:`skhash.encode`.

    Attributes
    ----------
    n_photos : int
        Number of photos, readable or not.
    n_unreadable : int
        Number of photos that cannot be read.
    n_shards : int
        Number of files of codes.
    n_resumed : int
        Number of these files that existed before.
    """

    n_photos: int
    n_unreadable: int
    n_shards: int
    n_resumed: int


@validate_params(
    {
        "hasher": [BaseEstimator],
        "out": [str, os.PathLike],
        "shard_size": [Interval(Integral, 1, None, closed="left")],
        **ENCODER_PARAMETERS,
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def encode(
    hasher: Any,
    photos: PathLike | Iterable[PathLike],
    out: PathLike,
    *,
    ids: Iterable[Any] | None = None,
    shard_size: int = 5000,
    batch_size: int | None = None,
    device: str | None = None,
    n_jobs: int | None = None,
    client: Any = None,
    verbose: int = 0,
) -> EncodingReport:
    """Encode any number of photos into a folder of Parquet files.

    Every ``shard_size`` photos become a file ``shard-00000.parquet``, ... with
    the columns ``id`` and ``code``, the packed code. Photos that cannot be
    read are in ``unreadable-00000.parquet``, ... with the columns ``id`` and
    ``reason``. Repeat a call that was interrupted to continue it: finished
    files are not made again. If a worker is killed, only its current shard is
    lost.

    Parameters
    ----------
    hasher : estimator
        Fitted, for images: a hasher with a network, or a pipeline that begins
        with :class:`~skhash.ImageFeatures`. Workers load it from a file in
        ``out``. Its ``cache`` is not used, and ``on_error`` is "skip".
    photos : iterable of path, or path of a folder
        The files, in the order of their codes. Of an iterator, only the
        current shards are in memory. For a folder, all files below it with
        names of photos, in the order of the names.
    out : path
        Folder for the codes; created if missing. Workers on other machines
        must be able to open it, and the photos, by the same paths.
    ids : iterable of int or str, default=None
        Ids of the photos. None means their paths.
    shard_size : int, default=5000
        Number of photos per file.
    batch_size : int, default=None
        Number of images per run of the network; None means that of the hasher.
    device : str, default=None
        Device of the workers; None means that of the hasher.
    n_jobs : int, default=None
        Processes on this machine. None means 1 unless in a
        :func:`joblib.parallel_config` context; -1 means all processors. Not
        used with ``client``.
    client : dask.distributed.Client or str, default=None
        A Dask cluster to work on: a client of it, or the address of its
        scheduler.
    verbose : int, default=0
        Whether to show progress, photos per second and the remaining time.

    Returns
    -------
    EncodingReport
        Numbers of photos and files.

    Raises
    ------
    ValueError
        If ``out`` has codes of another hasher or of other photos, with other
        ids or another ``shard_size``; if there are no photos.
    TypeError
        If the hasher is not for images, or cannot be saved, for example
        because of a network of your own.
    ImportError
        If pyarrow is not installed, or Dask if ``client`` is given.
    RuntimeError
        If a worker process was killed, the scheduler is lost, or another
        process is writing to ``out``.

    Warns
    -----
    UserWarning
        If some photos cannot be read.

    See Also
    --------
    read_codes : Read the codes.
    skhash.encoding.PhotoEncoder : The object that the workers use.

    Notes
    -----
    Codes are those of ``hasher.transform`` on the photos; tags are not used.
    If a decision value is 0 up to rounding, a pipeline may return another bit,
    as for the same photo in another batch.
    """
    check_pyarrow()
    check_is_fitted(hasher)
    with folder_lock(out) as folder:
        manifest = _prepare(hasher, folder, shard_size)
        total = _total(photos, counted=bool(verbose))
        with Progress(total, unit="photo", desc="codes", verbose=verbose) as bar:
            count = _Count(bar)
            shards = _shards(photos, ids, shard_size, manifest.hasher)
            tasks = (
                (str(folder), shard, batch_size, device)
                for shard in _saving(hasher, folder, _unfinished(folder, shards, count))
            )
            done = (
                run_on_joblib(_encode_shard, tasks, n_jobs)
                if client is None
                else run_on_dask(_encode_shard, tasks, client)
            )
            for info in done:
                count.add(info)
        report = count.report()
        _check_no_others(folder, report)
        replace(manifest, n_shards=report.n_shards).write(folder)
    if report.n_unreadable:
        warnings.warn(
            f"{report.n_unreadable} of {report.n_photos} photos cannot be read: "
            f"{folder / 'unreadable-*.parquet'} names them.",
            stacklevel=2,
        )
    return report


def _prepare(hasher: Any, folder: Path, shard_size: int) -> Manifest:
    """Put a manifest into a folder, or compare the one in it with the hasher."""
    about = describe(hasher)
    if about.given:
        raise TypeError(
            f"hasher has a network of your own, {about.given}, which workers cannot load: use one "
            "of torchvision or timm, or skhash.codes.pack(hasher.transform(photos))."
        )
    if about.input != "images":
        raise TypeError(
            f"hasher takes {about.input}, not images: put ImageFeatures before it, as in "
            "make_pipeline(ImageFeatures(...), hasher)."
        )
    known = Manifest.read(folder)
    if known is None:
        if shard_numbers(folder):
            raise ValueError(
                f"out={str(folder)!r} has shards but no manifest: give an empty folder."
            )
        known = Manifest(about.digest, len(hasher.get_feature_names_out()), shard_size)
        known.write(folder)
    if known.hasher != about.digest:
        raise ValueError(
            f"out={str(folder)!r} has codes of another hasher, or of one with other parameters: "
            f"continue with skhash.load({str(folder / _HASHER)!r}), or give an empty folder."
        )
    if known.shard_size != shard_size:
        raise ValueError(
            f"out={str(folder)!r} has shards of {known.shard_size} photos, but "
            f"shard_size={shard_size}: give the same size, or an empty folder."
        )
    return known


def _saving(hasher: Any, folder: Path, shards: Iterator[Shard]) -> Iterator[Shard]:
    """The same shards; the hasher is saved before the first, if there is one.

    It is saved again if a call continues another: the file may be missing, damaged or changed.
    """
    for shard in shards:
        if hasher is not None:
            save(hasher, folder / _HASHER)
            hasher = None
        yield shard


# The work of the workers.

_loading = Lock()


@lru_cache(maxsize=1)
def _load(path: str, digest: str, batch_size: int | None, device: str | None) -> PhotoEncoder:
    """The hasher, loaded once per process; the digest is that of the content of the file."""
    return PhotoEncoder(path, batch_size=batch_size, device=device)


def _encode_shard(
    folder: str, shard: Shard, batch_size: int | None, device: str | None
) -> ShardInfo:
    """Encode the photos of a shard, and write their codes."""
    with _loading:  # Dask has several threads in a process
        encoder = _load(os.path.join(folder, _HASHER), shard.hasher, batch_size, device)
    step = max(1, _AT_A_TIME // (batch_size or 1)) * (batch_size or 1)
    codes, unreadable = [], {}
    for start in range(0, len(shard.photos), step):
        some, failed = encoder(shard.photos[start : start + step])
        codes.append(some)
        unreadable.update({start + row: reason for row, reason in failed.items()})
    return write_shard(Path(folder), shard, np.concatenate(codes), unreadable)


# Photos as shards that are not finished yet.


def _shards(photos: Any, ids: Any, size: int, hasher: str) -> Iterator[Shard]:
    """Divide photos and ids into shards, one after another on request."""
    given = iter(_names(photos))
    given_ids = None if ids is None else iter(ids)
    kind = None
    for number in itertools.count():
        names = list(itertools.islice(given, size))
        own = names if given_ids is None else list(itertools.islice(given_ids, len(names) or 1))
        if len(own) != len(names):
            fewer = "fewer" if len(own) < len(names) else "more"
            raise ValueError(f"ids has {fewer} entries than photos; give one for each.")
        if not names:
            if not number:
                raise ValueError("photos holds 0 photos; at least 1 is needed.")
            return
        shard = Shard(number, hasher, names, check_ids(own))
        kind = kind or shard.ids.dtype
        if shard.ids.dtype != kind:
            raise TypeError("ids must be all int or all str.")
        if given_ids is not None:  # else they are names, which are checked
            check_unicode_ids(shard.ids, number * size)
        yield shard


def _names(photos: Any) -> Iterator[str]:
    """The names of photos, one by one."""
    if _is_folder(photos):
        photos = _below(photos)
    elif isinstance(photos, str | bytes | os.PathLike) or not isinstance(photos, Iterable):
        raise TypeError(
            f"photos must be an iterable of files or an existing folder, got {photos!r:.100}."
        )
    for i, photo in enumerate(photos):
        if not isinstance(photo, str | os.PathLike):
            raise TypeError(f"photos must hold files; photos[{i}] is {kind_of(photo)}.")
        name = str(os.fspath(photo))
        check_unicode(name, f"photos[{i}]")
        yield name


def _is_folder(photos: Any) -> bool:
    return isinstance(photos, str | os.PathLike) and os.path.isdir(photos)


def _below(folder: PathLike) -> Iterator[str]:
    """Files below a folder that have the name of a photo, in the order of their names."""
    for place, subfolders, names in walk(folder):
        subfolders.sort()
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.join(place, name)


def _total(photos: Any, *, counted: bool) -> int | None:
    """The number of photos, if it can be known in advance."""
    if _is_folder(photos):
        return sum(1 for _ in _below(photos)) if counted else None
    return len(photos) if isinstance(photos, Sized) else None


def _unfinished(folder: Path, shards: Iterator[Shard], count: _Count) -> Iterator[Shard]:
    """The shards without a file in the folder; the others are counted."""
    finished = set(shard_numbers(folder))
    for shard in shards:
        if shard.number not in finished:
            yield shard
            continue
        info = read_info(folder, shard.number, shard.hasher)
        if info.photos != shard.digest():
            raise ValueError(
                f"{shard_path(folder, shard.number)} has codes of other photos, or of these "
                "with other ids or in another order: give the same photos, or an empty folder."
            )
        count.add(info, resumed=True)


def _check_no_others(folder: Path, report: EncodingReport) -> None:
    """Refuse a folder with the codes of more photos than were given."""
    last = shard_numbers(folder)[-1]
    if last >= report.n_shards:
        raise ValueError(
            f"{shard_path(folder, last)} has codes of photos that were not given: give all "
            f"photos, or an empty folder; got {report.n_photos}."
        )


class _Count:
    """Numbers of photos and shards, also for the progress bar."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self.n_photos = self.n_unreadable = self.n_shards = self.n_resumed = 0

    def add(self, info: ShardInfo, *, resumed: bool = False) -> None:
        self.n_photos += info.n_photos
        self.n_unreadable += info.n_unreadable
        self.n_shards += 1
        self.n_resumed += resumed
        (self._bar.skip if resumed else self._bar.add)(info.n_photos)

    def report(self) -> EncodingReport:
        return EncodingReport(self.n_photos, self.n_unreadable, self.n_shards, self.n_resumed)

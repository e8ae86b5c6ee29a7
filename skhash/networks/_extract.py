"""Running networks over data without training them."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from .._decisions import settled_values
from .._image_rows import gather
from .._progress import Progress
from .._rows import Features, Rows
from ..images import ImageReadError
from ._backbones import Backbone
from ._cache import open_cache
from ._engines import choose_engine, make_forward
from ._images import Images, unchanged
from ._placement import autocast, place, placed, resolve_device

__all__ = [
    "ComputesOnce",
    "HeadRows",
    "autocast",
    "computing_once",
    "doubtful_rows",
    "extract_features",
    "find_unreadable",
    "once",
    "place",
    "placed",
    "resolve_device",
    "run_head",
    "warn_unreadable",
    "without_warnings_of_unreadable",
]

_HEAD_BATCH = 8192
_CACHE_FILE_ROWS = 1024
# In units of the rounding of a number of the size of a row's largest output, or of 1.
_ROUNDING = 2.0**11


def run_head(
    head: nn.Module, features: Features, *, device: str = "auto"
) -> NDArray[np.floating[Any]]:
    """Outputs of a head on features, in batches.

    Parameters
    ----------
    head : nn.Module
        Maps (n, n_features) to (n, n_bits).
    features : ndarray or Rows of shape (n_samples, n_features), float32 or float64
        Its input; decides the precision.
    device : str, default="auto"
        Where to compute.

    Returns
    -------
    ndarray of shape (n_samples, n_bits) of the same dtype
        Their signs do not depend on which samples are computed together.
    """
    forward = _forward(head, features, device)

    def compute(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        outputs = forward(rows)
        return outputs, doubtful_rows(outputs)

    return settled_values(compute, features, block_rows=_HEAD_BATCH)


def _forward(
    head: nn.Module, features: Features, device: str
) -> Callable[[NDArray[Any]], NDArray[np.floating[Any]]]:
    """A head as a function of rows of features."""
    target = resolve_device(device)
    module = placed(head, target, dtype=torch.from_numpy(features[:0].copy()).dtype)

    @torch.no_grad()
    def forward(rows: NDArray[Any]) -> NDArray[np.floating[Any]]:
        inputs = torch.tensor(np.ascontiguousarray(rows), device=target)
        return module(inputs).cpu().numpy()

    return forward


class HeadRows(Rows):
    """Outputs of a head, computed when they are read; their signs are not settled.

    Parameters
    ----------
    head : nn.Module
        Maps (n, n_features) to (n, n_outputs).
    features : ndarray or Rows of shape (n_samples, n_features)
        Its input.
    device : str
        Where to compute.
    """

    def __init__(self, head: nn.Module, features: Features, *, device: str) -> None:
        self._features, self._forward = features, _forward(head, features, device)
        n_outputs = self._read(slice(0, 1)).shape[1]
        super().__init__((len(features), n_outputs), features.dtype, features.shape[1])

    def _read(self, rows: Any) -> NDArray[Any]:
        return self._forward(self._features[rows])


def doubtful_rows(outputs: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Rows with an output so small that its sign may hang on rounding."""
    sizes = np.abs(outputs)
    scales = np.maximum(sizes.max(axis=1, keepdims=True), 1)
    return (sizes <= _ROUNDING * np.finfo(outputs.dtype).eps * scales).any(axis=1)


def extract_features(
    backbone: Backbone,
    images: Images,
    *,
    batch_size: int = 32,
    device: str = "auto",
    engine: str = "torch",
    amp: bool = False,
    num_workers: int = 0,
    cache: str | os.PathLike[str] | None = None,
    verbose: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Features of images.

    Parameters
    ----------
    backbone : Backbone
        The network.
    images : Images
        What to run it on.
    batch_size : int, default=32
        Images at a time.
    device : str, default="auto"
        Where to compute.
    engine : {"torch", "openvino", "onnxruntime", "auto"}, default="torch"
        What computes; see :class:`~skhash.ImageFeatures`.
    amp : bool, default=False
        Whether in bfloat16 where that is safe, and in the channels-last layout.
    num_workers : int, default=0
        Processes that read images; 0 reads in threads of this one.
    cache : path, default=None
        Folder to keep features in and take them from.
    verbose : int, default=0
        Whether to show progress in images per second.

    Returns
    -------
    features : ndarray of shape (n_samples, n_features), float32
        The row of an unreadable image is NaN.
    unreadable : ndarray of int
        Rows of unreadable images; empty unless ``images`` skips them.

    Raises
    ------
    ImageReadError
        For the first unreadable image, unless ``images`` skips them.
    ImportError
        If the engine is not installed.
    ValueError
        If it cannot compute this network, or not so.
    """
    n = len(images)
    engine, target = choose_engine(backbone, engine, device, amp=amp, n_images=n)
    known = None
    if cache is not None:
        # Engines differ by rounding, and in bfloat16 by more.
        how = ("-bf16" if amp else "") + ("" if engine == "torch" else f"-{engine}")
        known = open_cache(cache, f"{backbone.fingerprint()}{how}")
    keys: list[bytes] = []
    rows: list[int] = []  # of images to compute, as far as they are known
    features: NDArray[np.float32] | None = None
    unreadable: list[NDArray[np.intp]] = []
    unsaved: list[NDArray[np.intp]] = []

    def missing() -> Iterator[int]:
        for row in range(n):
            if known is not None:
                store, digests = known
                keys.append(images.key(row, digests))
                if keys[row] in store:
                    progress.skip(1)
                    continue
            rows.append(row)
            yield row

    def save() -> None:
        if known is None:
            return
        store, digests = known
        digests.save()
        if unsaved:
            done = [i for i in np.concatenate(unsaved) if keys[i]]
            store.put([keys[i] for i in done], features[done])  # type: ignore[index]
            unsaved.clear()

    forward = None
    start = 0
    try:
        with Progress(n, unit="image", desc="features", verbose=verbose) as progress:
            for batch, readable in _batches(images, missing(), batch_size, num_workers):
                forward = forward or make_forward(backbone, engine, target, amp=amp)
                current = np.array(rows[start : start + len(batch)])
                start += len(batch)
                outputs = forward(batch)
                if features is None:
                    features = np.empty((n, outputs.shape[1]), np.float32)
                features[current] = np.where(readable[:, None], outputs, np.nan)
                unreadable.append(current[~readable])
                unsaved.append(current[readable])
                if sum(map(len, unsaved)) >= _CACHE_FILE_ROWS:
                    save()
                progress.add(len(batch))
    finally:
        save()
    if known is not None:
        for row in rows:
            keys[row] = b""  # computed, not to be read again
        features = known[0].get(keys, features)
    assert features is not None  # there is at least one image
    return features, np.concatenate(unreadable) if unreadable else np.empty(0, np.intp)


def find_unreadable(images: Images, *, num_workers: int = 0) -> NDArray[np.intp]:
    """Rows of images that cannot be read, found by reading all."""
    batches = _batches(images, iter(range(len(images))), 32, num_workers)
    return np.flatnonzero(np.concatenate([~readable for _, readable in batches]))


def _batches(
    images: Images, rows: Iterator[int], batch_size: int, num_workers: int
) -> Iterator[tuple[torch.Tensor, NDArray[np.bool_]]]:
    """Batches of some images, and which of them were readable."""
    if not num_workers:
        return _read_ahead(images, rows, batch_size)
    loader: DataLoader[Any] = DataLoader(
        images,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=rows,
        num_workers=num_workers,
        collate_fn=unchanged,
        generator=torch.Generator(),  # else every pass draws a number from torch's global one
        # A process that is forked while other threads compute may wait for them for ever.
        multiprocessing_context="spawn",
    )
    return iter(loader)


def _read_ahead(
    images: Images, rows: Iterator[int], batch_size: int
) -> Iterator[tuple[torch.Tensor, NDArray[np.bool_]]]:
    """Batches that threads read while the one before is computed; Pillow lets them run."""
    parts = iter(lambda: list(islice(rows, batch_size)), [])
    n_threads = torch.get_num_threads()
    if n_threads == 1 or not images.thread_safe:
        yield from map(images.__getitems__, parts)
        return
    pool = ThreadPoolExecutor(n_threads)
    try:
        ahead: deque[list[Future[Any]]] = deque()
        for part in parts:
            ahead.append([pool.submit(images.read, row) for row in part])
            if len(ahead) > 1:
                yield images.collate(future.result() for future in ahead.popleft())
        for last in ahead:
            yield images.collate(future.result() for future in last)
    finally:  # an unreadable image, or nobody asks for more
        pool.shutdown(cancel_futures=True)


# Holds for one thread, as the filters of the module warnings do not.
_warns: ContextVar[bool] = ContextVar("_warns", default=True)


@contextmanager
def without_warnings_of_unreadable() -> Iterator[None]:
    """Have :func:`warn_unreadable` not warn, for callers that report such images themselves."""
    token = _warns.set(False)
    try:
        yield
    finally:
        _warns.reset(token)


def warn_unreadable(images: Images, unreadable: NDArray[np.intp], remedy: str) -> None:
    """Name the images that could not be read, and say what became of them.

    Raises
    ------
    ImageReadError
        If none could.
    """
    if not len(unreadable):
        return
    if len(unreadable) == len(images):
        raise ImageReadError(
            f"none of the {len(images)} images can be read, such as {images.name(0)}."
        )
    if not _warns.get():
        return
    names = ", ".join(images.name(i) for i in unreadable[:10])
    more = f" and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
    warnings.warn(
        f"{len(unreadable)} of {len(images)} images cannot be read: {names}{more}. {remedy}",
        stacklevel=4,
    )


_computed: ContextVar[list[tuple[Images, Backbone, Any]] | None] = ContextVar(
    "_computed", default=None
)


@contextmanager
def computing_once() -> Iterator[None]:
    """Within it, a backbone that is not trained sees the same images once."""
    if _computed.get() is not None:  # within another one
        yield
        return
    token = _computed.set([])
    try:
        yield
    finally:
        _computed.reset(token)


class ComputesOnce:
    """Mixin of hashers with networks; comes before ``HasherMixin``."""

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> NDArray[np.uint8]:
        """Train the network and encode the training samples.

        A backbone that is not trained sees every image once.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As in :meth:`fit`.
        y : labels or tags of n_samples images, default=None
            As in :meth:`fit`.
        **fit_params : dict
            Further arguments of :meth:`fit`.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_bits), uint8
            The same as of ``fit(X, y).transform(X)``.
        """
        with computing_once():
            return super().fit_transform(gather(X), y, **fit_params)  # type: ignore[misc]


def once(images: Images, backbone: Backbone, compute: Callable[[], Any]) -> Any:
    """What ``compute`` returns, or has returned for these images and this network."""
    computed = _computed.get()
    for known, network, result in computed or ():
        if network is backbone and known.same_as(images):
            return result
    result = compute()
    if computed is not None:
        computed.append((images, backbone, result))
    return result

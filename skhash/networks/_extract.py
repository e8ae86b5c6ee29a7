"""Running networks on data without training them."""

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
# Limit of doubtful outputs, in units of the rounding of a row's largest output, or of 1.
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
        Input of the head; its dtype is that of the computation.
    device : str, default="auto"
        Device for computation.

    Returns
    -------
    ndarray of shape (n_samples, n_bits) of the same dtype
        Outputs. Their signs do not depend on which samples are computed together.
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
        Input of the head.
    device : str
        Device for computation.
    """

    def __init__(self, head: nn.Module, features: Features, *, device: str) -> None:
        self._features, self._forward = features, _forward(head, features, device)
        n_outputs = self._read(slice(0, 1)).shape[1]
        super().__init__((len(features), n_outputs), features.dtype, features.shape[1])

    def _read(self, rows: Any) -> NDArray[Any]:
        return self._forward(self._features[rows])


def doubtful_rows(outputs: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Rows with an output so small that its sign may depend on rounding."""
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
        The images.
    batch_size : int, default=32
        Number of images in a batch.
    device : str, default="auto"
        Device for computation.
    engine : {"torch", "openvino", "onnxruntime", "auto"}, default="torch"
        Library that runs the network; see :class:`~skhash.ImageFeatures`.
    amp : bool, default=False
        Whether to use bfloat16 where it is safe, and the channels-last layout.
    num_workers : int, default=0
        Number of processes that read images; 0 reads in threads of this process.
    cache : path, default=None
        Folder for features, which are read from it and written to it.
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
        If the engine cannot run this network, or does not support the device or bfloat16, or
        features are not finite.
    """
    n = len(images)
    engine, target = choose_engine(backbone, engine, device, amp=amp, n_images=n)
    known = None
    if cache is not None:
        # Features of different engines differ by rounding, in bfloat16 by more.
        how = ("-bf16" if amp else "") + ("" if engine == "torch" else f"-{engine}")
        known = open_cache(cache, f"{backbone.fingerprint()}{how}")
    keys: list[bytes] = []
    rows: list[int] = []  # images to compute that are known so far
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
                finite = np.isfinite(outputs).all(axis=1) | ~readable
                if not finite.all():  # NaN would mean that the image cannot be read
                    raise ValueError(
                        f"the backbone gives features of X[{current[~finite][0]}] that are NaN or "
                        "infinite; check its weights."
                    )
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
            keys[row] = b""  # computed, so it is not read again
        features = known[0].get(keys, features)
    assert features is not None  # there is at least one image
    return features, np.concatenate(unreadable) if unreadable else np.empty(0, np.intp)


def find_unreadable(images: Images, *, num_workers: int = 0) -> NDArray[np.intp]:
    """Rows of images that cannot be read, found by reading all images."""
    batches = _batches(images, iter(range(len(images))), 32, num_workers)
    return np.flatnonzero(np.concatenate([~readable for _, readable in batches]))


def _batches(
    images: Images, rows: Iterator[int], batch_size: int, num_workers: int
) -> Iterator[tuple[torch.Tensor, NDArray[np.bool_]]]:
    """Batches of some images, and which images were readable."""
    if not num_workers:
        return _read_ahead(images, rows, batch_size)
    loader: DataLoader[Any] = DataLoader(
        images,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=rows,
        num_workers=min(num_workers, -(-len(images) // batch_size)),
        collate_fn=unchanged,
        generator=torch.Generator(),  # else every pass draws a number from torch's global generator
        # A process that is forked while other threads compute may wait for them without end.
        multiprocessing_context="spawn",
    )
    return iter(loader)


def _read_ahead(
    images: Images, rows: Iterator[int], batch_size: int
) -> Iterator[tuple[torch.Tensor, NDArray[np.bool_]]]:
    """Batches that threads read while the batch before is computed; Pillow releases the GIL."""
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
    finally:  # also after an unreadable image, or if no more batches are needed
        pool.shutdown(cancel_futures=True)


# Per thread, unlike the filters of the module warnings.
_warns: ContextVar[bool] = ContextVar("_warns", default=True)


@contextmanager
def without_warnings_of_unreadable() -> Iterator[None]:
    """Turn off :func:`warn_unreadable`, for callers that report such images themselves."""
    token = _warns.set(False)
    try:
        yield
    finally:
        _warns.reset(token)


def warn_unreadable(images: Images, unreadable: NDArray[np.intp], remedy: str) -> None:
    """Warn with the names of the images that could not be read; ``remedy`` ends the message.

    Raises
    ------
    ImageReadError
        If no image could be read.
    """
    if not len(unreadable):
        return
    if len(unreadable) == len(images):
        raise ImageReadError(
            f"none of the {len(images)} images can be read, for example {images.name(0)}."
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
    """Context in which a backbone that is not trained runs on the same images only once."""
    if _computed.get() is not None:  # within another such context
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

        A backbone that is not trained runs once on every image.

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
            The same as from ``fit(X, y).transform(X)``.
        """
        with computing_once():
            return super().fit_transform(gather(X), y, **fit_params)  # type: ignore[misc]


def once(images: Images, backbone: Backbone, compute: Callable[[], Any]) -> Any:
    """The result of ``compute``, or its earlier result for these images and this network."""
    computed = _computed.get()
    for known, network, result in computed or ():
        if network is backbone and known.same_as(images):
            return result
    result = compute()
    if computed is not None:
        computed.append((images, backbone, result))
    return result

"""Running networks over data without training them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Subset

from ._backbones import Backbone
from ._cache import FeatureCache
from ._images import Images, unchanged

__all__ = [
    "autocast",
    "extract_features",
    "find_unreadable",
    "place",
    "resolve_device",
    "run_head",
    "warn_unreadable",
]

_HEAD_BATCH = 8192
_CACHE_FILE_ROWS = 1024


def resolve_device(device: str) -> torch.device:
    """Turn the parameter ``device`` into a torch device; "auto" is CUDA where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        raise ValueError(f"device={device!r} cannot be used here: {error}") from error


def autocast(device: torch.device, amp: bool) -> torch.autocast:
    """Context in which matrix products and convolutions run in bfloat16 if ``amp``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=amp)


def place(module: nn.Module, device: str | torch.device, *, channels_last: bool = False) -> None:
    """Move a module to a device, its convolutions in one layout or the other."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    module.to(device, memory_format=memory_format)  # type: ignore[call-overload]


@contextmanager
def _in_evaluation(module: nn.Module, device: torch.device, amp: bool) -> Iterator[None]:
    """Run a module on a device; between calls modules stay on the CPU, where they pickle."""
    place(module.eval(), device, channels_last=amp)
    try:
        with torch.no_grad(), autocast(device, amp):
            yield
    finally:
        place(module, "cpu")


def run_head(
    head: nn.Module, features: NDArray[np.floating[Any]], *, device: str = "auto"
) -> NDArray[np.floating[Any]]:
    """Outputs of a head on features, in batches.

    Parameters
    ----------
    head : nn.Module
        Maps (n, n_features) to (n, n_bits).
    features : ndarray of shape (n_samples, n_features), float32 or float64
        Its input; decides the precision.
    device : str, default="auto"
        Where to compute.

    Returns
    -------
    ndarray of shape (n_samples, n_bits) of the same dtype
    """
    target = resolve_device(device)
    with _in_evaluation(head, target, amp=False):
        outputs = []
        for start in range(0, len(features), _HEAD_BATCH):
            batch = torch.tensor(features[start : start + _HEAD_BATCH], device=target)
            outputs.append(head.to(batch.dtype)(batch).cpu())
        head.float()
    return torch.cat(outputs).numpy()


def extract_features(
    backbone: Backbone,
    images: Images,
    *,
    batch_size: int = 32,
    device: str = "auto",
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
    amp : bool, default=False
        Whether in bfloat16 where that is safe, and in the channels-last layout.
    num_workers : int, default=0
        Processes that read images; 0 reads in this one.
    cache : path, default=None
        Folder to keep features in and take them from.
    verbose : int, default=0
        Whether to show progress in images per second.

    Returns
    -------
    features : ndarray of shape (n_samples, n_features), float32
        The row of an unreadable image is zero.
    unreadable : ndarray of int
        Rows of unreadable images; empty unless ``images`` skips them.

    Raises
    ------
    ImageReadError
        For the first unreadable image, unless ``images`` skips them.
    """
    n = len(images)
    store, keys, rows = None, [], np.arange(n)
    features: NDArray[np.float32] | None = None
    if cache is not None:
        store = FeatureCache(Path(cache) / f"{backbone.fingerprint()}{'-bf16' if amp else ''}")
        keys = [images.key(i) for i in range(n)]
        rows = np.array(store.missing(keys), np.intp)
        features = store.get(keys)
    unreadable: list[NDArray[np.intp]] = []
    unsaved: list[NDArray[np.intp]] = []

    def save() -> None:
        if store is not None and unsaved:
            done = [i for i in np.concatenate(unsaved) if keys[i]]
            store.put([keys[i] for i in done], features[done])  # type: ignore[index]
            unsaved.clear()

    loader: DataLoader[Any] = DataLoader(
        Subset(images, rows.tolist()),  # type: ignore[arg-type]
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=unchanged,
        generator=torch.Generator(),  # or it would draw from torch's own
    )
    target = resolve_device(device)
    start = 0
    try:
        with _in_evaluation(backbone, target, amp):
            for batch, readable in _progress(loader, len(rows), verbose):
                current = rows[start : start + len(batch)]
                start += len(batch)
                outputs = backbone(batch.to(target)).cpu().numpy()
                if features is None:
                    features = np.zeros((n, outputs.shape[1]), np.float32)
                features[current[readable]] = outputs[readable]
                unreadable.append(current[~readable])
                unsaved.append(current[readable])
                if sum(map(len, unsaved)) >= _CACHE_FILE_ROWS:
                    save()
    finally:
        save()
    assert features is not None  # there is at least one image
    return features, np.concatenate(unreadable) if unreadable else np.empty(0, np.intp)


def find_unreadable(images: Images, *, num_workers: int = 0) -> NDArray[np.intp]:
    """Rows of images that cannot be read, found by reading all."""
    loader: DataLoader[Any] = DataLoader(
        images,  # type: ignore[arg-type]
        batch_size=32,
        num_workers=num_workers,
        collate_fn=unchanged,
        generator=torch.Generator(),  # or it would draw from torch's own
    )
    return np.flatnonzero(np.concatenate([~readable for _, readable in loader]))


def warn_unreadable(images: Images, unreadable: NDArray[np.intp]) -> None:
    """Name the images that could not be read.

    Raises
    ------
    ValueError
        If none could.
    """
    if not len(unreadable):
        return
    if len(unreadable) == len(images):
        raise ValueError(f"none of the {len(images)} images can be read, such as {images.name(0)}.")
    names = ", ".join(images.name(i) for i in unreadable[:10])
    more = f" and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
    warnings.warn(
        f"{len(unreadable)} of {len(images)} images cannot be read; "
        f"their rows are zero: {names}{more}.",
        stacklevel=4,
    )


def _progress(batches: Iterable, n_images: int, verbose: int) -> Iterable:
    """Hand batches on, showing images per second."""
    if not verbose:
        yield from batches
        return
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    with tqdm(total=n_images, unit="image", desc="features") as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch[0]))

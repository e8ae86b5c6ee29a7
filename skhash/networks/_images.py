"""Images as a network takes them: batches that are read when asked for."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .._files import PathLike
from ..images import MAX_PIXELS, ImageReadError, kind_of, read_image
from ._cache import file_digest

__all__ = ["Images", "unchanged"]

_FORMS = (
    "a sequence of image files (str or path-like), of PIL images or of uint8 arrays (H, W, 3), "
    "or one uint8 array of shape (n_samples, H, W, 3)"
)


class Images:
    """A collection of images that are read when asked for.

    Indexed by an array of row numbers like a tensor, it gives a batch; as a
    dataset of :class:`torch.utils.data.DataLoader` (with
    ``collate_fn=unchanged``) it gives batches that tell which rows are readable.

    Parameters
    ----------
    images : sequence or ndarray
        Image files (str or path-like), PIL images or uint8 arrays (H, W, 3);
        or one uint8 array (n_samples, H, W, 3).
    size : int
        Side in pixels to which images are cut; see :func:`skhash.images.read_image`.
    crop : float, default=1.0
        Share of the shorter side that is kept.
    interpolation : str, default="bilinear"
        How pixels are scaled.
    skip_unreadable : bool, default=False
        If True, the batches of a data loader hold a blank image in place of an
        unreadable one and say so, instead of raising.
    max_pixels : int, default=64000000
        Images of more pixels are unreadable; see :func:`skhash.images.read_image`.

    Raises
    ------
    TypeError
        If ``images`` is none of these.
    ValueError
        If there is not one image.
    """

    def __init__(
        self,
        images: Any,
        size: int,
        *,
        crop: float = 1.0,
        interpolation: str = "bilinear",
        skip_unreadable: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.images = _as_sequence(images)
        self.size = size
        self.crop = crop
        self.interpolation = interpolation
        self.skip_unreadable = skip_unreadable
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> torch.Tensor:
        """Read a batch of uint8, shape (n_rows, 3, size, size)."""
        return _as_batch([self._read(int(i)) for i in rows])

    def __getitems__(self, rows: Sequence[int]) -> tuple[torch.Tensor, NDArray[np.bool_]]:
        """Read a batch, and which of its images were readable."""
        batch, readable = [], np.ones(len(rows), bool)
        for j, i in enumerate(rows):
            try:
                batch.append(self._read(i))
            except ImageReadError:
                if not self.skip_unreadable:
                    raise
                batch.append(np.zeros((self.size, self.size, 3), np.uint8))
                readable[j] = False
        return _as_batch(batch), readable

    def take(self, rows: NDArray[np.integer[Any]]) -> Images:
        """The images of some rows."""
        some = copy.copy(self)
        some.images = [self.images[i] for i in rows]
        return some

    def same_as(self, other: Images) -> bool:
        """Whether these are the very same objects, or files of the same names."""
        if self.images is other.images:
            return True
        return len(self) == len(other) and all(
            one is another or (isinstance(one, str | os.PathLike) and one == another)
            for one, another in zip(self.images, other.images, strict=True)
        )

    def _read(self, row: int) -> NDArray[np.uint8]:
        return read_image(
            self.images[row],
            self.size,
            crop=self.crop,
            interpolation=self.interpolation,
            max_pixels=self.max_pixels,
        )

    def name(self, row: int) -> str:
        """How messages call an image."""
        image = self.images[row]
        return os.fspath(image) if isinstance(image, str | os.PathLike) else f"row {row}"

    def key(self, row: int, digest: Callable[[PathLike], bytes] = file_digest) -> bytes:
        """Digest of what decides the pixels that a network gets.

        That is all bytes of a file. For an image in memory it is these pixels themselves, as
        much besides its own can enter into them: palette, transparency, orientation.

        Empty for an image that cannot be read.
        """
        image = self.images[row]
        try:
            if isinstance(image, str | os.PathLike):
                return digest(image)
            return hashlib.blake2b(self._read(row).tobytes(), digest_size=16).digest()
        except (OSError, ValueError):
            return b""


def unchanged(batch: Any) -> Any:
    """Collate nothing: the datasets here give whole batches."""
    return batch


def _as_batch(images: list[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


def _as_sequence(images: Any) -> Any:
    if isinstance(images, str | bytes | os.PathLike) or not hasattr(images, "__len__"):
        raise TypeError(f"X must be {_FORMS}, got {kind_of(images)}.")
    if len(images) == 0:
        raise ValueError("X holds 0 images; at least 1 is needed.")
    if isinstance(images, np.ndarray) and images.ndim > 1:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (3, 4):
            raise TypeError(f"X must be {_FORMS}, got {kind_of(images)}.")
        return images
    images = list(images)
    for i, image in enumerate(images):
        if not isinstance(image, str | os.PathLike | Image.Image | np.ndarray):
            raise TypeError(f"X must be {_FORMS}; X[{i}] is {kind_of(image)}.")
    return images

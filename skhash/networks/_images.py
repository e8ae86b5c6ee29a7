"""Images as inputs of a network: batches that are read when they are needed."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._files import PathLike, content_digest, file_digest
from .._image_rows import LazyRows, as_rows, is_one_image
from ..images import (
    MAX_PIXELS,
    ImageReadError,
    is_image,
    is_open_file,
    is_row,
    kind_of,
    path_of,
    read_image,
    resolve,
)

__all__ = ["Images", "unchanged"]

_SKETCH_ROWS = 64
_FORMS = (
    "a sequence of image files (str, path-like, bytes, open files or rows {'bytes': ..., "
    "'path': ...}), of PIL images or of uint8 arrays (H, W, 3), or one uint8 array of shape "
    "(n_samples, H, W, 3)"
)


class Images:
    """A collection of images that are read when they are needed.

    With an array of row numbers as index, it returns a batch, like a tensor. As
    a dataset of :class:`torch.utils.data.DataLoader` (with
    ``collate_fn=unchanged``), it returns batches and which rows are readable.

    Parameters
    ----------
    images : sequence, iterator, data frame or ndarray
        Images, each in a form that :func:`skhash.images.read_image` reads, or
        one uint8 array (n_samples, H, W, 3). A list is checked at once, and
        its open files are read. Any other sequence with ``__len__`` and
        ``__getitem__`` stays lazy: an item is fetched each time it is needed.
        An iterator is read once. A data frame (or dataset) with one column is
        the same as this column.
    size : int
        Side in pixels to which images are cut; see :func:`skhash.images.read_image`.
    crop : float, default=1.0
        Share of the shorter side that is kept.
    interpolation : str, default="bilinear"
        Method of scaling.
    skip_unreadable : bool, default=False
        If True, an unreadable image is replaced by a blank one in the batches of
        a data loader and marked as unreadable. If False, it raises an error.
    max_pixels : int, default=64000000
        Images with more pixels are unreadable; see :func:`skhash.images.read_image`.

    Raises
    ------
    TypeError
        If ``images`` has another form.
    ValueError
        If there are no images.
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
        self._numbers: NDArray[np.integer[Any]] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> torch.Tensor:
        """Read a batch of uint8, shape (n_rows, 3, size, size)."""
        return _as_batch([self._read(int(i)) for i in rows])

    def __getitems__(
        self, rows: Sequence[int] | NDArray[np.integer[Any]]
    ) -> tuple[torch.Tensor, NDArray[np.bool_]]:
        """Read a batch, and which of its images were readable."""
        return self.collate(map(self.read, rows))

    def read(self, row: int) -> tuple[NDArray[np.uint8], bool]:
        """Read an image, and whether it was readable."""
        try:
            return self._read(row), True
        except ImageReadError:
            if not self.skip_unreadable:
                raise
            return np.zeros((self.size, self.size, 3), np.uint8), False

    def collate(
        self, images: Iterable[tuple[NDArray[np.uint8], bool]]
    ) -> tuple[torch.Tensor, NDArray[np.bool_]]:
        """Make a batch from images that have been read."""
        pixels, readable = zip(*images, strict=True)
        return _as_batch(pixels), np.array(readable, bool)

    @property
    def thread_safe(self) -> bool:
        """Whether several threads may read the images at the same time.

        A lazy sequence may not be thread-safe, and a PIL image is decoded at its first use.
        """
        safe = (str, os.PathLike, bytes, dict, np.ndarray)
        return not isinstance(self.images, LazyRows) and all(
            isinstance(image, safe) for image in self.images
        )

    def take(self, rows: NDArray[np.integer[Any]]) -> Images:
        """The images of some rows; messages still use the row numbers of this collection."""
        some = copy.copy(self)
        some._numbers = rows if self._numbers is None else self._numbers[rows]
        if isinstance(self.images, LazyRows):
            some.images = self.images.take(rows)
        else:
            some.images = [self.images[i] for i in rows]
        return some

    def same_as(self, other: Images) -> bool:
        """Whether these are the same objects, or files with the same names or bytes."""
        if self.images is other.images:
            return True
        if isinstance(self.images, LazyRows) or isinstance(other.images, LazyRows):
            return isinstance(self.images, LazyRows) and self.images.same_as(other.images)
        return len(self) == len(other) and all(
            one is another or (isinstance(one, str | os.PathLike | bytes) and one == another)
            for one, another in zip(self.images, other.images, strict=True)
        )

    def _read(self, row: int) -> NDArray[np.uint8]:
        image = self.images[row]
        try:
            return read_image(
                image,
                self.size,
                crop=self.crop,
                interpolation=self.interpolation,
                max_pixels=self.max_pixels,
            )
        except ImageReadError as error:
            if path_of(image) is not None:
                raise
            raise ImageReadError(f"image {self._number(row)}: {error}") from error

    def name(self, row: int) -> str:
        """Name of an image in messages."""
        with suppress(ImageReadError):
            path = path_of(self.images[row])
            if path is not None:
                return path
        return f"row {self._number(row)}"

    def _number(self, row: int) -> int:
        return row if self._numbers is None else int(self._numbers[row])

    def key(self, row: int, digest: Callable[[PathLike], bytes] = file_digest) -> bytes:
        """Digest of the content that determines the pixels for a network.

        For a file, in memory or not, this is all its bytes. For other images it is the pixels
        for the network, because they also depend on palette, transparency and orientation.

        Empty for an image that cannot be read.
        """
        try:
            image = resolve(self.images[row])
            if isinstance(image, str | os.PathLike):
                return digest(image)
            content = image if isinstance(image, bytes) else self._read(row).tobytes()
            return content_digest(content)
        except (OSError, TypeError, ValueError):
            return b""

    def stamp(self, row: int) -> Any:
        """A cheap identity of an image: name and size of a file, else its key."""
        if not isinstance(self.images, LazyRows):
            image = self.images[row]
            if isinstance(image, str | os.PathLike):
                size = os.path.getsize(image) if os.path.exists(image) else None
                return [os.fspath(image), size]
        return self.key(row)

    def sketch(self) -> list[Any]:
        """A cheap identity of some of the images, to notice other data: name and size of files."""
        rows = np.linspace(0, len(self) - 1, min(len(self), _SKETCH_ROWS)).astype(int)
        stamps = [self.stamp(int(row)) for row in rows]
        # Folders of the same files may be in different places on different machines.
        return [
            [os.path.basename(stamp[0]), stamp[1]] if isinstance(stamp, list) else stamp
            for stamp in stamps
        ]


def unchanged(batch: Any) -> Any:
    """No collation, because the datasets here return whole batches."""
    return batch


def _as_batch(images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


def _as_sequence(X: Any) -> Any:
    """A uint8 array of all images, a list of checked images, or a lazy sequence."""
    if is_one_image(X):
        raise TypeError(
            f"X must be {_FORMS}, got one image ({kind_of(X)}): wrap it in a list, [X]."
        )
    images = as_rows(X)
    if images is None:
        raise TypeError(f"X must be {_FORMS}, got {kind_of(X)}.")
    if len(images) == 0:
        raise ValueError("X holds 0 images; at least 1 is needed.")
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (3, 4):
            remedy = " If it is one image, wrap it in a list, [X]." * (images.ndim == 3)
            raise TypeError(f"X must be {_FORMS}, got {kind_of(images)}.{remedy}")
    elif isinstance(images, LazyRows):
        with suppress(ImageReadError):  # an error of a single image is handled later
            _check_image(images[0], 0)
    else:
        images = [resolve(image) if is_open_file(image) else image for image in images]
        for row, image in enumerate(images):
            _check_image(image, row)
    return images


def _check_image(image: Any, row: int) -> None:
    if is_row(image) and image.get("bytes") is None:
        image = image.get("path")
    if not is_image(image) and not isinstance(image, np.ndarray):
        raise TypeError(f"X must be {_FORMS}; X[{row}] is {kind_of(image)}.")

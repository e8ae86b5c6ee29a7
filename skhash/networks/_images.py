"""Images as a network takes them: read lazily, made RGB, cut to one size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

__all__ = ["ImageReadError", "Images", "read_image"]

_FORMS = (
    "a sequence of image files (str or path-like), of PIL images or of uint8 arrays (H, W, 3), "
    "or one uint8 array of shape (n_samples, H, W, 3)"
)


class ImageReadError(ValueError):
    """An image cannot be read; the message names it and the cause."""


def read_image(source: Any, size: int) -> NDArray[np.uint8]:
    """Read one image as RGB, upright, cut to a square.

    Parameters
    ----------
    source : str, path-like, PIL image or ndarray of uint8
        An image file in any format of Pillow, or pixels of shape (H, W, 3),
        (H, W, 4) or (H, W).
    size : int
        Side of the result in pixels. The shorter side is scaled to it
        (bilinear, antialiased), the longer one cut evenly at both ends; an
        image of this size already is taken as it is.

    Returns
    -------
    ndarray of shape (size, size, 3), uint8
        The EXIF orientation is applied; grey, palette and CMYK images become
        RGB; 16 bits a channel become 8; what is transparent turns white.

    Raises
    ------
    ImageReadError
        If there is no such file, or it is corrupt, truncated or no image.
    """
    try:
        if isinstance(source, str | os.PathLike):
            with Image.open(source) as image:
                # A JPEG far larger than needed decodes at a fraction of its size.
                image.draft(None, (2 * size, 2 * size))
                return _to_square(image, size)
        return _to_square(_from_memory(source), size)
    except Exception as error:  # Pillow's decoders raise OSError, ValueError, SyntaxError, ...
        name = repr(os.fspath(source)) if isinstance(source, str | os.PathLike) else "an array"
        raise ImageReadError(f"cannot read image {name}: {error}") from error


def _from_memory(source: Any) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim in (2, 3):
        return Image.fromarray(source)
    raise TypeError(
        f"an image must be a file, a PIL image or an array of uint8, got {_kind(source)}."
    )


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return type(value).__name__


def _to_square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))


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
        Side in pixels to which images are cut; see :func:`read_image`.
    skip_unreadable : bool, default=False
        If True, the batches of a data loader hold a blank image in place of an
        unreadable one and say so, instead of raising.

    Raises
    ------
    TypeError
        If ``images`` is none of these.
    ValueError
        If there is not one image.
    """

    def __init__(self, images: Any, size: int, *, skip_unreadable: bool = False) -> None:
        self.images = _as_sequence(images)
        self.size = size
        self.skip_unreadable = skip_unreadable

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> torch.Tensor:
        """Read a batch of uint8, shape (n_rows, 3, size, size)."""
        return _as_batch([read_image(self.images[int(i)], self.size) for i in rows])

    def __getitems__(self, rows: Sequence[int]) -> tuple[torch.Tensor, NDArray[np.bool_]]:
        """Read a batch, and which of its images were readable."""
        batch, readable = [], np.ones(len(rows), bool)
        for j, i in enumerate(rows):
            try:
                batch.append(read_image(self.images[i], self.size))
            except ImageReadError:
                if not self.skip_unreadable:
                    raise
                batch.append(np.zeros((self.size, self.size, 3), np.uint8))
                readable[j] = False
        return _as_batch(batch), readable

    def take(self, rows: NDArray[np.integer[Any]]) -> Images:
        """The images of some rows."""
        some = [self.images[i] for i in rows]
        return Images(some, self.size, skip_unreadable=self.skip_unreadable)

    def name(self, row: int) -> str:
        """How messages call an image."""
        image = self.images[row]
        return os.fspath(image) if isinstance(image, str | os.PathLike) else f"row {row}"

    def key(self, row: int) -> bytes:
        """Digest of an image's content: of the bytes of its file, or of its pixels.

        Empty for a file that cannot be opened.
        """
        image = self.images[row]
        digest = hashlib.blake2b(digest_size=16)
        if isinstance(image, str | os.PathLike):
            try:
                with open(image, "rb") as file:
                    digest.update(file.read())
            except OSError:
                return b""
        else:
            array = np.ascontiguousarray(image)
            digest.update(f"{getattr(image, 'mode', '')}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.digest()


def unchanged(batch: Any) -> Any:
    """Collate nothing: the datasets here give whole batches."""
    return batch


def _as_batch(images: list[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


def _as_sequence(images: Any) -> Any:
    if isinstance(images, str | bytes | os.PathLike) or not hasattr(images, "__len__"):
        raise TypeError(f"X must be {_FORMS}, got {_kind(images)}.")
    if len(images) == 0:
        raise ValueError("X holds 0 images; at least 1 is needed.")
    if isinstance(images, np.ndarray) and images.ndim > 1:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (3, 4):
            raise TypeError(f"X must be {_FORMS}, got {_kind(images)}.")
        return images
    images = list(images)
    for i, image in enumerate(images):
        if not isinstance(image, str | os.PathLike | Image.Image | np.ndarray):
            raise TypeError(f"X must be {_FORMS}; X[{i}] is {_kind(image)}.")
    return images

"""Photos as arrays: read from files that may be untrusted, made RGB, cropped to one size."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from sklearn.utils import check_scalar

from ._files import open_regular

__all__ = ["MAX_PIXELS", "PHOTO_FORMATS", "ImageReadError", "read_image", "read_thumbnail"]

# Formats of photos (JPEG includes MPO). Not PostScript, for which Pillow starts Ghostscript.
PHOTO_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")
# Suffixes of their files.
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif"}
# More than the pixels of a full-frame camera; decoding needs up to 16 bytes per pixel (WebP).
MAX_PIXELS = 64_000_000
# More processes that read photos than any machine has cores for.
MAX_WORKERS = 1024

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# PNG stores the transparent colour with the bits of the file, but Pillow decodes to 8 bits.
_TRANSPARENT: dict[Any, Callable[[Any], Any]] = {
    "L;2": lambda level: 85 * level,
    "L;4": lambda level: 17 * level,
    "RGB;16B": lambda levels: tuple(level >> 8 for level in levels),
}


class ImageReadError(ValueError):
    """An image cannot be read; the message names it and the cause."""


def read_image(
    source: Any,
    size: int,
    *,
    crop: float = 1.0,
    interpolation: str = "bilinear",
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = PHOTO_FORMATS,
) -> NDArray[np.uint8]:
    """Read one image as RGB, upright, cropped to a square.

    Parameters
    ----------
    source : str, path-like, bytes, file object, dict, PIL image or ndarray of uint8
        An image file: its name, its bytes, the file open in binary mode (read
        from its start; its position stays), or a row
        ``{"bytes": ..., "path": ...}``, where the bytes are used if they are
        not None. Or pixels of shape (H, W, 3), (H, W, 4) or (H, W). From a
        file with several images, the first is read.
    size : int
        Side of the result in pixels. The shorter side is scaled to it
        (antialiased), and the longer side is cropped equally at both ends. An
        image that already has this size is not changed.
    crop : float in (0, 1], default=1.0
        Side of the square in the middle that is kept, as a share of the
        shorter side before scaling. 0.875 is "resize to 256, crop to 224".
    interpolation : {"bilinear", "bicubic", "lanczos", "hamming", "box", \
            "nearest"}, default="bilinear"
        Method of scaling.
    max_pixels : int, default=64000000
        An image with more pixels is refused before it is decoded: a small file
        can contain a huge image, which would need up to 16 bytes of memory per
        pixel. A JPEG much larger than needed is decoded at 1/2, 1/4 or 1/8 of
        its width and height, and this smaller size counts (unless it is
        progressive). Pillow also has its own limit,
        ``2 * PIL.Image.MAX_IMAGE_PIXELS``.
    formats : sequence of str, default=('JPEG', 'PNG', 'GIF', 'BMP', 'WEBP', 'TIFF', 'AVIF')
        Formats that a file may have, whatever its name is. With the plugin of
        pillow-heif: ``(*PHOTO_FORMATS, "HEIF")``.

    Returns
    -------
    ndarray of shape (size, size, 3), uint8
        The EXIF orientation is applied; grey, palette and CMYK images become
        RGB; 16 bits per channel become 8; transparent pixels become white.

    Raises
    ------
    ImageReadError
        If the file does not exist, is not a regular file (but a folder, a
        pipe, ...), is corrupt, truncated, too large or in another format, or
        has pixels that are floats or 32-bit integers.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash.images import read_image
    >>> read_image(np.zeros((30, 40), np.uint8), 16).shape
    (16, 16, 3)
    """
    check_scalar(size, "size", Integral, min_val=1)
    check_scalar(crop, "crop", Real, min_val=0, max_val=1, include_boundaries="right")
    method = resampling(interpolation)

    def cut(image: Image.Image) -> Image.Image:
        return ImageOps.fit(image, (size, size), method, bleed=(1 - crop) / 2)

    return _read(source, cut, ceil(size / crop), max_pixels, formats)


def resampling(interpolation: str) -> Image.Resampling:
    """The method of Pillow with a name."""
    names = [method.name.lower() for method in Image.Resampling]
    if interpolation not in names:
        raise ValueError(f"interpolation must be one of {names}, got {interpolation!r}.")
    return Image.Resampling[interpolation.upper()]


def read_thumbnail(
    source: Any,
    size: int,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = PHOTO_FORMATS,
) -> NDArray[np.uint8]:
    """Read one image as RGB, upright, in its own proportions.

    Parameters
    ----------
    source : str, path-like, bytes, file object, dict, PIL image or ndarray of uint8
        As for :func:`read_image`.
    size : int
        Largest length of the longer side of the result; a smaller image keeps
        its size.
    max_pixels : int, default=64000000
        As for :func:`read_image`.
    formats : sequence of str, default=('JPEG', 'PNG', 'GIF', 'BMP', 'WEBP', 'TIFF', 'AVIF')
        As for :func:`read_image`.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        As by :func:`read_image`.

    Raises
    ------
    ImageReadError
        As by :func:`read_image`.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash.images import read_thumbnail
    >>> read_thumbnail(np.zeros((30, 40), np.uint8), 16).shape
    (12, 16, 3)
    """
    check_scalar(size, "size", Integral, min_val=1)

    def shrink(image: Image.Image) -> Image.Image:
        if max(image.size) <= size:
            return image
        return ImageOps.contain(image, (size, size), Image.Resampling.BILINEAR)

    return _read(source, shrink, size, max_pixels, formats)


def _read(
    source: Any,
    scale: Callable[[Image.Image], Image.Image],
    size: int,
    max_pixels: int,
    formats: Sequence[str],
) -> NDArray[np.uint8]:
    check_scalar(max_pixels, "max_pixels", Integral, min_val=1)
    path = path_of(source)
    try:
        source = resolve(source)
        with open_photo(source, formats) as image:
            n_pixels = image.width * image.height
            if isinstance(source, str | os.PathLike | bytes):
                # A JPEG far larger than needed is decoded at a fraction of its size.
                image.draft(None, (2 * size, 2 * size))
                if not image.info.get("progressive"):  # a progressive one is decoded in full
                    n_pixels = image.width * image.height
                _mend_transparency(image)
            if n_pixels > max_pixels:
                raise ValueError(
                    f"it has {n_pixels:,} pixels, more than max_pixels={max_pixels:,}; pass a "
                    "larger max_pixels if you trust it."
                )
            return np.asarray(_to_rgb(image, scale))
    except Exception as error:  # Pillow's decoders raise OSError, ValueError, SyntaxError, ...
        name = repr(path) if path is not None else f"given as {kind_of(source)}"
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            cause = f"it is damaged, or in none of the formats {', '.join(formats)}."
        raise ImageReadError(f"cannot read image {name}: {cause}") from error


@contextmanager
def open_photo(source: Any, formats: Sequence[str] = PHOTO_FORMATS) -> Iterator[Image.Image]:
    """Open an image in any of the forms of :func:`resolve`, without decoding it.

    It may also be an open file at its start, which is closed at the end.
    """
    if isinstance(source, str | os.PathLike | bytes) or is_open_file(source):
        Image.init()
        known = [name for name in formats if name in Image.OPEN]  # not every Pillow has AVIF
        file = source
        if isinstance(source, bytes):
            file = io.BytesIO(source)
        elif isinstance(source, str | os.PathLike):
            file = open_regular(source)
        with file, Image.open(file, formats=known) as image:
            yield image
    elif isinstance(source, Image.Image):
        yield source
    elif isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim in (2, 3):
        yield Image.fromarray(source)
    else:
        raise TypeError(
            "an image must be a file, its bytes, a PIL image or an array of uint8, got "
            f"{kind_of(source)}."
        )


def resolve(image: Any) -> Any:
    """The path, bytes or pixels of an image; other values are returned as they are."""
    if is_row(image):
        content, path = image.get("bytes"), image.get("path")
        return path if content is None else resolve(content)
    if is_open_file(image):
        position = image.tell()
        image.seek(0)
        content = image.read()
        image.seek(position)
        if isinstance(content, str):
            raise TypeError("a file of an image must be open in binary mode: open(path, 'rb').")
        return content
    return bytes(image) if isinstance(image, bytearray | memoryview) else image


def is_row(image: Any) -> bool:
    """Whether this is a row of images of Hugging Face's datasets, not decoded."""
    return isinstance(image, dict) and ("bytes" in image or "path" in image)


def is_open_file(image: Any) -> bool:
    """Whether this is an open file, of any class."""
    return hasattr(image, "read") and hasattr(image, "seek") and hasattr(image, "tell")


def is_image(value: Any) -> bool:
    """Whether this is one image in some form, well-formed or not, rather than numbers."""
    forms = str | bytes | bytearray | memoryview | os.PathLike | Image.Image
    return (
        isinstance(value, forms)
        or is_row(value)
        or is_open_file(value)
        or (isinstance(value, np.ndarray) and value.ndim > 1)
    )


def path_of(image: Any) -> str | None:
    """The path of an image, for messages; None if it has none."""
    path = image.get("path") if is_row(image) else image
    return os.fspath(path) if isinstance(path, str | os.PathLike) else None


def kind_of(value: Any) -> str:
    """Description in messages of a value that is not an image."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return type(value).__name__


def _to_rgb(image: Image.Image, scale: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An image made upright, opaque and RGB, with as many steps as possible after scaling."""
    image.load()  # here Pillow turns TIFF upright, but no other format
    turn = None
    with suppress(Exception):  # photos with damaged EXIF data stay as they are
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    image = scale(_to_scalable(image))
    if image.mode in ("LA", "RGBA"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def _to_scalable(image: Image.Image) -> Image.Image:
    """An image in one of the modes L, LA, RGB and RGBA, whose values can be averaged."""
    if image.mode == "F":
        raise ValueError("its pixels are floats, which have no agreed white; save 8 or 16 bits.")
    if image.mode.startswith("I"):
        return Image.fromarray(_to_eight_bits(image))
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _to_eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Convert grey levels of 16 bits to 8; Pillow's own conversion would clip them at 255."""
    levels = np.asarray(image)
    if levels.dtype.itemsize > 2 and levels.size and not 0 <= levels.min() <= levels.max() < 2**16:
        raise ValueError(
            "its pixels are whole numbers of 32 bits, which have no agreed white; save 8 or 16 "
            "bits."
        )
    grey = (levels >> 8).astype(np.uint8)
    if "transparency" in image.info:
        grey[levels == image.info["transparency"]] = 255
    return grey


def _mend_transparency(image: Image.Image) -> None:
    """Convert the transparent colour of a PNG file to 8 bits, like its decoded pixels."""
    decoding = getattr(image, "tile", None)
    adapt = _TRANSPARENT.get(decoding[0][3]) if decoding and image.format == "PNG" else None
    if adapt is not None and "transparency" in image.info:
        image.info["transparency"] = adapt(image.info["transparency"])

"""The keywords of photos: in the file itself, beside it, or in an export of Flickr."""

from __future__ import annotations

import codecs
import json
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from defusedxml.ElementTree import fromstring
from PIL import Image, UnidentifiedImageError

from .._files import open_regular
from ..images import open_photo
from ..tags import MAX_TAG_LENGTH, clean_tag
from ._base import shorten

__all__ = ["Companions", "distinct", "read_keywords"]

# Most bytes of XMP, or of an export file, of one photo; masks of Lightroom need many of them.
_MAX_BYTES = 32 * 2**20
_MAX_KEYWORDS = 10_000  # of one photo
_MAX_CHUNKS = 1_000_000  # of a PNG; this many take a second

_DC = "{http://purl.org/dc/elements/1.1/}subject"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
# Keywords in levels: the property of each program, and its separator of levels.
_HIERARCHIES = {
    "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject": "|",
    "{http://www.digikam.org/ns/1.0/}TagsList": "/",
}
_XP_KEYWORDS, _TIFF_IPTC = 0x9C9E, 33723
_PHOTOSHOP_IPTC = 0x0404
_IPTC_CHARSET, _IPTC_KEYWORD = (1, 90), (2, 25)
# Python's names for the escape sequences of ISO 2022 in IPTC 1:90.
_CHARSETS = {b"\x1b%G": "utf-8", b"\x1b.A": "latin-1", b"\x1b-A": "latin-1"}
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_XMP = b"XML:com.adobe.xmp\0"

_FLICKR = re.compile(r"photo_(\d+)(?:_.*)?\.json", re.IGNORECASE)


class Companions:
    """Files with keywords of the photos beside them.

    Parameters
    ----------
    paths : iterable of Path
        Files of a folder and its subfolders for which :meth:`is_one` is true.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._sidecars: dict[str, Path] = {}
        self._exports: dict[str, Path] = {}
        for path in sorted(paths):
            if path.suffix.lower() == ".xmp":
                self._sidecars.setdefault(str(path.with_suffix("")), path)
            elif found := _FLICKR.fullmatch(path.name):
                self._exports.setdefault(found[1], path)

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether a file has the name of such a file."""
        return path.suffix.lower() == ".xmp" or _FLICKR.fullmatch(path.name) is not None

    def sidecars(self, photo: Path) -> list[Path]:
        """The files ``photo.xmp`` and ``photo.jpg.xmp`` of ``photo.jpg``."""
        names = (str(photo.with_suffix("")), str(photo))
        return [self._sidecars[name] for name in names if name in self._sidecars]

    def export(self, photo: Path) -> Path | None:
        """Flickr's file ``photo_ID.json`` of ``title_ID_o.jpg`` or ``ID_secret_o.jpg``."""
        # The number follows the title, which may contain numbers too.
        for word in reversed(photo.stem.split("_")):
            if word in self._exports:
                return self._exports[word]
        return None


def read_keywords(
    photo: Path, companions: Companions, hierarchy: str
) -> tuple[list[str], dict[str, str]]:
    """All keywords of a photo, and the problems in reading them.

    Parameters
    ----------
    photo : Path
        An image file. Its pixels are not decoded.
    companions : Companions
        Files that may belong to it.
    hierarchy : {"ignore", "levels", "path"}
        How to use subjects such as ``People|Family|Anna``.

    Returns
    -------
    keywords : list of str
        Distinct, in the order XMP, IPTC, Windows, sidecar, Flickr.
    problems : dict from str to str
        The cause for each source whose keywords are lost completely or partly.
    """
    problems: dict[str, str] = {}
    keywords: list[str] = []

    def collect(name: str, found: Iterable[str]) -> None:
        """Collect the keywords of a source until it ends or fails."""
        try:
            for keyword in found:
                if len(keyword) > MAX_TAG_LENGTH:
                    problems[name] = f"a keyword of {len(keyword)} characters, {shorten(keyword)}"
                    continue
                if len(keywords) == _MAX_KEYWORDS:
                    raise ValueError(f"more than {_MAX_KEYWORDS} keywords")
                keywords.append(keyword)
        except Exception as error:  # Pillow and XML raise any error on damaged files
            problems[name] = str(error) or type(error).__name__

    try:
        with open_regular(photo) as file:
            if file.read(len(_PNG)) == _PNG:
                collect("XMP", _png_keywords(file, hierarchy))
            else:
                file.seek(0)
                with open_photo(file) as image:
                    collect("XMP", _xmp_keywords(_xmp_packet(image), hierarchy))
                    collect("IPTC", _iptc_keywords(image))
                    collect("XPKeywords", _windows_keywords(image))
    except UnidentifiedImageError:
        problems["file"] = "it is damaged, or not in a format of photos"
    except Exception as error:
        problems["file"] = str(error) or type(error).__name__
    for sidecar in companions.sidecars(photo):
        collect(sidecar.name, _sidecar_keywords(sidecar, hierarchy))
    export = companions.export(photo)
    if export is not None:
        collect(export.name, _flickr_keywords(export))
    return distinct(keywords), problems


def distinct(tags: Iterable[str]) -> list[str]:
    """Distinct tags that are not empty, cleaned by :func:`skhash.tags.clean_tag`."""
    return list(dict.fromkeys(filter(None, map(clean_tag, tags))))


def _png_keywords(file: Any, hierarchy: str) -> Iterator[str]:
    """Yield the subjects of a PNG that is open after its signature.

    Some programs write them after the pixels, where Pillow finds them only by decoding the pixels.
    """
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">L4s", head)
        start = file.tell()
        if kind == b"iTXt" and size > len(_PNG_XMP) and file.read(len(_PNG_XMP)) == _PNG_XMP:
            _check_size(size)
            body = file.read(size - len(_PNG_XMP))
            _language, _, rest = body[2:].partition(b"\0")
            _translation, _, text = rest.partition(b"\0")
            if body[:1] == b"\1":
                inflater = zlib.decompressobj()
                text = inflater.decompress(text, _MAX_BYTES)
                _check_size(_MAX_BYTES + len(inflater.unconsumed_tail))
            yield from _xmp_keywords(text, hierarchy)
            return  # a file has only one packet
        file.seek(start + size + 4)
    raise ValueError(f"more than {_MAX_CHUNKS} chunks")


def _xmp_packet(image: Image.Image) -> bytes:
    packet = image.info.get("xmp") or b""
    return packet.encode() if isinstance(packet, str) else packet


def _iptc_block(image: Image.Image) -> bytes:
    if image.format != "TIFF":
        return image.info.get("photoshop", {}).get(_PHOTOSHOP_IPTC, b"")
    # Photoshop stores these bytes as 32-bit numbers, of which Pillow returns only the first.
    fields: Any = image
    return fields.tag_v2._tagdata.get(_TIFF_IPTC, b"")


def _check_size(size: int) -> None:
    if size > _MAX_BYTES:
        raise ValueError(f"it takes more than {_MAX_BYTES // 2**20} MiB")


def _xmp_keywords(packet: bytes, hierarchy: str) -> Iterator[str]:
    """Yield the subjects of a packet in any form of RDF."""
    _check_size(len(packet))
    if not packet.startswith(_UTF_16):
        packet = packet.strip(b"\0 \t\r\n")
    if not packet:
        return
    # Entities are refused: a few lines of them can make gigabytes or read other files.
    tree = fromstring(packet, forbid_dtd=True)
    for element in tree.iter():
        yield from _values(element, _DC)
    if hierarchy == "ignore":
        return
    for element in tree.iter():
        for name, separator in _HIERARCHIES.items():
            for path in _values(element, name):
                words = [word.strip() for word in path.split(separator)]
                yield from words if hierarchy == "levels" else ["|".join(words)]


def _values(element: Any, name: str) -> Iterator[str]:
    """Yield the values of a property of an element: the items of a bag, or a single value."""
    if name in element.attrib:
        yield element.attrib[name]
    if element.tag == name:
        items = [item.text or "" for bag in element for item in bag if item.tag == _RDF + "li"]
        yield from items or [element.text or ""]


def _iptc_keywords(image: Image.Image) -> Iterator[str]:
    """Yield the keywords of IPTC's Information Interchange Model."""
    block, charset, place = _iptc_block(image), b"", 0
    _check_size(len(block))
    while place < len(block):
        if block[place] != 0x1C:
            if not block[place:].strip(b"\0"):  # padding
                return
            raise ValueError(f"no data set at byte {place}")
        if place + 5 > len(block):
            raise ValueError("truncated")
        dataset = block[place + 1], block[place + 2]
        (size,) = struct.unpack_from(">H", block, place + 3)
        place += 5
        if size & 0x8000:  # the low bits say how many bytes hold the length
            n_bytes = size & 0x7FFF
            size = int.from_bytes(block[place : place + min(n_bytes, 8)])
            place += n_bytes
        value = block[place : place + size]
        if len(value) < size or place > len(block):
            raise ValueError("truncated")
        place += size
        if dataset == _IPTC_CHARSET:
            charset = value
        elif dataset == _IPTC_KEYWORD:
            yield _decode_iptc(value, charset)


def _decode_iptc(value: bytes, charset: bytes) -> str:
    """Text in the character set of its block; without one, programs write UTF-8 or Latin-1."""
    if charset:
        if charset not in _CHARSETS:
            raise ValueError(f"unknown character set {charset!r}")
        return value.decode(_CHARSETS[charset])
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _windows_keywords(image: Image.Image) -> Iterator[str]:
    """Yield the keywords of Windows: UTF-16, separated by semicolons, with zero at the end."""
    value = image.getexif().get(_XP_KEYWORDS)
    if value is None:
        return
    if not isinstance(value, bytes):
        raise ValueError(f"expected bytes, got {shorten(value)}")
    _check_size(len(value))
    yield from value[: len(value) // 2 * 2].decode("utf-16-le").partition("\0")[0].split(";")


def _sidecar_keywords(path: Path, hierarchy: str) -> Iterator[str]:
    yield from _xmp_keywords(_read_bytes(path), hierarchy)


def _flickr_keywords(path: Path) -> Iterator[str]:
    """Yield the tags of a photo in the export of a Flickr account."""
    record = json.loads(_read_bytes(path))
    tags = record.get("tags", []) if isinstance(record, dict) else None
    if not isinstance(tags, list):
        raise ValueError(f"expected an object with a list of tags, got {shorten(record)}")
    for tag in tags:
        word = tag.get("tag") if isinstance(tag, dict) else tag
        if not isinstance(word, str):
            raise ValueError(f"expected a tag, got {shorten(tag)}")
        yield word


def _read_bytes(path: Path) -> bytes:
    with open_regular(path) as file:
        content = file.read(_MAX_BYTES + 1)
    _check_size(len(content))
    return content

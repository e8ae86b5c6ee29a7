"""Keywords that photos carry, in files written here in each of their forms."""

import json
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from skhash.datasets import load_tagged_images
from skhash.datasets._keywords import Companions, read_keywords

PIXELS = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
LR = "http://ns.adobe.com/lightroom/1.0/"
DIGIKAM = "http://www.digikam.org/ns/1.0/"


def bag(name, words, kind="Bag"):
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
    return f"<{name}><rdf:{kind}>{items}</rdf:{kind}></{name}>"


def xmp(*words, more="", body=None, head=""):
    body = bag("dc:subject", words) + more if body is None else body
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{head}'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">'
        f'<rdf:Description rdf:about="" xmlns:dc="{DC}" xmlns:lr="{LR}" '
        f'xmlns:digiKam="{DIGIKAM}">{body}</rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()


def dataset(record, number, value):
    return struct.pack(">BBBH", 0x1C, record, number, len(value)) + value


def iptc(*words, charset=b"\x1b%G"):
    marker = dataset(1, 90, charset) if charset else b""
    return marker + b"".join(dataset(2, 25, word) for word in words)


def jpeg_with_iptc(path, block):
    resource = (
        b"8BIM\x04\x04\0\0" + struct.pack(">L", len(block)) + block + b"\0" * (len(block) % 2)
    )
    segment = b"Photoshop 3.0\0" + resource
    PIXELS.save(path, "JPEG")
    content = path.read_bytes()
    app13 = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    path.write_bytes(content[:2] + app13 + content[2:])


def windows(text):
    exif = Image.Exif()
    exif[0x9C9E] = text if isinstance(text, bytes) else (text + "\0").encode("utf-16-le")
    return exif


def png_with_chunk(path, kind, body, *, late):
    """A PNG with a chunk before its pixels, or behind them as exiftool writes it."""
    PIXELS.save(path, "PNG")
    content = path.read_bytes()
    chunk = struct.pack(">L", len(body)) + kind + body
    chunk += struct.pack(">L", zlib.crc32(kind + body))
    place = len(content) - 12 if late else 33
    path.write_bytes(content[:place] + chunk + content[place:])


def write_jpeg(path, packet):
    PIXELS.save(path, "JPEG", xmp=packet)


def write_webp(path, packet):
    PIXELS.save(path, "WEBP", xmp=packet)


def write_tiff(path, packet):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[700] = packet
    info.tagtype[700] = 1
    PIXELS.save(path, "TIFF", tiffinfo=info)


def write_png(path, packet):
    png_with_chunk(path, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet, late=False)


def write_png_late(path, packet):
    body = b"XML:com.adobe.xmp\0\0\0en\0translated\0" + packet
    png_with_chunk(path, b"iTXt", body, late=True)


def write_png_compressed(path, packet):
    body = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet)
    png_with_chunk(path, b"iTXt", body, late=False)


def write_sidecar(path, packet):
    PIXELS.save(path, "JPEG")
    path.with_suffix(".xmp").write_bytes(packet)


def write_full_sidecar(path, packet):
    PIXELS.save(path, "JPEG")
    path.with_name(path.name + ".XMP").write_bytes(packet)


CARRIERS = [
    ("a.jpg", write_jpeg),
    ("a.webp", write_webp),
    ("a.tif", write_tiff),
    ("a.png", write_png),
    ("a.png", write_png_late),
    ("a.png", write_png_compressed),
    ("a.jpg", write_sidecar),
    ("a.jpg", write_full_sidecar),
]
every_carrier = pytest.mark.parametrize(
    ("name", "write"), CARRIERS, ids=lambda value: getattr(value, "__name__", "")
)


def keywords_of(folder, **options):
    """The keywords of the only photo in a folder, without any problem."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_tagged_images(folder, **options)
    assert data.damaged_keywords == {}
    (tags,) = data.tags
    return tags


@every_carrier
def test_subjects_of_xmp_are_read_wherever_it_stands(tmp_path, name, write):
    write(tmp_path / name, xmp("sea", "caf\u00e9", " new  york ", "sea", ""))
    assert keywords_of(tmp_path) == ["sea", "café", "new york"]


@pytest.mark.parametrize(
    "body",
    [
        bag("dc:subject", ["sea", "sky"], "Seq"),
        bag("dc:subject", ["sea", "sky"], "Alt"),
        f'<dc:subject xmlns:dc="{DC}">sea</dc:subject>' + bag("dc:subject", ["sky"]),
        "\n  <dc:subject>\n <rdf:Bag>\n <rdf:li>sea</rdf:li>\n<rdf:li>sky</rdf:li></rdf:Bag>\n"
        "</dc:subject>",
        f'<a:subject xmlns:a="{DC}"><b:Bag xmlns:b="{RDF}"><b:li>sea</b:li><b:li>sky</b:li></b:Bag>'
        "</a:subject>",
    ],
)
def test_every_way_of_rdf_to_write_a_list_is_read(tmp_path, body):
    write_jpeg(tmp_path / "a.jpg", xmp(body=body))
    assert keywords_of(tmp_path) == ["sea", "sky"]


def test_a_subject_may_be_an_attribute(tmp_path):
    packet = xmp(body="").replace(b'rdf:about=""', b'rdf:about="" dc:subject="sea"')
    write_jpeg(tmp_path / "a.jpg", packet)
    assert keywords_of(tmp_path) == ["sea"]


@pytest.mark.parametrize("body", ["", bag("dc:subject", []), "<dc:subject/>"])
def test_no_subject_is_no_keyword(tmp_path, body):
    write_jpeg(tmp_path / "a.jpg", xmp(body=body) + b" \n\0\0\0")
    assert keywords_of(tmp_path) == []


def test_sidecars_may_be_in_utf_16(tmp_path):
    packet = xmp("caf\u00e9").decode().replace("<?xpacket", '<?xml version="1.0"?><?xpacket', 1)
    write_sidecar(tmp_path / "a.jpg", packet.encode("utf-16"))
    assert keywords_of(tmp_path) == ["café"]


@pytest.mark.parametrize("kind", ["lr:hierarchicalSubject", "digiKam:TagsList"])
def test_keywords_in_levels_are_an_option(tmp_path, kind):
    separator = "|" if kind.startswith("lr") else "/"
    paths = [separator.join(("People", "Family", "Anna")), "Sea"]
    write_jpeg(tmp_path / "a.jpg", xmp("Anna", more=bag(kind, paths)))
    assert keywords_of(tmp_path) == ["Anna"]
    assert keywords_of(tmp_path, hierarchy="levels") == ["Anna", "People", "Family", "Sea"]
    assert keywords_of(tmp_path, hierarchy="path") == ["Anna", "People|Family|Anna", "Sea"]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (iptc("café".encode(), b"sea"), ["café", "sea"]),
        (iptc("café".encode("latin-1"), charset=b"\x1b.A"), ["café"]),
        (iptc("café".encode("latin-1"), charset=None), ["café"]),
        (iptc("café".encode(), charset=None), ["café"]),
        # A mark of Latin-1 holds, even where the bytes would do for UTF-8.
        (iptc("Ã©".encode("latin-1"), charset=b"\x1b.A"), ["Ã©"]),
        (iptc(b"sea", b"sea", b"", b"  "), ["sea"]),
        (dataset(2, 120, b"a caption") + iptc(b"sea") + b"\0\0\0", ["sea"]),
        (iptc() + struct.pack(">BBBHL", 0x1C, 2, 25, 0x8004, 3) + b"sea", ["sea"]),
        (b"", []),
    ],
)
def test_keywords_of_iptc_follow_their_character_set(tmp_path, block, expected):
    jpeg_with_iptc(tmp_path / "a.jpg", block)
    assert keywords_of(tmp_path) == expected


@pytest.mark.parametrize("as_numbers", [True, False])
def test_iptc_in_a_tiff_is_bytes_or_numbers_of_32_bits(tmp_path, as_numbers):
    block = iptc("café".encode())
    block += b"\0" * (-len(block) % 4)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[33723] = block
    info.tagtype[33723] = 7
    path = tmp_path / "a.tif"
    PIXELS.save(path, "TIFF", tiffinfo=info)
    if as_numbers:
        of_bytes = struct.pack("<HHL", 33723, 7, len(block))
        assert path.read_bytes().count(of_bytes) == 1
        of_numbers = struct.pack("<HHL", 33723, 4, len(block) // 4)
        path.write_bytes(path.read_bytes().replace(of_bytes, of_numbers))
    assert keywords_of(tmp_path) == ["café"]


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif"])
@pytest.mark.parametrize(
    "text", ["sea;café; new york ;;sea", "sea;café;new york".encode("utf-16-le") + b"\0" * 7]
)
def test_keywords_of_windows_are_read(tmp_path, suffix, text):
    PIXELS.save(tmp_path / f"a.{suffix}", exif=windows(text))
    assert keywords_of(tmp_path) == ["sea", "café", "new york"]


@pytest.mark.parametrize(
    ("photo", "export"),
    [
        ("img_0001_5012345678_o.jpg", "photo_5012345678.json"),
        ("5012345678_a1b2c3d4e5_o.jpg", "photo_5012345678.json"),
        ("sunset-2011_5012345678_o.png", "meta/photo_5012345678.json"),
        ("5012345678.jpg", "photo_5012345678_a1b2.json"),
    ],
)
def test_the_export_of_flickr_is_found_by_its_number(tmp_path, photo, export):
    (tmp_path / "meta").mkdir()
    (tmp_path / "photos").mkdir()
    record = {"id": "5012345678", "tags": [{"tag": "sea", "user": "1@N00"}, {"tag": "new york"}]}
    (tmp_path / export).write_text(json.dumps(record))
    (tmp_path / "photo_0001.json").write_text(json.dumps({"id": "0001", "tags": [{"tag": "no"}]}))
    (tmp_path / "albums.json").write_text("[]")
    PIXELS.save(tmp_path / "photos" / photo)
    assert keywords_of(tmp_path) == ["sea", "new york"]


def test_all_places_together_give_each_keyword_once_in_their_order(tmp_path):
    path = tmp_path / "x_77_o.jpg"
    PIXELS.save(path, "JPEG", xmp=xmp("embedded", "sea"), exif=windows("windows;sea"))
    content = path.read_bytes()
    jpeg_with_iptc(path, iptc(b"iptc", b"embedded"))
    with_iptc = path.read_bytes()
    start = with_iptc.index(b"\xff\xed")
    (size,) = struct.unpack_from(">H", with_iptc, start + 2)
    path.write_bytes(content[:2] + with_iptc[start : start + 2 + size] + content[2:])
    (tmp_path / "x_77_o.xmp").write_bytes(xmp("sidecar", "iptc"))
    (tmp_path / "photo_77.json").write_text('{"tags": ["flickr", "sea"]}')
    expected = ["embedded", "sea", "iptc", "windows", "sidecar", "flickr"]
    assert keywords_of(tmp_path) == expected


def test_all_photos_of_a_folder_come_in_order(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.jpg", "a.jpg", "sub/c.jpg"):
        write_jpeg(tmp_path / name, xmp(name[0]))
    data = load_tagged_images(tmp_path)
    assert data.images.tolist() == [
        str(tmp_path / name) for name in ("a.jpg", "b.jpg", "sub/c.jpg")
    ]
    assert data.tags.tolist() == [["a"], ["b"], ["s"]]
    assert data.tag_names.tolist() == ["a", "b", "s"]
    assert data.labels is None and "their own keywords" in data.DESCR
    assert load_tagged_images(tmp_path, keywords=False).tags.tolist() == [[], [], []]


def test_a_table_comes_first_and_keywords_can_follow(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        write_jpeg(tmp_path / name, xmp("sea", name[0]))
    (tmp_path / "tags.csv").write_text("file,tags\na.jpg,sky\n")
    table = tmp_path / "tags.csv"
    assert load_tagged_images(tmp_path, table).tags.tolist() == [["sky"]]
    data = load_tagged_images(tmp_path, table, keywords=True, unlisted_images="untagged")
    assert data.tags.tolist() == [["sky", "sea", "a"], ["sea", "b"]]


def test_no_pixels_are_decoded(tmp_path, monkeypatch):
    for name, write in dict(CARRIERS).items():
        write(tmp_path / name, xmp("sea"))
    write_png_late(tmp_path / "late.png", xmp("sea"))

    def fail(*args, **kwargs):
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    data = load_tagged_images(tmp_path)
    assert data.damaged_keywords == {}
    assert data.tags.tolist() == [["sea"]] * 5


LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    + "]>"
)
DAMAGED = {
    "laughs": xmp("&a11;", head=LAUGHS),
    "file": xmp("&f;", head='<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'),
    "network": xmp("sea", head='<!DOCTYPE x SYSTEM "http://localhost:9/x.dtd">'),
    "torn": xmp("sea")[:-90],
    "not XML": b"\x00\x01 no XML at all",
    "not UTF-8": xmp("sea").replace(b"sea", b"s\xff\xfea"),
    "encoding": b'<?xml version="1.0" encoding="no-such"?>' + xmp("sea"),
    "long": xmp("x" * 5000),
}


@every_carrier
@pytest.mark.parametrize("packet", DAMAGED.values(), ids=DAMAGED)
def test_damaged_xmp_costs_its_keywords_and_not_the_photo(tmp_path, name, write, packet):
    (tmp_path / "sub").mkdir()
    write(tmp_path / name, packet)
    write_jpeg(tmp_path / "sub/whole.jpg", xmp("sky"))
    with pytest.warns(UserWarning, match=rf"1 photos have damaged keywords: .*{name}"):
        data = load_tagged_images(tmp_path)
    assert data.tags.tolist() == [[], ["sky"]]
    assert list(data.damaged_keywords) == [str(tmp_path / name)]
    with pytest.raises(ValueError, match=rf"{name}.*on_error='skip'"):
        load_tagged_images(tmp_path, on_error="raise")


@pytest.mark.parametrize(
    ("block", "kept", "cause"),
    [
        (iptc(b"sea", b"sky")[:-1], ["sea"], "truncated"),
        (iptc(b"sea") + b"\x1c\x02", ["sea"], "truncated"),
        (iptc(b"sea") + b"garbage", ["sea"], "no data set at byte"),
        (
            iptc(b"sea") + struct.pack(">BBBHL", 0x1C, 2, 25, 0x8004, 2**32 - 1),
            ["sea"],
            "truncated",
        ),
        (iptc(b"sea") + struct.pack(">BBBH", 0x1C, 2, 25, 0xFFFF), ["sea"], "truncated"),
        (iptc(b"s\xffa"), [], "decode"),
        (iptc(b"sea", charset=b"\x1b-L"), [], "character set"),
        (iptc(b"sea", b"x" * 2000, b"sky"), ["sea", "sky"], "2000 characters"),
    ],
)
def test_damaged_iptc_costs_only_what_is_damaged(tmp_path, block, kept, cause):
    path = tmp_path / "a.jpg"
    jpeg_with_iptc(path, block)
    keywords, problems = read_keywords(path, Companions([]), "ignore")
    assert keywords == kept
    assert cause in problems["IPTC"]


def test_damage_in_one_place_does_not_cost_the_others(tmp_path):
    path = tmp_path / "x_77_o.jpg"
    PIXELS.save(path, "JPEG", xmp=b"<torn", exif=windows("windows"))
    path.with_suffix(".xmp").write_bytes(b"<torn")
    (tmp_path / "photo_77.json").write_text('{"tags": [{"tag": "flickr"}, {"tag": 3}]}')
    keywords, problems = read_keywords(path, Companions(tmp_path.iterdir()), "ignore")
    assert keywords == ["windows", "flickr"]
    assert set(problems) == {"XMP", "x_77_o.xmp", "photo_77.json"}
    path.write_bytes(b"no image")
    (tmp_path / "photo_77.json").write_text("[" * 100_000)
    path.with_suffix(".xmp").write_bytes(xmp("sea"))
    keywords, problems = read_keywords(path, Companions(tmp_path.iterdir()), "ignore")
    assert keywords == ["sea"]
    assert set(problems) == {"file", "photo_77.json"}


def test_large_and_deep_packets_end_soon(tmp_path):
    path = tmp_path / "a.jpg"
    many = "".join(f"<rdf:li>w{i}</rdf:li>" for i in range(50_000))
    nested = "<dc:subject>" * 50_000 + "</dc:subject>" * 50_000
    for body, n_kept in (
        (f"<dc:subject><rdf:Bag>{many}</rdf:Bag></dc:subject>", 10_000),
        (nested, 0),
    ):
        write_sidecar(path, xmp(body=body))
        keywords, problems = read_keywords(path, Companions(tmp_path.iterdir()), "levels")
        assert len(keywords) == n_kept
        assert "more than 10000 keywords" in str(problems)
    bomb = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(40 * 2**20))
    png_with_chunk(tmp_path / "b.png", b"iTXt", bomb, late=True)
    _, problems = read_keywords(tmp_path / "b.png", Companions([]), "ignore")
    assert "more than 32 MiB" in problems["XMP"]
    with open(path.with_suffix(".xmp"), "wb") as file:
        file.truncate(2**36)  # no block of it is on the disk
    _, problems = read_keywords(path, Companions(tmp_path.iterdir()), "ignore")
    assert "more than 32 MiB" in problems["a.xmp"]


def test_a_png_of_nothing_but_chunks_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("skhash.datasets._keywords._MAX_CHUNKS", 50)
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(12 * 60))
    assert read_keywords(path, Companions([]), "ignore") == ([], {"XMP": "more than 50 chunks"})
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(12 * 40))
    assert read_keywords(path, Companions([]), "ignore") == ([], {})


def test_random_damage_never_breaks_the_load(tmp_path, rng):
    (tmp_path / "photos").mkdir()
    for i, (name, write) in enumerate(CARRIERS):
        path = tmp_path / "photos" / f"{i}{name}"
        write(path, xmp("sea", "sky", more=bag("lr:hierarchicalSubject", ["a|b"])))
    jpeg_with_iptc(tmp_path / "photos/iptc.jpg", iptc(b"sea", b"sky"))
    PIXELS.save(tmp_path / "photos/windows.jpg", exif=windows("sea;sky"))
    paths = sorted((tmp_path / "photos").iterdir())
    wholes = [path.read_bytes() for path in paths]
    n_photos = len([path for path in paths if path.suffix.lower() != ".xmp"])
    for trial in range(40):
        for path, whole in zip(paths, wholes, strict=True):
            content = bytearray(whole)
            for place in rng.integers(len(whole), size=1 + trial % 4):
                content[place] = rng.integers(256)
            path.write_bytes(content[: None if trial % 3 else 1 + rng.integers(len(whole))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = load_tagged_images(tmp_path, hierarchy="levels")
        assert len(data.images) == n_photos


def test_what_is_no_file_of_the_folder_is_not_read(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    PIXELS.save(folder / "a_77_o.jpg")
    (tmp_path / "secret.xmp").write_bytes(xmp("secret"))
    (tmp_path / "secret.json").write_text('{"tags": ["secret"]}')
    (folder / "a_77_o.xmp").symlink_to(tmp_path / "secret.xmp")
    (folder / "photo_77.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(folder / "a_77_o.jpg.xmp")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "again").symlink_to(folder)
    assert keywords_of(folder) == []
    assert load_tagged_images(folder, follow_links=True).tags.tolist() == [["secret"]]


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no images.*\.jpg"):
        load_tagged_images(tmp_path)

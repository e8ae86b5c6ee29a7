import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, features

from skhash.images import ImageReadError, read_image, read_thumbnail
from skhash.networks._images import Images


@pytest.fixture
def photo(rng):
    """Pixels of an upright image, smooth enough for any codec."""
    corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(corners).resize((16, 16), Image.Resampling.BILINEAR))


def test_an_image_of_the_right_size_is_left_alone(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), photo, Image.fromarray(photo)):
        np.testing.assert_array_equal(read_image(source, 16), photo)


def test_the_middle_is_cut_out_and_scaled_to_the_size():
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    assert (read_image(wide, 8) == 200).all()
    assert (read_image(wide.transpose(1, 0, 2), 8) == 200).all()
    assert read_image(wide, 31).shape == (31, 31, 3)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, -1)),
    ],
)
def test_the_exif_orientation_is_applied(photo, tmp_path, orientation, stored):
    image = Image.fromarray(np.ascontiguousarray(stored(photo)))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 16), photo)


def test_grey_images_get_three_equal_channels(photo, tmp_path):
    grey = photo[:, :, 0]
    for suffix in ("png", "tiff"):
        Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
        np.testing.assert_array_equal(
            read_image(tmp_path / f"a.{suffix}", 16), np.repeat(grey[:, :, None], 3, axis=2)
        )


def test_sixteen_bits_become_eight(photo, tmp_path):
    grey = photo[:, :, 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 16)[:, :, 1], grey)


def test_what_is_transparent_turns_white(photo, tmp_path):
    alpha = np.full((16, 16, 1), 255, np.uint8)
    alpha[:8] = 0
    expected = photo.copy()
    expected[:8] = 255
    Image.fromarray(np.concatenate([photo, alpha], axis=2)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png", 16), expected)
    grey = np.concatenate([photo[:, :, :1], alpha], axis=2)
    Image.fromarray(grey).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png", 16)[:, :, 0], expected[:, :, 0])


def test_palettes_are_looked_up(tmp_path):
    index = np.arange(16, dtype=np.uint8).reshape(4, 4) % 3
    palette = np.array([[255, 0, 0], [0, 128, 0], [9, 9, 9]], np.uint8)
    image = Image.fromarray(index, mode="P")
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 4), palette[index])
    image.save(tmp_path / "b.png", transparency=0)
    palette[0] = 255
    np.testing.assert_array_equal(read_image(tmp_path / "b.png", 4), palette[index])


def test_cmyk_becomes_rgb(photo, tmp_path):
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "a.tiff")
    np.testing.assert_allclose(read_image(tmp_path / "a.tiff", 16), photo.astype(int), atol=2)


def test_a_large_jpeg_is_scaled_as_a_small_one(photo, tmp_path):
    large = Image.fromarray(photo).resize((640, 640), Image.Resampling.BICUBIC)
    large.save(tmp_path / "a.jpg", quality=95)
    expected = np.asarray(large.resize((16, 16), Image.Resampling.BILINEAR)).astype(int)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg", 16), expected, atol=6)


def png(levels, depth, *, channels=1, **chunks):
    """A PNG file, with chunks besides its own; Pillow writes no such ones."""
    color = {1: 0, 3: 2}[channels]
    height, width = len(levels), len(levels[0]) // channels
    if depth == 16:
        rows = [struct.pack(f">{len(row)}H", *row) for row in levels]
    else:
        bits = ["".join(f"{level:0{depth}b}" for level in row) for row in levels]
        rows = [
            bytes(int(b[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(b), 8)) for b in bits
        ]
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = {"IHDR": header, **chunks, "IDAT": data, "IEND": b""}
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in parts.items():
        body = name.encode() + body
        content += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return content


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_turns_white_at_any_depth(tmp_path, depth):
    top = 2**depth - 1
    (tmp_path / "a.png").write_bytes(png([[0, top], [0, 0]], depth, tRNS=struct.pack(">H", 0)))
    assert (read_image(tmp_path / "a.png", 2) == 255).all()
    if depth == 16:  # levels that differ in their low bits only
        (tmp_path / "a.png").write_bytes(png([[1, 0], [1, 1]], depth, tRNS=struct.pack(">H", 0)))
        assert read_image(tmp_path / "a.png", 2)[:, :, 0].tolist() == [[0, 255], [0, 0]]
    elif depth > 1:
        (tmp_path / "a.png").write_bytes(png([[1, 0], [1, 0]], depth, tRNS=struct.pack(">H", 1)))
        assert read_image(tmp_path / "a.png", 2)[:, :, 0].tolist() == [[255, 0], [255, 0]]


def test_sixteen_bits_of_three_colours_become_eight(tmp_path):
    levels = [[257 * 200, 257 * 9, 300, 257 * 7, 257 * 8, 257 * 9]] * 2
    for chunks, right in (
        ({}, [7, 8, 9]),
        ({"tRNS": struct.pack(">3H", *levels[0][3:])}, [255] * 3),
    ):
        (tmp_path / "a.png").write_bytes(png(levels, 16, channels=3, **chunks))
        pixels = read_image(tmp_path / "a.png", 2)
        assert pixels.tolist() == [[[200, 9, 1], right]] * 2


@pytest.mark.parametrize("level", [-1.0, 0.5, np.nan, 300.0])
def test_floats_are_refused(tmp_path, level):
    Image.fromarray(np.full((4, 4), level, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(ImageReadError, match=r"a\.tiff.*floats"):
        read_image(tmp_path / "a.tiff", 4)


def test_whole_numbers_of_32_bits_are_refused_unless_they_need_but_16(tmp_path):
    Image.fromarray(np.full((4, 4), 7 * 257, np.int32)).save(tmp_path / "a.tiff")
    assert (read_image(tmp_path / "a.tiff", 4) == 7).all()
    for level in (-1, 2**16):
        Image.fromarray(np.full((4, 4), level, np.int32)).save(tmp_path / "a.tiff")
        with pytest.raises(ImageReadError, match=r"a\.tiff.*32 bits"):
            read_image(tmp_path / "a.tiff", 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_applied_once(tmp_path, orientation):
    # The first row and column that are stored, as the standard numbers them.
    stored = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    turned = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.T, 6: np.rot90(stored, -1), 7: np.rot90(stored, 2).T, 8: np.rot90(stored),
    }  # fmt: skip
    Image.fromarray(stored).save(tmp_path / "a.tiff", tiffinfo={0x0112: orientation})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tiff", 4)[:, :, 0], turned[orientation])


def test_torn_exif_data_does_not_cost_the_photo(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png", exif=b"Exif\0\0nonsense")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 16), photo)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_of_several_images_in_a_file_the_first_counts(tmp_path, suffix):
    if suffix == "webp" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    frames = [Image.new("RGB", (8, 8), color) for color in ("white", "black", "red")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / f"a.{suffix}", 8) == 255).all()


def test_the_inverted_cmyk_of_adobe_comes_out_right(photo, tmp_path):
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg", 16), photo.astype(int), atol=8)


def test_images_of_one_pixel_across_are_read():
    line = np.arange(100_000, dtype=np.uint32).astype(np.uint8)[None]
    middle = line[0, 49_999:50_001].mean()
    for pixels in (line, line.T):
        assert abs(read_image(pixels, 8).astype(int) - middle).max() <= 2


def test_an_image_in_memory_is_left_as_it_is(photo):
    image = Image.fromarray(photo).quantize(8)
    image.info["transparency"] = 3
    before = image.tobytes(), dict(image.info), image.mode, image.size
    read_image(image, 4)
    assert (image.tobytes(), dict(image.info), image.mode, image.size) == before


def test_larger_images_than_allowed_are_refused_before_they_are_decoded(tmp_path):
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    code = (
        "import sys, resource\nfrom skhash.images import read_image, ImageReadError\n"
        "limit = 2**20 * 300 + int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try:\n    read_image(sys.argv[1], 8)\n"
        "except ImageReadError as error:\n    print(error)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "bomb.png")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bomb.png': it has 144,000,000 pixels, more than max_pixels=64,000,000" in run.stdout


def test_the_limit_is_a_parameter(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", photo, Image.fromarray(photo)):
        assert read_image(source, 8, max_pixels=256).shape == (8, 8, 3)
        with pytest.raises(ImageReadError, match="256 pixels, more than max_pixels=255"):
            read_image(source, 8, max_pixels=255)
        with pytest.raises(ValueError, match="max_pixels"):
            read_image(source, 8, max_pixels=0)
    images = Images([tmp_path / "a.png", photo[:8, :8]], 8, skip_unreadable=True, max_pixels=100)
    for some, expected in ((images, [False, True]), (images.take(np.array([1, 0])), [True, False])):
        assert some.__getitems__([0, 1])[1].tolist() == expected


@pytest.mark.parametrize("progressive", [False, True])
def test_of_a_jpeg_the_pixels_count_that_are_decoded(tmp_path, progressive):
    Image.new("RGB", (640, 640), "red").save(tmp_path / "a.jpg", progressive=progressive)
    if progressive:  # all of it is in memory while it is decoded
        with pytest.raises(ImageReadError, match="409,600 pixels"):
            read_image(tmp_path / "a.jpg", 40, max_pixels=80 * 80)
    else:
        assert read_image(tmp_path / "a.jpg", 40, max_pixels=80 * 80).shape == (40, 40, 3)


def test_no_other_program_is_started_for_a_photo(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    script = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    (tmp_path / "x.jpg").write_text(script)
    with pytest.raises(ImageReadError, match=r"x\.jpg.*none of the formats JPEG, PNG"):
        read_image(tmp_path / "x.jpg", 8)
    assert not (tmp_path / "started").exists()


def test_formats_are_a_parameter(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.ppm")
    with pytest.raises(ImageReadError, match="none of the formats"):
        read_image(tmp_path / "a.ppm", 16)
    np.testing.assert_array_equal(read_image(tmp_path / "a.ppm", 16, formats=["PPM"]), photo)
    Image.fromarray(photo).save(tmp_path / "a.png")
    with pytest.raises(ImageReadError, match="none of the formats"):
        read_image(tmp_path / "a.png", 16, formats=["PPM", "UNKNOWN"])


def test_what_is_no_regular_file_is_refused_at_once(photo, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    Image.fromarray(photo).save(tmp_path / "good.png")
    (tmp_path / "link.png").symlink_to("good.png")
    np.testing.assert_array_equal(read_image(tmp_path / "link.png", 16), photo)
    causes = {"pipe": "a named pipe", "folder": "a folder", "device": "a device", "circle": "links"}
    for name, cause in causes.items():
        with pytest.raises(ImageReadError, match=f"{name}.jpg.*{cause}"):
            read_image(tmp_path / f"{name}.jpg", 8)
        assert Images([tmp_path / f"{name}.jpg"], 8).key(0) == b""
    with pytest.raises(ImageReadError, match="null"):
        read_image("a\0.jpg", 8)


def test_huge_texts_and_profiles_are_an_error(tmp_path):
    for name, head in (("zTXt", b"Comment\0\0"), ("iCCP", b"p\0\0")):
        bomb = head + zlib.compress(bytes(100 << 20), 9)
        (tmp_path / "a.png").write_bytes(png([[0]], 8, **{name: bomb}))
        with pytest.raises(ImageReadError, match=r"a\.png"):
            read_image(tmp_path / "a.png", 8)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL", "ignore:Image size")
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "tiff"])
def test_damaged_files_are_read_or_named(photo, tmp_path, rng, suffix):
    if suffix == "webp" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    stream = io.BytesIO()
    image = Image.fromarray(photo)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(stream, {"jpg": "jpeg"}.get(suffix, suffix), exif=exif)
    whole = stream.getvalue()
    file, n_refused = tmp_path / f"a.{suffix}", 0
    for trial in range(150):
        content = bytearray(whole)
        for place in rng.integers(len(whole), size=1 + trial % 3):
            content[place] = rng.integers(256)
        file.write_bytes(content[: None if trial % 2 else rng.integers(len(whole))])
        try:
            pixels = read_image(file, 8, max_pixels=10_000)
        except ImageReadError as error:
            n_refused += 1
            assert file.name in str(error)
        else:
            assert pixels.shape == (8, 8, 3)
    assert n_refused > 20


def test_a_thumbnail_keeps_proportions_and_small_images(photo, tmp_path):
    large = Image.fromarray(photo).resize((640, 320))
    exif = large.getexif()
    exif[0x0112] = 6
    large.save(tmp_path / "a.jpg", exif=exif)
    assert read_thumbnail(tmp_path / "a.jpg", 64).shape == (64, 32, 3)
    np.testing.assert_array_equal(read_thumbnail(photo, 64), photo)


def bad_files(folder, photo):
    Image.fromarray(photo).resize((64, 64)).save(folder / "torn.jpg")
    content = (folder / "torn.jpg").read_bytes()
    (folder / "torn.jpg").write_bytes(content[: len(content) // 2])
    Image.fromarray(photo).save(folder / "torn.png")
    (folder / "torn.png").write_bytes((folder / "torn.png").read_bytes()[:-40])
    (folder / "words.jpg").write_text("no image")
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    return sorted(folder.iterdir()) + [folder / "missing.jpg"]


def test_an_unreadable_image_is_named(photo, tmp_path):
    files = bad_files(tmp_path, photo)
    assert len(files) == 6
    for file in files:
        with pytest.raises(ImageReadError, match=file.name):
            read_image(file, 8)


def test_images_come_as_batches_in_the_order_asked_for(rng):
    pixels = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    for images in (Images(pixels, 8), Images(list(pixels), 8)):
        assert len(images) == 5
        batch = images[np.array([3, 0])]
        assert batch.dtype == torch.uint8
        np.testing.assert_array_equal(batch.permute(0, 2, 3, 1), pixels[[3, 0]])
        np.testing.assert_array_equal(images.take([4, 1])[[0]], images[[4]])


def test_unreadable_rows_are_told_if_they_may_be_skipped(photo, tmp_path):
    bad = bad_files(tmp_path, photo)[0]
    batch, readable = Images([photo, bad, photo], 16, skip_unreadable=True).__getitems__([0, 1, 2])
    assert readable.tolist() == [True, False, True]
    np.testing.assert_array_equal(batch[2].permute(1, 2, 0), photo)
    with pytest.raises(ImageReadError, match=bad.name):
        Images([photo, bad], 16).__getitems__([0, 1])


def test_the_key_of_an_image_is_its_content(photo, tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(photo).save(tmp_path / name)
    Image.fromarray(photo[::-1]).save(tmp_path / "c.png")
    images = Images([tmp_path / name for name in ("a.png", "b.png", "c.png", "missing.png")], 8)
    keys = [images.key(i) for i in range(4)]
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] == b""
    arrays = Images([photo, photo.copy(), photo[::-1], photo.reshape(8, 32, 3)], 8)
    keys = [arrays.key(i) for i in range(4)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def look_alikes():
    """PIL images of the same mode, size and bytes that a network sees differently."""
    index = (np.arange(64).reshape(8, 8) ** 2 // 7 % 4).astype(np.uint8)
    grey = Image.fromarray(index * 60)
    color = Image.merge("RGB", [grey] * 3)

    def palette(*levels):
        image = Image.fromarray(index)
        image = image.convert("P") if image.mode == "P" else image
        image.putpalette([level for level in levels for _ in range(3)])
        return image

    def turned(image, orientation):
        image = image.copy()
        image.getexif()[0x0112] = orientation
        return image

    def with_info(image, **info):
        image = image.copy()
        image.info |= info
        return image

    colors = palette(0, 80, 160, 255)
    deep = Image.fromarray(index.astype(np.uint16) * 20_000)
    yield "palette", [colors, palette(0, 80, 160, 250), palette(255, 160, 80, 0)]
    yield (
        "transparency of a palette",
        [
            colors,
            with_info(colors, transparency=0),
            with_info(colors, transparency=1),
            with_info(colors, transparency=bytes([0, 0, 255, 255])),
            with_info(colors, transparency=bytes([9, 99, 255, 255])),
        ],
    )
    yield "transparency of a grey", [grey, *(with_info(grey, transparency=t) for t in (0, 60))]
    yield "transparency of a colour", [color, with_info(color, transparency=(60, 60, 60))]
    yield "transparency of 16 bits", [deep, with_info(deep, transparency=20_000)]
    for image in (grey, color, colors, deep):
        name = f"orientation of {image.mode}"
        yield name, [turned(image, orientation) for orientation in (1, 2, 3, 4, 5, 6, 7, 8)]
    yield (
        "mode",
        [
            Image.frombytes(mode, (8, 8), bytes(range(256)))
            for mode in ("RGBA", "CMYK", "RGBX", "RGBa")
        ],
    )


@pytest.mark.parametrize(("what", "images"), list(look_alikes()))
def test_images_that_a_network_sees_differently_have_keys_of_their_own(what, images):
    assert len({read_image(image, 8).tobytes() for image in images}) == len(images)
    keys = [Images(images, 8).key(i) for i in range(len(images))]
    assert len(set(keys)) == len(images)
    assert keys == [Images(images[::-1], 8).key(i) for i in range(len(images))][::-1]


def test_what_cannot_be_read_has_no_key():
    images = Images([np.zeros((8, 8)), Image.new("F", (8, 8)), np.zeros((8, 8), np.uint8)], 8)
    assert [images.key(i) == b"" for i in range(3)] == [True, True, False]
    tight = Images([np.zeros((8, 8), np.uint8)], 8, max_pixels=63)
    assert tight.key(0) == b""


@pytest.mark.parametrize(
    ("images", "error"),
    [
        ("photos", TypeError),
        (np.zeros((3, 5)), TypeError),
        (np.zeros((3, 8, 8, 3)), TypeError),
        (np.zeros((3, 8, 8, 1), np.uint8), TypeError),
        ([1, 2], TypeError),
        (None, TypeError),
        ([], ValueError),
        (np.zeros((0, 8, 8, 3), np.uint8), ValueError),
    ],
)
def test_what_is_no_collection_of_images_is_refused(images, error):
    with pytest.raises(error, match="X "):
        Images(images, 8)


def test_arrays_that_are_no_images_are_refused():
    for array in (np.zeros((8, 8, 3)), np.zeros(8, np.uint8), np.zeros((8, 8, 5), np.uint8)):
        with pytest.raises(ImageReadError, match="array"):
            read_image(array, 8)

import numpy as np
import pytest
import torch
from PIL import Image

from skhash.networks import ImageReadError, read_image
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

"""Photographs from files and to files: values, kinds of files, and what an error leaves behind."""

import os
import stat

import numpy as np
import pytest
from PIL import Image

from fastvis._files import replacing
from fastvis._images import WRITABLE, check_writable, load_image, save_image

LOSSLESS = (".png", ".tif", ".tiff", ".bmp")


@pytest.fixture
def colors():
    """8-bit colors that change slowly enough for lossy files."""
    y, x = np.mgrid[:24, :32]
    return np.stack([8 * y, 255 - 6 * x, 4 * x + 2 * y], axis=2).astype(np.uint8)


def as_loaded(pixels, full=255):
    return pixels.astype(np.float32) / np.float32(full)


# Round trips


@pytest.mark.parametrize("suffix", [*WRITABLE, ".PNG"])
def test_what_is_saved_is_loaded(suffix, colors, tmp_path):
    path = tmp_path / f"image{suffix}"
    for pixels in (colors, colors[..., 0], colors[..., :1]):
        save_image(path, pixels / 255)
        loaded = load_image(path)
        expected = as_loaded(np.broadcast_to(np.atleast_3d(pixels), colors.shape))
        assert (loaded.dtype, loaded.shape) == (np.float32, colors.shape)
        if suffix.lower() in LOSSLESS:
            np.testing.assert_array_equal(loaded, expected)
        else:
            assert np.abs(loaded - expected).mean() < 0.02
    assert os.listdir(tmp_path) == [path.name]


def test_values_are_rounded_and_clipped(tmp_path):
    path = tmp_path / "gray.png"
    values = np.array([[-0.5, 0.0, 0.4 / 255, 0.6 / 255, 1.4 / 255, 254.6 / 255, 1.0, 1.5]])
    save_image(path, values)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), [[0, 0, 0, 1, 1, 255, 255, 255]])


def test_the_type_of_the_file_is_that_of_its_name(colors, tmp_path):
    for suffix, kind in [(".png", "PNG"), (".jpg", "JPEG"), (".JPEG", "JPEG"), (".tif", "TIFF")]:
        save_image(tmp_path / f"a{suffix}", colors / 255)
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert image.format == kind


# Kinds of photographs


def test_gray_photographs_become_three_channels(colors, tmp_path):
    gray = colors[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "gray16.png")
    Image.fromarray(as_loaded(gray)).save(tmp_path / "float.tif")
    Image.fromarray(np.stack([gray, 255 - gray], axis=2), "LA").save(tmp_path / "gray-alpha.png")
    expected = np.repeat(as_loaded(gray)[..., None], 3, axis=2)
    for name in sorted(os.listdir(tmp_path)):
        np.testing.assert_allclose(load_image(tmp_path / name), expected, rtol=0, atol=1e-7)


def test_sixteen_bits_are_not_reduced_to_eight(tmp_path):
    values = np.linspace(0, 65535, 5000).astype(np.uint16).reshape(50, 100)
    Image.fromarray(values).save(tmp_path / "deep.png")
    loaded = load_image(tmp_path / "deep.png")
    np.testing.assert_array_equal(loaded[..., 0], as_loaded(values, 65535))


def test_transparency_is_dropped(colors, tmp_path):
    alpha = np.full(colors.shape[:2], 7, np.uint8)
    rgba = Image.fromarray(np.dstack([colors, alpha]), "RGBA")
    for name in ("a.png", "a.tif"):
        rgba.save(tmp_path / name)
        np.testing.assert_array_equal(load_image(tmp_path / name), as_loaded(colors))


def test_palettes_are_looked_up(colors, tmp_path):
    image = Image.fromarray(colors).quantize(16)
    image.save(tmp_path / "palette.png")
    expected = as_loaded(np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(load_image(tmp_path / "palette.png"), expected)


def test_black_and_white(colors, tmp_path):
    bright = colors[..., 0] > 90
    Image.fromarray(bright).save(tmp_path / "fax.png")
    expected = np.repeat(bright[..., None], 3, axis=2).astype(np.float32)
    np.testing.assert_array_equal(load_image(tmp_path / "fax.png"), expected)


def test_inks_are_not_taken_for_lights(colors, tmp_path):
    Image.fromarray(colors).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    error = np.abs(load_image(tmp_path / "print.jpg") - as_loaded(colors))
    assert error.mean() < 0.03


def test_photographs_stand_upright(colors, tmp_path):
    image = Image.fromarray(colors)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned: the first row is the right side
    image.save(tmp_path / "phone.png", exif=exif)
    upright = np.rot90(colors, -1)
    np.testing.assert_array_equal(load_image(tmp_path / "phone.png"), as_loaded(upright))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.gif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_of_several_frames_the_first_is_taken(name, mode, colors, tmp_path):
    first, *others = [
        Image.fromarray(np.roll(colors, 3 * i, axis=0)).convert(mode) for i in range(5)
    ]
    first.save(tmp_path / name, save_all=True, append_images=others)
    expected = np.asarray(first.convert("RGB"))
    loaded = load_image(tmp_path / name)
    assert loaded.shape == expected.shape
    tolerance = 0.2 if name == "a.gif" and mode == "RGB" else 0  # 256 colors
    np.testing.assert_allclose(loaded, as_loaded(expected), rtol=0, atol=tolerance)


# Files that are no photographs


def test_missing_files(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            load_image(path)


@pytest.mark.parametrize("name", ["text.png", "text.txt", "text.jpg", "empty.png"])
def test_files_that_are_not_images(name, tmp_path):
    (tmp_path / name).write_text("" if "empty" in name else "three red bricks\n")
    with pytest.raises(ValueError, match=f"{name} cannot be read as an image"):
        load_image(tmp_path / name)


@pytest.mark.parametrize("name", ["half.png", "half.jpg", "half.tif"])
def test_truncated_files(name, colors, tmp_path, rng):
    path = tmp_path / name
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name} cannot be read as an image"):
        load_image(path)


# What cannot be written


def test_targets_that_can_be_written(tmp_path):
    for suffix in (*WRITABLE, ".JPG"):
        check_writable(tmp_path / f"new{suffix}")
    (tmp_path / "old.png").write_text("old")
    check_writable(tmp_path / "old.png")
    assert (tmp_path / "old.png").read_text() == "old"
    assert os.listdir(tmp_path) == ["old.png"]


@pytest.mark.parametrize("name", ["new", "new.xyz", "new.png.gz", "new.npy"])
def test_unknown_suffixes(name, tmp_path):
    with pytest.raises(ValueError, match="must end in one of .png, .jpg"):
        check_writable(tmp_path / name)


def test_folders_that_are_not_there_or_are_in_the_way(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    for path in ("folder.png", "missing/new.png", "file/new.png"):
        with pytest.raises(ValueError, match="cannot be written: is its folder there"):
            check_writable(tmp_path / path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_folders_of_others(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ValueError, match="cannot be written: is its folder there"):
            check_writable(tmp_path / "new.png")
    finally:
        tmp_path.chmod(0o700)


# Whole or not there


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "target.bin"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["target.bin"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_leaves_what_was_there(error, existed, tmp_path):
    path = tmp_path / "target.bin"
    if existed:
        path.write_text("old")

    def write():
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise error("full")

    with pytest.raises(error, match="full"):
        write()
    assert os.listdir(tmp_path) == ["target.bin"] * existed
    assert not existed or path.read_text() == "old"


@pytest.mark.parametrize("image", [np.zeros(5), np.zeros((0, 4, 3))])
def test_images_that_cannot_be_written_leave_the_old_file(image, tmp_path):
    path = tmp_path / "image.png"
    path.write_text("old")
    with pytest.raises(Exception, match=".+"):  # a format's own error
        save_image(path, image)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["image.png"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_new_files_are_as_readable_as_others(tmp_path):
    (tmp_path / "other").write_text("")
    save_image(tmp_path / "image.png", np.zeros((4, 4)))
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("image.png", "other")]
    assert modes[0] == modes[1]

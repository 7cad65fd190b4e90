"""The command ``fastvis texture``: pictures in, pictures out, and one line for every mistake."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

import fastvis
from fastvis.__main__ import _reduce, main
from fastvis._images import load_image
from fastvis.textures.metrics import heldout_gram_error

QUICK = ["--maps", "2", "--iterations", "3"]


@pytest.fixture
def colors():
    """8-bit blobs of several colors, 40 x 48."""
    noise = np.random.default_rng(0).normal(size=(40, 48, 3))
    blobs = gaussian_filter(noise, 2, mode="wrap", axes=(0, 1))
    blobs -= blobs.min()
    return np.rint(255 * blobs / blobs.max()).astype(np.uint8)


@pytest.fixture
def photo(colors, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(colors).save(path)
    return path


def texture(*arguments, options=QUICK):
    return main(["texture", *map(str, arguments), *options])


def in_new_process(arguments, **options):
    """The command as a shell starts it, with this fastvis."""
    path = [str(Path(fastvis.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-m", "fastvis", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        **options,
    )


def shown_size(path):
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return image.size[::-1]


# Pictures


def test_from_the_shell(photo, tmp_path):
    output = tmp_path / "new.png"
    arguments = ["texture", photo, "-o", output, "--size", 24, 56, "--maps", 8]
    with in_new_process([*arguments, "--iterations", 60], cwd=tmp_path) as child:
        answer, progress = child.communicate(timeout=60)
    assert child.returncode == 0
    loss = float(re.fullmatch(r".*new.png: .*24 x 56 x 3, loss=(\S+) after .*\n", answer)[1])
    assert loss < 0.01
    assert "60/60" in progress
    assert shown_size(output) == (24, 56)
    assert sorted(os.listdir(tmp_path)) == ["new.png", "photo.png"]


def test_the_texture_has_the_statistics_of_the_photograph(photo, tmp_path, rng):
    output = tmp_path / "new.png"
    assert texture(photo, "-o", output, options=["--maps", "8", "--iterations", "100"]) == 0
    new, old = load_image(output), load_image(photo)[:, 4:44]  # its center square
    assert new.shape == old.shape
    shuffled = rng.permutation(old.reshape(-1, 3)).reshape(old.shape)
    errors = [heldout_gram_error(image, old) for image in (new, shuffled)]
    assert errors[0] < errors[1] / 3
    assert np.abs(new - old).mean() > 0.05  # not a copy


def test_photographs_of_every_kind(colors, tmp_path):
    gray = colors[..., 0]
    alpha = np.dstack([colors, 255 - gray])
    files = {
        "gray.png": Image.fromarray(gray),
        "gray-alpha.png": Image.fromarray(np.dstack([gray, gray]), "LA"),
        "alpha.png": Image.fromarray(alpha, "RGBA"),
        "deep.png": Image.fromarray(gray.astype(np.uint16) * 257),
        "palette.png": Image.fromarray(colors).quantize(32),
        "photo.jpg": Image.fromarray(colors),
        "photo.tif": Image.fromarray(colors),
    }
    outputs = {}
    for name, image in files.items():
        image.save(tmp_path / name)
        output = tmp_path / f"new-{name}.png"
        assert texture(tmp_path / name, "-o", output) == 0
        assert shown_size(output) == (40, 40)
        outputs[name] = output.read_bytes()
    assert outputs["gray.png"] == outputs["deep.png"]  # the same gray values
    assert outputs["alpha.png"] == outputs["photo.tif"]  # the same colors


def test_the_output_is_of_the_type_of_its_name(photo, tmp_path):
    for suffix, kind in [(".jpg", "JPEG"), (".TIF", "TIFF"), (".bmp", "BMP")]:
        output = tmp_path / f"new{suffix}"
        assert texture(photo, "-o", output) == 0
        with Image.open(output) as image:
            assert image.format == kind


def test_large_photographs_are_reduced_from_their_center(tmp_path):
    wide = np.ones((64, 100, 3), np.uint8)
    ramp = np.arange(64)
    wide[:, 18:82] = np.stack([2 * ramp, 200 - ramp, 60 + 100 * (ramp % 2)], axis=1)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    output = tmp_path / "new.png"
    assert texture(tmp_path / "wide.png", "-o", output, "--reference-size", 16) == 0
    assert shown_size(output) == (16, 16)

    reduced = _reduce(load_image(tmp_path / "wide.png"), 16)
    assert reduced.shape == (16, 16, 3)
    means = wide[:, 18:82].reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(reduced[:, 2:-2], means[:, 2:-2], atol=0.5 / 255)
    assert np.abs(reduced - means).max() < 0.02  # at borders: nothing from outside the square


def test_small_photographs_are_not_enlarged(photo):
    image = load_image(photo)
    np.testing.assert_array_equal(_reduce(image, 40), image[:, 4:44])
    np.testing.assert_array_equal(_reduce(image, 256), image[:, 4:44])


def test_seeds(photo, tmp_path):
    def bytes_of(*options):
        assert texture(photo, "-o", tmp_path / "new.png", *options) == 0
        return (tmp_path / "new.png").read_bytes()

    default = bytes_of()
    assert bytes_of("--seed", 0) == default
    assert bytes_of("--seed", 1) != default


def test_tiles(tmp_path, rng):
    fine = gaussian_filter(rng.normal(size=(48, 48)), 1.0)
    fine = np.rint(255 * (fine - fine.min()) / np.ptp(fine)).astype(np.uint8)
    Image.fromarray(fine).save(tmp_path / "photo.png")
    seams = {}
    for tile in ([], ["--tile"]):
        output = tmp_path / "new.png"
        options = ["--maps", "4", "--iterations", "50", *tile]
        assert texture(tmp_path / "photo.png", "-o", output, options=options) == 0
        image = load_image(output).mean(axis=2)
        seams[bool(tile)] = [seam(image, axis) for axis in (0, 1)]
    assert max(seams[True]) < 1.15
    assert min(seams[False]) > 1.25


def seam(image, axis):
    """Steps between neighbors across the border of tiles, relative to those inside."""
    steps = np.abs(image - np.roll(image, 1, axis)).mean(axis=1 - axis)
    return steps[0] / np.median(steps[1:])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_saves_the_best_so_far(photo, tmp_path):
    output = tmp_path / "new.png"
    arguments = ["texture", photo, "-o", output, "--maps", 8, "--iterations", 10**6]
    with in_new_process(arguments) as child:
        try:
            shown = ""
            while "loss=" not in shown:  # the bar after some iterations
                shown += child.stderr.read(1)
            time.sleep(0.2)
            child.send_signal(signal.SIGINT)
            answer, _ = child.communicate(timeout=20)
        finally:
            child.kill()
    assert child.returncode == 0
    assert "stopped because interrupted from the keyboard" in answer
    assert shown_size(output) == (40, 40)


def test_version_and_help(capsys):
    for arguments, expected in [
        (["--version"], f"fastvis {fastvis.__version__}\n"),
        (["texture", "--help"], "usage: fastvis texture"),
    ]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0
        assert capsys.readouterr().out.startswith(expected)


# Mistakes


def refused(capsys, *arguments, options=QUICK):
    """The one line that the command ends with."""
    assert texture(*arguments, options=options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastvis: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def old(tmp_path):
    """An output that exists, and must stay as it is."""
    path = tmp_path / "old.png"
    path.write_bytes(b"an older picture")
    yield path
    assert path.read_bytes() == b"an older picture"
    assert not [name for name in os.listdir(tmp_path) if name.endswith("tmp") or "fastvis" in name]


def test_a_photo_that_is_not_there(tmp_path, old, capsys):
    for path in ("none.png", "."):
        assert "there is no file" in refused(capsys, tmp_path / path, "-o", old)


@pytest.mark.parametrize("name", ["notes.txt", "notes.png", "empty.jpg"])
def test_a_photo_that_is_none(name, tmp_path, old, capsys):
    (tmp_path / name).write_text("" if "empty" in name else "three red bricks\n")
    error = refused(capsys, tmp_path / name, "-o", old)
    assert f"{name} cannot be read as an image" in error


def test_a_truncated_photo(photo, old, capsys):
    photo.write_bytes(photo.read_bytes()[:-700])
    assert "photo.png cannot be read as an image" in refused(capsys, photo, "-o", old)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_a_photo_without_an_extent(shape, tmp_path, old, capsys):
    Image.fromarray(np.full(shape, 99, np.uint8)).save(tmp_path / "dot.png")
    error = refused(capsys, tmp_path / "dot.png", "-o", old)
    assert "must be at least 2 x 2 pixels; got 1 x 1" in error


def test_a_photo_of_one_color(tmp_path, old, capsys):
    Image.fromarray(np.full((32, 32, 3), 99, np.uint8)).save(tmp_path / "plain.png")
    assert "constant" in refused(capsys, tmp_path / "plain.png", "-o", old)


@pytest.mark.parametrize("output", ["new", "new.xyz", "new.png.gz"])
def test_an_output_of_unknown_type(output, photo, tmp_path, capsys):
    assert "must end in one of .png, .jpg" in refused(capsys, photo, "-o", tmp_path / output)
    assert os.listdir(tmp_path) == ["photo.png"]


def test_an_output_that_cannot_be_written(photo, tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    for output in ("missing/new.png", "folder.png", "photo.png/new.png"):
        error = refused(capsys, photo, "-o", tmp_path / output)
        assert "cannot be written: is its folder there" in error
    assert sorted(os.listdir(tmp_path)) == ["folder.png", "photo.png"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_of_others(photo, tmp_path, capsys):
    (tmp_path / "theirs").mkdir(mode=0o500)
    error = refused(capsys, photo, "-o", tmp_path / "theirs" / "new.png")
    assert "cannot be written: is its folder there" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "0", "32"], r"--size[0] must be an integer >= 1; got 0"),
        (["--size", "32", "-4"], r"--size[1] must be an integer >= 1; got -4"),
        (["--size", "1", "1"], "size must be at least 2 x 2 pixels; got 1 x 1"),
        (["--iterations", "-5"], "--iterations must be an integer >= 1; got -5"),
        (["--iterations", "0"], "--iterations must be an integer >= 1; got 0"),
        (["--maps", "0"], "--maps must be an integer >= 1; got 0"),
        (["--reference-size", "8"], "--reference-size must be an integer >= 16; got 8"),
        (["--seed", "-1"], "--seed must be an integer >= 0; got -1"),
    ],
)
def test_numbers_that_cannot_be(options, message, photo, old, capsys):
    assert message in refused(capsys, photo, "-o", old, options=[*QUICK, *options])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "12.5", "12"], "argument --size: invalid int value: '12.5'"),
        (["--size", "12"], "argument --size: expected 2 arguments"),
        (["--iterations", "many"], "argument --iterations: invalid int value: 'many'"),
        (["--quick"], "unrecognized arguments: --quick"),
    ],
)
def test_arguments_that_are_not_numbers(arguments, message, photo, old, capsys):
    with pytest.raises(SystemExit) as end:
        texture(photo, "-o", old, *arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["texture"], ["texture", "photo.png"], ["paint"]])
def test_arguments_that_are_missing(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: fastvis" in capsys.readouterr().err


def test_an_error_while_writing(photo, old, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imageio.v3.imwrite", full)
    assert texture(photo, "-o", old) == 2
    assert capsys.readouterr().err.endswith("fastvis: [Errno 28] No space left on device\n")


def test_mistakes_from_the_shell(tmp_path):
    (tmp_path / "notes.png").write_text("three red bricks\n")
    with in_new_process(["texture", "notes.png", "-o", "new.png"], cwd=tmp_path) as child:
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (2, "")
    assert err == "fastvis: notes.png cannot be read as an image.\n"
    assert os.listdir(tmp_path) == ["notes.png"]

"""Recordings: what is refused, tiers, units, and files of three kinds."""

import zipfile

import numpy as np
import pytest

from fastvis.twin import Recording

N_IMAGES, N_NEURONS, SIZE = 20, 3, (6, 8)


@pytest.fixture
def arrays(rng):
    """Of 15 images shown once, and 5 shown 2 to 6 times."""
    images = rng.uniform(0, 255, (N_IMAGES, *SIZE))
    ids = rng.permutation(np.r_[np.arange(15), np.repeat(np.arange(15, 20), np.arange(2, 7))])
    return images, rng.poisson(2.0, (len(ids), N_NEURONS)).astype(float), ids


@pytest.fixture
def recording(arrays):
    return Recording.from_arrays(*arrays, rng=0)


def assert_same(a, b):
    for name in ("images", "responses", "image_ids", "tiers"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_repeated_images_are_for_tests(recording, arrays):
    _, r, ids = arrays
    responses, test_ids = recording.of_tier("test")
    assert set(test_ids) == set(range(15, 20))
    np.testing.assert_array_equal(responses, r[ids >= 15])
    assert len(recording.of_tier("validation")[0]) == 3
    assert recording.summary() == {
        "n_neurons": 3, "train_images": 12, "train_trials": 12, "validation_images": 3,
        "validation_trials": 3, "test_images": 5, "test_trials": 20, "test_repeats": (2, 6),
        "constant_neurons": 0,
    }  # fmt: skip
    again = Recording.from_arrays(*arrays, rng=0)
    assert_same(recording, again)


def test_units_are_those_of_the_training_data(arrays):
    images, r, ids = arrays
    r[:, 1] = 4.0  # says nothing
    recording = Recording.from_arrays(images, r, ids, rng=0)
    train, train_ids = recording.of_tier("train")
    unit = recording.normalization()
    pixels = images[np.unique(train_ids)]
    assert unit.mean == pytest.approx(pixels.mean(), rel=1e-6)
    assert unit.deviation == pytest.approx(pixels.std(), rel=1e-6)
    np.testing.assert_allclose(unit.response_scale[[0, 2]], train.std(0)[[0, 2]], rtol=1e-6)
    assert unit.response_scale[1] == 1
    assert recording.summary()["constant_neurons"] == 1
    z = unit.images(recording.images[np.unique(train_ids)])
    assert z.dtype == np.float32
    assert (z.mean(), z.std()) == pytest.approx((0, 1), abs=1e-5)
    scaled = unit.responses(train)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.std(0)[[0, 2]], 1, rtol=1e-5)


def test_one_image_a_trial_by_default(arrays):
    images = arrays[0]
    recording = Recording.from_arrays(images, np.ones((20, 2)), validation=0.25, rng=1)
    np.testing.assert_array_equal(recording.image_ids, np.arange(20))
    assert (recording.tiers == "validation").sum() == 5
    assert recording.summary()["test_repeats"] == (0, 0)


def test_hdf5_keeps_everything(recording, tmp_path):
    path = tmp_path / "recording.h5"
    recording.save(path)
    assert_same(Recording.from_hdf5(path), recording)
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(ValueError, match="recording.h5 is no recording"):
        Recording.from_hdf5(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Recording.from_hdf5(tmp_path / "no.h5")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        recording.save(tmp_path / "no" / "recording.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["recording.h5"]


def test_hdf5_of_others(arrays, tmp_path):
    h5py = pytest.importorskip("h5py")
    images, r, ids = arrays
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"], file["responses"], file["image_ids"] = images, r, ids.astype(np.uint16)
    found = Recording.from_hdf5(tmp_path / "other.h5", rng=0)
    assert_same(found, Recording.from_arrays(*arrays, rng=0))
    with h5py.File(tmp_path / "other.h5", "a") as file:
        del file["responses"]
    with pytest.raises(ValueError, match="other.h5 is no recording: it has no dataset responses"):
        Recording.from_hdf5(tmp_path / "other.h5")


# Sensorium


@pytest.fixture
def sensorium(recording, write_sensorium, tmp_path):
    """The recording as a folder in that layout, images twice as large."""
    return write_sensorium(recording, tmp_path / "static1-2-3-GrayImageNet")


def zipped(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as file:
        for entry in sorted(folder.rglob("*.npy")):
            file.write(entry, entry.relative_to(folder.parent))
    return path


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_sensorium_files_are_read(sensorium, recording, kind):
    path = sensorium if kind == "folder" else zipped(sensorium)
    found = Recording.from_sensorium(path, block=2)
    np.testing.assert_array_equal(found.responses, recording.responses)
    np.testing.assert_array_equal(found.tiers, recording.tiers)
    shown, expected = (r.images[r.image_ids] for r in (found, recording))
    np.testing.assert_allclose(shown, expected, rtol=1e-6)
    assert len(found.images) == N_IMAGES
    assert Recording.from_sensorium(path).images.shape[1:] == (12, 16)


def test_final_tests_are_left_out_unless_wanted(sensorium, recording):
    tiers = np.where(recording.tiers == "test", "final_test", recording.tiers)
    np.save(sensorium / "meta/trials/tiers.npy", tiers)
    assert len(Recording.from_sensorium(sensorium).of_tier("test")[0]) == 0
    found = Recording.from_sensorium(sensorium, final_test=True)
    np.testing.assert_array_equal(found.of_tier("test")[0], recording.of_tier("test")[0])


def missing(folder):
    (folder / "data/responses/7.npy").unlink()


def of_another_shape(folder):
    np.save(folder / "data/responses/7.npy", np.ones(2))


def with_objects(folder):
    np.save(folder / "data/responses/7.npy", np.array([None]), allow_pickle=True)


def truncated(folder):
    path = folder / "data/images/3.npy"
    path.write_bytes(path.read_bytes()[:100])


def negative(folder):
    np.save(folder / "data/responses/7.npy", np.full(N_NEURONS, -1.0))


def without_tiers(folder):
    (folder / "meta/trials/tiers.npy").unlink()


def too_few_ids(folder):
    np.save(folder / "meta/trials/frame_image_id.npy", np.arange(4))


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (missing, FileNotFoundError, "there is no data/responses/7.npy in"),
        (of_another_shape, ValueError, r"data/responses/7.npy .* must have the shape \(3,\)"),
        (with_objects, ValueError, "data/responses/7.npy in .* is no array of numbers"),
        (truncated, ValueError, "data/images/3.npy in .* is no array of numbers"),
        (negative, ValueError, "is no recording: responses must be >= 0; got -1"),
        (without_tiers, FileNotFoundError, "there is no meta/trials/tiers.npy in"),
        (too_few_ids, ValueError, "must be of one length"),
    ],
)
def test_damaged_sensorium_files(sensorium, harm, error, message):
    harm(sensorium)
    for path in (sensorium, zipped(sensorium)):
        with pytest.raises(error, match=message):
            Recording.from_sensorium(path)


def test_what_is_no_sensorium_recording(sensorium, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder or file"):
        Recording.from_sensorium(tmp_path / "no")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"text.zip is no recording"):
        Recording.from_sensorium(tmp_path / "text.zip")
    with pytest.raises(ValueError, match="sides that 5 divides"):
        Recording.from_sensorium(sensorium, block=5)


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((20, 48))}, "images must have 3 dimensions"),
        ({"images": np.full((20, 6, 8), np.nan)}, "images must be finite"),
        ({"responses": np.full((35, 3), np.inf)}, "responses must be finite"),
        ({"responses": -np.eye(35, 3)}, r"responses must be >= 0; got -1, in 3 neuron\(s\)"),
        ({"responses": np.ones(35)}, "responses must have 2 dimensions"),
        ({"image_ids": np.arange(34)}, "image_ids must be 35 integers"),
        ({"image_ids": np.arange(35)}, "image_ids must be rows of 20 images; got 0 to 34"),
        ({"tiers": ["train"] * 34}, "tiers must be 35 of train, validation, test"),
        ({"tiers": ["train"] * 34 + ["oracle"]}, "and oracle"),
        ({"tiers": ["test"] * 35}, "tiers must have training trials"),
        ({"tiers": ["train", "test"] * 17 + ["test"]}, "tiers must not share images; got"),
    ],
)
def test_errors(change, message, arrays):
    images, r, ids = arrays
    given = {"images": images, "responses": r, "image_ids": ids, "tiers": ["train"] * 35, **change}
    with pytest.raises(ValueError, match=message):
        Recording(**given)


def test_more_errors(arrays):
    images, r, ids = arrays
    with pytest.raises(ValueError, match="responses must be one for each of 20 images; got 35"):
        Recording.from_arrays(images, r)
    with pytest.raises(ValueError, match="validation must be"):
        Recording.from_arrays(images, r, ids, validation=2.0)
    with pytest.raises(ValueError, match="tier must be"):
        Recording.from_arrays(images, r, ids).of_tier("oracle")


def test_only_repeats_leave_nothing_to_train_on(arrays):
    images, r, _ = arrays
    with pytest.raises(ValueError, match="image_ids must have images that are shown once"):
        Recording.from_arrays(images[:5], r[:10], np.arange(10) % 5)


@pytest.mark.parametrize("name", ["images", "responses"])
def test_values_that_float32_cannot_hold(arrays, name):
    images, r, ids = arrays
    given = {"images": images, "responses": r} | {name: np.full((20, 2, 2), 1e39)}
    if name == "responses":
        given[name] = np.full(r.shape, 1e39)
    with pytest.raises(ValueError, match=f"{name} must fit in float32; got up to 1e.39"):
        Recording.from_arrays(**given, image_ids=ids)

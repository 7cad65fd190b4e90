"""inpaint: what it leaves alone, whose statistics it takes, and what it refuses."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fastvis.textures import FilterBank, GramModel, frame_mask, inpaint, metrics

SHAPE = (20, 23)


def model_of(channels=3, sizes=(3, 5), n_maps=6, seed=0, **options):
    return GramModel(FilterBank.random(sizes, n_maps, channels, seed), **options)


def image_of(*shape, seed=0, dtype=np.float64):
    """Blobs, a few pixels wide."""
    noise = np.random.default_rng(seed).normal(size=shape)
    image = gaussian_filter(noise, 1.5, mode="wrap", axes=(0, 1))
    image -= image.min()
    return (image / image.max()).astype(dtype)


def hole(shape=SHAPE):
    """Not convex, not connected, and at a border of the image."""
    mask = np.zeros(shape, bool)
    mask[5:12, 6:10] = mask[9:12, 6:16] = mask[15, :4] = True
    return mask


class Recorder:
    """A model that remembers what its target was made of, and what it was shown."""

    def __init__(self, model):
        self.model, self.channels = model, model.channels
        self.references, self.images = [], []

    def target(self, references):
        self.references.append(np.asarray(references))
        return self.model.target(references)

    def loss_and_grad(self, image, target):
        self.images.append(image.copy())
        return self.model.loss_and_grad(image, target)


# What is left alone


@pytest.mark.parametrize("statistics", ["image", "patches"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_pixels_outside_the_mask_keep_their_bytes(statistics, dtype, channels, rng):
    shape = SHAPE if channels is None else (*SHAPE, channels)
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    if dtype != np.uint8:
        image = (rng.random(shape) ** 2).astype(dtype)
    before, mask = image.copy(), hole()
    model = model_of(channels or 1)
    result = inpaint(
        image, mask, model, statistics=statistics, patch_size=5, max_iter=10, rng=0
    )
    expected = image.astype(np.float32) / np.float32(255) if dtype == np.uint8 else image
    assert result.image.dtype == expected.dtype
    assert result.image.shape == image.shape
    assert result.image[~mask].tobytes() == expected[~mask].tobytes()
    assert (result.image[mask] != expected[mask]).mean() > 0.95
    assert result.loss < result.losses[0] / 2
    assert image.tobytes() == before.tobytes()
    np.testing.assert_array_equal(mask, hole())


def test_the_optimizer_sees_the_pixels_outside_as_they_are():
    image, mask, recorder = image_of(*SHAPE, 3), hole(), Recorder(model_of())
    inpaint(image, mask, recorder, max_iter=5, rng=0)
    for seen in recorder.images:
        np.testing.assert_array_equal(seen[~mask], image[~mask])


def test_a_mask_of_everything_is_a_synthesis():
    image = image_of(*SHAPE, 3)
    result = inpaint(image, np.ones(SHAPE, bool), model_of(), max_iter=60, rng=0)
    assert result.loss < result.losses[0] / 1000
    assert np.abs(result.image - image).mean() > 0.05


# Whose statistics


def test_the_image_itself_counts_with_what_is_under_the_mask():
    image, mask, recorder = image_of(*SHAPE, 3), hole(), Recorder(model_of())
    result = inpaint(image, mask, recorder, max_iter=20, rng=0)
    np.testing.assert_array_equal(recorder.references[0], image)
    model = recorder.model
    assert result.loss == model.loss(result.image, model.gram(image)) < result.losses[0] / 10
    assert inpaint(image, mask, model, init=image).loss == 0


def test_patches_of_the_image_do_not_touch_the_mask():
    places = np.linspace(0, 1, np.prod(SHAPE)).reshape(SHAPE)  # each pixel says where it is
    mask, recorder = hole(), Recorder(model_of(1))
    inpaint(
        places, mask, recorder, statistics="patches", patch_size=(4, 6), n_patches=2000, max_iter=0
    )
    (patches,) = recorder.references
    assert patches.shape == (2000, 4, 6, 1)
    index = np.rint(patches[..., 0] * (places.size - 1)).astype(int)
    rows, columns = np.divmod(index[:, 0, 0], SHAPE[1])
    inside = np.arange(4)[:, None] * SHAPE[1] + np.arange(6)
    np.testing.assert_array_equal(index, index[:, :1, :1] + inside)  # they are patches
    clear = {
        (row, column)
        for row in range(SHAPE[0] - 3)
        for column in range(SHAPE[1] - 5)
        if not mask[row : row + 4, column : column + 6].any()
    }
    assert set(zip(rows, columns)) == clear  # all such places, and no other


def test_the_target_of_patches_is_their_mean_gram_matrix(rng):
    image, recorder = image_of(*SHAPE, 3), Recorder(model_of(mean=[0.4, 0.5, 0.6]))
    result = inpaint(
        image, hole(), recorder, statistics="patches", patch_size=6, n_patches=7, max_iter=8, rng=0
    )
    model, (patches,) = recorder.model, recorder.references
    assert patches.shape == (7, 6, 6, 3)
    target = np.mean([model.gram(patch) for patch in patches], axis=0)
    assert result.loss == pytest.approx(model.loss(result.image, target), rel=1e-12)


def test_statistics_of_another_texture():
    image, other = image_of(*SHAPE, 3), image_of(31, 26, 3, seed=1) ** 3
    recorder = Recorder(model_of())
    inpaint(image, hole(), recorder, reference=other, max_iter=0)
    np.testing.assert_array_equal(recorder.references[0], other)
    inpaint(image, hole(), recorder, reference=other, statistics="patches", n_patches=3, max_iter=0)
    assert recorder.references[1].shape == (3, *SHAPE, 3)  # as large as the image
    assert np.isin(recorder.references[1], other).all()
    inpaint(image, hole(), recorder, statistics="patches", n_patches=3, patch_size=4, max_iter=0)
    assert np.isin(recorder.references[2], image).all()
    image = image_of(40, 41, 3)
    mask = np.zeros((40, 41), bool)
    mask[:3] = True
    inpaint(image, mask, recorder, statistics="patches", n_patches=3, max_iter=0)
    assert recorder.references[3].shape == (3, 20, 20, 3)  # half of it


def test_the_inside_of_a_frame_gets_the_statistics_asked_for(rng):
    data = pytest.importorskip("skimage.data", reason="photographs need the data extra")
    gravel = (data.gravel()[:288, :288] / 255).reshape(144, 2, 144, 2).mean(axis=(1, 3))
    image, mask = gravel[48:96, 48:96], frame_mask(48, 0.2)  # Fig. 7
    bank = FilterBank.random((3, 5, 7, 11), 12, channels=1, rng=0)
    model = GramModel(bank, mean=[image[~mask].mean()])
    regular = inpaint(image, mask, model, max_iter=80, rng=0).image
    estimate = inpaint(
        np.where(mask, 0, image),  # what is under the mask does not count
        mask,
        model,
        reference=gravel,
        statistics="patches",
        n_patches=60,
        max_iter=80,
        rng=0,
    ).image
    shuffled = image.copy()
    shuffled[mask] = rng.permutation(image[mask])

    def error(sample, reference):
        return metrics.heldout_gram_error(sample, reference, sizes=(3, 5, 7, 11))

    inside = (slice(10, -10),) * 2
    assert mask[inside].all()
    assert error(regular[inside], image[inside]) < error(shuffled[inside], image[inside]) / 8
    assert error(estimate, gravel) < error(shuffled, gravel) / 8


# Starts, seeds, stops


def test_starts_from_noise_or_from_init_inside_the_mask():
    image, init, mask = image_of(*SHAPE, 3), image_of(*SHAPE, 3, seed=1), hole()
    start = inpaint(image, mask, model_of(), init=init, max_iter=0).image
    np.testing.assert_array_equal(start, np.where(mask[..., None], init, image))
    image = 0.3 + 0.3 * image
    noise = inpaint(image, mask, model_of(), bounds=(0.2, 0.7), max_iter=0, rng=0).image[mask]
    assert 0.2 <= noise.min() < 0.22
    assert 0.68 < noise.max() <= 0.7


@pytest.mark.parametrize("statistics", ["image", "patches"])
def test_a_seed_gives_the_same_bytes_for_any_number_of_threads(statistics, monkeypatch):
    image, mask = image_of(60, 61, 3, dtype=np.float32), frame_mask((60, 61), 0.2)
    mask[10:50, 10:30] = False  # room for patches
    results = []
    for n_threads in (1, 2, 3):
        monkeypatch.setattr("fastvis._kernels.threads.thread_count", lambda n=n_threads: n)
        model = model_of(sizes=(3, 5, 11), n_maps=20)
        options = {"statistics": statistics, "patch_size": 12, "n_patches": 5}
        results.append(inpaint(image, mask, model, max_iter=6, rng=3, **options).image.tobytes())
    assert results[0] == results[1] == results[2]
    other = inpaint(image, mask, model, max_iter=6, rng=4, **options)
    assert other.image.tobytes() != results[0]


def test_ctrl_c_gives_the_image_so_far():
    def callback(iteration, loss, image):
        if iteration == 3:
            raise KeyboardInterrupt

    image, mask, model = image_of(*SHAPE, 3), hole(), model_of()
    result = inpaint(image, mask, model, rng=0, callback=callback)
    assert (result.stopped_by, result.n_iter) == ("interrupted", 3)
    assert result.loss == model.loss(result.image, model.target(image)) < result.losses[0]
    np.testing.assert_array_equal(result.image[~mask], image[~mask])


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("max_iter", {"max_iter": 2}),
        ("tolerance", {"tol": 0.1}),
        ("target_loss", {"target_loss": 1e-3}),
        ("callback", {"callback": lambda iteration, loss, image: iteration == 2}),
    ],
)
def test_says_honestly_why_it_stopped(reason, options):
    result = inpaint(image_of(*SHAPE, 3), hole(), model_of(), rng=0, **options)
    assert result.stopped_by == reason
    if reason == "target_loss":
        assert result.losses[-1] <= 1e-3 < result.losses[-2]
    elif reason == "tolerance":
        fall = -np.diff(result.losses) / result.losses[:-1]
        assert fall[-1] <= 0.1 < fall[:-1].min()
    else:
        assert result.n_iter == 2


def test_the_default_model_is_random_multiscale():
    image, mask = image_of(12, 12, 1), frame_mask(12, 0.2)
    generator = np.random.default_rng(6)
    bank = FilterBank.random(channels=1, rng=generator)
    model = GramModel(bank, mean=image.mean(axis=(0, 1)))
    expected = inpaint(image, mask, model, max_iter=1, rng=generator)
    result = inpaint(image, mask, max_iter=1, rng=6)
    np.testing.assert_array_equal(result.image, expected.image)


# Other models and arrays


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs the torch extra")


@pytest.mark.parametrize("statistics", ["image", "patches"])
def test_vgg_loss_as_the_model(torch, statistics, rng):
    from fastvis.textures import VGGLoss

    weights = {}
    for i in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28):
        n_in = 6 if i else 3
        weights[f"features.{i}.weight"] = np.sqrt(2 / (9 * n_in)) * rng.normal(size=(6, n_in, 3, 3))
        weights[f"features.{i}.bias"] = 0.2 * rng.random(6)
    model, image = VGGLoss(weights), image_of(32, 40, 3)
    mask = np.zeros((32, 40), bool)
    mask[8:24, :12] = True
    options = {"statistics": statistics, "patch_size": 18, "n_patches": 4, "rng": 0}
    result = inpaint(image, mask, model, max_iter=12, **options)
    assert result.loss < result.losses[0] / 3
    np.testing.assert_array_equal(result.image[~mask], image[~mask])
    same = model.inpaint(image, mask, max_iter=0, **options)
    assert same.losses[0] == pytest.approx(result.losses[0], rel=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
def test_tensors_in_tensors_out(torch, dtype):
    array, mask = image_of(*SHAPE, 3), hole()
    array = np.rint(255 * array).astype(dtype) if dtype == "uint8" else array.astype(dtype)
    tensor = torch.from_numpy(array).permute(2, 0, 1).contiguous()
    expected = inpaint(array, mask, model_of(), max_iter=4, rng=0)
    for image in (tensor, tensor[None]):
        result = inpaint(image, mask, model_of(), max_iter=4, rng=0)
        assert isinstance(result.image, torch.Tensor)
        assert result.image.shape == image.shape
        values = result.image.reshape(tensor.shape).permute(1, 2, 0).numpy()
        assert values.dtype == expected.image.dtype
        np.testing.assert_array_equal(values, expected.image)
    result = inpaint(tensor, torch.from_numpy(mask), model_of(), max_iter=4, rng=0)
    np.testing.assert_array_equal(result.image.permute(1, 2, 0).numpy(), expected.image)
    result = inpaint(tensor, mask, model_of(), init=tensor, reference=tensor, max_iter=4, rng=0)
    assert result.loss == 0


# The frame of Fig. 7


@pytest.mark.parametrize("width", [0.1, 0.15, 0.2])
@pytest.mark.parametrize(("height", "columns"), [(60, 60), (40, 120)])
def test_frames_are_as_wide_as_they_should_be(width, height, columns):
    mask = frame_mask((height, columns), width)
    rows, cols = round(width * height), round(width * columns)
    assert mask.dtype == bool
    assert mask.shape == (height, columns)
    assert mask.sum() == (height - 2 * rows) * (columns - 2 * cols)
    assert mask[rows:-rows, cols:-cols].all()
    np.testing.assert_array_equal(mask, mask[::-1, ::-1])


def test_frames_are_at_least_a_pixel_wide():
    assert frame_mask(5, 0.01).sum() == 9
    np.testing.assert_array_equal(frame_mask(5, 0.01), frame_mask((5, 5), 0.2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((10, 0), ValueError, "width must be .*; got 0"),
        ((10, 0.5), ValueError, "must leave pixels inside the frame; got 10 x 10"),
        ((10, 0.6), ValueError, "width must be .*; got 0.6"),
        ((10, np.nan), ValueError, "width must be .*; got nan"),
        ((10, "wide"), TypeError, "width must be .*; got 'wide'"),
        ((2, 0.2), ValueError, "size must leave pixels inside the frame; got 2 x 2"),
        ((0, 0.2), ValueError, r"size\[0\] must be an integer >= 1; got 0"),
    ],
)
def test_frames_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        frame_mask(*arguments)


# What is refused, before any work

IMAGE = image_of(*SHAPE, 3)
NOT_FINITE = IMAGE.copy()
NOT_FINITE[0, 0, 0] = np.nan
CROWDED = np.zeros(SHAPE, bool)
CROWDED[::4, ::4] = True


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": hole((20, 24))}, ValueError, r"must have the image's size \(20, 23\); got shape"),
        ({"mask": hole().T}, ValueError, r"must have the image's size \(20, 23\); got shape \(23,"),
        ({"mask": np.ones((*SHAPE, 3), bool)}, ValueError, "mask must have the image's size"),
        ({"mask": np.zeros(SHAPE, bool)}, ValueError, "must be true somewhere; got no pixel"),
        ({"mask": hole().astype(float)}, TypeError, "mask must be boolean.* Pass mask > 0"),
        ({"mask": 255 * hole().astype(np.uint8)}, TypeError, "mask must be boolean.* got dtype ui"),
        ({"mask": None}, TypeError, "mask must be boolean"),
        ({"image": NOT_FINITE}, ValueError, r"image must be finite; got 1 value\(s\)"),
        ({"image": IMAGE[..., :2]}, ValueError, r"image must have 3 channel\(s\); got shape"),
        ({"image": IMAGE[None]}, ValueError, "image must have 2 or 3 dimensions"),
        ({"image": IMAGE[:0]}, ValueError, "image must not be empty"),
        ({"image": IMAGE[:1, :1]}, ValueError, "image must be at least 2 x 2 pixels; got 1 x 1"),
        ({"image": IMAGE + 1}, ValueError, r"image must have values in \[0.0, 1.0\]"),
        ({"init": IMAGE[:-1]}, ValueError, r"init must have the image's shape \(20, 23, 3\)"),
        ({"init": NOT_FINITE}, ValueError, "init must be finite"),
        ({"reference": IMAGE[..., 0]}, ValueError, r"reference must have 3 channel\(s\)"),
        ({"reference": NOT_FINITE}, ValueError, "reference must be finite"),
        ({"statistics": "gram"}, ValueError, "statistics must be one of 'image', 'patches'"),
        ({"statistics": "patches", "n_patches": 0}, ValueError, "n_patches must be an integer >="),
        ({"statistics": "patches", "patch_size": 0}, ValueError, r"patch_size\[0\] must be an in"),
        ({"statistics": "patches", "patch_size": 21}, ValueError, r"leave room .* got \(21, 21\)"),
        ({"statistics": "patches", "mask": CROWDED}, ValueError, "patch_size must .* smaller"),
        ({"max_iter": -1}, ValueError, "max_iter must be an integer >= 0; got -1"),
        ({"tol": -1}, ValueError, "tol must be a finite number >= 0"),
        ({"bounds": (1, 0)}, ValueError, r"bounds must be \(low, high\) with low < high"),
        ({"rng": -3}, ValueError, "rng must not be negative; got -3"),
        ({"callback": "print"}, TypeError, "callback must be callable; got str"),
    ],
)
def test_refuses(options, error, message):
    recorder = Recorder(model_of())
    with pytest.raises(error, match=message):
        inpaint(**{"image": IMAGE, "mask": hole(), "model": recorder, **options})
    assert recorder.references == recorder.images == []


def test_what_is_in_a_hole_does_not_count():
    image = 0.3 + 0.1 * (np.indices((24, 24)).sum(axis=0)[:, :, None] % 5)
    mask = np.zeros((24, 24), bool)
    mask[8:12, 8:12] = True
    black, white = image.copy(), image.copy()
    black[mask], white[mask] = 0, 1
    results = [
        inpaint(x, mask, statistics="patches", patch_size=6, n_patches=4, max_iter=2, rng=0)
        for x in (black, white)
    ]
    np.testing.assert_array_equal(results[0].image, results[1].image)

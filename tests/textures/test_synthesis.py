"""synthesize: what it grows, what it needs for that, when it stops, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fastvis
from fastvis.textures import FilterBank, GramModel, metrics, synthesis, synthesize

MULTISCALE = (3, 5, 7, 11, 15, 23)


def photograph(name, n, dtype=np.float32):
    """The top left of a photograph at half its resolution, n x n."""
    data = pytest.importorskip("skimage.data", reason="photographs need the data extra")
    image = getattr(data, name)()[: 2 * n, : 2 * n] / 255
    return image.reshape(n, 2, n, 2).mean(axis=(1, 3)).astype(dtype)


def model_of(channels=3, sizes=(3, 5), n_maps=6, seed=0, **options):
    return GramModel(FilterBank.random(sizes, n_maps, channels, seed), **options)


def image_of(*shape, seed=0, dtype=np.float64):
    """Blobs, a few pixels wide: a texture, not noise."""
    noise = np.random.default_rng(seed).normal(size=shape)
    image = gaussian_filter(noise, 1.5, mode="wrap", axes=(0, 1))
    image -= image.min()
    return (image / image.max()).astype(dtype)


class Recorder:
    """A model that remembers what it saw, and is interrupted once, instead of an evaluation."""

    def __init__(self, model, interrupt_at=None):
        self.model = model
        self.channels = model.channels
        self.interrupt_at = interrupt_at
        self.references, self.images, self.losses = [], [], []

    def target(self, reference):
        self.references.append(reference)
        return self.model.target(reference)

    def loss_and_grad(self, image, target):
        if len(self.losses) == self.interrupt_at:
            self.interrupt_at = None
            raise KeyboardInterrupt
        loss, grad = self.model.loss_and_grad(image, target)
        self.images.append(image.copy())
        self.losses.append(loss)
        return loss, grad


# Textures


def test_brick(rng):
    brick = photograph("brick", 64)
    bank = FilterBank.random(MULTISCALE, n_maps=24, channels=1, rng=1)
    result = synthesize(brick, GramModel(bank, mean=[brick.mean()]), max_iter=200, rng=1)
    assert result.loss < 1e-3
    assert result.loss < 1e-5 * result.losses[0]
    shuffled = rng.permutation(brick.ravel()).reshape(brick.shape)  # the same gray values
    error, error_of_shuffled = (
        metrics.heldout_gram_error(image, brick, rng=7) for image in (result.image, shuffled)
    )
    assert error < error_of_shuffled / 100


@pytest.fixture(scope="module")
def brick_errors():
    """Held-out errors (geometric means of three seeds) of models of brick."""
    brick = photograph("brick", 64)
    models = {
        "multi-scale": (MULTISCALE, 16, "relu"),
        "fewer maps": (MULTISCALE, 2, "relu"),
        "linear": (MULTISCALE, 16, "linear"),
        "single scale": (11, 96, "relu"),  # as many maps as multi-scale
    }
    errors = {}
    for name, (sizes, n_maps, nonlinearity) in models.items():
        logs = []
        for seed in range(3):
            bank = FilterBank.random(sizes, n_maps, channels=1, rng=seed)
            model = GramModel(bank, nonlinearity, mean=[brick.mean()])
            result = synthesize(brick, model, max_iter=100, rng=seed)
            assert result.loss < 1e-3  # each matches its own statistics
            logs.append(np.log(metrics.heldout_gram_error(result.image, brick, rng=7)))
        errors[name] = np.exp(np.mean(logs))
    return errors


def test_without_nonlinearity_textures_are_clearly_worse(brick_errors):
    assert brick_errors["linear"] > 10 * brick_errors["multi-scale"]


def test_one_scale_is_worse_than_many_with_as_many_maps(brick_errors):
    assert brick_errors["single scale"] > 1.5 * brick_errors["multi-scale"]


def test_more_maps_are_better(brick_errors):
    assert brick_errors["fewer maps"] > 4 * brick_errors["multi-scale"]


def test_a_larger_sample_has_the_statistics_of_the_reference():
    brick = photograph("brick", 32)
    model = GramModel(FilterBank.random((3, 5, 7, 11), 8, 1, rng=0), mean=[brick.mean()])
    noise = np.random.default_rng(0).random((48, 56), dtype=np.float32)
    result = synthesize(brick, model, size=(48, 56), init=noise, max_iter=100)
    assert result.image.shape == (48, 56)
    error, error_of_noise = (
        metrics.heldout_gram_error(image, brick, sizes=(3, 5, 7, 11))
        for image in (result.image, noise)
    )
    assert error < error_of_noise / 1000


def seam(image, axis):
    """Steps between neighbors across the border of tiles, relative to those inside."""
    steps = np.abs(image - np.roll(image, 1, axis)).mean(axis=1 - axis)
    return steps[0] / np.median(steps[1:])


def test_samples_of_a_periodic_model_tile():
    gravel = photograph("gravel", 48)
    seams = {}
    for padding in ("periodic", "zero"):
        bank = FilterBank.random((3, 5, 7, 11), 8, channels=1, rng=0)
        model = GramModel(bank, padding=padding, mean=[gravel.mean()])
        result = synthesize(gravel, model, max_iter=60, rng=0)
        seams[padding] = [seam(result.image, axis) for axis in (0, 1)]
        moved = np.roll(result.image, (17, 29), axis=(0, 1))
        loss = model.loss(moved, model.target(gravel))
        assert (loss == pytest.approx(result.loss, rel=1e-2)) == (padding == "periodic")
    assert max(seams["periodic"]) < 1.15
    assert min(seams["zero"]) > 1.25


def test_the_target_of_a_periodic_model_does_not_see_the_references_seam():
    reference = np.linspace(0, 1, 24)[:, None] * np.ones((24, 24))  # a ramp: a step when it wraps
    model = model_of(1, padding="periodic")
    recorder = Recorder(model)
    result = synthesize(reference, recorder, init=reference, max_iter=0)
    reflected = GramModel(model.bank, padding="reflect").gram(reference)
    assert result.loss == model.loss(reference, reflected) > 0


# The reference as the start


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_its_own_image_as_the_start_stays(padding, dtype, rng):
    reference = (255 * rng.random((12, 13, 3))).astype(dtype) / (1 if dtype == np.uint8 else 255)
    reference = reference.astype(dtype)
    result = synthesize(reference, model_of(padding=padding), init=reference)
    expected = reference / np.float32(255) if dtype == np.uint8 else reference
    np.testing.assert_array_equal(result.image, expected)
    assert (result.loss, result.n_iter, result.stopped_by) == (0, 0, "gradient")


# Seeds


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_seed_gives_the_same_bytes_for_any_number_of_threads(dtype, monkeypatch):
    reference = image_of(60, 61, 3, dtype=dtype)
    model_arguments = {"sizes": (3, 5, 11), "n_maps": 24}
    samples = []
    for n_threads in (1, 2, 3):
        monkeypatch.setattr("fastvis._kernels.threads.thread_count", lambda n=n_threads: n)
        result = synthesize(reference, model_of(**model_arguments), max_iter=8, rng=3)
        samples.append((result.image.tobytes(), result.losses.tobytes()))
    assert samples[0] == samples[1] == samples[2]


def test_a_seed_and_its_generator_are_the_same_and_other_seeds_are_not():
    reference, model = image_of(12, 12, 3), model_of()
    images = [
        synthesize(reference, model, max_iter=2, rng=rng).image
        for rng in (4, np.int64(4), np.random.default_rng(4), 5, None, None)
    ]
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])
    for other in (images[3], images[4]):
        assert np.abs(images[0] - other).max() > 0.1
    assert np.abs(images[4] - images[5]).max() > 0.1


def test_the_default_model_is_the_papers_for_the_references_mean_color():
    reference = image_of(14, 12, 2)
    generator = np.random.default_rng(6)
    bank = FilterBank.random(channels=2, rng=generator)
    assert len(bank) == 8 * 128
    model = GramModel(bank, "relu", padding="zero", mean=reference.mean(axis=(0, 1)))
    expected = synthesize(reference, model, max_iter=1, rng=generator)
    result = synthesize(reference, max_iter=1, rng=6)
    np.testing.assert_array_equal(result.image, expected.image)


def test_noise_fills_the_bounds_and_samples_stay_in_them():
    reference = 0.4 + 0.2 * image_of(20, 20)
    start = synthesize(reference, model_of(1), bounds=(0.3, 0.7), max_iter=0, rng=0).image
    assert 0.3 <= start.min() < 0.31
    assert 0.69 < start.max() <= 0.7
    recorder = Recorder(model_of(1))
    synthesize(reference, recorder, bounds=(0.3, 0.7), max_iter=20, rng=0)
    assert 0.3 <= min(map(np.min, recorder.images))
    assert max(map(np.max, recorder.images)) <= 0.7


# Why and with what it stops


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("max_iter", {"max_iter": 4}),
        ("max_iter", {"max_iter": 0}),
        ("tolerance", {"tol": 0.1}),
        ("target_loss", {"target_loss": 1e-2}),
        ("callback", {"callback": lambda iteration, loss, image: iteration == 3}),
    ],
)
def test_says_honestly_why_it_stopped(reason, options):
    reference, model = image_of(12, 12, 1), model_of(1, n_maps=4)
    result = synthesize(reference, model, rng=0, **options)
    losses = result.losses
    assert result.stopped_by == reason
    assert result.converged == (reason == "tolerance")
    assert result.loss == model.loss(result.image, model.target(reference))
    if reason == "max_iter":
        assert result.n_iter == options["max_iter"]
    elif reason == "tolerance":
        fall = -np.diff(losses) / losses[:-1]
        assert fall[-1] <= 0.1 < fall[:-1].min()
    elif reason == "target_loss":
        assert losses[-1] <= 1e-2 < losses[-2]
    else:
        assert result.n_iter == 3


def test_it_ends_where_float32_does():
    reference = image_of(12, 12, 1, dtype=np.float32)
    result = synthesize(reference, model_of(1, (3,), 4), rng=0)
    assert result.stopped_by in ("line_search", "tolerance")
    if result.stopped_by == "tolerance":  # of 0
        assert result.losses[-1] == result.losses[-2]
    assert result.loss < 1e-12


def test_callback_sees_each_iteration():
    reference, model, seen = image_of(12, 13, 3), model_of(), []
    result = synthesize(
        reference, model, max_iter=5, rng=0, callback=lambda *args: seen.append(args)
    )
    assert [iteration for iteration, _, _ in seen] == [1, 2, 3, 4, 5]
    target = model.target(reference)
    for _, loss, image in seen:
        assert model.loss(image, target) == pytest.approx(loss, rel=1e-12)
    np.testing.assert_array_equal(seen[-1][2], result.image)


def test_ctrl_c_in_the_callback_gives_the_image_so_far():
    def callback(iteration, loss, image):
        if iteration == 4:
            raise KeyboardInterrupt

    reference, model = image_of(12, 13, 3), model_of()
    result = synthesize(reference, model, rng=0, callback=callback)
    assert (result.stopped_by, result.n_iter) == ("interrupted", 4)
    assert not result.converged
    assert result.loss == model.loss(result.image, model.target(reference)) < result.losses[0] / 5


def test_ctrl_c_in_the_model_gives_the_best_image_not_the_last():
    reference = image_of(12, 13, 1)
    whole = Recorder(model_of(1))
    synthesize(reference, whole, max_iter=20, rng=2)
    overshoots = [n for n in range(1, 20) if np.argmin(whole.losses[:n]) < n - 1]
    assert overshoots
    for n in overshoots:
        recorder = Recorder(model_of(1), interrupt_at=n)
        result = synthesize(reference, recorder, max_iter=20, rng=2)
        best = np.argmin(recorder.losses)
        assert best < len(recorder.losses) - 1
        assert (result.loss, result.stopped_by) == (recorder.losses[best], "interrupted")
        np.testing.assert_array_equal(result.image, recorder.images[best])


@contextmanager
def nothing_is_lost():
    try:
        yield
    except KeyboardInterrupt:
        pytest.fail("what was done before Ctrl-C is lost")


def coarse_run(interrupt_at=None):
    recorder = Recorder(model_of(3), interrupt_at)
    reference = image_of(32, 28, 3)
    with nothing_is_lost():
        result = synthesize(reference, recorder, max_iter=12, coarse_levels=2, rng=0)
    return result, recorder, reference


def first_evaluations():
    """The numbers of the evaluations with which the finer levels begin."""
    shapes = [image.shape for image in coarse_run()[1].images]
    return [i for i in range(1, len(shapes)) if shapes[i] != shapes[i - 1]]


def check_interrupted(result, recorder, reference):
    model = recorder.model
    assert result.stopped_by == "interrupted"
    assert result.image.shape == reference.shape
    assert result.loss == model.loss(result.image, model.target(reference))
    assert (result.image.min(), result.image.max()) >= (0, 0)
    assert result.image.max() <= 1


def test_ctrl_c_at_a_coarse_level_gives_its_best_image_enlarged():
    first, last = first_evaluations()
    for n in [*range(1, first), *range(first + 1, last)]:
        result, recorder, reference = coarse_run(interrupt_at=n)
        check_interrupted(result, recorder, reference)
        level = slice(first if n > first else 0, n)
        best = recorder.images[level][np.argmin(recorder.losses[level])]
        expected = enlarged(best, reference.shape[:2])
        np.testing.assert_allclose(result.image, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", [1, 0])
def test_ctrl_c_between_levels_loses_nothing(level):
    result, recorder, reference = coarse_run(interrupt_at=first_evaluations()[1 - level])
    check_interrupted(result, recorder, reference)


SIGNALED = """
import json, sys
import numpy as np
from fastvis.textures import FilterBank, GramModel, synthesize

def callback(iteration, loss, image):
    if iteration == 5:
        print("running", flush=True)

reference = np.random.default_rng(0).random((32, 32, 3)) ** 2
model = GramModel(FilterBank.random((3, 5), 8, rng=0))
result = synthesize(reference, model, max_iter=10**6, rng=0, callback=callback)
exact = result.loss == model.loss(result.image, model.target(reference))
print(json.dumps([result.stopped_by, result.n_iter, bool(exact)]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_for_real():
    path = [str(Path(fastvis.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [sys.executable, "-c", SIGNALED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
    ) as child:
        try:
            assert child.stdout.readline() == "running\n"
            child.send_signal(signal.SIGINT)
            answer, errors = child.communicate(timeout=20)
        finally:
            child.kill()
    assert errors == ""
    stopped_by, n_iter, exact = json.loads(answer)
    assert (stopped_by, exact) == ("interrupted", True)
    assert n_iter >= 5


# Levels


def test_a_coarse_level_takes_few_iterations(monkeypatch):
    monkeypatch.setattr(synthesis, "COARSE_ITERATIONS", 2)
    reference = image_of(24, 24, 3)
    recorder = Recorder(model_of())
    synthesize(reference, recorder, max_iter=20, coarse_levels=1, rng=0)
    small = [image for image in recorder.images if image.shape[:2] == (12, 12)]
    assert 3 <= len(small) <= 6  # two iterations and the start, a line search or two


def test_levels_are_means_over_squares_from_coarse_to_fine():
    reference = image_of(33, 38, 3)  # odd: one row and, at the coarsest level, one column are left
    recorder, iterations = Recorder(model_of()), []
    result = synthesize(
        reference,
        recorder,
        size=(21, 30),
        max_iter=9,
        coarse_levels=2,
        rng=0,
        callback=lambda iteration, loss, image: iterations.append(iteration),
    )
    half = reference[:32, :38].reshape(16, 2, 19, 2, 3).mean(axis=(1, 3))
    quarter = half[:16, :18].reshape(8, 2, 9, 2, 3).mean(axis=(1, 3))
    for level, expected in zip(recorder.references, [reference, half, quarter], strict=True):
        np.testing.assert_allclose(level, expected, rtol=1e-14)

    sizes = [image.shape[:2] for image in recorder.images]
    assert sorted(set(sizes), key=sizes.index) == [(6, 8), (11, 15), (21, 30)]
    assert result.image.shape == (21, 30, 3)
    assert iterations == list(range(1, 10))  # of the finest level
    coarse = synthesize(quarter, model_of(), size=(6, 8), max_iter=2, rng=0).image
    start = enlarged(coarse, (11, 15))
    coarse = synthesize(half, model_of(), init=start, max_iter=2).image
    start = recorder.images[sizes.index((21, 30))]
    np.testing.assert_allclose(start, enlarged(coarse, (21, 30)), rtol=0, atol=1e-12)
    assert result.n_evaluations == len(recorder.images)


def enlarged(image, size):
    """Bilinear, pixels as squares, edges that meet."""
    for axis, n in enumerate(size):
        m = image.shape[axis]
        place = (np.arange(n) + 0.5) * m / n - 0.5
        left = np.floor(place).astype(int)
        weight = (place - left).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        a, b = (np.take(image, i % m, axis) for i in (left, left + 1))
        image = (1 - weight) * a + weight * b
    return image


def test_levels_start_closer_to_the_texture_than_noise():
    reference = image_of(48, 48, 1)
    model = model_of(1, (3, 5, 7, 11))
    plain, coarse = (
        synthesize(reference, model, max_iter=20, coarse_levels=n, rng=0) for n in (0, 2)
    )
    assert coarse.losses[0] < plain.losses[0] / 20
    assert coarse.loss < plain.loss


# Samples


def test_samples_come_from_independent_noise_and_the_first_is_the_single_one():
    reference, model = image_of(24, 24, 3), model_of()
    samples = synthesize(reference, model, n_samples=3, max_iter=15, rng=9)
    single = synthesize(reference, model, max_iter=15, rng=9)
    assert len(samples) == len(samples.images) == 3
    np.testing.assert_array_equal(samples.images[0], single.image)
    assert samples.diversity == metrics.diversity(samples.images) > 0.1
    assert [result.stopped_by for result in samples] == ["max_iter"] * 3
    assert "diversity=" in repr(samples)


def test_ctrl_c_keeps_the_samples_that_are_done():
    reference = image_of(12, 12, 3)
    recorder = Recorder(model_of())
    first = synthesize(reference, recorder, max_iter=3, rng=0)
    n = first.n_evaluations

    recorder = Recorder(model_of(), interrupt_at=n + 2)
    samples = synthesize(reference, recorder, n_samples=3, max_iter=3, rng=0)
    assert [result.stopped_by for result in samples] == ["max_iter", "interrupted"]
    np.testing.assert_array_equal(samples.images[0], first.image)
    assert samples.diversity == metrics.diversity(samples.images)

    recorder = Recorder(model_of(), interrupt_at=2)
    samples = synthesize(reference, recorder, n_samples=3, max_iter=3, rng=0)
    assert len(samples) == 1
    assert np.isnan(samples.diversity)


def test_ctrl_c_between_samples_keeps_those_that_are_done():
    reference = image_of(12, 12, 3)
    first = synthesize(reference, model_of(), max_iter=3, rng=0)
    recorder = Recorder(model_of(), interrupt_at=first.n_evaluations)
    with nothing_is_lost():
        samples = synthesize(reference, recorder, n_samples=3, max_iter=3, rng=0)
    np.testing.assert_array_equal(samples.images[0], first.image)


# Kinds of images

KINDS = {
    "float64": (image_of(12, 13, 3), np.float64),
    "float32": (image_of(12, 13, 3, dtype=np.float32), np.float32),
    "uint8": ((255 * image_of(12, 13, 3)).astype(np.uint8), np.float32),
    "gray": (image_of(12, 13), np.float64),
    "gray, uint8": ((255 * image_of(12, 13)).astype(np.uint8), np.float32),
    "gray, one channel": (image_of(12, 13, 1), np.float64),
    "list": (image_of(12, 13).tolist(), np.float64),
    "other strides": (np.asfortranarray(image_of(12, 13, 3))[::-1], np.float64),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_sample_is_of_the_references_kind(kind):
    reference, dtype = KINDS[kind]
    before = np.array(reference)
    channels = np.atleast_3d(before).shape[2]
    result = synthesize(reference, model_of(channels), max_iter=20, rng=0)
    assert type(result.image) is np.ndarray
    assert result.image.dtype == dtype
    assert result.image.shape == before.shape
    assert result.loss < result.losses[0] / 50
    np.testing.assert_array_equal(reference, before)


@pytest.mark.parametrize("kind", ["float64", "float32", "uint8"])
def test_a_start_may_be_of_another_kind(kind):
    init, _ = KINDS[kind]
    for reference, dtype in (KINDS["float64"], KINDS["float32"]):
        before = init.copy()
        result = synthesize(reference, model_of(), init=init, max_iter=0)
        scale = 255 if kind == "uint8" else 1
        np.testing.assert_allclose(result.image, init / scale, rtol=0, atol=1e-7)
        assert result.image.dtype == dtype
        np.testing.assert_array_equal(init, before)


def test_the_size_is_that_of_the_start():
    result = synthesize(image_of(12, 12, 3), model_of(), init=image_of(9, 17, 3), max_iter=1)
    assert result.image.shape == (9, 17, 3)


def test_the_smallest_images():
    result = synthesize(image_of(2, 2, 3), model_of(sizes=(3, 55)), max_iter=30, rng=0)
    assert result.loss < result.losses[0] / 20


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs the torch extra")


@pytest.mark.parametrize("kind", ["float64", "float32", "uint8"])
def test_tensors_in_tensors_out(torch, kind):
    array, _ = KINDS[kind]
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    expected = synthesize(array, model_of(), max_iter=5, rng=0)
    for reference in (tensor, tensor.contiguous(), tensor[None], tensor.contiguous()[None]):
        result = synthesize(reference, model_of(), max_iter=5, rng=0)
        assert isinstance(result.image, torch.Tensor)
        assert result.image.device == reference.device
        assert result.image.shape == reference.shape
        image = result.image.reshape(tensor.shape).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(image, expected.image)
        assert image.dtype == expected.image.dtype
        assert result.loss == expected.loss


def test_tensors_that_require_gradients_start_and_sample(torch):
    reference = torch.from_numpy(image_of(12, 13, 3)).permute(2, 0, 1).clone().requires_grad_()
    start = torch.rand(3, 12, 13, dtype=torch.float64)
    samples = synthesize(reference, model_of(), size=(10, 11), n_samples=2, max_iter=2, rng=0)
    assert [tuple(image.shape) for image in samples.images] == [(3, 10, 11)] * 2
    result = synthesize(reference, model_of(), init=start, max_iter=0)
    assert torch.equal(result.image, start)
    assert not result.image.requires_grad


def test_tensors_of_other_shapes(torch):
    for shape in [(12, 13), (2, 3, 12, 13)]:
        with pytest.raises(ValueError, match=r"must have shape \(C, H, W\) or \(1, C, H, W\)"):
            synthesize(torch.rand(shape), model_of())
    with pytest.raises(ValueError, match=r"must have 3 channel\(s\)"):
        synthesize(torch.rand(12, 13, 3), model_of())


# Features of a VGG


def vgg_weights():
    """VGG-19 with few maps, random, all of about the same activity."""
    rng = np.random.default_rng(0)
    weights, n_in = {}, 3
    for i in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28):
        weight = np.sqrt(2 / (9 * n_in)) * rng.normal(size=(6, n_in, 3, 3))
        weights[f"features.{i}.weight"] = weight
        weights[f"features.{i}.bias"] = 0.2 * rng.random(6)
        n_in = 6
    return weights


def test_vgg_loss_as_the_model(torch):
    from fastvis.textures import VGGLoss

    model, reference = VGGLoss(vgg_weights()), image_of(20, 24, 3)
    result = synthesize(reference, model, max_iter=25, rng=0)
    assert result.loss < result.losses[0] / 50
    assert result.loss == pytest.approx(model(result.image, reference), rel=1e-9)
    assert result.image.dtype == np.float64
    start = synthesize(reference, model, init=reference)
    assert start.loss < 1e-25
    same = model.synthesize(reference, max_iter=0, rng=0)
    assert same.losses[0] == pytest.approx(result.losses[0], rel=1e-9)
    tensor = torch.from_numpy(reference).permute(2, 0, 1)
    assert synthesize(tensor, model, max_iter=1).image.shape == (3, 20, 24)
    with pytest.raises(ValueError, match=r"reference must have 3 channel\(s\)"):
        synthesize(reference[..., 0], model)


# What is refused, before any work

REFERENCE = image_of(12, 13, 3)
NOT_FINITE = REFERENCE.copy()
NOT_FINITE[3, 4, 1] = np.nan


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reference": NOT_FINITE}, ValueError, r"reference must be finite; got 1 value\(s\)"),
        ({"reference": REFERENCE[0, 0]}, ValueError, "reference must have 2 or 3 dimensions"),
        ({"reference": REFERENCE[None]}, ValueError, "reference must have 2 or 3 dimensions"),
        ({"reference": REFERENCE[:0]}, ValueError, "reference must not be empty"),
        ({"reference": REFERENCE[..., :2]}, ValueError, r"must have 3 channel\(s\); got shape"),
        ({"reference": REFERENCE[..., 0]}, ValueError, r"must have 3 channel\(s\); got shape"),
        ({"reference": REFERENCE[:1, :1]}, ValueError, "reference must be at least 2 x 2 pix"),
        ({"reference": REFERENCE[:, :1]}, ValueError, "reference must be .* got 12 x 1"),
        ({"reference": 2 * REFERENCE}, ValueError, r"must have values in \[0.0, 1.0\]; got 0 to 2"),
        ({"reference": REFERENCE + 0j}, TypeError, "reference must be an array of real numbers"),
        ({"reference": "brick.png"}, TypeError, "reference must be an array of real numbers"),
        ({"reference": None}, TypeError, "reference must be an array of real numbers"),
        ({"size": 0}, ValueError, r"size\[0\] must be an integer >= 1; got 0"),
        ({"size": (12, -3)}, ValueError, r"size\[1\] must be an integer >= 1; got -3"),
        ({"size": 1}, ValueError, "size must be at least 2 x 2 pixels; got 1 x 1"),
        ({"size": 12.5}, TypeError, r"size must be an int or \(height, width\); got 12.5"),
        ({"size": (12, 12, 3)}, ValueError, r"size must be an int or \(height, width\)"),
        ({"init": REFERENCE[:8], "size": 12}, ValueError, r"init must have the size \(12, 12\)"),
        ({"init": REFERENCE[..., :1]}, ValueError, r"init must have 3 channel\(s\)"),
        ({"init": NOT_FINITE}, ValueError, "init must be finite"),
        ({"init": REFERENCE - 1}, ValueError, r"init must have values in \[0.0, 1.0\]"),
        ({"init": REFERENCE, "coarse_levels": 1}, ValueError, "coarse_levels must be 0 with an in"),
        ({"max_iter": -1}, ValueError, "max_iter must be an integer >= 0; got -1"),
        ({"max_iter": 10.0}, TypeError, "max_iter must be an integer >= 0; got 10.0"),
        ({"max_iter": True}, TypeError, "max_iter must be an integer >= 0; got True"),
        ({"tol": -1e-3}, ValueError, "tol must be a finite number >= 0; got -0.001"),
        ({"tol": np.nan}, ValueError, "tol must be a finite number >= 0; got nan"),
        ({"target_loss": -1}, ValueError, "target_loss must be a finite number >= 0; got -1"),
        ({"bounds": (1, 0)}, ValueError, r"bounds must be \(low, high\) with low < high"),
        ({"bounds": 1}, ValueError, r"bounds must be \(low, high\); got 1"),
        ({"bounds": (0, np.inf)}, ValueError, r"bounds\[1\] must be a finite number; got inf"),
        ({"coarse_levels": -1}, ValueError, "coarse_levels must be an integer >= 0; got -1"),
        ({"coarse_levels": 4}, ValueError, "must leave 2 x 2 pixels of the reference; got 4 for"),
        ({"n_samples": 0}, ValueError, "n_samples must be an integer >= 2; got 0"),
        ({"n_samples": 2.0}, TypeError, "n_samples must be an integer >= 2; got 2.0"),
        ({"rng": -1}, ValueError, "rng must not be negative; got -1"),
        ({"rng": "seed"}, TypeError, "rng must be None, an int or a numpy.random.Generator"),
        ({"callback": 3}, TypeError, "callback must be callable; got int"),
    ],
)
def test_refuses(options, error, message):
    recorder = Recorder(model_of())
    with pytest.raises(error, match=message):
        synthesize(**{"reference": REFERENCE, "model": recorder, **options})
    assert recorder.references == recorder.images == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.5, 99 / 255])  # the mean of the last is not exact
def test_refuses_a_constant_reference(value, dtype):
    # its own mean color is subtracted: nothing is left
    with pytest.raises(ValueError, match="constant"):
        synthesize(np.full((23, 31, 3), value, dtype), max_iter=1, rng=0)


def test_more_samples_than_one_need_noise():
    with pytest.raises(ValueError, match="n_samples"):
        synthesize(REFERENCE, model_of(), init=REFERENCE, n_samples=2, max_iter=1)

"""Texture metrics against brute force, closed forms and what they must not depend on."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import correlate
from skimage import data

from fastvis.textures import metrics
from fastvis.textures.bank import FilterBank

PAIRWISE = [
    metrics.heldout_gram_error,
    metrics.spectrum_error,
    metrics.color_distance,
    metrics.novelty,
]


@pytest.fixture(scope="module")
def color():
    return data.astronaut()[100:180, 200:296] / 255


def shuffled(image):
    """The same pixels at random places."""
    pixels = image.reshape(-1, *image.shape[2:])
    return np.random.default_rng(0).permutation(pixels).reshape(image.shape)


# all of them


@pytest.mark.parametrize("metric", PAIRWISE)
def test_zero_for_itself(metric, color):
    assert metric(color, color) == pytest.approx(0, abs=1e-12)
    gray = data.brick()[:64, :80]
    assert metric(gray, gray) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("metric", [m for m in PAIRWISE if m is not metrics.novelty])
@pytest.mark.parametrize("texture", [data.brick, data.gravel, data.grass])
def test_a_crop_of_the_texture_is_closer_than_other_textures(metric, texture):
    crop, reference = texture()[:96, :112], texture()[200:360, 200:360]
    closest = metric(crop, reference)
    for other in {data.brick, data.gravel, data.grass} - {texture}:
        assert metric(other()[:96, :112], reference) > 1.5 * closest


@pytest.mark.parametrize("metric", [m for m in PAIRWISE if m is not metrics.color_distance])
def test_shuffled_pixels_are_worse_than_a_crop(metric):
    crop, reference = data.brick()[:96, :112], data.brick()[200:360, 200:360]
    assert metric(shuffled(crop), reference) > 2 * metric(crop, reference)


@pytest.mark.parametrize("metric", PAIRWISE)
def test_uint8_is_divided_by_255(metric, color):
    x, y = (np.round(255 * image).astype(np.uint8) for image in (color, color[::-1, 16:]))
    assert metric(x, y) == pytest.approx(metric(x / 255, y / 255), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("metric", PAIRWISE)
def test_pairs_refuse(metric):
    good = np.random.default_rng(0).random((40, 40, 3))
    with pytest.raises(ValueError, match=r"image must have 3 channel\(s\)"):
        metric(good[..., :2], good)
    for name, bad in (("image", (good * np.nan, good)), ("reference", (good, good * np.nan))):
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            metric(*bad)
    with pytest.raises(ValueError, match="image must have 2 or 3 dimensions"):
        metric(good[None], good)
    with pytest.raises(TypeError, match="reference must be an array"):
        metric(good, "brick")


# held-out Gram error


def naive_gram(image, bank, mean):
    maps = []
    for w in (w for scale in bank.filters for w in scale):
        p = len(w) // 2
        padded = np.pad(image - mean, ((p, p), (p, p), (0, 0)), mode="reflect")
        maps.append(np.maximum(correlate(padded, w, mode="valid"), 0).ravel())
    return np.array(maps) @ np.array(maps).T / maps[0].size


def test_heldout_error_is_eq_5_about_the_references_mean(color):
    image, reference = color[:30, :24] ** 2, color[20:60, 40:70]
    stream = np.random.default_rng(7).spawn(1)[0]
    bank = FilterBank.random((3, 7), (4, 3), 3, stream, np.float64)
    mean = reference.mean(axis=(0, 1))
    target, g = naive_gram(reference, bank, mean), naive_gram(image, bank, mean)
    error = metrics.heldout_gram_error(image, reference, sizes=(3, 7), n_maps=(4, 3), rng=7)
    assert error == pytest.approx(np.sum((target - g) ** 2) / np.sum(target**2), rel=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_heldout_filters_are_not_those_of_a_bank_of_the_same_seed(monkeypatch, color, seed):
    banks = []
    model = metrics.GramModel
    monkeypatch.setattr(
        metrics, "GramModel", lambda bank, **options: banks.append(bank) or model(bank, **options)
    )
    metrics.heldout_gram_error(color, color, sizes=(3, 5), n_maps=8, rng=seed)
    for w, v in zip(banks[0].filters, FilterBank.random((3, 5), 64, rng=seed).filters):
        w, v = (filters.reshape(len(filters), -1) for filters in (w, v))
        cosines = w @ v.T / np.linalg.norm(w, axis=1)[:, None] / np.linalg.norm(v, axis=1)
        assert np.abs(cosines).max() < 0.8


def test_heldout_error_of_one_seed_is_one_number(color):
    errors = [
        metrics.heldout_gram_error(color[:40], color, sizes=(3,), rng=rng) for rng in (0, 0, 1)
    ]
    assert errors[0] == errors[1] != errors[2]


def test_heldout_error_refuses_a_constant_reference(color):
    with pytest.raises(ValueError, match="reference must not be constant"):
        metrics.heldout_gram_error(color, np.full((30, 30, 3), 0.1))


# spectrum


def naive_spectrum(x, edges):
    """Ring means of the windowed periodogram, one Fourier sum at a time."""
    height, width = x.shape
    row, column = np.arange(height)[:, None], np.arange(width)
    window = np.sin(np.pi * (row + 0.5) / height) ** 2 * np.sin(np.pi * (column + 0.5) / width) ** 2
    x = window * (x - x.mean())
    rings = [[] for _ in edges[1:]]
    for u in range(height):
        for v in range(width):
            radius = math.hypot(min(u, height - u) / height, min(v, width - v) / width)
            wave = np.exp(-2j * np.pi * (u * row / height + v * column / width))
            for k, ring in enumerate(rings):
                last = k == len(rings) - 1 and radius == edges[-1]
                if edges[k] <= radius < edges[k + 1] or last:
                    ring.append(abs(np.sum(x * wave)) ** 2 / np.sum(window**2))
    return np.array([np.mean(ring) for ring in rings]) + 1 / 255**2 / 12


@pytest.mark.parametrize("shapes", [((8, 8), (8, 8)), ((9, 14), (16, 13)), ((12, 15), (24, 21))])
def test_spectrum_error_is_its_definition(shapes):
    rng = np.random.default_rng(0)
    x, y = (rng.random(shape) * scale for shape, scale in zip(shapes, (1, 0.3)))
    shortest = min(shapes[0] + shapes[1])
    edges = np.linspace(2 / shortest, 0.5, min(16, shortest // 4) + 1)
    ratio = naive_spectrum(x, edges) / naive_spectrum(y, edges)
    assert metrics.spectrum_error(x, y) == pytest.approx(np.mean(np.abs(np.log10(ratio))))
    colors = metrics.spectrum_error(np.dstack([x, x]), np.dstack([y, y * 0 + y]))
    assert colors == pytest.approx(metrics.spectrum_error(x, y))


def test_every_ring_of_every_size_has_a_frequency():
    noise = np.random.default_rng(0).random((90, 90))
    for n in range(8, 90):
        assert np.isfinite(metrics.spectrum_error(noise[:n], noise[:, :n]))


def test_power_density_of_white_noise_is_its_variance_at_every_size():
    rng = np.random.default_rng(0)
    small, large = 0.1 * rng.standard_normal((64, 64)), 0.2 * rng.standard_normal((150, 180))
    assert metrics.spectrum_error(small, large) == pytest.approx(2 * math.log10(2), rel=0.05)
    assert metrics.spectrum_error(small, large / 2) < 0.12


def test_spectrum_error_of_filtered_noise_is_that_of_the_filter():
    noise = np.random.default_rng(0).standard_normal((256, 256))
    radius = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(256)]))
    gain = 1 / (1 + 20 * radius)
    filtered = np.fft.ifft2(np.fft.fft2(noise) * gain).real
    bins = np.linspace(2 / 256, 0.5, 17)
    inside = [gain[(radius >= a) & (radius <= b)] for a, b in zip(bins, bins[1:])]
    expected = np.mean([-np.log10(np.mean(g**2)) for g in inside])
    assert metrics.spectrum_error(filtered, noise) == pytest.approx(expected, rel=0.03)


def test_spectrum_error_does_not_see_brightness_or_the_way_up(color):
    error = metrics.spectrum_error(color[::2], color)
    for same in (color[::2] + 0.3, color[::2][::-1], color[::2].transpose(1, 0, 2)):
        assert metrics.spectrum_error(same, color) == pytest.approx(error, rel=1e-9)
    assert metrics.spectrum_error(color, color[::2]) == pytest.approx(error, rel=1e-12)


def test_differences_below_8_bit_rounding_hardly_count():
    rng = np.random.default_rng(0)
    flat = np.full((64, 64), 0.5)
    faint = flat + 1e-4 * rng.standard_normal((64, 64))
    assert metrics.spectrum_error(faint, flat) < 0.01
    assert metrics.spectrum_error(flat + 1e-15 * rng.standard_normal((64, 64)), flat) < 1e-9


def test_spectrum_error_refuses_small_images():
    with pytest.raises(ValueError, match="8 x 8"):
        metrics.spectrum_error(np.ones((7, 30)), np.ones((30, 30)))


# color


@settings(deadline=None)
@given(
    shapes=st.tuples(*[st.tuples(st.integers(1, 8), st.integers(1, 8))] * 2),
    seed=st.integers(0, 99),
)
def test_color_distance_of_gray_images_is_wasserstein_1(shapes, seed):
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(0, 6, shape) / 5 for shape in shapes)
    expected = stats.wasserstein_distance(x.ravel(), y.ravel())
    assert metrics.color_distance(x, y) == pytest.approx(expected, abs=1e-12)


def test_color_distance_is_the_mean_over_directions(color):
    x, y = color[:20, :30], color[30:47, ::2]
    directions = metrics._directions(3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    expected = np.mean(
        [stats.wasserstein_distance((x @ d).ravel(), (y @ d).ravel()) for d in directions]
    )
    assert metrics.color_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert metrics.color_distance(y, x) == pytest.approx(expected, rel=1e-9)


def test_color_distance_of_a_shift(color):
    # the mean of |d . e| over the sphere is 1/2; 64 directions come near
    ways = np.array(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, -1, 0], [1, 0, -1], [1, -2, 1]]
    )
    for shift in 0.3 * ways / np.linalg.norm(ways, axis=1, keepdims=True):
        assert metrics.color_distance(color + shift, color) == pytest.approx(0.15, rel=0.15)
    assert metrics.color_distance(color[..., 0] + 0.3, color[..., 0]) == pytest.approx(0.3)


def test_color_distance_does_not_see_places(color):
    assert metrics.color_distance(shuffled(color), color) == pytest.approx(0, abs=1e-12)
    assert metrics.color_distance(np.tile(color, (2, 3, 1)), color) == pytest.approx(0, abs=1e-12)


def test_color_distance_sees_how_channels_go_together():
    ramp = np.linspace(0, 1, 256).reshape(16, 16)
    together, apart = np.dstack([ramp, ramp]), np.dstack([ramp, 1 - ramp])
    assert metrics.color_distance(together, apart) > 0.1  # each channel alone: no difference


# novelty


def ncc(a, b):
    """Correlation after subtracting channel means; constant patches: 1 with each other, else 0."""
    a, b = (p - p.mean(axis=(0, 1)) for p in (a, b))
    constant = [np.sqrt(np.mean(p**2)) <= 1e-5 for p in (a, b)]
    if any(constant):
        return float(all(constant))
    return np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)


def places(image, size):
    for i in range(image.shape[0] - size + 1):
        for j in range(image.shape[1] - size + 1):
            yield image[i : i + size, j : j + size]


def patchwork(rng, height, width, channels):
    """Noise with a constant block."""
    image = rng.random((height, width, channels))
    image[: height // 2, : width // 2] = rng.random(channels)
    return image


@settings(deadline=None, max_examples=15)
@given(size=st.integers(2, 5), channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_novelty_is_the_largest_correlation_with_any_place(size, channels, seed):
    rng = np.random.default_rng(seed)
    image, reference = patchwork(rng, 8, 9, channels), patchwork(rng, 11, 7, channels)
    result = metrics.novelty(image, reference, size=size, n_patches=20, rng=seed)
    patches = metrics.sample_patches([image], size, 20, rng=seed)
    largest = [max(ncc(p, q) for q in places(reference, size)) for p in patches]
    assert result == pytest.approx(1 - np.mean(largest), abs=1e-9)


def test_copies_are_not_novel_whatever_their_contrast(color):
    copy = 0.4 * color[10:50, 20:70] + [0.1, 0.2, 0.3]
    assert metrics.novelty(copy, color, size=16) == pytest.approx(0, abs=1e-9)
    quilt = np.vstack([color[40:72, :64], color[8:40, 32:]])
    assert 0 < metrics.novelty(quilt, color, size=16) < 0.5
    assert metrics.novelty(shuffled(color), color, size=16) > 0.7


def test_one_8_bit_step_is_contrast_enough(color):
    assert metrics.novelty(color[5:45], 1e-2 * color, size=16) == pytest.approx(0, abs=1e-6)
    step = np.full((32, 32, 3), 0.5)
    step[9, 20, 1] += 1 / 255
    assert metrics.novelty(step, color, size=32) < 1 - 1e-3
    assert metrics.novelty(step, step, size=32) == pytest.approx(0, abs=1e-9)
    assert metrics.diversity([step, color[:32, :32]]) < 1 - 1e-3


def test_novelty_of_a_negative_is_two(color):
    square = color[:24, :24]
    assert metrics.novelty(1 - square, square, size=24) == pytest.approx(2, abs=1e-9)


def test_constant_images_are_copies_of_each_other_only(color):
    flat = np.full((40, 40, 3), 0.3)
    assert metrics.novelty(flat, flat + 0.1) == 0
    assert metrics.novelty(flat, color) == 1
    assert metrics.novelty(color[:40, :40], flat) == 1


def test_novelty_refuses(color):
    for size, error in ((81, ValueError), (1, ValueError), (8.0, TypeError)):
        with pytest.raises(error, match="size must be"):
            metrics.novelty(color, color, size=size)
    with pytest.raises(ValueError, match="n_patches"):
        metrics.novelty(color, color, n_patches=0)


# diversity


def shifts(image):
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            yield np.roll(image, (i, j), axis=(0, 1))


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(2, 4),
    shape=st.tuples(st.integers(1, 5), st.integers(2, 6), st.integers(1, 3)),
    seed=st.integers(0, 99),
)
def test_diversity_is_the_largest_correlation_over_shifts(n, shape, seed):
    samples = np.random.default_rng(seed).random((n, *shape))
    samples[0] = 0.5 if seed % 3 == 0 else samples[0]
    expected = [1 - max(ncc(x, s) for s in shifts(y)) for x, y in combinations(samples, 2)]
    assert metrics.diversity(samples) == pytest.approx(np.mean(expected), abs=1e-9)
    assert -1e-9 <= metrics.diversity(samples) <= 1


@settings(deadline=None)
@given(
    moves=st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=3, max_size=3)
)
def test_diversity_does_not_see_cyclic_shifts(color, moves):
    samples = [color[:40, :30], color[30:70, 10:40], color[:40, 60:90]]
    moved = [np.roll(x, move, axis=(0, 1)) for x, move in zip(samples, moves)]
    assert metrics.diversity(moved) == pytest.approx(metrics.diversity(samples), abs=1e-9)
    copies = [np.roll(samples[0], move, axis=(0, 1)) * 0.5 + 0.1 for move in moves]
    assert metrics.diversity(copies) == pytest.approx(0, abs=1e-9)


def test_diversity_of_noise_grows_with_its_share():
    rng = np.random.default_rng(0)
    common, *own = rng.standard_normal((5, 64, 64))
    values = [
        metrics.diversity([math.sqrt(1 - share) * common + math.sqrt(share) * x for x in own])
        for share in (0, 0.1, 0.5, 1)
    ]
    # the correlation of two samples is the common share
    np.testing.assert_allclose(values[:3], [0, 0.1, 0.5], atol=0.03)
    assert values[3] > 0.9


def test_diversity_of_constant_samples():
    flat = np.full((8, 8), 0.5)
    noise = np.random.default_rng(0).random((8, 8))
    assert metrics.diversity([flat, flat + 0.1]) == 0
    assert metrics.diversity([flat, noise]) == 1


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([np.ones((4, 4))], ValueError, "at least 2 images"),
        ([np.ones((4, 4)), np.ones((4, 5))], ValueError, "same shape"),
        ([np.ones((4, 4)), np.ones((4, 4, 3))], ValueError, "same number of channels"),
        ([np.ones((4, 4)), np.full((4, 4), np.inf)], ValueError, r"samples\[1\] must be finite"),
        (np.ones((4, 4, 3)), TypeError, "single image"),
        (None, TypeError, "sequence of images"),
    ],
)
def test_diversity_refuses(samples, error, message):
    with pytest.raises(error, match=message):
        metrics.diversity(samples)

"""Distances (2) and (3) against closed forms and sums in exact arithmetic; matrices of Fig. 6."""

import math
from fractions import Fraction
from itertools import combinations, product
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate
from skimage import data

from fastvis.textures.bank import FilterBank
from fastvis.textures.distances import distance_matrix, gram_distance, pixel_distance
from fastvis.textures.model import GramModel
from fastvis.textures.patches import sample_patches


class NaiveModel:
    """Gram matrices by scipy.signal.correlate; counts its calls."""

    def __init__(self, bank):
        self.filters = [w for scale in bank.filters for w in scale.astype(float)]
        self.calls = 0

    def gram(self, image):
        self.calls += 1
        image = np.atleast_3d(image).astype(float)
        maps = []
        for w in self.filters:
            p = len(w) // 2
            padded = np.pad(image, ((p, p), (p, p), (0, 0)))
            maps.append(np.maximum(correlate(padded, w, mode="valid"), 0).ravel())
        return np.array([[np.mean(a * b) for b in maps] for a in maps])


@pytest.fixture(scope="module")
def bank():
    return FilterBank.random((3, 5), 3, 2, rng=0, dtype=np.float64)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((5, 9, 10, 2))


# eqs (2) and (3)


def test_gram_distance_is_eq_2(bank, images):
    x, y = images[0], images[1, :7] ** 2
    gx, gy = NaiveModel(bank).gram(x), NaiveModel(bank).gram(y)
    norms = [math.sqrt(sum(v * v for v in g.ravel())) for g in (gx, gy)]
    expected = sum((a - b) ** 2 for a, b in zip(gx.ravel(), gy.ravel())) / math.prod(norms)
    assert gram_distance(x, y, NaiveModel(bank)) == pytest.approx(expected, rel=1e-12)
    assert gram_distance(x, y, GramModel(bank)) == pytest.approx(expected, rel=1e-9)
    assert gram_distance(y, x, GramModel(bank)) == pytest.approx(expected, rel=1e-9)
    assert gram_distance(x, x, GramModel(bank)) == 0


@settings(deadline=None)
@given(a=st.floats(0.1, 10))
def test_gram_distance_of_two_contrasts(bank, images, a):
    # ReLU and no mean: G(a x) = a^2 G(x)
    expected = (a**2 - 1) ** 2 / a**2
    distance = gram_distance(images[0], a * images[0], GramModel(bank))
    assert distance == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_gram_distance_of_a_texture_and_its_tiling_is_zero(bank, images):
    model = GramModel(bank, padding="periodic")
    assert gram_distance(images[0], np.tile(images[0], (2, 3, 1)), model) < 1e-25


def test_pixel_distance_by_hand():
    # the sum runs over all pixels and channels: 18 * 1 / (sqrt(18) * sqrt(72))
    assert pixel_distance(np.ones((2, 3, 3)), np.full((2, 3, 3), 2.0)) == pytest.approx(0.5)
    x, y = np.zeros((2, 2, 3)), np.zeros((2, 2, 3))
    x[0, 1, 2], y[1, 0, 0], y[0, 1, 2] = 3, 4, 3
    assert pixel_distance(x, y) == pytest.approx(4**2 / (3 * 5))
    assert pixel_distance(x[..., 2], y[..., 2]) == 0


@settings(deadline=None)
@given(angle=st.floats(0, math.pi), shape=st.sampled_from([(2, 1), (3, 4), (4, 2, 3)]))
def test_pixel_distance_of_equal_norms_is_2_minus_2_cos(angle, shape):
    x, z = np.random.default_rng(0).standard_normal((2, math.prod(shape)))
    x /= np.linalg.norm(x)
    z -= z @ x * x
    y = math.cos(angle) * x + math.sin(angle) * z / np.linalg.norm(z)
    distance = pixel_distance(x.reshape(shape), y.reshape(shape))
    assert distance == pytest.approx(2 - 2 * math.cos(angle), abs=1e-12)


def test_float32_images_are_summed_in_float64():
    x = np.full((300, 300), 1, np.float32)
    y = x + np.float32(1e-4) * np.arange(300, dtype=np.float32) / 300
    exact = [[Fraction(float(v)) for v in image.ravel()] for image in (x[:1], y[:1])]
    squares = [300 * sum(v * v for v in values) for values in exact]
    difference = 300 * sum((a - b) ** 2 for a, b in zip(*exact))
    expected = float(difference) / math.sqrt(squares[0]) / math.sqrt(squares[1])
    assert pixel_distance(x, y) == pytest.approx(expected, rel=1e-12, abs=0)


def test_uint8_images_are_those_divided_by_255():
    x, y = np.random.default_rng(0).integers(1, 256, (2, 6, 6, 2), dtype=np.uint8)
    assert pixel_distance(x, y) == pytest.approx(pixel_distance(x / 255, y / 255), rel=1e-6)


# Fig. 6


def brute_force(textures, metric):
    """Medians by definition: pairs of different patches on the diagonal, all pairs off it."""
    n = len(textures)
    d = np.empty((n, n))
    for i, j in product(range(n), repeat=2):
        pairs = combinations(textures[i], 2) if i == j else product(textures[i], textures[j])
        d[i, j] = median(metric(x, y) for x, y in pairs)
    return d


def test_distance_matrix_is_the_median_over_pairs():
    rng = np.random.default_rng(0)
    textures = [list(rng.random((n, 4, 4, 1)) ** (n - 1)) for n in (2, 5, 3)]
    expected = brute_force(textures, pixel_distance)
    np.testing.assert_allclose(distance_matrix(textures, pixel_distance), expected, rtol=1e-12)


def test_model_and_callable_give_the_same_matrix(bank, images):
    textures = [images[:3], [image[:7] ** 3 for image in images[2:]]]
    model = NaiveModel(bank)
    by_model = distance_matrix(textures, model)
    assert model.calls == 6  # not once for each pair
    expected = brute_force(textures, lambda x, y: gram_distance(x, y, NaiveModel(bank)))
    np.testing.assert_allclose(by_model, expected, rtol=1e-9)
    np.testing.assert_allclose(distance_matrix(textures, GramModel(bank)), expected, rtol=1e-9)


def test_large_gram_matrices_are_added_up_in_pieces():
    class Model:
        def gram(self, image):  # 300**2 values: two pieces, the second shorter
            g = np.random.default_rng(int(1e6 * image[0, 0])).random((300, 300))
            return (1 + 1e-3 * (g + g.T)).astype(np.float32)

    textures = np.random.default_rng(0).random((2, 2, 3, 3))
    expected = brute_force(textures, lambda x, y: gram_distance(x, y, Model()))
    np.testing.assert_allclose(distance_matrix(textures, Model()), expected, rtol=1e-12)


def test_patches_reach_a_callable_as_they_are():
    seen = set()

    def metric(x, y):
        seen.update([(x.dtype, x.shape), (y.dtype, y.shape)])
        return -1

    patches = np.zeros((2, 3, 4, 5), np.uint8)
    np.testing.assert_array_equal(distance_matrix(patches, metric), -np.ones((2, 2)))
    assert seen == {(np.dtype(np.uint8), (4, 5))}


def test_patches_of_one_texture_are_closer_than_those_of_two():
    textures = [
        sample_patches([image], 48, 6, rng=0)
        for image in (data.brick(), data.gravel(), data.grass())
    ]
    model = GramModel(FilterBank.random((3, 7, 11), 16, 1, rng=0), mean=[0.5])
    d = distance_matrix(textures, model)
    for i, j in combinations(range(3), 2):
        assert d[i, j] > max(d[i, i], d[j, j])
    # the claim of Fig. 6: pixels do not tell textures apart like this
    p = distance_matrix(textures, pixel_distance)
    contrast = [m[~np.eye(3, dtype=bool)].mean() / np.diag(m).mean() for m in (d, p)]
    assert contrast[0] > 2 * contrast[1]


# bad input


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((3, 3)), np.ones((3, 4)), "same shape"),
        (np.ones((3, 3)), np.ones((3, 3, 3)), "same shape"),
        (np.zeros((3, 3)), np.ones((3, 3)), "x must have a pixel that is not zero"),
        (np.ones((3, 3)), np.zeros((3, 3)), "y must have a pixel that is not zero"),
        (np.full((3, 3), np.nan), np.ones((3, 3)), "x must be finite"),
        (np.ones(3), np.ones(3), "x must have 2 or 3 dimensions"),
    ],
)
def test_pixel_distance_refuses(x, y, message):
    with pytest.raises(ValueError, match=message):
        pixel_distance(x, y)


def test_gram_distance_refuses_black_images_and_other_channel_counts(bank, images):
    model = GramModel(bank)
    with pytest.raises(ValueError, match="y must have a Gram matrix that is not zero"):
        gram_distance(images[0], 0 * images[0], model)
    with pytest.raises(ValueError, match=r"2 channel\(s\)"):
        gram_distance(images[0], images[0, :, :, :1], model)


TWO = np.ones((2, 4, 4))


@pytest.mark.parametrize(
    ("patches", "metric", "error", "message"),
    [
        ([TWO, TWO[:1]], pixel_distance, ValueError, r"patches\[1\] must hold at least 2"),
        ([], pixel_distance, ValueError, "at least one texture"),
        (3, pixel_distance, TypeError, "sequence of sequences"),
        ([TWO, TWO * np.inf], pixel_distance, ValueError, r"patches\[1\]\[0\] must be finite"),
        ([TWO[0], TWO[0]], pixel_distance, ValueError, r"patches\[0\]\[0\] must have 2 or 3 dim"),
        ([TWO, TWO], "ssim", TypeError, "metric must be a model"),
        ([TWO, TWO], lambda x, y: np.nan, ValueError, r"metric\(x, y\) must be a finite number"),
        ([TWO, TWO], lambda x, y: None, TypeError, r"metric\(x, y\) must be a finite number"),
        (
            [TWO, TWO * 0],
            GramModel(FilterBank.fourier(3, channels=1)),
            ValueError,
            "got 2 zero.*patch 2",
        ),
    ],
)
def test_distance_matrix_refuses(patches, metric, error, message):
    with pytest.raises(error, match=message):
        distance_matrix(patches, metric)


def test_a_model_of_several_gram_matrices_is_refused(rng):
    class Layers:
        def gram(self, image):
            return np.eye(2), np.eye(3)

    x, y = rng.random((2, 6, 6))
    with pytest.raises(TypeError, match="model must have one Gram matrix; Layers has 2. Pass a Gr"):
        gram_distance(x, y, Layers())
    with pytest.raises(TypeError, match="model must have one Gram matrix; Layers has 2. Pass a Gr"):
        distance_matrix([[x, y], [y, x]], Layers())

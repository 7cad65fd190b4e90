"""Stimuli: against the formulas, pixel by pixel, and their symmetries."""

import numpy as np
import pytest

from fastvis.twin import difference_of_gaussians, gabor, grating, match_energy, plaid

SIZE = (12, 17)


def pixels(center):
    """Distances of rows (down) and columns from a center."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return rows - center[0], columns - center[1]


def test_gabors_follow_the_formula(rng):
    parameters = dict(
        sigma=rng.uniform(1, 4, 5), frequency=rng.uniform(0, 0.3, 5),
        orientation=rng.uniform(0, np.pi, 5), phase=rng.uniform(0, 6, 5),
        contrast=rng.uniform(0.5, 2, 5), center=rng.uniform(2, 9, (5, 2)),
    )  # fmt: skip
    found = gabor(SIZE, **parameters, dtype=np.float64)
    for i, image in enumerate(found):
        sigma, frequency, orientation, phase, contrast, center = (p[i] for p in parameters.values())
        row, column = pixels(center)
        # (1), (2): across the stripes, turned counter-clockwise with rows going down
        u = row * np.cos(orientation) + column * np.sin(orientation)
        wave = np.cos(2 * np.pi * frequency * u + phase)
        expected = contrast / 2 * np.exp(-(row**2 + column**2) / (2 * sigma**2)) * wave
        np.testing.assert_allclose(image, expected, atol=1e-13)


@pytest.mark.parametrize("function", [gabor, plaid, grating])
def test_orientation_turns_the_picture_counter_clockwise(function):
    options = dict(frequency=0.13, phase=0.7, dtype=np.float64)
    if function is not grating:
        options["sigma"] = 2.5
    angles = 0.3 + np.arange(5) * np.pi / 2
    turned = function(15, orientation=angles, **options)
    for i in range(4):
        np.testing.assert_allclose(turned[i + 1], np.rot90(turned[i]), atol=1e-12)
    assert np.abs(turned[1] - turned[0]).max() > 0.1


def test_horizontal_stripes_at_orientation_zero():
    x = grating(SIZE, frequency=0.25, dtype=np.float64)
    np.testing.assert_array_equal(x, np.repeat(x[:, :1], SIZE[1], axis=1))
    assert np.ptp(x[:, 0]) > 0.5


def test_parameters_broadcast_to_a_batch():
    x = gabor(
        9, sigma=[[1.0], [2.0]], frequency=0.1, phase=[0.0, 1.0, 2.0], center=np.full((3, 2), 4.0)
    )
    assert x.shape == (2, 3, 9, 9)
    assert x.dtype == np.float32
    one = gabor(9, sigma=2.0, frequency=0.1, phase=1.0)
    np.testing.assert_allclose(x[1, 1], one, atol=1e-7)


def test_plaids_are_sums_of_gabors():
    common = dict(sigma=3.0, frequency=0.1, dtype=np.float64)
    found = plaid(
        SIZE, orientation=0.4, phase=0.2, contrast=0.5, orthogonal_contrast=2.0,
        orthogonal_phase=1.0, **common,
    )  # fmt: skip
    expected = gabor(SIZE, orientation=0.4, phase=0.2, contrast=0.5, **common)
    turned = gabor(SIZE, orientation=0.4 + np.pi / 2, phase=1.0, contrast=2.0, **common)
    np.testing.assert_allclose(found, expected + turned, atol=1e-14)


def test_gratings_end_at_their_edges():
    disk = grating(SIZE, frequency=0.0, contrast=2.0, radius=4.0, center=(5.0, 8.0))
    row, column = pixels((5, 8))
    np.testing.assert_array_equal(disk, row**2 + column**2 <= 16)
    ring = grating(SIZE, frequency=0.0, contrast=2.0, radius=4, inner_radius=2, center=(5.0, 8.0))
    square = row**2 + column**2
    np.testing.assert_array_equal(ring, (square <= 16) & (square >= 4))


def test_difference_of_gaussians_follows_the_formula():
    found = difference_of_gaussians(
        SIZE, sigma_center=1.5, sigma_surround=[3.0, 5.0], contrast=-2.0, surround=[0.9, 0.2],
        center=(4.5, 7.0), dtype=np.float64,
    )  # fmt: skip
    row, column = pixels((4.5, 7))
    square = row**2 + column**2
    for image, wide, surround in zip(found, (3, 5), (0.9, 0.2)):
        g, h = np.exp(-square / (2 * 1.5**2)), np.exp(-square / (2 * wide**2))
        np.testing.assert_allclose(image, -2 * ((1 + surround) * g - surround * h), atol=1e-13)


def test_energy_is_matched():
    x = match_energy(gabor(9, sigma=[1.0, 3.0], frequency=0.1), 12.0)
    np.testing.assert_allclose(np.linalg.norm(x, axis=(1, 2)), 12, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gabor(0, sigma=1.0, frequency=0.1), ValueError, "size must be"),
        (lambda: gabor((1, 2, 3), sigma=1.0, frequency=0.1), ValueError, "an int or"),
        (lambda: gabor(5, sigma=0.0, frequency=0.1), ValueError, "sigma must be > 0"),
        (lambda: gabor(5, sigma=1.0, frequency=-0.1), ValueError, "frequency must be >= 0"),
        (lambda: gabor(5, sigma=1.0, frequency=np.nan), ValueError, "frequency must be finite"),
        (lambda: gabor(5, sigma=[1, 2], frequency=[1, 2, 3]), ValueError, "must broadcast"),
        (lambda: gabor(5, sigma=1.0, frequency=0.1, center=3.0), ValueError, "center must be rows"),
        (lambda: gabor(5, sigma=1.0, frequency=0.1, dtype=int), TypeError, "dtype must be"),
        (lambda: grating(5, frequency=0.1, radius=-1), ValueError, "radius must be >= 0"),
        (lambda: grating(5, frequency=0.1, radius=np.nan), ValueError, "radius must be >= 0"),
        (lambda: match_energy(np.zeros((2, 2)), 1.0), ValueError, "0 everywhere"),
        (lambda: match_energy(np.ones((2, 2)), 0), ValueError, "norm must be a finite"),
        (lambda: match_energy(np.ones((2, 2)), [1, 2]), TypeError, "norm must be a finite number"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_energy_of_very_weak_images():
    weak = np.full((2, 3, 3), 1e-42, np.float32)
    np.testing.assert_allclose(match_energy(weak, 6.0), np.float32(2.0), rtol=1e-6)

"""Rotations in the Fourier transform over orientation against their definitions."""

import numpy as np
import pytest

from fastvis._kernels.rotation import reference, spectrum, weights

ORIENTATIONS = pytest.mark.parametrize("n_orientations", [1, 2, 3, 7, 8])


@ORIENTATIONS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_there_and_back(rng, n_orientations, dtype):
    readouts = rng.normal(size=(5, 3, n_orientations)).astype(dtype)
    back = spectrum.to_readouts(spectrum.to_spectrum(readouts), n_orientations)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, readouts, atol=8 * np.finfo(dtype).eps)


@ORIENTATIONS
def test_distances_are_kept(rng, n_orientations):
    readouts = rng.normal(size=(5, 3, n_orientations))
    x = spectrum.coordinates(spectrum.to_spectrum(readouts))
    for a, b in ((0, 1), (2, 4)):
        expected = np.linalg.norm(readouts[a] - readouts[b])
        assert np.linalg.norm(x[a] - x[b]) == pytest.approx(expected, rel=1e-13)


@ORIENTATIONS
@pytest.mark.parametrize("kind", ["cyclic", "von Mises"])
def test_turning_is_rotating(rng, n_orientations, kind):
    readouts, angles = rng.normal(size=(5, 3, n_orientations)), rng.uniform(-9, 9, 5)
    if kind == "cyclic":
        shifts = reference.cyclic_weights(angles, n_orientations)
    else:
        shifts = reference.von_mises_weights(angles, n_orientations, 3.0)
    turned = spectrum.turn(spectrum.to_spectrum(readouts), spectrum.gains(shifts))
    expected = reference.rotate(readouts, shifts)
    np.testing.assert_allclose(spectrum.to_readouts(turned, n_orientations), expected, atol=1e-13)


@ORIENTATIONS
def test_exact_turns(rng, n_orientations):
    readouts, angles = rng.normal(size=(5, 3, n_orientations)), rng.uniform(-9, 9, 5)
    gains, _ = spectrum.fourier_gains(angles, n_orientations)
    turned = spectrum.turn(spectrum.to_spectrum(readouts), gains)
    expected = reference.fourier_rotation(readouts, angles)
    np.testing.assert_allclose(spectrum.to_readouts(turned, n_orientations), expected, atol=1e-13)


# Derivatives, of sum(c * rotated) with fixed numbers c


@ORIENTATIONS
@pytest.mark.parametrize("kind", ["cyclic", "von Mises", "fourier"])
def test_derivative_by_the_angle(rng, n_orientations, kind):
    z = spectrum.to_spectrum(rng.normal(size=(5, 3, n_orientations)))
    c = spectrum.to_spectrum(rng.normal(size=(5, 3, n_orientations)))
    angles = rng.uniform(0, 7, 5)

    def gains(angles):
        """Gains and their slope."""
        if kind == "fourier":
            return spectrum.fourier_gains(angles, n_orientations)
        if kind == "cyclic":
            both = weights.cyclic_weights(angles, n_orientations)
        else:
            both = weights.von_mises_weights(angles, n_orientations, 3.0)[:2]
        return tuple(map(spectrum.gains, both))

    def value(angles):
        turned = spectrum.turn(z, gains(angles)[0])
        return np.sum(c.real * turned.real + c.imag * turned.imag, axis=(1, 2))

    slope = np.sum(spectrum.project(z, c) * gains(angles)[1], axis=1).real
    expected = (value(angles + 1e-6) - value(angles - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, expected, atol=1e-7)


def test_power_is_what_a_rotation_can_change(rng):
    for n_orientations in (7, 8):
        readouts = rng.normal(size=(5, 3, n_orientations))
        z = spectrum.to_spectrum(readouts)
        varying = readouts - readouts.mean(axis=-1, keepdims=True)
        expected = np.sum(varying**2, axis=(1, 2))
        np.testing.assert_allclose(spectrum.power(z).sum(axis=1), expected, rtol=1e-12)

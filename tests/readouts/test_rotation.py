"""Rotations of readouts and the pairwise loss: definitions, identities, derivatives, bad input."""

import numpy as np
import pytest

from fastvis._kernels.rotation import reference
from fastvis.readouts import (
    cyclic_rotation,
    fourier_rotation,
    pairwise_distance_loss,
    von_mises_rotation,
)

SHAPES = [(5, 3, 8), (4, 1, 7), (3, 2, 2), (2, 4, 1)]
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-12)])
ROTATIONS = {
    "cyclic": cyclic_rotation,
    "von Mises": lambda readouts, angles: von_mises_rotation(readouts, angles, 3.0),
    "fourier": fourier_rotation,
}


def defined(kind, readouts, angles):
    n_orientations = readouts.shape[2]
    if kind == "cyclic":
        return reference.rotate(readouts, reference.cyclic_weights(angles, n_orientations))
    if kind == "von Mises":
        gamma = reference.von_mises_weights(angles, n_orientations, 3.0)
        return reference.rotate(readouts, gamma)
    return reference.fourier_rotation(readouts, angles)


@DTYPES
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ROTATIONS)
def test_rotations_are_as_defined(rng, kind, shape, dtype, tolerance):
    readouts = rng.normal(size=shape).astype(dtype)
    angles = rng.uniform(-20, 20, shape[0])
    result = ROTATIONS[kind](readouts, angles)
    assert result.dtype == dtype
    expected = defined(kind, readouts.astype(np.float64), angles)
    np.testing.assert_allclose(result, expected, atol=tolerance)


@pytest.mark.parametrize("kind", ROTATIONS)
def test_one_angle_for_all(rng, kind):
    readouts = rng.normal(size=(4, 2, 8))
    all_of_them = ROTATIONS[kind](readouts, np.full(4, 0.7))
    np.testing.assert_array_equal(ROTATIONS[kind](readouts, 0.7), all_of_them)


@pytest.mark.parametrize("shift", [-3, 0, 1, 11])
def test_a_whole_bin_is_a_roll(rng, shift):
    readouts = rng.normal(size=(4, 2, 8))
    rolled, angle = np.roll(readouts, -shift, axis=-1), shift * 2 * np.pi / 8
    np.testing.assert_allclose(cyclic_rotation(readouts, angle), rolled, atol=1e-12)
    np.testing.assert_allclose(fourier_rotation(readouts, angle), rolled, atol=1e-12)
    np.testing.assert_allclose(von_mises_rotation(readouts, angle, 1e5), rolled, atol=1e-12)


def test_fourier_rotations_add_up_without_the_nyquist_bin(rng):
    readouts = rng.normal(size=(4, 2, 8))
    readouts -= np.mean(readouts * (-1.0) ** np.arange(8), axis=-1, keepdims=True) * (
        (-1.0) ** np.arange(8)
    )
    twice = fourier_rotation(fourier_rotation(readouts, 0.3), 1.1)
    np.testing.assert_allclose(twice, fourier_rotation(readouts, 1.4), atol=1e-12)
    lengths = np.linalg.norm(readouts, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(twice, axis=-1), lengths, rtol=1e-12)


def test_what_the_relaxation_does_to_fourier_bins():
    # the docstring's numbers
    impulse = np.eye(8)[:1][None]
    gain = np.abs(np.fft.rfft(von_mises_rotation(impulse, 0, 5.0)[0, 0]))
    np.testing.assert_allclose(gain[1:], [0.90, 0.67, 0.46, 0.37], atol=0.005)


def test_temperature_zero_is_the_mean(rng):
    readouts = rng.normal(size=(3, 2, 8))
    mean = np.broadcast_to(readouts.mean(axis=-1, keepdims=True), readouts.shape)
    np.testing.assert_allclose(von_mises_rotation(readouts, 1.0, 0), mean, atol=1e-12)


# The pairwise loss


def loss_by_definition(readouts, angles, temperature, beta):
    n = len(readouts)
    gamma = reference.von_mises_weights(angles, readouts.shape[2], temperature)
    loss, _ = reference.mean_distance(reference.rotate(readouts, gamma).reshape(n, -1))
    gamma = reference.von_mises_weights(np.zeros(n), readouts.shape[2], temperature)
    difference = (reference.rotate(readouts, gamma) - readouts).reshape(n, -1)
    return loss + beta * np.mean(np.linalg.norm(difference, axis=1))


@DTYPES
@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("shape", [(9, 3, 8), (2, 1, 2), (70, 5, 7)])
def test_loss_is_as_defined(rng, shape, beta, dtype, tolerance):
    readouts = rng.normal(size=shape).astype(dtype)
    angles = rng.uniform(-9, 9, shape[0])
    loss, (d_angles, d_temperature) = pairwise_distance_loss(readouts, angles, 2.5, beta=beta)
    expected = loss_by_definition(readouts.astype(np.float64), angles, 2.5, beta)
    assert loss == pytest.approx(expected, rel=tolerance)
    assert (type(loss), type(d_temperature)) == (float, float)
    assert (d_angles.shape, d_angles.dtype) == (angles.shape, dtype)


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_gradient_of_the_loss(rng, beta):
    readouts, angles = rng.normal(size=(12, 3, 8)), rng.uniform(0, 7, 12)
    _, (d_angles, d_temperature) = pairwise_distance_loss(readouts, angles, 2.5, beta=beta)

    def slope(step, temperature_step):
        ends = [
            pairwise_distance_loss(
                readouts, angles + s * step, 2.5 + s * temperature_step, beta=beta
            )[0]
            for s in (1, -1)
        ]
        return (ends[0] - ends[1]) / 2

    for n in range(12):
        step = 1e-5 * np.eye(12)[n]
        assert slope(step, 0) == pytest.approx(1e-5 * d_angles[n], rel=1e-6, abs=1e-14)
    assert slope(0, 1e-5) == pytest.approx(1e-5 * d_temperature, rel=1e-6)


def test_a_common_shift_by_whole_bins_changes_nothing(rng):
    readouts, angles = rng.normal(size=(12, 3, 8)), rng.uniform(0, 7, 12)
    loss, (gradient, _) = pairwise_distance_loss(readouts, angles, 4.0)
    shifted, (same, _) = pairwise_distance_loss(readouts, angles + 3 * 2 * np.pi / 8, 4.0)
    assert shifted == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(same, gradient, atol=1e-13)


def test_another_common_shift_does_not(rng):
    # interpolation blurs, and blurred readouts are nearer to each other
    readouts, angles = rng.normal(size=(12, 3, 8)), np.zeros(12)
    loss, _ = pairwise_distance_loss(readouts, angles, 20.0)
    assert pairwise_distance_loss(readouts, angles + np.pi / 8, 20.0)[0] < 0.9 * loss


def test_readouts_that_are_the_same_everywhere(rng):
    # no reconstruction error, no preferred angle; no NaN
    readouts = np.broadcast_to(rng.normal(size=(6, 3, 1)), (6, 3, 8))
    loss, (d_angles, d_temperature) = pairwise_distance_loss(readouts, np.arange(6.0), 3.0, beta=1)
    assert loss > 0
    np.testing.assert_allclose(d_angles, 0, atol=1e-12)
    assert d_temperature == pytest.approx(0, abs=1e-12)


# Bad input

R = np.ones((3, 2, 8))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cyclic_rotation(np.ones((3, 16)), 0), ValueError, "readouts must have 3 dim"),
        (lambda: cyclic_rotation(R, [0, 1]), ValueError, "angles must have one value for each of"),
        (lambda: cyclic_rotation(R, np.nan), ValueError, "angles must be finite"),
        (lambda: fourier_rotation(R * np.inf, 0), ValueError, "readouts must be finite"),
        (lambda: fourier_rotation("no", 0), TypeError, "readouts must be an array of real num"),
        (lambda: von_mises_rotation(R, 0, -1), ValueError, "temperature must be a finite number"),
        (lambda: pairwise_distance_loss(R, 0, 0), ValueError, "temperature must be a finite numb"),
        (lambda: pairwise_distance_loss(R, 0, 1, beta=-1), ValueError, "beta must be a finite num"),
        (lambda: pairwise_distance_loss(R[:1], 0, 1), ValueError, "at least 2 neurons and 2 orie"),
        (lambda: pairwise_distance_loss(R[..., :1], 0, 1), ValueError, "at least 2 neurons and"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()

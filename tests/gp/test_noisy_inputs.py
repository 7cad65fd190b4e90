"""Gaussian processes at noisy inputs: closed forms, and the factor 1/2 of the corrected (11)."""

import numpy as np
import pytest

from fastvis.gp import (
    SquaredExponential,
    noisy_input_variance,
    noisy_input_variance_slope,
    variance_beside_one_point,
)


def conditional(z, u, kernel):
    def moments(x):
        gain = np.linalg.solve(kernel(z), kernel(z, x)).T
        return gain @ u, kernel.diag(x) - (gain * kernel(x, z)).sum(1)

    return moments


def test_one_point_at_zero_matches_its_closed_form():
    kernel = SquaredExponential(1.7, 0.6)
    moments = conditional(np.zeros(1), np.zeros(1), kernel)
    d = np.array([0.0, 0.3, 0.6, 2.0])
    for s in (0.01, 0.1, 0.5):
        expected = variance_beside_one_point(d, s**2, variance=1.7, lengthscale=0.6)
        np.testing.assert_allclose(noisy_input_variance(moments, d, s), expected, rtol=1e-10)


def test_second_order_has_the_factor_one_half(rng):
    """Errors fall with the fourth power of the noise; those of the printed (11) with the second."""
    kernel, z = SquaredExponential(1.0, 0.7), np.linspace(-1, 1, 4)
    moments = conditional(z, rng.normal(size=4), kernel)
    x = np.array([-0.8, 0.05, 0.9, 1.6])
    slope = noisy_input_variance_slope(moments, x, step=1e-3)
    _, rest = moments(x)
    errors = [
        np.abs(noisy_input_variance(moments, x, s) - rest - s**2 * slope).max()
        for s in (0.02, 0.01)
    ]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.05)
    h = 1e-3
    curvature = (moments(x + h)[1] - 2 * rest + moments(x - h)[1]) / h**2
    printed = slope + curvature / 2
    error = np.abs(noisy_input_variance(moments, x, 0.01) - rest - 1e-4 * printed).max()
    assert error > 20 * errors[1]


@pytest.mark.parametrize(("distance", "sign"), [(0.69, 1), (0.73, -1)])
def test_counterexample_turns_at_lengthscale_by_root_two(distance, sign):
    moments = conditional(np.zeros(1), np.zeros(1), SquaredExponential())
    [slope] = noisy_input_variance_slope(moments, [distance], step=1e-3)
    expected = np.exp(-(distance**2)) * (1 - 2 * distance**2)
    assert slope == pytest.approx(expected, rel=1e-6)
    assert np.sign(slope) == sign


def test_no_noise_is_the_variance_of_the_process():
    assert noisy_input_variance(lambda x: (x, 1 + x**2), [2.0], 0.0) == pytest.approx(5)


def test_errors():
    with pytest.raises(ValueError, match="deviation must be"):
        noisy_input_variance(lambda x: (x, x), [0.0], -0.1)
    with pytest.raises(ValueError, match="noise_variance must be"):
        variance_beside_one_point(1.0, -0.1)

"""The polar Hermite basis: what is known of it, and turns."""

import numpy as np
import pytest

from fastvis.twin import hermite_basis, rotate_coefficients
from fastvis.twin.hermite import fine_functions


def images(coefficients, size):
    basis = hermite_basis(size)
    return np.tensordot(coefficients, basis, 1)


@pytest.mark.parametrize(("size", "n", "condition"), [(13, 91, 64.3), (5, 15, 3.27)])
def test_basis_has_the_size_and_condition_of_the_published_one(size, n, condition):
    flat = hermite_basis(size).reshape(n, size**2)
    assert np.linalg.matrix_rank(flat) == n
    assert np.linalg.cond(flat @ flat.T) == pytest.approx(condition, rel=2e-3)


@pytest.mark.parametrize(("size", "overlap"), [(13, 0.0154), (5, 0.0139)])
def test_functions_are_nearly_orthogonal_on_the_fine_grid(size, overlap):
    flat = fine_functions(size, 2).reshape(size * (size + 1) // 2, -1)
    gram = flat @ flat.T
    np.testing.assert_allclose(np.diag(gram), 1, atol=1e-12)
    assert np.abs(gram - np.diag(np.diag(gram))).max() == pytest.approx(overlap, abs=6e-5)


@pytest.mark.parametrize("size", [1, 2, 5, 8, 13])
def test_a_quarter_turn_is_that_of_the_pixels(size, rng):
    c = rng.normal(size=(3, size * (size + 1) // 2))
    turned = images(rotate_coefficients(c, np.pi / 2), size)
    np.testing.assert_allclose(turned, np.rot90(images(c, size), axes=(1, 2)), atol=1e-12)


def test_eight_turns_of_45_degrees_are_none(rng):
    c = rng.normal(size=91)
    turned = c
    for _ in range(8):
        turned = rotate_coefficients(turned, np.pi / 4)
    np.testing.assert_allclose(turned, c, atol=1e-12)
    np.testing.assert_allclose(rotate_coefficients(c, 2 * np.pi), c, atol=1e-12)
    assert np.abs(rotate_coefficients(c, np.pi / 4) - c).max() > 0.1


def test_any_turn_is_that_of_a_function_of_the_angle():
    """Order 1 is a ramp times a Gaussian: turned by 30 degrees it rises in that direction."""
    size = 13
    c = np.zeros(91)
    c[1] = 1  # rank 1, cosine: rises to the right
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    ramp = images(rotate_coefficients(c, np.pi / 6), size)
    slope = [(ramp * x).sum(), -(ramp * y).sum()]  # right, up
    assert np.arctan2(slope[1], slope[0]) == pytest.approx(np.pi / 6, abs=1e-10)


def test_angles_broadcast(rng):
    c, angles = rng.normal(size=(2, 15)), np.array([0.3, -1.0])
    together = rotate_coefficients(c, angles)
    for row, angle, found in zip(c, angles, together):
        np.testing.assert_allclose(found, rotate_coefficients(row, angle), atol=1e-15)
    assert rotate_coefficients(c[0], np.arange(8.0)).shape == (8, 15)
    assert rotate_coefficients(c.astype(np.float32), 0.5).dtype == np.float32


def test_errors():
    with pytest.raises(ValueError, match="size must be"):
        hermite_basis(0)
    with pytest.raises(ValueError, match="1, 3, 6, 10, 15, ...; got 14"):
        rotate_coefficients(np.zeros(14), 0.0)
    with pytest.raises(ValueError, match="coefficients must be finite"):
        rotate_coefficients(np.full(15, np.nan), 0.0)

"""Eqs (1)-(3): the painter's algorithm, partition of unity, dtypes, bad input."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastvis.scenes import composite

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
HARD = SHAPES.flatmap(lambda shape: hnp.arrays(bool, shape))
SOFT = SHAPES.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=st.floats(0, 1)))


def painter(shapes, appearances):
    """Section 2, step by step: place each leaf on the canvas, from back to front."""
    image = np.zeros(appearances.shape[1:])
    for m, x in zip(shapes, appearances):
        image = m[..., None] * x + (1 - m[..., None]) * image
    return image


def pictures_of(shapes, channels=3):
    return np.random.default_rng(0).random((*shapes.shape, channels))


@given(st.one_of(HARD, SOFT))
def test_the_image_is_what_the_painter_leaves(shapes):
    appearances = pictures_of(shapes)
    expected = painter(shapes.astype(float), appearances)
    np.testing.assert_allclose(composite(shapes, appearances).image, expected, atol=1e-15)


@given(st.one_of(HARD, SOFT))
def test_scopes_and_regions_are_as_defined(shapes):
    result = composite(shapes, pictures_of(shapes))
    assert result.regions.dtype == result.scopes.dtype == shapes.dtype
    m = shapes.astype(float)
    for k in range(len(m)):
        scope = np.prod(1 - m[k + 1 :], axis=0)  # (1) without the recursion
        np.testing.assert_allclose(result.scopes[k], scope, atol=1e-15)
        np.testing.assert_allclose(result.regions[k], scope * m[k], atol=1e-15)


@given(st.one_of(HARD, SOFT))
def test_regions_sum_to_one_on_a_background(shapes):
    shapes[0] = 1
    regions = composite(shapes, pictures_of(shapes)).regions
    assert regions.min() >= 0
    if shapes.dtype == bool:
        np.testing.assert_array_equal(regions.sum(axis=0), 1)
    else:
        np.testing.assert_allclose(regions.sum(axis=0), 1, rtol=1e-15)


def test_the_printed_recursion_would_not_sum_to_one(rng):
    # the erratum that the docstring notes
    m = rng.random((4, 5, 5))
    m[0] = 1
    scope, total = np.ones((5, 5)), 0
    for k in reversed(range(4)):
        total, scope = total + scope * m[k], scope * (1 - scope * m[k])
    assert total.max() > 1.01


def test_labels_are_the_front_leaf(rng):
    shapes = rng.random((6, 9, 9)) < 0.3
    labels = composite(shapes, pictures_of(shapes)).labels
    assert labels.dtype == np.uint8
    for i, j in np.ndindex(9, 9):
        there = np.flatnonzero(shapes[:, i, j])
        assert labels[i, j] == (there[-1] if there.size else 0)


def test_labels_of_soft_layers():
    labels = composite([[[1.0, 1.0, 1.0]], [[0.4, 0.5, 0.6]]], [[0.0], [1.0]]).labels
    assert labels.tolist() == [[0, 0, 1]]  # of equal regions the one farther back


def test_more_leaves_than_uint8_holds():
    shapes = np.zeros((300, 1, 300), bool)
    shapes[np.arange(300), 0, np.arange(300)] = True
    labels = composite(shapes, np.zeros((300, 1))).labels
    assert labels.dtype == np.int32
    assert labels[0].tolist() == list(range(300))


def test_nothing_is_black():
    assert composite([[[False, True]]], [[1.0]]).image.ravel().tolist() == [0, 1]


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("constant", [True, False])
def test_a_batch_is_its_images(rng, hard, constant):
    shapes = rng.random((3, 4, 5, 6), dtype=np.float32)
    shapes = shapes > 0.5 if hard else shapes
    appearances = rng.random((3, 4, 2) if constant else (3, 4, 5, 6, 2))
    batch = composite(shapes, appearances)
    for i in range(3):
        one = composite(shapes[i], appearances[i])
        for name in ("image", "regions", "scopes", "labels"):
            np.testing.assert_array_equal(getattr(batch, name)[i], getattr(one, name))


def test_a_color_is_a_constant_picture(rng):
    shapes, colors = rng.random((4, 5, 6)), rng.random((4, 3))
    pictures = np.broadcast_to(colors[:, None, None], (4, 5, 6, 3))
    constant, picture = composite(shapes, colors), composite(shapes, pictures)
    np.testing.assert_array_equal(constant.image, picture.image)


@pytest.mark.parametrize("shape_dtype", [bool, np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_dtypes(shape_dtype, dtype):
    shapes = np.ones((2, 3, 3), shape_dtype)
    colors = np.arange(512).astype(np.uint8).reshape(2, 256)
    given_colors = colors if dtype == np.uint8 else (colors / 255).astype(dtype)
    image = composite(shapes, given_colors).image
    wide = dtype == np.float64 or shape_dtype == np.float64
    assert image.dtype == (np.float64 if wide else np.float32)
    np.testing.assert_allclose(image, np.broadcast_to(colors[1] / 255, (3, 3, 256)), rtol=1e-7)


def test_rounding_does_not_leave_the_range(rng):
    shapes = rng.random((10, 100, 100), dtype=np.float32)
    shapes[0] = 1
    result = composite(shapes, np.ones((10, 3), np.float32))
    total = np.zeros((100, 100), np.float32)
    for region in result.regions[::-1]:
        total += region
    assert total.max() > 1  # or the next line says nothing
    assert result.image.max() == 1


def test_the_input_stays_as_it_is(rng):
    shapes, colors = rng.random((3, 4, 4)), rng.random((3, 3))
    copies = shapes.copy(), colors.copy()
    composite(shapes, colors)
    np.testing.assert_array_equal(shapes, copies[0])
    np.testing.assert_array_equal(colors, copies[1])


def test_repr():
    result = composite(np.ones((5, 2, 8, 9), bool), np.zeros((5, 2, 3)))
    assert repr(result) == "Composite(5 images of 8 x 9 pixels, 2 hard layer(s))"
    result = composite(np.ones((2, 8, 9)), np.zeros((2, 3)))
    assert repr(result) == "Composite(image of 8 x 9 pixels, 2 soft layer(s))"


ONES = np.ones((2, 4, 4))


@pytest.mark.parametrize(
    ("shapes", "appearances", "error", "message"),
    [
        (np.ones((0, 4, 4), bool), np.ones((0, 3)), ValueError, "shapes must not be empty"),
        (np.ones((4, 4), bool), np.ones((4, 3)), ValueError, "shapes must have 3 or 4 dimensions"),
        (ONES.astype(np.uint8), np.ones((2, 3)), TypeError, "Pass shapes > 0"),
        (1.5 * ONES, np.ones((2, 3)), ValueError, "shapes must have values in [0, 1]; got 1.5"),
        (-ONES, np.ones((2, 3)), ValueError, "shapes must have values in [0, 1]; got -1"),
        (ONES * np.nan, np.ones((2, 3)), ValueError, "shapes must be finite"),
        ([[[True]], [[True, False]]], np.ones((2, 3)), TypeError, "shapes must be an array"),
        (ONES, np.ones((3, 3)), ValueError, "appearances must have shape (2, C) or (2, 4, 4, C)"),
        (ONES, np.ones((2, 4, 5, 3)), ValueError, "got (2, 4, 5, 3)"),
        (ONES, np.ones((2, 4, 4)), ValueError, "Gray values need a last axis of length 1"),
        (ONES[None], np.ones((2, 3)), ValueError, "shape (1, 2, C) or (1, 2, 4, 4, C)"),
        (ONES, np.full((2, 3), 255), ValueError, "appearances must have values in [0, 1]"),
        (ONES, -np.ones((2, 3)), ValueError, "appearances must have values in [0, 1]; got -1"),
        (ONES, np.full((2, 3), np.inf), ValueError, "appearances must be finite"),
        (ONES, np.ones((2, 0)), ValueError, "appearances must not be empty"),
    ],
)
def test_bad_input(shapes, appearances, error, message):
    with pytest.raises(error, match=re.escape(message)):
        composite(shapes, appearances)

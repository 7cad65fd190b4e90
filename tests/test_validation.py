"""Each validator passes what it should, and fires with the argument, the rule and what was got."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastvis._validation import (
    check_array,
    check_choice,
    check_float,
    check_image,
    check_int,
    check_size,
)

FLOATS = st.sampled_from([np.float32, np.float64])
OTHER_NUMBERS = st.sampled_from([np.bool_, np.int8, np.uint8, np.int32, np.uint64, np.float16])
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)
FINITE = {"allow_nan": False, "allow_infinity": False}


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


# Arrays


@given(st.data(), FLOATS, SHAPES)
def test_check_array_keeps_floats(data, dtype, shape):
    array = data.draw(hnp.arrays(dtype, shape, elements=FINITE))
    before = array.copy()
    checked = check_array(array, "x", ndim=array.ndim)
    assert checked is array  # no copy
    assert np.array_equal(array, before)


@given(st.data(), OTHER_NUMBERS, SHAPES)
def test_check_array_makes_other_numbers_float64(data, dtype, shape):
    elements = FINITE if dtype == np.float16 else None
    array = data.draw(hnp.arrays(dtype, shape, elements=elements))
    checked = check_array(array, "x")
    assert checked.dtype == np.float64
    assert np.array_equal(checked, array.astype(np.float64))


@given(st.data(), FLOATS)
def test_check_array_makes_contiguous(data, dtype):
    array = data.draw(hnp.arrays(dtype, (4, 6), elements=FINITE))
    for view in (array.T, array[::2], array[:, ::-1]):
        checked = check_array(view, "x")
        assert checked.flags.c_contiguous
        assert checked.dtype == dtype
        assert np.array_equal(checked, view)


def test_check_array_takes_lists_and_any_byte_order():
    assert check_array([[1, 2], [3, 4.5]], "x", ndim=(1, 2)).tolist() == [[1, 2], [3, 4.5]]
    swapped = check_array(np.array([1.5, 2], ">f4"), "x")
    assert swapped.dtype.isnative
    assert swapped.tolist() == [1.5, 2]


def test_check_array_takes_read_only_arrays():
    array = np.zeros(3)
    array.flags.writeable = False
    assert check_array(array, "x") is array


@given(st.integers(0, 11), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_check_array_refuses_values_that_are_not_finite(i, value):
    array = np.zeros((3, 4))
    array.flat[i] = value
    with raises(
        ValueError,
        "x must be finite; got 1 value(s) that are NaN or infinite. Remove or replace them first.",
    ):
        check_array(array, "x")
    assert check_array(array, "x", finite=False) is array


@pytest.mark.parametrize(
    ("array", "keywords", "error", "message"),
    [
        ("abc", {}, TypeError, "x must be an array of real numbers; got dtype <U3."),
        (None, {}, TypeError, "x must be an array of real numbers; got dtype object."),
        ([1j], {}, TypeError, "x must be an array of real numbers; got dtype complex128."),
        ([[1], [1, 2]], {}, TypeError, "x must be an array of numbers; got list."),
        ([], {}, ValueError, "x must not be empty; got shape (0,)."),
        (np.ones((3, 0)), {}, ValueError, "x must not be empty; got shape (3, 0)."),
        (1.0, {"ndim": 1}, ValueError, "x must have 1 dimensions; got shape ()."),
        (
            np.ones((2, 3)),
            {"ndim": 3, "axes": "(a, b, c)", "remedy": "Pass c=4."},
            ValueError,
            "x must have 3 dimensions (a, b, c); got shape (2, 3). Pass c=4.",
        ),
        (
            [1, 2],
            {"ndim": (2, 3), "axes": "(n, m)"},
            ValueError,
            "x must have 2 or 3 dimensions (n, m); got shape (2,).",
        ),
    ],
)
def test_check_array_refuses(array, keywords, error, message):
    with raises(error, message):
        check_array(array, "x", **keywords)


# Images


@given(st.data(), FLOATS, hnp.array_shapes(min_dims=2, max_dims=3, max_side=6))
def test_check_image_keeps_floats(data, dtype, shape):
    image = data.draw(hnp.arrays(dtype, shape, elements=FINITE))
    checked = check_image(image)
    assert checked.dtype == dtype
    assert checked.flags.c_contiguous
    assert np.array_equal(checked, image.reshape(*shape[:2], -1))


@given(hnp.arrays(np.uint8, (3, 4, 3)))
def test_check_image_divides_bytes_by_255(image):
    before = image.copy()
    checked = check_image(image, channels=3, bounds=(0, 1))
    assert checked.dtype == np.float32
    assert np.allclose(checked, image / 255, rtol=1e-6, atol=0)
    assert np.array_equal(image, before)


def test_check_image_divides_the_bytes_of_other_libraries():
    # as Pillow's images and torch's tensors: no NumPy dtype, but convertible
    class Image:
        def __array__(self, dtype=None, copy=None):
            return np.full((2, 3, 3), 255, np.uint8)

    assert np.array_equal(check_image(Image()), np.ones((2, 3, 3)))


@pytest.mark.parametrize(
    ("image", "keywords", "message"),
    [
        (
            np.zeros((2, 3, 4, 3)),
            {},
            "picture must have 2 or 3 dimensions (H, W) or (H, W, C); got shape (2, 3, 4, 3). "
            "Pass one image at a time.",
        ),
        (
            np.zeros((3, 4)),
            {"channels": 3},
            "picture must have 3 channel(s); got shape (3, 4, 1). "
            "Use a filter bank of the image's channel count, or convert the image.",
        ),
        (
            [[0, 255]],
            {"bounds": (0, 1)},
            "picture must have values in [0, 1]; got 0 to 255. "
            "Rescale it first (uint8 is rescaled for you).",
        ),
        (
            [[-0.25, 1]],
            {"bounds": (0, 1)},
            "picture must have values in [0, 1]; got -0.25 to 1. "
            "Rescale it first (uint8 is rescaled for you).",
        ),
        (np.zeros((0, 4), np.uint8), {}, "picture must not be empty; got shape (0, 4)."),
        (
            [[0, np.nan]],
            {},
            "picture must be finite; got 1 value(s) that are NaN or infinite. "
            "Remove or replace them first.",
        ),
    ],
)
def test_check_image_refuses(image, keywords, message):
    with raises(ValueError, message):
        check_image(image, "picture", **keywords)


# Numbers


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9))
def test_check_int_limits(value, minimum, maximum):
    if minimum <= value <= maximum:
        assert check_int(value, "n", minimum=minimum, maximum=maximum) == value
    else:
        message = f"n must be an integer >= {minimum} and <= {maximum}; got {value}."
        with raises(ValueError, message):
            check_int(value, "n", minimum=minimum, maximum=maximum)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_check_int_takes_numpy_ints(dtype):
    assert type(check_int(dtype(3), "n", minimum=3, maximum=3)) is int


@pytest.mark.parametrize("value", [1.0, "1", None, True, np.True_, np.float64(1), [1]])
def test_check_int_refuses_other_types(value):
    with raises(TypeError, f"n must be an integer <= 5; got {value!r}."):
        check_int(value, "n", maximum=5)


@given(st.floats(-9, 9), st.integers(-9, 9), st.integers(-9, 9), st.booleans())
def test_check_float_limits(value, minimum, maximum, strict):
    limits = {"minimum": minimum, "maximum": maximum, "strict": strict}
    if (minimum < value if strict else minimum <= value) and value <= maximum:
        assert check_float(value, "s", **limits) == value
    else:
        sign = ">" if strict else ">="
        message = f"s must be a finite number {sign} {minimum} and <= {maximum}; got {value}."
        with raises(ValueError, message):
            check_float(value, "s", **limits)


@pytest.mark.parametrize("value", [3, np.float32(3), np.float16(3), np.int8(3)])
def test_check_float_takes_all_numbers(value):
    checked = check_float(value, "s")
    assert type(checked) is float
    assert checked == 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_float_refuses_values_that_are_not_finite(value):
    with raises(ValueError, f"s must be a finite number; got {value}."):
        check_float(value, "s")


@pytest.mark.parametrize("value", ["1", None, True, np.True_, 1j, [1.0], np.ones(1)])
def test_check_float_refuses_other_types(value):
    with raises(TypeError, f"s must be a finite number <= 5; got {value!r}."):
        check_float(value, "s", maximum=5)


# Choices and sizes


def test_check_choice():
    assert check_choice("a", "mode", ("a", "b")) == "a"


@pytest.mark.parametrize("value", ["A", "", None, 0, ["a"], np.array(["a", "b"])])
def test_check_choice_refuses(value):
    with raises(ValueError, f"mode must be one of 'a', 'b'; got {value!r}."):
        check_choice(value, "mode", ("a", "b"))


@pytest.mark.parametrize("size", [(3, 5), [3, 5], np.array([3, 5]), (np.int32(3), 5)])
def test_check_size(size):
    assert check_size(size) == (3, 5)
    assert all(type(n) is int for n in check_size(size))
    assert check_size(np.int64(4)) == (4, 4)


@pytest.mark.parametrize(
    ("size", "error"),
    [
        ((3,), ValueError),
        ((3, 4, 5), ValueError),
        (4.0, TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_check_size_refuses_other_shapes(size, error):
    with raises(error, f"window must be an int or (height, width); got {size!r}."):
        check_size(size, "window")


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (0, ValueError, "window[0] must be an integer >= 1; got 0."),
        ((3, -1), ValueError, "window[1] must be an integer >= 1; got -1."),
        ((3, 4.0), TypeError, "window[1] must be an integer >= 1; got 4.0."),
        ("ab", TypeError, "window[0] must be an integer >= 1; got 'a'."),
    ],
)
def test_check_size_refuses_other_numbers(size, error, message):
    with raises(error, message):
        check_size(size, "window")


def test_foreign_byte_order_keeps_its_precision():
    array = check_array(np.array([1.5, 2], ">f4"), "x")
    assert (array.dtype, array.tolist()) == (np.float32, [1.5, 2])
    assert array.dtype.isnative

"""What every public function does to its arguments, with one wording for all errors.

An error names the argument, states the rule, shows what was got, and says what to do. A wrong
kind of object is a TypeError; a wrong shape, range or value is a ValueError.
"""

import numbers

import numpy as np


def check_array(array, name, *, ndim=None, axes="", finite=True, remedy=""):
    """Return ``array`` as a C-contiguous float32 or float64 array, checked.

    Parameters
    ----------
    array : array_like
        float32 and float64 keep their dtype; integers and lists of numbers become float64.
    name : str
        Argument name for the error message.
    ndim : int or tuple of int, optional
        Allowed numbers of dimensions.
    axes : str
        Their names, e.g. ``"(rows, columns)"``, for the error message.
    finite : bool
        Refuse NaN and infinity.
    remedy : str
        What the user can do about a wrong number of dimensions.

    Examples
    --------
    >>> check_array([[1, 2]], "weights", ndim=2).dtype
    dtype('float64')
    >>> check_array([1.0, np.nan], "weights")
    Traceback (most recent call last):
    ValueError: weights must be finite; got 1 value(s) that are NaN or infinite. ...
    """
    array = _as_array(array, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers; got dtype {array.dtype}.")
    if ndim is not None and array.ndim not in np.atleast_1d(ndim):
        rule = " or ".join(str(n) for n in np.atleast_1d(ndim))
        raise ValueError(
            f"{name} must have {rule} dimensions{axes and ' ' + axes}; got shape {array.shape}. "
            f"{remedy}".rstrip()
        )
    if array.size == 0:
        raise ValueError(f"{name} must not be empty; got shape {array.shape}.")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if finite:
        n_bad = array.size - np.count_nonzero(np.isfinite(array))
        if n_bad:
            raise ValueError(
                f"{name} must be finite; got {n_bad} value(s) that are NaN or infinite. "
                "Remove or replace them first."
            )
    return np.ascontiguousarray(array)


def _as_array(array, name):
    if np.ma.is_masked(array):
        raise ValueError(f"{name} must not have masked values. Pass array.filled(value).")
    try:
        array = np.asarray(array)
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: a tensor with a gradient
        got = type(array).__name__
        remedy = f" {error}" if isinstance(error, RuntimeError) else ""
        raise TypeError(f"{name} must be an array of numbers; got {got}.{remedy}") from error


def check_image(image, name="image", *, channels=None, bounds=None):
    """Return an image as a C-contiguous float array ``(H, W, C)``.

    Parameters
    ----------
    image : array_like, (H, W) or (H, W, C)
        uint8 is divided by 255 and becomes float32; float32 and float64 keep their dtype.
    name : str
        Argument name for the error message.
    channels : int, optional
        The number of channels that the image must have.
    bounds : tuple of two floats, optional
        The range in which all values must lie.

    Examples
    --------
    >>> check_image(np.full((2, 2), 255, np.uint8)).shape
    (2, 2, 1)
    >>> check_image(np.zeros((4, 4, 2)), channels=3)
    Traceback (most recent call last):
    ValueError: image must have 3 channel(s); got shape (4, 4, 2). ...
    """
    image = _as_array(image, name)
    if image.dtype == np.uint8:
        image = image / np.float32(255)
    image = check_array(
        image, name, ndim=(2, 3), axes="(H, W) or (H, W, C)", remedy="Pass one image at a time."
    )
    if image.ndim == 2:
        image = image[:, :, None]
    if channels is not None and image.shape[2] != channels:
        raise ValueError(
            f"{name} must have {channels} channel(s); got shape {image.shape}. "
            "Use a filter bank of the image's channel count, or convert the image."
        )
    if bounds is not None and not (bounds[0] <= image.min() and image.max() <= bounds[1]):
        raise ValueError(
            f"{name} must have values in [{bounds[0]}, {bounds[1]}]; got "
            f"{image.min():.4g} to {image.max():.4g}. Rescale it first (uint8 is rescaled for you)."
        )
    return image


def check_int(value, name, *, minimum=None, maximum=None):
    """Return ``value`` as an int within ``[minimum, maximum]``.

    >>> check_int(-1, "max_iter", minimum=0)
    Traceback (most recent call last):
    ValueError: max_iter must be an integer >= 0; got -1.
    """
    rule = "an integer"
    if minimum is not None:
        rule += f" >= {minimum}"
    if maximum is not None:
        rule += f"{' and' if minimum is not None else ''} <= {maximum}"
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be {rule}; got {value!r}.")
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        raise ValueError(f"{name} must be {rule}; got {value}.")
    return int(value)


def check_float(value, name, *, minimum=None, maximum=None, strict=False):
    """Return ``value`` as a finite float; ``strict`` leaves the minimum itself out.

    >>> check_float(0, "sigma", minimum=0, strict=True)
    Traceback (most recent call last):
    ValueError: sigma must be a finite number > 0; got 0.
    """
    rule = "a finite number"
    if minimum is not None:
        rule += f" {'>' if strict else '>='} {minimum}"
    if maximum is not None:
        rule += f"{' and' if minimum is not None else ''} <= {maximum}"
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be {rule}; got {value!r}.")
    below = minimum is not None and (value <= minimum if strict else value < minimum)
    if not np.isfinite(value) or below or (maximum is not None and value > maximum):
        raise ValueError(f"{name} must be {rule}; got {value}.")
    return float(value)


def check_choice(value, name, choices):
    """Return ``value`` if it is one of ``choices``.

    >>> check_choice("same", "padding", ("zero", "periodic"))
    Traceback (most recent call last):
    ValueError: padding must be one of 'zero', 'periodic'; got 'same'.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}.")
    return value


def check_size(size, name="size"):
    """Return ``(height, width)`` of two positive ints; one int stands for a square.

    >>> check_size(64)
    (64, 64)
    >>> check_size((0, 64))
    Traceback (most recent call last):
    ValueError: size[0] must be an integer >= 1; got 0.
    """
    if isinstance(size, numbers.Integral) and not isinstance(size, bool):
        size = (size, size)
    try:
        height, width = size
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be an int or (height, width); got {size!r}.") from None
    return check_int(height, f"{name}[0]", minimum=1), check_int(width, f"{name}[1]", minimum=1)

"""Gabors, gratings, plaids and differences of Gaussians, in batches.

Pixels have coordinates (row, column) of their centers, rows going down. Angles turn pictures
counter-clockwise as seen on the screen, and at orientation 0 stripes are horizontal. The
parameters of a stimulus are numbers or arrays, broadcast to a batch (...) of images (..., H, W); a
`center` has one axis more, of two.

A Gaussian is the outer product of one function of the row and one of the column, and the cosine of
a sum is two: images are products of thin matrices, without an exponential or a cosine a pixel.
"""

import numpy as np

from .._validation import check_array, check_float, check_int


def gabor(
    size, *, sigma, frequency, orientation=0.0, phase=0.0, contrast=1.0, center=None,
    dtype=np.float32,
):  # fmt: skip
    """Gabor stimuli, (1) and (2).

    Parameters
    ----------
    size : int, or tuple (H, W)
        Of the images, pixels.
    sigma : float or array_like, (...)
        Standard deviation of the envelope, pixels; positive. The paper's size is four of them.
    frequency : float or array_like, (...)
        Cycles per pixel, at least 0.
    orientation : float or array_like, (...)
        Of the stripes, radians, period pi; pi / 2: vertical.
    phase : float or array_like, (...)
        Radians; 0: a bright stripe in the center. It grows downwards from horizontal stripes.
    contrast : float or array_like, (...)
        From the darkest to the brightest stripe there could be: the amplitude is half of it.
    center : array_like, (..., 2), optional
        Row and column, pixels; by default of the image.
    dtype : numpy.float32 or numpy.float64

    Returns
    -------
    ndarray, (..., H, W)
        ``contrast / 2 exp(-d^2 / (2 sigma^2)) cos(2 pi frequency u + phase)`` at distance d from
        the center, u of it across the stripes.

    References
    ----------
    'Digital twin reveals combinatorial code of non-linear computations in the mouse primary visual
    cortex', Methods, (1), (2); with its sigma / 4 for the standard deviation, and rotations turned
    the other way.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import gabor
    >>> x = gabor(9, sigma=2.0, frequency=0.2, orientation=np.arange(4) * np.pi / 4)
    >>> x.shape
    (4, 9, 9)
    >>> np.allclose(x[2], np.rot90(x[0]))
    True
    """
    size, dtype = _check_size(size), _check_dtype(dtype)
    sigma, frequency = _positive(sigma, "sigma"), _at_least_0(frequency, "frequency")
    angles = _numbers(orientation, "orientation"), _numbers(phase, "phase")
    contrast = _numbers(contrast, "contrast")
    rows, columns, *rest = _broadcast(size, center, sigma, frequency, *angles, contrast)
    sigma, frequency, orientation, phase, contrast = rest
    return _gabor(rows, columns, sigma, frequency, orientation, phase, contrast / 2, dtype)


def plaid(
    size, *, sigma, frequency, orientation=0.0, phase=0.0, contrast=1.0, orthogonal_contrast=1.0,
    orthogonal_phase=0.0, center=None, dtype=np.float32,
):  # fmt: skip
    """Plaids: a Gabor and the one orthogonal to it, added.

    Parameters
    ----------
    size, sigma, frequency, orientation, phase, contrast, center, dtype
        As of `gabor`.
    orthogonal_contrast, orthogonal_phase : float or array_like, (...)
        Of the Gabor that is turned by pi / 2.

    Returns
    -------
    ndarray, (..., H, W)

    Examples
    --------
    >>> from fastvis.twin import gabor, plaid
    >>> x = plaid(9, sigma=2.0, frequency=0.2, orthogonal_contrast=[0.0, 1.0])
    >>> bool((x[0] == gabor(9, sigma=2.0, frequency=0.2)).all())
    True
    """
    size, dtype = _check_size(size), _check_dtype(dtype)
    sigma, frequency = _positive(sigma, "sigma"), _at_least_0(frequency, "frequency")
    numbers = [
        _numbers(value, name)
        for value, name in (
            (orientation, "orientation"), (phase, "phase"), (contrast, "contrast"),
            (orthogonal_contrast, "orthogonal_contrast"), (orthogonal_phase, "orthogonal_phase"),
        )
    ]  # fmt: skip
    rows, columns, *rest = _broadcast(size, center, sigma, frequency, *numbers)
    sigma, frequency, orientation, phase, contrast, other, other_phase = rest
    one = _gabor(rows, columns, sigma, frequency, orientation, phase, contrast / 2, dtype)
    turned = orientation + np.pi / 2
    return one + _gabor(rows, columns, sigma, frequency, turned, other_phase, other / 2, dtype)


def grating(
    size, *, frequency, orientation=0.0, phase=0.0, contrast=1.0, radius=np.inf, inner_radius=0.0,
    center=None, dtype=np.float32,
):  # fmt: skip
    """Gratings in a disk or an annulus with hard edges, or everywhere.

    Parameters
    ----------
    size, frequency, orientation, phase, contrast, center, dtype
        As of `gabor`.
    radius, inner_radius : float or array_like, (...)
        Pixels: what is farther from the center than the radius, or nearer than the inner one, is 0.

    Returns
    -------
    ndarray, (..., H, W)

    Examples
    --------
    >>> from fastvis.twin import grating
    >>> grating(3, frequency=0.0, contrast=2.0, radius=1.0)
    array([[0., 1., 0.],
           [1., 1., 1.],
           [0., 1., 0.]], dtype=float32)
    """
    size, dtype = _check_size(size), _check_dtype(dtype)
    frequency = _at_least_0(frequency, "frequency")
    angles = _numbers(orientation, "orientation"), _numbers(phase, "phase")
    contrast = _numbers(contrast, "contrast")
    radii = [np.asarray(r, np.float64) for r in (radius, inner_radius)]
    for r, name in zip(radii, ("radius", "inner_radius")):
        if not (r >= 0).all():
            raise ValueError(f"{name} must be >= 0; got {r.min():g}.")
    rows, columns, *rest = _broadcast(size, center, frequency, *angles, contrast, *radii)
    frequency, orientation, phase, contrast, radius, inner = rest
    waves = _gabor(rows, columns, np.inf, frequency, orientation, phase, contrast / 2, dtype)
    square = rows[..., :, None] ** 2 + columns[..., None, :] ** 2
    radius, inner = radius[..., None, None], inner[..., None, None]
    return waves * ((square <= radius**2) & (square >= inner**2))


def difference_of_gaussians(
    size, *, sigma_center, sigma_surround, contrast=1.0, surround=0.5, center=None,
    dtype=np.float32,
):  # fmt: skip
    """Center-surround stimuli, (9) and (10).

    Parameters
    ----------
    size, center, dtype
        As of `gabor`.
    sigma_center, sigma_surround : float or array_like, (...)
        Standard deviations, pixels; positive.
    contrast : float or array_like, (...)
        The value in the center.
    surround : float or array_like, (...)
        Contrast of the surround, in units of ``contrast``, at least 0.

    Returns
    -------
    ndarray, (..., H, W)
        ``contrast ((1 + surround) g_center - surround g_surround)``, g being 1 in the center.

    References
    ----------
    The twin paper, Methods, (9), (10), with a bracket around both Gaussians: as printed the value
    in the center is not the contrast.

    Examples
    --------
    >>> from fastvis.twin import difference_of_gaussians
    >>> x = difference_of_gaussians(9, sigma_center=1.0, sigma_surround=3.0, contrast=-2.0)
    >>> float(x[4, 4])
    -2.0
    """
    size, dtype = _check_size(size), _check_dtype(dtype)
    sigmas = _positive(sigma_center, "sigma_center"), _positive(sigma_surround, "sigma_surround")
    contrast, surround = _numbers(contrast, "contrast"), _at_least_0(surround, "surround")
    rows, columns, *rest = _broadcast(size, center, *sigmas, contrast, surround)
    narrow, wide, contrast, surround = rest
    weights = contrast * (1 + surround), -contrast * surround
    left, right = [], []
    for sigma, weight in zip((narrow, wide), weights):
        left.append(weight[..., None] * _envelope(rows, sigma))
        right.append(_envelope(columns, sigma))
    return _outer(left, right, dtype)


def match_energy(images, norm):
    """Scale images to an L2 norm, the same for all.

    Parameters
    ----------
    images : array_like, (..., H, W)
        None of them 0 everywhere.
    norm : float
        Positive.

    Returns
    -------
    ndarray, (..., H, W)

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import match_energy
    >>> float(np.linalg.norm(match_energy(np.ones((3, 3)), 12.0)))
    12.0
    """
    images = check_array(images, "images")
    norm = check_float(norm, "norm", minimum=0, strict=True)
    norms = np.sqrt(np.square(images.astype(np.float64)).sum((-2, -1), keepdims=True))
    if (norms == 0).any():
        raise ValueError("images must not be 0 everywhere: nothing can be scaled to a norm.")
    return (images * (norm / norms)).astype(images.dtype)


def _gabor(rows, columns, sigma, frequency, orientation, phase, amplitude, dtype):
    """cos(a + b) = cos a cos b - sin a sin b, a going with the row, b with the column."""
    wave = 2 * np.pi * frequency
    a = (wave * np.cos(orientation))[..., None] * rows + phase[..., None]
    b = (wave * np.sin(orientation))[..., None] * columns
    down = amplitude[..., None] * _envelope(rows, sigma)
    across = _envelope(columns, sigma)
    left = [down * np.cos(a), -down * np.sin(a)]
    return _outer(left, [across * np.cos(b), across * np.sin(b)], dtype)


def _envelope(distances, sigma):
    return np.exp(-0.5 * (distances / np.asarray(sigma)[..., None]) ** 2)


def _outer(left, right, dtype):
    """Sum of outer products of functions (..., H) and (..., W)."""
    left = np.stack(left, axis=-1).astype(dtype)
    return left @ np.stack(right, axis=-2).astype(dtype)


def _broadcast(size, center, *values):
    """Distances of rows (..., H) and columns (..., W) from the center, and values (...)."""
    if center is None:
        center = (np.array(size) - 1) / 2
    center = check_array(center, "center").astype(np.float64)
    if center.shape[-1:] != (2,):
        raise ValueError(f"center must be rows and columns, (..., 2); got shape {center.shape}.")
    try:
        row, column, *values = np.broadcast_arrays(center[..., 0], center[..., 1], *values)
    except ValueError as error:
        shapes = ", ".join(str(np.shape(v)) for v in values)
        raise ValueError(f"parameters must broadcast; got shapes {shapes}.") from error
    return np.arange(size[0]) - row[..., None], np.arange(size[1]) - column[..., None], *values


def _check_size(size):
    size = (size, size) if np.ndim(size) == 0 else tuple(size)
    if len(size) != 2:
        raise ValueError(f"size must be an int or (H, W); got {size}.")
    return tuple(check_int(n, "size", minimum=1) for n in size)


def _check_dtype(dtype):
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64; got {dtype}.")
    return dtype


def _numbers(value, name):
    return check_array(value, name).astype(np.float64).reshape(np.shape(value))


def _positive(value, name):
    value = _numbers(value, name)
    if not (value > 0).all():
        raise ValueError(f"{name} must be > 0; got {value.min():g}.")
    return value


def _at_least_0(value, name):
    value = _numbers(value, name)
    if not (value >= 0).all():
        raise ValueError(f"{name} must be >= 0; got {value.min():g}.")
    return value

"""Rotating readouts, and the loss that aligns them."""

import numpy as np

from .._kernels.rotation import spectrum, weights
from .._validation import check_array, check_float
from .arguments import check_readouts, like_input
from .objective import AlignmentLoss

ROTATIONS = ("fourier", "von_mises", "cyclic")


def cyclic_rotation(readouts, angles, *, n_orientations=None, layout="feature"):
    """Rotate readouts by linear interpolation between cyclic shifts, eq (2).

    Parameters
    ----------
    readouts : array_like, (n_neurons, n_features, n_orientations)
        Or flat, (n_neurons, n_features * n_orientations), with `n_orientations` and `layout`.
    angles : array_like, (n_neurons,) or a number
        Radians; any real number. Turning by ``2 pi / n_orientations`` is
        ``np.roll(readouts, -1, axis=-1)``.
    n_orientations : int, optional
        Of flat readouts.
    layout : {"feature", "orientation"}
        Which index runs slowest in a flat row.

    Returns
    -------
    ndarray, of the readouts' shape and dtype

    Raises
    ------
    ValueError
        Other shapes, values that are not finite.

    Notes
    -----
    Between two shifts interpolation blurs: half a bin makes white readouts shorter by a factor of
    0.71. Compare `fourier_rotation`, which does not.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 3, eq (2).

    Examples
    --------
    >>> from fastvis.readouts import cyclic_rotation
    >>> cyclic_rotation([[[1.0, 2.0, 3.0, 4.0]]], np.pi / 2).tolist()
    [[[2.0, 3.0, 4.0, 1.0]]]
    >>> cyclic_rotation([[[1.0, 2.0, 3.0, 4.0]]], np.pi / 4).tolist()
    [[[1.5, 2.5, 3.5, 2.5]]]
    """
    checked = check_readouts(readouts, n_orientations, layout)
    gains = gains_of("cyclic", check_angles(angles, checked), checked.shape[2])
    return like_input(turned(checked, gains), readouts, layout)


def von_mises_rotation(readouts, angles, temperature, *, n_orientations=None, layout="feature"):
    """Rotate readouts by a smooth mixture of all cyclic shifts, eq (4).

    Shift k has a weight proportional to ``exp(temperature cos(angle - 2 pi k / n_orientations))``.

    Parameters
    ----------
    readouts : array_like, (n_neurons, n_features, n_orientations)
        Or flat, (n_neurons, n_features * n_orientations), with `n_orientations` and `layout`.
    angles : array_like, (n_neurons,) or a number
        Radians, in the sense of `cyclic_rotation`.
    temperature : float
        The paper's T, at least 0: 0 is the mean over orientations; with a high one the nearest
        shift is left alone.
    n_orientations : int, optional
        Of flat readouts.
    layout : {"feature", "orientation"}
        Which index runs slowest in a flat row.

    Returns
    -------
    ndarray, of the readouts' shape and dtype

    Notes
    -----
    It shortens readouts: with 8 orientations and T = 5 the first four Fourier bins over
    orientation are multiplied by 0.90, 0.67, 0.46 and 0.37 at angle 0.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 3, eq (4).

    Examples
    --------
    >>> from fastvis.readouts import von_mises_rotation
    >>> von_mises_rotation([[[1.0, 2.0, 3.0, 4.0]]], np.pi / 2, 100).round(3).tolist()
    [[[2.0, 3.0, 4.0, 1.0]]]
    """
    checked = check_readouts(readouts, n_orientations, layout)
    angles = check_angles(angles, checked)
    temperature = check_float(temperature, "temperature", minimum=0)
    gains = gains_of("von_mises", angles, checked.shape[2], temperature)
    return like_input(turned(checked, gains), readouts, layout)


def fourier_rotation(readouts, angles, *, n_orientations=None, layout="feature"):
    """Rotate readouts exactly, as periodic functions without the highest frequency.

    Parameters
    ----------
    readouts : array_like, (n_neurons, n_features, n_orientations)
        Or flat, (n_neurons, n_features * n_orientations), with `n_orientations` and `layout`.
    angles : array_like, (n_neurons,) or a number
        Radians, in the sense of `cyclic_rotation`.
    n_orientations : int, optional
        Of flat readouts.
    layout : {"feature", "orientation"}
        Which index runs slowest in a flat row.

    Returns
    -------
    ndarray, of the readouts' shape and dtype

    Notes
    -----
    Keeps lengths and distances under a common rotation when the readouts have no component at the
    Nyquist frequency (always for an odd number of orientations); that component is multiplied by
    the cosine of its phase.

    Examples
    --------
    >>> from fastvis.readouts import fourier_rotation
    >>> theta = 2 * np.pi * np.arange(8) / 8
    >>> np.allclose(fourier_rotation(np.cos(theta)[None, None], 0.3), np.cos(theta + 0.3))
    True
    """
    checked = check_readouts(readouts, n_orientations, layout)
    gains = gains_of("fourier", check_angles(angles, checked), checked.shape[2])
    return like_input(turned(checked, gains), readouts, layout)


def gains_of(rotation, angles, n_orientations, temperature=None):
    """Gains (N, H) of a kind of rotation by angles (N,); temperature: of "von_mises"."""
    if rotation == "fourier":
        return spectrum.fourier_gains(angles, n_orientations)[0]
    if rotation == "cyclic":
        return spectrum.gains(weights.cyclic_weights(angles, n_orientations)[0])
    return spectrum.gains(weights.von_mises_weights(angles, n_orientations, temperature)[0])


def turned(readouts, gains):
    """Readouts (N, F, O) after the rotation with these gains."""
    z = spectrum.turn(spectrum.to_spectrum(readouts), gains)
    return spectrum.to_readouts(z, readouts.shape[2])


def pairwise_distance_loss(readouts, angles, temperature, *, beta=0.0):
    """Mean distance of all pairs of rotated readouts, and its gradient: eq (5), with means.

    The mean over pairs of ``|r~_i - r~_j|`` plus ``beta`` times the mean over neurons of
    ``|r~_n(0) - r_n|``, where r~ are rotated by `von_mises_rotation`.

    Parameters
    ----------
    readouts : array_like, (n_neurons, n_features, n_orientations)
        At least two neurons and two orientations.
    angles : array_like, (n_neurons,)
        Radians.
    temperature : float
        The paper's T, greater than 0.
    beta : float
        Weight of the reconstruction, at least 0.

    Returns
    -------
    loss : float
    gradient : tuple (d_angles, d_temperature)
        An array (n_neurons,) and a float.

    Notes
    -----
    The paper prints sums over pairs and over neurons; `RotationAligner` says why these are means.

    Memory grows with the readouts, not with the pairs. Pairs that coincide have gradient 0. Results
    do not depend on the number of threads.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 3, eqs (3) and (5).

    Examples
    --------
    >>> from fastvis.readouts import pairwise_distance_loss
    >>> readouts = np.array([[[1.0, 0, 0, 0]], [[0, 1.0, 0, 0]]])
    >>> apart, _ = pairwise_distance_loss(readouts, [0, 0], 50)
    >>> aligned, _ = pairwise_distance_loss(readouts, [0, np.pi / 2], 50)
    >>> round(apart, 6), round(aligned, 6)
    (1.414214, 0.0)
    """
    readouts = check_readouts(readouts)
    check_comparable(readouts)
    angles = check_angles(angles, readouts)
    temperature = check_float(temperature, "temperature", minimum=0, strict=True)
    beta = check_float(beta, "beta", minimum=0)
    loss = AlignmentLoss(spectrum.to_spectrum(readouts), readouts.shape[2], beta)
    loss, d_angles, d_temperature = loss(angles, temperature)
    return loss, (d_angles, d_temperature)


def check_comparable(readouts, name="readouts"):
    """Refuse readouts (n_neurons, n_features, n_orientations) that leave nothing to align."""
    n_neurons, _, n_orientations = readouts.shape
    if n_neurons < 2 or n_orientations < 2:
        raise ValueError(
            f"{name} must have at least 2 neurons and 2 orientations to be compared; "
            f"got shape {readouts.shape}."
        )


def check_angles(angles, readouts):
    """Angles (n_neurons,) of the readouts' dtype, in [0, 2 pi)."""
    one_for_all = np.ndim(angles) == 0
    angles = check_array(angles, "angles", ndim=(0, 1), axes="(n_neurons,)")
    if not one_for_all and len(angles) != len(readouts):
        raise ValueError(
            f"angles must have one value for each of {len(readouts)} neuron(s); got {len(angles)}."
        )
    angles = np.broadcast_to(angles.astype(np.float64), len(readouts))
    return np.mod(angles, 2 * np.pi).astype(readouts.dtype)

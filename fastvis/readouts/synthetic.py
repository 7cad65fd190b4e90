"""Readouts with known types and rotations."""

import numpy as np
from scipy.special import ive
from sklearn.utils import Bunch

from .._random import check_rng
from .._validation import check_float, check_int


def make_rotated_readouts(
    n_neurons=16,
    n_types=2,
    *,
    n_features=1,
    n_orientations=8,
    noise=0.0,
    lengthscale=1.0,
    rng=None,
):
    """Neurons of a few types, each turned by an angle of its own, with noise.

    A type has for each feature a function of orientation, drawn from a Gaussian process with the
    periodic kernel ``exp(-2 sin^2(d / 2) / lengthscale^2)`` of period 2 pi. A neuron has the
    function of its type, shifted by any angle and evaluated at the orientations.

    Parameters
    ----------
    n_neurons, n_types : int
        Types are drawn at random, but each has at least one neuron; the paper's figure has 16
        neurons of 2 types.
    n_features, n_orientations : int
    noise : float
        Standard deviation of independent Gaussian noise on every number; functions have variance 1.
    lengthscale : float
        Of the kernel, 0.05 to 1,000: small ones give wiggly functions. Of those below 2, eight
        orientations miss a part: a turned neuron is not quite its type's, however it is turned
        back, by 0.05 of the functions' size at 1.
    rng : None, int or numpy.random.Generator

    Returns
    -------
    Bunch
        ``readouts`` and, without noise, ``clean`` (n_neurons, n_features, n_orientations);
        ``labels`` (n_neurons,); ``angles`` (n_neurons,): what was turned, in [0, 2 pi), in the
        sense of `RotationAligner.angles_`; ``types`` (n_types, n_features, n_orientations): the
        functions that are not turned.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 4.

    Examples
    --------
    >>> from fastvis.readouts import make_rotated_readouts
    >>> data = make_rotated_readouts(16, 2, rng=0)
    >>> data.readouts.shape
    (16, 1, 8)
    """
    n_types = check_int(n_types, "n_types", minimum=1)
    n_neurons = check_int(n_neurons, "n_neurons", minimum=n_types)
    n_features = check_int(n_features, "n_features", minimum=1)
    n_orientations = check_int(n_orientations, "n_orientations", minimum=1)
    noise = check_float(noise, "noise", minimum=0)
    lengthscale = check_float(lengthscale, "lengthscale", minimum=0.05, maximum=1e3)
    rng = check_rng(rng)

    # the kernel's Fourier series: its process is a sum of independent cosines and sines
    n_waves = int(np.ceil(8 / lengthscale)) + 8
    m = np.arange(n_waves)
    scale = np.sqrt(ive(m, 1 / lengthscale**2) * np.where(m, 2, 1))
    waves = rng.normal(size=(n_types, n_features, n_waves, 2)) @ [1, -1j] * scale
    others = rng.integers(n_types, size=n_neurons - n_types)
    labels = rng.permutation(np.concatenate([np.arange(n_types), others]))
    angles = rng.uniform(0, 2 * np.pi, n_neurons)
    theta = 2 * np.pi * np.arange(n_orientations) / n_orientations

    def evaluate(waves, angles):
        turned = waves * np.exp(-1j * angles[:, None, None] * m)
        return (turned @ np.exp(1j * m[:, None] * theta)).real

    clean = evaluate(waves[labels], angles)
    return Bunch(
        readouts=clean + noise * rng.normal(size=clean.shape),
        clean=clean,
        labels=labels,
        angles=angles,
        types=evaluate(waves, np.zeros(n_types)),
    )

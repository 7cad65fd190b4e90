"""Rotation of readouts and their distances: the definitions.

Readouts r (N, F, O): neurons, features, orientations; an angle for each neuron, radians. The sense
is the paper's: turning by 2 pi / O is ``np.roll(r, -1, axis=-1)``.
"""

import numpy as np


def cyclic_weights(angles, n_orientations):
    """First row of S_alpha, eq (2): linear interpolation of the two nearest shifts, (N, O)."""
    u = np.asarray(angles)[:, None] * n_orientations / (2 * np.pi)
    i = np.floor(u)
    g = u - i
    shift = np.arange(n_orientations)
    at_i = (shift - i) % n_orientations == 0
    at_next = (shift - i - 1) % n_orientations == 0
    return (1 - g) * at_i + g * at_next


def von_mises_weights(angles, n_orientations, temperature):
    """gamma, eq (4): exp(T cos(alpha - 2 pi k / O)), normalized, (N, O)."""
    theta = 2 * np.pi * np.arange(n_orientations) / n_orientations
    x = temperature * np.cos(np.asarray(angles)[:, None] - theta)
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def rotate(readouts, weights):
    """r~_n = sum_k weights[n, k] roll(r_n, -k), for the weights of (2) or (4)."""
    shifted = np.stack([np.roll(readouts, -k, axis=-1) for k in range(readouts.shape[-1])], axis=1)
    return np.einsum("nk,nkfo->nfo", weights, shifted)


def fourier_rotation(readouts, angles):
    """Shift by a phase for each bin; the Nyquist bin of even O by the cosine of its phase."""
    n_orientations = readouts.shape[-1]
    r_hat = np.fft.rfft(readouts, axis=-1)
    phase = np.asarray(angles)[:, None] * np.arange(r_hat.shape[-1])
    turn = np.exp(1j * phase)
    if n_orientations % 2 == 0:
        turn[:, -1] = np.cos(phase[:, -1])
    return np.fft.irfft(r_hat * turn[:, None], n_orientations, axis=-1)


def mean_distance(x):
    """Mean over pairs i < j of |x_i - x_j|, eq (3), and its gradient by x (N, D)."""
    n = len(x)
    difference = x[:, None] - x
    distance = np.sqrt(np.sum(difference**2, axis=-1))
    scale = 2 / (n * (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.where(distance[..., None] > 0, difference / distance[..., None], 0)
    return scale * distance[np.triu_indices(n, 1)].sum(), scale * unit.sum(axis=1)


def mean_squared_distance(x):
    """Mean over pairs i < j of |x_i - x_j|^2: 2 / (N - 1) times the squares about the mean."""
    centered = x - x.mean(axis=0)
    scale = 2 / (len(x) - 1)
    return scale * np.sum(centered**2), 2 * scale * centered

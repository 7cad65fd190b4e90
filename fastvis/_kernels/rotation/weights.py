"""Rotations of readouts r (N, F, O) as weighted sums of their cyclic shifts.

    r~_n = sum_k weights[n, k] roll(r_n, -k)

All are circulant: in the Fourier transform over orientation, one complex factor for each bin.
Weights come with their derivatives by the angle and, of the relaxation, by the temperature.
"""

import numpy as np
import scipy.fft


def cyclic_weights(angles, n_orientations):
    """Eq (2): linear interpolation between the two nearest shifts, and its derivative, (N, O)."""
    u = angles * (n_orientations / (2 * np.pi))
    i = np.floor(u)
    g = (u - i).astype(angles.dtype)
    i = i.astype(np.int64) % n_orientations
    rows = np.arange(len(angles))
    weights = np.zeros((len(angles), n_orientations), angles.dtype)
    slope = np.zeros_like(weights)
    # one orientation: both shifts are the same, and the weights add up to 1
    for shift, weight, sign in ((i, 1 - g, -1), ((i + 1) % n_orientations, g, 1)):
        weights[rows, shift] += weight
        slope[rows, shift] += sign * n_orientations / (2 * np.pi)
    return weights, slope


def von_mises_weights(angles, n_orientations, temperature):
    """Eq (4): gamma_k = exp(T cos(alpha - 2 pi k / O)), normalized; its derivatives by alpha, T."""
    theta = 2 * np.pi * np.arange(n_orientations) / n_orientations
    turn = angles[:, None] - theta.astype(angles.dtype)
    cosine, sine = np.cos(turn), np.sin(turn)
    weights = np.exp(temperature * (cosine - cosine.max(axis=1, keepdims=True)))
    weights /= weights.sum(axis=1, keepdims=True)
    # d gamma_k = gamma_k (d x_k - sum_l gamma_l d x_l) for gamma = softmax(x)
    by_angle = weights * (np.sum(weights * sine, axis=1, keepdims=True) - sine) * temperature
    by_temperature = weights * (cosine - np.sum(weights * cosine, axis=1, keepdims=True))
    return weights, by_angle, by_temperature


def rotate(readouts, weights):
    """r~ (N, F, O) of readouts (N, F, O) and weights (N, O)."""
    factor = scipy.fft.rfft(weights, axis=-1).conj()
    r_hat = scipy.fft.rfft(readouts, axis=-1) * factor[:, None]
    return scipy.fft.irfft(r_hat, readouts.shape[-1], axis=-1)


def weights_vjp(readouts, d_rotated):
    """Gradient by the weights, (N, O), of sum(d_rotated * rotate(readouts, weights))."""
    product = scipy.fft.rfft(d_rotated, axis=-1).conj() * scipy.fft.rfft(readouts, axis=-1)
    return scipy.fft.irfft(product.sum(axis=1), readouts.shape[-1], axis=-1)


def fourier_rotate(readouts, angles):
    """Exact shift by any angle: bin m turns by m alpha; of even O the last by its cosine."""
    n_orientations = readouts.shape[-1]
    r_hat = scipy.fft.rfft(readouts, axis=-1)
    phase = angles[:, None] * np.arange(r_hat.shape[-1])
    factor = np.exp(1j * phase)
    if n_orientations % 2 == 0:
        factor[:, -1] = factor[:, -1].real
    return scipy.fft.irfft(r_hat * factor[:, None].astype(r_hat.dtype), n_orientations, axis=-1)

"""Rotations as weights of cyclic shifts, r~_n = sum_k weights[n, k] roll(r_n, -k).

Weights come with their derivatives by the angle and, of the relaxation, by the temperature.
"""

import numpy as np


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

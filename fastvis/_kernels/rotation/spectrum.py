"""Rotations of readouts, bin by bin in the Fourier transform over orientation.

A rotation is circulant: it multiplies bin m of the transform by a gain. Readouts (N, F, O) are kept
as complex numbers z (N, H, F) whose real and imaginary parts are coordinates in an orthonormal
basis, so that distances are the same there as between readouts, and nothing has to be transformed
back to compare turned ones. H is O / 2, rounded up:

    z[:, 0]    bin 0 as the real part, which no rotation changes; of even O bin O / 2 (Nyquist),
               which is real as well, as the imaginary part
    z[:, m]    sqrt(2) times bin m

Gains (N, H) are laid out likewise; the first is that of bin O / 2.
"""

import numpy as np
import scipy.fft


def to_spectrum(readouts):
    """z (N, H, F) of readouts (N, F, O)."""
    n_neurons, n_features, n_orientations = readouts.shape
    bins = scipy.fft.rfft(readouts, axis=-1, norm="ortho")
    n_slots = (n_orientations + 1) // 2
    z = np.empty((n_neurons, n_slots, n_features), bins.dtype)
    z[:, 1:] = np.sqrt(2).astype(readouts.dtype) * bins[:, :, 1:n_slots].transpose(0, 2, 1)
    z[:, 0].real = bins[:, :, 0].real
    z[:, 0].imag = bins[:, :, -1].real if n_orientations % 2 == 0 else 0
    return z


def to_readouts(z, n_orientations):
    """Readouts (N, F, O) of z (N, H, F)."""
    n_neurons, n_slots, n_features = z.shape
    bins = np.zeros((n_neurons, n_features, n_orientations // 2 + 1), z.dtype)
    bins[:, :, 1:n_slots] = z[:, 1:].transpose(0, 2, 1) / np.sqrt(2).astype(z.real.dtype)
    if n_orientations % 2 == 0:
        bins[:, :, -1] = z[:, 0].imag
    bins[:, :, 0] = z[:, 0].real
    return scipy.fft.irfft(bins, n_orientations, axis=-1, norm="ortho")


def coordinates(z):
    """z (N, H, F) as rows of real numbers (N, 2 H F), in place."""
    return z.reshape(len(z), -1).view(z.real.dtype)


def gains(weights):
    """Gains (N, H) of the rotation r~_n = sum_k weights[n, k] roll(r_n, -k); linear in weights."""
    n_orientations = weights.shape[1]
    bins = scipy.fft.rfft(weights, axis=-1).conj()
    result = bins[:, : (n_orientations + 1) // 2].copy()
    result[:, 0] = bins[:, -1].real if n_orientations % 2 == 0 else 0
    return result


def fourier_gains(angles, n_orientations):
    """Gains of an exact turn: bin m by m alpha, bin O / 2 by its cosine; their derivatives."""
    bins = np.arange((n_orientations + 1) // 2)
    turn = np.exp(1j * angles[:, None] * bins)
    slope = 1j * bins * turn
    if n_orientations % 2 == 0:
        nyquist = n_orientations // 2
        turn[:, 0], slope[:, 0] = np.cos(nyquist * angles), -nyquist * np.sin(nyquist * angles)
    return turn, slope


def turn(z, gains):
    """z of the rotated readouts."""
    turned = gains.astype(z.dtype, copy=False)[:, :, None] * z
    turned[:, 0].real = z[:, 0].real
    turned[:, 0].imag = gains[:, :1].real * z[:, 0].imag
    return turned


def project(z, d_turned):
    """p (N, H) such that Re(sum(p * d_gains)) is the change of a loss with d_turned its gradient.

    d_turned: gradient of the loss by the real, and i times that by the imaginary, part of what
    `turn` returns.
    """
    p = np.einsum("nmf,nmf->nm", d_turned.conj(), z)
    p[:, 0] = np.einsum("nf,nf->n", d_turned[:, 0].imag, z[:, 0].imag)
    return p


def power(z):
    """Squared length (N, H) in each slot, of the first only what a rotation changes."""
    p = np.einsum("nmf,nmf->nm", z.real, z.real) + np.einsum("nmf,nmf->nm", z.imag, z.imag)
    p[:, 0] = np.einsum("nf,nf->n", z[:, 0].imag, z[:, 0].imag)
    return p

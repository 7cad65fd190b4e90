"""Covariance matrices of Gaussian processes, and their derivatives.

::

    reference.py    the formulas
    covariance.h    features of points, blocks of pairs, and back; in C
    _cpu.pyx        rows of a matrix

A covariance is a `Program`, and an array of parameters (n_leaves, 1 + 2 D): variance, and by
dimension 1 / lengthscale and 2 pi / period. Kernels that work with covariances of their own
(`_kernels/paths`) include covariance.h.
"""

from dataclasses import dataclass

import numpy as np

from ..threads import run_ranges
from . import _cpu

KINDS = (
    "squared_exponential", "matern_12", "matern_32", "matern_52", "periodic", "linear", "white",
)  # fmt: skip
_WHITE = KINDS.index("white")
ADD, MULTIPLY = -1, -2
MOST_OPS = _cpu.MOST_OPS
PAIRS = 1 << 16  # of a piece, about
MOST_PIECES = 16  # of a matrix, where each has sums of its own


@dataclass(frozen=True)
class Program:
    """Sums and products of leaves, in postfix: kinds (n_leaves,) and ops (n_ops,), int64."""

    kinds: np.ndarray
    ops: np.ndarray


def matrix(program, parameters, x, z=None):
    """Covariances (B, n, m) of points x (B, n, D) and z (B or 1, m, D).

    Without z those of x with themselves: symmetric, with white noise on the diagonal; that of two
    points, x and z, is zero.
    """
    k = program.kinds, program.ops, parameters
    n_batches, n, _ = x.shape
    other = x if z is None else z
    out = np.empty((n_batches, n, other.shape[1]))
    center = _center(other)
    phi, psi = _features(k, x, center), _features(k, other, center, transposed=True)
    if z is not None:
        run_ranges(_cpu.matrix, n_batches * n, *k, phi, psi, out, grain=_grain(other.shape[1]))
        return out
    n_panels, grain = -(-n // _cpu.BLOCK), _grain(_cpu.BLOCK * n)
    run_ranges(_cpu.half_matrix, n_batches * n_panels, *k, phi, psi, out, grain=grain)
    _diagonal_of(out)[:] = diagonal(program, parameters, x)
    return out


def matrix_vjp(program, parameters, x, z, gradient):
    """Products of a gradient (B, n, m) with derivatives by x, z and parameters, shaped as these.

    Without z, which is then None, those of `matrix` without it.
    """
    if z is None:
        return _same_points_vjp(program, parameters, x, gradient)
    k = program.kinds, program.ops, parameters
    n_batches, n, m = gradient.shape
    center = _center(z)
    phi, psi = _features(k, x, center), _features(k, z, center, transposed=True)
    n_pieces = min(MOST_PIECES, -(-n // _grain(m)))
    d_phi, d_psi = np.zeros_like(phi), np.zeros((n_batches, n_pieces, *psi.shape[1:]))
    sums = np.zeros((n_batches, n_pieces, *parameters.shape))
    arrays = phi, psi, gradient, d_phi, d_psi, sums
    grain = _grain(-(-n // n_pieces) * m)
    run_ranges(_cpu.matrix_vjp, n_batches * n_pieces, *k, *arrays, grain=grain)
    d_psi = d_psi.sum(1)
    if len(z) == 1:
        d_psi = d_psi.sum(0, keepdims=True)
    d_parameters = sums.sum((0, 1))
    dx = _features_vjp(k, x, center, phi, d_phi, d_parameters)
    dz = _features_vjp(k, z, center, psi, d_psi, d_parameters, transposed=True)
    return dx, dz, d_parameters


def _same_points_vjp(program, parameters, x, gradient):
    noise = _WHITE in program.kinds
    diagonal_gradient = _diagonal_of(gradient).copy()
    if noise:
        gradient = gradient.copy()
        _diagonal_of(gradient)[:] = 0
    dx, dz, d_parameters = matrix_vjp(program, parameters, x, x, gradient)
    dx += dz
    if noise:
        by_diagonal = diagonal_vjp(program, parameters, x, diagonal_gradient)
        dx, d_parameters = dx + by_diagonal[0], d_parameters + by_diagonal[1]
    return dx, None, d_parameters


def diagonal(program, parameters, x):
    """k(x, x) of points (..., n, D), with white noise, (..., n)."""
    out = np.empty(x.shape[:-1])
    points = x.reshape(-1, x.shape[-1])
    _cpu.diagonal(program.kinds, program.ops, parameters, points, out.reshape(-1))
    return out


def diagonal_vjp(program, parameters, x, gradient):
    """Products of a gradient (..., n) with derivatives by x and parameters."""
    dx, d_parameters = np.zeros(x.shape), np.zeros(parameters.shape)
    k, shape = (program.kinds, program.ops, parameters), (-1, x.shape[-1])
    points, d_points = x.reshape(shape), dx.reshape(shape)
    _cpu.diagonal_vjp(*k, points, gradient.reshape(-1), d_points, d_parameters)
    return dx, d_parameters


def _center(z):
    """Where most points are, (B, D): coordinates of some, the medians."""
    middle = z.shape[1] // 2
    return np.partition(z, middle, axis=1)[:, middle].copy()


def _features(k, x, center, transposed=False):
    """(B, n, F), or transposed (B, F, n_padded); positions from centers (B or 1, D)."""
    n_batches, n, n_inputs = x.shape
    shape = (n, max(1, _cpu.n_features(*k)))
    if transposed:
        shape = (shape[1], -(-n // _cpu.BLOCK) * _cpu.BLOCK)
    out = np.zeros((n_batches, *shape))
    if len(center) == 1 and not transposed:  # one batch, and one call
        _cpu.features(*k, x.reshape(-1, n_inputs), out.reshape(-1, shape[1]), False, center[0])
        return out
    for b in range(n_batches):
        _cpu.features(*k, x[b], out[b], transposed, center[b % len(center)])
    return out


def _features_vjp(k, x, center, phi, d_phi, d_parameters, transposed=False):
    """Derivatives by points, shaped as x, from those by features; adds those by parameters."""
    dx = np.zeros(x.shape)
    if len(center) == 1 and not transposed:
        flat = [a.reshape(-1, a.shape[-1]) for a in (x, phi, d_phi, dx)]
        _cpu.features_vjp(*k, flat[0], center[0], *flat[1:3], False, flat[3], d_parameters)
        return dx
    for b in range(len(x)):
        given = x[b], center[b % len(center)], phi[b], d_phi[b], transposed
        _cpu.features_vjp(*k, *given, dx[b], d_parameters)
    return dx


def _diagonal_of(matrices):
    """A view, (B, n), of (B, n, n)."""
    return np.einsum("bii->bi", matrices)


def _grain(m):
    return max(1, PAIRS // m)

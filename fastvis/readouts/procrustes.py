"""Alignment to a common mean: generalized Procrustes analysis over rotations."""

import numpy as np

from .._kernels.threads import one_blas_thread

N_GRID = 8  # angles between two orientations
MAX_SWEEPS = 100
TOLERANCE = 1e-6  # a sweep that adds less to the mean's length is the last one


def energy_angles(z, n_orientations, n_init, rng):
    """Angles (N,) that bring rotated readouts near to their mean, from several starts.

    All neurons take the angle of their largest cross-correlation with the mean over neurons, again
    and again: first in steps of whole bins, where rotation is exact, then on a fine grid without
    bin O / 2, which other angles shrink. A neuron drawn at random is the first mean of each start;
    the start that ends nearest to its mean is kept.

    z: the readouts' `spectrum`, (N, H, F).
    """
    z, whole = whole_bins(z, n_orientations)
    templates = rng.choice(z.shape[1], size=min(n_init, z.shape[1]), replace=False)
    with one_blas_thread:
        starts = [sweep(z, z[:, template], whole) for template in templates]
        chosen, mean, _ = max(starts, key=lambda start: start[2])
        if len(z) == 1:  # two orientations: there is nothing between them
            return _grid(n_orientations)[chosen]
        fine = _grid(N_GRID * n_orientations)
        turns = np.exp(1j * np.outer(np.arange(len(z)), fine))
        turns[0] = 0
        chosen, _, _ = sweep(z, mean, turns)
    return fine[chosen]


def whole_bins(z, n_orientations):
    """z as `sweep` takes it, (H, N, F), without bin 0; the gains of turns by whole bins, (H, O)."""
    coarse = _grid(n_orientations)
    whole = np.exp(1j * np.outer(np.arange(z.shape[1]), coarse))
    whole[0] = np.cos(n_orientations / 2 * coarse) if n_orientations % 2 == 0 else 0
    z = np.ascontiguousarray(z.transpose(1, 0, 2))
    z[0].real = 0  # the same at all angles
    return z, whole


def _grid(n):
    return 2 * np.pi * np.arange(n) / n


def sweep(z, mean, turns):
    """Align z (H, N, F) to the mean (H, F) until it no longer grows.

    turns (H, A): gains of a grid of angles. Returns the grid index of each neuron, the mean, and
    its squared length.
    """
    turns, length = turns.astype(z.dtype), 0.0
    for _ in range(MAX_SWEEPS):
        inner = np.matmul(z, mean.conj()[:, :, None])[:, :, 0]
        chosen = (inner.T @ turns).real.argmax(axis=1)
        mean = np.matmul(turns[:, None, chosen], z)[:, 0] / z.shape[1]
        before, length = length, float(np.sum(np.abs(mean) ** 2))
        if length <= before * (1 + TOLERANCE):
            break
    return chosen, mean, length

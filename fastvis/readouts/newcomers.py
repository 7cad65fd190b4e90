"""Angles of neurons that join a population which is already aligned."""

import numpy as np

from .._kernels.rotation import spectrum

MAX_POPULATION = 4096
N_HALVINGS = 6  # from half a step between orientations on: to 0.35 degrees for 8
CHUNK = 1 << 22  # distances at a time


def angles_among(population, turned, n_orientations, n, objective, whole_bins=False):
    """The angle (n,) of each newcomer nearest to the population, in [0, 2 pi).

    Parameters
    ----------
    population : ndarray, (N, H, F)
        Spectra of aligned neurons.
    turned : callable
        ``turned(angles (n,))`` gives the spectra of the newcomers, turned back by angles.
    objective : {"distance", "energy"}
        Nearness is the mean distance to the population, or the distance to its mean.
    whole_bins : bool
        Try no angles between orientations.
    """
    if objective == "energy":
        population = population.mean(axis=0, keepdims=True)
    elif len(population) > MAX_POPULATION:
        picked = np.linspace(0, len(population) - 1, MAX_POPULATION).round().astype(int)
        population = population[picked]
    rows = spectrum.coordinates(np.ascontiguousarray(population))

    def distance(angles):
        return _mean_distance_to(spectrum.coordinates(turned(angles)), rows)

    step = 2 * np.pi / n_orientations if whole_bins else np.pi / n_orientations
    grid = np.arange(0, 2 * np.pi - step / 2, step)
    distances = np.stack([distance(np.full(n, angle)) for angle in grid])
    best = distances.argmin(axis=0)
    angles, smallest = grid[best], distances[best, np.arange(n)]
    for _ in range(0 if whole_bins else N_HALVINGS):
        step /= 2
        for side in (-step, step):
            tried = distance(angles + side)
            nearer = tried < smallest
            angles, smallest = np.where(nearer, angles + side, angles), np.minimum(tried, smallest)
    return angles % (2 * np.pi)


def _mean_distance_to(x, rows):
    """Mean over rows of |x_i - rows_j|, (n,)."""
    squares = np.einsum("ij,ij->i", rows, rows)
    result = np.empty(len(x))
    step = max(1, CHUNK // len(rows))
    for start in range(0, len(x), step):
        part = x[start : start + step]
        distances = np.einsum("ij,ij->i", part, part)[:, None] + squares - 2 * part @ rows.T
        result[start : start + step] = np.sqrt(np.maximum(distances, 0)).mean(axis=1)
    return result

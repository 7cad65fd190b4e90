"""Layers of a deep GP as functions: coherent draws, and moments at points of their own inputs."""

from dataclasses import dataclass

import numpy as np

from .flow import Flow
from .flow_bound import FlowBound
from .triangles import factor

JITTER = 1e-9  # of a drawn function's covariance, in units of its largest prior variance


@dataclass(frozen=True, repr=False, eq=False)
class FunctionDraws:
    """Draws of all layers, which belong together.

    Attributes
    ----------
    grids : list of ndarray, (G_l, n_inputs)
    functions : list of ndarray, (n, G_l, n_outputs)
        Each layer on its grid.
    values : list of ndarray, (n, N, n_outputs), or None
        What the layers, one after the other, make of x.
    """

    grids: list
    functions: list
    values: list | None

    def __repr__(self):
        return f"FunctionDraws({len(self.functions[0])} draws of {len(self.functions)} layers)"


def draw_functions(bound, parameters, grids, x, n, rng):
    """Return `FunctionDraws`: inducing values are drawn, then each layer given its own."""
    sets = inducing_draws(bound, parameters, n, rng)
    functions, values = [], []
    points = None if x is None else np.broadcast_to(x, (n, *x.shape))
    for l, (grid, size) in enumerate(zip(grids, bound.sizes)):
        both = np.broadcast_to(grid, (n, *grid.shape))
        if points is not None:
            both = np.concatenate([both, points], axis=1)
        draws = _draw_layer(*sets[l], size.slope, both, rng)
        functions.append(draws[:, : len(grid)])
        if points is not None:
            points = draws[:, len(grid) :]
            values.append(points)
    return FunctionDraws(grids, functions, values if x is not None else None)


def inducing_draws(bound, parameters, n, rng):
    """Return of each layer its `Geometry` and n draws of whitened inducing values, (n, T, M).

    In the place of the geometry of a flow is the `Flow` of its draws.
    """
    if isinstance(bound, FlowBound):
        geometries = bound.prepare(parameters, 1, rng)[1].geometries
        draws = _posterior_draws(bound, parameters, n, rng)
        flow = bound.flow(parameters, draws[0][:, 0])
        return list(zip([flow, *geometries], draws))
    if hasattr(bound, "posterior"):
        geometries = bound.prepare(parameters, 1, rng)[1][0]
        return list(zip(geometries, _posterior_draws(bound, parameters, n, rng)))
    layers, views = bound.prepare(parameters, n, rng)[1]
    last, sets = len(layers) - 1, []
    for l, (geometry, _, _, _, _) in enumerate(layers):
        v = views[l, "n"].copy()
        if l == last:
            noise = rng.standard_normal(v.shape)
            v += np.einsum("stij,stj->sti", views[l, "factor"], noise)
        sets.append((geometry, v))
    return sets


def _posterior_draws(bound, parameters, n, rng):
    cache = bound.posterior.blocks(parameters)[2]
    noise = [rng.standard_normal((n, s.n_outputs, s.n_inducing)) for s in bound.sizes]
    draws = bound.posterior.draw(cache, noise)
    return [parameters[l, "n"] + draw for l, draw in enumerate(draws)]


def _draw_layer(geometry, v, slope, points, rng):
    """Values (n, G, T) of n draws at points (n, G, D), given whitened inducing values (n, T, M)."""
    if isinstance(geometry, Flow):
        return geometry(points[..., 0])[..., None]
    n, n_points = points.shape[:2]
    out = np.empty((n, n_points, v.shape[1]))
    largest = geometry.prior(points[0]).max()
    least = JITTER * (largest if largest > 0 else 1.0) * np.eye(n_points)
    same = len(geometry.z) == 1 and points.strides[0] == 0
    for s in range(n):
        if s == 0 or not same:
            at = points[s : s + 1]
            basis = geometry.of_set(s).basis(at)[0]
            rest = geometry.prior_matrix(at[0]) - basis.T @ basis
            np.fill_diagonal(rest, np.maximum(geometry.prior(at[0]) - (basis**2).sum(0), 0))
            lower = factor(rest + least, "the covariance of a drawn function")
        noise = rng.standard_normal((n_points, v.shape[1]))
        out[s] = points[s] @ slope + (v[s] @ basis).T + lower @ noise
    return out


def moments_of_layers(bound, parameters, points, n_samples, rng):
    """Return mean and variance, (n, T), of each layer at points of its own inputs."""
    if isinstance(bound, FlowBound):
        flow = inducing_draws(bound, parameters, n_samples, rng)[0][0]
        ends = flow(points[0][:, 0])[..., None]
        geometries = bound.prepare(parameters, 1, rng)[1].geometries
        s = bound.posterior.covariance(bound.posterior.blocks(parameters)[2])
        return [(ends.mean(0), ends.var(0))] + [
            _moments(g, parameters[l, "n"], s[l, l], bound.sizes[l].slope, points[l])
            for l, g in enumerate(geometries, 1)
        ]
    if hasattr(bound, "posterior"):
        geometries, _, cache, _ = bound.prepare(parameters, 1, rng)[1]
        s = bound.posterior.covariance(cache)
        return [
            _moments(g, parameters[l, "n"], s[l, l], bound.sizes[l].slope, x)
            for l, (g, x) in enumerate(zip(geometries, points))
        ]
    layers, _ = bound.prepare(parameters, n_samples, rng)[1]
    moments = []
    for (geometry, _, _, a, big_a), size, x in zip(layers, bound.sizes, points):
        each = []
        for i in range(len(a)):
            t, m, _ = big_a[i].shape
            block = np.zeros((t, m, t, m))
            for d in range(t):
                block[d, :, d] = big_a[i, d] @ big_a[i, d].T
            block = block.reshape(t * m, t * m)
            each.append(_moments(geometry.of_set(i), a[i], block, size.slope, x))
        means, variances = (np.stack(x) for x in zip(*each))
        moments.append((means.mean(0), variances.mean(0) + means.var(0)))
    return moments


def moments_given(geometry, values, slope, x):
    """Means (n, N, T) of a layer given whitened values (n, T, M), and its variance (N,)."""
    basis = geometry.basis(x[None])[0]
    rest = np.maximum(geometry.prior(x) - (basis**2).sum(0), 0)
    return x @ slope + np.swapaxes(values @ basis, 1, 2), rest


def _moments(geometry, n, covariance, slope, x):
    """Mean and variance (N, T) of a layer with v ~ N(n, covariance), n (T, M), at points (N, D)."""
    basis = geometry.basis(x[None])[0]
    rest = np.maximum(geometry.prior(x) - (basis**2).sum(0), 0)
    mean, variance = x @ slope + (n @ basis).T, np.empty((len(x), len(n)))
    m = n.shape[1]
    for d in range(len(n)):
        rows = slice(d * m, (d + 1) * m)
        variance[:, d] = rest + (basis * (covariance[rows, rows] @ basis)).sum(0)
    return mean, variance

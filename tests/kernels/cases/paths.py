"""Paths through the layers of deep Gaussian processes."""

from functools import partial
from types import SimpleNamespace

import numpy as np

from fastvis._kernels import covariance, paths
from fastvis._kernels.covariance import reference as covariance_reference
from fastvis._kernels.paths import reference

SIZES = {  # points, samples, inducing points, outputs of each layer, inputs
    "a path": (1, 1, 1, (1,), 1),
    "two layers": (5, 3, 4, (1, 1), 1),
    "wide layers": (3, 5, 3, (2, 3, 2), 3),
    "a panel and one": (97, 3, 5, (1, 1), 2),
    "medium": (40, 5, 33, (1, 1, 1), 1),
    "large": (500, 13, 6, (1, 1, 1), 1),
}
OPTIONS = {
    "coupled": {"coupled": True, "n_sets": 1},
    "factorized": {"coupled": False, "n_sets": 1},
    "a set for each sample": {"coupled": False, "n_sets": None},
}

TUNED = paths
TUNINGS = {"small pieces": {"PATHS_OF_PIECE": 30}, "few": {"PATHS_OF_PIECE": 30, "MOST_PIECES": 2}}

PROGRAM = covariance.Program(np.array([0, 3, 5]), np.array([0, 1, -1, 2, -1]))
JITTER = 1e-2
NOISE = 0.3


def inputs(size, dtype, rng):
    n, n_samples, _, outputs, d = size
    n_hidden = sum(outputs[:-1])
    arrays = {
        "x": rng.normal(size=(n, d)),
        "y": rng.normal(size=(n, outputs[-1])),
        "xi": rng.normal(size=(n * n_samples, n_hidden)),
        "size": np.array([n_samples, size[2], *outputs]),
    }
    return {k: v if k == "size" else v.astype(dtype) for k, v in arrays.items()}


def network(size, n_inputs, coupled, n_sets, seed=0):
    """Layout, theta (n_sets, size), and for each set what `reference.path` takes."""
    n_samples, m, *outputs = (int(v) for v in size)
    shapes = [paths.Shape(PROGRAM, d, t, m) for d, t in zip([n_inputs, *outputs[:-1]], outputs)]
    n_rows, hidden = sum(outputs), sum(outputs[:-1])
    pairs = [(r, s) for r in range(n_rows) for s in range(min(r, hidden))] if coupled else []
    layout = paths.Layout(shapes, pairs)
    rng = np.random.default_rng(seed)
    theta = np.zeros((n_sets or n_samples, layout.size))
    sets = [_fill(layout, row, coupled, rng) for row in theta]
    return layout, theta, sets


def _fill(layout, theta, coupled, rng):
    views = layout.views(theta)
    n_rows, m = len(layout.layer_of), layout.shapes[0].n_inducing
    root = rng.normal(size=(n_rows * m, n_rows * m)) * 0.5 / np.sqrt(n_rows * m)
    s = root @ root.T + 0.01 * np.eye(n_rows * m)
    block = {
        (r, q): s[r * m : (r + 1) * m, q * m : (q + 1) * m]
        for r in range(n_rows)
        for q in range(r + 1)
        if r == q or coupled
    }
    layers = []
    for l, shape in enumerate(layout.shapes):
        parameters = views[l, "parameters"]
        parameters[:] = rng.uniform(0.7, 1.2, parameters.shape)
        parameters[2, 0] = 0.1  # the linear leaf's variance
        z = rng.normal(size=(m, shape.n_inputs))
        paths.features(shape.program, parameters, z, views[l, "z"])
        k = partial(_covariance, parameters.copy())
        views[l, "lz"][:] = np.linalg.cholesky(k(z, z) + JITTER * np.eye(m))
        views[l, "n"][:] = rng.normal(size=views[l, "n"].shape)
        views[l, "slope"][:] = 0.5 * rng.normal(size=views[l, "slope"].shape)
        first = int(np.flatnonzero(layout.layer_of == l)[0])
        for d in range(shape.n_outputs):
            views[l, "factor"][d] = np.linalg.cholesky(block[first + d, first + d])
        copies = {name: views[l, name].copy() for name in ("lz", "n", "slope")}
        diag = partial(covariance.diagonal, PROGRAM, parameters.copy())
        layers.append(SimpleNamespace(k=k, diag=diag, z=z, **copies))
    for r, q in layout.pairs:
        views[r, q, "pair"][:] = block[r, q]
    return layers, block


def _covariance(parameters, a, b):
    kinds = [covariance.KINDS[kind] for kind in PROGRAM.kinds]
    return covariance_reference.matrix(kinds, PROGRAM.ops, parameters, a[None], b[None])[0]


def make(run, arrays, coupled, n_sets):
    return partial(_outputs, run, coupled, n_sets)


def _outputs(run, coupled, n_sets, x, y, xi, size):
    dtype = x.dtype
    x, y, xi = (a.astype(np.float64) for a in (x, y, xi))
    layout, theta, sets = network(size, x.shape[1], coupled, n_sets)
    f, deviation, values = run(layout, theta, sets, x, y, xi)
    return {
        "f": f.astype(dtype),
        "deviation": deviation.astype(dtype),
        "expected log-likelihood": values.sum(),
    }


def _cpu(layout, theta, sets, x, y, xi):
    f, deviation = paths.sample(layout, theta, x, xi)
    values, *_ = paths.elbo(layout, theta, x, y, xi, 0, np.array([NOISE, 0.0]), 1.0)
    return f, deviation, values


def _reference(layout, theta, sets, x, y, xi):
    each = len(xi) // len(sets)
    results = [
        reference.path(*sets[i // each], x[i % len(x)], normals) for i, normals in enumerate(xi)
    ]
    f, variance = (np.array(column) for column in zip(*results))
    error = np.tile(y, (len(xi) // len(x), 1)) - f[:, layout.n_hidden :]
    square = (error**2 + variance) / NOISE
    values = -0.5 * (np.log(2 * np.pi * NOISE) + square).sum(1)
    return f, np.sqrt(variance), values


IMPLEMENTATIONS = {"reference": partial(make, _reference), "cpu": partial(make, _cpu)}

"""Paths of points through the layers of a deep Gaussian process, by their joint Gaussian.

A layer takes values f to ``mu(f) + b . v + sqrt(c) e``, with whitened inducing values v and

    b = Lz^-1 k(z, f),    c = k(f, f) - b . b,    Lz Lz^T = k(z, z)

If the rows of all layers (an output of a layer is a row) have v ~ N(n, S) jointly, then, given the
inputs of all layers, a path's values are jointly Gaussian:

    mean_r = mu_r + b_r . n_r,    B_rs = b_r . S_rs b_s + (c_r where r = s)

and each value, given those before it, comes from the next row of the Cholesky factor of B. Exact
for any S; in UAI 2020, 'Compositional uncertainty in deep Gaussian processes', section 4.1, (15) to
(17) are meant to say it for a block-tridiagonal S^-1.
"""

import numpy as np


def path(layers, covariance, x, xi):
    """Values of one path: of all rows but the last layer's, and of these mean and variance.

    layers: of each k(a, b), z (M, D), lz, n (T, M), slope (D, T), with the mean x @ slope;
    covariance: S as a dict of (row, row) to (M, M); x (D,); xi: standard normals of hidden rows.
    """
    b, prior, mean, f, noise = [], [], [], [], []
    inputs = x
    for l, layer in enumerate(layers):
        row = np.linalg.solve(layer.lz, layer.k(layer.z, inputs[None])[:, 0])
        c = layer.diag(inputs[None])[0] - row @ row
        first = len(b)
        for d in range(len(layer.n)):
            b.append(row)
            noise.append(c)
            mean.append(inputs @ layer.slope[:, d] + row @ layer.n[d])
            if l < len(layers) - 1:
                before, variance = _conditional(b, noise, covariance, range(len(b) - 1), xi)
                f.append(mean[-1] + before + np.sqrt(variance) * xi[len(b) - 1])
            else:
                before, variance = _conditional(b, noise, covariance, range(first), xi)
                f.append(mean[-1] + before)
                prior.append(variance)
        inputs = np.array(f[first:])
    return np.array(f), np.array(prior)


def _conditional(b, noise, covariance, given, xi):
    """What rows before say about the last one's mean, and its variance given these."""
    rows = [*given, len(b) - 1]
    joint = np.array([[_covariance(b, noise, covariance, r, s) for s in rows] for r in rows])
    factor = np.linalg.cholesky(joint)
    return factor[-1, :-1] @ xi[: len(rows) - 1], factor[-1, -1] ** 2


def _covariance(b, noise, covariance, r, s):
    r, s, transposed = (r, s, False) if r >= s else (s, r, True)
    block = covariance.get((r, s))
    value = 0.0 if block is None else b[r] @ block @ b[s]
    return value + (noise[r] if r == s else 0.0)

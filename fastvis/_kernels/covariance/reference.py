"""Covariance functions by their formulas, for two points (or broadcast arrays of them, (..., D)).

    squared exponential     v exp(-r^2 / 2)         r^2 = sum_d (x_d - z_d)^2 / l_d^2
    Matern 1/2              v exp(-r)
    Matern 3/2              v (1 + sqrt(3) r) exp(-sqrt(3) r)
    Matern 5/2              v (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)
    periodic                v exp(-2 sum_d sin^2(pi (x_d - z_d) / p_d) / l_d^2)
    linear                  v sum_d x_d z_d / l_d^2
    white                   v for the same point, else 0

Rasmussen and Williams, Gaussian Processes for Machine Learning, chapter 4.
"""

import numpy as np

NU = {"matern_12": 0.5, "matern_32": 1.5, "matern_52": 2.5}


def distance(x, z, lengthscale):
    """r, (...)."""
    return np.sqrt((((x - z) / lengthscale) ** 2).sum(-1))


def squared_exponential(x, z, variance, lengthscale):
    return variance * np.exp(-(distance(x, z, lengthscale) ** 2) / 2)


def matern(x, z, variance, lengthscale, nu):
    r = np.sqrt(2 * nu) * distance(x, z, lengthscale)
    factor = {0.5: 1, 1.5: 1 + r, 2.5: 1 + r + r**2 / 3}[nu]
    return variance * factor * np.exp(-r)


def periodic(x, z, variance, lengthscale, period):
    sines = np.sin(np.pi * (x - z) / period) / lengthscale
    return variance * np.exp(-2 * (sines**2).sum(-1))


def linear(x, z, variance, lengthscale):
    return variance * (x * z / np.square(lengthscale)).sum(-1)


# The same by the name of a kind, and derivatives


def leaf(kind, x, z, variance, lengthscale, period):
    if kind == "squared_exponential":
        return squared_exponential(x, z, variance, lengthscale)
    if kind in NU:
        return matern(x, z, variance, lengthscale, NU[kind])
    if kind == "periodic":
        return periodic(x, z, variance, lengthscale, period)
    if kind == "linear":
        return linear(x, z, variance, lengthscale)
    return np.zeros(np.broadcast_shapes(x.shape, z.shape)[:-1])


def leaf_derivatives(kind, x, z, variance, lengthscale, period):
    """By x, z, lengthscale and period, each (..., D); by x and z 0 for the same point."""
    none = np.zeros(np.broadcast_shapes(x.shape, z.shape))
    if kind == "white":
        return none, none, none, none
    if kind == "linear":
        by_product = variance / lengthscale**2
        by_length = -2 * by_product * x * z / lengthscale
        return none + by_product * z, none + by_product * x, by_length, none
    difference = x - z
    if kind == "periodic":
        k = periodic(x, z, variance, lengthscale, period)[..., None]
        angle = np.pi * difference / period
        by_angle = -2 * k * np.sin(2 * angle) / lengthscale**2
        by_x = by_angle * np.pi / period
        by_length = 4 * k * np.sin(angle) ** 2 / lengthscale**3
        return by_x, -by_x, by_length, -by_angle * angle / period
    r = distance(x, z, lengthscale)[..., None]  # slope is dk / dr / r
    if kind == "squared_exponential":
        slope = -variance * np.exp(-(r**2) / 2)
    elif kind == "matern_12":
        slope = -variance * np.exp(-r) / np.where(r > 0, r, np.inf)
    elif kind == "matern_32":
        slope = -3 * variance * np.exp(-np.sqrt(3) * r)
    else:
        slope = -5 / 3 * variance * (1 + np.sqrt(5) * r) * np.exp(-np.sqrt(5) * r)
    by_x = slope * difference / lengthscale**2
    return by_x, -by_x, -slope * difference**2 / lengthscale**3, none


# Programs: sums and products of leaves, in postfix; __init__.py says what parameters are


def matrix(kinds, ops, parameters, x, z):
    """Covariances (B, n, m) of points x (B, n, D) and z (B or 1, m, D); kinds are names."""
    return _values(kinds, ops, parameters, x, z)[0][-1]


def matrix_vjp(kinds, ops, parameters, x, z, gradient):
    """Products of a gradient (B, n, m) with derivatives by x, z and parameters."""
    values, operands = _values(kinds, ops, parameters, x, z)
    bars = [0 * v for v in values]
    bars[-1] = gradient
    d_x, d_z, d_parameters = np.zeros(x.shape), np.zeros(z.shape), np.zeros(parameters.shape)
    for o in reversed(range(len(ops))):
        if ops[o] < 0:
            a, b = operands[o]
            bars[a] = bars[o] * (1 if ops[o] == -1 else values[b])
            bars[b] = bars[o] * (1 if ops[o] == -1 else values[a])
            continue
        i, (x_, z_, v, l, p) = ops[o], _arguments(parameters[ops[o]], x, z)
        by_x, by_z, by_length, by_period = leaf_derivatives(kinds[i], x_, z_, v, l, p)
        bar = bars[o][..., None]
        d_x += (bar * by_x).sum(2)
        d_z += (bar * by_z).sum(1) if len(z) > 1 else (bar * by_z).sum((0, 1))
        d_parameters[i, 0] += (bars[o] * values[o]).sum() / v
        by_scale, by_frequency = -by_length * l**2, -by_period * p**2 / (2 * np.pi)
        d_parameters[i, 1:] += np.concatenate(
            [(bar * by).sum((0, 1, 2)) for by in (by_scale, by_frequency)]
        )
    return d_x, d_z, d_parameters


def _arguments(parameters, x, z):
    v, (scale, frequency) = parameters[0], np.split(parameters[1:], 2)
    return x[:, :, None], z[:, None], v, 1 / scale, 2 * np.pi / frequency


def _values(kinds, ops, parameters, x, z):
    """Of all operations, and the two operations of which each is a sum or product."""
    values, operands, stack = [], [], []
    for o, op in enumerate(ops):
        if op >= 0:
            operands.append(None)
            values.append(leaf(kinds[op], *_arguments(parameters[op], x, z)))
        else:
            b, a = stack.pop(), stack.pop()
            operands.append((a, b))
            values.append(values[a] + values[b] if op == -1 else values[a] * values[b])
        stack.append(o)
    return values, operands

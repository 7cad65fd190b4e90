"""Covariances of points on a GPU, and their derivatives.

A thread has a pair of points: it takes a program's operations one after the other, leaves by their
formulas. For derivatives a thread has a point and a part of its partners, and sums of its own in
global memory, where neighbors are neighbors; the sums over parts are left to the caller. So every
sum has one order, and is the same in every run. Derivatives by the partners are those by the
points of the transposed problem.

Imported only for tensors on a GPU, and by the tests, which run it in Numba's simulator.
"""

from contextlib import suppress
from math import cos, exp, sin, sqrt

from ..jit import cuda_jit
from . import ADD, KINDS, MOST_OPS

with suppress(ImportError):  # cuda_jit says what is missing
    from numba import cuda, float64, int64

SQUARED_EXPONENTIAL, MATERN_12, MATERN_32, MATERN_52, PERIODIC, LINEAR, WHITE = range(len(KINDS))
FARTHEST = 1000.0  # where exp(-r) is 0
THREADS = 128  # of a block
N_THREADS = 1 << 16  # at least, where there are as many pairs


@cuda_jit
def leaf(kind, parameters, x, z, is_same):
    """A leaf of variance 1, and its slope by the squared distance or the product."""
    n_inputs = x.shape[0]
    s = 0.0
    for d in range(n_inputs):
        scale, u = parameters[1 + d], x[d] - z[d]
        if kind == LINEAR:
            s += scale * scale * (x[d] * z[d])
        elif kind == PERIODIC:
            u = 2 * scale * sin(0.5 * parameters[1 + n_inputs + d] * u)
            s += u * u
        else:
            s += scale * u * (scale * u)
    if kind == LINEAR:
        return s, 1.0
    if kind == WHITE:
        return (1.0 if is_same else 0.0), 0.0
    if kind == SQUARED_EXPONENTIAL or kind == PERIODIC:
        e = exp(-0.5 * s)
        return e, -0.5 * e
    if kind == MATERN_12:
        r = min(sqrt(s), FARTHEST)
        e = exp(-r)
        return e, (-0.5 * e / r if r > 0 else 0.0)
    if kind == MATERN_32:
        r = min(sqrt(3 * s), FARTHEST)
        e = exp(-r)
        return e * (1 + r), -1.5 * e
    r = min(sqrt(5 * s), FARTHEST)
    e = exp(-r)
    return e * (1 + r + r * r / 3), -5 / 6 * e * (1 + r)


@cuda_jit
def run(kinds, ops, parameters, x, z, is_same, values, slopes, left, right):
    """Fill in the values of all operations, slopes of leaves, and the operands of the others."""
    stack = cuda.local.array(MOST_OPS, int64)
    top = 0
    for o in range(ops.shape[0]):
        i = ops[o]
        if i >= 0:
            value, slope = leaf(kinds[i], parameters[i], x, z, is_same)
            values[o], slopes[o] = parameters[i, 0] * value, parameters[i, 0] * slope
        else:
            top -= 2
            a, b = stack[top], stack[top + 1]
            left[o], right[o] = a, b
            values[o] = values[a] + values[b] if i == ADD else values[a] * values[b]
        stack[top] = o
        top += 1


@cuda_jit
def pairs(kinds, ops, parameters, x, z, same, out):
    """Covariances out (B, n, m) of points x (B, n, D) and z (B, m, D), the same or others."""
    n_batches, n, m = out.shape
    values = cuda.local.array(MOST_OPS, float64)
    slopes = cuda.local.array(MOST_OPS, float64)
    left = cuda.local.array(MOST_OPS, int64)
    right = cuda.local.array(MOST_OPS, int64)
    t = cuda.grid(1)
    if t < n_batches * n * m:
        b, i, j = t // (n * m), t // m % n, t % m
        is_same = same and i == j
        run(kinds, ops, parameters, x[b, i], z[b, j], is_same, values, slopes, left, right)
        out[b, i, j] = values[ops.shape[0] - 1]


@cuda_jit
def add_leaf(kind, parameters, x, z, bar, value, slope, dx, d_parameters, part, t):
    """Add what a gradient ``bar`` by a leaf is by x, and by parameters if these are wanted."""
    n_inputs = x.shape[0]
    want_parameters = d_parameters.shape[0] > 0
    if want_parameters:
        d_parameters[part, 0, t] += bar * value / parameters[0]
    if kind == WHITE:
        return
    w = bar * slope
    for d in range(n_inputs):
        scale, u = parameters[1 + d], x[d] - z[d]
        by_x, by_scale, factor, by_frequency = scale * scale * z[d], 2 * scale * x[d], z[d], 0.0
        if kind == PERIODIC:
            frequency = parameters[1 + n_inputs + d]
            factor, cosine = sin(0.5 * frequency * u), cos(0.5 * frequency * u)
            by_angle, by_scale = 4 * scale * scale * factor * cosine, 8 * scale * factor
            by_x, by_frequency = by_angle * frequency, by_angle * u
        elif kind != LINEAR:
            by_x, by_scale, factor = 2 * scale * scale * u, 2 * scale * u, u
        dx[part, d, t] += w * by_x
        if want_parameters:
            d_parameters[part, 1 + d, t] += w * by_scale * factor
            d_parameters[part, 1 + n_inputs + d, t] += w * by_frequency


@cuda_jit
def vjp(kinds, ops, parameters, x, z, same, gradient, dx, d_parameters):
    """From a gradient (B, n, m) to dx (n_parts, D, B n) and d_parameters (n_leaves, n_parts or 0,
    1 + 2 D, B n), zero at first."""
    n_batches, n, m = gradient.shape
    n_parts = dx.shape[0]
    values = cuda.local.array(MOST_OPS, float64)
    slopes = cuda.local.array(MOST_OPS, float64)
    bars = cuda.local.array(MOST_OPS, float64)
    left = cuda.local.array(MOST_OPS, int64)
    right = cuda.local.array(MOST_OPS, int64)
    thread = cuda.grid(1)
    if thread >= n_parts * n_batches * n:
        return
    part, t = thread // (n_batches * n), thread % (n_batches * n)
    b, i = t // n, t % n
    for j in range(part, m, n_parts):
        is_same = same and i == j
        run(kinds, ops, parameters, x[b, i], z[b, j], is_same, values, slopes, left, right)
        bars[ops.shape[0] - 1] = gradient[b, i, j]
        for o in range(ops.shape[0] - 1, -1, -1):
            k = ops[o]
            if k == ADD:
                bars[left[o]] = bars[right[o]] = bars[o]
            elif k < 0:
                bars[left[o]] = bars[o] * values[right[o]]
                bars[right[o]] = bars[o] * values[left[o]]
            else:
                add_leaf(
                    kinds[k], parameters[k], x[b, i], z[b, j], bars[o], values[o], slopes[o], dx,
                    d_parameters[k], part, t,
                )  # fmt: skip


# Launchers: arrays of Numba, or what has __cuda_array_interface__


def launch_pairs(kinds, ops, parameters, x, z, same, out, stream=0):
    n_blocks = -(-out.shape[0] * out.shape[1] * out.shape[2] // THREADS)
    pairs[n_blocks, THREADS, stream](kinds, ops, parameters, x, z, same, out)


def launch_vjp(kinds, ops, parameters, x, z, same, gradient, dx, d_parameters, stream=0):
    n_blocks = -(-dx.shape[0] * dx.shape[2] // THREADS)
    arrays = (x, z, same, gradient, dx, d_parameters)
    vjp[n_blocks, THREADS, stream](kinds, ops, parameters, *arrays)


# float64 tensors on the current CUDA device, as in __init__.py, and kinds and ops (int64), too.
# stream is the handle of the CUDA stream to work on, torch's current one.


def matrix(kinds, ops, parameters, x, z, *, stream):
    """Covariances (B, n, m) of points x (B, n, D) and z (B or 1, m, D), or None for the same."""
    other = x if z is None else z
    out = x.new_empty(x.shape[0], x.shape[1], other.shape[1])
    flat, points = out, x
    if other.shape[0] < x.shape[0]:
        points, flat = x.reshape(1, -1, x.shape[2]), out.view(1, -1, other.shape[1])
    arrays = _arrays(kinds, ops, parameters, points, other)
    launch_pairs(*arrays, z is None, *_arrays(flat), cuda.external_stream(stream))
    return out


def matrix_vjp(kinds, ops, parameters, x, z, gradient, *, stream):
    """Products of a gradient (B, n, m) with derivatives by x, z and parameters; z may be None."""
    same, other, points = z is None, x if z is None else z, x
    if other.shape[0] < x.shape[0]:
        points = x.reshape(1, -1, x.shape[2])
        gradient = gradient.reshape(1, -1, gradient.shape[2])
    program = kinds, ops, parameters
    dx, d_parameters = _half_vjp(program, points, other, same, gradient, True, stream)
    dz, _ = _half_vjp(program, other, points, same, gradient.mT, False, stream)
    if same:
        return dx + dz, None, d_parameters
    return dx.reshape(x.shape), dz, d_parameters


def _half_vjp(program, x, z, same, gradient, want_parameters, stream):
    """By x, and by parameters if these are wanted."""
    parameters = program[2]
    (n_batches, n, n_inputs), m = x.shape, z.shape[1]
    n_parts = max(1, min(m, N_THREADS // (n_batches * n)))  # by the sizes alone
    dx = x.new_zeros(n_parts, n_inputs, n_batches * n)
    shape = parameters.shape[0], n_parts if want_parameters else 0, parameters.shape[1]
    d_parameters = x.new_zeros(*shape, n_batches * n)
    arrays = _arrays(*program, x, z)
    outputs = _arrays(gradient, dx, d_parameters)
    launch_vjp(*arrays, same, *outputs, cuda.external_stream(stream))
    dx = dx.sum(0).view(n_inputs, n_batches, n).permute(1, 2, 0)
    return dx, d_parameters.sum((1, 3))


def _arrays(*tensors):
    return [cuda.as_cuda_array(tensor.detach().contiguous(), sync=False) for tensor in tensors]

"""The covariance kernels: matrices of sums and products of leaves, and what goes back."""

from functools import partial

import numpy as np

from fastvis._kernels import covariance
from fastvis._kernels.covariance import reference

SIZES = {  # batches, points x, points z, dimensions; z of all batches
    "a pair": (1, 1, 1, 1),
    "a row": (1, 1, 70, 2),
    "a column": (3, 33, 1, 1),
    "odd": (2, 37, 45, 3),
    "a block": (1, 32, 32, 7),
    "medium": (2, 70, 65, 2),
    "large": (1, 700, 650, 2),
}
OPTIONS = {
    "all leaves": {"kinds": covariance.KINDS, "ops": (0, 4, -1, 5, -2, 2, 3, -2, -1, 6, -1, 1, -1)},
    "a product": {"kinds": ("matern_52", "linear"), "ops": (0, 1, -2)},
}

TUNED = covariance
TUNINGS = {"small pieces": {"PAIRS": 64}, "few pieces": {"PAIRS": 64, "MOST_PIECES": 3}}


def inputs(size, dtype, rng):
    n_batches, n, m, d = size
    n_leaves = len(covariance.KINDS)
    arrays = {
        "x": rng.normal(size=(n_batches, n, d)),
        "z": rng.normal(size=(1, m, d)),
        "parameters": rng.uniform(0.5, 1.5, (n_leaves, 1 + 2 * d)),
        "gradient": rng.uniform(0.5, 1, (n_batches, n, m)),
        "square": rng.uniform(0.5, 1, (n_batches, n, n)),
    }
    return {name: array.astype(dtype) for name, array in arrays.items()}


def make(run, arrays, kinds, ops):
    return partial(_outputs, run, kinds, ops)


def _outputs(run, kinds, ops, **arrays):
    dtype = arrays["x"].dtype
    arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
    arrays["parameters"] = arrays["parameters"][: len(kinds)]
    matrix, (dx, dz, d_parameters), same, d_same = run(kinds, ops, **arrays)
    padding = len(covariance.KINDS) - len(kinds)
    outputs = {
        "matrix": matrix,
        "d loss / d x": dx,
        "d loss / d z": dz,
        "d loss / d parameters": np.pad(d_parameters, ((0, padding), (0, 0))),
        "same points": same,
        "d sum / d x": d_same,
    }
    outputs = {name: array.astype(dtype) for name, array in outputs.items()}
    return outputs | {
        "loss": (arrays["gradient"] * matrix).sum(),
        "sum": (arrays["square"] * same).sum(),
    }


def _cpu(kinds, ops, x, z, parameters, gradient, square):
    indices = np.array([covariance.KINDS.index(kind) for kind in kinds])
    k = covariance.Program(indices, np.array(ops)), parameters
    return (
        covariance.matrix(*k, x, z),
        covariance.matrix_vjp(*k, x, z, gradient),
        covariance.matrix(*k, x),
        covariance.matrix_vjp(*k, x, None, square)[0],
    )


def _reference(kinds, ops, x, z, parameters, gradient, square):
    k = kinds, ops, parameters
    same = reference.matrix(*k, x, x)
    if "white" in kinds:
        # "all leaves" has it in a sum
        same += parameters[kinds.index("white"), 0] * np.eye(x.shape[1])
    dx, dz, _ = reference.matrix_vjp(*k, x, x, square)
    return (
        reference.matrix(*k, x, z),
        reference.matrix_vjp(*k, x, z, gradient),
        same,
        dx + dz,
    )


IMPLEMENTATIONS = {"reference": partial(make, _reference), "cpu": partial(make, _cpu)}

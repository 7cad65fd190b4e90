"""Block-tridiagonal algebra: factor, solve, selected inverse, products, and their derivatives."""

import numpy as np

from fastvis._kernels import blocktri
from fastvis._kernels.blocktri import reference

SIZES = {  # items, blocks, rows of a block, right-hand sides
    "one by one": (1, 1, 1, 1),
    "one block": (2, 1, 5, 3),
    "scalars": (3, 9, 1, 2),
    "one right-hand side": (2, 4, 3, 1),
    "odd": (3, 5, 7, 2),
    "long": (1, 31, 2, 5),
    "medium": (9, 4, 11, 6),
    "large": (72, 5, 40, 40),
}
OPTIONS = {"matrix": {}}

TUNED = blocktri
TUNINGS = {"an item at a time": {"PIECE": 1}, "two items": {"PIECE": 2 * 4 * 3e4}}


def inputs(size, dtype, rng):
    """A matrix A A' + I, of which no part is symmetric by more than rounding needs."""
    n, n_blocks, m, k = size
    scale = 1 / np.sqrt(m)
    a = scale * rng.normal(size=(n, n_blocks, m, m))
    below = scale * rng.normal(size=(n, n_blocks - 1, m, m))
    diagonal = a @ a.mT + np.eye(m)
    diagonal[:, 1:] += below @ below.mT
    skew = rng.normal(size=diagonal.shape)
    arrays = {
        "diagonal": diagonal + skew - skew.mT,
        "lower": below @ a[:, :-1].mT,
        "b": rng.normal(size=(n, n_blocks, m, k)),
        "d_logdet": rng.normal(size=n),
        "d_x": rng.normal(size=(n, n_blocks, m, k)),
        "d_inverse": rng.normal(size=diagonal.shape),
        "d_inverse_lower": rng.normal(size=below.shape),
    }
    return {name: array.astype(dtype) for name, array in arrays.items()}


def make_reference(arrays):
    def call(diagonal, lower, **others):
        matrix = diagonal, lower
        factor = reference.factorize(*matrix)
        return _outputs(
            reference.logdet(*matrix),
            reference.solve(*matrix, others["b"]),
            reference.inverse_blocks(*matrix),
            {
                "factor": factor[0],
                "factor below": factor[1],
                "draw": reference.back_substitute(*matrix, others["b"]),
                "product": reference.multiply(*matrix, others["b"]),
            },
            reference.logdet_vjp(*matrix, others["d_logdet"]),
            reference.solve_vjp(*matrix, others["b"], others["d_x"]),
            reference.inverse_blocks_vjp(*matrix, others["d_inverse"], others["d_inverse_lower"]),
            **others,
        )

    return call


def make_cpu(arrays):
    def call(**arrays):
        dtype = arrays["diagonal"].dtype
        arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
        outputs = _cpu_outputs(**arrays)
        return {name: a.astype(dtype) if a.ndim else a for name, a in outputs.items()}

    return call


def _cpu_outputs(diagonal, lower, b, d_logdet, **others):
    factor = blocktri.factorize(diagonal, lower)
    x = blocktri.solve(*factor, b)
    inverse = blocktri.inverse_blocks(*factor)
    d_inverse = others["d_inverse"], others["d_inverse_lower"]
    return _outputs(
        blocktri.logdet(factor[0]),
        x,
        inverse,
        {
            "factor": factor[0],
            "factor below": factor[1],
            "draw": blocktri.back_substitute(*factor, b),
            "product": blocktri.multiply((diagonal + diagonal.mT) / 2, lower, b),
        },
        blocktri.logdet_vjp(*inverse, d_logdet),
        blocktri.solve_vjp(*factor, x, others["d_x"]),
        blocktri.inverse_blocks_vjp(*factor, inverse[0], *d_inverse),
        d_logdet=d_logdet,
        **others,
    )


IMPLEMENTATIONS = {"reference": make_reference, "cpu": make_cpu}


def _outputs(logdet, x, inverse, more, logdet_vjp, solve_vjp, inverse_vjp, **d):
    outputs = {
        "log determinants": logdet,
        "solution": x,
        "inverse": inverse[0],
        "inverse below": inverse[1],
        **more,
        "logdet": np.sum(d["d_logdet"] * logdet),
        "projection of x": np.sum(d["d_x"] * x),
        "projection of S": np.sum(d["d_inverse"] * inverse[0])
        + np.sum(d["d_inverse_lower"] * inverse[1]),
        "d logdet / d diagonal": logdet_vjp[0],
        "d logdet / d lower": logdet_vjp[1],
        "d projection of x / d diagonal": solve_vjp[0],
        "d projection of x / d lower": solve_vjp[1],
        "d projection of x / d b": solve_vjp[2],
        "d projection of S / d diagonal": inverse_vjp[0],
        "d projection of S / d lower": inverse_vjp[1],
    }
    return {name: array for name, array in outputs.items() if np.size(array)}  # one block: no lower

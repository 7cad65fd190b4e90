"""Symmetric positive definite block-tridiagonal matrices: factor, solve, selected inverse.

::

    diagonal (..., L, M, M), lower (..., L - 1, M, M): block (i + 1, i)
        -> factorize       C C' = Lambda, C lower block-bidiagonal
             -> logdet
             -> solve, back_substitute      Lambda x = b; C' x = y (draws from N(0, Lambda^-1))
             -> inverse_blocks              of S = Lambda^-1, diagonal and below it
             -> solve_vjp, inverse_blocks_vjp
        -> multiply

    reference.py    the definitions, by dense matrices
    _cpu.pyx        the kernels, over BLAS and LAPACK, and our own solutions (solves.h)

The cost is linear in L. Arrays are float64 and C-contiguous, batches have the same leading
dimensions, right-hand sides are (..., L, M, K). Threads share the items of a batch; a single
problem is worked on by one, because products of a BLAS on several threads differ in their last
bits.
"""

import math

import numpy as np

from ..threads import one_blas_thread, run_ranges
from . import _cpu

PIECE = 4e6  # flops of a piece
CALLS = 2e4  # flops that could be done while a block's routines are called


def factorize(diagonal, lower):
    """Blocks of C, (..., L, M, M) and (..., L - 1, M, M); the symmetric part of `diagonal` counts.

    Raises
    ------
    numpy.linalg.LinAlgError
        A ValueError: the matrix is not positive definite.
    """
    batch, m = diagonal.shape[:-3], diagonal.shape[-1]
    c, b = np.empty_like(diagonal), np.empty_like(lower)
    failed = np.full(math.prod(batch), -1, np.int64)
    _run(_cpu.factorize, 7 / 3 * m**3, diagonal, lower, c, b, failed=failed)
    if np.any(failed >= 0):
        item = int(np.argmax(failed >= 0))
        raise np.linalg.LinAlgError(
            not_positive_definite(failed[item], np.unravel_index(item, batch))
        )
    return c, b


def not_positive_definite(block, item):
    """What the error says; ``item``: the index in the batch, a sequence of integers."""
    where = [int(i) for i in item]
    where = f" of batch item {where[0] if len(where) == 1 else tuple(where)}" if where else ""
    return (
        f"the matrix must be positive definite; got one that is not, at block {block}{where}. "
        "Add a small multiple of the identity to the diagonal blocks, or check their signs."
    )


def logdet(c):
    """log |Lambda|, (...)."""
    return 2 * np.log(np.diagonal(c, axis1=-2, axis2=-1)).sum(axis=(-2, -1))


def substitute(c, b, y):
    """x of C x = y, (..., L, M, K)."""
    x = y.copy()
    _run(_cpu.substitute, 3 * x.shape[-2] ** 2 * x.shape[-1], c, b, x)
    return x


def back_substitute(c, b, y):
    """x of C' x = y, (..., L, M, K): from standard normals y, draws from N(0, Lambda^-1)."""
    x = y.copy()
    _run(_cpu.back_substitute, 3 * x.shape[-2] ** 2 * x.shape[-1], c, b, x)
    return x


def solve(c, b, right):
    """x of Lambda x = right, (..., L, M, K)."""
    return back_substitute(c, b, substitute(c, b, right))


def multiply(diagonal, lower, x):
    """Lambda x, (..., L, M, K); `diagonal` must be symmetric."""
    y = np.empty_like(x)
    _run(_cpu.multiply, 6 * x.shape[-2] ** 2 * x.shape[-1], diagonal, lower, x, y)
    return y


def inverse_blocks(c, b):
    """Blocks (i, i) and (i + 1, i) of S, from the factor."""
    s, s_lower = np.empty_like(c), np.empty_like(b)
    _run(_cpu.inverse_blocks, 17 / 3 * c.shape[-1] ** 3, c, b, s, s_lower)
    return s, s_lower


# Gradients by diagonal, lower (and b) of <d_result, result>


def logdet_vjp(s, s_lower, d_logdet):
    """Of log |Lambda|, from the blocks of S."""
    d_logdet = d_logdet[..., None, None, None]
    return d_logdet * s, 2 * d_logdet * s_lower


def solve_vjp(c, b, x, d_x):
    """Of x = Lambda^-1 b."""
    d_b = solve(c, b, d_x)
    with one_blas_thread:
        d_diagonal = d_b @ x.mT
        d_lower = d_b[..., 1:, :, :] @ x[..., :-1, :, :].mT
        d_lower += x[..., 1:, :, :] @ d_b[..., :-1, :, :].mT
    return -(d_diagonal + d_diagonal.mT) / 2, -d_lower, d_b


def inverse_blocks_vjp(c, b, s, d_s, d_s_lower):
    """Of the blocks of S.

    The derivative of S along Gamma is -S Gamma S, which is its own adjoint: the gradient is the
    derivative along d_S. Blocks below the diagonal stand for those above it as well.
    """
    d_diagonal, d_lower = np.empty_like(c), np.empty_like(b)
    flops = 18 * c.shape[-1] ** 3
    arrays = (c, b, s, d_s, d_s_lower / 2, d_diagonal, d_lower)
    _run(_cpu.inverse_blocks_derivative, flops, *arrays)
    return d_diagonal, 2 * d_lower


def _run(kernel, block_flops, first, *arrays, failed=None):
    """Run a kernel over the items of a batch; ``first`` (..., L, M, M) has its shape."""
    *batch, n_blocks = first.shape[:-2]
    n = math.prod(batch)
    flat = [array.reshape(n, *array.shape[-3:]) for array in (first, *arrays)]
    grain = max(1, int(PIECE / (n_blocks * (block_flops + CALLS))))
    with one_blas_thread:
        run_ranges(kernel, n, *flat, *(() if failed is None else (failed,)), grain=grain)

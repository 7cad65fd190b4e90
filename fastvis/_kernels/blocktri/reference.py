"""Block-tridiagonal algebra: the definitions, by dense matrices.

Lambda (..., L M, L M) is symmetric and positive definite; diagonal (..., L, M, M) holds its blocks
(i, i), of which the symmetric part counts, and lower (..., L - 1, M, M) its blocks (i + 1, i).
Right-hand sides are (..., L, M, K).
"""

import numpy as np


def dense(diagonal, lower):
    """Lambda."""
    *batch, n, m, _ = diagonal.shape
    matrix = np.zeros((*batch, n, m, n, m))
    for i in range(n):
        matrix[..., i, :, i, :] = (diagonal[..., i, :, :] + diagonal[..., i, :, :].mT) / 2
    for i in range(n - 1):
        matrix[..., i + 1, :, i, :] = lower[..., i, :, :]
        matrix[..., i, :, i + 1, :] = lower[..., i, :, :].mT
    return matrix.reshape(*batch, n * m, n * m)


def blocks(matrix, n):
    """Blocks (i, i) and (i + 1, i) of a dense matrix of n x n blocks."""
    m = matrix.shape[-1] // n
    matrix = matrix.reshape(*matrix.shape[:-2], n, m, n, m)
    here = np.arange(n)
    below = here[1:]
    return (
        np.moveaxis(matrix[..., here, :, here, :], 0, -3),
        np.moveaxis(matrix[..., below, :, below - 1, :], 0, -3),
    )


def factorize(diagonal, lower):
    """Blocks of C, Lambda = C C'."""
    return blocks(np.linalg.cholesky(dense(diagonal, lower)), diagonal.shape[-3])


def logdet(diagonal, lower):
    return np.linalg.slogdet(dense(diagonal, lower))[1]


def solve(diagonal, lower, b):
    """x of Lambda x = b."""
    return np.linalg.solve(dense(diagonal, lower), _stacked(b)).reshape(b.shape)


def back_substitute(diagonal, lower, y):
    """x of C' x = y."""
    factor = np.linalg.cholesky(dense(diagonal, lower))
    return np.linalg.solve(factor.mT, _stacked(y)).reshape(y.shape)


def multiply(diagonal, lower, x):
    """Lambda x."""
    return (dense(diagonal, lower) @ _stacked(x)).reshape(x.shape)


def inverse_blocks(diagonal, lower):
    """Blocks of S = Lambda^-1."""
    return blocks(np.linalg.inv(dense(diagonal, lower)), diagonal.shape[-3])


# Gradients by diagonal, lower (and b) of <d_result, result>


def logdet_vjp(diagonal, lower, d_logdet):
    inverse = np.linalg.inv(dense(diagonal, lower))
    return _gradient(np.asarray(d_logdet)[..., None, None] * inverse, diagonal.shape[-3])


def solve_vjp(diagonal, lower, b, d_x):
    x, d_b = solve(diagonal, lower, b), solve(diagonal, lower, d_x)
    return *_gradient(-_stacked(d_b) @ _stacked(x).mT, diagonal.shape[-3]), d_b


def inverse_blocks_vjp(diagonal, lower, d_diagonal, d_lower):
    *batch, n, m, _ = diagonal.shape
    d_inverse = np.zeros((*batch, n, m, n, m))
    for i in range(n):
        d_inverse[..., i, :, i, :] = d_diagonal[..., i, :, :]
    for i in range(n - 1):
        d_inverse[..., i + 1, :, i, :] = d_lower[..., i, :, :]
    inverse = np.linalg.inv(dense(diagonal, lower))
    return _gradient(-inverse @ d_inverse.reshape(inverse.shape) @ inverse, n)


def _gradient(d_matrix, n):
    """By the blocks, of the gradient by all elements of Lambda: `lower` is there twice."""
    diagonal, lower = blocks(d_matrix + d_matrix.mT, n)
    return diagonal / 2, lower


def _stacked(b):
    return b.reshape(*b.shape[:-3], -1, b.shape[-1])

"""Triangular factors of small covariance matrices, and their derivatives."""

import functools

import numpy as np
from scipy.linalg.lapack import dtrtrs


def factor(matrix, what):
    """Return the lower Cholesky factor; ``what`` names the matrix in the error."""
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError as error:
        raise ValueError(
            f"{what} must be positive definite; its smallest eigenvalue is "
            f"{np.linalg.eigvalsh(matrix)[0]:.2g}. Move inducing points that (nearly) coincide, "
            "take a shorter lengthscale, or a larger jitter."
        ) from error


def below(matrix):
    """The lower triangle; np.tril, without what that does first."""
    return matrix * _ones_below(matrix.shape[-1])


@functools.cache
def _ones_below(n):
    return np.tril(np.ones((n, n)))


def solve_lower(lower, b, transposed=False):
    """lower^-1 b, or lower^-T b, of matrices that are known to be finite."""
    return dtrtrs(lower.T, b, lower=0, trans=not transposed)[0]  # .T: in BLAS's order, no copy


def factor_vjp(lower, d_lower):
    """From a gradient by the Cholesky factor to the symmetric one by the matrix.

    Murray, 'Differentiation of the Cholesky decomposition', 2016, section 4.
    """
    product = below(lower.T @ d_lower)
    at = np.arange(len(lower))
    product[at, at] /= 2
    half = solve_lower(lower, product, transposed=True)
    d_matrix = solve_lower(lower, half.T, transposed=True)
    return (d_matrix + d_matrix.T) / 2


def factor_of_sum(*parts):
    """Return the lower F, F F^T = sum of P P^T over parts (m, n), without forming the products."""
    upper = np.linalg.qr(np.concatenate(parts, axis=1).T, mode="r")
    return (upper * np.where(np.diagonal(upper) < 0, -1.0, 1.0)[:, None]).T


def triangle(raw):
    """Return the lower triangle whose diagonal is exp of raw's; raw (..., m, m)."""
    lower = below(raw)
    at = np.arange(raw.shape[-1])
    lower[..., at, at] = np.exp(raw[..., at, at])
    return lower


def triangle_vjp(lower, d_lower):
    """From a gradient by `triangle` to that by raw."""
    d_raw = below(d_lower)
    at = np.arange(lower.shape[-1])
    d_raw[..., at, at] *= lower[..., at, at]
    return d_raw


def raw_triangle(lower):
    """Return what `triangle` makes ``lower`` of."""
    raw = np.array(lower)
    at = np.arange(raw.shape[-1])
    raw[..., at, at] = np.log(raw[..., at, at])
    return raw


def log_diagonal(raw):
    """Return the sum of log diagonals of `triangle`."""
    return np.trace(raw, axis1=-2, axis2=-1).sum()


def natural_step(raw, d_raw, rate):
    """Move `triangle` T of raw along the natural gradient of its Gaussian.

    To first order T T^T moves by ``2 rate S G S``, where S = T T^T and G is the gradient by S. The
    step is taken in the precision, S^-1 - 2 rate G, which is exact for a Gaussian likelihood at
    rate 1; the rate is halved until no variance grows by more than a factor of two.

    Returns
    -------
    metric : ndarray
        rate T T^T, by which a gradient by the mean is to be multiplied.
    """
    lower = triangle(raw)
    at, unit = np.arange(len(raw)), np.eye(len(raw))
    d_lower = below(d_raw)
    d_lower[at, at] /= lower[at, at]
    change = below(lower.T @ d_lower)  # of 2 T^T G T
    change = change + change.T - np.diag(np.diag(change))
    while np.linalg.eigvalsh(rate * change)[-1] > 0.5:
        rate /= 2
    # I - rate change = U U^T, from the Cholesky factor of the reversed matrix
    upper = np.linalg.cholesky((unit - rate * change)[::-1, ::-1])[::-1, ::-1]
    lower = lower @ solve_lower(upper.T, unit)
    raw[...] = raw_triangle(lower)
    return rate * lower @ lower.T

"""Mean distance of all pairs of rows, and its gradient, without an N x N matrix.

Rows are worked off in blocks. For each block of rows i and each chunk of rows j::

    g_ij = x_i x_j                       a product of a block
    d_ij = sqrt(|x_i|^2 + |x_j|^2 - 2 g_ij)
    sum_j d_ij; sum_j x_j / d_ij         another product

4 N^2 D flops: each pair is met twice, so that every row's sums have one owner and results do not
depend on the number of threads. Rows are centered first; where two of them nearly coincide and the
difference of products would cancel, they enter by their differences.
"""

import numpy as np

from ..memory import aligned_empty
from ..threads import run_ranges
from . import _distances

GRAIN = 128  # rows of a piece: the blocks of distances.h


def mean_distance(x):
    """Mean over pairs i < j of |x_i - x_j|, eq (3), and its gradient by x.

    Parameters
    ----------
    x : ndarray, (N, D), float32 or float64
        At least two rows. Rows that coincide have distance 0 and gradient 0.

    Returns
    -------
    loss : float
    gradient : ndarray, (N, D)
    """
    n, n_dims = x.shape
    size = x.itemsize
    padded = aligned_empty((_distances.padded(n, size), n_dims), x.dtype)
    np.subtract(x, x.mean(axis=0, dtype=np.float64).astype(x.dtype), out=padded[:n])
    padded[n:] = 0
    squares = np.einsum("ij,ij->i", padded, padded)
    columns = aligned_empty((len(padded) * n_dims,), x.dtype)
    _distances.panels(np.ascontiguousarray(padded.T), columns)
    rows = aligned_empty((_distances.padded(n_dims, size) * n,), x.dtype)
    _distances.panels(padded[:n], rows)

    sums, gradient = np.empty(n), np.empty_like(x)
    run_ranges(_distances.distances, n, padded, squares, columns, rows, sums, gradient, grain=GRAIN)
    n_pairs = n * (n - 1) / 2
    gradient *= 1 / n_pairs
    return float(sums.sum() / 2 / n_pairs), gradient

"""Mean distance of all pairs of rows, and its gradient, without an N x N matrix.

Rows are cut into blocks, and each pair of blocks is met once. For tiles of rows i and j::

    g_ij = x_i x_j                       a product
    d_ij = sqrt(|x_i|^2 + |x_j|^2 - 2 g_ij)
    sum_j d_ij;  sum_j x_j / d_ij        another product
                 sum_i x_i / d_ij        and another

3 N^2 D flops. Blocks meet as the teams of a tournament: in a round none plays twice, so that every
row's sums have one owner at a time and are added up in the order of the rounds, and results do not
depend on the number of threads. Rows are centered first; where two of them nearly coincide and the
difference of products would cancel, they enter by their differences.
"""

import numpy as np

from ..memory import aligned_empty
from ..threads import run_ranges
from . import _distances

BLOCK = 4 * _distances.TILE  # rows of a block at most
FEWEST_BLOCKS = 8


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
    n_padded = -(-n // _distances.TILE) * _distances.TILE
    width = _distances.padded(n_dims, x.itemsize)
    centered = aligned_empty((n_padded, n_dims), x.dtype)
    np.subtract(x, x.mean(axis=0, dtype=np.float64).astype(x.dtype), out=centered[:n])
    centered[n:] = 0
    largest = max(centered.max(), -centered.min())
    if largest == 0:
        return 0.0, np.zeros_like(x)
    scale = 2.0 ** int(np.frexp(largest)[1])  # exact; squares neither overflow nor vanish
    centered /= x.dtype.type(scale / 2)
    centered /= 2
    squares = np.einsum("ij,ij->i", centered, centered)
    columns = aligned_empty((n_padded * n_dims,), x.dtype)
    _distances.panels(np.ascontiguousarray(centered.T), columns)
    rows = aligned_empty((width * n_padded,), x.dtype)
    _distances.panels(centered, rows)
    pulled = aligned_empty((n_padded, width), x.dtype)
    pulled[:] = 0
    total_weight = np.zeros(n_padded)

    n_block = block_rows(n)
    total = 0.0
    for pairs in rounds(-(-n_padded // n_block)):
        arrays = (pairs, n_block, n, centered, squares, columns, rows, pulled, total_weight)
        total += sum(run_ranges(_distances.distances, len(pairs), *arrays, grain=1))
    n_pairs = n * (n - 1) / 2
    gradient = centered[:n] * total_weight[:n, None].astype(x.dtype)
    gradient -= pulled[:n, :n_dims]
    gradient *= 1 / n_pairs
    return scale * (total / n_pairs), gradient


def block_rows(n):
    """Rows of a block: small problems have blocks of one tile, large ones no more than BLOCK."""
    tile = _distances.TILE
    return min(max(n // (FEWEST_BLOCKS * tile) * tile, tile), BLOCK)


def rounds(n_blocks):
    """Yields arrays (n_pairs, 2): every pair of blocks once, none twice in a round.

    Each block with itself first; then the circle method: one stays, the others move on by a place.
    """
    blocks = np.arange(n_blocks)
    yield np.stack([blocks, blocks], axis=1)
    n_seats = n_blocks + n_blocks % 2  # an odd one out rests opposite an empty seat
    seats = np.arange(n_seats)
    for _ in range(n_seats - 1):
        pairs = np.sort(np.stack([seats[: n_seats // 2], seats[: n_seats // 2 - 1 : -1]], axis=1))
        pairs = pairs[pairs[:, 1] < n_blocks]
        if len(pairs):
            yield pairs
        seats[1:] = np.roll(seats[1:], 1)

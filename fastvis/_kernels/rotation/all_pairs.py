"""Mean distance of all pairs of rows, and its gradient, without an N x N matrix.

Rows are cut into blocks, and each pair of blocks is met once. For tiles of rows i and j::

    g_ij = x_i x_j                       a product
    d_ij = sqrt(|x_i|^2 + |x_j|^2 - 2 g_ij)
    sum_j d_ij;  sum_j x_j / d_ij        another product
                 sum_i x_i / d_ij        and another

3 N^2 D flops. Blocks meet as the teams of a tournament: in a round none plays twice, so that every
row's sums have one owner at a time and are added up in the order of the rounds, and results do not
depend on the number of threads. A pair waits only for the last ones of its two blocks, not for the
end of a round. Rows are centered first; where two of them nearly coincide and the difference of
products would cancel, they enter by their differences.
"""

import numpy as np

from ..memory import aligned_empty
from ..threads import run_ranges
from . import _distances

BLOCK = 4  # tiles of a block at most, while there are not too many blocks
FEWEST_BLOCKS, MOST_BLOCKS = 8, 128
TILES = 2  # of a piece of what is linear in N


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
    x = np.ascontiguousarray(x)
    n, n_dims = x.shape
    n_tiles = -(-n // _distances.TILE)
    totals, largest = np.empty((n_tiles, n_dims)), np.empty(n_tiles, x.dtype)
    run_ranges(_distances.summarize, n_tiles, x, totals, largest, grain=TILES)
    if not largest.any():
        return 0.0, np.zeros_like(x)
    # scaled by a power of two, which is exact, squares neither overflow nor vanish
    exponent = -int(np.frexp(largest.max())[1])
    scales = [2.0 ** (exponent // 2), 2.0 ** (exponent - exponent // 2)]
    center = (totals * scales[0] * scales[1]).sum(axis=0) / n

    n_padded, width = n_tiles * _distances.TILE, _distances.padded(n_dims, x.itemsize)
    centered = aligned_empty((n_padded, n_dims), x.dtype)
    squares, columns = (aligned_empty((m,), x.dtype) for m in (n_padded, n_padded * n_dims))
    rows, pulled = (aligned_empty((width * n_padded,), x.dtype) for _ in range(2))
    arrays = (x, center.astype(x.dtype), *scales, centered, squares, columns, rows, pulled)
    run_ranges(_distances.prepare, n_tiles, *arrays, grain=TILES)

    n_block = block_tiles(n_tiles)
    pairs, after = schedule(-(-n_tiles // n_block))
    total_weight = np.zeros(n_padded)
    arrays = (centered, squares, columns, rows, pulled, total_weight)
    arrays = (pairs, n_block * _distances.TILE, n, *arrays)
    total = sum(run_ranges(_distances.distances, len(pairs), *arrays, grain=1, after=after))

    n_pairs = n * (n - 1) / 2
    gradient = np.empty_like(x)
    arrays = (1 / n_pairs, centered, pulled, total_weight, gradient)
    run_ranges(_distances.gradient, n, *arrays, grain=TILES * _distances.TILE)
    return total / n_pairs / scales[0] / scales[1], gradient


def block_tiles(n_tiles):
    """Tiles of a block: one in small problems; in large ones as many as keep the schedule short."""
    return max(1, min(n_tiles // FEWEST_BLOCKS, BLOCK), -(-n_tiles // MOST_BLOCKS))


def schedule(n_blocks):
    """Every pair of blocks once, (n_pairs, 2), and for each the earlier ones with its blocks."""
    pairs = np.concatenate(list(rounds(n_blocks)))
    last, after = {}, []
    for k, pair in enumerate(pairs.tolist()):
        after.append([last[block] for block in pair if block in last])
        last |= dict.fromkeys(pair, k)
    return pairs, after


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

"""Mean distance of all pairs of rows on a GPU, and its gradient, without an N x N matrix.

A block of threads owns ROWS rows i. It goes through rows j, TILE at a time, and for these::

    d_ij = |x_i - x_j|                         TILE dimensions at a time, in registers
    w_ij = 1 / d_ij, or 0                      to shared memory
    gradient_i += sum_j w_ij (x_i - x_j)       TILE dimensions at a time

8 N^2 D operations. Each pair is met twice, so that every sum has one owner and one order and is the
same in every run; and by its differences, so that rows that nearly coincide lose nothing. Where N
is too small for many blocks, several share the rows i, each with its part of the rows j.

Imported only for tensors on a GPU, and by the tests, which run it in Numba's simulator.
"""

from contextlib import suppress
from math import sqrt

from ..jit import cuda_jit

with suppress(ImportError):  # cuda_jit says what is missing
    from numba import cuda, float64

M = 4  # a thread has M x M pairs, then M x M elements of the gradient
NX, NY = 8, 16  # threads of a block: powers of 2, NY a multiple of M
TILE, ROWS = M * NX, M * NY
N_WARPS = NX * NY // TILE
# A tile has dimensions first; odd lengths of the second axis keep threads that go along the first
# out of each other's banks. 42 kB in float64, of the 48 kB that every device has.
TILE_SHAPE, WEIGHTS_SHAPE = (TILE, ROWS + TILE + 1), (ROWS, TILE + 1)
N_BLOCKS = 512  # at least: enough for large devices; below 128 Numba warns


@cuda_jit
def distances(x, sums, gradient):
    """Add up distances, and their gradients, of all rows i to one part of the rows j.

    x (N, D); sums (n_parts, N, NX), float64, and gradient (n_parts, N, D), zero at first; sums over
    the parts, and over the last axis of ``sums``, are left to the caller.
    """
    # Masks, and while for range, show the compiler that no index is negative: 43 instructions for
    # 32 of arithmetic in the inner loops, instead of 77 (sm_90).
    tx, ty = cuda.threadIdx.x & (NX - 1), cuda.threadIdx.y & (NY - 1)
    lane, warp = (ty * NX + tx) % TILE, (ty * NX + tx) // TILE
    part, first_i = cuda.blockIdx.y, cuda.blockIdx.x * ROWS
    n, n_dims = x.shape
    tile = cuda.shared.array(TILE_SHAPE, x.dtype)  # rows i, then rows j
    weights = cuda.shared.array(WEIGHTS_SHAPE, x.dtype)
    acc = cuda.local.array((M, M), x.dtype)
    total = cuda.local.array(M, float64)
    for a in range(M):
        total[a] = 0
    for first_j in range(part * TILE, n, len(sums) * TILE):
        for step in range(2):  # distances, then the gradient
            for first_d in range(0, n_dims, TILE):
                for r in range(warp, ROWS + TILE, N_WARPS):
                    row = first_i + r if r < ROWS else first_j + r - ROWS
                    tile[lane, r] = 0
                    if row < n and first_d + lane < n_dims:
                        tile[lane, r] = x[row, first_d + lane]
                cuda.syncthreads()
                if step == 1 or first_d == 0:
                    for a in range(M):
                        for b in range(M):
                            acc[a, b] = 0
                k = 0
                if step == 0:
                    while k < TILE:
                        for a in range(M):
                            for b in range(M):
                                u = tile[k, ty + a * NY] - tile[k, ROWS + tx + b * NX]
                                acc[a, b] += u * u
                        k += 1
                else:
                    while k < TILE:
                        for a in range(M):
                            for b in range(M):
                                u = tile[tx + b * NX, ty + a * NY] - tile[tx + b * NX, ROWS + k]
                                acc[a, b] += weights[ty + a * NY, k] * u
                        k += 1
                    for a in range(M):
                        for b in range(M):
                            i, d = first_i + ty + a * NY, first_d + tx + b * NX
                            if i < n and d < n_dims:
                                gradient[part, i, d] += acc[a, b]
                cuda.syncthreads()
            if step == 0:
                for a in range(M):
                    for b in range(M):
                        if first_j + tx + b * NX >= n:
                            acc[a, b] = 0
                        d2, distance = acc[a, b], sqrt(acc[a, b])
                        total[a] += distance
                        weights[ty + a * NY, tx + b * NX] = distance / d2 if d2 > 0 else d2
    for a in range(M):
        if first_i + ty + a * NY < n:
            sums[part, first_i + ty + a * NY, tx] = total[a]


def launch(x, sums, gradient, stream=0):
    """Run `distances` over all rows: arrays of Numba, or what has ``__cuda_array_interface__``."""
    blocks = -(-x.shape[0] // ROWS), sums.shape[0]
    distances[blocks, (NX, NY), stream](x, sums, gradient)


def mean_distance(x, stream):
    """Mean over pairs i < j of |x_i - x_j|, eq (3), and its gradient by x.

    Parameters
    ----------
    x : torch.Tensor, (N, D), float32 or float64
        On the current CUDA device. At least two rows; rows that coincide have distance 0 and
        gradient 0.
    stream : int
        The handle of the CUDA stream to work on, torch's current one.

    Returns
    -------
    loss : torch.Tensor, ()
        float64.
    gradient : torch.Tensor, (N, D)
    """
    x = x.detach().contiguous()
    n, n_dims = x.shape
    n_parts = -(-N_BLOCKS // -(-n // ROWS))  # by n alone: the same sums on every device
    gradient = x.new_zeros(n_parts, n, n_dims)
    sums = x.new_zeros(n_parts, n, NX).double()
    arrays = [cuda.as_cuda_array(tensor, sync=False) for tensor in (x, sums, gradient)]
    launch(*arrays, cuda.external_stream(stream))
    n_pairs = n * (n - 1) / 2
    return sums.sum() / 2 / n_pairs, gradient.sum(0).div_(n_pairs)

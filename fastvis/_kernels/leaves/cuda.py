"""Dead leaves on a GPU: a thread for each pixel, which looks for the first leaf it lies in.

A block of threads has a tile of NX x NY pixels. It takes the image's leaves from front to back, as
many at a time as it has threads. Of these each thread marks one, by a bit in shared memory, if it
may meet the tile; then each goes through those marked, until its pixel lies in one. The block is
done when all its pixels are.

Labels are those of `cpu.paint` to the last pixel: that x lies between the ends of a run, rounded
inwards, is that it lies between the ends. Ends are computed by the same expressions, and by
`times` wherever a product is added to something: of ``a * b + c`` the compiler makes one operation
with one rounding (no option of Numba forbids it), and what lies on a border would change sides.
So the bodies of cpu.py are written again here.

Imported only for tensors on a GPU, and by the tests, which run it in Numba's simulator.
"""

from contextlib import suppress
from dataclasses import replace
from math import floor, sqrt
from operator import mul

from ..jit import cuda_jit
from .reference import ELLIPSE, POLYGON

with suppress(ImportError):  # cuda_jit says what is missing
    from numba import config, cuda, uint32
    from numba.cuda import libdevice

    times = mul if config.ENABLE_CUDASIM else libdevice.dmul_rn  # rounds its product

NX, NY = 32, 8  # a warp has a row
CHUNK = NX * NY
N_WORDS = -(-CHUNK // 32)
THREADS = 256  # of a block, where each pixel is by itself
FIELDS = ("offsets", "kinds", "centers", "rows", "columns", "conic", "part", "corners", "atlas")


@cuda_jit
def in_polygon(y, x, center, corners, begin, end):
    """Whether pixel x, in a row y below the center, lies in the polygon corners[begin:end]."""
    inside = False
    for c in range(begin, end):
        y0, x0 = corners[c, 0], corners[c, 1]
        after = c + 1 if c + 1 < end else begin
        y1, x1 = corners[after, 0], corners[after, 1]
        if (y0 <= y) != (y1 <= y):
            crossing = x0 + times(y - y0, (x1 - x0) / (y1 - y0))
            if center + crossing <= x:
                inside = not inside
    return inside


@cuda_jit
def lies_in(row, x, k, kinds, centers, rows, conic, part, corners, atlas):
    """Whether pixel (row, x) lies in leaf k, as `cpu.leaf_runs`."""
    if row < rows[k, 0] or row > rows[k, 1]:
        return False
    y, center = row - centers[k, 0], centers[k, 1]
    if kinds[k] == ELLIPSE:
        d = conic[k, 2] - times(times(conic[k, 1], y), y)
        if d < 0:
            return False
        middle, half = center - times(conic[k, 0], y), sqrt(d)
        return middle - half <= x and x <= middle + half
    if kinds[k] == POLYGON:
        return in_polygon(y, x, center, corners, part[k, 0], part[k, 1])
    i = row - (int(floor(centers[k, 0] + 0.5)) - atlas.shape[1] // 2)
    j = x - (int(floor(center + 0.5)) - atlas.shape[2] // 2)
    if i < 0 or i >= atlas.shape[1] or j < 0 or j >= atlas.shape[2]:
        return False
    return atlas[part[k, 0], i, j]


@cuda_jit
def put_color(colors, k, images, i, row, x):
    """Color k for pixel (row, x) of image i, if there are images."""
    if images.shape[1] > 0:
        for c in range(3):
            images[i, row, x, c] = colors[k, c]


@cuda_jit
def paint(
    blank, at, offsets, kinds, centers, rows, columns, conic, part, corners, atlas,
    names, colors, background, labels, images,
):  # fmt: skip
    """Label and color images with leaves in order from front to back, as `cpu.paint`."""
    height, width = labels.shape[1:]
    n_down, n_across = (height + NY - 1) // NY, (width + NX - 1) // NX
    j, tile = cuda.blockIdx.x // (n_down * n_across), cuda.blockIdx.x % (n_down * n_across)
    i, top, left = at[j], tile // n_across * NY, tile % n_across * NX
    row, x = top + cuda.threadIdx.y, left + cuda.threadIdx.x
    thread = cuda.threadIdx.y * NX + cuda.threadIdx.x
    near = cuda.shared.array(N_WORDS, uint32)  # bit b of word w: leaf 32 w + b of the chunk
    is_open = row < height and x < width and (blank or labels[i, row, x] == 0)
    for first in range(offsets[j], offsets[j + 1], CHUNK):
        if cuda.syncthreads_or(1 if is_open else 0) == 0:
            break
        if thread < N_WORDS:
            near[thread] = 0
        cuda.syncthreads()
        k = first + thread
        if k < offsets[j + 1] and rows[k, 0] < top + NY and rows[k, 1] >= top:
            # one column to spare: columns are rounded otherwise than the ends of runs
            if columns[k, 0] <= left + NX and columns[k, 1] >= left - 1:
                cuda.atomic.or_(near, thread // 32, uint32(1 << thread % 32))
        cuda.syncthreads()
        for word in range(N_WORDS):
            bits = near[word]
            while is_open and bits != 0:
                k = first + 32 * word + cuda.ffs(bits) - 1
                bits &= bits - uint32(1)  # without the lowest
                if lies_in(row, x, k, kinds, centers, rows, conic, part, corners, atlas):
                    is_open = False
                    labels[i, row, x] = names[k]
                    put_color(colors, k, images, i, row, x)
    if is_open and blank:
        labels[i, row, x] = 0
        put_color(background, i, images, i, row, x)


@cuda_jit
def shapes(kinds, centers, rows, conic, part, corners, atlas, out):
    """Whole shapes (m, height, width); all of them is written."""
    m, height, width = out.shape
    t = cuda.grid(1)
    if t < m * height * width:
        k, row, x = t // (height * width), t // width % height, t % width
        out[k, row, x] = lies_in(row, x, k, kinds, centers, rows, conic, part, corners, atlas)


# Launchers: arrays of Numba, or what has __cuda_array_interface__; in `leaves`, too


def launch_paint(blank, at, leaves, names, colors, background, labels, images, stream=0):
    blocks = at.shape[0] * -(-labels.shape[1] // NY) * -(-labels.shape[2] // NX)
    table = [getattr(leaves, name) for name in FIELDS]
    arrays = (names, colors, background, labels, images)
    if blocks:
        paint[blocks, (NX, NY), stream](blank, at, *table, *arrays)


def launch_shapes(leaves, out, stream=0):
    m, height, width = out.shape
    table = [getattr(leaves, name) for name in FIELDS if name not in ("offsets", "columns")]
    if m:
        shapes[-(-m * height * width // THREADS), THREADS, stream](*table, out)


# Tensors on the current CUDA device, which `leaves` holds, too: a table of table.py, moved there.
# stream is the handle of the CUDA stream to work on, torch's current one. The rest is as in
# __init__.py.


def cover(
    leaves,
    names,
    labels,
    blank=False,
    *,
    stream,
    at=None,
    colors=None,
    background=None,
    images=None,
):
    n = labels.shape[0]
    at = leaves.offsets.new_ones(n).cumsum(0) - 1 if at is None else at
    if images is None:
        colors = background = leaves.atlas.new_empty(0, 3)
        images = leaves.atlas.new_empty(n, 0, 0, 3)
    at, *arrays = _arrays(at, names, colors, background, labels, images)
    launch_paint(blank, at, _table(leaves), *arrays, cuda.external_stream(stream))


def whole_shapes(leaves, height, width, *, stream):
    out = leaves.atlas.new_empty(leaves.kinds.shape[0], height, width)
    launch_shapes(_table(leaves), *_arrays(out), cuda.external_stream(stream))
    return out


def _arrays(*tensors):
    return [cuda.as_cuda_array(tensor, sync=False) for tensor in tensors]


def _table(leaves):
    return replace(leaves, **dict(zip(FIELDS, _arrays(*(getattr(leaves, f) for f in FIELDS)))))

"""Dead leaves: which of many overlapping shapes is seen at each pixel.

::

    reference.py    the painter's algorithm
    table.py        leaves as the kernels take them: ellipses, polygons, masks
    draws.py        random numbers, a stream for each image
    cpu.py          labels and colors from front to back; whole shapes
    areas.py        colors by the area of each leaf in each pixel
    cuda.py         labels, colors and whole shapes of tensors on a GPU
"""

import numpy as np

from ..threads import run_ranges
from . import areas, cpu, draws
from .table import either, ellipses, masks, polygons

BAND = 128  # rows of a piece of a large image; of small ones several
PIXELS = 1 << 16  # of a piece, about
NO_COLORS, NO_CROPS = np.empty((0, 3), np.uint8), np.empty((0, 3), np.int64)
NO_PATCHES = np.empty((0, 1, 1, 3), np.uint8)

__all__ = [
    "blend",
    "canvas",
    "cover",
    "either",
    "ellipses",
    "layers",
    "masks",
    "polygons",
    "uniforms",
    "whole_shapes",
]


def cover(
    leaves,
    names,
    labels,
    blank=False,
    *,
    at=None,
    images=None,
    background=None,
    colors=NO_COLORS,
    patches=NO_PATCHES,
    crops=NO_CROPS,
):
    """Label, in place, the pixels of labels (n, H, W) that are 0 by the first leaf they lie in.

    Parameters
    ----------
    leaves : Leaves
    names : ndarray, (m,)
        The leaves' labels, of the labels' dtype.
    blank : bool
        No pixel has a label yet, whatever is in labels and images.
    at : ndarray of int64, optional
        The images that the leaves fall on; all of them by default.
    images : ndarray of uint8, (n, H, W, 3), optional
        Colored in place, where pixels are labeled.
    background : ndarray of uint8, (n, 3)
        Of what stays open in blank images.
    colors : ndarray of uint8, (m, 3)
    patches, crops : ndarray of uint8, (p, h, w, 3), and of int64, (m, 3)
        In place of colors: leaf k shows at (i, j) the patch crops[k, 0] at (i + crops[k, 1],
        j + crops[k, 2]), periodically.
    """
    n, height, width = labels.shape
    at = np.arange(n) if at is None else at
    lines = np.empty((n, 0, 0), np.uint8)
    if images is not None:
        lines = images.reshape(n, height, 3 * width)
    run_ranges(
        cpu.paint,
        _n_bands(len(at), height),
        BAND,
        blank,
        at,
        leaves.offsets,
        names,
        *_parts(leaves),
        colors,
        patches,
        crops,
        NO_COLORS if background is None else background,
        labels,
        lines,
        grain=_band_grain(width),
    )


def blend(leaves, veil, sums, at, *, colors=NO_COLORS, patches=NO_PATCHES, crops=NO_CROPS):
    """Add, in place, leaves by their areas behind those that are there; as `cover`.

    veil (n, H, W) and sums (n, H, W, 3), float32: how much of each pixel is open, 1 at first, and
    the sum of colors, 0 at first.
    """
    kinds, centers, rows, *others = _parts(leaves)
    table = (leaves.offsets, kinds, centers, rows, leaves.columns, *others)
    _, height, width = veil.shape
    arrays = (*table, colors, patches, crops, veil, sums)
    run_ranges(areas.blend, _n_bands(len(at), height), BAND, at, *arrays, grain=_band_grain(width))


def canvas(n, height, width):
    """Labels (n, H, W), int32, and images (n, H, W, 3), uint8, not yet filled.

    In one piece of memory: from 4 MiB on NumPy asks for huge pages, without which the first touch
    of a megapixel takes as long as all leaves.
    """
    n_pixels = n * height * width
    memory = np.empty(7 * n_pixels, np.uint8)
    labels, images = memory[: 4 * n_pixels].view(np.int32), memory[4 * n_pixels :]
    return labels.reshape(n, height, width), images.reshape(n, height, width, 3)


def layers(leaves, order, colors, background, height, width):
    """Images, labels and whole shapes of scenes of few leaves.

    Object k of scene i is leaf offsets[i] + k; order (n, K): the objects from back to front; colors
    (n, K, 3) and background (n, 3), uint8. Labels are uint8 if there are no more objects than that.
    """
    n, most = order.shape
    images = np.empty((n, height, width, 3), np.uint8)
    labels = np.empty((n, height, width), np.uint8 if most <= 255 else np.int32)
    shapes = np.empty((n, most, height, width), bool)
    run_ranges(
        cpu.layers,
        n,
        order,
        leaves.offsets,
        *_parts(leaves),
        colors,
        background,
        labels,
        images.reshape(n, height, 3 * width),
        shapes,
        grain=max(1, PIXELS // (height * width)),
    )
    return images, labels, shapes


def whole_shapes(leaves, height, width):
    """Whole shapes (m, H, W), bool."""
    out = np.zeros((len(leaves.kinds), height, width), bool)
    run_ranges(cpu.shapes, len(out), *_parts(leaves), out, grain=max(1, PIXELS // (height * width)))
    return out


def uniforms(seeds, first, n):
    """Numbers first to first + n of the stream of each seed, (len(seeds), n), in [0, 1)."""
    out = np.empty((len(seeds), n))
    run_ranges(draws.uniforms, len(seeds), seeds, first, out, grain=max(1, PIXELS // max(n, 1)))
    return out


def _parts(leaves):
    """The table, as the kernels take it."""
    names = ("kinds", "centers", "rows", "conic", "part", "corners", "atlas")
    return [getattr(leaves, name) for name in names]


def _n_bands(n, height):
    return n * -(-height // BAND)


def _band_grain(width):
    return max(1, PIXELS // (BAND * width))

"""Dead leaves: which of many overlapping shapes is seen at each pixel.

::

    reference.py    the painter's algorithm
    table.py        leaves as the kernels take them: ellipses, polygons, masks
    draws.py        random numbers, a stream for each image
    cpu.py          labels from front to back, colors, whole shapes
"""

import numpy as np

from ..threads import run_ranges
from . import cpu, draws
from .table import either, ellipses, masks, polygons

BAND = 16  # rows of a piece of a large image; of small ones several
PIXELS = 1 << 16  # of a piece, about

__all__ = ["cover", "either", "ellipses", "masks", "polygons", "shade", "uniforms", "whole_shapes"]


def cover(leaves, names, labels, blank=False):
    """Label, in place, the pixels of labels (n, H, W) that are 0 by the first leaf they lie in.

    names (m,): the leaves' labels, of the labels' dtype. blank: all labels are 0.
    """
    n, height, width = labels.shape
    run_ranges(
        cpu.paint,
        n * -(-height // BAND),
        BAND,
        blank,
        leaves.offsets,
        names,
        leaves.kinds,
        leaves.centers,
        leaves.rows,
        leaves.conic,
        leaves.part,
        leaves.corners,
        leaves.atlas,
        labels,
        grain=max(1, PIXELS // (BAND * width)),
    )


def shade(labels, colors, first, background):
    """Images (n, H, W, 3), uint8: label l > 0 of image i has colors[first[i] + l - 1]."""
    n, height, width = labels.shape
    image = np.empty((n, height, width, 3), np.uint8)
    arrays = (first, colors, background, labels, image)
    run_ranges(cpu.shade, n * height, *arrays, grain=max(1, 2 * PIXELS // width))
    return image


def whole_shapes(leaves, height, width):
    """Whole shapes (m, H, W), bool."""
    out = np.zeros((len(leaves.kinds), height, width), bool)
    arrays = (leaves.kinds, leaves.centers, leaves.rows, leaves.conic, leaves.part)
    grain = max(1, PIXELS // (height * width))
    run_ranges(cpu.shapes, len(out), *arrays, leaves.corners, leaves.atlas, out, grain=grain)
    return out


def uniforms(seeds, first, n):
    """Numbers first to first + n of the stream of each seed, (len(seeds), n), in [0, 1)."""
    out = np.empty((len(seeds), n))
    run_ranges(draws.uniforms, len(seeds), seeds, first, out, grain=max(1, PIXELS // max(n, 1)))
    return out

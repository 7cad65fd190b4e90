"""Dead leaves from front to back, row by row: each pixel is written once.

A row keeps a list of the runs of pixels that are still open. A leaf meets a row in one run, or
several; what of these is open is labeled and taken off the list, and the row is done when the list
is empty.
"""

import math

import numpy as np

from ..jit import njit
from .reference import ELLIPSE, POLYGON

MAX_CROSSINGS = 256  # of a row with a polygon


@njit
def polygon_crossings(y, corners, begin, end, crossings):
    """Where row y crosses the sides of a polygon, corners[begin:end], sorted; how many."""
    n = 0
    for c in range(begin, end):
        y0, x0 = corners[c, 0], corners[c, 1]
        after = c + 1 if c + 1 < end else begin
        y1, x1 = corners[after, 0], corners[after, 1]
        if (y0 <= y) == (y1 <= y) or n == MAX_CROSSINGS:
            continue
        x = x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
        k = n
        while k > 0 and crossings[k - 1] > x:
            crossings[k] = crossings[k - 1]
            k -= 1
        crossings[k] = x
        n += 1
    return n


@njit
def mask_runs(i, left, width, atlas, index, runs):
    """Runs of a mask's row i whose first pixel lies in column left; how many."""
    n, j, stop = 0, max(-left, 0), min(atlas.shape[2], width - left)
    while j < stop:
        if atlas[index, i, j]:
            runs[n, 0] = left + j
            while j < stop and atlas[index, i, j]:
                j += 1
            runs[n, 1] = left + j - 1
            n += 1
        j += 1
    return n


@njit
def ellipse_run(y, center, width, shear, tilt, square):
    """Pixels [first, last] where a row meets |x + shear y|^2 <= square - tilt y^2."""
    d = square - tilt * y * y
    if d < 0:
        return 0, -1
    middle, half = center - shear * y, math.sqrt(d)
    return max(math.ceil(middle - half), 0), min(math.floor(middle + half), width - 1)


@njit
def row_runs(row, width, k, kinds, centers, conic, part, corners, atlas, scratch, runs):
    """The runs of pixels [first, last] of leaf k in a row, in ``runs``; how many."""
    y, cx, n = row - centers[k, 0], centers[k, 1], 0
    if kinds[k] == ELLIPSE:
        first, last = ellipse_run(y, cx, width, conic[k, 0], conic[k, 1], conic[k, 2])
        runs[0, 0], runs[0, 1] = first, last
        n = 1 if first <= last else 0
    elif kinds[k] == POLYGON:
        for c in range(0, polygon_crossings(y, corners, part[k, 0], part[k, 1], scratch) - 1, 2):
            runs[n, 0] = max(math.ceil(cx + scratch[c]), 0)
            runs[n, 1] = min(math.ceil(cx + scratch[c + 1]) - 1, width - 1)
            n += runs[n, 0] <= runs[n, 1]
    else:
        i = row - (math.floor(centers[k, 0] + 0.5) - atlas.shape[1] // 2)
        left = math.floor(cx + 0.5) - atlas.shape[2] // 2
        if 0 <= i < atlas.shape[1]:
            n = mask_runs(i, left, width, atlas, part[k, 0], runs)
    return n


@njit
def cover(first, last, label, labels, low, high, n_open):
    """Label what is open of [first, last] in a row; how many runs (low, high) remain."""
    t = n_open
    while t > 0:
        t -= 1
        a, b = low[t], high[t]
        if b < first or a > last:
            continue
        for x in range(max(a, first), min(b, last) + 1):
            labels[x] = label
        if a < first and last < b:
            high[t] = first - 1
            low[n_open], high[n_open] = last + 1, b
            n_open += 1
        elif a < first:
            high[t] = first - 1
        elif last < b:
            low[t] = last + 1
        else:
            n_open -= 1
            low[t], high[t] = low[n_open], high[n_open]
    return n_open


@njit
def open_runs(labels, low, high):
    """The runs (low, high) of pixels without a label in a row; how many."""
    n, x, width = 0, 0, len(labels)
    while x < width:
        if labels[x] == 0:
            low[n] = x
            while x < width and labels[x] == 0:
                x += 1
            high[n] = x - 1
            n += 1
        x += 1
    return n


@njit
def paint(
    start, stop, band, blank, offsets, names, kinds, centers, rows, conic, part, corners, atlas,
    labels,
):  # fmt: skip
    """Label rows of images with leaves in order from front to back.

    Bands of ``band`` rows, [start, stop) of all images'. Leaves offsets[i] to offsets[i + 1] are
    image i's; leaf k has the label names[k] and lies in rows[k, 0] to rows[k, 1].
    An ellipse has |x + conic[k, 0] y|^2 <= conic[k, 2] - conic[k, 1] y^2 about its center; others
    have corners part[k, 0] to part[k, 1], or the mask part[k, 0] of the atlas.
    labels (n, height, width): 0 where pixels are open; blank: they all are.
    """
    n, height, width = labels.shape
    n_bands = -(-height // band)
    scratch, runs = np.empty(MAX_CROSSINGS), np.empty((max(MAX_CROSSINGS, width), 2), np.int64)
    low, high = np.empty(width // 2 + 1, np.int64), np.empty(width // 2 + 1, np.int64)
    near = np.empty(np.diff(offsets).max(), np.int64)
    for t in range(start, stop):
        i, top = t // n_bands, t % n_bands * band
        bottom, n_near = min(top + band, height), 0
        for k in range(offsets[i], offsets[i + 1]):
            if rows[k, 0] < bottom and rows[k, 1] >= top:
                near[n_near] = k
                n_near += 1
        if n_near == 0:
            continue
        for row in range(top, bottom):
            line = labels[i, row]
            if blank:
                low[0], high[0], n_open = 0, width - 1, 1
            else:
                n_open = open_runs(line, low, high)
            for c in range(n_near):
                k = near[c]
                if rows[k, 0] > row or rows[k, 1] < row:
                    continue
                if n_open == 0:
                    break
                label = names[k]
                if kinds[k] == ELLIPSE:  # here, because the other call passes many arrays
                    first, last = ellipse_run(
                        row - centers[k, 0], centers[k, 1], width,
                        conic[k, 0], conic[k, 1], conic[k, 2],
                    )  # fmt: skip
                    if first <= last:
                        n_open = cover(first, last, label, line, low, high, n_open)
                    continue
                m = row_runs(
                    row, width, k, kinds, centers, conic, part, corners, atlas, scratch, runs
                )
                for s in range(m):
                    n_open = cover(runs[s, 0], runs[s, 1], label, line, low, high, n_open)


@njit
def shade(start, stop, first, colors, background, labels, image):
    """Colors (rows of the labels, counted over all images, [start, stop)).

    Label l > 0 of image i is leaf first[i] + l - 1 of colors (m, 3); background (n, 3); image (n,
    height, width, 3), uint8.
    """
    height, width = labels.shape[1:]
    for t in range(start, stop):
        i, row = t // height, t % height
        x = 0
        while x < width:  # run by run: the inner loop has the color in registers
            label = labels[i, row, x]
            if label > 0:
                k = first[i] + label - 1
                red, green, blue = colors[k, 0], colors[k, 1], colors[k, 2]
            else:
                red, green, blue = background[i, 0], background[i, 1], background[i, 2]
            begin = x
            while x < width and labels[i, row, x] == label:
                x += 1
            for p in range(begin, x):
                image[i, row, p, 0] = red
                image[i, row, p, 1] = green
                image[i, row, p, 2] = blue


@njit
def shapes(start, stop, kinds, centers, rows, conic, part, corners, atlas, out):
    """Whole shapes of leaves [start, stop), in out (m, height, width), zero at first."""
    height, width = out.shape[1:]
    scratch, runs = np.empty(MAX_CROSSINGS), np.empty((max(MAX_CROSSINGS, width), 2), np.int64)
    for k in range(start, stop):
        for row in range(max(rows[k, 0], 0), min(rows[k, 1] + 1, height)):
            m = row_runs(
                row, width, k, kinds, centers, conic, part, corners, atlas, scratch, runs
            )
            for s in range(m):
                for x in range(runs[s, 0], runs[s, 1] + 1):
                    out[k, row, x] = True

"""Dead leaves, band of rows by band: each pixel is written once.

A leaf meets a row in runs of pixels: one, or several. From front to back, a row keeps a list of the
gaps that are still open; a leaf is seen where its runs meet gaps, which it closes, and a band is
done when it has no gaps.
"""

import math

import numpy as np

from ..jit import njit
from .reference import ELLIPSE, POLYGON

MAX_CROSSINGS = 256  # of a row with a polygon

# The runs of a leaf


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
def ellipse_run(y, center, width, shear, tilt, square):
    """Pixels [first, last] where a row meets |x + shear y|^2 <= square - tilt y^2."""
    d = square - tilt * y * y
    if d < 0:
        return 0, -1
    middle, half = center - shear * y, math.sqrt(d)
    return max(math.ceil(middle - half), 0), min(math.floor(middle + half), width - 1)


@njit
def mask_runs(row, i, left, width, atlas, index, runs, n):
    """Append the runs of a mask's row i whose first pixel lies in column left; how many now."""
    j, stop = max(-left, 0), min(atlas.shape[2], width - left)
    while j < stop:
        if atlas[index, i, j]:
            runs[n, 0], runs[n, 1] = row, left + j
            while j < stop and atlas[index, i, j]:
                j += 1
            runs[n, 2] = left + j - 1
            n += 1
        j += 1
    return n


@njit
def leaf_runs(
    k, top, bottom, width, kinds, centers, rows, conic, part, corners, atlas, scratch, runs
):
    """The runs of pixels (row, first, last) of leaf k in rows [top, bottom); how many."""
    cy, cx, n = centers[k, 0], centers[k, 1], 0
    top, bottom = max(rows[k, 0], top), min(rows[k, 1] + 1, bottom)
    if kinds[k] == ELLIPSE:
        shear, tilt, square = conic[k, 0], conic[k, 1], conic[k, 2]
        for row in range(top, bottom):
            runs[n, 0] = row
            runs[n, 1], runs[n, 2] = ellipse_run(row - cy, cx, width, shear, tilt, square)
            n += runs[n, 1] <= runs[n, 2]
    elif kinds[k] == POLYGON:
        begin, end = part[k, 0], part[k, 1]
        for row in range(top, bottom):
            for c in range(0, polygon_crossings(row - cy, corners, begin, end, scratch) - 1, 2):
                runs[n, 0] = row
                runs[n, 1] = max(math.ceil(cx + scratch[c]), 0)
                runs[n, 2] = min(math.ceil(cx + scratch[c + 1]) - 1, width - 1)
                n += runs[n, 1] <= runs[n, 2]
    else:
        first = math.floor(cy + 0.5) - atlas.shape[1] // 2
        left = math.floor(cx + 0.5) - atlas.shape[2] // 2
        for row in range(top, bottom):
            n = mask_runs(row, row - first, left, width, atlas, part[k, 0], runs, n)
    return n


@njit
def most_runs(height, width):
    """How many runs a leaf has at most in so many rows, and one more."""
    return height * min(max(MAX_CROSSINGS, width) // 2 + 1, width) + 1


# What is drawn in them


@njit
def put(runs, n, value, plane):
    """A value in runs of a plane (H, W)."""
    for s in range(n):
        plane[runs[s, 0], runs[s, 1] : runs[s, 2] + 1] = value


@njit
def put_color(runs, n, red, green, blue, pattern, image):
    """A color in runs of an image (H, 3 W)."""
    longest = 0
    for s in range(n):
        longest = max(longest, runs[s, 2] + 1 - runs[s, 1])
    for x in range(longest):
        pattern[3 * x], pattern[3 * x + 1], pattern[3 * x + 2] = red, green, blue
    for s in range(n):
        row, begin = runs[s, 0], np.uintp(3 * runs[s, 1])
        for x in range(np.uintp(3 * (runs[s, 2] + 1 - runs[s, 1]))):  # unsigned: vectorized
            image[row, begin + x] = pattern[x]


@njit
def put_patch(runs, n, patches, crop, image):
    """Runs of an image (H, 3 W) as they are in a patch, crop = (patch, down, right) away."""
    height, width = patches.shape[1:3]
    for s in range(n):
        row = runs[s, 0]
        i, j = (row + crop[1]) % height, (runs[s, 1] + crop[2]) % width
        for x in range(runs[s, 1], runs[s, 2] + 1):
            for c in range(3):
                image[row, 3 * x + c] = patches[crop[0], i, j, c]
            j = j + 1 if j + 1 < width else 0


# From front to back


@njit
def close(row, first, last, gaps, r, n_gaps, seen, n):
    """Take [first, last] off the gaps of line r; append what was open to ``seen``; new counts."""
    t = n_gaps
    while t > 0:
        t -= 1
        a, b = gaps[r, t, 0], gaps[r, t, 1]
        if b < first or a > last:
            continue
        seen[n, 0], seen[n, 1], seen[n, 2] = row, max(a, first), min(b, last)
        n += 1
        if a < first and last < b:
            gaps[r, t, 1] = first - 1
            gaps[r, n_gaps, 0], gaps[r, n_gaps, 1] = last + 1, b
            n_gaps += 1
        elif a < first:
            gaps[r, t, 1] = first - 1
        elif last < b:
            gaps[r, t, 0] = last + 1
        else:
            n_gaps -= 1
            gaps[r, t, 0], gaps[r, t, 1] = gaps[r, n_gaps, 0], gaps[r, n_gaps, 1]
    return n_gaps, n


@njit
def find_gaps(labels, row, gaps, r):
    """The runs of pixels without a label in a row, in line r of the gaps; how many."""
    n, x, width = 0, 0, labels.shape[1]
    while x < width:
        if labels[row, x] == 0:
            gaps[r, n, 0] = x
            while x < width and labels[row, x] == 0:
                x += 1
            gaps[r, n, 1] = x - 1
            n += 1
        x += 1
    return n


@njit
def paint(
    start, stop, band, blank, at, offsets, names, kinds, centers, rows, conic, part, corners, atlas,
    colors, patches, crops, background, labels, image,
):  # fmt: skip
    """Label and color rows of images with leaves in order from front to back.

    Bands of ``band`` rows, [start, stop) of all images'. Leaves offsets[i] to offsets[i + 1] are
    those of image at[i]; leaf k has the label names[k] and lies in rows[k, 0] to rows[k, 1].
    Its color is colors[k], or if there are patches (n_patches, h, w, 3), pixel (row, x) is that of
    patch crops[k, 0] at (row + crops[k, 1], x + crops[k, 2]), periodically.
    An ellipse has |x + conic[k, 0] y|^2 <= conic[k, 2] - conic[k, 1] y^2 about its center; others
    have corners part[k, 0] to part[k, 1], or the mask part[k, 0] of the atlas.
    labels (n, height, width): 0 where pixels are open; blank: they all are, whatever is there.
    image (n, height, 3 width), or (n, 0, 0) if none is wanted.
    """
    height, width = labels.shape[1:]
    n_bands, with_image = -(-height // band), image.shape[1] > 0
    scratch, n_gaps = np.empty(MAX_CROSSINGS), np.empty(band, np.int64)
    runs = np.empty((most_runs(band, width), 3), np.int64)
    seen = np.empty((band * width, 3), np.int64)
    gaps = np.empty((band, width // 2 + 1, 2), np.int64)
    pattern = np.empty(3 * width, np.uint8)
    for t in range(start, stop):
        j, first_row = t // n_bands, t % n_bands * band
        i, top, bottom = at[j], first_row, min(first_row + band, height)
        for r in range(bottom - top):
            if blank:
                gaps[r, 0, 0], gaps[r, 0, 1], n_gaps[r] = 0, width - 1, 1
            else:
                n_gaps[r] = find_gaps(labels[i], top + r, gaps, r)
        for k in range(offsets[j], offsets[j + 1]):
            while top < bottom and n_gaps[top - first_row] == 0:
                top += 1
            while top < bottom and n_gaps[bottom - 1 - first_row] == 0:
                bottom -= 1
            if top == bottom:
                break
            if rows[k, 0] >= bottom or rows[k, 1] < top:
                continue
            m, n = leaf_runs(
                k, top, bottom, width, kinds, centers, rows, conic, part, corners, atlas, scratch,
                runs,
            ), 0  # fmt: skip
            for s in range(m):
                r = runs[s, 0] - first_row
                n_gaps[r], n = close(
                    runs[s, 0], runs[s, 1], runs[s, 2], gaps, r, n_gaps[r], seen, n
                )
            put(seen, n, names[k], labels[i])
            if with_image and len(patches):
                put_patch(seen, n, patches, crops[k], image[i])
            elif with_image:
                put_color(seen, n, colors[k, 0], colors[k, 1], colors[k, 2], pattern, image[i])
        if blank:
            n = 0
            for row in range(top, bottom):
                for g in range(n_gaps[row - first_row]):
                    gap = gaps[row - first_row, g]
                    seen[n, 0], seen[n, 1], seen[n, 2] = row, gap[0], gap[1]
                    n += 1
            put(seen, n, 0, labels[i])
            if with_image:
                back = background[i]
                put_color(seen, n, back[0], back[1], back[2], pattern, image[i])


# From back to front, with all that is hidden


@njit
def layers(
    start, stop, order, offsets, kinds, centers, rows, conic, part, corners, atlas, colors,
    background, labels, image, shapes,
):  # fmt: skip
    """Labels, colors and whole shapes of scenes [start, stop).

    Leaf offsets[i] + k is object k of scene i, with the label k + 1 and the color colors[i, k];
    order (n, K): from back to front. labels (n, height, width), image (n, height, 3 width) and
    shapes (n, K, height, width) are all written.
    """
    height, width = labels.shape[1:]
    scratch, runs = np.empty(MAX_CROSSINGS), np.empty((most_runs(height, width), 3), np.int64)
    pattern = np.empty(3 * width, np.uint8)
    everywhere = np.zeros((height, 3), np.int64)
    everywhere[:, 0], everywhere[:, 2] = np.arange(height), width - 1
    for i in range(start, stop):
        labels[i] = 0
        shapes[i] = False
        back = background[i]
        put_color(everywhere, height, back[0], back[1], back[2], pattern, image[i])
        for t in range(offsets[i + 1] - offsets[i]):
            k = order[i, t]
            color = colors[i, k]
            n = leaf_runs(
                offsets[i] + k, 0, height, width, kinds, centers, rows, conic, part, corners, atlas,
                scratch, runs,
            )  # fmt: skip
            put(runs, n, True, shapes[i, k])
            put(runs, n, k + 1, labels[i])
            put_color(runs, n, color[0], color[1], color[2], pattern, image[i])


@njit
def shapes(start, stop, kinds, centers, rows, conic, part, corners, atlas, out):
    """Whole shapes of leaves [start, stop), in out (m, height, width), zero at first."""
    height, width = out.shape[1:]
    scratch, runs = np.empty(MAX_CROSSINGS), np.empty((most_runs(height, width), 3), np.int64)
    for k in range(start, stop):
        n = leaf_runs(
            k, 0, height, width, kinds, centers, rows, conic, part, corners, atlas, scratch, runs
        )
        put(runs, n, True, out[k])

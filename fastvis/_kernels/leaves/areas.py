"""Anti-aliased dead leaves: the area of each leaf in each pixel, from front to back.

Areas are exact, by closed forms: of a pixel and a disk, which an ellipse is after a linear map, and
of a pixel and a polygon whose sides do not cross. What several leaves share of a pixel is not
looked at: a leaf takes its share of what is still open, as if it were anywhere in the pixel.
"""

import math

import numpy as np

from ..jit import njit
from .reference import ELLIPSE, POLYGON

THIN = 2.0**-12  # what is less open than that is closed: a sixteenth of a gray level


@njit
def sector(y0, x0, y1, x1):
    """Signed area of the unit disk's sector from one direction to another."""
    return math.atan2(x0 * y1 - x1 * y0, x0 * x1 + y0 * y1) / 2


@njit
def disk_triangle(y0, x0, y1, x1):
    """Signed area that a triangle, with a corner in the center, shares with the unit disk."""
    dy, dx = y1 - y0, x1 - x0
    a, b, c = dx * dx + dy * dy, x0 * dx + y0 * dy, x0 * x0 + y0 * y0 - 1
    d = b * b - a * c
    if d <= 0:
        return sector(y0, x0, y1, x1)
    t0, t1 = (-b - math.sqrt(d)) / a, (-b + math.sqrt(d)) / a  # where the side crosses the circle
    if t0 >= 1 or t1 <= 0:
        return sector(y0, x0, y1, x1)
    t0, t1 = max(t0, 0), min(t1, 1)
    ya, xa, yb, xb = y0 + t0 * dy, x0 + t0 * dx, y0 + t1 * dy, x0 + t1 * dx
    area = (xa * yb - xb * ya) / 2
    if t0 > 0:
        area += sector(y0, x0, ya, xa)
    if t1 < 1:
        area += sector(yb, xb, y1, x1)
    return area


@njit
def ellipse_area(y, x, shear, tilt, square):
    """Area of a pixel, (y, x) from the center, in |x + shear y|^2 <= square - tilt y^2."""
    scale, stretch = 1 / math.sqrt(square), math.sqrt(tilt)
    v, u = scale * stretch * y, scale * (x + shear * y)  # in these it is the unit disk
    dv, right = scale * stretch / 2, scale / 2
    down = scale * shear / 2
    distance = math.sqrt(u * u + v * v)
    reach = math.sqrt((abs(down) + right) ** 2 + dv * dv)  # of the pixel's farthest corner
    if distance + reach <= 1:
        return 1.0
    if distance - reach >= 1:
        return 0.0
    area = disk_triangle(v - dv, u - down - right, v - dv, u - down + right)
    area += disk_triangle(v - dv, u - down + right, v + dv, u + down + right)
    area += disk_triangle(v + dv, u + down + right, v + dv, u + down - right)
    area += disk_triangle(v + dv, u + down - right, v - dv, u - down - right)
    return min(max(area / (4 * dv * right), 0.0), 1.0)


@njit
def strip_sides(y, corners, begin, end, sides):
    """A polygon's sides in rows y - 1/2 to y + 1/2: x at both ends, signed height; how many."""
    n = 0
    for c in range(begin, end):
        after = c + 1 if c + 1 < end else begin
        y0, x0, y1, x1 = corners[c, 0], corners[c, 1], corners[after, 0], corners[after, 1]
        low, high = max(min(y0, y1), y - 0.5), min(max(y0, y1), y + 0.5)
        if low >= high:
            continue
        slope = (x1 - x0) / (y1 - y0)
        sides[n, 0], sides[n, 1] = x0 + (low - y0) * slope, x0 + (high - y0) * slope
        sides[n, 2] = high - low if y1 > y0 else low - high
        n += 1
    return n


@njit
def mean_right(a, b):
    """Mean over a side, from x = a to b, of how far it is right of 0, at most 1."""
    low, high = min(a, b), max(a, b)
    if high <= 0:
        return 0.0
    if low >= 1:
        return 1.0
    if high - low < 1e-9:
        return min(max(low, 0.0), 1.0)
    z0, z1 = max(low, 0.0), min(high, 1.0)
    return ((z1 * z1 - z0 * z0) / 2 + high - max(min(high, 1.0), low)) / (high - low)


@njit
def polygon_area(x, sides, n):
    """Area of the pixel x, from the center, of a row in the polygon with n sides there."""
    area = 0.0
    for s in range(n):
        area += sides[s, 2] * mean_right(sides[s, 0] - x + 0.5, sides[s, 1] - x + 0.5)
    return min(abs(area), 1.0)


@njit
def mask_area(row, x, cy, cx, atlas, index):
    """1 if a pixel is in the mask, 0 if not."""
    i = row - (math.floor(cy + 0.5) - atlas.shape[1] // 2)
    j = x - (math.floor(cx + 0.5) - atlas.shape[2] // 2)
    inside = 0 <= i < atlas.shape[1] and 0 <= j < atlas.shape[2]
    return 1.0 if inside and atlas[index, i, j] else 0.0


@njit
def blend(
    start, stop, band, at, offsets, kinds, centers, rows, columns, conic, part, corners, atlas,
    colors, patches, crops, veil, sums,
):  # fmt: skip
    """Add the colors of leaves in order from front to back, weighted by their areas.

    Bands of ``band`` rows, [start, stop) of all images'; leaves, colors and crops as in
    `cpu.paint`. veil (n, height, width): how much of each pixel is open, 1 at first; sums (n,
    height, width, 3): the colors so far, 0 at first.
    """
    height, width = veil.shape[1:]
    n_bands, textured = -(-height // band), len(patches) > 0
    most = 0
    for k in range(len(part)):
        most = max(most, part[k, 1] - part[k, 0])
    sides = np.empty((most, 3))
    for t in range(start, stop):
        j, top = t // n_bands, t % n_bands * band
        i, bottom = at[j], min(t % n_bands * band + band, height)
        for k in range(offsets[j], offsets[j + 1]):
            cy, cx, begin, end = centers[k, 0], centers[k, 1], part[k, 0], part[k, 1]
            # one more: these are the pixels whose centers may lie in the leaf
            for row in range(max(rows[k, 0] - 1, top), min(rows[k, 1] + 2, bottom)):
                n = 0
                if kinds[k] == POLYGON:
                    n = strip_sides(row - cy, corners, begin, end, sides)
                for x in range(max(columns[k, 0] - 1, 0), min(columns[k, 1] + 2, width)):
                    is_open = veil[i, row, x]
                    if is_open == 0:
                        continue
                    if kinds[k] == ELLIPSE:
                        area = ellipse_area(row - cy, x - cx, conic[k, 0], conic[k, 1], conic[k, 2])
                    elif kinds[k] == POLYGON:
                        area = polygon_area(x - cx, sides, n)
                    else:
                        area = mask_area(row, x, cy, cx, atlas, begin)
                    weight = area * is_open
                    if is_open - weight < THIN:
                        weight = is_open
                    veil[i, row, x] = is_open - weight
                    for c in range(3):
                        if textured:
                            u = (row + crops[k, 1]) % patches.shape[1]
                            v = (x + crops[k, 2]) % patches.shape[2]
                            sums[i, row, x, c] += weight * patches[crops[k, 0], u, v, c]
                        else:
                            sums[i, row, x, c] += weight * colors[k, c]

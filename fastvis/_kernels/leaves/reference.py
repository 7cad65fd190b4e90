"""Dead leaves by the definition: the painter's algorithm, and the scopes of masks.

Pixel (i, j) has its center at row i, column j. A leaf is an ellipse, a polygon or a mask:

    ELLIPSE     half axes a along its angle and b across; closed
    POLYGON     corners; even-odd rule, open to the right and below
    MASK        an array, its middle pixel on the rounded center

Angles turn counter-clockwise as seen on the screen; rows run down.
"""

import numpy as np

ELLIPSE, POLYGON, MASK = range(3)


def ellipse(center, a, b, angle, height, width):
    """Whether pixels lie in an ellipse, (height, width)."""
    dy, dx = np.arange(height)[:, None] - center[0], np.arange(width) - center[1]
    u = dx * np.cos(angle) - dy * np.sin(angle)
    v = -dx * np.sin(angle) - dy * np.cos(angle)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


def polygon(center, corners, height, width):
    """Whether pixels lie in a polygon with corners (m, 2), (dy, dx) from the center."""
    y, x = np.arange(height)[:, None] - center[0], np.arange(width) - center[1]
    inside = np.zeros((height, width), bool)
    for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, axis=0)):
        crosses = (y0 <= y) != (y1 <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) <= x)
    return inside


def mask(center, atlas, height, width):
    """Whether pixels lie in a mask (h, w) of an atlas."""
    out = np.zeros((height, width), bool)
    top, left = np.floor(np.array(center) + 0.5).astype(int) - np.array(atlas.shape) // 2
    for i, j in np.argwhere(atlas):
        if 0 <= top + i < height and 0 <= left + j < width:
            out[top + i, left + j] = True
    return out


def paint(shapes):
    """Labels (H, W) of whole shapes (K, H, W) in order from front to back: k + 1, 0 for none."""
    labels = np.zeros(shapes.shape[1:], np.int32)
    for k in range(len(shapes))[::-1]:
        labels[shapes[k]] = k + 1
    return labels

"""The leaves kernels: labels of several images, whole shapes, colors."""

from functools import partial

import numpy as np

from fastvis._kernels import leaves
from fastvis._kernels.leaves import reference

SIZES = {  # images, height, width, leaves of each
    "one pixel": (1, 1, 1, 2),
    "a row": (3, 1, 40, 5),
    "odd": (3, 37, 23, 9),
    "medium": (4, 50, 61, 20),
    "large": (10, 300, 240, 20),
}
OPTIONS = {"ellipses": {"kind": 0}, "polygons": {"kind": 1}, "masks": {"kind": 2}}

TUNED = leaves
TUNINGS = {"one row": {"BAND": 1}, "small pieces": {"PIXELS": 64}}


def inputs(size, dtype, rng):
    n, height, width, m = size
    extent = np.array([height, width])
    return {
        "centers": (extent * rng.uniform(-0.2, 1.2, (n * m, 2))).astype(dtype),
        "radii": rng.uniform(0.3, 0.3 * max(height, width), (n * m, 2)).astype(dtype),
        "angles": rng.uniform(-9, 9, n * m).astype(dtype),
        "corners": (0.2 * max(height, width) * rng.normal(size=(n * m, 6, 2))).astype(dtype),
        "n_corners": rng.integers(3, 7, n * m),
        "index": rng.integers(0, 3, n * m),
        "atlas": rng.random((3, 7, 6)) < 0.6,
        "colors": rng.integers(0, 256, (n * m, 3), dtype=np.uint8),
        "background": rng.integers(0, 256, (n, 3), dtype=np.uint8),
        "blank": np.zeros((n, height, width), np.uint8),
    }


def _table(kind, arrays):
    """Leaves of all images, as the kernels take them."""
    n = len(arrays["blank"])
    m = len(arrays["centers"]) // n
    centers = arrays["centers"].astype(np.float64)
    if kind == 0:
        radii, angles = arrays["radii"].astype(np.float64), arrays["angles"].astype(np.float64)
        table = leaves.ellipses(centers, radii[:, 0], radii[:, 1], angles)
    elif kind == 1:
        corners = arrays["corners"].astype(np.float64)
        table = leaves.polygons(centers, corners, arrays["n_corners"])
    else:
        table = leaves.masks(centers, arrays["index"], arrays["atlas"])
    return table.at(slice(None), m * np.arange(n + 1))


def _cover(kind, arrays):
    """From front to back; whole shapes apart."""
    n, height, width = arrays["blank"].shape
    table = _table(kind, arrays)
    names = np.tile(np.arange(1, table.offsets[1] + 1, dtype=np.int32), n)
    labels, images = (
        np.full((n, height, width), 77, np.int32),
        np.empty((n, height, width, 3), "u1"),
    )
    palette = {name: arrays[name] for name in ("colors", "background")}
    leaves.cover(table, names, labels, blank=True, images=images, **palette)
    leaves.cover(table, names, labels)  # finds nothing that is open
    return {"labels": labels, "images": images, "shapes": leaves.whole_shapes(table, height, width)}


def _layers(kind, arrays):
    """From back to front."""
    n, height, width = arrays["blank"].shape
    table = _table(kind, arrays)
    m = table.offsets[1]
    order, colors = np.tile(np.arange(m)[::-1], (n, 1)), arrays["colors"].reshape(n, m, 3)
    layers = leaves.layers(table, order, colors, arrays["background"], height, width)
    images, labels, shapes = layers
    return {"labels": labels.astype(np.int32), "images": images, "shapes": np.concatenate(shapes)}


def _reference(kind, arrays):
    n, height, width = arrays["blank"].shape
    m = len(arrays["centers"]) // n
    shapes = np.stack([_shape(kind, arrays, k, height, width) for k in range(n * m)])
    labels = np.stack([reference.paint(s) for s in np.split(shapes, n)])
    images = np.empty((n, height, width, 3), np.uint8)
    for i in range(n):
        palette = np.concatenate([arrays["background"][i : i + 1], arrays["colors"][i * m :]])
        images[i] = palette[labels[i]]
    return {"labels": labels, "images": images, "shapes": shapes}


def _shape(kind, arrays, k, height, width):
    center = arrays["centers"][k].astype(np.float64)
    if kind == 0:
        a, b = arrays["radii"][k].astype(np.float64)
        return reference.ellipse(center, a, b, np.float64(arrays["angles"][k]), height, width)
    if kind == 1:
        corners = arrays["corners"][k, : arrays["n_corners"][k]].astype(np.float64)
        return reference.polygon(center, corners, height, width)
    return reference.mask(center, arrays["atlas"][arrays["index"][k]], height, width)


def make(run, arrays, kind):
    return lambda **arrays: run(kind, arrays)


IMPLEMENTATIONS = {
    "reference": partial(make, _reference),
    "cover": partial(make, _cover),
    "layers": partial(make, _layers),
}

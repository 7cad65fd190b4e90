"""What new scenes hold, told from their pixels: which class a shape is, by its outline and color.

A shape is compared with circles, squares and triangles at all places and sizes; its class is that
of the one with the highest intersection over union (IoU), and it is *clean* if that is 0.8 or more.
Nothing is learned, so this judges any model alike.
"""

import numpy as np
from econ_models import BACKGROUND, CLASSES, class_experts

from fastvis.scenes import MONet

CLEAN = 0.8  # IoU
RADII = np.linspace(0.12, 0.3, 13)  # of circles around objects, in sizes of the image
LEAST = 10  # pixels: of fewer, nobody could tell the class


def drawings(kind, radius, size, offsets):
    """An upright shape with its center off that of the image by offsets, (n * n, size * size)."""
    d = np.arange(size) - size // 2 - offsets[:, None]  # (offsets, pixels), in rows and in columns
    dy, dx = d[:, None, :, None], d[None, :, None, :]
    if kind == "circle":
        inside = dy**2 + dx**2 <= radius**2
    elif kind == "square":
        inside = np.maximum(abs(dy), abs(dx)) <= radius / np.sqrt(2)
    else:  # one corner up: the lower side is half a radius below the center
        inside = (dy <= radius / 2) & (abs(dx) <= (dy + radius) / np.sqrt(3))
    return inside.reshape(len(offsets) ** 2, -1).astype(np.float32)


def centered(shapes, counted):
    """Both, moved so that the centroid of each shape is in the middle; beyond the image is 0."""
    n, size, _ = shapes.shape
    mass = np.maximum(shapes.sum(axis=(1, 2)), 1)
    at = np.arange(size)
    y = ((shapes.sum(axis=2) @ at) / mass).round().astype(int)
    x = ((shapes.sum(axis=1) @ at) / mass).round().astype(int)
    half = size // 2
    padded = np.pad(np.stack([shapes, counted]), ((0, 0), (0, 0), (half, half), (half, half)))
    moved = [padded[:, i, y[i] : y[i] + size, x[i] : x[i] + size] for i in range(n)]
    return np.array(moved, np.float32).reshape(n, 2, -1).swapaxes(0, 1)


def classify(shapes, hidden=None):
    """Class of each shape, an index into CLASSES or -1 for an empty one, and its IoU.

    Parameters
    ----------
    shapes : ndarray of bool, (n, H, H)
    hidden : ndarray of bool, (n, H, H), optional
        Pixels that do not count: others may hide the shape there.
    """
    n, size, _ = shapes.shape
    counted = np.ones_like(shapes) if hidden is None else ~hidden
    shapes, counted = centered(shapes & counted, counted)
    # The centroid of what is seen is off the center by up to a radius.
    reach, n_offsets = (size / 16, 17) if hidden is None else (size / 4, 33)
    offsets = np.linspace(-reach, reach, n_offsets)
    area = shapes.sum(axis=1, keepdims=True)
    best = np.zeros((len(CLASSES), n))
    for c, kind in enumerate(CLASSES):
        for radius in RADII * size:
            drawn = drawings(kind, radius, size, offsets)
            shared = shapes @ drawn.T
            union = area + counted @ drawn.T - shared
            best[c] = np.maximum(best[c], (shared / np.maximum(union, 1)).max(axis=1))
    return np.where(area[:, 0] > 0, best.argmax(axis=0), -1), best.max(axis=0)


def nearest_color(shapes, appearances, colors):
    """Index of the color (K, 3) nearest to the mean of each shape, (n,)."""
    weights = shapes[..., None] / np.maximum(shapes.sum(axis=(1, 2)), 1)[:, None, None, None]
    means = (weights * appearances).sum(axis=(1, 2))
    return np.square(means[:, None] - colors).sum(axis=2).argmin(axis=1)


def class_colors(scenes):
    """The color of each class, (3, 3) in [0, 1], in scenes colored by class."""
    table = scenes.table
    return np.array([table["color"][table["shape"] == c][0] / 255 for c in range(len(CLASSES))])


def recombine(model, scenes, parts, *, like=None, n=250, n_objects=4, rng=0):
    """Ask for scenes of random classes, and see of which class each object is.

    ``like``: images for `ECON.sample`, or None for latents of the prior.

    Returns a dict: shares of objects of the class that was asked for, by the "shape", by the
    "color" where classes have one, by a "clean" shape; the median "iou"; and "confusion", counts of
    asked by seen classes. A model without experts cannot be asked: its parts come as they come.
    """
    rng = np.random.default_rng(rng)
    asked = rng.integers(len(CLASSES), size=(n, n_objects))
    if isinstance(model, MONet):
        shapes, appearances = _parts_of(model.sample(n, rng=rng), n_objects)
        asked = asked[:, : shapes.shape[1]]
    else:
        experts = class_experts(parts, scenes)
        layers = np.concatenate([np.full((n, 1), experts[BACKGROUND]), experts[asked]], axis=1)
        sampled = model.sample(layers, rng=rng, like=like)
        shapes, appearances = sampled.shapes[:, 1:], sampled.appearances[:, 1:]
    shapes, appearances = (x.reshape(-1, *x.shape[2:]) for x in (shapes, appearances))
    asked = asked.ravel()
    kinds, ious = classify(shapes)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (asked[kinds >= 0], kinds[kinds >= 0]), 1)
    scores = dict(
        shape=float((kinds == asked).mean()),
        clean=float(((kinds == asked) & (ious >= CLEAN)).mean()),
        iou=float(np.median(ious)),
        color=float("nan"),
        confusion=confusion.tolist(),
    )
    if scenes.metadata.get("colors") == "by_class":
        found = nearest_color(shapes, appearances, class_colors(scenes))
        scores["color"] = float(((found == asked) & (kinds >= 0)).mean())
    return scores


def _parts_of(sampled, n_objects):
    """Regions, of 0 and 1, and appearances of all steps but the largest, (n, T - 1, ...)."""
    n_steps = sampled.region.shape[1]
    regions = sampled.labels[:, None] == np.arange(n_steps)[:, None, None]
    background = regions.sum(axis=(2, 3)).argmax(axis=1)
    others = np.arange(n_steps) != background[:, None]
    shape = (len(regions), n_steps - 1)
    regions = regions[others].reshape(*shape, *regions.shape[2:])
    appearances = sampled.appearance[others].reshape(*shape, *sampled.appearance.shape[2:])
    return regions[:, :n_objects], appearances[:, :n_objects]


def coherent(regions):
    """Whether each scene is like those of the training: one clean object of each class, (n,).

    ``regions`` (n, 3, H, W), bool, are what is seen of the objects, of each a pixel at least. Where
    others are, an object may be hidden: there nothing counts. Objects of which next to nothing is
    seen are not asked for their class.
    """
    n, n_objects = regions.shape[:2]
    others = regions.any(axis=1, keepdims=True) & ~regions
    flat = (x.reshape(-1, *x.shape[2:]) for x in (regions, others))
    kinds, ious = (x.reshape(n, n_objects) for x in classify(*flat))
    told = regions.sum(axis=(2, 3)) >= LEAST
    clean = (~told | (ious >= CLEAN)).all(axis=1)
    kinds = np.where(told, kinds, -1 - np.arange(n_objects))
    different = np.array([len(set(row)) == n_objects for row in kinds])
    return clean & different & regions.any(axis=(2, 3)).all(axis=1)


def generate(model, scenes, parts, *, like=None, n=250, rng=0):
    """Share of new scenes that are like the training's, see `coherent`; of true ones as well."""
    rng = np.random.default_rng(rng)
    if isinstance(model, MONet):
        regions, _ = _parts_of(model.sample(n, rng=rng), len(CLASSES))
    else:
        experts = class_experts(parts, scenes)
        order = rng.permuted(np.tile(np.arange(len(CLASSES)), (n, 1)), axis=1)
        layers = np.concatenate([np.full((n, 1), experts[BACKGROUND]), experts[order]], axis=1)
        regions = model.sample(layers, rng=rng, like=like).regions[:, 1:]
    true = scenes.labels[:n, None] == np.arange(1, 4)[:, None, None]
    return dict(coherent=float(coherent(regions).mean()), true=float(coherent(true).mean()))

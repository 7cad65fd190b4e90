"""Sprites: the colored shapes of the ECON paper, with everything known about them."""

from dataclasses import replace

import numpy as np

from .._kernels import leaves as kernel
from .._random import check_rng, item_seeds
from .._validation import check_array, check_choice, check_float, check_int, check_size
from .scenes import Scenes

CORNERS = {"circle": 0, "square": 4, "triangle": 3}
LEAST = {"circle": 0.75, "square": 1.0, "triangle": 1.5}  # radii: a pixel in them for any turn
COLORS = {"circle": (255, 0, 0), "square": (0, 255, 0), "triangle": (0, 0, 255)}
DARK, LIGHT = 128, 128  # backgrounds are below, random colors of objects not
N_FIELDS = 9  # random numbers of an object: class, depth, radius, y, x, angle, three of the color
N_SCENE = 4  # of a scene: number of objects, background
MAX_DRAWS = 64  # of colors, until they differ enough


def sprites(
    n,
    *,
    size=64,
    shapes=("circle", "square", "triangle"),
    n_objects=None,
    colors="by_class",
    radius=None,
    rotated=False,
    frequencies=None,
    min_contrast=0,
    rng=None,
):
    """Scenes of circles, squares and triangles that hide each other.

    Every object lies wholly inside the image, at a random place and depth, before a background of
    a random dark color (0 to 127 in each channel).

    Parameters
    ----------
    n : int
        Number of scenes.
    size : int or (height, width)
        Of the images, pixels.
    shapes : sequence of {"circle", "square", "triangle"}
        The classes.
    n_objects : int, (int, int) or None
        Objects of random classes in each scene, or a range to draw their number from. None: one of
        each class, as in the paper.
    colors : {"by_class", "random"}
        Red, green and blue for circle, square and triangle, or any light color (128 to 255 in each
        channel).
    radius : (float, float), optional
        Range of the circle around an object, pixels; by default 0.14 to 0.22 of the shorter side.
        At least 0.75 for circles, 1 for squares and 1.5 for triangles: smaller ones may lie between
        pixels.
    rotated : bool
        Turn each object by a random angle; upright otherwise.
    frequencies : sequence of float, optional
        How often each class is drawn, relative to each other; equally often by default. Only where
        classes are drawn: with ``n_objects``.
    min_contrast : int
        Colors are drawn again until each object's differs by so much, in a channel, from the
        background's and from all other objects'; 1 leaves no invisible objects. Only with random
        ``colors``.
    rng : None, int or numpy.random.Generator
        Scene i is the same for any n and any number of threads. A Generator goes on where it was:
        two calls for 50 scenes are one for 100, which `ScenesWriter` can write to one file.

    Returns
    -------
    Scenes
        uint8 images; ``order`` from back to front; ``table`` has for each object "shape" (index
        into ``shapes``), "color", "y", "x", "radius" and "angle" (radians, counter-clockwise).

    Raises
    ------
    ValueError
        A size that cannot hold the largest radius, or too small for objects of a pixel, no shapes,
        a number of objects below 1.

    Notes
    -----
    The paper gives neither the image's size nor the objects': ours are a choice.

    References
    ----------
    ECON, appendix C.1.

    Examples
    --------
    >>> from fastvis.scenes import sprites
    >>> scenes = sprites(4, rng=0)
    >>> scenes.images.shape, scenes.shapes.shape, scenes.order.shape
    ((4, 64, 64, 3), (4, 3, 64, 64), (4, 3))
    """
    n = check_int(n, "n", minimum=1)
    height, width = check_size(size)
    shapes = _check_shapes(shapes)
    low, high = _check_radius(radius, height, width, max(LEAST[shape] for shape in shapes))
    fewest, most = _check_n_objects(n_objects, len(shapes))
    weights = _check_frequencies(frequencies, n_objects, len(shapes))
    check_choice(colors, "colors", ("by_class", "random"))
    min_contrast = check_int(min_contrast, "min_contrast", minimum=0, maximum=255)
    if min_contrast and colors == "by_class":
        raise ValueError(
            f"min_contrast must come with colors='random', as those of classes are not drawn; got "
            f"{min_contrast}."
        )

    seeds = item_seeds(check_rng(rng), n)
    u = kernel.uniforms(seeds, 0, N_SCENE + most * N_FIELDS)
    counts = fewest + np.floor(u[:, 0] * (most - fewest + 1)).astype(np.int64)
    background = np.floor(DARK * u[:, 1:N_SCENE]).astype(np.uint8)
    present = np.arange(most) < counts[:, None]
    u = u[:, N_SCENE:].reshape(n, most, N_FIELDS)

    if n_objects is None:
        classes = np.broadcast_to(np.arange(most), (n, most))
    else:
        classes = np.searchsorted(np.cumsum(weights) / np.sum(weights), u[:, :, 0], side="right")
        classes = np.minimum(classes, len(shapes) - 1)
    radii = low + (high - low) * u[:, :, 2]
    y = radii + (height - 1 - 2 * radii) * u[:, :, 3]
    x = radii + (width - 1 - 2 * radii) * u[:, :, 4]
    angles = 2 * np.pi * u[:, :, 5] if rotated else np.zeros((n, most))
    if colors == "by_class":
        color = np.array([COLORS[shape] for shape in shapes], np.uint8)[classes]
    else:
        color = _random_colors(u[:, :, 6:])
        _separate(color, background, present, seeds, N_SCENE + most * N_FIELDS, min_contrast)

    order = np.argsort(np.where(present, u[:, :, 1], 2), axis=1)  # back to front, absent ones last
    n_corners = np.array([CORNERS[shape] for shape in shapes])[classes]
    objects = _leaves(*(values[present] for values in (n_corners, y, x, radii, angles)))
    objects = replace(objects, offsets=np.concatenate([[0], np.cumsum(counts)]))
    images, labels, whole = kernel.layers(objects, order, color, background, height, width)
    table = {"shape": classes, "color": color, "y": y, "x": x, "radius": radii, "angle": angles}
    table = {name: _where_present(values, present) for name, values in table.items()}
    order = np.where(np.arange(most) < counts[:, None], order, -1)
    metadata = {"shapes": list(shapes), "colors": colors}
    return Scenes(images, labels, whole, order, table, present, metadata)


def _leaves(n_corners, y, x, radius, angle):
    """Circles (no corners) and regular polygons in circles of these radii."""
    centers = np.stack([y, x], axis=1)
    if angle.any():
        corners = _corners(n_corners, angle)
    else:  # upright ones differ in their size alone
        corners = _corners(np.arange(5), np.zeros(5))[n_corners]
    corners *= radius[:, None, None]
    polygons = kernel.polygons(centers, corners, np.maximum(n_corners, 3))
    return kernel.either(n_corners == 0, kernel.ellipses(centers, radius, radius, angle), polygons)


def _corners(n_corners, angle):
    """Of regular polygons in the unit circle: a point up, or a side of a square; (m, 4, 2)."""
    n = np.maximum(n_corners, 3)[:, None]
    upright = np.pi / 2 + np.where(n == 4, np.pi / 4, 0)
    turn = upright + angle[:, None] + 2 * np.pi * np.arange(4) / n
    return np.stack([-np.sin(turn), np.cos(turn)], axis=-1)


def _separate(color, background, present, seeds, first, min_contrast):
    """Draw colors again, in place, of scenes in which two are too much alike."""
    if min_contrast == 0:
        return
    n, most, _ = color.shape
    for draw in range(MAX_DRAWS):
        all_colors = np.concatenate([background[:, None], color], axis=1).astype(int)
        gap = np.abs(all_colors[:, :, None] - all_colors[:, None]).max(axis=-1)
        there = np.concatenate([np.ones((n, 1), bool), present], axis=1)
        pairs = there[:, :, None] & there[:, None] & np.tri(most + 1, k=-1, dtype=bool)
        bad = (pairs & (gap < min_contrast)).any(axis=(1, 2))
        if not bad.any():
            return
        u = kernel.uniforms(seeds[bad], first + draw * 3 * most, 3 * most)
        color[bad] = _random_colors(u.reshape(-1, most, 3))
    raise ValueError(
        f"min_contrast must leave room for {most} colors; got {min_contrast}: {MAX_DRAWS} "
        "draws found none. Pass a smaller one, or fewer objects."
    )


def _random_colors(u):
    return (LIGHT + np.floor((256 - LIGHT) * u)).astype(np.uint8)


def _where_present(values, present):
    """Values with -1 (integers), 0 (bytes) or NaN for absent objects."""
    missing = {"f": np.nan, "i": -1, "u": 0}[values.dtype.kind]
    there = present.reshape(*present.shape, *[1] * (values.ndim - 2))
    return values if present.all() else np.where(there, values, missing).astype(values.dtype)


# Arguments


def _check_shapes(shapes):
    try:
        shapes = (shapes,) if isinstance(shapes, str) else tuple(shapes)
    except TypeError:
        raise TypeError(f"shapes must be a sequence of names; got {shapes!r}.") from None
    if not shapes:
        raise ValueError("shapes must name at least one class; got none.")
    return tuple(check_choice(shape, f"shapes[{i}]", CORNERS) for i, shape in enumerate(shapes))


def _check_radius(radius, height, width, least):
    shorter = min(height, width)
    if radius is None:
        radius = 0.14 * shorter, 0.22 * shorter
    try:
        low, high = radius
    except (TypeError, ValueError) as error:
        raise type(error)(f"radius must be (low, high); got {radius!r}.") from None
    low = check_float(low, "radius[0]", minimum=0, strict=True)
    high = check_float(high, "radius[1]", minimum=low)
    if low < least:
        raise ValueError(
            f"radius must be at least {least:g}, so that each object has a pixel; got {low:g} for "
            f"a size of {height} x {width}. Pass a larger one, or a larger size."
        )
    if 2 * high > shorter - 1:
        raise ValueError(
            f"radius must be at most {(shorter - 1) / 2:g}, so that objects lie inside the image; "
            f"got {high:g} for a size of {height} x {width}. Pass a smaller one, or a larger size."
        )
    return low, high


def _check_n_objects(n_objects, n_classes):
    if n_objects is None:
        return n_classes, n_classes
    try:
        low, high = n_objects
    except TypeError:
        low = high = n_objects
    except ValueError:
        raise ValueError(f"n_objects must be an int or (low, high); got {n_objects!r}.") from None
    low = check_int(low, "n_objects", minimum=1)
    return low, check_int(high, "n_objects", minimum=low)


def _check_frequencies(frequencies, n_objects, n_classes):
    if frequencies is None:
        return np.ones(n_classes)
    if n_objects is None:
        raise ValueError(
            "frequencies must come with n_objects: without it there is one object of each class."
        )
    weights = check_array(frequencies, "frequencies", ndim=1, axes="(classes,)").astype(float)
    if len(weights) != n_classes or (weights < 0).any() or not weights.any():
        raise ValueError(
            f"frequencies must have one number for each of {n_classes} shape(s), none below zero "
            f"and not all zero; got {weights.tolist()}."
        )
    return weights

"""Dead leaves: images of shapes that fall on each other until nothing else is seen."""

from dataclasses import dataclass

import numpy as np

from .._kernels import leaves as kernel
from .._random import check_rng, item_seeds
from .._validation import check_array, check_choice, check_float, check_int, check_size
from .scenes import Scenes

LEAVES = ("disk", "ellipse", "rectangle", "polygon", "star")
N_FIELDS = 9  # random numbers of a leaf: radius, y, x, angle, aspect, corners, three of the color
FIRST_CHUNK = 256  # leaves drawn at once until an image is covered; then twice as many
MAX_LEAVES = 10_000_000  # of an image
STAR = 0.5  # radius of a star's notches, relative to its points


@dataclass(frozen=True)
class PowerLaw:
    """Radii with density proportional to ``radius**-exponent`` between ``low`` and ``high``.

    An exponent of 3 makes scale-invariant images. It is that of radii; of areas it would be 2.

    >>> PowerLaw(10, 300).quantile(np.array([0.0, 0.5, 1.0])).round(2).tolist()
    [10.0, 14.13, 300.0]
    """

    low: float
    high: float
    exponent: float = 3.0

    def __post_init__(self):
        check_float(self.low, "low", minimum=0, strict=True)
        check_float(self.high, "high", minimum=self.low)
        check_float(self.exponent, "exponent", minimum=0)

    def quantile(self, u):
        """The radius below which a share ``u`` of leaves lies."""
        if self.exponent == 1:
            return self.low * (self.high / self.low) ** u
        power = 1 - self.exponent
        ratio = (self.high / self.low) ** power
        return self.low * (1 + u * (ratio - 1)) ** (1 / power)


@dataclass(frozen=True)
class Uniform:
    """Radii that are equally likely between ``low`` and ``high``."""

    low: float
    high: float

    def __post_init__(self):
        check_float(self.low, "low", minimum=0, strict=True)
        check_float(self.high, "high", minimum=self.low)

    def quantile(self, u):
        """The radius below which a share ``u`` of leaves lies."""
        return self.low + (self.high - self.low) * u


class DeadLeaves:
    """Images of leaves that fall on each other: the stationary dead-leaves model.

    Leaves lie at random places, also outside the image, each before all that come after it. An
    image is complete when every pixel is covered: leaves are drawn from front to back until then,
    which is an exact sample of the model (what would fall later is not seen).

    Parameters
    ----------
    size : int or (height, width)
        Pixels.
    radius : float, PowerLaw or Uniform
        Of the circle around a leaf, pixels; a number for all leaves.
    leaf : {"disk", "ellipse", "rectangle", "polygon", "star"} or ndarray of bool, (m, h, w)
        Shape, or masks, one drawn for each leaf, that are not scaled: then ``radius`` is None.
        Ellipses and rectangles have aspect ratios of 0.3 to 1, polygons and stars 3 to 8 corners;
        all but disks and masks are turned by random angles.
    color : "uniform" or array_like of uint8, (m, 3)
        Any color, or one of a palette.
    n_leaves : int, optional
        So many leaves on a background, and not until all is covered.
    background : sequence of three ints, optional
        Its color, 0 to 255; black by default.

    Raises
    ------
    ValueError
        No leaves, radii that are not positive, masks without a pixel.

    References
    ----------
    Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001; Kendall and Thoennes,
    "Perfect simulation in stochastic geometry", Pattern Recognition 1999.

    Examples
    --------
    >>> from fastvis.scenes import DeadLeaves, PowerLaw
    >>> scenes = DeadLeaves(64, PowerLaw(4, 40)).sample(2, rng=0)
    >>> scenes.images.shape, int(scenes.labels.min()) > 0
    ((2, 64, 64, 3), True)
    """

    def __init__(
        self, size, radius, *, leaf="disk", color="uniform", n_leaves=None, background=None
    ):
        self.size = check_size(size)
        self.leaf = check_choice(leaf, "leaf", LEAVES) if isinstance(leaf, str) else _atlas(leaf)
        self.radius = _check_radius(radius, self.leaf)
        self.color = color if isinstance(color, str) else _palette(color)
        if isinstance(color, str):
            check_choice(color, "color", ("uniform",))
        self.n_leaves = n_leaves
        if n_leaves is not None:
            check_int(n_leaves, "n_leaves", minimum=1)
        self.background = _palette([(0, 0, 0) if background is None else background])[0]

    def sample(self, n, rng=None):
        """Draw n images.

        Parameters
        ----------
        n : int
        rng : None, int or numpy.random.Generator
            Image i is the same for any n and any number of threads.

        Returns
        -------
        Scenes
            Labels number the leaves from the front; those that lie outside the image are left out.
            ``table`` has "y", "x", "radius", "angle" and "color" of each.
        """
        n = check_int(n, "n", minimum=1)
        seeds = item_seeds(check_rng(rng), n)
        labels, counts = np.zeros((n, *self.size), np.int32), np.zeros(n, np.int64)
        tables, first, chunk = [], 0, FIRST_CHUNK
        while first < MAX_LEAVES:
            if self.n_leaves is not None:
                chunk = min(chunk, self.n_leaves - first)
            is_open = np.flatnonzero((labels == 0).any(axis=(1, 2)))
            if len(is_open) == 0 or chunk == 0:
                return self._scenes(labels, counts, tables)
            tables.append(self._fall(seeds, is_open, first, chunk, labels, counts))
            first, chunk = first + chunk, 2 * chunk
        raise ValueError(
            f"radius must be large enough to cover the image; {MAX_LEAVES:,} leaves did not. "
            "Pass larger ones, or n_leaves."
        )

    def _fall(self, seeds, images, first, chunk, labels, counts):
        """Put leaves first to first + chunk behind those of some images; what lies in them."""
        u = kernel.uniforms(seeds[images], N_FIELDS * first, N_FIELDS * chunk)
        u = u.reshape(-1, N_FIELDS)
        radius = np.zeros(len(u)) if self.radius is None else self.radius.quantile(u[:, 0])
        reach = self._reach()
        centers = np.stack(
            [u[:, 1 + i] * (self.size[i] + 2 * reach) - reach - 0.5 for i in range(2)], axis=1
        )
        leaves, angle = self._leaves(centers, radius, u)
        inside = (leaves.rows[:, 1] >= 0) & (leaves.rows[:, 0] < self.size[0])
        inside &= (leaves.columns[:, 1] >= 0) & (leaves.columns[:, 0] < self.size[1])
        image = np.repeat(np.arange(len(images)), chunk)[inside]
        offsets = np.searchsorted(image, np.arange(len(images) + 1))
        rank = np.arange(len(image)) - offsets[image]
        slots = counts[images][image] + rank
        names = (slots + 1).astype(np.int32)
        counts[images] += np.diff(offsets)
        part = labels[images]
        kernel.cover(leaves.at(inside, offsets), names, part, blank=first == 0)
        labels[images] = part
        if isinstance(self.color, str):
            color = np.floor(256 * u[:, 6:]).astype(np.uint8)
        else:
            color = self.color[np.floor(len(self.color) * u[:, 6]).astype(np.int64)]
        values = {"y": centers[:, 0], "x": centers[:, 1], "radius": radius, "angle": angle}
        values |= {"color": color}
        return images[image], slots, {name: x[inside] for name, x in values.items()}

    def _reach(self):
        """How far from its center a leaf may be seen."""
        if self.radius is None:
            return max(self.leaf.shape[1:]) / 2 + 1
        return self.radius.quantile(np.array(1.0))

    def _leaves(self, centers, radius, u):
        """The kernel's leaves, and their angles."""
        if self.radius is None:
            index = np.floor(len(self.leaf) * u[:, 4]).astype(np.int64)
            return kernel.masks(centers, index, self.leaf), np.zeros(len(u))
        if self.leaf == "disk":
            angle = np.zeros(len(u))
            return kernel.ellipses(centers, radius, radius, angle), angle
        angle, aspect = 2 * np.pi * u[:, 3], 0.3 + 0.7 * u[:, 4]
        if self.leaf == "ellipse":
            return kernel.ellipses(centers, radius, aspect * radius, angle), angle
        n = 3 + np.floor(6 * u[:, 5]).astype(np.int64)
        if self.leaf == "rectangle":
            half = np.arctan(aspect)[:, None]
            turn = np.concatenate([half, np.pi - half, np.pi + half, -half], axis=1)
            n, length = np.full(len(u), 4), np.ones(4)
        else:
            per_corner = 2 if self.leaf == "star" else 1
            k = np.arange(8 * per_corner)
            turn = 2 * np.pi * k / (per_corner * n[:, None])
            length = np.where(k % per_corner, STAR, 1.0)
            n = per_corner * n
        turn = angle[:, None] + turn
        corners = np.stack([-np.sin(turn), np.cos(turn)], axis=-1)
        corners *= (radius[:, None] * length)[:, :, None]
        return kernel.polygons(centers, corners, n), angle

    def _scenes(self, labels, counts, tables):
        n, most = len(labels), max(int(counts.max()), 1)
        image, slots = (np.concatenate([t[i] for t in tables]) for i in range(2))
        table = {}
        for name in tables[0][2]:
            values = np.concatenate([t[2][name] for t in tables])
            missing = np.nan if values.dtype.kind == "f" else 0
            table[name] = np.full((n, most, *values.shape[1:]), missing, values.dtype)
            table[name][image, slots] = values
        present = np.arange(most) < counts[:, None]
        # slot 0 is in front
        order = np.where(present, counts[:, None] - 1 - np.arange(most), -1)
        background = np.broadcast_to(self.background, (n, 3)).copy()
        colors = table["color"].reshape(-1, 3)
        images = kernel.shade(labels, colors, most * np.arange(n), background)
        return Scenes(images, labels, None, order, table, present)


class _Constant:
    """All leaves of one radius."""

    def __init__(self, radius):
        self.radius = radius

    def quantile(self, u):
        return np.full(np.shape(u), self.radius)


# Arguments


def _check_radius(radius, leaf):
    if not isinstance(leaf, str):
        if radius is not None:
            raise ValueError(f"radius must be None with masks, which are not scaled; got {radius}.")
        return None
    if isinstance(radius, (PowerLaw, Uniform)):
        return radius
    return _Constant(check_float(radius, "radius", minimum=0, strict=True))


def _atlas(masks):
    masks = np.asarray(masks)
    if masks.dtype != bool or masks.ndim != 3 or masks.size == 0:
        raise ValueError(
            f"leaf must be one of {', '.join(map(repr, LEAVES))} or masks of bool (m, h, w); "
            f"got shape {masks.shape} of {masks.dtype}."
        )
    if not masks.any(axis=(1, 2)).all():
        raise ValueError("leaf must have masks with at least one pixel each; got an empty one.")
    return np.ascontiguousarray(masks)


def _palette(colors):
    colors = check_array(colors, "color", ndim=2, axes="(m, 3)")
    if colors.shape[1] != 3 or (colors < 0).any() or (colors > 255).any():
        raise ValueError(f"color must have rows of three in [0, 255]; got shape {colors.shape}.")
    return colors.astype(np.uint8)

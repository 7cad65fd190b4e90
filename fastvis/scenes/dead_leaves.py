"""Dead leaves: images of shapes that fall on each other until nothing else is seen."""

import math
from dataclasses import dataclass

import numpy as np

from .._kernels import leaves as kernel
from .._random import check_rng, item_seeds
from .._validation import _as_array, check_array, check_choice, check_float, check_int, check_size
from .scenes import Scenes

LEAVES = ("disk", "ellipse", "rectangle", "polygon", "star")
N_FIELDS = 9  # random numbers of a leaf: radius, y, x, angle, aspect, corners, three of its look
FIRST_CHUNK = 256  # leaves drawn at once until an image is covered; then twice as many
MAX_LEAVES = 10_000_000  # of an image
AT_ONCE = 2**17  # leaves, of several images, or part of an image's: about 50 MB
MAX_SHAPES = 2**32  # bytes of whole shapes
SHAPES_AT_ONCE = 2**24  # bytes
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
        span, power = math.log(self.high) - math.log(self.low), 1 - self.exponent
        t = power * span  # u is the share of exp(power * log_radius) on its way from 1 to exp(t)
        if power == 0:
            log_radius = u * span
        elif t > -1:
            log_radius = np.log1p(u * np.expm1(t)) / power
        else:  # expm1 would lose the last digits of large radii
            with np.errstate(divide="ignore"):  # exp(t) may be 0
                log_radius = np.log(1 - u + u * np.exp(t)) / power
        return np.minimum(self.low * np.exp(log_radius), self.high)


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
    texture : array_like of uint8, (m, h, w, 3), optional
        In place of colors: patches, one drawn for each leaf, which shows a crop of it from a random
        place. A leaf larger than the patch shows it repeatedly; then periodic patches have no
        seams, such as `fastvis.textures.synthesize` makes with ``padding="periodic"``.
    n_leaves : int, optional
        So many leaves on a background, seen or not, and not until all is covered; at most 10
        million.
    background : sequence of three ints, optional
        Its color, 0 to 255; black by default.
    antialias : bool
        Pixels at borders mix the colors of leaves by the area that each covers; labels are those of
        pixel centers, as without. See Notes.

    Raises
    ------
    ValueError
        No leaves, radii that are not positive, masks without a pixel.

    Notes
    -----
    With ``antialias`` the area of each leaf in each pixel is exact, by a closed form (masks have
    whole pixels). Which part of a pixel it covers is not kept: a leaf covers its share of what
    leaves in front have left open. That is exact where one border crosses a pixel, and elsewhere if
    borders within a pixel are independent; two leaves whose borders coincide let a little of what
    is behind them shine through. Leaves are drawn until less than 1/4096 of each pixel is open, so
    that there may be more than without ``antialias``; the first ones are the same.

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
        self,
        size,
        radius,
        *,
        leaf="disk",
        color="uniform",
        texture=None,
        n_leaves=None,
        background=None,
        antialias=False,
    ):
        self.size = check_size(size)
        self.leaf = check_choice(leaf, "leaf", LEAVES) if isinstance(leaf, str) else _atlas(leaf)
        self.radius = _check_radius(radius, self.leaf)
        self.color = color if isinstance(color, str) else _check_colors(color, "color")
        if isinstance(color, str):
            check_choice(color, "color", ("uniform",))
        self.texture = None if texture is None else _check_texture(texture, self.color)
        self.n_leaves = n_leaves
        if n_leaves is not None:
            check_int(n_leaves, "n_leaves", minimum=1, maximum=MAX_LEAVES)
        self.background = np.zeros(3, np.uint8)
        if background is not None:
            self.background = _check_colors(background, "background")
        self.antialias = bool(antialias)

    def sample(self, n, rng=None, *, shapes=False):
        """Draw n images.

        Parameters
        ----------
        n : int
        rng : None, int or numpy.random.Generator
            Image i is the same for any n and any number of threads. A Generator goes on where it
            was: two samples of 50 are one of 100.
        shapes : bool
            Whole shapes, too, also of leaves that are hidden: n x K x H x W bytes for at most K
            leaves in an image. Then `Scenes.occlusion` says which leaf covers which.

        Returns
        -------
        Scenes
            Labels number the leaves from the front; those that lie outside the image are left out.
            ``table`` has "y", "x", "radius" and "angle" of each, and its "color", or "texture"
            (index of the patch) and "crop" (pixel (i, j) is that of the patch at (i + crop[0],
            j + crop[1]), periodically). It holds all leaves that fell until the image was covered,
            also hidden ones, and as many rows for each image: about 40 bytes each, which small
            radii make many (330,000 an image of 64 x 64 pixels for PowerLaw(0.1, 8), or 13 MB).

        Raises
        ------
        ValueError
            Radii too small to cover the image; whole shapes of more than 4 GB.

        Examples
        --------
        More images than fit into memory go to a file piece by piece, the same for pieces of any
        size:

        >>> import os, tempfile
        >>> from fastvis.scenes import DeadLeaves, PowerLaw, Scenes, ScenesWriter
        >>> model, rng = DeadLeaves(16, PowerLaw(2, 16)), np.random.default_rng(0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "leaves.hdf5")
        ...     with ScenesWriter(path) as writer:
        ...         for _ in range(5):
        ...             writer.append(model.sample(20, rng))
        ...     images = Scenes.load(path).images
        >>> np.array_equal(images, model.sample(100, rng=0).images)
        True
        """
        n = check_int(n, "n", minimum=1)
        seeds = item_seeds(check_rng(rng), n)
        canvas = _Canvas(n, self.size, self.background, self.antialias, shapes)
        at, first, chunk = np.arange(n), 0, FIRST_CHUNK
        most = MAX_LEAVES if self.n_leaves is None else self.n_leaves
        while first < most and len(at):
            last = min(first + chunk, most)
            for images, start, stop in _pieces(at, first, last):
                u = kernel.uniforms(seeds[images], N_FIELDS * start, N_FIELDS * (stop - start))
                canvas.add(images, *self._fall(u.reshape(-1, N_FIELDS)), blank=start == 0)
            if self.n_leaves is None:
                at = at[canvas.is_open(at)]
            first, chunk = last, 2 * chunk
        if len(at) and self.n_leaves is None:
            raise ValueError(
                f"radius must be large enough to cover the image; {MAX_LEAVES:,} leaves did not. "
                "Pass larger ones, or n_leaves."
            )
        return canvas.scenes()

    def _fall(self, u):
        """Leaves of these random numbers; what the table says of them; their patches, if any."""
        radius = np.zeros(len(u)) if self.radius is None else self.radius.quantile(u[:, 0])
        reach = self._reach()
        centers = np.stack(
            [u[:, 1 + i] * (self.size[i] + 2 * reach) - reach - 0.5 for i in range(2)], axis=1
        )
        leaves, angle = self._leaves(centers, radius, u)
        table = {"y": centers[:, 0], "x": centers[:, 1], "radius": radius, "angle": angle}
        if self.texture is not None:
            table |= self._crops(leaves, u[:, 6:])
        elif isinstance(self.color, str):
            table["color"] = np.floor(256 * u[:, 6:]).astype(np.uint8)
        else:
            table["color"] = self.color[np.floor(len(self.color) * u[:, 6]).astype(np.int64)]
        return leaves, table, self.texture

    def _crops(self, leaves, u):
        """Patches, and where they are cut: wholly inside if the leaf and a border of 1 fit."""
        extent = np.array(self.texture.shape[1:3])
        first = np.stack([leaves.rows[:, 0], leaves.columns[:, 0]], axis=1) - 1
        last = np.stack([leaves.rows[:, 1], leaves.columns[:, 1]], axis=1) + 1
        room = extent - (last - first)
        places = np.where(room > 0, room, extent)
        patch = np.floor(len(self.texture) * u[:, 0]).astype(np.int64)
        return {"texture": patch, "crop": np.floor(u[:, 1:] * places).astype(np.int64) - first}

    def _reach(self):
        """How far from its center a leaf may be seen."""
        if self.radius is None:
            return max(self.leaf.shape[1:]) / 2 + 1
        return float(self.radius.high)

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


class _Canvas:
    """Images on which leaves fall, from front to back."""

    def __init__(self, n, size, background, antialias, shapes):
        self.size = size
        self.labels, self.images = kernel.canvas(n, *size)
        self.background = np.tile(background, (n, 1))
        self.counts = np.zeros(n, np.int64)  # of leaves
        self.leaves = []  # image, slot and table of those that have fallen
        self.shapes = [] if shapes else None
        self.veil = self.sums = None
        if antialias:
            self.veil = np.ones((n, *size), np.float32)
            self.sums = np.zeros((n, *size, 3), np.float32)

    def add(self, at, leaves, table, patches, *, blank):
        """Put leaves behind those that are there: as many on each of the images ``at``.

        blank: nothing is there.
        """
        image = np.repeat(np.arange(len(at)), len(leaves.kinds) // len(at))
        inside = self._near(leaves, 0)
        offsets = np.searchsorted(image[inside], np.arange(len(at) + 1))
        slots = np.arange(offsets[-1]) + (self.counts[at] - offsets[:-1])[image[inside]]
        self.counts[at] += np.diff(offsets)
        self._check_shapes()

        seen, names = leaves.at(inside, offsets), (slots + 1).astype(np.int32)
        if self.veil is None:
            look = _look(table, patches, inside)
            colored = {"images": self.images, "background": self.background}
            kernel.cover(seen, names, self.labels, blank, at=at, **colored, **look)
        else:
            near = self._near(leaves, 1)  # also those that have no pixel's center
            look = _look(table, patches, near)
            near = leaves.at(near, np.searchsorted(image[near], np.arange(len(at) + 1)))
            kernel.cover(seen, names, self.labels, blank, at=at)
            kernel.blend(near, self.veil, self.sums, at, **look)
        self.leaves.append((at[image[inside]], slots, {k: x[inside] for k, x in table.items()}))
        if self.shapes is not None:
            self.shapes.append(seen)

    def is_open(self, at):
        """Whether leaves behind would be seen, for some of the images."""
        at = slice(None) if len(at) == len(self.labels) else at
        is_open = (self.labels[at] == 0).any(axis=(1, 2))
        if self.veil is not None:
            is_open |= (self.veil[at] > 0).any(axis=(1, 2))
        return is_open

    def scenes(self):
        n, most = len(self.labels), max(int(self.counts.max()), 1)
        table = {}
        for name, like in self.leaves[0][2].items():
            missing = {"f": np.nan, "i": -1, "u": 0}[like.dtype.kind]
            table[name] = np.full((n, most, *like.shape[1:]), missing, like.dtype)
            for image, slots, columns in self.leaves:
                table[name][image, slots] = columns[name]
        present = np.arange(most) < self.counts[:, None]
        # slot 0 is in front
        order = np.where(present, self.counts[:, None] - 1 - np.arange(most), -1)
        if self.veil is not None:
            self.sums += self.veil[..., None] * self.background[:, None, None]
            np.floor(self.sums + 0.5, out=self.images, casting="unsafe")
        return Scenes(self.images, self.labels, self._whole(most), order, table, present)

    def _whole(self, most):
        if self.shapes is None:
            return None
        whole = np.zeros((len(self.labels), most, *self.size), bool)
        step = max(1, SHAPES_AT_ONCE // whole[0, 0].size)
        for (image, slots, _), leaves in zip(self.leaves, self.shapes):
            for start in range(0, len(slots), step):
                rows = slice(start, start + step)
                some = leaves.at(rows, ())
                whole[image[rows], slots[rows]] = kernel.whole_shapes(some, *self.size)
        return whole

    def _near(self, leaves, margin):
        """Which leaves may have pixels of the image, or so many rows and columns outside."""
        (height, width), rows, columns = self.size, leaves.rows, leaves.columns
        near = (rows[:, 1] >= -margin) & (rows[:, 0] < height + margin)
        return near & (columns[:, 1] >= -margin) & (columns[:, 0] < width + margin)

    def _check_shapes(self):
        n_bytes = self.labels.size * int(self.counts.max())
        if self.shapes is not None and n_bytes > MAX_SHAPES:
            raise ValueError(
                f"shapes must fit into {MAX_SHAPES / 1e9:.1f} GB; {self.counts.max():,} leaves in "
                f"{len(self.labels)} image(s) take {n_bytes / 1e9:.1f} GB or more. Draw fewer "
                "images at a time, fewer leaves, or leave shapes out."
            )


def _pieces(at, first, last):
    """Images and ranges of leaves, together ``at`` and [first, last), at most AT_ONCE at a time."""
    step = max(1, AT_ONCE // (last - first))
    for i in range(0, len(at), step):
        for start in range(first, last, AT_ONCE):
            yield at[i : i + step], start, min(start + AT_ONCE, last)


def _look(table, patches, picked):
    """Colors or textures of some leaves, as the kernels take them."""
    if patches is None:
        return {"colors": table["color"][picked]}
    crops = np.column_stack([table["texture"], table["crop"]])
    return {"patches": patches, "crops": np.ascontiguousarray(crops[picked])}


class _Constant:
    """All leaves of one radius."""

    def __init__(self, radius):
        self.high = radius

    def quantile(self, u):
        return np.full(np.shape(u), self.high)


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
    masks = _as_array(masks, "leaf")
    if masks.dtype != bool or masks.ndim != 3 or masks.size == 0:
        raise ValueError(
            f"leaf must be one of {', '.join(map(repr, LEAVES))} or masks of bool (m, h, w); "
            f"got shape {masks.shape} of {masks.dtype}."
        )
    if not masks.any(axis=(1, 2)).all():
        raise ValueError("leaf must have masks with at least one pixel each; got an empty one.")
    return np.ascontiguousarray(masks)


def _check_colors(colors, name):
    """A palette (m, 3), or the background (3,), as uint8."""
    ndim, axes = (1, "(3,)") if name == "background" else (2, "(m, 3)")
    colors = check_array(colors, name, ndim=ndim, axes=axes)
    if colors.shape[-1] != 3:
        raise ValueError(f"{name} must have shape {axes}; got {colors.shape}.")
    bad = (colors < 0) | (colors > 255) | (colors != np.floor(colors))
    if bad.any():
        raise ValueError(
            f"{name} must have whole numbers of 0 to 255; got {colors[bad][0]:g}. Floats in [0, 1] "
            f"become such by np.round(255 * {name}).astype(np.uint8)."
        )
    return colors.astype(np.uint8)


def _check_texture(patches, color):
    if not isinstance(color, str):
        raise ValueError("texture must come without color: its patches have their own.")
    patches = _as_array(patches, "texture")
    if patches.dtype != np.uint8 or patches.ndim != 4 or patches.shape[3] != 3 or not patches.size:
        raise ValueError(
            "texture must be uint8 patches (m, h, w, 3); got shape "
            f"{patches.shape} of {patches.dtype}. Floats in [0, 1] become such by "
            "np.round(255 * patches).astype(np.uint8), one image by image[None]."
        )
    return np.ascontiguousarray(patches)

"""Dead leaves against Pillow, sprites against the painter's algorithm in NumPy."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from fastvis._kernels import leaves
from fastvis.scenes import DeadLeaves, PowerLaw, sprites
from fastvis.scenes.toys import COLORS

from .common import Copy, Row, alternate, compare, use_threads


@dataclass(frozen=True)
class Disks:
    """Disks with radii 10 to 300 by 1 / r^3, drawn on one image; labels, too."""

    size: int = 1000
    n: int = 2000

    def disks(self):
        rng = np.random.default_rng(0)
        radius = PowerLaw(10, 300).quantile(rng.random(self.n))
        centers = rng.uniform(-300, self.size + 300, (self.n, 2))
        return centers, radius, rng.integers(0, 256, (self.n, 3), dtype=np.uint8)

    def ours(self):
        """A function without arguments; gives image and labels, the first disk in front."""
        centers, radius, colors = self.disks()
        palette = {"colors": colors, "background": np.zeros((1, 3), np.uint8)}
        names = np.arange(1, self.n + 1, dtype=np.int32)

        def run():
            labels, images = leaves.canvas(1, self.size, self.size)
            disks = leaves.ellipses(centers, radius, radius, 0 * radius)
            leaves.cover(disks, names, labels, blank=True, images=images, **palette)
            return images[0], labels[0]

        return run

    def peer(self):
        """The same image, without labels, by Pillow, from the back to the front."""
        centers, radius, colors = self.disks()
        low, high = (centers - radius[:, None])[:, ::-1], (centers + radius[:, None])[:, ::-1]
        boxes = np.concatenate([low, high], axis=1)[::-1].tolist()
        colors = list(map(tuple, colors[::-1].tolist()))

        def run():
            image = Image.new("RGB", (self.size, self.size))
            draw = ImageDraw.Draw(image)
            for box, color in zip(boxes, colors):
                draw.ellipse(box, fill=color)
            return np.asarray(image)

        return run

    def bytes(self):
        """What is written: image and labels, once."""
        return self.size**2 * (3 + 4)


@dataclass(frozen=True)
class Sprites:
    """64 x 64 scenes of a circle, a square and a triangle: images, labels, shapes, order."""

    n: int = 2000
    size: int = 64

    def ours(self):
        return partial(sprites, self.n, size=self.size, rng=0)

    def peer(self):
        return partial(painter, self.n, self.size)

    def bytes(self):
        return self.n * self.size**2 * (3 + 1 + 3)


def painter(n, size):
    """The same by the painter's algorithm, as one would write it in NumPy."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    images = np.empty((n, size, size, 3), np.uint8)
    labels = np.zeros((n, size, size), np.uint8)
    shapes = np.empty((n, 3, size, size), bool)
    order = np.empty((n, 3), int)
    colors = np.array(list(COLORS.values()), np.uint8)
    for i in range(n):
        images[i] = rng.integers(0, 128, 3)
        order[i] = rng.permutation(3)
        for k in order[i]:
            r = rng.uniform(0.14, 0.22) * size
            dy, dx = y - rng.uniform(r, size - 1 - r), x - rng.uniform(r, size - 1 - r)
            if k == 0:
                shape = dy**2 + dx**2 <= r**2
            elif k == 1:
                shape = np.maximum(abs(dy), abs(dx)) <= r / np.sqrt(2)
            else:
                shape = (dy <= r / 2) & (abs(dx) <= (dy + r) / np.sqrt(3))
            shapes[i, k] = shape
            images[i][shape] = colors[k]
            labels[i][shape] = k + 1
    return images, labels, shapes, order


CASES = {
    "1000 x 1000, 2,000 disks": (Disks(), "Pillow, image only"),
    "sprites, 2,000 of 64 x 64": (Sprites(), "NumPy, painter's algorithm"),
}
QUICK = {"1000 x 1000, 2,000 disks": Disks(50, 20), "sprites, 2,000 of 64 x 64": Sprites(5, 32)}


# The table


def rows(quick):
    """Yields name and function of each row."""
    for name, (case, peer) in CASES.items():
        yield name, partial(_row, QUICK[name] if quick else case, peer, 1 if quick else 9)
    model = DeadLeaves(50 if quick else 1000, PowerLaw(5 if quick else 10, 300))
    yield "1000 x 1000 dead leaves until covered", partial(_alone, partial(model.sample, 1, rng=0))


def _row(case, peer, rounds):
    copy = Copy(1 << 22)
    floor = 2 * case.bytes() / copy.bytes  # a copy reads as much as it writes
    return compare(peer, case.ours, case.peer, copy, floor, rounds)


def _alone(function):
    seconds, _ = alternate(function, rounds=5)
    return Row(None, seconds[0])


# asv


class Scenes:
    params = list(CASES)
    param_names = ("scenes",)
    timeout = 600

    def setup(self, name):
        use_threads()
        self.case, _ = CASES[name]
        self.ours = self.case.ours()

    def time_ours(self, name):
        self.ours()

    def track_ratio(self, name):
        return alternate(self.ours, self.case.peer())[1][1]

    track_ratio.unit = "fastvis / peer"

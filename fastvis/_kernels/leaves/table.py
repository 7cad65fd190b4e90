"""Leaves as the kernels take them."""

from dataclasses import dataclass, replace

import numpy as np

from .reference import ELLIPSE, MASK, POLYGON

NO_ATLAS = np.zeros((1, 1, 1), bool)


@dataclass(frozen=True)
class Leaves:
    """Leaves of several images, from front to back in each; see `cpu.paint`.

    Attributes
    ----------
    offsets : ndarray of int64, (n + 1,)
        Leaves offsets[i] to offsets[i + 1] are image i's.
    kinds : ndarray of int8, (m,)
    centers : ndarray, (m, 2)
    rows, columns : ndarray of int64, (m, 2)
        First and last pixel that may lie in the leaf.
    conic : ndarray, (m, 3)
    part : ndarray of int64, (m, 2)
    corners : ndarray, (c, 2)
    atlas : ndarray of bool, (n_masks, h, w)
    """

    offsets: np.ndarray
    kinds: np.ndarray
    centers: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    conic: np.ndarray
    part: np.ndarray
    corners: np.ndarray
    atlas: np.ndarray

    def at(self, picked, offsets):
        """The leaves picked (indices or a mask), which are those of images by ``offsets``."""
        names = ("kinds", "centers", "rows", "columns", "conic", "part")
        parts = {name: np.ascontiguousarray(getattr(self, name)[picked]) for name in names}
        return replace(self, offsets=np.asarray(offsets, np.int64), **parts)


def ellipses(centers, a, b, angle):
    """Half axes a along the angle and b across it, (m,); of one image, as of all these."""
    conic = np.stack([np.zeros_like(a), np.ones_like(a), a**2], axis=1)  # disks stay exact
    half = np.stack([a, a], axis=1)
    others = np.flatnonzero(a != b)
    if len(others):
        a, b, angle = a[others], b[others], angle[others]
        cosine, sine = np.cos(angle), np.sin(angle)
        # p x^2 + 2 q x y + s y^2 <= (a b)^2, divided by p
        p, s = (b * cosine) ** 2 + (a * sine) ** 2, (b * sine) ** 2 + (a * cosine) ** 2
        q = cosine * sine * (a**2 - b**2)
        conic[others] = np.stack([q / p, (a * b) ** 2 / p**2, (a * b) ** 2 / p], axis=1)
        half[others] = np.sqrt(np.stack([p, s], axis=1))
    return _leaves(ELLIPSE, centers, -half, half, conic=conic)


def polygons(centers, corners, n_corners=None):
    """Corners (m, c, 2), (dy, dx) from the centers; the first n_corners (m,) of them count."""
    m, c, _ = corners.shape
    n_corners = np.full(m, c) if n_corners is None else n_corners
    first = c * np.arange(m)
    low, high = corners[:, 0].copy(), corners[:, 0].copy()
    for k in range(1, c):  # corner by corner: minima along short axes are slow
        used = (k < n_corners)[:, None]
        np.minimum(low, corners[:, k], out=low, where=used)
        np.maximum(high, corners[:, k], out=high, where=used)
    part = np.stack([first, first + n_corners], axis=1)
    flat = np.ascontiguousarray(corners.reshape(-1, 2))
    return _leaves(POLYGON, centers, low, high, part=part, corners=flat)


def masks(centers, index, atlas):
    """Masks atlas[index], (m,), with their middle pixels at the rounded centers."""
    first = -(np.array(atlas.shape[1:]) // 2)
    last = first + np.array(atlas.shape[1:]) - 1
    part = np.stack([index, index], axis=1)
    return _leaves(MASK, np.floor(centers + 0.5), first, last, part=part, atlas=atlas)


def either(first, a, b):
    """Leaves of table a where ``first`` (m,), else those of table b."""
    choose = {
        name: np.where(first.reshape(-1, *[1] * (x.ndim - 1)), x, getattr(b, name))
        for name, x in vars(a).items()
        if name not in ("offsets", "corners", "atlas")
    }
    return replace(b, **choose)


def _leaves(kind, centers, low, high, **parts):
    m = len(centers)
    boxes = np.stack([np.ceil(centers + low), np.floor(centers + high)], axis=-1).astype(np.int64)
    defaults = {
        "conic": np.zeros((m, 3)),
        "part": np.zeros((m, 2), np.int64),
        "corners": np.zeros((1, 2)),
        "atlas": NO_ATLAS,
    }
    return Leaves(
        offsets=np.array([0, m]),
        kinds=np.full(m, kind, np.int8),
        centers=np.ascontiguousarray(centers, np.float64),
        rows=np.ascontiguousarray(boxes[:, 0]),
        columns=np.ascontiguousarray(boxes[:, 1]),
        **(defaults | parts),
    )

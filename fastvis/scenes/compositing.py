"""From shapes and appearances to an image: eqs (1)-(3)."""

from dataclasses import dataclass

import numpy as np

from .._validation import check_array
from .arguments import check_shapes


@dataclass(frozen=True, repr=False, eq=False)
class Composite:
    """An image and the layers it is made of, from back to front; or n of them.

    Attributes
    ----------
    image : ndarray of float, (H, W, C) or (n, H, W, C)
        In [0, 1]; 0 where no shape is.
    regions : ndarray, (K, H, W) or (n, K, H, W)
        What is seen of each leaf, eq (2); bool or float as the shapes. Regions sum to one where
        the back covers everything.
    scopes : ndarray, (K, H, W) or (n, K, H, W)
        What nothing in front of the leaf covers, eq (1).
    """

    image: np.ndarray
    regions: np.ndarray
    scopes: np.ndarray

    @property
    def labels(self):
        """The leaf with the largest region at each pixel, 0 for the back and for no leaf.

        ``(H, W)`` or ``(n, H, W)``, uint8, or int32 with more than 256 leaves. Of equal regions,
        the one farthest back.
        """
        n_leaves = self.regions.shape[-3]
        return self.regions.argmax(axis=-3).astype(np.uint8 if n_leaves <= 256 else np.int32)

    def __repr__(self):
        *n, n_leaves, height, width = self.regions.shape
        images = f"{n[0]} images" if n else "image"
        kind = "hard" if self.regions.dtype == bool else "soft"
        return f"Composite({images} of {height} x {width} pixels, {n_leaves} {kind} layer(s))"


def composite(shapes, appearances):
    """Place leaves on a canvas from back to front: image, regions and scopes.

    With the shapes m and appearances x of leaves 1 (back) to K (front), the scope s, region r and
    image are::

        s_K = 1,   r_k = s_k m_k,   s_{k-1} = s_k - r_k,   image = sum_k r_k x_k

    Parameters
    ----------
    shapes : array_like of bool or float, (K, H, W) or (n, K, H, W)
        Whole shapes, also where others hide them: bool, or floats in [0, 1], how much of each
        pixel is covered. ``shapes[0]`` is the back: all ones if it is a background.
    appearances : array_like, (K, C) or (K, H, W, C); (n, K, C) or (n, K, H, W, C) for n images
        One color for each leaf, or an image of it. Values in [0, 1]; uint8 is divided by 255.

    Returns
    -------
    Composite

    Raises
    ------
    TypeError
        Shapes of integers: is 255 or 1 a full pixel?
    ValueError
        No leaves, different sizes, values out of [0, 1].

    Notes
    -----
    Eq (14) as printed, ``s_{k-1} = s_k (1 - r_k)``, would let soft regions sum to more than one;
    ``s_k - r_k = s_k (1 - m_k)`` is eq (1).

    References
    ----------
    von Kügelgen, Ustyuzhaninov et al., ICLR 2020 workshop, section 2, eqs (1)-(3).

    Examples
    --------
    >>> from fastvis.scenes import composite
    >>> back, front = [[True, True, True]], [[False, True, False]]
    >>> scene = composite([back, front], [[0.2], [0.8]])
    >>> scene.image[0, :, 0].tolist()
    [0.2, 0.8, 0.2]
    >>> scene.regions[0].tolist(), scene.labels.tolist()
    ([[True, False, True]], [[0, 1, 0]])
    >>> half = composite([[[1.0]], [[0.5]]], [[0.2], [0.8]])
    >>> half.image.item(), half.regions.ravel().tolist()
    (0.5, [0.5, 0.5])
    """
    shapes = check_shapes(shapes, ndim=(3, 4), axes="(K, H, W) or (n, K, H, W)")
    appearances = _check_appearances(appearances, shapes)
    regions, scopes = np.empty_like(shapes), np.empty_like(shapes)
    image = _canvas(shapes, appearances)
    if shapes.ndim == 3:
        _layer(shapes, appearances, regions, scopes, image)
    else:
        for layers in zip(shapes, appearances, regions, scopes, image):  # each fits into the cache
            _layer(*layers)
    return Composite(image, regions, scopes)


def _canvas(shapes, appearances):
    *n, _, height, width = shapes.shape
    dtype = appearances.dtype
    if shapes.dtype != bool:
        dtype = np.result_type(shapes, dtype)
    return np.empty((*n, height, width, appearances.shape[-1]), dtype)


def _layer(shapes, appearances, regions, scopes, image):
    """Fill the regions, scopes and image of one scene."""
    scope = np.ones_like(shapes[0])
    planes = np.zeros((image.shape[2], *image.shape[:2]), image.dtype)
    for k in reversed(range(len(shapes))):
        scopes[k] = scope
        np.multiply(scope, shapes[k], out=regions[k])  # (2)
        scope = scope ^ regions[k] if shapes.dtype == bool else scope - regions[k]  # (1)
        for c, plane in enumerate(planes):
            plane += regions[k] * appearances[k, ..., c]  # (3)
    for c, plane in enumerate(planes):  # rounding: soft regions may sum to a little more than 1
        np.minimum(plane, 1, out=image[..., c])


def _check_appearances(appearances, shapes):
    if getattr(appearances, "dtype", None) == np.uint8:
        appearances = appearances / np.float32(255)
    appearances = check_array(appearances, "appearances")
    *lead, height, width = shapes.shape
    color, picture = (*lead, "C"), (*lead, height, width, "C")
    if appearances.shape[:-1] not in (color[:-1], picture[:-1]):
        rule = " or ".join(str(s).replace("'", "") for s in (color, picture))
        raise ValueError(
            f"appearances must have shape {rule}, as shapes have {shapes.shape}; got "
            f"{appearances.shape}. Gray values need a last axis of length 1."
        )
    if appearances.min() < 0 or appearances.max() > 1:
        raise ValueError(
            f"appearances must have values in [0, 1]; got {appearances.min():.4g} to "
            f"{appearances.max():.4g}. Rescale them first (uint8 is rescaled for you)."
        )
    return appearances

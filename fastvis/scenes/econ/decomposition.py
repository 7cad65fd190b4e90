"""What a model makes of images: layers from front to back, as NumPy arrays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..._validation import check_array

LEAST_PIXELS = 1  # a step that wins fewer pixels is spare


@dataclass(frozen=True, repr=False, eq=False)
class Decomposition:
    """Images taken apart: one layer a step, step 0 in front.

    Attributes
    ----------
    winner : ndarray of int, (n, T)
        The expert that explains the step.
    region : ndarray of float32, (n, T, H, W)
        What is seen of the layer; regions sum to one over steps.
    appearance : ndarray of float32, (n, T, H, W, 3)
        In [0, 1], also outside the region.
    shape : ndarray of float32, (n, T, H, W)
        Probabilities of the whole shape, also where layers in front hide it.
    scope : ndarray of float32, (n, T, H, W)
        What layers in front have left over.
    """

    winner: np.ndarray
    region: np.ndarray
    appearance: np.ndarray
    shape: np.ndarray
    scope: np.ndarray

    @cached_property
    def labels(self):
        """The step with the largest region at each pixel, (n, H, W), int."""
        return self.region.argmax(axis=1)

    @cached_property
    def order(self):
        """Steps from back to front, (n, T), int; then -1 for those that win no pixel."""
        n, n_steps = self.winner.shape
        order = np.full((n, n_steps), -1)
        for row, labels in zip(order, self.labels):
            counts = np.bincount(labels.ravel(), minlength=n_steps)
            (steps,) = np.nonzero(counts >= LEAST_PIXELS)
            row[: len(steps)] = steps[::-1]
        return order

    @property
    def image(self):
        """The images as the layers explain them, eq (3), (n, H, W, 3)."""
        return np.einsum("nthw,nthwc->nhwc", self.region, self.appearance)

    def experts_of(self, labels, n_objects=None):
        """Return which expert explains each object, of whose labels most pixels are its.

        Parameters
        ----------
        labels : array_like of int, (n, H, W)
            0 for the background, k for object k - 1, as ``Scenes.labels``.
        n_objects : int, optional
            The largest label by default.

        Returns
        -------
        ndarray of int, (n, n_objects)
            -1 for an object without a pixel.
        """
        labels = np.asarray(labels)
        if labels.shape != self.labels.shape or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels must be integers of shape {self.labels.shape}; got {labels.dtype} of "
                f"shape {labels.shape}."
            )
        n_objects = int(labels.max()) if n_objects is None else n_objects
        experts = np.full((len(labels), n_objects), -1)
        for k in range(n_objects):
            mass = (self.region * (labels == k + 1)[:, None]).sum(axis=(2, 3))
            seen = np.nonzero(mass.any(axis=1))[0]
            experts[seen, k] = self.winner[seen, mass[seen].argmax(axis=1)]
        return experts

    def __len__(self):
        return len(self.winner)

    def __repr__(self):
        n, n_steps, height, width = self.region.shape
        return f"Decomposition({n} images of {height} x {width} pixels, {n_steps} steps)"


def check_images(images, name="images", size=None):
    """Return images (N, H, W, 3) as uint8, or as float32 in [0, 1].

    >>> check_images(np.zeros((2, 8, 8)))
    Traceback (most recent call last):
    ValueError: images must have shape (N, H, W, 3); got (2, 8, 8). ...
    """
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8):
        images = check_array(images, name).astype(np.float32)
        if images.min() < 0 or images.max() > 1:
            raise ValueError(
                f"{name} must have values in [0, 1]; got {images.min():.4g} to "
                f"{images.max():.4g}. Divide by 255, or pass uint8."
            )
    if images.ndim != 4 or images.shape[3] != 3 or images.size == 0:
        raise ValueError(
            f"{name} must have shape (N, H, W, 3); got {images.shape}. Pass image[None] for one "
            "image; repeat gray images to three channels."
        )
    if size is not None and images.shape[1:3] != tuple(size):
        raise ValueError(
            f"{name} must have {size[0]} x {size[1]} pixels, as those of the fit; got "
            f"{images.shape[1]} x {images.shape[2]}. Resize them, or fit another model."
        )
    return np.ascontiguousarray(images)


def check_regions(regions, images, n_steps):
    """Return regions that are given, bool (N, T, H, W), front first."""
    regions = np.asarray(regions)
    shape = (len(images), n_steps, *images.shape[1:3])
    if regions.shape != shape or regions.dtype != bool:
        raise ValueError(
            f"regions must be bool of shape {shape}, one for each image and step; got "
            f"{regions.dtype} of shape {regions.shape}."
        )
    return regions

"""Random patches of images: what filters are learned from, and textures are compared by."""

import numpy as np

from .._random import check_rng
from .._validation import check_image, check_int, check_size


def sample_patches(images, size, n, rng=None, *, where=None):
    """Draw rectangular patches at random places of a set of images.

    All places of all images are equally likely, so large images give more patches. Patches may
    overlap and repeat.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, C) arrays, or stack (n_images, H, W, C)
        Sizes may differ, channel counts may not; uint8 is divided by 255. A single image goes in a
        list: ``[image]``.
    size : int or (height, width)
        Of a patch, in pixels.
    n : int
        Number of patches.
    rng : None, int or numpy.random.Generator
    where : sequence of (H, W) arrays of bool, optional
        One for each image: only patches that lie wholly where it is true are drawn.

    Returns
    -------
    ndarray, (n, height, width, C)
        float64 if any image is, else float32 if all images are float32 or uint8.

    Raises
    ------
    TypeError
        A single image instead of a sequence, or arguments of the wrong kind.
    ValueError
        An image smaller than the patch, no images, different channel counts, NaN, no place that
        ``where`` allows.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2017, section 2 (patches for PCA and k-means), Figs. 6 and 7.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures.patches import sample_patches
    >>> image = np.arange(30.0).reshape(5, 6)
    >>> patches = sample_patches([image], 2, 100, rng=0)
    >>> patches.shape
    (100, 2, 2, 1)
    >>> np.unique(patches[:, 1, 1] - patches[:, 0, 0])  # one row down, one column to the right
    array([7.])
    """
    images = check_images(images)
    size = check_size(size)
    n = check_int(n, "n", minimum=1)
    rng = check_rng(rng)
    for i, image in enumerate(images):
        if image.shape[0] < size[0] or image.shape[1] < size[1]:
            raise ValueError(
                f"images[{i}] must be at least {size[0]} x {size[1]} pixels, the size of a patch; "
                f"got {image.shape[0]} x {image.shape[1]}. Use smaller patches, or leave it out."
            )

    masks = _check_masks(where, images)
    allowed = [_wholly(mask, size) for mask in masks]
    n_places = [np.count_nonzero(a) for a in allowed]
    last = np.cumsum(n_places)
    if last[-1] == 0:
        raise ValueError(
            f"where must leave room for a patch; got no place for {size[0]} x {size[1]} pixels. "
            "Use smaller patches."
        )
    place = rng.integers(last[-1], size=n)
    owner = np.searchsorted(last, place, side="right")
    patches = np.empty((n, *size, images[0].shape[2]), np.result_type(*images))
    for i in np.unique(owner):
        mine = owner == i
        row, column = np.argwhere(allowed[i])[place[mine] - (last[i] - n_places[i])].T
        patches[mine] = np.moveaxis(_windows(images[i], size)[row, column], 1, -1)
    return patches


def _windows(image, size):
    return np.lib.stride_tricks.sliding_window_view(image, size, axis=(0, 1))


def _wholly(mask, size):
    """Top left corners of the windows in which the mask is true everywhere."""
    columns = _windows(mask, (size[0], 1)).all(axis=(2, 3))
    return _windows(columns, (1, size[1])).all(axis=(2, 3))


def _check_masks(where, images):
    """One mask for each image; by default they are true everywhere."""
    if where is None:
        return [np.broadcast_to(True, image.shape[:2]) for image in images]
    where = [np.asarray(mask) for mask in where]
    if len(where) != len(images):
        raise ValueError(
            f"where must hold one mask for each of {len(images)} image(s); got {len(where)}."
        )
    for i, (mask, image) in enumerate(zip(where, images)):
        if mask.dtype != bool or mask.shape != image.shape[:2]:
            raise ValueError(
                f"where[{i}] must be an array of bool of the image's shape {image.shape[:2]}; "
                f"got {mask.dtype} of shape {mask.shape}."
            )
    return where


def check_images(images, name="images"):
    """Return a sequence or stack of images as a list of ``(H, W, C)`` arrays with one C."""
    if isinstance(images, np.ndarray) and images.ndim < 4 and images.dtype != object:
        raise TypeError(
            f"{name} must be a sequence of images or a stack (n, H, W, C); got one array of shape "
            f"{images.shape}. Pass a single image as [image]."
        )
    try:
        images = list(images)
    except TypeError:
        raise TypeError(
            f"{name} must be a sequence of images; got {type(images).__name__}."
        ) from None
    if not images:
        raise ValueError(f"{name} must hold at least one image; got none.")
    images = [check_image(image, f"{name}[{i}]") for i, image in enumerate(images)]
    counts = sorted({image.shape[2] for image in images})
    if len(counts) > 1:
        raise ValueError(
            f"{name} must all have the same number of channels; got {counts}. Convert them first."
        )
    return images

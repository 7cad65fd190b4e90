"""Arguments that several parts of the twin take."""

import numpy as np

from .._validation import check_array


def check_image_ids(image_ids, n_trials):
    """Image ids (n_trials,) as int64."""
    ids = np.asarray(image_ids)
    if ids.dtype.kind not in "iu" or ids.shape != (n_trials,):
        raise ValueError(
            f"image_ids must be {n_trials} integers, one for each trial; got dtype {ids.dtype} and "
            f"shape {ids.shape}."
        )
    return ids.astype(np.int64)


def check_images(images, size):
    """Images (n_images, H, W) of that size."""
    images = check_array(images, "images", ndim=3, axes="(n_images, H, W)")
    if images.shape[1:] != tuple(size):
        raise ValueError(f"images must be of {size[0]} x {size[1]}; got shape {images.shape}.")
    return images

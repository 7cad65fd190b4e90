"""Photographs from and to files."""

import os
from pathlib import Path

import numpy as np

from ._files import replacing

WRITABLE = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def load_image(path):
    """Read a photograph as float32 RGB in [0, 1], ``(H, W, 3)``.

    Gray images are repeated to three channels, transparency is dropped, 16-bit images are scaled.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; a file that is not an image.
    """
    import imageio.v3 as iio

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        image = np.asarray(iio.imread(path))
    except Exception as error:
        raise ValueError(f"{path} cannot be read as an image.") from error
    if image.ndim == 4:  # an animation: its first frame
        image = image[0]
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.dtype.kind not in "uf" or image.size == 0:
        raise ValueError(f"{path} is not a photograph: shape {image.shape}, {image.dtype}.")
    n_colors = 1 if image.shape[2] < 3 else 3
    scale = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    return np.repeat(image[:, :, :n_colors].astype(np.float32) / scale, 3 // n_colors, axis=2)


def save_image(path, image):
    """Write an image (H, W) or (H, W, C) in [0, 1] as 8 bits; the file is whole or not there."""
    import imageio.v3 as iio

    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    with replacing(path) as temporary:
        iio.imwrite(temporary, pixels, extension=Path(path).suffix.lower())


def check_writable(path):
    """Refuse a target that cannot be written, before any work is done."""
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise ValueError(f"{path} must end in one of {', '.join(WRITABLE)}.")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: is its folder there, and yours?")


"""Photographs from and to files."""

import secrets
from pathlib import Path

import numpy as np

from ._files import replacing

WRITABLE = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def load_image(path):
    """Read a photograph as float32 RGB in [0, 1], ``(H, W, 3)``.

    Gray images are repeated to three channels, transparency is dropped, and a camera's note of how
    it was held is obeyed. Of an animation, the first frame.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; a file that is not an image.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        with Image.open(path) as photo:
            photo = ImageOps.exif_transpose(photo)
            if photo.mode[0] in "IF":  # 16 bits or floats, gray
                image, scale = np.asarray(photo, np.float32), 1 if photo.mode == "F" else 65535
            else:
                image, scale = np.asarray(photo.convert("RGB"), np.float32), 255
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image.") from error
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    return image / np.float32(scale)


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
    try:
        if path.is_dir():
            raise IsADirectoryError
        path.exists()  # an OSError if the name is too long
        trial = path.with_name(f".{secrets.token_hex(6)}.tmp")
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise ValueError(f"{path} cannot be written: is its folder there, and yours?") from error


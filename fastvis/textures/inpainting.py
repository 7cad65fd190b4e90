"""Filling a part of an image with the texture around it."""

import numpy as np

from .._random import check_rng
from .._validation import check_choice, check_float, check_image, check_int, check_size
from .arguments import (
    OutputLike,
    as_image,
    check_bounds,
    check_extent,
    check_model,
    check_options,
    default_model,
)
from .optimize import minimize_pixels
from .patches import sample_patches


def inpaint(
    image,
    mask,
    model=None,
    *,
    reference=None,
    statistics="image",
    n_patches=500,
    patch_size=None,
    init=None,
    max_iter=2000,
    bounds=(0.0, 1.0),
    tol=0.0,
    target_loss=0.0,
    rng=None,
    progress=False,
    callback=None,
):
    """Fill the masked pixels of an image so that its Gram matrix matches the texture's.

    Parameters
    ----------
    image : array_like, (H, W, C) or (H, W); or torch.Tensor, (C, H, W) or (1, C, H, W)
        Values within ``bounds``; uint8 is divided by 255.
    mask : array_like of bool, (H, W)
        True where the image is to be filled. All other pixels keep their exact values.
    model : GramModel or VGGLoss, optional
        As for `synthesize`.
    reference : array_like, optional
        The texture that the statistics are taken from; ``image`` itself by default.
    statistics : {"image", "patches"}
        "image": the Gram matrix of the whole reference. If that is ``image`` itself, what lies
        under the mask counts (Fig. 7, 'regular': the Gram matrix of the patch that the frame was
        cut from). "patches": the mean Gram matrix of random patches of the reference (Fig. 7,
        'estimate'); if that is ``image`` itself, of patches that the mask does not touch: the
        choice for a real hole.
    n_patches : int
        Number of patches for "patches".
    patch_size : int or (height, width), optional
        By default the image's size with a ``reference``, else half of it; a frame (`frame_mask`)
        leaves no room for that, and needs a reference or a smaller size.
    init : array_like, optional
        Values to start from in the masked pixels; uniform noise within ``bounds`` by default.
    max_iter, bounds, tol, target_loss, progress, callback
        As for `synthesize`.
    rng : None, int or numpy.random.Generator
        Draws the default model's filters, the patches, and the noise, in this order.

    Returns
    -------
    SynthesisResult
        ``image`` of the kind, dtype and number of dimensions of the argument (float32 for uint8:
        unmasked pixels are exactly ``image / 255``).

    Raises
    ------
    ValueError
        A mask of another size, an empty mask, statistics that cannot be taken.
    TypeError
        A mask that is not boolean.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2017, appendix, Fig. 7. The paper does not say whether the frame is
    held fixed while the inside is optimized or only the start: here it is held fixed.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import FilterBank, GramModel, inpaint
    >>> image = np.random.default_rng(0).random((16, 16))
    >>> mask = np.zeros((16, 16), bool)
    >>> mask[4:12, 4:12] = True
    >>> model = GramModel(FilterBank.random(sizes=(3,), n_maps=8, channels=1, rng=0))
    >>> result = inpaint(image, mask, model, max_iter=20, rng=1)
    >>> np.array_equal(result.image[~mask], image[~mask])
    True
    """
    like = OutputLike(image)
    image, reference, init = as_image(image), as_image(reference), as_image(init)
    bounds = check_bounds(bounds)
    channels = None if check_model(model) is None else model.channels
    image = check_image(image, "image", channels=channels, bounds=bounds)
    check_extent(image.shape, "image")
    mask = check_mask(mask, image)
    if init is not None:
        init = check_image(init, "init", channels=image.shape[2], bounds=bounds)
        if init.shape != image.shape:
            raise ValueError(f"init must have the image's shape {image.shape}; got {init.shape}.")
    if reference is not None:
        reference = check_image(reference, "reference", channels=image.shape[2], bounds=bounds)
        reference = reference.astype(image.dtype, copy=False)
    check_choice(statistics, "statistics", ("image", "patches"))
    n_patches = check_int(n_patches, "n_patches", minimum=1)
    options = check_options(max_iter, tol, target_loss, progress, callback)
    rng = check_rng(rng)

    texture = image if reference is None else reference
    if model is None:
        of_hole = reference is None and statistics == "patches"  # is left out of everything
        name = "image" if reference is None else "reference"
        model = default_model(image[~mask] if of_hole else texture, rng, name)
    model = like.model(model)
    if statistics == "patches":
        if patch_size is None:
            patch_size = image.shape[:2] if reference is not None else _half(image)
        patch_size = check_size(patch_size, "patch_size")
        clear = None if reference is not None else [~mask]
        try:
            texture = sample_patches([texture], patch_size, n_patches, rng, where=clear)
        except ValueError as error:
            place = "in the reference" if clear is None else "beside the mask"
            raise ValueError(
                f"patch_size must leave room for patches {place}; got {patch_size}. "
                "Pass a smaller one, or a larger reference."
            ) from error
    target = model.target(texture)

    start = image.copy()
    noise = rng.uniform(*bounds, (np.count_nonzero(mask), image.shape[2]))
    start[mask] = noise if init is None else init[mask]
    result = minimize_pixels(
        lambda x: model.loss_and_grad(x, target), start, free=mask, bounds=bounds, **options
    )
    return like.result(result)


def frame_mask(size, width):
    """The inside of a frame whose width is a fraction of the image: the mask of Fig. 7.

    Parameters
    ----------
    size : int or (height, width)
    width : float
        Of the frame, as a fraction of height and width, e.g. 0.1, 0.15, 0.2; between 0 and 0.5.

    Returns
    -------
    ndarray of bool, (height, width)
        True inside.

    Examples
    --------
    >>> frame_mask(6, 0.2).astype(int)[1]
    array([0, 1, 1, 1, 1, 0])
    """
    height, width_px = check_size(size)
    width = check_float(width, "width", minimum=0, maximum=0.5, strict=True)
    rows, columns = (max(1, round(width * n)) for n in (height, width_px))
    mask = np.zeros((height, width_px), bool)
    mask[rows : height - rows, columns : width_px - columns] = True
    if not mask.any():
        raise ValueError(f"size must leave pixels inside the frame; got {height} x {width_px}.")
    return mask


def check_mask(mask, image):
    """Return the mask as an array of bool (H, W) with at least one true pixel."""
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(
            f"mask must be boolean, True where the image is to be filled; got dtype {mask.dtype}. "
            "Pass mask > 0."
        )
    if mask.shape != image.shape[:2]:
        raise ValueError(
            f"mask must have the image's size {image.shape[:2]}; got shape {mask.shape}."
        )
    if not mask.any():
        raise ValueError("mask must be true somewhere; got no pixel to fill.")
    return mask


def _half(image):
    return tuple(max(2, n // 2) for n in image.shape[:2])

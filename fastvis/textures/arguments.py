"""What `synthesize` and `inpaint` do to their arguments, and the form in which results go back."""

from dataclasses import replace

import numpy as np

from .._validation import check_float, check_int
from .bank import FilterBank
from .model import GramModel


def check_model(model):
    """Refuse what is no texture model."""
    if isinstance(model, type) or (model is not None and not hasattr(model, "loss_and_grad")):
        raise TypeError(
            f"model must be a GramModel or VGGLoss; got {type(model).__name__}. "
            "Pass GramModel(bank) for a bank of filters."
        )
    return model


def default_model(pixels, rng, name="reference", n_maps=128, padding="zero"):
    """The paper's Random-Multiscale bank, less the channel means of pixels (..., C)."""
    pixels = pixels.reshape(-1, pixels.shape[-1])
    if not np.ptp(pixels, axis=0).any():
        raise ValueError(f"{name} must not be constant: there is no texture to match.")
    bank = FilterBank.random(n_maps=n_maps, channels=pixels.shape[1], rng=rng)
    return GramModel(bank, padding=padding, mean=pixels.mean(axis=0, dtype=np.float64))


def check_bounds(bounds):
    """Return ``(low, high)``, two floats in this order."""
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise ValueError(f"bounds must be (low, high); got {bounds!r}.") from None
    low, high = check_float(low, "bounds[0]"), check_float(high, "bounds[1]")
    if low >= high:
        raise ValueError(f"bounds must be (low, high) with low < high; got {bounds!r}.")
    return low, high


def check_extent(shape, name):
    """Refuse images without an extent: one pixel has no texture."""
    if min(shape[:2]) < 2:
        raise ValueError(f"{name} must be at least 2 x 2 pixels; got {shape[0]} x {shape[1]}.")


def check_options(max_iter, tol, target_loss, progress, callback):
    """Return the options of `minimize_pixels` as a dictionary."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable; got {type(callback).__name__}.")
    return {
        "max_iter": check_int(max_iter, "max_iter", minimum=0),
        "tol": check_float(tol, "tol", minimum=0),
        "target_loss": check_float(target_loss, "target_loss", minimum=0),
        "progress": bool(progress),
        "callback": callback,
    }


# Images in the form in which they came


def is_tensor(image):
    """Whether this is a torch.Tensor, without importing torch."""
    return type(image).__module__.split(".")[0] == "torch"


def as_image(image):
    """A tensor (C, H, W) or (1, C, H, W) as an array (H, W, C); anything else as it is."""
    if not is_tensor(image):
        return image
    from ..torch._gram_device import to_image

    return to_image(image)


class OutputLike:
    """Gives results the kind of array that the reference was; moves the model to its device."""

    def __init__(self, reference):
        self.reference = reference

    def model(self, model):
        if not (is_tensor(self.reference) and self.reference.is_cuda):
            return model
        from ..torch._gram_device import on_device

        return on_device(model, self.reference)

    def result(self, result):
        image = result.image
        if is_tensor(self.reference):
            from ..torch._gram_device import like

            image = like(image, self.reference)
        elif np.ndim(self.reference) == 2:
            image = image[:, :, 0]
        return replace(result, image=image)

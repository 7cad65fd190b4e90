"""One way to ask any model for responses to stimuli.

A model is an `EncodingModel`, a `torch.nn.Module` that takes tensors (n, 1, H, W), or a callable
that takes arrays (n, H, W). Stimuli are z-scored luminance; responses (n, n_neurons), at least 0.
"""

import sys
from contextlib import contextmanager

import numpy as np

from .._validation import check_int

BATCH = 256  # images


class Responder:
    """A model, called with float32 arrays (n, H, W); gives float64 arrays (n, n_neurons).

    Parameters
    ----------
    model : EncodingModel, torch.nn.Module or callable
        Modules are asked in evaluation mode, and left in the one they were in.
    batch_size : int
        Images at once.

    Raises
    ------
    TypeError
        Of another kind; responses that are no numbers.
    ValueError
        Responses of another shape, or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> model = Responder(lambda images: images.sum((1, 2))[:, None])
    >>> model(np.ones((3, 2, 2)))
    array([[4.],
           [4.],
           [4.]])
    """

    def __init__(self, model, batch_size=BATCH):
        self.batch_size = check_int(batch_size, "batch_size", minimum=1)
        self.model = model
        self.module = as_module(model)
        if self.module is None and not callable(model):
            raise TypeError(
                "model must be a fitted EncodingModel, a torch.nn.Module or a callable; got "
                f"{type(model).__name__}."
            )

    def __call__(self, images):
        images = np.asarray(images, np.float32)
        ask = self._ask_callable if self.module is None else self._ask_module
        starts = range(0, len(images), self.batch_size)
        return np.concatenate([ask(images[i : i + self.batch_size]) for i in starts])

    def own(self, images, neurons):
        """Response (n,) of one neuron to each image: ``neurons`` (n,) says of which."""
        images = np.asarray(images, np.float32)
        out = np.empty(len(images))
        for i in range(0, len(images), self.batch_size):
            part = slice(i, i + self.batch_size)
            responses = self(images[part])
            out[part] = responses[np.arange(len(responses)), neurons[part]]
        return out

    def n_neurons(self, size):
        """How many neurons respond to images of this size (H, W)."""
        return self(np.zeros((1, *size), np.float32)).shape[1]

    def _ask_callable(self, images):
        return check_responses(self.model(images), len(images))

    def _ask_module(self, images):
        import torch

        first = next(self.module.parameters(), torch.zeros(()))
        with evaluating(self.module), torch.no_grad():
            responses = self.module(torch.from_numpy(images)[:, None].to(first))
        return check_responses(responses.double().cpu().numpy(), len(images))


def as_module(model):
    """The `torch.nn.Module` of a model, or None."""
    module = getattr(model, "module_", model)
    torch = sys.modules.get("torch")  # without it, nothing is a module
    return module if torch is not None and isinstance(module, torch.nn.Module) else None


@contextmanager
def evaluating(module):
    """In evaluation mode, and afterwards each part in the one it was in."""
    training = {part: part.training for part in module.modules()}
    try:
        yield module.eval()
    finally:
        for part, mode in training.items():
            part.training = mode


def check_responses(responses, n):
    """What a model returned for n images, as float64."""
    responses = np.asarray(responses)
    if responses.dtype.kind not in "fiub":
        raise TypeError(f"model must return numbers; got dtype {responses.dtype}.")
    if responses.ndim != 2 or len(responses) != n:
        raise ValueError(
            f"model must return ({n}, n_neurons) for {n} images; got shape {responses.shape}."
        )
    if not np.isfinite(responses).all():
        raise ValueError("model must return finite responses; got NaN or infinity.")
    return responses.astype(np.float64)

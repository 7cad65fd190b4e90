"""Responses of chosen neurons to patches of their own, with gradients; imports torch.

A neuron of our own model responds only to the pixels that its readout's window and the core's
kernels reach. Of these it is a small network: convolutions without padding, and, as the last
one has nothing after it but the readout, one product with both together. Hidden features beyond the
image are 0, as padding has them, so that neurons at the border get what the whole model gives.
Neurons of any other module are shown whole images.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from .._validation import check_size
from .model import is_plain
from .responding import Responder, as_module, evaluating

LEAST_WEIGHT = 0.01  # of a place, in units of a neuron's largest: others do not make its window
SHARE = 0.999  # of the remaining ones that a window holds
PIXELS = 2**18  # of the patches of a batch: about a gigabyte with 128 feature maps


@dataclass(frozen=True, eq=False)
class View:
    """Neurons, and the patch of the image that each of them is shown.

    Parameters
    ----------
    neurons : ndarray of int, (n,)
    corners : ndarray of int, (n, 2)
        Row and column of the image at a patch's first pixel; negative where it begins outside.
    shape : tuple (h, w)
        Of patches.
    size : tuple (H, W)
        Of the image.
    respond : callable
        Takes patches (m, h, w), which are 0 outside of the image, and for each the index (m,) of
        one of the n neurons; gives responses (m,), tensors all.
    like : Tensor
        Of the model's dtype and device.
    """

    neurons: np.ndarray
    corners: np.ndarray
    shape: tuple
    size: tuple
    respond: object
    like: torch.Tensor

    def inside(self):
        """1 where a pixel lies in the image, 0 outside: tensor (n, h, w)."""
        return inside(self.corners, self.shape, self.size).to(self.like)

    def images(self, patches):
        """Images (n, H, W), 0 but for the patches (n, h, w): arrays."""
        out = np.zeros((len(patches), *self.size), np.float32)
        starts = np.maximum(self.corners, 0)
        stops = np.minimum(self.corners + self.shape, self.size)
        for image, patch, corner, (top, left), (bottom, right) in zip(
            out, patches, self.corners, starts, stops
        ):
            y, x = corner
            image[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]
        return out


class ReceptiveFields:
    """What the neurons of a model see of an image.

    Parameters
    ----------
    model : EncodingModel or torch.nn.Module
    size : int or tuple (H, W), optional
        Of images; taken from our own models.
    crop : bool
        Show patches to neurons of our own models; others are shown whole images in any case.

    Attributes
    ----------
    module : torch.nn.Module
    size : tuple (H, W)
    n_neurons : int
    reach : int or None
        Side of what a feature of our core depends on.
    complete : ndarray of bool, (n_neurons,)
        Whether patches, on an image that is 0 elsewhere, say all that a neuron responds to.

    Raises
    ------
    TypeError
        A model without gradients.
    ValueError
        A missing size, or not that of the model.

    Examples
    --------
    >>> import torch
    >>> from fastvis.twin.receptive_fields import ReceptiveFields
    >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 3))
    >>> fields = ReceptiveFields(module, (4, 5))
    >>> view = fields.view([0, 2])
    >>> x = torch.randn(2, 4, 5)
    >>> torch.equal(view.respond(x, torch.tensor([1, 0])), module(x)[[0, 1], [2, 0]])
    True
    """

    def __init__(self, model, size=None, crop=True):
        self.module = as_module(model)
        if self.module is None:
            raise TypeError(
                "model must be a fitted EncodingModel or a torch.nn.Module, as most exciting "
                f"images take gradients; got {type(model).__name__}."
            )
        if not isinstance(crop, bool):
            raise TypeError(f"crop must be True or False; got {crop!r}.")
        is_ours = is_plain(self.module)
        self.reach = self.module.core.receptive_field if is_ours else None
        self.size = self._check_size(getattr(model, "image_size_", None), size, is_ours)
        self.n_neurons = Responder(self.module).n_neurons(self.size)
        self.like = next(self.module.parameters(), torch.zeros(())).detach().flatten()[:0]
        self._windows, self.complete = None, np.ones(self.n_neurons, bool)
        if is_ours and crop:
            *self._windows, self.complete = _windows(self._places())

    def _check_size(self, own, size, is_ours):
        if is_ours:
            shape = np.array(self.module.readouts[0].spatial_weights().shape[1:])
            own = tuple((shape + (self.reach - 1) * self._is_valid()).tolist())
        if size is None and own is None:
            raise ValueError("size must be given, (H, W) of images, for a model that is not ours.")
        size = own if size is None else check_size(size)
        if own is not None and size != tuple(own):
            raise ValueError(f"size must be {tuple(own)}, as the model's images; got {size}.")
        return size

    def _is_valid(self):
        return self.module.core.arguments()["padding"] == "valid"

    def _places(self):
        """Weights of places, (n_neurons, rows, columns) of the features."""
        with torch.no_grad():
            return torch.cat([readout.spatial_weights() for readout in self.module.readouts])

    @contextmanager
    def frozen(self):
        """Evaluate the module, and take no gradients by its parameters; leave all as it was."""
        learned = [(parameter, parameter.requires_grad) for parameter in self.module.parameters()]
        try:
            with evaluating(self.module.requires_grad_(False)):
                yield
        finally:
            for parameter, was_learned in learned:
                parameter.requires_grad_(was_learned)

    def chunks(self, neurons, copies, batch_size=None):
        """Rows of an array of neurons, in lists of such as have patches of one shape.

        As many at once as ``batch_size`` says, or as pixels allow if each patch is there so many
        times.
        """
        shapes = np.tile(self.size, (len(neurons), 1))
        if self._windows is not None:
            shapes = self._windows[1][neurons] + self.reach - 1
        kinds, kind = np.unique(shapes, axis=0, return_inverse=True)
        out = []
        for k, shape in enumerate(kinds):
            rows = np.flatnonzero(kind.ravel() == k)
            n = batch_size or max(1, PIXELS // (int(shape.prod()) * copies))
            out += [rows[i : i + n] for i in range(0, len(rows), n)]
        return out

    def view(self, neurons):
        """The `View` of neurons that have patches of one shape."""
        neurons = np.asarray(neurons)
        if self._windows is None:
            corners, shape = np.zeros((len(neurons), 2), int), self.size
            respond = _Whole(self.module, torch.from_numpy(neurons).to(self.like.device))
        else:
            corners, sides = (values[neurons] for values in self._windows)
            patch_corners = corners if self._is_valid() else corners - (self.reach - 1) // 2
            respond = self._crops(neurons, corners, sides[0], patch_corners)
            corners, shape = patch_corners, tuple((sides[0] + self.reach - 1).tolist())
        return View(neurons, corners, shape, self.size, respond, self.like)

    @torch.no_grad()
    def _crops(self, neurons, corners, side, patch_corners):
        *hidden, last = self.module.core.export()[::2]
        places = self._places()
        windows = torch.stack([
            places[n, y : y + side[0], x : x + side[1]] for n, (y, x) in zip(neurons, corners)
        ])  # fmt: skip
        readouts = self.module.readouts
        weights = torch.cat([readout.feature_weights() for readout in readouts])[neurons]
        biases = torch.cat([readout.biases for readout in readouts])[neurons]
        kernels = torch.einsum("nc,cdij->ndij", weights, last.weight)
        # drive = sum_yx window_yx sum_ij kernel_ij hidden_{y+i, x+j}: both together, at y+i, x+j
        n = len(neurons)
        together = functional.conv_transpose2d(windows[None], kernels, groups=n)[0]
        biases = biases + (weights @ last.bias) * windows.sum((1, 2))
        shape = side + self.reach - 1
        in_image = inside(patch_corners, shape, self.size).to(self.like)
        hidden = [(layer.weight.detach(), layer.bias.detach()) for layer in hidden]
        return _Crops(hidden, together.unflatten(0, (n, -1)), biases, in_image)


def inside(corners, shape, size):
    """1 where pixels of patches lie in an image of this size, else 0: tensor (n, h, w)."""
    rows, columns = (
        (corners[:, i, None] + np.arange(shape[i]) >= 0)
        & (corners[:, i, None] + np.arange(shape[i]) < size[i])
        for i in (0, 1)
    )
    return torch.from_numpy((rows[:, :, None] & columns[:, None]).astype(np.float32))


class _Whole:
    """Responses of any module to whole images."""

    def __init__(self, module, neurons):
        self.module, self.neurons = module, neurons

    def __call__(self, patches, which):
        return self.module(patches[:, None]).gather(1, self.neurons[which, None])[:, 0]


class _Crops:
    """Responses of our own model to patches about receptive fields."""

    def __init__(self, hidden, weights, biases, in_image):
        self.hidden, self.weights, self.biases = hidden, weights, biases
        self.in_image = None if in_image.all() else in_image[:, None]

    def __call__(self, patches, which):
        x = patches[:, None]
        for kernels, shift in self.hidden:
            x = functional.softplus(functional.conv2d(x, kernels, shift))
            if self.in_image is not None:
                x = x * _centered(self.in_image[which], x.shape[2:])
        drives = (x.flatten(1)[:, None] @ self.weights[which].flatten(1)[:, :, None])[:, 0, 0]
        return functional.softplus(drives + self.biases[which])


def _centered(x, shape):
    """The middle (..., h, w) of x (..., H, W)."""
    top, left = ((x.shape[i - 2] - shape[i]) // 2 for i in (0, 1))
    return x[..., top : top + shape[0], left : left + shape[1]]


def _windows(places):
    """The smallest square of each neuron that holds its weights of places.

    Squares that are larger than the features have their height, or width.

    Returns
    -------
    corners, sides : ndarray of int, (n_neurons, 2)
    complete : ndarray of bool, (n_neurons,)
        Whether no weight is outside.
    """
    every = places.double().cpu().numpy()
    weights = np.where(every >= LEAST_WEIGHT * every.max((1, 2), keepdims=True), every, 0.0)
    sums = np.pad(weights.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))  # of all before a place
    height, width = weights.shape[1:]
    corners, sides = np.zeros((2, len(weights), 2), int)
    todo = np.arange(len(weights))
    for side in range(1, max(height, width) + 1):
        h, w = min(side, height), min(side, width)
        s = sums[todo]
        held = s[:, h:, w:] - s[:, :-h, w:] - s[:, h:, :-w] + s[:, :-h, :-w]
        best = held.reshape(len(todo), -1).argmax(1)
        corners[todo] = np.stack(np.unravel_index(best, held.shape[1:]), axis=1)
        sides[todo] = h, w
        enough = held.reshape(len(todo), -1)[np.arange(len(todo)), best] >= SHARE * s[:, -1, -1]
        todo = todo[~enough]
        if not len(todo):
            break
    complete = [
        np.count_nonzero(every[n, y : y + h, x : x + w]) == np.count_nonzero(every[n])
        for n, ((y, x), (h, w)) in enumerate(zip(corners, sides))
    ]
    return corners, sides, np.array(complete)

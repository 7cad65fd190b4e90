"""Texture distance in the features of VGG-19; imports torch.

The weights are a file that the user has: fastvis neither ships nor downloads them.
"""

import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

from fastvis._validation import check_array, check_choice, check_image

__all__ = ["VGGLoss"]

# Where torchvision's vgg19.features keeps the convolutions; the last stage ends at conv5_1 here.
_CONVOLUTIONS = {
    "conv1_1": 0, "conv1_2": 2,
    "conv2_1": 5, "conv2_2": 7,
    "conv3_1": 10, "conv3_2": 12, "conv3_3": 14, "conv3_4": 16,
    "conv4_1": 19, "conv4_2": 21, "conv4_3": 23, "conv4_4": 25,
    "conv5_1": 28,
}  # fmt: skip
_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_POOLING = {"average": F.avg_pool2d, "max": F.max_pool2d}


class VGGLoss:
    """Distance between textures: Gram matrices of VGG-19 features at five depths.

    Parameters
    ----------
    weights : path or mapping
        torchvision's ``vgg19`` state dict: a file written by ``torch.save(model.state_dict(),
        path)`` or by safetensors (told apart by content), or a mapping of tensors or arrays. Keys
        are ``features.0.weight``, ``features.0.bias``, ..., with or without ``features.``; others
        are ignored. Files are read as tensors only (``torch.load(weights_only=True)``); other
        content is refused, not run. The numbers of channels are taken from the weights; the
        topology is VGG-19's.
    pooling : {"average", "max"}
        Of 2 x 2 pixels, stride 2; an odd last row or column is left out. The paper uses average
        pooling; the weights were trained with max pooling.
    normalization : {"layer", "common"}
        "layer": (6) and (7), every layer relative to its own reference Gram matrix. "common": the
        variant in the authors' released code, see Notes.
    layers : sequence of str
        Convolutions, "conv1_1" to "conv5_1", whose Gram matrices are compared, after their ReLU.
    device : str or torch.device
        Where the network runs. Images and results are NumPy arrays all the same.

    Attributes
    ----------
    channels : int
        3: red, green, blue.
    module : torch.nn.Module
        ``(N, 3, H, W)`` tensor in [0, 1] -> list of Gram matrices ``(N, n_l, n_l)``, one a layer,
        differentiable, for a training loop of your own. float32; ``module.double()`` changes only
        this module. The weights are buffers: nothing in it is trained.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the weights are not those of a VGG-19, or an option is unknown.

    Notes
    -----
    Images ``(H, W, 3)`` in [0, 1] (uint8 is divided by 255) are normalized as such weights expect:
    minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225). Convolutions pad with zeros, which
    at the image is the mean color. Gram matrices (1) are divided by the number of positions, so
    that images of different sizes compare. conv5_1 needs at least 16 x 16 pixels.

    "common" is ``1 / L * sum_l mean((H_l - H_l_ref)^2) / sum_l mean(H_l_ref^2)`` with
    ``H_l = F_l F_l^T = M_l G_l``, ``M_l`` the number of positions of layer l in the image that is
    compared. The released code has both images of one size, 200 x 200; the formula is the same
    whenever the two sizes are equal. ``M_l^2`` falls 16-fold at every pooling, which gives the
    first layers more weight. Values printed in figure 4 were made with weights rescaled to a mean
    activation of one, and cannot be matched with torchvision's.

    Arithmetic is in the image's dtype, sums over Gram matrices in float64. For another number of
    threads or another device, values agree to rounding, not to the byte; on CUDA, torch's TF32
    setting for convolutions applies.

    References
    ----------
    Ustyuzhaninov, Brendel, Gatys, Bethge, "What does it take to generate natural textures?", ICLR
    2017, section 5, equations (1), (6), (7). The text has a Gram matrix for every convolution
    after a pooling, of which VGG-19 has four up to here, and a sum over five: conv1_1 is the fifth.

    Examples
    --------
    ``VGGLoss("vgg19.pth")(image, reference)`` is (7). With small random weights:

    >>> rng = np.random.default_rng(0)
    >>> weights = {}
    >>> for i in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28):
    ...     weights[f"features.{i}.weight"] = rng.normal(size=(4, 4 if i else 3, 3, 3))
    ...     weights[f"features.{i}.bias"] = np.zeros(4)
    >>> loss = VGGLoss(weights)
    >>> reference, image = rng.random((20, 24, 3)), rng.random((16, 16, 3))
    >>> loss(reference, reference)
    0.0
    >>> loss(image, reference) > 0
    True
    >>> [gram.shape for gram in loss.gram(image)]
    [(4, 4), (4, 4), (4, 4), (4, 4), (4, 4)]
    >>> value, gradient = loss.loss_and_grad(image, loss.target(reference))
    >>> gradient.shape
    (16, 16, 3)
    """

    channels = 3

    def __init__(
        self, weights, pooling="average", *, normalization="layer", layers=_LAYERS, device="cpu"
    ):
        self.pooling = check_choice(pooling, "pooling", tuple(_POOLING))
        self.normalization = check_choice(normalization, "normalization", ("layer", "common"))
        self.layers = _check_layers(layers)
        self.device = torch.device(device)
        self._weights = _read_weights(weights, self.layers, self.device)
        self._networks = {}

    @cached_property
    def module(self):
        """Gram matrices as a `torch.nn.Module`; see Attributes."""
        return self._new_network(torch.float32)

    def gram(self, image):
        """Return the Gram matrices (1) of an image, a tuple of ``(n_l, n_l)``, one a layer.

        Parameters
        ----------
        image : array_like, (H, W, 3)
            Values in [0, 1]; the result has its dtype, float32 or float64.

        Raises
        ------
        ValueError
            If the image is not of three channels, too small, not finite or not in [0, 1].
        """
        return self._gram_arrays(self._check_image(image, "image", bounds=(0, 1)))

    def target(self, images):
        """Return what `loss` compares with: the Gram matrices of an image, or their mean.

        Parameters
        ----------
        images : array_like, (H, W, 3) or (N, H, W, 3), or list of (H, W, 3)
            One image, or several whose Gram matrices are averaged; in a list, sizes may differ.

        Returns
        -------
        tuple of arrays, (n_l, n_l)
            One Gram matrix a layer, as from `gram`.
        """
        if not isinstance(images, list | tuple) and np.ndim(images) != 4:
            return self._gram_arrays(self._check_image(images, "images", bounds=(0, 1)))
        if len(images) == 0:
            raise ValueError("images must hold at least one image; got none.")
        dtypes = [  # all checked before any work, one converted at a time
            self._check_image(image, f"images[{i}]", bounds=(0, 1)).dtype
            for i, image in enumerate(images)
        ]
        sums = [np.zeros((n, n)) for n in self._n_maps()]
        for image in images:
            for total, gram in zip(sums, self._gram_arrays(check_image(image))):
                total += gram
        return tuple((total / len(images)).astype(np.result_type(*dtypes)) for total in sums)

    def loss(self, image, target):
        """Return the distance (7) of an image to a target, a float.

        Parameters
        ----------
        image : array_like, (H, W, 3)
            Values outside [0, 1] are allowed here, since optimizers may pass through them.
        target : tuple of arrays, (n_l, n_l)
            From `target` or `gram`.

        Raises
        ------
        ValueError
            If the image or the target does not fit the network, or if a reference Gram matrix
            that (6) divides by is all zero.
        """
        image = self._check_image(image, "image")
        target = self._check_target(target)
        with torch.no_grad():
            return self._distance(torch.tensor(image, device=self.device), target).item()

    def loss_and_grad(self, image, target):
        """Return the distance (7), a float, and its gradient, ``(H, W, 3)`` of the image's dtype.

        Parameters and errors as for `loss`.
        """
        image = self._check_image(image, "image")
        target = self._check_target(target)
        with torch.enable_grad():
            pixels = torch.tensor(image, device=self.device, requires_grad=True)
            loss = self._distance(pixels, target)
            (grad,) = torch.autograd.grad(loss, pixels)
        return loss.item(), np.ascontiguousarray(grad.cpu().numpy())

    def __call__(self, image, reference):
        """Return the distance (7) of an image to a reference, a float; sizes may differ."""
        return self.loss(image, self.target(reference))

    def synthesize(self, reference, **kwargs):
        """Return `fastvis.textures.synthesize` of the reference with this model."""
        from fastvis.textures import synthesize  # not at the top: synthesis and models are peers

        return synthesize(reference, model=self, **kwargs)

    def inpaint(self, image, mask, **kwargs):
        """Return `fastvis.textures.inpaint` of the image with this model."""
        from fastvis.textures import inpaint

        return inpaint(image, mask, model=self, **kwargs)

    def _new_network(self, dtype):
        # Weights of the file's dtype are shared by all networks, not copied.
        return _VGGFeatures(self._weights, self.layers, self.pooling).to(dtype)

    def _grams(self, pixels):
        """Gram matrices of an ``(H, W, 3)`` tensor, computed in its dtype."""
        if pixels.dtype not in self._networks:
            self._networks[pixels.dtype] = self._new_network(pixels.dtype)
        grams = self._networks[pixels.dtype](pixels.permute(2, 0, 1)[None])
        return [gram[0] for gram in grams]

    def _gram_arrays(self, image):
        with torch.no_grad():
            grams = self._grams(torch.tensor(image, device=self.device))
        return tuple(gram.cpu().numpy() for gram in grams)

    def _distance(self, pixels, target):
        """(7) of an ``(H, W, 3)`` tensor and float64 Gram matrices."""
        errors = [(g.double() - t).square().sum() for g, t in zip(self._grams(pixels), target)]
        energies = [t.square().sum() for t in target]
        if self.normalization == "layer":
            ratios = [error / energy for error, energy in zip(errors, energies)]  # (6)
            return sum(ratios) / len(ratios)  # (7)
        height, width = pixels.shape[:2]
        weights = [
            (_n_positions(layer, height, width) / n) ** 2  # mean(H^2) = (M / n)^2 sum(G^2)
            for layer, n in zip(self.layers, self._n_maps())
        ]
        error = sum(w * e for w, e in zip(weights, errors))
        return error / sum(w * e for w, e in zip(weights, energies)) / len(weights)

    def _n_maps(self):
        return [self._weights[layer][0].shape[0] for layer in self.layers]

    def _check_image(self, image, name, bounds=None):
        checked = check_image(image, name, bounds=bounds)
        if checked.shape[2] != 3:
            raise ValueError(
                f"{name} must have 3 channels (red, green, blue); got shape {np.shape(image)}. "
                "Repeat a gray (H, W) image: np.stack([image] * 3, axis=-1); drop alpha channels."
            )
        _check_extent(*checked.shape[:2], self.layers, name)
        return checked

    def _check_target(self, target):
        """Return the target as float64 tensors."""
        if not isinstance(target, list | tuple) or len(target) != len(self.layers):
            got = f"{len(target)}" if isinstance(target, list | tuple) else type(target).__name__
            raise ValueError(
                f"target must be a tuple of {len(self.layers)} Gram matrices, one a layer; got "
                f"{got}. Pass what .target(reference) returns."
            )
        grams = []
        for layer, n, gram in zip(self.layers, self._n_maps(), target):
            gram = check_array(gram, f"target ({layer})")
            if gram.shape != (n, n):
                raise ValueError(
                    f"target ({layer}) must have shape {(n, n)}; got {gram.shape}. Pass what "
                    ".target(reference) of this model returns."
                )
            if self.normalization == "layer" and not gram.any():
                raise ValueError(
                    f"target ({layer}) must not be all zero, since (6) divides by it: no unit of "
                    "this layer responds to the reference. Leave the layer out of layers=."
                )
            grams.append(torch.tensor(gram, dtype=torch.float64, device=self.device))
        if not any(gram.any() for gram in grams):
            raise ValueError("target must not be all zero. Use another reference.")
        return grams


class _VGGFeatures(nn.Module):
    """``(N, 3, H, W)`` in [0, 1] -> Gram matrices ``(N, n_l, n_l)`` of the rectified features."""

    def __init__(self, weights, layers, pooling):
        super().__init__()
        self.layers = layers
        self.pool = _POOLING[pooling]
        self.names = tuple(weights)
        first = next(iter(weights.values()))[0]
        for name, value in (("mean", _MEAN), ("std", _STD)):
            value = torch.tensor(value, dtype=torch.float64, device=first.device)
            self.register_buffer(name, value.view(3, 1, 1))
        for name, (weight, bias) in weights.items():
            self.register_buffer(f"{name}_weight", weight)
            self.register_buffer(f"{name}_bias", bias)

    def forward(self, images):
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have shape (N, 3, H, W); got {tuple(images.shape)}.")
        _check_extent(*images.shape[2:], self.layers, "images")
        x = (images - self.mean) / self.std
        grams = {}
        for name in self.names:
            if name.endswith("_1") and name != "conv1_1":
                x = self.pool(x, 2)
            weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
            x = F.relu(F.conv2d(x, weight, bias, padding=1), inplace=True)
            if name in self.layers:
                features = x.flatten(2)  # F in (1): (N, n, M)
                grams[name] = features @ features.transpose(1, 2) / features.shape[2]  # (1)
        return [grams[name] for name in self.layers]


def _n_poolings(layer):
    return int(layer[4]) - 1


def _n_positions(layer, height, width):
    """M in (1) for an image of this size."""
    return (height >> _n_poolings(layer)) * (width >> _n_poolings(layer))


def _check_layers(layers):
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    for layer in layers:
        check_choice(layer, "layers", tuple(_CONVOLUTIONS))
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be one or more different convolutions; got {layers}.")
    return layers


def _check_extent(height, width, layers, name):
    deepest = max(layers, key=_n_poolings)
    smallest = 2 ** _n_poolings(deepest)
    if min(height, width) < smallest:
        raise ValueError(
            f"{name} must have at least {smallest} x {smallest} pixels for {deepest}, which "
            f"follows {_n_poolings(deepest)} poolings; got {height} x {width}. Use a larger image, "
            "or fewer layers."
        )


def _read_weights(weights, layers, device):
    """Return {"conv1_1": (weight, bias), ...} up to the last of ``layers``, checked."""
    last = max(_CONVOLUTIONS[layer] for layer in layers)
    indices = {name: index for name, index in _CONVOLUTIONS.items() if index <= last}
    keys = [f"{index}.{kind}" for index in indices.values() for kind in ("weight", "bias")]
    if isinstance(weights, Mapping):
        source = "weights"
        tensors, others = _select(weights, keys)
    else:
        source = f"weights file {str(weights)!r}"
        tensors, others = _read_file(weights, keys)
    missing = [f"features.{key}" for key in keys if key not in tensors]
    if missing:
        raise ValueError(
            f"{source} must be the state dict of torchvision's vgg19; {len(missing)} of its "
            f"{len(keys)} entries are missing, first {missing[0]!r}; other entries found: "
            f"{', '.join(map(repr, others[:3])) or 'none'}. Save vgg19().state_dict(), not vgg16's "
            "or vgg19_bn's and not a dict around it."
        )
    convolutions, n_in = {}, 3
    for name, index in indices.items():
        weight, bias = (
            _check_tensor(tensors[f"{index}.{kind}"], f"features.{index}.{kind}", source, device)
            for kind in ("weight", "bias")
        )
        n_out = weight.shape[0] if weight.ndim else 1
        _check_shape(weight, (n_out, n_in, 3, 3), f"features.{index}.weight", source)
        _check_shape(bias, (n_out,), f"features.{index}.bias", source)
        convolutions[name] = weight, bias
        n_in = n_out
    return convolutions


def _select(state, keys):
    """Return the entries of a state dict named by ``keys``, without prefix, and other names."""
    names = {str(name): name for name in state}
    tensors = {}
    for key in keys:
        for name in (f"features.{key}", key):
            if name in names:
                tensors[key] = state[names.pop(name)]
                break
    return tensors, list(names)


def _read_file(path, keys):
    """Return what `_select` does of a file; only the tensors that are needed stay in memory."""
    path = Path(path)
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"weights file {str(path)!r} {what}. Pass the path of torchvision's vgg19 state dict, "
            "saved by torch.save or safetensors."
        )
    with open(path, "rb") as file:
        start = file.read(9)
    try:
        if start[8:] == b"{":  # safetensors: the header's length, then JSON
            with safe_open(path, framework="pt") as file:
                # safe_open is no mapping, and reads a tensor only when asked for it
                names = {name: name for name in file.keys()}  # noqa: SIM118
                selected, others = _select(names, keys)
                return {key: file.get_tensor(name) for key, name in selected.items()}, others
        state = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except MemoryError:
        raise
    except Exception as error:  # what damaged files raise is not specified
        raise ValueError(
            f"weights file {str(path)!r} could not be read ({type(error).__name__}): it is "
            "damaged or cut short, or holds other things than tensors, which are never loaded. "
            "Write it again by torch.save(model.state_dict(), path) or as safetensors."
        ) from error
    if not isinstance(state, Mapping):
        raise ValueError(
            f"weights file {str(path)!r} must hold a state dict; got {type(state).__name__}. "
            "Write it by torch.save(model.state_dict(), path)."
        )
    return _select(state, keys)


def _check_tensor(value, key, source, device):
    """Return a copy, float32 or float64, of a tensor or array."""
    if not isinstance(value, torch.Tensor):
        value = torch.tensor(check_array(value, f"{source}: {key}"))
    if not value.is_floating_point() or not torch.isfinite(value).all():
        raise ValueError(
            f"{source}: {key} must hold finite floats; got dtype {value.dtype}"
            f"{' with NaN or infinity' if value.is_floating_point() else ''}. Get the file again."
        )
    dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
    return value.detach().to(device=device, dtype=dtype, copy=True)


def _check_shape(tensor, shape, key, source):
    if tensor.shape != shape or tensor.numel() == 0:
        raise ValueError(
            f"{source}: {key} must have shape {tuple(shape)}; got {tuple(tensor.shape)}. "
            "Pass the state dict of torchvision's vgg19."
        )

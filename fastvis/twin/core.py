"""The rotation-equivariant core: a network whose features come in turned copies; imports torch.

Kernels are sums of polar Hermite functions, so a kernel turned by any angle is one with other
coefficients. A layer applies each of its kernels in all orientations; the layers after the first
see the orientations of the one before shifted as their kernel is turned. Channel ``o F + f`` is
feature f, turned counter-clockwise by 2 pi o / O.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .._validation import check_choice, check_int
from .hermite import hermite_basis, rotate_coefficients

EPSILON = 1e-3  # of batch norm
LAPLACIAN = torch.tensor([[0.25, 0.5, 0.25], [0.5, -3.0, 0.5], [0.25, 0.5, 0.25]])
CROSS = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])


class HermiteConv2d(nn.Module):
    """Convolution with kernels of polar Hermite functions in O orientations.

    Parameters
    ----------
    in_features : int
        Channels of the input, if ``in_orientations`` is 1, or features for each orientation.
    n_features : int
        F.
    size : int
        Pixels of a kernel's side, and ranks of its functions.
    n_orientations : int
        O.
    in_orientations : int
        1, for an image; or O.
    padding : {"same", "valid"}
        Zeros around the input, or none.
    """

    def __init__(
        self, in_features, n_features, size, n_orientations, in_orientations=1, padding="same"
    ):
        super().__init__()
        self.in_features, self.n_features = in_features, n_features
        self.size, self.padding = size, padding
        self.n_orientations, self.in_orientations = n_orientations, in_orientations
        basis = hermite_basis(size)
        n = len(basis)
        angles = 2 * np.pi * np.arange(n_orientations) / n_orientations
        turns = rotate_coefficients(np.eye(n), angles[:, None])  # (O, n, n): of each function
        turned = np.tensordot(turns, basis, 1).reshape(n_orientations, n, size**2)
        self.register_buffer("turned_basis", torch.tensor(turned, dtype=torch.float32), False)
        shape = n_features, in_orientations * in_features, n
        self.coefficients = nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.1))
        self._cached = None

    def kernels(self):
        """Return kernels of a plain convolution, (O F, in_orientations in_features, size, size)."""
        basis = self.turned_basis.to(self.coefficients)
        kernels = torch.einsum("fcb,obk->ofck", self.coefficients, basis)
        n_orientations, n_before = self.n_orientations, self.in_orientations
        if n_before > 1:
            by_feature = kernels.unflatten(2, (n_before, self.in_features))
            turned = [by_feature[o].roll(o, dims=1) for o in range(n_orientations)]
            kernels = torch.stack(turned).flatten(2, 3)
        return kernels.flatten(0, 1).unflatten(2, (self.size, self.size))

    def forward(self, x):
        return functional.conv2d(x, self._kernels_or_cached(), padding=self.padding)

    def _kernels_or_cached(self):
        """Kernels, which are kept while nothing asks for a gradient by the coefficients."""
        c = self.coefficients
        is_learned = torch.is_grad_enabled() and c.requires_grad
        if self.training or is_learned or c.is_inference():  # the last have no version
            self._cached = None
            return self.kernels()
        key = c._version, c.data_ptr(), c.dtype, c.device
        if self._cached is None or self._cached[0] != key:
            with torch.inference_mode(False), torch.no_grad():  # gradients by images may follow
                self._cached = key, self.kernels()
        return self._cached[1]

    def __getstate__(self):
        return {**self.__dict__, "_cached": None}

    def extra_repr(self):
        return (
            f"{self.in_orientations} x {self.in_features}, {self.n_orientations} x "
            f"{self.n_features}, size={self.size}, padding={self.padding!r}"
        )


class OrientedBatchNorm(nn.Module):
    """Batch norm of channels ``o F + f``: of each, or of each feature over all its orientations.

    Only the latter keeps a network equivariant: `shared` takes orientations for more places.
    """

    def __init__(self, n_features, n_orientations, shared, scale):
        super().__init__()
        self.n_orientations, self.shared = n_orientations, shared
        n = n_features if shared else n_features * n_orientations
        self.norm = nn.BatchNorm2d(n, eps=EPSILON, momentum=0.1)
        self.norm.weight.requires_grad_(scale)

    def forward(self, x):
        if not self.shared:
            return self.norm(x)
        by_orientation = x.unflatten(1, (self.n_orientations, -1)).transpose(1, 2)
        normed = self.norm(by_orientation.flatten(2, 3))
        return normed.reshape(by_orientation.shape).transpose(1, 2).reshape(x.shape)

    def scale_and_shift(self):
        """Of each channel, by the statistics of training."""
        norm = self.norm
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        times = self.n_orientations if self.shared else 1
        return scale.repeat(times), shift.repeat(times)


class RotationEquivariantCore(nn.Module):
    """Features of images that turn with the image.

    Turning an image by 2 pi / O shifts the orientations of all features by one, and turns their
    maps: exactly for quarter turns, nearly for others, for which a grid of pixels is too coarse.

    Parameters
    ----------
    kernel_sizes : sequence of int
        Odd, one for each layer.
    n_features : int or sequence of int
        F of each layer.
    n_orientations : int
        O, of all layers.
    shared_batch_norm : bool
        One mean and variance for all orientations of a feature. False: for each channel, as in the
        published model of Ecker et al.; then the core is only nearly equivariant.
    padding : {"same", "valid"}
    channels : int
        Of the images.

    Notes
    -----
    Layers are convolution, batch norm and softplus, but the last one has no softplus, and no scale
    in its batch norm. Outside training kernels are made once and kept; call
    ``requires_grad_(False)`` for that where gradients by images are taken. What is written to a
    parameter's ``.data`` in place is not noticed: write to the parameter, under `torch.no_grad`.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 3; Ecker et al., ICLR 2019.

    Examples
    --------
    >>> import torch
    >>> from fastvis.twin import RotationEquivariantCore
    >>> core = RotationEquivariantCore(n_features=4).eval()
    >>> x = torch.randn(1, 1, 21, 21)
    >>> features = core(x).unflatten(1, (8, 4))
    >>> features.shape
    torch.Size([1, 8, 4, 21, 21])
    >>> turned = core(x.rot90(1, (2, 3))).unflatten(1, (8, 4))
    >>> torch.allclose(turned, features.rot90(1, (3, 4)).roll(2, 1), atol=1e-4)
    True
    """

    def __init__(
        self, kernel_sizes=(13, 5, 5), n_features=16, n_orientations=8, *, shared_batch_norm=True,
        padding="same", channels=1,
    ):  # fmt: skip
        super().__init__()
        sizes = [check_int(size, "kernel_sizes", minimum=1) for size in kernel_sizes]
        if not sizes or any(size % 2 == 0 for size in sizes):
            raise ValueError(f"kernel_sizes must be one or more odd numbers; got {sizes}.")
        features = [n_features] * len(sizes) if np.ndim(n_features) == 0 else list(n_features)
        if len(features) != len(sizes):
            raise ValueError(
                f"n_features must be one number, or one for each of {len(sizes)} layers; got "
                f"{features}."
            )
        features = [check_int(f, "n_features", minimum=1) for f in features]
        self.n_orientations = check_int(n_orientations, "n_orientations", minimum=1)
        check_choice(padding, "padding", ("same", "valid"))
        self.channels = check_int(channels, "channels", minimum=1)
        self.n_features, self.kernel_sizes = features[-1], tuple(sizes)
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        before, orientations = self.channels, 1
        for l, (size, f) in enumerate(zip(sizes, features)):
            self.convolutions.append(
                HermiteConv2d(before, f, size, self.n_orientations, orientations, padding)
            )
            is_last = l == len(sizes) - 1
            self.norms.append(
                OrientedBatchNorm(f, self.n_orientations, shared_batch_norm, scale=not is_last)
            )
            before, orientations = f, self.n_orientations

    def forward(self, images):
        """Features (n, O F, H, W) of images (n, C, H, W); smaller with "valid" padding."""
        x = images
        for l, (convolution, norm) in enumerate(zip(self.convolutions, self.norms)):
            x = norm(convolution(functional.softplus(x) if l else x))
        return x

    def arguments(self):
        """Of another core like this one, of JSON's types."""
        return {
            "kernel_sizes": list(self.kernel_sizes),
            "n_features": [convolution.n_features for convolution in self.convolutions],
            "n_orientations": self.n_orientations,
            "shared_batch_norm": self.norms[0].shared,
            "padding": self.convolutions[0].padding,
            "channels": self.channels,
        }

    @property
    def receptive_field(self):
        """Side of the square of pixels that a feature depends on."""
        return sum(self.kernel_sizes) - len(self.kernel_sizes) + 1

    @torch.no_grad()
    def export(self, padding=None):
        """Return a plain network that computes the same, outside training.

        Parameters
        ----------
        padding : {"same", "valid"}, optional
            Instead of the core's own.

        Returns
        -------
        torch.nn.Sequential
            `Conv2d` and `Softplus` in turn, with batch norm in the convolutions.
        """
        if padding is not None:
            check_choice(padding, "padding", ("same", "valid"))
        layers = []
        for convolution, norm in zip(self.convolutions, self.norms):
            kernels = convolution.kernels()
            scale, shift = norm.scale_and_shift()
            plain = nn.Conv2d(
                *kernels.shape[1::-1], convolution.size, padding=padding or convolution.padding
            ).to(kernels)
            plain.weight.copy_(kernels * scale[:, None, None, None])
            plain.bias.copy_(shift)
            layers += [plain, nn.Softplus()]
        return nn.Sequential(*layers[:-1]).eval()

    def smoothness(self, variant="ecker"):
        """The penalty on kernels that are not smooth.

        Parameters
        ----------
        variant : {"ecker", "neuralpredictors"}
            "ecker": of every kernel of every layer, all orientations, the energy after a Laplacian
            over its own, layers weighted by 1, 1/2, 1/2... "neuralpredictors": of the first layer,
            the energy of all kernels after a four-neighbor Laplacian over that of all.

        Returns
        -------
        Tensor, ()
        """
        if check_choice(variant, "variant", ("ecker", "neuralpredictors")) == "neuralpredictors":
            kernels = self.convolutions[0].kernels()
            return _laplace(kernels, CROSS).square().sum() / kernels.square().sum()
        total = 0.0
        for l, convolution in enumerate(self.convolutions):
            kernels = convolution.kernels()
            energy = _laplace(kernels, LAPLACIAN).square().sum((1, 2, 3))
            each = energy / (1e-8 + kernels.square().sum((1, 2, 3)))
            total = total + each.sum() * (0.5 if l else 1.0)
        return total

    def group_sparsity(self, variant="ecker"):
        """The penalty on kernels that take from many channels, of all layers but the first.

        Parameters
        ----------
        variant : {"ecker", "neuralpredictors"}
            "ecker": of every kernel the sum over input channels of L2 norms, over its own norm.
            "neuralpredictors": the mean of these norms.

        Returns
        -------
        Tensor, ()
        """
        check_choice(variant, "variant", ("ecker", "neuralpredictors"))
        total = self.convolutions[0].coefficients.new_zeros(())
        for convolution in self.convolutions[1:]:
            kernels = convolution.kernels()
            squares = kernels.square().sum((2, 3))
            norms = torch.sqrt(squares + 1e-30)  # where it is 0, so is its derivative
            if variant == "ecker":
                total = total + (norms.sum(1) / torch.sqrt(1e-8 + squares.sum(1))).sum()
            else:
                total = total + norms.mean()
        return total


def _laplace(kernels, laplacian):
    """Each kernel by itself, zeros around it."""
    flat = kernels.flatten(0, 1)[:, None]
    filtered = functional.conv2d(flat, laplacian.to(kernels)[None, None], padding="same")
    return filtered.reshape(kernels.shape)

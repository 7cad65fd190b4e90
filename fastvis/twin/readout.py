"""Readouts: from feature maps to the responses of neurons; imports torch.

Each takes features (n, C, H, W) to drives (n, n_neurons); a neuron has a place, in its own way, and
a weight for each channel.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .._validation import check_array, check_choice, check_float, check_int

TINY = 1e-30  # for masks that are 0 everywhere


class FactorizedReadout(nn.Module):
    """A mask over places times weights of channels.

    ``drive_n = sum_c w_nc sum_yx |M_nyx| features_cyx + b_n``

    Parameters
    ----------
    n_neurons : int
    n_channels : int
    shape : tuple of int, (H, W)
        Of the feature maps.
    mean_responses : array_like, (n_neurons,), optional
        Of the training data: biases start so that half of it is predicted before training.

    Attributes
    ----------
    masks : Parameter, (n_neurons, H, W)
    weights : Parameter, (n_neurons, n_channels)
    biases : Parameter, (n_neurons,)

    References
    ----------
    Klindt et al., NeurIPS 2017; with Ecker et al., ICLR 2019, for positive masks and their penalty.

    Examples
    --------
    >>> import torch
    >>> from fastvis.twin import FactorizedReadout
    >>> FactorizedReadout(5, 16, (4, 6))(torch.zeros(2, 16, 4, 6)).shape
    torch.Size([2, 5])
    """

    def __init__(self, n_neurons, n_channels, shape, *, mean_responses=None):
        super().__init__()
        n, c, height, width = _check_sizes(n_neurons, n_channels, shape)
        self.masks = nn.Parameter(_normal(n, height, width))
        self.weights = nn.Parameter(_normal(n, c))
        self.biases = nn.Parameter(_start_biases(n, mean_responses))

    def forward(self, features):
        at_places = features.flatten(2) @ self.masks.abs().flatten(1).T  # (n, C, n_neurons)
        return torch.einsum("bcn,nc->bn", at_places, self.weights) + self.biases

    def spatial_weights(self):
        """Masks, (n_neurons, H, W), that add up to 1."""
        masks = self.masks.abs()
        return masks / masks.sum((1, 2), keepdim=True).clamp_min(TINY)

    def feature_weights(self):
        """Weights of channels, (n_neurons, n_channels), for `spatial_weights`."""
        return self.weights * self.masks.abs().sum((1, 2))[:, None].clamp_min(TINY)

    def penalty(self):
        """Sum over neurons of the product of both L1 norms, ()."""
        return (self.masks.abs().sum((1, 2)) * self.weights.abs().sum(1)).sum()

    @torch.no_grad()
    def places(self):
        """Centers of masks, (n_neurons, 2): row and column of the feature map."""
        masks = self.masks.abs().double()
        total = masks.sum((1, 2)).clamp_min(1e-300)
        rows, columns = (torch.arange(n, dtype=torch.float64) for n in masks.shape[1:])
        row = (masks.sum(2) @ rows.to(masks)) / total
        return torch.stack([row, (masks.sum(1) @ columns.to(masks)) / total], dim=1)


class GaussianReadout(nn.Module):
    """Weights of channels at one place, which is learned by trying places around it.

    ``drive_n = w_n . features(place) + b_n``, interpolated linearly. In training a place is drawn
    for each image, from a normal distribution about the mean; otherwise it is the mean.

    Parameters
    ----------
    n_neurons, n_channels, shape, mean_responses
        As of `FactorizedReadout`.
    sigma : float
        Standard deviation of places where training starts, in units of half the map.
    covariance : {"isotropic", "full"}
        What is learned of the distribution of places.

    Attributes
    ----------
    means : Parameter, (n_neurons, 2)
        Column and row, each from -1 to 1, the centers of the first and last pixel.
    weights, biases
        As of `FactorizedReadout`.

    References
    ----------
    Lurz et al., "Generalization in data-driven models of primary visual cortex", ICLR 2021.

    Examples
    --------
    >>> import torch
    >>> from fastvis.twin import GaussianReadout
    >>> GaussianReadout(5, 16, (4, 6))(torch.zeros(2, 16, 4, 6)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self, n_neurons, n_channels, shape, *, mean_responses=None, sigma=0.1,
        covariance="isotropic",
    ):  # fmt: skip
        super().__init__()
        n, c, *self.shape = _check_sizes(n_neurons, n_channels, shape)
        sigma = check_float(sigma, "sigma", minimum=0, strict=True)
        check_choice(covariance, "covariance", ("isotropic", "full"))
        self.means = nn.Parameter(torch.empty(n, 2).uniform_(-0.1, 0.1))
        spread = torch.eye(2).repeat(n, 1, 1) if covariance == "full" else torch.ones(n, 1, 1)
        self.spread = nn.Parameter(sigma * spread)
        self.weights = nn.Parameter(_normal(n, c))
        self.biases = nn.Parameter(_start_biases(n, mean_responses))

    def forward(self, features):
        places = self.means.expand(len(features), -1, -1)
        if self.training:
            noise = torch.randn_like(places)[..., None]
            places = places + (self.spread @ noise if self.spread.shape[1] == 2 else
                               self.spread * noise)[..., 0]  # fmt: skip
        places = places.clamp(-1, 1)
        sampled = functional.grid_sample(features, places[:, :, None], align_corners=True)
        return torch.einsum("bcn,nc->bn", sampled[..., 0], self.weights) + self.biases

    def spatial_weights(self):
        """What interpolation at the means is, (n_neurons, H, W)."""
        out = self.means.new_zeros(len(self.means), *self.shape)
        places = self.places().to(self.means)
        low = torch.minimum(places.floor(), torch.tensor(self.shape).to(places) - 2).clamp_min(0)
        part = places - low
        neurons = torch.arange(len(out), device=out.device)
        for down in (0, 1):
            for right in (0, 1):
                step = torch.tensor([down, right]).to(places)
                share = (1 - step + (2 * step - 1) * part).prod(1)
                at = (low + step).long().minimum(torch.tensor(self.shape).to(out.device) - 1)
                out[neurons, at[:, 0], at[:, 1]] += share
        return out

    def feature_weights(self):
        """Weights of channels, (n_neurons, n_channels)."""
        return self.weights

    def penalty(self):
        """Sum of the L1 norms of all weights, ()."""
        return self.weights.abs().sum()

    @torch.no_grad()
    def places(self):
        """Means, (n_neurons, 2): row and column of the feature map."""
        half = (torch.tensor(self.shape, dtype=torch.float64) - 1) / 2
        return (self.means.double().clamp(-1, 1).flip(1) + 1) * half.to(self.means.device)


READOUTS = {"factorized": FactorizedReadout, "gaussian": GaussianReadout}


def _check_sizes(n_neurons, n_channels, shape):
    if len(shape) != 2:
        raise ValueError(f"shape must be (H, W) of the feature maps; got {shape}.")
    values = (n_neurons, n_channels, *shape)
    names = ("n_neurons", "n_channels", "shape", "shape")
    return [check_int(value, name, minimum=1) for value, name in zip(values, names)]


def _normal(*shape):
    return nn.init.trunc_normal_(torch.empty(shape), std=0.01)


def _start_biases(n, mean_responses):
    """Half of what softplus takes to the mean."""
    if mean_responses is None:
        return torch.zeros(n)
    mean = check_array(mean_responses, "mean_responses", ndim=1).astype(np.float64)
    if len(mean) != n or (mean < 0).any():
        raise ValueError(
            f"mean_responses must be {n} numbers >= 0; got {len(mean)}, the least {mean.min():g}."
        )
    mean = np.maximum(mean, 1e-3)
    return torch.tensor(0.5 * (mean + np.log(-np.expm1(-mean))), dtype=torch.float32)

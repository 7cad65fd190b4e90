"""A rival for ECON: one attention network and one VAE for all parts, as in MONet; imports torch."""

import math

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..._random import check_rng
from ..._validation import check_float, check_int
from .arguments import check_architecture, check_extent
from .decomposition import Decomposition
from .estimator import SceneModel
from .networks import Expert
from .objective import TINY, latent_kl


class MONet(SceneModel):
    """Take scenes apart into regions by one attention network, and reconstruct each by one VAE.

    The spatial mixture of Burgess et al. in the frame of `ECON`: the same networks, schedule,
    `Decomposition` and files. There are no classes, and no whole shapes: what the VAE says about
    the regions of all steps is normalized by a softmax, so a region ends where another begins.

    Parameters
    ----------
    n_steps : int
        Parts of a scene.
    latent_dim, n_layers, n_features : int
        Of the VAE.
    attention_channels : tuple of int
        Of the blocks of the U-Net.
    beta, gamma : float
        Weights of the divergences of latents and of regions.
    sigma_first, sigma_x : float
        Standard deviation of pixels of the first step and of the others.
    learning_rate, batch_size, validate_every, patience, n_drops, progress, callback, rng
        See `ECON`.

    Attributes
    ----------
    module_, size_, steps_, losses_, learning_rates_, stopped_by_
        See `ECON`, also for a training that diverges.

    Raises
    ------
    TypeError, ValueError
        Parameters of another kind, or out of their range.

    References
    ----------
    Burgess et al., "MONet: Unsupervised scene decomposition and representation",
    arXiv:1901.11390, 2019.

    Examples
    --------
    >>> from fastvis.scenes.econ import MONet
    >>> images = np.random.default_rng(0).random((8, 16, 16, 3))
    >>> model = MONet(2, latent_dim=2, n_layers=2, n_features=4, attention_channels=(4, 4), rng=0)
    >>> model.fit(images, max_steps=2).decompose(images).region.shape
    (8, 2, 16, 16)
    """

    warmup_steps = 0

    def __init__(
        self,
        n_steps=4,
        *,
        latent_dim=16,
        n_layers=4,
        n_features=32,
        attention_channels=(32, 64, 64, 64),
        beta=0.5,
        gamma=0.5,
        sigma_first=0.09,
        sigma_x=0.11,
        learning_rate=5e-4,
        batch_size=32,
        validate_every=100,
        patience=5,
        n_drops=5,
        progress=False,
        callback=None,
        rng=None,
    ):
        self.n_steps = n_steps
        self.latent_dim = latent_dim
        self.n_layers = n_layers
        self.n_features = n_features
        self.attention_channels = attention_channels
        self.beta = beta
        self.gamma = gamma
        self.sigma_first = sigma_first
        self.sigma_x = sigma_x
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.validate_every = validate_every
        self.patience = patience
        self.n_drops = n_drops
        self.progress = progress
        self.callback = callback
        self.rng = rng

    def fit(
        self, images, *, validation=None, trainer=None, max_steps=None, checkpoints=None,
        resume=False,
    ):  # fmt: skip
        """Learn from images; parameters, result, errors and the warning as for `ECON.fit`."""
        return self._fit(images, None, validation, trainer, max_steps, checkpoints, resume)

    def sample(self, n=1, rng=None):
        """Draw images: latents of each step from the prior, mixed by the softmax of regions.

        Nothing in the model makes the parts of such a scene fit together.

        Parameters
        ----------
        n : int
        rng : None, int or numpy.random.Generator

        Returns
        -------
        Decomposition
            Its ``image`` are the images.
        """
        check_is_fitted(self, "module_")
        n = check_int(n, "n", minimum=1)
        generator = torch.Generator().manual_seed(int(check_rng(rng).integers(2**31)))
        with torch.no_grad():
            region, appearance = self.module_.sample(n, self.module_.n_steps, generator)
        region = region.cpu().numpy()
        scope = 1 - np.cumsum(region, axis=1) + region
        pictures = np.ascontiguousarray(appearance.permute(0, 1, 3, 4, 2).cpu().numpy())
        winner = np.zeros(region.shape[:2], int)
        return Decomposition(winner, region, pictures, region, scope)

    def _check_parameters(self):
        check_architecture(self)
        for name in ("beta", "gamma"):
            check_float(getattr(self, name), name, minimum=0)
        for name in ("sigma_first", "sigma_x"):
            check_float(getattr(self, name), name, minimum=0, strict=True)

    def _build(self, size):
        check_extent(self, size)
        network = Expert(
            size, self.latent_dim, self.n_layers, self.n_features, self.attention_channels
        )
        return _Mixture(
            network, self.n_steps, self.beta, self.gamma, self.sigma_first, self.sigma_x
        )


class _Mixture(nn.Module):
    def __init__(self, network, n_steps, beta, gamma, sigma_first, sigma):
        super().__init__()
        self.network, self.n_steps = network, n_steps
        self.beta, self.gamma = beta, gamma
        self.sigma_first, self.sigma = sigma_first, sigma

    def loss(self, images, regions, step, generator):
        """Return the negative bound of Burgess et al. (3) of each image, (N,)."""
        parts = list(self._parts(images, self.n_steps, generator))
        scopes, regions, appearances, logits, divergences = zip(*parts)
        log_regions = torch.log(torch.stack(regions) + TINY)  # (T, N, 1, H, W)
        log_painted = torch.log_softmax(torch.stack(logits), dim=0)
        log_pixels = torch.stack(
            [_log_normal(images, x, self._sigma(t)) for t, x in enumerate(appearances)]
        )
        fit = -torch.logsumexp(log_regions + log_pixels, dim=0)
        kl = (log_regions.exp() * (log_regions - log_painted)).sum(0)
        return (fit + self.gamma * kl).sum((1, 2, 3)) + self.beta * sum(divergences)

    def layers(self, images, n_steps=None):
        """Yield winner (always 0), scope, region, appearance and painted region of each step."""
        scopes, regions, appearances, logits, _ = zip(*self._parts(images, n_steps or self.n_steps))
        painted = torch.softmax(torch.stack(logits), dim=0)
        winner = torch.zeros(len(images), dtype=torch.long, device=images.device)
        for scope, region, appearance, shape in zip(scopes, regions, appearances, painted):
            yield winner, scope, region, appearance, shape

    def sample(self, n, n_steps, generator):
        """Return regions (n, T, H, W) and appearances (n, T, 3, H, W) of latents of the prior."""
        decoder = self.network.decoder
        latents = torch.randn(n_steps * n, decoder.latent_dim, generator=generator)
        appearance, logits = decoder(latents.to(decoder.grid))
        logits = logits.unflatten(0, (n, n_steps))[:, :, 0]
        return torch.softmax(logits, dim=1), appearance.unflatten(0, (n, n_steps))

    def _parts(self, images, n_steps, generator=None):
        """Yield scope, region, appearance, logits of the painted region, and latent divergence."""
        scope = images.new_ones(len(images), 1, *images.shape[2:])
        for step in range(n_steps):
            logits = torch.full_like(scope, torch.inf)
            if step < n_steps - 1:
                logits = self.network.attention(images, scope)
            region, rest = scope * torch.sigmoid(logits), scope * torch.sigmoid(-logits)
            mean, log_variance = self.network.encoder(images, region)
            latents = mean
            if generator is not None:
                noise = torch.randn(mean.shape, generator=generator).to(mean)
                latents = mean + torch.exp(0.5 * log_variance) * noise
            appearance, painted = self.network.decoder(latents)
            yield scope, region, appearance, painted, latent_kl(mean, log_variance)
            scope = rest

    def _sigma(self, step):
        return self.sigma_first if step == 0 else self.sigma


def _log_normal(images, means, sigma):
    """Log density of pixels of three channels, (N, 1, H, W)."""
    squares = (images - means).square().sum(1, keepdim=True)
    return -squares / (2 * sigma**2) - 3 * math.log(sigma * math.sqrt(2 * math.pi))

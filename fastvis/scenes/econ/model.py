"""Front to back through a scene: experts compete at each step for what is left; imports torch.

Step 0 is the front, t = T in the paper, and begins with a scope of one. Tensors are
``(N, C, H, W)``; experts lie on axis 0, ``(K, N)``.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from .objective import TINY, appearance_loss, latent_kl, region_kl
from .warmup import attention_loss, color_regions, random_scope

CERTAIN = 16.0  # logit of a region that is given: sigmoid(16) is 1 - 1e-7


@dataclass
class Part:
    """What an expert makes of the scope, for each image: a layer, and its terms of (13)."""

    region: torch.Tensor  # (N, 1, H, W): scope * attention
    rest: torch.Tensor  # (N, 1, H, W): the scope of the next step
    appearance: torch.Tensor  # (N, 3, H, W)
    shape: torch.Tensor  # (N, 1, H, W): probabilities
    latents: torch.Tensor  # (N, L): means
    appearance_loss: torch.Tensor  # (N,): (10)
    latent_loss: torch.Tensor  # (N,): (11)
    region_loss: torch.Tensor  # (N,): (12)


@dataclass(frozen=True)
class Competition:
    """How the winner of a step is chosen.

    The cost of an expert is ``appearance_weight`` (10) + (12). It wins with a probability in
    proportion to exp(-cost / temperature), or, at a temperature of 0, if its cost is the smallest.
    An expert that takes next to nothing would win, since it costs next to nothing (erratum 13). It
    must have most of a fraction ``least_region`` of the pixels, unless no expert has. Sums of soft
    regions will not do: a thousandth of a large background is as much as a hidden object.
    """

    appearance_weight: float
    temperature: float
    least_region: float

    def winners(self, appearance_losses, region_losses, sizes, generator=None):
        """Return the winner of each image, (N,), of losses and sizes (K, N)."""
        costs = self.appearance_weight * appearance_losses + region_losses
        large = sizes >= self.least_region
        costs = costs.masked_fill(~large & large.any(0), torch.inf)
        if self.temperature > 0:  # Gumbel noise: the smallest is a sample of the softmax
            uniform = torch.rand(costs.shape, generator=generator, device=generator.device)
            costs = costs + self.temperature * torch.log(-torch.log(uniform + TINY)).to(costs)
        return costs.argmin(0)


class Experts(nn.Module):
    """K experts that take images apart together.

    Parameters
    ----------
    networks : sequence of Expert
    n_steps : int
    objective : tuple of three floats
        sigma_x, beta and gamma of (10) and (13).
    competition : Competition
        In training; validation and decomposition take the smallest cost.
    warmup_steps : int
        Training steps before the competition, see `warmup`.
    """

    def __init__(self, networks, n_steps, objective, competition, warmup_steps):
        super().__init__()
        self.experts = nn.ModuleList(networks)
        self.n_steps = n_steps
        self.sigma_x, self.beta, self.gamma = objective
        self.competition, self.warmup_steps = competition, warmup_steps
        self.register_buffer("colors", torch.zeros(len(networks), 3))

    def loss(self, images, regions, step, generator):
        """Return (13), with the sign of a loss, of each image, (N,).

        Parameters
        ----------
        images : Tensor, (N, 3, H, W)
        regions : Tensor, (N, T, H, W), or None
            Regions that are given: front first, of 0 and 1.
        step : int or None
            Of the training; None in validation.
        generator : torch.Generator
            For latents and winners.
        """
        if step is not None and regions is None and step < self.warmup_steps:
            return self._warmup_loss(images, generator)
        competition = replace(self.competition, temperature=0) if step is None else self.competition
        steps = self.steps(images, self.n_steps, competition, regions, generator)
        return sum(self._objective(part) for _, _, part in steps)

    def layers(self, images, n_steps=None, regions=None):
        """Yield winner, scope, region, appearance and shape of each step; latents are means."""
        competition = replace(self.competition, temperature=0)
        steps = self.steps(images, n_steps or self.n_steps, competition, regions)
        for winner, scope, part in steps:
            yield winner, scope, part.region, part.appearance, part.shape

    def latents(self, images):
        """Return the latents of the layers that each expert explains, K tensors (n, L)."""
        competition = replace(self.competition, temperature=0)
        found = [[] for _ in self.experts]
        for winner, _, part in self.steps(images, self.n_steps, competition):
            there = (part.region > 0.5).any((1, 2, 3))
            for k, latents in enumerate(found):
                latents.append(part.latents[(winner == k) & there])
        return [torch.cat(latents) for latents in found]

    def paint(self, expert, latents):
        """Return appearances (n, 3, H, W) and shape probabilities (n, 1, H, W) of one expert."""
        decoder = self.experts[expert].decoder
        appearance, shape = decoder(latents.to(decoder.grid))
        return appearance, torch.sigmoid(shape)

    def explain(self, expert, images, scope, noise, attention=None):
        """Return the `Part` of one expert; noise (N, L) of 0 takes the mean of the latents.

        ``attention`` are logits that replace those of the expert.
        """
        network = self.experts[expert]
        logits = network.attention(images, scope) if attention is None else attention
        region, rest = scope * torch.sigmoid(logits), scope * torch.sigmoid(-logits)
        mean, log_variance = network.encoder(images, region)
        appearance, shape = network.decoder(mean + torch.exp(0.5 * log_variance) * noise)
        return Part(
            region, rest, appearance, torch.sigmoid(shape), mean,
            appearance_loss(images, region, appearance, self.sigma_x),
            latent_kl(mean, log_variance),
            region_kl(scope, logits, shape),
        )  # fmt: skip

    def steps(self, images, n_steps, competition, regions=None, generator=None):
        """Yield winner (N,), scope (N, 1, H, W) and the winner's `Part` of each step.

        Gradients reach the winners only; they pass from a step to those before it through the
        scope. Losers are evaluated without gradients. Without a generator latents are their means.
        """
        scope = images.new_ones(len(images), 1, *images.shape[2:])
        for step in range(n_steps):
            attention = None
            if step == n_steps - 1:  # takes what is left, all of it
                attention = torch.full_like(scope, torch.inf)
            elif regions is not None:
                attention = CERTAIN * (2 * regions[:, step, None] - 1)
            noise = self._noise(images, generator)
            winner = self._compete(images, scope, noise, attention, competition, generator)
            part = self._explain_by(winner, images, scope, noise, attention)
            yield winner, scope, part
            scope = part.rest

    def _objective(self, part):
        """(13), with the sign of a loss, of one step."""
        return part.appearance_loss + self.beta * part.latent_loss + self.gamma * part.region_loss

    def _warmup_loss(self, images, generator):
        """(13) of all experts with regions of one color each, and what their attention makes of it.

        The scope is random, since later the attention will meet any.
        """
        regions = color_regions(images, self.colors)
        scope = random_scope(regions, generator)
        noise = self._noise(images, generator)
        loss = 0
        for k, region in enumerate(regions):
            part = self.explain(k, images, scope, noise[k], CERTAIN * (2 * region - 1))
            attention = self.experts[k].attention(images, scope)
            loss = loss + self._objective(part) + attention_loss(attention, region)
        return loss

    def _noise(self, images, generator):
        shape = (len(self.experts), len(images), self.experts[0].decoder.latent_dim)
        if generator is None:
            return images.new_zeros(shape)
        # Drawn on the generator's device, so that all devices see the same numbers.
        return torch.randn(shape, generator=generator, device=generator.device).to(images)

    @torch.no_grad()
    def _compete(self, images, scope, noise, attention, competition, generator):
        n_experts = len(self.experts)
        if n_experts == 1:
            return torch.zeros(len(images), dtype=torch.long, device=images.device)
        parts = [self.explain(k, images, scope, noise[k], attention) for k in range(n_experts)]
        costs = (
            torch.stack([p.appearance_loss for p in parts]),
            torch.stack([p.region_loss for p in parts]),
            torch.stack([(p.region > 0.5).float().mean((1, 2, 3)) for p in parts]),
        )
        return competition.winners(*costs, generator)

    def _explain_by(self, winner, images, scope, noise, attention):
        """The `Part` of each image's winner: each expert runs on the images that it won."""
        rows, parts = [], []
        for k in range(len(self.experts)):
            (row,) = torch.nonzero(winner == k, as_tuple=True)
            if len(row):
                given = None if attention is None else attention[row]
                parts.append(self.explain(k, images[row], scope[row], noise[k][row], given))
                rows.append(row)
        back = torch.argsort(torch.cat(rows))
        joined = (torch.cat(column)[back] for column in zip(*(vars(p).values() for p in parts)))
        return Part(*joined)

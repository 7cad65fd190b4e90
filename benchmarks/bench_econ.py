"""A training step of ECON, against the same step with all experts in a plain loop."""

from dataclasses import dataclass, replace
from functools import partial

import torch

from fastvis.scenes import sprites
from fastvis.scenes.econ import ECON
from fastvis.scenes.econ.training import as_network_input

from .common import Row, alternate, peak_memory, use_threads


@dataclass(frozen=True)
class Step:
    """Loss of a batch of 32 x 32 sprites, and its gradient, after the warm-up."""

    preset: str = "cpu"
    batch_size: int = 32

    def model(self):
        images = sprites(self.batch_size, size=32, rng=0).images
        model = ECON.preset(self.preset, warmup_steps=0, batch_size=self.batch_size, rng=0)
        module = model.fit(images, validation=images, max_steps=1).module_
        return module.train(), as_network_input(torch.from_numpy(images))

    def ours(self):
        """A function without arguments; gives loss and gradients."""
        module, images = self.model()
        return partial(_step, module, partial(module.loss, images, None, 0))

    def peer(self):
        """The same, where losers are evaluated as winners are."""
        module, images = self.model()
        return partial(_step, module, partial(_plain_loop, module, images))


def _step(module, loss):
    module.zero_grad()
    value = loss(torch.Generator().manual_seed(0)).mean()
    value.backward()
    return value.item(), [
        torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.parameters()
    ]


def _plain_loop(module, images, generator):
    n, n_experts = len(images), len(module.experts)
    scope = images.new_ones(n, 1, *images.shape[2:])
    loss = 0
    for step in range(module.n_steps):
        attention = None
        if step == module.n_steps - 1:
            attention = torch.full_like(scope, torch.inf)
        noise = torch.randn(n_experts, n, module.experts[0].decoder.latent_dim, generator=generator)
        parts = [module.explain(k, images, scope, noise[k], attention) for k in range(n_experts)]
        every = {name: torch.stack([vars(p)[name] for p in parts]) for name in vars(parts[0])}
        with torch.no_grad():
            sizes = (every["region"] > 0.5).float().mean((2, 3, 4))
            losses = every["appearance_loss"], every["region_loss"]
            winner = module.competition.winners(*losses, sizes, generator)
        part = {name: values[winner, torch.arange(n)] for name, values in every.items()}
        loss = loss + part["appearance_loss"] + module.beta * part["latent_loss"]
        loss = loss + module.gamma * part["region_loss"]
        scope = part["rest"]
    return loss


CASES = {"ECON, training step, batch of 32": Step()}


# The table


def rows(quick):
    """Yields name and function of each row."""
    for name, case in CASES.items():
        case = replace(case, preset="smoke", batch_size=4) if quick else case
        yield name, partial(_row, case, 1 if quick else 5)


def _row(case, rounds):
    ours, peer = case.ours(), case.peer()
    (loss, gradients), (peer_loss, peer_gradients) = ours(), peer()
    close = [torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(gradients, peer_gradients)]
    if abs(loss / peer_loss - 1) > 1e-4 or not all(close):
        raise RuntimeError("The two steps disagree.")
    seconds, ratios = alternate(ours, peer, rounds=rounds)
    return Row(
        "all experts in a plain loop",
        *seconds,
        ratios[1],
        memory=peak_memory(case.ours),
        peer_memory=peak_memory(case.peer),
    )


# asv


class Training:
    params = list(CASES)
    param_names = ("step",)
    timeout = 600

    def setup(self, name):
        use_threads()
        self.case = CASES[name]
        self.ours = self.case.ours()

    def time_ours(self, name):
        self.ours()

    def track_ratio(self, name):
        return alternate(self.ours, self.case.peer())[1][1]

    track_ratio.unit = "fastvis / peer"

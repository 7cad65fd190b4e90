"""The alignment loss (5) against plain PyTorch, and whole alignments."""

import math
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from fastvis.readouts import RotationAligner, make_rotated_readouts, pairwise_distance_loss

from .common import Row, alternate, peak_memory, use_threads

BETA, TEMPERATURE = 1.0, 5.0


@dataclass(frozen=True)
class Alignment:
    """As many neurons as in the paper, of 30 types, 16 features x 8 orientations, float32."""

    options: tuple = ()
    n: int = 6005

    def data(self):
        return make_rotated_readouts(self.n, min(30, self.n), n_features=16, noise=0.5, rng=0)

    def readouts(self):
        return self.data().readouts.astype(np.float32)

    def fit(self):
        """A function without arguments; gives a fitted aligner."""
        return partial(RotationAligner(rng=0, **dict(self.options)).fit, self.readouts())

    def ours(self):
        """One evaluation of (5) with its gradient: what a step of the paper's protocol costs."""
        angles = self.data().angles.astype(np.float32)
        return partial(pairwise_distance_loss, self.readouts(), angles, TEMPERATURE, beta=BETA)

    def peer(self):
        """The same through autograd."""
        readouts = torch.tensor(self.readouts())
        n, _, n_orientations = readouts.shape
        theta = 2 * math.pi / n_orientations * torch.arange(n_orientations)
        shifted = torch.stack([readouts.roll(-k, -1) for k in range(n_orientations)], 1).flatten(2)
        angles = torch.tensor(self.data().angles.astype(np.float32), requires_grad=True)
        temperature = torch.tensor(TEMPERATURE, requires_grad=True)

        def rotated(angles):
            gamma = torch.softmax(temperature * torch.cos(angles[:, None] - theta), 1)
            return torch.einsum("nk,nkd->nd", gamma, shifted)

        def run():
            x, rebuilt = rotated(angles), rotated(torch.zeros(n))
            loss = torch.cdist(x, x).sum() / (n * (n - 1))
            loss = loss + BETA * (rebuilt - readouts.flatten(1)).norm(dim=1).mean()
            return loss.item(), torch.autograd.grad(loss, (angles, temperature))

        return run


CASES = {
    "energy": Alignment((("objective", "energy"),)),
    "default": Alignment(),
    "(5), beta=1": Alignment((("rotation", "von_mises"),)),
    '(5), beta="path", 20 fits': Alignment((("rotation", "von_mises"), ("beta", "path"))),
    "default, but 13,047": Alignment(n=13_047),
}


# The table


def rows(quick):
    """Yields name and function of each row."""
    case = Alignment(n=60 if quick else 6005)
    yield f"(5) and gradient, {case.n:,} x 16 x 8", partial(_loss_row, case, 1 if quick else 5)
    for label, case in CASES.items():
        if quick:
            case = Alignment((*case.options, ("max_iter", 2)), n=60)
        yield f"alignment, 6,005 x 16 x 8, {label}", partial(_fit_row, case)


def _loss_row(case, rounds):
    ours, peer = case.ours(), case.peer()
    (loss, (gradient, _)), (peer_loss, (peer_gradient, _)) = ours(), peer()
    scale = np.abs(gradient).max()
    error = np.abs(gradient - peer_gradient.numpy()).max()
    if abs(loss / peer_loss - 1) > 1e-4 or error > scale / 1e2:
        raise RuntimeError("fastvis and its peer disagree.")
    seconds, ratios = alternate(ours, peer, rounds=rounds)
    memory, peer_memory = peak_memory(case.ours), peak_memory(case.peer)
    return Row("PyTorch autograd", *seconds, ratios[1], memory=memory, peer_memory=peer_memory)


def _fit_row(case):
    fit = case.fit()
    start = time.perf_counter()
    fit()
    return Row(None, time.perf_counter() - start, memory=peak_memory(case.fit))


# asv


class Alignments:
    params = ["energy", "default"]
    param_names = ("objective",)
    timeout = 600

    def setup(self, name):
        use_threads()
        self.fit = CASES[name].fit()

    def time_fit(self, name):
        self.fit()

    def track_loss(self, name):
        return self.fit().alignment_losses_["fourier"]

    track_loss.unit = "mean distance (3), exact rotations"


class Loss:
    timeout = 600

    def setup(self):
        use_threads()

    def track_ratio(self):
        return alternate(Alignment().ours(), Alignment().peer())[1][1]

    def track_memory_ratio(self):
        return peak_memory(Alignment().ours) / peak_memory(Alignment().peer)

    track_ratio.unit = track_memory_ratio.unit = "fastvis / PyTorch"

"""Whole alignments, against the paper's protocol in plain PyTorch."""

import math
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from fastvis.readouts import RotationAligner, make_rotated_readouts

from .common import Row, peak_memory, use_threads


@dataclass(frozen=True)
class Alignment:
    """As many neurons as in the paper, of 30 types, 16 features x 8 orientations, float32."""

    options: tuple = ()
    n: int = 6005

    def readouts(self):
        data = make_rotated_readouts(self.n, min(30, self.n), n_features=16, noise=0.5, rng=0)
        return data.readouts.astype(np.float32)

    def ours(self):
        """A function without arguments; gives a fitted aligner."""
        return partial(RotationAligner(rng=0, **dict(self.options)).fit, self.readouts())

    def peer(self):
        """The paper's protocol for one beta: (5) with means, Adam, early stopping."""
        return partial(adam_protocol, torch.tensor(self.readouts()))


CASES = {
    "energy": Alignment((("objective", "energy"),)),
    "default": Alignment(),
    'beta="path"': Alignment((("beta", "path"),)),
    "(5), L-BFGS": Alignment((("rotation", "von_mises"),)),
    "(5), Adam": Alignment((("rotation", "von_mises"), ("optimizer", "adam"), ("max_iter", 3000))),
}
PEER = "default"  # the row that the peer is timed beside: it takes minutes


def adam_protocol(readouts, beta=1.0, max_iter=3000, tol=1e-5):
    """Angles and temperature that minimize (5): the schedule of RotationAligner's "adam"."""
    n, _, n_orientations = readouts.shape
    theta = 2 * math.pi / n_orientations * torch.arange(n_orientations)
    shifted = torch.stack([readouts.roll(-k, -1) for k in range(n_orientations)], 1).flatten(2)
    flat = readouts.flatten(1)
    angles = torch.zeros(n).normal_(0, 1e-2, generator=torch.manual_seed(0)).requires_grad_()
    log_t = torch.tensor(math.log(5.0), requires_grad=True)
    adam = torch.optim.Adam([angles, log_t], lr=0.01)

    def rotated(angles):
        gamma = torch.softmax(log_t.exp() * torch.cos(angles[:, None] - theta), 1)
        return torch.einsum("nk,nkd->nd", gamma, shifted)

    best, lowest, last_fall, n_decreases = math.inf, math.inf, 0, 0
    for i in range(max_iter):
        x = rotated(angles)
        rebuilt = rotated(torch.zeros(n))
        loss = torch.cdist(x, x).sum() / (n * (n - 1)) + beta * (rebuilt - flat).norm(dim=1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        lowest = min(lowest, loss.item())
        if i % 25:
            continue
        if lowest < best * (1 - tol):
            best, last_fall = lowest, i
        elif i - last_fall >= 125:
            if n_decreases == 3:
                break
            n_decreases, last_fall = n_decreases + 1, i
            adam.param_groups[0]["lr"] /= math.sqrt(10)
    return lowest


# The table


def rows(quick):
    """Yields name and function of each row."""
    for label, case in CASES.items():
        if quick:
            case = Alignment((*case.options, ("max_iter", 2)), n=60)
        name = f"alignment, {case.n:,} x 16 x 8, {label}"
        yield name, partial(_row, case, label == PEER and not quick)


def _row(case, beside_peer):
    seconds = _time(case.ours())
    if not beside_peer:
        return Row(None, seconds, memory=peak_memory(case.ours))
    peer_seconds = _time(case.peer())
    return Row(
        "the paper's protocol, one beta, PyTorch",
        seconds,
        peer_seconds,
        seconds / peer_seconds,
        memory=peak_memory(case.ours),
    )


def _time(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# asv


class Alignments:
    params = ["energy", "default"]
    param_names = ("objective",)
    timeout = 600

    def setup(self, name):
        use_threads()
        self.case = CASES[name]
        self.fit = self.case.ours()

    def time_fit(self, name):
        self.fit()

    def track_loss(self, name):
        return self.fit().alignment_losses_["fourier"]

    track_loss.unit = "mean distance (3), exact rotations"

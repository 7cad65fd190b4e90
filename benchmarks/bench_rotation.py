"""Mean distance of all pairs of rows and its gradient, against PyTorch's cdist and pdist."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from fastvis._kernels.rotation import mean_distance

from .common import Gemm, Row, alternate, compare, peak_memory, use_threads


@dataclass(frozen=True)
class Pairs:
    """Rows of noise, float32: as many as the paper's neurons, 16 features x 8 orientations."""

    n: int = 6005
    peer_name: str | None = "cdist"
    n_dims: int = 128

    def x(self):
        return np.random.default_rng(0).normal(size=(self.n, self.n_dims)).astype(np.float32)

    def ours(self):
        """A function without arguments; gives loss and gradient."""
        return partial(mean_distance, self.x())

    def peer(self):
        """The same through autograd."""
        x = torch.tensor(self.x())
        n_pairs = self.n * (self.n - 1) / 2

        def run():
            leaf = x.detach().requires_grad_()
            if self.peer_name == "cdist":
                loss = torch.cdist(leaf, leaf).sum() / 2 / n_pairs
            else:
                loss = torch.pdist(leaf).sum() / n_pairs
            (gradient,) = torch.autograd.grad(loss, leaf)
            return loss.item(), gradient

        return run

    def flops(self):
        """The two dense products, each pair met once: g_ij, and the sum of weights times rows."""
        return 3 * self.n**2 * self.n_dims


CASES = {
    "6,005 x 128, all pairs": Pairs(),
    "6,005 x 128, all pairs, pdist": Pairs(peer_name="pdist"),
    "13,047 x 128, all pairs": Pairs(13_047),
    "13,047 x 128, all pairs, pdist": Pairs(13_047, "pdist"),
    "50,000 x 128, all pairs": Pairs(50_000, None),
}


# The table


def rows(quick):
    """Yields name and function of each row."""
    for name, case in CASES.items():
        yield name, partial(_row, replace(case, n=300) if quick else case, quick)


def _row(case, quick):
    gemm = Gemm(np.float32, 128 if quick else 2048)
    rounds = 1 if quick else 5
    if case.peer_name is None:
        seconds, ratios = alternate(case.ours(), gemm, rounds=1, warm_up=False)
        floor = ratios[1] * gemm.flops / case.flops()
        return Row(
            None,
            seconds[0],
            memory=peak_memory(case.ours),
            floor_seconds=seconds[0] / floor,
            floor_ratio=floor,
        )
    ours, peer = case.ours(), case.peer()
    (loss, gradient), (peer_loss, peer_gradient) = ours(), peer()
    scale = np.abs(gradient).max()
    if (
        abs(loss / peer_loss - 1) > 1e-4
        or np.abs(gradient - peer_gradient.numpy()).max() > scale / 1e3
    ):
        raise RuntimeError("fastvis and its peer disagree.")
    peer_name = f"torch.{case.peer_name}, autograd"
    return compare(peer_name, case.ours, case.peer, gemm, case.flops() / gemm.flops, rounds)


# asv


class AllPairs:
    params = [name for name in CASES if name.startswith("6,005")]
    param_names = ("rows",)
    timeout = 600

    def setup(self, name):
        use_threads()
        self.case = CASES[name]
        self.ours = self.case.ours()

    def time_mean_distance(self, name):
        self.ours()

    def track_ratio(self, name):
        return alternate(self.ours, self.case.peer())[1][1]

    def track_memory_ratio(self, name):
        return peak_memory(self.case.ours) / peak_memory(self.case.peer)

    track_ratio.unit = track_memory_ratio.unit = "fastvis / PyTorch"

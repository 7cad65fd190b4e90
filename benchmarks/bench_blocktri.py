"""Block-tridiagonal matrices against dense ones in SciPy, and derivatives against PyTorch."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import scipy.linalg
import torch

from fastvis.gp import BlockTridiagonal
from fastvis.torch import blocktri, blocktri_inverse_blocks, blocktri_logdet, blocktri_solve

from .common import Gemm, alternate, compare, peak_memory, use_threads


@dataclass(frozen=True)
class Chain:
    """One matrix: log-determinant, a solution, and blocks of the inverse."""

    n_blocks: int
    m: int = 50
    peer_name = "SciPy, dense: cho_factor, cho_solve, dpotri"

    def blocks(self):
        """Diagonal, lower, and a right-hand side."""
        rng = np.random.default_rng(0)
        a, below = rng.normal(size=(2, self.n_blocks, self.m, self.m)) / np.sqrt(self.m)
        diagonal = a @ a.mT + np.eye(self.m)
        diagonal[1:] += below[1:] @ below[1:].mT
        return diagonal, below[1:] @ a[:-1].mT, rng.normal(size=(self.n_blocks, self.m))

    def ours(self):
        """A function without arguments; gives log-determinant, x and the inverse's diagonal."""
        diagonal, lower, b = self.blocks()

        def run():
            matrix = BlockTridiagonal(diagonal, lower)
            return matrix.logdet(), matrix.solve(b).ravel(), matrix.inverse_blocks()[0]

        return run

    def peer(self):
        """The same of a dense matrix, which stands ready."""
        diagonal, lower, b = self.blocks()
        dense = BlockTridiagonal(diagonal, lower).todense()

        def run():
            factor, is_lower = scipy.linalg.cho_factor(dense, lower=True, check_finite=False)
            x = scipy.linalg.cho_solve((factor, is_lower), b.ravel(), check_finite=False)
            logdet = 2 * np.log(np.diag(factor)).sum()
            inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
            at = range(0, len(inverse), self.m)
            own = np.stack([inverse[i : i + self.m, i : i + self.m] for i in at])
            return logdet, x, np.tril(own) + np.tril(own, -1).mT

        return run

    def flops(self):
        """Factor 7/3 M^3 a block, selected inverse 17/3, solution 6 M^2."""
        return self.n_blocks * (8 * self.m**3 + 6 * self.m**2)


@dataclass(frozen=True)
class Gradient(Chain):
    """A function of all three, and its gradient, in PyTorch."""

    peer_name = "PyTorch operations, block by block, autograd"

    def ours(self):
        """A function without arguments; gives loss and gradient."""
        return partial(self.loss, blocktri_logdet, blocktri_solve, blocktri_inverse_blocks)

    def peer(self):
        """What CUDA tensors go through."""
        by_blocks = blocktri._logdet_by_blocks, blocktri._solve_by_blocks
        return partial(self.loss, *by_blocks, blocktri._inverse_by_blocks)

    def loss(self, logdet, solve, inverse_blocks):
        diagonal, lower, b = (torch.tensor(x).requires_grad_() for x in self.blocks())
        right = b[..., None]
        loss = logdet(diagonal, lower) + (right * solve(diagonal, lower, right)).sum()
        loss = loss + sum(x.square().sum() for x in inverse_blocks(diagonal, lower))
        gradient = torch.autograd.grad(loss, (diagonal, lower, b))
        return loss.item(), *(x.numpy() for x in gradient)

    def flops(self):
        """Three factors; the inverse twice, and 18 M^3 a block for its derivative."""
        return self.n_blocks * ((3 * 7 / 3 + 2 * 17 / 3 + 18) * self.m**3 + 14 * self.m**2)


CASES = {
    "block-tridiagonal, 5 x 50": Chain(5),
    "block-tridiagonal, 20 x 50": Chain(20),
    "block-tridiagonal, 100 x 50": Chain(100),
    "block-tridiagonal, 20 x 50, gradient": Gradient(20),
}


# The table


def rows(quick):
    """Yields name and function of each row."""
    for name, case in CASES.items():
        yield name, partial(_row, replace(case, n_blocks=3, m=8) if quick else case, quick)


def _row(case, quick):
    gemm = Gemm(np.float64, 128 if quick else 2048)
    ours, peer = case.ours(), case.peer()
    error = max(
        np.abs(result - expected).max() / np.abs(expected).max()
        for result, expected in zip(ours(), peer())
    )
    if not error < 1e-10:
        raise RuntimeError("fastvis and its peer disagree.")
    floor = case.flops() / gemm.flops
    return compare(case.peer_name, case.ours, case.peer, gemm, floor, 1 if quick else 7)


# asv


class BlockTridiagonals:
    params = list(CASES)
    param_names = ("matrix",)
    timeout = 600

    def setup(self, name):
        use_threads()
        self.case = CASES[name]
        self.ours = self.case.ours()

    def time_all(self, name):
        self.ours()

    def track_ratio(self, name):
        return alternate(self.ours, self.case.peer())[1][1]

    def track_memory_ratio(self, name):
        return peak_memory(self.case.ours) / peak_memory(self.case.peer)

    track_ratio.unit = track_memory_ratio.unit = "fastvis / peer"

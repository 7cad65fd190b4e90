"""Covariance matrices and their derivatives against PyTorch's autograd, and scikit-learn."""

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from sklearn.gaussian_process import kernels as sklearn_kernels

from fastvis.gp import Matern, Periodic, SquaredExponential

from .common import alternate, compare, peak_memory, use_threads


@dataclass(frozen=True)
class Covariances:
    """Of n and n points: the matrix, and from a gradient those by points and hyperparameters."""

    kind: str
    n_inputs: int
    n: int = 2000
    peer_name = "PyTorch, autograd"

    def arrays(self):
        rng = np.random.default_rng(0)
        x, z = rng.normal(size=(2, self.n, self.n_inputs))
        return x, z, rng.normal(size=(self.n, self.n))

    def kernel(self):
        lengthscale = np.linspace(0.8, 1.2, self.n_inputs)
        return {
            "squared exponential": partial(SquaredExponential, 1.3, lengthscale),
            "Matern 5/2": partial(Matern, 2.5, 1.3, lengthscale),
            "periodic": partial(Periodic, 1.3, lengthscale, 2 + lengthscale),
        }[self.kind]()

    def ours(self):
        """A function without arguments; gives the matrix and the three gradients."""
        x, z, gradient = self.arrays()
        k = self.kernel()
        return lambda: (k(x, z), *k.gradients(x, z, gradient))

    def peer(self):
        """The same as one would write it."""
        x, z, gradient = map(torch.tensor, self.arrays())
        theta = torch.tensor(self.kernel().theta)
        covariance = FORMULAS[self.kind]

        def run():
            inputs = [t.detach().requires_grad_() for t in (x, z, theta)]
            variance, scales = inputs[2][0].exp(), inputs[2][1:].exp().split(self.n_inputs)
            k = covariance(*inputs[:2], variance, *scales)
            return k.detach(), *torch.autograd.grad(k, inputs, gradient)

        return run


@dataclass(frozen=True)
class SamePoints(Covariances):
    """Of n points: the matrix and its derivatives, which scikit-learn has by hyperparameters."""

    peer_name = "scikit-learn, eval_gradient=True"

    def ours(self):
        x, _, gradient = self.arrays()
        k = self.kernel()
        return lambda: (k(x), k.gradients(x, None, gradient)[2])

    def peer(self):
        x, _, gradient = self.arrays()
        lengthscale = np.linspace(0.8, 1.2, self.n_inputs)
        unit = {
            "squared exponential": partial(sklearn_kernels.RBF, lengthscale),
            "Matern 5/2": partial(sklearn_kernels.Matern, lengthscale, nu=2.5),
            "periodic": partial(sklearn_kernels.ExpSineSquared, 0.8, 2.8),
        }[self.kind]()
        k = 1.3 * unit

        def run():
            matrix, derivatives = k(x, eval_gradient=True)
            return matrix, np.tensordot(gradient, derivatives, 2)

        return run


def _squared_exponential(x, z, variance, lengthscale):
    return variance * torch.exp(-((x[:, None] - z) / lengthscale).square().sum(-1) / 2)


def _matern_52(x, z, variance, lengthscale):
    r = math.sqrt(5) * torch.cdist(x / lengthscale, z / lengthscale)
    return variance * (1 + r + r.square() / 3) * torch.exp(-r)


def _periodic(x, z, variance, lengthscale, period):
    sines = torch.sin(torch.pi * (x[:, None] - z) / period) / lengthscale
    return variance * torch.exp(-2 * sines.square().sum(-1))


FORMULAS = {
    "squared exponential": _squared_exponential,
    "Matern 5/2": _matern_52,
    "periodic": _periodic,
}
CASES = {
    f"covariance, {kind}, D = {d}": Covariances(kind, d) for kind in FORMULAS for d in (1, 4)
} | {
    "covariance, squared exponential, D = 4, same points": SamePoints("squared exponential", 4),
    "covariance, Matern 5/2, D = 4, same points": SamePoints("Matern 5/2", 4),
    "covariance, periodic, D = 1, same points": SamePoints("periodic", 1),
}


class Exponentials:
    """The floor: an exponential for each pair, there and back, with what is written and read."""

    def __init__(self, n):
        self.source, self.out = (
            torch.zeros(n, n, dtype=torch.float64) - 1,
            torch.empty(n, n).double(),
        )

    def __call__(self):
        torch.exp(self.source, out=self.out)
        torch.exp(self.source, out=self.out)


# The table


def rows(quick):
    """Yields name and function of each row."""
    for name, case in CASES.items():
        yield name, partial(_row, replace(case, n=100) if quick else case, 1 if quick else 7)


def _row(case, rounds):
    ours, peer = case.ours(), case.peer()
    for result, expected in zip(ours(), peer()):
        expected = np.asarray(expected)
        if not np.allclose(result, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max()):
            raise RuntimeError("fastvis and its peer disagree.")
    return compare(case.peer_name, case.ours, case.peer, Exponentials(case.n), 1.0, rounds)


# asv


class CovarianceMatrices:
    params = list(CASES)
    param_names = ("covariance",)
    timeout = 600

    def setup(self, name):
        use_threads()
        self.case = CASES[name]
        self.ours = self.case.ours()

    def time_ours(self, name):
        self.ours()

    def track_ratio(self, name):
        return alternate(self.ours, self.case.peer())[1][1]

    def track_memory_ratio(self, name):
        return peak_memory(self.case.ours) / peak_memory(self.case.peer)

    track_ratio.unit = track_memory_ratio.unit = "fastvis / peer"

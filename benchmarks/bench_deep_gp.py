"""A training step of deep GPs: against GPyTorch, and the chain against the factorized posterior."""

from dataclasses import dataclass, replace
from functools import partial

import gpytorch
import numpy as np
import torch
from gpytorch.models.deep_gps import DeepGP as PeerDeepGP
from gpytorch.models.deep_gps import DeepGPLayer

from fastvis.gp import DeepGP, Gaussian, GPLayer, SquaredExponential
from fastvis.gp.bounds import evidence_bound

from .common import Gemm, alternate, compare, use_threads

NOISE = 0.01


@dataclass(frozen=True)
class Step:
    """One step of a deep GP with layers of one output, float64."""

    n_layers: int
    m: int
    n: int
    n_samples: int = 10
    posterior: str = "factorized"

    def data(self):
        x = np.linspace(-1, 1, self.n)
        return x, np.sin(7 * x**3)

    def ours(self):
        """A function without arguments; gives the ELBO, and makes all gradients."""
        kernel = SquaredExponential(lengthscale=0.5)
        layers = [GPLayer(kernel, self.m, mean="identity") for _ in range(self.n_layers - 1)]
        layers.append(GPLayer(kernel, self.m))
        model = DeepGP(layers, Gaussian(NOISE), self.posterior, n_steps=0, rng=0)
        x, y = self.data()
        model.fit(x, y)
        parameters = model._slots.views(model.parameters_)
        rng = np.random.default_rng(0)

        def run():
            data, divergence, *_ = evidence_bound(
                model._bound, model._likelihood, parameters, x[:, None], y[:, None],
                self.n_samples, 1.0, rng,
            )  # fmt: skip
            return data.mean() - divergence

        return run

    def peer(self):
        """The same in GPyTorch, as its documentation writes a deep GP."""
        x, y = (torch.from_numpy(a) for a in self.data())
        model = GPyTorchModel(self.n_layers, self.m).double()
        inner = gpytorch.mlls.VariationalELBO(model.likelihood, model, self.n)
        bound = gpytorch.mlls.DeepApproximateMLL(inner)

        def run():
            model.zero_grad()
            with gpytorch.settings.num_likelihood_samples(self.n_samples):
                loss = -bound(model(x[:, None]), y)
            loss.backward()
            return -self.n * loss.item()

        return run

    def flops(self):
        """Products with M x M matrices: 6 M^2 a layer and path, of which two are triangles of
        outer products, 6 M^2 a coupled pair and path; samples share the first layer."""
        n_later, n_paths = self.n_layers - 1, self.n * self.n_samples
        shared, own = 6, 6 * n_later
        if self.posterior == "chain":
            shared, own = shared + 6 * n_later, own + 3 * n_later * (n_later - 1)
        return self.m**2 * (self.n * shared + n_paths * own)


class GPyTorchLayer(DeepGPLayer):
    def __init__(self, m, is_last):
        dims, batch = (None, ()) if is_last else (1, (1,))
        z = torch.linspace(-1, 1, m)[:, None].expand(*batch, m, 1).clone()
        shape = torch.Size(batch)
        distribution = gpytorch.variational.CholeskyVariationalDistribution(m, batch_shape=shape)
        strategy = gpytorch.variational.VariationalStrategy(
            self, z, distribution, learn_inducing_locations=True
        )
        super().__init__(strategy, 1, dims)
        zero = gpytorch.means.ConstantMean(batch_shape=shape)
        self.mean_module = zero if is_last else gpytorch.means.LinearMean(1)
        kernel = gpytorch.kernels.RBFKernel(batch_shape=shape, ard_num_dims=None)
        self.covar_module = gpytorch.kernels.ScaleKernel(kernel, batch_shape=shape)

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(
            self.mean_module(x), self.covar_module(x)
        )


class GPyTorchModel(PeerDeepGP):
    def __init__(self, n_layers, m):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            GPyTorchLayer(m, is_last=l == n_layers - 1) for l in range(n_layers)
        )
        self.likelihood = gpytorch.likelihoods.GaussianLikelihood()

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


CASES = {
    "deep GP step, 3 layers, M = 50, N = 1000": Step(3, 50, 1000),
    "deep GP step, 2 layers, M = 10, N = 50": Step(2, 10, 50),
}
CHAINS = {
    f"chain step, {n} layers, M = 100, N = 1000": Step(n, 100, 1000, posterior="chain")
    for n in (2, 3, 5)
}


# The table


def rows(quick):
    """Yields name and function of each row."""
    small = dict(m=5, n=20, n_samples=2)
    for name, case in (CASES | CHAINS).items():
        yield name, partial(_row, replace(case, **small) if quick else case, quick)


def _row(case, quick):
    gemm = Gemm(np.float64, 128 if quick else 2048)
    if case.posterior == "chain":
        peer_name, other = "fastvis, factorized", replace(case, posterior="factorized").ours
    else:
        peer_name, other = f"GPyTorch {gpytorch.__version__}", case.peer
    floor = case.flops() / gemm.flops
    return compare(peer_name, case.ours, other, gemm, floor, 1 if quick else 7)


# asv


class DeepGPSteps:
    params = list(CASES | CHAINS)
    param_names = ("step",)
    timeout = 600

    def setup(self, name):
        use_threads()
        self.case = (CASES | CHAINS)[name]
        self.ours = self.case.ours()

    def time_step(self, name):
        self.ours()

    def track_ratio(self, name):
        """To GPyTorch; of a chain, to the factorized posterior."""
        other = replace(self.case, posterior="factorized").ours
        peer = other if self.case.posterior == "chain" else self.case.peer
        return alternate(self.ours, peer())[1][1]

    track_ratio.unit = "fastvis / peer"

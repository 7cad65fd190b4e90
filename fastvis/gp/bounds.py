"""The bound on the evidence of a deep GP, and its gradient, for whitened posteriors.

ELBO = sum over points of E_q log p(y | f_L) - KL(q(v) || N(0, I)),   UAI 2020, (5)

Expectations are over paths, whose last layer is integrated in closed form (Gaussian likelihood) or
by quadrature.
"""

from dataclasses import dataclass

import numpy as np

from .._kernels import paths
from .._kernels.threads import one_blas_thread
from .geometry import Geometry


@dataclass(frozen=True)
class Sizes:
    """Of a layer."""

    n_inputs: int
    n_outputs: int
    n_inducing: int
    slope: np.ndarray  # (n_inputs, n_outputs): its mean function is x @ slope


class WhitenedBound:
    """Of `whitened` posteriors. Parameters, by name, in the order of `shapes`:

    (l, "theta")    logs of hyperparameters of layer l
    (l, "z")        inducing points (M, D)
    (l, "n")        whitened means (T, M)
    and those of the posterior.

    ``sampled``: inducing values are drawn, and all points of a sample share them.
    """

    def __init__(self, sizes, kernels, posterior, jitter, sampled=False):
        self.sizes, self.kernels, self.jitter = sizes, kernels, jitter
        self.posterior = posterior([(s.n_outputs, s.n_inducing) for s in sizes])
        self.sampled = sampled
        self.layout = layout_of(sizes, kernels, () if sampled else self.posterior.pairs)

    def shapes(self):
        shapes = {}
        for l, (s, kernel) in enumerate(zip(self.sizes, self.kernels)):
            shapes[l, "theta"] = (len(kernel.theta),)
            shapes[l, "z"] = (s.n_inducing, s.n_inputs)
            shapes[l, "n"] = (s.n_outputs, s.n_inducing)
        return {**shapes, **self.posterior.shapes()}

    def start(self, parameters, z, scales):
        for l, kernel in enumerate(self.kernels):
            parameters[l, "theta"][:] = kernel.theta
            parameters[l, "z"][:] = z[l]
        self.posterior.start(parameters, scales)

    def prepare(self, parameters, n_samples, rng):
        """What paths are drawn with: theta, and all that the gradient needs."""
        geometries = [
            Geometry(k.with_theta(parameters[l, "theta"]), parameters[l, "z"][None], self.jitter, l)
            for l, k in enumerate(self.kernels)
        ]
        factors, pairs, cache = self.posterior.blocks(parameters)
        noise = None
        theta = np.zeros((n_samples if self.sampled else 1, self.layout.size))
        views = self.layout.views(theta)
        for l, (geometry, s) in enumerate(zip(geometries, self.sizes)):
            geometry.fill(views, l)
            views[l, "slope"][:] = s.slope
            views[l, "n"][:] = parameters[l, "n"]
            if not self.sampled:
                views[l, "factor"][:] = factors[l]
        if self.sampled:
            shapes = [(n_samples, s.n_outputs, s.n_inducing) for s in self.sizes]
            noise = [rng.standard_normal(shape) for shape in shapes]
            for l, draw in enumerate(self.posterior.draw(cache, noise)):
                views[l, "n"][:] += draw
        else:
            for (r, s), block in zip(self.posterior.pairs, pairs):
                views[r, s, "pair"][:] = block
        return theta, (geometries, views, cache, noise)

    def divergence(self, parameters, prepared):
        means = sum((parameters[l, "n"] ** 2).sum() for l in range(len(self.sizes)))
        return self.posterior.kl(parameters, prepared[2]) + means / 2

    def vjp(self, parameters, prepared, gradient, out):
        """Add to out what a gradient by theta, and that of -KL, is by the parameters."""
        geometries, views, cache, noise = prepared
        gradient = self.layout.views(gradient)
        for l, geometry in enumerate(geometries):
            d_z, d_theta = geometry.vjp(views, gradient, l)
            out[l, "z"] += d_z.sum(0)
            out[l, "theta"] += d_theta
            out[l, "n"] += gradient[l, "n"].sum(0) - parameters[l, "n"]
        n_layers = range(len(self.sizes))
        if self.sampled:
            self.posterior.draw_vjp(cache, noise, [gradient[l, "n"] for l in n_layers], out)
        else:
            d_factors = [gradient[l, "factor"][0] for l in n_layers]
            d_pairs = [gradient[r, s, "pair"][0] for r, s in self.posterior.pairs]
            self.posterior.blocks_vjp(cache, d_factors, d_pairs, out)
        self.posterior.kl_vjp(cache, -1.0, out)

    def natural_step(self, parameters, gradient, rate):
        """Move the posterior along the natural gradient."""
        self.posterior.natural_step(parameters, gradient, rate)

    def natural_names(self):
        """Of the parameters that `natural_step` moves."""
        return [(l, "n") for l in range(len(self.sizes))] + list(self.posterior.shapes())


def layout_of(sizes, kernels, pairs):
    """Return where paths' parameters of the layers are."""
    shapes = [
        paths.Shape(k._program(s.n_inputs)[0], s.n_inputs, s.n_outputs, s.n_inducing)
        for s, k in zip(sizes, kernels)
    ]
    return paths.Layout(shapes, pairs)


@one_blas_thread  # its threads, done with small matrices, would spin while the paths need the cores
def evidence_bound(bound, likelihood, parameters, x, y, n_samples, scale, rng):
    """The ELBO by n_samples paths a point, and its gradient.

    scale: points of the data for each of x. parameters: as of ``bound``, and "likelihood".

    Returns
    -------
    data : ndarray, (n_samples,)
        The data term of each sample; their mean counts.
    divergence : float
    gradient : dict like parameters
    d_x : ndarray, like x
    """
    likelihood = likelihood.with_theta(parameters["likelihood"])
    theta, prepared = bound.prepare(parameters, n_samples, rng)
    xi = rng.standard_normal((n_samples * len(x), bound.layout.n_hidden))
    flows = hasattr(bound, "enter")  # then each sample has points of its own
    points = bound.enter(x, prepared) if flows else x
    values, gradient, d_x, d_likelihood = paths.elbo(
        bound.layout, theta, points, np.tile(y, (len(points) // len(x), 1)), xi, likelihood.kind,
        likelihood._parameters(), scale / n_samples,
    )  # fmt: skip
    out = {name: np.zeros_like(value) for name, value in parameters.items()}
    bound.vjp(parameters, prepared, gradient, out)
    n_trained = likelihood.n_trained
    out["likelihood"][:] = (d_likelihood * likelihood._parameters())[:n_trained]
    data = scale * values.reshape(n_samples, len(x)).sum(1)
    if flows:
        d_x = bound.enter_vjp(parameters, prepared, x, d_x, out)
    return data, bound.divergence(parameters, prepared), out, d_x

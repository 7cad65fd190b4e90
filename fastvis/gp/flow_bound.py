"""The bound of a deep GP whose first layer is a monotonic flow: UAI 2020, section 6.

Inducing values of the flow's velocity are drawn, since a flow is no Gaussian; given these, the
layers after it are what they are in any other deep GP, and integrated as there.
"""

from dataclasses import dataclass

import numpy as np

from .bounds import layout_of
from .flow import Flow
from .geometry import Geometry
from .triangles import triangle, triangle_vjp
from .whitened import Chain


@dataclass(frozen=True)
class Drawn:
    """What `FlowBound.prepare` has drawn, for the way back."""

    flow: Flow
    noise: np.ndarray  # (S, M): standard normals of the flow's values
    deviations: np.ndarray  # (S, M): these, times T
    geometries: list
    cache: object  # of the posterior of the layers after the flow
    views: dict


class FlowBound:
    """Parameters, by name, in the order of `shapes`:

    (0, "theta"), (0, "n"), (0, "factor")    of the flow's velocity
    (l, "theta"), (l, "z"), (l, "n")         of the layers after it
    and those of the posterior of all layers, `Factorized` or `Chain`.
    """

    sampled = False

    def __init__(self, sizes, kernels, posterior, jitter, locations, least_steps):
        self.sizes, self.kernels, self.jitter = sizes, kernels, jitter
        self.locations, self.least_steps = locations, least_steps
        self.posterior = posterior([(s.n_outputs, s.n_inducing) for s in sizes])
        self.rest = posterior(self.posterior.sizes[1:])
        self.layout = layout_of(sizes[1:], kernels[1:], self.rest.pairs)

    def shapes(self):
        shapes = {(0, "theta"): (len(self.kernels[0].theta),), (0, "n"): (1, len(self.locations))}
        for l, (s, kernel) in enumerate(zip(self.sizes[1:], self.kernels[1:]), 1):
            shapes[l, "theta"] = (len(kernel.theta),)
            shapes[l, "z"] = (s.n_inducing, s.n_inputs)
            shapes[l, "n"] = (s.n_outputs, s.n_inducing)
        return {**shapes, **self.posterior.shapes()}

    def start(self, parameters, z, scales):
        for l, kernel in enumerate(self.kernels):
            parameters[l, "theta"][:] = kernel.theta
            if l > 0:
                parameters[l, "z"][:] = z[l]
        self.posterior.start(parameters, scales)

    def prepare(self, parameters, n_samples, rng):
        """What paths are drawn with: theta (n_samples, size), and all that the gradient needs."""
        noise = rng.standard_normal((n_samples, len(self.locations)))
        deviations = noise @ self._factor(parameters).T
        flow = self.flow(parameters, parameters[0, "n"] + deviations)
        factors, pairs, cache = self.rest.blocks(self._of_rest(parameters))
        theta = np.zeros((n_samples, self.layout.size))
        views, geometries = self.layout.views(theta), []
        shifts = self._shifts(parameters, deviations)
        for l, (s, kernel) in enumerate(zip(self.sizes[1:], self.kernels[1:]), 1):
            kernel = kernel.with_theta(parameters[l, "theta"])
            geometry = Geometry(kernel, parameters[l, "z"][None], self.jitter, l)
            geometry.fill(views, l - 1)
            views[l - 1, "slope"][:] = s.slope
            views[l - 1, "n"][:] = parameters[l, "n"] + shifts[l].reshape(
                n_samples, s.n_outputs, -1
            )
            views[l - 1, "factor"][:] = factors[l - 1]
            geometries.append(geometry)
        for (r, s), block in zip(self.rest.pairs, pairs):
            views[r, s, "pair"][:] = block
        return theta, Drawn(flow, noise, deviations, geometries, cache, views)

    def flow(self, parameters, values):
        """The `Flow` of whitened velocities (S, M)."""
        kernel = self.kernels[0].with_theta(parameters[0, "theta"])
        return Flow(
            Geometry(kernel, self.locations[None], self.jitter, 0), values, self.least_steps
        )

    def enter(self, x, prepared):
        """Where points x (N, 1) enter the layers after the flow, (S N, 1)."""
        return prepared.flow(x[:, 0]).reshape(-1, 1)

    def divergence(self, parameters, prepared):
        cache = self.posterior.blocks(parameters)[2]
        means = sum((parameters[l, "n"] ** 2).sum() for l in range(len(self.sizes)))
        return self.posterior.kl(parameters, cache) + means / 2

    def vjp(self, parameters, prepared, gradient, out):
        """Add to out what a gradient by theta, and that of -KL, is by the parameters."""
        gradient = self.layout.views(gradient)
        n_samples, last = len(prepared.noise), len(self.sizes) - 1
        d_shift = 0.0
        shifts = self._shifts(parameters, prepared.deviations)
        for l in range(last, 0, -1):
            d_z, d_theta = prepared.geometries[l - 1].vjp(prepared.views, gradient, l - 1)
            d_n = gradient[l - 1, "n"]
            out[l, "z"] += d_z.sum(0)
            out[l, "theta"] += d_theta
            out[l, "n"] += d_n.sum(0) - parameters[l, "n"]
            if isinstance(self.posterior, Chain):
                d_shift = d_shift + d_n.reshape(n_samples, -1)
                out[l, "gain"] += d_shift.T @ shifts[l - 1]
                d_shift = d_shift @ parameters[l, "gain"]
        out[0, "n"] -= parameters[0, "n"]
        self._noise_vjp(parameters, prepared, d_shift, out)
        d_factors = [gradient[l, "factor"].sum(0) for l in range(last)]
        d_pairs = [gradient[r, s, "pair"].sum(0) for r, s in self.rest.pairs]
        self.rest.blocks_vjp(prepared.cache, d_factors, d_pairs, self._of_rest(out))
        self.posterior.kl_vjp(self.posterior.blocks(parameters)[2], -1.0, out)

    def enter_vjp(self, parameters, prepared, x, d_points, out):
        """Add to out what a gradient by the points of `enter` is; return that by x."""
        d_x, d_values, d_lz, d_z, d_parameters = prepared.flow.vjp(
            x[:, 0], d_points.reshape(len(prepared.noise), len(x))
        )
        _, d_more = prepared.flow.geometry.factor_vjp(d_lz[None])
        kernel = prepared.flow.geometry.kernel
        out[0, "theta"] += kernel._theta_gradient(2, d_parameters + d_more)
        out[0, "n"] += d_values.sum(0)
        self._noise_vjp(parameters, prepared, d_values, out)
        return d_x.sum(0)[:, None]

    def natural_step(self, parameters, gradient, rate):
        """Move the posterior along the natural gradient."""
        self.posterior.natural_step(parameters, gradient, rate)

    def natural_names(self):
        """Of the parameters that `natural_step` moves."""
        return [(l, "n") for l in range(len(self.sizes))] + list(self.posterior.shapes())

    def _factor(self, parameters):
        return triangle(parameters[0, "factor"]).reshape(len(self.locations), -1)

    def _noise_vjp(self, parameters, prepared, d_deviations, out):
        if np.ndim(d_deviations):
            d_t = triangle_vjp(self._factor(parameters), d_deviations.T @ prepared.noise)
            out[0, "factor"] += d_t.reshape(out[0, "factor"].shape)

    def _shifts(self, parameters, deviations):
        """What deviations (S, M) of the flow add to the means of each layer, (S, B_l)."""
        shifts = [deviations]
        for l, s in enumerate(self.sizes[1:], 1):
            if isinstance(self.posterior, Chain):
                shifts.append(shifts[-1] @ parameters[l, "gain"].T)
            else:
                shifts.append(np.zeros((len(deviations), s.n_outputs * s.n_inducing)))
        return shifts

    def _of_rest(self, parameters):
        """Those of the posterior of the layers after the flow, counted from 0."""
        return {
            (name[0] - 1, name[1]): value
            for name, value in parameters.items()
            if isinstance(name, tuple) and name[0] > 0 and name != (1, "gain")
        }

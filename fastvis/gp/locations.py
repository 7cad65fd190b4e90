"""The bound of UAI 2020, section 4.2: inducing points of a layer are the locations of the next.

Only the first layer has inducing inputs z. All layers' values there, f_l^z (T, M), are independent
Gaussians N(m_l, C_l C_l^T), not whitened; layer l is conditioned on the pair f_{l-1}^z, f_l^z.
Values of hidden layers are drawn, once for all points of a sample; those of the last layer are
integrated in closed form.
"""

import numpy as np

from .bounds import layout_of
from .geometry import Geometry
from .triangles import (
    below,
    log_diagonal,
    natural_step,
    raw_triangle,
    solve_lower,
    triangle,
    triangle_vjp,
)


class LocationsBound:
    """Parameters, by name, in the order of `shapes`:

    (l, "theta")     logs of hyperparameters of layer l
    (0, "z")         inducing inputs (M, D)
    (l, "m")         means of f_l^z (T, M)
    (l, "factor")    raw C_l (T, M, M)
    """

    def __init__(self, sizes, kernels, jitter):
        self.sizes, self.kernels, self.jitter = sizes, kernels, jitter
        self.layout = layout_of(sizes, kernels, ())

    def shapes(self):
        shapes = {(0, "z"): (self.sizes[0].n_inducing, self.sizes[0].n_inputs)}
        for l, (s, kernel) in enumerate(zip(self.sizes, self.kernels)):
            shapes[l, "theta"] = (len(kernel.theta),)
            shapes[l, "m"] = (s.n_outputs, s.n_inducing)
            shapes[l, "factor"] = (s.n_outputs, s.n_inducing, s.n_inducing)
        return shapes

    def start(self, parameters, z, scales):
        """Means at the mean functions, standard deviations ``scales`` of the prior's."""
        at = parameters[0, "z"][:] = z[0]
        for l, (kernel, s, scale) in enumerate(zip(self.kernels, self.sizes, scales)):
            parameters[l, "theta"][:] = kernel.theta
            deviation = scale * np.sqrt(kernel.diag(at).mean())
            at = at @ s.slope
            parameters[l, "m"][:] = at.T
            parameters[l, "factor"][:] = raw_triangle(deviation * np.eye(s.n_inducing))

    def prepare(self, parameters, n_samples, rng):
        """What paths are drawn with: theta (n_samples, size), and all that the gradient needs."""
        theta = np.zeros((n_samples, self.layout.size))
        views = self.layout.views(theta)
        last, layers = len(self.sizes) - 1, []
        z = parameters[0, "z"][None]
        for l, (kernel, s) in enumerate(zip(self.kernels, self.sizes)):
            geometry = Geometry(kernel.with_theta(parameters[l, "theta"]), z, self.jitter, l)
            geometry.fill(views, l)
            views[l, "slope"][:] = s.slope
            c, m = triangle(parameters[l, "factor"]), parameters[l, "m"]
            prior_mean = np.swapaxes(z @ s.slope, 1, 2)  # (S or 1, T, M)
            noise = None if l == last else rng.standard_normal((n_samples, *m.shape))
            a = _solve(geometry.lz, (m - prior_mean)[..., None])[..., 0]
            big_a = _solve(geometry.lz, c[None])
            if l == last:
                views[l, "n"][:], views[l, "factor"][:] = a, big_a
            else:
                values = m + np.einsum("tij,stj->sti", c, noise)
                views[l, "n"][:] = _solve(geometry.lz, (values - prior_mean)[..., None])[..., 0]
                z = np.ascontiguousarray(np.swapaxes(values, 1, 2))
            layers.append((geometry, c, noise, a, big_a))
        return theta, (layers, views)

    def divergence(self, parameters, prepared):
        """The mean over draws of KL(q(f_l^z) || p(f_l^z | f_{l-1}^z)), summed over layers."""
        total = 0.0
        for l, (geometry, c, _, a, big_a) in enumerate(prepared[0]):
            logs = np.log(np.diagonal(geometry.lz, axis1=1, axis2=2)).sum(1).mean() * len(c)
            squares = (a**2).sum() + (big_a**2).sum()
            total += squares / 2 / len(a) - a[0].size / 2 + logs
            total -= log_diagonal(parameters[l, "factor"])
        return total

    def vjp(self, parameters, prepared, gradient, out):
        """Add to out what a gradient by theta, and that of -KL, is by the parameters."""
        layers, views = prepared
        gradient = self.layout.views(gradient)
        last, d_values = len(layers) - 1, None
        for l in range(last, -1, -1):
            geometry, c, noise, a, big_a = layers[l]
            n_sets = len(a)
            d_a, d_big_a = -a / n_sets, -big_a / n_sets
            if l == last:
                d_a = d_a + geometry.of_sets(gradient[l, "n"])
                d_big_a = d_big_a + below(geometry.of_sets(gradient[l, "factor"]))
            d_lz, d_wa = _solve_vjp(geometry.lz, a[..., None], d_a[..., None])
            more, d_c = _solve_vjp(geometry.lz, big_a, d_big_a)
            d_lz += more
            d_m = d_wa[..., 0].sum(0)
            d_c, d_mean = d_c.sum(0), -d_wa[..., 0]
            if l < last:
                n = views[l, "n"]
                more, d_w = _solve_vjp(geometry.lz, n[..., None], gradient[l, "n"][..., None])
                d_lz = d_lz + geometry.of_sets(more)
                d_mean = d_mean - geometry.of_sets(d_w[..., 0])
                d_values = d_values + d_w[..., 0]
                d_m += d_values.sum(0)
                d_c += np.einsum("sti,stj->tij", d_values, noise)
            at = np.arange(d_lz.shape[-1])
            d_lz[:, at, at] -= len(c) / n_sets / geometry.lz[:, at, at]
            d_z, d_theta = geometry.vjp(views, gradient, l, d_lz)
            d_z += np.swapaxes(d_mean, 1, 2) @ self.sizes[l].slope.T
            out[l, "theta"] += d_theta
            out[l, "m"] += d_m
            out[l, "factor"] += triangle_vjp(c, d_c)
            at = np.arange(c.shape[-1])
            out[l, "factor"][:, at, at] += 1
            if l > 0:
                d_values = np.swapaxes(d_z, 1, 2)
        out[0, "z"] += d_z.sum(0)

    def natural_step(self, parameters, gradient, rate):
        """Move the posterior along the natural gradient, as those of `whitened`."""
        for l, s in enumerate(self.sizes):
            for d in range(s.n_outputs):
                metric = natural_step(parameters[l, "factor"][d], gradient[l, "factor"][d], rate)
                parameters[l, "m"][d] += metric @ gradient[l, "m"][d]

    def natural_names(self):
        """Of the parameters that `natural_step` moves."""
        return [(l, name) for l in range(len(self.sizes)) for name in ("m", "factor")]


def _solve(lower, b):
    """Lower^-1 b of each set; lower (S or 1, M, M), b (S or 1, T, M, K)."""
    n_sets = max(len(lower), len(b))
    out = np.empty((n_sets, *b.shape[1:]))
    for s in range(n_sets):
        for t in range(b.shape[1]):
            out[s, t] = solve_lower(lower[s % len(lower)], b[s % len(b), t])
    return out


def _solve_vjp(lower, x, d_x):
    """From a gradient by x = lower^-1 b (S, T, M, K) to those by lower, of each set, and by b."""
    d_b = np.empty(d_x.shape)
    d_lower = np.zeros((len(x), *lower.shape[1:]))
    for s in range(len(x)):
        for t in range(x.shape[1]):
            d_b[s, t] = solve_lower(lower[s % len(lower)], d_x[s, t], transposed=True)
            d_lower[s] -= below(d_b[s, t] @ x[s, t].T)
    return d_lower, d_b

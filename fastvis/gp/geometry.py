"""A covariance and its inducing locations: K = k(z, z), its factor, and the way back."""

from copy import copy

import numpy as np

from .._kernels import covariance, paths
from .triangles import below, factor, factor_vjp, solve_lower


class Geometry:
    """Of a layer, for S sets of inducing locations z (S, M, D).

    K has ``jitter`` times the mean of its diagonal added to the diagonal, here and nowhere else.
    """

    def __init__(self, kernel, z, jitter, layer):
        self.kernel, self.z, self.jitter = kernel, np.ascontiguousarray(z), jitter
        self.program, self.parameters = kernel._program(z.shape[2])
        k = covariance.matrix(self.program, self.parameters, self.z)
        at = np.arange(k.shape[1])
        k[:, at, at] += jitter * k[:, at, at].mean(1, keepdims=True)
        what = f"the covariance of the inducing points of layer {layer}, with jitter {jitter:g},"
        self.lz = np.stack([factor(x, what) for x in k])

    def fill(self, views, layer):
        """Write what paths need into views of theta (S, size)."""
        views[layer, "parameters"][:] = self.parameters
        views[layer, "lz"][:] = self.lz
        for s, phi in enumerate(views[layer, "z"]):
            paths.features(self.program, self.parameters, self.z[s % len(self.z)], phi)

    def vjp(self, views, gradient, layer, d_lz=0.0):
        """From views of a gradient like theta, and one more by lz, to those by z and theta."""
        d_lz = d_lz + self.of_sets(gradient[layer, "lz"])
        d_phi = self.of_sets(gradient[layer, "z"])
        d_z, d_parameters = self.factor_vjp(d_lz)
        d_parameters += gradient[layer, "parameters"].sum(0)
        k = self.program, self.parameters
        for s, z in enumerate(self.z):
            d_zs, d_more = paths.features_vjp(*k, z, views[layer, "z"][s], d_phi[s])
            d_z[s] += d_zs
            d_parameters += d_more
        return d_z, self.kernel._theta_gradient(self.z.shape[2], d_parameters)

    def factor_vjp(self, d_lz):
        """From a gradient by lz (S, M, M) to those by z and the covariance's parameters."""
        d_k = np.stack([factor_vjp(lz, below(d)) for lz, d in zip(self.lz, d_lz)])
        at = np.arange(d_k.shape[1])
        d_k[:, at, at] += self.jitter * d_k[:, at, at].mean(1, keepdims=True)
        d_z, _, d_parameters = covariance.matrix_vjp(
            self.program, self.parameters, self.z, None, d_k
        )
        return d_z, d_parameters

    def of_sets(self, gradient):
        """Summed over the sets of theta, if they share one set of locations."""
        return (
            gradient.sum(0, keepdims=True) if len(self.z) == 1 else np.ascontiguousarray(gradient)
        )

    def of_set(self, s):
        """The geometry of one set of locations."""
        if len(self.z) == 1:
            return self
        one = copy(self)
        one.z, one.lz = self.z[s : s + 1], self.lz[s : s + 1]
        return one

    def basis(self, x):
        """Lz^-1 k(z, x), (S, M, N), of points x (S, N, D)."""
        k = covariance.matrix(self.program, self.parameters, self.z, np.ascontiguousarray(x))
        return np.stack([solve_lower(lz, columns) for lz, columns in zip(self.lz, k)])

    def prior(self, x):
        """k(x, x), (N,), of points (N, D)."""
        return covariance.diagonal(self.program, self.parameters, np.ascontiguousarray(x))

    def prior_matrix(self, x):
        """k(x, x'), (N, N), of points (N, D)."""
        x = np.ascontiguousarray(x)[None]
        return covariance.matrix(self.program, self.parameters, x, x)[0]

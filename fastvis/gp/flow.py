"""Monotone functions: where the flow of a random velocity field carries points in unit time.

ds/dt = g(s, t), s(0) = x; the function is x -> s(1). Streams do not cross, so it is increasing. The
velocity g is a Gaussian process over place and time, of the finite rank of its inducing points:

    g(p) = k(p, Z) w,    w = Lz^-T v,    v ~ N(0, I),    Lz Lz^T = k(Z, Z)

so that a draw of v is a whole function, and v = 0 the identity. Steps are Euler's. One keeps order
where 1 + dt g' > 0; by the Cauchy-Schwarz inequality |g'| is nowhere larger than |v| sqrt(variance)
/ lengthscale, and there are as many steps as that needs, for every draw.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from .._kernels import covariance
from .._validation import check_int
from .covariances import SquaredExponential
from .triangles import solve_lower

STEEPEST = 0.8  # dt |g'|
MARGIN = 0.1  # of the range of places, beyond it on both sides


@dataclass(frozen=True)
class MonotonicFlow:
    """A layer of increasing functions, as the first of a `DeepGP`: warps of time, for instance.

    Where the flow of a random velocity field carries points in unit time. The prior prefers the
    identity, about which draws vary by some sqrt(variance) of the kernel.

    Parameters
    ----------
    kernel : SquaredExponential
        Of velocities, with two lengthscales: of places, in units of the inputs, and of time, of
        which a flow takes 1. Short lengthscales of places make steep warps.
    n_inducing : tuple of two ints
        Places, evenly spread over the inputs and a tenth more, and times. They stay where they are;
        places should be no farther apart than the lengthscale.
    n_steps : int
        Of Euler's method, at least: there are more where a drawn velocity is so steep that order
        might be lost.

    Notes
    -----
    Steps are so short that 1 + dt g' >= 0.2 for every velocity g that is drawn, at all places:
    draws are increasing on any grid, as far as neighboring values differ in the last digits.

    References
    ----------
    Ustyuzhaninov, Kazlauskaite, Ek and Campbell, "Monotonic Gaussian process flows", AISTATS 2020.
    UAI 2020, section 6.

    Examples
    --------
    >>> from fastvis.gp import DeepGP, Gaussian, GPLayer, MonotonicFlow, SquaredExponential
    >>> x = np.linspace(0, 1, 30)
    >>> flow = MonotonicFlow(SquaredExponential(0.1, [0.3, 1.0]))
    >>> layers = [flow, GPLayer(SquaredExponential(lengthscale=0.1), 15)]
    >>> model = DeepGP(layers, Gaussian(0.01), n_steps=20, rng=0).fit(x, np.sin(20 * x**2))
    >>> warps = model.sample_functions(x, 5, rng=0).functions[0]
    >>> bool((np.diff(warps[..., 0]) > 0).all())
    True
    """

    kernel: object
    n_inducing: tuple = (8, 3)
    n_steps: int = 20

    n_outputs = 1
    mean = "identity"
    inducing = None

    def __post_init__(self):
        if not isinstance(self.kernel, SquaredExponential) or np.size(self.kernel.lengthscale) != 2:
            raise ValueError(
                "kernel must be a SquaredExponential with two lengthscales, of place and of time; "
                f"got {self.kernel!r}."
            )
        if np.shape(self.n_inducing) != (2,):
            raise ValueError(
                f"n_inducing must be two ints, places and times; got {self.n_inducing}."
            )
        for n in self.n_inducing:
            check_int(n, "n_inducing", minimum=1)
        check_int(self.n_steps, "n_steps", minimum=1)

    def locations(self, x):
        """Places and times of velocities that are learned, (M, 2), for inputs (N, 1)."""
        low, high = x.min(), x.max()
        margin = MARGIN * (high - low)
        places = np.linspace(low - margin, high + margin, self.n_inducing[0])
        times = np.linspace(0, 1, self.n_inducing[1])
        return np.stack(np.meshgrid(places, times), axis=-1).reshape(prod(self.n_inducing), 2)


class Flow:
    """The flow of velocities with whitened inducing values (S, M), at locations of a `Geometry`."""

    def __init__(self, geometry, values, least_steps):
        self.geometry, self.values, self.least_steps = geometry, values, least_steps
        self.k = geometry.program, geometry.parameters
        self.lz, self.z = geometry.lz[0], geometry.z
        self.w = solve_lower(self.lz, values.T, transposed=True).T
        # of the leaf in place: variance, 1 / lengthscale
        slope = np.sqrt(geometry.parameters[0, 0]) * geometry.parameters[0, 1]
        steepest = slope * np.sqrt(np.square(values).sum(1).max())
        self.n_steps = max(least_steps, int(np.ceil(steepest / STEEPEST)))
        self.dt = 1 / self.n_steps

    def __call__(self, x):
        """Where points x (N,), or (S, N) of each draw, end, (S, N)."""
        s = np.array(np.broadcast_to(x, (len(self.values), np.shape(x)[-1])))
        for step in range(self.n_steps):
            k = covariance.matrix(*self.k, self._points(s, step), self.z)
            s += self.dt * (k @ self.w[..., None])[..., 0]
        return s

    def of_draws(self, order):
        """The flow of some of the draws, in an order."""
        return Flow(self.geometry, self.values[order], self.least_steps)

    def _points(self, s, step):
        return np.stack([s, np.full_like(s, step * self.dt)], axis=-1)

    def vjp(self, x, d_end):
        """From a gradient by the ends (S, N) to those by x (S, N), values (S, M), lz, z and
        the covariance's parameters.
        """
        s = np.array(np.broadcast_to(x, d_end.shape))
        places = []
        for step in range(self.n_steps):
            places.append(s.copy())
            k = covariance.matrix(*self.k, self._points(s, step), self.z)
            s += self.dt * (k @ self.w[..., None])[..., 0]
        d_s, d_w = np.array(d_end), np.zeros_like(self.w)
        d_z, d_parameters = np.zeros_like(self.z), np.zeros_like(self.geometry.parameters)
        for step in range(self.n_steps - 1, -1, -1):
            points = self._points(places[step], step)
            k = covariance.matrix(*self.k, points, self.z)
            d_w += self.dt * (d_s[:, None] @ k)[:, 0]
            d_k = self.dt * d_s[..., None] * self.w[:, None]
            d_points, more, d_more = covariance.matrix_vjp(*self.k, points, self.z, d_k)
            d_s += d_points[..., 0]
            d_z += more
            d_parameters += d_more
        d_values = solve_lower(self.lz, d_w.T).T
        d_lz = -np.tril(self.w.T @ d_values)
        return d_s, d_values, d_lz, d_z, d_parameters

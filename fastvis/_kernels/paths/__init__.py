"""Paths through the layers of a deep Gaussian process, their likelihood, and all gradients.

::

    reference.py    one path, by the joint Gaussian of its values
    likelihood.h    expected log-likelihoods
    algebra.h       linear algebra of a panel of paths
    _cpu.pyx        panels of paths, there and back

All parameters of a network lie in one vector theta, where `Layout` says; gradients lie in one like
it. Layers may share nothing, be coupled by blocks S_rs of the covariance of their whitened inducing
values, or be given anew for each of several sets of paths.
"""

import functools
from dataclasses import dataclass

import numpy as np

from ..covariance import _cpu as _covariance
from ..slots import Slots
from ..threads import run_ranges
from . import _cpu

LIKELIHOODS = ("gaussian", "student_t", "bernoulli")
MOST_LAYERS, MOST_ROWS = _cpu.LAYERS, _cpu.ROWS
N_NODES = 20  # of quadratures under a normal distribution
STEP = 0.42  # of log t
PATHS_OF_PIECE = 768  # about
MOST_PIECES = 16  # each with a gradient of its own


@dataclass(frozen=True)
class Shape:
    """Of a layer: its `covariance.Program`, and how many inputs, outputs and inducing points."""

    program: object
    n_inputs: int
    n_outputs: int
    n_inducing: int


class Layout:
    """Where the parameters of layers of given `Shape` are; pairs: rows (r, s), r > s, coupled.

    ``views(theta)`` gives by (layer, name), and S_rs (M_r, M_s) by pair (r, s, "pair"):

        parameters (n_leaves, 1 + 2 D)    of the covariance
        z (M, F)                          features of the inducing points
        lz (M, M)                         lower Cholesky factor of k(z, z)
        n (T, M)                          means of whitened inducing values
        factor (T, M, M)                  lower factors of their covariances S_rr
        slope (D, T)                      the mean function is x @ slope
    """

    NAMES = ("parameters", "z", "lz", "n", "factor", "slope")

    def __init__(self, shapes, pairs=()):
        self.shapes, self.pairs = tuple(shapes), tuple(pairs)
        self.layer_of = np.repeat(range(len(shapes)), [s.n_outputs for s in shapes])
        slots, table = {}, []
        for l, shape in enumerate(self.shapes):
            d, t, m = shape.n_inputs, shape.n_outputs, shape.n_inducing
            kinds, ops = shape.program.kinds, shape.program.ops
            parameters = len(kinds), 1 + 2 * d
            n_features = _covariance.n_features(kinds, ops, np.ones(parameters))
            arrays = parameters, (m, n_features), (m, m), (t, m), (t, m, m), (d, t)
            slots.update({(l, name): shape for name, shape in zip(self.NAMES, arrays)})
            table.append([d, t, m, len(kinds), len(ops)])
        sizes = [self.shapes[l].n_inducing for l in self.layer_of]
        slots.update({(r, s, "pair"): (sizes[r], sizes[s]) for r, s in self.pairs})
        self._slots = Slots(slots)
        self.size, self.views = self._slots.size, self._slots.views
        for l, row in enumerate(table):
            row += [self._slots.start((l, name)) for name in self.NAMES]
        pairs = [(r, s, self._slots.start((r, s, "pair"))) for r, s in self.pairs]
        self.tables = (
            np.array(table, np.int64),
            np.array(pairs, np.int64).reshape(-1, 3),
            np.concatenate([s.program.kinds for s in self.shapes]),
            np.concatenate([s.program.ops for s in self.shapes]),
        )

    @property
    def n_hidden(self):
        """Rows of all layers but the last."""
        return len(self.layer_of) - self.shapes[-1].n_outputs


def features(program, parameters, z, out):
    """Write features of inducing points z (M, D) to out (M, F)."""
    if out.size:
        _covariance.features(program.kinds, program.ops, parameters, z, out, False)


def features_vjp(program, parameters, z, phi, d_phi):
    """From a gradient by features to those by z and parameters."""
    dz, d_parameters = np.zeros(z.shape), np.zeros(parameters.shape)
    center = np.zeros(z.shape[1])
    k = program.kinds, program.ops, parameters
    _covariance.features_vjp(*k, z, center, phi, d_phi, False, dz, d_parameters)
    return dz, d_parameters


@functools.cache
def quadrature(likelihood):
    """Nodes and weights that `likelihood.h` takes."""
    if LIKELIHOODS[likelihood] == "student_t":
        nodes = np.exp(np.arange(9, -110, -1) * STEP)  # 44, to where 1e14 times as much is small
        return nodes, STEP * np.exp(-nodes)
    nodes, weights = np.polynomial.hermite_e.hermegauss(N_NODES)
    return nodes, weights / weights.sum()


def elbo(layout, theta, x, y, xi, likelihood, likelihood_parameters, scale):
    """Expected log-likelihoods of paths, and their derivatives.

    Parameters
    ----------
    layout : Layout
    theta : ndarray, (n_sets, size)
        Each set of parameters is for n_paths / n_sets of the paths.
    x, y : ndarray, (n, D), (n, T)
        Path i starts at x[i % n], and y[i % n] is observed at its end. Of a set's paths as many as
        there are for another start at each point, or, if they are fewer than n, one at some.
    xi : ndarray, (n_paths, n_hidden)
        Standard normals.
    likelihood : int
        Of `LIKELIHOODS`.
    likelihood_parameters : ndarray, (2,)
    scale : float
        Of the derivatives.

    Returns
    -------
    values : ndarray, (n_paths,)
    gradient : ndarray, (n_sets, size)
    d_x : ndarray, like x
    d_likelihood : ndarray, (2,)
    """
    n_sets, n_paths, n = len(theta), len(xi), len(x)
    if _is_narrow(n, n_paths // n_sets):
        x, y = (np.tile(a, (n_paths // n, 1)) for a in (x, y))
    n_points = min(len(x), n_paths // n_sets)
    pieces = min(MOST_PIECES, -(-n_paths // (n_sets * PATHS_OF_PIECE)), n_points)
    pieces -= pieces % 4 if pieces > 4 else 0  # as many for each of few threads
    values, d_x = np.empty(n_paths), np.empty((n_sets * n_points, x.shape[1]))
    gradient = np.zeros((n_sets * pieces, layout.size))
    d_likelihood = np.zeros((n_sets * pieces, 2))
    nodes, weights = quadrature(likelihood)
    run_ranges(
        _cpu.elbo, n_sets * pieces, *layout.tables, theta, x, y, xi, likelihood,
        likelihood_parameters, nodes, weights, scale, values, gradient, d_x, d_likelihood,
        grain=1,
    )  # fmt: skip
    d_x = d_x.reshape(-1, n, x.shape[1]).sum(0)
    return values, gradient.reshape(n_sets, pieces, -1).sum(1), d_x, d_likelihood.sum(0)


def sample(layout, theta, x, xi):
    """Values of all rows on paths, (n_paths, n_rows), of the last layer means; deviations of these.

    Arguments as of `elbo`.
    """
    n_paths, n_rows = len(xi), len(layout.layer_of)
    if _is_narrow(len(x), n_paths // len(theta)):
        x = np.tile(x, (n_paths // len(x), 1))
    n_points = min(len(x), n_paths // len(theta))
    f, deviation = np.empty((n_paths, n_rows)), np.empty((n_paths, n_rows - layout.n_hidden))
    grain = max(1, PATHS_OF_PIECE * len(theta) * n_points // n_paths)
    run_ranges(
        _cpu.sample, len(theta) * n_points, *layout.tables, theta, x, xi, f, deviation, grain=grain
    )
    return f, deviation


def _is_narrow(n_points, n_paths):
    """Whether paths of so few points fill panels better if each has a point of its own."""
    return n_paths > n_points and n_points < _cpu.PANEL // 4

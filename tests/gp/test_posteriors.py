"""Posteriors of inducing values: divergences, derivatives, natural gradients, special cases."""

import numpy as np
import pytest

from fastvis._kernels import paths
from fastvis._kernels.slots import Slots
from fastvis.gp import (
    Bernoulli,
    Gaussian,
    Linear,
    Matern,
    Periodic,
    SquaredExponential,
    StudentT,
)
from fastvis.gp.bounds import Sizes, WhitenedBound, evidence_bound
from fastvis.gp.locations import LocationsBound
from fastvis.gp.triangles import factor_of_sum, factor_vjp, natural_step, raw_triangle, triangle
from fastvis.gp.whitened import Chain, Factorized, Joint

KERNELS = (
    SquaredExponential(1.0, 0.7),
    Periodic(1.0, 1.0, 2.0) * Linear(1.0) + SquaredExponential(0.5, 0.9),
    Matern(2.5, 1.0, 0.8),
)
WHITENED = {"factorized": Factorized, "chain": Chain, "joint": Joint}


class Problem:
    """A bound, random parameters in one vector, and data."""

    def __init__(
        self, posterior, outputs=(1, 1, 1), *, sampled=False, likelihood=None, m=4, seed=0
    ):
        rng = np.random.default_rng(seed)
        self.likelihood = likelihood or Gaussian(0.1)
        sizes, n_inputs = [], len(outputs)
        for l, t in enumerate(outputs):
            slope = np.eye(n_inputs, t) * (l < len(outputs) - 1)
            sizes.append(Sizes(n_inputs, t, m if posterior == "locations" else m + l, slope))
            n_inputs = t
        kernels = KERNELS[: len(outputs)]
        if posterior == "locations":
            self.bound = LocationsBound(sizes, kernels, 1e-3)
        else:
            self.bound = WhitenedBound(sizes, kernels, WHITENED[posterior], 1e-3, sampled)
        names = {**self.bound.shapes(), "likelihood": (len(self.likelihood.theta),)}
        self.slots = Slots(names)
        self.vector = np.zeros(self.slots.size)
        z = [rng.normal(size=(s.n_inducing, s.n_inputs)) for s in sizes]
        self.parameters = self.slots.views(self.vector)
        self.bound.start(self.parameters, z, [0.3] * len(outputs))
        self.parameters["likelihood"][:] = self.likelihood.theta
        self.vector += 0.1 * rng.normal(size=self.vector.shape)
        self.x = rng.normal(size=(6, sizes[0].n_inputs))
        self.y = rng.normal(size=(6, outputs[-1]))
        if isinstance(self.likelihood, Bernoulli):
            self.y = (self.y > 0).astype(float)

    def terms(self, vector=None, n_samples=5):
        """Data terms of the samples, the divergence, and the gradient of their difference."""
        vector = self.vector if vector is None else vector
        data, divergence, gradient, _ = evidence_bound(
            self.bound, self.likelihood, self.slots.views(vector), self.x, self.y, n_samples, 2.0,
            np.random.default_rng(3),
        )  # fmt: skip
        flat = np.zeros(self.slots.size)
        for name, view in self.slots.views(flat).items():
            view[...] = gradient[name]
        return data, divergence, flat

    def value(self, vector):
        data, divergence, _ = self.terms(vector)
        return data.mean() - divergence


CASES = [
    ("factorized", {}),
    ("factorized", {"outputs": (2, 2)}),
    ("factorized", {"sampled": True}),
    ("chain", {}),
    ("chain", {"outputs": (2, 2, 1)}),
    ("chain", {"likelihood": StudentT(0.5)}),
    ("chain", {"sampled": True, "outputs": (2, 2)}),
    ("joint", {"outputs": (2, 2)}),
    ("joint", {"likelihood": Bernoulli()}),
    ("joint", {"sampled": True}),
    ("locations", {}),
    ("locations", {"outputs": (2, 2)}),
    ("locations", {"outputs": (1,), "likelihood": StudentT(0.5)}),
]


@pytest.mark.parametrize(("posterior", "options"), CASES)
def test_gradients_match_finite_differences(posterior, options, rng):
    problem = Problem(posterior, **options)
    _, _, gradient = problem.terms()
    for name, slope in problem.slots.views(gradient).items():
        step = np.zeros(problem.slots.size)
        direction = problem.slots.views(step)[name]
        direction[...] = 1e-5 * rng.normal(size=direction.shape)
        found = (slope * direction).sum()
        right, left = problem.value(problem.vector + step), problem.value(problem.vector - step)
        size = np.abs(slope * direction).sum() + 1e-5
        assert abs(found - (right - left) / 2) <= 2e-6 * size, name


# Divergences


def dense(posterior, parameters):
    """Mean and covariance of all whitened inducing values."""
    s = posterior.covariance(posterior.blocks(parameters)[2])
    n = len(posterior.sizes)
    rows = [[s[l, k] if l >= k else s[k, l].T for k in range(n)] for l in range(n)]
    mean = np.concatenate([parameters[l, "n"].ravel() for l in range(n)])
    return mean, np.block(rows)


@pytest.mark.parametrize("outputs", [(1, 1, 1), (2, 3, 1)], ids=str)
@pytest.mark.parametrize("posterior", WHITENED)
def test_divergence_matches_dense_gaussians(posterior, outputs):
    problem = Problem(posterior, outputs)
    mean, s = dense(problem.bound.posterior, problem.parameters)
    expected = 0.5 * (np.trace(s) + mean @ mean - len(s) - np.linalg.slogdet(s)[1])
    assert problem.terms()[1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("posterior", WHITENED)
def test_draws_have_the_covariance(posterior, rng):
    problem = Problem(posterior, (2, 1))
    kind, parameters = problem.bound.posterior, problem.parameters
    cache = kind.blocks(parameters)[2]
    noise = [rng.standard_normal((200_000, t, m)) for t, m in kind.sizes]
    draws = np.concatenate([v.reshape(len(v), -1) for v in kind.draw(cache, noise)], axis=1)
    _, s = dense(kind, parameters)
    error = np.abs(np.cov(draws.T) - s) / np.sqrt(np.outer(np.diag(s), np.diag(s)))
    assert error.max() < 5 / np.sqrt(200_000)


def test_chain_has_a_block_tridiagonal_precision():
    problem = Problem("chain", (1, 1, 1, 1)[:3])
    _, s = dense(problem.bound.posterior, problem.parameters)
    precision = np.linalg.inv(s)
    first, last = problem.bound.posterior.sizes[0][1], problem.bound.posterior.sizes[-1][1]
    assert np.abs(precision[-last:, :first]).max() < 1e-10 * np.abs(precision).max()
    assert np.abs(s[-last:, :first]).max() > 1e-6


# What reduces to what


@pytest.mark.parametrize("posterior", ["chain", "joint"])
def test_without_coupling_it_is_factorized(posterior):
    plain, coupled = Problem("factorized"), Problem(posterior)
    coupled.vector[:], coupled.x, coupled.y = 0, plain.x, plain.y
    for name, view in plain.parameters.items():
        if name in coupled.parameters:
            value = view[0] if posterior == "chain" and name[1] == "factor" else view
            coupled.parameters[name][...] = value
    if posterior == "joint":
        factor, end = coupled.parameters["factor"], 0
        for l, (_, m) in enumerate(plain.bound.posterior.sizes):
            factor[end : end + m, end : end + m] = plain.parameters[l, "factor"][0]
            end += m
    ours, expected = coupled.terms(), plain.terms()
    np.testing.assert_allclose(ours[0], expected[0], rtol=1e-9)
    assert ours[1] == pytest.approx(expected[1], rel=1e-12)


def test_locations_of_no_variance_are_factorized():
    """With hidden values fixed: inducing inputs and values of each layer are known."""
    given, plain = Problem("locations"), Problem("factorized", m=4)
    plain.bound = WhitenedBound(given.bound.sizes, KERNELS, Factorized, 1e-3)
    plain.slots = Slots({**plain.bound.shapes(), "likelihood": (1,)})
    plain.vector = np.zeros(plain.slots.size)
    plain.parameters = plain.slots.views(plain.vector)
    tiny = raw_triangle(1e-9 * np.eye(4))
    given.parameters[0, "factor"][:] = given.parameters[1, "factor"][:] = tiny
    plain.parameters["likelihood"][:] = given.parameters["likelihood"]
    plain.parameters[0, "z"][:] = given.parameters[0, "z"]
    for l in range(3):
        plain.parameters[l, "theta"][:] = given.parameters[l, "theta"]
        if l:
            plain.parameters[l, "z"][:] = given.parameters[l - 1, "m"].T
    _, (geometries, *_) = plain.bound.prepare(plain.parameters, 1, np.random.default_rng(0))
    for l, geometry in enumerate(geometries):
        mean = (geometry.z[0] @ plain.bound.sizes[l].slope)[:, 0]
        whitened = np.linalg.solve(geometry.lz[0], given.parameters[l, "m"][0] - mean)
        plain.parameters[l, "n"][0] = whitened
        c = triangle(given.parameters[l, "factor"][0])
        plain.parameters[l, "factor"][0] = raw_triangle(np.linalg.solve(geometry.lz[0], c))
    values = []
    for problem in (given, plain):
        theta, _ = problem.bound.prepare(problem.parameters, 5, np.random.default_rng(0))
        normals = np.random.default_rng(7).standard_normal((5 * 6, 2))
        values.append(paths.sample(problem.bound.layout, theta, given.x, normals))
    for ours, expected in zip(*values):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


# Natural gradients


def test_natural_step_of_rate_one_is_exact_for_a_gaussian_likelihood(rng):
    """Of q(v) for log p(y | v) = -|y - A v|^2 / 2, in one step from any larger variance."""
    a, y = rng.normal(size=(9, 4)), rng.normal(size=9)
    t, n = np.tril(rng.normal(size=(4, 4))) * 0.2 + 1.5 * np.eye(4), rng.normal(size=4)
    t[np.diag_indices(4)] = np.abs(np.diag(t))
    g = -(a.T @ a + np.eye(4)) / 2 + np.linalg.inv(t @ t.T) / 2  # of the ELBO by S
    d_t = np.tril(2 * g @ t)
    d_t[np.diag_indices(4)] *= np.diag(t)
    raw = raw_triangle(t)
    metric = natural_step(raw, d_t, 1.0)
    n = n + metric @ (a.T @ (y - a @ n) - n)
    expected = np.linalg.inv(a.T @ a + np.eye(4))
    new = triangle(raw)
    np.testing.assert_allclose(new @ new.T, expected, atol=1e-12)
    np.testing.assert_allclose(n, expected @ a.T @ y, atol=1e-12)


def test_chain_and_joint_move_alike():
    """Two layers: a chain can be any Gaussian, and natural gradients know no parameters."""
    chain, joint = Problem("chain", (1, 1)), Problem("joint", (1, 1))
    joint.vector[:], joint.x, joint.y = 0, chain.x, chain.y
    for name, view in chain.parameters.items():
        if name in joint.parameters:
            joint.parameters[name][...] = view
    _, s = dense(chain.bound.posterior, chain.parameters)
    joint.parameters["factor"][...] = raw_triangle(np.linalg.cholesky(s))
    moved = []
    for problem in (chain, joint):
        before = dense(problem.bound.posterior, problem.parameters)
        gradient = problem.slots.views(problem.terms()[2])
        problem.bound.natural_step(problem.parameters, gradient, 1e-7)
        after = dense(problem.bound.posterior, problem.parameters)
        moved.append([b - a for a, b in zip(before, after)])
    for ours, expected in zip(*moved):
        assert np.abs(expected).max() > 1e-9
        np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("size", [1e-3, 1e6])
def test_natural_steps_of_gains_are_bounded(size, rng):
    """In units of the layer's own deviation, as much as half of what goes in."""
    chain = Chain([(1, 3), (1, 3)])
    slots = Slots({(0, "n"): (1, 3), (1, "n"): (1, 3), **chain.shapes()})
    parameters = slots.views(0.3 * rng.normal(size=slots.size))
    gradient = slots.views(np.zeros(slots.size))
    gradient[1, "gain"][:] = size * rng.normal(size=(3, 3))
    before = parameters[1, "gain"].copy()
    first, second = (triangle(parameters[l, "factor"]) for l in range(2))
    chain.natural_step(parameters, gradient, 0.1)
    moved = np.linalg.solve(second, parameters[1, "gain"] - before) @ first
    expected = 0.1 * second.T @ np.linalg.solve(first, gradient[1, "gain"].T).T
    most = np.linalg.norm(expected, 2)
    np.testing.assert_allclose(moved, expected * min(1, 0.5 / most), rtol=1e-9)


# Triangles


def test_factor_derivative_matches_finite_differences(rng):
    root = rng.normal(size=(5, 9))
    matrix, d_lower = root @ root.T, np.tril(rng.normal(size=(5, 5)))
    step = rng.normal(size=(5, 5))
    step = 1e-6 * (step + step.T)
    moved = np.linalg.cholesky(matrix + step) - np.linalg.cholesky(matrix - step)
    found = (factor_vjp(np.linalg.cholesky(matrix), d_lower) * step).sum()
    assert found == pytest.approx((moved * d_lower).sum() / 2, rel=1e-6)


def test_factor_of_a_sum(rng):
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(4, 6))
    lower = factor_of_sum(a, b)
    np.testing.assert_allclose(lower, np.linalg.cholesky(a @ a.T + b @ b.T), atol=1e-12)

"""Monotonic flows: order, closed forms, derivatives, and as the first layer of a deep GP."""

import numpy as np
import pytest

from fastvis._kernels.slots import Slots
from fastvis.gp import (
    DeepGP,
    Gaussian,
    GPLayer,
    Matern,
    MonotonicFlow,
    SquaredExponential,
    elliptical_slice,
)
from fastvis.gp.bounds import Sizes, evidence_bound
from fastvis.gp.flow import Flow
from fastvis.gp.flow_bound import FlowBound
from fastvis.gp.geometry import Geometry
from fastvis.gp.whitened import Chain, Factorized

STEEP = SquaredExponential(2.0, [0.25, 0.5])


def make_flow(kernel, values, n_steps=20, n_inducing=(8, 3)):
    z = MonotonicFlow(kernel, n_inducing).locations(np.array([-1.0, 1.0]))
    return Flow(Geometry(kernel, z[None], 1e-6, 0), values, n_steps)


def test_draws_are_increasing_on_a_fine_grid(rng):
    flow = make_flow(STEEP, rng.normal(size=(1000, 24)))
    x = np.linspace(-1.5, 1.5, 2001)
    ends = flow(x)
    assert (np.diff(ends) > 0).all()
    assert np.abs(ends - x).max() > 0.5


def test_the_bound_on_steps_is_needed_and_held(rng):
    """No slope of a velocity is above what steps are made for; fewer break the order."""
    values = rng.normal(size=(1000, 24))
    flow = make_flow(STEEP, values, n_steps=1)
    x = np.linspace(-1.5, 1.5, 2001)
    k = STEEP(np.stack([x, 0 * x], axis=1), flow.z[0])
    slopes = np.abs(np.diff(flow.w @ k.T)) / (x[1] - x[0])
    bound = np.sqrt(2.0) / 0.25 * np.linalg.norm(values, axis=1)
    assert (slopes.max(1) < bound).all()
    assert (slopes.max(1) / bound).max() > 0.5
    assert flow.n_steps == np.ceil(bound.max() / 0.8)
    assert make_flow(STEEP, values, n_steps=200).n_steps == 200
    flow.n_steps, flow.dt = 20, 1 / 20
    assert (np.diff(flow(x)) < 0).any()


def test_zero_is_the_identity_and_a_constant_velocity_shifts():
    x = np.linspace(-1, 1, 7)
    np.testing.assert_array_equal(make_flow(STEEP, np.zeros((2, 24)))(x), [x, x])
    kernel = SquaredExponential(1.0, [1e4, 1e4])
    ends = make_flow(kernel, np.array([[0.3]]), n_inducing=(1, 1))(x)
    np.testing.assert_allclose(ends, [x + 0.3], atol=1e-6)


def test_a_linear_velocity_stretches():
    """ds/dt = c s carries x to x exp(c)."""
    kernel = SquaredExponential(1.0, [3.0, 1e3])
    z = np.stack([np.linspace(-2, 2, 6), np.zeros(6)], axis=1)
    geometry = Geometry(kernel, z[None], 1e-10, 0)
    values = np.linalg.solve(geometry.lz[0], 0.4 * z[:, 0])[None]
    x = np.linspace(-1, 1, 9)
    np.testing.assert_allclose(Flow(geometry, values, 4000)(x), [x * np.exp(0.4)], atol=2e-3)


@pytest.mark.parametrize("n_layers", [2, 3])
@pytest.mark.parametrize("posterior", [Factorized, Chain])
def test_gradients_match_finite_differences(posterior, n_layers, rng):
    locations = MonotonicFlow(STEEP, (3, 2)).locations(np.array([-1.0, 1.0]))
    sizes = [Sizes(1, 1, 6, np.eye(1))]
    sizes += [Sizes(1, 1, 4 + l, np.eye(1) * (l < n_layers - 1)) for l in range(1, n_layers)]
    kernels = [SquaredExponential(0.5, [0.8, 1.0]), SquaredExponential(1.0, 0.7), Matern(2.5)]
    bound = FlowBound(sizes, kernels[:n_layers], posterior, 1e-3, locations, 6)
    likelihood = Gaussian(0.1)
    slots = Slots({**bound.shapes(), "likelihood": (1,)})
    vector = np.zeros(slots.size)
    parameters = slots.views(vector)
    z = [None, *(np.linspace(-1.5, 1.5, s.n_inducing)[:, None] for s in sizes[1:])]
    bound.start(parameters, z, [0.3] * n_layers)
    parameters["likelihood"][:] = likelihood.theta
    vector += 0.1 * rng.normal(size=vector.shape)
    x, y = rng.normal(size=(2, 6, 1))

    def terms(vector, x=x):
        data, divergence, gradient, d_x = evidence_bound(
            bound, likelihood, slots.views(vector), x, y, 5, 2.0, np.random.default_rng(3)
        )
        return data.mean() - divergence, gradient, d_x

    _, gradient, d_x = terms(vector)
    for name in slots.views(vector):
        step = np.zeros(slots.size)
        direction = slots.views(step)[name]
        direction[...] = 1e-5 * rng.normal(size=direction.shape)
        found = (gradient[name] * direction).sum()
        right, left = terms(vector + step)[0], terms(vector - step)[0]
        size = np.abs(gradient[name] * direction).sum() + 1e-5
        assert abs(found - (right - left) / 2) <= 2e-6 * size, name
    direction = 1e-5 * rng.normal(size=x.shape)
    right, left = terms(vector, x + direction)[0], terms(vector, x - direction)[0]
    assert (d_x * direction).sum() == pytest.approx((right - left) / 2, rel=1e-5)


# As a layer


@pytest.fixture(scope="module")
def chirp():
    x = np.linspace(0, 1, 50)
    return x, np.sin(15 * x**2)


def make_model(posterior, n_steps, **options):
    flow = MonotonicFlow(SquaredExponential(0.1, [0.3, 1.0]), (6, 2))
    layers = [flow, GPLayer(SquaredExponential(lengthscale=0.15), 12)]
    options = {"n_samples": 3, "rng": 0, **options}
    return DeepGP(layers, Gaussian(1e-3), posterior, n_steps=n_steps, **options)


@pytest.fixture(scope="module")
def fits(chirp):
    return {p: make_model(p, 250).fit(*chirp) for p in ("factorized", "chain")}


def test_coupled_warps_stay_uncertain(fits, chirp):
    x, y = chirp
    for model in fits.values():
        assert np.abs(model.predict(x, rng=0).mean[:, 0] - y).mean() < 0.1
    variance = {p: m.layer_variance(x, 300, rng=0)[0].mean() for p, m in fits.items()}
    assert variance["chain"] > 5 * variance["factorized"]
    elbos = {p: m.elbo(x, y, rng=0).value for p, m in fits.items()}
    assert elbos["chain"] > elbos["factorized"] + 5
    coupling = {p: m.coupling(x, y, 100, rng=0) for p, m in fits.items()}
    assert coupling["chain"].total_correlation > 1
    assert coupling["factorized"].total_correlation == pytest.approx(0, abs=1e-9)
    assert coupling["chain"].shuffle > 10


def test_draws_of_the_fit_are_increasing_and_coherent(fits):
    grid = np.linspace(0, 1, 5001)
    at = grid[[1000, 3000]]
    draws = fits["chain"].sample_functions([grid, np.linspace(0, 1, 9)], 20, x=at, rng=0)
    assert (np.diff(draws.functions[0][..., 0]) > 0).all()
    np.testing.assert_allclose(draws.values[0], draws.functions[0][:, [1000, 3000]], atol=1e-12)
    ways = fits["chain"].sample_paths(at, 2000, rng=1)
    many = fits["chain"].sample_functions([at, at], 2000, x=at, rng=2)
    for ours, path in zip(many.values, ways):
        np.testing.assert_allclose(ours.mean(0), path.mean(0), atol=5 * path.std() / 44)
        np.testing.assert_allclose(ours.std(0), path.std(0), rtol=0.15)


def test_save_and_load(fits, chirp, tmp_path):
    path = tmp_path / "model.npz"
    fits["chain"].save(path)
    again = DeepGP.load(path)
    assert again.elbo(*chirp, rng=0) == fits["chain"].elbo(*chirp, rng=0)
    assert again.layers_[0] == fits["chain"].layers_[0]


def test_errors(fits, chirp):
    with pytest.raises(ValueError, match="SquaredExponential with two lengthscales"):
        MonotonicFlow(SquaredExponential(0.1, 0.3))
    with pytest.raises(ValueError, match="n_inducing must be"):
        MonotonicFlow(STEEP, (3, 2, 1))
    with pytest.raises(ValueError, match="posterior must be 'factorized' or 'chain'"):
        make_model("joint", 1).fit(*chirp)
    with pytest.raises(ValueError, match="posterior must be 'factorized' or 'chain'"):
        make_model("chain", 1, marginalize="sampled").fit(*chirp)
    with pytest.raises(ValueError, match="x must have 1 column for a MonotonicFlow"):
        make_model("chain", 1).fit(np.zeros((50, 2)), chirp[1])
    with pytest.raises(TypeError, match="layers must be a sequence"):
        DeepGP([MonotonicFlow(STEEP)]).fit(*chirp)
    with pytest.raises(ValueError, match="no MonotonicFlow"):
        elliptical_slice(fits["chain"], *chirp, 2)

"""Paths through layers: against brute-force conditioning, moments, finite differences, scipy."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import integrate, stats

from fastvis._kernels import covariance, paths

from .cases.paths import network

# shape of a network: samples, inducing points, outputs of each layer
CHAINS = {"3 layers": (1, 4, 1, 1, 1), "4 layers": (1, 3, 1, 1, 1, 1), "wide": (1, 3, 2, 2, 1)}


def conditional(layers, blocks, x, f):
    """Mean and deviation of each row's value given those before it, by conditioning the joint
    Gaussian of inducing values and all rows, f being the values so far."""
    n_rows, m = len(f), layers[0].n.shape[1]
    s = np.zeros((n_rows * m, n_rows * m))
    for (r, q), block in blocks.items():
        s[r * m : (r + 1) * m, q * m : (q + 1) * m] = block
        s[q * m : (q + 1) * m, r * m : (r + 1) * m] = block.T
    design, noise, mean = np.zeros((n_rows, n_rows * m)), np.zeros(n_rows), np.zeros(n_rows)
    row, at = 0, x
    for layer in layers:
        begin = row
        k = layer.k(layer.z, at[None])[:, 0]
        alpha = np.linalg.solve(layer.lz @ layer.lz.T, k)  # of values that are not whitened
        for n, slope in zip(layer.n, layer.slope.T):
            design[row, row * m : (row + 1) * m] = layer.lz.T @ alpha
            noise[row] = layer.diag(at[None])[0] - k @ alpha
            mean[row] = at @ slope + layer.lz.T @ alpha @ n
            row += 1
        at = f[begin:row]
    joint = design @ s @ design.T + np.diag(noise)
    means, deviations = np.empty(n_rows), np.empty(n_rows)
    for r in range(n_rows):
        gain = np.linalg.solve(joint[:r, :r], joint[:r, r])
        means[r] = mean[r] + gain @ (f[:r] - mean[:r])
        deviations[r] = np.sqrt(joint[r, r] - gain @ joint[:r, r])
    return means, deviations


@pytest.mark.parametrize("size", CHAINS.values(), ids=CHAINS)
def test_path_is_the_exact_conditional_of_each_layer(size):
    """What the paper's (15) to (17) are meant to say."""
    errors = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n_inputs = size[2]
        layout, theta, [(layers, blocks)] = network(size, n_inputs, True, 1, seed)
        x, xi = rng.normal(size=(4, n_inputs)), rng.normal(size=(4, layout.n_hidden))
        values, deviations = paths.sample(layout, theta, x, xi)
        for i, f in enumerate(values):
            mean, deviation = conditional(layers, blocks, x[i], f)
            hidden = layout.n_hidden
            expected = np.append(xi[i], np.zeros(len(f) - hidden))
            errors.append(np.abs((f - mean) / deviation - expected).max())
            errors.append(np.abs(deviations[i] / deviation[hidden:] - 1).max())
    assert np.max(errors) <= 1e-8
    assert np.median(errors) <= 1e-11


def test_paths_have_the_moments_of_functions_that_are_drawn_first(rng):
    """Inducing values from their joint Gaussian, then each layer given its own."""
    n = 200_000
    layout, theta, [(layers, blocks)] = network((1, 4, 1, 1, 1), 1, True, 1, 3)
    x = np.array([[0.4]])
    values, deviation = paths.sample(layout, theta, x, rng.normal(size=(n, 2)))
    ours = values[:, -1] + deviation[:, 0] * rng.normal(size=n)

    s = np.zeros((12, 12))
    for (r, q), block in blocks.items():
        s[4 * r : 4 * r + 4, 4 * q : 4 * q + 4] = block
        s[4 * q : 4 * q + 4, 4 * r : 4 * r + 4] = block.T
    v = rng.multivariate_normal(np.zeros(12), s, size=n)
    f = np.repeat(x, n, axis=0)
    for l, layer in enumerate(layers):
        basis = np.linalg.solve(layer.lz, layer.k(layer.z, f))
        c = layer.diag(f) - (basis**2).sum(0)
        mean = f[:, 0] * layer.slope[0, 0] + (basis.T * (layer.n[0] + v[:, 4 * l : 4 * l + 4])).sum(
            1
        )
        f = (mean + np.sqrt(c) * rng.normal(size=n))[:, None]
    assert stats.ks_2samp(ours, f[:, 0]).pvalue > 1e-3
    assert stats.ks_2samp(ours + 0.05 * ours.std(), f[:, 0]).pvalue < 1e-6  # it can tell


# Derivatives

LIKELIHOODS = {"gaussian": (0.3, 0.0), "student_t": (0.5, 4.0), "bernoulli": (0.0, 0.0)}
NETWORKS = {
    "one layer": ((3, 5, 1), True, 1),
    "chain": ((3, 4, 1, 1, 1), True, 1),
    "wide": ((3, 3, 2, 3, 2), True, 1),
    "factorized": ((3, 4, 2, 2), False, 1),
    "sets": ((3, 4, 1, 1), False, None),
}
MANY = 30  # points enough for samples to share the first layer


@pytest.mark.parametrize("n", [7, MANY])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)
def test_gradients_match_finite_differences(case, likelihood, n, rng):
    size, coupled, n_sets = case
    n_inputs = size[2]
    layout, theta, _ = network(size, n_inputs, coupled, n_sets)
    x, y = rng.normal(size=(n, n_inputs)), rng.normal(size=(n, size[-1]))
    y = (y > 0).astype(float) if likelihood == "bernoulli" else y
    xi = rng.normal(size=(n * size[0], layout.n_hidden))
    kind, scale = paths.LIKELIHOODS.index(likelihood), 1.7
    parameters = np.array(LIKELIHOODS[likelihood])

    def value(theta=theta, x=x, parameters=parameters):
        return scale * paths.elbo(layout, theta, x, y, xi, kind, parameters, 1.0)[0].sum()

    _, gradient, d_x, d_parameters = paths.elbo(layout, theta, x, y, xi, kind, parameters, scale)
    views, slopes = layout.views(theta), layout.views(gradient)
    for name, view in views.items():
        direction = rng.normal(size=view.shape)
        if name[1] in ("lz", "factor"):
            direction = np.tril(direction)
        moved = [theta.copy(), theta.copy()]
        for sign, copy in zip((1, -1), moved):
            layout.views(copy)[name][:] += sign * 1e-6 * direction
        found = (slopes[name] * direction).sum()
        expected = (value(moved[0]) - value(moved[1])) / 2e-6
        assert abs(found - expected) <= 1e-6 * (1 + np.abs(slopes[name] * direction).sum()), name
    direction = rng.normal(size=x.shape)
    expected = (value(x=x + 1e-6 * direction) - value(x=x - 1e-6 * direction)) / 2e-6
    found = (d_x * direction).sum()
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)
    if parameters[0]:
        step = np.array([1e-6, 0.0])
        expected = (
            value(parameters=parameters + step) - value(parameters=parameters - step)
        ) / 2e-6
        assert d_parameters[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("level", range(covariance._cpu.BEST_LEVEL))
def test_narrower_vectors_do_the_same(level, monkeypatch, rng):
    size = (3, 11, 2, 3, 1)
    layout, theta, _ = network(size, 2, True, 1)
    x, y = rng.normal(size=(100, 2)), rng.normal(size=(100, 1))
    xi = rng.normal(size=(300, layout.n_hidden))

    def run():
        return paths.elbo(layout, theta, x, y, xi, 0, np.array(LIKELIHOODS["gaussian"]), 1.0)

    expected = run()
    slower = partial(paths._cpu.elbo, level=level)
    monkeypatch.setattr(paths, "_cpu", SimpleNamespace(elbo=slower, PANEL=paths._cpu.PANEL))
    for found, result in zip(run(), expected):
        np.testing.assert_allclose(found, result, rtol=1e-9, atol=1e-9)


# Likelihoods


@pytest.mark.parametrize("scale", [0.5, 0.005])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_expected_log_density_matches_an_integral(likelihood, scale):
    """Of one layer, with N(mean, deviation^2) at its end; adaptive quadrature."""
    layout, theta, _ = network((1, 3, 1), 1, True, 1)
    x, y = np.array([[0.3]]), np.array([[1.0]])
    mean, deviation = (a[0, 0] for a in paths.sample(layout, theta, x, np.empty((1, 0))))
    parameters = np.array(LIKELIHOODS[likelihood])
    if likelihood == "student_t":
        parameters[0] = scale
    density = {
        "gaussian": lambda f: stats.norm.logpdf(1, f, np.sqrt(0.3)),
        "student_t": lambda f: stats.t.logpdf((1 - f) / scale, 4) - np.log(scale),
        "bernoulli": lambda f: -np.log1p(np.exp(-f)),
    }[likelihood]
    peak = (1 - mean) / deviation
    expected, _ = integrate.quad(
        lambda t: density(mean + deviation * t) * stats.norm.pdf(t), -10, 10, epsabs=1e-12,
        points=[peak, peak - 0.05, peak + 0.05], limit=500,
    )  # fmt: skip
    kind = paths.LIKELIHOODS.index(likelihood)
    [value], *_ = paths.elbo(layout, theta, x, y, np.empty((1, 0)), kind, parameters, 1.0)
    assert value == pytest.approx(expected, rel=1e-8)

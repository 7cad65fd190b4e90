"""Alignment of sequences: known warps, their uncertainty, and every derivative."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fastvis.gp import Matern, SquaredExponential, White, align_sequences
from fastvis.gp.warps import Evidence, Warps

GRID = np.linspace(-1, 1, 401)
Z90 = 1.645
QUICK = {"n_steps": 200, "n_samples": 4}


def template(t):
    return np.stack([np.sinc(3 * t), 0.6 * t**3], axis=-1)


def random_warps(n, rng, size=0.5, centered=True):
    """Warps (n, G) on GRID; ``centered``: with log-slopes of sum zero, as `align_sequences`."""
    k = SquaredExponential(size**2, 0.6)(GRID[::10])
    w = np.linalg.cholesky(k + 1e-9 * np.eye(len(k))) @ rng.normal(size=(len(k), n))
    slopes = np.exp(
        [np.interp(GRID, GRID[::10], row) for row in (w - centered * w.mean(1)[:, None]).T]
    )
    sums = np.cumsum((slopes[:, 1:] + slopes[:, :-1]) / 2, axis=1)
    sums = np.concatenate([np.zeros((n, 1)), sums], axis=1)
    return 2 * sums / sums[:, -1:] - 1


def sequences(n, n_times, rng, noise=0.02, **options):
    x = np.linspace(-1, 1, n_times)
    truth = np.stack([np.interp(x, GRID, g) for g in random_warps(n, rng, **options)])
    return x, template(truth) + noise * rng.normal(size=(n, n_times, 2)), truth


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


@pytest.fixture(scope="module")
def fitted():
    x, y, truth = sequences(6, 40, np.random.default_rng(1))
    return x, y, truth, align_sequences(x, y, rng=0, **QUICK)


def test_known_warps_are_recovered(fitted):
    x, y, truth, fit = fitted
    error = rms(fit.warps - truth)
    assert error < 0.05 * rms(x - truth)
    assert rms(np.array(fit.deviations)[:, 1:-1]) == pytest.approx(error, rel=0.6)
    assert fit.noise == pytest.approx(0.02, rel=0.15)


def test_aligned_sequences_are_the_template(fitted):
    x, y, _, fit = fitted
    aligned = fit.aligned(x)
    assert aligned.shape == y.shape
    assert aligned.var(0).mean() < 0.03 * y.var(0).mean()
    mean, variance = fit.template(x)
    assert rms(mean - template(x)) < 0.02
    assert np.mean(np.abs(mean - template(x)) < 3 * np.sqrt(variance)) > 0.9
    assert (variance > 0).all()
    assert (variance < 0.02**2).all()  # of many observations: less than of one


def test_a_common_warp_of_the_truth_is_not_seen():
    """Warps with any mean: recovered up to one h, truth_j = h(g_j)."""
    x, y, truth = sequences(6, 40, np.random.default_rng(2), centered=False)
    fit = align_sequences(x, y, rng=0, **QUICK)
    h = np.mean([np.interp(x, g, t) for g, t in zip(fit.warps, truth)], axis=0)
    common = np.array([np.interp(g, x, h) for g in fit.warps])
    assert rms(common - truth) < 0.06 * rms(x - truth)
    assert rms(fit.warps - truth) > 2 * rms(common - truth)  # there was one to see


def test_large_warps_are_found_from_coarse_to_fine():
    x, y, truth = sequences(5, 40, np.random.default_rng(6), size=1.0)
    fit = align_sequences(x, y, rng=0, **QUICK)
    assert rms(fit.warps - truth) < 0.1 * rms(x - truth)


def test_draws_rise_keep_their_ends_and_average_to_the_means(fitted):
    x, _, _, fit = fitted
    grid = np.linspace(-1, 1, 5000)
    draws = fit.sample_warps(grid, 20, rng=0)
    assert draws.shape == (20, 6, 5000)
    assert (np.diff(draws) > 0).all()
    np.testing.assert_array_equal(draws[..., 0], -1)
    np.testing.assert_array_equal(draws[..., -1], 1)
    many = fit.sample_warps(x, 2000, rng=1)
    deviations = np.array(fit.deviations)
    error = np.abs(many.mean(0) - fit.warps)
    assert (error <= 5 * deviations / np.sqrt(1000)).all()  # the means are of 1000 draws
    np.testing.assert_allclose(many.std(0)[:, 1:-1], deviations[:, 1:-1], rtol=0.15)
    np.testing.assert_array_equal(deviations[:, [0, -1]], 0)


def test_log_slopes_average_to_a_constant(fitted):
    fit = fitted[3]
    grid = fit._fit.warps.knots
    slopes = np.log(np.diff(fit.sample_warps(grid, 3, rng=0))).mean(1)
    assert np.ptp(slopes, axis=1).max() < 1e-9
    assert np.ptp(np.log(np.diff(fit.sample_warps(grid, 3, rng=0))), axis=2).min() > 0.1


def test_coverage_of_intervals():
    inside = []
    for seed in range(5):
        x, y, truth = sequences(4, 30, np.random.default_rng(10 + seed), noise=0.1)
        fit = align_sequences(x, y, rng=0, **QUICK)
        error = np.abs(fit.warps - truth) / np.maximum(fit.deviations, 1e-12)
        inside.append(np.mean(error[:, 1:-1] < Z90))
    assert 0.78 < np.mean(inside) < 0.98


def test_the_posterior_is_that_of_importance_sampling():
    """With hyperparameters as fitted: weights that know nothing of Gauss-Newton."""
    x, y, _ = sequences(2, 30, np.random.default_rng(3), noise=0.05)
    fit = align_sequences(x, y, rng=0, **QUICK)._fit
    rng, wider = np.random.default_rng(0), 1.2
    noise = rng.standard_normal((4000, len(fit.mean)))
    c = fit.mean + wider * noise @ fit.root
    warps, evidence = fit.warps, fit.evidence()
    t = warps.at_times(warps.increments(c.reshape(-1, *warps.shape), fit.scale))
    log_weights = evidence.values(t, evidence.solve(t)) - (c**2).sum(1) / 2 + (noise**2).sum(1) / 2
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    assert 1 / (weights**2).sum() > 400  # effective draws
    mean = weights @ t
    deviation = np.sqrt(weights @ (t - mean) ** 2)
    draws = warps.at_times(warps.increments(fit.draws(4000, rng), fit.scale))
    inner = deviation > 1e-3
    assert inner.mean() > 0.8
    assert (np.abs(draws.mean(0) - mean)[inner] < 0.4 * deviation[inner]).all()
    ratio = draws.std(0)[inner] / deviation[inner]
    assert 0.88 < np.median(ratio) < 1.12
    assert 0.65 < ratio.min()
    assert ratio.max() < 1.25


def test_noise_makes_warps_uncertain():
    deviations = []
    for noise in (0.02, 0.2):
        x, y, _ = sequences(4, 30, np.random.default_rng(4), noise=noise)
        deviations.append(rms(align_sequences(x, y, rng=0, **QUICK).deviations))
    assert 4 < deviations[1] / deviations[0] < 20


def test_sequences_that_are_not_warped_stay_as_they_are():
    rng = np.random.default_rng(5)
    x = np.linspace(-1, 1, 40)
    y = template(x) + 0.02 * rng.normal(size=(5, 40, 2))
    fit = align_sequences(x, y, rng=0, **QUICK)
    assert rms(np.array(fit.warps) - x) < 0.005
    assert fit.warp_variance < 0.01


def test_two_sequences_of_different_lengths_and_units():
    """Times in milliseconds, one signal in thousands: as if rescaled."""
    rng = np.random.default_rng(7)
    x = [np.linspace(-1, 1, 45), np.sort(np.concatenate([[-1, 1], rng.uniform(-1, 1, 28)]))]
    warps = random_warps(2, rng)
    truth = [np.interp(t, GRID, g) for t, g in zip(x, warps)]
    y = [template(t)[:, 0] + 0.02 * rng.normal(size=len(t)) for t in truth]
    fit = align_sequences(x, y, rng=0, **QUICK)
    error = [rms(a - b) for a, b in zip(fit.warps, truth)]
    assert max(error) < 0.2 * min(rms(a - b) for a, b in zip(x, truth))
    other = align_sequences([500 * (t + 1) for t in x], [1e3 * s + 7 for s in y], rng=0, **QUICK)
    for a, b in zip(fit.warps, other.warps):
        np.testing.assert_allclose(b / 500 - 1, a, atol=1e-3)
    assert np.isnan(fit.aligned([0.0, 0.5])).sum() == 0


def test_the_bound_rises_and_same_seed_same_bytes(fitted):
    x, y, _, fit = fitted
    assert fit.elbos.shape == (200,)
    assert fit.elbos[-10:].mean() > fit.elbos[150:160].mean() - 5 > fit.elbos[0] + 500
    again = align_sequences(list(x), list(y), rng=0, **QUICK)
    assert again.elbos.tobytes() == fit.elbos.tobytes()
    assert np.array(again.warps).tobytes() == np.array(fit.warps).tobytes()
    other = align_sequences(x, y, rng=1, **QUICK)
    assert other.elbos[0] != fit.elbos[0]
    np.testing.assert_allclose(other.warps, fit.warps, atol=3e-3)


# Derivatives


@pytest.fixture
def problem(rng):
    x = [np.linspace(0, 1, 9), np.linspace(0, 1, 11), np.linspace(0.05, 0.9, 7)]
    warps = Warps(x, (0.0, 1.0), 0.3)
    y, z = rng.normal(size=(27, 2)), np.linspace(0, 1, 6)
    return warps, y, z, rng.normal(size=(4, *warps.shape))


@pytest.mark.parametrize(
    "kernel", [SquaredExponential(1.3, 0.3), Matern(2.5, 0.8, 0.4) + White(0.05)]
)
def test_gradients_against_finite_differences(problem, kernel):
    warps, y, z, c = problem
    scale, log_noise, h = 0.6, np.log(0.2), 1e-5

    def mean_value(c, theta, log_noise):
        evidence = Evidence(kernel.with_theta(theta), np.exp(log_noise), z, y)
        t = warps.at_times(warps.increments(c, scale))
        return evidence.values(t, evidence.solve(t)).mean()

    evidence = Evidence(kernel, np.exp(log_noise), z, y)
    p = warps.increments(c, scale)
    t = warps.at_times(p)
    d_t, d_theta, d_noise = evidence.vjp(t, evidence.solve(t))
    at = [c, kernel.theta, np.array(log_noise)]
    for i, derivative in enumerate((warps.vjp(p, scale, d_t), d_theta, np.array(d_noise))):
        expected = np.empty_like(at[i])
        for entry in np.ndindex(at[i].shape):
            step = np.zeros_like(at[i])
            step[entry] = h
            ahead, behind = (
                mean_value(*[a + s * step if k == i else a for k, a in enumerate(at)])
                for s in (1, -1)
            )
            expected[entry] = (ahead - behind) / (2 * h)
        np.testing.assert_allclose(derivative, expected, atol=1e-7 * np.abs(expected).max())


def test_evidence_and_curvature_are_those_of_dense_matrices(problem):
    warps, y, z, c = problem
    kernel, noise, scale = SquaredExponential(1.3, 0.3), 0.2, 0.6
    evidence = Evidence(kernel, noise, z, y)
    p = warps.increments(c, scale)
    t = warps.at_times(p)
    solution = evidence.solve(t)
    inner = np.linalg.inv(kernel(z) + 1e-6 * 1.3 * np.eye(len(z)))
    slopes = evidence.slopes(t, solution[2], 1e-6)
    curvature = 0
    for s, times in enumerate(t):
        q = kernel(times, z) @ inner @ kernel(z, times)
        sigma = q + noise * np.eye(27)
        value = multivariate_normal(np.zeros(27), sigma).logpdf(y.T).sum()
        value -= 2 * (27 * 1.3 - np.trace(q)) / (2 * noise)
        assert evidence.values(t, solution)[s] == pytest.approx(value, rel=1e-10)
        weights = inner @ kernel(z, times) @ np.linalg.solve(sigma, y)
        f_slopes = (kernel(times + 1e-6, z) - kernel(times - 1e-6, z)) @ weights / 2e-6
        np.testing.assert_allclose(slopes[s], f_slopes, atol=1e-6)
        jacobian = np.empty((27, *warps.shape))
        for entry in np.ndindex(warps.shape):
            step = np.zeros(warps.shape)
            step[entry] = 1e-6
            ahead, behind = (
                warps.at_times(warps.increments(c[s : s + 1] + sign * step, scale))[0]
                for sign in (1, -1)
            )
            jacobian[(slice(None), *entry)] = (ahead - behind) / 2e-6
        for d in range(2):
            g = f_slopes[:, d, None] * jacobian.reshape(27, -1)
            curvature = curvature + g.T @ np.linalg.solve(sigma, g) / len(t)
    found = warps.information(p, scale, slopes, *solution[:2], noise)
    np.testing.assert_allclose(found, curvature, atol=1e-6 * np.abs(curvature).max())


def test_log_slopes_have_the_prior_covariance():
    warps = Warps([np.linspace(0, 2, 5)] * 3, (0.0, 2.0), 0.4)
    centers = (warps.knots[1:] + warps.knots[:-1]) / 2
    center = np.eye(len(centers)) - 1 / len(centers)
    expected = center @ SquaredExponential(1.0, 0.4)(centers) @ center
    np.testing.assert_allclose(warps.basis @ warps.basis.T, expected, atol=1e-3)
    w = warps.log_slopes(np.random.default_rng(0).normal(size=(2, warps.shape[1])), 1.0)
    np.testing.assert_allclose(w.sum(0), 0, atol=1e-12)
    np.testing.assert_allclose(warps.contrasts.T @ warps.contrasts, np.eye(2), atol=1e-12)


X, Y = np.linspace(0, 1, 8), np.sin(np.linspace(0, 6, 16)).reshape(2, 8)


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "match"),
    [
        (X, Y[:1], {}, ValueError, "at least 2 sequences"),
        (X, Y * [[1], [np.nan]], {}, ValueError, r"y\[1\] must be finite"),
        (X + np.array([np.inf] + [0] * 7), Y, {}, ValueError, r"x\[0\] must be finite"),
        (X[::-1], Y, {}, ValueError, "times that rise"),
        ([X, X.round(1)[[0, 0, 1, 2, 3, 4, 5, 6]]], Y, {}, ValueError, r"x\[1\] must have two"),
        (X[:-1], Y, {}, ValueError, r"x\[0\] and y\[0\] must be of the same length"),
        ([X, X, X], Y, {}, ValueError, "got 3 arrays"),
        (X, [Y[0], np.zeros((8, 2))], {}, ValueError, "1 signal"),
        (X, np.zeros((2, 8, 1, 1)), {}, ValueError, "must have 1 or 2 dimensions"),
        (X, np.ones((2, 8)), {}, ValueError, "y must vary"),
        (X, 3.0, {}, TypeError, "y must be an array or a sequence"),
        (X, Y, {"kernel": "rbf"}, TypeError, "kernel must be a covariance"),
        (X, Y, {"kernel": SquaredExponential(1, [1, 2])}, ValueError, "2 dimension"),
        (X, Y, {"noise": 0}, ValueError, "noise must be"),
        (X, Y, {"warp_lengthscale": -1}, ValueError, "warp_lengthscale must be"),
        (X, Y, {"n_samples": 1}, ValueError, "n_samples must be"),
    ],
)
def test_errors(x, y, options, error, match):
    with pytest.raises(error, match=match):
        align_sequences(x, y, **options)


def test_errors_of_grids():
    fit = align_sequences(X, Y, n_steps=2, rng=0)
    for method in (fit.sample_warps, fit.aligned, fit.template):
        with pytest.raises(ValueError, match=r"grid must lie in the range of the times, \[0, 1\]"):
            method([0.5, 1.1])

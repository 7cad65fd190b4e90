"""Deep GPs: closed forms of one layer, what a fit learns, draws, diagnostics, files, errors."""

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from fastvis.gp import (
    Bernoulli,
    DeepGP,
    Gaussian,
    GPLayer,
    Linear,
    Matern,
    SquaredExponential,
    StudentT,
    elliptical_slice,
)

FROZEN = ("hyperparameters", "inducing", "likelihood")
POSTERIORS = ("factorized", "chain", "joint", "locations")
TINY = 1e-12


@pytest.fixture
def wave():
    x = np.linspace(-1, 1, 40)
    return x, np.sin(6 * x**3) + 0.05 * np.random.default_rng(0).normal(size=40)


def two_layers(n_inducing=8, n_outputs=1):
    k = SquaredExponential()
    hidden = GPLayer(k, n_inducing, n_outputs, mean="identity")
    return [hidden, GPLayer(k, n_inducing)]


def log_evidence(y, k, noise):
    return stats.multivariate_normal.logpdf(y, np.zeros(len(y)), k + noise * np.eye(len(y)))


# One layer


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_one_layer_reaches_the_exact_evidence(posterior, rng):
    """Inducing points at the data: a natural step of rate 1 is the exact posterior."""
    x, kernel = np.linspace(-2, 2, 9), Matern(1.5, 1.3, 0.4)
    y = rng.normal(size=9)
    layer = GPLayer(kernel, 9, inducing=x)
    options = dict(frozen=FROZEN, jitter=0, scale=1.0, n_samples=2, rng=0)
    model = DeepGP([layer], Gaussian(0.2), posterior, natural_rate=1.0, n_steps=1, **options)
    elbo = model.fit(x, y).elbo(x, y, rng=0)
    exact = log_evidence(y, kernel(x), 0.2)
    assert elbo.value == pytest.approx(exact, rel=1e-9)
    assert elbo.standard_error < 1e-9
    grid = np.linspace(-2, 2, 5)
    gain = np.linalg.solve(kernel(x) + 0.2 * np.eye(9), kernel(x, grid)).T
    prediction = model.predict(grid, 3, rng=0)
    np.testing.assert_allclose(prediction.mean[:, 0], gain @ y, atol=1e-9)
    variance = 0.2 + kernel.diag(grid) - (gain * kernel(grid, x)).sum(1)
    np.testing.assert_allclose(prediction.variance[:, 0], variance, atol=1e-9)
    density = stats.norm.logpdf(0.3, gain @ y, np.sqrt(variance))
    np.testing.assert_allclose(model.log_density(grid, np.full(5, 0.3), 3), density, atol=1e-8)


def test_one_layer_with_few_inducing_points_reaches_the_collapsed_bound(rng):
    """Titsias 2009, (9)."""
    x, z, kernel, noise = np.linspace(-2, 2, 30), np.linspace(-2, 2, 6), Matern(2.5), 0.1
    y = np.sin(3 * x) + rng.normal(size=30) * 0.3
    layer = GPLayer(kernel, 6, inducing=z)
    options = dict(frozen=FROZEN, jitter=TINY, scale=1.0, n_samples=1)
    model = DeepGP([layer], Gaussian(noise), "chain", natural_rate=1.0, n_steps=1, **options)
    elbo = model.fit(x, y).elbo(x, y)
    q = kernel(x, z) @ np.linalg.solve(kernel(z), kernel(z, x))
    bound = log_evidence(y, q, noise) - np.trace(kernel(x) - q) / (2 * noise)
    assert elbo.value == pytest.approx(bound, rel=1e-8)


@pytest.mark.parametrize("posterior", ["factorized", "locations"])
def test_elbo_of_one_layer_is_below_the_evidence(posterior, rng):
    x, kernel = np.linspace(-2, 2, 9), SquaredExponential(1.0, 0.7)
    y = rng.normal(size=9)
    exact = log_evidence(y, kernel(x), 0.2)
    for seed in range(5):
        model = DeepGP(
            [GPLayer(kernel, 5, inducing=rng.normal(size=5))], Gaussian(0.2), posterior,
            frozen=FROZEN, natural_rate=0.3, n_steps=seed, scale=0.5,
        )  # fmt: skip
        assert model.fit(x, y).elbo(x, y).value < exact


# What a fit learns


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_fit_learns_a_composition(posterior, wave):
    x, y = wave
    model = DeepGP(two_layers(), Gaussian(0.01), posterior, n_steps=300, rng=0).fit(x, y)
    assert np.abs(model.predict(x, rng=0).mean[:, 0] - np.sin(6 * x**3)).mean() < 0.1
    assert model.elbos_[-50:].mean() > model.elbos_[:50].mean() + 100
    assert len(model.elbos_) == 300


def test_coupled_layers_stay_uncertain(wave):
    """The paper's claim: DSVI collapses the first layer; a chain does not, at a larger bound."""
    x, y = wave
    models = {
        posterior: DeepGP(two_layers(), Gaussian(0.0025), posterior, n_steps=700, rng=0).fit(x, y)
        for posterior in ("factorized", "chain")
    }
    variances = {p: m.layer_variance(np.zeros(1))[0][0, 0] for p, m in models.items()}
    assert variances["chain"] > 5 * variances["factorized"]
    elbos = {p: m.elbo(x, y, 500, rng=0).value for p, m in models.items()}
    assert elbos["chain"] > elbos["factorized"] + 1
    coupling = {p: m.coupling(x, y, 200, rng=0) for p, m in models.items()}
    assert coupling["factorized"].total_correlation == pytest.approx(0, abs=1e-9)
    assert coupling["chain"].total_correlation > 1
    assert coupling["chain"].canonical_correlations[0][0] > 0.5
    assert abs(coupling["factorized"].shuffle) < 3 < coupling["chain"].shuffle


def test_outliers_and_classes(rng):
    x = np.linspace(-1, 1, 60)
    y = np.sin(4 * x) + 0.05 * rng.normal(size=60)
    y[::10] += 3
    errors = []
    for likelihood in (StudentT(0.1, 3.0), Gaussian(0.01)):
        model = DeepGP(two_layers(), likelihood, "chain", n_steps=400, rng=0).fit(x, y)
        f = np.mean(model.sample_paths(x, 50, rng=0)[-1], axis=0)[:, 0]
        errors.append(np.abs(f - np.sin(4 * x)).mean())
    assert errors[0] < 0.1 < errors[1]
    labels = (x**2 > 0.3).astype(int)
    model = DeepGP(two_layers(), Bernoulli(), "chain", n_steps=250, rng=0).fit(x, labels)
    p = model.predict(x, rng=0).mean[:, 0]
    assert ((p > 0.5) == labels).mean() > 0.95
    assert model.log_density(x, labels, rng=0).mean() > -0.2


def test_several_inputs_outputs_and_minibatches(rng):
    x = rng.uniform(-1, 1, (300, 3))
    y = np.stack([x[:, 0] * x[:, 1], np.sin(2 * x[:, 2])], axis=1)
    k = SquaredExponential(lengthscale=np.ones(3))
    layers = [GPLayer(k, 15, 2, mean="identity"), GPLayer(SquaredExponential(), 15, 2)]
    model = DeepGP(layers, Gaussian(0.01), "chain", n_steps=400, batch_size=50, n_samples=3, rng=0)
    model.fit(x, y)
    error = model.predict(x, 20, rng=0).mean - y
    assert (error.std(axis=0) < 0.5 * y.std(axis=0)).all()
    assert [v.shape for v in model.sample_paths(x, 2)] == [(2, 300, 2), (2, 300, 2)]


def test_frozen_stays_and_priors_hold(wave):
    x, y = wave
    model = DeepGP(two_layers(), Gaussian(0.01), frozen=FROZEN, n_steps=20, rng=0).fit(x, y)
    assert [layer.kernel for layer in model.layers_] == [layer.kernel for layer in two_layers()]
    assert model.likelihood_.variance == pytest.approx(0.01)
    np.testing.assert_allclose(model.layers_[0].inducing[:, 0], np.linspace(-1, 1, 8))
    tight = DeepGP(two_layers(), Gaussian(0.01), prior_width=0.01, n_steps=200, rng=0).fit(x, y)
    loose = DeepGP(two_layers(), Gaussian(0.01), n_steps=200, rng=0).fit(x, y)
    moved = [np.abs(m.layers_[0].kernel.theta).max() for m in (tight, loose)]
    assert moved[0] < 0.2 * moved[1]


def test_same_seed_same_bytes(wave):
    x, y = wave
    fits = [DeepGP(two_layers(), n_steps=15, rng=3).fit(x, y).parameters_ for _ in range(2)]
    assert fits[0].tobytes() == fits[1].tobytes()


def test_adam_alone_and_callback(wave):
    x, y = wave
    options = dict(natural_rate=None, n_steps=400, rng=0)
    model = DeepGP(two_layers(), Gaussian(0.01), callback=lambda step, _: step == 299, **options)
    model.fit(x, y)
    assert len(model.elbos_) == 300
    assert model.elbos_[-20:].mean() > model.elbos_[:20].mean()


def test_a_training_that_diverges_says_so(wave):
    model = DeepGP(two_layers(), Gaussian(0.01), learning_rate=3.0, n_steps=40, scale=1.0, rng=0)
    with pytest.warns(ConvergenceWarning, match="lower ELBO than it began"):
        model.fit(*wave)


# Draws


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_functions_agree_with_paths_and_variances(posterior, wave):
    x, y = wave
    model = DeepGP(two_layers(5), Gaussian(0.01), posterior, n_steps=100, scale=0.5, rng=0)
    model.fit(x, y)
    at = np.array([0.3])
    draws = model.sample_functions([np.linspace(-1, 1, 7), np.array([0.2])], 2000, x=at, rng=1)
    assert draws.functions[0].shape == (2000, 7, 1)
    ways = model.sample_paths(at, 2000, rng=2)
    for ours, path in zip(draws.values, ways):
        assert stats.ks_2samp(ours[:, 0, 0], path[:, 0, 0]).pvalue > 1e-3
    [_, second] = model.layer_variance([at, np.array([0.2])], 1000, rng=3)
    assert draws.functions[1][:, 0, 0].var() == pytest.approx(second[0, 0], rel=0.15)


def test_values_lie_on_the_drawn_functions(wave):
    x, y = wave
    model = DeepGP(two_layers(5), Gaussian(0.01), "chain", n_steps=100, rng=0).fit(x, y)
    grid = np.linspace(-2, 2, 81)
    draws = model.sample_functions([grid, grid], 4, x=np.array([0.05, 0.5]), rng=1)
    for first, second, (one, two) in zip(*draws.functions, zip(*draws.values)):
        np.testing.assert_allclose(np.interp([0.05, 0.5], grid, first[:, 0]), one[:, 0], atol=1e-2)
        np.testing.assert_allclose(np.interp(one[:, 0], grid, second[:, 0]), two[:, 0], atol=2e-2)


# Files and errors


def test_save_and_load(wave, tmp_path):
    x, y = wave
    layers = two_layers()
    layers[1] = GPLayer(Matern(2.5) * SquaredExponential() + Matern(0.5, 0.1), 8)
    model = DeepGP(layers, StudentT(0.1, 5.0), "chain", n_steps=10, rng=0).fit(x, y)
    path = tmp_path / "model.npz"
    model.save(path)
    again = DeepGP.load(path)
    assert again.elbo(x, y, rng=0) == model.elbo(x, y, rng=0)
    assert again.layers_[1].kernel == model.layers_[1].kernel
    assert again.likelihood_ == model.likelihood_
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"written by DeepGP\.save"):
        DeepGP.load(path)
    with pytest.raises(FileNotFoundError):
        DeepGP.load(tmp_path / "no.npz")
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "no" / "model.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": np.full(40, np.nan)}, "y must be finite"),
        ({"y": np.zeros(39)}, "of the same length"),
        ({"y": np.zeros((40, 2))}, "y must have 1 column"),
        ({"x": np.zeros((40, 2, 2))}, "x must have 1 or 2 dimensions"),
        ({"x": np.zeros(3), "y": np.zeros(3)}, "x must have at least 8 points"),
        ({"posterior": "dense"}, "posterior must be"),
        ({"jitter": -1.0}, "jitter must be"),
        ({"natural_rate": 2.0}, "natural_rate must be"),
        ({"frozen": ("noise",)}, "frozen must be"),
        ({"likelihood": Bernoulli()}, "y must be 0 or 1"),
        ({"scale": [0.1, 0.1, 0.1]}, "scale must be a number, or one for each of 2 layers"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_errors(options, message, wave):
    x, y = options.pop("x", wave[0]), options.pop("y", wave[1])
    with pytest.raises(ValueError, match=message):
        DeepGP(two_layers(), **{"likelihood": Gaussian(0.01), **options}).fit(x, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": GPLayer(SquaredExponential())}, "layers must be a list of GPLayer"),
        ({"frozen": "likelihood"}, "frozen must be a tuple"),
        ({"likelihood": "gaussian"}, "likelihood must be Gaussian"),
    ],
)
def test_what_is_no_such_thing(options, message, wave):
    with pytest.raises(TypeError, match=message):
        DeepGP(**{"layers": two_layers(), **options}).fit(*wave)


def test_a_class_is_no_covariance():
    with pytest.raises(TypeError, match="kernel must be a covariance of fastvis.gp"):
        GPLayer(SquaredExponential)


@pytest.mark.parametrize("posterior", ["factorized", "chain", "joint"])
def test_a_layer_without_variance_at_a_point(posterior):
    """A linear layer is 0 at 0 for sure."""
    x = np.linspace(-1, 1, 21)
    layers = [GPLayer(Linear(), 1, inducing=[1.0]), GPLayer(SquaredExponential(), 5)]
    options = dict(rng=0, n_steps=5, jitter=1e-10)
    model = DeepGP(layers, Gaussian(0.01), posterior, **options).fit(x, np.sin(3 * x))
    assert np.isfinite(model.elbos_).all()
    prediction = model.predict([0.0, 0.5], rng=0)
    assert np.isfinite(prediction.mean).all()
    assert np.isfinite(prediction.variance).all()
    assert (model.sample_functions([x, x], 3, rng=0).functions[0][:, 10] ** 2 < 1e-8).all()
    # beside the point the layer is nearly known, and says nearly the same
    near = model.predict([0.0, 1e-7], n_samples=4000, rng=1)
    assert near.mean[0] == pytest.approx(near.mean[1], abs=0.05)
    if posterior == "chain":
        samples = elliptical_slice(model, x, np.sin(3 * x), 3, burn=2, thin=1, rng=0)
        assert np.isfinite(samples.log_likelihood).all()


def test_more_outputs_than_points(wave):
    """A mean function that hands on principal components has all of its outputs."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 20)), rng.normal(size=8)
    layers = [GPLayer(SquaredExponential(), 4, 10, mean="identity"), GPLayer(Matern(1.5), 4)]
    model = DeepGP(layers, Gaussian(0.1), n_steps=3, rng=0).fit(x, y)
    assert model._bound.sizes[0].slope.shape == (20, 10)
    assert np.isfinite(model.predict(x, rng=0).mean).all()


# Likelihoods


@pytest.mark.parametrize("deviation", [1e-3, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("df", [2.5, 4.0, 1e4])
def test_predictive_density_of_students_t(df, scale, deviation):
    likelihood = StudentT(scale, df)
    y, mean = np.array([-2.0, 0.1, 0.35]), 0.3
    found = likelihood.log_marginal(y, mean, deviation**2)
    widths = np.array([0, 0.1, 0.5, 2, 6, 20])
    for value, at in zip(found, y):
        cuts = [at - scale * widths, at + scale * widths]
        cuts += [mean - deviation * widths, mean + deviation * widths]
        low, high = mean - 30 * deviation, mean + 30 * deviation
        cuts = np.unique(np.clip(np.concatenate([*cuts, [low, high]]), low, high))

        def density(f, at=at):
            return np.exp(likelihood.log_density(at, f)) * stats.norm.pdf(f, mean, deviation)

        expected = sum(
            integrate.quad(density, a, b, epsabs=0, epsrel=1e-10)[0] for a, b in zip(cuts, cuts[1:])
        )
        if expected > 1e-150:
            assert value == pytest.approx(np.log(expected), abs=1e-7)


@pytest.mark.parametrize("deviation", [0.01, 1.0, 5.0, 20.0, 300.0])
@pytest.mark.parametrize("mean", [0.0, 0.3, -4.0])
def test_predictive_probability_of_bernoulli(mean, deviation):
    found = Bernoulli().marginal_moments(np.array([mean]), np.array([deviation**2]))[0][0]
    cuts = np.unique([-9, *np.clip(np.array([-30, -3, 0, 3, 30]) / deviation, -9, 9), 9])
    cuts = np.unique(np.clip(np.append(cuts, cuts - mean / deviation), -9, 9))
    expected = sum(
        integrate.quad(
            lambda z: expit(mean + deviation * z) * stats.norm.pdf(z), a, b, epsabs=1e-13
        )[0]
        for a, b in zip(cuts, cuts[1:])
    )
    assert found == pytest.approx(expected, rel=1e-8)


# Errors


def test_coinciding_inducing_points(wave):
    """Without jitter an error that says so; with it a fit."""
    same = GPLayer(SquaredExponential(), 3, inducing=np.array([0.1, 0.1, 0.5]))
    with pytest.raises(ValueError, match="layer 0, with jitter 0, must be positive definite"):
        DeepGP([same], jitter=0, n_steps=1).fit(*wave)
    DeepGP([same], n_steps=1).fit(*wave)


@pytest.mark.parametrize("variance", [0, -1, np.nan, np.inf])
def test_noise_must_be_positive(variance):
    with pytest.raises(ValueError, match="variance must be a finite number > 0"):
        Gaussian(variance)


def test_locations_need_equal_numbers_of_points(wave):
    layers = [GPLayer(SquaredExponential(), m) for m in (4, 5)]
    with pytest.raises(ValueError, match="n_inducing must be the same in all layers"):
        DeepGP(layers, posterior="locations").fit(*wave)

"""Reference posteriors: against the exact one of a single layer."""

import numpy as np
import pytest

from fastvis.gp import (
    DeepGP,
    Gaussian,
    GPLayer,
    SquaredExponential,
    annealed_evidence,
    elliptical_slice,
)

FROZEN = ("hyperparameters", "inducing", "likelihood")


@pytest.fixture
def one_layer(rng):
    """A single layer with inducing points at the data, and its exact posterior after one step."""
    x = np.linspace(-2, 2, 6)
    y = rng.normal(size=6)
    layer = GPLayer(SquaredExponential(1.0, 0.8), 6, inducing=x)
    options = dict(frozen=FROZEN, jitter=0, scale=1.0, natural_rate=1.0, n_steps=1, rng=0)
    return DeepGP([layer], Gaussian(0.3), **options).fit(x, y), x, y


def test_draws_are_those_of_the_exact_posterior(one_layer):
    model, x, y = one_layer
    samples = elliptical_slice(model, x, y, 2500, thin=2, burn=50, rng=0)
    at = np.array([-1.3, 0.2, 3.0])
    [ours], [exact] = samples.layer_variance(at), model.layer_variance(at)
    np.testing.assert_allclose(ours, exact, rtol=0.1)


def test_annealed_evidence_is_the_exact_one(one_layer):
    model, x, y = one_layer
    value, weights = annealed_evidence(model, x, y, 20, 400, rng=0)
    assert weights.std() < 1
    assert value == pytest.approx(model.elbo(x, y).value, abs=0.3)


def test_two_layers_are_wider_than_the_factorized_fit():
    """Which approximation is right: the reference has the coupled layers' variance."""
    x = np.linspace(-1, 1, 20)
    y = np.sin(4 * x)
    k = SquaredExponential()
    layers = [GPLayer(k, 6, mean="identity"), GPLayer(k, 6)]
    variances = {}
    for posterior in ("factorized", "chain"):
        options = dict(frozen=FROZEN, n_steps=300, rng=0)
        model = DeepGP(layers, Gaussian(0.01), posterior, **options).fit(x, y)
        variances[posterior] = model.layer_variance(np.zeros(1))[0][0, 0]
    samples = elliptical_slice(model, x, y, 1000, thin=6, burn=500, rng=0)
    reference = samples.layer_variance(np.zeros(1))[0][0, 0]
    assert variances["factorized"] < variances["chain"] < 1.5 * reference


def test_locations_are_refused():
    x = np.linspace(-1, 1, 9)
    model = DeepGP([GPLayer(SquaredExponential(), 4)], posterior="locations", n_steps=1).fit(x, x)
    with pytest.raises(ValueError, match="not 'locations'"):
        elliptical_slice(model, x, x, 2)

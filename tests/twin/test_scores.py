"""Scores and ceilings: against plain loops, and in the mean against what is true."""

import numpy as np
import pytest

from fastvis.twin import (
    ccnorm,
    ceiling,
    correlation_to_average,
    fev,
    feve,
    oracle,
    single_trial_correlation,
)

N_IMAGES, N_NEURONS = 40, 6
SIGNAL, NOISE = 1.5, 0.8  # standard deviations


def recording(rng, repeats, n_neurons=N_NEURONS, n_images=N_IMAGES):
    """Means (n_images, n_neurons), responses in a random order, and image ids."""
    means = SIGNAL * rng.normal(size=(n_images, n_neurons)) + 5
    ids = rng.permutation(np.repeat(np.arange(n_images), repeats))
    return means, means[ids] + NOISE * rng.normal(size=(len(ids), n_neurons)), ids


def ragged(rng):
    return np.r_[1, 2, rng.integers(2, 9, N_IMAGES - 2)]


@pytest.fixture(params=["even", "ragged"])
def trials(request, rng):
    return recording(rng, 5 if request.param == "even" else ragged(rng))


def by_image(responses, ids):
    return [responses[ids == i] for i in range(N_IMAGES)]


def test_correlations_are_those_of_plain_loops(trials, rng):
    means, r, ids = trials
    p = means + rng.normal(size=means.shape)
    averages = np.array([x.mean(0) for x in by_image(r, ids)])
    for n in range(N_NEURONS):
        expected = np.corrcoef(p[ids, n], r[:, n])[0, 1]
        assert single_trial_correlation(p, r, ids)[n] == pytest.approx(expected, abs=1e-12)
        expected = np.corrcoef(p[:, n], averages[:, n])[0, 1]
        assert correlation_to_average(p, r, ids)[n] == pytest.approx(expected, abs=1e-12)


def test_oracles_are_those_of_plain_loops(trials):
    _, r, ids = trials
    jackknife, conservative = oracle(r, ids), oracle(r, ids, method="conservative")
    for n in range(N_NEURONS):
        pairs, noise, averages = [], [], []
        for x in by_image(r[:, n], ids):
            pairs += [(v, np.delete(x, t).mean()) for t, v in enumerate(x) if len(x) > 1]
            noise.append(x.var())
            averages.append(x.mean())
        assert jackknife[n] == pytest.approx(np.corrcoef(np.transpose(pairs))[0, 1], abs=1e-12)
        signal = np.var(averages)
        expected = np.sqrt(signal / (signal + np.mean(noise)))
        assert conservative[n] == pytest.approx(expected, abs=1e-12)


def test_explained_variances_are_those_of_plain_loops(trials, rng):
    means, r, ids = trials
    p = means + 0.5 * rng.normal(size=means.shape)
    for n in range(N_NEURONS):
        each = [x for x in by_image(r[:, n], ids)]
        many = [x for x in each if len(x) > 1]
        noise = sum((len(x) - 1) * x.var(ddof=1) for x in many) / sum(len(x) - 1 for x in many)
        total = r[:, n].var(ddof=1)
        assert fev(r, ids)[n] == pytest.approx((total - noise) / total, abs=1e-12)
        error = np.mean((r[:, n] - p[ids, n]) ** 2)
        expected = 1 - (error - noise) / (total - noise)
        assert feve(p, r, ids)[n] == pytest.approx(expected, abs=1e-12)
        own = [(x.var(ddof=1) if len(x) > 1 else noise) / len(x) for x in each]
        variance = np.var([x.mean() for x in each], ddof=1)
        best = np.sqrt(1 - np.mean(own) / variance)
        assert ceiling(r, ids)[n] == pytest.approx(best, abs=1e-12)
        found = correlation_to_average(p, r, ids)[n] / best
        assert ccnorm(p, r, ids)[n] == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("repeats", [2, 10])
def test_scores_find_what_is_true(repeats, rng):
    """Of many neurons of one signal and noise."""
    means, r, ids = recording(rng, repeats, n_neurons=3000, n_images=50)
    fraction = SIGNAL**2 / (SIGNAL**2 + NOISE**2)
    assert fev(r, ids).mean() == pytest.approx(fraction, abs=0.01)
    assert feve(means, r, ids).mean() == pytest.approx(1, abs=0.01)
    assert ccnorm(means, r, ids).mean() == pytest.approx(1, abs=0.005)
    best = np.sqrt(SIGNAL**2 / (SIGNAL**2 + NOISE**2 / repeats))
    assert ceiling(r, ids).mean() == pytest.approx(best, abs=0.01)
    assert correlation_to_average(means, r, ids).mean() == pytest.approx(best, abs=0.01)
    assert single_trial_correlation(means, r, ids).mean() == pytest.approx(
        np.sqrt(fraction), abs=0.01
    )
    # biases, as documented
    true = np.sqrt(fraction)
    assert oracle(r, ids).mean() < true - 0.005
    assert oracle(r, ids, method="conservative").mean() > true + 0.005


def test_what_does_not_vary_has_defined_scores(rng):
    r = np.repeat([[0.1, 0.3]], 12, axis=0)
    r[:, 1] += rng.normal(size=12)
    ids = np.arange(12) % 4
    p = np.full((4, 2), 0.7)
    for found in (
        single_trial_correlation(p, r, ids),
        correlation_to_average(p, r, ids),
        oracle(r, ids)[:1],
        oracle(r, ids, method="conservative")[:1],
        fev(r, ids)[:1],
        ceiling(r, ids)[:1],
    ):
        np.testing.assert_array_equal(found, 0)
    assert np.isnan(feve(p, r, ids)[0])
    assert np.isnan(ccnorm(p, r, ids)[0])


def test_float32_is_summed_in_float64(rng):
    means, r, ids = recording(rng, 5)
    r = r + 1e4
    single = fev(r.astype(np.float32), ids)
    np.testing.assert_allclose(single, fev(r.astype(np.float32).astype(float), ids), rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, r, i: fev(r, i[:-1]), "image_ids must be 80 integers, one for each trial"),
        (lambda p, r, i: fev(r, i * 1.0), "integers"),
        (lambda p, r, i: fev(r[:40], np.arange(40)), "fev needs repeats: no image has two"),
        (lambda p, r, i: oracle(r[:40], np.arange(40)), "oracle needs repeats"),
        (lambda p, r, i: ceiling(r, np.zeros(80, int)), "two or more images"),
        (lambda p, r, i: oracle(r, i, method="other"), "method must be"),
        (lambda p, r, i: feve(p[:, :3], r, i), "predictions must be for 6 neuron"),
        (lambda p, r, i: feve(p[:30], r, i), "rows of the 30 predictions; got 0 to 39"),
        (lambda p, r, i: feve(p, r, i - 1), "got -1 to 38"),
        (lambda p, r, i: fev(r / 0, i), "responses must be finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_errors(call, message, rng):
    means, r, ids = recording(rng, 2)
    with pytest.raises(ValueError, match=message):
        call(means, r, ids)

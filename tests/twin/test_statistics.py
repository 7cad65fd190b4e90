"""Statistics of tuning: brute force, SciPy, and populations in which what is true is built in."""

from itertools import combinations as choose

import numpy as np
import pytest
from scipy import stats

from fastvis.twin.statistics import (
    combinations,
    compare_clusters,
    compare_tuning,
    correlate_properties,
    count_modes,
    coverage,
    greedy_gabors,
    high_low,
)


def clustered(rng, n=600, n_clusters=6, between=1.0):
    """Three properties of neurons, of clusters that differ, with their labels."""
    labels = rng.permutation(np.arange(n) % n_clusters)
    shifts = between * rng.normal(size=(3, n_clusters))
    values = shifts[:, labels] + rng.normal(size=(3, n))
    return dict(zip(("phase", "plaid", "suppression"), values)), labels


def test_correlations_over_neurons_are_scipys(rng):
    properties, _ = clustered(rng)
    properties["plaid"][:20] = np.nan
    properties["phase"][10:30] = np.nan
    found = correlate_properties(properties)
    assert found.names == ("phase", "plaid", "suppression")
    for i, j in choose(range(3), 2):
        a, b = properties[found.names[i]], properties[found.names[j]]
        known = ~np.isnan(a) & ~np.isnan(b)
        expected = stats.pearsonr(a[known], b[known])
        assert found.r[i, j] == found.r[j, i] == pytest.approx(expected.statistic)
        assert found.p[i, j] == found.p[j, i] == pytest.approx(expected.pvalue)
        assert found.n[i, j] == known.sum()
    np.testing.assert_array_equal(np.diag(found.r), 1)
    np.testing.assert_array_equal(np.diag(found.n), [580, 580, 600])


def test_correlations_over_clusters_are_those_of_their_means(rng):
    properties, labels = clustered(rng)
    means = np.array([[v[labels == k].mean() for k in range(6)] for v in properties.values()])
    np.testing.assert_allclose(correlate_properties(properties, labels).r, np.corrcoef(means))
    subset = np.array([True, True, False, True, True, False])
    found = correlate_properties(properties, labels, subset)
    np.testing.assert_allclose(found.r, np.corrcoef(means[:, subset]))
    assert (found.n == 4).all()
    neurons = labels < 3
    expected = np.corrcoef([v[neurons] for v in properties.values()])
    np.testing.assert_allclose(correlate_properties(properties, subset=neurons).r, expected)


def test_clusters_hide_or_show_correlations(rng):
    """Within clusters properties rise together, between them they fall: Simpson's."""
    labels = np.arange(1000) % 10
    shared = rng.normal(size=1000)
    properties = {"a": labels + 20 * shared, "b": -labels + 20 * shared}
    assert correlate_properties(properties).r[0, 1] > 0.8
    centered = {k: v - np.bincount(labels, v)[labels] / 100 + s * labels
                for (k, v), s in zip(properties.items(), (1, -1))}  # fmt: skip
    assert correlate_properties(centered, labels).r[0, 1] == pytest.approx(-1)


def test_what_does_not_vary_is_not_correlated(rng):
    found = correlate_properties({"a": np.full(9, 0.1), "b": rng.normal(size=9)})
    assert (found.r[0, 1], found.p[0, 1]) == (0, 1)


def test_high_and_low_are_about_the_mean_of_neurons_not_of_clusters():
    labels = [0, 1, 1, 1, 2]
    values = {"a": [10.0, 1.0, 1.0, 1.0, 4.0], "b": [np.nan, 0.0, 2.0, np.nan, 1.5],
              "c": [0.0, 1.0, 0.0, 2.0, 0.0]}  # fmt: skip
    with pytest.raises(ValueError, match="'b' is NaN for all of cluster 0"):
        high_low(values, labels)
    values["b"][0] = 0.0
    found = high_low(values, labels)
    np.testing.assert_array_equal(found["a"], [True, False, True])  # 3.4; of clusters it were 5
    np.testing.assert_array_equal(found["b"], [False, True, True])  # .875 over those known
    np.testing.assert_array_equal(found["c"], [False, True, False])


def test_combinations_are_counted():
    high = {
        "phase": np.array([0, 0, 1, 1, 1, 1], bool),
        "plaid": np.array([0, 1, 0, 0, 1, 1], bool),
        "suppression": np.array([0, 1, 0, 1, 1, 1], bool),
    }
    found = combinations(high)
    expected = {(0, 0, 0): 1, (0, 1, 1): 1, (1, 0, 0): 1, (1, 0, 1): 1, (1, 1, 1): 2}
    got = {tuple(map(int, h)): c for h, c in zip(found.high, found.counts) if c}
    assert got == expected
    assert found.n_present == 5
    assert len(found.counts) == 8
    for k, label in enumerate(found.labels):
        np.testing.assert_array_equal(found.high[label], [v[k] for v in high.values()])
    some = combinations(high, subset=high["phase"])
    assert some.counts.sum() == 4
    np.testing.assert_array_equal(some.labels[:2], -1)


def test_kolmogorov_smirnov_is_scipys(rng):
    properties, labels = clustered(rng, n=200, n_clusters=3)
    properties["plaid"] = properties["plaid"].round(1)  # ties
    properties["phase"][:30] = np.nan
    found = compare_clusters(properties, labels, n_controls=1, rng=0)
    for i, v in enumerate(properties.values()):
        known = ~np.isnan(v)
        for k in range(3):
            expected = stats.ks_2samp(v[known & (labels == k)], v[known], method="asymp")
            assert found.statistic[k, i] == pytest.approx(expected.statistic)
            assert found.p[k, i] == pytest.approx(expected.pvalue)


def test_shifted_clusters_differ_and_others_do_not(rng):
    labels = np.arange(2000) % 40
    properties = {name: rng.normal(size=2000) for name in ("a", "b")}
    properties["a"] += 1.5 * (labels < 2)
    properties["b"] += 1.5 * (labels < 1)
    found = compare_clusters(properties, labels, n_controls=20, rng=0)
    assert found.significant[:2, 0].all()
    assert found.significant[0, 1]
    assert found.significant.sum() <= 3 + 3
    assert found.n_any in (2, 3, 4, 5)
    assert found.n_all == 1
    assert found.control_any.mean() < 1.5
    assert "40 clusters: " in repr(found)


def test_random_clusters_are_significant_at_alpha(rng):
    labels = np.arange(3000) % 30
    values = {"a": rng.normal(size=3000), "b": rng.exponential(size=3000)}
    found = compare_clusters(values, labels, alpha=0.1, n_controls=60, rng=0)
    assert 0.06 < found.control_rate < 0.11  # a little conservative: a cluster is of the population
    assert found.control_any.mean() / 30 == pytest.approx(
        1 - (1 - found.control_rate) ** 2, abs=0.02
    )
    assert found.control_all.mean() / 30 == pytest.approx(found.control_rate**2, abs=0.01)
    again = compare_clusters(values, labels, alpha=0.1, n_controls=60, rng=0)
    np.testing.assert_array_equal(again.control_any, found.control_any)


def test_controls_keep_neurons_together():
    """Properties that are the same are significant together, however neurons are assigned."""
    x = np.random.default_rng(1).normal(size=1000)
    found = compare_clusters(
        {"a": x, "b": x}, np.arange(1000) % 20, alpha=0.2, n_controls=20, rng=0
    )
    np.testing.assert_array_equal(found.control_any, found.control_all)
    assert found.control_any.sum() > 10


def driven(responses, optimal, chosen, threshold=0.5):
    return (responses[list(chosen)] >= threshold * optimal).any(0).sum()


def test_greedy_choice_is_best_of_one_and_near_the_best_of_more(rng):
    for _ in range(20):
        responses, optimal = rng.exponential(size=(8, 25)), rng.uniform(1.0, 6.0, 25)
        best = [max(driven(responses, optimal, c) for c in choose(range(8), n)) for n in (1, 2, 3)]
        chosen = greedy_gabors(responses, optimal, 3)
        found = [driven(responses, optimal, chosen[:n]) for n in (1, 2, 3)]
        assert found[0] == best[0]
        assert found[1] >= 0.75 * best[1]  # 1 - (1 - 1/n)^n
        assert found[2] >= 0.70 * best[2]


def test_greedy_choice_is_that_of_a_plain_loop(rng):
    for _ in range(20):
        responses, optimal = rng.exponential(size=(12, 60)), rng.uniform(1.0, 6.0, 60)
        chosen = []
        while True:
            counts = [driven(responses, optimal, [*chosen, i]) for i in range(12)]
            if chosen and max(counts) == driven(responses, optimal, chosen):
                break
            chosen.append(int(np.argmax(counts)))
        np.testing.assert_array_equal(greedy_gabors(responses, optimal, 12), chosen)


def test_greedy_choice_is_of_newly_driven_neurons():
    """The second drives most of the others, though the third drives more in all."""
    drives = np.zeros((3, 10))
    drives[0, :6], drives[1, 6:8], drives[2, 1:6] = 1, 1, 1
    drives[2, 6] = 1
    np.testing.assert_array_equal(greedy_gabors(drives, np.ones(10), 2), [0, 1])
    # nothing drives the last two: there is no third
    np.testing.assert_array_equal(greedy_gabors(drives, np.ones(10), 3), [0, 1])
    np.testing.assert_array_equal(greedy_gabors(drives * 0.4, np.ones(10), 3), [])
    assert len(greedy_gabors(drives * 0.4, np.ones(10), 3, threshold=0.4)) == 2


def test_silent_neurons_are_never_driven():
    responses = np.array([[0.0, 0.0, 1.0], [3.0, 0.0, 0.0]])
    optimal = np.array([0.0, 0.0, 1.0])
    np.testing.assert_array_equal(greedy_gabors(responses, optimal, 2), [0])
    np.testing.assert_allclose(coverage(responses, optimal, [0, 1], [0.0, 0.5]), 1 / 3)


def test_coverage_falls_with_level_and_rises_with_stimuli(rng):
    optimal = rng.uniform(1, 3, 200)
    responses = optimal * rng.beta(0.7, 2, size=(30, 200))
    levels = np.linspace(0, 1, 21)
    chosen = greedy_gabors(responses, optimal, 10)
    curves = [coverage(responses, optimal, chosen[:n], levels) for n in (1, 3, 10)]
    for fewer, more in zip(curves, curves[1:]):
        assert (more >= fewer).all()
        assert (more > fewer).any()
    assert (np.diff(curves, axis=1) <= 0).all()
    expected = driven(responses, optimal, chosen[:3]) / 200
    assert curves[1][10] == pytest.approx(expected)
    by_hand = [np.mean((responses[chosen] / optimal).max(0) >= level) for level in levels]
    np.testing.assert_allclose(curves[2], by_hand, atol=0.006)


def test_tuning_is_compared_curve_by_curve(rng):
    vivo = rng.normal(size=(5, 3, 4))
    silico = vivo + rng.normal(size=(5, 3, 4))
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(vivo, silico)]
    np.testing.assert_allclose(compare_tuning(vivo, silico), expected)
    np.testing.assert_allclose(compare_tuning(vivo, 3 + 2 * vivo), 1)
    oracle = np.array([0.5, 0.7, 0.0, -0.2, 1.0])
    found = compare_tuning(vivo, silico, oracle)
    np.testing.assert_allclose(found[[0, 1, 4]], np.array(expected)[[0, 1, 4]] / oracle[[0, 1, 4]])
    assert np.isnan(found[2:4]).all()
    vivo[0] = 0.1
    assert compare_tuning(vivo, silico)[0] == 0


def blobs(rng, side=3, n=3000, spacing=10.0):
    centers = spacing * np.array(np.meshgrid(np.arange(side), np.arange(side))).reshape(2, -1).T
    return centers, centers[rng.integers(len(centers), size=n)] + rng.normal(size=(n, 2))


def test_modes_of_separate_groups_are_counted_and_found(rng):
    centers, places = blobs(rng)
    found = count_modes(places, n_bootstrap=10, rng=0)
    assert found.n_modes == 9
    np.testing.assert_array_equal(found.support, 1)
    distances = np.linalg.norm(found.peaks[:, None] - centers, axis=2)
    assert sorted(distances.argmin(1)) == list(range(9))
    assert distances.min(1).max() < 0.5
    assert found.counts[2] == 9
    assert found.bootstrap_counts.shape == (10, 5)
    assert found.bandwidths[2] == found.bandwidth
    np.testing.assert_allclose(found.bandwidths[[0, -1]], found.bandwidth * np.array([0.5, 2]))


def test_two_gaussians_are_two_modes_if_far_apart_for_the_bandwidth(rng):
    """Smoothed they have variance 1 + h^2, and are bimodal beyond twice its root."""
    places = rng.normal(size=(20000, 2))
    places[::2, 0] += 4.0
    assert count_modes(places, bandwidth=1.0, n_bootstrap=1, rng=0).n_modes == 2  # root is 1.41
    assert count_modes(places, bandwidth=2.2, n_bootstrap=1, rng=0).n_modes == 1  # 2.4


def test_modes_do_not_depend_on_scale_or_place_and_strays_are_none(rng):
    _, places = blobs(rng)
    expected = count_modes(places, n_bootstrap=2, rng=0)
    moved = count_modes(1e3 * places - 7e3, n_bootstrap=2, rng=0)
    np.testing.assert_allclose(moved.peaks, 1e3 * expected.peaks - 7e3, atol=1)
    stray = np.concatenate([places, [[-20.0, -20.0]]])
    assert count_modes(stray, bandwidth=expected.bandwidth, n_bootstrap=2, rng=0).n_modes == 9


def test_spurious_modes_lack_support(rng):
    """A uniform square has bumps, which are others in other neurons."""
    uniform = count_modes(rng.uniform(size=(1000, 2)), bandwidth=0.03, n_bootstrap=8, rng=0)
    assert uniform.n_modes > 10
    assert uniform.support.mean() < 0.9
    assert np.ptp(uniform.counts) > 10
    again = count_modes(np.zeros((3, 2)), bandwidth=1.0, n_bootstrap=2, rng=0)
    assert (again.n_modes, again.support[0]) == (1, 1)


ABC = {"a": [0.1, 0.2, 0.3], "b": [1.0, 0.0, 2.0]}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: correlate_properties([[1, 2]]), TypeError, "properties must be a dictionary"),
        (lambda: correlate_properties({"a": [1.0, 2.0, 3.0]}), ValueError, "must be 2 or more"),
        (lambda: correlate_properties({"a": [1], "b": [1, 2]}), ValueError, "of one length"),
        (lambda: correlate_properties({}), ValueError, "of one length"),
        (lambda: correlate_properties({"a": ["x"], "b": ["y"]}), TypeError, "real numbers"),
        (lambda: correlate_properties({"a": [np.inf], "b": [1.0]}), ValueError, "not be infinite"),
        (lambda: correlate_properties(ABC, [0, 0, 1]), ValueError, "three or more neurons or cl"),
        (lambda: correlate_properties(ABC, [0, 2, 2]), ValueError, "1 has none"),
        (lambda: correlate_properties(ABC, [0, 1]), ValueError, "clusters must have one value"),
        (lambda: correlate_properties(ABC, subset=[0, 1, 2]), ValueError, "subset must be 3 bools"),
        (lambda: high_low(ABC, [0.0, 1.0, 1.0]), TypeError, "clusters must be integers"),
        (lambda: combinations({"a": [0.1]}), TypeError, "high must be bools"),
        (lambda: combinations({str(i): [True] for i in range(11)}), ValueError, "10 properties"),
        (lambda: compare_clusters(ABC, [0, 1, 1], alpha=0), ValueError, "alpha must be"),
        (lambda: compare_clusters(ABC, [0, 1, 1], rng="x"), TypeError, "rng must be"),
        (lambda: greedy_gabors(np.ones((2, 3)), np.ones(2), 1), ValueError, "of the 3 neurons"),
        (
            lambda: greedy_gabors(np.ones((2, 3)), -np.ones(3), 1),
            ValueError,
            "optimal must be >= 0",
        ),
        (lambda: greedy_gabors(np.ones((2, 3)), np.ones(3), 3), ValueError, "n must be"),
        (lambda: greedy_gabors(np.ones((2, 3)), np.ones(3), 1, threshold=0), ValueError, "thresh"),
        (lambda: coverage(np.ones((2, 3)), np.ones(3), [2], [0.5]), ValueError, "rows of the 2"),
        (lambda: coverage(np.ones((2, 3)), np.ones(3), [], [0.5]), TypeError, "must be integers"),
        (lambda: compare_tuning(np.ones((2, 3)), np.ones((2, 4))), ValueError, "the same two"),
        (lambda: compare_tuning(np.ones((2, 1)), np.ones((2, 1))), ValueError, "two stimuli or"),
        (lambda: compare_tuning(ABC["a"], ABC["a"]), ValueError, "two stimuli or more"),
        (lambda: compare_tuning(np.eye(3), np.eye(3), [1.0]), ValueError, "oracle must have one"),
        (lambda: count_modes(np.ones((3, 3))), ValueError, r"embedding must be \(n_neurons, 2\)"),
        (lambda: count_modes(np.ones((3, 2))), ValueError, "all neurons in one place"),
        (lambda: count_modes(np.eye(2), bandwidth=1e-9), ValueError, "bandwidth must be at least"),
        (lambda: count_modes(np.eye(2), bandwidth=0.0), ValueError, "bandwidth must be"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

"""Clusters of readouts: planted mixtures, likelihoods by formula, controls, bad input."""

import json
import subprocess
import sys
from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from fastvis.readouts.arguments import check_labels
from fastvis.readouts.clustering import (
    cluster,
    embed,
    heldout_loglik,
    permute_features,
)

METHODS = pytest.mark.parametrize("method", ["gmm", "kmeans"])
SIZES = (40, 25, 10)


@pytest.fixture
def planted(rng):
    """Readouts (75, 2, 4) of three well separated types in random order, types, centers."""
    centers = 8 * rng.normal(size=(3, 2, 4))
    types = rng.permutation(np.repeat(np.arange(3), SIZES))
    return centers[types] + rng.normal(size=(75, 2, 4)), types, centers


def pair_counting_ari(a, b):
    """Hubert and Arabie's definition: agreement of pairs, above chance, relative to the most."""
    together = [np.equal.outer(x, x)[np.triu_indices(len(x), 1)] for x in (a, b)]
    both, expected = np.sum(together[0] & together[1]), np.prod([t.sum() for t in together])
    expected = expected / len(together[0])
    return (both - expected) / (np.mean([t.sum() for t in together]) - expected)


@METHODS
def test_planted_types_are_found(planted, method):
    X, types, centers = planted
    clusters = cluster(X, 3, method, rng=0)
    np.testing.assert_array_equal(clusters.labels, types)  # the types are ordered by size too
    np.testing.assert_array_equal(clusters.sizes, SIZES)
    assert clusters.means.shape == (3, 2, 4)
    means = [X[types == k].mean(axis=0) for k in range(3)]
    np.testing.assert_allclose(clusters.means, means, atol=1e-6)
    assert clusters.stability == 1
    np.testing.assert_array_equal(clusters.predict(centers), [0, 1, 2])
    np.testing.assert_array_equal(clusters.predict(X.reshape(75, 8)), types)


@METHODS
def test_labels_do_not_depend_on_seed_or_order(planted, method):
    X, types, _ = planted
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(75)
        labels = cluster(X[order], 3, method, n_seeds=1, rng=seed).labels
        np.testing.assert_array_equal(labels, types[order])


@METHODS
def test_equal_sizes_are_ordered_by_the_first_neuron(rng, method):
    types = np.array([2, 0, 1, 1, 0, 2, 0, 1, 2])
    X = 20 * np.eye(3)[types] + 0.1 * rng.normal(size=(9, 3))
    for seed in range(3):
        labels = cluster(X, 3, method, n_seeds=2, rng=seed).labels
        np.testing.assert_array_equal(labels, [0, 1, 2, 2, 1, 0, 1, 2, 0])


def component_logs(X, model):
    """Log of weight times density of each component, from the model's plain parameters."""
    K, d = model.means_.shape
    covariances = {
        "spherical": lambda k: model.covariances_[k] * np.eye(d),
        "diag": lambda k: np.diag(model.covariances_[k]),
        "tied": lambda k: model.covariances_,
        "full": lambda k: model.covariances_[k],
    }[model.covariance_type]
    densities = [multivariate_normal(model.means_[k], covariances(k)).logpdf(X) for k in range(K)]
    return np.transpose(densities) + np.log(model.weights_)


@pytest.mark.parametrize("covariance_type", ["spherical", "diag", "tied", "full"])
def test_mixtures_by_formula(rng, covariance_type):
    # of unequal, overlapping components: whatever is out of order shows
    scales = np.repeat([1.0, 2.5, 0.4], [30, 90, 60])[:, None]
    X = np.repeat([[0.0, 0, 0], [4, 1, 0], [0, 3, 3]], [30, 90, 60], axis=0)
    X = X + scales * rng.normal(size=(180, 3))
    clusters = cluster(X, 3, covariance_type=covariance_type, n_seeds=2, rng=0)
    logs = component_logs(X, clusters.model)
    assert clusters.score == pytest.approx(logsumexp(logs, axis=1).mean(), rel=1e-10)
    np.testing.assert_array_equal(clusters.labels, logs.argmax(axis=1))
    np.testing.assert_allclose(clusters.means, clusters.model.means_)
    assert np.all(np.diff(clusters.sizes) <= 0)
    np.testing.assert_array_equal(clusters.sizes, np.bincount(clusters.labels))
    new = rng.normal(size=(50, 3)) * 4
    expected = component_logs(new, clusters.model).argmax(axis=1)
    np.testing.assert_array_equal(clusters.predict(new), expected)


def test_mixtures_converge():
    # readouts with few large weights, and neurons of all sizes: takes 111 iterations
    rng = np.random.default_rng(1)
    X = rng.normal(size=(1500, 32)) * np.where(rng.random((1500, 32)) < 0.2, 1, 0.02)
    X *= np.exp(0.5 * rng.normal(size=(1500, 1)))
    clusters = cluster(X, 10, n_seeds=1, rng=0)
    logs = component_logs(X, clusters.model)
    resp = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    n = resp.sum(axis=0)
    means = resp.T @ X / n[:, None]
    squares = np.stack([np.sum((X - mean) ** 2, axis=1) for mean in means], axis=1)
    variances = np.sum(resp * squares, axis=0) / n / 32 + 1e-3 * X.var()
    logs = np.log(n / 1500) - squares / variances / 2 - 16 * np.log(2 * np.pi * variances)
    gain = logsumexp(logs, axis=1).mean() - clusters.score
    assert abs(gain) < 1e-3  # of another iteration: scikit-learn's tolerance


def test_kmeans_by_formula(rng):
    X = rng.normal(size=(60, 3))
    clusters = cluster(X, 4, "kmeans", n_seeds=2, rng=0)
    squares = np.sum((X[:, None] - clusters.means) ** 2, axis=2)
    np.testing.assert_array_equal(clusters.labels, squares.argmin(axis=1))
    np.testing.assert_array_equal(clusters.model.labels_, clusters.labels)
    assert clusters.score == pytest.approx(-squares.min(axis=1).sum())


@METHODS
def test_the_best_of_the_seeds_is_kept(rng, method):
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    X = rng.normal(size=(60, 2))
    clusters = cluster(X, 6, method, n_seeds=4, rng=5)
    seeds = np.random.default_rng(5).integers(2**31, size=4)
    if method == "gmm":
        options = {"covariance_type": "spherical", "max_iter": 1000, "reg_covar": 1e-3 * X.var()}
        fits = [GaussianMixture(6, random_state=int(s), **options) for s in seeds]
    else:
        fits = [KMeans(6, n_init=1, random_state=int(s)) for s in seeds]
    fits = [fit.fit(X) for fit in fits]
    scores = [fit.score(X) for fit in fits]
    assert np.ptp(scores) > 0.01
    assert clusters.score == pytest.approx(max(scores))
    labels = [fit.predict(X) for fit in fits]
    expected = [[1 if a is b else pair_counting_ari(a, b) for a in labels] for b in labels]
    np.testing.assert_allclose(clusters.agreement, expected, atol=1e-12)
    mean = np.mean([expected[a][b] for a, b in combinations(range(4), 2)])
    assert clusters.stability == pytest.approx(mean)


def test_clusters_of_noise_are_not_stable(rng):
    clusters = cluster(rng.normal(size=(300, 10)), 8, rng=0)
    assert clusters.stability < 0.5


def test_one_seed_and_one_cluster(planted):
    X = planted[0].astype(np.float32)
    clusters = cluster(X, 1, n_seeds=1, rng=0)
    assert np.isnan(clusters.stability)
    assert clusters.agreement.tolist() == [[1]]
    assert (clusters.means.dtype, clusters.labels.dtype) == (np.float32, np.intp)
    np.testing.assert_allclose(clusters.means[0], X.mean(axis=0), rtol=1e-5)
    assert repr(clusters) == (
        "Clustering(GaussianMixture: 1 clusters of 75 to 75 neurons; stability=nan over 1 seed(s))"
    )


# Held-out likelihood


def test_heldout_likelihood_ends_to_rise_at_the_true_number(rng):
    K, d, n = 4, 8, 1200
    X = (10 * rng.normal(size=(K, d)))[rng.integers(K, size=n)] + rng.normal(size=(n, d))
    result = heldout_loglik(X, [1, 2, 4, 40], train_size=800, n_splits=2, n_init=3, rng=0)
    # of components that do not overlap: minus the entropies of the label and of the noise
    ideal = -np.log(K) - d / 2 * (1 + np.log(2 * np.pi))
    assert result.best == 4
    assert np.all(np.diff(result.test[:, :3], axis=1) > 1)
    assert np.all(result.test[:, 3] < result.test[:, 2] - 0.1)
    assert np.all(np.diff(result.train, axis=1) > 0)
    np.testing.assert_allclose(result.test[:, 2], ideal, atol=4 * result.standard_error.max())
    # the standard deviation of the log-likelihood is sqrt(d / 2), over 400 neurons
    np.testing.assert_allclose(result.standard_error[:, 2], np.sqrt(d / 2 / 400), rtol=0.2)


def test_one_component_by_formula(rng):
    # whatever 4 of the 7 neurons were fitted: one of 35 choices gives all three numbers
    X = rng.normal(size=(7, 3))
    result = heldout_loglik(X, 1, train_size=4, rng=0)
    expected = []
    for train in combinations(range(7), 4):
        rest = np.setdiff1d(range(7), train)
        mean = X[list(train)].mean(axis=0)
        ridge = 1e-3 * X[list(train)].var()
        normal = multivariate_normal(mean, X[list(train)].var(axis=0).mean() + ridge)
        test = normal.logpdf(X[rest])
        expected.append(
            [test.mean(), normal.logpdf(X[list(train)]).mean(), np.std(test, ddof=1) / np.sqrt(3)]
        )
    got = [result.test, result.train, result.standard_error]
    distance = np.abs(np.array(expected) - np.ravel(got)).max(axis=1)
    assert np.sum(distance < 1e-10) == 1


def test_heldout_results_depend_on_the_seed_alone(rng, capsys):
    X = rng.normal(size=(40, 2, 3))
    first = heldout_loglik(X, [1, 3], n_splits=2, rng=3)
    for same in (
        heldout_loglik(X.reshape(40, 6), np.array([1, 3]), n_splits=2, rng=3, progress=True),
        heldout_loglik(X, [1, 3], n_splits=2, rng=np.random.default_rng(3), n_jobs=2),
        heldout_loglik(X, (1, 3), train_size=27, n_splits=2, rng=3),
    ):
        np.testing.assert_allclose(same.test, first.test, rtol=1e-12)
        np.testing.assert_allclose(same.train, first.train, rtol=1e-12)
    assert "4/4" in capsys.readouterr().err
    assert np.all(first.test[0] != first.test[1])
    assert np.all(heldout_loglik(X, [1, 3], n_splits=2, rng=4).test != first.test)


def test_a_single_neuron_held_out(rng):
    result = heldout_loglik(rng.normal(size=(9, 2)), 2, train_size=8, rng=0)
    assert np.isnan(result.standard_error).all()
    assert np.isfinite(result.test).all()


# Controls


def as_multiset(vectors):
    return Counter(map(tuple, np.asarray(vectors).tolist()))


def test_features_within_a_neuron(rng):
    readouts = rng.normal(size=(600, 3, 4))
    permuted = permute_features(readouts, "neuron", rng=0)
    for before, after in zip(readouts, permuted):
        assert as_multiset(after) == as_multiset(before)
    # each neuron by itself: all 6 permutations occur, about equally often
    which = [
        next(p for p in permutations(range(3)) if np.array_equal(before[list(p)], after))
        for before, after in zip(readouts, permuted)
    ]
    counts = Counter(which)
    assert len(counts) == 6
    assert max(abs(count - 100) for count in counts.values()) < 5 * np.sqrt(100)


def test_entries_within_a_neuron(rng):
    readouts = rng.normal(size=(50, 3, 4))
    permuted = permute_features(readouts, "neuron", orientations_together=False, rng=0)
    np.testing.assert_array_equal(
        np.sort(permuted.reshape(50, 12)), np.sort(readouts.reshape(50, 12))
    )
    kept = [as_multiset(after) == as_multiset(before) for before, after in zip(readouts, permuted)]
    assert not any(kept)


def test_features_across_the_population(rng):
    readouts = np.repeat(rng.normal(size=(500, 1, 4)), 3, axis=1)  # three equal features
    permuted = permute_features(readouts, "population", rng=0)
    for f in range(3):
        assert as_multiset(permuted[:, f]) == as_multiset(readouts[:, f])
    # features moved independently: what they shared is gone, orientations are still together
    correlation = np.corrcoef(permuted[:, :, 0].T)[np.triu_indices(3, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(500)


def test_entries_across_the_population(rng):
    readouts = np.repeat(rng.normal(size=(500, 2, 1)), 4, axis=2)
    permuted = permute_features(readouts, "population", orientations_together=False, rng=0)
    np.testing.assert_array_equal(np.sort(permuted, axis=0), np.sort(readouts, axis=0))
    correlation = np.corrcoef(permuted.reshape(500, 8).T)[np.triu_indices(8, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(500)


@pytest.mark.parametrize("within", ["neuron", "population"])
def test_flat_readouts_and_dtypes(rng, within):
    readouts = rng.normal(size=(6, 3, 4)).astype(np.float32)
    before = readouts.copy()
    expected = permute_features(readouts, within, rng=1)
    assert expected.dtype == np.float32
    flat = permute_features(readouts.reshape(6, 12), within, n_orientations=4, rng=1)
    np.testing.assert_array_equal(flat, expected.reshape(6, 12))
    by_orientation = permute_features(
        readouts.transpose(0, 2, 1).reshape(6, 12),
        within,
        n_orientations=4,
        layout="orientation",
        rng=1,
    )
    np.testing.assert_array_equal(by_orientation, expected.transpose(0, 2, 1).reshape(6, 12))
    np.testing.assert_array_equal(readouts, before)


# Embedding


def test_types_stay_apart_in_the_plane(planted):
    X, types, _ = planted
    points = embed(X, rng=0)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(types[distances.argmin(axis=1)] == types) > 0.95
    np.testing.assert_array_equal(embed(X.reshape(75, 8), rng=0), points)


@pytest.mark.parametrize(
    ("n_neurons", "perplexity"), [(4, 1), (61, 20), (91, 30), (1000, 30), (6005, 60.05)]
)
def test_default_perplexity(monkeypatch, rng, n_neurons, perplexity):
    class TSNE:
        def __init__(self, perplexity, **options):
            self.perplexity = perplexity

        def fit_transform(self, X):
            return self.perplexity

    monkeypatch.setattr("sklearn.manifold.TSNE", TSNE)
    assert embed(rng.normal(size=(n_neurons, 2))) == pytest.approx(perplexity)
    assert embed(rng.normal(size=(n_neurons, 2)), perplexity=2.5) == 2.5


def test_import_is_cheap():
    code = (
        "import json, sys; import fastvis.readouts.clustering, fastvis.readouts.plots; "
        "print(json.dumps(list(sys.modules)))"
    )
    modules = json.loads(subprocess.check_output([sys.executable, "-c", code], timeout=60))
    assert "fastvis.readouts.clustering" in modules
    assert not {"sklearn", "matplotlib", "torch"} & set(modules)


# Bad input

X = np.random.default_rng(1).normal(size=(9, 4))
R = X.reshape(9, 2, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cluster(X[0], 2), ValueError, "X must have 2 or 3 dimensions"),
        (lambda: cluster(X * np.nan, 2), ValueError, "X must be finite"),
        (lambda: cluster(X[:0], 2), ValueError, "X must not be empty"),
        (lambda: cluster(X[:1], 1), ValueError, "X must have at least 2 neurons; got 1"),
        (lambda: cluster(X, 10), ValueError, "n_clusters must be at most the number of neurons"),
        (lambda: cluster(X, 2.0), TypeError, "n_clusters must be an integer >= 1; got 2.0"),
        (lambda: cluster(X, 2, "ward"), ValueError, "method must be one of 'gmm', 'kmeans'"),
        (lambda: cluster(X, 2, n_seeds=0), ValueError, "n_seeds must be an integer >= 1"),
        (lambda: cluster(X, 2, n_init=0), ValueError, "n_init must be an integer >= 1"),
        (lambda: cluster(X, 2, covariance_type="no"), ValueError, "covariance_type must be one"),
        (lambda: cluster(X, 2, rng="0"), TypeError, "rng must be None, an int or"),
        (lambda: cluster(X, 2).predict(X[:, :3]), ValueError, "X must have 4 values for each neu"),
        (lambda: heldout_loglik(X, 7), ValueError, "at most the number of neurons to fit = 6"),
        (lambda: heldout_loglik(X, []), ValueError, "n_components must hold at least one number"),
        (lambda: heldout_loglik(X, "2"), TypeError, "n_components must be an integer >= 1"),
        (lambda: heldout_loglik(X, 1, train_size=9), ValueError, "train_size must leave neurons"),
        (lambda: heldout_loglik(X, 1, train_size=0.01), ValueError, "so 0 to fit and 9 held out"),
        (lambda: heldout_loglik(X, 1, train_size=1.5), ValueError, "train_size must be a fraction"),
        (lambda: heldout_loglik(X, 1, train_size=1), ValueError, "at least 2 neurons to fit"),
        (lambda: heldout_loglik(X, 1, n_splits=0), ValueError, "n_splits must be an integer >= 1"),
        (lambda: permute_features(X), ValueError, "Pass n_orientations=8 for flat readouts"),
        (lambda: permute_features(R, "cluster"), ValueError, "within must be one of 'neuron', 'p"),
        (lambda: permute_features(X, n_orientations=3), ValueError, "no multiple of 3"),
        (lambda: embed(X[:3]), ValueError, "at least 4 neurons and 2 dimensions"),
        (lambda: embed(X[:, :1]), ValueError, "at least 4 neurons and 2 dimensions"),
        (lambda: embed(np.ones((9, 4))), ValueError, "X must have neurons that differ"),
        (lambda: embed(X, perplexity=9), ValueError, "perplexity must be less than the number of"),
        (lambda: embed(X, perplexity=0.5), ValueError, "perplexity must be a finite number >= 1"),
        (lambda: check_labels([0.0, 1.0], 2), TypeError, "labels must be integers; got dtype"),
        (lambda: check_labels([0, 1], 3), ValueError, "one value for each of 3 neuron"),
        (lambda: check_labels([0, -1], 2), ValueError, "labels must be at least 0; got -1"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e30])
def test_units_do_not_matter(planted, scale):
    X = planted[0]
    results = [heldout_loglik(X * s, [1, 3, 8], rng=0) for s in (1, scale)]
    assert results[0].best == results[1].best == 3
    n_dims = X[0].size
    np.testing.assert_allclose(results[1].test + n_dims * np.log(scale), results[0].test, rtol=1e-4)
    labels = [cluster(X * s, 3, n_seeds=2, rng=0).labels for s in (1, scale)]
    np.testing.assert_array_equal(*labels)
    assert np.isfinite(embed(X * scale, rng=0)).all()


@pytest.mark.parametrize("train_size", [0.5, np.float32(0.5), 37])
def test_fractions_of_any_type(planted, train_size):
    assert np.isfinite(heldout_loglik(planted[0], 2, train_size=train_size, rng=0).test).all()

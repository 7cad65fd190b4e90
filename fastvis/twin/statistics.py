"""What Figs. 3 to 6 do with tuning: its statistics over neurons and clusters, and in vivo.

Properties of neurons are a dictionary of arrays (n_neurons,) by name. NaN stands for a property
that a neuron does not have, as ratios without a denominator: the neuron is left out of what is
said of that property. Clusters are labels (n_neurons,), 0 to n_clusters - 1.

Figures and equations are those of 'Digital twin reveals combinatorial code of non-linear
computations in the mouse primary visual cortex'.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage, stats

from .._random import check_rng
from .._validation import check_array, check_float, check_int
from ..readouts.arguments import check_labels
from .scores import correlation_to_average

PIXELS, PADDING = 4, 4  # of densities: pixels a bandwidth, bandwidths beyond the outermost neurons
MOST_PIXELS = 2048  # a side
LEAST_HEIGHT = 0.05  # of the highest mode: below, they are a few stray neurons
FACTORS = (0.5, 2**-0.5, 1.0, 2**0.5, 2.0)  # of the bandwidth


@dataclass(frozen=True, eq=False, repr=False)
class Correlations:
    """Correlations of properties with each other.

    Attributes
    ----------
    names : tuple of str
        Of the properties.
    r : ndarray, (n_properties, n_properties)
        Pearson correlations; 0 with what does not vary.
    p : ndarray, (n_properties, n_properties)
        Two-sided probability of such an r if neurons, or clusters, were independent draws of
        uncorrelated normal properties. Not corrected for the number of pairs.
    n : ndarray of int, (n_properties, n_properties)
        Neurons or clusters that have both.
    """

    names: tuple
    r: np.ndarray
    p: np.ndarray
    n: np.ndarray

    def __repr__(self):
        upper = np.triu_indices(len(self.names), 1)
        return (
            f"Correlations({len(self.names)} properties of {self.n.max()}; r from "
            f"{self.r[upper].min():.2f} to {self.r[upper].max():.2f})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Combinations:
    """Which combinations of high and low properties occur.

    Attributes
    ----------
    names : tuple of str
        Of the k properties.
    high : ndarray of bool, (2^k, k)
        The combinations, from all low to all high.
    counts : ndarray of int, (2^k,)
        Clusters of each.
    labels : ndarray of int, (n_clusters,)
        The combination of each cluster; -1 outside the subset.
    """

    names: tuple
    high: np.ndarray
    counts: np.ndarray
    labels: np.ndarray

    @property
    def n_present(self):
        """How many combinations occur."""
        return int((self.counts > 0).sum())

    def __repr__(self):
        return (
            f"Combinations({self.n_present} of {len(self.counts)} occur among {self.counts.sum()} "
            "clusters)"
        )


@dataclass(frozen=True, eq=False, repr=False)
class ClusterComparison:
    """Clusters against the population, property by property, and the same for random clusters.

    Attributes
    ----------
    names : tuple of str
        Of the properties.
    statistic, p : ndarray, (n_clusters, n_properties)
        Of two-sided Kolmogorov-Smirnov tests.
    alpha : float
        Below which p is significant.
    control_any, control_all : ndarray of int, (n_controls,)
        As ``n_any`` and ``n_all``, for random assignments to clusters of the same sizes.
    control_rate : float
        Fraction of all tests with random assignments that are significant: about ``alpha``.
    """

    names: tuple
    statistic: np.ndarray
    p: np.ndarray
    alpha: float
    control_any: np.ndarray
    control_all: np.ndarray
    control_rate: float

    @property
    def significant(self):
        """Whether p < alpha (n_clusters, n_properties)."""
        return self.p < self.alpha

    @property
    def n_any(self):
        """How many clusters differ from the population in a property or more."""
        return int(self.significant.any(1).sum())

    @property
    def n_all(self):
        """How many clusters differ from the population in all properties."""
        return int(self.significant.all(1).sum())

    def __repr__(self):
        return (
            f"ClusterComparison({len(self.p)} clusters: {self.n_any} differ in at least one of "
            f"{len(self.names)} properties, {self.n_all} in all; random ones: "
            f"{self.control_any.mean():.1f}, {self.control_all.mean():.1f})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Modes:
    """Peaks of the density of an embedding, and how far they can be trusted.

    Attributes
    ----------
    peaks : ndarray, (n_modes, 2)
        Their places, highest first.
    support : ndarray, (n_modes,)
        Fraction of bootstrap resamples with a peak no farther away than a bandwidth.
    bandwidth : float
        Standard deviation of the kernel, in units of the embedding.
    bandwidths : ndarray, (n_bandwidths,)
        Others, from half to twice of it.
    counts : ndarray of int, (n_bandwidths,)
        Modes at each of these.
    bootstrap_counts : ndarray of int, (n_bootstrap, n_bandwidths)
        The same of resampled neurons.
    """

    peaks: np.ndarray
    support: np.ndarray
    bandwidth: float
    bandwidths: np.ndarray
    counts: np.ndarray
    bootstrap_counts: np.ndarray

    @property
    def n_modes(self):
        """How many peaks there are."""
        return len(self.peaks)

    def __repr__(self):
        return (
            f"Modes({self.n_modes} modes at bandwidth {self.bandwidth:.3g}, {self.counts.min()} to "
            f"{self.counts.max()} from half to twice of it; mean support="
            f"{self.support.mean():.2f})"
        )


def correlate_properties(properties, clusters=None, subset=None):
    """Correlations of each two properties, over neurons or over means of clusters (Fig. 4A).

    Parameters
    ----------
    properties : dict of str to array_like (n_neurons,)
        Two or more.
    clusters : array_like of int, (n_neurons,), optional
        Correlate means of clusters.
    subset : array_like of bool, (n_clusters,) or without clusters (n_neurons,), optional
        Over which to correlate. Gabor-like clusters are
        ``high_low(properties, clusters)["Gabor vs MEI"]``.

    Returns
    -------
    Correlations
        ``.names``, ``.r``, ``.p``, ``.n``.

    Raises
    ------
    TypeError
        Properties that are no dictionary of numbers, labels that are no integers.
    ValueError
        Properties of different lengths, infinite, or that no neuron of a cluster has; a label
        without neurons; fewer than three neurons or clusters that have both of two properties.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin.statistics import correlate_properties
    >>> x = np.random.default_rng(0).normal(size=(2, 500))
    >>> found = correlate_properties({"phase": x[0], "plaid": x[1], "both": x[0] + x[1]})
    >>> found.r.round(1) + 0.0
    array([[1. , 0. , 0.7],
           [0. , 1. , 0.7],
           [0.7, 0.7, 1. ]])
    """
    names, values = _check_properties(properties, at_least=2)
    if clusters is not None:
        values = _cluster_means(names, values, _check_clusters(clusters, values.shape[1]))
    if subset is not None:
        values = values[:, _check_subset(subset, values.shape[1])]
    k = len(names)
    known = ~np.isnan(values)
    n = known.astype(int) @ known.T
    r, p = np.eye(k), np.zeros((k, k))
    for i, j in zip(*np.triu_indices(k, 1)):
        if n[i, j] < 3:
            raise ValueError(
                f"properties {names[i]!r} and {names[j]!r} must be known together of three or more "
                f"neurons or clusters; got {n[i, j]}."
            )
        both = known[i] & known[j]
        r[i, j], p[i, j] = _pearson(values[i, both], values[j, both])
        r[j, i], p[j, i] = r[i, j], p[i, j]
    return Correlations(names, r, p, n)


def high_low(properties, clusters):
    """Whether the mean of a cluster is above that of the population (Fig. 4B, D).

    Parameters
    ----------
    properties : dict of str to array_like (n_neurons,)
    clusters : array_like of int, (n_neurons,)

    Returns
    -------
    dict of str to ndarray of bool (n_clusters,)

    Raises
    ------
    TypeError, ValueError
        As of `correlate_properties`.

    Examples
    --------
    >>> from fastvis.twin.statistics import high_low
    >>> high_low({"phase": [0.1, 0.3, 0.7, 0.9]}, [0, 0, 1, 1])
    {'phase': array([False,  True])}
    """
    names, values = _check_properties(properties)
    means = _cluster_means(names, values, _check_clusters(clusters, values.shape[1]))
    return dict(zip(names, means > np.nanmean(values, axis=1, keepdims=True)))


def combinations(high, subset=None):
    """Which of the 2^k combinations of high and low properties occur, and how often (Fig. 4C).

    Parameters
    ----------
    high : dict of str to array_like of bool (n_clusters,)
        As of `high_low`: those of its properties that are to be combined, 10 at most.
    subset : array_like of bool, (n_clusters,), optional
        Which clusters to count.

    Returns
    -------
    Combinations
        ``.names``, ``.high``, ``.counts``, ``.labels``, ``.n_present``.

    Raises
    ------
    TypeError
        Not a dictionary, or not of bools.
    ValueError
        Different lengths, more than 10 properties.

    Examples
    --------
    >>> from fastvis.twin.statistics import combinations
    >>> found = combinations({"phase": [True, True, False], "plaid": [True, False, True]})
    >>> found
    Combinations(3 of 4 occur among 3 clusters)
    >>> dict(zip(map(tuple, found.high.tolist()), found.counts.tolist()))
    {(False, False): 0, (False, True): 1, (True, False): 1, (True, True): 1}
    """
    names, values = _stack(high, "high")
    if values.dtype != bool:
        raise TypeError(f"high must be bools, as of high_low; got dtype {values.dtype}.")
    k = len(names)
    if k > 10:
        raise ValueError(f"high must have 10 properties at most; got {k}. Choose some of them.")
    every = np.array(list(product([False, True], repeat=k)))
    labels = 2 ** np.arange(k)[::-1] @ values
    if subset is not None:
        labels[~_check_subset(subset, values.shape[1])] = -1
    return Combinations(names, every, np.bincount(labels[labels >= 0], minlength=2**k), labels)


def compare_clusters(properties, clusters, *, alpha=0.01, n_controls=100, rng=None):
    """Test whether clusters differ from the population they are of (Fig. 3).

    By two-sided Kolmogorov-Smirnov tests of each cluster and property, and again with neurons
    assigned to clusters of the same sizes at random.

    Parameters
    ----------
    properties : dict of str to array_like (n_neurons,)
    clusters : array_like of int, (n_neurons,)
    alpha : float
        In (0, 1).
    n_controls : int
        Random assignments.
    rng : None, int or numpy.random.Generator
        Of these.

    Returns
    -------
    ClusterComparison
        ``.p``, ``.n_any``, ``.n_all``, ``.control_any``, ``.control_all``, and more.

    Raises
    ------
    TypeError, ValueError
        As of `correlate_properties`.

    Notes
    -----
    The population includes the cluster, as in the paper: the tests are conservative, more so for
    large clusters. p-values are those of the Kolmogorov-Smirnov distribution of the harmonic number
    of neurons, ``n_cluster n / (n_cluster + n)``, as of SciPy for large samples. A random
    assignment that is significant in all properties is so in at least one: the paper's 'these
    values are 0 and 1 respectively' must be read the other way round.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin.statistics import compare_clusters
    >>> clusters = np.arange(1000) % 10
    >>> phase = np.random.default_rng(0).normal(size=1000) + 2 * (clusters == 3)
    >>> found = compare_clusters({"phase": phase}, clusters, rng=0)
    >>> np.flatnonzero(found.significant[:, 0])
    array([3])
    """
    names, values = _check_properties(properties)
    labels = _check_clusters(clusters, values.shape[1])
    _cluster_means(names, values, labels)  # each has some neurons
    alpha = check_float(alpha, "alpha", minimum=0, maximum=1, strict=True)
    n_controls = check_int(n_controls, "n_controls", minimum=1)
    rng = check_rng(rng)
    statistic, n = _kolmogorov_smirnov(values, labels)
    p = stats.kstwo.sf(statistic, n)
    random = [_kolmogorov_smirnov(values, rng.permutation(labels)) for _ in range(n_controls)]
    random_statistic, n = (np.array(x) for x in zip(*random))
    sizes, which = np.unique(n, return_inverse=True)
    critical = stats.kstwo.isf(alpha, sizes)  # few: p-values of all would take minutes
    control = random_statistic > critical[which.reshape(n.shape)]
    return ClusterComparison(
        names, statistic, p, alpha, control.any(2).sum(1), control.all(2).sum(1),
        float(control.mean()),
    )  # fmt: skip


def greedy_gabors(responses, optimal, n, *, threshold=0.5):
    """Choose few stimuli that drive many neurons (In vivo verification; Fig. 5E).

    One after the other, each the one that drives the most neurons that none before it does.

    Parameters
    ----------
    responses : array_like, (n_stimuli, n_neurons)
        To a large selection of stimuli, at least 0.
    optimal : array_like, (n_neurons,)
        To the optimal stimulus of each neuron.
    n : int
        How many to choose.
    threshold : float
        Fraction of its optimal response to which a neuron is to be driven, positive.

    Returns
    -------
    ndarray of int
        Rows, in the order in which they were chosen; among equals the first. Fewer than n if
        no other stimulus drives any more neurons.

    Raises
    ------
    ValueError
        Shapes that do not match, negative optimal responses, a number or fraction out of range.

    Notes
    -----
    Neurons without a response to their optimal stimulus are driven by nothing.

    Examples
    --------
    >>> from fastvis.twin.statistics import greedy_gabors
    >>> greedy_gabors([[1.0, 0.8, 0.0], [0.0, 1.0, 0.2], [0.0, 0.0, 0.6]], [1.0, 1.0, 1.0], 3)
    array([0, 2])
    """
    responses, optimal = _check_driven(responses, optimal)
    n = check_int(n, "n", minimum=1, maximum=len(responses))
    threshold = check_float(threshold, "threshold", minimum=0, strict=True)
    drives = (responses >= threshold * optimal) & (optimal > 0)
    gains = drives.sum(1)  # neurons that each stimulus would add
    chosen = []
    while len(chosen) < n and gains.max() > 0:
        chosen.append(int(gains.argmax()))
        new = drives[chosen[-1]]
        gains = gains - drives[:, new].sum(1)
        drives = drives[:, ~new]
    return np.array(chosen, int)


def coverage(responses, optimal, chosen, levels):
    """Fraction of neurons that chosen stimuli drive to a fraction of their optimum (Fig. 5D).

    Parameters
    ----------
    responses : array_like, (n_stimuli, n_neurons)
    optimal : array_like, (n_neurons,)
        As of `greedy_gabors`.
    chosen : array_like of int, (n,)
        Rows of the responses.
    levels : array_like, (n_levels,)
        Fractions of the optimal response.

    Returns
    -------
    ndarray, (n_levels,)
        Fraction of all neurons that the best of these stimuli drives to each level or above; those
        without a response to their optimal stimulus are driven to none.

    Raises
    ------
    TypeError
        Rows that are no integers.
    ValueError
        Shapes that do not match, negative optimal responses, rows that are not there.

    Examples
    --------
    >>> from fastvis.twin.statistics import coverage
    >>> coverage([[1.0, 0.8, 0.0], [0.0, 1.0, 0.2]], [1.0, 1.0, 1.0], [0], [0.5, 0.9])
    array([0.667, 0.333])
    """
    responses, optimal = _check_driven(responses, optimal)
    chosen = np.asarray(chosen)
    if chosen.dtype.kind not in "iu":
        raise TypeError(f"chosen must be integers; got dtype {chosen.dtype}.")
    if chosen.ndim != 1 or chosen.size == 0:
        raise ValueError(f"chosen must be one row of responses or more; got shape {chosen.shape}.")
    if chosen.min() < 0 or chosen.max() >= len(responses):
        raise ValueError(
            f"chosen must be rows of the {len(responses)} responses; got {chosen.min()} to "
            f"{chosen.max()}."
        )
    levels = check_array(levels, "levels", ndim=1, axes="(n_levels,)")
    best = responses[chosen].max(0)
    return ((best >= levels[:, None] * optimal) & (optimal > 0)).mean(1)


def compare_tuning(in_vivo, in_silico, oracle=None):
    """Correlation of tuning curves in vivo with those in silico, neuron by neuron (Fig. 5B).

    Parameters
    ----------
    in_vivo, in_silico : array_like, (n_neurons, ...)
        Curves, of two stimuli or more.
    oracle : array_like, (n_neurons,), optional
        Of the responses in vivo, as by `oracle`: give correlations as fractions of it.

    Returns
    -------
    ndarray, (n_neurons,)
        In [-1, 1], and 0 where a curve does not vary. As a fraction it can be above 1, and is NaN
        where the oracle is not positive: choose neurons whose oracle is well above 0.

    Raises
    ------
    ValueError
        Curves of different shapes or of one stimulus; not one oracle a neuron.

    Examples
    --------
    >>> from fastvis.twin.statistics import compare_tuning
    >>> compare_tuning([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]], [[2.0, 4.0, 6.0], [5.0, 5.0, 5.0]])
    array([1., 0.])
    """
    in_vivo, in_silico = check_array(in_vivo, "in_vivo"), check_array(in_silico, "in_silico")
    if in_vivo.shape != in_silico.shape or in_vivo.ndim < 2 or in_vivo[0].size < 2:
        raise ValueError(
            "in_vivo and in_silico must be curves (n_neurons, ...) of the same two stimuli or "
            f"more; got shapes {in_vivo.shape} and {in_silico.shape}."
        )
    n = len(in_vivo)
    measured, predicted = (x.reshape(n, -1).T for x in (in_vivo, in_silico))
    r = correlation_to_average(predicted, measured, np.arange(len(measured)))
    if oracle is None:
        return r
    oracle = check_array(oracle, "oracle", ndim=1, axes="(n_neurons,)")
    if len(oracle) != n:
        raise ValueError(f"oracle must have one value for each of {n} neurons; got {len(oracle)}.")
    return np.divide(r, oracle, out=np.full(n, np.nan), where=oracle > 0)


def count_modes(embedding, *, bandwidth=None, n_bootstrap=20, rng=None):
    """Count the peaks of the density of an embedding: functional modes (Fig. 6).

    The density is smoothed by a Gaussian kernel. How many peaks it has is a matter of the
    bandwidth, and of the neurons that happen to be recorded: both are varied.

    Parameters
    ----------
    embedding : array_like, (n_neurons, 2)
        As of `fastvis.readouts.clustering.embed`.
    bandwidth : float, optional
        Standard deviation of the kernel, in units of the embedding; by default half of Scott's
        rule, ``s n^(-1/6) / 2`` with the root mean square s of the standard deviations of both
        axes. That rule is for one Gaussian, and merges modes.
    n_bootstrap : int
        How often neurons are resampled, with replacement.
    rng : None, int or numpy.random.Generator

    Returns
    -------
    Modes
        ``.n_modes``, ``.peaks``, ``.support``, ``.counts`` at ``.bandwidths``,
        ``.bootstrap_counts``.

    Raises
    ------
    ValueError
        Not (n_neurons, 2), neurons all in one place, a bandwidth that is not positive or that is
        too small for the extent of the embedding.

    Notes
    -----
    The density is computed on pixels of a quarter of a bandwidth. Peaks below 1/20 of the highest
    are left out. Densities of t-SNE are not those of the space it embeds: many modes that stand up
    to resampling and a range of bandwidths are high-density areas, and need not be cell types.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin.statistics import count_modes
    >>> rng = np.random.default_rng(0)
    >>> centers = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    >>> places = centers[np.arange(600) % 3] + rng.normal(size=(600, 2))
    >>> count_modes(places, n_bootstrap=3, rng=0).n_modes
    3
    """
    places = check_array(embedding, "embedding", ndim=2, axes="(n_neurons, 2)").astype(np.float64)
    if places.shape[1] != 2:
        raise ValueError(f"embedding must be (n_neurons, 2); got shape {places.shape}.")
    n = len(places)
    if bandwidth is None:
        bandwidth = np.sqrt(places.var(0).mean()) * n ** (-1 / 6) / 2
        if bandwidth == 0:
            raise ValueError("embedding must not have all neurons in one place.")
    bandwidth = check_float(bandwidth, "bandwidth", minimum=0, strict=True)
    bandwidths = bandwidth * np.array(FACTORS)
    least = np.ptp(places, axis=0).max() * PIXELS / MOST_PIXELS
    if bandwidths[0] < least:
        raise ValueError(
            f"bandwidth must be at least {least / FACTORS[0]:.3g} for an embedding of this extent; "
            f"got {bandwidth:g}."
        )
    n_bootstrap, rng = check_int(n_bootstrap, "n_bootstrap", minimum=1), check_rng(rng)
    peaks = _peaks(places, bandwidth)
    counts = np.array([len(_peaks(places, b)) for b in bandwidths])
    support, bootstrap_counts = np.zeros(len(peaks)), []
    for _ in range(n_bootstrap):
        resampled = places[rng.integers(n, size=n)]
        found = [_peaks(resampled, b) for b in bandwidths]
        bootstrap_counts.append([len(f) for f in found])
        near = found[FACTORS.index(1)][None] - peaks[:, None]
        support += np.sqrt((near**2).sum(2)).min(1) <= bandwidth
    support /= n_bootstrap
    return Modes(peaks, support, bandwidth, bandwidths, counts, np.array(bootstrap_counts))


def _peaks(places, bandwidth):
    """Places (n, 2) of the local maxima of a density, highest first."""
    pixel = bandwidth / PIXELS
    corner = places.min(0) - PADDING * bandwidth
    size = np.ceil((np.ptp(places, axis=0) + 2 * PADDING * bandwidth) / pixel).astype(int) + 1
    at = np.round((places - corner) / pixel).astype(int)
    counts = np.bincount(np.ravel_multi_index(at.T, size), minlength=size.prod())
    density = ndimage.gaussian_filter(
        counts.reshape(size).astype(np.float64), PIXELS, mode="constant"
    )
    is_peak = density == ndimage.maximum_filter(density, 3, mode="constant")
    is_peak &= density >= LEAST_HEIGHT * density.max()
    regions, n = ndimage.label(is_peak, np.ones((3, 3)))  # a flat top is one peak
    index = np.arange(1, n + 1)
    order = np.argsort(-ndimage.maximum(density, regions, index), kind="stable")
    centers = np.reshape(ndimage.center_of_mass(is_peak, regions, index), (n, 2))
    return corner + pixel * centers[order]


def _kolmogorov_smirnov(values, labels):
    """Statistics (n_clusters, n_properties) of clusters against all, and harmonic numbers."""
    n_clusters = labels.max() + 1
    statistic = np.empty((n_clusters, len(values)))
    sizes = np.empty_like(statistic)
    for i, v in enumerate(values):
        known = ~np.isnan(v)
        order = np.argsort(v[known])
        v, own = v[known][order], labels[known][order]
        last = np.append(v[1:] > v[:-1], True)  # of equal values
        within = np.cumsum(own[:, None] == np.arange(n_clusters), axis=0)
        population = np.arange(1, len(v) + 1)[last] / len(v)
        sizes[:, i] = within[-1]
        steps = within[last] / np.maximum(within[-1], 1)
        statistic[:, i] = np.abs(steps - population[:, None]).max(0)
    statistic[sizes == 0] = 0  # a random cluster, all of unknown properties
    n = (~np.isnan(values)).sum(1)
    return statistic, np.maximum(np.round(sizes * n / (sizes + n)), 1)


def _pearson(a, b):
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0, 1.0
    return stats.pearsonr(a, b)


def _cluster_means(names, values, labels):
    """Means (n_properties, n_clusters) over the neurons that have the property."""
    means = np.empty((len(values), labels.max() + 1))
    for i, v in enumerate(values):
        known = ~np.isnan(v)
        counts = np.bincount(labels[known], minlength=means.shape[1])
        if (counts == 0).any():
            raise ValueError(
                f"properties must be known of some neurons of each cluster; {names[i]!r} is NaN "
                f"for all of cluster {counts.argmin()}. Leave out its neurons, or the property."
            )
        means[i] = np.bincount(labels[known], v[known], minlength=means.shape[1]) / counts
    return means


def _stack(values, name):
    """Names, and an array (n_properties, n), of a dictionary."""
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{name} must be a dictionary of arrays by name; got {type(values).__name__}."
        )
    arrays = [np.asarray(v) for v in values.values()]
    shapes = {a.shape for a in arrays}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(
            f"{name} must be arrays (n,) of one length; got shapes "
            f"{', '.join(map(str, sorted(shapes))) or 'none'}."
        )
    return tuple(values), np.stack(arrays)


def _check_properties(properties, at_least=1):
    names, values = _stack(properties, "properties")
    if len(names) < at_least:
        raise ValueError(f"properties must be {at_least} or more; got {len(names)}.")
    values = check_array(values, "properties", finite=False).astype(np.float64)
    if np.isinf(values).any():
        raise ValueError("properties must not be infinite. NaN stands for what is not known.")
    return names, values


def _check_clusters(clusters, n_neurons):
    labels = check_labels(clusters, n_neurons, "clusters")
    sizes = np.bincount(labels)
    if (sizes == 0).any():
        raise ValueError(
            f"clusters must be 0 to {labels.max()}, each with neurons; {sizes.argmin()} has none. "
            "numpy.unique(clusters, return_inverse=True)[1] numbers them so."
        )
    return labels


def _check_subset(subset, n):
    subset = np.asarray(subset)
    if subset.dtype != bool or subset.shape != (n,):
        raise ValueError(
            f"subset must be {n} bools, one for each cluster, or neuron where there are no "
            f"clusters; got dtype {subset.dtype} and shape {subset.shape}."
        )
    return subset


def _check_driven(responses, optimal):
    responses = check_array(responses, "responses", ndim=2, axes="(n_stimuli, n_neurons)")
    optimal = check_array(optimal, "optimal", ndim=1, axes="(n_neurons,)")
    if responses.shape[1] != len(optimal):
        raise ValueError(
            f"optimal must be of the {responses.shape[1]} neurons of responses; got {len(optimal)}."
        )
    if optimal.min() < 0:
        raise ValueError(f"optimal must be >= 0; got {optimal.min():g}.")
    return responses, optimal

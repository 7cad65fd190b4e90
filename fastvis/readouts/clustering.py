"""Clusters of aligned readouts: Gaussian mixtures, their number, controls, an embedding."""

import numbers
from dataclasses import dataclass
from itertools import combinations

import joblib
import numpy as np

from .._random import check_rng
from .._validation import check_array, check_choice, check_float, check_int
from .arguments import check_readouts, like_input

AXES = "(n_neurons, n_dims) or (n_neurons, n_features, n_orientations)"
COVARIANCES = ("spherical", "diag", "tied", "full")
MAX_ITER = 1000  # of EM: scikit-learn's 100 are too few for neurons of very different sizes


@dataclass(frozen=True, repr=False, eq=False)
class Clustering:
    """Clusters of neurons, largest first, and how reproducible they are.

    Attributes
    ----------
    labels : ndarray of int, (n_neurons,)
        The cluster of each neuron, 0 to K - 1.
    means : ndarray, (K, n_dims) or (K, n_features, n_orientations)
        Centers, in the shape and dtype of the neurons.
    sizes : ndarray of int, (K,)
        Neurons per cluster, never increasing. A component of a mixture that is nobody's most
        probable one has size 0.
    score : float
        Of the fit that is kept, higher is better: mean log-likelihood per neuron (natural
        logarithm) for "gmm", minus the sum of squared distances to the centers for "kmeans".
    agreement : ndarray, (n_seeds, n_seeds)
        Adjusted Rand index between the fits from each two seeds: 1 for the same clusters, near 0
        for clusters that agree as often as by chance.
    model : sklearn.mixture.GaussianMixture or sklearn.cluster.KMeans
        The fit that is kept, with its components in the order of the labels.
    """

    labels: np.ndarray
    means: np.ndarray
    sizes: np.ndarray
    score: float
    agreement: np.ndarray
    model: object

    @property
    def stability(self):
        """Mean of ``agreement`` over pairs of seeds; NaN for a single seed."""
        pairs = self.agreement[np.triu_indices(len(self.agreement), 1)]
        return float(pairs.mean()) if pairs.size else float("nan")

    def predict(self, X):
        """The clusters of other neurons, aligned as those that were clustered.

        Parameters
        ----------
        X : array_like, (n, n_dims) or (n, n_features, n_orientations)

        Returns
        -------
        ndarray of int, (n,)

        Raises
        ------
        ValueError
            Another number of dimensions per neuron; values that are not finite.
        """
        X = _flat(X)[0]
        n_dims = self.means[0].size
        if X.shape[1] != n_dims:
            raise ValueError(
                f"X must have {n_dims} values for each neuron, as those that were clustered; "
                f"got {X.shape[1]}. Use the same features and orientations."
            )
        return self.model.predict(X).astype(np.intp)

    def __repr__(self):
        return (
            f"Clustering({type(self.model).__name__}: {len(self.sizes)} clusters of "
            f"{self.sizes[-1]} to {self.sizes[0]} neurons; stability={self.stability:.2f} over "
            f"{len(self.agreement)} seed(s))"
        )


@dataclass(frozen=True, repr=False, eq=False)
class HeldoutLoglik:
    """Mean log-likelihood per neuron (natural logarithm) for several numbers of clusters, Fig. 5.

    Attributes
    ----------
    n_components : ndarray of int, (n_counts,)
    test, train : ndarray, (n_splits, n_counts)
        Mean over the neurons that were held out, and over those that were fitted.
    standard_error : ndarray, (n_splits, n_counts)
        Of ``test``, over neurons. Differences between counts are better known than that, as they
        are computed on the same neurons.
    """

    n_components: np.ndarray
    test: np.ndarray
    train: np.ndarray
    standard_error: np.ndarray

    @property
    def best(self):
        """The number of components with the highest mean of ``test`` over splits."""
        return int(self.n_components[self.test.mean(axis=0).argmax()])

    def __repr__(self):
        return (
            f"HeldoutLoglik({len(self.n_components)} number(s) of components, {len(self.test)} "
            f"split(s); best={self.best} at {self.test.mean(axis=0).max():.4g})"
        )


def cluster(
    X, n_clusters, method="gmm", *, n_seeds=5, covariance_type="spherical", n_init=1, rng=None
):
    """Cluster neurons by their aligned readouts, from several seeds.

    The fit with the highest likelihood (the smallest sum of squares for k-means) is kept.

    Parameters
    ----------
    X : array_like, (n_neurons, n_dims) or (n_neurons, n_features, n_orientations)
        Aligned readouts; each is taken as one vector.
    n_clusters : int
        At most the number of neurons.
    method : {"gmm", "kmeans"}
        A Gaussian mixture (the paper's), or k-means.
    n_seeds : int
        Independent fits: 1 leaves the stability unknown (NaN).
    covariance_type : {"spherical", "diag", "tied", "full"}
        Of the mixture; k-means has none.
    n_init : int
        Starts of each fit, of which the best counts.
    rng : None, int or numpy.random.Generator

    Returns
    -------
    Clustering

    Raises
    ------
    ValueError
        More clusters than neurons, fewer than two neurons, values that are not finite.

    Notes
    -----
    Clusters exist for any data; look at ``stability`` before interpreting them. Clusters of real
    V1 readouts were found to agree poorly between seeds (Turishcheva et al., NeurIPS 2024), and
    mixtures of any size from 5 to 60 to be about equally good (DECEMber, NeurIPS 2025).

    Nor is agreement between seeds proof of types: a single feature of large variance gives it, too.
    Compare with what `permute_features` leaves, and with `heldout_loglik`. Thirty well separated
    types take about ten starts of each seed, ``n_init=10``, to be found.

    Fits run in float64, by `sklearn.cluster.KMeans` and `sklearn.mixture.GaussianMixture`, with
    variances of at least 1e-3 of the data's.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, sections 4 and 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.readouts.clustering import cluster
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat([[0.0, 0.0], [9.0, 9.0]], [20, 10], axis=0) + rng.normal(size=(30, 2))
    >>> clusters = cluster(X, 2, rng=0)
    >>> clusters
    Clustering(GaussianMixture: 2 clusters of 10 to 20 neurons; stability=1.00 over 5 seed(s))
    >>> clusters.predict([[8.0, 8.0]]).tolist()
    [1]
    """
    flat, X = _flat(X)
    n_clusters = _check_n_clusters(n_clusters, "n_clusters", len(flat), "neurons")
    method = check_choice(method, "method", ("gmm", "kmeans"))
    covariance_type = check_choice(covariance_type, "covariance_type", COVARIANCES)
    n_init = check_int(n_init, "n_init", minimum=1)
    seeds = _draw_seeds(rng, check_int(n_seeds, "n_seeds", minimum=1))
    fits = [_fit(flat, n_clusters, method, covariance_type, n_init, seed) for seed in seeds]
    agreement = _agreement([model.predict(flat) for model in fits])
    model = max(fits, key=lambda fit: fit.score(flat))
    _sort_components(model, model.predict(flat), n_clusters)
    labels = model.predict(flat).astype(np.intp)
    means = model.cluster_centers_ if method == "kmeans" else model.means_
    return Clustering(
        labels=labels,
        means=means.reshape(-1, *X.shape[1:]).astype(X.dtype),
        sizes=np.bincount(labels, minlength=n_clusters),
        score=float(model.score(flat)),
        agreement=agreement,
        model=model,
    )


def heldout_loglik(
    X,
    n_components,
    *,
    train_size=2 / 3,
    n_splits=1,
    covariance_type="spherical",
    n_init=1,
    rng=None,
    progress=False,
    n_jobs=None,
):
    """Log-likelihood of neurons that a Gaussian mixture was not fitted to (Fig. 5).

    Parameters
    ----------
    X : array_like, (n_neurons, n_dims) or (n_neurons, n_features, n_orientations)
        Aligned readouts.
    n_components : int or sequence of int
        Numbers of clusters to try, each at most the number of neurons that are fitted.
    train_size : float or int
        Neurons to fit: a fraction in (0, 1), or their number (4000 of 6005 in the paper).
    n_splits : int
        Independent random splits; within one, all mixtures see the same neurons.
    covariance_type : {"spherical", "diag", "tied", "full"}
    n_init : int
        Starts of each fit, of which the best counts.
    rng : None, int or numpy.random.Generator
        Draws the splits and the starts, before any fit: results do not depend on ``n_jobs``.
    progress : bool
        Show a progress bar over fits.
    n_jobs : int, optional
        Fits at a time, as in `joblib.Parallel`.

    Returns
    -------
    HeldoutLoglik

    Raises
    ------
    ValueError
        A train_size that leaves no neurons on one side, more components than neurons to fit.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, sections 4 and 5.2, Fig. 5.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.readouts.clustering import heldout_loglik
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat([[0.0, 0.0], [9.0, 9.0]], 60, axis=0) + rng.normal(size=(120, 2))
    >>> heldout_loglik(X, [1, 2, 30], rng=0)
    HeldoutLoglik(3 number(s) of components, 1 split(s); best=2 at -3.883)
    """
    flat, _ = _flat(X)
    n_train = _check_train_size(train_size, len(flat))
    counts = [
        _check_n_clusters(n, "n_components", n_train, "neurons to fit")
        for n in _check_sequence(n_components)
    ]
    n_splits = check_int(n_splits, "n_splits", minimum=1)
    covariance_type = check_choice(covariance_type, "covariance_type", COVARIANCES)
    n_init = check_int(n_init, "n_init", minimum=1)
    rng = check_rng(rng)
    splits = [rng.permutation(len(flat)) for _ in range(n_splits)]
    seeds = _draw_seeds(rng, n_splits * len(counts))
    jobs = [(rows, count) for rows in splits for count in counts]
    if progress:
        from tqdm.auto import tqdm

        jobs = tqdm(jobs, unit="fit")
    results = joblib.Parallel(n_jobs)(
        joblib.delayed(_fit_and_score)(flat, rows, n_train, count, covariance_type, n_init, seed)
        for (rows, count), seed in zip(jobs, seeds)
    )
    test, train, error = np.reshape(results, (n_splits, len(counts), 3)).transpose(2, 0, 1)
    return HeldoutLoglik(np.array(counts), test, train, error)


def permute_features(
    readouts,
    within="neuron",
    *,
    orientations_together=True,
    n_orientations=None,
    layout="feature",
    rng=None,
):
    """Permute the features of aligned readouts: controls for clusters (Figs. A1 and A2).

    Cluster and embed the result as the readouts themselves; do not align it again.

    Parameters
    ----------
    readouts : array_like, (n_neurons, n_features, n_orientations) or (n_neurons, n_dims)
        Aligned readouts; flat ones together with ``n_orientations``.
    within : {"neuron", "population"}
        "neuron": each neuron's features change places, independently of the other neurons (Fig.
        A1); each neuron keeps its values. "population": the values of each feature change places
        between neurons, independently of the other features (Fig. A2); each feature keeps its
        distribution, and what features had in common is lost.
    orientations_together : bool
        A feature's orientations move as one; if False, each pair of a feature and an orientation
        moves by itself. The paper does not say which.
    n_orientations : int, optional
        Needed for flat readouts.
    layout : {"feature", "orientation"}
        Which index of flat readouts runs slowest.
    rng : None, int or numpy.random.Generator

    Returns
    -------
    ndarray, of the readouts' shape and dtype

    Raises
    ------
    ValueError
        Other shapes, values that are not finite.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, appendix A.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.readouts.clustering import permute_features
    >>> readouts = np.arange(8.0).reshape(2, 2, 2)
    >>> permute_features(readouts, rng=2).tolist()
    [[[0.0, 1.0], [2.0, 3.0]], [[6.0, 7.0], [4.0, 5.0]]]
    >>> permute_features(readouts, "population", rng=2).tolist()
    [[[0.0, 1.0], [6.0, 7.0]], [[4.0, 5.0], [2.0, 3.0]]]
    """
    within = check_choice(within, "within", ("neuron", "population"))
    checked = check_readouts(readouts, n_orientations, layout)
    n_neurons, n_features, n_orientations = checked.shape
    size = n_orientations if orientations_together else 1
    units = checked.reshape(n_neurons, -1, size)
    axis = 1 if within == "neuron" else 0
    places = np.indices(units.shape[:2])[axis]
    index = check_rng(rng).permuted(places, axis=axis)
    permuted = np.take_along_axis(units, index[:, :, None], axis)
    return like_input(permuted.reshape(checked.shape), readouts, layout)


def embed(X, *, perplexity=None, rng=None):
    """Embed neurons in the plane by t-SNE, for display only (Figs. 6 and A3).

    Parameters
    ----------
    X : array_like, (n_neurons, n_dims) or (n_neurons, n_features, n_orientations)
        Aligned readouts of at least 4 neurons, with at least 2 dimensions.
    perplexity : float, optional
        About the number of neighbors that are kept near, at least 1 and less than ``n_neurons``.
        The default is 30, or n_neurons / 100 if that is more, and at most (n_neurons - 1) / 3.
    rng : None, int or numpy.random.Generator

    Returns
    -------
    ndarray, (n_neurons, 2), float32

    Raises
    ------
    ValueError
        Too few neurons or dimensions, a perplexity out of range, neurons that are all the same.

    Notes
    -----
    Starts from the first two principal components, which keeps the large-scale arrangement.
    Distances between groups, their areas and densities mean little: cluster the readouts, not this.
    t-SNE has no place for new points: embed cluster means together with the neurons.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 5.2; Kobak and Berens, *The art of using t-SNE for
    single-cell transcriptomics*, Nature Communications 2019 (start, perplexity).

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.readouts.clustering import embed
    >>> embed(np.random.default_rng(0).normal(size=(20, 2, 4)), rng=0).shape
    (20, 2)
    """
    flat, _ = _flat(X)
    n_neurons, n_dims = flat.shape
    if n_neurons < 4 or n_dims < 2:
        raise ValueError(
            "X must have at least 4 neurons and 2 dimensions to be embedded; "
            f"got {n_neurons} and {n_dims}."
        )
    if np.all(flat == flat[0]):
        raise ValueError(f"X must have neurons that differ; got {n_neurons} that are the same.")
    if perplexity is None:
        perplexity = min(max(30, n_neurons / 100), (n_neurons - 1) / 3)
    elif check_float(perplexity, "perplexity", minimum=1) >= n_neurons:
        raise ValueError(
            f"perplexity must be less than the number of neurons = {n_neurons}; got {perplexity}. "
            "Leave it out for a fitting one."
        )
    from sklearn.manifold import TSNE

    seed = _draw_seeds(rng, 1)[0]
    flat = flat - flat.mean(axis=0)
    flat /= np.abs(flat).max()  # scikit-learn crashes on values below 1e-22
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(flat)


# Fits


def _fit(flat, n_clusters, method, covariance_type, n_init, seed):
    if method == "kmeans":
        from sklearn.cluster import KMeans

        return KMeans(n_clusters, n_init=n_init, random_state=seed).fit(flat)
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(
        n_clusters,
        covariance_type=covariance_type,
        n_init=n_init,
        max_iter=MAX_ITER,
        # in any units the same fit; with less, components of one neuron have the best likelihoods
        reg_covar=1e-3 * max(flat.var(), np.finfo(float).tiny),
        random_state=seed,
    ).fit(flat)


def _fit_and_score(flat, rows, n_train, n_components, covariance_type, n_init, seed):
    """Mean log-likelihood of the held-out and the fitted rows; standard error of the first."""
    train, test = flat[rows[:n_train]], flat[rows[n_train:]]
    model = _fit(train, n_components, "gmm", covariance_type, n_init, seed)
    heldout = model.score_samples(test)
    error = heldout.std(ddof=1) / np.sqrt(len(test)) if len(test) > 1 else np.nan
    return heldout.mean(), model.score(train), error


def _sort_components(model, labels, n_clusters):
    """Put components in order: largest first, of equal ones that with the first neuron."""
    sizes = np.bincount(labels, minlength=n_clusters)
    first = np.full(n_clusters, len(labels))
    np.minimum.at(first, labels, np.arange(len(labels)))
    order = np.lexsort((first, -sizes))
    if hasattr(model, "labels_"):  # k-means
        model.labels_ = np.argsort(order)[labels].astype(model.labels_.dtype)
        attributes = ["cluster_centers_"]
    else:
        attributes = ["weights_", "means_"]
        if model.covariance_type != "tied":
            attributes += ["covariances_", "precisions_", "precisions_cholesky_"]
    for name in attributes:
        setattr(model, name, getattr(model, name)[order])


def _agreement(labels):
    from sklearn.metrics import adjusted_rand_score

    agreement = np.eye(len(labels))
    for a, b in combinations(range(len(labels)), 2):
        agreement[a, b] = agreement[b, a] = adjusted_rand_score(labels[a], labels[b])
    return agreement


def _draw_seeds(rng, n):
    """Seeds as scikit-learn takes them."""
    return [int(seed) for seed in check_rng(rng).integers(2**31, size=n)]


# Arguments


def _flat(X):
    """X as float64 rows, for scikit-learn, and as it was passed, checked."""
    X = check_array(X, "X", ndim=(2, 3), axes=AXES)
    return X.reshape(len(X), -1).astype(np.float64, copy=False), X


def _check_n_clusters(value, name, n_neurons, what):
    value = check_int(value, name, minimum=1)
    if n_neurons < 2:
        raise ValueError(f"X must have at least 2 {what}; got {n_neurons}.")
    if value > n_neurons:
        raise ValueError(
            f"{name} must be at most the number of {what} = {n_neurons}; got {value}. "
            "Ask for fewer clusters, or use more neurons."
        )
    return value


def _check_sequence(n_components):
    counts = n_components.tolist() if isinstance(n_components, np.ndarray) else n_components
    try:
        counts = list(counts)
    except TypeError:
        return [counts]
    if not counts:
        raise ValueError("n_components must hold at least one number; got none.")
    return counts


def _check_train_size(train_size, n_neurons):
    """The number of neurons to fit."""
    is_fraction = not isinstance(train_size, numbers.Integral) and isinstance(
        train_size, numbers.Real
    )
    if is_fraction and 0 < train_size < 1:
        n_train = round(train_size * n_neurons)
    else:
        rule = "train_size must be a fraction in (0, 1) or a number of neurons"
        if is_fraction:
            raise ValueError(f"{rule}; got {train_size}.")
        n_train = check_int(train_size, "train_size", minimum=1)
    if not 0 < n_train < n_neurons:
        raise ValueError(
            f"train_size must leave neurons on both sides; got {train_size} for {n_neurons} "
            f"neuron(s), so {n_train} to fit and {n_neurons - n_train} held out."
        )
    return n_train

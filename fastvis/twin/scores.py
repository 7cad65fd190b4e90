"""How well responses are predicted, and how well they could be: for all neurons at once.

Trials are rows. The prediction for trial t is ``predictions[image_ids[t]]``, and repeats are trials
with one image id: as many as there are, of each image another number if need be. With r_it the
response to image i in its trial t of n_i, m_i their mean and s_i^2 their variance (ddof 1),

    V_n    noise variance: sum (n_i - 1) s_i^2 / sum (n_i - 1), which is the mean of s_i^2 where all
           images have as many repeats
    V      variance over all trials, ddof 1

and scores are numbers per neuron. A correlation with what does not vary is 0.
"""

from dataclasses import dataclass

import numpy as np

from .._validation import check_array, check_choice
from .arguments import check_image_ids


def single_trial_correlation(predictions, responses, image_ids):
    """Correlation of predictions with single trials.

    Parameters
    ----------
    predictions : array_like, (n_images, n_neurons)
    responses : array_like, (n_trials, n_neurons)
    image_ids : array_like of int, (n_trials,)
        Rows of the predictions.

    Returns
    -------
    ndarray, (n_neurons,)
        In [-1, 1]. A perfect model has the square root of `fev`, not 1: noise counts against it.

    Examples
    --------
    >>> from fastvis.twin import single_trial_correlation
    >>> trials = [[0.0], [1.0], [2.0], [3.0]]
    >>> single_trial_correlation([[0.0], [1.0]], trials, [0, 1, 0, 1]).round(3)
    array([0.447])
    """
    predictions, trials = _check_all(predictions, responses, image_ids)
    return _correlation(predictions[trials.image_ids], trials.responses)


def correlation_to_average(predictions, responses, image_ids):
    """Correlation of predictions with the mean over repeats, over images.

    Parameters as of `single_trial_correlation`.

    Returns
    -------
    ndarray, (n_neurons,)
        In [-1, 1]. Noise that is left in the means counts against it: see `ceiling`.

    Examples
    --------
    >>> from fastvis.twin import correlation_to_average
    >>> correlation_to_average([[0.0], [1.0]], [[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
    array([1.])
    """
    predictions, trials = _check_all(predictions, responses, image_ids)
    return _correlation(predictions[trials.images], trials.means)


def oracle(responses, image_ids, *, method="jackknife"):
    """How well one trial is predicted by the others of its image.

    Parameters
    ----------
    responses : array_like, (n_trials, n_neurons)
    image_ids : array_like of int, (n_trials,)
    method : {"jackknife", "conservative"}
        "jackknife": correlation of single trials with the mean of all other trials of their image;
        too low, since that mean is noisy. Images with one trial are left out. "conservative":
        ``sqrt(V_m / (V_m + V_n))`` with the variance V_m of means over images (both of ddof 0);
        too high, since these means are noisy.

    Returns
    -------
    ndarray, (n_neurons,)
        In [-1, 1].

    Raises
    ------
    ValueError
        No image has two trials.

    Examples
    --------
    >>> from fastvis.twin import oracle
    >>> oracle([[0.0], [1.0], [0.0], [1.0]], [0, 1, 0, 1])
    array([1.])
    """
    trials = _check_trials(responses, image_ids)
    trials.require_repeats("oracle")
    if check_choice(method, "method", ("jackknife", "conservative")) == "jackknife":
        others = trials.counts[trials.of_trial] - 1
        kept = others > 0
        sums = trials.means * trials.counts[:, None]
        r = trials.responses[kept]
        rest = (sums[trials.of_trial[kept]] - r) / others[kept, None]
        return _correlation(r, rest)
    n = trials.counts[:, None]
    noise = (trials.squares / n).mean(0)
    signal = trials.means.var(0)
    return np.sqrt(_ratio(signal, signal + noise, where=trials.varies))


def fev(responses, image_ids):
    """Fraction of the variance of responses that images explain, (V - V_n) / V.

    Parameters as of `oracle`.

    Returns
    -------
    ndarray, (n_neurons,)
        At most 1; below 0 by chance where images explain little; 0 where responses do not vary.
        Unbiased in numerator and denominator but for repeats that are not independent.

    Raises
    ------
    ValueError
        No image has two trials.

    Examples
    --------
    >>> from fastvis.twin import fev
    >>> fev([[0.0], [3.0], [0.0], [3.0]], [0, 1, 0, 1])
    array([1.])
    """
    trials = _check_trials(responses, image_ids)
    trials.require_repeats("fev")
    total = trials.total_variance()
    return _ratio(total - trials.noise_variance(), total, where=trials.varies)


def feve(predictions, responses, image_ids):
    """Fraction of the explainable variance that predictions explain.

    ``1 - (MSE - V_n) / (V - V_n)``, with the mean squared error over trials.

    Parameters as of `single_trial_correlation`.

    Returns
    -------
    ndarray, (n_neurons,)
        About 1 for a perfect model, unbounded below, and wild where `fev` is small: leave out
        neurons below 0.15 or so. NaN where nothing is explainable.

    Raises
    ------
    ValueError
        No image has two trials.

    Examples
    --------
    >>> from fastvis.twin import feve
    >>> feve([[0.0], [3.0]], [[0.0], [3.0], [0.0], [3.0]], [0, 1, 0, 1])
    array([1.])
    """
    predictions, trials = _check_all(predictions, responses, image_ids)
    trials.require_repeats("feve")
    error = np.zeros(trials.responses.shape[1])
    for i, image in enumerate(trials.images):  # about the means: no array of all trials
        error += trials.counts[i] * (trials.means[i] - predictions[image]) ** 2
    error = (error + trials.squares.sum(0)) / len(trials.responses)
    noise = trials.noise_variance()
    explainable = trials.total_variance() - noise
    return 1 - _ratio(error - noise, explainable, np.nan, trials.varies)


def ceiling(responses, image_ids):
    """The correlation to the average that a perfect model would have.

    ``sqrt(1 - mean(s_i^2 / n_i) / Var(m_i))``, 0 where that is negative.

    Parameters as of `oracle`.

    Returns
    -------
    ndarray, (n_neurons,)
        In [0, 1]. Too low for neurons that images hardly drive, of which some are cut off at 0.
        The noise of images with one trial is taken for the mean one, V_n.

    Raises
    ------
    ValueError
        No image has two trials.

    References
    ----------
    Schoppe et al., "Measuring the performance of neural models", Frontiers in Computational
    Neuroscience 2016, (7).

    Examples
    --------
    >>> from fastvis.twin import ceiling
    >>> ceiling([[0.0], [3.0], [0.0], [3.0]], [0, 1, 0, 1])
    array([1.])
    """
    trials = _check_trials(responses, image_ids)
    trials.require_repeats("ceiling")
    variance = trials.means.var(0, ddof=1)
    explained = _ratio(trials.signal_variance(), variance, where=trials.varies)
    return np.sqrt(np.maximum(explained, 0))


def ccnorm(predictions, responses, image_ids):
    """Correlation to the average, over the one that a perfect model would have (CC_norm).

    Parameters as of `single_trial_correlation`.

    Returns
    -------
    ndarray, (n_neurons,)
        About 1 for a perfect model, above it by chance. NaN where `ceiling` is 0.

    Raises
    ------
    ValueError
        No image has two trials.

    References
    ----------
    Schoppe et al. 2016.

    Examples
    --------
    >>> from fastvis.twin import ccnorm
    >>> ccnorm([[0.0], [3.0]], [[0.0], [3.0], [0.0], [3.0]], [0, 1, 0, 1])
    array([1.])
    """
    best = ceiling(responses, image_ids)
    return _ratio(correlation_to_average(predictions, responses, image_ids), best, np.nan)


@dataclass(frozen=True)
class _Trials:
    """Trials, and of each image that has any its mean and sum of squares about that."""

    responses: np.ndarray  # (n_trials, n_neurons)
    image_ids: np.ndarray
    images: np.ndarray  # ids, rising
    of_trial: np.ndarray  # which of these
    counts: np.ndarray
    means: np.ndarray  # (n_images, n_neurons), float64, as what follows
    squares: np.ndarray
    varies: np.ndarray  # (n_neurons,): sums of what does not are rounded, and not quite constant

    def require_repeats(self, name):
        if self.counts.max() < 2:
            raise ValueError(
                f"{name} needs repeats: no image has two trials. Score test images that were shown "
                "more than once."
            )

    def noise_variance(self):
        return self.squares.sum(0) / (self.counts - 1).sum()

    def total_variance(self):
        grand = (self.counts @ self.means) / len(self.responses)
        between = self.counts @ (self.means - grand) ** 2
        return (between + self.squares.sum(0)) / (len(self.responses) - 1)

    def signal_variance(self):
        """Variance of means over images, less what noise makes of it."""
        pooled = self.noise_variance()
        n = self.counts[:, None]
        own = np.where(n > 1, self.squares / np.maximum(n - 1, 1), pooled)
        return self.means.var(0, ddof=1) - (own / n).mean(0)


def _check_trials(responses, image_ids):
    responses = check_array(responses, "responses", ndim=2, axes="(n_trials, n_neurons)")
    ids = check_image_ids(image_ids, len(responses))
    images, of_trial, counts = np.unique(ids, return_inverse=True, return_counts=True)
    if len(images) < 2:
        raise ValueError("responses must be to two or more images; got one.")
    order = np.argsort(of_trial, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    means = np.empty((len(images), responses.shape[1]))
    squares = np.empty_like(means)
    for i, (start, count) in enumerate(zip(starts, counts)):  # repeats of one image fit the cache
        rows = responses[order[start : start + count]].astype(np.float64)
        means[i] = rows.mean(0)
        squares[i] = np.square(rows - means[i]).sum(0)
    varies = responses.max(0) > responses.min(0)
    return _Trials(responses, ids, images, of_trial, counts, means, squares, varies)


def _check_all(predictions, responses, image_ids):
    trials = _check_trials(responses, image_ids)
    predictions = check_array(predictions, "predictions", ndim=2, axes="(n_images, n_neurons)")
    if predictions.shape[1] != trials.responses.shape[1]:
        raise ValueError(
            f"predictions must be for {trials.responses.shape[1]} neuron(s), as responses; got "
            f"shape {predictions.shape}."
        )
    if trials.images[0] < 0 or trials.images[-1] >= len(predictions):
        raise ValueError(
            f"image_ids must be rows of the {len(predictions)} predictions; got "
            f"{trials.images[0]} to {trials.images[-1]}."
        )
    return predictions, trials


def _correlation(a, b):
    """Of columns; 0 where one does not vary."""
    vary = (a.max(0) > a.min(0)) & (b.max(0) > b.min(0))
    a, b = (x.astype(np.float64) - x.mean(0, dtype=np.float64) for x in (a, b))
    scale = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.clip(_ratio((a * b).sum(0), scale, where=vary), -1, 1)


def _ratio(a, b, otherwise=0.0, where=True):
    """a / b, and something else where b is not positive, or not ``where``."""
    return np.divide(a, b, out=np.full(np.shape(a), otherwise), where=(b > 0) & where)

"""In silico experiments: the tuning of every model neuron, on stimuli made from its own Gabor.

Neuron i is shown changed copies of Gabor i, and only its own response is taken. Stimuli are drawn
a batch at a time, so memory does not grow with neurons or stimuli. A response of 0 to all of them
is no tuning: such neurons have an index of 0. Ratios of two responses or of two correlations have
no such value, and are NaN where the second is 0; `numpy.nanmean` is then over the other neurons.

Equations are those of 'Digital twin reveals combinatorial code of non-linear computations in the
mouse primary visual cortex', Methods, with misprints of (12) to (14) corrected.
"""

from dataclasses import dataclass

import numpy as np

from .._validation import check_array, check_int, check_size
from .families import Gabors
from .optimal import check_image_size
from .responding import BATCH, Responder
from .stimuli import gabor, match_energy, plaid

SIGMAS = 2 * 1.2 ** np.arange(12)  # pixels: sizes of 8 to 59 pixels, which are four of them
CONTRASTS = np.sqrt(2) ** np.arange(-11, 1)  # of the neuron's own
PLAID_CONTRASTS = np.sqrt(2) ** np.arange(-6, 1)


@dataclass(frozen=True, eq=False, repr=False)
class TuningCurves:
    """Responses of neurons to stimuli of which something is varied.

    Attributes
    ----------
    curves : ndarray, (n_neurons, ...)
        One axis for each thing that is varied.
    index : ndarray, (n_neurons,)
        Strength of the tuning, in [0, 1] as responses are at least 0; 0 of silent neurons.
    """

    curves: np.ndarray
    index: np.ndarray

    def __repr__(self):
        neurons, *stimuli = self.curves.shape
        return (
            f"{type(self).__name__}({neurons} neuron(s), {' x '.join(map(str, stimuli))} stimuli; "
            f"mean index={self.index.mean():.3f})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class OrientationTuning(TuningCurves):
    """Curves (n_neurons, n_orientations), and F2/F0 of each.

    Attributes
    ----------
    orientations : ndarray, (n_orientations,)
        Radians, from 0; period pi, as of `gabor`.
    """

    orientations: np.ndarray

    @property
    def preferred(self):
        """Preferred orientations (n_neurons,) in [0, pi): half the angle of F2, so finer than the
        grid. NaN of silent neurons, and nothing to rely on where the index is about 0.
        """
        angle = np.angle(self.curves @ np.exp(2j * self.orientations)) / 2 % np.pi
        angle[angle == np.pi] = 0  # -1e-17 % pi
        return np.where(self.curves.any(1), angle, np.nan)


@dataclass(frozen=True, eq=False, repr=False)
class PhaseTuning(TuningCurves):
    """Curves (n_neurons, n_phases), and F1/F0 of each.

    Attributes
    ----------
    phases : ndarray, (n_neurons, n_phases)
        Radians, from the neuron's own; period 2 pi.
    """

    phases: np.ndarray

    @property
    def invariance(self):
        """1 - F1/F0 (n_neurons,): 1 of complex cells, and of silent ones."""
        return 1 - self.index


@dataclass(frozen=True, eq=False, repr=False)
class SizeContrastTuning(TuningCurves):
    """Curves (n_neurons, n_contrasts, n_sizes), and the suppression index of each.

    Attributes
    ----------
    contrasts : ndarray, (n_neurons, n_contrasts)
    sigmas : ndarray, (n_neurons, n_sizes)
        Standard deviations, pixels.
    """

    contrasts: np.ndarray
    sigmas: np.ndarray

    @property
    def contrast_index(self):
        """By how much the highest contrast of the largest size is worse than the best, (13)."""
        return _suppression(self.curves[:, :, -1])


@dataclass(frozen=True, eq=False, repr=False)
class PlaidTuning(TuningCurves):
    """Curves (n_neurons, n_contrasts, n_contrasts + 1), and the plaid index of each.

    Attributes
    ----------
    contrasts : ndarray, (n_neurons, n_contrasts)
        Of the preferred Gabor.
    orthogonal_contrasts : ndarray, (n_neurons, n_contrasts + 1)
        Of the orthogonal one: 0, and the same.
    """

    contrasts: np.ndarray
    orthogonal_contrasts: np.ndarray


def orientation_tuning(
    model, gabors, size, *, n_orientations=24, n_phases=8, neurons=None, batch_size=BATCH
):
    """Tuning to orientation, with the best phase at each.

    Parameters
    ----------
    model : EncodingModel, torch.nn.Module or callable
        Gives responses (n, n_model_neurons), at least 0, to stimuli (n, H, W); modules are called
        with tensors (n, 1, H, W).
    gabors : Gabors
        The optimal Gabor of each neuron, or the one of its cluster, at its place and orientation.
    size : int or tuple (H, W)
        Of stimuli, pixels.
    n_orientations : int
        From 0 in steps of pi / n_orientations, at least 3.
    n_phases : int
        From the neuron's own in steps of 2 pi / n_phases.
    neurons : array_like of int, (n_neurons,), optional
        Which of the model's neurons the Gabors are of; by default all, in order.
    batch_size : int
        Stimuli at once.

    Returns
    -------
    OrientationTuning
        ``.curves`` (n_neurons, n_orientations), ``.index``: F2/F0 of each, ``.orientations``,
        ``.preferred``.

    Raises
    ------
    TypeError
        Another kind of model, of Gabors, of neurons, or a number that is not an integer.
    ValueError
        Neurons that the model does not have, not one Gabor for each; too few orientations or
        phases; a size that is not that of the model's images; responses of a wrong shape, not
        finite, or negative.

    References
    ----------
    Methods, (11). F2/F0 is half the amplitude of the best sine over the mean.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin.experiments import orientation_tuning
    >>> from fastvis.twin.families import Gabors
    >>> own = Gabors([[10.0, 10.0]], sigma=3.0, frequency=0.15, orientation=0.5)
    >>> filters = own.images(21).reshape(1, -1)
    >>> def cell(images):
    ...     return np.maximum(images.reshape(len(images), -1) @ filters.T, 0)
    >>> tuning = orientation_tuning(cell, own, 21)
    >>> tuning
    OrientationTuning(1 neuron(s), 24 stimuli; mean index=0.568)
    >>> tuning.preferred.round(2)
    array([0.5])
    """
    n = check_int(n_orientations, "n_orientations", minimum=3)
    orientations = np.pi * np.arange(n) / n
    neurons, size, responder = _check(model, gabors, size, neurons, batch_size)
    changed = {
        "orientation": orientations[None, :, None],
        "phase": _cycle(gabors, n_phases, 1)[:, None],
    }
    curves = _ask(responder, gabors, size, neurons, gabor, changed).max(2)
    return OrientationTuning(curves, _modulation(curves, 2 * orientations), orientations)


def phase_tuning(model, gabors, size, *, n_phases=12, neurons=None, batch_size=BATCH):
    """Tuning to phase: of simple cells, and not of complex ones.

    Parameters
    ----------
    model, gabors, size, neurons, batch_size
        As of `orientation_tuning`.
    n_phases : int
        From the neuron's own in steps of 2 pi / n_phases, at least 3.

    Returns
    -------
    PhaseTuning
        ``.curves`` (n_neurons, n_phases), ``.index``: F1/F0 of each, ``.phases``, ``.invariance``:
        1 - F1/F0, which is what Figs. 3 and 4 show.

    Raises
    ------
    TypeError, ValueError
        As of `orientation_tuning`.

    References
    ----------
    Methods, (11). A half-wave rectified cosine has .8038 at 12 phases, and pi / 4 at very many.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin.experiments import phase_tuning
    >>> from fastvis.twin.families import Gabors
    >>> own = Gabors([[10.0, 10.0]], sigma=3.0, frequency=0.15)
    >>> filters = own.images(21).reshape(1, -1)
    >>> def simple_cell(images):
    ...     return np.maximum(images.reshape(len(images), -1) @ filters.T, 0)
    >>> phase_tuning(simple_cell, own, 21).index.round(4)
    array([0.8038])
    """
    neurons, size, responder = _check(model, gabors, size, neurons, batch_size)
    phases = _cycle(gabors, n_phases, 3)
    curves = _ask(responder, gabors, size, neurons, gabor, {"phase": phases})
    return PhaseTuning(curves, _modulation(curves, phases), phases)


def size_contrast_tuning(
    model, gabors, size, *, sigmas=None, contrasts=None, neurons=None, batch_size=BATCH
):
    """Tuning to the size of Gabors, at several contrasts: surround and contrast suppression.

    Frequencies are fixed, in cycles per pixel: larger Gabors have more stripes.

    Parameters
    ----------
    model, gabors, size, neurons, batch_size
        As of `orientation_tuning`.
    sigmas : array_like, (n_sizes,) or (n_neurons, n_sizes), optional
        Standard deviations in pixels, rising; by default 2 * 1.2^k, k = 0..11, for all neurons.
    contrasts : array_like, (n_contrasts,) or (n_neurons, n_contrasts), optional
        Rising, at least 0, of which the last is the one that counts for suppression. By default
        sqrt(2)^k times that of the neuron's Gabor, k = -11..0: they end at the contrast that was
        found best. Pass what ends at the highest there is if that is more.

    Returns
    -------
    SizeContrastTuning
        ``.curves`` (n_neurons, n_contrasts, n_sizes), ``.contrasts``, ``.sigmas``; ``.index``: by
        how much the largest size at the highest contrast is worse than the best size, and
        ``.contrast_index``: by how much than the best contrast of that size.

    Raises
    ------
    TypeError
        As of `orientation_tuning`.
    ValueError
        As of `orientation_tuning`; sizes or contrasts of another shape or that do not rise, sizes
        that are not positive, contrasts below 0.

    References
    ----------
    Methods, (12), (13). Sizes, which are four sigmas, are 8 to 59 pixels and include the five that
    were shown in vivo; ranges of contrast are those of the laboratory's later experiments.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin.experiments import size_contrast_tuning
    >>> from fastvis.twin.families import Gabors
    >>> own = Gabors([[16.0, 16.0]], sigma=3.0, frequency=0.2)
    >>> def normalized(images):
    ...     drive = np.maximum(images[:, 16, 16], 0)
    ...     return (drive / (1 + 0.2 * np.abs(images).sum((1, 2))))[:, None]
    >>> tuning = size_contrast_tuning(normalized, own, 33, sigmas=[1.0, 2.0, 4.0])
    >>> tuning.curves.shape
    (1, 12, 3)
    >>> tuning.index.round(2)
    array([0.81])
    """
    neurons, size, responder = _check(model, gabors, size, neurons, batch_size)
    sigmas = _levels(SIGMAS if sigmas is None else sigmas, "sigmas", len(gabors))
    if sigmas.min() <= 0:
        raise ValueError(f"sigmas must be > 0 pixels; got {sigmas.min():g}.")
    contrasts = _contrasts(contrasts, CONTRASTS, gabors)
    changed = {"contrast": contrasts[:, :, None], "sigma": sigmas[:, None, :]}
    curves = _ask(responder, gabors, size, neurons, gabor, changed)
    return SizeContrastTuning(curves, _suppression(curves[:, -1]), contrasts, sigmas)


def cross_orientation_inhibition(
    model, gabors, size, *, contrasts=None, n_phases=8, neurons=None, batch_size=BATCH
):
    """Responses to plaids: to a neuron's Gabor with the orthogonal one on it.

    Parameters
    ----------
    model, gabors, size, neurons, batch_size
        As of `orientation_tuning`.
    contrasts : array_like, (n_contrasts,) or (n_neurons, n_contrasts), optional
        Of both Gabors, rising, more than 0; the orthogonal one is left out as well. By default
        sqrt(2)^k times that of the neuron's Gabor, k = -6..0. Plaids have up to twice as much.
    n_phases : int
        Of the orthogonal Gabor, over which responses are averaged.

    Returns
    -------
    PlaidTuning
        ``.curves`` (n_neurons, n_contrasts, n_contrasts + 1): contrast of the neuron's own Gabor,
        and of the orthogonal one, from 0; ``.contrasts``, ``.orthogonal_contrasts``; ``.index``: by
        how much a plaid of both at their highest contrasts is worse than the best with the own
        at its highest.

    Raises
    ------
    TypeError
        As of `orientation_tuning`.
    ValueError
        As of `orientation_tuning`; contrasts of another shape, that do not rise, or not above 0.

    References
    ----------
    Methods, (14), with the maximum over the contrast of the orthogonal Gabor, as Fig. 2F has it: as
    printed it is over that of the own one, and 0 for all neurons which that drives.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin.experiments import cross_orientation_inhibition
    >>> from fastvis.twin.families import Gabors
    >>> own = Gabors([[10.0, 10.0]], sigma=3.0, frequency=0.2)
    >>> filters = own.images(21).reshape(1, -1)
    >>> def linear_nonlinear(images):
    ...     return np.maximum(images.reshape(len(images), -1) @ filters.T, 0)
    >>> tuning = cross_orientation_inhibition(linear_nonlinear, own, 21)
    >>> tuning.curves.shape
    (1, 7, 8)
    >>> tuning.index.round(5)
    array([0.])
    """
    neurons, size, responder = _check(model, gabors, size, neurons, batch_size)
    contrasts = _contrasts(contrasts, PLAID_CONTRASTS, gabors)
    if contrasts.min() == 0:
        raise ValueError("contrasts must be > 0: without the orthogonal Gabor is added for you.")
    orthogonal = np.concatenate([np.zeros((len(gabors), 1)), contrasts], axis=1)
    changed = {
        "contrast": contrasts[:, :, None, None],
        "orthogonal_contrast": orthogonal[:, None, :, None],
        "orthogonal_phase": _cycle(gabors, n_phases, 1)[:, None, None, :],
    }
    curves = _ask(responder, gabors, size, neurons, plaid, changed).mean(3)
    return PlaidTuning(curves, _suppression(curves[:, -1]), contrasts, orthogonal)


def compare_stimuli(model, first, second, norms, *, neurons=None, batch_size=BATCH):
    """How well neurons respond to one kind of stimulus, relative to another of the same energy.

    Parameters
    ----------
    model, neurons, batch_size
        As of `orientation_tuning`.
    first, second : array_like, (n_neurons, H, W)
        A stimulus of either kind for each neuron: optimal Gabors, optimal differences of Gaussians,
        MEIs. None of them 0 everywhere.
    norms : float or array_like, (n_norms,)
        L2 norms to which all are scaled, positive.

    Returns
    -------
    ndarray, (n_neurons,)
        Mean over norms of the ratio of responses. Norms at which the second has no response are
        left out; NaN where there are no others.

    Raises
    ------
    TypeError
        As of `orientation_tuning`.
    ValueError
        As of `orientation_tuning`; stimuli of different shapes, or 0 everywhere; norms that are not
        positive.

    References
    ----------
    Methods, (15) to (17).

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin.experiments import compare_stimuli
    >>> def brightest(images):
    ...     return images.max((1, 2))[:, None]
    >>> spot, field = np.zeros((1, 2, 2)), np.ones((1, 2, 2))
    >>> spot[0, 0, 0] = 1.0
    >>> compare_stimuli(brightest, field, spot, [5.0, 10.0])
    array([0.5])
    """
    first, second = _check_stimuli(first, "first"), _check_stimuli(second, "second")
    if first.shape != second.shape:
        raise ValueError(
            f"first and second must have one shape; got {first.shape} and {second.shape}."
        )
    norms = np.atleast_1d(check_array(norms, "norms", ndim=(0, 1), axes="(n_norms,)"))
    if norms.min() <= 0:
        raise ValueError(f"norms must be > 0; got {norms.min():g}.")
    responder = Responder(model, batch_size)
    neurons = _check_neurons(responder, neurons, len(first), first.shape[1:])
    responses = np.empty((2, len(norms), len(neurons)))
    for start in range(0, len(neurons), batch_size):
        part = slice(start, start + batch_size)
        for i, images in enumerate((first[part], second[part])):
            for j, norm in enumerate(norms):
                responses[i, j, part] = responder.own(match_energy(images, norm), neurons[part])
    ratios = _ratio(*responses, 0.0)
    return _ratio(ratios.sum(0), (responses[1] > 0).sum(0), np.nan)


def nonlinearity_index(correlation_model, correlation_glm):
    """How much better a neuron is predicted by a model than by a generalized linear one.

    Parameters
    ----------
    correlation_model, correlation_glm : array_like, (n_neurons,)
        Of predictions with responses to test images, as by `single_trial_correlation`.

    Returns
    -------
    ndarray, (n_neurons,)
        Their ratio; about 1 of linear-nonlinear neurons. NaN where the second is not positive:
        what no linear model predicts has no such index. It is wild where that is small.

    Raises
    ------
    ValueError
        Correlations that are not in [-1, 1], or of different shapes.

    References
    ----------
    Methods, (18).

    Examples
    --------
    >>> from fastvis.twin.experiments import nonlinearity_index
    >>> nonlinearity_index([0.5, 0.5, 0.5], [0.5, 0.25, 0.0])
    array([ 1.,  2., nan])
    """
    model, glm = (
        check_array(c, name, ndim=1, axes="(n_neurons,)").astype(np.float64)
        for c, name in (
            (correlation_model, "correlation_model"),
            (correlation_glm, "correlation_glm"),
        )
    )
    if model.shape != glm.shape:
        raise ValueError(
            "correlation_model and correlation_glm must be of the same neurons; got "
            f"{len(model)} and {len(glm)}."
        )
    for value, name in ((model, "correlation_model"), (glm, "correlation_glm")):
        if np.abs(value).max() > 1 + 1e-9:
            raise ValueError(f"{name} must be in [-1, 1]; got {value.min():g} to {value.max():g}.")
    return _ratio(model, glm, np.nan)


def _ask(responder, gabors, size, neurons, draw, changed):
    """Responses (n_neurons, ...) of neurons to their own stimuli, drawn a batch at a time.

    Parameters that are ``changed`` are arrays (n_neurons or 1, ...), which broadcast.
    """
    shape = np.broadcast_shapes(*(values.shape for values in changed.values()))
    changed = {name: np.broadcast_to(values, shape) for name, values in changed.items()}
    responses = np.empty(np.prod(shape))
    for start in range(0, len(responses), responder.batch_size):
        stop = min(start + responder.batch_size, len(responses))
        at = np.unravel_index(np.arange(start, stop), shape)
        own = gabors[at[0]]
        parameters = {name: getattr(own, name) for name in ("center", *own.names())}
        images = draw(size, **parameters | {name: v[at] for name, v in changed.items()})
        responses[start:stop] = responder.own(images, neurons[at[0]])
        worst = start + responses[start:stop].argmin()
        if responses[worst] < 0:
            raise ValueError(
                f"model must give responses >= 0; got {responses[worst]:g} of neuron "
                f"{neurons[np.unravel_index(worst, shape)[0]]}. Rectify them."
            )
    return responses.reshape(shape)


def _cycle(gabors, n_phases, minimum):
    """Phases (n_neurons, n_phases) from each neuron's own."""
    n = check_int(n_phases, "n_phases", minimum=minimum)
    return gabors.phase[:, None] + 2 * np.pi * np.arange(n) / n


def _modulation(curves, angles):
    """F_k / F_0, (11), of curves (n_neurons, m) at k times the angle."""
    return _ratio(np.abs((curves * np.exp(1j * angles)).sum(1)), curves.sum(1), 0.0)


def _suppression(curves):
    """By how much the last of curves (n_neurons, m) is worse than the best, (12) to (14)."""
    return 1 - _ratio(curves[:, -1], curves.max(1), 1.0)


def _ratio(a, b, otherwise):
    """a / b, and something else where b is not positive."""
    return np.divide(a, b, out=np.full(np.shape(a), otherwise), where=b > 0)


def _contrasts(contrasts, default, gabors):
    if contrasts is None and gabors.contrast.min() <= 0:
        raise ValueError(
            f"gabors must have contrasts > 0; got {gabors.contrast.min():g}. Pass contrasts=, or "
            "turn a negative one into half a cycle of phase."
        )
    own = gabors.contrast[:, None] * default if contrasts is None else contrasts
    contrasts = _levels(own, "contrasts", len(gabors))
    if contrasts.min() < 0:
        raise ValueError(f"contrasts must be >= 0; got {contrasts.min():g}.")
    return contrasts


def _levels(values, name, n_neurons):
    """Rising values (n_neurons, m), of each neuron or the same for all."""
    values = check_array(values, name, ndim=(1, 2), axes="(m,) or (n_neurons, m)")
    values = np.atleast_2d(values).astype(np.float64)
    if len(values) not in (1, n_neurons):
        raise ValueError(
            f"{name} must be the same for all neurons, (m,), or ({n_neurons}, m); got shape "
            f"{values.shape}."
        )
    if (np.diff(values) <= 0).any():
        raise ValueError(f"{name} must rise: the last counts as the highest. Sort them.")
    return np.broadcast_to(values, (n_neurons, values.shape[1])).copy()


def _check(model, gabors, size, neurons, batch_size):
    if not isinstance(gabors, Gabors):
        raise TypeError(f"gabors must be Gabors, one for each neuron; got {type(gabors).__name__}.")
    size, responder = check_size(size), Responder(model, batch_size)
    check_image_size(model, size)
    return _check_neurons(responder, neurons, len(gabors), size), size, responder


def _check_neurons(responder, neurons, n_stimuli, size):
    """Indices (n_stimuli,) of the model's neurons."""
    n_model = responder.n_neurons(size)
    neurons = np.arange(n_model) if neurons is None else np.asarray(neurons)
    if neurons.dtype.kind not in "iu":
        raise TypeError(f"neurons must be integers; got dtype {neurons.dtype}.")
    if neurons.shape != (n_stimuli,):
        raise ValueError(
            f"neurons must be {n_stimuli}, one for each stimulus; got shape {neurons.shape}. The "
            f"model has {n_model}: say which of them are meant by neurons=."
        )
    if neurons.min() < 0 or neurons.max() >= n_model:
        raise ValueError(
            f"neurons must be in 0 to {n_model - 1}, as the model has {n_model}; got "
            f"{neurons.min()} to {neurons.max()}."
        )
    return neurons


def _check_stimuli(images, name):
    images = check_array(images, name, ndim=3, axes="(n_neurons, H, W)")
    if not images.any((1, 2)).all():
        raise ValueError(f"{name} must not be 0 everywhere: nothing can be scaled to a norm.")
    return images

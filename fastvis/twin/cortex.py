"""A simulated visual cortex of which everything is known: the test bed of a digital twin.

Filters of a neuron are Gabors g_phase at its place, of its orientation (that of `gabor`), less as
much of their envelope as makes them blind to uniform fields, and scaled so that a grating of
amplitude 1 gives 1. Of an image x, z-scored,

    simple      max(0, <g_phase, x>)
    energy      sqrt(<g_phase, x>^2 + <g_phase+pi/2, x>^2)
    E           (1 - complexness) simple + complexness energy
    S           mean energy at four places around the center, of the same orientation
    C           energy at the center, of the orthogonal orientation
    rate        gain E / (1 + suppression S + cross_inhibition C)

and of cells with a center and a surround E is a rectified difference of Gaussians. So suppression
makes a large Gabor worse than a small one, cross-inhibition a plaid worse than a Gabor, and both
come out of one divisive normalization.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .._random import check_rng
from .._validation import check_array, check_choice, check_float, check_int, check_size
from .arguments import check_images
from .recording import Recording
from .stimuli import gabor

ORIENTED = tuple(
    base + suppressed + cross
    for base in ("simple", "complex")
    for suppressed in ("", "+suppressed")
    for cross in ("", "+cross")
)
CENTER = ("center-on", "center-off")
TYPES = ORIENTED + CENTER
COUPLINGS = ("independent", "shared pool")
NOISE = ("poisson", "none")

SIGMA, FREQUENCY = 2.2, 0.12  # pixels, cycles per pixel: broadly tuned, as in the mouse
SIGMA_CENTER, SURROUND = 1.6, 2.0  # of differences of Gaussians; the surround in units of the first
SPREAD = 0.05  # of these within a type, at most
COMPLEXNESS = (0.85, 1.0)  # of complex cells
SUPPRESSION, CROSS_INHIBITION, SHARED = (3.0, 40.0), (1.0, 16.0), (2.0, 12.0)  # where not 0
N_PLACES, DISTANCE = 4, 2.5  # of the surround: on a ring, in units of sigma
CHUNK = 256  # images at a time

PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel")
SCALES = (1, 2, 3, 4)
LEAST_CONTRAST = 0.05  # standard deviation of a patch, of the range from black to white
MOST_DRAWS = 100  # of a patch


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedCortex:
    """Neurons whose rates are known for every image.

    Call it on z-scored luminances (n, H, W), in the units of the recording it comes with, and it
    gives rates (n, n_neurons), float32, without noise: a model for every in silico experiment.

    Parameters
    ----------
    size : tuple (H, W)
        Of images, pixels.
    types : ndarray of str, (n_neurons,)
        "simple" or "complex", each as it is or followed by "+suppressed" (by the surround),
        "+cross" (inhibited by the orthogonal orientation) or "+suppressed+cross"; "center-on",
        "center-off".
    centers : ndarray, (n_neurons, 2)
        Row and column, pixels.
    orientations : ndarray, (n_neurons,)
        Radians, period 2 pi, as of `gabor`: turned by pi a neuron has minus its phase. NaN of cells
        with a center and a surround.
    phases : ndarray, (n_neurons,)
        Radians, period 2 pi, as of `gabor`; an energy hardly depends on them. Or NaN.
    frequencies : ndarray, (n_neurons,)
        Cycles per pixel; or NaN.
    sigmas : ndarray, (n_neurons,)
        Standard deviation of the envelope, pixels; of the center, if there is a surround.
    complexness : ndarray, (n_neurons,)
        In [0, 1]: 0, linear-nonlinear; 1, the same for all phases.
    suppression, cross_inhibition : ndarray, (n_neurons,)
        Strengths, at least 0.
    gains : ndarray, (n_neurons,)
        Of rates, spikes per trial.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import gabor, simulate_cortex
    >>> images = np.random.default_rng(0).normal(size=(60, 20, 20))
    >>> truth = simulate_cortex(1, images, n_test=10, types=["simple+cross"], rng=0).truth
    >>> angles = np.arange(4) * np.pi / 4 + truth.orientations[0]
    >>> x = gabor(
    ...     20, sigma=2.2, frequency=0.12, orientation=angles, phase=truth.phases[0],
    ...     center=truth.centers[0],
    ... )
    >>> int(truth(x)[:, 0].argmax())
    0
    """

    size: tuple
    types: np.ndarray
    centers: np.ndarray
    orientations: np.ndarray
    phases: np.ndarray
    frequencies: np.ndarray
    sigmas: np.ndarray
    complexness: np.ndarray
    suppression: np.ndarray
    cross_inhibition: np.ndarray
    gains: np.ndarray

    def __post_init__(self):
        n = len(self.types)
        for name in ("orientations", "phases", "frequencies", "sigmas", "complexness",
                     "suppression", "cross_inhibition", "gains"):  # fmt: skip
            if np.shape(getattr(self, name)) != (n,):
                raise ValueError(
                    f"{name} must be {n} numbers, one a neuron; got shape "
                    f"{np.shape(getattr(self, name))}."
                )
        if np.shape(self.centers) != (n, 2):
            raise ValueError(f"centers must be ({n}, 2); got shape {np.shape(self.centers)}.")

    @property
    def n_neurons(self):
        """How many neurons."""
        return len(self.types)

    def __call__(self, images):
        images = check_images(images, self.size)
        pixels = images.reshape(len(images), -1).astype(np.float32, copy=False)
        rates = np.empty((len(pixels), self.n_neurons), np.float32)
        for start in range(0, len(pixels), CHUNK):
            rates[start : start + CHUNK] = self._rates(pixels[start : start + CHUNK])
        return rates

    def _rates(self, x):
        own, surround, orthogonal = self._filters
        simple = np.maximum(x @ own[0].T, 0)
        drive = simple + self.complexness.astype(np.float32) * (_energy(x, own) - simple)
        pool = np.ones_like(drive)
        k = self.suppression[self.suppression > 0].astype(np.float32)
        places = _energy(x, surround).reshape(len(x), N_PLACES, len(k))
        pool[:, self.suppression > 0] += k * places.mean(1)
        k = self.cross_inhibition[self.cross_inhibition > 0].astype(np.float32)
        pool[:, self.cross_inhibition > 0] += k * _energy(x, orthogonal)
        return self.gains.astype(np.float32) * drive / pool

    @cached_property
    def _filters(self):
        """Pairs of matrices (2, n_filters, n_pixels): of all neurons, and of those with a pool."""
        is_center = np.isin(self.types, CENTER)
        own = np.zeros((2, self.n_neurons, self.size[0] * self.size[1]), np.float32)
        own[:, ~is_center] = self._gabors(~is_center)
        own[0, is_center] = self._differences(is_center)
        angles = 2 * np.pi * np.arange(N_PLACES) / N_PLACES
        places = [self._gabors(self.suppression > 0, place=angle) for angle in angles]
        orthogonal = self._gabors(self.cross_inhibition > 0, turn=np.pi / 2)
        return own, np.concatenate(places, axis=1), orthogonal

    def _gabors(self, which, turn=0.0, place=None):
        """Quadrature pairs, turned, or moved at an angle from across the stripes."""
        if not which.any():
            return np.zeros((2, 0, self.size[0] * self.size[1]), np.float32)
        sigma, orientation = self.sigmas[which], self.orientations[which]
        center = self.centers[which]
        if place is not None:
            angle = orientation + place
            step = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
            center = center + DISTANCE * sigma[:, None] * step
        frequency, phase = self.frequencies[which], self.phases[which].astype(np.float32)
        even, odd = gabor(
            self.size, sigma=sigma, frequency=frequency, contrast=2.0, center=center,
            orientation=orientation + turn, phase=np.array([[0.0], [np.pi / 2]]),
        )  # fmt: skip
        even -= even.sum((-2, -1), keepdims=True) * self._gaussians(sigma, center)
        # What they give to a grating of their phase, without a border.
        mean = np.exp(-((2 * np.pi * frequency * sigma) ** 2))
        for wave, part in ((even, (1 - mean) ** 2), (odd, 1 - mean**2)):
            wave /= (np.pi * sigma**2 * part).astype(np.float32)[:, None, None]
        cos, sin = np.cos(phase)[:, None, None], np.sin(phase)[:, None, None]
        waves = np.stack([cos * even + sin * odd, cos * odd - sin * even])
        return waves.reshape(2, len(sigma), -1)

    def _differences(self, which):
        if not which.any():
            return np.zeros((0, self.size[0] * self.size[1]), np.float32)
        sigma, center = self.sigmas[which], self.centers[which]
        sign = np.where(self.types[which] == "center-on", 1, -1).astype(np.float32)
        wide = self._gaussians(SURROUND * sigma, center)
        difference = self._gaussians(sigma, center) - wide
        return (sign[:, None, None] * difference).reshape(len(sigma), -1)

    def _gaussians(self, sigma, center):
        """Of sum 1 within the image."""
        g = gabor(self.size, sigma=sigma, frequency=0.0, center=center)
        return g / g.sum((-2, -1), keepdims=True)

    def __repr__(self):
        names, counts = np.unique(self.types, return_counts=True)
        kinds = ", ".join(f"{count} {name}" for name, count in zip(names, counts))
        return f"SimulatedCortex({self.n_neurons} neurons: {kinds})"


def simulate_cortex(
    n_neurons, images, *, n_repeats=10, n_test=100, validation=0.1, types=None,
    coupling="independent", phases=None, margin=8.0, noise="poisson", mean_response=2.5, rng=None,
):  # fmt: skip
    """Record from simulated neurons of known types.

    Parameters
    ----------
    n_neurons : int
    images : array_like, (n_images, H, W)
        Luminances in any unit; z-scored as `Recording.normalization` does.
    n_repeats : int, or array_like of int, (n_test,)
        How often test images are shown. All others are shown once.
    n_test : int
        How many images, at random, are test images.
    validation : float
        The part of the other images, at random, that is for validation.
    types : sequence of str, or dict, optional
        Types of neurons, in equal parts or in those that a dict gives; see `SimulatedCortex`.
        There are as many of each as the parts say, up to rounding, in random order. By default of
        all types as many: complex or not, suppressed or not, cross-inhibited or not tell nothing of
        each other.
    coupling : {"independent", "shared pool"}
        "independent": strengths of suppression and cross-inhibition tell nothing of each other.
        Indices do: the best Gabors of suppressed neurons are small, and so are those orthogonal to
        them; and in a neuron with both, one hides the other in their common denominator (of 400
        neurons the indices correlated by -0.23, of those with both by -0.62). "shared pool": one
        strength is that of both, and there are only types with both or neither.
    phases : float or sequence of float, optional
        Phases of Gabors are drawn of these, radians. By default all are as likely.
    margin : float
        Of centers from the border, pixels, at least 0. Filters have a radius of about 6, with a
        surround of about 10; they are cut off at the border.
    noise : {"poisson", "none"} or float
        Numbers of spikes with a Poisson distribution, rates themselves, or numbers of spikes with a
        negative binomial one of this Fano factor (variance over mean), at least 1.
    mean_response : float
        Of every neuron to training images, spikes per trial, positive.
    rng : None, int or numpy.random.Generator

    Returns
    -------
    Recording
        With a `SimulatedCortex` for ``truth``. One seed gives the same neurons, up to their gains,
        whatever the noise and the images, if these have one size.

    Raises
    ------
    TypeError, ValueError
        Arguments out of range, a margin that leaves no room, no images left for training, images
        that do not drive some neuron.

    Notes
    -----
    Within 5 %, envelopes have a sigma of 2.2 pixels and frequencies are 0.12 cycles per pixel.
    Suppression, of those that have it, is 3 to 40, cross-inhibition 1 to 16, and if they are one
    2 to 12, all log-uniform. With Gabors of contrast 2, suppression indices (12) are then 0.3 to
    0.8, plaid indices (14) 0.5 to 0.95, and in neurons with both 0.15 to 0.75 and 0.1 to 0.75; with
    a shared pool 0.1 to 0.6 and 0.4 to 0.7. All others are about 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import simulate_cortex
    >>> images = np.random.default_rng(0).normal(size=(60, 20, 20))
    >>> recording = simulate_cortex(4, images, n_test=10, types=["simple", "complex"], rng=0)
    >>> recording
    Recording(4 neurons, 60 images of 20 x 20, 150 trials: 45 train, 5 validation, 100 test)
    >>> recording.truth
    SimulatedCortex(4 neurons: 2 complex, 2 simple)
    """
    n_neurons = check_int(n_neurons, "n_neurons", minimum=1)
    images = check_array(images, "images", ndim=3, axes="(n_images, H, W)")
    coupling = check_choice(coupling, "coupling", COUPLINGS)
    types = _check_types(types, coupling)
    fano = _check_noise(noise)
    mean_response = check_float(mean_response, "mean_response", minimum=0, strict=True)
    margin = check_float(margin, "margin", minimum=0)
    if margin > (min(images.shape[1:]) - 1) / 2:
        raise ValueError(
            f"margin must be at most half of an image; got {margin:g} for images of "
            f"{images.shape[1]} x {images.shape[2]}. Pass a smaller margin, or larger images."
        )
    if phases is not None:
        phases = np.atleast_1d(check_array(phases, "phases", ndim=(0, 1)))
    rng = check_rng(rng)
    cortex = _draw_cortex(n_neurons, images.shape[1:], types, coupling, phases, margin, rng)
    ids, tiers = _schedule(len(images), n_test, n_repeats, validation, rng)
    shown = Recording(images, np.zeros((len(ids), 1)), ids, tiers)
    rates = cortex(shown.normalization().images(shown.images))
    means = rates[ids[tiers == "train"]].mean(0, dtype=np.float64)
    if not (means > 0).all():
        raise ValueError(
            f"images must drive all neurons; got {(means == 0).sum()} that no training image "
            "drives. Pass more images, or of more contrast."
        )
    cortex = replace(cortex, gains=mean_response / means)
    rates = (rates * cortex.gains.astype(np.float32))[ids]
    if fano is not None:
        if fano > 1:  # of rates with a gamma distribution: spikes with a negative binomial one
            rates = rng.gamma(rates / (fano - 1), fano - 1)
        rates = rng.poisson(rates)
    return replace(shown, responses=rates, truth=cortex)


def natural_patches(n, size, *, rng=None):
    """Patches of the gray photographs that scikit-image and scikit-learn come with.

    Photograph, scale (averages of 1 to 4 pixels squared), place, mirror image and quarter turn are
    drawn at random; patches of almost no contrast are drawn again.

    Parameters
    ----------
    n : int
    size : int, or tuple (H, W)
        Pixels.
    rng : None, int or numpy.random.Generator

    Returns
    -------
    ndarray, (n, H, W), float32
        In [0, 1]. There are ten photographs: of many patches some overlap.

    Raises
    ------
    ImportError
        scikit-image is missing.
    ValueError
        A size that no photograph has.

    Examples
    --------
    >>> from fastvis.twin import natural_patches
    >>> x = natural_patches(3, (12, 16), rng=0)
    >>> x.shape, x.dtype
    ((3, 12, 16), dtype('float32'))
    """
    n, size, rng = check_int(n, "n", minimum=1), check_size(size), check_rng(rng)
    pictures = [p for p in _pyramid() if min(p.shape) >= max(size)]
    if not pictures:
        raise ValueError(f"size must fit into a photograph; got {size[0]} x {size[1]}.")
    out = np.empty((n, *size), np.float32)
    for patch in out:
        for _ in range(MOST_DRAWS):
            patch[:] = _random_patch(pictures, size, rng)
            if patch.std() >= LEAST_CONTRAST:
                break
    return out


def _random_patch(pictures, size, rng):
    picture = pictures[rng.integers(len(pictures))]
    turns = rng.integers(4)
    height, width = size if turns % 2 == 0 else size[::-1]
    row = rng.integers(picture.shape[0] - height + 1)
    column = rng.integers(picture.shape[1] - width + 1)
    patch = np.rot90(picture[row : row + height, column : column + width], turns)
    return patch[:, ::-1] if rng.integers(2) else patch


def _pyramid():
    """Gray photographs in [0, 1] at all scales."""
    try:
        from skimage import color, data, transform
    except ImportError as error:
        raise ImportError("photographs need scikit-image: pip install fastvis[data]") from error
    from sklearn.datasets import load_sample_images

    photos = [getattr(data, name)() for name in PHOTOGRAPHS] + load_sample_images().images
    grays = [color.rgb2gray(p) if p.ndim == 3 else p / 255 for p in photos]
    return [
        transform.downscale_local_mean(gray[: len(gray) // s * s, : gray.shape[1] // s * s], (s, s))
        for gray in grays
        for s in SCALES
    ]


def _energy(x, pair):
    a, b = x @ pair[0].T, x @ pair[1].T
    return np.sqrt(a * a + b * b)


def _draw_cortex(n, size, types, coupling, phases, margin, rng):
    """Neurons of unit gain; as many numbers are drawn whatever their types."""
    ends = np.round(n * np.cumsum(list(types.values())))
    types = rng.permutation(np.repeat(list(types), np.diff(ends, prepend=0).astype(int)))
    low, high = np.full(2, margin), np.array(size) - 1 - margin
    centers = rng.uniform(low, high, (n, 2))
    orientations = rng.uniform(0, 2 * np.pi, n)
    phases = rng.uniform(0, 2 * np.pi, n) if phases is None else rng.choice(phases, n)
    frequencies = FREQUENCY * rng.uniform(1 - SPREAD, 1 + SPREAD, n)
    spread = rng.uniform(1 - SPREAD, 1 + SPREAD, n)
    complexness = rng.uniform(*COMPLEXNESS, n)
    quantiles = rng.uniform(size=(2, n))
    if coupling == "shared pool":
        suppression = cross = _log_uniform(SHARED, quantiles[0])
    else:
        suppression = _log_uniform(SUPPRESSION, quantiles[0])
        cross = _log_uniform(CROSS_INHIBITION, quantiles[1])
    is_center = np.isin(types, CENTER)

    def where(word, values):
        return np.where(np.char.find(types, word) >= 0, values, 0.0)

    return SimulatedCortex(
        size=tuple(size),
        types=types,
        centers=centers,
        orientations=np.where(is_center, np.nan, orientations),
        phases=np.where(is_center, np.nan, phases),
        frequencies=np.where(is_center, np.nan, frequencies),
        sigmas=spread * np.where(is_center, SIGMA_CENTER, SIGMA),
        complexness=where("complex", complexness),
        suppression=where("suppressed", suppression),
        cross_inhibition=where("cross", cross),
        gains=np.ones(n),
    )


def _log_uniform(ends, quantiles):
    return ends[0] * (ends[1] / ends[0]) ** quantiles


def _schedule(n_images, n_test, n_repeats, validation, rng):
    """Image ids and tiers (n_trials,): training, validation, and test images over and over."""
    n_test = check_int(n_test, "n_test", minimum=0)
    check_float(validation, "validation", minimum=0, maximum=1)
    n_validation = round(validation * (n_images - n_test))
    n_train = n_images - n_test - n_validation
    if n_train < 1:
        raise ValueError(
            f"images must leave some for training; got {n_images}, of which {n_test} are for tests "
            f"and {max(n_validation, 0)} for validation."
        )
    repeats = np.asarray(n_repeats)
    fits = repeats.dtype.kind in "iu" and repeats.shape in ((), (n_test,))
    if not fits or (repeats < 1).any():
        raise ValueError(
            f"n_repeats must be one integer >= 1, or {n_test}, one for each test image; got "
            f"{n_repeats!r}."
        )
    order = rng.permutation(n_images)
    once, test = np.sort(order[n_test:]), np.sort(order[:n_test])
    is_validation = np.isin(once, order[n_test : n_test + n_validation])
    tiers = np.where(is_validation, "validation", "train")
    ids = np.concatenate([once, np.repeat(test, repeats)])
    return ids, np.concatenate([tiers, np.full(len(ids) - len(once), "test")])


def _check_types(types, coupling):
    """Parts of types, of sum 1."""
    allowed = TYPES
    if coupling == "shared pool":
        allowed = [t for t in TYPES if ("suppressed" in t) == ("cross" in t)]
    if types is None:
        types = allowed
    if not isinstance(types, dict):
        types = dict.fromkeys([types] if isinstance(types, str) else types, 1)
    parts = {
        check_choice(name, "types", allowed): check_float(part, f"types[{name!r}]", minimum=0)
        for name, part in types.items()
    }
    total = sum(parts.values())
    if not total > 0:
        raise ValueError("types must be of some part > 0; got none.")
    return {name: part / total for name, part in parts.items()}


def _check_noise(noise):
    """Fano factor, or None."""
    if isinstance(noise, str):
        return {"none": None, "poisson": 1.0}[check_choice(noise, "noise", NOISE)]
    return check_float(noise, "noise", minimum=1)

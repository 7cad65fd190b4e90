"""Recordings: images that were shown, and what neurons responded."""

from dataclasses import dataclass, field

import numpy as np

from .._random import check_rng
from .._validation import check_array, check_choice, check_float
from .arguments import check_image_ids

TIERS = ("train", "validation", "test")
LEAST_DEVIATION = 0.01  # of a response, in units of the mean one; less is no unit


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """Responses of neurons to images, trial by trial.

    Parameters
    ----------
    images : array_like, (n_images, H, W)
        Luminances, in any unit; kept as float32.
    responses : array_like, (n_trials, n_neurons)
        Numbers of spikes, or what stands for them: at least 0. Kept as float32.
    image_ids : array_like of int, (n_trials,)
        The image of each trial, a row of the images. Repeats are trials of one image: as many as
        there are, of each image another number if need be.
    tiers : array_like of str, (n_trials,)
        "train", "validation" or "test". No image is in two of them.
    truth : object, optional
        What is known of the neurons, if they are simulated.

    Raises
    ------
    TypeError, ValueError
        Shapes that do not fit, negative responses, values that are not finite, image ids that are
        no rows, other tiers, an image in two tiers, no training trials.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import Recording
    >>> images, responses = np.zeros((3, 4, 5)), np.ones((4, 2))
    >>> Recording(images, responses, [0, 1, 2, 2], ["train", "train", "test", "test"])
    Recording(2 neurons, 3 images of 4 x 5, 4 trials: 2 train, 0 validation, 2 test)
    """

    images: np.ndarray
    responses: np.ndarray
    image_ids: np.ndarray
    tiers: np.ndarray
    truth: object = field(default=None)

    def __post_init__(self):
        images = check_array(self.images, "images", ndim=3, axes="(n_images, H, W)")
        responses = check_array(
            self.responses, "responses", ndim=2, axes="(n_trials, n_neurons)",
            remedy="Pass trials as rows, one column for a single neuron.",
        )  # fmt: skip
        n = len(responses)
        if (responses < 0).any():
            bad = np.flatnonzero((responses < 0).any(0))
            raise ValueError(
                f"responses must be >= 0; got {responses.min():g}, in {len(bad)} neuron(s), the "
                f"first {bad[0]}. Clip them at 0, if they are deconvolved."
            )
        ids, tiers = check_image_ids(self.image_ids, n), np.asarray(self.tiers)
        if ids.min() < 0 or ids.max() >= len(images):
            raise ValueError(
                f"image_ids must be rows of {len(images)} images; got {ids.min()} to {ids.max()}."
            )
        if tiers.shape != (n,) or not np.isin(tiers, TIERS).all():
            others = sorted({str(t) for t in tiers.ravel()} - set(TIERS))
            raise ValueError(
                f"tiers must be {n} of {', '.join(TIERS)}; got shape {tiers.shape}"
                f"{' and ' + ', '.join(others) if others else ''}."
            )
        if not (tiers == "train").any():
            raise ValueError("tiers must have training trials; got none.")
        _refuse_shared_images(ids, tiers)
        for name, value in (
            ("images", _single(images, "images")),
            ("responses", _single(responses, "responses")),
            ("image_ids", ids),
            ("tiers", tiers.astype("U10")),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def from_arrays(
        cls, images, responses, image_ids=None, tiers=None, *, validation=0.2, rng=None
    ):
        """Make a recording, and share its images out if that has not been done.

        Parameters
        ----------
        images, responses
            As of `Recording`.
        image_ids : array_like of int, optional
            By default trial i shows image i.
        tiers : array_like of str, optional
            By default all trials of images that were shown more than once are test trials, and of
            the others a part, at random, validation.
        validation : float
            That part.
        rng : None, int or numpy.random.Generator

        Returns
        -------
        Recording

        Examples
        --------
        >>> import numpy as np
        >>> from fastvis.twin import Recording
        >>> ids = [0, 1, 2, 3, 4, 5, 5, 5]
        >>> Recording.from_arrays(np.zeros((6, 4, 5)), np.ones((8, 2)), ids, rng=0)
        Recording(2 neurons, 6 images of 4 x 5, 8 trials: 4 train, 1 validation, 3 test)
        """
        responses = check_array(responses, "responses", ndim=2, axes="(n_trials, n_neurons)")
        if image_ids is None:
            if len(images) != len(responses):
                raise ValueError(
                    f"responses must be one for each of {len(images)} images; got "
                    f"{len(responses)}. Say by image_ids what was shown."
                )
            image_ids = np.arange(len(responses))
        if tiers is None:
            tiers = _shared_out(np.asarray(image_ids), validation, check_rng(rng))
        return cls(images, responses, image_ids, tiers)

    @property
    def n_neurons(self):
        """How many neurons."""
        return self.responses.shape[1]

    def of_tier(self, tier):
        """Responses (n, n_neurons) and image ids (n,) of the trials of a tier."""
        rows = self.tiers == check_choice(tier, "tier", TIERS)
        return self.responses[rows], self.image_ids[rows]

    def summary(self):
        """Numbers of what there is: a dict, as a row of Table 1 of the twin paper.

        Returns
        -------
        dict
            n_neurons, n_images and n_trials in each tier, least and most test repeats, and how many
            neurons do not vary in the training data.
        """
        out = {"n_neurons": self.n_neurons}
        for tier in TIERS:
            _, ids = self.of_tier(tier)
            out[f"{tier}_images"], out[f"{tier}_trials"] = len(np.unique(ids)), len(ids)
        _, counts = np.unique(self.of_tier("test")[1], return_counts=True)
        out["test_repeats"] = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
        train, _ = self.of_tier("train")
        out["constant_neurons"] = int((train.max(0) == train.min(0)).sum())
        return out

    def normalization(self):
        """Return the `Normalization` of the training data."""
        train, ids = self.of_tier("train")
        images = self.images[np.unique(ids)]
        mean, deviation = images.mean(dtype=np.float64), images.std(dtype=np.float64)
        scale = train.std(0, dtype=np.float64)
        scale[scale <= LEAST_DEVIATION * scale.mean()] = 1.0
        return Normalization(float(mean), float(deviation) if deviation > 0 else 1.0, scale)

    def save(self, path):
        """Write to an HDF5 file, named exactly ``path``, that `from_hdf5` reads.

        A failed write leaves an older file as it was. ``truth`` is not kept.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
        ImportError
            h5py is missing.
        """
        from .formats import write_hdf5

        write_hdf5(path, self.images, self.responses, self.image_ids, self.tiers)

    @classmethod
    def from_hdf5(cls, path, **options):
        """Read an HDF5 file.

        Parameters
        ----------
        path : str or path-like
            With datasets ``images`` (n_images, H, W), ``responses`` (n_trials, n_neurons) and, if
            need be, ``image_ids`` and ``tiers`` (n_trials,).
        **options
            As of `from_arrays`, for a file without tiers.

        Returns
        -------
        Recording

        Raises
        ------
        FileNotFoundError
        ImportError
            h5py is missing.
        ValueError
            The file is damaged, or of another layout; the message names it.
        """
        from .formats import naming, read_hdf5

        arrays = read_hdf5(path)
        with naming(path):
            return cls.from_arrays(**arrays, **options)

    @classmethod
    def from_sensorium(cls, path, *, block=1, final_test=False):
        """Read a recording in the layout of the Sensorium competition of 2022.

        Parameters
        ----------
        path : str or path-like
            A folder or a zip file, with ``data/images/<i>.npy`` (1, H, W) or (H, W),
            ``data/responses/<i>.npy`` (n_neurons,), ``meta/trials/tiers.npy`` and
            ``meta/trials/frame_image_id.npy``.
        block : int
            Images are averaged over squares of so many pixels: 4 makes 36 x 64 of 144 x 256.
        final_test : bool
            Also take the tier "final_test" for test trials. The competition's own files have no
            responses there.

        Returns
        -------
        Recording

        Raises
        ------
        FileNotFoundError
            No such folder or file in it; the message says which.
        ValueError
            Files that are damaged, or do not fit each other.
        """
        from .formats import naming, read_sensorium

        arrays = read_sensorium(path, block, final_test)
        with naming(path):
            return cls(*arrays)

    def __repr__(self):
        n, height, width = self.images.shape
        tiers = ", ".join(f"{(self.tiers == tier).sum()} {tier}" for tier in TIERS)
        return (
            f"Recording({self.n_neurons} neurons, {n} images of {height} x {width}, "
            f"{len(self.responses)} trials: {tiers})"
        )


@dataclass(frozen=True, eq=False)
class Normalization:
    """Units of a recording: of its training data.

    Attributes
    ----------
    mean, deviation : float
        Of luminance, over all pixels of all training images.
    response_scale : ndarray, (n_neurons,)
        Standard deviation of training responses, ddof 0; 1 where that is at most 1 % of the mean
        one, or 0.
    """

    mean: float
    deviation: float
    response_scale: np.ndarray

    def images(self, images):
        """z-scored luminance."""
        return (images - np.float32(self.mean)) / np.float32(self.deviation)

    def responses(self, responses):
        """In units of their deviation; not centered, so still at least 0."""
        return responses / self.response_scale.astype(responses.dtype)


def check_recordings(recordings, tiers):
    """A list of recordings, whose images have one size, and which have trials of each tier."""
    recordings = list(recordings) if np.iterable(recordings) else [recordings]
    if not recordings or not all(isinstance(r, Recording) for r in recordings):
        got = ", ".join(type(r).__name__ for r in recordings) or "none"
        raise TypeError(f"recordings must be fastvis.twin.Recording, one or more; got {got}.")
    sizes = sorted({r.images.shape[1:] for r in recordings})
    if len(sizes) > 1:
        raise ValueError(f"recordings must have images of one size; got {sizes}.")
    for i, recording in enumerate(recordings):
        for tier in tiers:
            if not (recording.tiers == tier).any():
                raise ValueError(f"recordings must have {tier} trials; got none in number {i}.")
    return recordings


def _single(array, name):
    """As float32, which ends at 3e38."""
    with np.errstate(over="ignore"):
        single = array.astype(np.float32, copy=False)
    if not np.isfinite(single).all():
        raise ValueError(f"{name} must fit in float32; got up to {np.abs(array).max():g}.")
    return single


def _refuse_shared_images(ids, tiers):
    for i, a in enumerate(TIERS):
        for b in TIERS[:i]:
            both = np.intersect1d(ids[tiers == a], ids[tiers == b])
            if len(both):
                raise ValueError(
                    f"tiers must not share images; got {len(both)} in {b} and {a}, the first "
                    f"{both[0]}."
                )


def _shared_out(ids, validation, rng):
    check_float(validation, "validation", minimum=0, maximum=1)
    images, counts = np.unique(ids, return_counts=True)
    once = rng.permutation(images[counts == 1])
    is_validation = np.isin(ids, once[: round(validation * len(once))])
    is_test = np.isin(ids, images[counts > 1])
    if not (counts == 1).any():
        raise ValueError(
            "image_ids must have images that are shown once, which make the training data; got "
            "only repeats. Pass tiers."
        )
    return np.where(is_test, "test", np.where(is_validation, "validation", "train"))

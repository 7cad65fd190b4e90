"""Several recordings as one: all neurons, on the images that all of them were shown."""

import warnings
from collections import defaultdict
from hashlib import sha256

import numpy as np

from .._random import check_rng
from .._validation import check_int
from .recording import Recording, check_recordings


def pool_recordings(recordings, *, n_repeats=None, image_ids=None, rng=None):
    """Make one recording of several, of all their neurons, on the images common to all.

    Parameters
    ----------
    recordings : sequence of Recording
        With images of one size.
    n_repeats : int, optional
        Trials of each test image. By default the most frequent number of all recordings and common
        test images; of several such the largest.
    image_ids : sequence of array_like of int or str, (n_images,), optional
        For each recording, names of its images, the same in all recordings: for images whose pixels
        are not the same. By default images are matched by their pixels, equal as float32.
    rng : None, int or numpy.random.Generator
        Of what is drawn.

    Returns
    -------
    Recording
        Neurons are those of the first recording, then those of the second, and so on; images and
        their pixels those of the first recording, in the order in which it showed them. Each has
        its trials one after the other. ``truth`` is not kept.

    Raises
    ------
    TypeError, ValueError
        Images of different sizes, none in common, none of them for training; image ids that do not
        fit the recordings, or give one name to different images of a recording.

    Warns
    -----
    UserWarning
        Common images are left out, since they are in several tiers: in different ones of two
        recordings, or twice in one.

    Notes
    -----
    A test image has ``n_repeats`` trials, and another one as many as the recording that showed it
    least. Each recording fills them with its own trials of that image, in random order: some of
    them once where it has more, all of them over again where it has fewer. Which neurons' trials
    meet in a row means nothing: animals have no noise in common.

    Tiers that `Recording.from_arrays` draws are those of one recording, and most images would be in
    several: give it the tiers.

    Trials that are there twice make noise look smaller. `oracle`, `fev` and `feve` are too high for
    neurons of recordings that had fewer trials: take them from these recordings themselves.

    References
    ----------
    The twin paper, Methods, 'Visual stimuli': 4692 common images, 10 repeats in every scan.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import Recording
    >>> from fastvis.twin import pool_recordings
    >>> images, tiers = np.arange(36.0).reshape(4, 3, 3), ["train", "train", "test", "test"]
    >>> one = Recording(images, [[0], [1], [2], [2]], [0, 1, 2, 2], tiers)
    >>> other = Recording(images[::-1], [[5, 6], [3, 4], [7, 8], [7, 8]], [2, 3, 1, 1], tiers)
    >>> pool_recordings([one, other], rng=0).responses
    array([[0., 3., 4.],
           [1., 5., 6.],
           [2., 7., 8.],
           [2., 7., 8.]], dtype=float32)
    """
    recordings = check_recordings(recordings, ())
    if n_repeats is not None:
        check_int(n_repeats, "n_repeats", minimum=1)
    rng = check_rng(rng)
    pixels = [[_pixels(image) for image in recording.images] for recording in recordings]
    names = pixels if image_ids is None else _check_names(image_ids, recordings, pixels)
    trials = [_by_name(*of_one) for of_one in zip(recordings, names)]
    kept, tiers = _common(recordings, names, pixels, trials)

    counts = np.array([[len(of_one[name]) for name in kept] for of_one in trials])
    n_trials, is_test = counts.min(0), tiers == "test"
    if is_test.any():
        n_trials[is_test] = n_repeats or _most_frequent(counts[:, is_test])
    responses = []
    for recording, of_one in zip(recordings, trials):
        drawn = [np.resize(rng.permutation(of_one[name]), n) for name, n in zip(kept, n_trials)]
        responses.append(recording.responses[np.concatenate(drawn)])
    rows = recordings[0].image_ids[[trials[0][name][0] for name in kept]]
    return Recording(
        recordings[0].images[rows],
        np.concatenate(responses, 1),
        np.repeat(np.arange(len(kept)), n_trials),
        np.repeat(tiers, n_trials),
    )


def summary_table(recordings, pooled=None, *, n_scanned=None):
    """Numbers of neurons, images and trials of recordings: Table 1 of the twin paper.

    Parameters
    ----------
    recordings : sequence of Recording
    pooled : Recording, optional
        What `pool_recordings` made of them: the last row. Its images are those in common, no sums.
    n_scanned : sequence of int, optional
        Neurons of each scan, of which the recording has a sample: one more column.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    TypeError, ValueError
        Another number of neurons in the pooled recording than in all recordings; scans of another
        number, or of fewer neurons than their recordings.

    References
    ----------
    The twin paper, Table 1, where the numbers of the last row stand one column too far left.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import Recording
    >>> from fastvis.twin import pool_recordings, summary_table
    >>> images, tiers = np.arange(18.0).reshape(2, 3, 3), ["train", "test", "test"]
    >>> pair = [Recording(images, np.ones((3, n)), [0, 1, 1], tiers) for n in (3, 4)]
    >>> print(summary_table(pair, pool_recordings(pair)))
    | Animal | Neurons | Train images | Validation images | Test images | Test trials |
    | --- | --- | --- | --- | --- | --- |
    | 1 | 3 | 1 | 0 | 1 | 2 |
    | 2 | 4 | 1 | 0 | 1 | 2 |
    | Pooled | 7 | 1 | 0 | 1 | 2 |
    """
    recordings = check_recordings(recordings, ())
    sizes = [recording.n_neurons for recording in recordings]
    if pooled is not None:
        [pooled] = check_recordings([pooled], ())
        if pooled.n_neurons != sum(sizes):
            raise ValueError(
                f"pooled must have all {sum(sizes)} neurons of the recordings; got "
                f"{pooled.n_neurons}."
            )
    names = ["Neurons", "Train images", "Validation images", "Test images", "Test trials"]
    keys = ["n_neurons", "train_images", "validation_images", "test_images", "test_trials"]
    summaries = [r.summary() for r in (*recordings, pooled) if r is not None]
    table = [[summary[key] for key in keys] for summary in summaries]
    if n_scanned is not None:
        scanned = [check_int(n, "n_scanned", minimum=1) for n in n_scanned]
        if len(scanned) != len(sizes) or any(n < size for n, size in zip(scanned, sizes)):
            raise ValueError(
                f"n_scanned must be {len(sizes)} numbers of neurons, of which there are samples "
                f"of {sizes}; got {scanned}."
            )
        names = ["Neurons in the scan", "Sampled neurons", *names[1:]]
        table = [[n, *row] for n, row in zip([*scanned, sum(scanned)], table)]
    labels = [*range(1, len(sizes) + 1), "Pooled"]
    rows = [["Animal", *names], ["---"] * (len(names) + 1)]
    rows += [[label, *row] for label, row in zip(labels, table)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _pixels(image):
    """The same for images that are equal, and only for them; minus zero is zero."""
    return sha256((image + np.float32(0)).tobytes()).digest()


def _by_name(recording, names):
    """Trials of each image, as they were shown."""
    trials = defaultdict(list)
    for trial, i in enumerate(recording.image_ids):
        trials[names[i]].append(trial)
    return trials


def _common(recordings, names, pixels, trials):
    """Names (n_images,) of images that all have shown, in the same one tier; and these tiers.

    No image is in another tier, by its name or by its pixels, in any recording.
    """
    common = [name for name in trials[0] if all(name in of_one for of_one in trials)]
    if not common:
        raise ValueError(
            f"recordings must have images in common; got none of "
            f"{', '.join(str(len(of_one)) for of_one in trials)}. If the same images have other "
            "pixels, say by image_ids which they are."
        )
    tiers, looks = defaultdict(set), defaultdict(set)
    for recording, of_image, hashes in zip(recordings, names, pixels):
        for i, tier in zip(recording.image_ids, recording.tiers.tolist()):
            looks[of_image[i]].add(hashes[i])
            tiers[of_image[i]].add(tier)
            tiers[hashes[i]].add(tier)
    kept = [n for n in common if all(len(tiers[key]) == 1 for key in (n, *looks[n]))]
    n_left_out = len(common) - len(kept)
    if not any("train" in tiers[name] for name in kept):
        raise ValueError(
            f"recordings must have training images in common; got none of {len(common)} common "
            f"images, {n_left_out} of which are in several tiers. Give an image the same tier in "
            "all recordings."
        )
    if n_left_out:
        warnings.warn(
            f"{n_left_out} of {len(common)} common images are left out: they are in several tiers. "
            "Give an image the same tier in all recordings.",
            stacklevel=3,
        )
    return kept, np.array([next(iter(tiers[name])) for name in kept])


def _most_frequent(counts):
    values, n = np.unique(counts, return_counts=True)
    return values[n == n.max()][-1]


def _check_names(image_ids, recordings, pixels):
    """Names of the images of each recording: lists."""
    image_ids = [np.asarray(ids) for ids in image_ids]
    shapes = [ids.shape for ids in image_ids]
    expected = [(len(recording.images),) for recording in recordings]
    if shapes != expected or any(ids.dtype.kind not in "iuU" for ids in image_ids):
        raise ValueError(
            f"image_ids must be integers or strings, for each recording of shape {expected}; got "
            f"{shapes}, of dtype {', '.join(str(ids.dtype) for ids in image_ids)}."
        )
    names = [ids.tolist() for ids in image_ids]
    for i, (of_image, hashes) in enumerate(zip(names, pixels)):
        if len(set(zip(of_image, hashes))) > len(set(of_image)):
            raise ValueError(
                f"image_ids must be of one image each; got one id for different images of "
                f"recording {i}."
            )
    return names

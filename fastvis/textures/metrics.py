"""How good is a synthesized texture? Measures that need no trained network.

=====================  ===================================================  =============
heldout_gram_error     statistics of random filters that were not matched   0 is best
spectrum_error         power at each spatial frequency                      0 is best
color_distance         joint distribution of the colors                     0 is best
novelty                is it more than a copy of the reference?             0 is a copy
diversity              do several samples differ, other than by a shift?    0 is no
=====================  ===================================================  =============
"""

import numpy as np
import scipy.fft

from .._random import check_rng
from .._validation import check_image, check_int
from .bank import FilterBank
from .model import GramModel
from .patches import check_images, sample_patches

_QUANTIZATION_POWER = 1 / 255**2 / 12
"""Variance of rounding to 8 bits: spectra are not compared below it."""

_CONSTANT_SD = 1e-5
"""Patches of a smaller standard deviation count as constant; one 8-bit step in 3072 has 7e-5."""

_N_DIRECTIONS = 64


def heldout_gram_error(image, reference, *, sizes=(3, 5, 7, 11, 15, 23), n_maps=32, rng=0):
    """Relative error of the Gram matrix under random filters that the synthesis did not match.

    Eq (5) for a bank of its own, the reference's channel means subtracted, padding by reflection.
    A model that only fits its own filters has a small loss but a large held-out error.

    Parameters
    ----------
    image, reference : array_like, (H, W, C) or (H, W)
        Values in [0, 1], the same number of channels; sizes may differ. uint8 is divided by 255.
    sizes, n_maps
        Of the bank: see `FilterBank.random`.
    rng : None, int or numpy.random.Generator
        The filters are drawn from a stream spawned from it, so that no seed gives the filters
        that `FilterBank.random` makes from the same seed. Errors compare for one seed only.

    Returns
    -------
    float
        ``sum((G(reference) - G(image))**2) / sum(G(reference)**2)``, at least 0.

    Raises
    ------
    ValueError
        Different channel counts, a constant reference.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2017, eq (5).

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import metrics
    >>> image = np.random.default_rng(0).random((24, 24, 3))
    >>> metrics.heldout_gram_error(image, image, sizes=(3, 5), n_maps=4)
    0.0
    """
    image, reference = _check_pair(image, reference)
    if not np.ptp(reference, axis=(0, 1)).any():
        raise ValueError("reference must not be constant: the error is relative to its contrast.")
    dtype = np.result_type(image, reference)
    channels = reference.shape[2]
    bank = FilterBank.random(sizes, n_maps, channels, check_rng(rng).spawn(1)[0], dtype)
    mean = reference.mean(axis=(0, 1), dtype=np.float64)
    model = GramModel(bank, padding="reflect", mean=mean)
    return model.loss(image.astype(dtype), model.gram(reference.astype(dtype)))


def spectrum_error(image, reference):
    """Mean absolute log10 ratio of the radial power spectra.

    Each channel minus its mean is multiplied by a Hann window. The power density
    ``abs(FFT)**2 / sum(window**2)``, plus the power of rounding to 8 bits, ``1 / 255**2 / 12``, is
    averaged over rings of radial frequency, between 2 / s and 0.5 cycles per pixel, where s is the
    shortest side of both images; there are ``min(16, s // 4)`` rings of equal width. The result
    is the mean over rings and channels of ``abs(log10(P_image / P_reference))``.

    Parameters
    ----------
    image, reference : array_like, (H, W, C) or (H, W)
        Values in [0, 1], the same number of channels; sizes may differ. uint8 is divided by 255.
        At least 8 x 8 pixels.

    Returns
    -------
    float
        0 for equal spectra; 1 for a factor of ten at all frequencies; symmetric.

    Raises
    ------
    ValueError
        Different channel counts, images smaller than 8 x 8.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import metrics
    >>> noise = np.random.default_rng(0).random((64, 64))
    >>> round(metrics.spectrum_error(0.1 * noise, noise), 2)  # 0.1 ** 2 of the power
    2.00
    """
    image, reference = _check_pair(image, reference)
    shortest = min(image.shape[:2] + reference.shape[:2])
    if shortest < 8:
        raise ValueError(
            "image and reference must be at least 8 x 8 pixels; got "
            f"{image.shape[:2]} and {reference.shape[:2]}."
        )
    edges = np.linspace(2 / shortest, 0.5, min(16, shortest // 4) + 1)
    spectra = [_radial_power(x, edges) + _QUANTIZATION_POWER for x in (image, reference)]
    return float(np.mean(np.abs(np.log10(spectra[0] / spectra[1]))))


def color_distance(image, reference):
    """Sliced Wasserstein distance between the colors of two images.

    The mean, over 64 fixed directions in color space, of the Wasserstein-1 distance between the
    projections of all pixels. One channel: the Wasserstein-1 distance of the gray values. Where
    a color stands does not matter.

    Parameters
    ----------
    image, reference : array_like, (H, W, C) or (H, W)
        Values in [0, 1], the same number of channels; sizes may differ. uint8 is divided by 255.

    Returns
    -------
    float
        At least 0, in units of the pixel values; symmetric. A shift of all RGB colors by a vector
        of length d gives about d / 2, of gray values exactly d.

    Raises
    ------
    ValueError
        Different channel counts.

    References
    ----------
    Bonneel, Rabin, Peyre, Pfister, "Sliced and Radon Wasserstein barycenters of measures",
    J. Math. Imaging Vis. 51, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import metrics
    >>> noise = np.random.default_rng(0).random((32, 32))
    >>> round(metrics.color_distance(noise + 0.1, noise[:, ::-1]), 6)
    0.1
    """
    image, reference = _check_pair(image, reference)
    colors = [x.reshape(-1, x.shape[2]).astype(np.float64) for x in (image, reference)]
    i, j, mass = _quantile_steps(len(colors[0]), len(colors[1]))
    total = 0.0
    directions = _directions(colors[0].shape[1])
    for direction in directions:
        a, b = (np.sort(x @ direction) for x in colors)
        total += mass @ np.abs(a[i] - b[j])
    return float(total / len(directions))


def novelty(image, reference, *, size=32, n_patches=64, rng=0):
    """How little the patches of an image resemble any place of the reference.

    1 minus the mean, over patches of the image, of the largest normalized cross-correlation with
    any place in the reference. Patches are compared after subtracting each channel's mean and
    dividing by the norm over all channels, so that brightness, tint and contrast do not count.

    Parameters
    ----------
    image, reference : array_like, (H, W, C) or (H, W)
        Values in [0, 1], the same number of channels; sizes may differ. uint8 is divided by 255.
    size : int
        Height and width of the patches, in pixels, at least 2.
    n_patches : int
        Patches drawn at random places of the image.
    rng : None, int or numpy.random.Generator
        Draws the places.

    Returns
    -------
    float
        In [0, 2]: 0 if every patch is a copy of a place in the reference, about 1 if nothing
        resembles it.

    Raises
    ------
    ValueError
        Different channel counts, patches larger than one of the images.

    Notes
    -----
    Every place of the reference is tried, by FFT in float64. A patch is constant if its standard
    deviation, after subtracting each channel's mean, is under 1e-5; the correlation of two constant
    patches is 1, of a constant patch with another 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import metrics
    >>> reference = np.random.default_rng(0).random((40, 40))
    >>> copy = 0.5 * np.roll(reference, 8, axis=0)[8:] + 0.2
    >>> abs(round(metrics.novelty(copy, reference, size=8), 6))
    0.0
    """
    image, reference = _check_pair(image, reference)
    size = check_int(size, "size", minimum=2)
    if size > min(image.shape[:2] + reference.shape[:2]):
        raise ValueError(
            f"size must be at most the shortest side of image and reference; got {size} for "
            f"{image.shape[:2]} and {reference.shape[:2]}. Use smaller patches."
        )
    n_patches = check_int(n_patches, "n_patches", minimum=1)
    patches = sample_patches([image], size, n_patches, rng).astype(np.float64)
    patches, constant = _normalized(patches)
    reference = reference - reference.mean(axis=(0, 1), dtype=np.float64)
    norms = _window_norms(reference, size)
    flat = norms <= _CONSTANT_SD * np.sqrt(size * size * reference.shape[2])
    shape = [scipy.fft.next_fast_len(n, real=True) for n in reference.shape[:2]]
    spectrum = scipy.fft.rfft2(reference, shape, axes=(0, 1))
    largest = np.where(constant, float(flat.any()), 0.0)
    for k in np.flatnonzero(~constant):
        places = _correlate(spectrum, scipy.fft.rfft2(patches[k], shape, axes=(0, 1)), shape)
        places = places[: norms.shape[0], : norms.shape[1]]
        largest[k] = np.max(np.divide(places, norms, out=np.zeros_like(places), where=~flat))
    return float(1 - np.clip(largest, -1, 1).mean())


def diversity(samples):
    """How much several samples of a texture differ, whatever the shift between them.

    The mean over all pairs of 1 minus the largest normalized cross-correlation over all cyclic
    shifts: copies that are shifted around the borders count as equal. Before, each channel's mean
    is subtracted, and each sample divided by its norm over all channels.

    Parameters
    ----------
    samples : sequence of (H, W) or (H, W, C) arrays of one shape, or stack (n, H, W, C)
        At least two. uint8 is divided by 255.

    Returns
    -------
    float
        In [0, 1]: 0 if all samples are equal up to shifts, brightness and contrast; close to 1
        if they have nothing in common.

    Raises
    ------
    ValueError
        Fewer than two samples, different shapes.

    Notes
    -----
    A sample is constant if its standard deviation, after subtracting each channel's mean, is
    under 1e-5; the correlation of two constant samples is 1, of a constant sample with another 0.
    The mean correlation over all shifts is 0, hence the largest is never below it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import metrics
    >>> x, y = np.random.default_rng(0).random((2, 64, 64))
    >>> abs(round(metrics.diversity([x, np.roll(x, (5, -9), axis=(0, 1))]), 6))
    0.0
    >>> metrics.diversity([x, y]) > 0.9
    True
    """
    samples = check_images(samples, "samples")
    if len(samples) < 2:
        raise ValueError(f"samples must hold at least 2 images; got {len(samples)}.")
    shapes = sorted({x.shape for x in samples})
    if len(shapes) > 1:
        raise ValueError(f"samples must all have the same shape; got {shapes}. Crop them first.")
    samples, constant = _normalized(np.array(samples, dtype=np.float64))
    shape = samples.shape[1:3]
    spectra = scipy.fft.rfft2(samples, axes=(1, 2))
    differences = []
    for a in range(len(samples)):
        for b in range(a):
            if constant[a] or constant[b]:
                largest = float(constant[a] and constant[b])
            else:
                largest = _correlate(spectra[a], spectra[b], shape).max()
            differences.append(1 - np.clip(largest, 0, 1))
    return float(np.mean(differences))


def _check_pair(image, reference):
    reference = check_image(reference, "reference")
    return check_image(image, channels=reference.shape[2]), reference


def _radial_power(x, edges):
    """Power density averaged over rings of radial frequency, ``(len(edges) - 1, C)``."""
    # Hann windows, sampled at the centers of pixels: none has weight zero
    rows, columns = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in x.shape[:2])
    window = np.multiply.outer(rows, columns)[:, :, None]
    x = x - x.mean(axis=(0, 1), dtype=np.float64)
    power = np.abs(scipy.fft.fft2(window * x, axes=(0, 1))) ** 2 / np.sum(window**2)
    frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, x.shape[:2]), indexing="ij")).ravel()
    n_rings = len(edges) - 1
    ring = np.searchsorted(edges, frequency, side="right") - 1
    ring[frequency == edges[-1]] = n_rings - 1
    inside = (ring >= 0) & (ring < n_rings)
    ring, power = ring[inside], power.reshape(-1, x.shape[2])[inside]
    sums = [np.bincount(ring, p, minlength=n_rings) for p in power.T]
    return np.array(sums).T / np.bincount(ring, minlength=n_rings)[:, None]


def _directions(channels):
    """Unit vectors, the same for every call: ``(64, C)``, or the one direction of gray values."""
    if channels == 1:
        return np.ones((1, 1))
    directions = np.random.default_rng(0).standard_normal((_N_DIRECTIONS, channels))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _quantile_steps(m, n):
    """Where the quantile functions of m and n sorted values are constant.

    Returns the indices i, j of the values on each piece of [0, 1], and the length of the piece.
    """
    cuts = np.union1d(np.arange(m + 1) * n, np.arange(n + 1) * m)  # in units of 1 / (m n)
    return cuts[:-1] // n, cuts[:-1] // m, np.diff(cuts) / (m * n)


def _normalized(images):
    """Stack of images of zero mean in each channel and unit norm; and which are constant."""
    images = images - images.mean(axis=(1, 2), keepdims=True)
    norms = np.sqrt(np.sum(images**2, axis=(1, 2, 3), keepdims=True))
    constant = norms <= _CONSTANT_SD * np.sqrt(images[0].size)
    return images / np.where(constant, 1, norms), constant.ravel()


def _window_norms(x, size):
    """Norm over all channels of each window of x, less its channel means, ``(H', W')``."""
    square = np.sum(_window_sums(x**2, size), axis=2)
    mean = np.sum(_window_sums(x, size) ** 2, axis=2) / size**2
    return np.sqrt(np.maximum(square - mean, 0))


def _window_sums(x, size):
    """Sums over all ``size x size`` windows."""
    for axis in (0, 1):
        sums = np.cumsum(x, axis=axis)
        first = np.zeros_like(np.take(sums, [0], axis=axis))
        sums = np.concatenate([first, sums], axis=axis)
        n = sums.shape[axis]
        x = np.take(sums, range(size, n), axis=axis) - np.take(sums, range(n - size), axis=axis)
    return x


def _correlate(a, b, shape):
    """Cyclic cross-correlation summed over channels, from two spectra ``(.., .., C)``."""
    return scipy.fft.irfft2(np.einsum("ijc,ijc->ij", a, b.conj()), shape)

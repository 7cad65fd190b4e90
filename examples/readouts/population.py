"""A simulated population with known types, on features that come in eight orientations.

In place of the paper's network and recording: sixteen features of an image patch, each in eight
orientations (channel o is the filter turned counter-clockwise by 2 pi o / 8), read out at the
center pixel, and neurons whose readouts are those of about thirty types, turned by any angle, with
noise. Each feature comes twice, with nearly the same filters, so that several types compute nearly
the same function in different ways: the *redundant* features of section 5.2.
"""

from dataclasses import dataclass

import numpy as np
from skimage import data
from skimage.transform import downscale_local_mean

from fastvis.readouts import (
    Blocks,
    ClusterConfusion,
    Clustering,
    RotationAligner,
    cluster,
    cluster_confusion,
    fourier_rotation,
    merge_blocks,
)

N_ORIENTATIONS, SIZE = 8, 32
N_TYPES = 30
N_NEURONS, N_NEURONS_PAPER = 1500, 6005
LENGTH = 10.0  # of image patches, and of optimal images

# wavelength, sigma across and along the stripes, phase, distance of the center from the middle of
# the image (across the stripes, in pixels), energy or rectified
KINDS = (
    (6, 2.2, 3.5, 90, 0, "rectified"),
    (16, 5.0, 6.5, 90, 0, "rectified"),
    (8, 2.2, 6.0, 0, 3, "rectified"),
    (14, 3.5, 6.0, 180, 5, "rectified"),
    (5, 3.0, 4.0, 0, 0, "energy"),
    (15, 6.0, 6.5, 0, 0, "energy"),
    (24, 5.0, 5.0, 0, 0, "rectified"),
    (10, 2.2, 2.2, 0, 6, "rectified"),
    (8.5, 4.0, 5.0, 0, 0, "energy"),
    (6, 2.5, 2.5, 0, 8, "energy"),
)
N_TWICE = 6  # of them, the first ones, have a second copy
COPY = 1.08  # size of the copy


def _filter(kind, scale, orientation, quadrature):
    """One filter, (SIZE, SIZE), of length 1 and mean about 0."""
    wavelength, across, along, phase, shift, _ = kind
    rows, columns = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    x, y = columns, -rows  # counter-clockwise on the screen
    c, s = np.cos(orientation), np.sin(orientation)
    u, v = (c * x + s * y) / scale - shift, (c * y - s * x) / scale
    envelope = np.exp(-((u / across) ** 2) / 2 - (v / along) ** 2 / 2)
    wave = np.cos(2 * np.pi * u / wavelength + np.radians(phase) + quadrature)
    image = envelope * (wave - (envelope * wave).sum() / envelope.sum())
    return image / np.linalg.norm(image)


class Core:
    """Features of image patches at their center, and neurons that read them out."""

    def __init__(self):
        turns = 2 * np.pi * np.arange(N_ORIENTATIONS) / N_ORIENTATIONS
        copies = [(kind, 1) for kind in KINDS] + [(kind, COPY) for kind in KINDS[:N_TWICE]]
        self.n_features = len(copies)
        self.even, self.odd = (
            np.array([_filter(*copy, turn, phase) for copy in copies for turn in turns])
            .reshape(len(copies) * N_ORIENTATIONS, -1)
            .astype(np.float32)
            for phase in (0, np.pi / 2)
        )
        self.energy = np.repeat([kind[-1] == "energy" for kind, _ in copies], N_ORIENTATIONS)
        self.odd[~self.energy] = 0
        # as by batch norm: features vary equally, over patches and orientations
        spread = self.features(natural_patches(2000)).std(axis=(0, 2))
        gain = np.repeat(1 / spread, N_ORIENTATIONS)[:, None]
        self.even, self.odd = gain * self.even, gain * self.odd

    def channels(self, images):
        """(n, n_features * N_ORIENTATIONS) of images (n, SIZE, SIZE), and their slopes by the
        responses of both filters."""
        x = np.reshape(images, (len(images), -1))
        even, odd = x @ self.even.T, x @ self.odd.T
        length = np.sqrt(even**2 + odd**2 + 1e-12)
        on = self.energy | (even > 0)
        return on * length, on * even / length, on * odd / length

    def features(self, images):
        """(n, n_features, N_ORIENTATIONS)."""
        return self.channels(images)[0].reshape(len(images), self.n_features, N_ORIENTATIONS)

    def activities(self, images, readouts):
        """Predicted responses (n_images, n_neurons): softplus of what is read out."""
        flat = np.reshape(readouts, (len(readouts), -1)).astype(np.float32)
        return np.logaddexp(0, self.channels(images)[0] @ flat.T)

    def meis(self, readouts, n_steps=150, n_starts=3, rng=0):
        """Maximally exciting images (n_neurons, SIZE, SIZE) of length LENGTH.

        Gradient ascent on what is read out, of which the response is a growing function, with
        smaller and smaller steps on the sphere; the best of several starts.
        """
        rng = np.random.default_rng(rng)
        flat = np.reshape(readouts, (len(readouts), -1)).astype(np.float32)
        best, highest = None, np.full(len(flat), -np.inf)
        for _ in range(n_starts):
            # within the span of the filters that excite
            start = flat.clip(0) * rng.uniform(size=flat.shape)
            sign = rng.choice([-1, 1], size=flat.shape)
            x = (start * np.where(self.energy, sign, 1)) @ self.even
            x = x.astype(np.float32) + rng.normal(size=x.shape).astype(np.float32) * 1e-3
            for step in range(n_steps):
                x *= LENGTH / np.linalg.norm(x, axis=1, keepdims=True)
                _, d_even, d_odd = self.channels(x)
                slope = (flat * d_even) @ self.even + (flat * d_odd) @ self.odd
                slope /= np.linalg.norm(slope, axis=1, keepdims=True)
                x += 0.5 * LENGTH * (1 - step / n_steps) * slope
            x *= LENGTH / np.linalg.norm(x, axis=1, keepdims=True)
            reached = np.einsum("nk,nk->n", self.channels(x)[0], flat)
            better = reached > highest
            best = x if best is None else np.where(better[:, None], x, best)
            highest = np.maximum(highest, reached)
        return best.reshape(-1, SIZE, SIZE)


def natural_patches(n, rng=0):
    """Patches (n, SIZE, SIZE) of whitened photographs that scikit-image carries, turned at random.

    Mean 0 and length LENGTH under a round window: correlations are about structure, not contrast.
    """
    rng = np.random.default_rng(rng)
    loaders = (
        data.camera,
        data.astronaut,
        data.chelsea,
        data.coffee,
        data.brick,
        data.gravel,
        data.grass,
        data.rocket,
    )
    photographs = [_whitened(load()) for load in loaders]
    rows, columns = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    window = np.exp(-(rows**2 + columns**2) / (2 * (SIZE / 4) ** 2))
    patches = np.empty((n, SIZE, SIZE), np.float32)
    for i in range(n):
        image = photographs[i % len(photographs)]
        top, left = (rng.integers(length - SIZE + 1) for length in image.shape)
        patch = np.rot90(image[top : top + SIZE, left : left + SIZE], rng.integers(4))
        patch = window * (patch - (window * patch).sum() / window.sum())
        patches[i] = LENGTH * patch / np.linalg.norm(patch)
    return patches


def _whitened(photograph):
    """The logarithm of the luminance at half the size, with a flat spectrum up to a cutoff."""
    image = photograph if photograph.ndim == 2 else photograph.mean(axis=-1)
    image = np.log(10 + downscale_local_mean(image, (2, 2)))
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    gain = frequency * np.exp(-((frequency / 0.3) ** 4))
    return np.fft.irfft2(gain * np.fft.rfft2(image), image.shape)


@dataclass(frozen=True)
class Population:
    """Simulated neurons.

    readouts, clean (n, n_features, N_ORIENTATIONS): with and without noise; labels (n,): types;
    angles (n,); types (N_TYPES, n_features, N_ORIENTATIONS); functions (N_TYPES,): which types
    compute nearly the same; scores (n,): how well neurons are predicted, the correlation over
    natural patches between the responses with and without noise.
    """

    core: Core
    readouts: np.ndarray
    clean: np.ndarray
    labels: np.ndarray
    angles: np.ndarray
    types: np.ndarray
    functions: np.ndarray
    scores: np.ndarray

    def __len__(self):
        return len(self.readouts)


def _bump(center):
    """A tuning curve over orientation with suppression across: waves 0 to 3, so turned exactly."""
    theta = 2 * np.pi * np.arange(N_ORIENTATIONS) / N_ORIENTATIONS
    return sum(c * np.cos(m * (theta - center)) for m, c in enumerate((0.12, 0.3, 0.34, 0.24)))


def make_types(rng):
    """Types (N_TYPES, n_features, N_ORIENTATIONS), and the function of each, (N_TYPES,).

    A function excites by one kind of features, a little by a second, and is suppressed by a third;
    its types take one or the other copy of each.
    """
    functions = np.arange(N_TYPES) % len(KINDS)
    types = np.zeros((N_TYPES, len(KINDS) + N_TWICE, N_ORIENTATIONS))
    for first in range(len(KINDS)):
        others = rng.permutation([kind for kind in range(N_TWICE) if kind != first])[:2]
        kinds = np.array([first, *others])
        weights = (1.0, rng.uniform(0.3, 0.6), -rng.uniform(0.3, 0.6))
        centers = rng.uniform(0, 2 * np.pi, 3)
        ways = [kinds + len(KINDS) * np.array(copy) for copy in np.ndindex(2, 2, 2)]
        ways = [way for way in ways if way.max() < types.shape[1]]
        members = np.flatnonzero(functions == first)
        for member, way in zip(members, rng.permutation(ways)):
            for feature, weight, center in zip(way, weights, centers):
                types[member, feature] = weight * _bump(center)
    return 3 * types / np.linalg.norm(types, axis=(1, 2), keepdims=True), functions


def make_population(full=False, noise=0.15, rng=7):
    """1500 neurons of thirty types, or as many as the paper has.

    Noise differs between neurons: its standard deviation is ``noise``, times or divided by 1.15.
    """
    rng = np.random.default_rng(rng)
    core = Core()
    types, functions = make_types(rng)
    n = N_NEURONS_PAPER if full else N_NEURONS
    labels = rng.permutation(np.arange(n) % N_TYPES)
    angles = rng.uniform(0, 2 * np.pi, n)
    clean = fourier_rotation(types[labels], -angles)
    sigma = noise * np.exp(np.log(1.15) * rng.normal(size=(n, 1, 1)))
    readouts = clean + sigma * rng.normal(size=clean.shape)
    images = natural_patches(500, rng=1)
    with_noise, without = core.activities(images, readouts), core.activities(images, clean)
    scores = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(with_noise.T, without.T)])
    return Population(core, readouts, clean, labels, angles, types, functions, scores)


@dataclass(frozen=True)
class Analysis:
    """From readouts to clusters to blocks: what the figures are about."""

    population: Population
    aligner: RotationAligner
    clusters: Clustering
    confusion: ClusterConfusion
    blocks: Blocks

    def best(self, cluster, n=16):
        """The best-predicted neurons of a cluster."""
        members = np.flatnonzero(self.clusters.labels == cluster)
        return members[np.argsort(-self.population.scores[members])][:n]

    def one_of(self, block, blocks=None):
        """The largest cluster of a block."""
        return int(np.flatnonzero((blocks or self.blocks).labels == block)[0])


def analyze(full=False):
    """Simulate, align, cluster, and merge clusters into blocks at a correlation of 0.5."""
    population = make_population(full)
    aligner = RotationAligner(n_orientations=N_ORIENTATIONS, rng=0).fit(population.readouts)
    clusters = cluster(aligner.aligned_, N_TYPES, n_seeds=1, n_init=20, rng=0)
    images = natural_patches(2000, rng=2)
    confusion = cluster_confusion(
        lambda readouts: population.core.activities(images, readouts),
        clusters.labels,
        aligner.aligned_,
    )
    return Analysis(population, aligner, clusters, confusion, merge_blocks(confusion))

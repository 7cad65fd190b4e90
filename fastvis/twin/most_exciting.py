"""Most exciting images of neurons, and of clusters of them; imports torch.

Gradient ascent of all neurons together, each image by itself: what an image becomes depends on its
neuron and the seed, not on what else is in the batch. Neurons of our own model see patches about
their receptive fields instead of images (`receptive_fields`), which is what makes it fast.
"""

from dataclasses import dataclass
from functools import partial

import joblib
import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from .._random import check_rng
from .._validation import check_array, check_choice, check_float, check_int
from ..readouts.arguments import check_labels
from .core import LAPLACIAN
from .hermite import hermite_basis, rotate_coefficients
from .receptive_fields import ReceptiveFields, inside
from .responding import Responder, check_responses

NORM = 12.0  # L2, in units of z-scored luminance
TINY = 1e-12

# Ecker et al.
LEARNING_RATE = 1.0
ECKER_WHITENING = 0.25  # exponent, of squared frequencies
SMOOTHING, PATIENCE = 0.9, 100  # of the objective; iterations
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam

# Walker et al.
WALKER_WHITENING = 0.1
STEPS, STEP_UNIT = (3.0, 0.125), 0.1 / 255  # the mean change of a pixel, first to last
START, START_DEVIATION, WHITE = 128.0, 8.0, 255.0  # in pixel units

DEFAULTS = {"ecker": (8, 2000, NORM), "walker": (1, 1000, None)}  # starts, iterations, norm

# Clusters
CLUSTER_LEARNING_RATE = 0.3
TURN_EVERY = 10  # iterations
MOST_SIDE = 21  # of stimuli for models that are not ours


@dataclass(frozen=True, eq=False, repr=False)
class MEIs:
    """Most exciting images.

    Parameters
    ----------
    images : ndarray, (n_neurons, H, W), float32
        Z-scored luminance.
    responses : ndarray, (n_neurons,), float64
        Of each neuron of the whole model to its own image.
    neurons : ndarray of int, (n_neurons,)
        Which ones of the model.
    n_iter : ndarray of int, (n_neurons,)
        Iterations of the start that was best.
    """

    images: np.ndarray
    responses: np.ndarray
    neurons: np.ndarray
    n_iter: np.ndarray

    def __repr__(self):
        n, height, width = self.images.shape
        return f"MEIs({n} neurons, {height} x {width}; mean response {self.responses.mean():.3g})"


@dataclass(frozen=True, eq=False, repr=False)
class ClusterMEIs:
    """Most exciting images of clusters, shown to each neuron at its place and turned for it.

    Parameters
    ----------
    images : ndarray, (n_clusters, side, side), float32
        Z-scored luminance. NaN where a cluster has no neurons, here and in what follows.
    coefficients : ndarray, (n_clusters, n_basis), float64
        In the polar Hermite basis, beta of (4).
    angles : ndarray, (n_neurons,)
        Radians, counter-clockwise, by which the image is turned for a neuron. Those of a cluster
        are defined up to a common one, by which the image could be turned instead. NaN for
        neurons of no cluster.
    responses : ndarray, (n_neurons,), float64
        Of each neuron of the whole model to its own version, (8). NaN for neurons of no cluster.
    """

    images: np.ndarray
    coefficients: np.ndarray
    angles: np.ndarray
    responses: np.ndarray

    def __repr__(self):
        n, side, _ = self.images.shape
        mean = np.nanmean(self.responses)
        return f"ClusterMEIs({n} clusters, {side} x {side}; mean response {mean:.3g})"


def meis(
    model, neurons=None, *, recipe="ecker", size=None, crop=True, n_starts=None, max_iter=None,
    norm=None, smoothness=0.005, blur=(1.5, 0.01), pixel_mean=111.0, pixel_deviation=61.0,
    batch_size=None, n_jobs=None, progress=False, rng=None,
):  # fmt: skip
    """Images that excite neurons the most, (3).

    Parameters
    ----------
    model : EncodingModel or torch.nn.Module
        Modules take z-scored tensors (n, 1, H, W) to responses (n, n_neurons). Evaluated as outside
        training; left as it was.
    neurons : int or array_like of int, (n_neurons,), optional
        By default all.
    recipe : {"ecker", "walker"}
        "ecker": from noise, Adam on the response minus roughness of an image of fixed norm.
        "walker": from gray with a little noise, normalized steps that become smaller, clipped to
        the range of the display, blurred less and less. See Notes.
    size : int or tuple (H, W), optional
        Of images, for a model that is not ours.
    crop : bool
        Only for our own models, of a `RotationEquivariantCore` and a readout with known places:
        optimize the patch that a neuron sees, on an image that is 0 elsewhere. False: the image.
    n_starts : int, optional
        For each neuron, of which the best one counts; by default 8 for "ecker", 1 for "walker".
    max_iter : int, optional
        By default 2,000 for "ecker", which stops before when the objective does not rise any more;
        1,000 for "walker", which makes them all.
    norm : float, optional
        L2 norm, in z units. "ecker": that of all images, by default 12. "walker": the largest, to
        which images are scaled down; by default none, as pixels are bounded.
    smoothness : float
        "ecker": weight of the energy of the image after a Laplacian, at least 0.
    blur : tuple of two floats, or None
        "walker": standard deviation of the blur, pixels, at the first and the last iteration.
    pixel_mean, pixel_deviation : float
        "walker": of the luminances that were z-scored, in a range from 0 to 255. The defaults
        are typical of gray photographs.
    batch_size : int, optional
        Neurons at once; by default as many as take about a gigabyte.
    n_jobs : int, optional
        Batches at a time, as in `joblib.Parallel`, on any backend that is set there.
    progress : bool
        Show a bar over batches.
    rng : None, int or numpy.random.Generator
        Of the starts. The noise of a neuron follows from one number drawn here and its index.

    Returns
    -------
    MEIs

    Raises
    ------
    TypeError
        A model that has no gradients: neither a module nor fitted; arguments of another kind.
    ValueError
        A missing size, neurons that are not there, options out of range, responses of the model
        that are not finite.

    Notes
    -----
    (3) with an L2 norm for its penalty keeps no image smooth, and without one has no maximum: the
    norm is fixed instead. "ecker": gradients are whitened by 1 / sqrt(frequency), Adam has a rate
    of 1, and an image is done when its objective, smoothed by 0.9, has not risen for 100
    iterations. "walker": gradients are whitened by frequency^-0.2, and pixels change by 3 to 0.125
    times 0.1 / 255 on average over the image, of the image's own gradient (the published code
    divides by the mean over the batch). Adam comes to rest at an optimum whatever the whitening;
    "walker" ends on its way, or where norm or range stop the whitened gradient: smoother than an
    optimum is. Frequencies are those of the patch or image.

    A neuron that is silent for all starts has no gradient to climb: see its response.

    With `crop`, weights of places below 1 % of a neuron's largest do not make its window; what they
    add is in `MEIs.responses`, not in what is climbed. Without the penalty both ways lead to the
    same images. With it a weak neuron's whole image has part of its norm where the neuron sees
    nothing, as a patch has not.

    References
    ----------
    'Digital twin reveals combinatorial code of non-linear computations in the mouse primary visual
    cortex', Methods, (3). "ecker": Ecker et al., ICLR 2019, and Ustyuzhaninov et al., ICLR 2020.
    "walker": Walker et al., Nature Neuroscience 2019.

    Examples
    --------
    >>> import torch
    >>> from fastvis.twin import gabor
    >>> from fastvis.twin.most_exciting import meis
    >>> filters = torch.tensor(gabor(15, sigma=2.0, frequency=[0.1, 0.2])).flatten(1)
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(225, 2), torch.nn.ReLU())
    >>> _ = model[1].weight.data.copy_(filters)
    >>> best = meis(model, size=15, max_iter=100, smoothness=0.0, rng=0)
    >>> torch.cosine_similarity(torch.tensor(best.images).flatten(1), filters) > 0.99
    tensor([True, True])
    """
    fields = ReceptiveFields(model, size, crop)
    neurons = _check_neurons(neurons, fields.n_neurons)
    check_choice(recipe, "recipe", DEFAULTS)
    defaults = DEFAULTS[recipe]
    n_starts = check_int(defaults[0] if n_starts is None else n_starts, "n_starts", minimum=1)
    max_iter = check_int(defaults[1] if max_iter is None else max_iter, "max_iter", minimum=1)
    norm = defaults[2] if norm is None else check_float(norm, "norm", minimum=0, strict=True)
    smoothness = check_float(smoothness, "smoothness", minimum=0)
    sigmas = _check_blur(blur, max_iter)
    unit = (
        check_float(pixel_mean, "pixel_mean", minimum=0, maximum=WHITE),
        check_float(pixel_deviation, "pixel_deviation", minimum=0, strict=True),
    )
    climb = partial(_ecker, norm=norm, smoothness=smoothness, max_iter=max_iter)
    if recipe == "walker":
        climb = partial(_walker, norm=norm, sigmas=sigmas, unit=unit, max_iter=max_iter)
    if batch_size is not None:
        batch_size = check_int(batch_size, "batch_size", minimum=1)
    seed = int(check_rng(rng).integers(2**63))
    chunks = fields.chunks(neurons, n_starts, batch_size)
    with fields.frozen():
        found = joblib.Parallel(n_jobs)(
            joblib.delayed(_search)(fields.view(neurons[rows]), climb, n_starts, seed)
            for rows in _bar(chunks, progress, "batch")
        )
    images = np.empty((len(neurons), *fields.size), np.float32)
    responses, n_iter = np.empty(len(neurons)), np.empty(len(neurons), int)
    for rows, of_rows in zip(chunks, found):
        images[rows], responses[rows], n_iter[rows] = of_rows
    others = np.flatnonzero(~fields.complete[neurons])
    if len(others):
        responses[others] = Responder(fields.module).own(images[others], neurons[others])
    return MEIs(images, responses, neurons, n_iter)


def _search(view, climb, n_starts, seed):
    """The best of each neuron's starts: images (n, H, W), responses and iterations (n,)."""
    noise = np.stack([
        np.random.default_rng([seed, n]).standard_normal((n_starts, *view.shape), np.float32)
        for n in view.neurons
    ])  # fmt: skip
    n = len(view.neurons)
    which = torch.arange(n, device=view.like.device).repeat_interleave(n_starts)
    patches, values, n_iter = climb(
        view, torch.from_numpy(noise).to(view.like).flatten(0, 1), which
    )
    best = values.reshape(n, n_starts).argmax(1) + n_starts * torch.arange(n).to(which)
    with torch.no_grad():
        responses = view.respond(patches[best], which[best])
    responses = check_responses(responses[:, None].double().cpu().numpy(), n)[:, 0]
    images = view.images(patches[best].float().cpu().numpy())
    return images, responses, n_iter[best].cpu().numpy()


# Recipes: patches (m, h, w) of indices ``which`` (m,), their objectives (m,), iterations (m,)


def _ecker(view, noise, which, *, norm, smoothness, max_iter):
    in_image = view.inside()
    whitened = _Whitening(view.shape, ECKER_WHITENING, noise)

    def show(z, i):
        return _of_norm(z * in_image[which[i]], norm)

    def objective(z, i):
        x = show(z, i)
        return view.respond(x, which[i]) - smoothness * _roughness(x)

    def climb(z, i, step):
        value, gradient = _value_and_gradient(partial(objective, i=i), z)
        return value, whitened(gradient)

    z, n_iter = _adam(climb, noise, LEARNING_RATE, max_iter)
    everything = torch.arange(len(z), device=z.device)
    with torch.no_grad():
        return show(z, everything), objective(z, everything), n_iter


def _walker(view, noise, which, *, norm, sigmas, unit, max_iter):
    mean, deviation = unit
    low, high = (0 - mean) / deviation, (WHITE - mean) / deviation
    in_image = view.inside()[which]
    whitened = _Whitening(view.shape, WALKER_WHITENING, noise)
    n_pixels = view.size[0] * view.size[1]  # beyond the patch gradients are 0
    respond = partial(view.respond, which=which)
    x = ((START - mean + START_DEVIATION * noise) / deviation).clamp(low, high) * in_image
    for step, sigma in zip(np.linspace(*STEPS, max_iter), sigmas):
        g = whitened(_value_and_gradient(respond, x)[1])
        mean_size = g.abs().sum((1, 2), keepdim=True) / n_pixels
        x = (x + step * STEP_UNIT / (mean_size + TINY) * g).clamp(low, high)
        if sigma:
            x = _blurred(x, sigma)
        x = x * in_image
        if norm is not None:
            x = x * (norm / _norms(x).clamp_min(TINY)).clamp_max(1)
    with torch.no_grad():
        return x, respond(x), torch.full_like(which, max_iter)


def _adam(climb, start, learning_rate, max_iter):
    """Ascend until no smoothed objective rises any more; each row by itself.

    ``climb(x, i, step)`` gives objectives (m,) and directions like x (m, ...), of rows ``i`` (m,).
    Returns the last x of each, and iterations.
    """
    out, n_iter = start.clone(), torch.full((len(start),), max_iter, device=start.device)
    i = torch.arange(len(start), device=start.device)
    x, m, v = start, torch.zeros_like(start), torch.zeros_like(start)
    smooth = best = since = None
    for t in range(1, max_iter + 1):
        value, direction = climb(x, i, t - 1)
        m = BETAS[0] * m + (1 - BETAS[0]) * direction
        v = BETAS[1] * v + (1 - BETAS[1]) * direction.square()
        rate = learning_rate / (1 - BETAS[0] ** t)
        x = x + rate * m / (torch.sqrt(v / (1 - BETAS[1] ** t)) + EPSILON)
        if t == 1:
            smooth, best, since = value, value, torch.zeros_like(i)
            continue
        smooth = SMOOTHING * smooth + (1 - SMOOTHING) * value
        since = torch.where(smooth > best, 0, since + 1)
        best = torch.maximum(best, smooth)
        done = since >= PATIENCE
        if done.any():  # they need no more work
            out[i[done]], n_iter[i[done]] = x[done], t
            i, x, m, v, smooth, best, since = (
                state[~done] for state in (i, x, m, v, smooth, best, since)
            )
            if not len(i):
                break
    out[i] = x
    return out, n_iter


def _value_and_gradient(function, x):
    """Of each row: values (m,), and gradients like x."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = function(x)
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]


def _norms(x):
    """L2 norms, (m, 1, 1), of images (m, h, w)."""
    return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)


def _of_norm(x, norm):
    return x * (norm / (_norms(x) + TINY))


def _roughness(x):
    """Energy (m,) of images (m, h, w) after a Laplacian, 0 around them."""
    kernel = LAPLACIAN.to(x)[None, None]
    return functional.conv2d(x[:, None], kernel, padding=1).square().sum((1, 2, 3))


class _Whitening:
    """Images (m, h, w) with frequencies weighted by ``1 / max(1, (fx^2 + fy^2)^exponent)``.

    Frequencies count periods in the image, each with its negative, so that images stay real.
    """

    def __init__(self, shape, exponent, like):
        fy, fx = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape)
        weights = 1 / np.maximum(1, (fx**2 + fy[:, None] ** 2.0) ** exponent)
        weights = (weights / weights.mean())[:, : shape[1] // 2 + 1]
        self.shape, self.weights = shape, torch.tensor(weights).to(like)

    def __call__(self, images):
        return torch.fft.irfft2(torch.fft.rfft2(images) * self.weights, s=self.shape)


def _blurred(x, sigma):
    """As `scipy.ndimage.gaussian_filter` of each image (m, h, w)."""
    down, across = (
        torch.from_numpy(ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0)).to(x)
        for n in x.shape[1:]
    )
    return down @ x @ across.T


# Clusters


def cluster_meis(
    model, clusters, places, *, size=None, crop=True, side=None, rank=None, n_angles=24, norm=NORM,
    n_starts=4, max_iter=500, n_jobs=None, progress=False, rng=None,
):  # fmt: skip
    """For each cluster the image that excites its neurons the most, turned and moved for each.

    Maximizes, for each cluster c of m neurons, (6) to (8),

        max over beta, |image| = norm, of max over angles of 1 / m sum_i A_i,
        A_i = f_i(shift[rotate(image, angle_i), place_i]),   image = sum_k beta_k Psi_k

    over beta by Adam, and every ten iterations over all angles there are.

    Parameters
    ----------
    model : EncodingModel or torch.nn.Module
        As of `meis`.
    clusters : array_like of int, (n_neurons,)
        0, 1, ... for all neurons of the model; -1: of no cluster.
    places : array_like, (n_neurons, 2)
        Row and column of the image, where the center of a neuron's receptive field is: that of its
        optimal Gabor, say. Rounded to pixels. Not used of neurons of no cluster.
    size, crop
        As of `meis`.
    side : int, optional
        Of the cluster's image, odd; by default what a feature of our core depends on, for other
        models 21, or less if images are smaller. What comes to lie outside of an image is cut off.
    rank : int, optional
        The basis are the functions of the first so many ranks of `hermite_basis(side)`; by default
        two thirds of them. The others are too fine for the grid, and are hardly what they were when
        they are turned; fewer are smoother, and smaller.
    n_angles : int
        That are tried, evenly over 2 pi.
    norm : float
        L2, of the image and of each turned one (on a grid turning changes it a little), z units;
        without a fixed norm there is no maximum.
    n_starts, max_iter : int
        Of each cluster, the best of which counts; a start that does not rise any more stops before.
    n_jobs : int, optional
        Clusters at a time, as in `joblib.Parallel`, on any backend that is set there.
    progress : bool
        Show a bar over clusters.
    rng : None, int or numpy.random.Generator
        Of the starts.

    Returns
    -------
    ClusterMEIs

    Raises
    ------
    TypeError, ValueError
        As of `meis`; clusters or places that are not of the model's neurons, places outside of the
        image.

    References
    ----------
    'Digital twin reveals combinatorial code of non-linear computations in the mouse primary visual
    cortex', Methods, (4)-(8).

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from fastvis.twin import gabor
    >>> from fastvis.twin.most_exciting import cluster_meis
    >>> places, angles = np.array([[8, 8], [10, 9], [9, 11]]), np.array([0, 1, 2]) * np.pi / 4
    >>> filters = gabor(20, sigma=2.0, frequency=0.15, orientation=angles, center=places)
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(400, 3), torch.nn.ReLU())
    >>> _ = model[1].weight.data.copy_(torch.tensor(filters).flatten(1))
    >>> found = cluster_meis(model, [0, 0, 0], places, size=20, side=13, max_iter=30, rng=0)
    >>> np.rad2deg(found.angles - found.angles[0]).round() % 180
    array([ 0., 45., 90.])
    """
    fields = ReceptiveFields(model, size, crop)
    clusters = _check_clusters(clusters, fields.n_neurons)
    places = _check_places(places, clusters, fields.size)
    side = _check_side(side, fields)
    rank = round(2 * side / 3) if rank is None else rank
    rank = check_int(rank, "rank", minimum=1, maximum=side)
    n_angles = check_int(n_angles, "n_angles", minimum=1)
    norm = check_float(norm, "norm", minimum=0, strict=True)
    n_starts = check_int(n_starts, "n_starts", minimum=1)
    max_iter = check_int(max_iter, "max_iter", minimum=1)
    seed = int(check_rng(rng).integers(2**63))
    basis = hermite_basis(side)[: rank * (rank + 1) // 2]
    turned = _turned(basis, n_angles)
    members = [np.flatnonzero(clusters == c) for c in range(clusters.max() + 1)]
    found = ClusterMEIs(
        np.full((len(members), side, side), np.nan, np.float32),
        np.full((len(members), len(basis)), np.nan),
        np.full(len(clusters), np.nan),
        np.full(len(clusters), np.nan),
    )
    some = [c for c, neurons in enumerate(members) if len(neurons)]
    with fields.frozen():
        results = joblib.Parallel(n_jobs)(
            joblib.delayed(_search_cluster)(
                _Cluster(fields, members[c], places[members[c]], turned, norm, n_starts),
                np.random.default_rng([seed, c]).normal(size=(n_starts, len(basis))),
                max_iter,
            )
            for c in _bar(some, progress, "cluster")
        )
    for c, (coefficients, angles) in zip(some, results):
        found.coefficients[c] = coefficients
        found.images[c] = np.tensordot(coefficients, basis, 1)
        own = np.tensordot(coefficients.astype(np.float32), turned, (0, 1))[angles]
        own = _of_norm(torch.from_numpy(own).reshape(-1, side, side), norm)
        rows, columns = _shifts(places[members[c]], np.zeros((1, 2), int), fields.size, side)
        images = (rows @ own @ columns).numpy()
        found.angles[members[c]] = 2 * np.pi * angles / n_angles
        found.responses[members[c]] = Responder(fields.module).own(images, members[c])
    return found


def _search_cluster(cluster, start, max_iter):
    """The best start's coefficients (n_basis,), and its neurons' indices of angles."""
    start = torch.from_numpy(start).to(cluster.turned)
    beta, _ = _adam(cluster.climb, start, CLUSTER_LEARNING_RATE, max_iter)
    angles, responses = cluster.best_angles(beta)
    best = int(responses.mean(1).argmax())
    scale = cluster.norm / torch.linalg.vector_norm(beta[best] @ cluster.turned[0])
    return (beta[best] * scale).double().cpu().numpy(), angles[best].cpu().numpy()


class _Cluster:
    """Mean response of a cluster's neurons, of coefficients (m, n_basis)."""

    def __init__(self, fields, neurons, places, turned, norm, n_starts):
        self.turned = torch.from_numpy(turned).to(fields.like)  # (n_angles, n_basis, side^2)
        self.norm, self.side = norm, int(np.sqrt(turned.shape[2]))
        self.angles = torch.zeros(n_starts, len(neurons), dtype=int, device=self.turned.device)
        self.parts = []  # neurons, and how stimuli come to lie in their patches
        for rows in fields.chunks(neurons, n_starts):
            view = fields.view(neurons[rows])
            down, across = _shifts(places[rows], view.corners, view.shape, self.side)
            down = down * inside(view.corners, view.shape, view.size).amax(2)[:, :, None]
            across = across * inside(view.corners, view.shape, view.size).amax(1)[:, None]
            self.parts.append((rows, view, down.to(self.turned), across.to(self.turned)))

    def responses(self, beta, angles, part):
        """Of one part's neurons, (m, n), with stimuli turned by angles (m, n)."""
        _, view, down, across = part
        stimuli = torch.einsum("mk,akp->map", beta, self.turned)
        own = stimuli[torch.arange(len(beta), device=beta.device)[:, None], angles].flatten(0, 1)
        own = _of_norm(own.unflatten(1, (self.side, self.side)), self.norm)
        patches = down @ own.unflatten(0, angles.shape) @ across
        which = torch.arange(len(view.neurons), device=beta.device).repeat(len(beta))
        return view.respond(patches.flatten(0, 1), which).reshape(angles.shape)

    def climb(self, beta, i, step):
        """Mean responses, and their gradients; the angles of starts i are kept, or found anew."""
        if step % TURN_EVERY == 0:
            self.angles[i] = self.best_angles(beta)[0]
        values, gradients = 0.0, 0.0
        for part in self.parts:  # one after another, for their memory
            angles = self.angles[i][:, part[0]]
            mean = partial(self._share_of_mean, angles=angles, part=part)
            value, gradient = _value_and_gradient(mean, beta)
            values, gradients = values + value, gradients + gradient
        return values, gradients

    def _share_of_mean(self, beta, angles, part):
        return self.responses(beta, angles, part).sum(1) / self.angles.shape[1]

    @torch.no_grad()
    def best_angles(self, beta):
        """Of each start and neuron: the index of the best angle, and the response: (m, n)."""
        angles = self.angles[: len(beta)].clone()
        best = torch.full(angles.shape, -torch.inf).to(self.turned)
        for part in self.parts:
            for a in range(len(self.turned)):
                tried = torch.full_like(angles[:, part[0]], a)
                response = self.responses(beta, tried, part)
                better = response > best[:, part[0]]
                angles[:, part[0]] = torch.where(better, tried, angles[:, part[0]])
                best[:, part[0]] = torch.maximum(best[:, part[0]], response)
        return angles, best


def _turned(basis, n_angles):
    """The basis turned by each angle, (n_angles, n_basis, side^2), float32."""
    angles = 2 * np.pi * np.arange(n_angles) / n_angles
    turns = rotate_coefficients(np.eye(len(basis)), angles[:, None])  # of each function
    flat = basis.reshape(len(basis), -1)
    return np.stack([(turn @ flat).astype(np.float32) for turn in turns])


def _shifts(places, corners, shape, side):
    """Matrices that put stimuli (n, side, side) where they belong in patches of this shape.

    ``down @ stimuli @ across``: (n, h, side) and (n, side, w).
    """
    starts = np.rint(places).astype(int) - side // 2 - corners  # in the patch
    down, across = (
        np.arange(shape[i])[:, None] - starts[:, i, None, None] == np.arange(side) for i in (0, 1)
    )
    return (torch.from_numpy(m.astype(np.float32)) for m in (down, across.transpose(0, 2, 1)))


def _bar(items, progress, unit):
    if not progress:
        return items
    from tqdm.auto import tqdm

    return tqdm(items, unit=unit)


# Arguments


def _check_neurons(neurons, n):
    if neurons is None:
        return np.arange(n)
    neurons = np.atleast_1d(neurons)
    if neurons.dtype.kind not in "iu" or neurons.ndim != 1:
        raise TypeError(
            f"neurons must be integers, (n_neurons,); got dtype {neurons.dtype} and shape "
            f"{neurons.shape}."
        )
    if not len(neurons) or neurons.min() < 0 or neurons.max() >= n:
        got = f"{neurons.min()} to {neurons.max()}" if len(neurons) else "none"
        raise ValueError(f"neurons must be of the model's {n}, from 0; got {got}.")
    return neurons.astype(np.int64)


def _check_blur(blur, n):
    """Standard deviations, one an iteration; 0: none."""
    if blur is None:
        return np.zeros(n)
    try:
        first, last = blur
    except (TypeError, ValueError):
        raise ValueError(f"blur must be (first, last) or None; got {blur!r}.") from None
    ends = (check_float(sigma, "blur", minimum=0) for sigma in (first, last))
    return np.linspace(*ends, n)


def _check_clusters(clusters, n):
    clusters = check_labels(clusters, n, "clusters", or_none=True)
    if clusters.max() < 0:
        raise ValueError("clusters must not all be -1, for none.")
    return clusters


def _check_places(places, clusters, size):
    places = check_array(places, "places", ndim=2, axes="(n_neurons, 2)", finite=False)
    if places.shape != (len(clusters), 2):
        raise ValueError(f"places must be ({len(clusters)}, 2); got shape {places.shape}.")
    used = places[clusters >= 0]
    if not ((np.rint(used) >= 0) & (np.rint(used) < size)).all():
        raise ValueError(
            f"places must be rows and columns in the image of {size[0]} x {size[1]}; got "
            f"{used.min():g} to {used.max():g}."
        )
    return places


def _check_side(side, fields):
    if side is None:
        if fields.reach is not None:
            return fields.reach
        side = min(MOST_SIDE, *fields.size)
        return side - 1 + side % 2
    side = check_int(side, "side", minimum=1)
    if side % 2 == 0:
        raise ValueError(f"side must be odd; got {side}.")
    return side

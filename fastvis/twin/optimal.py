"""Optimal Gabors and differences of Gaussians: the best of a large grid, for each neuron.

A shape is a stimulus up to its place and turn: a width, a frequency, a phase, a contrast. For each
shape, neuron by neuron, the best place and orientation are found; then the best shape of a neuron
is that of its largest response, and the best one of a cluster that of the largest mean.

A model with a `RotationEquivariantCore` is not shown every stimulus. What a shape adds to the
features of a blank image moves with it, and turns with it by quarter turns. So one pass of the core
gives the responses of all neurons in all places, by correlation of these features with the masks of
the readout, and two orientations. This is exact for neurons that see nothing of the border of the
image. To the others the best shapes are shown again, and the model itself decides.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.fft import next_fast_len

from .._validation import check_array, check_choice, check_int, check_size
from ..readouts.arguments import check_labels
from .families import DifferencesOfGaussians, Gabors
from .responding import BATCH, Responder, as_module, evaluating

EXTENT = 4.0  # of a Gaussian that is drawn, in units of its standard deviation
SEEN = 1e-3  # of a mask that may see beyond the border, and its neuron count as inside
PASS = 8  # shapes that the core is shown at once
MOST_DRIVES = 2**25  # of neurons, shapes and places at once


class _Grid:
    """Shapes (K,), orientations and places."""

    def _check(self, lists, positive):
        object.__setattr__(self, "size", check_size(self.size))
        for name in lists:
            value = _numbers(getattr(self, name), name)
            if name in positive and value.min() <= 0:
                raise ValueError(f"{name} must be > 0; got {value.min():g}.")
            object.__setattr__(self, name, value)
        for name, n in zip(("rows", "columns"), self.size):
            value = getattr(self, name)
            value = np.arange(n) if value is None else np.asarray(value)
            if value.dtype.kind not in "iu" or value.ndim != 1 or not len(value):
                raise ValueError(f"{name} must be whole pixels; got {getattr(self, name)!r}.")
            if value.min() < 0 or value.max() >= n:
                raise ValueError(f"{name} must be in [0, {n - 1}]; got {value.min()} to "
                                 f"{value.max()}.")  # fmt: skip
            object.__setattr__(self, name, value.astype(np.int64))

    def __len__(self):
        """How many stimuli."""
        n_shapes = len(next(iter(self.shapes().values())))
        return n_shapes * self.n_orientations * len(self.rows) * len(self.columns)

    def orientations(self):
        """(n_orientations,)"""
        return np.pi * np.arange(self.n_orientations) / self.n_orientations


@dataclass(frozen=True, eq=False)
class GaborGrid(_Grid):
    """All Gabors with these parameters, in all places.

    Parameters
    ----------
    size : int or tuple (H, W)
        Of the images.
    sigmas, frequencies, contrasts : array_like, optional
        As of `gabor`. By default widths from 2 to 6 pixels, 0.05 to 0.25 cycles per pixel, and
        contrasts from 1/2 to 4.
    n_phases, n_orientations : int
        Equally spaced over 2 pi, and over pi.
    rows, columns : array_like of int, optional
        Places of centers; by default all pixels.

    Examples
    --------
    >>> from fastvis.twin import GaborGrid
    >>> len(GaborGrid((36, 64)))
    31850496
    """

    size: tuple
    sigmas: np.ndarray = field(default_factory=lambda: 2 * 1.25 ** np.arange(6))
    frequencies: np.ndarray = field(default_factory=lambda: np.geomspace(0.05, 0.25, 6))
    contrasts: np.ndarray = field(default_factory=lambda: 2.0 ** np.arange(-1, 3))
    n_phases: int = 8
    n_orientations: int = 12
    rows: np.ndarray = None
    columns: np.ndarray = None
    family = Gabors

    def __post_init__(self):
        self._check(("sigmas", "frequencies", "contrasts"), ("sigmas",))
        check_int(self.n_phases, "n_phases", minimum=1)
        check_int(self.n_orientations, "n_orientations", minimum=1)

    def shapes(self):
        """Parameters (K,) by name."""
        phases = 2 * np.pi * np.arange(self.n_phases) / self.n_phases
        return _product(
            sigma=self.sigmas, frequency=self.frequencies, contrast=self.contrasts, phase=phases
        )

    def in_the_middle(self):
        """All shapes in all orientations, in the middle of the image: `Gabors`."""
        turns, shapes = self.orientations(), self.shapes()
        n_shapes = len(shapes["phase"])
        values = {name: np.repeat(value, len(turns)) for name, value in shapes.items()}
        center = np.tile((np.array(self.size) - 1) / 2, (n_shapes * len(turns), 1))
        return Gabors(center, orientation=np.tile(turns, n_shapes), **values)

    def mirrored(self):
        """For each shape, the one that it is after half a turn, (K,)."""
        numbers = np.arange(len(self.shapes()["phase"])).reshape(-1, self.n_phases)
        return numbers[:, -np.arange(self.n_phases) % self.n_phases].ravel()

    def extent(self, shapes):
        """How far from the center shapes go, pixels, (K,)."""
        return EXTENT * shapes["sigma"]


@dataclass(frozen=True, eq=False)
class DoGGrid(_Grid):
    """All center-surround stimuli with these parameters, in all places.

    Parameters
    ----------
    size : int or tuple (H, W)
        Of the images.
    sigmas : array_like, optional
        Of the centers, pixels.
    ratios : array_like, optional
        Of the surround's width to the center's.
    contrasts, surrounds : array_like, optional
        As of `difference_of_gaussians`; negative contrasts are dark centers.
    rows, columns : array_like of int, optional
        Places of centers; by default all pixels.

    Examples
    --------
    >>> from fastvis.twin import DoGGrid
    >>> len(DoGGrid((36, 64)))
    2949120
    """

    size: tuple
    sigmas: np.ndarray = field(default_factory=lambda: 1.25 ** np.arange(8))
    ratios: np.ndarray = field(default_factory=lambda: 1.25 ** np.arange(1, 6))
    contrasts: np.ndarray = field(default_factory=lambda: np.outer([1, -1], [0.5, 1, 2, 4]).ravel())
    surrounds: np.ndarray = field(default_factory=lambda: np.array([0, 0.3, 0.6, 0.9]))
    rows: np.ndarray = None
    columns: np.ndarray = None
    n_orientations = 1
    family = DifferencesOfGaussians

    def __post_init__(self):
        self._check(("sigmas", "ratios", "contrasts", "surrounds"), ("sigmas", "ratios"))

    def shapes(self):
        """Parameters (K,) by name."""
        shapes = _product(
            sigma_center=self.sigmas, sigma_surround=self.ratios, contrast=self.contrasts,
            surround=self.surrounds,
        )  # fmt: skip
        return shapes | {"sigma_surround": shapes["sigma_surround"] * shapes["sigma_center"]}

    def mirrored(self):
        """For each shape, the one that it is after half a turn: itself, (K,)."""
        return np.arange(len(self.shapes()["contrast"]))

    def extent(self, shapes):
        """How far from the center shapes go, pixels, (K,)."""
        return EXTENT * np.maximum(shapes["sigma_surround"], shapes["sigma_center"])


@dataclass(frozen=True, eq=False)
class OptimalStimuli:
    """One stimulus for each neuron, and its response.

    Attributes
    ----------
    stimuli : Gabors or DifferencesOfGaussians
    responses : ndarray, (n_neurons,)
    """

    stimuli: object
    responses: np.ndarray


def optimal_gabors(model, grid, clusters=None, *, method="auto", n_exact=20, batch_size=BATCH):
    """The Gabor of a grid that each neuron, or each cluster of neurons, responds most to.

    Parameters
    ----------
    model : EncodingModel, torch.nn.Module or callable
        See `fastvis.twin.responding`.
    grid : GaborGrid
    clusters : array_like of int, (n_neurons,), optional
        All neurons of a cluster get the same Gabor, each in its own place and turned by its own
        angle, that with the largest mean response. Neurons of cluster -1 get their own.
    method : {"auto", "equivariant", "brute"}
        "equivariant" needs an `EncodingModel` with a `RotationEquivariantCore`, for which it is
        "auto". "brute" shows every stimulus.
    n_exact : int
        How many of the best shapes are shown to the model itself after an equivariant search, for
        neurons that see the border of the image.
    batch_size : int
        Images at once.

    Returns
    -------
    OptimalStimuli
        Orientations are in [0, pi), or of clusters in [0, 2 pi): by half a turn, phase 1 is
        phase -1.

    Raises
    ------
    TypeError, ValueError
        See above; clusters of another number of neurons.

    Notes
    -----
    An equivariant search is exact for neurons that see nothing of the border of the image. For the
    others the model decides between shapes, but place and orientation of each shape are those it
    would have on an endless gray image: of 30 such neurons the worst got 0.97 of the best response.

    References
    ----------
    The twin paper, Methods, 'Per neuron optimal Gabors', 'Per cluster optimal Gabors'.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import GaborGrid, gabor, optimal_gabors
    >>> preferred = gabor(15, sigma=2.0, frequency=0.15, orientation=np.pi / 2)
    >>> def model(images):
    ...     return np.maximum(np.tensordot(images, preferred, 2), 0)[:, None]
    >>> grid = GaborGrid(15, [2.0], [0.1, 0.15], [1.0], n_phases=4, n_orientations=4)
    >>> best = optimal_gabors(model, grid).stimuli
    >>> best.center.tolist(), best.frequency.tolist(), best.orientation.tolist()
    ([[7.0, 7.0]], [0.15], [1.5707963267948966])
    """
    _check_grid(grid, GaborGrid)
    return search(model, grid, method, batch_size).best(clusters, n_exact)


def optimal_dogs(model, grid, clusters=None, *, method="auto", n_exact=20, batch_size=BATCH):
    """The center-surround stimulus of a grid that neurons, or clusters, respond most to.

    Parameters
    ----------
    model, clusters, method, n_exact, batch_size
        As of `optimal_gabors`; nothing is turned.
    grid : DoGGrid

    Returns
    -------
    OptimalStimuli

    References
    ----------
    The twin paper, Methods, 'Optimal differences of Gaussians'.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import DoGGrid, optimal_dogs
    >>> def model(images):
    ...     return np.maximum(-images[:, 3, 4], 0)[:, None]
    >>> best = optimal_dogs(model, DoGGrid(9, [1.0], [2.0], [1.0, -1.0], [0.0])).stimuli
    >>> best.center.tolist(), best.contrast.tolist()
    ([[3.0, 4.0]], [-1.0])
    """
    _check_grid(grid, DoGGrid)
    return search(model, grid, method, batch_size).best(clusters, n_exact)


def search(model, grid, method="auto", batch_size=BATCH):
    """Find the best place and orientation of every shape, for every neuron.

    Returns
    -------
    Search
    """
    check_choice(method, "method", ("auto", "equivariant", "brute"))
    responder = Responder(model, batch_size)
    check_image_size(model, grid.size)
    features = None if method == "brute" else _moving_features(model, grid.size)
    if method == "equivariant" and features is None:
        raise TypeError("model must have a RotationEquivariantCore for method='equivariant'.")
    if features is None:
        return Search(responder, grid, *_brute(responder, grid))
    return Search(responder, grid, *_equivariant(features, grid), features.cut)


class Search:
    """Of every shape and neuron the largest response, and which stimulus of the shape it is to.

    ``cut`` (n_neurons,): whether the border of the image makes these inexact.
    """

    def __init__(self, responder, grid, table, which, cut=None):
        self.responder, self.grid = responder, grid
        self.table, self.which = table, which  # (K, n_neurons)
        self.cut = np.zeros(table.shape[1], bool) if cut is None else cut

    def best(self, clusters=None, n_exact=20):
        """The best stimulus of each neuron, or of its cluster: `OptimalStimuli`."""
        n = self.table.shape[1]
        n_exact = min(check_int(n_exact, "n_exact", minimum=1), len(self.table))
        groups = np.arange(n)
        if clusters is not None:
            clusters = check_labels(clusters, n, "clusters", or_none=True)
            groups = np.where(clusters >= 0, clusters, clusters.max() + 1 + groups)
        mirror = np.arange(len(self.table)) if clusters is None else self.grid.mirrored()
        table = np.maximum(self.table, self.table[mirror])
        _, groups = np.unique(groups, return_inverse=True)
        means = _means(table, groups)
        cut = np.bincount(groups, self.cut)[groups] > 0
        n_best = n_exact if cut.any() else 1
        candidates = np.argpartition(-means, n_best - 1, axis=0)[:n_best]
        candidates = np.take_along_axis(
            candidates, np.argsort(-np.take_along_axis(means, candidates, 0), 0, "stable"), 0
        )[:, groups]  # (n_best, n_neurons)
        stimuli = [self._stimuli(shapes, mirror) for shapes in candidates]
        asked = cut | (np.arange(n_best) == 0)[:, None]
        responses = self._responses(stimuli, asked)
        winners = _means(responses, groups).argmax(0)[groups]
        chosen = self._stimuli(candidates[winners, np.arange(n)], mirror)
        return OptimalStimuli(chosen, responses[winners, np.arange(n)])

    def _stimuli(self, shapes, mirror):
        """Of each neuron that of its shape, (n_neurons,)."""
        grid, neurons = self.grid, np.arange(len(shapes))
        turned = self.table[mirror[shapes], neurons] > self.table[shapes, neurons]
        which = self.which[np.where(turned, mirror[shapes], shapes), neurons]
        counts = grid.n_orientations, len(grid.rows), len(grid.columns)
        orientation, row, column = np.unravel_index(which, counts)
        center = np.stack([grid.rows[row], grid.columns[column]], 1).astype(float)
        values = {name: value[shapes] for name, value in grid.shapes().items()}
        if "phase" in values:
            values["orientation"] = grid.orientations()[orientation] + np.pi * turned
        return grid.family(center, **values)

    def _responses(self, stimuli, asked):
        """The model's own, to a list of stimuli of all neurons, (n_stimuli, n_neurons).

        -inf where they are not ``asked`` for. A stimulus of several neurons is shown once.
        """
        names, step = ["center", *stimuli[0].names()], self.responder.batch_size
        rows = np.stack([np.column_stack([getattr(s, k) for k in names]) for s in stimuli])
        unique, place = np.unique(rows[asked], axis=0, return_inverse=True)
        place, neurons = place.ravel(), np.nonzero(asked)[1]
        family = self.grid.family(unique[:, :2], *unique[:, 2:].T)
        order = np.argsort(place, kind="stable")
        found = np.empty(len(place))
        for start in range(0, len(unique), step):
            responses = self.responder(family[start : start + step].images(self.grid.size))
            part = order[slice(*np.searchsorted(place[order], [start, start + step]))]
            found[part] = responses[place[part] - start, neurons[part]]
        out = np.full(asked.shape, -np.inf)
        out[asked] = found
        return out


def _brute(responder, grid):
    """Show every stimulus."""
    shapes, step = grid.shapes(), responder.batch_size
    n_shapes = len(next(iter(shapes.values())))
    turns, rows, columns = (
        a.ravel() for a in np.meshgrid(grid.orientations(), grid.rows, grid.columns, indexing="ij")
    )
    centers = np.stack([rows, columns], 1).astype(float)
    n_neurons = responder.n_neurons(grid.size)
    table = np.full((n_shapes, n_neurons), -np.inf)
    which = np.zeros((n_shapes, n_neurons), np.int64)
    for k in range(n_shapes):
        values = {name: value[k] for name, value in shapes.items()}
        for start in range(0, len(turns), step):
            part = slice(start, start + step)
            turned = {"orientation": turns[part]} if grid.family is Gabors else {}
            images = grid.family.draw(grid.size, center=centers[part], **values, **turned)
            responses = responder(images)
            first = responses.argmax(0)
            best = responses[first, np.arange(n_neurons)]
            better = best > table[k]
            table[k, better], which[k, better] = best[better], start + first[better]
    return table, which


def _equivariant(features, grid):
    """Show every shape once, in half of the orientations."""
    shapes = grid.shapes()
    n_shapes, n_orientations = len(next(iter(shapes.values()))), grid.n_orientations
    turns = features.turns and n_orientations % 2 == 0
    shown = n_orientations // 2 if turns else n_orientations
    n_places, n_neurons = len(grid.rows) * len(grid.columns), features.n_neurons
    table = np.full((n_shapes, n_neurons), -np.inf)
    which = np.zeros((n_shapes, n_neurons), np.int64)
    extents = np.ceil(grid.extent(shapes)).astype(int)
    for extent in np.unique(extents):
        rows = np.flatnonzero(extents == extent)
        for start in range(0, len(rows), PASS):
            k = rows[start : start + PASS]
            values = {name: value[k] for name, value in shapes.items()}
            for o in range(shown):
                turned = {"orientation": grid.orientations()[o]} if grid.family is Gabors else {}
                drawn = grid.family.draw(2 * extent + 1, **values, **turned)
                best, place = features.best_places(drawn, grid.rows, grid.columns, turns)
                for turn in range(1 + turns):
                    better = best[turn] > table[k]
                    index = (o + turn * shown) * n_places + place[turn]
                    table[k] = np.where(better, best[turn], table[k])
                    which[k] = np.where(better, index, which[k])
    return table, which


class _MovingFeatures:
    """Responses of all neurons to pictures in all places, by one pass of the core."""

    def __init__(self, network, size):
        import torch
        from torch.nn import functional

        core = network.core
        self.torch, self.softplus, self.size = torch, functional.softplus, size
        self.field, self.n_orientations = core.receptive_field, core.n_orientations
        self.turns = core.norms[0].shared and core.n_orientations % 4 == 0
        with torch.no_grad():
            self.plain = core.export(padding="valid")
            first = self.plain[0].weight
            self.blank = self.plain(torch.zeros(1, 1, self.field, self.field).to(first))
            features = core(torch.zeros(1, 1, *size).to(first))
            self.drives = torch.cat([r(features)[0] for r in network.readouts])  # of a blank image
            masks = torch.cat([r.spatial_weights() for r in network.readouts])
            self.weights = torch.cat([r.feature_weights() for r in network.readouts])
        border = [(n - m) // 2 for n, m in zip(size, masks.shape[1:])]
        self.masks = functional.pad(masks, (border[1],) * 2 + (border[0],) * 2)
        self.n_neurons, self.spectra = len(masks), {}
        half = self.field // 2
        inside = masks.new_zeros(size)
        inside[half : size[0] - half, half : size[1] - half] = 1
        self.cut = ((self.masks * (1 - inside)).sum((1, 2)) > SEEN).cpu().numpy()

    def best_places(self, pictures, rows, columns, turns):
        """Largest response and its place, of (K, side, side) pictures and these turned by 90.

        Returns
        -------
        best, place : ndarray, (1 or 2, K, n_neurons)
            Place: of the rows, then of the columns.
        """
        torch, margin = self.torch, self.field - 1
        with torch.no_grad():
            x = torch.from_numpy(pictures).to(self.drives)[:, None]
            x = self._cut(torch.nn.functional.pad(x, (margin,) * 4))
            moved = self.plain(x) - self.blank  # (K, O F, side', side')
            reach = moved.shape[-1] // 2
            shape = [next_fast_len(n + reach, real=True) for n in self.size]
            at = [(torch.as_tensor(p) - reach) % n for p, n in zip((rows, columns), shape)]
            at = [p.to(x.device) for p in at]
            spectrum = self._spectrum(tuple(shape))
            step = max(1, MOST_DRIVES // (len(moved) * max(shape[0] * shape[1], reach**2 * 4)))
            best, place = [], []
            for turn in range(1 + turns):
                # A turned picture: features of orientation o are those of o - O / 4, turned.
                shift = -turn * (self.n_orientations // 4) * (len(self.weights[0]) //
                                                              self.n_orientations)  # fmt: skip
                weights = self.weights.roll(shift, 1)
                found = []
                for part in (slice(n, n + step) for n in range(0, self.n_neurons, step)):
                    maps = torch.einsum("nc,kcyx->knyx", weights[part], moved)
                    if turn:
                        maps = maps.rot90(1, (2, 3))
                    product = spectrum[part] * torch.fft.rfft2(maps, s=shape).conj()
                    drives = torch.fft.irfft2(product, s=shape)
                    found.append(drives[:, :, at[0]][:, :, :, at[1]].flatten(2).max(2))
                best.append(self.softplus(torch.cat([f.values for f in found], 1) + self.drives))
                place.append(torch.cat([f.indices for f in found], 1))
        return (torch.stack(t).cpu().numpy() for t in (best, place))

    def _spectrum(self, shape):
        if shape not in self.spectra:
            self.spectra = {shape: self.torch.fft.rfft2(self.masks, s=shape)}
        return self.spectra[shape]

    def _cut(self, x):
        """Without what no neuron in the image can see of a picture in it."""
        side = 2 * max(self.size) - 1 + self.field - 1
        excess = (x.shape[-1] - side) // 2
        return x[..., excess:-excess, excess:-excess] if excess > 0 else x


def check_image_size(model, size):
    """Stimuli are as large as the images of a fitted `EncodingModel`."""
    own = tuple(getattr(model, "image_size_", size))
    if own != tuple(size):
        raise ValueError(f"size must be {own}, as the model's images; got {tuple(size)}.")


def _moving_features(model, size):
    """`_MovingFeatures` of a model that has them, or None."""
    module = as_module(model)
    if module is None:
        return None
    from .model import is_plain

    if not is_plain(module):
        return None
    with evaluating(module):
        return _MovingFeatures(module, size)


def _means(values, groups):
    """Over the neurons of each group: (n, n_neurons) -> (n, n_groups)."""
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(groups.max() + 1))
    return np.add.reduceat(values[:, order], starts, axis=1) / np.bincount(groups)


def _product(**lists):
    """All combinations, the last parameter running fastest."""
    arrays = np.meshgrid(*lists.values(), indexing="ij")
    return {name: a.ravel() for name, a in zip(lists, arrays)}


def _numbers(value, name):
    return check_array(np.atleast_1d(value), name, ndim=1).astype(np.float64)


def _check_grid(grid, kind):
    if not isinstance(grid, kind):
        raise TypeError(f"grid must be a {kind.__name__}; got {type(grid).__name__}.")

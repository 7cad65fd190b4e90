"""The digital twin: stimuli and ceilings against plain loops, the core's kernels kept, the search
for optimal Gabors against showing them all."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from fastvis.twin import (
    FactorizedReadout,
    GaborGrid,
    RotationEquivariantCore,
    ceiling,
    gabor,
    optimal_gabors,
)
from fastvis.twin.model import EncodingNetwork
from fastvis.twin.responding import Responder

from .common import Copy, Row, alternate, compare, peak_memory, use_threads


@dataclass(frozen=True)
class Gabors:
    """Stimuli of 36 x 64 pixels, with parameters of their own."""

    n: int = 2000
    peer_name = "NumPy, image by image"

    def parameters(self):
        rng = np.random.default_rng(0)
        ranges = {"sigma": (2, 6), "frequency": (0.05, 0.2), "orientation": (0, 3), "phase": (0, 6)}
        return {name: rng.uniform(*ends, self.n) for name, ends in ranges.items()}

    def ours(self):
        """A function without arguments; gives images (n, 36, 64)."""
        return partial(gabor, (36, 64), **self.parameters())

    def peer(self):
        """The formula, as one would write it."""
        parameters = list(zip(*self.parameters().values()))

        def run():
            row, column = np.mgrid[:36, :64]
            row, column = row - 17.5, column - 31.5
            out = np.empty((self.n, 36, 64), np.float32)
            for image, (sigma, frequency, orientation, phase) in zip(out, parameters):
                u = row * np.cos(orientation) + column * np.sin(orientation)
                envelope = np.exp(-(row**2 + column**2) / (2 * sigma**2))
                image[:] = 0.5 * envelope * np.cos(2 * np.pi * frequency * u + phase)
            return out

        return run

    def bytes(self):
        """Images are written once."""
        return self.n * 36 * 64 * 4


@dataclass(frozen=True)
class Ceilings:
    """Of neurons, 100 images and 10 repeats."""

    n: int = 10_000
    peer_name = "NumPy, neuron by neuron"

    def trials(self):
        rng = np.random.default_rng(0)
        means = rng.gamma(2.0, size=(100, self.n))
        return rng.poisson(np.repeat(means, 10, axis=0)).astype(np.float32)

    def ours(self):
        """A function without arguments; gives a number for each neuron."""
        return partial(ceiling, self.trials(), np.repeat(np.arange(100), 10))

    def peer(self):
        """The formula, as one would write it."""
        trials = self.trials()

        def run():
            out = np.empty(self.n)
            for n in range(self.n):
                r = trials[:, n].reshape(100, 10).astype(np.float64)
                noise = (r.var(1, ddof=1) / 10).mean()
                out[n] = np.sqrt(max(0.0, 1 - noise / r.mean(1).var(ddof=1)))
            return out

        return run

    def bytes(self):
        """Trials are read once."""
        return self.n * 1000 * 4


@dataclass(frozen=True)
class Core:
    """The default core for one image of 36 x 64, outside training."""

    exported: bool
    n_features: int = 16
    peer_name = "the same, kernels made anew"

    def ours(self):
        """A function without arguments; gives feature maps."""
        core = self._core()
        return self._run(core.export() if self.exported else core.requires_grad_(False))

    def peer(self):
        """As in training, but for batch norm's statistics."""
        core = self._core()
        run = self._run(core)

        def anew():
            for convolution in core.convolutions:
                convolution._cached = None
            return run()

        return anew

    def _core(self):
        torch.manual_seed(0)
        return RotationEquivariantCore(n_features=self.n_features).eval()

    @staticmethod
    def _run(network):
        image = torch.zeros(1, 1, 36, 64)

        def run():
            with torch.no_grad():
                return network(image).numpy()

        return run


def network(n_neurons, n_features=16, size=(36, 64)):
    """The default core, and neurons that look at 5 x 5 features, seeing nothing of the border."""
    torch.manual_seed(0)
    core = RotationEquivariantCore(n_features=n_features)
    core(torch.randn(8, 1, *size))  # gives batch norm its statistics
    readout = FactorizedReadout(n_neurons, 8 * n_features, size)
    rng, half = np.random.default_rng(0), core.receptive_field // 2
    masks = torch.zeros(n_neurons, *size)
    for mask in masks:
        row, column = (rng.integers(half, side - half - 4) for side in size)
        mask[row : row + 5, column : column + 5] = 1
    readout.masks.data = masks
    torch.nn.init.normal_(readout.weights, std=0.1)
    return EncodingNetwork(core, [readout]).eval()


@dataclass(frozen=True)
class GaborSearch:
    """The best of a grid for each neuron; the peer shows the model a sample of it."""

    n: int = 200  # neurons
    n_features: int = 16
    n_shown: int = 64
    peer_name = "every stimulus shown, from a sample of 64"

    def grid(self):
        """In all places of 36 x 64."""
        return GaborGrid((36, 64), [2.0, 3.0], [0.08, 0.12], [1.0], n_phases=8, n_orientations=8)

    def ours(self):
        """A function without arguments; gives the best."""
        return partial(optimal_gabors, network(self.n, self.n_features), self.grid())

    def peer(self):
        """A function without arguments; shows a sample."""
        responder = Responder(network(self.n, self.n_features))

        def run():
            angles = np.linspace(0, np.pi, self.n_shown)
            responder(gabor((36, 64), sigma=2.0, frequency=0.1, orientation=angles))

        return run

    def row(self, rounds):
        """Its row of the table."""
        seconds, ratios = alternate(self.ours(), self.peer(), rounds=rounds)
        times = len(self.grid()) / self.n_shown
        return Row(self.peer_name, seconds[0], seconds[1] * times, ratios[1] / times)


CASES = {
    "Gabors, 2,000 of 36 x 64": Gabors(),
    "noise ceilings, 10,000 neurons x 100 images x 10": Ceilings(),
    "rotation-equivariant core, one image": Core(False),
    "rotation-equivariant core, one image, exported": Core(True),
    "optimal Gabors, 589,824 of 36 x 64, 200 neurons": GaborSearch(),
}


# The table


def rows(quick):
    """Yields name and function of each row."""
    for name, case in CASES.items():
        if quick:
            small = {"n": 20, "n_features": 2}
            case = replace(case, **{k: v for k, v in small.items() if hasattr(case, k)})
        yield name, partial(_row, case, 1 if quick else 7)


def _row(case, rounds):
    if isinstance(case, GaborSearch):
        return case.row(min(rounds, 3))
    found, expected = case.ours()(), case.peer()()
    if np.abs(found - expected).max() > 1e-4 * np.abs(expected).max():
        raise RuntimeError("fastvis and its peer disagree.")
    if isinstance(case, Core):
        seconds, ratios = alternate(case.ours(), case.peer(), rounds=rounds)
        memory = peak_memory(case.ours), peak_memory(case.peer)
        return Row(case.peer_name, *seconds, ratios[1], *memory)
    copy = Copy(1 << 22)
    floor = 2 * case.bytes() / copy.bytes  # a copy reads as much as it writes
    return compare(case.peer_name, case.ours, case.peer, copy, floor, rounds)


# asv


class Twin:
    params = list(CASES)
    param_names = ("case",)

    def setup(self, name):
        use_threads()
        self.case = CASES[name]
        self.ours = self.case.ours()

    def time_ours(self, name):
        self.ours()

    def track_ratio(self, name):
        if isinstance(self.case, GaborSearch):
            return self.case.row(3).ratio
        return alternate(self.ours, self.case.peer())[1][1]

    track_ratio.unit = "fastvis / peer"

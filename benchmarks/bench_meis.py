"""Most exciting images: all neurons at once in patches, against one after another."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fastvis.twin.most_exciting import meis

from .bench_twin import network
from .common import Row, alternate, peak_memory, use_threads


@dataclass(frozen=True)
class Images:
    """Of neurons with masks of 5 x 5 features, images of 36 x 64, the default core."""

    crop: bool  # of the peer
    n: int = 64
    n_features: int = 16
    n_starts: int = 1
    max_iter: int = 10

    @property
    def peer_name(self):
        return "equal patches, one by one" if self.crop else "whole images, one by one"

    def ours(self):
        """A function without arguments; gives images (n, 36, 64)."""
        return self._run()

    def peer(self):
        """The same steps, neuron by neuron."""
        return self._run(crop=self.crop, batch_size=1)

    def _run(self, **options):
        model = network(self.n, self.n_features)
        options = {"n_starts": self.n_starts, "max_iter": self.max_iter, "rng": 0, **options}
        return lambda: meis(model, **options).images


CASES = {
    "MEIs of 64 neurons, 10 steps, patches together": Images(crop=False),
    "MEIs of 64 neurons, 10 steps, together": Images(crop=True),
}


# The table


def rows(quick):
    """Yields name and function of each row."""
    for name, case in CASES.items():
        if quick:
            case = replace(case, n=2, n_features=2, max_iter=2)
        yield name, partial(_row, case)


def _row(case):
    ours, peer = case.ours(), case.peer()
    images = ours()  # the first call also plans transforms
    if case.crop and not np.allclose(images, peer(), atol=1e-2):
        raise RuntimeError("images depend on what else is in the batch.")
    seconds, ratios = alternate(ours, peer, rounds=1, warm_up=False)  # a minute
    memory = peak_memory(case.ours), peak_memory(case.peer)
    return Row(case.peer_name, *seconds, ratios[1], *memory)


# asv


class MEIs:
    params = list(CASES)
    param_names = ("case",)
    timeout = 600

    def setup(self, name):
        use_threads()
        self.case = CASES[name]
        self.ours = self.case.ours()
        self.ours()

    def time_ours(self, name):
        self.ours()

    def track_ratio(self, name):
        return alternate(self.ours, self.case.peer(), rounds=1, warm_up=False)[1][1]

    track_ratio.unit = "fastvis / peer"

"""Whole syntheses, coarse starts, and what the PyTorch operator adds to the kernel's time."""

import functools
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import scipy.optimize
import threadpoolctl
import torch
from skimage import data
from skimage.transform import resize

from fastvis.textures import FilterBank, GramModel, synthesize

from .bench_gram import Case, TorchModel, to_tensor
from .common import Row, alternate, peak_memory, use_threads

SEEDS = (0, 1, 2)
LOSS_SCALE = 1e7  # as in `synthesize`: L-BFGS-B's tests are absolute for values below 1


@functools.cache
def photograph(name, size):
    """A crop at reduced resolution, repeated to three channels."""
    image = resize(getattr(data, name)()[:256, :256] / 255, (size, size), anti_aliasing=True)
    return np.repeat(image.astype(np.float32)[:, :, None], 3, axis=2)


# 100 iterations


@dataclass(frozen=True)
class Synthesis:
    """Iterations of L-BFGS-B from noise towards a photograph's statistics."""

    size: int = 128
    n_maps: int = 32
    max_iter: int = 100

    def reference_and_model(self):
        reference = photograph("brick", self.size)
        bank = FilterBank.random(n_maps=self.n_maps, rng=0)
        return reference, GramModel(bank, mean=reference.mean(axis=(0, 1)))

    def ours(self):
        """A function without arguments."""
        return partial(synthesize, *self.reference_and_model(), max_iter=self.max_iter, rng=0)

    def peer(self):
        """The same optimizer around loss and gradient in PyTorch."""
        reference, model = self.reference_and_model()
        torch_model = TorchModel(model)

        def tensor(image):
            return to_tensor(np.subtract(image, model.mean, dtype=np.float32))

        def loss_and_grad(x, target):
            loss, grad = torch_model.loss_and_grad(tensor(x.reshape(reference.shape)), target)
            return LOSS_SCALE * loss, LOSS_SCALE * grad.double().numpy().ravel()

        # L-BFGS-B's BLAS has one thread in `synthesize` too; its others would spin beside PyTorch's
        @threadpoolctl.threadpool_limits.wrap(limits=1, user_api="blas")
        def run():
            return scipy.optimize.minimize(
                loss_and_grad,
                np.random.default_rng(0).random(reference.size),
                args=(torch_model.gram(tensor(reference)),),
                jac=True,
                method="L-BFGS-B",
                bounds=scipy.optimize.Bounds(0, 1),
                options={"maxiter": self.max_iter, "ftol": 0, "gtol": 0},
            )

        return run

    def compare(self, rounds=3):
        """As `alternate`, fastvis first."""
        short = replace(self, max_iter=2)
        for warm_up in (short.ours(), short.peer()):
            warm_up()
        return alternate(self.ours(), self.peer(), rounds=rounds, warm_up=False)


# To a given loss


@dataclass(frozen=True)
class Descent:
    """A synthesis until a loss is reached."""

    name: str
    size: int = 128
    n_maps: int = 32
    target_loss: float = 1e-4

    def start(self, coarse_levels):
        """A function each of whose calls takes the next seed."""
        seeds = iter(SEEDS)

        def run():
            seed = next(seeds)
            reference = photograph(self.name, self.size)
            result = synthesize(
                reference,
                GramModel(
                    FilterBank.random(n_maps=self.n_maps, rng=seed),
                    mean=reference.mean(axis=(0, 1)),
                ),
                target_loss=self.target_loss,
                coarse_levels=coarse_levels,
                rng=seed,
            )
            if result.stopped_by != "target_loss":
                raise RuntimeError(
                    f"{self.name} did not reach the loss of {self.target_loss}: {result}"
                )

        return run

    def compare(self, rounds=3):
        """As `alternate`: with a coarse level first, from noise at full size second."""
        starts = self.start(1), self.start(0)
        return alternate(*starts, rounds=rounds, warm_up=False)


# The operator for tensors


@dataclass(frozen=True)
class Bridge:
    """Loss and gradient through autograd, against the call of `GramModel` that does the work."""

    case: Case = Case(128)

    def ours(self):
        from fastvis.torch import gram_loss

        model, target = self.case.model(), torch.tensor(self.case.target())
        image = to_tensor(self.case.image())

        def run():
            images = image.detach().requires_grad_()
            gram_loss(images, target, model).sum().backward()
            return images.grad

        return run

    def peer(self):
        return self.case.ours()


# The table


def rows(quick):
    """Yields name and function of each row."""
    synthesis, bridge = Synthesis(), Bridge()
    descents = [Descent("brick"), Descent("gravel")]
    if quick:
        synthesis = Synthesis(size=24, n_maps=2, max_iter=3)
        descents = [replace(descent, size=32, n_maps=2, target_loss=0.1) for descent in descents]
        bridge = Bridge(Case(24, 2))
    yield (
        f"synthesis, 128 px, 8 x 32 maps, {synthesis.max_iter} iterations",
        partial(_synthesis_row, synthesis, quick),
    )
    for descent in descents:
        yield (
            f"{descent.name}, 128 px, 8 x 32 maps to a loss of {descent.target_loss}, coarse start",
            partial(_descent_row, descent, quick),
        )
    yield "fastvis.torch.gram_loss, 128 px, 8 x 32 maps", partial(_bridge_row, bridge, quick)


def _synthesis_row(synthesis, quick):
    seconds, ratios = synthesis.compare(rounds=1 if quick else 3)
    short = replace(synthesis, max_iter=2)
    memory, peer_memory = peak_memory(short.ours), peak_memory(short.peer)
    return Row("L-BFGS-B around PyTorch", *seconds, ratios[1], memory, peer_memory)


def _descent_row(descent, quick):
    seconds, ratios = descent.compare(rounds=1 if quick else 3)
    return Row("fastvis, from noise", *seconds, ratios[1])


def _bridge_row(bridge, quick):
    seconds, ratios = alternate(bridge.ours(), bridge.peer(), rounds=1 if quick else 15)
    return Row("GramModel.loss_and_grad", *seconds, ratios[1])


# asv


class SynthesisRatio:
    timeout = 1800

    def setup(self):
        use_threads()

    def track_ratio(self):
        return Synthesis().compare()[1][1]

    track_ratio.unit = "fastvis / PyTorch"


class CoarseStart:
    params = ["brick", "gravel"]
    param_names = ("texture",)
    timeout = 1800

    def setup(self, texture):
        use_threads()
        replace(Synthesis(), max_iter=2).ours()()

    def track_ratio(self, texture):
        return Descent(texture).compare()[1][1]

    track_ratio.unit = "coarse / plain start"


class TorchBridge:
    timeout = 300

    def setup(self):
        use_threads()
        self.ours, self.peer = Bridge().ours(), Bridge().peer()
        self.ours()

    def time_loss_and_backward(self):
        self.ours()

    def track_ratio(self):
        return alternate(self.ours, self.peer, rounds=15)[1][1]

    track_ratio.unit = "operator / GramModel"

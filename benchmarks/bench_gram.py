"""The Gram kernel against PyTorch: conv2d for each scale, relu, matmul, autograd by the image."""

from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch

from fastvis._kernels import threads
from fastvis._kernels.gram import reference
from fastvis.textures import FilterBank, GramModel

from .common import Gemm, Row, alternate, peak_memory, use_threads


@dataclass(frozen=True)
class Case:
    """One task on a noise image of ``size`` pixels squared; by fastvis, and by its peer."""

    size: int
    n_maps: int = 32
    scales: tuple = (3, 5, 7, 11, 15, 23, 37, 55)
    task: str = "loss_and_grad"  # or "loss", "gram"
    nonlinearity: str = "relu"
    padding: str = "zero"
    dtype: str = "float32"

    def model(self):
        bank = FilterBank.random(self.scales, self.n_maps, rng=0, dtype=np.dtype(self.dtype))
        return GramModel(bank, self.nonlinearity, self.padding)

    def image(self, seed=0):
        """Noise of mean zero, as models have it that subtract the mean."""
        noise = np.random.default_rng(seed).random((self.size, self.size, 3)) - 0.5
        return noise.astype(self.dtype)

    def target(self):
        """Any matrix: its values do not matter for time and memory."""
        n = len(self.scales) * self.n_maps
        return np.ones((n, n), self.dtype)

    def ours(self):
        """The task as a function without arguments."""
        return partial(self.call, self.model(), self.image(), self.target())

    def peer(self):
        """The same as PyTorch users write it."""
        model, image = TorchModel(self.model()), to_tensor(self.image())
        return partial(self.call, model, image, torch.tensor(self.target()))

    def call(self, model, image, target):
        if self.task == "gram":
            return model.gram(image)
        return getattr(model, self.task)(image, target=target)

    def flops(self):
        """The dense products alone: F F', a triangle of it, and for the gradient D F."""
        n = len(self.scales) * self.n_maps
        return (3 if self.task == "loss_and_grad" else 1) * n**2 * self.size**2

    def tiny(self):
        return replace(self, size=24, n_maps=2, scales=self.scales[:3])


def to_tensor(image):
    """(H, W, C) as (1, C, H, W)."""
    return torch.tensor(image).permute(2, 0, 1)[None].contiguous()


class TorchModel:
    """A `GramModel` for tensors (1, C, H, W), with autograd."""

    def __init__(self, model):
        self.filters = [torch.tensor(w.transpose(0, 3, 1, 2).copy()) for w in model.bank.filters]
        self.periodic = model.padding == "periodic"
        self.relu = model.nonlinearity == "relu"

    def gram(self, image):
        with torch.no_grad():
            return self._gram(image)

    def loss(self, image, target):
        with torch.no_grad():
            return self._loss(image, target).item()

    def loss_and_grad(self, image, target):
        image = image.detach().requires_grad_()
        loss = self._loss(image, target)
        (grad,) = torch.autograd.grad(loss, image)
        return loss.item(), grad[0].permute(1, 2, 0)

    def _gram(self, image):
        F = torch.cat([self._maps(image, w) for w in self.filters])
        return F @ F.T / F.shape[1]

    def _maps(self, image, w):
        pad = w.shape[2] // 2
        if self.periodic:
            image = torch.nn.functional.pad(image, 4 * [pad], mode="circular")
            pad = 0
        maps = torch.nn.functional.conv2d(image, w, padding=pad)[0].flatten(1)
        return maps.relu() if self.relu else maps

    def _loss(self, image, target):
        return (target - self._gram(image)).square().sum() / target.square().sum()


MODELS = {
    "256 px, 8 x 128 maps": Case(256, 128),
    "128 px, 8 x 32 maps": Case(128, 32),
}
OTHERS = {
    "loss alone, 256 px, 8 x 128 maps": Case(256, 128, task="loss"),
    "Gram matrix alone, 256 px, 8 x 128 maps": Case(256, 128, task="gram"),
    "Gram matrix alone, 128 px, 8 x 32 maps": Case(128, task="gram"),
    "128 px, 3267 maps of 11 px": Case(128, 3267, scales=(11,)),
    "128 px, 8 x 32 maps, float64": Case(128, dtype="float64"),
    "128 px, 8 x 32 maps, periodic": Case(128, padding="periodic"),
}


# What is said about a case


def relative_time(case):
    return alternate(case.ours(), case.peer())[1][1]


def relative_memory(case):
    return peak_memory(case.ours) / peak_memory(case.peer)


def over_floor(case):
    gemm = Gemm(case.dtype)
    _, ratios = alternate(case.ours(), gemm)
    return ratios[1] * gemm.flops / case.flops()


def errors(case):
    """Errors on noise, of fastvis and of its peer.

    float32 is compared with the float64 kernel; float64 with the definition, on a small image with
    few maps. The maps are linear: at the kink of the ReLU rounding decides which way the gradient
    jumps, for both contenders, and one such pixel would hide all else.
    """
    case = replace(case, nonlinearity="linear")
    if case.dtype == "float64":
        case = replace(case, size=min(case.size, 40), n_maps=min(case.n_maps, 4))
    model, image = case.model(), case.image()
    target = model.gram(case.image(seed=1))
    judge = definition(model) if case.dtype == "float64" else model
    wanted = case.call(judge, image.astype(float), target.astype(float))
    ours = case.call(model, image, target)
    peer = case.call(TorchModel(model), to_tensor(image), torch.tensor(target))
    return max_rel_error(ours, wanted), max_rel_error(peer, wanted)


def definition(model):
    """`reference.py` with the methods of a `GramModel`."""
    options = {name: getattr(model, name) for name in ("nonlinearity", "padding")}
    options["w"] = model.bank.filters
    names = ("gram", "loss", "loss_and_grad")
    return SimpleNamespace(**{name: partial(getattr(reference, name), **options) for name in names})


def max_rel_error(ours, wanted):
    """The largest error of each output, relative to its largest value; the larger of both."""
    pairs = zip(ours, wanted) if isinstance(ours, tuple) else [(ours, wanted)]
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in pairs]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def thread_identical(case):
    """1 if loss and gradient have the same bytes with 1, 2 and 3 threads."""
    run, results = case.ours(), set()
    for n in (1, 2, 3):
        with mock.patch.object(threads, "thread_count", return_value=n):
            loss, grad = run()
        results.add((loss, grad.tobytes()))
    return int(len(results) == 1)


# The table


def rows(quick):
    """Yields name and function of each row."""
    cases = {f"loss and gradient, {name}": case for name, case in MODELS.items()} | OTHERS
    for name, case in cases.items():
        yield name, partial(_row, case.tiny() if quick else case, quick)


def _row(case, quick):
    ours, peer = case.ours(), case.peer()
    difference = max_rel_error(ours(), peer())
    if difference > 1e-2:  # one pixel at the kink of the ReLU may differ
        raise RuntimeError(f"fastvis and its peer disagree by {difference:.1g}.")
    gemm = Gemm(case.dtype, 128 if quick else 2048)
    seconds, ratios = alternate(ours, peer, gemm, rounds=1 if quick else 7)
    floor = case.flops() / gemm.flops
    return Row(
        "PyTorch autograd" if case.task == "loss_and_grad" else "PyTorch, no_grad",
        *seconds[:2],
        ratios[1],
        None if quick else peak_memory(case.ours),
        None if quick else peak_memory(case.peer),
        floor * seconds[2],
        ratios[2] / floor,
        *errors(case),
    )


# asv


class Gram:
    params = list(MODELS)
    param_names = ("model",)
    timeout = 900

    def setup(self, name):
        use_threads()
        self.case = MODELS[name]
        self.run = self.case.ours()
        self.run_loss = replace(self.case, task="loss").ours()
        self.run()
        self.run_loss()

    def time_loss_and_grad(self, name):
        self.run()

    def time_loss(self, name):
        self.run_loss()

    def track_ratio(self, name):
        return relative_time(self.case)

    def track_floor_ratio(self, name):
        return over_floor(self.case)

    def track_max_rel_error_float32(self, name):
        return errors(self.case)[0]

    def track_max_rel_error_float64(self, name):
        return errors(replace(self.case, dtype="float64"))[0]

    def track_thread_identical(self, name):
        return thread_identical(self.case)

    track_ratio.unit = "fastvis / PyTorch"
    track_floor_ratio.unit = "fastvis / plain products"
    track_max_rel_error_float32.unit = track_max_rel_error_float64.unit = "relative error"
    track_thread_identical.unit = "1 if identical"


class GramMemory:
    """peakmem_setup is what imports and inputs take: subtract it. Setup must not warm up here."""

    params = list(MODELS)
    param_names = ("model",)
    timeout = 900

    def setup(self, name):
        use_threads()
        self.case = MODELS[name]
        self.run = self.case.ours()

    def peakmem_setup(self, name):
        pass

    def peakmem_loss_and_grad(self, name):
        self.run()

    def track_memory_ratio(self, name):
        return relative_memory(self.case)

    track_memory_ratio.unit = "fastvis / PyTorch"


class GramOthers:
    """What else users do."""

    params = list(OTHERS)
    param_names = ("case",)
    timeout = 900

    def setup(self, name):
        use_threads()
        self.case = OTHERS[name]
        self.run = self.case.ours()
        self.run()

    def time_call(self, name):
        self.run()

    def track_ratio(self, name):
        return relative_time(self.case)

    def track_memory_ratio(self, name):
        return relative_memory(self.case)

    track_ratio.unit = track_memory_ratio.unit = "fastvis / PyTorch"

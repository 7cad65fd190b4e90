"""The Gram kernel: loss, Gram matrix and their gradients by the image."""

from functools import partial
from types import SimpleNamespace

import numpy as np

from fastvis._kernels.gram import StripPlan, _products, reference, strips

# (height, width, channels), [(maps, filter size), ...]
SIZES = {
    "square": ((12, 12, 3), [(5, 3), (4, 5)]),
    "wide, prime": ((5, 23, 3), [(3, 7), (2, 3)]),
    "tall, odd": ((27, 8, 3), [(3, 3), (2, 5)]),
    "smaller than the filters": ((4, 6, 3), [(3, 3), (4, 15)]),
    "one row": ((1, 9, 3), [(4, 3), (2, 5)]),
    "one column": ((10, 1, 3), [(4, 3), (2, 5)]),
    "one pixel": ((1, 1, 2), [(3, 3), (2, 1)]),
    "one channel": ((9, 14, 1), [(4, 5), (3, 3)]),
    "five channels": ((8, 9, 5), [(3, 5), (7, 1)]),
    "one map": ((11, 13, 3), [(1, 5)]),
    "many groups": ((13, 10, 3), [(1, 1), (3, 3), (2, 5), (1, 7), (4, 9), (2, 3), (37, 5)]),
    "medium": ((23, 20, 3), [(9, 3), (8, 7)]),
    "large": ((112, 90, 12), [(30, 1), (100, 3)]),
}

OPTIONS = {
    f"{nonlinearity}, {padding}": {"nonlinearity": nonlinearity, "padding": padding}
    for nonlinearity in ("relu", "sigmoid", "linear")
    for padding in ("zero", "periodic", "reflect")
}

TUNED = strips
ROW = 20 * 17 * 8  # bytes of a row of feature maps, medium size, float64
TUNINGS = {
    "a row at a time": {"STRIP_BYTES": 1, "KEEP_BYTES": 1, "IDLE_BYTES": 0, "PARTIAL_BYTES": 1},
    "short last strip": {"STRIP_BYTES": 6 * ROW, "KEEP_BYTES": 13 * ROW},
    "all strips kept": {"STRIP_BYTES": 8 * ROW, "IDLE_BYTES": 0},
    "three lanes, three parts": {
        "STRIP_BYTES": 8 * ROW,
        "PARTIAL_BYTES": 3 * _products.padded(17, 8) ** 2 * 8,
    },
    "small tiles": {"TILE_MAPS": 3, "TILE_BYTES": 1, "MIN_TILES": 100},
}


def inputs(size, dtype, rng):
    """Arrays by name; the filters of group g are w0, w1, ..."""
    shape, groups = size
    n = sum(n_maps for n_maps, _ in groups)
    factor = rng.normal(size=(n, n))
    arrays = {
        "image": rng.random(shape),
        "target": factor @ factor.T / n,
        "d_gram": rng.normal(size=(n, n)) + 3 * np.eye(n),  # a sum that does not cancel
    }
    for g, (n_maps, f) in enumerate(groups):
        scale = 1 / (f * np.sqrt(shape[2]))
        arrays[f"w{g}"] = scale * rng.normal(size=(n_maps, f, f, shape[2]))
    return {name: array.astype(dtype) for name, array in arrays.items()}


def make_reference(arrays, **options):
    options["w"] = _filters(arrays)
    methods = ("gram", "loss", "loss_and_grad", "gram_vjp")
    model = {name: partial(getattr(reference, name), **options) for name in methods}
    return partial(_outputs, SimpleNamespace(**model))


def make_cpu(arrays, **options):
    return partial(_outputs, StripPlan(_filters(arrays), arrays["image"].shape[:2], **options))


IMPLEMENTATIONS = {"reference": make_reference, "cpu": make_cpu}


def _filters(arrays):
    return [array for name, array in arrays.items() if name.startswith("w")]


def _outputs(model, image, target, d_gram, **_):
    gram = model.gram(image)
    loss, d_loss = model.loss_and_grad(image, target=target)
    return {
        "gram": gram,
        "loss": model.loss(image, target=target),
        "loss of loss_and_grad": loss,
        "d loss / d image": d_loss,
        "projection": np.sum(d_gram * gram, dtype=np.float64),
        "d projection / d image": model.gram_vjp(image, d_gram=d_gram),
    }

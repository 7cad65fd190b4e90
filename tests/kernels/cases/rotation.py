"""The rotation kernels: mean distance of all pairs and its gradient."""

from functools import partial

from fastvis._kernels.rotation import all_pairs, mean_distance, reference

SIZES = {  # rows, dimensions
    "a pair": (2, 3),
    "one dimension": (5, 1),
    "odd": (37, 13),
    "a panel and one": (33, 33),
    "medium": (300, 24),
    "large": (1300, 150),
}
OPTIONS = {"distance": {}}

TUNED = all_pairs
TUNINGS = {"one block": {"FEWEST_BLOCKS": 1}, "small blocks": {"BLOCK": 1}}


def inputs(size, dtype, rng):
    return {"x": rng.normal(size=size).astype(dtype)}


def make(mean_distance, arrays):
    return partial(_outputs, mean_distance)


IMPLEMENTATIONS = {
    "reference": partial(make, reference.mean_distance),
    "cpu": partial(make, mean_distance),
}


def _outputs(mean_distance, x):
    loss, gradient = mean_distance(x)
    return {"loss": loss, "d loss / d x": gradient}

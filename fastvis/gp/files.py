"""Fitted deep GPs in npz files: a description in JSON, and arrays."""

import json
import os
import zipfile
import zlib
from dataclasses import asdict, fields

import numpy as np

from .._files import check_target, replacing
from . import covariances, likelihoods
from .flow import MonotonicFlow

FORMAT = "fastvis deep GP 1"
STORED = (
    "posterior", "marginalize", "frozen", "prior_width", "scale", "jitter", "natural_rate",
    "learning_rate", "n_steps", "n_samples", "batch_size",
)  # fmt: skip
UNREADABLE = (
    ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, IndexError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def write(model, path):
    """See `DeepGP.save`."""
    check_target(path)
    layers = [
        {
            "class": type(layer).__name__,
            **{f.name: getattr(layer, f.name) for f in fields(layer) if f.name != "inducing"},
            "kernel": describe(layer.kernel),
        }
        for layer in model.layers
    ]
    config = {
        "format": FORMAT,
        "layers": layers,
        "likelihood": [type(model._likelihood).__name__, asdict(model._likelihood)],
        "parameters": {name: getattr(model, name) for name in STORED},
    }
    arrays = {"parameters": model.parameters_, "elbos": model.elbos_}
    arrays |= {f"slope_{l}": size.slope for l, size in enumerate(model._bound.sizes)}
    if isinstance(model.layers[0], MonotonicFlow):
        arrays["locations"] = model._bound.locations
    arrays |= {
        f"inducing_{l}": np.asarray(layer.inducing)
        for l, layer in enumerate(model.layers)
        if layer.inducing is not None
    }
    text = json.dumps(config, default=lambda value: np.asarray(value).tolist())
    with replacing(path) as temporary, open(temporary, "xb") as file:
        np.savez(file, config=np.array(text), **arrays)


def read(cls, path):
    """See `DeepGP.load`."""
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as data:
                arrays = {key: data[key] for key in data.files}
            config = json.loads(arrays.pop("config").item())
            if config["format"] != FORMAT:
                raise ValueError(f"its format is {config['format']!r}")
            return cls._restored(config, arrays)
        except UNREADABLE as error:
            raise ValueError(
                f"path must be a file written by {cls.__name__}.save; got {os.fspath(path)!r}, "
                f"which cannot be read as one ({error}). It may be truncated."
            ) from error


def describe(kernel):
    """Return a covariance as leaves, [class name, hyperparameters], and operations in postfix."""
    leaves = [
        [type(leaf).__name__, {f.name: np.asarray(getattr(leaf, f.name)).tolist()
                               for f in fields(leaf)}]
        for leaf in kernel.leaves
    ]  # fmt: skip
    return {"leaves": leaves, "ops": list(kernel._ops(0))}


def covariance_of(description):
    """Return what `describe` was given."""
    leaves = [_known(covariances, covariances._Leaf, *leaf) for leaf in description["leaves"]]
    stack = []
    for op in description["ops"]:
        if op >= 0:
            stack.append(leaves[op])
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(left + right if op == covariances.covariance.ADD else left * right)
    [kernel] = stack
    return kernel


def layer_of(gp_layer, description, inducing):
    """Return a layer of the class ``gp_layer``, or a `MonotonicFlow`."""
    values = {**description, "kernel": covariance_of(description["kernel"])}
    if values.pop("class") == "MonotonicFlow":
        return MonotonicFlow(**{**values, "n_inducing": tuple(values["n_inducing"])})
    return gp_layer(**values, inducing=inducing)


def likelihood_of(name, values):
    """Return a likelihood by its name."""
    return _known(likelihoods, object, name, values)


def _known(module, base, name, values):
    kind = getattr(module, name)
    if not (
        isinstance(kind, type) and issubclass(kind, base) and kind.__module__ == module.__name__
    ):
        raise ValueError(f"{name} is not one of fastvis.gp")
    return kind(**values)

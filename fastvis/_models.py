"""Files of fitted models: weights, and in the header what made them; imports torch."""

import json
import os

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ._files import replacing

_DAMAGE = (
    SafetensorError, LookupError, AttributeError, TypeError, ValueError, RuntimeError, OSError
)  # fmt: skip


def write_model(path, tensors, config):
    """Write a safetensors file; ``config`` is of JSON's types."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"fastvis": json.dumps(config)})


def read_model(path, restored, name):
    """Return ``restored(config, tensors)`` of what `write_model` wrote for the class of a name.

    Raises
    ------
    FileNotFoundError
    ValueError
        The file is truncated, damaged, or something else.
    """
    with open(path, "rb"):  # the system's own error where there is no such file
        pass
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads(file.metadata()["fastvis"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return restored(config, tensors)
    except _DAMAGE as error:
        raise ValueError(
            f"path must be a file written by {name}.save; got {os.fspath(path)!r}, which cannot "
            f"be read as one ({error}). It may be truncated."
        ) from error

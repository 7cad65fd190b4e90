"""Fitted aligners in npz files."""

import os
import zipfile
import zlib

import numpy as np

from .._files import replacing
from .._validation import check_array
from .arguments import check_readouts
from .beta_path import BetaPath
from .rotation import ROTATIONS

FITTED = ("angles_", "temperature_", "beta_", "aligned_", "loss_", "loss_curve_", "stopped_by_")
NOT_STORED = ("callback", "progress")
UNREADABLE = (
    ValueError, KeyError, TypeError, OSError, EOFError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def write(aligner, path):
    """See `RotationAligner.save`."""
    params = {k: v for k, v in aligner.get_params().items() if k not in NOT_STORED}
    if isinstance(aligner.rng, np.random.Generator):
        params["rng"] = None
    stored = {f"param_{k}": np.array("" if v is None else v) for k, v in params.items()}
    stored |= {k: np.asarray(getattr(aligner, k)) for k in FITTED}
    stored["alignment_losses_"] = np.array([aligner.alignment_losses_[k] for k in ROTATIONS])
    if hasattr(aligner, "path_"):
        stored |= {f"path_{k}": v for k, v in vars(aligner.path_).items()}
    with replacing(path) as temporary, open(temporary, "xb") as file:
        np.savez(file, **stored)


def read(aligner_class, path):
    """See `RotationAligner.load`."""
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as data:
                return _restored(aligner_class, {k: data[k] for k in data.files})
        except UNREADABLE as error:
            raise ValueError(
                f"path must be a file written by RotationAligner.save; got {os.fspath(path)!r},"
                f" which cannot be read as one ({error}). It may be truncated."
            ) from error


def _restored(aligner_class, stored):
    names = [name for name in aligner_class().get_params() if name not in NOT_STORED]
    params = {name: stored[f"param_{name}"].item() for name in names}
    params = {name: None if value == "" else value for name, value in params.items()}
    aligner = aligner_class(**params)
    aligner._check_parameters()
    for name in FITTED:
        value = stored[name]
        setattr(aligner, name, value if value.ndim else value.item())
    aligned = check_readouts(aligner.aligned_, aligner.n_orientations, aligner.layout)
    numbers = {
        "angles_": (len(aligned),),
        "temperature_": (),
        "beta_": (),
        "loss_": (),
        "loss_curve_": aligner.loss_curve_.shape[:1],
        "alignment_losses_": (len(ROTATIONS),),
    }
    for name, shape in numbers.items():
        check_array(stored[name], name)
        if stored[name].shape != shape:
            raise ValueError(f"{name} has shape {stored[name].shape}, not {shape}")
    aligner.alignment_losses_ = dict(zip(ROTATIONS, stored["alignment_losses_"].tolist()))
    if "path_betas" in stored:
        fields = BetaPath.__dataclass_fields__
        aligner.path_ = BetaPath(**{k: check_array(stored[f"path_{k}"], k) for k in fields})
    return aligner

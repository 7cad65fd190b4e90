"""Sizes of the command ``fastvis atlas``: what is simulated, the model, its training, the atlas.

Training imports torch.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .glm import PoissonGLM
from .optimal import DoGGrid, GaborGrid
from .recording import Recording

SIMULATED = (
    "simple", "complex", "complex+suppressed", "complex+cross", "center-on", "center-off"
)  # fmt: skip
WEIGHTS, CHECKPOINTS = "model.safetensors", "checkpoints"


@dataclass(frozen=True, eq=False)
class Preset:
    """Arguments of all that makes an atlas of a recording.

    Parameters
    ----------
    simulated : dict
        Size of images, numbers of images and neurons, and arguments of `simulate_cortex`.
    core, model : dict
        Arguments of `RotationEquivariantCore` and `EncodingModel`.
    max_steps : int or None
        Of training; None: until the schedule ends.
    n_clusters : int
    gabors, dogs : dict
        Arguments of `GaborGrid` and `DoGGrid`, but for the size.
    meis, glm : dict
        Arguments of `meis` and `PoissonGLM`.
    needs_gpu : bool
        Refuse to train without.
    """

    simulated: dict
    core: dict
    model: dict
    max_steps: int | None
    n_clusters: int
    gabors: dict = field(default_factory=dict)
    dogs: dict = field(default_factory=dict)
    meis: dict = field(default_factory=dict)
    glm: dict = field(default_factory=dict)
    needs_gpu: bool = False

    def simulate(self, seed):
        """A `Recording` from a simulated cortex that is shown natural images."""
        from .cortex import natural_patches, simulate_cortex

        options = dict(self.simulated)
        images = natural_patches(options.pop("n_images"), options.pop("size"), rng=seed)
        return simulate_cortex(options.pop("n_neurons"), images, rng=seed, **options)

    def train(self, recordings, folder, seed, progress=False):
        """The model of recordings: that in the folder, or a new one, which is put there.

        Raises
        ------
        ValueError
            The file, or a checkpoint, is damaged or of something else; there is no GPU.
        KeyboardInterrupt
            Training was stopped; the next call goes on from its last checkpoint.
        ArithmeticError
            Training diverged.
        """
        from .core import RotationEquivariantCore
        from .model import EncodingModel

        path = Path(folder) / WEIGHTS
        model = EncodingModel(
            RotationEquivariantCore(**self.core), rng=seed, progress=progress, **self.model
        )
        if path.is_file():
            loaded = EncodingModel.load(path)
            _check_fits(loaded, model, recordings, path)
            return self._on_device(loaded)
        self._require_gpu()
        print("training ...", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        model.fit(
            recordings, max_steps=self.max_steps, checkpoints=path.parent / CHECKPOINTS, resume=True
        )
        if model.stopped_by_ == "interrupted":
            raise KeyboardInterrupt
        if model.stopped_by_ == "diverged":
            raise ArithmeticError("training diverged. Look for outliers among the responses.")
        model.save(path)
        return self._on_device(model)

    def arguments(self, size, seed):
        """Of `atlas`, by name, for images of this size."""
        return {
            "n_clusters": self.n_clusters,
            "grid": GaborGrid(size, **self.gabors),
            "dog_grid": DoGGrid(size, **self.dogs),
            "mei_options": self.meis,
            "glm": PoissonGLM(rng=seed, **self.glm),
            "rng": seed,
        }

    def _on_device(self, model):
        if self.needs_gpu:
            self._require_gpu()
            model.module_.to("cuda")
        return model

    def _require_gpu(self):
        import torch

        if self.needs_gpu and not torch.cuda.is_available():
            raise ValueError("the preset needs a GPU, and torch finds none. Take --preset cpu.")


PRESETS = {
    "smoke": Preset(
        simulated=dict(
            size=(20, 20), n_images=400, n_neurons=20, n_test=30, n_repeats=6, margin=6.0
        ),
        core=dict(kernel_sizes=(7, 5), n_features=2, padding="valid"),
        model=dict(
            smoothness=1e-3, group_sparsity=1e-3, readout_sparsity=2e-3, learning_rate=1e-2,
            batch_size=32, validate_every=25,
        ),
        max_steps=100,
        n_clusters=4,
        gabors=dict(
            sigmas=[1.5, 2.5, 3.5], frequencies=[0.1, 0.17, 0.25], contrasts=[1.0, 2.0, 4.0],
            n_phases=4, n_orientations=8,
        ),
        dogs=dict(sigmas=[1.0, 2.0], ratios=[1.5, 2.5], contrasts=[-2.0, 2.0]),
        meis=dict(n_starts=1, max_iter=40),
        glm=dict(penalties=[1.0]),
    ),
    "cpu": Preset(
        # One phase: types then differ in what they compute alone.
        simulated=dict(
            size=(28, 28), n_images=12_000, n_neurons=150, types=SIMULATED, phases=(0.0,),
            margin=10.0,
        ),
        core=dict(kernel_sizes=(13, 5, 5), n_features=8, padding="valid"),
        model=dict(
            smoothness=1e-3, group_sparsity=1e-3, readout_sparsity=4e-3, learning_rate=4e-3,
            batch_size=64, validate_every=200, patience=3,
        ),
        max_steps=3400,
        n_clusters=len(SIMULATED),
        gabors=dict(
            sigmas=[1.5, 2.0, 2.5, 3.2], frequencies=[0.08, 0.12, 0.16, 0.2], contrasts=[2.0]
        ),
        dogs=dict(contrasts=[-2.0, 2.0]),
        meis=dict(n_starts=2, max_iter=400),
        glm=dict(penalties=[0.1, 0.7, 5.0], n_folds=2),
    ),
    "gpu": Preset(
        simulated=dict(size=(36, 64), n_images=4792, n_neurons=2000),
        core={}, model={}, max_steps=None, n_clusters=50, needs_gpu=True,
    ),
}  # fmt: skip


def read_recording(path, block=None, seed=0):
    """A `Recording` from an HDF5 file, or from a folder or zip file in Sensorium's layout."""
    if Path(path).is_dir() or Path(path).suffix == ".zip":
        return Recording.from_sensorium(path, block=1 if block is None else block)
    if block is not None:
        raise ValueError(f"--block is for folders and zip files of Sensorium; got {path}.")
    return Recording.from_hdf5(path, rng=seed)


def _check_fits(loaded, model, recordings, path):
    """Refuse a stored model that is not what training would give."""
    units = [recording.normalization() for recording in recordings]
    size = recordings[0].images.shape[1:]
    same = loaded._fitted == model._config(size, [len(unit.response_scale) for unit in units])
    same = same and all(
        np.allclose([a.mean, a.deviation, *a.response_scale], [b.mean, b.deviation,
                                                               *b.response_scale])
        for a, b in zip(loaded.units_, units)
    )  # fmt: skip
    if not same:
        raise ValueError(
            f"{path} is a model of other recordings, or of another preset. Take another folder, or "
            "remove it and the checkpoints."
        )

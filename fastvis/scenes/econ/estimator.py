"""What all models of scenes share: fitting, decomposing, files; imports torch."""

import json
import warnings
from dataclasses import replace

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from ..._files import check_target
from ..._models import read_model, write_model
from ..._random import check_rng
from ..._training import Schedule, check_trainer, train
from ..._validation import check_float, check_int
from .decomposition import Decomposition, check_images, check_regions
from .training import FACTOR, Layered, SceneTraining, as_network_input

HELD_OUT = 100  # images
_NOT_STORED = ("callback", "rng", "progress")


class SceneModel(BaseEstimator):
    """A model of layered scenes; a child says how its networks are built.

    A child has ``_check_parameters()`` and ``_build(size)``, which returns a module with ``loss``
    (as `Training` takes it) and ``layers(images, n_steps)``.
    """

    def decompose(self, images, *, n_steps=None, batch_size=100):
        """Take images apart, from front to back.

        Parameters
        ----------
        images : array_like, (N, H, W, 3)
            Of the size of the fit: uint8, or floats in [0, 1].
        n_steps : int, optional
            More steps than in training for scenes with more objects.
        batch_size : int
            Images worked on at once.

        Returns
        -------
        Decomposition

        Raises
        ------
        ValueError
            Images of another size, or out of [0, 1].
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        return self._decompose(images, n_steps, batch_size)

    def _decompose(self, images, n_steps, batch_size, regions=None):
        """Check and decompose; ``regions`` (N, T, H, W) are given to networks that take them."""
        check_is_fitted(self, "module_")
        images = check_images(images, size=self.size_)
        if n_steps is None:
            n_steps = self.module_.n_steps
        n_steps = check_int(n_steps, "n_steps", minimum=1)
        batch_size = check_int(batch_size, "batch_size", minimum=1)
        given = () if regions is None else (check_regions(regions, images, n_steps),)
        batches = [slice(i, i + batch_size) for i in range(0, len(images), batch_size)]
        parts = [
            self._decompose_batch(images[rows], n_steps, *(x[rows] for x in given))
            for rows in batches
        ]
        return Decomposition(*(np.concatenate(arrays) for arrays in zip(*parts)))

    @torch.no_grad()
    def _decompose_batch(self, images, n_steps, *regions):
        device = next(self.module_.parameters()).device
        regions = [torch.from_numpy(x).to(device).float() for x in regions]
        images = as_network_input(torch.from_numpy(images).to(device))
        layers = self.module_.layers(images, n_steps, *regions)
        winner, scope, region, appearance, shape = (
            torch.stack(tensors, dim=1).cpu() for tensors in zip(*layers)
        )
        pictures = appearance.permute(0, 1, 3, 4, 2).contiguous()
        planes = (x[:, :, 0].contiguous().numpy() for x in (region, shape, scope))
        region, shape, scope = planes
        return winner.numpy(), region, pictures.numpy(), shape, scope

    def _fit(self, images, regions, validation, trainer, max_steps, checkpoints, resume):
        """Check, build, train; set the fitted attributes."""
        self._check_parameters()
        images = check_images(images)
        schedule = self._schedule()
        if regions is not None:
            schedule = replace(schedule, warmup_steps=0)  # none with given regions
        max_steps = -1 if max_steps is None else check_int(max_steps, "max_steps", minimum=1)
        check_trainer(trainer, max_steps, checkpoints, resume, self.progress, self.callback)
        layered, held_out = _split(images, regions, validation)
        seed = int(check_rng(self.rng).integers(2**31))
        size = images.shape[1:3]
        config = self._config(size)
        module = self._seeded_module(size, seed)
        self._start(module, layered.images, seed)
        same = {"class": config["class"], "size": config["size"], **config["parameters"]}
        training = SceneTraining(module, layered, held_out, schedule, seed, same)
        stopped_by = train(
            training, trainer=trainer, max_steps=max_steps, checkpoints=checkpoints,
            resume=resume, progress=self.progress, callback=self.callback,
        )  # fmt: skip
        self.module_, self.size_, self._fitted = training.model.eval(), size, config
        steps, losses, rates = np.array(training.progress["history"]).reshape(-1, 3).T
        self.steps_, self.losses_, self.learning_rates_ = steps.astype(int), losses, rates
        self.stopped_by_ = stopped_by
        if stopped_by == "diverged":
            warnings.warn(
                f"training ended: the validation loss is not finite at step {self.steps_[-1]}. "
                "Take a smaller learning_rate, and fit again.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _seeded_module(self, size, seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self._build(size)
        return module.to(memory_format=torch.channels_last)

    def _start(self, module, images, seed):
        """Change the weights before training."""

    def _schedule(self):
        return Schedule(
            check_float(self.learning_rate, "learning_rate", minimum=0, strict=True),
            check_int(self.batch_size, "batch_size", minimum=1),
            check_int(self.validate_every, "validate_every", minimum=1),
            check_int(self.patience, "patience", minimum=1),
            check_int(self.n_drops, "n_drops", minimum=1),
            FACTOR,
            check_int(self.warmup_steps, "warmup_steps", minimum=0),
        )

    def _config(self, size):
        """What makes the networks and their training, of JSON's types."""
        params = {k: v for k, v in self.get_params().items() if k not in _NOT_STORED}
        config = {"class": type(self).__name__, "size": size, "parameters": params}
        return json.loads(json.dumps(config, default=lambda x: x.item()))  # of NumPy

    def save(self, path):
        """Write parameters and weights to a safetensors file, named exactly ``path``.

        The parameters are those of the fit, as JSON in its header. A failed write leaves an older
        file as it was.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            No such folder; the path of a folder.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "module_")
        check_target(path)
        write_model(path, self.module_.state_dict(), self._fitted)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        FileNotFoundError
            No such file.
        ValueError
            The file is truncated, damaged, or something else.
        """
        return read_model(path, cls._restored, cls.__name__)

    @classmethod
    def _restored(cls, config, weights):
        if config["class"] != cls.__name__:
            raise ValueError(f"it holds a {config['class']}")
        model = cls(**{k: tuple(v) if isinstance(v, list) else v
                       for k, v in config["parameters"].items()})  # fmt: skip
        model._check_parameters()
        model.size_, model._fitted = tuple(config["size"]), config
        model.module_ = model._seeded_module(model.size_, 0).eval()
        model.module_.load_state_dict(weights)
        return model


def _split(images, regions, validation):
    """Return `Layered` data for training and for validation."""
    if validation is not None:
        if regions is not None:
            raise ValueError(
                "validation must be None with given regions: the last images are held out."
            )
        return Layered(images), Layered(check_images(validation, "validation", images.shape[1:3]))
    if len(images) < 2:
        raise ValueError(
            f"images must be at least 2, one of which is held out; got {len(images)}. Pass "
            "validation= with a single image."
        )
    n = len(images) - min(HELD_OUT, -(-len(images) // 10))
    if regions is None:
        return Layered(images[:n]), Layered(images[n:])
    return Layered(images[:n], regions[:n]), Layered(images[n:], regions[n:])

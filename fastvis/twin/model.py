"""The model of recordings: one core for all neurons, a readout for each of them; imports torch."""

import json
import warnings
from copy import deepcopy

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional

from .._files import check_target
from .._models import read_model, write_model
from .._random import check_rng
from .._training import Schedule, check_trainer, train
from .._validation import check_choice, check_float, check_int
from .arguments import check_images
from .core import RotationEquivariantCore
from .readout import READOUTS
from .recording import Normalization, check_recordings
from .responding import evaluating
from .training import RecordingTraining

BATCH = 256  # images predicted at once
N_LEVELS = 2  # of the learning rate, each a tenth of the one before
_NOT_STORED = ("core", "callback", "rng", "progress")


class EncodingNetwork(nn.Module):
    """Mean responses of all neurons to z-scored images, in units of their standard deviations.

    ``softplus(readout(core(images)))``, the neurons of all recordings after each other.
    """

    def __init__(self, core, readouts):
        super().__init__()
        self.core, self.readouts = core, nn.ModuleList(readouts)

    def forward(self, images):
        """Responses (n, n_neurons) to images (n, C, H, W)."""
        features = self.core(images)
        return torch.cat([functional.softplus(readout(features)) for readout in self.readouts], 1)

    def of_sessions(self, images):
        """Responses to images of each recording: lists of tensors."""
        features = self.core(torch.cat(images)).split([len(x) for x in images])
        return [functional.softplus(r(x)) for r, x in zip(self.readouts, features)]


def is_plain(module):
    """Whether a module computes what is written here and in `core` and `readout`, and no more."""
    return (
        type(module) is EncodingNetwork
        and type(module.core) is RotationEquivariantCore
        and module.core.channels == 1
        and all(type(readout) in READOUTS.values() for readout in module.readouts)
        and not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    )


class EncodingModel(BaseEstimator):
    """A convolutional core, shared by all neurons, and what each neuron reads of its features.

    Minimizes by Adam, in units of ``Recording.normalization()``,

        mean over trials of sum over neurons (r_hat - r log(r_hat + 1e-5))
        + smoothness and group sparsity of the core's kernels + sparsity of the readout

    and lowers the learning rate to a tenth, from the best weights so far, when validations stop
    improving; the second time training ends.

    Parameters
    ----------
    core : torch.nn.Module, optional
        Takes images (n, 1, H, W) to features (n, C, H', W'), and is left as it is: fits begin with
        a copy. By default a new `RotationEquivariantCore()`. Penalties are taken of cores that have
        ``smoothness(variant)`` and ``group_sparsity(variant)``. A core none of whose parameters
        requires a gradient stays in evaluation mode: only readouts are learned.
    readout : {"factorized", "gaussian"} or callable
        As `FactorizedReadout`, with the same arguments.
    smoothness, group_sparsity, readout_sparsity : float
        Weights of the penalties, at least 0; by default those that were best for 6,005 neurons.
    penalties : {"ecker", "neuralpredictors"}
        Their form: see `RotationEquivariantCore.smoothness`.
    learning_rate : float
    batch_size : int
        Trials of each recording in a step.
    validate_every : int
        Steps.
    patience : int
        Validations without improvement before the learning rate falls.
    callback : callable, optional
        Called as ``callback(step, validation_loss)``; true ends the training.
    progress : bool
        Show a bar.
    rng : None, int or numpy.random.Generator
        Of weights and of batches.

    Attributes
    ----------
    module_ : EncodingNetwork
        Called with z-scored tensors (n, 1, H, W).
    units_ : list of Normalization
        Of the recordings.
    image_size_ : tuple of int, (H, W)
    steps_, losses_, learning_rates_ : ndarray, (n_validations,)
        The losses are Poisson's, without penalties.
    stopped_by_ : {"schedule", "max_steps", "callback", "interrupted", "diverged"}
        "max_steps" also by a trainer's ``max_epochs``.

    References
    ----------
    Ecker et al., ICLR 2019; Ustyuzhaninov et al., ICLR 2020, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import EncodingModel, Recording, RotationEquivariantCore
    >>> images = np.random.default_rng(0).normal(size=(60, 9, 9))
    >>> recording = Recording.from_arrays(images, np.maximum(images[:, 4, 3:5], 0), rng=0)
    >>> core = RotationEquivariantCore((5, 3), n_features=2)
    >>> model = EncodingModel(core, rng=0).fit(recording, max_steps=2)
    >>> model.predict(images).shape, model.readouts().shape
    ((60, 2), (2, 2, 8))
    """

    def __init__(
        self, core=None, readout="factorized", *, smoothness=0.0249692, group_sparsity=0.0152482,
        readout_sparsity=0.0170696, penalties="ecker", learning_rate=2e-3, batch_size=256,
        validate_every=50, patience=5, callback=None, progress=False, rng=None,
    ):  # fmt: skip
        self.core, self.readout = core, readout
        self.smoothness, self.group_sparsity = smoothness, group_sparsity
        self.readout_sparsity, self.penalties = readout_sparsity, penalties
        self.learning_rate, self.batch_size = learning_rate, batch_size
        self.validate_every, self.patience = validate_every, patience
        self.callback, self.progress, self.rng = callback, progress, rng

    def fit(
        self, recordings, *, trainer=None, max_steps=10_000, checkpoints=None, resume=False
    ):  # fmt: skip
        """Train on the training trials of one or several recordings.

        Parameters
        ----------
        recordings : Recording or sequence of Recording
            With images of one size, and validation trials.
        trainer : lightning.Trainer, optional
            Your own, instead of the other options.
        max_steps : int or None
            None: until the schedule ends.
        checkpoints : str or path-like, optional
            A folder, in which the state of each validation replaces the last one.
        resume : bool
            Go on from there, if there is one.

        Returns
        -------
        EncodingModel

        Raises
        ------
        TypeError, ValueError
            Recordings that do not fit each other or have no validation trials, parameters out of
            range, a checkpoint that is damaged or of another model.

        Notes
        -----
        A run that is resumed ends at the same weights as one that was not interrupted. Ctrl-C ends
        the training, with the best weights so far.
        """
        weights = self._check()
        recordings = check_recordings(recordings, ("train", "validation"))
        if trainer is not None and max_steps == 10_000:
            max_steps = None
        max_steps = -1 if max_steps is None else check_int(max_steps, "max_steps", minimum=1)
        check_trainer(trainer, max_steps, checkpoints, resume, self.progress, self.callback)
        schedule = Schedule(
            float(self.learning_rate), int(self.batch_size), int(self.validate_every),
            int(self.patience), N_LEVELS, factor=10.0, restore_best=True,
        )  # fmt: skip
        seed = int(check_rng(self.rng).integers(2**31))
        size = recordings[0].images.shape[1:]
        units = [recording.normalization() for recording in recordings]
        means = [
            unit.responses(recording.of_tier("train")[0]).mean(0)
            for unit, recording in zip(units, recordings)
        ]
        module = self._seeded_module(size, [len(mean) for mean in means], means, seed)
        config = self._config(size, [len(mean) for mean in means])
        same = {name: config[name] for name in ("size", "n_neurons", "core")}
        same |= config["parameters"]
        training = RecordingTraining(
            module, recordings, units, weights, self.penalties, schedule, seed, same
        )
        self.stopped_by_ = train(
            training, trainer=trainer, max_steps=max_steps, checkpoints=checkpoints,
            resume=resume, progress=self.progress, callback=self.callback,
        )  # fmt: skip
        self.module_, self.units_, self._fitted = training.model.eval(), units, config
        self.image_size_ = tuple(size)
        steps, losses, rates = np.array(training.progress["history"]).reshape(-1, 3).T
        self.steps_, self.losses_, self.learning_rates_ = steps.astype(int), losses, rates
        if self.stopped_by_ == "diverged":
            had_best = training.best is not None
            warnings.warn(
                f"training ended: the validation loss is not finite at step {self.steps_[-1]}. "
                f"The model has {'the best weights before' if had_best else 'no good weights'}. "
                "Take a smaller learning_rate.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict(self, images, recording=0):
        """Mean responses to images, both in the units of a recording.

        Parameters
        ----------
        images : array_like, (n_images, H, W)
        recording : int
            Which one of those that were fitted.

        Returns
        -------
        ndarray, (n_images, n_neurons), float32

        Raises
        ------
        ValueError
            Images of another size, or not finite.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "module_")
        images = check_images(images, self.image_size_)
        n = len(self.units_)
        unit = self.units_[check_int(recording, "recording", minimum=0, maximum=n - 1)]
        first = next(self.module_.parameters())
        readout = self.module_.readouts[recording]
        out = []
        with torch.no_grad(), evaluating(self.module_):
            for start in range(0, len(images), BATCH):
                x = torch.from_numpy(unit.images(images[start : start + BATCH])).to(first)
                out.append(functional.softplus(readout(self.module_.core(x[:, None]))).cpu())
        return torch.cat(out).numpy() * unit.response_scale.astype(np.float32)

    def readouts(self):
        """Weights of features: what a neuron computes, wherever it looks.

        Returns
        -------
        ndarray, (n_neurons, n_features, n_orientations), float64
            Of all recordings, after each other. Factorized readouts are scaled as if the masks
            summed to one. One orientation, if the core has no ``n_orientations``.
        """
        check_is_fitted(self, "module_")
        n_orientations = getattr(self.module_.core, "n_orientations", 1)
        weights = torch.cat([readout.feature_weights() for readout in self.module_.readouts])
        weights = weights.detach().double().cpu().numpy()
        by_orientation = weights.reshape(len(weights), n_orientations, -1)
        return np.ascontiguousarray(by_orientation.transpose(0, 2, 1))

    def places(self):
        """Where neurons look, (n_neurons, 2): row and column of the image, of all recordings.

        For cores without strides, which take as many pixels off each border as off the other.
        """
        check_is_fitted(self, "module_")
        places = torch.cat([readout.places() for readout in self.module_.readouts])
        return places.cpu().numpy() + self._border()

    def save(self, path):
        """Write parameters and weights to a safetensors file, named exactly ``path``.

        A failed write leaves an older file as it was.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
        TypeError
            Of a core that is no `RotationEquivariantCore`, or a readout that was not given by name:
            save the ``state_dict`` of ``module_``.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "module_")
        check_target(path)
        if self._fitted["core"] is None or self._fitted["parameters"]["readout"] is None:
            raise TypeError(
                "core must be a RotationEquivariantCore, and readout a name. Save "
                "module_.state_dict()."
            )
        tensors = dict(self.module_.state_dict())
        for i, unit in enumerate(self.units_):
            numbers = np.array([unit.mean, unit.deviation, *unit.response_scale], np.float64)
            tensors[f"units.{i}"] = torch.from_numpy(numbers)
        write_model(path, tensors, self._fitted)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
        ValueError
            The file is truncated, damaged, or something else.
        """
        return read_model(path, cls._restored, cls.__name__)

    @classmethod
    def _restored(cls, config, tensors):
        model = cls(RotationEquivariantCore(**config["core"]), **config["parameters"])
        model._check()
        size, n_neurons = tuple(config["size"]), config["n_neurons"]
        units = [tensors.pop(f"units.{i}").numpy() for i in range(len(n_neurons))]
        model.module_ = model._seeded_module(size, n_neurons, [None] * len(units), 0).eval()
        model.module_.load_state_dict(tensors)
        model.units_ = [Normalization(float(u[0]), float(u[1]), u[2:]) for u in units]
        model.image_size_, model._fitted = size, config
        return model

    def _check(self):
        """Weights of the penalties, and everything in its range."""
        if self.core is not None and not isinstance(self.core, nn.Module):
            raise TypeError(f"core must be a torch.nn.Module; got {type(self.core).__name__}.")
        if not callable(self.readout):
            check_choice(self.readout, "readout", READOUTS)
        check_choice(self.penalties, "penalties", ("ecker", "neuralpredictors"))
        check_float(self.learning_rate, "learning_rate", minimum=0, strict=True)
        for name in ("batch_size", "validate_every", "patience"):
            check_int(getattr(self, name), name, minimum=1)
        names = ("smoothness", "group_sparsity", "readout_sparsity")
        return [check_float(getattr(self, name), name, minimum=0) for name in names]

    def _seeded_module(self, size, n_neurons, means, seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            core = RotationEquivariantCore() if self.core is None else deepcopy(self.core)
            core.train(any(p.requires_grad for p in core.parameters()))  # or it stays as it is
            features = _features(core, size)
            make = self.readout if callable(self.readout) else READOUTS[self.readout]
            readouts = [
                make(n, features[0], features[1:], mean_responses=mean)
                for n, mean in zip(n_neurons, means)
            ]
        return EncodingNetwork(core, readouts).float()

    def _border(self):
        """Pixels of the image before the first one of the features, (2,)."""
        features = _features(self.module_.core, self.image_size_)[1:]
        return (np.array(self.image_size_) - features) / 2

    def _config(self, size, n_neurons):
        """What makes the networks and their training, of JSON's types."""
        core = RotationEquivariantCore() if self.core is None else self.core
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in _NOT_STORED}
        if callable(self.readout):
            params["readout"] = None
        config = {
            "size": size,
            "n_neurons": n_neurons,
            "core": core.arguments() if type(core) is RotationEquivariantCore else None,
            "parameters": params,
        }
        return json.loads(json.dumps(config, default=lambda x: x.item()))  # of NumPy


def _features(core, size):
    """Channels, rows and columns of what a core makes of an image."""
    first = next(core.parameters(), torch.zeros(()))
    try:
        with torch.no_grad(), evaluating(core):
            shape = core(torch.zeros(1, 1, *size).to(first)).shape
    except RuntimeError as error:
        raise ValueError(
            f"core must take images (n, 1, {size[0]}, {size[1]}). {error}"
        ) from error  # fmt: skip
    if len(shape) != 4:
        raise ValueError(f"core must give features (n, C, H, W); got shape {tuple(shape)}.")
    return tuple(shape[1:])

"""Training by Lightning, for all learned models: schedules, checkpoints, Ctrl-C; imports torch.

Everything random in a training step follows from the seed and the step's number. So a run that is
resumed from a checkpoint goes on as if it had never stopped.
"""

import logging
import math
import pickle
import signal
import threading
import warnings
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader, Sampler

LAST = "last.ckpt"
_EXPECTED = (  # of data that are in memory, and of a folder that is resumed from
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*callbacks used to create the checkpoint.*",
    ".*GPU available but not used.*",
    ".*in eval mode at the start of training.*",  # cores that are not to learn
    ".*isinstance.treespec, LeafSpec.*",
    ".*`torch.jit.script` is deprecated.*",
)


@dataclass(frozen=True)
class Schedule:
    """Adam, with a learning rate that falls when validations stop improving."""

    learning_rate: float
    batch_size: int
    validate_every: int  # steps
    patience: int  # validations without improvement
    n_drops: int  # after which training stops
    factor: float  # by which the learning rate falls
    warmup_steps: int = 0  # during which it does not fall
    restore_best: bool = False  # weights and moments, at a drop and in the end


class Batches(Sampler):
    """Rows of the batches of an epoch, which follow from the seed and the steps before it alone.

    ``steps_before()`` tells these; the number of the epoch is another one in a resumed run.
    """

    def __init__(self, n, batch_size, n_batches, seed, steps_before):
        self.n, self.batch_size, self.n_batches = n, batch_size, n_batches
        self.seed, self.steps_before = seed, steps_before

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        rng = np.random.default_rng([*np.atleast_1d(self.seed), self.steps_before()])
        n_rows = self.n_batches * self.batch_size
        rounds = [rng.permutation(self.n) for _ in range(-(-n_rows // self.n))]
        yield from np.concatenate(rounds)[:n_rows].reshape(self.n_batches, self.batch_size)


class Training(lightning.LightningModule):
    """Minimizes the loss of a model; an epoch is the steps between two validations.

    A child has ``train_batches()`` and ``validation_batches()``, which give a data set and a
    sampler of what it takes for a batch, and ``loss(batch, step, generator)``, in which ``step`` is
    None in validation.

    Parameters
    ----------
    model : torch.nn.Module
    schedule : Schedule
    seed : int
    config : dict
        What must be the same where a run goes on, of JSON's types.
    """

    def __init__(self, model, schedule, seed, config):
        super().__init__()
        self.model, self.schedule, self.seed, self.config = model, schedule, seed, config
        # history: step, loss and learning rate of validations; failures: since the best or a drop.
        self.progress = {"history": [], "best": math.inf, "failures": 0, "drops": 0}
        self.best = None  # states of the model and of Adam

    def batch_weight(self, batch):
        """How much a batch counts in the mean of a validation."""
        return len(batch[0])

    def training_step(self, batch, batch_idx):
        return self._loss(batch, self.global_step, self.global_step)

    def validation_step(self, batch, batch_idx):
        loss = self._loss(batch, None, batch_idx)
        self.log("validation_loss", loss, batch_size=self.batch_weight(batch), prog_bar=True)

    def on_validation_epoch_end(self):
        """Lower the learning rate, or end training, as the schedule says or if it diverges."""
        if self.trainer.sanity_checking:  # a user's trainer does, before the first step
            return
        loss = float(self.trainer.callback_metrics["validation_loss"])
        optimizer, progress = self.trainer.optimizers[0], self.progress
        rate = optimizer.param_groups[0]["lr"]
        progress["history"].append([self.global_step, loss, rate])
        if not math.isfinite(loss):
            self.trainer.should_stop = True
            return
        if self.global_step <= self.schedule.warmup_steps:
            return
        if loss < progress["best"]:
            progress |= {"best": loss, "failures": 0}
            if self.schedule.restore_best:
                states = self.model.state_dict(), optimizer.state_dict()
                self.best = dict(zip(("model", "optimizer"), deepcopy(states)))
            return
        progress["failures"] += 1
        if progress["failures"] == self.schedule.patience:
            progress |= {"failures": 0, "drops": progress["drops"] + 1}
            self.restore_best(optimizer)
            optimizer.param_groups[0]["lr"] = rate / self.schedule.factor
        if progress["drops"] == self.schedule.n_drops:
            self.trainer.should_stop = True

    def restore_best(self, optimizer=None):
        """Go back to the best validation, if the schedule does."""
        if self.best is not None:
            self.model.load_state_dict(self.best["model"])
            if optimizer is not None:
                optimizer.load_state_dict(deepcopy(self.best["optimizer"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.model.parameters(), self.schedule.learning_rate)

    def train_dataloader(self):
        return _loader(*self.train_batches())

    def val_dataloader(self):
        return _loader(*self.validation_batches())

    def on_save_checkpoint(self, checkpoint):
        checkpoint["fastvis"] = {
            "seed": self.seed, "progress": self.progress, "model": self.config, "best": self.best
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint):
        stored = checkpoint["fastvis"]
        self.seed, self.progress = stored["seed"], stored["progress"]
        self.best = stored.get("best")
        self.trainer.should_stop = self.progress["drops"] >= self.schedule.n_drops

    def _loss(self, batch, step, number):
        # The seeds of training and validation steps differ.
        seeds = np.random.SeedSequence([self.seed, step is None, number]).generate_state(1)
        seed = int(seeds[0])
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # layers draw without the generator
            torch.manual_seed(seed)
            return self.loss(batch, step, torch.Generator().manual_seed(seed))


def _loader(dataset, sampler):
    return DataLoader(dataset, batch_size=None, sampler=sampler)


class _Checkpoints(ModelCheckpoint):
    """Keeps where a run can go on: at a validation with a finite loss."""

    def on_train_epoch_end(self, trainer, module):
        history = module.progress["history"]  # an epoch that max_steps cut has no entry
        if history and history[-1][0] == module.global_step and math.isfinite(history[-1][1]):
            super().on_train_epoch_end(trainer, module)


class _AfterValidation(Callback):
    """Calls ``callback(step, validation_loss)``; true ends the training."""

    def __init__(self, callback):
        self.callback = callback

    def on_validation_end(self, trainer, module):
        if self.callback(*module.progress["history"][-1][:2]):
            trainer.should_stop = True


def train(
    training, *, trainer=None, max_steps=-1, checkpoints=None, resume=False, progress=False,
    callback=None,
):  # fmt: skip
    """Run a `Training`, in a default trainer or the user's; return why it ended."""
    path = Path(checkpoints) / LAST if checkpoints is not None else None
    resume_from = str(path) if resume and path.is_file() else None
    if resume_from is not None:
        _check_checkpoint(path, training)
    with _quiet():
        if trainer is None:
            trainer = _default_trainer(max_steps, checkpoints, progress, callback)
        elif _is_at_limit(trainer):
            raise ValueError(
                "trainer must have steps left; it has made its max_steps or max_epochs. Pass a new "
                "one."
            )
        with _keeping_interrupts(trainer):
            trainer.fit(training, ckpt_path=resume_from, weights_only=True)
            at_limit = _is_at_limit(trainer)
            history = training.progress["history"]
            if at_limit and (not history or history[-1][0] < training.global_step):
                trainer.validate(training, verbose=False)
    training.restore_best()
    if trainer.interrupted:
        return "interrupted"
    if history and not math.isfinite(history[-1][1]):
        return "diverged"
    if at_limit:
        return "max_steps"
    return "callback" if training.progress["drops"] < training.schedule.n_drops else "schedule"


def _is_at_limit(trainer):
    limits = (
        (trainer.max_steps, trainer.global_step),
        (trainer.max_epochs, trainer.current_epoch),  # a user's may have some
    )
    return any(most is not None and 0 <= most <= n for most, n in limits)


def _check_checkpoint(path, training):
    """Refuse a checkpoint that cannot be read, or is of another training."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        stored = checkpoint["fastvis"].get("model", {})  # older ones do not have it
        shapes = {name: x.shape for name, x in checkpoint["state_dict"].items()}
    except (
        OSError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError, TypeError,
        AttributeError,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{path} cannot be read as a checkpoint of fit. It may be truncated. Remove it to "
            "begin anew."
        ) from error
    remedy = "Go on with the same, or take another folder for checkpoints."
    for name, value in stored.items():
        got = training.config.get(name, value)
        if got != value:
            value, got = (tuple(x) if isinstance(x, list) else x for x in (value, got))
            raise ValueError(f"{name} must be {value!r}, as in {path}; got {got!r}. {remedy}")
    if shapes != {name: x.shape for name, x in training.state_dict().items()}:
        raise ValueError(
            f"{path} holds other networks, of another model or for images of another size. {remedy}"
        )


@contextmanager
def _keeping_interrupts(trainer):
    """Go on after Ctrl-C, of which Lightning makes an exit, and hear the next one again."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        if main:
            signal.signal(signal.SIGINT, handler)


def _default_trainer(max_steps, checkpoints, progress, callback):
    callbacks = [] if callback is None else [_AfterValidation(callback)]
    if checkpoints is not None:
        callbacks.append(
            _Checkpoints(
                checkpoints,
                Path(LAST).stem,
                enable_version_counter=False,
                save_on_train_epoch_end=True,
            )  # fmt: skip
        )
    return lightning.Trainer(
        devices=1,  # several would start the user's program again, once for each
        max_epochs=-1,
        max_steps=max_steps,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        enable_checkpointing=checkpoints is not None,
        enable_progress_bar=progress,
        enable_model_summary=False,
        logger=False,
    )


@contextmanager
def _quiet():
    """Without Lightning's advice, which is not for data in memory."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        logger.setLevel(level)


def check_trainer(trainer, max_steps, checkpoints, resume, progress, callback):
    """Refuse options of the default trainer beside a user's."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None; got {callback!r}.")
    if resume and checkpoints is None:
        raise ValueError("checkpoints must name a folder for resume=True; got None.")
    ours = max_steps != -1 or checkpoints is not None or progress or callback is not None
    if trainer is not None and ours:
        raise ValueError(
            "trainer brings its own max_steps, checkpoints, progress and callbacks. Give these "
            "to the Trainer, or leave trainer out."
        )
    if trainer is not None and not isinstance(trainer, lightning.Trainer):
        raise TypeError(f"trainer must be a lightning.Trainer; got {type(trainer).__name__}.")

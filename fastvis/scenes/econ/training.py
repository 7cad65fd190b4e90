"""The training of scene models with Lightning, and its schedule (C.3); imports torch.

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
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader, Dataset, Sampler

LAST = "last.ckpt"
FACTOR = math.sqrt(10)
CHUNK = 100  # images validated at once
_EXPECTED = (  # of data that are in memory, and of a folder that is resumed from
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*callbacks used to create the checkpoint.*",
    ".*GPU available but not used.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*`torch.jit.script` is deprecated.*",
)


@dataclass(frozen=True)
class Schedule:
    """Adam, with a learning rate that falls by sqrt(10) when validations stop improving (C.3)."""

    learning_rate: float
    batch_size: int
    validate_every: int  # steps
    patience: int  # validations without improvement
    n_drops: int  # after which training stops
    warmup_steps: int  # during which the learning rate does not fall


class Layered(Dataset):
    """Images (N, H, W, 3), uint8 or float32, and regions (N, T, H, W) or None; items are batches.

    Examples
    --------
    >>> images, regions = Layered(np.zeros((5, 8, 8, 3), np.uint8))[[0, 3]]
    >>> tuple(images.shape), regions.numel()
    ((2, 8, 8, 3), 0)
    """

    def __init__(self, images, regions=None):
        self.images, self.regions = images, regions

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        regions = torch.empty(0) if self.regions is None else _tensor(self.regions[rows])
        return _tensor(self.images[rows]), regions


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
        rng = np.random.default_rng([self.seed, self.steps_before()])
        n_rows = self.n_batches * self.batch_size
        rounds = [rng.permutation(self.n) for _ in range(-(-n_rows // self.n))]
        yield from np.concatenate(rounds)[:n_rows].reshape(self.n_batches, self.batch_size)


class Training(lightning.LightningModule):
    """Minimizes the loss of a model; an epoch is the steps between two validations.

    Parameters
    ----------
    model : torch.nn.Module
        With ``loss(images, regions, step, generator) -> (N,)``; ``step`` is None in validation.
    train, validation : Layered
    schedule : Schedule
    seed : int
    config : dict
        What must be the same where a run goes on, of JSON's types.
    """

    def __init__(self, model, train, validation, schedule, seed, config):
        super().__init__()
        self.model, self.schedule, self.seed, self.config = model, schedule, seed, config
        self.train_data, self.validation_data = train, validation
        # history: step, loss and learning rate of validations; failures: since the best or a drop.
        self.progress = {"history": [], "best": math.inf, "failures": 0, "drops": 0}

    def training_step(self, batch, batch_idx):
        return self._loss(batch, self.global_step, self.global_step)

    def validation_step(self, batch, batch_idx):
        loss = self._loss(batch, None, batch_idx)
        self.log("validation_loss", loss, batch_size=len(batch[0]), prog_bar=True)

    def on_validation_epoch_end(self):
        """Lower the learning rate, or end training, as the schedule says or if it diverges."""
        loss = float(self.trainer.callback_metrics["validation_loss"])
        group = self.trainer.optimizers[0].param_groups[0]
        self.progress["history"].append([self.global_step, loss, group["lr"]])
        if not math.isfinite(loss):
            self.trainer.should_stop = True
            return
        if self.global_step <= self.schedule.warmup_steps:
            return
        if loss < self.progress["best"]:
            self.progress |= {"best": loss, "failures": 0}
            return
        self.progress["failures"] += 1
        if self.progress["failures"] == self.schedule.patience:
            self.progress |= {"failures": 0, "drops": self.progress["drops"] + 1}
            group["lr"] /= FACTOR
        if self.progress["drops"] == self.schedule.n_drops:
            self.trainer.should_stop = True

    def configure_optimizers(self):
        return torch.optim.Adam(self.model.parameters(), self.schedule.learning_rate)

    def train_dataloader(self):
        schedule = self.schedule
        batches = Batches(
            len(self.train_data), schedule.batch_size, schedule.validate_every, self.seed,
            steps_before=lambda: self.global_step,
        )  # fmt: skip
        return DataLoader(self.train_data, batch_size=None, sampler=batches)

    def val_dataloader(self):
        rows = np.arange(len(self.validation_data))
        chunks = np.array_split(rows, -(-len(rows) // CHUNK))
        return DataLoader(self.validation_data, batch_size=None, sampler=chunks)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["fastvis"] = {
            "seed": self.seed, "progress": self.progress, "model": self.config
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint):
        self.seed, self.progress = (checkpoint["fastvis"][key] for key in ("seed", "progress"))

    def _loss(self, batch, step, number):
        images, regions = batch
        # The seeds of training and validation steps differ.
        seeds = np.random.SeedSequence([self.seed, step is None, number]).generate_state(1)
        generator = torch.Generator().manual_seed(int(seeds[0]))
        regions = regions.float() if regions.numel() else None
        return self.model.loss(as_network_input(images), regions, step, generator).mean()


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
        with _keeping_interrupts(trainer):
            trainer.fit(training, ckpt_path=resume_from, weights_only=True)
            at_limit = 0 <= trainer.max_steps <= training.global_step
            history = training.progress["history"]
            if at_limit and (not history or history[-1][0] < training.global_step):
                trainer.validate(training, verbose=False)
    if trainer.interrupted:
        return "interrupted"
    if history and not math.isfinite(history[-1][1]):
        return "diverged"
    if at_limit:
        return "max_steps"
    return "callback" if training.progress["drops"] < training.schedule.n_drops else "schedule"


def _check_checkpoint(path, training):
    """Refuse a checkpoint that cannot be read, or is of another training."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        stored = checkpoint["fastvis"].get("model", {})  # older ones do not have it
        shapes = {name: x.shape for name, x in checkpoint["state_dict"].items()}
    except (
        RuntimeError, EOFError, pickle.UnpicklingError, LookupError, TypeError, AttributeError
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


def as_network_input(images):
    """(N, H, W, 3) uint8 or float32 -> (N, 3, H, W) in [0, 1], channels last in memory."""
    images = images.permute(0, 3, 1, 2)
    return images.float() / 255 if images.dtype == torch.uint8 else images


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
        max_epochs=-1,
        max_steps=max_steps,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        enable_checkpointing=checkpoints is not None,
        enable_progress_bar=progress,
        enable_model_summary=False,
        logger=False,
    )


def _tensor(rows):
    return torch.from_numpy(np.ascontiguousarray(rows))


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

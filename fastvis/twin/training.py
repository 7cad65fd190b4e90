"""The data and the loss of encoding models in training; imports torch."""

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from .._training import Batches, Training

CHUNK = 256  # trials validated at once
EPSILON = 1e-5  # of the logarithm of a rate


class Trials(Dataset):
    """Trials of a tier of several recordings, in their units.

    An item is that of a list of rows of each recording: pairs of images (n, 1, H, W) and responses
    (n, n_neurons).
    """

    def __init__(self, recordings, units, tier):
        self.images, self.responses, self.ids = [], [], []
        for recording, unit in zip(recordings, units):
            responses, ids = recording.of_tier(tier)
            self.images.append(unit.images(recording.images)[:, None])
            self.responses.append(unit.responses(responses))
            self.ids.append(ids)

    def __getitem__(self, rows):
        return [
            (torch.from_numpy(images[ids[i]]), torch.from_numpy(responses[i]))
            for images, responses, ids, i in zip(self.images, self.responses, self.ids, rows)
        ]

    def sizes(self):
        """How many trials each recording has."""
        return [len(ids) for ids in self.ids]


class Together(Sampler):
    """Batches of several samplers at once, all of one length."""

    def __init__(self, samplers):
        self.samplers = samplers

    def __len__(self):
        return len(self.samplers[0])

    def __iter__(self):
        yield from (list(rows) for rows in zip(*self.samplers))


class RecordingTraining(Training):
    """Minimizes Poisson's loss and penalties, given by three weights, over recordings."""

    def __init__(self, model, recordings, units, weights, variant, schedule, seed, config):
        super().__init__(model, schedule, seed, config)
        self.weights, self.variant = weights, variant
        self.train_data = Trials(recordings, units, "train")
        self.validation_data = Trials(recordings, units, "validation")

    def train_batches(self):
        schedule = self.schedule
        samplers = [
            Batches(
                n, min(schedule.batch_size, n), schedule.validate_every, (self.seed, i),
                steps_before=lambda: self.global_step,
            )
            for i, n in enumerate(self.train_data.sizes())
        ]  # fmt: skip
        return self.train_data, Together(samplers)

    def validation_batches(self):
        sizes = self.validation_data.sizes()
        n_chunks = -(-max(sizes) // CHUNK)
        chunks = [np.array_split(np.arange(n), n_chunks) for n in sizes]
        return self.validation_data, [list(rows) for rows in zip(*chunks)]

    def batch_weight(self, batch):
        """One: the loss of a chunk is that of all trials, shared out."""
        return 1

    def loss(self, batch, step, generator):
        """Summed over recordings; penalties are part of it in training only."""
        images, responses = zip(*batch)
        predicted = self.model.of_sessions(images)
        each = [poisson_loss(r_hat, r) for r_hat, r in zip(predicted, responses)]
        if step is None:
            sizes = self.validation_data.sizes()
            n_chunks = -(-max(sizes) // CHUNK)
            return sum(loss.sum() * n_chunks / n for loss, n in zip(each, sizes))
        return sum(loss.mean() for loss in each) + self.penalty()

    def penalty(self):
        """Of the core, where it has any, and of the readouts."""
        smoothness, group_sparsity, readout_sparsity = self.weights
        core, total = self.model.core, 0.0
        for weight, name in ((smoothness, "smoothness"), (group_sparsity, "group_sparsity")):
            if weight and hasattr(core, name):
                total = total + weight * getattr(core, name)(self.variant)
        return total + readout_sparsity * sum(r.penalty() for r in self.model.readouts)


def poisson_loss(predicted, responses):
    """Of each trial, (n,): the sum over neurons, without what depends on responses alone."""
    return (predicted - responses * torch.log(predicted + EPSILON)).sum(1)

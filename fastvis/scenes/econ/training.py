"""The data and the loss of scene models in training (C.3); imports torch."""

import math

import numpy as np
import torch
from torch.utils.data import Dataset

from ..._training import Batches, Training

FACTOR = math.sqrt(10)  # by which the learning rate falls
CHUNK = 100  # images validated at once


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


class SceneTraining(Training):
    """Minimizes ``model.loss(images, regions, step, generator) -> (N,)`` over `Layered` images."""

    def __init__(self, model, train, validation, schedule, seed, config):
        super().__init__(model, schedule, seed, config)
        self.train_data, self.validation_data = train, validation

    def train_batches(self):
        schedule = self.schedule
        return self.train_data, Batches(
            len(self.train_data), schedule.batch_size, schedule.validate_every, self.seed,
            steps_before=lambda: self.global_step,
        )  # fmt: skip

    def validation_batches(self):
        rows = np.arange(len(self.validation_data))
        return self.validation_data, np.array_split(rows, -(-len(rows) // CHUNK))

    def loss(self, batch, step, generator):
        images, regions = batch
        regions = regions.float() if regions.numel() else None
        return self.model.loss(as_network_input(images), regions, step, generator).mean()


def as_network_input(images):
    """(N, H, W, 3) uint8 or float32 -> (N, 3, H, W) in [0, 1], channels last in memory."""
    images = images.permute(0, 3, 1, 2)
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _tensor(rows):
    return torch.from_numpy(np.ascontiguousarray(rows))

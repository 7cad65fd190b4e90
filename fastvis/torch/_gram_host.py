"""The Gram model's NumPy kernel on CPU tensors; imports torch."""

import numpy as np
import torch


class HostPlan:
    """A `StripPlan` that takes and returns CPU tensors, images as (C, H, W)."""

    def __init__(self, plan):
        self.plan = plan

    def gram(self, image):
        return torch.from_numpy(self.plan.gram(_to_array(image)))

    def gram_vjp(self, image, d_gram):
        return _to_tensor(self.plan.gram_vjp(_to_array(image), d_gram.numpy(force=True)))

    def loss(self, image, target):
        loss = self.plan.loss(_to_array(image), target.numpy(force=True))
        return torch.tensor(loss, dtype=torch.float64)

    def loss_and_grad(self, image, target):
        loss, grad = self.plan.loss_and_grad(_to_array(image), target.numpy(force=True))
        return torch.tensor(loss, dtype=torch.float64), _to_tensor(grad)


def plan_for(model, image):
    """The plan of a GramModel for images like this one."""
    return HostPlan(model._plan_for(_to_array(image), model.padding))


def _to_array(image):
    """(C, H, W) as an array (H, W, C); a copy only if the channels do not run fastest."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy(force=True))


def _to_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1)

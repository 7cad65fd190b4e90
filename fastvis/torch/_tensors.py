"""Checks of tensors at the door."""

import torch
from torch import Tensor


def check_tensor(tensor, name, axes, at_home):
    """A dense tensor of floats; ``axes``: its shape, ``at_home``: where NumPy arrays go."""
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor {axes}; got {type(tensor).__name__}. "
            f"For NumPy arrays use {at_home}."
        )
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{name} must be float32 or float64; got {tensor.dtype}. Convert with {name}.float()."
        )
    if tensor.layout != torch.strided:
        raise ValueError(
            f"{name} must be dense; got layout {tensor.layout}. Convert with {name}.to_dense()."
        )


def check_device(tensor, name):
    """On the CPU, or a CUDA device."""
    if tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(f"{name} must be on the CPU or a CUDA device; got {tensor.device}.")


def check_same_device(tensor, name, other, other_name):
    """On the device of the other."""
    if tensor.device != other.device:
        raise ValueError(
            f"{name} must be on the device of {other_name}, {other.device}; got {tensor.device}. "
            f"Pass {name}.to({other_name}.device)."
        )


def check_finite(tensor, name):
    """No NaN, nothing infinite."""
    n_bad = tensor.numel() - int(torch.isfinite(tensor).sum())
    if n_bad:
        raise ValueError(
            f"{name} must be finite; got {n_bad} value(s) that are NaN or infinite. "
            "Remove or replace them first."
        )

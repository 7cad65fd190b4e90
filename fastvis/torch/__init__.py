"""The kernels as differentiable PyTorch operators; imports torch.

They keep device and dtype, and work in training loops, under `torch.compile` and `torch.no_grad`,
and in DataLoader workers. CUDA tensors are worked on where they are.
"""

from .gram import gram, gram_loss

__all__ = ["gram", "gram_loss"]

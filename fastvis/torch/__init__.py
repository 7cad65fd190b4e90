"""The kernels as differentiable PyTorch operators; imports torch.

They keep device and dtype, and work in training loops, under `torch.compile` and `torch.no_grad`,
and in DataLoader workers. CUDA tensors are worked on where they are.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastvis.torch needs PyTorch. Install it with: pip install fastvis[torch]"
    ) from error

from .blocktri import blocktri_inverse_blocks, blocktri_logdet, blocktri_solve
from .covariance import covariance, covariance_diag
from .deep_gp import DeepGPBound
from .gram import gram, gram_loss
from .readouts import (
    cyclic_rotation,
    fourier_rotation,
    mean_distance,
    pairwise_distance_loss,
    von_mises_rotation,
)

__all__ = [
    "DeepGPBound",
    "blocktri_inverse_blocks",
    "blocktri_logdet",
    "blocktri_solve",
    "covariance",
    "covariance_diag",
    "cyclic_rotation",
    "fourier_rotation",
    "gram",
    "gram_loss",
    "mean_distance",
    "pairwise_distance_loss",
    "von_mises_rotation",
]

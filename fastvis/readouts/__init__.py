"""Readout vectors of rotation-equivariant models: rotation and distances.

A readout is a neuron's weights on features that come in O orientations, ``(n_features,
n_orientations)``; a model that is equivariant to rotation describes a turned neuron by cyclic
shifts of the last axis (Ustyuzhaninov et al., *Rotation-invariant clustering of neuronal responses
in primary visual cortex*, ICLR 2020).
"""

from .rotation import (
    cyclic_rotation,
    fourier_rotation,
    pairwise_distance_loss,
    von_mises_rotation,
)

__all__ = [
    "cyclic_rotation",
    "fourier_rotation",
    "pairwise_distance_loss",
    "von_mises_rotation",
]

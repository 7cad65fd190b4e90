"""Readout vectors of rotation-equivariant models: rotation, alignment, clusters.

A readout is a neuron's weights on features that come in O orientations, ``(n_features,
n_orientations)``; a model that is equivariant to rotation describes a turned neuron by cyclic
shifts of the last axis (Ustyuzhaninov et al., *Rotation-invariant clustering of neuronal responses
in primary visual cortex*, ICLR 2020)::

    readouts -> RotationAligner -> aligned readouts -> cluster -> clusters -> cluster_confusion
                                                       heldout_loglik         merge_blocks
                                                       permute_features       mei_confusion

`fastvis.readouts.plots` draws them (matplotlib). Names are loaded on first use: some need
scikit-learn, which takes a second to import.
"""

from importlib import import_module

_MODULES = {
    "aligner": ("RotationAligner",),
    "beta_path": ("BetaPath",),
    "clustering": ("Clustering", "HeldoutLoglik", "cluster", "embed", "heldout_loglik",
                   "permute_features"),
    "confusion": ("BlockStep", "Blocks", "ClusterConfusion", "cluster_confusion", "mei_confusion",
                  "merge_blocks"),
    "noise": ("NoiseCheck",),
    "rotation": ("cyclic_rotation", "fourier_rotation", "pairwise_distance_loss",
                 "von_mises_rotation"),
    "synthetic": ("make_rotated_readouts",),
}  # fmt: skip
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*sorted(_HOME), "plots"]


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name == "plots":
        return import_module(f"{__name__}.plots")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__

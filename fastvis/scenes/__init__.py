"""Layered scenes of objects that hide each other, with everything known about them.

Shapes are placed from back to front; what is seen of each is its region (von Kügelgen,
Ustyuzhaninov et al., *Towards causal generative scene models via competition of experts*, ICLR
2020 workshop; equation numbers in this package are that paper's)::

    shapes, appearances -> composite -> image, regions, scopes
    DeadLeaves, sprites -> Scenes: images, labels, whole shapes, depth order
    ScenesWriter, SceneFile: HDF5 files
    ECON, MONet: models that take scenes apart (PyTorch)
    metrics: is a scene taken apart into its objects, with their whole shapes, in their order?

Names are loaded on first use.
"""

from importlib import import_module

_MODULES = {
    "compositing": ("Composite", "composite"),
    "econ": ("Decomposition", "ECON", "MONet"),
    "dead_leaves": ("DeadLeaves", "PowerLaw", "Uniform"),
    "scenes": ("SceneFile", "Scenes", "ScenesWriter"),
    "toys": ("sprites",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_SUBMODULES = ("metrics",)

__all__ = [*sorted(_HOME), *_SUBMODULES]


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__

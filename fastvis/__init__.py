"""Fast, exact kernels for computational vision science, and the models built on them.

The subpackages are loaded on first use: ``import fastvis`` itself imports nothing heavy.

====================  ===========================================================
``fastvis.gp``        Gaussian processes, chains of Gaussian variables
``fastvis.readouts``  rotation-invariant alignment and clusters of readout vectors
``fastvis.scenes``    layered scenes with everything known about them, and metrics
``fastvis.textures``  random-filter texture models, synthesis, inpainting, metrics
``fastvis.torch``     the kernels as differentiable PyTorch operators
``fastvis.twin``      digital twins: scores and ceilings, stimuli, the steerable basis
====================  ===========================================================
"""

from importlib import import_module

__version__ = "0.1.0"

_SUBPACKAGES = ("gp", "readouts", "scenes", "textures", "torch", "twin")

__all__ = ["__version__", *_SUBPACKAGES]


def __getattr__(name):
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)

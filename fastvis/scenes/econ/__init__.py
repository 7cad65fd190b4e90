"""ECON and a MONet-style rival: models that learn to take layered scenes apart.

Names are loaded on first use: torch is imported only then.
"""

from importlib import import_module

_HOME = {
    "Decomposition": "decomposition",
    "ECON": "econ",
    "MONet": "monet",
    "PRESETS": "presets",
    "SampledScenes": "econ",
    "random_configurations": "search",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__

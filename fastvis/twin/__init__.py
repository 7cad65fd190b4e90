"""The digital twin: models of recordings, and experiments on what they have learned.

Images and stimuli are luminances (n, H, W), z-scored; responses (n_trials, n_neurons). Names are
loaded on first use: torch is imported only for models.
"""

from importlib import import_module

_HOME = {
    "DifferencesOfGaussians": "families",
    "DoGGrid": "optimal",
    "EncodingModel": "model",
    "FactorizedReadout": "readout",
    "GaborGrid": "optimal",
    "Gabors": "families",
    "GaussianReadout": "readout",
    "Normalization": "recording",
    "PoissonGLM": "glm",
    "Recording": "recording",
    "RotationEquivariantCore": "core",
    "SimulatedCortex": "cortex",
    "ccnorm": "scores",
    "ceiling": "scores",
    "correlation_to_average": "scores",
    "difference_of_gaussians": "stimuli",
    "fev": "scores",
    "feve": "scores",
    "gabor": "stimuli",
    "grating": "stimuli",
    "hermite_basis": "hermite",
    "match_energy": "stimuli",
    "optimal_dogs": "optimal",
    "optimal_gabors": "optimal",
    "natural_patches": "cortex",
    "oracle": "scores",
    "plaid": "stimuli",
    "rotate_coefficients": "hermite",
    "simulate_cortex": "cortex",
    "single_trial_correlation": "scores",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__

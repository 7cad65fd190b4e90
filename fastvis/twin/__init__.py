"""The digital twin: models of recordings, and experiments on what they have learned.

Images and stimuli are luminances (n, H, W), z-scored; responses (n_trials, n_neurons). Names are
loaded on first use: torch is imported only for models.
"""

from importlib import import_module

_HOME = {
    "Atlas": "atlas_stages",
    "ClusterMEIs": "most_exciting",
    "DifferencesOfGaussians": "families",
    "DoGGrid": "optimal",
    "EncodingModel": "model",
    "FactorizedReadout": "readout",
    "GaborGrid": "optimal",
    "Gabors": "families",
    "GaussianReadout": "readout",
    "MEIs": "most_exciting",
    "Normalization": "recording",
    "PoissonGLM": "glm",
    "Recording": "recording",
    "RotationEquivariantCore": "core",
    "SimulatedCortex": "cortex",
    "TuningCurves": "experiments",
    "atlas": "atlas_stages",
    "ccnorm": "scores",
    "ceiling": "scores",
    "cluster_meis": "most_exciting",
    "combinations": "statistics",
    "compare_clusters": "statistics",
    "compare_stimuli": "experiments",
    "compare_tuning": "statistics",
    "correlate_properties": "statistics",
    "correlation_to_average": "scores",
    "count_modes": "statistics",
    "coverage": "statistics",
    "cross_orientation_inhibition": "experiments",
    "difference_of_gaussians": "stimuli",
    "fev": "scores",
    "feve": "scores",
    "gabor": "stimuli",
    "grating": "stimuli",
    "greedy_gabors": "statistics",
    "hermite_basis": "hermite",
    "high_low": "statistics",
    "load_atlas": "atlas_stages",
    "match_energy": "stimuli",
    "meis": "most_exciting",
    "natural_patches": "cortex",
    "nonlinearity_index": "experiments",
    "optimal_dogs": "optimal",
    "optimal_gabors": "optimal",
    "oracle": "scores",
    "orientation_tuning": "experiments",
    "phase_tuning": "experiments",
    "plaid": "stimuli",
    "pool_recordings": "pooling",
    "rotate_coefficients": "hermite",
    "simulate_cortex": "cortex",
    "single_trial_correlation": "scores",
    "size_contrast_tuning": "experiments",
    "summary_table": "pooling",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__

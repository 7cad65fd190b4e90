"""Gaussian processes, and the algebra of chains of Gaussian variables.

::

    SquaredExponential, Periodic, Matern, Linear, White: covariances, their sums and products
    BlockTridiagonal    precision of a chain: factor, solve, selected inverse, draws
    ChainGaussian       the same chain, forward: each layer given the one before it
    DeepGP              layers of `GPLayer`, and a `MonotonicFlow` before them; four posteriors
    elliptical_slice    the posterior by sampling, as a reference
    noisy_input_variance  why layers that know nothing of each other collapse

Names are loaded on first use.
"""

from importlib import import_module

_MODULES = {
    "alignment": ("Alignment", "align_sequences"),
    "block_tridiagonal": ("BlockTridiagonal",),
    "chain_gaussian": ("ChainGaussian",),
    "coupling": ("Coupling",),
    "deep_gp": ("DeepGP", "Elbo", "GPLayer", "Prediction"),
    "flow": ("MonotonicFlow",),
    "functions": ("FunctionDraws",),
    "noisy_inputs": (
        "noisy_input_variance",
        "noisy_input_variance_slope",
        "variance_beside_one_point",
    ),
    "slice_sampling": ("SliceSamples", "annealed_evidence", "elliptical_slice"),
    "likelihoods": ("Bernoulli", "Gaussian", "StudentT"),
    "covariances": (
        "Covariance",
        "Linear",
        "Matern",
        "Periodic",
        "SquaredExponential",
        "White",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__

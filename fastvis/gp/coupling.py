"""How much the layers of a deep GP know of each other."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import svdvals

from .flow import Flow
from .functions import inducing_draws
from .triangles import factor


@dataclass(frozen=True)
class Coupling:
    """How much layers know of each other.

    Attributes
    ----------
    total_correlation : float
        KL from the posterior of whitened inducing values to the product of its layers', nats; 0 if
        they are independent. With the posterior "locations" that of a Gaussian with the covariance
        of ``n_samples`` draws: for M values too large by some ``M^2 / (2 n_samples)``.
    canonical_correlations : list of ndarray
        Of neighboring layers, falling.
    shuffle : float
        By how many nats the expected log-likelihood of the data falls when each layer is taken from
        another draw.
    """

    total_correlation: float
    canonical_correlations: list
    shuffle: float


def coupling_of(bound, parameters, likelihood, x, y, n_samples, rng):
    """Return the `Coupling` of a bound's posterior."""
    if hasattr(bound, "posterior"):
        covariance = bound.posterior.covariance(bound.posterior.blocks(parameters)[2])
    else:
        n_values = sum(s.n_outputs * s.n_inducing for s in bound.sizes)
        if n_samples <= n_values:
            raise ValueError(
                f"n_samples must be above {n_values}, the number of inducing values, of which a "
                f"covariance is estimated; got {n_samples}."
            )
        covariance = _sampled_covariance(inducing_draws(bound, parameters, n_samples, rng))
    correlation, canonical = _correlations(covariance, len(bound.sizes))
    return Coupling(
        correlation, canonical, _shuffle(bound, parameters, likelihood, x, y, n_samples, rng)
    )


def _correlations(covariance, n_layers):
    """Total correlation, and canonical correlations of neighbors, of S_lk by (l, k)."""
    dense = np.block(
        [
            [covariance[l, k] if l >= k else covariance[k, l].T for k in range(n_layers)]
            for l in range(n_layers)
        ]
    )
    lowers = [factor(covariance[l, l], f"the posterior of layer {l}") for l in range(n_layers)]
    logs = sum(np.log(np.diag(lower)).sum() for lower in lowers)
    total = logs - np.log(np.diag(factor(dense, "the posterior of all layers"))).sum()
    canonical = []
    for l in range(1, n_layers):
        left = np.linalg.solve(lowers[l], covariance[l, l - 1])
        canonical.append(svdvals(np.linalg.solve(lowers[l - 1], left.T)))
    return max(float(total), 0.0), canonical


def _sampled_covariance(sets):
    """S_lk of draws (n, T, M) of each layer."""
    draws = [v.reshape(len(v), -1) for _, v in sets]
    draws = [v - v.mean(0) for v in draws]
    return {
        (l, k): draws[l].T @ draws[k] / (len(draws[l]) - 1)
        for l in range(len(draws))
        for k in range(l + 1)
    }


def _shuffle(bound, parameters, likelihood, x, y, n_samples, rng):
    """Mean log-likelihood of the data under draws, less that under draws with layers shuffled."""
    sets = inducing_draws(bound, parameters, n_samples, rng)
    orders = [np.roll(np.arange(n_samples), l) for l in range(len(sets))]
    noise = [rng.standard_normal((n_samples, len(x), s.n_outputs)) for s in bound.sizes]
    paired = _log_likelihood(bound, sets, [orders[0]] * len(sets), likelihood, x, y, noise)
    shuffled = _log_likelihood(bound, sets, orders, likelihood, x, y, noise)
    return float(np.mean(paired - shuffled))


def _log_likelihood(bound, sets, orders, likelihood, x, y, noise):
    """Log-likelihood of the data, (n,), layer l of draw i being that of draw orders[l][i]."""
    n = len(orders[0])
    points = np.broadcast_to(x, (n, *x.shape))
    for l, ((geometry, v), size) in enumerate(zip(sets, bound.sizes)):
        if isinstance(geometry, Flow):
            points = geometry.of_draws(orders[l])(points[..., 0])[..., None]
            continue
        values = np.empty((n, len(x), size.n_outputs))
        for i, s in enumerate(orders[l]):
            basis = geometry.of_set(s).basis(points[i : i + 1])[0]
            rest = np.maximum(geometry.prior(points[i]) - (basis**2).sum(0), 0)
            values[i] = points[i] @ size.slope + (v[s] @ basis).T
            values[i] += np.sqrt(rest)[:, None] * noise[l][i]
        points = values
    return likelihood.log_density(y, points).sum((1, 2))

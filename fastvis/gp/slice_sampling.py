"""The posterior of a deep GP by elliptical slice sampling: a reference for small problems.

States e are N(0, I) under the Gaussian q that was fitted, v = n + T e the inducing values; the
exact posterior is q times a weight,

    log w(e) = log p(y | v) + log N(v; 0, I) - log q(v).

Ellipses of q lie along what the data leave open, where layers undo each other; those of the prior
cross it, and get nowhere along it.
"""

from dataclasses import dataclass

import numpy as np

from .._kernels import paths
from .._random import check_rng
from .._validation import check_array, check_int
from .bounds import WhitenedBound
from .functions import moments_given
from .triangles import factor


@dataclass(frozen=True, repr=False, eq=False)
class SliceSamples:
    """Draws from the posterior of a deep GP.

    Attributes
    ----------
    values : list of ndarray, (n, n_outputs, M)
        Whitened inducing values of each layer.
    log_likelihood : ndarray, (n,)
    """

    values: list
    log_likelihood: np.ndarray
    _layers: list

    def layer_variance(self, x):
        """Return Var f_l at points x (n,) of each layer's own inputs, a list of (n, n_outputs)."""
        x = check_array(x, "x", ndim=(1, 2)).astype(np.float64).reshape(len(x), -1)
        variances = []
        for (geometry, slope), values in zip(self._layers, self.values):
            means, rest = moments_given(geometry, values, slope, x)
            variances.append(means.var(0) + rest[:, None])
        return variances

    def __repr__(self):
        return f"SliceSamples({len(self.log_likelihood)} draws of {len(self.values)} layers)"


def elliptical_slice(model, x, y, n=1000, *, thin=10, burn=1000, rng=None):
    """Draw from the posterior of a fitted `DeepGP`'s inducing values, whatever its own says.

    Hyperparameters, inducing points and likelihood are those of the fit. Points are independent of
    each other, given inducing values: exact where these determine the layers.

    Parameters
    ----------
    model : DeepGP
        Fitted, with any posterior but "locations": draws start at its mean, and move in its
        directions. The wider it is, the better they mix: "joint" or "chain".
    x, y : array_like
        The data, as of `DeepGP.fit`.
    n, thin, burn : int
        Draws that are kept, each after so many steps, after so many in the beginning.
    rng : None, int or numpy.random.Generator

    Returns
    -------
    SliceSamples

    Notes
    -----
    A posterior of several modes, as that of -f_2(-f_1), is seen around the mode of the start; start
    from several fits. Mixing is slow at low noise: compare ``log_likelihood`` of halves.

    References
    ----------
    Murray, Adams and MacKay, "Elliptical slice sampling", AISTATS 2010.

    Examples
    --------
    >>> from fastvis.gp import DeepGP, Gaussian, GPLayer, SquaredExponential, elliptical_slice
    >>> x = np.linspace(-1, 1, 12)
    >>> k = SquaredExponential()
    >>> layers = [GPLayer(k, 5, mean="identity"), GPLayer(k, 5)]
    >>> model = DeepGP(layers, Gaussian(0.1), n_steps=50, rng=0).fit(x, np.sin(3 * x))
    >>> elliptical_slice(model, x, np.sin(3 * x), 20, burn=10, rng=0)
    SliceSamples(20 draws of 2 layers)
    """
    problem, rng = _Problem(model, x, y), check_rng(rng)
    n, thin = check_int(n, "n", minimum=1), check_int(thin, "thin", minimum=1)
    burn = check_int(burn, "burn", minimum=0)
    state = np.zeros(problem.size)
    value = problem.log_weight(state)
    if not np.isfinite(value):
        raise FloatingPointError("the log-likelihood is not finite where sampling starts.")
    kept, values = [], []
    for step in range(burn + n * thin):
        state, value = _move(problem.log_weight, state, value, 1.0, rng)
        if step >= burn and (step - burn + 1) % thin == 0:
            kept.append(state)
            values.append(problem.log_likelihood(state))
    return SliceSamples(problem.inducing(np.array(kept)), np.array(values), problem.layers)


def annealed_evidence(model, x, y, n_chains=10, n_steps=2000, *, rng=None):
    """Estimate log p(y) of a fitted `DeepGP` by annealed importance sampling.

    Parameters
    ----------
    model, x, y
        As of `elliptical_slice`.
    n_chains, n_steps : int
        Independent chains, and temperatures from the fitted posterior to the exact one.

    Returns
    -------
    log_evidence : float
    weights : ndarray, (n_chains,)
        Log weights, the log-mean-exp of which it is. They scatter by more than a nat if there are
        too few steps; then the estimate is too low.

    References
    ----------
    Neal, "Annealed importance sampling", Statistics and Computing 2001.
    """
    problem, rng = _Problem(model, x, y), check_rng(rng)
    n_chains = check_int(n_chains, "n_chains", minimum=1)
    n_steps = check_int(n_steps, "n_steps", minimum=2)
    powers = np.linspace(0, 1, n_steps)
    weights = np.zeros(n_chains)
    for chain in range(n_chains):
        state = rng.standard_normal(problem.size)
        value = problem.log_weight(state)
        for before, power in zip(powers, powers[1:]):
            weights[chain] += (power - before) * value
            state, value = _move(problem.log_weight, state, value, power, rng)
    top = weights.max()
    return top + np.log(np.mean(np.exp(weights - top))), weights


def _move(log_weight, state, value, power, rng):
    """One step of elliptical slice sampling of N(0, I) times weight^power."""
    other = rng.standard_normal(len(state))
    least = power * value + np.log(rng.random())
    angle = rng.uniform(0, 2 * np.pi)
    low, high = angle - 2 * np.pi, angle
    while True:
        new = np.cos(angle) * state + np.sin(angle) * other
        value = log_weight(new)
        if power * value > least:
            return new, value
        if angle < 0:
            low = angle
        else:
            high = angle
        if not high - low > 1e-12:  # where the weight is NaN around the state
            raise FloatingPointError(
                f"no point of the ellipse has a log weight above {least:g}; got {value:g} beside "
                "the state."
            )
        angle = rng.uniform(low, high)


class _Problem:
    """States are e of all inducing values, then standard normals of paths."""

    def __init__(self, model, x, y):
        x, y = model._check_data(x, y)
        bound = model._bound
        if not isinstance(bound, WhitenedBound):
            raise ValueError(
                "model must have inducing points of its own in each layer: not 'locations', and no "
                "MonotonicFlow."
            )
        parameters = model._slots.views(model.parameters_)
        theta, (geometries, *_) = bound.prepare(parameters, 1, np.random.default_rng(0))
        self.layers = [(g, s.slope) for g, s in zip(geometries, bound.sizes)]
        self.layout, self.theta, self.x, self.y = bound.layout, theta[:1].copy(), x, y
        self.views = self.layout.views(self.theta)
        for l in range(len(bound.sizes)):
            self.views[l, "factor"][:] = 0
        for r, s in self.layout.pairs:
            self.views[r, s, "pair"][:] = 0
        self.means = [parameters[l, "n"] for l in range(len(bound.sizes))]
        s = bound.posterior.covariance(bound.posterior.blocks(parameters)[2])
        self.depth = range(len(self.means))
        dense = [[s[l, k] if l >= k else s[k, l].T for k in self.depth] for l in self.depth]
        self.root = factor(np.block(dense), "the fitted posterior")
        self.log_root = np.log(np.diag(self.root)).sum()
        self.likelihood = model.likelihood_
        self.n_inducing = sum(m.size for m in self.means)
        self.size = self.n_inducing + len(x) * self.layout.n_hidden

    def inducing(self, states):
        """Of states (n, size): a list of (n, T, M)."""
        ends = np.cumsum([m.size for m in self.means])
        parts = np.split(states[:, : ends[-1]] @ self.root.T, ends[:-1], axis=1)
        return [m + part.reshape(-1, *m.shape) for part, m in zip(parts, self.means)]

    def log_weight(self, state):
        """By how much the exact posterior is larger than q, but for p(y)."""
        value = self.log_likelihood(state) + self.log_root
        e = state[: self.n_inducing]
        return value + (e @ e - sum((self.views[l, "n"] ** 2).sum() for l in self.depth)) / 2

    def log_likelihood(self, state):
        """Of the data, given a state, and paths that end as it says."""
        for l, values in enumerate(self.inducing(state[None])):
            self.views[l, "n"][:] = values
        xi = state[self.n_inducing :].reshape(len(self.x), -1)
        f, deviation = paths.sample(self.layout, self.theta, self.x, xi)
        f = f[:, self.layout.n_hidden :]
        return float(self.likelihood.log_marginal(self.y, f, deviation**2).sum())

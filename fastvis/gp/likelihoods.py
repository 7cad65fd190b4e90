"""Likelihoods of observations, given the values of a function."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, gammaln

from .._validation import check_float


@dataclass(frozen=True)
class Gaussian:
    """y ~ N(f, variance).

    Parameters
    ----------
    variance : float
        Of the noise, in squared units of y. Positive: a deep GP without noise has no density.

    Examples
    --------
    >>> Gaussian(0.01).log_density([0.0], [0.0]).round(3)
    array([1.384])
    """

    variance: float = 0.01

    kind = 0
    n_trained = 1

    def __post_init__(self):
        variance = float(check_float(self.variance, "variance", minimum=0, strict=True))
        object.__setattr__(self, "variance", variance)

    def log_density(self, y, f):
        """Return log p(y | f), elementwise."""
        y, f = np.asarray(y), np.asarray(f)
        return -0.5 * (np.log(2 * np.pi * self.variance) + (y - f) ** 2 / self.variance)

    def check(self, y):
        """Raise a ValueError where y cannot be observed."""

    def log_marginal(self, y, mean, variance):
        """Return log E p(y | f), elementwise, where f ~ N(mean, variance)."""
        wide = variance + self.variance
        return -0.5 * (np.log(2 * np.pi * wide) + (y - mean) ** 2 / wide)

    def marginal_moments(self, mean, variance):
        """Return mean and variance of y, where f has mean and variance."""
        return mean, variance + self.variance

    @property
    def theta(self):
        """Logs of what is learned."""
        return np.log([self.variance])

    def with_theta(self, theta):
        return Gaussian(float(np.exp(theta[0])))

    def _parameters(self):
        return np.array([self.variance, 0.0])


@dataclass(frozen=True)
class StudentT:
    """y = f + scale t, where t has Student's distribution: robust to outliers.

    Parameters
    ----------
    scale : float
        In units of y; positive.
    df : float
        Degrees of freedom, above 2 and up to 1e6; not learned.
    """

    scale: float = 0.1
    df: float = 4.0

    kind = 1
    n_trained = 1

    def __post_init__(self):
        scale = float(check_float(self.scale, "scale", minimum=0, strict=True))
        object.__setattr__(self, "scale", scale)
        check_float(self.df, "df", minimum=2, maximum=1e6, strict=True)

    def log_density(self, y, f):
        """Return log p(y | f), elementwise."""
        e = (np.asarray(y) - np.asarray(f)) / self.scale
        constant = gammaln((self.df + 1) / 2) - gammaln(self.df / 2)
        constant -= 0.5 * np.log(self.df * np.pi) + np.log(self.scale)
        return constant - (self.df + 1) / 2 * np.log1p(e**2 / self.df)

    def log_marginal(self, y, mean, variance):
        """Return log E p(y | f), elementwise, where f ~ N(mean, variance).

        t is normal, with a variance 1 / u that is drawn: of u ~ Gamma(df / 2, rate df / 2), a sum
        over log u, whose terms are as smooth however narrow or wide f is.
        """
        half, square = self.df / 2, np.square(np.subtract(y, mean))
        width = 1 / np.sqrt(half)  # of the density of log u
        outlier = np.log1p(np.max(square, initial=0.0) / (self.df * self.scale**2))
        low, high, step = -outlier - 10 * width - 40 / half, min(10 * width, 4.5), width / 4
        total = -np.inf
        for log_u in np.arange(low, high, step):
            weight = half * (log_u - np.exp(log_u) + np.log(half)) - gammaln(half) + np.log(step)
            wide = variance + self.scale**2 * np.exp(-log_u)
            total = np.logaddexp(total, weight - 0.5 * (np.log(2 * np.pi * wide) + square / wide))
        return total

    def check(self, y):
        """Raise a ValueError where y cannot be observed."""

    def marginal_moments(self, mean, variance):
        """Return mean and variance of y, where f has mean and variance."""
        return mean, variance + self.scale**2 * self.df / (self.df - 2)

    @property
    def theta(self):
        """Logs of what is learned."""
        return np.log([self.scale])

    def with_theta(self, theta):
        return StudentT(float(np.exp(theta[0])), self.df)

    def _parameters(self):
        return np.array([self.scale, self.df])


@dataclass(frozen=True)
class Bernoulli:
    """y is 1 with probability 1 / (1 + exp(-f)), else 0."""

    kind = 2
    n_trained = 0

    def log_density(self, y, f):
        """Return log p(y | f), elementwise."""
        return -np.logaddexp(0, np.where(np.asarray(y) > 0.5, -1.0, 1.0) * np.asarray(f))

    def log_marginal(self, y, mean, variance):
        """Return log E p(y | f), elementwise, where f ~ N(mean, variance)."""
        return np.log(_mean_logistic(np.where(np.asarray(y) > 0.5, mean, -mean), variance))

    def check(self, y):
        """Raise a ValueError where y cannot be observed."""
        if not np.isin(y, (0, 1)).all():
            raise ValueError("y must be 0 or 1 for a Bernoulli likelihood; it has other values.")

    def marginal_moments(self, mean, variance):
        """Return mean and variance of y, where f has mean and variance."""
        p = _mean_logistic(mean, variance)
        return p, p * (1 - p)

    @property
    def theta(self):
        """Logs of what is learned."""
        return np.empty(0)

    def with_theta(self, theta):
        return self

    def _parameters(self):
        return np.zeros(2)


def _mean_logistic(mean, variance):
    """E 1 / (1 + exp(-f)), f ~ N(mean, variance): a sum over f, in steps that resolve the normal
    density and the logistic function both."""
    mean, deviation = np.broadcast_arrays(mean, np.sqrt(variance))
    widest = deviation.max(initial=0.0)
    step = 0.25 / max(1.0, min(widest, 1000.0) / 3)
    nodes = np.arange(-9, 9 + step, step)
    weights = np.exp(-0.5 * nodes**2)
    total = np.zeros(mean.shape)
    for node, weight in zip(nodes, weights / weights.sum()):
        total += weight * expit(mean + deviation * node)
    return total

"""Gaussian processes at noisy inputs: why layers that know nothing of each other collapse.

A layer sees the layer before it as an input with noise. If its own function is independent of that
noise, the variance of its output is, by the law of total variance,

    Var f(x + e) = E[sigma^2(x + e)] + Var[mu(x + e)]
                 = sigma^2 + s^2 [(mu')^2 + (sigma^2)'' / 2] + o(s^2),        Var e = s^2

In UAI 2020, 'Compositional uncertainty in deep Gaussian processes', (11) has no factor 1/2: there
the variance of f' is taken for (sigma^2)''. What the paper says about signs holds.
"""

import numpy as np

from .._validation import check_array, check_float, check_int

N_NODES = 64


def noisy_input_variance(moments, x, deviation, *, n_nodes=N_NODES):
    """Variance of a Gaussian process at inputs with Gaussian noise, by quadrature.

    Parameters
    ----------
    moments : callable
        ``moments(points)`` returns mean and variance of the process, (n,) each, at points (n,).
    x : array_like, (n,)
    deviation : float
        Standard deviation of the noise, in units of x.
    n_nodes : int
        Of the Gauss-Hermite quadrature; enough for functions that a polynomial of degree
        2 n_nodes - 1 follows over some 10 deviations.

    Returns
    -------
    ndarray, (n,)

    Examples
    --------
    A line of slope 2 through points without variance:

    >>> from fastvis.gp import noisy_input_variance
    >>> noisy_input_variance(lambda x: (2 * x, 0 * x), [0.0, 1.0], 0.5)
    array([1., 1.])
    """
    x, deviation = _check(x, deviation)
    n_nodes = check_int(n_nodes, "n_nodes", minimum=1, maximum=200)  # then weights overflow
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    weights = weights / weights.sum()
    points = x[:, None] + deviation * nodes
    mean, variance = _moments(moments, points)
    center = (mean @ weights)[:, None]
    return variance @ weights + (mean - center) ** 2 @ weights


def noisy_input_variance_slope(moments, x, *, step):
    """Derivative of the variance by that of the noise, where there is none:
    ``(mu')^2 + (sigma^2)'' / 2``, by central differences.

    Parameters
    ----------
    moments : callable
        As of `noisy_input_variance`.
    x : array_like, (n,)
    step : float
        Of the differences; about 1e-3 lengthscales.

    Returns
    -------
    ndarray, (n,)
    """
    x = check_array(x, "x", ndim=1, axes="(n,)").astype(np.float64)
    step = check_float(step, "step", minimum=0, strict=True)
    points = x[:, None] + step * np.arange(-2, 3)
    mean, variance = _moments(moments, points)
    first = mean @ np.array([1, -8, 0, 8, -1]) / (12 * step)
    second = variance @ np.array([-1, 16, -30, 16, -1]) / (12 * step**2)
    return first**2 + second / 2


def variance_beside_one_point(distance, noise_variance, *, variance=1.0, lengthscale=1.0):
    """Variance of a process that is known to be 0 at one point, at a noisy distance from it.

    Squared exponential covariance. Where the point is farther than lengthscale / sqrt(2), some
    noise lowers the variance: the paper's counterexample.

    Parameters
    ----------
    distance, noise_variance : array_like
        Broadcast; of the mean input from the point, and of the noise.
    variance, lengthscale : float

    Returns
    -------
    ndarray
        ``variance (1 - exp(-d^2 / (l^2 + 2 s^2)) / sqrt(1 + 2 s^2 / l^2))``.

    Examples
    --------
    >>> from fastvis.gp import variance_beside_one_point
    >>> bool(variance_beside_one_point(1.0, 0.1) < variance_beside_one_point(1.0, 0.0))
    True
    >>> bool(variance_beside_one_point(0.5, 0.1) > variance_beside_one_point(0.5, 0.0))
    True
    """
    check_array(distance, "distance"), check_array(noise_variance, "noise_variance")
    d, s = np.asarray(distance, float), np.asarray(noise_variance, float)
    square = check_float(lengthscale, "lengthscale", minimum=0, strict=True) ** 2
    variance = check_float(variance, "variance", minimum=0, strict=True)
    if (s < 0).any():
        raise ValueError(f"noise_variance must be >= 0; got {s.min()}.")
    return variance * (1 - np.exp(-(d**2) / (square + 2 * s)) / np.sqrt(1 + 2 * s / square))


def _moments(moments, points):
    mean, variance = (np.reshape(m, points.shape) for m in moments(points.ravel()))
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise ValueError("moments must be finite; the callable gave NaN or infinity.")
    return mean, variance


def _check(x, deviation):
    x = check_array(x, "x", ndim=1, axes="(n,)").astype(np.float64)
    return x, check_float(deviation, "deviation", minimum=0)

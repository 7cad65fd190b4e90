"""Where the training of a deep GP starts."""

import numpy as np
from scipy.linalg import svd
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from .._validation import check_array
from .flow import MonotonicFlow

REACH = 2.0  # prior standard deviations that inducing points of a layer without a mean cover


def start_slopes(layers, x):
    """Return the mean functions' slopes, (n_inputs, n_outputs) of each layer."""
    slopes, values = [], x
    for layer in layers:
        n_inputs = values.shape[1]
        slope = np.zeros((n_inputs, layer.n_outputs))
        if layer.mean == "identity":
            slope = np.eye(n_inputs, layer.n_outputs)
            if n_inputs > layer.n_outputs:
                slope = svd(values - values.mean(0))[2][: layer.n_outputs].T
        values = values @ slope
        slopes.append(np.ascontiguousarray(slope))
    return slopes


def start_locations(layers, slopes, x, rng):
    """Return inducing points (M, n_inputs) of each layer."""
    points, values = [], x
    for l, (layer, slope) in enumerate(zip(layers, slopes)):
        if isinstance(layer, MonotonicFlow):
            points.append(layer.locations(x))
            continue
        if layer.inducing is None:
            points.append(_spread(values, layer.n_inducing, rng))
        else:
            points.append(_given(layer, l, slope))
        deviation = np.sqrt(layer.kernel.diag(values[:1])[0])
        values = values @ slope
        if not slope.any():
            values = REACH * deviation * rng.uniform(-1, 1, values.shape)
    return points


def _spread(x, m, rng):
    if x.shape[1] == 1:
        return np.linspace(x.min(), x.max(), m)[:, None]
    if len(x) == m:
        return x.copy()
    with threadpool_limits(1, user_api="openmp"):  # sums in one order
        fit = KMeans(m, n_init=1, random_state=int(rng.integers(2**31))).fit(x)
    return fit.cluster_centers_


def _given(layer, l, slope):
    z = check_array(layer.inducing, f"layers[{l}].inducing", ndim=(1, 2)).astype(float)
    z = z[:, None] if z.ndim == 1 else z
    if z.shape != (layer.n_inducing, len(slope)):
        raise ValueError(
            f"layers[{l}].inducing must have shape {(layer.n_inducing, len(slope))}; got {z.shape}."
        )
    return z

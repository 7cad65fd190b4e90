"""How far apart noise alone keeps aligned readouts."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from .._kernels.rotation import mean_distance

MAX_LENGTHS = 2048  # neurons whose pairs are averaged; of more, that many quantiles


@dataclass(frozen=True, eq=False)
class NoiseCheck:
    """Mean distance within each type, and what noise alone leaves there; see `within_types`.

    Attributes
    ----------
    types : ndarray, (n_types,)
        Their labels; types of a single neuron are left out.
    distance, expected : ndarray, (n_types,)
        Means over pairs of neurons of a type.
    standard_error : ndarray, (n_types,)
        How much `distance` varies by chance when noise is all there is.
    """

    types: np.ndarray
    distance: np.ndarray
    expected: np.ndarray
    standard_error: np.ndarray

    @property
    def overfitted(self):
        """(n_types,): distances below what noise leaves, by two standard errors and the 2 % that
        the expectation is good to: noise was aligned."""
        return self.distance < 0.98 * self.expected - 2 * self.standard_error

    def __repr__(self):
        ratios = ", ".join(f"{ratio:.2f}" for ratio in self.distance / self.expected)
        n = np.count_nonzero(self.overfitted)
        return f"NoiseCheck(distance / expected: {ratios}; over-fitted: {n} of {len(self.types)})"


def within_types(aligned, labels, gains, noise):
    """Distances within types of aligned readouts (N, F, O), beside those of noise alone.

    gains (N, H): of the rotation that aligned them, which shrinks the noise as well.
    """
    n_dims = aligned[0].size
    types = [t for t in np.unique(labels) if np.count_nonzero(labels == t) > 1]
    distance, expected, n = np.empty((3, len(types)))
    for i, label in enumerate(types):
        members = labels == label
        rows = np.ascontiguousarray(aligned[members].reshape(members.sum(), -1))
        distance[i], _ = mean_distance(rows)
        expected[i] = expected_distance(gains[members], noise, n_dims, aligned.shape[2])
        expected[i] *= np.sqrt(1 - 1 / n_dims)  # a fitted angle takes a dimension away
        n[i] = len(rows)
    # |e_i|^2 of D numbers varies by sqrt(2 / D); each of n neurons enters with half its weight
    error = expected / np.sqrt(2 * n_dims * n)
    return NoiseCheck(np.array(types), distance, expected, error)


def expected_distance(gains, noise, n_dims, n_orientations):
    """Mean over pairs of E |e_i - e_j| for Gaussian noise turned with these gains.

    Turned noise has the variance |g|^2 = mean over bins of |gain|^2; then E |e_i - e_j| =
    noise sqrt(2) Gamma((D + 1) / 2) / Gamma(D / 2) sqrt(|g_i|^2 + |g_j|^2), as if all bins had the
    same gain: good to 2 %.
    """
    squares = np.abs(gains.astype(complex)) ** 2
    total = 1 + 2 * squares[:, 1:].sum(axis=1)  # bin 0 alone is turned with gain 1
    if n_orientations % 2 == 0:
        total += squares[:, 0]
    g = np.sort(total / n_orientations)
    if len(g) > MAX_LENGTHS:
        g = g[np.linspace(0, len(g) - 1, MAX_LENGTHS).round().astype(int)]
    i, j = np.triu_indices(len(g), 1)
    scale = noise * np.sqrt(2) * np.exp(gammaln((n_dims + 1) / 2) - gammaln(n_dims / 2))
    return float(scale * np.mean(np.sqrt(g[i] + g[j])))

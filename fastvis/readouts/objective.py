"""What alignment minimizes: distances between rotated readouts, and how well they are rebuilt."""

import numpy as np

from .._kernels.rotation import mean_distance, spectrum, weights

OBJECTIVES = ("distance", "energy")


class AlignmentLoss:
    """Eq (5) with means, as a function of angles and temperature; with its gradient.

    Parameters
    ----------
    z : ndarray, (N, H, F), complex64 or complex128
        The readouts' `spectrum`: rotating is a product there.
    n_orientations : int
    beta : float
        Weight of the reconstruction.
    objective : {"distance", "energy"}
        Distances as in the paper, O(N^2 F O), or their squares, O(N F O), in both terms.
    groups : list of int arrays, optional
        Distances are taken within these sets of neurons only; by default within all of them.
    """

    def __init__(self, z, n_orientations, beta=0.0, objective="distance", groups=None):
        self.z, self.n_orientations = z, n_orientations
        self.beta, self.objective, self.groups = beta, objective, groups
        self.power = spectrum.power(z).astype(np.float64)

    def __call__(self, angles, temperature):
        """Loss, its gradient (N,) by the angles and float by the temperature."""
        by = weights.von_mises_weights(angles, self.n_orientations, temperature)
        gains, by_angle, by_temperature = map(spectrum.gains, by)
        loss, p = self.pairs(gains)
        d_angles = np.sum(p * by_angle, axis=1).real
        d_temperature = float(np.sum(p * by_temperature, dtype=complex).real)
        if self.beta:
            error, slope = self.reconstruction(temperature)
            loss += self.beta * error
            d_temperature += self.beta * slope
        return loss, d_angles.astype(angles.dtype, copy=False), d_temperature

    def exact(self, angles):
        """The first term alone, with exact rotations; its gradient by the angles.

        Without bin O / 2, so that rotations keep all lengths, and a common turn changes nothing.
        """
        gains, slope = spectrum.fourier_gains(angles, self.n_orientations)
        gains[:, 0] = slope[:, 0] = 0
        loss, p = self.pairs(gains)
        return loss, np.sum(p * slope, axis=1).real

    def relaxed(self, angles, temperature):
        """The first term with relaxed rotations, eq (4)."""
        gamma, _, _ = weights.von_mises_weights(angles, self.n_orientations, temperature)
        return self.pairs(spectrum.gains(gamma))[0]

    def hard(self, angles):
        """The first term with interpolated rotations, eq (2)."""
        shifts, _ = weights.cyclic_weights(angles, self.n_orientations)
        return self.pairs(spectrum.gains(shifts))[0]

    def pairs(self, gains):
        """The first term, and p (N, H): its change is Re(sum(p * d_gains))."""
        turned = spectrum.turn(self.z, gains)
        x = spectrum.coordinates(turned)
        if self.objective == "energy":
            loss, gradient = mean_squared_distance(x)
        elif self.groups is None:
            loss, gradient = mean_distance(x)
        else:
            loss, gradient = _mean_distance_within(x, self.groups)
        return loss, spectrum.project(self.z, gradient.view(turned.dtype).reshape(turned.shape))

    def reconstruction(self, temperature):
        """The second term: the mean over neurons of |r~_n(0) - r_n|, or its square; its slope."""
        by = weights.von_mises_weights(np.zeros(1), self.n_orientations, temperature)
        gains, _, slope = (spectrum.gains(w)[0].real for w in by)
        lost = gains - 1
        squares, along = self.power @ lost**2, self.power @ (lost * slope)
        if self.objective == "energy":
            return float(np.mean(squares)), 2 * float(np.mean(along))
        distance = np.sqrt(squares)
        # a readout that is the same at all orientations is rebuilt exactly, at every temperature
        ratio = np.divide(along, distance, out=np.zeros_like(along), where=distance > 0)
        return float(np.mean(distance)), float(np.mean(ratio))


def mean_squared_distance(x):
    """Mean over pairs of |x_i - x_j|^2: 2 / (N - 1) times the squares about the mean; gradient."""
    centered = x - x.mean(axis=0, dtype=np.float64).astype(x.dtype)
    scale = 2 / (len(x) - 1)
    loss = scale * float(np.einsum("ij,ij->i", centered, centered).sum(dtype=np.float64))
    centered *= 2 * scale
    return loss, centered


def _mean_distance_within(x, groups):
    """Mean distance of the pairs that share a group, and its gradient."""
    n_pairs = [len(group) * (len(group) - 1) / 2 for group in groups]
    loss, gradient = 0.0, np.zeros_like(x)
    for group, n in zip(groups, n_pairs):
        part, d_part = mean_distance(x[group])
        loss += n / sum(n_pairs) * part
        gradient[group] += d_part * x.dtype.type(n / sum(n_pairs))
    return loss, gradient


def random_groups(n, n_partners, rng):
    """Sets of neurons such that each shares them with about ``n_partners`` others.

    Two random partitions: one alone would leave its sets free to turn against each other.
    """
    n_groups = min(max(1, round(n / (n_partners / 2 + 1))), n // 2)
    if n_groups == 1:
        return None
    return [group for _ in range(2) for group in np.array_split(rng.permutation(n), n_groups)]

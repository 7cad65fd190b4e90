"""Fits of (5) with one weight of the reconstruction or the paper's twenty, and which is taken."""

from dataclasses import dataclass, replace

import numpy as np

from .fitting import TEMPERATURES, Fit, best_temperatures, minimize

BETAS = np.logspace(-3, 1, 20)  # the paper's
START_TEMPERATURE = 5.0  # from 90 on all weight is the nearest shift's, and angles have no slope
LEAST_TEMPERATURE = 5.0  # the paper's


@dataclass(frozen=True, repr=False, eq=False)
class BetaPath:
    """Fits with several weights of the reconstruction.

    With exact rotations all have the same angles, so that only the temperatures differ.

    Attributes
    ----------
    betas, temperatures : ndarray, (n_betas,)
    losses : ndarray, (n_betas,)
        Eq (5).
    alignment_losses : ndarray, (n_betas,)
        Eq (3) with the rotation (2), by which the paper chooses.
    relaxed_losses : ndarray, (n_betas,)
        Eq (3) with the rotation (4), which small temperatures make small.
    """

    betas: np.ndarray
    temperatures: np.ndarray
    losses: np.ndarray
    alignment_losses: np.ndarray
    relaxed_losses: np.ndarray

    @property
    def chosen(self):
        """Index of the fit that `RotationAligner` takes; of equal ones the relaxed loss decides."""
        fits = self.temperatures > LEAST_TEMPERATURE
        if not fits.any():
            return int(self.temperatures.argmax())
        order = np.lexsort((self.relaxed_losses, self.alignment_losses))
        return int(order[fits[order]][0])

    def scaled(self, scale):
        """The same path with losses in other units."""
        names = ("losses", "alignment_losses", "relaxed_losses")
        return replace(self, **{name: scale * getattr(self, name) for name in names})

    def __repr__(self):
        beta, temperature = self.betas[self.chosen], self.temperatures[self.chosen]
        return f"BetaPath({len(self.betas)} betas; chose {beta:.3g}, temperature {temperature:.3g})"


@dataclass(frozen=True)
class Outcome:
    """The fit that is taken, its angles, temperature and beta, how the last one ended, the path."""

    angles: np.ndarray
    temperature: float
    beta: float
    fit: Fit
    stopped_by: str
    path: BetaPath | None = None


def fit_exact(loss, start, beta, **options):
    """Angles that minimize (3) under exact rotation; then for each beta the temperature of (5)."""
    if loss.n_orientations == 2:  # there is nothing between 0 and pi
        options["max_iter"] = 0
    fit = minimize(loss.exact, start, **options)
    betas = _betas(beta)
    temperatures, losses = best_temperatures(loss, fit.x, betas)
    path, chosen = None, 0
    if _is_path(beta):
        hard = np.full(len(betas), loss.hard(fit.x))  # the same angles for all
        relaxed = np.array([loss.relaxed(fit.x, t) for t in temperatures])
        path = BetaPath(betas, temperatures, losses, hard, relaxed)
        chosen = path.chosen
    return Outcome(
        fit.x, float(temperatures[chosen]), float(betas[chosen]), fit, fit.stopped_by, path
    )


def fit_relaxed(loss, start, beta, **options):
    """For each beta angles and the logarithm of the temperature that together minimize (5)."""
    bounds = [(None, None)] * len(start) + [tuple(np.log(TEMPERATURES))]
    x = np.append(start, np.log(START_TEMPERATURE))
    betas, fits = _betas(beta), []
    for loss.beta in betas:
        fits.append(minimize(lambda x: _joint(loss, x), x, bounds=bounds, **options))
        if fits[-1].stopped_by in ("callback", "interrupted"):
            break
    betas = betas[: len(fits)]
    points = [(fit.x[:-1], float(np.exp(fit.x[-1]))) for fit in fits]
    path, chosen = None, 0
    if _is_path(beta):
        path = BetaPath(
            betas,
            np.array([temperature for _, temperature in points]),
            np.array([fit.loss for fit in fits]),
            np.array([loss.hard(angles) for angles, _ in points]),
            np.array([loss.relaxed(*point) for point in points]),
        )
        chosen = path.chosen
    return Outcome(*points[chosen], float(betas[chosen]), fits[chosen], fits[-1].stopped_by, path)


def _is_path(beta):
    return isinstance(beta, str)


def _betas(beta):
    return BETAS if _is_path(beta) else np.array([float(beta)])


def _joint(loss, x):
    """Loss (5) and its gradient by angles and the logarithm of the temperature."""
    temperature = np.exp(x[-1])
    value, d_angles, d_temperature = loss(x[:-1], temperature)
    return value, np.append(d_angles, d_temperature * temperature)

"""Alignment of sequences in time: one template, seen through monotone warps with uncertainty."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from .._kernels.threads import one_blas_thread
from .._optim import Adam
from .._random import check_rng
from .._validation import check_array, check_float, check_int
from .covariances import Covariance, SquaredExponential
from .warps import Evidence, Warps

N_MOMENTS = 1000  # draws of which means and deviations are taken
N_TEMPLATES = 100  # draws of warps over which a template is averaged
LEARNING_RATE = 0.05  # of Adam, for logarithms of hyperparameters
RATE = 0.2  # of natural gradients
REACH = 0.5  # the furthest that a log-slope moves in a step
START = 0.1  # deviation of the posterior, in prior ones, where training starts
STEP = 1e-6  # of differences, in units of the range
MOST_LENGTHSCALES = 100  # of warps in the range
LEAST_NOISE = 1e-3  # where its training starts


@dataclass(frozen=True, repr=False, eq=False)
class Alignment:
    """Of J sequences: what `align_sequences` returns.

    Attributes
    ----------
    x : list of ndarray, (N_j,)
        Times of observations.
    warps : list of ndarray, (N_j,)
        Mean of each warp at these times: where on the common axis the observations lie.
    deviations : list of ndarray, (N_j,)
        Standard deviations of the warps there.
    elbos : ndarray, (n_steps,)
        Lower bounds on the log evidence, nats, estimated in each training step.
    kernel : Covariance
        Of the template, after training.
    noise : float
        Standard deviation of the noise, after training.
    warp_variance : float
        Prior variance of log-slopes, after training.
    """

    x: list
    warps: list
    deviations: list
    elbos: np.ndarray
    kernel: object
    noise: float
    warp_variance: float
    _y: list
    _fit: object

    def sample_warps(self, grid, n=1, *, rng=None):
        """Draw warps from their posterior, of all sequences together.

        Parameters
        ----------
        grid : array_like, (G,)
            Times in the common range.
        n : int
        rng : None, int or numpy.random.Generator

        Returns
        -------
        ndarray, (n, J, G)
            Each rises wherever ``grid`` does.
        """
        grid = self._check_grid(grid)
        n = check_int(n, "n", minimum=1)
        fit, rng = self._fit, check_rng(rng)
        with one_blas_thread:
            p = fit.warps.increments(fit.draws(n, rng), fit.scale)
        return fit.warps.at(fit.warps.at_knots(p), grid)

    def aligned(self, grid):
        """Sequences on the common axis, by the inverses of their mean warps.

        Parameters
        ----------
        grid : array_like, (G,)
            Points of the common axis, which has the range of the times.

        Returns
        -------
        ndarray, (J, G, D)
            Interpolated linearly; NaN where a sequence has no observations around a point.
        """
        grid = self._check_grid(grid)
        return np.stack([
            np.stack([np.interp(grid, t, d, np.nan, np.nan) for d in y.T], axis=1)
            for t, y in zip(self.warps, self._y)
        ])  # fmt: skip

    def template(self, grid):
        """The shared function on the common axis, averaged over warps.

        Parameters
        ----------
        grid : array_like, (G,)

        Returns
        -------
        mean, variance : ndarray, (G, D)
            Without noise. The variance is that given warps, on average, and that of means over
            draws of warps.
        """
        grid, fit = self._check_grid(grid), self._fit
        with one_blas_thread:
            draws = fit.draws(N_TEMPLATES, np.random.default_rng(0))
            t = fit.warps.at_times(fit.warps.increments(draws, fit.scale))
            evidence = fit.evidence()
            mean, variance = evidence.moments(grid, evidence.solve(t))
        spread = mean.var(0) + variance.mean(0)[:, None]
        return mean.mean(0) + fit.center, spread

    def _check_grid(self, grid):
        grid = check_array(grid, "grid", ndim=1, axes="(G,)").astype(np.float64)
        a, b = self._fit.warps.bounds
        if grid.min() < a or grid.max() > b:
            raise ValueError(
                f"grid must lie in the range of the times, [{a:g}, {b:g}]; got {grid.min():g} to "
                f"{grid.max():g}. Warps are not defined elsewhere."
            )
        return grid

    def __repr__(self):
        return f"Alignment({len(self.x)} sequences, noise={self.noise:.3g})"


def align_sequences(
    x, y, *, n_inducing=30, warp_lengthscale=None, warp_variance=0.25, kernel=None, noise=None,
    n_steps=300, n_samples=6, rng=None, progress=False,
):  # fmt: skip
    """Align sequences that are one function of time, seen through warps of time.

    ``y_j = f(g_j(x_j)) + noise``. The template f is a Gaussian process that all sequences share. It
    is integrated out, in closed form, for each draw of the warps. These are monotone, with fixed
    ends; logarithms of their slopes are Gaussian processes, so that the identity is the most
    likely. Their posterior is one Gaussian for all sequences, trained by natural gradients with the
    Gauss-Newton curvature, and hyperparameters with it.

    A warp that all sequences share cannot be told from another template. It is fixed so that
    logarithms of slopes, averaged over sequences, do not depend on time: other alignments as good
    are ``h(g_j(x))`` with one monotone h.

    Parameters
    ----------
    x : array_like, (N,), or sequence of array_like, (N_j,)
        Rising times, of all sequences or of each.
    y : sequence of array_like, (N_j,) or (N_j, D); or one array, (J, N) or (J, N, D)
        J >= 2 sequences of D signals of similar noise and size, in any unit. Their range of times
        is common: warps keep its ends, so that all sequences must begin and end alike.
    n_inducing : int
        M points on the common axis, through which the template is known. More than the range holds
        lengthscales of the template.
    warp_lengthscale : float, optional
        Of log-slopes, in units of x. By default a quarter of the range.
    warp_variance : float
        Prior variance of log-slopes, where its training starts.
    kernel : Covariance, optional
        Stationary, of one dimension: of each signal of the template, where training starts. By
        default squared exponential, of the variance of y and 0.8 times the range as lengthscale.
    noise : float, optional
        Standard deviation of the noise where training starts. By default that of y. Start far
        above the true one, and with a long lengthscale: sequences are then aligned from coarse to
        fine.
    n_steps : int
        Enough for the noise to come down, by no more than 2.5 % in a step. The time of a step
        grows with ``n_samples N M^2`` for N observations in all, and with the third power of J.
    n_samples : int
        Draws of all warps in a step.
    rng : None, int or numpy.random.Generator
    progress : bool

    Returns
    -------
    Alignment
        Ctrl-C gives what training has come to.

    Raises
    ------
    TypeError, ValueError
        Values that are not finite, fewer than two sequences, times that do not rise, shapes that do
        not fit, signals without any variance.

    Notes
    -----
    Warps that are far from the identity, by more than the width of what is to be aligned, can end
    in another mode of the posterior, whose ``elbos`` are lower and whose noise is larger: start
    from other ``kernel`` and ``noise``. Deviations of warps are good to some ten percent, and too
    small by up to a quarter where two sequences leave much open.

    References
    ----------
    Kazlauskaite, Ek and Campbell, "Gaussian process latent variable alignment learning", AISTATS
    2019, with warps as points; Ustyuzhaninov, Kazlauskaite, Kaiser et al., "Compositional
    uncertainty in deep Gaussian processes", UAI 2020, section 6, (24).

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.gp import align_sequences
    >>> x = np.linspace(0, 1, 40)
    >>> y = np.exp(-0.5 * ((x**np.array([[0.7], [1.0], [1.4]]) - 0.5) / 0.1) ** 2)
    >>> fit = align_sequences(x, y, rng=0)
    >>> aligned = fit.aligned(x)[..., 0]
    >>> bool(aligned.var(0).mean() < 0.02 * y.var(0).mean())
    True
    >>> fit.sample_warps(x, 5, rng=0).shape
    (5, 3, 40)
    """
    x, y = _check_sequences(x, y)
    bounds = min(t[0] for t in x), max(t[-1] for t in x)
    span = bounds[1] - bounds[0]
    n_inducing = check_int(n_inducing, "n_inducing", minimum=2)
    n_steps = check_int(n_steps, "n_steps", minimum=1)
    n_samples = check_int(n_samples, "n_samples", minimum=2)
    center, deviation = _size(y)
    if warp_lengthscale is None:
        warp_lengthscale = span / 4
    if kernel is None:
        kernel = SquaredExponential(deviation**2, 0.8 * span)
    if noise is None:
        noise = deviation
    if not isinstance(kernel, Covariance):
        raise TypeError(
            f"kernel must be a covariance of fastvis.gp; got {type(kernel).__name__}. Pass "
            "SquaredExponential(variance, lengthscale), say."
        )
    ends = kernel.diag(np.array([[0.0], [span]]))  # of one dimension
    if not 0 < ends[0] == ends[1]:
        raise ValueError(f"kernel must be stationary; got {kernel!r}.")
    for value, name in (
        (warp_lengthscale, "warp_lengthscale"),
        (warp_variance, "warp_variance"),
        (noise, "noise"),
    ):
        check_float(value, name, minimum=0, strict=True)
    if warp_lengthscale < span / MOST_LENGTHSCALES:
        raise ValueError(
            f"warp_lengthscale must be at least {span / MOST_LENGTHSCALES:g}, a part in "
            f"{MOST_LENGTHSCALES} of the range of x; got {warp_lengthscale:g}."
        )
    if noise < LEAST_NOISE * deviation:
        raise ValueError(
            f"noise must be at least {LEAST_NOISE * deviation:g}, {LEAST_NOISE:g} deviations of y; "
            f"got {noise:g}. Start far above the true one."
        )
    for j, times in enumerate(x):
        if times[-1] - times[0] < span / 2:
            raise ValueError(
                f"x[{j}] must cover half of the common range, {bounds[0]:g} to {bounds[1]:g}; got "
                f"{times[0]:g} to {times[-1]:g}. Sequences must begin and end alike."
            )
    with one_blas_thread:  # the same bytes for any number of threads
        warps = Warps(x, bounds, warp_lengthscale)
        z = np.linspace(*bounds, n_inducing)
        fit = _Fit(warps, y, center, z, kernel, noise**2, warp_variance)
        rng = check_rng(rng)
        elbos = fit.train(n_steps, n_samples, rng, progress)
        p = warps.increments(fit.draws(N_MOMENTS, rng), fit.scale)
    knots = warps.at_knots(p)
    moved = [warps.at(knots[:, j : j + 1], times)[:, 0] - times for j, times in enumerate(x)]
    return Alignment(
        x, [t + m.mean(0) for t, m in zip(x, moved)], [m.std(0) for m in moved], np.array(elbos),
        fit.evidence().kernel, float(np.exp(fit.theta[-1] / 2)), float(fit.scale**2),
        y, fit,
    )  # fmt: skip


class _Fit:
    """A Gaussian over coefficients of warps, by mean and precision, and hyperparameters."""

    def __init__(self, warps, y, center, z, kernel, noise, variance):
        self.warps, self.center = warps, center
        self.y, self.z, self.kernel = np.concatenate(y) - center, z, kernel
        self.theta = np.append(kernel.theta, np.log(noise))
        self.scale = np.sqrt(variance)
        n = np.prod(warps.shape)
        self.mean, self.precision = np.zeros(n), np.eye(n) / START**2
        self._factor()

    def evidence(self):
        kernel = self.kernel.with_theta(self.theta[:-1])
        return Evidence(kernel, np.exp(self.theta[-1]), self.z, self.y)

    def draws(self, n, rng):
        """Coefficients (n, J - 1, R), in pairs that mirror each other about the mean."""
        half = rng.standard_normal((-(-n // 2), len(self.mean)))
        draws = self.mean + np.concatenate([half, -half])[:n] @ self.root
        return draws.reshape(n, *self.warps.shape)

    def train(self, n_steps, n_samples, rng, progress):
        """Return ELBOs. The variance of warps rests at first: while the template is coarse, large
        warps that fold noise into it pay."""
        adam, elbos, steps = Adam(LEARNING_RATE), [], range(n_steps)
        if progress:
            from tqdm.auto import tqdm

            steps = tqdm(steps, unit="step")
        try:
            for step in steps:
                elbos.append(self._step(n_samples, adam, rng))
                if not np.isfinite(elbos[-1]):
                    raise FloatingPointError(
                        f"the ELBO is not finite at step {step}. Take a larger noise."
                    )
                if step >= n_steps // 2:
                    self._rescale()
                self._factor()
        except KeyboardInterrupt:
            self._factor()
        return elbos

    def _step(self, n_samples, adam, rng):
        """Move the posterior and hyperparameters; the ELBO before."""
        warps, evidence = self.warps, self.evidence()
        p = warps.increments(self.draws(n_samples, rng), self.scale)
        t = warps.at_times(p)
        solution = evidence.solve(t)
        elbo = evidence.values(t, solution).mean() - self.divergence()
        d_t, d_theta, d_noise = evidence.vjp(t, solution)
        gradient = warps.vjp(p, self.scale, d_t).sum(0).ravel() - self.mean
        slopes = evidence.slopes(t, solution[2], STEP * warps.span)
        curvature = warps.information(p, self.scale, slopes, *solution[:2], evidence.noise)
        self.precision = (1 - RATE) * self.precision + RATE * (curvature + np.eye(len(curvature)))
        self._factor()
        step = RATE * self.root.T @ (self.root @ gradient)
        w = warps.log_slopes(step.reshape(warps.shape), self.scale)
        self.mean = self.mean + step * min(1, REACH / max(np.abs(w).max(), 1e-300))
        self.theta = self.theta + adam.step(-np.append(d_theta, d_noise))
        return elbo

    def _rescale(self):
        """Take the best prior variance of log-slopes for the posterior of these."""
        second = np.mean(self.mean**2 + (self.root**2).sum(0))
        ratio = np.sqrt(second) ** RATE
        self.scale, self.mean = self.scale * ratio, self.mean / ratio
        self.precision = self.precision * ratio**2

    def _factor(self):
        """root, with root.T @ root the covariance."""
        lower = cholesky(self.precision, lower=True)
        self.root = solve_triangular(lower, np.eye(len(lower)), lower=True)

    def divergence(self):
        """KL from the prior N(0, I), nats."""
        second = (self.root**2).sum() + (self.mean**2).sum()
        return (second - len(self.mean)) / 2 - np.log(np.diag(self.root)).sum()


def _size(y):
    """Means of signals (D,), and one standard deviation of all."""
    rows = np.concatenate(y)
    deviation = np.sqrt(rows.var(0).mean())
    if deviation == 0:
        raise ValueError("y must vary; got signals that are constant. There is nothing to align.")
    return rows.mean(0), deviation


def _check_sequences(x, y):
    """Return lists of times (N_j,) and of signals (N_j, D), in float64."""
    y = _sequence(y, "y")
    if len(y) < 2:
        raise ValueError(f"y must have at least 2 sequences; got {len(y)}. Stack them as (J, N).")
    y = [
        check_array(s, f"y[{j}]", ndim=(1, 2), axes="(N,) or (N, D)").astype(np.float64)
        for j, s in enumerate(y)
    ]
    y = [s[:, None] if s.ndim == 1 else s for s in y]
    x = _sequence(x, "x")
    if np.ndim(x[0]) == 0:
        x = [x] * len(y)
    if len(x) != len(y):
        raise ValueError(
            f"x must have times for each of {len(y)} sequences, or be one array for all; got "
            f"{len(x)} arrays."
        )
    x = [check_array(t, f"x[{j}]", ndim=1, axes="(N,)").astype(np.float64) for j, t in enumerate(x)]
    for j, (times, signals) in enumerate(zip(x, y)):
        if len(times) != len(signals):
            raise ValueError(
                f"x[{j}] and y[{j}] must be of the same length; got {len(times)} and "
                f"{len(signals)}."
            )
        if signals.shape[1] != y[0].shape[1]:
            raise ValueError(
                f"y[{j}] must have {y[0].shape[1]} signal(s), as y[0]; got {signals.shape[1]}."
            )
        if len(times) < 2 or not (np.diff(times) > 0).all():
            raise ValueError(
                f"x[{j}] must have two or more times that rise; got {len(times)} with the least "
                f"step {np.diff(times).min(initial=np.inf):g}. Sort them, average repeated ones."
            )
    return x, y


def _sequence(value, name):
    if isinstance(value, np.ndarray) and value.ndim > 0:
        value = list(value)
    if not isinstance(value, list | tuple) or len(value) == 0:
        raise TypeError(f"{name} must be an array or a sequence of arrays; got {value!r}.")
    return list(value)

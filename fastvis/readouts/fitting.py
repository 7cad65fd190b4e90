"""Minimizing the alignment loss: by L-BFGS, or by Adam as the paper does it."""

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from scipy.interpolate import PchipInterpolator

from .._kernels.threads import one_blas_thread
from .._optim import Adam
from .objective import AlignmentLoss

OPTIMIZERS = ("lbfgs", "adam")
TEMPERATURES = (1e-2, 1e2)  # smaller ones are the mean over orientations, larger ones the nearest
N_LOOK_BACK = 5  # iterations over which the loss must fall
MAX_NEURONS = 1024  # that the search for the temperature looks at
LEARNING_RATE, N_DECREASES, N_CHECK, PATIENCE = 0.01, 3, 25, 5


@dataclass(frozen=True)
class Fit:
    """The best point that was seen, the loss at the start and after each iteration, and the end."""

    x: np.ndarray
    loss: float
    curve: np.ndarray
    stopped_by: str


class _Stop(Exception):
    """Ends the optimization from within; carries the reason."""


class _Watch:
    """Keeps the best point and the losses, and says when it is enough."""

    def __init__(self, loss, x, callback):
        self.loss, self.callback = loss, callback
        self.x, self.best, self.curve = x, np.inf, []

    def __call__(self, x):
        loss, gradient = self.loss(x)
        if not self.curve:
            self.curve.append(loss)
        if loss < self.best:
            self.x, self.best = x.copy(), loss
        return loss, gradient

    def after_iteration(self, loss):
        self.curve.append(loss)
        if self.callback is not None and self.callback(len(self.curve) - 1, loss):
            raise _Stop("callback")


@contextmanager
def reported(show, callback, scale):
    """``with reported(...) as callback:`` a callback for losses / scale, with a progress bar."""
    bar = None
    if show:
        from tqdm.auto import tqdm

        bar = tqdm(unit="it", desc="align")

    def step(iteration, loss):
        loss = scale * loss
        if bar is not None:
            bar.set_postfix(loss=f"{loss:.5g}", refresh=False)
            bar.update()
        return callback(iteration, loss) if callback is not None else False

    try:
        yield step
    finally:
        if bar is not None:
            bar.close()


def minimize(loss, x, *, optimizer, max_iter, tol, callback=None, bounds=None):
    """Minimize ``loss(x) -> value, gradient`` from x.

    Parameters
    ----------
    optimizer : {"lbfgs", "adam"}
        Adam begins with a learning rate of 0.01, which is divided by sqrt(10) three times, when the
        best loss has not improved for 125 iterations.
    tol : float
        Falls of the loss below this fraction do not count, over five iterations of L-BFGS or the
        125 of Adam.
    callback : callable, optional
        ``callback(iteration, loss)``; true ends the fit.
    bounds : list of (low, high), optional

    Returns
    -------
    Fit
        Ctrl-C ends it with the best point so far.
    """
    watch = _Watch(loss, x, callback)
    run = {"lbfgs": _lbfgs, "adam": _adam}[optimizer]
    if max_iter == 0:
        loss, _ = watch(x)
        return Fit(x, loss, np.array([loss]), "max_iter")
    try:
        with one_blas_thread:  # SciPy's optimizer sums with BLAS
            stopped_by = run(watch, x, max_iter, tol, bounds)
    except _Stop as stop:
        stopped_by = str(stop)
    except KeyboardInterrupt:
        if not watch.curve:
            raise
        stopped_by = "interrupted"
    return Fit(watch.x, watch.best, np.array(watch.curve), stopped_by)


def _lbfgs(watch, x, max_iter, tol, bounds):
    def after_iteration(intermediate_result):
        watch.after_iteration(float(intermediate_result.fun))
        if len(watch.curve) > N_LOOK_BACK:
            before, now = watch.curve[-N_LOOK_BACK - 1], watch.curve[-1]
            if before - now <= tol * abs(now):
                raise _Stop("tolerance")

    outcome = scipy.optimize.minimize(
        watch,
        x,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        callback=after_iteration,
        # tests of its own are absolute, and gradients fall with the number of neurons
        options={"maxiter": max_iter, "maxfun": 20 * max_iter, "ftol": 0, "gtol": 0},
    )
    return "max_iter" if outcome.status == 1 else "line_search"


def _adam(watch, x, max_iter, tol, bounds):
    low, high = np.array(bounds or [(None, None)] * len(x), float).T
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    adam, x = Adam(LEARNING_RATE), x.copy()
    n_decreases, best, last_fall = 0, np.inf, 0
    _, gradient = watch(x)
    for i in range(max_iter):
        x = np.clip(x + adam.step(gradient), low, high)
        loss, gradient = watch(x)
        watch.after_iteration(loss)
        if i % N_CHECK:
            continue
        if watch.best < best - tol * abs(watch.best):
            best, last_fall = watch.best, i
        elif i - last_fall >= PATIENCE * N_CHECK:
            if n_decreases == N_DECREASES:
                return "tolerance"
            n_decreases, last_fall = n_decreases + 1, i
            adam.learning_rate /= np.sqrt(10)
    return "max_iter"


def best_temperatures(loss, angles, betas, n_evaluations=41):
    """For each beta the temperature that minimizes (5) at these angles, and the loss there.

    Both terms are computed at some temperatures and interpolated. A temperature belongs to all
    neurons: 1,024 of them are enough to find it.
    """
    picked = np.linspace(0, len(angles) - 1, min(len(angles), MAX_NEURONS)).round().astype(int)
    angles = angles[picked]
    loss = AlignmentLoss(loss.z[picked], loss.n_orientations, objective=loss.objective)
    log_t = np.linspace(*np.log(TEMPERATURES), n_evaluations)
    terms = [(loss.relaxed(angles, t), loss.reconstruction(t)[0]) for t in np.exp(log_t)]
    fine = np.linspace(log_t[0], log_t[-1], 1001)
    pairs, rebuilt = PchipInterpolator(log_t, terms)(fine).T
    losses = pairs + np.multiply.outer(betas, rebuilt)
    chosen = losses.argmin(axis=1)
    return np.exp(fine[chosen]), losses[np.arange(len(losses)), chosen]

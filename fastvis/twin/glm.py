"""Poisson regression on pixels, for all neurons together: the baseline of what is linear.

Of each neuron, with luminance x, minimized over w and b:

    mean over trials of (exp(w . x + b) - r (w . x + b)) + penalty |w|^2 / 2

by Newton's method. Steps solve all neurons' equations together by conjugate gradients, so that the
work is products of matrices. In principal components of the images the Hessian,
Z' diag(rate) Z / n + penalty, is diagonal where rates are all alike: that is the preconditioner.
"""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._random import check_rng
from .._validation import check_array, check_float, check_int
from .arguments import check_images
from .recording import Recording

PENALTIES = np.geomspace(0.1, 5, 48)  # the twin paper's
MOST = 30.0  # of the logarithm of a rate
ENOUGH = 1e-2  # of conjugate gradients, in units of the gradient
MOST_CG, MOST_HALVINGS = 50, 30


class PoissonGLM(BaseEstimator):
    """A linear-nonlinear Poisson model of each neuron, its penalty cross-validated.

    Parameters
    ----------
    penalties : array_like, optional
        Positive, of the squared weights of z-scored pixels. By default 48 from 0.1 to 5, in steps
        of one ratio.
    n_folds : int
        Of cross-validation; unused if there is one penalty.
    tol : float
        Newton's method ends where no derivative is larger, in units of response per trial.
    max_iter : int
        Newton steps for each penalty.
    rng : None, int or numpy.random.Generator
        Of the folds.

    Attributes
    ----------
    weights_ : ndarray, (n_neurons, H, W)
        Of z-scored luminance.
    biases_ : ndarray, (n_neurons,)
        -inf for neurons without any response.
    penalties_ : ndarray, (n_neurons,)
        The one of each neuron.
    heldout_ : ndarray, (n_penalties, n_neurons)
        Poisson log-likelihood per held-out trial, in nats, without what depends on responses alone.
    n_iter_ : int
        Newton steps in the last fit.

    References
    ----------
    The twin paper, Methods, 'GLM model'.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import PoissonGLM, Recording
    >>> rng = np.random.default_rng(0)
    >>> images = rng.normal(size=(400, 3, 3))
    >>> responses = rng.poisson(np.exp(images[:, 1, 1]))[:, None]
    >>> glm = PoissonGLM([0.01], rng=0).fit(Recording.from_arrays(images, responses, rng=0))
    >>> int(glm.weights_[0].argmax()), round(float(glm.weights_[0, 1, 1]), 1)
    (4, 1.0)
    """

    def __init__(self, penalties=None, *, n_folds=5, tol=1e-5, max_iter=50, rng=None):
        self.penalties, self.n_folds, self.tol = penalties, n_folds, tol
        self.max_iter, self.rng = max_iter, rng

    def fit(self, recording):
        """Fit all neurons to the training trials of a `Recording`.

        Returns
        -------
        PoissonGLM
        """
        penalties = self._check()
        if not isinstance(recording, Recording):
            raise TypeError(
                f"recording must be a fastvis.twin.Recording; got {type(recording).__name__}."
            )
        self.unit_ = recording.normalization()
        r, ids = recording.of_tier("train")
        r = r.astype(np.float64)
        x = self.unit_.images(recording.images[ids]).reshape(len(ids), -1).astype(np.float64)
        if len(penalties) > 1:
            self.heldout_ = self._cross_validate(x, r, penalties)
            self.penalties_ = penalties[self.heldout_.argmax(0)]
        else:
            self.heldout_ = np.zeros((1, r.shape[1]))
            self.penalties_ = np.repeat(penalties, r.shape[1])
        problem = _Problem(x, r)
        w, b, self.n_iter_ = problem.minimize(self.penalties_, None, self.tol, self.max_iter)
        w, self.biases_ = problem.of_pixels(w, b)
        self.weights_ = w.T.reshape(-1, *recording.images.shape[1:])
        return self

    def predict(self, images):
        """Mean responses (n_images, n_neurons) to images (n_images, H, W), in the fit's units.

        Raises
        ------
        ValueError
            Images of another size, or not finite.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "weights_")
        images = check_images(images, self.weights_.shape[1:])
        x = self.unit_.images(images).reshape(len(images), -1)
        drive = x @ self.weights_.reshape(len(self.weights_), -1).T.astype(x.dtype)
        return np.exp(np.minimum(drive + self.biases_.astype(x.dtype), MOST))

    def _check(self):
        penalties = PENALTIES if self.penalties is None else self.penalties
        penalties = check_array(penalties, "penalties", ndim=1).astype(np.float64)
        if not (penalties > 0).all():
            raise ValueError(f"penalties must be > 0; got {penalties.min():g}.")
        check_int(self.n_folds, "n_folds", minimum=2)
        check_float(self.tol, "tol", minimum=0, strict=True)
        check_int(self.max_iter, "max_iter", minimum=1)
        return penalties

    def _cross_validate(self, x, r, penalties):
        """Held-out log-likelihoods; the path goes from the largest penalty down, each fit starting
        where the one before ended."""
        n_folds = check_int(self.n_folds, "n_folds", minimum=2, maximum=len(x))
        fold = check_rng(self.rng).permutation(len(x)) % n_folds
        total = np.zeros((len(penalties), r.shape[1]))
        for f in range(n_folds):
            problem, start = _Problem(x[fold != f], r[fold != f]), None
            held_x, held_r = problem.components(x[fold == f]), r[fold == f]
            for i in np.argsort(-penalties, kind="stable"):
                each = np.full(r.shape[1], penalties[i])
                *start, _ = problem.minimize(each, start, self.tol, self.max_iter)
                drive = np.clip(held_x @ start[0] + start[1], -MOST, MOST)
                total[i] += (held_r * drive - np.exp(drive)).sum(0)
        return total / len(x)


class _Problem:
    """Trials in principal components of their images: x (n, n_pixels), r (n, n_neurons)."""

    def __init__(self, x, r):
        self.r, self.center = r, x.mean(0)
        _, s, self.axes = np.linalg.svd(x - self.center, full_matrices=False)
        kept = s > s[0] * 1e-10 if len(s) else s > 0
        self.axes = self.axes[kept]
        self.z = self.components(x)
        self.variances = s[kept] ** 2 / len(x)
        self.is_silent = ~(r > 0).any(0)

    def components(self, x):
        return (x - self.center) @ self.axes.T

    def of_pixels(self, w, b):
        """Weights (n_pixels, n_neurons), and biases for pixels that are not centered."""
        w = self.axes.T @ w
        return w, np.where(self.is_silent, -np.inf, b - self.center @ w)

    def minimize(self, penalties, start, tol, max_iter):
        """Weights (n_components, n_neurons), biases (n_neurons,), and how many steps it took."""
        n_neurons = self.r.shape[1]
        if start is None:
            mean = np.maximum(self.r.mean(0), np.exp(-MOST))
            start = np.zeros((self.z.shape[1], n_neurons)), np.log(mean)
        w, b = (a.copy() for a in start)
        w[:, self.is_silent], b[self.is_silent] = 0, -MOST
        todo = np.flatnonzero(~self.is_silent)
        step = 0
        for step in range(1, max_iter + 1):
            if not len(todo):
                return w, b, step - 1
            part = _Neurons(self, self.r[:, todo], penalties[todo])
            w[:, todo], b[todo], error = part.newton(w[:, todo], b[todo])
            todo = todo[error > tol]
        return w, b, step


class _Neurons:
    """Some neurons of a `_Problem`, that are worked on together."""

    def __init__(self, problem, r, penalties):
        self.z, self.r, self.penalties = problem.z, r, penalties
        self.variances = problem.variances[:, None]

    def newton(self, w, b):
        """A step from weights and biases, and the largest derivative before it of each neuron."""
        drive = np.clip(self.z @ w + b, -MOST, MOST)
        rate = np.exp(drive)
        d_w, d_b = self._gradient(rate - self.r, w)
        error = np.maximum(np.abs(d_w).max(0, initial=0), np.abs(d_b))
        s_w, s_b = self._solve(rate, d_w, d_b)
        by_step = self.z @ s_w + s_b
        value, size = self._value(drive, w), np.ones(len(b))
        slope = (d_w * s_w).sum(0) + d_b * s_b
        for _ in range(MOST_HALVINGS):
            new = self._value(np.clip(drive - size * by_step, -MOST, MOST), w - size * s_w)
            bad = ~(new <= value - 1e-4 * size * slope + 1e-12 * np.abs(value))
            if not bad.any():
                break
            size[bad] /= 2
        else:
            size[bad] = 0
        return w - size * s_w, b - size * s_b, error

    def _value(self, drive, w):
        fit = (np.exp(drive) - self.r * drive).mean(0)
        return fit + self.penalties / 2 * (w**2).sum(0)

    def _gradient(self, residual, w):
        return self.z.T @ residual / len(residual) + self.penalties * w, residual.mean(0)

    def _solve(self, rate, d_w, d_b):
        """Steps that Newton's equations ask for, nearly: conjugate gradients for each neuron."""
        mean = rate.mean(0)
        scale = 1 / (self.variances * mean + self.penalties)
        r_w, r_b = d_w.copy(), d_b.copy()
        x_w, x_b = np.zeros_like(d_w), np.zeros_like(d_b)
        y_w, y_b = scale * r_w, r_b / mean
        p_w, p_b = y_w.copy(), y_b.copy()
        rho = (r_w * y_w).sum(0) + r_b * y_b
        goal = ENOUGH**2 * rho
        for _ in range(MOST_CG):
            active = rho > goal
            if not active.any():
                break
            curved = rate * (self.z @ p_w + p_b)
            h_w, h_b = self._gradient(curved, p_w)
            along = (p_w * h_w).sum(0) + p_b * h_b
            a = np.where(active, rho / np.where(along > 0, along, 1), 0)
            x_w, x_b = x_w + a * p_w, x_b + a * p_b
            r_w, r_b = r_w - a * h_w, r_b - a * h_b
            y_w, y_b = scale * r_w, r_b / mean
            before, rho = rho, np.where(active, (r_w * y_w).sum(0) + r_b * y_b, rho)
            beta = np.where(active, rho / np.where(before > 0, before, 1), 0)
            p_w, p_b = y_w + beta * p_w, y_b + beta * p_b
        return x_w, x_b

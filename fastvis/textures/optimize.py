"""L-BFGS-B over the pixels of an image in a box, as section 4 of the paper does it."""

from dataclasses import dataclass, field

import numpy as np
import scipy.optimize

from .._kernels.threads import one_blas_thread

# L-BFGS-B's own tests are absolute for values below 1; the paper scales the loss for that reason.
# They are switched off, as far as they can be, in favor of ours.
LOSS_SCALE = 1e7

STOP_REASONS = {
    "max_iter": "the iterations ran out",
    "tolerance": "the loss fell by no more than tol",
    "gradient": "the projected gradient is zero",
    "target_loss": "the loss reached target_loss",
    "line_search": "no lower loss was found along the search direction",
    "interrupted": "interrupted from the keyboard",
    "callback": "the callback asked for it",
}


@dataclass(frozen=True, repr=False, eq=False)
class SynthesisResult:
    """An image, how well it matches, and why the optimization ended.

    Attributes
    ----------
    image : ndarray, (H, W, C) or (H, W)
        The best image that was seen (not the last), within the bounds.
    loss : float
        Its loss, eq (5).
    losses : ndarray, (n_iter + 1,)
        Loss at the start and after each iteration; after coarse levels, of the finest alone.
    n_evaluations : int
        How often the loss and its gradient were computed, on all levels.
    stopped_by : str
        "tolerance" or "gradient": converged. "max_iter", "target_loss", "line_search" (no lower
        loss along the search direction: the limit of the dtype's precision, usually),
        "callback" or "interrupted": not.
    """

    image: np.ndarray
    loss: float
    losses: np.ndarray
    n_evaluations: int
    stopped_by: str

    @property
    def n_iter(self):
        """Iterations of L-BFGS-B."""
        return len(self.losses) - 1

    @property
    def converged(self):
        """Whether the optimizer found a minimum, by its own tests."""
        return self.stopped_by in ("tolerance", "gradient")

    def __repr__(self):
        size = " x ".join(map(str, self.image.shape))
        return (
            f"SynthesisResult({size}, loss={self.loss:.3g} after {self.n_iter} iterations; "
            f"stopped because {STOP_REASONS[self.stopped_by]})"
        )


class _Stop(Exception):
    """Ends the optimization from within; carries the reason."""


@dataclass
class _Pixels:
    """The free pixels as L-BFGS-B's vector; remembers the best image."""

    loss_and_grad: object
    image: np.ndarray
    free: np.ndarray | None
    best_image: np.ndarray = None
    best_loss: float = np.inf
    n_evaluations: int = 0
    losses: list = field(default_factory=list)

    def vector(self):
        return (self.image if self.free is None else self.image[self.free]).ravel().astype(float)

    def compose(self, x):
        if self.free is None:
            return x.reshape(self.image.shape).astype(self.image.dtype)
        image = self.image.copy()
        image[self.free] = x.reshape(-1, image.shape[2])
        return image

    def __call__(self, x):
        image = self.compose(x)
        loss, grad = self.loss_and_grad(image)
        if not (np.isfinite(loss) and np.isfinite(grad).all()):
            raise FloatingPointError(
                "the model gave a loss or gradient that is NaN or infinite; try float64 images."
            )
        self.n_evaluations += 1
        if not self.losses:
            self.losses.append(loss)
        if loss < self.best_loss:
            self.best_loss, self.best_image = loss, image
        grad = grad if self.free is None else grad[self.free]
        return LOSS_SCALE * loss, LOSS_SCALE * grad.ravel().astype(float)


def minimize_pixels(
    loss_and_grad,
    image,
    *,
    free=None,
    max_iter,
    bounds,
    tol=0.0,
    target_loss=0.0,
    progress=False,
    callback=None,
):
    """Minimize a loss over the pixels of an image; see `synthesize` for the arguments.

    Parameters
    ----------
    loss_and_grad : callable
        (H, W, C) image -> loss, gradient.
    image : ndarray, (H, W, C)
        Where to start; its dtype is the one that the loss is computed in.
    free : ndarray of bool, (H, W), optional
        The pixels that may change.

    Returns
    -------
    SynthesisResult
    """
    pixels = _Pixels(loss_and_grad, image, free)
    bar = None
    if progress:
        from tqdm.auto import tqdm

        bar = tqdm(total=max_iter, unit="it")

    def after_iteration(intermediate_result):
        loss = intermediate_result.fun / LOSS_SCALE
        fall = pixels.losses[-1] - loss
        pixels.losses.append(loss)
        if bar is not None:
            bar.set_postfix(loss=f"{loss:.3g}", refresh=False)
            bar.update()
        if callback is not None and _asks_to_stop(
            callback, len(pixels.losses) - 1, loss, pixels.compose(intermediate_result.x)
        ):
            raise _Stop("callback")
        if loss <= target_loss:
            raise _Stop("target_loss")
        if fall <= tol * pixels.losses[-2]:
            raise _Stop("tolerance")

    try:
        # SciPy's optimizer sums with BLAS: one thread, so that a seed gives the same bytes
        with one_blas_thread:
            if max_iter == 0 or target_loss > 0:
                pixels(pixels.vector())
                if pixels.best_loss <= target_loss:
                    raise _Stop("target_loss")
            if max_iter == 0:
                raise _Stop("max_iter")
            outcome = scipy.optimize.minimize(
                pixels,
                pixels.vector(),
                jac=True,
                method="L-BFGS-B",
                bounds=scipy.optimize.Bounds(*bounds),
                callback=after_iteration,
                options={"maxiter": max_iter, "maxfun": 100 * max_iter, "ftol": 0, "gtol": 0},
            )
        stopped_by = _reason(outcome)
    except _Stop as stop:
        stopped_by = str(stop)
    except KeyboardInterrupt:
        if pixels.best_image is None:
            raise
        stopped_by = "interrupted"
    finally:
        if bar is not None:
            bar.close()
    return SynthesisResult(
        pixels.best_image,
        pixels.best_loss,
        np.array(pixels.losses),
        pixels.n_evaluations,
        stopped_by,
    )


def _asks_to_stop(callback, *arguments):
    try:
        return callback(*arguments)
    except StopIteration:  # as SciPy's callbacks do
        return True


def _reason(outcome):
    if outcome.status == 1:
        return "max_iter"
    if outcome.status == 0:
        return "gradient" if "GRADIENT" in outcome.message else "tolerance"
    return "line_search"

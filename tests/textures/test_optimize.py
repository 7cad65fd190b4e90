"""minimize_pixels on losses whose minimum is known, and every way in which it can end."""

import numpy as np
import pytest
import threadpoolctl

from fastvis.textures.optimize import STOP_REASONS, minimize_pixels

SHAPE = (4, 5, 2)


@pytest.fixture
def center(rng):
    return rng.uniform(0.1, 0.9, SHAPE)


class Loss:
    """Remembers what it was asked and what it said."""

    def __init__(self, function):
        self.function = function
        self.images, self.values = [], []

    def __call__(self, image):
        loss, grad = self.function(image)
        self.images.append(image.copy())
        self.values.append(loss)
        return loss, grad


def bowl(center, weights=1.0):
    """sum w (x - center)^2."""
    return Loss(lambda x: (np.sum(weights * (x - center) ** 2), 2 * weights * (x - center)))


def stretched_bowl(center, scale=1.0):
    """Curvatures that differ 1e4-fold: takes L-BFGS-B tens of iterations."""
    return bowl(center, scale * np.geomspace(1, 1e4, center.size).reshape(center.shape))


def valley(center):
    """Rosenbrock's function of pairs of pixels about ``center``: line searches overshoot in it."""

    def function(image):
        a, b = np.moveaxis(2 * (image - center), 2, 0)
        miss = b - a**2 - a
        grad = np.stack([2 * a - 200 * miss * (2 * a + 1), 200 * miss], axis=2)
        return np.sum(a**2 + 100 * miss**2), 2 * grad

    return Loss(function)


def minimize(loss, start=None, *, bounds=(0.0, 1.0), max_iter=100, **options):
    start = np.full(SHAPE, 0.5) if start is None else start
    return minimize_pixels(loss, start, bounds=bounds, max_iter=max_iter, **options)


# Minima


def test_finds_a_minimum_inside_the_box(center):
    result = minimize(stretched_bowl(center), max_iter=1000)
    np.testing.assert_allclose(result.image, center, rtol=0, atol=1e-7)
    assert result.loss < 1e-12


def test_finds_a_minimum_on_the_box(rng):
    center = rng.uniform(-1, 2, SHAPE)  # separable: the minimum in the box is clipped
    result = minimize(bowl(center, rng.uniform(1, 10, SHAPE)), bounds=(0.25, 0.75))
    np.testing.assert_allclose(result.image, np.clip(center, 0.25, 0.75), rtol=0, atol=1e-7)
    outside = (center < 0.25) | (center > 0.75)
    assert np.isin(result.image[outside], [0.25, 0.75]).all()


def test_looks_nowhere_outside_the_box(center):
    loss = valley(center)
    minimize(loss, bounds=(0.3, 0.6))
    assert min(image.min() for image in loss.images) >= 0.3
    assert max(image.max() for image in loss.images) <= 0.6


def test_changes_free_pixels_only(center, rng):
    free = rng.random(SHAPE[:2]) < 0.5
    start = rng.random(SHAPE)
    loss = bowl(center)
    result = minimize(loss, start, free=free)
    np.testing.assert_array_equal(result.image[~free], start[~free])
    np.testing.assert_allclose(result.image[free], center[free], rtol=0, atol=1e-9)
    for image in loss.images:
        np.testing.assert_array_equal(image[~free], start[~free])


@pytest.mark.parametrize("scale", [1e-9, 1e-5, 1e3])
def test_small_losses_do_not_end_it_early(center, scale):
    # L-BFGS-B's own tests of progress and gradient are absolute
    result = minimize(stretched_bowl(center, scale), max_iter=1000)
    assert result.loss < 1e-12 * result.losses[0]


def test_the_dtype_is_the_images(center):
    loss = bowl(center.astype(np.float32))
    result = minimize(loss, np.full(SHAPE, 0.5, np.float32))
    assert result.image.dtype == np.float32
    assert {image.dtype for image in loss.images} == {np.dtype(np.float32)}
    np.testing.assert_allclose(result.image, center, rtol=0, atol=1e-6)


def test_the_start_is_not_written_to(center):
    start = np.full(SHAPE, 0.5)
    minimize(bowl(center), start)
    assert (start == 0.5).all()


# What is reported


def test_losses_are_those_at_the_start_and_after_each_iteration(center):
    loss, seen = valley(center), []
    start = np.full(SHAPE, 0.5)
    result = minimize(loss, start, max_iter=30, callback=lambda *args: seen.append(args))
    assert result.n_iter == len(seen) == 30
    assert result.n_evaluations == len(loss.values) > 30
    assert [iteration for iteration, _, _ in seen] == list(range(1, 31))
    expected = [valley(center)(image)[0] for image in [start] + [image for _, _, image in seen]]
    np.testing.assert_allclose(result.losses, expected, rtol=1e-12)
    np.testing.assert_array_equal(result.losses[1:], [loss for _, loss, _ in seen])
    assert (np.diff(result.losses) < 0).all()


def test_the_best_image_is_returned_whenever_it_is_interrupted(center):
    whole = valley(center)
    minimize(whole, max_iter=40)
    n = len(whole.values)
    assert n > 45  # some steps overshot

    for last in range(1, n):
        loss = valley(center)

        def interrupted(image, loss=loss, last=last):
            if len(loss.values) == last:
                raise KeyboardInterrupt
            return loss(image)

        result = minimize(interrupted, max_iter=40)
        best = np.argmin(loss.values)
        assert result.stopped_by == "interrupted"
        assert result.loss == loss.values[best]
        np.testing.assert_array_equal(result.image, loss.images[best])
    assert any(np.argmin(whole.values[:i]) < i - 1 for i in range(1, n))  # not the last


def test_repr_says_why_it_stopped(center):
    result = minimize(bowl(center), max_iter=1)
    expected = f"4 x 5 x 2, loss={result.loss:.3g} after 1 iterations; stopped because the iter"
    assert expected in repr(result)
    assert set(STOP_REASONS) == set(ENDS)


def test_progress_counts_iterations(center, capsys):
    result = minimize(valley(center), max_iter=7, progress=True)
    shown = capsys.readouterr().err
    assert "7/7" in shown
    assert f"loss={result.losses[-1]:.3g}" in shown
    minimize(valley(center), max_iter=7)
    assert capsys.readouterr().err == ""


# Each way to end

ENDS = {
    "max_iter": {"max_iter": 3},
    "tolerance": {"tol": 1e-2},
    "gradient": {"loss": lambda center: bowl(np.full(SHAPE, 2.0))},  # the corner of the box
    "target_loss": {"target_loss": 0.5},
    "line_search": {"loss": lambda center: uphill(center)},
    "callback": {"callback": lambda iteration, loss, image: iteration == 4},
    "interrupted": {"callback": lambda iteration, loss, image: press_ctrl_c(iteration == 4)},
}
CONVERGED = ("tolerance", "gradient")


def uphill(center):
    """The gradient points the wrong way: no step along it lowers the loss."""
    return Loss(lambda x: (np.sum((x - center) ** 2), 2 * (center - x)))


def press_ctrl_c(now):
    if now:
        raise KeyboardInterrupt


@pytest.mark.parametrize("reason", ENDS)
def test_says_honestly_why_it_stopped(reason, center):
    options = dict(ENDS[reason])
    loss = options.pop("loss", valley)(center)
    result = minimize(loss, **options)
    losses = result.losses
    assert result.stopped_by == reason
    assert result.converged == (reason in CONVERGED)
    assert result.loss == min(loss.values)
    if reason == "max_iter":
        assert result.n_iter == 3
    elif reason == "tolerance":
        fall = -np.diff(losses) / losses[:-1]
        assert fall[-1] <= 1e-2 < fall[:-1].min()
    elif reason == "gradient":
        assert (result.image == 1).all()
    elif reason == "target_loss":
        assert losses[-1] <= 0.5 < losses[-2]
    elif reason == "line_search":
        assert result.n_iter == 0
        assert (result.image == 0.5).all()
    else:
        assert result.n_iter == 4


@pytest.mark.parametrize("scale", [1e-12, 1.0])
def test_tol_is_a_fraction_of_the_loss_however_small_that_is(center, scale):
    def function(image):  # the lowest loss is ``scale``
        loss, grad = stretched_bowl(center, scale)(image)
        return loss + scale, grad

    result = minimize(Loss(function), tol=1e-3, max_iter=1000)
    fall = -np.diff(result.losses) / result.losses[:-1]
    assert result.stopped_by == "tolerance"
    assert fall[-1] <= 1e-3 < fall[:-1].min()
    assert result.loss < 1.1 * scale


def test_without_iterations_the_start_is_evaluated(center):
    loss = bowl(center)
    result = minimize(loss, max_iter=0)
    assert (result.image == 0.5).all()
    assert result.loss == result.losses[0] == loss.values[0]
    assert (result.n_iter, result.n_evaluations, result.stopped_by) == (0, 1, "max_iter")


def test_a_minimum_as_the_start_is_kept(center):
    result = minimize(bowl(center), center)
    np.testing.assert_array_equal(result.image, center)
    assert (result.loss, result.n_iter, result.stopped_by) == (0, 0, "gradient")


def test_a_start_that_is_good_enough_is_kept(center):
    start = center + 0.01
    result = minimize(bowl(center), start, target_loss=1.0)
    np.testing.assert_array_equal(result.image, start)
    assert (result.n_iter, result.stopped_by) == (0, "target_loss")


@pytest.mark.parametrize("answer", [None, False, 0])
def test_callbacks_that_return_nothing_do_not_stop_it(center, answer):
    result = minimize(valley(center), max_iter=5, callback=lambda *args: answer)
    assert (result.n_iter, result.stopped_by) == (5, "max_iter")


def test_interrupted_before_the_first_loss_is_known():
    with pytest.raises(KeyboardInterrupt):
        minimize(lambda image: press_ctrl_c(True))


# Errors


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_losses_and_gradients_that_are_not_finite(center, bad):
    def loss(image):
        return bad, image

    def gradient(image):
        return 1.0, np.full(SHAPE, bad)

    for function in (loss, gradient):
        with pytest.raises(FloatingPointError, match="NaN or infinite; try float64 images"):
            minimize(function)


def test_errors_of_the_model_and_of_the_callback_are_the_callers(center):
    def broken(*args):
        raise ZeroDivisionError("mine")

    for options in ({"loss": broken}, {"loss": bowl(center), "callback": broken}):
        with pytest.raises(ZeroDivisionError, match="mine"):
            minimize(**options)


@pytest.mark.parametrize("end", [KeyboardInterrupt, ZeroDivisionError, None])
def test_blas_has_one_thread_meanwhile_and_its_own_afterwards(center, end):
    def blas_threads():
        pools = threadpoolctl.threadpool_info()
        return [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]

    counts = []

    def callback(*args):
        counts.append(blas_threads())
        if end is not None:
            raise end

    with threadpoolctl.threadpool_limits(2, "blas"):
        before = blas_threads()
        assert set(before) == {2}
        try:
            minimize(valley(center), max_iter=2, callback=callback)
        except ZeroDivisionError:
            pass
        assert blas_threads() == before
    assert counts
    assert all(set(count) == {1} for count in counts)

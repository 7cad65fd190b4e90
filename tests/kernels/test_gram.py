"""The Gram kernel against closed forms, SciPy and numpy.fft."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate

from fastvis._kernels.gram import StripPlan, _products, reference, strips

from .cases import gram as cases

NONLINEARITIES = ("relu", "sigmoid", "linear")
PADDINGS = ("zero", "periodic", "reflect")


def glorot(rng, size, n_maps, channels):
    limit = np.sqrt(6 / (size**2 * (channels + n_maps)))
    return rng.uniform(-limit, limit, (n_maps, size, size, channels))


def error(array, expected):
    """Largest error relative to the largest number."""
    return np.abs(array - expected).max() / np.abs(expected).max()


# Closed forms


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_constant_image(rng, nonlinearity):
    # every pixel of map n is phi(c . sum w_n)
    filters = [glorot(rng, 3, 4, 3), glorot(rng, 9, 5, 3)]
    c = rng.random(3)
    u = np.concatenate([w.sum(axis=(1, 2)) @ c for w in filters])
    f = {"relu": np.maximum(u, 0), "sigmoid": 1 / (1 + np.exp(-u)), "linear": u}[nonlinearity]
    image = np.broadcast_to(c, (7, 12, 3))
    plan = StripPlan(filters, (7, 12), nonlinearity, "periodic")
    assert error(plan.gram(image), np.outer(f, f)) < 1e-14


@pytest.mark.parametrize("padding", PADDINGS)
def test_delta_filter(rng, padding):
    # one pixel of the filter is one: F = phi(x), G = mean of phi(x)^2
    image = rng.normal(size=(10, 13, 3))
    w = np.zeros((1, 5, 5, 3))
    w[0, 2, 2, 1] = 1
    plan = StripPlan([w], (10, 13), "relu", padding)
    expected = np.mean(np.maximum(image[:, :, 1], 0) ** 2)
    assert plan.gram(image) == pytest.approx(expected, rel=1e-14)


def test_filters_are_correlated_not_convolved(rng):
    # the filter's last row and first column: F[i, j] = x[i + 1, j - 1], zero outside
    image = rng.random((10, 13, 1))
    w = np.zeros((2, 3, 3, 1))
    w[0, 2, 0] = w[1, 1, 1] = 1
    gram = StripPlan([w], (10, 13), "linear", "zero").gram(image)
    x = image[:, :, 0]
    assert gram[0, 0] == pytest.approx(np.sum(x[1:, :-1] ** 2) / x.size)
    assert gram[0, 1] == pytest.approx(np.sum(x[1:, :-1] * x[:-1, 1:]) / x.size)


@pytest.mark.parametrize("padding", PADDINGS)
def test_reference_matches_ndimage(rng, padding):
    image = rng.random((6, 11, 2))
    filters = [glorot(rng, 3, 2, 2), glorot(rng, 7, 3, 2)]
    mode = {"zero": "constant", "periodic": "wrap", "reflect": "mirror"}[padding]
    expected = [
        sum(correlate(image[:, :, c], w[:, :, c], mode=mode) for c in range(2)).ravel()
        for group in filters
        for w in group
    ]
    assert error(reference.features(image, filters, "linear", padding), expected) < 1e-13


def test_shifted_periodic_image_has_the_same_gram(rng):
    image = rng.random((12, 17, 3))
    plan = StripPlan([glorot(rng, 5, 6, 3), glorot(rng, 23, 2, 3)], (12, 17), "relu", "periodic")
    shifted = np.roll(image, (5, 8), axis=(0, 1))
    assert error(plan.gram(shifted), plan.gram(image)) < 1e-14


def test_linear_gram_is_the_filtered_covariance_of_patches(rng):
    # G = W C W', C: second moments of all f x f patches
    f, image = 5, rng.random((9, 14, 3))
    w = glorot(rng, f, 7, 3)
    patches = [
        np.roll(image, (f // 2 - a, f // 2 - b), axis=(0, 1)) for a in range(f) for b in range(f)
    ]
    patches = np.stack(patches, axis=2).reshape(9 * 14, -1)
    covariance = patches.T @ patches / len(patches)
    expected = w.reshape(7, -1) @ covariance @ w.reshape(7, -1).T
    assert error(StripPlan([w], (9, 14), "linear", "periodic").gram(image), expected) < 1e-13


@pytest.mark.parametrize("nonlinearity", ["relu", "linear"])
def test_loss_does_not_depend_on_the_scale_of_images(rng, nonlinearity):
    image, other = rng.random((2, 9, 14, 3))
    plan = StripPlan([glorot(rng, 5, 7, 3)], (9, 14), nonlinearity, "zero")
    loss, grad = plan.loss_and_grad(image, plan.gram(other))
    scaled_loss, scaled_grad = plan.loss_and_grad(255 * image, plan.gram(255 * other))
    assert scaled_loss == pytest.approx(loss, rel=1e-12)
    assert error(255 * scaled_grad, grad) < 1e-12


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_loss_and_gradient_vanish_at_the_target(rng, nonlinearity):
    image = rng.random((9, 14, 3))
    plan = StripPlan([glorot(rng, 5, 7, 3)], (9, 14), nonlinearity, "reflect")
    loss, grad = plan.loss_and_grad(image, plan.gram(image))
    assert loss == 0
    assert not grad.any()


def test_gram_is_symmetric_and_positive(rng):
    gram = StripPlan([glorot(rng, 3, 9, 3)], (20, 20), "relu", "zero").gram(rng.random((20, 20, 3)))
    assert np.array_equal(gram, gram.T)
    assert np.linalg.eigvalsh(gram)[0] > 0


# Any geometry, any precision


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5)),
    groups=st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from([1, 3, 5, 9, 15])), min_size=1, max_size=4
    ),
    nonlinearity=st.sampled_from(NONLINEARITIES),
    padding=st.sampled_from(PADDINGS),
    seed=st.integers(0, 99),
)
def test_any_geometry(shape, groups, nonlinearity, padding, seed):
    arrays = cases.inputs((shape, groups), np.float64, np.random.default_rng(seed))
    options = {"nonlinearity": nonlinearity, "padding": padding}
    outputs = cases.make_cpu(arrays, **options)(**arrays)
    expected = cases.make_reference(arrays, **options)(**arrays)
    for name in ("gram", "d projection / d image"):
        scale = max(np.abs(expected[name]).max(), 1e-3)  # relu may silence all maps
        assert np.abs(outputs[name] - expected[name]).max() < 1e-12 * scale, name


@pytest.mark.parametrize("n_maps", [4, 128])
def test_float32_on_noise(rng, n_maps):
    # the paper's eight scales; 4 maps each against the reference, 128 against float64
    image, other = rng.random((2, 64, 64, 3)).astype(np.float32)
    filters = [glorot(rng, f, n_maps, 3).astype(np.float32) for f in (3, 5, 7, 11, 15, 23, 37, 55)]
    plan = StripPlan(filters, (64, 64), "relu", "zero")
    target = plan.gram(other)
    loss, grad = plan.loss_and_grad(image, target)

    filters = [w.astype(np.float64) for w in filters]
    image, target = image.astype(np.float64), target.astype(np.float64)
    if n_maps == 4:
        expected = reference.loss_and_grad(image, filters, "relu", "zero", target)
    else:
        expected = StripPlan(filters, (64, 64), "relu", "zero").loss_and_grad(image, target)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    assert error(grad, expected[1]) < 1e-5


# The block sizes of cases.TUNINGS are what their names say


@pytest.mark.parametrize(
    ("tuning", "strip_rows", "n_kept", "n_lanes"),
    [
        ("a row at a time", [1] * 23, 1, 1),
        ("short last strip", [6, 6, 6, 5], 2, 8),
        ("all strips kept", [8, 8, 7], 3, 8),
        ("three lanes, three parts", [8, 8, 7], 3, 3),
    ],
)
def test_tunings(monkeypatch, tuning, strip_rows, n_kept, n_lanes):
    for name, value in cases.TUNINGS[tuning].items():
        monkeypatch.setattr(strips, name, value)
    lanes = []
    accumulate = _products.accumulate_gram

    def spy(start, stop, F, n_parts, partial):
        lanes.append((len(partial), n_parts))
        accumulate(start, stop, F, n_parts, partial)

    monkeypatch.setattr(_products, "accumulate_gram", spy)
    arrays = cases.inputs(cases.SIZES["medium"], np.float64, np.random.default_rng(0))
    filters = [arrays["w0"], arrays["w1"]]
    plan = StripPlan(filters, (23, 20), "relu", "zero")
    assert [stop - start for start, stop in plan.strips] == strip_rows
    features = []
    monkeypatch.setattr(
        plan, "_features", lambda *args, f=plan._features: features.append(1) or f(*args)
    )
    plan.loss_and_grad(arrays["image"], arrays["target"])
    assert len(features) == 2 * len(strip_rows) - n_kept  # the others are computed again
    assert set(lanes) == {(n_lanes, -(-8 // n_lanes))}
    assert 0 < plan.memory.idle_bytes <= strips.IDLE_BYTES or strips.IDLE_BYTES == 0

"""GramModel: its definition, closed forms, invariances, gradients, and what it refuses."""

import pickle

import numpy as np
import pytest
from scipy.ndimage import correlate
from scipy.special import expit

from fastvis.textures import IMAGENET_MEAN, FilterBank, GramModel
from fastvis.textures.model import SIGMOID_GAIN

NONLINEARITIES = {
    "relu": lambda u: np.maximum(u, 0),
    "sigmoid": lambda u: expit(SIGMOID_GAIN * u),
    "linear": lambda u: u,
}
SCIPY_MODE = {"zero": "constant", "periodic": "wrap", "reflect": "mirror"}

every_nonlinearity = pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
every_padding = pytest.mark.parametrize("padding", SCIPY_MODE)


def bank_of(sizes=(3, 7), n_maps=4, channels=2, seed=0):
    return FilterBank.random(sizes, n_maps, channels, seed, np.float64)


def image_of(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def correlated_gram(image, bank, nonlinearity, padding):
    """(1) by scipy's correlation, a map and a channel at a time."""
    maps = [
        sum(
            correlate(image[..., c], w[..., c], mode=SCIPY_MODE[padding])
            for c in range(image.shape[2])
        )
        for filters in bank.filters
        for w in filters
    ]
    F = NONLINEARITIES[nonlinearity](np.stack(maps)).reshape(len(maps), -1)
    return F @ F.T / F.shape[1]


def relative_error(x, y):
    return np.linalg.norm(x - y) / np.linalg.norm(y)


# The definition


@every_padding
@every_nonlinearity
def test_gram_is_that_of_correlated_centered_images(nonlinearity, padding):
    image, mean = image_of(5, 9, 2), np.array([0.3, 0.6])  # filters are larger than the image
    model = GramModel(bank_of(), nonlinearity, padding, mean)
    expected = correlated_gram(image - mean, model.bank, nonlinearity, padding)
    np.testing.assert_allclose(model.gram(image), expected, rtol=0, atol=1e-13)


def test_zero_padding_is_the_mean_color(rng):
    # the mean is subtracted before padding: an image of that color has no border
    color = rng.random(3)
    model = GramModel(bank_of(channels=3), padding="zero", mean=color)
    assert not model.gram(np.tile(color, (8, 9, 1))).any()


def test_imagenet_mean_in_the_order_red_green_blue():
    np.testing.assert_allclose(IMAGENET_MEAN, [0.485, 0.458, 0.408], atol=3e-3)
    assert GramModel(bank_of(channels=3), mean=IMAGENET_MEAN).mean.shape == (3,)


def test_maps_come_in_the_order_of_the_bank():
    image, bank = image_of(12, 12, 2), bank_of()
    parts = [GramModel(FilterBank([w])).gram(image) for w in bank.filters]
    whole = GramModel(bank).gram(image)
    np.testing.assert_allclose(whole[:4, :4], parts[0], rtol=1e-12)
    np.testing.assert_allclose(whole[4:, 4:], parts[1], rtol=1e-12)
    np.testing.assert_array_equal(whole, whole.T)


def test_loss_is_relative_and_the_gram_matrix_of_the_image_has_none():
    model = GramModel(bank_of())
    image, target = image_of(10, 11, 2), model.gram(image_of(10, 11, 2, seed=1))
    G = model.gram(image)
    expected = np.sum((target - G) ** 2) / np.sum(target**2)
    assert model.loss(image, target) == pytest.approx(expected, rel=1e-12)
    assert model.loss_and_grad(image, target)[0] == model.loss(image, target)
    loss, grad = model.loss_and_grad(image, G)
    assert loss == 0
    assert not grad.any()


# Gradients


def finite_differences(f, x, step=1e-6):
    gradient = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        left, right = x.copy(), x.copy()
        left[i] -= step
        right[i] += step
        gradient[i] = (f(right) - f(left)) / (2 * step)
    return gradient


@every_padding
@every_nonlinearity
def test_gradients_are_those_of_finite_differences(nonlinearity, padding, rng):
    model = GramModel(bank_of(), nonlinearity, padding, mean=[0.5, 0.4])
    image = image_of(5, 6, 2)
    target = model.gram(image_of(5, 6, 2, seed=1))
    loss, grad = model.loss_and_grad(image, target)
    assert loss == model.loss(image, target)
    numeric = finite_differences(lambda x: model.loss(x, target), image)
    assert relative_error(grad, numeric) < 1e-7

    d_gram = rng.normal(size=target.shape)  # not symmetric
    numeric = finite_differences(lambda x: np.sum(d_gram * model.gram(x)), image)
    assert relative_error(model.gram_vjp(image, d_gram), numeric) < 1e-7


# Closed forms


@pytest.mark.parametrize("padding", ["periodic", "reflect"])
@every_nonlinearity
def test_a_constant_image_drives_each_filter_by_its_sum(nonlinearity, padding, rng):
    color, mean = rng.random(2), rng.random(2)
    model = GramModel(bank_of(), nonlinearity, padding, mean)
    sums = np.concatenate([w.sum(axis=(1, 2)) for w in model.bank.filters])
    f = NONLINEARITIES[nonlinearity](sums @ (color - mean))
    G = model.gram(np.tile(color, (9, 8, 1)))
    np.testing.assert_allclose(G, np.outer(f, f), rtol=1e-12, atol=1e-15)


def test_a_pixel_and_its_negative_split_the_variance_under_relu():
    bank = FilterBank([np.array([1.0, -1.0]).reshape(2, 1, 1, 1)])
    x = image_of(7, 9)
    light, dark = np.maximum(x - 0.4, 0), np.maximum(0.4 - x, 0)
    expected = np.diag([np.mean(light**2), np.mean(dark**2)])
    np.testing.assert_allclose(GramModel(bank, mean=[0.4]).gram(x), expected, rtol=1e-13)


def test_a_single_filter_sees_a_grating_by_its_transfer_function(rng):
    bank = FilterBank([rng.normal(size=(3, 5, 5, 1)), rng.normal(size=(2, 9, 9, 1))])
    height, width, row_cycles, column_cycles, amplitude = 12, 10, 2, 3, 0.3
    y, x = np.mgrid[:height, :width]
    phase = 2 * np.pi * (row_cycles * y / height + column_cycles * x / width)
    transfer = []
    for w in bank.filters:
        half = w.shape[1] // 2
        b, a = np.mgrid[-half : half + 1, -half : half + 1]
        wave = np.exp(2j * np.pi * (row_cycles * b / height + column_cycles * a / width))
        transfer.extend(np.sum(w[..., 0] * wave, axis=(1, 2)))
    expected = amplitude**2 / 2 * np.real(np.outer(transfer, np.conj(transfer)))
    model = GramModel(bank, "linear", "periodic", mean=[0.5])
    G = model.gram(0.5 + amplitude * np.cos(phase))
    np.testing.assert_allclose(G, expected, rtol=0, atol=1e-13)


@every_nonlinearity
def test_periodic_statistics_do_not_know_where_the_texture_begins(nonlinearity):
    image = image_of(12, 15, 2)
    model = GramModel(bank_of(), nonlinearity, "periodic")
    G = model.gram(image)
    for shift in [(1, 0), (0, -1), (5, 7)]:
        moved = np.roll(image, shift, axis=(0, 1))
        assert relative_error(model.gram(moved), G) < 1e-13
        for padding in ("zero", "reflect"):
            other = GramModel(model.bank, nonlinearity, padding)
            assert relative_error(other.gram(moved), other.gram(image)) > 1e-4


@every_padding
def test_mirrored_filters_see_a_mirrored_image_the_same(padding):
    image, bank = image_of(10, 13, 2), bank_of()
    mirrored = FilterBank([w[:, :, ::-1] for w in bank.filters])
    G = GramModel(bank, padding=padding).gram(image)
    H = GramModel(mirrored, padding=padding).gram(image[:, ::-1])
    assert relative_error(H, G) < 1e-13
    assert relative_error(GramModel(bank, padding=padding).gram(image[:, ::-1]), G) > 1e-3


@pytest.mark.parametrize("nonlinearity", ["relu", "linear"])
def test_contrast_acts_by_its_square(nonlinearity):
    image, mean = image_of(9, 9, 2), np.array([0.5, 0.2])
    model = GramModel(bank_of(), nonlinearity, mean=mean)
    target = model.gram(image)
    for s in (0.5, 1.2):  # (1) is quadratic, hence (5) is (s^2 - 1)^2
        loss = model.loss(mean + s * (image - mean), target)
        assert loss == pytest.approx((s**2 - 1) ** 2, rel=1e-10)


@pytest.mark.parametrize("nonlinearity", ["relu", "linear"])
@pytest.mark.parametrize("scale", [0.01, 37.0])
def test_loss_does_not_depend_on_the_scale_of_the_bank(nonlinearity, scale):
    bank = bank_of()
    scaled = FilterBank([scale * w for w in bank.filters])
    losses = [loss_between(GramModel(b, nonlinearity)) for b in (bank, scaled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_with_the_sigmoid_the_loss_depends_on_the_scale_of_the_bank():
    bank = bank_of()
    scaled = FilterBank([w / 10 for w in bank.filters])  # nearly linear about the constant 1/2
    losses = [loss_between(GramModel(b, "sigmoid", mean=[0.5, 0.5])) for b in (bank, scaled)]
    assert losses[1] < losses[0] / 2


def loss_between(model, shape=(16, 17, 2)):
    image, reference = image_of(*shape), image_of(*shape, seed=1) ** 2
    return model.loss(image, model.gram(reference))


def test_without_nonlinearity_complete_orthonormal_banks_give_one_loss(rng):
    # G = W C W' with the patch covariance C: a rotation of W is none of the loss's business
    photographs = rng.random((2, 30, 30, 3))
    banks = {
        "pca": FilterBank.pca(photographs, 11, 363, n_patches=2000, rng=0, dtype=np.float64),
        "fourier": FilterBank.fourier(11, dtype=np.float64),
    }
    for bank in banks.values():
        W = bank.filters[0].reshape(363, 363)
        np.testing.assert_allclose(W @ W.T, np.eye(363), atol=1e-12)
    linear, relu = (
        [loss_between(GramModel(bank, nonlinearity), (16, 17, 3)) for bank in banks.values()]
        for nonlinearity in ("linear", "relu")
    )
    assert linear[0] == pytest.approx(linear[1], rel=1e-12)
    assert relu[0] != pytest.approx(relu[1], rel=1e-3)


# The target


def test_target_of_a_periodic_model_is_padded_by_reflection():
    bank, image = bank_of(), image_of(10, 9, 2)
    periodic = GramModel(bank, padding="periodic")
    reflected = GramModel(bank, padding="reflect")
    np.testing.assert_array_equal(periodic.target(image), reflected.gram(image))
    assert relative_error(periodic.gram(image), reflected.gram(image)) > 1e-3


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_target_of_other_models_is_the_gram_matrix(padding):
    model, image = GramModel(bank_of(), padding=padding), image_of(10, 9, 2)
    np.testing.assert_array_equal(model.target(image), model.gram(image))


def test_target_of_several_images_is_the_mean_gram_matrix():
    model = GramModel(bank_of())
    images = [image_of(8, 8, 2), image_of(11, 6, 2, seed=1), image_of(4, 5, 2, seed=2)]
    mean = sum(model.gram(image) for image in images) / 3
    np.testing.assert_allclose(model.target(images), mean, rtol=1e-14)
    stack = np.stack([images[0]] * 3)
    np.testing.assert_allclose(model.target(stack), model.gram(images[0]), rtol=1e-14)


# Kinds of images


def test_gray_images_need_no_channel_axis():
    model, image = GramModel(bank_of(channels=1)), image_of(8, 9)
    target = model.target(image)
    np.testing.assert_array_equal(target, model.gram(image[:, :, None]))
    flat, deep = (model.loss_and_grad(x, 2 * target)[1] for x in (image, image[:, :, None]))
    assert (flat.shape, deep.shape) == ((8, 9), (8, 9, 1))
    np.testing.assert_array_equal(flat, deep[:, :, 0])


def test_adjoint_of_a_gray_image_is_like_the_image():
    model, image = GramModel(bank_of(channels=1)), image_of(8, 9)
    assert model.gram_vjp(image[:, :, None], np.eye(8)).shape == (8, 9, 1)
    assert model.gram_vjp(image, np.eye(8)).shape == (8, 9)


def test_float32_is_kept_and_agrees_with_float64():
    image, model = image_of(20, 19, 2), GramModel(bank_of(), mean=[0.5, 0.4])
    target = model.gram(image_of(20, 19, 2, seed=1))
    single = image.astype(np.float32)
    assert model.gram(single).dtype == np.float32
    assert relative_error(model.gram(single), model.gram(image)) < 1e-6
    loss, grad = model.loss_and_grad(image, target)
    loss32, grad32 = model.loss_and_grad(single, target)
    assert grad32.dtype == np.float32
    assert isinstance(loss32, float)
    assert loss32 == pytest.approx(loss, rel=1e-5)
    assert relative_error(grad32, grad) < 1e-4


def test_uint8_is_divided_by_255(rng):
    model = GramModel(bank_of())
    image = rng.integers(0, 256, (8, 9, 2), dtype=np.uint8)
    as_float = image.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(model.gram(image), model.gram(as_float))


def test_the_image_is_not_written_to(rng):
    model, image = GramModel(bank_of(), mean=[0.5, 0.5]), image_of(8, 9, 2)
    before = image.copy()
    image.setflags(write=False)
    model.loss_and_grad(image, model.target(before))
    np.testing.assert_array_equal(image, before)


# One model for many images


def test_a_model_remembers_nothing_but_its_filters():
    used = GramModel(bank_of(), padding="periodic")
    for shape in [(8, 9, 2), (9, 8, 2), (8, 9, 2)]:
        for dtype in (np.float32, np.float64):
            image = image_of(*shape).astype(dtype)
            fresh = GramModel(bank_of(), padding="periodic")
            np.testing.assert_array_equal(used.gram(image), fresh.gram(image))
            np.testing.assert_array_equal(used.target(image), fresh.target(image))
    copy = pickle.loads(pickle.dumps(used))
    np.testing.assert_array_equal(copy.gram(image), used.gram(image))


def test_threads_may_share_a_model(together):
    model = GramModel(bank_of())
    images = [image_of(30 + i, 32 - i, 2, seed=i) for i in range(4)]
    expected = [GramModel(bank_of()).gram(image) for image in images]

    def many_times(image):
        return lambda: [model.gram(image) for _ in range(20)]

    for grams, G in zip(together(*map(many_times, images)), expected):
        for gram in grams:
            np.testing.assert_array_equal(gram, G)


# What is refused

NOT_FINITE = np.full((8, 8, 2), 0.5)
NOT_FINITE[3, 4, 1] = np.nan


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (NOT_FINITE, ValueError, r"image must be finite; got 1 value\(s\) that are NaN"),
        (np.full((4, 4, 2), np.inf), ValueError, "image must be finite; got 32 value"),
        (image_of(8, 8, 3), ValueError, r"image must have 2 channel\(s\); got shape \(8, 8, 3\)"),
        (image_of(8, 8), ValueError, r"image must have 2 channel\(s\); got shape \(8, 8, 1\)"),
        (image_of(1, 8, 8, 2), ValueError, "image must have 2 or 3 dimensions"),
        (np.empty((0, 8, 2)), ValueError, r"image must not be empty; got shape \(0, 8, 2\)"),
        (np.zeros((4, 4, 2), complex), TypeError, "image must be an array of real numbers"),
        ("brick.png", TypeError, "image must be an array of real numbers"),
    ],
)
def test_images_that_do_not_fit(image, error, message):
    model = GramModel(bank_of())
    for method in (
        model.gram,
        lambda x: model.loss(x, np.eye(8)),
        lambda x: model.loss_and_grad(x, np.eye(8)),
        lambda x: model.gram_vjp(x, np.eye(8)),
    ):
        with pytest.raises(error, match=message):
            method(image)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.eye(7), r"target must have shape \(8, 8\), one row for each map of the bank; got \(7"),
        (np.ones(8), r"target must have 2 dimensions \(N, N\); got shape \(8,\)"),
        (np.full((8, 8), np.nan), "target must be finite"),
        (np.zeros((8, 8)), "target must not be zero: the loss is relative to it"),
    ],
)
def test_targets_that_do_not_fit(target, message):
    model = GramModel(bank_of())
    for method in (model.loss, model.loss_and_grad):
        with pytest.raises(ValueError, match=message):
            method(image_of(8, 8, 2), target)


def test_target_of_no_images():
    with pytest.raises(ValueError, match="images must hold at least one image; got none"):
        GramModel(bank_of()).target([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonlinearity": "tanh"}, "nonlinearity must be one of 'relu', 'sigmoid', 'linear'"),
        ({"padding": "same"}, "padding must be one of 'zero', 'periodic', 'reflect'; got 'same'"),
        ({"mean": [0.5]}, r"mean must have one value for each of 2 channel\(s\); got 1"),
        ({"mean": [0.5, np.nan]}, "mean must be finite"),
        ({"mean": np.zeros((8, 8, 2))}, r"mean must have 1 dimensions \(channels,\)"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        GramModel(bank_of(), **options)


def test_a_pickled_model_leaves_its_plan_behind():
    model = GramModel(FilterBank.random((3, 5), 8, rng=0))
    before = len(pickle.dumps(model))
    image = np.random.default_rng(0).random((48, 40, 3))
    gram = model.gram(image)
    assert len(pickle.dumps(model)) == before
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).gram(image), gram)


def test_a_changed_attribute_changes_the_next_result(rng):
    image = rng.random((9, 9))
    bank = FilterBank.random(3, 4, channels=1, rng=0)
    model = GramModel(bank)
    model.gram(image)
    model.nonlinearity = "linear"
    np.testing.assert_array_equal(model.gram(image), GramModel(bank, "linear").gram(image))
    model.padding = "periodic"
    np.testing.assert_array_equal(
        model.gram(image), GramModel(bank, "linear", "periodic").gram(image)
    )
    model.bank = FilterBank.random(3, 4, channels=1, rng=1)
    np.testing.assert_array_equal(
        model.gram(image), GramModel(model.bank, "linear", "periodic").gram(image)
    )


def test_overflow_is_not_hidden():
    bank = FilterBank.random(3, 4, channels=1, rng=0)
    with np.errstate(all="ignore"):
        gram = GramModel(bank).gram(np.full((6, 6), 1e308))
    assert not np.isfinite(gram).all()

"""Most exciting images: optima in closed form, an independent ascent, patches against images."""

import joblib
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from fastvis.twin import (
    EncodingModel,
    FactorizedReadout,
    GaborGrid,
    GaussianReadout,
    RotationEquivariantCore,
    gabor,
    hermite_basis,
    rotate_coefficients,
)
from fastvis.twin.model import EncodingNetwork
from fastvis.twin.most_exciting import _blurred, _Whitening, cluster_meis, meis
from fastvis.twin.optimal import search
from fastvis.twin.receptive_fields import ReceptiveFields
from fastvis.twin.responding import Responder

SIZE = 16, 20
CORE = dict(kernel_sizes=(5, 3, 3), n_features=2, n_orientations=4)  # sees 9 x 9


@pytest.fixture(autouse=True)
def _one_thread():
    """More are slower for images this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class LN(nn.Module):
    """Rectified products with filters (n_neurons, H, W)."""

    def __init__(self, filters, nonlinearity=torch.relu):
        super().__init__()
        self.filters = nn.Parameter(torch.as_tensor(filters, dtype=torch.float32))
        self.nonlinearity = nonlinearity

    def forward(self, images):
        return self.nonlinearity(images.flatten(1) @ self.filters.flatten(1).T)


@pytest.fixture
def filters():
    return gabor(
        SIZE, sigma=[1.5, 2.0, 3.0], frequency=[0.2, 0.15, 0.1], orientation=[0.3, 1.0, 2.0],
        phase=[0.0, 1.0, 2.0], center=[[6, 9], [8, 12], [9.5, 10]],
    )  # fmt: skip


def make_network(places, readout=FactorizedReadout, core=CORE, padding="same", shape=SIZE, seed=0):
    """Of neurons that look at 3 x 3 features about places of the features, or at their points."""
    torch.manual_seed(seed)
    core = RotationEquivariantCore(**core, padding=padding)
    border = (core.receptive_field - 1) * (padding == "valid")
    map_shape = shape[0] - border, shape[1] - border
    n = len(places)
    parts = [range(n // 2), range(n // 2, n)] if n > 1 else [range(n)]  # two recordings
    readouts = []
    for part in parts:
        r = readout(len(part), core.n_features * core.n_orientations, map_shape)
        with torch.no_grad():
            r.weights.normal_()
            r.weights -= r.weights.mean(1, keepdim=True)
            r.weights *= 0.5
            for k, i in enumerate(part):
                y, x = places[i]
                if readout is FactorizedReadout:
                    r.masks[k] = 0
                    r.masks[k, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].uniform_(0.3, 1)
                else:
                    half = (np.array(map_shape[::-1]) - 1) / 2
                    r.means[k] = torch.tensor((np.array([x, y]) + 0.3) / half - 1)
        readouts.append(r)
    with torch.no_grad():
        for norm in core.norms:
            norm.norm.running_mean.normal_(std=0.3)
            norm.norm.running_var.uniform_(0.5, 2)
            norm.norm.bias.normal_(std=0.3)
    return EncodingNetwork(core, readouts).eval()


def cosine(a, b):
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def norms(images):
    return np.linalg.norm(images.reshape(len(images), -1).astype(np.float64), axis=1)


def roughness(images):
    kernel = [[0.25, 0.5, 0.25], [0.5, -3, 0.5], [0.25, 0.5, 0.25]]
    return np.array([np.sum(ndimage.convolve(x, kernel, mode="constant") ** 2) for x in images])


# Optima


@pytest.mark.parametrize("nonlinearity", [torch.relu, functional.softplus])
def test_ecker_finds_the_filter_of_a_linear_nonlinear_model(filters, nonlinearity):
    model = LN(filters, nonlinearity)
    found = meis(model, size=SIZE, smoothness=0, n_starts=4, max_iter=150, rng=0)
    assert (cosine(found.images, filters) > 0.9999).all()
    best = 12 * np.linalg.norm(filters, axis=(1, 2))  # of Cauchy and Schwarz
    expected = nonlinearity(torch.tensor(best)).numpy()
    np.testing.assert_allclose(found.responses, expected, rtol=1e-4)


def test_walker_finds_the_filter_within_a_norm(filters):
    """Its steps follow the whitened gradient, which the norm makes good for only in part."""
    model = LN(filters, functional.softplus)
    options = dict(recipe="walker", size=SIZE, rng=0)
    found = meis(model, norm=4, blur=None, **options)
    assert (cosine(found.images, filters) > 0.99).all()
    np.testing.assert_allclose(norms(found.images), 4, rtol=1e-5)
    blurred = meis(model, norm=4, blur=(1.5, 1.5), **options)
    assert (roughness(blurred.images) < 0.5 * roughness(found.images)).all()


@pytest.mark.parametrize("recipe", ["ecker", "walker"])
def test_energy_cells_get_a_mixture_of_their_quadrature_pair(recipe):
    pair = gabor(SIZE, sigma=2.5, frequency=0.15, orientation=1.0, phase=[0.0, np.pi / 2])

    class Energy(nn.Module):
        def forward(self, images):
            return torch.square(images.flatten(1) @ torch.tensor(pair).flatten(1).T).sum(1)[:, None]

    options = dict(blur=None, norm=4.0, max_iter=600) if recipe == "walker" else {"smoothness": 0}
    found = meis(Energy(), size=SIZE, recipe=recipe, rng=1, **{"max_iter": 200, **options})
    x, basis = found.images.ravel().astype(np.float64), pair.reshape(2, -1).T.astype(np.float64)
    within = basis @ np.linalg.lstsq(basis, x, rcond=None)[0]
    assert cosine(within[None], x[None]) > (0.9999 if recipe == "ecker" else 0.99)


def test_the_penalty_is_on_the_image_that_is_shown(filters):
    """With the weight s, the optimum has filter = multiplier x + 2 s L'L x: solve for it."""
    s, n = 0.01, SIZE[0] * SIZE[1]
    found = meis(LN(filters[:1]), size=SIZE, smoothness=s, n_starts=2, max_iter=300, rng=0)
    kernel = [[0.25, 0.5, 0.25], [0.5, -3, 0.5], [0.25, 0.5, 0.25]]
    points = np.eye(n).reshape(n, *SIZE)
    laplace = np.stack([ndimage.convolve(p, kernel, mode="constant").ravel() for p in points], 1)
    values, vectors = np.linalg.eigh(2 * s * laplace.T @ laplace)
    along = vectors.T @ filters[0].ravel().astype(np.float64)
    low, high = 1e-6, 1e3
    for _ in range(100):  # the multiplier at which the norm is 12
        middle = np.sqrt(low * high)
        low, high = (
            (middle, high) if norms((along / (values + middle))[None]) > 12 else (low, middle)
        )
    expected = vectors @ (along / (values + low))
    assert cosine(found.images, expected[None]) > 0.9995
    assert cosine(found.images, filters[:1]) < 0.998


# Recipes


def start_noise(seed, neuron, shape):
    seed = int(np.random.default_rng(seed).integers(2**63))
    return np.random.default_rng([seed, neuron]).standard_normal(shape, np.float32)


def test_ecker_against_an_independent_ascent(filters):
    """PyTorch's Adam, one image, whitened with the full transform."""
    model, n = LN(filters, functional.softplus), 25
    found = meis(model, [1], size=SIZE, n_starts=1, max_iter=n, smoothness=0.02, rng=3)
    fy, fx = (np.fft.fftfreq(k, 1 / k) for k in SIZE)
    f = np.hypot(fy[:, None], fx)
    f[0, 0] = 1
    weights = torch.tensor(1 / np.sqrt(f))
    z = torch.tensor(start_noise(3, 1, (1, *SIZE))).requires_grad_()
    adam = torch.optim.Adam([z], lr=1.0, maximize=True)
    kernel = torch.tensor([[0.25, 0.5, 0.25], [0.5, -3, 0.5], [0.25, 0.5, 0.25]])[None, None]
    for _ in range(n):
        x = 12 * z / z.norm()
        rough = functional.conv2d(x[None], kernel, padding=1).square().sum()
        objective = model(x[None])[0, 1] - 0.02 * rough
        (z.grad,) = torch.autograd.grad(objective, z)
        z.grad = torch.fft.ifft2(torch.fft.fft2(z.grad.double()) * weights).real.float()
        adam.step()
    x = (12 * z / z.norm()).detach().numpy()
    assert cosine(x, filters[1:2]) < 0.9999  # on its way
    np.testing.assert_allclose(found.images, x, atol=1e-3)


def test_steps_of_walker_are_normalized_image_by_image(filters):
    """A pixel changes by 3 x 0.1 / 255 on average, however strong a neuron responds."""
    scaled = filters * np.array([1, 100, 1e-3], np.float32)[:, None, None]
    options = dict(size=SIZE, recipe="walker", max_iter=1, blur=None, rng=0)
    start = meis(LN(0 * filters, functional.softplus), **options).images
    change = np.abs(meis(LN(scaled, functional.softplus), **options).images - start)
    np.testing.assert_allclose(change.mean((1, 2)), 3 * 0.1 / 255, rtol=1e-3)


def test_walker_starts_from_gray_and_stays_in_the_range_of_the_display(filters):
    options = dict(size=SIZE, recipe="walker", pixel_mean=100.0, pixel_deviation=50.0, rng=0)
    start = meis(LN(0 * filters), blur=None, max_iter=1, **options).images
    assert start.mean() == pytest.approx(28 / 50, abs=0.02)
    assert start.std() == pytest.approx(8 / 50, rel=0.05)
    pixels = 100 + 50 * meis(LN(1 * filters, functional.softplus), blur=None, **options).images
    assert pixels.min() == pytest.approx(0, abs=1e-3)
    assert pixels.max() == pytest.approx(255, abs=1e-3)


@pytest.mark.parametrize("shape", [(8, 9), (9, 8), (7, 7)])
def test_whitening_treats_frequencies_and_their_negatives_alike(shape, rng):
    x = rng.normal(size=(2, *shape))
    whitened = _Whitening(shape, 0.25, torch.zeros((), dtype=torch.float64))
    found = whitened(torch.tensor(x)).numpy()
    np.testing.assert_allclose(whitened(torch.tensor(x[:, ::-1].copy())), found[:, ::-1])
    np.testing.assert_allclose(whitened(torch.tensor(x[:, :, ::-1].copy())), found[:, :, ::-1])
    ratio = np.abs(np.fft.fft2(found)) / np.abs(np.fft.fft2(x))
    np.testing.assert_allclose(ratio[:, 0, 2] / ratio[:, 3, 0], np.sqrt(3 / 2))
    np.testing.assert_allclose(ratio.mean((1, 2)), 1)


@pytest.mark.parametrize("sigma", [0.01, 0.7, 1.5])
def test_blur_is_scipys(sigma, rng):
    x = rng.normal(size=(2, 7, 9))
    expected = [ndimage.gaussian_filter(image, sigma) for image in x]
    np.testing.assert_allclose(_blurred(torch.tensor(x), sigma), expected, atol=1e-12)


# Batches


@pytest.mark.parametrize("recipe", ["ecker", "walker"])
def test_images_do_not_couple(filters, recipe):
    """Those of a batch are those found alone, in any chunks, by any number of workers."""
    scaled = LN(filters * np.array([1, 30, 0.1], np.float32)[:, None, None], functional.softplus)
    options = dict(size=SIZE, recipe=recipe, n_starts=2, max_iter=30, rng=4)
    together = meis(scaled, **options)
    alone = [meis(scaled, n, **options) for n in range(3)]
    np.testing.assert_allclose(together.images, [x.images[0] for x in alone], atol=2e-4)
    np.testing.assert_allclose(together.responses, [x.responses[0] for x in alone], rtol=1e-4)
    with joblib.parallel_config(backend="threading"):
        chunks = meis(scaled, [2, 0, 1], batch_size=1, n_jobs=2, **options)
    np.testing.assert_array_equal(chunks.neurons, [2, 0, 1])
    np.testing.assert_allclose(chunks.images, together.images[[2, 0, 1]], atol=2e-4)


def test_who_is_done_stops_and_the_others_go_on(filters):
    """Flat is done after 100 iterations; a filter is not, and ends as it does alone."""
    model = LN(filters[:2] * np.array([[[0]], [[1]]]))
    options = dict(size=SIZE, smoothness=0, n_starts=2, max_iter=120, rng=0)
    both = meis(model, **options)
    np.testing.assert_array_equal(both.n_iter, [101, 120])
    np.testing.assert_allclose(both.images[1], meis(model, 1, **options).images[0], atol=1e-4)


def test_the_best_start_counts():
    """Of a neuron with two filters, the weaker one is where half of the starts end."""
    pair = gabor(SIZE, sigma=1.5, frequency=0.2, center=[[8, 4], [8, 15]], contrast=[1.0, 1.2])

    class Either(nn.Module):
        def forward(self, images):
            return (images.flatten(1) @ torch.tensor(pair).flatten(1).T).amax(1)[:, None].relu()

    options = dict(size=SIZE, smoothness=0, max_iter=80)
    ones = [meis(Either(), n_starts=1, rng=seed, **options).responses[0] for seed in range(6)]
    assert min(ones) < 0.9 * max(ones)
    assert meis(Either(), rng=0, **options).responses[0] == pytest.approx(max(ones), rel=1e-3)


def test_seeds(filters):
    options = dict(size=SIZE, max_iter=2)
    first, again, other = (meis(LN(filters), rng=seed, **options).images for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert not np.allclose(first[0], first[1])


# Patches

INTERIOR = [(8, 9), (7, 12)]
BORDER = [(0, 0), (15, 10), (8, 19), (1, 2)]


@pytest.mark.parametrize("readout", [FactorizedReadout, GaussianReadout])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("core", [CORE, {**CORE, "kernel_sizes": (7,)}])
def test_patches_get_the_responses_of_the_whole_model(readout, padding, core, rng):
    """Also at the border, where hidden features beyond the image are zeros."""
    places = INTERIOR + BORDER
    if padding == "valid":
        places = [(4, 5), (2, 7), (0, 0), (7, 11), (1, 3)]
    if readout is GaussianReadout:
        places = [(min(y, 14), min(x, 18)) for y, x in places]
        places = [(y, x) for y, x in places if padding == "same" or (y < 7 and x < 11)]
    network = make_network(places, readout, core, padding)
    fields = ReceptiveFields(network)
    assert fields.size == SIZE
    for rows in fields.chunks(np.arange(len(places)), 1):
        view = fields.view(rows)
        side = fields.reach + (2 if readout is FactorizedReadout else 1)
        assert max(view.shape) <= side
        patches = rng.normal(size=(len(rows), *view.shape)).astype(np.float32)
        patches *= view.inside().numpy()
        with torch.no_grad():
            found = view.respond(torch.tensor(patches), torch.arange(len(rows))).numpy()
            whole = network(torch.tensor(view.images(patches))[:, None]).numpy()
        np.testing.assert_allclose(found, whole[np.arange(len(rows)), rows], rtol=1e-4)


def test_patches_are_seen_in_the_image_where_they_are(rng):
    """By the whole image, the gradient of a response is 0 outside of the patch, and not within."""
    network = make_network(INTERIOR + BORDER)
    fields = ReceptiveFields(network)
    for rows in fields.chunks(np.arange(6), 1):
        view = fields.view(rows)
        x = torch.tensor(rng.normal(size=(len(rows), 1, *SIZE)), dtype=torch.float32)
        x.requires_grad_()
        own = network(x)[torch.arange(len(rows)), torch.tensor(rows)].sum()
        g = torch.autograd.grad(own, x)[0][:, 0].numpy()
        in_patch = view.images(view.inside().numpy()) != 0
        assert not (g != 0)[~in_patch].any()
        for row, n in enumerate(rows):
            if n < len(INTERIOR):  # windows of others reach beyond the image
                np.testing.assert_array_equal(g[row] != 0, in_patch[row])


def test_windows_leave_haze_out_and_are_of_each_neuron():
    network = make_network([(8, 9), (8, 9)])
    with torch.no_grad():
        mask = network.readouts[0].masks[0]
        mask += 0.002 * torch.rand_like(mask)
        network.readouts[1].masks[0, 2:11, 5:8] = 1.0
    fields = ReceptiveFields(network)
    assert fields.view([0]).shape == (11, 11)
    assert fields.view([1]).shape == (17, 17)
    assert len(fields.chunks(np.arange(2), 1)) == 2
    assert fields.complete.tolist() == [False, True]
    assert ReceptiveFields(network, crop=False).complete.all()


@pytest.mark.parametrize("crop", [True, False])
def test_responses_are_those_of_the_whole_model(crop):
    """Also to what lies in the haze, which an image is not made for."""
    network = make_network([(8, 9), (3, 2), (8, 9)])
    with torch.no_grad():
        mask = network.readouts[0].masks[0]
        mask += 0.009 * mask.max()
    found = meis(network, [2, 0, 1], crop=crop, n_starts=2, max_iter=5, rng=0)
    own = Responder(network).own(found.images, found.neurons)
    np.testing.assert_allclose(found.responses, own, rtol=1e-5)


@pytest.mark.parametrize("how", ["subclass", "hook"])
def test_what_a_user_adds_to_our_network_counts(how):
    """Patches know only of our own formulas."""
    network = make_network([(8, 9), (3, 2)])
    if how == "hook":
        network.register_forward_hook(lambda module, images, responses: 2 * responses)
    else:

        class Louder(EncodingNetwork):
            def forward(self, images):
                return 3 * super().forward(images)

        network.__class__ = Louder
    found = meis(network, size=SIZE, n_starts=1, max_iter=3, rng=0)
    own = Responder(network).own(found.images, found.neurons)
    np.testing.assert_allclose(found.responses, own, rtol=1e-5)
    with pytest.raises(TypeError, match="RotationEquivariantCore for method='equivariant'"):
        search(network, GaborGrid(SIZE, [1.0], [0.1], [1.0]), "equivariant")


def test_responses_of_half_precision():
    class Half(torch.nn.Sequential):
        def forward(self, images):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(images)

    module = Half(torch.nn.Flatten(), torch.nn.Linear(20, 3))
    found = meis(module, size=(4, 5), n_starts=1, max_iter=3, rng=0)
    assert found.responses.dtype == np.float64


def test_responses_that_are_not_finite():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 2))
    module[1].weight.data[1] = torch.inf  # of a blank image NaN, of one neuron
    with pytest.raises(ValueError, match="model must return finite responses"):
        meis(module, 1, size=(4, 5), n_starts=1, max_iter=2, rng=0)
    module[1].weight.data[1] = 1e38  # a blank image gets its bias
    with pytest.raises(ValueError, match="model must return finite responses"):
        meis(module, 1, size=(4, 5), n_starts=1, max_iter=2, norm=1e3, rng=0)


def test_images_by_patches_are_as_good_as_whole_ones():
    network = make_network(INTERIOR + BORDER[:1])
    model = EncodingModel()
    model.module_, model.image_size_ = network, SIZE
    options = dict(n_starts=2, max_iter=150, smoothness=0, rng=0)
    patches, whole = meis(model, **options), meis(model, crop=False, **options)
    np.testing.assert_allclose(patches.responses, whole.responses, rtol=1e-4)
    assert (cosine(patches.images, whole.images) > 0.999).all()
    assert (patches.images[0, :2] == 0).all()
    options = dict(n_starts=2, max_iter=150, rng=0)  # the penalty sees that images go on with 0
    patches, whole = (meis(model, [0, 1], crop=crop, **options) for crop in (True, False))
    np.testing.assert_allclose(patches.responses, whole.responses, rtol=0.02)
    assert (cosine(patches.images, whole.images) > 0.99).all()
    for found in (patches, whole):
        np.testing.assert_allclose(norms(found.images), 12, rtol=1e-5)
        with torch.no_grad():
            responses = network(torch.tensor(found.images)[:, None])
        np.testing.assert_allclose(found.responses, responses.diagonal(), rtol=1e-5)
    noise = np.random.default_rng(0).normal(size=(200, *SIZE))
    with torch.no_grad():  # of the same norm
        x = torch.tensor(12 * noise / norms(noise)[:, None, None], dtype=torch.float32)
        assert (patches.responses > 1.5 * network(x[:, None]).amax(0)[:2].numpy()).all()


def test_walker_makes_the_same_steps_in_patches():
    """The mean size of a gradient is that over the image, whatever the patch."""
    network = make_network(INTERIOR[:1])
    options = dict(recipe="walker", max_iter=1, blur=None, rng=0)
    found = meis(network, **options)
    with torch.no_grad():
        network.readouts[0].weights.zero_()
    change = np.abs(found.images - meis(network, **options).images)
    assert change.sum() / np.prod(SIZE) == pytest.approx(3 * 0.1 / 255, rel=1e-3)


# Models stay as they are


def test_models_are_left_as_they_were():
    network = make_network(INTERIOR)
    network.train()
    network.core.norms[0].eval()
    network.readouts[0].biases.requires_grad_(False)
    before = {name: x.clone() for name, x in network.state_dict().items()}
    modes = [m.training for m in network.modules()]
    learned = [p.requires_grad for p in network.parameters()]
    options = dict(n_starts=1, max_iter=2, rng=0)
    with torch.no_grad():
        meis(network, **options)
    meis(network, crop=False, **options)
    cluster_meis(network, [0, 0], INTERIOR, side=5, **options)
    network.readouts[0].register_forward_hook(_break_if_grad)
    with pytest.raises(RuntimeError, match="broken"):
        meis(network, size=SIZE, **options)
    assert [m.training for m in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == learned
    assert all(p.grad is None for p in network.parameters())
    for name, x in network.state_dict().items():
        assert torch.equal(x, before[name]), name


def _break_if_grad(module, inputs, output):
    if output.requires_grad:
        raise RuntimeError("broken")


def test_models_are_asked_as_outside_training(filters):
    model = nn.Sequential(nn.Dropout(0.5), LN(filters, functional.softplus)).train()
    found = meis(model, size=SIZE, smoothness=0, max_iter=100, n_starts=2, rng=0)
    assert (cosine(found.images, filters) > 0.999).all()


# Clusters

SIDE, RANK = 15, 10


def turned_and_shifted(angles, places, size=(24, 28)):
    """Filters that are one image, turned and shifted; its coefficients."""
    basis = hermite_basis(SIDE)[: RANK * (RANK + 1) // 2]
    one = gabor(SIDE, sigma=1.8, frequency=0.18, phase=1.0).ravel()
    c = np.linalg.lstsq(basis.reshape(len(basis), -1).T, one, rcond=None)[0]
    out = np.zeros((len(angles), size[0] + 2 * SIDE, size[1] + 2 * SIDE))
    for image, angle, (y, x) in zip(out, angles, places):
        y, x = y + SIDE - SIDE // 2, x + SIDE - SIDE // 2
        image[y : y + SIDE, x : x + SIDE] = np.tensordot(rotate_coefficients(c, angle), basis, 1)
    return out[:, SIDE:-SIDE, SIDE:-SIDE], c


def test_clusters_find_the_image_and_the_angles(rng):
    n, n_angles = 8, 24
    angles = 2 * np.pi * rng.integers(n_angles, size=n) / n_angles
    places = np.stack([rng.integers(4, 20, size=n), rng.integers(4, 24, size=n)], axis=1)
    filters, c = turned_and_shifted(angles, places)
    filters[-1] = rng.normal(size=filters[-1].shape)  # of no cluster
    clusters = np.array([0, 2, 0, 2, 0, 0, 2, -1])  # none in 1
    filters[clusters == 2] *= -3
    options = dict(size=filters.shape[1:], side=SIDE, n_starts=2, max_iter=60, rng=0)
    found = cluster_meis(LN(filters), clusters, places + 0.3, **options)
    basis = hermite_basis(SIDE)[: RANK * (RANK + 1) // 2]
    for cluster, sign in ((0, 1), (2, -1)):
        members = clusters == cluster
        turn = np.exp(1j * (found.angles - angles)[members]).mean()
        assert np.abs(turn) > 0.999
        back = rotate_coefficients(found.coefficients[cluster], np.angle(turn))
        both = (np.tensordot(x, basis, 1)[None] for x in (back, sign * c))
        assert cosine(*both) > 0.99
    np.testing.assert_allclose(norms(found.images[[0, 2]]), 12, rtol=1e-5)
    assert np.isnan(found.images[1]).all()
    assert np.isnan(found.coefficients[1]).all()
    np.testing.assert_array_equal(np.isnan(found.responses), clusters < 0)
    np.testing.assert_array_equal(np.isnan(found.angles), clusters < 0)
    for i in np.flatnonzero(clusters >= 0):  # what it says that each was shown
        (x,), _ = turned_and_shifted([0.0], places[i : i + 1])
        own = rotate_coefficients(found.coefficients[clusters[i]], found.angles[i])
        own *= 12 / norms(np.tensordot(own, basis, 1)[None])
        canvas = np.zeros(np.array(x.shape) + 2 * SIDE)
        y, x = places[i] + SIDE - SIDE // 2
        canvas[y : y + SIDE, x : x + SIDE] = np.tensordot(own, basis, 1)
        expected = (canvas[SIDE:-SIDE, SIDE:-SIDE] * filters[i]).sum()
        assert found.responses[i] == pytest.approx(expected, rel=1e-3)


def test_clusters_by_themselves_and_by_workers(rng):
    filters = rng.normal(size=(4, *SIZE))
    places = np.full((4, 2), 8)
    options = dict(size=SIZE, side=5, n_starts=2, max_iter=12, rng=0)
    both = cluster_meis(LN(filters), [0, 1, 1, 0], places, **options)
    one = cluster_meis(LN(filters), [0, -1, -1, 0], places, **options)
    np.testing.assert_allclose(both.images[0], one.images[0], atol=1e-4)
    with joblib.parallel_config(backend="threading"):
        jobs = cluster_meis(LN(filters), [0, 1, 1, 0], places, n_jobs=2, **options)
    np.testing.assert_allclose(both.images, jobs.images, atol=1e-4)


def test_clusters_by_patches_and_by_images_are_the_same():
    """Windows of two sizes, one at the border."""
    network = make_network([(8, 9), (7, 12), (1, 10)])
    with torch.no_grad():
        network.readouts[1].masks[0, 5:10, 10:15] = 0.5
    places = np.array([(8, 9), (7, 12), (1, 10)])
    options = dict(n_starts=2, max_iter=12, n_angles=8, rng=0)
    patches = cluster_meis(network, [0, 0, 0], places, **options)
    whole = cluster_meis(network, [0, 0, 0], places, crop=False, **options)
    assert patches.images.shape == (1, 9, 9)
    np.testing.assert_allclose(patches.images, whole.images, atol=1e-3)
    np.testing.assert_allclose(patches.responses, whole.responses, rtol=1e-4)
    np.testing.assert_array_equal(patches.angles, whole.angles)
    start = cluster_meis(network, [0, 0, 0], places, **{**options, "max_iter": 1})
    assert patches.responses.mean() > 1.1 * start.responses.mean()


def test_clusters_of_few_ranks_are_in_their_span(filters):
    found = cluster_meis(LN(filters), [0, 0, -1], np.full((3, 2), 8), size=SIZE, side=9, rank=3,
                         max_iter=3, rng=0)  # fmt: skip
    assert found.coefficients.shape == (1, 6)
    image = np.tensordot(found.coefficients[0], hermite_basis(9)[:6], 1)
    np.testing.assert_allclose(found.images[0], image, atol=1e-5)


# Errors

MODEL = LN(np.ones((2, 4, 4)))


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (TypeError, "model must be a fitted EncodingModel or a torch", dict(model=lambda x: x)),
        (TypeError, "model must be .*; got EncodingModel", dict(model=EncodingModel())),
        (ValueError, "size must be given", dict(size=None)),
        (ValueError, r"size\[0\] must be an integer >= 1", dict(size=0)),
        (TypeError, "crop must be True or False; got 5", dict(crop=5)),
        (ValueError, "neurons must be of the model's 2.*got 0 to 2", dict(neurons=[0, 2])),
        (ValueError, "neurons must be of the model's 2.*got none", dict(neurons=np.zeros(0, int))),
        (TypeError, "neurons must be integers", dict(neurons=[0.5])),
        (ValueError, "recipe must be one of 'ecker', 'walker'", dict(recipe="mei")),
        (ValueError, "n_starts must be an integer >= 1", dict(n_starts=0)),
        (ValueError, "max_iter must be an integer >= 1", dict(max_iter=0)),
        (ValueError, "norm must be a finite number > 0", dict(norm=0.0)),
        (ValueError, "smoothness must be a finite number >= 0", dict(smoothness=-1.0)),
        (ValueError, r"blur must be \(first, last\) or None; got 1.5", dict(blur=1.5)),
        (ValueError, "blur must be a finite number >= 0", dict(blur=(1.5, -1.0))),
        (ValueError, "pixel_mean must be .* <= 255", dict(pixel_mean=300.0)),
        (ValueError, "pixel_deviation must be .* > 0", dict(pixel_deviation=0.0)),
        (ValueError, "batch_size must be an integer >= 1", dict(batch_size=0)),
        (TypeError, "rng must be", dict(rng="0")),
    ],
)
def test_errors(error, message, options):
    with pytest.raises(error, match=message):
        meis(**{"model": MODEL, "size": 4, **options})


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (TypeError, "clusters must be integers", dict(clusters=[0.0, 1.0])),
        (ValueError, "clusters must have one value for each of 2", dict(clusters=[0])),
        (ValueError, "clusters must be at least 0, or -1 for none; got -2", dict(clusters=[0, -2])),
        (ValueError, "clusters must not all be -1", dict(clusters=[-1, -1])),
        (ValueError, r"places must be \(2, 2\)", dict(places=np.zeros((3, 2)))),
        (ValueError, "places must be rows and columns in", dict(places=[[0, 0], [4, 0]])),
        (ValueError, "places must be rows and columns in", dict(places=[[0, 0], [np.nan, 0]])),
        (ValueError, "side must be odd; got 4", dict(side=4)),
        (ValueError, "rank must be .* <= 3", dict(rank=4)),
        (ValueError, "n_angles must be an integer >= 1", dict(n_angles=0)),
        (ValueError, "norm must be a finite number > 0", dict(norm=-1.0)),
    ],
)
def test_errors_of_clusters(error, message, options):
    defaults = dict(model=MODEL, clusters=[0, 0], places=[[1, 1], [2, 2]], size=4)
    with pytest.raises(error, match=message):
        cluster_meis(**{**defaults, **options})


def test_errors_of_our_own_models():
    with pytest.raises(ValueError, match=r"size must be \(16, 20\), as the model's images"):
        meis(make_network(INTERIOR), size=20)

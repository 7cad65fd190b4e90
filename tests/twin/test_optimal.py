"""Optimal Gabors and differences of Gaussians: against every stimulus, and what is known."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("lightning", reason="needs the torch extra")

from fastvis.twin import (  # noqa: E402
    DoGGrid,
    FactorizedReadout,
    GaborGrid,
    RotationEquivariantCore,
    difference_of_gaussians,
    gabor,
    optimal,  # noqa: E402
    optimal_dogs,
    optimal_gabors,
)
from fastvis.twin.model import EncodingNetwork  # noqa: E402
from fastvis.twin.optimal import search  # noqa: E402
from fastvis.twin.responding import Responder  # noqa: E402

SIZE = 19, 21


def network(n=6, seed=0, margin=5, padding="same", **core):
    """A random core, and neurons that look at 3 x 3 features, so far from the border."""
    torch.manual_seed(seed)
    core = RotationEquivariantCore((5, 3, 3), 3, padding=padding, **core)
    core(torch.randn(50, 1, *SIZE))  # gives batch norm its statistics
    border = 0 if padding == "same" else core.receptive_field // 2
    shape = [side - 2 * border for side in SIZE]
    readout = FactorizedReadout(n, 24, shape, mean_responses=np.ones(n))
    rng = np.random.default_rng(seed)
    masks = torch.zeros(n, *shape)
    for mask in masks:
        row, column = (rng.integers(margin, side - margin - 2) - border for side in SIZE)
        mask[row : row + 3, column : column + 3] = torch.rand(3, 3) + 0.1
    readout.masks.data = masks
    readout.weights.data = 0.05 * torch.randn(n, 24)
    return EncodingNetwork(core, [readout]).eval()


def grid(**changed):
    parameters = dict(
        sigmas=[1.0, 2.0], frequencies=[0.1, 0.2], contrasts=[1.0, 3.0], n_phases=4,
        n_orientations=4, rows=np.arange(3, 16, 2), columns=np.arange(2, 20, 2),
    )  # fmt: skip
    return GaborGrid(SIZE, **parameters | changed)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_equivariance_finds_what_brute_force_finds(padding):
    model = network(padding=padding)
    ours = optimal_gabors(model, grid(), method="equivariant")
    brute = optimal_gabors(model, grid(), method="brute")
    np.testing.assert_allclose(ours.responses, brute.responses, rtol=1e-5)
    for name in ("center", *ours.stimuli.names()):
        np.testing.assert_array_equal(getattr(ours.stimuli, name), getattr(brute.stimuli, name))
    assert len(np.unique(brute.stimuli.orientation)) > 2  # the turned ones are among them


def test_tables_are_the_same_where_nothing_is_cut():
    model = network()
    small = grid(sigmas=[0.7], rows=[9, 10], columns=[10, 11])
    ours, brute = (search(model, small, method) for method in ("equivariant", "brute"))
    np.testing.assert_allclose(ours.table, brute.table, rtol=2e-4)
    assert np.mean(ours.which == brute.which) > 0.97  # the rest are ties: cosines of no phase


def test_a_core_that_does_not_turn_is_only_moved():
    model = network(shared_batch_norm=False, seed=1)
    for norm in model.core.norms:  # the statistics of orientations differ
        norm.norm.running_mean.normal_()
    ours, brute = (
        optimal_gabors(model, grid(), method=method) for method in ("auto", "brute")
    )  # fmt: skip
    np.testing.assert_allclose(ours.responses, brute.responses, rtol=1e-5)


def test_neurons_at_the_border_get_what_the_model_says():
    model = network(margin=0, seed=2)
    best = optimal_gabors(model, grid(), n_exact=5)
    images = best.stimuli.images(SIZE)
    own = Responder(model).own(images, np.arange(6))
    np.testing.assert_allclose(best.responses, own, rtol=1e-6)
    brute = optimal_gabors(model, grid(), method="brute")
    assert (best.responses > 0.9 * brute.responses).all()


def test_dogs_are_found():
    model = network(seed=3)
    dogs = DoGGrid(SIZE, [1.0, 1.5], [1.5], [2.0, -2.0], [0.0, 0.9])
    ours, brute = (optimal_dogs(model, dogs, method=method) for method in ("auto", "brute"))
    np.testing.assert_allclose(ours.responses, brute.responses, rtol=1e-5)
    np.testing.assert_array_equal(ours.stimuli.center, brute.stimuli.center)


def test_all_shapes_and_orientations_in_the_middle():
    small = grid()
    middle = small.in_the_middle()
    assert len(middle) == 2 * 2 * 2 * 4 * 4 == len(small) // (7 * 9)
    assert (middle.center == [9, 10]).all()
    rows = np.stack([getattr(middle, name) for name in middle.names()], 1)
    assert len(np.unique(rows, axis=0)) == len(middle)
    np.testing.assert_array_equal(np.unique(middle.orientation), small.orientations())
    for name, values in small.shapes().items():
        np.testing.assert_array_equal(np.unique(getattr(middle, name)), np.unique(values))


def near(filters):
    """Neurons that respond most to the picture that is their filter."""
    squares = np.square(filters).sum((1, 2))

    def model(images):
        products = np.tensordot(images, filters, ((1, 2), (1, 2)))
        distances = np.square(images).sum((1, 2))[:, None] - 2 * products + squares
        return np.exp(-distances / squares)

    return model


def test_neurons_that_are_gabors_are_found():
    orientation = np.pi * np.array([0, 1, 3, 5]) / 6
    filters = gabor(
        SIZE, sigma=2.0, frequency=0.2, orientation=orientation, phase=np.pi / 2,
        center=[[9, 10], [8, 7], [5, 9], [11, 12]],
    )  # fmt: skip
    found = GaborGrid(SIZE, [1.0, 2.0, 4.0], [0.1, 0.2], [1.0], 4, 6)
    best = optimal_gabors(near(filters), found)
    np.testing.assert_allclose(best.stimuli.orientation, orientation)
    np.testing.assert_array_equal(best.stimuli.center, [[9, 10], [8, 7], [5, 9], [11, 12]])
    np.testing.assert_array_equal(best.stimuli.sigma, 2)


def test_a_cluster_shares_one_gabor_up_to_place_and_turn():
    """Of neurons with one filter, turned by half a turn too, an odd phase stays one phase."""
    turns = np.pi * np.array([0.0, 0.5, 1.0, 1.5])
    centers = [[9, 10], [8, 7], [8, 9], [10, 12]]
    filters = gabor(
        SIZE, sigma=2.0, frequency=0.1, orientation=turns, phase=np.pi / 2, center=centers
    )
    other = gabor(SIZE, sigma=1.0, frequency=0.2, phase=0.0)[None]
    model = near(np.concatenate([filters, other]))
    found = GaborGrid(SIZE, [1.0, 2.0], [0.1, 0.2], [1.0], 4, 4)
    best = optimal_gabors(model, found, clusters=[0, 0, 0, 0, -1])
    assert len(set(best.stimuli.phase[:4])) == 1
    relative = (best.stimuli.orientation[:4] - best.stimuli.orientation[0]) % (2 * np.pi)
    np.testing.assert_allclose(relative, turns)
    assert best.stimuli.sigma.tolist() == [2, 2, 2, 2, 1]
    own = Responder(model).own(best.stimuli.images(SIZE), np.arange(5))
    np.testing.assert_allclose(best.responses, own)


def test_the_gabor_of_a_cluster_has_the_largest_mean():
    model = network(n=4)
    clusters = np.array([0, 0, 1, 1])
    ours = optimal_gabors(model, grid(), clusters=clusters)
    brute = optimal_gabors(model, grid(), clusters=clusters, method="brute")
    np.testing.assert_allclose(ours.responses, brute.responses, rtol=1e-5)
    own = optimal_gabors(model, grid()).responses
    assert (ours.responses <= own * (1 + 1e-6)).all()


def test_a_center_surround_neuron_is_found():
    filters = difference_of_gaussians(
        SIZE, sigma_center=1.0, sigma_surround=2.0, contrast=-1.0, surround=0.9, center=[[6, 8]]
    )
    dogs = DoGGrid(SIZE, [1.0, 2.0], [2.0], [1.0, -1.0], [0.0, 0.9])
    best = optimal_dogs(near(filters), dogs).stimuli
    assert best.center.tolist() == [[6, 8]]
    assert best.contrast == -1


def test_bad_arguments():
    model = network()
    with pytest.raises(TypeError, match="grid must be a GaborGrid; got DoGGrid"):
        optimal_gabors(model, DoGGrid(SIZE))
    with pytest.raises(TypeError, match="RotationEquivariantCore for method='equivariant'"):
        optimal_gabors(near(np.ones((1, *SIZE))), grid(), method="equivariant")
    with pytest.raises(ValueError, match=r"rows must be in \[0, 18\]; got 3 to 30"):
        grid(rows=[3, 30])
    with pytest.raises(ValueError, match="clusters must have one value for each of 6"):
        optimal_gabors(model, grid(sigmas=[1.0]), clusters=[0, 1])
    with pytest.raises(ValueError, match="clusters must be at least 0, or -1 for none; got -2"):
        optimal_gabors(model, grid(sigmas=[1.0]), clusters=[0, 1, 1, 0, -1, -2])
    with pytest.raises(TypeError, match="model must be a fitted EncodingModel"):
        optimal_gabors(3, grid())
    with pytest.raises(ValueError, match="sigmas must be > 0; got -1"):
        grid(sigmas=[-1.0])
    with pytest.raises(ValueError, match="ratios must be > 0; got 0"):
        DoGGrid(SIZE, ratios=[0.0])


def test_stimuli_are_as_large_as_the_images_of_the_model():
    """A Gaussian readout looks somewhere in an image of any size."""
    fitted = near(gabor(SIZE, sigma=2.0, frequency=0.1)[None])
    fitted.image_size_ = (20, 20)
    with pytest.raises(ValueError, match=r"size must be \(20, 20\), as the model's images"):
        optimal_gabors(fitted, grid())


def test_neurons_in_parts_are_those_together(monkeypatch):
    model = network()
    together = search(model, grid(), "equivariant")
    monkeypatch.setattr(optimal, "MOST_DRIVES", 1)  # one neuron at a time
    alone = search(model, grid(), "equivariant")
    np.testing.assert_allclose(alone.table, together.table, rtol=1e-5)
    assert np.mean(alone.which == together.which) > 0.97  # the rest are ties


def test_labels_of_few_bits():
    """-1 is a neuron by itself, also where no other label of the dtype is left."""
    clusters = np.full(256, 127, np.int8)
    clusters[255] = -1
    signs = np.where(clusters < 0, -1.0, 1.0)

    def model(images):
        return np.maximum(images[:, 9, 10, None] * signs, 0)

    small = grid(sigmas=[1.0], contrasts=[1.0], rows=[9], columns=[10])
    best = optimal_gabors(model, small, clusters=clusters)
    np.testing.assert_allclose(best.responses, 0.5)

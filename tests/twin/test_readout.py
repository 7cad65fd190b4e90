"""Readouts: against plain loops, places, penalties."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fastvis.twin import FactorizedReadout, GaussianReadout

SHAPE = (5, 7)


@pytest.fixture
def features(rng):
    return torch.tensor(rng.normal(size=(3, 4, *SHAPE)))


def test_factorized_drives_follow_the_formula(features):
    readout = FactorizedReadout(6, 4, SHAPE).double()
    masks, weights = readout.masks.abs().detach().numpy(), readout.weights.detach().numpy()
    assert (readout.masks < 0).any()
    found = readout(features).detach().numpy()
    for b in range(3):
        for n in range(6):
            at = [(masks[n] * features[b, c].numpy()).sum() for c in range(4)]
            assert found[b, n] == pytest.approx(weights[n] @ at, abs=1e-12)
    each = [masks[n].sum() * np.abs(weights[n]).sum() for n in range(6)]
    assert readout.penalty().item() == pytest.approx(sum(each))


@pytest.mark.parametrize("covariance", ["isotropic", "full"])
def test_gaussian_drives_are_interpolated(features, covariance):
    readout = GaussianReadout(6, 4, SHAPE, covariance=covariance).double()
    with torch.no_grad():
        readout.means.uniform_(-1, 1)
    readout.eval()
    places = readout.places().numpy()
    assert (places >= 0).all()
    assert (places <= np.array(SHAPE) - 1).all()
    found = readout(features).detach().numpy()
    weights = readout.weights.detach().numpy()
    for b in range(3):
        for n in range(6):
            at = [
                ndimage.map_coordinates(features[b, c].numpy(), places[n][:, None], order=1)[0]
                for c in range(4)
            ]
            assert found[b, n] == pytest.approx(weights[n] @ at, abs=1e-9)
    assert readout.penalty().item() == pytest.approx(np.abs(weights).sum())


def test_gaussian_places_are_drawn_in_training(rng):
    """Of a map that is its own column, the drive is the place."""
    shape = (9, 41)
    ramp = torch.linspace(-1, 1, 41).expand(4000, 1, *shape)
    readout = GaussianReadout(2, 1, shape, sigma=0.2)
    with torch.no_grad():
        readout.weights.fill_(1)
        readout.means.copy_(torch.tensor([[0.1, 0.0], [-0.2, 0.3]]))
    torch.manual_seed(0)
    drawn = readout(ramp).detach()
    np.testing.assert_allclose(drawn.mean(0), [0.1, -0.2], atol=0.02)
    np.testing.assert_allclose(drawn.std(0), [0.2, 0.2], atol=0.02)
    assert readout.eval()(ramp).std(0).max() < 1e-6
    readout.train()(ramp).mean().backward()
    assert readout.means.grad.abs().max() > 0


def test_places_of_masks():
    readout = FactorizedReadout(1, 1, SHAPE)
    with torch.no_grad():
        readout.masks.zero_()
        readout.masks[0, 2, 3], readout.masks[0, 2, 5] = -1.0, 1.0
    np.testing.assert_allclose(readout.places(), [[2, 4]])


@pytest.mark.parametrize("kind", [FactorizedReadout, GaussianReadout])
def test_biases_start_at_half_of_the_mean(kind):
    means = np.array([0.0, 0.5, 60.0])
    readout = kind(3, 2, SHAPE, mean_responses=means)
    start = torch.nn.functional.softplus(2 * readout.biases.detach().double())
    np.testing.assert_allclose(start, [1e-3, 0.5, 60], rtol=1e-5)
    with pytest.raises(ValueError, match="mean_responses must be 3 numbers >= 0; got 3"):
        kind(3, 2, SHAPE, mean_responses=-means)
    with pytest.raises(ValueError, match="shape must be"):
        kind(3, 2, (1, 2, 3))

"""Synthetic readouts: what they are made of is what is given back."""

import numpy as np
import pytest

from fastvis.readouts import fourier_rotation, make_rotated_readouts


def test_neurons_are_turned_types():
    # with many orientations, functions have no component that a turn would lose
    data = make_rotated_readouts(20, 3, n_features=2, n_orientations=64, rng=0)
    turned_back = fourier_rotation(data.clean, data.angles)
    np.testing.assert_allclose(turned_back, data.types[data.labels], atol=1e-12)


def test_functions_are_draws_of_the_process():
    data = make_rotated_readouts(3000, 3000, n_features=2, lengthscale=0.7, rng=0)
    covariance = np.mean(data.types[..., :1] * data.types, axis=(0, 1))
    theta = 2 * np.pi * np.arange(8) / 8
    kernel = np.exp(-2 * np.sin(theta / 2) ** 2 / 0.7**2)
    np.testing.assert_allclose(covariance, kernel, atol=4 / np.sqrt(6000))


def test_noise_has_its_size():
    data = make_rotated_readouts(400, 2, n_features=5, noise=0.3, rng=0)
    noise = data.readouts - data.clean
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert not np.array_equal(noise[0], noise[1])


def test_every_type_has_a_neuron():
    for seed in range(20):
        data = make_rotated_readouts(7, 6, rng=seed)
        assert set(data.labels) == set(range(6))
        assert ((data.angles >= 0) & (data.angles < 2 * np.pi)).all()


def test_a_seed_gives_the_same_data():
    a, b = (make_rotated_readouts(16, 2, noise=0.1, rng=3) for _ in range(2))
    np.testing.assert_array_equal(a.readouts, b.readouts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_neurons": 2, "n_types": 3}, "n_neurons must be an integer >= 3"),
        ({"n_types": 0}, "n_types must be an integer >= 1"),
        ({"noise": -1}, "noise must be a finite number >= 0"),
        ({"lengthscale": 0}, "lengthscale must be a finite number >= 0.05"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        make_rotated_readouts(**options)

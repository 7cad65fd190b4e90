"""Alignment: recovery of known rotations, its objectives, its ends, its file, bad input."""

import itertools
import os

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline

from fastvis._kernels import threads
from fastvis._kernels.rotation import reference, spectrum
from fastvis.readouts import (
    BetaPath,
    RotationAligner,
    beta_path,
    cluster,
    cyclic_rotation,
    fitting,
    fourier_rotation,
    make_rotated_readouts,
    newcomers,
    noise,
    objective,
    procrustes,
    von_mises_rotation,
)

O = 8  # noqa: E741 (orientations, as in the paper)
BAR = np.degrees(np.pi / (4 * O))


def circular(angles):
    return np.angle(np.exp(1j * angles))


def angle_error(aligner, data):
    """Mean error in degrees, up to one shift for each type."""
    errors = []
    for label in np.unique(data.labels):
        error = (aligner.angles_ - data.angles)[data.labels == label]
        errors.append(circular(error - np.angle(np.mean(np.exp(1j * error)))))
    return np.degrees(np.abs(np.concatenate(errors)).mean())


def mean_within(readouts, labels):
    flat = readouts.reshape(len(readouts), -1)
    return np.array([pdist(flat[labels == t]).mean() for t in np.unique(labels)])


# Recovery


@pytest.mark.parametrize("seed", range(6))
def test_the_papers_toy(seed):
    data = make_rotated_readouts(16, 2, noise=0.05, rng=seed)
    assert angle_error(RotationAligner(rng=0).fit(data.readouts), data) < BAR


@pytest.mark.parametrize("objective", ["distance", "energy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_population(objective, dtype):
    data = make_rotated_readouts(1000, 5, n_features=16, noise=0.3, rng=1)
    readouts = data.readouts.astype(dtype)
    aligner = RotationAligner(objective=objective, rng=0).fit(readouts)
    assert aligner.aligned_.dtype == dtype
    assert angle_error(aligner, data) < BAR / 2
    index = {
        name: adjusted_rand_score(data.labels, cluster(x, 5, n_seeds=3, rng=0).labels)
        for name, x in (("raw", readouts), ("aligned", aligner.aligned_))
    }
    assert index["aligned"] > 0.95
    assert index["raw"] < 0.9


def test_orbits_of_two_features_in_three_orientations(rng):
    # the toy of Fig. 2: six neurons of two types, which are cyclic shifts
    types = rng.normal(size=(2, 2, 3))
    readouts = np.stack([np.roll(t, shift, axis=-1) for shift in range(3) for t in types])
    aligned = RotationAligner(3, rng=0).fit_transform(readouts)
    np.testing.assert_allclose(aligned[0::2], aligned[[0] * 3], atol=1e-12)
    np.testing.assert_allclose(aligned[1::2], aligned[[1] * 3], atol=1e-12)


def test_the_angle_is_what_the_neuron_was_turned_by():
    data = make_rotated_readouts(200, 1, n_features=4, rng=0)
    error = circular(RotationAligner(rng=0).fit(data.readouts).angles_ - data.angles)
    assert np.degrees(np.ptp(error)) < 5  # aliasing of what 8 orientations cannot show
    readouts = data.readouts.copy()
    readouts[3] = np.roll(readouts[3], 2, axis=-1)  # a quarter turn counter-clockwise
    turned = RotationAligner(rng=0).fit(readouts).angles_
    before = RotationAligner(rng=0).fit(data.readouts).angles_
    assert circular(turned - before)[3] == pytest.approx(np.pi / 2, abs=1e-3)


def test_exact_rotations_are_not_biased_to_halfway_angles():
    # the docstring's numbers
    data = make_rotated_readouts(1000, 5, n_features=16, noise=0.3, rng=0)
    assert angle_error(RotationAligner(rng=0).fit(data.readouts), data) < 1.7
    relaxed = RotationAligner(rotation="von_mises", rng=0).fit(data.readouts)
    assert angle_error(relaxed, data) > BAR
    assert relaxed.temperature_ > 20


@pytest.mark.parametrize("beta_of_sums", [0.1, 1, 10])
def test_with_the_printed_sums_the_temperature_collapses(beta_of_sums):
    data = make_rotated_readouts(400, 5, n_features=16, noise=0.05, rng=0)
    fit = RotationAligner(rotation="von_mises", beta=2 * beta_of_sums / 399, rng=0)
    with pytest.warns(UserWarning, match="the temperature collapsed to"):
        assert fit.fit(data.readouts).temperature_ < 0.5


# Noise


def test_expected_distance_is_that_of_turned_noise(rng):
    e, angles = rng.normal(size=(4000, 2, O)), rng.uniform(0, 7, 4000)
    for rotated, gains in (
        (e, np.ones((len(e), O // 2))),
        (fourier_rotation(e, angles), spectrum.fourier_gains(angles, O)[0]),
        (
            von_mises_rotation(e, angles, 5),
            spectrum.gains(reference.von_mises_weights(angles, O, 5)),
        ),
    ):
        expected = noise.expected_distance(gains, 1.0, 2 * O, O)
        assert pdist(rotated.reshape(len(e), -1)).mean() == pytest.approx(expected, rel=0.02)


def test_rotation_alone_shrinks_noise(rng):
    # notes: to 0.7 of its standard deviation at T = 5
    gains = spectrum.gains(reference.von_mises_weights(rng.uniform(0, 7, 500), O, 5))
    raw = noise.expected_distance(np.ones((500, O // 2)), 1.0, O, O)
    assert noise.expected_distance(gains, 1.0, O, O) / raw == pytest.approx(0.69, abs=0.02)


@pytest.mark.parametrize(
    ("n_features", "size", "tolerance"), [(16, 0.1, 0.01), (4, 0.1, 0.01), (1, 0.05, 0.02)]
)
def test_noise_is_what_is_left_of_many_neurons(n_features, size, tolerance):
    # functions that 8 orientations show; so many neurons that chance does not help
    data = make_rotated_readouts(3000, 2, n_features=n_features, noise=size, lengthscale=3, rng=0)
    check = RotationAligner(rng=0).fit(data.readouts).noise_check(size, data.labels)
    np.testing.assert_allclose(check.distance / check.expected, 1, atol=tolerance)
    assert not check.overfitted.any()


def test_standard_error_of_the_distance(rng):
    draws = [pdist(rng.normal(size=(20, 16))).mean() for _ in range(500)]
    gains = np.ones((20, O // 2))
    readouts = rng.normal(size=(20, 2, O))
    check = noise.within_types(readouts, np.zeros(20, int), gains, 1.0)
    assert check.standard_error[0] == pytest.approx(np.std(draws), rel=0.15)


def test_low_noise_is_what_is_left():
    data = make_rotated_readouts(1000, 5, n_features=16, noise=0.3, rng=0)
    aligner = RotationAligner(rng=0).fit(data.readouts)
    check = aligner.noise_check(0.3, data.labels)
    np.testing.assert_array_equal(check.types, range(5))
    np.testing.assert_allclose(check.distance, mean_within(aligner.aligned_, data.labels))
    np.testing.assert_allclose(check.distance / check.expected, 1, atol=0.03)
    assert not check.overfitted.any()
    assert (mean_within(data.readouts, data.labels) > 2 * check.distance).all()


def test_high_noise_is_aligned_and_that_is_said():
    # Fig. 4B: the same neurons, at two noise levels
    for size, too_low in ((0.1, 0), (3.0, 2)):
        data = make_rotated_readouts(60, 2, noise=size, rng=1)
        aligner = RotationAligner(rng=0).fit(data.readouts)
        check = aligner.noise_check(size, data.labels)
        assert check.overfitted.sum() == too_low
        assert f"over-fitted: {too_low} of 2" in repr(check)


# Objectives


def losses_of(readouts, **options):
    z = spectrum.to_spectrum(readouts)
    return objective.AlignmentLoss(z, readouts.shape[2], **options)


def test_energy_is_the_mean_squared_distance(rng):
    readouts, angles = rng.normal(size=(9, 3, O)), rng.uniform(0, 7, 9)
    loss, _, _ = losses_of(readouts, beta=0.7, objective="energy")(angles, 2.0)
    rotated = von_mises_rotation(readouts, angles, 2.0).reshape(9, -1)
    rebuilt = (von_mises_rotation(readouts, 0, 2.0) - readouts).reshape(9, -1)
    expected = np.mean(pdist(rotated) ** 2) + 0.7 * np.mean(np.sum(rebuilt**2, axis=1))
    assert loss == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n_orientations", [3, O])
@pytest.mark.parametrize("kind", ["distance", "energy", "groups"])
def test_gradients(rng, kind, n_orientations):
    readouts, angles = rng.normal(size=(9, 3, n_orientations)), rng.uniform(0, 7, 9)
    options = {"objective": kind}
    if kind == "groups":
        options = {"groups": objective.random_groups(9, 4, rng)}
    loss = losses_of(readouts, beta=0.7, **options)
    _, d_angles, d_temperature = loss(angles, 2.0)
    _, d_exact = loss.exact(angles)
    for n, h in itertools.product(range(9), [1e-5]):
        step = h * np.eye(9)[n]
        slope = (loss(angles + step, 2.0)[0] - loss(angles - step, 2.0)[0]) / 2 / h
        assert slope == pytest.approx(d_angles[n], rel=1e-6, abs=1e-9)
        slope = (loss.exact(angles + step)[0] - loss.exact(angles - step)[0]) / 2 / h
        assert slope == pytest.approx(d_exact[n], rel=1e-6, abs=1e-9)
    slope = (loss(angles, 2 + 1e-5)[0] - loss(angles, 2 - 1e-5)[0]) / 2e-5
    assert slope == pytest.approx(d_temperature, rel=1e-6)


def test_exact_rotations_do_not_see_a_common_shift(rng):
    readouts, angles = rng.normal(size=(9, 3, O)), rng.uniform(0, 7, 9)
    loss = losses_of(readouts)
    value, _ = loss.exact(angles)
    assert loss.exact(angles + 0.3)[0] == pytest.approx(value, rel=1e-12)
    assert loss.hard(angles + 2 * np.pi / O) == pytest.approx(loss.hard(angles), rel=1e-12)
    assert abs(loss.hard(angles + 0.3) / loss.hard(angles) - 1) > 1e-3
    rotated = fourier_rotation(readouts, angles)
    rotated -= np.mean(rotated * (-1.0) ** np.arange(O), axis=-1, keepdims=True) * (
        (-1.0) ** np.arange(O)
    )
    assert value == pytest.approx(pdist(rotated.reshape(9, -1)).mean(), rel=1e-12)


def test_groups_are_random_pairs(rng):
    readouts, angles = rng.normal(size=(50, 3, O)), rng.uniform(0, 7, 50)
    groups = objective.random_groups(50, 10, rng)
    assert sorted(np.concatenate(groups)) == sorted([*range(50)] * 2)
    partners = [len({*np.concatenate([g for g in groups if n in g])}) - 1 for n in range(50)]
    assert 8 <= np.mean(partners) <= 12
    distances = pdist(readouts.reshape(50, -1))
    within = np.concatenate([pdist(readouts[g].reshape(len(g), -1)) for g in groups])
    loss = losses_of(readouts, groups=groups)
    assert loss.hard(0 * angles) == pytest.approx(within.mean(), rel=1e-12)
    assert losses_of(readouts).hard(0 * angles) == pytest.approx(distances.mean(), rel=1e-12)


def test_random_partners_do_as_well():
    data = make_rotated_readouts(1000, 5, n_features=16, noise=0.3, rng=0)
    assert angle_error(RotationAligner(n_partners=100, rng=0).fit(data.readouts), data) < BAR / 2


def test_both_optimizers_find_the_same_loss():
    data = make_rotated_readouts(60, 3, n_features=4, noise=0.2, rng=0)
    fits = [
        RotationAligner(optimizer=optimizer, max_iter=3000, tol=1e-7, rng=0).fit(data.readouts)
        for optimizer in ("lbfgs", "adam")
    ]
    assert fits[0].loss_ == pytest.approx(fits[1].loss_, rel=1e-5)
    assert [fit.stopped_by_ for fit in fits] == ["tolerance"] * 2
    assert len(fits[0].loss_curve_) < len(fits[1].loss_curve_) / 10


def test_the_loss_is_what_it_says():
    data = make_rotated_readouts(60, 3, n_features=4, noise=0.2, rng=0)
    fit = RotationAligner(rng=0).fit(data.readouts)
    loss = losses_of(data.readouts)
    assert fit.loss_ == pytest.approx(loss.exact(fit.angles_)[0], rel=1e-9)
    assert fit.loss_ == fit.alignment_losses_["fourier"] == fit.loss_curve_.min()
    assert fit.alignment_losses_["cyclic"] == pytest.approx(loss.hard(fit.angles_), rel=1e-9)
    relaxed = RotationAligner(rotation="von_mises", rng=0).fit(data.readouts)
    loss = losses_of(data.readouts, beta=1.0)
    assert relaxed.loss_ == pytest.approx(loss(relaxed.angles_, relaxed.temperature_)[0], rel=1e-9)


def test_what_a_fit_of_the_energy_reports():
    # loss_ is a mean of squares, as the path's losses; alignment_losses_ are distances all the same
    readouts = 3 * make_rotated_readouts(40, 2, n_features=3, noise=0.2, rng=0).readouts
    fit = RotationAligner(objective="energy", beta="path", rng=0).fit(readouts)
    exact = np.fft.rfft(fourier_rotation(readouts, fit.angles_))
    exact[..., -1] = 0
    distances = {
        "fourier": pdist(np.fft.irfft(exact, O).reshape(40, -1)),
        "von_mises": pdist(
            von_mises_rotation(readouts, fit.angles_, fit.temperature_).reshape(40, -1)
        ),
        "cyclic": pdist(cyclic_rotation(readouts, fit.angles_).reshape(40, -1)),
    }
    for name, expected in distances.items():
        assert fit.alignment_losses_[name] == pytest.approx(expected.mean(), rel=1e-9), name
    squares = {name: np.mean(d**2) for name, d in distances.items()}
    assert fit.loss_ == pytest.approx(squares["fourier"], rel=1e-9)
    assert fit.loss_ == fit.loss_curve_.min()
    np.testing.assert_allclose(fit.path_.alignment_losses, squares["cyclic"], rtol=1e-9)
    relaxed = fit.path_.relaxed_losses[fit.path_.chosen]
    assert relaxed == pytest.approx(squares["von_mises"], rel=1e-9)
    rebuilt = (von_mises_rotation(readouts, 0, fit.temperature_) - readouts).reshape(40, -1)
    rebuilt = np.mean(np.sum(rebuilt**2, axis=1))
    expected = squares["von_mises"] + fit.beta_ * rebuilt
    # of terms that are interpolated between 41 temperatures
    assert fit.path_.losses[fit.path_.chosen] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("objective", ["distance", "energy"])
@pytest.mark.parametrize("beta", [0.8, 1.5])
def test_the_temperature_minimizes_the_loss_at_the_angles(beta, objective):
    data = make_rotated_readouts(60, 3, n_features=4, noise=0.2, rng=0)
    fit = RotationAligner(objective=objective, beta=beta, rng=0).fit(data.readouts)
    loss = losses_of(data.readouts, beta=beta, objective=objective)
    log_t = np.log(fit.temperature_) + np.linspace(-3, 3, 601)
    best = log_t[np.argmin([loss(fit.angles_, t)[0] for t in np.exp(log_t)])]
    assert np.log(fit.temperature_) == pytest.approx(best, abs=0.05)


@pytest.mark.parametrize("start", [0.1, 20.0])
@pytest.mark.filterwarnings("ignore:the temperature collapsed")
def test_a_relaxed_fit_can_leave_its_temperature(monkeypatch, start):
    # from 90 it cannot: only the nearest shift has a weight there, and angles have no slope
    data = make_rotated_readouts(100, 3, n_features=4, noise=0.2, rng=0)
    options = {"rotation": "von_mises", "beta": 0.3, "rng": 0}
    fit = RotationAligner(**options).fit(data.readouts)
    monkeypatch.setattr(beta_path, "START_TEMPERATURE", start)
    other = RotationAligner(**options).fit(data.readouts)
    assert fit.loss_ == pytest.approx(other.loss_, rel=1e-4)
    assert fit.temperature_ == pytest.approx(other.temperature_, rel=0.05)


# The path


def path_of(temperatures, losses):
    n = len(temperatures)
    arrays = (np.arange(1.0, n + 1), temperatures, np.zeros(n), losses, np.arange(n))
    return BetaPath(*map(np.array, arrays))


def test_what_the_path_chooses():
    assert path_of([1, 6, 7], [1, 3, 2]).chosen == 2
    assert path_of([1, 6, 7], [1, 2, 2]).chosen == 1  # the relaxed loss decides
    assert path_of([1, 4, 3], [1, 3, 2]).chosen == 1  # none above 5: the largest


@pytest.mark.parametrize("rotation", ["fourier", "von_mises"])
def test_path(rotation):
    data = make_rotated_readouts(40, 2, n_features=2, noise=0.1, rng=0)
    fit = RotationAligner(beta="path", rotation=rotation, rng=0).fit(data.readouts)
    path = fit.path_
    np.testing.assert_allclose(path.betas, np.logspace(-3, 1, 20))
    assert (fit.beta_, fit.temperature_) == (
        path.betas[path.chosen],
        path.temperatures[path.chosen],
    )
    assert fit.temperature_ > 5
    assert path.temperatures[0] < 1  # over-smoothed, Fig. 4A


@pytest.mark.parametrize("rotation", ["fourier", "von_mises"])
@pytest.mark.filterwarnings("ignore:the temperature collapsed")
def test_no_beta_is_large_enough(monkeypatch, rotation):
    monkeypatch.setattr(beta_path, "BETAS", np.array([1e-3, 1e-2]))
    data = make_rotated_readouts(40, 2, n_features=2, noise=0.1, rng=0)
    with pytest.warns(UserWarning, match="no beta gave a temperature above 5; took the largest"):
        fit = RotationAligner(beta="path", rotation=rotation, rng=0).fit(data.readouts)
    assert fit.temperature_ == fit.path_.temperatures.max() < 5


# Gauge, layouts, new neurons


def test_gauge():
    data = make_rotated_readouts(100, 3, n_features=4, noise=0.1, rng=0)
    fit = RotationAligner(rng=0).fit(data.readouts)
    assert np.square(fit.aligned_).sum(axis=(0, 1)).argmax() == 0
    assert ((fit.angles_ >= 0) & (fit.angles_ < 2 * np.pi)).all()
    np.testing.assert_allclose(
        fit.aligned_, fourier_rotation(data.readouts, fit.angles_), atol=1e-12
    )
    shifted = RotationAligner(rng=0).fit(np.roll(data.readouts, 3, axis=-1))
    np.testing.assert_allclose(shifted.aligned_, fit.aligned_, atol=1e-4)


def test_flat_readouts():
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.1, rng=0)
    readouts = data.readouts
    fit = RotationAligner(rng=0).fit(readouts)
    by_feature, by_orientation = readouts.reshape(50, -1), readouts.swapaxes(1, 2).reshape(50, -1)
    aligned = RotationAligner(rng=0).fit_transform(by_feature)
    np.testing.assert_array_equal(aligned, fit.aligned_.reshape(50, -1))
    aligned = RotationAligner(layout="orientation", rng=0).fit_transform(by_orientation)
    np.testing.assert_array_equal(aligned, fit.aligned_.swapaxes(1, 2).reshape(50, -1))


@pytest.mark.parametrize("options", [{}, {"objective": "energy"}, {"normalize": "l2"}])
def test_new_neurons(options):
    data = make_rotated_readouts(600, 4, n_features=8, noise=0.2, rng=0)
    fit = RotationAligner(rng=0, **options).fit(data.readouts[:500])
    new = data.readouts[500:]
    angles = fit.find_angles(new)
    for label in range(4):  # turned as those of their type
        offset = circular(fit.angles_ - data.angles[:500])[data.labels[:500] == label]
        error = circular(
            (angles - data.angles[500:])[data.labels[500:] == label] - np.median(offset)
        )
        assert np.degrees(np.abs(error).mean()) < BAR
    expected = new
    if "normalize" in options:
        expected = new / np.linalg.norm(new, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(fit.transform(new), fourier_rotation(expected, angles), atol=1e-12)
    again = fit.find_angles(data.readouts[:500])
    assert np.degrees(np.abs(circular(again - fit.angles_)).mean()) < 1
    np.testing.assert_allclose(
        fit.transform(new, rotation="von_mises"),
        von_mises_rotation(expected, angles, fit.temperature_),
        atol=1e-12,
    )


def test_normalized_rows():
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.1, rng=0)
    scaled = data.readouts * np.geomspace(0.01, 100, 50)[:, None, None]
    fits = [RotationAligner(normalize="l2", rng=0).fit(r) for r in (data.readouts, scaled)]
    np.testing.assert_allclose(fits[0].aligned_, fits[1].aligned_, atol=1e-9)
    zero = np.concatenate([data.readouts, np.zeros((1, 3, O))])
    assert not RotationAligner(normalize="l2", rng=0).fit(zero).aligned_[-1].any()


# Defined results


def test_neurons_that_are_the_same_at_all_orientations(rng):
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.1, rng=0)
    readouts = np.concatenate([data.readouts, np.ones((2, 3, O)), np.zeros((1, 3, O))])
    fit = RotationAligner(rng=0).fit(readouts)
    np.testing.assert_array_equal(fit.angles_[-3:], 0)
    np.testing.assert_allclose(fit.aligned_[-3:], readouts[-3:], atol=1e-12)
    assert np.isfinite(fit.aligned_).all()


@pytest.mark.filterwarnings("ignore:the temperature collapsed")
@pytest.mark.parametrize("options", [{}, {"rotation": "von_mises"}, {"objective": "energy"}])
def test_equal_rows(options):
    readouts = np.broadcast_to(np.arange(8.0), (5, 2, O))
    fit = RotationAligner(rng=0, **options).fit(readouts)
    assert np.isfinite(fit.angles_).all()
    np.testing.assert_allclose(fit.aligned_ - fit.aligned_[0], 0, atol=1e-6)
    constant = RotationAligner(rng=0, **options).fit(np.ones((5, 2, O)))
    np.testing.assert_array_equal(constant.angles_, 0)


def test_two_orientations(rng):
    types = rng.normal(size=(1, 3, 2))
    flipped = rng.integers(2, size=20).astype(bool)
    readouts = np.where(flipped[:, None, None], types[..., ::-1], types)
    fit = RotationAligner(2, rng=0).fit(readouts)
    assert set(fit.angles_) <= {0, np.pi}
    np.testing.assert_allclose(fit.aligned_ - fit.aligned_[0], 0, atol=1e-12)


def test_no_iterations_leave_the_start():
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.1, rng=0)
    fit = RotationAligner(max_iter=0, rng=0).fit(data.readouts)
    assert fit.stopped_by_ == "max_iter"
    assert len(fit.loss_curve_) == 1
    assert angle_error(fit, data) < BAR


@pytest.mark.parametrize("options", [{}, {"rotation": "von_mises"}, {"objective": "energy"}])
@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.float32, 1e-30), (np.float32, 1e25), (float, 1e-100)]
)
def test_units_do_not_matter(options, dtype, scale):
    readouts = make_rotated_readouts(50, 2, n_features=3, noise=0.1, rng=0).readouts.astype(dtype)
    # not the same bytes: the scale is not a power of two
    fits = [RotationAligner(rng=0, **options).fit(readouts * dtype(s)) for s in (1, scale)]
    error = circular(fits[0].angles_ - fits[1].angles_)
    assert np.degrees(np.abs(error).max()) < 0.5
    factor = scale**2 if "objective" in options else scale
    assert fits[1].loss_ == pytest.approx(factor * fits[0].loss_, rel=1e-4)
    normalized = RotationAligner(normalize="l2", rng=0).fit(readouts * dtype(scale)).aligned_
    assert (np.square(normalized).sum(axis=(1, 2)) > 0.8).all()
    angles = fits[1].find_angles(readouts[:9] * dtype(scale))
    np.testing.assert_allclose(circular(angles - fits[0].find_angles(readouts[:9])), 0, atol=0.05)


@pytest.mark.filterwarnings("ignore:the temperature collapsed")
def test_two_orientations_of_new_neurons(rng):
    fit = RotationAligner(2, rng=0).fit(rng.normal(size=(30, 3, 2)))
    new = rng.normal(size=(9, 3, 2))
    assert set(fit.find_angles(new)) <= {0, np.pi}
    lengths = [np.linalg.norm(r, axis=(1, 2)) for r in (new, fit.transform(new))]
    np.testing.assert_allclose(*lengths)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 20])
@pytest.mark.parametrize("n_partners", [1, 2, 5, 100])
def test_any_number_of_partners(n, n_partners):
    readouts = np.random.default_rng(n).normal(size=(n, 2, O))
    fit = RotationAligner(n_partners=n_partners, rng=0).fit(readouts)
    assert np.isfinite(fit.loss_)


def test_a_large_population_stands_for_itself(monkeypatch):
    data = make_rotated_readouts(600, 4, n_features=8, noise=0.2, rng=0)
    fit = RotationAligner(rng=0).fit(data.readouts)
    angles = fit.find_angles(data.readouts[:50])
    monkeypatch.setattr(newcomers, "MAX_POPULATION", 100)
    error = np.abs(circular(fit.find_angles(data.readouts[:50]) - angles))
    assert 0 < np.degrees(error.mean()) < 1


def test_the_start_is_a_fixed_point(rng):
    # every neuron at its best angle to the mean of all
    data = make_rotated_readouts(200, 3, n_features=4, noise=0.5, rng=0)
    z = spectrum.to_spectrum(data.readouts)
    angles = procrustes.energy_angles(z, O, 4, rng)
    z[:, 0] = 0
    grid = 2 * np.pi * np.arange(8 * O) / (8 * O)
    mean = spectrum.turn(z, spectrum.fourier_gains(angles, O)[0]).mean(axis=0)
    inner = np.einsum("nmf,mf,ma->na", z, mean.conj(), np.exp(1j * np.outer(np.arange(4), grid)))
    best = grid[inner.real.argmax(axis=1)]
    assert np.degrees(np.abs(circular(best - angles)).mean()) < 0.5


def procrustes_by_rolls(readouts, template, n_sweeps):
    """Whole-bin angles after so many sweeps from a neuron, their mean; bin 0 says nothing."""
    readouts = readouts - readouts.mean(axis=-1, keepdims=True)
    rolls = np.stack([np.roll(readouts, -k, axis=-1) for k in range(readouts.shape[2])])
    mean = readouts[template]
    for _ in range(n_sweeps):
        shifts = np.sum(rolls * mean, axis=(2, 3)).argmax(axis=0)
        mean = rolls[shifts, np.arange(len(readouts))].mean(axis=0)
    return shifts, mean


@pytest.mark.parametrize("n_orientations", [2, 5, O])
@pytest.mark.parametrize("n_sweeps", [1, 2, 100])
def test_sweeps_of_whole_bins(rng, monkeypatch, n_orientations, n_sweeps):
    # white readouts: whatever is left out of a bin, the last one too, moves some neuron
    readouts = rng.normal(size=(60, 6, n_orientations))
    if n_sweeps < 100:
        monkeypatch.setattr(procrustes, "MAX_SWEEPS", n_sweeps)
    z, whole = procrustes.whole_bins(spectrum.to_spectrum(readouts), n_orientations)
    for template in range(4):
        chosen, mean, length = procrustes.sweep(z, z[:, template], whole)
        shifts, expected = procrustes_by_rolls(readouts, template, n_sweeps)
        np.testing.assert_array_equal(chosen, shifts)
        expected = spectrum.to_spectrum(expected[None])[0]
        np.testing.assert_allclose(mean, expected, atol=1e-12)
        assert length == pytest.approx(np.sum(np.abs(expected) ** 2), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_all_starts(seed):
    rng = np.random.default_rng(seed)
    readouts = rng.normal(size=(30, 12, 2))  # two orientations: the whole bins are the result
    angles = procrustes.energy_angles(spectrum.to_spectrum(readouts), 2, 30, rng)
    results = [procrustes_by_rolls(readouts, n, 100) for n in range(30)]
    lengths = [np.sum(mean**2) for _, mean in results]
    assert np.ptp(lengths) > 0.01 * max(lengths)
    turned = cyclic_rotation(readouts, angles)
    turned = turned.mean(axis=0) - readouts.mean(axis=(0, 2))[:, None]
    assert np.sum(turned**2) == pytest.approx(max(lengths), rel=1e-9)


# A good scikit-learn estimator


def test_in_a_pipeline():
    data = make_rotated_readouts(300, 3, n_features=8, noise=0.1, rng=0)
    mixture = GaussianMixture(3, covariance_type="spherical", random_state=0, n_init=5)
    labels = make_pipeline(RotationAligner(rng=0), mixture).fit_predict(
        data.readouts.reshape(300, -1)
    )
    assert adjusted_rand_score(data.labels, labels) > 0.95
    copy = clone(RotationAligner(beta=0.3, rng=1))
    assert (copy.beta, copy.rng) == (0.3, 1)


def test_same_bytes_for_any_number_of_threads(monkeypatch):
    data = make_rotated_readouts(500, 5, n_features=4, noise=0.3, rng=0)
    fits = []
    for n in (1, 2, 3):
        monkeypatch.setattr(threads, "thread_count", lambda n=n: n)
        fits.append(RotationAligner(rng=0).fit(data.readouts).aligned_)
    assert fits[0].tobytes() == fits[1].tobytes() == fits[2].tobytes()


def test_a_callback_ends_the_fit():
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.5, rng=0)
    seen = []

    def callback(iteration, loss):
        seen.append((iteration, loss))
        return iteration == 2

    fit = RotationAligner(callback=callback, tol=0, rng=0).fit(data.readouts)
    assert fit.stopped_by_ == "callback"
    assert [i for i, _ in seen] == [1, 2]
    np.testing.assert_array_equal(fit.loss_curve_[1:], [loss for _, loss in seen])


@pytest.mark.parametrize("rotation", ["fourier", "von_mises"])
@pytest.mark.filterwarnings("ignore:no beta gave", "ignore:the temperature collapsed")
def test_interrupt_keeps_the_best(rotation):
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.5, rng=0)

    def interrupt(iteration, loss):
        if iteration == 3:
            raise KeyboardInterrupt

    options = {"beta": "path", "rotation": rotation, "tol": 0, "rng": 0}
    fit = RotationAligner(callback=interrupt, **options).fit(data.readouts)
    assert fit.stopped_by_ == "interrupted"
    assert fit.loss_ == fit.loss_curve_.min()
    assert np.isfinite(fit.aligned_).all()


@pytest.mark.parametrize("start", [0, 1])
def test_interrupt_in_the_first_evaluation(monkeypatch, start):
    # with nothing to give back yet, it is an interrupt; later, a path's first fits count
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.5, rng=0)
    calls = iter(range(1000))
    exact = objective.AlignmentLoss.exact

    def interrupted(self, angles):
        if next(calls) == start:
            raise KeyboardInterrupt
        return exact(self, angles)

    monkeypatch.setattr(objective.AlignmentLoss, "exact", interrupted)
    fit = RotationAligner(rng=0)
    if start == 0:
        with pytest.raises(KeyboardInterrupt):
            fit.fit(data.readouts)
        assert not [name for name in vars(fit) if name.endswith("_")]
    else:
        assert fit.fit(data.readouts).stopped_by_ == "interrupted"
        assert np.isfinite(fit.loss_)


def test_an_interrupted_path_says_so():
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.1, rng=0)
    seen = []

    def callback(iteration, loss):
        seen.append(iteration)
        if seen.count(1) == 18:  # the 18th beta, whose fit is not the chosen one
            raise KeyboardInterrupt

    options = {"beta": "path", "rotation": "von_mises", "rng": 0}
    fit = RotationAligner(callback=callback, **options).fit(data.readouts)
    assert fit.stopped_by_ == "interrupted"
    assert len(fit.path_.betas) == 18


def test_adam_lowers_its_rate_three_times(monkeypatch):
    rates = []

    class Adam(fitting.Adam):
        def step(self, gradient):
            rates.append(self.learning_rate)
            return super().step(gradient)

    monkeypatch.setattr(fitting, "Adam", Adam)
    losses = []
    fit = fitting.minimize(
        lambda x: (losses.append(1 + float(x @ x)) or losses[-1], 2 * x),
        np.ones(3), optimizer="adam", max_iter=5000, tol=1e-3,
    )  # fmt: skip
    assert fit.stopped_by == "tolerance"
    np.testing.assert_allclose(np.unique(rates)[::-1], 0.01 / np.sqrt(10) ** np.arange(4))
    np.testing.assert_array_equal(fit.curve, losses)
    assert fit.loss == min(losses) == 1 + float(fit.x @ fit.x)


def test_a_path_does_not_outlive_its_fit(tmp_path):
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.1, rng=0)
    fit = RotationAligner(beta="path", rng=0).fit(data.readouts)
    assert repr(fit.path_).startswith("BetaPath(20 betas; chose ")
    fit.set_params(beta=1.0).fit(data.readouts)
    assert not hasattr(fit, "path_")
    fit.save(tmp_path / "fit")
    assert not hasattr(RotationAligner.load(tmp_path / "fit"), "path_")


def test_progress(capsys):
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.5, rng=0)
    fit = RotationAligner(progress=True, rng=0).fit(data.readouts)
    assert f"{len(fit.loss_curve_) - 1}it" in capsys.readouterr().err


# Its file


@pytest.mark.parametrize("options", [{}, {"beta": "path", "normalize": "l2", "n_partners": 20}])
def test_save_and_load(tmp_path, options):
    data = make_rotated_readouts(50, 2, n_features=3, noise=0.1, rng=0)
    fit = RotationAligner(rng=0, **options).fit(data.readouts)
    fit.save(tmp_path / "fit")
    loaded = RotationAligner.load(tmp_path / "fit")
    assert os.listdir(tmp_path) == ["fit"]
    for name in ("temperature_", "beta_", "loss_", "stopped_by_", "alignment_losses_"):
        assert getattr(loaded, name) == getattr(fit, name), name
        assert type(getattr(loaded, name)) is type(getattr(fit, name)), name
    for name, value in fit.get_params().items():
        assert getattr(loaded, name) == value
    np.testing.assert_array_equal(loaded.transform(data.readouts), fit.transform(data.readouts))
    if "beta" in options:
        np.testing.assert_array_equal(loaded.path_.temperatures, fit.path_.temperatures)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "fit"
    RotationAligner(rng=0).fit(make_rotated_readouts(rng=0).readouts).save(path)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    (tmp_path / "text").write_text("no")
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / f"part{size}").write_bytes(whole[:size])
    for name in set(os.listdir(tmp_path)) - {"fit"}:
        with pytest.raises(ValueError, match="path must be a file written by RotationAligner"):
            RotationAligner.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        RotationAligner.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("angles_", np.zeros((3, 3))),
        ("angles_", np.array("no")),
        ("temperature_", np.array(np.nan)),
        ("alignment_losses_", np.zeros(1)),
        ("aligned_", np.full((16, 1, 8), np.nan)),
        ("param_beta", None),
        ("param_objective", np.array("sum")),
    ],
)
def test_files_with_other_contents(tmp_path, name, value):
    path = tmp_path / "fit.npz"
    RotationAligner(rng=0).fit(make_rotated_readouts(rng=0).readouts).save(path)
    with np.load(path) as data:
        stored = {k: data[k] for k in data.files}
    if value is None:
        del stored[name]
    else:
        stored[name] = value
    np.savez(path, **stored)
    with pytest.raises(ValueError, match="path must be a file written by RotationAligner"):
        RotationAligner.load(path)


def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "fit"
    fit = RotationAligner(rng=0).fit(make_rotated_readouts(rng=0).readouts)
    fit.save(path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        fit.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["fit"]


# Bad input

R = np.random.default_rng(0).normal(size=(6, 2, O))


@pytest.mark.parametrize(
    ("options", "readouts", "message"),
    [
        ({}, R[:1], "X must have at least 2 neurons and 2 orientations"),
        ({"n_orientations": 1}, R[..., :1], "X must have at least 2 neurons and 2 orientations"),
        ({}, R * np.nan, "X must be finite"),
        ({}, R[:0], "X must not be empty"),
        ({}, R[0, 0], "X must have 2 or 3 dimensions"),
        ({}, np.ones((5, 12)), "12 is no multiple of 8"),
        ({}, R[..., :7], "X must have 8 orientation"),
        ({"beta": -1}, R, "beta must be a finite number >= 0"),
        ({"beta": "paths"}, R, "beta must be"),
        ({"objective": "sum"}, R, "objective must be one of 'distance', 'energy'"),
        ({"rotation": "cyclic"}, R, "rotation must be one of 'fourier', 'von_mises'"),
        ({"normalize": "l1"}, R, "normalize must be None or 'l2'"),
        ({"callback": "x"}, R, "callback must be callable"),
        ({"beta": np.ones(2)}, R, "beta must be a finite number"),
        ({"n_partners": 3, "objective": "energy"}, R, "n_partners must be None for objective"),
        ({"n_init": 0}, R, "n_init must be an integer >= 1"),
        ({"n_partners": 0}, R, "n_partners must be an integer >= 1"),
        ({"max_iter": -1}, R, "max_iter must be an integer >= 0"),
        ({"optimizer": "sgd"}, R, "optimizer must be one of"),
        ({"layout": "C"}, R, "layout must be one of"),
    ],
)
def test_bad_input(options, readouts, message):
    with pytest.raises((ValueError, TypeError), match=message):
        RotationAligner(**options).fit(readouts)


def test_bad_input_after_the_fit():
    fit = RotationAligner(rng=0).fit(R)
    with pytest.raises(ValueError, match="X must have the 2 feature"):
        fit.transform(np.ones((3, 3, O)))
    with pytest.raises(ValueError, match="rotation must be one of"):
        fit.transform(R, rotation="linear")
    with pytest.raises(ValueError, match="noise must be a finite number > 0"):
        fit.noise_check(0)
    with pytest.raises(ValueError, match="normalize must be None for noise_check"):
        RotationAligner(normalize="l2", rng=0).fit(R).noise_check(0.1)
    with pytest.raises(ValueError, match="not fitted"):
        RotationAligner().transform(R)

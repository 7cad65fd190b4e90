"""In silico experiments: toy cells whose tuning is known in closed form."""

import numpy as np
import pytest

from fastvis.twin.experiments import (
    compare_stimuli,
    cross_orientation_inhibition,
    nonlinearity_index,
    orientation_tuning,
    phase_tuning,
    size_contrast_tuning,
)
from fastvis.twin.families import Gabors
from fastvis.twin.stimuli import gabor, grating

SIZE = 49
CENTER = (24.0, 24.0)
SIGMA, FREQUENCY = 4.0, 0.2  # of sigma * frequency so large that orthogonal Gabors do not overlap
EXPERIMENTS = (
    orientation_tuning,
    phase_tuning,
    size_contrast_tuning,
    cross_orientation_inhibition,
)


def own(n=1, **changed):
    parameters = dict(sigma=SIGMA, frequency=FREQUENCY, orientation=0.4, contrast=2.0) | changed
    return Gabors(np.tile(CENTER, (n, 1)), **parameters)


def drives(images, orientation=0.4, sigma=SIGMA, phases=(0.0, np.pi / 2)):
    """Inner products (n_phases, n) with Gabors, 1 with the Gabor of contrast 2 that is the same."""
    filters = gabor(
        images.shape[1:], sigma=sigma, frequency=FREQUENCY, orientation=orientation, phase=phases,
        contrast=2.0, center=CENTER, dtype=np.float64,
    )  # fmt: skip
    return np.tensordot(filters, images, ((1, 2), (1, 2))) / (filters[0] ** 2).sum()


def energy(images, **options):
    return np.sqrt((drives(images, **options) ** 2).sum(0))


def simple_cell(images):
    return np.maximum(drives(images)[0], 0)[:, None]


def complex_cell(images):
    return energy(images)[:, None]


def inhibited_cell(images, beta=1.5):
    """Divided by what the orthogonal Gabor adds."""
    pool = energy(images, orientation=0.4 + np.pi / 2)
    return (np.maximum(drives(images)[0], 0) / (1 + beta * pool))[:, None]


def silent_cell(images):
    return np.zeros((len(images), 1))


def test_a_simple_cell_is_a_rectified_cosine_of_phase():
    tuning = phase_tuning(simple_cell, own(), SIZE)
    np.testing.assert_allclose(tuning.curves[0], np.maximum(np.cos(tuning.phases[0]), 0), atol=1e-6)
    # 12 samples of a half-wave rectified cosine, of which 5 are not 0
    expected = (1 + 2 * (0.75 + 0.25)) / (1 + 2 * (np.sqrt(0.75) + 0.5))
    assert expected == pytest.approx(0.8038, abs=1e-4)
    assert tuning.index[0] == pytest.approx(expected, abs=1e-6)
    assert tuning.invariance[0] == pytest.approx(1 - expected, abs=1e-6)
    many = phase_tuning(simple_cell, own(), SIZE, n_phases=1000)
    assert many.index[0] == pytest.approx(np.pi / 4, abs=1e-5)


def test_phases_start_from_the_neurons_own():
    tuning = phase_tuning(lambda x: np.maximum(drives(x, phases=[1.0])[0], 0)[:, None],
                          own(phase=1.0), SIZE)  # fmt: skip
    assert tuning.curves[0].argmax() == 0
    np.testing.assert_allclose(tuning.phases[0], 1 + np.arange(12) * np.pi / 6)


def test_an_energy_cell_is_invariant_to_phase():
    tuning = phase_tuning(complex_cell, own(), SIZE)
    assert tuning.index[0] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(tuning.curves, 1, rtol=1e-6)


@pytest.mark.parametrize("orientation", [0.0, 0.4, 1.7, 3.1])
def test_preferred_orientation_is_recovered(orientation):
    def cell(images):
        return energy(images, orientation=orientation)[:, None]

    tuning = orientation_tuning(cell, own(orientation=0.9), SIZE)  # its own is of no consequence
    error = abs(np.exp(2j * (tuning.preferred[0] - orientation)) - 1)
    assert error < 2 * 0.01  # radians: a step is 0.13
    np.testing.assert_allclose(tuning.orientations, np.arange(24) * np.pi / 24)
    best = tuning.orientations[tuning.curves[0].argmax()]
    assert abs(np.angle(np.exp(2j * (best - orientation)))) / 2 <= np.pi / 48 + 1e-9


def test_the_best_phase_counts_for_orientation():
    opposite = orientation_tuning(simple_cell, own(phase=np.pi), SIZE)
    assert opposite.index[0] == pytest.approx(
        orientation_tuning(simple_cell, own(), SIZE).index[0], abs=1e-6
    )
    assert opposite.preferred[0] == pytest.approx(0.4, abs=0.01)
    assert opposite.curves.max() == pytest.approx(1, abs=0.01)
    assert orientation_tuning(simple_cell, own(phase=np.pi), SIZE, n_phases=1).curves.max() < 0.1


def test_f2_of_a_cosine_squared_is_half_the_mean():
    """Power along a direction in the Fourier plane: k0^2 cos^2 and the width of the envelope."""
    angle, sigma, frequency = 0.7, 4.0, 0.2
    k_row, k_column = np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE), indexing="ij")

    def cell(images):
        power = np.abs(np.fft.fft2(images)) ** 2
        along = (np.cos(angle) * k_row + np.sin(angle) * k_column) ** 2
        return ((power * along).sum((1, 2)) / (power.sum((1, 2)) + 1e-9))[:, None]

    tuning = orientation_tuning(cell, own(sigma=sigma, frequency=frequency), SIZE)
    width = 1 / (8 * np.pi**2 * sigma**2)  # variance of the power spectrum of the envelope
    expected = 0.5 / (1 + 2 * width / frequency**2)
    assert tuning.index[0] == pytest.approx(expected, abs=1e-4)
    assert tuning.preferred[0] == pytest.approx(angle, abs=1e-4)


def test_linear_nonlinear_cells_have_no_cross_orientation_inhibition():
    for cell in (simple_cell, lambda x: np.maximum(drives(x)[0], 0)[:, None] ** 2):
        tuning = cross_orientation_inhibition(cell, own(), SIZE)
        assert tuning.index[0] == pytest.approx(0, abs=1e-6)


def test_divisive_normalization_inhibits_by_its_closed_form():
    contrasts = np.array([0.5, 1.0, 3.0])
    tuning = cross_orientation_inhibition(inhibited_cell, own(), SIZE, contrasts=contrasts)
    o = np.array([0, *contrasts]) / 2
    np.testing.assert_allclose(tuning.orthogonal_contrasts[0], 2 * o)
    p = contrasts / 2
    np.testing.assert_allclose(tuning.curves[0], p[:, None] / (1 + 1.5 * o), atol=1e-4)
    assert tuning.index[0] == pytest.approx(1 - 1 / (1 + 1.5 * 1.5), abs=1e-4)
    # as printed (14) has the maximum over contrasts of the preferred, and is blind
    column = tuning.curves[0, :, -1]
    assert (column.max() - column[-1]) / column.max() == 0


def test_contrasts_of_plaids_are_in_units_of_the_neurons_own():
    gabors = own(2, contrast=[1.0, 2.0])
    tuning = cross_orientation_inhibition(
        lambda x: np.repeat(inhibited_cell(x), 2, 1), gabors, SIZE
    )
    np.testing.assert_allclose(tuning.contrasts[:, [0, -1]], [[1 / 8, 1], [1 / 4, 2]])
    expected = [1 - 1 / (1 + 1.5 * 0.5), 1 - 1 / (1 + 1.5)]
    np.testing.assert_allclose(tuning.index, expected, atol=1e-4)


def test_phases_of_the_orthogonal_are_averaged():
    """A cell of one phase to either: the half of phases that adds is not the half that does not."""

    def cell(images):
        return np.maximum(drives(images, orientation=0.4 + np.pi / 2, phases=[0.3])[0], 0)[:, None]

    tuning = cross_orientation_inhibition(cell, own(phase=0.3), SIZE, contrasts=[2.0], n_phases=64)
    assert tuning.curves[0, 0, 1] == pytest.approx(1 / np.pi, rel=1e-3)
    assert tuning.index[0] == pytest.approx(0, abs=1e-6)


def test_suppression_and_contrast_indices_have_closed_forms():
    """Drive of a narrow and energy of a wide filter: products of Gaussians."""
    narrow, wide, k, half = 3.0, 6.0, 2.0, 1.0
    sigmas = np.array([2.0, 2.5, 3.0, 4.5, 6.0])
    contrasts = np.array([0.5, 1.0, 2.0, 4.0])

    def cell(images):
        drive = np.maximum(drives(images, sigma=narrow)[0], 0)
        pool = energy(images, sigma=wide)
        return (drive / (half + k * pool**2))[:, None]

    tuning = size_contrast_tuning(cell, own(), SIZE, sigmas=sigmas, contrasts=contrasts)

    def overlap(sigma):  # of contrast 2 with itself: 1
        return 2 * sigmas**2 / (sigmas**2 + sigma**2)

    c = contrasts[:, None] / 2
    expected = c * overlap(narrow) / (half + k * (c * overlap(wide)) ** 2)
    np.testing.assert_allclose(tuning.curves[0], expected, rtol=3e-3)
    suppression = 1 - expected[-1, -1] / expected[-1].max()
    assert suppression > 0.5
    assert tuning.index[0] == pytest.approx(suppression, abs=2e-3)
    contrast = 1 - expected[-1, -1] / expected[:, -1].max()
    assert 0.1 < contrast < 0.95
    assert abs(contrast - suppression) > 0.05
    assert tuning.contrast_index[0] == pytest.approx(contrast, abs=2e-3)
    linear = size_contrast_tuning(simple_cell, own(), SIZE, sigmas=sigmas, contrasts=contrasts)
    np.testing.assert_array_equal([linear.index, linear.contrast_index], 0)


def test_default_sizes_and_contrasts():
    tuning = size_contrast_tuning(lambda x: np.ones((len(x), 2)), own(2, contrast=[1.0, 3.0]), 9)
    assert tuning.curves.shape == (2, 12, 12)
    np.testing.assert_allclose(4 * tuning.sigmas[1, [0, 11]], [8, 59.44], rtol=1e-4)
    np.testing.assert_allclose(tuning.contrasts[:, -1], [1, 3])  # their own
    np.testing.assert_allclose(tuning.contrasts[:, 0], np.array([1, 3]) * 2**-5.5)
    for row in (0, 1):
        np.testing.assert_allclose(np.diff(np.log2(tuning.contrasts[row])), 0.5)


def test_each_neuron_has_its_own_levels():
    sigmas = np.array([[1.0, 2.0], [3.0, 4.0]])
    tuning = size_contrast_tuning(
        lambda x: np.stack([np.abs(x).sum((1, 2))] * 2, 1), own(2, frequency=0.0), 41,
        sigmas=sigmas, contrasts=[2.0],
    )  # fmt: skip
    np.testing.assert_allclose(tuning.curves[:, 0], 2 * np.pi * sigmas**2, rtol=1e-3)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_silent_cells_have_an_index_of_0(experiment):
    tuning = experiment(silent_cell, own(), 9)
    np.testing.assert_array_equal(tuning.index, 0)
    assert not tuning.curves.any()
    if experiment is orientation_tuning:
        assert np.isnan(tuning.preferred[0])
    if experiment is phase_tuning:
        assert tuning.invariance[0] == 1
    if experiment is size_contrast_tuning:
        assert tuning.contrast_index[0] == 0


def population(n=4, size=(18, 19)):
    """Neurons of several places, orientations and phases, and their Gabors."""
    rng = np.random.default_rng(3)
    gabors = Gabors(
        rng.uniform(6, 12, (n, 2)), sigma=2.5, frequency=0.15, orientation=np.arange(n) * 0.7,
        phase=rng.uniform(0, 6, n), contrast=rng.uniform(1, 2, n),
    )  # fmt: skip
    filters = gabors.images(size).reshape(n, -1).astype(np.float64)
    weights = np.exp(rng.normal(size=(n, n))) / 20

    def model(images):
        drive = np.maximum(images.reshape(len(images), -1) @ filters.T, 0)
        return drive / (1 + drive @ weights + 0.05 * np.abs(images).sum((1, 2))[:, None])

    return model, gabors, size


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_some_neurons_have_the_values_of_all(experiment):
    model, gabors, size = population()
    every = experiment(model, gabors, size)
    assert len(np.unique(every.index.round(6))) > 1
    which = [3, 1]
    some = experiment(model, gabors[which], size, neurons=which, batch_size=7)
    np.testing.assert_allclose(some.curves, every.curves[which], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(some.index, every.index[which], rtol=1e-5, atol=1e-6)
    assert "2 neuron(s)" in repr(some)


def test_curves_are_responses_to_gabors_drawn_one_by_one():
    model, gabors, size = population()
    tuning = size_contrast_tuning(model, gabors, size, sigmas=[2.0, 3.0], contrasts=[0.5, 1.5])
    for i in range(len(gabors)):
        for j, contrast in enumerate([0.5, 1.5]):
            for k, sigma in enumerate([2.0, 3.0]):
                x = gabor(
                    size, sigma=sigma, frequency=gabors.frequency[i], contrast=contrast,
                    orientation=gabors.orientation[i], phase=gabors.phase[i],
                    center=gabors.center[i],
                )  # fmt: skip
                expected = model(x[None])[0, i]
                assert tuning.curves[i, j, k] == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_at_most_a_batch_is_drawn_at_once():
    asked = []

    def model(images):
        asked.append(len(images))
        return np.ones((len(images), 3))

    cross_orientation_inhibition(model, own(3), 5, batch_size=10)
    assert max(asked) == 10
    assert sum(asked) == 1 + 3 * 7 * 8 * 8  # one to see how many neurons there are


def test_a_module_goes_through_every_experiment():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 5), torch.nn.Softplus(), torch.nn.Dropout(), torch.nn.Flatten(),
        torch.nn.Linear(4 * 7 * 8, 2), torch.nn.Softplus(),
    )  # fmt: skip
    kernels, bias, weights, offset = (p.detach().double().numpy() for p in module.parameters())

    def same(images):
        windows = np.lib.stride_tricks.sliding_window_view(images, (5, 5), axis=(1, 2))
        x = np.einsum("nhwij,cij->nchw", windows, kernels[:, 0]) + bias[:, None, None]
        x = np.logaddexp(0, x).reshape(len(images), -1)
        return np.logaddexp(0, x @ weights.T + offset)

    size = 11, 12
    gabors = Gabors([[5.0, 6.0], [4.0, 3.0]], sigma=2.5, frequency=0.15, contrast=6.0)
    for experiment in EXPERIMENTS:
        found, expected = experiment(module, gabors, size), experiment(same, gabors, size)
        np.testing.assert_allclose(found.curves, expected.curves, rtol=1e-5)
        np.testing.assert_allclose(found.index, expected.index, atol=1e-5)
        assert np.ptp(expected.curves) > 0.01
    first, second = gabors.images(size), gabors.images(size, orientation=np.full(2, 1.0))
    np.testing.assert_allclose(
        compare_stimuli(module, first, second, 8.0), compare_stimuli(same, first, second, 8.0),
        rtol=1e-5,
    )  # fmt: skip
    assert module.training


def test_stimuli_are_compared_at_equal_energy():
    """A linear cell: the ratio of cosines to its filter, whatever the norms."""
    filters = gabor(SIZE, sigma=SIGMA, frequency=FREQUENCY, dtype=np.float64)
    first = 7 * gabor(SIZE, sigma=6.0, frequency=FREQUENCY)[None]
    second = gabor(SIZE, sigma=SIGMA, frequency=FREQUENCY)[None]

    def linear(images):
        return np.maximum(np.tensordot(images, filters, ((1, 2), (0, 1))), 0)[:, None]

    cosine = 2 * 6 * SIGMA / (6**2 + SIGMA**2)  # of two Gaussians
    found = compare_stimuli(linear, first, second, [3.0, 12.0])
    assert found[0] == pytest.approx(cosine, abs=1e-3)
    assert compare_stimuli(linear, second, first, 12.0)[0] == pytest.approx(1 / cosine, abs=2e-3)


def test_ratios_are_averaged_over_norms():
    """With a threshold ratios depend on energy, and there may be none."""
    first, second = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
    first[:, 0, 0], second[:] = 1.0, 1.0  # of norm e: peaks e and e / 2

    def model(images):
        peak = images.max((1, 2))
        return np.stack([np.maximum(peak - t, 0) for t in (1.0, 2.0, 9.0)], axis=1)

    found = compare_stimuli(model, first, second, [4.0, 8.0])
    expected = [np.mean([3 / 1, 7 / 3]), 6 / 2, np.nan]  # of the second, only at norm 8
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    some = compare_stimuli(model, first[:1], second[:1], [4.0, 8.0], neurons=[1], batch_size=1)
    np.testing.assert_allclose(some, 3, rtol=1e-6)


def test_nonlinearity_index():
    found = nonlinearity_index([0.6, 0.2, 0.3, 0.0], [0.3, 0.4, 0.0, -0.1])
    np.testing.assert_allclose(found, [2, 0.5, np.nan, np.nan])


def test_a_full_field_has_no_place_in_stimuli():
    """Large Gabors become gratings: frequency is fixed, not stripes a Gabor."""
    seen = []

    def model(images):
        seen.append(images)
        return np.ones((len(images), 1))

    size_contrast_tuning(model, own(), 11, sigmas=[1e4], contrasts=[2.0])
    expected = grating(11, frequency=FREQUENCY, orientation=0.4, contrast=2.0, center=CENTER)
    np.testing.assert_allclose(seen[-1][0], expected, atol=1e-5)


def one(images):
    return np.ones((len(images), 1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: phase_tuning("cell", own(), 9), TypeError, "model must be"),
        (lambda: phase_tuning(one, "gabors", 9), TypeError, "gabors must be Gabors"),
        (lambda: phase_tuning(one, own(), (9, 9, 9)), ValueError, "size must be"),
        (lambda: phase_tuning(one, own(2), 9), ValueError, "neurons must be 2, one for each"),
        (lambda: phase_tuning(one, own(), 9, neurons=[1]), ValueError, "in 0 to 0"),
        (lambda: phase_tuning(one, own(), 9, neurons=[-1]), ValueError, "got -1 to -1"),
        (lambda: phase_tuning(one, own(), 9, neurons=[0.0]), TypeError, "neurons must be integers"),
        (lambda: phase_tuning(one, own(), 9, n_phases=2), ValueError, "n_phases must be"),
        (lambda: phase_tuning(one, own(), 9, batch_size=0), ValueError, "batch_size must be"),
        (lambda: orientation_tuning(one, own(), 9, n_orientations=2), ValueError, "n_orientations"),
        (lambda: orientation_tuning(one, own(), 9, n_phases=0), ValueError, "n_phases must be"),
        (lambda: size_contrast_tuning(one, own(), 9, sigmas=[2, 1]), ValueError, "must rise"),
        (lambda: size_contrast_tuning(one, own(), 9, sigmas=[0, 1]), ValueError, "sigmas must be"),
        (lambda: size_contrast_tuning(one, own(), 9, contrasts=[-1, 1]), ValueError, "be >= 0"),
        (lambda: size_contrast_tuning(one, own(), 9, contrasts=np.ones((2, 1))), ValueError,
         r"contrasts must be the same for all neurons, \(m,\), or \(1, m\)"),
        (lambda: cross_orientation_inhibition(one, own(), 9, contrasts=[0, 1]), ValueError,
         "contrasts must be > 0"),
        (lambda: compare_stimuli(one, np.ones((1, 2, 2)), np.ones((1, 2, 3)), 1), ValueError,
         "first and second must have one shape"),
        (lambda: compare_stimuli(one, np.ones((1, 2, 2)), np.zeros((1, 2, 2)), 1), ValueError,
         "second must not be 0 everywhere"),
        (lambda: compare_stimuli(one, np.ones((1, 2, 2)), np.ones((1, 2, 2)), [1, 0]), ValueError,
         "norms must be > 0"),
        (lambda: nonlinearity_index([0.1, 0.2], [0.1]), ValueError, "of the same neurons"),
        (lambda: nonlinearity_index([0.1], [1.1]), ValueError, "correlation_glm must be in"),
        (lambda: nonlinearity_index([np.nan], [0.1]), ValueError, "must be finite"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "experiment",
    [orientation_tuning, phase_tuning, size_contrast_tuning, cross_orientation_inhibition],
)
def test_negative_responses_have_no_index(experiment):
    """F1/F0 of a linear cell is 1 / 0."""
    filters = -own().images(SIZE).reshape(1, -1)
    with pytest.raises(ValueError, match="model must give responses >= 0; got -.* of neuron 0"):
        experiment(lambda images: images.reshape(len(images), -1) @ filters.T, own(), SIZE)


def test_gabors_of_another_size_than_the_images_of_the_model():
    def fitted(images):
        return images[:, 0, :1]

    fitted.image_size_ = (5, 5)
    with pytest.raises(ValueError, match=r"size must be \(5, 5\), as the model's images"):
        phase_tuning(fitted, own(), SIZE)


@pytest.mark.parametrize("contrast", [0.0, -1.0])
def test_gabors_without_a_contrast_to_begin_from(contrast):
    with pytest.raises(ValueError, match="gabors must have contrasts > 0"):
        size_contrast_tuning(one, own(contrast=contrast), SIZE)

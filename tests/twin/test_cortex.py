"""The simulated cortex: against its formula, pixel by pixel, and textbook experiments on it."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from fastvis.twin import ceiling, correlation_to_average, gabor, plaid
from fastvis.twin.cortex import TYPES, natural_patches, simulate_cortex

SIZE = (32, 36)
CONTRAST = 2.0
SIGMAS = np.geomspace(1.2, 14.0, 12)
PHASES = np.arange(12) * np.pi / 6


@pytest.fixture(scope="module")
def images():
    return 40 + 100 * natural_patches(500, SIZE, rng=0)


@pytest.fixture(scope="module")
def recording(images):
    return simulate_cortex(100, images, rng=1)


@pytest.fixture(scope="module")
def truth(recording):
    return recording.truth


def of_types(truth, *names):
    return np.flatnonzero(np.isin(truth.types, names))


def oriented(truth):
    return np.flatnonzero(np.isfinite(truth.orientations))


def curves(truth, which, stimulus=gabor, **changed):
    """Responses (len(which), n) of neurons to what their filters are, but for n changes."""
    parameters = {
        "sigma": truth.sigmas, "frequency": truth.frequencies, "phase": truth.phases,
        "orientation": truth.orientations,
    }  # fmt: skip
    parameters = {name: value[which][:, None] for name, value in parameters.items()} | changed
    center = truth.centers[which][:, None]
    x = stimulus(SIZE, contrast=CONTRAST, center=center, **parameters)
    found = truth(x.reshape(-1, *SIZE)).reshape(*x.shape[:2], -1)
    return found[np.arange(len(which)), :, which]


def best_sigmas(truth, which):
    return SIGMAS[curves(truth, which, sigma=SIGMAS).argmax(1)][:, None]


def suppression_indices(truth, which):
    """(12)."""
    found = curves(truth, which, sigma=SIGMAS)
    return 1 - found[:, -1] / found.max(1)


def plaid_indices(truth, which):
    """(14), over contrasts of the orthogonal Gabor, at the mean of its phases."""
    contrasts = np.linspace(0, CONTRAST, 5)
    found = curves(
        truth, which, plaid, sigma=best_sigmas(truth, which),
        orthogonal_contrast=np.repeat(contrasts, 8),
        orthogonal_phase=np.tile(np.arange(8) * np.pi / 4, 5),
    )  # fmt: skip
    found = found.reshape(len(which), 5, 8).mean(2)
    return 1 - found[:, -1] / found.max(1)


def modulation(curve, angles):
    """F1/F0, (11)."""
    return np.abs((curve * np.exp(1j * angles)).sum(-1)) / curve.sum(-1)


def plain_rate(truth, i, image):
    """A rate from the formulas alone."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    sigma, kind = truth.sigmas[i], truth.types[i]
    here, angle = truth.centers[i], truth.orientations[i]

    def bump(sigma, at):
        square = (rows - at[0]) ** 2 + (columns - at[1]) ** 2
        return np.exp(-square / (2 * sigma**2))

    if kind.startswith("center"):
        narrow, wide = bump(sigma, here), bump(2 * sigma, here)
        x = ((narrow / narrow.sum() - wide / wide.sum()) * image).sum()
        return truth.gains[i] * max(0, x if kind == "center-on" else -x)

    def response(at, angle, phase):
        """Of a filter that gives cos(phi - phase) to a grating of phase phi."""
        u = (rows - at[0]) * np.cos(angle) + (columns - at[1]) * np.sin(angle)
        y = np.mgrid[-20:21, -20:21][0]
        wide = np.exp(-(y**2 + y.T**2) / (2 * sigma**2))  # far from any border
        out = 0
        for part, shift in ((np.cos(phase), 0), (np.sin(phase), np.pi / 2)):
            g, k = bump(sigma, at), 2 * np.pi * truth.frequencies[i]
            wave, grating = g * np.cos(k * u + shift), np.cos(k * y + shift)
            wave -= (shift == 0) * g * wave.sum() / g.sum()
            filter_ = wide * grating - (shift == 0) * wide * (wide * grating).sum() / wide.sum()
            out += part * (wave * image).sum() / (filter_ * grating).sum()
        return out

    def energy(at, angle):
        phase = truth.phases[i]
        return np.hypot(response(at, angle, phase), response(at, angle, phase + np.pi / 2))

    across = np.array([np.cos(angle), np.sin(angle)])
    along = np.array([-np.sin(angle), np.cos(angle)])
    ring = [here + sign * 2.5 * sigma * v for v in (across, along) for sign in (-1, 1)]
    simple = max(0, response(here, angle, truth.phases[i]))
    c = truth.complexness[i]
    pool = truth.suppression[i] * np.mean([energy(at, angle) for at in ring])
    pool += truth.cross_inhibition[i] * energy(here, angle + np.pi / 2)
    return truth.gains[i] * ((1 - c) * simple + c * energy(here, angle)) / (1 + pool)


@pytest.mark.parametrize("kind", TYPES)
def test_rates_follow_the_formula(truth, rng, kind):
    x = rng.normal(size=(300, *SIZE))  # more than are computed at a time
    found = truth(x)
    assert found.shape == (300, 100)
    for i in of_types(truth, kind)[:3]:
        for j in (0, 150, 299):
            assert found[j, i] == pytest.approx(plain_rate(truth, i, x[j]), rel=1e-4, abs=1e-4)
    assert (found[:, of_types(truth, kind)].max(0) > 0).all()


def test_types_say_what_neurons_do(truth):
    has = {word: np.char.find(truth.types, word) >= 0 for word in ("complex", "suppr", "cross")}
    np.testing.assert_array_equal(truth.complexness > 0, has["complex"])
    np.testing.assert_array_equal(truth.suppression > 0, has["suppr"])
    np.testing.assert_array_equal(truth.cross_inhibition > 0, has["cross"])
    assert (truth.centers >= 8).all()
    assert (truth.centers <= np.array(SIZE) - 9).all()
    names, counts = np.unique(truth.types, return_counts=True)
    assert set(names) == set(TYPES)
    assert (counts == 10).all()


def test_energy_tells_no_phases(truth):
    which = np.flatnonzero(truth.complexness > 0)
    assert modulation(curves(truth, which, phase=PHASES), PHASES).max() < 0.06
    pure = replace(truth, complexness=np.where(truth.complexness > 0, 1.0, 0.0))
    # Of gratings: Gabors have a mean, and filters have none.
    found = curves(pure, of_types(truth, "complex"), phase=PHASES, sigma=1e3)
    assert np.abs(found / found.mean(1, keepdims=True) - 1).max() < 0.015


def test_simple_cells_are_half_wave_rectified(truth):
    which, phases = of_types(truth, "simple"), np.arange(96) * np.pi / 48
    found = curves(truth, which, phase=truth.phases[which][:, None] + phases)
    peak = np.angle(np.exp(1j * phases[found.argmax(1)]))
    assert np.abs(peak).max() < 0.15  # without its mean a filter is not quite a Gabor
    np.testing.assert_allclose(modulation(found, phases), np.pi / 4, atol=1e-3)


def test_orthogonal_gabors_inhibit_where_said(truth):
    assert np.abs(plaid_indices(truth, of_types(truth, "simple"))).max() < 1e-6
    assert plaid_indices(truth, of_types(truth, "complex")).max() < 0.02
    small = of_types(truth, "simple+suppressed", "complex+suppressed")
    assert plaid_indices(truth, small).max() < 0.15  # small Gabors are not quite orthogonal
    alone = of_types(truth, "simple+cross", "complex+cross")
    indices = plaid_indices(truth, alone)
    assert 0.3 < indices.min() < indices.max() < 0.95
    assert np.ptp(indices) > 0.2
    assert spearmanr(indices, truth.cross_inhibition[alone])[0] > 0.95
    both = of_types(truth, "simple+suppressed+cross", "complex+suppressed+cross")
    assert plaid_indices(truth, both).min() > 0.1  # their best Gabors are small


def test_large_gabors_suppress_where_said(truth):
    indices = suppression_indices(truth, oriented(truth))
    strengths = truth.suppression[oriented(truth)]
    high = strengths > 0
    assert indices[high].min() > 0.1
    assert np.ptp(indices[high]) > 0.3
    assert indices[~high].max() < 0.05
    alone = truth.cross_inhibition[oriented(truth)][high] == 0
    assert indices[high][alone].min() > 0.2
    assert spearmanr(indices[high][alone], strengths[high][alone])[0] > 0.9


def test_tuning_curves_peak_at_the_orientation(truth):
    which, turns = oriented(truth), np.arange(-15, 15) * np.pi / 30
    angles = truth.orientations[which][:, None] + turns
    found = curves(truth, which, sigma=best_sigmas(truth, which), orientation=angles)
    assert (found.argmax(1) == 15).all()


def test_center_cells_have_no_orientation(truth):
    which = of_types(truth, "center-on", "center-off")
    n, sign = np.arange(len(which)), np.where(truth.types[which] == "center-on", 1, -1)
    center = truth.centers[which]
    spots = sign[:, None, None] * gabor(SIZE, sigma=1.6, frequency=0.0, center=center)
    assert truth(spots)[n, which].min() > 0
    assert truth(-spots)[n, which].max() == 0
    angles = np.arange(12) * np.pi / 12
    x = gabor(
        SIZE, sigma=2.5, frequency=0.12, orientation=angles, contrast=2.0 * sign[:, None],
        center=center[:, None],
    )  # fmt: skip
    found = truth(x.reshape(-1, *SIZE)).reshape(len(which), 12, -1)[n, :, which]
    assert found.min() > 0
    assert modulation(found, 2 * angles).max() < 0.02


def test_uniform_fields_drive_nobody(truth):
    lit = truth(np.full((1, *SIZE), 3.0))
    assert lit.max() < 1e-3 * truth.gains.min()


def test_recording_has_tiers_and_repeats(recording, images):
    assert recording.summary() == {
        "n_neurons": 100, "train_images": 360, "train_trials": 360, "validation_images": 40,
        "validation_trials": 40, "test_images": 100, "test_trials": 1000, "test_repeats": (10, 10),
        "constant_neurons": 0,
    }  # fmt: skip
    np.testing.assert_array_equal(recording.images, images)
    assert (recording.responses == np.round(recording.responses)).all()
    _, ids = recording.of_tier("test")
    assert ids.min() < 250 < ids.max()  # not just the last


def test_repeats_may_be_ragged(images):
    repeats = np.arange(1, 8)
    recording = simulate_cortex(2, images, n_test=7, n_repeats=repeats, rng=0)
    _, counts = np.unique(recording.of_tier("test")[1], return_counts=True)
    np.testing.assert_array_equal(counts, repeats)
    assert len(simulate_cortex(2, images, n_test=0, rng=0).of_tier("test")[0]) == 0


def test_seeds_decide(images, recording):
    again = simulate_cortex(100, images, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again.responses, recording.responses)
    np.testing.assert_array_equal(again.image_ids, recording.image_ids)
    other = simulate_cortex(100, images, rng=2)
    assert not np.array_equal(other.truth.centers, recording.truth.centers)
    quiet = simulate_cortex(100, images[:300], noise="none", rng=1)
    np.testing.assert_array_equal(quiet.truth.centers, recording.truth.centers)
    np.testing.assert_array_equal(quiet.truth.suppression, recording.truth.suppression)


def test_units_are_those_of_the_recording(images):
    recording = simulate_cortex(30, images, noise="none", mean_response=1.7, rng=3)
    unit = recording.normalization()
    rates = recording.truth(unit.images(recording.images))
    np.testing.assert_allclose(recording.responses, rates[recording.image_ids], rtol=1e-5)
    train, _ = recording.of_tier("train")
    np.testing.assert_allclose(train.mean(0), 1.7, rtol=1e-5)
    dim = simulate_cortex(30, images / 50 - 3, noise="none", mean_response=1.7, rng=3)
    np.testing.assert_allclose(dim.responses, recording.responses, rtol=1e-2, atol=1e-3)


def test_noise_is_all_that_keeps_the_truth_from_the_responses(recording):
    rates = recording.truth(recording.normalization().images(recording.images))
    responses, ids = recording.of_tier("test")
    found = correlation_to_average(rates, responses, ids)
    np.testing.assert_allclose(found, ceiling(responses, ids), atol=0.03)
    assert found.mean() == pytest.approx(ceiling(responses, ids).mean(), abs=0.003)


@pytest.mark.parametrize(("noise", "fano"), [("poisson", 1.0), (1.0, 1.0), (2.5, 2.5)])
def test_counts_have_their_fano_factor(images, noise, fano):
    recording = simulate_cortex(20, images, n_repeats=20, noise=noise, rng=4)
    rates = recording.truth(recording.normalization().images(recording.images))
    responses, ids = recording.of_tier("test")
    r, expected = responses[rates[ids] > 1], rates[ids][rates[ids] > 1]
    assert (r == np.round(r)).all()
    assert ((r - expected) ** 2 / expected).mean() == pytest.approx(fano, rel=0.04)
    assert (r / expected).mean() == pytest.approx(1, abs=0.02)


def test_properties_are_independent_or_one(images):
    n = 320
    free = simulate_cortex(n, images, types=TYPES[:8], rng=5).truth
    strengths = np.stack([free.complexness, free.suppression, free.cross_inhibition])
    assert np.abs(np.corrcoef(strengths) - np.eye(3)).max() < 0.1
    both = (free.suppression > 0) & (free.cross_inhibition > 0)
    k = spearmanr(free.suppression[both], free.cross_inhibition[both])[0]
    assert abs(k) < 0.3  # 80 neurons

    shared = simulate_cortex(60, images, coupling="shared pool", rng=5).truth
    np.testing.assert_array_equal(shared.suppression, shared.cross_inhibition)
    which = oriented(shared)
    a, b = suppression_indices(shared, which), plaid_indices(shared, which)
    assert spearmanr(a, b)[0] > 0.85
    high = shared.suppression[which] > 0
    assert spearmanr(a[high], b[high])[0] > 0.8


def test_types_and_phases_are_chosen(images):
    parts = {"simple": 3, "center-off": 1, "complex": 0}
    t = simulate_cortex(40, images, types=parts, phases=(0.0, np.pi / 2), rng=6).truth
    assert (t.types == "simple").sum() == 30
    assert (t.types == "center-off").sum() == 10
    assert set(t.phases[t.types == "simple"]) == {0.0, np.pi / 2}
    assert np.isnan(t.phases[t.types == "center-off"]).all()
    assert repr(t) == "SimulatedCortex(40 neurons: 10 center-off, 30 simple)"
    assert len(set(simulate_cortex(7, images, rng=0).truth.types)) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(n_neurons=0), "n_neurons must be an integer >= 1"),
        (dict(images=np.zeros((5, 20))), "images must have 3 dimensions"),
        (dict(images=np.full((200, 20, 20), 3.0)), "images must drive all neurons"),
        (dict(images=np.full((200, 20, 20), np.nan)), "images must be finite"),
        (dict(n_test=500), "images must leave some for training; got 500, of which 500"),
        (dict(n_test=600), "images must leave some for training"),
        (dict(validation=1.0), "images must leave some for training"),
        (dict(validation=1.5), "validation must be a finite number >= 0 and <= 1"),
        (dict(n_repeats=0), "n_repeats must be one integer >= 1, or 100"),
        (dict(n_repeats=[1, 2]), "n_repeats must be one integer >= 1, or 100"),
        (dict(n_repeats=2.5), "n_repeats must be one integer >= 1, or 100"),
        (dict(types=["striped"]), "types must be one of 'simple', "),
        (dict(types=[]), "types must be of some part > 0"),
        (dict(types={"simple": -1}), r"types\['simple'\] must be a finite number >= 0"),
        (dict(types="simple+cross", coupling="shared pool"), "types must be one of"),
        (dict(coupling="none"), "coupling must be one of"),
        (dict(phases=[[0.0]]), "phases must have 0 or 1 dimensions"),
        (dict(phases=[]), "phases must not be empty"),
        (dict(margin=-1), "margin must be a finite number >= 0"),
        (dict(margin=16), "margin must be at most half of an image; got 16 for images of 32 x 36"),
        (dict(noise="gaussian"), "noise must be one of 'poisson', 'none'"),
        (dict(noise=0.5), "noise must be a finite number >= 1"),
        (dict(mean_response=0), "mean_response must be a finite number > 0"),
        (dict(rng=-1), "rng must not be negative"),
    ],
)
def test_errors_come_at_the_door(images, options, message):
    with pytest.raises(ValueError, match=message):
        simulate_cortex(**(dict(n_neurons=3, images=images) | options))


def test_no_noise_has_to_be_said(images):
    with pytest.raises(TypeError, match="noise must be a finite number >= 1; got None"):
        simulate_cortex(3, images, noise=None)


def test_truth_refuses_what_it_cannot_see(truth):
    with pytest.raises(ValueError, match="images must be of 32 x 36; got shape"):
        truth(np.zeros((2, 36, 32)))
    with pytest.raises(ValueError, match=r"images must have 3 dimensions \(n_images, H, W\)"):
        truth(np.zeros(SIZE))
    with pytest.raises(ValueError, match="gains must be 100 numbers"):
        replace(truth, gains=np.ones(2))


def test_patches_are_natural():
    x = natural_patches(300, (20, 28), rng=0)
    assert x.shape == (300, 20, 28)
    assert x.dtype == np.float32
    assert 0 <= x.min() < 0.05
    assert 0.95 < x.max() <= 1
    assert x.std((1, 2)).min() >= 0.05
    np.testing.assert_array_equal(x[:9], natural_patches(9, (20, 28), rng=0))
    assert len(np.unique(x.reshape(300, -1), axis=0)) == 300
    # amplitudes fall about as 1 / f: over two octaves, power to a sixteenth
    squares = x[:, :, :20] - x[:, :, :20].mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.rfft(squares * np.hanning(20), axis=2)) ** 2).mean((0, 1))
    assert 8 < power[2] / power[8] < 150


def test_patches_need_photographs(monkeypatch):
    with pytest.raises(ValueError, match="size must fit into a photograph; got 2000 x 20"):
        natural_patches(1, (2000, 20))
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"photographs need scikit-image: pip install fastvis\["):
        natural_patches(1, 20)

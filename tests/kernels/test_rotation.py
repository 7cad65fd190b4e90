"""The rotation kernels against closed forms and SciPy."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.special import ive

from fastvis._kernels.rotation import _distances, all_pairs, mean_distance, reference

O = 8  # noqa: E741 (orientations, as in the paper)
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-14)])


def readouts_of(rng, n=6, n_features=3, n_orientations=O):
    return rng.normal(size=(n, n_features, n_orientations))


# The definitions


@pytest.mark.parametrize("shift", [-9, -1, 0, 1, 3, 8, 17])
def test_a_whole_bin_is_a_roll(rng, shift):
    readouts = readouts_of(rng)
    angles = np.full(len(readouts), 2 * np.pi * shift / O)
    rolled = np.roll(readouts, -shift, axis=-1)
    cyclic = reference.rotate(readouts, reference.cyclic_weights(angles, O))
    np.testing.assert_allclose(cyclic, rolled, atol=1e-13)
    np.testing.assert_allclose(reference.fourier_rotation(readouts, angles), rolled, atol=1e-13)
    relaxed = reference.rotate(readouts, reference.von_mises_weights(angles, O, 1e4))
    np.testing.assert_allclose(relaxed, rolled, atol=1e-12)


def test_cyclic_rotation_interpolates(rng):
    readouts = readouts_of(rng)
    angles = np.full(len(readouts), 2 * np.pi * 2.25 / O)
    expected = 0.75 * np.roll(readouts, -2, -1) + 0.25 * np.roll(readouts, -3, -1)
    result = reference.rotate(readouts, reference.cyclic_weights(angles, O))
    np.testing.assert_allclose(result, expected, atol=1e-13)


@pytest.mark.parametrize("temperature", [0.5, 5.0, 30.0])
def test_the_relaxation_acts_bin_by_bin(rng, temperature):
    # in the Fourier transform over orientation, by ratios of Bessel functions
    readouts, angles = readouts_of(rng), rng.uniform(-7, 7, 6)
    result = reference.rotate(readouts, reference.von_mises_weights(angles, O, temperature))
    k = np.arange(-40, 41) * O
    bins = np.arange(O // 2 + 1)
    order = bins[:, None] + k
    turn = np.exp(1j * order * angles[:, None, None])
    top = np.sum(ive(np.abs(order), temperature) * turn, axis=-1)
    turn = np.exp(1j * k * angles[:, None])
    bottom = np.sum(ive(np.abs(k), temperature) * turn, axis=-1)
    gain = top / bottom[:, None]
    expected = np.fft.irfft(np.fft.rfft(readouts) * gain[:, None], O)
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_the_energy_is_the_scatter_about_the_mean(rng):
    x = rng.normal(size=(30, 7))
    energy, gradient = reference.mean_squared_distance(x)
    assert energy == pytest.approx(np.mean(pdist(x) ** 2), rel=1e-13)
    step = 1e-6 * rng.normal(size=x.shape)
    ends = [reference.mean_squared_distance(x + s * step)[0] for s in (1, -1)]
    assert np.sum(gradient * step) == pytest.approx((ends[0] - ends[1]) / 2, rel=1e-6)


def test_the_reference_is_the_mean_of_pdist(rng):
    x = rng.normal(size=(30, 7))
    assert reference.mean_distance(x)[0] == pytest.approx(np.mean(pdist(x)), rel=1e-13)


# All pairs


@DTYPES
def test_rows_that_nearly_coincide(rng, dtype, tolerance):
    # far from the origin, so that differences of squares would cancel
    x = 100 + rng.normal(size=(60, 20))
    x[10:20] = x[0] + 1e-3 * rng.normal(size=(10, 20))
    x[20:30] = x[1]
    x = x.astype(dtype)
    loss, gradient = mean_distance(x)
    expected, expected_gradient = reference.mean_distance(x.astype(np.float64))
    assert loss == pytest.approx(expected, rel=tolerance)
    # what is left of the coordinates' last digits, in directions between near rows
    rounding = 200 * tolerance if dtype == np.float32 else 1e-11
    assert np.abs(gradient - expected_gradient).max() < rounding * np.abs(expected_gradient).max()


@DTYPES
def test_a_cluster_of_near_rows(rng, dtype, tolerance):
    x = (1e-4 * rng.normal(size=(70, 9)) + rng.normal(size=9)).astype(dtype)
    x = np.concatenate([x, rng.normal(size=(70, 9)).astype(dtype)])
    loss, gradient = mean_distance(x)
    expected, expected_gradient = reference.mean_distance(x.astype(np.float64))
    assert loss == pytest.approx(expected, rel=tolerance)
    scale = np.abs(expected_gradient).max()
    rounding = 2e-3 if dtype == np.float32 else 1e-11  # 1e-7 of coordinates over 1e-4 of distance
    assert np.abs(gradient - expected_gradient).max() < rounding * scale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.3, 100])
@pytest.mark.parametrize("side", ["near", "far"])
def test_pairs_around_the_threshold(rng, dtype, offset, side):
    # Two pairs of rows, at r times sqrt(|x_i|^2 + |x_j|^2) from each other, in opposite directions:
    # a row's gradient is the direction of its partner, which is all that r changes, and two others.
    # Bars are three times the worst of 1,600 rows, of either dtype.
    eps, threshold = float(np.finfo(dtype).eps), 0.1 if dtype == np.float32 else 0.0316
    near = [1e-4, 1e-3, 1e-2, 0.97 * threshold]
    for r in near if side == "near" else [1.03 * threshold, 2 * threshold, 0.5, 1]:
        rounding = 10.0
        if side == "far":  # squares and products of rows, which cancel down to r^2 of their size
            rounding += 7 / r**2
        elif offset < 1:  # of coordinates as the center is taken away; from far rows that is exact
            rounding += 1 / r
        for _ in range(50):
            row, step = rng.normal(size=(2, 128))
            step *= r * np.sqrt(2) * np.linalg.norm(row) / np.linalg.norm(step)
            x = (offset + np.stack([row, row + step, -row, -row - step])).astype(dtype)
            loss, gradient = mean_distance(x)
            expected, expected_gradient = reference.mean_distance(x.astype(np.longdouble))
            assert loss == pytest.approx(float(expected), rel=25 * eps)
            error = 6 * np.linalg.norm(gradient - expected_gradient, axis=1).max()  # six pairs
            assert error < rounding * eps, r


@DTYPES
@pytest.mark.parametrize("value", [0, 3])
def test_equal_rows_have_no_distance_and_no_gradient(dtype, tolerance, value):
    loss, gradient = mean_distance(np.full((41, 6), value, dtype))
    assert loss == 0
    assert not gradient.any()


@DTYPES
@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_distances_scale(rng, dtype, tolerance, scale):
    x = rng.normal(size=(40, 11)).astype(dtype)
    (loss, gradient), (scaled, same) = mean_distance(x), mean_distance(x * dtype(scale))
    assert scaled == pytest.approx(scale * loss, rel=10 * tolerance)
    np.testing.assert_allclose(same, gradient, atol=100 * tolerance * np.abs(gradient).max())


@pytest.mark.parametrize("level", range(_distances.BEST_LEVEL + 1))
@DTYPES
@pytest.mark.parametrize("shape", [(2, 1), (3, 40), (50, 7), (65, 33), (300, 3)])
def test_every_kind_of_vectors(monkeypatch, rng, dtype, tolerance, level, shape):
    for name in ("padded", "prepare", "distances", "gradient"):
        function = getattr(_distances, name)
        monkeypatch.setattr(
            all_pairs._distances, name, lambda *args, f=function: f(*args, level=level)
        )
    x = rng.normal(size=shape).astype(dtype)
    loss, gradient = mean_distance(x)
    expected, expected_gradient = reference.mean_distance(x.astype(np.float64))
    assert loss == pytest.approx(expected, rel=tolerance)
    assert (
        np.abs(gradient - expected_gradient).max()
        < 10 * tolerance * np.abs(expected_gradient).max()
    )


@pytest.mark.parametrize("n_blocks", range(1, 12))
def test_rounds_of_a_tournament(n_blocks):
    met = []
    for pairs in all_pairs.rounds(n_blocks):
        blocks = [{int(a), int(b)} for a, b in pairs]
        assert sum(map(len, blocks)) == len(set().union(*blocks))  # none plays twice
        met += [tuple(sorted({int(a), int(b)})) for a, b in pairs]
    expected = {tuple(sorted({a, b})) for a in range(n_blocks) for b in range(n_blocks)}
    assert len(met) == len(expected)
    assert set(met) == expected


@pytest.mark.parametrize("n_blocks", [1, 2, 5, 8])
def test_a_pair_waits_for_its_blocks(n_blocks):
    pairs, after = all_pairs.schedule(n_blocks)
    sets = [set(pair) for pair in pairs.tolist()]
    for k, pair in enumerate(sets):
        for block in pair:
            earlier = [i for i in range(k) if block in sets[i]]
            assert not earlier or earlier[-1] in after[k]  # which waits for the one before it


@pytest.mark.parametrize(("n_tiles", "n_block"), [(1, 1), (15, 1), (16, 2), (63, 4), (520, 5)])
def test_tiles_of_a_block(n_tiles, n_block):
    assert all_pairs.block_tiles(n_tiles) == n_block


@pytest.mark.parametrize("n", [95, 96, 97, 200, 500])
def test_blocks_that_are_not_full(monkeypatch, rng, n):
    monkeypatch.setattr(all_pairs, "FEWEST_BLOCKS", 1)
    x = rng.normal(size=(n, 5))
    x[-1] = x[0]  # equal rows in different blocks
    loss, gradient = mean_distance(x)
    expected, expected_gradient = reference.mean_distance(x)
    assert loss == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-15)

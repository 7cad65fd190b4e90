"""The compiled loops of the Gram kernel, each by itself, with every kind of vectors."""

import numpy as np
import pytest

from fastvis._kernels.gram import _correlation, _products, _row_fft, reference, strips
from fastvis._kernels.memory import LINE, Pool, aligned_empty

TOLERANCE = {np.float32: 4e-6, np.float64: 1e-14}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
LEVELS = pytest.mark.parametrize("level", range(_correlation.BEST_LEVEL + 1))


def error(array, expected):
    """Largest error relative to the largest number."""
    return np.abs(array - expected).max() / np.abs(expected).max()


# The transforms along rows

LENGTHS = [*range(1, 41), 64, 96, 135, 211, 288, 320]


def row_fft_tables(length, dtype):
    return _row_fft.factors(length), _row_fft.roots(length, dtype)


@LEVELS
@DTYPES
@pytest.mark.parametrize(("n_rows", "n_maps"), [(1, 1), (1, 31), (4, 8), (1, 70), (14, 5), (70, 1)])
def test_row_fft_forward(rng, dtype, level, n_rows, n_maps):
    for length in LENGTHS:
        width = max(1, length - rng.integers(3))  # continued by zeros
        all_maps = rng.normal(size=(width, n_rows, n_maps + 3)).astype(dtype)
        F = all_maps[:, :, 2 : 2 + n_maps]  # some maps of many
        y = np.full((length // 2 + 2, 2, n_rows, n_maps), np.nan, dtype)
        _row_fft.transform_rows(F, *row_fft_tables(length, dtype), y[:-1], level)
        y_hat = y[:-1, 0] + 1j * y[:-1, 1].astype(np.float64)
        expected = np.fft.rfft(F.astype(np.float64), length, axis=0)
        assert np.isnan(y[-1]).all(), length  # nothing is written behind the end
        assert error(y_hat, expected) < TOLERANCE[dtype], length


@LEVELS
@DTYPES
@pytest.mark.parametrize(("n_rows", "n_maps"), [(1, 1), (4, 8), (1, 70), (14, 5)])
@pytest.mark.parametrize("nonlinearity", range(3))
def test_row_fft_inverse(rng, dtype, level, n_rows, n_maps, nonlinearity):
    phi = reference.ACTIVATION[strips.NONLINEARITIES[nonlinearity]]
    for length in LENGTHS:
        width = max(1, length - rng.integers(3))  # the rest is not wanted
        y = rng.normal(size=(length // 2 + 1, 2, n_rows, n_maps)).astype(dtype)
        y /= np.sqrt(length)
        all_maps = np.full((width + 1, n_rows, n_maps + 3), np.nan, dtype)
        F = all_maps[:-1, :, 2 : 2 + n_maps]
        _row_fft.inverse_rows(y, *row_fft_tables(length, dtype), nonlinearity, F, level)
        y_hat = y[:, 0] + 1j * y[:, 1].astype(np.float64)
        expected = phi(np.fft.irfft(y_hat, length, axis=0, norm="forward")[:width])
        assert np.abs(F - expected).max() < TOLERANCE[dtype], length
        F[:] = np.nan
        assert np.isnan(all_maps).all(), length  # the other maps are left alone


@LEVELS
@DTYPES
@pytest.mark.parametrize("nonlinearity", range(3))
def test_row_fft_does_not_hide_nan(dtype, level, nonlinearity):
    y = np.zeros((5, 2, 1, 20), dtype)
    y[2, 0, 0, 3] = np.nan
    F = np.empty((8, 1, 20), dtype)
    _row_fft.inverse_rows(y, *row_fft_tables(8, dtype), nonlinearity, F, level)
    assert np.isnan(F[:, 0, 3]).all()


# The correlation of transformed images

SHAPES = [  # frequencies, channels, filter size, rows, maps
    (1, 1, 1, 1, 1),
    (3, 3, 5, 29, 16),
    (2, 3, 55, 13, 32),
    (2, 3, 7, 3, 37),
    (4, 1, 3, 12, 15),
    (2, 5, 3, 17, 8),
    (2, 2, 9, 26, 70),
]


def complex_normal(rng, *shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def windows(x, n_rows, f):
    """(K, R, f, C): the rows that each row of the result sees."""
    return np.stack([x[:, r : r + f] for r in range(n_rows)], axis=1)


def planar(array, dtype):
    """Real parts, then imaginary parts, along a new second axis."""
    return np.ascontiguousarray(np.stack([array.real, array.imag], axis=1), dtype=dtype)


@LEVELS
@DTYPES
@pytest.mark.parametrize("shape", SHAPES)
def test_correlate(rng, dtype, level, shape):
    n_freq, channels, f, n_rows, n = shape
    x = complex_normal(rng, n_freq, 2 + n_rows + f - 1, channels)
    w = complex_normal(rng, n_freq, f, channels, n)
    w_hat = strips.blocks_of_maps(planar(w.reshape(n_freq, -1, n), dtype))
    room = np.full((n_freq, 2, n_rows * n + 5), np.nan, dtype)
    y = room[:, :, : n_rows * n].reshape(n_freq, 2, n_rows, n)
    assert np.shares_memory(y, room)
    _correlation.correlate(planar(x, dtype), w_hat, 2, y, level)
    expected = np.einsum("krfc,kfcn->krn", windows(x[:, 2:], n_rows, f), w.conj())
    assert error(y[:, 0] + 1j * y[:, 1].astype(float), expected) < TOLERANCE[dtype]
    assert np.isnan(room[:, :, n_rows * n :]).all()  # nothing is written behind the end


@LEVELS
@DTYPES
@pytest.mark.parametrize("shape", SHAPES)
def test_correlate_adjoint(rng, dtype, level, shape):
    n_freq, channels, f, n_rows, n = shape
    y = complex_normal(rng, n_freq, n_rows, n)
    w = complex_normal(rng, n_freq, f, channels, n)
    w_hat = strips.blocks_of_maps(planar(w.reshape(n_freq, -1, n), dtype))
    dx = np.full((n_freq, 2, n_rows + f - 1, channels), np.nan, dtype)
    _correlation.correlate_adjoint(planar(y, dtype), w_hat, dx, level)
    expected = np.zeros((n_freq, n_rows + f - 1, channels), complex)
    for r in range(n_rows):
        expected[:, r : r + f] += np.einsum("kfcn,kn->kfc", w, y[:, r])
    assert error(dx[:, 0] + 1j * dx[:, 1].astype(float), expected) < TOLERANCE[dtype]


# The dense products


@LEVELS
@DTYPES
@pytest.mark.parametrize(("n_pixels", "n"), [(1, 1), (7, 5), (300, 33), (1000, 64), (90, 130)])
@pytest.mark.parametrize(("n_lanes", "n_parts"), [(1, 1), (8, 1), (3, 3), (1, 8)])
def test_accumulate_gram(rng, dtype, level, n_pixels, n, n_lanes, n_parts):
    F = rng.normal(size=(n_pixels, n)).astype(dtype)
    width = _products.padded(n, F.itemsize, level)
    assert width >= n
    partial = np.ones((n_lanes, width, width), dtype)  # they are added to
    for t in range(n_lanes * n_parts):
        _products.accumulate_gram(t, t + 1, F, n_parts, partial, level)
    gram = np.triu(partial.astype(np.float64).sum(axis=0)[:n, :n])
    expected = np.triu(F.T.astype(np.float64) @ F + n_lanes)
    assert error(gram, expected) < TOLERANCE[dtype]


@LEVELS
@DTYPES
@pytest.mark.parametrize("nonlinearity", range(3))
@pytest.mark.parametrize(("n_pixels", "n"), [(1, 1), (7, 5), (300, 33), (129, 64)])
def test_backpropagate(rng, dtype, level, nonlinearity, n_pixels, n):
    D = rng.normal(size=(n, n)).astype(dtype)
    D += D.T
    panels = np.empty((_products.padded(n, D.itemsize, level), n), dtype)
    _products.panels(D, panels, level)
    F = rng.normal(size=(n_pixels + 2, n)).astype(dtype)
    result = F.copy()
    _products.backpropagate(1, n_pixels + 1, panels, nonlinearity, result, level)
    slope = [1, F > 0, F * (1 - F)][nonlinearity]
    expected = (F @ D.astype(np.float64)) * slope
    # the largest may be silenced by relu: relative to a typical one
    assert np.abs(result - expected)[1:-1].max() < TOLERANCE[dtype] * (np.abs(expected).max() + 1)
    assert (result[[0, -1]] == F[[0, -1]]).all()  # the others are left alone


# Working memory


def test_aligned_empty():
    for shape in [(0,), (3,), (5, 7, 2)]:
        array = aligned_empty(shape, np.dtype(np.float64))
        assert (array.shape, array.dtype) == (shape, np.float64)
        assert array.ctypes.data % LINE == 0 or array.size == 0


def test_pool_gives_memory_to_one_at_a_time():
    pool = Pool(1 << 20)
    with pool.empty((10, 10), np.float32) as a, pool.empty((10, 10), np.float32) as b:
        assert not np.shares_memory(a, b)
        address = a.ctypes.data, b.ctypes.data
    with pool.empty((100,), np.float32) as again:
        assert again.ctypes.data in address


def test_pool_keeps_no_more_than_its_limit():
    pool = Pool(1000)
    with (
        pool.empty((100,), np.uint8),
        pool.empty((2000,), np.uint8),
        pool.empty((950,), np.uint8),
    ):
        assert pool.idle_bytes == 0
    assert pool.idle_bytes == 950  # the last to be taken is the first to come back


def test_pool_does_not_give_much_more_than_asked():
    pool = Pool(1 << 24)
    with pool.empty((1 << 23,), np.uint8):
        pass
    with pool.empty((1 << 21,), np.uint8):
        assert pool.idle_bytes == 1 << 23


def test_pool_prefers_the_smallest_that_fits():
    pool = Pool(1 << 20)
    with pool.empty((900,), np.uint8), pool.empty((500,), np.uint8), pool.empty((700,), np.uint8):
        pass
    with pool.empty((450,), np.uint8):
        assert pool.idle_bytes == 1600
    with pool.empty((600,), np.uint8):
        assert pool.idle_bytes == 1400


def test_pool_lets_memory_go_after_an_error():
    pool = Pool(1 << 20)
    with pytest.raises(RuntimeError), pool.empty((10,), np.uint8):
        raise RuntimeError
    assert pool.idle_bytes == 0


def test_pool_when_another_thread_was_faster():
    class Race(dict):
        def items(self):
            items = super().items()
            stolen = list(items)
            self.clear()
            return stolen

    pool = Pool(1 << 20)
    with pool.empty((10,), np.uint8):
        pass
    pool._idle = Race(pool._idle)
    with pool.empty((10,), np.uint8) as array:
        assert array.size == 10

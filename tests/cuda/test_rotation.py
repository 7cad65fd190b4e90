"""The all-pairs kernel for GPUs against its definition: in Numba's simulator, or on a GPU."""

from math import prod

import numba
import numpy as np
import pytest

cuda = pytest.importorskip("numba.cuda", reason="needs the cuda extra")
SIMULATED = bool(numba.config.ENABLE_CUDASIM)
if not (SIMULATED or cuda.is_available()):
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 or a CUDA GPU", allow_module_level=True)

from fastvis._kernels.rotation import cuda as kernel  # noqa: E402
from fastvis._kernels.rotation import reference  # noqa: E402

# a tiny problem is a tiny grid
pytestmark = pytest.mark.filterwarnings("ignore:Grid size .* low occupancy")

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}  # of the largest number, as of all kernels
SIZES = [(2, 1), (3, 70), (8, 8), (16, 9), (17, 2), (40, 13)]  # rows, dimensions
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 8 threads, 16 rows and 8 columns, so that few rows make many blocks.

    The simulator takes half a second for a block of the true size; a compiled kernel has that size.
    """
    if SIMULATED:
        patch_blocks(monkeypatch, 2, 4)


def patch_blocks(monkeypatch, nx, ny):
    tile, rows = kernel.M * nx, kernel.M * ny
    values = {"NX": nx, "NY": ny, "TILE": tile, "ROWS": rows, "N_WARPS": nx * ny // tile}
    values |= {"TILE_SHAPE": (tile, rows + tile + 1), "WEIGHTS_SHAPE": (rows, tile + 1)}
    for name, value in values.items():
        monkeypatch.setattr(kernel, name, value)


def mean_distance(x, n_parts=1):
    """Loss and gradient by the launcher, from arrays on the device."""
    n = len(x)
    sums, gradient = np.zeros((n_parts, n, kernel.NX)), np.zeros((n_parts, *x.shape), x.dtype)
    arrays = [cuda.to_device(array) for array in (x, sums, gradient)]
    kernel.launch(*arrays)
    unchanged, sums, gradient = (array.copy_to_host() for array in arrays)
    np.testing.assert_array_equal(unchanged, x)
    n_pairs = n * (n - 1) / 2
    return sums.sum() / 2 / n_pairs, gradient.sum(axis=0) / x.dtype.type(n_pairs)


def assert_as_defined(x, loss, gradient):
    expected, slope = reference.mean_distance(np.asarray(x, np.float64))
    tolerance = TOLERANCE[x.dtype.type]
    assert loss == pytest.approx(expected, rel=tolerance)
    assert (gradient.shape, gradient.dtype) == (x.shape, x.dtype)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=tolerance * np.abs(slope).max())


@dtypes
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.usefixtures("small_blocks")
def test_as_defined(rng, size, dtype):
    x = rng.normal(size=size).astype(dtype)
    assert_as_defined(x, *mean_distance(x))


@dtypes
def test_blocks_of_the_true_size(rng, dtype):
    x = rng.normal(size=(kernel.ROWS + 1, 3)).astype(dtype)
    assert_as_defined(x, *mean_distance(x, 2))


@pytest.mark.parametrize("blocks", [(1, 4), (2, 8), (8, 4)], ids=str)
def test_other_blocks_same_numbers(rng, blocks, monkeypatch):
    if not SIMULATED:
        pytest.skip("a compiled kernel keeps its blocks")
    patch_blocks(monkeypatch, *blocks)
    x = rng.normal(size=(21, 10))
    assert_as_defined(x, *mean_distance(x, 2))


@pytest.mark.parametrize("n_parts", [2, 3, 7])  # 7: some have no rows
@pytest.mark.usefixtures("small_blocks")
def test_parts_of_the_rows(rng, n_parts):
    x = rng.normal(size=(37, 9))
    assert_as_defined(x, *mean_distance(x, n_parts))


@dtypes
@pytest.mark.usefixtures("small_blocks")
def test_rows_that_coincide(rng, dtype):
    x = rng.normal(size=(1, 5)).astype(dtype).repeat(19, axis=0)
    loss, gradient = mean_distance(x)
    assert loss == 0
    assert not gradient.any()
    x[[3, 17]] += 1
    assert_as_defined(x, *mean_distance(x))


@dtypes
@pytest.mark.usefixtures("small_blocks")
def test_rows_that_nearly_coincide(rng, dtype):
    # |x|^2 + |y|^2 - 2 x y would leave nothing of distances of 1e-3 and less around 100
    x = (100 + 1e-3 * rng.normal(size=(19, 11))).astype(dtype)
    x[9] = x[2]
    x[9, 4] = np.nextafter(x[2, 4], dtype(np.inf))
    assert_as_defined(x, *mean_distance(x))


@pytest.mark.usefixtures("small_blocks")
def test_same_bytes_in_every_run(rng):
    x = rng.normal(size=(33, 10)).astype(np.float32)
    loss, gradient = mean_distance(x, 2)
    for _ in range(2):
        again, same = mean_distance(x, 2)
        assert again == loss
        assert same.tobytes() == gradient.tobytes()


def test_shared_memory_that_every_device_has():
    assert 8 * (prod(kernel.TILE_SHAPE) + prod(kernel.WEIGHTS_SHAPE)) <= 48 << 10


@dtypes
@pytest.mark.usefixtures("small_blocks")
def test_tensors(rng, dtype, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    if SIMULATED:  # which knows no array interface: in its place, memory that is shared
        monkeypatch.setattr(kernel, "N_BLOCKS", 5)
        monkeypatch.setattr(cuda, "as_cuda_array", lambda x, sync: x.numpy(), raising=False)
        monkeypatch.setattr(cuda, "external_stream", lambda handle: handle, raising=False)
        device, stream = "cpu", 0
    elif torch.cuda.is_available():
        device, stream = "cuda", torch.cuda.current_stream().cuda_stream
    else:
        pytest.skip("this torch has no CUDA")
    wide = torch.tensor(rng.normal(size=(37, 18)), dtype=getattr(torch, dtype.__name__))
    for x in (wide.to(device)[:, ::2], wide.to(device)[:2].requires_grad_()):
        loss, gradient = kernel.mean_distance(x, stream)
        assert (loss.shape, loss.dtype, loss.device.type) == ((), torch.float64, device)
        assert (gradient.dtype, gradient.device) == (x.dtype, x.device)
        assert not gradient.requires_grad
        assert_as_defined(x.numpy(force=True), loss.item(), gradient.numpy(force=True))

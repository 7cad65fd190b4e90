"""The covariance kernels for GPUs against their definition: in Numba's simulator, or on a GPU."""

import sys

import numba
import numpy as np
import pytest

cuda = pytest.importorskip("numba.cuda", reason="needs the cuda extra")
SIMULATED = bool(numba.config.ENABLE_CUDASIM)
if not (SIMULATED or cuda.is_available()):
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 or a CUDA GPU", allow_module_level=True)

from fastvis._kernels import covariance  # noqa: E402
from fastvis._kernels.covariance import KINDS, reference  # noqa: E402
from fastvis._kernels.covariance import cuda as kernel  # noqa: E402

# a tiny problem is a tiny grid
pytestmark = pytest.mark.filterwarnings("ignore:Grid size .* low occupancy")

TOLERANCE = 1e-12  # of the largest number, as of all kernels
PROGRAMS = {
    **{kind: ((kind,), (0,)) for kind in KINDS},
    "all": (KINDS, (0, 4, -1, 5, -2, 2, 3, -2, -1, 6, -1, 1, -1)),
}
programs = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
SIZES = [(1, 1, 1, 1), (2, 5, 3, 2), (1, 3, 9, 3)]  # batches, points x, points z, dimensions


@pytest.fixture(autouse=True)
def few_threads(monkeypatch):
    """The simulator has a thread for each of the device's, and one that asks them all the time."""
    interval = sys.getswitchinterval()
    if SIMULATED:
        sys.setswitchinterval(1e-5)
        monkeypatch.setattr(kernel, "THREADS", 8)
    yield
    sys.setswitchinterval(interval)


def arrays_of(rng, program, size):
    kinds, ops = program
    n_batches, n, m, d = size
    indices = np.array([KINDS.index(kind) for kind in kinds])
    parameters = rng.uniform(0.5, 1.5, (len(kinds), 1 + 2 * d))
    x, z = rng.normal(size=(n_batches, n, d)), rng.normal(size=(n_batches, m, d))
    return indices, np.array(ops), parameters, x, z


def move(*arrays):
    return [cuda.to_device(np.ascontiguousarray(array)) for array in arrays]


def pairs(kinds, ops, parameters, x, z, same):
    out = move(np.full((len(x), x.shape[1], z.shape[1]), np.nan))
    kernel.launch_pairs(*move(kinds, ops, parameters, x, z), same, *out)
    return out[0].copy_to_host()


def vjp(kinds, ops, parameters, x, z, same, gradient, n_parts, want_parameters=True):
    """By x and parameters."""
    n_batches, n, d = x.shape
    dx = np.zeros((n_parts, d, n_batches * n))
    shape = len(kinds), n_parts * want_parameters, parameters.shape[1], n_batches * n
    arrays = move(kinds, ops, parameters, x, z)
    gradient, dx, d_parameters = move(gradient, dx, np.zeros(shape))
    kernel.launch_vjp(*arrays, same, gradient, dx, d_parameters)
    dx = dx.copy_to_host().sum(0).reshape(d, n_batches, n).transpose(1, 2, 0)
    return dx, d_parameters.copy_to_host().sum((1, 3))


def assert_close(result, expected):
    result, expected = np.asarray(result), np.asarray(expected)
    assert result.shape == expected.shape
    scale = max(np.abs(expected).max(), 1)
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE * scale)


@programs
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_as_defined(rng, program, size):
    arrays = arrays_of(rng, program, size)
    kinds, _, parameters, x, z = arrays
    expected = reference.matrix(*program, parameters, x, z)
    assert_close(pairs(*arrays, False), expected)
    gradient = rng.normal(size=expected.shape)
    dx, dz, d_parameters = reference.matrix_vjp(*program, parameters, x, z, gradient)
    for n_parts in (1, 2):
        by_x, by_parameters = vjp(*arrays, False, gradient, n_parts)
        assert_close(by_x, dx.reshape(x.shape))
        assert_close(by_parameters, d_parameters)
    transposed = gradient.transpose(0, 2, 1)
    by_z, none = vjp(*arrays[:3], z, x, False, transposed, 2, want_parameters=False)
    if len(z) > 1:  # the reference adds up what one batch of z is for all
        assert_close(by_z, dz)
    assert not none.any()


@programs
def test_the_same_points(rng, program):
    kinds, ops, parameters, x, _ = arrays_of(rng, program, (2, 5, 1, 2))
    k = pairs(kinds, ops, parameters, x, x, True)
    np.testing.assert_array_equal(k, k.transpose(0, 2, 1))
    host = covariance.Program(kinds, ops), parameters, x
    assert_close(k, covariance.matrix(*host))
    gradient = rng.normal(size=k.shape)
    dx, _, d_parameters = covariance.matrix_vjp(*host, None, gradient)
    by_x, by_parameters = vjp(kinds, ops, parameters, x, x, True, gradient, 2)
    transposed = gradient.transpose(0, 2, 1)
    by_z, _ = vjp(kinds, ops, parameters, x, x, True, transposed, 1, want_parameters=False)
    assert_close(by_x + by_z, dx)
    assert_close(by_parameters, d_parameters)


@pytest.mark.filterwarnings("ignore:.*overflow encountered:RuntimeWarning")  # of squares
@pytest.mark.parametrize("kind", KINDS[:5])
def test_coincident_and_far_points(kind):
    arrays = [np.array([KINDS.index(kind)]), np.array([0]), np.ones((1, 3))]
    x, z = np.zeros((1, 1, 1)), np.array([[[0.0], [800], [1e160]]])
    k = pairs(*arrays, x, z, False)
    assert k[0, 0, 0] == 1
    assert np.isfinite(k).all()
    if kind != "periodic":
        assert not k[0, 0, 1:].any()
    by_z, by_parameters = vjp(*arrays, z, x, False, np.ones((1, 3, 1)), 1)
    assert by_z[0, 0] == 0
    assert np.isfinite(by_z).all()
    assert np.isfinite(by_parameters).all()


def test_the_largest_program():
    n = (covariance.MOST_OPS + 1) // 2
    ops = np.array([*range(n), *(n - 1) * [covariance.ADD]])
    x = np.zeros((1, 1, 1))
    arrays = np.zeros(n, int), ops, np.ones((n, 3)), x, x
    assert pairs(*arrays, False) == n
    assert_close(vjp(*arrays, False, np.ones((1, 1, 1)), 1)[1][:, 0], np.ones(n))


@pytest.mark.parametrize("z_batches", [None, 1, 2])
def test_tensors(rng, monkeypatch, z_batches):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    if SIMULATED:  # which knows no array interface: in its place, memory that is shared
        monkeypatch.setattr(kernel, "N_THREADS", 20)
        monkeypatch.setattr(cuda, "as_cuda_array", lambda x, sync: x.numpy(), raising=False)
        monkeypatch.setattr(cuda, "external_stream", lambda handle: handle, raising=False)
        device, stream = "cpu", 0
    elif torch.cuda.is_available():
        device, stream = "cuda", torch.cuda.current_stream().cuda_stream
    else:
        pytest.skip("this torch has no CUDA")
    kinds, ops, parameters, x, z = arrays_of(rng, PROGRAMS["all"], (2, 5, 3, 2))
    z = None if z_batches is None else z[:z_batches]
    host = covariance.Program(kinds, ops), parameters, x, z
    expected = covariance.matrix(*host)
    gradient = rng.normal(size=expected.shape)
    given = [None if a is None else torch.as_tensor(a, device=device) for a in host[1:]]
    program = [torch.as_tensor(a, device=device) for a in (kinds, ops)]
    wide = torch.as_tensor(gradient.repeat(2, axis=2), device=device)[:, :, ::2]
    k = kernel.matrix(*program, *given, stream=stream)
    assert k.device.type == device
    assert_close(k.cpu(), expected)
    derivatives = kernel.matrix_vjp(*program, *given, wide, stream=stream)
    again = kernel.matrix_vjp(*program, *given, wide, stream=stream)
    for d, same, e in zip(derivatives, again, covariance.matrix_vjp(*host, gradient)):
        if e is None:
            assert d is None
        else:
            assert d.equal(same)
            assert_close(d.cpu(), e)

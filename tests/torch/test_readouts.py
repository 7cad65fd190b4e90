"""The readout operators against the NumPy functions, finite differences and plain torch."""

import importlib
import sys

import numba
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="fastvis.torch needs the torch extra")

from torch.autograd import gradcheck  # noqa: E402
from torch.library import opcheck  # noqa: E402

import fastvis.readouts  # noqa: E402
from fastvis._kernels.rotation import reference  # noqa: E402
from fastvis.torch import (  # noqa: E402
    cyclic_rotation,
    fourier_rotation,
    mean_distance,
    pairwise_distance_loss,
    von_mises_rotation,
)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])

# of the largest number; both sides round, in other orders
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)

SHAPES = [(5, 3, 8), (4, 1, 7), (3, 2, 2), (2, 4, 1)]
T = 2.5
ROTATIONS = {
    "cyclic": cyclic_rotation,
    "von Mises": lambda readouts, angles: von_mises_rotation(readouts, angles, T),
    "fourier": fourier_rotation,
}
AS_ARRAYS = {
    "cyclic": fastvis.readouts.cyclic_rotation,
    "von Mises": lambda readouts, angles: fastvis.readouts.von_mises_rotation(readouts, angles, T),
    "fourier": fastvis.readouts.fourier_rotation,
}
kinds = pytest.mark.parametrize("kind", ROTATIONS)


def parameter(value, dtype=torch.float64, device="cpu"):
    return torch.tensor(value, dtype=dtype, device=device, requires_grad=True)


@pytest.fixture
def readouts(rng):
    return parameter(rng.normal(size=(5, 3, 8)))


@pytest.fixture
def angles(rng):
    return parameter(rng.uniform(-9, 9, 5))


@pytest.fixture
def temperature():
    return parameter(T)


def assert_close(result, expected, dtype):
    expected = np.asarray(expected)
    error = np.abs(result.numpy(force=True) - expected).max()
    assert error <= TOLERANCE[dtype] * np.abs(expected).max()


# Rotations


@devices
@dtypes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@kinds
def test_rotations_are_those_of_arrays(rng, kind, shape, dtype, device):
    readouts = torch.tensor(rng.normal(size=shape), dtype=dtype, device=device)
    angles = torch.tensor(rng.uniform(-20, 20, shape[0]), dtype=dtype, device=device)
    result = ROTATIONS[kind](readouts, angles)
    assert (result.dtype, result.device) == (dtype, readouts.device)
    assert_close(result, AS_ARRAYS[kind](readouts.cpu().numpy(), angles.cpu().numpy()), dtype)


@kinds
def test_rotations_are_as_defined(readouts, angles, kind):
    r, alpha = readouts.detach().numpy(), angles.detach().numpy()
    expected = {
        "cyclic": lambda: reference.rotate(r, reference.cyclic_weights(alpha, 8)),
        "von Mises": lambda: reference.rotate(r, reference.von_mises_weights(alpha, 8, T)),
        "fourier": lambda: reference.fourier_rotation(r, alpha),
    }[kind]()
    assert_close(ROTATIONS[kind](readouts, angles), expected, torch.float64)


@pytest.mark.parametrize("shift", [-3, 0, 1, 11])
def test_a_whole_bin_is_a_roll(readouts, shift):
    rolled, angle = readouts.roll(-shift, -1), shift * 2 * np.pi / 8
    for result in (
        cyclic_rotation(readouts, angle),
        fourier_rotation(readouts, angle),
        von_mises_rotation(readouts, angle, 1e5),
    ):
        torch.testing.assert_close(result, rolled, rtol=0, atol=1e-12)


@kinds
def test_angles_in_any_form(readouts, kind):
    rotate = ROTATIONS[kind]
    expected = rotate(readouts, torch.full((5,), 2.0, dtype=torch.float64))
    for angle in (2, 2.0, np.float64(2), torch.tensor(2), torch.tensor(2.0), torch.full((5,), 2)):
        assert rotate(readouts, angle).equal(expected)
    # many turns, which float32 would not count
    turned = rotate(readouts.float(), torch.tensor(2 + 2e6 * np.pi, dtype=torch.float64))
    assert_close(turned, expected.detach(), torch.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@kinds
def test_gradcheck_of_rotations(rng, kind, shape):
    readouts = parameter(rng.normal(size=shape))
    assert gradcheck(ROTATIONS[kind], (readouts, parameter(rng.uniform(-9, 9, shape[0]))))
    assert gradcheck(ROTATIONS[kind], (readouts, parameter(0.7)))


@pytest.mark.parametrize("value", [0.01, 0.8, 40.0])
def test_gradcheck_by_the_temperature(readouts, angles, value):
    assert gradcheck(von_mises_rotation, (readouts, angles, parameter(value)))


def test_a_temperature_of_another_dtype(readouts, angles):
    temperature = parameter(T, torch.float32)
    rotated = von_mises_rotation(readouts, angles, temperature)
    assert rotated.equal(von_mises_rotation(readouts, angles, T))
    rotated.square().sum().backward()
    assert temperature.grad.dtype == torch.float32


# The mean distance


@devices
@dtypes
@pytest.mark.parametrize("size", [(2, 3), (5, 1), (37, 13), (150, 40)], ids=str)
def test_mean_distance_is_as_defined(rng, size, dtype, device):
    x = parameter(rng.normal(size=size), dtype, device)
    loss, slope = reference.mean_distance(x.detach().cpu().double().numpy())
    result = mean_distance(x)
    assert (result.shape, result.dtype, result.device) == ((), dtype, x.device)
    (3 * result).backward()
    assert_close(result, loss, dtype)
    assert_close(x.grad, 3 * slope, dtype)


def test_mean_distance_agrees_with_autograd_through_pdist(rng):
    x = parameter(rng.normal(size=(20, 4)))
    losses = mean_distance(x), torch.pdist(x).mean()
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*[torch.autograd.grad(loss, x)[0] for loss in losses])


@devices
def test_gradcheck_of_the_mean_distance(rng, device):
    assert gradcheck(mean_distance, parameter(rng.normal(size=(9, 4)), device=device))


@devices
def test_rows_that_coincide(rng, device):
    row = torch.tensor(rng.normal(size=4), device=device)
    x = row.expand(7, 4).clone().requires_grad_()
    loss = mean_distance(x)
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()
    x = torch.cat([x.detach(), x.detach()[:1] + 1]).requires_grad_()
    mean_distance(x).backward()
    assert_close(x.grad, reference.mean_distance(x.detach().cpu().numpy())[1], torch.float64)


@devices
def test_any_strides(rng, device):
    x = torch.tensor(rng.normal(size=(9, 6)), device=device)
    for other in (x.T, x[:, ::2], x[::2], x[:1].expand(4, 6), x.flip(0).T):
        other = other.detach().requires_grad_()
        copy = other.detach().contiguous().requires_grad_()
        losses = mean_distance(other), mean_distance(copy)
        assert losses[0].equal(losses[1])
        grads = [torch.autograd.grad(loss, y)[0] for loss, y in zip(losses, (other, copy))]
        assert grads[0].equal(grads[1])


def test_one_pass_and_no_more(rng, monkeypatch):
    module, calls = importlib.import_module("fastvis.torch.readouts").rotation, []
    original = module.mean_distance
    monkeypatch.setattr(module, "mean_distance", lambda x: calls.append(1) or original(x))
    mean_distance(parameter(rng.normal(size=(5, 4)))).backward()
    assert len(calls) == 1


@devices
def test_opcheck(rng, device):
    op = torch.ops.fastvis.mean_distance
    x = parameter(rng.normal(size=(5, 6)), device=device)
    opcheck(op, (x,))
    opcheck(op, (x.detach(),))
    opcheck(op, (x.detach().T.requires_grad_(),))


def test_cuda_without_the_extra(monkeypatch):
    # cuda.py is imported for CUDA tensors, and only then
    monkeypatch.delattr(numba, "cuda", raising=False)
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    monkeypatch.delitem(sys.modules, "fastvis._kernels.rotation.cuda", raising=False)
    with pytest.raises(ImportError, match=r"numba-cuda.*pip install fastvis\[cuda\]"):
        importlib.import_module("fastvis._kernels.rotation.cuda")


# The loss


@devices
@dtypes
@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("shape", [(9, 3, 8), (2, 1, 2), (70, 5, 7)], ids=str)
def test_the_loss_is_that_of_arrays(rng, shape, beta, dtype, device):
    readouts = torch.tensor(rng.normal(size=shape), dtype=dtype, device=device)
    angles = parameter(rng.uniform(-9, 9, shape[0]), dtype, device)
    temperature = parameter(T, dtype, device)
    loss = pairwise_distance_loss(readouts, angles, temperature, beta=beta)
    assert (loss.shape, loss.dtype, loss.device) == ((), dtype, readouts.device)
    loss.backward()
    expected, (d_angles, d_temperature) = fastvis.readouts.pairwise_distance_loss(
        readouts.cpu().double().numpy(), angles.detach().cpu().double().numpy(), T, beta=beta
    )
    assert_close(loss, expected, dtype)
    assert_close(angles.grad, d_angles, dtype)
    assert_close(temperature.grad, d_temperature, dtype)


@devices
@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_gradcheck_of_the_loss(readouts, angles, temperature, beta, device):
    inputs = [x.detach().to(device).requires_grad_() for x in (readouts, angles, temperature)]
    assert gradcheck(lambda *args: pairwise_distance_loss(*args, beta=beta), inputs)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_readouts_that_are_equal_or_the_same_everywhere(rng, dtype):
    # no distance, no error of reconstruction: no NaN from roots of zero
    constant = np.broadcast_to(rng.normal(size=(1, 3, 1)), (6, 3, 8))
    for value in (constant, np.zeros((6, 3, 8))):
        readouts, angles = parameter(value, dtype), parameter(np.zeros(6), dtype)
        temperature = parameter(3.0, dtype)
        loss = pairwise_distance_loss(readouts, angles, temperature, beta=1)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=TOLERANCE[dtype])
        for x in (readouts, angles, temperature):
            assert x.grad.isfinite().all()
        assert angles.grad.abs().max() < TOLERANCE[dtype]
    assert not readouts.grad.any()  # of zeros, nothing rounds


def test_aligns_what_was_turned(rng):
    truth, angles = rng.uniform(0, 2 * np.pi, 8), parameter(np.zeros(8))
    one = torch.tensor(rng.normal(size=(1, 4, 8))).expand(8, 4, 8)
    readouts = fourier_rotation(one - one @ one.new_ones(8, 8) / 8, torch.tensor(truth))
    optimizer = torch.optim.Adam([angles], lr=0.1)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = pairwise_distance_loss(readouts, angles, 4.0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    turned = (angles.detach().numpy() + truth) % (2 * np.pi)  # the same for all
    assert abs(np.exp(1j * turned).mean()) > 0.99


# Modes of torch


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(readouts, angles, temperature, mode):
    expected = pairwise_distance_loss(readouts, angles, temperature, beta=0.5)
    with mode():
        loss = pairwise_distance_loss(readouts, angles, temperature, beta=0.5)
    assert not loss.requires_grad
    assert loss.equal(expected.detach())


def test_autocast_does_not_reduce_the_precision(readouts, angles):
    inputs = [x.detach().float() for x in (readouts, angles)]
    expected = pairwise_distance_loss(*inputs, T, beta=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pairwise_distance_loss(*inputs, T, beta=0.5).equal(expected)


def test_compile(readouts, angles, temperature):
    torch._dynamo.reset()

    def training_loss(readouts, angles, temperature):
        aligned = fourier_rotation(cyclic_rotation(readouts, angles), 0.3)
        loss = pairwise_distance_loss(aligned, angles, temperature, beta=0.5)
        return loss + pairwise_distance_loss(readouts, angles, 3.0)

    compiled = torch.compile(training_loss, fullgraph=True, backend="aot_eager")
    inputs = readouts, angles, temperature
    fewer = readouts[:4], angles[:4], temperature  # other neurons must not get the first's graph
    for x in (inputs, [x.detach().requires_grad_() for x in fewer]):
        losses = compiled(*x), training_loss(*x)
        torch.testing.assert_close(*losses)
        torch.testing.assert_close(*[torch.autograd.grad(loss, x) for loss in losses])
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), training_loss(*inputs))


def test_second_and_forward_derivatives_are_refused(readouts, angles):
    def loss(angles):
        return pairwise_distance_loss(readouts, angles, T)

    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(loss(angles), angles, create_graph=True)
    with pytest.raises(RuntimeError, match="no forward-mode derivative"):
        torch.func.jvp(loss, (angles.detach(),), (torch.ones(5, dtype=torch.float64),))


@pytest.mark.parametrize("transform", ["grad", "vjp", "jacrev", "hessian"])
def test_derivatives_by_torch_func_are_refused(readouts, angles, transform):
    transform = getattr(torch.func, transform)
    for function, x in (
        (mean_distance, readouts.detach().flatten(1)),
        (lambda a: pairwise_distance_loss(readouts, a, T), angles.detach()),
    ):
        with pytest.raises(RuntimeError, match="cannot be differentiated by torch.func; use back"):
            transform(function, x) if transform is torch.func.vjp else transform(function)(x)


@pytest.mark.parametrize("in_dim", [0, 1])
def test_vmap_goes_one_by_one(rng, capfd, in_dim):
    x = parameter(rng.normal(size=(3, 6, 4)))
    losses = torch.func.vmap(mean_distance, in_dims=in_dim)(x)
    expected = torch.stack([mean_distance(rows) for rows in x.unbind(in_dim)])
    assert losses.equal(expected)
    weights = torch.arange(1.0, len(losses) + 1, dtype=losses.dtype)
    grads = [torch.autograd.grad(weights @ loss, x)[0] for loss in (losses, expected)]
    assert grads[0].equal(grads[1])
    assert not capfd.readouterr().err  # torch warns of a missing rule there


# Errors

R = torch.ones(3, 2, 8)
ANGLES = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda r: r.numpy(), TypeError, "readouts must be a torch.Tensor.*got ndarray"),
        (lambda r: r.half(), TypeError, "float32 or float64; got torch.float16"),
        (lambda r: r.int(), TypeError, r"got torch.int32. Convert with readouts.float\(\)"),
        (lambda r: r.flatten(1), ValueError, r"3 dimensions \(n_neurons.*got shape \(3, 16\)"),
        (lambda r: r[:, :0], ValueError, r"readouts must not be empty; got shape \(3, 0, 8\)"),
        (lambda r: r / 0, ValueError, r"readouts must be finite; got 48 value\(s\)"),
        (lambda r: r.to_sparse(), ValueError, r"must be dense; .*with readouts.to_dense\(\)"),
    ],
)
@kinds
def test_readouts_that_are_refused(kind, change, error, message):
    with pytest.raises(error, match=message):
        ROTATIONS[kind](change(R), ANGLES)
    with pytest.raises(error, match=message):
        pairwise_distance_loss(change(R), ANGLES, T)


@pytest.mark.parametrize(
    ("angles", "error", "message"),
    [
        ([0.0] * 3, TypeError, "angles must be a real tensor .* or a number; got list"),
        (1j, TypeError, "angles must be a real tensor .* or a number; got complex"),
        (ANGLES + 1j, TypeError, "angles must be a real tensor .*got torch.complex64"),
        (torch.zeros(2), ValueError, r"each of 3 neuron\(s\); got shape \(2,\)"),
        (torch.zeros(3, 1), ValueError, r"each of 3 neuron\(s\); got shape \(3, 1\)"),
        (ANGLES / 0, ValueError, r"angles must be finite; got 3 value\(s\)"),
        (float("inf"), ValueError, r"angles must be finite; got 1 value\(s\)"),
        (ANGLES.to("meta"), ValueError, "device of readouts, cpu; got meta"),
    ],
)
@kinds
def test_angles_that_are_refused(kind, angles, error, message):
    with pytest.raises(error, match=message):
        ROTATIONS[kind](R, angles)
    with pytest.raises(error, match=message):
        pairwise_distance_loss(R, angles, T)


@pytest.mark.parametrize(
    ("temperature", "error", "message"),
    [
        (-1, ValueError, "temperature must be a finite number >.*got -1"),
        (torch.tensor(-1.0), ValueError, "temperature must be a finite number >.*got -1"),
        (torch.tensor(np.nan), ValueError, "temperature must be a finite number >.*got nan"),
        ("warm", TypeError, "temperature must be a finite number >.*got 'warm'"),
        (torch.ones(1), TypeError, r"without dimensions; got torch.float32 of shape \(1,\)"),
        (torch.tensor(1), TypeError, "a tensor of floats without dimensions; got torch.int64"),
    ],
)
def test_temperatures_that_are_refused(temperature, error, message):
    with pytest.raises(error, match=message):
        von_mises_rotation(R, ANGLES, temperature)
    with pytest.raises(error, match=message):
        pairwise_distance_loss(R, ANGLES, temperature)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pairwise_distance_loss(R, ANGLES, 0), ValueError, "temperature must be .* > 0"),
        (lambda: pairwise_distance_loss(R, ANGLES, 1, beta=-1), ValueError, "beta must be a fin"),
        (lambda: pairwise_distance_loss(R[:1], 0, 1), ValueError, "at least 2 neurons and 2 orie"),
        (lambda: pairwise_distance_loss(R[..., :1], 0, 1), ValueError, "at least 2 neurons and 2"),
        (lambda: mean_distance(np.ones((3, 2))), TypeError, "x must be a torch.Tensor"),
        (lambda: mean_distance(R), ValueError, r"2 dimensions \(n_rows, n_dims\); got shape"),
        (lambda: mean_distance(R[0].int()), TypeError, "x must be float32 or float64"),
        (lambda: mean_distance(R[0].to_sparse()), ValueError, "x must be dense; got layout"),
        (lambda: mean_distance(R[0, :1]), ValueError, r"at least 2 rows .*got shape \(1, 8\)"),
        (lambda: mean_distance(R[0, :, :0]), ValueError, "x must not be empty"),
        (lambda: mean_distance(R[0] / 0), ValueError, r"x must be finite; got 16 value\(s\)"),
        (lambda: mean_distance(R[0].to("meta")), ValueError, "CPU or a CUDA device; got meta"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()

"""The covariance operators against the NumPy functions, finite differences and plain torch."""

import importlib
import sys

import numba
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="fastvis.torch needs the torch extra")

from torch.autograd import gradcheck  # noqa: E402
from torch.library import opcheck  # noqa: E402

from fastvis.gp import Linear, Matern, Periodic, SquaredExponential, White  # noqa: E402
from fastvis.torch import covariance, covariance_diag  # noqa: E402

module = importlib.import_module("fastvis.torch.covariance")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])

# of the largest number; both sides round, in other orders
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)

COVARIANCES = {
    "squared exponential": SquaredExponential(1.3, [0.7, 1.2]),
    "periodic": Periodic(0.8, 1.1, [2.0, 3.0]),
    "Matern": Matern(1.5, 0.6, 1.4),
    "white": White(0.3),
    "all": (SquaredExponential(1.3, [0.7, 1.2]) + Linear(1.2, 0.8)) * Periodic(0.8, 1.1, [2.0, 3.0])
    + Matern(2.5) * Matern(0.5, 0.7)
    + White(0.3) * Linear(0.5),
}
covariances = pytest.mark.parametrize("k", COVARIANCES.values(), ids=COVARIANCES)
K = COVARIANCES["all"]


def parameter(value, dtype=torch.float64, device="cpu"):
    return torch.tensor(value, dtype=dtype, device=device, requires_grad=True)


@pytest.fixture
def x(rng):
    return parameter(rng.normal(size=(5, 2)))


@pytest.fixture
def z(rng):
    return parameter(rng.normal(size=(4, 2)))


@pytest.fixture
def theta():
    return parameter(K.theta)


def assert_close(result, expected, dtype=torch.float64):
    expected = np.asarray(expected)
    assert result.shape == expected.shape
    error = np.abs(result.numpy(force=True) - expected).max()
    assert error <= TOLERANCE[dtype] * max(np.abs(expected).max(), 1)


# Values and derivatives


@devices
@dtypes
@covariances
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_as_of_arrays(rng, k, batch, dtype, device):
    x = parameter(rng.normal(size=(*batch, 5, 2)), dtype, device)
    for z in (parameter(rng.normal(size=(*batch, 4, 2)), dtype, device), None):
        for theta in (None, parameter(k.theta + 0.3, dtype, device)):
            expected_k = k if theta is None else k.with_theta(theta.numpy(force=True))
            arrays = [None if t is None else t.numpy(force=True).astype(float) for t in (x, z)]
            result = covariance(k, x, z, theta=theta)
            assert (result.dtype, result.device) == (dtype, x.device)
            assert_close(result, expected_k(*arrays), dtype)
            gradient = torch.tensor(rng.normal(size=result.shape), dtype=dtype, device=device)
            given = [t for t in (x, z, theta) if t is not None]
            results = torch.autograd.grad(result, given, gradient, materialize_grads=True)
            expected = expected_k.gradients(*arrays, gradient.numpy(force=True))
            expected = [e for e, t in zip(expected, (x, z, theta)) if t is not None]
            for r, e, t in zip(results, expected, given):
                assert (r.dtype, r.device) == (t.dtype, t.device)
                assert_close(r, e, dtype)


@devices
@dtypes
@covariances
def test_the_diagonal_as_of_arrays(rng, k, dtype, device):
    x = parameter(rng.normal(size=(3, 5, 2)), dtype, device)
    theta = parameter(k.theta - 0.2, device=device)
    expected_k, array = k.with_theta(k.theta - 0.2), x.numpy(force=True).astype(float)
    result = covariance_diag(k, x, theta)
    assert (result.dtype, result.device) == (dtype, x.device)
    assert_close(result, expected_k.diag(array), dtype)
    assert_close(covariance_diag(k, x), k.diag(array), dtype)
    gradient = torch.tensor(rng.normal(size=(3, 5)), dtype=dtype, device=device)
    results = torch.autograd.grad(result, (x, theta), gradient, allow_unused=True)
    expected = expected_k.diag_gradients(array, gradient.numpy(force=True))
    for r, e in zip(results, expected):
        assert_close(torch.zeros(e.shape) if r is None else r, e, dtype)


@devices
@covariances
def test_gradcheck(rng, k, device):
    x = parameter(rng.normal(size=(2, 3, 2)), device=device)
    z = parameter(rng.normal(size=(4, 2)), device=device)
    theta = parameter(k.theta, device=device)
    assert gradcheck(lambda *args: covariance(k, *args), (x, z, theta))
    assert gradcheck(lambda x, theta: covariance(k, x, theta=theta), (x, theta))
    assert gradcheck(lambda x, theta: covariance_diag(k, x, theta), (x, theta))


def test_agrees_with_autograd(x, z):
    theta = parameter(np.log([1.3, 0.7, 1.2]))
    v, l = theta[0].exp(), theta[1:].exp()
    plain = v * torch.exp(-((x[:, None] - z) / l).square().sum(-1) / 2)
    k = covariance(SquaredExponential(lengthscale=[1.0, 1.0]), x, z, theta)
    torch.testing.assert_close(k, plain)
    weights = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4)
    grads = [torch.autograd.grad((weights * y).sum(), (x, z, theta)) for y in (k, plain)]
    torch.testing.assert_close(*grads)


def test_only_some_derivatives(x, z, theta):
    everything = torch.autograd.grad(covariance(K, x, z, theta).sum(), (x, z, theta))
    for i, t in enumerate((x, z, theta)):
        inputs = [a.detach() for a in (x, z, theta)]
        inputs[i] = t
        (alone,) = torch.autograd.grad(covariance(K, *inputs).sum(), t)
        assert alone.equal(everything[i])


def test_one_dimension_and_strides(rng):
    k = Periodic() + White()
    x, z = torch.tensor(rng.normal(size=9)), torch.tensor(rng.normal(size=4))
    assert covariance(k, x, z).equal(covariance(k, x[:, None], z[:, None]))
    wide = torch.tensor(rng.normal(size=(6, 8)))
    for points in (wide.T, wide[:, ::2], wide[:1].expand(5, 8)):
        assert covariance(k, points).equal(covariance(k, points.contiguous()))
    assert covariance(k, x, theta=torch.tensor(k.theta).repeat_interleave(2)[::2]).equal(
        covariance(k, x)
    )


def test_symmetric_to_the_last_bit(rng):
    k = covariance(K, torch.tensor(rng.normal(size=(2, 70, 2))))
    assert k.equal(k.mT)


def test_learns_the_hyperparameters():
    # the likelihood expected of a process is highest at its own
    truth = SquaredExponential(1.0, 0.5) + White(0.01)
    x = torch.linspace(0, 4, 50, dtype=torch.float64)
    k_true = covariance(truth, x)
    theta = parameter(truth.theta + np.array([0.5, 1.0, 1.0]))
    optimizer = torch.optim.LBFGS([theta], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        factor = torch.linalg.cholesky(covariance(truth, x, theta=theta))
        fit = torch.cholesky_solve(k_true, factor).trace() / 2
        result = fit + factor.diagonal().log().sum()
        result.backward()
        return result

    optimizer.step(loss)
    np.testing.assert_allclose(theta.detach(), truth.theta, atol=1e-4)


# The operators


@devices
def test_opcheck(x, z, theta, device):
    x, z, theta = (t.detach().to(device).requires_grad_() for t in (x, z, theta))
    program, parameters = module._parameters(K, x[None], theta)
    program = torch.tensor(program)
    parameters = parameters.detach().requires_grad_()
    for other in (z[None].detach().requires_grad_(), None):
        arguments = x[None].detach().requires_grad_(), other, parameters, program
        opcheck(torch.ops.fastvis.covariance, arguments)
        gradient = torch.ones(1, 5, 5 if other is None else 4, dtype=torch.float64, device=device)
        detached = [None if t is None else t.detach() for t in arguments]
        opcheck(torch.ops.fastvis.covariance_vjp, (*detached, gradient))


def test_cuda_tensors_go_to_the_twin(x, z, monkeypatch):
    calls = []

    class Moved:
        is_cuda = True

    monkeypatch.setattr(module, "_on_gpu", lambda name, *args: calls.append(name) or (1, None, 2))
    monkeypatch.setattr(module, "check_finite", lambda *args: None)
    module._covariance._init_fn(Moved(), None, None, None)
    assert calls == ["matrix"]


def test_cuda_without_the_extra(monkeypatch):
    # cuda.py is imported for CUDA tensors, and only then
    monkeypatch.delattr(numba, "cuda", raising=False)
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    monkeypatch.delitem(sys.modules, "fastvis._kernels.covariance.cuda", raising=False)
    with pytest.raises(ImportError, match=r"numba-cuda.*pip install fastvis\[cuda\]"):
        importlib.import_module("fastvis._kernels.covariance.cuda")


# Modes of torch


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(x, z, mode):
    expected = covariance(K, x, z)
    with mode():
        result = covariance(K, x, z)
    assert not result.requires_grad
    assert result.equal(expected.detach())


def test_autocast_does_not_reduce_the_precision(x, theta):
    x = x.detach().float()
    expected = covariance(K, x, theta=theta.detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert covariance(K, x, theta=theta.detach()).equal(expected)


def test_compile(x, z, theta):
    torch._dynamo.reset()

    def loss(x, z, theta):
        return covariance(K, x, z, theta).sum() + covariance(K, x, theta=theta).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    fewer = x.detach()[:3].requires_grad_(), z, theta
    for inputs in ((x, z, theta), fewer):
        losses = compiled(*inputs), loss(*inputs)
        torch.testing.assert_close(*losses)
        torch.testing.assert_close(*[torch.autograd.grad(y, inputs) for y in losses])
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, z, theta), loss(x, z, theta))


def test_compile_the_diagonal(x, theta):
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, theta: covariance_diag(K, x, theta), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(x, theta), covariance_diag(K, x, theta))


def test_second_and_forward_derivatives_are_refused(x, theta):
    loss = covariance(K, x, theta=theta).sum()
    with pytest.raises(RuntimeError, match="covariance has first derivatives only"):
        torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="no forward-mode derivative"):
        torch.func.jvp(lambda x: covariance(K, x), (x.detach(),), (torch.ones_like(x),))
    with pytest.raises(RuntimeError, match="no forward-mode derivative"):
        torch.func.jvp(
            lambda theta: covariance(K, x.detach(), theta=theta),
            (theta.detach(),),
            (torch.ones_like(theta),),
        )
    with pytest.raises(RuntimeError, match="cannot be differentiated by torch.func; use backward"):
        torch.func.grad(lambda x: covariance(K, x).sum())(x.detach())


# Errors

X = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("k", X), TypeError, "kernel must be a covariance of fastvis.gp; got str"),
        ((White(), X.numpy()), TypeError, "x must be a torch.Tensor.*got ndarray.*use fastvis.gp"),
        ((White(), X.half()), TypeError, "x must be float32 or float64; got torch.float16"),
        ((White(), X.to_sparse()), ValueError, "x must be dense; .*with x.to_dense"),
        ((White(), X[0, 0]), ValueError, r"x must be points.*got shape \(\)"),
        ((White(), X[:0]), ValueError, r"x must be points.*got shape \(0, 2\)"),
        ((White(), X / 0), ValueError, r"x must be finite; got 6 value\(s\)"),
        ((White(), X.to("meta")), ValueError, "x must be on the CPU or a CUDA device; got meta"),
        ((K, X[:, :1]), ValueError, r"x must have 2 dimension\(s\), as lengthscale of Sq"),
    ],
)
def test_arguments_that_are_refused(arguments, error, message):
    for function in (covariance, covariance_diag):
        with pytest.raises(error, match=message):
            function(*arguments)


@pytest.mark.parametrize(
    ("z", "error", "message"),
    [
        (X.numpy(), TypeError, "z must be a torch.Tensor"),
        (X[:, :1], ValueError, r"z must have points of 2 dimension\(s\), as x; got shape \(3, 1\)"),
        (X[None], ValueError, r"z must have the batch axes of x, \(\), or none; got shape"),
        (X / 0, ValueError, "z must be finite"),
    ],
)
def test_other_points_that_are_refused(z, error, message):
    with pytest.raises(error, match=message):
        covariance(K, X, z)


@pytest.mark.parametrize(
    ("theta", "error", "message"),
    [
        ([0.0], TypeError, r"theta must be a torch.Tensor \(n_theta,\); got list"),
        (torch.zeros(1, dtype=torch.int), TypeError, "theta must be float32 or float64"),
        (torch.zeros(2), ValueError, r"for each of 1 hyperparameter\(s\); got shape \(2,\)"),
        (torch.zeros(1, 1), ValueError, r"for each of 1 hyperparameter\(s\); got shape \(1, 1\)"),
        (torch.zeros(1, device="meta"), ValueError, "theta must be on the device of x, cpu"),
        (torch.tensor([np.nan]), ValueError, "exponentials of theta must be finite"),
        (torch.tensor([1e4]), ValueError, "exponentials of theta must be finite"),
    ],
)
def test_hyperparameters_that_are_refused(theta, error, message):
    for function in (covariance, covariance_diag):
        with pytest.raises(error, match=message):
            function(White(), X, theta=theta)

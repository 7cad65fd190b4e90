"""Covariance matrices of Gaussian processes, differentiable by everything; imports torch.

Two operators of the torch library, the NumPy kernels for CPU tensors and
``_kernels/covariance/cuda.py`` for CUDA tensors, in float64::

    covariance(x, z or None, parameters, program) -> K      backward: covariance_vjp

Parameters are what kernels take: ``p exp((theta - theta_0) @ S)``, with p and theta_0 those of the
covariance that is given, and S of -1, 0 and 1. ``program`` has its kinds, then its operations.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from .._kernels import covariance as kernels
from ..gp.covariances import Covariance
from ._tensors import check_device, check_finite, check_same_device, check_tensor


def covariance(kernel, x, z=None, theta=None):
    """Covariances of points, differentiable by the points and the hyperparameters.

    Parameters
    ----------
    kernel : fastvis.gp.Covariance
        `fastvis.gp.SquaredExponential`, sums and products...
    x : Tensor, (..., n, D); or (n,), for D = 1
        float32 or float64, on the CPU or a CUDA device.
    z : Tensor, (..., m, D) or (m, D); or (m,), for D = 1; optional
        Other points: of each batch, or the same for all batches. By default the points of ``x``:
        then the matrix is symmetric, and `fastvis.gp.White` adds to its diagonal.
    theta : Tensor, (n_theta,), optional
        Natural logarithms of hyperparameters in the order of ``kernel.hyperparameters``, in place
        of ``kernel.theta``. Make it a parameter to learn them.

    Returns
    -------
    Tensor, (..., n, m)
        Of the dtype and device of ``x``, computed in float64.

    Raises
    ------
    TypeError
        No covariance of `fastvis.gp`, no tensors of float32 or float64.
    ValueError
        Wrong shapes, a sparse layout, no points, another device, values that are not finite.
    ImportError
        For CUDA tensors without the extra ``cuda``.
    RuntimeError
        When a second derivative (``create_graph=True``), a forward-mode one, or one by `torch.func`
        is asked for.

    Notes
    -----
    Where two points coincide, the derivatives of ``Matern(0.5)`` by them are taken for zero. The
    same numbers in every run. autocast does not apply. Within `torch.compile` the covariance is a
    single node of the graph, and ``kernel`` a constant: learn by ``theta``.

    Examples
    --------
    >>> import torch
    >>> from fastvis.gp import SquaredExponential, White
    >>> from fastvis.torch import covariance
    >>> kernel = SquaredExponential(lengthscale=2.0) + White(0.1)
    >>> theta = torch.tensor(kernel.theta, requires_grad=True)
    >>> k = covariance(kernel, torch.tensor([0.0, 2.0]), theta=theta)
    >>> k.detach()
    tensor([[1.1000, 0.6065],
            [0.6065, 1.1000]])
    >>> k.logdet().backward()
    >>> theta.grad
    tensor([ 1.7388, -0.8737,  0.2612], dtype=torch.float64)
    """
    _check_kernel(kernel)
    points, batch = _points(x, "x")
    other = None if z is None else _other_points(z, x, points, batch)
    program, parameters = _parameters(kernel, points, theta)
    out = _call(points, other, parameters, torch.tensor(program, dtype=torch.int64))
    return out.reshape(*batch, *out.shape[1:]).to(x.dtype)


def covariance_diag(kernel, x, theta=None):
    """Variances of points, the diagonal of ``covariance(kernel, x)``, without the matrix.

    Parameters
    ----------
    kernel, x, theta
        As `covariance`.

    Returns
    -------
    Tensor, (..., n)
        Of the dtype and device of ``x``, computed in float64.

    Raises
    ------
    TypeError, ValueError
        As `covariance`.

    Notes
    -----
    Plain torch operations, with all derivatives.

    Examples
    --------
    >>> import torch
    >>> from fastvis.gp import Linear, White
    >>> from fastvis.torch import covariance_diag
    >>> covariance_diag(Linear(2.0) + White(0.5), torch.tensor([0.0, 1.0, 3.0]))
    tensor([ 0.5000,  2.5000, 18.5000])
    """
    _check_kernel(kernel)
    points, batch = _points(x, "x")
    if not torch.compiler.is_compiling():
        check_finite(points, "x")
    program, parameters = _parameters(kernel, points, theta)
    if not torch.compiler.is_compiling():
        check_finite(parameters, "exponentials of theta")
    n_leaves, n_inputs = len(parameters), points.shape[2]
    stack = []
    for op in program[n_leaves:]:
        if op < 0:
            b, a = stack.pop(), stack.pop()
            stack.append(a + b if op == kernels.ADD else a * b)
        elif kernels.KINDS[program[op]] == "linear":
            scaled = points * parameters[op, 1 : 1 + n_inputs]
            stack.append(parameters[op, 0] * scaled.square().sum(-1))
        else:
            stack.append(parameters[op, 0].expand(points.shape[:2]))
    return stack.pop().reshape(*batch, points.shape[1]).to(x.dtype)


# The operator


@torch.library.custom_op("fastvis::covariance", mutates_args=())
def _covariance(x: Tensor, z: Tensor | None, parameters: Tensor, program: Tensor) -> Tensor:
    check_finite(x, "x")
    if z is not None:
        check_finite(z, "z")
    check_finite(parameters, "exponentials of theta")
    if x.is_cuda:
        return _on_gpu("matrix", x, z, parameters, program)
    k, parameters = _arguments(parameters, program)
    return torch.from_numpy(kernels.matrix(k, parameters, *_arrays(x, z)))


@_covariance.register_fake
def _(x, z, parameters, program):
    return x.new_empty(x.shape[0], x.shape[1], (x if z is None else z).shape[1])


@torch.library.custom_op("fastvis::covariance_vjp", mutates_args=())
def _covariance_vjp(
    x: Tensor, z: Tensor | None, parameters: Tensor, program: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    if x.is_cuda:
        dx, dz, d_parameters = _on_gpu("matrix_vjp", x, z, parameters, program, gradient)
        return dx, x.new_empty(0) if dz is None else dz, d_parameters
    k, parameters = _arguments(parameters, program)
    dx, dz, d_parameters = kernels.matrix_vjp(k, parameters, *_arrays(x, z, gradient))
    dz = np.empty(0) if dz is None else dz
    return tuple(map(torch.from_numpy, (dx, dz, d_parameters)))


@_covariance_vjp.register_fake
def _(x, z, parameters, program, gradient):
    dz = x.new_empty(0) if z is None else z.new_empty(z.shape)
    return x.new_empty(x.shape), dz, parameters.new_empty(parameters.shape)


def _on_gpu(name, x, z, parameters, program, *rest):
    from .._kernels.covariance import cuda

    n_leaves = len(parameters)
    with torch.cuda.device(x.device):
        kinds, ops = program[:n_leaves].to(x.device), program[n_leaves:].to(x.device)
        stream = torch.cuda.current_stream().cuda_stream
        return getattr(cuda, name)(kinds, ops, parameters, x, z, *rest, stream=stream)


def _arguments(parameters, program):
    parameters, program = _arrays(parameters, program)
    kinds, ops = np.split(program, [len(parameters)])
    return kernels.Program(kinds, ops), parameters


def _arrays(*tensors):
    return [None if t is None else np.asarray(t.numpy(force=True), order="C") for t in tensors]


# Its derivatives


def _keep_inputs(ctx, inputs, output):
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _backward(ctx, gradient):
    if torch.is_grad_enabled():  # create_graph=True
        raise RuntimeError(
            "fastvis.torch.covariance has first derivatives only; got a backward pass with "
            "create_graph=True. Leave it out of what is differentiated twice."
        )
    if gradient is None:
        return None, None, None, None
    x, z, parameters, program = ctx.saved_tensors
    dx, dz, d_parameters = _covariance_vjp(x, z, parameters, program, gradient)
    return dx, None if z is None else dz, d_parameters, None


_covariance.register_autograd(_backward, setup_context=_keep_inputs)


def _call(*arguments):
    if any(t is not None and unpack_dual(t).tangent is not None for t in arguments[:3]):
        raise RuntimeError(  # torch would take the derivative for zero
            "fastvis.torch.covariance has no forward-mode derivative; use backward() or "
            "torch.autograd.grad."
        )
    try:
        return _covariance(*arguments)
    except RuntimeError as error:
        if "functorch" not in str(error):
            raise
        raise RuntimeError(
            "fastvis.torch.covariance cannot be differentiated by torch.func; use backward() or "
            "torch.autograd.grad."
        ) from error


# Hyperparameters


def _parameters(kernel, points, theta):
    """The program, and parameters (n_leaves, 1 + 2 D) on the points' device."""
    program, parameters, start, signs = _plan(kernel, points.shape[2])
    like = {"dtype": torch.float64, "device": points.device}
    parameters = torch.tensor(parameters, **like)
    if theta is None:
        return program, parameters
    check_tensor(theta, "theta", "(n_theta,)", "fastvis.gp")
    if theta.shape != (len(start),):
        raise ValueError(
            f"theta must have one value for each of {len(start)} hyperparameter(s); got shape "
            f"{tuple(theta.shape)}. Their names are in kernel.hyperparameters."
        )
    check_same_device(theta, "theta", points, "x")
    logs = (theta.double() - torch.tensor(start, **like)) @ torch.tensor(signs, **like)
    return program, parameters * logs.reshape(parameters.shape).exp()


@torch.compiler.assume_constant_result
def _plan(kernel, n_inputs):
    """Kinds and operations, parameters, theta, and the signs that its entries have in these."""
    return _cached_plan(kernel, int(n_inputs))


@lru_cache(maxsize=64)
def _cached_plan(kernel, n_inputs):
    program, parameters = kernel._program(n_inputs)
    signs = []
    for i in range(parameters.size):
        one = np.zeros(parameters.size)
        one[i] = 1 / parameters.flat[i]
        signs.append(kernel._theta_gradient(n_inputs, one.reshape(parameters.shape)))
    lists = parameters, kernel.theta, np.rint(signs).T
    return [*program.kinds.tolist(), *program.ops.tolist()], *(a.tolist() for a in lists)


# Arguments. Values are out of the compiler's sight, and are looked at only outside compiled code.


def _check_kernel(kernel):
    if not isinstance(kernel, Covariance):
        raise TypeError(
            f"kernel must be a covariance of fastvis.gp; got {type(kernel).__name__}. "
            "Pass fastvis.gp.SquaredExponential(), for instance."
        )


def _points(points, name):
    """In float64, (B, n, D), and the batch axes."""
    check_tensor(points, name, "(..., n, D) or (n,)", "fastvis.gp")
    if points.ndim == 0 or points.numel() == 0:
        raise ValueError(
            f"{name} must be points, (..., n, D) or (n,), and not empty; got shape "
            f"{tuple(points.shape)}."
        )
    check_device(points, name)
    array = points.double()
    array = array[:, None] if array.ndim == 1 else array
    return array.reshape(-1, *array.shape[-2:]), tuple(array.shape[:-2])


def _other_points(z, x, points, batch):
    other, other_batch = _points(z, "z")
    if other.shape[2] != points.shape[2]:
        raise ValueError(
            f"z must have points of {points.shape[2]} dimension(s), as x; got shape "
            f"{tuple(z.shape)}."
        )
    if other_batch not in ((), batch):
        raise ValueError(
            f"z must have the batch axes of x, {batch}, or none; got shape {tuple(z.shape)}."
        )
    check_same_device(z, "z", x, "x")
    return other

"""Rotations of readouts (N, F, O) and the loss that aligns them, differentiable; imports torch.

Rotations are plain torch operations: products in the Fourier transform over orientation. The mean
distance of all pairs is an operator of the torch library, the NumPy kernel for CPU tensors and
``_kernels/rotation/cuda.py`` for CUDA tensors::

    mean_distance(x (N, D)) -> loss (), gradient (N, D)        backward: multiplies
"""

import math
import numbers

import numpy as np
import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from .._kernels import rotation
from .._validation import check_float
from ._tensors import check_device, check_finite, check_same_device, check_tensor

AXES = "(n_neurons, n_features, n_orientations)"


def cyclic_rotation(readouts, angles):
    """Rotate readouts by linear interpolation between cyclic shifts, ICLR 2020 eq (2).

    Differentiable by the readouts and the angles; at a whole shift, the derivative by the angle is
    that to the right.

    Parameters
    ----------
    readouts : Tensor, (n_neurons, n_features, n_orientations)
        float32 or float64, on any device.
    angles : Tensor, (n_neurons,) or (), or a number
        Radians; any real number. Turning by ``2 pi / n_orientations`` is
        ``torch.roll(readouts, -1, dims=-1)``. A tensor must be on the readouts' device.

    Returns
    -------
    Tensor, of the readouts' shape, dtype and device

    Raises
    ------
    TypeError
        Readouts that are no tensor of float32 or float64, angles that are no real numbers.
    ValueError
        Other shapes, another device, values that are not finite.

    Notes
    -----
    The numbers of `fastvis.readouts.cyclic_rotation`; see there. Within `torch.compile` values are
    not looked at: there NaN gives NaN.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 3, eq (2).

    Examples
    --------
    >>> import torch
    >>> from fastvis.torch import cyclic_rotation
    >>> readouts = torch.tensor([[[1.0, 2, 3, 4]]])
    >>> cyclic_rotation(readouts, torch.pi / 4).round(decimals=4)
    tensor([[[1.5000, 2.5000, 3.5000, 2.5000]]])
    """
    _check_readouts(readouts)
    angles = _check_angles(angles, readouts)
    return _rotate(readouts, _cyclic_weights(angles, readouts.shape[2]))


def von_mises_rotation(readouts, angles, temperature):
    """Rotate readouts by a smooth mixture of all cyclic shifts, ICLR 2020 eq (4).

    Shift k has a weight proportional to ``exp(temperature cos(angle - 2 pi k / n_orientations))``.
    Differentiable by the readouts, the angles and the temperature.

    Parameters
    ----------
    readouts : Tensor, (n_neurons, n_features, n_orientations)
        float32 or float64, on any device.
    angles : Tensor, (n_neurons,) or (), or a number
        Radians, in the sense of `cyclic_rotation`. A tensor must be on the readouts' device.
    temperature : float or Tensor, ()
        The paper's T, at least 0: 0 is the mean over orientations; with a high one the nearest
        shift is left alone.

    Returns
    -------
    Tensor, of the readouts' shape, dtype and device

    Raises
    ------
    TypeError, ValueError
        As `cyclic_rotation`; a temperature that is no single number, or negative.

    Notes
    -----
    See `fastvis.readouts.von_mises_rotation`, and `cyclic_rotation` on `torch.compile`.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 3, eq (4).

    Examples
    --------
    >>> import torch
    >>> from fastvis.torch import von_mises_rotation
    >>> temperature = torch.tensor(100.0, requires_grad=True)
    >>> rotated = von_mises_rotation(torch.tensor([[[1.0, 2, 3, 4]]]), torch.pi / 2, temperature)
    >>> rotated.detach().round(decimals=4)
    tensor([[[2., 3., 4., 1.]]])
    >>> rotated[0, 0, 0].backward()
    >>> temperature.grad.shape
    torch.Size([])
    """
    _check_readouts(readouts)
    angles = _check_angles(angles, readouts)
    temperature = _check_temperature(temperature, readouts)
    return _rotate(readouts, _von_mises_weights(angles, readouts.shape[2], temperature))


def fourier_rotation(readouts, angles):
    """Rotate readouts exactly, as periodic functions without the highest frequency.

    Differentiable by the readouts and the angles.

    Parameters
    ----------
    readouts : Tensor, (n_neurons, n_features, n_orientations)
        float32 or float64, on any device.
    angles : Tensor, (n_neurons,) or (), or a number
        Radians, in the sense of `cyclic_rotation`. A tensor must be on the readouts' device.

    Returns
    -------
    Tensor, of the readouts' shape, dtype and device

    Raises
    ------
    TypeError, ValueError
        As `cyclic_rotation`.

    Notes
    -----
    See `fastvis.readouts.fourier_rotation` on the Nyquist frequency, and `cyclic_rotation` on
    `torch.compile`.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 3, define rotations by whole shifts; between them this
    is the shift theorem of the Fourier transform.

    Examples
    --------
    >>> import torch
    >>> from fastvis.torch import fourier_rotation
    >>> theta = 2 * torch.pi * torch.arange(8) / 8
    >>> turned = fourier_rotation(torch.cos(theta)[None, None], 0.3)
    >>> torch.allclose(turned, torch.cos(theta + 0.3), atol=1e-6)
    True
    """
    _check_readouts(readouts)
    angles = _check_angles(angles, readouts)
    n_orientations = readouts.shape[2]
    frequencies = torch.arange(n_orientations // 2 + 1, device=angles.device)
    phase = angles[:, None] * frequencies
    # an even number of orientations sees no more of its last bin than the cosine
    imaginary = phase.sin() * (2 * frequencies != n_orientations)
    return _multiply(readouts, torch.complex(phase.cos(), imaginary))


def mean_distance(x):
    """Mean Euclidean distance of all pairs of rows, ICLR 2020 eq (3); differentiable.

    The mean over pairs i < j of ``|x_i - x_j|``, without an N x N matrix. Loss and gradient are
    computed in one pass.

    Parameters
    ----------
    x : Tensor, (n_rows, n_dims)
        float32 or float64, on the CPU or a CUDA device. At least two rows. Any strides.

    Returns
    -------
    Tensor, ()
        Of the dtype and device of ``x``, summed in float64.

    Raises
    ------
    TypeError
        No tensor of float32 or float64.
    ValueError
        A wrong shape, a sparse layout, fewer than two rows, NaN, another device.
    ImportError
        For a CUDA tensor without the extra ``cuda``.
    RuntimeError
        When a second derivative (``create_graph=True``), a forward-mode one, or one by `torch.func`
        (``grad``, ``vjp``, ``jacrev``, ``hessian``) is asked for.

    Notes
    -----
    Rows that coincide have distance 0 and gradient 0. The same numbers in every run: on CPU for any
    number of threads, on CUDA because no sum depends on which thread is first. autocast does not
    apply. Within `torch.compile` it is a single node of the graph. `torch.func.vmap` goes through a
    batch one by one.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 3, eq (3), with the mean in place of the sum.

    Examples
    --------
    >>> import torch
    >>> from fastvis.torch import mean_distance
    >>> x = torch.tensor([[0.0, 0], [3, 4], [3, 4]], requires_grad=True)
    >>> loss = mean_distance(x)
    >>> round(loss.item(), 4)
    3.3333
    >>> loss.backward()
    >>> x.grad[1]
    tensor([0.2000, 0.2667])
    """
    _check_tensor(x, "x", "(n_rows, n_dims)", 2, "Flatten what describes a row.")
    if len(x) < 2:
        raise ValueError(f"x must have at least 2 rows to be compared; got shape {tuple(x.shape)}.")
    check_device(x, "x")
    if unpack_dual(x).tangent is not None:  # torch would take the derivative for zero
        raise RuntimeError(
            "fastvis.torch.mean_distance and pairwise_distance_loss have no forward-mode "
            "derivative; use backward() or torch.autograd.grad."
        )
    try:
        return _mean_distance(x)[0]
    except RuntimeError as error:
        if "functorch" not in str(error):
            raise
        raise RuntimeError(
            "fastvis.torch.mean_distance and pairwise_distance_loss cannot be differentiated by "
            "torch.func; use backward() or torch.autograd.grad."
        ) from error


def pairwise_distance_loss(readouts, angles, temperature, *, beta=0.0):
    """Mean distance of all pairs of rotated readouts: ICLR 2020 eq (5), with means.

    The mean over pairs of ``|r~_i - r~_j|`` plus ``beta`` times the mean over neurons of
    ``|r~_n(0) - r_n|``, where r~ are rotated by `von_mises_rotation`. Differentiable by the
    readouts, the angles and the temperature.

    Parameters
    ----------
    readouts : Tensor, (n_neurons, n_features, n_orientations)
        float32 or float64, on the CPU or a CUDA device. At least two neurons and two orientations.
    angles : Tensor, (n_neurons,) or (), or a number
        Radians. A tensor must be on the readouts' device.
    temperature : float or Tensor, ()
        The paper's T, greater than 0.
    beta : float
        Weight of the reconstruction, at least 0.

    Returns
    -------
    Tensor, ()
        Of the readouts' dtype and device, summed in float64.

    Raises
    ------
    TypeError, ValueError
        As `von_mises_rotation`; too few neurons or orientations; a negative ``beta``.
    ImportError
        For CUDA tensors without the extra ``cuda``.
    RuntimeError
        As `mean_distance`.

    Notes
    -----
    Within `torch.compile` values are not looked at: there a negative ``beta`` or temperature gives
    a number. `torch.func.vmap` does not apply; write a loop over populations.

    `fastvis.readouts.RotationAligner` says why these are means, not the paper's sums. Pairs that
    coincide, and readouts that are rebuilt exactly, have gradient 0.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 3, eqs (3) and (5).

    Examples
    --------
    >>> import torch
    >>> from fastvis.torch import pairwise_distance_loss
    >>> readouts = torch.rand(6, 3, 8)
    >>> angles = torch.zeros(6, requires_grad=True)
    >>> temperature = torch.tensor(5.0, requires_grad=True)
    >>> pairwise_distance_loss(readouts, angles, temperature, beta=0.5).backward()
    >>> angles.grad.shape, temperature.grad.shape
    (torch.Size([6]), torch.Size([]))
    """
    _check_readouts(readouts)
    n_neurons, _, n_orientations = readouts.shape
    if n_neurons < 2 or n_orientations < 2:
        raise ValueError(
            "readouts must have at least 2 neurons and 2 orientations to be compared; "
            f"got shape {tuple(readouts.shape)}."
        )
    angles = _check_angles(angles, readouts)
    temperature = _check_temperature(temperature, readouts, strict=True)
    if not torch.compiler.is_compiling():
        beta = check_float(beta, "beta", minimum=0)

    rotated = _rotate(readouts, _von_mises_weights(angles, n_orientations, temperature))
    loss = mean_distance(rotated.flatten(1))
    if beta == 0:
        return loss
    weights = _von_mises_weights(angles.new_zeros(1), n_orientations, temperature)
    difference = (_rotate(readouts, weights) - readouts).flatten(1)
    # the derivative of this norm at 0 is 0
    error = torch.linalg.vector_norm(difference, dim=1, dtype=torch.float64).mean()
    return (loss + beta * error).to(readouts.dtype)


# Rotations as weights of cyclic shifts, (N, O) or (1, O): r~_n = sum_k weights[n, k] roll(r_n, -k)


def _cyclic_weights(angles, n_orientations):
    u = angles * (n_orientations / (2 * math.pi))
    i = u.detach().floor()
    g = (u - i)[:, None]
    shift = torch.arange(n_orientations, device=angles.device)
    at_i = (shift - i[:, None]) % n_orientations == 0
    at_next = (shift - i[:, None] - 1) % n_orientations == 0
    return (1 - g) * at_i + g * at_next


def _von_mises_weights(angles, n_orientations, temperature):
    shift = torch.arange(n_orientations, dtype=angles.dtype, device=angles.device)
    cosine = torch.cos(angles[:, None] - shift * (2 * math.pi / n_orientations))
    return torch.softmax(temperature * cosine, dim=1)


def _rotate(readouts, weights):
    return _multiply(readouts, torch.fft.rfft(weights).conj())


def _multiply(readouts, factor):
    """Readouts with bin m of neuron n, of the transform over orientation, times factor[n, m]."""
    return torch.fft.irfft(torch.fft.rfft(readouts) * factor[:, None], readouts.shape[2])


# The operator


@torch.library.custom_op("fastvis::mean_distance", mutates_args=())
def _mean_distance(x: Tensor) -> tuple[Tensor, Tensor]:
    check_finite(x, "x")
    if x.is_cuda:
        from .._kernels.rotation import cuda

        with torch.cuda.device(x.device):
            loss, gradient = cuda.mean_distance(x, torch.cuda.current_stream().cuda_stream)
        return loss.to(x.dtype), gradient
    loss, gradient = rotation.mean_distance(np.ascontiguousarray(x.numpy(force=True)))
    return torch.tensor(loss, dtype=x.dtype), torch.from_numpy(gradient)


@_mean_distance.register_fake
def _(x):
    return x.new_empty(()), x.new_empty(x.shape)


@_mean_distance.register_vmap
def _(info, in_dims, x):
    results = [_mean_distance(rows) for rows in x.unbind(in_dims[0])]
    return tuple(map(torch.stack, zip(*results))), (0, 0)


def _keep_gradient(ctx, inputs, output):
    _, gradient = output
    ctx.save_for_backward(gradient)
    ctx.mark_non_differentiable(gradient)
    ctx.set_materialize_grads(False)


def _multiply_gradient(ctx, d_loss, _):
    if torch.is_grad_enabled():  # create_graph=True
        raise RuntimeError(
            "fastvis.torch.mean_distance and pairwise_distance_loss have first derivatives only; "
            "got a backward pass with create_graph=True. Leave them out of what is differentiated "
            "twice."
        )
    (gradient,) = ctx.saved_tensors
    return None if d_loss is None else d_loss * gradient


_mean_distance.register_autograd(_multiply_gradient, setup_context=_keep_gradient)


# Arguments. Values are out of the compiler's sight, and are looked at only outside compiled code.


def _check_readouts(readouts):
    _check_tensor(readouts, "readouts", AXES, 3, "Reshape flat readouts first.")
    if not torch.compiler.is_compiling():
        check_finite(readouts, "readouts")


def _check_angles(angles, readouts):
    """Angles (n_neurons,) of the readouts' dtype, in [0, 2 pi)."""
    if isinstance(angles, numbers.Real):
        angles = torch.tensor(angles, dtype=torch.float64, device=readouts.device)
    if not isinstance(angles, Tensor) or angles.is_complex():
        got = angles.dtype if isinstance(angles, Tensor) else type(angles).__name__
        raise TypeError(f"angles must be a real tensor (n_neurons,) or a number; got {got}.")
    if angles.shape not in ((), readouts.shape[:1]):
        raise ValueError(
            f"angles must have one value for each of {len(readouts)} neuron(s); got shape "
            f"{tuple(angles.shape)}."
        )
    check_same_device(angles, "angles", readouts, "readouts")
    if not torch.compiler.is_compiling():
        check_finite(angles, "angles")
    turned = angles.double().remainder(2 * math.pi)
    return turned.to(readouts.dtype).expand(len(readouts))


def _check_temperature(temperature, readouts, strict=False):
    """A number, or a tensor () of the readouts' dtype and device."""
    value = temperature
    if isinstance(temperature, Tensor):
        if temperature.ndim or not temperature.is_floating_point():
            raise TypeError(
                "temperature must be a number or a tensor of floats without dimensions; got "
                f"{temperature.dtype} of shape {tuple(temperature.shape)}. Pass temperature[0] "
                "of a tensor with one element."
            )
        temperature = temperature.to(readouts)
    if not torch.compiler.is_compiling():
        value = value.item() if isinstance(value, Tensor) else value
        check_float(value, "temperature", minimum=0, strict=strict)
    return temperature


def _check_tensor(tensor, name, axes, ndim, remedy):
    check_tensor(tensor, name, axes, "fastvis.readouts")
    if tensor.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} dimensions {axes}; got shape {tuple(tensor.shape)}. {remedy}"
        )
    if 0 in tensor.shape:
        raise ValueError(f"{name} must not be empty; got shape {tuple(tensor.shape)}.")

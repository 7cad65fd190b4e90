"""Block-tridiagonal matrices: log-determinant, solve, selected inverse; imports torch.

For CPU tensors three operators of the torch library run the NumPy kernels. Each also gives its
Cholesky factor, (C, B), to an operator that computes its derivatives::

    logdet(diagonal, lower) -> (...), C, B                      backward: logdet_vjp
    solve(diagonal, lower, b) -> x, C, B                        backward: solve_vjp
    inverse_blocks(diagonal, lower) -> S, S_lower, C, B         backward: inverse_blocks_vjp

CUDA tensors go through plain torch operations, block by block, which autograd takes apart.
"""

import numpy as np
import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from .._kernels import blocktri
from ._tensors import check_device, check_finite, check_same_device, check_tensor

DOOR = "(..., L, M, M)", "fastvis.gp.BlockTridiagonal"


def blocktri_logdet(diagonal, lower):
    """Log-determinant of symmetric positive definite block-tridiagonal matrices; differentiable.

    Parameters
    ----------
    diagonal : Tensor, (..., L, M, M)
        Blocks (i, i), of which the symmetric part counts. float32 or float64, on the CPU or a CUDA
        device; computed in float64. Any strides.
    lower : Tensor, (..., L - 1, M, M)
        Blocks (i + 1, i); block (i, i + 1) is its transpose. Batches as in ``diagonal``.

    Returns
    -------
    Tensor, (...)
        Of the dtype and device of the blocks.

    Raises
    ------
    TypeError
        No tensors of float32 or float64.
    ValueError
        Wrong shapes, a sparse layout, nothing, NaN, another device; a matrix that is not positive
        definite.
    RuntimeError
        For CPU tensors, when a second derivative (``create_graph=True``), a forward-mode one, or
        one by `torch.func` is asked for.

    Notes
    -----
    The cost is O(L M^3), and so is that of the derivative. On CPU the numbers of
    `fastvis.gp.BlockTridiagonal`, the same for any number of threads. autocast does not apply.
    Within `torch.compile` an operator is a single node of the graph, and values of CUDA tensors are
    not looked at: there a matrix that is not positive definite gives NaN.

    References
    ----------
    Ustyuzhaninov, Kazlauskaite et al., *Compositional uncertainty in deep Gaussian processes*, UAI
    2020, section 4.1.

    Examples
    --------
    >>> import torch
    >>> from fastvis.torch import blocktri_logdet
    >>> diagonal = torch.tensor([[[4.0]], [[5.0]]], requires_grad=True)
    >>> logdet = blocktri_logdet(diagonal, torch.tensor([[[2.0]]]))
    >>> round(logdet.item(), 4)  # log 16
    2.7726
    >>> logdet.backward()
    >>> diagonal.grad.flatten()  # the diagonal of the inverse
    tensor([0.3125, 0.2500])
    """
    dtype = _check_blocks(diagonal, lower)
    if diagonal.is_cuda:
        logdet = _logdet_by_blocks(diagonal.double(), lower.double())
    else:
        logdet = _call(_logdet, diagonal.double(), lower.double())[0]
    return logdet.to(dtype)


def blocktri_solve(diagonal, lower, b):
    """x of A x = b, A symmetric positive definite and block-tridiagonal; differentiable.

    Parameters
    ----------
    diagonal, lower : Tensor, (..., L, M, M) and (..., L - 1, M, M)
        As in `blocktri_logdet`.
    b : Tensor, (..., L, M) or (..., L, M, K)
        A right-hand side for each matrix of the batch, or K of them.

    Returns
    -------
    Tensor, of the shape of b
        Of the dtype of blocks and b together.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `blocktri_logdet`.

    Notes
    -----
    See `blocktri_logdet`.

    References
    ----------
    As `blocktri_logdet`.

    Examples
    --------
    >>> import torch
    >>> from fastvis.torch import blocktri_solve
    >>> b = torch.tensor([[8.0], [4.0]], requires_grad=True)
    >>> x = blocktri_solve(torch.tensor([[[4.0]], [[5.0]]]), torch.tensor([[[2.0]]]), b)
    >>> x.detach().flatten()
    tensor([2., 0.])
    >>> x[0, 0].backward()
    >>> b.grad.flatten()
    tensor([ 0.3125, -0.1250])
    """
    dtype = torch.promote_types(_check_blocks(diagonal, lower), _check_right(b, diagonal))
    columns = b.double() if b.ndim == diagonal.ndim else b.double()[..., None]
    if diagonal.is_cuda:
        x = _solve_by_blocks(diagonal.double(), lower.double(), columns)
    else:
        x = _call(_solve, diagonal.double(), lower.double(), columns)[0]
    return x.reshape(b.shape).to(dtype)


def blocktri_inverse_blocks(diagonal, lower):
    """Blocks of the inverse on the diagonal and below it; differentiable.

    Parameters
    ----------
    diagonal, lower : Tensor, (..., L, M, M) and (..., L - 1, M, M)
        As in `blocktri_logdet`.

    Returns
    -------
    diagonal : Tensor, (..., L, M, M)
        Symmetric.
    lower : Tensor, (..., L - 1, M, M)
        Blocks (i + 1, i).

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `blocktri_logdet`.

    Notes
    -----
    See `blocktri_logdet`.

    References
    ----------
    As `blocktri_logdet`.

    Examples
    --------
    >>> import torch
    >>> from fastvis.torch import blocktri_inverse_blocks
    >>> lower = torch.tensor([[[2.0]]], requires_grad=True)
    >>> inverse = blocktri_inverse_blocks(torch.tensor([[[4.0]], [[5.0]]]), lower)
    >>> torch.cat(inverse).detach().flatten()
    tensor([ 0.3125,  0.2500, -0.1250])
    >>> inverse[1].sum().backward()
    >>> lower.grad.item()  # of -l / (20 - l^2)
    -0.09375
    """
    dtype = _check_blocks(diagonal, lower)
    if diagonal.is_cuda:
        inverse = _inverse_by_blocks(diagonal.double(), lower.double())
    else:
        inverse = _call(_inverse_blocks, diagonal.double(), lower.double())[:2]
    return tuple(blocks.to(dtype) for blocks in inverse)


# The operators, on float64


@torch.library.custom_op("fastvis::blocktri_logdet", mutates_args=())
def _logdet(diagonal: Tensor, lower: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    factor = _factorize(diagonal, lower)
    return _tensors(np.asarray(blocktri.logdet(factor[0])), *factor)


@torch.library.custom_op("fastvis::blocktri_logdet_vjp", mutates_args=())
def _logdet_vjp(c: Tensor, b: Tensor, d_logdet: Tensor) -> tuple[Tensor, Tensor]:
    c, b, d_logdet = _arrays(c, b, d_logdet)
    return _tensors(*blocktri.logdet_vjp(*blocktri.inverse_blocks(c, b), d_logdet))


@torch.library.custom_op("fastvis::blocktri_solve", mutates_args=())
def _solve(diagonal: Tensor, lower: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    check_finite(right, "b")
    factor = _factorize(diagonal, lower)
    return _tensors(blocktri.solve(*factor, *_arrays(right)), *factor)


@torch.library.custom_op("fastvis::blocktri_solve_vjp", mutates_args=())
def _solve_vjp(c: Tensor, b: Tensor, x: Tensor, d_x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _tensors(*blocktri.solve_vjp(*_arrays(c, b, x, d_x)))


@torch.library.custom_op("fastvis::blocktri_inverse_blocks", mutates_args=())
def _inverse_blocks(diagonal: Tensor, lower: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    factor = _factorize(diagonal, lower)
    return _tensors(*blocktri.inverse_blocks(*factor), *factor)


@torch.library.custom_op("fastvis::blocktri_inverse_blocks_vjp", mutates_args=())
def _inverse_blocks_vjp(
    c: Tensor, b: Tensor, s: Tensor, d_s: Tensor, d_s_lower: Tensor
) -> tuple[Tensor, Tensor]:
    return _tensors(*blocktri.inverse_blocks_vjp(*_arrays(c, b, s, d_s, d_s_lower)))


def _factorize(diagonal, lower):
    check_finite(diagonal, "diagonal")
    check_finite(lower, "lower")
    return blocktri.factorize(*_arrays(diagonal, lower))


def _arrays(*tensors):
    return [np.asarray(tensor.numpy(force=True), order="C") for tensor in tensors]


def _tensors(*arrays):
    return tuple(map(torch.from_numpy, arrays))


def _like(*tensors):
    return tuple(tensor.new_empty(tensor.shape) for tensor in tensors)


@_logdet.register_fake
def _(diagonal, lower):
    return diagonal.new_empty(diagonal.shape[:-3]), *_like(diagonal, lower)


@_logdet_vjp.register_fake
def _(c, b, d_logdet):
    return _like(c, b)


@_solve.register_fake
def _(diagonal, lower, right):
    return _like(right, diagonal, lower)


@_solve_vjp.register_fake
def _(c, b, x, d_x):
    return _like(c, b, x)


@_inverse_blocks.register_fake
def _(diagonal, lower):
    return _like(diagonal, lower, diagonal, lower)


@_inverse_blocks_vjp.register_fake
def _(c, b, s, d_s, d_s_lower):
    return _like(c, b)


# Their derivatives


def _keep_factor(ctx, inputs, output):
    *results, c, b = output
    ctx.save_for_backward(c, b, *results)
    ctx.mark_non_differentiable(c, b)
    ctx.set_materialize_grads(False)


def _logdet_backward(ctx, d_logdet, *_):
    _refuse_second_derivative()
    c, b, _ = ctx.saved_tensors
    return (None, None) if d_logdet is None else _logdet_vjp(c, b, d_logdet)


def _solve_backward(ctx, d_x, *_):
    _refuse_second_derivative()
    return (None, None, None) if d_x is None else _solve_vjp(*ctx.saved_tensors, d_x)


def _inverse_blocks_backward(ctx, *d_results):
    _refuse_second_derivative()
    c, b, *results = ctx.saved_tensors
    d_s, d_s_lower = (
        torch.zeros_like(result) if d_result is None else d_result
        for result, d_result in zip(results, d_results)
    )
    return _inverse_blocks_vjp(c, b, results[0], d_s, d_s_lower)


_logdet.register_autograd(_logdet_backward, setup_context=_keep_factor)
_solve.register_autograd(_solve_backward, setup_context=_keep_factor)
_inverse_blocks.register_autograd(_inverse_blocks_backward, setup_context=_keep_factor)


def _refuse_second_derivative():
    if torch.is_grad_enabled():  # create_graph=True
        raise RuntimeError(
            "fastvis.torch.blocktri_* have first derivatives only for CPU tensors; got a backward "
            "pass with create_graph=True. Leave them out of what is differentiated twice."
        )


def _call(operator, *tensors):
    if any(unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise RuntimeError(  # torch would take the derivative for zero
            "fastvis.torch.blocktri_* have no forward-mode derivative for CPU tensors; use "
            "backward() or torch.autograd.grad."
        )
    try:
        return operator(*tensors)
    except RuntimeError as error:
        if "functorch" not in str(error):
            raise
        raise RuntimeError(
            "fastvis.torch.blocktri_* cannot be differentiated by torch.func for CPU tensors; use "
            "backward() or torch.autograd.grad."
        ) from error


# The same as torch operations, for GPUs: a batch at a time, block by block


def _factorize_by_blocks(diagonal, lower):
    """Lists of the blocks C_i and B_i."""
    if not torch.compiler.is_compiling():
        check_finite(diagonal, "diagonal")
        check_finite(lower, "lower")
    pivots = ((diagonal + diagonal.mT) / 2).unbind(-3)
    below = lower.unbind(-3)
    c, b = [_cholesky(pivots[0], 0)], []
    for i in range(1, len(pivots)):
        b.append(torch.linalg.solve_triangular(c[-1].mT, below[i - 1], upper=True, left=False))
        c.append(_cholesky(pivots[i] - b[-1] @ b[-1].mT, i))
    return c, b


def _cholesky(pivot, i):
    factor, info = torch.linalg.cholesky_ex(pivot)
    if torch.compiler.is_compiling():
        return factor
    is_bad = (info != 0) | ~factor.isfinite().flatten(-2).all(dim=-1)
    if is_bad.any():
        raise ValueError(blocktri.not_positive_definite(i, is_bad.nonzero()[0].tolist()))
    return factor


def _logdet_by_blocks(diagonal, lower):
    c, _ = _factorize_by_blocks(diagonal, lower)
    diagonals = torch.stack([block.diagonal(dim1=-2, dim2=-1) for block in c], dim=-2)
    return 2 * diagonals.log().sum(dim=(-2, -1))


def _solve_by_blocks(diagonal, lower, right):
    if not torch.compiler.is_compiling():
        check_finite(right, "b")
    c, b = _factorize_by_blocks(diagonal, lower)
    x = list(right.unbind(-3))
    for i in range(len(c)):
        y = x[i] - b[i - 1] @ x[i - 1] if i > 0 else x[i]
        x[i] = torch.linalg.solve_triangular(c[i], y, upper=False)
    for i in reversed(range(len(c))):
        y = x[i] - b[i].mT @ x[i + 1] if i < len(b) else x[i]
        x[i] = torch.linalg.solve_triangular(c[i].mT, y, upper=True)
    return torch.stack(x, dim=-3)


def _inverse_by_blocks(diagonal, lower):
    c, b = _factorize_by_blocks(diagonal, lower)
    s, s_lower = [torch.cholesky_inverse(c[-1])], []
    for i in reversed(range(len(b))):
        x = torch.linalg.solve_triangular(c[i], b[i], upper=False, left=False)
        s_lower.append(-s[-1] @ x)
        block = torch.cholesky_inverse(c[i]) - x.mT @ s_lower[-1]
        s.append((block + block.mT) / 2)
    s_lower = torch.stack(s_lower[::-1], dim=-3) if b else lower.new_empty(lower.shape)
    return torch.stack(s[::-1], dim=-3), s_lower


# Arguments. Values are out of the compiler's sight, and are looked at only outside compiled code.


def _check_blocks(diagonal, lower):
    """The dtype of results."""
    check_tensor(diagonal, "diagonal", *DOOR)
    check_tensor(lower, "lower", *DOOR)
    if diagonal.ndim < 3 or diagonal.shape[-1] != diagonal.shape[-2] or 0 in diagonal.shape:
        raise ValueError(
            f"diagonal must have shape (..., L, M, M) and not be empty; got "
            f"{tuple(diagonal.shape)}. Pass L square blocks of one size."
        )
    *batch, n, m, _ = diagonal.shape
    if lower.shape != (*batch, n - 1, m, m):
        raise ValueError(
            f"lower must have shape (..., L - 1, M, M) = {(*batch, n - 1, m, m)}, as diagonal has "
            f"{tuple(diagonal.shape)}; got {tuple(lower.shape)}. Pass the blocks (i + 1, i)."
        )
    check_same_device(lower, "lower", diagonal, "diagonal")
    check_device(diagonal, "diagonal")
    return torch.promote_types(diagonal.dtype, lower.dtype)


def _check_right(b, diagonal):
    check_tensor(b, "b", "(..., L, M) or (..., L, M, K)", DOOR[1])
    vectors = tuple(diagonal.shape[:-1])
    leading = b.shape if b.ndim == len(vectors) else b.shape[:-1]
    if tuple(leading) != vectors or b.numel() == 0:
        raise ValueError(
            f"b must have shape {vectors} or {vectors[:-1] + (vectors[-1], 'K')}, as the blocks "
            f"{tuple(diagonal.shape)}; got {tuple(b.shape)}. Expand it to the batch."
        )
    check_same_device(b, "b", diagonal, "diagonal")
    return b.dtype

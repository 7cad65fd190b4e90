"""The block-tridiagonal operators against NumPy, finite differences and plain torch."""

import importlib

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="fastvis.torch needs the torch extra")

from torch.autograd import gradcheck  # noqa: E402
from torch.library import opcheck  # noqa: E402

from fastvis.gp import BlockTridiagonal  # noqa: E402
from fastvis.torch import blocktri_inverse_blocks, blocktri_logdet, blocktri_solve  # noqa: E402

module = importlib.import_module("fastvis.torch.blocktri")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])

# of the largest number: float32 results are rounded once, float64 at a condition below 1e4
TOLERANCE = {torch.float32: 2e-7, torch.float64: 1e-12}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)

SIZES = [((), 1, 1), ((), 1, 3), ((), 4, 1), ((2,), 3, 2), ((2, 1), 2, 4)]
sizes = pytest.mark.parametrize(("batch", "n", "m"), SIZES, ids=str)


def parameter(value, dtype=torch.float64, device="cpu"):
    return torch.tensor(value, dtype=dtype, device=device, requires_grad=True)


def problem(rng, batch=(2,), n=3, m=2, columns=(3,), dtype=torch.float64, device="cpu"):
    """Diagonal, lower and b; the diagonal blocks have a skew part, which must not count."""
    a = rng.normal(size=(*batch, n, m, m)) / np.sqrt(m)
    below = rng.normal(size=(*batch, n - 1, m, m)) / np.sqrt(m)
    diagonal = a @ a.mT + np.eye(m)
    diagonal[..., 1:, :, :] += below @ below.mT
    skew = rng.normal(size=a.shape)
    lower = below @ a[..., :-1, :, :].mT
    b = rng.normal(size=(*batch, n, m, *columns))
    return [parameter(x, dtype, device) for x in (diagonal + skew - skew.mT, lower, b)]


def assert_close(result, expected, dtype=torch.float64):
    expected = np.asarray(expected)
    assert result.shape == expected.shape
    if expected.size:
        error = np.abs(result.numpy(force=True) - expected).max()
        assert error <= TOLERANCE[dtype] * np.abs(expected).max()


@devices
@dtypes
@sizes
def test_values_are_those_of_arrays(rng, batch, n, m, dtype, device):
    diagonal, lower, b = problem(rng, batch, n, m, dtype=dtype, device=device)
    results = (
        blocktri_logdet(diagonal, lower),
        blocktri_solve(diagonal, lower, b),
        blocktri_solve(diagonal, lower, b[..., 0]),
        *blocktri_inverse_blocks(diagonal, lower),
    )
    d, e, r = (x.numpy(force=True).astype(np.float64) for x in (diagonal, lower, b))
    matrix = BlockTridiagonal((d + d.mT) / 2, e)
    expected = (
        matrix.logdet(),
        matrix.solve(r),
        matrix.solve(r[..., 0]),
        *matrix.inverse_blocks(),
    )
    for result, array in zip(results, expected):
        assert (result.dtype, result.device) == (dtype, diagonal.device)
        assert_close(result, array, dtype)


@devices
@sizes
def test_gradcheck(rng, batch, n, m, device):
    diagonal, lower, b = problem(rng, batch, n, m, device=device)
    if n == 1:  # gradcheck does not take what is empty
        lower = lower.detach()
    assert gradcheck(blocktri_logdet, (diagonal, lower))
    assert gradcheck(blocktri_solve, (diagonal, lower, b))
    assert gradcheck(blocktri_solve, (diagonal, lower, b[..., 0].detach().requires_grad_()))
    assert gradcheck(blocktri_inverse_blocks, (diagonal, lower))


def losses(diagonal, lower, b):
    inverse = blocktri_inverse_blocks(diagonal, lower)
    return (
        blocktri_logdet(diagonal, lower).square().sum()
        + blocktri_solve(diagonal, lower, b).square().sum()
        + sum((blocks**3).sum() for blocks in inverse)
    )


def test_gradients_agree_with_autograd_through_dense_matrices(rng):
    inputs = diagonal, lower, b = problem(rng, (), 4, 3)
    symmetric = (diagonal + diagonal.mT) / 2
    rows = []
    for i in range(4):
        row = [torch.zeros(3, 3, dtype=torch.float64) for _ in range(4)]
        row[i] = symmetric[i]
        if i > 0:
            row[i - 1] = lower[i - 1]
        if i < 3:
            row[i + 1] = lower[i].mT
        rows.append(torch.cat(row, dim=1))
    dense = torch.cat(rows)
    inverse = torch.linalg.inv(dense).reshape(4, 3, 4, 3)
    expected = (
        torch.logdet(dense) ** 2
        + torch.linalg.solve(dense, b.reshape(12, 3)).square().sum()
        + sum((inverse[i, :, i] ** 3).sum() for i in range(4))
        + sum((inverse[i + 1, :, i] ** 3).sum() for i in range(3))
    )
    result = losses(*inputs)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)
    for ours, theirs in zip(*(torch.autograd.grad(loss, inputs) for loss in (result, expected))):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@sizes
def test_the_way_of_a_gpu_is_the_same(rng, batch, n, m):
    inputs = diagonal, lower, b = problem(rng, batch, n, m)
    pairs = [
        (module._logdet_by_blocks(diagonal, lower), blocktri_logdet(diagonal, lower)),
        (module._solve_by_blocks(diagonal, lower, b), blocktri_solve(diagonal, lower, b)),
        *zip(module._inverse_by_blocks(diagonal, lower), blocktri_inverse_blocks(diagonal, lower)),
    ]
    for result, expected in pairs:
        assert_close(result, expected.detach())
        if expected.numel():
            weights = torch.tensor(rng.normal(size=expected.shape))
            grads = [
                torch.autograd.grad(
                    (weights * x).sum(), inputs, allow_unused=True, retain_graph=True
                )
                for x in (result, expected)
            ]
            for one, other in zip(*grads):
                if other is not None and other.numel():
                    one = torch.zeros_like(other) if one is None else one
                    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_inputs_that_need_no_gradient(rng):
    diagonal, lower, b = problem(rng)
    fixed = diagonal.detach(), lower.detach()
    (d_b,) = torch.autograd.grad(blocktri_solve(*fixed, b).sum(), b)
    assert_close(d_b, blocktri_solve(*fixed, torch.ones_like(b)).detach())
    (alone,) = torch.autograd.grad(blocktri_inverse_blocks(diagonal, lower)[0].sum(), lower)
    both = blocktri_inverse_blocks(diagonal, lower)
    (zero,) = torch.autograd.grad(both[0].sum() + 0 * both[1].sum(), lower)
    assert alone.equal(zero)


def test_mixed_dtypes(rng):
    diagonal, lower, b = problem(rng)
    assert blocktri_logdet(diagonal.float(), lower).dtype == torch.float64
    single = diagonal.float(), lower.float()
    assert blocktri_solve(*single, b).dtype == torch.float64
    assert blocktri_solve(diagonal, lower, b.float()).dtype == torch.float64
    blocktri_solve(*single, b.float()).sum().backward()
    assert diagonal.grad.dtype == torch.float64


@devices
def test_any_strides(rng, device):
    diagonal, lower, b = problem(rng, (2, 3), 4, 3, device=device)
    for change in (lambda x: x.transpose(0, 1), lambda x: x[:, 1:2].expand(2, 3, *x.shape[2:])):
        inputs = [change(x).detach() for x in (diagonal, lower, b)]
        for x in (*inputs, *(copies := [x.contiguous().clone() for x in inputs])):
            x.requires_grad_()
        first, second = losses(*inputs), losses(*copies)
        assert first.equal(second)
        for one, other in zip(
            torch.autograd.grad(first, inputs), torch.autograd.grad(second, copies)
        ):
            assert one.equal(other)


# Modes of torch


@pytest.mark.parametrize(("batch", "n", "m"), [((), 1, 3), ((2,), 3, 2)], ids=str)
def test_opcheck(rng, batch, n, m):
    inputs = diagonal, lower, b = problem(rng, batch, n, m)
    fixed = [x.detach() for x in inputs]
    for diagonal, lower, b in (inputs, fixed):
        opcheck(torch.ops.fastvis.blocktri_logdet, (diagonal, lower))
        opcheck(torch.ops.fastvis.blocktri_solve, (diagonal, lower, b))
        opcheck(torch.ops.fastvis.blocktri_inverse_blocks, (diagonal, lower))
    s, _, c, below = torch.ops.fastvis.blocktri_inverse_blocks(diagonal, lower)
    x = torch.ops.fastvis.blocktri_solve(diagonal, lower, b)[0]
    opcheck(torch.ops.fastvis.blocktri_logdet_vjp, (c, below, s[..., 0, 0, 0].clone()))
    opcheck(torch.ops.fastvis.blocktri_solve_vjp, (c, below, x, b))
    opcheck(torch.ops.fastvis.blocktri_inverse_blocks_vjp, (c, below, s, diagonal, lower))


def test_compile(rng):
    torch._dynamo.reset()
    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")
    for shape in (((2,), 3, 2), ((), 4, 3)):
        inputs = problem(rng, *shape)
        results = compiled(*inputs), losses(*inputs)
        torch.testing.assert_close(*results)
        torch.testing.assert_close(*[torch.autograd.grad(loss, inputs) for loss in results])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(rng, mode):
    inputs = problem(rng)
    expected = losses(*inputs)
    with mode():
        loss = losses(*inputs)
    assert not loss.requires_grad
    assert loss.equal(expected.detach())


def test_autocast_does_not_reduce_the_precision(rng):
    inputs = [x.detach().float() for x in problem(rng)]
    expected = losses(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert losses(*inputs).equal(expected)


def test_second_and_forward_derivatives_are_refused(rng):
    diagonal, lower, b = problem(rng)
    for result in (
        blocktri_logdet(diagonal, lower),
        blocktri_solve(diagonal, lower, b),
        blocktri_inverse_blocks(diagonal, lower)[0],
    ):
        with pytest.raises(RuntimeError, match="first derivatives only"):
            torch.autograd.grad(result.sum(), diagonal, create_graph=True)
    fixed, direction = lower.detach(), torch.ones_like(diagonal)
    with pytest.raises(RuntimeError, match="no forward-mode derivative"):
        torch.func.jvp(lambda d: blocktri_logdet(d, fixed), (diagonal.detach(),), (direction,))
    with pytest.raises(RuntimeError, match="cannot be differentiated by torch.func"):
        torch.func.grad(lambda d: blocktri_logdet(d, fixed).sum())(diagonal.detach())


# Errors

D, E, B = torch.eye(2).expand(3, 2, 2), torch.zeros(2, 2, 2), torch.ones(3, 2)
FUNCTIONS = {
    "logdet": blocktri_logdet,
    "solve": lambda diagonal, lower: blocktri_solve(diagonal, lower, B),
    "inverse": blocktri_inverse_blocks,
}


@pytest.mark.parametrize(
    ("diagonal", "lower", "error", "message"),
    [
        (D.numpy(), E, TypeError, "diagonal must be a torch.Tensor .*; got ndarray. For NumPy"),
        (D, E.int(), TypeError, "lower must be float32 or float64; got torch.int32"),
        (D.to_sparse(), E, ValueError, "diagonal must be dense; got layout torch.sparse_coo"),
        (D[0], E, ValueError, r"diagonal must have shape \(..., L, M, M\).*got \(2, 2\)"),
        (D[:, :1], E, ValueError, r"diagonal must have shape .*got \(3, 1, 2\)"),
        (D[:0], E, ValueError, r"and not be empty; got \(0, 2, 2\)"),
        (D, E[:1], ValueError, r"= \(2, 2, 2\), as diagonal has \(3, 2, 2\); got \(1, 2, 2\)"),
        (D, E[None], ValueError, r"lower must have shape .*got \(1, 2, 2, 2\)"),
        (D, E.to("meta"), ValueError, "lower must be on the device of diagonal, cpu; got meta"),
        (D.to("meta"), E.to("meta"), ValueError, "CPU or a CUDA device; got meta"),
        (D / 0, E, ValueError, r"diagonal must be finite; got 12 value\(s\)"),
        (D, E / 0, ValueError, r"lower must be finite; got 8 value\(s\)"),
        (D, E + 1, ValueError, "must be positive definite; got one that is not, at block 1. Add"),
    ],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_blocks_that_are_refused(function, diagonal, lower, error, message):
    with pytest.raises(error, match=message):
        FUNCTIONS[function](diagonal, lower)


@pytest.mark.parametrize(
    ("b", "error", "message"),
    [
        ([1.0, 2], TypeError, "b must be a torch.Tensor .*; got list"),
        (B.half(), TypeError, "b must be float32 or float64; got torch.float16"),
        (B[:2], ValueError, r"b must have shape \(3, 2\) or \(3, 2, 'K'\).*; got \(2, 2\)"),
        (B[None], ValueError, r"b must have shape .*; got \(1, 3, 2\)"),
        (B[..., None, None], ValueError, r"b must have shape .*; got \(3, 2, 1, 1\)"),
        (B[..., None][..., :0], ValueError, r"b must have shape .*; got \(3, 2, 0\)"),
        (B.to("meta"), ValueError, "b must be on the device of diagonal, cpu; got meta"),
        (B / 0, ValueError, r"b must be finite; got 6 value\(s\)"),
    ],
)
def test_right_hand_sides_that_are_refused(b, error, message):
    with pytest.raises(error, match=message):
        blocktri_solve(D, E, b)


def test_the_way_of_a_gpu_names_block_and_item():
    diagonal = D.repeat(2, 3, 1, 1, 1).double()
    diagonal[1, 2, 1, 0, 0] = -1
    lower = E.repeat(2, 3, 1, 1, 1).double()
    with pytest.raises(ValueError, match=r"at block 1 of batch item \(1, 2\)\. Add"):
        module._logdet_by_blocks(diagonal, lower)
    with pytest.raises(ValueError, match=r"at block 0 of batch item \(0, 0\)\. Add"):
        module._logdet_by_blocks(0 * diagonal, lower)

"""BlockTridiagonal against dense NumPy."""

import math

import numpy as np
import pytest

from fastvis._kernels import threads
from fastvis.gp import BlockTridiagonal

TOLERANCE = 1e-12  # of the largest number, at a condition below 1e4
FLOAT32 = 2e-7  # results are rounded once
SHAPES = [(), (3,), (2, 3)]
SIZES = [(1, 1), (1, 4), (6, 1), (2, 3), (5, 7), (20, 4)]

shapes = pytest.mark.parametrize("batch", SHAPES, ids=str)
sizes = pytest.mark.parametrize(("n", "m"), SIZES)


def blocks(rng, n, m, batch=()):
    """Blocks of a well-conditioned matrix."""
    a = rng.normal(size=(*batch, n, m, m)) / math.sqrt(m)
    below = rng.normal(size=(*batch, n - 1, m, m)) / math.sqrt(m)
    diagonal = a @ a.mT + np.eye(m)
    diagonal[..., 1:, :, :] += below @ below.mT
    return (diagonal + diagonal.mT) / 2, below @ a[..., :-1, :, :].mT


def dense_of(diagonal, lower):
    """The definition, element by element of the block structure."""
    *batch, n, m, _ = diagonal.shape
    matrix = np.zeros((*batch, n * m, n * m))
    for i in range(n):
        here, below = slice(i * m, i * m + m), slice(i * m + m, i * m + 2 * m)
        matrix[..., here, here] = diagonal[..., i, :, :]
        if i < n - 1:
            matrix[..., below, here] = lower[..., i, :, :]
            matrix[..., here, below] = lower[..., i, :, :].mT
    assert np.linalg.cond(matrix).max() < 1e4
    return matrix


def blocks_of(matrix, n):
    m = matrix.shape[-1] // n
    at = [slice(i * m, i * m + m) for i in range(n)]
    diagonal = np.stack([matrix[..., i, i] for i in at], axis=-3)
    lower = [matrix[..., i, j] for i, j in zip(at[1:], at)]
    empty = np.empty((*matrix.shape[:-2], 0, m, m))
    return diagonal, np.stack(lower, axis=-3) if lower else empty


def assert_close(result, expected, tolerance=TOLERANCE):
    assert np.shape(result) == np.shape(expected)
    if np.size(expected):
        assert np.abs(result - expected).max() <= tolerance * np.abs(expected).max()


@shapes
@sizes
def test_everything_is_that_of_the_dense_matrix(rng, n, m, batch):
    diagonal, lower = blocks(rng, n, m, batch)
    matrix, dense = BlockTridiagonal(diagonal, lower), dense_of(diagonal, lower)
    assert np.array_equal(matrix.todense(), dense)
    assert_close(matrix.logdet(), np.linalg.slogdet(dense)[1])
    factor, expected = matrix.cholesky(), blocks_of(np.linalg.cholesky(dense), n)
    inverse, covariance = matrix.inverse_blocks(), blocks_of(np.linalg.inv(dense), n)
    for result, reference in zip((*factor, *inverse), (*expected, *covariance)):
        assert_close(result, reference)
    for columns in ((), (1,), (3,)):
        b = rng.normal(size=(*batch, n, m, *columns))
        stacked = b.reshape(*batch, n * m, -1)
        assert_close(matrix.solve(b), np.linalg.solve(dense, stacked).reshape(b.shape))
        assert_close(matrix @ b, (dense @ stacked).reshape(b.shape))
        assert np.array_equal(matrix.matmul(b), matrix @ b)


def test_one_matrix_gives_a_number(rng):
    diagonal, lower = blocks(rng, 3, 2)
    assert type(BlockTridiagonal(diagonal, lower).logdet()) is float
    assert BlockTridiagonal(diagonal[None], lower[None]).logdet().shape == (1,)


def test_a_big_batch_on_threads(rng, monkeypatch):
    diagonal, lower = blocks(rng, 3, 5, (40, 100))
    b = rng.normal(size=(40, 100, 3, 5))
    results = []
    for n_threads in (1, 4):
        monkeypatch.setattr(threads, "thread_count", lambda n=n_threads: n)
        matrix = BlockTridiagonal(diagonal, lower)
        results.append([matrix.logdet(), matrix.solve(b), *matrix.inverse_blocks()])
    for one, four in zip(*results):
        assert np.array_equal(one, four)
    dense = dense_of(diagonal, lower)
    assert_close(results[0][0], np.linalg.slogdet(dense)[1])
    assert_close(results[0][1], np.linalg.solve(dense, b.reshape(40, 100, 15, 1)).reshape(b.shape))


def test_float32_is_computed_in_float64(rng):
    arrays = [a.astype(np.float32) for a in blocks(rng, 4, 3, (2,))]
    b = rng.normal(size=(2, 4, 3)).astype(np.float32)
    single, double = BlockTridiagonal(*arrays), BlockTridiagonal(*map(np.float64, arrays))
    pairs = [
        (single.logdet(), double.logdet()),
        (single.solve(b), double.solve(b.astype(np.float64))),
        (single @ b, double @ b.astype(np.float64)),
        (single.sample(3, rng=0), double.sample(3, rng=0)),
        *zip(single.inverse_blocks(), double.inverse_blocks()),
        *zip(single.cholesky(), double.cholesky()),
    ]
    for low, high in pairs:
        assert (low.dtype, high.dtype) == (np.float32, np.float64)
        assert_close(low, high, FLOAT32)
    assert single.solve(b.astype(np.float64)).dtype == np.float64
    assert double.solve(b).dtype == np.float64
    assert BlockTridiagonal(arrays[0], arrays[1].astype(np.float64)).diagonal.dtype == np.float64


# Draws


@shapes
@pytest.mark.parametrize("n_draws", [1, 6])
def test_draws_are_back_substituted_normals(rng, batch, n_draws):
    diagonal, lower = blocks(rng, 4, 3, batch)
    draws = BlockTridiagonal(diagonal, lower).sample(n_draws, rng=5)
    normals = np.random.default_rng(5).standard_normal((n_draws, *batch, 12))
    factor = np.linalg.cholesky(dense_of(diagonal, lower))
    expected = np.linalg.solve(np.broadcast_to(factor.mT, (*normals.shape, 12)), normals[..., None])
    assert_close(draws, expected.reshape(n_draws, *batch, 4, 3))


def test_moments_of_draws(rng):
    diagonal, lower = blocks(rng, 3, 2)
    n = 200_000
    draws = BlockTridiagonal(diagonal, lower).sample(n, rng=rng).reshape(n, 6)
    covariance = np.linalg.inv(dense_of(diagonal, lower))
    sd = np.sqrt(np.diag(covariance))
    assert np.abs(draws.mean(axis=0) / sd).max() < 4.5 / math.sqrt(n)  # 5 % of 1e-4 by chance
    error = (np.cov(draws.T) - covariance) / np.multiply.outer(sd, sd)
    assert np.abs(error).max() < 4.5 * math.sqrt(2 / n)


def test_seeds(rng):
    matrix = BlockTridiagonal(*blocks(rng, 3, 2))
    assert np.array_equal(matrix.sample(4, rng=1), matrix.sample(4, rng=1))
    assert not np.array_equal(matrix.sample(4, rng=1), matrix.sample(4, rng=2))
    assert_close(matrix.sample(2, rng=1), matrix.sample(9, rng=1)[:2])


# The object


def test_it_is_frozen_and_keeps_copies(rng):
    diagonal, lower = blocks(rng, 3, 2)
    matrix = BlockTridiagonal(diagonal, lower)
    before = matrix.todense()
    diagonal[:], lower[:] = 0, 0
    assert np.array_equal(matrix.todense(), before)
    for array in (matrix.diagonal, matrix.lower):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        matrix.diagonal = diagonal
    matrix.cholesky()[0][:] = 0  # results are the caller's
    assert matrix.cholesky()[0].any()


def test_rounding_errors_of_symmetric_blocks_are_evened_out(rng):
    diagonal, lower = blocks(rng, 3, 4)
    noisy = diagonal * (1 + 1e-13 * rng.normal(size=diagonal.shape))
    matrix = BlockTridiagonal(noisy, lower)
    assert np.array_equal(matrix.diagonal, matrix.diagonal.mT)
    assert_close(matrix.logdet(), BlockTridiagonal(diagonal, lower).logdet())


def test_any_strides_and_kinds(rng):
    diagonal, lower = blocks(rng, 4, 3, (2,))
    expected = BlockTridiagonal(diagonal, lower)
    other = BlockTridiagonal(np.asfortranarray(diagonal), lower.mT.copy().mT)
    b = rng.normal(size=(3, 4, 2)).T
    assert np.array_equal(other.solve(b), expected.solve(b.copy()))
    whole = BlockTridiagonal([[[2]], [[2]]], [[[1]]])
    assert whole.diagonal.dtype == np.float64
    assert repr(expected) == "BlockTridiagonal(4 blocks of 3 x 3, batch of 2, float64)"


# Errors

D, E = np.stack([np.eye(2)] * 3), np.zeros((2, 2, 2))
MATRIX = BlockTridiagonal(D, E)
SKEW = np.array([[1.0, 1e-6], [0, 1.0]])


@pytest.mark.parametrize(
    ("diagonal", "lower", "error", "message"),
    [
        ("blocks", E, TypeError, "diagonal must be an array of real numbers; got dtype <U6"),
        (D + 0j, E, TypeError, "diagonal must be an array of real numbers; got dtype complex128"),
        (D[0], E, ValueError, r"diagonal must have shape \(..., L, M, M\); got \(2, 2\)"),
        (D[:, :1], E, ValueError, r"shape \(..., L, M, M\); got \(3, 1, 2\). Pass L square"),
        (D[:0], E, ValueError, r"diagonal must not be empty; got shape \(0, 2, 2\)"),
        (D, E[:1], ValueError, r"= \(2, 2, 2\), as diagonal has \(3, 2, 2\); got \(1, 2, 2\)"),
        (D, E[None], ValueError, r"lower must have shape .*got \(1, 2, 2, 2\)"),
        (D, E[:, :1], ValueError, r"lower must have shape .*got \(2, 1, 2\)"),
        (D, [], ValueError, "lower must not be empty"),
        (D[:1], E, ValueError, r"= \(0, 2, 2\), .*got \(2, 2, 2\)"),
        (D + np.nan, E, ValueError, r"diagonal must be finite; got 12 value\(s\)"),
        (D, E + np.inf, ValueError, r"lower must be finite; got 8 value\(s\)"),
        ([D[0], D[0], SKEW], E, ValueError, r"symmetric blocks; block \[2\] differs .* by 1e-06"),
        (D, E + 1, ValueError, "must be positive definite; got one that is not, at block 1. Add"),
        ([D, -D], [E, E], ValueError, "not, at block 0 of batch item 1. Add a small multiple"),
    ],
)
def test_blocks_that_are_refused(diagonal, lower, error, message):
    with pytest.raises(error, match=message):
        BlockTridiagonal(diagonal, lower)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MATRIX.solve("b"), TypeError, "b must be an array of real numbers"),
        (lambda: MATRIX.solve(D[:2, 0]), ValueError, r"b must have shape \(3, 2\) or \(3, 2, 'K'"),
        (lambda: MATRIX.solve(D[None]), ValueError, r"b must have shape .*got \(1, 3, 2, 2\)"),
        (lambda: MATRIX.solve(np.ones(6)), ValueError, r"got \(6,\). Reshape it, or repeat it"),
        (lambda: MATRIX.solve(np.full((3, 2), np.nan)), ValueError, "b must be finite"),
        (lambda: MATRIX.solve(np.ones((3, 2, 0))), ValueError, "b must not be empty"),
        (lambda: MATRIX @ np.ones(2), ValueError, r"x must have shape \(3, 2\)"),
        (lambda: MATRIX.sample(0), ValueError, "n must be an integer >= 1; got 0"),
        (lambda: MATRIX.sample(2.5), TypeError, "n must be an integer >= 1; got 2.5"),
        (lambda: MATRIX.sample(1, rng="seed"), TypeError, "rng must be None, an int or"),
    ],
)
def test_arguments_that_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()

"""The block-tridiagonal kernels against closed forms, and what they refuse."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from fastvis._kernels import blocktri, threads
from fastvis._kernels.blocktri import _cpu, reference

from .cases.blocktri import inputs


def random_walk(n_blocks, m=1):
    """Precision of x_l = x_{l-1} + noise: the covariance is min(i, j), for each of M variables."""
    diagonal = np.multiply.outer(np.r_[np.full(n_blocks - 1, 2.0), 1.0], np.eye(m))
    return diagonal, np.multiply.outer(np.full(n_blocks - 1, -1.0), np.eye(m))


def problem(rng, n=3, n_blocks=4, m=5):
    arrays = inputs((n, n_blocks, m, 1), np.float64, rng)
    return arrays["diagonal"], arrays["lower"]


@pytest.mark.parametrize("n_blocks", [1, 2, 7])
def test_a_random_walk(n_blocks):
    diagonal, lower = random_walk(n_blocks, 2)
    steps = np.arange(1.0, n_blocks + 1)
    covariance = np.kron(np.minimum(steps[:, None], steps), np.eye(2))
    np.testing.assert_allclose(np.linalg.inv(reference.dense(diagonal, lower)), covariance)

    factor = blocktri.factorize(diagonal, lower)
    assert blocktri.logdet(factor[0]) == pytest.approx(0, abs=1e-14)
    s, s_lower = blocktri.inverse_blocks(*factor)
    np.testing.assert_allclose(s, np.multiply.outer(steps, np.eye(2)), rtol=1e-13)
    np.testing.assert_allclose(s_lower, np.multiply.outer(steps[:-1], np.eye(2)), rtol=1e-13)
    columns = np.eye(2 * n_blocks).reshape(n_blocks, 2, -1)
    x = blocktri.solve(*factor, columns)
    np.testing.assert_allclose(x.reshape(covariance.shape), covariance, rtol=1e-13)
    product = blocktri.multiply(diagonal, lower, x)
    np.testing.assert_allclose(product, columns, atol=1e-13)


def test_draws_have_the_covariance(rng):
    # of all unit vectors: C^-T C^-1 = S
    diagonal, lower = problem(rng)
    factor = blocktri.factorize(diagonal, lower)
    units = np.broadcast_to(np.eye(20).reshape(4, 5, 20), (3, 4, 5, 20))
    x = blocktri.back_substitute(*factor, units).reshape(3, 20, 20)
    covariance = np.linalg.inv(reference.dense(diagonal, lower))
    np.testing.assert_allclose(x @ x.mT, covariance, atol=1e-13 * np.abs(covariance).max())
    y = blocktri.substitute(*factor, units).reshape(3, 20, 20)
    np.testing.assert_allclose(y, x.mT, atol=1e-13)


@pytest.mark.parametrize("level", range(_cpu.BEST_LEVEL + 1))
@pytest.mark.parametrize("m", [1, 3, 12, 50, 128, 129])
def test_blocks_of_all_sizes(rng, monkeypatch, m, level):
    """With vectors of all widths, and beyond 128 by a BLAS; the last bits differ."""
    names = "factorize", "inverse_blocks", "inverse_blocks_derivative"
    at_level = {name: partial(getattr(_cpu, name), level=level) for name in names}
    monkeypatch.setattr(blocktri, "_cpu", SimpleNamespace(**{**vars(_cpu), **at_level}))
    diagonal, lower = problem(rng, n=2, n_blocks=3, m=m)
    dense = reference.dense(diagonal, lower)
    inverse = np.linalg.inv(dense).reshape(2, 3, m, 3, m)
    factor = blocktri.factorize(diagonal, lower)
    for i in range(3):
        assert np.array_equal(factor[0][:, i], np.tril(factor[0][:, i]))
    c = np.linalg.cholesky(dense).reshape(2, 3, m, 3, m)
    s = blocktri.inverse_blocks(*factor)
    gradients = [rng.normal(size=a.shape) for a in factor]
    for x in (c, inverse):
        x_diagonal = x[:, range(3), :, range(3)].transpose(1, 0, 2, 3)
        x_lower = x[:, range(1, 3), :, range(2)].transpose(1, 0, 2, 3)
        ours = factor if x is c else s
        scale = 1e-12 * np.abs(x).max()
        np.testing.assert_allclose(ours[0], x_diagonal, atol=scale)
        np.testing.assert_allclose(ours[1], x_lower, atol=scale)
    vjp = blocktri.inverse_blocks_vjp(*factor, s[0], *gradients)
    step = [1e-6 * rng.normal(size=a.shape) for a in (diagonal, lower)]
    step[0] += step[0].mT
    ends = [
        blocktri.inverse_blocks(*blocktri.factorize(diagonal + t * step[0], lower + t * step[1]))
        for t in (-1, 1)
    ]
    change = sum((g * (b - a)).sum() for g, a, b in zip(gradients, *ends)) / 2
    assert sum((g * d).sum() for g, d in zip(vjp, step)) == pytest.approx(change, rel=1e-5)


def test_the_inverse_is_symmetric_to_the_last_bit(rng):
    factor = blocktri.factorize(*problem(rng, m=33))
    s, _ = blocktri.inverse_blocks(*factor)
    assert np.array_equal(s, s.mT)
    d, _ = blocktri.inverse_blocks_vjp(*factor, s, *(rng.normal(size=a.shape) for a in factor))
    assert np.array_equal(d, d.mT)


def test_each_item_of_a_batch_as_alone(rng):
    diagonal, lower = problem(rng, n=3000, n_blocks=3, m=4)
    factor = blocktri.factorize(diagonal, lower)
    results = *factor, *blocktri.inverse_blocks(*factor)
    for item in (0, 1, 1234, 2999):
        alone = blocktri.factorize(diagonal[item], lower[item])
        alone = *alone, *blocktri.inverse_blocks(*alone)
        for result, one in zip(results, alone):
            assert np.array_equal(result[item], one)


# What is refused


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize(
    ("batch", "item", "where"),
    [
        ((), (), "at block 2. "),
        ((5,), (3,), "at block 2 of batch item 3. "),
        ((2, 3), (1, 0), r"at block 2 of batch item \(1, 0\)\. "),
    ],
    ids=str,
)
def test_the_error_names_block_and_item(rng, monkeypatch, n_threads, batch, item, where):
    monkeypatch.setattr(threads, "thread_count", lambda: n_threads)
    monkeypatch.setattr(blocktri, "PIECE", 1)
    n = int(np.prod(batch))
    diagonal, lower = (a.reshape(*batch, *a.shape[1:]) for a in problem(rng, n=n, n_blocks=4, m=3))
    blocktri.factorize(diagonal, lower)
    diagonal[(*item, 2, 0, 0)] = diagonal[(*item, 3, 0, 0)] = -1
    expected = pytest.raises(np.linalg.LinAlgError, match=f"must be positive definite; .*{where}")
    with expected:
        blocktri.factorize(diagonal, lower)
    if n > 1:  # of several items, the first one, whatever its block
        diagonal[(-1,) * len(batch)][3 if len(batch) == 1 else 0] *= -1
        with expected:
            blocktri.factorize(diagonal, lower)


def test_only_the_whole_is_indefinite():
    # every diagonal block is positive definite
    diagonal, lower = np.ones((3, 1, 1)), np.full((2, 1, 1), 0.8)
    assert np.linalg.eigvalsh(reference.dense(diagonal, lower))[0] < 0
    with pytest.raises(ValueError, match="at block 2"):
        blocktri.factorize(diagonal, lower)


@pytest.mark.parametrize(
    ("change", "block"),
    [
        (lambda d, e: d.__setitem__((1, 2, 2), np.nan), 1),
        (lambda d, e: d.__setitem__((1, 2, 0), np.nan), 1),
        (lambda d, e: e.__setitem__((0, 2, 2), np.nan), 1),
        (lambda d, e: e.__setitem__((2, 0, 1), np.inf), 3),
        (lambda d, e: d.__setitem__(slice(None), 0), 0),
        (lambda d, e: d.__setitem__((0, 1, 1), 1e-320), 0),  # 1 / pivot would be infinite
        (lambda d, e: e.__setitem__((1, 1, 1), 1e300), 2),
    ],
)
def test_no_nan_comes_out(rng, change, block):
    diagonal, lower = (a[0] for a in problem(rng, n=1))
    if block == 0:
        diagonal[0] = np.eye(5)
    change(diagonal, lower)
    with pytest.raises(ValueError, match=f"at block {block}"):
        blocktri.factorize(diagonal, lower)


def test_pivots_at_the_ends_of_the_range():
    for size in (3e-308, 1e307):
        factor = blocktri.factorize(size * np.eye(2)[None], np.empty((0, 2, 2)))
        s, _ = blocktri.inverse_blocks(*factor)
        np.testing.assert_allclose(s[0], np.eye(2) / size, rtol=1e-15)

"""ChainGaussian against dense Gaussian algebra."""

import math

import numpy as np
import pytest

from fastvis._kernels import threads
from fastvis.gp import BlockTridiagonal, ChainGaussian

TOLERANCE = 1e-12  # of the largest number, at a condition below 1e4
FLOAT32 = 2e-7  # results are rounded once

shapes = pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
sizes = pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (6, 1), (2, 3), (5, 7)])


def parameters(rng, n, m, batch=()):
    mean = rng.normal(size=(*batch, n, m))
    gain = 0.7 * rng.normal(size=(*batch, n - 1, m, m)) / math.sqrt(m)
    factor = 0.3 * np.tril(rng.normal(size=(*batch, n, m, m))) / math.sqrt(m)
    at = np.arange(m)
    factor[..., at, at] = 0.5 + rng.random((*batch, n, m))
    return mean, gain, factor


def dense_of(gain, factor):
    """A of v = mean + A e: the recursion, for all unit vectors e."""
    *batch, n, m, _ = factor.shape
    units = np.broadcast_to(np.eye(n * m).reshape(n, m, n * m), (*batch, n, m, n * m))
    v = [factor[..., 0, :, :] @ units[..., 0, :, :]]
    for i in range(1, n):
        own = factor[..., i, :, :] @ units[..., i, :, :]
        v.append(gain[..., i - 1, :, :] @ v[-1] + own)
    root = np.concatenate(v, axis=-2)
    assert np.linalg.cond(root).max() < 1e2  # of the covariance: the square
    return root


def block(matrix, i, j, m):
    return matrix[..., i * m : i * m + m, j * m : j * m + m]


def assert_close(result, expected, tolerance=TOLERANCE):
    assert np.shape(result) == np.shape(expected)
    if np.size(expected):
        assert np.abs(result - expected).max() <= tolerance * np.abs(expected).max()


def kl_to_standard(mean, covariance):
    trace = np.trace(covariance, axis1=-2, axis2=-1)
    squares = np.sum(np.reshape(mean, (*covariance.shape[:-2], -1)) ** 2, axis=-1)
    size = covariance.shape[-1]
    return (trace + squares - size - np.linalg.slogdet(covariance)[1]) / 2


@shapes
@sizes
def test_everything_is_that_of_the_dense_gaussian(rng, n, m, batch):
    mean, gain, factor = parameters(rng, n, m, batch)
    chain, root = ChainGaussian(mean, gain, factor), dense_of(gain, factor)
    covariance = root @ root.mT
    own = [block(covariance, i, i, m) for i in range(n)]
    diagonal, lower = chain.covariance_blocks()
    assert_close(diagonal, np.stack(own, axis=-3))
    for i in range(1, n):
        assert_close(lower[..., i - 1, :, :], block(covariance, i, i - 1, m))
    logdet = np.linalg.slogdet(covariance)[1]
    assert_close(chain.logdet(), logdet)
    assert_close(chain.kl(), kl_to_standard(mean, covariance))
    coupling = (sum(np.linalg.slogdet(s)[1] for s in own) - logdet) / 2
    scale = np.abs(logdet).max()  # a difference of log-determinants
    assert np.shape(chain.total_correlation()) == batch
    assert np.abs(chain.total_correlation() - coupling).max() <= TOLERANCE * scale
    assert_close(chain.precision().todense(), np.linalg.inv(covariance))


@shapes
@sizes
def test_precision_and_back(rng, n, m, batch):
    mean, gain, factor = parameters(rng, n, m, batch)
    chain = ChainGaussian(mean, gain, factor)
    back = ChainGaussian.from_precision(mean, chain.precision())
    for name in ("mean", "gain", "factor"):
        assert_close(getattr(back, name), getattr(chain, name))
    again = back.precision()
    assert_close(again.diagonal, chain.precision().diagonal)
    assert_close(again.lower, chain.precision().lower)


def test_the_chain_of_any_precision(rng):
    # one that was not made from a chain
    a, below = rng.normal(size=(2, 4, 3, 3)), rng.normal(size=(2, 3, 3, 3))
    diagonal = a @ a.mT + np.eye(3)
    diagonal[:, 1:] += below @ below.mT
    precision = BlockTridiagonal(diagonal, below @ a[:, :-1].mT)
    mean = rng.normal(size=(2, 4, 3))
    chain = ChainGaussian.from_precision(mean, precision)
    assert np.array_equal(chain.mean, mean)
    for result, expected in zip(chain.covariance_blocks(), precision.inverse_blocks()):
        assert_close(result, expected)
    assert_close(chain.logdet(), -precision.logdet())


def test_canonical_correlations_as_defined(rng):
    mean, gain, factor = parameters(rng, 4, 5, (2,))
    root = dense_of(gain, factor)
    covariance = root @ root.mT

    def whitener(s):  # S^-1/2
        values, vectors = np.linalg.eigh(s)
        return vectors / np.sqrt(values)[..., None, :] @ vectors.mT

    expected = [
        np.linalg.svd(
            whitener(block(covariance, i, i, 5))
            @ block(covariance, i, i - 1, 5)
            @ whitener(block(covariance, i - 1, i - 1, 5)),
            compute_uv=False,
        )
        for i in range(1, 4)
    ]
    chain = ChainGaussian(mean, gain, factor)
    correlations = chain.canonical_correlations()
    assert_close(correlations, np.stack(expected, axis=-2))
    # of a Markov chain, what neighbors share is all that is shared
    assert_close(chain.total_correlation(), -np.log(1 - correlations**2).sum(axis=(1, 2)) / 2)


@pytest.mark.parametrize("gain", [1e-9, 1e-3, 0.5, 1.0, 1e3, 1e9])
def test_total_correlation_of_two_numbers(gain):
    # I(v_1; v_2) = log(1 + gain^2) / 2 for unit noise, to full precision whatever its size
    chain = ChainGaussian(np.zeros((2, 1)), [[[gain]]], np.ones((2, 1, 1)))
    assert chain.total_correlation() == pytest.approx(np.log1p(gain**2) / 2, rel=1e-14, abs=0)
    correlation = chain.canonical_correlations().item()
    assert correlation == pytest.approx(gain / math.hypot(1, gain), rel=1e-14, abs=0)
    assert correlation <= 1


def test_without_coupling(rng):
    mean, gain, factor = parameters(rng, 4, 3)
    chain = ChainGaussian(mean, 0 * gain, factor)
    assert chain.total_correlation() == 0
    assert not chain.canonical_correlations().any()
    alone = [ChainGaussian(mean[[i]], [], factor[[i]]).kl() for i in range(4)]
    assert chain.kl() == pytest.approx(sum(alone), rel=1e-13)


def test_kl_is_that_of_the_layers_and_total_correlation(rng):
    mean, gain, factor = parameters(rng, 4, 3, (2,))
    chain = ChainGaussian(mean, gain, factor)
    diagonal, _ = chain.covariance_blocks()
    layers = [
        ChainGaussian(mean[:, [i]], np.empty((2, 0, 3, 3)), np.linalg.cholesky(diagonal[:, [i]]))
        for i in range(4)
    ]
    assert_close(chain.kl(), sum(layer.kl() for layer in layers) + chain.total_correlation())


def test_the_standard_normal_is_at_no_distance():
    chain = ChainGaussian(np.zeros((3, 4)), np.zeros((2, 4, 4)), np.stack([np.eye(4)] * 3))
    assert type(chain.kl()) is float
    assert chain.kl() == 0
    assert chain.logdet() == 0


def test_float32_is_computed_in_float64(rng):
    arrays = [a.astype(np.float32) for a in parameters(rng, 4, 3, (2,))]
    single, double = ChainGaussian(*arrays), ChainGaussian(*map(np.float64, arrays))
    pairs = [
        *((getattr(c, f)() for c in (single, double)) for f in ("kl", "logdet")),
        (single.total_correlation(), double.total_correlation()),
        (single.canonical_correlations(), double.canonical_correlations()),
        (single.sample(3, rng=0), double.sample(3, rng=0)),
        *zip(single.covariance_blocks(), double.covariance_blocks()),
        (single.precision().diagonal, double.precision().diagonal),
    ]
    for low, high in pairs:
        assert (low.dtype, high.dtype) == (np.float32, np.float64)
        assert_close(low, high, FLOAT32)
    back = ChainGaussian.from_precision(arrays[0], single.precision())
    assert back.factor.dtype == np.float32
    assert_close(back.factor, double.factor, 1e-5)  # of a precision in float32


# Draws


@shapes
@pytest.mark.parametrize("n_draws", [1, 6])
def test_draws_are_the_recursion_of_normals(rng, batch, n_draws):
    mean, gain, factor = parameters(rng, 4, 3, batch)
    draws = ChainGaussian(mean, gain, factor).sample(n_draws, rng=5)
    normals = np.random.default_rng(5).standard_normal((n_draws, *batch, 12, 1))
    expected = (dense_of(gain, factor) @ normals).reshape(n_draws, *batch, 4, 3) + mean
    assert_close(draws, expected)


def test_moments_of_draws(rng):
    mean, gain, factor = parameters(rng, 3, 2)
    n = 200_000
    draws = ChainGaussian(mean, gain, factor).sample(n, rng=rng).reshape(n, 6)
    root = dense_of(gain, factor)
    covariance = root @ root.T
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((draws.mean(axis=0) - mean.ravel()) / sd).max() < 4.5 / math.sqrt(n)
    error = (np.cov(draws.T) - covariance) / np.multiply.outer(sd, sd)
    assert np.abs(error).max() < 4.5 * math.sqrt(2 / n)


def test_same_bytes_for_any_number_of_threads(rng, monkeypatch):
    from threadpoolctl import threadpool_limits

    arrays = parameters(rng, 2, 150)
    results = []
    for n_threads in (1, 3):
        monkeypatch.setattr(threads, "thread_count", lambda n=n_threads: n)
        with threadpool_limits(n_threads, user_api="blas"):
            chain = ChainGaussian(*arrays)
            results.append([chain.sample(50, rng=0), chain.kl(), *chain.covariance_blocks()])
            results[-1].append(chain.precision().diagonal)
    for one, three in zip(*results):
        assert np.array_equal(one, three)


# The object


def test_it_is_frozen_and_keeps_copies(rng):
    mean, gain, factor = parameters(rng, 3, 2)
    chain = ChainGaussian(mean, gain, factor)
    before = chain.kl()
    mean[:], gain[:], factor[:] = 0, 0, 0
    assert chain.kl() == before
    with pytest.raises(ValueError, match="read-only"):
        chain.mean[0] = 0
    with pytest.raises(AttributeError):
        chain.mean = mean
    chain.covariance_blocks()[0][:] = 0
    assert chain.kl() == before
    assert repr(chain) == "ChainGaussian(3 layers of 2, float64)"


# Errors

N, H, T = np.zeros((3, 2)), np.zeros((2, 2, 2)), np.stack([np.eye(2)] * 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("mean", H, T), TypeError, "mean must be an array of real numbers"),
        ((N, H, T[0]), ValueError, r"factor must have shape \(..., L, M, M\); got \(2, 2\)"),
        ((N, H[:1], T), ValueError, r"gain must have shape .* as factor has .*got \(1, 2, 2\)"),
        ((N[0], H, T), ValueError, r"mean must have shape .*= \(3, 2\).*; got \(2,\)"),
        ((N[None], H, T), ValueError, r"mean must have shape .*got \(1, 3, 2\)"),
        ((N + np.nan, H, T), ValueError, r"mean must be finite; got 6 value\(s\)"),
        ((N, H + np.inf, T), ValueError, "gain must be finite"),
        ((N, H, T + np.nan), ValueError, "factor must be finite"),
        ((N, H, T + 0.1), ValueError, "factor must be lower triangular; got values above"),
        ((N, H, -T), ValueError, "factor must have a positive diagonal; got -1. Change the sign"),
        ((N, H, 0 * T), ValueError, "factor must have a positive diagonal; got 0."),
    ],
)
def test_parameters_that_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ChainGaussian(*arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.sample(0), ValueError, "n must be an integer >= 1; got 0"),
        (lambda c: c.sample(1, rng=-1), ValueError, "rng must not be negative"),
        (lambda c: c.from_precision(N, T), TypeError, "must be a fastvis.gp.BlockTri.*got ndarray"),
        (lambda c: c.from_precision(N[:2], c.precision()), ValueError, "mean must have shape"),
    ],
)
def test_arguments_that_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(ChainGaussian(N, H, T))

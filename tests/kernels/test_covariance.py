"""The covariance kernels: every leaf, every kind of vectors, programs, derivatives, extremes."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.gaussian_process import kernels as peer

from fastvis._kernels import covariance
from fastvis._kernels.covariance import ADD, KINDS, MOST_OPS, MULTIPLY, Program, _cpu, reference

# of the largest number: both sides round, in other orders
TOLERANCE = 1e-13
LEAF = np.array([0])
kinds = pytest.mark.parametrize("kind", KINDS)
stationary = pytest.mark.parametrize("kind", KINDS[:5])
# blocks have 32 points
sizes = pytest.mark.parametrize("size", [(1, 1), (1, 45), (33, 1), (31, 32), (65, 97)], ids=str)
dims = pytest.mark.parametrize("d", [1, 2, 7])


@pytest.fixture(params=range(_cpu.BEST_LEVEL + 1), ids=lambda level: f"level {level}")
def level(request, monkeypatch):
    """All kernels run with this kind of vectors."""
    names = "matrix", "half_matrix", "matrix_vjp"
    at_level = {name: partial(getattr(_cpu, name), level=request.param) for name in names}
    monkeypatch.setattr(covariance, "_cpu", SimpleNamespace(**{**vars(_cpu), **at_level}))


def leaf(kind):
    return Program(np.array([KINDS.index(kind)]), LEAF)


def random_parameters(rng, n_leaves, d):
    return rng.uniform(0.5, 2, (n_leaves, 1 + 2 * d))


def arguments(parameters):
    """Variance, lengthscale and period of a leaf, as in formulas."""
    scale, frequency = np.split(parameters[0, 1:], 2)
    return parameters[0, 0], 1 / scale, 2 * np.pi / frequency


def assert_close(result, expected, tolerance=TOLERANCE):
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() <= tolerance * np.abs(expected).max()


# Values


@kinds
@sizes
@dims
@pytest.mark.usefixtures("level")
def test_leaves_are_as_defined(rng, kind, size, d):
    x, z = rng.normal(size=(2, size[0], d)), rng.normal(size=(2, size[1], d))
    parameters = random_parameters(rng, 1, d)
    expected = reference.matrix([kind], [0], parameters, x, z)
    assert_close(covariance.matrix(leaf(kind), parameters, x, z), expected)
    alone = covariance.matrix(leaf(kind), parameters, x, z[:1])
    assert_close(alone[1], reference.matrix([kind], [0], parameters, x[1:], z[:1])[0])


SKLEARN = {
    "squared_exponential": lambda v, l, p: v * peer.RBF(l),
    "matern_12": lambda v, l, p: v * peer.Matern(l, nu=0.5),
    "matern_32": lambda v, l, p: v * peer.Matern(l, nu=1.5),
    "matern_52": lambda v, l, p: v * peer.Matern(l, nu=2.5),
    "periodic": lambda v, l, p: v * peer.ExpSineSquared(l[0], p[0]),  # for one dimension
    "linear": lambda v, l, p: v / l[0] ** 2 * peer.DotProduct(sigma_0=0),  # for one lengthscale
    "white": lambda v, l, p: peer.WhiteKernel(v),
}


@kinds
@dims
def test_leaves_are_those_of_scikit_learn(rng, kind, d):
    d = 1 if kind in ("periodic", "linear") else d
    x, z, parameters = (
        rng.normal(size=(9, d)),
        rng.normal(size=(7, d)),
        random_parameters(rng, 1, d),
    )
    k = SKLEARN[kind](*arguments(parameters))
    assert_close(covariance.matrix(leaf(kind), parameters, x[None], z[None])[0], k(x, z))
    assert_close(covariance.matrix(leaf(kind), parameters, x[None])[0], k(x))
    assert_close(covariance.diagonal(leaf(kind), parameters, x), k.diag(x))


def random_tree(rng, n_leaves, first=0):
    """Postfix of a tree of sums and products, in any nesting."""
    if n_leaves == 1:
        return [first]
    left = int(rng.integers(1, n_leaves))
    right = random_tree(rng, n_leaves - left, first + left)
    return [*random_tree(rng, left, first), *right, int(rng.choice([ADD, MULTIPLY]))]


def evaluate(ops, leaves):
    stack = []
    for op in ops:
        if op >= 0:
            stack.append(leaves[op])
        else:
            b, a = stack.pop(), stack.pop()
            stack.append(a + b if op == ADD else a * b)
    (value,) = stack
    return value


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.usefixtures("level")
def test_programs(seed):
    rng = np.random.default_rng(seed)
    n_leaves, d = int(rng.integers(2, 9)), 2
    program = Program(rng.integers(0, 7, n_leaves), np.array(random_tree(rng, n_leaves)))
    names = [KINDS[kind] for kind in program.kinds]
    parameters = random_parameters(rng, n_leaves, d)
    x, z = rng.normal(size=(2, 9, d)), rng.normal(size=(1, 35, d))
    result = covariance.matrix(program, parameters, x, z)
    leaves = [reference.matrix([k], [0], p[None], x, z) for k, p in zip(names, parameters)]
    expected = evaluate(program.ops, leaves)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12 * np.abs(leaves).max())
    same = [reference.matrix([k], [0], p[None], x, x) for k, p in zip(names, parameters)]
    for k, p, value in zip(names, parameters, same):
        value += p[0] * np.eye(9) * (k == "white")
    expected = evaluate(program.ops, same)
    assert_close(covariance.matrix(program, parameters, x), expected, 1e-12)
    expected = np.einsum("bii->bi", expected)
    assert_close(covariance.diagonal(program, parameters, x), expected, 1e-12)


@pytest.mark.parametrize("nesting", ["left", "right"])
@pytest.mark.usefixtures("level")
def test_the_largest_program(rng, nesting):
    n = (MOST_OPS + 1) // 2
    right = [*range(n), *(n - 1) * [ADD]]
    left = [0, *(op for i in range(1, n) for op in (i, ADD))]
    program = Program(np.zeros(n, int), np.array(right if nesting == "right" else left))
    parameters, x = random_parameters(rng, n, 2), rng.normal(size=(1, 5, 2))
    expected = reference.matrix(n * KINDS[:1], program.ops, parameters, x, x)
    assert_close(covariance.matrix(program, parameters, x), expected)


# The same points

EVERYTHING = Program(np.arange(7), np.array([0, 4, -1, 5, -2, 2, 3, -2, -1, 6, -1, 1, -1]))


@pytest.mark.parametrize("n", [1, 31, 32, 33, 100])
@pytest.mark.usefixtures("level")
def test_symmetric_to_the_last_bit(rng, n):
    x, parameters = 10 * rng.normal(size=(3, n, 2)), random_parameters(rng, 7, 2)
    k = covariance.matrix(EVERYTHING, parameters, x)
    np.testing.assert_array_equal(k, k.transpose(0, 2, 1))
    others = covariance.matrix(EVERYTHING, parameters, x, x)
    off = ~np.eye(n, dtype=bool)
    np.testing.assert_array_equal(k[:, off], others[:, off])
    np.testing.assert_array_equal(
        np.einsum("bii->bi", k), covariance.diagonal(EVERYTHING, parameters, x)
    )
    assert_close(np.einsum("bii->bi", k - others), np.full((3, n), parameters[6, 0]), 1e-10)


def test_white_in_a_product(rng):
    program = Program(np.array([6, 5]), np.array([0, 1, MULTIPLY]))
    x, parameters = rng.normal(size=(1, 5, 2)), random_parameters(rng, 2, 2)
    k = covariance.matrix(program, parameters, x)[0]
    linear = reference.matrix(["linear"], [0], parameters[1:], x, x)[0]
    assert_close(k, parameters[0, 0] * np.diag(np.diag(linear)))


# Derivatives


@kinds
@sizes
@dims
@pytest.mark.usefixtures("level")
def test_derivatives_of_leaves(rng, kind, size, d):
    n, m = size
    x, z = rng.normal(size=(2, n, d)), rng.normal(size=(2, m, d))
    parameters, gradient = random_parameters(rng, 1, d), rng.normal(size=(2, n, m))
    scale = np.abs(gradient).sum() / 10
    for z_ in (z, z[:1]):
        results = covariance.matrix_vjp(leaf(kind), parameters, x, z_, gradient)
        expected = reference.matrix_vjp([kind], [0], parameters, x, z_, gradient)
        for result, e in zip(results, expected):
            np.testing.assert_allclose(result, e, rtol=0, atol=TOLERANCE * scale)


def differences(function, array, step=1e-6):
    """Derivatives of a number by all entries of an array, by central differences."""
    result = np.zeros(array.shape)
    for i in np.ndindex(array.shape):
        right, left = array.copy(), array.copy()
        right[i] += step
        left[i] -= step
        result[i] = (function(right) - function(left)) / (2 * step)
    return result


def assert_are_differences(derivatives, function, *arrays):
    """Derivatives by all arrays, of the function of them."""
    for i, (derivative, array) in enumerate(zip(derivatives, arrays)):
        expected = differences(lambda a: function(*arrays[:i], a, *arrays[i + 1 :]), array)  # noqa: B023
        np.testing.assert_allclose(derivative, expected, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("kind", [*KINDS, "everything"])
@pytest.mark.parametrize("d", [1, 3])
def test_derivatives_are_finite_differences(rng, kind, d):
    program = EVERYTHING if kind == "everything" else leaf(kind)
    parameters = random_parameters(rng, len(program.kinds), d)
    x, z = rng.normal(size=(1, 5, d)), rng.normal(size=(1, 4, d))
    gradient, square = rng.normal(size=(1, 5, 4)), rng.normal(size=(1, 5, 5))

    def loss(x, z, parameters):
        return (gradient * covariance.matrix(program, parameters, x, z)).sum()

    derivatives = covariance.matrix_vjp(program, parameters, x, z, gradient)
    assert_are_differences(derivatives, loss, x, z, parameters)

    def loss_of_one(x, parameters):
        return (square * covariance.matrix(program, parameters, x)).sum()

    derivatives = covariance.matrix_vjp(program, parameters, x, None, square)
    assert derivatives[1] is None
    assert_are_differences(derivatives[::2], loss_of_one, x, parameters)

    def loss_of_diagonal(x, parameters):
        return (gradient[:, 0] * covariance.diagonal(program, parameters, x[:, :4])).sum()

    derivatives = covariance.diagonal_vjp(program, parameters, x[:, :4], gradient[:, 0])
    assert_are_differences(derivatives, loss_of_diagonal, x[:, :4], parameters)


# Extremes


@stationary
@pytest.mark.usefixtures("level")
def test_points_that_coincide(rng, kind):
    x, parameters = rng.normal(size=(1, 4, 2)), random_parameters(rng, 1, 2)
    x[0, 2] = x[0, 0]
    k = covariance.matrix(leaf(kind), parameters, x, x)
    assert k[0, 2, 0] == k[0, 0, 0] == parameters[0, 0]
    gradient = np.zeros((1, 4, 4))
    gradient[0, [0, 2], [2, 2]] = 1
    dx, dz, d_parameters = covariance.matrix_vjp(leaf(kind), parameters, x, x, gradient)
    assert not dx.any()
    assert not dz.any()
    assert not d_parameters[0, 1:].any()
    assert d_parameters[0, 0] == 2


@pytest.mark.parametrize("distance", [1e-9, 1e-40, 1e-120])
@pytest.mark.usefixtures("level")
def test_the_kink_of_matern_12_has_no_width(distance):
    x, z = np.zeros((1, 1, 1)), np.full((1, 1, 1), distance)
    one = np.ones((1, 1, 1))
    _, dz, _ = covariance.matrix_vjp(leaf("matern_12"), np.ones((1, 3)), x, z, one)
    np.testing.assert_allclose(dz, -1, rtol=1e-8)


@stationary
@pytest.mark.usefixtures("level")
def test_far_points(kind):
    z = np.array([[[30.0], [300], [800], [1e6], [1e100], [1e160]]])
    k = covariance.matrix(leaf(kind), np.ones((1, 3)), np.zeros((1, 1, 1)), z)[0, 0]
    assert np.isfinite(k).all()
    derivatives = covariance.matrix_vjp(
        leaf(kind), np.ones((1, 3)), np.zeros((1, 1, 1)), z, np.ones((1, 1, 6))
    )
    assert all(np.isfinite(a).all() for a in derivatives)
    if kind != "periodic":
        assert k[0] > 0
        assert not k[2:].any()


@pytest.mark.usefixtures("level")
def test_the_exponential_to_the_last_bits():
    distances = np.arange(37.62 * 256) / 256  # their squares are exact
    arrays = np.ones((1, 3)), np.zeros((1, 1, 1)), distances[None, :, None]
    k = covariance.matrix(leaf("squared_exponential"), *arrays)[0, 0]
    np.testing.assert_allclose(k, np.exp(-(distances**2) / 2), rtol=4e-16, atol=0)


@stationary
@pytest.mark.parametrize("offset", [1e6, -3e9])
def test_points_far_from_zero(rng, kind, offset):
    # positions, in steps of 2^-20, are exact here and there
    x, z = (np.round(rng.normal(size=(2, n, 2)) * 2**20) / 2**20 for n in (9, 11))
    parameters, gradient = random_parameters(rng, 1, 2), rng.normal(size=(2, 9, 11))
    here = covariance.matrix(leaf(kind), parameters, x, z)
    assert_close(covariance.matrix(leaf(kind), parameters, x + offset, z + offset), here)
    here = covariance.matrix_vjp(leaf(kind), parameters, x, z, gradient)
    there = covariance.matrix_vjp(leaf(kind), parameters, x + offset, z + offset, gradient)
    for a, b in zip(there, here):
        assert_close(a, b, 1e-12)


@pytest.mark.usefixtures("level")
def test_nan_is_not_hidden():
    x = np.array([[[np.nan]]])
    for kind in KINDS[:6]:
        assert np.isnan(covariance.matrix(leaf(kind), np.ones((1, 3)), x, 0 * x + 1)).all()
        assert np.isnan(covariance.matrix(leaf(kind), np.ones((1, 3)), np.ones((1, 1, 1)), x)).all()

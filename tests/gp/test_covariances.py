"""Covariance functions as users meet them: algebra, shapes, hyperparameters, errors."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastvis._kernels.covariance import MOST_OPS, reference
from fastvis.gp import Linear, Matern, Periodic, SquaredExponential, White

LEAVES = {
    "squared exponential": SquaredExponential(1.3, 0.7),
    "periodic": Periodic(0.8, 1.1, 2.0),
    "Matern 1/2": Matern(0.5, 0.6, 1.4),
    "Matern 3/2": Matern(1.5, 0.6, [1.4, 0.5, 0.9]),
    "Matern 5/2": Matern(2.5, 0.6, 1.4),
    "linear": Linear(1.2, [0.3, 2.0, 1.0]),
    "white": White(0.3),
    "periodic in each dimension": Periodic(0.8, [1.1, 2.0, 0.6], [2.0, 1.0, 3.0]),
}
SUM = (LEAVES["squared exponential"] + LEAVES["linear"]) * LEAVES["periodic"] + LEAVES["white"]
COVARIANCES = {**LEAVES, "a sum of a product of a sum": SUM}
leaves = pytest.mark.parametrize("k", LEAVES.values(), ids=LEAVES)
covariances = pytest.mark.parametrize("k", COVARIANCES.values(), ids=COVARIANCES)


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 3))


@pytest.fixture
def z(rng):
    return rng.normal(size=(4, 3)) + 0.1


# Values


def test_leaves_are_as_defined(x, z):
    a, b = x[:, None], z[None]
    for name, expected in {
        "squared exponential": reference.squared_exponential(a, b, 1.3, 0.7),
        "periodic": reference.periodic(a, b, 0.8, 1.1, 2.0),
        "Matern 1/2": reference.matern(a, b, 0.6, 1.4, 0.5),
        "Matern 3/2": reference.matern(a, b, 0.6, [1.4, 0.5, 0.9], 1.5),
        "Matern 5/2": reference.matern(a, b, 0.6, 1.4, 2.5),
        "linear": reference.linear(a, b, 1.2, [0.3, 2.0, 1.0]),
        "white": np.zeros((5, 4)),
        "periodic in each dimension": reference.periodic(
            a, b, 0.8, np.array([1.1, 2.0, 0.6]), np.array([2.0, 1.0, 3.0])
        ),
    }.items():
        np.testing.assert_allclose(LEAVES[name](x, z), expected, rtol=1e-13, atol=1e-14)


@covariances
def test_one_set_of_points(k, x):
    matrix = k(x)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), k.diag(x))
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_array_equal(matrix[off], k(x, x)[off])


def test_white_is_for_the_same_points_alone(x):
    k = SquaredExponential() + White(0.5)
    np.testing.assert_array_equal(np.diag(k(x)), 1.5)
    np.testing.assert_array_equal(np.diag(k(x, x)), 1.0)
    np.testing.assert_array_equal(k.diag(x), 1.5)
    np.testing.assert_array_equal((White(2.0) * k)(x), 3 * np.eye(5))


def test_sums_and_products(x, z):
    a, b, c, d = (LEAVES[name] for name in list(LEAVES)[:4])
    for combine in (
        lambda a, b, c, d: a + b,
        lambda a, b, c, d: a * b,
        lambda a, b, c, d: a * b + c * d,
        lambda a, b, c, d: (a + b) * (c + d),
        lambda a, b, c, d: a + (b * (c + d)) + a,
        lambda a, b, c, d: a * (b * (c * d)),
    ):
        k = combine(a, b, c, d)
        expected = combine(*(leaf(x, z) for leaf in (a, b, c, d)))
        np.testing.assert_allclose(k(x, z), expected, rtol=1e-14)
        expected = combine(*(leaf.diag(x) for leaf in (a, b, c, d)))
        np.testing.assert_allclose(k.diag(x), expected, rtol=1e-14)


@covariances
def test_batches(k, rng):
    x, z = rng.normal(size=(2, 3, 5, 3)), rng.normal(size=(2, 3, 4, 3))
    for z_ in (z, z[0, 0], None):
        matrices = k(x, z_)
        assert matrices.shape == (2, 3, 5, 5 if z_ is None else 4)
        gradient = rng.normal(size=matrices.shape)
        dx, dz, dtheta = k.gradients(x, z_, gradient)
        dz_sum, dtheta_sum = 0, 0
        for i in np.ndindex(2, 3):
            own = z_[i] if np.ndim(z_) == 4 else z_
            np.testing.assert_allclose(matrices[i], k(x[i], own), rtol=1e-13, atol=1e-15)
            dx_i, dz_i, dtheta_i = k.gradients(x[i], own, gradient[i])
            np.testing.assert_allclose(dx[i], dx_i, rtol=1e-11, atol=1e-12)
            dtheta_sum = dtheta_sum + dtheta_i
            if np.ndim(z_) == 4:
                np.testing.assert_allclose(dz[i], dz_i, rtol=1e-11, atol=1e-12)
            elif z_ is not None:
                dz_sum = dz_sum + dz_i
        np.testing.assert_allclose(dtheta, dtheta_sum, rtol=1e-11, atol=1e-12)
        if np.ndim(z_) == 2:
            np.testing.assert_allclose(dz, dz_sum, rtol=1e-11, atol=1e-12)
    diagonals = k.diag(x)
    assert diagonals.shape == (2, 3, 5)
    np.testing.assert_array_equal(diagonals[1, 2], k.diag(x[1, 2]))


def test_points_of_one_dimension(rng):
    k = Periodic(0.8, 1.1, [2.0]) + White()
    x, z = rng.normal(size=5), rng.normal(size=4)
    np.testing.assert_array_equal(k(x, z), k(x[:, None], z[:, None]))
    np.testing.assert_array_equal(k(x), k(x[:, None]))
    dx, dz, _ = k.gradients(x, z, np.ones((5, 4)))
    assert (dx.shape, dz.shape) == ((5,), (4,))
    assert k.diag_gradients(x, np.ones(5))[0].shape == (5,)
    np.testing.assert_array_equal(k([0, 1]), k([0.0, 1.0]))


@covariances
def test_float32_is_float64_rounded(k, x, z):
    x32, z32 = x.astype(np.float32), z.astype(np.float32)
    x64, z64 = x32.astype(np.float64), z32.astype(np.float64)
    gradient = np.ones((5, 4), np.float32)
    results = k(x32, z32), k(x32), k.diag(x32), *k.gradients(x32, z32, gradient)[:2]
    exact = k(x64, z64), k(x64), k.diag(x64), *k.gradients(x64, z64, gradient)[:2]
    for result, e in zip(results, exact):
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, e.astype(np.float32))
    assert k.gradients(x32, z32, gradient)[2].dtype == np.float64


def test_any_strides_and_read_only(x):
    k, wide = SUM, np.repeat(x, 2, axis=1)[:, ::2]
    wide.flags.writeable = False
    np.testing.assert_array_equal(k(wide), k(x))
    gradient = np.broadcast_to(np.float64(1), (5, 5))
    for result, e in zip(k.gradients(wide, None, gradient), k.gradients(x, None, np.ones((5, 5)))):
        np.testing.assert_array_equal(result, e)


# Derivatives


def differences(function, array, step=1e-6):
    result = np.zeros(array.shape)
    for i in np.ndindex(array.shape):
        right, left = array.copy(), array.copy()
        right[i] += step
        left[i] -= step
        result[i] = (function(right) - function(left)) / (2 * step)
    return result


@covariances
@pytest.mark.parametrize("same", [False, True], ids=["others", "same points"])
def test_gradients_are_finite_differences(k, x, z, rng, same):
    z = None if same else z
    gradient = rng.normal(size=k(x, z).shape)
    dx, dz, dtheta = k.gradients(x, z, gradient)
    tolerance = {"atol": 1e-8, "rtol": 1e-7}

    def loss(x, z, theta):
        return (gradient * k.with_theta(theta)(x, z)).sum()

    np.testing.assert_allclose(dx, differences(lambda a: loss(a, z, k.theta), x), **tolerance)
    expected = differences(lambda a: loss(x, z, a), k.theta)
    np.testing.assert_allclose(dtheta, expected, **tolerance)
    if same:
        assert dz is None
    else:
        np.testing.assert_allclose(dz, differences(lambda a: loss(x, a, k.theta), z), **tolerance)


@covariances
def test_gradients_of_the_diagonal(k, x, rng):
    gradient = rng.normal(size=5)
    dx, dtheta = k.diag_gradients(x, gradient)
    tolerance = {"atol": 1e-8, "rtol": 1e-7}
    expected = differences(lambda a: gradient @ k.diag(a), x)
    np.testing.assert_allclose(dx, expected, **tolerance)
    expected = differences(lambda a: gradient @ k.with_theta(a).diag(x), k.theta)
    np.testing.assert_allclose(dtheta, expected, **tolerance)


# Hyperparameters


@covariances
def test_theta_there_and_back(k, rng):
    theta = k.theta
    assert len(theta) == len(k.hyperparameters) == len(set(k.hyperparameters))
    other = k.with_theta(theta + 1)
    np.testing.assert_allclose(other.theta, theta + 1, rtol=1e-15, atol=1e-15)
    assert other != k
    assert other.hyperparameters == k.hyperparameters
    for name, value in zip(k.hyperparameters, theta):
        path = name if "leaves" in name else f"leaves[0].{name}"
        np.testing.assert_allclose(eval(f"k.{path}", {"k": k}), np.exp(value))


def test_names_of_hyperparameters():
    assert Matern(1.5).hyperparameters == ("variance", "lengthscale")
    k = SquaredExponential() + Periodic(period=[1.0, 2.0])
    assert k.hyperparameters == (
        "leaves[0].variance",
        "leaves[0].lengthscale",
        "leaves[1].variance",
        "leaves[1].lengthscale",
        "leaves[1].period[0]",
        "leaves[1].period[1]",
    )


def test_what_is_used_by_deep_gps():
    k = SquaredExponential(2.0, [0.5, 0.25]) * White(3.0) + Periodic(4.0, 0.1, np.pi)
    program, parameters = k._program(2)
    np.testing.assert_array_equal(program.kinds, [0, 6, 4])
    np.testing.assert_array_equal(program.ops, [0, 1, -2, 2, -1])
    np.testing.assert_allclose(parameters[[0, 2]], [[2, 2, 4, 1, 1], [4, 10, 10, 2, 2]])
    assert parameters[1, 0] == 3
    dtheta = k._theta_gradient(2, np.ones((3, 5)))
    np.testing.assert_allclose(dtheta, [2, -2, -4, 3, 4, -20, -4])


# Values of covariances


@covariances
def test_the_repr_makes_it_again(k):
    again = eval(repr(k))
    assert again == k
    assert hash(again) == hash(k)
    assert repr(again) == repr(k)


def test_the_repr_keeps_the_nesting():
    a, b, c = SquaredExponential(), White(), Linear()
    for k in (a + b + c, a + (b + c), a * (b + c), (a + b) * c, a * b * c, a * (b * c), a * b + c):
        assert eval(repr(k)) == k
    assert repr(a + b) == "SquaredExponential(variance=1.0, lengthscale=1.0) + White(variance=1.0)"
    assert repr(Matern(0.5, lengthscale=np.array([1, 2]))) == (
        "Matern(nu=0.5, variance=1.0, lengthscale=[1.0, 2.0])"
    )


def test_equality():
    assert SquaredExponential(1, 2) == SquaredExponential(np.float64(1), np.array(2.0))
    assert SquaredExponential(lengthscale=[1, 2]) == SquaredExponential(lengthscale=(1.0, 2.0))
    different = [
        SquaredExponential(),
        SquaredExponential(lengthscale=[1.0]),
        Linear(),
        Matern(0.5),
        Matern(1.5),
        White(),
        White() + White(),
        White() * White(),
        White() + (White() + White()),
        White() + White() + White(),
    ]
    assert len(set(different)) == len(different)
    assert SquaredExponential() != 1


@covariances
def test_copies(k, x):
    for other in (copy.deepcopy(k), pickle.loads(pickle.dumps(k))):
        assert other == k
        np.testing.assert_array_equal(other(x), k(x))


def test_immutable():
    lengthscale = np.array([1.0, 2.0])
    k = SquaredExponential(lengthscale=lengthscale)
    lengthscale[0] = 7
    assert k.lengthscale[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        k.lengthscale[0] = 7
    for attribute in ("variance", "lengthscale", "nu"):
        with pytest.raises(AttributeError):
            setattr(k, attribute, 2.0)
    with pytest.raises(AttributeError):
        SUM.left = k


# Positive semi-definite

scales = st.floats(0.2, 5)
random_leaves = st.one_of(
    st.builds(SquaredExponential, scales, scales),
    st.builds(Periodic, scales, scales, scales),
    st.builds(Matern, st.sampled_from([0.5, 1.5, 2.5]), scales, scales),
    st.builds(Linear, scales, scales),
    st.builds(White, scales),
)
random_covariances = st.recursive(
    random_leaves,
    lambda k: st.one_of(
        st.builds(lambda a, b: a + b, k, k),
        st.builds(lambda a, b: a * b, k, k),
    ),
    max_leaves=5,
)
points = st.lists(st.lists(st.floats(-10, 10), min_size=2, max_size=2), min_size=1, max_size=12)


@given(random_covariances, points)
def test_positive_semidefinite(k, x):
    matrix = k(x)
    np.testing.assert_array_equal(matrix, matrix.T)
    # rounding of the matrix and of the eigenvalues
    smallest = np.linalg.eigvalsh(matrix)[0]
    assert smallest >= -1e-13 * len(x) * np.abs(matrix).max()


# Errors


@pytest.mark.parametrize("value", [0, -1, np.inf, np.nan, 1e-101, 1e101])
def test_hyperparameters_out_of_range(value):
    rule = "a finite number >= 1e-100 and <= 1e\\+100; got"
    for make in (SquaredExponential, Periodic, Linear, White, lambda v: Matern(0.5, v)):
        with pytest.raises(ValueError, match=f"variance must be {rule}"):
            make(value)
    for make in (SquaredExponential, Periodic, Linear, lambda v, l: Matern(0.5, v, l)):
        with pytest.raises(ValueError, match=f"lengthscale must be {rule}"):
            make(1, value)
        with pytest.raises(ValueError, match="lengthscale must (have values in|be finite)"):
            make(1, [1.0, value])
    with pytest.raises(ValueError, match=f"period must be {rule}"):
        Periodic(1, 1, value)
    with pytest.raises(ValueError, match="period must (have values in|be finite)"):
        Periodic(1, 1, [1.0, value])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: White("1"), TypeError, "variance must be a finite number.*got '1'"),
        (lambda: White([1.0, 2.0]), TypeError, "variance must be a finite number"),
        (lambda: White(True), TypeError, "variance must be a finite number.*got True"),
        (
            lambda: Linear(1, [[1.0]]),
            ValueError,
            r"lengthscale must have 1 dim.*got shape \(1, 1\)",
        ),
        (lambda: Linear(1, []), ValueError, "lengthscale must not be empty"),
        (lambda: Linear(1, 1j), TypeError, "lengthscale must be a finite number"),
        (lambda: Matern(2), ValueError, "nu must be 0.5, 1.5 or 2.5; got 2.0.*SquaredExponential"),
        (lambda: Matern("2.5"), TypeError, "nu must be a finite number"),
        (lambda: Linear() + 1, TypeError, "unsupported operand"),
        (lambda: 2 * Linear(), TypeError, "unsupported operand"),
        (
            lambda: Linear().with_theta([1.0]),
            ValueError,
            r"2 hyperparameter\(s\); got shape \(1,\)",
        ),
        (lambda: Linear().with_theta([1.0, np.nan]), ValueError, "theta must be finite"),
        (lambda: Linear().with_theta([1.0, 1e3]), ValueError, "lengthscale must be.*got inf"),
        (lambda: Linear().with_theta(0.0), ValueError, "theta must have 1 dimensions"),
    ],
)
def test_covariances_that_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_too_many_leaves():
    most = (MOST_OPS + 1) // 2
    k = White()
    for _ in range(most - 1):
        k = k + White()
    assert k([0.0]) == most
    with pytest.raises(ValueError, match=f"at most {most} leaves; got {most + 1}"):
        k * White()


X = np.ones((3, 2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.0,), ValueError, r"x must be points, \(..., n, D\) or \(n,\); got a number"),
        (("x",), (TypeError, ValueError), "x must be"),
        ((X[:0],), ValueError, r"x must not be empty; got shape \(0, 2\)"),
        ((X * np.nan,), ValueError, r"x must be finite; got 6 value\(s\)"),
        ((X[:, :1],), ValueError, r"x must have 2 dimension\(s\), as lengthscale of Sq.*; got 1"),
        ((X[0],), ValueError, r"x must have 2 dimension\(s\), as lengthscale"),
        ((X, X[:, :1]), ValueError, r"z must have points of 2 dimension\(s\), as x; got shape"),
        ((X, X * np.inf), ValueError, "z must be finite"),
        ((X, X[None]), ValueError, r"z must have the batch axes of x, \(\), or none; got shape"),
        ((X[None], X[None].repeat(2, 0)), ValueError, r"z must have the batch axes of x, \(1,\)"),
        ((X, 1.0), ValueError, "z must be points"),
    ],
)
def test_points_that_are_refused(arguments, error, message):
    k = SquaredExponential(lengthscale=[1.0, 2.0]) + White()
    with pytest.raises(error, match=message):
        k(*arguments)
    x, z = arguments if len(arguments) == 2 else (*arguments, None)
    with pytest.raises(error, match=message):
        k.gradients(x, z, np.ones((3, 3)))
    if z is None:
        with pytest.raises(error, match=message):
            k.diag(x)
        with pytest.raises(error, match=message):
            k.diag_gradients(x, np.ones(3))


def test_gradients_that_are_refused():
    with pytest.raises(ValueError, match=r"gradient must have shape \(3, 2\); got shape \(2, 3\)"):
        White().gradients(X, X[:2], np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"gradient must have shape \(3, 3\); got shape \(3,\)"):
        White().gradients(X, None, np.ones(3))
    with pytest.raises(ValueError, match=r"gradient must have shape \(3,\); got shape \(3, 3\)"):
        White().diag_gradients(X, np.ones((3, 3)))
    with pytest.raises(ValueError, match="gradient must be finite"):
        White().gradients(X, X, np.full((3, 3), np.nan))

"""Covariance functions of Gaussian processes, their sums and products, and all derivatives.

Leaves (`SquaredExponential`, `Periodic`, `Matern`, `Linear`, `White`) are combined by ``+`` and
``*``. All are immutable values: changing a hyperparameter makes a new covariance.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from .._kernels import covariance
from .._validation import check_array, check_float

SMALLEST, LARGEST = 1e-100, 1e100  # hyperparameters whose squares and inverses are finite
NUS = {0.5: "matern_12", 1.5: "matern_32", 2.5: "matern_52"}


class Covariance:
    """What every covariance function does; made of leaves by ``+`` and ``*``.

    Points are ``(n, D)``, or ``(n,)`` for ``D = 1``, in the units of the lengthscales; or batches
    of them, ``(..., n, D)``. Input of float32 gives float32 that was computed in float64.

    Examples
    --------
    >>> from fastvis.gp import Periodic, SquaredExponential, White
    >>> k = SquaredExponential(lengthscale=2.0) * Periodic(period=0.5) + White(0.1)
    >>> k([0.0, 0.5])
    array([[1.1       , 0.96923323],
           [0.96923323, 1.1       ]])
    >>> k([0.0, 0.5], [0.0])
    array([[1.        ],
           [0.96923323]])
    """

    def __call__(self, x, z=None):
        """Covariances of points.

        Parameters
        ----------
        x : array_like, (..., n, D); or (n,), for D = 1
        z : array_like, (..., m, D) or (m, D); or (m,), for D = 1; optional
            Other points: of each batch, or the same for all batches. By default the points of
            ``x``: then the matrix is symmetric, to the last bit, and `White` adds to its diagonal.
            Points that are given are others, also where their coordinates are the same.

        Returns
        -------
        ndarray, (..., n, m)
            Of the dtype of ``x``.

        Raises
        ------
        TypeError
            Arguments that are no arrays of real numbers.
        ValueError
            Other shapes, no points, values that are not finite, another D than that of ``z`` or of
            the lengthscales.
        """
        x = _points(x, "x")
        z = _other_points(z, x)
        out = covariance.matrix(*self._program(x.n_inputs), x.array, z.array)
        shape = (*x.batch, *out.shape[1:])
        return out.reshape(shape).astype(x.dtype, copy=False)

    def diag(self, x):
        """Variances of points, the diagonal of ``k(x)``, without the matrix.

        Parameters
        ----------
        x : array_like, (..., n, D); or (n,), for D = 1

        Returns
        -------
        ndarray, (..., n)
            Of the dtype of ``x``.

        Raises
        ------
        TypeError, ValueError
            As a call.

        Examples
        --------
        >>> from fastvis.gp import Linear, White
        >>> (Linear(2.0) + White(0.5)).diag([0.0, 1.0, 3.0])
        array([ 0.5,  2.5, 18.5])
        """
        x = _points(x, "x")
        out = covariance.diagonal(*self._program(x.n_inputs), x.array)
        return out.reshape(*x.batch, -1).astype(x.dtype, copy=False)

    def gradients(self, x, z, gradient):
        """From a gradient by covariances to those by points and hyperparameters.

        With ``loss`` a function of ``k(x, z)``, the chain rule (a vector-Jacobian product).

        Parameters
        ----------
        x, z : array_like
            As in a call; z may be None.
        gradient : array_like, (..., n, m)
            Derivatives of the loss by ``k(x, z)``, each entry by itself: also for ``k(x)``, which
            is symmetric.

        Returns
        -------
        dx, dz : ndarray
            Derivatives by x and z, of their shapes and dtypes. Without z ``dz`` is None, and ``dx``
            counts both arguments.
        dtheta : ndarray, (n_theta,)
            By the logarithms `theta`, float64.

        Raises
        ------
        TypeError, ValueError
            As a call; a gradient of another shape.

        Notes
        -----
        ``Matern(0.5)`` has a kink where two points coincide: there their derivatives are taken for
        zero.

        Examples
        --------
        >>> from fastvis.gp import Linear
        >>> dx, dz, dtheta = Linear().gradients([2.0], [3.0], [[1.0]])
        >>> dx, dz, dtheta
        (array([3.]), array([2.]), array([  6., -12.]))
        """
        x = _points(x, "x")
        z = _other_points(z, x)
        program = self._program(x.n_inputs)
        m = (x if z.array is None else z).array.shape[1]
        gradient = _check_gradient(gradient, (*x.batch, x.array.shape[1], m))
        gradient = gradient.reshape(-1, *gradient.shape[-2:])
        dx, dz, d_parameters = covariance.matrix_vjp(*program, x.array, z.array, gradient)
        dz = None if dz is None else z.like(dz)
        return x.like(dx), dz, self._theta_gradient(x.n_inputs, d_parameters)

    def diag_gradients(self, x, gradient):
        """From a gradient by `diag` to those by points and hyperparameters.

        Parameters
        ----------
        x : array_like, (..., n, D); or (n,), for D = 1
        gradient : array_like, (..., n)

        Returns
        -------
        dx : ndarray
            Of the shape and dtype of ``x``.
        dtheta : ndarray, (n_theta,)
            By the logarithms `theta`, float64.

        Raises
        ------
        TypeError, ValueError
            As `gradients`.

        Examples
        --------
        >>> from fastvis.gp import Linear
        >>> Linear().diag_gradients([2.0], [1.0])
        (array([4.]), array([ 4., -8.]))
        """
        x = _points(x, "x")
        program = self._program(x.n_inputs)
        gradient = _check_gradient(gradient, (*x.batch, x.array.shape[1]))
        gradient = gradient.reshape(x.array.shape[:2])
        dx, d_parameters = covariance.diagonal_vjp(*program, x.array, gradient)
        return x.like(dx), self._theta_gradient(x.n_inputs, d_parameters)

    # Hyperparameters

    @property
    def leaves(self):
        """The leaves, in reading order."""
        return (self,)

    @property
    def theta(self):
        """Natural logarithms of all hyperparameters, (n_theta,); named by `hyperparameters`."""
        return np.log(np.concatenate([leaf._values() for leaf in self.leaves]))

    @property
    def hyperparameters(self):
        """Names of the entries of `theta`.

        Examples
        --------
        >>> from fastvis.gp import Linear, White
        >>> (Linear(lengthscale=[1.0, 2.0]) + White()).hyperparameters
        ('leaves[0].variance', 'leaves[0].lengthscale[0]', 'leaves[0].lengthscale[1]',
         'leaves[1].variance')
        """
        prefixes = [f"leaves[{i}]." for i in range(len(self.leaves))]
        if len(prefixes) == 1:
            prefixes = [""]
        return tuple(p + name for p, leaf in zip(prefixes, self.leaves) for name in leaf._names())

    def with_theta(self, theta):
        """The same covariance with other hyperparameters.

        Parameters
        ----------
        theta : array_like, (n_theta,)
            Natural logarithms of hyperparameters, in the order of `hyperparameters`.

        Returns
        -------
        Covariance

        Raises
        ------
        TypeError, ValueError
            Another shape; values that are not finite, or whose exponentials are not in
            [1e-100, 1e100].

        Examples
        --------
        >>> import numpy as np
        >>> from fastvis.gp import Linear, White
        >>> (Linear() + White()).with_theta(np.log([2, 3, 0.5]))
        Linear(variance=2.0, lengthscale=3.0) + White(variance=0.5)
        """
        theta = check_array(theta, "theta", ndim=1, axes="(n_theta,)")
        if theta.shape != self.theta.shape:
            raise ValueError(
                f"theta must have one value for each of {len(self.theta)} hyperparameter(s); got "
                f"shape {theta.shape}. Their names are in hyperparameters."
            )
        with np.errstate(over="ignore"):
            return self._with_values(list(np.exp(np.asarray(theta, np.float64))))

    # The kernels' form: see _kernels/covariance/__init__.py

    def _program(self, n_inputs):
        kinds = [covariance.KINDS.index(leaf._kind) for leaf in self.leaves]
        program = covariance.Program(np.array(kinds), np.array(self._ops(0)))
        return program, np.stack([leaf._parameters(n_inputs) for leaf in self.leaves])

    def _theta_gradient(self, n_inputs, d_parameters):
        """From derivatives by parameters to those by theta."""
        _, parameters = self._program(n_inputs)
        by_log = parameters * d_parameters  # of logarithms of what parameters are
        return np.concatenate([leaf._fold(row, n_inputs) for leaf, row in zip(self.leaves, by_log)])

    # Algebra

    def __add__(self, other):
        return _combine("+", self, other)

    def __mul__(self, other):
        return _combine("*", self, other)

    def __eq__(self, other):
        if not isinstance(other, Covariance):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self):
        return hash(self._key())


class _Leaf(Covariance):
    """A dataclass of hyperparameters; those after the variance are by dimension or for all."""

    def __post_init__(self):
        for name in self._fields():
            object.__setattr__(self, name, _check_hyperparameter(getattr(self, name), name))

    def _fields(self):
        return [field.name for field in fields(self) if field.name != "nu"]

    def _values(self):
        return np.concatenate([np.atleast_1d(getattr(self, name)) for name in self._fields()])

    def _names(self):
        for name in self._fields():
            value = getattr(self, name)
            if np.ndim(value) == 0:
                yield name
            else:
                yield from (f"{name}[{d}]" for d in range(len(value)))

    def _with_values(self, values):
        """Takes its own from the front of the list."""
        given = {"nu": self.nu} if hasattr(self, "nu") else {}
        for name in self._fields():
            value = getattr(self, name)
            taken = [values.pop(0) for _ in range(np.size(value))]
            given[name] = taken[0] if np.ndim(value) == 0 else taken
        return type(self)(**given)

    def _ops(self, first):
        return [first]

    def _parameters(self, n_inputs):
        out = np.ones(1 + 2 * n_inputs)
        out[0] = self.variance
        for name, part, factor in zip(self._fields()[1:], _parts(n_inputs), (1, 2 * np.pi)):
            value = getattr(self, name)
            if np.ndim(value) and len(value) != n_inputs:
                raise ValueError(
                    f"x must have {len(value)} dimension(s), as {name} of {self!r}; got {n_inputs}."
                )
            out[part] = factor / value
        return out

    def _fold(self, by_log, n_inputs):
        """Derivatives by theta, of those by logarithms of `_parameters`."""
        out = [by_log[:1]]
        for name, part in zip(self._fields()[1:], _parts(n_inputs)):
            own = -by_log[part]
            out.append(own if np.ndim(getattr(self, name)) else own.sum(keepdims=True))
        return np.concatenate(out)

    def _key(self):
        values = [getattr(self, field.name) for field in fields(self)]
        return type(self).__name__, *(tuple(v) if np.ndim(v) else v for v in values)

    def __repr__(self):
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        text = ", ".join(
            f"{name}={value.tolist() if np.ndim(value) else value}"
            for name, value in values.items()
        )
        return f"{type(self).__name__}({text})"


def _parts(n_inputs):
    return slice(1, 1 + n_inputs), slice(1 + n_inputs, None)


@dataclass(frozen=True, eq=False, repr=False)
class SquaredExponential(_Leaf):
    """Covariance of smooth functions: ``v exp(-r^2 / 2)``.

    ``r^2 = sum_d (x_d - z_d)^2 / l_d^2``; also called radial basis function, or Gaussian.

    Parameters
    ----------
    variance : float
        v, in squared units of the function, in [1e-100, 1e100].
    lengthscale : float or array_like, (D,)
        l, in units of the points, in [1e-100, 1e100]: one for all dimensions, or one for each
        (automatic relevance determination).

    Raises
    ------
    TypeError, ValueError
        Hyperparameters that are no numbers, or outside their range.

    References
    ----------
    Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006, eqs (4.9) and (5.1).

    Examples
    --------
    >>> from fastvis.gp import SquaredExponential
    >>> SquaredExponential(variance=2.0, lengthscale=0.5)([0.0, 0.5], [0.5])
    array([[1.21306132],
           [2.        ]])
    """

    variance: float = 1.0
    lengthscale: float | np.ndarray = 1.0
    _kind = "squared_exponential"


@dataclass(frozen=True, eq=False, repr=False)
class Periodic(_Leaf):
    """Covariance of periodic functions: ``v exp(-2 sum_d sin^2(pi (x_d - z_d) / p_d) / l_d^2)``.

    Parameters
    ----------
    variance : float
        v, as in `SquaredExponential`.
    lengthscale : float or array_like, (D,)
        l, a number without units, in [1e-100, 1e100]: small for functions with many wiggles in a
        period.
    period : float or array_like, (D,)
        p, in units of the points, in [1e-100, 1e100]: one for all dimensions, or one for each.

    Raises
    ------
    TypeError, ValueError
        As `SquaredExponential`.

    References
    ----------
    Rasmussen and Williams 2006, eq (4.31), there with ``p = 2 pi``; MacKay, *Introduction to
    Gaussian processes*, 1998, eq (47).

    Examples
    --------
    >>> from fastvis.gp import Periodic
    >>> Periodic(period=0.5)([0.0], [0.25, 0.5])
    array([[0.13533528, 1.        ]])
    """

    variance: float = 1.0
    lengthscale: float | np.ndarray = 1.0
    period: float | np.ndarray = 1.0
    _kind = "periodic"


@dataclass(frozen=True, eq=False, repr=False)
class Matern(_Leaf):
    """Covariance of functions with a given number of derivatives; none, one or two.

    ===  =======================================================
    nu
    ===  =======================================================
    0.5  ``v exp(-r)``, of the Ornstein-Uhlenbeck process
    1.5  ``v (1 + sqrt(3) r) exp(-sqrt(3) r)``
    2.5  ``v (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)``
    ===  =======================================================

    with r as in `SquaredExponential`.

    Parameters
    ----------
    nu : {0.5, 1.5, 2.5}
        Smoothness; no part of `theta`.
    variance, lengthscale
        As in `SquaredExponential`.

    Raises
    ------
    TypeError, ValueError
        As `SquaredExponential`; another nu.

    References
    ----------
    Rasmussen and Williams 2006, eqs (4.14) and (4.17).

    Examples
    --------
    >>> from fastvis.gp import Matern
    >>> Matern(2.5)([0.0, 1.0], [0.0])
    array([[1.        ],
           [0.52399411]])
    """

    nu: float
    variance: float = 1.0
    lengthscale: float | np.ndarray = 1.0

    def __post_init__(self):
        nu = check_float(self.nu, "nu")
        if nu not in NUS:
            raise ValueError(
                f"nu must be 0.5, 1.5 or 2.5; got {nu}. For smoother functions, use "
                "SquaredExponential, which is the limit of large nu."
            )
        object.__setattr__(self, "nu", nu)
        super().__post_init__()

    @property
    def _kind(self):
        return NUS[self.nu]


@dataclass(frozen=True, eq=False, repr=False)
class Linear(_Leaf):
    """Covariance of linear functions through zero: ``v sum_d x_d z_d / l_d^2``.

    Products of it are of polynomials. Only ``v / l^2`` matters: hold one of them when both would be
    learned.

    Parameters
    ----------
    variance, lengthscale
        As in `SquaredExponential`.

    Raises
    ------
    TypeError, ValueError
        As `SquaredExponential`.

    References
    ----------
    Rasmussen and Williams 2006, section 4.2.2, with ``sigma_0 = 0``.

    Examples
    --------
    >>> from fastvis.gp import Linear
    >>> Linear(lengthscale=[1.0, 2.0])([[1.0, 2.0]], [[3.0, 4.0]])
    array([[5.]])
    """

    variance: float = 1.0
    lengthscale: float | np.ndarray = 1.0
    _kind = "linear"


@dataclass(frozen=True, eq=False, repr=False)
class White(_Leaf):
    """Covariance of noise: ``v`` for a point with itself, otherwise zero.

    Adds to the diagonal of ``k(x)``, and to ``k.diag(x)``; points ``z`` that are given are others.

    Parameters
    ----------
    variance : float
        As in `SquaredExponential`.

    Raises
    ------
    TypeError, ValueError
        As `SquaredExponential`.

    References
    ----------
    Rasmussen and Williams 2006, eq (2.20).

    Examples
    --------
    >>> from fastvis.gp import White
    >>> k = White(0.1)
    >>> k([0.0, 0.0])
    array([[0.1, 0. ],
           [0. , 0.1]])
    >>> k([0.0, 0.0], [0.0])
    array([[0.],
           [0.]])
    """

    variance: float = 1.0
    _kind = "white"


@dataclass(frozen=True, eq=False, repr=False)
class _Combination(Covariance):
    """Sum or product of two covariances."""

    sign: str
    left: Covariance
    right: Covariance

    @property
    def leaves(self):
        return self.left.leaves + self.right.leaves

    def _with_values(self, values):
        left = self.left._with_values(values)
        return _Combination(self.sign, left, self.right._with_values(values))

    def _ops(self, first):
        operation = covariance.ADD if self.sign == "+" else covariance.MULTIPLY
        right = self.right._ops(first + len(self.left.leaves))
        return [*self.left._ops(first), *right, operation]

    def _key(self):
        return self.sign, self.left._key(), self.right._key()

    def __repr__(self):
        left, right = (
            f"({k!r})" if isinstance(k, _Combination) and (k.sign, self.sign) in pairs else repr(k)
            for k, pairs in (
                (self.left, [("+", "*")]),
                (self.right, [("+", "*"), ("+", "+"), ("*", "*")]),
            )
        )
        return f"{left} {self.sign} {right}"


def _combine(sign, left, right):
    if not isinstance(right, Covariance):
        return NotImplemented
    n_leaves, most = len(left.leaves + right.leaves), (covariance.MOST_OPS + 1) // 2
    if n_leaves > most:
        raise ValueError(
            f"Sums and products of covariances may have at most {most} leaves; got {n_leaves}. "
            "Add up matrices instead."
        )
    return _Combination(sign, left, right)


# Arguments


def _check_hyperparameter(value, name):
    """A float, or a read-only array of float64."""
    if np.ndim(value) == 0 or name == "variance":
        value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
        return check_float(value, name, minimum=SMALLEST, maximum=LARGEST)
    value = np.array(check_array(value, name, ndim=1, axes="(D,)"), np.float64)
    if value.min() < SMALLEST or value.max() > LARGEST:
        raise ValueError(
            f"{name} must have values in [{SMALLEST}, {LARGEST}]; got {value.min():.4g} to "
            f"{value.max():.4g}."
        )
    value.flags.writeable = False
    return value


class _Points(NamedTuple):
    """Points as kernels take them, (B, n, D), and what the user's looked like."""

    array: np.ndarray | None
    batch: tuple = ()
    shape: tuple = ()
    dtype: type = np.float64

    @property
    def n_inputs(self):
        return self.array.shape[2]

    def like(self, array):
        return array.reshape(self.shape).astype(self.dtype, copy=False)


def _points(points, name):
    if np.ndim(points) == 0:
        raise ValueError(f"{name} must be points, (..., n, D) or (n,); got a number. Pass a list.")
    given = check_array(points, name)
    array = given.astype(np.float64, copy=False)
    array = array[:, None] if array.ndim == 1 else array
    array, batch = array.reshape(-1, *array.shape[-2:]), array.shape[:-2]
    return _Points(array, batch, given.shape, given.dtype)


def _other_points(z, x):
    if z is None:
        return _Points(None)
    z = _points(z, "z")
    if z.n_inputs != x.n_inputs:
        raise ValueError(
            f"z must have points of {x.n_inputs} dimension(s), as x; got shape {z.shape}."
        )
    if z.batch not in ((), x.batch):
        raise ValueError(
            f"z must have the batch axes of x, {x.batch}, or none; got shape {z.shape}."
        )
    return z


def _check_gradient(gradient, shape):
    gradient = check_array(gradient, "gradient")
    if gradient.shape != shape:
        raise ValueError(f"gradient must have shape {shape}; got shape {gradient.shape}.")
    return gradient.astype(np.float64, copy=False)

"""Symmetric positive definite matrices with blocks on the diagonal and beside it."""

from dataclasses import dataclass

import numpy as np

from .._kernels import blocktri
from .._random import check_rng
from .._validation import check_array, check_int

# |D - D'| over |D|: half the digits, as of a product or an inverse that was rounded
ASYMMETRY = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-8}


@dataclass(frozen=True, repr=False, eq=False)
class BlockTridiagonal:
    """A symmetric positive definite block-tridiagonal matrix, or a batch of them.

    The precision of a Gaussian Markov chain of L vectors, of which each depends on the one before:
    a state-space model over time, or the layers of a deep Gaussian process. Everything costs
    O(L M^3) and stays in blocks: a dense matrix would take O(L^3 M^3).

    Parameters
    ----------
    diagonal : array_like, (..., L, M, M)
        Blocks (i, i), symmetric. float32 or float64; computed in float64.
    lower : array_like, (..., L - 1, M, M)
        Blocks (i + 1, i); block (i, i + 1) is its transpose. Batches as in ``diagonal``. Of a
        single block: anything empty.

    Attributes
    ----------
    diagonal, lower : ndarray
        The blocks, read-only copies; ``diagonal`` symmetric to the last bit.

    Raises
    ------
    TypeError
        Blocks that are no numbers.
    ValueError
        Wrong shapes, nothing, NaN, diagonal blocks that are not symmetric; a matrix that is not
        positive definite (a `numpy.linalg.LinAlgError`, which names the block).

    Notes
    -----
    The Cholesky factor is computed at once and kept. Results have the dtype of the blocks, or of
    blocks and right-hand side together. They are the same to the byte for any number of threads:
    threads share the items of a batch, while BLAS is held to one thread in the whole process; a
    single matrix is worked on by one.

    References
    ----------
    Ustyuzhaninov, Kazlauskaite et al., *Compositional uncertainty in deep Gaussian processes*, UAI
    2020, section 4.1.

    Examples
    --------
    The precision of a random walk x_l = x_{l-1} + noise, x_1 = noise, 4 steps in 1 dimension:

    >>> import numpy as np
    >>> from fastvis.gp import BlockTridiagonal
    >>> walk = BlockTridiagonal([[[2]], [[2]], [[2]], [[1]]], -np.ones((3, 1, 1)))
    >>> walk
    BlockTridiagonal(4 blocks of 1 x 1, float64)
    >>> walk.inverse_blocks()[0].ravel()  # the variance grows by one each step
    array([1., 2., 3., 4.])
    >>> walk.solve(np.ones((4, 1))).ravel()
    array([ 4.,  7.,  9., 10.])
    >>> round(walk.logdet(), 12)
    0.0
    """

    diagonal: np.ndarray
    lower: np.ndarray

    def __post_init__(self):
        diagonal, lower = check_blocks(self.diagonal, self.lower, "diagonal", "lower")
        mirrored = np.ascontiguousarray(diagonal.mT)
        if np.array_equal(diagonal, mirrored):
            diagonal = diagonal.copy()
        else:
            diagonal = _symmetric_part(diagonal, mirrored)
        factor = blocktri.factorize(*(x.astype(np.float64, copy=False) for x in (diagonal, lower)))
        set_frozen(self, diagonal=diagonal, lower=lower.copy())
        set_frozen(self, _factor_diagonal=factor[0], _factor_lower=factor[1])

    def cholesky(self):
        """Blocks of the lower block-bidiagonal C of C C' = this matrix.

        Returns
        -------
        diagonal : ndarray, (..., L, M, M)
            Lower triangular, with a positive diagonal.
        lower : ndarray, (..., L - 1, M, M)
            Blocks (i + 1, i).

        Examples
        --------
        >>> from fastvis.gp import BlockTridiagonal
        >>> diagonal, lower = BlockTridiagonal([[[4]], [[5]]], [[[2]]]).cholesky()
        >>> diagonal.ravel(), lower.ravel()
        (array([2., 2.]), array([1.]))
        """
        return self._as_blocks(self._factor_diagonal, self._factor_lower, copy=True)

    def logdet(self):
        """Logarithm of the determinant.

        Returns
        -------
        float, or ndarray (...) for a batch

        Examples
        --------
        >>> from fastvis.gp import BlockTridiagonal
        >>> round(BlockTridiagonal([[[4]], [[5]]], [[[2]]]).logdet(), 4)  # log 16
        2.7726
        """
        return number_or_array(blocktri.logdet(self._factor_diagonal), self.diagonal.dtype)

    def solve(self, b):
        """x of A x = b.

        Parameters
        ----------
        b : array_like, (..., L, M) or (..., L, M, K)
            A right-hand side for each matrix of the batch, or K of them.

        Returns
        -------
        ndarray, of the shape of b

        Raises
        ------
        TypeError, ValueError
            No numbers, another shape, NaN.

        Examples
        --------
        >>> from fastvis.gp import BlockTridiagonal
        >>> BlockTridiagonal([[[4]], [[5]]], [[[2]]]).solve([[8], [4]])
        array([[2.],
               [0.]])
        """
        columns, restore = self._columns(b, "b")
        return restore(blocktri.solve(self._factor_diagonal, self._factor_lower, columns))

    def matmul(self, x):
        """The product A x, also written ``A @ x``.

        Parameters
        ----------
        x : array_like, (..., L, M) or (..., L, M, K)
            A vector for each matrix of the batch, or K of them.

        Returns
        -------
        ndarray, of the shape of x

        Raises
        ------
        TypeError, ValueError
            No numbers, another shape, NaN.

        Examples
        --------
        >>> from fastvis.gp import BlockTridiagonal
        >>> BlockTridiagonal([[[4]], [[5]]], [[[2]]]) @ [[2], [0]]
        array([[8.],
               [4.]])
        """
        columns, restore = self._columns(x, "x")
        blocks = (block.astype(np.float64, copy=False) for block in (self.diagonal, self.lower))
        return restore(blocktri.multiply(*blocks, columns))

    __matmul__ = matmul

    def inverse_blocks(self):
        """Blocks of the inverse, on the diagonal and below it; the others are not computed.

        Of a precision: the covariances of each vector of the chain, and of neighbors.

        Returns
        -------
        diagonal : ndarray, (..., L, M, M)
            Symmetric.
        lower : ndarray, (..., L - 1, M, M)
            Blocks (i + 1, i).

        Examples
        --------
        >>> from fastvis.gp import BlockTridiagonal
        >>> diagonal, lower = BlockTridiagonal([[[4]], [[5]]], [[[2]]]).inverse_blocks()
        >>> diagonal.ravel(), lower.ravel()
        (array([0.3125, 0.25  ]), array([-0.125]))
        """
        inverse = blocktri.inverse_blocks(self._factor_diagonal, self._factor_lower)
        return self._as_blocks(*inverse)

    def sample(self, n, rng=None):
        """Draw from the normal distribution of mean 0 of which this matrix is the precision.

        Parameters
        ----------
        n : int
            Draws for each matrix of the batch, at least 1.
        rng : None, int or numpy.random.Generator
            Seed. Draw i is the same for any n > i.

        Returns
        -------
        ndarray, (n, ..., L, M)

        Raises
        ------
        TypeError, ValueError
            n or rng of another kind.

        Examples
        --------
        >>> import numpy as np
        >>> from fastvis.gp import BlockTridiagonal
        >>> x = BlockTridiagonal([[[4]], [[5]]], [[[2]]]).sample(10_000, rng=0)
        >>> x.shape
        (10000, 2, 1)
        >>> np.cov(x[:, :, 0].T).round(1)
        array([[ 0.3, -0.1],
               [-0.1,  0.3]])
        """
        n = check_int(n, "n", minimum=1)
        normals = check_rng(rng).standard_normal((n, *self.diagonal.shape[:-1]))
        columns = np.ascontiguousarray(np.moveaxis(normals, 0, -1))
        x = blocktri.back_substitute(self._factor_diagonal, self._factor_lower, columns)
        return np.ascontiguousarray(np.moveaxis(x, -1, 0), dtype=self.diagonal.dtype)

    def todense(self):
        """The whole matrix, for small problems and tests.

        Returns
        -------
        ndarray, (..., L M, L M)

        Examples
        --------
        >>> from fastvis.gp import BlockTridiagonal
        >>> BlockTridiagonal([[[4]], [[5]]], [[[2]]]).todense()
        array([[4., 2.],
               [2., 5.]])
        """
        *batch, n, m, _ = self.diagonal.shape
        dense = np.zeros((*batch, n, m, n, m), self.diagonal.dtype)
        for i in range(n):
            dense[..., i, :, i, :] = self.diagonal[..., i, :, :]
        for i in range(n - 1):
            dense[..., i + 1, :, i, :] = self.lower[..., i, :, :]
            dense[..., i, :, i + 1, :] = self.lower[..., i, :, :].mT
        return dense.reshape(*batch, n * m, n * m)

    def __repr__(self):
        *batch, n, m, _ = self.diagonal.shape
        of_batch = f", batch of {' x '.join(map(str, batch))}" if batch else ""
        return f"BlockTridiagonal({n} blocks of {m} x {m}{of_batch}, {self.diagonal.dtype})"

    def _columns(self, b, name):
        """b as float64 (..., L, M, K), and the function that gives a result b's form."""
        vectors = self.diagonal.shape[:-1]
        b = check_array(b, name)
        if b.shape != vectors and (b.ndim != len(vectors) + 1 or b.shape[:-1] != vectors):
            raise ValueError(
                f"{name} must have shape {vectors} or {vectors[:-1] + (vectors[-1], 'K')}, as the "
                f"blocks {self.diagonal.shape}; got {b.shape}. Reshape it, or repeat it for each "
                "item of the batch."
            )
        dtype = np.result_type(b, self.diagonal)
        columns = b.astype(np.float64, copy=False).reshape(*vectors, -1)
        return columns, lambda x: x.reshape(b.shape).astype(dtype, copy=False)

    def _as_blocks(self, *blocks, copy=False):
        return tuple(block.astype(self.diagonal.dtype, copy=copy) for block in blocks)


def _symmetric_part(blocks, mirrored):
    skew = np.abs(blocks - mirrored).max(axis=(-2, -1))
    is_bad = skew > ASYMMETRY[blocks.dtype] * np.abs(blocks).max(axis=(-2, -1))
    if is_bad.any():
        where = tuple(int(i) for i in np.argwhere(is_bad)[0])
        raise ValueError(
            f"diagonal must have symmetric blocks; block {list(where)} differs from its "
            f"transpose by {skew[where]:.3g}. Pass (diagonal + diagonal.mT) / 2."
        )
    return 0.5 * blocks + 0.5 * mirrored  # of the largest numbers, too


# Shared with the chain that has such a precision


def check_blocks(diagonal, lower, diagonal_name, lower_name):
    """Arrays (..., L, M, M) and (..., L - 1, M, M) of one dtype, checked."""
    diagonal = check_array(diagonal, diagonal_name)
    if diagonal.ndim < 3 or diagonal.shape[-1] != diagonal.shape[-2]:
        raise ValueError(
            f"{diagonal_name} must have shape (..., L, M, M); got {diagonal.shape}. "
            "Pass L square blocks of one size."
        )
    *batch, n, m, _ = diagonal.shape
    expected = (*batch, n - 1, m, m)
    if n == 1 and (lower is None or np.size(lower) == 0):  # a single block has none below it
        lower = np.empty(expected, diagonal.dtype)
    else:
        lower = check_array(lower, lower_name)
    if lower.shape != expected:
        raise ValueError(
            f"{lower_name} must have shape (..., L - 1, M, M) = {expected}, as {diagonal_name} has "
            f"{diagonal.shape}; got {lower.shape}. Pass the blocks (i + 1, i)."
        )
    dtype = np.result_type(diagonal, lower)
    return diagonal.astype(dtype, copy=False), lower.astype(dtype, copy=False)


def set_frozen(instance, **arrays):
    """Set attributes of a frozen dataclass, read-only."""
    for name, array in arrays.items():
        array.flags.writeable = False
        object.__setattr__(instance, name, array)


def number_or_array(value, dtype):
    """A float of what has no dimensions, else an array of this dtype."""
    return float(value) if np.ndim(value) == 0 else value.astype(dtype, copy=False)

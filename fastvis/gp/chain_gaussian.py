"""Gaussian Markov chains from the first layer to the last."""

from dataclasses import dataclass

import numpy as np

from .._kernels import blocktri
from .._kernels.threads import one_blas_thread
from .._random import check_rng
from .._validation import check_array, check_int
from .block_tridiagonal import BlockTridiagonal, check_blocks, number_or_array, set_frozen


@dataclass(frozen=True, repr=False, eq=False)
class ChainGaussian:
    """A normal distribution of L vectors, of which each depends on the one before, or a batch.

    ::

        v_1 = n_1 + T_1 e_1
        v_l = n_l + H_l (v_{l-1} - n_{l-1}) + T_l e_l,      e_l ~ N(0, I)

    The posterior over the whitened inducing outputs of the layers of a deep Gaussian process, whose
    prior is N(0, I). Its precision is block-tridiagonal; all of what is computed here costs
    O(L M^3), and a draw O(L M^2).

    Parameters
    ----------
    mean : array_like, (..., L, M)
        n. float32 or float64; computed in float64.
    gain : array_like, (..., L - 1, M, M)
        H_2 to H_L. Zeros: independent layers.
    factor : array_like, (..., L, M, M)
        T, lower triangular with a positive diagonal.

    Attributes
    ----------
    mean, gain, factor : ndarray
        As given; read-only copies of one dtype.

    Raises
    ------
    TypeError
        No numbers.
    ValueError
        Wrong shapes, nothing, NaN, a factor that is not triangular or has a diagonal that is not
        positive.

    Notes
    -----
    Results have the dtype of the parameters. BLAS is held to one thread in the whole process while
    they are computed: they are the same to the byte for any number of threads.

    References
    ----------
    Ustyuzhaninov, Kazlauskaite et al., *Compositional uncertainty in deep Gaussian processes*, UAI
    2020, section 4.1.

    Examples
    --------
    Two layers of one variable each, the second of which follows the first:

    >>> import numpy as np
    >>> from fastvis.gp import ChainGaussian
    >>> chain = ChainGaussian(np.zeros((2, 1)), [[[0.8]]], [[[1.0]], [[0.6]]])
    >>> chain
    ChainGaussian(2 layers of 1, float64)
    >>> diagonal, lower = chain.covariance_blocks()
    >>> diagonal.ravel().round(4), lower.ravel()
    (array([1., 1.]), array([0.8]))
    >>> round(chain.kl(), 4), round(chain.total_correlation(), 4)  # -log 0.6, all of it coupling
    (0.5108, 0.5108)
    """

    mean: np.ndarray
    gain: np.ndarray
    factor: np.ndarray

    def __post_init__(self):
        factor, gain = check_blocks(self.factor, self.gain, "factor", "gain")
        mean = check_array(self.mean, "mean")
        if mean.shape != factor.shape[:-1]:
            raise ValueError(
                f"mean must have shape (..., L, M) = {factor.shape[:-1]}, as factor has "
                f"{factor.shape}; got {mean.shape}."
            )
        if np.triu(factor, 1).any():
            raise ValueError(
                "factor must be lower triangular; got values above the diagonal. "
                "Pass numpy.linalg.cholesky of the conditional covariances."
            )
        smallest = _diagonals(factor).min()
        if smallest <= 0:
            raise ValueError(
                f"factor must have a positive diagonal; got {smallest:.4g}. "
                "Change the sign of its column."
            )
        dtype = np.result_type(mean, factor)
        parameters = {"mean": mean, "gain": gain, "factor": factor}
        set_frozen(self, **{name: array.astype(dtype) for name, array in parameters.items()})

    @classmethod
    def from_precision(cls, mean, precision):
        """The chain with this mean and precision.

        Parameters
        ----------
        mean : array_like, (..., L, M)
        precision : BlockTridiagonal
            L blocks of M x M, batches as in ``mean``.

        Returns
        -------
        ChainGaussian

        Raises
        ------
        TypeError, ValueError
            A precision of another class; shapes that do not fit.

        Notes
        -----
        Its factor in reverse order, U' U with U lower block-bidiagonal, has T_l^-1 and -T_l^-1 H_l
        as blocks: no covariance is computed.

        Examples
        --------
        >>> import numpy as np
        >>> from fastvis.gp import BlockTridiagonal, ChainGaussian
        >>> walk = BlockTridiagonal([[[2]], [[2]], [[1]]], -np.ones((2, 1, 1)))
        >>> chain = ChainGaussian.from_precision(np.zeros((3, 1)), walk)
        >>> chain.gain.ravel(), chain.factor.ravel()
        (array([1., 1.]), array([1., 1., 1.]))
        """
        if not isinstance(precision, BlockTridiagonal):
            raise TypeError(
                "precision must be a fastvis.gp.BlockTridiagonal; got "
                f"{type(precision).__name__}. Pass BlockTridiagonal(diagonal, lower)."
            )
        # reversed, the precision has a lower Cholesky factor: U', reversed
        diagonal = _reversed(precision.diagonal).astype(np.float64)
        lower = _reversed(precision.lower.mT).astype(np.float64)
        inverse_factor, coupling = (
            _reversed(block).mT
            for block in blocktri.factorize(
                np.ascontiguousarray(diagonal), np.ascontiguousarray(lower)
            )
        )
        factor = np.tril(_solve_triangular(inverse_factor, np.eye(diagonal.shape[-1])))
        gain = -_solve_triangular(inverse_factor[..., 1:, :, :], coupling)
        dtype = precision.diagonal.dtype
        return cls(mean, gain.astype(dtype), factor.astype(dtype))

    def precision(self):
        """The inverse of the covariance.

        Returns
        -------
        BlockTridiagonal, L blocks of M x M

        Examples
        --------
        >>> import numpy as np
        >>> from fastvis.gp import ChainGaussian
        >>> walk = ChainGaussian(np.zeros((3, 1)), np.ones((2, 1, 1)), np.ones((3, 1, 1)))
        >>> walk.precision().todense()
        array([[ 2., -1.,  0.],
               [-1.,  2., -1.],
               [ 0., -1.,  1.]])
        """
        _, gain, factor = self._doubles()
        inverse = _solve_triangular(factor, np.eye(factor.shape[-1]))
        with one_blas_thread:
            noise = inverse.mT @ inverse  # T^-T T^-1
            lower = -noise[..., 1:, :, :] @ gain
            noise[..., :-1, :, :] -= gain.mT @ lower
        dtype = self.mean.dtype
        return BlockTridiagonal(noise.astype(dtype), lower.astype(dtype))

    def logdet(self):
        """Logarithm of the determinant of the covariance.

        Returns
        -------
        float, or ndarray (...) for a batch

        Examples
        --------
        >>> from fastvis.gp import ChainGaussian
        >>> round(ChainGaussian([[0.0], [0.0]], [[[0.8]]], [[[1.0]], [[0.6]]]).logdet(), 4)
        -1.0217
        """
        return number_or_array(2 * _log_diagonal(self._doubles()[2]), self.mean.dtype)

    def kl(self):
        """Kullback-Leibler divergence from N(0, I), KL(this || N(0, I)), in nats.

        Returns
        -------
        float, or ndarray (...) for a batch

        Examples
        --------
        >>> from fastvis.gp import ChainGaussian
        >>> ChainGaussian([[0.0, 2.0]], [], [[[1.0, 0.0], [0.0, 1.0]]]).kl()
        2.0
        """
        mean, _, factor = self._doubles()
        square_roots, _ = self._square_roots()
        trace = np.square(square_roots).sum(axis=(-3, -2, -1))  # of the covariance
        squares = trace + np.square(mean).sum(axis=(-2, -1)) - mean.shape[-1] * mean.shape[-2]
        return number_or_array(squares / 2 - _log_diagonal(factor), self.mean.dtype)

    def total_correlation(self):
        """What the layers have in common: KL from the product of their marginals, in nats.

        0 for independent layers. `kl` is this plus the sum of the layers' own divergences.

        Returns
        -------
        float, or ndarray (...) for a batch, at least 0

        Examples
        --------
        >>> from fastvis.gp import ChainGaussian
        >>> chain = ChainGaussian([[0.0], [0.0]], [[[2.0]]], [[[1.0]], [[1.0]]])
        >>> round(chain.total_correlation(), 4)  # log(5) / 2
        0.8047
        """
        _, _, factor = self._doubles()
        square_roots, correlations = self._square_roots()
        squares = np.square(correlations)
        weak = -np.log1p(-np.minimum(squares, 0.5)).sum(axis=-1) / 2  # exactly 0 without coupling
        sizes = (np.log(np.abs(_diagonals(a[..., 1:, :, :]))) for a in (square_roots, factor))
        strong = np.subtract(*sizes).sum(axis=-1)
        each = np.where(squares.max(axis=-1) < 0.5, weak, strong)
        return number_or_array(each.sum(axis=-1), self.mean.dtype)

    def canonical_correlations(self):
        """Of neighboring layers, the correlations of the best matched linear combinations.

        The singular values of S_l^-1/2 S_{l,l-1} S_{l-1}^-1/2, of blocks S of the covariance.

        Returns
        -------
        ndarray, (..., L - 1, M)
            In [0, 1], from the largest to the smallest.

        Examples
        --------
        >>> import numpy as np
        >>> from fastvis.gp import ChainGaussian
        >>> gain = [[[0.8, 0.0], [0.0, 0.0]]]
        >>> chain = ChainGaussian(np.zeros((2, 2)), gain, [np.eye(2), np.diag([0.6, 1.0])])
        >>> chain.canonical_correlations().round(4)
        array([[0.8, 0. ]])
        """
        return self._square_roots()[1].astype(self.mean.dtype, copy=False)

    def covariance_blocks(self):
        """Covariances of each layer, and of each with the one before.

        Returns
        -------
        diagonal : ndarray, (..., L, M, M)
            S_l, symmetric.
        lower : ndarray, (..., L - 1, M, M)
            S_{l,l-1} = H_l S_{l-1}.

        Examples
        --------
        >>> import numpy as np
        >>> from fastvis.gp import ChainGaussian
        >>> walk = ChainGaussian(np.zeros((3, 1)), np.ones((2, 1, 1)), np.ones((3, 1, 1)))
        >>> diagonal, lower = walk.covariance_blocks()
        >>> diagonal.ravel().round(4), lower.ravel().round(4)
        (array([1., 2., 3.]), array([1., 2.]))
        """
        _, gain, _ = self._doubles()
        square_roots, _ = self._square_roots()
        with one_blas_thread:
            diagonal = square_roots @ square_roots.mT
            diagonal = (diagonal + diagonal.mT) / 2
            lower = gain @ diagonal[..., :-1, :, :]
        return tuple(blocks.astype(self.mean.dtype, copy=False) for blocks in (diagonal, lower))

    def sample(self, n, rng=None):
        """Draw from the distribution.

        Parameters
        ----------
        n : int
            Draws for each chain of the batch, at least 1.
        rng : None, int or numpy.random.Generator
            Seed. The first draws are the same for any n, but for rounding.

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
        >>> from fastvis.gp import ChainGaussian
        >>> chain = ChainGaussian([[0.0], [5.0]], [[[1.0]]], [[[1.0]], [[0.1]]])
        >>> v = chain.sample(10_000, rng=0)
        >>> v.shape
        (10000, 2, 1)
        >>> v.mean(axis=0).ravel().round(1)
        array([0., 5.])
        """
        n = check_int(n, "n", minimum=1)
        mean, gain, factor = self._doubles()
        normals = np.moveaxis(check_rng(rng).standard_normal((n, *mean.shape)), 0, -1)
        with one_blas_thread:
            v = factor @ normals  # (..., L, M, n)
            for l in range(1, mean.shape[-2]):
                v[..., l, :, :] += gain[..., l - 1, :, :] @ v[..., l - 1, :, :]
        v = np.moveaxis(v, -1, 0) + mean
        return np.ascontiguousarray(v, dtype=self.mean.dtype)

    def __repr__(self):
        *batch, n, m = self.mean.shape
        of_batch = f", batch of {' x '.join(map(str, batch))}" if batch else ""
        return f"ChainGaussian({n} layers of {m}{of_batch}, {self.mean.dtype})"

    def _doubles(self):
        return [a.astype(np.float64, copy=False) for a in (self.mean, self.gain, self.factor)]

    def _square_roots(self):
        """F_l of S_l = F_l F_l', (..., L, M, M), and the canonical correlations, (..., L - 1, M).

        [T_l, H_l F_{l-1}]' = Q_l F_l', a QR decomposition: no S_l is squared and taken apart again.
        The lower half of Q_l, transposed, is F_l^-1 H_l F_{l-1}, the correlation of v_l and v_{l-1}
        when both are white; it is exactly 0 where H_l is.
        """
        _, gain, factor = self._doubles()
        m = factor.shape[-1]
        square_roots, turns = np.empty_like(factor), np.empty(gain.shape)
        square_roots[..., 0, :, :] = factor[..., 0, :, :]
        with one_blas_thread:
            for l in range(1, factor.shape[-3]):
                inherited = gain[..., l - 1, :, :] @ square_roots[..., l - 1, :, :]
                both = np.concatenate([factor[..., l, :, :], inherited], axis=-1)
                q, triangle = np.linalg.qr(both.mT)
                turns[..., l - 1, :, :] = q[..., m:, :]
                square_roots[..., l, :, :] = triangle.mT
            correlations = np.linalg.svd(turns, compute_uv=False)
        return square_roots, np.minimum(correlations, 1)


def _diagonals(matrices):
    return np.diagonal(matrices, axis1=-2, axis2=-1)


def _log_diagonal(factor):
    return np.log(_diagonals(factor)).sum(axis=(-2, -1))


def _reversed(blocks):
    """Blocks of a matrix of which all rows and columns stand in reverse order."""
    return blocks[..., ::-1, ::-1, ::-1]


def _solve_triangular(triangles, right):
    """T^-1 right for each lower triangle: matrices of a single block."""
    single = np.ascontiguousarray(triangles)[..., None, :, :]
    right = np.broadcast_to(right, triangles.shape)[..., None, :, :].copy()
    below = np.empty((*triangles.shape[:-2], 0, *triangles.shape[-2:]))
    return blocktri.substitute(single, below, right)[..., 0, :, :]

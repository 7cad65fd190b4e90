"""Banks of filters: random, Fourier, or learned from images by PCA and k-means."""

import itertools
import os
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np

from .._files import replacing
from .._random import check_rng
from .._validation import check_array, check_choice, check_int
from .patches import sample_patches

WHITENING_RIDGE = 1e-3
"""Added to the variances before whitening, as a fraction of their mean."""

# what np.load and what follows raise for a file that is not a bank
_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    EOFError,
    OSError,
    RuntimeError,  # and NotImplementedError
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, eq=False, repr=False)
class FilterBank:
    """Filters of one or several sizes, for images of C channels. Immutable.

    Filters act by cross-correlation, as in `torch.nn.functional.conv2d`: they are not flipped.

    Parameters
    ----------
    filters : sequence of arrays, (n_maps, f, f, C)
        One array for each scale; f is odd. All have the same C, and the same dtype, float32 or
        float64. They are copied.

    Attributes
    ----------
    filters : tuple of ndarray, (n_maps, f, f, C)
        Read-only.
    sizes, n_maps : tuple of int
        f and the number of filters of each scale.
    channels : int
    dtype : numpy.dtype

    Raises
    ------
    TypeError
        Not a sequence of arrays of numbers.
    ValueError
        No filters; filters that are not square, of even size, not finite; several channel counts
        or dtypes.

    References
    ----------
    Ustyuzhaninov, Brendel, Gatys, Bethge, "What does it take to generate natural textures?",
    ICLR 2017, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import FilterBank
    >>> bank = FilterBank([np.ones((4, 3, 3, 1)), np.ones((2, 5, 5, 1))])
    >>> len(bank), bank.sizes, bank.n_maps, bank.channels
    (6, (3, 5), (4, 2), 1)
    """

    filters: tuple

    def __post_init__(self):
        object.__setattr__(self, "filters", _checked_filters(self.filters))

    @property
    def sizes(self):
        """Height and width f of the filters of each scale, in pixels."""
        return tuple(w.shape[1] for w in self.filters)

    @property
    def n_maps(self):
        """Number of filters of each scale."""
        return tuple(len(w) for w in self.filters)

    @property
    def channels(self):
        """Channels of the images that the filters act on."""
        return self.filters[0].shape[3]

    @property
    def dtype(self):
        """float32 or float64."""
        return self.filters[0].dtype

    def __len__(self):
        return sum(self.n_maps)

    def __repr__(self):
        return (
            f"FilterBank(sizes={self.sizes}, n_maps={self.n_maps}, "
            f"channels={self.channels}, dtype={self.dtype})"
        )

    def __reduce__(self):
        return FilterBank, (self.filters,)  # arrays lose their read-only flag in a pickle

    def astype(self, dtype):
        """Return the bank with filters of another dtype.

        Parameters
        ----------
        dtype : numpy.float32 or numpy.float64

        Returns
        -------
        FilterBank

        Examples
        --------
        >>> import numpy as np
        >>> FilterBank.random(sizes=(3,), n_maps=2, rng=0).astype(np.float64).dtype
        dtype('float64')
        """
        dtype = _check_dtype(dtype)
        return FilterBank([w.astype(dtype) for w in self.filters])

    @classmethod
    def random(
        cls,
        sizes=(3, 5, 7, 11, 15, 23, 37, 55),
        n_maps=128,
        channels=3,
        rng=None,
        dtype=np.float32,
    ):
        """Draw uniform random filters (Glorot & Bengio); Random-Multiscale by default.

        Weights are uniform in [-a, a], a = sqrt(6 / ((n_maps + channels) f**2)).

        Parameters
        ----------
        sizes : int or sequence of int
            Odd filter sizes f. ``sizes=11, n_maps=363`` is the paper's Random-363.
        n_maps : int or sequence of int
            Number of filters of each size; an int stands for all sizes.
        channels : int
            Channels of the images.
        rng : None, int or numpy.random.Generator
            The same seed gives the same filters, up to the rounding of ``dtype``.
        dtype : numpy.float32 or numpy.float64

        Returns
        -------
        FilterBank

        Raises
        ------
        ValueError
            Even sizes, numbers below 1, ``n_maps`` of another length than ``sizes``.

        References
        ----------
        Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural
        networks", AISTATS 2010, eq (16), with fans n f**2 as is usual for convolutions.
        Ustyuzhaninov et al., ICLR 2017, section 2.

        Examples
        --------
        >>> FilterBank.random(rng=0)
        FilterBank(sizes=(3, 5, 7, 11, 15, 23, 37, 55), n_maps=(128, 128, 128, 128, 128, 128, 128,
        128), channels=3, dtype=float32)
        """
        sizes = [_check_odd(f, f"sizes[{i}]") for i, f in enumerate(_as_list(sizes, "sizes"))]
        counts = _as_list(n_maps, "n_maps")
        counts = counts * len(sizes) if len(counts) == 1 else counts
        if len(counts) != len(sizes):
            raise ValueError(
                f"n_maps must be an int or one int for each of the {len(sizes)} sizes; "
                f"got {len(counts)} of them."
            )
        counts = [check_int(n, f"n_maps[{i}]", minimum=1) for i, n in enumerate(counts)]
        channels = check_int(channels, "channels", minimum=1)
        dtype = _check_dtype(dtype)
        rng = check_rng(rng)
        filters = []
        for f, n in zip(sizes, counts):
            limit = np.sqrt(6 / ((n + channels) * f**2))
            filters.append(rng.uniform(-limit, limit, (n, f, f, channels)).astype(dtype))
        return cls(filters)

    @classmethod
    def fourier(cls, size=11, color="separate", channels=3, dtype=np.float32):
        """Real Fourier basis, for each color or for their sums and differences.

        The ``size**2`` elements B_i are cosines and sines about the central pixel, of unit norm,
        from low to high frequency; together they are an orthonormal basis of all
        ``size x size`` patches.

        Parameters
        ----------
        size : int
            Odd filter size.
        color : {"separate", "joint"}
            "separate": B_i in one channel, nothing in the others (Fourier-363 for size 11);
            an orthonormal basis. "joint": B_i times every weight in {-1, 0, 1} of every channel
            (Fourier-3267). As in the paper these include a filter that is zero for each B_i, and
            each other filter with both signs.
        channels : int
        dtype : numpy.float32 or numpy.float64

        Returns
        -------
        FilterBank
            Of ``channels * size**2`` or ``3**channels * size**2`` filters. The weights run
            fastest.

        Raises
        ------
        ValueError
            An even size, an unknown ``color``.

        References
        ----------
        Ustyuzhaninov et al., ICLR 2017, section 2.

        Examples
        --------
        >>> len(FilterBank.fourier(11)), len(FilterBank.fourier(11, "joint"))
        (363, 3267)
        """
        size = _check_odd(size, "size")
        check_choice(color, "color", ("separate", "joint"))
        if color == "joint":
            check_int(channels, "channels", minimum=1, maximum=6)  # 3^6 f^2 filters
        channels = check_int(channels, "channels", minimum=1)
        dtype = _check_dtype(dtype)
        if color == "separate":
            weights = np.eye(channels)
        else:
            weights = np.array(list(itertools.product((-1, 0, 1), repeat=channels)))
        filters = np.einsum("iyx,wc->iwyxc", _fourier_basis(size), weights)
        return cls([filters.reshape(-1, size, size, channels).astype(dtype)])

    @classmethod
    def pca(cls, images, size=11, n_maps=None, *, n_patches=100_000, rng=None, dtype=np.float32):
        """Principal axes of the patches of a set of images (PCA-363).

        The mean patch is subtracted, then the axes of largest variance are taken. The sign of an
        axis is such that its largest value is positive.

        Parameters
        ----------
        images : sequence of (H, W) or (H, W, C) arrays, or stack (n_images, H, W, C)
            In [0, 1]; uint8 is divided by 255.
        size : int
            Odd filter size f.
        n_maps : int, optional
            At most f * f * C, a complete orthonormal basis, which is the default.
        n_patches : int
            Patches drawn by `sample_patches`, more than f * f * C. They take f * f * C * n_patches
            values of memory. The paper draws 1e7.
        rng : None, int or numpy.random.Generator
            Draws the patches.
        dtype : numpy.float32 or numpy.float64

        Returns
        -------
        FilterBank
            Orthonormal filters, by decreasing variance. Directions without any variance are
            completed arbitrarily.

        Raises
        ------
        ValueError
            More filters than dimensions, too few patches, images that are constant or smaller
            than a patch, an even size.

        References
        ----------
        Ustyuzhaninov et al., ICLR 2017, section 2.

        Examples
        --------
        >>> import numpy as np
        >>> ramp = np.add.outer(np.arange(16.0), np.zeros(16)) ** 2
        >>> bank = FilterBank.pca([ramp], size=3, n_maps=1, n_patches=1000, rng=0)
        >>> bank.filters[0][0, :, :, 0]  # the images differ by their brightness most
        array([[0.2..., 0.2..., 0.2...],
               [0.3..., 0.3..., 0.3...],
               [0.3..., 0.3..., 0.3...]], dtype=float32)
        """
        size = _check_odd(size, "size")
        dtype = _check_dtype(dtype)
        rows, shape = _centered_patches(images, size, n_patches, rng)
        n_dims = rows.shape[1]
        n_maps = n_dims if n_maps is None else check_int(n_maps, "n_maps", minimum=1)
        if n_maps > n_dims:
            raise ValueError(
                f"n_maps must be at most {n_dims}, the number of values in a patch of shape "
                f"{shape}; got {n_maps}. Use larger patches or FilterBank.kmeans."
            )
        if len(rows) <= n_dims:
            raise ValueError(
                f"n_patches must be more than {n_dims}, the number of values in a patch of shape "
                f"{shape}; got {len(rows)}."
            )
        _, axes = np.linalg.eigh(_covariance(rows))  # columns, by increasing variance
        axes = axes.T[::-1][:n_maps]
        largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
        return cls([(axes * np.sign(largest)).reshape(n_maps, *shape).astype(dtype)])

    @classmethod
    def kmeans(
        cls,
        images,
        size=11,
        n_maps=363,
        whiten=True,
        *,
        n_patches=100_000,
        rng=None,
        dtype=np.float32,
    ):
        """Cluster means of whitened patches of a set of images (Kmeans-363).

        The mean patch is subtracted, patches are whitened, and the means of their clusters, in
        the whitened space, are the filters. Kmeans-NonWhite is ``whiten=False``; for Kmeans-Sample
        pass the target texture alone, ``images=[texture]``.

        Parameters
        ----------
        images : sequence of (H, W) or (H, W, C) arrays, or stack (n_images, H, W, C)
            In [0, 1]; uint8 is divided by 255.
        size : int
            Odd filter size.
        n_maps : int
            Number of clusters; at most ``n_patches``.
        whiten : bool
            Multiply patches by W = E diag(1 / sqrt(l + r)) E' (ZCA), where their covariance is
            E diag(l) E', and r is 0.001 times the mean of l: what varies much less than the
            average direction is not amplified.
        n_patches : int
            Patches drawn by `sample_patches`. The paper draws 1e7.
        rng : None, int or numpy.random.Generator
            Draws the patches, and starts the clustering.
        dtype : numpy.float32 or numpy.float64

        Returns
        -------
        FilterBank

        Raises
        ------
        ValueError
            More clusters than patches, images that are constant or smaller than a patch, an even
            size.

        Notes
        -----
        Clusters are found by `sklearn.cluster.MiniBatchKMeans`. The same seed gives the same
        filters up to rounding.

        References
        ----------
        Ustyuzhaninov et al., ICLR 2017, section 2.

        Examples
        --------
        >>> import numpy as np
        >>> image = np.random.default_rng(0).random((32, 32, 3))
        >>> FilterBank.kmeans([image], size=3, n_maps=8, n_patches=500, rng=0)
        FilterBank(sizes=(3,), n_maps=(8,), channels=3, dtype=float32)
        """
        size = _check_odd(size, "size")
        n_maps = check_int(n_maps, "n_maps", minimum=1)
        dtype = _check_dtype(dtype)
        n_patches = check_int(n_patches, "n_patches", minimum=1)
        if n_maps > n_patches:
            raise ValueError(
                f"n_maps must be at most n_patches = {n_patches}; got {n_maps}. Draw more patches."
            )
        rng = check_rng(rng)
        rows, shape = _centered_patches(images, size, n_patches, rng)
        if whiten:
            rows = rows @ _zca(_covariance(rows), WHITENING_RIDGE).astype(rows.dtype)
        from sklearn.cluster import MiniBatchKMeans

        clusters = MiniBatchKMeans(
            n_maps,
            batch_size=max(1024, 4 * n_maps),
            n_init=3,
            random_state=int(rng.integers(2**31)),
        ).fit(rows)
        return cls([clusters.cluster_centers_.reshape(n_maps, *shape).astype(dtype)])

    def save(self, path):
        """Write the filters to an npz file, named exactly ``path``.

        A failed write leaves an older file of that name as it was.

        Parameters
        ----------
        path : str or path-like

        Examples
        --------
        >>> import os, tempfile
        >>> bank = FilterBank.random(sizes=(3, 5), n_maps=2, rng=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bank.save(os.path.join(folder, "bank.npz"))
        ...     FilterBank.load(os.path.join(folder, "bank.npz"))
        FilterBank(sizes=(3, 5), n_maps=(2, 2), channels=3, dtype=float32)
        """
        arrays = {f"filters_{i}": w for i, w in enumerate(self.filters)}
        with replacing(path) as temporary, open(temporary, "xb") as file:
            np.savez(file, **arrays)  # given a name, savez would append .npz to it

    @classmethod
    def load(cls, path):
        """Read a bank written by `save`.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        FilterBank

        Raises
        ------
        FileNotFoundError
            No such file.
        ValueError
            The file is truncated, damaged, or something else; the message names it.

        Examples
        --------
        >>> FilterBank.load("no/such/file.npz")
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: 'no/such/file.npz'
        """
        with open(path, "rb") as file:
            try:
                with np.load(file, allow_pickle=False) as data:
                    return cls([data[f"filters_{i}"] for i in range(len(data.files))])
            except _UNREADABLE as error:
                raise ValueError(
                    f"path must be a file written by FilterBank.save; got {os.fspath(path)!r}, "
                    f"which cannot be read as one ({error}). It may be truncated."
                ) from error


def _checked_filters(filters):
    if isinstance(filters, np.ndarray) and filters.ndim == 4:
        raise ValueError(
            f"filters must be a list with one array for each scale; got one array of shape "
            f"{filters.shape}. Pass [filters]."
        )
    try:
        filters = [
            check_array(w, f"filters[{i}]", ndim=4, axes="(n_maps, f, f, channels)")
            for i, w in enumerate(filters)
        ]
    except TypeError as error:
        raise TypeError(f"filters must be a list of arrays; {error}") from error
    if not filters:
        raise ValueError("filters must hold at least one array; got none.")
    for i, w in enumerate(filters):
        if w.shape[1] != w.shape[2] or w.shape[1] % 2 == 0:
            raise ValueError(
                f"filters[{i}] must be square and of odd size (n_maps, f, f, channels); "
                f"got shape {w.shape}. Pad filters with zeros to the next odd size."
            )
        if w.shape[3] != filters[0].shape[3] or w.dtype != filters[0].dtype:
            raise ValueError(
                "filters must all have one channel count and one dtype; got "
                f"{filters[0].shape[3]} channel(s) of {filters[0].dtype} in filters[0], "
                f"{w.shape[3]} of {w.dtype} in filters[{i}]."
            )
    filters = tuple(w.copy() for w in filters)
    for w in filters:
        w.setflags(write=False)
    return filters


def _as_list(values, name):
    values = [values] if np.ndim(values) == 0 else list(values)
    if not values:
        raise ValueError(f"{name} must hold at least one int; got none.")
    return values


def _check_odd(size, name):
    size = check_int(size, name, minimum=1)
    if size % 2 == 0:
        raise ValueError(f"{name} must be odd; got {size}. Use {size - 1} or {size + 1}.")
    return size


def _check_dtype(dtype):
    try:
        known = np.dtype(dtype) in (np.float32, np.float64)
    except TypeError:
        known = False
    if not known:
        raise ValueError(f"dtype must be numpy.float32 or numpy.float64; got {dtype!r}.")
    return np.dtype(dtype)


def _fourier_basis(f):
    """The ``(f * f, f, f)`` orthonormal cosines and sines, f odd, from low to high frequency."""
    h = f // 2
    position = np.arange(f) - h
    # one of each pair +-(u, v); zero is its own partner
    half = [(u, v) for u in range(h + 1) for v in range(-h, h + 1) if (u, v) > (0, 0)]
    basis = [np.full((f, f), 1 / f)]
    for u, v in sorted(half, key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv)):
        angle = 2 * np.pi / f * np.add.outer(u * position, v * position)
        basis += [np.sqrt(2) / f * np.cos(angle), np.sqrt(2) / f * np.sin(angle)]
    return np.array(basis)


def _centered_patches(images, size, n_patches, rng):
    """Patches minus their mean as rows, and the shape ``(f, f, C)`` of one."""
    patches = sample_patches(images, size, check_int(n_patches, "n_patches", minimum=1), rng)
    rows = patches.reshape(len(patches), -1)
    if np.all(rows == rows[0]):
        raise ValueError(
            "images must not be constant, nor give a single patch: nothing can be learned from "
            f"{len(rows)} equal patch(es). Pass other images, or more n_patches."
        )
    rows -= rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
    return rows, patches.shape[1:]


def _covariance(rows, chunk=8192):
    """``rows' rows / n`` in float64, without a float64 copy of all rows."""
    parts = (rows[i : i + chunk].astype(np.float64) for i in range(0, len(rows), chunk))
    return sum(part.T @ part for part in parts) / len(rows)


def _zca(covariance, ridge):
    """W = E diag(1 / sqrt(l + r)) E', covariance = E diag(l) E', r = ridge * mean(l)."""
    variances, axes = np.linalg.eigh(covariance)
    variances = np.maximum(variances, 0) + ridge * variances.mean()
    return axes / np.sqrt(variances) @ axes.T

"""The Gram model on the CPU, a strip of image rows at a time.

One plan serves one filter bank, image shape, padding and dtype::

    image -> pad -> transform along the rows -> x_hat             shapes (complex as 2 reals)
    for each strip of R rows:
        for each tile (some filters of one size, some rows):
            y_hat = correlate(x_hat, w_hat)   _correlation        (K, 2, rows, n)
            F     = phi(inverse transform)    _row_fft            (W, rows, n)
        G += F' F / M                         _products           (N, N)
    and for the gradient, with D = (dG + dG') / M, for each strip:
        F     = (D F) phi'(F)                 in place            (W, R, N)
        for each tile:
            y_hat = transform of F
            dx_hat += adjoint of correlate
    dx = adjoint of pad (inverse transform of dx_hat)

A direct correlation costs 2 f^2 C flops per map and pixel, this one about 8 f C and an FFT: 20
instead of 270 Gflop for the bank of the paper at 256 x 256. The products with G and D dominate
then (200 Gflop, symmetry used). A tile's y_hat about fits in a core's L2 cache. Feature maps of the
last strips stay for the gradient as far as `KEEP_BYTES` allows; the others are computed again.

Feature maps run fastest everywhere: neighboring maps are the lanes of a vector in all loops.
"""

from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np
import scipy.fft

from ..memory import LINE, Pool, aligned_empty
from ..threads import one_blas_thread, run_ranges
from . import _correlation, _products, _row_fft
from .padding import Padding

STRIP_BYTES = 64 << 20  # feature maps of one strip
KEEP_BYTES = 128 << 20  # feature maps that may stay for the gradient
IDLE_BYTES = 64 << 20  # working memory that a plan holds on to between calls
TILE_BYTES = 3 << 20  # spectra of one tile: about what fits in an L2 cache
TILE_MAPS = 64  # of one filter size
MIN_TILES = 16  # for many threads, if there are rows enough
SCRATCH_BYTES = 4 << 20  # feature maps of a piece of work on the gradient
PARTIAL_BYTES = 16 << 20  # partial sums of the Gram matrix
NONLINEARITIES = ("linear", "relu", "sigmoid")  # the numbers that the compiled code knows


class Filters(NamedTuple):
    """Some filters of one size, transformed along their rows."""

    maps: slice  # their place among all feature maps
    size: int  # f
    w_hat: np.ndarray  # (K, blocks, f C, 2, maps of a block): see correlation.h


class StripPlan:
    """Filters, ready to be applied to images of one shape. Calls may run in parallel.

    Parameters
    ----------
    filters : sequence of arrays, (n_s, f_s, f_s, C)
        All of one dtype, float32 or float64, which is the dtype of everything here.
    shape : (H, W)
    nonlinearity : {"linear", "relu", "sigmoid"}
    padding : {"zero", "periodic", "reflect"}
    """

    def __init__(self, filters, shape, nonlinearity, padding):
        self.shape = shape
        self.dtype = filters[0].dtype
        self.n_maps = sum(len(w) for w in filters)
        self.n_channels = filters[0].shape[3]
        self.nonlinearity = NONLINEARITIES.index(nonlinearity)

        self.pad = max(w.shape[1] for w in filters) // 2
        self.padding = Padding(shape, self.pad, padding)
        self.length = len(self.padding.columns)
        self.radices = _row_fft.factors(self.length)
        self.roots = _row_fft.roots(self.length, self.dtype)
        self.filters = self._transform_filters(filters)

        bytes_per_row = shape[1] * self.n_maps * self.dtype.itemsize
        n_strips = -(-shape[0] // max(1, STRIP_BYTES // bytes_per_row))
        n_rows = -(-shape[0] // n_strips)
        self.strips = [(y, min(y + n_rows, shape[0])) for y in range(0, shape[0], n_rows)]
        self.n_kept = min(len(self.strips), max(1, KEEP_BYTES // (bytes_per_row * n_rows)))
        self.memory = Pool(IDLE_BYTES)

    def _transform_filters(self, filters):
        """Groups of at most `TILE_MAPS` filters, large filters first: they take longest."""
        groups, first_map = [], 0
        for w in filters:
            n, f = w.shape[:2]
            turns = np.outer(np.arange(self.length // 2 + 1), np.arange(f) - f // 2) / self.length
            # with the factor 1 / length of the inverse transforms of features and gradient
            dft = np.exp(-2j * np.pi * turns) / self.length
            dft = np.stack([dft.real, dft.imag], axis=1).reshape(-1, f).astype(self.dtype)
            for i in range(0, n, TILE_MAPS):
                part = w[i : i + TILE_MAPS].transpose(2, 1, 3, 0)
                with one_blas_thread:  # the same bytes for any number of threads
                    w_hat = dft @ part.reshape(f, -1)
                w_hat = blocks_of_maps(w_hat.reshape(len(turns), 2, -1, part.shape[3]))
                maps = slice(first_map + i, first_map + i + part.shape[3])
                groups.append(Filters(maps, f, w_hat))
            first_map += n
        return sorted(groups, key=lambda group: -group.size)

    # The model

    def gram(self, image):
        """G (N, N) of an image (H, W, C), eq (1)."""
        with self._buffers(1) as buffers:
            return self._forward(image, buffers)[0]

    def gram_vjp(self, image, d_gram):
        """Gradient by the image of sum_ij d_gram_ij G_ij(image)."""
        with self._buffers(1) as buffers:
            return self._backward(d_gram, self._transform_image(image), {}, buffers)

    def loss(self, image, target):
        """E(image) = |target - G|^2 / |target|^2, eq (5), a float64 number."""
        return relative_error(self.gram(image), target)[0]

    def loss_and_grad(self, image, target):
        """E(image), eq (5), and its gradient by the image."""
        with self._buffers(self.n_kept) as buffers:
            gram, x_hat, kept = self._forward(image, buffers)
            loss, d_gram = relative_error(gram, target)
            return loss, self._backward(d_gram, x_hat, kept, buffers)

    @contextmanager
    def _buffers(self, n):
        """Memory for the feature maps of ``n`` strips."""
        shape = (self.shape[1], self.strips[0][1], self.n_maps)
        with ExitStack() as stack:
            yield [stack.enter_context(self.memory.empty(shape, self.dtype)) for _ in range(n)]

    # Over all strips

    def _forward(self, image, buffers):
        """G, the transformed image, and {strip: feature maps} of the last strips."""
        x_hat = self._transform_image(image)
        width = _products.padded(self.n_maps, self.dtype.itemsize)
        n_lanes = max(1, min(8, PARTIAL_BYTES // (width**2 * self.dtype.itemsize)))
        kept = {}
        with self.memory.empty((n_lanes, width, width), self.dtype) as partial:
            partial[:] = 0
            for i, strip in enumerate(self.strips):
                F = self._features(x_hat, strip, buffers[i % len(buffers)])
                self._accumulate_gram(F, partial)
                kept[strip] = F
            gram = partial.sum(axis=0)[: self.n_maps, : self.n_maps]
        gram /= np.prod(self.shape)
        gram = np.where(np.tri(self.n_maps, k=-1, dtype=bool), gram.T, gram)
        kept = dict(list(kept.items())[-len(buffers) :])
        return gram, x_hat, kept

    def _backward(self, d_gram, x_hat, kept, buffers):
        """The image gradient; overwrites the feature maps in ``kept``."""
        D = (d_gram + d_gram.T) / np.prod(self.shape)
        D = self._panels(np.ascontiguousarray(D, dtype=self.dtype))
        dx_hat = np.zeros_like(x_hat)
        for strip, F in kept.items():
            self._features_adjoint(D, F, strip, dx_hat)
        for strip in self.strips[: len(self.strips) - len(kept)]:
            F = self._features(x_hat, strip, buffers[0])
            self._features_adjoint(D, F, strip, dx_hat)
        dx_hat = dx_hat[:, 0] + 1j * dx_hat[:, 1]
        d_padded = scipy.fft.irfft(dx_hat, self.length, axis=0, norm="forward")
        return self.padding.adjoint(d_padded)

    def _transform_image(self, image):
        """The padded image's transform (K, 2, rows, C): real parts, then imaginary parts."""
        x_hat = scipy.fft.rfft(self.padding.apply(image), axis=0)
        return np.stack([x_hat.real, x_hat.imag], axis=1)

    # Over one strip: each step is spread over the threads

    def _tiles(self, n_rows):
        """(filters, first row, end) that together make the features of ``n_rows`` rows."""
        n_maps = min(TILE_MAPS, self.n_maps)
        bytes_per_row = (self.length // 2 + 1) * n_maps * 2 * self.dtype.itemsize
        n_parts = -(-n_rows // max(8, TILE_BYTES // bytes_per_row))
        n_parts = max(n_parts, min(-(-MIN_TILES // len(self.filters)), -(-n_rows // 8)))
        cuts = [n_rows * i // n_parts for i in range(n_parts + 1)]
        rows = list(zip(cuts[:-1], cuts[1:], strict=True))
        return [(group, *part) for group in self.filters for part in rows]

    @contextmanager
    def _spectrum(self, n_rows, n_maps):
        """Memory for y_hat (K, 2, rows, n) of one tile.

        From frequency to frequency it is an odd number of cache lines: powers of two would meet
        in few places of the cache.
        """
        n = n_rows * n_maps
        line = LINE // self.dtype.itemsize
        pitch = (-(-n // line) | 1) * line
        shape = (self.length // 2 + 1, 2, n_rows, n_maps)
        with self.memory.empty((*shape[:2], pitch), self.dtype) as pitched:
            yield pitched[:, :, :n].reshape(shape)

    def _features(self, x_hat, strip, buffer):
        """Feature maps (W, R, N) of a strip, in the memory of ``buffer``."""
        start, stop = strip
        F = buffer.reshape(-1)[: self.shape[1] * (stop - start) * self.n_maps]
        F = F.reshape(self.shape[1], stop - start, self.n_maps)
        tiles = self._tiles(stop - start)
        run_ranges(self._features_of_tile, len(tiles), tiles, x_hat, start, F, grain=1)
        return F

    def _features_of_tile(self, i, _, tiles, x_hat, start, F):
        group, r0, r1 = tiles[i]
        first_row = start + r0 + self.pad - group.size // 2
        part = F[:, r0:r1, group.maps]
        with self._spectrum(r1 - r0, part.shape[2]) as y_hat:
            _correlation.correlate(x_hat, group.w_hat, first_row, y_hat)
            _row_fft.inverse_rows(y_hat, self.radices, self.roots, self.nonlinearity, part)

    def _accumulate_gram(self, F, partial):
        n_lanes = len(partial)
        n_parts = -(-8 // n_lanes)
        pixels = F.reshape(-1, self.n_maps)
        run_ranges(_products.accumulate_gram, n_lanes * n_parts, pixels, n_parts, partial, grain=1)

    def _panels(self, D):
        width = _products.padded(self.n_maps, self.dtype.itemsize)
        out = aligned_empty((width, self.n_maps), self.dtype)
        _products.panels(D, out)
        return out

    def _features_adjoint(self, D, F, strip, dx_hat):
        """Adds a strip's part to dx_hat; overwrites its feature maps."""
        pixels = F.reshape(-1, self.n_maps)
        n_blocks = SCRATCH_BYTES // (_products.PIXELS * pixels[0].nbytes)
        run_ranges(
            _products.backpropagate,
            len(pixels),
            D,
            self.nonlinearity,
            pixels,
            grain=_products.PIXELS * min(8, max(2, n_blocks)),
        )
        start, stop = strip
        tiles = self._tiles(stop - start)
        parts = run_ranges(self._adjoint_of_tile, len(tiles), tiles, F, grain=1)
        for (group, r0, _), part in zip(tiles, parts, strict=True):
            first_row = start + r0 + self.pad - group.size // 2
            dx_hat[:, :, first_row : first_row + part.shape[2]] += part

    def _adjoint_of_tile(self, i, _, tiles, F):
        group, r0, r1 = tiles[i]
        shape = (self.length // 2 + 1, 2, r1 - r0 + group.size - 1, self.n_channels)
        dx_hat = np.empty(shape, self.dtype)
        part = F[:, r0:r1, group.maps]
        with self._spectrum(r1 - r0, part.shape[2]) as y_hat:
            _row_fft.transform_rows(part, self.radices, self.roots, y_hat)
            _correlation.correlate_adjoint(y_hat, group.w_hat, dx_hat)
        return dx_hat


def blocks_of_maps(w_hat):
    """(K, 2, q, n) as correlation.h wants it, filled up with zeros: (K, blocks, q, 2, block)."""
    n_freq, _, q, n = w_hat.shape
    block = _correlation.BLOCK_BYTES // w_hat.itemsize
    n_blocks = -(-n // block)
    blocks = aligned_empty((n_freq, n_blocks, q, 2, block), w_hat.dtype)
    blocks[:, -1] = 0
    for i in range(n_blocks):
        part = w_hat[:, :, :, i * block : (i + 1) * block]
        blocks[:, i, :, :, : part.shape[3]] = part.transpose(0, 2, 1, 3)
    return blocks


def relative_error(gram, target):
    """E = |target - gram|^2 / |target|^2, eq (5), and its gradient by the Gram matrix."""
    difference = gram - target
    norm = np.sum(np.square(target, dtype=np.float64))
    loss = np.sum(np.square(difference, dtype=np.float64)) / norm
    difference *= 2 / norm
    return float(loss), difference

"""The Gram model on the CPU, a strip of image rows at a time.

One plan serves one filter bank, image shape, padding and dtype::

    image -> pad -> transform along the rows -> x_hat
    for each strip of R rows:                                    shapes
        y_hat = correlate(x_hat, w_hat)      complex GEMMs       (K, R, N)
        F     = phi(inverse transform)                           (W, R, N)
        G    += F' F / M                     SYRK                (N, N)
    and for the gradient, with D = (dG + dG') / M:
        F     = (D F) phi'(F)                GEMM, in place
        y_hat = transform of F
        dx_hat += adjoint of correlate
    dx = adjoint of pad (inverse transform of dx_hat)

A direct correlation costs 2 f^2 C flops per map and pixel, this one about 8 f C and an FFT: 20
instead of 270 Gflop for the bank of the paper at 256 x 256. The products with G and D dominate
then (200 Gflop, symmetry used). Feature maps of the last strips stay for the gradient as far as
`KEEP_BYTES` allows; the others are computed again.

Feature maps run fastest everywhere: the transforms then work on many maps at once, and F is the
matrix that BLAS wants, without any transposition.
"""

from contextlib import contextmanager

import numpy as np
import scipy.fft

from ..threads import one_blas_thread, run_ranges
from . import _cpu, _row_fft
from .padding import Padding

STRIP_BYTES = 32 << 20  # feature maps of one strip
KEEP_BYTES = 128 << 20  # feature maps that may stay for the gradient
IDLE_BYTES = 64 << 20  # working memory that a plan holds on to between calls
PARTIAL_BYTES = 16 << 20  # partial sums of the Gram matrix
NONLINEARITIES = ("linear", "relu", "sigmoid")  # the numbers that the compiled code knows


class StripPlan:
    """Filters, ready to be applied to images of one shape. Immutable; calls may run in parallel.

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
        self.nonlinearity = NONLINEARITIES.index(nonlinearity)

        pad = max(w.shape[1] for w in filters) // 2
        self.padding = Padding(shape, pad, padding)
        self.length = len(self.padding.columns)
        self.radices = _row_fft.factors(self.length)
        self.roots = _row_fft.roots(self.length, self.dtype)
        self.groups, self.w_hat = self._transform_filters(filters, pad)

        bytes_per_row = shape[1] * self.n_maps * self.dtype.itemsize
        n_strips = -(-shape[0] // max(1, STRIP_BYTES // bytes_per_row))
        n_rows = -(-shape[0] // n_strips)
        self.strips = [(y, min(y + n_rows, shape[0])) for y in range(0, shape[0], n_rows)]
        self.n_kept = min(len(self.strips), max(1, KEEP_BYTES // (bytes_per_row * n_rows)))
        self._idle = []  # working memory between calls; list operations are atomic

    def _transform_filters(self, filters, pad):
        """The filters' transforms along their rows, packed by frequency; see `_cpu.correlate`."""
        n_frequencies, n_channels = self.length // 2 + 1, filters[0].shape[3]
        sizes = [w.shape[1] * n_channels * len(w) for w in filters]
        w_hat = np.empty((n_frequencies, sum(sizes)), np.result_type(self.dtype, np.complex64))
        groups, first_map, place = [], 0, 0
        for w, size in zip(filters, sizes, strict=True):
            n, f = w.shape[:2]
            turns = np.outer(np.arange(n_frequencies), np.arange(f) - f // 2) / self.length
            # with the factor 1 / length of the inverse transforms of features and gradient
            dft = (np.exp(-2j * np.pi * turns) / self.length).astype(w_hat.dtype)
            with one_blas_thread:  # the same bytes, whoever else holds BLAS to one thread
                w_hat[:, place : place + size] = dft @ np.moveaxis(w, 2, 0).reshape(f, size)
            groups.append((first_map, n, f * n_channels, (pad - f // 2) * n_channels, place))
            first_map, place = first_map + n, place + size
        return np.array(groups, np.int64), w_hat

    # The model

    def gram(self, image):
        """G (N, N) of an image (H, W, C), eq (1)."""
        with one_blas_thread, self._workspace(1) as work:
            return self._forward(image, work)[0]

    def gram_vjp(self, image, d_gram):
        """Gradient by the image of sum_ij d_gram_ij G_ij(image)."""
        with one_blas_thread, self._workspace(1) as work:
            return self._backward(d_gram, self._transform_image(image), {}, work)

    def loss(self, image, target):
        """E(image) = |target - G|^2 / |target|^2, eq (5), a float64 number."""
        return relative_error(self.gram(image), target)[0]

    def loss_and_grad(self, image, target):
        """E(image), eq (5), and its gradient by the image."""
        with one_blas_thread, self._workspace(self.n_kept) as work:
            gram, x_hat, kept = self._forward(image, work)
            loss, d_gram = relative_error(gram, target)
            return loss, self._backward(d_gram, x_hat, kept, work)

    @contextmanager
    def _workspace(self, n_kept):
        """Spectrum of a strip and feature maps of ``n_kept`` strips, for one call at a time.

        Fresh memory costs a tenth of a small model's time: what fits in `IDLE_BYTES` is kept for
        the next call. Each of two simultaneous calls has its own.
        """
        try:
            work = self._idle.pop()
        except IndexError:
            work = []
        n_rows = self.strips[0][1]
        if not work:
            shape = (self.length // 2 + 1, n_rows, self.n_maps)
            work.append(np.empty(shape, self.w_hat.dtype))
        while len(work) < 1 + n_kept:
            work.append(np.empty((self.shape[1], n_rows, self.n_maps), self.dtype))
        yield work[: 1 + n_kept]
        if sum(array.nbytes for array in work) <= IDLE_BYTES:
            self._idle.append(work)

    # Over all strips

    def _forward(self, image, work):
        """G, the transformed image, and {strip: feature maps} of the last strips."""
        x_hat = self._transform_image(image)
        y_hat, *buffers = work
        n_lanes = max(1, min(8, PARTIAL_BYTES // (self.n_maps**2 * self.dtype.itemsize)))
        partial = np.zeros((n_lanes, self.n_maps, self.n_maps), self.dtype)
        kept = {}
        for i, strip in enumerate(self.strips):
            F = self._features(x_hat, strip, y_hat, buffers[i % len(buffers)])
            self._accumulate_gram(F, partial)
            kept[strip] = F
        kept = dict(list(kept.items())[-len(buffers) :])
        upper = np.triu(partial.sum(axis=0))
        return upper + np.triu(upper, 1).T, x_hat, kept

    def _backward(self, d_gram, x_hat, kept, work):
        """The image gradient; overwrites the feature maps in ``kept``."""
        D = np.ascontiguousarray((d_gram + d_gram.T) / np.prod(self.shape), dtype=self.dtype)
        y_hat, buffer, *_ = work
        dx_hat = np.zeros_like(x_hat)
        for strip, F in kept.items():
            self._features_adjoint(D, F, strip, y_hat, dx_hat)
        for strip in self.strips[: len(self.strips) - len(kept)]:
            F = self._features(x_hat, strip, y_hat, buffer)
            self._features_adjoint(D, F, strip, y_hat, dx_hat)
        d_padded = scipy.fft.irfft(dx_hat, self.length, axis=0, norm="forward")
        return self.padding.adjoint(d_padded)

    def _transform_image(self, image):
        """The padded image's transform (K, rows, C)."""
        return np.ascontiguousarray(scipy.fft.rfft(self.padding.apply(image), axis=0))

    # Over one strip: each step is spread over the threads

    def _features(self, x_hat, strip, y_hat, buffer):
        """Feature maps (W, R, N) of a strip, in the memory of ``buffer``."""
        start, stop = strip
        y_hat, F = _front(y_hat, stop - start), _front(buffer, stop - start)
        run_ranges(
            _cpu.correlate,
            len(y_hat),
            _real(x_hat),
            _real(self.w_hat),
            self.groups,
            start,
            _real(y_hat),
            grain=self._frequencies_per_piece(stop - start),
        )
        run_ranges(
            _row_fft.inverse_rows,
            _row_fft.n_items(F[0].size),
            _flat(_real(y_hat)),
            self.radices,
            self.roots,
            self.nonlinearity,
            _flat(F),
            grain=self._columns_per_piece(),
        )
        return F

    def _accumulate_gram(self, F, partial):
        n_lanes = len(partial)
        n_panels = 8 // n_lanes
        run_ranges(
            _cpu.accumulate_gram,
            n_lanes * n_panels,
            F.reshape(-1, self.n_maps),
            1 / np.prod(self.shape),
            n_panels,
            partial,
            grain=1,
        )

    def _features_adjoint(self, D, F, strip, y_hat, dx_hat):
        """Adds a strip's part to dx_hat; overwrites its feature maps."""
        start, stop = strip
        y_hat = _front(y_hat, stop - start)
        pixels = F.reshape(-1, self.n_maps)
        scratch = 4 << 20
        run_ranges(
            _cpu.backpropagate,
            len(pixels),
            D,
            self.nonlinearity,
            pixels,
            grain=min(1024, max(256, scratch // pixels[0].nbytes)),
        )
        run_ranges(
            _row_fft.transform_rows,
            _row_fft.n_items(F[0].size),
            _flat(F),
            self.radices,
            self.roots,
            _flat(_real(y_hat)),
            grain=self._columns_per_piece(),
        )
        run_ranges(
            _cpu.correlate_adjoint,
            len(y_hat),
            _real(y_hat),
            _real(self.w_hat),
            self.groups,
            start,
            _real(dx_hat),
            grain=self._frequencies_per_piece(stop - start),
        )

    def _frequencies_per_piece(self, n_rows):
        flops = 8 * n_rows * self.w_hat.shape[1]
        return max(1, round(3e7 / flops))

    def _columns_per_piece(self):
        return max(1, (1 << 18) // (_row_fft.COLUMNS * self.length))


def relative_error(gram, target):
    """E = |target - gram|^2 / |target|^2, eq (5), and its gradient by the Gram matrix."""
    difference = gram - target
    norm = np.sum(np.square(target, dtype=np.float64))
    loss = np.sum(np.square(difference, dtype=np.float64)) / norm
    difference *= 2 / norm
    return float(loss), difference


def _front(buffer, n_rows):
    """The beginning of a strip's array (A, R, N) as a contiguous (A, n_rows, N)."""
    n, _, m = buffer.shape
    return buffer.reshape(-1)[: n * n_rows * m].reshape(n, n_rows, m)


def _flat(array):
    """(A, R, N) as (A, R N)."""
    return array.reshape(len(array), -1)


def _real(array):
    """A complex array as real and imaginary parts side by side."""
    return array.view(array.real.dtype)

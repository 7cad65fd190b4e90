"""Real Fourier transforms along the first axis of (length, columns) arrays, many columns at once.

Written for the strips of the Gram model, where the transforms of a library (which returns a new
array, to be rectified and copied) took longer than the correlation itself; see row_fft.h. Lengths
are best products of 2, 3 and 5 (`scipy.fft.next_fast_len`); any length is right.
"""

import numpy as np

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from *:
    """
    #define KERNEL "row_fft.h"
    #include "each_vector.h"
    #define BLOCK_COLUMNS(REAL, name) Py_ssize_t name(void)
    #define BLOCK_BYTES(REAL, name) Py_ssize_t name(Py_ssize_t)
    #define INVERSE_BLOCK(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, \
                  Py_ssize_t, Py_ssize_t, const long long *, Py_ssize_t, const REAL *, REAL *, \
                  void *, int, const REAL *, REAL *)
    #define FORWARD_BLOCK(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, \
                  Py_ssize_t, Py_ssize_t, const long long *, Py_ssize_t, const REAL *, REAL *, \
                  void *, const REAL *, REAL *)
    LEVELS(block_columns, BLOCK_COLUMNS)
    LEVELS(block_bytes, BLOCK_BYTES)
    LEVELS(inverse_block, INVERSE_BLOCK)
    LEVELS(forward_block, FORWARD_BLOCK)
    """
    int best_level() noexcept nogil
    Py_ssize_t (*block_columns_float[3])() noexcept nogil
    Py_ssize_t (*block_columns_double[3])() noexcept nogil
    Py_ssize_t (*block_bytes_float[3])(Py_ssize_t) noexcept nogil
    Py_ssize_t (*block_bytes_double[3])(Py_ssize_t) noexcept nogil
    void (*inverse_block_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                   Py_ssize_t, Py_ssize_t, Py_ssize_t, const long long*, Py_ssize_t,
                                   const float*, float*, void*, int, const float*,
                                   float*) noexcept nogil
    void (*inverse_block_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                    Py_ssize_t, Py_ssize_t, Py_ssize_t, const long long*,
                                    Py_ssize_t, const double*, double*, void*, int, const double*,
                                    double*) noexcept nogil
    void (*forward_block_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                   Py_ssize_t, Py_ssize_t, Py_ssize_t, const long long*, Py_ssize_t,
                                   const float*, float*, void*, const float*, float*) noexcept nogil
    void (*forward_block_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                    Py_ssize_t, Py_ssize_t, Py_ssize_t, const long long*,
                                    Py_ssize_t, const double*, double*, void*, const double*,
                                    double*) noexcept nogil

ctypedef fused real:
    float
    double


def factors(length):
    """Radices of the passes: 4 as often as it goes, then the primes, ``(n,)``."""
    radices, prime = [], 2
    while length % 4 == 0:
        radices.append(4)
        length //= 4
    while length > 1:
        while length % prime:
            prime += 1
        radices.append(prime)
        length //= prime
    return np.array(radices, np.int64)


def roots(length, dtype):
    """Cosines and sines of -2 pi i / length, ``(2, length)``."""
    angle = -2 * np.pi * np.arange(length) / length
    return np.array([np.cos(angle), np.sin(angle)], dtype)


def transform_rows(const real[:, :, :] F, const long long[::1] radices, const real[:, ::1] w,
                   real[:, :, :, :] y_hat, int level=best_level()):
    """y_hat = transform of F along its first axis.

    F (W, R, n), its last axis dense, is continued by zeros to the length of w (2, length), the
    roots of unity; y_hat (length // 2 + 1, 2, R, n): real parts, then imaginary parts, each (R, n)
    dense and all equally far apart.
    """
    _rows(F, radices, w, 0, y_hat, True, level)


def inverse_rows(real[:, :, :, :] y_hat, const long long[::1] radices, const real[:, ::1] w,
                 int nonlinearity, real[:, :, :] F, int level=best_level()):
    """F = phi(inverse transform of y_hat, without the factor 1 / length), its first W elements.

    Shapes as in `transform_rows`; nonlinearity as in `_products.backpropagate`.
    """
    _rows(F, radices, w, nonlinearity, y_hat, False, level)


cdef int _rows(const real[:, :, :] F, const long long[::1] radices, const real[:, ::1] w,
               int nonlinearity, real[:, :, :, :] y_hat, bint forward, int level) except -1:
    cdef Py_ssize_t length = w.shape[1], n_radices = radices.shape[0], width = F.shape[0]
    cdef Py_ssize_t n = F.shape[2], n_columns = F.shape[1] * n, b
    cdef Py_ssize_t stride = F.strides[1] // sizeof(real), step = F.strides[0] // sizeof(real)
    cdef Py_ssize_t pitch = y_hat.strides[1] // sizeof(real)
    cdef const long long* r = &radices[0] if n_radices else NULL
    cdef real* f = <real*> &F[0, 0, 0]
    cdef real* y = &y_hat[0, 0, 0, 0]
    cdef Py_ssize_t block, n_bytes
    if real is float:
        block = block_columns_float[level]()
    else:
        block = block_columns_double[level]()
    if real is float:
        n_bytes = block_bytes_float[level](length)
    else:
        n_bytes = block_bytes_double[level](length)
    cdef char* memory = <char*> malloc(64 + n_bytes + 2 * length * sizeof(real))
    if memory == NULL:
        raise MemoryError()
    cdef char* work = memory + (64 - <uintptr_t> memory % 64)  # aligned
    cdef real* u = <real*> (work + n_bytes)
    with nogil:
        for b in range((n_columns + block - 1) // block):
            if forward:
                if real is float:
                    forward_block_float[level](b, length, width, n_columns, n, stride, step, pitch,
                                               r, n_radices, &w[0, 0], u, work, f, y)
                else:
                    forward_block_double[level](b, length, width, n_columns, n, stride, step, pitch,
                                                r, n_radices, &w[0, 0], u, work, f, y)
            else:
                if real is float:
                    inverse_block_float[level](b, length, width, n_columns, n, stride, step, pitch,
                                               r, n_radices, &w[0, 0], u, work, nonlinearity, y, f)
                else:
                    inverse_block_double[level](b, length, width, n_columns, n, stride, step, pitch,
                                                r, n_radices, &w[0, 0], u, work, nonlinearity, y, f)
    free(memory)
    return 0

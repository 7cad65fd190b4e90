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
    #include <math.h>
    #include <string.h>
    #if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__)
    #define CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
    #else
    #define CLONES
    #endif
    #if defined(__GNUC__) || defined(__clang__)
    #define INLINE inline __attribute__((always_inline))
    #else
    #define INLINE inline
    #endif
    #define REAL float
    #define FN(name) name##_float
    #include "row_fft.h"
    #undef REAL
    #undef FN
    #define REAL double
    #define FN(name) name##_double
    #include "row_fft.h"
    """
    const int block_columns_float, block_columns_double
    ctypedef struct vec_float:
        pass
    ctypedef struct vec_double:
        pass
    void inverse_block_float(
        Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
        const long long*, Py_ssize_t, const float*, float*, vec_float*, int, const float*, float*) nogil
    void inverse_block_double(
        Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
        const long long*, Py_ssize_t, const double*, double*, vec_double*, int, const double*, double*) nogil
    void forward_block_float(
        Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
        const long long*, Py_ssize_t, const float*, float*, vec_float*, const float*, float*) nogil
    void forward_block_double(
        Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
        const long long*, Py_ssize_t, const double*, double*, vec_double*, const double*, double*) nogil

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
                   real[:, :, :, ::1] y_hat):
    """y_hat = transform of F along its first axis.

    F (W, R, n), its last axis dense, is continued by zeros to the length of w (2, length), the
    roots of unity; y_hat (length // 2 + 1, 2, R, n): real parts, then imaginary parts.
    """
    _rows(F, radices, w, 0, &y_hat[0, 0, 0, 0], True)


def inverse_rows(const real[:, :, :, ::1] y_hat, const long long[::1] radices, const real[:, ::1] w,
                 int nonlinearity, real[:, :, :] F):
    """F = phi(inverse transform of y_hat, without the factor 1 / length), its first W elements.

    Shapes as in `transform_rows`; nonlinearity as in `_cpu.backpropagate`.
    """
    _rows(F, radices, w, nonlinearity, <real*> &y_hat[0, 0, 0, 0], False)


cdef int _rows(const real[:, :, :] F, const long long[::1] radices, const real[:, ::1] w,
               int nonlinearity, real* y_hat, bint forward) except -1:
    cdef Py_ssize_t length = w.shape[1], n_radices = radices.shape[0], width = F.shape[0]
    cdef Py_ssize_t n = F.shape[2], n_columns = F.shape[1] * n, b
    cdef Py_ssize_t stride = F.strides[1] // sizeof(real), step = F.strides[0] // sizeof(real)
    cdef Py_ssize_t block = block_columns_float if real is float else block_columns_double
    cdef const long long* r = &radices[0] if n_radices else NULL
    cdef real* f = <real*> &F[0, 0, 0]
    cdef char* memory = <char*> malloc(64 + 4 * length * 64 + 2 * length * sizeof(real))
    if memory == NULL:
        raise MemoryError()
    cdef char* work = memory + (64 - <uintptr_t> memory % 64)  # aligned
    cdef real* u = <real*> (work + 4 * length * 64)
    with nogil:
        for b in range((n_columns + block - 1) // block):
            if real is float:
                if forward:
                    forward_block_float(b, length, width, n_columns, n, stride, step, r, n_radices,
                                        &w[0, 0], u, <vec_float*> work, f, y_hat)
                else:
                    inverse_block_float(b, length, width, n_columns, n, stride, step, r, n_radices,
                                        &w[0, 0], u, <vec_float*> work, nonlinearity, y_hat, f)
            else:
                if forward:
                    forward_block_double(b, length, width, n_columns, n, stride, step, r,
                                         n_radices, &w[0, 0], u, <vec_double*> work, f, y_hat)
                else:
                    inverse_block_double(b, length, width, n_columns, n, stride, step, r,
                                         n_radices, &w[0, 0], u, <vec_double*> work, nonlinearity,
                                         y_hat, f)
    free(memory)
    return 0

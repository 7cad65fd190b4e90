"""Correlation with filters of one size along the columns, and its adjoint: serial, without the GIL.

Shapes, for K frequencies along a row of the image: x_hat (K, 2, rows, C): real parts, then imaginary
parts; w_hat (K, blocks, f C, 2, maps of a block), as correlation.h describes; y_hat (K, 2, R, n), each
(R, n) dense.
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from *:
    """
    #define KERNEL "correlation.h"
    #include "each_vector.h"
    """
    const bint HAS_WIDE
    void correlate_float_32(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*,
                            const float*, const float*, float*, float*) noexcept nogil
    void correlate_float_64(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*,
                            const float*, const float*, float*, float*) noexcept nogil
    void correlate_double_32(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                             const double*, const double*, double*, double*) noexcept nogil
    void correlate_double_64(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                             const double*, const double*, double*, double*) noexcept nogil
    void adjoint_float_32(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*,
                          const float*, const float*, void*, float*, float*) noexcept nogil
    void adjoint_float_64(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*,
                          const float*, const float*, void*, float*, float*) noexcept nogil
    void adjoint_double_32(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                           const double*, const double*, void*, double*, double*) noexcept nogil
    void adjoint_double_64(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                           const double*, const double*, void*, double*, double*) noexcept nogil

ctypedef fused real:
    float
    double

BLOCK_BYTES = 64  # of neighboring maps in the weights
HAS_AVX512 = bool(HAS_WIDE)


def correlate(const real[:, :, :, ::1] x_hat, const real[:, :, :, :, ::1] w_hat,
              Py_ssize_t first_row, real[:, :, :, :] y_hat, bint wide=HAS_WIDE):
    """y_hat[k, r, j] = sum_p conj(w_hat[k, p, j]) x_hat[k, first_row + r + p].

    x_hat is read on from row to row. ``wide`` chooses vectors of 64 bytes, else 32.
    """
    cdef Py_ssize_t channels = x_hat.shape[3], q = w_hat.shape[2], k
    cdef void (*kernel)(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const real*, const real*,
                        const real*, real*, real*) noexcept nogil
    if real is float:
        kernel = correlate_float_64 if wide else correlate_float_32
    else:
        kernel = correlate_double_64 if wide else correlate_double_32
    with nogil:
        for k in range(y_hat.shape[0]):
            kernel(channels, q, y_hat.shape[2], y_hat.shape[3], &x_hat[k, 0, first_row, 0],
                   &x_hat[k, 1, first_row, 0], &w_hat[k, 0, 0, 0, 0], &y_hat[k, 0, 0, 0],
                   &y_hat[k, 1, 0, 0])


def correlate_adjoint(const real[:, :, :, :] y_hat, const real[:, :, :, :, ::1] w_hat,
                      real[:, :, :, ::1] dx_hat, bint wide=HAS_WIDE):
    """dx_hat[k, t] = sum_rj w_hat[k, t - r, j] y_hat[k, r, j]; dx_hat (K, 2, R + f - 1, C)."""
    cdef Py_ssize_t channels = dx_hat.shape[3], q = w_hat.shape[2], k
    cdef Py_ssize_t n_rows = y_hat.shape[2], n = y_hat.shape[3]
    cdef void (*kernel)(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const real*, const real*,
                        const real*, void*, real*, real*) noexcept nogil
    if real is float:
        kernel = adjoint_float_64 if wide else adjoint_float_32
    else:
        kernel = adjoint_double_64 if wide else adjoint_double_32
    # y of one frequency in whole vectors, of 64 bytes at most, and rows of zeros around
    cdef char* memory = <char*> malloc(64 + 2 * (n_rows + 8) * (n * sizeof(real) + 64))
    if memory == NULL:
        raise MemoryError()
    cdef void* aligned = memory + (64 - <uintptr_t> memory % 64)
    with nogil:
        for k in range(y_hat.shape[0]):
            kernel(channels, q, n_rows, n, &y_hat[k, 0, 0, 0], &y_hat[k, 1, 0, 0],
                   &w_hat[k, 0, 0, 0, 0], aligned, &dx_hat[k, 0, 0, 0], &dx_hat[k, 1, 0, 0])
    free(memory)

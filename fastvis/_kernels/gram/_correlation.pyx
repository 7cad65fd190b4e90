"""Correlation with filters of one size along the columns, and its adjoint: serial, without the GIL.

Shapes, for K frequencies along a row of the image: x_hat (K, 2, rows, C): real parts, then
imaginary parts; w_hat (K, blocks, f C, 2, maps of a block), as correlation.h describes; y_hat
(K, 2, R, n), each (R, n) dense.
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free

cdef extern from *:
    """
    #define KERNEL "correlation.h"
    #include "each_vector.h"
    #define CORRELATE(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const REAL *, const REAL *, \
                  const REAL *, REAL *, REAL *)
    #define ADJOINT(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const REAL *, const REAL *, \
                  const REAL *, void *, REAL *, REAL *)
    #define ADJOINT_BYTES(REAL, name) Py_ssize_t name(Py_ssize_t, Py_ssize_t)
    LEVELS(correlate, CORRELATE)
    LEVELS(adjoint, ADJOINT)
    LEVELS(adjoint_bytes, ADJOINT_BYTES)
    """
    int best_level() noexcept nogil
    void (*correlate_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*,
                               const float*, const float*, float*, float*) noexcept nogil
    void (*correlate_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                                const double*, const double*, double*, double*) noexcept nogil
    void (*adjoint_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*,
                             const float*, const float*, void*, float*, float*) noexcept nogil
    void (*adjoint_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                              const double*, const double*, void*, double*, double*) noexcept nogil
    Py_ssize_t (*adjoint_bytes_float[3])(Py_ssize_t, Py_ssize_t) noexcept nogil
    Py_ssize_t (*adjoint_bytes_double[3])(Py_ssize_t, Py_ssize_t) noexcept nogil

ctypedef fused real:
    float
    double

BLOCK_BYTES = 64  # of neighboring maps in the weights
BEST_LEVEL = best_level()


def correlate(const real[:, :, :, ::1] x_hat, const real[:, :, :, :, ::1] w_hat,
              Py_ssize_t first_row, real[:, :, :, :] y_hat, int level=best_level()):
    """y_hat[k, r, j] = sum_p conj(w_hat[k, p, j]) x_hat[k, first_row + r + p].

    x_hat is read on from row to row. ``level``: of each_vector.h.
    """
    cdef Py_ssize_t channels = x_hat.shape[3], q = w_hat.shape[2], k
    with nogil:
        for k in range(y_hat.shape[0]):
            if real is float:
                correlate_float[level](channels, q, y_hat.shape[2], y_hat.shape[3],
                                       &x_hat[k, 0, first_row, 0], &x_hat[k, 1, first_row, 0],
                                       &w_hat[k, 0, 0, 0, 0], &y_hat[k, 0, 0, 0],
                                       &y_hat[k, 1, 0, 0])
            else:
                correlate_double[level](channels, q, y_hat.shape[2], y_hat.shape[3],
                                        &x_hat[k, 0, first_row, 0], &x_hat[k, 1, first_row, 0],
                                        &w_hat[k, 0, 0, 0, 0], &y_hat[k, 0, 0, 0],
                                        &y_hat[k, 1, 0, 0])


def correlate_adjoint(const real[:, :, :, :] y_hat, const real[:, :, :, :, ::1] w_hat,
                      real[:, :, :, ::1] dx_hat, int level=best_level()):
    """dx_hat[k, t] = sum_rj w_hat[k, t - r, j] y_hat[k, r, j]; dx_hat (K, 2, R + f - 1, C)."""
    cdef Py_ssize_t channels = dx_hat.shape[3], q = w_hat.shape[2], k
    cdef Py_ssize_t n_rows = y_hat.shape[2], n = y_hat.shape[3], n_bytes
    if real is float:
        n_bytes = adjoint_bytes_float[level](n_rows, n)
    else:
        n_bytes = adjoint_bytes_double[level](n_rows, n)
    cdef char* memory = <char*> calloc(n_bytes + 64, 1)
    if memory == NULL:
        raise MemoryError()
    cdef void* aligned = memory + (64 - <uintptr_t> memory % 64)
    with nogil:
        for k in range(y_hat.shape[0]):
            if real is float:
                adjoint_float[level](channels, q, n_rows, n, &y_hat[k, 0, 0, 0], &y_hat[k, 1, 0, 0],
                                     &w_hat[k, 0, 0, 0, 0], aligned, &dx_hat[k, 0, 0, 0],
                                     &dx_hat[k, 1, 0, 0])
            else:
                adjoint_double[level](channels, q, n_rows, n, &y_hat[k, 0, 0, 0],
                                      &y_hat[k, 1, 0, 0], &w_hat[k, 0, 0, 0, 0], aligned,
                                      &dx_hat[k, 0, 0, 0], &dx_hat[k, 1, 0, 0])
    free(memory)

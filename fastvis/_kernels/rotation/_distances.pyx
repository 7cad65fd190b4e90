"""Distances of all pairs of rows and their gradient: serial, without the GIL."""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from *:
    """
    #define KERNEL "distances.h"
    #include "each_vector.h"
    #define PANEL_WIDTH(REAL, name) Py_ssize_t name(void)
    #define PACK(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, const REAL *, REAL *)
    #define DISTANCES_BYTES(REAL, name) Py_ssize_t name(Py_ssize_t)
    #define DISTANCES(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const REAL *, const REAL *, \
                  const REAL *, const REAL *, void *, double *, REAL *)
    LEVELS(panel_width, PANEL_WIDTH)
    LEVELS(pack, PACK)
    LEVELS(distances_bytes, DISTANCES_BYTES)
    LEVELS(distances, DISTANCES)
    """
    int best_level() noexcept nogil
    Py_ssize_t (*panel_width_float[3])() noexcept nogil
    Py_ssize_t (*panel_width_double[3])() noexcept nogil
    void (*pack_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, float*) noexcept nogil
    void (*pack_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                           double*) noexcept nogil
    Py_ssize_t (*distances_bytes_float[3])(Py_ssize_t) noexcept nogil
    Py_ssize_t (*distances_bytes_double[3])(Py_ssize_t) noexcept nogil
    void (*distances_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*,
                               const float*, const float*, const float*, void*, double*,
                               float*) noexcept nogil
    void (*distances_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                                const double*, const double*, const double*, void*, double*,
                                double*) noexcept nogil

ctypedef fused real:
    float
    double

BEST_LEVEL = best_level()


def padded(Py_ssize_t n, Py_ssize_t itemsize, int level=best_level()):
    """``n`` in whole panels."""
    cdef Py_ssize_t panel
    panel = panel_width_float[level]() if itemsize == 4 else panel_width_double[level]()
    return (n + panel - 1) // panel * panel


def panels(const real[:, ::1] x, real[::1] out, int level=best_level()):
    """The columns of x in panels, in ``out``, of `padded` columns times rows."""
    cdef Py_ssize_t n_rows = x.shape[0], n = x.shape[1]
    if real is float:
        pack_float[level](n_rows, n, out.shape[0] // (n_rows * panel_width_float[level]()),
                          &x[0, 0], &out[0])
    else:
        pack_double[level](n_rows, n, out.shape[0] // (n_rows * panel_width_double[level]()),
                           &x[0, 0], &out[0])


def distances(Py_ssize_t start, Py_ssize_t stop, const real[:, ::1] x, const real[::1] squares,
              const real[::1] columns, const real[::1] rows, double[::1] sums,
              real[:, ::1] gradient, int level=best_level()):
    """sums[i] = sum_j |x_i - x_j|, gradient[i] that of sums[i] by x_i, for i in [start, stop).

    x (`padded` n, D), its last rows zero; squares: |x_j|^2; columns: `panels` of x's transpose;
    rows: of x; sums (n,); gradient (n, D).
    """
    cdef Py_ssize_t n = sums.shape[0], n_dims = x.shape[1], n_bytes
    if real is float:
        n_bytes = distances_bytes_float[level](n_dims)
    else:
        n_bytes = distances_bytes_double[level](n_dims)
    cdef char* memory = <char*> malloc(n_bytes + 64)
    if memory == NULL:
        raise MemoryError()
    cdef void* aligned = memory + (64 - <uintptr_t> memory % 64)
    with nogil:
        if real is float:
            distances_float[level](start, stop, n, n_dims, &x[0, 0], &squares[0], &columns[0],
                                   &rows[0], aligned, &sums[0], &gradient[0, 0])
        else:
            distances_double[level](start, stop, n, n_dims, &x[0, 0], &squares[0], &columns[0],
                                    &rows[0], aligned, &sums[0], &gradient[0, 0])
    free(memory)

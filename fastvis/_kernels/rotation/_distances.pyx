"""Distances of all pairs of rows and their gradient: serial, without the GIL."""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from *:
    """
    #define KERNEL "distances.h"
    #include "each_vector.h"
    #define PANEL_WIDTH(REAL, name) Py_ssize_t name(void)
    #define SUMMARIZE(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const REAL *, double *, REAL *)
    #define PREPARE(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, \
                  const REAL *, const REAL *, REAL, REAL, REAL *, REAL *, REAL *, REAL *, REAL *)
    #define GRADIENT(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, REAL, const REAL *, \
                  const REAL *, const double *, REAL *)
    #define DISTANCES(REAL, name) \
        double name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, \
                    Py_ssize_t, const REAL *, const REAL *, const REAL *, const REAL *, REAL *, \
                    REAL *, double *)
    LEVELS(panel_width, PANEL_WIDTH)
    LEVELS(summarize, SUMMARIZE)
    LEVELS(prepare, PREPARE)
    LEVELS(gradient, GRADIENT)
    LEVELS(distances, DISTANCES)
    enum { tile_rows = 96 };
    """
    const int tile_rows
    int best_level() noexcept nogil
    Py_ssize_t (*panel_width_float[3])() noexcept nogil
    Py_ssize_t (*panel_width_double[3])() noexcept nogil
    void (*summarize_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, double*,
                             float*) noexcept nogil
    void (*prepare_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                           const float*, const float*, float, float, float*, float*, float*,
                           float*, float*) noexcept nogil
    void (*gradient_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, float, const float*,
                            const float*, const double*, float*) noexcept nogil
    void (*summarize_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, double*,
                             double*) noexcept nogil
    void (*prepare_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                           const double*, const double*, double, double, double*, double*, double*,
                           double*, double*) noexcept nogil
    void (*gradient_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, double, const double*,
                            const double*, const double*, double*) noexcept nogil
    double (*distances_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                 Py_ssize_t, Py_ssize_t, const float*, const float*, const float*,
                                 const float*, float*, float*, double*) noexcept nogil
    double (*distances_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                  Py_ssize_t, Py_ssize_t, const double*, const double*,
                                  const double*, const double*, double*, double*,
                                  double*) noexcept nogil

ctypedef fused real:
    float
    double

BEST_LEVEL = best_level()
TILE = tile_rows


def padded(Py_ssize_t n, Py_ssize_t itemsize, int level=best_level()):
    """``n`` in whole panels."""
    cdef Py_ssize_t panel
    panel = panel_width_float[level]() if itemsize == 4 else panel_width_double[level]()
    return (n + panel - 1) // panel * panel


def summarize(Py_ssize_t start, Py_ssize_t stop, const real[:, ::1] x, double[:, ::1] totals,
              real[::1] largest, int level=best_level()):
    """Sums of the columns of TILEs [start, stop) of x's rows, and the largest of their |x|."""
    with nogil:
        if real is float:
            summarize_float[level](start, stop, x.shape[0], x.shape[1], &x[0, 0], &totals[0, 0],
                                   &largest[0])
        else:
            summarize_double[level](start, stop, x.shape[0], x.shape[1], &x[0, 0], &totals[0, 0],
                                    &largest[0])


def prepare(Py_ssize_t start, Py_ssize_t stop, const real[:, ::1] x, const real[::1] center,
            double scale_a, double scale_b, real[:, ::1] centered, real[::1] squares,
            real[::1] columns, real[::1] rows, real[::1] pulled, int level=best_level()):
    """TILEs [start, stop) of what `distances` takes, of the rows scale_a scale_b x - center."""
    cdef Py_ssize_t n = x.shape[0], n_padded = centered.shape[0], n_dims = x.shape[1]
    cdef Py_ssize_t width = rows.shape[0] // n_padded
    with nogil:
        if real is float:
            prepare_float[level](start, stop, n, n_padded, n_dims, width, &x[0, 0], &center[0],
                                 scale_a, scale_b, &centered[0, 0], &squares[0], &columns[0],
                                 &rows[0], &pulled[0])
        else:
            prepare_double[level](start, stop, n, n_padded, n_dims, width, &x[0, 0], &center[0],
                                  scale_a, scale_b, &centered[0, 0], &squares[0], &columns[0],
                                  &rows[0], &pulled[0])


def gradient(Py_ssize_t start, Py_ssize_t stop, double factor, const real[:, ::1] x,
             const real[::1] pulled, const double[::1] total_weight, real[:, ::1] out,
             int level=best_level()):
    """Rows [start, stop) of factor (total_weight[i] x_i - pulled[i])."""
    cdef Py_ssize_t n_padded = x.shape[0], n_dims = x.shape[1]
    with nogil:
        if real is float:
            gradient_float[level](start, stop, n_padded, n_dims, factor, &x[0, 0], &pulled[0],
                                  &total_weight[0], &out[0, 0])
        else:
            gradient_double[level](start, stop, n_padded, n_dims, factor, &x[0, 0], &pulled[0],
                                   &total_weight[0], &out[0, 0])


def distances(Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t[:, ::1] pairs, Py_ssize_t n_block,
              Py_ssize_t n, const real[:, ::1] x, const real[::1] squares,
              const real[::1] columns, const real[::1] rows, real[::1] pulled,
              double[::1] total_weight, int level=best_level()):
    """Sum of |x_i - x_j| over the blocks of rows pairs[start:stop]; adds to pulled, total_weight.

    The gradient by x_i of sum_j |x_i - x_j| is total_weight[i] x_i - pulled[i], when all blocks
    have been met. Pairs that are worked on at once must have no block in common.

    pairs (n_pairs, 2): blocks of n_block rows; n_block, and the rows of x (n_padded, D), zero from
    n on, in whole TILEs; squares: |x_j|^2; columns (n_padded / panel, D, panel): x's transpose by
    panels of columns; rows, pulled (`padded` D / panel, n_padded, panel): x, and sums like it.
    """
    cdef Py_ssize_t n_padded = x.shape[0], n_dims = x.shape[1], width = rows.shape[0] // x.shape[0], k
    cdef double total = 0
    cdef char* memory = <char*> malloc(tile_rows * tile_rows * sizeof(real) + 64)
    if memory == NULL:
        raise MemoryError()
    cdef real* weights = <real*> (memory + (64 - <uintptr_t> memory % 64))
    with nogil:
        for k in range(start, stop):
            if real is float:
                total += distances_float[level](
                    pairs[k, 0], pairs[k, 1], n_block, n, n_padded, n_dims, width, &x[0, 0],
                    &squares[0], &columns[0], &rows[0], weights, &pulled[0], &total_weight[0])
            else:
                total += distances_double[level](
                    pairs[k, 0], pairs[k, 1], n_block, n, n_padded, n_dims, width, &x[0, 0],
                    &squares[0], &columns[0], &rows[0], weights, &pulled[0], &total_weight[0])
    free(memory)
    return total

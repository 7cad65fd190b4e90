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
    #define DISTANCES(REAL, name) \
        double name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, \
                    Py_ssize_t, const REAL *, const REAL *, const REAL *, const REAL *, REAL *, \
                    REAL *, double *)
    LEVELS(panel_width, PANEL_WIDTH)
    LEVELS(pack, PACK)
    LEVELS(distances, DISTANCES)
    enum { tile_rows = 96 };
    """
    const int tile_rows
    int best_level() noexcept nogil
    Py_ssize_t (*panel_width_float[3])() noexcept nogil
    Py_ssize_t (*panel_width_double[3])() noexcept nogil
    void (*pack_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, float*) noexcept nogil
    void (*pack_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                           double*) noexcept nogil
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


def panels(const real[:, ::1] x, real[::1] out, int level=best_level()):
    """The columns of x in panels, in ``out``, of `padded` columns times rows."""
    cdef Py_ssize_t n_rows = x.shape[0], n = x.shape[1]
    if real is float:
        pack_float[level](n_rows, n, out.shape[0] // (n_rows * panel_width_float[level]()),
                          &x[0, 0], &out[0])
    else:
        pack_double[level](n_rows, n, out.shape[0] // (n_rows * panel_width_double[level]()),
                           &x[0, 0], &out[0])


def distances(Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t[:, ::1] pairs, Py_ssize_t n_block,
              Py_ssize_t n, const real[:, ::1] x, const real[::1] squares,
              const real[::1] columns, const real[::1] rows, real[:, ::1] pulled,
              double[::1] total_weight, int level=best_level()):
    """Sum of |x_i - x_j| over the blocks of rows pairs[start:stop]; adds to pulled, total_weight.

    The gradient by x_i of sum_j |x_i - x_j| is total_weight[i] x_i - pulled[i], when all blocks
    have been met. Pairs that are worked on at once must have no block in common.

    pairs (n_pairs, 2): blocks of n_block rows; n_block, and the rows of x (n_padded, D), zero from
    n on, in whole TILEs; squares: |x_j|^2; columns: `panels` of x's transpose; rows: of x; pulled
    (n_padded, `padded` D).
    """
    cdef Py_ssize_t n_padded = x.shape[0], n_dims = x.shape[1], width = pulled.shape[1], k
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
                    &squares[0], &columns[0], &rows[0], weights, &pulled[0, 0], &total_weight[0])
            else:
                total += distances_double[level](
                    pairs[k, 0], pairs[k, 1], n_block, n, n_padded, n_dims, width, &x[0, 0],
                    &squares[0], &columns[0], &rows[0], weights, &pulled[0, 0], &total_weight[0])
    free(memory)
    return total

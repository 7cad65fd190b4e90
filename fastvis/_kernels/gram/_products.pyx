"""The dense products of the Gram model, of M pixels and N feature maps: serial, without the GIL."""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #define KERNEL "products.h"
    #include "each_vector.h"
    #define PANEL_WIDTH(REAL, name) Py_ssize_t name(void)
    #define PACK(REAL, name) void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, const REAL *, REAL *)
    #define ADD_GRAM(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const REAL *, REAL *)
    #define MULTIPLY(REAL, name) \
        void name(Py_ssize_t, Py_ssize_t, Py_ssize_t, const REAL *, const REAL *, REAL *)
    #define SLOPE(REAL, name) void name(Py_ssize_t, int, const REAL *, REAL *)
    LEVELS(panel_width, PANEL_WIDTH)
    LEVELS(pack, PACK)
    LEVELS(add_gram, ADD_GRAM)
    LEVELS(multiply, MULTIPLY)
    LEVELS(slope, SLOPE)
    """
    int best_level() noexcept nogil
    Py_ssize_t (*panel_width_float[3])() noexcept nogil
    Py_ssize_t (*panel_width_double[3])() noexcept nogil
    void (*pack_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, float*) noexcept nogil
    void (*pack_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                           double*) noexcept nogil
    void (*add_gram_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*,
                              float*) noexcept nogil
    void (*add_gram_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                               double*) noexcept nogil
    void (*multiply_float[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, const float*,
                              float*) noexcept nogil
    void (*multiply_double[3])(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, const double*,
                               double*) noexcept nogil
    void (*slope_float[3])(Py_ssize_t, int, const float*, float*) noexcept nogil
    void (*slope_double[3])(Py_ssize_t, int, const double*, double*) noexcept nogil

ctypedef fused real:
    float
    double

cdef enum:
    BLOCK_ROWS = 128
PIXELS = BLOCK_ROWS  # that `backpropagate` works on at a time

cdef Py_ssize_t PACKED_BYTES = 1 << 20  # of F at a time: half of an L2 cache
cdef Py_ssize_t CHUNK = 256  # pixels of F at a time, at most



def padded(Py_ssize_t n_maps, Py_ssize_t itemsize, int level=best_level()):
    """Maps in whole panels, at least ``n_maps``."""
    cdef Py_ssize_t panel
    panel = panel_width_float[level]() if itemsize == 4 else panel_width_double[level]()
    return (n_maps + panel - 1) // panel * panel


def accumulate_gram(Py_ssize_t start, Py_ssize_t stop, const real[:, ::1] F, Py_ssize_t n_parts,
                    real[:, :, ::1] partial, int level=best_level()):
    """partial[l, i, j] += sum_m F[m, i] F[m, j], j >= i; F (M, N), partial (L, `padded` N, same).

    Item t of the range is lane l = t // n_parts of the pixels (M is cut into L lanes, each with a
    sum of its own) and part t % n_parts of the columns j. Some elements with j < i are written too.
    """
    cdef Py_ssize_t n_lanes = partial.shape[0], n = F.shape[1], width = partial.shape[1]
    cdef Py_ssize_t n_panels, t, m, m1, p0, p1, size
    if real is float:
        n_panels = width // panel_width_float[level]()
    else:
        n_panels = width // panel_width_double[level]()
    cdef Py_ssize_t chunk = max(16, min(CHUNK, PACKED_BYTES // (width * <Py_ssize_t> sizeof(real))))
    cdef char* memory = <char*> malloc(64 + chunk * width * sizeof(real))
    if memory == NULL:
        raise MemoryError()
    cdef real* packed = <real*> (memory + (64 - <uintptr_t> memory % 64))  # aligned
    with nogil:
        for t in range(start, stop):
            # columns of about equal work: it grows with their number
            p0 = equal_area(t % n_parts, n_parts, n_panels)
            p1 = equal_area(t % n_parts + 1, n_parts, n_panels)
            m = (t // n_parts) * F.shape[0] // n_lanes
            m1 = (t // n_parts + 1) * F.shape[0] // n_lanes if p0 < p1 else m
            while m < m1:
                size = min(chunk, m1 - m)
                if real is float:
                    pack_float[level](size, n, p1, &F[m, 0], packed)
                else:
                    pack_double[level](size, n, p1, &F[m, 0], packed)
                if real is float:
                    add_gram_float[level](size, p0, p1, width, packed, &partial[t // n_parts, 0, 0])
                else:
                    add_gram_double[level](size, p0, p1, width, packed,
                                           &partial[t // n_parts, 0, 0])
                m += size
    free(memory)


cdef Py_ssize_t equal_area(Py_ssize_t i, Py_ssize_t n, Py_ssize_t end) noexcept nogil:
    """The i-th of n cuts of [0, end) between which there are equal parts of a triangle."""
    cdef Py_ssize_t cut = 0
    while cut < end and cut * cut * n < i * end * end:
        cut += 1
    return cut


def panels(const real[:, ::1] D, real[:, ::1] out, int level=best_level()):
    """The columns of D (N, N) as `backpropagate` wants them; out (`padded` N, N)."""
    cdef Py_ssize_t n = D.shape[0], n_panels
    if real is float:
        n_panels = out.shape[0] // panel_width_float[level]()
        pack_float[level](n, n, n_panels, &D[0, 0], &out[0, 0])
    else:
        n_panels = out.shape[0] // panel_width_double[level]()
        pack_double[level](n, n, n_panels, &D[0, 0], &out[0, 0])


def backpropagate(Py_ssize_t start, Py_ssize_t stop, const real[:, ::1] D, int nonlinearity,
                  real[:, ::1] F, int level=best_level()):
    """F[m] <- (D F[m]) phi'(F[m]) for pixels m in [start, stop).

    D (`padded` N, N): the `panels` of a symmetric matrix; F (M, N). nonlinearity: 0 linear, 1 relu,
    2 sigmoid; phi' is written by the value of phi.
    """
    cdef Py_ssize_t n = F.shape[1], width = D.shape[0], n_panels, b, m, i, size, rows
    if real is float:
        n_panels = width // panel_width_float[level]()
    else:
        n_panels = width // panel_width_double[level]()
    cdef real* f
    # the rest that is no whole block of 8 rows stands in memory of its own, with rows of zeros
    cdef char* memory = <char*> malloc(64 + BLOCK_ROWS * (width + n) * sizeof(real))
    if memory == NULL:
        raise MemoryError()
    cdef real* product = <real*> (memory + (64 - <uintptr_t> memory % 64))  # aligned
    cdef real* rest = product + BLOCK_ROWS * width
    with nogil:
        for b in range((stop - start + BLOCK_ROWS - 1) // BLOCK_ROWS):
            m = start + b * BLOCK_ROWS
            size = min(<Py_ssize_t> BLOCK_ROWS, stop - m)
            rows = (size + 7) // 8 * 8
            f = &F[m, 0]
            if rows > size:
                memcpy(rest, f, size * n * sizeof(real))
                memset(rest + size * n, 0, (rows - size) * n * sizeof(real))
                f = rest
            if real is float:
                multiply_float[level](rows, n, n_panels, f, &D[0, 0], product)
            else:
                multiply_double[level](rows, n, n_panels, f, &D[0, 0], product)
            for i in range(size):
                if real is float:
                    slope_float[level](n, nonlinearity, product + i * width, &F[m + i, 0])
                else:
                    slope_double[level](n, nonlinearity, product + i * width, &F[m + i, 0])
    free(memory)

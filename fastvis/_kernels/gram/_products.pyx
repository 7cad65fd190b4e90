"""The dense products of the Gram model, of M pixels and N feature maps: serial, without the GIL."""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #define KERNEL "products.h"
    #include "each_vector.h"
    """
    const bint HAS_WIDE
    const int panel_float_32, panel_float_64, panel_double_32, panel_double_64
    void pack_float_32(Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, float*) noexcept nogil
    void pack_float_64(Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, float*) noexcept nogil
    void pack_double_32(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, double*) noexcept nogil
    void pack_double_64(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, double*) noexcept nogil
    void add_gram_float_32(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*,
                           float*) noexcept nogil
    void add_gram_float_64(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*,
                           float*) noexcept nogil
    void add_gram_double_32(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                            double*) noexcept nogil
    void add_gram_double_64(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*,
                            double*) noexcept nogil
    void multiply_float_32(Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, const float*,
                           float*) noexcept nogil
    void multiply_float_64(Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, const float*,
                           float*) noexcept nogil
    void multiply_double_32(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, const double*,
                            double*) noexcept nogil
    void multiply_double_64(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, const double*,
                            double*) noexcept nogil
    void slope_float_32(Py_ssize_t, int, const float*, float*) noexcept nogil
    void slope_float_64(Py_ssize_t, int, const float*, float*) noexcept nogil
    void slope_double_32(Py_ssize_t, int, const double*, double*) noexcept nogil
    void slope_double_64(Py_ssize_t, int, const double*, double*) noexcept nogil

ctypedef fused real:
    float
    double

cdef enum:
    BLOCK_ROWS = 128  # pixels; a multiple of the rows of a block of products.h

cdef Py_ssize_t PACKED_BYTES = 1 << 20  # of F at a time: half of an L2 cache
cdef Py_ssize_t CHUNK = 256  # pixels of F at a time, at most


cdef Py_ssize_t panel_width(real* _, bint wide) noexcept nogil:
    if real is float:
        return panel_float_64 if wide else panel_float_32
    else:
        return panel_double_64 if wide else panel_double_32


def padded(Py_ssize_t n_maps, Py_ssize_t itemsize, bint wide=HAS_WIDE):
    """Maps in whole panels, at least ``n_maps``."""
    cdef Py_ssize_t panel
    panel = panel_width(<float*> NULL, wide) if itemsize == 4 else panel_width(<double*> NULL, wide)
    return (n_maps + panel - 1) // panel * panel


def accumulate_gram(Py_ssize_t start, Py_ssize_t stop, const real[:, ::1] F, Py_ssize_t n_parts,
                    real[:, :, ::1] partial, bint wide=HAS_WIDE):
    """partial[l, i, j] += sum_m F[m, i] F[m, j], j >= i; F (M, N), partial (L, `padded` N, same).

    Item t of the range is lane l = t // n_parts of the pixels (M is cut into L lanes, each with a
    sum of its own) and part t % n_parts of the columns j. Some elements with j < i are written too.
    """
    cdef Py_ssize_t n_lanes = partial.shape[0], n = F.shape[1], width = partial.shape[1]
    cdef Py_ssize_t panel = panel_width(<real*> NULL, wide)
    cdef Py_ssize_t n_panels = width // panel, t, m, m0, m1, p0, p1
    cdef Py_ssize_t chunk = max(16, min(CHUNK, PACKED_BYTES // (width * <Py_ssize_t> sizeof(real))))
    cdef char* memory = <char*> malloc(64 + chunk * width * sizeof(real))
    cdef real* packed
    if memory == NULL:
        raise MemoryError()
    packed = <real*> (memory + (64 - <uintptr_t> memory % 64))  # aligned
    with nogil:
        for t in range(start, stop):
            m0 = (t // n_parts) * F.shape[0] // n_lanes
            m1 = (t // n_parts + 1) * F.shape[0] // n_lanes
            # columns of about equal work: it grows with their number
            p0 = equal_area(t % n_parts, n_parts, n_panels)
            p1 = equal_area(t % n_parts + 1, n_parts, n_panels)
            m = m0 if p0 < p1 else m1
            while m < m1:
                add_gram(min(chunk, m1 - m), n, p0, p1, width, &F[m, 0], packed,
                         &partial[t // n_parts, 0, 0], wide)
                m += chunk
    free(memory)


cdef Py_ssize_t equal_area(Py_ssize_t i, Py_ssize_t n, Py_ssize_t end) noexcept nogil:
    """The i-th of n cuts of [0, end) between which there are equal parts of a triangle."""
    cdef Py_ssize_t cut = 0
    while cut < end and cut * cut * n < i * end * end:
        cut += 1
    return cut


cdef void add_gram(Py_ssize_t n_pixels, Py_ssize_t n, Py_ssize_t p0, Py_ssize_t p1,
                   Py_ssize_t width, const real* F, real* packed, real* gram,
                   bint wide) noexcept nogil:
    if real is float:
        if wide:
            pack_float_64(n_pixels, n, p1, F, packed)
            add_gram_float_64(n_pixels, p0, p1, width, packed, gram)
        else:
            pack_float_32(n_pixels, n, p1, F, packed)
            add_gram_float_32(n_pixels, p0, p1, width, packed, gram)
    else:
        if wide:
            pack_double_64(n_pixels, n, p1, F, packed)
            add_gram_double_64(n_pixels, p0, p1, width, packed, gram)
        else:
            pack_double_32(n_pixels, n, p1, F, packed)
            add_gram_double_32(n_pixels, p0, p1, width, packed, gram)


def panels(const real[:, ::1] D, real[:, ::1] out, bint wide=HAS_WIDE):
    """The columns of D (N, N) as `backpropagate` wants them; out (`padded` N, N)."""
    cdef Py_ssize_t n = D.shape[0], n_panels = out.shape[0] // panel_width(<real*> NULL, wide)
    if real is float:
        if wide:
            pack_float_64(n, n, n_panels, &D[0, 0], &out[0, 0])
        else:
            pack_float_32(n, n, n_panels, &D[0, 0], &out[0, 0])
    else:
        if wide:
            pack_double_64(n, n, n_panels, &D[0, 0], &out[0, 0])
        else:
            pack_double_32(n, n, n_panels, &D[0, 0], &out[0, 0])


def backpropagate(Py_ssize_t start, Py_ssize_t stop, const real[:, ::1] D, int nonlinearity,
                  real[:, ::1] F, bint wide=HAS_WIDE):
    """F[m] <- (D F[m]) phi'(F[m]) for pixels m in [start, stop).

    D (`padded` N, N): the `panels` of a symmetric matrix; F (M, N). nonlinearity: 0 linear, 1 relu,
    2 sigmoid; phi' is written by the value of phi.
    """
    cdef Py_ssize_t n = F.shape[1], width = D.shape[0]
    cdef Py_ssize_t n_panels = width // panel_width(<real*> NULL, wide), b, m, i, size
    cdef real* f
    # whole blocks of rows: the last one in memory of its own, with rows of zeros
    cdef char* memory = <char*> malloc(64 + BLOCK_ROWS * (width + n) * sizeof(real))
    if memory == NULL:
        raise MemoryError()
    cdef real* product = <real*> (memory + (64 - <uintptr_t> memory % 64))  # aligned
    cdef real* rest = product + BLOCK_ROWS * width
    with nogil:
        for b in range((stop - start + BLOCK_ROWS - 1) // BLOCK_ROWS):
            m = start + b * BLOCK_ROWS
            size = min(<Py_ssize_t> BLOCK_ROWS, stop - m)
            f = &F[m, 0]
            if size < BLOCK_ROWS:
                memset(rest, 0, BLOCK_ROWS * n * sizeof(real))
                memcpy(rest, f, size * n * sizeof(real))
            multiply(BLOCK_ROWS, n, n_panels, f if size == BLOCK_ROWS else rest, &D[0, 0], product,
                     wide)
            for i in range(size):
                slope(n, nonlinearity, product + i * width, &F[m + i, 0], wide)
    free(memory)


cdef void multiply(Py_ssize_t n_pixels, Py_ssize_t n, Py_ssize_t n_panels, const real* F,
                   const real* panels, real* out, bint wide) noexcept nogil:
    if real is float:
        if wide:
            multiply_float_64(n_pixels, n, n_panels, F, panels, out)
        else:
            multiply_float_32(n_pixels, n, n_panels, F, panels, out)
    else:
        if wide:
            multiply_double_64(n_pixels, n, n_panels, F, panels, out)
        else:
            multiply_double_32(n_pixels, n, n_panels, F, panels, out)


cdef void slope(Py_ssize_t n, int nonlinearity, const real* d, real* f, bint wide) noexcept nogil:
    if real is float:
        if wide:
            slope_float_64(n, nonlinearity, d, f)
        else:
            slope_float_32(n, nonlinearity, d, f)
    else:
        if wide:
            slope_double_64(n, nonlinearity, d, f)
        else:
            slope_double_32(n, nonlinearity, d, f)

"""Block-tridiagonal matrices, block by block: serial, without the GIL.

Every kernel works on items [start, stop) of a batch. Shapes: diagonal, C, S (N, L, M, M) and lower,
B, S_lower (N, L - 1, M, M), float64; block i of the latter is block (i + 1, i) of the matrix.
Right-hand sides are (N, L, M, K). Lambda = C C' with C lower block-bidiagonal: blocks C_i, lower
triangular with zeros above, and B_i.

LAPACK goes along columns: it sees every matrix here transposed, and a lower triangle as an upper
one. Solutions with the triangles of small blocks are our own (triangles.h); they take matrices that
are wider than they need, (M, stride), with zeros to the right.
"""

from libc.math cimport sqrt
from libc.float cimport DBL_MAX, DBL_MIN
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from scipy.linalg.cython_blas cimport dgemm, dgemv, dsyr2k, dsyrk, dtrsm, dtrsv
from scipy.linalg.cython_lapack cimport dpotrf

cdef extern from *:
    """
    #define KERNEL "solves.h"
    #define ONLY_DOUBLE
    #include "each_vector.h"
    #define LEFT_SOLVE(REAL, name) \
        void name(int, Py_ssize_t, Py_ssize_t, const REAL *, REAL *, Py_ssize_t)
    #define PANEL_WIDTH(REAL, name) Py_ssize_t name(void)
    LEVELS_OF(left_solve, LEFT_SOLVE, double)
    LEVELS_OF(panel_width, PANEL_WIDTH, double)
    """
    int best_level() noexcept nogil
    void (*left_solve_double[3])(int, Py_ssize_t, Py_ssize_t, const double *, double *,
                                 Py_ssize_t) noexcept nogil
    Py_ssize_t (*panel_width_double[3])() noexcept nogil

BEST_LEVEL = best_level()

cdef enum:
    SMALL = 128  # blocks; with larger ones a BLAS is as fast


cdef struct Wide:
    double* data  # (m, stride), zeros beyond m
    Py_ssize_t width, stride
    int level


cdef Wide wide(Py_ssize_t m, int level) except *:
    """A matrix for `solve_wide`, to be freed."""
    cdef Wide x
    cdef Py_ssize_t panel = panel_width_double[level]()
    x.level, x.width = level, (m + panel - 1) // panel * panel
    x.stride = x.width + 8  # rows a power of two apart would share cache lines
    x.data = <double*> calloc(m * x.stride, sizeof(double))
    if x.data == NULL:
        raise MemoryError()
    return x


# One block; all matrices M x M and along rows, x and y M x K


cdef void add_product(bint transposed, double alpha, const double* a, const double* x,
                      double beta, double* y, int m, int k) noexcept nogil:
    """y = beta y + alpha A x, or with A'."""
    cdef int one = 1
    if k == 1:
        dgemv("N" if transposed else "T", &m, &m, &alpha, <double*> a, &m, <double*> x, &one,
              &beta, y, &one)
    else:
        dgemm("N", "T" if transposed else "N", &k, &m, &m, &alpha, <double*> x, &k, <double*> a, &m,
              &beta, y, &k)


cdef void solve_left(bint transposed, const double* c, double* x, int m, int k) noexcept nogil:
    """x = C^-1 x, or with C'."""
    cdef int one = 1
    cdef double alpha = 1
    if k == 1:
        dtrsv("U", "N" if transposed else "T", "N", &m, <double*> c, &m, x, &one)
    else:
        dtrsm("R", "U", "T" if transposed else "N", "N", &k, &m, &alpha, <double*> c, &m, x, &k)


cdef void solve_wide(bint transposed, const double* c, Wide x, int m) noexcept nogil:
    """x = C^-1 x, or with C'; x (M, M)."""
    cdef int stride = x.stride
    cdef double alpha = 1
    if m <= SMALL:
        left_solve_double[x.level](transposed, m, x.width, c, x.data, stride)
    else:
        dtrsm("R", "U", "T" if transposed else "N", "N", &m, &m, &alpha, <double*> c, &m, x.data,
              &stride)


cdef void transpose(double alpha, const double* a, Py_ssize_t step_a, double* out,
                    Py_ssize_t step_out, Py_ssize_t m) noexcept nogil:
    """out = alpha A', of rows that are so far apart."""
    cdef Py_ssize_t r, c
    for r in range(m):
        for c in range(m):
            out[r * step_out + c] = alpha * a[c * step_a + r]


cdef void solve_right(bint transposed, const double* c, double* x, int m, Wide work) noexcept nogil:
    """x = x C^-1, or with C'; x (M, M)."""
    transpose(1, x, m, work.data, work.stride, m)
    solve_wide(not transposed, c, work, m)
    transpose(1, work.data, work.stride, x, m, m)


cdef void mirror(double* a, Py_ssize_t m) noexcept nogil:
    """The lower triangle to the upper one."""
    cdef Py_ssize_t r, c
    for r in range(m):
        for c in range(r):
            a[c * m + r] = a[r * m + c]


cdef void symmetric_part(const double* a, double* out, Py_ssize_t m) noexcept nogil:
    """The lower triangle of (A + A') / 2, zeros above."""
    cdef Py_ssize_t r, c
    for r in range(m):
        for c in range(r + 1):
            out[r * m + c] = 0.5 * (a[r * m + c] + a[c * m + r])
        for c in range(r + 1, m):
            out[r * m + c] = 0


cdef bint factorize_block(double* c, int m) noexcept nogil:
    """Cholesky; False where a pivot is negative, NaN, or so small or large that 1 / pivot is not a
    normal number."""
    cdef int info
    cdef Py_ssize_t r
    dpotrf("U", &m, c, &m, &info)
    if info != 0:
        return False
    for r in range(m):
        if not sqrt(DBL_MIN) <= c[r * m + r] <= sqrt(DBL_MAX):
            return False
    return True


cdef void between(const double* c, double* s, int m, Wide work) noexcept nogil:
    """s = C'^-1 s C^-1, s symmetric."""
    cdef Py_ssize_t i, j, step = work.stride
    cdef double* x = work.data
    for i in range(m):
        memcpy(x + i * step, s + i * m, m * sizeof(double))
    solve_wide(True, c, work, m)
    for i in range(m):
        for j in range(i):
            x[i * step + j], x[j * step + i] = x[j * step + i], x[i * step + j]
    solve_wide(True, c, work, m)
    for i in range(m):
        memcpy(s + i * m, x + i * step, m * sizeof(double))
    mirror(s, m)


cdef void invert_block(const double* c, double* q, int m, Wide work) noexcept nogil:
    """q = (C C')^-1."""
    identity(q, m)
    between(c, q, m, work)


cdef void identity(double* a, Py_ssize_t m) noexcept nogil:
    cdef Py_ssize_t r
    memset(a, 0, m * m * sizeof(double))
    for r in range(m):
        a[r * m + r] = 1


# Kernels


def factorize(Py_ssize_t start, Py_ssize_t stop, const double[:, :, :, ::1] diagonal,
              const double[:, :, :, ::1] lower, double[:, :, :, ::1] C, double[:, :, :, ::1] B,
              long long[::1] failed, int level=best_level()):
    """C_i C_i' = D_i - B_{i-1} B_{i-1}', B_i = lower_i C_i^-T.

    failed[n]: the first block of item n that is not positive definite; the rest of the item then
    stays undefined.
    """
    cdef int m = diagonal.shape[2]
    cdef Py_ssize_t n, i
    cdef double minus = -1, one = 1
    cdef Wide work = wide(m, level)
    with nogil:
        for n in range(start, stop):
            for i in range(diagonal.shape[1]):
                symmetric_part(&diagonal[n, i, 0, 0], &C[n, i, 0, 0], m)
                if i > 0:
                    transpose(1, &lower[n, i - 1, 0, 0], m, work.data, work.stride, m)
                    solve_wide(False, &C[n, i - 1, 0, 0], work, m)
                    transpose(1, work.data, work.stride, &B[n, i - 1, 0, 0], m, m)
                    dsyrk("U", "T", &m, &m, &minus, &B[n, i - 1, 0, 0], &m, &one, &C[n, i, 0, 0],
                          &m)
                if not factorize_block(&C[n, i, 0, 0], m):
                    failed[n] = i
                    break
    free(work.data)


def substitute(Py_ssize_t start, Py_ssize_t stop, const double[:, :, :, ::1] C,
               const double[:, :, :, ::1] B, double[:, :, :, ::1] x):
    """x <- C^-1 x."""
    cdef int m = C.shape[2], k = x.shape[3]
    cdef Py_ssize_t n, i
    with nogil:
        for n in range(start, stop):
            for i in range(C.shape[1]):
                if i > 0:
                    add_product(False, -1, &B[n, i - 1, 0, 0], &x[n, i - 1, 0, 0], 1,
                                &x[n, i, 0, 0], m, k)
                solve_left(False, &C[n, i, 0, 0], &x[n, i, 0, 0], m, k)


def back_substitute(Py_ssize_t start, Py_ssize_t stop, const double[:, :, :, ::1] C,
                    const double[:, :, :, ::1] B, double[:, :, :, ::1] x):
    """x <- C^-T x."""
    cdef int m = C.shape[2], k = x.shape[3]
    cdef Py_ssize_t n, i, last = C.shape[1] - 1
    with nogil:
        for n in range(start, stop):
            for i in range(last, -1, -1):
                if i < last:
                    add_product(True, -1, &B[n, i, 0, 0], &x[n, i + 1, 0, 0], 1, &x[n, i, 0, 0],
                                m, k)
                solve_left(True, &C[n, i, 0, 0], &x[n, i, 0, 0], m, k)


def multiply(Py_ssize_t start, Py_ssize_t stop, const double[:, :, :, ::1] diagonal,
             const double[:, :, :, ::1] lower, const double[:, :, :, ::1] x,
             double[:, :, :, ::1] y):
    """y_i = D_i x_i + lower_{i-1} x_{i-1} + lower_i' x_{i+1}."""
    cdef int m = diagonal.shape[2], k = x.shape[3]
    cdef Py_ssize_t n, i, last = diagonal.shape[1] - 1
    with nogil:
        for n in range(start, stop):
            for i in range(last + 1):
                add_product(False, 1, &diagonal[n, i, 0, 0], &x[n, i, 0, 0], 0, &y[n, i, 0, 0],
                            m, k)
                if i > 0:
                    add_product(False, 1, &lower[n, i - 1, 0, 0], &x[n, i - 1, 0, 0], 1,
                                &y[n, i, 0, 0], m, k)
                if i < last:
                    add_product(True, 1, &lower[n, i, 0, 0], &x[n, i + 1, 0, 0], 1, &y[n, i, 0, 0],
                                m, k)


def inverse_blocks(Py_ssize_t start, Py_ssize_t stop, const double[:, :, :, ::1] C,
                   const double[:, :, :, ::1] B, double[:, :, :, ::1] S,
                   double[:, :, :, ::1] S_lower, int level=best_level()):
    """From the last block up, with W_i = S_{i+1} B_i (0 at the last)::

        S_lower_i = -W_i C_i^-1        S_i = C_i'^-1 (I + B_i' W_i) C_i^-1
    """
    cdef int m = C.shape[2], stride
    cdef Py_ssize_t n, i, last = C.shape[1] - 1
    cdef double one = 1, zero = 0
    cdef double *s
    cdef double *b
    cdef Wide work = wide(m, level)
    stride = work.stride
    with nogil:
        for n in range(start, stop):
            for i in range(last, -1, -1):
                s = &S[n, i, 0, 0]
                identity(s, m)
                if i < last:
                    b = <double*> &B[n, i, 0, 0]
                    dgemm("N", "T", &m, &m, &m, &one, &S[n, i + 1, 0, 0], &m, b, &m, &zero,
                          work.data, &stride)  # W'
                    dgemm("N", "N", &m, &m, &m, &one, b, &m, work.data, &stride, &one, s, &m)
                    solve_wide(True, &C[n, i, 0, 0], work, m)
                    transpose(-1, work.data, stride, &S_lower[n, i, 0, 0], m, m)
                between(&C[n, i, 0, 0], s, m, work)
    free(work.data)


def inverse_blocks_derivative(Py_ssize_t start, Py_ssize_t stop, const double[:, :, :, ::1] C,
                              const double[:, :, :, ::1] B, const double[:, :, :, ::1] S,
                              const double[:, :, :, ::1] G, const double[:, :, :, ::1] H,
                              double[:, :, :, ::1] dS, double[:, :, :, ::1] dS_lower,
                              int level=best_level()):
    """Blocks of -S Gamma S, Gamma symmetric with blocks (G_i + G_i') / 2 and H_i: the derivative of
    the blocks of S along Gamma.

    Down, the derivatives of the pivots P_i = C_i C_i' (kept in dS) and of X_i (in dS_lower)::

        dX_i = (H_i - X_i dP_i) Q_i
        dP_{i+1} = G_{i+1} - Y_i X_i' - X_i Y_i',       Y_i = H_i - X_i dP_i / 2

    and up::

        dS_lower_i = -S_{i+1} dX_i - dS_{i+1} X_i
        dS_i = -Q_i dP_i Q_i + V_i' X_i + X_i' V_i,     V_i = S_{i+1} dX_i + dS_{i+1} X_i / 2
    """
    cdef Py_ssize_t n, size = C.shape[2] * C.shape[2]
    cdef Wide work = wide(C.shape[2], level)
    cdef double* x = <double*> malloc(3 * size * sizeof(double))
    if x == NULL:
        free(work.data)
        raise MemoryError()
    with nogil:
        for n in range(start, stop):
            pivots_derivative(n, C, B, G, H, x, x + size, work, dS, dS_lower)
            blocks_derivative(n, C, B, S, x, x + size, x + 2 * size, work, dS, dS_lower)
    free(x)
    free(work.data)


cdef void pivots_derivative(Py_ssize_t n, const double[:, :, :, ::1] C,
                            const double[:, :, :, ::1] B, const double[:, :, :, ::1] G,
                            const double[:, :, :, ::1] H, double* X, double* Y, Wide work,
                            double[:, :, :, ::1] dP, double[:, :, :, ::1] dX) noexcept nogil:
    cdef int m = C.shape[2]
    cdef Py_ssize_t i, e, last = C.shape[1] - 1
    cdef double minus = -1, one = 1
    cdef const double* h
    cdef double* dx
    for i in range(last + 1):
        symmetric_part(&G[n, i, 0, 0], &dP[n, i, 0, 0], m)
        if i > 0:
            dsyr2k("U", "T", &m, &m, &minus, Y, &m, X, &m, &one, &dP[n, i, 0, 0], &m)
        mirror(&dP[n, i, 0, 0], m)
        if i < last:
            h = &H[n, i, 0, 0]
            dx = &dX[n, i, 0, 0]
            memcpy(X, &B[n, i, 0, 0], m * m * sizeof(double))
            solve_right(False, &C[n, i, 0, 0], X, m, work)
            add_product(False, -1, X, &dP[n, i, 0, 0], 0, dx, m, m)
            for e in range(m * m):
                Y[e] = h[e] + 0.5 * dx[e]
                dx[e] += h[e]
            solve_right(True, &C[n, i, 0, 0], dx, m, work)
            solve_right(False, &C[n, i, 0, 0], dx, m, work)


cdef void blocks_derivative(Py_ssize_t n, const double[:, :, :, ::1] C,
                            const double[:, :, :, ::1] B, const double[:, :, :, ::1] S,
                            double* X, double* Q, double* V, Wide work,
                            double[:, :, :, ::1] dS,
                            double[:, :, :, ::1] dS_lower) noexcept nogil:
    cdef int m = C.shape[2]
    cdef Py_ssize_t i, e, last = C.shape[1] - 1
    cdef double one = 1, product
    cdef double* ds
    cdef double* below
    for i in range(last, -1, -1):
        ds = &dS[n, i, 0, 0]
        invert_block(&C[n, i, 0, 0], Q, m, work)
        add_product(False, -1, ds, Q, 0, X, m, m)
        add_product(False, 1, Q, X, 0, ds, m, m)  # -Q dP Q
        if i < last:
            below = &dS_lower[n, i, 0, 0]
            memcpy(X, &B[n, i, 0, 0], m * m * sizeof(double))
            solve_right(False, &C[n, i, 0, 0], X, m, work)
            add_product(False, 1, &S[n, i + 1, 0, 0], below, 0, V, m, m)  # S dX
            add_product(False, 1, &dS[n, i + 1, 0, 0], X, 0, below, m, m)  # dS X
            for e in range(m * m):
                product = below[e]
                below[e] = -V[e] - product
                V[e] += 0.5 * product
            dsyr2k("U", "N", &m, &m, &one, V, &m, X, &m, &one, ds, &m)
        mirror(ds, m)

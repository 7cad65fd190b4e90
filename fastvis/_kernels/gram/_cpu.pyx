"""The BLAS-shaped work of the Gram model: serial, without the GIL.

Complex arrays come as their real views (last axis twice as long). Shapes are those of `strips`:
K frequencies along a row of the image, R rows, N feature maps, n maps of one filter size f with
q = f C numbers each (filter rows times channels).

BLAS is column-major: a row-major (P, N) array is its (N, P) matrix.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from scipy.linalg.cython_blas cimport cgemm, dgemm, dsyrk, sgemm, ssyrk, zgemm

ctypedef fused real:
    float
    double


cdef void cx_gemm(char* ta, int m, int n, int k, real* a, int lda, real* b, int ldb,
                  real beta, real* c, int ldc) noexcept nogil:
    """C = op(A) B + beta C, complex."""
    cdef float complex one_c = 1, beta_c = <float complex> beta
    cdef double complex one_z = 1, beta_z = <double complex> beta
    if real is float:
        cgemm(ta, "N", &m, &n, &k, &one_c, <float complex*> a, &lda, <float complex*> b, &ldb,
              &beta_c, <float complex*> c, &ldc)
    else:
        zgemm(ta, "N", &m, &n, &k, &one_z, <double complex*> a, &lda, <double complex*> b, &ldb,
              &beta_z, <double complex*> c, &ldc)


cdef void gemm(char* tb, int m, int n, int k, real alpha, const real* a, int lda, const real* b,
               int ldb, real beta, real* c, int ldc) noexcept nogil:
    """C = alpha A op(B) + beta C."""
    if real is float:
        sgemm("N", tb, &m, &n, &k, &alpha, <real*> a, &lda, <real*> b, &ldb, &beta, c, &ldc)
    else:
        dgemm("N", tb, &m, &n, &k, &alpha, <real*> a, &lda, <real*> b, &ldb, &beta, c, &ldc)


cdef void syrk(int n, int k, real alpha, const real* a, int lda, real beta, real* c,
               int ldc) noexcept nogil:
    """Lower triangle of C = alpha A A' + beta C."""
    if real is float:
        ssyrk("L", "N", &n, &k, &alpha, <real*> a, &lda, &beta, c, &ldc)
    else:
        dsyrk("L", "N", &n, &k, &alpha, <real*> a, &lda, &beta, c, &ldc)


def correlate(const real[:, :, ::1] x_hat, const real[:, ::1] w_hat, Py_ssize_t first_row,
              real[:, :, ::1] y_hat):
    """y_hat[k, r, n] = sum_q conj(w_hat[k, n, q]) x_hat[k, first_row + r + q] for one filter size.

    x_hat (K, rows, 2 C): transform of the padded image, read on from row to row; w_hat
    (K, 2 n q), a part of a larger array; y_hat (K, R, 2 n).
    """
    cdef Py_ssize_t n_rows = y_hat.shape[1], n = y_hat.shape[2] // 2
    cdef Py_ssize_t q = w_hat.shape[1] // (2 * n), k, r
    cdef real* window = <real*> malloc(2 * n_rows * q * sizeof(real))
    if window == NULL:
        raise MemoryError()
    with nogil:
        for k in range(y_hat.shape[0]):
            for r in range(n_rows):
                memcpy(window + 2 * r * q, &x_hat[k, first_row + r, 0], 2 * q * sizeof(real))
            cx_gemm("C", <int> n, <int> n_rows, <int> q, <real*> &w_hat[k, 0], <int> q, window,
                    <int> q, <real> 0, &y_hat[k, 0, 0], <int> n)
    free(window)


def correlate_adjoint(const real[:, :, ::1] y_hat, const real[:, ::1] w_hat,
                      real[:, :, ::1] dx_hat):
    """dx_hat[k, r + q] = sum_n w_hat[k, n, q] y_hat[k, r, n] for one filter size.

    dx_hat (K, R + f - 1, 2 C), where q = f C numbers are read on from row to row.
    """
    cdef Py_ssize_t n_rows = y_hat.shape[1], n = y_hat.shape[2] // 2
    cdef Py_ssize_t q = w_hat.shape[1] // (2 * n), k, r, i
    cdef real* target
    cdef real* source
    cdef real* window = <real*> malloc(2 * n_rows * q * sizeof(real))
    if window == NULL:
        raise MemoryError()
    with nogil:
        memset(&dx_hat[0, 0, 0], 0, dx_hat.shape[0] * dx_hat.shape[1] * dx_hat.shape[2] * sizeof(real))
        for k in range(y_hat.shape[0]):
            cx_gemm("N", <int> q, <int> n_rows, <int> n, <real*> &w_hat[k, 0], <int> q,
                    <real*> &y_hat[k, 0, 0], <int> n, <real> 0, window, <int> q)
            for r in range(n_rows):
                target = &dx_hat[k, r, 0]
                source = window + 2 * r * q
                for i in range(2 * q):
                    target[i] += source[i]
    free(window)


def accumulate_gram(Py_ssize_t start, Py_ssize_t stop, const real[:, ::1] F, real scale,
                    Py_ssize_t n_panels, real[:, :, ::1] partial):
    """partial[l, i, j] += scale sum_m F[m, i] F[m, j], j >= i; F (M, N), partial (L, N, N).

    Item t of the range is lane l = t // n_panels of the pixels (M is cut into L lanes, each with
    a sum of its own) and panel t % n_panels of the maps i.
    """
    cdef Py_ssize_t n_lanes = partial.shape[0], n = F.shape[1], t, m0, m1, i0, i1
    cdef int n_maps = <int> n, n_pixels, width, rest
    with nogil:
        for t in range(start, stop):
            m0 = (t // n_panels) * F.shape[0] // n_lanes
            m1 = (t // n_panels + 1) * F.shape[0] // n_lanes
            i0 = (t % n_panels) * n // n_panels
            i1 = (t % n_panels + 1) * n // n_panels
            if m0 == m1 or i0 == i1:
                continue
            n_pixels, width, rest = <int> (m1 - m0), <int> (i1 - i0), <int> (n - i1)
            syrk(width, n_pixels, scale, &F[m0, i0], n_maps, <real> 1,
                 &partial[t // n_panels, i0, i0], n_maps)
            if rest > 0:
                gemm("T", rest, width, n_pixels, scale, &F[m0, i1], n_maps, &F[m0, i0], n_maps,
                     <real> 1, &partial[t // n_panels, i0, i1], n_maps)


def backpropagate(Py_ssize_t start, Py_ssize_t stop, const real[:, ::1] D, int nonlinearity,
                  real[:, ::1] F):
    """F[m] <- (D F[m]) phi'(F[m]) for pixels m in [start, stop); D (N, N) symmetric, F (M, N).

    nonlinearity: 0 linear, 1 relu, 2 sigmoid; phi' is written by the value of phi.
    """
    cdef int n_maps = <int> F.shape[1], n_pixels = <int> (stop - start)
    cdef Py_ssize_t i, n = <Py_ssize_t> n_maps * n_pixels
    cdef real* f = &F[start, 0]
    cdef real* d = <real*> malloc(n * sizeof(real))
    if d == NULL:
        raise MemoryError()
    with nogil:
        gemm("N", n_maps, n_pixels, n_maps, <real> 1, &D[0, 0], n_maps, f, n_maps, <real> 0, d,
             n_maps)
        # written to d, without a branch, so that the loops are vectorized
        if nonlinearity == 1:
            for i in range(n):
                d[i] = d[i] if f[i] > 0 else <real> 0
        elif nonlinearity == 2:
            for i in range(n):
                d[i] = d[i] * (f[i] * (1 - f[i]))
        memcpy(f, d, n * sizeof(real))
    free(d)

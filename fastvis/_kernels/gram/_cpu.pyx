"""The BLAS-shaped work of the Gram model: serial, without the GIL.

Complex arrays come as real and imaginary parts, apart. Shapes are those of `strips`: K frequencies
along a row of the image, R rows, N feature maps, n maps of one filter size f with q = f C numbers
each (filter rows times channels).

BLAS is column-major: a row-major (P, N) array is its (N, P) matrix.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from scipy.linalg.cython_blas cimport dgemm, dsyrk, sgemm, ssyrk

ctypedef fused real:
    float
    double


cdef void gemm(char* ta, char* tb, int m, int n, int k, real alpha, const real* a, int lda,
               const real* b, int ldb, real beta, real* c, int ldc) noexcept nogil:
    """C = alpha op(A) op(B) + beta C."""
    if real is float:
        sgemm(ta, tb, &m, &n, &k, &alpha, <real*> a, &lda, <real*> b, &ldb, &beta, c, &ldc)
    else:
        dgemm(ta, tb, &m, &n, &k, &alpha, <real*> a, &lda, <real*> b, &ldb, &beta, c, &ldc)


cdef void syrk(int n, int k, real alpha, const real* a, int lda, real beta, real* c,
               int ldc) noexcept nogil:
    """Lower triangle of C = alpha A A' + beta C."""
    if real is float:
        ssyrk("L", "N", &n, &k, &alpha, <real*> a, &lda, &beta, c, &ldc)
    else:
        dsyrk("L", "N", &n, &k, &alpha, <real*> a, &lda, &beta, c, &ldc)


def correlate(const real[:, :, :, ::1] x_hat, const real[:, :, ::1] w_hat, Py_ssize_t first_row,
              real[:, :, :, ::1] y_hat):
    """y_hat[k, r, n] = sum_q conj(w_hat[k, q, n]) x_hat[k, first_row + r + q] for one filter size.

    x_hat (K, 3, rows, C): real, imaginary, and negative real part of the padded image's transform,
    read on from row to row; w_hat (K, 2 q, n): real parts, then imaginary parts; y_hat (K, 2, R, n).

    One real product for each frequency, and no transposition: the fast path of BLAS.
    [Re y; Im y] = [[Re x, Im x]; [Im x, -Re x]] [Re w; Im w]
    """
    cdef Py_ssize_t n_rows = y_hat.shape[2], q = w_hat.shape[1] // 2, k, r
    cdef int n = <int> y_hat.shape[3], width = <int> (2 * q)
    cdef size_t n_bytes = q * sizeof(real)
    cdef real* window = <real*> malloc(4 * n_rows * n_bytes)
    cdef real* row
    if window == NULL:
        raise MemoryError()
    with nogil:
        for k in range(y_hat.shape[0]):
            for r in range(n_rows):
                row = window + r * width
                memcpy(row, &x_hat[k, 0, first_row + r, 0], n_bytes)
                memcpy(row + q, &x_hat[k, 1, first_row + r, 0], n_bytes)
                row = window + (n_rows + r) * width
                memcpy(row, &x_hat[k, 1, first_row + r, 0], n_bytes)
                memcpy(row + q, &x_hat[k, 2, first_row + r, 0], n_bytes)
            gemm("N", "N", n, <int> (2 * n_rows), width, <real> 1, &w_hat[k, 0, 0], n, window,
                 width, <real> 0, &y_hat[k, 0, 0, 0], n)
    free(window)


def correlate_adjoint(const real[:, :, :, ::1] y_hat, const real[:, :, ::1] w_hat,
                      real[:, :, :, ::1] dx_hat):
    """dx_hat[k, r + q] = sum_n w_hat[k, q, n] y_hat[k, r, n] for one filter size.

    dx_hat (K, 2, R + f - 1, C), where q = f C numbers are read on from row to row.
    """
    cdef Py_ssize_t n_rows = y_hat.shape[2], q = w_hat.shape[1] // 2, k, r, i
    cdef int n = <int> y_hat.shape[3], width = <int> (2 * q)
    cdef real* window = <real*> malloc(4 * n_rows * q * sizeof(real))
    cdef real* re
    cdef real* im
    cdef real* of_re
    cdef real* of_im
    if window == NULL:
        raise MemoryError()
    with nogil:
        memset(&dx_hat[0, 0, 0, 0], 0, dx_hat.shape[0] * 2 * dx_hat.shape[2] * dx_hat.shape[3]
               * sizeof(real))
        for k in range(y_hat.shape[0]):
            # rows of the window: Re w and Im w times Re y, then times Im y
            gemm("T", "N", width, <int> (2 * n_rows), n, <real> 1, &w_hat[k, 0, 0], n,
                 &y_hat[k, 0, 0, 0], n, <real> 0, window, width)
            for r in range(n_rows):
                re, im = &dx_hat[k, 0, r, 0], &dx_hat[k, 1, r, 0]
                of_re, of_im = window + r * width, window + (n_rows + r) * width
                for i in range(q):
                    re[i] += of_re[i] - of_im[q + i]
                for i in range(q):
                    im[i] += of_re[q + i] + of_im[i]
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
                gemm("N", "T", rest, width, n_pixels, scale, &F[m0, i1], n_maps, &F[m0, i0], n_maps,
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
        gemm("N", "N", n_maps, n_pixels, n_maps, <real> 1, &D[0, 0], n_maps, f, n_maps, <real> 0, d,
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

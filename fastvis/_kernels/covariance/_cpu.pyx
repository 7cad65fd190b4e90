"""Covariances and their derivatives: serial, without the GIL; see covariance.h."""

cdef extern from *:
    """
    #include "points.h"
    #define KERNEL "covariance.h"
    #define ONLY_DOUBLE
    #include "each_vector.h"
    #define COVARIANCES(REAL, name) \
        void name(const covariance *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const REAL *, \
                  const REAL *, REAL *, Py_ssize_t)
    #define COVARIANCES_VJP(REAL, name) \
        void name(const covariance *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const REAL *, \
                  const REAL *, const REAL *, Py_ssize_t, REAL *, REAL *, REAL *)
    LEVELS_OF(covariances, COVARIANCES, double)
    LEVELS_OF(covariances_vjp, COVARIANCES_VJP, double)
    enum { block_size = BLOCK, most_ops = MOST_OPS };
    """
    const int block_size
    const int most_ops
    ctypedef struct covariance:
        Py_ssize_t n_inputs, n_leaves, n_ops
        const long long *kinds
        const long long *ops
        const double *parameters
    int best_level() noexcept nogil
    Py_ssize_t count_features(const covariance *) noexcept nogil
    void features_from(const covariance *, Py_ssize_t, const double *, const double *, double *,
                       Py_ssize_t, Py_ssize_t) noexcept nogil
    void features_vjp_ "features_vjp"(const covariance *, Py_ssize_t, const double *,
                                      const double *, const double *, const double *, Py_ssize_t,
                                      Py_ssize_t, double *, double *) noexcept nogil
    void diagonal_of(const covariance *, Py_ssize_t, const double *, double *) noexcept nogil
    void diagonal_vjp_ "diagonal_vjp"(const covariance *, Py_ssize_t, const double *,
                                      const double *, double *, double *) noexcept nogil
    void (*covariances_double[3])(const covariance *, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                  const double *, const double *, double *,
                                  Py_ssize_t) noexcept nogil
    void (*covariances_vjp_double[3])(const covariance *, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                      const double *, const double *, const double *, Py_ssize_t,
                                      double *, double *, double *) noexcept nogil

BLOCK = block_size
MOST_OPS = most_ops
BEST_LEVEL = best_level()


cdef covariance pack(const long long[::1] kinds, const long long[::1] ops,
                     const double[:, ::1] parameters) noexcept nogil:
    cdef covariance k
    k.n_inputs = (parameters.shape[1] - 1) // 2
    k.n_leaves, k.n_ops = kinds.shape[0], ops.shape[0]
    k.kinds, k.ops, k.parameters = &kinds[0], &ops[0], &parameters[0, 0]
    return k


def n_features(const long long[::1] kinds, const long long[::1] ops,
               const double[:, ::1] parameters):
    """How many features a point has."""
    cdef covariance k = pack(kinds, ops, parameters)
    return count_features(&k)


def features(const long long[::1] kinds, const long long[::1] ops, const double[:, ::1] parameters,
             const double[:, ::1] x, double[:, ::1] out, bint transposed,
             const double[::1] center=None):
    """Features of points x (n, D): (n, F), or transposed (F, n_padded)."""
    cdef covariance k = pack(kinds, ops, parameters)
    cdef const double *zero = NULL if center is None else &center[0]
    if x.shape[0] == 0 or out.shape[0] == 0 or out.shape[1] == 0:
        return
    with nogil:
        if transposed:
            features_from(&k, x.shape[0], &x[0, 0], zero, &out[0, 0], 1, out.shape[1])
        else:
            features_from(&k, x.shape[0], &x[0, 0], zero, &out[0, 0], out.shape[1], 1)


def features_vjp(const long long[::1] kinds, const long long[::1] ops,
                 const double[:, ::1] parameters, const double[:, ::1] x, const double[::1] center,
                 const double[:, ::1] phi, const double[:, ::1] d_phi, bint transposed,
                 double[:, ::1] dx, double[:, ::1] d_parameters):
    """Add to dx (n, D) and d_parameters what gradients by features are by them."""
    cdef covariance k = pack(kinds, ops, parameters)
    cdef Py_ssize_t step_i = 1 if transposed else phi.shape[1]
    cdef Py_ssize_t step_f = phi.shape[1] if transposed else 1
    if x.shape[0] == 0 or phi.shape[0] == 0 or phi.shape[1] == 0:
        return
    with nogil:
        features_vjp_(&k, x.shape[0], &x[0, 0], &center[0], &phi[0, 0], &d_phi[0, 0], step_i,
                      step_f, &dx[0, 0], &d_parameters[0, 0])


def diagonal(const long long[::1] kinds, const long long[::1] ops, const double[:, ::1] parameters,
             const double[:, ::1] x, double[::1] out):
    """k(x, x) of points (n, D)."""
    cdef covariance k = pack(kinds, ops, parameters)
    with nogil:
        diagonal_of(&k, x.shape[0], &x[0, 0], &out[0])


def diagonal_vjp(const long long[::1] kinds, const long long[::1] ops,
                 const double[:, ::1] parameters, const double[:, ::1] x,
                 const double[::1] gradient, double[:, ::1] dx, double[:, ::1] d_parameters):
    """Add to dx (n, D) and d_parameters what the gradient by the diagonal is by them."""
    cdef covariance k = pack(kinds, ops, parameters)
    with nogil:
        diagonal_vjp_(&k, x.shape[0], &x[0, 0], &gradient[0], &dx[0, 0], &d_parameters[0, 0])


def matrix(Py_ssize_t start, Py_ssize_t stop, const long long[::1] kinds,
           const long long[::1] ops, const double[:, ::1] parameters, const double[:, :, ::1] x,
           const double[:, :, ::1] z, double[:, :, ::1] out, int level=best_level()):
    """Rows [start, stop) of all batches' out (B, n, m), of features x (B, n, F) and z (B or 1, F,
    m_padded)."""
    cdef covariance k = pack(kinds, ops, parameters)
    cdef Py_ssize_t n = out.shape[1], m = out.shape[2], b, i, end
    with nogil:
        while start < stop:
            b, i = start // n, start % n
            end = min(n, i + stop - start)
            covariances_double[level](
                &k, end - i, m, z.shape[2], &x[b, i, 0], &z[b if z.shape[0] > 1 else 0, 0, 0],
                &out[b, i, 0], m,
            )
            start += end - i


def half_matrix(Py_ssize_t start, Py_ssize_t stop, const long long[::1] kinds,
                const long long[::1] ops, const double[:, ::1] parameters,
                const double[:, :, ::1] x, const double[:, :, ::1] z, double[:, :, ::1] out,
                int level=best_level()):
    """Of symmetric matrices out (B, n, n): panels [start, stop) of BLOCK rows, from the diagonal
    on, and what mirrors them. Features as in `matrix`, of the same points."""
    cdef covariance k = pack(kinds, ops, parameters)
    cdef Py_ssize_t n = out.shape[1], n_panels = (n + block_size - 1) // block_size
    cdef Py_ssize_t b, i, j, first, end, group, t
    with nogil:
        for t in range(start, stop):
            b, first = t // n_panels, t % n_panels * block_size
            end = min(n, first + block_size)
            covariances_double[level](&k, end - first, n - first, z.shape[2], &x[b, first, 0],
                                      &z[b, 0, first], &out[b, first, first], n)
            for group in range(first, n, 8):  # of a cache line
                for i in range(first, end):
                    for j in range(max(group, i + 1), min(n, group + 8)):
                        out[b, j, i] = out[b, i, j]


def matrix_vjp(Py_ssize_t start, Py_ssize_t stop, const long long[::1] kinds,
               const long long[::1] ops, const double[:, ::1] parameters,
               const double[:, :, ::1] x, const double[:, :, ::1] z,
               const double[:, :, ::1] gradient, double[:, :, ::1] dx, double[:, :, :, ::1] dz,
               double[:, :, :, ::1] d_parameters, int level=best_level()):
    """Pieces [start, stop), n_pieces of each batch: adds to dx (B, n, F), and to its own dz (B,
    n_pieces, F, m_padded) and d_parameters (B, n_pieces, ...)."""
    cdef covariance k = pack(kinds, ops, parameters)
    cdef Py_ssize_t n = gradient.shape[1], m = gradient.shape[2], n_pieces = dz.shape[1]
    cdef Py_ssize_t b, p, i, end, t
    with nogil:
        for t in range(start, stop):
            b, p = t // n_pieces, t % n_pieces
            i, end = n * p // n_pieces, n * (p + 1) // n_pieces
            if i == end:
                continue
            covariances_vjp_double[level](
                &k, end - i, m, z.shape[2], &x[b, i, 0], &z[b if z.shape[0] > 1 else 0, 0, 0],
                &gradient[b, i, 0], m, &dx[b, i, 0], &dz[b, p, 0, 0], &d_parameters[b, p, 0, 0],
            )

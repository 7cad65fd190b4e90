"""Paths of points through the layers of a deep Gaussian process, and back: serial, without the GIL.

A panel of paths goes through all layers, meets its observations, and goes back while all that it
left behind is in the cache. Matrices of a panel are (paths, M): to BLAS, which counts columns
first, a path is a column. Symbols are those of `reference.py`.
"""

from libc.math cimport sqrt
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from scipy.linalg.cython_blas cimport dgemm, dtrmm, dtrsm

cdef extern from *:
    """
    #include "covariance/points.h"
    #include "likelihood.h"
    #define KERNEL "covariance/covariance.h"
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
    """
    ctypedef struct covariance:
        Py_ssize_t n_inputs, n_leaves, n_ops
        const long long *kinds
        const long long *ops
        const double *parameters
    int best_level() noexcept nogil
    Py_ssize_t count_features(const covariance *) noexcept nogil
    void features_of(const covariance *, Py_ssize_t, const double *, double *, Py_ssize_t,
                     Py_ssize_t) noexcept nogil
    void features_vjp(const covariance *, Py_ssize_t, const double *, const double *,
                      const double *, const double *, Py_ssize_t, Py_ssize_t, double *,
                      double *) noexcept nogil
    void diagonal_of(const covariance *, Py_ssize_t, const double *, double *) noexcept nogil
    void diagonal_vjp(const covariance *, Py_ssize_t, const double *, const double *, double *,
                      double *) noexcept nogil
    void (*covariances_double[3])(const covariance *, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                  const double *, const double *, double *,
                                  Py_ssize_t) noexcept nogil
    void (*covariances_vjp_double[3])(const covariance *, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                      const double *, const double *, const double *, Py_ssize_t,
                                      double *, double *, double *) noexcept nogil
    double expected_log_density(int, const double *, int, const double *, const double *, double,
                                double, double, double *, double *, double *) noexcept nogil

cdef enum:
    PATHS = 128  # of a panel
    MOST_LAYERS = 16
    MOST_ROWS = 64

LAYERS, ROWS = MOST_LAYERS, MOST_ROWS
LEAST_VARIANCE = 1e-14  # of a value of a path, in units of its prior variance
cdef double least_variance = LEAST_VARIANCE

cdef struct Layer:
    covariance k
    Py_ssize_t n_inputs, n_outputs, m, m_padded, n_features
    Py_ssize_t first  # of its rows: outputs, counted over all layers
    # where in theta, and in its gradient
    Py_ssize_t parameters, z, lz, n, factor, slope
    # what a panel leaves behind
    double *x
    double *phi
    double *b
    double *prior
    double *c
    double *d_b

cdef struct Pair:  # of rows r > s that are coupled
    Py_ssize_t r, s, block  # where in theta S_rs is
    double *w

cdef struct Network:
    int level
    Py_ssize_t n_layers, n_rows, n_pairs, widest  # M, features or inputs of a layer
    Layer layers[MOST_LAYERS]
    Pair *pairs
    Py_ssize_t layer_of[MOST_ROWS]
    const double *theta
    double *gradient
    double *memory
    double *g[MOST_ROWS]  # (paths, M)
    double *mean  # (n_rows, PATHS), as what follows
    double *f
    double *d_f
    double *xi
    double *big_b  # (n_rows, n_rows, PATHS), as what follows
    double *r
    double *d_r
    double *d_big_b
    double *work[3]
    double *d_inputs  # of a layer but the first


cdef double *take(double **memory, Py_ssize_t size) noexcept nogil:
    cdef double *start = memory[0]
    memory[0] += (size + 7) // 8 * 8
    return start


cdef Py_ssize_t share(Network *net, double *memory) noexcept nogil:
    """Give each array its place in the memory; how much of it is needed."""
    cdef double *end = memory
    cdef Py_ssize_t square = net.n_rows * net.n_rows * PATHS, i
    cdef Layer *layer
    for i in range(net.n_layers):
        layer = &net.layers[i]
        layer.x = take(&end, PATHS * layer.n_inputs)
        layer.phi = take(&end, PATHS * layer.n_features)
        layer.b, layer.d_b = take(&end, PATHS * layer.m), take(&end, PATHS * layer.m)
        layer.prior, layer.c = take(&end, PATHS), take(&end, PATHS)
    for i in range(net.n_rows):
        net.g[i] = take(&end, PATHS * net.layers[net.layer_of[i]].m)
    for i in range(net.n_pairs):
        net.pairs[i].w = take(&end, PATHS * net.layers[net.layer_of[net.pairs[i].r]].m)
    net.mean, net.f = take(&end, net.n_rows * PATHS), take(&end, net.n_rows * PATHS)
    net.d_f, net.xi = take(&end, net.n_rows * PATHS), take(&end, net.n_rows * PATHS)
    net.big_b, net.r = take(&end, square), take(&end, square)
    net.d_r, net.d_big_b = take(&end, square), take(&end, square)
    for i in range(3):
        net.work[i] = take(&end, PATHS * net.widest)
    net.d_inputs = take(&end, PATHS * net.widest)
    return end - memory


cdef Network *make(const long long[:, ::1] layers, const long long[:, ::1] pairs,
                   const long long[::1] kinds, const long long[::1] ops, int level):
    """A network and its memory, from tables as `paths.Plan` makes them."""
    cdef Network *net = <Network *> calloc(1, sizeof(Network))
    cdef Py_ssize_t i, d, kind = 0, op = 0
    cdef Layer *layer
    if net == NULL:
        raise MemoryError
    net.level, net.n_layers, net.n_pairs = level, layers.shape[0], pairs.shape[0]
    for i in range(net.n_layers):
        layer = &net.layers[i]
        layer.n_inputs, layer.n_outputs, layer.m = layers[i, 0], layers[i, 1], layers[i, 2]
        layer.m_padded, layer.k.n_leaves, layer.k.n_ops = layers[i, 3], layers[i, 4], layers[i, 5]
        layer.k.n_inputs, layer.k.kinds, layer.k.ops = layer.n_inputs, &kinds[kind], &ops[op]
        layer.parameters, layer.z, layer.lz = layers[i, 6], layers[i, 7], layers[i, 8]
        layer.n, layer.factor, layer.slope = layers[i, 9], layers[i, 10], layers[i, 11]
        layer.n_features = count_features(&layer.k)
        layer.first = net.n_rows
        for d in range(layer.n_outputs):
            net.layer_of[net.n_rows] = i
            net.n_rows += 1
        kind, op = kind + layer.k.n_leaves, op + layer.k.n_ops
        net.widest = max(net.widest, layer.m, layer.n_features, layer.n_inputs)
    net.pairs = <Pair *> malloc(max(net.n_pairs, 1) * sizeof(Pair))
    if net.pairs != NULL:
        for i in range(net.n_pairs):
            net.pairs[i].r, net.pairs[i].s = pairs[i, 0], pairs[i, 1]
            net.pairs[i].block = pairs[i, 2]
        net.memory = <double *> malloc((share(net, NULL) + 8) * sizeof(double))
    if net.pairs == NULL or net.memory == NULL:
        discard(net)
        raise MemoryError
    share(net, net.memory)
    return net


cdef void discard(Network *net) noexcept nogil:
    free(net.pairs)
    free(net.memory)
    free(net)


cdef inline double dot(Py_ssize_t n, const double *a, const double *b) noexcept nogil:
    cdef double s0 = 0, s1 = 0, s2 = 0, s3 = 0
    cdef Py_ssize_t i, whole = n // 4 * 4
    for i in range(0, whole, 4):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
    for i in range(whole, n):
        s0 += a[i] * b[i]
    return (s0 + s1) + (s2 + s3)


cdef inline void add_scaled(Py_ssize_t n, double scale, const double *a, double *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] += scale * a[i]


cdef void gemm(char *ta, char *tb, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, double alpha,
               const double *a, Py_ssize_t lda, const double *b, Py_ssize_t ldb, double beta,
               double *c, Py_ssize_t ldc) noexcept nogil:
    cdef int mm = m, nn = n, kk = k, la = lda, lb = ldb, lc = ldc
    dgemm(ta, tb, &mm, &nn, &kk, &alpha, <double *> a, &la, <double *> b, &lb, &beta, c, &lc)


cdef void triangular(bint solve, char *transposed, Py_ssize_t m, Py_ssize_t n, const double *a,
                     double *b) noexcept nogil:
    """b (n, m) times, or divided by, a triangle that is lower in C's order; ``b"N"``: its transpose."""
    cdef int mm = m, nn = n
    cdef double one = 1
    if solve:
        dtrsm(b"L", b"U", transposed, b"N", &mm, &nn, &one, <double *> a, &mm, b, &mm)
    else:
        dtrmm(b"L", b"U", transposed, b"N", &mm, &nn, &one, <double *> a, &mm, b, &mm)


# Forward


cdef void layer_forward(Network *net, Py_ssize_t l, Py_ssize_t p) noexcept nogil:
    """b = Lz^-1 k(z, x), c = k(x, x) - |b|^2, prior and conditional means of the layer's rows, and
    covariances B with all rows before."""
    cdef Layer *layer = &net.layers[l]
    cdef Py_ssize_t m = layer.m, i, d, e, row
    cdef const double *theta = net.theta
    cdef double mean
    layer.k.parameters = theta + layer.parameters
    features_of(&layer.k, p, layer.x, layer.phi, layer.n_features, 1)
    covariances_double[net.level](&layer.k, p, m, layer.m_padded, layer.phi, theta + layer.z,
                                  layer.b, m)
    triangular(True, b"T", m, p, theta + layer.lz, layer.b)
    diagonal_of(&layer.k, p, layer.x, layer.prior)
    for i in range(p):
        layer.c[i] = max(layer.prior[i] - dot(m, layer.b + i * m, layer.b + i * m), 0.0)
    for d in range(layer.n_outputs):
        row = layer.first + d
        memcpy(net.g[row], layer.b, p * m * sizeof(double))
        triangular(False, b"N", m, p, theta + layer.factor + d * m * m, net.g[row])
        for i in range(p):
            mean = dot(m, layer.b + i * m, theta + layer.n + d * m)
            for e in range(layer.n_inputs):
                mean += layer.x[i * layer.n_inputs + e] * theta[layer.slope + e * layer.n_outputs + d]
            net.mean[row * PATHS + i] = mean
            net.big_b[(row * net.n_rows + row) * PATHS + i] = layer.c[i] + dot(
                m, net.g[row] + i * m, net.g[row] + i * m)


cdef void pairs_forward(Network *net, Py_ssize_t l, Py_ssize_t p) noexcept nogil:
    """B_rs = b_r . S_rs b_s of the layer's rows r; 0 for pairs that are not coupled."""
    cdef Layer *layer = &net.layers[l]
    cdef Layer *other
    cdef Py_ssize_t m = layer.m, t, r, s, i
    cdef double *w
    for r in range(layer.first, layer.first + layer.n_outputs):
        memset(net.big_b + r * net.n_rows * PATHS, 0, r * PATHS * sizeof(double))
    for t in range(net.n_pairs):
        r, s, w = net.pairs[t].r, net.pairs[t].s, net.pairs[t].w
        if net.layer_of[r] != l:
            continue
        other = &net.layers[net.layer_of[s]]
        gemm(b"T", b"N", m, p, other.m, 1, net.theta + net.pairs[t].block, other.m, other.b,
             other.m, 0, w, m)
        for i in range(p):
            net.big_b[(r * net.n_rows + s) * PATHS + i] = dot(m, layer.b + i * m, w + i * m)


cdef void cholesky_row(Network *net, Py_ssize_t row, Py_ssize_t n_before, bint is_last,
                       Py_ssize_t p) noexcept nogil:
    """Row of the Cholesky factor of B, after n_before others, for each path; and the value
    mean + sum_s r_rs xi_s, or, in the last layer, what it is without the row's own xi."""
    cdef Py_ssize_t n = net.n_rows, s, t, i
    cdef double *prior = net.layers[net.layer_of[row]].prior
    cdef const double *rs
    cdef const double *rt
    cdef const double *st
    cdef double *out
    cdef double *f = net.f + row * PATHS
    memcpy(f, net.mean + row * PATHS, p * sizeof(double))
    for s in range(n_before):
        out = net.r + (row * n + s) * PATHS
        memcpy(out, net.big_b + (row * n + s) * PATHS, p * sizeof(double))
        for t in range(s):
            rt, st = net.r + (row * n + t) * PATHS, net.r + (s * n + t) * PATHS
            for i in range(p):
                out[i] -= rt[i] * st[i]
        rs = net.r + (s * n + s) * PATHS
        for i in range(p):
            out[i] /= rs[i]
            f[i] += out[i] * net.xi[s * PATHS + i]
    out = net.r + (row * n + row) * PATHS
    memcpy(out, net.big_b + (row * n + row) * PATHS, p * sizeof(double))
    for s in range(n_before):
        rs = net.r + (row * n + s) * PATHS
        for i in range(p):
            out[i] -= rs[i] * rs[i]
    for i in range(p):
        out[i] = sqrt(max(out[i], least_variance * prior[i]))
    if not is_last:
        for i in range(p):
            f[i] += out[i] * net.xi[row * PATHS + i]


cdef void forward(Network *net, Py_ssize_t p) noexcept nogil:
    """All layers; of the last, f is the mean, and the diagonal of r the deviation."""
    cdef Py_ssize_t l, d, i, row, last = net.n_layers - 1
    cdef Layer *layer
    for l in range(net.n_layers):
        layer = &net.layers[l]
        layer_forward(net, l, p)
        pairs_forward(net, l, p)
        for d in range(layer.n_outputs):
            row = layer.first + d
            cholesky_row(net, row, layer.first if l == last else row, l == last, p)
            if l < last:
                for i in range(p):
                    net.layers[l + 1].x[i * layer.n_outputs + d] = net.f[row * PATHS + i]


# Back


cdef void cholesky_row_back(Network *net, Py_ssize_t row, Py_ssize_t n_before, bint is_last,
                            Py_ssize_t p) noexcept nogil:
    """From d_f, and for a row of the last layer d_r[row, row] by its deviation, to d_B and d_r."""
    cdef Py_ssize_t n = net.n_rows, s, t, i
    cdef double *prior = net.layers[net.layer_of[row]].prior
    cdef double *d_f = net.d_f + row * PATHS
    cdef double *d_b = net.d_big_b + (row * n + row) * PATHS
    cdef double *own = net.r + (row * n + row) * PATHS
    cdef double *d_own = net.d_r + (row * n + row) * PATHS
    cdef double *d_rs
    cdef double *d_bs
    for i in range(p):
        if not is_last:
            d_own[i] += d_f[i] * net.xi[row * PATHS + i]
        d_b[i] = d_own[i] / (2 * own[i])
        if own[i] * own[i] <= least_variance * prior[i] * (1 + 1e-12):
            d_b[i] = 0
    for s in range(n_before):
        d_rs = net.d_r + (row * n + s) * PATHS
        for i in range(p):
            d_rs[i] += d_f[i] * net.xi[s * PATHS + i]
            d_rs[i] -= 2 * net.r[(row * n + s) * PATHS + i] * d_b[i]
    for s in range(n_before - 1, -1, -1):
        d_rs, d_bs = net.d_r + (row * n + s) * PATHS, net.d_big_b + (row * n + s) * PATHS
        for i in range(p):
            d_bs[i] = d_rs[i] / net.r[(s * n + s) * PATHS + i]
            net.d_r[(s * n + s) * PATHS + i] -= d_bs[i] * net.r[(row * n + s) * PATHS + i]
        for t in range(s):
            for i in range(p):
                net.d_r[(row * n + t) * PATHS + i] -= d_bs[i] * net.r[(s * n + t) * PATHS + i]
                net.d_r[(s * n + t) * PATHS + i] -= d_bs[i] * net.r[(row * n + t) * PATHS + i]


cdef void pairs_back(Network *net, Py_ssize_t l, Py_ssize_t p) noexcept nogil:
    """From d_B_rs of the layer's rows r to d_b and d_S_rs."""
    cdef Layer *layer = &net.layers[l]
    cdef Layer *other
    cdef Py_ssize_t m = layer.m, t, r, s, i, j
    cdef double *w
    cdef double *d_bs
    cdef double *scaled = net.work[0]
    for t in range(net.n_pairs):
        r, s, w = net.pairs[t].r, net.pairs[t].s, net.pairs[t].w
        if net.layer_of[r] != l:
            continue
        other = &net.layers[net.layer_of[s]]
        d_bs = net.d_big_b + (r * net.n_rows + s) * PATHS
        for i in range(p):
            for j in range(m):
                layer.d_b[i * m + j] += d_bs[i] * w[i * m + j]
                scaled[i * m + j] = d_bs[i] * layer.b[i * m + j]
        gemm(b"N", b"T", other.m, m, p, 1, other.b, other.m, scaled, m, 1,
             net.gradient + net.pairs[t].block, other.m)
        gemm(b"N", b"N", other.m, p, m, 1, net.theta + net.pairs[t].block, other.m, scaled, m, 1,
             other.d_b, other.m)


cdef void rows_back(Network *net, Py_ssize_t l, double *d_c, Py_ssize_t p) noexcept nogil:
    """From the means and variances of the layer's rows to d_b, d_n, d_F and d_c."""
    cdef Layer *layer = &net.layers[l]
    cdef Py_ssize_t m = layer.m, d, i, j, row
    cdef double *g
    cdef double *d_b
    cdef double *d_mean
    memset(d_c, 0, p * sizeof(double))
    for d in range(layer.n_outputs):
        row = layer.first + d
        g, d_mean = net.g[row], net.d_f + row * PATHS
        d_b = net.d_big_b + (row * net.n_rows + row) * PATHS
        for i in range(p):
            d_c[i] += d_b[i]
            for j in range(m):
                g[i * m + j] *= 2 * d_b[i]
            add_scaled(m, d_mean[i], layer.b + i * m, net.gradient + layer.n + d * m)
        # d_F = b g^T, in C's order
        gemm(b"N", b"T", m, m, p, 1, g, m, layer.b, m, 1, net.gradient + layer.factor + d * m * m, m)
        triangular(False, b"T", m, p, net.theta + layer.factor + d * m * m, g)
        for i in range(p):
            for j in range(m):
                layer.d_b[i * m + j] += g[i * m + j] + d_mean[i] * net.theta[layer.n + d * m + j]
    for i in range(p):
        if layer.c[i] == 0:
            d_c[i] = 0
        add_scaled(m, -2 * d_c[i], layer.b + i * m, layer.d_b + i * m)


cdef void layer_back(Network *net, Py_ssize_t l, double *d_x, Py_ssize_t p) noexcept nogil:
    """From d_f, d_B and d_b of a layer to its inputs d_x (p, n_inputs) and the gradient."""
    cdef Layer *layer = &net.layers[l]
    cdef Py_ssize_t m = layer.m, n_inputs = layer.n_inputs, n_outputs = layer.n_outputs, i, d, e
    cdef Py_ssize_t at
    cdef double d_mean
    cdef double *d_c = net.work[0]
    cdef double *d_phi = net.work[1]
    cdef double *center = net.work[2]
    cdef double *gradient = net.gradient
    rows_back(net, l, d_c, p)
    # d_k = Lz^-T d_b, in place; d_Lz = -d_k b^T
    triangular(True, b"N", m, p, net.theta + layer.lz, layer.d_b)
    gemm(b"N", b"T", m, m, p, -1, layer.b, m, layer.d_b, m, 1, gradient + layer.lz, m)
    memset(d_phi, 0, p * layer.n_features * sizeof(double))
    memset(d_x, 0, p * n_inputs * sizeof(double))
    memset(center, 0, n_inputs * sizeof(double))
    covariances_vjp_double[net.level](&layer.k, p, m, layer.m_padded, layer.phi,
                                      net.theta + layer.z, layer.d_b, m, d_phi,
                                      gradient + layer.z, gradient + layer.parameters)
    features_vjp(&layer.k, p, layer.x, center, layer.phi, d_phi, layer.n_features, 1, d_x,
                 gradient + layer.parameters)
    diagonal_vjp(&layer.k, p, layer.x, d_c, d_x, gradient + layer.parameters)
    for i in range(p):
        for e in range(n_inputs):
            for d in range(n_outputs):
                at = layer.slope + e * n_outputs + d
                d_mean = net.d_f[(layer.first + d) * PATHS + i]
                d_x[i * n_inputs + e] += net.theta[at] * d_mean
                gradient[at] += layer.x[i * n_inputs + e] * d_mean


cdef void back(Network *net, double *d_x, Py_ssize_t p) noexcept nogil:
    """From d_f and the deviations of the last layer to all else; d_x (p, n_inputs) of the first."""
    cdef Py_ssize_t l, d, i, row, last = net.n_layers - 1
    cdef Layer *layer
    cdef double *d_inputs
    for l in range(net.n_layers):
        memset(net.layers[l].d_b, 0, p * net.layers[l].m * sizeof(double))
    for l in range(last, -1, -1):
        layer = &net.layers[l]
        for d in range(layer.n_outputs - 1, -1, -1):
            row = layer.first + d
            cholesky_row_back(net, row, layer.first if l == last else row, l == last, p)
        pairs_back(net, l, p)
        d_inputs = net.d_inputs if l > 0 else d_x
        layer_back(net, l, d_inputs, p)
        for d in range(layer.n_inputs if l > 0 else 0):
            row = net.layers[l - 1].first + d
            for i in range(p):
                net.d_f[row * PATHS + i] = d_inputs[i * layer.n_inputs + d]


# Pieces


cdef void observe(Network *net, int kind, const double *parameters, int n_nodes,
                  const double *nodes, const double *weights, const double *y, Py_ssize_t n,
                  Py_ssize_t first, Py_ssize_t p, double scale, double *value,
                  double *d_parameters) noexcept nogil:
    """Expected log-likelihoods of paths first to first + p, of observations y (n, n_outputs) in
    turn, and scale times their derivatives."""
    cdef Layer *layer = &net.layers[net.n_layers - 1]
    cdef Py_ssize_t d, i, row, at
    cdef double by_mean, by_variance, by_parameter
    memset(value, 0, p * sizeof(double))
    for d in range(layer.n_outputs):
        row = layer.first + d
        at = (row * net.n_rows + row) * PATHS
        for i in range(p):
            value[i] += expected_log_density(
                kind, parameters, n_nodes, nodes, weights,
                y[(first + i) % n * layer.n_outputs + d], net.f[row * PATHS + i],
                net.r[at + i] * net.r[at + i], &by_mean, &by_variance, &by_parameter)
            net.d_f[row * PATHS + i] = scale * by_mean
            net.d_r[at + i] = scale * by_variance * 2 * net.r[at + i]
            d_parameters[0] += scale * by_parameter


cdef void enter(Network *net, const double *x, Py_ssize_t n, const double *xi, Py_ssize_t first,
                Py_ssize_t p) noexcept nogil:
    """Inputs x (n, n_inputs) in turn, and standard normals xi (n_paths, n_hidden)."""
    cdef Py_ssize_t i, s, n_inputs = net.layers[0].n_inputs
    cdef Py_ssize_t n_hidden = net.layers[net.n_layers - 1].first
    for i in range(p):
        memcpy(net.layers[0].x + i * n_inputs, x + (first + i) % n * n_inputs,
               n_inputs * sizeof(double))
        for s in range(n_hidden):
            net.xi[s * PATHS + i] = xi[(first + i) * n_hidden + s]


def elbo(Py_ssize_t start, Py_ssize_t stop, const long long[:, ::1] layers,
         const long long[:, ::1] pairs, const long long[::1] kinds, const long long[::1] ops,
         const double[:, ::1] theta, const double[:, ::1] x, const double[:, ::1] y,
         const double[:, ::1] xi, int likelihood, const double[::1] likelihood_parameters,
         const double[::1] nodes, const double[::1] weights, double scale, double[::1] values,
         double[:, ::1] gradient, double[:, ::1] d_x, double[:, ::1] d_likelihood,
         int level=best_level()):
    """Pieces [start, stop), n_pieces / n_sets of the paths of each set of parameters theta.

    Path i of all n_paths starts at x[i % n] and is to end at y[i % n]. Writes E log p(y | f) of
    each path to values, and d_x of each; adds scale times its derivatives to the piece's gradient.
    """
    cdef Py_ssize_t n_pieces = gradient.shape[0] // theta.shape[0]
    cdef Py_ssize_t n_paths = xi.shape[0] // theta.shape[0]
    cdef Py_ssize_t t, i, end, p, q, n = x.shape[0], n_inputs = x.shape[1]
    cdef Network *net = make(layers, pairs, kinds, ops, level)
    cdef Py_ssize_t square = net.n_rows * net.n_rows * PATHS * sizeof(double)
    with nogil:
        for t in range(start, stop):
            q = t % n_pieces
            i = t // n_pieces * n_paths
            net.theta, net.gradient = &theta[t // n_pieces, 0], &gradient[t, 0]
            end = i + n_paths * (q + 1) // n_pieces
            i += n_paths * q // n_pieces
            while i < end:
                p = min(<Py_ssize_t> PATHS, end - i)
                enter(net, &x[0, 0], n, &xi[0, 0] if xi.shape[1] else NULL, i, p)
                forward(net, p)
                memset(net.d_r, 0, square)
                memset(net.d_big_b, 0, square)
                observe(net, likelihood, &likelihood_parameters[0], nodes.shape[0], &nodes[0],
                        &weights[0], &y[0, 0], n, i, p, scale, &values[i], &d_likelihood[t, 0])
                back(net, &d_x[i, 0], p)
                i += p
    discard(net)


def sample(Py_ssize_t start, Py_ssize_t stop, const long long[:, ::1] layers,
           const long long[:, ::1] pairs, const long long[::1] kinds, const long long[::1] ops,
           const double[:, ::1] theta, const double[:, ::1] x, const double[:, ::1] xi,
           double[:, ::1] f, double[:, ::1] deviation, int level=best_level()):
    """Paths [start, stop): values of all rows, f (n_paths, n_rows), of the last layer the means, and
    the deviations (n_paths, n_outputs) of these. All of one set of parameters."""
    cdef Network *net = make(layers, pairs, kinds, ops, level)
    cdef Py_ssize_t p, j, row, n = x.shape[0], i = start
    cdef Py_ssize_t n_paths = xi.shape[0] // theta.shape[0]
    cdef Py_ssize_t first = net.layers[net.n_layers - 1].first
    with nogil:
        while i < stop:
            p = min(<Py_ssize_t> PATHS, stop - i, n_paths - i % n_paths)
            net.theta = &theta[i // n_paths, 0]
            enter(net, &x[0, 0], n, &xi[0, 0] if xi.shape[1] else NULL, i, p)
            forward(net, p)
            for j in range(p):
                for row in range(net.n_rows):
                    f[i + j, row] = net.f[row * PATHS + j]
                for row in range(first, net.n_rows):
                    deviation[i + j, row - first] = net.r[(row * net.n_rows + row) * PATHS + j]
            i += p
    discard(net)

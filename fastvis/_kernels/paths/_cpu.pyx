"""Paths of points through the layers of a deep Gaussian process, and back: serial, without the GIL.

A panel of points goes through the first layer; then, one sample of paths after another, through all
others, meets its observations, and goes back while all that it left behind is in the cache; at last
back through the first layer, which all samples share. Symbols are those of `reference.py`; how
matrices of a panel lie is told in `algebra.h`.
"""

from libc.math cimport sqrt
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #include "covariance/points.h"
    #include "likelihood.h"
    enum { PATHS = 96, STRIDE = PATHS + 8 }; /* rows a power of two apart would share cache lines */
    typedef struct {
        Py_ssize_t panel;
        void (*covariances)(const covariance *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *,
                            const double *, double *, Py_ssize_t);
        void (*covariances_vjp)(const covariance *, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                const double *, const double *, const double *, Py_ssize_t,
                                double *, double *, double *);
        void (*solve)(Py_ssize_t, Py_ssize_t, const double *, double *);
        void (*solve_transposed)(Py_ssize_t, Py_ssize_t, const double *, double *);
        void (*multiply_transposed)(Py_ssize_t, Py_ssize_t, const double *, const double *,
                                    double *);
        void (*add_multiplied)(Py_ssize_t, Py_ssize_t, const double *, const double *, double *);
        void (*product)(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, Py_ssize_t,
                        int, const double *, double *);
        void (*add_outer)(Py_ssize_t, Py_ssize_t, Py_ssize_t, int, double, const double *,
                          const double *, double *);
        void (*add_dots)(Py_ssize_t, Py_ssize_t, const double *, const double *, const double *,
                         double *);
        void (*add_total)(Py_ssize_t, Py_ssize_t, const double *, const double *, double *);
        void (*scale)(Py_ssize_t, Py_ssize_t, double, const double *, const double *, int,
                      double *);
        void (*add_product)(Py_ssize_t, Py_ssize_t, const double *, const double *, double *);
    } algebra;
    #define KERNEL "algebra.h"
    #define ONLY_DOUBLE
    #include "each_vector.h"
    static const algebra *const algebras[] = {
        &algebra_of_double_0, &algebra_of_double_1, &algebra_of_double_2,
    };
    """
    enum: PATHS
    enum: STRIDE
    ctypedef struct covariance:
        Py_ssize_t n_inputs, n_leaves, n_ops
        const long long *kinds
        const long long *ops
        const double *parameters
    ctypedef struct algebra:
        Py_ssize_t panel
        void (*covariances)(const covariance *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *,
                            const double *, double *, Py_ssize_t) noexcept nogil
        void (*covariances_vjp)(const covariance *, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                const double *, const double *, const double *, Py_ssize_t,
                                double *, double *, double *) noexcept nogil
        void (*solve)(Py_ssize_t, Py_ssize_t, const double *, double *) noexcept nogil
        void (*solve_transposed)(Py_ssize_t, Py_ssize_t, const double *, double *) noexcept nogil
        void (*multiply_transposed)(Py_ssize_t, Py_ssize_t, const double *, const double *,
                                    double *) noexcept nogil
        void (*add_multiplied)(Py_ssize_t, Py_ssize_t, const double *, const double *,
                               double *) noexcept nogil
        void (*product)(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, Py_ssize_t,
                        int, const double *, double *) noexcept nogil
        void (*add_outer)(Py_ssize_t, Py_ssize_t, Py_ssize_t, int, double, const double *,
                          const double *, double *) noexcept nogil
        void (*add_dots)(Py_ssize_t, Py_ssize_t, const double *, const double *, const double *,
                         double *) noexcept nogil
        void (*add_total)(Py_ssize_t, Py_ssize_t, const double *, const double *,
                          double *) noexcept nogil
        void (*scale)(Py_ssize_t, Py_ssize_t, double, const double *, const double *, int,
                      double *) noexcept nogil
        void (*add_product)(Py_ssize_t, Py_ssize_t, const double *, const double *,
                            double *) noexcept nogil
    const algebra *const algebras[3]
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
    double expected_log_density(int, const double *, int, const double *, const double *, double,
                                double, double, double *, double *, double *) noexcept nogil

cdef enum:
    MOST_LAYERS = 16
    MOST_ROWS = 64

LAYERS, ROWS = MOST_LAYERS, MOST_ROWS
PANEL = PATHS  # points
LEAST_VARIANCE = 1e-14  # of a value of a path, in units of its prior variance
cdef double least_variance = LEAST_VARIANCE

cdef struct Layer:
    covariance k
    Py_ssize_t n_inputs, n_outputs, m, n_features
    Py_ssize_t first  # of its rows: outputs, counted over all layers
    # where in theta, and in its gradient
    Py_ssize_t parameters, z, lz, n, factor, slope
    # what a panel leaves behind
    double *x  # (PATHS, n_inputs)
    double *phi  # (n_features, STRIDE)
    double *b  # (m, STRIDE)
    double *d_b
    double *prior  # (PATHS,)
    double *c

cdef struct Pair:  # of rows r > s that are coupled
    Py_ssize_t r, s, block  # where in theta S_rs is
    double *w  # S_rs b_s, (M_r, STRIDE)
    double *d_w

cdef struct Network:
    const algebra *by
    Py_ssize_t n_layers, n_rows, n_pairs
    Py_ssize_t widest  # of features or inputs of a layer
    Py_ssize_t width  # of the panel: its points, and more of the last to fill vectors up
    Layer layers[MOST_LAYERS]
    Pair *pairs
    Py_ssize_t layer_of[MOST_ROWS]
    const double *theta
    double *gradient
    double *memory
    double *g[MOST_ROWS]  # factor^T b, (M, STRIDE)
    double *mean  # (n_rows, PATHS), as what follows
    double *f
    double *d_f
    double *xi
    double *big_b  # (n_rows, n_rows, PATHS), as what follows
    double *r
    double *d_r
    double *d_big_b
    double *total_d_f  # over samples, of the rows of the first layer
    double *total_d_big_b
    double *d_c  # (PATHS,)
    double *d_phi  # (widest, STRIDE)
    double *center  # (widest,)
    double *d_inputs  # (PATHS, widest), of a layer but the first


cdef double *take(double **memory, Py_ssize_t size) noexcept nogil:
    cdef double *start = memory[0]
    memory[0] += (size + 7) // 8 * 8
    return start


cdef Py_ssize_t share(Network *net, double *memory) noexcept nogil:
    """Give each array its place in the memory; how much of it is needed."""
    cdef double *end = memory
    cdef Py_ssize_t rows = net.n_rows * PATHS, square = net.n_rows * rows, m, i
    cdef Py_ssize_t shared = net.layers[0].n_outputs * PATHS
    cdef Layer *layer
    for i in range(net.n_layers):
        layer = &net.layers[i]
        layer.x = take(&end, PATHS * layer.n_inputs)
        layer.phi = take(&end, STRIDE * layer.n_features)
        layer.b, layer.d_b = take(&end, STRIDE * layer.m), take(&end, STRIDE * layer.m)
        layer.prior, layer.c = take(&end, PATHS), take(&end, PATHS)
    for i in range(net.n_rows):
        net.g[i] = take(&end, STRIDE * net.layers[net.layer_of[i]].m)
    for i in range(net.n_pairs):
        m = net.layers[net.layer_of[net.pairs[i].r]].m
        net.pairs[i].w, net.pairs[i].d_w = take(&end, STRIDE * m), take(&end, STRIDE * m)
    net.mean, net.f = take(&end, rows), take(&end, rows)
    net.d_f, net.xi = take(&end, rows), take(&end, rows)
    net.total_d_f, net.total_d_big_b = take(&end, shared), take(&end, shared * net.n_rows)
    net.big_b, net.r = take(&end, square), take(&end, square)
    net.d_r, net.d_big_b = take(&end, square), take(&end, square)
    net.d_c, net.center = take(&end, PATHS), take(&end, net.widest)
    net.d_phi, net.d_inputs = take(&end, STRIDE * net.widest), take(&end, PATHS * net.widest)
    return end - memory


cdef Network *make(const long long[:, ::1] layers, const long long[:, ::1] pairs,
                   const long long[::1] kinds, const long long[::1] ops, int level):
    """A network and its memory, zeros, from tables as `paths.Layout` makes them."""
    cdef Network *net = <Network *> calloc(1, sizeof(Network))
    cdef Py_ssize_t i, d, kind = 0, op = 0
    cdef Layer *layer
    if net == NULL:
        raise MemoryError
    net.by, net.n_layers, net.n_pairs = algebras[level], layers.shape[0], pairs.shape[0]
    for i in range(net.n_layers):
        layer = &net.layers[i]
        layer.n_inputs, layer.n_outputs, layer.m = layers[i, 0], layers[i, 1], layers[i, 2]
        layer.k.n_leaves, layer.k.n_ops = layers[i, 3], layers[i, 4]
        layer.k.n_inputs, layer.k.kinds, layer.k.ops = layer.n_inputs, &kinds[kind], &ops[op]
        layer.parameters, layer.z, layer.lz = layers[i, 5], layers[i, 6], layers[i, 7]
        layer.n, layer.factor, layer.slope = layers[i, 8], layers[i, 9], layers[i, 10]
        layer.n_features = count_features(&layer.k)
        layer.first = net.n_rows
        for d in range(layer.n_outputs):
            net.layer_of[net.n_rows] = i
            net.n_rows += 1
        kind, op = kind + layer.k.n_leaves, op + layer.k.n_ops
        net.widest = max(net.widest, layer.n_features, layer.n_inputs)
    net.pairs = <Pair *> malloc(max(net.n_pairs, 1) * sizeof(Pair))
    if net.pairs != NULL:
        for i in range(net.n_pairs):
            net.pairs[i].r, net.pairs[i].s = pairs[i, 0], pairs[i, 1]
            net.pairs[i].block = pairs[i, 2]
        net.memory = <double *> calloc(share(net, NULL) + 8, sizeof(double))
    if net.pairs == NULL or net.memory == NULL:
        discard(net)
        raise MemoryError
    share(net, <double *> ((<size_t> net.memory + 63) // 64 * 64))
    return net


cdef void discard(Network *net) noexcept nogil:
    free(net.pairs)
    free(net.memory)
    free(net)


# Forward


cdef void layer_forward(Network *net, Py_ssize_t l) noexcept nogil:
    """b = Lz^-1 k(z, x), c = k(x, x) - |b|^2, prior, and mean and variance of the layer's rows."""
    cdef Layer *layer = &net.layers[l]
    cdef Py_ssize_t m = layer.m, width = net.width, i, d, e, row
    cdef const double *theta = net.theta
    cdef double *mean
    cdef double *variance
    cdef double slope
    layer.k.parameters = theta + layer.parameters
    features_of(&layer.k, width, layer.x, layer.phi, 1, STRIDE)
    net.by.covariances(&layer.k, m, width, STRIDE, theta + layer.z, layer.phi, layer.b, STRIDE)
    net.by.solve(m, width, theta + layer.lz, layer.b)
    diagonal_of(&layer.k, width, layer.x, layer.prior)
    memset(layer.c, 0, width * sizeof(double))
    net.by.add_dots(m, width, NULL, layer.b, layer.b, layer.c)
    for i in range(width):
        layer.c[i] = max(layer.prior[i] - layer.c[i], 0.0)
    for d in range(layer.n_outputs):
        row = layer.first + d
        mean, variance = net.mean + row * PATHS, net.big_b + (row * net.n_rows + row) * PATHS
        net.by.multiply_transposed(m, width, theta + layer.factor + d * m * m, layer.b,
                                   net.g[row])
        memcpy(variance, layer.c, width * sizeof(double))
        net.by.add_dots(m, width, NULL, net.g[row], net.g[row], variance)
        memset(mean, 0, width * sizeof(double))
        for e in range(layer.n_inputs):
            slope = theta[layer.slope + e * layer.n_outputs + d]
            for i in range(width):
                mean[i] += layer.x[i * layer.n_inputs + e] * slope
        net.by.add_dots(m, width, theta + layer.n + d * m, NULL, layer.b, mean)


cdef inline bint is_shared(Network *net, Pair *pair) noexcept nogil:
    """Whether w is the same in all samples."""
    return net.layer_of[pair.s] == 0


cdef void weigh(Network *net, Pair *pair) noexcept nogil:
    """w = S_rs b_s; no gradient by it so far."""
    cdef Layer *other = &net.layers[net.layer_of[pair.s]]
    cdef Py_ssize_t m = net.layers[net.layer_of[pair.r]].m
    net.by.product(m, other.m, net.width, net.theta + pair.block, other.m, 1, 0, other.b, pair.w)
    memset(pair.d_w, 0, m * STRIDE * sizeof(double))


cdef void pairs_forward(Network *net, Py_ssize_t l) noexcept nogil:
    """B_rs = b_r . S_rs b_s of the layer's rows r; 0 for pairs that are not coupled."""
    cdef Layer *layer = &net.layers[l]
    cdef Py_ssize_t t, r
    cdef Pair *pair
    for r in range(layer.first, layer.first + layer.n_outputs):
        memset(net.big_b + r * net.n_rows * PATHS, 0, r * PATHS * sizeof(double))
    for t in range(net.n_pairs):
        pair = &net.pairs[t]
        if net.layer_of[pair.r] == l:
            if l == 0 or not is_shared(net, pair):
                weigh(net, pair)
            net.by.add_dots(layer.m, net.width, NULL, layer.b, pair.w,
                            net.big_b + (pair.r * net.n_rows + pair.s) * PATHS)


cdef void cholesky_row(Network *net, Py_ssize_t row, Py_ssize_t n_before, bint is_last) noexcept nogil:
    """Row of the Cholesky factor of B, after n_before others, for each path; and the value
    mean + sum_s r_rs xi_s, or, in the last layer, what it is without the row's own xi."""
    cdef Py_ssize_t n = net.n_rows, width = net.width, s, t, i
    cdef double *prior = net.layers[net.layer_of[row]].prior
    cdef const double *rs
    cdef const double *rt
    cdef const double *st
    cdef double *out
    cdef double *f = net.f + row * PATHS
    memcpy(f, net.mean + row * PATHS, width * sizeof(double))
    for s in range(n_before):
        out = net.r + (row * n + s) * PATHS
        memcpy(out, net.big_b + (row * n + s) * PATHS, width * sizeof(double))
        for t in range(s):
            rt, st = net.r + (row * n + t) * PATHS, net.r + (s * n + t) * PATHS
            for i in range(width):
                out[i] -= rt[i] * st[i]
        rs = net.r + (s * n + s) * PATHS
        for i in range(width):
            out[i] = out[i] / rs[i] if rs[i] > 0 else 0  # a value without variance says nothing
            f[i] += out[i] * net.xi[s * PATHS + i]
    out = net.r + (row * n + row) * PATHS
    memcpy(out, net.big_b + (row * n + row) * PATHS, width * sizeof(double))
    for s in range(n_before):
        rs = net.r + (row * n + s) * PATHS
        for i in range(width):
            out[i] -= rs[i] * rs[i]
    for i in range(width):
        out[i] = sqrt(max(out[i], least_variance * prior[i]))
    if not is_last:
        for i in range(width):
            f[i] += out[i] * net.xi[row * PATHS + i]


cdef void forward_shared(Network *net) noexcept nogil:
    """What all samples share: of the first layer all but its values. Gradients by it are 0 so far."""
    cdef Py_ssize_t t, n_rows = net.layers[0].n_outputs
    layer_forward(net, 0)
    pairs_forward(net, 0)
    for t in range(net.n_pairs):
        if is_shared(net, &net.pairs[t]) and net.layer_of[net.pairs[t].r] > 0:
            weigh(net, &net.pairs[t])
    memset(net.layers[0].d_b, 0, net.layers[0].m * STRIDE * sizeof(double))
    memset(net.total_d_f, 0, n_rows * PATHS * sizeof(double))
    memset(net.total_d_big_b, 0, n_rows * net.n_rows * PATHS * sizeof(double))


cdef void forward(Network *net) noexcept nogil:
    """The rest; of the last layer, f is the mean, and the diagonal of r the deviation."""
    cdef Py_ssize_t l, d, i, row, last = net.n_layers - 1
    cdef Layer *layer
    for l in range(net.n_layers):
        layer = &net.layers[l]
        if l > 0:
            layer_forward(net, l)
            pairs_forward(net, l)
        for d in range(layer.n_outputs):
            row = layer.first + d
            cholesky_row(net, row, layer.first if l == last else row, l == last)
            if l < last:
                for i in range(net.width):
                    net.layers[l + 1].x[i * layer.n_outputs + d] = net.f[row * PATHS + i]


# Back


cdef void cholesky_row_back(Network *net, Py_ssize_t row, Py_ssize_t n_before, bint is_last) noexcept nogil:
    """From d_f, and for a row of the last layer d_r[row, row] by its deviation, to d_B and d_r."""
    cdef Py_ssize_t n = net.n_rows, width = net.width, s, t, i
    cdef double *prior = net.layers[net.layer_of[row]].prior
    cdef double *d_f = net.d_f + row * PATHS
    cdef double *d_b = net.d_big_b + (row * n + row) * PATHS
    cdef double *own = net.r + (row * n + row) * PATHS
    cdef double *d_own = net.d_r + (row * n + row) * PATHS
    cdef double *d_rs
    cdef double *d_bs
    cdef double own_s
    for i in range(width):
        if not is_last:
            d_own[i] += d_f[i] * net.xi[row * PATHS + i]
        d_b[i] = d_own[i] / (2 * own[i])
        if own[i] * own[i] <= least_variance * prior[i] * (1 + 1e-12):
            d_b[i] = 0
    for s in range(n_before):
        d_rs = net.d_r + (row * n + s) * PATHS
        for i in range(width):
            d_rs[i] += d_f[i] * net.xi[s * PATHS + i]
            d_rs[i] -= 2 * net.r[(row * n + s) * PATHS + i] * d_b[i]
    for s in range(n_before - 1, -1, -1):
        d_rs, d_bs = net.d_r + (row * n + s) * PATHS, net.d_big_b + (row * n + s) * PATHS
        for i in range(width):
            own_s = net.r[(s * n + s) * PATHS + i]
            d_bs[i] = d_rs[i] / own_s if own_s > 0 else 0
            net.d_r[(s * n + s) * PATHS + i] -= d_bs[i] * net.r[(row * n + s) * PATHS + i]
        for t in range(s):
            for i in range(width):
                net.d_r[(row * n + t) * PATHS + i] -= d_bs[i] * net.r[(s * n + t) * PATHS + i]
                net.d_r[(s * n + t) * PATHS + i] -= d_bs[i] * net.r[(row * n + t) * PATHS + i]


cdef void pairs_back(Network *net, Py_ssize_t l) noexcept nogil:
    """From d_B_rs of the layer's rows r to d_b and the gradient by w."""
    cdef Layer *layer = &net.layers[l]
    cdef Py_ssize_t t
    cdef Pair *pair
    cdef double *d_bs
    for t in range(net.n_pairs):
        pair = &net.pairs[t]
        if net.layer_of[pair.r] == l:
            d_bs = net.d_big_b + (pair.r * net.n_rows + pair.s) * PATHS
            net.by.scale(layer.m, net.width, 1, d_bs, pair.w, 1, layer.d_b)
            net.by.scale(layer.m, net.width, 1, d_bs, layer.b, 1, pair.d_w)
            if not is_shared(net, pair):
                weigh_back(net, pair)


cdef void weigh_back(Network *net, Pair *pair) noexcept nogil:
    """From the gradient by w to d_b_s and d_S_rs."""
    cdef Layer *other = &net.layers[net.layer_of[pair.s]]
    cdef Py_ssize_t m = net.layers[net.layer_of[pair.r]].m
    net.by.product(other.m, m, net.width, net.theta + pair.block, 1, other.m, 1, pair.d_w,
                   other.d_b)
    net.by.add_outer(m, other.m, net.width, 0, 1, pair.d_w, other.b, net.gradient + pair.block)


cdef void rows_back(Network *net, Py_ssize_t l) noexcept nogil:
    """From the means and variances of the layer's rows to d_b, d_n, d_F and d_c."""
    cdef Layer *layer = &net.layers[l]
    cdef Py_ssize_t m = layer.m, width = net.width, d, i, row, factor, n
    cdef double *g
    cdef double *d_b
    cdef double *d_mean
    memset(net.d_c, 0, width * sizeof(double))
    for d in range(layer.n_outputs):
        row, factor, n = layer.first + d, layer.factor + d * m * m, layer.n + d * m
        g, d_mean = net.g[row], net.d_f + row * PATHS
        d_b = net.d_big_b + (row * net.n_rows + row) * PATHS
        for i in range(width):
            net.d_c[i] += d_b[i]
        net.by.scale(m, width, 2, d_b, g, 0, g)
        net.by.add_outer(m, m, width, 1, 1, layer.b, g, net.gradient + factor)
        net.by.add_multiplied(m, width, net.theta + factor, g, layer.d_b)
        net.by.add_product(m, width, net.theta + n, d_mean, layer.d_b)
        net.by.add_total(m, width, d_mean, layer.b, net.gradient + n)
    for i in range(width):
        if layer.c[i] == 0:
            net.d_c[i] = 0
    net.by.scale(m, width, -2, net.d_c, layer.b, 1, layer.d_b)


cdef void layer_back(Network *net, Py_ssize_t l, double *d_x) noexcept nogil:
    """From d_f, d_B and d_b of a layer to its inputs d_x (width, n_inputs) and the gradient."""
    cdef Layer *layer = &net.layers[l]
    cdef Py_ssize_t m = layer.m, width = net.width, n_inputs = layer.n_inputs, i, d, e, at
    cdef double d_mean
    cdef double *gradient = net.gradient
    rows_back(net, l)
    # d_k = Lz^-T d_b, in place; d_Lz = -d_k b^T
    net.by.solve_transposed(m, width, net.theta + layer.lz, layer.d_b)
    net.by.add_outer(m, m, width, 1, -1, layer.d_b, layer.b, gradient + layer.lz)
    memset(net.d_phi, 0, STRIDE * layer.n_features * sizeof(double))
    memset(d_x, 0, width * n_inputs * sizeof(double))
    net.by.covariances_vjp(&layer.k, m, width, STRIDE, net.theta + layer.z, layer.phi, layer.d_b,
                           STRIDE, gradient + layer.z, net.d_phi, gradient + layer.parameters)
    features_vjp(&layer.k, width, layer.x, net.center, layer.phi, net.d_phi, 1, STRIDE, d_x,
                 gradient + layer.parameters)
    diagonal_vjp(&layer.k, width, layer.x, net.d_c, d_x, gradient + layer.parameters)
    for i in range(width):
        for e in range(n_inputs):
            for d in range(layer.n_outputs):
                at = layer.slope + e * layer.n_outputs + d
                d_mean = net.d_f[(layer.first + d) * PATHS + i]
                d_x[i * n_inputs + e] += net.theta[at] * d_mean
                gradient[at] += layer.x[i * n_inputs + e] * d_mean


cdef void back(Network *net) noexcept nogil:
    """From d_f and the deviations of the last layer to all but what samples share, to the gradients
    by which it adds."""
    cdef Py_ssize_t l, d, i, row, last = net.n_layers - 1
    cdef Layer *layer
    for l in range(1, net.n_layers):
        memset(net.layers[l].d_b, 0, net.layers[l].m * STRIDE * sizeof(double))
    for l in range(last, -1, -1):
        layer = &net.layers[l]
        for d in range(layer.n_outputs - 1, -1, -1):
            row = layer.first + d
            cholesky_row_back(net, row, layer.first if l == last else row, l == last)
        if l > 0:
            pairs_back(net, l)
            layer_back(net, l, net.d_inputs)
            for d in range(layer.n_inputs):
                row = net.layers[l - 1].first + d
                for i in range(net.width):
                    net.d_f[row * PATHS + i] = net.d_inputs[i * layer.n_inputs + d]
    add(layer.n_outputs * PATHS, net.d_f, net.total_d_f)
    add(layer.n_outputs * net.n_rows * PATHS, net.d_big_b, net.total_d_big_b)


cdef void add(Py_ssize_t n, const double *a, double *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] += a[i]


cdef void back_shared(Network *net) noexcept nogil:
    """What remains: to d_inputs and the gradient of the first layer and its pairs."""
    cdef Py_ssize_t t, n_rows = net.layers[0].n_outputs
    memcpy(net.d_f, net.total_d_f, n_rows * PATHS * sizeof(double))
    memcpy(net.d_big_b, net.total_d_big_b, n_rows * net.n_rows * PATHS * sizeof(double))
    pairs_back(net, 0)
    for t in range(net.n_pairs):
        if is_shared(net, &net.pairs[t]):
            weigh_back(net, &net.pairs[t])
    layer_back(net, 0, net.d_inputs)


# Pieces


cdef struct Paths:  # of a panel: start + sample n_points + point, for points first to first + n
    Py_ssize_t start  # of the set of parameters
    Py_ssize_t n_points, n_samples  # of the set
    Py_ssize_t first, n


cdef void enter(Network *net, Paths *at, const double[:, ::1] x) noexcept nogil:
    """Take inputs x (n, n_inputs), in turn, and fill the panel up with the last."""
    cdef Py_ssize_t i, n_inputs = net.layers[0].n_inputs, panel = net.by.panel
    net.width = (at.n + panel - 1) // panel * panel
    for i in range(net.width):
        memcpy(net.layers[0].x + i * n_inputs,
               &x[(at.start + at.first + min(i, at.n - 1)) % x.shape[0], 0],
               n_inputs * sizeof(double))


cdef Py_ssize_t enter_sample(Network *net, Paths *at, Py_ssize_t sample,
                             const double[:, ::1] xi) noexcept nogil:
    """Take standard normals xi (n_paths, n_hidden); the first path."""
    cdef Py_ssize_t i, s, first = at.start + sample * at.n_points + at.first
    for i in range(net.width):
        for s in range(xi.shape[1]):
            net.xi[s * PATHS + i] = xi[first + min(i, at.n - 1), s]
    return first


cdef void observe(Network *net, int kind, const double *parameters, const double[::1] nodes,
                  const double[::1] weights, const double[:, ::1] y, Py_ssize_t first,
                  Py_ssize_t n, double scale, double *value, double *d_parameters) noexcept nogil:
    """Expected log-likelihoods of n paths from the first on, of observations y (n, n_outputs) in
    turn, and scale times their derivatives."""
    cdef Layer *layer = &net.layers[net.n_layers - 1]
    cdef Py_ssize_t d, i, row, at
    cdef double by_mean, by_variance, by_parameter
    memset(net.d_r, 0, net.n_rows * net.n_rows * PATHS * sizeof(double))
    memset(net.d_f, 0, net.n_rows * PATHS * sizeof(double))
    memset(value, 0, n * sizeof(double))
    for d in range(layer.n_outputs):
        row = layer.first + d
        at = (row * net.n_rows + row) * PATHS
        for i in range(n):
            value[i] += expected_log_density(
                kind, parameters, nodes.shape[0], &nodes[0], &weights[0],
                y[(first + i) % y.shape[0], d], net.f[row * PATHS + i],
                net.r[at + i] * net.r[at + i], &by_mean, &by_variance, &by_parameter)
            net.d_f[row * PATHS + i] = scale * by_mean
            net.d_r[at + i] = scale * by_variance * 2 * net.r[at + i]
            d_parameters[0] += scale * by_parameter


cdef Paths of_set(Py_ssize_t t, Py_ssize_t n_sets, Py_ssize_t n_paths, Py_ssize_t n) noexcept nogil:
    """The paths of a set, of n_paths of all sets; in a set, each of the n points, or as many of these
    as there are paths, has the same number."""
    cdef Paths at
    n_paths = n_paths // n_sets
    at.start, at.first, at.n = t * n_paths, 0, 0
    at.n_points = min(n, n_paths)
    at.n_samples = n_paths // at.n_points
    return at


cdef bint advance(Network *net, Paths *at, Py_ssize_t end) noexcept nogil:
    """On to the next panel, of panels of like width, of points before the end; whether there is one."""
    cdef Py_ssize_t left, n_panels, panel = net.by.panel
    at.first += at.n
    left = end - at.first
    if left <= 0:
        return False
    n_panels = (left + PATHS - 1) // PATHS
    at.n = min(left, (left + n_panels * panel - 1) // (n_panels * panel) * panel)
    return True


def elbo(Py_ssize_t start, Py_ssize_t stop, const long long[:, ::1] layers,
         const long long[:, ::1] pairs, const long long[::1] kinds, const long long[::1] ops,
         const double[:, ::1] theta, const double[:, ::1] x, const double[:, ::1] y,
         const double[:, ::1] xi, int likelihood, const double[::1] likelihood_parameters,
         const double[::1] nodes, const double[::1] weights, double scale, double[::1] values,
         double[:, ::1] gradient, double[:, ::1] d_x, double[:, ::1] d_likelihood,
         int level=best_level()):
    """Pieces [start, stop), n_pieces / n_sets of the points of each set of parameters theta.

    Path i of all n_paths starts at x[i % n] and is to end at y[i % n]. Writes E log p(y | f) of
    each path to values, and d_x (n_sets n_points, D) of each point of a set; adds scale times its
    derivatives to the piece's gradient.
    """
    cdef Py_ssize_t n_sets = theta.shape[0], n_pieces = gradient.shape[0] // n_sets
    cdef Py_ssize_t t, set, piece, sample, i, end, n_inputs = x.shape[1]
    cdef Network *net = make(layers, pairs, kinds, ops, level)
    cdef Paths at
    with nogil:
        for t in range(start, stop):
            set, piece = t // n_pieces, t % n_pieces
            net.theta, net.gradient = &theta[set, 0], &gradient[t, 0]
            at = of_set(set, n_sets, xi.shape[0], x.shape[0])
            at.first, end = at.n_points * piece // n_pieces, at.n_points * (piece + 1) // n_pieces
            while advance(net, &at, end):
                enter(net, &at, x)
                forward_shared(net)
                for sample in range(at.n_samples):
                    i = enter_sample(net, &at, sample, xi)
                    forward(net)
                    observe(net, likelihood, &likelihood_parameters[0], nodes, weights, y, i, at.n,
                            scale, &values[i], &d_likelihood[t, 0])
                    back(net)
                back_shared(net)
                memcpy(&d_x[set * at.n_points + at.first, 0], net.d_inputs,
                       at.n * n_inputs * sizeof(double))
    discard(net)


def sample(Py_ssize_t start, Py_ssize_t stop, const long long[:, ::1] layers,
           const long long[:, ::1] pairs, const long long[::1] kinds, const long long[::1] ops,
           const double[:, ::1] theta, const double[:, ::1] x, const double[:, ::1] xi,
           double[:, ::1] f, double[:, ::1] deviation, int level=best_level()):
    """Points [start, stop) of those of all sets: on each path values of all rows, f (n_paths,
    n_rows), of the last layer the means, and the deviations (n_paths, n_outputs) of these."""
    cdef Network *net = make(layers, pairs, kinds, ops, level)
    cdef Py_ssize_t first = net.layers[net.n_layers - 1].first, set, sample, i, j, row, end
    cdef Paths at
    with nogil:
        while start < stop:
            at = of_set(0, theta.shape[0], xi.shape[0], x.shape[0])
            set = start // at.n_points
            at = of_set(set, theta.shape[0], xi.shape[0], x.shape[0])
            net.theta = &theta[set, 0]
            at.first, end = start % at.n_points, min(at.n_points, stop - set * at.n_points)
            start += end - at.first
            while advance(net, &at, end):
                enter(net, &at, x)
                forward_shared(net)
                for sample in range(at.n_samples):
                    i = enter_sample(net, &at, sample, xi)
                    forward(net)
                    for j in range(at.n):
                        for row in range(net.n_rows):
                            f[i + j, row] = net.f[row * PATHS + j]
                        for row in range(first, net.n_rows):
                            deviation[i + j, row - first] = net.r[
                                (row * net.n_rows + row) * PATHS + j]
    discard(net)

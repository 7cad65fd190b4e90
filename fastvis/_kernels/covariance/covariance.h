/* Covariances of pairs of points, which points.h has made features of; see each_vector.h. */

#define N_VECTORS (BLOCK / LANES)

/* e^y for y <= 0; 0 below -708. Reduced by powers of two; a Taylor series of 13 terms does for what
   is left, at most log(2) / 2. */
static INLINE void FN(exp_of)(VEC *y)
{
#if HAS_VECTORS
    const VEC x = *y;
    const FN(mask) tiny = x < (VEC){0} - 708.0;
    const VEC magic = (VEC){0} + 0x1.8p52;
    const VEC shifted = x * 0x1.71547652b82fep0 + magic;
    const VEC n = shifted - magic;
    const VEC r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    VEC p = (VEC){0} + 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    const FN(mask) power = (FN(mask))shifted << 52; /* a cast keeps bits */
    *y = (VEC)(((FN(mask))p + power) & ~tiny);
#else
    *y = *y < -708.0 ? 0.0 : exp(*y);
#endif
}

/* At most 1000: e^-r is 0 there, and what is multiplied with it finite. */
static INLINE void FN(root_of)(VEC *y)
{
#if HAS_VECTORS
    const VEC limit = (VEC){0} + 1e6;
    const FN(mask) far = *y > limit;
    const FN(mask) bits = ((FN(mask))*y & ~far) | ((FN(mask))limit & far);
    double lanes[8];
    memcpy(lanes, &bits, sizeof(bits));
    for (int i = 0; i < (int)LANES; i++)
        lanes[i] = sqrt(lanes[i]); /* one instruction, with -fno-math-errno */
    memcpy(y, lanes, sizeof(VEC));
#else
    *y = sqrt(*y > 1e6 ? 1e6 : *y);
#endif
}

static INLINE double FN(total)(const VEC *y)
{
    double lanes[8], sum = 0;
    memcpy(lanes, y, sizeof(VEC));
    for (int i = 0; i < (int)LANES; i++)
        sum += lanes[i];
    return sum;
}

/* A leaf of variance 1 for a point and BLOCK others, and its slope by the squared distance (or, if
   it is linear, by the product). */
static INLINE void FN(leaf_block)(const long long kind, Py_ssize_t n, const double *x,
                                  const double *z, Py_ssize_t step, VEC *value, VEC *slope)
{
    VEC s[BLOCK], c;
    for (int v = 0; v < N_VECTORS; v++)
        s[v] = (VEC){0};
    for (Py_ssize_t d = 0; d < n; d++) {
        for (int v = 0; v < N_VECTORS; v++) {
            c = AT(z + d * step + v * LANES);
            if (kind == LINEAR) {
                s[v] += c * x[d];
            } else {
                c = c - x[d];
                s[v] += c * c;
            }
        }
    }
    for (int v = 0; v < N_VECTORS; v++) {
        VEC r = s[v], e;
        if (kind == LINEAR) {
            value[v] = s[v];
            slope[v] = (VEC){0} + 1.0;
        } else if (kind == WHITE) {
            value[v] = slope[v] = (VEC){0};
        } else if (kind == SQUARED_EXPONENTIAL || kind == PERIODIC) {
            e = r * -0.5;
            FN(exp_of)(&e);
            value[v] = e;
            slope[v] = e * -0.5;
        } else if (kind == MATERN_12) {
            FN(root_of)(&r);
            e = -r;
            FN(exp_of)(&e);
            value[v] = e;
            slope[v] = e * -0.5 / (r + 1e-170); /* times a difference of 0 where r is 0 */
        } else if (kind == MATERN_32) {
            r = s[v] * 3.0;
            FN(root_of)(&r);
            e = -r;
            FN(exp_of)(&e);
            value[v] = e * (r + 1.0);
            slope[v] = e * -1.5;
        } else {
            r = s[v] * 5.0;
            FN(root_of)(&r);
            e = -r;
            FN(exp_of)(&e);
            value[v] = e * (r + 1.0 + r * r * (1.0 / 3.0));
            slope[v] = e * (r + 1.0) * (-5.0 / 6.0);
        }
    }
}

/* Values of all operations for a point and BLOCK others; slopes of leaves. */
static INLINE void FN(run_block)(const covariance *k, const double *x, const double *z,
                                 Py_ssize_t step, VEC (*values)[N_VECTORS],
                                 VEC (*slopes)[N_VECTORS], Py_ssize_t (*operands)[2])
{
    Py_ssize_t stack[MOST_OPS], starts[MOST_OPS], top = 0, first = 0;
    for (Py_ssize_t leaf = 0; leaf < k->n_leaves; leaf++) {
        starts[leaf] = first;
        first += leaf_features(k, leaf);
    }
    for (Py_ssize_t o = 0; o < k->n_ops; o++) {
        if (k->ops[o] >= 0) {
            const Py_ssize_t leaf = k->ops[o], n = leaf_features(k, leaf), f = starts[leaf];
            FN(leaf_block)(k->kinds[leaf], n, x + f, z + f * step, step, values[o], slopes[o]);
            for (int v = 0; v < N_VECTORS; v++)
                values[o][v] *= leaf_parameters(k, leaf)[0];
        } else {
            const Py_ssize_t b = stack[--top], a = stack[--top];
            operands[o][0] = a, operands[o][1] = b;
            for (int v = 0; v < N_VECTORS; v++)
                values[o][v] = k->ops[o] == ADD ? values[a][v] + values[b][v]
                                                : values[a][v] * values[b][v];
        }
        stack[top++] = o;
    }
}

/* Covariances (n, m), rows of which are ``step_out`` apart, of features x (n, n_features) and
   z (n_features, m_padded). */
static TARGET void FN(covariances)(const covariance *k, Py_ssize_t n, Py_ssize_t m,
                                   Py_ssize_t m_padded, const double *x, const double *z,
                                   double *out, Py_ssize_t step_out)
{
    const Py_ssize_t n_features = count_features(k);
    VEC values[MOST_OPS][N_VECTORS], slopes[MOST_OPS][N_VECTORS];
    Py_ssize_t operands[MOST_OPS][2];
    for (Py_ssize_t i = 0; i < n; i++) {
        for (Py_ssize_t j = 0; j < m; j += BLOCK) {
            const Py_ssize_t size = m - j < BLOCK ? m - j : BLOCK;
            FN(run_block)(k, x + i * n_features, z + j, m_padded, values, slopes, operands);
            double *target = out + i * step_out + j;
            if (size == BLOCK) /* a constant size needs no call */
                memcpy(target, values[k->n_ops - 1], BLOCK * sizeof(double));
            else
                memcpy(target, values[k->n_ops - 1], size * sizeof(double));
        }
    }
}

/* Adds to dx (n, n_features), dz (n_features, m_padded) and d_parameters (n_leaves,
   1 + 2 n_inputs), of which the variances alone, what the gradient by covariances is by them. */
static TARGET void FN(covariances_vjp)(const covariance *k, Py_ssize_t n, Py_ssize_t m,
                                       Py_ssize_t m_padded, const double *x, const double *z,
                                       const double *gradient, Py_ssize_t step_gradient, double *dx,
                                       double *dz, double *d_parameters)
{
    const Py_ssize_t n_features = count_features(k);
    VEC values[MOST_OPS][N_VECTORS], slopes[MOST_OPS][N_VECTORS], bars[MOST_OPS][N_VECTORS];
    Py_ssize_t operands[MOST_OPS][2], starts[MOST_OPS], first = 0;
    for (Py_ssize_t leaf = 0; leaf < k->n_leaves; leaf++) {
        starts[leaf] = first;
        first += leaf_features(k, leaf);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        for (Py_ssize_t j = 0; j < m; j += BLOCK) {
            const Py_ssize_t size = m - j < BLOCK ? m - j : BLOCK, last = k->n_ops - 1;
            FN(run_block)(k, x + i * n_features, z + j, m_padded, values, slopes, operands);
            const double *given = gradient + i * step_gradient + j;
            if (size == BLOCK) {
                memcpy(bars[last], given, BLOCK * sizeof(double));
            } else {
                memset(bars[last], 0, sizeof(bars[last]));
                memcpy(bars[last], given, size * sizeof(double));
            }
            for (Py_ssize_t o = last; o >= 0; o--) {
                if (k->ops[o] < 0) {
                    const Py_ssize_t a = operands[o][0], b = operands[o][1];
                    for (int v = 0; v < N_VECTORS; v++) {
                        bars[a][v] = k->ops[o] == ADD ? bars[o][v] : bars[o][v] * values[b][v];
                        bars[b][v] = k->ops[o] == ADD ? bars[o][v] : bars[o][v] * values[a][v];
                    }
                    continue;
                }
                const Py_ssize_t leaf = k->ops[o], f = starts[leaf];
                const double variance = leaf_parameters(k, leaf)[0];
                const int is_linear = k->kinds[leaf] == LINEAR;
                VEC sum = {0}, w[BLOCK], c;
                for (int v = 0; v < N_VECTORS; v++) {
                    sum += bars[o][v] * values[o][v];
                    w[v] = bars[o][v] * slopes[o][v] * (is_linear ? variance : 2 * variance);
                }
                d_parameters[leaf * (1 + 2 * k->n_inputs)] += FN(total)(&sum) / variance;
                for (Py_ssize_t d = f; d < f + leaf_features(k, leaf); d++) {
                    const double y = x[i * n_features + d];
                    double *target = dz + d * m_padded + j;
                    sum = (VEC){0};
                    for (int v = 0; v < N_VECTORS; v++) {
                        VEC t = AT(target + v * LANES);
                        c = AT(z + d * m_padded + j + v * LANES);
                        if (is_linear) {
                            sum += w[v] * c;
                            t += w[v] * y;
                        } else {
                            c = (c - y) * w[v];
                            sum -= c;
                            t += c;
                        }
                        AT(target + v * LANES) = t;
                    }
                    dx[i * n_features + d] += FN(total)(&sum);
                }
            }
        }
    }
}

#undef N_VECTORS

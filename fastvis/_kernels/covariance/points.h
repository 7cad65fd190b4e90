/* Covariances of Gaussian processes, and their derivatives, for points; covariance.h has those of pairs.

   A covariance is a sum of products (or any other tree of sums and products) of leaves:

       SQUARED_EXPONENTIAL, MATERN_12, MATERN_32, MATERN_52, PERIODIC, LINEAR, WHITE

   Points enter by their features. In these a leaf depends on squared distances alone, or, if it is
   linear, on products: features are x / lengthscale, and for PERIODIC the points of a circle,
   cos and sin of 2 pi x / period, over the lengthscale: |phi(x) - phi(z)|^2 / 2 is
   2 sin^2(pi (x - z) / period) / lengthscale^2. So the loop over pairs has one exponential for a
   leaf, and no sines. WHITE has none: it is zero for any two points, and a variance on the
   diagonal.

   Features of points x are (n, n_features), those of z (n_features, m_padded): pairs of a row with
   BLOCK neighbors are worked on at once.
*/

#include <math.h>
#include <string.h>

enum { SQUARED_EXPONENTIAL, MATERN_12, MATERN_32, MATERN_52, PERIODIC, LINEAR, WHITE };
enum { ADD = -1, MULTIPLY = -2 };
enum { BLOCK = 32, MOST_OPS = 31 };

typedef struct {
    Py_ssize_t n_inputs, n_leaves, n_ops;
    const long long *kinds; /* (n_leaves,) */
    const long long *ops;   /* (n_ops,), postfix: a leaf's number, ADD or MULTIPLY */
    /* (n_leaves, 1 + 2 n_inputs): variance; 1 / lengthscale and 2 pi / period by dimension */
    const double *parameters;
} covariance;

static inline Py_ssize_t leaf_features(const covariance *k, Py_ssize_t leaf)
{
    const long long kind = k->kinds[leaf];
    return kind == WHITE ? 0 : kind == PERIODIC ? 2 * k->n_inputs : k->n_inputs;
}

static inline const double *leaf_parameters(const covariance *k, Py_ssize_t leaf)
{
    return k->parameters + leaf * (1 + 2 * k->n_inputs);
}

static Py_ssize_t count_features(const covariance *k)
{
    Py_ssize_t n = 0;
    for (Py_ssize_t leaf = 0; leaf < k->n_leaves; leaf++)
        n += leaf_features(k, leaf);
    return n;
}

/* Features of points x (n, n_inputs); feature f of point i lies at i step_i + f step_f. Positions
   count from ``center`` (n_inputs,), but for LINEAR: far from zero, features would be rounded to
   the distance from there. */
static void features_from(const covariance *k, Py_ssize_t n, const double *x, const double *center,
                          double *features, Py_ssize_t step_i, Py_ssize_t step_f)
{
    const Py_ssize_t n_inputs = k->n_inputs;
    for (Py_ssize_t leaf = 0; leaf < k->n_leaves; leaf++) {
        const double *scale = leaf_parameters(k, leaf) + 1, *frequency = scale + n_inputs;
        const int is_linear = k->kinds[leaf] == LINEAR;
        if (k->kinds[leaf] == WHITE)
            continue;
        for (Py_ssize_t d = 0; d < n_inputs; d++) {
            const double zero = is_linear || center == NULL ? 0 : center[d];
            if (k->kinds[leaf] == PERIODIC) {
                for (Py_ssize_t i = 0; i < n; i++) {
                    const double angle = frequency[d] * (x[i * n_inputs + d] - zero);
                    features[i * step_i] = scale[d] * cos(angle);
                    features[i * step_i + step_f] = scale[d] * sin(angle);
                }
                features += 2 * step_f;
            } else {
                for (Py_ssize_t i = 0; i < n; i++)
                    features[i * step_i] = scale[d] * (x[i * n_inputs + d] - zero);
                features += step_f;
            }
        }
    }
}

/* The same of points near zero. */
static void features_of(const covariance *k, Py_ssize_t n, const double *x, double *features,
                        Py_ssize_t step_i, Py_ssize_t step_f)
{
    features_from(k, n, x, NULL, features, step_i, step_f);
}

/* From gradients by features to those by points, which are added to dx (n, n_inputs), and by
   scales and frequencies, added to d_parameters. Any ``center`` will do, not only that of the
   features: it cancels over all points of a translation-invariant leaf, but for rounding. */
static void features_vjp(const covariance *k, Py_ssize_t n, const double *x, const double *center,
                         const double *features, const double *d_features, Py_ssize_t step_i,
                         Py_ssize_t step_f, double *dx, double *d_parameters)
{
    const Py_ssize_t n_inputs = k->n_inputs;
    for (Py_ssize_t leaf = 0; leaf < k->n_leaves; leaf++) {
        const double *scale = leaf_parameters(k, leaf) + 1, *frequency = scale + n_inputs;
        double *d_scale = d_parameters + leaf * (1 + 2 * n_inputs) + 1;
        double *d_frequency = d_scale + n_inputs;
        const int is_linear = k->kinds[leaf] == LINEAR;
        if (k->kinds[leaf] == WHITE)
            continue;
        for (Py_ssize_t d = 0; d < n_inputs; d++) {
            double by_scale = 0, by_frequency = 0;
            const double zero = is_linear ? 0 : center[d];
            if (k->kinds[leaf] == PERIODIC) {
                for (Py_ssize_t i = 0; i < n; i++) {
                    const double c = features[i * step_i], s = features[i * step_i + step_f];
                    const double dc = d_features[i * step_i];
                    const double ds = d_features[i * step_i + step_f];
                    const double by_angle = c * ds - s * dc;
                    by_scale += (c * dc + s * ds) / scale[d];
                    by_frequency += by_angle * (x[i * n_inputs + d] - zero);
                    dx[i * n_inputs + d] += frequency[d] * by_angle;
                }
                features += 2 * step_f, d_features += 2 * step_f;
            } else {
                for (Py_ssize_t i = 0; i < n; i++) {
                    by_scale += d_features[i * step_i] * (x[i * n_inputs + d] - zero);
                    dx[i * n_inputs + d] += scale[d] * d_features[i * step_i];
                }
                features += step_f, d_features += step_f;
            }
            d_scale[d] += by_scale;
            d_frequency[d] += by_frequency;
        }
    }
}

/* values[o] of each operation, and at the top the last, of leaves' values. */
static inline void run_scalar(const covariance *k, const double *leaves, double *values,
                              Py_ssize_t (*operands)[2])
{
    Py_ssize_t stack[MOST_OPS], top = 0;
    for (Py_ssize_t o = 0; o < k->n_ops; o++) {
        if (k->ops[o] >= 0) {
            values[o] = leaves[k->ops[o]];
        } else {
            const Py_ssize_t b = stack[--top], a = stack[--top];
            operands[o][0] = a, operands[o][1] = b;
            values[o] = k->ops[o] == ADD ? values[a] + values[b] : values[a] * values[b];
        }
        stack[top++] = o;
    }
}

/* k(x, x) of points (n, n_inputs). */
static void diagonal_of(const covariance *k, Py_ssize_t n, const double *x, double *out)
{
    double leaves[MOST_OPS], values[MOST_OPS];
    Py_ssize_t operands[MOST_OPS][2];
    int has_linear = 0;
    for (Py_ssize_t leaf = 0; leaf < k->n_leaves; leaf++) {
        leaves[leaf] = leaf_parameters(k, leaf)[0];
        has_linear |= k->kinds[leaf] == LINEAR;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (i > 0 && !has_linear) {
            out[i] = out[0];
            continue;
        }
        for (Py_ssize_t leaf = 0; leaf < k->n_leaves; leaf++) {
            if (k->kinds[leaf] == LINEAR) {
                const double *parameters = leaf_parameters(k, leaf);
                double square = 0;
                for (Py_ssize_t d = 0; d < k->n_inputs; d++) {
                    const double y = parameters[1 + d] * x[i * k->n_inputs + d];
                    square += y * y;
                }
                leaves[leaf] = parameters[0] * square;
            }
        }
        run_scalar(k, leaves, values, operands);
        out[i] = values[k->n_ops - 1];
    }
}

/* Adds to dx (n, n_inputs) and d_parameters what gradients by the diagonal (n,) are by them. */
static void diagonal_vjp(const covariance *k, Py_ssize_t n, const double *x, const double *gradient,
                         double *dx, double *d_parameters)
{
    double leaves[MOST_OPS], values[MOST_OPS], bars[MOST_OPS], squares[MOST_OPS];
    Py_ssize_t operands[MOST_OPS][2];
    const Py_ssize_t n_inputs = k->n_inputs, stride = 1 + 2 * n_inputs;
    for (Py_ssize_t i = 0; i < n; i++) {
        for (Py_ssize_t leaf = 0; leaf < k->n_leaves; leaf++) {
            const double *parameters = leaf_parameters(k, leaf);
            squares[leaf] = 1;
            if (k->kinds[leaf] == LINEAR) {
                squares[leaf] = 0;
                for (Py_ssize_t d = 0; d < n_inputs; d++) {
                    const double y = parameters[1 + d] * x[i * n_inputs + d];
                    squares[leaf] += y * y;
                }
            }
            leaves[leaf] = parameters[0] * squares[leaf];
        }
        run_scalar(k, leaves, values, operands);
        for (Py_ssize_t o = 0; o < k->n_ops; o++)
            bars[o] = 0;
        bars[k->n_ops - 1] = gradient[i];
        for (Py_ssize_t o = k->n_ops - 1; o >= 0; o--) {
            if (k->ops[o] < 0) {
                const Py_ssize_t a = operands[o][0], b = operands[o][1];
                bars[a] = k->ops[o] == ADD ? bars[o] : bars[o] * values[b];
                bars[b] = k->ops[o] == ADD ? bars[o] : bars[o] * values[a];
                continue;
            }
            const Py_ssize_t leaf = k->ops[o];
            const double *parameters = leaf_parameters(k, leaf);
            d_parameters[leaf * stride] += bars[o] * squares[leaf];
            for (Py_ssize_t d = 0; k->kinds[leaf] == LINEAR && d < n_inputs; d++) {
                const double y = 2 * bars[o] * parameters[0] * parameters[1 + d];
                const double v = x[i * n_inputs + d];
                dx[i * n_inputs + d] += y * parameters[1 + d] * v;
                d_parameters[leaf * stride + 1 + d] += y * v * v;
            }
        }
    }
}

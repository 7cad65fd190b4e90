/* Linear algebra of a panel of paths, and the covariances of its points; see each_vector.h.

   A path is a column: what a panel has of M inducing points is (M, STRIDE), of which as many columns
   count as the panel is wide, a multiple of PANEL. So all sums over inducing points run over
   vectors of neighboring paths. Of triangles (triangles.h), and of gradients by them, nothing above
   the diagonal is read or of use.
*/

#include "covariance/covariance.h"
#include "panels.h"
#include "triangles.h"

/* b = L^-1 b. */
static TARGET void FN(solve)(Py_ssize_t m, Py_ssize_t width, const REAL *l, REAL *b)
{
    FN(solve_panel)(m, width, l, b, STRIDE);
}

/* b = L^-T b. */
static TARGET void FN(solve_transposed)(Py_ssize_t m, Py_ssize_t width, const REAL *l, REAL *b)
{
    FN(solve_panel_transposed)(m, width, l, b, STRIDE);
}

/* out = L^T b. */
static TARGET void FN(multiply_transposed)(Py_ssize_t m, Py_ssize_t width, const REAL *l,
                                           const REAL *b, REAL *out)
{
    for (Py_ssize_t at = 0; at < width; at += PANEL) {
        for (Py_ssize_t i = 0; i < m; i += ROWS) {
            VEC sums[ROWS][VECTORS], c;
            const Py_ssize_t n_rows = m - i < ROWS ? m - i : ROWS, below = i + n_rows;
            FN(product_rows)(i, m, m - below, l + below * m, m, 1, b + at + below * STRIDE, STRIDE,
                             sums);
            for (Py_ssize_t r = 0; r < n_rows; r++) {
                EACH_VECTOR(v) {
                    for (Py_ssize_t q = r; q < n_rows; q++) {
                        c = AT(b + at + (i + q) * STRIDE + v * LANES);
                        sums[r][v] += c * l[(i + q) * m + i + r];
                    }
                    AT(out + at + (i + r) * STRIDE + v * LANES) = sums[r][v];
                }
            }
        }
    }
}

/* out += L b. */
static TARGET void FN(add_multiplied)(Py_ssize_t m, Py_ssize_t width, const REAL *l, const REAL *b,
                                      REAL *out)
{
    for (Py_ssize_t at = 0; at < width; at += PANEL) {
        for (Py_ssize_t i = 0; i < m; i += ROWS) {
            VEC sums[ROWS][VECTORS], c;
            const Py_ssize_t n_rows = m - i < ROWS ? m - i : ROWS;
            FN(product_rows)(i, m, i, l, 1, m, b + at, STRIDE, sums);
            for (Py_ssize_t r = 0; r < n_rows; r++) {
                EACH_VECTOR(v) {
                    REAL *target = out + at + (i + r) * STRIDE + v * LANES;
                    for (Py_ssize_t q = 0; q <= r; q++) {
                        c = AT(b + at + (i + q) * STRIDE + v * LANES);
                        sums[r][v] += c * l[(i + r) * m + i + q];
                    }
                    c = AT(target);
                    c += sums[r][v];
                    AT(target) = c;
                }
            }
        }
    }
}

/* out (m) = or += a b of any matrix: a_ij lies at i step_i + j step_j; b has n rows. */
static TARGET void FN(product)(Py_ssize_t m, Py_ssize_t n, Py_ssize_t width, const REAL *a,
                               Py_ssize_t step_i, Py_ssize_t step_j, int add, const REAL *b,
                               REAL *out)
{
    for (Py_ssize_t at = 0; at < width; at += PANEL) {
        for (Py_ssize_t i = 0; i < m; i += ROWS) {
            VEC sums[ROWS][VECTORS], c = {0};
            const Py_ssize_t n_rows = m - i < ROWS ? m - i : ROWS;
            FN(product_rows)(i, m, n, a, step_j, step_i, b + at, STRIDE, sums);
            for (Py_ssize_t r = 0; r < n_rows; r++) {
                EACH_VECTOR(v) {
                    REAL *target = out + at + (i + r) * STRIDE + v * LANES;
                    if (add)
                        c = AT(target);
                    c += sums[r][v];
                    AT(target) = c;
                    c = (VEC){0};
                }
            }
        }
    }
}

/* sums[r][v] = sum over paths of rows[r] columns[v] */
static INLINE void FN(outer_block)(Py_ssize_t width, const REAL *const *rows,
                                   const REAL *const *columns, VEC sums[ROWS][VECTORS])
{
    VEC s[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        EACH_VECTOR(v)
            s[r][v] = (VEC){0};
    for (Py_ssize_t p = 0; p < width; p += LANES) {
        VEC c[VECTORS], d;
        EACH_VECTOR(v)
            c[v] = AT(columns[v] + p);
        for (int r = 0; r < ROWS; r++) {
            d = AT(rows[r] + p);
            EACH_VECTOR(v)
                s[r][v] += c[v] * d;
        }
    }
    memcpy(sums, s, sizeof(s));
}

/* out (m, n) += sign sum over paths of a b^T; of a triangle, blocks above the diagonal are left out. */
static TARGET void FN(add_outer)(Py_ssize_t m, Py_ssize_t n, Py_ssize_t width, int is_triangle,
                                 double sign, const REAL *a, const REAL *b, REAL *out)
{
    for (Py_ssize_t i = 0; i < m; i += ROWS) {
        const Py_ssize_t n_rows = m - i < ROWS ? m - i : ROWS;
        const Py_ssize_t end = is_triangle && i + n_rows < n ? i + n_rows : n;
        for (Py_ssize_t j = 0; j < end; j += VECTORS) {
            VEC sums[ROWS][VECTORS];
            const Py_ssize_t n_columns = end - j < VECTORS ? end - j : VECTORS;
            const REAL *rows[ROWS], *columns[VECTORS];
            for (int r = 0; r < ROWS; r++)
                rows[r] = a + (r < n_rows ? i + r : i) * STRIDE;
            EACH_VECTOR(v)
                columns[v] = b + (v < n_columns ? j + v : j) * STRIDE;
            FN(outer_block)(width, rows, columns, sums);
            for (Py_ssize_t r = 0; r < n_rows; r++)
                for (Py_ssize_t v = 0; v < n_columns; v++)
                    out[(i + r) * n + j + v] += sign * FN(total)(&sums[r][v]);
        }
    }
}

/* out += sum over rows of a b, by path; without a, of weights (m) . b. */
static TARGET void FN(add_dots)(Py_ssize_t m, Py_ssize_t width, const REAL *weights, const REAL *a,
                                const REAL *b, REAL *out)
{
    for (Py_ssize_t at = 0; at < width; at += PANEL) {
        VEC s[VECTORS], c, d;
        EACH_VECTOR(v)
            s[v] = AT(out + at + v * LANES);
        for (Py_ssize_t i = 0; i < m; i++) {
            EACH_VECTOR(v) {
                const Py_ssize_t p = i * STRIDE + at + v * LANES;
                c = AT(b + p);
                if (a == NULL) {
                    s[v] += c * weights[i];
                } else {
                    d = AT(a + p);
                    s[v] += c * d;
                }
            }
        }
        EACH_VECTOR(v)
            AT(out + at + v * LANES) = s[v];
    }
}

/* out (m) += sum over paths of b, by_path times. */
static TARGET void FN(add_total)(Py_ssize_t m, Py_ssize_t width, const REAL *by_path,
                                 const REAL *b, REAL *out)
{
    for (Py_ssize_t i = 0; i < m; i++) {
        VEC s = {0}, c, d;
        for (Py_ssize_t p = 0; p < width; p += LANES) {
            c = AT(by_path + p);
            d = AT(b + i * STRIDE + p);
            s += c * d;
        }
        out[i] += FN(total)(&s);
    }
}

/* out = or += scale b, by_path times; b may be out. */
static TARGET void FN(scale)(Py_ssize_t m, Py_ssize_t width, double scale, const REAL *by_path,
                             const REAL *b, int add, REAL *out)
{
    for (Py_ssize_t i = 0; i < m; i++) {
        for (Py_ssize_t p = 0; p < width; p += LANES) {
            VEC c, d, old = {0};
            c = AT(by_path + p);
            d = AT(b + i * STRIDE + p);
            if (add)
                old = AT(out + i * STRIDE + p);
            old += c * d * scale;
            AT(out + i * STRIDE + p) = old;
        }
    }
}

/* out += weights (m) by_path^T. */
static TARGET void FN(add_product)(Py_ssize_t m, Py_ssize_t width, const REAL *weights,
                                   const REAL *by_path, REAL *out)
{
    for (Py_ssize_t i = 0; i < m; i++) {
        for (Py_ssize_t p = 0; p < width; p += LANES) {
            VEC c, old;
            c = AT(by_path + p);
            old = AT(out + i * STRIDE + p);
            old += c * weights[i];
            AT(out + i * STRIDE + p) = old;
        }
    }
}

static const algebra FN(algebra_of) = {
    PANEL, FN(covariances), FN(covariances_vjp), FN(solve), FN(solve_transposed),
    FN(multiply_transposed), FN(add_multiplied), FN(product), FN(add_outer), FN(add_dots),
    FN(add_total), FN(scale), FN(add_product),
};

#undef EACH_VECTOR
#include "end_panels.h"

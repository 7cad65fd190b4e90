/* Solutions with lower triangles, for many right-hand sides at once; see each_vector.h, panels.h.

   Right-hand sides are columns of b (m, stride), of which ``width`` count, a multiple of PANEL: all
   sums run over vectors of neighboring ones. Triangles are (m, m) in C's order; nothing above the
   diagonal is used. With blocks of 50 x 50 this takes a third of the time of a BLAS, which packs its
   arguments anew each time.
*/

#define EACH_VECTOR(v) for (int v = 0; v < VECTORS; v++)

/* Rows i to i + ROWS, of m, of a product: `block`, of which the first sum is that of row i. */
static INLINE void FN(product_rows)(Py_ssize_t i, Py_ssize_t m, Py_ssize_t n, const REAL *a,
                                    Py_ssize_t step_p, Py_ssize_t step_r, const REAL *b,
                                    Py_ssize_t stride, VEC sums[ROWS][VECTORS])
{
    if (i + ROWS <= m) {
        FN(block)(n, a + i * step_r, step_p, step_r, b, stride, sums);
    } else if (m >= ROWS) { /* the last ROWS, some for the second time */
        VEC last[ROWS][VECTORS];
        const Py_ssize_t first = m - ROWS;
        FN(block)(n, a + first * step_r, step_p, step_r, b, stride, last);
        memcpy(sums, last[i - first], (m - i) * sizeof(last[0]));
    } else {
        for (Py_ssize_t r = i; r < m; r++) {
            EACH_VECTOR(v) {
                VEC s = {0}, c;
                for (Py_ssize_t p = 0; p < n; p++) {
                    c = AT(b + p * stride + v * LANES);
                    s += c * a[p * step_p + r * step_r];
                }
                sums[r - i][v] = s;
            }
        }
    }
}

/* b = L^-1 b. */
static INLINE void FN(solve_panel)(Py_ssize_t m, Py_ssize_t width, const REAL *l, REAL *b,
                                   Py_ssize_t stride)
{
    for (Py_ssize_t at = 0; at < width; at += PANEL) {
        REAL *columns = b + at;
        for (Py_ssize_t i = 0; i < m; i += ROWS) {
            VEC sums[ROWS][VECTORS], x[ROWS][VECTORS];
            const Py_ssize_t n_rows = m - i < ROWS ? m - i : ROWS;
            FN(product_rows)(i, m, i, l, 1, m, columns, stride, sums);
            for (Py_ssize_t r = 0; r < n_rows; r++) {
                const REAL *row = l + (i + r) * m + i, inverse = 1 / row[r];
                EACH_VECTOR(v) {
                    REAL *target = columns + (i + r) * stride + v * LANES;
                    x[r][v] = AT(target);
                    x[r][v] -= sums[r][v];
                    for (Py_ssize_t q = 0; q < r; q++)
                        x[r][v] -= x[q][v] * row[q];
                    x[r][v] *= inverse;
                    AT(target) = x[r][v];
                }
            }
        }
    }
}

/* b = L^-T b. */
static INLINE void FN(solve_panel_transposed)(Py_ssize_t m, Py_ssize_t width, const REAL *l,
                                              REAL *b, Py_ssize_t stride)
{
    for (Py_ssize_t at = 0; at < width; at += PANEL) {
        REAL *columns = b + at;
        for (Py_ssize_t i = (m - 1) / ROWS * ROWS; i >= 0; i -= ROWS) {
            VEC sums[ROWS][VECTORS], x[ROWS][VECTORS];
            const Py_ssize_t n_rows = m - i < ROWS ? m - i : ROWS, below = i + n_rows;
            FN(product_rows)(i, m, m - below, l + below * m, m, 1, columns + below * stride,
                             stride, sums);
            for (Py_ssize_t r = n_rows - 1; r >= 0; r--) {
                const REAL inverse = 1 / l[(i + r) * m + i + r];
                EACH_VECTOR(v) {
                    REAL *target = columns + (i + r) * stride + v * LANES;
                    x[r][v] = AT(target);
                    x[r][v] -= sums[r][v];
                    for (Py_ssize_t q = r + 1; q < n_rows; q++)
                        x[r][v] -= x[q][v] * l[(i + q) * m + i + r];
                    x[r][v] *= inverse;
                    AT(target) = x[r][v];
                }
            }
        }
    }
}

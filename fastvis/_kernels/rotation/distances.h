/* Distances of all rows of X to each other, and their gradient; see each_vector.h and panels.h. */

#include "panels.h"

#define ROW_BLOCK 128 /* rows i at a time: all others pass the caches once for each block */
#define CHUNK (8 * PANEL) /* rows j at a time: the weights of a block stay in the L2 cache */
#define NEAR ((REAL)1e-3)

/* Memory for `distances`. */
static Py_ssize_t FN(distances_bytes)(Py_ssize_t n_dims)
{
    const Py_ssize_t width = (n_dims + PANEL - 1) / PANEL * PANEL;
    return ROW_BLOCK * (CHUNK + width) * sizeof(REAL);
}

/* 1 / sqrt(x) for normal x > 0: a guess from the exponent, then Newton's iterations. */
static INLINE void FN(inverse_sqrt)(VEC *x)
{
#if HAS_VECTORS
    const int is_float = sizeof(REAL) == 4;
    const FN(mask) magic = (FN(mask)){0} + (INTEGER)(is_float ? 0x5f3759df : 0x5fe6eb50c7b537a9);
    const VEC half = *x * (REAL)0.5;
    const FN(mask) guess = magic - ((FN(mask))*x >> 1);
    VEC y = (VEC)guess;
    for (int i = 0; i < (is_float ? 3 : 4); i++)
        y *= (REAL)1.5 - half * y * y;
    *x = y;
#else
    *x = 1 / (REAL)sqrt((double)*x);
#endif
}

/* |x_i - x_j| from the differences; adds their direction to the gradient by x_i. */
static INLINE REAL FN(near_pair)(Py_ssize_t n_dims, const REAL *xi, const REAL *xj, REAL *gradient)
{
    REAL square = 0;
    for (Py_ssize_t p = 0; p < n_dims; p++)
        square += (xi[p] - xj[p]) * (xi[p] - xj[p]);
    if (!(square > 0))
        return 0;
    const REAL distance = (REAL)sqrt((double)square);
    for (Py_ssize_t p = 0; p < n_dims; p++)
        gradient[p] += (xi[p] - xj[p]) / distance;
    return distance;
}

/* Row i against the rows from first on, in lanes: weight 0 behind the last row, and where the rows
   are too near (or the same) for the difference of products; they enter by their differences. */
static TARGET void FN(repair)(Py_ssize_t n, Py_ssize_t n_dims, Py_ssize_t i, Py_ssize_t first,
                              const REAL *x, const REAL *squares, const VEC *square, VEC *weight,
                              VEC *distance, REAL *gradient)
{
    REAL s[LANES], w[LANES], d[LANES];
    memcpy(s, square, sizeof(VEC)), memcpy(w, weight, sizeof(VEC));
    memcpy(d, distance, sizeof(VEC));
    for (Py_ssize_t l = 0; l < LANES; l++) {
        const Py_ssize_t j = first + l;
        if (j >= n)
            w[l] = d[l] = 0;
        else if (s[l] <= (squares[i] + squares[j]) * NEAR)
            w[l] = 0, d[l] = FN(near_pair)(n_dims, x + i * n_dims, x + j * n_dims, gradient);
    }
    memcpy(weight, w, sizeof(VEC)), memcpy(distance, d, sizeof(VEC));
}

/* sums holds x_i x_j of ROWS rows from i on and a panel from j on: turns them into |x_i - x_j|^2;
   whether all are far enough from 0. */
static INLINE int FN(square_distances)(const REAL *row_squares, const REAL *squares,
                                       VEC sums[ROWS][VECTORS])
{
#if HAS_VECTORS
    FN(mask) near[VECTORS] = {{0}};
#else
    int near[VECTORS] = {0};
#endif
    for (int r = 0; r < ROWS; r++) {
        for (int v = 0; v < VECTORS; v++) {
            VEC scale;
            memcpy(&scale, squares + v * LANES, sizeof(VEC));
            scale += row_squares[r];
            sums[r][v] = scale - sums[r][v] * 2;
            near[v] |= sums[r][v] <= scale * NEAR;
        }
    }
    const char *bytes = (const char *)near;
    int any = 0;
    for (size_t k = 0; k < sizeof(near); k++)
        any |= bytes[k];
    return !any;
}

/* Adds 1 / |x_i - x_j| and |x_i - x_j| of a block of squares to its rows' sums, and keeps the
   former; plain (a constant where this is inlined): no lane needs `repair`. */
static INLINE void FN(weigh)(const int plain, Py_ssize_t n, Py_ssize_t n_rows, Py_ssize_t n_dims,
                             Py_ssize_t i, Py_ssize_t j, const REAL *x, const REAL *squares,
                             VEC square[ROWS][VECTORS], REAL *gradient, VEC *row_distance,
                             VEC *row_weight, REAL *weights)
{
    for (Py_ssize_t r = 0; r < ROWS; r++) {
        for (int v = 0; v < VECTORS; v++) {
            VEC weight = square[r][v], distance;
            FN(inverse_sqrt)(&weight);
            distance = weight * square[r][v];
            if (!plain && r < n_rows)
                FN(repair)(n, n_dims, i + r, j + v * LANES, x, squares, &square[r][v], &weight,
                           &distance, gradient + (i + r) * n_dims);
            row_distance[r] += distance;
            row_weight[r] += weight;
            memcpy(weights + r * CHUNK + v * LANES, &weight, sizeof(VEC));
        }
    }
}

/* For rows i in [start, stop): sums[i] = sum_j |x_i - x_j| and gradient[i] = its gradient by x_i.

   x (n_padded, n_dims), zero behind n; squares (n_padded,): |x_j|^2; columns (n_padded / PANEL,
   n_dims, PANEL): panels of x's transpose; rows (width / PANEL, n, PANEL): panels of x; n_padded
   and width: n and n_dims in whole panels. Distances come from |x_i|^2 + |x_j|^2 - 2 x_i x_j, but
   where that cancels, from the differences. memory: distances_bytes, aligned. */
static TARGET void FN(distances)(Py_ssize_t start, Py_ssize_t stop, Py_ssize_t n, Py_ssize_t n_dims,
                                 const REAL *x, const REAL *squares, const REAL *columns,
                                 const REAL *rows, void *memory, double *sums, REAL *gradient)
{
    const Py_ssize_t width = (n_dims + PANEL - 1) / PANEL * PANEL;
    REAL *weights = memory, *pulled = weights + ROW_BLOCK * CHUNK; /* sum_j w_ij x_j */
    for (Py_ssize_t i0 = start; i0 < stop; i0 += ROW_BLOCK) {
        const Py_ssize_t n_rows = stop - i0 < ROW_BLOCK ? stop - i0 : ROW_BLOCK;
        double total_weight[ROW_BLOCK] = {0};
        memset(pulled, 0, ROW_BLOCK * width * sizeof(REAL));
        memset(gradient + i0 * n_dims, 0, n_rows * n_dims * sizeof(REAL));
        for (Py_ssize_t i = 0; i < n_rows; i++)
            sums[i0 + i] = 0;
        for (Py_ssize_t j0 = 0; j0 < n; j0 += CHUNK) {
            const Py_ssize_t n_columns = n - j0 < CHUNK ? n - j0 : CHUNK;
            const Py_ssize_t n_panels = (n_columns + PANEL - 1) / PANEL;
            VEC row_distance[ROW_BLOCK], row_weight[ROW_BLOCK];
            memset(row_distance, 0, sizeof(row_distance));
            memset(row_weight, 0, sizeof(row_weight));
            for (Py_ssize_t p = 0; p < n_panels; p++) {
                const Py_ssize_t j = j0 + p * PANEL;
                for (Py_ssize_t r0 = 0; r0 < n_rows; r0 += ROWS) {
                    VEC square[ROWS][VECTORS];
                    FN(block)(n_dims, x + (i0 + r0) * n_dims, 1, n_dims, columns + j * n_dims,
                              square);
                    const int far = FN(square_distances)(squares + i0 + r0, squares + j, square);
                    REAL *target = weights + r0 * CHUNK + p * PANEL;
                    if (far && j + PANEL <= n)
                        FN(weigh)(1, n, n_rows - r0, n_dims, i0 + r0, j, x, squares, square,
                                  gradient, row_distance + r0, row_weight + r0, target);
                    else
                        FN(weigh)(0, n, n_rows - r0, n_dims, i0 + r0, j, x, squares, square,
                                  gradient, row_distance + r0, row_weight + r0, target);
                }
            }
            for (Py_ssize_t r = 0; r < n_rows; r++) {
                REAL d[LANES], w[LANES];
                memcpy(d, &row_distance[r], sizeof(d));
                memcpy(w, &row_weight[r], sizeof(w));
                for (Py_ssize_t l = 0; l < LANES; l++) {
                    sums[i0 + r] += d[l];
                    total_weight[r] += w[l];
                }
            }
            for (Py_ssize_t c = 0; c < width; c += PANEL) {
                for (Py_ssize_t r0 = 0; r0 < n_rows; r0 += ROWS) {
                    VEC sums_of[ROWS][VECTORS];
                    FN(block)(n_columns, weights + r0 * CHUNK, 1, CHUNK, rows + c * n + j0 * PANEL,
                              sums_of);
                    for (int r = 0; r < ROWS; r++) {
                        REAL *target = pulled + (r0 + r) * width + c;
                        VEC total[VECTORS];
                        memcpy(total, target, sizeof(total));
                        for (int v = 0; v < VECTORS; v++)
                            total[v] += sums_of[r][v];
                        memcpy(target, total, sizeof(total));
                    }
                }
            }
        }
        for (Py_ssize_t i = 0; i < n_rows; i++)
            for (Py_ssize_t p = 0; p < n_dims; p++)
                gradient[(i0 + i) * n_dims + p] +=
                    (REAL)total_weight[i] * x[(i0 + i) * n_dims + p] - pulled[i * width + p];
    }
}

#undef NEAR
#undef CHUNK
#undef ROW_BLOCK
#include "end_panels.h"

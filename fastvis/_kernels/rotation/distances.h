/* Distances of all pairs of rows of X, and their gradient; see each_vector.h and panels.h.

   x (n_padded, n_dims), zero from row n on, n_padded in whole tiles; squares (n_padded,): |x_j|^2;
   columns (n_padded / PANEL, n_dims, PANEL): panels of x's transpose; rows and pulled (width /
   PANEL, n_padded, PANEL): panels of x and of sums like it, width in whole panels. With the weights
   w_ij = 1 / |x_i - x_j|, the gradient of sum_j |x_i - x_j| by x_i is

       total_weight[i] x_i - pulled[i],    total_weight[i] = sum_j w_ij,  pulled[i] = sum_j w_ij x_j
*/

#if BYTES == 32 /* two vectors: features by orientations are often a multiple of 16 */
#define VECTORS 2
#define ROWS 6
#endif
#include "panels.h"

#define TILE 96 /* rows i and rows j at a time: all that they need stays in the L2 cache */
#define NEAR ((REAL)(sizeof(REAL) == 4 ? 1e-2 : 1e-3))
_Static_assert(TILE % PANEL == 0 && TILE % ROWS == 0, "a tile has whole panels and blocks");

#if HAS_VECTORS
typedef float FN(floats) __attribute__((vector_size(BYTES)));
#endif

/* What is given for all pairs, and what is added up. */
typedef struct {
    Py_ssize_t n, n_padded, n_dims, width;
    const REAL *x, *squares, *columns, *rows;
    REAL *pulled;
    double *total_weight;
} FN(problem);

/* Sums of the columns of tiles start to stop of x (n, n_dims), totals (n_tiles, n_dims), and the
   largest of |x|, (n_tiles,). */
static TARGET void FN(summarize)(Py_ssize_t start, Py_ssize_t stop, Py_ssize_t n, Py_ssize_t n_dims,
                                 const REAL *x, double *totals, REAL *largest)
{
    for (Py_ssize_t t = start; t < stop; t++) {
        double *total = totals + t * n_dims;
        REAL most = 0;
        memset(total, 0, n_dims * sizeof(double));
        for (Py_ssize_t i = t * TILE; i < (t + 1) * TILE && i < n; i++) {
            for (Py_ssize_t p = 0; p < n_dims; p++) {
                const REAL v = x[i * n_dims + p], size = v < 0 ? -v : v;
                total[p] += v;
                most = size > most ? size : most;
            }
        }
        largest[t] = most;
    }
}

/* Tiles start to stop of all that the pairs need, and pulled zero: x is given scale_a scale_b -
   center, and not yet the problem's. */
static TARGET void FN(prepare)(Py_ssize_t start, Py_ssize_t stop, Py_ssize_t n, Py_ssize_t n_padded,
                               Py_ssize_t n_dims, Py_ssize_t width, const REAL *x,
                               const REAL *center, REAL scale_a, REAL scale_b, REAL *centered,
                               REAL *squares, REAL *columns, REAL *rows, REAL *pulled)
{
    for (Py_ssize_t i = start * TILE; i < stop * TILE; i++) {
        REAL sums[PANEL] = {0}, square = 0;
        for (Py_ssize_t c = 0; c < width; c += PANEL) {
            const Py_ssize_t n_lanes = c + PANEL <= n_dims ? PANEL : n_dims - c;
            REAL v[PANEL] = {0};
            for (Py_ssize_t l = 0; i < n && l < n_lanes; l++)
                v[l] = x[i * n_dims + c + l] * scale_a * scale_b - center[c + l];
            for (Py_ssize_t l = 0; l < PANEL; l++)
                sums[l] += v[l] * v[l];
            memcpy(rows + c * n_padded + i * PANEL, v, sizeof(v));
            memset(pulled + c * n_padded + i * PANEL, 0, sizeof(v));
            REAL *column = columns + (i / PANEL * n_dims + c) * PANEL + i % PANEL;
            for (Py_ssize_t l = 0; l < n_lanes; l++) {
                centered[i * n_dims + c + l] = v[l];
                column[l * PANEL] = v[l];
            }
        }
        for (Py_ssize_t l = 0; l < PANEL; l++)
            square += sums[l];
        squares[i] = square;
    }
}

/* Rows start to stop of the gradient (n, n_dims), times factor. */
static TARGET void FN(gradient)(Py_ssize_t start, Py_ssize_t stop, Py_ssize_t n_padded,
                                Py_ssize_t n_dims, REAL factor, const REAL *x, const REAL *pulled,
                                const double *total_weight, REAL *out)
{
    for (Py_ssize_t i = start; i < stop; i++) {
        const REAL weight = (REAL)total_weight[i];
        for (Py_ssize_t c = 0; c < n_dims; c += PANEL) {
            const Py_ssize_t n_lanes = c + PANEL <= n_dims ? PANEL : n_dims - c, k = i * n_dims + c;
            const REAL *sums = pulled + c * n_padded + i * PANEL;
            for (Py_ssize_t l = 0; l < n_lanes; l++)
                out[k + l] = (x[k + l] * weight - sums[l]) * factor;
        }
    }
}

/* 1 / sqrt(x) for normal x > 0: a guess, then Newton's iterations. */
static INLINE TARGET void FN(inverse_sqrt)(VEC *x)
{
#if HAS_VECTORS
    const int is_float = sizeof(REAL) == 4;
    const VEC half = *x * (REAL)0.5;
    const FN(mask) magic = (FN(mask)){0} + (INTEGER)(is_float ? 0x5f3759df : 0x5fe6eb50c7b537a9);
    const FN(mask) from_exponent = magic - ((FN(mask))*x >> 1);
    VEC y = (VEC)from_exponent;
    int n_iterations = is_float ? 3 : 4;
#if HAS_AVX
    if (is_float) { /* the processor's guess has 12 to 14 bits */
        n_iterations = 1;
#if LEVEL == 0
        y = (VEC)__builtin_ia32_rsqrtps((FN(floats))*x);
#elif LEVEL == 1
        y = (VEC)__builtin_ia32_rsqrtps256((FN(floats))*x);
#else
        y = (VEC)__builtin_ia32_rsqrt14ps512_mask((FN(floats))*x, (FN(floats)){0}, 0xffff);
#endif
    }
#endif
    for (int i = 0; i < n_iterations; i++)
        y *= (REAL)1.5 - half * y * y;
    *x = y;
#else
    *x = 1 / (REAL)sqrt((double)*x);
#endif
}

/* |x_i - x_j| from the differences; takes their direction out of what is pulled. */
static INLINE REAL FN(near_pair)(const FN(problem) *all, Py_ssize_t i, Py_ssize_t j, int is_diagonal)
{
    const REAL *xi = all->x + i * all->n_dims, *xj = all->x + j * all->n_dims;
    REAL square = 0;
    for (Py_ssize_t p = 0; p < all->n_dims; p++)
        square += (xi[p] - xj[p]) * (xi[p] - xj[p]);
    if (!(square > 0))
        return 0;
    const REAL distance = (REAL)sqrt((double)square);
    for (Py_ssize_t p = 0; p < all->n_dims; p++) {
        const REAL direction = (xi[p] - xj[p]) / distance;
        REAL *panel = all->pulled + p / PANEL * all->n_padded * PANEL + p % PANEL;
        panel[i * PANEL] -= direction;
        if (!is_diagonal) /* there the pair comes again, as (j, i) */
            panel[j * PANEL] += direction;
    }
    return distance;
}

/* Row i against the rows from first on, in lanes: weight 0 behind the last row, and where the rows
   are too near (or the same) for the difference of products; they enter by their differences. */
static TARGET void FN(repair)(const FN(problem) *all, Py_ssize_t i, Py_ssize_t first,
                              int is_diagonal, const VEC *square, VEC *weight, VEC *distance)
{
    REAL s[LANES], w[LANES], d[LANES];
    memcpy(s, square, sizeof(VEC)), memcpy(w, weight, sizeof(VEC));
    memcpy(d, distance, sizeof(VEC));
    for (Py_ssize_t l = 0; l < LANES; l++) {
        const Py_ssize_t j = first + l;
        if (i >= all->n || j >= all->n)
            w[l] = d[l] = 0;
        else if (s[l] <= (all->squares[i] + all->squares[j]) * NEAR)
            w[l] = 0, d[l] = FN(near_pair)(all, i, j, is_diagonal);
    }
    memcpy(weight, w, sizeof(VEC)), memcpy(distance, d, sizeof(VEC));
}

/* sums holds x_i x_j of ROWS rows and a panel: turns them into |x_i - x_j|^2; whether all are far
   enough from 0. */
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

/* ROWS rows from i on against a panel from j on: their weights, and the sums of these and of the
   distances; plain (a constant where this is inlined): no lane needs `repair`. */
static INLINE TARGET void FN(weigh)(const int plain, const FN(problem) *all, Py_ssize_t i,
                                    Py_ssize_t j, int is_diagonal, VEC square[ROWS][VECTORS],
                                    REAL *weights, VEC *row_weight, VEC *row_distance,
                                    VEC column_weight[VECTORS])
{
    for (Py_ssize_t r = 0; r < ROWS; r++) {
        for (int v = 0; v < VECTORS; v++) {
            VEC weight = square[r][v], distance;
            FN(inverse_sqrt)(&weight);
            distance = weight * square[r][v];
            if (!plain)
                FN(repair)(all, i + r, j + v * LANES, is_diagonal, &square[r][v], &weight,
                           &distance);
            row_distance[r] += distance;
            row_weight[r] += weight;
            column_weight[v] += weight;
            memcpy(weights + r * TILE + v * LANES, &weight, sizeof(VEC));
        }
    }
}

/* The weights of TILE rows from i0 on and TILE rows from j0 on; adds them up by rows and, unless
   these are the same rows, by columns. Returns the sum of the distances. */
static TARGET double FN(weigh_tile)(const FN(problem) *all, Py_ssize_t i0, Py_ssize_t j0,
                                    REAL *weights)
{
    const int is_diagonal = i0 == j0, is_last = i0 + TILE > all->n || j0 + TILE > all->n;
    const Py_ssize_t n_dims = all->n_dims;
    const REAL *squares = all->squares;
    VEC row_weight[TILE], row_distance[TILE];
    memset(row_weight, 0, sizeof(row_weight));
    memset(row_distance, 0, sizeof(row_distance));
    for (Py_ssize_t p = 0; p < TILE; p += PANEL) {
        VEC column_weight[VECTORS];
        memset(column_weight, 0, sizeof(column_weight));
        const Py_ssize_t j = j0 + p;
        for (Py_ssize_t r = 0; r < TILE; r += ROWS) {
            const Py_ssize_t i = i0 + r;
            VEC square[ROWS][VECTORS];
            FN(block)(n_dims, all->x + i * n_dims, 1, n_dims, all->columns + j * n_dims, PANEL,
                      square);
            const int far = FN(square_distances)(squares + i, squares + j, square);
            REAL *target = weights + r * TILE + p;
            if (far && !is_last)
                FN(weigh)(1, all, i, j, is_diagonal, square, target, row_weight + r,
                          row_distance + r, column_weight);
            else
                FN(weigh)(0, all, i, j, is_diagonal, square, target, row_weight + r,
                          row_distance + r, column_weight);
        }
        REAL sums[PANEL];
        memcpy(sums, column_weight, sizeof(sums));
        for (Py_ssize_t l = 0; l < PANEL && !is_diagonal; l++)
            all->total_weight[j + l] += sums[l];
    }
    double total = 0;
    for (Py_ssize_t r = 0; r < TILE; r++) {
        REAL w[LANES], d[LANES];
        memcpy(w, &row_weight[r], sizeof(w)), memcpy(d, &row_distance[r], sizeof(d));
        for (Py_ssize_t l = 0; l < LANES; l++) {
            all->total_weight[i0 + r] += w[l];
            total += d[l];
        }
    }
    return is_diagonal ? total / 2 : total;
}

/* pulled[i] += sum_j w_ij x_j for TILE rows from i0 on and TILE rows from j0 on; w_ij lies at
   weights[i step_i + j step_j] (constants where this is inlined) */
static INLINE TARGET void FN(pull)(const FN(problem) *all, Py_ssize_t i0, Py_ssize_t j0,
                                   const REAL *weights, const Py_ssize_t step_i,
                                   const Py_ssize_t step_j)
{
    for (Py_ssize_t c = 0; c < all->width; c += PANEL) {
        const REAL *rows = all->rows + c * all->n_padded + j0 * PANEL;
        for (Py_ssize_t r = 0; r < TILE; r += ROWS) {
            VEC sums[ROWS][VECTORS];
            FN(block)(TILE, weights + r * step_i, step_j, step_i, rows, PANEL, sums);
            for (int k = 0; k < ROWS; k++) {
                REAL *target = all->pulled + c * all->n_padded + (i0 + r + k) * PANEL;
                for (int v = 0; v < VECTORS; v++, target += LANES) {
                    VEC total;
                    memcpy(&total, target, sizeof(total));
                    total += sums[k][v];
                    memcpy(target, &total, sizeof(total));
                }
            }
        }
    }
}

/* Rows n_block a .. n_block (a + 1) against rows n_block b .. n_block (b + 1), n_block in whole
   tiles; of the same rows, each pair once. Adds to pulled and total_weight of both, and returns the
   sum of their distances. weights: TILE x TILE, aligned. */
static TARGET double FN(distances)(Py_ssize_t a, Py_ssize_t b, Py_ssize_t n_block, Py_ssize_t n,
                                   Py_ssize_t n_padded, Py_ssize_t n_dims, Py_ssize_t width,
                                   const REAL *x, const REAL *squares, const REAL *columns,
                                   const REAL *rows, REAL *weights, REAL *pulled,
                                   double *total_weight)
{
    const FN(problem) all = {n, n_padded, n_dims, width, x, squares, columns, rows, pulled,
                             total_weight};
    const Py_ssize_t i_stop = n_block * (a + 1) < n_padded ? n_block * (a + 1) : n_padded;
    const Py_ssize_t j_stop = n_block * (b + 1) < n_padded ? n_block * (b + 1) : n_padded;
    double total = 0;
    for (Py_ssize_t i = n_block * a; i < i_stop; i += TILE) {
        for (Py_ssize_t j = a == b ? i : n_block * b; j < j_stop; j += TILE) {
            total += FN(weigh_tile)(&all, i, j, weights);
            FN(pull)(&all, i, j, weights, TILE, 1);
            if (i != j)
                FN(pull)(&all, j, i, weights, 1, TILE);
        }
    }
    return total;
}

#undef NEAR
#undef TILE
#include "end_panels.h"

/* Correlation of an image with filters of one size, one frequency along the rows at a time, and its
   adjoint; see each_vector.h.

   Maps are the lanes of a vector. A small block of the result stays in registers until its sums are
   complete, so that the arithmetic units wait for nothing. A general matrix product reaches half of
   that here: its matrices are too thin.

   Weights w (blocks, q, 2, BLOCK): BLOCK maps side by side, real parts, then imaginary parts, for
   each of the q = f C numbers of a filter (rows, then channels); the last block is filled up with
   zeros.
*/

#if HAS_VECTORS && BYTES > 16
typedef REAL FN(half) __attribute__((vector_size(BYTES / 2)));
typedef REAL FN(quarter) __attribute__((vector_size(BYTES / 4)));
#endif
#define BLOCK ((Py_ssize_t)(64 / sizeof(REAL)))
#define Y_ROWS (BYTES == 64 ? 12 : 6) /* 2 sums each: all but some of the 32 or 16 registers */
#define X_ROWS (BYTES == 64 ? 4 : 2)  /* 2 sums for each of up to 3 channels */

/* Where the weights of the maps from first_map on stand. */
static inline const REAL *FN(weights)(const REAL *w, Py_ssize_t q, Py_ssize_t first_map)
{
    return w + first_map / BLOCK * q * 2 * BLOCK + first_map % BLOCK;
}

static INLINE REAL FN(sum)(const VEC *v)
{
    REAL sum = 0;
#if HAS_VECTORS && BYTES > 16
    FN(half) a[2];
    FN(quarter) b[2];
    memcpy(a, v, sizeof(a));
    a[0] += a[1];
    memcpy(b, a, sizeof(b));
    b[0] += b[1];
    for (size_t l = 0; l < sizeof(b[0]) / sizeof(REAL); l++)
        sum += b[0][l];
#else
    REAL lane[LANES];
    memcpy(lane, v, sizeof(lane));
    for (Py_ssize_t l = 0; l < LANES; l++)
        sum += lane[l];
#endif
    return sum;
}

/* y_r = sum_p conj(w_p) x_(r C + p) for LANES maps; to yr, yi, n apart from row to row. */
static INLINE void FN(y_block)(const int rows, Py_ssize_t channels, Py_ssize_t q,
                               const REAL *xr, const REAL *xi, const REAL *w, Py_ssize_t n,
                               Py_ssize_t size, REAL *yr, REAL *yi)
{
    VEC re[Y_ROWS], im[Y_ROWS];
    for (int r = 0; r < rows; r++)
        re[r] = im[r] = (VEC){0};
    for (Py_ssize_t p = 0; p < q; p++, w += 2 * BLOCK) {
        VEC wr, wi;
        memcpy(&wr, w, sizeof(VEC));
        memcpy(&wi, w + BLOCK, sizeof(VEC));
        for (int r = 0; r < rows; r++) {
            const REAL a = xr[r * channels + p], b = xi[r * channels + p];
            re[r] += wr * a; /* apart: each becomes one multiply-add */
            re[r] += wi * b;
            im[r] += wr * b;
            im[r] -= wi * a;
        }
    }
    for (int r = 0; r < rows; r++) {
        if (size == LANES) {
            memcpy(yr + r * n, &re[r], sizeof(VEC));
            memcpy(yi + r * n, &im[r], sizeof(VEC));
        } else {
            memcpy(yr + r * n, &re[r], size * sizeof(REAL));
            memcpy(yi + r * n, &im[r], size * sizeof(REAL));
        }
    }
}

/* y (n_rows, n), real and imaginary parts, from the rows of x that begin at xr and xi. */
static TARGET void FN(correlate)(Py_ssize_t channels, Py_ssize_t q, Py_ssize_t n_rows, Py_ssize_t n,
                                 const REAL *xr, const REAL *xi, const REAL *w, REAL *yr, REAL *yi)
{
    for (Py_ssize_t j = 0; j < n; j += LANES) {
        const REAL *v = FN(weights)(w, q, j);
        const Py_ssize_t size = n - j < LANES ? n - j : LANES;
        Py_ssize_t r = 0;
#define Y_BLOCK(rows)                                                                              \
    for (; r + rows <= n_rows; r += rows)                                                          \
        FN(y_block)(rows, channels, q, xr + r * channels, xi + r * channels, v, n, size,           \
                    yr + r * n + j, yi + r * n + j);
        Y_BLOCK(Y_ROWS)
        Y_BLOCK(4)
        Y_BLOCK(1)
#undef Y_BLOCK
    }
}

/* dx_(t, c) = sum_i w_(i, c) y_(t - i) over all maps, for X_ROWS rows t and some of C channels;
   y (blocks, n_padded, 2): vectors, from the row t - i = 0 on. */
static INLINE void FN(dx_block)(const int channels, Py_ssize_t C, Py_ssize_t q, Py_ssize_t n_blocks,
                                Py_ssize_t n_padded, Py_ssize_t t, Py_ssize_t i0, Py_ssize_t i1,
                                Py_ssize_t n_rows, const REAL *w, const VEC *y, REAL *dxr,
                                REAL *dxi)
{
    VEC re[X_ROWS][3], im[X_ROWS][3];
    for (int r = 0; r < X_ROWS; r++)
        for (int c = 0; c < channels; c++)
            re[r][c] = im[r][c] = (VEC){0};
    for (Py_ssize_t b = 0; b < n_blocks; b++) {
        const REAL *v = FN(weights)(w, q, b * LANES) + i0 * C * 2 * BLOCK;
        const VEC *row = y + 2 * (b * n_padded + t - i0);
        for (Py_ssize_t i = i0; i < i1; i++, v += C * 2 * BLOCK, row -= 2) {
            for (int c = 0; c < channels; c++) {
                VEC wr, wi;
                memcpy(&wr, v + c * 2 * BLOCK, sizeof(VEC));
                memcpy(&wi, v + c * 2 * BLOCK + BLOCK, sizeof(VEC));
                for (int r = 0; r < X_ROWS; r++) {
                    re[r][c] += wr * row[2 * r];
                    re[r][c] -= wi * row[2 * r + 1];
                    im[r][c] += wr * row[2 * r + 1];
                    im[r][c] += wi * row[2 * r];
                }
            }
        }
    }
    for (int r = 0; r < X_ROWS; r++) {
        for (int c = 0; c < channels; c++) {
            const REAL a = FN(sum)(&re[r][c]), b = FN(sum)(&im[r][c]);
            if (t + r < n_rows)
                dxr[(t + r) * C + c] = a, dxi[(t + r) * C + c] = b;
        }
    }
}

/* Vectors in the memory of `adjoint`: rows of y, with rows of zeros around. */
static Py_ssize_t FN(n_vectors)(Py_ssize_t n_rows, Py_ssize_t n)
{
    return (n + LANES - 1) / LANES * (n_rows + 2 * (X_ROWS - 1)) * 2;
}

static Py_ssize_t FN(adjoint_bytes)(Py_ssize_t n_rows, Py_ssize_t n)
{
    return FN(n_vectors)(n_rows, n) * sizeof(VEC);
}

/* dx (n_rows + f - 1, C), real and imaginary parts, from y (n_rows, n); memory: adjoint_bytes,
   aligned, zero before the first of calls for the same n_rows and n. */
static TARGET void FN(adjoint)(Py_ssize_t channels, Py_ssize_t q, Py_ssize_t n_rows, Py_ssize_t n,
                               const REAL *yr, const REAL *yi, const REAL *w, void *memory,
                               REAL *dxr, REAL *dxi)
{
    VEC *room = memory;
    const Py_ssize_t f = q / channels, n_blocks = (n + LANES - 1) / LANES;
    const Py_ssize_t n_padded = n_rows + 2 * (X_ROWS - 1), n_out = n_rows + f - 1;
    for (Py_ssize_t b = 0; b < n_blocks; b++) {
        const Py_ssize_t j = b * LANES, size = n - j < LANES ? n - j : LANES;
        VEC *target = room + 2 * (b * n_padded + X_ROWS - 1);
        for (Py_ssize_t r = 0; r < n_rows; r++) {
            if (size == LANES) {
                memcpy(target + 2 * r, yr + r * n + j, sizeof(VEC));
                memcpy(target + 2 * r + 1, yi + r * n + j, sizeof(VEC));
            } else {
                memcpy(target + 2 * r, yr + r * n + j, size * sizeof(REAL));
                memcpy(target + 2 * r + 1, yi + r * n + j, size * sizeof(REAL));
            }
        }
    }
    for (Py_ssize_t t = 0; t < n_out; t += X_ROWS) {
        const Py_ssize_t i0 = t < n_rows ? 0 : t - n_rows + 1;
        const Py_ssize_t i1 = t + X_ROWS < f ? t + X_ROWS : f;
        Py_ssize_t c = 0;
#define DX_BLOCK(some)                                                                             \
    for (; c + some <= channels; c += some)                                                        \
        FN(dx_block)(some, channels, q, n_blocks, n_padded, t, i0, i1, n_out,                      \
                     w + c * 2 * BLOCK, room + 2 * (X_ROWS - 1), dxr + c, dxi + c);
        DX_BLOCK(3)
        DX_BLOCK(1)
#undef DX_BLOCK
    }
}

#undef BLOCK
#undef Y_ROWS
#undef X_ROWS

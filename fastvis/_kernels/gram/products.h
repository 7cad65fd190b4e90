/* The two dense products of the Gram model; see each_vector.h.

   Both go by panels, VECTORS of neighboring maps packed one below the other, so that a block of
   ROWS x PANEL sums stays in registers until it is complete. For 1024 maps that is as fast as a
   BLAS; for 256 its symmetric product reaches little more than half of it.
*/

#define VECTORS (BYTES == 32 ? 3 : 2)
#define ROWS (!HAS_VECTORS ? 1 : BYTES == 64 ? 8 : 4) /* ROWS x VECTORS sums */
#define PANEL (VECTORS * LANES)
_Static_assert(PANEL % ROWS == 0, "a block of rows lies in one panel");

static Py_ssize_t FN(panel_width)(void)
{
    return PANEL;
}


/* sums[r] = sum_p a[p step_p + r step_r] b[p], ROWS x PANEL; b (n, PANEL) */
static INLINE void FN(block)(Py_ssize_t n, const REAL *a, Py_ssize_t step_p, Py_ssize_t step_r,
                             const REAL *b, VEC sums[ROWS][VECTORS])
{
    VEC s[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++)
            s[r][v] = (VEC){0};
    for (Py_ssize_t p = 0; p < n; p++, a += step_p, b += PANEL) {
        VEC c[VECTORS];
        memcpy(c, b, sizeof(c));
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++)
                s[r][v] += c[v] * a[r * step_r];
    }
    memcpy(sums, s, sizeof(s));
}

/* Columns of (n_rows, n) as panels (n_panels, n_rows, PANEL), filled up with zeros. */
static TARGET void FN(pack)(Py_ssize_t n_rows, Py_ssize_t n, Py_ssize_t n_panels, const REAL *a,
                            REAL *panels)
{
    for (Py_ssize_t i = 0; i < n_rows; i++) {
        for (Py_ssize_t j = 0; j < n_panels * PANEL; j += PANEL) {
            REAL *target = panels + j * n_rows + i * PANEL;
            const Py_ssize_t size = n - j < PANEL ? n - j : PANEL;
            if (size < PANEL)
                memset(target, 0, PANEL * sizeof(REAL));
            if (size == PANEL)
                memcpy(target, a + i * n + j, PANEL * sizeof(REAL));
            else if (size > 0)
                memcpy(target, a + i * n + j, size * sizeof(REAL));
        }
    }
}

/* gram (width, width) += F' F in panels [begin, end) of its columns, from the first row to the
   diagonal; panels of F: (end, n_pixels, PANEL). */
static TARGET void FN(add_gram)(Py_ssize_t n_pixels, Py_ssize_t begin, Py_ssize_t end,
                                Py_ssize_t width, const REAL *panels, REAL *gram)
{
    for (Py_ssize_t j = begin * PANEL; j < end * PANEL; j += PANEL) {
        for (Py_ssize_t i = 0; i < j + PANEL; i += ROWS) {
            const REAL *a = panels + i / PANEL * PANEL * n_pixels + i % PANEL;
            VEC sums[ROWS][VECTORS];
            FN(block)(n_pixels, a, PANEL, 1, panels + j * n_pixels, sums);
            for (int r = 0; r < ROWS; r++) {
                REAL *target = gram + (i + r) * width + j;
                VEC total[VECTORS];
                memcpy(total, target, sizeof(total));
                for (int v = 0; v < VECTORS; v++)
                    total[v] += sums[r][v];
                memcpy(target, total, sizeof(total));
            }
        }
    }
}

/* out (n_pixels, n_panels PANEL) = F D; F (n_pixels, n), n_pixels a multiple of 8, and so of ROWS;
   panels of D: (n_panels, n, PANEL). */
static TARGET void FN(multiply)(Py_ssize_t n_pixels, Py_ssize_t n, Py_ssize_t n_panels,
                                const REAL *F, const REAL *panels, REAL *out)
{
    for (Py_ssize_t j = 0; j < n_panels; j++) {
        for (Py_ssize_t m = 0; m < n_pixels; m += ROWS) {
            VEC sums[ROWS][VECTORS];
            FN(block)(n, F + m * n, 1, n, panels + j * n * PANEL, sums);
            for (int r = 0; r < ROWS; r++)
                memcpy(out + ((m + r) * n_panels + j) * PANEL, sums[r], sizeof(sums[r]));
        }
    }
}

/* f <- d phi'(f), by the value f of phi: 0 linear, 1 relu, 2 sigmoid. */
static TARGET void FN(slope)(Py_ssize_t n, int nonlinearity, const REAL *restrict d,
                             REAL *restrict f)
{
    if (nonlinearity == 1) {
        for (Py_ssize_t i = 0; i < n; i++)
            f[i] = f[i] > 0 ? d[i] : 0;
    } else if (nonlinearity == 2) {
        for (Py_ssize_t i = 0; i < n; i++)
            f[i] = d[i] * (f[i] * (1 - f[i]));
    } else {
        memcpy(f, d, n * sizeof(REAL));
    }
}

#undef PANEL
#undef ROWS
#undef VECTORS

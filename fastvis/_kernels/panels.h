/* Dense products by panels; see each_vector.h.

   A panel is VECTORS of neighboring columns, packed one below the other, so that a block of
   ROWS x PANEL sums stays in registers while it runs through them. A kernel may define both before.
*/

#ifndef ROWS
#define VECTORS (BYTES == 32 ? 3 : 2)
#define ROWS (!HAS_VECTORS ? 1 : BYTES == 64 ? 8 : 4) /* ROWS x VECTORS sums */
#endif
#define PANEL (VECTORS * LANES)

static Py_ssize_t FN(panel_width)(void)
{
    return PANEL;
}

/* sums[r] = sum_p a[p step_p + r step_r] b[p], ROWS x PANEL; rows of b (n, PANEL) are step_b apart */
static INLINE void FN(block)(Py_ssize_t n, const REAL *a, Py_ssize_t step_p, Py_ssize_t step_r,
                             const REAL *b, Py_ssize_t step_b, VEC sums[ROWS][VECTORS])
{
    VEC s[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++)
            s[r][v] = (VEC){0};
    for (Py_ssize_t p = 0; p < n; p++, a += step_p, b += step_b) {
        VEC c[VECTORS];
        for (int v = 0; v < VECTORS; v++)
            c[v] = AT(b + v * LANES);
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

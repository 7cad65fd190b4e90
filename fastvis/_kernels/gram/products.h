/* The two dense products of the Gram model; see panels.h. For 1024 maps they are as fast as a BLAS;
   for 256 its symmetric product reaches little more than half of that. */

#include "panels.h"

_Static_assert(PANEL % ROWS == 0, "a block of rows lies in one panel");

/* gram (width, width) += F' F in panels [begin, end) of its columns, from the first row to the
   diagonal; panels of F: (end, n_pixels, PANEL). */
static TARGET void FN(add_gram)(Py_ssize_t n_pixels, Py_ssize_t begin, Py_ssize_t end,
                                Py_ssize_t width, const REAL *panels, REAL *gram)
{
    for (Py_ssize_t j = begin * PANEL; j < end * PANEL; j += PANEL) {
        for (Py_ssize_t i = 0; i < j + PANEL; i += ROWS) {
            const REAL *a = panels + i / PANEL * PANEL * n_pixels + i % PANEL;
            VEC sums[ROWS][VECTORS];
            FN(block)(n_pixels, a, PANEL, 1, panels + j * n_pixels, PANEL, sums);
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
            FN(block)(n, F + m * n, 1, n, panels + j * n * PANEL, PANEL, sums);
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

#include "end_panels.h"

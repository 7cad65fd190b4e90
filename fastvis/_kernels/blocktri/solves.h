/* Solutions with a block's triangle; see each_vector.h. */

#include "panels.h"
#include "triangles.h"

/* b = L^-1 b, or L^-T b. */
static TARGET void FN(left_solve)(int transposed, Py_ssize_t m, Py_ssize_t width, const REAL *l,
                                  REAL *b, Py_ssize_t stride)
{
    if (transposed)
        FN(solve_panel_transposed)(m, width, l, b, stride);
    else
        FN(solve_panel)(m, width, l, b, stride);
}

#undef EACH_VECTOR
#include "end_panels.h"

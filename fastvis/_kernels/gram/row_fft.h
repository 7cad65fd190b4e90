/* Real Fourier transforms of many neighboring columns at once, for one REAL type.

   Included once with REAL = float and once with REAL = double; FN(name) is the name for the type.
   The first axis is transformed; every number is a vector over LANES columns, so that a butterfly
   is a handful of vector instructions on data in the L1 cache, and what stands before and after
   (packing, the nonlinearity) costs no pass through memory of its own. Two real columns a, b
   travel as one complex z = a + i b. Stockham order: no bit reversal, two buffers in turn.
*/

#if defined(__GNUC__) || defined(__clang__)
#define LANES ((Py_ssize_t)(64 / sizeof(REAL)))
typedef REAL FN(vec) __attribute__((vector_size(64)));
#else
#define LANES 1
typedef REAL FN(vec);
#endif
#define VEC FN(vec)
enum { FN(block_columns) = 2 * LANES }; /* what inverse_block and forward_block work on */

/* One radix-4 pass over 4 m s points from (xr, xi) to (yr, yi); w: cosines, then sines. */
static CLONES void FN(pass_4)(Py_ssize_t m, Py_ssize_t s, Py_ssize_t length, const REAL *w,
                              const VEC *restrict xr, const VEC *restrict xi,
                              VEC *restrict yr, VEC *restrict yi)
{
    const REAL *wr = w, *wi = w + length;
    for (Py_ssize_t p = 0; p < m; p++) {
        const Py_ssize_t k = p * s;
        const REAL r1 = wr[k], i1 = wi[k], r2 = wr[2 * k], i2 = wi[2 * k], r3 = wr[3 * k],
                   i3 = wi[3 * k];
        for (Py_ssize_t q = 0; q < s; q++) {
            const Py_ssize_t a = q + k, b = a + s * m, c = b + s * m, d = c + s * m;
            const Py_ssize_t o = q + 4 * k;
            const VEC sr = xr[a] + xr[c], si = xi[a] + xi[c], tr = xr[a] - xr[c], ti = xi[a] - xi[c];
            const VEC ur = xr[b] + xr[d], ui = xi[b] + xi[d];
            const VEC vr = xi[b] - xi[d], vi = xr[d] - xr[b]; /* -i (b - d) */
            yr[o] = sr + ur;
            yi[o] = si + ui;
            VEC er = tr + vr, ei = ti + vi;
            yr[o + s] = er * r1 - ei * i1;
            yi[o + s] = er * i1 + ei * r1;
            er = sr - ur, ei = si - ui;
            yr[o + 2 * s] = er * r2 - ei * i2;
            yi[o + 2 * s] = er * i2 + ei * r2;
            er = tr - vr, ei = ti - vi;
            yr[o + 3 * s] = er * r3 - ei * i3;
            yi[o + 3 * s] = er * i3 + ei * r3;
        }
    }
}

/* One radix-2 pass over 2 m s points. */
static CLONES void FN(pass_2)(Py_ssize_t m, Py_ssize_t s, Py_ssize_t length, const REAL *w,
                              const VEC *restrict xr, const VEC *restrict xi,
                              VEC *restrict yr, VEC *restrict yi)
{
    for (Py_ssize_t p = 0; p < m; p++) {
        const REAL r1 = w[p * s], i1 = w[length + p * s];
        for (Py_ssize_t q = 0; q < s; q++) {
            const Py_ssize_t a = q + s * p, b = a + s * m, o = q + 2 * s * p;
            const VEC er = xr[a] - xr[b], ei = xi[a] - xi[b];
            yr[o] = xr[a] + xr[b];
            yi[o] = xi[a] + xi[b];
            yr[o + s] = er * r1 - ei * i1;
            yi[o + s] = er * i1 + ei * r1;
        }
    }
}

/* One pass of a small odd radix r, a constant where this is inlined: x_l and x_(r-l) enter by their
   sum times a cosine and their difference times a sine. */
static INLINE void FN(pass_odd)(const Py_ssize_t r, Py_ssize_t m, Py_ssize_t s, Py_ssize_t length,
                                const REAL *w, const VEC *restrict xr, const VEC *restrict xi,
                                VEC *restrict yr, VEC *restrict yi)
{
    const Py_ssize_t h = r / 2;
    for (Py_ssize_t p = 0; p < m; p++) {
        for (Py_ssize_t q = 0; q < s; q++) {
            const Py_ssize_t a = q + s * p, o = q + r * s * p;
            VEC sr[3], si[3], dr[3], di[3], y0r = xr[a], y0i = xi[a];
            for (Py_ssize_t l = 1; l <= h; l++) {
                const Py_ssize_t b = a + l * s * m, c = a + (r - l) * s * m;
                sr[l - 1] = xr[b] + xr[c], si[l - 1] = xi[b] + xi[c];
                dr[l - 1] = xr[b] - xr[c], di[l - 1] = xi[b] - xi[c];
                y0r += sr[l - 1], y0i += si[l - 1];
            }
            yr[o] = y0r, yi[o] = y0i;
            for (Py_ssize_t i = 1; i <= h; i++) {
                VEC er = xr[a], ei = xi[a], fr = dr[0] * 0, fi = fr;
                for (Py_ssize_t l = 1; l <= h; l++) {
                    const Py_ssize_t k = (i * l % r) * m * s;
                    er += sr[l - 1] * w[k], ei += si[l - 1] * w[k];
                    fr -= di[l - 1] * w[length + k], fi += dr[l - 1] * w[length + k];
                }
                const REAL *t = w + i * p * s, *u = w + (r - i) * p * s;
                VEC gr = er + fr, gi = ei + fi;
                yr[o + i * s] = gr * t[0] - gi * t[length];
                yi[o + i * s] = gr * t[length] + gi * t[0];
                gr = er - fr, gi = ei - fi;
                yr[o + (r - i) * s] = gr * u[0] - gi * u[length];
                yi[o + (r - i) * s] = gr * u[length] + gi * u[0];
            }
        }
    }
}

static CLONES void FN(pass_3)(Py_ssize_t m, Py_ssize_t s, Py_ssize_t length, const REAL *w,
                              const VEC *xr, const VEC *xi, VEC *yr, VEC *yi)
{
    FN(pass_odd)(3, m, s, length, w, xr, xi, yr, yi);
}

static CLONES void FN(pass_5)(Py_ssize_t m, Py_ssize_t s, Py_ssize_t length, const REAL *w,
                              const VEC *xr, const VEC *xi, VEC *yr, VEC *yi)
{
    FN(pass_odd)(5, m, s, length, w, xr, xi, yr, yi);
}

/* One pass of any radix r, as a sum: y_i = sum_l x_l w^((l m + p) i s); u: room for 2 r numbers. */
static CLONES void FN(pass_any)(Py_ssize_t r, Py_ssize_t m, Py_ssize_t s, Py_ssize_t length,
                                const REAL *w, REAL *u, const VEC *restrict xr,
                                const VEC *restrict xi, VEC *restrict yr, VEC *restrict yi)
{
    for (Py_ssize_t p = 0; p < m; p++) {
        for (Py_ssize_t i = 0; i < r; i++) {
            for (Py_ssize_t l = 0; l < r; l++) {
                const Py_ssize_t k = ((l * m + p) * i * s) % length;
                u[2 * l] = w[k];
                u[2 * l + 1] = w[length + k];
            }
            for (Py_ssize_t q = 0; q < s; q++) {
                const Py_ssize_t a = q + s * p, o = q + r * s * p + i * s;
                VEC er = xr[a] * u[0] - xi[a] * u[1], ei = xr[a] * u[1] + xi[a] * u[0];
                for (Py_ssize_t l = 1; l < r; l++) {
                    const VEC br = xr[a + l * s * m], bi = xi[a + l * s * m];
                    er += br * u[2 * l] - bi * u[2 * l + 1];
                    ei += br * u[2 * l + 1] + bi * u[2 * l];
                }
                yr[o] = er;
                yi[o] = ei;
            }
        }
    }
}

/* Transform (re, im) of 2 x length vectors each, from their first halves; returns 0 or 1, the half
   in which the result stands. */
static int FN(fft)(Py_ssize_t length, const long long *radices, Py_ssize_t n_radices, const REAL *w,
                   REAL *u, VEC *re, VEC *im)
{
    Py_ssize_t s = 1, n = length;
    int side = 0;
    for (Py_ssize_t i = 0; i < n_radices; i++) {
        const Py_ssize_t r = (Py_ssize_t)radices[i], m = n / r;
        VEC *xr = re + side * length, *xi = im + side * length;
        VEC *yr = re + (1 - side) * length, *yi = im + (1 - side) * length;
        if (r == 4)
            FN(pass_4)(m, s, length, w, xr, xi, yr, yi);
        else if (r == 2)
            FN(pass_2)(m, s, length, w, xr, xi, yr, yi);
        else if (r == 3)
            FN(pass_3)(m, s, length, w, xr, xi, yr, yi);
        else if (r == 5)
            FN(pass_5)(m, s, length, w, xr, xi, yr, yi);
        else
            FN(pass_any)(r, m, s, length, w, u, xr, xi, yr, yi);
        n = m, s *= r, side = 1 - side;
    }
    return side;
}

static inline REAL FN(activate)(REAL x, int nonlinearity)
{
    if (nonlinearity == 1)
        return x > 0 ? x : 0;
    if (nonlinearity == 2)
        return 1 / (1 + (REAL)exp(-(double)x));
    return x;
}

/* Where a block of columns stands in F: runs of neighbors. Column c of the transforms is map c % n
   of row c / n, rows being stride apart. */
struct FN(runs) {
    Py_ssize_t count, start[2 * LANES], size[2 * LANES];
};

static void FN(find_runs)(struct FN(runs) *runs, Py_ssize_t c, Py_ssize_t end, Py_ssize_t n,
                          Py_ssize_t stride)
{
    runs->count = 0;
    while (c < end) {
        const Py_ssize_t rest = n - c % n, size = rest < end - c ? rest : end - c;
        runs->start[runs->count] = c / n * stride + c % n;
        runs->size[runs->count++] = size;
        c += size;
    }
}

/* F (width, columns) = phi(inverse transform, unnormalized, of y), block b of 2 LANES columns;
   y (length / 2 + 1, 2, n_columns), dense: real, then imaginary parts; F: rows of n maps stride
   apart, and the next of its width elements step further; work: room for 4 length vectors,
   aligned. */
static CLONES void FN(inverse_block)(Py_ssize_t b, Py_ssize_t length, Py_ssize_t width,
                                     Py_ssize_t n_columns, Py_ssize_t n, Py_ssize_t stride,
                                     Py_ssize_t step, const long long *radices,
                                     Py_ssize_t n_radices, const REAL *w, REAL *u, VEC *work,
                                     int nonlinearity, const REAL *y, REAL *F)
{
    const Py_ssize_t c = 2 * LANES * b;
    const Py_ssize_t end = n_columns < c + 2 * LANES ? n_columns : c + 2 * LANES;
    struct FN(runs) runs;
    FN(find_runs)(&runs, c, end, n, stride);
    /* the inverse transform is the forward one with real and imaginary parts exchanged */
    VEC *im = work, *re = work + 2 * length;
    for (Py_ssize_t k = 0; k <= length / 2; k++) {
        const Py_ssize_t mirror = (length - k) % length;
        REAL real[2 * LANES] = {0}, imag[2 * LANES] = {0};
        memcpy(real, y + 2 * k * n_columns + c, (end - c) * sizeof(REAL));
        if (k != mirror) /* else a real number, but for rounding */
            memcpy(imag, y + (2 * k + 1) * n_columns + c, (end - c) * sizeof(REAL));
        VEC ar, br, ai, bi;
        memcpy(&ar, real, sizeof(VEC)), memcpy(&br, real + LANES, sizeof(VEC));
        memcpy(&ai, imag, sizeof(VEC)), memcpy(&bi, imag + LANES, sizeof(VEC));
        re[mirror] = ar + bi, im[mirror] = br - ai;
        re[k] = ar - bi, im[k] = br + ai;
    }
    const int side = FN(fft)(length, radices, n_radices, w, u, work, work + 2 * length);
    re += side * length, im += side * length;
    for (Py_ssize_t x = 0; x < width; x++) {
        REAL out[2 * LANES];
        const REAL *a = (const REAL *)(re + x), *d = (const REAL *)(im + x), *source = out;
        if (nonlinearity == 1) {
            for (Py_ssize_t j = 0; j < LANES; j++)
                out[j] = a[j] > 0 ? a[j] : 0, out[LANES + j] = d[j] > 0 ? d[j] : 0;
        } else {
            for (Py_ssize_t j = 0; j < LANES; j++)
                out[j] = FN(activate)(a[j], nonlinearity),
                out[LANES + j] = FN(activate)(d[j], nonlinearity);
        }
        for (Py_ssize_t i = 0; i < runs.count; i++) {
            memcpy(F + x * step + runs.start[i], source, runs.size[i] * sizeof(REAL));
            source += runs.size[i];
        }
    }
}

/* y = transform of F, continued by zeros to its length; everything as in inverse_block. */
static CLONES void FN(forward_block)(Py_ssize_t b, Py_ssize_t length, Py_ssize_t width,
                                     Py_ssize_t n_columns, Py_ssize_t n, Py_ssize_t stride,
                                     Py_ssize_t step, const long long *radices,
                                     Py_ssize_t n_radices, const REAL *w, REAL *u, VEC *work,
                                     const REAL *F, REAL *y)
{
    const Py_ssize_t c = 2 * LANES * b;
    const Py_ssize_t end = n_columns < c + 2 * LANES ? n_columns : c + 2 * LANES;
    struct FN(runs) runs;
    FN(find_runs)(&runs, c, end, n, stride);
    VEC *re = work, *im = work + 2 * length;
    for (Py_ssize_t x = 0; x < width; x++) {
        REAL in[2 * LANES] = {0}, *target = in;
        for (Py_ssize_t i = 0; i < runs.count; i++) {
            memcpy(target, F + x * step + runs.start[i], runs.size[i] * sizeof(REAL));
            target += runs.size[i];
        }
        memcpy(re + x, in, sizeof(VEC));
        memcpy(im + x, in + LANES, sizeof(VEC));
    }
    memset(re + width, 0, (length - width) * sizeof(VEC));
    memset(im + width, 0, (length - width) * sizeof(VEC));
    const int side = FN(fft)(length, radices, n_radices, w, u, re, im);
    const REAL half = (REAL)0.5;
    re += side * length, im += side * length;
    for (Py_ssize_t k = 0; k <= length / 2; k++) {
        const Py_ssize_t mirror = (length - k) % length;
        const VEC real[2] = {(re[k] + re[mirror]) * half, (im[k] + im[mirror]) * half};
        const VEC imag[2] = {(im[k] - im[mirror]) * half, (re[mirror] - re[k]) * half};
        memcpy(y + 2 * k * n_columns + c, real, (end - c) * sizeof(REAL));
        memcpy(y + (2 * k + 1) * n_columns + c, imag, (end - c) * sizeof(REAL));
    }
}

#undef VEC
#undef LANES

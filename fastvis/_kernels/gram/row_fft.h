/* Real Fourier transforms of many neighboring columns at once; see each_vector.h.

   The first axis is transformed; every number is a vector over LANES columns, so that a butterfly
   is a handful of vector instructions on data in the L1 cache, and what stands before and after
   (packing, the nonlinearity) costs no pass through memory of its own. Two real columns a, b
   travel as one complex z = a + i b. Stockham order: no bit reversal, two buffers in turn.
*/

#define BLOCK_COLUMNS (2 * LANES)
#define HALF(length) ((length) + 13) /* apart by no multiple of 4096 bytes: they would collide */

/* Columns in a block, and the memory that one takes, for a length. */
static Py_ssize_t FN(block_columns)(void)
{
    return BLOCK_COLUMNS;
}

static Py_ssize_t FN(block_bytes)(Py_ssize_t length)
{
    return 4 * HALF(length) * sizeof(VEC);
}

/* One radix-4 pass over 4 m s points from (xr, xi) to (yr, yi); w: cosines, then sines. */
static TARGET void FN(pass_4)(Py_ssize_t m, Py_ssize_t s, Py_ssize_t length, const REAL *w,
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
            const VEC sr = xr[a] + xr[c], si = xi[a] + xi[c];
            const VEC tr = xr[a] - xr[c], ti = xi[a] - xi[c];
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
static TARGET void FN(pass_2)(Py_ssize_t m, Py_ssize_t s, Py_ssize_t length, const REAL *w,
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

static TARGET void FN(pass_3)(Py_ssize_t m, Py_ssize_t s, Py_ssize_t length, const REAL *w,
                              const VEC *xr, const VEC *xi, VEC *yr, VEC *yi)
{
    FN(pass_odd)(3, m, s, length, w, xr, xi, yr, yi);
}

static TARGET void FN(pass_5)(Py_ssize_t m, Py_ssize_t s, Py_ssize_t length, const REAL *w,
                              const VEC *xr, const VEC *xi, VEC *yr, VEC *yi)
{
    FN(pass_odd)(5, m, s, length, w, xr, xi, yr, yi);
}

/* One pass of any radix r, as a sum: y_i = sum_l x_l w^((l m + p) i s); u: room for 2 r numbers. */
static TARGET void FN(pass_any)(Py_ssize_t r, Py_ssize_t m, Py_ssize_t s, Py_ssize_t length,
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
        VEC *xr = re + side * HALF(length), *xi = im + side * HALF(length);
        VEC *yr = re + (1 - side) * HALF(length), *yi = im + (1 - side) * HALF(length);
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

/* phi(x); NaN stays NaN. */
static INLINE void FN(activate)(VEC *x, int nonlinearity)
{
    if (nonlinearity == 1) {
#if HAS_VECTORS
        *x = (VEC)((FN(mask))*x & ~(*x <= 0));
#else
        *x = *x <= 0 ? 0 : *x;
#endif
    } else if (nonlinearity == 2) {
        REAL lane[LANES];
        memcpy(lane, x, sizeof(VEC));
        for (Py_ssize_t j = 0; j < LANES; j++)
            lane[j] = 1 / (1 + (REAL)exp(-(double)lane[j]));
        memcpy(x, lane, sizeof(VEC));
    }
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

/* Two vectors from and to size <= 2 LANES numbers; a whole block without a call or a detour. */
static INLINE void FN(load)(VEC *a, VEC *b, const REAL *source, Py_ssize_t size)
{
    if (size == 2 * LANES) {
        memcpy(a, source, sizeof(VEC));
        memcpy(b, source + LANES, sizeof(VEC));
    } else {
        REAL room[2 * LANES] = {0};
        memcpy(room, source, size * sizeof(REAL));
        memcpy(a, room, sizeof(VEC));
        memcpy(b, room + LANES, sizeof(VEC));
    }
}

static INLINE void FN(store)(REAL *target, const VEC *both, Py_ssize_t size)
{
    if (size == 2 * LANES)
        memcpy(target, both, 2 * sizeof(VEC));
    else
        memcpy(target, both, size * sizeof(REAL));
}

/* Two cache lines of the block after this one. */
static INLINE void FN(prefetch)(const REAL *next, int write)
{
    PREFETCH_LINE(next, write);
    PREFETCH_LINE(next + LANES, write);
    (void)next, (void)write;
}

/* F (width, columns) = phi(inverse transform, unnormalized, of y), block b of 2 LANES columns;
   y (length / 2 + 1, 2, n_columns): real, then imaginary parts, pitch apart; F: rows of n maps
   stride apart, and the next of its width elements step further; memory: block_bytes,
   aligned. */
static TARGET void FN(inverse_block)(Py_ssize_t b, Py_ssize_t length, Py_ssize_t width,
                                     Py_ssize_t n_columns, Py_ssize_t n, Py_ssize_t stride,
                                     Py_ssize_t step, Py_ssize_t pitch,
                                     const long long *radices, Py_ssize_t n_radices,
                                     const REAL *w, REAL *u, void *memory, int nonlinearity,
                                     const REAL *y, REAL *F)
{
    const Py_ssize_t c = BLOCK_COLUMNS * b, rest = n_columns - c;
    const Py_ssize_t size = rest < 2 * LANES ? rest : 2 * LANES;
    struct FN(runs) runs;
    FN(find_runs)(&runs, c, c + size, n, stride);
    /* the inverse transform is the forward one with real and imaginary parts exchanged */
    VEC *work = memory, *im = work, *re = work + 2 * HALF(length);
    for (Py_ssize_t k = 0; k <= length / 2; k++) {
        const Py_ssize_t mirror = k ? length - k : 0;
        FN(prefetch)(y + 2 * k * pitch + c + BLOCK_COLUMNS, 0);
        FN(prefetch)(y + (2 * k + 1) * pitch + c + BLOCK_COLUMNS, 0);
        VEC ar, br, ai = {0}, bi = {0};
        FN(load)(&ar, &br, y + 2 * k * pitch + c, size);
        if (k != mirror) /* else a real number, but for rounding */
            FN(load)(&ai, &bi, y + (2 * k + 1) * pitch + c, size);
        re[mirror] = ar + bi, im[mirror] = br - ai;
        re[k] = ar - bi, im[k] = br + ai;
    }
    const int side = FN(fft)(length, radices, n_radices, w, u, work, work + 2 * HALF(length));
    re += side * HALF(length), im += side * HALF(length);
    const Py_ssize_t next = n > BLOCK_COLUMNS ? BLOCK_COLUMNS : stride; /* same row or the next */
    for (Py_ssize_t x = 0; x < width; x++) {
        VEC both[2] = {re[x], im[x]};
        REAL *target = F + x * step;
        FN(activate)(&both[0], nonlinearity);
        FN(activate)(&both[1], nonlinearity);
        if (runs.count == 1) {
            FN(prefetch)(target + runs.start[0] + next, 1);
            FN(store)(target + runs.start[0], both, size);
        } else {
            const REAL *source = (const REAL *)both;
            for (Py_ssize_t i = 0; i < runs.count; i++) {
                memcpy(target + runs.start[i], source, runs.size[i] * sizeof(REAL));
                source += runs.size[i];
            }
        }
    }
}

/* y = transform of F, continued by zeros to its length; everything as in inverse_block. */
static TARGET void FN(forward_block)(Py_ssize_t b, Py_ssize_t length, Py_ssize_t width,
                                     Py_ssize_t n_columns, Py_ssize_t n, Py_ssize_t stride,
                                     Py_ssize_t step, Py_ssize_t pitch,
                                     const long long *radices, Py_ssize_t n_radices,
                                     const REAL *w, REAL *u, void *memory, const REAL *F, REAL *y)
{
    const Py_ssize_t c = BLOCK_COLUMNS * b, rest = n_columns - c;
    const Py_ssize_t size = rest < 2 * LANES ? rest : 2 * LANES;
    struct FN(runs) runs;
    FN(find_runs)(&runs, c, c + size, n, stride);
    VEC *work = memory, *re = work, *im = work + 2 * HALF(length);
    for (Py_ssize_t x = 0; x < width; x++) {
        const REAL *source = F + x * step;
        if (runs.count == 1) {
            FN(load)(re + x, im + x, source + runs.start[0], size);
        } else {
            REAL room[2 * LANES] = {0}, *target = room;
            for (Py_ssize_t i = 0; i < runs.count; i++) {
                memcpy(target, source + runs.start[i], runs.size[i] * sizeof(REAL));
                target += runs.size[i];
            }
            FN(load)(re + x, im + x, room, 2 * LANES);
        }
    }
    memset(re + width, 0, (length - width) * sizeof(VEC));
    memset(im + width, 0, (length - width) * sizeof(VEC));
    const int side = FN(fft)(length, radices, n_radices, w, u, re, im);
    const REAL half = (REAL)0.5;
    re += side * HALF(length), im += side * HALF(length);
    for (Py_ssize_t k = 0; k <= length / 2; k++) {
        const Py_ssize_t mirror = k ? length - k : 0;
        const VEC real[2] = {(re[k] + re[mirror]) * half, (im[k] + im[mirror]) * half};
        const VEC imag[2] = {(im[k] - im[mirror]) * half, (re[mirror] - re[k]) * half};
        FN(store)(y + 2 * k * pitch + c, real, size);
        FN(store)(y + (2 * k + 1) * pitch + c, imag, size);
    }
}

#undef HALF
#undef BLOCK_COLUMNS

/* Includes KERNEL for float (but with ONLY_DOUBLE) and double and for each LEVEL of vectors:

       0   16 bytes (SSE2, NEON)
       1   32 bytes, AVX2 with FMA
       2   64 bytes, AVX-512

   There it finds REAL, LEVEL, BYTES, LANES (numbers in a vector), VEC, FN(name), the name for this
   type and level, AT(p), the vector at an address, TARGET, which every function has that is called
   from outside, and PREFETCH.
   Vectors are those of GCC and Clang; another compiler (or NO_VECTORS) gets vectors of one number.
   Where there is no AVX all levels are the first; `best_level` says what the processor can do.
   Inlined functions take vectors by pointers, which have the same ABI at every level.
*/

#include <math.h>
#include <string.h>

#if (defined(__GNUC__) || defined(__clang__)) && !defined(NO_VECTORS)
#define HAS_VECTORS 1
#define INLINE inline __attribute__((always_inline))
#define PREFETCH_LINE(p, write) __builtin_prefetch(p, write, 2)
#else
#define HAS_VECTORS 0
#define INLINE inline
#define PREFETCH_LINE(p, write) ((void)0)
#endif

#if HAS_VECTORS && defined(__x86_64__)
#define HAS_AVX 1
#define TARGET_1 __attribute__((target("avx2,fma")))
#define TARGET_2 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")))
#else
#define HAS_AVX 0
#define TARGET_1
#define TARGET_2
#endif

static int best_level(void)
{
#if HAS_AVX
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return 2;
    return 1;
#else
    return 0;
#endif
}

#ifndef ONLY_DOUBLE
#define REAL float
#define INTEGER int
#define LEVEL 0
#define FN(name) name##_float_0
#include "one_vector.h"
#define LEVEL 1
#define FN(name) name##_float_1
#include "one_vector.h"
#define LEVEL 2
#define FN(name) name##_float_2
#include "one_vector.h"
#undef REAL
#undef INTEGER
#endif

#define REAL double
#define INTEGER long long
#define LEVEL 0
#define FN(name) name##_double_0
#include "one_vector.h"
#define LEVEL 1
#define FN(name) name##_double_1
#include "one_vector.h"
#define LEVEL 2
#define FN(name) name##_double_2
#include "one_vector.h"
#undef REAL
#undef INTEGER

/* name_float[level] and name_double[level]; type: a macro that declares a function, as
   #define TYPE(REAL, name) void name(const REAL *) */
#define LEVELS(name, type)                                                                         \
    LEVELS_OF(name, type, float)                                                                   \
    LEVELS_OF(name, type, double)
#define LEVELS_OF(name, type, REAL)                                                                \
    static type(REAL, (*const name##_##REAL[])) = {name##_##REAL##_0, name##_##REAL##_1,           \
                                                   name##_##REAL##_2};

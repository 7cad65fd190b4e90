/* Includes KERNEL for float and double, with vectors of 64 bytes (AVX-512) and of 32 (all others).

   There it finds REAL, BYTES, LANES (numbers in a vector), VEC, FN(name), the name for this pair of
   type and size, and TARGET, which every function has that is called from outside. Vectors are
   those of GCC and Clang; another compiler gets vectors of one number.
*/

#ifndef EACH_VECTOR_H
#define EACH_VECTOR_H

#include <math.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define HAS_VECTORS 1
#define INLINE inline __attribute__((always_inline))
#else
#define HAS_VECTORS 0
#define INLINE inline
#endif

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__)
#define HAS_WIDE __builtin_cpu_supports("avx512f")
#define TARGET_32 __attribute__((target_clones("default", "arch=x86-64-v3")))
#define TARGET_64 __attribute__((target("arch=x86-64-v4")))
#else
#define HAS_WIDE 0
#define TARGET_32
#define TARGET_64
#endif

#endif

#define TARGET TARGET_32
#define BYTES 32
#define REAL float
#define INTEGER int
#define FN(name) name##_float_32
#include "one_vector.h"
#define REAL double
#define INTEGER long long
#define FN(name) name##_double_32
#include "one_vector.h"
#undef TARGET
#undef BYTES

#define TARGET TARGET_64
#define BYTES 64
#define REAL float
#define INTEGER int
#define FN(name) name##_float_64
#include "one_vector.h"
#define REAL double
#define INTEGER long long
#define FN(name) name##_double_64
#include "one_vector.h"
#undef TARGET
#undef BYTES

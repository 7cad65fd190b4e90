/* Includes KERNEL for one number type and LEVEL; see each_vector.h. */

#if LEVEL == 2 && HAS_AVX
#define BYTES 64
#define TARGET TARGET_2
#elif LEVEL == 1 && HAS_AVX
#define BYTES 32
#define TARGET TARGET_1
#else
#define BYTES 16
#define TARGET
#endif

#if HAS_VECTORS
#define LANES ((Py_ssize_t)(BYTES / sizeof(REAL)))
typedef REAL FN(vec) __attribute__((vector_size(BYTES)));
typedef INTEGER FN(mask) __attribute__((vector_size(BYTES)));
typedef REAL FN(vec_at) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
#else
#define LANES ((Py_ssize_t)1)
typedef REAL FN(vec);
typedef REAL FN(vec_at);
#endif
#define VEC FN(vec)
#define AT(p) (*(FN(vec_at) *)(p))

#include KERNEL

#undef VEC
#undef AT
#undef LANES
#undef BYTES
#undef TARGET
#undef FN
#undef LEVEL

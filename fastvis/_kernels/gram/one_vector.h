/* Includes KERNEL for one pair of type and vector size; see each_vector.h. */

#if HAS_VECTORS
#define LANES ((Py_ssize_t)(BYTES / sizeof(REAL)))
typedef REAL FN(vec) __attribute__((vector_size(BYTES)));
typedef INTEGER FN(mask) __attribute__((vector_size(BYTES)));
#else
#define LANES ((Py_ssize_t)1)
typedef REAL FN(vec);
#endif
#define VEC FN(vec)

#include KERNEL

#undef VEC
#undef LANES
#undef REAL
#undef INTEGER
#undef FN

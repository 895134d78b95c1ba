/* The vector type of the kernels, for the instruction set and float width being compiled.

   Every kernel source is compiled once for each pair of them: `real` is float or double
   (REAL_IS_DOUBLE), `vec` as many of them as one register of the instruction set holds.
   Compilers without vector extensions get vectors of one lane, which is slow but right.
   This header holds types and one-line helpers; the loops are Cython. */
#ifndef FASTCNN_VECTOR_H
#define FASTCNN_VECTOR_H

#ifdef REAL_IS_DOUBLE
typedef double real;
#else
typedef float real;
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define VECTORS 4 /* vectors of output channels in a register tile of 6 rows: 24 of 32 registers */
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define VECTORS 2 /* 12 of 16 registers */
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define VECTORS 4
#else
#define VECTOR_BYTES 16
#define VECTORS 2
#endif

#if defined(__GNUC__)
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real vec_in_memory __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef __typeof__((vec){0} < (vec){0}) mask; /* integers as wide as real: all bits set or none */
typedef unsigned char bytes __attribute__((vector_size(VECTOR_BYTES / sizeof(real)), aligned(1), may_alias));
#if defined(__AVX2__)
#include <immintrin.h>
#endif
/* GCC narrows words to bytes one by one where AVX-512 has no instruction for it. */
#if defined(__AVX2__) && !defined(__AVX512F__) && !defined(REAL_IS_DOUBLE)
#define WORDS(v) _mm256_cvttps_epi32(v)
#define HALVES(v) _mm_packs_epi32(_mm256_castsi256_si128(WORDS(v)), _mm256_extracti128_si256(WORDS(v), 1))
#define AS_BYTES(v) (bytes)_mm_cvtsi128_si64(_mm_packus_epi16(HALVES(v), HALVES(v)))
#else
#define AS_BYTES(v) __builtin_convertvector(__builtin_convertvector(v, mask), bytes)
#endif
/* GCC widens bytes to words one by one; in two steps, or by one instruction, it does not. */
typedef unsigned short halves __attribute__((vector_size(2 * VECTOR_BYTES / sizeof(real))));
#if defined(__AVX512F__) && !defined(REAL_IS_DOUBLE)
#define FROM_BYTES(b) (vec)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32((__m128i)(b)))
#else
#define FROM_BYTES(b) __builtin_convertvector(__builtin_convertvector(__builtin_convertvector(b, halves), mask), vec)
#endif
#define WHERE(m, a, b) (vec)(((mask)(a) & (m)) | ((mask)(b) & ~(m)))
#define LOWEST_BIT(bits) __builtin_ctzll(bits)
#define PREFETCH(p, writing) __builtin_prefetch(p, writing)
typedef long long words __attribute__((vector_size(VECTOR_BYTES)));
#if defined(__AVX512F__)
#define ANY(m) (_mm512_test_epi64_mask((__m512i)(m), (__m512i)(m)) != 0)
#elif defined(__AVX2__)
#define ANY(m) !_mm256_testz_si256((__m256i)(m), (__m256i)(m))
#else
#define ANY(m) ((((words)(m))[0] | ((words)(m))[1]) != 0)
#endif
#else
typedef real vec;
typedef real vec_in_memory;
typedef int mask; /* 1 or 0 */
typedef unsigned char bytes;
#define AS_BYTES(v) (bytes)(v)
#define FROM_BYTES(b) (vec)(b)
#define WHERE(m, a, b) ((m) ? (a) : (b))
#define ANY(m) (m)
#define PREFETCH(p, writing) (void)(p)
#include <intrin.h>
#define LOWEST_BIT(bits) (int)_tzcnt_u64(bits)
#endif

/* Lanes in an order found at run time: GCC alone has it, and an instruction for it from AVX2 on. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX2__)
#define SHUFFLES 1
#define SHUFFLE(v, from) __builtin_shuffle(v, from)
#define INDICES(v) __builtin_convertvector(v, mask)
#else
#define SHUFFLES 0
#define SHUFFLE(v, from) (v)
#define INDICES(v) ((v) == (v))
#endif

/* Which of 64 bytes are b, as bits: in the portable way of _winners.pxd where there is no other. */
#if defined(__GNUC__) && defined(__AVX512BW__)
#define COMPARES_64 1
#define BYTES_EQUAL(p, b) _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(p), _mm512_set1_epi8((char)(b)))
#elif defined(__GNUC__) && defined(__AVX2__)
#define COMPARES_64 1
#define THIRTY_TWO(p, b) (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(p)), _mm256_set1_epi8((char)(b))))
#define BYTES_EQUAL(p, b) ((unsigned long long)THIRTY_TWO((p) + 32, b) << 32 | THIRTY_TWO(p, b))
#else
#define COMPARES_64 0
#define BYTES_EQUAL(p, b) ((p)[0] == (b))
#endif

/* Stores that go around the caches, to addresses aligned to a vector; drain() after the last. */
#if defined(__clang__)
#define STREAM(p, v) __builtin_nontemporal_store(v, (vec *)(p))
#elif defined(__AVX512F__)
#define STREAM(p, v) __builtin_ia32_movntps512((float *)(p), (float __attribute__((vector_size(64))))(v))
#elif defined(__AVX__)
#define STREAM(p, v) __builtin_ia32_movntps256((float *)(p), (float __attribute__((vector_size(32))))(v))
#elif defined(__GNUC__) && defined(__SSE__)
#define STREAM(p, v) __builtin_ia32_movntps((float *)(p), (float __attribute__((vector_size(16))))(v))
#else
#define STREAM(p, v) (void)(*(vec *)(p) = (v))
#endif
#if defined(__GNUC__) && defined(__SSE__)
#define DRAIN() __builtin_ia32_sfence()
#else
#define DRAIN() (void)0
#endif

typedef real *__restrict real_out; /* to memory that nothing else in the function points to */

enum { LANES = sizeof(vec) / sizeof(real) };

static inline vec load(const real *p) { return *(const vec_in_memory *)p; }
static inline void store(real *p, vec v) { *(vec_in_memory *)p = v; }
static inline void stream(real *p, vec v) { STREAM(p, v); }
static inline void prefetch(const real *p) { PREFETCH(p, 0); }
static inline void prefetch_to_write(const real *p) { PREFETCH(p, 1); }
static inline int lowest_bit(unsigned long long bits) { return LOWEST_BIT(bits); } /* not of 0 */
static inline unsigned long long bytes_equal(const unsigned char *p, unsigned char b) { return BYTES_EQUAL(p, b); }
static inline void drain(void) { DRAIN(); }
static inline void store_as_bytes(unsigned char *p, vec v) { *(bytes *)p = AS_BYTES(v); }
static inline vec load_bytes(const unsigned char *p) { return FROM_BYTES(*(const bytes *)p); }
static inline vec splat(real x) { return x - (vec){0}; }
static inline vec where(mask m, vec a, vec b) { return WHERE(m, a, b); }
static inline mask indices(vec v) { return INDICES(v); }
static inline vec shuffle(vec v, mask from) { return SHUFFLE(v, from); }
static inline mask equal(vec a, vec b) { return a == b; }
static inline int any_nonzero(vec v) { return ANY(v != (vec){0}); }
static inline mask greater(vec a, vec b) { return a > b; }
/* Where v takes the place of the best so far: it is larger, or the first NaN. */
static inline mask beats(vec v, vec best) { return ~(v <= best) & (best == best); }

#endif

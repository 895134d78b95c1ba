"""What this CPU and this build can do. Compiled without architecture flags."""

cdef extern from *:
    """
    #if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    #define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") \
        && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
    #define HAS_AVX512 (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") \
        && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") \
        && __builtin_cpu_supports("avx512vl"))
    #else
    #define HAS_AVX2 0
    #define HAS_AVX512 0
    #endif
    #ifdef _OPENMP
    #define HAS_OPENMP 1
    #else
    #define HAS_OPENMP 0
    #endif
    """
    const int HAS_AVX2
    const int HAS_AVX512
    const int HAS_OPENMP


def features():
    """Return the names of the feature groups that CPU and operating system support."""
    return frozenset(
        name for name, has in (("avx2", HAS_AVX2), ("avx512", HAS_AVX512)) if has
    )


def has_openmp():
    """Return whether the kernels were built with OpenMP."""
    return bool(HAS_OPENMP)

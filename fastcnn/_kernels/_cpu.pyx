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


# Those of a common core, until set_cache_bytes says what this machine has.
l1_bytes = 32 << 10
l2_bytes = 1 << 20
l3_bytes = 32 << 20


def cache_bytes():
    """Return the sizes of cache that the kernels count on: L1, L2 and L3, in bytes."""
    return l1_bytes, l2_bytes, l3_bytes


def set_cache_bytes(Py_ssize_t l1, Py_ssize_t l2, Py_ssize_t l3):
    """Set the sizes of cache that the kernels count on: no result depends on them.

    Never while an op runs, or while there are plans (fastcnn/fast/_plan.py): their workspaces were
    made for the sizes before.
    """
    global l1_bytes, l2_bytes, l3_bytes
    l1_bytes, l2_bytes, l3_bytes = l1, l2, l3

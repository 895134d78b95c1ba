# exp, e^x - 1, and the tail of the normal distribution, as plain expressions without a branch:
# inlined into a loop, they run in every lane of a vector, which the C library's do not.
#
# exp(x) = 2^n * e^r with n the integer next to x / ln 2 and |r| <= ln(2) / 2 (Cody and Waite,
# 1980); e^r is its Taylor series, cut where a term falls below the rounding of `real`. Errors
# are at most 2 units in the last place. NaN stays NaN; too large gives infinity, too small a
# subnormal number or 0.
#
# Every constant is cast to `real`, here and where these are used: C would carry out an
# expression with a double in double.
from libc.stdint cimport uint32_t, uint64_t

from fastcnn._kernels._types cimport real


cdef union Float:
    float value
    uint32_t bits


cdef union Double:
    double value
    uint64_t bits


# Adding it rounds to an integer, which then lies in the last bits of the sum.
cdef inline real magic() noexcept nogil:
    return <real> 6755399441055744.0 if sizeof(real) == 8 else <real> 12582912.0


cdef inline real power_of_two(real t) noexcept nogil:
    """Return 2^n for t = n + magic(), n within the exponents of normal numbers."""
    cdef Float f
    cdef Double d
    if sizeof(real) == 8:
        d.value = t
        d.bits = (d.bits + 1023) << 52
        return <real> d.value
    f.value = <float> t
    f.bits = (f.bits + 127) << 23
    return <real> f.value


cdef inline real remainder(real x, real n) noexcept nogil:
    """Return x - n * ln 2; the first product is exact, as its constant has few bits."""
    if sizeof(real) == 8:
        return x - n * <real> 0.6931471803691238 - n * <real> 1.9082149292705877e-10
    return x - n * <real> 0.693145751953125 - n * <real> 1.42860682030941723212e-6


cdef inline real series(real r) noexcept nogil:
    """Return e^r - 1 for |r| <= ln(2) / 2."""
    cdef real s = <real> (1. / 5040.)
    if sizeof(real) == 8:
        s = <real> (1. / 6227020800.)
        s = s * r + <real> (1. / 479001600.)
        s = s * r + <real> (1. / 39916800.)
        s = s * r + <real> (1. / 3628800.)
        s = s * r + <real> (1. / 362880.)
        s = s * r + <real> (1. / 40320.)
        s = s * r + <real> (1. / 5040.)
    s = s * r + <real> (1. / 720.)
    s = s * r + <real> (1. / 120.)
    s = s * r + <real> (1. / 24.)
    s = s * r + <real> (1. / 6.)
    s = s * r + <real> 0.5
    return s * r * r + r


cdef inline real exp(real x) noexcept nogil:
    """Return e^x."""
    cdef real low = <real> (-746. if sizeof(real) == 8 else -104.)
    cdef real high = <real> (710. if sizeof(real) == 8 else 89.)
    cdef real t, n, half
    x = low if x < low else x           # a NaN passes both
    x = high if x > high else x
    t = x * <real> 1.44269504088896340736 + magic()
    n = t - magic()
    # In two factors: 2^n itself may be neither a normal number nor finite where e^x is.
    half = n * <real> 0.5 + magic()
    return (
        (<real> 1 + series(remainder(x, n)))
        * power_of_two(half)
        * power_of_two(n - (half - magic()) + magic())
    )


cdef inline real times_exp_negative(real a, real x) noexcept nogil:
    """Return a * e^x for x <= 0, precise too where e^x by itself would be no normal number."""
    cdef real low = <real> (-1416. if sizeof(real) == 8 else -174.)
    cdef real t, n, half
    a = a * <real> 0 if x < low else a  # NaN and infinity are NaN then, as they should be
    x = low if x < low else x           # a NaN passes
    t = x * <real> 1.44269504088896340736 + magic()
    n = t - magic()
    half = n * <real> 0.5 + magic()
    # First the larger half of n, in size: it makes less of a, unless n is 0 and e^r at most 1.
    return (
        a * power_of_two(n - (half - magic()) + magic())
        * (<real> 1 + series(remainder(x, n)))
        * power_of_two(half)
    )


cdef inline real expm1_negative(real x) noexcept nogil:
    """Return e^x - 1 for x <= 0, precise for small x too."""
    cdef real t, n, scale
    x = <real> -40. if x < -40 else x   # there e^x - 1 is -1
    t = x * <real> 1.44269504088896340736 + magic()
    n = t - magic()
    scale = power_of_two(t)
    return series(remainder(x, n)) * scale + (scale - <real> 1)


cdef inline real normal_tail(real t, real density) noexcept nogil:
    """Return the probability that a normal variable exceeds t >= 0, `density` that of t.

    The ratio of the two times 1 + t is smooth: a polynomial of (t - 4) / (t + 4), fitted here on
    [0, 40] (Chebyshev nodes) to 1e-8 for float32 and 6e-17 for float64. Beyond 40 the
    density is 0.
    """
    cdef real p, u
    t = <real> 40. if t > 40 else t
    u = (t - <real> 4) / (t + <real> 4)
    if sizeof(real) == 8:
        p = <real> 3.88864245983357334e-10
        p = p * u + <real> 1.06227252186082428e-8
        p = p * u + <real> 2.85777377477101315e-8
        p = p * u - <real> 4.64692337570965005e-8
        p = p * u - <real> 2.5328587783096437e-7
        p = p * u + <real> 5.8939259469655403e-9
        p = p * u + <real> 1.36110915973660359e-6
        p = p * u + <real> 1.00873610239903069e-6
        p = p * u - <real> 6.53688317312585371e-6
        p = p * u - <real> 8.59948530327234294e-6
        p = p * u + <real> 3.41528733937750775e-5
        p = p * u + <real> 5.32644852949336301e-5
        p = p * u - <real> 0.000220214185849516232
        p = p * u - <real> 0.000236701197439302678
        p = p * u + <real> 0.00174184856890563538
        p = p * u - <real> 0.000715950980248554027
        p = p * u - <real> 0.0125391036025824316
        p = p * u + <real> 0.0449591290825110346
        p = p * u - <real> 0.0807080096798575191
        p = p * u + <real> 0.0716904812012579634
        p = p * u + <real> 0.0350918802347624106
        p = p * u - <real> 0.242399670521806387
        p = p * u + <real> 1.18326191456780331
    else:
        p = <real> -0.0001824265794
        p = p * u - <real> 0.0001581407666
        p = p * u + <real> 0.001732358489
        p = p * u - <real> 0.0007625317046
        p = p * u - <real> 0.01254331978
        p = p * u + <real> 0.04497127101
        p = p * u - <real> 0.0807058383
        p = p * u + <real> 0.07168923277
        p = p * u + <real> 0.03509163456
        p = p * u - <real> 0.2423996376
        p = p * u + <real> 1.183261919
    return density * p / (<real> 1 + t)

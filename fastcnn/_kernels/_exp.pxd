# e^x, e^x - 1, log(1 + e), the logistic function, the hyperbolic tangent and the tail of the normal
# distribution, as plain expressions without a branch: inlined into a loop, they run in every lane
# of a vector, which the C library's do not.
#
# e^x = 2^n * e^r with n the integer next to x / ln 2 and |r| <= ln(2) / 2 (Cody and Waite, 1980);
# e^r is its Taylor series, cut where a term falls below the rounding of float64, and for float32
# one term less, fitted here to 8e-9. Errors are at most 2 units in the last place. NaN stays NaN;
# too small gives a subnormal number or 0.
#
# Every constant is cast to `real`, here and where these are used: C would carry out an
# expression with a double in double.
from libc.math cimport fabs
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
    cdef real s
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
    else:
        s = <real> 0.001394111344
        s = s * r + <real> 0.00836317524
        s = s * r + <real> 0.04166637525
        s = s * r + <real> 0.1666657701
        s = s * r + <real> 0.5
    return s * r * r + r


cdef inline real exp_negative(real x) noexcept nogil:
    """Return e^x for x <= 0."""
    cdef real low = <real> (-746. if sizeof(real) == 8 else -104.)
    # 2^(n + 64) is a normal number where 2^n may be none; to take 2^64 away is the one rounding.
    cdef real shifted = magic() + <real> 64
    cdef real t, n
    x = low if x < low else x           # a NaN passes
    t = x * <real> 1.44269504088896340736 + shifted
    n = t - shifted
    return (
        (<real> 1 + series(remainder(x, n))) * power_of_two(t) * <real> 5.42101086242752217e-20
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


cdef inline real log1p_fraction(real e) noexcept nogil:
    """Return log(1 + e) for 0 <= e <= 1, precise for small e too.

    It is the logarithm of 1 + e, or log(2) and that of (1 + e) / 2, whichever is nearer to 1: twice
    the area tangent of s, |s| <= 0.172, by its Taylor series.
    """
    cdef bint near_two = e > <real> 0.41421356237309504880
    cdef real s = (e - <real> 1 if near_two else e) / (e + (<real> 3 if near_two else <real> 2))
    cdef real t, z = s * s, start = <real> 0.69314718055994530942 if near_two else <real> 0
    if sizeof(real) == 8:
        t = <real> (2. / 21.)
        t = t * z + <real> (2. / 19.)
        t = t * z + <real> (2. / 17.)
        t = t * z + <real> (2. / 15.)
        t = t * z + <real> (2. / 13.)
        t = t * z + <real> (2. / 11.)
        t = t * z + <real> (2. / 9.)
    else:
        t = <real> (2. / 9.)
    t = t * z + <real> (2. / 7.)
    t = t * z + <real> (2. / 5.)
    t = t * z + <real> (2. / 3.)
    return start + (s * <real> 2 + s * z * t)


cdef inline real logistic(real x) noexcept nogil:
    # The exponent is never positive: e is at most 1, and neither end overflows.
    cdef real e = exp_negative(-<real> fabs(x))
    cdef real above = e if x < 0 else <real> 1
    return above / (<real> 1 + e)


cdef inline real hyperbolic_tangent(real x) noexcept nogil:
    cdef real e = expm1_negative(<real> -2 * <real> fabs(x))
    cdef real t = e / (e + <real> 2)
    return -t if x > 0 else t


cdef inline real normal_tail(real t, real e) noexcept nogil:
    """Return the probability that a normal variable exceeds t >= 0; e is e^(-t*t/2).

    The ratio of the two times t + 3.8 is smooth: a polynomial of (t - 3.8) / (t + 3.8), fitted here
    on [0, 14.5] for float32 and [0, 40] for float64 to 2e-8 and 7e-17. Beyond, e is 0.
    """
    cdef real p, v = <real> 1 / (t + <real> 3.8), u = <real> 1 - <real> 7.6 * v
    if sizeof(real) == 8:
        p = <real> 1.15647418885944002e-9
        p = p * u + <real> 6.51318972434463664e-9
        p = p * u + <real> 5.63221781475667271e-9
        p = p * u - <real> 3.75283411992298285e-8
        p = p * u - <real> 8.91997576511225138e-8
        p = p * u + <real> 8.41669219460751398e-8
        p = p * u + <real> 5.43421193269825215e-7
        p = p * u + <real> 1.60539467758685637e-7
        p = p * u - <real> 2.56295042465736177e-6
        p = p * u - <real> 2.98624870642229769e-6
        p = p * u + <real> 0.0000115942384105820018
        p = p * u + <real> 0.0000229546662165577363
        p = p * u - <real> 0.0000602070357190291313
        p = p * u - <real> 0.000149208303894298407
        p = p * u + <real> 0.000426646731656833996
        p = p * u + <real> 0.000832019039419170413
        p = p * u - <real> 0.00417469666416239885
        p = p * u - <real> 0.000308108038337985683
        p = p * u + <real> 0.04187378668090049
        p = p * u - <real> 0.15857555926221684
        p = p * u + <real> 0.360038757735032017
        p = p * u - <real> 0.592348185334293974
        p = p * u + <real> 0.751357360463602972
    else:
        p = <real> 0.0004536807196
        p = p * u + <real> 0.0007232116448
        p = p * u - <real> 0.004216297751
        p = p * u - <real> 0.0002784080276
        p = p * u + <real> 0.04188509179
        p = p * u - <real> 0.1585789834
        p = p * u + <real> 0.3600378798
        p = p * u - <real> 0.592348061
        p = p * u + <real> 0.7513573699
    return e * v * p

# The one-dimensional transforms of Winograd's F(4, 3) and F(3, 4), on vectors.
#
# Both come from the polynomials through the points 0, +-A, +-B and infinity, A = 5/8, B = 3/2
# (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). In exact arithmetic
# any points do. These keep the rounding small, 1.7 times the direct sum's in the mean where
# 0, +-1, +-2 give 3.7, and lie in pairs, which share half of each transform; A, B and their powers
# are exact in binary.
from fastcnn._kernels._types cimport real, store, vec

cdef enum:
    SIDE = 6                    # points of a line
    POINTS = SIDE * SIDE        # of a tile


cdef inline void transform_line(real* to, Py_ssize_t step, vec x0, vec x1, vec x2, vec x3,
                                vec x4, vec x5) noexcept nogil:
    """Write B^T x: six inputs to six points."""
    cdef real a = 0.625, b = 1.5, a2 = 0.390625, b2 = 2.25
    cdef vec even_a = x4 - b2 * x2, odd_a = a * (x3 - b2 * x1)
    cdef vec even_b = x4 - a2 * x2, odd_b = b * (x3 - a2 * x1)
    cdef real both = a2 * b2, neither = a2 + b2
    store(to, both * x0 - neither * x2 + x4)
    store(to + step, even_a + odd_a)
    store(to + 2 * step, even_a - odd_a)
    store(to + 3 * step, even_b + odd_b)
    store(to + 4 * step, even_b - odd_b)
    store(to + 5 * step, both * x1 - neither * x3 + x5)


cdef inline void transform_taps(real* to, Py_ssize_t step, vec w0, vec w1, vec w2) noexcept nogil:
    """Write G w: three taps to six points."""
    cdef real a = 0.625, b = 1.5, a2 = 0.390625, b2 = 2.25
    cdef real at_0 = 1 / (a2 * b2), at_a = 1 / (2 * a2 * (a2 - b2)), at_b = 1 / (2 * b2 * (b2 - a2))
    cdef vec even_a = at_a * (w0 + a2 * w2), odd_a = (at_a * a) * w1
    cdef vec even_b = at_b * (w0 + b2 * w2), odd_b = (at_b * b) * w1
    store(to, at_0 * w0)
    store(to + step, even_a + odd_a)
    store(to + 2 * step, even_a - odd_a)
    store(to + 3 * step, even_b + odd_b)
    store(to + 4 * step, even_b - odd_b)
    store(to + 5 * step, w2)


cdef inline void four_outputs(real* to, Py_ssize_t step, vec m0, vec m1, vec m2, vec m3, vec m4,
                              vec m5, vec bias) noexcept nogil:
    """Write A^T m + bias: six points to four outputs."""
    cdef real a = 0.625, b = 1.5, a2 = 0.390625, b2 = 2.25, a3 = a * a2, b3 = b * b2
    cdef vec even_a = m1 + m2, odd_a = m1 - m2, even_b = m3 + m4, odd_b = m3 - m4
    store(to, m0 + even_a + even_b + bias)
    store(to + step, a * odd_a + b * odd_b + bias)
    store(to + 2 * step, a2 * even_a + b2 * even_b + bias)
    store(to + 3 * step, a3 * odd_a + b3 * odd_b + m5 + bias)

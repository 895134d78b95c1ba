# Batch normalization of rows of eight vectors, such as two pixels of 64 channels: up to three
# numbers for each column fit into 32 registers and stay there, so that the loops below touch each
# number of a tensor once and nothing else. Else they load and store a row of sums or tables for
# each row of the tensor, and the second cache would be faster than that.
from fastcnn._kernels._stream cimport put
from fastcnn._kernels._types cimport LANES, VECTORS, load, real, real_out, splat, store, vec


cdef inline bint short(Py_ssize_t W) noexcept nogil:
    """Return whether three numbers for each column of a row stay in registers."""
    return W == 8 * LANES and VECTORS == 4


cdef inline void add_short_rows(
    real_out sums, real_out squares, const real* x, const real* center, Py_ssize_t count
) noexcept nogil:
    """Add `count` numbers in rows of eight vectors, whose sums all stay in registers."""
    cdef Py_ssize_t i = 0
    cdef vec d
    cdef vec c0 = load(center), c1 = load(center + LANES)
    cdef vec c2 = load(center + 2 * LANES), c3 = load(center + 3 * LANES)
    cdef vec c4 = load(center + 4 * LANES), c5 = load(center + 5 * LANES)
    cdef vec c6 = load(center + 6 * LANES), c7 = load(center + 7 * LANES)
    cdef vec s0 = splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0
    cdef vec q0 = s0, q1 = s0, q2 = s0, q3 = s0, q4 = s0, q5 = s0, q6 = s0, q7 = s0
    while i < count:
        d = load(x + i) - c0; s0 = s0 + d; q0 = q0 + d * d
        d = load(x + i + LANES) - c1; s1 = s1 + d; q1 = q1 + d * d
        d = load(x + i + 2 * LANES) - c2; s2 = s2 + d; q2 = q2 + d * d
        d = load(x + i + 3 * LANES) - c3; s3 = s3 + d; q3 = q3 + d * d
        d = load(x + i + 4 * LANES) - c4; s4 = s4 + d; q4 = q4 + d * d
        d = load(x + i + 5 * LANES) - c5; s5 = s5 + d; q5 = q5 + d * d
        d = load(x + i + 6 * LANES) - c6; s6 = s6 + d; q6 = q6 + d * d
        d = load(x + i + 7 * LANES) - c7; s7 = s7 + d; q7 = q7 + d * d
        i += 8 * LANES
    store(sums, s0); store(sums + LANES, s1); store(sums + 2 * LANES, s2)
    store(sums + 3 * LANES, s3); store(sums + 4 * LANES, s4); store(sums + 5 * LANES, s5)
    store(sums + 6 * LANES, s6); store(sums + 7 * LANES, s7)
    store(squares, q0); store(squares + LANES, q1); store(squares + 2 * LANES, q2)
    store(squares + 3 * LANES, q3); store(squares + 4 * LANES, q4); store(squares + 5 * LANES, q5)
    store(squares + 6 * LANES, q6); store(squares + 7 * LANES, q7)


cdef inline void normalize_short_rows(
    real_out y, const real* x, const real* mean, const real* scale, const real* shift,
    Py_ssize_t count, bint streaming,
) noexcept nogil:
    """Normalize `count` numbers in rows of eight vectors, the tables in registers."""
    cdef Py_ssize_t i = 0
    cdef vec m0 = load(mean), m1 = load(mean + LANES)
    cdef vec m2 = load(mean + 2 * LANES), m3 = load(mean + 3 * LANES)
    cdef vec m4 = load(mean + 4 * LANES), m5 = load(mean + 5 * LANES)
    cdef vec m6 = load(mean + 6 * LANES), m7 = load(mean + 7 * LANES)
    cdef vec a0 = load(scale), a1 = load(scale + LANES)
    cdef vec a2 = load(scale + 2 * LANES), a3 = load(scale + 3 * LANES)
    cdef vec a4 = load(scale + 4 * LANES), a5 = load(scale + 5 * LANES)
    cdef vec a6 = load(scale + 6 * LANES), a7 = load(scale + 7 * LANES)
    cdef vec b0 = load(shift), b1 = load(shift + LANES)
    cdef vec b2 = load(shift + 2 * LANES), b3 = load(shift + 3 * LANES)
    cdef vec b4 = load(shift + 4 * LANES), b5 = load(shift + 5 * LANES)
    cdef vec b6 = load(shift + 6 * LANES), b7 = load(shift + 7 * LANES)
    while i < count:
        put(y + i, (load(x + i) - m0) * a0 + b0, streaming)
        put(y + i + LANES, (load(x + i + LANES) - m1) * a1 + b1, streaming)
        put(y + i + 2 * LANES, (load(x + i + 2 * LANES) - m2) * a2 + b2, streaming)
        put(y + i + 3 * LANES, (load(x + i + 3 * LANES) - m3) * a3 + b3, streaming)
        put(y + i + 4 * LANES, (load(x + i + 4 * LANES) - m4) * a4 + b4, streaming)
        put(y + i + 5 * LANES, (load(x + i + 5 * LANES) - m5) * a5 + b5, streaming)
        put(y + i + 6 * LANES, (load(x + i + 6 * LANES) - m6) * a6 + b6, streaming)
        put(y + i + 7 * LANES, (load(x + i + 7 * LANES) - m7) * a7 + b7, streaming)
        i += 8 * LANES


cdef inline void sum_short_rows(
    real_out dy_sum, real_out product_sum, const real* dy, const real* x, const real* mean,
    Py_ssize_t count,
) noexcept nogil:
    """Sum up `count` numbers in rows of eight vectors, whose sums all stay in registers."""
    cdef Py_ssize_t i = 0
    cdef vec g
    cdef vec m0 = load(mean), m1 = load(mean + LANES)
    cdef vec m2 = load(mean + 2 * LANES), m3 = load(mean + 3 * LANES)
    cdef vec m4 = load(mean + 4 * LANES), m5 = load(mean + 5 * LANES)
    cdef vec m6 = load(mean + 6 * LANES), m7 = load(mean + 7 * LANES)
    cdef vec s0 = splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0
    cdef vec p0 = s0, p1 = s0, p2 = s0, p3 = s0, p4 = s0, p5 = s0, p6 = s0, p7 = s0
    while i < count:
        g = load(dy + i); s0 = s0 + g; p0 = p0 + g * (load(x + i) - m0)
        g = load(dy + i + LANES); s1 = s1 + g; p1 = p1 + g * (load(x + i + LANES) - m1)
        g = load(dy + i + 2 * LANES); s2 = s2 + g; p2 = p2 + g * (load(x + i + 2 * LANES) - m2)
        g = load(dy + i + 3 * LANES); s3 = s3 + g; p3 = p3 + g * (load(x + i + 3 * LANES) - m3)
        g = load(dy + i + 4 * LANES); s4 = s4 + g; p4 = p4 + g * (load(x + i + 4 * LANES) - m4)
        g = load(dy + i + 5 * LANES); s5 = s5 + g; p5 = p5 + g * (load(x + i + 5 * LANES) - m5)
        g = load(dy + i + 6 * LANES); s6 = s6 + g; p6 = p6 + g * (load(x + i + 6 * LANES) - m6)
        g = load(dy + i + 7 * LANES); s7 = s7 + g; p7 = p7 + g * (load(x + i + 7 * LANES) - m7)
        i += 8 * LANES
    store(dy_sum, s0); store(product_sum, p0)
    store(dy_sum + LANES, s1); store(product_sum + LANES, p1)
    store(dy_sum + 2 * LANES, s2); store(product_sum + 2 * LANES, p2)
    store(dy_sum + 3 * LANES, s3); store(product_sum + 3 * LANES, p3)
    store(dy_sum + 4 * LANES, s4); store(product_sum + 4 * LANES, p4)
    store(dy_sum + 5 * LANES, s5); store(product_sum + 5 * LANES, p5)
    store(dy_sum + 6 * LANES, s6); store(product_sum + 6 * LANES, p6)
    store(dy_sum + 7 * LANES, s7); store(product_sum + 7 * LANES, p7)


cdef inline void backward_short_rows(
    real_out dx, const real* dy, const real* x, const real* mean, const real* offset,
    const real* scale, const real* slope, Py_ssize_t count, bint streaming,
) noexcept nogil:
    """Write dy * scale - ((x - mean) * slope + offset); offset, one too many, is read each time."""
    cdef Py_ssize_t i = 0
    cdef vec g
    cdef vec m0 = load(mean), m1 = load(mean + LANES)
    cdef vec m2 = load(mean + 2 * LANES), m3 = load(mean + 3 * LANES)
    cdef vec m4 = load(mean + 4 * LANES), m5 = load(mean + 5 * LANES)
    cdef vec m6 = load(mean + 6 * LANES), m7 = load(mean + 7 * LANES)
    cdef vec a0 = load(scale), a1 = load(scale + LANES)
    cdef vec a2 = load(scale + 2 * LANES), a3 = load(scale + 3 * LANES)
    cdef vec a4 = load(scale + 4 * LANES), a5 = load(scale + 5 * LANES)
    cdef vec a6 = load(scale + 6 * LANES), a7 = load(scale + 7 * LANES)
    cdef vec b0 = load(slope), b1 = load(slope + LANES)
    cdef vec b2 = load(slope + 2 * LANES), b3 = load(slope + 3 * LANES)
    cdef vec b4 = load(slope + 4 * LANES), b5 = load(slope + 5 * LANES)
    cdef vec b6 = load(slope + 6 * LANES), b7 = load(slope + 7 * LANES)
    while i < count:
        g = (load(x + i) - m0) * b0 + load(offset)
        put(dx + i, load(dy + i) * a0 - g, streaming)
        g = (load(x + i + LANES) - m1) * b1 + load(offset + LANES)
        put(dx + i + LANES, load(dy + i + LANES) * a1 - g, streaming)
        g = (load(x + i + 2 * LANES) - m2) * b2 + load(offset + 2 * LANES)
        put(dx + i + 2 * LANES, load(dy + i + 2 * LANES) * a2 - g, streaming)
        g = (load(x + i + 3 * LANES) - m3) * b3 + load(offset + 3 * LANES)
        put(dx + i + 3 * LANES, load(dy + i + 3 * LANES) * a3 - g, streaming)
        g = (load(x + i + 4 * LANES) - m4) * b4 + load(offset + 4 * LANES)
        put(dx + i + 4 * LANES, load(dy + i + 4 * LANES) * a4 - g, streaming)
        g = (load(x + i + 5 * LANES) - m5) * b5 + load(offset + 5 * LANES)
        put(dx + i + 5 * LANES, load(dy + i + 5 * LANES) * a5 - g, streaming)
        g = (load(x + i + 6 * LANES) - m6) * b6 + load(offset + 6 * LANES)
        put(dx + i + 6 * LANES, load(dy + i + 6 * LANES) * a6 - g, streaming)
        g = (load(x + i + 7 * LANES) - m7) * b7 + load(offset + 7 * LANES)
        put(dx + i + 7 * LANES, load(dy + i + 7 * LANES) * a7 - g, streaming)
        i += 8 * LANES

# The register tile: six rows of c, each of 1 to 4 vectors, gather a sum of products
#
#     c[i] = init[i] + sum over runs r and steps t of
#            a[i][a_run[r] + t * a_step] * b[b_run[r] + t * b_step]
#
# with b a vector of output channels and a a single number, broadcast. Convolution forward (a
# run is a row of taps), its input gradient, its weight gradient (a run is a row of pixels) and
# linear layers all come down to it.
#
# Six rows by four vectors hold 24 of AVX-512's 32 registers, six by two 12 of AVX2's 16; both
# hide the latency of the fused multiply-add and ask less of the load ports than they give. The
# accumulators are named locals: gcc may spill an array of them to the stack.
from libc.string cimport memcpy

from fastcnn._kernels._types cimport LANES, VECTORS, load, real, store, vec

cdef enum:
    ROWS = 6
    SERIAL_BELOW = 1000000      # flop: waking a second thread costs more than it saves


cdef inline void tile_4(
    real** c, const real** init, const real** a, const Py_ssize_t* a_run, Py_ssize_t a_step,
    const real* b, const Py_ssize_t* b_run, Py_ssize_t b_step, Py_ssize_t runs, Py_ssize_t length,
) noexcept nogil:
    cdef vec c00 = load(init[0]), c01 = load(init[0] + LANES), c02 = load(init[0] + 2 * LANES)
    cdef vec c03 = load(init[0] + 3 * LANES)
    cdef vec c10 = load(init[1]), c11 = load(init[1] + LANES), c12 = load(init[1] + 2 * LANES)
    cdef vec c13 = load(init[1] + 3 * LANES)
    cdef vec c20 = load(init[2]), c21 = load(init[2] + LANES), c22 = load(init[2] + 2 * LANES)
    cdef vec c23 = load(init[2] + 3 * LANES)
    cdef vec c30 = load(init[3]), c31 = load(init[3] + LANES), c32 = load(init[3] + 2 * LANES)
    cdef vec c33 = load(init[3] + 3 * LANES)
    cdef vec c40 = load(init[4]), c41 = load(init[4] + LANES), c42 = load(init[4] + 2 * LANES)
    cdef vec c43 = load(init[4] + 3 * LANES)
    cdef vec c50 = load(init[5]), c51 = load(init[5] + LANES), c52 = load(init[5] + 2 * LANES)
    cdef vec c53 = load(init[5] + 3 * LANES)
    cdef vec b0, b1, b2, b3
    cdef const real* a0
    cdef const real* a1
    cdef const real* a2
    cdef const real* a3
    cdef const real* a4
    cdef const real* a5
    cdef const real* b_r
    cdef Py_ssize_t r, _, at
    for r in range(runs):
        a0 = a[0] + a_run[r]
        a1 = a[1] + a_run[r]
        a2 = a[2] + a_run[r]
        a3 = a[3] + a_run[r]
        a4 = a[4] + a_run[r]
        a5 = a[5] + a_run[r]
        b_r = b + b_run[r]
        at = 0
        for _ in range(length):
            b0 = load(b_r)
            b1 = load(b_r + LANES)
            b2 = load(b_r + 2 * LANES)
            b3 = load(b_r + 3 * LANES)
            c00 = c00 + a0[at] * b0; c01 = c01 + a0[at] * b1; c02 = c02 + a0[at] * b2
            c03 = c03 + a0[at] * b3
            c10 = c10 + a1[at] * b0; c11 = c11 + a1[at] * b1; c12 = c12 + a1[at] * b2
            c13 = c13 + a1[at] * b3
            c20 = c20 + a2[at] * b0; c21 = c21 + a2[at] * b1; c22 = c22 + a2[at] * b2
            c23 = c23 + a2[at] * b3
            c30 = c30 + a3[at] * b0; c31 = c31 + a3[at] * b1; c32 = c32 + a3[at] * b2
            c33 = c33 + a3[at] * b3
            c40 = c40 + a4[at] * b0; c41 = c41 + a4[at] * b1; c42 = c42 + a4[at] * b2
            c43 = c43 + a4[at] * b3
            c50 = c50 + a5[at] * b0; c51 = c51 + a5[at] * b1; c52 = c52 + a5[at] * b2
            c53 = c53 + a5[at] * b3
            at = at + a_step
            b_r = b_r + b_step
    store(c[0], c00); store(c[0] + LANES, c01); store(c[0] + 2 * LANES, c02)
    store(c[0] + 3 * LANES, c03)
    store(c[1], c10); store(c[1] + LANES, c11); store(c[1] + 2 * LANES, c12)
    store(c[1] + 3 * LANES, c13)
    store(c[2], c20); store(c[2] + LANES, c21); store(c[2] + 2 * LANES, c22)
    store(c[2] + 3 * LANES, c23)
    store(c[3], c30); store(c[3] + LANES, c31); store(c[3] + 2 * LANES, c32)
    store(c[3] + 3 * LANES, c33)
    store(c[4], c40); store(c[4] + LANES, c41); store(c[4] + 2 * LANES, c42)
    store(c[4] + 3 * LANES, c43)
    store(c[5], c50); store(c[5] + LANES, c51); store(c[5] + 2 * LANES, c52)
    store(c[5] + 3 * LANES, c53)


cdef inline void tile_3(
    real** c, const real** init, const real** a, const Py_ssize_t* a_run, Py_ssize_t a_step,
    const real* b, const Py_ssize_t* b_run, Py_ssize_t b_step, Py_ssize_t runs, Py_ssize_t length,
) noexcept nogil:
    cdef vec c00 = load(init[0]), c01 = load(init[0] + LANES), c02 = load(init[0] + 2 * LANES)
    cdef vec c10 = load(init[1]), c11 = load(init[1] + LANES), c12 = load(init[1] + 2 * LANES)
    cdef vec c20 = load(init[2]), c21 = load(init[2] + LANES), c22 = load(init[2] + 2 * LANES)
    cdef vec c30 = load(init[3]), c31 = load(init[3] + LANES), c32 = load(init[3] + 2 * LANES)
    cdef vec c40 = load(init[4]), c41 = load(init[4] + LANES), c42 = load(init[4] + 2 * LANES)
    cdef vec c50 = load(init[5]), c51 = load(init[5] + LANES), c52 = load(init[5] + 2 * LANES)
    cdef vec b0, b1, b2
    cdef const real* a0
    cdef const real* a1
    cdef const real* a2
    cdef const real* a3
    cdef const real* a4
    cdef const real* a5
    cdef const real* b_r
    cdef Py_ssize_t r, _, at
    for r in range(runs):
        a0 = a[0] + a_run[r]
        a1 = a[1] + a_run[r]
        a2 = a[2] + a_run[r]
        a3 = a[3] + a_run[r]
        a4 = a[4] + a_run[r]
        a5 = a[5] + a_run[r]
        b_r = b + b_run[r]
        at = 0
        for _ in range(length):
            b0 = load(b_r)
            b1 = load(b_r + LANES)
            b2 = load(b_r + 2 * LANES)
            c00 = c00 + a0[at] * b0; c01 = c01 + a0[at] * b1; c02 = c02 + a0[at] * b2
            c10 = c10 + a1[at] * b0; c11 = c11 + a1[at] * b1; c12 = c12 + a1[at] * b2
            c20 = c20 + a2[at] * b0; c21 = c21 + a2[at] * b1; c22 = c22 + a2[at] * b2
            c30 = c30 + a3[at] * b0; c31 = c31 + a3[at] * b1; c32 = c32 + a3[at] * b2
            c40 = c40 + a4[at] * b0; c41 = c41 + a4[at] * b1; c42 = c42 + a4[at] * b2
            c50 = c50 + a5[at] * b0; c51 = c51 + a5[at] * b1; c52 = c52 + a5[at] * b2
            at = at + a_step
            b_r = b_r + b_step
    store(c[0], c00); store(c[0] + LANES, c01); store(c[0] + 2 * LANES, c02)
    store(c[1], c10); store(c[1] + LANES, c11); store(c[1] + 2 * LANES, c12)
    store(c[2], c20); store(c[2] + LANES, c21); store(c[2] + 2 * LANES, c22)
    store(c[3], c30); store(c[3] + LANES, c31); store(c[3] + 2 * LANES, c32)
    store(c[4], c40); store(c[4] + LANES, c41); store(c[4] + 2 * LANES, c42)
    store(c[5], c50); store(c[5] + LANES, c51); store(c[5] + 2 * LANES, c52)


cdef inline void tile_2(
    real** c, const real** init, const real** a, const Py_ssize_t* a_run, Py_ssize_t a_step,
    const real* b, const Py_ssize_t* b_run, Py_ssize_t b_step, Py_ssize_t runs, Py_ssize_t length,
) noexcept nogil:
    cdef vec c00 = load(init[0]), c01 = load(init[0] + LANES)
    cdef vec c10 = load(init[1]), c11 = load(init[1] + LANES)
    cdef vec c20 = load(init[2]), c21 = load(init[2] + LANES)
    cdef vec c30 = load(init[3]), c31 = load(init[3] + LANES)
    cdef vec c40 = load(init[4]), c41 = load(init[4] + LANES)
    cdef vec c50 = load(init[5]), c51 = load(init[5] + LANES)
    cdef vec b0, b1
    cdef const real* a0
    cdef const real* a1
    cdef const real* a2
    cdef const real* a3
    cdef const real* a4
    cdef const real* a5
    cdef const real* b_r
    cdef Py_ssize_t r, _, at
    for r in range(runs):
        a0 = a[0] + a_run[r]
        a1 = a[1] + a_run[r]
        a2 = a[2] + a_run[r]
        a3 = a[3] + a_run[r]
        a4 = a[4] + a_run[r]
        a5 = a[5] + a_run[r]
        b_r = b + b_run[r]
        at = 0
        for _ in range(length):
            b0 = load(b_r)
            b1 = load(b_r + LANES)
            c00 = c00 + a0[at] * b0; c01 = c01 + a0[at] * b1
            c10 = c10 + a1[at] * b0; c11 = c11 + a1[at] * b1
            c20 = c20 + a2[at] * b0; c21 = c21 + a2[at] * b1
            c30 = c30 + a3[at] * b0; c31 = c31 + a3[at] * b1
            c40 = c40 + a4[at] * b0; c41 = c41 + a4[at] * b1
            c50 = c50 + a5[at] * b0; c51 = c51 + a5[at] * b1
            at = at + a_step
            b_r = b_r + b_step
    store(c[0], c00); store(c[0] + LANES, c01)
    store(c[1], c10); store(c[1] + LANES, c11)
    store(c[2], c20); store(c[2] + LANES, c21)
    store(c[3], c30); store(c[3] + LANES, c31)
    store(c[4], c40); store(c[4] + LANES, c41)
    store(c[5], c50); store(c[5] + LANES, c51)


cdef inline void tile_1(
    real** c, const real** init, const real** a, const Py_ssize_t* a_run, Py_ssize_t a_step,
    const real* b, const Py_ssize_t* b_run, Py_ssize_t b_step, Py_ssize_t runs, Py_ssize_t length,
) noexcept nogil:
    cdef vec c00 = load(init[0])
    cdef vec c10 = load(init[1])
    cdef vec c20 = load(init[2])
    cdef vec c30 = load(init[3])
    cdef vec c40 = load(init[4])
    cdef vec c50 = load(init[5])
    cdef vec b0
    cdef const real* a0
    cdef const real* a1
    cdef const real* a2
    cdef const real* a3
    cdef const real* a4
    cdef const real* a5
    cdef const real* b_r
    cdef Py_ssize_t r, _, at
    for r in range(runs):
        a0 = a[0] + a_run[r]
        a1 = a[1] + a_run[r]
        a2 = a[2] + a_run[r]
        a3 = a[3] + a_run[r]
        a4 = a[4] + a_run[r]
        a5 = a[5] + a_run[r]
        b_r = b + b_run[r]
        at = 0
        for _ in range(length):
            b0 = load(b_r)
            c00 = c00 + a0[at] * b0
            c10 = c10 + a1[at] * b0
            c20 = c20 + a2[at] * b0
            c30 = c30 + a3[at] * b0
            c40 = c40 + a4[at] * b0
            c50 = c50 + a5[at] * b0
            at = at + a_step
            b_r = b_r + b_step
    store(c[0], c00)
    store(c[1], c10)
    store(c[2], c20)
    store(c[3], c30)
    store(c[4], c40)
    store(c[5], c50)


cdef inline void tile(
    Py_ssize_t vectors, real** c, const real** init,
    const real** a, const Py_ssize_t* a_run, Py_ssize_t a_step,
    const real* b, const Py_ssize_t* b_run, Py_ssize_t b_step, Py_ssize_t runs, Py_ssize_t length,
) noexcept nogil:
    """Run the tile of `vectors` vectors, at most VECTORS."""
    if VECTORS >= 4 and vectors == 4:
        tile_4(c, init, a, a_run, a_step, b, b_run, b_step, runs, length)
    elif VECTORS >= 3 and vectors == 3:
        tile_3(c, init, a, a_run, a_step, b, b_run, b_step, runs, length)
    elif vectors == 2:
        tile_2(c, init, a, a_run, a_step, b, b_run, b_step, runs, length)
    else:
        tile_1(c, init, a, a_run, a_step, b, b_run, b_step, runs, length)


# Output channels are cut into panels of at most VECTORS vectors, as even as can be: five
# vectors make panels of 3 and 2, not 4 and 1. The last vector of a panel may be ragged.
cdef inline Py_ssize_t vectors_of(Py_ssize_t channels) noexcept nogil:
    return (channels + LANES - 1) // LANES


cdef inline Py_ssize_t panels_of(Py_ssize_t channels) noexcept nogil:
    return (vectors_of(channels) + VECTORS - 1) // VECTORS


cdef inline Py_ssize_t first_vector(Py_ssize_t channels, Py_ssize_t panel) noexcept nogil:
    """Return the first vector of a panel; that of the panel after the last is their number."""
    return panel * vectors_of(channels) // panels_of(channels)


cdef inline void copy_panel(real* to, const real* source, Py_ssize_t count) noexcept nogil:
    """Copy the channels of a panel whose last vector is ragged.

    The last numbers are two halves, or two quarters, of a vector, which overlap: a call or a loop
    takes as long as a tile of few channels.
    """
    cdef Py_ssize_t i
    while count >= LANES:
        store(to, load(source))
        to, source, count = to + LANES, source + LANES, count - LANES
    if 2 * count >= LANES:
        i = count - LANES // 2
        memcpy(to, source, LANES // 2 * sizeof(real))
        memcpy(to + i, source + i, LANES // 2 * sizeof(real))
    elif 4 * count >= LANES:
        i = count - LANES // 4
        memcpy(to, source, LANES // 4 * sizeof(real))
        memcpy(to + i, source + i, LANES // 4 * sizeof(real))
    else:
        for i in range(count):
            to[i] = source[i]

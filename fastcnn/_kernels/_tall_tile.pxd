# The register tile of _tile.pxd, nine rows of one or two vectors: for the weight gradient of few
# input channels, whose rows are the taps of a 3x3 kernel. One pass then reads all of b, which may
# come from memory and so is fetched in advance, and adds it up: the gradient of the bias.
from fastcnn._kernels._types cimport LANES, VECTORS, load, prefetch, real, splat, store, vec

cdef enum:
    TALL_ROWS = 9
    AHEAD = 512                 # numbers


cdef inline bint fits_tall(Py_ssize_t vectors) noexcept nogil:
    """Return whether there is a tall tile so wide: two vectors take 22 registers."""
    return VECTORS >= 4 and vectors <= 2


cdef inline void tall_tile_2(
    real** c, const real** init, real* total, bint fresh,
    const real** a, const Py_ssize_t* a_run, Py_ssize_t a_step,
    const real* b, const Py_ssize_t* b_run, Py_ssize_t b_step, Py_ssize_t runs, Py_ssize_t length,
) noexcept nogil:
    cdef vec c00 = load(init[0]), c01 = load(init[0] + LANES)
    cdef vec c10 = load(init[1]), c11 = load(init[1] + LANES)
    cdef vec c20 = load(init[2]), c21 = load(init[2] + LANES)
    cdef vec c30 = load(init[3]), c31 = load(init[3] + LANES)
    cdef vec c40 = load(init[4]), c41 = load(init[4] + LANES)
    cdef vec c50 = load(init[5]), c51 = load(init[5] + LANES)
    cdef vec c60 = load(init[6]), c61 = load(init[6] + LANES)
    cdef vec c70 = load(init[7]), c71 = load(init[7] + LANES)
    cdef vec c80 = load(init[8]), c81 = load(init[8] + LANES)
    cdef vec t0 = splat(0) if fresh else load(total)
    cdef vec t1 = splat(0) if fresh else load(total + LANES)
    cdef vec b0, b1
    cdef const real* a0
    cdef const real* a1
    cdef const real* a2
    cdef const real* a3
    cdef const real* a4
    cdef const real* a5
    cdef const real* a6
    cdef const real* a7
    cdef const real* a8
    cdef const real* b_r
    cdef Py_ssize_t r, _, at
    for r in range(runs):
        a0 = a[0] + a_run[r]
        a1 = a[1] + a_run[r]
        a2 = a[2] + a_run[r]
        a3 = a[3] + a_run[r]
        a4 = a[4] + a_run[r]
        a5 = a[5] + a_run[r]
        a6 = a[6] + a_run[r]
        a7 = a[7] + a_run[r]
        a8 = a[8] + a_run[r]
        b_r = b + b_run[r]
        at = 0
        for _ in range(length):
            b0 = load(b_r)
            b1 = load(b_r + LANES)
            prefetch(b_r + AHEAD)
            prefetch(b_r + AHEAD + LANES)
            t0 = t0 + b0; t1 = t1 + b1
            c00 = c00 + a0[at] * b0; c01 = c01 + a0[at] * b1
            c10 = c10 + a1[at] * b0; c11 = c11 + a1[at] * b1
            c20 = c20 + a2[at] * b0; c21 = c21 + a2[at] * b1
            c30 = c30 + a3[at] * b0; c31 = c31 + a3[at] * b1
            c40 = c40 + a4[at] * b0; c41 = c41 + a4[at] * b1
            c50 = c50 + a5[at] * b0; c51 = c51 + a5[at] * b1
            c60 = c60 + a6[at] * b0; c61 = c61 + a6[at] * b1
            c70 = c70 + a7[at] * b0; c71 = c71 + a7[at] * b1
            c80 = c80 + a8[at] * b0; c81 = c81 + a8[at] * b1
            at = at + a_step
            b_r = b_r + b_step
    store(total, t0); store(total + LANES, t1)
    store(c[0], c00); store(c[0] + LANES, c01)
    store(c[1], c10); store(c[1] + LANES, c11)
    store(c[2], c20); store(c[2] + LANES, c21)
    store(c[3], c30); store(c[3] + LANES, c31)
    store(c[4], c40); store(c[4] + LANES, c41)
    store(c[5], c50); store(c[5] + LANES, c51)
    store(c[6], c60); store(c[6] + LANES, c61)
    store(c[7], c70); store(c[7] + LANES, c71)
    store(c[8], c80); store(c[8] + LANES, c81)


cdef inline void tall_tile_1(
    real** c, const real** init, real* total, bint fresh,
    const real** a, const Py_ssize_t* a_run, Py_ssize_t a_step,
    const real* b, const Py_ssize_t* b_run, Py_ssize_t b_step, Py_ssize_t runs, Py_ssize_t length,
) noexcept nogil:
    cdef vec c00 = load(init[0])
    cdef vec c10 = load(init[1])
    cdef vec c20 = load(init[2])
    cdef vec c30 = load(init[3])
    cdef vec c40 = load(init[4])
    cdef vec c50 = load(init[5])
    cdef vec c60 = load(init[6])
    cdef vec c70 = load(init[7])
    cdef vec c80 = load(init[8])
    cdef vec t0 = splat(0) if fresh else load(total)
    cdef vec b0
    cdef const real* a0
    cdef const real* a1
    cdef const real* a2
    cdef const real* a3
    cdef const real* a4
    cdef const real* a5
    cdef const real* a6
    cdef const real* a7
    cdef const real* a8
    cdef const real* b_r
    cdef Py_ssize_t r, _, at
    for r in range(runs):
        a0 = a[0] + a_run[r]
        a1 = a[1] + a_run[r]
        a2 = a[2] + a_run[r]
        a3 = a[3] + a_run[r]
        a4 = a[4] + a_run[r]
        a5 = a[5] + a_run[r]
        a6 = a[6] + a_run[r]
        a7 = a[7] + a_run[r]
        a8 = a[8] + a_run[r]
        b_r = b + b_run[r]
        at = 0
        for _ in range(length):
            b0 = load(b_r)
            prefetch(b_r + AHEAD)
            t0 = t0 + b0
            c00 = c00 + a0[at] * b0
            c10 = c10 + a1[at] * b0
            c20 = c20 + a2[at] * b0
            c30 = c30 + a3[at] * b0
            c40 = c40 + a4[at] * b0
            c50 = c50 + a5[at] * b0
            c60 = c60 + a6[at] * b0
            c70 = c70 + a7[at] * b0
            c80 = c80 + a8[at] * b0
            at = at + a_step
            b_r = b_r + b_step
    store(total, t0)
    store(c[0], c00)
    store(c[1], c10)
    store(c[2], c20)
    store(c[3], c30)
    store(c[4], c40)
    store(c[5], c50)
    store(c[6], c60)
    store(c[7], c70)
    store(c[8], c80)


cdef inline void tall_tile(
    Py_ssize_t vectors, real** c, const real** init, real* total, bint fresh,
    const real** a, const Py_ssize_t* a_run, Py_ssize_t a_step,
    const real* b, const Py_ssize_t* b_run, Py_ssize_t b_step, Py_ssize_t runs, Py_ssize_t length,
) noexcept nogil:
    """Run the tile of `vectors` vectors; total is b's own sum, which is 0 if it is fresh."""
    if vectors == 2:
        tall_tile_2(c, init, total, fresh, a, a_run, a_step, b, b_run, b_step, runs, length)
    else:
        tall_tile_1(c, init, total, fresh, a, a_run, a_step, b, b_run, b_step, runs, length)

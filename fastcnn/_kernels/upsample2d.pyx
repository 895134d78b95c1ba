"""Upsampling by a whole factor, by repetition or by linear interpolation.

N batch; H W input height and width; C channels; P Q output height and width; F G the factors of
height and width. Places between pixels are counted in half steps of the output, 2 * F to a pixel,
so that weights are quotients of whole numbers. Rows of the result go to the threads, and each of
its numbers is gathered: a gradient is summed in the order of the outputs, in double, or in `real`
where its terms are few.
"""

from cython.parallel cimport prange

from fastcnn._kernels._blend cimport blend_four, blend_two
from fastcnn._kernels._copy cimport copy
from fastcnn._kernels._stream cimport past_caches
from fastcnn._kernels._types cimport (
    LANES, any_nonzero, drain, load, real, real_out, splat, store, vec
)

cdef enum:
    BLOCK = 1024                # channels of a pixel that are summed at a time
    FEW_ROWS = 8                # of outputs that see a pixel


cdef struct Sizes:
    Py_ssize_t H, W, C, P, Q, F, G
    bint bilinear, streaming


# ---------------------------------------------------------------- forward
cdef void bilinear_row(real* y, const real* x_n, const Sizes* s, Py_ssize_t p) noexcept nogil:
    cdef Py_ssize_t place = min(max(2 * p + 1 - s.F, 0), 2 * s.F * (s.H - 1))
    cdef Py_ssize_t whole = 2 * s.G, rest = 0, q
    cdef double v = <double> (place % (2 * s.F)) / <double> (2 * s.F), w
    cdef const real* a = x_n + place // (2 * s.F) * s.W * s.C       # the pixel before, above
    cdef const real* last = a + (s.W - 1) * s.C
    cdef Py_ssize_t below = s.W * s.C
    cdef real* to
    place = 1 - s.G
    for q in range(s.Q):
        to = y + q * s.C
        w = <double> rest / <double> whole
        # A pixel of no weight is not looked at: it may be infinite.
        if rest == 0 and v == 0:
            copy(to, a, s.C, s.streaming)
        elif rest == 0:
            blend_two(to, a, a + below, <real> (1 - v), <real> v, s.C, s.streaming)
        elif v == 0:
            blend_two(to, a, a + s.C, <real> (1 - w), <real> w, s.C, s.streaming)
        else:
            blend_four(
                to, a, a + s.C, a + below, a + below + s.C, <real> ((1 - v) * (1 - w)),
                <real> ((1 - v) * w), <real> (v * (1 - w)), <real> (v * w), s.C, s.streaming,
            )
        place += 2
        if place > 0:
            rest = rest + 2 if place > 2 else place
            if rest >= whole:
                rest -= whole
                a += s.C
            if a >= last:
                a, rest = last, 0
    if s.streaming:
        drain()


cdef void nearest_rows(real* y, const real* x, const Sizes* s) noexcept nogil:
    """Repeat a row of pixels, each of them as often as the factors say."""
    cdef Py_ssize_t width = s.Q * s.C, q, i
    for i in range(s.F):
        if i > 0 and not s.streaming:
            copy(y + i * width, y, width, False)
        elif s.C == 1:
            for q in range(s.Q):
                y[i * width + q] = x[q // s.G] if s.G != 2 else x[q // 2]
        else:
            for q in range(s.Q):
                copy(y + i * width + q * s.C, x + q // s.G * s.C, s.C, s.streaming)
    if s.streaming:
        drain()


def upsample2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, Py_ssize_t F, Py_ssize_t G, bint bilinear,
    int threads,
):
    cdef Py_ssize_t N = x.shape[0], H = x.shape[1], P = y.shape[1], row
    cdef Sizes s = Sizes(
        H, x.shape[2], x.shape[3], P, y.shape[2], F, G, bilinear,
        past_caches(&y[0, 0, 0, 0], y.shape[0] * P * y.shape[2] * y.shape[3], y.shape[3]),
    )
    if bilinear:
        for row in prange(N * P, nogil=True, num_threads=threads, schedule="static"):
            bilinear_row(&y[row // P, row % P, 0, 0], &x[row // P, 0, 0, 0], &s, row % P)
    else:
        for row in prange(N * H, nogil=True, num_threads=threads, schedule="static"):
            nearest_rows(&y[row // H, row % H * s.F, 0, 0], &x[row // H, row % H, 0, 0], &s)


# ---------------------------------------------------------------- backward
cdef inline Py_ssize_t first_seen(Py_ssize_t h, Py_ssize_t F) noexcept nogil:
    """Return the first output that sees pixel h with a weight above 0."""
    return 0 if h == 0 else F * (h - 1) + (F - 1) // 2 + 1


cdef inline Py_ssize_t end_seen(Py_ssize_t h, Py_ssize_t F, Py_ssize_t size) noexcept nogil:
    return size * F if h == size - 1 else F * (h + 1) + F // 2


cdef inline double weight_of(
    Py_ssize_t p, Py_ssize_t h, Py_ssize_t F, Py_ssize_t size
) noexcept nogil:
    """Return the weight of pixel h in output p, which sees it."""
    cdef Py_ssize_t place = min(max(2 * p + 1 - F, 0), 2 * F * (size - 1)) - 2 * F * h
    return <double> (2 * F - (place if place > 0 else -place)) / <double> (2 * F)


cdef void add_one(double* total, const real* dy, double weight, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        total[i] += weight * dy[i]


cdef void add_four(
    double* total, const real* dy, const double* weight, Py_ssize_t C, Py_ssize_t count
) noexcept nogil:
    """Add what four neighbouring outputs give to a pixel."""
    cdef Py_ssize_t i
    cdef double a = weight[0], b = weight[1], c = weight[2], d = weight[3]
    cdef const real* dy_1 = dy + C
    cdef const real* dy_2 = dy + 2 * C
    cdef const real* dy_3 = dy + 3 * C
    for i in range(count):
        total[i] += (
            (a * <double> dy[i] + b * <double> dy_1[i])
            + (c * <double> dy_2[i] + d * <double> dy_3[i])
        )


cdef void backward_pixel(
    real* dx, const real* dy_n, const Sizes* s, Py_ssize_t h, Py_ssize_t w, Py_ssize_t count
) noexcept nogil:
    """Some channels of a pixel, at which dx and dy_n begin."""
    cdef double[BLOCK] total
    cdef double[4] weight
    cdef Py_ssize_t p_0 = h * s.F, p_end = p_0 + s.F, q_0 = w * s.G, q_end = q_0 + s.G, p, q, i
    cdef double v = 1
    cdef const real* dy
    if s.bilinear:
        p_0, p_end = first_seen(h, s.F), end_seen(h, s.F, s.H)
        q_0, q_end = first_seen(w, s.G), end_seen(w, s.G, s.W)
    for i in range(count):
        total[i] = 0
    for p in range(p_0, p_end):
        if s.bilinear:
            v = weight_of(p, h, s.F, s.H)
        dy = dy_n + (p * s.Q + q_0) * s.C
        q = q_0
        while q + 4 <= q_end:
            for i in range(4):
                weight[i] = v * weight_of(q + i, w, s.G, s.W) if s.bilinear else 1
            add_four(total, dy, weight, s.C, count)
            q += 4
            dy += 4 * s.C
        while q < q_end:
            add_one(total, dy, v * weight_of(q, w, s.G, s.W) if s.bilinear else 1, count)
            q += 1
            dy += s.C
    for i in range(count):
        dx[i] = <real> total[i]


cdef void sum_2x2(
    real_out dx, const real* dy_0, const real* dy_1, Py_ssize_t C
) noexcept nogil:
    """The gradient of a pixel that was repeated twice each way, in the rows dy_0 and dy_1."""
    cdef Py_ssize_t c
    for c in range(C):
        dx[c] = <real> (
            (<double> dy_0[c] + <double> dy_0[C + c]) + (<double> dy_1[c] + <double> dy_1[C + c])
        )


cdef bint sum_4xn(
    real* dx, const real* dy, Py_ssize_t row, Py_ssize_t C, const real* v, Py_ssize_t rows,
    const real* w,
) noexcept nogil:
    """The gradient of a pixel that four outputs of each of some rows see, with weights v * w.

    Return whether it is finite: `real` may be too narrow for a part of a sum that it can hold.
    """
    cdef Py_ssize_t c = 0, i
    cdef vec w_0 = splat(w[0]), w_1 = splat(w[1]), w_2 = splat(w[2]), w_3 = splat(w[3]), total
    cdef vec not_finite = splat(0)
    cdef bint finite = True
    cdef const real* at
    cdef real sum_of
    while c + LANES <= C:
        total = splat(0)
        at = dy + c
        for i in range(rows):
            total = total + splat(v[i]) * (
                (load(at) * w_0 + load(at + C) * w_1)
                + (load(at + 2 * C) * w_2 + load(at + 3 * C) * w_3)
            )
            at += row
        store(dx + c, total)
        not_finite = not_finite + (total - total)
        c += LANES
    while c < C:
        sum_of = 0
        at = dy + c
        for i in range(rows):
            sum_of += v[i] * ((at[0] * w[0] + at[C] * w[1]) + (at[2 * C] * w[2] + at[3 * C] * w[3]))
            at += row
        dx[c] = sum_of
        finite = finite and sum_of - sum_of == 0
        c += 1
    return finite and not any_nonzero(not_finite)


cdef void backward_row(real* dx, const real* dy_n, const Sizes* s, Py_ssize_t h) noexcept nogil:
    cdef Py_ssize_t w, c, p_0 = first_seen(h, s.F), rows = end_seen(h, s.F, s.H) - p_0, i
    cdef const real* dy
    cdef real[FEW_ROWS] v
    cdef real[4] four
    # So few terms are summed in `real`: all pixels but those of the rim have the same weights.
    cdef bint summed, few = s.bilinear and s.G == 2 and rows <= FEW_ROWS and s.W > 2
    if few:
        for i in range(rows):
            v[i] = <real> weight_of(p_0 + i, h, s.F, s.H)
        for i in range(4):
            four[i] = <real> weight_of(1 + i, 1, 2, 3)
    for w in range(s.W):
        summed = False
        if few and 0 < w < s.W - 1:
            dy = dy_n + (p_0 * s.Q + 2 * w - 1) * s.C
            summed = sum_4xn(dx, dy, s.Q * s.C, s.C, v, rows, four)
        elif s.F == 2 and s.G == 2 and not s.bilinear:
            dy = dy_n + (2 * h * s.Q + 2 * w) * s.C
            sum_2x2(dx, dy, dy + s.Q * s.C, s.C)
            summed = True
        if not summed:
            c = 0
            while c < s.C:
                backward_pixel(dx + c, dy_n + c, s, h, w, min(<Py_ssize_t> BLOCK, s.C - c))
                c += BLOCK
        dx += s.C


def upsample2d_backward(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, Py_ssize_t F, Py_ssize_t G, bint bilinear,
    int threads,
):
    cdef Py_ssize_t N = dx.shape[0], H = dx.shape[1], row
    cdef Sizes s = Sizes(
        H, dx.shape[2], dx.shape[3], dy.shape[1], dy.shape[2], F, G, bilinear, False
    )
    for row in prange(N * H, nogil=True, num_threads=threads, schedule="static"):
        backward_row(&dx[row // H, row % H, 0, 0], &dy[row // H, 0, 0, 0], &s, row % H)

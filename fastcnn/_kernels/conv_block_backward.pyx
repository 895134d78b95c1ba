"""Backward of convolution + bias + ReLU + max-pool, from the surviving gradients alone.

N batch; H W input height and width; C input channels; P Q height and width of the pooled
output; K filters; R S kernel height and width; L vectors of a window.

Of all outputs of the convolution only the winners of their pool windows that ReLU let pass
have a gradient: at most one in four, at places that the forward pass stored. Each of them adds
value * window of x to the gradient of its filter and value * filter to its window of dx, a
window being R rows of S*C numbers. Both sums keep six vectors of the target in registers while
a list of (place, value) streams past: for dw the winners of one filter, for dx those winners of
one pooled pixel that sit at the same place of the pool window, and so share their window.

Images are cut into parts, as many as the shape asks for (never the threads), each with a weight
gradient of its own; the parts are added in order. So the bits do not depend on the threads.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from fastcnn._kernels._types cimport LANES, load, real, store, vec

cdef enum:
    MOST_PARTS = 8              # enough for 8 threads
    GROUP = 6                   # vectors of the target in registers


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, R, S
    Py_ssize_t stride_h, stride_w, pad_top, pad_left
    Py_ssize_t pool_h, pool_w, pool_stride_h, pool_stride_w
    bint copied                 # whether an image is worked on in a padded copy,
    Py_ssize_t rows, columns    # of this size
    Py_ssize_t row_vectors, L   # vectors of one row of a window, and of the window
    Py_ssize_t parts
    Py_ssize_t numbers, places  # scratch a thread: reals and integers


cdef void plan(Geometry* g) noexcept nogil:
    """Set what follows from the sizes."""
    cdef Py_ssize_t span_h = ((g.P - 1) * g.pool_stride_h + g.pool_h - 1) * g.stride_h + g.R
    cdef Py_ssize_t span_w = ((g.Q - 1) * g.pool_stride_w + g.pool_w - 1) * g.stride_w + g.S
    cdef Py_ssize_t winners = g.P * g.Q * g.K
    g.row_vectors = (g.S * g.C + LANES - 1) // LANES
    g.L = g.R * g.row_vectors
    g.copied = (g.pad_top > 0 or g.pad_left > 0 or span_h > g.H or span_w > g.W
                or g.S * g.C % LANES != 0)
    g.rows, g.columns = g.H, g.W
    if g.copied:
        # The last vector of a window's row may reach past the row, but not into the next one.
        g.rows = max(span_h, g.H + g.pad_top)
        g.columns = max(span_w, g.W + g.pad_left)
        g.columns = max(g.columns, (g.row_vectors * LANES + g.C - 1) // g.C)
    g.parts = min(g.N, MOST_PARTS)
    g.numbers = 2 * winners + g.K + LANES
    if g.copied:
        g.numbers += 2 * (g.rows * g.columns * g.C + LANES)
    g.places = 2 * (winners + g.K) + (g.pool_h * g.pool_w + 1) * (g.P * g.Q + 2)


cdef void add_windows(
    real** target, const real* x, const Py_ssize_t* at, const int32_t* place,
    const real* value, Py_ssize_t count,
) noexcept nogil:
    """Add value[i] * x[place[i] + at[v]] to target[v], for six vectors v."""
    cdef vec t0 = load(target[0]), t1 = load(target[1]), t2 = load(target[2])
    cdef vec t3 = load(target[3]), t4 = load(target[4]), t5 = load(target[5])
    cdef Py_ssize_t a0 = at[0], a1 = at[1], a2 = at[2], a3 = at[3], a4 = at[4], a5 = at[5], i
    cdef const real* s
    for i in range(count):
        s = x + place[i]
        t0 = t0 + value[i] * load(s + a0)
        t1 = t1 + value[i] * load(s + a1)
        t2 = t2 + value[i] * load(s + a2)
        t3 = t3 + value[i] * load(s + a3)
        t4 = t4 + value[i] * load(s + a4)
        t5 = t5 + value[i] * load(s + a5)
    store(target[0], t0); store(target[1], t1); store(target[2], t2)
    store(target[3], t3); store(target[4], t4); store(target[5], t5)


cdef void add_filters(
    real** target, const real* filters, const int32_t* place,
    const real* value, Py_ssize_t count,
) noexcept nogil:
    """Add value[i] * filters[place[i] + v * LANES] to target[v], for six vectors v."""
    cdef vec t0 = load(target[0]), t1 = load(target[1]), t2 = load(target[2])
    cdef vec t3 = load(target[3]), t4 = load(target[4]), t5 = load(target[5])
    cdef Py_ssize_t i
    cdef const real* s
    for i in range(count):
        s = filters + place[i]
        t0 = t0 + value[i] * load(s)
        t1 = t1 + value[i] * load(s + LANES)
        t2 = t2 + value[i] * load(s + 2 * LANES)
        t3 = t3 + value[i] * load(s + 3 * LANES)
        t4 = t4 + value[i] * load(s + 4 * LANES)
        t5 = t5 + value[i] * load(s + 5 * LANES)
    store(target[0], t0); store(target[1], t1); store(target[2], t2)
    store(target[3], t3); store(target[4], t4); store(target[5], t5)


cdef void sort_winners(
    const Geometry* g, const real* dy, const unsigned char* argmax,
    real* filter_value, int32_t* filter_place, int32_t* filter_count,
    real* pixel_value, int32_t* pixel_filter, int32_t* pixel_start,
) noexcept nogil:
    """List an image's winners by filter, with their windows, and by pixel and place.

    A filter's list has room for every pixel, and for one dead at its end. A pixel's list has room
    for every filter; its places follow each other, the dead, which have no place, come last.
    """
    cdef Py_ssize_t pixels = g.P * g.Q, dead = g.pool_h * g.pool_w, size = g.L * LANES
    cdef Py_ssize_t pixel, k, i, base
    cdef int32_t* cursor = pixel_start + pixels * (dead + 1)
    cdef int32_t* window = cursor + dead + 1
    cdef int32_t at, total
    memset(filter_count, 0, g.K * sizeof(int32_t))
    for pixel in range(pixels):
        base = ((pixel // g.Q * g.pool_stride_h * g.stride_h) * g.columns
                + pixel % g.Q * g.pool_stride_w * g.stride_w) * g.C
        total = 0
        for i in range(dead):
            window[i] = base + (i // g.pool_w * g.stride_h * g.columns
                                + i % g.pool_w * g.stride_w) * g.C
            pixel_start[i] = total
            cursor[i] = total
            total += count_equal(argmax, g.K, i)
        pixel_start[dead] = total
        cursor[dead] = total
        window[dead] = 0
        at = 0
        for k in range(g.K):
            i = argmax[k]
            pixel_filter[cursor[i]] = at
            pixel_value[cursor[i]] = dy[k]
            cursor[i] += 1
            filter_place[k * (pixels + 1) + filter_count[k]] = window[i]
            filter_value[k * (pixels + 1) + filter_count[k]] = dy[k]
            filter_count[k] += i != dead
            at += size
        dy += g.K
        argmax += g.K
        pixel_value += g.K
        pixel_filter += g.K
        pixel_start += dead + 1


cdef inline int32_t count_equal(const unsigned char* values, Py_ssize_t size,
                                unsigned char wanted) noexcept nogil:
    """Count the values equal to `wanted`, in bytes that cannot overflow."""
    cdef int32_t total = 0
    cdef unsigned char few
    cdef Py_ssize_t i, start = 0
    while start < size:
        few = 0
        for i in range(start, min(start + 128, size)):
            few += values[i] == wanted
        total += few
        start += 128
    return total


cdef void backward_image(
    const Geometry* g, real* dx, real* dw, real* db, const real* dy,
    const unsigned char* argmax, const real* x, const real* filters,
    real* numbers, int32_t* places,
) noexcept nogil:
    """Add one image's gradient to dw [k][window] and db; write dx unless it is NULL."""
    cdef Py_ssize_t pixels = g.P * g.Q, dead = g.pool_h * g.pool_w, size = g.L * LANES
    cdef Py_ssize_t row = g.columns * g.C, pixel, k, i, j, v, count, base
    cdef real* filter_value = numbers
    cdef real* pixel_value = filter_value + (pixels + 1) * g.K
    cdef real* spare = pixel_value + pixels * g.K
    cdef real* x_copy = spare + LANES
    cdef real* dx_copy = x_copy + g.rows * row + LANES
    cdef int32_t* filter_place = places
    cdef int32_t* pixel_filter = filter_place + (pixels + 1) * g.K
    cdef int32_t* filter_count = pixel_filter + pixels * g.K
    cdef int32_t* pixel_start = filter_count + g.K
    cdef Py_ssize_t window_at[GROUP]
    cdef Py_ssize_t filter_at[GROUP]
    cdef real* target[GROUP]
    cdef real total
    sort_winners(g, dy, argmax, filter_value, filter_place, filter_count,
                 pixel_value, pixel_filter, pixel_start)
    memset(spare, 0, LANES * sizeof(real))
    if g.copied:
        memset(x_copy, 0, (g.rows * row + LANES) * sizeof(real))
        for i in range(g.H):
            memcpy(x_copy + (i + g.pad_top) * row + g.pad_left * g.C, x + i * g.W * g.C,
                   g.W * g.C * sizeof(real))
        x = x_copy
    if not g.copied:
        dx_copy = dx
    if dx is not NULL:
        memset(dx_copy, 0, (g.rows * row + (LANES if g.copied else 0)) * sizeof(real))

    for k in range(g.K):
        total = 0
        for i in range(filter_count[k]):
            total = total + filter_value[k * (pixels + 1) + i]
        db[k] += total
    v = 0
    while v < g.L:
        count = min(<Py_ssize_t> GROUP, g.L - v)
        for i in range(GROUP):      # a short last group repeats its last vector, to a spare one
            j = v + min(i, count - 1)
            filter_at[i] = j * LANES
            window_at[i] = j // g.row_vectors * row + j % g.row_vectors * LANES
            target[i] = spare
        for k in range(g.K):
            if filter_count[k] == 0:
                continue
            for i in range(count):
                target[i] = dw + k * size + filter_at[i]
            add_windows(target, x, window_at, filter_place + k * (pixels + 1),
                        filter_value + k * (pixels + 1), filter_count[k])
        if dx is not NULL:
            for pixel in range(pixels):
                base = ((pixel // g.Q * g.pool_stride_h * g.stride_h) * g.columns
                        + pixel % g.Q * g.pool_stride_w * g.stride_w) * g.C
                for j in range(dead):
                    k = pixel_start[pixel * (dead + 1) + j]
                    if pixel_start[pixel * (dead + 1) + j + 1] == k:
                        continue
                    for i in range(count):
                        target[i] = dx_copy + base + window_at[i] + (
                            j // g.pool_w * g.stride_h * g.columns + j % g.pool_w * g.stride_w
                        ) * g.C
                    add_filters(target, filters + v * LANES, pixel_filter + pixel * g.K + k,
                                pixel_value + pixel * g.K + k,
                                pixel_start[pixel * (dead + 1) + j + 1] - k)
        v += GROUP
    if g.copied and dx is not NULL:
        for i in range(g.H):
            memcpy(dx + i * g.W * g.C, dx_copy + (i + g.pad_top) * row + g.pad_left * g.C,
                   g.W * g.C * sizeof(real))


cdef void gather_filter(const Geometry* g, Py_ssize_t k, real* filters,
                        const real* w) noexcept nogil:
    """Write filter k as a window: [r][s*C + c], zeros to the end of each row's last vector."""
    cdef Py_ssize_t r, i, length = g.row_vectors * LANES
    cdef real* to = filters + k * g.L * LANES
    for r in range(g.R):
        for i in range(g.S * g.C):
            to[r * length + i] = w[(r * g.S * g.C + i) * g.K + k]
        for i in range(g.S * g.C, length):
            to[r * length + i] = 0


cdef void reduce_filter(const Geometry* g, Py_ssize_t k, real* dw, real* db,
                        real* dw_parts, real* db_parts) noexcept nogil:
    """Add the parts of filter k and write its gradient."""
    cdef Py_ssize_t r, i, part, length = g.row_vectors * LANES, size = g.L * LANES
    cdef real* first = dw_parts + k * size
    for part in range(1, g.parts):
        for i in range(size):
            first[i] = first[i] + (first + part * g.K * size)[i]
        db_parts[k] += db_parts[part * g.K + k]
    db[k] = db_parts[k]
    for r in range(g.R):
        for i in range(g.S * g.C):
            dw[(r * g.S * g.C + i) * g.K + k] = first[r * length + i]


def lanes():
    """Return how many numbers a vector holds."""
    return LANES


def workspace_size(
    Py_ssize_t N, Py_ssize_t H, Py_ssize_t W, Py_ssize_t C, Py_ssize_t P, Py_ssize_t Q,
    Py_ssize_t K, Py_ssize_t R, Py_ssize_t S, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t pool_h, Py_ssize_t pool_w,
    Py_ssize_t pool_stride_h, Py_ssize_t pool_stride_w, int threads,
):
    """Return how many numbers and how many places (int32) of workspace the gradient takes."""
    cdef Geometry g = Geometry(
        N, H, W, C, P, Q, K, R, S, stride_h, stride_w, pad_top, pad_left, pool_h, pool_w,
        pool_stride_h, pool_stride_w, False, 0, 0, 0, 0, 0, 0, 0)
    plan(&g)
    return ((g.parts + 1) * g.K * g.L * LANES + g.parts * g.K + threads * g.numbers,
            threads * g.places)


def conv_block_backward(
    dx, real[:, :, :, ::1] dw, real[::1] db, const real[:, :, :, ::1] dy,
    const unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, real[::1] workspace, int32_t[::1] places,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t pool_h, Py_ssize_t pool_w, Py_ssize_t pool_stride_h, Py_ssize_t pool_stride_w,
    int threads,
):
    """Write dx (N, H, W, C), unless it is None, dw (R, S, C, K) and db (K,); N at least 1."""
    cdef Geometry g = Geometry(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], dy.shape[1], dy.shape[2], w.shape[3],
        w.shape[0], w.shape[1], stride_h, stride_w, pad_top, pad_left, pool_h, pool_w,
        pool_stride_h, pool_stride_w, False, 0, 0, 0, 0, 0, 0, 0)
    cdef Py_ssize_t part, n, k, size, image, pooled
    cdef real[:, :, :, ::1] dx_view
    cdef real* dx_data = NULL
    cdef real* filters
    cdef real* dw_parts
    cdef real* db_parts
    cdef real* numbers
    if dx is not None:
        dx_view = dx
        dx_data = &dx_view[0, 0, 0, 0]
    plan(&g)
    size, image, pooled = g.K * g.L * LANES, g.H * g.W * g.C, g.P * g.Q * g.K
    filters = &workspace[0]
    dw_parts = filters + size
    db_parts = dw_parts + g.parts * size
    numbers = db_parts + g.parts * g.K
    for k in prange(g.K, nogil=True, num_threads=threads, schedule="static"):
        gather_filter(&g, k, filters, &w[0, 0, 0, 0])
    for part in prange(g.parts, nogil=True, num_threads=threads, schedule="dynamic"):
        memset(dw_parts + part * size, 0, size * sizeof(real))
        memset(db_parts + part * g.K, 0, g.K * sizeof(real))
        for n in range(part * g.N // g.parts, (part + 1) * g.N // g.parts):
            backward_image(
                &g, NULL if dx_data is NULL else dx_data + n * image, dw_parts + part * size,
                db_parts + part * g.K, &dy[0, 0, 0, 0] + n * pooled,
                &argmax[0, 0, 0, 0] + n * pooled, &x[0, 0, 0, 0] + n * image, filters,
                numbers + threadid() * g.numbers, &places[0] + threadid() * g.places)
    for k in prange(g.K, nogil=True, num_threads=threads, schedule="static"):
        reduce_filter(&g, k, &dw[0, 0, 0, 0], &db[0], dw_parts, db_parts)

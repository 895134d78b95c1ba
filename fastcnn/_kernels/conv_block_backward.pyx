"""Backward of convolution + bias + ReLU + max-pool, from the surviving gradients alone.

N batch; H W input height and width; C input channels; P Q height and width of the pooled
output; K filters; R S kernel height and width; L vectors of a window.

Of all outputs of the convolution only the winners of their pool windows that ReLU let pass
have a gradient: at most one in four, at places that the forward pass stored. Each of them adds
value * window of x to the gradient of its filter and value * filter to its window of dx, a
window being R rows of S*C numbers. Both sums keep some vectors of the target in registers: for
dw, as many as there is room for, while a list of (place, value) of one filter's winners streams
past; for dx, while the winners of one pooled pixel do that sit at the same place of the pool
window and so share their window, six, so that of all filters the vectors in turn stay in the L1
cache. Where the windows of all places fit into the registers (_patch.pxd), they share them too.

Images are cut into parts, as many as the shape asks for (never the threads), each with a weight
gradient of its own; the parts are added in order. So the bits do not depend on the threads.

Longer than most: the tiles of both sums are written out, vector by vector, for every size.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy, memset

from fastcnn._kernels._patch cimport backward_patches
from fastcnn._kernels._types cimport LANES, VECTORS, load, lowest_bit, real, store, vec
from fastcnn._kernels._winners cimport (
    WORD, Geometry, find_windows, mark_pixels, mark_winners, plan, vector_at
)


# These are functions of their own, not inlined: that keeps all pointers of a loop in registers.
cdef void add_windows_3x6(
    real* target, const real* x, const Py_ssize_t* at, const int32_t* place, const real* value,
    Py_ssize_t count,
) noexcept nogil:
    """Add value[i] * x[place[i] + at[r]] to the target: runs r of vectors, here three of six."""
    cdef vec t0 = load(target), t1 = load(target + LANES), t2 = load(target + 2 * LANES)
    cdef vec t3 = load(target + 3 * LANES), t4 = load(target + 4 * LANES)
    cdef vec t5 = load(target + 5 * LANES)
    cdef vec t6 = load(target + 6 * LANES), t7 = load(target + 7 * LANES)
    cdef vec t8 = load(target + 8 * LANES)
    cdef vec t9 = load(target + 9 * LANES), t10 = load(target + 10 * LANES)
    cdef vec t11 = load(target + 11 * LANES)
    cdef vec t12 = load(target + 12 * LANES), t13 = load(target + 13 * LANES)
    cdef vec t14 = load(target + 14 * LANES)
    cdef vec t15 = load(target + 15 * LANES), t16 = load(target + 16 * LANES)
    cdef vec t17 = load(target + 17 * LANES)
    cdef const real* s0
    cdef const real* s1
    cdef const real* s2
    cdef Py_ssize_t i
    for i in range(count):
        s0 = x + at[0] + place[i]
        s1 = x + at[1] + place[i]
        s2 = x + at[2] + place[i]
        t0 = t0 + value[i] * load(s0)
        t1 = t1 + value[i] * load(s0 + LANES)
        t2 = t2 + value[i] * load(s0 + 2 * LANES)
        t3 = t3 + value[i] * load(s0 + 3 * LANES)
        t4 = t4 + value[i] * load(s0 + 4 * LANES)
        t5 = t5 + value[i] * load(s0 + 5 * LANES)
        t6 = t6 + value[i] * load(s1)
        t7 = t7 + value[i] * load(s1 + LANES)
        t8 = t8 + value[i] * load(s1 + 2 * LANES)
        t9 = t9 + value[i] * load(s1 + 3 * LANES)
        t10 = t10 + value[i] * load(s1 + 4 * LANES)
        t11 = t11 + value[i] * load(s1 + 5 * LANES)
        t12 = t12 + value[i] * load(s2)
        t13 = t13 + value[i] * load(s2 + LANES)
        t14 = t14 + value[i] * load(s2 + 2 * LANES)
        t15 = t15 + value[i] * load(s2 + 3 * LANES)
        t16 = t16 + value[i] * load(s2 + 4 * LANES)
        t17 = t17 + value[i] * load(s2 + 5 * LANES)
    store(target, t0); store(target + LANES, t1); store(target + 2 * LANES, t2)
    store(target + 3 * LANES, t3); store(target + 4 * LANES, t4); store(target + 5 * LANES, t5)
    store(target + 6 * LANES, t6); store(target + 7 * LANES, t7); store(target + 8 * LANES, t8)
    store(target + 9 * LANES, t9); store(target + 10 * LANES, t10); store(target + 11 * LANES, t11)
    store(target + 12 * LANES, t12); store(target + 13 * LANES, t13)
    store(target + 14 * LANES, t14)
    store(target + 15 * LANES, t15); store(target + 16 * LANES, t16)
    store(target + 17 * LANES, t17)


cdef void add_windows_3x3(
    real* target, const real* x, const Py_ssize_t* at, const int32_t* place, const real* value,
    Py_ssize_t count,
) noexcept nogil:
    cdef vec t0 = load(target), t1 = load(target + LANES), t2 = load(target + 2 * LANES)
    cdef vec t3 = load(target + 3 * LANES), t4 = load(target + 4 * LANES)
    cdef vec t5 = load(target + 5 * LANES)
    cdef vec t6 = load(target + 6 * LANES), t7 = load(target + 7 * LANES)
    cdef vec t8 = load(target + 8 * LANES)
    cdef const real* s0
    cdef const real* s1
    cdef const real* s2
    cdef Py_ssize_t i
    for i in range(count):
        s0 = x + at[0] + place[i]
        s1 = x + at[1] + place[i]
        s2 = x + at[2] + place[i]
        t0 = t0 + value[i] * load(s0)
        t1 = t1 + value[i] * load(s0 + LANES)
        t2 = t2 + value[i] * load(s0 + 2 * LANES)
        t3 = t3 + value[i] * load(s1)
        t4 = t4 + value[i] * load(s1 + LANES)
        t5 = t5 + value[i] * load(s1 + 2 * LANES)
        t6 = t6 + value[i] * load(s2)
        t7 = t7 + value[i] * load(s2 + LANES)
        t8 = t8 + value[i] * load(s2 + 2 * LANES)
    store(target, t0); store(target + LANES, t1); store(target + 2 * LANES, t2)
    store(target + 3 * LANES, t3); store(target + 4 * LANES, t4); store(target + 5 * LANES, t5)
    store(target + 6 * LANES, t6); store(target + 7 * LANES, t7); store(target + 8 * LANES, t8)


cdef void add_windows_1x3(
    real* target, const real* x, const Py_ssize_t* at, const int32_t* place, const real* value,
    Py_ssize_t count,
) noexcept nogil:
    cdef vec t0 = load(target), t1 = load(target + LANES), t2 = load(target + 2 * LANES)
    cdef const real* s0
    cdef Py_ssize_t i
    for i in range(count):
        s0 = x + at[0] + place[i]
        t0 = t0 + value[i] * load(s0)
        t1 = t1 + value[i] * load(s0 + LANES)
        t2 = t2 + value[i] * load(s0 + 2 * LANES)
    store(target, t0); store(target + LANES, t1); store(target + 2 * LANES, t2)


cdef void add_windows_1x1(
    real* target, const real* x, const Py_ssize_t* at, const int32_t* place, const real* value,
    Py_ssize_t count,
) noexcept nogil:
    cdef vec t0 = load(target)
    cdef const real* s0
    cdef Py_ssize_t i
    for i in range(count):
        s0 = x + at[0] + place[i]
        t0 = t0 + value[i] * load(s0)
    store(target, t0)


cdef void add_filters_2x3(
    real* dx, const Py_ssize_t* at, const real* filters, Py_ssize_t size,
    const uint64_t* winners, Py_ssize_t words, const real* value,
) noexcept nogil:
    """Add value[k] * filter k to dx[at[r]] for the winners k: runs r of vectors, two of three."""
    cdef real* to_0 = dx + at[0]
    cdef real* to_1 = dx + at[1]
    cdef vec t0 = load(to_0), t1 = load(to_0 + LANES), t2 = load(to_0 + 2 * LANES)
    cdef vec t3 = load(to_1), t4 = load(to_1 + LANES), t5 = load(to_1 + 2 * LANES)
    cdef const real* s
    cdef Py_ssize_t word, k
    cdef uint64_t bits
    for word in range(words):
        bits = winners[word]
        while bits:
            k = word * WORD + lowest_bit(bits)
            bits &= bits - 1
            s = filters + k * size
            t0 = t0 + value[k] * load(s)
            t1 = t1 + value[k] * load(s + LANES)
            t2 = t2 + value[k] * load(s + 2 * LANES)
            t3 = t3 + value[k] * load(s + 3 * LANES)
            t4 = t4 + value[k] * load(s + 4 * LANES)
            t5 = t5 + value[k] * load(s + 5 * LANES)
    store(to_0, t0); store(to_0 + LANES, t1); store(to_0 + 2 * LANES, t2)
    store(to_1, t3); store(to_1 + LANES, t4); store(to_1 + 2 * LANES, t5)


cdef void add_filters_1x3(
    real* dx, const Py_ssize_t* at, const real* filters, Py_ssize_t size,
    const uint64_t* winners, Py_ssize_t words, const real* value,
) noexcept nogil:
    cdef real* to_0 = dx + at[0]
    cdef vec t0 = load(to_0), t1 = load(to_0 + LANES), t2 = load(to_0 + 2 * LANES)
    cdef const real* s
    cdef Py_ssize_t word, k
    cdef uint64_t bits
    for word in range(words):
        bits = winners[word]
        while bits:
            k = word * WORD + lowest_bit(bits)
            bits &= bits - 1
            s = filters + k * size
            t0 = t0 + value[k] * load(s)
            t1 = t1 + value[k] * load(s + LANES)
            t2 = t2 + value[k] * load(s + 2 * LANES)
    store(to_0, t0); store(to_0 + LANES, t1); store(to_0 + 2 * LANES, t2)


cdef void add_filters_1x1(
    real* dx, const Py_ssize_t* at, const real* filters, Py_ssize_t size,
    const uint64_t* winners, Py_ssize_t words, const real* value,
) noexcept nogil:
    cdef real* to_0 = dx + at[0]
    cdef vec t0 = load(to_0)
    cdef const real* s
    cdef Py_ssize_t word, k
    cdef uint64_t bits
    for word in range(words):
        bits = winners[word]
        while bits:
            k = word * WORD + lowest_bit(bits)
            bits &= bits - 1
            s = filters + k * size
            t0 = t0 + value[k] * load(s)
    store(to_0, t0)


cdef void backward_filters(
    const Geometry* g, real* dw, real* db, const real* dy, const unsigned char* argmax,
    const real* x, const int32_t* windows, uint64_t* winners, int32_t* place, real* value,
) noexcept nogil:
    """Add an image's gradient to dw [k][window] and db; the last three are room for winners."""
    cdef Py_ssize_t K = g.K, words = g.pixel_words, places = g.pool_h * g.pool_w
    cdef Py_ssize_t run, r, v, vectors, k, pixel, word, count, i
    cdef Py_ssize_t at[3]
    cdef real* target
    cdef real total
    cdef uint64_t bits
    mark_pixels(g, argmax, winners)
    for k in range(K):
        count, total = 0, db[k]
        for word in range(words):
            bits = winners[k * words + word]
            while bits:
                pixel = word * WORD + lowest_bit(bits)
                bits &= bits - 1
                i = pixel * K + k
                place[count] = windows[pixel * places + argmax[i]]
                value[count] = dy[i]
                total = total + dy[i]
                count += 1
        db[k] = total
        v = 0
        while v < g.L:
            run = 3 if g.row_vectors % 3 == 0 else 1
            if VECTORS == 4 and g.row_vectors % 6 == 0 and g.L - v >= 18:
                run = 6         # 18 vectors and more fit into the registers
            vectors = 3 * run if run > 1 and g.L - v >= 3 * run else run
            for r in range(vectors // run):
                at[r] = vector_at(g, v + r * run)
            target = dw + (k * g.L + v) * LANES
            if vectors == 18:
                add_windows_3x6(target, x, at, place, value, count)
            elif vectors == 9:
                add_windows_3x3(target, x, at, place, value, count)
            elif vectors == 3:
                add_windows_1x3(target, x, at, place, value, count)
            else:
                add_windows_1x1(target, x, at, place, value, count)
            v += vectors


cdef void backward_pixels(
    const Geometry* g, real* dx, const real* dy, const real* filters, const int32_t* windows,
    const uint64_t* winners,
) noexcept nogil:
    """Add an image's gradient to dx."""
    cdef Py_ssize_t places = g.pool_h * g.pool_w, run = 3 if g.row_vectors % 3 == 0 else 1
    cdef Py_ssize_t size = g.L * LANES, v = 0, pixel, i, vectors
    cdef Py_ssize_t at[2]
    cdef const real* f
    cdef const real* value
    cdef const uint64_t* won
    cdef real* to
    while v < g.L:
        vectors = 6 if run == 3 and g.L - v >= 6 else run
        at[0], at[1] = vector_at(g, v), vector_at(g, v + run)
        f = filters + v * LANES
        for pixel in range(g.P * g.Q):
            value = dy + pixel * g.K
            for i in range(places):
                won = winners + (pixel * places + i) * g.words
                to = dx + windows[pixel * places + i]
                if vectors == 6:
                    add_filters_2x3(to, at, f, size, won, g.words, value)
                elif vectors == 3:
                    add_filters_1x3(to, at, f, size, won, g.words, value)
                else:
                    add_filters_1x1(to, at, f, size, won, g.words, value)
        v += vectors


cdef void weights_task(
    const Geometry* g, Py_ssize_t part, real* dw, real* db, const real* dy,
    const unsigned char* argmax, const real* x, const int32_t* windows, real* numbers,
    int32_t* places,
) noexcept nogil:
    """Write the gradient of a part of the images to dw [k][window] and db."""
    cdef Py_ssize_t row = g.columns * g.C, n, i
    cdef real* x_copy = numbers + g.list_size
    cdef uint64_t* winners = <uint64_t*> places
    cdef const real* x_n
    memset(dw, 0, g.K * g.L * LANES * sizeof(real))
    memset(db, 0, g.K * sizeof(real))
    if g.copied:
        memset(x_copy, 0, g.copy_size * sizeof(real))
    for n in range(part * g.N // g.parts, (part + 1) * g.N // g.parts):
        x_n = x + n * g.H * g.W * g.C
        if g.copied:
            for i in range(g.H):
                memcpy(x_copy + (i + g.pad_top) * row + g.pad_left * g.C,
                       x_n + i * g.W * g.C, g.W * g.C * sizeof(real))
            x_n = x_copy
        i = n * g.P * g.Q * g.K
        backward_filters(g, dw, db, dy + i, argmax + i, x_n, windows, winners,
                         places + 2 * g.K * g.pixel_words, numbers)


cdef void input_task(
    const Geometry* g, Py_ssize_t n, real* dx, const real* dy, const unsigned char* argmax,
    const real* filters, const int32_t* windows, real* numbers, int32_t* places,
) noexcept nogil:
    """Write dx of image n."""
    cdef Py_ssize_t row = g.columns * g.C, pixels = g.P * g.Q, i
    cdef uint64_t* winners = <uint64_t*> places
    cdef real* dx_n = dx + n * g.H * g.W * g.C
    cdef real* to = numbers if g.copied else dx_n
    dy += n * pixels * g.K
    mark_winners(g, argmax + n * pixels * g.K, winners)
    if g.in_patches:
        backward_patches(g, to, dy, filters, winners)
    else:
        memset(to, 0, (g.copy_size if g.copied else g.H * g.W * g.C) * sizeof(real))
        backward_pixels(g, to, dy, filters, windows, winners)
    if g.copied:
        for i in range(g.H):
            memcpy(dx_n + i * g.W * g.C, to + (i + g.pad_top) * row + g.pad_left * g.C,
                   g.W * g.C * sizeof(real))


cdef void gather_filter(const Geometry* g, Py_ssize_t k, real* filters,
                        const real* w) noexcept nogil:
    """Write filter k as a window: [r][s*C + c], zeros to the end of each row's last vector.

    For patches: nine vectors of it in [c // LANES][k].
    """
    cdef Py_ssize_t r, i, c, length = g.row_vectors * LANES
    cdef real* to = filters + k * g.L * LANES
    if g.in_patches:
        for i in range(9):
            for c in range(g.C):
                filters[((c // LANES * g.K + k) * 9 + i) * LANES + c % LANES] = (
                    w[(i * g.C + c) * g.K + k])
        return
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
        pool_stride_h, pool_stride_w, False, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, False)
    plan(&g)
    return ((g.parts + 1) * g.K * g.L * LANES + g.parts * g.K + threads * g.numbers,
            g.windows + threads * g.places)


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
        pool_stride_h, pool_stride_w, False, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, False)
    cdef Py_ssize_t task, tasks, k, size
    cdef real[:, :, :, ::1] dx_view
    cdef real* dx_data = NULL
    cdef real* filters
    cdef real* dw_parts
    cdef real* db_parts
    cdef real* numbers
    cdef int32_t* windows = &places[0]
    cdef int32_t* thread_places
    if dx is not None:
        dx_view = dx
        dx_data = &dx_view[0, 0, 0, 0]
    plan(&g)
    thread_places = windows + g.windows
    size = g.K * g.L * LANES
    tasks = g.parts if dx is None else g.parts + g.N
    filters = &workspace[0]
    dw_parts = filters + size
    numbers = dw_parts + g.parts * size
    db_parts = numbers + threads * g.numbers
    find_windows(&g, windows)
    for k in prange(g.K, nogil=True, num_threads=threads, schedule="static"):
        gather_filter(&g, k, filters, &w[0, 0, 0, 0])
    # The parts, which are few and large, come first: the images even out what they leave.
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="dynamic"):
        if task < g.parts:
            weights_task(
                &g, task, dw_parts + task * size, db_parts + task * g.K, &dy[0, 0, 0, 0],
                &argmax[0, 0, 0, 0], &x[0, 0, 0, 0], windows,
                numbers + threadid() * g.numbers, thread_places + threadid() * g.places)
        else:
            input_task(
                &g, task - g.parts, dx_data, &dy[0, 0, 0, 0], &argmax[0, 0, 0, 0], filters,
                windows, numbers + threadid() * g.numbers, thread_places + threadid() * g.places)
    for k in prange(g.K, nogil=True, num_threads=threads, schedule="static"):
        reduce_filter(&g, k, &dw[0, 0, 0, 0], &db[0], dw_parts, db_parts)

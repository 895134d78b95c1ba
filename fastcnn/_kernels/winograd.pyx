"""Convolution 3x3 of stride 1 by Winograd's F(4x4, 3x3): forward, with a max-pool, and dx.

N batch; H W input height and width; C input channels; P Q output height and width; K filters;
e one of the 36 points of a transformed tile; t a tile of 4x4 outputs, or of half as many a side
at the rims (_winograd_plan.pxd).

    y = A^T [sum over c of (G w G^T) * (B^T x B)] A + bias

with x a patch of 6x6 inputs and the transforms of _winograd.pxd: 36 multiplications replace 144.
The input gradient is the same with the taps in reverse and the channels' roles exchanged. In
front of ReLU and a max-pool 2x2 a tile holds whole windows: only what they leave is written.

Tiles are taken in blocks. v is the transformed input of a block and u [panel][e][c][lane] the
transformed weights; their products m are 36 small matrix products, for one group of panels at a
time. Mostly all weights are transformed first, and the threads divide the blocks, or the filters of
the only one: then v is [vector of c][t][e][lane] and m [vector of k][t][e][lane]. Where few tiles
meet large weights the threads divide the groups instead, and each transforms its weights just
before it uses them: to write and read them all would take longer. Weights that are kept for many
calls meet few tiles point by point. In these two v is [e][t][c] and m [e][t][k]. Either way the
products of an output are added in the order of its channels, whatever the blocks and threads.

Longer than most: forward, with and without a max-pool, and dx go through the same tiles.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from fastcnn._kernels._finish cimport add_residual, finish, finishing, nothing
from fastcnn._kernels._tile cimport (
    ROWS, copy_panel, first_vector, panels_of, tile, vectors_of,
)
from fastcnn._kernels._types cimport LANES, load, lowest_bit, real, store
from fastcnn._kernels._winograd cimport (
    POINTS, SIDE, blank_outputs, copy_of_end, find_pixels, transform_patch, transform_products,
    transform_short_patch, transform_short_products,
)
from fastcnn._kernels._winograd_few cimport Strip, fetch, multiply_few, strips_of
from fastcnn._kernels._winograd_plan cimport (
    CHANNELS, MOST_LANES, MOST_TILES, OUT, ROOM, TAPS, Geometry, Place, blank_of, end_with,
    first_with, group_end, group_panel, group_start, place_after, place_of, plan, weights_size,
)
from fastcnn._kernels._winograd_pool cimport pool_outputs
from fastcnn._kernels._winograd_weights cimport transform_weights


cdef void transform_input(const Geometry* g, const Place* place, Py_ssize_t i, real* v,
                          const real* x, const real* zeros, real* t) noexcept nogil:
    """Write B^T x B for the patch of tile i of a block to v, and which outputs see only zeros.

    The padding is zeros, behind which there is a copy_of_end.
    """
    cdef Py_ssize_t pixels = g.H * g.W * g.C, c = 0
    cdef const real* at[POINTS]
    find_pixels(at, SIDE, x + place.n * pixels, place.p - g.pad_top, place.q - g.pad_left, g.H,
                g.W, g.C, g.depth, x + g.N * pixels, zeros, zeros + 2 * g.depth)
    blank_of(g, v)[i] = blank_outputs(at, g.C, place.tall, place.wide)
    v += i * g.tile_v
    while c < g.depth:
        if not (place.tall and place.wide):
            transform_short_patch(v, g.point_v, at, c, place.tall, place.wide, t)
        elif g.by_tile:
            transform_patch(v, LANES, at, c)        # constants make its addresses short
        else:
            transform_patch(v, g.point_v, at, c)
        v += g.vector_v
        c += LANES


cdef void multiply(const Geometry* g, Py_ssize_t k, Py_ssize_t k_end, Py_ssize_t point,
                   Py_ssize_t point_end, Py_ssize_t first_tile, Py_ssize_t tiles, Py_ssize_t c,
                   Py_ssize_t c_end, const real* u, Py_ssize_t u_panel, const real* v,
                   real* m) noexcept nogil:
    """Add the products of some points and channels to m, for filters k to k_end, whole vectors.

    The first ones begin it. u are the weights from panel u_panel on, v that of channel 0.
    """
    cdef Py_ssize_t start = first_vector(g.K, u_panel) * LANES, first, end, width, e, t, t_end, i
    cdef Py_ssize_t from_, run = 0, row, panel, panel_start = u_panel
    cdef const real* u_e
    cdef const real* a[ROWS]
    cdef real* to[ROWS]
    cdef real zeros[MOST_LANES]
    cdef const real* init[ROWS]
    cdef const real** begin
    memset(zeros, 0, sizeof(zeros))
    for i in range(ROWS):
        init[i] = zeros
    begin = init
    if c > 0:
        begin = <const real**> to
    while first_vector(g.K, panel_start + 1) * LANES <= k:
        panel_start += 1
    for e in range(point, point_end):
        t = max(0, first_with(g, e) - first_tile)
        t_end = min(tiles, end_with(g, e) - first_tile)
        while t < t_end:
            panel, from_ = panel_start, k
            while from_ < k_end:
                first = first_vector(g.K, panel) * LANES
                end = first_vector(g.K, panel + 1) * LANES
                width = end - first
                end = min(end, k_end)
                u_e = u + weights_size(first - start, panel - u_panel, g.c_block)
                u_e += e * (g.c_block * width + LANES) + from_ - first
                for i in range(ROWS):       # a short last tile repeats its last row
                    row = min(t + i, t_end - 1)
                    a[i] = v + e * g.point_v + row * g.tile_v + c
                    to[i] = m + e * g.point_m + row * g.tile_m + from_ - k
                tile((end - from_) // LANES, to, begin, a, &run, 1, u_e, &run, width, 1,
                     c_end - c)
                panel, from_ = panel + 1, end
            t += ROWS


cdef inline void outputs_of(const Geometry* g, const Place* place, unsigned int blank, real* y,
                            Py_ssize_t row, Py_ssize_t pixel, const real* m, const real* bias,
                            real* t) noexcept nogil:
    """Write A^T m A + bias of one tile and vector of filters; the bias where blank has a bit."""
    cdef real* z
    if not (place.tall and place.wide):
        transform_short_products(y, row, pixel, m, g.point_m, place.tall, place.wide, load(bias),
                                 t)
    elif g.by_tile:
        transform_products(y, row, pixel, m, LANES, load(bias))
    else:
        transform_products(y, row, pixel, m, g.point_m, load(bias))
    while blank:
        z = y + lowest_bit(blank) // OUT * row + lowest_bit(blank) % OUT * pixel
        store(z, 0 * load(z) + load(bias))      # a NaN among the weights stays one
        blank &= blank - 1


cdef void transform_output(const Geometry* g, Py_ssize_t k, Py_ssize_t end, const Place* place,
                           unsigned int blank, const real* m, real* y, const real* bias,
                           real* t) noexcept nogil:
    """Write what becomes of one tile of a block and of filters k to end."""
    cdef Py_ssize_t i, j
    cdef Py_ssize_t rows = OUT if place.tall else 2, columns = OUT if place.wide else 2, lanes
    cdef bint full = place.p + rows <= g.P and place.q + columns <= g.Q
    cdef Py_ssize_t first = ((place.n * g.P + place.p) * g.Q + place.q) * g.K, start = k, at
    cdef real* z = t + POINTS * LANES
    rows, columns = min(rows, g.P - place.p), min(columns, g.Q - place.q)
    while k < end:
        lanes = min(LANES, g.K - k)
        if g.argmax is not NULL:
            outputs_of(g, place, blank, z, OUT * LANES, LANES, m, bias + k, t)
            pool_outputs(g, place, k, y, z)
        elif full and lanes == LANES:
            outputs_of(g, place, blank, y + first + k, g.Q * g.K, g.K, m, bias + k, t)
        else:
            outputs_of(g, place, blank, z, OUT * LANES, LANES, m, bias + k, t)
            for i in range(rows):
                for j in range(columns):
                    copy_panel(y + first + (i * g.Q + j) * g.K + k, z + (OUT * i + j) * LANES,
                               lanes)
        m += g.vector_m
        k += LANES
    if g.end.any and g.argmax is NULL:
        for i in range(rows):
            for j in range(columns):
                at = first + (i * g.Q + j) * g.K
                finish(&g.end, y + at + start, at + start, min(end, g.K) - start)


cdef void weights_task(const Geometry* g, Py_ssize_t task, real* u, const real* w,
                       real* t) noexcept nogil:
    """Transform the weights of one panel and a few channels ahead."""
    cdef Py_ssize_t panel = task % g.panels, c = task // g.panels * CHANNELS
    cdef Py_ssize_t first = first_vector(g.K, panel) * LANES
    cdef Py_ssize_t width = first_vector(g.K, panel + 1) * LANES - first
    transform_weights(g, panel, c, min(c + CHANNELS, g.C), g.C * width + LANES,
                      u + weights_size(first, panel, g.C) + c * width, w, t, t + ROOM * LANES)


cdef void run_task(const Geometry* g, Py_ssize_t task, Py_ssize_t shares, real* y,
                   const real* x, const real* u, const real* bias, const real* zeros,
                   real* t) noexcept nogil:
    """Compute a share of the filters of a run of blocks; the weights were transformed ahead."""
    cdef Py_ssize_t blocks = (g.tiles + g.block - 1) // g.block, run = task // shares
    cdef Py_ssize_t first = run * blocks // g.runs * g.block
    cdef Py_ssize_t end = min((run + 1) * blocks // g.runs * g.block, g.tiles), tiles, following, i
    cdef Py_ssize_t k, k_next, k_start = task % shares * vectors_of(g.K) // shares * LANES
    cdef Py_ssize_t k_end = (task % shares + 1) * vectors_of(g.K) // shares * LANES
    cdef real* v = t + ROOM * LANES
    cdef real* m = v if g.in_place else v + g.size_v
    cdef Py_ssize_t count
    cdef Strip strips[MOST_LANES]
    cdef Place places[2 * MOST_TILES]
    cdef Place* place = places
    cdef Place* next_ = places + MOST_TILES
    for i in range(min(g.block, end - first)):
        place[i] = place_of(g, first + i)
    while first < end:
        tiles = min(g.block, end - first)
        for i in range(tiles):
            transform_input(g, place + i, i, v, x, zeros, t)
        following = min(tiles, end - first - tiles)
        for i in range(following):
            next_[i] = place_after(g, next_[i - 1] if i > 0 else place[tiles - 1],
                                   first + tiles + i)
        k = k_start
        while k < k_end:
            k_next = min(k_end, group_end(g, k))
            count = strips_of(g, k, k_next, strips)
            for i in range(POINTS):
                if g.far and k == k_start:
                    fetch(g, i, tiles, following, place, next_, x, y)
                if g.by_tile:
                    multiply_few(g, i, strips, count, first, tiles, u, v, m)
            if not g.by_tile:
                multiply(g, k, k_next, 0, POINTS, first, tiles, 0, g.C, u, 0, v, m)
            for i in range(tiles):
                transform_output(g, k, k_next, place + i, blank_of(g, v)[i], m + i * g.tile_m,
                                 y, bias, t)
            k = k_next
        place, next_ = next_, place
        first += tiles


cdef void group_task(const Geometry* g, Py_ssize_t group, Py_ssize_t first, real* y,
                     const real* v, const real* w, const real* bias, real* t) noexcept nogil:
    """Compute one group of filters of a block whose input is transformed."""
    cdef Py_ssize_t tiles = min(g.block, g.tiles - first), c = 0, c_end, panel, from_, width, i
    cdef Py_ssize_t start = group_start(g, group), end = group_start(g, group + 1)
    cdef Py_ssize_t panel_start = group_panel(g, group)
    cdef real* gathered = t + ROOM * LANES
    cdef real* m = gathered + TAPS * CHANNELS * g.group_lanes
    cdef real* u = m + g.size_m
    cdef Place place
    while c < g.C:
        c_end = min(c + g.c_block, g.C)
        for panel in range(panel_start, group_panel(g, group + 1)):
            from_ = first_vector(g.K, panel) * LANES
            width = first_vector(g.K, panel + 1) * LANES - from_
            transform_weights(
                g, panel, c, c_end, g.c_block * width + LANES,
                u + weights_size(from_ - start, panel - panel_start, g.c_block), w, t, gathered)
        multiply(g, start, end, 0, POINTS, first, tiles, c, c_end, u, panel_start, v, m)
        c = c_end
    for i in range(tiles):
        place = place_of(g, first + i)
        transform_output(g, start, end, &place, blank_of(g, v)[i], m + i * g.tile_m, y, bias, t)


cdef void input_task(const Geometry* g, Py_ssize_t first, Py_ssize_t tile_, real* v,
                     const real* x, const real* zeros, real* t) noexcept nogil:
    cdef Place place = place_of(g, first + tile_)
    transform_input(g, &place, tile_, v, x, zeros, t)


cdef void output_task(const Geometry* g, Py_ssize_t group, Py_ssize_t first, Py_ssize_t tile_,
                      const real* v, const real* m, real* y, const real* bias,
                      real* t) noexcept nogil:
    cdef Place place = place_of(g, first + tile_)
    transform_output(g, group_start(g, group), group_start(g, group + 1), &place,
                     blank_of(g, v)[tile_], m + tile_ * g.tile_m, y, bias, t)


cdef void block_by_points(const Geometry* g, Py_ssize_t first, real* y, const real* x,
                          const real* u, const real* bias, const real* zeros, real* v,
                          real* scratch, int threads) noexcept nogil:
    """Compute a block of tiles: each weight is read once, by one thread."""
    cdef Py_ssize_t tiles = min(g.block, g.tiles - first), task, group, tile_
    cdef real* m = v + g.size_v
    for task in prange(tiles, num_threads=threads, schedule="static"):
        input_task(g, first, task, v, x, zeros, scratch + threadid() * g.scratch)
    for task in prange(g.groups * POINTS, num_threads=threads, schedule="static"):
        multiply_point(g, task // POINTS, task % POINTS, first, tiles, u, v, m)
    for task in prange(g.groups * tiles, num_threads=threads, schedule="static"):
        group, tile_ = task % g.groups, task // g.groups
        output_task(g, group, first, tile_, v, m + group * g.size_m, y, bias,
                    scratch + threadid() * g.scratch)


cdef void multiply_point(const Geometry* g, Py_ssize_t group, Py_ssize_t point, Py_ssize_t first,
                         Py_ssize_t tiles, const real* u, const real* v, real* m) noexcept nogil:
    multiply(g, group_start(g, group), group_start(g, group + 1), point, point + 1, first, tiles, 0,
             g.C, u, 0, v, m + group * g.size_m)


cdef void transform_ahead(const Geometry* g, real* u, const real* w, real* scratch,
                          int threads) noexcept nogil:
    cdef Py_ssize_t task, tasks = g.panels * ((g.C + CHANNELS - 1) // CHANNELS)
    for task in prange(tasks, num_threads=threads, schedule="static"):
        weights_task(g, task, u, w, scratch + threadid() * g.scratch)


cdef void convolve(const Geometry* g, real* y, const real* x, const real* w, const real* b,
                   const real* kept, real* workspace, int threads) noexcept nogil:
    cdef Py_ssize_t lanes = vectors_of(g.K) * LANES, task, first = 0, tiles, shares = 1
    cdef real* bias = workspace
    cdef real* zeros = bias + lanes
    cdef real* shared = zeros + 3 * g.depth     # weights or input, transformed
    cdef const real* u = shared
    cdef real* scratch = workspace + g.shared
    memset(bias, 0, (lanes + g.depth) * sizeof(real))
    copy_of_end(zeros + g.depth, g.depth, x + g.N * g.H * g.W * g.C, g.N * g.H * g.W * g.C)
    if b is not NULL:
        memcpy(bias, b, g.K * sizeof(real))
    if g.by_points:
        while first < g.tiles:
            block_by_points(g, first, y, x, kept, bias, zeros, shared, scratch, threads)
            first += g.block
        return
    if g.ahead:
        if kept is not NULL:
            u = kept
        else:
            transform_ahead(g, shared, w, scratch, threads)
        if g.tiles <= g.block:
            shares = min(threads, vectors_of(g.K))
        for task in prange(g.runs * shares, num_threads=threads, schedule="dynamic"):
            run_task(g, task, shares, y, x, u, bias, zeros, scratch + threadid() * g.scratch)
        return
    while first < g.tiles:
        tiles = min(g.block, g.tiles - first)
        for task in prange(tiles, num_threads=threads, schedule="static"):
            input_task(g, first, task, shared, x, zeros, scratch + threadid() * g.scratch)
        for task in prange(g.groups, num_threads=threads, schedule="dynamic"):
            group_task(g, task, first, y, shared, w, bias, scratch + threadid() * g.scratch)
        first += g.block


cdef Geometry geometry(Py_ssize_t N, Py_ssize_t H, Py_ssize_t W, Py_ssize_t C, Py_ssize_t P,
                       Py_ssize_t Q, Py_ssize_t K, Py_ssize_t pad_top,
                       Py_ssize_t pad_left, bint kept) noexcept nogil:
    cdef Geometry g
    memset(&g, 0, sizeof(g))
    g.N, g.H, g.W, g.C, g.P, g.Q, g.K = N, H, W, C, P, Q, K
    g.pad_top, g.pad_left, g.kept, g.end = pad_top, pad_left, kept, nothing()
    plan(&g)
    return g


def workspace_size(Py_ssize_t N, Py_ssize_t P, Py_ssize_t Q, Py_ssize_t C, Py_ssize_t K,
                   int threads, bint kept=False):
    """Return how many numbers of workspace a convolution from C to K channels takes."""
    cdef Geometry g = geometry(N, 0, 0, C, P, Q, K, 0, 0, kept)
    return g.shared + threads * g.scratch


def kept_size(Py_ssize_t C, Py_ssize_t K):
    """Return how many numbers the transformed weights of C to K channels are."""
    return weights_size(vectors_of(K) * LANES, panels_of(K), C)


def transform_all_weights(real[::1] u, const real[:, :, :, ::1] w, real[::1] workspace,
                          int threads):
    """Write the transform of w (3, 3, C, K) to u, for any number of calls of conv2d."""
    cdef Geometry g = geometry(1, 0, 0, w.shape[2], 1, 1, w.shape[3], 0, 0, True)
    g.w_tap, g.w_inner, g.w_outer, g.flipped = g.C * g.K, g.K, 1, False
    with nogil:
        transform_ahead(&g, &u[0], &w[0, 0, 0, 0], &workspace[g.shared], threads)


cpdef conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, const real[::1] b,
    real[::1] workspace, Py_ssize_t pad_top, Py_ssize_t pad_left, int threads,
    const real[::1] u=None, activation=None, const real[:, :, :, ::1] residual=None,
):
    """Write the convolution of x (N, H, W, C) with w (3, 3, C, K) to y (N, P, Q, K).

    u: what transform_all_weights made of w. residual, shaped as y, is added to it; then comes
    the activation.
    """
    cdef Geometry g = geometry(x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[1],
                               y.shape[2], w.shape[3], pad_top, pad_left, u is not None)
    cdef const real* bias = NULL
    cdef const real* kept = NULL
    if b is not None:
        bias = &b[0]
    if u is not None:
        kept = &u[0]
    g.end = finishing(activation)
    if residual is not None:
        add_residual(&g.end, &residual[0, 0, 0, 0])
    g.w_tap, g.w_inner, g.w_outer, g.flipped = g.C * g.K, g.K, 1, False
    with nogil:
        convolve(&g, &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0], bias, kept, &workspace[0],
                 threads)


def bound_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, const real[::1] b,
    real[::1] workspace, Py_ssize_t pad_top, Py_ssize_t pad_left, int threads,
    const real[::1] u=None, activation=None, const real[:, :, :, ::1] residual=None,
):
    """Return a function of nothing that is this call."""
    return lambda: conv2d(y, x, w, b, workspace, pad_top, pad_left, threads, u, activation,
                          residual)


cpdef conv_block(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, const real[::1] b, real[::1] workspace, Py_ssize_t pad_top,
    Py_ssize_t pad_left, int threads, const real[::1] u=None, activation=None,
):
    """Write ReLU, max-pool 2x2 and argmax of such a convolution to y and argmax (N, P, Q, K).

    P and Q are those of the pooled output, half as many as the kernel's own. Another activation
    that is given takes the place of ReLU; then argmax is left as it is.
    """
    cdef Geometry g = geometry(x.shape[0], x.shape[1], x.shape[2], x.shape[3], 2 * y.shape[1],
                               2 * y.shape[2], w.shape[3], pad_top, pad_left, u is not None)
    cdef const real* bias = NULL
    cdef const real* kept = NULL
    if b is not None:
        bias = &b[0]
    if u is not None:
        kept = &u[0]
    g.argmax, g.end = &argmax[0, 0, 0, 0], finishing(activation)
    g.w_tap, g.w_inner, g.w_outer, g.flipped = g.C * g.K, g.K, 1, False
    with nogil:
        convolve(&g, &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0], bias, kept, &workspace[0],
                 threads)


def bound_conv_block(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, const real[::1] b, real[::1] workspace, Py_ssize_t pad_top,
    Py_ssize_t pad_left, int threads, const real[::1] u=None, activation=None,
):
    """Return a function of nothing that is this call of conv_block."""
    return lambda: conv_block(y, argmax, x, w, b, workspace, pad_top, pad_left, threads, u,
                              activation)


def conv2d_backward_input(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, const real[:, :, :, ::1] w,
    real[::1] workspace, Py_ssize_t pad_top, Py_ssize_t pad_left, int threads,
    const real[:, :, :, ::1] more=None,
):
    """Write the gradient of conv2d with respect to x to dx (N, H, W, C), for dy (N, P, Q, K).

    more, shaped as dx, is added to it.
    """
    cdef Geometry g = geometry(dy.shape[0], dy.shape[1], dy.shape[2], dy.shape[3], dx.shape[1],
                               dx.shape[2], dx.shape[3], 2 - pad_top, 2 - pad_left, False)
    if more is not None:
        add_residual(&g.end, &more[0, 0, 0, 0])
    g.w_tap, g.w_inner, g.w_outer, g.flipped = g.C * g.K, 1, g.C, True
    with nogil:
        convolve(&g, &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &w[0, 0, 0, 0], NULL, NULL, &workspace[0],
                 threads)

"""Convolution 3x3 of stride 1 by Winograd's F(4x4, 3x3): forward and input gradient.

N batch; H W input height and width; C input channels; P Q output height and width; K filters;
e one of the 36 points of a transformed tile; t a tile of 4x4 outputs, of the N*TP*TQ that cover
the output.

    y = A^T [sum over c of (G w G^T) * (B^T x B)] A + bias

with x a patch of 6x6 inputs and the transforms of _winograd.pxd: 36 multiplications replace 144.
The input gradient is the same with the taps in reverse and the channels' roles exchanged.

Tiles are taken in blocks. v [e][t][c] is the transformed input of a block and u [panel][e][c][lane]
the transformed weights; their products are 36 small matrix products m [e][t][k], for one group
of panels at a time. Mostly all weights are transformed first, and the threads divide the blocks.
Where few tiles meet large weights the threads divide the groups instead, and each transforms its
weights just before it uses them: to write and read them all would take longer. Weights that are
kept for many calls meet few tiles point by point. Either way the products of an output are added
in the order of its channels, whatever the blocks and threads.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from fastcnn._kernels._cpu cimport l2_bytes
from fastcnn._kernels._finish cimport Finish, finish, finishing, nothing
from fastcnn._kernels._tile cimport (
    ROWS, copy_panel, first_vector, panels_of, tile, vectors_of,
)
from fastcnn._kernels._types cimport LANES, VECTORS, load, real
from fastcnn._kernels._winograd cimport (
    POINTS, SIDE, find_pixels, transform_patch, transform_products, transform_taps,
)

cdef enum:
    OUT = 4                     # outputs a side of a tile
    TAPS = 9
    GROUP_BYTES = 256           # of filters
    MOST_LANES = 64             # of a group
    CHANNELS = 16               # whose weights are gathered at a time
    C_BLOCK = 256               # channels whose weights are transformed just before their use
    SHARED_TILES = 66           # of a block whose groups are divided among the threads
    MOST_AHEAD = 12582912       # bytes of weights that are transformed ahead
    FEW_TILES = 24
    MIN_TASKS = 16


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, pad_top, pad_left
    Py_ssize_t w_tap, w_inner, w_outer          # strides of the weights
    bint flipped                                # the taps are taken in reverse
    Py_ssize_t TP, TQ, tiles, depth             # depth: C rounded up to whole vectors
    Py_ssize_t panels, groups, group_lanes      # panels of filters, and groups of panels
    bint ahead                                  # all weights are transformed first
    bint kept                                   # by transform_all_weights, for many calls
    bint by_points                              # of kept weights: the threads divide the points
    Finish end
    Py_ssize_t block, c_block                   # tiles and channels of a block
    Py_ssize_t point_v, point_m                 # from a point to the next
    Py_ssize_t shared, scratch                  # numbers of workspace: for all, for a thread


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t to) noexcept nogil:
    return (n + to - 1) // to * to


cdef inline Py_ssize_t group_panel(const Geometry* g, Py_ssize_t group) noexcept nogil:
    """Return the first panel of a group."""
    return group * g.panels // g.groups


cdef inline Py_ssize_t weights_size(Py_ssize_t lanes, Py_ssize_t panels,
                                    Py_ssize_t channels) noexcept nogil:
    # A vector more at each point: powers of two would put all 36 into one set of the cache.
    return POINTS * (channels * lanes + panels * LANES)


cdef void plan(Geometry* g) noexcept nogil:
    """Set what follows from the sizes."""
    cdef Py_ssize_t lanes = vectors_of(g.K) * LANES, all_weights, v, m
    cdef Py_ssize_t in_group = max(1, GROUP_BYTES // (VECTORS * LANES * <Py_ssize_t> sizeof(real)))
    g.TP, g.TQ = (g.P + OUT - 1) // OUT, (g.Q + OUT - 1) // OUT
    g.tiles = g.N * g.TP * g.TQ
    g.depth = vectors_of(g.C) * LANES
    g.panels = panels_of(g.K)
    g.groups = (g.panels + in_group - 1) // in_group
    g.group_lanes = min(lanes, GROUP_BYTES // <Py_ssize_t> sizeof(real))
    all_weights = weights_size(lanes, g.panels, g.C)
    g.ahead = g.kept or g.groups == 1 or (
        g.tiles > FEW_TILES and all_weights * <Py_ssize_t> sizeof(real) <= MOST_AHEAD)
    # Weights that no cache keeps are read once for as many tiles as can be.
    g.by_points = g.kept and (
        g.tiles <= FEW_TILES or all_weights * <Py_ssize_t> sizeof(real) > MOST_AHEAD)
    if g.ahead and not g.by_points:
        g.c_block = g.C
        # v and m take 3/4 of L2: with the weights that pass they stay there.
        g.block = l2_bytes // 4 * 3 // (
            POINTS * (g.depth + g.group_lanes) * <Py_ssize_t> sizeof(real))
        g.block = min(max(ROWS, g.block // ROWS * ROWS), round_up(g.tiles // MIN_TASKS + 1, ROWS))
    else:
        g.c_block = g.C if g.by_points else min(g.C, C_BLOCK)
        g.block = (g.tiles + SHARED_TILES - 1) // SHARED_TILES      # as even as can be
        g.block = round_up((g.tiles + g.block - 1) // g.block, ROWS)
    g.point_v = g.block * g.depth + LANES
    g.point_m = g.block * g.group_lanes + LANES
    v, m = POINTS * g.point_v, POINTS * g.point_m
    g.shared = lanes + g.depth
    if g.by_points:
        g.shared += v + g.groups * m
    elif not g.kept:
        g.shared += all_weights if g.ahead else v
    g.scratch = m + POINTS * (LANES + g.depth) + TAPS * CHANNELS * g.group_lanes
    g.scratch += v if g.ahead else weights_size(g.group_lanes, in_group, g.c_block)


cdef void gather_weights(const Geometry* g, real* to, const real* w, Py_ssize_t channels,
                         Py_ssize_t valid, Py_ssize_t width) noexcept nogil:
    """Copy weights to [tap][c][lane] with the taps and channels in the order of their use."""
    cdef Py_ssize_t tap, i, k
    cdef const real* w_k
    for tap in range(TAPS):
        memset(to, 0, channels * width * sizeof(real))
        for k in range(valid):
            w_k = w + (TAPS - 1 - tap if g.flipped else tap) * g.w_tap + k * g.w_outer
            for i in range(channels):
                to[i * width + k] = w_k[i * g.w_inner]
        to += CHANNELS * width


cdef void transform_weights(const Geometry* g, Py_ssize_t panel, Py_ssize_t c, Py_ssize_t c_end,
                            Py_ssize_t point, real* u, const real* w, real* t,
                            real* gathered) noexcept nogil:
    """Write G w G^T for some channels of a panel to u, where c has its place."""
    cdef Py_ssize_t first = first_vector(g.K, panel) * LANES, tap = g.w_tap, row = g.w_inner
    cdef Py_ssize_t i, j, k, width = first_vector(g.K, panel + 1) * LANES - first
    cdef Py_ssize_t valid = min(width, g.K - first), channels
    cdef bint in_place = g.w_outer == 1 and valid == width and not g.flipped
    cdef const real* w_c
    cdef const real* w_k
    if not in_place:
        tap, row = CHANNELS * width, width
    while c < c_end:
        channels = min(CHANNELS, c_end - c)
        w_c = w + c * g.w_inner + first * g.w_outer
        if not in_place:
            gather_weights(g, gathered, w_c, channels, valid, width)
            w_c = gathered
        for i in range(channels):
            k = 0
            while k < width:
                w_k = w_c + i * row + k
                for j in range(3):
                    transform_taps(t + j * LANES, 3 * LANES, load(w_k + j * tap),
                                   load(w_k + (3 + j) * tap), load(w_k + (6 + j) * tap))
                for j in range(SIDE):
                    transform_taps(u + SIDE * j * point + k, point, load(t + 3 * j * LANES),
                                   load(t + (3 * j + 1) * LANES), load(t + (3 * j + 2) * LANES))
                k += LANES
            u += width
        c += channels


cdef void transform_input(const Geometry* g, Py_ssize_t tile_, real* v, const real* x,
                          const real* zeros, real* copies) noexcept nogil:
    """Write B^T x B for the patch of one tile to v, zeros where it lies in the padding."""
    cdef Py_ssize_t pixels = g.H * g.W * g.C, c = 0
    cdef const real* at[POINTS]
    find_pixels(at, SIDE, x + tile_ // (g.TP * g.TQ) * pixels,
                tile_ // g.TQ % g.TP * OUT - g.pad_top, tile_ % g.TQ * OUT - g.pad_left, g.H, g.W,
                g.C, g.depth, g.C, x + g.N * pixels, zeros, copies)
    while c < g.depth:
        transform_patch(v + c, g.point_v, at, c)
        c += LANES


cdef void multiply(const Geometry* g, Py_ssize_t group, Py_ssize_t point, Py_ssize_t point_end,
                   Py_ssize_t tiles, Py_ssize_t c, Py_ssize_t c_end, const real* u, const real* v,
                   real* m) noexcept nogil:
    """Add the products of some points and channels of a group to m; the first ones begin it.

    u is that of the group, v that of channel 0.
    """
    cdef Py_ssize_t panel_start = group_panel(g, group), panel_end = group_panel(g, group + 1)
    cdef Py_ssize_t start = first_vector(g.K, panel_start) * LANES, first, width, e, t, i, panel
    cdef Py_ssize_t run = 0
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
    for e in range(point, point_end):
        t = 0
        while t < tiles:
            for panel in range(panel_start, panel_end):
                first = first_vector(g.K, panel) * LANES
                width = first_vector(g.K, panel + 1) * LANES - first
                first -= start
                u_e = u + weights_size(first, panel - panel_start, g.c_block)
                u_e += e * (g.c_block * width + LANES)
                for i in range(ROWS):       # a short last tile repeats its last row
                    a[i] = v + e * g.point_v + min(t + i, tiles - 1) * g.depth + c
                    to[i] = m + e * g.point_m + (t + i) * g.group_lanes + first
                tile(width // LANES, to, begin, a, &run, 1, u_e, &run, width, 1, c_end - c)
            t += ROWS


cdef void transform_output(const Geometry* g, Py_ssize_t group, Py_ssize_t tile_, const real* m,
                           real* y, const real* bias, real* t) noexcept nogil:
    """Write A^T m A + bias for one tile and group of filters."""
    cdef Py_ssize_t n = tile_ // (g.TP * g.TQ), i, j, k
    cdef Py_ssize_t p = tile_ // g.TQ % g.TP * OUT, q = tile_ % g.TQ * OUT
    cdef Py_ssize_t start = first_vector(g.K, group_panel(g, group)) * LANES
    cdef Py_ssize_t end = first_vector(g.K, group_panel(g, group + 1)) * LANES
    cdef Py_ssize_t rows = min(OUT, g.P - p), columns = min(OUT, g.Q - q), lanes
    cdef real* y_k
    cdef Py_ssize_t at = ((n * g.P + p) * g.Q + q) * g.K
    y += at
    k = start
    while k < end:
        lanes = min(LANES, g.K - k)
        if rows == OUT and columns == OUT and lanes == LANES:
            transform_products(y + k, g.Q * g.K, g.K, m, g.point_m, load(bias + k))
        else:
            transform_products(t, OUT * LANES, LANES, m, g.point_m, load(bias + k))
            for i in range(rows):
                y_k = y + i * g.Q * g.K + k
                for j in range(columns):
                    copy_panel(y_k + j * g.K, t + (OUT * i + j) * LANES, lanes)
        if g.end.any:
            for i in range(rows):
                for j in range(columns):
                    start = (i * g.Q + j) * g.K + k
                    finish(&g.end, y + start, at + start, lanes)
        m += LANES
        k += LANES


cdef void weights_task(const Geometry* g, Py_ssize_t task, real* u, const real* w,
                       real* t) noexcept nogil:
    """Transform the weights of one panel and a few channels ahead."""
    cdef Py_ssize_t panel = task % g.panels, c = task // g.panels * CHANNELS
    cdef Py_ssize_t first = first_vector(g.K, panel) * LANES
    cdef Py_ssize_t width = first_vector(g.K, panel + 1) * LANES - first
    transform_weights(g, panel, c, min(c + CHANNELS, g.C), g.C * width + LANES,
                      u + weights_size(first, panel, g.C) + c * width, w, t, t + POINTS * LANES)


cdef void block_task(const Geometry* g, Py_ssize_t task, real* y, const real* x, const real* u,
                     const real* bias, const real* zeros, real* t) noexcept nogil:
    """Compute one block of tiles with the weights that were transformed ahead."""
    cdef Py_ssize_t first = task * g.block, tiles = min(g.block, g.tiles - first), i, group, panel
    cdef real* copies = t + POINTS * LANES
    cdef real* v = copies + POINTS * g.depth
    cdef real* m = v + POINTS * g.point_v
    for i in range(tiles):
        transform_input(g, first + i, v + i * g.depth, x, zeros, copies)
    for group in range(g.groups):
        panel = group_panel(g, group)
        multiply(g, group, 0, POINTS, tiles, 0, g.C,
                 u + weights_size(first_vector(g.K, panel) * LANES, panel, g.C), v, m)
        for i in range(tiles):
            transform_output(g, group, first + i, m + i * g.group_lanes, y, bias, t)


cdef void group_task(const Geometry* g, Py_ssize_t group, Py_ssize_t first, real* y,
                     const real* v, const real* w, const real* bias, real* t) noexcept nogil:
    """Compute one group of filters of a block whose input is transformed."""
    cdef Py_ssize_t tiles = min(g.block, g.tiles - first), c = 0, c_end, panel, start, from_, width
    cdef Py_ssize_t i
    cdef real* gathered = t + POINTS * LANES
    cdef real* m = gathered + TAPS * CHANNELS * g.group_lanes
    cdef real* u = m + POINTS * g.point_m
    start = first_vector(g.K, group_panel(g, group)) * LANES
    while c < g.C:
        c_end = min(c + g.c_block, g.C)
        for panel in range(group_panel(g, group), group_panel(g, group + 1)):
            from_ = first_vector(g.K, panel) * LANES
            width = first_vector(g.K, panel + 1) * LANES - from_
            transform_weights(
                g, panel, c, c_end, g.c_block * width + LANES,
                u + weights_size(from_ - start, panel - group_panel(g, group), g.c_block),
                w, t, gathered)
        multiply(g, group, 0, POINTS, tiles, c, c_end, u, v, m)
        c = c_end
    for i in range(tiles):
        transform_output(g, group, first + i, m + i * g.group_lanes, y, bias, t)


cdef void block_by_points(const Geometry* g, Py_ssize_t first, real* y, const real* x,
                          const real* u, const real* bias, const real* zeros, real* v,
                          real* scratch, int threads) noexcept nogil:
    """Compute a block of tiles: each weight is read once, by one thread."""
    cdef Py_ssize_t tiles = min(g.block, g.tiles - first), task, group, tile_
    cdef real* m = v + POINTS * g.point_v
    for task in prange(tiles, num_threads=threads, schedule="static"):
        transform_input(g, first + task, v + task * g.depth, x, zeros,
                        scratch + threadid() * g.scratch)
    for task in prange(g.groups * POINTS, num_threads=threads, schedule="static"):
        multiply_point(g, task // POINTS, task % POINTS, tiles, u, v, m)
    for task in prange(g.groups * tiles, num_threads=threads, schedule="static"):
        group, tile_ = task % g.groups, task // g.groups
        transform_output(g, group, first + tile_,
                         m + group * POINTS * g.point_m + tile_ * g.group_lanes, y, bias,
                         scratch + threadid() * g.scratch)


cdef void multiply_point(const Geometry* g, Py_ssize_t group, Py_ssize_t point, Py_ssize_t tiles,
                         const real* u, const real* v, real* m) noexcept nogil:
    cdef Py_ssize_t panel = group_panel(g, group)
    multiply(g, group, point, point + 1, tiles, 0, g.C,
             u + weights_size(first_vector(g.K, panel) * LANES, panel, g.C), v,
             m + group * POINTS * g.point_m)


cdef void transform_ahead(const Geometry* g, real* u, const real* w, real* scratch,
                          int threads) noexcept nogil:
    cdef Py_ssize_t task, tasks = g.panels * ((g.C + CHANNELS - 1) // CHANNELS)
    for task in prange(tasks, num_threads=threads, schedule="static"):
        weights_task(g, task, u, w, scratch + threadid() * g.scratch)


cdef void convolve(const Geometry* g, real* y, const real* x, const real* w, const real* b,
                   const real* kept, real* workspace, int threads) noexcept nogil:
    cdef Py_ssize_t lanes = vectors_of(g.K) * LANES, task, first = 0, tiles
    cdef real* bias = workspace
    cdef real* zeros = bias + lanes
    cdef real* shared = zeros + g.depth         # weights or input, transformed
    cdef const real* u = shared
    cdef real* scratch = workspace + g.shared
    memset(bias, 0, (lanes + g.depth) * sizeof(real))
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
        for task in prange((g.tiles + g.block - 1) // g.block, num_threads=threads,
                           schedule="dynamic"):
            block_task(g, task, y, x, u, bias, zeros, scratch + threadid() * g.scratch)
        return
    while first < g.tiles:
        tiles = min(g.block, g.tiles - first)
        for task in prange(tiles, num_threads=threads, schedule="static"):
            transform_input(g, first + task, shared + task * g.depth, x, zeros,
                            scratch + threadid() * g.scratch)
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
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, b,
    real[::1] workspace, Py_ssize_t pad_top, Py_ssize_t pad_left, int threads,
    const real[::1] u=None, bint relu=False, const real[:, :, :, ::1] residual=None,
):
    """Write the convolution of x (N, H, W, C) with w (3, 3, C, K) to y (N, P, Q, K).

    u: what transform_all_weights made of w. residual, shaped as y, is added to it; then comes
    ReLU if asked for.
    """
    cdef Geometry g = geometry(x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[1],
                               y.shape[2], w.shape[3], pad_top, pad_left, u is not None)
    cdef const real[::1] b_view
    cdef const real* bias = NULL
    cdef const real* kept = NULL
    if b is not None:
        b_view = b
        bias = &b_view[0]
    if u is not None:
        kept = &u[0]
    g.end = finishing(NULL, relu)
    if residual is not None:
        g.end = finishing(&residual[0, 0, 0, 0], relu)
    g.w_tap, g.w_inner, g.w_outer, g.flipped = g.C * g.K, g.K, 1, False
    with nogil:
        convolve(&g, &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0], bias, kept, &workspace[0],
                 threads)


def bound(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, b,
    real[::1] workspace, Py_ssize_t pad_top, Py_ssize_t pad_left, const real[::1] u, int threads,
    bint relu, const real[:, :, :, ::1] residual,
):
    """Return a function of nothing that is this call."""
    return lambda: conv2d(y, x, w, b, workspace, pad_top, pad_left, threads, u, relu, residual)


def conv2d_backward_input(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, const real[:, :, :, ::1] w,
    real[::1] workspace, Py_ssize_t pad_top, Py_ssize_t pad_left, int threads,
):
    """Write the gradient of conv2d with respect to x to dx (N, H, W, C), for dy (N, P, Q, K)."""
    cdef Geometry g = geometry(dy.shape[0], dy.shape[1], dy.shape[2], dy.shape[3], dx.shape[1],
                               dx.shape[2], dx.shape[3], 2 - pad_top, 2 - pad_left, False)
    g.w_tap, g.w_inner, g.w_outer, g.flipped = g.C * g.K, 1, g.C, True
    with nogil:
        convolve(&g, &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &w[0, 0, 0, 0], NULL, NULL, &workspace[0],
                 threads)

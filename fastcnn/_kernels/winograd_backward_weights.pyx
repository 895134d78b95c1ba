"""The weight gradient of a 3x3 convolution of stride 1, by Winograd's F(3x3, 4x4).

N batch; H W input height and width; C input channels; P Q output height and width; K filters;
e one of the 36 points of a transformed tile; t a tile of 4x4 outputs, of the N*TP*TQ that cover
dy.

    dw = A^T [sum over t of (G dy G^T) * (B^T x B)] A

with x a patch of 6x6 inputs and the transforms of _winograd.pxd: 36 multiplications replace 144.
For a block of channels by a block of filters the sums are m [e][vector of k][c][lane], 36 matrix
products of v and u, both [vector][t][e][lane], the transformed inputs and gradients of a block of
tiles. These are made for two lines of points at a time, and as often as there are blocks of the
other kind: that costs less than to carry them through memory.

The tiles are cut into parts, as many as the shape asks for (never the threads), each with a
gradient of its own; the parts are added in order. So the bits do not depend on the threads.

Longer than most: transforms, products and sums of a block share its layout.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from fastcnn._kernels._cpu cimport l2_bytes
from fastcnn._kernels._tile cimport SERIAL_BELOW, vectors_of
from fastcnn._kernels._types cimport (
    LANES, VECTORS, load, prefetch, prefetch_to_write, real, store, vec
)
from fastcnn._kernels._winograd cimport (
    POINTS, SIDE, copy_of_end, find_pixels, gradient_end, gradient_pair, three_outputs,
    transform_end, transform_pair,
)
from fastcnn._kernels._winograd_sums cimport SUM_ROWS, TILE_LINES, sums, sums_16x1

cdef enum:
    OUT = 4                     # pixels of dy a side of a tile
    PIXELS = OUT * OUT
    TAPS = 9
    LINES = 2 * SIDE            # points of two lines
    MOST_LANES_BYTES = 512      # of channels, and of filters, of a block; half where tasks are few
    MOST_TILES = 64             # of a block; half where the sums stay in L2
    MIN_TASKS = 16              # enough to keep 8 threads busy to the end
    MOST_LANES = 16             # of a vector
    ADDED = 4096                # numbers of the parts that a task adds


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, pad_top, pad_left
    Py_ssize_t TP, TQ, tiles
    Py_ssize_t c_blocks, k_blocks, c_lanes, k_lanes     # lanes of the widest block
    Py_ssize_t parts, block                             # block: tiles, at most
    Py_ssize_t vector_v, vector_m, point_m      # from a vector of v and u, of m, from a point of m
    Py_ssize_t row, part, scratch       # numbers of the longest pixel, of a part, of a thread
    bint far                            # x and dy are more than stays in L2


cdef struct Place:
    Py_ssize_t n, p, q          # of a tile: its image, its first row and column


cdef struct Ahead:              # what the next block will read
    const real* x               # from the block's first channel on
    const real* dy              # from its first filter on
    Py_ssize_t c_lanes, k_lanes
    Py_ssize_t step, steps      # in how many steps it is fetched, and how many are done
    Py_ssize_t tiles
    Place place[MOST_TILES]


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t block_start(Py_ssize_t channels, Py_ssize_t blocks,
                                   Py_ssize_t block) noexcept nogil:
    """Return the first channel of a block of whole vectors; they are as even as can be."""
    return block * vectors_of(channels) // blocks * LANES


cdef void plan(Geometry* g) noexcept nogil:
    """Set what follows from the sizes."""
    cdef Py_ssize_t lanes = MOST_LANES_BYTES // <Py_ssize_t> sizeof(real), most, part
    g.TP, g.TQ = ceil_div(g.P, OUT), ceil_div(g.Q, OUT)
    g.tiles = g.N * g.TP * g.TQ
    most = ceil_div(g.tiles, MOST_TILES)
    if most * ceil_div(g.C, lanes) * ceil_div(g.K, lanes) < MIN_TASKS:
        lanes = lanes // 2
    g.c_blocks = ceil_div(vectors_of(g.C) * LANES, lanes)
    g.k_blocks = ceil_div(vectors_of(g.K) * LANES, lanes)
    g.c_lanes = ceil_div(vectors_of(g.C), g.c_blocks) * LANES
    g.k_lanes = ceil_div(vectors_of(g.K), g.k_blocks) * LANES
    g.parts = min(most, ceil_div(MIN_TASKS, g.c_blocks * g.k_blocks))
    g.block = MOST_TILES
    if 4 * POINTS * g.c_lanes * g.k_lanes * <Py_ssize_t> sizeof(real) <= 3 * l2_bytes:
        g.block = MOST_TILES // 2       # two lines of v and u then stay closer by
    part = ceil_div(g.tiles, g.parts)
    g.block = ceil_div(part, ceil_div(part, g.block))       # as even as can be
    g.far = OUT * OUT * g.tiles * (g.C + g.K) * <Py_ssize_t> sizeof(real) > l2_bytes
    g.row = max(g.c_lanes, g.k_lanes)
    g.part = (TAPS * g.C + 1) * g.K
    g.vector_v = g.block * TILE_LINES
    g.vector_m = ceil_div(g.c_lanes, SUM_ROWS) * SUM_ROWS * LANES
    g.point_m = g.vector_m * vectors_of(g.k_lanes) + LANES  # powers of two collide in the caches
    g.scratch = 6 * g.row + POINTS * g.point_m + g.vector_v * (
        ceil_div(g.c_lanes, SUM_ROWS) * SUM_ROWS // LANES + vectors_of(g.k_lanes))


cdef inline Place place_of(const Geometry* g, Py_ssize_t tile_) noexcept nogil:
    """Return where a tile lies."""
    cdef Place at
    at.n, at.p = tile_ // (g.TP * g.TQ), tile_ // g.TQ % g.TP * OUT
    at.q = tile_ % g.TQ * OUT
    return at


cdef inline Place place_after(const Geometry* g, Place at) noexcept nogil:
    """Return where the next tile lies."""
    at.q += OUT
    if at.q >= g.Q:
        at.p, at.q = at.p + OUT, 0
    if at.p >= g.P:
        at.n, at.p = at.n + 1, 0
    return at


cdef inline void fetch(const Geometry* g, Ahead* ahead) noexcept nogil:
    """Fetch some rows of the 4x4 pixels of x and dy that a tile reads and none before it does.

    They are as many at each step: memory is busy all the time.
    """
    cdef Py_ssize_t rows = 2 * OUT * ahead.tiles, i, _, c
    cdef const Place* at
    cdef const real* pixel
    for i in range(rows * ahead.step // ahead.steps, rows * (ahead.step + 1) // ahead.steps):
        at = &ahead.place[i // (2 * OUT)]
        if i % (2 * OUT) < OUT:
            pixel = ahead.x + (((at.n * g.H + at.p + 2 - g.pad_top + i % OUT) * g.W
                               + at.q + 2 - g.pad_left) * g.C)
        else:
            pixel = ahead.dy + ((at.n * g.P + at.p + i % OUT) * g.Q + at.q) * g.K
        for _ in range(OUT):
            c = 0
            while c < (ahead.c_lanes if i % (2 * OUT) < OUT else ahead.k_lanes):
                prefetch(pixel + c)
                c += 64 // sizeof(real)
            pixel += g.C if i % (2 * OUT) < OUT else g.K
    ahead.step += 1


cdef void transform_input(Py_ssize_t pair, const real** at, Py_ssize_t lanes, Py_ssize_t step_,
                          real* v) noexcept nogil:
    """Write two lines of B^T x B for some channels of a tile to v, given its pixels one by one."""
    cdef Py_ssize_t c = 0
    while c < lanes:
        if pair == 0:
            transform_end(v, LANES, at, c)
            transform_end(v + SIDE * LANES, LANES, at + SIDE, c)
        elif pair == 1:
            transform_pair(v, LANES, at, c, 0.625, 2.25)
        else:
            transform_pair(v, LANES, at, c, 1.5, 0.390625)
        v += step_
        c += LANES


cdef void transform_gradient(Py_ssize_t pair, const real** at, Py_ssize_t lanes, Py_ssize_t step_,
                             real* u, real* sums_) noexcept nogil:
    """Write two lines of G dy G^T for some filters of a tile to u, given its pixels one by one.

    Their pixels are added to sums_ as well, unless that is NULL.
    """
    cdef Py_ssize_t k = 0, i
    cdef vec total
    while k < lanes:
        if pair == 0:
            gradient_end(u, LANES, at, k)
            gradient_end(u + SIDE * LANES, LANES, at + PIXELS - OUT, k)
        elif pair == 1:
            gradient_pair(u, LANES, at, k, 0.625, 0.390625)
        else:
            gradient_pair(u, LANES, at, k, 1.5, 2.25)
        if sums_ is not NULL:
            total = load(sums_ + k)
            for i in range(PIXELS):
                total = total + load(at[i] + k)
            store(sums_ + k, total)
        u += step_
        k += LANES


cdef void multiply(const Geometry* g, bint fresh, Py_ssize_t tiles, Py_ssize_t channels,
                   Py_ssize_t k_lanes, real* m, const real* v, const real* u,
                   Ahead* ahead) noexcept nogil:
    """Add the products of some tiles at one point to m; fresh sums are 0."""
    cdef Py_ssize_t c, k = 0, i
    cdef const real* v_c
    cdef bint two
    while k < k_lanes:
        two, c, v_c = k_lanes - k >= 2 * LANES, 0, v
        while c < channels:
            if ahead.tiles > 0:
                fetch(g, ahead)
            for i in range(SUM_ROWS, 2 * SUM_ROWS):
                prefetch_to_write(m + (c + i) * LANES)
            v_c = v + c // LANES * g.vector_v + c % LANES
            if VECTORS >= 4 and not two and channels - c >= 2 * SUM_ROWS:
                # Half as many steps, and so half of the next block is fetched: all of it at these
                # short sums took 1.05 times as long.
                sums_16x1(m + c * LANES, fresh, v_c, g.vector_v, u, tiles)
                c += 2 * SUM_ROWS
                continue
            sums(two, m + c * LANES, g.vector_m, fresh, v_c, g.vector_v, u, g.vector_v, tiles)
            c += SUM_ROWS
        k += 2 * LANES if two else LANES
        m += 2 * g.vector_m if two else g.vector_m
        u += 2 * g.vector_v if two else g.vector_v


cdef void transform_sums(
    const Geometry* g, Py_ssize_t c_start, Py_ssize_t channels, Py_ssize_t k_start,
    Py_ssize_t k_end, real* dw, const real* m,
) noexcept nogil:
    """Write A^T m A for a block of channels and filters to dw (3, 3, C, K)."""
    cdef Py_ssize_t c, k, i, step_, point = g.point_m
    cdef real halves[3 * SIDE * MOST_LANES]
    cdef real ragged[TAPS * MOST_LANES]
    cdef real* to
    cdef const real* h
    k = k_start
    while k < k_end:
        for c in range(channels):
            for i in range(SIDE):
                h = m + i * point + c * LANES
                three_outputs(halves + i * LANES, SIDE * LANES, load(h), load(h + 6 * point),
                              load(h + 12 * point), load(h + 18 * point),
                              load(h + 24 * point), load(h + 30 * point))
            to, step_ = dw + (c_start + c) * g.K + k, g.C * g.K
            if k + LANES > g.K:
                to, step_ = ragged, LANES
            for i in range(3):
                h = halves + i * SIDE * LANES
                three_outputs(to + 3 * i * step_, step_, load(h), load(h + LANES),
                              load(h + 2 * LANES), load(h + 3 * LANES), load(h + 4 * LANES),
                              load(h + 5 * LANES))
            if k + LANES > g.K:
                to = dw + (c_start + c) * g.K + k
                for i in range(TAPS):
                    memcpy(to + i * g.C * g.K, ragged + i * LANES, (g.K - k) * sizeof(real))
        m += g.vector_m
        k += LANES


cdef void accumulate(const Geometry* g, Py_ssize_t task, real* dw, real* db, real* parts,
                     real* scratch, const real* dy, const real* x) noexcept nogil:
    """Sum one part's tiles for one block of channels and one of filters."""
    cdef Py_ssize_t k_block = task % g.k_blocks, c_block = task // g.k_blocks % g.c_blocks
    cdef Py_ssize_t part = task // g.k_blocks // g.c_blocks
    cdef Py_ssize_t c_start = block_start(g.C, g.c_blocks, c_block)
    cdef Py_ssize_t c_lanes = block_start(g.C, g.c_blocks, c_block + 1) - c_start
    cdef Py_ssize_t k_start = block_start(g.K, g.k_blocks, k_block)
    cdef Py_ssize_t k_lanes = block_start(g.K, g.k_blocks, k_block + 1) - k_start
    cdef Py_ssize_t channels = min(c_lanes, g.C - c_start), pair, tiles, t, e
    cdef Py_ssize_t first = part * g.tiles // g.parts, end = (part + 1) * g.tiles // g.parts
    cdef Py_ssize_t x_size = g.N * g.H * g.W * g.C, dy_size = g.N * g.P * g.Q * g.K, line
    cdef const real* x_end = copy_of_end(scratch + 2 * g.row, g.row, x + x_size, x_size)
    cdef const real* dy_end = copy_of_end(scratch + 4 * g.row, g.row, dy + dy_size, dy_size)
    cdef real* zeros = scratch
    cdef real* sums_ = zeros + g.row
    cdef real* m = zeros + 6 * g.row
    cdef real* v = m + POINTS * g.point_m
    cdef real* u = v + ceil_div(g.c_lanes, SUM_ROWS) * SUM_ROWS // LANES * g.vector_v
    cdef bint fresh = True
    cdef Ahead ahead
    cdef Place at = place_of(g, first)
    cdef const real* x_at[MOST_TILES * POINTS]
    cdef const real* dy_at[MOST_TILES * PIXELS]
    ahead.x, ahead.c_lanes = x + c_start, c_lanes
    ahead.dy, ahead.k_lanes = dy + k_start, k_lanes
    ahead.steps = POINTS * ceil_div(channels, SUM_ROWS) * ceil_div(k_lanes, 2 * LANES)
    if part > 0:
        dw = parts + (part - 1) * g.part
        db = dw + TAPS * g.C * g.K
    memset(zeros, 0, 2 * g.row * sizeof(real))
    while first < end:
        tiles = min(g.block, end - first)
        for t in range(tiles):
            find_pixels(x_at + t * POINTS, SIDE, x + at.n * g.H * g.W * g.C + c_start,
                        at.p - g.pad_top, at.q - g.pad_left, g.H, g.W, g.C, c_lanes, x + x_size,
                        zeros, x_end)
            find_pixels(dy_at + t * PIXELS, OUT, dy + at.n * g.P * g.Q * g.K + k_start, at.p, at.q,
                        g.P, g.Q, g.K, k_lanes, dy + dy_size, zeros, dy_end)
            at = place_after(g, at)
        ahead.step, ahead.tiles = 0, min(tiles, end - first - tiles) if g.far else 0
        ahead.place[0] = at
        for t in range(1, ahead.tiles):
            ahead.place[t] = place_after(g, ahead.place[t - 1])
        for pair in range(3):
            for t in range(tiles):
                transform_input(pair, x_at + t * POINTS, c_lanes, g.vector_v, v + t * TILE_LINES)
                transform_gradient(pair, dy_at + t * PIXELS, k_lanes, g.vector_v,
                                   u + t * TILE_LINES,
                                   sums_ if pair == 0 and c_block == 0 else NULL)
            for e in range(LINES):
                line = e if e < SIDE or pair > 0 else e + (SIDE - 2) * SIDE
                line += (2 * pair - 1) * SIDE if pair > 0 else 0
                multiply(g, fresh, tiles, channels, k_lanes, m + line * g.point_m, v + e * LANES,
                         u + e * LANES, &ahead)
        fresh = False
        first += tiles
    transform_sums(g, c_start, channels, k_start, k_start + k_lanes, dw, m)
    if c_block == 0:
        memcpy(db + k_start, sums_, min(k_lanes, g.K - k_start) * sizeof(real))


cdef void add_parts(const Geometry* g, real* to, const real* part, Py_ssize_t count) noexcept nogil:
    """Add the second and all further parts of some numbers to the first."""
    cdef Py_ssize_t i, _
    for _ in range(1, g.parts):
        for i in range(count):
            to[i] += part[i]
        part += g.part


cdef Geometry geometry(Py_ssize_t N, Py_ssize_t H, Py_ssize_t W, Py_ssize_t C, Py_ssize_t P,
                       Py_ssize_t Q, Py_ssize_t K, Py_ssize_t pad_top,
                       Py_ssize_t pad_left) noexcept nogil:
    cdef Geometry g
    g.N, g.H, g.W, g.C, g.P, g.Q, g.K = N, H, W, C, P, Q, K
    g.pad_top, g.pad_left = pad_top, pad_left
    plan(&g)
    return g


def workspace_size(Py_ssize_t N, Py_ssize_t C, Py_ssize_t P, Py_ssize_t Q, Py_ssize_t K,
                   int threads):
    """Return how many numbers of workspace the gradient takes."""
    cdef Geometry g = geometry(N, 0, 0, C, P, Q, K, 0, 0)
    return threads * g.scratch + (g.parts - 1) * g.part


def conv2d_backward_weights(
    real[:, :, :, ::1] dw, real[::1] db, const real[:, :, :, ::1] dy,
    const real[:, :, :, ::1] x, real[::1] workspace, Py_ssize_t pad_top, Py_ssize_t pad_left,
    int threads,
):
    """Write the gradients of w (3, 3, C, K) and b (K,) for x (N, H, W, C), N at least 1."""
    cdef Geometry g = geometry(x.shape[0], x.shape[1], x.shape[2], x.shape[3], dy.shape[1],
                               dy.shape[2], dy.shape[3], pad_top, pad_left)
    cdef real* scratch = &workspace[0]
    cdef real* parts = scratch + threads * g.scratch
    cdef Py_ssize_t task, first, count = TAPS * g.C * g.K
    if 2.0 * POINTS * g.tiles * g.C * g.K < SERIAL_BELOW:
        threads = 1
    for task in prange(g.parts * g.c_blocks * g.k_blocks, nogil=True, num_threads=threads,
                       schedule="dynamic"):
        accumulate(&g, task, &dw[0, 0, 0, 0], &db[0], parts, scratch + threadid() * g.scratch,
                   &dy[0, 0, 0, 0], &x[0, 0, 0, 0])
    if g.parts == 1:
        return
    for task in prange(ceil_div(count, ADDED), nogil=True, num_threads=threads,
                       schedule="static"):
        first = task * ADDED
        add_parts(&g, &dw[0, 0, 0, 0] + first, parts + first, min(ADDED, count - first))
    add_parts(&g, &db[0], parts + count, g.K)

"""The weight gradient of a 3x3 convolution of stride 1, by Winograd's F(3x3, 4x4).

N batch; H W input height and width; C input channels; P Q output height and width; K filters;
e one of the 36 points of a transformed tile; t a tile of 4x4 outputs, of the N*TP*TQ that cover
dy.

    dw = A^T [sum over t of (G dy G^T) * (B^T x B)] A

with x a patch of 6x6 inputs and the transforms of _winograd.pxd: 36 multiplications replace 144.
For a block of channels by a block of filters the sums are m [e][panel][c][lane], 36 matrix products
of v [e][vector][t][lane] and u [panel][e][t][lane], the transformed inputs and gradients of a block
of tiles. These are made for two lines of points at a time, and as often as there are blocks of the
other kind: that costs less than to carry them through memory.

The tiles are cut into parts, as many as the shape asks for (never the threads), each with a
gradient of its own; the parts are added in order. So the bits do not depend on the threads.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from fastcnn._kernels._tile cimport ROWS, SERIAL_BELOW, first_vector, panels_of, tile, vectors_of
from fastcnn._kernels._types cimport LANES, load, prefetch_to_write, real, store, vec
from fastcnn._kernels._winograd cimport (
    POINTS, SIDE, find_pixels, gradient_end, gradient_pair, three_outputs, transform_end,
    transform_pair,
)

cdef enum:
    OUT = 4                     # pixels of dy a side of a tile
    PIXELS = OUT * OUT
    TAPS = 9
    LINES = 2 * SIDE            # points of two lines
    MOST_LANES_BYTES = 512      # of channels, and of filters, of a block; half where tasks are few
    MOST_TILES = 64             # of a block: two lines of v and u stay in L2, a panel of u in L1
    MIN_TASKS = 16              # enough to keep 8 threads busy to the end
    WIDEST = 64                 # lanes of a panel, at most
    ADDED = 4096                # numbers of the parts that a task adds


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, pad_top, pad_left
    Py_ssize_t TP, TQ, tiles
    Py_ssize_t c_blocks, k_blocks, c_lanes, k_lanes     # lanes of the widest block
    Py_ssize_t parts, block                             # block: tiles, at most
    Py_ssize_t point_m                                  # from a point of m to the next
    Py_ssize_t row, part, scratch       # numbers of the longest pixel, of a part, of a thread


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t block_start(Py_ssize_t channels, Py_ssize_t blocks,
                                   Py_ssize_t block) noexcept nogil:
    """Return the first channel of a block of whole vectors; they are as even as can be."""
    return block * vectors_of(channels) // blocks * LANES


cdef void plan(Geometry* g) noexcept nogil:
    """Set what follows from the sizes."""
    cdef Py_ssize_t lanes = MOST_LANES_BYTES // <Py_ssize_t> sizeof(real), most
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
    g.block = ceil_div(g.tiles, g.parts)
    g.block = ceil_div(g.block, ceil_div(g.block, MOST_TILES))      # as even as can be
    g.point_m = g.c_lanes * g.k_lanes + LANES   # a vector more: powers of two collide in the caches
    g.row = max(g.c_lanes, g.k_lanes)
    g.part = (TAPS * g.C + 1) * g.K
    g.scratch = (2 + POINTS) * g.row + POINTS * g.point_m + LINES * (
        g.block * (g.c_lanes + g.k_lanes) + (1 + panels_of(g.k_lanes)) * LANES)


cdef void transform_input(
    const Geometry* g, Py_ssize_t pair, Py_ssize_t first, Py_ssize_t tiles, Py_ssize_t c_start,
    Py_ssize_t lanes, real* v, const real* x, const real* zeros, real* copies,
) noexcept nogil:
    """Write two lines of B^T x B for some channels of some tiles to v [e][vector][t][lane]."""
    cdef Py_ssize_t t, c, point = tiles * lanes + LANES
    cdef real* v_c
    cdef const real* at[POINTS]
    for t in range(first, first + tiles):
        find_pixels(at, SIDE, x + t // (g.TP * g.TQ) * g.H * g.W * g.C + c_start,
                    t // g.TQ % g.TP * OUT - g.pad_top, t % g.TQ * OUT - g.pad_left, g.H, g.W,
                    g.C, lanes, g.C - c_start, x + g.N * g.H * g.W * g.C, zeros, copies)
        c, v_c = 0, v
        while c < lanes:
            if pair == 0:
                transform_end(v_c, point, at, c)
                transform_end(v_c + SIDE * point, point, at + SIDE, c)
            elif pair == 1:
                transform_pair(v_c, point, at, c, 0.625, 2.25)
            else:
                transform_pair(v_c, point, at, c, 1.5, 0.390625)
            v_c += tiles * LANES
            c += LANES
        v += LANES


cdef void transform_gradient(
    const Geometry* g, Py_ssize_t pair, Py_ssize_t first, Py_ssize_t tiles, Py_ssize_t k_start,
    Py_ssize_t lanes, real* u, real* sums, const real* dy, const real* zeros, real* copies,
) noexcept nogil:
    """Write two lines of G dy G^T for some filters of some tiles to u [panel][e][t][lane].

    Their pixels are added to sums as well, unless that is NULL.
    """
    cdef Py_ssize_t t, k, i, panel, start, width, point
    cdef const real* at[PIXELS]
    cdef real* u_t
    cdef vec total
    for t in range(tiles):
        i = first + t
        find_pixels(at, OUT, dy + i // (g.TP * g.TQ) * g.P * g.Q * g.K + k_start,
                    i // g.TQ % g.TP * OUT, i % g.TQ * OUT, g.P, g.Q,
                    g.K, lanes, g.K - k_start, dy + g.N * g.P * g.Q * g.K, zeros, copies)
        for panel in range(panels_of(lanes)):
            start = first_vector(lanes, panel) * LANES
            width = first_vector(lanes, panel + 1) * LANES - start
            point = tiles * width + LANES
            u_t = u + LINES * (tiles * start + panel * LANES) + t * width - start
            k = start
            while k < start + width:
                if pair == 0:
                    gradient_end(u_t + k, point, at, k)
                    gradient_end(u_t + SIDE * point + k, point, at + PIXELS - OUT, k)
                elif pair == 1:
                    gradient_pair(u_t + k, point, at, k, 0.625, 0.390625)
                else:
                    gradient_pair(u_t + k, point, at, k, 1.5, 2.25)
                k += LANES
        k = 0
        while sums is not NULL and k < lanes:
            total = load(sums + k)
            for i in range(PIXELS):
                total = total + load(at[i] + k)
            store(sums + k, total)
            k += LANES


cdef void multiply(
    const Geometry* g, Py_ssize_t pair, bint fresh, Py_ssize_t tiles, Py_ssize_t c_lanes,
    Py_ssize_t channels, Py_ssize_t k_lanes, real* m, const real* v, const real* u,
    const real* zeros, real* spare,
) noexcept nogil:
    """Add the products of some tiles at two lines of points to m; fresh sums are 0."""
    cdef Py_ssize_t e, panel, start, width, c, i, last, run = 0
    cdef real* m_e
    cdef const real* u_e
    cdef const real* v_e
    cdef const real* a[ROWS]
    cdef const real* init[ROWS]
    cdef real* to[ROWS]
    for e in range(LINES):
        m_e = m + (2 * pair - 1) * SIDE * g.point_m
        if pair == 0:       # lines 0 and 5
            m_e = m if e < SIDE else m + (SIDE - 2) * SIDE * g.point_m
        m_e += e * g.point_m
        v_e = v + e * (tiles * c_lanes + LANES)
        for panel in range(panels_of(k_lanes)):
            start = first_vector(k_lanes, panel) * LANES
            width = first_vector(k_lanes, panel + 1) * LANES - start
            u_e = u + LINES * (tiles * start + panel * LANES) + e * (tiles * width + LANES)
            c = 0
            while c < channels:
                for i in range(ROWS):       # a short last tile repeats its last row
                    last = min(c + i, channels - 1)
                    a[i] = v_e + last // LANES * tiles * LANES + last % LANES
                    to[i] = m_e + (c + i) * width if c + i < channels else spare
                    init[i] = zeros if fresh else to[i]
                i = 0
                while i < ROWS * width:
                    prefetch_to_write(m_e + (c + ROWS) * width + i)
                    i += LANES
                tile(width // LANES, to, init, a, &run, LANES, u_e, &run, width, 1, tiles)
                c += ROWS
            m_e += channels * width


cdef void transform_sums(
    const Geometry* g, Py_ssize_t c_start, Py_ssize_t channels, Py_ssize_t k_start,
    Py_ssize_t k_lanes, real* dw, const real* m,
) noexcept nogil:
    """Write A^T m A for a block of channels and filters to dw (3, 3, C, K)."""
    cdef Py_ssize_t panel, start, width, c, k, i, step, left, point = g.point_m
    cdef real halves[3 * SIDE * WIDEST]
    cdef real ragged[TAPS * WIDEST]
    cdef real* to
    cdef const real* h
    for panel in range(panels_of(k_lanes)):
        start = first_vector(k_lanes, panel) * LANES
        width = first_vector(k_lanes, panel + 1) * LANES - start
        for c in range(channels):
            k = 0
            while k < width:
                for i in range(SIDE):
                    h = m + i * point + k
                    three_outputs(halves + i * LANES, SIDE * LANES, load(h), load(h + 6 * point),
                                  load(h + 12 * point), load(h + 18 * point),
                                  load(h + 24 * point), load(h + 30 * point))
                left = g.K - k_start - start - k
                to, step = dw + (c_start + c) * g.K + k_start + start + k, g.C * g.K
                if left < LANES:
                    to, step = ragged, LANES
                for i in range(3):
                    h = halves + i * SIDE * LANES
                    three_outputs(to + 3 * i * step, step, load(h), load(h + LANES),
                                  load(h + 2 * LANES), load(h + 3 * LANES), load(h + 4 * LANES),
                                  load(h + 5 * LANES))
                if left < LANES:
                    to = dw + (c_start + c) * g.K + k_start + start + k
                    for i in range(TAPS):
                        memcpy(to + i * g.C * g.K, ragged + i * LANES, left * sizeof(real))
                k += LANES
            m += width


cdef void accumulate(const Geometry* g, Py_ssize_t task, real* dw, real* db, real* parts,
                     real* scratch, const real* dy, const real* x) noexcept nogil:
    """Sum one part's tiles for one block of channels and one of filters."""
    cdef Py_ssize_t k_block = task % g.k_blocks, c_block = task // g.k_blocks % g.c_blocks
    cdef Py_ssize_t part = task // g.k_blocks // g.c_blocks
    cdef Py_ssize_t c_start = block_start(g.C, g.c_blocks, c_block)
    cdef Py_ssize_t c_lanes = block_start(g.C, g.c_blocks, c_block + 1) - c_start
    cdef Py_ssize_t k_start = block_start(g.K, g.k_blocks, k_block)
    cdef Py_ssize_t k_lanes = block_start(g.K, g.k_blocks, k_block + 1) - k_start
    cdef Py_ssize_t channels = min(c_lanes, g.C - c_start), pair, tiles
    cdef Py_ssize_t first = part * g.tiles // g.parts, end = (part + 1) * g.tiles // g.parts
    cdef real* zeros = scratch
    cdef real* sums = zeros + g.row
    cdef real* copies = sums + g.row
    cdef real* m = copies + POINTS * g.row
    cdef real* v = m + POINTS * g.point_m
    cdef real* u = v + LINES * (g.block * g.c_lanes + LANES)
    cdef real spare[WIDEST]
    cdef bint fresh = True
    if part > 0:
        dw = parts + (part - 1) * g.part
        db = dw + TAPS * g.C * g.K
    memset(zeros, 0, 2 * g.row * sizeof(real))
    while first < end:
        tiles = min(g.block, end - first)
        for pair in range(3):
            transform_input(g, pair, first, tiles, c_start, c_lanes, v, x, zeros, copies)
            transform_gradient(g, pair, first, tiles, k_start, k_lanes, u,
                               sums if pair == 0 and c_block == 0 else NULL, dy, zeros, copies)
            multiply(g, pair, fresh, tiles, c_lanes, channels, k_lanes, m, v, u, zeros, spare)
        fresh = False
        first += tiles
    transform_sums(g, c_start, channels, k_start, k_lanes, dw, m)
    if c_block == 0:
        memcpy(db + k_start, sums, min(k_lanes, g.K - k_start) * sizeof(real))


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

"""The gradient of conv2d with respect to its weights and bias.

N batch; H W input height and width; C input channels of a group; P Q output height and width;
K filters of a group; R S kernel height and width; G groups; J = R*S*C rows of the gradient.

dw[j, k] = sum over pixels of x[pixel + offset of j] * dy[pixel, k]: six rows j and a panel of
filters stay in registers while the pixels of a block stream past. Where padding is seen, the
block's input is first copied, with its zeros, to scratch.

The pixels are cut into parts, as many as the shape asks for (never the threads), each with a
gradient of its own; the parts are added in order. So the bits do not depend on the threads.
"""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastcnn._kernels._tile cimport ROWS, first_vector, panels_of, tile, vectors_of
from fastcnn._kernels._types cimport LANES, real

cdef enum:
    SERIAL_BELOW = 1000000      # flop: waking a second thread costs more than it saves
    CHUNK_TILES = 16            # tiles of rows j a task takes
    BLOCK_BYTES = 131072        # of x and dy a block: they stay in L2 while the tiles pass
    MIN_TASKS = 32              # enough to keep 8 threads busy to the end
    MOST_PARTS = 16
    MOST_PARTS_BYTES = 33554432


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, R, S, G
    Py_ssize_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w
    bint padded
    Py_ssize_t block_rows, blocks, span_w   # rows of dy a block, blocks an image, scratch width
    Py_ssize_t J, chunks, parts, scratch    # scratch: numbers a thread


cdef void plan(Geometry* g) noexcept nogil:
    """Set what follows from the sizes."""
    cdef Py_ssize_t span_h, row_bytes, tasks, part_bytes
    g.span_w = (g.Q - 1) * g.stride_w + (g.S - 1) * g.dilation_w + 1
    span_h = (g.P - 1) * g.stride_h + (g.R - 1) * g.dilation_h + 1
    g.padded = (g.pad_top > 0 or g.pad_left > 0
                or span_h - g.pad_top > g.H or g.span_w - g.pad_left > g.W)
    row_bytes = (g.stride_h * g.span_w * g.C + g.Q * g.K) * <Py_ssize_t> sizeof(real)
    g.block_rows = max(1, min(g.P, BLOCK_BYTES // row_bytes))
    g.blocks = (g.P + g.block_rows - 1) // g.block_rows
    g.block_rows = (g.P + g.blocks - 1) // g.blocks
    g.J = g.R * g.S * g.C
    g.chunks = (g.J + CHUNK_TILES * ROWS - 1) // (CHUNK_TILES * ROWS)
    tasks = g.G * g.chunks * panels_of(g.K)
    part_bytes = g.G * vectors_of(g.K) * LANES * (g.J + 1) * <Py_ssize_t> sizeof(real)
    g.parts = min(min((MIN_TASKS + tasks - 1) // tasks, MOST_PARTS), g.N * g.blocks)
    g.parts = max(1, min(g.parts, MOST_PARTS_BYTES // part_bytes))
    span_h = (g.block_rows - 1) * g.stride_h + (g.R - 1) * g.dilation_h + 1
    g.scratch = g.block_rows * g.Q * 64 + 64        # dy of one ragged panel, and a spare row
    if g.padded:
        g.scratch += span_h * g.span_w * g.C


cdef void copy_padded(const Geometry* g, real* to, const real* x_n, Py_ssize_t group,
                      Py_ssize_t p, Py_ssize_t p_end) noexcept nogil:
    """Copy the input rows that outputs p to p_end see, zeros where they see padding."""
    cdef Py_ssize_t rows = (p_end - p - 1) * g.stride_h + (g.R - 1) * g.dilation_h + 1
    cdef Py_ssize_t top = p * g.stride_h - g.pad_top, i, w
    cdef Py_ssize_t first = max(0, -g.pad_left), left = max(0, g.pad_left)
    cdef Py_ssize_t count = min(g.W - first, g.span_w - left)
    cdef const real* source
    if count < 0:
        count = 0
    for i in range(rows):
        if top + i < 0 or top + i >= g.H or count == 0:
            memset(to, 0, g.span_w * g.C * sizeof(real))
            to += g.span_w * g.C
            continue
        memset(to, 0, min(left, g.span_w) * g.C * sizeof(real))
        source = x_n + ((top + i) * g.W * g.G + group) * g.C
        if g.G == 1:
            memcpy(to + left * g.C, source, count * g.C * sizeof(real))
        else:
            for w in range(count):
                memcpy(to + (left + w) * g.C, source + w * g.G * g.C, g.C * sizeof(real))
        memset(to + (left + count) * g.C, 0, (g.span_w - left - count) * g.C * sizeof(real))
        to += g.span_w * g.C


cdef void accumulate(const Geometry* g, Py_ssize_t task, real* parts, real* scratch,
                     Py_ssize_t* runs, const real* dy, const real* x) noexcept nogil:
    """Sum one part's pixels for one chunk of rows j and one panel of filters."""
    cdef Py_ssize_t panels = panels_of(g.K)
    cdef Py_ssize_t panel = task % panels
    cdef Py_ssize_t chunk = task // panels % g.chunks
    cdef Py_ssize_t group = task // panels // g.chunks % g.G
    cdef Py_ssize_t part = task // panels // g.chunks // g.G
    cdef Py_ssize_t first = first_vector(g.K, panel) * LANES
    cdef Py_ssize_t width = first_vector(g.K, panel + 1) * LANES - first
    cdef Py_ssize_t valid = min(width, g.K - first)
    cdef Py_ssize_t j = chunk * CHUNK_TILES * ROWS, j_end = min(j + CHUNK_TILES * ROWS, g.J)
    cdef Py_ssize_t items = g.N * g.blocks, item = part * items // g.parts
    cdef Py_ssize_t item_end = (part + 1) * items // g.parts
    cdef real* dw = parts + (
        (part * g.G + group) * vectors_of(g.K) * LANES + first) * (g.J + 1)
    cdef real* spare = scratch
    cdef real* dy_scratch = scratch + 64
    cdef real* x_scratch = dy_scratch + g.block_rows * g.Q * 64
    cdef real* db = dw + g.J * width
    cdef Py_ssize_t n, p, p_end, i, k, m, tap, count, length, row, pixel, dy_pixel
    cdef const real* x_block
    cdef const real* dy_block
    cdef Py_ssize_t* a_run = runs
    cdef Py_ssize_t* b_run = runs + g.block_rows
    cdef const real* a[ROWS]
    cdef real* c[ROWS]

    memset(dw + j * width, 0, (j_end - j) * width * sizeof(real))
    memset(spare, 0, 64 * sizeof(real))
    if chunk == 0:
        memset(db, 0, width * sizeof(real))
    while item < item_end:
        n = item // g.blocks
        p = item % g.blocks * g.block_rows
        p_end = min(p + g.block_rows, g.P)
        item += 1
        if p >= p_end:
            continue

        pixel, row = g.G * g.C, g.W * g.G * g.C
        x_block = x + ((n * g.H + p * g.stride_h - g.pad_top) * g.W - g.pad_left) * pixel
        x_block += group * g.C
        if g.padded:
            copy_padded(g, x_scratch, x + n * g.H * row, group, p, p_end)
            pixel, row = g.C, g.span_w * g.C
            x_block = x_scratch
        dy_pixel = g.G * g.K
        dy_block = dy + (n * g.P + p) * g.Q * dy_pixel + group * g.K + first
        if valid < width:
            for m in range((p_end - p) * g.Q):
                for k in range(valid):
                    dy_scratch[m * width + k] = dy_block[m * dy_pixel + k]
                for k in range(valid, width):
                    dy_scratch[m * width + k] = 0
            dy_block, dy_pixel = dy_scratch, width
        if chunk == 0:
            for m in range((p_end - p) * g.Q):
                for k in range(width):
                    db[k] += dy_block[m * dy_pixel + k]

        count, length = p_end - p, g.Q
        if g.stride_h * row == g.Q * g.stride_w * pixel:    # the rows follow without a gap
            count, length = 1, count * g.Q
        for i in range(count):
            a_run[i] = i * g.stride_h * row
            b_run[i] = i * g.Q * dy_pixel
        m = j
        while m < j_end:
            for i in range(ROWS):   # a short last tile repeats its last row, to a spare one
                k = min(m + i, j_end - 1)
                tap = k // g.C
                a[i] = x_block + (tap // g.S * g.dilation_h * row
                                  + tap % g.S * g.dilation_w * pixel + k % g.C)
                c[i] = dw + k * width if m + i < j_end else spare
            tile(width // LANES, c, <const real**> c, a, a_run, g.stride_w * pixel,
                 dy_block, b_run, dy_pixel, count, length)
            m += ROWS


cdef void reduce(const Geometry* g, Py_ssize_t row, const real* parts,
                 real* dw, real* db) noexcept nogil:
    """Add the parts of one row of one group: j below J of the weights, J of the bias."""
    cdef Py_ssize_t group = row // (g.J + 1), j = row % (g.J + 1)
    cdef Py_ssize_t size = g.G * vectors_of(g.K) * LANES * (g.J + 1)
    cdef Py_ssize_t panel, first, width, k, _
    cdef const real* source
    cdef real* to = dw + j * g.G * g.K if j < g.J else db
    to += group * g.K
    for panel in range(panels_of(g.K)):
        first = first_vector(g.K, panel) * LANES
        width = first_vector(g.K, panel + 1) * LANES - first
        source = parts + (group * vectors_of(g.K) * LANES + first) * (g.J + 1) + j * width
        for k in range(min(width, g.K - first)):
            to[first + k] = source[k]
        for _ in range(1, g.parts):
            source += size
            for k in range(min(width, g.K - first)):
                to[first + k] += source[k]


def workspace_size(
    Py_ssize_t N, Py_ssize_t H, Py_ssize_t W, Py_ssize_t C,
    Py_ssize_t P, Py_ssize_t Q, Py_ssize_t K, Py_ssize_t R, Py_ssize_t S,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int threads,
):
    """Return how many numbers of workspace the gradient takes; C and K are of one group."""
    cdef Geometry g = Geometry(
        N, H, W, C, P, Q, K, R, S, groups, stride_h, stride_w, pad_top, pad_left,
        dilation_h, dilation_w, False, 0, 0, 0, 0, 0, 0, 0)
    plan(&g)
    return g.parts * g.G * vectors_of(g.K) * LANES * (g.J + 1) + threads * g.scratch


def conv2d_backward_weights(
    real[:, :, :, ::1] dw, real[::1] db,
    const real[:, :, :, ::1] dy, const real[:, :, :, ::1] x, real[::1] workspace,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int threads,
):
    """Write the gradients of w (R, S, C, G*K) and b (G*K,) for x (N, H, W, G*C), N at least 1."""
    cdef Geometry g = Geometry(
        x.shape[0], x.shape[1], x.shape[2], dw.shape[2], dy.shape[1], dy.shape[2],
        dw.shape[3] // groups, dw.shape[0], dw.shape[1], groups, stride_h, stride_w,
        pad_top, pad_left, dilation_h, dilation_w, False, 0, 0, 0, 0, 0, 0, 0)
    cdef Py_ssize_t task, tasks
    cdef Py_ssize_t* runs
    cdef real* parts = &workspace[0]
    cdef real* scratch
    plan(&g)
    scratch = parts + g.parts * g.G * vectors_of(g.K) * LANES * (g.J + 1)
    if 2.0 * g.N * g.P * g.Q * g.J * g.K * g.G < SERIAL_BELOW:
        threads = 1
    tasks = g.parts * g.G * g.chunks * panels_of(g.K)
    runs = <Py_ssize_t*> malloc(2 * threads * g.block_rows * sizeof(Py_ssize_t))
    if runs is NULL:
        raise MemoryError("conv2d_backward: no memory for the table of rows")
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="dynamic"):
        accumulate(&g, task, parts, scratch + threadid() * g.scratch,
                   runs + 2 * threadid() * g.block_rows, &dy[0, 0, 0, 0], &x[0, 0, 0, 0])
    for task in prange((g.J + 1) * g.G, nogil=True, num_threads=threads, schedule="static"):
        reduce(&g, task, parts, &dw[0, 0, 0, 0], &db[0])
    free(runs)

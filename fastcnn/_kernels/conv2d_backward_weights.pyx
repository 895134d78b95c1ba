"""The gradient of conv2d with respect to its weights and bias.

N batch; H W input height and width; C input channels of a group; P Q output height and width;
K filters of a group; R S kernel height and width; G groups; J = R*S*C rows of the gradient.

dw[j, k] = sum over pixels of x[pixel + offset of j] * dy[pixel, k]: six rows j and a panel of
filters stay in registers while the pixels of a block stream past. A block of pixels is copied to
scratch first: a chunk of channels of x with the zeros that padding shows, and dy a panel at a
time. So what the tiles read is dense, aligned and in the caches, whatever the strides of x and dy.

The pixels are cut into parts, as many as the shape asks for (never the threads), each with a
gradient of its own; the parts are added in order. So the bits do not depend on the threads.

Few filters leave lanes idle. But for the order of the taps the sum treats x and dy alike: where
that fills more lanes they change places, and `swap_back` puts the result in order.

Longer than most: what copies, adds and sums up parts is cut by one geometry.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from fastcnn._kernels._cpu cimport l2_bytes
from fastcnn._kernels._tall_tile cimport TALL_ROWS, fits_tall, tall_tile
from fastcnn._kernels._tile cimport ROWS, SERIAL_BELOW, first_vector, panels_of, tile, vectors_of
from fastcnn._kernels._types cimport LANES, load, prefetch, real, splat, store, vec

cdef enum:
    BLOCK_PIXELS = 400          # of dy a block: dw is read and written once for so many
    LEAST_CHUNK = 48            # channels, however large the kernel is dilated
    DENSE = 64                  # channels: more are kept off strides that collide in the caches
    DENSE_PIXELS = 128          # channels: fewer are read where they are, if they can be
    AHEAD = 4                   # pixels that copies fetch in advance
    FEW_ROWS = 64               # of the gradient: so many or fewer read dy where it is
    MIN_TASKS = 16              # parts are counted for so many, whatever the threads
    TASKS_A_THREAD = 4          # at least: more tasks copy x more often
    MOST_PARTS = 16
    MOST_PARTS_BYTES = 4194304
    PART_CHANNELS = 524288      # bytes of x: parts are counted for tasks of so many channels
    WIDEST = 64                 # lanes of a panel, at most
    SUMMED_ROWS = 128           # of dy, whose columns swap_back sums up at a time


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, R, S, G
    Py_ssize_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w
    # Scratch holds each skip-th row and column of x; outputs are step of those apart. A kernel
    # of one row (or column) sees each stride-th one alone.
    Py_ssize_t skip_h, skip_w, step_h, step_w
    Py_ssize_t block_images, block_rows, block_columns  # of dy; several images only if whole
    Py_ssize_t row_blocks, column_blocks, blocks        # of an image, of an image, of all
    Py_ssize_t span_h, span_w                           # rows and columns of scratch, an image
    Py_ssize_t J, row                   # row: filters in a row of a part, filled to vectors
    Py_ssize_t chunk, chunks, pitch     # of channels; numbers a pixel of scratch
    Py_ssize_t parts, panels, panel_groups              # panels: how many a task takes
    Py_ssize_t scratch                  # numbers a thread
    bint in_place                       # dw is the only part
    bint x_in_place                     # blocks of x are as dense as copies would be
    bint tall                           # whether tiles of nine rows waste little


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef void plan(Geometry* g, int threads) noexcept nogil:
    """Set what follows from the sizes.

    The blocks and parts by the shape alone, for bits depend on them; the tasks of a part by the
    threads too.
    """
    cdef Py_ssize_t tasks, part_bytes, pixels
    g.skip_h = g.stride_h if g.R == 1 else 1
    g.skip_w = g.stride_w if g.S == 1 else 1
    g.step_h, g.step_w = g.stride_h // g.skip_h, g.stride_w // g.skip_w
    g.column_blocks = ceil_div(g.Q, BLOCK_PIXELS)
    g.block_columns = ceil_div(g.Q, g.column_blocks)
    g.column_blocks = ceil_div(g.Q, g.block_columns)
    g.row_blocks = ceil_div(g.P, BLOCK_PIXELS // g.block_columns)
    g.block_rows = ceil_div(g.P, g.row_blocks)
    g.row_blocks = ceil_div(g.P, g.block_rows)
    g.block_images = 1
    if g.row_blocks == 1 and g.column_blocks == 1:
        g.block_images = min(g.N, BLOCK_PIXELS // (g.P * g.Q))
        g.block_images = ceil_div(g.N, ceil_div(g.N, g.block_images))
    g.blocks = ceil_div(g.N, g.block_images) * g.row_blocks * g.column_blocks
    g.span_h = (g.block_rows - 1) * g.step_h + (g.R - 1) * g.dilation_h + 1
    g.span_w = (g.block_columns - 1) * g.step_w + (g.S - 1) * g.dilation_w + 1

    g.J, g.row = g.R * g.S * g.C, vectors_of(g.K) * LANES
    pixels = g.block_images * g.span_h * g.span_w
    g.chunk = max(LEAST_CHUNK, l2_bytes // 2 // <Py_ssize_t> sizeof(real) // pixels)
    g.chunks = ceil_div(g.C, g.chunk)
    g.chunk = ceil_div(g.C, g.chunks)
    if g.chunks > 1:
        g.chunk = ceil_div(g.chunk, ROWS) * ROWS
        g.chunks = ceil_div(g.C, g.chunk)
    g.x_in_place = (g.R == 1 and g.S == 1 and g.stride_h == 1 and g.stride_w == 1 and g.G == 1
                    and g.pad_top == 0 and g.pad_left == 0 and g.P == g.H and g.Q == g.W
                    and g.C < DENSE_PIXELS)
    g.pitch = g.chunk
    if g.x_in_place:
        g.pitch = g.C
    elif g.chunk >= DENSE:
        g.pitch = (vectors_of(g.chunk) | 1) * LANES
    # Fewer tiles are worth a little more padding. Asked of all rows, not of a chunk's, which depend
    # on the caches: tall tiles add up the bias's gradient in another order.
    g.tall = ceil_div(g.J, TALL_ROWS) * TALL_ROWS <= ceil_div(g.J, ROWS) * ROWS + g.J // 32
    # Parts first, as long as they are small: a task that takes all panels copies x once.
    part_bytes = g.G * (g.J + 1) * g.row * <Py_ssize_t> sizeof(real)
    tasks = g.G * ceil_div(
        g.C, max(LEAST_CHUNK, PART_CHANNELS // <Py_ssize_t> sizeof(real) // pixels))
    g.parts = max(1, min(min(ceil_div(MIN_TASKS, tasks), MOST_PARTS_BYTES // part_bytes),
                         min(MOST_PARTS, g.blocks)))
    tasks = g.G * g.chunks * g.parts
    g.panels = panels_of(g.K)
    while g.panels > 1 and tasks * ceil_div(panels_of(g.K), g.panels) < TASKS_A_THREAD * threads:
        g.panels = ceil_div(g.panels, 2)
    g.panel_groups = ceil_div(panels_of(g.K), g.panels)
    g.in_place = g.parts == 1 and g.G == 1 and g.row == g.K
    g.scratch = BLOCK_PIXELS * WIDEST + vectors_of(pixels * g.pitch) * LANES


cdef inline void copy_channels(
    real* to, const real* source, Py_ssize_t count, Py_ssize_t ahead,
) noexcept nogil:
    cdef Py_ssize_t c = 0
    while c + LANES <= count:
        prefetch(source + ahead + c)
        store(to + c, load(source + c))
        c += LANES
    while c < count:
        to[c] = source[c]
        c += 1


cdef void copy_input(const Geometry* g, real* to, const real* x_n, Py_ssize_t channels,
                     Py_ssize_t p, Py_ssize_t p_end, Py_ssize_t q, Py_ssize_t q_end) noexcept nogil:
    """Copy what the outputs p to p_end, q to q_end of an image see of `channels` channels.

    x_n is the first of them. Where padding is seen, zeros are written.
    """
    cdef Py_ssize_t rows = (p_end - p - 1) * g.step_h + (g.R - 1) * g.dilation_h + 1
    cdef Py_ssize_t columns = (q_end - q - 1) * g.step_w + (g.S - 1) * g.dilation_w + 1
    cdef Py_ssize_t h = p * g.stride_h - g.pad_top, w = q * g.stride_w - g.pad_left
    cdef Py_ssize_t pixel = g.G * g.C, j, first = 0, end, _
    cdef const real* source
    if w < 0:
        first = min(columns, ceil_div(-w, g.skip_w))
    end = max(first, min(columns, ceil_div(g.W - w, g.skip_w) if w < g.W else 0))
    for _ in range(rows):
        if h < 0 or h >= g.H or first == end:
            memset(to, 0, columns * g.pitch * sizeof(real))
        else:
            memset(to, 0, first * g.pitch * sizeof(real))
            source = x_n + (h * g.W + w + first * g.skip_w) * pixel
            if g.pitch == pixel and g.skip_w == 1:
                memcpy(to + first * g.pitch, source, (end - first) * g.pitch * sizeof(real))
            else:
                for j in range(first, end):
                    copy_channels(to + j * g.pitch, source, channels, AHEAD * g.skip_w * pixel)
                    source += g.skip_w * pixel
            memset(to + end * g.pitch, 0, (columns - end) * g.pitch * sizeof(real))
        to += g.span_w * g.pitch
        h += g.skip_h


cdef void copy_gradient(real* to, const real* dy, Py_ssize_t pixels, Py_ssize_t pixel,
                        Py_ssize_t width, Py_ssize_t valid) noexcept nogil:
    """Copy the `valid` filters of a panel, zeros in the rest of its width."""
    cdef Py_ssize_t k, _
    for _ in range(pixels):
        copy_channels(to, dy, valid, AHEAD * pixel)
        for k in range(valid, width):
            to[k] = 0
        to += width
        dy += pixel


cdef void add_pixels(real* db, bint first, const real* dy, Py_ssize_t pixels,
                     Py_ssize_t pixel, Py_ssize_t width) noexcept nogil:
    """Add the pixels of a panel to the bias's gradient, which is 0 at first.

    Four sums, for one would wait for itself.
    """
    cdef Py_ssize_t k = 0, m
    cdef const real* source
    cdef vec t0, t1, t2, t3
    while k < width:
        t0 = splat(0) if first else load(db + k)
        t1, t2, t3 = splat(0), splat(0), splat(0)
        source = dy + k
        m = 0
        while m + 4 <= pixels:
            t0 = t0 + load(source)
            t1 = t1 + load(source + pixel)
            t2 = t2 + load(source + 2 * pixel)
            t3 = t3 + load(source + 3 * pixel)
            source += 4 * pixel
            m += 4
        while m < pixels:
            t0 = t0 + load(source)
            source += pixel
            m += 1
        t0 = (t0 + t1) + (t2 + t3)
        store(db + k, t0)
        k += LANES


cdef void accumulate(const Geometry* g, Py_ssize_t task, real* dw, real* db, real* scratch,
                     const real* dy, const real* x) noexcept nogil:
    """Sum one part's pixels for one chunk of channels and one group of panels."""
    cdef Py_ssize_t panel_group = task % g.panel_groups
    cdef Py_ssize_t chunk = task // g.panel_groups % g.chunks
    cdef Py_ssize_t group = task // g.panel_groups // g.chunks % g.G
    cdef Py_ssize_t part = task // g.panel_groups // g.chunks // g.G
    cdef Py_ssize_t block = part * g.blocks // g.parts
    cdef Py_ssize_t block_end = (part + 1) * g.blocks // g.parts
    cdef Py_ssize_t panel_end = min((panel_group + 1) * g.panels, panels_of(g.K))
    cdef Py_ssize_t c_start = chunk * g.chunk, channels = min(g.chunk, g.C - c_start)
    cdef Py_ssize_t dy_pixel = g.G * g.K, n, n_end, p, p_end, q, q_end, rows, length
    cdef Py_ssize_t panel, first, width, dy_step, dy_left, offset, i, count
    cdef bint fresh = True, in_place = g.J <= FEW_ROWS
    cdef const real* dy_end = dy + g.N * g.P * g.Q * dy_pixel
    cdef const real* dy_start
    cdef const real* dy_block
    cdef real* bias
    cdef real* dy_panel = scratch
    cdef real* x_copy = scratch + BLOCK_PIXELS * WIDEST
    cdef const real* x_block
    cdef Py_ssize_t x_run[BLOCK_PIXELS]
    cdef Py_ssize_t dy_run[BLOCK_PIXELS]

    if not g.in_place:
        dw += (part * g.G + group) * (g.J + 1) * g.row
        db = dw + g.J * g.row
    x += group * g.C + c_start
    dy += group * g.K
    while block < block_end:
        n = block // (g.row_blocks * g.column_blocks) * g.block_images
        n_end = min(n + g.block_images, g.N)
        p = block // g.column_blocks % g.row_blocks * g.block_rows
        p_end = min(p + g.block_rows, g.P)
        q = block % g.column_blocks * g.block_columns
        q_end = min(q + g.block_columns, g.Q)
        block += 1
        rows, length = p_end - p, q_end - q
        for i in range(n_end - n):
            if g.x_in_place:
                break
            copy_input(g, x_copy + i * g.span_h * g.span_w * g.pitch,
                       x + (n + i) * g.H * g.W * g.G * g.C, channels, p, p_end, q, q_end)
        x_block = x_copy
        if g.x_in_place:
            x_block = x + ((n * g.H + p) * g.W + q) * g.C
        count = (n_end - n) * rows
        for i in range(count):
            x_run[i] = (i // rows * g.span_h + i % rows * g.step_h) * g.span_w * g.pitch
        # Few rows read dy where it is. A panel's last vector may read past its own filters, but
        # never past the end of dy.
        dy_start = dy + ((n * g.P + p) * g.Q + q) * dy_pixel
        dy_left = dy_end - dy_start - (count * length - 1) * dy_pixel
        for panel in range(panel_group * g.panels, panel_end):
            first = first_vector(g.K, panel) * LANES
            width = first_vector(g.K, panel + 1) * LANES - first
            dy_block, dy_step = dy_panel, width
            if in_place and dy_left >= first + width:
                dy_block, dy_step = dy_start + first, dy_pixel
            for i in range(count):
                dy_run[i] = i * length * dy_step
                if dy_block == dy_panel:
                    offset = ((n + i // rows) * g.P + p + i % rows) * g.Q + q
                    copy_gradient(dy_panel + dy_run[i], dy + offset * dy_pixel + first, length,
                                  dy_pixel, width, min(width, g.K - first))
            bias = db + first if chunk == 0 else NULL
            if g.R == 1 and g.S == 1 and length == g.block_columns:     # one run
                add_block(g, dw + first, bias, fresh, c_start, channels, dy_block, dy_step, width,
                          x_block, dy_run, x_run, 1, count * length)
            else:
                add_block(g, dw + first, bias, fresh, c_start, channels, dy_block, dy_step, width,
                          x_block, dy_run, x_run, count, length)
        fresh = False


cdef void add_block(
    const Geometry* g, real* dw, real* db, bint fresh, Py_ssize_t c_start, Py_ssize_t channels,
    const real* dy, Py_ssize_t dy_step, Py_ssize_t width, const real* x_block,
    const Py_ssize_t* dy_run, const Py_ssize_t* x_run, Py_ssize_t runs, Py_ssize_t length,
) noexcept nogil:
    """Add a block's pixels to the rows of a chunk of channels, one panel wide; fresh rows are 0.

    And to the gradient of the bias, unless it is NULL.
    """
    cdef Py_ssize_t left = g.R * g.S * channels, r = 0, s = 0, c = 0, i, k, height = ROWS
    cdef bint tall = g.tall and fits_tall(width // LANES)
    cdef const real* a[TALL_ROWS]
    cdef const real* init[TALL_ROWS]
    cdef real* to[TALL_ROWS]
    cdef real zeros[WIDEST]
    cdef real spare[WIDEST]
    for k in range(WIDEST):
        zeros[k] = 0
        spare[k] = 0
    if tall:
        height = TALL_ROWS
    elif db != NULL:
        add_pixels(db, fresh, dy, runs * length, dy_step, width)
    while left > 0:
        for i in range(height):     # a short last tile repeats its last row, to a spare one
            a[i] = x_block + (r * g.dilation_h * g.span_w + s * g.dilation_w) * g.pitch + c
            to[i] = dw + ((r * g.S + s) * g.C + c_start + c) * g.row
            if i >= left:
                to[i] = spare
            init[i] = to[i]
            if fresh:
                init[i] = zeros
            if i + 1 < left:
                c += 1
                if c == channels:
                    c = 0
                    s += 1
                    if s == g.S:
                        s = 0
                        r += 1
        if tall:
            tall_tile(width // LANES, to, init, db if db != NULL else spare, fresh,
                      a, x_run, g.step_w * g.pitch, dy, dy_run, dy_step, runs, length)
            db = NULL
        else:
            tile(width // LANES, to, init, a, x_run, g.step_w * g.pitch,
                 dy, dy_run, dy_step, runs, length)
        left -= height


cdef void reduce(const Geometry* g, Py_ssize_t row, const real* parts,
                 real* dw, real* db) noexcept nogil:
    """Add the parts of one row of one group: j below J of the weights, J of the bias."""
    cdef Py_ssize_t group = row // (g.J + 1), j = row % (g.J + 1), k, _
    cdef const real* source = parts + row * g.row
    cdef real* to = dw + j * g.G * g.K if j < g.J else db
    to += group * g.K
    for k in range(g.K):
        to[k] = source[k]
    for _ in range(1, g.parts):
        source += g.G * (g.J + 1) * g.row
        for k in range(g.K):
            to[k] += source[k]


cdef Geometry geometry_of(
    Py_ssize_t N, Py_ssize_t H, Py_ssize_t W, Py_ssize_t C,
    Py_ssize_t P, Py_ssize_t Q, Py_ssize_t K, Py_ssize_t R, Py_ssize_t S, Py_ssize_t G,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
) noexcept nogil:
    cdef Geometry g
    g.N, g.H, g.W, g.C, g.P, g.Q, g.K, g.R, g.S, g.G = N, H, W, C, P, Q, K, R, S, G
    g.stride_h, g.stride_w, g.pad_top, g.pad_left = stride_h, stride_w, pad_top, pad_left
    g.dilation_h, g.dilation_w = dilation_h, dilation_w
    plan(&g, threads)
    return g


cdef Py_ssize_t parts_size(const Geometry* g) noexcept nogil:
    return 0 if g.in_place else g.parts * g.G * (g.J + 1) * g.row


def workspace_size(
    Py_ssize_t N, Py_ssize_t H, Py_ssize_t W, Py_ssize_t C,
    Py_ssize_t P, Py_ssize_t Q, Py_ssize_t K, Py_ssize_t R, Py_ssize_t S,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int threads,
):
    """Return how many numbers of workspace the gradient takes; C and K are of one group."""
    cdef Geometry g = geometry_of(N, H, W, C, P, Q, K, R, S, groups, stride_h, stride_w,
                                  pad_top, pad_left, dilation_h, dilation_w, threads)
    return parts_size(&g) + threads * g.scratch


def conv2d_backward_weights(
    real[:, :, :, ::1] dw, real[::1] db,
    const real[:, :, :, ::1] dy, const real[:, :, :, ::1] x, real[::1] workspace,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t groups, int threads,
):
    """Write the gradients of w (R, S, C, G*K) and b (G*K,) for x (N, H, W, G*C), N at least 1."""
    cdef Geometry g = geometry_of(
        x.shape[0], x.shape[1], x.shape[2], dw.shape[2], dy.shape[1], dy.shape[2],
        dw.shape[3] // groups, dw.shape[0], dw.shape[1], groups, stride_h, stride_w,
        pad_top, pad_left, dilation_h, dilation_w, threads)
    cdef Py_ssize_t task
    cdef real* parts = &dw[0, 0, 0, 0] if g.in_place else &workspace[0]
    cdef real* scratch = &workspace[parts_size(&g)]
    if 2.0 * g.N * g.P * g.Q * g.J * g.K * g.G < SERIAL_BELOW:
        threads = 1
    for task in prange(g.parts * g.G * g.chunks * g.panel_groups,
                       nogil=True, num_threads=threads, schedule="dynamic"):
        accumulate(&g, task, parts, &db[0], scratch + threadid() * g.scratch,
                   &dy[0, 0, 0, 0], &x[0, 0, 0, 0])
    if g.in_place:
        return
    for task in prange((g.J + 1) * g.G, nogil=True, num_threads=threads, schedule="static"):
        reduce(&g, task, parts, &dw[0, 0, 0, 0], &db[0])


# ---------------------------------------------------------------- x and dy in each other's place
def swaps(
    Py_ssize_t H, Py_ssize_t W, Py_ssize_t C, Py_ssize_t P, Py_ssize_t Q, Py_ssize_t K,
    Py_ssize_t R, Py_ssize_t S,
):
    """Return whether x and dy, for a stride of 1, had better change places: an eighth less work."""
    cdef Py_ssize_t work = ceil_div(R * S * C, ROWS) * vectors_of(K) * P * Q
    return 8 * ceil_div(R * S * K, ROWS) * vectors_of(C) * H * W <= 7 * work


def swapped_workspace_size(Py_ssize_t count, Py_ssize_t K):
    """Return how many numbers of workspace swap_back takes for a dy of `count` numbers."""
    return ceil_div(count // (K * LANES), SUMMED_ROWS) * K * LANES


def swap_back(
    real[:, :, :, ::1] dw, real[::1] db, const real[:, :, :, ::1] swapped,
    const real[:, :, :, ::1] dy, real[::1] workspace, int threads,
):
    """Write dw (R, S, C, K) from swapped (R, S, K, C), its taps reversed, and db, by rows of dy.

    A row is LANES pixels: what belongs to a filter is repeated along it.
    """
    cdef Py_ssize_t K = db.shape[0], width = K * LANES, i, j, k, r, s, c
    cdef Py_ssize_t count = dy.shape[0] * dy.shape[1] * dy.shape[2] * K, rows = count // width
    cdef Py_ssize_t parts = ceil_div(rows, SUMMED_ROWS), R = dw.shape[0], S = dw.shape[1]
    cdef const real* numbers = &dy[0, 0, 0, 0]
    cdef double total
    for i in prange(parts, nogil=True, num_threads=threads, schedule="static"):
        add_pixels(&workspace[i * width], True, numbers + i * SUMMED_ROWS * width,
                   min(<Py_ssize_t> SUMMED_ROWS, rows - i * SUMMED_ROWS), width, width)
    with nogil:
        for k in range(K):
            total = 0
            for i in range(parts):
                for j in range(LANES):
                    total += workspace[i * width + j * K + k]
            for i in range(rows * LANES, count // K):
                total += numbers[i * K + k]
            db[k] = <real> total
        for r in range(R):
            for s in range(S):
                for c in range(dw.shape[2]):
                    for k in range(K):
                        dw[r, s, c, k] = swapped[R - 1 - r, S - 1 - s, k, c]

"""1x1 convolution without padding: forward and input gradient. Linear layers are such too.

M pixels, whatever image they belong to; C channels read; K channels written. y = x w + b is one
matrix product, so unlike conv2d.pyx there are no regions that see other taps, and its loops can
be ordered for the caches alone:

- Pixels are cut into chunks that stay in L2 with a panel of weights, and a task takes a chunk and
  some panels. Where there are more weights than pixels one chunk takes all pixels: each task then
  packs its panel itself, uses it at once, and x is what is read again and again.
- Many channels are cut into blocks; the sums of a block go on from what the last one left in y.
  The order of additions is the same, and so are the bits.

Longer than most: forward, packed weights and the input gradient are cut and packed alike.
"""

from cython.parallel cimport prange
from libc.string cimport memset

from fastcnn._kernels._cpu cimport l2_bytes
from fastcnn._kernels._finish cimport Finish, add_residual, finish, finishing, nothing
from fastcnn._kernels._pack cimport pack_panel
from fastcnn._kernels._stream cimport past_caches, put
from fastcnn._kernels._tile cimport (
    ROWS, SERIAL_BELOW, copy_panel, first_vector, panels_of, tile, vectors_of
)
from fastcnn._kernels._types cimport (
    LANES, drain, load, prefetch_to_write, real, splat, vec,
)

cdef enum:
    BLOCK_CHANNELS = 1024       # a block of weights is 256 KB at most
    MIN_TASKS = 32              # enough to keep 8 threads busy to the end
    FEW_PIXELS = 12             # for these weights are not packed: they would be read once or twice
    DENSE_PANELS = 2            # nor are so many: their rows lie close enough
    WIDEST = 64                 # lanes of a panel, at most


cdef struct Pixels:
    # Where pixel (n, h, w) of images, rows, columns lies: strides, in numbers.
    Py_ssize_t image, row, column


cdef struct Product:
    Py_ssize_t images, rows, columns, M     # of the pixels multiplied
    Py_ssize_t C, K, w_inner, w_outer       # strides of the weights along C and along K
    Py_ssize_t chunk, chunks, panels, panel_groups
    Pixels at_x, at_y
    bint streaming, ready                   # ready: the weights are packed
    bint in_place                           # whole panels of weights are read where they lie
    Finish end
    real* y
    const real* x
    const real* w
    const real* bias                        # or NULL
    real* packed


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef void plan(Product* op) noexcept nogil:
    """Choose chunks and groups of panels: no result depends on them."""
    cdef Py_ssize_t panels = panels_of(op.K)
    cdef Py_ssize_t channels = min(op.C, BLOCK_CHANNELS) * <Py_ssize_t> sizeof(real)
    op.in_place = op.w_outer == 1 and not op.ready and (
        op.M <= FEW_PIXELS or panels <= DENSE_PANELS)
    if (op.at_x.image == op.rows * op.at_x.row and op.at_x.row == op.columns * op.at_x.column
            and op.at_y.image == op.rows * op.at_y.row
            and op.at_y.row == op.columns * op.at_y.column):
        op.images, op.rows, op.columns = 1, 1, op.M     # pixels follow without a gap
    # Of x 3/16 of L2: with a block of weights it stays there.
    op.chunk = max(2 * ROWS, l2_bytes // 16 * 3 // channels)
    if op.ready:
        if panels < MIN_TASKS // 2:     # threads that write to other pixels do not meet
            op.chunk = min(op.chunk, max(4 * ROWS, ceil_div(op.M, MIN_TASKS // 2)))
    elif op.K >= op.M and panels >= MIN_TASKS // 4:
        op.chunk = op.M
    op.chunks = ceil_div(op.M, op.chunk)
    op.chunk = ceil_div(ceil_div(op.M, op.chunks), ROWS) * ROWS
    op.chunks = ceil_div(op.M, op.chunk)
    op.panels = panels
    while op.panels > 1 and op.chunks * ceil_div(panels, op.panels) < (
            MIN_TASKS // 4 if op.ready else MIN_TASKS):
        op.panels = ceil_div(op.panels, 2)
    op.panel_groups = ceil_div(panels, op.panels)


cdef inline real* packed_panel(const Product* op, Py_ssize_t first) noexcept nogil:
    """Return where a packed panel is: a row of biases, then the weights."""
    return op.packed + first * (op.C + 1)


cdef void pack(const Product* op, Py_ssize_t panel) noexcept nogil:
    cdef Py_ssize_t first = first_vector(op.K, panel) * LANES, lane
    cdef Py_ssize_t width = first_vector(op.K, panel + 1) * LANES - first
    cdef Py_ssize_t valid = min(width, op.K - first)
    cdef real* to = packed_panel(op, first)
    for lane in range(width):
        to[lane] = 0
        if op.bias is not NULL and lane < valid:
            to[lane] = op.bias[first + lane]
    if not op.in_place or valid < width:
        pack_panel(to + width, op.w + first * op.w_outer, op.C, op.w_inner, op.w_outer,
                   valid, width)


cdef void multiply(const Product* op, Py_ssize_t task) noexcept nogil:
    """Compute a chunk of pixels for a group of panels."""
    cdef Py_ssize_t m = task // op.panel_groups * op.chunk
    cdef Py_ssize_t m_end = min(m + op.chunk, op.M)
    cdef Py_ssize_t panel_first = task % op.panel_groups * op.panels
    cdef Py_ssize_t panel_end = min(panel_first + op.panels, panels_of(op.K)), panel
    cdef Py_ssize_t c = 0, c_end
    if op.chunks == 1:
        for panel in range(panel_first, panel_end):
            if not op.ready:
                pack(op, panel)
            c = 0
            while c < op.C:
                c_end = min(c + BLOCK_CHANNELS, op.C)
                multiply_block(op, panel, c, c_end, m, m_end)
                c = c_end
        return
    while c < op.C:
        c_end = min(c + BLOCK_CHANNELS, op.C)
        for panel in range(panel_first, panel_end):
            multiply_block(op, panel, c, c_end, m, m_end)
        c = c_end


cdef void multiply_block(
    const Product* op, Py_ssize_t panel, Py_ssize_t c, Py_ssize_t c_end,
    Py_ssize_t m, Py_ssize_t m_end,
) noexcept nogil:
    """Add what channels c to c_end give to a panel of pixels m to m_end; the first also b."""
    cdef Py_ssize_t first = first_vector(op.K, panel) * LANES
    cdef Py_ssize_t width = first_vector(op.K, panel + 1) * LANES - first
    cdef Py_ssize_t valid = min(width, op.K - first)
    cdef const real* bias = packed_panel(op, first)
    cdef const real* weights = bias + (1 + c) * width
    cdef Py_ssize_t w_step = width, i, lane
    cdef Py_ssize_t image, row, column = m % op.columns
    cdef bint aside = valid < width or op.streaming     # sums are gathered, then written
    cdef const real* a[ROWS]
    cdef const real* init[ROWS]
    cdef real* to[ROWS]
    cdef real* y[ROWS]
    cdef real sums[ROWS * WIDEST]
    cdef Py_ssize_t run = 0, rows
    if aside:
        if c > 0:
            return
        c_end = op.C            # what is not in y cannot be gone on from
    if op.in_place and valid == width:
        weights, w_step = op.w + c * op.w_inner + first, op.w_inner
    image, row = m // op.columns // op.rows, m // op.columns % op.rows
    while m < m_end:
        rows = min(ROWS, m_end - m)
        for i in range(ROWS):   # a short last tile repeats its last pixel
            a[i] = op.x + c + (
                image * op.at_x.image + row * op.at_x.row + column * op.at_x.column)
            y[i] = op.y + first + (
                image * op.at_y.image + row * op.at_y.row + column * op.at_y.column)
            to[i] = y[i]
            if aside:
                to[i] = sums + i * width
            else:
                for lane in range(0, width // LANES):
                    prefetch_to_write(y[i] + lane * LANES)
            init[i] = bias
            if c > 0:
                init[i] = y[i]
            m += 1
            if m < m_end:
                column += 1
                if column == op.columns:
                    column = 0
                    row += 1
                    if row == op.rows:
                        row = 0
                        image += 1
        tile(width // LANES, to, init, a, &run, 1, weights, &run, w_step, 1, c_end - c)
        if op.end.any and c_end == op.C:
            for i in range(rows):
                finish(&op.end, to[i], y[i] - op.y, valid)
        if aside:
            for i in range(rows):
                if valid == width:
                    lane = 0
                    while lane < width:
                        put(y[i] + lane, load(to[i] + lane), op.streaming)
                        lane += LANES
                else:
                    copy_panel(y[i], to[i], valid)
    if op.streaming:
        drain()


cdef void run_product(Product* op, int threads) noexcept nogil:
    """Run every task of a product whose geometry and pointers are set."""
    cdef Py_ssize_t task
    op.M = op.images * op.rows * op.columns
    if 2.0 * op.M * op.C * op.K < SERIAL_BELOW:
        threads = 1
    plan(op)
    if op.chunks > 1 and not op.ready:
        for task in prange(panels_of(op.K), num_threads=threads, schedule="static"):
            pack(op, task)
    for task in prange(op.chunks * op.panel_groups, num_threads=threads, schedule="dynamic"):
        multiply(op, task)


def workspace_size(Py_ssize_t inner, Py_ssize_t outer):
    """Return how many numbers the packed weights and biases of a product take."""
    return vectors_of(outer) * LANES * (inner + 1)


def pack_weights(real[::1] workspace, const real[:, ::1] w, b):
    """Pack weights (C, K) and bias into a workspace, for any number of pixels."""
    cdef Product op
    cdef const real[::1] bias
    cdef Py_ssize_t panel
    op.bias = NULL
    if b is not None:
        bias = b
        op.bias = &bias[0]
    op.C, op.K, op.w_inner, op.w_outer = w.shape[0], w.shape[1], w.shape[1], 1
    op.w, op.packed, op.in_place = &w[0, 0], &workspace[0], False
    for panel in range(panels_of(op.K)):
        pack(&op, panel)


cpdef pointwise_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, ::1] w, const real[::1] b,
    real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w, int threads,
    bint packed=False, activation=None, const real[:, :, :, ::1] residual=None,
):
    """Write the convolution of x (N, H, W, C) with w (C, K) to y (N, P, Q, K).

    packed: workspace holds what pack_weights left there. residual, shaped as y, is added to it;
    then comes ReLU if asked for.
    """
    cdef Product op
    op.bias, op.ready, op.end = NULL, packed, finishing(activation)
    if b is not None:
        op.bias = &b[0]
    if residual is not None:
        add_residual(&op.end, &residual[0, 0, 0, 0])
    op.images, op.rows, op.columns = y.shape[0], y.shape[1], y.shape[2]
    op.C, op.K, op.w_inner, op.w_outer = w.shape[0], w.shape[1], w.shape[1], 1
    op.at_x.column = stride_w * op.C
    op.at_x.row = stride_h * x.shape[2] * op.C
    op.at_x.image = x.shape[1] * x.shape[2] * op.C
    op.at_y.column, op.at_y.row = op.K, op.columns * op.K
    op.at_y.image = op.rows * op.columns * op.K
    op.y, op.x, op.w, op.packed = &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0], &workspace[0]
    op.streaming = past_caches(op.y, op.images * op.rows * op.columns * (op.C + op.K), op.K)
    with nogil:
        run_product(&op, threads)


def bound_pointwise_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, ::1] w, const real[::1] b,
    real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w, int threads,
    bint packed=False, activation=None, const real[:, :, :, ::1] residual=None,
):
    """Return a function of nothing that is this call of pointwise_conv2d."""
    return lambda: pointwise_conv2d(
        y, x, w, b, workspace, stride_h, stride_w, threads, packed, activation, residual)


def pointwise_conv2d_backward_input(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, const real[:, ::1] w,
    real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w, int threads,
):
    """Write the gradient of pointwise_conv2d with respect to x to dx (N, H, W, C)."""
    cdef Product op
    cdef Py_ssize_t row
    cdef int clearing
    op.bias, op.ready, op.end = NULL, False, nothing()
    op.images, op.rows, op.columns = dy.shape[0], dy.shape[1], dy.shape[2]
    op.C, op.K, op.w_inner, op.w_outer = w.shape[1], w.shape[0], 1, w.shape[1]
    op.at_x.column, op.at_x.row = op.C, op.columns * op.C
    op.at_x.image = op.rows * op.columns * op.C
    op.at_y.column = stride_w * op.K
    op.at_y.row = stride_h * dx.shape[2] * op.K
    op.at_y.image = dx.shape[1] * dx.shape[2] * op.K
    op.y, op.x, op.w = &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &w[0, 0]
    op.packed = &workspace[0]
    op.streaming = past_caches(
        op.y, op.images * (op.at_x.image + op.at_y.image), op.K)
    clearing = threads if op.images * op.at_y.image >= SERIAL_BELOW else 1
    # Not where the strides are above 1: of one output there may be any.
    if op.rows < dx.shape[1] or op.columns < dx.shape[2]:
        for row in prange(dx.shape[0] * dx.shape[1], nogil=True, schedule="static",
                          num_threads=clearing):
            clear_unseen(&dx[row // dx.shape[1], row % dx.shape[1], 0, 0], row % dx.shape[1],
                         dx.shape[2], op.K, stride_h, stride_w, op.rows, op.columns,
                         op.streaming)
    with nogil:
        run_product(&op, threads)


cdef void clear_unseen(
    real* dx, Py_ssize_t h, Py_ssize_t W, Py_ssize_t C, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t P, Py_ssize_t Q, bint streaming,
) noexcept nogil:
    """Set the pixels of row h of an image to zero that a stride passes over."""
    cdef bint seen = h % stride_h == 0 and h // stride_h < P
    cdef vec zero = splat(0)
    cdef Py_ssize_t w, c
    for w in range(W):
        if not (seen and w % stride_w == 0 and w // stride_w < Q):
            if streaming:
                c = 0
                while c < C:
                    put(dx + c, zero, True)
                    c += LANES
            else:
                memset(dx, 0, C * sizeof(real))
        dx += C
    if streaming:
        drain()

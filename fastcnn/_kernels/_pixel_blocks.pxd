# Products of a block of pixels that the second cache holds, by the register tile of _tile.pxd.
#
# Rows of pixels are dense. What is multiplied lies in the caches already, or is small.
from libc.string cimport memset

from fastcnn._kernels._tile cimport ROWS, copy_panel, first_vector, panels_of, tile
from fastcnn._kernels._types cimport LANES, prefetch, real

cdef enum:
    BLOCK_NUMBERS = 32768       # of the widest array: two such blocks and weights fit in L2
    MOST_PIXELS = 384           # of a block: terms of a sum in `real`
    MOST_PARTS = 16             # of all blocks
    STEP = 48                   # terms between two times that memory is asked for
    LINE = 64                   # bytes
    WIDEST = 64                 # lanes of a panel, at most


cdef struct Ahead:
    # Memory that is fetched while blocks are multiplied: two arrays, by lines.
    const real* first
    const real* second
    Py_ssize_t count, step      # numbers of each that are left, and at a time


cdef struct Blocks:
    Py_ssize_t pixels, block, count, parts      # in all, of a block; blocks, parts of them


cdef inline Blocks blocks_of(Py_ssize_t pixels, Py_ssize_t channels) noexcept nogil:
    """Cut pixels into blocks and these into parts: by shape alone, for the bits depend on them."""
    cdef Blocks b
    b.pixels = pixels
    b.block = max(ROWS, min(<Py_ssize_t> MOST_PIXELS, BLOCK_NUMBERS // channels) // ROWS * ROWS)
    b.count = (pixels + b.block - 1) // b.block
    b.parts = min(b.count, <Py_ssize_t> MOST_PARTS)
    return b


cdef inline Py_ssize_t part_start(const Blocks* b, Py_ssize_t part) noexcept nogil:
    """Return the first pixel of a part; that of the part after the last is their number."""
    return min(b.pixels, part * b.count // b.parts * b.block)


cdef inline Ahead ahead_of(
    const real* first, const real* second, Py_ssize_t count, Py_ssize_t times,
) noexcept nogil:
    """Return what fetches so many numbers in so many times."""
    cdef Py_ssize_t line = LINE // <Py_ssize_t> sizeof(real)
    cdef Ahead ahead
    ahead.first, ahead.second, ahead.count = first, second, count
    ahead.step = (count // line + times) // times * line
    return ahead


cdef inline void fetch(Ahead* ahead) noexcept nogil:
    cdef Py_ssize_t i = 0, end = min(ahead.step, ahead.count)
    while i < end:
        prefetch(ahead.first + i)
        prefetch(ahead.second + i)
        i += LINE // sizeof(real)
    ahead.first, ahead.second = ahead.first + end, ahead.second + end
    ahead.count -= end


cdef inline Py_ssize_t times_of(
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t length
) noexcept nogil:
    """Return how often a product fetches: it has so many rows and columns, and terms of a sum."""
    return (rows + ROWS - 1) // ROWS * panels_of(columns) * ((length + STEP - 1) // STEP)


cdef inline void sum_up(
    Py_ssize_t vectors, real** c, const real** init, const real** a, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step, Py_ssize_t length, Ahead* ahead,
) noexcept nogil:
    """Run a tile of one run, STEP terms at a time."""
    cdef Py_ssize_t run = 0, done = 0, i
    cdef const real* rest[ROWS]
    for i in range(ROWS):
        rest[i] = a[i]
    while True:
        fetch(ahead)
        tile(vectors, c, init if done == 0 else <const real**> c, rest, &run, a_step, b, &run,
             b_step, 1, min(<Py_ssize_t> STEP, length - done))
        done += STEP
        if done >= length:
            break
        for i in range(ROWS):
            rest[i] += STEP * a_step
        b += STEP * b_step


cdef inline void pack_columns(
    real* to, const real* w, Py_ssize_t inner, Py_ssize_t outer, Py_ssize_t w_inner,
    Py_ssize_t w_outer, const double* scale,
) noexcept nogil:
    """Write weights as panels of rows: [inner, lane of outer], zeros beyond outer.

    Those of row i are multiplied with scale[i], unless that is NULL.
    """
    cdef Py_ssize_t panel, first, width, i, lane
    cdef double factor = 1
    for panel in range(panels_of(outer)):
        first = first_vector(outer, panel) * LANES
        width = first_vector(outer, panel + 1) * LANES - first
        for i in range(inner):
            if scale is not NULL:
                factor = scale[i]
            for lane in range(width):
                to[0] = 0
                if first + lane < outer:
                    to[0] = <real> (w[i * w_inner + (first + lane) * w_outer] * factor)
                to += 1


cdef inline void multiply_pixels(
    real* y, const real* x, const real* packed, const real* bias, Py_ssize_t count,
    Py_ssize_t inner, Py_ssize_t outer, Ahead* ahead,
) noexcept nogil:
    """Write y (count, outer): x (count, inner) times packed weights, plus a bias.

    The bias is filled to whole vectors.
    """
    cdef Py_ssize_t panel, first, width, valid, row = 0, i
    cdef const real* a[ROWS]
    cdef const real* init[ROWS]
    cdef real* to[ROWS]
    cdef real aside[ROWS * WIDEST]
    while row < count:
        for panel in range(panels_of(outer)):
            first = first_vector(outer, panel) * LANES
            width = first_vector(outer, panel + 1) * LANES - first
            valid = min(width, outer - first)
            for i in range(ROWS):       # a short last tile repeats its last row
                a[i] = x + min(row + i, count - 1) * inner
                init[i] = bias + first
                to[i] = aside + i * WIDEST
                if valid == width and row + i < count:
                    to[i] = y + (row + i) * outer + first
            sum_up(width // LANES, to, init, a, 1, packed + first * inner, width, inner, ahead)
            if valid < width:
                for i in range(min(ROWS, count - row)):
                    copy_panel(y + (row + i) * outer + first, to[i], valid)
        row += ROWS


cdef inline void add_products(
    real* sums, const real* x, const real* y, Py_ssize_t count, Py_ssize_t few, Py_ssize_t many,
    Ahead* ahead,
) noexcept nogil:
    """Add the sums (few, many) over pixels of x (count, few) times y (count, many).

    many is of whole vectors.
    """
    cdef Py_ssize_t panel, first, width, row, i
    cdef const real* a[ROWS]
    cdef const real* init[ROWS]
    cdef real* to[ROWS]
    cdef real spare[WIDEST]
    memset(spare, 0, sizeof(spare))
    for panel in range(panels_of(many)):
        first = first_vector(many, panel) * LANES
        width = first_vector(many, panel + 1) * LANES - first
        row = 0
        while row < few:
            for i in range(ROWS):       # a short last tile repeats its last row, to a spare one
                a[i] = x + min(row + i, few - 1)
                to[i] = spare
                if row + i < few:
                    to[i] = sums + (row + i) * many + first
                init[i] = to[i]
            sum_up(width // LANES, to, init, a, few, y + first, many, count, ahead)
            row += ROWS

# What the backward pass of a block makes of its shape, and where the winners of windows are.
#
# For the letters see conv_block_backward.pyx.
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy

from fastcnn._kernels._tile cimport vectors_of
from fastcnn._kernels._types cimport COMPARES_64, LANES, bytes_equal

cdef enum:
    MOST_PARTS = 8              # enough for 8 threads
    WORD = 64                   # filters, or pixels, whose wins one integer tells


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, R, S
    Py_ssize_t stride_h, stride_w, pad_top, pad_left
    Py_ssize_t pool_h, pool_w, pool_stride_h, pool_stride_w
    bint copied                 # whether an image is worked on in a padded copy,
    Py_ssize_t rows, columns    # of this size
    Py_ssize_t row_vectors, L   # vectors of one row of a window, and of the window
    Py_ssize_t parts
    Py_ssize_t list_size, copy_size     # of a list of winners, of a padded copy
    Py_ssize_t words            # of winners, a pixel and place: their filters
    Py_ssize_t pixel_words      # of winners, a filter: their pixels
    Py_ssize_t numbers, places  # scratch a thread: reals and integers (words are two)
    Py_ssize_t windows          # integers for where the windows begin
    bint in_patches             # whether dx gathers 4x4 patches (_patch.pxd)


cdef inline void plan(Geometry* g) noexcept nogil:
    """Set what follows from the sizes."""
    cdef Py_ssize_t span_h = ((g.P - 1) * g.pool_stride_h + g.pool_h - 1) * g.stride_h + g.R
    cdef Py_ssize_t span_w = ((g.Q - 1) * g.pool_stride_w + g.pool_w - 1) * g.stride_w + g.S
    cdef Py_ssize_t pixels = g.P * g.Q
    g.row_vectors = vectors_of(g.S * g.C)
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
    g.list_size = vectors_of(pixels) * LANES
    g.copy_size = (vectors_of(g.rows * g.columns * g.C) + 1) * LANES if g.copied else 0
    g.numbers = g.list_size + g.copy_size
    g.words = (g.K + WORD - 1) // WORD
    g.pixel_words = (pixels + WORD - 1) // WORD
    g.places = max(2 * g.K * g.pixel_words + pixels,
                   2 * pixels * g.pool_h * g.pool_w * g.words)
    g.places += g.places % 2    # so words are aligned
    g.windows = pixels * g.pool_h * g.pool_w
    g.windows += g.windows % 2
    g.in_patches = (g.R == 3 and g.S == 3 and g.pool_h == 2 and g.pool_w == 2
                    and g.stride_h == 1 and g.stride_w == 1 and g.C % LANES == 0)


cdef inline Py_ssize_t vector_at(const Geometry* g, Py_ssize_t v) noexcept nogil:
    """Return where vector v of a window lies in the image."""
    return v // g.row_vectors * g.columns * g.C + v % g.row_vectors * LANES


cdef inline void find_windows(const Geometry* g, int32_t* windows) noexcept nogil:
    """Write where each pixel's windows begin, one for every place of the pool window."""
    cdef Py_ssize_t places = g.pool_h * g.pool_w, pixel, h, w, i
    for pixel in range(g.P * g.Q):
        for i in range(places):
            h = pixel // g.Q * g.pool_stride_h + i // g.pool_w
            w = pixel % g.Q * g.pool_stride_w + i % g.pool_w
            windows[i] = <int32_t> ((h * g.stride_h * g.columns + w * g.stride_w) * g.C)
        windows += places


cdef inline uint64_t matches(const unsigned char* values, Py_ssize_t count,
                             unsigned char wanted) noexcept nogil:
    """Return the word whose bit i tells whether values[i] is `wanted`, for at most 64 values.

    Eight at a time, as the bytes of a word (little-endian, as all targets are): those that differ
    from `wanted` nowhere get their top bit set, and the product gathers the eight top bits.
    """
    cdef uint64_t bits = 0, eight, low = 0x7f7f7f7f7f7f7f7f
    cdef Py_ssize_t i = 0
    if COMPARES_64 and count == WORD:
        return bytes_equal(values, wanted)
    while i + 8 <= count:
        memcpy(&eight, values + i, 8)
        eight = eight ^ <uint64_t> 0x0101010101010101 * wanted
        eight = ~(((eight & low) + low) | eight | low) >> 7
        bits |= (eight * <uint64_t> 0x0102040810204080 >> 56) << i
        i += 8
    while i < count:
        bits |= <uint64_t> (values[i] == wanted) << i
        i += 1
    return bits


cdef inline void mark_winners(
    const Geometry* g, const unsigned char* argmax, uint64_t* winners
) noexcept nogil:
    """Write words of 64 filters each for every pixel and place: who won there has its bit set."""
    cdef Py_ssize_t place, k, _
    for _ in range(g.P * g.Q):
        for place in range(g.pool_h * g.pool_w):
            k = 0
            while k < g.K:
                winners[0] = matches(argmax + k, min(<Py_ssize_t> WORD, g.K - k),
                                     <unsigned char> place)
                winners += 1
                k += WORD
        argmax += g.K


cdef inline void swap_blocks(uint64_t* a, Py_ssize_t size, uint64_t mask) noexcept nogil:
    """Of each square of 2x2 blocks of bits let the upper right and the lower left change places."""
    cdef Py_ssize_t row = 0, i
    cdef uint64_t other
    while row < WORD:
        for i in range(row, row + size):
            other = (a[i] >> size ^ a[i + size]) & mask
            a[i + size] ^= other
            a[i] ^= other << size
        row += 2 * size


cdef inline void turn_bits(uint64_t* a) noexcept nogil:
    """Transpose a square of 64 words: its quarters, their quarters, and so on."""
    swap_blocks(a, 32, 0x00000000ffffffff)
    swap_blocks(a, 16, 0x0000ffff0000ffff)
    swap_blocks(a, 8, 0x00ff00ff00ff00ff)
    swap_blocks(a, 4, 0x0f0f0f0f0f0f0f0f)
    swap_blocks(a, 2, 0x3333333333333333)
    swap_blocks(a, 1, 0x5555555555555555)


cdef inline void mark_pixels(
    const Geometry* g, const unsigned char* argmax, uint64_t* winners
) noexcept nogil:
    """Write words of 64 pixels each for every filter: where it has a winner, the bit is set."""
    cdef unsigned char dead = <unsigned char> (g.pool_h * g.pool_w)
    cdef Py_ssize_t pixels = g.P * g.Q, k, first, count, i, word
    cdef uint64_t square[WORD]
    for word in range(g.pixel_words):
        first = word * WORD
        k = 0
        while k < g.K:
            count = min(<Py_ssize_t> WORD, g.K - k)
            for i in range(WORD):
                square[i] = 0
                if first + i < pixels:
                    square[i] = ~matches(argmax + (first + i) * g.K + k, count, dead)
            turn_bits(square)
            for i in range(count):
                winners[(k + i) * g.pixel_words + word] = square[i]
            k += WORD

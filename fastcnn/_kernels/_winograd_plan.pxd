# How Winograd's convolution covers its output with tiles, and what it makes of its shape.
#
# For the letters see winograd.pyx. A side of the output is cut into fours; where one or two are
# left over, the last tile of the side is two long: its four points are 0, +-A and infinity, which
# are among the six of a tile of four, so that all tiles share the transformed weights. Tiles of a
# kind lie together, and the kinds in an order that lets the tiles that have a point follow one
# another:
#
#     tall (4x2)    full (4x4)    wide (2x4)    corner (2x2)
#     '---- points +-B down ---'
#                   '---- points +-B across ---'
from fastcnn._kernels._cpu cimport l2_bytes
from fastcnn._kernels._finish cimport Finish
from fastcnn._kernels._tile cimport ROWS, first_vector, panels_of, vectors_of
from fastcnn._kernels._types cimport LANES, VECTORS, real
from fastcnn._kernels._winograd cimport POINTS, SIDE
from fastcnn._kernels._winograd_tile cimport MANY_ROWS, TILE

cdef enum:
    OUT = 4                     # outputs a side of a full tile
    TAPS = 9
    KINDS = 4
    GROUP_BYTES = 256           # of filters
    MOST_LANES = 64             # of a group
    CHANNELS = 16               # whose weights are gathered at a time
    C_BLOCK = 256               # channels whose weights are transformed just before their use
    SHARED_TILES = 66           # of a block whose groups are divided among the threads
    MOST_AHEAD = 12582912       # bytes of weights that are transformed ahead
    FEW_TILES = 24
    MIN_TASKS = 16
    MOST_TILES = 96             # of a block that one thread computes
    ROOM = POINTS + OUT * OUT   # vectors of scratch: what is half transformed, and outputs


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, pad_top, pad_left
    Py_ssize_t w_tap, w_inner, w_outer          # strides of the weights
    bint flipped                                # the taps are taken in reverse
    Py_ssize_t fours_down, fours_across         # tiles of an image that are four long
    Py_ssize_t kind[KINDS]                      # the first tile of each kind
    Py_ssize_t tiles, depth                     # depth: C rounded up to whole vectors
    Py_ssize_t panels, groups, group_lanes      # panels of filters, and groups of panels
    bint ahead                                  # all weights are transformed first
    bint kept                                   # by transform_all_weights, for many calls
    bint by_points                              # of kept weights: the threads divide the points
    bint by_tile                                # of few weights: all points of a tile lie together
    bint in_place                               # and m takes the place of v: fewer lines pass L1
    bint far                                    # input and output are more than stays in L2
    Finish end
    unsigned char* argmax                       # of the 2x2 windows that are pooled; or NULL
    Py_ssize_t block, c_block                   # tiles and channels of a block
    Py_ssize_t runs                             # of blocks that a thread computes one by one
    Py_ssize_t point_v, point_m                 # from a point to the next
    Py_ssize_t tile_v, tile_m                   # from a tile to the next
    Py_ssize_t vector_v, vector_m               # from a vector of channels, of filters, to the next
    Py_ssize_t size_v, size_m                   # numbers of v and m
    Py_ssize_t shared, scratch                  # numbers of workspace: for all, for a thread


cdef struct Place:
    Py_ssize_t n, p, q          # of a tile: its image, its first row and column
    bint tall, wide             # whether it is four long, down and across


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t to) noexcept nogil:
    return (n + to - 1) // to * to


cdef inline Py_ssize_t group_panel(const Geometry* g, Py_ssize_t group) noexcept nogil:
    """Return the first panel of a group."""
    return group * g.panels // g.groups


cdef inline Py_ssize_t group_start(const Geometry* g, Py_ssize_t group) noexcept nogil:
    """Return the first filter of a group."""
    return first_vector(g.K, group_panel(g, group)) * LANES


cdef inline Py_ssize_t group_end(const Geometry* g, Py_ssize_t k) noexcept nogil:
    """Return the first filter after the group that k is of."""
    cdef Py_ssize_t group = 1
    while group_start(g, group) <= k:
        group += 1
    return group_start(g, group)


cdef inline Py_ssize_t weights_size(Py_ssize_t lanes, Py_ssize_t panels,
                                    Py_ssize_t channels) noexcept nogil:
    # A vector more at each point: powers of two would put all 36 into one set of the cache.
    return POINTS * (channels * lanes + panels * LANES)


cdef inline unsigned short* blank_of(const Geometry* g, const real* v) noexcept nogil:
    """Return where the blank_outputs of each tile of a block are kept: at the end of its v."""
    return <unsigned short*> (v + g.size_v - round_up(g.block, LANES))


cdef inline void find_tiles(Geometry* g) noexcept nogil:
    """Cut the output into tiles."""
    cdef Py_ssize_t two_down, two_across
    g.fours_down, g.fours_across = (g.P + 1) // OUT, (g.Q + 1) // OUT
    two_down, two_across = g.P > OUT * g.fours_down, g.Q > OUT * g.fours_across
    g.kind[0] = 0
    g.kind[1] = g.N * g.fours_down * two_across
    g.kind[2] = g.kind[1] + g.N * g.fours_down * g.fours_across
    g.kind[3] = g.kind[2] + g.N * two_down * g.fours_across
    g.tiles = g.kind[3] + g.N * two_down * two_across


cdef inline Place place_of(const Geometry* g, Py_ssize_t tile_) noexcept nogil:
    """Return where a tile lies."""
    cdef Place at
    cdef Py_ssize_t rows, columns
    at.tall, at.wide = tile_ < g.kind[2], g.kind[1] <= tile_ < g.kind[3]
    rows = g.fours_down if at.tall else 1
    columns = g.fours_across if at.wide else 1
    tile_ -= g.kind[(tile_ >= g.kind[1]) + (tile_ >= g.kind[2]) + (tile_ >= g.kind[3])]
    at.n = tile_ // (rows * columns)
    at.p = OUT * (tile_ // columns % rows if at.tall else g.fours_down)
    at.q = OUT * (tile_ % columns if at.wide else g.fours_across)
    return at


cdef inline Place place_after(const Geometry* g, Place at, Py_ssize_t tile_) noexcept nogil:
    """Return where a tile lies, given where the one before it does: without a division, mostly."""
    if at.wide and at.q + OUT < OUT * g.fours_across:
        at.q += OUT
        return at
    return place_of(g, tile_)


cdef inline bint is_outer(Py_ssize_t e) noexcept nogil:
    """Return whether a point of a line is one of +-B."""
    return e == 3 or e == 4


cdef inline Py_ssize_t first_with(const Geometry* g, Py_ssize_t e) noexcept nogil:
    """Return the first tile that has point e; they follow one another up to end_with."""
    return g.kind[1] if is_outer(e % SIDE) else 0


cdef inline Py_ssize_t end_with(const Geometry* g, Py_ssize_t e) noexcept nogil:
    """Return the tile after the last that has point e."""
    if is_outer(e // SIDE):
        return g.kind[2]
    return g.kind[3] if is_outer(e % SIDE) else g.tiles


cdef inline void plan(Geometry* g) noexcept nogil:
    """Set what follows from the sizes."""
    cdef Py_ssize_t lanes = vectors_of(g.K) * LANES, all_weights, weight_bytes
    cdef Py_ssize_t in_group = max(1, GROUP_BYTES // (VECTORS * LANES * <Py_ssize_t> sizeof(real)))
    find_tiles(g)
    g.far = OUT * OUT * g.tiles * (g.C + g.K) * <Py_ssize_t> sizeof(real) > l2_bytes
    g.depth = vectors_of(g.C) * LANES
    g.panels = panels_of(g.K)
    g.groups = (g.panels + in_group - 1) // in_group
    g.group_lanes = min(lanes, GROUP_BYTES // <Py_ssize_t> sizeof(real))
    all_weights = weights_size(lanes, g.panels, g.C)
    weight_bytes = all_weights * sizeof(real)
    g.ahead = g.kept or g.groups == 1 or (
        g.tiles > FEW_TILES and weight_bytes <= MOST_AHEAD)
    # Weights that no cache keeps are read once for as many tiles as can be; for few tiles, those
    # that a core's own cache does not keep.
    g.by_points = g.kept and weight_bytes > (
        l2_bytes // 2 if g.tiles <= FEW_TILES else MOST_AHEAD)
    g.by_tile = (g.ahead and not g.by_points and g.tiles > FEW_TILES
                 and 4 * weight_bytes <= 3 * l2_bytes)
    g.in_place = False
    if g.ahead and not g.by_points:
        # v and m take 3/4 of L2: with the weights that pass they stay there. Where all weights stay
        # there, few tiles do.
        g.c_block = g.C
        g.block = l2_bytes // 4 * 3 // (
            POINTS * (g.depth + g.group_lanes) * <Py_ssize_t> sizeof(real))
        g.block = min(max(ROWS, g.block // ROWS * ROWS), round_up(g.tiles // MIN_TASKS + 1, ROWS),
                      MOST_TILES)
        if g.by_tile:
            g.block = MANY_ROWS
        elif g.tiles <= FEW_TILES:
            g.block = round_up(g.tiles, ROWS)   # the threads divide the filters
        g.runs = min((g.tiles + g.block - 1) // g.block, MIN_TASKS)
    else:
        g.c_block = g.C if g.by_points else min(g.C, C_BLOCK)
        g.block = (g.tiles + SHARED_TILES - 1) // SHARED_TILES      # as even as can be
        g.block = round_up((g.tiles + g.block - 1) // g.block, ROWS)
    if g.by_tile:
        g.point_v, g.tile_v, g.vector_v = LANES, TILE, g.block * TILE
        g.point_m, g.tile_m, g.vector_m = LANES, TILE, g.block * TILE
        g.size_v, g.size_m = g.vector_v * vectors_of(g.C), g.vector_m * g.group_lanes // LANES
        g.in_place = vectors_of(g.K) <= min(2, vectors_of(g.C))
    else:
        g.point_v, g.tile_v, g.vector_v = g.block * g.depth + LANES, g.depth, LANES
        g.point_m, g.tile_m, g.vector_m = g.block * g.group_lanes + LANES, g.group_lanes, LANES
        g.size_v, g.size_m = POINTS * g.point_v, POINTS * g.point_m
    g.size_v += round_up(g.block, LANES)        # blank_of; m begins at a cache line
    g.shared = lanes + 3 * g.depth
    if g.by_points:
        g.shared += g.size_v + g.groups * g.size_m
    elif not g.kept:
        g.shared += all_weights if g.ahead else g.size_v
    g.scratch = g.size_m + ROOM * LANES + TAPS * CHANNELS * g.group_lanes
    g.scratch += g.size_v if g.ahead else weights_size(g.group_lanes, in_group, g.c_block)

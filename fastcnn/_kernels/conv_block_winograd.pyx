"""Convolution 3x3 of stride 1 + bias + ReLU + max-pool 2x2 by Winograd's F(2x2, 3x3).

N batch; H W input height and width; C input channels; P Q height and width of the pooled
output; K filters; e one of the 16 points of a transformed tile.

A tile of 2x2 outputs is just what one pool window reads, so the convolution's output is never
written: y = pool(relu(A^T [sum over c of (G w G^T) * (B^T x B)] A + b)), Lavin and Gray,
"Fast Algorithms for Convolutional Neural Networks", 2016. 16 multiplications replace 36. The
transforms only add, subtract and halve: small integers stay exact.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from fastcnn._kernels._tile cimport ROWS, first_vector, panels_of, tile, vectors_of
from fastcnn._kernels._types cimport (
    LANES, beats, load, mask, real, where, splat, store, store_as_bytes, vec,
)

cdef enum:
    POINTS = 16
    CHUNK = 2 * ROWS            # tiles a task takes, at most
    MOST_LANES = 64             # of a panel


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, pad_top, pad_left
    Py_ssize_t depth            # C rounded up to whole vectors


cdef void transform_weights(const Geometry* g, Py_ssize_t task, real* u,
                            const real* w) noexcept nogil:
    """Write G w G^T for one channel and panel: u is [panel][e][c][lane]."""
    cdef Py_ssize_t panels = panels_of(g.K), panel = task % panels, c = task // panels
    cdef Py_ssize_t first = first_vector(g.K, panel) * LANES
    cdef Py_ssize_t width = first_vector(g.K, panel + 1) * LANES - first
    cdef Py_ssize_t valid = min(width, g.K - first), k, i, e
    cdef Py_ssize_t point = g.C * width, tap = g.C * g.K
    cdef real t[4][3]
    cdef real a, b, d
    cdef const real* w_c = w + c * g.K + first
    cdef real* u_c = u + POINTS * g.C * first + c * width
    for k in range(valid):
        for i in range(3):
            a = w_c[i * tap + k]
            b = w_c[(3 + i) * tap + k]
            d = w_c[(6 + i) * tap + k]
            t[0][i] = a
            t[1][i] = (a + b + d) * <real> 0.5
            t[2][i] = (a - b + d) * <real> 0.5
            t[3][i] = d
        for i in range(4):
            a = t[i][0]
            b = t[i][1]
            d = t[i][2]
            u_c[(4 * i) * point + k] = a
            u_c[(4 * i + 1) * point + k] = (a + b + d) * <real> 0.5
            u_c[(4 * i + 2) * point + k] = (a - b + d) * <real> 0.5
            u_c[(4 * i + 3) * point + k] = d
    for e in range(POINTS):
        for k in range(valid, width):
            u_c[e * point + k] = 0


cdef inline void transform_input(real* v, Py_ssize_t point, const real* x0, const real* x1,
                                 const real* x2, const real* x3, Py_ssize_t pixel,
                                 Py_ssize_t depth) noexcept nogil:
    """Write B^T x B of a 4x4 patch, given by its rows, to the 16 points of v."""
    cdef Py_ssize_t c = 0
    cdef vec a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3
    cdef vec x_0, x_1, x_2, x_3
    while c < depth:
        x_0 = load(x0 + c); x_1 = load(x1 + c); x_2 = load(x2 + c); x_3 = load(x3 + c)
        a0 = x_0 - x_2; b0 = x_1 + x_2; c0 = x_2 - x_1; d0 = x_1 - x_3
        x_0 = load(x0 + pixel + c); x_1 = load(x1 + pixel + c)
        x_2 = load(x2 + pixel + c); x_3 = load(x3 + pixel + c)
        a1 = x_0 - x_2; b1 = x_1 + x_2; c1 = x_2 - x_1; d1 = x_1 - x_3
        x_0 = load(x0 + 2 * pixel + c); x_1 = load(x1 + 2 * pixel + c)
        x_2 = load(x2 + 2 * pixel + c); x_3 = load(x3 + 2 * pixel + c)
        a2 = x_0 - x_2; b2 = x_1 + x_2; c2 = x_2 - x_1; d2 = x_1 - x_3
        x_0 = load(x0 + 3 * pixel + c); x_1 = load(x1 + 3 * pixel + c)
        x_2 = load(x2 + 3 * pixel + c); x_3 = load(x3 + 3 * pixel + c)
        a3 = x_0 - x_2; b3 = x_1 + x_2; c3 = x_2 - x_1; d3 = x_1 - x_3
        store(v + c, a0 - a2); store(v + point + c, a1 + a2)
        store(v + 2 * point + c, a2 - a1); store(v + 3 * point + c, a1 - a3)
        store(v + 4 * point + c, b0 - b2); store(v + 5 * point + c, b1 + b2)
        store(v + 6 * point + c, b2 - b1); store(v + 7 * point + c, b1 - b3)
        store(v + 8 * point + c, c0 - c2); store(v + 9 * point + c, c1 + c2)
        store(v + 10 * point + c, c2 - c1); store(v + 11 * point + c, c1 - c3)
        store(v + 12 * point + c, d0 - d2); store(v + 13 * point + c, d1 + d2)
        store(v + 14 * point + c, d2 - d1); store(v + 15 * point + c, d1 - d3)
        c += LANES


cdef inline void transform_output(real* y, unsigned char* argmax, const real* m, Py_ssize_t point,
                                  const real* bias) noexcept nogil:
    """Write relu, max and argmax of A^T m A + bias for one vector of filters."""
    cdef vec s0, s1, s2, s3, r0, r1, r2, r3, best, place, b = load(bias), zero = splat(0)
    cdef vec m0, m1, m2, m3
    cdef mask won
    m0 = load(m); m1 = load(m + 4 * point); m2 = load(m + 8 * point); m3 = load(m + 12 * point)
    s0 = m0 + m1 + m2; r0 = m1 - m2 - m3
    m += point
    m0 = load(m); m1 = load(m + 4 * point); m2 = load(m + 8 * point); m3 = load(m + 12 * point)
    s1 = m0 + m1 + m2; r1 = m1 - m2 - m3
    m += point
    m0 = load(m); m1 = load(m + 4 * point); m2 = load(m + 8 * point); m3 = load(m + 12 * point)
    s2 = m0 + m1 + m2; r2 = m1 - m2 - m3
    m += point
    m0 = load(m); m1 = load(m + 4 * point); m2 = load(m + 8 * point); m3 = load(m + 12 * point)
    s3 = m0 + m1 + m2; r3 = m1 - m2 - m3

    best = s0 + s1 + s2
    place = zero
    m0 = s1 - s2 - s3
    won = beats(m0, best)
    best = where(won, m0, best)
    place = where(won, splat(1), place)
    m0 = r0 + r1 + r2
    won = beats(m0, best)
    best = where(won, m0, best)
    place = where(won, splat(2), place)
    m0 = r1 - r2 - r3
    won = beats(m0, best)
    best = where(won, m0, best)
    place = where(won, splat(3), place)
    best = best + b
    won = beats(best, zero)
    store(y, where(won, best, zero))
    store_as_bytes(argmax, where(won, place, splat(4)))


cdef void block_task(const Geometry* g, Py_ssize_t chunk, Py_ssize_t task, real* y,
                     unsigned char* argmax, const real* x, const real* u, const real* bias,
                     real* scratch) noexcept nogil:
    cdef Py_ssize_t tiles = g.N * g.P * g.Q, t = task * chunk, t_end = min(t + chunk, tiles)
    cdef Py_ssize_t point_v = ROWS * g.depth, point_m = ROWS * MOST_LANES
    cdef real* zeros = scratch
    cdef real* v = zeros + MOST_LANES
    cdef real* m = v + POINTS * point_v
    cdef real* patch = m + POINTS * point_m
    cdef Py_ssize_t i, e, n, p, q, h, w, panel, first, width, valid, j, r
    cdef Py_ssize_t at[ROWS]
    cdef Py_ssize_t run = 0, row = g.W * g.C
    cdef const real* x_t
    cdef const real* a[ROWS]
    cdef const real* init[ROWS]
    cdef real* c[ROWS]
    cdef real ragged[MOST_LANES]
    cdef unsigned char ragged_bytes[MOST_LANES]
    for i in range(ROWS):
        init[i] = zeros
    memset(zeros, 0, MOST_LANES * sizeof(real))
    while t < t_end:
        for i in range(ROWS):       # a short last group of tiles repeats the last tile
            at[i] = min(t + i, t_end - 1)
            n, p, q = at[i] // (g.P * g.Q), at[i] // g.Q % g.P, at[i] % g.Q
            h, w = 2 * p - g.pad_top, 2 * q - g.pad_left
            x_t = x + ((n * g.H + h) * g.W + w) * g.C
            if g.depth == g.C and h >= 0 and w >= 0 and h + 4 <= g.H and w + 4 <= g.W:
                transform_input(v + i * g.depth, point_v, x_t, x_t + row, x_t + 2 * row,
                                x_t + 3 * row, g.C, g.depth)
            else:
                memset(patch, 0, POINTS * g.depth * sizeof(real))
                for r in range(max(0, -h), min(4, g.H - h)):
                    for j in range(max(0, -w), min(4, g.W - w)):
                        memcpy(patch + (4 * r + j) * g.depth, x_t + r * row + j * g.C,
                               g.C * sizeof(real))
                transform_input(v + i * g.depth, point_v, patch, patch + 4 * g.depth,
                                patch + 8 * g.depth, patch + 12 * g.depth, g.depth, g.depth)
        for panel in range(panels_of(g.K)):
            first = first_vector(g.K, panel) * LANES
            width = first_vector(g.K, panel + 1) * LANES - first
            for e in range(POINTS):
                for i in range(ROWS):
                    a[i] = v + e * point_v + i * g.depth
                    c[i] = m + e * point_m + i * width
                tile(width // LANES, c, init, a, &run, 1,
                     u + POINTS * g.C * first + e * g.C * width, &run, width, 1, g.C)
            for i in range(min(ROWS, t_end - t)):
                j = 0
                while j < width:
                    if first + j + LANES <= g.K:
                        transform_output(y + at[i] * g.K + first + j,
                                         argmax + at[i] * g.K + first + j,
                                         m + i * width + j, point_m, bias + first + j)
                    else:
                        transform_output(ragged, ragged_bytes, m + i * width + j, point_m,
                                         bias + first + j)
                        valid = g.K - first - j
                        memcpy(y + at[i] * g.K + first + j, ragged, valid * sizeof(real))
                        memcpy(argmax + at[i] * g.K + first + j, ragged_bytes, valid)
                    j += LANES
        t += ROWS


cdef inline Py_ssize_t scratch_size(Py_ssize_t depth) noexcept nogil:
    return MOST_LANES + POINTS * ROWS * (depth + MOST_LANES) + POINTS * depth


def workspace_size(Py_ssize_t C, Py_ssize_t K, int threads):
    """Return how many numbers of workspace the block takes."""
    cdef Py_ssize_t lanes = vectors_of(K) * LANES
    return POINTS * C * lanes + lanes + threads * scratch_size(vectors_of(C) * LANES)


cpdef conv_block(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, b, real[::1] workspace,
    Py_ssize_t pad_top, Py_ssize_t pad_left, int threads, bint packed=False,
):
    """Write y and argmax (N, P, Q, K) for x (N, H, W, C) and w (3, 3, C, K).

    packed: workspace holds what an earlier call with these weights left there.
    """
    cdef Geometry g = Geometry(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2], w.shape[3],
        pad_top, pad_left, vectors_of(x.shape[3]) * LANES)
    cdef Py_ssize_t lanes = vectors_of(g.K) * LANES, task, tiles = g.N * g.P * g.Q
    cdef Py_ssize_t groups = (tiles + ROWS - 1) // ROWS
    # Few tiles are shared out evenly; no result depends on it.
    cdef Py_ssize_t chunk = min(<Py_ssize_t> CHUNK, (groups + threads - 1) // threads * ROWS)
    cdef real* u = &workspace[0]
    cdef real* bias = u + POINTS * g.C * lanes
    cdef real* scratch = bias + lanes
    cdef const real[::1] b_view
    if not packed:
        memset(bias, 0, lanes * sizeof(real))
        if b is not None:
            b_view = b
            memcpy(bias, &b_view[0], g.K * sizeof(real))
        for task in prange(
            g.C * panels_of(g.K), nogil=True, num_threads=threads, schedule="static"
        ):
            transform_weights(&g, task, u, &w[0, 0, 0, 0])
    for task in prange((tiles + chunk - 1) // chunk, nogil=True, num_threads=threads,
                       schedule="dynamic"):
        block_task(&g, chunk, task, &y[0, 0, 0, 0], &argmax[0, 0, 0, 0], &x[0, 0, 0, 0], u, bias,
                   scratch + threadid() * scratch_size(g.depth))


def bound(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, b, real[::1] workspace,
    Py_ssize_t pad_top, Py_ssize_t pad_left, int threads,
):
    """Return a function of nothing that is this call of conv_block on packed weights."""
    return lambda: conv_block(y, argmax, x, w, b, workspace, pad_top, pad_left, threads, True)

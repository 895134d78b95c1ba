"""Convolution 3x3 of one channel + bias + activation + max-pool 2x2: grey images begin so.

N batch; H W input height and width; P Q height and width of the pooled output; K filters.

Nine numbers an output are too few for the register tile, which would spend its time on
addresses. Here the nine weights of a vector of filters stay in registers while the pool windows
go by: the four outputs of a window are computed and pooled without being stored.
"""

from cython.parallel cimport prange

from fastcnn._kernels._finish cimport Finish, activate, finishing
from fastcnn._kernels._four cimport ENDS, ends_of_four, larger_end, largest_of_four
from fastcnn._kernels._types cimport LANES, load, real, store, store_as_bytes, vec

cdef enum:
    AT_ONCE = 8                 # windows of a row whose activation is one call
    SERIAL_BELOW = 300000       # flop: waking a second thread costs more than it saves


cdef inline void window(
    real* y, unsigned char* argmax, real* ends, const real* x0, const real* x1, const real* x2,
    const real* x3, vec b, vec w0, vec w1, vec w2, vec w3, vec w4, vec w5, vec w6, vec w7, vec w8,
) noexcept nogil:
    """Write relu, max and argmax of one vector of filters; x0 to x3 are the window's input rows.

    With another activation, write what it is to be applied to: to `ends`, which else is NULL.
    """
    cdef vec z0 = b, z1 = b, z2 = b, z3 = b, place
    z0 = z0 + x0[0] * w0; z1 = z1 + x0[1] * w0; z2 = z2 + x1[0] * w0; z3 = z3 + x1[1] * w0
    z0 = z0 + x0[1] * w1; z1 = z1 + x0[2] * w1; z2 = z2 + x1[1] * w1; z3 = z3 + x1[2] * w1
    z0 = z0 + x0[2] * w2; z1 = z1 + x0[3] * w2; z2 = z2 + x1[2] * w2; z3 = z3 + x1[3] * w2
    z0 = z0 + x1[0] * w3; z1 = z1 + x1[1] * w3; z2 = z2 + x2[0] * w3; z3 = z3 + x2[1] * w3
    z0 = z0 + x1[1] * w4; z1 = z1 + x1[2] * w4; z2 = z2 + x2[1] * w4; z3 = z3 + x2[2] * w4
    z0 = z0 + x1[2] * w5; z1 = z1 + x1[3] * w5; z2 = z2 + x2[2] * w5; z3 = z3 + x2[3] * w5
    z0 = z0 + x2[0] * w6; z1 = z1 + x2[1] * w6; z2 = z2 + x3[0] * w6; z3 = z3 + x3[1] * w6
    z0 = z0 + x2[1] * w7; z1 = z1 + x2[2] * w7; z2 = z2 + x3[1] * w7; z3 = z3 + x3[2] * w7
    z0 = z0 + x2[2] * w8; z1 = z1 + x2[3] * w8; z2 = z2 + x3[2] * w8; z3 = z3 + x3[3] * w8
    if ends is not NULL:
        ends_of_four(ends, z0, z1, z2, z3)
    else:
        store(y, largest_of_four(z0, z1, z2, z3, &place))
        store_as_bytes(argmax, place)


cdef void windows(
    real* y, unsigned char* argmax, const real* x, const real* w, const real* b,
    const Finish* end, Py_ssize_t Q, Py_ssize_t K, Py_ssize_t row, Py_ssize_t step,
) noexcept nogil:
    """Do a row of windows for one vector of filters; windows are `step` inputs apart."""
    cdef vec bias = load(b), w0 = load(w), w1 = load(w + K), w2 = load(w + 2 * K)
    cdef vec w3 = load(w + 3 * K), w4 = load(w + 4 * K), w5 = load(w + 5 * K)
    cdef vec w6 = load(w + 6 * K), w7 = load(w + 7 * K), w8 = load(w + 8 * K)
    cdef Py_ssize_t q, i
    cdef real room[AT_ONCE * ENDS]
    cdef real* ends = NULL
    for q in range(Q):
        if end.loop is not NULL:
            ends = room + q % AT_ONCE * ENDS
        window(y + q * K, argmax + q * K, ends, x, x + row, x + 2 * row, x + 3 * row, bias,
               w0, w1, w2, w3, w4, w5, w6, w7, w8)
        x += step
        if ends is not NULL and (q % AT_ONCE == AT_ONCE - 1 or q == Q - 1):
            activate(end, room, (q % AT_ONCE + 1) * ENDS)
            for i in range(q % AT_ONCE + 1):
                store(y + (q - q % AT_ONCE + i) * K, larger_end(room + i * ENDS))


cpdef conv_block(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, const real[::1] b, Py_ssize_t stride_h, Py_ssize_t stride_w,
    int threads, activation=None,
):
    """Write y and argmax (N, P, Q, K), K whole vectors, for x (N, H, W, 1) and w (3, 3, 1, K).

    The strides are those of the pool. An activation that is given takes the place of ReLU; then
    argmax is left as it is.
    """
    cdef Py_ssize_t P = y.shape[1], Q = y.shape[2], K = y.shape[3], W = x.shape[2], i, k, n, p
    cdef Finish end = finishing(activation)
    if 72.0 * y.shape[0] * P * Q * K < SERIAL_BELOW:
        threads = 1
    for i in prange(y.shape[0] * P, nogil=True, num_threads=threads, schedule="static"):
        n, p = i // P, i % P
        for k in range(K // LANES):
            windows(
                &y[n, p, 0, k * LANES], &argmax[n, p, 0, k * LANES],
                &x[n, p * stride_h, 0, 0], &w[0, 0, 0, k * LANES], &b[k * LANES],
                &end, Q, K, W, stride_w,
            )


def bound_conv_block(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, const real[::1] b, Py_ssize_t stride_h, Py_ssize_t stride_w,
    int threads, activation=None,
):
    """Return a function of nothing that is this call of conv_block, its arrays looked at once."""
    return lambda: conv_block(y, argmax, x, w, b, stride_h, stride_w, threads, activation)

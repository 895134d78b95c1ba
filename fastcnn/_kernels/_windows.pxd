# Where the windows of a pooling lie.
#
# N batch; H W input height and width; C channels; P Q output height and width; R S window height
# and width. A window is cut to the pixels inside the image.
#
# Rows of outputs, and in backward rows of dx, are independent of each other: they go to the
# threads. Along a row the work is done in blocks of some columns by C channels, or of some
# channels of one column: long enough to fill vectors when there are few channels, short enough
# that running results stay on the stack, in the L1 cache.
from fastcnn._kernels._types cimport real

cdef enum:
    BLOCK = 1024                # numbers in a block, at most
    FEW_CHANNELS = 32           # fewer fill no vectors: columns are gathered


cdef struct Pool:
    Py_ssize_t N, H, W, C, P, Q, R, S
    Py_ssize_t stride_h, stride_w, top, left    # top, left: padding
    Py_ssize_t dilation_h, dilation_w           # of max pooling, else 1


cdef inline Py_ssize_t columns_from(Pool* g, Py_ssize_t q) noexcept nogil:
    """Return how many columns of output, from q on, make a block of forward."""
    cdef Py_ssize_t span = (g.S - 1) * g.dilation_w + 1
    cdef Py_ssize_t inside = (g.W + g.left - span) // g.stride_w + 1 - q
    if q * g.stride_w < g.left or (g.stride_w > 1 and g.C >= FEW_CHANNELS):
        return 1                # a window cut by the edge has a block of its own
    return max(1, min(inside, BLOCK // g.C))


cdef inline const real* tap(
    real* gathered, const real* x, Py_ssize_t columns, Py_ssize_t channels, Pool* g
) noexcept nogil:
    """Return what a block's outputs see through one place of their windows, as one run.

    x is what the first of them sees.
    """
    cdef Py_ssize_t i, c, step = g.stride_w * g.C
    if columns == 1 or g.stride_w == 1:
        return x
    if channels == 1:
        for i in range(columns):
            gathered[i] = x[i * step]
    else:
        for i in range(columns):
            for c in range(channels):
                gathered[i * channels + c] = x[i * step + c]
    return gathered


cdef inline Py_ssize_t first_window(
    Py_ssize_t i, Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t kernel
) noexcept nogil:
    """Return the first output whose window holds pixel i, along one axis."""
    return 0 if i + pad < kernel else (i + pad - kernel) // stride + 1


cdef inline Py_ssize_t end_window(
    Py_ssize_t i, Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t count
) noexcept nogil:
    """Return one past the last output whose window holds pixel i, along one axis."""
    return min((i + pad) // stride + 1, count)


cdef inline bint undilated(const Pool* g) noexcept nogil:
    return g.dilation_h == 1 and g.dilation_w == 1


cdef inline bint apart(Pool* g) noexcept nogil:
    """Return whether no two windows overlap: then a pixel's gradient is one number, not a sum."""
    return g.stride_h >= g.R and g.stride_w >= g.S and undilated(g)


cdef inline Py_ssize_t only_window(
    Py_ssize_t i, Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t kernel, Py_ssize_t count
) noexcept nogil:
    """Return the output whose window holds pixel i where windows are apart, or -1: none does."""
    cdef Py_ssize_t window = (i + pad) // stride
    return window if window < count and i + pad - window * stride < kernel else -1

# What follows a convolution before its outputs are left: a residual that is added, then ReLU.
#
# A tile's sums are still in the first cache when this passes over them, so it costs next to
# nothing, where a pass of its own would read and write the whole output again.
from fastcnn._kernels._types cimport LANES, beats, load, real, splat, store, vec, where


cdef struct Finish:
    bint any                    # whether there is anything to do
    bint relu
    const real* residual        # laid out as the output; or NULL


cdef inline Finish nothing() noexcept nogil:
    return Finish(False, False, NULL)


cdef inline Finish finishing(const real* residual, bint relu) noexcept nogil:
    return Finish(relu or residual is not NULL, relu, residual)


cdef inline vec finished(const Finish* f, vec v, Py_ssize_t at) noexcept nogil:
    """Return a vector of sums as it is left, whose place in the output is `at`."""
    cdef vec zero
    if f.residual is not NULL:
        v = v + load(f.residual + at)
    if f.relu:
        zero = splat(0)
        v = where(beats(v, zero), v, zero)
    return v


cdef inline void finish(const Finish* f, real* y, Py_ssize_t at, Py_ssize_t count) noexcept nogil:
    """Finish `count` numbers at y, whose place in the output is `at`."""
    cdef Py_ssize_t i = 0
    cdef real last
    while i + LANES <= count:
        store(y + i, finished(f, load(y + i), at + i))
        i += LANES
    while i < count:
        last = y[i]
        if f.residual is not NULL:
            last += f.residual[at + i]
        y[i] = 0 if f.relu and last <= 0 else last
        i += 1

# What follows a convolution before its outputs are left: a residual that is added, then an
# activation.
#
# A tile's sums are still in the first cache when this passes over them, so it costs next to
# nothing, where a pass of its own would read and write the whole output again. ReLU is an
# instruction and stands here; any other activation is a call of its op's own loop, which
# activations.pyx hands out: so it has the same bits here and there.
from cpython.pycapsule cimport PyCapsule_GetPointer

from fastcnn._kernels._types cimport LANES, beats, load, real, splat, store, vec, where

cdef struct Parameters:         # of an activation: as many as it has, the rest are 0
    double first
    double second


# Writes `count` numbers to out; `out` may be a. An op of one input gets it twice.
ctypedef void (*Loop)(
    real* out, const real* a, const real* b, Parameters parameters, Py_ssize_t count
) noexcept nogil


cdef struct Finish:
    bint any                    # whether there is anything to do
    bint relu
    Loop loop                   # of another activation; or NULL
    Parameters parameters       # of that activation
    const real* residual        # laid out as the output; or NULL


cdef inline Finish nothing() noexcept nogil:
    return Finish(False, False, NULL, Parameters(0, 0), NULL)


cdef inline Finish finishing(activation):
    """Return what to do; activation is None, or what `last_write` of activations.pyx returned.

    A residual is set behind it, by `add_residual`.
    """
    if activation is None:
        return nothing()
    return (<const Finish*> PyCapsule_GetPointer(activation, "finish"))[0]


cdef inline void add_residual(Finish* f, const real* residual) noexcept nogil:
    f.any, f.residual = True, residual


cdef inline void activate(const Finish* f, real* y, Py_ssize_t count) noexcept nogil:
    """Apply an activation that is not ReLU, if there is one, to `count` numbers at y."""
    if f.loop is not NULL:
        f.loop(y, y, y, f.parameters, count)


cdef inline vec finished(const Finish* f, vec v, Py_ssize_t at) noexcept nogil:
    """Return a vector of sums with the residual and ReLU; its place in the output is `at`.

    Any other activation is to be applied to what was left, by `activate`.
    """
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
    if f.relu or f.residual is not NULL:
        while i + LANES <= count:
            store(y + i, finished(f, load(y + i), at + i))
            i += LANES
        while i < count:
            last = y[i]
            if f.residual is not NULL:
                last += f.residual[at + i]
            y[i] = 0 if f.relu and last <= 0 else last
            i += 1
    activate(f, y, count)

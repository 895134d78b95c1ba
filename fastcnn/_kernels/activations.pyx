"""Activations: elementwise, each backward directly below its forward.

`loops_of` is their table; the loops are in _pieces.pxd and _curves.pxd. y output, x input, dy
upstream gradient; arrays are flat. Every op is a loop over a range of them that the compiler
vectorises; `over_ranges` gives every thread its range.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cython.parallel cimport prange
from libc.math cimport fabs
from libc.stdlib cimport free, malloc

from fastcnn._kernels._curves cimport (
    celu_backward_loop, celu_backward_wide_loop, celu_loop, celu_wide_loop, elu_backward_loop,
    elu_backward_wide_loop, elu_loop, elu_wide_loop, gelu_backward_loop, gelu_loop,
    gelu_tanh_backward_loop, gelu_tanh_loop, mish_backward_loop, mish_loop, selu_backward_loop,
    selu_loop, sigmoid_backward_loop, sigmoid_loop, silu_backward_loop, silu_loop,
    softplus_backward_loop, softplus_loop, tanh_backward_loop, tanh_loop,
)
from fastcnn._kernels._finish cimport Finish, Loop, Parameters
from fastcnn._kernels._pieces cimport (
    clip_backward_loop, clip_loop, hard_sigmoid_backward_loop, hard_sigmoid_loop,
    hard_swish_backward_loop, hard_swish_loop, leaky_relu_backward_loop,
    leaky_relu_backward_wide_loop, leaky_relu_loop, leaky_relu_wide_loop, relu_backward_loop,
    relu_loop,
)
from fastcnn._kernels._stream cimport past_caches
from fastcnn._kernels._types cimport LANES, drain, load, real, stream

cdef enum:
    PAGE = 1024                 # numbers; a thread takes whole ones, the same in every such op
    PIECE = 64                  # numbers that are computed and then written past the caches


cdef void over_ranges(
    Loop loop, real[::1] out, const real[::1] a, const real[::1] b, Parameters p, int threads
) noexcept:
    """Run `loop` over the arrays, each thread a range; an op of one input gets it twice."""
    cdef Py_ssize_t count = out.shape[0], size = (count // threads // PAGE + 1) * PAGE, i
    cdef bint streaming = past_caches(&out[0], (2 if &a[0] == &b[0] else 3) * count, LANES)
    cdef real* out_0 = &out[0]
    cdef const real* a_0 = &a[0]
    cdef const real* b_0 = &b[0]
    for i in prange(0, count, size, nogil=True, num_threads=threads, schedule="static"):
        if streaming:
            stream_range(
                loop, out_0 + i, a_0 + i, b_0 + i, p, min(size, count - i)
            )
        else:
            loop(out_0 + i, a_0 + i, b_0 + i, p, min(size, count - i))


cdef void stream_range(
    Loop loop, real* out, const real* a, const real* b, Parameters p, Py_ssize_t count
) noexcept nogil:
    """Run `loop` on pieces, and write each past the caches.

    Pieces are short: what is read and what is written should be under way at the same time.
    """
    cdef real[PIECE] piece
    cdef Py_ssize_t i = 0, at
    while i + PIECE <= count:
        loop(piece, a + i, b + i, p, PIECE)
        for at in range(PIECE // LANES):
            stream(out + i + at * LANES, load(piece + at * LANES))
        i += PIECE
    drain()
    loop(out + i, a + i, b + i, p, count - i)


cdef inline bint fits(double parameter) noexcept nogil:
    """Return whether a number is one of `real` too; else products are made in double."""
    return sizeof(real) == 8 or parameter == 0 or 1e-37 < fabs(parameter) < 1e38


cdef inline bint is_moderate(double parameter) noexcept nogil:
    """Return whether what is lost of a number next to nothing stays so, times this one."""
    return fits(parameter) and (sizeof(real) == 8 or fabs(parameter) < 1e4)


# ---------------------------------------------------------------- the ops
cdef struct Loops:
    Loop forward
    Loop backward


cdef Parameters as_pair(parameters) except *:
    """Return what the loops of an activation take, of a pair of numbers."""
    first, second = parameters
    return Parameters(first, second)


cdef Loops loops_of(op, Parameters p) except *:
    """Return the loops of an activation; p is 0 where it has no parameters."""
    if op == "relu":
        return Loops(relu_loop, relu_backward_loop)
    if op == "leaky_relu" and fits(p.first):
        return Loops(leaky_relu_loop, leaky_relu_backward_loop)
    if op == "leaky_relu":
        return Loops(leaky_relu_wide_loop, leaky_relu_backward_wide_loop)
    if op == "clip":
        return Loops(clip_loop, clip_backward_loop)
    if op == "hard_sigmoid":
        return Loops(hard_sigmoid_loop, hard_sigmoid_backward_loop)
    if op == "hard_swish":
        return Loops(hard_swish_loop, hard_swish_backward_loop)
    # dy * exp(x) may be next to nothing, and so may x / alpha.
    if op == "elu" and is_moderate(p.first):
        return Loops(elu_loop, elu_backward_loop)
    if op == "elu":
        return Loops(elu_wide_loop, elu_backward_wide_loop)
    if op == "selu":
        return Loops(selu_loop, selu_backward_loop)
    if op == "celu" and is_moderate(p.first):
        return Loops(celu_loop, celu_backward_loop)
    if op == "celu":
        return Loops(celu_wide_loop, celu_backward_wide_loop)
    if op == "tanh":
        return Loops(tanh_loop, tanh_backward_loop)
    if op == "sigmoid":
        return Loops(sigmoid_loop, sigmoid_backward_loop)
    if op == "silu":
        return Loops(silu_loop, silu_backward_loop)
    if op == "softplus":
        return Loops(softplus_loop, softplus_backward_loop)
    if op == "mish":
        return Loops(mish_loop, mish_backward_loop)
    if op == "gelu" and p.first != 0:
        return Loops(gelu_tanh_loop, gelu_tanh_backward_loop)
    if op == "gelu":
        return Loops(gelu_loop, gelu_backward_loop)
    raise ValueError(f"activations: expected the name of one, got {op!r}")


def forward(op, real[::1] y, const real[::1] x, parameters, int threads):
    """Write an activation; `parameters` is a pair of numbers."""
    cdef Parameters p = as_pair(parameters)
    over_ranges(loops_of(op, p).forward, y, x, x, p, threads)


def backward(
    op, real[::1] dx, const real[::1] dy, const real[::1] saved, parameters, int threads
):
    """Write the gradient; `saved` is x or y, as the loop's arguments say."""
    cdef Parameters p = as_pair(parameters)
    over_ranges(loops_of(op, p).backward, dx, dy, saved, p, threads)


# ---------------------------------------------------------------- behind another kernel
cdef void let_go(object capsule) noexcept:
    free(PyCapsule_GetPointer(capsule, "finish"))


def last_write(op, parameters):
    """Return an activation as other kernels take it, to apply it in their last write: _finish.pxd.

    ReLU they have in line.
    """
    cdef Parameters p = as_pair(parameters)
    cdef bint relu = op == "relu"
    cdef Loop loop = NULL if relu else loops_of(op, p).forward
    cdef Finish* finish = <Finish*> malloc(sizeof(Finish))
    if finish is NULL:
        raise MemoryError("no room for an activation")
    finish[0] = Finish(True, relu, loop, p, NULL)
    return PyCapsule_New(finish, "finish", let_go)

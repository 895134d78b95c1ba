"""Optimizer steps: each reads and writes every array once, but for a look at the gradients.

Most parameters are small: a parallel region for each takes longer than its step, and checks in
Python longer still. So the steps of all parameters are one region, and their arrays, of any rank,
are looked at here: a step returns False, with nothing changed, unless every argument is as it
should be, and the caller finds out what is wrong. Where no gradient may reach a limit, all are read
before anything is written.

Longer than most: how arrays are looked at, cut up and read is the same for the steps of all
optimizers.
"""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cython.parallel cimport prange
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport uintptr_t
from libc.string cimport memcmp

from sys import byteorder

from fastcnn._kernels._cpu cimport l3_bytes
from fastcnn._kernels._descent cimport (
    Adam, Descent, adam_in_double, descend_in_double, usual_adam, usual_descent
)
from fastcnn._kernels._types cimport (
    LANES, any_nonzero, load, prefetch, prefetch_to_write, real, splat, vec,
)

cdef enum:
    BLOCK = 4096                # elements
    AHEAD = 512                 # elements fetched while as many are computed
    WORTH_A_TEAM = 100000       # elements: to wake a sleeping team takes as long as their step

cdef char ORDER = b"<" if byteorder == "little" else b">"


cdef bint is_plain(object value) noexcept:
    """Return whether `value` is a finite float of at least 0."""
    return type(value) is float and 0 <= <double> value < INFINITY


cdef bint is_below_one(object value) noexcept:
    return is_plain(value) and <double> value < 1


# ---------------------------------------------------------------- the arrays
cdef struct Parameter:
    real* arrays[4]             # dw, w and what the step keeps
    Py_ssize_t count
    Py_ssize_t first            # of its blocks, among those of all parameters


cdef inline bint overlap(const real* a, const real* b, Py_ssize_t count) noexcept nogil:
    """Return whether two arrays of `count` numbers share any."""
    return a < b + count and b < a + count


cdef bint look(object arrays, Parameter* parameter) except -1:
    """Fill in a parameter's arrays and return whether they are a match.

    They match if they hold anything, are C-contiguous, aligned, of this kernel's dtype and of one
    shape, apart in memory, and all but the first, the gradient, writable.
    """
    cdef Py_buffer view
    cdef Py_ssize_t[64] shape
    cdef Py_ssize_t i, j, rank = 0
    cdef char code = b"f" if sizeof(real) == 4 else b"d"
    cdef const char* format
    cdef bint fits
    for i in range(len(arrays)):
        try:
            PyObject_GetBuffer(arrays[i], &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS
                               | (PyBUF_WRITABLE if i > 0 else 0))
        except (BufferError, ValueError):
            return False
        if i == 0:
            rank, parameter.count = view.ndim, view.len // <Py_ssize_t> sizeof(real)
            for axis in range(rank):
                shape[axis] = view.shape[axis]
        format = view.format + (view.format[0] == ORDER)
        fits = (format[0] == code and format[1] == 0 and view.ndim == rank and view.len > 0
                and (rank == 0 or memcmp(view.shape, shape, rank * sizeof(Py_ssize_t)) == 0)
                and <uintptr_t> view.buf % sizeof(real) == 0)
        parameter.arrays[i] = <real*> view.buf
        for j in range(i):
            fits = fits and not overlap(parameter.arrays[i], parameter.arrays[j], parameter.count)
        PyBuffer_Release(&view)     # the caller holds the array
        if not fits:
            return False
    for i in range(len(arrays), 4):
        parameter.arrays[i] = NULL
    return True


cdef bint look_at_all(object parameters, Py_ssize_t arrays, Parameter* found) except -1:
    """Fill in all parameters, and behind them their sum; return whether each is a match."""
    cdef Py_ssize_t i, count = len(parameters)
    found[count].first = found[count].count = 0
    for i in range(count):
        if len(parameters[i]) != arrays or not look(parameters[i], &found[i]):
            return False
        found[i].first = found[count].first
        found[count].first += (found[i].count + BLOCK - 1) // BLOCK
        found[count].count += found[i].count
    return True


cdef class Bound:
    """Parameters that were looked at: their arrays stay what and where they are."""

    cdef object arrays          # keeps them
    cdef Parameter* found
    cdef Py_ssize_t count, width    # parameters, and arrays of each
    cdef bint alone             # one thread takes their steps

    def __dealloc__(self):
        PyMem_Free(self.found)


cdef bint share_weights(Bound bound) noexcept:
    """Return whether parameters share weights: then their steps come in turn, as they are given."""
    cdef Py_ssize_t i, j
    cdef const Parameter* p
    cdef const Parameter* q
    if bound.width == 1:
        return False
    for i in range(bound.count):
        p = &bound.found[i]
        for j in range(i):
            q = &bound.found[j]
            if p.arrays[1] < q.arrays[1] + q.count and q.arrays[1] < p.arrays[1] + p.count:
                return True
    return False


def bound(parameters):
    """Return (dw, w, what the step keeps...) each, looked at once for steps of all; or None."""
    cdef Bound made = Bound()
    made.count = len(parameters)
    made.width = len(parameters[0]) if made.count else 0
    if not 0 < made.width <= 4:
        return None
    made.found = <Parameter*> PyMem_Malloc((made.count + 1) * sizeof(Parameter))
    if made.found is NULL:
        raise MemoryError
    if not look_at_all(parameters, made.width, made.found):
        return None
    made.alone = made.found[made.count].count < WORTH_A_TEAM or share_weights(made)
    made.arrays = parameters
    return made


cdef Bound looked_at(parameters):
    return parameters if type(parameters) is Bound else bound(parameters)


cdef inline Parameter block_of(const Parameter* parameters, Py_ssize_t block) noexcept nogil:
    """Return a block as if it were a parameter; the blocks of all parameters are counted."""
    cdef Parameter p
    cdef Py_ssize_t start, i
    while parameters[1].first <= block:
        parameters += 1
    p = parameters[0]
    start = (block - p.first) * BLOCK
    for i in range(4):
        if p.arrays[i] is not NULL:
            p.arrays[i] += start
    p.count = min(<Py_ssize_t> BLOCK, p.count - start)
    return p


cdef inline Py_ssize_t first_of(Py_ssize_t blocks, int part, int parts) noexcept nogil:
    """Return the first block of a part, one of as many as there are threads."""
    return blocks * part // parts


# ---------------------------------------------------------------- gradients
cdef bint all_within(const real* dw, real scale, Py_ssize_t count) noexcept nogil:
    """Return whether dw * scale is finite, all of it: what is not times zero is NaN."""
    cdef vec zero = splat(0), sum0 = zero, sum1 = zero, sum2 = zero, sum3 = zero, by = splat(scale)
    cdef real rest = 0
    cdef Py_ssize_t i = 0
    while i + 4 * LANES <= count:
        sum0 = sum0 + load(dw + i) * by * zero
        sum1 = sum1 + load(dw + i + LANES) * by * zero
        sum2 = sum2 + load(dw + i + 2 * LANES) * by * zero
        sum3 = sum3 + load(dw + i + 3 * LANES) * by * zero
        i += 4 * LANES
    while i < count:
        rest = rest + dw[i] * scale * 0
        i += 1
    return rest == 0 and not any_nonzero((sum0 + sum1) + (sum2 + sum3))


cdef bint part_within(
    const Parameter* found, Py_ssize_t first, Py_ssize_t last, real scale
) noexcept nogil:
    """Look at the gradients of some blocks, the last one first.

    The caches hold the end of what the backward pass wrote, and then the beginning of what the step
    reads.
    """
    cdef Parameter p
    cdef bint fits = True
    while last > first:
        last -= 1
        p = block_of(found, last)
        fits = all_within(p.arrays[0], scale, p.count) and fits
    return fits


cdef bint gradients_within(Bound bound, double limit, int threads) noexcept:
    cdef const Parameter* found = bound.found
    cdef Py_ssize_t blocks = found[bound.count].first
    cdef double largest = 3.4028234663852886e38 if sizeof(real) == 4 else 1.7976931348623157e308
    cdef real scale = <real> (largest / limit)
    cdef int strays = 0, part
    cdef int* seen = &strays    # written by any thread, and never back
    threads = 1 if bound.alone else threads
    for part in prange(threads, nogil=True, schedule="static", num_threads=threads):
        if not part_within(
            found, first_of(blocks, part, threads), first_of(blocks, part + 1, threads), scale
        ):
            seen[0] = 1
    return strays == 0


def within(gradients, double limit, int threads):
    """Return whether the arrays hold numbers between -limit and limit alone, but for rounding.

    gradients: (dw,) each; limit: at most the largest number. False, too, for arrays that are not
    as a step takes them.
    """
    cdef Bound bound = looked_at(gradients)
    return bound is not None and gradients_within(bound, limit, threads)


# ---------------------------------------------------------------- gradient descent
cdef struct Rates:
    real rate, momentum, weight_decay
    bint nesterov
    bint fetching


cdef void descend(real* w, const real* dw, const Rates* step, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    cdef real rate = step.rate, weight_decay = step.weight_decay
    for i in range(count):
        w[i] = w[i] - rate * (dw[i] + weight_decay * w[i])


cdef void descend_piece(
    real* w, real* velocity, const real* dw, const Rates* step, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real g, v, rate = step.rate, momentum = step.momentum, weight_decay = step.weight_decay
    cdef bint nesterov = step.nesterov
    for i in range(count):
        g = dw[i] + weight_decay * w[i]
        v = momentum * velocity[i] + g
        velocity[i] = v
        w[i] = w[i] - rate * (g + momentum * v if nesterov else v)


cdef void descend_with_momentum(
    real* w, real* velocity, const real* dw, const Rates* step, Py_ssize_t count
) noexcept nogil:
    """Take the step of a block.

    Other cores have just read the weights: to get a line of them back for writing takes longer
    than the arithmetic, so it is asked for early. What lies in memory alone comes no sooner for it.
    """
    cdef Py_ssize_t i = 0, ahead
    while i < count:
        ahead = i + AHEAD
        while step.fetching and ahead < i + 2 * AHEAD:
            prefetch_to_write(w + ahead)
            prefetch_to_write(velocity + ahead)
            prefetch(dw + ahead)
            ahead += LANES
        descend_piece(w + i, velocity + i, dw + i, step, min(<Py_ssize_t> AHEAD, count - i))
        i += AHEAD


cdef void descend_part(
    const Parameter* found, Py_ssize_t block, Py_ssize_t last, const Rates* step,
    const Descent* wide,
) noexcept nogil:
    """Take the steps of some blocks: in double, if `wide` is not NULL."""
    cdef Parameter p
    while block < last:
        p = block_of(found, block)
        if wide:
            descend_in_double(p.arrays[1], p.arrays[2], p.arrays[0], wide, p.count)
        elif p.arrays[2] is NULL:
            descend(p.arrays[1], p.arrays[0], step, p.count)
        else:
            descend_with_momentum(p.arrays[1], p.arrays[2], p.arrays[0], step, p.count)
        block += 1


def sgd_step(
    parameters, learning_rate, momentum, nesterov, weight_decay, limit, int threads,
):
    """Take the steps of (dw, w, velocity), or (dw, w), each, and return True; or return False.

    parameters: what `bound` made of them, too. limit: None, or False where a gradient is larger or
    NaN; above 0.
    """
    cdef Bound bound
    cdef const Parameter* found
    cdef Py_ssize_t blocks
    cdef int part
    cdef Rates step
    cdef Descent options
    cdef const Descent* wide
    if not (is_plain(learning_rate) and is_plain(momentum) and is_plain(weight_decay)
            and type(nesterov) is bool):
        return False
    options = Descent(learning_rate, momentum, weight_decay, nesterov)
    wide = NULL if usual_descent(&options) else &options
    step.rate, step.momentum = <real> options.rate, <real> options.momentum
    step.weight_decay, step.nesterov = <real> options.weight_decay, options.nesterov
    bound = looked_at(parameters)
    if bound is None or not (bound.width == 3 or bound.width == 2 and momentum == 0):
        return False
    threads = 1 if bound.alone else threads
    if limit is not None and not gradients_within(bound, limit, threads):
        return False
    found = bound.found
    blocks = found[bound.count].first
    step.fetching = 3 * found[bound.count].count * <Py_ssize_t> sizeof(real) < l3_bytes
    for part in prange(threads, nogil=True, schedule="static", num_threads=threads):
        descend_part(
            found, first_of(blocks, part, threads), first_of(blocks, part + 1, threads), &step,
            wide,
        )
    return True


# ---------------------------------------------------------------- Adam
cdef struct Factors:
    real beta1, beta2, rest1, rest2     # rest: 1 - beta
    bint decoupled
    real keep, weight_decay             # of w: decoupled or in the gradient
    real rate, root, epsilon            # m * (rate / (root * sqrt(v) + epsilon))


cdef Factors factors(const Adam* a) noexcept nogil:
    return Factors(
        <real> a.beta1, <real> a.beta2, <real> (1 - a.beta1), <real> (1 - a.beta2), a.decoupled,
        <real> (1 - a.rate * a.weight_decay) if a.decoupled else 1, <real> a.weight_decay,
        <real> (a.rate / a.left1), <real> (1 / sqrt(a.left2)), <real> a.epsilon,
    )


cdef void adam_block(Parameter p, const Factors* adam) noexcept nogil:
    cdef Py_ssize_t i
    cdef Factors a = adam[0]
    cdef real* w = p.arrays[1]
    cdef real* m = p.arrays[2]
    cdef real* v = p.arrays[3]
    cdef const real* dw = p.arrays[0]
    cdef real g, m_i, v_i
    for i in range(p.count):
        g = dw[i] if a.decoupled else dw[i] + a.weight_decay * w[i]     # 0 * w may be NaN
        m_i = a.beta1 * m[i] + a.rest1 * g
        v_i = a.beta2 * v[i] + a.rest2 * g * g
        m[i] = m_i
        v[i] = v_i
        # Divided first: rate * m may be no number of float32's, or next to none.
        w[i] = a.keep * w[i] - m_i * (a.rate / (a.root * <real> sqrt(v_i) + a.epsilon))


cdef void adam_part(
    const Parameter* found, Py_ssize_t block, Py_ssize_t last, const Factors* usual,
    const Adam* wide,
) noexcept nogil:
    """Take the steps of some blocks: in double, if `wide` is not NULL."""
    cdef Parameter p
    while block < last:
        p = block_of(found, block)
        if wide:
            adam_in_double(p.arrays[1], p.arrays[2], p.arrays[3], p.arrays[0], wide, p.count)
        else:
            adam_block(p, usual)
        block += 1


def adam_step(
    parameters, step, learning_rate, beta1, beta2, epsilon, weight_decay, decoupled, limit,
    int threads,
):
    """Take the steps of (dw, w, m, v) each and return True; or return False; see sgd_step."""
    cdef Bound bound
    cdef const Parameter* found
    cdef Py_ssize_t blocks
    cdef int part
    cdef Adam options
    cdef Factors usual
    cdef const Adam* wide
    if not (is_plain(learning_rate) and is_below_one(beta1) and is_below_one(beta2)
            and is_plain(epsilon) and epsilon > 0 and is_plain(weight_decay)
            and type(decoupled) is bool and type(step) is int and 0 < step <= 2 ** 62):
        return False
    options = Adam(learning_rate, beta1, beta2, weight_decay, epsilon,
                   1 - beta1 ** step, 1 - beta2 ** step, decoupled)
    wide = NULL if usual_adam(&options) else &options
    usual = factors(&options)
    bound = looked_at(parameters)
    if bound is None or bound.width != 4:
        return False
    threads = 1 if bound.alone else threads
    if limit is not None and not gradients_within(bound, limit, threads):
        return False
    found = bound.found
    blocks = found[bound.count].first
    for part in prange(threads, nogil=True, schedule="static", num_threads=threads):
        adam_part(
            found, first_of(blocks, part, threads), first_of(blocks, part + 1, threads), &usual,
            wide,
        )
    return True

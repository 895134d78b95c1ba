"""Losses that are a mean of what each number costs: of labels by logits, and of distances.

x a logit or a prediction and t its target, flat, M of them a sample. Each loss is a loop that
writes what numbers cost, and below it one that writes the slopes of that in x; `costs_of` is their
table. Exponentials and logarithms are of the arrays' width, all else is worked out in double. A sum
is made of parts that the shape alone fixes, added in order, so that the number of threads changes
no bit of it.

Longer than most: it holds every loss of that kind, each with its slope.
"""

from cython.parallel cimport prange
from libc.math cimport fabs, pow as power

from fastcnn._kernels._exp cimport exp_negative, log1p_fraction
from fastcnn._kernels._rows cimport in_order
from fastcnn._kernels._types cimport real

cdef enum:
    COSTS = 1024                # numbers of a part

# Of `count` numbers at most COSTS; a, one each, b and c are the loss's options.
ctypedef void (*CostLoop)(
    double* out, const real* x, const real* t, const double* a, double b, double c,
    Py_ssize_t count,
) noexcept nogil


cdef struct Costs:
    CostLoop cost
    CostLoop slope


cdef Costs costs_of(op) except *:
    if op == "binary_cross_entropy":
        return Costs(binary_cross_entropy_cost, binary_cross_entropy_slope)
    if op == "focal":
        return Costs(focal_cost, focal_slope)
    if op == "huber":
        return Costs(huber_cost, huber_slope)
    if op == "mean_absolute_error":
        return Costs(absolute_cost, absolute_slope)
    raise ValueError(f"costs: expected the name of a loss, got {op!r}")


cdef struct Mean:
    # What makes a mean of costs, and the loss's options.
    Py_ssize_t M
    double size                 # of all samples together
    const real* weights         # of samples, or NULL
    const double* a             # of channels
    Py_ssize_t channels
    double b, c


cdef Mean mean_of(
    Py_ssize_t M, double total_weight, const real[::1] sample_weights, const double[::1] a,
    double b, double c,
):
    cdef Mean m
    m.M, m.size, m.weights, m.a, m.channels = M, M * total_weight, NULL, &a[0], a.shape[0]
    m.b, m.c = b, c
    if sample_weights is not None:
        m.weights = &sample_weights[0]
    return m


cdef inline void options_of(double* a, Mean* m, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """Write option a of each number."""
    cdef Py_ssize_t i, c = first % m.channels
    if m.channels == 1:
        for i in range(count):
            a[i] = m.a[0]
        return
    for i in range(count):
        a[i] = m.a[c]
        c = c + 1 if c + 1 < m.channels else 0


cdef inline double part_of_mean(Mean* m, Py_ssize_t sample) noexcept nogil:
    """Return a weight's part of the mean: a weight by itself may be tiny, as may a cost."""
    return m.weights[sample] / m.size


def number_of_cost_parts(Py_ssize_t count):
    return (count + COSTS - 1) // COSTS


def mean_cost(
    op, double[::1] parts, const real[::1] x, const real[::1] t, const real[::1] sample_weights,
    Py_ssize_t M, double total_weight, const double[::1] a, double b, double c, int threads,
):
    """Return the sum of costs times sample_weights, divided by M * total_weight.

    a: one option for all numbers, or one for each channel. sample_weights may be None. `parts` is
    room for `number_of_cost_parts` sums.
    """
    cdef CostLoop cost = costs_of(op).cost
    cdef Mean m = mean_of(M, total_weight, sample_weights, a, b, c)
    cdef Py_ssize_t count = x.shape[0], i
    cdef double total = 0
    for i in prange(parts.shape[0], nogil=True, num_threads=threads, schedule="static"):
        parts[i] = cost_of_part(
            cost, &x[i * COSTS], &t[i * COSTS], &m, i * COSTS, min(COSTS, count - i * COSTS)
        )
    for i in range(parts.shape[0]):
        total += parts[i]
    return total if m.weights else total / m.size


cdef double cost_of_part(
    CostLoop cost, const real* x, const real* t, Mean* m, Py_ssize_t first, Py_ssize_t count
) noexcept nogil:
    cdef double[COSTS] costs, a
    cdef double total = 0
    cdef Py_ssize_t i = 0, size
    options_of(a, m, first, count)
    cost(costs, x, t, a, m.b, m.c, count)
    if not m.weights:
        return sum_of_costs(costs, count)
    while i < count:                # a sample after the other
        size = min(count - i, m.M - (first + i) % m.M)
        total += part_of_mean(m, (first + i) // m.M) * sum_of_costs(costs + i, size)
        i += size
    return total


cdef inline double sum_of_costs(const double* costs, Py_ssize_t count) noexcept nogil:
    cdef double[8] strand
    cdef Py_ssize_t i = 0, j
    for j in range(8):
        strand[j] = 0
    while i + 8 <= count:
        for j in range(8):
            strand[j] += costs[i + j]
        i += 8
    while i < count:
        strand[0] += costs[i]
        i += 1
    return in_order(strand)


def mean_cost_backward(
    op, real[::1] dx, double dloss, const real[::1] x, const real[::1] t,
    const real[::1] sample_weights, Py_ssize_t M, double total_weight, const double[::1] a,
    double b, double c, int threads,
):
    cdef CostLoop slope = costs_of(op).slope
    cdef Mean m = mean_of(M, total_weight, sample_weights, a, b, c)
    cdef Py_ssize_t count = x.shape[0], i
    for i in prange(0, count, COSTS, nogil=True, num_threads=threads, schedule="static"):
        slopes_of_part(slope, &dx[i], dloss, &x[i], &t[i], &m, i, min(COSTS, count - i))


cdef void slopes_of_part(
    CostLoop slope, real* dx, double dloss, const real* x, const real* t, Mean* m,
    Py_ssize_t first, Py_ssize_t count,
) noexcept nogil:
    cdef double[COSTS] slopes, a
    cdef double scale = dloss / m.size
    cdef Py_ssize_t i = 0, j, size = count
    options_of(a, m, first, count)
    slope(slopes, x, t, a, m.b, m.c, count)
    while i < count:
        if m.weights:
            size = min(count - i, m.M - (first + i) % m.M)
            scale = dloss * part_of_mean(m, (first + i) // m.M)
        for j in range(i, i + size):
            dx[j] = <real> (scale * slopes[j])
        i += size


# ---------------------------------------------------------------- labels by logits
cdef inline real from_zero(real x) noexcept nogil:
    """Return -|x|."""
    return -x if x > 0 else x


cdef void probabilities(
    real* yes, real* no, const real* x, Py_ssize_t count
) noexcept nogil:
    """Write sigmoid(x) and what it leaves of 1, each as it is: next to 1 that would be nothing."""
    cdef Py_ssize_t i
    cdef real e
    for i in range(count):
        e = exp_negative(from_zero(x[i]))
        yes[i] = (<real> 1 if x[i] > 0 else e) / (<real> 1 + e)
        no[i] = (e if x[i] > 0 else <real> 1) / (<real> 1 + e)


cdef void surprises(real* yes, real* no, const real* x, Py_ssize_t count) noexcept nogil:
    """Write -log of these: log(1 + exp(-x)) and log(1 + exp(x))."""
    cdef Py_ssize_t i
    cdef real log
    for i in range(count):
        log = log1p_fraction(exp_negative(from_zero(x[i])))
        yes[i] = log + (-x[i] if x[i] < 0 else <real> 0)
        no[i] = log + (x[i] if x[i] > 0 else <real> 0)


cdef inline double weighed(double weight, double surprise) noexcept nogil:
    """Return the product, but 0 for a weight of 0: 0 * log(0) is 0, as entropy has it."""
    return weight * surprise if weight else 0.


cdef void binary_cross_entropy_cost(
    double* out, const real* x, const real* t, const double* pos_weight, double _, double __,
    Py_ssize_t count,
) noexcept nogil:
    cdef real[COSTS] yes, no
    cdef Py_ssize_t i
    surprises(yes, no, x, count)
    for i in range(count):
        out[i] = weighed(pos_weight[i] * t[i], yes[i]) + weighed(1. - t[i], no[i])


cdef void binary_cross_entropy_slope(
    double* out, const real* x, const real* t, const double* pos_weight, double _, double __,
    Py_ssize_t count,
) noexcept nogil:
    cdef real[COSTS] yes, no
    cdef Py_ssize_t i
    probabilities(yes, no, x, count)
    for i in range(count):
        out[i] = (1. - t[i]) * yes[i] - pos_weight[i] * t[i] * no[i]


cdef void focus(
    double* out, const real* t, const real* yes, const real* no, double gamma, Py_ssize_t count
) noexcept nogil:
    """Write (1 - q)**gamma, q the probability of t."""
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = t[i] * <double> no[i] + (1. - t[i]) * yes[i]
    if gamma == 2:                  # as a rule, and in every lane of a vector
        for i in range(count):
            out[i] *= out[i]
    else:
        for i in range(count):
            out[i] = power(out[i], gamma)


cdef void focal_cost(
    double* out, const real* x, const real* t, const double* positive, double negative,
    double gamma, Py_ssize_t count,
) noexcept nogil:
    cdef real[COSTS] yes, no
    cdef Py_ssize_t i
    probabilities(yes, no, x, count)
    focus(out, t, yes, no, gamma, count)
    surprises(yes, no, x, count)
    for i in range(count):
        out[i] = weighed(
            out[i] * (positive[i] * t[i] + negative * (1. - t[i])),
            weighed(t[i], yes[i]) + weighed(1. - t[i], no[i]),
        )


cdef void focal_slope(
    double* out, const real* x, const real* t, const double* positive, double negative,
    double gamma, Py_ssize_t count,
) noexcept nogil:
    cdef real[COSTS] yes, no, surprise_of_yes, surprise_of_no
    cdef double q, slope
    cdef Py_ssize_t i
    probabilities(yes, no, x, count)
    focus(out, t, yes, no, gamma, count)
    surprises(surprise_of_yes, surprise_of_no, x, count)
    for i in range(count):
        # Of the product of (1 - q)**gamma and the cost. The slope of 1 - q over 1 - q itself is
        # (1 - 2 t) p (1 - p) / (1 - q), between -1 and 1, but 0 where nothing is left of 1 - q.
        q = t[i] * <double> no[i] + (1. - t[i]) * yes[i]
        slope = (1. - 2. * t[i]) * (<double> yes[i] * <double> no[i] / q) if q else 0.
        slope *= weighed(t[i], surprise_of_yes[i]) + weighed(1. - t[i], surprise_of_no[i])
        slope = gamma * slope + ((1. - t[i]) * yes[i] - t[i] * <double> no[i])
        out[i] = weighed(out[i] * (positive[i] * t[i] + negative * (1. - t[i])), slope)


# ---------------------------------------------------------------- distances
cdef void huber_cost(
    double* out, const real* x, const real* t, const double* delta, double _, double __,
    Py_ssize_t count,
) noexcept nogil:
    cdef double d
    cdef Py_ssize_t i
    for i in range(count):
        d = fabs(<double> x[i] - <double> t[i])
        out[i] = delta[i] * (d - 0.5 * delta[i]) if d > delta[i] else 0.5 * d * d


cdef void huber_slope(
    double* out, const real* x, const real* t, const double* delta, double _, double __,
    Py_ssize_t count,
) noexcept nogil:
    cdef double d
    cdef Py_ssize_t i
    for i in range(count):
        d = <double> x[i] - <double> t[i]
        d = delta[i] if d > delta[i] else d
        out[i] = -delta[i] if d < -delta[i] else d


cdef void absolute_cost(
    double* out, const real* x, const real* t, const double* _, double __, double ___,
    Py_ssize_t count,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = fabs(<double> x[i] - <double> t[i])


cdef void absolute_slope(
    double* out, const real* x, const real* t, const double* _, double __, double ___,
    Py_ssize_t count,
) noexcept nogil:
    cdef double d
    cdef Py_ssize_t i
    for i in range(count):
        d = <double> x[i] - <double> t[i]
        d = 1. if d > 0 else d
        out[i] = -1. if d < 0 else d     # 0 where they meet, NaN where there is none

"""Losses that are a mean of what each number costs: of labels by logits, and of distances.

x a logit or a prediction and t its target, flat, M of them a sample. Each loss is a `Cost`, and
below it the slope of that in x; `costs_of` is their table. All is worked out in double. A sum is
made of parts that the shape alone fixes, added in order, so that the number of threads changes no
bit of it.
"""

from cython.parallel cimport prange
from libc.math cimport exp as exp_in_double, fabs, log1p, pow as power

from fastcnn._kernels._types cimport real

cdef enum:
    COSTS = 2048                # numbers of a part

# What x costs next to t; a, b and c are the loss's options.
ctypedef double (*Cost)(double x, double t, double a, double b, double c) noexcept nogil


cdef struct Costs:
    Cost cost
    Cost slope


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
    cdef Cost cost = costs_of(op).cost
    cdef Py_ssize_t count = x.shape[0], i
    cdef const real* weights = NULL
    cdef double total = 0, size = M * total_weight
    if sample_weights is not None:
        weights = &sample_weights[0]
    for i in prange(parts.shape[0], nogil=True, num_threads=threads, schedule="static"):
        parts[i] = cost_of_part(
            cost, &x[0], &t[0], weights, M, size, &a[0], a.shape[0], b, c,
            i * COSTS, min((i + 1) * COSTS, count),
        )
    for i in range(parts.shape[0]):
        total += parts[i]
    return total if weights else total / size


cdef double cost_of_part(
    Cost cost, const real* x, const real* t, const real* weights, Py_ssize_t M, double size,
    const double* a, Py_ssize_t channels, double b, double c, Py_ssize_t first, Py_ssize_t last,
) noexcept nogil:
    """Return a part of the sum; with weights, of the mean: a weight by itself may be tiny."""
    cdef double total = 0, one
    cdef Py_ssize_t i
    for i in range(first, last):
        one = cost(x[i], t[i], a[i % channels] if channels > 1 else a[0], b, c)
        total += weights[i // M] / size * one if weights else one
    return total


def mean_cost_backward(
    op, real[::1] dx, double dloss, const real[::1] x, const real[::1] t,
    const real[::1] sample_weights, Py_ssize_t M, double total_weight, const double[::1] a,
    double b, double c, int threads,
):
    cdef Cost slope = costs_of(op).slope
    cdef Py_ssize_t count = x.shape[0], i
    cdef const real* weights = NULL
    if sample_weights is not None:
        weights = &sample_weights[0]
    for i in prange(0, count, COSTS, nogil=True, num_threads=threads, schedule="static"):
        slope_of_part(
            slope, &dx[0], dloss / (M * total_weight), &x[0], &t[0], weights, M, &a[0],
            a.shape[0], b, c, i, min(i + COSTS, count),
        )


cdef void slope_of_part(
    Cost slope, real* dx, double scale, const real* x, const real* t, const real* weights,
    Py_ssize_t M, const double* a, Py_ssize_t channels, double b, double c,
    Py_ssize_t first, Py_ssize_t last,
) noexcept nogil:
    cdef double one
    cdef Py_ssize_t i
    for i in range(first, last):
        one = slope(x[i], t[i], a[i % channels] if channels > 1 else a[0], b, c)
        dx[i] = <real> ((weights[i // M] * scale if weights else scale) * one)


# ---------------------------------------------------------------- labels by logits
cdef inline double softplus(double x) noexcept nogil:
    """Return log(1 + exp(x)), which is -log of what sigmoid leaves of 1."""
    return (x if x > 0 else 0) + log1p(exp_in_double(-fabs(x)))


cdef inline double sigmoid_in_double(double x) noexcept nogil:
    """Return sigmoid(x)."""
    cdef double e = exp_in_double(-fabs(x))
    return 1 / (1 + e) if x > 0 else e / (1 + e)


cdef double binary_cross_entropy_cost(
    double x, double t, double pos_weight, double _, double __
) noexcept nogil:
    cdef double cost = 0
    if pos_weight * t:              # 0 * log(0) is 0, as entropy has it
        cost = pos_weight * t * softplus(-x)
    if t != 1:
        cost += (1 - t) * softplus(x)
    return cost


cdef double binary_cross_entropy_slope(
    double x, double t, double pos_weight, double _, double __
) noexcept nogil:
    # Of what is left of 1, not of 1 less what there is: next to 1 that would be nothing.
    return (1 - t) * sigmoid_in_double(x) - pos_weight * t * sigmoid_in_double(-x)


cdef inline double miss(double x, double t) noexcept nogil:
    """Return 1 less the probability that sigmoid(x) gives to t."""
    return t * sigmoid_in_double(-x) + (1 - t) * sigmoid_in_double(x)


cdef double focal_cost(
    double x, double t, double positive, double negative, double gamma
) noexcept nogil:
    cdef double factor = power(miss(x, t), gamma)
    factor *= positive * t + negative * (1 - t)
    return factor * binary_cross_entropy_cost(x, t, 1, 0, 0) if factor else 0


cdef double focal_slope(
    double x, double t, double positive, double negative, double gamma
) noexcept nogil:
    cdef double q = miss(x, t), slope = binary_cross_entropy_slope(x, t, 1, 0, 0)
    if q == 0:                      # so certain that nothing is left of the cost
        return 0
    # The derivative of q over q is (1 - 2 t) p (1 - p) / q, between -1 and 1.
    slope += (
        gamma * (1 - 2 * t) * (sigmoid_in_double(x) * sigmoid_in_double(-x) / q)
        * binary_cross_entropy_cost(x, t, 1, 0, 0)
    )
    return power(q, gamma) * (positive * t + negative * (1 - t)) * slope


# ---------------------------------------------------------------- distances
cdef double huber_cost(double x, double t, double delta, double _, double __) noexcept nogil:
    cdef double d = fabs(x - t)
    return delta * (d - 0.5 * delta) if d > delta else 0.5 * d * d


cdef double huber_slope(double x, double t, double delta, double _, double __) noexcept nogil:
    cdef double d = x - t
    return (delta if d > 0 else -delta) if fabs(d) > delta else d


cdef double absolute_cost(double x, double t, double _, double __, double ___) noexcept nogil:
    return fabs(x - t)


cdef double absolute_slope(double x, double t, double _, double __, double ___) noexcept nogil:
    cdef double d = x - t
    return 1 if d > 0 else -1 if d < 0 else d     # 0 where they meet, NaN where there is none

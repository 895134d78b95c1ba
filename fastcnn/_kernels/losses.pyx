"""Losses. N labels, C classes.

A sum over samples or elements is made of parts that the shape alone fixes, added in order, so
that the number of threads changes no bit of it.
"""

from cython.parallel cimport prange
from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t

from fastcnn._kernels._rows cimport (
    NUMBERS, rows_in_block, softmax_rows, sum_of_squared_differences
)
from fastcnn._kernels._types cimport real

cdef enum:
    PART = 4096                 # elements of a part of mean_squared_error


cdef struct Samples:
    # What each class of each sample weighs: `share` and `sample_share`.
    Py_ssize_t C
    const int64_t* labels       # or NULL, and then
    const real* targets         # (N, C)
    const real* class_weights   # or NULL
    const real* sample_weights  # or NULL
    Py_ssize_t places           # labels of a sample
    double smoothing
    double total_weight
    bint ignores
    int64_t ignore_label


cdef Samples samples(
    const int64_t[::1] labels, const real[:, ::1] targets, const real[::1] class_weights,
    const real[::1] sample_weights, Py_ssize_t places, double smoothing, double total_weight,
    bint ignores, int64_t ignore_label, Py_ssize_t C,
):
    cdef Samples s
    s.C, s.places, s.smoothing, s.total_weight = C, places, smoothing, total_weight
    s.ignores, s.ignore_label = ignores, ignore_label
    s.labels, s.targets, s.class_weights, s.sample_weights = NULL, NULL, NULL, NULL
    if labels is not None:
        s.labels = &labels[0]
    if targets is not None:
        s.targets = &targets[0, 0]
    if class_weights is not None:
        s.class_weights = &class_weights[0]
    if sample_weights is not None:
        s.sample_weights = &sample_weights[0]
    if ignores:
        s.total_weight = weight_of_others(&s, labels.shape[0])
    return s


cdef double weight_of_others(Samples* s, Py_ssize_t N) noexcept nogil:
    """Return what the labels weigh that are not ignored; infinity for nothing, so all share 0."""
    cdef double total = 0
    cdef Py_ssize_t n
    for n in range(N):
        if s.labels[n] != s.ignore_label:
            total += sample_weight(s, n) * class_weight(s, s.labels[n])
    return total if total else INFINITY


cdef inline double sample_weight(Samples* s, Py_ssize_t n) noexcept nogil:
    return s.sample_weights[n // s.places] if s.sample_weights else 1.


cdef inline double sample_share(Samples* s, Py_ssize_t n) noexcept nogil:
    return sample_weight(s, n) / s.total_weight


cdef inline double class_weight(Samples* s, Py_ssize_t c) noexcept nogil:
    return s.class_weights[c] if s.class_weights else 1.


cdef inline bint is_ignored(Samples* s, Py_ssize_t n) noexcept nogil:
    return s.ignores and s.labels[n] == s.ignore_label


cdef inline double share(Samples* s, Py_ssize_t n, Py_ssize_t c) noexcept nogil:
    """Return the smoothed target of class c times its weight."""
    cdef double target = s.targets[n * s.C + c] if s.targets else c == s.labels[n]
    return class_weight(s, c) * (target * (1 - s.smoothing) + s.smoothing / s.C)


cdef inline bint only_label(Samples* s) noexcept nogil:
    """Return whether no class but the label has a share."""
    return s.labels and s.smoothing == 0


# ---------------------------------------------------------------- softmax cross-entropy
cdef double cost(
    Samples* s, const real* x_n, double shift, double log_total, Py_ssize_t n
) noexcept nogil:
    """Return the cost of sample n, from log softmax(x_n)[c] = x_n[c] - shift - log_total.

    In this order: next to a large shift the logarithm would vanish.
    """
    cdef double sample = sample_share(s, n), result = 0, g
    cdef Py_ssize_t c
    if is_ignored(s, n):            # its label may be no class
        return 0
    cdef Py_ssize_t first = s.labels[n] if only_label(s) else 0
    cdef Py_ssize_t last = first if only_label(s) else s.C - 1
    for c in range(first, last + 1):
        g = sample * share(s, n, c)
        if g:                       # 0 * log(0) is 0, as entropy has it
            result -= g * ((x_n[c] - shift) - log_total)
    return result


def softmax_cross_entropy(
    real[:, ::1] probabilities, double[::1] costs, const real[:, ::1] logits,
    const int64_t[::1] labels, const real[:, ::1] targets, const real[::1] class_weights,
    const real[::1] sample_weights, Py_ssize_t places, double smoothing, double total_weight,
    bint ignores, int64_t ignore_label, bint gradient, int threads,
):
    """Fill the probabilities and the costs of the samples; return their sum, the loss.

    With `gradient`, of a dloss of 1, it takes the place of the probabilities.
    """
    cdef Py_ssize_t N = logits.shape[0], C = logits.shape[1]
    cdef Samples s = samples(
        labels, targets, class_weights, sample_weights, places, smoothing, total_weight,
        ignores, ignore_label, C,
    )
    cdef Py_ssize_t rows = rows_in_block(C), n
    cdef double loss = 0
    for n in prange(0, N, rows, nogil=True, num_threads=threads, schedule="static"):
        costs_of_rows(
            &s, &probabilities[n, 0], &costs[n], &logits[n, 0], n, min(rows, N - n), gradient
        )
    for n in range(N):
        loss += costs[n]
    return loss


cdef void costs_of_rows(
    Samples* s, real* probabilities, double* costs, const real* logits,
    Py_ssize_t first, Py_ssize_t rows, bint gradient,
) noexcept nogil:
    cdef real[NUMBERS] shift
    cdef Py_ssize_t i
    softmax_rows(probabilities, shift, costs, logits, rows, s.C)    # costs: log_total, for now
    for i in range(rows):
        costs[i] = cost(s, logits + i * s.C, shift[i], costs[i], first + i)
    for i in range(rows if gradient else 0):
        softmax_cross_entropy_backward_row(
            probabilities + i * s.C, s, 1, probabilities + i * s.C, first + i
        )


cdef void softmax_cross_entropy_backward_row(
    real* dlogits, Samples* s, double dloss, const real* probabilities, Py_ssize_t n
) noexcept nogil:
    """Write the gradient of a sample, which may take the place of the probabilities."""
    cdef double sample = dloss * sample_share(s, n), total = 0, at_label
    cdef Py_ssize_t c, label
    if is_ignored(s, n):
        for c in range(s.C):
            dlogits[c] = 0
        return
    # In double: next to a probability of 1 the difference is all that is left.
    if only_label(s):
        label = s.labels[n]
        sample *= class_weight(s, label)
        at_label = sample * (probabilities[label] - 1.)
        for c in range(s.C):
            dlogits[c] = <real> (sample * probabilities[c])
        dlogits[label] = <real> at_label
        return
    for c in range(s.C):
        total += share(s, n, c)
    for c in range(s.C):
        dlogits[c] = <real> (sample * (probabilities[c] * total - share(s, n, c)))


def softmax_cross_entropy_backward(
    real[:, ::1] dlogits, double dloss, const real[:, ::1] probabilities,
    const int64_t[::1] labels, const real[:, ::1] targets, const real[::1] class_weights,
    const real[::1] sample_weights, Py_ssize_t places, double smoothing, double total_weight,
    bint ignores, int64_t ignore_label, int threads,
):
    cdef Py_ssize_t N = dlogits.shape[0], C = dlogits.shape[1], n
    cdef Samples s = samples(
        labels, targets, class_weights, sample_weights, places, smoothing, total_weight,
        ignores, ignore_label, C,
    )
    for n in prange(N, nogil=True, num_threads=threads, schedule="static"):
        softmax_cross_entropy_backward_row(
            &dlogits[n, 0], &s, dloss, &probabilities[n, 0], n
        )


# ---------------------------------------------------------------- mean squared error
def mean_squared_error(
    double[::1] parts, const real[::1] prediction, const real[::1] target, int threads
):
    """Return the mean; `parts` is room for `number_of_parts` sums."""
    cdef Py_ssize_t count = prediction.shape[0], i
    cdef double total = 0
    for i in prange(parts.shape[0], nogil=True, num_threads=threads, schedule="static"):
        parts[i] = sum_of_squared_differences(
            &prediction[i * PART], &target[i * PART], min(<Py_ssize_t> PART, count - i * PART)
        )
    for i in range(parts.shape[0]):
        total += parts[i]
    return total / count


def number_of_parts(Py_ssize_t count):
    return (count + PART - 1) // PART


cdef void mean_squared_error_backward_part(
    real* dprediction, double scale, const real* prediction, const real* target, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real twice = <real> (2 * scale), half = <real> 0.5
    if scale == 0 or 1e-30 < fabs(scale) < 1e30:
        for i in range(count):  # of halves: the difference of two large numbers may be beyond real
            dprediction[i] = twice * (half * prediction[i] - half * target[i])
    else:
        for i in range(count):
            dprediction[i] = <real> (scale * (<double> prediction[i] - <double> target[i]))


def mean_squared_error_backward(
    real[::1] dprediction, double dloss, const real[::1] prediction, const real[::1] target,
    int threads,
):
    cdef Py_ssize_t count = prediction.shape[0], i
    cdef double scale = dloss * 2 / count
    for i in prange(0, count, PART, nogil=True, num_threads=threads, schedule="static"):
        mean_squared_error_backward_part(
            &dprediction[i], scale, &prediction[i], &target[i], min(<Py_ssize_t> PART, count - i)
        )

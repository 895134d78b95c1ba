"""Images whose rows and columns are weighted sums of those of other images.

It computes resize2d and adaptive_avg_pool2d, and their gradients, which are of the same kind. What
an output is made of stands in lists, for each axis: of output p the inputs `places[starts[p]:
starts[p + 1]]` with their weights, of which none is 0. So a pixel of weight 0 is not looked at.

C channels; P Q output height and width; W input width. Rows of outputs go to the threads.
"""

from cython.parallel cimport prange

from fastcnn._kernels._blend cimport blend_four, blend_two
from fastcnn._kernels._copy cimport copy
from fastcnn._kernels._stream cimport past_caches
from fastcnn._kernels._types cimport drain, real

cdef enum:
    SUMMED = 1024               # channels of a pixel that are summed at a time


cdef struct Axis:
    const Py_ssize_t* starts
    const Py_ssize_t* places
    const double* weights


cdef struct Images:
    Py_ssize_t W, C, Q
    bint narrow, means, streaming


cdef inline Axis axis_of(
    const Py_ssize_t[::1] starts, const Py_ssize_t[::1] places, const double[::1] weights
):
    return Axis(&starts[0], &places[0], &weights[0])


cdef void add_weighted(
    double* total, const real* x, double weight, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        total[i] += weight * <double> x[i]


cdef void add_four_weighted(
    double* total, const real* a, const real* b, const real* c, const real* d,
    const double* weight, Py_ssize_t count,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef double u = weight[0], v = weight[1], w = weight[2], z = weight[3]
    for i in range(count):
        total[i] += (
            (u * <double> a[i] + v * <double> b[i]) + (w * <double> c[i] + z * <double> d[i])
        )


cdef void sum_pixel(
    real* y, const real* x_n, const Images* s, const Axis* rows, const Axis* columns, Py_ssize_t p,
    Py_ssize_t q, Py_ssize_t count,
) noexcept nogil:
    """Some channels of an output, at which y and x_n begin, summed in double."""
    cdef double[SUMMED] total
    cdef double[4] weight
    cdef Py_ssize_t i, j, k, end = columns.starts[q + 1]
    cdef const Py_ssize_t* at
    cdef const real* row
    cdef double v, places
    for i in range(count):
        total[i] = 0
    for i in range(rows.starts[p], rows.starts[p + 1]):
        row = x_n + rows.places[i] * s.W * s.C
        v = rows.weights[i]
        j = columns.starts[q]
        while j + 4 <= end:
            at = columns.places + j
            for k in range(4):
                weight[k] = v * columns.weights[j + k]
            add_four_weighted(
                total, row + at[0] * s.C, row + at[1] * s.C, row + at[2] * s.C, row + at[3] * s.C,
                weight, count,
            )
            j += 4
        while j < end:
            add_weighted(total, row + columns.places[j] * s.C, v * columns.weights[j], count)
            j += 1
    if s.means:
        places = (rows.starts[p + 1] - rows.starts[p]) * (end - columns.starts[q])
        for i in range(count):
            y[i] = <real> (total[i] / places)
    else:
        for i in range(count):
            y[i] = <real> total[i]


cdef void resample_row(
    real* y, const real* x_n, const Images* s, const Axis* rows, const Axis* columns, Py_ssize_t p
) noexcept nogil:
    cdef Py_ssize_t i = rows.starts[p], down = rows.starts[p + 1] - i, q, j, right, c
    cdef const real* a
    cdef const real* b
    cdef double v, v_1, w, w_1
    for q in range(s.Q):
        j = columns.starts[q]
        right = columns.starts[q + 1] - j
        if down == 1 and right == 1 and rows.weights[i] * columns.weights[j] == 1:
            a = x_n + (rows.places[i] * s.W + columns.places[j]) * s.C
            copy(y, a, s.C, s.streaming)
        elif s.narrow:
            a = x_n + (rows.places[i] * s.W + columns.places[j]) * s.C
            b = x_n + (rows.places[i + down - 1] * s.W + columns.places[j]) * s.C
            c = (columns.places[j + right - 1] - columns.places[j]) * s.C
            v = rows.weights[i]
            v_1 = rows.weights[i + down - 1]
            w = columns.weights[j]
            w_1 = columns.weights[j + right - 1]
            if right == 1:
                blend_two(y, a, b, <real> v, <real> v_1, s.C, s.streaming)
            elif down == 1:
                blend_two(y, a, a + c, <real> w, <real> w_1, s.C, s.streaming)
            else:
                blend_four(
                    y, a, a + c, b, b + c, <real> (v * w), <real> (v * w_1), <real> (v_1 * w),
                    <real> (v_1 * w_1), s.C, s.streaming,
                )
        else:
            c = 0
            while c < s.C:
                sum_pixel(
                    y + c, x_n + c, s, rows, columns, p, q, min(<Py_ssize_t> SUMMED, s.C - c)
                )
                c += SUMMED
        y += s.C
    if s.streaming:
        drain()


def resample2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const Py_ssize_t[::1] row_starts,
    const Py_ssize_t[::1] rows, const double[::1] row_weights, const Py_ssize_t[::1] column_starts,
    const Py_ssize_t[::1] columns, const double[::1] column_weights, bint narrow, bint means,
    int threads,
):
    """Every list of places holds one at least.

    narrow: an output is made of one or two places along each axis, whose weights add up to 1; then
    it is worked out in `real`, which holds all that lies between. means: divide each sum by the
    number of its terms.
    """
    cdef Py_ssize_t P = y.shape[1], row
    cdef Axis down = axis_of(row_starts, rows, row_weights)
    cdef Axis right = axis_of(column_starts, columns, column_weights)
    cdef Images s = Images(
        x.shape[2], x.shape[3], y.shape[2], narrow, means,
        narrow and past_caches(
            &y[0, 0, 0, 0], y.shape[0] * P * y.shape[2] * y.shape[3], y.shape[3]
        ),
    )
    for row in prange(y.shape[0] * P, nogil=True, num_threads=threads, schedule="static"):
        resample_row(&y[row // P, row % P, 0, 0], &x[row // P, 0, 0, 0], &s, &down, &right, row % P)

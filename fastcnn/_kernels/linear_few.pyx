"""Linear layer of a few rows: y = x @ w + b, and an activation if asked for.

N rows, C inputs, K outputs. A row is too little work to pack the weights for, which are read
once as they lie: the op is bound by reading them. Each output is one sum over C in order, as in
the register tile: a row has the same bits here and there.
"""

from cython.parallel cimport prange

from fastcnn._kernels._finish cimport Finish, activate, finishing
from fastcnn._kernels._types cimport LANES, beats, load, prefetch, real, splat, store, vec, where

cdef enum:
    AHEAD = 24
    PANEL = 4                   # vectors of outputs a task
    SERIAL_BELOW = 65536        # weights: to wake a second thread takes as long as to read them


cdef void four_vectors(
    real* y, const real* x, const real* w, const real* b, Py_ssize_t C, Py_ssize_t K, bint relu
) noexcept nogil:
    cdef vec y0 = splat(0), y1 = y0, y2 = y0, y3 = y0, zero = y0, x_c
    cdef Py_ssize_t c
    if b is not NULL:
        y0 = load(b)
        y1 = load(b + LANES)
        y2 = load(b + 2 * LANES)
        y3 = load(b + 3 * LANES)
    for c in range(C):
        x_c = splat(x[c])
        prefetch(w + AHEAD * K)
        prefetch(w + AHEAD * K + LANES)
        prefetch(w + AHEAD * K + 2 * LANES)
        prefetch(w + AHEAD * K + 3 * LANES)
        y0 = y0 + x_c * load(w)
        y1 = y1 + x_c * load(w + LANES)
        y2 = y2 + x_c * load(w + 2 * LANES)
        y3 = y3 + x_c * load(w + 3 * LANES)
        w = w + K
    if relu:
        y0 = where(beats(y0, zero), y0, zero)
        y1 = where(beats(y1, zero), y1, zero)
        y2 = where(beats(y2, zero), y2, zero)
        y3 = where(beats(y3, zero), y3, zero)
    store(y, y0)
    store(y + LANES, y1)
    store(y + 2 * LANES, y2)
    store(y + 3 * LANES, y3)


cdef void one_vector(
    real* y, const real* x, const real* w, const real* b, Py_ssize_t C, Py_ssize_t K, bint relu
) noexcept nogil:
    cdef vec y0 = splat(0), zero = y0, x_c
    cdef Py_ssize_t c
    if b is not NULL:
        y0 = load(b)
    for c in range(C):
        x_c = splat(x[c])
        y0 = y0 + x_c * load(w)
        w = w + K
    if relu:
        y0 = where(beats(y0, zero), y0, zero)
    store(y, y0)


cdef void no_vector(
    real* y, const real* x, const real* w, const real* b, Py_ssize_t C, Py_ssize_t K, bint relu
) noexcept nogil:
    """Write K outputs, fewer than a vector holds."""
    cdef real[LANES] sums
    cdef Py_ssize_t c, k
    for k in range(K):
        sums[k] = 0 if b is NULL else b[k]
    for c in range(C):
        for k in range(K):
            sums[k] += x[c] * w[c * K + k]
    for k in range(K):
        y[k] = 0 if relu and sums[k] <= 0 else sums[k]


cdef void panel_task(
    real* y, const real* x, const real* w, const real* b, Py_ssize_t k, Py_ssize_t C,
    Py_ssize_t K, bint relu,
) noexcept nogil:
    """Write a panel of outputs from k on. The last vector is moved back to end with the row."""
    cdef Py_ssize_t end = min(k + PANEL * LANES, K)
    cdef const real* b_k = b
    if K < LANES:
        no_vector(y, x, w, b, C, K, relu)
    elif k + PANEL * LANES <= K:
        if b is not NULL:
            b_k = b + k
        four_vectors(y + k, x, w + k, b_k, C, K, relu)
    else:
        while k < end:
            k = min(k, K - LANES)
            if b is not NULL:
                b_k = b + k
            one_vector(y + k, x, w + k, b_k, C, K, relu)
            k += LANES


cpdef linear_few(
    real[:, ::1] y, const real[:, ::1] x, const real[:, ::1] w, const real[::1] b,
    activation, int threads,
):
    """Write y (N, K) for x (N, C) and w (C, K)."""
    cdef Py_ssize_t N = x.shape[0], C = w.shape[0], K = w.shape[1], panels, task
    cdef const real* b_0 = NULL
    cdef Finish end = finishing(activation)
    if b is not None:
        b_0 = &b[0]
    if C * K < SERIAL_BELOW:
        threads = 1
    panels = (K + PANEL * LANES - 1) // (PANEL * LANES)
    if threads == 1 or panels == 1:
        with nogil:
            for task in range(N * panels):
                panel_task(&y[task // panels, 0], &x[task // panels, 0], &w[0, 0], b_0,
                           task % panels * PANEL * LANES, C, K, end.relu)
    else:
        for task in prange(N * panels, nogil=True, num_threads=threads, schedule="static"):
            panel_task(&y[task % N, 0], &x[task % N, 0], &w[0, 0], b_0,
                       task // N * PANEL * LANES, C, K, end.relu)
    activate(&end, &y[0, 0], N * K)


def bound_linear_few(
    real[:, ::1] y, const real[:, ::1] x, const real[:, ::1] w, const real[::1] b,
    activation, int threads,
):
    """Return a function of nothing that is this call of linear_few, its arrays looked at once."""
    return lambda: linear_few(y, x, w, b, activation, threads)

"""The forward ops by themselves, in the vocabulary of *Implementing CNNs from scratch*.

Images are (height, width, depth), or a batch of them (n, height, width, depth), and come back
as they were given; filters are (height, width, in, out). Every function takes
`backend="fast"`, `"reference"` or a backend object. Errors are those of the backend's op, in the
names of the function: TypeError for a wrong dtype, ValueError for a wrong shape or value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._backends import get_backend
from fastcnn._sentences import explained
from fastcnn._types import Array, Padding, Size2D
from fastcnn.backend import Backend

__all__ = [
    "add",
    "avg_pool2d",
    "batch_norm",
    "concat",
    "conv2d",
    "conv2d_transpose",
    "cross_entropy",
    "dropout",
    "elu",
    "gelu",
    "global_avg_pool2d",
    "hard_swish",
    "leaky_relu",
    "linear",
    "max_pool2d",
    "multiply",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
    "upsample2d",
]

P = ParamSpec("P")
R = TypeVar("R")

_AXES = {
    1: "a vector (C,)",
    2: "a batch (N, C)",
    3: "an image (H, W, C)",
    4: "a batch (N, H, W, C)",
}


@lru_cache(maxsize=1)
def _fast() -> Backend:
    return get_backend("fast")


def _backend(backend: str | Backend) -> Backend:
    return _fast() if backend == "fast" else get_backend(backend)


def _with_names(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let errors speak of a function and its arguments, not of the op and its: w="filters"."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except (TypeError, ValueError) as error:
                said = re.match(r"\w+: (\w+)(?=: expected )", str(error))
                if said is None or type(error) not in (TypeError, ValueError):
                    raise
                where = f"{function.__name__}: {names.get(said[1], said[1])}"
                own = type(error)(f"{where}{str(error)[said.end() :]}")
                raise own.with_traceback(error.__traceback__) from None

        return explained(call)

    return decorate


def _on_batch(
    name: str, op: Callable[[Array], Array], x: ArrayLike, ranks: tuple[int, ...] = (3, 4)
) -> Array:
    """Apply an op on batches to a batch, or to what has the first of these ranks: one of it."""
    array = as_array(x, f"{name}: x")
    if array.ndim == ranks[0]:
        result: Array = op(array[np.newaxis])[0]
        return result
    if array.ndim not in ranks and array.dtype.kind in "biuf":
        hint = "; x[..., None] adds the axis of channels" if array.ndim == ranks[0] - 1 == 2 else ""
        raise ValueError(
            f"{name}: x: expected {' or '.join(_AXES[rank] for rank in ranks)}, got shape "
            f"{array.shape}{hint}"
        )
    return op(array)


@_with_names(w="filters", b="bias")
def conv2d(
    x: ArrayLike,
    filters: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Size2D = 1,
    padding: Padding = 0,
    dilation: Size2D = 1,
    groups: int = 1,
    backend: str | Backend = "fast",
) -> Array:
    """Cross-correlate an image (H, W, C) or a batch (N, H, W, C) with filters (R, S, C, K).

    Returns (P, Q, K) or (N, P, Q, K), P = (H + pads - R) // stride + 1 and Q alike.
    See `fastcnn.backend.Backend.conv2d` for the options.
    """

    def op(batch: Array) -> Array:
        return _backend(backend).conv2d(
            batch, filters, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
        )

    return _on_batch("conv2d", op, x)


@_with_names(w="filters", b="bias")
def conv2d_transpose(
    x: ArrayLike,
    filters: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Size2D = 1,
    padding: Padding = 0,
    output_padding: Size2D = 0,
    groups: int = 1,
    backend: str | Backend = "fast",
) -> Array:
    """Lay filters (R, S, K, C) on the output, each pixel its own times its value.

    The adjoint of conv2d: an image (H, W, C) becomes (P, Q, K), P = (H - 1) * stride + R - pads +
    output_padding and Q alike, or with padding "same" H * stride.
    """

    def op(batch: Array) -> Array:
        return _backend(backend).conv2d_transpose(
            batch,
            filters,
            bias,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
        )

    return _on_batch("conv2d_transpose", op, x)


@_with_names()
def max_pool2d(
    x: ArrayLike,
    pool_size: Size2D = 2,
    *,
    stride: Size2D | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    backend: str | Backend = "fast",
) -> Array:
    """Return the largest value of each window; `stride` defaults to `pool_size`."""

    def op(batch: Array) -> Array:
        return _backend(backend).max_pool2d(
            batch, pool_size, stride=stride, padding=padding, ceil_mode=ceil_mode
        )[0]

    return _on_batch("max_pool2d", op, x)


@_with_names()
def avg_pool2d(
    x: ArrayLike,
    pool_size: Size2D = 2,
    *,
    stride: Size2D | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    backend: str | Backend = "fast",
) -> Array:
    """Return the mean of each window; `stride` defaults to `pool_size`."""

    def op(batch: Array) -> Array:
        return _backend(backend).avg_pool2d(
            batch,
            pool_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )

    return _on_batch("avg_pool2d", op, x)


@_with_names()
def upsample2d(
    x: ArrayLike,
    factor: Size2D,
    *,
    method: str = "nearest",
    backend: str | Backend = "fast",
) -> Array:
    """Return images made larger by a whole factor; method: "nearest" or "bilinear"."""

    def op(batch: Array) -> Array:
        return _backend(backend).upsample2d(batch, factor, method=method)

    return _on_batch("upsample2d", op, x)


@_with_names()
def global_avg_pool2d(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the mean over height and width, (C,) for an image, (N, C) for a batch."""
    return _on_batch("global_avg_pool2d", _backend(backend).global_avg_pool2d, x)


@_with_names()
def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    epsilon: float = 1e-5,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    backend: str | Backend = "fast",
) -> Array:
    """Normalize each channel, by the statistics of the batch unless some are given.

    x is (N, C), (N, H, W, C) or one image (H, W, C); gamma, beta, mean and variance are (C,).
    Giving a mean without a variance, or the reverse, is a ValueError.
    """
    if (mean is None) != (variance is None):
        missing = "mean" if mean is None else "variance"
        raise ValueError(
            f"batch_norm: {missing}: expected mean and variance together, got None for one"
        )

    def op(batch: Array) -> Array:
        if mean is None or variance is None:
            return _backend(backend).batch_norm(batch, gamma, beta, epsilon=epsilon)[0]
        return _backend(backend).batch_norm_inference(
            batch, gamma, beta, mean, variance, epsilon=epsilon
        )

    return _on_batch("batch_norm", op, x, (3, 4, 2))


@_with_names()
def linear(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    backend: str | Backend = "fast",
) -> Array:
    """Return x @ w + b for x (N, C) or one vector (C,), w (C, K) and b (K,) or None."""
    return _on_batch("linear", lambda rows: _backend(backend).linear(rows, w, b), x, (1, 2))


@_with_names()
def add(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return a + b, of shapes that broadcast as in NumPy."""
    return _backend(backend).add(a, b)


@_with_names()
def multiply(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return a * b, of shapes that broadcast as in NumPy."""
    return _backend(backend).multiply(a, b)


@_with_names()
def concat(xs: Sequence[ArrayLike], axis: int = -1, *, backend: str | Backend = "fast") -> Array:
    """Return a list of arrays joined along an axis, the channels by default."""
    return _backend(backend).concat(xs, axis)


@_with_names()
def relu(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return max(x, 0); a NaN stays a NaN."""
    return _backend(backend).relu(x)


@_with_names()
def leaky_relu(
    x: ArrayLike, *, negative_slope: float = 0.01, backend: str | Backend = "fast"
) -> Array:
    """Return x where x > 0, else negative_slope * x."""
    return _backend(backend).leaky_relu(x, negative_slope=negative_slope)


@_with_names()
def elu(x: ArrayLike, *, alpha: float = 1.0, backend: str | Backend = "fast") -> Array:
    """Return x where x > 0, else alpha * (exp(x) - 1)."""
    return _backend(backend).elu(x, alpha=alpha)


@_with_names()
def gelu(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x * Phi(x), Phi the normal distribution function."""
    return _backend(backend).gelu(x)


@_with_names()
def silu(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x * sigmoid(x)."""
    return _backend(backend).silu(x)


@_with_names()
def hard_swish(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x * min(max(x + 3, 0), 6) / 6."""
    return _backend(backend).hard_swish(x)


@_with_names()
def sigmoid(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return 1 / (1 + exp(-x))."""
    return _backend(backend).sigmoid(x)


@_with_names()
def tanh(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the hyperbolic tangent of x."""
    return _backend(backend).tanh(x)


@_with_names()
def softmax(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return exp(x) / sum(exp(x)) over the last axis."""
    return _backend(backend).softmax(x)


@_with_names()
def dropout(
    x: ArrayLike, mask: ArrayLike, *, rate: float = 0.5, backend: str | Backend = "fast"
) -> Array:
    """Return x / (1 - rate) where the mask is True, else 0."""
    if np.ndim(mask) == 0:
        raise TypeError(
            f"dropout: mask: expected an array of bool of x's shape, True where x is kept, got "
            f"{mask!r:.80}; rng.random(x.shape) >= rate is one, rng = np.random.default_rng()"
        )
    return _backend(backend).dropout(x, mask, rate=rate)


@_with_names()
def cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weights: ArrayLike | None = None,
    sample_weights: ArrayLike | None = None,
    backend: str | Backend = "fast",
) -> float:
    """Return the mean cross-entropy of softmax(logits) (N, C) with the labels (N,)."""
    options: dict[str, Any] = {"class_weights": class_weights, "sample_weights": sample_weights}
    return _backend(backend).softmax_cross_entropy(
        logits, labels, label_smoothing=label_smoothing, **options
    )[0]

"""Valid calls of the fast backend's fused ops, and what these mean, op by op on the reference.

Winners are those that a backward op is given: which of two that are nearly equal has won, rounding
decides.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import reference
from fastcnn.backend import Array

if TYPE_CHECKING:
    from calls import Arguments, Draw

CONVOLUTION = ("stride", "padding", "dilation", "groups")


# ---------------------------------------------------------------------- calls
def _conv2d_relu_max_pool2d(draw: Draw) -> Arguments:
    filters = max(68 - draw.channels, 1)
    return {
        "x": draw.normal(*draw.shape),
        "w": draw.normal(3, 2, draw.channels, filters),
        "b": draw.normal(filters),
        "stride": 1,
        "padding": ((2, 1), (2, 1)),
        "dilation": 1,
        "groups": 1,
        "pool_size": 2,
        "pool_stride": (2, 1),
    }


def _conv2d_relu_max_pool2d_backward(draw: Draw) -> Arguments:
    forward = _conv2d_relu_max_pool2d(draw)
    y, argmax = draw.backend._conv2d_relu_max_pool2d(**forward)
    del forward["b"]
    return {"dy": draw.normal(*y.shape), "argmax": argmax, **forward, "input_gradient": True}


def _batch_norm_relu(draw: Draw) -> Arguments:
    c = draw.channels
    return {
        "x": 3 + 2 * draw.normal(*draw.shape),
        "gamma": draw.normal(c),
        "beta": draw.normal(c),
        "epsilon": 1e-3,
    }


def _batch_norm_relu_max_pool2d(draw: Draw) -> Arguments:
    return {**_batch_norm_relu(draw), "pool_size": (2, 1), "pool_stride": (2, 1)}


def _conv2d_batch_norm_relu_max_pool2d(draw: Draw) -> Arguments:
    """Of one channel, and of float32 alone."""
    n, h, w, c = draw.shape
    arrays = {"x": (n, h, w, 1), "w": (3, 2, 1, c), "b": (c,), "gamma": (c,), "beta": (c,)}
    return {
        **{name: draw.normal(*shape).astype(np.float32) for name, shape in arrays.items()},
        "epsilon": 0.01,
        "stride": 1,
        "padding": ((2, 1), (2, 1)),
        "dilation": 1,
        "groups": 1,
        "pool_size": 2,
        "pool_stride": (2, 1),
    }


def _backward_of_norm(
    forward: Callable[[Draw], Arguments], **options: Any
) -> Callable[[Draw], Arguments]:
    def build(draw: Draw) -> Arguments:
        call = forward(draw)
        y, argmax, mean, variance = getattr(draw.backend, forward.__name__)(**call)
        dy = draw.normal(*y.shape).astype(y.dtype)
        del call["beta"]
        return {"dy": dy, "argmax": argmax, **call, "mean": mean, "variance": variance, **options}

    return build


def _linear_relu(draw: Draw) -> Arguments:
    filters = max(68 - draw.channels, 1)
    return {
        "x": draw.normal(draw.rows, draw.channels),
        "w": draw.normal(draw.channels, filters),
        "b": draw.normal(filters),
    }


def _linear_relu_backward(draw: Draw) -> Arguments:
    call = _linear_relu(draw)
    y = np.maximum(draw.normal(draw.rows, len(call.pop("b"))), 0)
    asked = {"input_gradient": True, "weight_gradient": True}
    return {"dy": draw.normal(*y.shape), **call, "y": y, **asked}


def _cross_entropy_with_gradient(draw: Draw) -> Arguments:
    n, c = draw.rows, draw.channels
    labels = draw.rng.integers(0, c, n)
    return {"logits": 3 * draw.normal(n, c), "labels": labels, "label_smoothing": 0.1}


FUSED_BUILDERS: dict[str, Callable[[Draw], Arguments]] = {
    "_conv2d_relu_max_pool2d": _conv2d_relu_max_pool2d,
    "_conv2d_relu_max_pool2d_backward": _conv2d_relu_max_pool2d_backward,
    "_batch_norm_relu": _batch_norm_relu,
    "_batch_norm_relu_backward": _backward_of_norm(_batch_norm_relu),
    "_batch_norm_relu_max_pool2d": _batch_norm_relu_max_pool2d,
    "_batch_norm_relu_max_pool2d_backward": _backward_of_norm(_batch_norm_relu_max_pool2d),
    "_conv2d_batch_norm_relu_max_pool2d": _conv2d_batch_norm_relu_max_pool2d,
    "_conv2d_batch_norm_relu_max_pool2d_backward": _backward_of_norm(
        _conv2d_batch_norm_relu_max_pool2d, input_gradient=True
    ),
    "_linear_relu": _linear_relu,
    "_linear_relu_backward": _linear_relu_backward,
    "_cross_entropy_with_gradient": _cross_entropy_with_gradient,
}


# ---------------------------------------------------------------------- op by op
def pooled(z: Array, pool_size: Any, pool_stride: Any = None) -> tuple[Array, Array]:
    """Return max_pool2d(relu(z)) and the winners, which where ReLU left nothing are none."""
    y, argmax = reference.max_pool2d(reference.relu(z), pool_size, stride=pool_stride)
    argmax[y == 0] = places_of(pool_size)
    return y, argmax


def winning(
    dy: Array, argmax: Array, z_shape: tuple[int, ...], pool_size: Any, pool_stride: Any = None
) -> Array:
    """Return the gradients in front of ReLU and pool: those of the winners."""
    dead = argmax == places_of(pool_size)
    winners = np.where(dead, 0, argmax).astype(np.uint8)
    alive = np.where(dead, 0, dy).astype(dy.dtype)
    return reference.max_pool2d_backward(alive, winners, z_shape, pool_size, stride=pool_stride)


def places_of(pool_size: Any) -> int:
    """Return how many places a window has."""
    return int(np.prod(np.broadcast_to(pool_size, 2)))


def _split(options: Arguments) -> tuple[Arguments, Arguments, Arguments]:
    """Return the options of a convolution, of a pool and of a norm."""
    pool = {"pool_size": 2, **options}
    return (
        {name: options[name] for name in CONVOLUTION if name in options},
        {name: pool[name] for name in ("pool_size", "pool_stride") if name in pool},
        {name: options[name] for name in ("epsilon",) if name in options},
    )


def _block(x: Any, w: Any, b: Any = None, **options: Any) -> tuple[Array, Array]:
    convolution, pool, _ = _split(options)
    return pooled(reference.conv2d(x, w, b, **convolution), **pool)


def _block_backward(
    dy: Any, argmax: Any, x: Any, w: Any, *, input_gradient: bool = True, **options: Any
) -> tuple[Array | None, ...]:
    convolution, pool, _ = _split(options)
    shape = reference.conv2d(x, w, **convolution).shape
    dz = winning(dy, argmax, shape, **pool)
    return reference.conv2d_backward(dz, x, w, **convolution, input_gradient=input_gradient)


def _norm(x: Any, gamma: Any, beta: Any, **options: Any) -> tuple[Array, ...]:
    _, pool, norm = _split(options)
    z, mean, variance = reference.batch_norm(x, gamma, beta, **norm)
    return *pooled(z, **pool), mean, variance


def _norm_backward(
    dy: Any, argmax: Any, x: Any, gamma: Any, mean: Any, variance: Any, **options: Any
) -> tuple[Array, ...]:
    _, pool, norm = _split(options)
    dz = winning(dy, argmax, np.shape(x), **pool)
    return reference.batch_norm_backward(dz, x, gamma, mean, variance, **norm)


def _conv_norm(
    x: Any, w: Any, gamma: Any, beta: Any, b: Any = None, **options: Any
) -> tuple[Array, ...]:
    convolution, pool, norm = _split(options)
    return _norm(reference.conv2d(x, w, b, **convolution), gamma, beta, **pool, **norm)


def _conv_norm_backward(
    dy: Any,
    argmax: Any,
    x: Any,
    w: Any,
    gamma: Any,
    mean: Any,
    variance: Any,
    b: Any = None,
    *,
    input_gradient: bool = True,
    **options: Any,
) -> tuple[Array | None, ...]:
    convolution, pool, norm = _split(options)
    z = reference.conv2d(x, w, b, **convolution)
    dz, *of_norm = _norm_backward(dy, argmax, z, gamma, mean, variance, **pool, **norm)
    found = reference.conv2d_backward(dz, x, w, **convolution, input_gradient=input_gradient)
    return *found, *of_norm


def _linear_relu_op_by_op(x: Any, w: Any, b: Any = None) -> Array:
    return reference.relu(reference.linear(x, w, b))


def _linear_relu_backward_op_by_op(dy: Any, x: Any, w: Any, y: Any, **asked: Any) -> Any:
    return reference.linear_backward(reference.relu_backward(dy, y), x, w, **asked)


def _cross_entropy(logits: Any, labels: Any, **options: Any) -> tuple[float, Array]:
    loss, probabilities = reference.softmax_cross_entropy(logits, labels, **options)
    return loss, reference.softmax_cross_entropy_backward(1.0, probabilities, labels, **options)


# The fused ops in the place of a backend: each takes what the fast backend's takes.
UNFUSED = SimpleNamespace(
    _conv2d_relu_max_pool2d=_block,
    _conv2d_relu_max_pool2d_backward=_block_backward,
    _batch_norm_relu=lambda *arrays, **options: _norm(*arrays, **options, pool_size=1),
    _batch_norm_relu_backward=lambda *arrays, **options: _norm_backward(
        *arrays, **options, pool_size=1
    ),
    _batch_norm_relu_max_pool2d=_norm,
    _batch_norm_relu_max_pool2d_backward=_norm_backward,
    _conv2d_batch_norm_relu_max_pool2d=_conv_norm,
    _conv2d_batch_norm_relu_max_pool2d_backward=_conv_norm_backward,
    _linear_relu=_linear_relu_op_by_op,
    _linear_relu_backward=_linear_relu_backward_op_by_op,
    _cross_entropy_with_gradient=_cross_entropy,
)

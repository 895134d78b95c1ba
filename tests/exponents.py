"""Calls of every op with numbers of every exponent, and how far a result may be off there.

`wide_call` draws the arguments: all of an array alike in size, one number among others, or each
of a size of its own, down to the smallest numbers and up to the largest. `allowances` returns the
error allowed for each number of each result: the op's tolerance of the terms that make it up, since
next to numbers of other sizes the largest result says nothing.

A sum that convolutions and linear layers make in float32 has a limit, FastBackend's documentation
says which: beyond it an allowance is infinite.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from calls import Arguments, arguments
from compare import roundoff, tolerance
from fused_calls import CONVOLUTION, UNFUSED, winning
from loss_exponents import LOSS_TERMS
from norm_terms import NORM_TERMS
from recurrent_calls import RECURRENT_TERMS
from resampling_calls import RESAMPLED_TERMS
from shape_exponents import REPEATED, SUMS
from step_exponents import STEP_TERMS
from step_exponents import limited as _limited

from fastcnn import reference
from fastcnn.backend import Array

# The exponents of float32 are all drawn. Those of float64 are as many as leave the reference room
# for the products of its formulas: they have no wider float.
EXPONENTS = {"float32": (-149, 127), "float64": (-240, 240)}
OPTIONS = ("learning_rate", "weight_decay", "epsilon", "negative_slope", "alpha", "beta", "dloss")
FRACTIONS = ("binary_cross_entropy", "focal", "dice")  # ops
NOT_NEGATIVE = ("variance", "v", "class_weights", "sample_weights", "probabilities")


def oracle_of(op: str) -> Any:
    """Return what an op is compared with: the reference, of a fused op its ops one by one."""
    return UNFUSED if op.startswith("_") else reference


# ---------------------------------------------------------------------- arguments
def wide_call(op: str, rng: np.random.Generator, dtype: str, channels: int) -> Arguments:
    """Return a valid call of an op, most of its numbers of another size than usual."""
    call = arguments(op, rng, dtype, oracle_of(op), images=2, channels=channels)
    low, high = EXPONENTS[dtype]
    for name, value in call.items():
        if op.startswith(FRACTIONS) and name in ("target", "alpha"):  # from 0 to 1
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            call[name] = _resized(rng, value, dtype)
            if name in NOT_NEGATIVE or (op.startswith("softmax_cross") and name == "labels"):
                call[name] = np.abs(call[name])
            if op == "dice_backward" and name == "probabilities":
                call[name] = np.minimum(call[name], 1)
        elif name in OPTIONS and rng.random() < 1 / 3:
            call[name] = float(value * 2.0 ** rng.uniform(2.2 * low, 2.2 * high))
        elif name == "weight_decay" and rng.random() < 1 / 2:
            call[name] = 0.0
        elif name == "input_gradient":
            call[name] = bool(rng.random() < 1 / 2)
        elif name == "momentum" and rng.random() < 1 / 3:
            call[name] = float(2.0 ** rng.uniform(low, high))
        elif name == "rate" and rng.random() < 1 / 3:
            call[name] = 1 - 2.0 ** -float(rng.integers(1, 53))
    return call


def wide(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Return numbers of other sizes than usual."""
    return _resized(rng, rng.standard_normal(shape).astype(dtype), dtype)


def _resized(rng: np.random.Generator, value: Array, dtype: str) -> Array:
    low, high = EXPONENTS[dtype]
    size = high if rng.random() < 1 / 3 else int(rng.integers(low, high + 1))
    kind = rng.choice(["usual", "all", "one", "each", "below"])
    if kind == "usual":
        return value
    exponents = {
        "all": np.full(value.shape, size),
        "one": np.where(np.arange(value.size) == rng.integers(value.size), size, 0),
        "each": rng.integers(low, high + 1, value.shape),
        "below": size - rng.integers(0, 30, value.shape),
    }[str(kind)].reshape(value.shape)
    numbers = np.sign(value) * rng.uniform(1, 2, value.shape)
    return np.asarray(np.ldexp(numbers, exponents).astype(value.dtype))


# ---------------------------------------------------------------------- what may be off
def allowances(op: str, call: Arguments, dtype: str, expected: tuple[Any, ...]) -> list[Array]:
    """Return the error allowed for each result of a call whose numbers are float64.

    `expected` are the results of the reference, in float64 too.
    """
    with np.errstate(all="ignore"):
        largest = float(np.finfo(dtype).max)
        terms = TERMS.get(op, partial(_of_each, op))(call, expected, largest)
        factor = sum(tolerance(op)) * roundoff(dtype)
        return [np.where(np.isnan(each), np.inf, factor * each) for each in terms]


def _of_each(
    op: str, call: Arguments, expected: tuple[Any, ...], largest: float
) -> tuple[Array, ...]:
    """Return the results themselves, and dy where their tolerance counts it."""
    dy = np.abs(call["dy"]) if "dy" in call and tolerance(op).of_dy else 0.0
    return tuple(np.abs(result) + dy for result in expected)


def _absolute(call: Arguments) -> Arguments:
    return {
        name: np.abs(value) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
        for name, value in call.items()
    }


def _sums(op: str, *, limited: bool) -> Callable[..., tuple[Array, ...]]:
    """Return the terms of an op that adds up products: what it makes of absolute values."""

    def terms(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
        result = getattr(oracle_of(op), op)(**_absolute(call))
        results = result if isinstance(result, tuple) else (result,)
        results = tuple(np.zeros(()) if each is None else each for each in results)
        return tuple(_limited(each, largest) if limited else each for each in results)

    return terms


def _pooled(terms: Array, call: Arguments) -> Array:
    size, stride = call.get("pool_size", 1), call.get("pool_stride")
    return np.asarray(reference.max_pool2d(terms, size, stride=stride)[0])


def _convolution(call: Arguments, largest: float) -> Array:
    """Return the terms of the convolution in a fused op."""
    names = ("x", "w", "b", *CONVOLUTION)
    terms = reference.conv2d(**_absolute({n: call[n] for n in names if n in call}))
    return _limited(terms, largest)


def _conv2d_relu_max_pool2d(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    y = _pooled(_convolution(call, largest), call)
    return y, y


def _linear_relu_backward(call: Arguments, expected: Any, largest: float) -> tuple[Array, ...]:
    dz = reference.relu_backward(call["dy"], call["y"])
    plain = {name: value for name, value in call.items() if name != "y"} | {"dy": dz}
    return _sums("linear_backward", limited=True)(plain, expected, largest)


def _elu_backward(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    """exp(x) of the reference may vanish before it is multiplied with dy."""
    scale = max(np.abs(call.get("alpha", 2.0)), 2.0)
    lost = np.where(call["x"] > 0, 0, np.abs(call["dy"] * scale)) * 2.0**-1000
    return (np.abs(expected[0]) + lost,)


def _prelu_backward(call: Arguments, expected: Any, largest: float) -> tuple[Array, ...]:
    products = reference.multiply_backward(*_absolute(call).values())
    return np.abs(expected[0]), products[1]


def _tanh_backward(call: Arguments, expected: Any, largest: float) -> tuple[Array, ...]:
    return (np.abs(call["dy"]) * (1 + call["y"] ** 2),)


def _sigmoid_backward(call: Arguments, expected: Any, largest: float) -> tuple[Array, ...]:
    return (np.abs(call["dy"] * call["y"]) * (1 + np.abs(call["y"])),)


def _gelu(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    """What exp is of is rounded before it, which has as many roundoffs as that is large."""
    return (np.abs(expected[0]) * (1 + call["x"] ** 2 / 16 + np.abs(call["x"]) ** 3 / 200),)


def _softmax(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    x = call["x"]
    away = np.minimum(x.max(axis=-1, keepdims=True) - x, 1000)
    return (expected[0] * (1 + away / 40),)


def _softmax_backward(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    dy, y = np.abs(call["dy"]), np.abs(call["y"])
    return (y * (dy + np.sum(dy * y, axis=-1, keepdims=True)),)


# ---------------------------------------------------------------------- losses
def _shares(call: Arguments, classes: int) -> Array:
    """Return the weight (N, C) of each class of each sample in a cross-entropy."""
    labels = call["labels"]
    target = labels if labels.ndim == 2 else np.eye(classes)[labels]
    counted = np.ones(len(labels)) if labels.ndim == 2 else labels != call.get("ignore_label")
    of_class = call.get("class_weights", np.ones(classes))
    of_sample = call.get("sample_weights", np.ones(len(labels))) * counted
    total = np.sum(of_sample * np.sum(of_class * target, axis=1)) or np.inf
    a = call["label_smoothing"]
    return np.asarray(of_class * (target * (1 - a) + a / classes) * of_sample[:, None] / total)


def _cross_entropy(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    x = call["logits"]
    share = _shares(call, x.shape[1])
    loss = np.asarray(expected[0] + np.sum(share))
    return loss, _softmax({"x": x}, expected[1:], largest)[0]


def _cross_entropy_with_gradient(
    call: Arguments, expected: tuple[Any, ...], largest: float
) -> tuple[Array, ...]:
    p, share = reference.softmax(call["logits"]), _shares(call, call["logits"].shape[1])
    loss, terms = _cross_entropy(call, (expected[0], p), largest)
    return loss, terms * np.sum(share, axis=1, keepdims=True) + share


def _cross_entropy_backward(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    p = call["probabilities"]
    share = _shares(call, p.shape[1])
    return (abs(call["dloss"]) * (p * np.sum(share, axis=1, keepdims=True) + share),)


def _squares(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    return (np.asarray(expected[0]),)


def _squares_backward(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    a, b = np.abs(call["prediction"]), np.abs(call["target"])
    return (abs(call["dloss"]) * 2 / a.size * (a + b),)


# ---------------------------------------------------------------------- batch normalization
def _largest(values: Array) -> Array:
    """Return the largest of each channel, shaped to be compared with all."""
    axes = tuple(range(values.ndim - 1))
    return np.asarray(np.max(values, axis=axes, keepdims=True))


def _normalized(call: Arguments, x: Array, mean: Array, variance: Array) -> Array:
    """Return the terms of gamma * (x - mean) / s + beta."""
    root = np.sqrt(variance + call["epsilon"])
    return np.asarray(np.abs(call["gamma"] / root) * np.abs(x - mean) + np.abs(call["beta"]))


def _batch_norm(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    y, mean, variance = expected
    terms = _largest(_normalized(call, call["x"], mean, variance))
    sizes = _largest(np.abs(call["x"]))
    return np.broadcast_to(terms, y.shape), sizes.reshape(-1), variance


def _batch_norm_inference(
    call: Arguments, expected: tuple[Any, ...], largest: float
) -> tuple[Array, ...]:
    return (_normalized(call, call["x"], call["mean"], call["variance"]),)


def _gradients(
    call: Arguments, dy: Array, size: Array, *, through: bool
) -> tuple[Array, Array, Array]:
    """Return the terms of dx, dgamma and dbeta; size: those of x - mean."""
    root = np.sqrt(call["variance"] + call["epsilon"])
    axes = tuple(range(dy.ndim - 1))
    dy, normal = np.abs(dy), size / root
    dgamma, dbeta = np.sum(dy * normal, axis=axes), np.sum(dy, axis=axes)
    count = dy.size // dy.shape[-1]
    terms = dy + (dbeta + normal * dgamma) / count if through else dy
    return np.abs(call["gamma"] / root) * terms, dgamma, dbeta


def _batch_norm_backward(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    return _gradients(call, call["dy"], np.abs(call["x"] - call["mean"]), through=True)


def _batch_norm_inference_backward(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    return _gradients(call, call["dy"], np.abs(call["x"] - call["mean"]), through=False)


def _batch_norm_relu_max_pool2d(
    call: Arguments, expected: tuple[Any, ...], largest: float
) -> tuple[Array, ...]:
    _, argmax, mean, variance = expected
    all_of_y, *others = _batch_norm(call, (call["x"], mean, variance), largest)
    return _pooled(all_of_y, call), argmax, *others


def _winning(call: Arguments, shape: tuple[int, ...], largest: float) -> Array:
    """Return the gradients in front of ReLU and pool, of this shape."""
    pool = call.get("pool_size", 1), call.get("pool_stride")
    return _limited(winning(np.abs(call["dy"]), call["argmax"], shape, *pool), largest)


def _batch_norm_relu_max_pool2d_backward(
    call: Arguments, _: Any, largest: float
) -> tuple[Array, ...]:
    dz = _winning(call, call["x"].shape, largest)
    return _gradients(call, dz, np.abs(call["x"] - call["mean"]), through=True)


def _conv2d_batch_norm_relu_max_pool2d(
    call: Arguments, expected: tuple[Any, ...], largest: float
) -> tuple[Array, ...]:
    """Return terms; the convolution's own roundings are among those of what follows it."""
    _, argmax, mean, variance = expected
    sizes = _convolution(call, largest)
    of_mean = _largest(sizes).reshape(-1)
    spread = variance + call["epsilon"]
    # The variance, and its root, have the roundings of (z - mean)^2.
    of_variance = variance + 4 * of_mean * np.sqrt(variance) + of_mean**2 * 1e-4
    of_variance = np.where(of_variance * 1e-4 < spread, of_variance, np.inf)
    z = reference.conv2d(**{n: call[n] for n in ("x", "w", "b", *CONVOLUTION)})
    normalized = _normalized(call, z, mean, variance)
    # The norm may be in the weights, and then the sums are of these.
    terms = np.abs(call["gamma"]) / np.sqrt(spread) * (sizes + np.abs(mean)) + normalized
    terms = _largest(_limited(terms, largest)) + _largest(normalized) * of_variance / spread
    terms = np.where(np.isnan(terms), np.inf, terms)
    return _pooled(np.broadcast_to(terms, z.shape), call), argmax, of_mean, of_variance


def _conv2d_batch_norm_relu_max_pool2d_backward(
    call: Arguments, _: Any, largest: float
) -> tuple[Array, ...]:
    sizes = _convolution(call, largest) + np.abs(call["mean"])
    dz, dgamma, dbeta = _gradients(call, _winning(call, sizes.shape, largest), sizes, through=True)
    # A number of the dtype: beyond it, or next to nothing, it is of no use to the convolution.
    dz = _limited(dz, largest) + float(np.finfo(np.float32).tiny)
    options = {name: call[name] for name in CONVOLUTION}
    dx, dw, db = reference.conv2d_backward(dz, np.abs(call["x"]), np.abs(call["w"]), **options)
    return _limited(dx, largest), _limited(dw, largest), db, dgamma, dbeta


TERMS: dict[str, Callable[[Arguments, tuple[Any, ...], float], tuple[Array, ...]]] = {
    "conv2d": _sums("conv2d", limited=True),
    "conv2d_backward": _sums("conv2d_backward", limited=True),
    "linear": _sums("linear", limited=True),
    "linear_backward": _sums("linear_backward", limited=True),
    "conv2d_transpose": _sums("conv2d_transpose", limited=True),
    "conv2d_transpose_backward": _sums("conv2d_transpose_backward", limited=True),
    "add_backward": _sums("add_backward", limited=False),
    "multiply_backward": _sums("multiply_backward", limited=False),
    "prelu_backward": _prelu_backward,
    "upsample2d": _sums("upsample2d", limited=False),
    "upsample2d_backward": _sums("upsample2d_backward", limited=False),
    **RESAMPLED_TERMS,
    **{op: _sums(op, limited=op.startswith("matmul")) for op in SUMS},
    **REPEATED,
    **RECURRENT_TERMS,
    "max_pool2d_backward": _sums("max_pool2d_backward", limited=True),
    "avg_pool2d": _sums("avg_pool2d", limited=False),
    "avg_pool2d_backward": _sums("avg_pool2d_backward", limited=False),
    "global_avg_pool2d": _sums("global_avg_pool2d", limited=False),
    "batch_norm": _batch_norm,
    "batch_norm_backward": _batch_norm_backward,
    "batch_norm_inference": _batch_norm_inference,
    "batch_norm_inference_backward": _batch_norm_inference_backward,
    **NORM_TERMS,
    "elu_backward": _elu_backward,
    "selu_backward": _elu_backward,
    "gelu": _gelu,
    "sigmoid_backward": _sigmoid_backward,
    "tanh_backward": _tanh_backward,
    "softmax": _softmax,
    "softmax_backward": _softmax_backward,
    "softmax_cross_entropy": _cross_entropy,
    "softmax_cross_entropy_backward": _cross_entropy_backward,
    "mean_squared_error": _squares,
    "mean_squared_error_backward": _squares_backward,
    **LOSS_TERMS,
    **STEP_TERMS,
    "_conv2d_relu_max_pool2d": _conv2d_relu_max_pool2d,
    "_conv2d_relu_max_pool2d_backward": _sums("_conv2d_relu_max_pool2d_backward", limited=True),
    "_batch_norm_relu": _batch_norm_relu_max_pool2d,
    "_batch_norm_relu_backward": _batch_norm_relu_max_pool2d_backward,
    "_batch_norm_relu_max_pool2d": _batch_norm_relu_max_pool2d,
    "_batch_norm_relu_max_pool2d_backward": _batch_norm_relu_max_pool2d_backward,
    "_conv2d_batch_norm_relu_max_pool2d": _conv2d_batch_norm_relu_max_pool2d,
    "_conv2d_batch_norm_relu_max_pool2d_backward": _conv2d_batch_norm_relu_max_pool2d_backward,
    "_linear_relu": _sums("_linear_relu", limited=True),
    "_linear_relu_backward": _linear_relu_backward,
    "_cross_entropy_with_gradient": _cross_entropy_with_gradient,
}

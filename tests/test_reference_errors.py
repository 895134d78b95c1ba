"""Hostile calls: on every backend one clear sentence that names the op and the argument.

Each case is a call that works (CALLS) with one argument made wrong, the type of the exception
and the argument that the message must name.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

F4, F8, I8 = np.float32, np.float64, np.int64
HUGE = 2**62
ONES = {n: np.ones(n, F4) for n in (2, 3, 4)}


def ones(*shape: int, dtype: Any = F4) -> np.ndarray:
    return np.ones(shape, dtype)


def virtual(*shape: int) -> np.ndarray:
    """An array of any shape that takes no memory."""
    return np.broadcast_to(F4(1), shape)


IMAGES, ROWS = ones(2, 6, 6, 4), ones(3, 4)
SQUARE = ones(2, 3, 3, 4)
PLACES = np.zeros((2, 3, 3, 4), np.uint8)
LABELS = np.array([0, 3, 1])
CALLS: dict[str, dict[str, Any]] = {
    "conv2d": {"x": IMAGES, "w": ones(3, 3, 2, 6), "b": ones(6), "groups": 2},
    "conv2d_backward": {
        "dy": ones(2, 4, 4, 6),
        "x": IMAGES,
        "w": ones(3, 3, 2, 6),
        "groups": 2,
    },
    "max_pool2d": {"x": IMAGES},
    "max_pool2d_backward": {"dy": SQUARE, "argmax": PLACES, "x_shape": IMAGES.shape},
    "avg_pool2d": {"x": IMAGES},
    "avg_pool2d_backward": {"dy": SQUARE, "x_shape": IMAGES.shape},
    "global_avg_pool2d": {"x": IMAGES},
    "global_avg_pool2d_backward": {"dy": ones(2, 4), "x_shape": IMAGES.shape},
    "batch_norm": {"x": IMAGES, "gamma": ones(4), "beta": ones(4)},
    "batch_norm_backward": {
        "dy": IMAGES,
        "x": IMAGES,
        "gamma": ones(4),
        "mean": ones(4),
        "variance": ones(4),
    },
    "batch_norm_inference": {
        "x": IMAGES,
        "gamma": ones(4),
        "beta": ones(4),
        "mean": ones(4),
        "variance": ones(4),
    },
    "batch_norm_inference_backward": {
        "dy": IMAGES,
        "x": IMAGES,
        "gamma": ones(4),
        "mean": ones(4),
        "variance": ones(4),
    },
    "linear": {"x": ROWS, "w": ones(4, 5), "b": ones(5)},
    "linear_backward": {"dy": ones(3, 5), "x": ROWS, "w": ones(4, 5)},
    "dropout": {"x": ROWS, "mask": ROWS > 0, "rate": 0.5},
    "dropout_backward": {"dy": ROWS, "mask": ROWS > 0, "rate": 0.5},
    "softmax_cross_entropy": {
        "logits": ROWS,
        "labels": LABELS,
        "class_weights": ones(4),
        "sample_weights": ones(3),
    },
    "softmax_cross_entropy_backward": {
        "dloss": 1.0,
        "probabilities": ROWS,
        "labels": LABELS,
        "class_weights": ones(4),
        "sample_weights": ones(3),
    },
    "mean_squared_error": {"prediction": ROWS, "target": ROWS},
    "mean_squared_error_backward": {"dloss": 1.0, "prediction": ROWS, "target": ROWS},
    "sgd_step": {
        "w": ONES[3],
        "dw": ONES[3],
        "velocity": ONES[3],
        "learning_rate": 0.1,
        "momentum": 0.9,
    },
    "adam_step": {
        "w": ONES[3],
        "dw": ONES[3],
        "m": ONES[3],
        "v": ONES[3],
        "step": 1,
        "learning_rate": 0.1,
    },
    "softmax": {"x": ROWS},
    "softmax_backward": {"dy": ROWS, "y": ROWS},
}
for _op, _saved in {"relu": "y", "leaky_relu": "x", "elu": "x", "gelu": "x"}.items():
    CALLS |= {_op: {"x": ROWS}, f"{_op}_backward": {"dy": ROWS, _saved: ROWS}}
for _op, _saved in {"silu": "x", "sigmoid": "y", "tanh": "y"}.items():
    CALLS |= {_op: {"x": ROWS}, f"{_op}_backward": {"dy": ROWS, _saved: ROWS}}

CONVS = ("conv2d", "conv2d_backward")
POOLS = ("max_pool2d", "max_pool2d_backward", "avg_pool2d", "avg_pool2d_backward")
NORMS = tuple(op for op in CALLS if op.startswith("batch_norm"))
LOSSES = ("softmax_cross_entropy", "softmax_cross_entropy_backward")
STEPS = ("sgd_step", "adam_step")
NUMBER_OPTIONS = {
    "leaky_relu": "negative_slope",
    "leaky_relu_backward": "negative_slope",
    "elu": "alpha",
    "elu_backward": "alpha",
    "mean_squared_error_backward": "dloss",
    "softmax_cross_entropy_backward": "dloss",
    "sgd_step": "learning_rate",
    "adam_step": "learning_rate",
} | dict.fromkeys(NORMS, "epsilon")


def call(backend: Any, op: str, **changes: Any) -> Any:
    arguments = CALLS[op] | changes
    if op in STEPS:  # their arrays are written to
        arguments = {
            name: value.copy() if value is ONES[3] else value for name, value in arguments.items()
        }
    return getattr(backend, op)(**arguments)


def refuses(backend: Any, error: Any, op: str, names: str, **changes: Any) -> None:
    """Check that the call raises `error` with a message like "op: name: ..."; names: "x|w"."""
    with pytest.raises(error) as caught:
        call(backend, op, **changes)
    assert caught.type in (TypeError, ValueError)
    message = str(caught.value)
    assert re.match(rf"{op}: .*\b({names})\b", message), message
    assert "\n" not in message


@pytest.mark.parametrize("op", CALLS)
def test_the_calls_themselves_work(backend: Any, op: str) -> None:
    call(backend, op)


ARRAYS = [
    (op, name)
    for op, arguments in CALLS.items()
    for name, value in arguments.items()
    if isinstance(value, np.ndarray)
]
INPUTS = [
    (op, name)
    for op, name in ARRAYS
    if CALLS[op][name].dtype == F4 and (op not in STEPS or name == "dw")
]


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_dtypes_that_are_no_numbers(backend: Any, op: str, name: str) -> None:
    kinds = ["c8", "c16", "O", "U3", "S3", "M8[s]", "m8[s]", "V4"]
    if np.dtype("g").itemsize > 8:  # else extended precision is float64 by another name
        kinds.append("g")
    for kind in kinds:
        refuses(backend, TypeError, op, name, **{name: np.zeros(CALLS[op][name].shape, kind)})
    if name not in ("b", "class_weights", "sample_weights"):  # these may be left out
        refuses(backend, TypeError, op, name, **{name: None})


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_shapes_that_do_not_fit(backend: Any, op: str, name: str) -> None:
    value = CALLS[op][name]
    others = "|".join(n for o, n in ARRAYS if o == op)
    if len([n for o, n in ARRAYS if o == op]) > 1:
        longer = np.concatenate([value, value[..., :1]], axis=-1)
        # A sample more or less may as well be told of the argument that it disagrees with.
        refuses(backend, ValueError, op, others, **{name: longer})
        refuses(backend, ValueError, op, others, **{name: value[..., :0]})
    if len(CALLS[op]) > 1 or op in POOLS or op == "global_avg_pool2d":
        refuses(backend, ValueError, op, others, **{name: value[None]})
        refuses(backend, ValueError, op, others, **{name: value[..., 0]})
        refuses(backend, ValueError, op, others, **{name: np.asarray(value.ravel()[0])})


def floats(op: str) -> list[str]:
    """Name the arrays of a call that share one float dtype."""
    return [name for o, name in ARRAYS if o == op and CALLS[op][name].dtype == F4]


@pytest.mark.parametrize(("op", "name"), [(o, n) for o, n in INPUTS if len(floats(o)) > 1])
def test_mixed_float32_and_float64(backend: Any, op: str, name: str) -> None:
    wide = CALLS[op][name].astype(F8)
    refuses(backend, TypeError, op, "|".join(floats(op)), **{name: wide})


@pytest.mark.parametrize(("op", "name"), INPUTS)
def test_ragged_lists(backend: Any, op: str, name: str) -> None:
    refuses(backend, ValueError, op, name, **{name: [[1.0], [1.0, 2.0]]})


@pytest.mark.parametrize(
    ("op", "option"),
    [
        *((op, option) for op in CONVS for option in ("stride", "dilation")),
        *((op, option) for op in POOLS for option in ("stride", "pool_size")),
    ],
)
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        ((2, 0), ValueError),
        ((-1, 2), ValueError),
        ((1, 2, 3), ValueError),
        ((1,), ValueError),
        ((), ValueError),
        (10**30, ValueError),
        (True, TypeError),
        (np.bool_(True), TypeError),
        (1.0, TypeError),
        (np.float32(1), TypeError),
        ("2", TypeError),
        ("same", TypeError),
        ((1, 1.5), TypeError),
        ((1, None), TypeError),
        (((1, 1), (1, 1)), TypeError),
        ({1: 2}, TypeError),
    ],
)
def test_sizes(backend: Any, op: str, option: str, value: Any, error: Any) -> None:
    refuses(backend, error, op, option, **{option: value})


@pytest.mark.parametrize("op", [*CONVS, *POOLS])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        ((0, -1), ValueError),
        (((0, 0), (0, -1)), ValueError),
        ("SAME", ValueError),
        ("full", ValueError),
        ("", ValueError),
        ((1, 1, 1, 1), ValueError),
        ((1,), ValueError),
        (((1, 1),), ValueError),
        ((1, (1, 1)), ValueError),
        (((1, 1), (1, 1, 1)), ValueError),
        (((1, 1), (1, 1), (1, 1)), ValueError),
        (10**30, ValueError),
        (True, TypeError),
        (0.5, TypeError),
        (None, TypeError),
        (b"same", TypeError),
        ((0, None), TypeError),
        (((0, 0), (0, 0.0)), TypeError),
    ],
)
def test_padding(backend: Any, op: str, value: Any, error: Any) -> None:
    refuses(backend, error, op, "padding", padding=value)


@pytest.mark.parametrize("op", CONVS)
def test_groups_and_filters(backend: Any, op: str) -> None:
    for groups, error in [
        (0, ValueError),
        (-1, ValueError),
        (3, ValueError),
        (5, ValueError),
        (HUGE, ValueError),
        (True, TypeError),
        (2.0, TypeError),
        (None, TypeError),
        ((1, 2), TypeError),
    ]:
        refuses(backend, error, op, "groups|w", groups=groups)
    refuses(backend, ValueError, op, "w|groups", groups=1)
    refuses(backend, ValueError, op, "w|groups", groups=4)
    for shape in [(0, 3, 2, 6), (3, 0, 2, 6), (3, 3, 0, 6), (3, 3, 2, 0)]:
        refuses(backend, ValueError, op, "w|dy|b", w=ones(*shape))
    refuses(backend, ValueError, op, "x|w", x=ones(2, 6, 6, 0))
    refuses(backend, ValueError, op, "x|dy", x=ones(2, 0, 6, 4))
    refuses(backend, ValueError, op, "x|dy", x=ones(2, 0, 6, 4), padding=3)


def test_an_output_below_one_shows_the_arithmetic(backend: Any) -> None:
    x, w = ones(1, 2, 9, 1), ones(3, 3, 1, 1)
    with pytest.raises(ValueError, match=r"conv2d: x: .*\(2 \+ 0 \+ 0 - .*// 1 \+ 1 = 0"):
        backend.conv2d(x, w)
    with pytest.raises(ValueError, match=r"conv2d: x: .*\(9 \+ 1 \+ 1 - .*// 2 \+ 1 = "):
        backend.conv2d(x, w, padding=1, stride=2, dilation=(1, 6))
    with pytest.raises(ValueError, match=r"max_pool2d: x: .* = 0"):
        backend.max_pool2d(x, 3, stride=1)
    with pytest.raises(ValueError, match=r"avg_pool2d: x: .* = 0"):
        backend.avg_pool2d(x, 3, stride=1)


@pytest.mark.parametrize("op", POOLS)
def test_pools(backend: Any, op: str) -> None:
    for padding in (2, (0, 2), ((2, 0), (0, 0)), ((0, 0), (0, 2))):
        refuses(backend, ValueError, op, "padding", pool_size=3, padding=padding)
    for value in (1, 0, None, "yes", 1.0):
        refuses(backend, TypeError, op, "ceil_mode", ceil_mode=value)
        if op.startswith("avg"):
            refuses(backend, TypeError, op, "count_include_pad", count_include_pad=value)
    if "backward" not in op:
        for shape in [(2, 0, 6, 4), (2, 6, 0, 4), (2, 6, 6, 0)]:
            refuses(backend, ValueError, op, "x", x=ones(*shape))


@pytest.mark.parametrize("op", [op for op in CALLS if "x_shape" in CALLS[op]])
@pytest.mark.parametrize(
    ("x_shape", "error"),
    [
        ((2, 6, 6), ValueError),
        ((2, 6, 6, 4, 1), ValueError),
        ((), ValueError),
        ((2, 6, 6, 5), ValueError),
        ((3, 6, 6, 4), ValueError),
        ((-2, 6, 6, 4), ValueError),
        ((2, 0, 6, 4), ValueError),
        ((2, 6, -6, 4), ValueError),
        ((2, 10**30, 6, 4), ValueError),
        ((2, 6.0, 6, 4), TypeError),
        ((2, True, 6, 4), TypeError),
        (None, TypeError),
        (6, TypeError),
        ("2664", TypeError),
    ],
)
def test_x_shape(backend: Any, op: str, x_shape: Any, error: Any) -> None:
    refuses(backend, error, op, "x_shape|dy", x_shape=x_shape)


def test_argmax(backend: Any) -> None:
    op = "max_pool2d_backward"
    for kind in (np.int32, np.int64, np.int8, bool, F4):
        refuses(backend, TypeError, op, "argmax", argmax=PLACES.astype(kind))
    for place in (4, 255):
        wrong = PLACES.copy()
        wrong[1, 2, 2, 3] = place
        refuses(backend, ValueError, op, "argmax", argmax=wrong)
    # In the window, and not in the image: the first window's place 0 is a pad.
    refuses(backend, ValueError, op, "argmax", padding=1, dy=ones(2, 4, 4, 4),
            argmax=np.zeros((2, 4, 4, 4), np.uint8))  # fmt: skip
    for place in (-1, -(2**31), 17 * 17, 2**31 - 1):
        wrong = np.full((2, 1, 1, 4), place, np.int32)
        changes = {"dy": ones(2, 1, 1, 4), "x_shape": (2, 17, 17, 4), "pool_size": 17}
        refuses(backend, ValueError, op, "argmax", argmax=wrong, **changes)


@pytest.mark.parametrize("op", ["batch_norm", "batch_norm_inference"])
def test_batch_norm_ranks(backend: Any, op: str) -> None:
    for shape in [(4,), (2, 3, 4), (1, 2, 3, 2, 4), ()]:
        refuses(backend, ValueError, op, "x", x=ones(*shape))
    refuses(backend, ValueError, op, "x|gamma", x=ones(3, 0))
    refuses(backend, ValueError, op, "x", x=ones(3, 0, 2, 4))


@pytest.mark.parametrize(("op", "option"), NUMBER_OPTIONS.items())
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.nan, ValueError),
        (np.inf, ValueError),
        (-np.inf, ValueError),
        (10**400, ValueError),
        ("1", TypeError),
        (None, TypeError),
        (True, TypeError),
        (1j, TypeError),
        (np.complex64(1), TypeError),
        ([1.0], TypeError),
        (np.ones(1), TypeError),
    ],
)
def test_numbers(backend: Any, op: str, option: str, value: Any, error: Any) -> None:
    refuses(backend, error, op, option, **{option: value})


def test_any_real_number_will_do(backend: Any) -> None:
    for value in (1, F4(1), F8(1), np.int8(1), Fraction(1, 1)):
        call(backend, "batch_norm", epsilon=value)


@pytest.mark.parametrize("op", NORMS)
@pytest.mark.parametrize("epsilon", [0, 0.0, -1e-5])
def test_epsilon_is_above_zero(backend: Any, op: str, epsilon: float) -> None:
    refuses(backend, ValueError, op, "epsilon", epsilon=epsilon)


@pytest.mark.parametrize("op", ["dropout", "dropout_backward"])
def test_dropout(backend: Any, op: str) -> None:
    for rate in (1, 1.0, -0.1, 2, np.nan, np.inf):
        refuses(backend, ValueError, op, "rate", rate=rate)
    for rate in (True, "0.5", None):
        refuses(backend, TypeError, op, "rate", rate=rate)
    for kind in (F4, np.uint8, I8):
        refuses(backend, TypeError, op, "mask", mask=np.ones((3, 4), kind))


@pytest.mark.parametrize("op", LOSSES)
def test_cross_entropy(backend: Any, op: str) -> None:
    values = "logits" if op == "softmax_cross_entropy" else "probabilities"
    for labels in ([0, 4, 1], [0, -1, 1], [0, 2**40, 1], [0, -(2**40), 1]):
        refuses(backend, ValueError, op, "labels", labels=labels)
    refuses(backend, ValueError, op, "labels", labels=np.array([0, 2**63 + 1, 1], np.uint64))
    for labels in ([0, 1], [0, 1, 2, 3], [], ones(3, 3), ones(4, 4), ones(3, 4, 1), 1):
        refuses(backend, (ValueError, TypeError), op, "labels", labels=labels)
    for labels in ([0.0, 1.0, 2.0], ones(3), [True, False, True], ["a", "b", "c"], None):
        refuses(backend, TypeError, op, "labels", labels=labels)
    for wrong in (-0.5, np.nan, np.inf):
        labels = ones(3, 4)
        labels[1, 2] = wrong
        refuses(backend, ValueError, op, "labels", labels=labels)
        for name, length in [("class_weights", 4), ("sample_weights", 3)]:
            weights = ones(length)
            weights[1] = wrong
            refuses(backend, ValueError, op, name, **{name: weights})
    for name, length in [("class_weights", 4), ("sample_weights", 3)]:
        refuses(backend, ValueError, op, "weights|class_weights|sample_weights",
                **{name: np.zeros(length, F4)})  # fmt: skip
    # Weights that only the labels at hand leave at zero.
    unused = np.array([0, 0, 1, 0], F4)
    refuses(backend, ValueError, op, "weights|class_weights|sample_weights", class_weights=unused)
    for smoothing in (-0.1, 1.1, np.nan, np.inf):
        refuses(backend, ValueError, op, "label_smoothing", label_smoothing=smoothing)
    for smoothing in (True, "0.1", None):
        refuses(backend, TypeError, op, "label_smoothing", label_smoothing=smoothing)
    refuses(backend, ValueError, op, values, **{values: ones(0, 4)}, labels=[],
            sample_weights=None)  # fmt: skip
    refuses(backend, ValueError, op, f"{values}|labels|class_weights", **{values: ones(3, 0)},
            class_weights=None)  # fmt: skip


@pytest.mark.parametrize("op", ["mean_squared_error", "mean_squared_error_backward"])
def test_mean_squared_error_of_nothing(backend: Any, op: str) -> None:
    empty = ones(0, 4)
    refuses(backend, ValueError, op, "prediction", prediction=empty, target=empty)


@pytest.mark.parametrize("op", ["softmax", "softmax_backward"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_softmax_of_nothing(backend: Any, op: str, shape: tuple[int, ...]) -> None:
    changes = {name: ones(*shape) for name in CALLS[op]}
    refuses(backend, ValueError, op, "x|dy|y", **changes)


@pytest.mark.parametrize(("op", "name"), [(o, n) for o, n in ARRAYS if o in STEPS and n != "dw"])
def test_what_a_step_updates(backend: Any, op: str, name: str) -> None:
    read_only = ONES[3].copy()
    read_only.flags.writeable = False
    refuses(backend, ValueError, op, name, **{name: read_only})
    refuses(backend, ValueError, op, name, **{name: np.ones(6, F4)[::2]})
    refuses(backend, TypeError, op, f"{name}|dw", **{name: [1.0, 1.0, 1.0]})
    refuses(backend, TypeError, op, f"{name}|dw", **{name: ONES[3].astype(F8)})
    refuses(backend, TypeError, op, name, **{name: ONES[3].astype(I8)})
    refuses(backend, TypeError, op, name, **{name: ONES[3].astype(np.dtype(F4).newbyteorder())})


def test_step_options(backend: Any) -> None:
    for op, option in [
        ("sgd_step", "learning_rate"),
        ("sgd_step", "momentum"),
        ("sgd_step", "weight_decay"),
        ("adam_step", "learning_rate"),
        ("adam_step", "weight_decay"),
        ("adam_step", "beta1"),
        ("adam_step", "beta2"),
        ("adam_step", "epsilon"),
    ]:
        for value, error in [(-0.5, ValueError), (np.nan, ValueError), ("1", TypeError)]:
            refuses(backend, error, op, option, **{option: value})
    for option in ("beta1", "beta2"):
        refuses(backend, ValueError, "adam_step", option, **{option: 1.0})
    refuses(backend, ValueError, "adam_step", "epsilon", epsilon=0.0)
    for step, error in [(0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)]:
        refuses(backend, error, "adam_step", "step", step=step)
    refuses(backend, TypeError, "sgd_step", "nesterov", nesterov=1)
    refuses(backend, TypeError, "adam_step", "decoupled", decoupled="yes")
    refuses(backend, TypeError, "sgd_step", "velocity", velocity=None)


def test_a_refused_step_changes_nothing(backend: Any) -> None:
    w, velocity = np.ones(3, F4), np.ones(3, F4)
    with pytest.raises(ValueError, match="sgd_step: dw"):
        backend.sgd_step(w, np.ones(4, F4), velocity, learning_rate=0.1, momentum=0.9)
    with pytest.raises(ValueError, match="adam_step: v"):
        backend.adam_step(w, np.ones(3, F4), velocity, np.ones(4, F4), step=1, learning_rate=0.1)
    assert w.tolist() == velocity.tolist() == [1, 1, 1]


def test_gigantic_steps_and_dilations_work_where_one_window_fits(backend: Any) -> None:
    x, w = ones(1, 6, 6, 4), ones(1, 1, 4, 2)
    for stride in (HUGE, (HUGE, 7)):
        assert backend.conv2d(x, w, stride=stride, dilation=HUGE).shape == (1, 1, 1, 2)
        assert backend.max_pool2d(x, 2, stride=stride)[0].shape == (1, 1, 1, 4)
        assert backend.avg_pool2d(x, 2, stride=stride, padding="same").shape == (1, 1, 1, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"padding": HUGE},
        {"padding": (0, HUGE)},
        {"padding": 2**31},
        {"padding": 2**40, "stride": 3},
        {"padding": ((HUGE, 0), (0, 0))},
        {"dilation": HUGE},
        {"dilation": 2**40},
        {"dilation": (HUGE, 1), "padding": (HUGE, 0)},
        {"dilation": HUGE, "padding": "same", "stride": HUGE},
    ],
)
@pytest.mark.parametrize("op", CONVS)
def test_gigantic_convolutions(backend: Any, op: str, changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, MemoryError)):
        call(backend, op, **changes)


@pytest.mark.parametrize("op", POOLS)
def test_gigantic_pools(backend: Any, op: str) -> None:
    for size in (7, HUGE, (1, HUGE), 2**33):
        refuses(backend, ValueError, op, "x|dy|pool_size|argmax", pool_size=size)
    refuses(backend, ValueError, op, "padding", padding=HUGE)


def test_a_window_of_too_many_places_to_number(backend: Any) -> None:
    refuses(backend, ValueError, "max_pool2d", "pool_size", pool_size=HUGE, ceil_mode=True)
    refuses(backend, ValueError, "max_pool2d", "pool_size", pool_size=2**16, ceil_mode=True)
    assert call(backend, "avg_pool2d", pool_size=2**16, ceil_mode=True).shape == (2, 1, 1, 4)


def test_gigantic_results_are_a_memory_error(backend: Any) -> None:
    for shape in [(1, 2**24, 2**24, 1), (2**40, 2, 2, 1)]:
        for op in ("relu", "max_pool2d", "softmax", "gelu"):
            with pytest.raises((MemoryError, ValueError)):
                getattr(backend, op)(virtual(*shape))
    for x_shape in [(2**40, 2, 2, 1), (1, 2**30, 2**30, 1), (HUGE, HUGE, HUGE, 1)]:
        with pytest.raises((MemoryError, ValueError)):
            backend.global_avg_pool2d_backward(virtual(x_shape[0], 1), x_shape)

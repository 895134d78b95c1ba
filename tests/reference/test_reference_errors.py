"""Hostile calls: wrong dtypes, shapes, numbers, labels and optimizer state, on every backend."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hostile import (
    BROADCAST,
    CALLS,
    F4,
    F8,
    I8,
    LOSSES,
    NORMS,
    OF_OPTIONS,
    POOLS,
    STATE,
    STEPS,
    call,
    ones,
    refuses,
)

from fastcnn._backends import get_backend
from fastcnn.backend import Backend

NUMBER_OPTIONS = {
    "leaky_relu": "negative_slope",
    "leaky_relu_backward": "negative_slope",
    "elu": "alpha",
    "elu_backward": "alpha",
    "celu": "alpha",
    "celu_backward": "alpha",
    "hard_sigmoid": "alpha",
    "hard_sigmoid_backward": "beta",
    "mean_squared_error_backward": "dloss",
    "softmax_cross_entropy_backward": "dloss",
    **dict.fromkeys(("huber", "huber_backward"), "delta"),
    **dict.fromkeys(("dice", "dice_backward"), "smooth"),
    **dict.fromkeys(("focal", "focal_backward"), "gamma"),
    "binary_cross_entropy_backward": "dloss",
    "mean_absolute_error_backward": "dloss",
    "sgd_step": "learning_rate",
    "adam_step": "learning_rate",
} | dict.fromkeys(NORMS, "epsilon")


@pytest.fixture(scope="module", params=["reference", "fast"])
def backend(request: pytest.FixtureRequest) -> Any:
    """One backend of each kind: checks are Python, the same for every instruction set."""
    return get_backend(request.param)


def test_every_op_is_called() -> None:
    assert set(CALLS) == {name for name in dir(Backend) if not name.startswith("_")}


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
    optional = name in ("b", "h0", "c0", "class_weights", "sample_weights")
    optional |= name in ("gamma", "beta") and op.startswith(("layer_norm", "group_norm"))
    if not optional or op in BROADCAST:
        # Biases, first states, weights of a loss and factors of some norms may be left out.
        refuses(backend, TypeError, op, name, **{name: None})


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_shapes_that_do_not_fit(backend: Any, op: str, name: str) -> None:
    value = CALLS[op][name]
    others = "|".join(n for o, n in ARRAYS if o == op)
    if op.removesuffix("_backward") in OF_OPTIONS:
        return  # most shapes will do, and test_contract.py tries these
    if len([n for o, n in ARRAYS if o == op]) > 1:
        longer = np.concatenate([value, value[..., :1]], axis=-1)
        # A sample more or less may as well be told of the argument that it disagrees with.
        refuses(backend, ValueError, op, others, **{name: longer})
        refuses(backend, ValueError, op, others, **{name: value[..., :0]})
    if (op in BROADCAST and name != "dy") or (op, name) == ("layer_norm", "x"):  # any rank will do
        return
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
        (b"1", TypeError),
        (bytearray(b"1"), TypeError),
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
    read_only = STATE.copy()
    read_only.flags.writeable = False
    refuses(backend, ValueError, op, name, **{name: read_only})
    refuses(backend, ValueError, op, name, **{name: np.ones(6, F4)[::2]})
    refuses(backend, TypeError, op, f"{name}|dw", **{name: [1.0, 1.0, 1.0]})
    refuses(backend, TypeError, op, f"{name}|dw", **{name: STATE.astype(F8)})
    refuses(backend, TypeError, op, name, **{name: STATE.astype(I8)})
    refuses(backend, TypeError, op, name, **{name: STATE.astype(np.dtype(F4).newbyteorder())})


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

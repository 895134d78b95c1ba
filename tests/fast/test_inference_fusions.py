"""What is fused in inference computes what its pattern says: every row, found and compared."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from compare import assert_close
from inferred import OPTIONS

from fastcnn import FastBackend, Predictor, nn, reference
from fastcnn.fast._fusions import ACTIVATIONS, INFERENCE
from fastcnn.nn import _activation
from fastcnn.program import Interpreter, trace
from fastcnn.program.match import Fusion, _parsed, fuse

RISING = ("relu", "leaky_relu", "relu6", "hard_sigmoid")

# The layers of single numbers, by name.
NAMED = {name: make for name, make in _activation.ACTIVATIONS.items() if "softmax" not in name}


class Expression(nn.Module):
    """The pattern of a row as a layer: its x is the input, and its r tanh of it."""

    traceable = True

    def __init__(self, pattern: str, w_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.pattern, self.w_shape = pattern, w_shape

    def declare(self, input_shape: Any) -> Any:
        def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
            return rng.uniform(0.3, 1.5, shape)

        def weights(rng: np.random.Generator) -> Any:
            return rng.standard_normal(self.w_shape) / np.sqrt(np.prod(self.w_shape[:-1]))

        filters = self.w_shape[-1:]
        self.variables_of_pattern = {"w": self.declare_parameter("w", self.w_shape, weights)}
        for name in ("b", "gamma", "beta", "mean", "variance"):
            self.variables_of_pattern[name] = self.declare_parameter(
                name, filters, partial(draw, shape=filters)
            )
        size = [n // 2 if "max_pool2d" in self.pattern else n for n in input_shape[:-1]]
        return (*size, *filters)

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        given = {name: each.data for name, each in self.variables_of_pattern.items()}
        given |= {"x": x, "r": backend.tanh(x) if "r" in self.arguments() else None}

        def value(of: Any) -> Any:
            if isinstance(of, str):
                return given[of]
            y = getattr(backend, of.op)(*map(value, of.arguments), **OPTIONS.get(of.op, {}))
            return y[0] if isinstance(y, tuple) else y

        return value(_parsed(self.pattern))

    def arguments(self) -> set[str]:
        """Return the variables of the pattern."""

        def of(each: Any) -> set[str]:
            return {each} if isinstance(each, str) else set().union(*map(of, each.arguments))

        return of(_parsed(self.pattern))


def expression(row: Fusion, dtype: Any) -> tuple[nn.Module, Any]:
    """Return the pattern of a row as a built model, and an input for it."""
    is_image = not row.name.startswith("linear")
    shape, w_shape = ((6, 8, 5), (3, 3, 5, 5)) if is_image else ((9,), (9, 21))
    model = Expression(row.pattern, w_shape)
    model.build(shape, dtype=dtype)
    return model, 3 * np.random.default_rng(0).standard_normal((3, *shape)).astype(dtype)


@pytest.mark.parametrize("row", INFERENCE, ids=lambda row: row.pattern)
def test_inference(row: Fusion, fast_backend: Any, dtype: Any) -> None:
    """The bits of the ops one by one, but for a norm, which is folded into the weights.

    And near what the reference gives in float64.
    """
    model, x = expression(row, dtype)
    program = trace(model, len(x))
    assert row.name in {node.op for node in fuse(program, [row]).nodes}
    assert {node.op for node in fuse(program, INFERENCE).nodes} <= {row.name, "tanh"}
    y = Predictor(model, fast_backend)(x)
    plain = Interpreter(program, fast_backend).forward(x)[0]
    if "batch_norm_inference" in row.pattern or not_exact(row):
        assert_close(y, plain, "conv2d")
    else:
        np.testing.assert_array_equal(y, plain)
    exact, _ = expression(row, np.float64)
    exact.load_state_dict({k: a.astype(np.float64) for k, a in model.state_dict().items()})
    (expected,) = Interpreter(trace(exact, len(x)), reference).forward(x.astype(np.float64))
    assert_close(y, expected, "conv2d", dtype=dtype)


def not_exact(row: Fusion) -> bool:
    """Return whether the kernel may compute other bits: of a row with a pool, see below."""
    return "max_pool2d" in row.pattern


@pytest.mark.parametrize("activation", NAMED)
@pytest.mark.parametrize(
    ("shape", "filters", "padding", "convolution"),
    [
        ((11, 14, 1), 32, 0, "auto"),  # a kernel of its own
        ((12, 10, 16), 19, 1, "winograd"),
        ((9, 7, 16), 16, 1, "winograd"),  # rows and columns that no window takes
        ((9, 8, 5), 3, 1, "auto"),  # two calls
    ],
)
def test_a_pool_takes_one_of_its_numbers(
    activation: str,
    shape: Any,
    filters: int,
    padding: int,
    convolution: str,
    fast_backend: Any,
    dtype: Any,
) -> None:
    """What the pool leaves is the activation of a number of its window, and next to the largest.

    In front of the pool the kernel applies it to the largest and to the smallest of a window alone:
    in between it can be no larger, but by the rounding of its own value.
    """
    model = nn.Sequential(
        [nn.Conv2D(filters, 3, padding=padding, activation=activation), nn.MaxPool2D(2)]
    )
    model.build(shape, dtype=dtype)
    backend = FastBackend(isa=fast_backend.isa, convolution=convolution)
    x = np.random.default_rng(1).standard_normal((3, *shape)).astype(dtype)
    x[1] *= 9
    x[2, 4, 4, 0] = np.nan
    y = Predictor(model, backend)(x)
    threaded = Predictor(model, FastBackend(fast_backend.isa, 3, convolution=convolution))
    assert threaded(x).tobytes() == y.tobytes()
    assert b"".join(threaded(x[i : i + 1]).tobytes() for i in range(3)) == y.tobytes()
    z = NAMED[activation]()(backend.conv2d(x, *weights_of(model), padding=padding), backend)
    windows = np.stack([z[:, i::2, j::2][:, : y.shape[1], : y.shape[2]] for i, j in FOUR])
    expected = windows.max(axis=0)  # a NaN if there is one
    if all(size % 2 == 0 for size in z.shape[1:3]) or convolution == "auto":
        is_one = (windows == y).any(axis=0) | (np.isnan(y) & np.isnan(windows).any(axis=0))
        assert is_one.all()
        if activation in (
            "relu",
            "leaky_relu",
            "relu6",
            "hard_sigmoid",
        ):  # which never fall, rounded as they are
            np.testing.assert_array_equal(y, expected)
        assert_close(y, expected, NAMED[activation]._op)
    else:  # the tiles of the convolution are others
        assert_close(y, expected, "conv2d")
    assert np.isnan(y[2]).any()


FOUR = ((0, 0), (0, 1), (1, 0), (1, 1))


def weights_of(model: Any) -> tuple[Any, Any]:
    return model[0].weight.data, model[0].bias.data


@pytest.mark.parametrize("activation", NAMED)
def test_an_argument_is_a_layer(activation: str, fast_backend: Any) -> None:
    """The same plan and the same bits, whichever way an activation is written."""

    def model(name: str | None, *layer: type[nn.Module]) -> nn.Module:
        def behind(*layers: nn.Module) -> list[nn.Module]:
            return [*layers, *(make() for make in layer)]

        made = nn.Sequential(
            [
                *(*behind(nn.Conv2D(32, 3, activation=name)), nn.MaxPool2D(2)),
                *(*behind(nn.Conv2D(24, 3, padding=1, activation=name)), nn.MaxPool2D(2)),
                *behind(nn.Conv2D(7, 1, activation=name)),
                *(nn.Flatten(), *behind(nn.Dense(9, activation=name)), nn.Dense(4)),
            ]
        )
        made.build((12, 14, 1), seed=0)
        return made

    one, other = model(activation), model(None, NAMED[activation])
    plans = [fuse(trace(each, 2), INFERENCE) for each in (one, other)]
    ops = [[(node.op, node.attributes) for node in plan.nodes] for plan in plans]
    assert ops[0] == ops[1]
    assert sum(op.endswith("_product") for op, _ in ops[0]) == 5
    assert len(ops[0]) == 6  # Flatten's reshape
    x = np.random.default_rng(0).standard_normal((2, 12, 14, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        Predictor(one, fast_backend)(x), Predictor(other, fast_backend)(x)
    )


@pytest.mark.parametrize("alpha", ["1", True, np.nan, np.inf, 10**400], ids=lambda a: repr(a)[:9])
def test_a_parameter_that_its_op_refuses(alpha: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused or not, the sentence is the op's."""
    monkeypatch.setitem(OPTIONS, "elu", {"alpha": alpha})
    (row,) = (row for row in INFERENCE if row.pattern == "elu(linear(x, w, b))")
    model, x = expression(row, np.float32)
    with pytest.raises((TypeError, ValueError), match=r"^elu: alpha: expected a"):
        Predictor(model)(x)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_falls_and_then_rises(activation: str, fast_backend: Any) -> None:
    """Else a max-pool behind it would need all numbers of a window, not two: see _four.pxd."""
    x = np.linspace(-40, 40, 800_001)
    steps = np.diff(getattr(fast_backend, activation)(x, **OPTIONS.get(activation, {})))
    steps[np.abs(steps) < 1e-13] = 0  # rounding, and the flat ends
    assert not (np.maximum.accumulate(steps > 0) & (steps < 0)).any()


def test_every_activation_is_fused() -> None:
    """But for softmax, which is none of single numbers: its row or its kernel's line is missing."""
    assert set(ACTIVATIONS) == {make._op for make in NAMED.values()}


def test_every_activation_has_a_name() -> None:
    layers = {
        each
        for each in vars(nn).values()
        if isinstance(each, type) and issubclass(each, _activation.Activation)
    }
    assert layers - {nn.Clip} == set(_activation.ACTIVATIONS.values())  # which bounds would it have

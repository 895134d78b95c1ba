"""The tracer: what a traced layer may do, and one sentence for what it may not."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn
from fastcnn.program import trace
from fastcnn.program.trace import Symbol

ROWS = np.ones((2, 3), np.float32)


class Given(nn.Module):
    """A traceable layer whose forward is an attribute."""

    traceable = True

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    def declare(self, input_shape: Any) -> Any:
        return input_shape

    def forward(self, x: Any, backend: Any, *, rng: Any = None, **options: Any) -> Any:
        return self.run(x, backend, rng)


def sentence(run: Callable[[Any], Any]) -> str:
    """Return what is said of a layer that does this to its x."""
    model = nn.Sequential([nn.ReLU(), Given(lambda x, backend, rng: run(x))])
    model.build((3,))
    with pytest.raises(TypeError) as caught:
        trace(model, 2)
    return str(caught.value)


def assign(x: Any) -> None:
    x[0] = 1


def delete(x: Any) -> None:
    del x[0]


NUMPY = "an operator or a function of NumPy's"
CARELESS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "np.exp(x)": (np.exp, NUMPY),
    "np.concatenate([x, x])": (lambda x: np.concatenate([x, x]), NUMPY),
    "np.asarray(x)": (np.asarray, NUMPY),
    "np.add.reduce(x)": (np.add.reduce, NUMPY),
    "x[:1]": (lambda x: x[:1], NUMPY),
    "x[0] = 1": (assign, NUMPY),
    "del x[0]": (delete, NUMPY),
    "for row in x": (list, NUMPY),
    "a, b = x": (tuple, NUMPY),
    "0 in x": (lambda x: 0 in x, NUMPY),
    "if x": (lambda x: x if x else None, NUMPY),
    "not x": (operator.not_, NUMPY),
    "float(x)": (float, NUMPY),
    "int(x)": (int, NUMPY),
    "complex(x)": (complex, NUMPY),
    "round(x)": (round, NUMPY),
    "divmod(x, 2)": (lambda x: divmod(x, 2), NUMPY),
    "divmod(2, x)": (lambda x: divmod(2, x), NUMPY),
    "range(x)": (range, NUMPY),
    "-x": (operator.neg, NUMPY),
    "+x": (operator.pos, NUMPY),
    "~x": (operator.invert, NUMPY),
    "abs(x)": (abs, NUMPY),
    **{
        f"x {sign} 2": (lambda x, function=function: function(x, 2), NUMPY)
        for sign, function in {
            "<": operator.lt,
            "<=": operator.le,
            ">": operator.gt,
            ">=": operator.ge,
            "==": operator.eq,
            "!=": operator.ne,
        }.items()
    },
    **{
        f"{left} {sign} {right}": (
            lambda x, function=function, values=(a, b): function(
                *(x if value is None else value for value in values)
            ),
            NUMPY,
        )
        for sign, function in {
            "-": operator.sub,
            "*": operator.mul,
            "@": operator.matmul,
            "/": operator.truediv,
            "//": operator.floordiv,
            "%": operator.mod,
            "**": operator.pow,
            "&": operator.and_,
            "|": operator.or_,
            "^": operator.xor,
            "<<": operator.lshift,
            ">>": operator.rshift,
        }.items()
        for left, a, right, b in (
            ("x", None, "2", 2),
            ("2", 2, "x", None),
            ("x", None, "w", ROWS),
            ("w", ROWS, "x", None),
            ("x", None, "x", None),
        )
    },
    "2 + x": (lambda x: 2 + x, NUMPY),
    "w + x": (lambda x: ROWS + x, NUMPY),
    "x + 2": (lambda x: x + 2, "int for an array"),
    "x.sum()": (lambda x: x.sum(), "the array's sum"),
    "if x.mean() > 0": (lambda x: x if x.mean() > 0 else None, "the array's mean"),
    "x.T": (lambda x: x.T, "the array's T"),
}


@pytest.mark.parametrize("name", CARELESS)
def test_what_no_traceable_layer_may_do(name: str) -> None:
    run, what = CARELESS[name]
    assert sentence(run) == (
        "Given 1: forward: expected nothing but ops of the backend in a layer with "
        f"traceable = True, got {what}"
    )


def test_every_operator_of_an_array_is_known() -> None:
    """Else Python's own sentence, which names no layer, or for x == 0 none at all."""
    of_arrays = set(vars(np.ndarray))
    plain = {name for name in vars(operator) if name.startswith("__")} & of_arrays
    reflected = {f"__r{name[2:]}" for name in plain} & of_arrays
    in_place = {name for name in plain if name.startswith("__i") and f"__{name[3:]}" in plain}
    by_items = {"__contains__", "__doc__"}  # Python asks for x[0] instead
    assert len(plain) > 30
    assert plain | reflected <= in_place | by_items | set(vars(Symbol))


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda x, b, r: b.cosh(x), "Given 1: forward: expected an op of fastcnn.backend.Backend"),
        (lambda x, b, r: b.max_pool2d(x, 2)[0], r"Given 1: .* max_pool2d takes, got shapes \(2, 3"),
        (lambda x, b, r: b.add(x, np.ones(5)), r"Given 1: .* that add takes, got shapes \(2, 3\)"),
        (lambda x, b, r: b.relu([1.0]), "Given 1: .* got float for an array"),
        (lambda x, b, r: b.conv2d(x), r"Given 1: .* that conv2d takes, got shapes \(2, 3\)"),
        (lambda x, b, r: b.multiply(x, r.random(3)), "Given 1: forward: .* got numbers of rng, wh"),
        (lambda x, b, r: (x, x), r"Given: forward: expected an array of shape \(2, 3\) .* got tup"),
    ],
)
def test_a_traceable_layer_that_calls_otherwise(run: Any, said: str, backend: Any) -> None:
    model = nn.Sequential([nn.ReLU(), Given(run)])
    model.build((3,))
    with pytest.raises((AttributeError, TypeError, ValueError), match=said):
        trace(model, 2)
    with pytest.raises((AttributeError, TypeError, ValueError), match=said.replace(" 1", "")):
        model.forward(np.ones((2, 3), np.float32), backend, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda b, x, w: b.multiply(x, w * 2), "takes w.data in a layer with"),
        (lambda b, x, w: b.relu(x), "takes w.data in a layer with traceable = True, got none;"),
        (lambda b, x, w: b.multiply(x, w.reshape(1, 3)), "got what NumPy makes of 0.w"),
        (lambda b, x, w: b.multiply(b.multiply(x, w), w[::-1]), "got what NumPy makes of 0.w"),
    ],
)
def test_a_parameter_that_no_op_takes_as_it_is(use: Any, said: str, backend: Any) -> None:
    class Scaled(nn.Module):
        traceable = True

        def declare(self, input_shape: Any) -> Any:
            self.w = self.declare_parameter("w", (3,), lambda rng: rng.random(3))
            return input_shape

        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            return use(backend, x, self.w.data)

    trainer = fastcnn.Trainer(nn.Sequential([Scaled()]), backend=backend)
    with pytest.raises(TypeError, match=f"Scaled 0: forward: expected .* {said}"):
        trainer.fit(np.ones((2, 3), np.float32), np.arange(2), verbose=False)


def test_a_traceable_layer_may_give_a_constant(backend: Any) -> None:
    model = nn.Sequential([nn.ReLU(), Given(lambda x, b, r: np.full(x.shape, 7.0, np.float32))])
    model.build((3,))
    x = np.ones((2, 3), np.float32)
    assert (model(x, backend) == 7).all()
    assert (fastcnn.Predictor(model, backend)(x) == 7).all()


def test_a_layer_is_traceable_by_its_class() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.traceable = True

    with pytest.raises(AttributeError, match="Late: traceable: expected it of a class of layers"):
        Late()

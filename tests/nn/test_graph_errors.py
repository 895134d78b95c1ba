"""Networks that cannot be, in one sentence: written, run, or read from a file."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from graphs import OWN, SHAPE, Foreign, as_built, several, two_heads

import fastcnn
from fastcnn import nn
from fastcnn._architecture import architecture_of, known_layers, layer_from

X = nn.Input(SHAPE)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: nn.Conv2D(2, 3)([X, X, X]), r"Conv2D: expected one input, got 3, of shapes"),
        (lambda: nn.ReLU()([X, X]), r"ReLU: expected one input, got 2.*called on an Input of shap"),
        (lambda: nn.Residual(nn.ReLU())([X, X]), r"Residual: expected one input, got 2"),
        (lambda: nn.Sequential([nn.ReLU()])([X, X]), r"layer 0: ReLU: expected one input, got 2"),
        (lambda: nn.Add()(X), r"Add: expected several inputs, as in Add\(\)\(\[a, b\]\), got one"),
        (lambda: nn.add(X), r"nn.add\(a, b\): expected two symbols or more, got one"),
        (lambda: nn.add([X, X]), r"nn.add\(a, b\): expected two symbols or more, got \(list\)"),
        (lambda: nn.multiply(X, 3), r"multiply\(a, b\): expected two .* got \(Symbol, int\)"),
        (lambda: nn.concat(X), r"nn.concat\(\[a, b\]\): expected two symbols or more, got one"),
        (lambda: nn.concat(X, X), r"nn.concat\(\[a, b\]\): expected two symbols or more, got one"),
        (
            lambda: nn.concat([X, X], dim=1),
            r"concat: expected concat\(symbols, axis=-1\), .* axis\?",
        ),
        (lambda: nn.Concat(dim=1), r"Concat: expected Concat\(axis=-1.* did you mean axis\?$"),
        (lambda: nn.UpSample2D(size=2), r"UpSample2D: expected .* did you mean factor\?$"),
        (lambda: nn.UpSample2D(2, mode="nearest"), r"UpSample2D: .* did you mean method\?$"),
        (lambda: nn.Input((3,), dtype="float32"), r"Input: expected Input\(shape, \*, name=None"),
        (
            lambda: nn.ReLU()(X, training=True),
            r"ReLU: expected layer\(x, backend=None\), .*a pass in",
        ),
        (lambda: nn.add(X, nn.GlobalAvgPool2D()(X)), r"Add: .*, \(2,\); nn.AvgPool2D of the whole"),
        (
            lambda: nn.ReLU(X),
            r"ReLU: expected its options, got a symbol; ReLU\(\)\(x\) is the layer",
        ),
        (lambda: nn.Dense(X), r"Dense: expected its options, got a symbol; Dense\(\)\(x\) is the"),
        (lambda: nn.Conv2D(X, 3, 3), r"Conv2D: expected its options, .* Conv2D\(...\)\(x\) is the"),
        (lambda: nn.Dense(3)(nn.ReLU()), r"Dense: expected a symbol, as nn.Input.*, got ReLU"),
        (
            lambda: nn.Dense(3)([]),
            r"Dense: expected a symbol, as nn.Input.*, or an array, got \[\]",
        ),
        (lambda: nn.Dense(3)(None), r"Dense: expected a symbol, as nn.Input.*, got None"),
        (lambda: nn.Dense(3)((6, 6)), r"Dense: expected a symbol, as nn.Input.*, got tuple"),
        (
            lambda: nn.Add()([np.ones(3), np.ones(3)]),
            r"Add: backend: expected one, as in model\(x, ",
        ),
        (
            lambda: nn.Dense(3, trainable=False),
            r"Dense: .*; layer.trainable = False freezes a layer",
        ),
        (lambda: X + X, r"Symbol: expected layers, nn.add\(a, b\), .* on an Input of shape \(6, 6"),
        (lambda: 2 * X, r"Symbol: expected layers, nn.add\(a, b\), .* on an Input of shape \(6, 6"),
        (
            lambda: np.exp(nn.ReLU()(X)),
            r"Symbol: expected layers, .* on what ReLU gives, \(6, 6, 2",
        ),
        (
            lambda: np.asarray(X),
            r"Symbol: expected layers, .* an operator or a function on an Input",
        ),
        (lambda: X[0], r"Symbol: expected layers, .* an operator or a function on an Input"),
        (lambda: list(X), r"Symbol: expected layers, .* an operator or a function on an Input"),
        (lambda: bool(X), r"Symbol: expected layers, .* an operator or a function on an Input"),
        (lambda: nn.Concat(3)([X, X]), r"Concat: axis: expected one of 3 axes, from -3 to 2, got"),
        (lambda: nn.Add()([X, np.ones(3)]), r"Add: expected symbols alone.* Symbol, ndarray"),
        (lambda: nn.Add()([[X, X], X]), r"Add: expected symbols alone in one list, got a list of"),
        (lambda: nn.ReLU()(X, fastcnn.FastBackend()), r"ReLU: backend: expected none where"),
        (lambda: nn.ReLU()(X, "fast"), r"ReLU: backend: expected none where .* got .fast"),
        (lambda: nn.ReLU()(np.ones(3)), r"ReLU: backend: expected one, as in model\(x, fastcnn"),
        (lambda: nn.Module()(X), r"Module: expected a method declare"),
        (lambda: nn.add(nn.Conv2D(2, 3)(X), X), r"Add: .*on what Conv2D gives, \(4, 4, 2\) and an"),
        (lambda: nn.add(two_heads()(X)[0], X), r"called on output 0 of what Model gives, \(2,\)"),
        (lambda: nn.concat([nn.Conv2D(2, 3)(X), X]), r"Concat: expected inputs that differ in a"),
        (lambda: nn.Input(28), r"Input: shape: expected a shape such as \(28, 28, 1\), got int"),
        (lambda: nn.Model(X, nn.ReLU()), r"Model: outputs: expected what nn.Input or a layer call"),
        (lambda: nn.Model([X, X], X), r"Model: inputs: expected each once, got one twice"),
        (lambda: nn.Model(X, nn.ReLU()(nn.Input((3,)))), r"Model: outputs: expected them to depen"),
        (lambda: nn.Model([X, nn.Input((3,))], X), r"Model: inputs: expected each to be used, go"),
        (
            lambda: several()(X),
            r"Model: expected inputs of shape \(\(4, 4, 2\), \(8, 8, 2\)\), got",
        ),
        (lambda: nn.Model(X, X)(nn.Input((3,))), r"Model: expected inputs of shape \(6, 6, 2\)"),
        (lambda: nn.Model(X, X).build((5, 5, 2)), r"Model: expected inputs of shape \(6, 6, 2\)"),
        (
            lambda: nn.Model(X, nn.Conv2D(2, 3)(nn.Input(SHAPE))),
            r"got Conv2D, which was called on an Input of shape \(6, 6, 2\), which is none of them",
        ),
        (
            lambda: nn.Model(X, nn.Input((3,))),
            r"alone, got an Input of shape \(3,\), which is",
        ),
        (
            lambda: nn.Model([X, nn.Input((3,), name="age")], nn.ReLU()(X)),
            r'expected each to be used, got an Input "age" of shape \(3,\), on which no output dep',
        ),
        (
            lambda: nn.Sequential([nn.Conv2D(2, 3), nn.Dense(3)]).build(SHAPE),
            r"layer 1: Dense: expected an input of shape \(C,\).* \(behind layer 0, Conv2D\)$",
        ),
        (
            lambda: nn.Sequential([nn.ReLU(), nn.Dense(3)])(nn.Conv2D(2, 3)(X)),
            r"\(behind layer 0, ReLU\) \(called on what Conv2D gives, \(4, 4, 2\)\)$",
        ),
        (
            lambda: nn.add(nn.Conv2D(2, 3)(X), nn.MaxPool2D(3)(X)),
            r"Add: .*\(called on what Conv2D gives, \(4, 4, 2\) and what MaxPool2D gives, \(2, 2",
        ),
        (
            lambda: circle_of(1),
            "Wrapper: expected no layer within itself, got a Wrapper that holds",
        ),
        (
            lambda: circle_of(3),
            "Wrapper: expected no layer within itself, got a Wrapper that holds",
        ),
        (lambda: around_a_model(), "Model: expected no layer within itself, got a Model that hold"),
        (lambda: at_two((6, 6, 3)), r"Conv2D: expected inputs for which its weights are of the sh"),
        (lambda: at_two((6, 6, 2), True), r"Model: expected each layer at one place, got the same"),
    ],
)
def test_one_sentence_says_what_is_wrong(call: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        call()


class Wrapper(nn.Module):
    """A layer that hands its input on to another."""

    def __init__(self) -> None:
        super().__init__()
        self.inner: Any = None

    def declare(self, input_shape: Any) -> Any:
        return self.inner.plan(input_shape)

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        return self.inner.forward(x, backend)


def circle_of(count: int) -> Any:
    layers = [Wrapper() for _ in range(count)]
    for layer, inner in zip(layers, [*layers[1:], layers[0]], strict=True):
        layer.inner = inner
    return layers[0](X)


def around_a_model() -> Any:
    own = Wrapper()
    own.inner = nn.ReLU()
    model = nn.Model(X, own(X))
    own.inner = model
    return model.build()


def at_two(shape: Any, held: bool = False) -> Any:
    conv = nn.Conv2D(2, 3, padding="same")
    if held:
        return nn.Model(X, nn.Sequential([conv])(conv(X)))
    return conv(X), conv(nn.Input(shape))


@pytest.mark.parametrize("x", [np.ones((2, 4, 4, 2)), [np.ones((1, 4, 4, 2))], [1, 2, 3]])
def test_as_many_arrays_as_inputs(x: Any, backend: Any) -> None:
    with pytest.raises(ValueError, match="Model: x: expected 2 arrays in a tuple, got"):
        as_built(several).forward(x, backend)


def test_a_program_has_a_loss_of_one_output() -> None:
    with pytest.raises(ValueError, match="program: loss: expected a model of one output"):
        as_built(several).program(loss="mse")
    dense = nn.Dense(3)
    dense.build((2,))
    for loss in (lambda p, t: (0.0, p), fastcnn.losses.CrossEntropy(class_weights="balanced")):
        with pytest.raises(ValueError, match="program: loss: expected one that is an op"):
            dense.program(loss=loss)
    with pytest.raises(TypeError, match="program: gradients: expected True or False"):
        dense.program(gradients=1)


class Odd(nn.Module):
    def __init__(self, give: Any) -> None:
        super().__init__()
        self.give = give

    def declare(self, input_shape: Any) -> Any:
        return input_shape, input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        return self.give(x), lambda dy: dy[0]


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda x: x, "Odd: forward: expected a tuple of 2 arrays, got ndarray"),
        (lambda x: (x, x, x), "Odd: forward: expected a tuple of 2 arrays, got 3"),
        (lambda x: (x, x[:, :2]), r"Odd: declare: expected the shape that forward gives, which i"),
        (lambda x: (x, x.astype("f8")), "Odd: forward: expected an array of float32"),
    ],
)
def test_what_a_layer_of_several_outputs_gives_is_looked_at(
    give: Any, said: str, backend: Any
) -> None:
    layer = Odd(give)
    layer.build((3,))
    with pytest.raises((TypeError, ValueError), match=said):
        layer.forward(np.ones((2, 3), np.float32), backend)


def test_a_subclass_with_another_forward_is_not_traceable() -> None:
    class Other(NETWORKS_TRACEABLE):  # type: ignore[misc, valid-type]
        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            return x, lambda dy: dy

    assert not Other().is_traceable()
    assert NETWORKS_TRACEABLE().is_traceable()
    assert not Foreign().is_traceable()
    assert nn.ReLU().is_traceable()


NETWORKS_TRACEABLE = next(cls for cls in OWN if cls.__name__ == "Inherited")

DAMAGE: list[tuple[str, Any]] = [
    *(
        ("calls", [call])
        for call in (
            *([99, [0]], [0, [99]], [0, [-1]], [0, []], [0, "ab"], ["a", [0]], [0.0, [0]]),
            *([True, [0]], [0, [0.5]], [-1, [0, 0]], [-1, [0]], [-5, [0, 1]], None, 3, [0]),
            *([0, [0], 1], [0, 0], [0, [[0]]], [1, [0]], [0, [True]], [0, [0, 0]], [10**30, [0]]),
        )
    ),
    *(("calls", value) for value in (None, 5, [], {}, [[0, [0]]])),
    *(("outputs", value) for value in ([], [99], [-1], 5, ["a"], [True], None, [0])),
    *(("inputs", value) for value in ([], [[1, 1]], None, [["a"]], [[2], [3]])),
    *(("one_input", False), ("one_output", None), ("layers", []), ("layers", [1])),
]


@pytest.mark.parametrize(("key", "value"), DAMAGE, ids=map(str, range(len(DAMAGE))))
def test_a_damaged_file_is_refused(key: str, value: Any) -> None:
    x = nn.Input((2,))
    model = nn.Model(x, nn.ReLU()(nn.Dense(2)(x)))
    description = json.loads(json.dumps(architecture_of(model)))
    layer_from(copy.deepcopy(description), known_layers())
    description[key] = value
    with pytest.raises((TypeError, ValueError), match=r"^(Model|Dense|Input|architecture): "):
        layer_from(description, known_layers())


def test_a_model_knows_the_shapes_for_which_it_is_built() -> None:
    model = nn.Model(X, nn.ReLU()(X))
    for call in (model.summary, model.program, lambda: fastcnn.Predictor(model)):
        with pytest.raises(RuntimeError, match=r"call build\(\) "):
            call()
    with pytest.raises(RuntimeError, match=r"call build\(input_shape\) "):
        nn.ReLU().summary()

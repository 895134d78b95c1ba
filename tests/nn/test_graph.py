"""Networks of any shape: values, gradients, programs, training, copies, files and errors."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import named
import numpy as np
import pytest
from graphs import (
    NETWORKS,
    OWN,
    SEVERAL,
    SHAPE,
    as_built,
    handed_on,
    inputs_of,
    nested,
    noisy,
    several,
)

import fastcnn
from fastcnn import nn, optim
from fastcnn._architecture import architecture_of
from fastcnn._several import ends_in
from fastcnn.nn import _symbol
from fastcnn.nn._places import run_backward
from fastcnn.program import Interpreter, differentiate, trace

ALL: dict[str, Callable[[], nn.Module]] = {**NETWORKS, **SEVERAL}


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


def gradients_like(outputs: list[Any]) -> list[Any]:
    rng = np.random.default_rng(2)
    return [rng.normal(size=y.shape) for y in outputs]


def eager(model: nn.Module, xs: list[Any], backend: Any) -> tuple[list[Any], list[Any], Any]:
    """Return (outputs, gradients of the inputs, of the parameters) of a step by forward."""
    several = isinstance(model.input_shape[0], tuple)
    for parameter in model.parameters().values():
        parameter.grad = np.full(parameter.shape, np.nan)  # of a pass before: nobody may add to it
    y, backward = model.forward(
        tuple(xs) if several else xs[0], backend, training=True, rng=np.random.default_rng(5)
    )
    outputs = listed(y)
    dys = gradients_like(outputs)
    dx = backward(tuple(dys) if isinstance(y, tuple) else dys[0])
    return outputs, listed(dx), {k: v.grad for k, v in model.trained_parameters().items()}


def programmed(model: nn.Module, xs: list[Any], backend: Any) -> tuple[list[Any], list[Any], Any]:
    """Return the same by the model's program."""
    traced = trace(model, len(xs[0]), training=True)
    program = differentiate(traced, [*traced.inputs, *model.trained_parameters()])
    for parameter in model.parameters().values():
        parameter.grad = None
    run = Interpreter(program, backend)
    outputs = run.forward(*xs, rng=np.random.default_rng(5))
    found = run.backward(*gradients_like(outputs))
    dxs = [found.pop(name) for name in traced.inputs]
    # What layers of one's own computed lies in their parameters.
    return outputs, dxs, {k: found.get(k, v.grad) for k, v in model.trained_parameters().items()}


def assert_equal(actual: Any, expected: Any) -> None:
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


# ---------------------------------------------------------------------- values and gradients
@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_a_program_does_what_forward_does(make: Any, backend: Any) -> None:
    model = as_built(make)
    xs = inputs_of(model)
    mine, theirs = programmed(model, xs, backend), eager(model, xs, backend)
    assert_equal(mine[0], theirs[0])
    assert_equal(mine[1], theirs[1])
    for name, gradient in theirs[2].items():
        if mine[2][name] is None:  # no output depends on it
            assert not gradient.any(), name
        else:
            np.testing.assert_allclose(mine[2][name], gradient, rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_gradients_are_those_of_finite_differences(make: Any, backend: Any) -> None:
    model = as_built(make)
    xs = inputs_of(model, 2)

    def loss() -> float:
        x = tuple(xs) if isinstance(model.input_shape[0], tuple) else xs[0]
        y, _ = model.forward(x, backend, training=True, rng=np.random.default_rng(5))
        ys = listed(y)
        return float(sum(np.sum(a * b) for a, b in zip(ys, gradients_like(ys), strict=True)))

    _, dxs, gradients = eager(model, xs, backend)
    pairs = [(f"x{at}", x, dx) for at, (x, dx) in enumerate(zip(xs, dxs, strict=True))]
    parameters = model.parameters()
    pairs += [(name, parameters[name].data, dw) for name, dw in gradients.items()]
    for name, array, gradient in pairs:
        for at in itertools.islice(np.ndindex(array.shape), 0, array.size, max(1, array.size // 4)):
            before, results = array[at], []
            for step in (1e-6, -1e-6):
                array[at] = before + step
                results.append(loss())
            array[at] = before
            expected = (results[0] - results[1]) / 2e-6
            np.testing.assert_allclose(
                gradient[at], expected, rtol=1e-5, atol=1e-6, err_msg=f"{name} {at}"
            )


def test_the_gradients_of_places_are_added_in_the_program() -> None:
    x, dense = nn.Input((2,)), nn.Dense(2, use_bias=False)
    model = nn.Model(x, dense(dense(x)))
    model.build()
    text = str(model.program(gradients=True)).split("\n\n")[1]
    assert [line.split("  ")[0] for line in text.splitlines()] == [
        "d(0.linear), d(0.weight), _ = linear_backward(d(0.linear_2), 0.linear, 0.weight)",
        "_, d(0.weight)_2, _ = linear_backward(d(0.linear), x, 0.weight, input_gradient=False)",
        "d(0.weight)_3 = add(d(0.weight), d(0.weight)_2)",
        "return d(0.weight)_3",
    ]


def test_places_that_leave_no_gradient_add_none(backend: Any) -> None:
    dense, used, one = as_dense(0), set[int](), np.ones((2, 3), np.float32)
    dense.weight.grad = one  # of a pass before
    run_backward(lambda dy: dy, None, dense, used, backend)
    assert dense.weight.grad is None
    run_backward(lambda dy: setattr(dense.weight, "grad", one), None, dense, used, backend)
    run_backward(lambda dy: dy, None, dense, used, backend)
    np.testing.assert_array_equal(dense.weight.grad, one)


def test_the_interpreter_counts_gradients(backend: Any) -> None:
    model = as_built(several)
    run = Interpreter(differentiate(trace(model, 2), model.parameters()), backend)
    run.forward(*inputs_of(model, 2))
    with pytest.raises(ValueError, match="backward: expected 2 gradients, one an output, got 1"):
        run.backward(np.ones((2, 6)))


# ---------------------------------------------------------------------- training
def data(count: int = 6) -> tuple[Any, Any]:
    x = np.random.default_rng(1).normal(size=(count, *SHAPE)).astype(np.float32)
    return x, np.arange(count) % 3


def fitted(make: Any, backend: Any, epochs: int = 2, **options: Any) -> fastcnn.Trainer:
    trainer = fastcnn.Trainer(make(), backend=backend, seed=2, **options)
    trainer.fit(*data(), batch_size=4, epochs=epochs, verbose=False)
    return trainer


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_training_is_the_same_on_both_backends(make: Any) -> None:
    fast, slow = (fitted(make, backend) for backend in ("fast", "reference"))
    np.testing.assert_allclose(fast.history["step_loss"], slow.history["step_loss"], rtol=1e-4)
    slow.model.load_state_dict(fast.model.state_dict())
    x, _ = data()
    np.testing.assert_allclose(fast.predict(x), slow.predict(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make", [several, noisy, nested, handed_on, named.by_layers, named.by_keys]
)
def test_several_outputs_train_the_same_on_both_backends(make: Any, dtype: Any) -> None:
    rng, found, tolerance = np.random.default_rng(3), [], 1e-4 if dtype == np.float32 else 1e-9
    model = make()
    model.build(dtype=dtype)
    x = inputs_of(model, 6, dtype)
    y = [rng.standard_normal((6, size)).astype(dtype) for (size,) in model.output_shape]
    y[-1] = rng.integers(0, y[-1].shape[1], 6)
    loss = ["mse"] * (len(y) - 1) + ["cross_entropy"]
    for backend in ("fast", "reference"):
        trainer = fastcnn.Trainer(copy.deepcopy(model), loss=loss, backend=backend, seed=4)
        trainer.fit(x if len(x) > 1 else x[0], y, batch_size=4, epochs=3, verbose=False)
        found.append([trainer.history["step_loss"], *trainer.model.state_dict().values()])
    assert len(found[0][0]) == 6
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_training_moves_weights_by_the_gradients_of_forward(make: Any) -> None:
    """One step of plain SGD: both ways to train could be wrong alike."""
    trainer = fastcnn.Trainer(make(), optimizer=optim.SGD(1.0), seed=2, loss="mse", dtype="f8")
    twin = make()
    x = data(3)[0].astype(np.float64)
    twin.build(SHAPE, seed=2, dtype="f8")
    if any(isinstance(each, nn.Dropout) for each in twin.modules()):
        for model in (trainer.model, twin):
            for each in model.modules():
                if isinstance(each, nn.Dropout):
                    each.rate = 0.0  # whose masks are the trainer's own
    before = twin.state_dict()
    trainer.fit(x, np.zeros((3, 3)), batch_size=3, shuffle=False, verbose=False)
    y, backward = twin.forward(x, trainer.backend, training=True)
    backward(2 * y / y.size)
    after = trainer.model.state_dict()
    for name, parameter in twin.parameters().items():
        moved = before[name] - after[name]
        np.testing.assert_allclose(moved, parameter.grad, rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_threads_and_batches_leave_no_trace(make: Any) -> None:
    x, _ = data()
    results = []
    for threads in (1, 2, 3, 8):
        trainer = fitted(make, fastcnn.FastBackend(num_threads=threads))
        outputs = trainer.predict(x)
        single = [trainer.predict(x[at : at + 1]) for at in range(len(x))]
        np.testing.assert_array_equal(np.concatenate(single), outputs)
        results.append((*trainer.model.state_dict().values(), outputs))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ["branches", "shared inside", "shared Foreign", "unused head"])
def test_training_is_taken_up_again(name: str, tmp_path: Path) -> None:
    make = NETWORKS[name]
    whole = fitted(make, "fast", 4, optimizer="adam")
    first = fitted(make, "fast", 2, optimizer="adam")
    first.save_state(tmp_path / "state")
    second = fastcnn.Trainer(make(), optimizer="adam")
    second.load_state(tmp_path / "state")
    second.fit(*data(), batch_size=4, epochs=2, verbose=False)
    for key, array in whole.model.state_dict().items():
        np.testing.assert_array_equal(second.model.state_dict()[key], array)


def test_what_no_output_depends_on_is_not_trained() -> None:
    for backend in ("fast", "reference"):
        trainer = fastcnn.Trainer(NETWORKS["unused head"](), backend=backend, seed=2)
        trainer.model.build(SHAPE, seed=2)
        before = trainer.model.state_dict()
        trainer.fit(*data(), batch_size=4, verbose=False)
        after = trainer.model.state_dict()
        changed = [name for name in before if not np.array_equal(before[name], after[name])]
        assert changed == ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]


# ---------------------------------------------------------------------- copies and files
@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_files_and_copies_compute_the_same(make: Any, tmp_path: Path) -> None:
    model = as_built(make)
    x = tuple(inputs_of(model))
    x = x if isinstance(model.input_shape[0], tuple) else x[0]
    backend = fastcnn.FastBackend()
    expected = listed(model(x, backend))
    model.save(tmp_path / "model.safetensors")
    read = fastcnn.load(tmp_path / "model.safetensors", layers=OWN)
    twin = make()
    twin.build(model.input_shape, dtype="f8")
    twin.load_state_dict(model.state_dict())
    for other in (read, twin, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert architecture_of(other) == architecture_of(model)
        assert repr(other) == repr(model)
        assert other.summary() == model.summary()
        assert str(other.program(2)) == str(model.program(2))
        for one, two in zip(listed(other(x, backend)), expected, strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_model_in_words() -> None:
    x = nn.Input((2,))
    model = nn.Model(x, nn.concat([nn.Dense(3)(x), x]))
    text = "Model(\n  (0): Dense(units=3)\n  (1): Concat()\n)"
    assert repr(model) == text
    assert model._repr_html_() == f"<pre>{text}</pre>"
    assert model.build(seed=7) == (5,)
    np.testing.assert_array_equal(
        model.layers[0].weight.data, as_dense(seed=7).weight.data, "the seed is that of build"
    )
    assert model.summary().splitlines()[2:] == [
        "0 Dense   (3,)                   9",
        "1 Concat  (5,)                   0",
        "----------------------------------",
        "Input (2,), float32",
        "Trained parameters: 9",
    ]
    assert "<td>0 Dense</td>" in model._repr_html_()
    assert list(model.state_dict()) == ["0.weight", "0.bias"]


def as_dense(seed: int) -> Any:
    dense = nn.Dense(3)
    dense.build((2,), seed=seed)
    return dense


def test_symbols_of_another_process_have_higher_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    x = nn.Input((3,))
    y = nn.Dense(2)(x)
    monkeypatch.setattr(_symbol, "_counter", itertools.count())
    model = nn.Model(x, nn.Dense(4)(nn.ReLU()(y)))
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "ReLU", "Dense"]


def test_layers_that_are_built_are_called() -> None:
    """A part of a trained network, at places of other sizes too, keeps its weights."""
    part = nn.Sequential([nn.Conv2D(2, 3), nn.BatchNorm()])
    part.build((8, 8, 2))
    weights = part[0].weight.data
    x = nn.Input(SHAPE)
    model = nn.Model(x, part(nn.ReLU()(x)))
    model.build()
    assert model.output_shape == (4, 4, 2)
    assert part.output_shape == (6, 6, 2)
    assert part[0].weight.data is weights


@pytest.mark.parametrize(
    ("make", "softmax"),
    [
        (lambda x: nn.Dropout(0.1)(nn.Softmax()(x)), True),
        (lambda x: nn.Dense(3)(nn.Softmax()(x)), False),
        (lambda x: nn.Sequential([nn.Dense(3), nn.Softmax()])(x), True),
        (lambda x: nn.multiply(nn.Dense(3)(x), nn.Softmax()(x)), False),
        (lambda x: x, False),
        (lambda x: (lambda s: s(nn.Dense(3)(s(x))))(nn.Softmax()), True),
    ],
)
def test_the_end_of_a_model_is_that_of_its_output(make: Any, softmax: bool) -> None:
    x = nn.Input((3,))
    model = nn.Model(x, make(x))
    assert ends_in(model, "softmax") is softmax

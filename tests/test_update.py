"""The optimizer's step and the look at its gradients as one call: all of it is done, or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_optim import OPTIMIZERS, OneByOne, many_parameters, parameters_of
from trainers import assert_same_state, plain, state_of, striped_images, trainer_of

import fastcnn
from fastcnn import FastBackend, _update, nn, optim
from fastcnn._finite import largest_gradient
from fastcnn._update import Update
from fastcnn.fast import _optimizer

RATE = 0.1
PLACES = [("0", 0), ("2", 0), ("3", 4095), ("3", 4096), ("3", -1), ("5", -1), ("96", 6)]
X, Y = striped_images(24)


def arrays_of(parameters: dict[str, nn.Parameter], state: dict[str, Any]) -> list[bytes]:
    arrays = [*(parameter.data for parameter in parameters.values()), *state.values()]
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("same_arrays", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_wild_gradient_anywhere_stops_all(
    name: str, same_arrays: bool, dtype: Any, rng: np.random.Generator, fast_backend: Any
) -> None:
    optimizer = OPTIMIZERS[name][0]()
    rate = RATE * (1 + optimizer.weight_decay)
    limit = largest_gradient(dtype.itemsize, rate, optimizer.squares_gradients)
    parameters = many_parameters(rng, dtype)
    state = optimizer.init(parameters)
    for threads in (1, 2, 3, 8):
        update = Update(optimizer, parameters, FastBackend(fast_backend.isa, threads))
        for key, place in PLACES:
            gradient = parameters[key].grad
            assert gradient is not None
            usual = gradient.reshape(-1)[place]
            for value in (np.nan, np.inf, -np.inf, 1.001 * limit, -1.001 * limit):
                before = arrays_of(parameters, state)
                gradient.reshape(-1)[place] = value
                assert update(state, 1, RATE, same_arrays) == key, (threads, place, value)
                assert arrays_of(parameters, state) == before, (threads, place, value)
            gradient.reshape(-1)[place] = usual
            assert update(state, 1, RATE, same_arrays) is None
            assert arrays_of(parameters, state) != before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_up_to_the_limit_a_step_is_taken(name: str, dtype: Any, fast_backend: Any) -> None:
    optimizer = OPTIMIZERS[name][0]()
    rate = RATE * (1 + optimizer.weight_decay)
    limit = largest_gradient(dtype.itemsize, rate, optimizer.squares_gradients)
    for size in (1, 8, 100):
        for value in (0.999 * limit, -0.999 * limit):
            parameters = parameters_of({"a": np.ones(size, dtype)})
            parameters["a"].grad = np.full(size, value, dtype)
            state = optimizer.init(parameters)
            assert Update(optimizer, parameters, fast_backend)(state, 1, RATE, True) is None
            assert (parameters["a"].data != 1).all()
            assert all(np.isfinite(array).all() for array in state.values())


@pytest.mark.parametrize("same_arrays", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_bits_are_those_of_the_optimizers_own_step(
    name: str, same_arrays: bool, dtype: Any, rng: np.random.Generator, fast_backend: Any
) -> None:
    optimizer = OPTIMIZERS[name][0]()
    parameters = many_parameters(rng, dtype)
    start = {key: parameter.data.copy() for key, parameter in parameters.items()}

    def steps(backend: Any) -> list[bytes]:
        for key, parameter in parameters.items():
            parameter.data = start[key].copy()
        state = optimizer.init(parameters)
        update = Update(optimizer, parameters, backend)
        for step in (1, 2, 3):
            assert update(state, step, RATE, same_arrays) is None
        return arrays_of(parameters, state)

    alone = OneByOne(fast_backend)
    expected = steps(alone)
    assert alone.calls == 3 * len(parameters)
    for threads in (1, 2, 3, 8):
        assert steps(FastBackend(fast_backend.isa, threads)) == expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_epoch_looks_at_its_arrays_once(
    name: str, fast_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step runs op by op, the second binds what the others repeat."""
    looks: list[Any] = []
    bind = _optimizer.Optimizer._bound_steps

    def spy(*arguments: Any) -> Any:
        looks.append(arguments)
        return bind(*arguments)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the kernel has looked already")

    monkeypatch.setattr(_optimizer.Optimizer, "_bound_steps", spy)
    monkeypatch.setattr(_update, "wild_gradient", fail)
    model = nn.Sequential([nn.Flatten(), nn.Dense(8, activation="relu"), nn.Dense(3)])
    trainer = trainer_of(fast_backend, model, optimizer=OPTIMIZERS[name][0]())
    trainer.fit(X, Y, batch_size=4, epochs=3, verbose=False)
    assert len(looks) == 3


@pytest.mark.parametrize("same_arrays", [True, False])
def test_other_arrays_are_noticed(same_arrays: bool, fast_backend: Any) -> None:
    parameters = parameters_of({"a": np.ones(3), "b": np.ones(5)})
    optimizer = optim.SGD(0.1, momentum=0.5)
    state = optimizer.init(parameters)
    update = Update(optimizer, parameters, fast_backend)
    for parameter in parameters.values():
        parameter.grad = np.ones(parameter.shape)
    assert update(state, 1, 1.0, same_arrays) is None
    before = parameters["b"].data
    parameters["b"].data = np.full(5, 7.0)
    assert update(state, 2, 1.0, same_arrays) is None
    np.testing.assert_array_equal(before, np.zeros(5))
    np.testing.assert_array_equal(parameters["b"].data, np.full(5, 5.5))
    parameters["b"].grad = np.zeros(5)
    assert update(state, 3, 1.0, same_arrays) is None
    np.testing.assert_array_equal(parameters["b"].data, np.full(5, 4.75))
    parameters["b"].grad = None
    with pytest.raises(ValueError, match="b: expected a gradient, got none"):
        update(state, 4, 1.0, same_arrays)
    np.testing.assert_array_equal(parameters["a"].data, np.full(3, -3.25))


@pytest.mark.parametrize("same_arrays", [True, False])
def test_a_velocity_rests_while_there_is_no_momentum(same_arrays: bool, fast_backend: Any) -> None:
    parameters = parameters_of({"a": np.ones(3)})
    optimizer = optim.SGD(0.1, momentum=0.5)
    state = optimizer.init(parameters)
    update = Update(optimizer, parameters, fast_backend)
    parameters["a"].grad = np.ones(3)
    for step, (momentum, velocity) in enumerate(
        [(0.5, 1.0), (0.5, 1.5), (0.0, 1.5), (0.5, 1.75)], 1
    ):
        optimizer.momentum = momentum
        assert update(state, step, 1.0, same_arrays) is None
        np.testing.assert_array_equal(state["velocity.a"], np.full(3, velocity))


def in_the_midst(change: Callable[[fastcnn.Trainer], None]) -> Callable[[Any], fastcnn.Trainer]:
    """Return what trains on a backend and changes the trainer before its fifth step."""

    def train(backend: Any) -> fastcnn.Trainer:
        trainer = trainer_of(backend)
        trainer.fit(X, Y, batch_size=24, verbose=False)

        def schedule(step: int, steps: int) -> float:
            if step == 4:
                change(trainer)
            return 1.0

        trainer.schedule = schedule
        trainer.fit(X, Y, batch_size=4, epochs=2, verbose=False)
        return trainer

    return train


def replace_state(trainer: fastcnn.Trainer) -> None:
    trainer._optimizer_state = {k: v / 2 for k, v in trainer._optimizer_state.items()}


def set_momentum(value: float) -> Callable[[fastcnn.Trainer], None]:
    def change(trainer: fastcnn.Trainer) -> None:
        trainer.optimizer.momentum = value  # type: ignore[attr-defined]

    return change


@pytest.mark.parametrize(
    "change",
    [replace_state, set_momentum(0.5), set_momentum(0.0)],
    ids=["state", "momentum", "no momentum"],
)
def test_what_changes_in_the_midst_of_an_epoch_is_noticed(
    change: Any, fast_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = in_the_midst(change)
    found = train(fast_backend)
    with monkeypatch.context() as patch:
        patch.setattr(_update, "as_fast", lambda backend: None)
        assert_same_state(state_of(found), state_of(train(fast_backend)))
    assert not np.array_equal(
        state_of(found)["4.weight"], state_of(in_the_midst(id)(fast_backend))["4.weight"]
    )


def test_a_state_that_is_missing_is_named(backend: Any) -> None:
    trainer = trainer_of(backend, optimizer=optim.SGD(0.1))

    def schedule(step: int, steps: int) -> float:
        trainer.optimizer.momentum = 0.9 if step == 4 else 0.0  # type: ignore[attr-defined]
        return 1.0

    trainer.schedule = schedule
    with pytest.raises(RuntimeError, match="expected a state for its settings"):
        trainer.fit(X, Y, batch_size=4, verbose=False)
    assert trainer.step == 4


class Counting(optim.SGD):
    def __init__(self) -> None:
        super().__init__(0.1, momentum=0.9)
        self.calls = 0

    def step(self, *arguments: Any, **options: Any) -> None:
        self.calls += 1
        super().step(*arguments, **options)


def test_a_step_of_ones_own_is_called(backend: Any) -> None:
    counting = Counting()
    trainer_of(backend, optimizer=counting).fit(X, Y, batch_size=4, verbose=False)
    assert counting.calls == 6

    class Own(optim.SGD):
        pass

    own, calls = Own(0.1), []
    own.step = lambda *_, **__: calls.append(None)  # type: ignore[method-assign]
    trainer_of(backend, optimizer=own).fit(X, Y, batch_size=4, verbose=False)
    assert len(calls) == 6


def test_a_refused_step_of_an_epoch_that_repeats(fast_backend: Any) -> None:
    """Weights, velocities and counts are those of before, and training may go on."""
    x = (X / 255).astype(np.float32)
    trainer = trainer_of(fast_backend, plain())
    trainer.fit(x, Y, batch_size=4, verbose=False)
    before: dict[str, Any] = {}
    usual = trainer.optimizer.learning_rate

    def schedule(step: int, steps: int) -> float:
        if step == 10:
            before.update(state_of(trainer))
            return 1e36
        return 1.0

    trainer.schedule = schedule
    with pytest.raises(FloatingPointError, match=r"gradient of .* in step 11 is not finite"):
        trainer.fit(x, Y, batch_size=4, shuffle=False, verbose=False)
    assert_same_state(state_of(trainer), before)
    assert trainer.optimizer.learning_rate == usual
    trainer.schedule = "constant"
    trainer.fit(x, Y, batch_size=4, verbose=False)
    assert math.isfinite(trainer.history["loss"][-1])

"""A plan is kept for as long as it is for the same, and what changes is seen by the next step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from training import NETWORKS, assert_same, data, ending, train

import fastcnn
from fastcnn import FastBackend, _passes, losses, nn, optim
from fastcnn.fast import _plan


class Rebinding(optim.Optimizer):
    """An optimizer of one's own, which gives parameters other arrays and keeps gradients."""

    def __init__(self) -> None:
        super().__init__(0.05, 0.0, None)
        self.before: dict[str, Any] = {}

    def step(self, parameters: Any, state: Any, backend: Any, **options: Any) -> None:
        for name, parameter in parameters.items():
            kept = self.before.get(name, np.float32(0))
            parameter.data = parameter.data - np.float32(0.05) * (parameter.grad + kept)
            self.before[name] = parameter.grad


def test_an_optimizer_of_ones_own(fast_backend: Any, op_by_op: Any, planned: list[Any]) -> None:
    x, y = data()
    expected = op_by_op(fast_backend, NETWORKS["norms"], x, y, options={"optimizer": Rebinding()})
    result = train(fast_backend, NETWORKS["norms"], x, y, options={"optimizer": Rebinding()})
    assert_same(result, expected)
    assert len(set(map(id, planned))) == 8, "a new plan for each step: the arrays are others"


def test_parameters_that_a_schedule_gives_other_arrays(
    fast_backend: Any, op_by_op: Any, planned: list[Any]
) -> None:
    """They are trained from there on: no step takes the old ones for them."""

    def run(how: Any) -> dict[str, Any]:
        model = ending(nn.Flatten())()

        def schedule(step: int, total_steps: int) -> float:
            for parameter in model.parameters().values() if step == 3 else ():
                parameter.data = parameter.data * np.float32(0.5)
            return 1.0

        x, y = data(count=60)
        return how(fast_backend, lambda: model, x, y, options={"schedule": schedule})  # type: ignore[no-any-return]

    expected = run(op_by_op)
    assert_same(run(train), expected)
    assert planned


def test_ops_and_layers_with_a_function_put_in_their_place(fast_backend: Any) -> None:
    """They are called at every step."""
    x, y = data()
    calls: list[str] = []

    def counting(name: str, function: Any) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return function(*arguments, **options)

        return called

    backend = FastBackend(fast_backend.isa)
    vars(backend)["gelu"] = counting("gelu", backend.gelu)
    train(backend, NETWORKS["activations"], x, y)
    assert len(calls) == 2 * 4
    model = ending(nn.Conv2D(5, 3))()
    layer = next(each for each in model.modules() if type(each) is nn.Conv2D)
    vars(layer)["forward"] = counting("forward", layer.forward)
    train(fast_backend, lambda: model, x, y)
    assert calls[8:] == ["forward"] * 2 * 4


def test_what_an_epoch_changes_is_seen_by_the_next(fast_backend: Any, op_by_op: Any) -> None:
    """Callbacks may put other arrays and options in the place of the model's."""

    class Changes(fastcnn.callbacks.Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            for parameter in trainer.model.parameters().values():
                parameter.data = parameter.data * np.float32(0.5)
            trainer.model.layers[0].layers[1].epsilon = 0.1

    x, y = data()
    make = ending(nn.Conv2D(16, 3), nn.BatchNorm(), nn.ReLU())
    expected = op_by_op(fast_backend, make, x, y, epochs=3, callbacks=[Changes()])
    assert_same(train(fast_backend, make, x, y, epochs=3, callbacks=[Changes()]), expected)


class Changing(fastcnn.callbacks.Callback):
    """After an epoch it gives one of the trainer's parts, or of its model's, another value."""

    def __init__(self, change: Callable[[Any], None]) -> None:
        self.change = change

    def on_epoch_end(self, trainer: Any) -> None:
        self.change(trainer)


def frozen(trainer: Any) -> None:
    trainer.model.layers[2].trainable = False
    trainer.model.layers[0].layers[0].trainable = trainer.epoch % 2 == 0


CHANGES: dict[str, Callable[[Any], None]] = {
    "nothing": lambda trainer: None,
    "options": lambda trainer: setattr(trainer.model.layers[0].layers[1], "epsilon", 0.1),
    "frozen layers": frozen,
    "loss": lambda trainer: setattr(trainer, "loss", losses.CrossEntropy(label_smoothing=0.1)),
    "backend": lambda trainer: setattr(trainer, "backend", FastBackend(convolution="direct")),
    "threads": lambda trainer: fastcnn.set_num_threads(trainer.epoch),
}


def trained_in_fits(change: Callable[[Any], None], make: Any, x: Any, y: Any) -> dict[str, Any]:
    """What `train` returns, of three calls of fit with a change behind each."""
    options: Any = {"optimizer": optim.SGD(0.02, momentum=0.9), "seed": 3}
    trainer = fastcnn.Trainer(make(), backend=FastBackend(), **options)
    for _ in range(3):
        trainer.fit(x, y, batch_size=8, verbose=False)
        change(trainer)
    state = {**trainer.history, **trainer.model.state_dict(), **trainer._optimizer_state}
    return {name: np.asarray(value) for name, value in state.items()}


@pytest.mark.parametrize("in_fits", [False, True], ids=["epochs", "fits"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_plan_is_kept_where_nothing_changes(
    name: str, in_fits: bool, op_by_op: Any, planned: list[Any]
) -> None:
    x, y = data(count=32)
    make = ending(nn.Conv2D(16, 3, padding=1), nn.BatchNorm(), nn.ReLU())
    fit = {"epochs": 3, "callbacks": [Changing(CHANGES[name])]}
    fastcnn.set_num_threads(2)
    try:
        expected = op_by_op(FastBackend(), make, x, y, **fit)
        fastcnn.set_num_threads(2)
        if in_fits:
            found = trained_in_fits(CHANGES[name], make, x, y)
        else:
            found = train(FastBackend(), make, x, y, **fit)
        assert_same(found, expected)
    finally:
        fastcnn.set_num_threads(None)
    plans = list(dict.fromkeys(planned))
    assert (len(plans) == 1) == (name == "nothing")


def test_layers_that_share_an_array_for_a_while() -> None:
    """A program tells parameters apart by their arrays."""

    class Without(FastBackend):
        """Without plans, as each that is not the house's own."""

    class Sharing(fastcnn.callbacks.Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            one, other = (trainer.model.layers[0].layers[at].weight for at in (1, 2))
            one.data = other.data if trainer.epoch % 2 else other.data.copy()

    x, y = data((6, 2, 3), count=24)
    make = ending(nn.Flatten(), nn.Dense(36), nn.Dense(36))
    fit: Any = {"epochs": 5, "callbacks": [Sharing()]}
    assert_same(train(FastBackend(), make, x, y, **fit), train(Without(), make, x, y, **fit))


def test_a_plan_of_many_bytes_does_not_wait_for_another_fit(
    planned: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data(count=8)
    for most, kept in ((None, True), (0, False)):
        if most is not None:
            monkeypatch.setattr(_passes, "_MOST_BYTES", most)
        trained_in_fits(lambda trainer: None, ending(nn.Conv2D(5, 3)), x, y)
        assert (len(dict.fromkeys(planned)) == 1) == kept
        planned.clear()


def test_a_plan_that_is_kept_takes_batches_where_they_come(
    fast_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every epoch they come in the plan's own arrays: none is copied."""
    inputs: set[int] = set()
    forward = _plan.Plan.forward

    def spy(plan: Any, *given: Any, **options: Any) -> Any:
        assert all(own is each for own, each in zip(plan.inputs, given, strict=True))
        inputs.update(map(id, given))
        return forward(plan, *given, **options)

    monkeypatch.setattr(_plan.Plan, "forward", spy)
    x, y = data()
    train(fast_backend, NETWORKS["dense"], x, y, epochs=3)
    assert len(inputs) == 4, "two for each of two sizes"


def test_options_that_are_set_in_mid_epoch_hold_from_the_next_step_on(backend: Any) -> None:
    x, y = data((5, 5, 3), count=32)

    def trained(parts: list[slice], at: int) -> dict[str, Any]:
        model = ending(nn.BatchNorm(), nn.Dropout(0.25), nn.LeakyReLU(), nn.ELU())()

        def change() -> None:
            norm, dropout, leaky, elu = model.layers[0].layers
            norm.momentum, dropout.rate, leaky.negative_slope, elu.alpha = 0.5, 0.75, 0.5, 2.0
            norm.epsilon, norm.running_variance = 0.1, "biased"

        def schedule(step: int, total_steps: int) -> float:
            if step == at:  # it is asked behind the forward pass
                change()
            return 0.5

        trainer = fastcnn.Trainer(model, backend=backend, seed=3, schedule=schedule)
        for number, part in enumerate(parts):
            if number:
                change()
            trainer.fit(x[part], y[part], batch_size=8, shuffle=False, verbose=False)
        return trainer.model.state_dict()

    expected = trained([slice(0, 16), slice(16, 32)], at=-1)
    assert_same(trained([slice(0, 32)], at=1), expected)

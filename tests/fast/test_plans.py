"""Steps that are planned train to the bits of the same ops called one by one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from calls import OPS, UPDATED, arguments, each, run

import fastcnn
from fastcnn import FastBackend, losses, nn, optim
from fastcnn._kernels import _memory
from fastcnn.fast import _plan
from fastcnn.program import Interpreter

CLASSES = 4


@pytest.fixture
def op_by_op(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """`train` without plans: the same programs, fused too, are interpreted."""

    def run(*arguments: Any, **options: Any) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(_plan, "Plan", lambda program, backend, *_: Interpreter(program, backend))
            return train(*arguments, **options)

    return run


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that grows by a plan for each step that one takes."""
    seen: list[Any] = []
    backward = _plan.Plan.backward

    def spy(plan: Any, *gradients: Any) -> Any:
        seen.append(plan)
        return backward(plan, *gradients)

    monkeypatch.setattr(_plan.Plan, "backward", spy)
    return seen


def data(shape: tuple[int, ...] = (12, 12, 3), count: int = 30, dtype: Any = np.uint8) -> Any:
    rng = np.random.default_rng(7)
    x = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    x[:, :4] = 0  # blank margins
    return (x if dtype == np.uint8 else (x / 255).astype(dtype)), rng.integers(0, CLASSES, count)


def train(
    backend: Any,
    make: Callable[[], nn.Module],
    x: Any,
    y: Any,
    dtype: Any = np.float32,
    options: Any = (),
    **fit: Any,
) -> dict[str, Any]:
    """Train for two epochs of three batches and a rest; return all that training changes."""
    options = {"optimizer": optim.SGD(0.02, momentum=0.9), "seed": 3, **dict(options)}
    trainer = fastcnn.Trainer(make(), backend=backend, dtype=dtype, **options)
    fit = {"epochs": 2, "batch_size": 8, "verbose": False, **fit}
    history = trainer.fit(x, y, **fit)
    state = {**trainer.model.state_dict(), **trainer._optimizer_state}
    return {name: np.asarray(value) for name, value in (history | state).items()}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.tobytes() == other[name].tobytes(), name


def ending(*layers: nn.Module) -> Callable[[], nn.Module]:
    """A function that gives new layers of these kinds each time, with a classifier behind them."""

    def make() -> nn.Module:
        made = copy.deepcopy(layers)
        return nn.Sequential([nn.Sequential(made), nn.Flatten(), nn.Dense(CLASSES)])

    return make


def relu(filters: int, kernel: int = 3, **options: Any) -> nn.Conv2D:
    return nn.Conv2D(filters, kernel, activation="relu", **options)


NETWORKS = {
    "blocks": ending(relu(16), nn.MaxPool2D(2), relu(20), nn.MaxPool2D(2)),
    "a block without bias": ending(relu(16, use_bias=False, padding=1), nn.MaxPool2D(3, stride=2)),
    "dense": ending(nn.Flatten(), nn.Dense(33, activation="relu"), nn.Dense(7), nn.ReLU()),
    "activations": ending(
        nn.Conv2D(5, 3, activation="gelu"),
        nn.LeakyReLU(),
        nn.ELU(),
        nn.SiLU(),
        nn.Flatten(),
        nn.Dense(9, activation="tanh"),
        nn.Sigmoid(),
        nn.Softmax(),
    ),
    "norms": ending(
        nn.Conv2D(16, 3),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Conv2D(16, 3),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.Conv2D(7, 1),
        nn.BatchNorm(running_variance="biased"),
        nn.Flatten(),
        nn.Dense(8),
        nn.BatchNorm(momentum=0.5),
    ),
    "pools": ending(
        nn.Conv2D(5, 3, padding="same"), nn.MaxPool2D(3, stride=2, padding=1), nn.AvgPool2D(2)
    ),
    "global average": ending(nn.Conv2D(5, 3), nn.GlobalAvgPool2D()),
    "global maximum": ending(nn.Conv2D(5, 3), nn.GlobalMaxPool2D()),
    "strides": ending(nn.Conv2D(5, 1), nn.Conv2D(6, 1, stride=2), nn.Conv2D(4, 2, stride=3)),
    "groups": ending(nn.Conv2D(16, 3), nn.Conv2D(16, 3, groups=4), nn.Conv2D(6, 3, groups=2)),
    "depthwise": ending(nn.Conv2D(32, 3), nn.DepthwiseConv2D(3, padding=1), nn.Conv2D(32, 3)),
    "larger images": ending(
        nn.Conv2D(5, 3, stride=3),
        nn.Conv2DTranspose(6, 2, stride=2, activation="relu"),
        nn.UpSample2D(2),
        nn.Conv2DTranspose(7, 3, padding=1),
        nn.UpSample2D(2, method="bilinear"),
        nn.MaxPool2D(4),
    ),
    "larger images with gaps": ending(
        nn.Conv2D(5, 3, stride=3),
        nn.Conv2DTranspose(6, 1, stride=2),
        nn.Conv2DTranspose(16, 2, stride=3, output_padding=1, groups=2),
        nn.Conv2DTranspose(16, 1, stride=2, groups=16),
    ),
    "residuals": lambda: nn.Sequential(
        [
            nn.Residual(nn.Conv2D(3, 3, padding=1)),
            nn.Residual(nn.Conv2D(6, 3, padding=1), nn.Conv2D(6, 1)),
            nn.Flatten(),
            nn.Dense(CLASSES),
        ]
    ),
    "winograd": ending(nn.Conv2D(16, 3, padding=1), relu(16, padding=1), nn.Conv2D(16, 3)),
}


class Doubled(nn.Conv2D):
    """A layer of one's own, in the guise of one of the house."""

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        y, backward = super().forward(x, backend, **options)
        y *= 2
        return y, lambda dy: backward(dy * 2)


NETWORKS |= {
    "gradients of blocks op by op": ending(
        relu(64, padding=1), relu(64), nn.MaxPool2D(2, stride=1)
    ),
    "dropout": ending(relu(8), nn.Flatten(), nn.Dropout(0.5)),
    "a layer of one's own": ending(Doubled(8, 3), nn.ReLU()),
    "blocks of grouped convolutions": ending(relu(6, groups=3), nn.MaxPool2D(2)),
    "blocks that run op by op": ending(relu(32, padding=1), relu(32), nn.MaxPool2D(3, stride=1)),
    "norms of odd channels": ending(nn.Conv2D(7, 3), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_plans_have_the_bits_of_ops(
    name: str, dtype: Any, fast_backend: Any, op_by_op: Any, planned: list[Any]
) -> None:
    x, y = data()
    expected = op_by_op(fast_backend, NETWORKS[name], x, y, dtype)
    assert not planned
    assert_same(train(fast_backend, NETWORKS[name], x, y, dtype), expected)
    assert len(planned) == 8
    assert len(set(map(id, planned))) == 2, "one a size of batch, in both epochs"


@pytest.mark.parametrize("op", [op for op in OPS if op not in UPDATED])
def test_an_op_that_is_bound_looks_at_numbers_when_it_is_run(
    op: str, dtype: Any, fast_backend: Any
) -> None:
    """What it is bound to are shapes alone: its arrays hold other numbers by then.

    But for what they are divided by: losses with weights are not bound.
    """
    for seed in range(8):
        rng = np.random.default_rng(seed)
        call = {
            k: v for k, v in arguments(op, rng, dtype, fast_backend).items() if "_weights" not in k
        }
        call = {name: each(np.ascontiguousarray, value) for name, value in call.items()}
        binder = _plan._Binder(fast_backend, 2, _plan._Memory())
        bound = {name: each(np.ones_like, value) for name, value in call.items()}
        results = run(binder, op, bound)
        for name, value in call.items():
            if isinstance(value, list) and isinstance(value[0], np.ndarray):
                for own, numbers in zip(bound[name], value, strict=True):
                    np.copyto(own, numbers)
            elif isinstance(value, np.ndarray):
                np.copyto(bound[name], value)
        returned = [each_call() for each_call in binder.taken()]
        for result, expected in zip(results, run(fast_backend, op, call), strict=True):
            if isinstance(expected, float):
                assert returned[-1] == expected
            elif expected is not None:
                np.testing.assert_array_equal(result, expected)


class Halved(losses.CrossEntropy):
    def __call__(self, prediction: Any, target: Any, backend: Any) -> Any:
        loss, backward = super().__call__(prediction, target, backend)
        return loss / 2, lambda: backward() / 2


LOSSES: dict[str, tuple[Any, Any]] = {
    "smoothed": (lambda: losses.CrossEntropy(label_smoothing=0.1), None),
    "of classes that weigh": (lambda: losses.CrossEntropy(class_weights=[1, 2, 0, 3]), None),
    "of probabilities": (losses.CrossEntropy, lambda y: np.eye(CLASSES)[y] * 0.7 + 0.075),
    "squared": (losses.MeanSquaredError, lambda y: np.eye(CLASSES)[y]),
    "of one's own": (Halved, None),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, fast_backend: Any, op_by_op: Any, planned: list[Any]) -> None:
    make, targets = LOSSES[name]
    x, y = data()
    y = y if targets is None else targets(y)
    options = {"loss": make()}
    expected = op_by_op(fast_backend, NETWORKS["blocks"], x, y, options=options)
    assert_same(train(fast_backend, NETWORKS["blocks"], x, y, options=options), expected)
    assert planned


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": optim.SGD(0.1, clip_norm=0.1)},
        {"optimizer": optim.Adam(clip_norm=0.5)},
        {"optimizer": optim.AdamW(), "schedule": "warmup-cosine"},
    ],
)
def test_optimizers(options: Any, fast_backend: Any, op_by_op: Any, planned: list[Any]) -> None:
    x, y = data()
    expected = op_by_op(fast_backend, NETWORKS["norms"], x, y, options=options)
    assert_same(train(fast_backend, NETWORKS["norms"], x, y, options=options), expected)
    assert planned


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


def test_a_loss_of_ones_own_may_keep_its_arrays(fast_backend: Any) -> None:
    x, y = data()
    kept: list[Any] = []

    class Keeping(losses.CrossEntropy):
        def __call__(self, prediction: Any, target: Any, backend: Any) -> Any:
            kept.append(target)
            return super().__call__(prediction, target, backend)

    train(fast_backend, NETWORKS["blocks"], x, y, options={"loss": Keeping()}, shuffle=False)
    assert np.concatenate(kept).tolist() == [*y, *y]


@pytest.mark.parametrize("fit", [{"shuffle": False}, {"drop_last": True}, {"batch_size": 1}])
@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", ">f4", "float64"])
def test_batches(kind: str, fit: Any, fast_backend: Any, op_by_op: Any, planned: list[Any]) -> None:
    """Images of any dtype, in any order and number, in C order and not."""
    x, y = data(dtype=np.dtype(kind))
    for images in (x, np.asfortranarray(x), x[:, ::-1], x.view(np.ma.MaskedArray)):
        expected = op_by_op(fast_backend, NETWORKS["blocks"], images, y, **fit)
        del planned[:]
        assert_same(train(fast_backend, NETWORKS["blocks"], images, y, **fit), expected)
        assert planned


def test_threads(fast_backend: Any) -> None:
    x, y = data((28, 28, 1), 100)
    make = ending(relu(32), nn.MaxPool2D(2), relu(64), nn.MaxPool2D(2))
    one, *others = (
        train(FastBackend(fast_backend.isa, threads), make, x, y, batch_size=32)
        for threads in (1, 2, 3, 8)
    )
    for other in others:
        assert_same(other, one)


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


@pytest.mark.parametrize("name", CHANGES)
def test_a_plan_is_kept_over_epochs_where_nothing_changes(
    name: str, op_by_op: Any, planned: list[Any]
) -> None:
    x, y = data(count=32)
    make = ending(nn.Conv2D(16, 3, padding=1), nn.BatchNorm(), nn.ReLU())
    fit = {"epochs": 3, "callbacks": [Changing(CHANGES[name])]}
    fastcnn.set_num_threads(2)
    try:
        expected = op_by_op(FastBackend(), make, x, y, **fit)
        fastcnn.set_num_threads(2)
        assert_same(train(FastBackend(), make, x, y, **fit), expected)
    finally:
        fastcnn.set_num_threads(None)
    plans = list(dict.fromkeys(planned))
    assert (len(plans) == 1) == (name == "nothing")


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


def test_a_plan_takes_no_more_memory_than_ops(op_by_op: Any) -> None:
    """Results that nobody reads any more lend their memory to later ones."""
    body = nn.Sequential([nn.Conv2D(32, 3, padding=1), nn.Sigmoid(), nn.Conv2D(32, 3, padding=1)])
    network = [nn.Conv2D(32, 1), nn.Residual(body), nn.Tanh(), nn.GlobalAvgPool2D()]
    make = ending(*network[:1], *network[2:3])
    backend = FastBackend(num_threads=1)
    x, y = data((30, 30, 3), 12)
    taken = []
    for how in (op_by_op, train):
        fastcnn.empty_cache()
        before = sum(_memory.statistics())
        how(backend, make, x, y, batch_size=4)
        taken.append(sum(_memory.statistics()) - before)
    assert taken[1] <= 1.2 * taken[0]

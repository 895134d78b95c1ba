"""Steps whose kernel calls are repeated train to the bits of steps that run op by op."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import FastBackend, losses, nn, optim
from fastcnn._kernels import _memory
from fastcnn._passes import Passes
from fastcnn.fast import _recorder

CLASSES = 4


class OpByOp:
    """A backend that hands calls on: nothing but the ops of the contract is asked of it."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows by one for each step that is repeated."""
    seen: list[None] = []
    repeat = Passes._repeat_backward

    def spy(passes: Passes) -> None:
        seen.append(None)
        repeat(passes)

    monkeypatch.setattr(Passes, "_repeat_backward", spy)
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
    configs = [(type(layer), layer.config()) for layer in layers]

    def make() -> nn.Module:
        made = [kind(**config) for kind, config in configs]
        return nn.Sequential([nn.Sequential(made), nn.Flatten(), nn.Dense(CLASSES)])

    return make


def relu(filters: int, kernel: int = 3, **options: Any) -> nn.Conv2D:
    return nn.Conv2D(filters, kernel, activation="relu", **options)


REPEATED = {
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
    "residuals": ending(
        nn.Residual(nn.Conv2D(3, 3, padding=1)),
        nn.Residual(nn.Conv2D(6, 3, padding=1), nn.Conv2D(6, 1)),
    ),
    "winograd": ending(nn.Conv2D(16, 3, padding=1), relu(16, padding=1), nn.Conv2D(16, 3)),
}


class Doubled(nn.Conv2D):
    """A layer of one's own, in the guise of one of the house."""

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        y, backward = super().forward(x, backend, **options)
        y *= 2
        return y, lambda dy: backward(dy * 2)


OP_BY_OP = {
    "gradients of blocks op by op": ending(
        relu(64, padding=1), relu(64), nn.MaxPool2D(2, stride=1)
    ),
    "dropout": ending(relu(8), nn.Flatten(), nn.Dropout(0.5)),
    "a layer of one's own": ending(Doubled(8, 3), nn.ReLU()),
    "blocks of grouped convolutions": ending(relu(6, groups=3), nn.MaxPool2D(2)),
    "blocks that run op by op": ending(relu(32, padding=1), relu(32), nn.MaxPool2D(3, stride=1)),
    "norms of odd channels": ending(nn.Conv2D(7, 3), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(2)),
}


@pytest.mark.parametrize("name", REPEATED)
def test_repeated_steps_have_the_bits_of_ops(
    name: str, dtype: Any, fast_backend: Any, repeated: list[None]
) -> None:
    x, y = data()
    expected = train(OpByOp(fast_backend), REPEATED[name], x, y, dtype)
    assert not repeated
    assert_same(train(fast_backend, REPEATED[name], x, y, dtype), expected)
    assert len(repeated) == 4, "the second and the third step of each epoch"


@pytest.mark.parametrize("name", OP_BY_OP)
def test_what_is_not_repeated(
    name: str, dtype: Any, fast_backend: Any, repeated: list[None]
) -> None:
    """Where more happens than the calls of kernels, every step runs op by op."""
    x, y = data()
    expected = train(OpByOp(fast_backend), OP_BY_OP[name], x, y, dtype)
    assert_same(train(fast_backend, OP_BY_OP[name], x, y, dtype), expected)
    assert not repeated


def test_two_batches_are_too_few(fast_backend: Any, repeated: list[None]) -> None:
    x, y = data(count=23)
    train(fast_backend, REPEATED["blocks"], x, y)
    assert not repeated


class Halved(losses.CrossEntropy):
    def __call__(self, prediction: Any, target: Any, backend: Any) -> Any:
        loss, backward = super().__call__(prediction, target, backend)
        return loss / 2, lambda: backward() / 2


LOSSES: dict[str, tuple[Any, Any, bool]] = {
    "smoothed": (lambda: losses.CrossEntropy(label_smoothing=0.1), None, True),
    "of classes that weigh": (lambda: losses.CrossEntropy(class_weights=[1, 2, 0, 3]), None, False),
    "of probabilities": (losses.CrossEntropy, lambda y: np.eye(CLASSES)[y] * 0.7 + 0.075, True),
    "squared": (losses.MeanSquaredError, lambda y: np.eye(CLASSES)[y], True),
    "of one's own": (Halved, None, False),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, fast_backend: Any, repeated: list[None]) -> None:
    make, targets, repeats = LOSSES[name]
    x, y = data()
    y = y if targets is None else targets(y)
    options = {"loss": make()}
    expected = train(OpByOp(fast_backend), REPEATED["blocks"], x, y, options=options)
    assert_same(train(fast_backend, REPEATED["blocks"], x, y, options=options), expected)
    assert bool(repeated) == repeats


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": optim.SGD(0.1, clip_norm=0.1)},
        {"optimizer": optim.Adam(clip_norm=0.5)},
        {"optimizer": optim.AdamW(), "schedule": "warmup-cosine"},
    ],
)
def test_optimizers(options: Any, fast_backend: Any, repeated: list[None]) -> None:
    x, y = data()
    expected = train(OpByOp(fast_backend), REPEATED["norms"], x, y, options=options)
    assert_same(train(fast_backend, REPEATED["norms"], x, y, options=options), expected)
    assert repeated


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


def test_an_optimizer_of_ones_own(fast_backend: Any, repeated: list[None]) -> None:
    x, y = data()
    one, other = (
        train(backend, REPEATED["norms"], x, y, options={"optimizer": Rebinding()})
        for backend in (OpByOp(fast_backend), fast_backend)
    )
    assert_same(other, one)
    assert not repeated


def test_parameters_that_a_schedule_gives_other_arrays(
    fast_backend: Any, repeated: list[None]
) -> None:
    """They are trained from there on: no step takes the old ones for them."""

    def run(backend: Any) -> dict[str, Any]:
        model = ending(nn.Flatten())()

        def schedule(step: int, total_steps: int) -> float:
            for parameter in model.parameters().values() if step == 3 else ():
                parameter.data = parameter.data * np.float32(0.5)
            return 1.0

        x, y = data(count=60)
        return train(backend, lambda: model, x, y, options={"schedule": schedule})

    expected = run(OpByOp(fast_backend))
    assert_same(run(fast_backend), expected)
    assert len(repeated) == 3, "until the schedule interferes: NumPy's arrays are not recorded"


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
    train(backend, REPEATED["activations"], x, y)
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

    train(fast_backend, REPEATED["blocks"], x, y, options={"loss": Keeping()}, shuffle=False)
    assert np.concatenate(kept).tolist() == [*y, *y]


@pytest.mark.parametrize("fit", [{"shuffle": False}, {"drop_last": True}, {"batch_size": 1}])
@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", ">f4", "float64"])
def test_batches(kind: str, fit: Any, fast_backend: Any, repeated: list[None]) -> None:
    """Images of any dtype, in any order and number, in C order and not."""
    x, y = data(dtype=np.dtype(kind))
    for images in (x, np.asfortranarray(x), x[:, ::-1], x.view(np.ma.MaskedArray)):
        expected = train(OpByOp(fast_backend), REPEATED["blocks"], images, y, **fit)
        del repeated[:]
        assert_same(train(fast_backend, REPEATED["blocks"], images, y, **fit), expected)
        assert repeated


def test_threads(fast_backend: Any) -> None:
    x, y = data((28, 28, 1), 100)
    make = ending(relu(32), nn.MaxPool2D(2), relu(64), nn.MaxPool2D(2))
    one, *others = (
        train(FastBackend(fast_backend.isa, threads), make, x, y, batch_size=32)
        for threads in (1, 2, 3, 8)
    )
    for other in others:
        assert_same(other, one)


def test_a_loss_that_is_not_finite_leaves_the_model(fast_backend: Any) -> None:
    x, y = data(dtype=np.float32)
    x[10] = np.nan  # of the second batch
    model = REPEATED["norms"]()
    trainer = fastcnn.Trainer(model, backend=fast_backend)
    trainer.fit(x[:8], y[:8], batch_size=8, verbose=False)
    before = model.state_dict()
    with pytest.raises(FloatingPointError, match="the loss of step 3 is nan"):
        trainer.fit(x[:24], y[:24], batch_size=8, shuffle=False, verbose=False)
    assert trainer.step == 2
    assert any((model.state_dict()[name] != before[name]).any() for name in before)
    trainer.fit(x[:8], y[:8], batch_size=8, verbose=False)


def test_what_an_epoch_changes_is_seen_by_the_next(fast_backend: Any) -> None:
    """Callbacks may put other arrays and options in the place of the model's."""

    class Changes(fastcnn.callbacks.Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            for parameter in trainer.model.parameters().values():
                parameter.data = parameter.data * np.float32(0.5)
            trainer.model.layers[0].layers[1].epsilon = 0.1

    x, y = data()
    make = ending(nn.Conv2D(16, 3), nn.BatchNorm(), nn.ReLU())
    expected = train(OpByOp(fast_backend), make, x, y, epochs=3, callbacks=[Changes()])
    assert_same(train(fast_backend, make, x, y, epochs=3, callbacks=[Changes()]), expected)


def wide() -> nn.Module:
    return nn.Sequential([nn.Conv2D(64, 3), nn.Tanh(), nn.GlobalAvgPool2D(), nn.Dense(CLASSES)])


def summed() -> nn.Module:
    """A model that is not recorded to its end."""
    body = nn.Sequential([nn.Conv2D(32, 3, padding=1), nn.Sigmoid(), nn.Conv2D(32, 3, padding=1)])
    return nn.Sequential(
        [nn.Conv2D(32, 1), nn.Residual(body), nn.Tanh(), nn.GlobalAvgPool2D(), nn.Dense(CLASSES)]
    )


@pytest.mark.parametrize("make", [wide, summed])
def test_what_is_not_repeated_takes_no_memory(
    make: Callable[[], nn.Module], repeated: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_recorder, "_MOST_BYTES", 1 << 20)
    backend = FastBackend(num_threads=1)
    x, y = data((30, 30, 3), 12)
    taken = []
    for each in (OpByOp(backend), backend):
        fastcnn.empty_cache()
        before = sum(_memory.statistics())
        train(each, make, x, y, batch_size=4)
        taken.append(sum(_memory.statistics()) - before)
    assert not repeated
    assert taken[1] <= 1.1 * taken[0]


@pytest.mark.parametrize("layer", [nn.ReLU, lambda: nn.Dropout(0.5)], ids=["repeated", "drawn"])
def test_an_epoch_takes_the_memory_of_the_one_before(layer: Callable[[], nn.Module]) -> None:
    """What the steps of an epoch keep dies with it, without the help of the collector of cycles."""
    x, y = data()
    model = nn.Sequential([nn.Conv2D(4, 3), layer(), nn.Flatten(), nn.Dense(CLASSES)])
    trainer = fastcnn.Trainer(model, backend=FastBackend(num_threads=1))
    gc.collect()
    gc.disable()
    try:
        taken = []
        for _ in range(5):
            trainer.fit(x, y, epochs=1, batch_size=10, verbose=False)
            taken.append(sum(_memory.statistics()))
    finally:
        gc.enable()
    assert taken[1:] == taken[1:2] * 4

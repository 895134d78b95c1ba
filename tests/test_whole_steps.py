"""A step is taken whole or not at all, and parts of a trainer change between epochs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import losses, nn, optim
from fastcnn.backend import Array

RNG = np.random.default_rng(0)
X, Y = RNG.random((60, 8, 8, 1), np.float32), np.arange(60) % 3


def plain() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(3)])


class Wide(nn.Module):
    """y = g * x, whose gradient comes in another dtype."""

    def declare(self, input_shape: Any) -> Any:
        self.g = self.declare_parameter("g", input_shape[-1:], lambda rng: np.ones(input_shape[-1]))
        return input_shape

    def forward(self, x: Array, backend: Any, **_: Any) -> Any:
        def backward(dy: Array) -> Array:
            self.g.grad = (dy * x).reshape(-1, x.shape[-1]).sum(0, dtype=np.float64)
            return dy * self.g.data

        return x * self.g.data, backward


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_gradient_of_another_dtype_moves_nothing(optimizer: str, backend: Any) -> None:
    model = nn.Sequential([nn.Conv2D(2, 3), Wide(), nn.Flatten(), nn.Dense(3)])
    trainer = fastcnn.Trainer(model, optimizer=optimizer, backend=backend)
    trainer.predict(X[:1])
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"1.g: expected a gradient of shape \(2,\) and float32"):
        trainer.fit(X, Y, verbose=False)
    assert all((before[name] == array).all() for name, array in model.state_dict().items())


def test_weights_that_lie_otherwise_train_alike(backend: Any) -> None:
    results = []
    for lie in (np.ascontiguousarray, np.asfortranarray):
        model = plain()
        model.build((8, 8, 1))
        layer: Any = model[1]
        layer.weight.data = lie(layer.weight.data)
        fastcnn.Trainer(model, backend=backend).fit(X, Y, verbose=False)
        results.append(model.state_dict()["1.weight"])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    "optimizer",
    [
        optim.SGD(1e38),
        optim.SGD(3e38, momentum=0.9),
        optim.Adam(1e38),
        optim.AdamW(1e30, weight_decay=1e20),
    ],
    ids=repr,
)
def test_a_step_too_far_is_refused(optimizer: optim.Optimizer, backend: Any) -> None:
    trainer = fastcnn.Trainer(plain(), optimizer=optimizer, backend=backend)
    trainer.predict(X[:1])
    before = trainer.model.state_dict()
    with pytest.raises(FloatingPointError, match="try a learning rate below"):
        trainer.fit(X * 1000, Y, verbose=False)
    after = trainer.model.state_dict()
    assert all((before[name] == after[name]).all() for name in before)


@pytest.mark.parametrize(
    ("name", "value"), [("optimizer", "adam"), ("model", plain())], ids=["optimizer", "model"]
)
def test_parts_are_set_between_epochs(name: str, value: Any) -> None:
    trainer = fastcnn.Trainer(plain())

    def schedule(step: int, steps: int) -> float:
        if step == 2:
            setattr(trainer, name, value)
        return 1.0

    trainer.schedule = schedule
    with pytest.raises(RuntimeError, match=f"{name}: expected it to be set between epochs"):
        trainer.fit(X, Y, batch_size=10, verbose=False)
    setattr(trainer, name, value)
    trainer.schedule = "constant"
    trainer.fit(X, Y, verbose=False)


def test_what_a_trainer_does_not_have_is_refused() -> None:
    trainer = fastcnn.Trainer(plain())
    for name in ("lr", "learning_rate", "batch_size"):
        with pytest.raises(AttributeError, match=f"Trainer: {name}: expected an attribute"):
            setattr(trainer, name, 1)

    class Own(fastcnn.Trainer):
        pass

    Own(plain()).lr = 1  # type: ignore[attr-defined]


def test_a_loss_that_is_edited_is_the_edited_one() -> None:
    def edit(change: Callable[[Any], None]) -> float:
        trainer = fastcnn.Trainer(plain(), loss=losses.CrossEntropy(class_weights="balanced"))
        trainer.fit(X[:50], Y[:50] // 2, verbose=False)
        change(trainer.loss)
        return trainer.evaluate(X, Y // 2)["loss"]

    kept = edit(lambda loss: None)
    smooth = edit(lambda loss: setattr(loss, "label_smoothing", 0.5))
    assert smooth != kept
    table = edit(lambda loss: setattr(loss, "class_weights", {0: 1, 1: 5}))
    assert table not in (kept, smooth)


def test_bytes_for_numbers_are_refused() -> None:
    trainer = fastcnn.Trainer(plain(), loss="mean_squared_error")
    with pytest.raises(TypeError, match="got uint8, which may be bytes of images or counts"):
        trainer.evaluate(X, np.eye(3, dtype=np.uint8)[Y])


class Tripled(nn.Sequential):
    """Sequential with a forward of its own."""

    def forward(self, x: Array, backend: Any, **options: Any) -> Any:
        y, backward = super().forward(x, backend, **options)
        return 3 * y + 1, lambda dy: backward(3 * dy)


def test_a_containers_own_forward_is_inference_too(backend: Any) -> None:
    model = nn.Sequential([Tripled([nn.Flatten(), nn.Dense(3)])])
    model.build((8, 8, 1))
    expected = model.forward(X, backend)[0]
    np.testing.assert_array_equal(model(X, backend), expected)
    np.testing.assert_array_equal(fastcnn.Trainer(model, backend=backend).predict(X), expected)
    np.testing.assert_array_equal(fastcnn.Predictor(model, backend)(X), expected)


@pytest.mark.parametrize("behind", [[nn.Dropout(0.1)], [nn.Flatten()]], ids=["Dropout", "Flatten"])
def test_softmax_is_seen_behind_what_keeps_it(behind: list[nn.Module]) -> None:
    model = nn.Sequential([nn.Flatten(), nn.Dense(3, activation="softmax"), *behind])
    with pytest.raises(ValueError, match="ends in a softmax"):
        fastcnn.Trainer(model)
    model.build((8, 8, 1))
    trainer = fastcnn.Trainer(model, loss="mean_squared_error")
    np.testing.assert_array_equal(trainer.predict_proba(X), trainer.predict(X))


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copy_goes_its_own_way(how: Callable[[Any], Any]) -> None:
    trainer = fastcnn.Trainer(plain(), optimizer="adam")
    trainer.fit(X, Y, verbose=False)
    twin = how(trainer)
    before = trainer.model.state_dict()
    twin.fit(X, Y, verbose=False)
    assert (trainer.epoch, len(trainer.history["loss"])) == (1, 1)
    assert all((before[name] == a).all() for name, a in trainer.model.state_dict().items())
    trainer.fit(X, Y, verbose=False)
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, twin.model.state_dict()[name])


class Block(nn.Module):
    """Keeps its argument, and runs it inside of another layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.body = nn.Sequential([nn.Conv2D(2, 3), inner])

    def declare(self, input_shape: Any) -> Any:
        return self.body.plan(input_shape)

    def forward(self, x: Array, backend: Any, **options: Any) -> Any:
        return self.body.forward(x, backend, **options)


def test_an_attribute_may_be_one_more_name_for_a_layer(tmp_path: Any) -> None:
    model = nn.Sequential([Block(nn.Conv2D(3, 3)), nn.Flatten(), nn.Dense(3)])
    fastcnn.Trainer(model).fit(X, Y, verbose=False)
    assert [*model.parameters()][:4] == [
        "0.inner.weight", "0.inner.bias", "0.body.0.weight", "0.body.0.bias"
    ]  # fmt: skip
    model.save(tmp_path / "m")
    twin = fastcnn.load(tmp_path / "m", layers=[Block])
    np.testing.assert_array_equal(
        fastcnn.Trainer(twin).predict(X), fastcnn.Trainer(model).predict(X)
    )


class Doubling(nn.Module):
    """Keeps another number than it was given."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = 2 * factor

    def declare(self, input_shape: Any) -> Any:
        return input_shape

    def forward(self, x: Array, backend: Any, **_: Any) -> Any:
        return x * self.factor, lambda dy: dy * self.factor


def test_a_layer_that_would_come_back_as_another_is_not_saved(tmp_path: Any) -> None:
    model = nn.Sequential([Doubling(1.0), nn.Flatten(), nn.Dense(3)])
    model.build((8, 8, 1))
    with pytest.raises(ValueError, match="keep each argument as it was given"):
        model.save(tmp_path / "m")

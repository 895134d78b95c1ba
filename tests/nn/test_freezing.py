"""Frozen layers: they stay as they are, cost no gradient, and say so wherever they go."""

from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Foreign, Traceable, shared

import fastcnn
from fastcnn import nn, optim
from fastcnn.fast._plan import Plan
from fastcnn.program import Interpreter, differentiate, trace
from fastcnn.serialization import read_tensors

SHAPE = (6, 6, 2)


def network() -> nn.Sequential:
    """With layers that the fast backend fuses, and that it doesn't."""
    return nn.Sequential(
        [
            nn.Conv2D(4, 3, padding="same"),
            nn.BatchNorm(),
            nn.ReLU(),
            nn.MaxPool2D(2),
            nn.Residual(nn.Sequential([nn.Conv2D(4, 3, padding=1), nn.BatchNorm()])),
            nn.UpSample2D(2),
            nn.Conv2DTranspose(4, 2, activation="gelu"),
            nn.Conv2D(4, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(8, activation="relu"),
            nn.Dense(3),
        ]
    )


SETS: list[tuple[int, ...]] = [(0,), (1,), (0, 1), (4,), (6,), (7,), (10,), (11,), (0, 1, 4, 6, 7)]


def frozen(places: tuple[int, ...], dtype: Any = np.float32) -> nn.Sequential:
    model = network()
    model.build(SHAPE, seed=4, dtype=dtype)
    for place in places:
        model[place].trainable = False
    return model


def data() -> tuple[Any, Any]:
    x = np.random.default_rng(1).normal(size=(12, *SHAPE)).astype(np.float32)
    return x, np.arange(12) % 3


def fit(trainer: fastcnn.Trainer, epochs: int = 1, **options: Any) -> fastcnn.Trainer:
    trainer.fit(*data(), batch_size=5, epochs=epochs, verbose=False, **options)
    return trainer


def changed(model: nn.Module, before: dict[str, Any]) -> set[str]:
    return {k for k, v in model.state_dict().items() if not np.array_equal(v, before[k])}


def is_frozen(name: str, places: tuple[int, ...]) -> bool:
    return int(name.split(".")[0]) in places


# ---------------------------------------------------------------------- training
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("places", SETS, ids=str)
def test_what_is_frozen_stays_and_all_else_moves(places: Any, optimizer: str) -> None:
    losses = []
    for backend in ("fast", "reference"):
        model = frozen(places)
        before = model.state_dict()
        trainer = fit(fastcnn.Trainer(model, backend=backend, optimizer=optimizer, seed=1), 2)
        expected = {name for name in before if not is_frozen(name, places)}
        assert changed(model, before) == expected, "running statistics are among them"
        kept = {name.split(".", 1)[1] for name in trainer._optimizer_state}
        assert kept == set(model.trained_parameters())
        assert {name for name in model.parameters() if not is_frozen(name, places)} == kept
        losses.append(trainer.history["step_loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


# Frozen batch normalization normalizes by other numbers.
WITHOUT_NORMS = [places for places in SETS if not {1, 4} & set(places)]


@pytest.mark.parametrize("places", WITHOUT_NORMS, ids=str)
def test_a_frozen_layer_passes_the_gradient_on_as_before(places: Any, backend: Any) -> None:
    x, _ = data()
    x = x[:3].astype(np.float64)
    dy = np.random.default_rng(0).normal(size=(3, 3))
    found = []
    for model in (frozen((), "f8"), frozen(places, "f8")):
        _, backward = model.forward(x, backend, training=True)
        dx = backward(dy)
        found.append((dx, {k: v.grad for k, v in model.parameters().items()}))
    (dx, whole), (dx_frozen, part) = found
    np.testing.assert_allclose(dx_frozen, dx, rtol=1e-9, atol=1e-12)
    for name, gradient in part.items():
        if is_frozen(name, places):
            assert gradient is None, name
        else:
            np.testing.assert_allclose(gradient, whole[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("places", SETS, ids=str)
def test_a_program_does_what_forward_does(places: Any, backend: Any) -> None:
    model = frozen(places, "f8")
    x, dy = data()[0][:3].astype(np.float64), np.random.default_rng(0).normal(size=(3, 3))
    y, backward = model.forward(x, backend, training=True, input_gradient=False)
    backward(dy)
    program = differentiate(trace(model, 3, training=True), model.trained_parameters())
    run = Interpreter(program, backend)
    np.testing.assert_allclose(run.forward(x)[0], y, rtol=1e-9, atol=1e-12)
    gradients = run.backward(dy)
    assert gradients.keys() == model.trained_parameters().keys()
    for name, parameter in model.trained_parameters().items():
        np.testing.assert_allclose(
            gradients[name], parameter.grad, rtol=1e-8, atol=1e-11, err_msg=name
        )


def test_frozen_batch_normalization_uses_running_statistics(backend: Any, dtype: Any) -> None:
    norm = nn.BatchNorm()
    norm.build((4, 4, 2), dtype=dtype)
    norm._running_mean.data[:] = [1, 2]
    norm._running_variance.data[:] = [4, 9]
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype(dtype)
    expected = norm(x, backend)
    assert not np.array_equal(norm.forward(x, backend, training=True)[0], expected)
    norm.apply_updates()
    norm._running_mean.data[:] = [1, 2]
    norm._running_variance.data[:] = [4, 9]
    norm.trainable = False
    y, backward = norm.forward(x, backend, training=True)
    np.testing.assert_array_equal(y, expected)
    assert norm._running_mean.update is None
    dx = backward(np.ones_like(x))
    np.testing.assert_allclose(dx[0, 0, 0], 1 / np.sqrt(np.array([4, 9]) + 1e-5), rtol=1e-5)
    assert norm.gamma.grad is None


def test_frozen_batch_normalization_takes_one_value_a_channel() -> None:
    model = nn.Sequential([nn.Dense(4), nn.BatchNorm(), nn.Dense(3)])
    x = np.random.default_rng(0).normal(size=(5, 2))
    trainer = fastcnn.Trainer(model)
    with pytest.raises(ValueError, match="expected every batch to have at least 2 images"):
        trainer.fit(x, np.arange(5) % 3, batch_size=4, verbose=False)
    model[1].trainable = False
    trainer.fit(x, np.arange(5) % 3, batch_size=4, verbose=False)


def test_no_gradient_is_computed_that_nobody_needs() -> None:
    model = frozen((0, 1, 4))
    text = str(model.program(2, training=True, gradients=True, loss="cross_entropy"))
    backward = [line.split("  ")[0] for line in text.split("\n\n")[1].splitlines()]
    assert [line.split(" = ")[1].split("(")[0] for line in backward[:-1]] == [
        "softmax_cross_entropy_backward",
        *("linear_backward", "relu_backward", "linear_backward", "reshape_backward"),
        *("max_pool2d_backward", "relu_backward", "conv2d_backward", "gelu_backward"),
        "conv2d_transpose_backward",
    ], "the first trained layer is the last to see a gradient"
    assert backward[-2].startswith("_, d(6.weight), d(6.bias) = ")
    assert backward[-2].endswith("input_gradient=False)")
    middle = str(frozen((7, 10)).program(2, training=True, gradients=True))
    assert "d(10.weight)" not in middle
    for op in ("conv2d_backward(d(7.conv2d)", "linear_backward(d(10.linear)"):
        (line,) = [line for line in middle.splitlines() if op in line]
        assert ", _, _ = " in line
        assert "weight_gradient=False" in line


def test_what_is_wanted_alone_is_among_the_results() -> None:
    model = nn.Sequential([nn.Dense(2), nn.BatchNorm(), nn.Dense(2)])
    model.build((3,))
    model[1].trainable = False
    text = str(model.program(2, training=True, gradients=True))
    (line,) = [line for line in text.splitlines() if "batch_norm_inference_backward" in line]
    assert line.startswith("d(0.linear), _, _ = ")


# ---------------------------------------------------------------------- whole parts, callbacks
def test_parts_are_frozen_before_and_after_build() -> None:
    for build_first in (False, True):
        model = network()
        if build_first:
            model.build(SHAPE)
        model.trainable = False
        model[11].trainable = True
        model[4].trainable = True
        if not build_first:
            model.build(SHAPE)
        assert {name.split(".")[0] for name in model.trained_parameters()} == {"4", "11"}
        assert not model[0].trainable
        assert model[4].body[1].trainable
        assert len(model.parameters()) > len(model.trained_parameters())
    x = nn.Input((3,))
    inner = nn.Model(x, nn.Dense(2)(x))
    whole = nn.Model(x, nn.add(inner(x), nn.Dense(2)(x)))
    inner.trainable = False
    whole.build()
    assert list(whole.trained_parameters()) == ["1.weight", "1.bias"]


class Thaw(fastcnn.callbacks.Callback):
    def on_epoch_end(self, trainer: fastcnn.Trainer) -> None:
        if trainer.epoch == 1:
            trainer.model[0].trainable = True
        if trainer.epoch == 2:
            trainer.model[11].trainable = False


def test_a_callback_freezes_and_unfreezes() -> None:
    losses = []
    for backend in ("fast", "reference"):
        trainer = fastcnn.Trainer(frozen((0, 1)), backend=backend, optimizer="adam", seed=3)
        states = []

        class Look(fastcnn.callbacks.Callback):
            def on_epoch_end(self, trainer: fastcnn.Trainer, states: Any = states) -> None:
                states.append((trainer.model.state_dict(), dict(trainer._optimizer_state)))

        fit(trainer, 4, callbacks=[Look(), Thaw()])
        weights = [[state[name] for state, _ in states] for name in ("0.weight", "11.weight")]
        moved = [[not np.array_equal(a, b) for a, b in itertools.pairwise(w)] for w in weights]
        assert moved == [[True, True, True], [True, False, False]]
        assert ["m.0.weight" in kept for _, kept in states] == [False, True, True, True]
        assert ["m.11.weight" in kept for _, kept in states] == [True, True, False, False]
        losses.append(trainer.history["step_loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_all_frozen_is_refused_in_one_sentence() -> None:
    model = network()
    model.trainable = False
    trainer = fastcnn.Trainer(model)
    with pytest.raises(ValueError, match=r"model: expected layers to train, got a model whose lay"):
        fit(trainer)
    assert trainer.evaluate(*data())["loss"] > 0
    model[11].trainable = True
    fit(trainer)


# ---------------------------------------------------------------------- files and copies
def test_files_and_copies_keep_it(tmp_path: Path) -> None:
    model = frozen((0, 4))
    model.save(tmp_path / "model.safetensors")
    _, description = read_tensors(tmp_path / "model.safetensors", "fastcnn-model")
    assert description["frozen"] == ["0", "4", "4.body", "4.body.0", "4.body.1"]
    for other in (
        fastcnn.load(tmp_path / "model.safetensors"),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        pickle.loads(pickle.dumps(fastcnn.Trainer(model))).model,
    ):
        assert other.trained_parameters().keys() == model.trained_parameters().keys()
        assert [each.trainable for each in other.modules()] == [
            each.trainable for each in model.modules()
        ]
    network_ = frozen(())
    network_.save(tmp_path / "all")
    assert "frozen" not in read_tensors(tmp_path / "all", "fastcnn-model")[1]
    network_.trainable = False
    network_.save(tmp_path / "none")
    assert not fastcnn.load(tmp_path / "none").trainable


@pytest.mark.parametrize("value", [None, "0", [0], ["9"], {"0": True}, [["0"]]])
def test_a_damaged_file_is_refused(value: Any) -> None:
    from fastcnn._architecture import known_layers
    from fastcnn.serialization import describe, rebuild

    model = nn.Sequential([nn.Dense(2)])
    model.build((3,))
    model[0].trainable = False
    description = describe(model)
    assert not rebuild(description, known_layers()).layers[0].trainable  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="frozen: expected names of its layers, got"):
        rebuild({**description, "frozen": value}, known_layers())


@pytest.mark.parametrize("built", [False, True])
def test_training_is_taken_up_again(tmp_path: Path, built: bool) -> None:
    def trainer() -> fastcnn.Trainer:
        model = frozen((0, 4)) if built else network()
        for place in (0, 4):
            model[place].trainable = False
        return fastcnn.Trainer(model, optimizer=optim.Adam(), seed=5)

    whole = fit(trainer(), 3)
    first = fit(trainer(), 1)
    first.save_state(tmp_path / "state")
    second = trainer()
    second.load_state(tmp_path / "state")
    fit(second, 2)
    for name, array in whole.model.state_dict().items():
        np.testing.assert_array_equal(second.model.state_dict()[name], array, err_msg=name)
    third = fastcnn.Trainer(network(), optimizer=optim.Adam(), seed=5)
    with pytest.raises(ValueError, match=r"trainable = False of the layers \['0', '4', .* of \[\]"):
        third.load_state(tmp_path / "state")
    assert not third.model.built


def test_a_summary_says_what_is_frozen() -> None:
    model = nn.Sequential([nn.Dense(2), nn.ReLU(), nn.Dense(3)])
    model.build((4,))
    assert "rozen" not in model.summary()
    model[0].trainable = False
    model[1].trainable = False
    lines = [" ".join(line.split()) for line in model.summary().splitlines()]
    assert lines[2:5] == ["0 Dense (frozen) (2,) 10", "1 ReLU (2,) 0", "2 Dense (3,) 9"]
    assert lines[-2:] == ["Trained parameters: 9", "Frozen parameters: 10"]
    assert "Frozen parameters: 10" in model._repr_html_()


# ---------------------------------------------------------------------- layers of one's own
@pytest.mark.parametrize("kind", [Foreign, Traceable])
@pytest.mark.parametrize("part", ["all", "conv"])
def test_layers_of_ones_own_are_frozen(kind: Any, part: str) -> None:
    losses = []
    for backend in ("fast", "reference"):
        model = shared(kind)
        model.build(seed=2)
        own = next(layer for layer in model.layers if isinstance(layer, kind))
        (own if part == "all" else own.conv).trainable = False
        names = [name for name in model.parameters() if part == "all" or ".conv." in name]
        held = {name for name in names if model.layers[int(name[0])] is own}
        before = model.state_dict()
        trainer = fit(fastcnn.Trainer(model, backend=backend, seed=2))
        assert changed(model, before) == set(before) - held
        losses.append(trainer.history["step_loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_a_frozen_layer_of_ones_own_has_no_backward_pass_at_the_front() -> None:
    class Front(Foreign):
        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            y, _ = super().forward(x, backend, **options)

            def refuse(dy: Any) -> Any:
                raise AssertionError

            return y, refuse

    for backend in ("fast", "reference"):
        model = nn.Sequential([Front(), nn.Flatten(), nn.Dense(3)])
        model[0].trainable = False
        fit(fastcnn.Trainer(model, backend=backend))
    x = data()[0][:2]
    plan = Plan(
        differentiate(trace(model, 2, training=True), model.trained_parameters()),
        fastcnn.FastBackend(),
        x,
    )
    plan.forward(x)
    assert not plan._foreign._closures, "nor is what it would need kept"

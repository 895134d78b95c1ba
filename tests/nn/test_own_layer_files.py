"""Layers and containers of a user's own in model files and in states of training."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_serialization import error_of

import fastcnn
from fastcnn import _architecture, nn, serialization


@pytest.fixture(autouse=True)
def _nothing_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_architecture, "_registered", {})


class Scale(nn.Module):
    """y = g * x, one g a channel."""

    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.start = start

    def declare(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        shape = input_shape[-1:]
        self.g = self.declare_parameter("g", shape, lambda rng: np.full(shape, self.start))
        return input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        g = self.g

        def backward(dy: Any) -> Any:
            g.grad = (dy * x).reshape(-1, len(g.data)).sum(0)
            return dy * g.data

        return x * g.data, backward


class Net(nn.Sequential):
    """A model as a class of its own, without arguments."""

    def __init__(self) -> None:
        super().__init__(
            [nn.Conv2D(3, 3, activation="relu"), Scale(2.0), nn.Flatten(), nn.Dense(2)]
        )


class Wide(nn.Sequential):
    """One whose argument decides its layers."""

    def __init__(self, width: int, *, sizes: Any = (3,)) -> None:
        super().__init__([nn.Conv2D(width, size) for size in sizes] + [nn.Flatten(), nn.Dense(2)])
        self.width = width
        self.sizes = sizes


class Row(nn.Sequential):
    """One that takes its layers one by one, behind an argument."""

    def __init__(self, label: str, *layers: nn.Module) -> None:
        super().__init__(layers)
        self.label = label


class Block(nn.Conv2D):
    """One that hands options on."""

    def __init__(self, filters: int, **options: Any) -> None:
        super().__init__(filters, 3, **options)
        self.options = options


class Around(nn.Residual):
    """A container with an argument called as the files call a layer's name."""

    def __init__(self, layer: nn.Module, table: Any = None) -> None:
        super().__init__(layer)
        self.table = table

    @property
    def layer(self) -> nn.Module:
        return self.body


OWN = [Scale, Net, Wide, Row, Block, Around]
MODELS: list[Any] = [
    lambda: nn.Sequential([nn.Conv2D(3, 3), Scale(0.5), nn.Flatten(), nn.Dense(2)]),
    Net,
    lambda: Wide(4, sizes=[3, 2]),
    lambda: Row("a", nn.Conv2D(2, 3), Scale(), nn.Flatten(), nn.Dense(2)),
    lambda: nn.Sequential(
        [Block(2, padding="same", use_bias=False), Block(3), nn.Flatten(), nn.Dense(2)]
    ),
    lambda: nn.Sequential(
        [Around(Scale(np.float32(3.0)), {"layer": [1, None], "b": {}}), nn.Flatten(), nn.Dense(2)]
    ),
]


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.random((12, 6, 6, 1), dtype=np.float32), rng.integers(0, 2, 12)


def trainer_of(model: nn.Module, epochs: int = 0) -> fastcnn.Trainer:
    trainer = fastcnn.Trainer(model)
    if epochs:
        trainer.fit(*data(), epochs=epochs, batch_size=4, verbose=False)
    return trainer


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("way", ["register", "layers"])
def test_they_save_and_load(make: Any, way: str, tmp_path: Path) -> None:
    for layer in OWN if way == "register" else []:
        assert fastcnn.register(layer) is layer
    given = {"layers": OWN} if way == "layers" else {}
    trainer = trainer_of(make(), epochs=1)
    trainer.model.save(tmp_path / "m", notes={"a": 1})
    loaded = fastcnn.load(tmp_path / "m", **given)  # type: ignore[arg-type]
    assert type(loaded) is type(trainer.model)
    architecture_of = _architecture.architecture_of
    assert architecture_of(loaded) == architecture_of(trainer.model)
    assert loaded.notes == {"a": 1}
    x = data()[0]
    np.testing.assert_array_equal(fastcnn.Trainer(loaded).predict(x), trainer.predict(x))
    trainer_of(loaded, epochs=1)
    loaded.save(tmp_path / "n")


@pytest.mark.parametrize("make", MODELS)
def test_training_resumes_to_the_same_bits(make: Any, tmp_path: Path) -> None:
    whole = trainer_of(make(), epochs=2)
    trainer_of(make(), epochs=1).save_state(tmp_path / "s")
    for begun in (0, 1):
        second = trainer_of(make(), begun)
        second.load_state(tmp_path / "s")
        second.fit(*data(), batch_size=4, verbose=False)
        assert second.history == whole.history
        for name, array in whole.model.state_dict().items():
            np.testing.assert_array_equal(second.model.state_dict()[name], array)


class Careless(nn.Module):
    """A layer that keeps none of its arguments."""

    def __init__(self, size: int, draw: Any = None) -> None:
        super().__init__()
        self._size = size

    def declare(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        self.w = self.declare_parameter("w", (self._size,), lambda rng: np.ones(self._size))
        return input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        def backward(dy: Any) -> Any:
            self.w.grad = np.ones(self._size, np.float32)
            return dy

        return x, backward


def test_what_cannot_be_named_can_be_resumed(tmp_path: Path) -> None:
    def make(size: int = 3) -> nn.Module:
        class Conv2D(nn.Dense):
            """One that has the name of another."""

        return nn.Sequential([nn.Flatten(), Careless(size, print), Conv2D(2)])

    whole = trainer_of(make(), epochs=2)
    trainer_of(make(), epochs=1).save_state(tmp_path / "s")
    second = trainer_of(make())
    second.load_state(tmp_path / "s")
    second.fit(*data(), batch_size=4, verbose=False)
    np.testing.assert_array_equal(second.predict(data()[0]), whole.predict(data()[0]))
    said = error_of(lambda: trainer_of(make(4)).load_state(tmp_path / "s"))
    assert r"state: 1.w: expected shape (4,), got (3,)" in said


def test_states_of_other_models_are_refused(tmp_path: Path) -> None:
    trainer_of(Wide(4), epochs=1).save_state(tmp_path / "s")
    for model in (
        Wide(5),
        Net(),
        nn.Sequential([nn.Conv2D(4, 3), nn.Flatten(), nn.Dense(2)]),
        Wide(4, sizes=[3, 1]),
    ):
        trainer = trainer_of(model)
        assert "of a model with another architecture" in error_of(
            lambda trainer=trainer: trainer.load_state(tmp_path / "s")  # type: ignore[misc]
        )
        assert not model.built
        assert not model.parameters(), "nothing was declared either"


@pytest.mark.parametrize("make", MODELS)
def test_they_pickle(make: Any) -> None:
    trainer = trainer_of(make(), epochs=1)
    twin = pickle.loads(pickle.dumps(trainer))
    for each in (trainer, twin):
        each.fit(*data(), batch_size=4, verbose=False)
    np.testing.assert_array_equal(twin.predict(data()[0]), trainer.predict(data()[0]))


# ---------------------------------------------------------------------- errors
def built(layer: nn.Module) -> nn.Module:
    layer.build((6, 6, 1))
    return layer


def test_a_file_that_names_an_unknown_layer_says_what_to_do(tmp_path: Path) -> None:
    built(Net()).save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"got 'Net'; register .* with fastcnn\.register, or pass"):
        fastcnn.load(tmp_path / "m")
    built(nn.Sequential([Scale()])).save(tmp_path / "n")
    with pytest.raises(ValueError, match="got 'Scale'"):
        fastcnn.load(tmp_path / "n", layers=[Net])


def test_the_command_says_so_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastcnn.cli import main

    built(nn.Sequential([Scale()])).save(tmp_path / "m")
    assert main(["info", str(tmp_path / "m")]) == 2
    assert "register a class of this name with fastcnn.register" in capsys.readouterr().err


def test_names_are_taken_once() -> None:
    def another() -> type[nn.Module]:
        class Scale(nn.Module):
            pass

        return Scale

    def house() -> type[nn.Module]:
        class Conv2D(nn.Module):
            pass

        return Conv2D

    fastcnn.register(Scale)
    fastcnn.register(Scale)
    with pytest.raises(ValueError, match=r"register: expected a name of its own, got .*another"):
        fastcnn.register(another())
    for taken in (house(), nn.Dense, nn.Module):
        with pytest.raises(ValueError, match=r"register: expected a name that no layer of fastcnn"):
            fastcnn.register(taken)
        with pytest.raises(ValueError, match=r"layers: expected a name that no layer of fastcnn"):
            fastcnn.load("none", layers=[taken])
    with pytest.raises(ValueError, match="layers: expected one class of each name, got two Scale"):
        fastcnn.load("none", layers=[another(), Scale])
    # A cell of a notebook that runs again.
    first, second = (type("Cell", (nn.Module,), {}) for _ in range(2))
    fastcnn.register(first)
    fastcnn.register(second)
    assert _architecture._registered["Cell"] is second


@pytest.mark.parametrize("wrong", [3, "Scale", Scale(), int, None, [Scale]])
def test_what_is_no_class_of_layers(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"register: expected a subclass of nn.Module, got "):
        fastcnn.register(wrong)
    with pytest.raises(TypeError, match=r"layers: expected a subclass of nn.Module, got "):
        fastcnn.load(tmp_path, layers=[wrong])


@pytest.mark.parametrize("wrong", [3, "Scale", Scale, {"Scale": Scale}, None])
def test_what_is_no_list_of_classes(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="load: layers: expected a list of classes, got "):
        fastcnn.load(tmp_path, layers=wrong)


class Forgetful(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__([nn.Flatten(), nn.Dense(width)])


class Doubling(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__([nn.Flatten(), nn.Dense(width)])
        self.width = 2 * width


class Refusing(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__([nn.Flatten(), nn.Dense(width)])
        self.width = -width


class Handing(nn.Flatten):
    def __init__(self, **options: Any) -> None:
        super().__init__()


def shadow() -> nn.Module:
    class Scale(nn.Flatten):
        pass

    return nn.Sequential([globals()["Scale"](), Scale()])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Forgetful(3), "Forgetful: width: expected the constructor's argument as an attr"),
        (lambda: Handing(a=1), "Handing: options: expected .* as a dict self.options"),
        (lambda: Careless(3), "Careless: size: expected the constructor's argument"),
        (lambda: Scale(print), "save: Scale: start: expected a value of JSON .*builtin_function"),  # type: ignore[arg-type]
        (lambda: Scale(np.ones(1)), "save: Scale: start: expected a value of JSON .*ndarray"),  # type: ignore[arg-type]
        (
            lambda: Doubling(3),
            r"config\(\) makes again, got Doubling: 1.weight is of shape",
        ),
        (lambda: Refusing(3), r"config\(\) makes again, got Refusing: Dense: units: expected an"),
        (shadow, "expected one class of each name, got .*Scale beside .*Scale; rename one"),
    ],
)
def test_models_that_would_not_come_back_are_not_saved(
    make: Any, message: str, tmp_path: Path
) -> None:
    model = make()
    repr(model)
    if not isinstance(getattr(model, "start", 0.0), float):
        model.start, start = 1.0, model.start
        built(model)
        model.start = start
    else:
        built(model)
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
    fastcnn.Trainer(model, backend="reference").save_state(tmp_path / "s")


def test_options_of_own_layers_in_damaged_files(tmp_path: Path) -> None:
    tensors = built(Wide(4)).state_dict()
    built(Wide(4)).save(tmp_path / "m")
    description = serialization.read_tensors(tmp_path / "m", "fastcnn-model")[1]
    for architecture, message in [
        ({"layer": "Wide"}, 'Wide: expected "options"'),
        ({"layer": "Wide", "width": 4}, 'Wide: expected "options"'),
        ({"layer": "Wide", "options": [4]}, 'Wide: expected "options"'),
        ({"layer": "Wide", "options": {"width": 4, "b": 1}}, "Wide: expected its options, got 'b'"),
        ({"layer": "Wide", "options": {}}, "width"),
        ({"layer": "Row", "options": {"label": "a", "layers": 3}}, "int"),
    ]:
        serialization.write_tensors(
            tmp_path / "m", tensors, {**description, "architecture": architecture}
        )
        said = error_of(lambda: fastcnn.load(tmp_path / "m", layers=OWN))
        assert message in said, said

"""Layers and containers of a user's own: what they hold is found, what they lack is named."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn

SHAPE = (6, 6, 1)
FAST = fastcnn.FastBackend(num_threads=1)


class Net(nn.Module):
    """Two heads on blocks, in attributes of all kinds; the heads' results are added."""

    def __init__(self, filters: int = 3) -> None:
        super().__init__()
        self.filters = filters
        self.conv = nn.Conv2D(filters, 3, padding=1)
        self.blocks: Any = []
        for _ in range(2):
            block = [nn.Conv2D(filters, 3, padding=1), nn.BatchNorm(), nn.ReLU()]
            self.blocks.append(nn.Sequential(block))
        self.pair = (nn.Tanh(), nn.Dropout(0.0))
        self.heads = {"left": nn.Conv2D(2, 1), "right": nn.Conv2D(2, 1)}
        self._end = nn.Sequential([nn.Flatten(), nn.Dense(3)])

    def declare(self, input_shape: Any) -> Any:
        shape = input_shape
        for layer in (self.conv, *self.blocks, *self.pair):
            shape = layer.plan(shape)
        self.heads["left"].plan(shape)
        return self._end.plan(self.heads["right"].plan(shape))

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        inner = {**options, "input_gradient": True}
        steps = []
        x, first = self.conv.forward(x, backend, **options)
        for layer in (*self.blocks, *self.pair):
            x, step = layer.forward(x, backend, **inner)
            steps.append(step)
        left, left_step = self.heads["left"].forward(x, backend, **inner)
        right, right_step = self.heads["right"].forward(x, backend, **inner)
        y, last = self._end.forward(left + right, backend, **inner)

        def backward(dy: Any) -> Any:
            dy = last(dy)
            dy = left_step(dy) + right_step(dy)
            for step in reversed(steps):
                dy = step(dy)
            return first(dy)

        return y, backward


NAMES = [
    "conv.weight",
    "conv.bias",
    "blocks.0.0.weight",
    "blocks.0.0.bias",
    "blocks.0.1.gamma",
    "blocks.0.1.beta",
    "blocks.0.1.running_mean",
    "blocks.0.1.running_variance",
    "blocks.1.0.weight",
    "blocks.1.0.bias",
    "blocks.1.1.gamma",
    "blocks.1.1.beta",
    "blocks.1.1.running_mean",
    "blocks.1.1.running_variance",
    "heads.left.weight",
    "heads.left.bias",
    "heads.right.weight",
    "heads.right.bias",
    "_end.1.weight",
    "_end.1.bias",
]


def data(n: int = 24) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.random((n, *SHAPE), dtype=np.float32), rng.integers(0, 3, n)


def test_what_attributes_hold_is_found() -> None:
    net = Net()
    assert list(net.children()) == [
        "conv", "blocks.0", "blocks.1", "pair.0", "pair.1", "heads.left", "heads.right", "_end"
    ]  # fmt: skip
    assert net.build(SHAPE) == (3,)
    assert list(net.state_dict()) == NAMES
    assert list(net.buffers()) == [name for name in NAMES if "running" in name]
    assert all(module.built for module in net.modules())
    assert net.parameter_count == sum(
        array.size for name, array in net.state_dict().items() if "running" not in name
    )
    summary = net.summary()
    for row in ("conv Conv2D", "blocks.1.1 BatchNorm", "heads.left Conv2D", "_end.1 Dense", "Net "):
        assert f"\n{row}" in summary
    assert "  (blocks.0): Sequential(\n    (0): Conv2D(filters=3" in repr(net)


def test_a_container_of_ones_own_trains_like_the_same_layers() -> None:
    x, y = data()
    for wrapped in (False, True):
        net = Net()
        model = nn.Sequential([net]) if wrapped else net
        trainer = fastcnn.Trainer(model, backend=FAST)
        before = trainer.predict(x)
        start = net.state_dict()
        trainer.fit(x, y, epochs=2, batch_size=8, verbose=False)
        after = net.state_dict()
        assert all(np.any(after[name] != start[name]) for name in NAMES if "bias" not in name)
        assert np.any(trainer.predict(x) != before)
        np.testing.assert_array_equal(trainer.predict(x), model(x, FAST))
        other = Net()
        other.build(SHAPE, seed=9)
        other.load_state_dict(after)
        np.testing.assert_array_equal(other(x, FAST), trainer.predict(x))
        np.testing.assert_array_equal(copy.deepcopy(model)(x, FAST), trainer.predict(x))


def test_the_smallest_batch_is_that_of_the_layers() -> None:
    class Normed(Net):
        def __init__(self) -> None:
            super().__init__()
            self._end = nn.Sequential([nn.GlobalAvgPool2D(), nn.BatchNorm()])

    net = Normed()
    net.build(SHAPE)
    assert net.min_batch == 2


def test_a_subclass_of_sequential_may_hold_more() -> None:
    class WithHead(nn.Sequential):
        def __init__(self) -> None:
            super().__init__([nn.Conv2D(2, 3), nn.Flatten()])
            self.head = nn.Dense(3)

        def declare(self, input_shape: Any) -> Any:
            return self.head.plan(super().declare(input_shape))

        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            y, back = super().forward(x, backend, **options)
            z, head_back = self.head.forward(y, backend, **{**options, "input_gradient": True})
            return z, lambda dy: back(head_back(dy))

    model = WithHead()
    x, y = data()
    fastcnn.Trainer(model, backend=FAST).fit(x, y, batch_size=8, verbose=False)
    assert list(model.state_dict()) == ["0.weight", "0.bias", "head.weight", "head.bias"]


EDITS: dict[str, Callable[[Any], object]] = {
    "append": lambda net: net.blocks.append(nn.ReLU()),
    "pop": lambda net: net.blocks.pop(),
    "item": lambda net: net.blocks.__setitem__(0, nn.ReLU()),
    "list": lambda net: setattr(net, "blocks", [*net.blocks]),
    "tuple": lambda net: setattr(net, "pair", net.pair[:1]),
    "layer": lambda net: setattr(net, "conv", nn.Conv2D(3, 3, padding=1)),
    "another": lambda net: setattr(net, "more", nn.ReLU()),
    "key": lambda net: net.heads.__setitem__("left", nn.Conv2D(2, 1)),
    "update": lambda net: net.heads.update(more=nn.ReLU()),
    "clear": lambda net: net.heads.clear(),
    "del key": lambda net: net.heads.__delitem__("left"),
    "del": lambda net: delattr(net, "conv"),
    "None": lambda net: setattr(net, "_end", None),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_its_layers_stay_once_it_is_built(edit: Callable[[Any], object]) -> None:
    net = Net()
    net.build(SHAPE)
    for each in (net, copy.deepcopy(net)):
        with pytest.raises((AttributeError, TypeError)):
            edit(each)
        assert list(each.state_dict()) == NAMES
    net.note = "what is no layer may be set"  # type: ignore[attr-defined]


def test_before_it_is_built_its_layers_may_change() -> None:
    net = Net()
    net.blocks.pop()
    net.conv = nn.Conv2D(5, 3, padding=1)
    net.build(SHAPE)
    assert net.state_dict()["conv.weight"].shape == (3, 3, 1, 5)
    assert not any(name.startswith("blocks.1") for name in net.state_dict())


# ---------------------------------------------------------------------- what lacks something
class Same(nn.Module):
    """y = x."""

    def declare(self, input_shape: Any) -> Any:
        return input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        return x, lambda dy: dy


def own(**methods: Any) -> Any:
    return type("Own", (Same,), methods)


def missing(*names: str) -> Any:
    methods = {name: method for name, method in vars(Same).items() if name not in names}
    return type("Own", (nn.Module,), methods)


def holding(value: Callable[[], Any]) -> Any:
    def init(self: Any) -> None:
        nn.Module.__init__(self)
        self.held = value()

    return own(__init__=init)


def declaring(*arguments: Any, times: int = 1) -> Any:
    def declare(self: Any, input_shape: Any) -> Any:
        for _ in range(times):
            self.declare_parameter(*arguments)
        return input_shape

    return own(declare=declare)


def ones(rng: Any) -> Any:
    return np.ones(3)


def shared() -> list[nn.Module]:
    layer = nn.ReLU()
    return [layer, layer]


LACKING: list[tuple[Any, str]] = [
    (own(__init__=lambda self: None), r"Own: __init__: expected it to call super\(\).__init__\(\)"),
    (missing("declare"), r"Own: expected a method declare\(self, input_shape\).* got none"),
    (missing("forward"), r"Own: expected a method forward\(self, x, backend, .* got none"),
    (missing("forward", "declare"), "Own: expected a method declare"),
    (own(forward=lambda self, x: x), r"Own: forward: expected .*rng=None.* got forward\(self, x\)"),
    (own(declare=lambda self, s: None), "Own: declare: its result: expected a shape .* NoneType"),
    (own(declare=lambda self, s: 3), "Own: declare: its result: expected a shape .* got int 3"),
    (own(declare=lambda self, s: (3.0,)), "Own: declare: its result: expected an integer"),
    (own(declare=lambda self, s: (6, 6, 0)), "Own: declare: its result: expected an integer of at"),
    (own(declare=lambda self, s: (6, 6, 7)), r"Own: declare: .* forward gives, which is \(6, 6, 1"),
    (own(declare=lambda self, s: (6, 6)), r"Own: declare: .* forward gives, which is \(6, 6, 1\)"),
    (own(forward=lambda self, x, b, **o: x), r"Own: forward: expected .*\(y, backward\).* ndarray"),
    (own(forward=lambda self, x, b, **o: (x, None)), r"Own: forward: expected .*\(y, backward\)"),
    (own(forward=lambda self, x, b, **o: (3, len)), "Own: forward: expected an array, got int"),
    (own(forward=lambda self, x, b, **o: (x[:1], len)), "Own: forward: expected 8 outputs for 8"),
    (
        own(forward=lambda self, x, b, **o: (x.astype(float), len)),
        r"Own: forward: expected an array of float32, as x is, got float64; y.astype\(x.dtype\)",
    ),
    (holding(lambda: deque([[nn.ReLU()]])), "Own: held: expected layers in .* a ReLU in a deque"),
    (holding(lambda: [{nn.ReLU()}]), "Own: held: expected layers in .* got a ReLU in a set"),
    (holding(lambda: MappingProxyType({1: nn.ReLU()})), "Own: held: .* a ReLU in a mappingproxy"),
    (holding(lambda: np.array([[nn.ReLU()]])), "Own: held: .* got a ReLU in a ndarray"),
    (holding(lambda: nn.Dense(3)), "Own: declare: .* call plan.* got none for 'held', a Dense"),
    (holding(lambda: [nn.Dense(3)]), "Own: declare: .* call plan.* got none for 'held.0', a Dense"),
    (holding(lambda: {"a.b": nn.ReLU()}), "Own: held: expected layers under names .*got 'a.b'"),
    (holding(lambda: {3: nn.ReLU()}), "Own: held: expected layers under names .*got 3"),
    (holding(shared), "expected each layer at one place, got the same ReLU twice"),
    (holding(lambda: nn.Parameter((3,), ones)), "Own: held: expected what declare_parameter"),
    (declaring("a.b", (3,), ones), "Own: name: expected letters, .*got 'a.b'"),
    (declaring("w" * 250, (3,), ones), "Own: name: expected letters, .*at most 100, got 'www"),
    (declaring(3, (3,), ones), "Own: name: expected letters, .*got 3"),
    (declaring("w", (3,), ones, times=2), "Own: name: expected each once, got w twice"),
    (declaring("w", 3, ones), "Own: w: shape: expected a shape"),
    (declaring("w", (3.0,), ones), "Own: w: shape: expected an integer"),
    (declaring("w", (3,), np.ones(3)), "Own: w: draw: expected a function .* got ndarray"),
    (declaring("w", (4,), ones), r"Own: w: draw: expected numbers of shape \(4,\), got float64 of"),
    (declaring("w", (3,), lambda rng: "abc"), "Own: w: draw: expected numbers of shape"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), LACKING, ids=[message for _, message in LACKING])
def test_what_a_layer_lacks_is_named(make: Any, message: str) -> None:
    x, y = data(8)
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        fastcnn.Trainer(make(), backend=FAST).predict(x)
    assert len(str(caught.value)) < 300

    def fit() -> None:
        model = nn.Sequential([nn.Conv2D(1, 1), make(), nn.Flatten(), nn.Dense(3)])
        fastcnn.Trainer(model, backend=FAST).fit(x, y, verbose=False)

    with pytest.raises((TypeError, ValueError), match=message):
        fit()


def test_a_set_may_name_layers_that_are_held_elsewhere() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Dense(3)
            self.favourites = {self.layer}
            self.recent = deque([1, "two", None])

        def declare(self, input_shape: Any) -> Any:
            return self.layer.plan(input_shape)

        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            return self.layer.forward(x, backend, **options)

    model = Own()
    model.build((4,))
    assert list(model.parameters()) == ["layer.weight", "layer.bias"]
    assert model(np.ones((2, 4), np.float16), FAST).dtype == np.float32  # type: ignore[arg-type]


def test_a_layer_that_holds_itself_is_refused() -> None:
    layer = Same()
    layer.me = layer  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="expected no layer within itself, got a Same that holds"):
        layer.build(SHAPE)


def test_a_layer_without_its_base_says_so_wherever_it_is_asked() -> None:
    layer = object.__new__(Same)
    for ask in (
        lambda: layer.built,
        layer.parameters,
        lambda: nn.Sequential([layer]),
        lambda: repr(layer),
    ):
        with pytest.raises(AttributeError, match=r"Same: __init__: expected it to call super"):
            ask()


def test_a_part_of_a_forward_may_have_another_shape() -> None:
    class Half(Same):
        def declare(self, input_shape: Any) -> Any:
            return (input_shape[0] // 2, *input_shape[1:])

        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            y, _ = super().forward(x, backend, **options)
            return y[:, ::2], lambda dy: np.repeat(dy, 2, axis=1)

    layer = Half()
    layer.build(SHAPE)
    assert layer(data()[0], FAST).shape == (24, 3, 6, 1)


def test_what_declares_again_is_as_new() -> None:
    """A build that failed leaves nothing behind."""

    class Scale(Same):
        def declare(self, input_shape: Any) -> Any:
            size = input_shape[-1:]
            self.g = self.declare_parameter("g", size, lambda rng: np.ones(size))
            return input_shape

        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            return x * self.g.data, lambda dy: dy

    model = nn.Sequential([Scale(), nn.Conv2D(2, 3, in_channels=1)])
    with pytest.raises(ValueError, match="layer 1: Conv2D: in_channels"):
        model.build((6, 6, 2))
    model.build(SHAPE)
    assert model[0].g.shape == (1,)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="Scale: g: expected the parameter that the layer declares"):
        model[0].g = np.ones(1)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="Parameter: data: expected float32, got float64"):
        model[0].g.data = np.ones(1)  # type: ignore[attr-defined]

"""Networks of every shape that nn.Model may have, and layers of one's own for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn import nn

SHAPE = (6, 6, 2)


# ---------------------------------------------------------------------- layers of one's own
class Foreign(nn.Module):
    """A layer with a backward pass of its own, that holds a layer of the house."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(2, 3, padding="same")

    def declare(self, input_shape: Any) -> Any:
        channels = input_shape[-1]
        self.scale = self.declare_parameter("scale", (channels,), lambda rng: rng.random(channels))
        return self.conv.plan(input_shape)

    def forward(
        self,
        x: Any,
        backend: Any,
        *,
        training: bool = False,
        rng: Any = None,
        input_gradient: bool = True,
    ) -> Any:
        y, step = self.conv.forward(x * self.scale.data, backend, training=training)

        def backward(dy: Any) -> Any:
            dx = step(dy)
            self.scale.grad = (dx * x).sum(axis=(0, 1, 2))
            return dx * self.scale.data

        return y, backward


class Traceable(nn.Module):
    """A layer of ops and of layers; its parameter is called as a program's input is."""

    traceable = True

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(2, 3, padding="same", activation="tanh")
        self.dropout = nn.Dropout(0.5)

    def declare(self, input_shape: Any) -> Any:
        channels = input_shape[-1]
        self.x = self.declare_parameter("x", (channels,), lambda rng: rng.random(channels))
        return self.dropout.plan(self.conv.plan(input_shape))

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        y = self.conv(backend.multiply(x, self.x.data), backend)
        return self.dropout(y, backend)


class Inherited(Traceable):
    """The word traceable goes with the forward that is inherited."""


class Product(nn.Module):
    """Two inputs and a backward pass of its own."""

    def declare(self, input_shape: Any) -> Any:
        return input_shape[0]

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        a, b = x
        return a * b, lambda dy: (dy * b, dy * a)


class TraceableProduct(nn.Module):
    traceable = True

    def declare(self, input_shape: Any) -> Any:
        return input_shape[0]

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        a, b = x
        return backend.multiply(a, b)


class Pair(nn.Module):
    """Two outputs and a backward pass of its own."""

    def declare(self, input_shape: Any) -> Any:
        return input_shape, input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        return (x * 2, x * 3), lambda dy: dy[0] * 2 + dy[1] * 3


class TraceablePair(nn.Module):
    traceable = True

    def declare(self, input_shape: Any) -> Any:
        return input_shape, input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        return backend.add(x, x), backend.tanh(x)


OWN = [Foreign, Traceable, Inherited, Product, TraceableProduct, Pair, TraceablePair]


# ---------------------------------------------------------------------- networks of one input
def head(y: nn.Symbol) -> nn.Symbol:
    return nn.Dense(3)(nn.GlobalAvgPool2D()(y))


def branches() -> nn.Model:
    x = nn.Input(SHAPE)
    conv = nn.Conv2D(2, 3, padding="same")
    a = nn.Conv2D(2, 3, padding="same", activation="sigmoid")(x)
    z = nn.concat([conv(a), conv(nn.BatchNorm()(a)), x])
    gates = nn.Conv2D(6, 1, activation="sigmoid")(nn.AvgPool2D(6)(z))
    return nn.Model(x, head(nn.Dropout(0.3)(nn.multiply(nn.add(z, z), gates))))


def shared_inside() -> nn.Model:
    """A layer that is shared within a model, within a chain, which is shared too."""
    x = nn.Input(SHAPE)
    conv = nn.Conv2D(2, 3, padding=1)
    inner = nn.Model(x, nn.add(conv(conv(x)), x))
    chain = nn.Sequential([nn.Residual(inner), nn.BatchNorm(), nn.Tanh()])
    return nn.Model(x, head(chain(chain(x))))


def of_two_sizes(make: Callable[[], nn.Module]) -> nn.Model:
    x = nn.Input(SHAPE)
    layer = make()
    two = [layer(x), layer(nn.AvgPool2D()(x))]
    return nn.Model(x, nn.Dense(3)(nn.concat([nn.GlobalAvgPool2D()(y) for y in two])))


def shared(make: Callable[[], nn.Module]) -> nn.Model:
    x, layer = nn.Input(SHAPE), make()
    return nn.Model(x, head(layer(nn.Tanh()(layer(nn.Conv2D(2, 1)(x))))))


def in_residual(make: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential([nn.Residual(make()), nn.GlobalAvgPool2D(), nn.Dense(3)])


def of_two_inputs(make: Callable[[], nn.Module]) -> nn.Model:
    x = nn.Input(SHAPE)
    return nn.Model(x, head(make()([nn.Conv2D(2, 1)(x), x])))


def of_two_outputs(make: Callable[[], nn.Module], used: str) -> nn.Model:
    x = nn.Input(SHAPE)
    a, b = make()(nn.Conv2D(2, 1)(x))
    return nn.Model(x, head(b if used == "one" else nn.multiply(a, b)))


def two_heads() -> nn.Model:
    x = nn.Input(SHAPE)
    y = nn.Conv2D(2, 3, padding="same", activation="gelu")(x)
    return nn.Model(x, [nn.GlobalAvgPool2D()(y), nn.Dense(2)(nn.Flatten()(y))])


def unused_head() -> nn.Model:
    x = nn.Input(SHAPE)
    return nn.Model(x, nn.Dense(3)(two_heads()(x)[0]))


def crossed_heads() -> nn.Model:
    """Of two calls of one model, one output each."""
    x, inner = nn.Input(SHAPE), two_heads()
    first, second = inner(x), inner(nn.Tanh()(x))
    return nn.Model(x, nn.Dense(3)(nn.concat([first[0], second[1]])))


def chained() -> nn.Module:
    """Several arrays within a chain."""
    return nn.Sequential([nn.Conv2D(2, 1), TraceablePair(), nn.Add(), nn.Flatten(), nn.Dense(3)])


def parts() -> nn.Model:
    """Parts of channels and of rows, one of which nobody uses, differences and quotients."""
    x = nn.Input(SHAPE)
    a, b, _ = nn.split(nn.Conv2D(7, 3, padding="same", activation="tanh")(x), (2, 2, 3))
    top, bottom = nn.split(nn.subtract(a, b), [2, 4], axis=0)
    low = nn.Pad2D(((0, 2), (0, 0)))(nn.Tanh()(top))
    gate = nn.Conv2D(1, 1, activation="sigmoid")(bottom)
    return nn.Model(x, head(nn.power(nn.Function("sqrt")(gate), nn.divide(low, gate))))


def attention() -> nn.Model:
    """Every pixel looks at all others."""
    x = nn.Input(SHAPE)
    rows = [nn.Reshape((36, 3))(nn.Conv2D(3, 1)(x)) for _ in range(3)]
    weights = nn.Softmax()(nn.matmul(rows[0], nn.Permute((2, 1))(rows[1])))
    most = nn.maximum(rows[0], nn.matmul(weights, rows[2]))
    return nn.Model(x, head(nn.Reshape((6, 6, 3))(nn.minimum(most, nn.add(most, rows[1])))))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "parts": parts,
    "attention": attention,
    "branches": branches,
    "shared inside": shared_inside,
    "unused head": unused_head,
    "crossed heads": crossed_heads,
    "chained": chained,
    **{
        f"two sizes of {name}": lambda make=make: of_two_sizes(make)  # type: ignore[misc]
        for name, make in {
            "Conv2D": lambda: nn.Conv2D(2, 3),
            "Sequential": lambda: nn.Sequential([nn.Conv2D(2, 3), nn.BatchNorm(), nn.Sigmoid()]),
            "Residual": lambda: nn.Residual(nn.Conv2D(2, 3, padding=1)),
            "Conv2DTranspose": lambda: nn.Conv2DTranspose(2, 2, stride=2),
            "Foreign": Foreign,
            "Traceable": Traceable,
        }.items()
    },
    **{
        f"{how.__name__} {cls.__name__}": lambda how=how, cls=cls: how(cls)
        for how in (shared, in_residual)
        for cls in (Foreign, Traceable, Inherited)
    },
    "Product": lambda: of_two_inputs(Product),
    "TraceableProduct": lambda: of_two_inputs(TraceableProduct),
    **{
        f"{cls.__name__}, {used} used": lambda cls=cls, used=used: of_two_outputs(cls, used)
        for cls in (Pair, TraceablePair)
        for used in ("both", "one")
    },
}


# ---------------------------------------------------------------------- of several
def several() -> nn.Model:
    a, b = nn.Input((4, 4, 2)), nn.Input((8, 8, 2))
    conv = nn.Conv2D(3, 3, padding="same", activation="tanh")
    z = nn.concat([conv(a), nn.AvgPool2D()(conv(b))])
    return nn.Model([a, b], [nn.GlobalAvgPool2D()(z), nn.Dense(2)(nn.Flatten()(z))])


def noisy() -> nn.Model:
    """A shared chain with a norm, and dropout, in front of two outputs."""
    a, b = nn.Input((4, 4, 2)), nn.Input((4, 4, 2))
    chain = nn.Sequential([nn.Conv2D(3, 3, padding=1), nn.BatchNorm(), nn.ReLU()])
    p, q = chain(a), chain(nn.Dropout(0.3)(b))
    z = nn.Flatten()(nn.BatchNorm()(nn.add(p, q)))
    return nn.Model([a, b], [head(q), nn.Dense(2)(nn.Dropout(0.5)(z))])


def nested() -> nn.Model:
    a, b = nn.Input((4, 4, 2)), nn.Input((8, 8, 2))
    p, q = several()([a, b])
    return nn.Model([a, b], [nn.Dense(3)(nn.concat([p, q])), p])


def handed_on() -> nn.Model:
    """Outputs that are inputs, and one that is there twice."""
    x = nn.Input((5,))
    y = nn.Dense(2)(x)
    return nn.Model(x, [x, y, y])


SEVERAL: dict[str, Callable[[], nn.Model]] = {
    "several": several,
    "noisy": noisy,
    "nested": nested,
    "handed on": handed_on,
    "an input": lambda: (lambda x: nn.Model(x, x))(nn.Input((3,))),
    "lists of one": lambda: (lambda x: nn.Model([x], [nn.Dense(2)(x)]))(nn.Input((3,))),
}


def inputs_of(model: nn.Module, count: int = 3, dtype: Any = np.float64) -> list[Any]:
    shapes: Any = model.input_shape
    rng = np.random.default_rng(1)
    if not isinstance(shapes[0], tuple):
        shapes = (shapes,)
    return [rng.normal(size=(count, *shape)).astype(dtype) for shape in shapes]


def as_built(
    make: Callable[[], nn.Module], dtype: Any = np.float64, shape: tuple[int, ...] = SHAPE
) -> nn.Module:
    model = make()
    if isinstance(model, nn.Model):
        model.build(seed=3, dtype=dtype)
    else:
        model.build(shape, seed=3, dtype=dtype)
    for name, variable in model.variables().items():
        variable.data += np.random.default_rng(len(name)).uniform(0.1, 0.3, variable.shape)
    return model

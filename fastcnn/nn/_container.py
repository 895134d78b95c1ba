"""Layers that hold layers: one after another, or side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fastcnn._sentences import explained
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._run import Tracing, run


class Sequential(Module):
    """Layers that run one after another.

    layers: modules, at least one, each at one place only. As an attribute it is a tuple:
    nn.Sequential([*model.layers, layer]) is a model with one more, and they keep their weights.
    """

    _hidden = Module._hidden | {"layers"}
    _hint = "; put the layers into one list, as in nn.Sequential([a, b])"
    _has_row = False
    _runs_all = True
    _takes_several = True  # what its first layer takes

    def __init__(self, layers: Iterable[Module], *, name: str | None = None) -> None:
        super().__init__(name=name)
        if isinstance(layers, (Module, str)) or not isinstance(layers, Iterable):
            raise TypeError(
                f"Sequential: layers: expected a list of layers, got {type(layers).__name__}"
                f"{self._hint}"
            )
        self.layers = tuple(layers)
        if not self.layers:
            raise ValueError("Sequential: layers: expected at least one layer, got none")
        for index, layer in enumerate(self.layers):
            _require_module(layer, f"Sequential: layers[{index}]")
        _require_distinct(self)

    def children(self) -> dict[str, Module]:
        return {**{str(i): layer for i, layer in enumerate(self.layers)}, **super().children()}

    def declare(self, input_shape: Shape) -> Shape:
        shape = input_shape
        for index, layer in enumerate(self.layers):
            try:
                shape = layer.plan(shape)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                before = type(self.layers[index - 1]).__name__
                behind = f" (behind layer {index - 1}, {before})" if index else ""
                raise kind(f"layer {index}: {error}{behind}") from error
        return shape

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        self._require_built()
        closures: list[Backward] = []
        for layer in self.layers:
            x, closure = run(
                layer, x, backend, training=training, rng=rng, input_gradient=input_gradient
            )
            closures.append(closure)
            # Nothing in front of the first trained layer needs a gradient.
            input_gradient = input_gradient or layer._trains

        def backward(dy: Array) -> Array | None:
            if not closures:
                raise RuntimeError("backward: expected one call a forward pass, got a second one")
            gradient: Array | None = dy
            while closures:
                closure = closures.pop()  # what the layer saved is free for the next one's results
                gradient = None if gradient is None else closure(gradient)
            return gradient

        return x, backward

    @explained
    def __call__(self, x: Any, backend: Backend | None = None) -> Any:
        if backend is None or isinstance(backend, (str, Tracing)):
            return super().__call__(x, backend)
        self._require_built()
        for layer in self.layers:
            x = layer(x, backend)
        return x

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Module:
        try:
            return self.layers[index]
        except (IndexError, TypeError) as error:
            count = len(self.layers)
            raise type(error)(
                f"Sequential: index: expected an integer from {-count} to {count - 1}, for it has "
                f"{count} layer{'s' * (count != 1)}, got {index!r:.80}"
            ) from None


class Residual(Module):
    """y = body(x) + shortcut(x) (He et al., 2016); without a shortcut y = body(x) + x.

    Body and shortcut give the same shape.
    """

    _runs_all = True

    def __init__(
        self, body: Module, shortcut: Module | None = None, *, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        _require_module(body, "Residual: body")
        if shortcut is not None:
            _require_module(shortcut, "Residual: shortcut")
        self.body = body
        self.shortcut = shortcut
        _require_distinct(self)

    def declare(self, input_shape: Shape) -> Shape:
        body = self.body.plan(input_shape)
        shortcut = input_shape if self.shortcut is None else self.shortcut.plan(input_shape)
        if body != shortcut:
            what = "shortcut" if self.shortcut is not None else "input, which is the shortcut,"
            raise ValueError(
                f"Residual: expected a body and a shortcut of one output shape, got {body} from "
                f"the body and {shortcut} from the {what} for input {input_shape}"
            )
        return body

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        y, body_backward = run(
            self.body, x, backend, training=training, rng=rng, input_gradient=input_gradient
        )
        if self.shortcut is None:
            return backend.add(y, x), lambda dy: _sum(backend, body_backward(dy), dy)
        shortcut, shortcut_backward = run(
            self.shortcut, x, backend, training=training, rng=rng, input_gradient=input_gradient
        )

        def backward(dy: Array) -> Array | None:
            return _sum(backend, body_backward(dy), shortcut_backward(dy))

        return backend.add(y, shortcut), backward

    @explained
    def __call__(self, x: Any, backend: Backend | None = None) -> Any:
        if backend is None or isinstance(backend, (str, Tracing)):
            return super().__call__(x, backend)
        shortcut = x if self.shortcut is None else self.shortcut(x, backend)
        return backend.add(self.body(x, backend), shortcut)


def _sum(backend: Backend, a: Array | None, b: Array | None) -> Array | None:
    """Return what two paths give their common input; dy of a sum of one shape is that of both."""
    return None if a is None or b is None else backend.add(a, b)


def _require_module(value: object, where: str) -> None:
    if not isinstance(value, Module):
        kind = f"type {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{where}: expected a layer, got {kind}")


def _require_distinct(holder: Module) -> None:
    """Refuse a layer at two places."""
    for _ in holder.modules():
        pass

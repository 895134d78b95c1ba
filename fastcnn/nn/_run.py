"""How containers run the layers that they hold: on a backend, or to be written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn._types import Array
from fastcnn.backend import Backend

if TYPE_CHECKING:
    from fastcnn.nn._module import Module
    from fastcnn.nn._variable import Buffer

__all__ = ["Tracing", "run"]


class Tracing:
    """Base of a backend that writes down what is called (fastcnn.program.trace.Tracer)."""

    training = False

    def layer(self, layer: Module, x: Any, *, training: bool) -> tuple[Any, Any]:
        """Write down a layer; return (what it gives, None)."""
        raise NotImplementedError

    def update(
        self, buffers: tuple[Buffer, Buffer], batch: tuple[Any, Any], options: dict[str, float]
    ) -> None:
        """Write down the next values of running statistics: of mean and variance."""
        raise NotImplementedError

    def mask(self, shape: tuple[int, ...], rate: float) -> Any:
        """Write down that a mask of dropout is drawn."""
        raise NotImplementedError


def run(
    layer: Any,
    x: Any,
    backend: Backend,
    *,
    training: bool = False,
    rng: np.random.Generator | None = None,
    input_gradient: bool = True,
) -> tuple[Array, Any]:
    """Return layer.forward(...), or have it written down."""
    if isinstance(backend, Tracing):
        return backend.layer(layer, x, training=training)
    result: tuple[Array, Any] = layer.forward(
        x, backend, training=training, rng=rng, input_gradient=input_gradient
    )
    return result

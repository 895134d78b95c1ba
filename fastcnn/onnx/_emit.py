"""ONNX graphs as they are written: nodes on named arrays, channels first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn._types import Array, Shape
from fastcnn.program.program import unused

__all__ = ["BATCH", "Emitted", "Emitter"]

# The number of images of a program that is written to a file: a length that is a multiple of it is
# the batch's, for images have fewer pixels and channels along an axis.
BATCH = 1048573


class Emitted:
    """An array of the graph: its name and its shape for a batch of BATCH."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name, self.shape = name, tuple(shape)


class Emitter:
    """Nodes and constants of a graph, and the moves that tensors ask for."""

    def __init__(self, helper: Any, opset: int, dtype: np.dtype[Any]) -> None:
        self._helper, self.opset, self.dtype = helper, opset, dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self._names: dict[int, str] = {}  # of constants, by the identities of arrays
        self._called: dict[int, str] = {}  # what a constant should be called
        self._alive: list[Array] = []
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}  # of results of a name

    def reserve(self, *names: str) -> None:
        """Keep names for the graph's inputs and outputs."""
        self._taken.update(names)

    def call(self, array: Array, name: str) -> Array:
        """Return a constant, which is written under this name if it is free."""
        self._called[id(array)] = name
        self._alive.append(array)
        return array

    def integers(self, *values: int) -> Array:
        """Return a constant of integers."""
        return np.array(values, np.int64)

    def number(self, value: float) -> Array:
        """Return a constant of one float."""
        return np.array(value, self.dtype)

    def node(
        self,
        op: str,
        inputs: Sequence[Emitted | Array | None],
        shape: Shape,
        name: str = "",
        **attributes: Any,
    ) -> Emitted:
        """Write a node of one result of this shape, and return that."""
        found = self._free(name or op.lower())
        given = ["" if each is None else self._name(each) for each in inputs]
        while given and not given[-1]:
            given.pop()
        kept = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(self._helper.make_node(op, given, [found], name=found, **kept))
        return Emitted(found, shape)

    def output(self, value: Emitted | Array, name: str) -> Any:
        """Return a node that gives an array this name, which is reserved."""
        return self._helper.make_node("Identity", [self._name(value)], [name], name=name)

    def _name(self, value: Emitted | Array) -> str:
        if isinstance(value, Emitted):
            return value.name
        found = self._names.get(id(value))
        if found is None:
            found = self._free(self._called.get(id(value), "constant"))
            self._names[id(value)] = found
            self._alive.append(value)
            self.constants[found] = np.ascontiguousarray(value)
            if value.dtype.kind == "f":
                self.constants[found] = self.constants[found].astype(self.dtype, copy=False)
        return found

    def _free(self, name: str) -> str:
        found = unused(name, self._taken, self._counts)
        self._taken.add(found)
        return found

    # ------------------------------------------------------------------ what tensors ask for
    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        """Write that an array has another shape: 0 and -1 stand for what depends on the batch."""
        shape = tuple(shape)
        if isinstance(x, np.ndarray):
            return self._like(x.reshape(shape), x)
        if shape == x.shape:
            return x
        asked = [-1 if size % BATCH == 0 and size else size for size in shape]
        if asked.count(-1) > 1:
            asked = [
                0 if at < len(x.shape) and size == x.shape[at] and size % BATCH == 0 else ask
                for at, (size, ask) in enumerate(zip(shape, asked, strict=True))
            ]
        if asked.count(-1) > 1:
            raise ValueError(f"expected a shape with one axis of the batch, got {shape}")
        return self.node("Reshape", [x, self.integers(*asked)], shape)

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        """Write that axes have another order; a constant is moved now."""
        if isinstance(x, np.ndarray):
            return self._like(np.ascontiguousarray(x.transpose(axes)), x)
        shape = tuple(x.shape[axis] for axis in axes)
        return self.node("Transpose", [x], shape, perm=list(axes))

    def _like(self, new: Array, old: Array) -> Array:
        """Return what was made of a constant, which takes its name."""
        return self.call(new, self._called.get(id(old), "constant"))

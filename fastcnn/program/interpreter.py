"""The interpreter: runs a program op by op, on any backend. It is what a program means."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.nn._dropout import require_rng
from fastcnn.nn._own import Foreign
from fastcnn.program.gradient import PYTHON_BACKWARD
from fastcnn.program.ops import OPS, method_of
from fastcnn.program.program import PYTHON, Node, Program

__all__ = ["Interpreter"]


class Interpreter:
    """Runs a program's forward pass, then its backward pass, as often as wanted.

    Between the two it holds the values that the backward pass reads; a value that nobody reads any
    more is let go at once. A plan has the same methods.
    """

    def __init__(self, program: Program, backend: Backend) -> None:
        self.program, self._backend = program, backend
        self._last_uses = program.last_uses()
        self._values: dict[str, Any] = {}
        self._foreign = Foreign(program.nodes, backend)

    def current(self) -> bool:
        """Return True: weights are looked up in each pass, so there is nothing to make anew."""
        return True

    def forward(self, *inputs: Array, rng: np.random.Generator | None = None) -> list[Any]:
        """Return the outputs for these inputs; buffers get their `update`.

        rng draws the masks of dropout in training.
        """
        program = self.program
        self._foreign.start(rng)
        self._values = {**program.stored(), **dict(zip(program.inputs, inputs, strict=False))}
        for index in range(program.forward):
            self._run(index)
        for name, new in program.updates.items():
            program.values[name].source.update = self._values[new]
        return [self._values[name] for name in program.outputs]

    def backward(self, *gradients: Array) -> dict[str, Array]:
        """Return the gradients by name; the argument is that of the output, where it is no loss."""
        program = self.program
        seeds = [name for name in program.inputs if name.startswith("d(")]
        if len(seeds) != len(gradients):
            raise ValueError(
                f"backward: expected {len(seeds)} gradients, one an output, got {len(gradients)}"
            )
        self._values.update(zip(seeds, gradients, strict=True))
        for index in range(program.forward, len(program.nodes)):
            self._run(index)
        found = {name: self._values[gradient] for name, gradient in program.gradients.items()}
        self._values = {}
        return found

    def _run(self, index: int) -> None:
        node = self.program.nodes[index]
        results = self._computed(node)
        if len(node.results) == 1 and not isinstance(results, list):
            results = (results,)
        for name, result in zip(node.results, results, strict=True):
            if name is not None:
                self._values[name] = result
        for name in self._last_uses[index]:
            del self._values[name]  # its memory serves the next

    def _computed(self, node: Node) -> Any:
        arguments: dict[str, Any] = {
            name: self._values[each] if isinstance(each, str) else [self._values[n] for n in each]
            for name, each in node.arguments.items()
        }
        if node.op == PYTHON:
            return self._foreign.forward(node, arguments["x"])
        if node.op == PYTHON_BACKWARD:
            return self._foreign.backward(node, arguments["dy"])
        row = OPS.get(node.op)
        if row is None or row.run is None:
            return method_of(self._backend, node.op)(**arguments, **node.attributes)
        if node.op == "dropout_mask":
            arguments["rng"] = require_rng(self._foreign.rng)
        return row.run(**arguments, **node.attributes)

"""A plan: a program's ops as bound kernel calls on arrays that stay where they are.

All that depends on shapes is done once: checks, choices, allocation. To bind an op is to run its
method of FastBackend with what it calls noted instead of called (_base.py has the rule that makes
this possible). A step is then two lists of calls. Arrays that nobody reads any more lend their
memory to those that come later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from fastcnn._kernels import bound
from fastcnn._memory import ALIGNMENT, Arena, empty
from fastcnn._types import Array
from fastcnn.fast import FastBackend
from fastcnn.nn._dropout import require_rng
from fastcnn.nn._norm import running_statistics
from fastcnn.nn._own import Foreign
from fastcnn.program import Node, Program
from fastcnn.program.ops import method_of

__all__ = ["Plan"]

Call = Callable[[], Any]


class Plan:
    """Runs a program on a fast backend: `forward` and then `backward`, as often as wanted.

    It has the methods of fastcnn.program.Interpreter, and gives the same bits. inputs: the arrays
    in which the program's inputs come; others are copied into these. What it returns lies in arrays
    of the plan's own, which the next call overwrites. Parameters and buffers are read where they
    lie: a plan is good as long as it is `current`.
    """

    # Ops that look up the arrays of parameters and buffers when they run, and may find others.
    _looking_up: ClassVar[Collection[str]] = ("running_statistics",)

    def __init__(self, program: Program, backend: FastBackend, *inputs: Array) -> None:
        self.program, self.inputs = program, inputs
        self._backend, self.num_threads = backend, backend.num_threads
        # Calls know this and not the plan: in a cycle it would outlive its last use.
        self._foreign = Foreign(program.nodes, backend)
        last_uses = program.last_uses()
        self._binder = _Binder(backend, self.num_threads, _most_bytes(program, last_uses))
        behind = (program.values[name] for name in program.inputs[len(inputs) :])
        seeds = {value.name: empty(value.shape, value.dtype) for value in behind}
        self._seeds = list(seeds.values())  # gradients of outputs
        given = dict(zip(program.inputs, inputs, strict=False))
        self.arrays: dict[str, Array] = {**program.stored(), **given, **seeds}
        reads = (node.reads() for node in program.nodes if node.op not in self._looking_up)
        read = map(program.values.__getitem__, set().union(*reads))
        sources = (value.source for value in read if value.kind in ("parameter", "buffer"))
        self._sources = [(source, source._data) for source in sources]
        uses = zip(program.nodes, last_uses, strict=True)
        for node, names in islice(uses, program.forward):
            self._bind(node, names)
        self._forward = self._binder.taken()
        for node, names in uses:
            self._bind(node, names)
        self._backward = self._binder.taken()
        self._gradients = {name: self.arrays[dx] for name, dx in program.gradients.items()}

    @property
    def nbytes(self) -> int:
        """How many bytes the plan keeps beside its inputs."""
        return self._binder.arena.nbytes + self._binder.arena.small

    def current(self) -> bool:
        """Return whether weights lie where they lay, and the number of threads is what it was."""
        return self.num_threads == self._backend.num_threads and all(
            parameter._data is data for parameter, data in self._sources
        )

    def forward(self, *inputs: Array, rng: np.random.Generator | None = None) -> list[Any]:
        """Return the outputs for these inputs; buffers get their `update`."""
        for own, array in zip(self.inputs, inputs, strict=True):
            if array is not own:
                np.copyto(own, array)
        self._foreign.start(rng)
        result = None
        for call in self._forward:
            result = call()
        # Of a loss, which is a number, there is no array: the last call returns it.
        return [self.arrays.get(name, result) for name in self.program.outputs]

    def backward(self, *gradients: Array) -> dict[str, Array]:
        """Return the gradients by name; the argument is that of the output, where it is no loss."""
        for own, array in zip(self._seeds, gradients, strict=True):
            np.copyto(own, array)
        for call in self._backward:
            call()
        return self._gradients

    # ------------------------------------------------------------------ binding
    def _bind(self, node: Node, last_uses: Iterable[str]) -> None:
        """Add the calls of one op, and let go of the values that nobody needs behind it.

        Its results are arrays that hold nothing yet, or None: a number, or what need not be made.
        """
        arrays, arena = self.arrays, self._binder.arena
        given: dict[str, Any] = {
            name: arrays.get(each) if isinstance(each, str) else [arrays[n] for n in each]
            for name, each in node.arguments.items()
        }
        special = getattr(self, f"_bind_{node.op}", None)
        if special is not None:
            results = special(node, **given)
        else:
            results = method_of(self._binder, node.op)(**given, **node.attributes)
        if not isinstance(results, (tuple, list)):
            results = (results,)
        for name, array in zip(node.results, results, strict=True):
            if name is not None and array is not None:
                arrays[name] = array
                arena.hold(name, array)
        arena.release(last_uses)

    # What the ops copy is a view here: nobody but the plan writes to it.
    def _bind_reshape(self, node: Node, **given: Array) -> Any:
        (x,) = given.values()
        return x.reshape(self.program.values[str(node.results[0])].shape)

    _bind_reshape_backward = _bind_reshape

    def _bind_dropout_mask(self, node: Node) -> Any:
        shape, rate = node.attributes["shape"], node.attributes["rate"]
        mask = self._binder._empty(shape, np.dtype(np.bool_))
        drawn = self._binder._empty(shape, np.dtype(np.float32))
        foreign = self._foreign

        def draw() -> None:
            require_rng(foreign.rng).random(out=drawn, dtype=np.float32)
            np.greater_equal(drawn, rate, out=mask)

        self._binder._run(draw)
        return mask

    def _bind_running_statistics(
        self,
        node: Node,
        running_mean: Array | None,
        running_variance: Array | None,
        mean: Array,
        variance: Array,
    ) -> Any:
        names = node.arguments["running_mean"], node.arguments["running_variance"]
        buffers = [self.program.values[str(name)].source for name in names]
        # At a second place of a layer they go on from those of the first.
        before = "update" if running_mean is None else "_data"
        options: Any = node.attributes

        def update() -> None:
            a, b = (getattr(buffer, before) for buffer in buffers)
            new = running_statistics(a, b, mean, variance, **options)
            buffers[0].update, buffers[1].update = new

        self._binder._run(update)
        return None, None

    def _bind_python(self, node: Node, x: Array | list[Array]) -> Any:
        return self._copied(node, self._foreign.forward, x)

    def _bind_python_backward(self, node: Node, dy: Array | list[Array], y: Array) -> Any:
        return self._copied(node, self._foreign.backward, dy)

    def _copied(self, node: Node, run: Callable[..., Any], given: Array | list[Array]) -> Any:
        """Bind what a foreign layer does, to arrays of its own: it may keep and change them."""
        values = [None if name is None else self.program.values[name] for name in node.results]
        ys = [each and self._binder._empty(each.shape, each.dtype) for each in values]

        def call() -> None:
            own = list(map(np.copy, given)) if isinstance(given, list) else given.copy()
            for y, each in zip(ys, run(node, own), strict=True):
                if y is not None:
                    np.copyto(y, each)

        self._binder._run(call)
        return ys


class _Binder(FastBackend):
    """A fast backend whose ops return arrays as ever, but note what would fill them."""

    num_threads = 1  # of a plan, and not looked up for each op

    def __init__(self, backend: FastBackend, num_threads: int, nbytes: int = 0) -> None:
        super().__init__(backend.isa, convolution=backend.convolution)
        self.num_threads = num_threads
        self._backend = backend
        self._calls: list[Call] = []
        # Of the op that is being bound, if its weights stay: how kernels read them, by who packs
        # them. What is packed for one plan serves the others of a model.
        self.kept: dict[Any, Array] | None = None
        self.arena = Arena(nbytes)
        self._empty = self.arena.make  # type: ignore[method-assign]

    @property
    def _eager(self) -> FastBackend:
        return self._backend

    def taken(self) -> list[Call]:
        """Return the calls since the last time."""
        calls, self._calls = self._calls, []
        return calls

    def _run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        bind = bound.get(call)
        self._calls.append(partial(call, *arguments) if bind is None else bind(*arguments))

    def _check(self, check: Callable[..., Any], *arguments: Any) -> None:
        """Check nothing: a plan's numbers are its own."""

    def _kept(self, size: int, pack: Callable[..., None], w: Array, *more: Any) -> Array | None:
        if self.kept is None:
            return None
        found = self.kept.get(pack)
        if found is None:
            found = empty((size,), w.dtype)
            pack(found, w, *more)
            self.kept[pack] = found  # packed already: plans of other threads take it as it is
        return found


def _most_bytes(program: Program, last_uses: list[list[str]]) -> int:
    """Return how many bytes results take where most are needed at once, ops' workspaces aside."""
    values, sizes = program.values, dict[str, int]()
    most = held = 0
    for node, uses in zip(program.nodes, last_uses, strict=True):
        for name in node.results:
            # Vectors are small, and lie elsewhere.
            if name is not None and len(shape := values[name].shape) > 1:
                size = math.prod(shape) * values[name].dtype.itemsize
                sizes[name] = size + -size % ALIGNMENT
                held += sizes[name]
        most = max(most, held)
        for name in uses:
            if name in sizes:
                held -= sizes[name]
    return most

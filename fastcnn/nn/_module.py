"""Module, the base of every layer, with its parameters and buffers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastcnn._memory import copied
from fastcnn.backend import Array, Backend
from fastcnn.nn._options import Shape, float_dtype, input_shape_of, integer

Backward = Callable[[Array], "Array | None"]
Draw = Callable[["np.random.Generator"], Array]  # quoted: numpy.random takes time to import


def _undeclared(rng: np.random.Generator) -> Array:
    raise RuntimeError(
        "build: expected a layer that declares its variables in declare(), got a copy of one that "
        "declared them before"
    )


class Variable:
    """A named array of a layer: its shape is known first, `data` once the model is built."""

    __slots__ = ("_draw", "data", "shape")

    def __init__(self, shape: Shape, draw: Draw) -> None:
        self.shape = shape
        self._draw = draw
        self.data: Array = np.empty(0)

    def fill(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> None:
        """Draw the initial values."""
        self.data = copied(self._draw(rng), dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles take along: not the draw, which few pickles can hold.

        A layer without weights declares its variables anew before they are drawn.
        """
        slots = {name for cls in type(self).__mro__ for name in getattr(cls, "__slots__", ())}
        return {name: getattr(self, name) for name in sorted(slots - {"_draw"})}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._draw = _undeclared
        for name, value in state.items():
            setattr(self, name, value)
        self.data = copied(self.data, self.data.dtype)


class Parameter(Variable):
    """An array that is trained; a backward pass leaves its gradient in `grad`."""

    __slots__ = ("grad",)

    def __init__(self, shape: Shape, draw: Draw) -> None:
        super().__init__(shape, draw)
        self.grad: Array | None = None


class Buffer(Variable):
    """An array that training changes without a gradient, such as a running mean.

    A forward pass leaves the next value in `update`; Module.apply_updates makes it the value.
    So a step that fails halfway, or whose loss is NaN, leaves buffers as it leaves weights.
    """

    __slots__ = ("update",)

    def __init__(self, shape: Shape, draw: Draw) -> None:
        super().__init__(shape, draw)
        self.update: Array | None = None


V = TypeVar("V", bound=Variable)
_MISSING = object()


class Module:
    """A layer, or a model made of layers.

    Shapes are those of one input, without the batch axis: (28, 28, 1). Arrays that pass through
    have the batch axis first. To write a layer of one's own, override `declare` and `forward`,
    and keep every constructor argument as an attribute of the same name.

    `notes` is a dict for values of JSON that belong with a model, such as the names of its
    classes: `save` writes it to the file, `fastcnn.load` brings it back.
    """

    def __init__(self) -> None:
        self.built = False
        self.input_shape: Shape = ()
        self.output_shape: Shape = ()
        self.trainable = False
        self._parameters: dict[str, Parameter] = {}
        self._buffers: dict[str, Buffer] = {}
        self._children: dict[str, Module] = {}
        self._tracked: list[Buffer] = []  # the buffers of all modules, once planned
        self.notes: dict[str, Any] = {}

    # ------------------------------------------------------------------ to override
    def declare(self, input_shape: Shape) -> Shape:
        """Declare parameters and buffers for inputs of this shape; return the output's shape.

        Nothing is allocated here: a model file is compared with these shapes before it is read.
        """
        raise NotImplementedError

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        """Return (y, backward); x and y have the batch axis first.

        backward(dy) returns dx and leaves the parameters' gradients in their `grad`. It is
        called at most once: it lets go of what forward saved. Without `input_gradient` it may
        return None. `rng` draws the masks of dropout in training.
        """
        raise NotImplementedError

    def __call__(self, x: Array, backend: Backend) -> Array:
        """Return the output in inference, keeping nothing for a backward pass."""
        return self.forward(x, backend)[0]

    # ------------------------------------------------------------------ building
    def build(
        self,
        input_shape: Shape,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
        *,
        seed: int = 0,
    ) -> Shape:
        """Draw the initial weights for inputs of this shape; return the output's shape.

        input_shape is without the batch axis, such as (28, 28, 1); dtype is float32 or float64.
        The weights come from `rng`, or from a generator of that `seed`. Layers that are built
        already (taken from another model) keep their weights. A second build is a ValueError.
        """
        name = type(self).__name__
        if self.built:
            raise ValueError(
                f"build: expected a model without weights, got a {name} that was built already "
                f"for inputs of shape {self.input_shape}"
            )
        shape = input_shape_of(input_shape, "build: input_shape")
        kind = float_dtype(dtype, "build: dtype")
        if rng is None:
            rng = np.random.default_rng(integer(seed, "build: seed", 0))
        elif not isinstance(rng, np.random.Generator):
            raise TypeError(f"build: rng: expected a numpy Generator, got {type(rng).__name__}")
        output_shape = self.plan(shape)
        for module in self.modules():
            if module.dtype is not None and module.dtype != kind:
                raise ValueError(
                    f"build: dtype: expected {module.dtype}, which a {type(module).__name__} "
                    f"layer was built with, got {kind}"
                )
        for module in self.modules():
            if not module.built:
                for variable in module._variables():
                    variable.fill(rng, kind)
        for module in self.modules():
            module.built = True
        return output_shape

    def plan(self, input_shape: Shape) -> Shape:
        """Declare this layer and record its shapes; containers call it for their layers."""
        if self.built:
            if input_shape != self.input_shape:
                raise ValueError(
                    f"{type(self).__name__}: expected inputs of shape {self.input_shape}, which "
                    f"it was built for, got {input_shape}"
                )
            return self.output_shape
        self.output_shape = self.declare(input_shape)
        self.input_shape = input_shape
        self.trainable = bool(self.parameters())
        self._tracked = list(self.buffers().values())
        return self.output_shape

    def declare_parameter(self, name: str, shape: Shape, draw: Draw) -> Parameter:
        """Register a trained array under `name`; `draw(rng)` gives its initial values."""
        self._parameters[name] = Parameter(shape, draw)
        return self._parameters[name]

    def declare_buffer(self, name: str, shape: Shape, draw: Draw) -> Buffer:
        """Register an array that is saved but not trained."""
        self._buffers[name] = Buffer(shape, draw)
        return self._buffers[name]

    def adopt(self, state: Mapping[str, Array]) -> None:
        """Take these arrays as data of a planned model: how a model file becomes a model."""
        for name, variable in self.variables().items():
            variable.data = copied(state[name], state[name].dtype)
        for module in self.modules():
            module.built = True

    def _require_built(self) -> None:
        if not self.built:
            raise RuntimeError(
                f"{type(self).__name__}: expected a built layer, got one without weights; call "
                "build(input_shape) on the model first"
            )

    # ------------------------------------------------------------------ what it holds
    def modules(self) -> Iterator[Module]:
        """Yield this module and all that it holds."""
        yield self
        for child in self._children.values():
            yield from child.modules()

    def parameters(self) -> dict[str, Parameter]:
        """Return every trained array by its dotted name, in the order of the layers."""
        return self._collect(lambda module: module._parameters)

    def buffers(self) -> dict[str, Buffer]:
        """Return every array that is saved but not trained, by its dotted name."""
        return self._collect(lambda module: module._buffers)

    def variables(self) -> dict[str, Variable]:
        """Return parameters and buffers by their dotted names, layer by layer."""
        return self._collect(lambda module: {**module._parameters, **module._buffers})

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every parameter and buffer by its dotted name."""
        return {name: variable.shape for name, variable in self.variables().items()}

    def _variables(self) -> list[Variable]:
        return [*self._parameters.values(), *self._buffers.values()]

    def _collect(self, own: Callable[[Module], Mapping[str, V]]) -> dict[str, V]:
        found = dict(own(self))
        for prefix, child in self._children.items():
            for name, variable in child._collect(own).items():
                found[f"{prefix}.{name}"] = variable
        return found

    @property
    def parameter_count(self) -> int:
        """The number of trained numbers."""
        return sum(_size(parameter.shape) for parameter in self.parameters().values())

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of the weights; None before `build`, or where there are none."""
        for module in self.modules():
            if module.built:
                for variable in module._variables():
                    return variable.data.dtype
        return None

    @property
    def min_batch(self) -> int:
        """The smallest batch that this model can train on; batch normalization may need two."""
        return max((child.min_batch for child in self._children.values()), default=1)

    def apply_updates(self) -> None:
        """Give buffers the values that the last forward pass in training left for them.

        Whoever trains calls this together with the optimizer's step; the trainer does.
        """
        for buffer in self._tracked:
            if buffer.update is not None:
                buffer.data, buffer.update = buffer.update, None

    # ------------------------------------------------------------------ weights in and out
    def state_dict(self) -> dict[str, Array]:
        """Return copies of all weights and running statistics: {"0.weight": array, ...}."""
        self._require_built()
        return {name: variable.data.copy() for name, variable in self.variables().items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy weights and running statistics into this built model.

        Names, shapes and dtypes must be those of `state_dict()`; on any error nothing changes.
        """
        self._require_built()
        arrays = check_state(self.shapes(), state, self.dtype)
        for name, variable in self.variables().items():
            np.copyto(variable.data, arrays[name])

    def save(self, path: str | os.PathLike[str], *, notes: Mapping[str, Any] | None = None) -> None:
        """Write architecture, weights and notes to a safetensors file; fastcnn.load reads it.

        The file appears whole or not at all: an older one survives any failure. notes: values
        of JSON for this file, such as {"classes": ["cat", "dog"]}, instead of the model's own
        `notes`; after fastcnn.load they are the model's. Raises TypeError or ValueError for
        notes that JSON cannot hold, OSError where the file cannot be written.
        """
        from fastcnn.serialization import save_model

        save_model(self, path, self.notes if notes is None else notes)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments by name: each is an attribute of that name.

        What collects others (*layers, **options) is an attribute too, a sequence or a dict.
        Raises ValueError, which names layer and argument, where an attribute is missing.
        """
        options: dict[str, Any] = {}
        for name, parameter in list(inspect.signature(type(self).__init__).parameters.items())[1:]:
            value: Any = getattr(self, name, _MISSING)
            collects = parameter.kind is parameter.VAR_KEYWORD
            if value is _MISSING or (collects and not isinstance(value, Mapping)):
                kind = "a dict" if collects else "an attribute"
                raise ValueError(
                    f"{type(self).__name__}: {name}: expected the constructor's argument as "
                    f"{kind} self.{name}, got none; set it, or override config()"
                )
            options.update(value if collects else {name: value})
        return options

    # ------------------------------------------------------------------ in words
    def summary(self) -> str:
        """Return a table of the layers, their output shapes and numbers of parameters."""
        self._require_built()
        rows = [("Layer", "Output shape", "Parameters"), *self._rows("")]
        first, second, third = (max(len(row[i]) for row in rows) for i in range(3))
        lines = [f"{a:<{first}}  {b:<{second}}  {c:>{third}}" for a, b, c in rows]
        lines.insert(1, "-" * len(lines[0]))
        statistics = sum(_size(buffer.shape) for buffer in self.buffers().values())
        also = f" (and {statistics:,} running statistics)" if statistics else ""
        return "\n".join([*lines, lines[1], f"Input {self.input_shape}, {self.dtype}"]) + (
            f"\nTrained parameters: {self.parameter_count:,}{also}"
        )

    def _rows(self, prefix: str) -> list[tuple[str, str, str]]:
        own = sum(_size(parameter.shape) for parameter in self._parameters.values())
        label = f"{prefix} {type(self).__name__}".strip()
        return [(label, str(self.output_shape), f"{own:,}")]

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        try:
            config = self.config()
        except ValueError:  # a layer of one's own that does not keep its arguments
            return f"{type(self).__name__}(...)"
        options = ", ".join(
            f"{name}={value!r}"
            for name, value in config.items()
            if name not in defaults or np.any(value != defaults[name].default)
        )
        return f"{type(self).__name__}({options})"


def aside(backend: Backend, call: Callable[[], None]) -> None:
    """Make a call that is no op's; a backend that records what it runs keeps it."""
    keep = getattr(type(backend), "aside", None)  # of a type: a wrapper hands on what it is asked
    if keep is None:
        call()
    else:
        keep(backend, call)


def check_state(
    shapes: Mapping[str, Shape],
    state: Mapping[str, ArrayLike],
    dtype: np.dtype[Any] | None,
) -> dict[str, Array]:
    """Return the state's arrays if names, shapes and dtypes are as expected, else raise."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a mapping of names to arrays, got {type(state).__name__}")
    missing = [name for name in shapes if name not in state]
    unexpected = [str(name) for name in state if name not in shapes]
    if missing or unexpected:
        parts = [
            f"{what} {', '.join(f'{name:.80}' for name in names[:5])}"
            f"{', ...' if len(names) > 5 else ''}"
            for what, names in (("missing:", missing), ("unexpected:", unexpected))
            if names
        ]
        raise ValueError(f"state: expected the names of this model's arrays; {'; '.join(parts)}")
    arrays = {}
    for name, shape in shapes.items():
        array = np.asarray(state[name])
        if dtype is None or array.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"state: {name}: expected dtype {dtype}, got {array.dtype}")
        if array.shape != shape:
            raise ValueError(f"state: {name}: expected shape {shape}, got {array.shape}")
        arrays[name] = array
    return arrays


def _size(shape: Shape) -> int:
    size = 1
    for count in shape:
        size *= count
    return size

"""Module, the base of every layer."""

from __future__ import annotations

import os
from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastcnn._memory import copied
from fastcnn._options import float_dtype, input_shape_of, integer, name_or_none, one_or_several
from fastcnn._sentences import explained
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn import _own, _rules, _words
from fastcnn.nn._places import require_one
from fastcnn.nn._run import Tracing
from fastcnn.nn._state import check_state, config_of
from fastcnn.nn._symbol import Symbol, called_on, symbols_or_error
from fastcnn.nn._tree import Tree, fixed
from fastcnn.nn._variable import Buffer, Draw, Parameter

if TYPE_CHECKING:
    from fastcnn.program import Program
    from fastcnn.pytorch import Loaded

Backward = Callable[[Array], "Array | None"]


class _LayerType(ABCMeta):
    """The type of layers' classes; of ABCMeta, so that a layer may have an abstract base too."""

    def __dir__(cls) -> Iterable[str]:
        """Return what a class has beside Module: help() of a layer is a page about that layer."""
        names = super().__dir__()
        return names if cls is Module else [name for name in names if not hasattr(Module, name)]


class Module(Tree, metaclass=_LayerType):
    """A layer, or a model made of layers.

    Shapes are those of one input, without the batch axis: (28, 28, 1). Arrays that pass through
    have the batch axis first. To write a layer of one's own, override `declare` and `forward`,
    and keep every constructor argument as an attribute of the same name. Layers in its
    attributes, in lists, tuples and dicts too, are its children: `declare` calls `plan` of each,
    `forward` their `forward`.

    Once a model is built, its layers stay. So do the options of the library's layers, but those
    that are read at each call, such as Dropout's rate.

    `name`, which the constructor of every layer takes, is what an output of a Model that the layer
    makes is called where arrays are given in dicts. `notes` is a dict for values of JSON that
    belong with a model, such as the names of its classes: `save` writes it to the file,
    `fastcnn.load` brings it back.
    """

    built: bool  # whether it has weights
    input_shape: Shape  # of one input, () before it is planned
    output_shape: Shape
    notes: dict[str, Any]
    name: str | None

    # Options that may be set at any time, as all parts of the library read them at each call; and
    # how each is checked. The other options of a layer hold from when it is made.
    _settings: ClassVar[Mapping[str, Callable[[Any], object]]] = {}
    _options: ClassVar[frozenset[str]] = frozenset()  # of a layer of the house, and with its arrays
    _known: ClassVar[frozenset[str] | None] = None
    _hint: ClassVar[str] = ""  # to wrong arguments of the constructor
    _of_symbols: ClassVar[bool] = False  # made of them, not called on them alone
    _building: ClassVar[str] = "build(input_shape)"  # how that is called
    _has_row: ClassVar[bool] = True  # of its own in a summary
    _takes_several: ClassVar[bool] = False  # inputs; of a layer of the house

    @_rules.explained
    def __init__(self, *, name: str | None = None) -> None:
        vars(self).update(built=False, input_shape=(), output_shape=(), notes={})
        if name is not None or not hasattr(type(self), "name"):  # a class of one's own may have one
            vars(self)["name"] = name_or_none(name, f"{type(self).__name__}: name")
        self._planned = False
        self._frozen = False
        self._parameters: dict[str, Parameter] = {}
        self._buffers: dict[str, Buffer] = {}
        self._declared: set[str] = set()  # names of these, in this plan
        self._children: dict[str, Module] = {}  # once built
        self._below: list[tuple[str, Module]] | None = None  # once it was walked
        self._tracked: list[Buffer] = []  # the buffers of all modules, once planned
        self._elsewhere: dict[Any, Any] = {}  # what it gives at places of other shapes, once built

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _rules.hold_to_rules(cls)

    def __setattr__(self, name: str, value: object) -> None:
        check = self._settings.get(name)
        if check is None and name != "notes":
            _rules.refuse_change(self, name, value)
        object.__setattr__(self, name, value if check is None else check(value))

    def __delattr__(self, name: str) -> None:
        _rules.refuse_change(self, name, ...)
        object.__delattr__(self, name)

    if not TYPE_CHECKING:  # with it, type checkers would take any attribute

        def __getattr__(self, name: str) -> Any:
            raise _rules.not_there(self, name)

    # ------------------------------------------------------------------ to override
    def declare(self, input_shape: Shape) -> Shape:
        """Declare parameters and buffers for inputs of this shape; return the output's shape.

        Nothing is allocated here: a model file is compared with these shapes before it is read.
        A layer that holds others calls `plan` of each with the shape that it will see.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected a method declare, got none")

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
        raise NotImplementedError(f"{type(self).__name__}: expected a method forward, got none")

    @overload
    def __call__(
        self, x: Symbol | Sequence[Symbol] | Mapping[str, Symbol], backend: None = None
    ) -> Symbol: ...
    @overload
    def __call__(self, x: Array, backend: Backend) -> Array: ...
    @explained
    def __call__(self, x: Any, backend: Backend | None = None) -> Any:
        """Return the output in inference, keeping nothing for a backward pass.

        Called on a symbol, or on a list of them, it is written into a network instead: see Model.
        Models know no backend: a call without one is a TypeError that says who has.
        """
        if backend is None or isinstance(backend, str) or not hasattr(x, "dtype"):
            symbols = symbols_or_error(self, x, backend)
            if symbols is not None:
                return called_on(self, symbols)
            backend = _rules.require_backend(self, backend)
        if isinstance(backend, Tracing):  # a layer of one's own calls those that it holds
            return backend.layer(self, x, training=backend.training)[0]
        return self.forward(x, backend)[0]

    # ------------------------------------------------------------------ building
    @explained
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
        shape = one_or_several(input_shape, "build: input_shape", input_shape_of)
        kind = float_dtype(dtype, "build: dtype")
        if rng is None:
            rng = np.random.default_rng(integer(seed, "build: seed", 0, any_size=True))
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
                for name, variable in module._own().items():
                    variable.fill(rng, kind, f"{type(module).__name__}: {name}")
        self._settle()
        return output_shape

    def plan(self, input_shape: Shape) -> Shape:
        """Declare this layer and record its shapes; containers call it for their layers."""
        name = type(self).__name__
        if self.built:
            if input_shape != self.input_shape:
                raise ValueError(
                    f"{name}: expected inputs of shape {self.input_shape}, which it was built "
                    f"for, got {input_shape}"
                )
            return self.output_shape
        _rules.require_methods(self)
        require_one(self, input_shape)
        for _ in self.modules():
            pass  # each at one place
        self._declared = set()
        output_shape = one_or_several(self.declare(input_shape), f"{name}: declare: its result")
        _rules.require_declared(self)
        vars(self).update(input_shape=input_shape, output_shape=output_shape)
        self._planned = True
        self._tracked = list(self.buffers().values())
        return self.output_shape

    def declare_parameter(self, name: str, shape: Shape, draw: Draw) -> Parameter:
        """Register a trained array under `name`; `draw(rng)` gives its initial values."""
        shape = _rules.declared(self, name, shape, draw)
        self._parameters[name] = Parameter(shape, draw)
        return self._parameters[name]

    def declare_buffer(self, name: str, shape: Shape, draw: Draw) -> Buffer:
        """Register an array that is saved but not trained."""
        shape = _rules.declared(self, name, shape, draw)
        self._buffers[name] = Buffer(shape, draw)
        return self._buffers[name]

    def adopt(self, state: Mapping[str, Array]) -> None:
        """Take these arrays as data of a planned model: how a model file becomes a model."""
        for name, variable in self.variables().items():
            variable.data = copied(state[name], state[name].dtype)
        self._settle()

    def _settle(self) -> None:
        """Make this and all that it holds built: what they hold is then fixed."""
        for module in reversed(list(self.modules())):  # the whole last, which threads ask
            if not module.built:
                for name, value in vars(module).items():
                    vars(module)[name] = fixed(value)
                module._children = module.children()
                vars(module)["built"] = True

    def _require_built(self) -> None:
        if not self.built:
            raise RuntimeError(
                f"{type(self).__name__}: expected a built layer, got one without weights; call "
                f"{self._building} on the model first"
            )

    # ------------------------------------------------------------------ what it holds
    def apply_updates(self) -> None:
        """Give buffers the values that the last forward pass in training left for them.

        Whoever trains calls this together with the optimizer's step; the trainer does.
        """
        for buffer in self._tracked:
            if buffer.update is not None:
                buffer._data, buffer.update = buffer.update, None

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

    def load_pytorch_state(
        self,
        state: Mapping[str, ArrayLike] | str | os.PathLike[str],
        *,
        strict: bool = True,
        names: Mapping[str, str] | None = None,
        flatten: str = "CHW",
    ) -> Loaded:
        """Copy the weights of a PyTorch model of the same layers into this built model.

        state: a state dict of PyTorch (arrays, or tensors), or a file of one, which
        fastcnn.pytorch.load_state reads. Arrays are brought into the axes that layers have here,
        and into the model's dtype; the rows of a dense layer behind Flatten into the order of
        features here. flatten: in which order the other network flattens images, where it permutes
        them before, such as "WHC".

        Arrays go by name where each of the model's finds its own, names of wrappers ("module.")
        left aside. Else they go in order: each layer takes the next of PyTorch's with arrays of the
        same names and shapes; look at `loaded` where a network lists layers in another order than
        it runs them. names: names of layers here, and of modules there, as {"0": "features.0",
        "1": "layer1"}; what is in a layer goes with it, the others go by their own name.

        Returns (loaded, missing, unexpected); with strict a ValueError tells what is missing or
        unexpected, and nothing changes on any error.
        """
        from fastcnn.pytorch._match import load_into

        self._require_built()
        return load_into(self, state, strict, names, flatten)

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
        return config_of(self)

    # ------------------------------------------------------------------ as a program
    def program(
        self,
        batch_size: int = 1,
        *,
        training: bool = False,
        gradients: bool = False,
        fused: bool = False,
        loss: str | Callable[..., Any] | None = None,
    ) -> Program:
        """Return what this built model computes for a batch, op by op; print it to read it.

        training: as a step of training does. gradients: with the backward pass behind it. fused: as
        the fast backend computes it. loss: with a loss as the last op, such as "cross_entropy".
        """
        from fastcnn.program.show import program_of

        self._require_built()
        return program_of(self, batch_size, training, gradients, fused, loss)

    def is_traceable(self) -> bool:
        """Return whether forward calls nothing but ops, so that a program can say what it does.

        The layers of the house do. A layer of one's own says so by `traceable = True`: its forward
        calls ops of the backend, and layers as in self.conv(x, backend), and returns y alone. Ops
        take parameters as they are, self.scale.data: what NumPy makes of one is refused, for it
        would not be trained. What its attributes say, a prediction reads anew, training each epoch.
        """
        return _own.is_traceable(self)

    # ------------------------------------------------------------------ in words
    def summary(self) -> str:
        """Return a table of the layers, their output shapes and numbers of parameters."""
        self._require_built()
        return _words.as_table(self)

    def __repr__(self) -> str:
        return _words.as_text(self)

    def _repr_html_(self) -> str:
        return _words.as_html(self)

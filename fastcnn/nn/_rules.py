"""What classes of layers and their attributes are held to, so that all parts of the library agree.

Forward, training, inference and a saved file each look at a layer at another time. An attribute
that only some of them would see is refused where it is set, and a layer of one's own that lacks
something is told what.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from fastcnn._options import identifier, shape_of
from fastcnn._sentences import misfit, no_attribute
from fastcnn._types import Shape
from fastcnn.nn._own import HOUSE, checked
from fastcnn.nn._symbol import Symbol
from fastcnn.nn._tree import FIXED, Tree, holds, unseen
from fastcnn.nn._variable import Variable

if TYPE_CHECKING:
    from fastcnn.nn._module import Module

__all__ = [
    "declared",
    "explained",
    "hold_to_rules",
    "not_there",
    "refuse_change",
    "require_backend",
    "require_declared",
    "require_methods",
]

Function = Callable[..., Any]

# What people look for on a model and find elsewhere.
_ELSEWHERE = {
    "fit": "fastcnn.Trainer(model).fit(x, y) trains a model",
    "train": "fastcnn.Trainer(model).fit(x, y) trains a model; forward(..., training=True) is one "
    "pass in training",
    "eval": "a model has no modes: forward(..., training=False) is a pass in inference",
    "compile": "fastcnn.Trainer(model, optimizer=..., loss=...) takes what compile would",
    "predict": "fastcnn.Trainer(model).predict(x) or fastcnn.Predictor(model)(x) runs a model",
    "predict_proba": "fastcnn.Trainer(model).predict_proba(x) gives probabilities",
    "evaluate": "fastcnn.Trainer(model).evaluate(x, y) measures a model",
    "backward": "forward(x, backend) returns (y, backward)",
    "zero_grad": "each backward pass leaves new gradients",
    "to": "a model runs on CPUs; build(..., dtype=...) chooses float32 or float64",
    "cuda": "a model runs on CPUs",
    "cpu": "a model runs on CPUs",
    "add": "nn.Sequential([*model.layers, layer]) is a model with one layer more",
    "append": "nn.Sequential([*model.layers, layer]) is a model with one layer more",
    "pop": "nn.Sequential(model.layers[:-1]) is a model with one layer less",
    "get_layer": "children() has its layers by name, modules() all that it holds",
    "count_params": "summary() has the numbers of parameters",
    "named_parameters": "parameters() returns them by name",
    "weights": "parameters() returns them by name",
    "trainable_weights": "trained_parameters() returns them by name",
    "get_weights": "state_dict() returns the weights by name",
    "set_weights": "load_state_dict(state) takes weights by name",
    "save_weights": "save(path) writes weights and architecture",
    "load_weights": "fastcnn.load(path) reads a model, load_state_dict(state) takes weights",
    "load": "fastcnn.load(path) reads a model",
    "requires_grad_": "model.trainable = False freezes a model or a layer",
    "freeze": "model.trainable = False freezes a model or a layer",
}


# ---------------------------------------------------------------------- classes
def _base(cls: type[Module]) -> type[Module]:
    """Return Module, which imports this file, by what tells it from its subclasses."""
    return next(each for each in cls.__mro__ if Tree in each.__bases__)


def hold_to_rules(cls: type[Module]) -> None:
    """Prepare a class of layers when it is defined: what it takes, and what it must give."""
    if "trainable" in vars(cls):
        raise TypeError(
            f"{cls.__name__}: trainable: expected it to be set on layers, got it on their class"
        )
    if "__init__" in vars(cls):
        cls.__init__ = explained(cls.__init__)  # type: ignore[method-assign]
    if cls.__module__.startswith(HOUSE):
        cls._options = frozenset(list(inspect.signature(cls.__init__).parameters)[1:])
        cls._known = cls._options.union(
            *(vars(base).get("__annotations__", ()) for base in cls.__mro__)
        )
    else:
        cls._known = None
        if "forward" in vars(cls) and "__call__" not in vars(cls):
            # Not a shortcut past the new forward.
            cls.__call__ = _base(cls).__call__  # type: ignore[method-assign]
        own = "forward" in vars(cls) or "declare" in vars(cls)
        if own and cls.forward is not _base(cls).forward:
            cls.forward = checked(cls.forward)  # type: ignore[method-assign]


def explained(init: Function) -> Function:
    """Let a constructor name its arguments where it is given others, or doesn't call its base's."""

    @wraps(init)
    def make(self: Module, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        try:
            init(self, *args, **kwargs)
        except TypeError:
            symbols = [each for each in args if isinstance(each, Symbol)]
            if symbols and not cls._of_symbols:
                call = f"{cls.__name__}({'...' * (len(args) > len(symbols))})"
                raise TypeError(
                    f"{cls.__name__}: expected its options, got a symbol; {call}(x) is the layer "
                    "called on one"
                ) from None
            said = misfit(init, (self, *args), kwargs, cls._hint)
            if said is None:
                raise
            raise TypeError(said) from None
        if cls.__init__ is make and "built" not in vars(self):
            raise TypeError(_without_init(cls))

    return make


def require_methods(module: Module) -> None:
    """Refuse a layer without declare or forward, or with a forward that is called otherwise."""
    cls = type(module)
    for method, what in (
        ("declare", "declare(self, input_shape), which returns the shape of one output"),
        ("forward", "forward(self, x, backend, ...), which returns (y, backward)"),
    ):
        if getattr(cls, method) is getattr(_base(cls), method):
            raise TypeError(f"{cls.__name__}: expected a method {what}, got none")
    signature = inspect.signature(cls.forward)
    try:
        signature.bind(module, None, None, training=False, rng=None, input_gradient=True)
    except TypeError:
        raise TypeError(
            f"{cls.__name__}: forward: expected forward(self, x, backend, *, training=False, "
            f"rng=None, input_gradient=True), got forward({', '.join(signature.parameters)})"
        ) from None


def require_declared(module: Module) -> None:
    """Refuse what declare forgot: a layer that it did not plan, a parameter made otherwise.

    And layers that lie where nobody finds them.
    """
    name = type(module).__name__
    for key, child in module.children().items():
        if not child._planned:
            raise TypeError(
                f"{name}: declare: expected it to call plan(input_shape) of every layer that it "
                f"holds, got none for {key!r:.80}, a {type(child).__name__}"
            )
    found = {id(each) for each in module.modules()}
    known = {id(variable) for variable in module.variables().values()}
    for key, value in vars(module).items():
        if key not in module._hidden:
            for layer, holder in unseen(value):
                if id(layer) not in found:
                    raise TypeError(
                        f"{name}: {key:.80}: expected layers in attributes, lists, tuples and "
                        f"dicts, got a {type(layer).__name__} in a {type(holder).__name__}"
                    )
        if isinstance(value, Variable) and id(value) not in known:
            raise TypeError(
                f"{name}: {key}: expected what declare_parameter or declare_buffer returns, got a "
                f"{type(value).__name__} made otherwise"
            )


def declared(module: Module, name: str, shape: Shape, draw: object) -> Shape:
    """Check what a layer declares, each name once; return its shape."""
    who = type(module).__name__
    identifier(name, f"{who}: name")
    if name in module._declared:
        raise ValueError(f"{who}: name: expected each once, got {name} twice")
    if not callable(draw):
        raise TypeError(
            f"{who}: {name}: draw: expected a function of a numpy Generator, got "
            f"{type(draw).__name__}"
        )
    module._declared.add(name)
    return shape_of(shape, f"{who}: {name}: shape")


# ---------------------------------------------------------------------- attributes
def refuse_change(module: Module, name: str, value: object) -> None:
    """Refuse an attribute that would hold for a part of the library only."""
    cls, state = type(module), vars(module)
    where, present = f"{cls.__name__}: {name:.80}", state.get(name)
    built = state.get("built", False)
    if name == "trainable":  # a property, which checks it
        return
    if name == "traceable" and type(value) is bool:
        raise AttributeError(f"{where}: expected it of a class of layers, got it set on one layer")
    if name in _OWN or (hasattr(_base(cls), name) and not name.startswith("_")):
        raise AttributeError(f"{where}: expected another name, for this one is every layer's own")
    if name in state and value is present:
        return
    own_name = name == "name" and cls._known is None  # of a class that may use it as it likes
    if name in cls._options and name in state and not own_name:
        if type(value) not in _PLAIN or value != present:
            raise AttributeError(
                f"{where}: can't be changed, for options hold from when a layer is made; "
                f"make a new {cls.__name__} instead"
            )
    elif cls._known is not None and not name.startswith("_"):
        if name not in cls._known:
            raise AttributeError(
                f"{where}: expected an attribute that the layer has, got another; its options are "
                f"{', '.join(sorted(cls._options)) or 'none'}"
            )
        if name not in cls._options:
            present = present or _VARIABLE
    if present is _VARIABLE or isinstance(present, Variable):
        own = [*state.get("_parameters", {}).values(), *state.get("_buffers", {}).values()]
        if built or not (value is None or any(value is each for each in own)):
            raise TypeError(
                f"{where}: expected the parameter that the layer declares, got "
                f"{type(value).__name__}; put an array into {name}.data, or use load_state_dict"
            )
    elif built and value is not present and (holds(present) or holds(value)):
        raise AttributeError(f"{where}: {FIXED}")


_OWN = ("built", "input_shape", "output_shape")
_PLAIN = (int, float, str, bool, tuple, type(None))
_VARIABLE: Any = object()  # in the place of a parameter that is not declared yet


def not_there(module: Module, name: str) -> AttributeError:
    """Return the error of an attribute that a layer doesn't have."""
    cls = type(module)
    special = name.startswith("__") and name.endswith("__")
    if not special and "built" not in vars(module):
        return AttributeError(_without_init(cls), name=name, obj=module)
    if name not in _ELSEWHERE and cls._known is not None and name in cls._known - cls._options:
        said = f"{cls.__name__} has no {name} yet: build(input_shape) makes it"
        return AttributeError(said, name=name, obj=module)
    return no_attribute(module, name, _ELSEWHERE)


def _without_init(cls: type[Module]) -> str:
    return f"{cls.__name__}: __init__: expected it to call super().__init__(), got a layer without"


def require_backend(module: Module, backend: Any) -> Any:
    """Return the backend of a call; TypeError for none."""
    if backend is not None and not isinstance(backend, str):
        return backend
    got = "none" if backend is None else f"{backend!r:.80}"
    raise TypeError(
        f"{type(module).__name__}: backend: expected one, as in model(x, fastcnn.FastBackend()), "
        f"got {got}; fastcnn.Predictor(model)(x) and fastcnn.Trainer(model).predict(x) have one"
    )

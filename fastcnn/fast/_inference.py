"""Inference on the fast backend: a model's program, folded and fused, as plans with packed weights.

A convolution or dense layer with what its kernel takes along is a product: batch normalization
goes into its weights, and a sum, an activation or a max-pool behind it into its last write. What
depends on weights alone is made once for all plans of a model. A plan is for one shape of batches
and one call at a time; those that wait for the next call are kept, up to a number of bytes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastcnn._memory import copied, same_bytes
from fastcnn._types import Array
from fastcnn.fast import FastBackend
from fastcnn.fast._fusions import INFERENCE
from fastcnn.fast._linear import FEW_ROWS
from fastcnn.fast._plan import Plan
from fastcnn.nn import Module
from fastcnn.nn._places import is_several, shapes_of
from fastcnn.program import Node, Program, trace
from fastcnn.program.fold import folded
from fastcnn.program.match import fuse
from fastcnn.program.ops import method_of

__all__ = ["compiled"]

_MOST_SHAPES = 16  # of batches whose plans wait for the next
_MOST_BYTES = 64 << 20  # that they keep: a batch that needs more gains nothing by it
# Options that may be set at any time, and that inference reads:
_SETTINGS = ("alpha", "approximate", "beta", "epsilon", "high", "low", "negative_slope")
_OF_ALL = frozenset(vars(Module()))  # attributes that every layer has


def compiled(model: Module, backend: FastBackend, *, follow: bool) -> Callable[..., Any]:
    """Return a function of x that computes model(x, backend) in inference, from any thread.

    Of a model with several inputs it is a function of them, in batches of one size; several outputs
    it gives as a tuple.

    With `follow` every call sees weights and settings as they are then, however they were changed.
    Without it they must not change.
    """
    products = _Products(follow)
    modules = list(model.modules()) if follow else []
    settings = [
        (vars(module), name) for module in modules for name in _SETTINGS if name in module._settings
    ]
    own = [vars(module) for module in modules if _is_own(module)]
    plans = _Plans()
    takes_several = is_several(model.input_shape)
    gives_several = is_several(model.output_shape)

    def make(x: Array, *more: Array) -> _InferencePlan:
        shapes = shapes_of((x, *more)) if takes_several else shapes_of(x)
        program = trace(model, len(x), dtype=x.dtype, input_shape=shapes)
        return _InferencePlan(fuse(program, INFERENCE), backend, products, gives_several, x, *more)

    def run(x: Array, *more: Array) -> Any:
        now: list[Any] | None = [holder[name] for holder, name in settings] if settings else None
        if own:
            now = [now, *(_As(holder[name]) for holder in own for name in holder.keys() - _OF_ALL)]
        idle = plans[backend.num_threads, x.itemsize, x.shape]
        # Only calls that no other Python thread comes between: a plan is in one place.
        try:
            plan = idle.pop()
        except IndexError:
            plan = None
        if plan is None or (follow and not (plan.settings == now and plan.current())):
            plan = make(x, *more)
            plan.settings = now
            plans.add(plan)
        y = plan(x, *more)
        idle.append(plan)
        return y

    return run


def _is_own(module: Module) -> bool:
    """Return whether a program holds what attributes, of any name, were when it was written."""
    return type(module)._known is None and module.is_traceable()


class _As:
    """A value as it is now; equal to another where a program would hold the same.

    Lists and dicts may be changed, and are compared by what was in them. So are numbers and words;
    all else, arrays too, are the same objects or others: what is in an array is read when it runs.
    """

    def __init__(self, value: Any) -> None:
        self._value, self._parts = value, None
        if isinstance(value, dict):
            value = [*value, *value.values()]
        if isinstance(value, (list, tuple)):
            self._value, self._parts = type(value), list(map(_As, value))

    def __eq__(self, other: Any) -> bool:
        if self._parts is not None or other._parts is not None:
            return bool(self._value is other._value and self._parts == other._parts)
        one, two = self._value, other._value
        plain = type(one) is type(two) and isinstance(one, (int, float, str))
        return one is two or (plain and bool(one == two))

    __hash__ = None  # type: ignore[assignment]


class _Plans(dict[Any, list[Any]]):
    """The plans of a model, by the shapes of batches, of a bounded number of bytes.

    What stands under a shape is the list of its plans that no call runs: take one, and give it
    back.
    """

    def __init__(self) -> None:
        self._bytes = 0

    def __missing__(self, key: Any) -> list[Any]:
        if len(self) >= _MOST_SHAPES:
            self._clear()
        return self.setdefault(key, [])

    def add(self, plan: Plan) -> None:
        """Count a new plan's bytes; where they are too many, forget all other plans.

        A call that still runs one of these gives it back to a list that nobody looks at any more.
        """
        if self._bytes + plan.nbytes > _MOST_BYTES:
            self._clear()
        self._bytes += plan.nbytes

    def _clear(self) -> None:
        self.clear()
        self._bytes = 0


class _InferencePlan(Plan):
    """A plan whose convolutions and dense layers are made of weights that are packed already."""

    _looking_up = ("conv2d_product", "conv2d_pool_product", "linear_product")

    def __init__(
        self,
        program: Program,
        backend: FastBackend,
        products: _Products,
        gives_several: bool,
        *inputs: Array,
    ) -> None:
        self._products, self._gives_several = products, gives_several
        # What holds weights, with these or a copy of them.
        self._compared: list[tuple[Any, Array, bool]] = []
        self.settings: list[Any] | None = None  # of the layers, when it was made
        super().__init__(program, backend, *(copied(x, x.dtype) for x in inputs))
        self._compared += [(holder, data, False) for holder, data in self._sources]
        self._x, self._y = self.inputs[0], self.arrays[program.outputs[0]]

    def current(self) -> bool:
        """Return whether the ops are those of the weights as they are now: they are compared."""
        for holder, data, is_copy in self._compared:
            now = holder._data
            if now is not data and not (is_copy and same_bytes(now, data)):
                return False
        return True

    def __call__(self, x: Array, *more: Array) -> Any:
        """Return the model's output for x, or a tuple of several, in arrays of their own."""
        self._x[...] = x
        if more:
            for own, other in zip(self.inputs[1:], more, strict=True):
                own[...] = other
        for call in self._forward:
            call()
        if self._gives_several:
            return tuple(self.arrays[name].copy() for name in self.program.outputs)
        return self._y.copy()

    def _bind_product(self, node: Node, x: Array, r: Array | None = None, **weights: Array) -> Any:
        product = self._products.of(node, self.program)
        made = product.made(len(x))
        pairs = zip(product.holders, made.sources, strict=True)
        self._compared += [(holder, data, made.from_copies) for holder, data in pairs]
        joined = {} if r is None else {"r": r}
        op = method_of(self._binder, node.op)
        self._binder.kept = made.kept
        y = op(x, made.w, made.b, **joined, **product.options)
        self._binder.kept = None
        return y

    _bind_conv2d_product = _bind_conv2d_pool_product = _bind_linear_product = _bind_product


class _Made(NamedTuple):
    """Weights of a product and what was made of them, in one: threads see all of it or nothing.

    sources: what it was made from: copies, or, where that is read as it lies, the arrays
    themselves. w, b: what its op takes. kept: these as kernels read them, by who packed them.
    """

    sources: list[Array]
    from_copies: bool
    w: Array
    b: Array | None
    kept: dict[Any, Array]


class _Products:
    """The convolutions and dense layers of a model's programs, whatever the size of a batch."""

    def __init__(self, follow: bool) -> None:
        self._follow = follow
        self._products: dict[Any, _Product] = {}

    def of(self, node: Node, program: Program) -> _Product:
        """Return the product of a node: the same for all programs of the model."""
        arguments = {name: value for name, value in node.arguments.items() if name not in "xr"}
        key = node.op, tuple(arguments.items()), repr(node.attributes)
        found = self._products.get(key)
        if found is None:
            variables = {name: program.values[str(each)] for name, each in arguments.items()}
            found = self._products[key] = _Product(node, variables, self._follow)
        return found


class _Product:
    """A convolution or dense layer of certain weights, with what is joined to it.

    With `follow` what its op takes is made of a copy of the weights, and made again when they
    differ from that copy. Whatever other threads do to them meanwhile, what is in use is what was
    compared.
    """

    def __init__(self, node: Node, variables: dict[str, Any], follow: bool) -> None:
        self.options = dict(node.attributes)
        self._epsilon = self.options.pop("epsilon", None)
        self._names = list(variables)
        self.holders = [
            _Constant(value.source) if value.kind == "constant" else value.source
            for value in variables.values()
        ]
        self._is_dense = node.op == "linear_product"
        self._follow = follow
        # To compare the weights of a dense layer with a copy takes longer than to use them once:
        # a few rows read them where they are.
        self._reads_in_place = follow and self._is_dense and self._epsilon is None
        self._made: _Made | None = None
        self._made_in_place: _Made | None = None

    def made(self, rows: int) -> _Made:
        """Return what was made of the weights as they are now, for a batch of so many rows."""
        made = self._made
        if made is not None and not self._follow:
            return made
        weights = [holder._data for holder in self.holders]
        if self._reads_in_place and rows <= FEW_ROWS:
            made = self._made_in_place
            if made is not None and all(map(operator.is_, weights, made.sources)):
                return made
            if all(array.flags.c_contiguous and array.flags.aligned for array in weights):
                made = self._made_in_place = self._make(weights, False)
                return made
            made = self._made
        if made is None or not all(map(same_bytes, weights, made.sources)):
            copies = self._follow or self._is_dense
            if copies:
                weights = [copied(array, array.dtype) for array in weights]
            made = self._made = self._make(weights, copies)
        return made

    def _make(self, weights: list[Array], from_copies: bool) -> _Made:
        """Make what the op takes of these weights, which stay as they are."""
        named = dict(zip(self._names, weights, strict=True))
        weight, bias = named["w"], named.get("b")
        if self._epsilon is not None:
            norm = [named[name] for name in ("gamma", "beta", "mean", "variance")]
            weight, bias = folded(weight, bias, norm, self._epsilon)
        w = np.require(weight, requirements=("C", "A"))
        b = None if bias is None else np.require(bias, requirements=("C", "A"))
        return _Made(weights, from_copies, w, b, {})


class _Constant:
    """An array that a layer holds by itself, in the place of a parameter or buffer."""

    def __init__(self, array: Array) -> None:
        self._data = array

"""One call of an ONNX operator, and the table of what computes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn._types import Array
from fastcnn.onnx._tensor import Tensor, channels_last, meeting, tensor_of

__all__ = ["OPERATORS", "Call", "Value", "operator"]

Value = Any  # a Tensor; a constant, or an integer that depends on shapes alone, as an array; None

_MOST = 1 << 26  # numbers of a constant that an operator makes

OPERATORS: dict[str, Callable[[Call], Any]] = {}


def operator(*names: str) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Enter a function of a call as what these operators of ONNX mean."""

    def enter(function: Callable[[Call], Any]) -> Callable[[Call], Any]:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return enter


class Call:
    """What an operator sees: its inputs and attributes, and the backend that writes ops down.

    inputs: a Tensor for what is computed and for weights, an array for what is known without the
    batch, None for what is left out. module: the layer that holds its weights, if any. results: how
    many of them have a name in the file. batch: the number of images that the file was written for,
    and that of those at hand; None where it is for any.
    """

    def __init__(
        self,
        op: str,
        inputs: Sequence[Value],
        attributes: Mapping[str, Any],
        opset: int,
        backend: Any,
        dtype: np.dtype[Any],
        module: Any = None,
        training: bool = False,
        results: int = 1,
        batch: tuple[int, int] | None = None,
    ) -> None:
        self.op, self.inputs = op, list(inputs)
        self.attributes = {key: _as_list(value) for key, value in attributes.items()}
        self.opset, self.backend, self.dtype = opset, backend, dtype
        self.module, self.training, self.results = module, training, results
        self.batch = batch

    def input(self, at: int) -> Value:
        """Return an input, None where it is left out."""
        return self.inputs[at] if at < len(self.inputs) else None

    @property
    def x(self) -> Tensor:
        """The first input, as a tensor."""
        return self.tensor(0)

    def tensor(self, at: int) -> Tensor:
        """Return an input as a tensor, constants too."""
        value = self.input(at)
        if value is None:
            raise ValueError(f"expected input {at}, got none")
        return tensor_of(value, self.dtype)

    def images(self, at: int = 0) -> Any:
        """Return an input (N, C, H, W) as kernels take it, (N, H, W, C)."""
        x = self.tensor(at)
        if x.rank != 4:
            raise ValueError(f"expected images of rank 4, got shape {x.shape}")
        return x.stored(self.backend, channels_last(4))

    def constant(self, at: int) -> Array | None:
        """Return an input that has to be known without the batch; None where it is left out."""
        value = self.input(at)
        if isinstance(value, Tensor):
            raise ValueError(f"expected a constant as input {at}, got one that is computed")
        return None if value is None else np.asarray(value)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def needed(self, name: str) -> Any:
        """Return an attribute that has no default."""
        if name not in self.attributes:
            raise ValueError(f"expected an attribute {name}, got none")
        return self.attributes[name]

    def setting(self, name: str, at: int, default: Any = None) -> Any:
        """Return what newer opsets give as an input and older ones as an attribute, as a list."""
        given = self.constant(at)
        if given is not None:
            return given.tolist()
        return self.attributes.get(name, default)

    def number(self, name: str, at: int, default: float | None = None) -> Any:
        """Return such a setting that is one number."""
        given = self.setting(name, at, default)
        while isinstance(given, list):
            given = given[0] if given else default
        return given

    def filled(self, shape: Sequence[int], value: float) -> Array:
        """Return a constant that an operator needs; the sizes in a file may be any."""
        if math.prod(shape) > _MOST:
            raise ValueError(f"expected smaller sizes, got {tuple(shape)}")
        return np.full(shape, value, self.dtype)

    def apply(self, op: str, x: Tensor | None = None, **options: Any) -> Tensor:
        """Return a function of single numbers of a tensor, the first input unless given."""
        given = self.x if x is None else x
        return Tensor(getattr(self.backend, op)(given.array, **options), given.order)

    def meet(self, op: str, *values: Value) -> Tensor:
        """Return an op of numbers that meet as in NumPy, of two inputs or of all, pair by pair."""
        given = values or tuple(self.inputs)
        result = tensor_of(given[0], self.dtype)
        for other in given[1:]:
            (a, b), order = meeting(self.backend, self.dtype, result, other)
            result = Tensor(getattr(self.backend, op)(a, b), order)
        return result


def _as_list(value: Any) -> Any:
    """Return an attribute as the file has it: a model's own file makes tuples of lists."""
    if isinstance(value, Mapping):
        return np.array(value["data"], value["dtype"]).reshape(tuple(value["shape"]))
    return list(value) if isinstance(value, tuple) else value


def last(array: Any, rank: int = 4) -> Tensor:
    """Return a kernel's result (N, H, W, C) as a tensor."""
    return Tensor(array, channels_last(rank))

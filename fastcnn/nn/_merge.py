"""Layers of several inputs: sums, products, what else is made of two, and concatenations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastcnn._options import integer
from fastcnn._sentences import explained
from fastcnn._shapes import multiplied
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Module
from fastcnn.nn._symbol import Symbol, symbols_in

__all__ = [
    "Add",
    "Concat",
    "Divide",
    "MatMul",
    "Maximum",
    "Minimum",
    "Multiply",
    "Power",
    "Subtract",
    "add",
    "concat",
    "divide",
    "matmul",
    "maximum",
    "minimum",
    "multiply",
    "power",
    "subtract",
]


def _shapes_of(layer: Module, input_shape: Any) -> tuple[Shape, ...]:
    """Return the shapes of several inputs; ValueError for one."""
    if not input_shape or not isinstance(input_shape[0], tuple):
        raise ValueError(
            f"{type(layer).__name__}: expected several inputs, as in "
            f"{type(layer).__name__}()([a, b]), got one of shape {input_shape}"
        )
    shapes: tuple[Shape, ...] = input_shape
    return shapes


class _Elementwise(Module):
    """A function of elements, of inputs whose shapes broadcast."""

    _takes_several = True
    _op: ClassVar[str]  # of two of them
    _most: ClassVar[int | None] = None  # inputs

    def declare(self, input_shape: Any) -> Shape:
        shapes = _shapes_of(self, input_shape)
        if self._most is not None and len(shapes) > self._most:
            raise ValueError(
                f"{type(self).__name__}: expected {self._most} inputs, got {len(shapes)}"
            )
        try:
            # The batch axis is in front of each: shapes of one rank alone meet.
            if len({len(shape) for shape in shapes}) > 1:
                raise ValueError
            return tuple(np.broadcast_shapes(*shapes))
        except ValueError:
            ranks = {len(shape) for shape in shapes}
            hint = "; nn.AvgPool2D of the whole image leaves axes of length 1" * (ranks == {1, 3})
            raise ValueError(
                f"{type(self).__name__}: expected inputs of one shape, or that differ in axes of "
                f"length 1, got {', '.join(map(str, shapes))}{hint}"
            ) from None

    def forward(
        self,
        x: Any,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Any]:
        y, saved = x[0], []
        for each in x[1:]:
            saved.append((self._saved(y), self._saved(each)))
            y = getattr(backend, self._op)(y, each)

        def backward(dy: Array) -> tuple[Array, ...]:
            op_backward = getattr(backend, f"{self._op}_backward")
            parts: list[Array] = []
            for before, each in reversed(saved):
                dy, part = op_backward(dy, before, each)
                parts.append(part)
            return dy, *parts[::-1]

        return y, backward

    def _saved(self, array: Array) -> Any:
        """Return what the backward op takes of an argument."""
        raise NotImplementedError


class Add(_Elementwise):
    """y = a + b + ..., of inputs of one shape or with axes of length 1, which are repeated."""

    _op = "add"

    def _saved(self, array: Array) -> Any:
        return array.shape


class Multiply(_Elementwise):
    """y = a * b * ..., of inputs of one shape or with axes of length 1, which are repeated."""

    _op = "multiply"

    def _saved(self, array: Array) -> Any:
        return array


class Subtract(_Elementwise):
    """y = a - b, of two inputs of one shape or with axes of length 1, which are repeated."""

    _op, _most = "subtract", 2

    def _saved(self, array: Array) -> Any:
        return array.shape


class Divide(Multiply):
    """y = a / b, of two inputs of one shape or with axes of length 1, which are repeated."""

    _op, _most = "divide", 2


class Power(Multiply):
    """y = a**b, of two inputs of one shape or with axes of length 1, which are repeated."""

    _op, _most = "power", 2


class Maximum(Multiply):
    """The largest of inputs of one shape or with axes of length 1, which are repeated."""

    _op = "maximum"


class Minimum(Multiply):
    """The smallest of inputs of one shape or with axes of length 1, which are repeated."""

    _op = "minimum"


class MatMul(Module):
    """y = a @ b, of two inputs: (..., M, K) and (..., K, N) -> (..., M, N).

    The axes in front of the matrices are alike, or of length 1, which are repeated.
    """

    _takes_several = True

    def declare(self, input_shape: Any) -> Shape:
        shapes = _shapes_of(self, input_shape)
        if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]):
            raise ValueError(
                f"MatMul: expected two inputs of one rank, got {', '.join(map(str, shapes))}"
            )
        return multiplied(*shapes, "MatMul")

    def forward(
        self,
        x: Any,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Any]:
        a, b = x
        return backend.matmul(a, b), lambda dy: backend.matmul_backward(dy, a, b)


class Concat(Module):
    """Inputs joined along an axis, of channels by default; the other axes are alike.

    axis: of one input, without the batch axis, from 0 on or counted from the end.
    """

    _takes_several = True

    def __init__(self, axis: int = -1, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.axis = integer(axis, "Concat: axis", -(2**31))

    def declare(self, input_shape: Any) -> Shape:
        shapes = _shapes_of(self, input_shape)
        rank = len(shapes[0])
        if not -rank <= self.axis < rank:
            raise ValueError(
                f"Concat: axis: expected one of {rank} axes, from {-rank} to {rank - 1}, got "
                f"{self.axis}"
            )
        at = self.axis % rank
        others = {(*shape[:at], *shape[at + 1 :]) for shape in shapes}
        if len(others) > 1 or any(len(shape) != rank for shape in shapes):
            raise ValueError(
                f"Concat: expected inputs that differ in axis {self.axis} alone, got "
                f"{', '.join(map(str, shapes))}"
            )
        joined = sum(shape[at] for shape in shapes)
        return (*shapes[0][:at], joined, *shapes[0][at + 1 :])

    def forward(
        self,
        x: Any,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Any]:
        axis = self.axis if self.axis < 0 else self.axis + 1
        shapes = [each.shape for each in x]
        y = backend.concat(list(x), axis)
        return y, lambda dy: tuple(backend.concat_backward(dy, shapes, axis))


@explained
def add(*symbols: Symbol) -> Symbol:
    """Return the sum of symbols: Add called on them."""
    result: Symbol = Add()(_several(symbols, "add(a, b)"))
    return result


@explained
def multiply(*symbols: Symbol) -> Symbol:
    """Return the product of symbols: Multiply called on them."""
    result: Symbol = Multiply()(_several(symbols, "multiply(a, b)"))
    return result


@explained
def subtract(a: Symbol, b: Symbol) -> Symbol:
    """Return the difference of two symbols: Subtract called on them."""
    result: Symbol = Subtract()(_several((a, b), "subtract(a, b)"))
    return result


@explained
def divide(a: Symbol, b: Symbol) -> Symbol:
    """Return the quotient of two symbols: Divide called on them."""
    result: Symbol = Divide()(_several((a, b), "divide(a, b)"))
    return result


@explained
def power(a: Symbol, b: Symbol) -> Symbol:
    """Return one symbol to the power of another: Power called on them."""
    result: Symbol = Power()(_several((a, b), "power(a, b)"))
    return result


@explained
def maximum(*symbols: Symbol) -> Symbol:
    """Return the largest of symbols, element by element: Maximum called on them."""
    result: Symbol = Maximum()(_several(symbols, "maximum(a, b)"))
    return result


@explained
def minimum(*symbols: Symbol) -> Symbol:
    """Return the smallest of symbols, element by element: Minimum called on them."""
    result: Symbol = Minimum()(_several(symbols, "minimum(a, b)"))
    return result


@explained
def matmul(a: Symbol, b: Symbol) -> Symbol:
    """Return the products of the matrices of two symbols: MatMul called on them."""
    result: Symbol = MatMul()(_several((a, b), "matmul(a, b)"))
    return result


@explained
def concat(symbols: Sequence[Symbol], axis: int = -1) -> Symbol:
    """Return symbols joined along an axis: Concat called on them."""
    given = _several(symbols, "concat([a, b])")
    result: Symbol = Concat(axis)(given)
    return result


def _several(symbols: object, call: str) -> list[Symbol]:
    """Return two symbols or more as a list; TypeError for others."""
    found = None if isinstance(symbols, Symbol) else symbols_in(symbols)
    if found is None or len(found) < 2:
        got = "one" if isinstance(symbols, Symbol) or found else "others"
        if isinstance(symbols, (tuple, list)) and not found:
            got = f"({', '.join(type(each).__name__ for each in symbols)})"
        raise TypeError(f"nn.{call}: expected two symbols or more, got {got}")
    return list(found)

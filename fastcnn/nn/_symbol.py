"""Symbols: what layers are called on to write down a network of any shape.

A symbol knows the layer that gives it and the symbols which that was called on, so the outputs lead
back to the inputs. (Not to be mixed up with the tracer's Symbol, which stands for an array of one
batch and has its axis.)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from fastcnn._options import identifier, input_shape_of, is_identifier, name_or_none
from fastcnn._sentences import explained
from fastcnn._types import Shape
from fastcnn.nn._places import is_several, quoted, shape_at

if TYPE_CHECKING:
    from fastcnn.nn._module import Module

__all__ = ["Input", "Symbol", "between", "called_on", "ends", "symbols_in", "symbols_or_error"]

_counter = itertools.count()


class Symbol:
    """An array that a network will see: what `Input` and a layer called on symbols return.

    shape: of one input, without the batch axis. name: that of the Input, or of the layer; or None.
    """

    def __init__(
        self,
        shape: Shape,
        layer: Module | None,
        inputs: tuple[Symbol, ...],
        index: int = 0,
        name: str | None = None,
    ) -> None:
        self.shape, self.name = shape, name
        # An Input has neither layer nor inputs; one of several that a layer gives has no layer, and
        # all that it gives as its input, of which it is number `index`.
        self._layer, self._inputs, self._index = layer, inputs, index
        # The order in which calls were written is that of their run; symbols may be copies of
        # another process's, whose numbers are higher than those that are next here.
        self._number: int = max([next(_counter), *(each._number + 1 for each in inputs)])

    def __repr__(self) -> str:
        return f"Symbol({self.shape}, {_named(self)})"

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "Symbol: expected layers, nn.add(a, b), nn.subtract(a, b), nn.multiply(a, b), "
            "nn.concat([a, b]) and their like for a network's arrays, got an operator or a "
            f"function on {_named(self)}"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __rtruediv__ = __matmul__ = __pow__ = __neg__ = __abs__ = __bool__ = __float__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __getitem__ = __iter__ = __len__ = _refuse
    __array__ = __array_function__ = __array_ufunc__ = _refuse


@explained
def Input(shape: Sequence[int], *, name: str | None = None) -> Symbol:  # as in Keras
    """Return a symbol for inputs of this shape, without the batch axis, such as (28, 28, 1).

    name: what they are called where a model is given its inputs in a dict.
    """
    shape = input_shape_of(shape, "Input: shape")
    return Symbol(shape, None, (), name=name_or_none(name, "Input: name"))


def symbols_in(x: object) -> tuple[Symbol, ...] | None:
    """Return the symbols that a layer was called on, or None where it was called on arrays."""
    if isinstance(x, Symbol):
        return (x,)
    if isinstance(x, (list, tuple)) and x and all(isinstance(each, Symbol) for each in x):
        return tuple(x)
    return None


def symbols_or_error(layer: Module, x: object, backend: object) -> tuple[Symbol, ...] | None:
    """Return symbols_in(x); TypeError for symbols beside others or with a backend."""
    symbols, who = symbols_in(x), type(layer).__name__
    if isinstance(x, Mapping) and any(map(_holds_symbols, x.values())):
        raise TypeError(
            f"{who}: expected a symbol or a list of them, got a dict; it is for a Model whose "
            "inputs have names"
        )
    if symbols is None and isinstance(x, (list, tuple)) and any(map(_holds_symbols, x)):
        what = ", ".join(type(each).__name__ for each in x)
        raise TypeError(f"{who}: expected symbols alone in one list, got a list of {what:.80}")
    if symbols is None and backend is None and not _holds_arrays(x):
        got = type(x).__name__ if x else f"{x!r:.80}"
        raise TypeError(
            f"{who}: expected a symbol, as nn.Input and a layer called on one return, or an array, "
            f"got {got}"
        )
    if symbols is not None and backend is not None:
        raise TypeError(
            f"{who}: backend: expected none where a layer is called on symbols, got "
            f"{backend if isinstance(backend, str) else type(backend).__name__!r:.80}"
        )
    return symbols


def _holds_symbols(x: object) -> bool:
    return isinstance(x, Symbol) or symbols_in(x) is not None


def _holds_arrays(x: object) -> bool:
    return any(hasattr(each, "ndim") for each in (x if isinstance(x, (list, tuple)) else (x,)))


def called_on(layer: Module, symbols: tuple[Symbol, ...]) -> Any:
    """Return the symbol, or for a model of several outputs the list of them, of a layer's call."""
    shapes = tuple(symbol.shape for symbol in symbols)
    try:
        result = shape_at(layer, shapes[0] if len(shapes) == 1 else shapes)
    except (TypeError, ValueError) as error:
        behind = " and ".join(map(_named, symbols))
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{error} (called on {behind})") from error
    if is_several(result):
        whole = Symbol((), layer, symbols)
        return [Symbol(shape, None, (whole,), index) for index, shape in enumerate(result)]
    own = getattr(layer, "name", None)
    # A layer of one's own may have an attribute of that name for anything.
    name = own if is_identifier(own) else None
    return Symbol(result, layer, symbols, name=name)


def _named(symbol: Symbol) -> str:
    if symbol._layer is not None:
        return f"what {type(symbol._layer).__name__} gives, {symbol.shape}"
    if not symbol._inputs:
        name = f'"{symbol.name}" ' if symbol.name else ""
        return f"an Input {name}of shape {symbol.shape}"
    giver = type(symbol._inputs[0]._layer).__name__
    return f"output {symbol._index} of what {giver} gives, {symbol.shape}"


# ---------------------------------------------------------------------- the ends of a model
def ends(
    symbols: Symbol | Sequence[Symbol] | Mapping[str, Symbol], where: str
) -> tuple[tuple[Symbol, ...], tuple[str, ...] | None]:
    """Return what a Model was given as inputs or outputs, and their names if all have one.

    In a dict the keys are the names.
    """
    given = tuple(symbols.values()) if isinstance(symbols, Mapping) else symbols
    found = symbols_in(given)
    if found is None:
        raise TypeError(
            f"Model: {where}: expected what nn.Input or a layer called on it returns, or a list or "
            f"dict of these, got {type(symbols).__name__}"
        )
    if where == "inputs" and len({id(each) for each in found}) < len(found):
        raise ValueError("Model: inputs: expected each once, got one twice")
    if isinstance(symbols, Mapping):
        return found, tuple(identifier(name, f"Model: {where}: a name") for name in symbols)
    names = tuple(symbol.name for symbol in found if symbol.name is not None)
    if len(names) < len(found):
        return found, None
    if len(set(names)) < len(names):
        raise ValueError(
            f"Model: {where}: expected each under a name of its own, got {quoted(names)}; a dict "
            "gives them others"
        )
    return found, names


def between(inputs: Iterable[Symbol], outputs: Iterable[Symbol]) -> list[Symbol]:
    """Return the symbols between inputs and outputs, in the order in which they were made."""
    given = {id(symbol) for symbol in inputs}
    found: dict[int, Symbol] = {}
    used: set[int] = set()
    rest = [(symbol, "") for symbol in outputs]
    while rest:
        symbol, reader = rest.pop()
        if id(symbol) in given:
            used.add(id(symbol))
        elif id(symbol) not in found:
            if symbol._layer is None and not symbol._inputs:
                raise ValueError(
                    f"Model: outputs: expected them to depend on its inputs alone, got {reader}"
                    f"{_named(symbol)}, which is none of them"
                )
            found[id(symbol)] = symbol
            name = type(symbol._layer).__name__
            rest += [(each, f"{name}, which was called on ") for each in symbol._inputs]
    for symbol in inputs:
        if id(symbol) not in used:
            raise ValueError(
                f"Model: inputs: expected each to be used, got {_named(symbol)}, on which no "
                "output depends"
            )
    return sorted(found.values(), key=lambda symbol: symbol._number)

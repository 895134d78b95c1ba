"""A layer or model in words: as a table in text and HTML, and as its repr."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from textwrap import indent
from typing import TYPE_CHECKING, Any

from fastcnn._types import Shape

if TYPE_CHECKING:
    from fastcnn.nn._module import Module

__all__ = ["as_html", "as_table", "as_text", "rows", "size"]

Row = tuple[str, str, str]

_HEADER = ("Layer", "Output shape", "Parameters")


def as_table(model: Module) -> str:
    """Return a built model's layers, output shapes and numbers of parameters; see summary."""
    table = [_HEADER, *rows(model)]
    first, second, third = (max(len(row[i]) for row in table) for i in range(3))
    lines = [f"{a:<{first}}  {b:<{second}}  {c:>{third}}" for a, b, c in table]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:], rule, *_totals(model)])


def as_html(model: Module) -> str:
    """Return the same for a notebook; of a model without weights, its layers."""
    from html import escape

    if not model.built:
        return f"<pre>{escape(as_text(model))}</pre>"
    head = "".join(f"<th>{cell}</th>" for cell in _HEADER)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows(model)
    )
    foot = "<br>".join(map(escape, _totals(model)))
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        f'<tfoot><tr><td colspan="3">{foot}</td></tr></tfoot></table>'
    )


def as_text(module: Module, name: str = "") -> str:
    """Return the options of a layer that are not the default's, and the layers it holds."""
    children = module.children()
    options = []
    for key, parameter in inspect.signature(type(module).__init__).parameters.items():
        value = vars(module).get(key, parameter.default)
        if not children and key in vars(module) and value != parameter.default:
            options.append(f"{key}={value!r}")
    head = f"{name and f'({name}): '}{type(module).__name__}("
    if not children:
        return f"{head}{', '.join(options)})"
    inside = "\n".join(as_text(child, key) for key, child in children.items())
    return f"{head}\n{indent(inside, '  ')}\n)"


def rows(module: Module, prefix: str = "") -> Iterator[Row]:
    """Yield a row for each layer, one that holds others behind them."""
    dot = f"{prefix}." if prefix else ""
    for name, child in module.children().items():
        yield from rows(child, f"{dot}{name}")
    own = sum(size(parameter.shape) for parameter in module._parameters.values())
    if own or module._has_row:
        frozen = " (frozen)" if module._frozen and module._parameters else ""
        given = getattr(module, "name", None)
        name = f' "{given}"' if isinstance(given, str) else ""
        label = f"{prefix} {type(module).__name__}{name}{frozen}".strip()
        yield label, str(module.output_shape), f"{own:,}"


def _totals(model: Module) -> list[str]:
    statistics = sum(size(buffer.shape) for buffer in model.buffers().values())
    frozen = model.parameter_count - sum(
        size(parameter.shape) for parameter in model.trained_parameters().values()
    )
    also = f" (and {statistics:,} running statistics)" if statistics else ""
    return [
        f"Input {_ends(model, 'input')}, {model.dtype}",
        *([f"Output {_ends(model, 'output')}"] if getattr(model, "output_names", None) else []),
        f"Trained parameters: {model.parameter_count - frozen:,}{also}",
        *([f"Frozen parameters: {frozen:,}"] if frozen else []),
    ]


def _ends(model: Module, which: str) -> str:
    """Return the shapes of a model's inputs or outputs, with the names that it has for them."""
    shapes: Any = getattr(model, f"{which}_shape")
    names = getattr(model, f"{which}_names", None)  # of a Model
    if names is None:
        return str(shapes)
    each = (shapes,) if len(names) == 1 else shapes
    return ", ".join(f'"{name}" {shape}' for name, shape in zip(names, each, strict=True))


def size(shape: Shape) -> int:
    """Return how many numbers an array of this shape holds."""
    count = 1
    for length in shape:
        count *= length
    return count

"""One sentence for a name, an argument or a value that is not there: what it is called here.

Nothing here costs more than a call until something is wrong.
"""

from __future__ import annotations

import inspect
import opcode
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from operator import itemgetter
from typing import Any, NoReturn, ParamSpec, TypeVar

from fastcnn._foreign import ARGUMENTS, ELSEWHERE, NAMES, VALUES

__all__ = ["absent", "did_you_mean", "explained", "misfit", "no_attribute", "shown", "takes"]

P = ParamSpec("P")
R = TypeVar("R")

# The modules whose names are asked after, in this order.
_MODULES = (
    "nn",
    "optim",
    "losses",
    "callbacks",
    "schedules",
    "metrics",
    "functional",
    "datasets",
    "zoo",
)
_FEW = 8  # names of a module, which are listed
_ALIKE = 0.75  # of difflib's measure


# ---------------------------------------------------------------------- names of modules
def absent(module: str) -> Callable[[str], NoReturn]:
    """Return a module's `__getattr__`, for names that it doesn't have."""

    def __getattr__(name: str) -> NoReturn:
        said = f"{module} has no {name:.80}{_instead(module, name)}"
        # `from module import name` keeps no other error's sentence.
        if _is_from_import():
            raise ImportError(said, name=module)
        raise AttributeError(said, name=name, obj=None)  # Python would ask after a name, too

    return __getattr__


def _is_from_import() -> bool:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_name == "__getattr__":
        frame = frame.f_back
    return frame.f_code.co_code[frame.f_lasti] == opcode.opmap["IMPORT_FROM"]


def _instead(module: str, name: str) -> str:
    """Return what to say of a name that a module doesn't have, with what leads up to it."""
    if name.startswith("_"):
        return ""
    key, own, short = _key(name), _public(module), module.removeprefix("fastcnn.")
    alike = [
        (place != short, known != name, f"{place}.{known}")
        for place in dict.fromkeys((short, *_MODULES))
        for known in _public(f"fastcnn.{place}")
        if _key(known) == key
    ]
    elsewhere, differs, best = min(alike, key=itemgetter(0, 1), default=(True, True, ""))
    other = NAMES.get(f"{short}.{key}") or NAMES.get(key, "")
    if other and elsewhere and differs:
        twin = next((each for each in own if _key(f"nn.{each}") == _key(other)), "")
        best = f"{short}.{twin}" if twin else other
    if best:
        return f": {best}" if " " in best else f": did you mean {_path(module, best)}?"
    near = _near(name, own)
    if near:
        return f": did you mean {_path(module, near if module == short else f'{short}.{near}')}?"
    return f": it has {', '.join(own)}" if 0 < len(own) <= _FEW else ""


def _public(module: str) -> list[str]:
    """Return the names of a module; none of one that is not imported yet."""
    return list(getattr(sys.modules.get(module), "__all__", ()))


def _path(module: str, name: str) -> str:
    """Return a name as one types it who has this module: in front of others is the package."""
    return name if name.startswith(f"{module.removeprefix('fastcnn.')}.") else f"fastcnn.{name}"


# ---------------------------------------------------------------------- attributes of objects
def no_attribute(owner: object, name: str, known: Mapping[str, str]) -> AttributeError:
    """Return the error of an attribute that an object doesn't have, some of which are `known`."""
    kind = type(owner).__name__
    if name in known:
        said = f"{kind} has no {name}: {known[name]}"
    else:
        names = {*type.__dir__(type(owner)), *vars(owner)}  # a layer's class hides its base's
        public = sorted(each for each in names if not each.startswith("_"))
        near = "" if name.startswith("_") else _near(name, public)
        said = f"{kind!r} object has no attribute {name!r:.80}"
        said += f"; did you mean {near}?" if near else ""
    return AttributeError(said, name=name, obj=owner)


# ---------------------------------------------------------------------- arguments
def explained(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function, method or constructor say in a sentence what arguments it takes."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError:
            said = misfit(function, args, kwargs)
            if said is None:
                raise
            raise TypeError(said) from None

    return call


def misfit(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], hint: str = ""
) -> str | None:
    """Return what to say of a call with arguments that don't fit the function, None if they do.

    hint: what is said where nothing more fitting is known; an object may have one, its `_hint`.
    """
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        wrong = f"{error!s:.160}"
    else:
        return None
    name, takes_what = function.__name__, list(signature.parameters.values())
    called = name
    if takes_what and takes_what[0].name == "self":
        takes_what = takes_what[1:]
        if name == "__init__":
            kind, of = type(args[0]), inspect.unwrap(function)
            called_by_own = inspect.unwrap(kind.__init__) is not of
            name = called = of.__qualname__.split(".")[-2] if called_by_own else kind.__name__
            hint = hint or getattr(kind, "_hint", "")
        if name == "__call__":
            name, called = type(args[0]).__name__, "layer"
    plain = [p.replace(annotation=p.empty) for p in takes_what]
    shape = signature.replace(parameters=plain, return_annotation=signature.empty)
    by_name = [p.name for p in plain if p.kind is p.KEYWORD_ONLY]
    known = [p.name for p in plain]
    unknown = [key for key in kwargs if key not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in plain):
        wrong = f"an unexpected keyword argument {unknown[0]!r:.80}"
        hint = _of_argument(unknown[0], known) or hint
    elif wrong.startswith("too many") and by_name:
        hint = hint or f"; name those after the *, as in {by_name[0]}=..."
    return f"{name}: expected {called}{shape}, got other arguments: {wrong}{hint}"


def _of_argument(name: str, known: list[str]) -> str:
    """Return what to say of an argument that a function doesn't have, or nothing."""
    key = _key(name)
    for meant in ARGUMENTS.get(key, ()):
        if set(meant.split(" and ")) <= set(known):
            return f"; did you mean {meant}?"
    if key in ELSEWHERE:
        return f"; {ELSEWHERE[key]}"
    near = _near(name, known)
    return f"; did you mean {near}?" if near else ""


def takes(function: Callable[..., Any], count: int) -> bool:
    """Return whether a function can be called with that many arguments, as far as one can see."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # of compiled functions
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def shown(function: Callable[..., Any]) -> str:
    """Return a function as one writes it: its name and its arguments."""
    name = getattr(function, "__name__", type(function).__name__)
    try:
        signature = inspect.signature(function)
    except ValueError:
        return f"{name}(...)"
    return f"{name}({', '.join(map(_bare, signature.parameters.values()))})"


def _bare(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is parameter.empty else "=..."
    return str(parameter.replace(annotation=parameter.empty, default=parameter.empty)) + default


# ---------------------------------------------------------------------- values
def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """Return which of the choices was meant, with what leads up to it; nothing if nobody knows."""
    choices, key = list(choices), _key(value)
    meant = [each for each in choices if _key(each) == key]
    meant += [each for each in choices if each == VALUES.get(key)]
    near = meant[0] if meant else _near(value, choices)
    return f'; did you mean "{near}"?' if near else ""


# ---------------------------------------------------------------------- likeness
def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _near(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # takes time to import

    known = list(known)
    by_key = {_key(each): each for each in known}
    as_written = get_close_matches(name[:80], known, 1, _ALIKE)
    found = get_close_matches(_key(name[:80]), by_key, 1, _ALIKE)
    return as_written[0] if as_written else by_key[found[0]] if found else ""

"""The house keeps its shape: what imports what, and the page that says so."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from source_tree import CYTHON, PACKAGE, REFERENCE, ROOT, SOURCES

# Who may import what, by the longest name that fits; "numpy" is for everyone.
BACKEND = {"fastcnn.backend", "fastcnn._types"}
FAST = {"fastcnn._backends", *BACKEND}
WORDS = {"fastcnn._sentences"}
OPTIONS = {"fastcnn._options", "fastcnn._shapes", "fastcnn._limits"}
CHECKS = {"fastcnn._checks", "fastcnn._arrays", *OPTIONS, *BACKEND}
OPS = {"fastcnn._kernels", "fastcnn._threads", "fastcnn._memory"}
FILES = {"fastcnn._architecture", "fastcnn._files", "fastcnn._json", "fastcnn._reading"}
MODEL = {
    *BACKEND,
    *OPTIONS,
    "fastcnn.nn",
    "fastcnn.losses",
    "fastcnn._loss",
    "fastcnn.optim",
    "fastcnn.schedules",
}
TRAINER = {*MODEL, "fastcnn.serialization", "fastcnn.callbacks", "fastcnn.metrics"}
SEVERAL = {"fastcnn._several", "fastcnn._weighted", "fastcnn._tally", "fastcnn._metric"}
PROGRAMS = {"fastcnn.fast", "fastcnn.program", "fastcnn.nn", *OPS, *OPTIONS, *BACKEND}
ALLOWED: dict[str, set[str]] = {
    "fastcnn.reference": {"fastcnn.reference"},
    "fastcnn._kernels": {"fastcnn._kernels", "cython"},
    "fastcnn._foreign": set(),
    "fastcnn._sentences": {"fastcnn._foreign"},
    "fastcnn._arrays": BACKEND,
    "fastcnn._options": {*WORDS, *BACKEND},
    "fastcnn._shapes": {"fastcnn._options", *BACKEND},
    "fastcnn._limits": {"fastcnn._options", *BACKEND},
    "fastcnn._checks": {"fastcnn._arrays", *BACKEND},
    "fastcnn._memory": {"fastcnn._kernels", *BACKEND},
    "fastcnn._threads": {"fastcnn._kernels", "fastcnn._cgroups", *CHECKS},
    "fastcnn.fast": {"fastcnn.fast", *OPS, *CHECKS, *WORDS},
    "fastcnn.backend": {"fastcnn._types", "fastcnn._contract"},
    # Only get_backend knows that there are two, when it is called with a name.
    "fastcnn._backends": {"fastcnn.fast", "fastcnn.reference", "fastcnn._contract", *BACKEND},
    "fastcnn._types": set(),
    "fastcnn._contract": {"fastcnn._contract", "fastcnn._types", *OPTIONS},
    "fastcnn._cgroups": set(),
    "fastcnn.functional": {"fastcnn.functional", "fastcnn._backends", *CHECKS, *WORDS},
    # Weights lie in the memory of the pool; model.save serializes.
    "fastcnn.nn": {
        "fastcnn.nn",
        "fastcnn.program",
        "fastcnn.pytorch",
        "fastcnn.serialization",
        "fastcnn._arrays",
        "fastcnn._memory",
        *OPTIONS,
        *WORDS,
        *BACKEND,
    },
    "fastcnn._settings": WORDS,
    "fastcnn._heads": {"fastcnn.nn", *OPTIONS, *WORDS, *BACKEND},
    "fastcnn._hints": BACKEND,
    "fastcnn._labels": {"fastcnn.nn", "fastcnn._arrays", *OPTIONS, *BACKEND},
    "fastcnn._loss": {
        "fastcnn.nn",
        "fastcnn._settings",
        "fastcnn._labels",
        *OPTIONS,
        *WORDS,
        *BACKEND,
    },
    "fastcnn.losses": {"fastcnn._settings", "fastcnn._labels", "fastcnn._arrays", *WORDS, *MODEL},
    "fastcnn.optim": {"fastcnn._settings", "fastcnn._memory", *FAST, *MODEL},
    "fastcnn.schedules": {"fastcnn._settings", *WORDS, *MODEL},
    "fastcnn._metric": {"fastcnn.nn", *BACKEND},
    "fastcnn.metrics": {"fastcnn._metric", "fastcnn._arrays", "fastcnn._settings", *MODEL},
    "fastcnn.serialization": {*TRAINER, *FILES, *WORDS, "safetensors"},
    "fastcnn._architecture": {"fastcnn.nn", "fastcnn._json", *BACKEND},
    "fastcnn.keras": {
        "fastcnn.keras",
        "fastcnn.nn",
        "fastcnn._files",
        "fastcnn._reading",
        *OPTIONS,
        *WORDS,
        *BACKEND,
    },
    "fastcnn._files": set(),
    "fastcnn._json": set(),
    "fastcnn._reading": set(),
    "fastcnn.callbacks": {
        *TRAINER,
        *FILES,
        "fastcnn.trainer",
        "fastcnn._interrupt",
        "fastcnn._settings",
    },
    "fastcnn.program": {"fastcnn.program", "fastcnn._contract", "fastcnn.nn", *OPTIONS, *BACKEND},
    # Module.program shows what the fast backend makes of a program.
    "fastcnn.program.show": {"fastcnn.program", "fastcnn.fast", *MODEL},
    "fastcnn.pytorch": {
        "fastcnn.pytorch",
        "fastcnn.program",
        "fastcnn.nn",
        "fastcnn._arrays",
        "fastcnn._files",
        "fastcnn._reading",
        "safetensors",
        *OPTIONS,
        *WORDS,
        *BACKEND,
    },
    # Reading and writing are for ONNX models alone, and import the package then.
    "fastcnn.onnx": {
        "fastcnn.onnx",
        "fastcnn.program",
        "fastcnn.nn",
        "fastcnn._memory",
        "onnx",
        *FILES,
        *WORDS,
        *OPTIONS,
        *BACKEND,
    },
    # What runs programs on the fast backend, and so knows both.
    **{f"fastcnn.fast.{name}": PROGRAMS for name in ("_fusions", "_plan", "_inference")},
    "fastcnn._several": {"fastcnn.nn", *BACKEND},
    "fastcnn._weighted": {"fastcnn._several", *MODEL},
    "fastcnn._tally": {*SEVERAL, "fastcnn.metrics", *MODEL},
    "fastcnn._batches": {"fastcnn._memory", "fastcnn._several", *FAST},
    "fastcnn._passes": {"fastcnn.program", "fastcnn.fast", *SEVERAL, *FAST, *MODEL},
    "fastcnn._finite": {*FAST, *MODEL},
    "fastcnn._update": {"fastcnn._finite", "fastcnn.optim", *FAST, *MODEL},
    "fastcnn._history": WORDS,
    "fastcnn._samples": {"fastcnn._arrays", "fastcnn._several", *MODEL},
    "fastcnn.inference": {
        "fastcnn.nn",
        "fastcnn._arrays",
        "fastcnn._batches",
        "fastcnn._hints",
        "fastcnn._several",
        "fastcnn.fast",
        *OPTIONS,
        *WORDS,
        *FAST,
    },
    "fastcnn._setup": {
        "fastcnn._backends",
        "fastcnn.inference",
        "fastcnn._batches",
        "fastcnn._hints",
        "fastcnn._history",
        "fastcnn._labels",
        "fastcnn._samples",
        "fastcnn._settings",
        "fastcnn._step_lock",
        *SEVERAL,
        *WORDS,
        *MODEL,
    },
    "fastcnn._evaluation": {
        "fastcnn.inference",
        "fastcnn._batches",
        "fastcnn._samples",
        "fastcnn._setup",
        *SEVERAL,
        *WORDS,
        *MODEL,
    },
    "fastcnn._interrupt": set(),
    "fastcnn._progress": {"tqdm"},
    "fastcnn._step_lock": set(),
    "fastcnn._stream": set(),
    "fastcnn.zoo": {"fastcnn.zoo", "fastcnn.nn", *OPTIONS, *WORDS, *BACKEND},
    "fastcnn.trainer": {
        *TRAINER,
        "fastcnn._backends",
        "fastcnn._batches",
        "fastcnn._evaluation",
        "fastcnn._finite",
        "fastcnn._history",
        "fastcnn._interrupt",
        "fastcnn._memory",
        "fastcnn._passes",
        "fastcnn._progress",
        "fastcnn._samples",
        "fastcnn._stream",
        "fastcnn._update",
        *SEVERAL,
        *WORDS,
    },
}
# What runs the library rather than being it may import all of it, and these when they are used.
GUESTS = {"matplotlib", "PIL", "pooch", "tqdm", "safetensors", "onnx"}


def module_of(path: Path) -> str:
    """Return the module's name once it is installed."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "reference":
        parts.insert(0, "fastcnn")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# All but the package's first file, whose names all of it may use.
MODULES = {
    module_of(path): path
    for path in SOURCES
    if path.suffix == ".py" and module_of(path) not in ("fastcnn", "setup")
}


def imports(path: Path, source: str) -> Iterator[tuple[str, bool]]:
    """Return (module, whether it is imported with the file) for every import in a file."""
    tree = ast.parse(source)
    package = module_of(path).split(".")
    if path.stem != "__init__":
        package = package[:-1]
    deferred = {
        id(node) for later in ast.walk(tree) if is_run_later(later) for node in ast.walk(later)
    }
    for node in ast.walk(tree):
        at_once = id(node) not in deferred
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, at_once
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:  # a module, or what is in one
                yield f"{name}.{alias.name}", at_once


def is_run_later(node: ast.AST) -> bool:
    """Whether what stands in it does not run when its file is imported."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


def circle(graph: dict[str, list[str]]) -> list[str]:
    """Return the first circle in a graph, from a name to the same, or nothing."""
    done: set[str] = set()

    def walk(path: list[str]) -> list[str]:
        for name in graph[path[-1]]:
            if name in path:
                return [*path[path.index(name) :], name]
            if name not in done and (found := walk([*path, name])):
                return found
        done.add(path[-1])
        return []

    return next((found for name in graph if (found := walk([name]))), [])


def imported_with(path: Path, source: str) -> list[str]:
    """Return the modules of the package that are imported with a file, but itself."""
    module = module_of(path)
    names = [name for name, at_once in imports(path, source) if at_once]
    owners = [max((each for each in MODULES if fits(name, {each})), key=len, default=module)
              for name in names]  # fmt: skip
    return [owner for owner in owners if owner != module]


@cache
def import_graph() -> dict[str, list[str]]:
    """Return what is imported with each module."""
    return {name: imported_with(path, path.read_text("utf-8")) for name, path in MODULES.items()}


def fits(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def wrong_imports(path: Path, source: str) -> list[str]:
    """Name the imports of a file that go against the one direction, or come too early."""
    module = module_of(path)
    owner = max((name for name in ALLOWED if fits(module, {name})), key=len, default=None)
    wrong = []
    for name, at_once in imports(path, source):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top == "numpy":
            continue
        if at_once and top in GUESTS:
            wrong.append(f"{module} imports {name} before it is used")
        elif owner is not None and not fits(name, ALLOWED[owner]):
            wrong.append(f"{module} imports {name}")
        elif top not in GUESTS | {"fastcnn", "cython"}:
            wrong.append(f"{module} imports {name}, which nobody may")
    return wrong


def test_there_is_something_to_look_at() -> None:
    assert len(PACKAGE) > 30
    assert len(REFERENCE) > 10
    assert len(CYTHON) > 10
    assert {module_of(path) for path in PACKAGE} >= {"fastcnn", "fastcnn.nn", "fastcnn.trainer"}
    for name in ALLOWED:
        assert any(fits(module_of(path), {name}) for path in SOURCES), f"{name} is gone"


def test_dependencies_point_one_way() -> None:
    sources = [path for path in SOURCES if path.suffix == ".py" and path.name != "setup.py"]
    wrong = [fault for path in sources for fault in wrong_imports(path, path.read_text("utf-8"))]
    assert wrong == []


def test_imports_run_in_no_circle() -> None:
    assert circle(import_graph()) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("fastcnn/nn/_variable.py", "from fastcnn.nn._conv import Conv2D"),
        ("fastcnn/nn/_variable.py", "from fastcnn.nn import _module"),
        ("fastcnn/nn/_variable.py", "from fastcnn import nn"),
        ("fastcnn/nn/_variable.py", "from . import _module"),
        ("fastcnn/_samples.py", "import fastcnn.trainer"),
        ("fastcnn/losses/__init__.py", "class A:\n    from fastcnn._weighted import Losses"),
    ],
)
def test_a_circle_would_be_seen(file: str, line: str) -> None:
    module = module_of(ROOT / file)
    source = f"{(ROOT / file).read_text('utf-8')}\n{line}\n"
    found = circle({**import_graph(), module: imported_with(ROOT / file, source)})
    assert module in found
    assert found[0] == found[-1]


@pytest.mark.parametrize(
    "line",
    ["def f():\n    from fastcnn import nn", "if TYPE_CHECKING:\n    from fastcnn import nn"],
)
def test_what_is_imported_later_makes_no_circle(line: str) -> None:
    assert imported_with(ROOT / "fastcnn" / "nn" / "_variable.py", line) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("reference/conv2d.py", "from fastcnn.backend import Array"),
        ("reference/conv2d.py", "import fastcnn"),
        ("reference/conv2d.py", "from .._kernels import _cpu"),
        ("reference/conv2d.py", "import scipy.signal"),
        ("fastcnn/_kernels/__init__.py", "from fastcnn._checks import pair"),
        ("fastcnn/fast/_conv2d.py", "from fastcnn import reference"),
        ("fastcnn/fast/_conv2d.py", "from fastcnn.nn import Module"),
        ("fastcnn/nn/_conv.py", "from fastcnn.fast import FastBackend"),
        ("fastcnn/nn/_conv.py", "def f():\n    from fastcnn import FastBackend"),
        ("fastcnn/nn/_conv.py", "from ..fast import FastBackend"),
        ("fastcnn/optim.py", "from fastcnn._kernels import load"),
        ("fastcnn/trainer.py", "from fastcnn.cli import main"),
        ("fastcnn/trainer.py", "import torch"),
        ("fastcnn/_progress.py", "import tqdm"),
        ("fastcnn/cli.py", "import matplotlib.pyplot as plt"),
        ("fastcnn/cli.py", "def f():\n    import pandas"),
    ],
)
def test_a_wrong_import_would_be_seen(file: str, source: str) -> None:
    assert wrong_imports(ROOT / file, source)


# ---------------------------------------------------------------------- the page
def test_the_layout_names_every_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    layout = set(re.findall(r"[\w.]+", text.split("```")[1]))
    modules = {path.name for path in (ROOT / "fastcnn").glob("[!_]*.py")}
    modules |= {path.name for path in (ROOT / "fastcnn").glob("_[!_]*.py")}
    assert modules - layout == set()


def test_the_tests_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"\b(test_\w+)", (ROOT / "ARCHITECTURE.md").read_text("utf-8")))
    found = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE))
    assert named
    assert named - found == set()

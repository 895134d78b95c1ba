"""The house keeps its shape: what imports what, how long a file is, what no file may hold."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "fastcnn").rglob("*.py"))
REFERENCE = sorted((ROOT / "reference").glob("*.py"))
KERNELS = ROOT / "fastcnn" / "_kernels"
CYTHON = sorted([*KERNELS.rglob("*.pyx"), *KERNELS.rglob("*.pxd")])
SOURCES = [*PACKAGE, *REFERENCE, *CYTHON, *KERNELS.rglob("*.h"), ROOT / "setup.py"]
SOURCES = [path for path in SOURCES if ROOT / "fastcnn" / "reference" not in path.parents]

# Who may import what, by the longest name that fits; "numpy" is for everyone.
BACKEND = {"fastcnn.backend", "fastcnn._types"}
FAST = {"fastcnn._fast", *BACKEND}
CHECKS = {"fastcnn._checks", "fastcnn._arrays", *BACKEND}
WORDS = {"fastcnn._sentences"}
OPS = {"fastcnn._kernels", "fastcnn._threads", "fastcnn._memory"}
FILES = {"fastcnn._architecture", "fastcnn._files", "fastcnn._json", "fastcnn._reading"}
MODEL = {*BACKEND, "fastcnn.nn", "fastcnn.losses", "fastcnn.optim", "fastcnn.schedules"}
TRAINER = {*MODEL, "fastcnn.serialization", "fastcnn.callbacks", "fastcnn.metrics"}
SEVERAL = {"fastcnn._several", "fastcnn._weighted"}
PROGRAMS = {"fastcnn.fast", "fastcnn.program", "fastcnn.nn", *OPS, *BACKEND}
ALLOWED: dict[str, set[str]] = {
    "fastcnn.reference": {"fastcnn.reference"},
    "fastcnn._kernels": {"fastcnn._kernels", "cython"},
    "fastcnn._foreign": set(),
    "fastcnn._sentences": {"fastcnn._foreign"},
    "fastcnn._arrays": BACKEND,
    "fastcnn._checks": {"fastcnn._arrays", *BACKEND},
    "fastcnn._memory": {"fastcnn._kernels", *BACKEND},
    "fastcnn._threads": {"fastcnn._kernels", "fastcnn._cgroups", *CHECKS},
    "fastcnn.fast": {"fastcnn.fast", *OPS, *CHECKS, *WORDS},
    # Only get_backend knows that there are two, when it is called with a name.
    "fastcnn.backend": {
        "fastcnn.fast",
        "fastcnn.reference",
        "fastcnn._types",
        "fastcnn._branches",
    },
    "fastcnn._types": set(),
    "fastcnn._branches": {"fastcnn._types"},
    "fastcnn._cgroups": set(),
    "fastcnn.functional": {*CHECKS, *WORDS},
    # Weights lie in the memory of the pool; model.save serializes.
    "fastcnn.nn": {
        "fastcnn.nn",
        "fastcnn.program",
        "fastcnn.serialization",
        "fastcnn._arrays",
        "fastcnn._memory",
        *WORDS,
        *BACKEND,
    },
    "fastcnn._settings": WORDS,
    "fastcnn._hints": BACKEND,
    "fastcnn._labels": {"fastcnn.nn", "fastcnn._arrays", *BACKEND},
    "fastcnn.losses": {"fastcnn._settings", "fastcnn._labels", *WORDS, *MODEL},
    "fastcnn.optim": {"fastcnn._settings", "fastcnn._memory", *FAST, *MODEL},
    "fastcnn.schedules": {"fastcnn._settings", *WORDS, *MODEL},
    "fastcnn.metrics": {"fastcnn._arrays", *MODEL},
    "fastcnn.serialization": {*TRAINER, *FILES, *WORDS, "safetensors"},
    "fastcnn._architecture": {"fastcnn.nn", "fastcnn._json", *BACKEND},
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
    "fastcnn.program": {"fastcnn.program", "fastcnn.nn", *BACKEND},
    # Module.program shows what the fast backend makes of a program.
    "fastcnn.program.show": {"fastcnn.program", "fastcnn.fast", *MODEL},
    # What runs programs on the fast backend, and so knows both.
    **{f"fastcnn.fast.{name}": PROGRAMS for name in ("_fusions", "_plan", "_inference")},
    "fastcnn._fast": {"fastcnn.fast", *BACKEND},
    "fastcnn._several": {"fastcnn.nn", *BACKEND},
    "fastcnn._weighted": {"fastcnn._several", "fastcnn.metrics", *MODEL},
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
        *WORDS,
        *FAST,
    },
    "fastcnn._setup": {
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
    "fastcnn._interrupt": set(),
    "fastcnn._progress": {"tqdm"},
    "fastcnn._step_lock": set(),
    "fastcnn._stream": set(),
    "fastcnn.trainer": {
        *TRAINER,
        "fastcnn.inference",
        "fastcnn._batches",
        "fastcnn._finite",
        "fastcnn._history",
        "fastcnn._interrupt",
        "fastcnn._memory",
        "fastcnn._passes",
        "fastcnn._progress",
        "fastcnn._samples",
        "fastcnn._setup",
        "fastcnn._stream",
        "fastcnn._update",
        *SEVERAL,
        *WORDS,
    },
}
# What runs the library rather than being it may import all of it, and these when they are used.
GUESTS = {"matplotlib", "PIL", "pooch", "tqdm", "safetensors"}


def module_of(path: Path) -> str:
    """Return the module's name once it is installed."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "reference":
        parts.insert(0, "fastcnn")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, source: str) -> Iterator[tuple[str, bool]]:
    """Return (module, whether it is imported with the file) for every import in a file."""
    tree = ast.parse(source)
    package = module_of(path).split(".")
    if path.stem != "__init__":
        package = package[:-1]
    deferred = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        at_once = id(node) not in deferred
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, at_once
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # `from fastcnn import nn` imports fastcnn.nn; `from fastcnn.nn import Dense` too.
            for alias in node.names:
                yield (f"{name}.{alias.name}" if name == "fastcnn" else name), at_once


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


# ---------------------------------------------------------------------- what no file may hold
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= 450
    assert max(map(len, lines), default=0) <= 160


def faults(source: str) -> list[str]:
    """Name what is banned from Python sources: asserts, swallowed errors, pickle, eval.

    An assert that something is not None tells the type checker what the code already knows.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            if not ast.unparse(node.test).endswith(" is not None"):
                found.append("assert")
        elif isinstance(node, ast.ExceptHandler):
            if node.type is None:
                found.append("a bare except")
            if all(isinstance(statement, ast.Pass) for statement in node.body):
                found.append("except: pass")
            caught = ast.unparse(node.type) if node.type else ""
            if "ImportError" in caught and not any(isinstance(n, ast.Raise) for n in node.body):
                found.append("a swallowed ImportError")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names]
            modules.append(getattr(node, "module", None) or "")
            names = {module.split(".")[0] for module in modules}
            found += sorted(
                names & {"pickle", "dill", "shelve", "marshal", "joblib", "cloudpickle"}
            )
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("eval", "exec", "compile", "__import__"):
                found.append(called)
            if any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False"
                   for word in node.keywords):  # fmt: skip
                found.append("allow_pickle")
    return found


def test_no_assert_pickle_or_swallowed_error() -> None:
    found = {
        str(path.relative_to(ROOT)): faults(path.read_text("utf-8"))
        for path in SOURCES
        if path.suffix == ".py"
    }
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "assert x",
        "try:\n    f()\nexcept:\n    raise",
        "try:\n    f()\nexcept ValueError:\n    pass",
        "try:\n    import x\nexcept ImportError:\n    x = None",
        "import pickle",
        "from pickle import loads",
        "np.load(f, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_each_of_these_would_be_seen(source: str) -> None:
    assert faults(source)


def test_no_flag_of_the_build_ties_it_to_this_machine_or_breaks_nan() -> None:
    for path in [ROOT / "setup.py", KERNELS / "isa.py", ROOT / "pyproject.toml"]:
        text = path.read_text("utf-8")
        for flag in ("-march=native", "-mtune=native", "-ffast-math", "-Ofast"):
            assert flag not in text, f"{path.name}: {flag}"
        assert re.search(r"-f(associative|finite|unsafe|reciprocal)-math", text) is None


def test_the_one_header_holds_no_loop() -> None:
    headers = [*ROOT.glob("fastcnn/**/*.h"), *ROOT.glob("fastcnn/**/*.hpp")]
    headers += ROOT.glob("reference/**/*.h")
    assert [path.name for path in headers] == ["vector.h"]
    without_comments = re.sub(r"/\*.*?\*/|//[^\n]*", "", headers[0].read_text("utf-8"), flags=re.S)
    assert re.search(r"\b(for|while|do|goto)\b", without_comments) is None
    assert sum(map(bool, map(str.strip, without_comments.splitlines()))) < 125


def test_every_parallel_region_is_one_prange() -> None:
    """_team.pyx answers a barrier with nothing: no thread may wait for another within a region."""
    for path in CYTHON:
        source = path.read_text("utf-8")
        assert re.search(r"\bparallel\s*\(|\bimport parallel\b", source) is None, path.name


def test_no_hand_written_c() -> None:
    """Every C file comes from Cython and lies in the build folder, none beside the sources."""
    found = [p for kind in ("c", "cpp", "cc", "S") for p in (ROOT / "fastcnn").rglob(f"*.{kind}")]
    assert found == []


def test_verbatim_c_in_cython_is_small() -> None:
    """What Cython cannot say (a builtin, an allocation) is a line or two of C, never a loop."""
    for path in CYTHON:
        for block in re.findall(
            r'cdef extern from \*(?: nogil)?:\s+"""(.*?)"""', path.read_text("utf-8"), re.S
        ):
            assert re.search(r"\b(for|while|do)\b", block) is None, path.name
            assert len(block.splitlines()) <= 30, path.name


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

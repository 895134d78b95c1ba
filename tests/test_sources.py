"""What no file may hold: too many lines, swallowed errors, loops in C, flags of one machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from source_tree import CYTHON, KERNELS, ROOT, SOURCES

# ---------------------------------------------------------------------- lines
OTHERS = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def most_lines(name: str, source: str) -> int:
    """Return how many lines a file may have: 400, a kernel 300 unless its header says why."""
    header = source.split('"""')[1] if source.startswith('"""') else ""
    if name.endswith(".pyx"):
        return 450 if "Longer than most: " in header else 300
    return 400


@pytest.mark.parametrize(
    "path", [*SOURCES, *sorted(OTHERS)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    source = path.read_text("utf-8")
    lines = source.splitlines()
    assert len(lines) <= most_lines(path.name, source)
    assert max(map(len, lines), default=0) <= 160


def test_a_kernel_may_say_why_it_is_long() -> None:
    assert most_lines("a.pyx", '"""An op."""') == 300
    assert most_lines("a.pyx", '"""An op.\n\nLonger than most: it is two."""') == 450
    assert most_lines("a.pyx", '"""An op."""\n# Longer than most: not in the header') == 300
    assert most_lines("a.py", '"""Longer than most: no."""') == 400


# ---------------------------------------------------------------------- what no file may hold
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

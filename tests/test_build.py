"""Building where something is missing: a compiler, or OpenMP."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import copy_sources, environment


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, for one instruction set and float width alone: less to compile."""
    folder = tmp_path_factory.mktemp("tree")
    copy_sources(folder)
    isa = folder / "fastcnn" / "_kernels" / "isa.py"
    isa.write_text(isa.read_text("utf-8") + '\n_TABLE.clear()\nDTYPES = ("float32",)\n', "utf-8")
    return folder


def build(tree: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=600,
        env=environment(**changes),
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="MSVC is not found through CC")
def test_no_compiler_is_a_clear_message_at_once(tree: Path) -> None:
    translated = tree / "build"
    aside = translated.rename(tree / "aside") if translated.exists() else None
    result = build(tree, CC="/nonexistent/cc", CXX="/nonexistent/c++")
    told = result.stdout + result.stderr
    assert result.returncode != 0
    assert "no working C compiler was found" in told
    assert "apt install gcc" in told
    assert "Traceback" not in told
    assert not list(translated.rglob("*.c"))  # translation takes long, and comes after
    assert not list((tree / "fastcnn").rglob("*.so"))
    shutil.rmtree(translated, ignore_errors=True)
    if aside is not None:
        aside.rename(translated)


def test_a_clone_without_kernels_says_in_a_sentence_what_to_run(tree: Path) -> None:
    command = [sys.executable, "-c", "import fastcnn"]
    result = subprocess.run(
        command, cwd=tree, capture_output=True, text=True, env=environment(), check=False
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last == (
        f"ImportError: fastcnn in {tree} has no kernels compiled for this Python: "
        "run `pip install -e .` there"
    )


SCRIPT = """
import numpy as np
import fastcnn
from fastcnn import FastBackend, reference

fastcnn.show_config()
fastcnn.set_num_threads(4)
backend = FastBackend(num_threads=8, convolution="direct")
assert backend.num_threads == 1
rng = np.random.default_rng(0)
x, w = rng.integers(-4, 5, (2, 9, 9, 20)), rng.integers(-4, 5, (3, 3, 20, 40))
for op in ("conv2d", "max_pool2d", "relu"):
    call = {"x": x, **({"w": w} if op == "conv2d" else {})}
    results = [getattr(b, op)(**call) for b in (backend, reference)]
    for one, other in zip(*[r if isinstance(r, tuple) else (r,) for r in results]):
        assert (one == other).all()
large = np.ones((64, 40, 40, 16), np.float32)
assert backend.global_avg_pool2d(large).tolist() == [[1.0] * 16] * 64
"""


def test_without_openmp_it_runs_on_one_thread_and_says_so(tree: Path) -> None:
    result = build(tree, FASTCNN_OPENMP="0")
    told = result.stdout + result.stderr
    assert result.returncode == 0, told[-4000:]
    assert "building without OpenMP: fastcnn will run on one thread" in told
    used = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(PYTHONPATH=str(tree)),
        check=False,
    )
    assert used.returncode == 0, used.stderr
    assert "none (every op runs on one thread)" in used.stdout
    threads = next(line for line in used.stdout.splitlines() if line.startswith("threads"))
    assert threads.split() == ["threads", "1"]


def test_a_change_compiles_what_depends_on_it_and_nothing_else(tree: Path) -> None:
    """On what the test above has built."""
    compiled = {path: path.stat().st_mtime_ns for path in (tree / "build").rglob("*.so")}
    assert len(compiled) > 15
    with (tree / "fastcnn" / "_kernels" / "softmax.pyx").open("a", encoding="utf-8") as source:
        source.write("\n# changed\n")
    result = build(tree, FASTCNN_OPENMP="0")
    assert result.returncode == 0, result.stderr[-4000:]
    changed = [path for path in compiled if path.stat().st_mtime_ns != compiled[path]]
    assert [path.name.split(".")[0] for path in changed] == ["elementwise"]
    copy = tree / "fastcnn" / changed[0].relative_to(changed[0].parents[4] / "fastcnn")
    assert copy.read_bytes() == changed[0].read_bytes()


def test_kernels_are_optimized_and_what_cython_adds_to_them_is_not(tree: Path) -> None:
    """On what the tests above have translated: Cython's headings are those that setup.py knows."""
    files = list((tree / "build").glob("cython-*/fastcnn/_kernels/[!_]*.c"))
    assert len(files) > 15
    for file in files:
        text = file.read_text("utf-8")
        own, added = text.split("/* #### Code section: module_exttypes ### */\n")
        assert '#pragma GCC optimize ("O0", "omit-frame-pointer")' in added, file.name
        assert own.count("push_macro") == own.count("pop_macro") == 1, file.name
        before, code = own.split("/* #### Code section: module_declarations ### */\n")
        assert before.rstrip().endswith('pop_macro("CYTHON_INLINE")\n#endif'), file.name
        little = re.findall(r"push_options(.*?)pop_options", code, re.DOTALL)
        assert len(little) == code.count("GCC optimize") > 0, file.name
        for part in little:
            defined = re.findall(r"^static [^;{]*?\b__pyx_\w+(?=\([^;{]*\{)", part, re.MULTILINE)
            assert all("__pyx_pw_" in name for name in defined), file.name
            assert len(re.findall(r"^\}$", part, re.MULTILINE)) == 1, file.name

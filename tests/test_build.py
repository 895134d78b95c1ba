"""Building where something is missing: a compiler, or OpenMP."""

from __future__ import annotations

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
    shutil.copytree(folder / "reference", folder / "fastcnn" / "reference")  # as an install does
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
def test_no_compiler_is_a_clear_message(tree: Path) -> None:
    result = build(tree, CC="/nonexistent/cc", CXX="/nonexistent/c++")
    told = result.stdout + result.stderr
    assert result.returncode != 0
    assert "no working C compiler was found" in told
    assert "apt install gcc" in told
    assert "Traceback" not in told
    assert not list((tree / "fastcnn").rglob("*.so"))


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

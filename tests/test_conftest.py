"""Where everything has to be there, a skip is a failure: in a run of pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_fixture(mnist_dir):
    assert mnist_dir.is_dir()

def test_skip():
    pytest.importorskip("no_such_peer")

@pytest.mark.xfail
def test_expected_failure():
    assert False

def test_pass(backend):
    pass
"""

# A module that is skipped as a whole would otherwise end the run, rightly, at once.
OPTIONS = ["--continue-on-collection-errors", "-p", "no:cacheprovider"]


@pytest.mark.parametrize("required", [False, True])
def test_a_skip_is_a_failure_where_peers_are_required(required: bool, tmp_path: Path) -> None:
    file, module = tmp_path / "test_some.py", tmp_path / "test_whole_module.py"
    file.write_text(TESTS)
    module.write_text('import pytest\npytest.importorskip("no_such_peer")\n')
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "FASTCNN_REQUIRE_PEERS": str(int(required)),
        "FASTCNN_DATA": str(tmp_path),  # where there is no MNIST
    }
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-rA", *OPTIONS, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
        check=False,
    )
    out = result.stdout
    assert "1 xfailed" in out, out + result.stderr
    if required:
        assert result.returncode == 1
        assert "FAILED test_some.py::test_skip" in out
        assert "ERROR test_some.py::test_fixture" in out
        assert "ERROR test_whole_module.py" in out
        assert "skipped" not in out.splitlines()[-1]
        assert "a skip is a failure" in out
    else:
        assert result.returncode == 0
        assert "3 skipped" in out

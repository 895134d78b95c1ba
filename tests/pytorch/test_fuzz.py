"""Some thousand damaged files; tests/torch_fuzz.py reads a hundred thousand.

In a process of its own: what watches it stays for as long as a process lives.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "torch_fuzz.py"


def test_damaged_files_are_read_or_refused() -> None:
    result = subprocess.run(
        [sys.executable, SCRIPT, "--count", "2000", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    said = {
        words: int(times) for times, words in re.findall(r"^ *(\d+) (.*)$", result.stdout, re.M)
    }
    assert 30 < said["read"] < 1000
    assert len(said) > 12


PLANTED = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch_fuzz
from fastcnn.pytorch import _names
from fastcnn.pytorch._opcodes import Function

_names.NAMES["os.system"] = Function(lambda machine, given: {does}, 0, 0)
path = Path(sys.argv[2])
torch_fuzz.run(0, 0, path)
value = torch_fuzz.called(torch_fuzz.named("os", "system"))
torch_fuzz.read(torch_fuzz.old_file(torch_fuzz.pickled(value), {{}}), path)
"""


def test_a_reader_that_runs_something_would_be_seen(tmp_path: Path) -> None:
    """Of a planted name that a file can call."""
    for does, event in [
        ("__import__('colorsys')", "'import'"),
        ("exec('1')", "'compile'"),
        ("open(path, 'w')", "'open'"),
    ]:
        script = PLANTED.format(does=does)
        result = subprocess.run(
            [sys.executable, "-c", script, SCRIPT.parent, tmp_path / "a"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert f"RuntimeError: it did ({event}" in result.stderr, result.stderr

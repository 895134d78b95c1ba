"""Running the fastcnn command in tests, within this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastcnn import cli

FILES = ["history.json", "model.safetensors", "state.safetensors"]
SMALL = ["--limit-train", "40", "--limit-test", "20", "--batch-size", "20", "--seed", "3"]


def succeed(*arguments: object) -> str:
    """Run the command, expecting success; return what it printed."""
    code, out, error = run_command(arguments)
    assert code == 0, error
    return out


def fail(*arguments: object) -> str:
    """Run the command, expecting a user's error; return its one sentence.

    Whatever files lie below the current folder must be as they were.
    """
    before = contents(Path())
    code, out, error = run_command(arguments)
    assert code == 2
    assert out == "" or out.endswith("\n")
    # a progress bar may come before it
    sentence = error.splitlines()[-1]
    assert sentence.startswith("fastcnn: ")
    assert "Traceback" not in error
    assert contents(Path()).items() >= before.items()
    return sentence.removeprefix("fastcnn: ")


def run_command(arguments: tuple[object, ...]) -> tuple[int, str, str]:
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code: Any = cli.main([str(argument) for argument in arguments])
        except SystemExit as exit_:  # argparse leaves this way
            code = exit_.code
    return code, out.getvalue(), error.getvalue()


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fastcnn", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def small_run(folder: Path) -> Path:
    """Train two short epochs into the folder."""
    succeed("train", *SMALL, "--epochs", 2, "--output", folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

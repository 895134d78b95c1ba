"""The progress bar: where it is shown, and that training does without it."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from tqdm import tqdm
from trainers import striped_images, trainer_of

import fastcnn
from fastcnn import nn


def trainer() -> fastcnn.Trainer:
    return trainer_of("fast", nn.Sequential([nn.Flatten(), nn.Dense(3)]))


def fit(epochs: int = 2, which: fastcnn.Trainer | None = None) -> int:
    """Train; return the number of steps."""
    x, y = striped_images(12)
    which = which or trainer()
    which.fit(x, y, epochs=epochs, batch_size=2, validation_data=(x, y))
    return which.step


# ---------------------------------------------------------------------- a file or pipe
def test_a_file_gets_a_line_an_epoch(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    with open(tmp_path / "log", "w+") as file:
        for stream in (file, io.StringIO()):
            monkeypatch.setattr(sys, "stderr", stream)
            fit(3)
            stream.seek(0)
            said = stream.read()
            lines = said.splitlines()
            assert "\r" not in said
            assert [line.split(":")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
            for word in ("12/12", "loss", "accuracy", "val_loss", "val_accuracy", "images/s"):
                assert all(word in line for line in lines)


def test_a_bar_of_the_users_makes_room_for_the_line() -> None:
    stream = io.StringIO()
    before, sys.stderr = sys.stderr, stream
    try:
        for _ in tqdm(range(2), file=stream):
            fit(1)
    finally:
        sys.stderr = before
    assert sum("images/s" in line for line in screen(stream.getvalue())) == 2
    assert len(screen(stream.getvalue())) == 3


# ---------------------------------------------------------------------- no stderr
class Broken(io.StringIO):
    """A stream that fails as one does at the other end of which nobody listens."""

    def write(self, text: str) -> int:
        raise BrokenPipeError("no reader")


class Other:
    """What some programs put in stderr's place."""

    def write(self, text: str) -> int:
        raise RuntimeError("no window")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, Broken(), Other(), closed(), object()], ids=repr)
def test_training_goes_on_without_a_stderr(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert fit() == 12


def test_training_goes_on_where_stderr_was_closed_behind_its_back() -> None:
    program = """
import os, sys
import numpy as np, fastcnn
from fastcnn import nn
os.close(2)
trainer = fastcnn.Trainer(nn.Sequential([nn.Flatten(), nn.Dense(2)]))
trainer.fit(np.zeros((4, 2, 2, 1), np.float32), [0, 1, 0, 1])
print(trainer.step)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.stdout, run.stderr, run.returncode) == ("1\n", "", 0)


# ---------------------------------------------------------------------- a terminal
def screen(said: str) -> list[str]:
    """Return the lines that a terminal shows that was sent this, without the empty ones."""
    lines, row, column = [""], 0, 0
    for part in said.replace("\x1b[A", "\0"):
        if part == "\r":
            column = 0
        elif part == "\0":
            row = max(row - 1, 0)
        elif part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines if line.strip()]


class Terminal:
    """A terminal as stderr: all that it was sent is in `said` in the end."""

    def __init__(self, columns: int = 160) -> None:
        pty = pytest.importorskip("pty")
        master, slave = pty.openpty()
        size = struct.pack("HHHH", 24, columns, 0, 0)
        pytest.importorskip("fcntl").ioctl(slave, pytest.importorskip("termios").TIOCSWINSZ, size)
        self.said = ""
        self._stream = os.fdopen(slave, "w")
        self._reader = threading.Thread(target=self._read, args=(master,))

    def _read(self, master: int) -> None:
        said = b""
        try:
            while part := os.read(master, 4096):
                said += part
        except OSError:  # the other end is closed
            pass
        os.close(master)
        self.said = said.decode().replace("\r\n", "\n")

    def __enter__(self) -> Terminal:
        self._reader.start()
        self._before, sys.stderr = sys.stderr, self._stream
        return self

    def __exit__(self, *error: object) -> None:
        sys.stderr = self._before
        self._stream.close()
        self._reader.join()


def test_a_terminal_shows_a_bar_an_epoch() -> None:
    for columns in (160, 0):  # as of a terminal in a container
        with Terminal(columns) as terminal:
            fit(3)
        lines = screen(terminal.said)
        assert [line.split(" ")[1] for line in lines] == ["1/3", "2/3", "3/3"]
        assert all("12/12" in line for line in lines)


def test_inside_a_bar_of_the_users_there_is_one_line() -> None:
    with Terminal() as terminal:
        for _ in tqdm(range(3), file=sys.stderr):
            fit(2)
    (line,) = screen(terminal.said)
    assert "3/3" in line
    assert "images/s" not in line


# ---------------------------------------------------------------------- a notebook
class Kernel:
    """What stands for IPython; `cells` holds what it shows, one text an output."""

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.execution_count = 1
        self.display = SimpleNamespace(display=self._display)

    def get_ipython(self) -> Kernel:
        return self

    def _display(self, data: Any, *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        self.cells.append(data["text/plain"])
        number = len(self.cells) - 1

        def update(data: Any, *, raw: bool) -> None:
            assert raw
            self.cells[number] = data["text/plain"]

        return SimpleNamespace(update=update)


def notebook(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Be in one. No fixture: pytest gives each phase of a test a stderr."""
    kernel = Kernel()
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setitem(sys.modules, "IPython", kernel)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stderr", stream)
    return kernel


def test_a_notebook_shows_a_line_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = notebook(monkeypatch)
    model = trainer()
    fit(3, model)
    fit(2, model)
    assert [cell[:9] for cell in kernel.cells] == ["epoch 3/3", "epoch 5/5"]
    assert all("val_accuracy" in cell and "\n" not in cell for cell in kernel.cells)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_inside_bars_of_the_users_a_notebook_shows_one_line_or_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = notebook(monkeypatch)
    for gui in (True, False):
        kernel.execution_count += 1
        bar = tqdm(total=2, file=io.StringIO())
        bar.gui = gui  # as tqdm.notebook's
        try:
            fit()
            fit()
        finally:
            bar.close()
        assert len(kernel.cells) == 1


def test_a_kernel_that_fails_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = notebook(monkeypatch)
    monkeypatch.delattr(kernel, "display")
    assert fit() == 12
    monkeypatch.delitem(sys.modules, "IPython")
    assert fit() == 12

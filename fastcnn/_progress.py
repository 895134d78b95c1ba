"""The progress bar of training."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {n}/{total} [{elapsed}]{postfix}"
_LINE = "{desc}: {n}/{total} [{elapsed}]{postfix}"
_COLUMNS = 80  # of a terminal that does not know
_SECONDS = 0.1  # between two looks of a line in a notebook


class ProgressBar:
    """The progress of a call of fit, with loss, accuracy and images per second, on stderr.

    In a terminal that is a tqdm bar an epoch, which goes away again inside a bar of the user's; in
    a notebook one line, written anew; in a file or pipe a line at the end of each epoch. Where
    nothing can be written training goes on without it. The rate is that of training alone: time
    spent on validation does not count.
    """

    def __init__(self, epochs: int, images: int) -> None:
        self._epochs, self._images = epochs, images
        self._screen = _screen()

    def begin(self, epoch: int) -> None:
        """Begin an epoch, which is counted from 1."""
        self._start = time.perf_counter()
        self._done, self._rate = 0, 0.0
        self._show(lambda screen: screen.begin(f"epoch {epoch}/{self._epochs}", self._images))

    def advance(self, images: int, numbers: Mapping[str, float]) -> None:
        """Count a step's images and show the epoch's numbers so far."""
        self._done += images
        elapsed = time.perf_counter() - self._start
        self._rate = self._done / elapsed if elapsed > 0 else 0.0
        self._show(lambda screen: screen.advance(images, self._said(numbers)))

    def finish(self, numbers: Mapping[str, float]) -> None:
        """Show the epoch's final numbers."""
        self._show(lambda screen: screen.finish(self._said(numbers)))

    def close(self) -> None:
        """Leave the epoch's bar as it is and end its line."""
        self._show(lambda screen: screen.close())

    def _said(self, numbers: Mapping[str, float]) -> str:
        said = [f"{name} {value:.4f}" for name, value in numbers.items()]
        return ", ".join([*said, f"{self._rate:,.0f} images/s"])

    def _show(self, call: Callable[[_Screen], None]) -> None:
        if self._screen is not None:
            try:
                call(self._screen)
            except Exception:  # whatever a stream's write raises is no reason to stop training
                self._screen = None


class _Screen(Protocol):
    """What shows the progress of an epoch; `said` is its numbers in words."""

    def begin(self, title: str, images: int) -> None: ...

    def advance(self, images: int, said: str) -> None: ...

    def finish(self, said: str) -> None: ...

    def close(self) -> None: ...


def _screen() -> _Screen | None:
    """Return what suits the stderr of now; None where it is sure that there is none."""
    stream = sys.stderr
    if stream is None:  # as under pythonw
        return None
    if type(stream).__module__.startswith("ipykernel"):
        try:
            return _Notebook()
        except Exception:  # another kernel than is known here
            return _Lines()
    try:
        descriptor = stream.fileno()
    except Exception:  # a stream in memory
        return _Lines()
    try:
        os.fstat(descriptor)
        return _Terminal() if stream.isatty() else _Lines()
    except (OSError, ValueError):  # closed behind Python's back: what is written would stay behind
        return None


class _Terminal:
    """A tqdm bar."""

    def __init__(self) -> None:
        self._bar: Any = None

    def begin(self, title: str, images: int) -> None:
        from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

        # A terminal that does not know its width says 0, where tqdm shows nothing.
        known = os.get_terminal_size(sys.stderr.fileno()).columns > 0
        self._bar = tqdm(
            total=images,
            desc=title,
            bar_format=_BAR,
            ncols=None if known else _COLUMNS,
            leave=None,  # it stays, unless it is below another bar
        )

    def advance(self, images: int, said: str) -> None:
        self._bar.set_postfix_str(said, refresh=False)
        self._bar.update(images)

    def finish(self, said: str) -> None:
        self._bar.set_postfix_str(said, refresh=True)

    def close(self) -> None:
        self._bar.close()


class _Lines:
    """A line at the end of each epoch."""

    format = _LINE

    def begin(self, title: str, images: int) -> None:
        self._title, self._images, self._done = title, images, 0
        self._start = time.perf_counter()

    def advance(self, images: int, said: str) -> None:
        self._done += images

    def finish(self, said: str) -> None:
        from tqdm import tqdm

        tqdm.write(self._line(said), file=sys.stderr)  # a bar of the user's makes room for it

    def close(self) -> None:
        pass

    def _line(self, said: str) -> str:
        from tqdm import tqdm

        elapsed = time.perf_counter() - self._start
        line: str = tqdm.format_meter(
            self._done,
            self._images,
            elapsed,
            prefix=self._title,
            bar_format=self.format,
            postfix=said,
        )
        return line


class _Notebook(_Lines):
    """A line in the output of a cell, written anew: it needs no widgets.

    Inside a bar of the user's it is the line of the fit before, or nothing where that bar is text:
    what comes between would begin a new line of it.
    """

    format = _BAR
    _last: tuple[object, Any] = None, None  # the cell of the last line, and the line

    def __init__(self) -> None:
        from tqdm import tqdm

        bars = list(getattr(tqdm, "_instances", ()))
        self._silent = any(not bar.gui for bar in bars)
        self._shown = 0.0
        self._handle: Any = None
        self._cell = getattr(self._ipython.get_ipython(), "execution_count", None)
        if bars and self._cell == _Notebook._last[0]:
            self._handle = _Notebook._last[1]

    @property
    def _ipython(self) -> Any:
        return sys.modules["IPython"]  # the kernel's, whose stream stderr is

    def begin(self, title: str, images: int) -> None:
        super().begin(title, images)
        self._write("")

    def advance(self, images: int, said: str) -> None:
        super().advance(images, said)
        if time.perf_counter() - self._shown >= _SECONDS:
            self._write(said)

    def finish(self, said: str) -> None:
        self._write(said)

    def _write(self, said: str) -> None:
        if self._silent:
            return
        text = {"text/plain": self._line(said)}
        if self._handle is None:
            self._handle = self._ipython.display.display(text, raw=True, display_id=True)
            _Notebook._last = self._cell, self._handle
        else:
            self._handle.update(text, raw=True)
        self._shown = time.perf_counter()

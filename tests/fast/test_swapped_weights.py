"""Weights that change while other threads ask the model: no answer stays behind them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import FastBackend, nn
from fastcnn.fast import _inference

SHAPE = (8, 6, 5)


def normed() -> nn.Sequential:
    return nn.Sequential(
        [
            nn.Conv2D(8, 3, padding=1),
            nn.BatchNorm(),
            nn.ReLU(),
            nn.Residual(nn.Sequential([nn.Conv2D(8, 1), nn.BatchNorm()])),
            nn.GlobalAvgPool2D(),
            nn.Dense(3),
        ]
    )


def blocks() -> nn.Sequential:
    return nn.Sequential(
        [
            nn.Conv2D(16, 3, padding=1, activation="relu"),
            nn.MaxPool2D(2),
            nn.DepthwiseConv2D(3, padding=1),
            nn.Flatten(),
            nn.Dense(6, activation="relu"),
            nn.Dense(3),
        ]
    )


class Swap:
    """A model with two sets of weights, and what it answers with either."""

    def __init__(self, make: Callable[[], nn.Module], count: int) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.random((count, *SHAPE), dtype=np.float32)
        self.model = make()
        self.model.build(SHAPE)
        self.trainer = fastcnn.Trainer(self.model, backend=FastBackend(num_threads=1))
        self.states = [
            {
                name: (rng.random(array.shape) * 0.1 + 0.01).astype(np.float32)
                for name, array in self.model.state_dict().items()
            }
            for _ in range(2)
        ]
        self.answers = []
        for state in self.states:
            self.model.load_state_dict(state)
            self.answers.append(fastcnn.Predictor(self.model, FastBackend(num_threads=1))(self.x))

    def require(self, which: int, about: str) -> None:
        np.testing.assert_array_equal(self.trainer.predict(self.x), self.answers[which], about)


@contextmanager
def at_line(number: int, do: Callable[[], None]) -> Iterator[list[int]]:
    """Call `do` before the line of inference of that number that runs from here on; count them."""
    lines = [0]

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(("inference.py", "_plan.py")):
            return None
        if event == "line":
            lines[0] += 1
            if lines[0] == number:
                sys.settrace(None)
                do()
                sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("make", [normed, blocks])
@pytest.mark.parametrize("count", [1, 7])
def test_a_swap_at_any_line_shows_in_the_next_answer(make: Any, count: int) -> None:
    """A call is held up at one of its lines; weights are swapped and asked for; it goes on."""
    swap = Swap(make, count)

    def meanwhile() -> None:
        swap.model.load_state_dict(swap.states[1])
        swap.require(1, f"while a call is held up at line {number}")

    number, lines = 0, [1]
    while number < lines[0]:  # the last had fewer
        number += 1
        swap.model.load_state_dict(swap.states[0])
        with at_line(number, meanwhile) as lines:
            swap.trainer.predict(swap.x)
        if lines[0] < number:  # this call had fewer, and was not held up
            break
        swap.require(1, f"after a call that was held up at line {number}")
    assert number > 100


@pytest.mark.parametrize("make", [normed, blocks])
@pytest.mark.parametrize("count", [1, 7])
def test_a_copy_of_weights_half_of_which_were_swapped_is_not_kept(
    make: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy lets other threads run while it copies."""
    swap = Swap(make, count)
    plain = _inference.copied
    copies = 0

    def torn(array: Any, dtype: Any) -> Any:
        nonlocal copies
        copies += 1
        copy = plain(array, dtype)
        swap.model.load_state_dict(swap.states[1])
        copy.reshape(-1)[array.size // 2 :] = array.reshape(-1)[array.size // 2 :]
        return copy

    swap.model.load_state_dict(swap.states[0])
    monkeypatch.setattr(_inference, "copied", torn)
    swap.trainer.predict(swap.x)
    monkeypatch.undo()
    assert copies
    swap.require(1, "after a torn copy")


def test_swaps_between_calls_from_many_threads() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for make in (normed, blocks):
            swap = Swap(make, 2)
            for number in range(15):
                serving = threading.Event()
                serving.set()

                def serve(swap: Swap = swap, serving: threading.Event = serving) -> None:
                    while serving.is_set():
                        swap.trainer.predict(swap.x)

                threads = [threading.Thread(target=serve) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for which in (0, 1, number % 2):
                    swap.model.load_state_dict(swap.states[which])
                serving.clear()
                for thread in threads:
                    thread.join()
                swap.require(number % 2, f"after swap {number}")
    finally:
        sys.setswitchinterval(interval)

"""Where a plan's arrays lie: apart while values lie in them, and in little more than these take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcnn import FastBackend, losses, nn
from fastcnn._memory import Arena
from fastcnn.fast import _plan
from fastcnn.fast._fusions import TRAINING
from fastcnn.program import differentiate, trace
from fastcnn.program.match import fuse

BYTE = np.dtype(np.uint8)
LARGE = 10 * 8192


@pytest.mark.parametrize("nbytes", [0, 20 * LARGE])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_held_is_left_alone(seed: int, nbytes: int) -> None:
    """Arrays are made, held and released at random, views too: each keeps its numbers."""
    rng = np.random.default_rng(seed)
    memory = Arena(nbytes)
    held: list[tuple[str, Any, int]] = []
    sizes = {memory.nbytes}  # after each block
    for number in range(400):
        loose = []
        for size in rng.integers(0, LARGE, 3):
            loose.append(memory.make((int(size),), BYTE))
            sizes.add(memory.nbytes)
        for array in loose:
            array.fill(number % 256)
        for array in loose[: rng.integers(4)]:
            view = array[len(array) // 2 :] if len(array) and rng.random() < 0.3 else array
            for _ in range(rng.integers(1, 3)):  # values
                name = f"{number}.{len(held)}"
                memory.hold(name, view)
                held.append((name, view, number % 256))
        memory.release(["a value of elsewhere"])
        rng.shuffle(held)
        while len(held) > rng.integers(1, 20):
            name, array, value = held.pop()
            assert (array == value).all()
            memory.release([name])
    assert all((array == value).all() for _, array, value in held)
    memory.release([name for name, *_ in held])
    free = memory.stretches()
    assert sum(free) == memory.nbytes, "all is free"
    assert len(free) == len(sizes - {0}), "each block is one free stretch again"


def test_memory_of_elsewhere_is_left_alone() -> None:
    memory, array = Arena(), np.zeros(LARGE, BYTE)
    memory.hold("x", array)
    memory.release(["x"])
    assert not memory.stretches()


def test_released_memory_serves_again() -> None:
    memory = Arena()
    for size in (3 * LARGE, LARGE, 2 * LARGE, 3 * LARGE):
        array = memory.make((size,), BYTE)
        memory.hold("y", array)
        memory.release(["y"])
    assert memory.nbytes == 3 * LARGE


@pytest.mark.parametrize("count", [2**63 - 1, 2**63 - 64, 2**70])
def test_more_than_an_address_space_is_refused(count: int) -> None:
    with pytest.raises(MemoryError, match="address space"):
        Arena(count)
    with pytest.raises(MemoryError, match=r"a result of shape .* address space"):
        Arena().make((count,), BYTE)


def norms(filters: int, stride: int = 1) -> list[nn.Module]:
    layers = [nn.Conv2D(filters, 3, stride=stride, padding=1, use_bias=False), nn.BatchNorm()]
    return [*layers, nn.ReLU()]


def residual() -> nn.Module:
    layers = norms(16)
    for filters, stride in ((16, 1), (16, 1), (32, 2), (32, 1)):
        body = nn.Sequential([*norms(filters, stride), *norms(filters)[:-1]])
        shortcut = nn.Conv2D(filters, 1, stride=stride)
        layers += [nn.Residual(body, shortcut), nn.ReLU()]
    return nn.Sequential([*layers, nn.GlobalAvgPool2D(), nn.Dense(4)])


class Counting(Arena):
    """One that knows how many bytes were needed at once, at most."""

    most = 0

    def make(self, shape: tuple[int, ...], dtype: Any) -> Any:
        array = super().make(shape, dtype)
        self.most = max(self.most, self.nbytes - sum(self.stretches()))
        return array


def test_a_plan_takes_little_more_than_is_needed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plan, "Arena", Counting)
    model = residual()
    model.build((32, 32, 3))
    target = ((4,), np.dtype(np.int64))
    traced = trace(model, 4, training=True, loss=losses.CrossEntropy(), target=target)
    program = differentiate(fuse(traced, TRAINING), model.trained_parameters())
    inputs = [np.zeros((4, 32, 32, 3), np.float32), np.zeros(4, np.int64)]
    plan = _plan.Plan(program, FastBackend(num_threads=1), *inputs)
    arena: Any = plan._binder.arena
    assert plan.nbytes < 1.1 * arena.most

"""Learning-rate schedules: their values, and that they depend on the step alone."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fastcnn import schedules


def curve(schedule: Any, total: int = 20) -> list[float]:
    return [schedule(step, total) for step in range(total)]


def test_constant() -> None:
    assert curve(schedules.Constant()) == [1.0] * 20


def test_step() -> None:
    values = curve(schedules.Step((0.5, 0.75), factor=0.1))
    assert values[:10] == [1.0] * 10
    assert values[10:15] == pytest.approx([0.1] * 5)
    assert values[15:] == pytest.approx([0.01] * 5)
    assert curve(schedules.Step(())) == [1.0] * 20


def test_cosine() -> None:
    values = curve(schedules.Cosine())
    assert values[0] == 1.0
    assert values[10] == pytest.approx(0.5)
    assert values[5] == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert schedules.Cosine()(20, 20) == pytest.approx(0.0)
    assert schedules.Cosine(final=0.2)(25, 20) == pytest.approx(0.2)


def test_cosine_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    twin = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.1)
    for value in curve(schedules.Cosine(final=0.1)):
        assert value == pytest.approx(twin.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        twin.step()


def test_warm_up() -> None:
    values = curve(schedules.WarmUp(schedules.Cosine(), share=0.2))
    assert values[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert values[4:] == [schedules.Cosine()(step, 16) for step in range(16)]
    assert curve(schedules.WarmUp(share=0.5))[9:] == [1.0] * 11
    assert curve(schedules.WarmUp(share=0.0)) == [1.0] * 20
    assert curve(schedules.WarmUp("cosine", share=1.0))[-1] == 1.0


@pytest.mark.parametrize("name", schedules.SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 7])
def test_named_ones_stay_between_0_and_1(name: str, total: int) -> None:
    schedule = schedules.get_schedule(name)
    values = curve(schedule, total)
    assert all(0.0 <= value <= 1.0 for value in values)
    assert values == curve(schedule, total), "a schedule remembers nothing"


def test_get_schedule() -> None:
    assert set(schedules.SCHEDULES) == {"constant", "step", "cosine", "warmup-cosine"}
    assert isinstance(schedules.get_schedule(None), schedules.Constant)
    own = schedules.Cosine()
    assert schedules.get_schedule(own) is own


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: schedules.get_schedule("linear"), ValueError, "schedule: .*got 'linear'"),
        (lambda: schedules.get_schedule(3), TypeError, "schedule: expected one of .*got int"),
        (lambda: schedules.Step((0.7, 0.2)), ValueError, "Step: milestones: expected rising"),
        (lambda: schedules.Step((2,)), ValueError, "Step: milestones"),
        (lambda: schedules.Step(0.5), TypeError, "Step: milestones: expected a list"),
        (lambda: schedules.Step(factor=0), ValueError, "Step: factor"),
        (lambda: schedules.Cosine(final=2), ValueError, "Cosine: final"),
        (lambda: schedules.WarmUp(share=1.5), ValueError, "WarmUp: share"),
        (lambda: schedules.WarmUp("x"), ValueError, "schedule"),
    ],
)
def test_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()

"""Fixtures that watch plans, or do without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from training import train

from fastcnn.fast import _plan
from fastcnn.program import Interpreter


class Meaning(Interpreter):
    """What a plan stands for, in its place."""

    nbytes = 0


@pytest.fixture
def op_by_op(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """`train` without plans: the same programs, fused too, are interpreted."""

    def run(*arguments: Any, **options: Any) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(_plan, "Plan", lambda program, backend, *_: Meaning(program, backend))
            return train(*arguments, **options)

    return run


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that grows by a plan for each step that one takes."""
    seen: list[Any] = []
    backward = _plan.Plan.backward

    def spy(plan: Any, *gradients: Any) -> Any:
        seen.append(plan)
        return backward(plan, *gradients)

    monkeypatch.setattr(_plan.Plan, "backward", spy)
    return seen

"""Where the arrays of an optimizer step lie: a gradient anywhere, what is updated apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calls import UPDATED
from compare import assert_close, untouched

from fastcnn import FastBackend, reference

COUNT = 100_000  # large enough for a team of threads
STEPS: dict[str, tuple[dict[str, Any], ...]] = {
    "sgd_step": (
        {"learning_rate": 0.25, "momentum": 0.5, "weight_decay": 0.125},
        {"learning_rate": 0.25, "momentum": 0.5, "nesterov": True},
    ),
    "adam_step": (
        {"step": 2, "learning_rate": 0.25, "weight_decay": 0.125},
        {"step": 2, "learning_rate": 0.25, "weight_decay": 0.125, "decoupled": True},
    ),
}
CASES = [(op, options) for op, choices in STEPS.items() for options in choices]


@pytest.fixture(params=["fast", "threads", "reference"])
def any_backend(request: Any) -> Any:
    backends = {"fast": FastBackend(num_threads=1), "threads": FastBackend(num_threads=2)}
    return backends.get(request.param, reference)


@pytest.mark.parametrize(("op", "options"), CASES)
@pytest.mark.parametrize("away", [0, 1, -1000])
def test_a_gradient_that_overlaps_counts_as_it_was(
    op: str, options: dict[str, Any], away: int, any_backend: Any, dtype: Any, rng: Any
) -> None:
    for name in (UPDATED[op][0], UPDATED[op][-1]):
        room = rng.uniform(0.5, 1, COUNT + abs(away)).astype(dtype)
        start = max(-away, 0)
        arrays = {n: rng.uniform(0.5, 1, COUNT).astype(dtype) for n in UPDATED[op]}
        arrays[name] = room[start : start + COUNT]
        gradient = room[start + away : start + away + COUNT]
        expected = {n: array.copy() for n, array in arrays.items()}
        getattr(reference, op)(dw=gradient.copy(), **expected, **options)
        getattr(any_backend, op)(dw=gradient, **arrays, **options)
        for n, array in arrays.items():
            assert_close(array.copy(), expected[n], op, about=f"{n}, dw over {name}")


@pytest.mark.parametrize(("op", "options"), CASES)
def test_a_gradient_that_runs_backwards_over_the_weights(
    op: str, options: dict[str, Any], any_backend: Any, dtype: Any, rng: Any
) -> None:
    arrays = {n: rng.uniform(0.5, 1, 1000).astype(dtype) for n in UPDATED[op]}
    expected = {n: array.copy() for n, array in arrays.items()}
    getattr(reference, op)(dw=expected["w"][::-1].copy(), **expected, **options)
    getattr(any_backend, op)(dw=arrays["w"][::-1], **arrays, **options)
    for n, array in arrays.items():
        assert_close(array, expected[n], op)


@pytest.mark.parametrize(("op", "options"), CASES)
@pytest.mark.parametrize("away", [0, 9])
def test_what_is_updated_lies_apart(
    op: str, options: dict[str, Any], away: int, any_backend: Any, dtype: Any
) -> None:
    names = UPDATED[op]
    for number, name in enumerate(names):
        for other in names[:number]:
            arrays = {n: np.ones(10, dtype) for n in names}
            room = np.ones(20, dtype)
            arrays[other], arrays[name] = room[:10], room[away : away + 10]
            expected = f"^{op}: {name}: expected memory of its own, got an array that overlaps"
            with untouched(room, *arrays.values()), pytest.raises(ValueError, match=expected):
                getattr(any_backend, op)(dw=np.ones(10, dtype), **arrays, **options)
            arrays[other], arrays[name] = room[:10], room[10:]  # next to each other
            getattr(any_backend, op)(dw=np.ones(10, dtype), **arrays, **options)


def test_only_memory_that_is_shared_counts(any_backend: Any) -> None:
    """Weights and gradient that interleave, and empty arrays, are nobody's fault."""
    empty = np.ones(0, np.float32)
    any_backend.sgd_step(empty, empty, empty, learning_rate=0.5, momentum=0.5)
    room = np.ones(20, np.float32)
    any_backend.sgd_step(room[:10], room[::2], None, learning_rate=0.5)
    np.testing.assert_array_equal(room, [0.5] * 10 + [1] * 10)

"""Threads that ask a trainer while another trains it see the model between two steps."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainers import every_kind, plain, striped_images, trainer_of

import fastcnn
from fastcnn import nn, optim
from fastcnn._step_lock import StepLock

LONG = 60.0  # seconds that nothing takes


class Halved(optim.SGD):
    """Changes the weights one by one; `between` is called with half of them changed."""

    def __init__(self, between: Callable[[], None]) -> None:
        super().__init__(0.1)
        self.between = between

    def step(self, parameters: Any, state: Any, backend: Any, **options: Any) -> None:
        names = list(parameters)
        half = len(names) // 2
        super().step({name: parameters[name] for name in names[:half]}, state, backend, **options)
        self.between()
        super().step({name: parameters[name] for name in names[half:]}, state, backend, **options)


ASKED: dict[str, Callable[[fastcnn.Trainer, Any, Any, Path], Any]] = {
    "predict": lambda trainer, x, y, path: trainer.predict(x, batch_size=3),
    "evaluate": lambda trainer, x, y, path: list(trainer.evaluate(x, y).values()),
    "predictor": lambda trainer, x, y, path: trainer.predictor()(x),
    "save_state": lambda trainer, x, y, path: (
        trainer.save_state(path),
        fastcnn.serialization.read_state(path, trainer.model, trainer.optimizer, trainer.dtype),
    )[1][0]["0.weight"],
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("make", [plain, every_kind])
def test_nobody_sees_half_a_step(asked: str, make: Any, backend: Any, tmp_path: Path) -> None:
    x, y = striped_images(6)
    path = tmp_path / "state"
    found: list[Any] = []
    threads: list[threading.Thread] = []

    def between() -> None:
        thread = threading.Thread(
            target=lambda: found.append(ASKED[asked](trainer, x, y, path)), daemon=True
        )
        threads.append(thread)
        thread.start()
        thread.join(0.1)  # it waits for the end of the step, however long that takes
        assert not found

    trainer = trainer_of(backend, make(), optimizer=Halved(between))
    trainer.predict(x)
    trainer.fit(x, y, shuffle=False, verbose=False)
    for thread in threads:
        thread.join(LONG)
    np.testing.assert_array_equal(found[0], ASKED[asked](trainer, x, y, path))


class Paused(nn.Module):
    """Identity; in inference it calls `pause`."""

    pause: Callable[[], object] = staticmethod(lambda: None)

    def declare(self, input_shape: Any) -> Any:
        return input_shape

    def forward(self, x: Any, backend: Any, *, training: bool = False, **options: Any) -> Any:
        if not training:
            type(self).pause()
        return x, lambda dy: dy


def test_an_answer_that_a_step_came_between_is_asked_for_again(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = striped_images(6)
    begun, stepped = threading.Event(), threading.Event()
    model = nn.Sequential([nn.Flatten(), nn.Dense(4), Paused(), nn.Dense(3)])
    trainer = trainer_of(backend, model)
    trainer.predict(x)

    def pause() -> None:
        begun.set()
        assert stepped.wait(LONG)

    monkeypatch.setattr(Paused, "pause", staticmethod(pause))
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(trainer.predict, x)
        assert begun.wait(LONG)
        trainer.fit(x, y, verbose=False)
        stepped.set()
        np.testing.assert_array_equal(found.result(LONG), trainer.predict(x))


def test_whoever_trains_may_ask(backend: Any) -> None:
    """In a callback, and even in the middle of a step of one's own."""
    x, y = striped_images(6)
    seen: list[Any] = []
    trainer = trainer_of(backend, optimizer=Halved(lambda: seen.append(trainer.predict(x))))

    class Ask(fastcnn.callbacks.Callback):
        def on_epoch_end(self, trainer: fastcnn.Trainer) -> None:
            with ThreadPoolExecutor(1) as pool:  # neither waits for the other
                seen.append(pool.submit(trainer.predict, x).result(LONG))

    trainer.fit(x, y, verbose=False, callbacks=[Ask()])
    assert len(seen) == 2
    np.testing.assert_array_equal(seen[1], trainer.predict(x))


def test_the_first_question_of_many_threads_builds_the_model_once(backend: Any) -> None:
    x = striped_images(2)[0]
    for _ in range(5):
        trainer = trainer_of(backend, every_kind())
        ready = threading.Barrier(4)

        def ask(trainer: fastcnn.Trainer = trainer, ready: threading.Barrier = ready) -> Any:
            ready.wait(LONG)
            return trainer.predict(x)

        with ThreadPoolExecutor(4) as pool:
            answers = [answer.result(LONG) for answer in [pool.submit(ask) for _ in range(4)]]
        for answer in answers:
            np.testing.assert_array_equal(answer, trainer.predict(x))


def test_copies_and_forks_have_a_lock_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = StepLock()
    with lock.changing():
        for twin in (copy.copy(lock), copy.deepcopy(lock), pickle.loads(pickle.dumps(lock))):
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(twin.unchanged, lambda: 3).result(LONG) == 3
        process = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: process + 1)
        with ThreadPoolExecutor(1) as pool:  # as the child of a fork in the middle of a step
            assert pool.submit(lock.unchanged, lambda: 4).result(LONG) == 4

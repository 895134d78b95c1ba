"""A step that would leave infinities or NaN in a model is refused, and leaves the model alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from trainers import CLASSES, assert_same_state, state_of, striped_images, trainer_of

from fastcnn import nn, optim

X, Y = striped_images(24)
IMAGES = (X / 255).astype(np.float32)


def normed() -> nn.Module:
    return nn.Sequential(
        [nn.Conv2D(4, 3), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(3)]
    )


def normed_rows() -> nn.Module:
    return nn.Sequential([nn.Flatten(), nn.Dense(4), nn.BatchNorm(), nn.Tanh(), nn.Dense(3)])


@pytest.mark.parametrize("make", [normed, normed_rows])
@pytest.mark.parametrize("value", [1e25, -1e30, 3e38])
def test_running_statistics(make: Any, value: float, backend: Any) -> None:
    images = IMAGES.copy()
    trainer = trainer_of(backend, make())
    trainer.fit(images, Y, batch_size=8, verbose=False)
    before = state_of(trainer)
    images[3, 4, 2, 1] = value
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="before this step"):
        trainer.fit(images[:8], Y[:8], batch_size=8, verbose=False)
    assert_same_state(state_of(trainer), before)
    trainer.fit(IMAGES, Y, batch_size=8, verbose=False)
    assert all(np.isfinite(array).all() for array in trainer.model.state_dict().values())


@pytest.mark.parametrize(
    ("optimizer", "value"),
    [
        (optim.SGD(0.05, momentum=0.9), np.inf),
        (optim.SGD(0.05, momentum=0.9), np.nan),
        (optim.SGD(0.05, momentum=0.99), 1e38),
        (optim.Adam(), -np.inf),
        (optim.Adam(), 1e20),
    ],
)
def test_gradients(optimizer: Any, value: float, backend: Any) -> None:
    """With steps that repeat recorded calls too: it happens in the last of the third epoch."""
    trainer = trainer_of(backend, nn.Sequential([nn.Flatten(), nn.Dense(3)]), optimizer=optimizer)

    def loss(prediction: Any, target: Any) -> Any:
        gradient = np.zeros_like(prediction)
        gradient[0, 0] = value if trainer.step == 8 else 1e-3
        return 1.0, gradient

    trainer.loss = loss  # type: ignore[assignment]
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match=r"gradient of 1\.\w+ in step 9 is not finite"),
    ):
        trainer.fit(IMAGES, Y, epochs=3, batch_size=8, shuffle=False, verbose=False)
    assert trainer.step == 8
    assert all(np.isfinite(array).all() for array in state_of(trainer).values())


def test_gradients_behind_a_finite_loss(backend: Any) -> None:
    images = IMAGES.copy()
    images[20, 4, 2, 1] = 1e18
    model = nn.Sequential([nn.Flatten(), nn.Dense(3)])
    trainer = trainer_of(backend, model, loss="mean_squared_error", optimizer=optim.Adam())
    targets = np.eye(CLASSES)[Y]
    trainer.fit(images[:8], targets[:8], verbose=False)
    before = state_of(trainer)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="gradient of"):
        trainer.fit(images[16:], targets[16:], verbose=False)
    assert_same_state(state_of(trainer), before)


def test_large_gradients_that_are_clipped(backend: Any) -> None:
    def loss(prediction: Any, target: Any) -> Any:
        return 1.0, np.full_like(prediction, 1e25)

    model = nn.Sequential([nn.Flatten(), nn.Dense(3)])
    trainer = trainer_of(backend, model, loss=loss, optimizer=optim.Adam(clip_norm=1.0))
    trainer.fit(IMAGES, Y, verbose=False)
    assert trainer.step == 1


def test_a_loss_that_is_nan(fast_backend: Any) -> None:
    images = IMAGES.copy()
    images[10] = np.nan  # of the second batch
    trainer = trainer_of(fast_backend, normed())
    trainer.fit(images[:8], Y[:8], batch_size=8, verbose=False)
    before = trainer.model.state_dict()
    with pytest.raises(FloatingPointError, match="the loss of step 3 is nan"):
        trainer.fit(images, Y, batch_size=8, shuffle=False, verbose=False)
    assert trainer.step == 2
    after = trainer.model.state_dict()
    assert any((after[name] != before[name]).any() for name in before)
    trainer.fit(images[:8], Y[:8], batch_size=8, verbose=False)

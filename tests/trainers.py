"""What the tests of the trainer share: data, models and trainers."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastcnn
from fastcnn import nn, optim

CLASSES = 3


def striped_images(count: int, seed: int = 0) -> tuple[Any, Any]:
    """Images (count, 8, 6, 2) of noise with a bright row, whose place is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = rng.integers(0, 100, (count, 8, 6, 2), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * label] += np.uint8(150)
    return images, labels


def plain() -> nn.Sequential:
    """The sample network in small."""
    return nn.Sequential(
        [
            nn.Conv2D(4, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(8, activation="relu"),
            nn.Dense(CLASSES),
        ]
    )


def every_kind() -> nn.Sequential:
    """Batch normalization, average pooling, dropout, a residual, a depthwise convolution."""
    return nn.Sequential(
        [
            nn.Conv2D(4, 3, padding="same", use_bias=False),
            nn.BatchNorm(),
            nn.ReLU(),
            nn.AvgPool2D(2),
            nn.Residual(
                nn.Sequential(
                    [nn.DepthwiseConv2D(3, padding=1, use_bias=False), nn.BatchNorm(), nn.GELU()]
                )
            ),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Dense(CLASSES),
        ]
    )


def trainer_of(backend: Any, model: nn.Module | None = None, **options: Any) -> fastcnn.Trainer:
    options = {"optimizer": optim.SGD(0.05, momentum=0.9), "seed": 1, **options}
    return fastcnn.Trainer(model or plain(), backend=backend, **options)


def state_of(trainer: fastcnn.Trainer) -> dict[str, Any]:
    state = {**trainer.model.state_dict(), "step": trainer.step, "epoch": trainer.epoch}
    for name, array in trainer._optimizer_state.items():
        state[f"optimizer.{name}"] = array.copy()
    return state


def assert_same_state(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


class Faulty:
    """A backend with one op replaced."""

    def __init__(self, backend: Any, op: str, fault: Any) -> None:
        self._backend = backend
        self._op = op
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return self._fault if name == self._op else getattr(self._backend, name)

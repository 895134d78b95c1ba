"""Networks and a short training, in which plans are compared with ops one by one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

import fastcnn
from fastcnn import nn, optim

CLASSES = 4


def data(shape: tuple[int, ...] = (12, 12, 3), count: int = 30, dtype: Any = np.uint8) -> Any:
    rng = np.random.default_rng(7)
    x = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    x[:, :4] = 0  # blank margins
    return (x if dtype == np.uint8 else (x / 255).astype(dtype)), rng.integers(0, CLASSES, count)


def train(
    backend: Any,
    make: Callable[[], nn.Module],
    x: Any,
    y: Any,
    dtype: Any = np.float32,
    options: Any = (),
    **fit: Any,
) -> dict[str, Any]:
    """Train for two epochs of three batches and a rest; return all that training changes."""
    options = {"optimizer": optim.SGD(0.02, momentum=0.9), "seed": 3, **dict(options)}
    trainer = fastcnn.Trainer(make(), backend=backend, dtype=dtype, **options)
    fit = {"epochs": 2, "batch_size": 8, "verbose": False, **fit}
    history = trainer.fit(x, y, **fit)
    state = {**trainer.model.state_dict(), **trainer._optimizer_state}
    return {name: np.asarray(value) for name, value in (history | state).items()}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.tobytes() == other[name].tobytes(), name


def ending(*layers: nn.Module) -> Callable[[], nn.Module]:
    """A function that gives new layers of these kinds each time, with a classifier behind them."""

    def make() -> nn.Module:
        made = copy.deepcopy(layers)
        return nn.Sequential([nn.Sequential(made), nn.Flatten(), nn.Dense(CLASSES)])

    return make


def relu(filters: int, kernel: int = 3, **options: Any) -> nn.Conv2D:
    return nn.Conv2D(filters, kernel, activation="relu", **options)


NETWORKS = {
    "blocks": ending(relu(16), nn.MaxPool2D(2), relu(20), nn.MaxPool2D(2)),
    "a block without bias": ending(relu(16, use_bias=False, padding=1), nn.MaxPool2D(3, stride=2)),
    "dense": ending(nn.Flatten(), nn.Dense(33, activation="relu"), nn.Dense(7), nn.ReLU()),
    "activations": ending(
        nn.Conv2D(5, 3, activation="gelu"),
        nn.LeakyReLU(),
        nn.ELU(),
        nn.SiLU(),
        nn.Flatten(),
        nn.Dense(9, activation="tanh"),
        nn.Sigmoid(),
        nn.Softmax(),
    ),
    "norms": ending(
        nn.Conv2D(16, 3),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Conv2D(16, 3),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.Conv2D(7, 1),
        nn.BatchNorm(running_variance="biased"),
        nn.Flatten(),
        nn.Dense(8),
        nn.BatchNorm(momentum=0.5),
    ),
    "pools": ending(
        nn.Conv2D(5, 3, padding="same"), nn.MaxPool2D(3, stride=2, padding=1), nn.AvgPool2D(2)
    ),
    "global average": ending(nn.Conv2D(5, 3), nn.GlobalAvgPool2D()),
    "global maximum": ending(nn.Conv2D(5, 3), nn.GlobalMaxPool2D()),
    "strides": ending(nn.Conv2D(5, 1), nn.Conv2D(6, 1, stride=2), nn.Conv2D(4, 2, stride=3)),
    "groups": ending(nn.Conv2D(16, 3), nn.Conv2D(16, 3, groups=4), nn.Conv2D(6, 3, groups=2)),
    "depthwise": ending(nn.Conv2D(32, 3), nn.DepthwiseConv2D(3, padding=1), nn.Conv2D(32, 3)),
    "larger images": ending(
        nn.Conv2D(5, 3, stride=3),
        nn.Conv2DTranspose(6, 2, stride=2, activation="relu"),
        nn.UpSample2D(2),
        nn.Conv2DTranspose(7, 3, padding=1),
        nn.UpSample2D(2, method="bilinear"),
        nn.MaxPool2D(4),
    ),
    "larger images with gaps": ending(
        nn.Conv2D(5, 3, stride=3),
        nn.Conv2DTranspose(6, 1, stride=2),
        nn.Conv2DTranspose(16, 2, stride=3, output_padding=1, groups=2),
        nn.Conv2DTranspose(16, 1, stride=2, groups=16),
    ),
    "residuals": lambda: nn.Sequential(
        [
            nn.Residual(nn.Conv2D(3, 3, padding=1)),
            nn.Residual(nn.Conv2D(6, 3, padding=1), nn.Conv2D(6, 1)),
            nn.Flatten(),
            nn.Dense(CLASSES),
        ]
    ),
    "winograd": ending(nn.Conv2D(16, 3, padding=1), relu(16, padding=1), nn.Conv2D(16, 3)),
}


class Doubled(nn.Conv2D):
    """A layer of one's own, in the guise of one of the house."""

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        y, backward = super().forward(x, backend, **options)
        y *= 2
        return y, lambda dy: backward(dy * 2)


NETWORKS |= {
    "gradients of blocks op by op": ending(
        relu(64, padding=1), relu(64), nn.MaxPool2D(2, stride=1)
    ),
    "dropout": ending(relu(8), nn.Flatten(), nn.Dropout(0.5)),
    "a layer of one's own": ending(Doubled(8, 3), nn.ReLU()),
    "blocks of grouped convolutions": ending(relu(6, groups=3), nn.MaxPool2D(2)),
    "blocks that run op by op": ending(relu(32, padding=1), relu(32), nn.MaxPool2D(3, stride=1)),
    "norms of odd channels": ending(nn.Conv2D(7, 3), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(2)),
}

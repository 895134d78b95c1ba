"""A model with two inputs and two outputs, and data for it."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastcnn
from fastcnn import nn


def branched(seed: int | None = 0, dtype: Any = np.float32) -> nn.Model:
    """Two inputs that meet, two outputs, the second made of the first, too; seed None: unbuilt."""
    images, numbers = nn.Input((8, 8, 1)), nn.Input((4,))
    h = nn.Flatten()(nn.MaxPool2D(2)(nn.Conv2D(3, 3, activation="relu")(images)))
    h = nn.concat([h, nn.Dense(5, activation="relu")(numbers)])
    h = nn.Dense(6, activation="tanh")(h)
    first = nn.Dense(3)(h)
    model = nn.Model([images, numbers], [first, nn.Dense(2)(nn.concat([h, first]))])
    if seed is not None:
        model.build(seed=seed, dtype=dtype)
    return model


def inputs(count: int, seed: int = 0) -> tuple[Any, Any]:
    """Images as bytes, and rows of numbers."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    return images, rng.standard_normal((count, 4)).astype(np.float32)


def directly(model: Any, images: Any, numbers: Any, backend: Any) -> Any:
    return model((images.astype(model.dtype) / 255, numbers.astype(model.dtype)), backend)


# ---------------------------------------------------------------------- Trainer
def data(count: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Inputs for `branched`, with labels for its first output and numbers for its second."""
    rng = np.random.default_rng([seed, 1])
    return [*inputs(count, seed)], [rng.integers(0, 3, count), rng.standard_normal((count, 2))]


def trained(backend: Any, model: Any = None, **options: Any) -> fastcnn.Trainer:
    options = {"loss": ["cross_entropy", "mse"], "loss_weights": [0.5, 2.0], **options}
    return fastcnn.Trainer(model or branched(), backend=backend, **options)


def squares(prediction: Any, target: Any) -> tuple[float, Any]:
    difference = prediction - target
    return float((difference**2).mean()), 2 * difference / difference.size

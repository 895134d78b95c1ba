"""A model with two inputs and two outputs, and data for it."""

from __future__ import annotations

from typing import Any

import numpy as np

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

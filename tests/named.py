"""Models whose inputs and outputs have names, and data for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from several import inputs

import fastcnn
from fastcnn import nn

COUNT = 9
IMAGES, NUMBERS = inputs(COUNT)
X = {"meta": NUMBERS, "image": IMAGES}  # in another order than the model's
Y = {"even": np.arange(COUNT) % 2, "digit": np.arange(COUNT) % 3}
LOSS = {"even": "cross_entropy", "digit": "cross_entropy"}


def body() -> tuple[Any, Any, Any]:
    image, meta = nn.Input((8, 8, 1), name="image"), nn.Input((4,), name="meta")
    h = nn.concat([nn.Flatten()(nn.Conv2D(2, 3, activation="relu")(image)), meta])
    return image, meta, nn.Dense(5, activation="tanh")(h)


def by_layers() -> nn.Model:
    """The outputs are called as the layers that make them."""
    image, meta, h = body()
    return nn.Model([image, meta], [nn.Dense(3, name="digit")(h), nn.Dense(2, name="even")(h)])


def by_keys() -> nn.Model:
    """The keys of dicts are the names."""
    image, meta, h = body()
    digit, even = nn.Dense(3, name="a")(h), nn.Dense(2)(h)
    return nn.Model({"image": image, "meta": meta}, {"digit": digit, "even": even})


def in_a_chain() -> nn.Module:
    """A chain has the names of its ends."""
    return nn.Sequential([by_layers()])


MODELS: list[Callable[[], nn.Module]] = [by_layers, by_keys, in_a_chain]


def trainer_of(model: nn.Module, **options: Any) -> fastcnn.Trainer:
    options = {"loss": LOSS, "loss_weights": {"even": 0.5, "digit": 2.0}, **options}
    return fastcnn.Trainer(model, **options)

"""What the tests of sentences share: what is said of something typed, and what it is typed with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from trainers import striped_images

import fastcnn
from fastcnn import nn

X, Y = striped_images(12)
ROWS = np.ones((8, 6), np.float32)
IMAGE = ROWS[..., None]
FILTERS = np.ones((3, 3, 1, 2), np.float32)

Typed = Callable[[], object]


def small() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(3)])


def trainer(**options: Any) -> fastcnn.Trainer:
    return fastcnn.Trainer(small(), **options)


def sentence(typed: Typed, error: type[Exception]) -> str:
    """Return what is said, which is one line and no longer than it must be."""
    with pytest.raises(error) as caught:
        typed()
    said = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in said
    assert len(said) < 400
    assert caught.value.__cause__ is None
    return said

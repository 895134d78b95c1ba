"""Small model files that tests of the command share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn


def network(classes: int = 4, shape: tuple[int, int, int] = (12, 10, 3)) -> nn.Module:
    model = nn.Sequential(
        [
            nn.Conv2D(8, 3, padding="same"),
            nn.BatchNorm(),
            nn.ReLU(),
            nn.MaxPool2D(2),
            nn.Conv2D(6, 3, use_bias=False),
            nn.GlobalAvgPool2D(),
            nn.Dense(classes),
        ]
    )
    model.build(shape, seed=2)
    return model


def onnx_file(name: str = "model.onnx", model: nn.Module | None = None, **options: Any) -> str:
    pytest.importorskip("onnx", reason="needs the package onnx")
    fastcnn.onnx.save(model or network(), name, **options)
    return name


def images(count: int = 3, shape: tuple[int, int, int] = (12, 10, 3)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *shape), dtype=np.uint8)

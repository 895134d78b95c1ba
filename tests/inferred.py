"""Networks whose inference prepares much, and how far their results may be from the model's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from trainers import every_kind, plain

from fastcnn import nn

OPTIONS: dict[str, dict[str, Any]] = {  # of ops, that are not the defaults
    "conv2d": {"padding": 1},
    "batch_norm_inference": {"epsilon": 0.1},
    "max_pool2d": {"pool_size": 2},
    "leaky_relu": {"negative_slope": 0.3},
    "clip": {"low": -0.4, "high": 1.5},
    "hard_sigmoid": {"alpha": 0.2, "beta": 0.4},
    "elu": {"alpha": 1.7},
    "celu": {"alpha": 1.7},
    "gelu": {"approximate": True},
}


def blocks() -> nn.Sequential:
    """Blocks by Winograd and directly, strided, grouped, with a 3x3 pool, without bias."""
    return nn.Sequential(
        [
            nn.Conv2D(16, 3, padding=1, activation="relu"),
            nn.MaxPool2D(2),
            nn.Sequential([nn.Conv2D(20, 3, padding="same"), nn.ReLU(), nn.MaxPool2D(2)]),
            nn.Conv2D(6, 3, padding=1, groups=2, activation="relu", use_bias=False),
            nn.MaxPool2D((2, 1), stride=1),
            nn.Conv2D(5, 1, activation="tanh"),
            nn.Flatten(),
            nn.Dense(33, activation="relu"),
            nn.Dense(17, use_bias=False),
            nn.ReLU(),
            nn.Dense(3),
        ]
    )


def summed() -> nn.Sequential:
    """Sums with a residual behind every kind of convolution, and where none can take them along."""
    return nn.Sequential(
        [
            nn.Conv2D(36, 3, padding=1, activation="relu"),
            nn.Residual(  # Winograd's
                nn.Sequential([nn.Conv2D(36, 3, padding=1), nn.ReLU(), nn.Conv2D(36, 3, padding=1)])
            ),
            nn.ReLU(),
            nn.Residual(nn.Sequential([nn.Conv2D(72, 1), nn.ReLU(), nn.Conv2D(36, 1)])),
            nn.Residual(
                nn.Sequential([nn.Conv2D(21, 3, stride=2, padding=1, use_bias=False)]),
                nn.Conv2D(21, 1, stride=2),
            ),
            nn.ReLU(),
            nn.Residual(nn.Conv2D(21, 3, padding=1, groups=3)),
            nn.ReLU(),
            nn.Residual(nn.Sequential([nn.DepthwiseConv2D(3, padding=1)])),
            nn.ReLU(),
            nn.Residual(nn.Conv2D(21, 1, activation="relu")),
            nn.ReLU(),
            nn.Residual(nn.Residual(nn.Conv2D(21, 1)), nn.Sequential([nn.Dropout(0.5)])),
            nn.ReLU(),
            nn.MaxPool2D(3, stride=2, padding=1),
            nn.GlobalAvgPool2D(),
            nn.Dense(5),
        ]
    )


def normalized() -> nn.Sequential:
    """Batch normalization behind everything that it folds into, and where it can't."""
    return nn.Sequential(
        [
            nn.BatchNorm(),
            nn.Conv2D(16, 3, padding=1, use_bias=False),
            nn.BatchNorm(epsilon=1e-3),
            nn.ReLU(),
            nn.MaxPool2D(2),
            nn.DepthwiseConv2D(3, padding=1),
            nn.BatchNorm(),
            nn.Conv2D(7, 3, padding=1, activation="relu"),
            nn.BatchNorm(),
            nn.ReLU(),
            nn.Residual(
                nn.Sequential([nn.Conv2D(7, 1), nn.BatchNorm()]),
                nn.Sequential([nn.Conv2D(7, 3, padding=1), nn.BatchNorm(), nn.ReLU()]),
            ),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Dense(9),
            nn.BatchNorm(),
            nn.ReLU(),
            nn.Dense(3),
        ]
    )


MODELS = [plain, every_kind, blocks, summed, normalized]


def built(make: Callable[[], nn.Module], shape: Any, dtype: Any, seed: int = 0) -> nn.Module:
    """A model whose every weight and statistic is something."""
    model = make()
    model.build(shape, dtype=dtype)
    rng = np.random.default_rng(seed)
    for name, variable in model.variables().items():
        draw = rng.uniform(0.5, 2, variable.shape)
        if not name.endswith(("gamma", "running_variance")):
            draw = (draw - 1.25) / np.sqrt(np.prod(variable.shape[:-1]) + 1)
        variable.data = draw.astype(dtype)
    return model


def assert_rounding(actual: Any, expected: Any, about: str = "", *, operations: int = 50) -> None:
    """These nets sum at most a few hundred products, a few times."""
    assert actual.dtype == expected.dtype
    bound = operations * np.finfo(expected.dtype).eps
    largest = np.abs(expected).max() if operations > 50 else 1
    np.testing.assert_allclose(actual, expected, rtol=bound, atol=bound * largest, err_msg=about)

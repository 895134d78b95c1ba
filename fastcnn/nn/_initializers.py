"""How weights are drawn.

Every initializer draws in float64 and the caller rounds, so that a seed means the same weights
in float32 and float64 and on every backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fastcnn._types import Array

Initializer = Callable[["np.random.Generator", tuple[int, ...], int, int], Array]


def glorot_uniform(
    rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
) -> Array:
    """Draw from U(-a, a), a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    limit = math.sqrt(6.0 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, shape)


def he_normal(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    """Draw from N(0, 2 / fan_in) (He et al., 2015)."""
    del fan_out  # one signature for all
    return rng.standard_normal(shape) * math.sqrt(2.0 / fan_in)


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": glorot_uniform,
    "he_normal": he_normal,
}

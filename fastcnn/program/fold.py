"""Normalization by known statistics goes into the weights in front of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastcnn._types import Array

__all__ = ["folded"]


def folded(
    weight: Array, bias: Array | None, norm: Sequence[Array], epsilon: float
) -> tuple[Array, Array]:
    """Return weight and bias of the layer that does what a layer and its norm do.

    norm: gamma, beta, mean and variance. gamma * (x @ w + b - mean) / s + beta =
    x @ (w * gamma / s) + (b - mean) * gamma / s + beta, s = sqrt(variance + epsilon): Jacob et
    al., 2018, arXiv:1712.05877.
    """
    gamma, beta, mean, variance = (array.astype(np.float64) for array in norm)
    with np.errstate(all="ignore"):  # what is not finite shows in the results, as it would unfolded
        scale = gamma / np.sqrt(variance + epsilon)
        b = ((0.0 if bias is None else bias) - mean) * scale + beta
        return (weight * scale).astype(weight.dtype), b.astype(weight.dtype)

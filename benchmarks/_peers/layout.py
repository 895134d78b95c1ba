"""fastcnn's arrays in the layouts of others, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastcnn.backend import Array

__all__ = ["nchw", "nhwc", "oihw", "to_hwio", "torch_order"]


def nchw(x: Array) -> Array:
    """Return images (N, H, W, C) as (N, C, H, W)."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def nhwc(x: Array) -> Array:
    """Return images (N, C, H, W) as (N, H, W, C)."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def oihw(w: Array) -> Array:
    """Return filters (R, S, C, K) as (K, C, R, S)."""
    return np.ascontiguousarray(w.transpose(3, 2, 0, 1))


def to_hwio(w: Array) -> Array:
    """Return filters (K, C, R, S) as (R, S, C, K)."""
    return np.ascontiguousarray(w.transpose(2, 3, 1, 0))


def torch_order(weights: Mapping[str, Array]) -> list[Array]:
    """Return the sample network's weights and biases, layer by layer, in PyTorch's layouts.

    Filters OIHW, dense weights (out, in); the inputs of the first dense layer, which come from a
    flattened 5 x 5 x 64 image, in the order C, H, W.
    """
    dense = weights["5.weight"].reshape(5, 5, 64, 128).transpose(2, 0, 1, 3).reshape(1600, 128)
    ordered = {
        **weights,
        "0.weight": oihw(weights["0.weight"]),
        "2.weight": oihw(weights["2.weight"]),
        "5.weight": np.ascontiguousarray(dense.T),
        "6.weight": np.ascontiguousarray(weights["6.weight"].T),
    }
    return [ordered[f"{layer}.{name}"] for layer in (0, 2, 5, 6) for name in ("weight", "bias")]

"""fastcnn's arrays in the layouts of others, and back."""

from __future__ import annotations

import numpy as np

from fastcnn.backend import Array

__all__ = ["nchw", "nhwc", "oihw", "out_in", "to_hwio"]


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


def out_in(w: Array, image: tuple[int, ...] | None) -> Array:
    """Return dense weights (in, out) as (out, in).

    image (H, W, C): what was flattened into the inputs, which then are in the order C, H, W.
    """
    if image is not None:
        w = w.reshape(*image, -1).transpose(2, 0, 1, 3).reshape(w.shape)
    return np.ascontiguousarray(w.T)

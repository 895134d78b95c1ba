"""The three functions of the teaching document that fastcnn grew from, and agreement with them.

They handle one image of (height, width, depth) with filters of (height, width, in, out), and a
batch of rows for batch normalization, one number at a time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from compare import assert_close, assert_same
from numpy.typing import NDArray


def conv2d(image: Any, filters: Any, stride: int = 1, padding: int = 0) -> NDArray[Any]:
    height, width, depth = image.shape
    filter_height, filter_width, _, count = filters.shape
    out_height = (height + 2 * padding - filter_height) // stride + 1
    out_width = (width + 2 * padding - filter_width) // stride + 1
    output = np.zeros((out_height, out_width, count))
    for i in range(out_height):
        for j in range(out_width):
            for k in range(count):
                total = 0.0
                for a in range(filter_height):
                    for b in range(filter_width):
                        row, column = i * stride + a - padding, j * stride + b - padding
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(depth):
                                total += float(image[row, column, c]) * float(filters[a, b, c, k])
                output[i, j, k] = total
    return output


def max_pooling(image: Any, pool_size: int = 2, stride: int = 2) -> NDArray[Any]:
    height, width, depth = image.shape
    out_height = (height - pool_size) // stride + 1
    out_width = (width - pool_size) // stride + 1
    output = np.zeros((out_height, out_width, depth))
    for i in range(out_height):
        for j in range(out_width):
            for c in range(depth):
                largest = -math.inf
                for a in range(pool_size):
                    for b in range(pool_size):
                        largest = max(largest, float(image[i * stride + a, j * stride + b, c]))
                output[i, j, c] = largest
    return output


def batch_normalization(x: Any, gamma: Any, beta: Any, epsilon: float = 1e-5) -> NDArray[Any]:
    count, depth = x.shape
    output = np.zeros((count, depth))
    for c in range(depth):
        mean = sum(float(x[n, c]) for n in range(count)) / count
        variance = sum((float(x[n, c]) - mean) ** 2 for n in range(count)) / count
        for n in range(count):
            normalized = (float(x[n, c]) - mean) / math.sqrt(variance + epsilon)
            output[n, c] = float(gamma[c]) * normalized + float(beta[c])
    return output


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), (2, 1), (3, 2)])
def test_conv2d(backend: Any, dtype: Any, stride: int, padding: int, rng: Any) -> None:
    image = rng.integers(-4, 5, (9, 7, 3)).astype(dtype)
    filters = rng.integers(-4, 5, (3, 2, 3, 5)).astype(dtype)
    y = backend.conv2d(image[None], filters, stride=stride, padding=padding)
    assert y.dtype == dtype
    assert_same(y[0], conv2d(image, filters, stride, padding))


@pytest.mark.parametrize(("pool_size", "stride"), [(2, 2), (3, 2), (2, 1), (1, 3), (4, 4)])
def test_max_pooling(backend: Any, dtype: Any, pool_size: int, stride: int, rng: Any) -> None:
    image = rng.standard_normal((9, 8, 3)).astype(dtype)
    y, _ = backend.max_pool2d(image[None], pool_size, stride=stride)
    assert y.dtype == dtype
    assert_same(y[0], max_pooling(image, pool_size, stride))


@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_batch_normalization(backend: Any, dtype: Any, epsilon: float, rng: Any) -> None:
    x = (rng.standard_normal((17, 5)) * 3 + 10).astype(dtype)
    gamma, beta = rng.standard_normal((2, 5)).astype(dtype)
    y, mean, variance = backend.batch_norm(x, gamma, beta, epsilon=epsilon)
    assert y.dtype == mean.dtype == variance.dtype == dtype
    assert_close(y, batch_normalization(x, gamma, beta, epsilon), "batch_norm")
    default, _, _ = backend.batch_norm(x, gamma, beta)
    assert_close(default, batch_normalization(x, gamma, beta), "batch_norm")

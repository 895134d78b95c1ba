"""Blocks by Winograd's algorithm: ReLU and max-pool of its own convolution, bit for bit."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from compare import assert_same_bits
from kept import Kept

from fastcnn import FastBackend, _kernels
from fastcnn.backend import Array

# x and filters, for every way the work is divided (weights ahead in one block or many, groups of
# filters with few tiles, large weights with one block and with two; kept weights point by point)
# and every kind of tile: whole ones alone, rims below, beside, on both sides, a corner alone.
WORK = [
    ((2, 2, 2, 3), 5),
    ((2, 4, 4, 3), 16),
    ((5, 21, 19, 33), 40),
    ((3, 22, 8, 20), 65),
    ((2, 8, 7, 40), 200),
    ((2, 4, 6, 150), 131),
    ((2, 4, 6, 150), 64),  # seven threads meet at a point whose first tiles are others' last
    ((3, 9, 9, 272), 330),
    ((8, 12, 11, 330), 272),
]


def composed(backend: FastBackend, x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """Return (y, argmax) of conv2d, relu and max_pool2d, in the tiles that the block takes.

    A row or column that no window reads is not computed: the block's last tile may be shorter.
    """
    ends = [1 - size % 2 for size in x.shape[1:3]]
    z = backend.conv2d(x, w, b, padding=((1, ends[0]), (1, ends[1])))
    y, argmax = backend.max_pool2d(backend.relu(z))
    argmax[y == 0] = 4
    return y, argmax


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("x_shape", "filters"), WORK, ids=str)
def test_a_block_is_its_ops_bit_for_bit(
    x_shape: Any, filters: int, dtype: str, rng: np.random.Generator
) -> None:
    x = rng.standard_normal(x_shape).astype(dtype)
    x[rng.random(x_shape[:3]) < 0.6] = 0  # blank windows, and tiles that are blank in part
    w = rng.standard_normal((3, 3, x_shape[3], filters)).astype(dtype)
    w[1, 1, 0, filters // 2] = np.nan
    b = rng.standard_normal(filters).astype(dtype)
    b[:2] = 0
    pads: dict[str, Any] = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}
    pools: dict[str, Any] = {"pool_size": 2, "pool_stride": 2}
    for isa, threads in product(_kernels.available(), (1, 2, 7)):
        backend = FastBackend(isa, threads, convolution="winograd")
        expected = composed(backend, x, w, b)
        about = f"{isa} {threads}"
        assert_same_bits(backend.conv_block(x, w, b, **pads), expected, about)
        kept = Kept(isa, threads, convolution="winograd")
        for _ in range(2):
            y = kept._conv2d_pool_product(x, w, b, **pads, **pools)
            assert_same_bits((y,), expected[:1], about)

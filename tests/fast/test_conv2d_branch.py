"""A convolution of what others read, too: its input's gradient is added to theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_same_bits

from fastcnn import nn
from fastcnn.fast._fusions import TRAINING
from fastcnn.program import differentiate, trace
from fastcnn.program.match import fuse

# By Winograd's algorithm with whole tiles and short ones, whole vectors and not; and each other.
CASES: list[tuple[Any, Any, dict[str, Any]]] = [
    ((3, 16, 16, 16), (3, 3, 16, 16), {"padding": 1}),
    ((2, 9, 11, 19), (3, 3, 19, 35), {"padding": "same"}),
    ((2, 13, 7, 64), (3, 3, 64, 24), {}),
    ((2, 9, 9, 8), (3, 3, 8, 12), {"stride": 2, "padding": 1}),
    ((2, 9, 8, 12), (1, 1, 12, 20), {}),
    ((2, 9, 8, 32), (3, 3, 1, 32), {"groups": 32, "padding": 1}),
    ((2, 9, 8, 8), (3, 3, 4, 8), {"groups": 2, "dilation": 2}),
]


@pytest.mark.parametrize(("shape", "kernel", "options"), CASES, ids=str)
def test_bits_are_those_of_convolution_and_sum(
    shape: Any, kernel: Any, options: Any, fast_backend: Any, dtype: Any, rng: np.random.Generator
) -> None:
    x, w, b = (rng.standard_normal(size).astype(dtype) for size in (shape, kernel, kernel[3:]))
    y = fast_backend._conv2d_branch(x, w, b, **options)
    assert_same_bits((y,), (fast_backend.conv2d(x, w, b, **options),))
    dy, more = (rng.standard_normal(size).astype(dtype) for size in (y.shape, shape))
    kept = more.copy()
    dx, *others = fast_backend._conv2d_branch_backward(dy, x, w, more, **options)
    plain, *same = fast_backend.conv2d_backward(dy, x, w, **options)
    assert_same_bits((dx, *others), (fast_backend.add(plain, more), *same))
    assert_same_bits((more,), (kept,))
    assert_same_bits(fast_backend._conv2d_branch_backward(dy, x, w, **options), (plain, *same))
    for name in ("input_gradient", "weight_gradient"):
        wanted = {**options, name: False}
        found = fast_backend._conv2d_branch_backward(dy, x, w, more, **wanted)
        expected = fast_backend.conv2d_backward(dy, x, w, **wanted)
        assert [each is None for each in found] == [each is None for each in expected]


def test_what_it_is_for() -> None:
    """No sum of two gradients where a convolution reads what others do; it is as ever elsewhere."""
    body = [nn.Conv2D(8, 3, padding=1), nn.Tanh(), nn.Conv2D(8, 3, padding=1)]
    model = nn.Sequential([nn.Conv2D(8, 3), nn.Tanh(), nn.Residual(nn.Sequential(body)), nn.Tanh()])
    model.build((9, 9, 2))
    program = trace(model, 2, training=True)
    fused = differentiate(fuse(program, TRAINING), model.trained_parameters())
    plain = differentiate(program, model.trained_parameters())
    ops = [node.op for node in fused.nodes]
    assert ops.count("conv2d_branch") == ops.count("conv2d_branch_backward") == 1
    assert ops.count("conv2d") == 2
    assert [node.op for node in plain.nodes].count("add") == ops.count("add") + 1

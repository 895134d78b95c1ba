"""PyTorch as an outside judge of the ops of networks with branches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_close
from test_reference_torch import F, draw, leaf, nchw, nhwc, numpy, torch


@pytest.mark.parametrize("op", ["add", "multiply"])
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((2, 5, 4, 3), (2, 5, 4, 3)),
        ((2, 5, 4, 19), (19,)),
        ((2, 1, 1, 3), (2, 5, 4, 3)),
        ((2, 5, 4, 3), (5, 1, 1)),
        ((2, 1, 4, 1), (5, 1, 3)),
    ],
)
def test_sums_and_products(
    op: str, a_shape: Any, b_shape: Any, backend: Any, dtype: Any, rng: Any
) -> None:
    a, b = draw(rng, dtype, *a_shape), draw(rng, dtype, *b_shape)
    ta, tb = leaf(a), leaf(b)
    ty = ta + tb if op == "add" else ta * tb
    y = getattr(backend, op)(a, b)
    assert_close(y, numpy(ty), op)
    dy = draw(rng, dtype, *y.shape)
    ty.backward(torch.tensor(dy.astype(np.float64)))
    saved = (a_shape, b_shape) if op == "add" else (a, b)
    for gradient, t in zip(getattr(backend, f"{op}_backward")(dy, *saved), (ta, tb), strict=True):
        assert_close(gradient, numpy(t.grad))


@pytest.mark.parametrize("slopes", [1, 5])
def test_prelu(slopes: int, backend: Any, dtype: Any, rng: Any) -> None:
    x, dy = draw(rng, dtype, 2, 3, 4, 5), draw(rng, dtype, 2, 3, 4, 5)
    slope = draw(rng, dtype, slopes)
    tx, tslope = leaf(x), leaf(slope)
    ty = nhwc(F.prelu(nchw(tx), tslope))
    assert_close(backend.prelu(x, slope), numpy(ty), "prelu")
    ty.backward(torch.tensor(dy.astype(np.float64)))
    for gradient, t in zip(backend.prelu_backward(dy, x, slope), (tx, tslope), strict=True):
        assert_close(gradient, numpy(t.grad), "prelu_backward")


@pytest.mark.parametrize("axis", [-1, 0, 2])
def test_concat(axis: int, backend: Any, dtype: Any, rng: Any) -> None:
    shapes = [[2, 3, 4, 5], [2, 3, 4, 5]]
    shapes[1][axis] = 2
    xs = [draw(rng, dtype, *shape) for shape in shapes]
    leaves = [leaf(x) for x in xs]
    ty = torch.cat(leaves, axis)
    y = backend.concat(xs, axis)
    assert_close(y, numpy(ty), "concat")
    dy = draw(rng, dtype, *y.shape)
    ty.backward(torch.tensor(dy.astype(np.float64)))
    parts = backend.concat_backward(dy, [x.shape for x in xs], axis)
    for part, t in zip(parts, leaves, strict=True):
        assert_close(part, numpy(t.grad), "concat")


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("factor", [1, 2, 3, (2, 5), (7, 1)])
def test_upsample2d(method: str, factor: Any, backend: Any, dtype: Any, rng: Any) -> None:
    x = draw(rng, dtype, 2, 3, 4, 5)
    tx = leaf(x)
    centres = {} if method == "nearest" else {"align_corners": False}
    ty = nhwc(F.interpolate(nchw(tx), scale_factor=factor, mode=method, **centres))
    y = backend.upsample2d(x, factor, method=method)
    assert_close(y, numpy(ty))
    dy = draw(rng, dtype, *y.shape)
    ty.backward(torch.tensor(dy.astype(np.float64)))
    assert_close(backend.upsample2d_backward(dy, x.shape, factor, method=method), numpy(tx.grad))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((2, 4, 5, 3), (3, 3, 5, 3), {}),
        ((2, 4, 5, 3), (2, 2, 17, 3), {"stride": 2}),
        ((1, 4, 5, 3), (4, 4, 5, 3), {"stride": 2, "padding": 1}),
        (
            (2, 4, 5, 3),
            (3, 2, 5, 3),
            {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)},
        ),
        ((2, 4, 5, 6), (3, 3, 2, 6), {"stride": 2, "padding": 1, "groups": 3}),
        ((1, 5, 4, 18), (3, 3, 1, 18), {"groups": 18, "stride": 2, "output_padding": 1}),
        ((2, 8, 9, 16), (3, 3, 16, 16), {"padding": 1}),
    ],
)
def test_conv2d_transpose(
    x_shape: Any, w_shape: Any, options: Any, bias: bool, backend: Any, dtype: Any, rng: Any
) -> None:
    x, w = draw(rng, dtype, *x_shape), draw(rng, dtype, *w_shape)
    filters = w_shape[2] * options.get("groups", 1)
    b = draw(rng, dtype, filters) if bias else None
    tx, tw = leaf(x), leaf(w)
    tb = leaf(b) if bias else None
    ty = nhwc(F.conv_transpose2d(nchw(tx), tw.permute(3, 2, 0, 1), tb, **options))
    y = backend.conv2d_transpose(x, w, b, **options)
    assert_close(y, numpy(ty), "conv2d_transpose")
    dy = draw(rng, dtype, *y.shape)
    ty.backward(torch.tensor(dy.astype(np.float64)))
    dx, dw, db = backend.conv2d_transpose_backward(dy, x, w, **options)
    assert_close(dx, numpy(tx.grad), "conv2d_transpose")
    assert_close(dw, numpy(tw.grad), "conv2d_transpose")
    assert_close(db, numpy(tb.grad) if bias else dy.sum((0, 1, 2), np.float64), "conv2d_transpose")

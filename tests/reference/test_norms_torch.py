"""PyTorch as an outside judge of the norms of single samples; ONNX Runtime of one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_close
from test_reference_torch import F, draw, leaf, nchw, nhwc, numpy, torch


def judged(backend: Any, op: str, tensors: list[Any], ty: Any, dy: Any, **options: Any) -> None:
    """Compare y and all gradients; of float64 to nine digits whatever the tolerances say."""
    arrays = [None if each is None else numpy(each).astype(dy.dtype) for each in tensors]
    y = getattr(backend, op)(*arrays, **options)
    assert_close(y, numpy(ty), op)
    ty.backward(torch.tensor(dy.astype(np.float64)))
    gradients = getattr(backend, f"{op}_backward")(dy, *arrays[:2], **options)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for gradient, tensor in zip(gradients, tensors, strict=False):
        if tensor is not None:
            expected = numpy(tensor.grad)
            assert_close(gradient, expected, f"{op}_backward", largest_dy=float(np.abs(dy).max()))
            if dy.dtype == np.float64:
                np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("given", ["gamma and beta", "gamma", "neither"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((9, 5), -1), ((3, 5, 4, 19), -1), ((3, 5, 4, 19), 1), ((6, 3, 33), -2)]
)
def test_layer_norm(shape: Any, axis: int, given: str, backend: Any, dtype: Any, rng: Any) -> None:
    x, dy = draw(rng, dtype, *shape) * 2 + 3, draw(rng, dtype, *shape)
    row = shape[axis:]
    gamma = None if given == "neither" else leaf(draw(rng, dtype, *row))
    beta = leaf(draw(rng, dtype, *row)) if given == "gamma and beta" else None
    tx = leaf(x)
    ty = F.layer_norm(tx, row, gamma, beta, eps=1e-3)
    judged(backend, "layer_norm", [tx, gamma, beta], ty, dy, axis=axis, epsilon=1e-3)


@pytest.mark.parametrize("given", ["gamma and beta", "gamma", "neither"])
@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((9, 6), 2),
        ((3, 5, 4, 19), 1),
        ((3, 5, 4, 18), 6),
        ((2, 7, 3, 12), 12),
        ((2, 29, 31, 20), 5),
    ],
)
def test_group_norm(
    shape: Any, groups: int, given: str, backend: Any, dtype: Any, rng: Any
) -> None:
    x, dy = draw(rng, dtype, *shape) * 2 + 3, draw(rng, dtype, *shape)
    gamma = None if given == "neither" else leaf(draw(rng, dtype, shape[-1]))
    beta = leaf(draw(rng, dtype, shape[-1])) if given == "gamma and beta" else None
    tx = leaf(x)
    images = len(shape) == 4
    ty = F.group_norm(nchw(tx) if images else tx, groups, gamma, beta, eps=1e-3)
    ty = nhwc(ty) if images else ty
    judged(backend, "group_norm", [tx, gamma, beta], ty, dy, groups=groups, epsilon=1e-3)


def test_as_many_groups_as_channels_are_instance_norm(backend: Any, dtype: Any, rng: Any) -> None:
    x, dy = draw(rng, dtype, 3, 5, 4, 7), draw(rng, dtype, 3, 5, 4, 7)
    tx, gamma, beta = leaf(x), leaf(draw(rng, dtype, 7)), leaf(draw(rng, dtype, 7))
    ty = nhwc(F.instance_norm(nchw(tx), weight=gamma, bias=beta, eps=1e-3))
    judged(backend, "group_norm", [tx, gamma, beta], ty, dy, groups=7, epsilon=1e-3)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9, 40])
@pytest.mark.parametrize("beta", [0.75, 0.5, 0.0, 1.3])
def test_local_response_norm(size: int, beta: float, backend: Any, dtype: Any, rng: Any) -> None:
    """Of an even size PyTorch's window leans to the other side: its channels are turned round."""
    x, dy = draw(rng, dtype, 2, 3, 4, 19), draw(rng, dtype, 2, 3, 4, 19)
    tx = leaf(x)
    turned = (lambda t: t.flip(1)) if size % 2 == 0 else (lambda t: t)
    ty = nhwc(turned(F.local_response_norm(turned(nchw(tx)), size, 0.7, beta, 2.0)))
    options = {"size": size, "alpha": 0.7, "beta": beta, "k": 2.0}
    judged(backend, "local_response_norm", [tx], ty, dy, **options)


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_local_response_norm_by_onnx_runtime(size: int, backend: Any, rng: Any) -> None:
    """It takes odd sizes alone; onnx's own evaluator counts the images where channels are meant."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    x = draw(rng, np.float32, 2, 3, 4, 9)
    node = onnx.helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.7, beta=0.75, bias=2.0)
    shape = [2, 9, 3, 4]
    ends = [onnx.helper.make_tensor_value_info(name, 1, shape) for name in "xy"]
    graph = onnx.helper.make_graph([node], "lrn", ends[:1], ends[1:])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
    )
    session = runtime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})
    y = backend.local_response_norm(x, size=size, alpha=0.7, k=2.0)
    np.testing.assert_allclose(y, expected.transpose(0, 2, 3, 1), rtol=1e-5)

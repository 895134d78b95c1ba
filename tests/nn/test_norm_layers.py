"""Layers that normalize each sample by itself, and those that drop whole channels and samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_same_bits

from fastcnn import nn


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_parameters(center: bool, scale: bool, backend: Any, rng: Any) -> None:
    x = rng.standard_normal((2, 3, 4, 6)).astype(np.float32)
    layers = {
        "layer_norm": (nn.LayerNorm(center=center, scale=scale), {"axis": -1}),
        "group_norm": (nn.GroupNorm(3, center=center, scale=scale), {"groups": 3}),
        "": (nn.InstanceNorm(center=center, scale=scale), {"groups": 6}),
    }
    for op, (layer, options) in layers.items():
        layer.build((3, 4, 6))
        names = ["gamma"] * scale + ["beta"] * center
        assert list(layer.parameters()) == names
        given: dict[str, Any] = dict.fromkeys(("gamma", "beta"))
        for name in names:
            given[name] = layer.parameters()[name].data
            assert given[name].shape == (6,)
            assert (given[name] == (1 if name == "gamma" else 0)).all()
            given[name][...] = rng.standard_normal(6)
        norm = getattr(backend, op or "group_norm")
        assert_same_bits((layer(x, backend),), (norm(x, **given, **options),))
        trained, _ = layer.forward(x, backend, training=True)
        assert_same_bits((layer(x, backend),), (trained,))


def test_the_axis_of_layer_norm() -> None:
    for axis, shape in [(-1, (5,)), (3, (5,)), (-2, (4, 5)), (1, (3, 4, 5)), (-3, (3, 4, 5))]:
        layer = nn.LayerNorm(axis=axis)
        layer.build((3, 4, 5))
        assert layer.gamma.data.shape == layer.beta.data.shape == shape
    for axis in (0, -4, 4):
        with pytest.raises(ValueError, match=r"LayerNorm: axis: expected an axis of x of rank 4"):
            nn.LayerNorm(axis=axis).build((3, 4, 5))


@pytest.mark.parametrize(
    ("make", "shape", "said"),
    [
        (lambda: nn.GroupNorm(4), (3, 3, 6), r"GroupNorm: groups: expected a divisor of 6 chan"),
        (lambda: nn.GroupNorm(2), (3, 6), r"GroupNorm: expected an input of shape \(C,\) or"),
        (lambda: nn.GroupNorm(0), None, r"GroupNorm: groups: expected an integer of at least 1"),
        (lambda: nn.GroupNorm(2, epsilon=0), None, r"GroupNorm: epsilon: expected"),
        (lambda: nn.LayerNorm(epsilon=-1), None, r"LayerNorm: epsilon: expected"),
        (lambda: nn.InstanceNorm(), (6,), r"InstanceNorm: expected an input of shape \(H, W, C\)"),
        (lambda: nn.LocalResponseNorm(0), None, r"LocalResponseNorm: size: expected"),
        (lambda: nn.LocalResponseNorm(k=0), None, r"LocalResponseNorm: k: expected"),
        (lambda: nn.LocalResponseNorm(alpha=-1), None, r"LocalResponseNorm: alpha: expected"),
        (lambda: nn.LocalResponseNorm(beta=-1), None, r"LocalResponseNorm: beta: expected"),
        (lambda: nn.SpatialDropout2D(1.0), None, r"SpatialDropout2D: rate: expected"),
        (lambda: nn.SpatialDropout2D(0.5), (6,), r"SpatialDropout2D: expected an input of shape"),
        (lambda: nn.StochasticDepth(-0.5), None, r"StochasticDepth: rate: expected"),
    ],
)
def test_errors(make: Any, shape: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make().build(shape)


@pytest.mark.parametrize("name", ["center", "scale"])
def test_center_and_scale_are_truth_values(name: str) -> None:
    with pytest.raises(TypeError, match=rf"LayerNorm: {name}: expected True or False"):
        nn.LayerNorm(**{name: 1})


# ---------------------------------------------------------------------- drawn masks
@pytest.mark.parametrize("layer", [nn.SpatialDropout2D(0.25), nn.StochasticDepth(0.25)], ids=repr)
def test_what_is_dropped_together(layer: Any, backend: Any) -> None:
    x = np.ones((60, 3, 4, 50), np.float32)
    y, backward = layer.forward(x, backend, training=True, rng=np.random.default_rng(0))
    kept = np.float32(1) / np.float32(0.75)
    assert set(np.unique(y)) == {np.float32(0), kept}
    axes = (1, 2) if isinstance(layer, nn.SpatialDropout2D) else (1, 2, 3)
    np.testing.assert_array_equal(y.min(axes), y.max(axes))
    assert 0.6 < (y > 0).mean() < 0.9
    np.testing.assert_array_equal(backward(x), y)
    again, _ = layer.forward(x, backend, training=True, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(again, y)
    assert layer(x, backend) is x


def test_stochastic_depth_of_rows(backend: Any) -> None:
    layer = nn.StochasticDepth(0.5)
    x = np.ones((40, 7), np.float32)
    y, _ = layer.forward(x, backend, training=True, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert set(np.unique(y)) == {0, 2}


def test_a_residual_branch_that_is_dropped_passes_what_was_skipped() -> None:
    """In a program, too: what is not dropped is scaled, the rest is x itself."""
    from fastcnn import get_backend
    from fastcnn.program import Interpreter, trace

    model = nn.Residual(nn.Sequential([nn.Conv2D(2, 1), nn.StochasticDepth(0.5)]))
    model.build((3, 3, 2), seed=1)
    x = np.random.default_rng(0).standard_normal((20, 3, 3, 2)).astype(np.float32)
    backend = get_backend("reference")
    (y,) = Interpreter(trace(model, 20, training=True), backend).forward(
        x, rng=np.random.default_rng(0)
    )
    skipped = (y == x).all(axis=(1, 2, 3))
    assert 4 < skipped.sum() < 16
    twice = 2 * (model(x, backend) - x)
    np.testing.assert_allclose(y[~skipped], (x + twice)[~skipped], rtol=1e-5, atol=1e-6)

"""The block op: every way to compute it, against the reference, bit for bit and within bounds."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from compare import assert_close, assert_same_bits, assert_within, winograd_bound

import fastcnn
from fastcnn import FastBackend, _kernels, nn, reference
from fastcnn.fast._conv_block import _check
from fastcnn.fast._conv_rules import Geometry

CONVOLUTIONS = ("auto", "direct", "winograd")
# Channels and filters around every vector width, kernels, strides, pads, and pools of both kinds.
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((3, 28, 28, 1), (5, 5, 1, 6), {"padding": 2}),
    ((2, 40, 57, 1), (3, 2, 1, 5), {"padding": ((1, 0), (0, 2)), "pool_stride": (1, 3)}),
    ((1, 37, 75, 1), (4, 3, 1, 1), {"stride": 2, "padding": 5, "pool_stride": (3, 1)}),
    ((2, 13, 13, 32), (3, 3, 32, 64), {}),
    ((1, 21, 20, 16), (3, 3, 16, 66), {}),  # more pixels and filters than a word has bits
    ((3, 7, 9, 17), (3, 3, 17, 33), {"padding": 1}),
    ((2, 8, 6, 16), (3, 3, 16, 67), {"padding": "same"}),
    ((1, 7, 7, 32), (3, 3, 32, 70), {"pool_stride": 1}),
    ((1, 9, 8, 5), (3, 3, 5, 7), {"padding": ((2, 0), (0, 1))}),
    ((2, 10, 10, 1), (3, 3, 1, 32), {}),
    ((1, 9, 8, 1), (3, 3, 1, 48), {"pool_stride": (1, 3)}),
    ((2, 9, 9, 3), (5, 5, 3, 16), {"padding": 2}),
    ((2, 11, 7, 33), (1, 1, 33, 8), {"pool_size": 3}),
    ((2, 12, 12, 8), (3, 2, 8, 9), {"stride": 2, "padding": 1, "pool_size": 3, "pool_stride": 2}),
    ((2, 12, 9, 4), (3, 3, 4, 6), {"pool_size": (2, 3), "pool_stride": 1}),
    ((2, 12, 12, 4), (3, 3, 2, 6), {"groups": 2, "dilation": 2}),
    ((2, 9, 9, 16), (3, 3, 16, 16), {"dilation": (2, 1), "pool_size": (3, 2), "pool_stride": 2}),
    ((1, 4, 4, 20), (3, 3, 20, 20), {"pool_stride": 2**62}),
    ((1, 8, 32, 1), (3, 3, 1, 4), {"pool_stride": (2**62, 2)}),
    ((0, 8, 8, 4), (3, 3, 4, 4), {}),
]


# 2x2 pools behind 3x3 kernels, with every kind of tile: whole ones alone, rims on either side of
# one or two outputs, a corner alone, windows that leave a row out; filters around the vectors.
WINDOWS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 12, 12, 40), (3, 3, 40, 24), {}),
    ((2, 12, 12, 40), (3, 3, 40, 24), {"padding": 1}),
    ((7, 13, 13, 32), (3, 3, 32, 64), {}),
    ((3, 7, 9, 17), (3, 3, 17, 33), {"padding": 1}),
    ((2, 8, 13, 16), (3, 3, 16, 67), {"padding": "same"}),
    ((2, 6, 20, 5), (3, 3, 5, 7), {"padding": ((2, 0), (0, 1))}),
    ((5, 4, 4, 20), (3, 3, 20, 130), {"pool_stride": 2**62}),
    ((2, 5, 21, 3), (3, 3, 3, 1), {}),
]


def pads_of(options: dict[str, Any]) -> Any:
    """Return a 3x3 convolution's padding as pairs."""
    padding = options.get("padding", 0)
    padding = 1 if padding == "same" else padding
    return ((padding, padding),) * 2 if isinstance(padding, int) else padding


def by_winograd(backend: FastBackend, x: Any, w: Any, **options: Any) -> bool:
    """Return whether the forward pass rounds as Winograd's algorithm does."""
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "pool_size": 2}
    block = _check("conv_block", x, w, **{**defaults, "pool_stride": None, **options})
    algorithm = backend._algorithm(x, w, block)
    geometry = Geometry(block.convolved, block.window, block.groups)
    return algorithm == "winograd" or (
        algorithm == "plain" and backend._by_winograd("y", w, geometry)
    )


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(dtype)


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exact_on_small_integers(
    x_shape: Any, w_shape: Any, options: Any, dtype: str, rng: np.random.Generator
) -> None:
    x, w = integers(rng, x_shape, dtype), integers(rng, w_shape, dtype)
    b = integers(rng, w_shape[3:], dtype)
    y, argmax = reference.conv_block(x, w, b, **options)
    dy = integers(rng, y.shape, dtype)
    gradients = reference.conv_block_backward(dy, argmax, x, w, **options)
    for isa, convolution in product(_kernels.available(), CONVOLUTIONS):
        backend = FastBackend(isa, convolution=convolution)
        if not by_winograd(backend, x, w, **options):
            found = backend.conv_block(x, w, b, **options)
            for result, expected in zip(found, (y, argmax), strict=True):
                assert result.dtype == expected.dtype
                np.testing.assert_array_equal(result, expected, err_msg=repr(backend))
        found = backend.conv_block_backward(dy, argmax, x, w, **options)
        none, *rest = backend.conv_block_backward(dy, argmax, x, w, **options, input_gradient=False)
        assert none is None
        # F(4x4, 3x3) computes the gradients of a plain block, and of one channel the input's.
        rounded = {"winograd": range(5), "auto": [0] if w_shape[:3] == (3, 3, 1) else []}
        both = zip((*found, *rest), (*gradients, *gradients[1:]), strict=True)
        for index, (result, expected) in enumerate(both):
            if index in rounded.get(convolution, []):
                assert_close(result, expected, "conv2d_backward")
            else:
                np.testing.assert_array_equal(result, expected, err_msg=repr(backend))


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_winograd_keeps_its_bound(
    x_shape: Any, w_shape: Any, options: Any, dtype: str, rng: np.random.Generator
) -> None:
    """Values are as near as conv2d's, and argmax names a place that may well be the largest."""
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    b = rng.standard_normal(w_shape[3:]).astype(dtype)
    pads = pads_of(options)
    n, p, q, k = reference.conv_block(x, w, b, **options)[0].shape
    padded = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    z = np.einsum("npqcrs,rsck->npqk", seen, w.astype(np.float64), optimize=True) + b
    # What the pool reads, and what may lie in a tile with it.
    error = winograd_bound(x, w, b, pads, dtype)[:, : 2 * p, : 2 * q].reshape(n, p, 2, q, 2, k)
    error = error.max((2, 4))
    windows = z[:, : 2 * p, : 2 * q].reshape(n, p, 2, q, 2, k).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(n, p, q, k, 4)
    largest = np.maximum(windows.max(-1), 0)
    for isa in _kernels.available():
        backend = FastBackend(isa, convolution="winograd")
        y, argmax = backend.conv_block(x, w, b, **options)
        assert_within(y, largest, error, dtype, isa)
        assert argmax.dtype == np.uint8
        np.testing.assert_array_equal(argmax == 4, y == 0)
        choices = np.concatenate([windows, np.zeros((*y.shape, 1))], axis=-1)
        chosen = np.take_along_axis(choices, argmax[..., None].astype(np.intp), -1)[..., 0]
        assert (largest - chosen <= 2 * error).all()
        for one in range(n):
            alone = backend.conv_block(x[one : one + 1], w, b, **options)
            assert_same_bits(alone, (y[one : one + 1], argmax[one : one + 1]), isa)


def test_the_same_bits_on_any_threads(rng: np.random.Generator) -> None:
    for (x_shape, w_shape, options), isa in product(SHAPES[:12], _kernels.available()):
        x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
        one = FastBackend(isa, 1)
        y, argmax = one.conv_block(x, w, **options)
        dy = rng.standard_normal(y.shape)
        gradients = one.conv_block_backward(dy, argmax, x, w, **options)
        for threads in (2, 3, 8):
            backend = FastBackend(isa, threads)
            assert np.array_equal(backend.conv_block(x, w, **options)[0], y)
            found = backend.conv_block_backward(dy, argmax, x, w, **options)
            for result, expected in zip(found, gradients, strict=True):
                assert np.array_equal(result, expected)


def test_a_nan_wins_and_takes_the_gradient(backend: Any) -> None:
    x = np.zeros((1, 6, 6, 2), np.float32)
    x[0, 3, 3] = np.nan
    w = np.ones((1, 1, 2, 3), np.float32)
    y, argmax = backend.conv_block(x, w)
    assert np.isnan(y[0, 1, 1]).all()
    assert (argmax[0, 1, 1] == 3).all()
    assert (np.delete(argmax.reshape(9, 3), 4, axis=0) == 4).all()
    _, _, db = backend.conv_block_backward(np.ones_like(y), argmax, x, w)
    np.testing.assert_array_equal(db, np.ones(3))


@pytest.mark.parametrize("filters", [2, 3, 6, 16])
def test_an_infinite_weight_meets_no_padding(filters: int, rng: np.random.Generator) -> None:
    x, w = rng.uniform(1, 2, (2, 20, 40, 1)), rng.integers(-3, 4, (5, 4, 1, filters)) * 1.0
    x[1, 7, 9] = np.nan
    w[0, 0, 0, 0], w[4, 3, 0, -1], w[2, 0, 0, 1] = np.inf, -np.inf, np.nan
    for padding, isa in product((0, 2, ((2, 1), (1, 2))), _kernels.available()):
        backend = FastBackend(isa)
        z = backend.relu(backend.conv2d(x, w, padding=padding))
        expected = backend.max_pool2d(z)[0]
        y, _ = backend.conv_block(x, w, padding=padding)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
        np.testing.assert_allclose(y, expected, rtol=1e-12)


@pytest.mark.parametrize("place", [5, 255])
def test_a_place_outside_the_window_is_refused(place: int, backend: Any) -> None:
    x, w = np.ones((1, 6, 6, 16), np.float32), np.ones((3, 3, 16, 4), np.float32)
    argmax = np.full((1, 2, 2, 4), place, np.uint8)
    with pytest.raises(ValueError, match=r"conv_block_backward: argmax: expected places up to 4"):
        backend.conv_block_backward(np.ones((1, 2, 2, 4), np.float32), argmax, x, w)


def test_convolution_is_a_known_name() -> None:
    with pytest.raises(ValueError, match="convolution: expected one of auto, direct, winograd"):
        FastBackend(convolution="fft")


class Spy:
    """A backend that counts the calls of its ops."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(reference, name)


def relu_block(**options: Any) -> list[nn.Module]:
    return [nn.Conv2D(3, 3, activation="relu"), nn.MaxPool2D(2, **options)]


@pytest.mark.parametrize(
    ("layers", "fused"),
    [
        (relu_block(), 1),
        ([nn.Conv2D(3, 3), nn.ReLU(), nn.MaxPool2D(3, stride=2)], 1),
        (relu_block() + relu_block(), 2),
        (relu_block(padding=(0, 0)), 1),
        (relu_block(padding=((0, 0), (0, 0))), 1),
        (relu_block(padding=1), 0),
        (relu_block(ceil_mode=True), 0),
        ([nn.Conv2D(3, 3), nn.MaxPool2D(2)], 0),
        ([nn.Conv2D(3, 3, activation="elu"), nn.MaxPool2D(2)], 0),
        ([nn.Conv2D(3, 3, activation="relu"), nn.AvgPool2D(2)], 0),
    ],
)
def test_models_run_blocks_where_layers_line_up(
    layers: list[nn.Module], fused: int, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((2, 16, 16, 2)).astype(np.float32)
    model = nn.Sequential(layers)
    model.build(x.shape[1:])
    spy = Spy()
    y, backward = model.forward(x, spy, training=True)  # type: ignore[arg-type]
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx = backward(dy)
    assert spy.calls.count("conv_block") == fused
    assert spy.calls.count("conv_block_backward") == fused
    gradients = {name: p.grad for name, p in model.parameters().items()}
    np.testing.assert_array_equal(model(x, reference), y)

    # Layer by layer the same comes out.
    plain, steps = x, []
    for layer in layers:
        plain, step = layer.forward(plain, reference, training=True)
        steps.append(step)
    assert_close(y, plain)
    gradient: Any = dy
    for step in reversed(steps):
        gradient = step(gradient)
    assert_close(dx, gradient)
    for name, p in model.parameters().items():
        assert p.grad is not None
        assert_close(gradients[name], p.grad)


def test_a_block_saves_and_loads_as_its_layers(tmp_path: Any) -> None:
    model = nn.Sequential([*relu_block(), nn.Flatten(), nn.Dense(2)])
    model.build((8, 8, 1))
    model.save(tmp_path / "model.safetensors")
    loaded = fastcnn.load(tmp_path / "model.safetensors")
    assert list(loaded.state_dict()) == ["0.weight", "0.bias", "3.weight", "3.bias"]


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_where_the_image_is_blank_nothing_wins(
    convolution: str, fast_backend: Any, rng: np.random.Generator
) -> None:
    """A sum of zeros is zero, not what rounding leaves: ReLU would let a gradient through."""
    backend = FastBackend(fast_backend.isa, convolution=convolution)
    for channels, filters in ((1, 32), (8, 16), (32, 64), (64, 128)):
        x = np.zeros((2, 13, 13, channels), np.float32)
        x[:, 4:8, 3:6] = rng.standard_normal((2, 4, 3, channels))
        w = rng.standard_normal((3, 3, channels, filters)).astype(np.float32)
        y, argmax = backend.conv_block(x, w)
        seen = backend.conv_block(np.abs(x), np.abs(w))[0] > 0
        assert 0 < np.count_nonzero(seen) < seen.size
        np.testing.assert_array_equal(y[~seen], 0)
        np.testing.assert_array_equal(argmax[~seen], 4)


@pytest.mark.parametrize("padding", [0, 2])
def test_gradients_of_images_beyond_what_a_list_of_winners_tells(
    padding: int, fast_backend: Any
) -> None:
    w = np.zeros((3, 3, 32, 32), np.float32)
    sides = (8190, 8191, 8192, 8193)
    for height, width in product(sides, sides):
        x = np.broadcast_to(np.float32(0), (1, height, width, 32))
        block = _check("conv_block", x, w, 1, padding, 1, 1, 2, None)
        path, *_ = fast_backend._gradient_paths(x, w, block, True)
        fits = (height + 2 * padding) * (width + 2 * padding) * 32 < 2**31
        assert path == ("sparse" if fits else "plain")

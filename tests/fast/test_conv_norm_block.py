"""Convolution + batch normalization + ReLU + max-pool: from moments, op after op, and in models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_results, assert_same_bits
from layers import Recorder

import fastcnn
from fastcnn import FastBackend, nn

# x, w and options: filters that see nine numbers at most, padded, strided, dilated, with outputs
# that end before the image does, pools with rims; more parts than images, and fewer.
FEW: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((3, 28, 28, 1), (3, 3, 1, 32), {}),
    ((33, 8, 7, 1), (3, 3, 1, 16), {"padding": 1}),
    ((2, 9, 30, 1), (3, 3, 1, 5), {"padding": ((0, 2), (1, 0)), "pool_size": 3, "pool_stride": 2}),
    ((2, 15, 14, 1), (3, 3, 1, 16), {"stride": (3, 2), "dilation": 2}),
    ((2, 9, 8, 2), (2, 2, 2, 16), {"stride": 2, "padding": "same", "pool_size": (1, 2)}),
    ((5, 12, 12, 9), (1, 1, 9, 33), {"stride": 3}),
    ((2, 7, 40, 1), (1, 9, 1, 16), {"pool_size": (2, 3)}),
    ((1, 600, 3, 1), (3, 3, 1, 16), {"pool_size": (2, 1)}),
]
EPSILON = 1e-3


def inputs(x: Any, w: Any, rng: np.random.Generator, dtype: Any = np.float32) -> list[Any]:
    """Return x, w, b, gamma, beta; x is as images are, above 0 and brighter below."""
    image = rng.random(x) + np.linspace(0, 1, x[1])[:, None, None]
    vectors = rng.standard_normal((3, w[3]))
    return [array.astype(dtype) for array in (image, rng.standard_normal(w), *vectors)]


@pytest.mark.parametrize(("x", "w", "options"), FEW, ids=str)
def test_moments_tell_what_the_convolution_does(
    x: Any, w: Any, options: Any, reference: Any, fast_backend: Any, rng: np.random.Generator
) -> None:
    arrays = inputs(x, w, rng)
    options = {"epsilon": EPSILON, **options}
    found = fast_backend.conv_norm_block(*arrays, **options)
    expected = reference.conv_norm_block(*arrays, **options)
    y, argmax, *saved = expected
    assert_results((found[0],), (y,), "conv_norm_block", np.float32)
    assert np.mean(found[1] == argmax) > 0.999  # the rest are as good as equal in their window
    for statistic, exact in zip(found[2:], saved, strict=True):
        np.testing.assert_array_max_ulp(statistic, exact)
    x_, w_, b_, gamma, _ = arrays
    dy = rng.standard_normal(y.shape).astype(np.float32)
    call = (dy, argmax, x_, w_, b_, gamma, *saved)
    for input_gradient in (True, False):
        kind = {**options, "input_gradient": input_gradient}
        gradients = fast_backend.conv_norm_block_backward(*call, **kind)
        wanted = reference.conv_norm_block_backward(*call, **kind)
        assert (gradients[0] is None) == (not input_gradient)
        some = slice(not input_gradient, None)
        terms = np.abs(dy).sum()  # of db, which is nothing but their rounding
        assert abs(gradients[2]).max() < 1e-6 * terms
        results = [(f, e) for i, (f, e) in enumerate(zip(gradients, wanted, strict=True)) if i != 2]
        assert_results(
            [f for f, _ in results][some],
            [e for _, e in results][some],
            "conv_norm_block_backward",
            np.float32,
            largest_dy=np.abs(dy).max(),
        )


@pytest.mark.parametrize("shift", [0, 10, 1000])
def test_statistics_are_exact_far_from_zero(shift: float, rng: np.random.Generator) -> None:
    """Sums of products of float32 numbers in double keep what the variance is beside the mean."""
    x, w, b, gamma, beta = inputs((8, 12, 12, 1), (3, 3, 1, 16), rng)
    x += np.float32(shift)
    _, _, mean, variance = FastBackend().conv_norm_block(x, w, b, gamma, beta)
    doubles = [array.astype(np.float64) for array in (x, w, b)]
    z = FastBackend().conv2d(*doubles)
    np.testing.assert_array_max_ulp(mean, z.mean((0, 1, 2)).astype(np.float32))
    np.testing.assert_array_max_ulp(variance, z.var((0, 1, 2)).astype(np.float32))


@pytest.mark.parametrize("value", [0.1, 0.7, 3.3, 123.456])
def test_equal_pixels_have_no_variance(value: float, rng: np.random.Generator) -> None:
    """What is left of the products may be below 0 by rounding; a variance is not."""
    x, w, b, gamma, beta = inputs((3, 8, 8, 1), (3, 3, 1, 64), rng)
    x[...] = value
    y, _, _, variance = FastBackend().conv_norm_block(x, w, b, gamma, beta)
    assert (variance >= 0).all()
    assert variance.max() < 1e-12 * value**2
    np.testing.assert_allclose(y, np.broadcast_to(np.maximum(beta, 0), y.shape), atol=0.01 * value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_spoils_the_statistics_if_it_is_seen(
    bad: float, fast_backend: Any, rng: np.random.Generator
) -> None:
    arrays = inputs((2, 12, 12, 1), (2, 2, 1, 16), rng)
    options = {"stride": 3, "pool_size": 1}
    _, _, *clean = fast_backend.conv_norm_block(*arrays, **options)
    arrays[0][:, 2::3] = bad  # rows and columns between the patches, and after the last
    arrays[0][:, :, 2::3] = bad
    y, _, *saved = fast_backend.conv_norm_block(*arrays, **options)
    assert_same_bits(saved, clean)
    assert np.isfinite(y).all()
    arrays[0][0, 3, 4] = bad
    y, _, _, variance = fast_backend.conv_norm_block(*arrays, **options)
    assert np.isnan(variance).all()
    assert np.isnan(y).all()


def test_the_same_bits_on_any_number_of_threads(dtype: Any, rng: np.random.Generator) -> None:
    arrays = inputs((19, 28, 28, 1), (3, 3, 1, 16), rng, dtype)
    x, w, b, gamma, _ = arrays
    results = []
    for threads in (1, 2, 3, 8):
        backend = FastBackend(num_threads=threads)
        y, *saved = backend.conv_norm_block(*arrays)
        first = results[0] if results else [y, *saved]
        _, *gradients = backend.conv_norm_block_backward(
            first[0], first[1], x, w, b, gamma, *first[2:4], input_gradient=False
        )
        results.append([y, *saved, *gradients])
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_no_bias_is_a_bias_of_zeros(dtype: Any, rng: np.random.Generator) -> None:
    x, w, b, gamma, beta = inputs((3, 9, 9, 1), (3, 3, 1, 16), rng, dtype)
    backend = FastBackend()
    found = backend.conv_norm_block(x, w, None, gamma, beta)
    assert_same_bits(found, backend.conv_norm_block(x, w, 0 * b, gamma, beta))
    dy, *saved = found
    results = [
        backend.conv_norm_block_backward(
            dy, saved[0], x, w, bias, gamma, *saved[1:], input_gradient=False
        )[1:]
        for bias in (None, 0 * b)
    ]
    assert_same_bits(*results)


def test_one_output_has_no_statistics(backend: Any, rng: np.random.Generator) -> None:
    arrays = inputs((1, 3, 3, 1), (3, 3, 1, 16), rng)
    with pytest.raises(ValueError, match=r"conv_norm_block: x: expected at least two (out|val)"):
        backend.conv_norm_block(*arrays, pool_size=1)


# ---------------------------------------------------------------------- in models
def layers(channels_in: int, *, bias: bool = True) -> list[nn.Module]:
    return [
        nn.Conv2D(16, 3, use_bias=bias, in_channels=channels_in),
        nn.BatchNorm(momentum=0.5, running_variance="unbiased"),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Conv2D(3, 1),
    ]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("input_gradient", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_model_begins_with_it(
    channels: int,
    bias: bool,
    input_gradient: bool,
    training: bool,
    backend: Any,
    rng: np.random.Generator,
) -> None:
    whole = nn.Sequential(layers(channels, bias=bias))
    # Each layer in a Sequential of its own has no neighbour to be joined with.
    apart = nn.Sequential([nn.Sequential([layer]) for layer in layers(channels, bias=bias)])
    for model in (whole, apart):
        model.build((8, 7, channels), seed=3)
    x = rng.standard_normal((4, 8, 7, channels)).astype(np.float32)
    recorder: Any = Recorder(backend)
    results = []
    for model in (whole, apart):
        y, backward = model.forward(
            x,
            recorder if model is whole else backend,
            training=training,
            input_gradient=input_gradient,
        )
        dx = backward(np.cos(y))
        assert (dx is None) == (not input_gradient)
        model.apply_updates()
        gradients = [p.grad for p in model.parameters().values()]
        found = [y, *gradients, *(b.data for b in model.buffers().values())]
        results.append(found if dx is None else [*found, dx])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)
    joined = channels == 1 and training and not input_gradient
    assert len(recorder.asked("conv_norm_block")) == joined
    assert len(recorder.asked("conv2d")) == 2 - joined


def test_it_trains_as_the_layers_do() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 8, 7, 1), np.float32), rng.integers(0, 3, 12)
    losses = []
    for join in (True, False):
        parts = [*layers(1), nn.GlobalAvgPool2D()]
        model = nn.Sequential(parts if join else [nn.Sequential([layer]) for layer in parts])
        trainer = fastcnn.Trainer(model, seed=2)
        losses.append(trainer.fit(x, y, epochs=3, batch_size=4, verbose=False)["step_loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)

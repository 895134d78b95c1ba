"""What convolution, pooling and batch normalization mean: every table and rule, on every backend.

The values were worked out by hand; the rules are those of the contract in fastcnn/backend.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_close, assert_same

INF, NAN = np.inf, np.nan


def image(*rows: list[float], dtype: Any = np.float32) -> np.ndarray:
    """One image of one channel as a batch."""
    return np.array(rows, dtype)[None, :, :, None]


# ---------------------------------------------------------------------- convolution
def test_convolution_does_not_flip_its_filters(backend: Any, dtype: Any) -> None:
    x = np.arange(4, dtype=dtype).reshape(1, 1, 4, 1)
    w = np.array([1, 10], dtype).reshape(1, 2, 1, 1)
    assert_same(backend.conv2d(x, w).ravel(), [10, 21, 32])


@pytest.mark.parametrize(
    ("n", "k", "s", "before", "after"),
    [(28, 3, 2, 0, 1), (224, 7, 2, 2, 3), (28, 4, 1, 1, 2), (10, 2, 3, 0, 1), (5, 1, 2, 0, 0)],
)
@pytest.mark.parametrize("axis", ["height", "width"])
def test_same_padding(
    backend: Any, n: int, k: int, s: int, before: int, after: int, axis: str
) -> None:
    """y[0] and y[-1] show where the windows lie: x counts its places and w picks one tap."""
    x = np.arange(1, n + 1, dtype=np.float64)
    padded = np.pad(x, (before, after))
    out = -(-n // s)
    for tap in (0, k - 1):
        w = np.zeros(k)
        w[tap] = 1
        expected = padded[tap::s][:out]
        if axis == "height":
            y = backend.conv2d(
                x.reshape(1, n, 1, 1), w.reshape(k, 1, 1, 1), stride=(s, 1), padding="same"
            )
            assert_same(y, expected.reshape(1, out, 1, 1))
        else:
            y = backend.conv2d(
                x.reshape(1, 1, n, 1), w.reshape(1, k, 1, 1), stride=(1, s), padding="same"
            )
            assert_same(y, expected.reshape(1, 1, out, 1))


def test_same_padding_knows_dilation(backend: Any) -> None:
    x = np.arange(1.0, 8).reshape(1, 1, 7, 1)
    w = np.array([100.0, 10, 1]).reshape(1, 3, 1, 1)
    y = backend.conv2d(x, w, padding="same", dilation=(1, 2))
    padded = np.pad(x.ravel(), 2)
    assert_same(y.ravel(), [100 * padded[i] + 10 * padded[i + 2] + padded[i + 4] for i in range(7)])


def test_every_form_of_padding(backend: Any) -> None:
    x, w = np.ones((1, 4, 5, 1)), np.ones((2, 3, 1, 1))
    same = ((0, 1), (1, 1))
    for one, other in [
        (0, "valid"),
        (2, (2, 2)),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, 2], [[1, 1], [2, 2]]),
        (np.int64(1), ((1, 1), (1, 1))),
        ("same", same),
    ]:
        assert_same(backend.conv2d(x, w, padding=one), backend.conv2d(x, w, padding=other))
    y = backend.conv2d(x, w, padding=((1, 0), (2, 3)))
    assert y.shape == (1, 4, 8, 1)
    assert_same(y[0, 0, :, 0], [1, 2, 3, 3, 3, 2, 1, 0])
    assert_same(y[0, 3, :, 0], [2, 4, 6, 6, 6, 4, 2, 0])


def test_stride_and_dilation_are_numbers_or_pairs(backend: Any, rng: Any) -> None:
    x = rng.integers(-3, 4, (2, 9, 8, 2)).astype(np.float32)
    w = rng.integers(-3, 4, (2, 3, 2, 3)).astype(np.float32)
    b = rng.integers(-3, 4, 3).astype(np.float32)
    y = backend.conv2d(x, w, b, stride=(2, 1), dilation=(3, 2))
    assert y.shape == (2, 3, 4, 3)
    expected = np.zeros(y.shape)
    for (n, p, q, k), _ in np.ndenumerate(expected):
        taps = [
            float(x[n, 2 * p + 3 * r, q + 2 * s, c]) * float(w[r, s, c, k])
            for r in range(2)
            for s in range(3)
            for c in range(2)
        ]
        expected[n, p, q, k] = sum(taps) + float(b[k])
    assert_same(y, expected)
    assert_same(backend.conv2d(x, w, stride=2), backend.conv2d(x, w, stride=(2, np.int32(2))))
    assert_same(backend.conv2d(x, w, dilation=2), backend.conv2d(x, w, dilation=[2, 2]))


def test_groups_see_their_own_channels(backend: Any, dtype: Any) -> None:
    """Group 0 holds channels 0, 1 and filters 0 to 2; group 1 the rest (a multiplier of 1.5)."""
    x = np.array([1, 10, 100, 1000], dtype).reshape(1, 1, 1, 4)
    w = np.arange(1, 13, dtype=dtype).reshape(1, 1, 2, 6)
    expected = [1 + 70, 2 + 80, 3 + 90, 400 + 10000, 500 + 11000, 600 + 12000]
    assert_same(backend.conv2d(x, w, groups=2).ravel(), expected)


def test_depthwise_with_a_channel_multiplier(backend: Any, dtype: Any) -> None:
    x = np.array([1, 10, 100], dtype).reshape(1, 1, 1, 3)
    w = np.arange(1, 7, dtype=dtype).reshape(1, 1, 1, 6)
    assert_same(backend.conv2d(x, w, groups=3).ravel(), [1, 2, 30, 40, 500, 600])


def test_an_empty_batch(backend: Any, dtype: Any) -> None:
    x, w, b = np.zeros((0, 5, 4, 2), dtype), np.ones((2, 2, 2, 3), dtype), np.ones(3, dtype)
    y = backend.conv2d(x, w, b, padding=1)
    assert (y.shape, y.dtype) == ((0, 6, 5, 3), dtype)
    dx, dw, db = backend.conv2d_backward(y, x, w, padding=1)
    assert_same(dx, x)
    assert_same(dw, np.zeros_like(w))
    assert_same(db, np.zeros_like(b))

    y, argmax = backend.max_pool2d(x, 2)
    assert y.shape == argmax.shape == (0, 2, 2, 2)
    assert_same(backend.max_pool2d_backward(y, argmax, x.shape, 2), x)
    assert_same(backend.avg_pool2d_backward(backend.avg_pool2d(x), x.shape), x)
    y = backend.global_avg_pool2d(x)
    assert y.shape == (0, 2)
    assert_same(backend.global_avg_pool2d_backward(y, x.shape), x)

    gamma = np.ones(2, dtype)
    assert_same(backend.batch_norm_inference(x, gamma, gamma, gamma, gamma), x)
    dx, dgamma, dbeta = backend.batch_norm_inference_backward(x, x, gamma, gamma, gamma)
    assert_same(dx, x)
    assert_same(dgamma, [0, 0])
    assert_same(dbeta, [0, 0])

    flat, w = np.zeros((0, 3), dtype), np.ones((3, 4), dtype)
    y = backend.linear(flat, w)
    assert y.shape == (0, 4)
    dx, dw, db = backend.linear_backward(y, flat, w)
    assert_same(dx, flat)
    assert_same(dw, np.zeros((3, 4)))
    assert_same(db, np.zeros(4))
    assert_same(backend.relu(x), x)
    assert_same(backend.softmax(flat), flat)


def test_the_first_layer_needs_no_input_gradient(backend: Any, rng: Any) -> None:
    x, w = rng.standard_normal((2, 5, 5, 3)), rng.standard_normal((3, 3, 3, 4))
    dy = rng.standard_normal((2, 3, 3, 4))
    nothing, *gradients = backend.conv2d_backward(dy, x, w, input_gradient=False)
    assert nothing is None
    for gradient, expected in zip(gradients, backend.conv2d_backward(dy, x, w)[1:], strict=True):
        assert_same(gradient, expected)
    x, w, dy = x.reshape(10, -1), rng.standard_normal((15, 4)), rng.standard_normal((10, 4))
    nothing, *gradients = backend.linear_backward(dy, x, w, input_gradient=False)
    assert nothing is None
    for gradient, expected in zip(gradients, backend.linear_backward(dy, x, w)[1:], strict=True):
        assert_same(gradient, expected)


# ---------------------------------------------------------------------- pooling
@pytest.mark.parametrize(
    ("n", "k", "s", "p", "size"), [(4, 2, 3, 1, 2), (6, 2, 4, 1, 2), (6, 3, 2, 0, 3)]
)
def test_ceil_mode_starts_no_window_in_the_right_padding(
    backend: Any, n: int, k: int, s: int, p: int, size: int
) -> None:
    x = np.arange(n * n, dtype=np.float32).reshape(1, n, n, 1)
    options = {"stride": s, "padding": p, "ceil_mode": True}
    y, argmax = backend.max_pool2d(x, k, **options)
    assert y.shape == argmax.shape == (1, size, size, 1)
    corner = range((size - 1) * s - p, min((size - 1) * s - p + k, n))
    assert y[0, -1, -1, 0] == x[0, corner[-1], corner[-1], 0]
    mean = backend.avg_pool2d(x, k, **options)
    assert mean.shape == y.shape
    assert (
        mean[0, -1, -1, 0]
        == x[0, corner[0] : n, corner[0] : n][: len(corner), : len(corner)].mean()
    )


def test_ceil_mode_off_leaves_the_rest_out(backend: Any) -> None:
    x = np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1)
    assert backend.max_pool2d(x, 3, stride=2)[0].shape == (1, 2, 2, 1)
    assert backend.max_pool2d(x, 3, stride=2, ceil_mode=True)[0].shape == (1, 3, 3, 1)


def test_a_window_larger_than_the_image_fits_only_in_ceil_mode(backend: Any) -> None:
    x = image([1, 2], [3, 4])
    y, argmax = backend.max_pool2d(x, 3, stride=2, ceil_mode=True)
    assert_same(y.ravel(), [4])
    assert_same(argmax.ravel(), [4])
    assert_same(backend.avg_pool2d(x, 3, stride=2, ceil_mode=True).ravel(), [2.5])


def test_the_first_maximum_in_row_major_order_takes_the_gradient(backend: Any, dtype: Any) -> None:
    x = image([1, 2, 0, 0], [2, 2, 0, 0], dtype=dtype)
    y, argmax = backend.max_pool2d(x, 2)
    assert_same(y.ravel(), [2, 0])
    assert_same(argmax.ravel(), [1, 0])
    dx = backend.max_pool2d_backward(np.array([5, 7], dtype).reshape(y.shape), argmax, x.shape)
    assert_same(dx, image([0, 5, 7, 0], [0, 0, 0, 0]))


def test_a_nan_wins_and_the_first_of_them_takes_the_gradient(backend: Any, dtype: Any) -> None:
    x = image([INF, 1, NAN, NAN], [NAN, 2, INF, 0], dtype=dtype)
    y, argmax = backend.max_pool2d(x, 2)
    assert_same(y.ravel(), [NAN, NAN])
    assert_same(argmax.ravel(), [2, 0])
    dx = backend.max_pool2d_backward(np.array([5, 7], dtype).reshape(y.shape), argmax, x.shape)
    assert_same(dx, image([0, 0, 7, 0], [5, 0, 0, 0]))


def test_a_window_of_minus_infinity_has_a_winner_inside_the_image(backend: Any) -> None:
    x = np.full((1, 2, 2, 3), -INF, np.float32)
    y, argmax = backend.max_pool2d(x, 2, padding=1)
    assert_same(y, np.full((1, 2, 2, 3), -INF))
    places = np.array([[3, 2], [1, 0]])[None, :, :, None]
    assert_same(argmax, np.broadcast_to(places, (1, 2, 2, 3)))
    dx = backend.max_pool2d_backward(np.ones_like(y), argmax, x.shape, 2, padding=1)
    assert_same(dx, np.ones(x.shape))


def test_special_values_in_every_lane(backend: Any, dtype: Any) -> None:
    """One special value in one channel of many: vectors and their tails treat it alike."""
    channels = 37
    for special in (NAN, INF, -INF):
        x = np.zeros((channels, 2, 3, channels), dtype)
        x[...] = np.arange(6).reshape(2, 3, 1)
        for c in range(channels):
            x[c, 0, 1, c] = special
        y, argmax = backend.max_pool2d(x, (2, 3))
        hit = special != -INF
        own = np.eye(channels, dtype=bool)
        assert_same(y[:, 0, 0], np.where(own & hit, special, 5))
        assert_same(argmax[:, 0, 0], np.where(own & hit, 1, 5))


def test_pads_never_win(backend: Any, dtype: Any) -> None:
    x = np.full((1, 3, 3, 2), -5, dtype)
    y, _ = backend.max_pool2d(x, 2, stride=1, padding=1)
    assert_same(y, np.full((1, 4, 4, 2), -5))


@pytest.mark.parametrize(("pool_size", "expected"), [((16, 16), np.uint8), ((16, 17), np.int32)])
def test_the_dtype_of_argmax(backend: Any, pool_size: tuple[int, int], expected: Any) -> None:
    x = np.zeros((1, 20, 20, 2), np.float32)
    x[0, pool_size[0] - 1, pool_size[1] - 1] = 1
    y, argmax = backend.max_pool2d(x, pool_size)
    assert argmax.dtype == expected
    assert_same(argmax.ravel(), [pool_size[0] * pool_size[1] - 1] * 2)
    assert_same(backend.max_pool2d_backward(y, argmax, x.shape, pool_size), x)


def test_the_mean_is_over_the_pixels_inside_the_image(backend: Any, dtype: Any) -> None:
    x = image([1, 2], [3, 4], dtype=dtype)
    assert_same(backend.avg_pool2d(x, 2, padding=1), image([1, 2], [3, 4]))
    counted = backend.avg_pool2d(x, 2, padding=1, count_include_pad=True)
    assert_same(counted, image([0.25, 0.5], [0.75, 1]))


def test_what_hangs_over_the_padding_is_never_counted(backend: Any) -> None:
    """n 4, k 4, s 3, p 1, ceil: rows -1..2 of (4 + pads), then 2..4, of which 4 is a pad."""
    x = np.full((1, 4, 4, 1), 12, np.float32)
    options = {"stride": 3, "padding": 1, "ceil_mode": True}
    y = backend.avg_pool2d(x, 4, **options, count_include_pad=True)
    #       3x3 of 4x4, 3x2 of 4x3; 2x3 of 3x4, 2x2 of 3x3
    assert_close(y, image([12 * 9 / 16, 6], [6, 12 * 4 / 9]))
    assert_same(backend.avg_pool2d(x, 4, **options), image([12, 12], [12, 12]))
    dx = backend.avg_pool2d_backward(
        image([16, 12], [12, 9]), x.shape, 4, **options, count_include_pad=True
    )
    once, twice = [1, 1, 2, 1], [2, 2, 4, 2]
    assert_same(dx, image(once, once, twice, once))


def test_pads_are_counted_where_they_are(backend: Any) -> None:
    """Rows 0..2 and 2..4, of which 4 is a pad; columns -1..1, of which -1 is one, and 1..3."""
    x = np.full((1, 4, 4, 1), 12, np.float32)
    options = {"stride": 2, "padding": ((0, 1), (1, 0)), "count_include_pad": True}
    assert_close(backend.avg_pool2d(x, 3, **options), image([8, 12], [16 / 3, 8]))
    dx = backend.avg_pool2d_backward(image([9, 18], [27, 36]), x.shape, 3, **options)
    rows = [[1, 3, 2, 2]] * 2 + [[4, 10, 6, 6]] + [[3, 7, 4, 4]]
    assert_same(dx, image(*rows))


def test_overlapping_windows_add_up(backend: Any, dtype: Any) -> None:
    x = image([1, 9, 2], [0, 3, 4], dtype=dtype)
    dy = image([1, 2], dtype=dtype)
    _, argmax = backend.max_pool2d(x, 2, stride=1)
    dx = backend.max_pool2d_backward(dy, argmax, x.shape, 2, stride=1)
    assert_same(dx, image([0, 3, 0], [0, 0, 0]))
    dx = backend.avg_pool2d_backward(4 * dy, x.shape, 2, stride=1)
    assert_same(dx, image([1, 3, 2], [1, 3, 2]))


def test_same_padding_of_pools(backend: Any) -> None:
    x = np.arange(10, dtype=np.float32).reshape(1, 1, 10, 1)
    y, _ = backend.max_pool2d(x, (1, 2), stride=(1, 3), padding="same")
    assert_same(y.ravel(), [1, 4, 7, 9])
    y, _ = backend.max_pool2d(x, (1, 2), stride=(1, 3), padding="same", ceil_mode=True)
    assert_same(y.ravel(), [1, 4, 7, 9])
    y = backend.avg_pool2d(x, (1, 3), stride=1, padding="same")
    assert_same(y.ravel(), [0.5, 1, 2, 3, 4, 5, 6, 7, 8, 8.5])


def test_pool_stride_is_the_window_unless_given(backend: Any) -> None:
    x = np.arange(60, dtype=np.float32).reshape(1, 6, 10, 1)
    assert backend.max_pool2d(x)[0].shape == (1, 3, 5, 1)
    assert backend.avg_pool2d(x, (3, 2)).shape == (1, 2, 5, 1)
    assert backend.avg_pool2d(x, (3, 2), stride=None).shape == (1, 2, 5, 1)
    assert backend.avg_pool2d(x, (3, 2), stride=(1, 4)).shape == (1, 4, 3, 1)


def test_padding_of_exactly_half_the_window(backend: Any) -> None:
    x = np.ones((1, 4, 4, 1), np.float32)
    assert backend.max_pool2d(x, 4, stride=2, padding=2)[0].shape == (1, 3, 3, 1)
    with pytest.raises(ValueError, match="padding"):
        backend.max_pool2d(x, 3, stride=2, padding=2)


def test_global_average(backend: Any, dtype: Any) -> None:
    x = np.arange(24, dtype=dtype).reshape(2, 2, 2, 3)
    assert_same(backend.global_avg_pool2d(x), [[4.5, 5.5, 6.5], [16.5, 17.5, 18.5]])
    dx = backend.global_avg_pool2d_backward(np.array([[4, 8, 12], [0, 4, 8]], dtype), x.shape)
    each = np.array([[1, 2, 3], [0, 1, 2]])
    assert_same(dx, np.broadcast_to(each[:, None, None], x.shape))


# ---------------------------------------------------------------------- batch normalization
def test_batch_statistics_are_over_all_axes_but_the_last(backend: Any, dtype: Any) -> None:
    rows = np.array([[1, 10], [2, 20], [3, 30], [4, 40]], dtype)
    gamma, beta = np.array([1, 2], dtype), np.array([0, 5], dtype)
    y, mean, variance = backend.batch_norm(rows, gamma, beta)
    assert_close(mean, [2.5, 25])
    assert_close(variance, [1.25, 125])  # biased: over 4, not 3
    expected = (rows - [2.5, 25]) / np.sqrt(np.array([1.25, 125]) + 1e-5) * [1, 2] + [0, 5]
    assert_close(y, expected, "batch_norm")
    of_images = backend.batch_norm(rows.reshape(1, 2, 2, 2), gamma, beta)
    assert_close(of_images[0], expected.reshape(1, 2, 2, 2), "batch_norm")
    assert_close(of_images[1], [2.5, 25])
    assert_close(of_images[2], [1.25, 125])


@pytest.mark.parametrize("shape", [(400, 3), (8, 20, 30, 3)])
def test_a_mean_of_1000_costs_no_digits(backend: Any, shape: tuple[int, ...], rng: Any) -> None:
    x = (rng.standard_normal(shape) + 1000).astype(np.float32)
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    axes = tuple(range(len(shape) - 1))
    exact = x.astype(np.float64)
    mean, variance = exact.mean(axes), exact.var(axes)
    y, found_mean, found_variance = backend.batch_norm(x, one, zero)
    np.testing.assert_allclose(found_mean, mean, rtol=1.2e-7)
    np.testing.assert_allclose(found_variance, variance, rtol=2e-6)
    # A mean rounded to float32 is off by up to 3e-5, in units of the deviation.
    expected = (exact - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(y, expected, atol=5e-5)


def test_inference_uses_the_statistics_it_is_given(backend: Any, dtype: Any) -> None:
    x = np.array([[1, 2], [3, 4], [5, 6]], dtype)
    gamma, beta = np.array([2, 3], dtype), np.array([1, -1], dtype)
    mean, variance = np.array([1, 2], dtype), np.array([3.75, 15.75], dtype)
    y = backend.batch_norm_inference(x, gamma, beta, mean, variance, epsilon=0.25)
    assert_close(y, [[1, -1], [3, 0.5], [5, 2]])
    assert_close(
        backend.batch_norm_inference(x[:1], gamma, beta, mean, variance, epsilon=0.25), y[:1]
    )


def test_two_values_a_channel_are_the_fewest(backend: Any) -> None:
    one = np.ones(3, np.float32)
    for shape in [(2, 3), (1, 1, 2, 3), (2, 1, 1, 3)]:
        backend.batch_norm(np.ones(shape, np.float32), one, one)
    for shape in [(1, 3), (0, 3), (1, 1, 1, 3), (0, 4, 4, 3)]:
        with pytest.raises(ValueError, match=r"batch_norm: x: .*batch"):
            backend.batch_norm(np.ones(shape, np.float32), one, one)


def test_a_constant_channel_is_all_beta(backend: Any, dtype: Any) -> None:
    x = np.full((4, 3, 2, 2), 7, dtype)
    y, mean, variance = backend.batch_norm(x, np.ones(2, dtype), np.array([1, -2], dtype))
    assert_same(y, np.broadcast_to([1, -2], x.shape))
    assert_same(mean, [7, 7])
    assert_same(variance, [0, 0])

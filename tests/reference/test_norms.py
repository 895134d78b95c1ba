"""What the norms of single samples mean, by numbers that a person can check; masks of dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_close, assert_same, assert_same_bits
from hostile import F4, I8, call, ones, refuses

NORMS = ("layer_norm", "group_norm", "local_response_norm")


# ---------------------------------------------------------------------- layer normalization
def test_layer_norm_of_rows(backend: Any, dtype: Any) -> None:
    """Means 4 and 0, biased variances 3.75 and 8.75, with epsilon 4 and 9."""
    x = np.array([[2, 3, 4, 7], [-4, -1, 1, 4]], dtype)
    gamma, beta = np.array([1, 2, -3, 4], dtype), np.array([0, 1, 1, 2], dtype)
    y = backend.layer_norm(x[:1], gamma, beta, epsilon=0.5)
    assert_same(y, [[-1, 0, 1, 8]])
    y = backend.layer_norm(x[1:], gamma, beta, epsilon=0.5)
    assert_close(y, [[-4 / 3, 1 / 3, 0, 2 + 16 / 3]], "layer_norm")


def test_the_axes_of_layer_norm(backend: Any, dtype: Any, rng: Any) -> None:
    x = rng.standard_normal((2, 3, 4, 5)).astype(dtype)
    for axis, same in [(-1, 3), (-2, 2), (-3, 1)]:
        gamma, beta = (rng.standard_normal(x.shape[axis:]).astype(dtype) for _ in range(2))
        y = backend.layer_norm(x, gamma, beta, axis=axis)
        over = tuple(range(same, 4))
        exact = x.astype(np.float64)
        mean, variance = (f(exact, axis=over, keepdims=True) for f in (np.mean, np.var))
        assert_close(y, gamma * (exact - mean) / np.sqrt(variance + 1e-5) + beta, "layer_norm")
        assert_same_bits((y,), (backend.layer_norm(x, gamma, beta, axis=same),))
        rows = x.reshape(-1, gamma.size)
        flat = backend.layer_norm(rows, gamma.ravel(), beta.ravel())
        assert_same_bits((flat.reshape(x.shape),), (y,))


@pytest.mark.parametrize("axis", [0, -4, 4, 7, -5, 2**40])
def test_axes_that_layer_norm_does_not_go_over(axis: int, backend: Any) -> None:
    for op in ("layer_norm", "layer_norm_backward"):
        refuses(backend, ValueError, op, "axis", axis=axis)


# ---------------------------------------------------------------------- group normalization
def test_group_norm_of_rows(backend: Any, dtype: Any) -> None:
    """Groups of two: means 2 and -1, variances 1 and 4."""
    x = np.array([[1, 3, 1, -3]], dtype)
    gamma, beta = np.array([2, 3, 4, 5], dtype), np.array([0, 1, 0, 1], dtype)
    y = backend.group_norm(x, gamma, beta, groups=2, epsilon=3)
    assert_close(y, [[-1, 2.5, 8 / np.sqrt(7), 1 - 10 / np.sqrt(7)]], "group_norm")


def test_group_norm_is_over_pixels_and_side_by_side_channels(backend: Any, rng: Any) -> None:
    x = rng.standard_normal((2, 3, 4, 6))
    y = backend.group_norm(x, groups=3, epsilon=1e-3)
    for n in range(2):
        for start in (0, 2, 4):
            group = x[n, :, :, start : start + 2]
            expected = (group - group.mean()) / np.sqrt(group.var() + 1e-3)
            found = y[n, :, :, start : start + 2].copy()
            assert_close(found, expected, "group_norm")


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 4, 8), (2, 40, 30, 16)])
def test_one_group_is_layer_norm_of_all(shape: Any, backend: Any, dtype: Any, rng: Any) -> None:
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    assert_close(
        backend.group_norm(x, groups=1), backend.layer_norm(x, axis=1), "group_norm", dtype=dtype
    )
    dx, dgamma, dbeta = backend.group_norm_backward(dy, x, groups=1)
    wanted, *others = backend.layer_norm_backward(dy, x, axis=1)
    assert_close(dx, wanted, "group_norm_backward", dtype=dtype)
    for found, other in zip((dgamma, dbeta), others, strict=True):
        pixels = other.reshape(-1, shape[-1]).astype(np.float64)
        assert_close(found, pixels.sum(0), scale=np.abs(pixels).sum(0).max(), dtype=dtype)


@pytest.mark.parametrize("groups", [3, 5, 8])
def test_groups_that_do_not_divide_the_channels(groups: int, backend: Any) -> None:
    for op in ("group_norm", "group_norm_backward"):
        refuses(backend, ValueError, op, "groups", groups=groups)


# ---------------------------------------------------------------------- both
def options(op: str) -> dict[str, Any]:
    return {"groups": 2} if op == "group_norm" else {}


@pytest.mark.parametrize("op", ["layer_norm", "group_norm"])
def test_no_gamma_is_one_and_no_beta_is_zero(op: str, backend: Any, dtype: Any, rng: Any) -> None:
    x, dy = (rng.standard_normal((2, 3, 4, 6)).astype(dtype) for _ in range(2))
    one, zero, some = np.ones(6, dtype), np.zeros(6, dtype), np.arange(6, dtype=dtype)
    norm, backward = getattr(backend, op), getattr(backend, f"{op}_backward")
    given = options(op)
    assert_same_bits((norm(x, **given),), (norm(x, one, zero, **given),))
    assert_same_bits((norm(x, some, **given),), (norm(x, some, zero, **given),))
    assert_same_bits((norm(x, None, some, **given),), (norm(x, one, some, **given),))
    assert_same_bits(backward(dy, x, **given), backward(dy, x, one, **given))


@pytest.mark.parametrize("op", ["layer_norm", "group_norm"])
@pytest.mark.parametrize("shape", [(50, 64), (3, 20, 30, 16)])
def test_a_mean_of_1000_costs_no_digits(op: str, shape: Any, backend: Any, rng: Any) -> None:
    """Not even those that a mean rounded to float32 would cost."""
    x = (rng.standard_normal(shape) + 1000).astype(np.float32)
    y = getattr(backend, op)(x, **options(op))
    expected = getattr(backend, op)(x.astype(np.float64), **options(op))
    np.testing.assert_allclose(y, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("op", "shape", "given"),
    [
        ("layer_norm", (3, 20000), {}),
        ("group_norm", (3, 40000), {"groups": 2}),
        ("group_norm", (2, 90, 60, 4), {"groups": 2}),
        ("group_norm", (2, 100, 90, 3), {"groups": 3}),
    ],
)
def test_a_first_number_that_is_far_off_costs_no_digits(
    op: str, shape: Any, given: Any, backend: Any, rng: Any
) -> None:
    """The kernels take it for the center of their sums, and the mean is as far from it as it is."""
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    x[(0,) * len(shape)] = 3e6
    x[(1,) + (0,) * (len(shape) - 1)] = 300
    wide = x.astype(np.float64), dy.astype(np.float64)
    y, expected = (getattr(backend, op)(each, **given) for each in (x, wide[0]))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    backward = getattr(backend, f"{op}_backward")
    found, wanted = backward(dy, x, **given), backward(wide[1], wide[0], **given)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("op", ["layer_norm", "group_norm"])
@pytest.mark.parametrize("value", [0, 7, -0.1, 1e-30])
def test_a_constant_row_is_all_beta(op: str, value: float, backend: Any, dtype: Any) -> None:
    x = np.full((2, 3, 5, 6), value, dtype)
    y = getattr(backend, op)(x, None, np.arange(6, dtype=dtype), **options(op))
    scale = 64 * np.finfo(dtype).eps * min(abs(value), 1) / np.sqrt(1e-5)
    np.testing.assert_allclose(y, np.broadcast_to(np.arange(6), x.shape), atol=scale)


@pytest.mark.parametrize("op", ["layer_norm", "group_norm"])
def test_what_is_not_finite_stays_in_its_sample(op: str, backend: Any, dtype: Any) -> None:
    x = np.arange(3 * 2 * 2 * 4, dtype=dtype).reshape(3, 2, 2, 4) ** 2
    good = getattr(backend, op)(x, **options(op))
    for bad in (np.nan, np.inf, -np.inf):
        spoiled = x.copy()
        spoiled[1, 0, 1, 2] = bad
        y = getattr(backend, op)(spoiled, **options(op))
        rows = [0, 1] if op == "layer_norm" else [2, 3]
        alone = y[1, 0, 1] if op == "layer_norm" else y[1, :, :, 2:]
        assert np.isnan(alone).all()
        assert_same_bits((y[::2],), (good[::2],))
        assert np.isnan(y[1]).sum() == (4 if op == "layer_norm" else 8), rows


@pytest.mark.parametrize("op", NORMS)
def test_a_batch_is_its_samples_one_by_one(op: str, backend: Any, dtype: Any, rng: Any) -> None:
    x, dy = (rng.standard_normal((3, 9, 8, 6)).astype(dtype) for _ in range(2))
    y = getattr(backend, op)(x, **options(op))
    dx = getattr(backend, f"{op}_backward")(dy, x, **options(op))
    dx = dx[0] if isinstance(dx, tuple) else dx
    for n in range(3):
        assert_same_bits((getattr(backend, op)(x[n : n + 1], **options(op))[0],), (y[n],))
        one = getattr(backend, f"{op}_backward")(dy[n : n + 1], x[n : n + 1], **options(op))
        one = one[0] if isinstance(one, tuple) else one
        assert_same_bits((one[0],), (dx[n],))


@pytest.mark.parametrize("op", NORMS)
def test_no_samples(op: str, backend: Any, dtype: Any) -> None:
    x = np.ones((0, 2, 3, 4), dtype)
    assert_same(getattr(backend, op)(x, **options(op)), x, dtype)
    results = getattr(backend, f"{op}_backward")(x, x, **options(op))
    for result in results[1:] if isinstance(results, tuple) else ():
        assert_same(result, np.zeros(4), dtype)


@pytest.mark.parametrize("op", NORMS)
def test_bad_shapes(op: str, backend: Any) -> None:
    for each in (op, f"{op}_backward"):
        for shape in [(), (4,), (2, 0, 3, 4), (2, 3, 3, 0)]:
            refuses(backend, ValueError, each, "x|dy", x=ones(*shape))
    refuses(backend, ValueError, f"{op}_backward", "dy|x", dy=ones(2, 6, 5, 4))
    if op != "local_response_norm":
        for name in ("gamma", "beta"):
            for shape in [(), (3,), (1, 4), (4, 1), (6, 4)]:
                refuses(backend, ValueError, op, name, **{name: ones(*shape)})
        refuses(backend, TypeError, op, "beta|gamma|x", beta=np.ones(4))


# ---------------------------------------------------------------------- local response
def test_local_response_norm_by_hand(backend: Any, dtype: Any) -> None:
    """Squares 1, 4, 9, 16; k + squares of three channels: 6, 15, 30, 26."""
    x = np.array([[1, 2, 3, 4]], dtype)
    given = {"alpha": 3.0, "beta": 1.0}
    y = backend.local_response_norm(x, size=3, **given)
    assert_close(y, [[1 / 6, 2 / 15, 3 / 30, 4 / 26]], "local_response_norm")
    # Of four channels: one before and two behind, as ONNX has it. PyTorch has two before.
    y = backend.local_response_norm(x, size=4, alpha=4.0, beta=1.0)
    assert_close(y, [[1 / 15, 2 / 31, 3 / 30, 4 / 26]], "local_response_norm")
    y = backend.local_response_norm(x, size=100, alpha=100.0, beta=1.0, k=2.0)
    assert_close(y, x.astype(np.float64) / 32, "local_response_norm")
    y = backend.local_response_norm(x, size=1, alpha=0.0, beta=0.5, k=4.0)
    assert_same(y, x / 2)


def test_options_of_local_response_norm(backend: Any) -> None:
    for op in ("local_response_norm", "local_response_norm_backward"):
        for name, bad in [("size", 0), ("alpha", -0.1), ("beta", -1), ("k", 0.0), ("k", np.nan)]:
            refuses(backend, ValueError, op, name, **{name: bad})
        for name in ("size", "alpha", "beta", "k"):
            refuses(backend, TypeError, op, name, **{name: "1"})
        refuses(backend, TypeError, op, "size", size=3.0)


# ---------------------------------------------------------------------- masks of dropout
@pytest.mark.parametrize("shape", [(3, 1, 1, 5), (3, 1, 1, 1), (1, 2, 4, 1), (1, 1, 1, 1)])
def test_a_mask_is_repeated(shape: Any, backend: Any, dtype: Any, rng: Any) -> None:
    x = rng.standard_normal((3, 2, 4, 5)).astype(dtype)
    mask = rng.random(shape) < 0.5
    full = np.broadcast_to(mask, x.shape)
    for op in (backend.dropout, backend.dropout_backward):
        assert_same_bits((op(x, mask, rate=0.3),), (op(x, full, rate=0.3),))


def test_masks_that_do_not_fit(backend: Any) -> None:
    for op in ("dropout", "dropout_backward"):
        for shape in [(), (4,), (1, 3, 4), (2, 4), (3, 2), (3, 0)]:
            refuses(backend, ValueError, op, "mask", mask=np.ones(shape, bool))
        refuses(backend, TypeError, op, "mask", mask=np.ones((3, 1), F4))
        refuses(backend, TypeError, op, "mask", mask=np.ones((1, 1), I8))
    assert_same(call(backend, "dropout", mask=np.ones((1, 1), bool)), np.full((3, 4), 2))

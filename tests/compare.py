"""How near is near enough: the one comparator of the tests, and its table of tolerances."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Tolerance(NamedTuple):
    """The error allowed: a multiple of each value, of the array's largest, of the largest dy.

    They are counted in unit roundoffs, 6e-8 for float32 and 1.1e-16 for float64, and add up.
    """

    of_each: float
    of_largest: float
    of_dy: float = 0


EXACT = Tolerance(0, 0)
ROUNDED_ONCE = Tolerance(1, 0)
IN_DOUBLE = Tolerance(2, 4)
ADDED_UP = Tolerance(2, 64)  # the same of float64: double is no wider, and the order may be another

# Numbers that are moved or chosen, and no arithmetic.
EXACT_OPS = ("reshape", "transpose", "strided_slice", "depth_to_space", "space_to_depth", "take")
EXACT_OPS += ("reduce_max", "reduce_min", "maximum", "minimum", "expand", "pad", "abs", "negative")

# By op; where an op is missing, by its forward op, else "default".
TOLERANCE = {
    # Sums of up to some thousand terms of either sign stay within about 50 roundoffs.
    "default": Tolerance(0, 64),
    # Sums over many positions whose terms cancel: the largest entry of dw or dx can be much
    # smaller than the terms that make it. (Where the terms are known, `assert_within` is
    # sharper: see gamma.)
    "conv2d_backward": Tolerance(0, 500),
    "conv2d_transpose": Tolerance(0, 500),
    "conv2d_relu_max_pool2d_backward": Tolerance(0, 500),
    "linear_backward": Tolerance(0, 500),
    "linear_relu_backward": Tolerance(0, 500),
    # F(4x4, 3x3) has factors of up to 5 in its transforms; `winograd_bound` is sharper.
    "conv2d": Tolerance(0, 160),
    "conv2d_relu_max_pool2d": Tolerance(0, 160),
    # A choice between numbers and no arithmetic, but for sums where windows overlap.
    "max_pool2d": EXACT,
    "max_pool2d_backward": Tolerance(0, 4),
    "relu": EXACT,
    "concat": EXACT,
    **dict.fromkeys(EXACT_OPS, EXACT),
    "relu_backward": EXACT,
    "clip": EXACT,
    # In double, and then one rounding, as the reference.
    "hard_sigmoid": ROUNDED_ONCE,
    # One rounding.
    "add": ROUNDED_ONCE,
    "multiply": ROUNDED_ONCE,
    **dict.fromkeys(("subtract", "divide", "sqrt", "reciprocal"), ROUNDED_ONCE),
    # Sums in double, rounded once.
    **dict.fromkeys(("reduce_sum", "reduce_mean", "power_backward", "divide_backward"), IN_DOUBLE),
    **dict.fromkeys(("take_backward", "pad_backward", "expand_backward"), IN_DOUBLE),
    **dict.fromkeys(("subtract_backward", "maximum_backward", "minimum_backward"), IN_DOUBLE),
    "where_backward": IN_DOUBLE,
    "log_backward": ROUNDED_ONCE,
    "exp_backward": ROUNDED_ONCE,
    # NumPy's.
    "exp": Tolerance(4, 0),
    "log": Tolerance(4, 0),
    "power": Tolerance(4, 0),
    "erf": Tolerance(8, 0),
    "erf_backward": Tolerance(4, 0),
    "matmul_backward": Tolerance(0, 500),
    "prelu": ROUNDED_ONCE,
    # Sums of terms of either sign.
    "add_backward": Tolerance(0, 64),
    "multiply_backward": Tolerance(0, 64),
    "prelu_backward": Tolerance(0, 64),
    # x - mean loses what the mean's rounding hides, and the backward terms cancel.
    "batch_norm": Tolerance(0, 160),
    "batch_norm_backward": Tolerance(0, 500, 160),
    "layer_norm": Tolerance(0, 64),
    "layer_norm_backward": Tolerance(0, 500, 160),
    "group_norm": Tolerance(0, 64),
    "group_norm_backward": Tolerance(0, 500, 160),
    "batch_norm_relu": Tolerance(0, 160),
    "batch_norm_relu_backward": Tolerance(0, 500, 160),
    "batch_norm_relu_max_pool2d": Tolerance(0, 160),
    "batch_norm_relu_max_pool2d_backward": Tolerance(0, 500, 160),
    "conv2d_batch_norm_relu_max_pool2d": Tolerance(0, 160),
    "conv2d_batch_norm_relu_max_pool2d_backward": Tolerance(0, 500, 160),
    # One product, or one quotient and one product.
    "leaky_relu": Tolerance(2, 0),
    "dropout": Tolerance(4, 0),
    # A sum of squares, a power and a product; backward a sum of terms of either sign.
    "local_response_norm": Tolerance(16, 0),
    "local_response_norm_backward": Tolerance(0, 64),
    # exp and its kin are good to a few roundoffs; the rest of each formula adds some more.
    "elu": Tolerance(8, 0),
    "selu": Tolerance(8, 0),
    "celu": Tolerance(8, 0),
    "sigmoid": Tolerance(8, 0),
    "silu": Tolerance(10, 0),
    "mish": Tolerance(10, 0),
    "softplus": Tolerance(8, 0),
    "hard_swish": Tolerance(8, 0),
    "tanh": Tolerance(8, 0),
    # x - max is rounded before exp: as many roundoffs as the difference is large.
    "softmax": Tolerance(40, 0),
    "log_softmax": Tolerance(8, 8),
    "log_softmax_backward": Tolerance(8, 0, 64),
    # 1 - y and 1 - y*y lose digits of y near 1, as Phi + x * phi and 1 + x * (1 - s) do where
    # they vanish, and so does dy - sum(dy * y).
    "sigmoid_backward": Tolerance(8, 0, 2),
    "tanh_backward": Tolerance(8, 0, 4),
    "silu_backward": Tolerance(16, 0, 8),
    "mish_backward": Tolerance(16, 0, 8),
    # Of e^q * dy, the rounding of q by the sum or quotient in front.
    "softplus_backward": Tolerance(8, 0, 2),
    "celu_backward": Tolerance(8, 0, 1),
    "hard_swish_backward": Tolerance(4, 0, 4),
    # In its tail, so is x*x/2; the tail is next to nothing beside the largest.
    "gelu": Tolerance(32, 1),
    "gelu_backward": Tolerance(32, 0, 8),
    "softmax_backward": Tolerance(16, 0, 16),
    # A step, and in other tests many steps, each rounded to the dtype of the weights.
    "sgd_step": Tolerance(0, 160),
    "adam_step": Tolerance(0, 160),
}


def tolerance(op: str, dtype: Any = np.float32) -> Tolerance:
    """Return the tolerance for an op's results; a fused one may have its method's name."""
    op = op.removeprefix("_")
    for name in (op, op.removesuffix("_backward")):
        if name in TOLERANCE:
            found = TOLERANCE[name]
            return ADDED_UP if found is IN_DOUBLE and np.dtype(dtype).itemsize == 8 else found
    return TOLERANCE["default"]


def roundoff(dtype: Any) -> float:
    """Return the unit roundoff u of a float dtype: half the gap between 1 and the next number."""
    return float(np.finfo(dtype).eps) / 2


def gamma(n: int, dtype: Any) -> float:
    """Return n*u / (1 - n*u), the error of n roundings (Higham, Accuracy and Stability, 3.1)."""
    nu = n * roundoff(dtype)
    return nu / (1 - nu)


# Winograd's F(4x4, 3x3), y = A^T [(G w) * (B^T x)] in each dimension, worked out from its points 0,
# +-5/8, +-3/2 and infinity, so that a slip in the kernel's constants cannot hide.
_POINTS = np.array([0, 5 / 8, -5 / 8, 3 / 2, -3 / 2])
_AT = np.column_stack([_POINTS[None] ** np.arange(4)[:, None], [0, 0, 0, 1]])
_SCALE = np.array([np.prod(p - _POINTS[p != _POINTS]) for p in _POINTS])
_G = np.vstack([_POINTS[:, None] ** np.arange(3) / _SCALE[:, None], [0, 0, 1]])
_BT = np.zeros((6, 6))
for _row, _p in enumerate(_POINTS):
    _BT[_row, :5] = np.poly(_POINTS[_p != _POINTS])[::-1]
_BT[5] = np.poly(_POINTS)[::-1]

# At a rim of one or two outputs, F(2, 3) has the points 0, +-5/8 and infinity of the same weights,
# so that what _G divides by for the sake of +-3/2 is in its inputs.
_SHORT = [0, 1, 2, 5]
_SHORT_BT = np.zeros((4, 4))
for _row, _p in enumerate(_POINTS[:3]):
    _others = _POINTS[:3][_POINTS[:3] != _p]
    _SHORT_BT[_row, :3] = np.poly(_others)[::-1] * _SCALE[_row] / np.prod(_p - _others)
_SHORT_BT[3] = np.poly(_POINTS[:3])[::-1]
_TILES = {4: (_AT, _G, _BT), 2: (_AT[:2, _SHORT] + [[0] * 4, [0, 0, 0, 1]], _G[_SHORT], _SHORT_BT)}


def _tiles(length: int) -> list[tuple[int, int]]:
    """Return where the tiles of a side begin and how long they are."""
    return [(p, 2 if length - p <= 2 else 4) for p in range(0, length, 4)]


def winograd_bound(
    x: NDArray[Any], w: NDArray[Any], b: NDArray[Any] | None, pads: Any, dtype: Any
) -> NDArray[np.float64]:
    """Return the largest error that Winograd's tiles may make at each output of a 3x3 convolution.

    Each factor of a product, and the product itself, is rounded: x and w eight and ten times in
    their transforms, the sum over C channels C times, the result nine times with the bias, none of
    them more often in short tiles. So the error is at most gamma(C + 27) of the same sums over
    absolute values (Higham, 3.1).
    """
    x, w = np.abs(x.astype(np.float64)), np.abs(w.astype(np.float64))
    _, height, width, channels = x.shape
    rows, columns = height + sum(pads[0]) - 2, width + sum(pads[1]) - 2
    x = np.pad(x, ((0, 0), (pads[0][0], pads[0][1] + 4), (pads[1][0], pads[1][1] + 4), (0, 0)))
    bound = np.zeros((len(x), -(-rows // 4) * 4, -(-columns // 4) * 4, w.shape[3]))
    for (p, tall), (q, wide) in product(_tiles(rows), _tiles(columns)):
        (at, g, bt), (at_q, g_q, bt_q) = (tuple(map(np.abs, _TILES[side])) for side in (tall, wide))
        patch = x[:, p : p + tall + 2, q : q + wide + 2]
        v = np.einsum("ei,fj,nijc->nefc", bt, bt_q, patch, optimize=True)
        weights = np.einsum("er,fs,rsck->efck", g, g_q, w, optimize=True)
        m = np.einsum("nefc,efck->nefk", v, weights)
        tile = np.einsum("pe,qf,nefk->npqk", at, at_q, m, optimize=True)
        bound[:, p : p + tall, q : q + wide] = tile
    bound = bound[:, :rows, :columns] + (0 if b is None else np.abs(b.astype(np.float64)))
    return gamma(channels + 27, dtype) * bound


def winograd_weights_bound(
    dy: NDArray[Any], x: NDArray[Any], pads: Any, dtype: Any
) -> NDArray[np.float64]:
    """Return the largest error that F(3x3, 4x4) may make at each entry of the weight gradient.

    dw = A^T [sum over tiles of (G dy) * (B^T x)] in each dimension, with taps of four gradients and
    three outputs at the points above. x and dy are rounded eight times each in their transforms,
    their product once, the sum over all tiles as often as there are tiles, the result twelve times:
    gamma(tiles + 29) of the same sums over absolute values.
    """
    at = np.column_stack([_POINTS[None] ** np.arange(3)[:, None], [0, 0, 1]])
    g = np.vstack([_POINTS[:, None] ** np.arange(4) / _SCALE[:, None], [0, 0, 0, 1]])
    dy, x = np.abs(dy.astype(np.float64)), np.abs(x.astype(np.float64))
    images, rows, columns, _ = dy.shape
    x = np.pad(x, ((0, 0), (pads[0][0], pads[0][1] + 4), (pads[1][0], pads[1][1] + 4), (0, 0)))
    dy = np.pad(dy, ((0, 0), (0, -rows % 4), (0, -columns % 4), (0, 0)))
    m = np.zeros((6, 6, x.shape[3], dy.shape[3]))
    for p in range(0, rows, 4):
        for q in range(0, columns, 4):
            patch, tile = x[:, p : p + 6, q : q + 6], dy[:, p : p + 4, q : q + 4]
            v = np.einsum("ei,fj,nijc->efcn", np.abs(_BT), np.abs(_BT), patch, optimize=True)
            u = np.einsum("ei,fj,nijk->efnk", np.abs(g), np.abs(g), tile, optimize=True)
            m += v @ u
    tiles = images * -(-rows // 4) * -(-columns // 4)
    bound = np.einsum("re,sf,efck->rsck", np.abs(at), np.abs(at), m, optimize=True)
    return gamma(tiles + 29, dtype) * bound


def assert_array(actual: Any, shape: tuple[int, ...], dtype: Any = None) -> None:
    """Check what every result is: an array of float32 or float64, fresh, plain and native."""
    assert type(actual) is np.ndarray, type(actual)
    if dtype is None:
        assert actual.dtype in (np.dtype(np.float32), np.dtype(np.float64)), actual.dtype
    else:
        assert actual.dtype == np.dtype(dtype), actual.dtype
    assert actual.dtype.isnative
    assert actual.flags.c_contiguous
    assert actual.flags.aligned
    assert actual.flags.writeable
    assert actual.shape == shape


def assert_within(
    actual: Any, expected: ArrayLike, bound: ArrayLike, dtype: Any = None, about: str = ""
) -> None:
    """Check a result, element by element, against an error bound.

    `expected` may be of a wider dtype. NaN and infinities must stand where they are expected; an
    expectation beyond the dtype's largest number is one of infinity. Subnormal numbers may be
    flushed to zero.
    """
    expected = np.asarray(expected)
    assert_array(actual, expected.shape, dtype)
    with np.errstate(over="ignore"):
        rounded = expected.astype(actual.dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(actual[~finite], rounded[~finite], err_msg=about)
    found, wanted = actual[finite].astype(np.float64), expected[finite].astype(np.float64)
    allowed = np.broadcast_to(bound, expected.shape)[finite] + np.finfo(actual.dtype).tiny
    with np.errstate(all="ignore"):
        wrong = ~(np.abs(found - wanted) <= allowed)
    if wrong.any():
        at = int(np.argmax(np.where(wrong, np.abs(found - wanted) / allowed, 0)))
        where = tuple(int(i) for i in np.argwhere(finite)[at])
        raise AssertionError(
            f"{about} {wrong.sum()} of {expected.size} elements are wrong; worst at {where}: "
            f"got {found[at]!r}, expected {wanted[at]!r}, allowed error {allowed[at]:.3g}"
        )


def assert_close(
    actual: Any,
    expected: ArrayLike,
    op: str = "default",
    *,
    scale: float = 0.0,
    largest_dy: float = 0.0,
    dtype: Any = None,
    about: str = "",
) -> None:
    """Check a result against the op's tolerance; `expected` may be of a wider dtype.

    `scale` is the magnitude of what was added up, where that is known to cancel.
    """
    expected = np.asarray(expected)
    assert isinstance(actual, np.ndarray), type(actual)
    of_each, of_largest, of_dy = tolerance(op, actual.dtype)
    if actual.dtype != expected.dtype:
        of_each += 1  # the rounding of a wider expectation
    u = roundoff(actual.dtype)
    size = np.where(np.isfinite(expected), np.abs(expected), 0).astype(np.float64)
    bound = of_each * u * size + of_largest * u * np.max(size, initial=scale)
    bound += of_dy * u * largest_dy
    assert_within(actual, expected, bound, dtype, about or op)


def assert_same(actual: Any, expected: ArrayLike, dtype: Any = None, about: str = "") -> None:
    """Check that a result equals what is expected, bit for bit but for the signs of zeros."""
    expected = np.asarray(expected)
    assert isinstance(actual, np.ndarray), type(actual)
    assert actual.flags.c_contiguous
    assert actual.shape == expected.shape
    if dtype is not None:
        assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, expected, err_msg=about)


def assert_same_bits(actual: tuple[Any, ...], expected: tuple[Any, ...], about: str = "") -> None:
    """Check that all results of two calls are the same, bit for bit."""
    assert len(actual) == len(expected)
    for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert type(one) is type(other)
        if one is None:
            continue
        one, other = np.asarray(one), np.asarray(other)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        if one.tobytes() != other.tobytes():
            raise AssertionError(f"{about}: result {number} differs: {one} and {other}")


def assert_results(
    actual: tuple[Any, ...],
    expected: tuple[Any, ...],
    op: str,
    dtype: Any,
    about: str = "",
    *,
    largest_dy: float = 0.0,
) -> None:
    """Check all results of an op: floats to its tolerance, integers and None exactly.

    The oracle may have answered in float64 for arguments of float32.
    """
    assert len(actual) == len(expected), f"{about}: {len(actual)} results"
    for one, other in zip(actual, expected, strict=True):
        if other is None:
            assert one is None, about
        elif isinstance(other, float):
            assert type(one) is float, f"{about}: {type(one)}"
            u = roundoff(dtype)  # a loss adds up what was worked out in the dtype of the arrays
            np.testing.assert_allclose(one, other, rtol=64 * u, atol=64 * u, err_msg=about)
        elif other.dtype.kind in "iu":
            assert_array(one, other.shape, other.dtype)
            np.testing.assert_array_equal(one, other, err_msg=about)
        else:
            assert_close(one, other, op, largest_dy=largest_dy, dtype=dtype, about=about)


@contextmanager
def untouched(*values: Any) -> Iterator[None]:
    """Check that the arrays among the values are the same, bit for bit, after the block."""
    single = [one for value in values for one in (value if isinstance(value, list) else [value])]
    arrays: list[NDArray[Any]] = [value for value in single if isinstance(value, np.ndarray)]
    before = [(array.tobytes(), array.shape, array.strides, array.flags.num) for array in arrays]
    yield
    after = [(array.tobytes(), array.shape, array.strides, array.flags.num) for array in arrays]
    assert after == before, "an input was written to"

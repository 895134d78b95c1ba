"""Every op on numbers of every exponent: finite and right where the reference is.

The reference works in float64. Where it finds a number that float32 can hold, the fast backend
finds it as well, within the op's tolerance; infinities and NaN stand where the reference has them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calls import FUSED, OPS, Arguments, run
from compare import assert_array, gamma, roundoff, winograd_bound, winograd_weights_bound
from exponents import allowances, oracle_of, wide, wide_call

from fastcnn import FastBackend, reference
from fastcnn.backend import Array

F4 = np.dtype(np.float32)
LARGEST = np.finfo(F4).max
SEEDS = {True: range(25), False: range(60)}  # of convolutions, where the reference takes long
CHANNELS = (3, 16, 8, 19, 1)


def exact(call: Arguments) -> Arguments:
    """Return the call with its numbers in float64."""
    return {
        name: value.astype(np.float64)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        else value
        for name, value in call.items()
    }


def complaint(found: Any, expected: Any, allowed: Array, dtype: str) -> str | None:
    """Return what is wrong with a result, or None."""
    if expected is None:
        return None if found is None else "not None"
    info = np.finfo("float64" if isinstance(expected, float) else dtype)
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    with np.errstate(all="ignore"):
        allowed = np.broadcast_to(allowed, expected.shape) + float(np.finfo(dtype).tiny)
        error = np.abs(found - expected)
        # Beyond the largest number the rounding decides, and it is within the allowance.
        beyond = np.abs(expected) > float(info.max) - allowed - roundoff(dtype) * float(info.max)
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        far = beyond & np.isinf(found) & (np.sign(found) == np.sign(expected))
        right = same | (error <= allowed) | far | np.isinf(allowed)
    if right.all():
        return None
    at = tuple(int(i) for i in np.argwhere(~right)[0])
    return (
        f"{(~right).sum()} of {right.size} are wrong, at {at} {found[at]!r} instead of "
        f"{expected[at]!r}, allowed error {allowed[at]:.3g}"
    )


def sizes(call: Arguments) -> str:
    """Return the exponents in a call, for a message."""
    told = []
    for name, value in call.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
            low, high = np.min(np.abs(value)), np.max(np.abs(value))
            told.append(f"{name} {low:.2g}..{high:.2g}")
        elif isinstance(value, float):
            told.append(f"{name} {value:.3g}")
    return ", ".join(told)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", [*OPS, *FUSED])
def test_every_exponent(op: str, dtype: str, fast_backends: list[Any]) -> None:
    if dtype == "float64" and "conv2d_batch_norm" in op:
        return  # it is for float32 alone
    wrong = []
    for seed in SEEDS["conv" in op]:
        rng = np.random.default_rng(seed)
        call = wide_call(op, rng, dtype, CHANNELS[seed % len(CHANNELS)])
        try:
            expected = run(oracle_of(op), op, exact(call))
        except ValueError as error:
            if "sum above 0" in str(error):  # weights that are all 0
                continue
            raise
        allowed = allowances(op, exact(call), dtype, expected)
        for backend in fast_backends:
            found = run(backend, op, call)
            assert len(found) == len(expected)
            for number, (one, other, limit) in enumerate(
                zip(found, expected, allowed, strict=True)
            ):
                if isinstance(other, np.ndarray) and other.dtype.kind == "u":
                    assert_array(one, other.shape, other.dtype)
                    # Of nearly equal numbers in front of a pool another may win.
                    assert op in FUSED or np.array_equal(one, other)
                    continue
                told = complaint(one, other, limit, dtype)
                if told is not None:
                    wrong.append(
                        f"{backend.isa} seed {seed} result {number}: {told}; {sizes(call)}"
                    )
    if wrong:
        told = "\n".join(wrong[:20])
        pytest.fail(f"{op} {dtype}: {len(wrong)} complaints\n{told}", pytrace=False)


@pytest.mark.parametrize("seed", range(12))
def test_winograd(seed: int, fast_backend: Any) -> None:
    """Its own terms have the limit, and what it transforms; see the bounds of tests/compare.py."""
    rng = np.random.default_rng(seed)
    x, w = wide(rng, (2, 9, 8, 16), "float32"), wide(rng, (3, 3, 16, 16), "float32")
    dy = wide(rng, (2, 9, 8, 16), "float32")
    backend = FastBackend(isa=fast_backend.isa, convolution="winograd")
    pads = ((1, 1), (1, 1))
    found = backend.conv2d(x, w, padding=1)
    _, dw, _ = backend.conv2d_backward(dy, x, w, padding=1, input_gradient=False)
    call = exact({"dy": dy, "x": x, "w": w})
    expected = reference.conv2d(call["x"], call["w"], padding=1)
    _, expected_dw, _ = reference.conv2d_backward(**call, padding=1, input_gradient=False)
    for one, other, bound, factor, inputs in (
        (found, expected, winograd_bound(x, w, None, pads, F4), gamma(16 + 27, F4), (x, w)),
        (dw, expected_dw, winograd_weights_bound(dy, x, pads, F4), gamma(12 + 29, F4), (x, dy)),
    ):
        terms = np.maximum(bound / factor, 32 * max(float(np.abs(each).max()) for each in inputs))
        told = complaint(one, other, np.where(terms < float(LARGEST), bound, np.inf), "float32")
        assert told is None, f"{told}; {sizes(call)}"


# ---------------------------------------------------------------------- cases by name


def array(*values: float) -> Array:
    return np.array(values, F4)


@pytest.mark.parametrize("exponent", [30, 62, 63, 64, 65, 100, 127])
def test_gradients_where_y_is_beyond_one(exponent: int, fast_backend: Any) -> None:
    """What saturates and what is no output at all: every product on the way fits."""
    y = array(2.0**exponent, 1, 1.25, 0.5, 2.0**-exponent)
    for dy in (2.0 ** (127 - 2 * exponent), 2.0**-149, 1.0, float(LARGEST)):
        for op in ("tanh_backward", "sigmoid_backward"):
            found = getattr(fast_backend, op)(np.full(5, dy, F4), y)
            expected = getattr(reference, op)(np.full(5, dy, F4), y)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-38, err_msg=op)


def test_averages_of_the_largest_numbers(fast_backend: Any) -> None:
    x = np.full((1, 6, 6, 16), LARGEST)
    for options in ({}, {"pool_size": 3}, {"pool_size": 3, "stride": 1, "padding": 1}):
        assert (fast_backend.avg_pool2d(x, **options) == LARGEST).all()
    assert (fast_backend.global_avg_pool2d(x) == LARGEST).all()


def test_elu_backward_next_to_the_largest(fast_backend: Any) -> None:
    x = -np.linspace(0.01, 3, 400, dtype=F4)
    dy = np.full(400, LARGEST)
    found, expected = fast_backend.elu_backward(dy, x), reference.elu_backward(dy, x)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("rate", [1e-300, 1e-40, 1e-13, 1e13, 1e40])
def test_steps_with_options_beyond_float32(rate: float, fast_backend: Any) -> None:
    for size in (1e-30, 1.0, 1e15):
        for op, call in (
            ("sgd_step", {"velocity": array(0, 1, 2), "momentum": 0.9}),
            ("adam_step", {"m": array(0, 1, 2), "v": array(0, 1, 2), "step": 2}),
        ):
            call = {"w": array(0, 0, 1), "dw": array(1, -1, 2) * F4.type(size), **call}
            call["learning_rate"] = rate / size
            found, expected = run(fast_backend, op, call), run(reference, op, call)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1.2e-38, err_msg=op)


# ---------------------------------------------------------------------- the limits
def test_the_limit_of_sgd(fast_backend: Any) -> None:
    """A velocity that float32 holds is right; one beyond it is infinite, and so is its weight."""
    call = {"w": array(0, 0), "velocity": array(LARGEST, LARGEST), "dw": array(1e37, 4e37)}
    call |= {"learning_rate": 0.1, "momentum": 0.9}
    w, velocity = run(fast_backend, "sgd_step", call)
    expected = run(reference, "sgd_step", call)
    np.testing.assert_allclose((w[0], velocity[0]), [each[0] for each in expected], rtol=1e-6)
    assert (w[1], velocity[1]) == (-np.inf, np.inf)


def test_the_limit_of_adam(fast_backend: Any) -> None:
    """A v that float32 holds is right; one beyond it is infinite, and its weight stays."""
    largest = float(np.sqrt(float(LARGEST) / 1e-3))  # 5.8e20
    for decoupled in (False, True):
        call = {"w": array(1, 1), "m": array(0, 0), "v": array(0, 0)}
        call |= {"dw": array(0.999 * largest, 1.001 * largest), "step": 1, "learning_rate": 0.5}
        call |= {"decoupled": decoupled, "weight_decay": 0.5 * decoupled}
        w, m, v = run(fast_backend, "adam_step", call)
        expected = run(reference, "adam_step", call)
        np.testing.assert_allclose((w[0], m[0], v[0]), [each[0] for each in expected], rtol=1e-5)
        assert v[1] == expected[2][1] == np.inf
        assert w[1] == (0.75 if decoupled else 1)


def test_the_limit_of_sums(fast_backend: Any) -> None:
    """Terms that add up to float32's largest number are right; beyond it, not finite or right."""
    x = np.full((1, 1, 1, 4), 2.0**100, F4)
    signs = np.array([1, 1, -1, -1], F4)
    for size, fits in ((2.0**25, True), (2.0**27, False)):
        w = (signs * F4.type(size)).reshape(1, 1, 4, 1)
        for found in (
            fast_backend.conv2d(x, w),
            fast_backend.linear(x.reshape(1, 4), w.reshape(4, 1)),
        ):
            value = found.reshape(())
            assert value == 0 or not (fits or np.isfinite(value))
    # Three windows that share a pixel: their gradients cancel.
    dy = np.array([LARGEST, LARGEST, -LARGEST, -LARGEST], F4).reshape(1, 1, 4, 1)
    argmax = np.array([3, 2, 1, 0], np.uint8).reshape(1, 1, 4, 1)
    for scale, fits in ((0.25, True), (1.0, False)):
        dx = fast_backend.max_pool2d_backward(
            dy * F4.type(scale), argmax, (1, 1, 7, 1), (1, 4), stride=1
        )
        value = dx[0, 0, 3, 0]
        assert value == 0 or not (fits or np.isfinite(value))

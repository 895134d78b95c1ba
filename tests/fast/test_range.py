"""Numbers of every exponent: what the reference can answer, the fast backend answers too.

The reference works in float64. Where a kernel's float32 sums and squares would overflow or vanish
on their way to a result that float32 can hold, something wider must take over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calls import ACTIVATIONS, SAVED, run
from compare import assert_close, assert_results, roundoff, tolerance
from fused_calls import UNFUSED

from fastcnn import reference

EXPONENTS = [-149, -140, -126, -100, -76, -64, -50, -40, -24, 0, 24, 40, 50, 62, 63, 64, 65, 76]
EXPONENTS += [100, 120, 126, 127]
SHAPES = [(7, 12), (2, 3, 2, 7), (2, 6, 4, 16), (3, 6, 6, 64)]
F4 = np.dtype(np.float32)


def draw(rng: Any, shape: tuple[int, ...], exponent: int) -> np.ndarray[Any, Any]:
    """Return float32 numbers of either sign, about as large as 2**exponent."""
    return np.ldexp(rng.uniform(-1, 1, shape), exponent).astype(F4)


def compare(backend: Any, op: str, call: dict[str, Any], about: str) -> tuple[Any, ...]:
    """Check an op against the reference; return its results."""
    found, expected = run(backend, op, call), run(reference, op, call)
    dy = float(np.max(np.abs(call.get("dy", 0.0))))
    assert_results(found, expected, op, F4, f"{op} {about}", largest_dy=dy)
    return expected


@pytest.mark.parametrize("spread", ["all", "one"])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm(shape: tuple[int, ...], spread: str, fast_backend: Any, rng: Any) -> None:
    channels = shape[-1]
    gamma, beta = rng.uniform(0.5, 2, (2, channels)).astype(F4)
    for exponent in EXPONENTS:
        about = f"{shape} {spread} 2**{exponent}"
        x = draw(rng, shape, exponent)
        if spread == "one":  # number of that size among those of a usual one
            x = np.where(np.arange(x.size).reshape(shape) == x.size // 2, x, draw(rng, shape, 0))
        x = x.astype(F4)
        call = {"x": x, "gamma": gamma, "beta": beta}
        _, mean, variance = compare(fast_backend, "batch_norm", call, about)
        compare(
            fast_backend,
            "batch_norm_inference",
            {**call, "mean": mean, "variance": variance},
            about,
        )
        call = {"x": x, "gamma": gamma, "mean": mean, "variance": variance}
        for dy_exponent in (-60, 0, 60, 110):
            call["dy"] = draw(rng, shape, dy_exponent)
            for op in ("batch_norm_backward", "batch_norm_inference_backward"):
                compare_gradients(fast_backend, op, call, f"{about} dy 2**{dy_exponent}")


def compare_gradients(backend: Any, op: str, call: dict[str, Any], about: str) -> None:
    """Check gradients of dy, each next to the largest of the terms that it is made of."""
    found, expected = run(backend, op, call), run(reference, op, call)
    dy = call["dy"].astype(np.float64)
    root = np.sqrt(call["variance"].astype(np.float64) + 1e-5)
    factor = float(np.max(np.abs(call["gamma"].astype(np.float64) / root)))
    axes = tuple(range(dy.ndim - 1))
    x = call["x"].astype(np.float64) - call["mean"].astype(np.float64)
    normal = np.max(np.abs(x / root))
    largest = float(np.max(np.abs(dy)))
    scales = (factor * largest * (1 + normal**2), largest * np.sum(np.abs(x / root), axes).max())
    for one, other, scale in zip(
        found, expected, (*scales, np.sum(np.abs(dy), axes).max()), strict=True
    ):
        u = tolerance(op).of_largest * roundoff(F4)
        with np.errstate(over="ignore"):
            limit = np.float32(scale * u)
        finite = np.isfinite(one) & np.isfinite(other)
        np.testing.assert_array_equal(one[~finite], other[~finite], err_msg=f"{op} {about}")
        np.testing.assert_allclose(
            one[finite].astype(np.float64),
            other[finite].astype(np.float64),
            rtol=u,
            atol=float(limit) + 1.2e-38,
            err_msg=f"{op} {about}",
        )


def test_one_number_of_2_to_the_64(fast_backend: Any, rng: Any) -> None:
    """Wherever it stands, the variance is finite."""
    for place in range(84):
        x = rng.standard_normal((84, 3), np.float32)
        x[place, 1] = 2.0**64
        y, mean, variance = fast_backend.batch_norm(x, np.ones(3, F4), np.zeros(3, F4))
        expected = reference.batch_norm(x, np.ones(3, F4), np.zeros(3, F4))
        for found, wanted in zip((y, mean, variance), expected, strict=True):
            assert np.isfinite(found).all()
            assert_close(found, wanted, "batch_norm")


@pytest.mark.parametrize("pool", [{"pool_size": 1}, {"pool_size": 2}, {"pool_size": (3, 2)}])
@pytest.mark.parametrize("channels", [5, 16, 64])
def test_batch_norm_relu_max_pool2d(channels: int, pool: Any, fast_backend: Any, rng: Any) -> None:
    op, shape = "_batch_norm_relu_max_pool2d", (2, 7, 6, channels)
    gamma, beta = rng.uniform(0.5, 2, (2, channels)).astype(F4)
    for exponent in EXPONENTS:
        about = f"2**{exponent} {pool}"
        x = draw(rng, shape, exponent)
        call = {"x": x, "gamma": gamma, "beta": beta, **pool}
        y, argmax, mean, variance = run(fast_backend, op, call)
        wanted = run(UNFUSED, op, call)
        for found, expected in zip((y, mean, variance), (wanted[0], *wanted[2:]), strict=True):
            assert_close(found, expected, op, about=about)
        if exponent > -24:  # where x is next to nothing, all of a window are beta, nearly
            np.testing.assert_array_equal(argmax, wanted[1], err_msg=about)
        call = {"x": x, "gamma": gamma, "mean": wanted[2], "variance": wanted[3], **pool}
        for dy_exponent in (-60, 0, 60, 110):
            dy = draw(rng, y.shape, dy_exponent)
            back = {"dy": dy, "argmax": wanted[1], **call}
            found_all, expected_all = (
                run(backend, f"{op}_backward", back) for backend in (fast_backend, UNFUSED)
            )
            for found, expected in zip(found_all, expected_all, strict=True):
                scale = float(np.max(np.abs(dy))) * (300 if found.ndim == 4 else 1)
                assert_close(found, expected, f"{op}_backward", scale=scale, about=about)


def test_conv2d_batch_norm_relu_max_pool2d(fast_backend: Any, rng: Any) -> None:
    op = "_conv2d_batch_norm_relu_max_pool2d"
    w = rng.uniform(-0.1, 0.1, (3, 3, 1, 16)).astype(F4)
    b = np.zeros(16, F4)
    gamma, beta = rng.uniform(0.5, 2, (2, 16)).astype(F4)
    for exponent in EXPONENTS:
        call = {"x": draw(rng, (3, 8, 8, 1), exponent), "w": w, "b": b, "gamma": gamma}
        call["beta"] = beta
        y, _, mean, variance = run(fast_backend, op, call)
        wanted = run(UNFUSED, op, {name: each.astype(np.float64) for name, each in call.items()})
        for found, expected in zip((y, mean, variance), (wanted[0], *wanted[2:]), strict=True):
            assert_close(found, expected, op, about=f"2**{exponent}")


@pytest.mark.parametrize("wide", [1e39, -1e39, 1e300, 1e-39, 1e-50, 1e-300, 0.0])
def test_slopes_beyond_float32(wide: float, fast_backend: Any, rng: Any) -> None:
    for exponent in EXPONENTS:
        x, dy = draw(rng, (5, 13), exponent), draw(rng, (5, 13), 0)
        x[0, 0], x[0, 1] = 0.0, -0.0
        dy[0, :5] = 0
        about = f"{wide} 2**{exponent}"
        names = {"leaky_relu": "negative_slope", "elu": "alpha", "celu": "alpha"}
        for op, name in list(names.items())[: 3 if wide > 0 else 2]:
            compare(fast_backend, op, {"x": x, name: wide}, about)
            compare(fast_backend, f"{op}_backward", {"dy": dy, "x": x, name: wide}, about)
            compare(fast_backend, f"{op}_backward", {"dy": x, "x": dy, name: wide}, about)


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_activations(op: str, fast_backend: Any, rng: Any) -> None:
    saved = SAVED[op]
    for exponent in [*EXPONENTS, 3, 5, 7]:
        x = draw(rng, (5, 29), exponent)
        (y,) = compare(fast_backend, op, {"x": x}, f"2**{exponent}")
        for dy_exponent in (-149, -60, 0, 100, 126):
            dy = draw(rng, x.shape, dy_exponent)
            about = f"2**{exponent} dy 2**{dy_exponent}"
            call = {"dy": dy, saved: y if saved == "y" else x}
            compare(fast_backend, f"{op}_backward", call, about)


@pytest.mark.parametrize("dloss", [1.0, 1e-30, 1e40, 1e300])
def test_losses(dloss: float, fast_backend: Any, rng: Any) -> None:
    labels = rng.integers(0, 7, 6)
    for exponent in EXPONENTS:
        x, target = draw(rng, (6, 7), exponent), draw(rng, (6, 7), exponent)
        about = f"2**{exponent}"
        call: dict[str, Any] = {"prediction": x, "target": target}
        loss, expected = (
            fast_backend.mean_squared_error(**call),
            reference.mean_squared_error(**call),
        )
        assert loss == pytest.approx(expected, rel=1e-6, abs=1e-300)
        compare(fast_backend, "mean_squared_error_backward", {"dloss": dloss, **call}, about)
        call = {"logits": x, "labels": labels}
        for op, oracle in (
            ("softmax_cross_entropy", reference),
            ("_cross_entropy_with_gradient", UNFUSED),
        ):
            loss, result = run(fast_backend, op, call)
            expected, wanted = run(oracle, op, call)
            assert loss == pytest.approx(expected, rel=1e-5)
            assert_close(result, wanted, "softmax", scale=1.0, about=about)
        y = reference.softmax(draw(rng, (6, 7), 0))
        compare(fast_backend, "softmax_backward", {"dy": x, "y": y}, about)


def test_adam_with_an_epsilon_below_float32(fast_backend: Any) -> None:
    for epsilon in (1e-40, 1e-50, 1e-300):
        w, m, v = np.ones((3, 4), F4)
        m[:], v[:] = 0, 0
        gradient = np.array([0, 1, -1, 0], F4)
        fast_backend.adam_step(w, gradient, m, v, step=1, learning_rate=0.25, epsilon=epsilon)
        np.testing.assert_allclose(w, [1, 0.75, 1.25, 1], rtol=1e-6)

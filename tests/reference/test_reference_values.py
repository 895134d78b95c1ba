"""What activations, dropout, losses and optimizer steps mean, and what numbers ops take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from calls import ACTIVATIONS
from compare import assert_close, assert_same

INF, NAN = np.inf, np.nan


# ---------------------------------------------------------------------- activations
VALUES = [-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]


def phi(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


FORMULAS = {
    "relu": lambda x: max(x, 0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "clip": lambda x: x,
    "hard_sigmoid": lambda x: min(max(x / 6 + 0.5, 0), 1),
    "hard_swish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x)),
    "celu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * phi(x),
    "silu": lambda x: x * sigma(x),
    "mish": lambda x: x * math.tanh(math.log(1 + math.exp(x))),
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "sigmoid": sigma,
    "tanh": math.tanh,
}


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_activations_follow_their_formulas(backend: Any, dtype: Any, op: str) -> None:
    x = np.array(VALUES * 5, dtype)
    assert_close(getattr(backend, op)(x), [FORMULAS[op](v) for v in VALUES * 5])


@pytest.mark.parametrize("op", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (67,), (3, 5), (2, 3, 4, 5), (1, 2, 1, 2, 3)])
def test_activations_take_any_rank(backend: Any, op: str, shape: tuple[int, ...], rng: Any) -> None:
    x = rng.standard_normal(shape).astype(np.float32)
    y = getattr(backend, op)(x)
    assert_close(y, np.array([FORMULAS[op](float(v)) for v in x.ravel()]).reshape(shape))
    dx = getattr(backend, f"{op}_backward")(y, y)
    assert (dx.shape, dx.dtype) == (shape, np.float32)


@pytest.mark.parametrize("op", [*ACTIVATIONS, "softmax"])
def test_a_nan_stays_one(backend: Any, dtype: Any, op: str) -> None:
    for place in range(37):
        x = np.zeros((37, 2), dtype)
        x[place, 1] = NAN
        y = getattr(backend, op)(x)
        assert np.isnan(y[place, 1])
        assert np.isfinite(np.delete(y, place, axis=0)).all()


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("relu", [0, 0, 1e38, INF]),
        ("leaky_relu", [-INF, -1e36, 1e38, INF]),
        ("clip", [-INF, -1e38, 1e38, INF]),
        ("hard_sigmoid", [0, 0, 1, 1]),
        ("elu", [-1, -1, 1e38, INF]),
        ("selu", [-1.7580993408473769, -1.7580993408473769, 1.0507009873554805e38, INF]),
        ("celu", [-1, -1, 1e38, INF]),
        ("softplus", [0, 0, 1e38, INF]),
        ("sigmoid", [0, 0, 1, 1]),
        ("tanh", [-1, -1, 1, 1]),
    ],
)
def test_activations_of_extremes(backend: Any, dtype: Any, op: str, expected: list[float]) -> None:
    x = np.array([-INF, -1e38, 1e38, INF] * 9, dtype)
    assert_close(getattr(backend, op)(x), np.array(expected * 9))


@pytest.mark.parametrize("op", ["gelu", "silu", "mish", "hard_swish"])
def test_smooth_activations_of_large_numbers(backend: Any, dtype: Any, op: str) -> None:
    x = np.array([-1e30, -1e4, 1e4, 1e30] * 9, dtype)
    expected = np.array([0, 0, 1e4, 1e30] * 9)
    assert_close(getattr(backend, op)(x), expected)
    gradient = getattr(backend, f"{op}_backward")(np.ones_like(x), x)
    assert_close(gradient, np.array([0, 0, 1, 1] * 9))


def test_sigmoid_keeps_its_small_values(backend: Any) -> None:
    """A tail of full relative precision: 1 - (1 - 1e-30) would be 0."""
    x = np.array([-70.0, -40.0, -10.0] * 7)
    np.testing.assert_allclose(backend.sigmoid(x), np.exp(x) / (1 + np.exp(x)), rtol=1e-12)


def test_relu_at_zero_and_nan(backend: Any, dtype: Any) -> None:
    y = backend.relu(np.array([-1, -0.0, 0, 2, NAN, -INF], dtype))
    assert_same(y, [0, 0, 0, 2, NAN, 0])
    assert_same(backend.relu_backward(np.full(6, 3, dtype), y), [0, 0, 0, 3, 3, 0])


def test_gradients_at_zero_are_those_from_below(backend: Any, dtype: Any) -> None:
    zero, dy = np.zeros(3, dtype), np.full(3, 2, dtype)
    assert_close(backend.leaky_relu_backward(dy, zero, negative_slope=0.25), [0.5] * 3)
    assert_close(backend.elu_backward(dy, zero, alpha=0.5), [1] * 3)


def test_slopes(backend: Any, dtype: Any) -> None:
    x = np.array([-2, 2], dtype)
    assert_close(backend.leaky_relu(x, negative_slope=0.25), [-0.5, 2])
    assert_close(backend.elu(x, alpha=3), [3 * (math.exp(-2) - 1), 2])
    assert_close(backend.elu(x, alpha=0), [0, 2])


def test_softmax(backend: Any, dtype: Any) -> None:
    x = np.log(np.array([[1, 2, 5], [2, 2, 4]], dtype))
    assert_close(backend.softmax(x), [[0.125, 0.25, 0.625], [0.25, 0.25, 0.5]])
    assert_close(backend.softmax(x[0]), [0.125, 0.25, 0.625])
    assert_close(backend.softmax(x.reshape(2, 1, 3, 1)), np.ones((2, 1, 3, 1)))
    whole = np.array([[0, 1, 2], [-5, 3, 0]], dtype)
    assert_same(backend.softmax(whole + 1000), backend.softmax(whole))
    extremes = np.array([[3e38, -3e38, 0], [-3e38, -3e38, -3e38]], dtype)
    assert_close(backend.softmax(extremes), [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    assert_close(backend.softmax(np.array([0, -INF], dtype)), [1, 0])


# ---------------------------------------------------------------------- dropout
def test_dropout(backend: Any, dtype: Any) -> None:
    x = np.array([[1, 2, NAN], [INF, 5, 6]], dtype)
    mask = np.array([[True, False, False], [False, True, True]])
    expected = [[4, 0, 0], [0, 20, 24]]
    assert_same(backend.dropout(x, mask, rate=0.75), expected)
    assert_same(backend.dropout_backward(x, mask, rate=0.75), expected)
    assert_same(backend.dropout(x, np.ones_like(mask), rate=0), x)


# ---------------------------------------------------------------------- losses
LOGITS = np.log(np.array([[1.0, 2, 5], [2, 2, 4], [8, 1, 1]]))
P = np.array([[0.125, 0.25, 0.625], [0.25, 0.25, 0.5], [0.8, 0.1, 0.1]])
LABELS = np.array([2, 0, 1])


def test_cross_entropy_is_the_mean_cost(backend: Any, dtype: Any) -> None:
    loss, probabilities = backend.softmax_cross_entropy(LOGITS.astype(dtype), LABELS)
    assert type(loss) is float
    assert loss == pytest.approx(-np.log([0.625, 0.25, 0.1]).mean(), rel=1e-6)
    assert_close(probabilities, P)
    dlogits = backend.softmax_cross_entropy_backward(6.0, probabilities, LABELS)
    assert_close(dlogits, 2 * (P - np.eye(3)[LABELS]))


def test_cross_entropy_with_everything(backend: Any) -> None:
    """By the contract's words: sum of weighted costs over the sum of weights."""
    class_weights, sample_weights = np.array([1.0, 2, 4]), np.array([0.5, 1, 3])
    options = {
        "label_smoothing": 0.3,
        "class_weights": class_weights,
        "sample_weights": sample_weights,
    }
    soft = np.array([[0.0, 0.5, 0.5], [1, 0, 0], [0.25, 0.5, 0.25]])
    for labels, target in [(LABELS, np.eye(3)[LABELS]), (soft, soft)]:
        cost = -(class_weights * (0.7 * target + 0.1) * np.log(P)).sum(1)
        weight = sample_weights * (class_weights * target).sum(1)
        expected = (sample_weights * cost).sum() / weight.sum()
        loss, probabilities = backend.softmax_cross_entropy(LOGITS, labels, **options)
        assert loss == pytest.approx(expected, rel=1e-12)
        share = class_weights * (0.7 * target + 0.1) * sample_weights[:, None] / weight.sum()
        dlogits = backend.softmax_cross_entropy_backward(1.0, probabilities, labels, **options)
        assert_close(dlogits, P * share.sum(1, keepdims=True) - share)


def test_one_hot_labels_are_labels(backend: Any, dtype: Any) -> None:
    logits = LOGITS.astype(dtype)
    loss, _ = backend.softmax_cross_entropy(logits, LABELS)
    for one_hot in (np.eye(3, dtype=dtype)[LABELS], np.eye(3, dtype=np.int64)[LABELS]):
        assert backend.softmax_cross_entropy(logits, one_hot)[0] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u4", "i8", "u8", ">i4", ">u2"])
def test_labels_of_any_integer_dtype(backend: Any, kind: str) -> None:
    expected, _ = backend.softmax_cross_entropy(LOGITS, LABELS)
    assert backend.softmax_cross_entropy(LOGITS, LABELS.astype(kind))[0] == expected
    assert backend.softmax_cross_entropy(LOGITS, LABELS.tolist())[0] == expected


def test_cross_entropy_is_stable_for_any_logits(backend: Any, dtype: Any) -> None:
    logits = np.array([[1e30, 0, -1e30], [1e4, 1e4, -1e4], [-1e30, -1e30, -1e30]], dtype)
    loss, probabilities = backend.softmax_cross_entropy(logits, np.array([0, 1, 2]))
    assert loss == pytest.approx((0 + math.log(2) + math.log(3)) / 3, rel=1e-6)
    assert_close(probabilities, [[1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])
    loss, _ = backend.softmax_cross_entropy(logits[:1], np.array([1]))
    assert loss == pytest.approx(1e30, rel=1e-6)


def test_a_class_that_does_not_count_costs_nothing(backend: Any, dtype: Any) -> None:
    logits = np.array([[0, 0, -INF]], dtype)
    loss, probabilities = backend.softmax_cross_entropy(logits, np.array([1]))
    assert loss == pytest.approx(math.log(2), rel=1e-6)
    assert_close(probabilities, [[0.5, 0.5, 0]])
    dlogits = backend.softmax_cross_entropy_backward(1.0, probabilities, np.array([1]))
    assert_close(dlogits, [[0.5, -0.5, 0]])


def test_a_nan_shows_in_the_loss(backend: Any) -> None:
    loss, probabilities = backend.softmax_cross_entropy(np.array([[0, NAN], [0, 0]]), [0, 0])
    assert math.isnan(loss)
    assert_same(probabilities[1], [0.5, 0.5])


def test_the_loss_is_summed_in_float64(backend: Any) -> None:
    n = 3000
    logits = np.zeros((n, 2), np.float32)
    logits[0, 1] = 3e7
    loss, _ = backend.softmax_cross_entropy(logits, np.zeros(n, np.int64))
    assert loss == pytest.approx((3e7 + (n - 1) * math.log(2)) / n, rel=1e-7)


def test_mean_squared_error(backend: Any, dtype: Any) -> None:
    prediction = np.array([[1, 2], [3, 4], [5, 6]], dtype)
    target = np.array([[1, 0], [0, 4], [1, 7]], dtype)
    loss = backend.mean_squared_error(prediction, target)
    assert type(loss) is float
    assert loss == 5
    gradient = backend.mean_squared_error_backward(3.0, prediction, target)
    assert_close(gradient, prediction - target)
    assert backend.mean_squared_error(prediction[0, 0], target[1, 1]) == 9


# ---------------------------------------------------------------------- optimizers
def test_sgd_keeps_the_learning_rate_out_of_its_buffer(backend: Any, dtype: Any) -> None:
    w, velocity = np.array([1, 2], dtype), np.array([4, -8], dtype)
    dw = np.array([2, 4], dtype)
    backend.sgd_step(w, dw, velocity, learning_rate=0.5, momentum=0.5)
    assert_same(velocity, [4, 0])
    assert_same(w, [-1, 2])
    backend.sgd_step(w, dw, velocity, learning_rate=0.25, momentum=0.5, nesterov=True)
    assert_same(velocity, [4, 4])  # g + momentum * velocity = [4, 6]
    assert_same(w, [-2, 0.5])


def test_sgd_without_momentum(backend: Any, dtype: Any) -> None:
    w, dw = np.array([[1, 2], [3, 4]], dtype), np.array([[1, 1], [2, 2]], dtype)
    assert backend.sgd_step(w, dw, None, learning_rate=0.5, weight_decay=2.0) is None
    assert_same(w, [[-0.5, -0.5], [-1, -1]])
    assert_same(dw, [[1, 1], [2, 2]])


def adam(w: Any, dw: Any, m: Any, v: Any, step: int, decay: float, decoupled: bool) -> Any:
    """Adam's step in float64 by the paper's formulas."""
    g = dw if decoupled else dw + decay * w
    if decoupled:
        w = w * (1 - 0.1 * decay)
    m, v = 0.9 * m + (1 - 0.9) * g, 0.99 * v + (1 - 0.99) * g**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.99**step)
    return w - 0.1 * m_hat / (np.sqrt(v_hat) + 1e-3), m, v


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam(backend: Any, dtype: Any, decoupled: bool, decay: float, rng: Any) -> None:
    w, m, v = (rng.standard_normal((5, 7)).astype(dtype) for _ in range(3))
    v = v**2
    exact = tuple(a.astype(np.float64) for a in (w, m, v))
    for step in range(1, 6):
        dw = rng.standard_normal((5, 7)).astype(dtype)
        exact = adam(exact[0], dw.astype(np.float64), *exact[1:], step, decay, decoupled)
        backend.adam_step(
            w,
            dw,
            m,
            v,
            step=step,
            learning_rate=0.1,
            beta2=0.99,
            epsilon=1e-3,
            weight_decay=decay,
            decoupled=decoupled,
        )
        for found, expected in zip((w, m, v), exact, strict=True):
            assert_close(found, expected, "adam_step")


def test_adam_first_step_is_the_learning_rate(backend: Any, dtype: Any) -> None:
    w, m, v = np.zeros((3, 4), dtype)
    backend.adam_step(w, np.array([1e-3, -1, 5, 0], dtype), m, v, step=1, learning_rate=0.5)
    np.testing.assert_allclose(w, [-0.5, 0.5, -0.5, 0], rtol=2e-5)


# ---------------------------------------------------------------------- numbers
def test_results_keep_the_dtype(backend: Any, dtype: Any) -> None:
    x, w = np.ones((2, 4, 4, 2), dtype), np.ones((3, 3, 2, 2), dtype)
    y = backend.conv2d(x, w)
    results = [
        *backend.conv2d_backward(y, x, w),
        backend.max_pool2d(x)[0],
        backend.global_avg_pool2d(x),
        *backend.batch_norm(x, np.ones(2, dtype), np.ones(2, dtype)),
        backend.softmax_cross_entropy(np.ones((3, 4), dtype), [0, 1, 2])[1],
        backend.softmax_cross_entropy_backward(1.0, np.ones((3, 4), dtype), [0, 1, 2]),
    ]
    assert [result.dtype for result in [y, *results]] == [dtype] * (1 + len(results))


def test_integers_take_the_dtype_of_the_others(backend: Any, dtype: Any) -> None:
    x = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    w = np.ones((2, 2, 1, 1), dtype)
    y = backend.conv2d(x, w, [True])
    assert y.dtype == dtype
    assert_same(y, backend.conv2d(x.astype(dtype), w, np.ones(1, dtype)))
    assert backend.conv2d(x, w.astype(np.int64)).dtype == np.float32
    half = backend.conv2d(x.astype(np.float16), w)
    assert half.dtype == dtype
    assert_same(backend.relu([[-1, 2]]), np.array([[0, 2]], np.float32))
    assert backend.relu([True]).dtype == np.float32
    assert backend.relu([1.5]).dtype == np.float64


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """The same numbers in memory in every way that NumPy has."""
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    read_only = x.copy()
    read_only.flags.writeable = False
    gaps = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    gaps[..., ::2] = x
    return {
        "fortran": np.asfortranarray(x),
        "swapped bytes": x.astype(x.dtype.newbyteorder("S")),
        "unaligned": unaligned,
        "read-only": read_only,
        "gaps": gaps[..., ::2],
        "backwards": x[::-1].copy()[::-1],
        "broadcast": np.broadcast_to(x, (1, *x.shape))[0],
        "subclass": x.view(type("Subclass", (np.ndarray,), {})),
    }


@pytest.mark.parametrize("layout", layouts(np.zeros((1, 1))))
def test_any_layout_and_inputs_stay(backend: Any, dtype: Any, layout: str, rng: Any) -> None:
    x = rng.integers(-5, 6, (3, 6, 5, 4)).astype(dtype)
    w = rng.integers(-5, 6, (3, 2, 4, 4)).astype(dtype)
    b = rng.integers(-5, 6, (4,)).astype(dtype)
    y = backend.conv2d(x, w, b)
    rows = x.reshape(-1, 4)
    calls = [
        (lambda x, w, b: (backend.conv2d(x, w, b),), (x, w, b)),
        (lambda dy, x, w: backend.conv2d_backward(dy, x, w), (y, x, w)),
        (lambda x: backend.max_pool2d(x), (x,)),
        (lambda x: (backend.avg_pool2d(x, 2),), (x,)),
        (lambda x: (backend.global_avg_pool2d(x),), (x,)),
        (lambda x, g, b: backend.batch_norm(x, g, b), (x, b, b)),
        (lambda x, w, b: (backend.linear(x, w, b),), (rows, rows[:4], b)),
        (lambda dy, x, w: backend.linear_backward(dy, x, w), (rows, rows, rows[:4])),
        (lambda x: (backend.relu(x), backend.silu(x), backend.softmax(x)), (x,)),
        (lambda dy, y: (backend.relu_backward(dy, y), backend.tanh_backward(dy, y)), (x, x[::-1])),
        (lambda z: backend.softmax_cross_entropy(z, np.arange(len(rows)) % 4)[1:], (rows,)),
        (lambda p, t: (backend.mean_squared_error_backward(1.0, p, t),), (x, x[::-1])),
    ]
    for call, arguments in calls:
        expected = call(*arguments)
        given = [layouts(argument)[layout] for argument in arguments]
        before = [argument.tobytes() for argument in given]
        results = call(*given)
        for result, same in zip(results, expected, strict=True):
            assert_same(result, same)
            assert type(result) is np.ndarray
            assert result.dtype.isnative
            assert result.flags.writeable
            assert not any(np.shares_memory(result, argument) for argument in given)
        assert [argument.tobytes() for argument in given] == before


def test_results_are_fresh_even_where_nothing_changes(backend: Any, dtype: Any) -> None:
    x = np.ones((1, 2, 2, 3), dtype)
    ones = np.ones(x.shape, bool)
    for y in (
        backend.relu(x),
        backend.relu_backward(x, x),
        backend.dropout(x, ones, rate=0.0),
        backend.max_pool2d(x, 1)[0],
        backend.avg_pool2d(x, 1),
        backend.leaky_relu(x),
    ):
        assert_same(y, x)
        assert not np.shares_memory(y, x)

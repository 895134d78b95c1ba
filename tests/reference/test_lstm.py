"""What a long short-term memory means, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_array, assert_close, assert_same_bits

from fastcnn import FastBackend

SIZES = [(2, 4, 3, 5), (1, 1, 1, 1), (3, 7, 17, 9), (7, 2, 4, 16), (0, 3, 2, 4)]  # N, T, C, K


def draw(rng: Any, dtype: Any, n: int, t: int, c: int, k: int) -> dict[str, Any]:
    shapes = {"x": (n, t, c), "w": (c, 4 * k), "r": (k, 4 * k), "b": (4 * k,)}
    shapes |= {"h0": (n, k), "c0": (n, k)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def call(backend: Any, given: dict[str, Any], **options: Any) -> Any:
    return backend.lstm(**{**given, **options})


def sigmoid(z: float) -> float:
    return float(1 / (1 + np.exp(-z)))


def test_two_steps_by_hand(backend: Any, dtype: Any) -> None:
    """One unit, each gate with a number of its own: no two can change places."""
    w, r, b = [0.5, -1.0, 2.0, 0.25], [1.0, 0.5, -0.5, 2.0], [0.125, 1.0, -1.0, 0.5]
    h = c = 0.0
    expected = []
    for x in (1.0, -2.0):
        i, f, g, o = (w[at] * x + r[at] * h + b[at] for at in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        expected.append(h)
    xs = np.array([1, -2], dtype).reshape(1, 2, 1)
    weights = np.array([w], dtype), np.array([r], dtype), np.array(b, dtype)
    y, last_h, last_c = backend.lstm(xs, *weights)
    assert_close(y, np.reshape(expected, (1, 2, 1)))
    assert_close(last_h, np.array([[h]]))
    assert_close(last_c, np.array([[c]]))
    y, last_h, last_c = backend.lstm(xs[:, ::-1], *weights, reverse=True)
    assert_close(y, np.reshape(expected[::-1], (1, 2, 1)))
    assert_close(last_h, np.array([[h]]))


def test_gates_that_are_shut_or_open(backend: Any, dtype: Any) -> None:
    """An open forget gate keeps what c was, a shut output gate shows none of it."""
    k, far = 3, 1e4
    x = np.ones((2, 4, 1), dtype)
    zeros = np.zeros((1, 4 * k), dtype), np.zeros((k, 4 * k), dtype)
    c0 = np.arange(2 * k, dtype=dtype).reshape(2, k)
    b = np.repeat(np.array([-far, far, 0, -far], dtype), k)
    y, h, c = backend.lstm(x, *zeros, b, c0=c0)
    assert (y == 0).all()
    assert (h == 0).all()
    np.testing.assert_array_equal(c, c0)
    b = np.repeat(np.array([far, far, far, far], dtype), k)
    _, _, c = backend.lstm(x, *zeros, b, c0=c0)
    np.testing.assert_array_equal(c, c0 + 4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reverse", [False, True])
def test_pytorch(size: Any, reverse: bool, backend: Any, dtype: Any, rng: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")
    n, _, c, k = size
    if n == 0:
        return  # which PyTorch refuses
    given = draw(rng, dtype, *size)
    judge = torch.nn.LSTM(c, k, batch_first=True, dtype=torch.float64)
    wide = {name: torch.tensor(array.astype("f8")) for name, array in given.items()}
    state = {"weight_ih_l0": wide["w"].T, "weight_hh_l0": wide["r"].T, "bias_ih_l0": wide["b"]}
    judge.load_state_dict({**state, "bias_hh_l0": torch.zeros(4 * k)})
    flip = [1] if reverse else []
    with torch.no_grad():
        ty, (th, tc) = judge(wide["x"].flip(flip), (wide["h0"][None], wide["c0"][None]))
    y, h, c = call(backend, given, reverse=reverse)
    assert_close(y, ty.flip(flip).numpy())
    assert_close(h, th[0].numpy())
    assert_close(c, tc[0].numpy())


def test_onnx_runtime(backend: Any, rng: Any) -> None:
    """Whose gates are i, o, f and c, and whose weights stand in rows."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: no outside judge")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: no judge")
    n, t, c, k = 3, 5, 4, 6
    ways = [draw(rng, np.float32, n, t, c, k) for _ in range(2)]
    x = ways[0]["x"]

    def theirs(array: Any) -> Any:
        i, f, g, o = np.split(array, 4, axis=-1)
        return np.concatenate([i, o, f, g], axis=-1)

    stacked = {
        "w": np.stack([theirs(way["w"]).T for way in ways]),
        "r": np.stack([theirs(way["r"]).T for way in ways]),
        "b": np.stack([np.concatenate([theirs(way["b"]), np.zeros(4 * k, "f4")]) for way in ways]),
        "h": np.stack([way["h0"] for way in ways]),
        "c": np.stack([way["c0"] for way in ways]),
    }
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node(
        "LSTM",
        ["x", "w", "r", "b", "", "h", "c"],
        ["y", "yh", "yc"],
        hidden_size=k,
        direction="bidirectional",
    )
    given = [helper.make_tensor(name, kind, a.shape, a) for name, a in stacked.items()]
    results = [helper.make_tensor_value_info(name, kind, None) for name in ("y", "yh", "yc")]
    steps = helper.make_tensor_value_info("x", kind, (t, n, c))
    graph = helper.make_graph([node], "lstm", [steps], results, given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    ty, th, tc = session.run(None, {"x": np.ascontiguousarray(x.transpose(1, 0, 2))})
    for at, way in enumerate(ways):
        y, h, last = call(backend, {**way, "x": x}, reverse=at == 1)
        for found, expected in ((y, ty[:, at].transpose(1, 0, 2)), (h, th[at]), (last, tc[at])):
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_left_out_is_zero(size: Any, backend: Any, dtype: Any, rng: Any) -> None:
    given = draw(rng, dtype, *size)
    zeros = {name: np.zeros_like(given[name]) for name in ("b", "h0", "c0")}
    plain = call(backend, {name: given[name] for name in ("x", "w", "r")}, b=None)
    assert_same_bits(plain, call(backend, given, **zeros))
    n, t, _, k = size
    for result, shape in zip(plain, ((n, t, k), (n, k), (n, k)), strict=True):
        assert_array(result, shape, dtype)


def test_a_sequence_in_two_parts(backend: Any, dtype: Any, rng: Any) -> None:
    """The state of the first part is where the second begins."""
    given = draw(rng, dtype, 3, 6, 4, 5)
    y, h, c = call(backend, given)
    first, h1, c1 = call(backend, given, x=given["x"][:, :2])
    second, h2, c2 = call(backend, given, x=given["x"][:, 2:], h0=h1, c0=c1)
    assert_close(np.concatenate([first, second], axis=1), y)
    assert_close(h2, h)
    assert_close(c2, c)


@pytest.mark.parametrize("units", [4, 96])
def test_any_batch_and_any_number_of_threads(units: int, fast_backend: Any, rng: Any) -> None:
    serial, *others = (FastBackend(fast_backend.isa, threads) for threads in (1, 2, 3, 8))
    given = draw(rng, np.float32, 9, 5, 33, units)
    results = call(serial, given)
    for backend in others:
        assert_same_bits(call(backend, given), results)
    for part in (slice(2, 3), slice(0, 2), slice(4, 9)):
        own = {name: given[name][part] for name in ("x", "h0", "c0")}
        expected = tuple(each[part].copy() for each in results)
        assert_same_bits(call(serial, {**given, **own}), expected)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": np.ones((2, 3), "f4")}, ValueError, "x: expected an array of rank 3"),
        ({"x": np.ones((2, 0, 4), "f4")}, ValueError, "x: expected"),
        ({"w": np.ones((3, 8), "f4")}, ValueError, r"w: expected shape \(4, 8\)"),
        ({"w": np.ones((4, 9), "f4")}, ValueError, r"w: expected shape \(4, 8\)"),
        ({"r": np.ones((2, 9), "f4")}, ValueError, r"r: expected shape \(K, 4 \* K\)"),
        ({"r": np.ones((0, 0), "f4")}, ValueError, "r: expected shape"),
        ({"b": np.ones(2, "f4")}, ValueError, r"b: expected shape \(8,\)"),
        ({"h0": np.ones((1, 2), "f4")}, ValueError, r"h0: expected shape \(3, 2\)"),
        ({"c0": np.ones((3, 4), "f4")}, ValueError, r"c0: expected shape \(3, 2\)"),
        ({"c0": np.ones((3, 2), "f8")}, TypeError, "c0: expected float32"),
        ({"reverse": 1}, TypeError, "reverse: expected True or False, got int 1"),
    ],
)
def test_wrong_calls(changes: Any, error: Any, message: str, backend: Any) -> None:
    given: dict[str, Any] = {
        "x": np.ones((3, 5, 4), "f4"),
        "w": np.ones((4, 8), "f4"),
        "r": np.ones((2, 8), "f4"),
    }
    with pytest.raises(error, match=f"^lstm: {message}"):
        backend.lstm(**{**given, **changes})

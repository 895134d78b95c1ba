"""Optimizers: PyTorch's steps, the state they keep, clipping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcnn import FastBackend, nn, optim

OPTIMIZERS = {
    "sgd": (lambda: optim.SGD(0.1), lambda t, p: t.SGD(p, 0.1)),
    "momentum": (lambda: optim.SGD(0.1, momentum=0.9), lambda t, p: t.SGD(p, 0.1, momentum=0.9)),
    "nesterov": (
        lambda: optim.SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.01),
        lambda t, p: t.SGD(p, 0.1, momentum=0.8, nesterov=True, weight_decay=0.01),
    ),
    "adam": (lambda: optim.Adam(), lambda t, p: t.Adam(p)),
    "adam-decay": (
        lambda: optim.Adam(0.02, beta1=0.8, beta2=0.99, epsilon=1e-6, weight_decay=0.1),
        lambda t, p: t.Adam(p, 0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1),
    ),
    "adamw": (lambda: optim.AdamW(0.02), lambda t, p: t.AdamW(p, 0.02)),
}


def parameters_of(arrays: dict[str, Any]) -> dict[str, nn.Parameter]:
    parameters = {}
    for name, array in arrays.items():
        parameter = nn.Parameter(array.shape, lambda rng, array=array: array)
        parameter.fill(np.random.default_rng(0), array.dtype)
        parameters[name] = parameter
    return parameters


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_six_steps_of_pytorch(name: str, backend: Any, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    make, make_twin = OPTIMIZERS[name]
    arrays = {"0.weight": rng.standard_normal((5, 3)), "0.bias": rng.standard_normal(3)}
    twins = {key: torch.tensor(array.copy(), requires_grad=True) for key, array in arrays.items()}
    parameters = parameters_of(arrays)
    optimizer, twin = make(), make_twin(torch.optim, twins.values())
    state = optimizer.init(parameters)
    for step in range(1, 7):
        for key, parameter in parameters.items():
            parameter.grad = rng.standard_normal(parameter.shape)
            twins[key].grad = torch.tensor(parameter.grad.copy())
        optimizer.step(parameters, state, backend, step=step, learning_rate=optimizer.learning_rate)
        twin.step()
    for key, parameter in parameters.items():
        np.testing.assert_allclose(
            parameter.data, twins[key].detach().numpy(), rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_has_the_shapes_it_says(name: str) -> None:
    parameters = parameters_of({"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float32)})
    optimizer = OPTIMIZERS[name][0]()
    state = optimizer.init(parameters)
    assert {key: array.shape for key, array in state.items()} == optimizer.state_shapes(parameters)
    assert all(array.dtype == np.float32 and not array.any() for array in state.values())
    assert name == "sgd" or len(state) in (2, 4)


def test_decoupled_decay_keeps_weights_out_of_the_state(backend: Any) -> None:
    """0 * w is NaN where w is infinite, and the moments would never get rid of it."""
    parameters = parameters_of({"a": np.array([np.inf, 1.0])})
    parameters["a"].grad = np.ones(2)
    optimizer = optim.AdamW(0.1)
    state = optimizer.init(parameters)
    optimizer.step(parameters, state, backend, step=1, learning_rate=0.1)
    assert all(np.isfinite(array).all() for array in state.values())
    assert parameters["a"].data[0] == np.inf


def test_learning_rate_is_that_of_the_call(backend: Any) -> None:
    parameters = parameters_of({"a": np.ones(2)})
    parameters["a"].grad = np.ones(2)
    optim.SGD(0.5).step(parameters, {}, backend, step=1, learning_rate=0.25)
    np.testing.assert_array_equal(parameters["a"].data, [0.75, 0.75])


def test_missing_gradient_stops_before_any_change(backend: Any) -> None:
    parameters = parameters_of({"a": np.ones(2), "b": np.ones(2)})
    parameters["a"].grad = np.ones(2)
    for optimizer in (optim.SGD(0.5), optim.Adam()):
        state = optimizer.init(parameters)
        with pytest.raises(ValueError, match="b: expected a gradient, got none"):
            optimizer.step(parameters, state, backend, step=1, learning_rate=0.5)
    np.testing.assert_array_equal(parameters["a"].data, [1, 1])


def many_parameters(rng: np.random.Generator, dtype: Any) -> dict[str, nn.Parameter]:
    """Small arrays, some of several blocks, and enough in all for more than one thread."""
    shapes = [(3, 3, 1, 32), (32,), (1,), (300, 350), (4096,), (4097,), (1, 9000), *[(7,)] * 90]
    parameters = parameters_of(
        {str(i): rng.standard_normal(shape).astype(dtype) for i, shape in enumerate(shapes)}
    )
    for parameter in parameters.values():
        parameter.grad = rng.standard_normal(parameter.shape).astype(dtype)
    return parameters


class OneByOne:
    """A backend that hands calls on, and has no call for all parameters at once."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return getattr(self.backend, name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_parameters_at_once_have_the_bits_of_one_by_one(
    name: str, dtype: Any, rng: np.random.Generator, fast_backend: Any
) -> None:
    optimizer = OPTIMIZERS[name][0]()
    parameters = many_parameters(rng, dtype)
    start = {key: parameter.data.copy() for key, parameter in parameters.items()}

    def steps(backend: Any) -> list[Any]:
        state = optimizer.init(parameters)
        for key, parameter in parameters.items():
            parameter.data = start[key].copy()
        for step in (1, 2, 3):
            optimizer.step(parameters, state, backend, step=step, learning_rate=0.1)
        return [*(parameter.data for parameter in parameters.values()), *state.values()]

    alone = OneByOne(FastBackend(fast_backend.isa, num_threads=1))
    expected = steps(alone)
    assert alone.calls == 3 * len(parameters)
    for threads in (1, 2, 3, 8):
        for one, other in zip(steps(FastBackend(fast_backend.isa, threads)), expected, strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_odd_parameter_among_others(
    name: str, rng: np.random.Generator, fast_backend: Any
) -> None:
    """What the kernel does not take as it is gets its step, or an error before any step."""
    optimizer = OPTIMIZERS[name][0]()
    odd = {"a": np.ones(5000), "b": np.ones((0, 3)), "c": np.ones((30, 2)).T, "d": np.ones(3)}
    for last in odd:
        parameters = parameters_of({key: odd[key] for key in ("a", last)})
        for key, parameter in parameters.items():
            parameter.data = odd[key].copy() if key == "a" else odd[key]
            parameter.grad = np.full(odd[key].shape, 0.5)
        state = optimizer.init(parameters)
        if last == "d":
            parameters["d"].data.flags.writeable = False
        if last == "d":
            with pytest.raises(ValueError, match="d: expected weights that are C-contiguous and w"):
                optimizer.step(parameters, state, fast_backend, step=1, learning_rate=0.5)
            assert (parameters["a"].data == 1).all()
        else:
            optimizer.step(parameters, state, fast_backend, step=1, learning_rate=0.5)
            assert (parameters["a"].data < 1).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_that_share_weights_take_their_steps_in_turn(name: str) -> None:
    """Two threads that wrote to them at once would lose what one of them wrote."""
    weights = np.ones((300, 600), np.float32)
    gradients = np.random.default_rng(0).random((3, *weights.shape), np.float32)

    def trained(num_threads: int) -> Any:
        kept = weights.copy()
        parameters = parameters_of({"a": weights, "b": weights, "c": weights[:200]})
        for each, gradient in zip(parameters.values(), gradients, strict=True):
            each.data, each.grad = kept[: each.shape[0]], gradient[: each.shape[0]]
        optimizer = OPTIMIZERS[name][0]()
        state, backend = optimizer.init(parameters), FastBackend(num_threads=num_threads)
        for step in range(1, 4):
            optimizer.step(parameters, state, backend, step=step, learning_rate=0.1)
        return kept

    one = trained(1)
    for _ in range(20):
        assert (trained(2) == one).all()


def test_clip_gradients_is_pytorchs(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    for limit in (0.5, 100.0):
        gradients = {"a": rng.standard_normal((3, 2)), "b": rng.standard_normal(4)}
        parameters = parameters_of(gradients)
        twins = []
        for name, gradient in gradients.items():
            parameters[name].grad = gradient.copy()
            twin = torch.zeros(gradient.shape, dtype=torch.float64)
            twin.grad = torch.tensor(gradient)
            twins.append(twin)
        norm = optim.clip_gradients(parameters, limit)
        assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(twins, limit)))
        for (name, gradient), twin in zip(gradients.items(), twins, strict=True):
            clipped = parameters[name].grad
            assert clipped is not None
            np.testing.assert_allclose(clipped, twin.grad.numpy(), rtol=1e-5)
            if limit > 10:
                np.testing.assert_array_equal(clipped, gradient)


def test_clip_gradients_refuses_what_is_not_finite() -> None:
    parameters = parameters_of({"a": np.ones(2)})
    parameters["a"].grad = np.array([1.0, np.nan])
    with pytest.raises(FloatingPointError, match="clip_norm: expected gradients of a finite norm"):
        optim.clip_gradients(parameters, 1.0)
    assert parameters["a"].grad[0] == 1.0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optim.SGD(-0.1), ValueError, "SGD: learning_rate"),
        (lambda: optim.SGD(float("nan")), ValueError, "SGD: learning_rate"),
        (lambda: optim.SGD("0.1"), TypeError, "SGD: learning_rate: expected a number, got str"),
        (lambda: optim.SGD(0.1, momentum=1.0), ValueError, r"SGD: momentum: .* in \[0, 1\)"),
        (lambda: optim.SGD(0.1, nesterov=True), ValueError, "SGD: nesterov: expected a momentum"),
        (lambda: optim.SGD(0.1, weight_decay=-1), ValueError, "SGD: weight_decay"),
        (lambda: optim.SGD(0.1, clip_norm=0), ValueError, "SGD: clip_norm"),
        (lambda: optim.Adam(beta1=1.0), ValueError, "Adam: beta1"),
        (lambda: optim.AdamW(beta2=-0.1), ValueError, "AdamW: beta2"),
        (lambda: optim.Adam(epsilon=0.0), ValueError, "Adam: epsilon"),
    ],
)
def test_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_repr_shows_the_settings() -> None:
    assert repr(optim.SGD(0.1, momentum=0.9)).startswith("SGD(learning_rate=0.1, ")


@pytest.mark.parametrize("make", [lambda **o: optim.SGD(0.1, momentum=0.9, **o), optim.Adam])
def test_rates_of_layers(make: Any, backend: Any) -> None:
    """A factor for a name holds for all below it, unless a longer name says otherwise."""

    def weights(**options: Any) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        made = {}
        for name in ("0.weight", "1.0.weight", "1.1.weight", "10.weight"):
            made[name] = nn.Parameter((3,), lambda rng: np.zeros(3))
            made[name].data = np.zeros(3)
            made[name].grad = rng.normal(size=3)
        optimizer = make(**options)
        state = optimizer.renewed(made, {})
        optimizer.step(made, state, backend, step=1, learning_rate=optimizer.learning_rate)
        return {name: parameter.data for name, parameter in made.items()}

    plain = weights()
    found = weights(layer_rates={"1": 0.5, "1.1": 0.0})
    for name, factor in (("0", 1), ("1.0", 0.5), ("1.1", 0), ("10", 1)):
        expected = plain[f"{name}.weight"] * factor
        np.testing.assert_allclose(found[f"{name}.weight"], expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"layer_rates: expected names that .* got '2'"):
        weights(layer_rates={"2": 0.5})
    for wrong in (0.5, ["0"], {0: 1.0}):
        with pytest.raises(TypeError, match="layer_rates: expected a mapping"):
            make(layer_rates=wrong)
    with pytest.raises(
        ValueError, match=r"layer_rates: 0: expected a finite number in \[0, inf\], got -1.0"
    ):
        make(layer_rates={"0": -1.0})

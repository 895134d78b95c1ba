"""Programs: what they say, that they compute what models compute, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers import IDS, LAYERS
from trainers import every_kind

import fastcnn
from fastcnn import losses, nn
from fastcnn.fast._fusions import TRAINING
from fastcnn.fast._plan import Plan
from fastcnn.program import Interpreter, differentiate, trace
from fastcnn.program.match import fuse
from fastcnn.program.ops import OPS, backward_name, parameters_of


def built(make: Any, shape: tuple[int, ...], dtype: Any = np.float64) -> nn.Module:
    model: nn.Module = make()
    model.build(shape, np.random.default_rng(3), dtype)
    for name, variable in model.variables().items():
        variable.data += np.random.default_rng(len(name)).uniform(0.1, 0.3, variable.shape)
    return model


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=IDS)
def test_every_layer_has_the_bits_of_its_forward_and_backward(
    make: Any, shape: tuple[int, ...], training: bool, backend: Any, dtype: Any
) -> None:
    model = built(make, shape, dtype)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, *shape)).astype(dtype)
    traced = trace(model, 3, training=training)
    program = differentiate(traced, ["x", *model.parameters()])
    run = Interpreter(program, backend)
    (y,) = run.forward(x, rng=np.random.default_rng(5))
    updates = {name: buffer.update for name, buffer in model.buffers().items()}
    for buffer in model.buffers().values():
        buffer.update = None
    expected, backward = model.forward(x, backend, training=training, rng=np.random.default_rng(5))
    np.testing.assert_array_equal(y, expected)
    for name, buffer in model.buffers().items():
        if training:
            np.testing.assert_array_equal(updates[name], buffer.update)
        else:
            assert buffer.update is None
    dy = rng.normal(size=y.shape).astype(dtype)
    dx = backward(dy)
    gradients = run.backward(dy)
    np.testing.assert_array_equal(gradients.pop("x"), dx)
    assert set(gradients) == set(model.parameters())
    for name, parameter in model.parameters().items():
        np.testing.assert_array_equal(gradients[name], parameter.grad, err_msg=name)


def test_every_op_and_its_backward_op_are_in_the_contract() -> None:
    for op, row in OPS.items():
        known = parameters_of(op)
        assert set(row.gradients) <= set(known.arrays), op
        if not row.gradients or "gradient" in row.results:
            continue
        back = parameters_of(backward_name(op))
        sources = {"dy", *known.arrays, *row.results}
        assert set(back.arrays) <= sources, op
        shapes = {f"{name}_shape" for name in known.arrays} | {"shapes"}
        given = {"dloss", "input_gradient", "weight_gradient", *shapes, *known.options}
        assert set(back.options) <= given, op


def test_a_program_can_be_read() -> None:
    model = built(
        lambda: nn.Sequential(
            [
                nn.Conv2D(4, 3, padding="same", activation="relu"),
                nn.BatchNorm(momentum=0.5),
                nn.GlobalAvgPool2D(),
                nn.Dropout(0.5),
                nn.Dense(3),
            ]
        ),
        (5, 5, 2),
    )
    program = trace(
        model,
        2,
        training=True,
        loss=losses.CrossEntropy(),
        target=((2,), np.dtype(np.int64)),
    )
    text = [line.split("  ")[0] for line in str(differentiate(program, ["4.bias"])).splitlines()]
    assert text == [
        "x",
        "target",
        "0.conv2d = conv2d(x, 0.weight, 0.bias, padding='same')",
        "0.relu = relu(0.conv2d)",
        "1.batch_norm, 1.mean, 1.variance = batch_norm(0.relu, 1.gamma, 1.beta)",
        "2.global_avg_pool2d = global_avg_pool2d(1.batch_norm)",
        "3.dropout_mask = dropout_mask(shape=(2, 4), rate=0.5)",
        "3.dropout = dropout(2.global_avg_pool2d, 3.dropout_mask, rate=0.5)",
        "4.linear = linear(3.dropout, 4.weight, 4.bias)",
        "1.running_average = running_average(1.running_mean, 1.mean, momentum=0.5, factor=1.0)",
        "1.running_average_2 = running_average(1.running_variance, 1.variance, momentum=0.5, "
        f"factor={50 / 49})",
        "softmax_cross_entropy, probabilities = softmax_cross_entropy(4.linear, target)",
        "1.running_mean := 1.running_average",
        "1.running_variance := 1.running_average_2",
        "return 4.linear, softmax_cross_entropy",
        "",
        "d(4.linear) = softmax_cross_entropy_backward(probabilities, target, dloss=1.0)",
        "_, _, d(4.bias) = linear_backward(d(4.linear), 3.dropout, 4.weight, input_gradient=False)",
        "return d(4.bias)",
    ], "what no wanted gradient depends on is left out"


def test_programs_are_equal_where_they_compute_the_same_from_the_same() -> None:
    model = built(every_kind, (8, 6, 2))
    one = trace(model, 4, training=True)
    assert one == trace(model, 4, training=True)
    assert one != trace(model, 5, training=True)
    assert one != trace(model, 4)
    norm = next(layer for layer in model.modules() if isinstance(layer, nn.BatchNorm))
    norm.epsilon = 0.1
    assert one != trace(model, 4, training=True)
    assert one != trace(built(every_kind, (8, 6, 2)), 4, training=True), "other weights"


def test_a_norm_at_two_places_updates_its_statistics_at_each(backend: Any) -> None:
    """One after the other, as in Keras and PyTorch."""
    x = nn.Input((5,))
    norm, dense = nn.BatchNorm(momentum=0.75, running_variance="biased"), nn.Dense(5)
    model = built(lambda: nn.Model(x, norm(dense(norm(x)))), (5,))
    gamma, beta = norm.gamma.data, norm.beta.data
    mean, variance = norm._running_mean, norm._running_variance
    start = mean.data.copy(), variance.data.copy()
    at_first = np.random.default_rng(0).normal(size=(4, 5))
    y = (at_first - at_first.mean(0)) / np.sqrt(at_first.var(0) + norm.epsilon) * gamma + beta
    at_second = y @ dense.weight.data + dense.bias.data
    expected = [
        (0.75**2 * before + 0.75 * 0.25 * one + 0.25 * other)
        for before, one, other in zip(
            start,
            (at_first.mean(0), at_first.var(0)),
            (at_second.mean(0), at_second.var(0)),
            strict=True,
        )
    ]
    program = trace(model, len(at_first), training=True)
    passes = [
        lambda: model.forward(at_first, backend, training=True),
        lambda: Interpreter(program, backend).forward(at_first),
    ]
    if isinstance(backend, fastcnn.FastBackend):
        passes.append(lambda: Plan(program, backend, at_first.copy()).forward(at_first))
    for forward in passes:
        mean.data, variance.data = (array.copy() for array in start)
        forward()
        model.apply_updates()
        np.testing.assert_allclose([mean.data, variance.data], expected, rtol=1e-10)


def test_statistics_of_a_step_that_was_not_taken_are_forgotten(backend: Any) -> None:
    """They are no longer there when the layer is frozen."""
    trainer = fastcnn.Trainer(nn.Sequential([nn.BatchNorm(), nn.Dense(2)]), backend=backend)
    x, y = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), np.array([0, 1, 0, 1])
    trainer.fit(x, y, verbose=False)
    norm = trainer.model.layers[0]
    state = trainer.model.state_dict()
    with pytest.raises(FloatingPointError):
        trainer.fit(x * np.float32(np.nan), y, verbose=False)
    norm.trainable = False
    trainer.fit(x, y, verbose=False)
    for name in ("0.running_mean", "0.running_variance"):
        np.testing.assert_array_equal(trainer.model.state_dict()[name], state[name])


class Scaled(nn.Module):
    """A layer of one's own, of house ops: it has no backward."""

    traceable = True

    def declare(self, input_shape: Any) -> Any:
        self.scale = self.declare_parameter("scale", input_shape[-1:], lambda rng: np.ones(2))
        return input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        y = backend.multiply(x, self.scale.data)
        return backend.add(backend.tanh(y), x)


def finite_differences(run: Any, array: Any) -> Any:
    gradient = np.empty_like(array)
    for at in np.ndindex(array.shape):
        before, results = array[at], []
        for step in (1e-6, -1e-6):
            array[at] = before + step
            results.append(run())
        array[at] = before
        gradient[at] = (results[0] - results[1]) / 2e-6
    return gradient


def test_gradients_of_a_layer_without_backward(backend: Any) -> None:
    """A value that is read twice has the sum of both gradients."""
    model = Scaled()
    model.build((3, 2), dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(2, 3, 2))
    dy = np.random.default_rng(1).normal(size=x.shape)
    run = Interpreter(differentiate(trace(model, 2, training=True), ["x", "scale"]), backend)
    run.forward(x)
    gradients = run.backward(dy)

    def loss() -> float:
        return float(np.sum(Interpreter(trace(model, 2), backend).forward(x)[0] * dy))

    np.testing.assert_allclose(gradients["x"], finite_differences(loss, x), rtol=1e-6, atol=1e-8)
    expected = finite_differences(loss, model.scale.data)
    np.testing.assert_allclose(gradients["scale"], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "forward",
    [
        lambda x, backend: np.exp(x),
        lambda x, backend: x * 2,
        lambda x, backend: x[:1],
        lambda x, backend: x.mean(),
        lambda x, backend: backend.relu([1.0]),
        lambda x, backend: np.asarray(x),
    ],
)
def test_a_traceable_layer_that_is_not(forward: Any) -> None:
    class Careless(nn.Module):
        traceable = True

        def declare(self, input_shape: Any) -> Any:
            return input_shape

        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            return forward(x, backend)

    model = nn.Sequential([nn.ReLU(), Careless()])
    model.build((3, 2))
    with pytest.raises(TypeError, match=r"Careless 1: forward: expected nothing but ops of the"):
        trace(model, 2)


class Given(nn.Module):
    """A traceable layer whose forward is an attribute."""

    traceable = True

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    def declare(self, input_shape: Any) -> Any:
        return input_shape

    def forward(self, x: Any, backend: Any, *, rng: Any = None, **options: Any) -> Any:
        return self.run(x, backend, rng)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda x, b, r: b.exp(x), "Given 1: forward: expected an op of fastcnn.backend.Backend"),
        (lambda x, b, r: b.max_pool2d(x, 2)[0], r"Given 1: .* max_pool2d takes, got shapes \(2, 3"),
        (lambda x, b, r: b.add(x, np.ones(5)), r"Given 1: .* that add takes, got shapes \(2, 3\)"),
        (lambda x, b, r: b.conv2d(x), r"Given 1: .* that conv2d takes, got shapes \(2, 3\)"),
        (lambda x, b, r: b.multiply(x, r.random(3)), "Given 1: forward: .* got numbers of rng, wh"),
        (lambda x, b, r: (x, x), r"Given: forward: expected an array of shape \(2, 3\) .* got tup"),
    ],
)
def test_a_traceable_layer_that_calls_otherwise(run: Any, said: str, backend: Any) -> None:
    model = nn.Sequential([nn.ReLU(), Given(run)])
    model.build((3,))
    with pytest.raises((AttributeError, TypeError, ValueError), match=said):
        trace(model, 2)
    with pytest.raises((AttributeError, TypeError, ValueError), match=said.replace(" 1", "")):
        model.forward(np.ones((2, 3), np.float32), backend, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda b, x, w: b.multiply(x, w * 2), "takes w.data in a layer with"),
        (lambda b, x, w: b.relu(x), "takes w.data in a layer with traceable = True, got none;"),
        (lambda b, x, w: b.multiply(x, w.reshape(1, 3)), "got what NumPy makes of 0.w"),
        (lambda b, x, w: b.multiply(b.multiply(x, w), w[::-1]), "got what NumPy makes of 0.w"),
    ],
)
def test_a_parameter_that_no_op_takes_as_it_is(use: Any, said: str, backend: Any) -> None:
    class Scaled(nn.Module):
        traceable = True

        def declare(self, input_shape: Any) -> Any:
            self.w = self.declare_parameter("w", (3,), lambda rng: rng.random(3))
            return input_shape

        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            return use(backend, x, self.w.data)

    trainer = fastcnn.Trainer(nn.Sequential([Scaled()]), backend=backend)
    with pytest.raises(TypeError, match=f"Scaled 0: forward: expected .* {said}"):
        trainer.fit(np.ones((2, 3), np.float32), np.arange(2), verbose=False)


def test_a_traceable_layer_may_give_a_constant(backend: Any) -> None:
    model = nn.Sequential([nn.ReLU(), Given(lambda x, b, r: np.full(x.shape, 7.0, np.float32))])
    model.build((3,))
    x = np.ones((2, 3), np.float32)
    assert (model(x, backend) == 7).all()
    assert (fastcnn.Predictor(model, backend)(x) == 7).all()


def test_a_layer_is_traceable_by_its_class() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.traceable = True

    with pytest.raises(AttributeError, match="Late: traceable: expected it of a class of layers"):
        Late()


def test_masks_need_a_generator() -> None:
    model = nn.Sequential([nn.Dropout(0.5)])
    model.build((3,))
    x = np.ones((2, 3), np.float32)
    for run in (
        Interpreter(trace(model, 2, training=True), fastcnn.FastBackend()),
        Plan(trace(model, 2, training=True), fastcnn.FastBackend(), x),
    ):
        with pytest.raises(ValueError, match="Dropout: rng: expected a numpy Generator in trai"):
            run.forward(x)


def test_what_is_read_elsewhere_is_not_fused() -> None:
    class Both(nn.Module):
        traceable = True

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2D(8, 3)

        def declare(self, input_shape: Any) -> Any:
            return self.conv.plan(input_shape)

        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            y = self.conv(x, backend)
            return backend.add(y, backend.relu(y))

    model = nn.Sequential([Both(), nn.ReLU(), nn.MaxPool2D(2)])
    model.build((8, 8, 3))
    program = fuse(trace(model, 2, training=True), TRAINING)
    assert [node.op for node in program.nodes] == ["conv2d", "relu", "add", "relu", "max_pool2d"]

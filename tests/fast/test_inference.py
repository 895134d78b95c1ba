"""Inference: what was prepared gives what the model gives, and never what the model gave before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from compare import gamma
from inferred import MODELS, OPTIONS, assert_rounding, blocks, built, normalized, summed
from kept import Kept
from layers import IDS, LAYERS
from trainers import every_kind, plain, striped_images, trainer_of

import fastcnn
from fastcnn import FastBackend, nn, reference
from fastcnn.fast._activations import pair_of
from fastcnn.fast._fusions import ACTIVATIONS

# ---------------------------------------------------------------------- the same results
POOLS: list[dict[str, Any]] = [
    {"pool_size": 2},
    {"pool_size": 3, "stride": 2, "padding": 1},
    {"pool_size": (3, 2), "stride": 1},
    {"pool_size": (2, 4), "stride": (3, 1), "padding": (1, 2), "ceil_mode": True},
]


@pytest.mark.parametrize("options", POOLS, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 8, 17, 64])
def test_a_pooling_without_its_argmax(
    options: dict[str, Any], channels: int, fast_backend: Any, dtype: Any
) -> None:
    """Zeros of both signs and NaNs too: the first of equal numbers, and the first NaN, win."""
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 2, (2, 9, 11, channels)).astype(dtype)
    x[rng.random(x.shape) < 0.2] *= -1
    x[rng.random(x.shape) < 0.05] = np.nan
    for make in (nn.MaxPool2D, nn.AvgPool2D):
        layer = make(**options)
        layer.build(x.shape[1:])
        y = fastcnn.Predictor(layer, fast_backend, dtype=dtype)(x)
        assert y.tobytes() == layer(x, fast_backend).tobytes()


@pytest.mark.parametrize("make", [plain, blocks, summed])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 31])
def test_the_bits_of_the_model(make: Any, count: int, fast_backend: Any, dtype: Any) -> None:
    model = built(make, (12, 10, 3), dtype)
    x = np.random.default_rng(1).standard_normal((count, 12, 10, 3)).astype(dtype)
    expected = model(x, fast_backend)
    predict = fastcnn.Predictor(model, fast_backend)
    for _ in range(2):  # the second finds everything packed
        np.testing.assert_array_equal(predict(x), expected)
    np.testing.assert_array_equal(
        np.concatenate([predict(x[i : i + 1]) for i in range(count)]), expected
    )
    assert predict(x).dtype == dtype


@pytest.mark.parametrize("make", [every_kind, normalized])
def test_folding_only_rounds(make: Any, backend: Any, dtype: Any) -> None:
    model = built(make, (8, 6, 2), dtype)
    x = np.random.default_rng(1).standard_normal((5, 8, 6, 2)).astype(dtype)
    assert_rounding(fastcnn.Predictor(model, backend)(x), model(x, backend))


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=IDS)
def test_every_layer(make: Any, shape: Any, fast_backend: Any, dtype: Any) -> None:
    model = built(make, shape, dtype)
    x = np.random.default_rng(1).standard_normal((3, *shape)).astype(dtype)
    expected = model(x, fast_backend)
    assert_rounding(fastcnn.Predictor(model, fast_backend, dtype=dtype)(x), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [nn.Conv2D(8, 3, padding=1)],
        lambda: [nn.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)],
        lambda: [nn.Flatten(), nn.Dense(6)],
    ],
)
def test_the_bound_of_folding(make: Any, fast_backend: Any, dtype: Any) -> None:
    """The error stays below that of n + 4 operations on the absolute values of all terms."""
    shape = (7, 6, 5)
    model: Any = built(lambda: nn.Sequential([*make(), nn.BatchNorm()]), shape, dtype)
    layers = len(model) - 1
    model[layers]._running_mean.data *= 100  # what it takes away cancels much of the sum
    x = np.random.default_rng(1).standard_normal((2, *shape)).astype(dtype)
    wide: Any = built(lambda: nn.Sequential([*make(), nn.BatchNorm()]), shape, np.float64)
    state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    wide.load_state_dict(state)
    expected = wide(x.astype(np.float64), reference)
    state = {name: np.abs(array) for name, array in state.items()}
    state[f"{layers}.running_mean"] *= -1  # the sum of |x| |w|, |b| and |mean|
    wide.load_state_dict(state)
    terms = wide(np.abs(x).astype(np.float64), reference)
    w = state[f"{layers - 1}.weight"]
    n = w.size // w.shape[-1]
    found = fastcnn.Predictor(model, fast_backend)(x)
    # In float64 what is compared with is no better itself.
    bound = gamma(n + 4, dtype) + gamma(n + 10, np.float64) * (dtype == np.float64)
    assert (np.abs(found - expected) <= bound * terms).all()


@pytest.mark.parametrize(
    ("channels", "filters", "options"),
    [
        (5, 7, {"padding": 1}),
        (3, 64, {"stride": 2}),
        (40, 36, {"padding": 1}),  # Winograd's
        (512, 200, {"padding": 1}),  # its transformed weights are more than a cache keeps
        (21, 21, {"groups": 21, "padding": 1}),
        (12, 9, {"groups": 3}),
    ],
)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("count", [1, 7])
def test_the_last_write(
    channels: int,
    filters: int,
    options: Any,
    kernel: int,
    count: int,
    fast_backend: Any,
    dtype: Any,
) -> None:
    """A residual and an activation in the last write give the bits of ops of their own."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((kernel, kernel, channels // options.get("groups", 1), filters))
    b, x = rng.standard_normal(filters), rng.standard_normal((count, 9, 8, channels))
    w, b, x = (a.astype(dtype) for a in (w, b, x))
    plain = fast_backend.conv2d(x, w, b, **options)
    residual = rng.standard_normal(plain.shape).astype(dtype)
    residual[0, 0, 0, 0], residual[-1, -1, -1, -1] = np.nan, np.inf
    kept = Kept(fast_backend.isa, fast_backend.num_threads)
    for activation in (None, *ACTIVATIONS):
        given = OPTIONS.get(activation, {}) if activation else {}
        pair = pair_of(activation, given) if activation else (0.0, 0.0)
        joined: dict[str, Any] = {"activation": activation, "parameters": pair}
        op = partial(kept._conv2d_product, **joined, **options)
        for added in (None, residual):
            expected = plain if added is None else plain + added
            if activation is not None:
                expected = getattr(fast_backend, activation)(expected, **given)
            for _ in range(2):  # packed by the first
                np.testing.assert_array_equal(op(x, w, b, added), expected)
                np.testing.assert_array_equal(
                    op(x[:1], w, b, residual[:1]), op(x, w, b, residual)[:1]
                )


# ---------------------------------------------------------------------- never stale
def changes(trainer: fastcnn.Trainer) -> list[Callable[[], object]]:
    """Every way to change the weights of a model, each for every array of it."""
    model = trainer.model
    x, y = striped_images(16)
    ways: list[Callable[[], object]] = []
    for variable in model.variables().values():
        ways.append(lambda v=variable: v.data.__imul__(v.data.dtype.type(1.5)))
        ways.append(lambda v=variable: setattr(v, "data", v.data * v.data.dtype.type(0.75)))
        ways.append(lambda v=variable: v.data.__iadd__(v.data.dtype.type(0.25)))
        ways.append(lambda v=variable: setattr(v, "data", np.asfortranarray(v.data * 2)))
        ways.append(lambda v=variable: v.data.__imul__(v.data.dtype.type(0.5)))
        ways.append(lambda v=variable: setattr(v, "data", np.ascontiguousarray(v.data)))
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm)):
        ways.append(lambda m=norm: setattr(m, "epsilon", 0.5))
    ways.append(lambda: trainer.fit(x, y, batch_size=8, verbose=False))
    state = {name: array * array.dtype.type(0.9) for name, array in model.state_dict().items()}
    ways.append(lambda: model.load_state_dict(state))
    return ways


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("count", [1, 7])
def test_every_change_shows(make: Any, count: int, dtype: Any) -> None:
    backend = FastBackend()
    model = built(make, (8, 6, 2), dtype)
    trainer = trainer_of(backend, model)
    x = np.random.default_rng(1).standard_normal((count, 8, 6, 2)).astype(dtype)
    before = trainer.predict(x)
    for number, change in enumerate(changes(trainer)):
        change()
        after = trainer.predict(x)
        # What the changes left may cancel much.
        assert_rounding(after, model(x, backend), f"change {number}", operations=2000)
        np.testing.assert_array_equal(trainer.predict(x), after)
        np.testing.assert_array_equal(trainer.predict(x[:1]), after[:1])
    assert not np.array_equal(before, after)


def test_another_model_or_backend_shows() -> None:
    trainer = trainer_of(FastBackend(), built(plain, (8, 6, 2), np.float32))
    x = striped_images(3)[0]
    trainer.predict(x)
    trainer.model = built(plain, (8, 6, 2), np.float32, seed=5)
    found = trainer.predict(x)
    np.testing.assert_array_equal(found, fastcnn.Predictor(trainer.model)(x))
    trainer.backend = fastcnn.get_backend("reference")
    assert_rounding(trainer.predict(x), found)


def test_a_copy_of_a_trainer_asks_its_own_model() -> None:
    trainer = trainer_of(FastBackend(), built(plain, (8, 6, 2), np.float32))
    x, y = striped_images(8)
    trainer.predict(x)
    twin = copy.deepcopy(trainer)
    found = trainer.predict(x)
    np.testing.assert_array_equal(twin.predict(x), found)
    twin.fit(x, y, batch_size=4, verbose=False)
    np.testing.assert_array_equal(twin.predict(x), fastcnn.Predictor(twin.model)(x))
    np.testing.assert_array_equal(trainer.predict(x), found)


class Halving(FastBackend):
    """A fast backend with ops of one's own."""

    def __init__(self) -> None:
        super().__init__(num_threads=1)
        self.steps = 0

    def linear(self, *arguments: Any, **options: Any) -> Any:
        return super().linear(*arguments, **options) / 2

    def sgd_step(self, *arguments: Any, **options: Any) -> None:
        self.steps += 1
        super().sgd_step(*arguments, **options)


def test_ops_of_a_subclass_and_functions_in_their_place_are_called() -> None:
    model = built(plain, (8, 6, 2), np.float32)
    x, y = striped_images(8)
    x = (x / 255).astype(np.float32)
    backend, patched = Halving(), FastBackend(num_threads=1)
    vars(patched)["linear"] = backend.linear
    expected = model(x, backend)
    assert not np.allclose(expected, model(x, FastBackend()))
    for each in (backend, patched):
        np.testing.assert_array_equal(fastcnn.Predictor(model, each)(x), expected)
        trainer = trainer_of(each, model)
        np.testing.assert_array_equal(trainer.predict(x), expected)
    trainer_of(backend, model).fit(x, y, batch_size=4, verbose=False)
    assert backend.steps == 2 * len(model.parameters())


@pytest.mark.parametrize("make", MODELS)
def test_a_predictor_is_a_snapshot(make: Any, backend: Any) -> None:
    trainer = trainer_of(backend, built(make, (8, 6, 2), np.float32))
    x, y = striped_images(12)
    predict = trainer.predictor()
    before = predict(x)
    np.testing.assert_array_equal(before, trainer.predict(x))
    trainer.fit(x, y, verbose=False)
    np.testing.assert_array_equal(predict(x), before)
    assert not np.array_equal(trainer.predict(x), before)


# ---------------------------------------------------------------------- any model, any caller
class Doubled(nn.Conv2D):
    """A layer of one's own that is nearly one of the house's."""

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        y, backward = super().forward(x, backend, **options)
        return 2 * y, lambda dy: backward(2 * dy)


@pytest.mark.parametrize("behind", [[], [nn.BatchNorm()], [nn.ReLU(), nn.MaxPool2D(2)]])
def test_a_layer_of_ones_own_runs_as_it_is(behind: Any, backend: Any) -> None:
    model: Any = built(lambda: nn.Sequential([Doubled(4, 3), *behind]), (6, 6, 2), np.float32)
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 2)).astype(np.float32)
    expected = 2 * backend.conv2d(x, model[0].weight.data, model[0].bias.data)
    for layer in behind:
        expected = layer(expected, backend)
    assert_rounding(model(x, backend), expected)
    assert_rounding(fastcnn.Predictor(model, backend)(x), expected)


class Leaky(nn.Module):
    """A traceable layer that reads attributes of every kind."""

    traceable = True

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.twice, self.also = 0.5, [0.5, [0.5]], {"slope": 0.5}
        self.factor: Any = np.full((1, 2), 0.5, np.float32)

    def declare(self, input_shape: Any) -> Any:
        return input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        inner: Any = self.twice[1]
        for slope in (self.slope, self.twice[0], inner[0], self.also["slope"]):
            x = backend.leaky_relu(x, slope)
        return backend.multiply(x, self.factor)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: setattr(layer, "slope", 0.25),
        lambda layer: layer.twice.__setitem__(0, 0.25),
        lambda layer: layer.twice[1].__setitem__(0, 0.25),
        lambda layer: layer.also.update(slope=0.25),
        lambda layer: setattr(layer, "factor", layer.factor / 2),
        lambda layer: layer.factor.__imul__(0.5),
    ],
)
def test_what_is_set_on_a_layer_of_ones_own_shows(change: Any, backend: Any) -> None:
    layer = Leaky()
    model = nn.Sequential([nn.Dense(2), layer])
    model.build((3,))
    trainer = trainer_of(backend, model)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    before = trainer.predict(x)
    change(layer)
    after = trainer.predict(x)
    np.testing.assert_array_equal(after, np.where(before < 0, before / 2, after))
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after, fastcnn.Predictor(model, backend)(x))


@pytest.mark.parametrize("make", [blocks, summed])
def test_calls_from_many_threads(make: Any, dtype: Any) -> None:
    model = built(make, (12, 10, 3), dtype)
    predict = fastcnn.Predictor(model)
    x = np.random.default_rng(0).standard_normal((64, 12, 10, 3)).astype(dtype)
    expected = model(x, FastBackend())
    parts = [slice(i, i + 1 + i % 4) for i in range(60)]
    with ThreadPoolExecutor(8) as pool:
        for part, found in zip(
            parts * 5, pool.map(lambda p: predict(x[p]), parts * 5), strict=True
        ):
            np.testing.assert_array_equal(found, expected[part])


@pytest.mark.parametrize("make", [blocks, summed])
def test_any_number_of_threads(make: Any) -> None:
    model = built(make, (12, 10, 3), np.float32)
    predict = fastcnn.Predictor(model)
    x = np.random.default_rng(0).standard_normal((9, 12, 10, 3)).astype(np.float32)
    expected = predict(x)
    for threads in (1, 2, 3, 8, 1):
        fastcnn.set_num_threads(threads)
        np.testing.assert_array_equal(predict(x), expected)
        np.testing.assert_array_equal(predict(x[:1]), expected[:1])


def test_what_a_predictor_takes() -> None:
    model = built(plain, (8, 6, 2), np.float32)
    predict = fastcnn.Predictor(model)
    images = striped_images(3)[0]
    expected = predict(images)
    assert expected.shape == (3, *predict.output_shape)
    np.testing.assert_array_equal(predict(images / np.float32(255)), expected)
    np.testing.assert_array_equal(predict(images[:, ::-1].copy()[:, ::-1]), expected)
    reversed_ = np.asfortranarray(images / np.float32(255)).astype(">f4")
    np.testing.assert_array_equal(predict(reversed_), expected)
    for x, error in [
        (images[0], ValueError),
        (images[:0], ValueError),
        (images[..., :1], ValueError),
        (images.astype(int), TypeError),
        ("image", TypeError),
    ]:
        with pytest.raises(error, match=r"^x: expected"):
            predict(x)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="model: expected one with weights"):
        fastcnn.Predictor(plain())
    with pytest.raises(TypeError, match=r"model: expected a fastcnn\.nn model, got int"):
        fastcnn.Predictor(3)  # type: ignore[arg-type]

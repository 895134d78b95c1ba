"""Pickle, copy and deepcopy of all that is public: weights as arrays, the rest as configuration."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import types
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, get_origin

import numpy as np
import pytest
from layers import IDS, LAYERS, UNTRAINED, sample_network

import fastcnn
from fastcnn import FastBackend, _kernels, callbacks, losses, metrics, nn, optim, schedules
from fastcnn._memory import is_pooled


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.random((24, 10, 10, 1), dtype=np.float32), rng.integers(0, 3, 24)


def network() -> nn.Sequential:
    return nn.Sequential(
        [
            nn.Conv2D(4, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Residual(nn.Sequential([nn.Conv2D(4, 3, padding=1), nn.BatchNorm(), nn.ReLU()])),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Dense(3),
        ]
    )


def trainer_of(backend: Any = "fast", epochs: int = 1) -> fastcnn.Trainer:
    trainer = fastcnn.Trainer(
        network(), optimizer=optim.Adam(), backend=backend, schedule="warmup-cosine"
    )
    if epochs:
        fit(trainer, epochs)
    return trainer


def fit(trainer: fastcnn.Trainer, epochs: int = 1) -> None:
    trainer.fit(*data(), epochs=epochs, batch_size=6, verbose=False)


def built(layer: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    layer.build(shape)
    return layer


def joined() -> nn.Model:
    x = nn.Input((3,))
    return nn.Model(x, nn.concat([nn.add(nn.Dense(3)(x), x), x]))


def parameter() -> nn.Parameter:
    made = nn.Parameter((2,), lambda rng: rng.random(2))
    made.fill(np.random.default_rng(0), np.dtype(np.float32))
    made.grad = np.ones(2, np.float32)
    return made


def buffer() -> nn.Buffer:
    made = nn.Buffer((2,), lambda rng: np.ones(2))
    made.fill(np.random.default_rng(0), np.dtype(np.float64))
    made.update = np.zeros(2)
    return made


def absolute(prediction: Any, target: Any) -> tuple[float, Any]:
    return float(np.abs(prediction - target).mean()), np.sign(prediction - target)


# One or more of every public class.
MAKERS: dict[str, Callable[[], Any]] = {
    **{f"{name} built": lambda m=make, s=s: built(m(), s)
       for name, (make, s) in zip(IDS, LAYERS, strict=True)},
    **{f"LSTM {at}": (lambda make=make, s=s: built(make(), s))
       for at, (make, s) in enumerate(UNTRAINED)},
    **{f"{name} new": make for name, (make, _) in zip(IDS, LAYERS, strict=True)},
    "Module": nn.Module,
    "Model": joined,
    "Model built": lambda: built(joined(), (3,)),
    "Symbol": lambda: nn.Input((3,)),
    "Add": nn.Add,
    "Multiply": nn.Multiply,
    "Concat": lambda: nn.Concat(0),
    **{cls.__name__: cls for cls in (nn.Subtract, nn.Divide, nn.Power, nn.Maximum, nn.Minimum)},
    "MatMul": nn.MatMul,
    "Split": lambda: nn.Split((1, 2), 0),
    "Parameter": parameter,
    "Buffer": buffer,
    "sample network": lambda: built(sample_network(), (28, 28, 1)),
    "FastBackend": FastBackend,
    "FastBackend of options": lambda: FastBackend("baseline", 1, convolution="direct"),
    "Trainer new": lambda: trainer_of(epochs=0),
    "Trainer": trainer_of,
    "Trainer on the reference": lambda: trainer_of("reference", epochs=0),
    "Predictor": lambda: trainer_of().predictor(),
    "Predictor on the reference": lambda: fastcnn.Predictor(trainer_of().model, "reference"),
    "Optimizer": lambda: optim.Optimizer(0.1, 0.0, None),
    "SGD": lambda: optim.SGD(0.1, momentum=0.9, nesterov=True, clip_norm=1.0),
    "Adam": lambda: optim.Adam(beta1=0.8),
    "AdamW": lambda: optim.AdamW(weight_decay=0.1),
    "Loss": losses.Loss,
    "CrossEntropy": lambda: losses.CrossEntropy(label_smoothing=0.1, class_weights=[1, 2, 3]),
    "FunctionLoss": lambda: losses.FunctionLoss(absolute),
    "MeanSquaredError": losses.MeanSquaredError,
    "BinaryCrossEntropy": lambda: losses.BinaryCrossEntropy(pos_weight=[1, 2]),
    "Dice": lambda: losses.Dice("softmax", smooth=0.1, ignore_label=255),
    "Focal": lambda: losses.Focal(alpha=None, gamma=1),
    "Huber": lambda: losses.Huber(delta=0.5),
    "MeanAbsoluteError": losses.MeanAbsoluteError,
    "Accuracy": metrics.Accuracy,
    "F1Score": lambda: metrics.F1Score("micro"),
    "MeanAbsoluteError metric": metrics.MeanAbsoluteError,
    "MeanIoU": metrics.MeanIoU,
    "Precision": lambda: metrics.Precision(threshold=0.25),
    "Recall": metrics.Recall,
    "RootMeanSquaredError": metrics.RootMeanSquaredError,
    "TopKAccuracy": lambda: metrics.TopKAccuracy(3),
    "Constant": schedules.Constant,
    "Step": lambda: schedules.Step((0.1, 0.2), factor=0.5),
    "Cosine": lambda: schedules.Cosine(final=0.1),
    "WarmUp": lambda: schedules.WarmUp("cosine", share=0.2),
    "Callback": callbacks.Callback,
    "EarlyStopping": lambda: callbacks.EarlyStopping("loss", restore_best=True),
    "Checkpoint": lambda: callbacks.Checkpoint("{epoch}", monitor="loss"),
}  # fmt: skip
MODULES = [fastcnn, nn, optim, losses, schedules, callbacks, metrics]
PROTOCOLS = [fastcnn.Backend]  # nothing is made of them


def copies(value: Any) -> dict[str, Any]:
    found = {
        f"pickle {protocol}": pickle.loads(pickle.dumps(value, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    }
    return {**found, "copy": copy.copy(value), "deepcopy": copy.deepcopy(value)}


def parts(value: Any) -> dict[str, Any]:
    """What an object consists of, but for what it makes anew: compiled steps, draws, locks."""
    slots = {name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())}
    found = {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})
    anew = ("_run", "_kept", "_draw", "_steps", "_parameters", "_buffers")
    return {name: part for name, part in found.items() if name not in anew}


def difference(a: Any, b: Any, where: str, seen: dict[int, int]) -> str:
    """Say where two objects differ, or nothing; `seen` pairs those that were met."""
    if id(a) in seen:
        return "" if seen[id(a)] == id(b) else f"{where} is another object"
    if type(a) is not type(b):
        return f"{where}: {type(a)} and {type(b)}"
    if isinstance(a, np.ndarray):
        same = a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        return "" if same else f"{where}: other numbers"
    if isinstance(a, Mapping):
        if list(a) != list(b):
            return f"{where}: {list(a)} and {list(b)}"
        pairs = [(a[key], b[key], f"{where}[{key!r}]") for key in a]
    elif isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return f"{where}: {len(a)} and {len(b)} items"
        pairs = [(x, y, f"{where}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
    elif isinstance(
        a, (int, float, str, type(None), np.dtype, type, types.ModuleType, types.FunctionType)
    ):
        return "" if a == b else f"{where}: {a!r} and {b!r}"
    else:
        seen[id(a)] = id(b)
        mine, its = parts(a), parts(b)
        if mine.keys() != its.keys():
            return f"{where}: {sorted(mine)} and {sorted(its)}"
        pairs = [(mine[name], its[name], f"{where}.{name}") for name in mine]
    return next(filter(None, (difference(*pair, seen) for pair in pairs)), "")


@pytest.mark.parametrize("name", MAKERS)
def test_copies_are_the_same(name: str) -> None:
    value = MAKERS[name]()
    for how, twin in copies(value).items():
        assert difference(value, twin, name, {}) == "", how


def test_every_public_class_is_among_them() -> None:
    made = {type(make()) for make in MAKERS.values()}
    public = {
        found
        for module in MODULES
        for found in (getattr(module, name) for name in module.__all__)
        if isinstance(found, type) and get_origin(found) is None  # Callable[...] is no class
    }
    assert public - made - set(PROTOCOLS) == set()
    assert sum(inspect.isclass(each) for each in public) > 40


def test_a_difference_would_be_seen() -> None:
    def pair() -> tuple[nn.Module, nn.Module]:
        return built(network(), (10, 10, 1)), built(network(), (10, 10, 1))

    for change in (
        lambda model: vars(model.layers[1]).update(ceil_mode=True),
        lambda model: model.layers[0].weight.data.__setitem__(0, 1.0),
        lambda model: vars(model.layers[0]).pop("padding"),
        lambda model: model.notes.update(a=1),
    ):
        one, other = pair()
        assert difference(one, other, "", {}) == ""
        change(other)
        assert difference(one, other, "", {}) != ""


# ---------------------------------------------------------------------- they work
@pytest.mark.parametrize("how", ["pickle 5", "deepcopy"])
def test_a_copied_trainer_goes_on_to_the_same_bits(how: str, backend: Any) -> None:
    if backend is fastcnn.reference:
        backend = "reference"
        x, y = data()[0][:6, :6, :6], data()[1][:6]
    else:
        x, y = data()
    trainer = trainer_of(backend, epochs=0)
    trainer.fit(x, y, batch_size=6, verbose=False)
    twin = copies(trainer)[how] if backend != "reference" else copy.deepcopy(trainer)
    assert twin.model is not trainer.model
    for each in (trainer, twin):
        each.fit(x, y, batch_size=6, verbose=False)
    assert twin.history == trainer.history
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(twin.model.state_dict()[name], array)
    np.testing.assert_array_equal(twin.predict(x), trainer.predict(x))


def test_a_pickled_predictor_serves_the_same_bits(backend: Any) -> None:
    x = data()[0][:3]
    predictor = fastcnn.Predictor(trainer_of().model, backend)
    expected = predictor(x)
    for how, twin in copies(predictor).items():
        np.testing.assert_array_equal(twin(x), expected, err_msg=how)


def test_a_copy_in_the_midst_of_training_resumes() -> None:
    class Copies(callbacks.Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            self.data = pickle.dumps(trainer)
            trainer.stop = trainer.epoch == 1

    whole, keeper = trainer_of(epochs=0), Copies()
    x, y = data()
    whole.schedule = schedules.Constant()
    whole.fit(x, y, epochs=2, batch_size=6, callbacks=[keeper], verbose=False)
    twin = pickle.loads(keeper.data)
    for each in (whole, twin):
        each.fit(x, y, batch_size=6, verbose=False)
    np.testing.assert_array_equal(twin.predict(x), whole.predict(x))


def test_copies_lie_in_the_pool_and_train_apart() -> None:
    trainer = trainer_of()
    before = trainer.model.state_dict()
    for how, twin in copies(trainer).items():
        if how == "copy":
            continue
        arrays = [each.data for each in twin.model.variables().values()]
        assert all(is_pooled(a) for a in [*arrays, *twin._optimizer_state.values()] if a.size)
        fit(twin)
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_pickled_model_that_was_only_planned_can_be_built() -> None:
    model = network()
    model.plan((10, 10, 1))
    twin = pickle.loads(pickle.dumps(model))
    twin.build((10, 10, 1), seed=3)
    model.build((10, 10, 1), seed=3)
    assert difference(model, twin, "model", {}) == ""


def test_a_backend_is_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was chosen for this machine is chosen anew on another."""
    chosen, asked = pickle.dumps(FastBackend()), pickle.dumps(FastBackend(_kernels.available()[-1]))
    monkeypatch.setattr(_kernels, "select", lambda isa=None: isa or "baseline")
    assert pickle.loads(chosen).isa == "baseline"
    assert pickle.loads(asked).isa == _kernels.available()[-1]


def test_a_pickle_calls_nothing_but_what_is_numpys_and_ours() -> None:
    found = set()

    class Watching(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found.add(f"{module}.{name}")
            return super().find_class(module, name)

    for value in (trainer_of(), trainer_of().predictor(), callbacks.Checkpoint("x")):
        Watching(io.BytesIO(pickle.dumps(value))).load()
    assert "fastcnn.trainer.Trainer" in found
    assert {name for name in found if not name.startswith(("fastcnn.", "numpy"))} == set()


def test_predictions_in_a_pool_of_processes() -> None:
    trainer = trainer_of()
    x = data()[0]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        answers = [pool.submit(call, x) for call in (trainer.predict, trainer.predictor())]
        for answer, call in zip(answers, (trainer.predict, trainer.predictor()), strict=True):
            np.testing.assert_array_equal(answer.result(60), call(x))

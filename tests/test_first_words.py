"""Names and arguments of other libraries, and typing errors: a sentence says what is meant.

Every table is of what is typed and of what is said of it, word by word.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from sentences import FILTERS, IMAGE, ROWS, Typed, X, Y, sentence, small, trainer

import fastcnn
from fastcnn import callbacks, losses, nn, optim, schedules
from fastcnn import functional as F
from fastcnn._foreign import ARGUMENTS, ELSEWHERE, NAMES, VALUES
from fastcnn._sentences import explained

# ---------------------------------------------------------------------- names of modules
ABSENT = [
    ("", "Sequential", "did you mean fastcnn.nn.Sequential?"),
    ("", "SGD", "did you mean fastcnn.optim.SGD?"),
    ("", "Conv2D", "did you mean fastcnn.nn.Conv2D?"),
    ("", "Conv2d", "did you mean fastcnn.nn.Conv2D?"),
    ("", "conv2d", "did you mean fastcnn.functional.conv2d?"),
    ("", "linear", "did you mean fastcnn.functional.linear?"),
    ("", "relu", "did you mean fastcnn.functional.relu?"),
    ("", "CrossEntropy", "did you mean fastcnn.losses.CrossEntropy?"),
    ("", "EarlyStopping", "did you mean fastcnn.callbacks.EarlyStopping?"),
    ("", "accuracy", "did you mean fastcnn.metrics.accuracy?"),
    ("", "layers", "did you mean fastcnn.nn?"),
    ("", "optimizers", "did you mean fastcnn.optim?"),
    ("", "set_threads", "did you mean fastcnn.set_num_threads?"),
    ("", "Trainr", "did you mean fastcnn.Trainer?"),
    ("", "save", "model.save(path) writes a model, trainer.save_state(path) a training"),
    ("", "load_model", "fastcnn.load(path) reads a model"),
    ("", "mnist", "did you mean fastcnn.datasets.mnist?"),
    ("", "fashion_mnist", 'datasets.load("fashion-mnist") reads it'),
    ("", "tensor", "arrays are NumPy's"),
    ("", "cuda", "fastcnn runs on CPUs"),
    ("", "manual_seed", "Trainer(model, seed=...) has the seed"),
    ("nn", "Linear", "did you mean nn.Dense?"),
    ("nn", "Concatenate", "nn.concat([a, b]), or nn.Concat()([a, b]), joins symbols"),
    ("nn", "cat", "nn.concat([a, b]), or nn.Concat()([a, b]), joins symbols"),
    ("nn", "mul", "did you mean nn.Multiply?"),
    ("nn", "ZeroPadding2D", "did you mean nn.Pad2D?"),
    ("nn", "PixelShuffle", 'nn.DepthToSpace(block, mode="CRD") is it'),
    ("nn", "InputLayer", "did you mean nn.Input?"),
    ("nn", "functional", "fastcnn.functional has the ops"),
    ("nn", "CrossEntropyLoss", "did you mean fastcnn.losses.CrossEntropy?"),
    ("functional", "mse_loss", "did you mean fastcnn.losses.MeanSquaredError?"),
    ("functional", "maxpool2d", "did you mean functional.max_pool2d?"),
    ("functional", "max_pool", "did you mean functional.max_pool2d?"),
    ("functional", "conv1d", "did you mean fastcnn.nn.Conv1D?"),
    ("functional", "cat", "did you mean functional.concat?"),
    ("functional", "mul", "did you mean functional.multiply?"),
    ("functional", "swish", "did you mean functional.silu?"),
    ("functional", "Linear", "did you mean functional.linear?"),
    ("functional", "ReLU", "did you mean functional.relu?"),
    ("functional", "dense", "did you mean functional.linear?"),
    ("functional", "flatten", "x.reshape(len(x), -1) flattens images"),
    ("functional", "softmax_cross_entropy_with_logits", "did you mean functional.cross_entropy?"),
    ("functional", "slice", "did you mean functional.strided_slice?"),
    ("functional", "pixel_shuffle", 'depth_to_space(x, block, mode="CRD") is it'),
    ("functional", "mean", "did you mean functional.reduce_mean?"),
    ("losses", "CrossEntropyLoss", "did you mean losses.CrossEntropy?"),
    ("losses", "SparseCategoricalCrossentropy", "did you mean losses.CrossEntropy?"),
    ("losses", "MSELoss", "did you mean losses.MeanSquaredError?"),
    ("losses", "BCELoss", "did you mean losses.BinaryCrossEntropy?"),
    ("losses", "SmoothL1Loss", "did you mean losses.Huber?"),
    ("optim", "adam", "did you mean optim.Adam?"),
    ("optim", "Adamax", "optim has SGD, Adam and AdamW"),
    ("optim", "RMSprop", "it has SGD, Adam, AdamW, Optimizer, clip_gradients, get_optimizer"),
    ("optim", "lr_scheduler", "did you mean fastcnn.schedules?"),
    ("optim", "Cosine", "did you mean fastcnn.schedules.Cosine?"),
    ("schedules", "CosineAnnealingLR", "did you mean schedules.Cosine?"),
    ("schedules", "Cosin", "did you mean schedules.Cosine?"),
    ("callbacks", "ModelCheckpoint", "did you mean callbacks.Checkpoint?"),
    ("callbacks", "ReduceLROnPlateau", "Trainer(model, schedule=...) takes a schedule"),
    ("callbacks", "TensorBoard", "it has Callback, Checkpoint, EarlyStopping, called_around"),
    ("metrics", "accuracy_score", "did you mean metrics.accuracy?"),
    ("metrics", "f1_score", "did you mean metrics.F1Score?"),
    ("datasets", "cifar10", "datasets has strokes, mnist and fashion-mnist"),
    ("trainer", "Trainr", "did you mean trainer.Trainer?"),
    ("inference", "Predictr", "did you mean inference.Predictor?"),
    ("serialization", "load_model", "fastcnn.load(path) reads a model"),
]


@pytest.mark.parametrize(("module", "name", "said"), ABSENT)
def test_a_name_that_a_module_does_not_have(module: str, name: str, said: str) -> None:
    """By a dot and by an import; and asking for it is no error."""
    place = f"fastcnn.{module}".rstrip(".")
    holder = getattr(fastcnn, module) if module else fastcnn
    assert (
        sentence(lambda: getattr(holder, name), AttributeError) == f"{place} has no {name}: {said}"
    )
    assert not hasattr(holder, name)
    assert getattr(holder, name, 3) == 3
    imported = sentence(lambda: exec(f"from {place} import {name}"), ImportError)
    assert imported == f"{place} has no {name}: {said}"


def test_names_that_nobody_knows() -> None:
    assert sentence(lambda: nn.Transformer, AttributeError) == "fastcnn.nn has no Transformer"
    for name in ("__wrapped__", "_private", "_Dense"):
        assert sentence(lambda: getattr(nn, name), AttributeError) == f"fastcnn.nn has no {name}"  # noqa: B023
    said = sentence(lambda: getattr(nn, "a" * 1000), AttributeError)
    assert said == f"fastcnn.nn has no {'a' * 80}"


def test_what_a_sentence_asks_after_is_there() -> None:
    """Names without spaces in the table are the library's, and keys are as they are looked up."""
    for key, name in NAMES.items():
        assert key == key.lower().replace("_", "")
        if " " not in name:
            found: Any = fastcnn
            for part in name.split("."):
                found = getattr(found, part)
    for table in (ARGUMENTS, ELSEWHERE, VALUES):
        assert [key for key in table if key != key.lower().replace("_", "")] == []


# ---------------------------------------------------------------------- attributes
ATTRIBUTES: list[tuple[Typed, str]] = [
    (lambda: trainer().score, "Trainer has no score: evaluate(x, y) measures the model"),
    (
        lambda: trainer().save,
        "Trainer has no save: model.save(path) writes the model, save_state(path) all that "
        "training needs to go on",
    ),
    (
        lambda: trainer().load,
        "Trainer has no load: fastcnn.load(path) reads a model, load_state(path) what save_state "
        "wrote",
    ),
    (lambda: trainer().train, "Trainer has no train: fit(x, y) trains the model"),
    (lambda: trainer().summary, "Trainer has no summary: did you mean trainer.model.summary?"),
    (
        lambda: trainer().learning_rate,
        "Trainer has no learning_rate: did you mean trainer.optimizer.learning_rate?",
    ),
    (
        lambda: trainer().evalute,
        "'Trainer' object has no attribute 'evalute'; did you mean evaluate?",
    ),
    (lambda: trainer().transform, "'Trainer' object has no attribute 'transform'"),
    (lambda: trainer()._nothing, "'Trainer' object has no attribute '_nothing'"),
    (
        lambda: trainer().history.history,
        'History has no history: it is the dict itself, history["loss"] is a list of floats',
    ),
    (
        lambda: small().paramters,
        "'Sequential' object has no attribute 'paramters'; did you mean parameters?",
    ),
]


@pytest.mark.parametrize(("typed", "said"), ATTRIBUTES, ids=[row[1][:40] for row in ATTRIBUTES])
def test_an_attribute_that_an_object_does_not_have(typed: Typed, said: str) -> None:
    assert sentence(typed, AttributeError) == said


# ---------------------------------------------------------------------- arguments
SGD = (
    "SGD(learning_rate, *, momentum=0.0, nesterov=False, weight_decay=0.0, clip_norm=None, "
    "layer_rates=None)"
)
ADAM = (
    "Adam(learning_rate=0.001, *, beta1=0.9, beta2=0.999, epsilon=1e-08, weight_decay=0.0, "
    "clip_norm=None, layer_rates=None)"
)
TRAINER = (
    "Trainer(model, *, optimizer=None, loss='cross_entropy', loss_weights=None, metrics=None, "
    "backend='fast', seed=0, schedule=None, dtype=None)"
)
FIT = (
    "fit(x, y, *, epochs=1, batch_size=128, sample_weight=None, validation_data=None, "
    "validation_split=None, shuffle=True, drop_last=False, callbacks=(), verbose=True)"
)
FAST = "FastBackend(isa=None, num_threads=None, *, convolution='auto')"
DENSE = (
    "Dense(units, *, use_bias=True, activation=None, in_features=None, "
    "initializer='glorot_uniform', name=None)"
)
CONV = (
    "Conv2D(filters, kernel_size, *, stride=1, padding=0, dilation=1, groups=1, use_bias=True, "
    "activation=None, in_channels=None, initializer='glorot_uniform', name=None)"
)
MANY = "too many positional arguments"
AFTER = f"{MANY}; name those after the *, as in"


def unknown(name: str, hint: str = "") -> str:
    return f"an unexpected keyword argument '{name}'{hint and f'; {hint}'}"


OTHERS: list[tuple[Callable[..., object], str, str]] = [
    (lambda: optim.Adam(lr=1e-3), ADAM, unknown("lr", "did you mean learning_rate?")),
    (lambda: optim.Adam(betas=(0, 0)), ADAM, unknown("betas", "did you mean beta1 and beta2?")),
    (lambda: optim.Adam(eps=1e-3), ADAM, unknown("eps", "did you mean epsilon?")),
    (lambda: optim.Adam(amsgrad=True), ADAM, unknown("amsgrad")),
    (lambda: optim.Adam(1e-3, (0.9, 0.99)), ADAM, f"{AFTER} beta1=..."),
    (lambda: optim.SGD(lr=0.1), SGD, unknown("lr", "did you mean learning_rate?")),
    (lambda: optim.SGD(0.1, decay=1), SGD, unknown("decay", "did you mean weight_decay?")),
    (lambda: optim.SGD(0.1, clipnorm=1), SGD, unknown("clipnorm", "did you mean clip_norm?")),
    (lambda: optim.SGD(0.1, 0.9), SGD, f"{AFTER} momentum=..."),
    (lambda: optim.SGD(), SGD, "missing a required argument: 'learning_rate'"),
    (
        lambda: fastcnn.FastBackend(threads=2),
        FAST,
        unknown("threads", "did you mean num_threads?"),
    ),
    (lambda: fastcnn.FastBackend(device=0), FAST, unknown("device", "fastcnn runs on CPUs")),
    (lambda: trainer().fit(X, Y, metrics=["f1"]), FIT, unknown("metrics", "Trainer takes it")),
    (
        lambda: trainer(lr=0.1),
        TRAINER,
        unknown("lr", "the optimizer has it, as in optim.SGD(learning_rate=0.05, momentum=0.9)"),
    ),
    (lambda: trainer(epochs=3), TRAINER, unknown("epochs", "Trainer.fit takes it")),
    (lambda: trainer(optimiser="adam"), TRAINER, unknown("optimiser", "did you mean optimizer?")),
    (lambda: fastcnn.Trainer(small(), "adam"), TRAINER, f"{AFTER} optimizer=..."),
    (lambda: fastcnn.Trainer(small(), optim.Adam()), TRAINER, f"{AFTER} optimizer=..."),
    (lambda: fastcnn.Trainer(), TRAINER, "missing a required argument: 'model'"),
    (
        lambda: trainer().fit(X, Y, class_weight={0: 1}),
        FIT,
        unknown("class_weight", "losses.CrossEntropy(class_weights=...) has it"),
    ),
    (lambda: trainer().fit(X, Y, epoch=3), FIT, unknown("epoch", "did you mean epochs?")),
    (lambda: trainer().fit(X, Y, loss=3), FIT, unknown("loss", "Trainer takes it")),
    (lambda: trainer().predict(X, X), "predict(x, *, batch_size=128)", f"{AFTER} batch_size=..."),
    (lambda: trainer().fit(X, Y, 3), FIT, f"{AFTER} epochs=..."),
    (lambda: trainer().fit(X), FIT, "missing a required argument: 'y'"),
    (
        lambda: trainer().evaluate(X, Y, 3),
        "evaluate(x, y, *, batch_size=128, sample_weight=None)",
        f"{AFTER} batch_size=...",
    ),
    (
        lambda: fastcnn.Predictor(small(), device=0),
        "Predictor(model, backend='fast', *, dtype=None)",
        unknown("device", "fastcnn runs on CPUs"),
    ),
    (lambda: nn.Conv2D(8, 3, strides=2), CONV, unknown("strides", "did you mean stride?")),
    (lambda: nn.Conv2D(8, 3, bias=False), CONV, unknown("bias", "did you mean use_bias?")),
    (lambda: nn.Conv2D(8, kernel=3), CONV, unknown("kernel", "did you mean kernel_size?")),
    (lambda: nn.Conv2D(8, kernelSize=3), CONV, unknown("kernelSize", "did you mean kernel_size?")),
    (lambda: nn.Dense(8, useBias=0), DENSE, unknown("useBias", "did you mean use_bias?")),
    (
        lambda: nn.BatchNorm(8),
        "BatchNorm(*, momentum=0.9, epsilon=1e-05, running_variance='unbiased', name=None)",
        f"{MANY}; the number of channels is found by build",
    ),
    (
        lambda: nn.MaxPool2D(kernel_size=2),
        "MaxPool2D(pool_size=2, *, stride=None, padding=0, dilation=1, ceil_mode=False, name=None)",
        unknown("kernel_size", "did you mean pool_size?"),
    ),
    (lambda: nn.Dropout(p=0.5), "Dropout(rate, *, name=None)", unknown("p", "did you mean rate?")),
    (
        lambda: nn.Softmax(dim=1),
        "Softmax(axis=-1, *, name=None)",
        unknown("dim", "did you mean axis?"),
    ),
    (
        lambda: losses.CrossEntropy(from_logits=True),
        "CrossEntropy(*, label_smoothing=0.0, class_weights=None, ignore_label=None)",
        unknown("from_logits", "the model gives logits, always"),
    ),
    (
        lambda: losses.MeanSquaredError(reduction="sum"),
        "MeanSquaredError()",
        unknown("reduction", "the loss is the mean over the batch"),
    ),
    (
        lambda: callbacks.EarlyStopping(restore_best_weights=True),
        "EarlyStopping(monitor='val_loss', *, patience=3, min_delta=0.0, restore_best=False)",
        unknown("restore_best_weights", "did you mean restore_best?"),
    ),
    (
        lambda: callbacks.Checkpoint("a", save_best_only=True),
        "Checkpoint(path, *, monitor=None, state=False)",
        unknown("save_best_only", "did you mean monitor?"),
    ),
    (lambda: schedules.Constant(0.1), "Constant()", MANY),
    (
        lambda: F.conv2d(IMAGE, FILTERS, strides=2),
        "conv2d(x, filters, bias=None, *, stride=1, padding=0, dilation=1, groups=1, "
        "backend='fast')",
        unknown("strides", "did you mean stride?"),
    ),
    (
        lambda: F.dropout(ROWS, p=0.5),
        "dropout(x, mask, *, rate=0.5, backend='fast')",
        unknown("p", "did you mean rate?"),
    ),
    (
        lambda: F.softmax(ROWS, axis=1),
        "softmax(x, *, backend='fast')",
        unknown("axis", "it goes over the last axis"),
    ),
    (
        lambda: fastcnn.load(),
        "load(path, *, layers=())",
        "missing a required argument: 'path'",
    ),
]


@pytest.mark.parametrize(("typed", "takes", "got"), OTHERS, ids=[row[2][-40:] for row in OTHERS])
def test_arguments_that_a_function_does_not_take(typed: Typed, takes: str, got: str) -> None:
    name = takes.split("(")[0]
    said = sentence(typed, TypeError)
    assert said == f"{name}: expected {takes}, got other arguments: {got}"


def test_errors_within_a_function_are_its_own() -> None:
    @explained
    def fails(x: int, **others: int) -> int:
        return x + ""  # type: ignore[operator, no-any-return]

    with pytest.raises(TypeError, match=r"^unsupported operand"):
        fails(3, anything=4)
    assert sentence(fails, TypeError) == (  # type: ignore[arg-type]
        "fails: expected fails(x, **others), got other arguments: missing a required argument: 'x'"
    )

    class Own(optim.Optimizer):
        def __init__(self) -> None:
            super().__init__(0.1)  # type: ignore[call-arg]

    assert sentence(Own, TypeError).startswith("Optimizer: expected Optimizer(learning_rate, w")

    class Cooperates(losses.MeanSquaredError):
        def __init__(self, power: int) -> None:
            super().__init__()

    assert sentence(Cooperates, TypeError).startswith("Cooperates: expected Cooperates(power), got")
    for thing in (F.relu, trainer().fit, optim.SGD, fastcnn.FastBackend):
        assert pickle.loads(pickle.dumps(thing)).__name__ == thing.__name__  # type: ignore[attr-defined]

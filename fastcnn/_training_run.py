"""A training run of the command line: its settings, its folder of files, and how it resumes.

The folder holds model.safetensors, state.safetensors, history.json and curves.png. Each is
written after every epoch, whole or not at all, the state last; it carries the settings of the
run. A run that was cut off at any instant therefore resumes from its last finished epoch and
ends in the same bits.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastcnn import datasets, nn, optim
from fastcnn._files import remove_leftovers, require_writable, write_atomically
from fastcnn._fine_tuning import to_fine_tune
from fastcnn._interrupt import Interrupts
from fastcnn._options import choice, flag, integer, number
from fastcnn.callbacks import Callback
from fastcnn.schedules import SCHEDULES
from fastcnn.serialization import MODEL, read_notes
from fastcnn.trainer import Trainer

if TYPE_CHECKING:
    from fastcnn._types import Array
    from fastcnn.backend import Backend

__all__ = [
    "LEARNING_RATES",
    "MODEL",
    "MOMENTUM",
    "STATE",
    "Settings",
    "read_settings",
    "sample_network",
    "train",
]

INPUT_SHAPE: Final = (28, 28, 1)
LEARNING_RATES: Final = {"sgd": 0.05, "adam": 0.001, "adamw": 0.001}
MOMENTUM: Final = 0.9  # of sgd

STATE: Final = "state.safetensors"
HISTORY: Final = "history.json"
CURVES: Final = "curves.png"


def sample_network() -> nn.Sequential:
    """Return the sample network: two convolutions with pooling, two dense layers, ten classes."""
    return nn.Sequential(
        [
            nn.Conv2D(32, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Conv2D(64, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(128, activation="relu"),
            nn.Dense(10),
        ]
    )


# ---------------------------------------------------------------------- settings
@dataclass(frozen=True)
class Settings:
    """What decides the bits of a run, apart from the backend; `lr` None is the optimizer's own.

    model: the file of a network to fine-tune, None for the sample network; freeze: all but its
    head.
    """

    dataset: str = "strokes"
    epochs: int = 3
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float | None = None
    schedule: str = "cosine"
    seed: int = 0
    limit_train: int | None = None
    limit_test: int | None = None
    model: str | None = None
    freeze: bool = False

    def __post_init__(self) -> None:
        choice(self.dataset, "dataset", datasets.NAMES)
        choice(self.optimizer, "optimizer", LEARNING_RATES)
        choice(self.schedule, "schedule", SCHEDULES)
        integer(self.epochs, "epochs")
        integer(self.batch_size, "batch_size")
        integer(self.seed, "seed", 0, any_size=True)
        for limit in ("limit_train", "limit_test"):
            if getattr(self, limit) is not None:
                integer(getattr(self, limit), limit)
        if self.lr is None:
            object.__setattr__(self, "lr", LEARNING_RATES[self.optimizer])
        number(self.lr, "lr", 0.0, open_low=True)
        flag(self.freeze, "freeze")
        if self.model is not None and not isinstance(self.model, str):
            raise TypeError(f"model: expected a file's name, got {type(self.model).__name__}")
        if self.freeze and self.model is None:
            raise ValueError("--freeze: expected --model, whose weights it keeps, got none")

    def make_optimizer(self) -> optim.Optimizer:
        """Return the optimizer; SGD is with MOMENTUM."""
        assert self.lr is not None  # __post_init__ saw to it
        if self.optimizer == "sgd":
            return optim.SGD(self.lr, momentum=MOMENTUM)
        return optim.Adam(self.lr) if self.optimizer == "adam" else optim.AdamW(self.lr)


def read_settings(state_path: Path) -> Settings:
    """Return the settings of the run that wrote a state file.

    Raises ValueError for a file that no `fastcnn train` wrote, OSError for none at all.
    """
    saved = read_notes(state_path).get("run")
    names = {field.name for field in fields(Settings)}
    try:
        # States of before models could be fine-tuned do not have these.
        if not isinstance(saved, dict) or not names - {"model", "freeze"} <= set(saved) <= names:
            raise ValueError("it does not say with which settings")
        return Settings(**saved)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{state_path}: expected a state of fastcnn train: {error}") from None


# ---------------------------------------------------------------------- the run
def train(
    given: Mapping[str, Any],
    *,
    output: Path | None,
    resume: bool,
    data_dir: str | None,
    backend: Backend | str,
) -> float:
    """Train a network as the command line asks; return the test accuracy.

    `given` holds the settings that the user named. Raises ValueError, OSError and the like for
    whatever cannot be done, with nothing changed in the folder.
    """
    folder = output or Path("runs") / given.get("dataset", Settings.dataset)
    if "model" in given:  # the same from another folder, where the run may be resumed
        given = {**given, "model": os.path.abspath(given["model"])}
    settings = _resumed_settings(folder, given) if resume else Settings(**given)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--output: expected a folder, got the file {folder}")

    model, prepared = _network(settings)
    data = datasets.load(
        settings.dataset,
        data_dir,
        limit_train=settings.limit_train,
        limit_test=settings.limit_test,
    )
    (x_train, y_train), (x_test, y_test) = data
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    wanted = model.input_shape
    if x_train.shape[1:] != wanted:
        size = (len(x_train) + len(x_test)) * math.prod(wanted)
        print(f"images are made {' x '.join(map(str, wanted))}, {size / 1e6:,.0f} MB of them")
    x_train, x_test = prepared(x_train), prepared(x_test)
    trainer = Trainer(
        model,
        optimizer=settings.make_optimizer(),
        loss="cross_entropy",
        backend=backend,
        seed=settings.seed,
        schedule=settings.schedule,
    )
    print(f"{settings.dataset}: {len(x_train):,} training and {len(x_test):,} test images")
    if resume:
        trainer.load_state(folder / STATE)
        _require_same_data(trainer, settings, x_train)
        print(f"{folder}: going on after epoch {trainer.epoch} of {settings.epochs}")
    else:
        print(model.summary())
        if (folder / STATE).exists():
            print(f"{folder}: its run will be replaced when the first epoch is done")

    files = _RunFiles(folder, settings)
    if trainer.epoch < settings.epochs:
        trainer.fit(
            x_train,
            y_train,
            epochs=settings.epochs - trainer.epoch,
            batch_size=settings.batch_size,
            validation_data=(x_test, y_test),
            callbacks=[files],
        )
    else:
        files.on_epoch_end(trainer)  # a run cut off between two files gets them all
    print(f"{folder}: {', '.join(files.written)}")
    return trainer.history["val_accuracy"][-1]


def _network(settings: Settings) -> tuple[nn.Module, Callable[[Array], Array]]:
    """Return the network to train, with notes, and what makes its inputs of a data set's images."""
    classes = list(datasets.CLASSES[settings.dataset])
    if settings.model is not None:
        options: Any = {"freeze": settings.freeze, "seed": settings.seed}
        return to_fine_tune(settings.model, classes, INPUT_SHAPE, **options)
    model = sample_network()
    model.build(INPUT_SHAPE, seed=settings.seed)
    # the images' ground is dark, and fastcnn predict takes them so
    model.notes = {"classes": classes, "preprocessing": {"invert": False}}
    return model, lambda x: x


def _resumed_settings(folder: Path, given: Mapping[str, Any]) -> Settings:
    """Return the saved settings; what the user named again must agree, but for more epochs."""
    if not (folder / STATE).is_file():
        raise FileNotFoundError(
            f"--resume: expected a run in {folder}, got no {STATE} there; leave --resume out to "
            "begin one"
        )
    settings = read_settings(folder / STATE)
    for name, value in given.items():
        begun = getattr(settings, name)
        if name != "epochs" and value != begun:
            option = "--" + name.replace("_", "-")
            raise ValueError(
                f"--resume: expected {option} {begun}, with which the run in {folder} began, "
                f"got {value}"
            )
    return replace(settings, epochs=given.get("epochs", settings.epochs))


def _require_same_data(trainer: Trainer, settings: Settings, x_train: Array) -> None:
    if trainer.epoch > settings.epochs:
        raise ValueError(
            f"--resume: expected --epochs {trainer.epoch} or more, as many as are done, got "
            f"{settings.epochs}"
        )
    steps = trainer.epoch * -(-len(x_train) // settings.batch_size)
    if trainer.step != steps:
        raise ValueError(
            f"--resume: expected the data that the run began with, {trainer.step} steps in "
            f"{trainer.epoch} epochs, got data of {steps} steps"
        )
    if any(len(trainer.history[name]) != trainer.epoch for name in ("loss", "val_accuracy")):
        raise ValueError("--resume: expected a state with the numbers of every epoch, got others")


class _RunFiles(Callback):
    """Writes the run's files after every epoch, and its state once before the first."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.written = [MODEL, STATE, HISTORY]

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Make the run resumable from its start; a run that is there stays until it is replaced.

        What could not be written later is an error now.
        """
        for name in self.written:
            require_writable(self.folder / name)
        if not (self.folder / STATE).exists():
            trainer.save_state(self.folder / STATE, notes={"run": asdict(self.settings)})

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Write all files, the state last: it never is ahead of the others.

        Ctrl-C waits for them: where it meets the import of matplotlib's compiled modules, some
        of them swallow it and others end the process.
        """
        with Interrupts() as interrupts, interrupts.held():
            trainer.model.save(self.folder / MODEL)
            write_atomically(self.folder / HISTORY, json.dumps(trainer.history).encode())
            curves = _draw_curves(trainer.history)
            if curves is not None:
                write_atomically(self.folder / CURVES, curves)
                self.written = [MODEL, STATE, HISTORY, CURVES]
            trainer.save_state(self.folder / STATE, notes={"run": asdict(self.settings)})


def _draw_curves(history: Mapping[str, list[float]]) -> bytes | None:
    """Return losses and accuracies over the epochs as a PNG image; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:  # the plot extra was not asked for
        return None
    epochs = range(1, len(history["loss"]) + 1)
    steps = len(history["step_loss"])
    by_step = [len(epochs) * (step + 1) / steps for step in range(steps)]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(by_step, history["step_loss"], color="0.8", linewidth=0.8, label="each step")
    left.set_yscale("log")
    for axes, name in ((left, "loss"), (right, "accuracy")):
        axes.plot(epochs, history[name], marker="o", label="training")
        axes.plot(epochs, history[f"val_{name}"], marker="o", label="test")
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()

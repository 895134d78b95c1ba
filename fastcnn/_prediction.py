"""A model as the command asks it: prepared as its notes say, about files or a data set."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastcnn import nn
from fastcnn._images import read_images
from fastcnn._preparation import Preparation, resized, unfit
from fastcnn._several import ends_in, inputs_of
from fastcnn.losses import CrossEntropy
from fastcnn.metrics import correct
from fastcnn.trainer import Trainer

if TYPE_CHECKING:
    from fastcnn._types import Array
    from fastcnn.backend import Backend

__all__ = ["FORMATS", "Answer", "Classifier", "labels_in"]


# ---------------------------------------------------------------------- asking
@dataclass(frozen=True)
class Answer:
    """What a model says of an image: the probability of every class."""

    image: str
    probabilities: Array
    names: list[str] | None

    def best(self, count: int) -> list[tuple[int, str | None, float]]:
        """Return (class, its name, probability) of the most probable classes, the first first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count].tolist()
        return [
            (c, None if self.names is None else self.names[c], float(self.probabilities[c]))
            for c in order
        ]


class Classifier:
    """A model that is asked about images, prepared as the notes in its own file say.

    model.notes may have "classes", the names of the classes in order, and "preprocessing", a dict
    of which Preparation tells; `given` goes before it. Pictures get all of it, arrays of uint8 mean
    and std, arrays of floats none: they are what the model takes. Raises ValueError, which begins
    with the name of the command, for a model that gives no classes, and for notes of another form.
    """

    def __init__(
        self,
        model: nn.Module,
        backend: Backend,
        *,
        command: str = "predict",
        given: Mapping[str, Any] | None = None,
    ) -> None:
        if inputs_of(model):
            raise ValueError(
                f"{command}: expected a model of one input, got one of {inputs_of(model)}"
            )
        if len(model.output_shape) != 1:
            raise ValueError(
                f"{command}: expected a model that gives classes, got one that gives "
                f"{model.output_shape}"
            )
        classes = model.output_shape[0]
        if classes == 1:
            raise ValueError(
                f"{command}: expected a model that gives two classes or more, got one of a single "
                "output"
            )
        self.input_shape = model.input_shape
        self.names = _names(model.notes.get("classes"), classes, command)
        self.preparation = Preparation(model.notes, model.input_shape, command, given or {})
        # cross_entropy, which nothing here computes, would refuse a model that ends in softmax
        self.gives_probabilities = ends_in(model, "softmax")
        loss = "mean_squared_error" if self.gives_probabilities else "cross_entropy"
        self.trainer = Trainer(model, loss=loss, backend=backend)

    def ask(self, files: Iterable[str]) -> Iterator[Answer | Exception]:
        """Yield an answer for each image in each file, or what is wrong with it."""
        for file in files:
            try:
                labels, x = read_images(file, self.input_shape, invert=self.preparation.invert)
                answers = self._probabilities(x)
            except (OSError, ValueError, TypeError, FloatingPointError, MemoryError) as error:
                yield error
                continue
            for label, probabilities in zip(labels, answers, strict=True):
                if math.isnan(probabilities.max()):
                    yield ValueError(
                        f"{label}: expected probabilities, got NaN: there are NaN, infinite or far "
                        "too large numbers in the image or in the model's weights"
                    )
                else:
                    yield Answer(label, probabilities, self.names)

    def _probabilities(self, x: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # the answer tells of it
            x = self.preparation.normalized(x, self.trainer.dtype)
            return self.trainer.predict_proba(x)  # a softmax at the end is not applied twice

    def measure(self, x: Array, y: Array, *, batch_size: int) -> dict[str, float]:
        """Return {"loss": ..., "accuracy": ...} over images, made of the model's size, and labels.

        The loss is cross-entropy, of a model that ends in softmax that of its probabilities.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # the loss tells of it
            x = self.preparation.normalized(resized(x, self.input_shape), self.trainer.dtype)
        trainer = self.trainer
        if not self.gives_probabilities:
            return trainer.evaluate(x, y, batch_size=batch_size)
        model = trainer.model
        labels = CrossEntropy().targets(y, len(x), model.output_shape, trainer.dtype, "y")
        probabilities = trainer.predict_proba(x, batch_size=batch_size)
        of_labels = probabilities[np.arange(len(x)), labels].astype(np.float64)
        least = float(np.finfo(trainer.dtype).tiny)  # what rounds to 0 has a finite logarithm
        return {
            "loss": float(-np.log(np.maximum(of_labels, least)).mean()),
            "accuracy": correct(probabilities, labels) / len(x),
        }


def _names(classes: Any, count: int, command: str) -> list[str] | None:
    if classes is None:
        return None
    if not isinstance(classes, list) or len(classes) != count:
        raise unfit(
            f'{command}: "classes" in the model\'s notes', f"a list of {count} names", classes
        )
    return [str(name) for name in classes]


def labels_in(path: Path, model: nn.Module) -> list[str]:
    """Return the names of a model's classes out of a text file, a line each."""
    try:
        names = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected a text file in UTF-8, a name a line") from None
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if model.output_shape not in ((len(names),), ()):
        raise ValueError(
            f"predict: --labels: expected a line for each of the model's outputs, "
            f"{model.output_shape}, got {len(names)} of them in {path}"
        )
    return names


# ---------------------------------------------------------------------- telling
def _text(answers: Iterable[Answer], top: int) -> None:
    """Print a line an image."""
    for answer in answers:
        said = []
        for c, name, probability in answer.best(top):
            named = "" if name in (None, str(c)) else f" {_printable(name):.100},"
            said.append(f"class {c},{named} probability {probability:.4f}")
        print(f"{_printable(answer.image)}: {'; '.join(said)}")


def _printable(name: str | None) -> str:
    """Return a name with escapes for what would end the line, or act on the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))


def _csv(answers: Iterable[Answer], top: int) -> None:
    """Print a header, then a row for each image and class that is told of it."""
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["file", "class", "name", "probability"])
    for answer in answers:
        for c, name, probability in answer.best(top):
            rows.writerow([answer.image, c, name, f"{probability:.6g}"])


def _json(answers: Iterable[Answer], top: int) -> None:
    """Print a list with an object for each image, a line each."""
    before = "["
    for answer in answers:
        best = [
            {"class": c, "name": name, "probability": probability}
            for c, name, probability in answer.best(top)
        ]
        told: dict[str, Any] = {"file": answer.image, **best[0]}
        if top > 1:
            told["top"] = best
        told["probabilities"] = answer.probabilities.tolist()
        print(f"{before}\n{json.dumps(told)}", end="")
        before = ","
    print("[]" if before == "[" else "\n]")


# how the answers are printed, with as many classes of each as are asked for
FORMATS: Final = {"text": _text, "json": _json, "csv": _csv}

"""What `fastcnn predict` does: files in, the classes that a model gives them out."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastcnn import nn
from fastcnn._images import read_images
from fastcnn._setup import ends_in
from fastcnn.trainer import Trainer

if TYPE_CHECKING:
    from fastcnn.backend import Array, Backend

__all__ = ["FORMATS", "Answer", "Classifier"]


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
    """A model that is asked about files, prepared as the notes in its own file say.

    model.notes may have "classes", the names of the classes in order, and "preprocessing", a dict:
    "invert" (true: pictures are turned from dark on light to light on dark), "mean" and "std"
    (numbers, or one for each channel: what remains of pixels from 0 to 1 is (x - mean) / std).
    `invert`, unless None, goes before the notes. Pictures get all of it, arrays of uint8 mean and
    std, arrays of floats none: they are what the model takes. Raises ValueError for a model that
    gives no classes, and for notes of another form.
    """

    def __init__(self, model: nn.Module, backend: Backend, *, invert: bool | None = None) -> None:
        if len(model.output_shape) != 1:
            raise ValueError(
                "predict: expected a model that gives classes, got one that gives "
                f"{model.output_shape}"
            )
        classes = model.output_shape[0]
        if classes == 1:
            raise ValueError(
                "predict: expected a model that gives two classes or more, got one of a single "
                "output"
            )
        self.input_shape = model.input_shape
        self.names = _names(model.notes.get("classes"), classes)
        preprocessing = model.notes.get("preprocessing", {})
        if not isinstance(preprocessing, dict):
            raise _unfit('"preprocessing"', "a dict", preprocessing)
        noted = preprocessing.get("invert", False)
        if not isinstance(noted, bool):
            raise _unfit('"invert"', "true or false", noted)
        self.invert = noted if invert is None else invert
        self.mean = _by_channel(preprocessing, "mean", 0.0, model.input_shape)
        self.std = _by_channel(preprocessing, "std", 1.0, model.input_shape)
        self.normalizes = "mean" in preprocessing or "std" in preprocessing
        # cross_entropy, which nothing here computes, would refuse a model that ends in softmax
        self.gives_probabilities = ends_in(model, "softmax")
        loss = "mean_squared_error" if self.gives_probabilities else "cross_entropy"
        self.trainer = Trainer(model, loss=loss, backend=backend)

    def ask(self, files: Iterable[str]) -> Iterator[Answer | Exception]:
        """Yield an answer for each image in each file, or what is wrong with it."""
        for file in files:
            try:
                labels, x = read_images(file, self.input_shape, invert=self.invert)
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
            if self.normalizes and x.dtype == np.uint8:
                x = (x / 255 - self.mean) / self.std
            ask = self.trainer.predict if self.gives_probabilities else self.trainer.predict_proba
            return ask(x)


def _names(classes: Any, count: int) -> list[str] | None:
    if classes is None:
        return None
    if not isinstance(classes, list) or len(classes) != count:
        raise _unfit('"classes"', f"a list of {count} names", classes)
    return [str(name) for name in classes]


def _by_channel(notes: dict[str, Any], name: str, default: float, shape: tuple[int, ...]) -> Array:
    value = notes.get(name, default)
    expected = f"a number or {shape[-1]} of them" + (", none of them 0" if name == "std" else "")
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise _unfit(f'"{name}"', expected, value) from None
    fits = numbers.shape in ((), (1,), shape[-1:]) and np.isfinite(numbers).all()
    if not fits or (name == "std" and not numbers.all()):
        raise _unfit(f'"{name}"', expected, value)
    return numbers


def _unfit(what: str, expected: str, value: Any) -> ValueError:
    return ValueError(
        f"predict: {what} in the model's notes: expected {expected}, got {value!r:.80}"
    )


# ---------------------------------------------------------------------- telling
def _text(answers: Iterable[Answer], top: int) -> None:
    """Print a line an image."""
    for answer in answers:
        said = []
        for c, name, probability in answer.best(top):
            named = "" if name in (None, str(c)) else f" {name},"
            said.append(f"class {c},{named} probability {probability:.4f}")
        print(f"{answer.image}: {'; '.join(said)}")


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

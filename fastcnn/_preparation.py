"""Images as a model takes them: of its size, and as the notes in its file say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from fastcnn import functional
from fastcnn._shapes import fits
from fastcnn._types import Array, Shape

__all__ = ["Preparation", "resized", "unfit"]

_AT_A_TIME: Final = 1 << 22  # numbers


class Preparation:
    """What is done to images in front of a model.

    notes: the model's, whose "preprocessing" may be a dict with "invert" (true: pictures are turned
    from dark on light to light on dark), "mean" and "std" (numbers, or one for each channel: what
    remains of pixels from 0 to 1 is (x - mean) / std). given: of these, what goes before the notes.
    Raises ValueError, which begins with the name of the command, for others.
    """

    def __init__(
        self, notes: Mapping[str, Any], shape: Any, command: str, given: Mapping[str, Any]
    ) -> None:
        noted = notes.get("preprocessing", {})
        if not isinstance(noted, dict):
            raise unfit(_noted(command, "preprocessing"), "a dict", noted)
        invert = noted.get("invert", False)
        if not isinstance(invert, bool):
            raise unfit(_noted(command, "invert"), "true or false", invert)
        given = {name: value for name, value in given.items() if value is not None}
        self.shape = shape
        self.invert: bool = given.get("invert", invert)
        self.numbers: dict[str, Array] = {}  # mean and std, as far as there are any
        for name in ("mean", "std"):
            if name in given:
                self.numbers[name] = _by_channel(given[name], name, shape, f"{command}: --{name}")
            elif name in noted:
                self.numbers[name] = _by_channel(noted[name], name, shape, _noted(command, name))

    def told(self) -> dict[str, Any]:
        """Return it as notes say it."""
        return {
            "invert": self.invert,
            **{name: array.tolist() for name, array in self.numbers.items()},
        }

    def normalized(self, x: Array, dtype: np.dtype[Any]) -> Array:
        """Return uint8 images with mean and std applied, if there are any, and others as they are.

        So are those of another shape, which the model will refuse itself.
        """
        if not self.numbers or x.dtype != np.uint8 or not fits(x.shape[1:], self.shape):
            return x
        mean, std = self.numbers.get("mean", 0.0), self.numbers.get("std", 1.0)
        prepared: Array = np.empty(x.shape, dtype)
        for part in _parts(x):  # in float64, of which all together may be too much
            prepared[part] = (x[part] / 255 - mean) / std
        return prepared


def resized(x: Array, shape: Any) -> Array:
    """Return images (n, H, W, C) of uint8 in the size (height, width, channels) of a model.

    Sizes that a model leaves open stay, grey becomes three channels alike. Images that can't be
    made so are returned as they are, for the model to refuse.
    """
    if fits(x.shape[1:], shape) or len(shape) != 3 or x.ndim != 4:
        return x
    if shape[2] != x.shape[3] and (x.shape[3], shape[2]) != (1, 3):
        return x
    size = (shape[0] or x.shape[1], shape[1] or x.shape[2])
    if size != x.shape[1:3]:
        x = _of_size(x, size)
    return x if shape[2] == x.shape[3] else np.repeat(x, 3, axis=3)


def _of_size(x: Array, size: tuple[int, int]) -> Array:
    y: Array = np.empty((len(x), *size, x.shape[3]), np.uint8)
    for part in _parts(y):
        scaled = functional.resize2d(x[part].astype(np.float32), size, method="bilinear")
        y[part] = np.rint(scaled)
    return y


def _parts(x: Array) -> Iterator[slice]:
    """Yield slices of images that are worked on together."""
    count = max(1, _AT_A_TIME // x[0].size)
    for start in range(0, len(x), count):
        yield slice(start, start + count)


def unfit(said: str, expected: str, value: Any) -> ValueError:
    """Return the error of a note or option of another form."""
    return ValueError(f"{said}: expected {expected}, got {value!r:.80}")


def _noted(command: str, name: str) -> str:
    return f'{command}: "{name}" in the model\'s notes'


def _by_channel(value: Any, name: str, shape: Shape, said: str) -> Array:
    expected = f"a number or {shape[-1]} of them" + (", none of them 0" if name == "std" else "")
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise unfit(said, expected, value) from None
    good = numbers.shape in ((), (1,), shape[-1:]) and np.isfinite(numbers).all()
    if not good or (name == "std" and not numbers.all()):
        raise unfit(said, expected, value)
    return numbers

"""`fastcnn train --model FILE`: a network of another task, made ready for a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastcnn import nn
from fastcnn._heads import with_new_head
from fastcnn._model_files import read_model, sized
from fastcnn._preparation import Preparation, resized
from fastcnn._several import ends_in
from fastcnn._types import Array, Shape

__all__ = ["to_fine_tune"]


def to_fine_tune(
    file: str, classes: list[str], shape: Shape, *, freeze: bool, seed: int
) -> tuple[nn.Module, Callable[[Array], Array]]:
    """Return the network in a file with a head of these classes, and what prepares images for it.

    shape: of the data set's images, which a network takes as they are if it leaves sizes open. The
    head is a new one unless it gives as many logits. freeze: all but the head. seed: of a new
    head's weights. Its notes name the classes, and keep mean and std: images are prepared by them.
    """
    model = read_model(Path(file))
    given: Any = model.input_shape
    if len(given) != 3 or given[2] not in (shape[2], 3 if shape[2] == 1 else shape[2]):
        raise ValueError(
            f"--model: expected a network that takes images such as {shape}, or larger ones, grey "
            f"or RGB, got one that takes {given}"
        )
    height, width, channels = given[0] or shape[0], given[1] or shape[1], given[2]
    if model.output_shape != (len(classes),) or ends_in(model, "softmax", "sigmoid"):
        options: Any = {"freeze": freeze, "seed": seed, "input_shape": (height, width, channels)}
        model = with_new_head(model, len(classes), **options)
    else:
        model = sized(model, height, width)
        if freeze:
            _freeze_body(model)
    preparation = Preparation(model.notes, model.input_shape, "train", {})
    told = {**preparation.told(), "invert": False}  # the images' ground is dark
    model.notes = {**model.notes, "classes": classes, "preprocessing": told}
    dtype: Any = model.dtype
    wanted = model.input_shape
    return model, lambda x: preparation.normalized(resized(x, wanted), dtype)


def _freeze_body(model: nn.Module) -> None:
    """Freeze all but the last layer that has parameters."""
    *_, head = (module for module in model.modules() if module._parameters)
    model.trainable = False
    head.trainable = True

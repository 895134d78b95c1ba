"""Inference: a model's layers as steps that are made ready once."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastcnn import nn
from fastcnn._batches import floats
from fastcnn._hints import shape_hint
from fastcnn._preparation import preparation
from fastcnn._steps import Plan, flat, in_turn, steps_of
from fastcnn.backend import Array, Backend, get_backend
from fastcnn.nn._options import float_dtype

__all__ = ["Predictor", "as_images", "compiled"]

Step = Callable[[Array], Array]

_SMALL = 1 << 18  # numbers of a batch up to which its arrays are kept for the next of its shape
_MOST_SHAPES = 16  # of small batches


class Predictor:
    """A built model made ready to serve: one image or a batch at a time, from any thread.

        predictor = fastcnn.Predictor(fastcnn.load("model.safetensors"))
        logits = predictor(image[None])

    model: a built layer or model; what happens to it later, the predictor does not see. backend:
    "fast", "reference" or a backend. dtype: for a model without weights.

    The fast backend packs the weights once and folds batch normalization into the layer in front
    of it, w' = w * gamma / sqrt(variance + epsilon) and b' alike, computed in float64: results
    differ from the model's by rounding, that of n + 4 operations for sums of n products. On other
    backends the predictor runs the model.
    """

    def __init__(
        self,
        model: nn.Module,
        backend: Backend | str = "fast",
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: expected a fastcnn.nn model, got {type(model).__name__}")
        if not model.built:
            raise RuntimeError(
                "model: expected one with weights, got one without; call build(input_shape) first"
            )
        self.input_shape = model.input_shape
        self.output_shape = model.output_shape
        self.dtype = model.dtype or float_dtype(np.float32 if dtype is None else dtype)
        self._run = compiled(copy.deepcopy(model), get_backend(backend), follow=False)

    def __call__(self, x: ArrayLike) -> Array:
        """Return the model's outputs (n, ...) for x (n, *input_shape), n at least one.

        uint8 is divided by 255, floats are taken as they are, as the trainer does. TypeError
        for other dtypes, ValueError for other shapes.
        """
        return self._run(floats(as_images(x, "x", self.input_shape), self.dtype))


# ---------------------------------------------------------------------- images
_IMAGES = tuple(map(np.dtype, (np.uint8, np.float16, np.float32, np.float64)))


def as_images(x: ArrayLike, where: str, input_shape: tuple[int, ...] | None) -> Array:
    """Return x as an array, checked to be a batch of images, of this shape unless None."""
    try:
        images = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{where}: expected an array, got what is none: {error}") from None
    if images.dtype not in _IMAGES and images.dtype.newbyteorder("=") not in _IMAGES:
        hint = "; bytes are x.astype(np.uint8)" if images.dtype.kind in "iu" else ""
        raise TypeError(
            f"{where}: expected uint8 (which is divided by 255), float32 or float64, got "
            f"{images.dtype}{hint}"
        )
    if images.ndim < 2:
        raise ValueError(
            f"{where}: expected a batch such as (n, 28, 28, 1), got shape {images.shape}"
        )
    if len(images) == 0:
        raise ValueError(f"{where}: expected at least one image, got shape {images.shape}")
    if input_shape is not None and images.shape[1:] != input_shape:
        raise ValueError(
            f"{where}: expected a batch of shape (n, {', '.join(map(str, input_shape))}), got "
            f"{images.shape}{shape_hint(images.shape, input_shape)}"
        )
    return images


# ---------------------------------------------------------------------- steps
def compiled(model: nn.Module, backend: Backend, *, follow: bool) -> Step:
    """Return a function of x that computes model(x, backend) in inference.

    With `follow` every call sees the weights as they are then, however they were changed: what
    was prepared is compared with them and prepared again. Without it they must not change.
    """
    prepared = preparation(backend)
    if prepared is None:
        return lambda x: model(x, backend)
    steps = steps_of(flat(model), backend, prepared, follow)
    bound: dict[tuple[int, ...], list[Plan]] = {}  # those that wait for the next call

    def run(x: Array) -> Array:
        if x.size > _SMALL:
            return in_turn(steps, x)
        key = (prepared.num_threads, *x.shape)
        if key not in bound and len(bound) >= _MOST_SHAPES:
            bound.clear()
        idle = bound.setdefault(key, [])
        try:
            plan = idle.pop()
        except IndexError:
            plan = Plan(steps, x)
        if not plan.whole:
            y = in_turn(steps, x)
        elif follow and not plan.current():
            plan = Plan(steps, x)
            y = plan(x)
        else:
            y = plan(x)
        idle.append(plan)
        return y

    return run

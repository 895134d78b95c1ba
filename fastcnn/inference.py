"""Inference: a model as a function of batches, on the fast backend by plans made ready once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastcnn import nn
from fastcnn._arrays import as_array
from fastcnn._backends import as_fast, get_backend, packed_backend, unpacked_backend
from fastcnn._batches import floats
from fastcnn._hints import shape_hint
from fastcnn._options import float_dtype
from fastcnn._sentences import explained
from fastcnn._several import (
    dict_names_of,
    input_ends,
    inputs_of,
    require_same_count,
    several,
    under,
)
from fastcnn._shapes import fits
from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.nn._places import in_order
from fastcnn.nn._repr import model_in_words

__all__ = ["Predictor", "as_images", "compiled", "no_model"]

Run = Callable[..., Any]  # of an input or several; what it gives is a tuple of several outputs


class Predictor:
    """A built model made ready to serve: one image or a batch at a time, from any thread.

        predictor = fastcnn.Predictor(fastcnn.load("model.safetensors"))
        logits = predictor(image[None])

    The inputs of a model that takes several come one after another, predictor(a, b), or by their
    names, predictor(image=a, meta=b); the outputs of one that gives several are a list, or a dict
    where the model was made with a dict of outputs.

    model: a built layer or model; what happens to it later, the predictor does not see. backend:
    "fast", "reference" or a backend. dtype: for a model without weights.

    The fast backend packs the weights once and folds batch normalization into the layer in front
    of it, w' = w * gamma / sqrt(variance + epsilon) and b' alike, computed in float64: results
    differ from the model's by rounding, that of n + 4 operations for sums of n products. On other
    backends the predictor runs the model.
    """

    @explained
    def __init__(
        self,
        model: nn.Module,
        backend: Backend | str = "fast",
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise no_model(model)
        if not model.built:
            raise RuntimeError(
                f"model: expected one with weights, got one without; call {model._building} first"
            )
        self.input_shape = model.input_shape
        self.output_shape = model.output_shape
        self.dtype = model.dtype or float_dtype(np.float32 if dtype is None else dtype)
        self._words = model_in_words(model)
        self._ends, self._dict_names = input_ends(model), dict_names_of(model)
        plain = not self._ends.number and not several(self.output_shape)
        self._integers: tuple[bool, ...] = getattr(model, "takes_integers", ())
        plain = plain and not any(self._integers)
        self._is_plain = plain and self._dict_names is None
        self._model = copy.deepcopy(model)
        self._backend = get_backend(backend)
        self._run = compiled(self._model, self._backend, follow=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles take along: what is made ready is made again."""
        state = {name: value for name, value in vars(self).items() if name != "_run"}
        return {**state, "_backend": packed_backend(self._backend)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, _backend=unpacked_backend(state["_backend"]))
        self._run = compiled(self._model, self._backend, follow=False)

    def __repr__(self) -> str:
        shapes = f"input_shape={self.input_shape}, output_shape={self.output_shape}"
        return f"Predictor({self._words}, {shapes}, dtype={self.dtype})"

    @overload
    def __call__(self, x: ArrayLike, /) -> Array: ...
    @overload
    def __call__(self, /, *inputs: ArrayLike, **named: ArrayLike) -> Any: ...
    def __call__(self, /, *inputs: ArrayLike, **named: ArrayLike) -> Any:
        """Return the model's outputs (n, ...) for x (n, *input_shape), n at least one.

        Several inputs come in the model's order, or by their names, for as many samples each. Of a
        model with several outputs it is a list of arrays, or a dict. uint8 is divided by 255,
        floats are taken as they are, as the trainer does. TypeError for other dtypes and for
        another number of inputs, ValueError for other shapes and names.
        """
        if self._is_plain and len(inputs) == 1 and not named:
            return self._run(floats(as_images(inputs[0], "x", self.input_shape), self.dtype))
        if named:
            inputs = self._by_name(inputs, named)
        expected = self._ends.number or 1
        if len(inputs) != expected:
            hint = ""
            if len(inputs) == 1 and isinstance(inputs[0], (list, tuple, dict)):
                stars = "**" if isinstance(inputs[0], dict) else "*"
                hint = f"; a {type(inputs[0]).__name__} of them goes in as predictor({stars}inputs)"
            raise TypeError(
                f"Predictor: expected {expected} input{'s' * (expected > 1)}, as many as the model "
                f"takes, got {len(inputs)}{hint}"
            )
        shapes: Any = self.input_shape if self._ends.number else (self.input_shape,)
        names = self._ends.called("inputs") or ("x",)
        if any(self._integers):
            inputs = tuple(map(self._numbers, inputs, self._integers))
        checked = tuple(map(as_images, inputs, names, shapes))
        require_same_count(checked, names)
        result = self._run(*(floats(images, self.dtype) for images in checked))
        return under(self._dict_names, list(result) if isinstance(result, tuple) else result)

    def _numbers(self, x: ArrayLike, integers: bool) -> ArrayLike:
        """Return an input that is of integers as floats of the same values, any other as it is."""
        array = as_array(x, "x")
        return array.astype(self.dtype) if integers and array.dtype.kind in "biu" else array

    def _by_name(self, placed: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Return inputs that were given by their names in the model's order."""
        names = self._ends.names or (() if self._ends.number else ("x",))
        if placed or not names:
            got = f"{len(placed)} by place and {', '.join(named)} by name" if placed else "names"
            hint = "" if names else "; the model's inputs have no names"
            raise TypeError(
                f"Predictor: expected all inputs by place or all by name, got {got}{hint}"
            )
        return in_order(named, names, "Predictor", "inputs")


def no_model(model: object) -> TypeError:
    """Return the error of what is no model."""
    got = f"the class {model.__name__}; call it" if isinstance(model, type) else None
    return TypeError(f"model: expected a fastcnn.nn model, got {got or type(model).__name__}")


# ---------------------------------------------------------------------- images
_IMAGES = tuple(map(np.dtype, (np.float32, np.uint8, np.float64, np.float16)))  # often, seldom


def as_images(x: ArrayLike, where: str, input_shape: tuple[int, ...] | None) -> Array:
    """Return x as an array, checked to be a batch of images, of this shape unless None."""
    images = as_array(x, where)
    if images.dtype not in _IMAGES and images.dtype.newbyteorder("=") not in _IMAGES:
        is_text = images.ndim == 0 and images.dtype.kind == "U"
        hint = "; bytes are x.astype(np.uint8)" if images.dtype.kind in "iu" else ""
        raise TypeError(
            f"{where}: expected uint8 (which is divided by 255), float32 or float64, got "
            f"{f'{images.item()!r:.80}' if is_text else images.dtype}{hint}"
        )
    if images.ndim < 2:
        raise ValueError(
            f"{where}: expected a batch such as (n, 28, 28, 1), got shape {images.shape}"
        )
    if len(images) == 0:
        raise ValueError(f"{where}: expected at least one image, got shape {images.shape}")
    if input_shape is not None and not fits(images.shape[1:], input_shape):
        sizes = ", ".join("any" if size is None else str(size) for size in input_shape)
        hint = "" if None in input_shape else shape_hint(images.shape, input_shape)
        raise ValueError(
            f"{where}: expected a batch of shape (n, {sizes}), got {images.shape}{hint}"
        )
    return images


# ---------------------------------------------------------------------- running
def compiled(model: nn.Module, backend: Backend, *, follow: bool) -> Run:
    """Return a function of x that computes model(x, backend) in inference.

    With `follow` every call sees the weights as they are then, however they were changed: what
    was prepared is compared with them and prepared again. Without it they must not change. Several
    inputs are as many arguments, several outputs a tuple.
    """
    fast = as_fast(backend)
    if fast is None:
        whole: Any = model
        if inputs_of(model):
            return lambda *inputs: whole(inputs, backend)
        return lambda x: whole(x, backend)
    from fastcnn.fast._inference import compiled as planned

    return planned(model, fast, follow=follow)

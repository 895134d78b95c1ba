"""Inference: a model's layers as steps that are made ready once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastcnn import nn
from fastcnn._memory import empty, same_bytes
from fastcnn.backend import Array, Backend, get_backend
from fastcnn.nn._block import as_block_pool
from fastcnn.nn._options import float_dtype

__all__ = ["Predictor", "as_images", "compiled", "floats"]

Step = Callable[[Array], Array]

_SMALL = 1 << 14  # numbers of a batch up to which its arrays are kept for the next of its shape
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
        raise TypeError(
            f"{where}: expected uint8 (which is divided by 255), float32 or float64, got "
            f"{images.dtype}"
        )
    if images.ndim < 2:
        raise ValueError(
            f"{where}: expected a batch such as (n, 28, 28, 1), got shape {images.shape}"
        )
    if len(images) == 0:
        raise ValueError(f"{where}: expected at least one image, got shape {images.shape}")
    if input_shape is not None and images.shape[1:] != input_shape:
        hint = ""
        if (*images.shape[1:], 1) == input_shape:
            hint = "; add the axis of channels: x[..., None]"
        elif images.shape == input_shape:
            hint = "; add the axis of the batch: x[None]"
        raise ValueError(
            f"{where}: expected a batch of shape (n, {', '.join(map(str, input_shape))}), got "
            f"{images.shape}{hint}"
        )
    return images


def floats(images: Array, dtype: np.dtype[Any]) -> Array:
    """Return a batch in the model's dtype, uint8 divided by 255."""
    if images.dtype == dtype:
        return images
    converted = empty(images.shape, dtype)
    np.copyto(converted, images, casting="same_kind")
    if images.dtype == np.uint8:
        np.divide(converted, 255, out=converted)
    return converted


# ---------------------------------------------------------------------- steps
def compiled(model: nn.Module, backend: Backend, *, follow: bool) -> Step:
    """Return a function of x that computes model(x, backend) in inference.

    With `follow` every call sees the weights as they are then, however they were changed: what
    was prepared is compared with them and prepared again. Without it they must not change.
    """
    # Asked of the type: a wrapper that hands calls on to a fast backend wants to see them.
    if not hasattr(type(backend), "prepared"):
        return lambda x: model(x, backend)
    prepared = cast("Any", backend).prepared
    steps = _steps(_flat(model), backend, prepared, follow)
    bound: dict[tuple[int, ...], list[_Bound]] = {}  # those that wait for the next call

    def run(x: Array) -> Array:
        if x.size > _SMALL:
            return _in_turn(steps, x)
        key = (prepared.num_threads, *x.shape)
        if key not in bound and len(bound) >= _MOST_SHAPES:
            bound.clear()
        idle = bound.setdefault(key, [])
        try:
            plan = idle.pop()
        except IndexError:
            plan = _Bound(steps, x)
        if not plan.whole:
            y = _in_turn(steps, x)
        elif follow and not plan.current():
            plan = _Bound(steps, x)
            y = plan(x)
        else:
            y = plan(x)
        idle.append(plan)
        return y

    return run


def _in_turn(steps: list[Step], x: Array) -> Array:
    for step in steps:
        x = step(x)
    return x


class _Bound:
    """The steps with arrays of their own: all is looked up, checked and allocated beforehand.

    That leaves next to nothing around the arithmetic of one image. `whole`: whether every step
    can be bound, which is so for the layers of small classifiers.
    """

    def __init__(self, steps: list[Step], x: Array) -> None:
        self._x = y = x.copy()
        self._calls: list[Callable[[], object]] = []
        self._ops: list[tuple[_Product, Step]] = []
        self.whole = True
        for step in steps:
            if isinstance(step, _Product):
                op = step.op()
                bound = step.bind(op, y)
                if bound is None:
                    self.whole = False
                    return
                call, y = bound
                self._calls.append(call)
                self._ops.append((step, op))
            elif step is _flatten:
                y = step(y)
            else:
                self.whole = False
                return
        self._y = y

    def current(self) -> bool:
        """Return whether the ops are those of the weights as they are now."""
        return all(step.op() is op for step, op in self._ops)

    def __call__(self, x: Array) -> Array:
        self._x[...] = x
        for call in self._calls:
            call()
        return self._y.copy()


def _flatten(x: Array) -> Array:
    return x.reshape(len(x), -1)


def _flat(module: nn.Module) -> list[nn.Module]:
    """Return the layers of nested Sequentials in the order in which they run."""
    # Here and below a subclass, which may compute something else, is a layer of its own.
    if type(module) is not nn.Sequential:
        return [module]
    return [leaf for layer in module.layers for leaf in _flat(layer)]


def _steps(layers: list[nn.Module], backend: Backend, prepared: Any, follow: bool) -> list[Step]:
    steps: list[Step] = []
    while layers:
        layer = layers.pop(0)
        if type(layer) in (nn.Conv2D, nn.DepthwiseConv2D, nn.Dense):
            steps.append(_Product(layer, layers, backend, prepared, follow))
        elif type(layer) is nn.Residual:
            steps.append(_residual(layer, backend, follow))
        elif type(layer) is nn.Flatten:
            steps.append(_flatten)
        elif type(layer) is not nn.Dropout:
            steps.append(_plain(layer, backend))
    return steps


def _plain(layer: nn.Module, backend: Backend) -> Step:
    return lambda x: layer(x, backend)


def _residual(layer: nn.Residual, backend: Backend, follow: bool) -> Step:
    body = compiled(layer.body, backend, follow=follow)
    if layer.shortcut is None:
        return lambda x: body(x) + x
    shortcut = compiled(layer.shortcut, backend, follow=follow)
    return lambda x: body(x) + shortcut(x)


class _Product:
    """A convolution or dense layer with what can be joined to it of the layers behind it.

    That is batch normalization, whose factors go into the weights, then ReLU, then max-pool.
    Takes what it joins from the front of `behind`.
    """

    def __init__(
        self, layer: Any, behind: list[nn.Module], backend: Backend, prepared: Any, follow: bool
    ) -> None:
        self._layer, self._prepared, self._follow = layer, prepared, follow
        self._norm: nn.BatchNorm | None = None
        self._pool: nn.MaxPool2D | None = None
        self._activation: nn.Module | None = None
        self._backend = backend
        self._relu = layer.activation == "relu"
        if layer.activation is None:
            if behind and type(behind[0]) is nn.BatchNorm:
                self._norm = cast("nn.BatchNorm", behind.pop(0))
            if behind and type(behind[0]) is nn.ReLU:
                behind.pop(0)
                self._relu = True
        elif not self._relu:
            self._activation = layer._activation
        if self._relu and not isinstance(layer, nn.Dense) and behind:
            self._pool = as_block_pool(behind[0])
            if self._pool is not None:
                behind.pop(0)
        self._op: Step | None = None
        self._weights: tuple[Array | None, Array | None] = (None, None)
        self._folded: list[Array] = []  # copies of all that was folded together
        self._epsilon = 0.0

    def op(self) -> Step:
        """Return the op of the weights as they are now."""
        if self._op is None or (self._follow and not self._current()):
            self._op = self._prepare()
        return self._op

    def __call__(self, x: Array) -> Array:
        y = self.op()(x)
        return y if self._activation is None else self._activation(y, self._backend)

    def bind(self, op: Step, x: Array) -> tuple[Callable[[], object], Array] | None:
        """Return (call, y), each call computing y from what is in x then, where an op can."""
        if self._activation is not None or not hasattr(op, "bind"):
            return None
        bound: tuple[Callable[[], object], Array] | None = op.bind(x)
        return bound

    def _current(self) -> bool:
        """Return whether what was prepared is that of the weights as they are now.

        An op follows changes in place of the weights that it was given; here it only counts
        that they are the same arrays. What was folded is compared number by number.
        """
        if self._norm is None:
            weight, bias = self._arrays()
            return weight is self._weights[0] and bias is self._weights[1]
        return self._norm.epsilon == self._epsilon and all(
            map(same_bytes, self._present(), self._folded)
        )

    def _arrays(self) -> tuple[Array, Array | None]:
        layer = self._layer
        return layer.weight.data, None if layer.bias is None else layer.bias.data

    def _present(self) -> list[Array]:
        """Return all arrays that fold together, as they are now."""
        norm, (weight, bias) = self._norm, self._arrays()
        assert norm is not None
        of_norm = (norm.gamma, norm.beta, norm._running_mean, norm._running_variance)
        return [*(a for a in (weight, bias) if a is not None), *(v.data for v in of_norm)]

    def _prepare(self) -> Step:
        weight, bias = self._arrays()
        follow = self._follow and self._norm is None
        if self._norm is not None:
            self._epsilon = self._norm.epsilon
            self._folded = [a.copy() for a in self._present()]
            weight, bias = _fold(weight, bias, self._norm)
        w = np.require(weight, requirements=("C", "A"))
        b = None if bias is None else np.require(bias, requirements=("C", "A"))
        # Where a kernel can't read the array itself the op has a copy: prepare at every call.
        self._weights = (weight, bias) if w is weight and b is bias else (None, None)
        if isinstance(self._layer, nn.Dense):
            linear: Step = self._prepared.linear(w, b, relu=self._relu, follow=follow)
            return linear
        layer, pool = self._layer, self._pool
        options: dict[str, Any] = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": layer._groups,
        }
        step: Step
        if pool is None:
            step = self._prepared.conv2d(w, b, relu=self._relu, follow=follow, **options)
        else:
            options |= {"pool_size": pool.pool_size, "pool_stride": pool.stride}
            step = self._prepared.conv_block(w, b, follow=follow, **options)
        return step


def _fold(weight: Array, bias: Array | None, norm: nn.BatchNorm) -> tuple[Array, Array]:
    """Return weight and bias of the layer that does what a layer and its norm do.

    gamma * (x @ w + b - mean) / s + beta = x @ (w * gamma / s) + (b - mean) * gamma / s + beta,
    s = sqrt(variance + epsilon): Jacob et al., 2018, arXiv:1712.05877.
    """
    gamma, beta, mean, variance = (
        variable.data.astype(np.float64)
        for variable in (norm.gamma, norm.beta, norm._running_mean, norm._running_variance)
    )
    with np.errstate(all="ignore"):  # what is not finite shows in the results, as it would unfolded
        scale = gamma / np.sqrt(variance + norm.epsilon)
        b = ((0.0 if bias is None else bias) - mean) * scale + beta
        return (weight * scale).astype(weight.dtype), b.astype(weight.dtype)

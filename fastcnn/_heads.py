"""A new head on a trained network: how one is fine-tuned for other classes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from fastcnn import nn
from fastcnn._options import flag, input_shape_of, integer
from fastcnn._sentences import explained
from fastcnn.nn._places import is_several

__all__ = ["with_new_head"]

_DROPPED = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid)  # behind the last dense layer


@explained
def with_new_head(
    model: nn.Module,
    classes: int,
    *,
    freeze: bool = True,
    seed: int = 0,
    input_shape: Sequence[int] | None = None,
) -> nn.Module:
    """Return a model of other classes: the body of a built one, and a new nn.Dense(classes).

        model = fastcnn.with_new_head(fastcnn.onnx.load("resnet18.onnx"), 3)
        fastcnn.Trainer(model, optimizer=optim.Adam(1e-3)).fit(x, y)

    model: an nn.Sequential, an nn.Model of one output or a fastcnn.onnx.OnnxModel whose last layer
    is dense; a softmax or sigmoid behind it is left out, since losses take logits. It stays as it
    is: the new model has copies of the weights, and its notes without the names of the classes.
    freeze: only the head is trained until `trainable` is set again; the body's batch normalization
    then keeps its statistics. seed: of the head's weights. input_shape: for a network of an ONNX
    file that takes images of any size, the size (H, W, C) that the new one is for.

    Raises ValueError where no dense layer gives the only output, RuntimeError for a model that
    isn't built.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"with_new_head: model: expected a model, got {type(model).__name__}")
    model._require_built()
    units = integer(classes, "with_new_head: classes")
    seed = integer(seed, "with_new_head: seed", 0, any_size=True)
    flag(freeze, "with_new_head: freeze")
    shape: Any = model.input_shape
    if input_shape is not None:
        shape = input_shape_of(input_shape, "with_new_head: input_shape")
    body: Any = copy.deepcopy(model)
    if freeze:
        body.trainable = False
    made = _headed(body, units, shape)
    if made is None:
        raise ValueError(
            "with_new_head: model: expected one output of a dense layer, got another network"
        )
    dtype: Any = model.dtype
    made.build(shape, dtype=dtype, seed=seed)
    made.notes = {key: value for key, value in model.notes.items() if key != "classes"}
    return made


def _headed(module: Any, units: int, shape: Any) -> nn.Module | None:
    """Return a layer or model with a new head; None where it ends in no dense layer."""
    if isinstance(module, nn.Dense):
        options: Any = {"use_bias": module.use_bias, "initializer": module.initializer}
        return nn.Dense(units, **options, name=module.name)
    if hasattr(module, "without_head"):  # the network of an ONNX file
        return _behind(module, units, shape)
    if isinstance(module, nn.Sequential):
        return _headed_sequential(module, units, shape)
    return _headed_model(module, units, shape) if isinstance(module, nn.Model) else None


def _behind(network: Any, units: int, shape: Any) -> nn.Module | None:
    """Return a network of an ONNX file with a dense layer in the place of its last one, or None."""
    shapes = shape if is_several(shape) else (shape,)
    if any(None in one for one in shapes):
        raise ValueError(
            "with_new_head: input_shape: expected a size for a network that takes images of any "
            f"size, {shape}, got none"
        )
    frozen = network._frozen
    try:
        body = network.without_head()
    except ValueError:  # it ends in no dense layer
        return None
    body.trainable = not frozen
    names = [name if name.isidentifier() else None for name in network.input_names]
    x = [nn.Input(one, name=name) for one, name in zip(shapes, names, strict=True)]
    return nn.Model(x, nn.Dense(units)(body(x)))


def _headed_sequential(model: nn.Sequential, units: int, shape: Any) -> nn.Module | None:
    layers = list(model.layers)
    while len(layers) > 1 and isinstance(layers[-1], _DROPPED):
        layers.pop()
    head = _headed(layers[-1], units, shape if len(layers) == 1 else layers[-1].input_shape)
    return None if head is None else nn.Sequential([*layers[:-1], head], name=model.name)


def _headed_model(model: nn.Model, units: int, shape: Any) -> nn.Module | None:
    """Return a Model whose last calls, of the head and of what is dropped, are another one."""
    told = model.config()
    first, calls = len(told["inputs"]), told["calls"]
    at = told["outputs"][0]
    while len(told["outputs"]) == 1 and at >= first:
        place, sources = calls[at - first]
        if place < 0:
            break
        layer = model.layers[place]
        if isinstance(layer, _DROPPED):
            at = sources[0]
            continue
        # All calls before the head's lead to it: the only output depends on each of them.
        before = calls[: at - first]
        kept = max((each for each, _ in before), default=-1) + 1
        head = _headed(layer, units, layer.input_shape)
        if head is None:
            break
        told |= {
            "layers": [*model.layers[:kept], head],
            "calls": [*before, [kept, sources]],
            "outputs": [at],
        }
        return nn.Model.from_config(**told)
    return None

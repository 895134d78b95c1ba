"""A model's program as its author asks to see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn._options import flag, integer
from fastcnn.losses import get_loss, is_op
from fastcnn.nn._places import is_several
from fastcnn.program.gradient import differentiate
from fastcnn.program.match import fuse
from fastcnn.program.program import Program
from fastcnn.program.trace import trace

if TYPE_CHECKING:
    from fastcnn.nn import Module

__all__ = ["program_of"]


def program_of(
    model: Module,
    batch_size: int,
    training: bool,
    gradients: bool,
    fused: bool,
    loss: str | Callable[..., Any] | None,
) -> Program:
    """Return a model's program; see Module.program."""
    batch_size = integer(batch_size, "program: batch_size")
    for name, value in (("training", training), ("gradients", gradients), ("fused", fused)):
        flag(value, f"program: {name}")
    target, function = None, None
    if loss is not None:
        function = get_loss(loss)
        if not is_op(function):
            raise ValueError(
                "program: loss: expected one that is an op, as cross_entropy without class weights "
                f"is, got {type(function).__name__}"
            )
        if is_several(model.output_shape):
            raise ValueError(
                "program: loss: expected a model of one output with a loss, got one of "
                f"{len(model.output_shape)}"
            )
        target = ((batch_size, *model.output_shape), model.dtype or np.dtype(np.float32))
        if function.activation == "softmax":
            target = ((batch_size, *model.output_shape[:-1]), np.dtype(np.int64))
    program = trace(model, batch_size, training=training, loss=function, target=target)
    if fused:
        from fastcnn.fast._fusions import INFERENCE, TRAINING

        program = fuse(program, TRAINING if training or gradients else INFERENCE)
    return differentiate(program, model.trained_parameters()) if gradients else program

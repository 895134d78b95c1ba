"""The contract's parts: a file for each family of ops, which declares them and has their rows."""

from __future__ import annotations

from fastcnn._contract import (
    activations,
    arithmetic,
    choices,
    convolution,
    functions,
    losses,
    normalization,
    pooling,
    recurrent,
    reductions,
    resizing,
    shapes,
    steps,
)
from fastcnn._contract.op import Op, same

__all__ = ["PARTS", "ROWS", "Op", "same"]

# What a backend holds. (A check of `isinstance` against a Protocol wants each of its ops.)
PARTS = (
    convolution.Convolution,
    pooling.Pooling,
    resizing.Resizing,
    recurrent.Recurrent,
    normalization.Normalization,
    arithmetic.Arithmetic,
    reductions.Reductions,
    shapes.Shapes,
    functions.Functions,
    choices.Choices,
    activations.Activations,
    losses.Losses,
    steps.Steps,
)

ROWS = {
    **convolution.ROWS,
    **pooling.ROWS,
    **resizing.ROWS,
    **recurrent.ROWS,
    **normalization.ROWS,
    **arithmetic.ROWS,
    **reductions.ROWS,
    **shapes.ROWS,
    **functions.ROWS,
    **choices.ROWS,
    **activations.ROWS,
    **losses.ROWS,
}

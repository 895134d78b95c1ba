"""The contract's parts: a file for each family of ops, which declares them and has their rows."""

from __future__ import annotations

from fastcnn._contract import (
    activations,
    arithmetic,
    convolution,
    losses,
    normalization,
    pooling,
    recurrent,
    resizing,
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
    **activations.ROWS,
    **losses.ROWS,
}

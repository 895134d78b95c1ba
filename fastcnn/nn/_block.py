"""Neighbouring layers that one op of the backend computes together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from fastcnn.backend import Array, Backend
from fastcnn.nn._activation import ReLU
from fastcnn.nn._conv import Conv2D
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._options import pair
from fastcnn.nn._pool import MaxPool2D

_MOST_PLACES = 255  # of conv_block's pool window


class ConvBlock(Module):
    """A convolution with ReLU and the max-pool behind it, as the backend's conv_block.

    It stands for layers of a model while the model runs and is no layer itself.
    """

    def __init__(self, conv: Conv2D, pool: MaxPool2D) -> None:
        super().__init__()
        self.conv = conv
        self.pool = pool
        self.trainable = True

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        conv, pool = self.conv, self.pool
        weight, bias = conv.weight, conv.bias
        y, argmax = backend.conv_block(
            x,
            weight.data,
            None if bias is None else bias.data,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            pool_size=pool.pool_size,
            pool_stride=pool.stride,
        )

        def backward(dy: Array) -> Array | None:
            dx, weight.grad, db = backend.conv_block_backward(
                dy,
                argmax,
                x,
                weight.data,
                stride=conv.stride,
                padding=conv.padding,
                dilation=conv.dilation,
                groups=conv.groups,
                pool_size=pool.pool_size,
                pool_stride=pool.stride,
                input_gradient=input_gradient,
            )
            if bias is not None:
                bias.grad = db
            return dx

        return y, backward


def fused(layers: Sequence[Module]) -> list[Module]:
    """Return what to run for the layers: blocks where they line up, else the layers."""
    steps: list[Module] = []
    rest = list(layers)
    while rest:
        conv = rest.pop(0)
        if type(conv) is Conv2D:  # a subclass may compute something else
            behind = rest
            if conv.activation is None and rest and type(rest[0]) is ReLU:
                behind = rest[1:]
            elif conv.activation != "relu":
                behind = []
            pool = behind[0] if behind else None
            if pool is not None and pools_a_block(pool):
                steps.append(ConvBlock(conv, cast("MaxPool2D", pool)))
                rest = behind[1:]
                continue
        steps.append(conv)
    return steps


def pools_a_block(layer: Module) -> bool:
    """Return whether a layer is a max-pool that the block op can do."""
    if type(layer) is not MaxPool2D or layer.padding not in (0, "valid") or layer.ceil_mode:
        return False
    rows, columns = pair(layer.pool_size)
    return rows * columns <= _MOST_PLACES

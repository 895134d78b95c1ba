"""Neighbouring layers that one op of the backend computes together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from fastcnn._blocks import sees_few
from fastcnn.backend import Array, Backend
from fastcnn.nn._activation import ReLU
from fastcnn.nn._conv import Conv2D
from fastcnn.nn._dense import Dense
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._norm import BatchNorm
from fastcnn.nn._options import pair, window_shape
from fastcnn.nn._pool import MaxPool2D

_MOST_PLACES = 255  # of a block's pool window
_NO_PADDING = (0, (0, 0), ((0, 0), (0, 0)), "valid")


class Block:
    """Layers as one; it stands for them while the model runs and is no layer itself."""

    @property
    def _trains(self) -> bool:
        parts = vars(self).values()
        return any(part._trains for part in parts if isinstance(part, (Module, Block)))

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        """Return what the layers do; see Module.forward."""
        raise NotImplementedError

    def __call__(self, x: Array, backend: Backend) -> Array:
        return self.forward(x, backend)[0]


class ConvBlock(Block):
    """A convolution with ReLU and the max-pool behind it, as the backend's conv_block."""

    def __init__(self, conv: Conv2D, pool: MaxPool2D) -> None:
        self.conv = conv
        self.pool = pool

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
            weight._data,
            None if bias is None else bias._data,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            pool_size=pool.pool_size,
            pool_stride=pool.stride,
        )

        def backward(dy: Array) -> Array | None:
            dx, dw, db = backend.conv_block_backward(
                dy,
                argmax,
                x,
                weight._data,
                stride=conv.stride,
                padding=conv.padding,
                dilation=conv.dilation,
                groups=conv.groups,
                pool_size=pool.pool_size,
                pool_stride=pool.stride,
                input_gradient=input_gradient,
            )
            weight.grad = None if conv._frozen else dw
            if bias is not None:
                bias.grad = None if conv._frozen else db
            return dx

        return y, backward


class DenseBlock(Block):
    """A dense layer with the ReLU layer behind it, as one call of the backend's linear."""

    def __init__(self, dense: Dense) -> None:
        self.dense = dense

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        return self.dense.linear(x, backend, relu=True, input_gradient=input_gradient)


class NormBlock(Block):
    """Batch normalization with ReLU, and maybe a max-pool behind it, as batch_norm_block."""

    def __init__(self, norm: BatchNorm, relu: ReLU, pool: MaxPool2D | None) -> None:
        self.norm = norm
        self.layers: list[Module] = [norm, relu] if pool is None else [norm, relu, pool]
        self.pool_size = 1 if pool is None else pool.pool_size
        self.pool_stride = None if pool is None else pool.stride

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        if not training or x.ndim != 4 or self.norm._frozen:
            return _in_turn(self.layers, x, backend, training, input_gradient)
        norm = self.norm
        gamma, beta, epsilon = norm.gamma, norm.beta, norm.epsilon
        options: dict[str, Any] = {
            "epsilon": epsilon,
            "pool_size": self.pool_size,
            "pool_stride": self.pool_stride,
        }
        y, argmax, mean, variance = backend.batch_norm_block(x, gamma._data, beta._data, **options)
        norm.track(mean, variance, x.size // len(mean))

        def backward(dy: Array) -> Array | None:
            dx, gamma.grad, beta.grad = backend.batch_norm_block_backward(
                dy, argmax, x, gamma._data, mean, variance, **options
            )
            return dx

        return y, backward


class ConvNormBlock(Block):
    """A convolution with the NormBlock behind it, as conv_norm_block where that pays.

    So it does at the front of a network that sees grey images, where no gradient is needed before
    it. Else the two run one after another.
    """

    def __init__(self, conv: Conv2D, norm_block: NormBlock) -> None:
        self.conv = conv
        self.norm_block = norm_block

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        conv, norm = self.conv, self.norm_block.norm
        weight, bias, gamma, beta = conv.weight, conv.bias, norm.gamma, norm.beta
        frozen = norm._frozen or conv._frozen
        if not training or frozen or input_gradient or not sees_few(weight._data, conv._groups):
            return _in_turn([conv, self.norm_block], x, backend, training, input_gradient)
        b = None if bias is None else bias._data
        options: dict[str, Any] = {
            "epsilon": norm.epsilon,
            "stride": conv.stride,
            "padding": conv.padding,
            "dilation": conv.dilation,
            "pool_size": self.norm_block.pool_size,
            "pool_stride": self.norm_block.pool_stride,
        }
        y, argmax, mean, variance = backend.conv_norm_block(
            x, weight._data, b, gamma._data, beta._data, **options
        )
        rows, columns = window_shape(
            "Conv2D", x.shape[1:], conv.kernel_size, conv.stride, conv.padding, conv.dilation
        )
        norm.track(mean, variance, len(x) * rows * columns)

        def backward(dy: Array) -> Array | None:
            _, weight.grad, db, gamma.grad, beta.grad = backend.conv_norm_block_backward(
                dy,
                argmax,
                x,
                weight._data,
                b,
                gamma._data,
                mean,
                variance,
                **options,
                input_gradient=False,
            )
            if bias is not None:
                bias.grad = db
            return None

        return y, backward


def _in_turn(
    layers: Sequence[Module | Block],
    x: Array,
    backend: Backend,
    training: bool,
    input_gradient: bool,
) -> tuple[Array, Backward]:
    """Run layers one after another; the first has weights, or no use for input_gradient."""
    steps: list[Backward] = []
    for layer in layers:
        x, step = layer.forward(x, backend, training=training, input_gradient=input_gradient)
        steps.append(step)
        input_gradient = True

    def backward(dy: Array) -> Array | None:
        gradient: Array | None = dy
        while steps:
            step = steps.pop()
            gradient = None if gradient is None else step(gradient)
        return gradient

    return x, backward


def fused(layers: Sequence[Module]) -> list[Module | Block]:
    """Return what to run for the layers: blocks where they line up, else the layers.

    A subclass may compute something else: only the layers themselves are taken into a block.
    """
    steps: list[Module | Block] = []
    rest = list(layers)
    while rest:
        layer = rest.pop(0)
        if type(layer) is Conv2D:
            behind = rest
            if layer.activation is None and rest and type(rest[0]) is ReLU:
                behind = rest[1:]
            elif layer.activation != "relu":
                behind = []
            if behind and (pool := as_block_pool(behind[0])) is not None:
                steps.append(ConvBlock(layer, pool))
                rest = behind[1:]
                continue
        elif type(layer) is BatchNorm and rest and type(rest[0]) is ReLU:
            relu = rest.pop(0)
            pool = as_block_pool(rest[0]) if rest else None
            block = NormBlock(layer, cast("ReLU", relu), pool)
            if pool is not None:
                rest.pop(0)
                if steps and type(conv := steps[-1]) is Conv2D and conv.activation is None:
                    steps[-1] = ConvNormBlock(conv, block)
                    continue
            steps.append(block)
            continue
        elif type(layer) is Dense and layer.activation is None and rest and type(rest[0]) is ReLU:
            rest.pop(0)
            steps.append(DenseBlock(layer))
            continue
        steps.append(layer)
    return steps


def as_block_pool(layer: Module) -> MaxPool2D | None:
    """Return the layer if it is a max-pool that the block ops can do."""
    if type(layer) is not MaxPool2D or layer.padding not in _NO_PADDING or layer.ceil_mode:
        return None
    rows, columns = pair(layer.pool_size)
    return layer if rows * columns <= _MOST_PLACES else None

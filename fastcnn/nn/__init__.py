"""Layers and models; they are built without a backend, and whoever runs them hands them one.

help(nn.Conv2D) is about that layer; what every layer and model can do is in help(nn.Module).
"""

from __future__ import annotations

from fastcnn.nn._activation import (
    CELU,
    ELU,
    GELU,
    SELU,
    Clip,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from fastcnn.nn._container import Residual, Sequential
from fastcnn.nn._conv import Conv2D, DepthwiseConv2D
from fastcnn.nn._dense import Dense, Flatten
from fastcnn.nn._dropout import Dropout, SpatialDropout2D, StochasticDepth
from fastcnn.nn._graph import Model
from fastcnn.nn._merge import Add, Concat, Multiply, add, concat, multiply
from fastcnn.nn._module import Module
from fastcnn.nn._norm import BatchNorm
from fastcnn.nn._pool import (
    AdaptiveAvgPool2D,
    AvgPool2D,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    MaxPool2D,
)
from fastcnn.nn._sample_norm import GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm
from fastcnn.nn._scale import LayerScale
from fastcnn.nn._symbol import Input, Symbol
from fastcnn.nn._upsample import Conv2DTranspose, Resize2D, UpSample2D
from fastcnn.nn._variable import Buffer, Parameter

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "AdaptiveAvgPool2D",
    "Add",
    "AvgPool2D",
    "BatchNorm",
    "Buffer",
    "Clip",
    "Concat",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "Input",
    "InstanceNorm",
    "LayerNorm",
    "LayerScale",
    "LeakyReLU",
    "LocalResponseNorm",
    "MaxPool2D",
    "Mish",
    "Model",
    "Module",
    "Multiply",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Residual",
    "Resize2D",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SpatialDropout2D",
    "StochasticDepth",
    "Symbol",
    "Tanh",
    "UpSample2D",
    "add",
    "concat",
    "multiply",
]

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
    LogSoftmax,
    Mish,
    PReLU,
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
from fastcnn.nn._function import Function, Reduce, Take
from fastcnn.nn._graph import Model
from fastcnn.nn._merge import (
    Add,
    Concat,
    Divide,
    MatMul,
    Maximum,
    Minimum,
    Multiply,
    Power,
    Subtract,
    add,
    concat,
    divide,
    matmul,
    maximum,
    minimum,
    multiply,
    power,
    subtract,
)
from fastcnn.nn._module import Module
from fastcnn.nn._norm import BatchNorm
from fastcnn.nn._pool import (
    AdaptiveAvgPool2D,
    AvgPool2D,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    MaxPool2D,
)
from fastcnn.nn._recurrent import LSTM
from fastcnn.nn._rescale import Normalization, Rescaling
from fastcnn.nn._sample_norm import GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm
from fastcnn.nn._scale import LayerScale
from fastcnn.nn._separable import SeparableConv2D
from fastcnn.nn._sequence import AvgPool1D, Conv1D, GlobalAvgPool1D, MaxPool1D
from fastcnn.nn._shape import (
    Cropping2D,
    DepthToSpace,
    Pad2D,
    Permute,
    Reshape,
    Slice,
    SpaceToDepth,
    Split,
    split,
)
from fastcnn.nn._symbol import Input, Symbol
from fastcnn.nn._upsample import Conv2DTranspose, Resize2D, UpSample2D
from fastcnn.nn._variable import Buffer, Parameter

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "LSTM",
    "SELU",
    "AdaptiveAvgPool2D",
    "Add",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNorm",
    "Buffer",
    "Clip",
    "Concat",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Cropping2D",
    "Dense",
    "DepthToSpace",
    "DepthwiseConv2D",
    "Divide",
    "Dropout",
    "Flatten",
    "Function",
    "GlobalAvgPool1D",
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
    "LogSoftmax",
    "MatMul",
    "MaxPool1D",
    "MaxPool2D",
    "Maximum",
    "Minimum",
    "Mish",
    "Model",
    "Module",
    "Multiply",
    "Normalization",
    "PReLU",
    "Pad2D",
    "Parameter",
    "Permute",
    "Power",
    "ReLU",
    "ReLU6",
    "Reduce",
    "Rescaling",
    "Reshape",
    "Residual",
    "Resize2D",
    "SeparableConv2D",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "SpaceToDepth",
    "SpatialDropout2D",
    "Split",
    "StochasticDepth",
    "Subtract",
    "Symbol",
    "Take",
    "Tanh",
    "UpSample2D",
    "add",
    "concat",
    "divide",
    "matmul",
    "maximum",
    "minimum",
    "multiply",
    "power",
    "split",
    "subtract",
]

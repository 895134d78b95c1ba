"""Layers and models; they are built without a backend, and whoever runs them hands them one.

help(nn.Conv2D) is about that layer; what every layer and model can do is in help(nn.Module).
"""

from __future__ import annotations

from fastcnn.nn._activation import (
    ELU,
    GELU,
    HardSwish,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from fastcnn.nn._container import Residual, Sequential
from fastcnn.nn._conv import Conv2D, DepthwiseConv2D
from fastcnn.nn._dense import Dense, Flatten
from fastcnn.nn._dropout import Dropout
from fastcnn.nn._graph import Model
from fastcnn.nn._merge import Add, Concat, Multiply, add, concat, multiply
from fastcnn.nn._module import Module
from fastcnn.nn._norm import BatchNorm
from fastcnn.nn._pool import AvgPool2D, GlobalAvgPool2D, GlobalMaxPool2D, MaxPool2D
from fastcnn.nn._rescale import Normalization, Rescaling
from fastcnn.nn._symbol import Input, Symbol
from fastcnn.nn._upsample import Conv2DTranspose, UpSample2D
from fastcnn.nn._variable import Buffer, Parameter

__all__ = [
    "ELU",
    "GELU",
    "Add",
    "AvgPool2D",
    "BatchNorm",
    "Buffer",
    "Concat",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "HardSwish",
    "Input",
    "LeakyReLU",
    "MaxPool2D",
    "Model",
    "Module",
    "Multiply",
    "Normalization",
    "Parameter",
    "ReLU",
    "Rescaling",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Symbol",
    "Tanh",
    "UpSample2D",
    "add",
    "concat",
    "multiply",
]

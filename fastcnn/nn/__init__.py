"""Layers and models; they are built without a backend, and whoever runs them hands them one.

help(nn.Conv2D) is about that layer; what every layer and model can do is in help(nn.Module).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcnn.nn._activation import (
    ELU,
    GELU,
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
from fastcnn.nn._module import Module
from fastcnn.nn._norm import BatchNorm
from fastcnn.nn._pool import AvgPool2D, GlobalAvgPool2D, GlobalMaxPool2D, MaxPool2D
from fastcnn.nn._variable import Buffer, Parameter

__all__ = [
    "ELU",
    "GELU",
    "AvgPool2D",
    "BatchNorm",
    "Buffer",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "LeakyReLU",
    "MaxPool2D",
    "Module",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]


# What other libraries call what is here.
_OTHERWISE = {
    "activation": 'an activation is a layer such as nn.ReLU or an option, activation="relu"',
    "adaptiveavgpool2d": "nn.GlobalAvgPool2D is the mean over the whole image",
    "adaptivemaxpool2d": "nn.GlobalMaxPool2D is the largest value of the whole image",
    "averagepooling2d": "did you mean nn.AvgPool2D?",
    "batchnorm1d": "did you mean nn.BatchNorm?",
    "batchnorm2d": "did you mean nn.BatchNorm?",
    "batchnormalization": "did you mean nn.BatchNorm?",
    "crossentropyloss": 'Trainer(model, loss="cross_entropy") takes it, or fastcnn.losses',
    "globalaveragepooling2d": "did you mean nn.GlobalAvgPool2D?",
    "globalmaxpooling2d": "did you mean nn.GlobalMaxPool2D?",
    "input": "build or the first call of the trainer finds the shape of inputs",
    "layer": "did you mean nn.Module?",
    "linear": "did you mean nn.Dense?",
    "maxpooling2d": "did you mean nn.MaxPool2D?",
    "model": "did you mean nn.Module or nn.Sequential?",
    "modulelist": "a list of layers in an attribute is enough",
    "moduledict": "a dict of layers in an attribute is enough",
    "mseloss": 'Trainer(model, loss="mean_squared_error") takes it, or fastcnn.losses',
    "separableconv2d": "nn.DepthwiseConv2D and nn.Conv2D(filters, 1) after it are one",
    "swish": "did you mean nn.SiLU?",
    "functional": "fastcnn.functional has the ops by themselves",
}


if not TYPE_CHECKING:  # with it, type checkers would take any name

    def __getattr__(name: str) -> object:
        """Say what a layer is called here whose name is another library's."""
        near = {known.lower(): f"did you mean nn.{known}?" for known in __all__} | _OTHERWISE
        hint = near.get(name.lower())
        raise AttributeError(
            f"fastcnn.nn has no {name!s:.80}{f': {hint}' if hint else ''}", name=name, obj=None
        )

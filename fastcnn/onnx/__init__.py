"""Models in ONNX files: `load` reads one, to run and to train on.

    model = fastcnn.onnx.load("mobilenet.onnx")
    predict = fastcnn.Predictor(model)
    logits = predict(images)                    # (n, 224, 224, 3)

On the package onnx: pip install "fastcnn[onnx]".
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastcnn import nn
from fastcnn._files import name_of
from fastcnn._options import choice, flag, float_dtype, integer
from fastcnn._reading import brief
from fastcnn._sentences import explained
from fastcnn.onnx._model import FAULTS, OnnxModel

__all__ = ["OnnxModel", "load", "save"]

_LONGEST = 2000  # characters of what is said of a file: it may lack many operators


@explained
def load(
    path: str | os.PathLike[str], *, layout: str = "NHWC", dtype: DTypeLike = np.float32
) -> OnnxModel:
    """Return the network of an ONNX file as a model, built, with its weights.

    path: a file of opset 7 or newer; weights in files beside it are found there. layout: "NHWC" for
    images that come in and go out with channels last, as everywhere in fastcnn; "file" for arrays
    as the file has them. What is no image, of rank 4, is as in the file either way. dtype: of the
    weights, float32 or float64.

    Raises ValueError for a file that is damaged, no ONNX model, or has operators that fastcnn does
    not have, which it names, OSError for one that cannot be read, ImportError without the package
    onnx. Nothing in a file is ever run as code.
    """
    from fastcnn.onnx._reader import model_of

    choice(layout, "load: layout", ("NHWC", "file"))
    kind = float_dtype(dtype, "load: dtype")
    name = name_of(path)
    try:
        return model_of(name, layout, kind)
    except FAULTS as error:
        said = str(error).removeprefix(f"{name}: ")
        if "expected" not in said:
            said = f"expected a network as ONNX has them, got {said}"
        raise ValueError(brief(f"{name}: {said}", _LONGEST)) from error


@explained
def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    opset: int = 17,
    layout: str = "NCHW",
    fold: bool = False,
    any_size: bool = False,
) -> None:
    """Write a built model's inference to an ONNX file, which appears whole or not at all.

    The batch is of any size. opset: 13 to 24. layout: "NCHW" for images as other tools' files have
    them, "NHWC" as they are here. fold: batch normalization into the weights in front of it, rather
    than as nodes by themselves. any_size: of images of any height and width, for networks in which
    nothing depends on them. Inputs and outputs have the names of a Model's, else "x" and "y";
    weights those of state_dict.

    Raises ValueError for a model with layers that are no ops, or ops that ONNX lacks, OSError where
    the file cannot be written, ImportError without the package onnx.
    """
    from fastcnn.onnx._save import OPSETS, save_model

    if not isinstance(model, nn.Module):
        raise TypeError(f"save: model: expected a fastcnn.nn model, got {type(model).__name__}")
    model._require_built()
    number = integer(opset, "save: opset", OPSETS[0])
    if number > OPSETS[1]:
        raise ValueError(f"save: opset: expected {OPSETS[0]} to {OPSETS[1]}, got {number}")
    choice(layout, "save: layout", ("NCHW", "NHWC"))
    flag(fold, "save: fold")
    flag(any_size, "save: any_size")
    options: Any = {"opset": number, "layout": layout, "fold": fold, "open_size": any_size}
    save_model(model, name_of(path), **options)

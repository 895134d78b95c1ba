"""Models in ONNX files: `load` reads one, to run and to train on.

    model = fastcnn.onnx.load("mobilenet.onnx")
    predict = fastcnn.Predictor(model)
    logits = predict(images)                    # (n, 224, 224, 3)

On the package onnx: pip install "fastcnn[onnx]".
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import DTypeLike

from fastcnn._files import name_of
from fastcnn._options import choice, float_dtype
from fastcnn._sentences import explained
from fastcnn.onnx._model import OnnxModel

__all__ = ["OnnxModel", "load"]


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
    from fastcnn.onnx._file import read
    from fastcnn.onnx._reader import model_of

    choice(layout, "load: layout", ("NHWC", "file"))
    kind = float_dtype(dtype, "load: dtype")
    name = name_of(path)
    return model_of(read(name), name, layout, kind)

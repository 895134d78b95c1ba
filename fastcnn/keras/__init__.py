"""Models and weights of Keras, without Keras: `load` reads one, to run and to train on.

    model = fastcnn.keras.load("model.keras")         # or .h5
    fastcnn.keras.load_weights(model, "model.weights.h5")

Files of Keras 2 and 3 are read by readers of our own, which run nothing that is in them.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastcnn import nn
from fastcnn._files import name_of
from fastcnn._options import float_dtype, input_shape_of, one_or_several
from fastcnn._sentences import absent, explained
from fastcnn.keras._build import built_of
from fastcnn.keras._file import opened
from fastcnn.keras._graph import network_of
from fastcnn.keras._weights import fill, load_into

__all__ = ["load", "load_weights"]

__getattr__ = absent(__name__)


@explained
def load(
    path: str | os.PathLike[str], *, input_shape: Any = None, dtype: DTypeLike = np.float32
) -> nn.Sequential | nn.Model:
    """Return the model of a Keras file, built, with its weights.

    path: a .keras file, or an .h5 file of a whole model, which Keras 2 wrote, or 3. input_shape: of
    one input, such as (224, 224, 3), or a list of them, where the file leaves sizes open. dtype: of
    the weights, float32 or float64; half precision and bfloat16 become it.

    A Sequential becomes nn.Sequential, all others nn.Model; layers that Keras fused are several
    here, as an activation with options of its own. Inputs, outputs and layers have their names
    where these are identifiers, what was frozen is. Optimizers are left. A model that rescales
    pixels takes them as floats from 0 to 255: integers of 8 bits are divided by 255 before it.

    Raises ValueError for a file that is damaged or has something else, and one that names all
    layers that fastcnn doesn't have (functions of one's own, Lambda and channels_first are among
    them), OSError where it cannot be read. Nothing in a file is ever run, and what reading takes is
    bounded by its size.
    """
    name = name_of(path)
    kind = float_dtype(dtype, "load: dtype")
    if input_shape is not None:
        input_shape = one_or_several(input_shape, "load: input_shape", input_shape_of)
    with opened(name, "a model of Keras") as file:
        if file.model is None:
            raise ValueError(
                "it has weights alone; fastcnn.keras.load_weights takes them into a model"
            )
        built = built_of(network_of(file.model), file.version, input_shape)
        fill(built, file.weights, kind)
    model: nn.Sequential | nn.Model = built.model
    return model


@explained
def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> dict[str, str]:
    """Copy the weights of a Keras file into a built model of the same layers.

    path: a .weights.h5 file of Keras 3, a file of weights of Keras 2, or one of a whole model.
    Returns where in the file each of the model's arrays came from.

    Arrays go by the names of layers where all here and there have the same. Else each layer takes
    the next of the file with arrays of its shapes; files of Keras 3 say the order of layers of one
    class alone, so look at what is returned where a model was written in another order. A batch
    normalization of three arrays in the file has no gamma there, one of two no beta either; here
    they stay as they are.

    Raises ValueError, and changes nothing, for a damaged file, and for arrays here or there that
    are left over; OSError where it cannot be read.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"load_weights: model: expected a fastcnn.nn model, got {type(model).__name__}"
        )
    model._require_built()
    with opened(name_of(path), "weights of Keras for this model") as file:
        return load_into(model, file.weights)

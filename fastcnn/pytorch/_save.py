"""A model's arrays as a file for PyTorch."""

from __future__ import annotations

import os

import numpy as np

from fastcnn import nn
from fastcnn._files import write_atomically
from fastcnn._sentences import explained
from fastcnn._types import Array
from fastcnn.pytorch._layers import BATCHES, layers_of

__all__ = ["save_state"]


@explained
def save_state(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a built model's arrays to a safetensors file, shaped and called as PyTorch has them.

    They are called as in a torch.nn.Sequential of the same layers: "0.weight", "1.running_mean";
    what is in a Residual has "body." or "shortcut." before its name. So

        twin.load_state_dict(safetensors.torch.load_file(path))

    gives a twin of the same layers these weights. An activation that is an option of a layer here
    is a part of the twin of this layer, which has no name of its own. Rows of a dense layer behind
    nn.Flatten are in the order in which torch.nn.Flatten leaves features.

    Raises RuntimeError for a model that isn't built, OSError where the file cannot be written; it
    appears whole or not at all.
    """
    from safetensors.numpy import save

    if not isinstance(model, nn.Module):
        raise TypeError(f"save_state: model: expected a model, got {type(model).__name__}")
    model._require_built()
    tensors: dict[str, Array] = {}
    for layer in layers_of(model):
        for twin in layer.twins:
            tensors[f"{layer.prefix}{twin.name_there}"] = twin.to_there()
        if isinstance(layer.module, nn.BatchNorm):
            tensors[f"{layer.prefix}{BATCHES}"] = np.array(0, np.int64)
    write_atomically(path, save(tensors, {"format": "pt"}))

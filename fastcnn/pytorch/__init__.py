"""Weights of PyTorch's models, without PyTorch.

    state = fastcnn.pytorch.load_state("resnet18.pth")      # names to arrays, as PyTorch has them
    model.load_pytorch_state("resnet18.pth")                # into a built model of the same layers
    fastcnn.pytorch.save_state(model, "model.safetensors")  # for load_state_dict of PyTorch

Files are read by a reader of our own, which runs nothing that is in them.
"""

from __future__ import annotations

from fastcnn._sentences import absent
from fastcnn.pytorch._load import load_state
from fastcnn.pytorch._match import Loaded
from fastcnn.pytorch._save import save_state

__all__ = ["Loaded", "load_state", "save_state"]

__getattr__ = absent(__name__)

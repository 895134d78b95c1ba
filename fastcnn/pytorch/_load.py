"""A state dict out of a file."""

from __future__ import annotations

import os

from fastcnn._files import name_of, naming
from fastcnn._reading import brief, open_regular
from fastcnn._sentences import explained
from fastcnn._types import Array
from fastcnn.pytorch._arrays import arrays_of
from fastcnn.pytorch._forms import contents_of
from fastcnn.pytorch._states import state_in

__all__ = ["load_state"]


@explained
def load_state(path: str | os.PathLike[str], *, key: str | None = None) -> dict[str, Array]:
    """Return the arrays of a state dict that PyTorch saved, by name, shaped as PyTorch has them.

    path: a file that torch.save wrote (.pt, .pth; before PyTorch 1.6 too), or a safetensors file.
    key: which dict of a checkpoint to take, as "state_dict" of {"state_dict": ..., "epoch": 3};
    it need not be said where one alone is a dict of tensors.

    Arrays lie row by row, whatever their strides in the file; they are float64, float32, integers
    or bool as in the file, and float32 where that has half precision, bfloat16 or float8. Tensors
    that are one in the file (tied weights) are one array here.

    Raises ValueError for a file that is damaged or holds something else: a whole model, a
    TorchScript archive, an object of any other class, complex or quantized numbers; OSError where
    it cannot be read. Nothing in a file is ever run, and what reading takes is bounded by its size.
    """
    path = name_of(path)
    if key is not None and not isinstance(key, str):
        raise TypeError(f"load_state: key: expected a string, got {type(key).__name__}")
    with naming(path), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            value, places = contents_of(file, size)
            return arrays_of(state_in(value, key), places, file, size)
        except ValueError as error:
            said = f"{path}: expected a state dict of PyTorch: {brief(error)}"
            raise ValueError(said) from None

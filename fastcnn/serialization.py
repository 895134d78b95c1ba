"""Models as files: weights and architecture in one safetensors file, written whole or not at all.

The architecture is JSON in the file's metadata: names of known layers and their options. Reading
a file builds only these layers; nothing in it is ever run as code.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn import nn
from fastcnn._architecture import architecture_of, known_layers, layer_from, outline_of
from fastcnn._files import name_of, naming, remove_leftovers, write_atomically
from fastcnn._json import checked_notes
from fastcnn._options import float_dtype, input_shape_of, integer, one_or_several
from fastcnn._reading import brief, header_of, kind_of, open_regular
from fastcnn._sentences import explained
from fastcnn._types import Array, Shape
from fastcnn.metrics import is_metric_name
from fastcnn.nn._state import check_state
from fastcnn.optim import Optimizer

__all__ = [
    "MODEL",
    "load",
    "read_notes",
    "read_tensors",
    "require_saveable",
    "save_model",
    "write_tensors",
]

MODEL = "model.safetensors"  # its name in the folder of a run
MODEL_FORMAT = "fastcnn-model"
STATE_FORMAT = "fastcnn-state"
HISTORY = ("step_loss", "loss", "accuracy", "val_loss", "val_accuracy")
OF_AN_OUTPUT = re.compile(r"(val_)?loss_\w{1,100}")  # of several: by its name or number
VERSION = 1
_DTYPES = {"F32": "f4", "F64": "f8"}
_READERS = {
    MODEL_FORMAT: ", a model, which fastcnn.load reads",
    STATE_FORMAT: ", a state of training, which Trainer.load_state reads",
}


# ---------------------------------------------------------------------- models
def save_model(
    model: nn.Module, path: str | os.PathLike[str], notes: Mapping[str, Any] | None = None
) -> None:
    """Write a built model to `path`; see Module.save."""
    kept = checked_notes(notes, "save: notes")
    description = describe(model)
    if kept:
        description["notes"] = kept
    write_tensors(path, model.state_dict(), description)


def require_saveable(model: nn.Module) -> None:
    """Raise what save_model would raise of a built model that no file can hold."""
    checked_notes(model.notes, "save: notes")
    describe(model)


@explained
def load(path: str | os.PathLike[str], *, layers: Iterable[type[nn.Module]] = ()) -> nn.Module:
    """Return the model that Module.save wrote to `path`, built, with its weights and notes.

    path: the file, or the folder of a run of `fastcnn train`, in which it is model.safetensors.
    layers: classes of one's own that the file may name, beside those of fastcnn.register.
    Raises ValueError for a file that is damaged or no fastcnn model, which it names for what it
    is, OSError for one that cannot be read. Nothing in a file is ever run as code.
    """
    path, known = name_of(path), known_layers(layers)
    if os.path.isdir(path):
        if not os.path.exists(os.path.join(path, MODEL)):
            said = f"expected a model file, or a directory with {MODEL} in it"
            raise FileNotFoundError(errno.ENOENT, said, path)
        path = os.path.join(path, MODEL)
    tensors, description = read_tensors(path, MODEL_FORMAT)
    try:
        model = rebuild(description, known)
        dtype = float_dtype(str(description.get("dtype")))
        model.adopt(check_state(model.shapes(), tensors, dtype))
        model.notes = checked_notes(description.get("notes"), "notes")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected a fastcnn model: {brief(error)}") from None
    return model


def describe(model: nn.Module) -> dict[str, Any]:
    """Return what a file says of a built model beside its arrays.

    Raises ValueError for a model that would not come back from a file.
    """
    return {**_outside(model), "architecture": architecture_of(model)}


def _outside(model: nn.Module) -> dict[str, Any]:
    frozen = _frozen(model)
    return {
        "format": MODEL_FORMAT,
        "version": VERSION,
        "input_shape": model.input_shape,
        "dtype": str(model.dtype or np.dtype(np.float32)),
        **({"frozen": frozen} if frozen else {}),
    }


def _frozen(model: nn.Module) -> list[str]:
    """Return the names of the layers that are frozen, "" for the model itself."""
    return [prefix.rstrip(".") for prefix, module in model._named() if module._frozen]


def rebuild(description: Mapping[str, Any], layers: Mapping[str, type[nn.Module]]) -> nn.Module:
    """Return the model that `describe` described, planned but without weights."""
    model = layer_from(description.get("architecture"), layers)
    if isinstance(model, nn.Model):  # its inputs' shapes, which may be open, are its own
        model.plan(model._own_shapes())
    else:
        model.plan(one_or_several(description.get("input_shape"), "input_shape", input_shape_of))
    modules = {prefix.rstrip("."): module for prefix, module in model._named()}
    frozen = description.get("frozen", [])
    if not isinstance(frozen, list) or not all(
        isinstance(name, str) and name in modules for name in frozen
    ):
        raise ValueError(f"frozen: expected names of its layers, got {frozen!r:.80}")
    for name in frozen:
        vars(modules[name])["_frozen"] = True
    return model


# ---------------------------------------------------------------------- training state
@dataclass
class Progress:
    """What training has come to, beside the model's own arrays."""

    seed: int
    epoch: int
    step: int
    optimizer_step: int
    history: dict[str, list[float]]
    optimizer_state: dict[str, Array]


def write_state(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: Optimizer,
    progress: Progress,
    notes: Mapping[str, Any] | None,
) -> None:
    """Write a training state; see Trainer.save_state."""
    tensors = {f"model.{name}": array for name, array in model.state_dict().items()}
    for name, array in progress.optimizer_state.items():
        tensors[f"optimizer.{name}"] = array
    for name, values in progress.history.items():
        tensors[f"history.{name}"] = np.array(values, dtype=np.float64)
    description = {
        "format": STATE_FORMAT,
        "version": VERSION,
        "model": {**_outside(model), "architecture": outline_of(model)},
        "optimizer": type(optimizer).__name__,
        "seed": progress.seed,
        "epoch": progress.epoch,
        "step": progress.step,
        "optimizer_step": progress.optimizer_step,
        "notes": checked_notes(notes, "save_state: notes"),
    }
    write_tensors(path, tensors, description)


def read_state(
    path: str | os.PathLike[str], model: nn.Module, optimizer: Optimizer, dtype: np.dtype[Any]
) -> tuple[dict[str, Array], Shape, Progress]:
    """Return (model's arrays, its input shape, progress) of a state that fits this training.

    What writers that died left beside it is removed, as with the next save.
    Raises ValueError where the file is damaged, or of another model, optimizer or dtype.
    """
    tensors, description = read_tensors(path, STATE_FORMAT)
    try:
        saved = description.get("model")
        if not isinstance(saved, dict) or saved.get("architecture") != outline_of(model):
            raise ValueError("it is of a model with another architecture")
        if saved.get("dtype") != str(dtype):
            raise ValueError(f"expected dtype {dtype}, got {saved.get('dtype')!r:.80}")
        kind = type(optimizer).__name__
        if description.get("optimizer") != kind:
            raise ValueError(f"expected optimizer {kind}, got {description.get('optimizer')!r:.80}")
        input_shape = one_or_several(saved.get("input_shape"), "input_shape", input_shape_of)
        if model.built and model.input_shape != input_shape:
            raise ValueError(f"expected a model for inputs {model.input_shape}, got {input_shape}")
        planned = model
        if not model.built:
            planned = copy.deepcopy(model)  # not the model itself: nothing may change on an error
            planned.plan(input_shape)
        weights = check_state(planned.shapes(), _part(tensors, "model."), dtype)
        seed, epoch, step = (
            integer(description.get(name), name, 0, any_size=True)
            for name in ("seed", "epoch", "step")
        )
        # Files of before a trainer could change its optimizer do not have it.
        optimizer_step = integer(description.get("optimizer_step", step), "optimizer_step", 0)
        state = _part(tensors, "optimizer.")
        then, now = saved.get("frozen", []), _frozen(model)
        if state and then != now:
            raise ValueError(
                f"expected trainable = False of the layers {then}, as it was, got it of {now}"
            )
        if state or optimizer_step > 0:  # none was made before the first step
            state = check_state(optimizer.state_shapes(planned.trained_parameters()), state, dtype)
        history: dict[str, list[float]] = {name: [] for name in HISTORY}
        for name, values in _part(tensors, "history.").items():
            metric = is_metric_name(name.removeprefix("val_"))
            known = metric or name in history or OF_AN_OUTPUT.fullmatch(name)
            if not known or values.ndim != 1 or values.dtype != np.float64:
                raise ValueError(f"history: expected rows of float64, got {name!r:.80}")
            history[name] = values.tolist()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{name_of(path)}: expected a state of this training: {brief(error)}"
        ) from None
    remove_leftovers(os.path.dirname(os.path.realpath(name_of(path))))
    return weights, input_shape, Progress(seed, epoch, step, optimizer_step, history, state)


def read_notes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the notes that Trainer.save_state was given; errors are those of load_state."""
    notes = read_tensors(path, STATE_FORMAT)[1].get("notes")
    return notes if isinstance(notes, dict) else {}


def _part(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)
    }


# ---------------------------------------------------------------------- files
def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Array], description: Mapping[str, Any]
) -> None:
    """Write arrays and a JSON description to one safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import save

    # One entry of metadata: with several, their order in the file would differ between runs.
    metadata = {"fastcnn": json.dumps(description)}
    try:
        data = save(dict(tensors), metadata)
    except SafetensorError as error:
        raise ValueError(
            f"{name_of(path)}: expected names and notes of less than 100 MB, got more: {error}"
        ) from None
    write_atomically(path, data)


def read_tensors(
    path: str | os.PathLike[str], expected_format: str
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return (arrays by name, description) of a file that write_tensors wrote.

    Raises ValueError where the file is damaged or of another format, OSError where it cannot
    be read.
    """
    from safetensors import SafetensorError

    path = name_of(path)
    expected = f"{path}: expected a {expected_format.replace('-', ' ')} file"
    with naming(path), open_regular(path) as file:
        head = header_of(file)
        if head is None:
            raise ValueError(f"{expected}, got {kind_of(file)}")
        try:
            description = _description_of(head, expected_format)
            file.seek(0)
            data = file.read()
            if not data.startswith(head):
                raise ValueError("it was written to while it was read")
            return _tensors_of(data), description
        except SafetensorError as error:
            raise ValueError(f"{expected}: {brief(error, 100)}") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{expected}: {brief(error)}") from None


def _tensors_of(data: bytes) -> dict[str, Array]:
    """Return the arrays of a safetensors file, given as bytes.

    safetensors would also map the file into memory, and then the process dies where another
    one cuts the file short.
    """
    from safetensors import deserialize

    tensors = {}
    for name, tensor in deserialize(data):  # type: ignore[no-untyped-call]
        if tensor["dtype"] not in _DTYPES:
            raise ValueError(
                f"{name!r:.80}: expected float32 or float64, got {tensor['dtype']:.80}"
            )
        array = np.frombuffer(tensor["data"], f"<{_DTYPES[tensor['dtype']]}")
        dtype = array.dtype.newbyteorder("=")
        tensors[name] = np.require(array.reshape(tensor["shape"]), dtype, ("C", "W"))
    return tensors


def _description_of(head: bytes, expected_format: str) -> dict[str, Any]:
    metadata = json.loads(head[8:].decode()).get("__metadata__")
    said = metadata.get("fastcnn") if isinstance(metadata, dict) else None
    description = json.loads(said) if isinstance(said, str) else None
    if not isinstance(description, dict) or "format" not in description:
        raise ValueError("its metadata is not fastcnn's; another program wrote it")
    if description["format"] != expected_format:
        hint = _READERS.get(str(description["format"]), "")
        raise ValueError(f"its metadata says {description['format']!r:.80}{hint}")
    if description.get("version") != VERSION:
        raise ValueError(
            f"expected version {VERSION}, got {description.get('version')!r:.80}; a newer fastcnn "
            "may have written it"
        )
    return description

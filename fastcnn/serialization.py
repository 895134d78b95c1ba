"""Models as files: weights and architecture in one safetensors file, written whole or not at all.

The architecture is JSON in the file's metadata: names of known layers and their options. Reading
a file builds only these layers; nothing in it is ever run as code.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn import nn
from fastcnn.backend import Array
from fastcnn.nn._module import check_state
from fastcnn.nn._options import Shape, float_dtype, input_shape_of, integer
from fastcnn.optim import Optimizer

__all__ = ["load", "read_notes", "read_tensors", "save_model", "write_atomically", "write_tensors"]

MODEL_FORMAT = "fastcnn-model"
STATE_FORMAT = "fastcnn-state"
HISTORY = ("step_loss", "loss", "accuracy", "val_loss", "val_accuracy")
VERSION = 1

_LAYERS: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in vars(nn).values()
    if isinstance(cls, type) and issubclass(cls, nn.Module) and cls is not nn.Module
}


# ---------------------------------------------------------------------- models
def save_model(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a built model to `path`; see Module.save."""
    write_tensors(path, model.state_dict(), describe(model))


def load(path: str | os.PathLike[str]) -> nn.Module:
    """Return the model that Module.save wrote to `path`, built and with its weights.

    Raises ValueError for a file that is damaged or no fastcnn model, OSError for one that cannot
    be read.
    """
    tensors, description = read_tensors(path, MODEL_FORMAT)
    try:
        model = rebuild(description)
        dtype = float_dtype(str(description.get("dtype")))
        model.adopt(check_state(model.shapes(), tensors, dtype))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)}: expected a fastcnn model: {error}") from None
    return model


def describe(model: nn.Module) -> dict[str, Any]:
    """Return what a file says of a built model beside its arrays."""
    return {
        "format": MODEL_FORMAT,
        "version": VERSION,
        "input_shape": list(model.input_shape),
        "dtype": str(model.dtype or np.dtype(np.float32)),
        "architecture": architecture_of(model),
    }


def rebuild(description: Mapping[str, Any]) -> nn.Module:
    """Return the model that `describe` described, planned but without weights."""
    model = _layer_from(description.get("architecture"))
    model.plan(input_shape_of(description.get("input_shape"), "input_shape"))
    return model


def architecture_of(module: nn.Module) -> dict[str, Any]:
    """Return a layer, and those it holds, as JSON can hold it: {"layer": name, options...}."""
    name = type(module).__name__
    if _LAYERS.get(name) is not type(module):
        raise ValueError(
            f"save: expected layers of fastcnn.nn, got {name}, which a file cannot name; keep its "
            "state_dict() instead"
        )
    return {"layer": name, **{key: _plain(value) for key, value in module.config().items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return architecture_of(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _layer_from(description: object) -> nn.Module:
    if not isinstance(description, dict) or not isinstance(description.get("layer"), str):
        raise ValueError('architecture: expected objects with a "layer"')
    options = dict(description)
    name = options.pop("layer")
    if name not in _LAYERS:
        raise ValueError(f"architecture: expected a layer of fastcnn.nn, got {name!r:.80}")
    known = inspect.signature(_LAYERS[name]).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"architecture: {name}: expected its options, got {unknown[0]!r:.80}")
    return _LAYERS[name](**{key: _option(value) for key, value in options.items()})


def _option(value: object) -> Any:
    if isinstance(value, dict):
        return _layer_from(value)
    if isinstance(value, list):
        return tuple(_option(item) for item in value)
    return value


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
        "model": describe(model),
        "optimizer": type(optimizer).__name__,
        "seed": progress.seed,
        "epoch": progress.epoch,
        "step": progress.step,
        "optimizer_step": progress.optimizer_step,
        "notes": dict(notes or {}),
    }
    write_tensors(path, tensors, description)


def read_state(
    path: str | os.PathLike[str], model: nn.Module, optimizer: Optimizer, dtype: np.dtype[Any]
) -> tuple[dict[str, Array], Shape, Progress]:
    """Return (model's arrays, its input shape, progress) of a state that fits this training.

    Raises ValueError where the file is damaged, or of another model, optimizer or dtype.
    """
    tensors, description = read_tensors(path, STATE_FORMAT)
    try:
        saved = description.get("model")
        if not isinstance(saved, dict) or saved.get("architecture") != architecture_of(model):
            raise ValueError("it is of a model with another architecture")
        if saved.get("dtype") != str(dtype):
            raise ValueError(f"expected dtype {dtype}, got {saved.get('dtype')!r:.80}")
        kind = type(optimizer).__name__
        if description.get("optimizer") != kind:
            raise ValueError(f"expected optimizer {kind}, got {description.get('optimizer')!r:.80}")
        planned = rebuild(saved)
        if model.built and model.input_shape != planned.input_shape:
            raise ValueError(
                f"expected a model for inputs {model.input_shape}, got {planned.input_shape}"
            )
        weights = check_state(planned.shapes(), _part(tensors, "model."), dtype)
        seed, epoch, step = (
            integer(description.get(name), name, 0) for name in ("seed", "epoch", "step")
        )
        # Files of before a trainer could change its optimizer do not have it.
        optimizer_step = integer(description.get("optimizer_step", step), "optimizer_step", 0)
        state = _part(tensors, "optimizer.")
        if state or optimizer_step > 0:  # none was made before the first step
            state = check_state(optimizer.state_shapes(planned.parameters()), state, dtype)
        history: dict[str, list[float]] = {name: [] for name in HISTORY}
        for name, values in _part(tensors, "history.").items():
            if name not in history or values.ndim != 1 or values.dtype != np.float64:
                raise ValueError(f"history: expected rows of float64, got {name!r:.80}")
            history[name] = values.tolist()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)}: expected a state of this training: {error}") from None
    return weights, planned.input_shape, Progress(seed, epoch, step, optimizer_step, history, state)


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
    from safetensors.numpy import save

    # One entry of metadata: with several, their order in the file would differ between runs.
    metadata = {"fastcnn": json.dumps(description)}
    write_atomically(path, save(dict(tensors), metadata))


def read_tensors(
    path: str | os.PathLike[str], expected_format: str
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return (arrays by name, description) of a file that write_tensors wrote.

    Raises ValueError where the file is damaged or of another format, OSError where it cannot
    be read.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    with open(name, "rb"):
        pass  # a missing file, a folder or a lack of rights is an OSError that says so
    try:
        with safe_open(name, framework="numpy") as file:
            description = _description_of(file.metadata(), expected_format)
            tensors = {}
            for key in file.keys():  # noqa: SIM118 (it is no dict)
                kind = file.get_slice(key).get_dtype()
                if kind not in ("F32", "F64"):
                    raise ValueError(f"{key!r:.80}: expected float32 or float64, got {kind}")
                tensors[key] = np.require(file.get_tensor(key), requirements=["C", "W"])
    except (SafetensorError, ValueError, RecursionError) as error:
        said = expected_format.replace("-", " ")
        raise ValueError(f"{name}: expected a {said} file: {error}") from None
    return tensors, description


def _description_of(metadata: Mapping[str, str] | None, expected_format: str) -> dict[str, Any]:
    description = json.loads((metadata or {}).get("fastcnn", "null"))
    if not isinstance(description, dict) or "format" not in description:
        raise ValueError("its metadata is not fastcnn's")
    if description["format"] != expected_format:
        raise ValueError(f"its metadata says {description['format']!r:.80}")
    if description.get("version") != VERSION:
        raise ValueError(
            f"expected version {VERSION}, got {description.get('version')!r:.80}; a newer fastcnn "
            "may have written it"
        )
    return description


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that, whatever happens, `path` holds all of the old or all of the new.

    The bytes go to a temporary file beside the target, are flushed to the disk, and then take
    the target's name. Raises OSError; the target is then as it was.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(f"path: expected a regular file or a new one, got {os.fspath(path)}")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"path: expected a file in an existing folder, got {os.fspath(path)}"
        )
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where folders can be opened (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

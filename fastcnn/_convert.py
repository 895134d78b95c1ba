"""`fastcnn convert`: a model file as one of another kind."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from fastcnn._model_files import KINDS, file_of, onnx, read_model, sized
from fastcnn._typed import integer_in
from fastcnn.nn import Module

__all__ = ["ABOUT", "add_options", "run"]

ABOUT: Final = (
    "OUT is written by the end of its name: .onnx, or .safetensors, which is a file of fastcnn "
    "or, with --pytorch, arrays as PyTorch names and shapes them. It appears whole or not at all, "
    "in the place of what is there, unless that is IN."
)
_ANY_SIZE = 224  # pixels a side at which a network for images of any size is written down


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("input", type=Path, metavar="IN", help=f"{KINDS}, or the output folder of a run")
    add("output", type=Path, metavar="OUT", help=".onnx or .safetensors")
    add("--opset", type=integer_in(1), metavar="N", help="of the ONNX file (default: 17)")
    add("--layout", choices=("NCHW", "NHWC"), help="of its images (default: NCHW)")
    add("--fold", action="store_true", help="batch normalization into the weights before it")
    add("--pytorch", action="store_true", help="write weights for PyTorch's load_state_dict")


def run(options: argparse.Namespace) -> None:
    """Read one file and write the other; print a line of what was written."""
    source, target = file_of(options.input), options.output
    kind = target.suffix.lower()
    if kind not in (".onnx", ".safetensors"):
        raise ValueError(f"convert: OUT: expected a name in .onnx or .safetensors, got {target}")
    given = {name: getattr(options, name) for name in ("opset", "layout", "fold")}
    asked = [f"--{name}" for name, value in given.items() if value]
    if kind == ".onnx" and options.pytorch:
        raise ValueError(f"convert: --pytorch: expected OUT in .safetensors, got {target}")
    if kind != ".onnx" and asked:
        raise ValueError(f"convert: {asked[0]}: expected OUT in .onnx, got {target}")
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"convert: OUT: expected another file than IN, got {target} for both")
    model = read_model(options.input)
    if kind == ".onnx":
        what = _write_onnx(model, target, {name: each for name, each in given.items() if each})
    elif options.pytorch:
        from fastcnn.pytorch import save_state

        save_state(model, target)
        what = "arrays for PyTorch"
    else:
        model.save(target)
        what = "a model of fastcnn"
    print(
        f"{target}: {what}, {model.parameter_count:,} parameters, "
        f"{target.stat().st_size / 1e6:,.1f} MB"
    )


def _write_onnx(model: Module, target: Path, options: dict[str, Any]) -> str:
    closed = sized(model, _ANY_SIZE, _ANY_SIZE, named=True)
    onnx().save(closed, target, any_size=closed is not model, **options)
    folded = ", batch normalization folded" if "fold" in options else ""
    return f"ONNX of opset {options.get('opset', 17)}, {options.get('layout', 'NCHW')}{folded}"

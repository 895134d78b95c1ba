"""The table of instruction sets that the kernels are compiled for.

setup.py reads it to build the variants, `fastcnn._kernels` to choose one. It imports nothing
of fastcnn: setup.py runs it before the package exists.
"""

from __future__ import annotations

import platform
from typing import NamedTuple

__all__ = ["DTYPES", "MODULES", "InstructionSet", "compiled", "instruction_sets", "modules"]


class InstructionSet(NamedTuple):
    """One variant of every kernel."""

    name: str
    flags: tuple[str, ...]  # for gcc and clang; other compilers build the baseline alone
    features: tuple[str, ...]  # what the CPU must have, in the names of _cpu.pyx


# From the narrowest to the widest: the last one that the CPU can run is the default.
_TABLE = {
    "x86_64": (
        InstructionSet("baseline", (), ()),
        InstructionSet("avx2", ("-march=x86-64-v3", "-mprfchw"), ("avx2",)),
        InstructionSet(
            "avx512",
            ("-march=x86-64-v4", "-mprfchw", "-mprefer-vector-width=512"),
            ("avx2", "avx512"),
        ),
    ),
    "aarch64": (InstructionSet("baseline", (), ()),),
}
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}

# Each source is compiled once for every instruction set and float width; those of DOUBLE, which
# sum up float32 numbers in double, as float64 alone.
DTYPES = ("float32", "float64")
MODULES = (
    "conv2d",
    "conv2d_backward_weights",
    "pointwise_conv2d",
    "pointwise_moments",
    "pointwise_norm",
    "pointwise_norm_depthwise",
    "norm_pointwise",
    "depthwise_conv2d",
    "depthwise_conv2d_backward_weights",
    "grouped_conv2d",
    "winograd",
    "winograd_backward_weights",
    "linear_few",
    "conv_block",
    "conv_block_few",
    "conv_block_columns",
    "conv_block_backward",
    "conv_block_backward_few",
    "conv_norm_block",
    "max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_block",
    "batch_norm_relu",
    "batch_norm_add",
    "layer_norm",
    "group_norm",
    "local_response_norm",
    "activations",
    "erf",
    "prelu",
    "softmax",
    "row_sums",
    "losses",
    "costs",
    "dropout",
    "lstm",
    "add",
    "multiply",
    "concat",
    "upsample2d",
    "resample2d",
    "optimizer",
    "batches",
    "peak",
)
DOUBLE = ("conv_norm_block", "pointwise_moments")
# A third of a second of compiling goes to what every extension module has, beside its kernels.
# So small kernels share one, whose source includes theirs: no two of them may use a name twice.
TOGETHER = {
    "elementwise": (
        "activations",
        "erf",
        "prelu",
        "softmax",
        "row_sums",
        "losses",
        "costs",
        "dropout",
        "lstm",
        "optimizer",
        "batches",
        "peak",
    ),
    "pooling": ("max_pool2d", "avg_pool2d"),
    "norms": (
        "batch_norm",
        "batch_norm_block",
        "layer_norm",
        "group_norm",
        "local_response_norm",
    ),
    "resizing": ("upsample2d", "resample2d"),
    "few_channels": ("conv_block_few", "conv_block_backward_few"),
}
_EXTENSIONS = {name: extension for extension, names in TOGETHER.items() for name in names}


def modules(dtype: str) -> tuple[str, ...]:
    """Return the modules that are compiled for a float width."""
    return tuple(name for name in MODULES if dtype == "float64" or name not in DOUBLE)


def compiled(dtype: str) -> dict[str, str]:
    """Return the extension module that holds each of the modules of a float width."""
    return {name: _EXTENSIONS.get(name, name) for name in modules(dtype)}


def instruction_sets(machine: str | None = None) -> tuple[InstructionSet, ...]:
    """Return the instruction sets of a machine (default: this one), narrowest first."""
    machine = (machine or platform.machine()).lower()
    machine = _ALIASES.get(machine, machine)
    return _TABLE.get(machine, (InstructionSet("baseline", (), ()),))

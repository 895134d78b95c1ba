"""The competitors, a module each, and what such a module offers.

    start(threads) -> str               set the number of threads; return name and version
    options(kind) -> {name: meaning}    the ways to do a kind of case; none: it cannot
    training(case, option), inference, convolution, memory_bound: a function for each kind, which
    returns a Job, or None where it has no such call

Networks are made from fastcnn's own by `_networks.walk`, with the weights of `_networks.weights`.
Input is laid out as the library likes it before anything is timed; what it returns stays as it
is, unless the library may still be at work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from fastcnn.backend import Array

__all__ = ["PEERS", "VARIANTS", "Job", "Peer", "Results"]

Results = dict[str, Array]


class Job(NamedTuple):
    """A case as one competitor does it."""

    result: Callable[[], Results]  # for comparison, in fastcnn's layouts
    run: Callable[[], object]  # one call of what is timed
    reset: Callable[[], object] = lambda: None  # training goes back to the first weights


class Peer(NamedTuple):
    """Where a competitor's module is and which packages it needs."""

    module: str
    packages: tuple[str, ...]  # the first one is what a user imports
    options: tuple[str, ...] = ()  # every name that its `options` may return
    settings: Mapping[str, object] = MappingProxyType({})  # more arguments of its `start`


PEERS = {
    "fastcnn": Peer("benchmarks._peers.fast", ("fastcnn",)),
    "torch": Peer("benchmarks._peers.pytorch", ("torch",), ("nchw", "channels_last", "compiled")),
    "onnxruntime": Peer("benchmarks._peers.onnx_runtime", ("onnxruntime", "onnx"), ("nchw",)),
    "jax": Peer("benchmarks._peers.jax_jit", ("jax",), ("jit", "reduce_window", "reshape")),
    "keras": Peer(
        "benchmarks._peers.keras_model", ("keras",), ("graph", "xla", "function", "auto", "tf.nn")
    ),
    "openvino": Peer("benchmarks._peers.openvino_cpu", ("openvino", "onnx"), ("latency",)),
}

# fastcnn with less, for cases of the kind "scaling".
VARIANTS = {
    "one thread": Peer("benchmarks._peers.fast", ("fastcnn",), settings={"threads": 1}),
    "avx2": Peer("benchmarks._peers.fast", ("fastcnn",), settings={"isa": "avx2"}),
}

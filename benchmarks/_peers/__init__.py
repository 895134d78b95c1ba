"""The competitors, a module each, and what such a module offers.

    start(threads) -> str                   set the number of threads; return name and version
    options(kind) -> {name: meaning}        the ways to do a kind of case; none: it cannot
    training(case, option, weights) -> Job
    inference(case, option, weights) -> Job
    convolution(case, option, weights) -> Job or None, where it has no such call

`weights` is fastcnn's state_dict of the sample network. Input is laid out as the library likes it
before anything is timed; what it returns stays as it is, unless the library may still be at work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fastcnn.backend import Array

__all__ = ["PEERS", "Job", "Peer", "Results"]

Results = dict[str, Array]


class Job(NamedTuple):
    """A case as one competitor does it."""

    result: Callable[[], Results]  # for comparison, in fastcnn's layouts
    run: Callable[[], object]  # one call of what is timed
    reset: Callable[[], object] = lambda: None  # training goes back to the first weights


class Peer(NamedTuple):
    """Where a competitor's module is and which packages it needs."""

    module: str
    packages: tuple[str, ...]


PEERS = {
    "fastcnn": Peer("benchmarks._peers.fast", ()),
    "torch": Peer("benchmarks._peers.pytorch", ("torch",)),
    "onnxruntime": Peer("benchmarks._peers.onnx_runtime", ("onnxruntime", "onnx")),
    "jax": Peer("benchmarks._peers.jax_jit", ("jax",)),
    "keras": Peer("benchmarks._peers.keras_model", ("keras",)),
    "openvino": Peer("benchmarks._peers.openvino_cpu", ("openvino", "onnx")),
}

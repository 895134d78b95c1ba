"""ONNX Runtime: inference and forward convolution."""

from __future__ import annotations

from collections.abc import Callable

import onnxruntime

from benchmarks._cases import Convolution, Inference
from benchmarks._peers import Job
from benchmarks._peers.layout import nchw, nhwc
from benchmarks._peers.onnx_graph import convolution_model, network_model
from fastcnn.backend import Array

_threads = 1


def start(threads: int) -> str:
    global _threads
    _threads = threads
    return f"ONNX Runtime {onnxruntime.__version__}"


def options(kind: str) -> dict[str, str]:
    if kind not in ("inference", "convolution"):
        return {}
    return {"nchw": f"{_threads} intra-op threads, all graph optimizations, constant weights"}


def _session(model: bytes, x: Array) -> Callable[[], Array]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = _threads
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    def run() -> Array:
        y: Array = session.run(["y"], {"x": x})[0]
        return y

    return run


def inference(case: Inference, option: str) -> Job:
    run = _session(network_model(case), nchw(case.data()))
    return Job(lambda: {"logits": run()}, run)


def convolution(case: Convolution, option: str) -> Job | None:
    if case.direction != "forward":
        return None
    x, w, _ = case.data()
    run = _session(convolution_model(case, w), nchw(x))
    return Job(lambda: {"y": nhwc(run())}, run)

"""OpenVINO on the CPU: inference and forward convolution."""

from __future__ import annotations

from collections.abc import Callable

import openvino

from benchmarks._cases import Convolution, Inference
from benchmarks._peers import Job
from benchmarks._peers.layout import nchw, nhwc
from benchmarks._peers.onnx_graph import convolution_model, network_model
from fastcnn.backend import Array

_threads = 1


def start(threads: int) -> str:
    global _threads
    _threads = threads
    return f"OpenVINO {openvino.__version__}"


def options(kind: str) -> dict[str, str]:
    if kind not in ("inference", "convolution"):
        return {}
    return {"latency": f"hint LATENCY, {_threads} threads, f32, constant weights"}


def _compiled(model: bytes, x: Array) -> Callable[[], Array]:
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(_threads),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(model=model), "CPU", settings)
    request = compiled.create_infer_request()

    def run() -> Array:
        y: Array = request.infer({0: x}, share_inputs=True, share_outputs=True)[0]
        return y

    return run


def inference(case: Inference, option: str) -> Job:
    run = _compiled(network_model(case), nchw(case.data()))
    return Job(lambda: {"logits": run().copy()}, run)


def convolution(case: Convolution, option: str) -> Job | None:
    if case.direction != "forward":
        return None
    x, w, _ = case.data()
    run = _compiled(convolution_model(case, w), nchw(x))
    return Job(lambda: {"y": nhwc(run())}, run)

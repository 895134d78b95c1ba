"""fastcnn itself, through its public calls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import fastcnn
from benchmarks._cases import (
    CHECKED_STEPS,
    LEARNING_RATE,
    MOMENTUM,
    Convolution,
    Inference,
    Training,
    sample_network,
)
from benchmarks._peers import Job, Results
from fastcnn import optim
from fastcnn.backend import Array

_backend: fastcnn.FastBackend


def start(threads: int) -> str:
    global _backend
    _backend = fastcnn.FastBackend(num_threads=threads)
    _backend.relu(np.zeros(1, np.float32))  # loads the kernels: if some are not built, say so now
    return f"fastcnn {fastcnn.__version__}"


def options(kind: str) -> dict[str, str]:
    calls = {
        "training": "Trainer.fit, float32 images, shuffled",
        "inference": "Trainer.predict, the batch in one piece",
        "convolution": "FastBackend.conv2d, conv2d_backward",
    }
    return {_backend.isa: calls[kind]}


def _trainer(weights: Mapping[str, Array]) -> fastcnn.Trainer:
    model = sample_network()
    model.build((28, 28, 1))
    model.load_state_dict(weights)
    optimizer = optim.SGD(LEARNING_RATE, momentum=MOMENTUM)
    return fastcnn.Trainer(model, optimizer=optimizer, backend=_backend)


def training(case: Training, option: str, weights: Mapping[str, Array]) -> Job:
    x, y = case.data()
    trainer = _trainer(weights)

    def result() -> Results:
        images = slice(CHECKED_STEPS * case.batch)
        history = _trainer(weights).fit(
            x[images], y[images], batch_size=case.batch, shuffle=False, verbose=False
        )
        return {"losses": np.array(history["step_loss"])}

    def run() -> None:
        trainer.fit(x, y, batch_size=case.batch, verbose=False)

    def reset() -> None:
        nonlocal trainer
        trainer = _trainer(weights)

    return Job(result, run, reset)


def inference(case: Inference, option: str, weights: Mapping[str, Array]) -> Job:
    x = case.data()
    trainer = _trainer(weights)

    def run() -> Array:
        return trainer.predict(x, batch_size=case.batch)

    return Job(lambda: {"logits": run()}, run)


def convolution(case: Convolution, option: str, weights: Mapping[str, Array]) -> Job:
    x, w, dy = case.data()
    stride, padding, groups = case.stride, case.padding, case.groups

    def forward() -> Results:
        return {"y": _backend.conv2d(x, w, stride=stride, padding=padding, groups=groups)}

    def backward() -> Results:
        to_input = case.direction == "input gradient"
        dx, dw, db = _backend.conv2d_backward(
            dy,
            x,
            w,
            stride=stride,
            padding=padding,
            groups=groups,
            input_gradient=to_input,
            weight_gradient=not to_input,
        )
        return {"dx": dx} if to_input else {"dw": dw, "db": db}

    run = forward if case.direction == "forward" else backward
    return Job(run, run)

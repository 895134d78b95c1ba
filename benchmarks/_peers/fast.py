"""fastcnn itself, through its public calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastcnn
from benchmarks import _networks
from benchmarks._cases import (
    MOMENTUM,
    Convolution,
    Inference,
    MemoryBound,
    Training,
)
from benchmarks._networks import NETWORKS
from benchmarks._peers import Job, Results
from fastcnn import optim
from fastcnn.backend import Array

Op = Callable[[], tuple[Any, ...]]
_backend: fastcnn.FastBackend


def start(threads: int, isa: str | None = None) -> str:
    global _backend
    _backend = fastcnn.FastBackend(isa, num_threads=threads)
    return f"fastcnn {fastcnn.__version__}"


def options(kind: str) -> dict[str, str]:
    calls = {
        "training": "Trainer.fit, float32 images, shuffled",
        "scaling": "Trainer.fit, float32 images, shuffled",
        "inference": "Trainer.predict, the batch in one piece",
        "convolution": "FastBackend.conv2d, conv2d_backward",
        "memory_bound": "the ops of FastBackend",
        "cost": "Trainer.fit, Trainer.predict",
    }
    return {_backend.isa: calls[kind]}


def _trainer(network: str) -> fastcnn.Trainer:
    optimizer = optim.SGD(NETWORKS[network].learning_rate, momentum=MOMENTUM)
    return fastcnn.Trainer(
        _networks.model(network),
        optimizer=optimizer,
        loss=NETWORKS[network].loss,
        backend=_backend,
    )


def training(case: Training, option: str) -> Job:
    x, y = case.data()
    trainer = _trainer(case.network)

    def result() -> Results:
        trainer = _trainer(case.network)
        for batch in case.checked:
            trainer.fit(x[batch], y[batch], batch_size=case.batch, shuffle=False, verbose=False)
        return {"losses": np.array(trainer.history["step_loss"])}

    def run() -> None:
        trainer.fit(x, y, batch_size=case.batch, verbose=False)

    def reset() -> None:
        nonlocal trainer
        trainer = _trainer(case.network)

    return Job(result, run, reset)


scaling = training


def inference(case: Inference, option: str) -> Job:
    x = case.data()
    trainer = _trainer(case.network)

    def run() -> Array:
        return trainer.predict(x, batch_size=case.batch)

    return Job(lambda: {"logits": run()}, run)


def convolution(case: Convolution, option: str) -> Job:
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
        named = {"dx": dx} if to_input else {"dw": dw, "db": db}
        return {name: array for name, array in named.items() if array is not None}

    run = forward if case.direction == "forward" else backward
    return Job(run, run)


def memory_bound(case: MemoryBound, option: str) -> Job:
    families = {1: _steps, 2: _cross_entropy, 4: _on_images}
    op = families[len(case.shape)](case)[case.op]
    # Copies: a step changes what it has returned.
    return Job(lambda: dict(zip(case.results, map(np.array, op()), strict=True)), op)


def _on_images(case: MemoryBound) -> dict[str, Op]:
    x, dy = case.data()
    if "pool" in case.op:
        argmax = _backend.max_pool2d(x)[1]
        return {
            "max-pool forward": lambda: _backend.max_pool2d(x)[:1],
            "max-pool backward": lambda: (_backend.max_pool2d_backward(dy, argmax, x.shape),),
            "average pool forward": lambda: (_backend.avg_pool2d(x),),
            "average pool backward": lambda: (_backend.avg_pool2d_backward(dy, x.shape),),
        }
    if "batch norm" in case.op:
        gamma, beta = case.channels()
        _, *statistics = _backend.batch_norm(x, gamma, beta)
        return {
            "batch norm forward": lambda: _backend.batch_norm(x, gamma, beta)[:1],
            "batch norm backward": lambda: _backend.batch_norm_backward(dy, x, gamma, *statistics),
        }
    y = _backend.relu(x)
    return {
        "ReLU forward": lambda: (_backend.relu(x),),
        "ReLU backward": lambda: (_backend.relu_backward(dy, y),),
    }


def _cross_entropy(case: MemoryBound) -> dict[str, Op]:
    x, labels = case.data()[0], case.labels()

    def op() -> tuple[float, Array]:
        loss, p = _backend.softmax_cross_entropy(x, labels)
        return loss, _backend.softmax_cross_entropy_backward(1.0, p, labels)

    return {"softmax cross-entropy": op}


def _steps(case: MemoryBound) -> dict[str, Op]:
    w, dw = case.data()
    m, v = np.zeros_like(w), np.zeros_like(w)

    def sgd() -> tuple[Array]:
        _backend.sgd_step(w, dw, m, learning_rate=1e-3, momentum=MOMENTUM)
        return (w,)

    def adam() -> tuple[Array]:
        _backend.adam_step(w, dw, m, v, step=1, learning_rate=1e-3)
        return (w,)

    return {"SGD step": sgd, "Adam step": adam}

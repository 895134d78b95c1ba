"""PyTorch: eager in both memory layouts, and compiled where a C++ compiler is found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks._cases import (
    CHECKED_STEPS,
    LEARNING_RATE,
    MOMENTUM,
    Convolution,
    Inference,
    Training,
)
from benchmarks._peers import Job, Results
from benchmarks._peers.layout import nchw, nhwc, oihw, to_hwio, torch_order
from fastcnn.backend import Array


def start(threads: int) -> str:
    torch.set_num_threads(threads)
    return f"PyTorch {torch.__version__}"


def options(kind: str) -> dict[str, str]:
    names = {"nchw": "eager, contiguous", "channels_last": "eager, channels_last"}
    compiler = os.environ.get("CXX", "g++")
    if kind != "convolution" and shutil.which(compiler):
        names["compiled"] = f"torch.compile with {compiler}, channels_last"
    if kind == "training":
        return {name: f"{meaning}, SGD(fused=True)" for name, meaning in names.items()}
    if kind == "inference":
        return {name: f"{meaning}, inference_mode" for name, meaning in names.items()}
    return names


def _format(option: str) -> torch.memory_format:
    return torch.contiguous_format if option == "nchw" else torch.channels_last


def _tensor(array: Array, option: str) -> torch.Tensor:
    """Return images or filters (already in NCHW or OIHW order) in the option's memory layout."""
    return torch.from_numpy(array).contiguous(memory_format=_format(option))


def _network(option: str) -> Any:
    network: Any = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3),
        torch.nn.ReLU(inplace=True),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3),
        torch.nn.ReLU(inplace=True),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(1600, 128),
        torch.nn.ReLU(inplace=True),
        torch.nn.Linear(128, 10),
    )
    return network.to(memory_format=_format(option))


def _load(network: Any, weights: Mapping[str, Array]) -> None:
    with torch.no_grad():
        for parameter, array in zip(network.parameters(), torch_order(weights), strict=True):
            parameter.copy_(torch.from_numpy(array))


def training(case: Training, option: str, weights: Mapping[str, Array]) -> Job:
    images, labels = case.data()
    x, y = _tensor(nchw(images), option), torch.from_numpy(labels)
    network = _network(option)
    model = torch.compile(network) if option == "compiled" else network
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=True
    )

    def reset() -> None:
        _load(network, weights)
        optimizer.state.clear()

    def epoch(order: torch.Tensor) -> list[float]:
        losses = []
        for start in range(0, len(order), case.batch):
            indices = order[start : start + case.batch]
            optimizer.zero_grad(set_to_none=True)
            loss: Any = F.cross_entropy(model(x[indices]), y[indices])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    def result() -> Results:
        reset()
        return {"losses": np.array(epoch(torch.arange(CHECKED_STEPS * case.batch)))}

    return Job(result, lambda: epoch(torch.randperm(case.images)), reset)


def inference(case: Inference, option: str, weights: Mapping[str, Array]) -> Job:
    x = _tensor(nchw(case.data()), option)
    network = _network(option).eval()
    _load(network, weights)
    model = torch.compile(network) if option == "compiled" else network

    def run() -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = model(x)
            return logits

    return Job(lambda: {"logits": run().numpy()}, run)


def convolution(case: Convolution, option: str, weights: Mapping[str, Array]) -> Job:
    images, filters, gradient = case.data()
    x, dy = _tensor(nchw(images), option), _tensor(nchw(gradient), option)
    w = _tensor(oihw(filters), option)
    pair = [case.stride] * 2, [case.padding] * 2, [1, 1]

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return F.conv2d(x, w, None, *pair, case.groups)

    def backward() -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        to_input = case.direction == "input gradient"
        wanted = [to_input, not to_input, not to_input]
        gradients: tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]
        gradients = torch.ops.aten.convolution_backward(
            dy, x, w, [case.filters], *pair, False, [0, 0], case.groups, wanted
        )
        return gradients

    def result() -> Results:
        if case.direction == "forward":
            return {"y": nhwc(forward().numpy())}
        dx, dw, db = backward()
        if dw is None or db is None:
            return {"dx": nhwc(dx.numpy())} if dx is not None else {}
        return {"dw": to_hwio(dw.numpy()), "db": db.numpy()}

    return Job(result, forward if case.direction == "forward" else backward)

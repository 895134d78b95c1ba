"""PyTorch: eager in both memory layouts, and compiled where a C++ compiler is found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import _networks
from benchmarks._cases import (
    MOMENTUM,
    Convolution,
    Inference,
    Training,
)
from benchmarks._networks import NETWORKS, flattened_image, walk
from benchmarks._peers import Job, Results
from benchmarks._peers.layout import nchw, nhwc, oihw, out_in, to_hwio
from benchmarks._peers.pytorch_ops import format_of, memory_bound, tensor
from fastcnn import nn

__all__ = ["convolution", "inference", "memory_bound", "options", "start", "training"]


def start(threads: int) -> str:
    torch.set_num_threads(threads)
    return f"PyTorch {torch.__version__}"


def options(kind: str) -> dict[str, str]:
    names = {"nchw": "eager, contiguous", "channels_last": "eager, channels_last"}
    compiler = os.environ.get("CXX", "g++")
    if kind in ("training", "inference") and shutil.which(compiler):
        names["compiled"] = f"torch.compile with {compiler}, channels_last"
    if kind in ("training", "cost"):
        return {name: f"{meaning}, SGD(fused=True)" for name, meaning in names.items()}
    if kind == "inference":
        return {name: f"{meaning}, inference_mode" for name, meaning in names.items()}
    return {} if kind == "scaling" else names


def _network(name: str, option: str) -> Any:
    model = _networks.model(name)
    network: Any = _twin(model, "", flattened_image(walk(model)))
    return network.to(memory_format=format_of(option))


class _Residual(torch.nn.Module):
    def __init__(self, body: torch.nn.Module, shortcut: torch.nn.Module | None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x)
        y += x if self.shortcut is None else self.shortcut(x)
        return y


class _Graph(torch.nn.Module):
    """An nn.Model of one input and one output."""

    def __init__(
        self, model: nn.Model, prefix: str, flattened: Mapping[str, tuple[int, ...]]
    ) -> None:
        super().__init__()
        config = model.config()
        self.calls, (self.output,) = config["calls"], config["outputs"]
        self.parts = torch.nn.ModuleList(
            _twin(layer, f"{prefix}.{index}".strip("."), flattened)
            for index, layer in enumerate(model.layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for place, sources in self.calls:
            given = [values[at] for at in sources]
            values.append(self.parts[place](given[0] if len(given) == 1 else given))
        return values[self.output]


class _Concat(torch.nn.Module):
    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts, 1)


def _twin(
    part: nn.Module, prefix: str, flattened: Mapping[str, tuple[int, ...]]
) -> torch.nn.Sequential:
    """Return layers like fastcnn's, with their weights."""
    modules: list[torch.nn.Module] = []
    for name, layer in walk(part, prefix):
        if isinstance(layer, nn.Residual):
            shortcut = None
            if layer.shortcut is not None:
                shortcut = _twin(layer.shortcut, f"{name}.shortcut", flattened)
            body = _twin(layer.body, f"{name}.body", flattened)
            modules.append(_Residual(body, shortcut))
            continue
        if isinstance(layer, nn.Model):
            modules.append(_Graph(layer, name, flattened))
            continue
        module = _layer(layer)
        state = {}
        for key, variable in layer.variables().items():
            array = variable.data
            if array.ndim == 4:
                array = oihw(array)
            elif array.ndim == 2:
                array = out_in(array, flattened.get(name))
            state[_NAMES.get(key, key)] = torch.from_numpy(array)
        module.load_state_dict(state, strict=False)  # but num_batches_tracked
        modules.append(module)
    return torch.nn.Sequential(*modules)


_NAMES = {"gamma": "weight", "beta": "bias", "running_variance": "running_var"}


def _layer(layer: nn.Module) -> torch.nn.Module:
    if isinstance(layer, (nn.Conv2D, nn.DepthwiseConv2D)):
        channels, filters = layer.input_shape[2], layer.output_shape[2]
        groups = layer.groups if isinstance(layer, nn.Conv2D) else channels
        padding: Any = layer.padding
        return torch.nn.Conv2d(
            channels,
            filters,
            layer.kernel_size,
            layer.stride,
            padding,
            groups=groups,
            bias=layer.use_bias,
        )
    if isinstance(layer, nn.Conv2DTranspose):
        return torch.nn.ConvTranspose2d(
            layer.input_shape[2],
            layer.filters,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.output_padding,
            layer.groups,
            layer.use_bias,
        )
    if isinstance(layer, nn.UpSample2D):
        return torch.nn.Upsample(scale_factor=layer.factor, mode=layer.method)
    if isinstance(layer, nn.Concat) and layer.axis == -1:
        return _Concat()
    if isinstance(layer, nn.BatchNorm):
        return torch.nn.BatchNorm2d(
            layer.input_shape[-1], eps=layer.epsilon, momentum=1 - layer.momentum
        )
    if isinstance(layer, nn.MaxPool2D):
        pool: Any = (layer.pool_size, layer.stride, layer.padding)
        return torch.nn.MaxPool2d(*pool)
    if isinstance(layer, nn.Dense):
        return torch.nn.Linear(layer.input_shape[0], layer.units, bias=layer.use_bias)
    if isinstance(layer, nn.GlobalAvgPool2D):
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    if isinstance(layer, nn.ReLU):
        return torch.nn.ReLU(inplace=True)
    if isinstance(layer, nn.Flatten):
        return torch.nn.Flatten()
    raise TypeError(f"no twin of {type(layer).__name__}")


_LOSSES = {"cross_entropy": F.cross_entropy, "mean_squared_error": F.mse_loss}


def _compiled(network: Any, name: str, option: str) -> Any | None:
    """Return the network, compiled where the option says so: of large ones that takes minutes."""
    if option != "compiled":
        return network
    return torch.compile(network) if NETWORKS[name].epoch > 1 else None


def training(case: Training, option: str) -> Job | None:
    images, labels = case.data()
    x = tensor(nchw(images), option)
    y = tensor(nchw(labels), option) if labels.ndim == 4 else torch.from_numpy(labels)
    cost = _LOSSES[NETWORKS[case.network].loss]
    network = _network(case.network, option)
    model = _compiled(network, case.network, option)
    if model is None:
        return None
    first = {name: weights.clone() for name, weights in network.state_dict().items()}
    optimizer = torch.optim.SGD(
        network.parameters(), lr=case.learning_rate, momentum=MOMENTUM, fused=True
    )

    def reset() -> None:
        network.load_state_dict(first)
        optimizer.state.clear()

    def step(indices: torch.Tensor | slice) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss: Any = cost(model(x[indices]), y[indices])
        loss.backward()
        optimizer.step()
        value: float = loss.item()
        return value

    def run() -> list[float]:
        return [step(indices) for indices in torch.randperm(case.images).view(-1, case.batch)]

    def result() -> Results:
        reset()
        return {"losses": np.array([step(batch) for batch in case.checked])}

    return Job(result, run, reset)


def inference(case: Inference, option: str) -> Job | None:
    x = tensor(nchw(case.data()), option)
    model = _compiled(_network(case.network, option).eval(), case.network, option)
    if model is None:
        return None

    def run() -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = model(x)
            return logits

    return Job(lambda: {"logits": run().numpy()}, run)


def convolution(case: Convolution, option: str) -> Job:
    images, filters, gradient = case.data()
    x, dy = tensor(nchw(images), option), tensor(nchw(gradient), option)
    w = tensor(oihw(filters), option)
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

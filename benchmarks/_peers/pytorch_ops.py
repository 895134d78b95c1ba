"""PyTorch's ops that memory bounds, one by one, and its arrays in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks._cases import MOMENTUM, MemoryBound
from benchmarks._peers import Job, Results
from benchmarks._peers.layout import nchw, nhwc
from fastcnn.backend import Array

__all__ = ["format_of", "memory_bound", "tensor"]

Op = Callable[[], tuple[torch.Tensor, ...]]
aten = torch.ops.aten


def format_of(option: str) -> torch.memory_format:
    return torch.contiguous_format if option == "nchw" else torch.channels_last


def tensor(array: Array, option: str) -> torch.Tensor:
    """Return images or filters (already in NCHW or OIHW order) in the option's memory layout."""
    return torch.from_numpy(array).contiguous(memory_format=format_of(option))


def memory_bound(case: MemoryBound, option: str) -> Job | None:
    if len(case.shape) < 4 and option != "nchw":
        return None  # what is no image has one layout
    if len(case.shape) == 4:
        op = _on_images(case, option)
    else:
        op = _cross_entropy(case) if len(case.shape) == 2 else _optimizer(case)

    def result() -> Results:
        arrays = [tensor.detach().numpy().copy() for tensor in op()]
        arrays = [nhwc(array) if array.ndim == 4 else array for array in arrays]
        return dict(zip(case.results, arrays, strict=True))

    return Job(result, op)


def _on_images(case: MemoryBound, option: str) -> Op:
    x, dy = (tensor(nchw(array), option) for array in case.data())
    if "pool" in case.op:
        ops = _pools(x, dy)
    elif "batch norm" in case.op:
        gamma, beta = map(torch.from_numpy, case.channels())
        ops = _batch_norm(x, dy, gamma, beta)
    else:
        ops = _relu(x, dy)
    return torch.inference_mode()(ops[case.op])


def _pools(x: torch.Tensor, dy: torch.Tensor) -> dict[str, Op]:
    largest = [2, 2], [2, 2], [0, 0], [1, 1], False
    mean = [2, 2], [2, 2], [0, 0], False, True, None
    indices = aten.max_pool2d_with_indices(x, *largest)[1]
    return {
        "max-pool forward": lambda: aten.max_pool2d_with_indices(x, *largest)[:1],
        "max-pool backward": lambda: (
            aten.max_pool2d_with_indices_backward(dy, x, *largest, indices),
        ),
        "average pool forward": lambda: (aten.avg_pool2d(x, *mean),),
        "average pool backward": lambda: (aten.avg_pool2d_backward(dy, x, *mean),),
    }


def _batch_norm(
    x: torch.Tensor, dy: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor
) -> dict[str, Op]:
    settings = gamma, beta, None, None, True, 0.1, 1e-5
    _, mean, inverse = aten.native_batch_norm(x, *settings)
    return {
        "batch norm forward": lambda: aten.native_batch_norm(x, *settings)[:1],
        "batch norm backward": lambda: aten.native_batch_norm_backward(
            dy, x, gamma, None, None, mean, inverse, True, 1e-5, [True, True, True]
        ),
    }


def _relu(x: torch.Tensor, dy: torch.Tensor) -> dict[str, Op]:
    y = torch.relu(x)
    return {
        "ReLU forward": lambda: (torch.relu(x),),
        "ReLU backward": lambda: (aten.threshold_backward(dy, y, 0),),
    }


def _cross_entropy(case: MemoryBound) -> Op:
    x = torch.from_numpy(case.data()[0]).requires_grad_()
    labels = torch.from_numpy(case.labels())

    def op() -> tuple[torch.Tensor, ...]:
        loss: Any = F.cross_entropy(x, labels)
        return loss, *torch.autograd.grad(loss, x)

    return op


def _optimizer(case: MemoryBound) -> Op:
    w, dw = map(torch.from_numpy, case.data())
    w.grad = dw
    sgd = torch.optim.SGD([w], lr=1e-3, momentum=MOMENTUM, fused=True)
    optimizer = sgd if case.op == "SGD step" else torch.optim.Adam([w], lr=1e-3, fused=True)

    def op() -> tuple[torch.Tensor, ...]:
        optimizer.step()
        return (w,)

    return op

"""Architectures that torchvision has not: twins of PyTorch's layers answer the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcnn import Predictor, zoo

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")
t = torch.nn


def normed(before: int, after: int, size: int, stride: int = 1, groups: int = 1) -> list[Any]:
    convolution = t.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, t.BatchNorm2d(after), t.ReLU()]


def lenet5() -> Any:
    return t.Sequential(
        *(t.Conv2d(1, 6, 5, padding=2), t.ReLU(), t.MaxPool2d(2)),
        *(t.Conv2d(6, 16, 5), t.ReLU(), t.MaxPool2d(2)),
        t.Flatten(),
        *(t.Linear(16 * 5 * 5, 120), t.ReLU()),
        *(t.Linear(120, 84), t.ReLU()),
        t.Linear(84, 10),
    )


def mobilenet_v1() -> Any:
    layers, before = normed(3, 32, 3, 2), 32
    sizes = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    for place, after in enumerate(sizes):
        layers += normed(before, before, 3, 2 if place in (1, 3, 5, 11) else 1, before)
        layers += normed(before, after, 1)
        before = after
    return t.Sequential(*layers, t.AdaptiveAvgPool2d(1), t.Flatten(), t.Linear(1024, 10))


class Block(t.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = t.Sequential(*normed(before, after, 3, stride), *normed(after, after, 3)[:2])
        self.shortcut = t.Sequential(*normed(before, after, 1, stride)[: 2 if stride > 1 else 0])

    def forward(self, x: Any) -> Any:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet20() -> Any:
    return t.Sequential(
        *normed(3, 16, 3),
        *(Block(16, 16, 1) for _ in range(3)),
        *(Block(16 if place == 0 else 32, 32, 2 if place == 0 else 1) for place in range(3)),
        *(Block(32 if place == 0 else 64, 64, 2 if place == 0 else 1) for place in range(3)),
        *(t.AdaptiveAvgPool2d(1), t.Flatten(), t.Linear(64, 10)),
    )


class UNet(t.Module):
    def __init__(self) -> None:
        super().__init__()

        def level(before: int, after: int) -> Any:
            return t.Sequential(*normed(before, after, 3), *normed(after, after, 3))

        self.down = t.ModuleList([level(3, 8), level(8, 16), level(16, 32)])
        self.up, self.beside = t.ModuleList(), t.ModuleList()
        for filters in (16, 8):
            self.up.append(t.ConvTranspose2d(2 * filters, filters, 2, 2))
            self.beside.append(level(2 * filters, filters))
        self.last = t.Conv2d(8, 10, 1)

    def forward(self, x: Any) -> Any:
        x = one = self.down[0](x)
        x = two = self.down[1](torch.max_pool2d(x, 2))
        x = self.down[2](torch.max_pool2d(x, 2))
        for up, beside, skip in zip(self.up, self.beside, (two, one), strict=True):
            x = beside(torch.cat([skip, up(x)], 1))
        return self.last(x)


@pytest.mark.parametrize(
    ("make", "twin", "shape"),
    [
        (zoo.lenet5, lenet5, (28, 28, 1)),
        (zoo.mobilenet_v1, mobilenet_v1, (72, 56, 3)),
        (zoo.resnet20, resnet20, (40, 28, 3)),
        (lambda *args: zoo.unet(*args, filters=8, depth=2), UNet, (20, 12, 3)),
    ],
    ids=["lenet5", "mobilenet_v1", "resnet20", "unet"],
)
def test_it_answers_as_its_twin(make: Any, twin: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    judge = twin().eval()
    for module in judge.modules():
        if isinstance(module, t.BatchNorm2d):
            for array in (module.running_mean, module.bias.data):
                array.normal_(0, 0.1)
            for array in (module.running_var, module.weight.data):
                array.uniform_(0.5, 1.5)
    model = make(10, shape)
    model.build(shape)
    model.load_pytorch_state(judge.state_dict())
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = judge(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    if expected.ndim == 4:
        expected = expected.transpose(0, 2, 3, 1)
    found = Predictor(model)(x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())

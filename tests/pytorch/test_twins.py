"""Models and their twins in PyTorch: with the same weights they answer the same, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_torch_twin import SHAPE, model_and_twin

from fastcnn import FastBackend, nn, pytorch

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")
t = torch.nn

Pair = tuple[nn.Module, Any, tuple[int, ...]]


def of_every_kind() -> Pair:
    return (*model_and_twin(torch), SHAPE)


def classifier() -> Pair:
    """Conv, BN, ReLU, Pool, Flatten, Linear."""
    model = nn.Sequential(
        [
            nn.Conv2D(4, 3, padding=1, activation="relu"),
            nn.MaxPool2D(2),
            nn.Conv2D(6, 3, use_bias=False),
            nn.BatchNorm(),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.BatchNorm(),
            nn.Dense(8, activation="relu"),
            nn.Dense(8),
        ]
    )
    twin = t.Sequential(
        t.Sequential(t.Conv2d(3, 4, 3, padding=1), t.ReLU()),
        t.MaxPool2d(2),
        t.Conv2d(4, 6, 3, bias=False),
        t.BatchNorm2d(6),
        t.ReLU(),
        t.Flatten(),
        t.Dropout(),
        t.BatchNorm1d(36),
        t.Sequential(t.Linear(36, 8), t.ReLU()),
        t.Linear(8, 8),
    )
    return model, twin, (8, 11, 3)


class Block(t.Module):
    """The basic block of ResNet, as torchvision writes it."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = t.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = t.BatchNorm2d(after)
        self.conv2 = t.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = t.BatchNorm2d(after)
        self.downsample = None
        if stride > 1 or before != after:
            self.downsample = t.Sequential(
                t.Conv2d(before, after, 1, stride, bias=False), t.BatchNorm2d(after)
            )

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet(t.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = t.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.bn1 = t.BatchNorm2d(4)
        self.layer1 = t.Sequential(Block(4, 4, 1), Block(4, 4, 1))
        self.layer2 = t.Sequential(Block(4, 6, 2))
        self.fc = t.Linear(6, 5)

    def forward(self, x: Any) -> Any:
        y = self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x)))))
        return self.fc(y.mean((2, 3)))


def block(before: int, after: int, stride: int) -> list[nn.Module]:
    body = [
        nn.Conv2D(after, 3, stride=stride, padding=1, use_bias=False),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.Conv2D(after, 3, padding=1, use_bias=False),
        nn.BatchNorm(),
    ]
    shortcut = None
    if stride > 1 or before != after:
        shortcut = nn.Sequential(
            [nn.Conv2D(after, 1, stride=stride, use_bias=False), nn.BatchNorm()]
        )
    return [nn.Residual(nn.Sequential(body), shortcut), nn.ReLU()]


def resnet() -> Pair:
    model = nn.Sequential(
        [
            nn.Conv2D(4, 3, stride=2, padding=1, use_bias=False),
            nn.BatchNorm(),
            nn.ReLU(),
            *block(4, 4, 1),
            *block(4, 4, 1),
            *block(4, 6, 2),
            nn.GlobalAvgPool2D(),
            nn.Dense(5),
        ]
    )
    return model, ResNet(), (9, 12, 3)


class Gate(t.Module):
    """Squeeze and excitation, by 1x1 convolutions as in torchvision."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = t.Conv2d(channels, channels, 1)
        self.fc2 = t.Conv2d(channels, channels, 1)

    def forward(self, x: Any) -> Any:
        gate = torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(gate))


def mobile() -> Pair:
    """Depthwise with a multiplier, a gate, a transposed convolution of groups."""
    x = nn.Input((6, 7, 2))
    y = nn.Conv2D(4, 1, use_bias=False)(x)
    y = nn.DepthwiseConv2D(3, padding=1, depth_multiplier=2)(nn.HardSwish()(nn.BatchNorm()(y)))
    gate = nn.Dense(8, activation="relu")(nn.GlobalAvgPool2D()(y))
    gate = nn.Dense(8, activation="sigmoid")(gate)
    y = nn.multiply(y, Gates()(gate))
    y = nn.Conv2DTranspose(6, (2, 3), stride=(2, 1), groups=2)(y)
    model = nn.Model(x, nn.Dense(3)(nn.Flatten()(y)))
    twin = t.Sequential(
        t.Conv2d(2, 4, 1, bias=False),
        t.BatchNorm2d(4),
        t.Hardswish(),
        t.Conv2d(4, 8, 3, padding=1, groups=4),
        Gate(8),
        t.ConvTranspose2d(8, 6, (2, 3), stride=(2, 1), groups=2),
        t.Flatten(),
        t.Linear(6 * 12 * 9, 3),
    )
    return model, twin, (6, 7, 2)


class Gates(nn.Module):
    """Gates (C,) as an image of one pixel."""

    traceable = True

    def declare(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return 1, 1, *input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:  # type: ignore[override]
        return x.reshape(len(x), 1, 1, x.shape[-1])


class Permuted(t.Module):
    """As networks of old do that were written for another order of axes."""

    def forward(self, x: Any) -> Any:
        return x.permute(0, 3, 2, 1).contiguous()


def permuted() -> Pair:
    model = nn.Sequential([nn.Conv2D(4, 3), nn.Flatten(), nn.Dense(3)])
    twin = t.Sequential(t.Conv2d(2, 4, 3), Permuted(), t.Flatten(), t.Linear(24, 3))
    return model, twin, (4, 5, 2)


PAIRS: dict[str, tuple[Any, dict[str, Any]]] = {
    "every kind": (of_every_kind, {}),
    "classifier": (classifier, {}),
    "resnet": (resnet, {}),
    "mobile": (mobile, {}),
    "permuted": (permuted, {"flatten": "WHC"}),
}


def built(name: str, dtype: str) -> tuple[nn.Module, Any, np.ndarray]:
    """A model, its twin with statistics of its own, and images."""
    torch.manual_seed(0)
    make, _ = PAIRS[name]
    model, twin, shape = make()
    twin = twin.to(getattr(torch, dtype)).eval()
    for module in twin.modules():
        if isinstance(module, (t.BatchNorm1d, t.BatchNorm2d)):
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 2)
            for values in (module.running_mean, module.bias.data):
                values.normal_()
    model.build(shape, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((3, *shape)).astype(dtype)
    return model, twin, x


def answer(twin: Any, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return twin(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("name", PAIRS)
def test_answers(name: str, dtype: str, bound: float, tmp_path: Path) -> None:
    model, twin, x = built(name, dtype)
    path = tmp_path / "twin.pth"
    for new in (True, False):
        model.load_state_dict({k: np.zeros_like(v) for k, v in model.state_dict().items()})
        torch.save(twin.state_dict(), path, _use_new_zipfile_serialization=new)
        report = model.load_pytorch_state(path, **PAIRS[name][1])
        assert (report.missing, report.unexpected) == ((), ())
        expected = answer(twin, x)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(model(x, FastBackend()), expected, rtol=0, atol=bound * scale)
    # Tensors by themselves, under the names of a wrapper.
    before = model.state_dict()
    state = {f"module.{key}": tensor for key, tensor in twin.state_dict().items()}
    model.load_pytorch_state(state, **PAIRS[name][1])
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


def test_names_of_another_order() -> None:
    """Of convolutions alike that a network lists in another order than it runs them."""
    torch.manual_seed(0)
    twin = t.ModuleDict({"second": t.Conv2d(2, 2, 3), "first": t.Conv2d(2, 2, 3)})
    model = nn.Sequential([nn.Conv2D(2, 3), nn.Conv2D(2, 3)])
    model.build((6, 5, 2))
    model.load_pytorch_state(twin.state_dict(), names={"0": "first", "1": "second"})
    x = np.random.default_rng(0).standard_normal((2, 6, 5, 2)).astype(np.float32)
    expected = answer(t.Sequential(twin["first"], twin["second"]), x).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(model(x, FastBackend()), expected, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------- the other way
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_twin_loads_what_was_saved(dtype: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    def layers() -> Any:
        return t.Sequential(
            t.Conv2d(2, 4, 3),
            t.BatchNorm2d(4),
            t.ReLU(),
            t.Conv2d(4, 8, 3, padding=1, groups=4),
            t.ConvTranspose2d(8, 6, (2, 3), stride=(2, 1), groups=2),
            t.Sequential(t.Flatten(), t.BatchNorm1d(6 * 8 * 7)),
            t.Linear(6 * 8 * 7, 3),
        ).to(getattr(torch, dtype))

    torch.manual_seed(0)
    model = nn.Sequential(
        [
            nn.Conv2D(4, 3),
            nn.BatchNorm(),
            nn.ReLU(),
            nn.DepthwiseConv2D(3, padding=1, depth_multiplier=2),
            nn.Conv2DTranspose(6, (2, 3), stride=(2, 1), groups=2),
            nn.Sequential([nn.Flatten(), nn.BatchNorm()]),
            nn.Dense(3),
        ]
    )
    model.build((6, 7, 2), dtype=dtype)
    twin, path = layers(), tmp_path / "model.safetensors"
    twin[1].running_mean.normal_()
    twin[5][1].weight.data.normal_()
    twin[5][1].running_var.uniform_(0.5, 2)
    model.load_pytorch_state(twin.state_dict())

    pytorch.save_state(model, path)
    other = layers()
    assert str(other.load_state_dict(load_file(path))) == "<All keys matched successfully>"
    for name, tensor in twin.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
        assert other.state_dict()[name].dtype == tensor.dtype, name
    x = np.random.default_rng(0).standard_normal((3, 6, 7, 2)).astype(dtype)
    np.testing.assert_allclose(
        model(x, FastBackend()), answer(other.eval(), x), atol=1e-5 if dtype == "float32" else 1e-12
    )

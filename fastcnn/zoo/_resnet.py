"""Residual networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.zoo._blocks import architecture, conv_norm, dropout_of

__all__ = ["resnet18", "resnet20", "resnet34", "resnet50"]

_Body = Callable[[int, int], list[nn.Module]]


@architecture
def resnet20(
    classes: int = 10, input_shape: Shape = (32, 32, 3), *, dropout: float = 0.0
) -> nn.Sequential:
    """Return ResNet-20 for small images (He et al., 2016, section 4.2).

    With 1x1 convolutions where the shape changes, the paper's option B, in place of zeros. dropout:
    of the features in front of the dense layer. 272,474 parameters, of which 2,752 are those of
    option B.
    """
    layers = conv_norm(16, 3) + _stages(_basic, (16, 32, 64), (3, 3, 3), 16)
    return _classified(layers, classes, dropout)


@architecture
def resnet18(classes: int = 1000, input_shape: Shape = (224, 224, 3)) -> nn.Sequential:
    """Return ResNet-18 (He et al., 2016, table 1, with 1x1 convolutions where the shape changes).

    11,689,512 parameters; layers in the order of torchvision's resnet18.
    """
    return _classified(_stem() + _stages(_basic, _WIDTHS, (2, 2, 2, 2), 64), classes)


@architecture
def resnet34(classes: int = 1000, input_shape: Shape = (224, 224, 3)) -> nn.Sequential:
    """Return ResNet-34; the rest is as in resnet18.

    21,797,672 parameters; layers in the order of torchvision's resnet34.
    """
    return _classified(_stem() + _stages(_basic, _WIDTHS, (3, 4, 6, 3), 64), classes)


@architecture
def resnet50(classes: int = 1000, input_shape: Shape = (224, 224, 3)) -> nn.Sequential:
    """Return ResNet-50 (He et al., 2016, table 1).

    The 3x3 convolutions have the strides, which the paper gives to the 1x1 before them: it is what
    torchvision and others call version 1.5. 25,557,032 parameters; layers in the order of
    torchvision's resnet50.
    """
    layers = _stem() + _stages(_bottleneck, _WIDTHS, (3, 4, 6, 3), 64, expansion=4)
    return _classified(layers, classes)


_WIDTHS = (64, 128, 256, 512)


def _stem() -> list[nn.Module]:
    return [*conv_norm(64, 7, stride=2), nn.MaxPool2D(3, stride=2, padding=1)]


def _basic(filters: int, stride: int) -> list[nn.Module]:
    return [*conv_norm(filters, 3, stride=stride), *conv_norm(filters, 3, activation=None)]


def _bottleneck(filters: int, stride: int) -> list[nn.Module]:
    return [
        *conv_norm(filters, 1),
        *conv_norm(filters, 3, stride=stride),
        *conv_norm(4 * filters, 1, activation=None),
    ]


def _stages(
    body: _Body, widths: Sequence[int], depths: Sequence[int], channels: int, expansion: int = 1
) -> list[nn.Module]:
    """Return stages of residual blocks; all but the first halve the image."""
    layers: list[nn.Module] = []
    for stage, (filters, depth) in enumerate(zip(widths, depths, strict=True)):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            wanted, shortcut = expansion * filters, None
            if stride > 1 or channels != wanted:
                shortcut = nn.Sequential(conv_norm(wanted, 1, stride=stride, activation=None))
            layers += [nn.Residual(nn.Sequential(body(filters, stride)), shortcut), nn.ReLU()]
            channels = wanted
    return layers


def _classified(layers: list[nn.Module], classes: int, dropout: float = 0.0) -> nn.Sequential:
    end = [nn.GlobalAvgPool2D(), *dropout_of(dropout), nn.Dense(classes)]
    return nn.Sequential([*layers, *end])

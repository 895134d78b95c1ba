"""ShuffleNet V2."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.nn import Symbol
from fastcnn.zoo._blocks import architecture, chain, conv_norm, depthwise_norm

__all__ = ["shufflenet_v2_x1_0"]


@architecture
def shufflenet_v2_x1_0(classes: int = 1000, input_shape: Shape = (224, 224, 3)) -> nn.Model:
    """Return ShuffleNet V2 1.0 (Ma et al., 2018, table 5).

    2,278,604 parameters; layers in the order of torchvision's shufflenet_v2_x1_0.
    """
    image = nn.Input(input_shape)
    x = chain([*conv_norm(24, 3, stride=2), nn.MaxPool2D(3, stride=2, padding=1)], image)
    for filters, depth in ((116, 4), (232, 8), (464, 4)):
        x = _halved(x, filters)
        for _ in range(depth - 1):
            x = _unit(x)
    end = [*conv_norm(1024, 1), nn.GlobalAvgPool2D(), nn.Dense(classes)]
    return nn.Model(image, chain(end, x))


def _halved(x: Symbol, filters: int) -> Symbol:
    """Return the unit that begins a stage: both branches see all channels and half the image."""
    beside = [*depthwise_norm(3, stride=2, activation=None), *conv_norm(filters // 2, 1)]
    left = chain(beside, x)
    return _shuffled(left, chain(_branch(filters // 2, stride=2), x))


def _unit(x: Symbol) -> Symbol:
    """Return a unit that passes half of the channels and computes with the others."""
    half = x.shape[-1] // 2
    left, right = nn.split(x, (half, half))
    return _shuffled(left, chain(_branch(half), right))


def _branch(filters: int, stride: int = 1) -> list[nn.Module]:
    return [
        *conv_norm(filters, 1),
        *depthwise_norm(3, stride=stride, activation=None),
        *conv_norm(filters, 1),
    ]


def _shuffled(left: Symbol, right: Symbol) -> Symbol:
    """Return the channels of both in turn: those of the next unit's halves come from both."""
    height, width, channels = left.shape
    shape = (height, width, 2 * channels)
    layers = [nn.Reshape((height, width, 2, channels)), nn.Permute((1, 2, 4, 3)), nn.Reshape(shape)]
    return chain(layers, nn.concat([left, right]))

"""RegNet."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.nn import Symbol
from fastcnn.zoo._blocks import architecture, chain, conv_norm, squeeze_excite

__all__ = ["regnet_y_400mf"]

_GROUP_WIDTH = 8  # channels of a group


@architecture
def regnet_y_400mf(classes: int = 1000, input_shape: Shape = (224, 224, 3)) -> nn.Model:
    """Return RegNetY-400MF (Radosavovic et al., 2020, table 5).

    4,344,144 parameters; layers in the order of torchvision's regnet_y_400mf.
    """
    image = nn.Input(input_shape)
    x = chain(conv_norm(32, 3, stride=2), image)
    for filters, depth in ((48, 1), (104, 3), (208, 6), (440, 6)):
        for block in range(depth):
            x = _block(x, filters, 2 if block == 0 else 1)
    return nn.Model(image, chain([nn.GlobalAvgPool2D(), nn.Dense(classes)], x))


def _block(x: Symbol, filters: int, stride: int) -> Symbol:
    """Return a bottleneck of as many channels inside, whose groups are 3x3, with its shortcut."""
    shortcut, channels = x, x.shape[-1]
    # In front of the body, as in torchvision: arrays of both may have the same shapes.
    if stride > 1 or channels != filters:
        shortcut = chain(conv_norm(filters, 1, stride=stride, activation=None), x)
    groups = filters // _GROUP_WIDTH
    body = [*conv_norm(filters, 1), *conv_norm(filters, 3, stride=stride, groups=groups)]
    y = squeeze_excite(chain(body, x), round(channels / 4))
    y = chain(conv_norm(filters, 1, activation=None), y)
    return nn.ReLU()(nn.add(shortcut, y))

"""Densely connected networks."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.zoo._blocks import architecture, chain, conv_norm

__all__ = ["densenet121"]

_GROWTH = 32  # channels that a layer adds


@architecture
def densenet121(classes: int = 1000, input_shape: Shape = (224, 224, 3)) -> nn.Model:
    """Return DenseNet-121 (Huang et al., 2017, table 1): growth 32, bottlenecks, halved between.

    7,978,856 parameters; layers in the order of torchvision's densenet121.
    """
    image = nn.Input(input_shape)
    x = chain([*conv_norm(64, 7, stride=2), nn.MaxPool2D(3, stride=2, padding=1)], image)
    for block, depth in enumerate((6, 12, 24, 16)):
        if block:
            x = chain([*_norm_conv(x.shape[-1] // 2, 1), nn.AvgPool2D(2)], x)
        for _ in range(depth):
            grown = chain([*_norm_conv(4 * _GROWTH, 1), *_norm_conv(_GROWTH, 3)], x)
            x = nn.concat([x, grown])
    end = [nn.BatchNorm(), nn.ReLU(), nn.GlobalAvgPool2D(), nn.Dense(classes)]
    return nn.Model(image, chain(end, x))


def _norm_conv(filters: int, kernel_size: int) -> list[nn.Module]:
    """Return batch normalization, ReLU, and a convolution behind them."""
    convolution, norm, relu = conv_norm(filters, kernel_size)
    return [norm, relu, convolution]

"""The first two MobileNets: depthwise convolutions and 1x1 convolutions in turn."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.zoo._blocks import architecture, conv_norm, depthwise_norm, dropout_of

__all__ = ["mobilenet_v1", "mobilenet_v2"]


@architecture
def mobilenet_v1(
    classes: int = 1000, input_shape: Shape = (224, 224, 3), *, activation: str = "relu"
) -> nn.Sequential:
    """Return MobileNet 1.0 (Howard et al., 2017, table 1).

    The last depthwise convolution keeps the 7x7 pixels, as the sizes in the table have it and not
    its stride. activation: Keras's MobileNet has "relu6". 4,231,976 parameters.
    """
    layers = conv_norm(32, 3, stride=2, activation=activation)
    for filters, stride in (
        *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
        *[(512, 1)] * 5,
        *((1024, 2), (1024, 1)),
    ):
        layers += depthwise_norm(3, stride=stride, activation=activation)
        layers += conv_norm(filters, 1, activation=activation)
    return nn.Sequential([*layers, nn.GlobalAvgPool2D(), nn.Dense(classes)])


@architecture
def mobilenet_v2(
    classes: int = 1000,
    input_shape: Shape = (224, 224, 3),
    *,
    activation: str = "relu6",
    dropout: float = 0.2,
) -> nn.Sequential:
    """Return MobileNetV2 1.0 (Sandler et al., 2018, table 2).

    3,504,872 parameters; layers in the order of torchvision's mobilenet_v2.
    """
    layers, channels = conv_norm(32, 3, stride=2, activation=activation), 32
    for expansion, filters, depth, first_stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for block in range(depth):
            stride = first_stride if block == 0 else 1
            expand = conv_norm(expansion * channels, 1, activation=activation)
            body = [
                *(expand if expansion > 1 else []),
                *depthwise_norm(3, stride=stride, activation=activation),
                *conv_norm(filters, 1, activation=None),
            ]
            inner = nn.Sequential(body)
            layers.append(nn.Residual(inner) if stride == 1 and channels == filters else inner)
            channels = filters
    layers += conv_norm(1280, 1, activation=activation)
    end = [nn.GlobalAvgPool2D(), *dropout_of(dropout), nn.Dense(classes)]
    return nn.Sequential([*layers, *end])

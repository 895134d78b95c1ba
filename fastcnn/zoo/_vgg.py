"""VGG."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._options import flag
from fastcnn._types import Shape
from fastcnn.zoo._blocks import architecture, conv, conv_norm, dropout_of

__all__ = ["vgg11", "vgg16"]

_FILTERS = (64, 128, 256, 512, 512)  # of the stages, with a pool behind each


@architecture
def vgg11(
    classes: int = 1000,
    input_shape: Shape = (224, 224, 3),
    *,
    batch_norm: bool = False,
    dropout: float = 0.5,
) -> nn.Sequential:
    """Return VGG-11, configuration A of Simonyan and Zisserman (2015).

    batch_norm: normalize behind each convolution, which then has a bias as torchvision's has.
    Images of other sizes are pooled to the 7x7 pixels that the dense layers take. 132,863,336
    parameters; layers in the order of torchvision's vgg11, or vgg11_bn.
    """
    return _vgg((1, 1, 2, 2, 2), classes, batch_norm, dropout)


@architecture
def vgg16(
    classes: int = 1000,
    input_shape: Shape = (224, 224, 3),
    *,
    batch_norm: bool = False,
    dropout: float = 0.5,
) -> nn.Sequential:
    """Return VGG-16, configuration D of the same paper; the rest is as in vgg11.

    138,357,544 parameters; layers in the order of torchvision's vgg16, or vgg16_bn.
    """
    return _vgg((2, 2, 3, 3, 3), classes, batch_norm, dropout)


def _vgg(depths: tuple[int, ...], classes: int, batch_norm: bool, dropout: float) -> nn.Sequential:
    flag(batch_norm, "batch_norm")
    layers: list[nn.Module] = []
    for depth, filters in zip(depths, _FILTERS, strict=True):
        for _ in range(depth):
            layers += conv_norm(filters, 3, use_bias=True) if batch_norm else [conv(filters, 3)]
        layers.append(nn.MaxPool2D(2))
    layers += [nn.AdaptiveAvgPool2D(7), nn.Flatten()]
    for _ in range(2):
        layers += [nn.Dense(4096, activation="relu", initializer="he_normal"), *dropout_of(dropout)]
    return nn.Sequential([*layers, nn.Dense(classes)])

"""SqueezeNet."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.nn import Symbol
from fastcnn.zoo._blocks import architecture, chain, conv, dropout_of

__all__ = ["squeezenet1_0", "squeezenet1_1"]

# Channels of the eight fire modules: squeezed to these, expanded to as many twice.
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


@architecture
def squeezenet1_0(
    classes: int = 1000, input_shape: Shape = (224, 224, 3), *, dropout: float = 0.5
) -> nn.Model:
    """Return SqueezeNet 1.0 (Iandola et al., 2016, table 1).

    1,248,424 parameters; layers in the order of torchvision's squeezenet1_0.
    """
    stem = nn.Conv2D(96, 7, stride=2, activation="relu", initializer="he_normal")
    return _squeezenet(stem, (0, 3, 7), classes, input_shape, dropout)


@architecture
def squeezenet1_1(
    classes: int = 1000, input_shape: Shape = (224, 224, 3), *, dropout: float = 0.5
) -> nn.Model:
    """Return SqueezeNet 1.1, which the authors' repository has: less than half of the work.

    1,235,496 parameters; layers in the order of torchvision's squeezenet1_1.
    """
    stem = nn.Conv2D(64, 3, stride=2, activation="relu", initializer="he_normal")
    return _squeezenet(stem, (0, 2, 4), classes, input_shape, dropout)


def _squeezenet(
    stem: nn.Module, pooled: tuple[int, ...], classes: int, input_shape: Shape, dropout: float
) -> nn.Model:
    """Return the network; pooled: in front of which fire modules the image is halved."""
    image = nn.Input(input_shape)
    x = stem(image)
    for index, (squeezed, expanded) in enumerate(_FIRES):
        if index in pooled:
            x = nn.MaxPool2D(3, stride=2, ceil_mode=True)(x)
        x = _fire(x, squeezed, expanded)
    end = [*dropout_of(dropout), nn.Conv2D(classes, 1, activation="relu"), nn.GlobalAvgPool2D()]
    return nn.Model(image, chain(end, x))


def _fire(x: Symbol, squeezed: int, expanded: int) -> Symbol:
    x = conv(squeezed, 1)(x)
    return nn.concat([conv(expanded, 1)(x), conv(expanded, 3)(x)])

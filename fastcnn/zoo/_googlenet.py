"""GoogLeNet, the first Inception."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.nn import Symbol
from fastcnn.zoo._blocks import Norm, architecture, chain, conv_norm, dropout_of

__all__ = ["googlenet"]

_NORM = Norm(epsilon=1e-3)
# Filters of each module: of 1x1; before and of 3x3, twice; behind the pool.
_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@architecture
def googlenet(
    classes: int = 1000, input_shape: Shape = (224, 224, 3), *, dropout: float = 0.2
) -> nn.Model:
    """Return GoogLeNet (Szegedy et al., 2015, table 1), without the classifiers at its sides.

    As it is in torchvision: with batch normalization behind each convolution, and 3x3 windows where
    the paper has 5x5. 6,624,904 parameters; layers in the order of torchvision's
    googlenet(aux_logits=False). The weights that torchvision offers are for images that are scaled
    once more, which transform_input does there.
    """
    image = nn.Input(input_shape)
    stem = [
        *conv_norm(64, 7, stride=2, norm=_NORM),
        nn.MaxPool2D(3, stride=2, ceil_mode=True),
        *conv_norm(64, 1, norm=_NORM),
        *conv_norm(192, 3, norm=_NORM),
        nn.MaxPool2D(3, stride=2, ceil_mode=True),
    ]
    x = chain(stem, image)
    for name, filters in _INCEPTIONS.items():
        if name == "4a":
            x = nn.MaxPool2D(3, stride=2, ceil_mode=True)(x)
        if name == "5a":
            x = nn.MaxPool2D(2, stride=2, ceil_mode=True)(x)
        x = _inception(x, filters)
    end = [nn.GlobalAvgPool2D(), *dropout_of(dropout), nn.Dense(classes)]
    return nn.Model(image, chain(end, x))


def _inception(x: Symbol, filters: tuple[int, int, int, int, int, int]) -> Symbol:
    one, before_three, three, before_five, five, pooled = filters
    branches = [
        conv_norm(one, 1, norm=_NORM),
        [
            *conv_norm(before_three, 1, norm=_NORM),
            *conv_norm(three, 3, norm=_NORM),
        ],
        [*conv_norm(before_five, 1, norm=_NORM), *conv_norm(five, 3, norm=_NORM)],
        [nn.MaxPool2D(3, stride=1, padding=1), *conv_norm(pooled, 1, norm=_NORM)],
    ]
    return nn.concat([chain(layers, x) for layers in branches])

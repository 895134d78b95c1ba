"""MobileNetV3."""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.zoo._blocks import (
    Norm,
    architecture,
    chain,
    conv_norm,
    divisible,
    dropout_of,
    inverted_residual,
)

__all__ = ["mobilenet_v3_large", "mobilenet_v3_small"]

_NORM = Norm(momentum=0.99, epsilon=1e-3)
# Of each block: window, channels of the depthwise convolution, filters, whether it squeezes,
# activation, stride.
_Block = tuple[int, int, int, bool, str, int]
_LARGE: tuple[_Block, ...] = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
)
_SMALL: tuple[_Block, ...] = (
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hard_swish", 2),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 120, 48, True, "hard_swish", 1),
    (5, 144, 48, True, "hard_swish", 1),
    (5, 288, 96, True, "hard_swish", 2),
    (5, 576, 96, True, "hard_swish", 1),
    (5, 576, 96, True, "hard_swish", 1),
)


@architecture
def mobilenet_v3_large(
    classes: int = 1000, input_shape: Shape = (224, 224, 3), *, dropout: float = 0.2
) -> nn.Model:
    """Return MobileNetV3-Large 1.0 (Howard et al., 2019, table 1).

    With torchvision's rule for the channels between the convolutions of squeeze-and-excite: a
    quarter, rounded to a multiple of 8. 5,483,032 parameters; layers in the order of torchvision's
    mobilenet_v3_large.
    """
    return _mobilenet_v3(_LARGE, 960, 1280, classes, input_shape, dropout)


@architecture
def mobilenet_v3_small(
    classes: int = 1000, input_shape: Shape = (224, 224, 3), *, dropout: float = 0.2
) -> nn.Model:
    """Return MobileNetV3-Small 1.0 (table 2 of the paper); the rest is as in mobilenet_v3_large.

    2,542,856 parameters; layers in the order of torchvision's mobilenet_v3_small.
    """
    return _mobilenet_v3(_SMALL, 576, 1024, classes, input_shape, dropout)


def _mobilenet_v3(
    blocks: Sequence[_Block],
    filters: int,
    units: int,
    classes: int,
    input_shape: Shape,
    dropout: float,
) -> nn.Model:
    """Return the network; filters, units: of the last convolution and the dense layer behind."""
    image = nn.Input(input_shape)
    x = chain(conv_norm(16, 3, stride=2, activation="hard_swish", norm=_NORM), image)
    for kernel_size, expanded, projected, squeezes, activation, stride in blocks:
        x = inverted_residual(
            x,
            expanded,
            projected,
            kernel_size,
            stride=stride,
            activation=activation,
            squeezed=divisible(expanded / 4) if squeezes else None,
            squeeze_activations=("relu", "hard_sigmoid"),
            norm=_NORM,
        )
    end = [
        *conv_norm(filters, 1, activation="hard_swish", norm=_NORM),
        nn.GlobalAvgPool2D(),
        nn.Dense(units, activation="hard_swish", initializer="he_normal"),
        *dropout_of(dropout),
        nn.Dense(classes),
    ]
    return nn.Model(image, chain(end, x))

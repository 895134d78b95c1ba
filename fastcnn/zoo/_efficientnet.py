"""EfficientNet."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.zoo._blocks import architecture, chain, conv_norm, dropout_of, inverted_residual

__all__ = ["efficientnet_b0"]

# Of each stage: how far channels are expanded, window, stride of the first block, filters, blocks.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_BLOCKS = sum(stage[-1] for stage in _STAGES)


@architecture
def efficientnet_b0(
    classes: int = 1000,
    input_shape: Shape = (224, 224, 3),
    *,
    dropout: float = 0.2,
    drop_path: float = 0.2,
) -> nn.Model:
    """Return EfficientNet-B0 (Tan and Le, 2019, table 1).

    drop_path: the rate of nn.StochasticDepth grows from zero at the first block towards it.
    Batch normalization has torchvision's epsilon, 1e-5, and momentum. 5,288,548 parameters; layers
    in the order of torchvision's efficientnet_b0.
    """
    image = nn.Input(input_shape)
    x = chain(conv_norm(32, 3, stride=2, activation="silu"), image)
    number = 0
    for expansion, kernel_size, first_stride, filters, depth in _STAGES:
        for block in range(depth):
            channels = x.shape[-1]
            x = inverted_residual(
                x,
                expansion * channels,
                filters,
                kernel_size,
                stride=first_stride if block == 0 else 1,
                activation="silu",
                squeezed=channels // 4,
                squeeze_activations=("silu", "sigmoid"),
                drop=drop_path * number / _BLOCKS,
            )
            number += 1
    end = [*conv_norm(1280, 1, activation="silu"), nn.GlobalAvgPool2D(), *dropout_of(dropout)]
    return nn.Model(image, chain([*end, nn.Dense(classes)], x))

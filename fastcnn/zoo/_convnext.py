"""ConvNeXt."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.zoo._blocks import architecture, conv

__all__ = ["convnext_tiny"]

_EPSILON = 1e-6
_STAGES = ((96, 3), (192, 3), (384, 9), (768, 3))  # channels, blocks


@architecture
def convnext_tiny(
    classes: int = 1000,
    input_shape: Shape = (224, 224, 3),
    *,
    drop_path: float = 0.1,
    layer_scale: float = 1e-6,
) -> nn.Sequential:
    """Return ConvNeXt-T (Liu et al., 2022, table 9).

    drop_path: the rate of nn.StochasticDepth grows from zero in the first block to it in the last.
    layer_scale: what the factors of nn.LayerScale begin as. 28,589,128 parameters; layers in the
    order of torchvision's convnext_tiny.
    """
    last = sum(depth for _, depth in _STAGES) - 1
    layers: list[nn.Module] = []
    number = 0
    for stage, (channels, depth) in enumerate(_STAGES):
        norm = nn.LayerNorm(epsilon=_EPSILON)
        size = 2 if stage else 4
        patches = nn.Conv2D(channels, size, stride=size, initializer="he_normal")
        layers += [norm, patches] if stage else [patches, norm]
        for _ in range(depth):
            layers.append(_block(channels, drop_path * number / last, layer_scale))
            number += 1
    end = [nn.GlobalAvgPool2D(), nn.LayerNorm(epsilon=_EPSILON), nn.Dense(classes)]
    return nn.Sequential([*layers, *end])


def _block(channels: int, drop: float, layer_scale: float) -> nn.Residual:
    return nn.Residual(
        nn.Sequential(
            [
                nn.DepthwiseConv2D(7, padding=3, initializer="he_normal"),
                nn.LayerNorm(epsilon=_EPSILON),
                conv(4 * channels, 1, activation="gelu"),
                conv(channels, 1, activation=None),
                nn.LayerScale(layer_scale),
                *([nn.StochasticDepth(drop)] if drop else []),
            ]
        )
    )

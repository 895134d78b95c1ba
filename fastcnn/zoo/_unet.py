"""U-Net."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._options import choice, integer
from fastcnn._types import Shape
from fastcnn.nn import Symbol
from fastcnn.zoo._blocks import architecture, chain, conv_norm

__all__ = ["unet"]

_UPSAMPLING = ("transposed", "nearest", "bilinear")


@architecture
def unet(
    classes: int = 2,
    input_shape: Shape = (256, 256, 3),
    *,
    filters: int = 64,
    depth: int = 4,
    upsampling: str = "transposed",
) -> nn.Model:
    """Return U-Net (Ronneberger et al., 2015), padded and with batch normalization.

    It gives a map of classes as large as the image, (H, W, C) -> (H, W, classes); 2**depth divides
    H and W. filters: of the first level; each of the `depth` levels below has twice as many.
    upsampling: "transposed" doubles images on their way up by transposed convolutions, as in the
    paper, "nearest" and "bilinear" without weights. 31,037,698 parameters.
    """
    filters, depth = integer(filters, "filters"), integer(depth, "depth")
    choice(upsampling, "upsampling", _UPSAMPLING)
    if any(size % 2**depth for size in input_shape[:2]):
        raise ValueError(
            f"input_shape: expected a height and width that {2**depth} divides, which are "
            f"halved {depth} times, got {input_shape}"
        )
    x = image = nn.Input(input_shape)
    skips = []
    for level in range(depth):
        x = _level(x, filters << level)
        skips.append(x)
        x = nn.MaxPool2D(2)(x)
    x = _level(x, filters << depth)
    for skip in reversed(skips):
        channels = skip.shape[-1]
        x = _level(nn.concat([skip, _enlarged(channels, upsampling)(x)]), channels)
    return nn.Model(image, nn.Conv2D(classes, 1)(x))


def _level(x: Symbol, filters: int) -> Symbol:
    return chain([*conv_norm(filters, 3), *conv_norm(filters, 3)], x)


def _enlarged(filters: int, upsampling: str) -> nn.Module:
    if upsampling == "transposed":
        return nn.Conv2DTranspose(filters, 2, stride=2, initializer="he_normal")
    return nn.UpSample2D(2, method=upsampling)

"""What the architectures are made of, and what all their functions check."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

from fastcnn import nn
from fastcnn._options import image_shape, input_shape_of, integer
from fastcnn._sentences import explained
from fastcnn.nn import Symbol
from fastcnn.nn._activation import activation_named

__all__ = [
    "Norm",
    "architecture",
    "chain",
    "conv",
    "conv_norm",
    "depthwise_norm",
    "divisible",
    "dropout_of",
    "inverted_residual",
    "squeeze_excite",
]

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)


def architecture(make: Callable[P, M]) -> Callable[P, M]:
    """Let a function of (classes, input_shape, ...) check these, and plan the model that it makes.

    A planned model knows the shapes of all its layers and weights, and has no weights yet. Errors
    begin with the function's name.
    """
    who, signature = make.__name__, inspect.signature(make)

    @wraps(make)
    def checked(*args: P.args, **kwargs: P.kwargs) -> M:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        given = call.arguments
        try:
            given["classes"] = integer(given["classes"], "classes")
            shape = image_shape(input_shape_of(given["input_shape"], "input_shape"), "input_shape")
            given["input_shape"] = shape
            model = make(*call.args, **call.kwargs)
            model.plan(shape)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{who}: {error}") from error
        return model

    return explained(checked)


def chain(layers: Sequence[nn.Module], x: Symbol) -> Symbol:
    """Return layers called one after another, as one layer of a model."""
    y: Symbol = nn.Sequential(layers)(x)
    return y


# ---------------------------------------------------------------------- convolutions
class Norm(NamedTuple):
    """The options of a network's batch normalization."""

    momentum: float = 0.9
    epsilon: float = 1e-5


_USUAL = Norm()


def conv(filters: int, kernel_size: int, *, activation: str | None = "relu") -> nn.Conv2D:
    """Return a convolution with a bias that leaves an image as large as it is."""
    return nn.Conv2D(
        filters,
        kernel_size,
        padding=kernel_size // 2,
        activation=activation,
        initializer="he_normal",
    )


def conv_norm(
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    activation: str | None = "relu",
    norm: Norm = _USUAL,
) -> list[nn.Module]:
    """Return a convolution, batch normalization, and an activation."""
    convolution = nn.Conv2D(
        filters,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        use_bias=use_bias,
        initializer="he_normal",
    )
    return _normed(convolution, activation, norm)


def depthwise_norm(
    kernel_size: int,
    *,
    stride: int = 1,
    activation: str | None = "relu",
    norm: Norm = _USUAL,
) -> list[nn.Module]:
    """Return the same with a depthwise convolution."""
    convolution = nn.DepthwiseConv2D(
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        use_bias=False,
        initializer="he_normal",
    )
    return _normed(convolution, activation, norm)


def _normed(convolution: nn.Module, activation: str | None, norm: Norm) -> list[nn.Module]:
    layer = activation_named(activation, "activation")
    return [convolution, nn.BatchNorm(**norm._asdict()), *([] if layer is None else [layer])]


# ---------------------------------------------------------------------- blocks
def squeeze_excite(
    x: Symbol, squeezed: int, activation: str = "relu", gate: str = "sigmoid"
) -> Symbol:
    """Return an image whose channels are weighed by what their means say (Hu et al., 2018).

    squeezed: channels between the two 1x1 convolutions.
    """
    weights = chain(
        [
            nn.AdaptiveAvgPool2D(1),
            conv(squeezed, 1, activation=activation),
            conv(x.shape[-1], 1, activation=gate),
        ],
        x,
    )
    return nn.multiply(x, weights)


def inverted_residual(
    x: Symbol,
    expanded: int,
    filters: int,
    kernel_size: int,
    *,
    stride: int,
    activation: str,
    squeezed: int | None = None,
    squeeze_activations: tuple[str, str] = ("relu", "sigmoid"),
    drop: float = 0.0,
    norm: Norm = _USUAL,
) -> Symbol:
    """Return a block of Sandler et al. (2018), with squeeze-and-excite if squeezed is not None.

    expanded: channels of the depthwise convolution. drop: the rate of its StochasticDepth.
    """
    layers = depthwise_norm(kernel_size, stride=stride, activation=activation, norm=norm)
    if expanded != x.shape[-1]:
        layers = [*conv_norm(expanded, 1, activation=activation, norm=norm), *layers]
    y = chain(layers, x)
    if squeezed is not None:
        y = squeeze_excite(y, squeezed, *squeeze_activations)
    skips = stride == 1 and x.shape[-1] == filters
    layers = conv_norm(filters, 1, activation=None, norm=norm)
    if skips and drop:
        layers.append(nn.StochasticDepth(drop))
    y = chain(layers, y)
    return nn.add(y, x) if skips else y


def dropout_of(rate: float) -> list[nn.Module]:
    """Return a layer of dropout, or none for a rate of zero."""
    return [nn.Dropout(rate)] if rate else []


def divisible(channels: float, divisor: int = 8) -> int:
    """Return the multiple of a divisor next to so many channels, and not below nine tenths."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor

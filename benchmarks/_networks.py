"""The networks that are trained and asked, once: as fastcnn models, from which peers make theirs.

`walk` gives a model's layers in the order they run, so that a peer needs one function to build
its twin: what is compared is the same network by construction, and the results show it.
Some are there to be compared with another of them: the sample network with other activations, and
ResNet-20 with dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from math import prod

import numpy as np

from fastcnn import nn
from fastcnn.backend import Array
from fastcnn.nn._activation import ACTIVATIONS

__all__ = [
    "NETWORKS",
    "OTHER_ACTIVATIONS",
    "Network",
    "flattened_image",
    "flops",
    "model",
    "walk",
    "weights",
]


@dataclass(frozen=True)
class Network:
    """A network and what it is fed with."""

    title: str
    make: Callable[[], nn.Module]
    input_shape: tuple[int, int, int] = (28, 28, 1)
    classes: int = 10  # or channels of the map that it gives
    loss: str = "cross_entropy"  # mean_squared_error, of a map as large as the image
    epoch: int = 1024  # images of an epoch in training, at least
    epoch_steps: int = 8  # and steps
    # Deep networks magnify what differs in the last bit: with 0.05 the second loss of MobileNetV2
    # in float32 is 2e-3 off that in float64, for every library. Small steps can be compared.
    learning_rate: float = 0.001
    checked_batches: int = 5  # at most, whose losses are compared; of one the first two steps


def _small(
    batch_norm: bool = False, activation: str = "relu", as_layers: bool = False
) -> nn.Sequential:
    own = None if as_layers else activation
    behind = [ACTIVATIONS[activation]] if as_layers else []
    layers: list[nn.Module] = []
    for filters in (32, 64):
        layers += _conv(filters, 3) if batch_norm else [nn.Conv2D(filters, 3, activation=own)]
        layers += [*(layer() for layer in behind), nn.MaxPool2D(2)]
    layers += [nn.Flatten(), nn.Dense(128, activation=own), *(layer() for layer in behind)]
    return nn.Sequential([*layers, nn.Dense(10)])


def _lenet5() -> nn.Sequential:
    """LeCun et al. (1998), as it is taught today: ReLU and max-pooling."""
    return nn.Sequential(
        [
            nn.Conv2D(6, 5, padding=2, activation="relu"),
            nn.MaxPool2D(2),
            nn.Conv2D(16, 5, activation="relu"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(120, activation="relu"),
            nn.Dense(84, activation="relu"),
            nn.Dense(10),
        ]
    )


def _conv(
    filters: int, kernel: int, stride: int = 1, padding: int = 0, relu: bool = True
) -> list[nn.Module]:
    """Return a convolution without a bias, batch normalization, and ReLU."""
    convolution = nn.Conv2D(filters, kernel, stride=stride, padding=padding, use_bias=False)
    return [convolution, nn.BatchNorm(), *([nn.ReLU()] if relu else [])]


def _residual_stage(channels: int, filters: int, blocks: int, stride: int) -> list[nn.Module]:
    """Return basic blocks of He et al. (2016), with a 1x1 convolution where the shape changes."""
    layers: list[nn.Module] = []
    for block in range(blocks):
        step = stride if block == 0 else 1
        body = [*_conv(filters, 3, step, 1), *_conv(filters, 3, 1, 1, relu=False)]
        shortcut = None
        if step > 1 or (block == 0 and channels != filters):
            shortcut = nn.Sequential(_conv(filters, 1, step, relu=False))
        layers += [nn.Residual(nn.Sequential(body), shortcut), nn.ReLU()]
    return layers


def _resnet20(dropout: bool = False) -> nn.Sequential:
    layers = _conv(16, 3, 1, 1)
    for channels, filters, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
        layers += _residual_stage(channels, filters, 3, stride)
    layers += [nn.GlobalAvgPool2D(), *([nn.Dropout(0.2)] if dropout else [])]
    return nn.Sequential([*layers, nn.Dense(10)])


def _resnet18() -> nn.Sequential:
    layers = [*_conv(64, 7, 2, 3), nn.MaxPool2D(3, stride=2, padding=1)]
    for channels, filters, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        layers += _residual_stage(channels, filters, 2, stride)
    return nn.Sequential([*layers, nn.GlobalAvgPool2D(), nn.Dense(1000)])


def _mobilenet_v2() -> nn.Sequential:
    """Sandler et al. (2018), with ReLU for ReLU6."""
    layers, channels = _conv(32, 3, 2, 1), 32
    for expansion, filters, blocks, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for block in range(blocks):
            step = stride if block == 0 else 1
            depthwise = nn.DepthwiseConv2D(3, stride=step, padding=1, use_bias=False)
            body = [
                *(_conv(expansion * channels, 1) if expansion > 1 else []),
                *(depthwise, nn.BatchNorm(), nn.ReLU()),
                *_conv(filters, 1, relu=False),
            ]
            inner = nn.Sequential(body)
            layers.append(nn.Residual(inner) if step == 1 and channels == filters else inner)
            channels = filters
    layers += [*_conv(1280, 1), nn.GlobalAvgPool2D(), nn.Dense(1000)]
    return nn.Sequential(layers)


def _unet(enlarged: Callable[[int], nn.Module]) -> nn.Model:
    """Ronneberger et al. (2015), four levels deep, padded and with batch normalization.

    enlarged: the layer that makes an image twice as large on its way up, to so many channels.
    """

    def level(filters: int) -> nn.Sequential:
        return nn.Sequential([*_conv(filters, 3, 1, 1), *_conv(filters, 3, 1, 1)])

    x = image = nn.Input(MEDIUM)
    skips = []
    for filters in (16, 32, 64, 128):
        x = level(filters)(x)
        skips.append((filters, x))
        x = nn.MaxPool2D(2)(x)
    x = level(256)(x)
    for filters, skip in reversed(skips):
        x = level(filters)(nn.concat([skip, enlarged(filters)(x)]))
    return nn.Model(image, nn.Conv2D(1, 1)(x))


def _unet_of(title: str, enlarged: Callable[[int], nn.Module]) -> Network:
    return Network(
        title, lambda: _unet(enlarged), MEDIUM, 1, "mean_squared_error", epoch=1, epoch_steps=4
    )


MEDIUM, LARGE = (128, 128, 3), (224, 224, 3)
OTHER_ACTIVATIONS = [
    name for name in ("silu", "hard_swish", "gelu", "leaky_relu") if name in ACTIVATIONS
]
NETWORKS = {
    "sample": Network("sample network", _small, learning_rate=0.05),
    "sample-bn": Network("sample network with batch norm", lambda: _small(batch_norm=True)),
    "lenet5": Network("LeNet-5", _lenet5, learning_rate=0.05),
    "resnet20": Network("ResNet-20", _resnet20, (32, 32, 3), epoch=1),
    "resnet18": Network("ResNet-18", _resnet18, LARGE, 1000, epoch=1, epoch_steps=1),
    # On a second batch its losses differ by 7e-4 from PyTorch's.
    "mobilenetv2": Network(
        "MobileNetV2", _mobilenet_v2, LARGE, 1000, epoch=1, epoch_steps=4, checked_batches=1
    ),
    "unet": _unet_of("U-Net", lambda filters: nn.Conv2DTranspose(filters, 2, stride=2)),
    "unet-upsampled": _unet_of("U-Net, upsampled", lambda _: nn.UpSample2D(2)),
    "resnet20-dropout": Network(
        "ResNet-20 with dropout", partial(_resnet20, True), (32, 32, 3), epoch=1
    ),
    **{
        f"sample-{name}{end}": Network(
            f"sample network with {name}{words}", partial(_small, False, name, bool(end))
        )
        for name in OTHER_ACTIVATIONS
        for end, words in (("", ""), ("-layers", " as layers"))
    },
}


def model(name: str, state: dict[str, Array] | None = None) -> nn.Module:
    """Return a network, built, with these weights or with `weights(name)`."""
    network = NETWORKS[name]
    built = network.make()
    built.build(network.input_shape, seed=0)
    built.load_state_dict(weights(name) if state is None else state)
    return built


@lru_cache(maxsize=1)
def weights(name: str) -> dict[str, Array]:
    """Return the weights that every competitor starts from: batch normalization's drawn too."""
    network = NETWORKS[name]
    built = network.make()
    built.build(network.input_shape, seed=0)
    state = built.state_dict()
    rng = np.random.default_rng(0)
    low = {"gamma": 0.5, "running_variance": 0.5, "beta": -0.1, "running_mean": -0.1}
    for key, array in state.items():
        start = low.get(key.rpartition(".")[2])
        if start is not None:
            array[...] = rng.uniform(start, 1.5 if start > 0 else -start, array.shape)
    return state


def walk(layer: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, layer) as they run: Sequentials taken apart, activations by themselves.

    name is the prefix of the layer's weights in `weights`. A Residual comes as a whole: walk its
    body and shortcut as f"{name}.body" and f"{name}.shortcut". So does a Model, whose layers are
    f"{name}.0" and so on, and whose calls are in its `config()`.
    """
    if isinstance(layer, nn.Sequential):
        for index, part in enumerate(layer):
            yield from walk(part, f"{name}.{index}".strip("."))
        return
    yield name, layer
    activation = getattr(layer, "activation", None)
    if activation is not None:
        yield name, ACTIVATIONS[activation]()


def flattened_image(layers: Iterator[tuple[str, nn.Module]]) -> dict[str, tuple[int, ...]]:
    """Return the image's shape by the name of each Dense whose input is a flattened image.

    Peers that keep channels first need it to reorder that layer's weights.
    """
    shapes = {}
    image: tuple[int, ...] | None = None
    for name, layer in layers:
        if isinstance(layer, nn.Flatten):
            image = layer.input_shape
        elif isinstance(layer, nn.Dense) and image is not None:
            shapes[name], image = image, None
    return shapes


@cache
def flops(name: str) -> tuple[int, int]:
    """Return the multiplications and additions of an image forward, and of the first layer's.

    Those of convolutions in direct form and of dense layers.
    """
    built = model(name)
    counts = []
    for module in built.modules():
        if isinstance(module, (nn.Conv2D, nn.DepthwiseConv2D, nn.Conv2DTranspose, nn.Dense)):
            # Each weight is used once a pixel of the result, or, transposed, of the input.
            transposed = isinstance(module, nn.Conv2DTranspose)
            shape = module.input_shape if transposed else module.output_shape
            pixels = prod(shape[:-1])
            counts.append(2 * pixels * prod(module.parameters()["weight"].shape))
    return sum(counts), counts[0]

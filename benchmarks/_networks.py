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

from fastcnn import nn, zoo
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
        if batch_norm:
            layers += [nn.Conv2D(filters, 3, use_bias=False), nn.BatchNorm(), nn.ReLU()]
        else:
            layers.append(nn.Conv2D(filters, 3, activation=own))
        layers += [*(layer() for layer in behind), nn.MaxPool2D(2)]
    layers += [nn.Flatten(), nn.Dense(128, activation=own), *(layer() for layer in behind)]
    return nn.Sequential([*layers, nn.Dense(10)])


def _unet_of(title: str, upsampling: str) -> Network:
    make = partial(zoo.unet, 1, MEDIUM, filters=16, upsampling=upsampling)
    return Network(title, make, MEDIUM, 1, "mean_squared_error", epoch=1, epoch_steps=4)


SMALL, MEDIUM, LARGE = (32, 32, 3), (128, 128, 3), (224, 224, 3)
OTHER_ACTIVATIONS = [
    name for name in ("silu", "hard_swish", "gelu", "leaky_relu") if name in ACTIVATIONS
]
NETWORKS = {
    "sample": Network("sample network", _small, learning_rate=0.05),
    "sample-bn": Network("sample network with batch norm", lambda: _small(batch_norm=True)),
    "lenet5": Network("LeNet-5", zoo.lenet5, learning_rate=0.05),
    "resnet20": Network("ResNet-20", zoo.resnet20, SMALL, epoch=1),
    "resnet18": Network("ResNet-18", zoo.resnet18, LARGE, 1000, epoch=1, epoch_steps=1),
    # With ReLU for ReLU6, and without dropout. On a second batch its losses differ by 7e-4 from
    # PyTorch's.
    "mobilenetv2": Network(
        "MobileNetV2",
        partial(zoo.mobilenet_v2, activation="relu", dropout=0.0),
        LARGE,
        1000,
        epoch=1,
        epoch_steps=4,
        checked_batches=1,
    ),
    # Four levels deep, a quarter of the paper's channels.
    "unet": _unet_of("U-Net", "transposed"),
    "unet-upsampled": _unet_of("U-Net, upsampled", "nearest"),
    "resnet20-dropout": Network(
        "ResNet-20 with dropout", partial(zoo.resnet20, dropout=0.2), SMALL, epoch=1
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

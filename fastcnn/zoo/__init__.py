"""Architectures that are known by name, as models with random weights.

    model = fastcnn.zoo.resnet18(classes=10, input_shape=(64, 64, 3))
    model.build(model.input_shape, seed=0)              # a Trainer does it, too
    model.load_pytorch_state("resnet18.pth")            # or with the weights of torchvision's twin

Each function takes `classes` and `input_shape`, (H, W, C), and returns a model that is not built;
its `parameter_count` and `output_shape` are known already. Models give scores (logits), without a
softmax. Where torchvision has the same network, layers are in its order and have its options, so
that its state dict loads as it is. Weights are drawn by "he_normal", those that give the scores by
"glorot_uniform". Raises TypeError or ValueError for what is no number of classes or no shape of
images, and for images that are too small.

`ARCHITECTURES` has all of these functions by name, `names()` the names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fastcnn import nn
from fastcnn._sentences import absent
from fastcnn.zoo._convnext import convnext_tiny
from fastcnn.zoo._densenet import densenet121
from fastcnn.zoo._efficientnet import efficientnet_b0
from fastcnn.zoo._googlenet import googlenet
from fastcnn.zoo._lenet import lenet5
from fastcnn.zoo._mobilenet import mobilenet_v1, mobilenet_v2
from fastcnn.zoo._mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from fastcnn.zoo._regnet import regnet_y_400mf
from fastcnn.zoo._resnet import resnet18, resnet20, resnet34, resnet50
from fastcnn.zoo._shufflenet import shufflenet_v2_x1_0
from fastcnn.zoo._squeezenet import squeezenet1_0, squeezenet1_1
from fastcnn.zoo._unet import unet
from fastcnn.zoo._vgg import vgg11, vgg16

__all__ = [
    "ARCHITECTURES",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "lenet5",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "names",
    "regnet_y_400mf",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "shufflenet_v2_x1_0",
    "squeezenet1_0",
    "squeezenet1_1",
    "unet",
    "vgg11",
    "vgg16",
]

ARCHITECTURES: Final[dict[str, Callable[..., nn.Sequential | nn.Model]]] = {
    "convnext_tiny": convnext_tiny,
    "densenet121": densenet121,
    "efficientnet_b0": efficientnet_b0,
    "googlenet": googlenet,
    "lenet5": lenet5,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_small": mobilenet_v3_small,
    "regnet_y_400mf": regnet_y_400mf,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "shufflenet_v2_x1_0": shufflenet_v2_x1_0,
    "squeezenet1_0": squeezenet1_0,
    "squeezenet1_1": squeezenet1_1,
    "unet": unet,
    "vgg11": vgg11,
    "vgg16": vgg16,
}


def names() -> tuple[str, ...]:
    """Return the names of all architectures, in alphabetical order."""
    return tuple(ARCHITECTURES)


if not TYPE_CHECKING:  # with it, type checkers would take any name
    __getattr__ = absent(__name__)

"""LeNet-5."""

from __future__ import annotations

from fastcnn import nn
from fastcnn._types import Shape
from fastcnn.zoo._blocks import architecture

__all__ = ["lenet5"]


@architecture
def lenet5(classes: int = 10, input_shape: Shape = (28, 28, 1)) -> nn.Sequential:
    """Return LeNet-5 (LeCun et al., 1998) as it is taught today: with ReLU and max-pooling.

    Its first convolution pads the 28 pixels of MNIST to the 32 of the paper, whose second one sees
    some of the channels alone and whose last layer is of radial functions. 61,706 parameters.
    """
    return nn.Sequential(
        [
            nn.Conv2D(6, 5, padding=2, activation="relu", initializer="he_normal"),
            nn.MaxPool2D(2),
            nn.Conv2D(16, 5, activation="relu", initializer="he_normal"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(120, activation="relu", initializer="he_normal"),
            nn.Dense(84, activation="relu", initializer="he_normal"),
            nn.Dense(classes),
        ]
    )

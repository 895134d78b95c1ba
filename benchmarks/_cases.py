"""What is measured, as data that every competitor reads: the tables of cases.

Arrays are fastcnn's: images NHWC, filters HWIO. The same case gives every competitor the same
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np

from fastcnn import nn
from fastcnn.backend import Array
from fastcnn.datasets import strokes

__all__ = [
    "CHECKED_STEPS",
    "LEARNING_RATE",
    "MOMENTUM",
    "PASSES",
    "Case",
    "Convolution",
    "Inference",
    "Training",
    "sample_network",
    "sample_table",
    "sample_weights",
    "t1_table",
    "t2_table",
]

LEARNING_RATE, MOMENTUM = 0.05, 0.9
CHECKED_STEPS = 5  # of training: their losses are compared, the first one's before any update

# Multiplications and additions of the sample network in direct form, an image: two convolutions
# and two dense layers; training adds as much for each gradient, but the first layer's dx.
_FIRST = 2 * 26 * 26 * 9 * 32
_FORWARD = _FIRST + 2 * 11 * 11 * 9 * 32 * 64 + 2 * 1600 * 128 + 2 * 128 * 10


def sample_network() -> nn.Sequential:
    """Return the sample network, without weights."""
    return nn.Sequential(
        [
            nn.Conv2D(32, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Conv2D(64, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(128, activation="relu"),
            nn.Dense(10),
        ]
    )


def sample_weights() -> dict[str, Array]:
    """Return the weights that every competitor starts from."""
    model = sample_network()
    model.build((28, 28, 1), seed=0)
    return model.state_dict()


@lru_cache(maxsize=1)
def _digits(n: int) -> tuple[Array, Array]:
    """Return n images, float32 from 0 to 1, and their labels, in random order."""
    x, y = strokes.draw(n)
    order = np.random.default_rng(0).permutation(n)
    return np.divide(x[order], np.float32(255), dtype=np.float32), y[order]


@dataclass(frozen=True)
class Training:
    """The sample network trained for an epoch, SGD with momentum, shuffled, in memory."""

    batch: int
    kind: ClassVar[str] = "training"
    unit: ClassVar[str] = "images/s"

    @property
    def title(self) -> str:
        return f"sample network, training, batch {self.batch}"

    @property
    def images(self) -> int:
        """How many images an epoch has: whole batches, several steps."""
        return self.batch * max(8, -(-1024 // self.batch))

    @property
    def amount(self) -> float:
        return self.images

    @property
    def flops(self) -> float:
        return float(self.images * (3 * _FORWARD - _FIRST))

    def data(self) -> tuple[Array, Array]:
        """Return x (images, 28, 28, 1) float32 and y (images,) int64."""
        return _digits(self.images)


@dataclass(frozen=True)
class Inference:
    """The sample network's logits of one batch."""

    batch: int
    kind: ClassVar[str] = "inference"
    unit: ClassVar[str] = "images/s"

    @property
    def title(self) -> str:
        return f"sample network, inference, batch {self.batch}"

    @property
    def amount(self) -> float:
        return self.batch

    @property
    def flops(self) -> float:
        return float(self.batch * _FORWARD)

    def data(self) -> Array:
        """Return x (batch, 28, 28, 1) float32."""
        return _digits(self.batch)[0]


PASSES = ("forward", "input gradient", "weight gradient")  # the last with the bias's


@dataclass(frozen=True)
class Convolution:
    """One convolution, in one of PASSES; square images, filters and padding."""

    channels: int
    filters: int
    size: int
    kernel: int = 3
    padding: int = 0
    stride: int = 1
    groups: int = 1
    batch: int = 128
    direction: str = "forward"
    kind: ClassVar[str] = "convolution"
    unit: ClassVar[str] = "GFLOP/s"

    @property
    def name(self) -> str:
        """The shape in short: 32-64@13, with the kernel where it is not 3x3."""
        kernel = "" if self.kernel == 3 else f" {self.kernel}x{self.kernel}"
        stride = "" if self.stride == 1 else f" s{self.stride}"
        if self.groups == self.channels > 1:
            return f"depthwise {self.channels}@{self.size}{kernel}{stride}"
        return f"{self.channels}-{self.filters}@{self.size}{kernel}{stride}"

    @property
    def title(self) -> str:
        return f"{self.name}, {self.direction}, batch {self.batch}"

    @property
    def output(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def amount(self) -> float:
        return self.flops / 1e9

    @property
    def flops(self) -> float:
        """2 N P Q R S C K, as is the custom: products with the padding's zeros count."""
        return self._flops(self.output * self.kernel)

    @property
    def least_flops(self) -> float:
        """Like flops without the padding: what no direct convolution can do without."""
        taps = 0  # of one line of the image and one line of the kernel
        for p in range(self.output):
            first = p * self.stride - self.padding
            taps += min(self.size, first + self.kernel) - max(0, first)
        return self._flops(taps)

    def _flops(self, taps: int) -> float:
        pairs = self.channels // self.groups * self.filters
        return float(2 * self.batch * taps**2 * pairs)

    def data(self) -> tuple[Array, Array, Array]:
        """Return x (N, H, W, C), w (R, S, C // groups, K) and dy (N, P, Q, K), float32.

        They are aligned to 64 bytes, as the results of every competitor's own ops are.
        """
        rng = np.random.default_rng(0)
        shapes = (
            (self.batch, self.size, self.size, self.channels),
            (self.kernel, self.kernel, self.channels // self.groups, self.filters),
            (self.batch, self.output, self.output, self.filters),
        )
        x, w, dy = (_aligned(rng.standard_normal(shape, np.float32)) for shape in shapes)
        return x, w, dy


def _aligned(array: Array) -> Array:
    """Return a copy whose data starts at a multiple of 64 bytes."""
    memory = np.empty(array.size + 16, array.dtype)
    start = -memory.ctypes.data % 64 // array.itemsize
    copy = memory[start : start + array.size].reshape(array.shape)
    copy[...] = array
    return copy


Case = Training | Inference | Convolution


def sample_table(batches: Sequence[int] = ()) -> list[Case]:
    """Return the sample network's cases, at the given batch sizes or at the usual ones."""
    training = [Training(batch) for batch in batches or (32, 128, 512)]
    return [*training, *(Inference(batch) for batch in batches or (1, 32, 128, 512))]


# Channels, filters, size, kernel and stride of ResNet-50's convolutions.
_RESNET_50 = (
    (3, 64, 224, 7, 2),
    (64, 256, 56, 1, 1),
    (64, 64, 56, 1, 1),
    (64, 64, 56, 3, 1),
    (256, 64, 56, 1, 1),
    (256, 512, 56, 1, 2),
    (256, 128, 56, 1, 2),
    (128, 128, 28, 3, 1),
    (128, 512, 28, 1, 1),
    (512, 128, 28, 1, 1),
    (512, 1024, 28, 1, 2),
    (512, 256, 28, 1, 2),
    (256, 256, 14, 3, 1),
    (256, 1024, 14, 1, 1),
    (1024, 256, 14, 1, 1),
    (1024, 2048, 14, 1, 2),
    (1024, 512, 14, 1, 2),
    (512, 512, 7, 3, 1),
    (512, 2048, 7, 1, 1),
    (2048, 512, 7, 1, 1),
)


def t1_table(batches: Sequence[int] = ()) -> list[Case]:
    """Return the shapes of ResNet-50 (He et al., 2015), every pass, padded to keep the size."""
    return [
        Convolution(
            channels, filters, size, kernel, kernel // 2, stride, batch=batch, direction=direction
        )
        for batch in batches or (16,)
        for channels, filters, size, kernel, stride in _RESNET_50
        for direction in PASSES
    ]


def t2_table(batches: Sequence[int] = ()) -> list[Case]:
    """Return the shapes of small nets, every pass: first layers, LeNet-5, CIFAR nets, odd ones."""
    shapes = [Convolution(1, 32, 28), Convolution(32, 64, 13)]
    shapes += [Convolution(1, 6, 28, kernel=5, padding=2), Convolution(6, 16, 14, kernel=5)]
    shapes += [
        Convolution(channels, filters, size, padding=1)
        for size in (32, 16, 8)
        for channels, filters in ((3, 32), (32, 32), (64, 64), (128, 128))
    ]
    shapes += [Convolution(odd, odd, 16, padding=1) for odd in (10, 24, 33, 100)]
    shapes += [
        Convolution(channels, channels, size, padding=1, groups=channels)
        for channels, size in ((32, 32), (64, 16), (128, 8))
    ]
    return [
        replace(shape, batch=batch, direction=direction)
        for batch in batches or (128,)
        for shape in shapes
        for direction in PASSES
    ]

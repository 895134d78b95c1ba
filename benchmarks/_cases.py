"""What is measured, as data that every competitor reads: the kinds of cases.

Arrays are fastcnn's: images NHWC, filters HWIO. The same case gives every competitor the same
numbers. A case has a kind, which names the function of a peer that does it; a title; the work
that one call does, of which `limit` names the machine's limit; and `figure`, which turns a call's
seconds into what is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from benchmarks import _networks
from benchmarks._networks import NETWORKS
from fastcnn.backend import Array
from fastcnn.datasets import strokes

__all__ = [
    "FMA_PEAK",
    "MEMORY_BOUND",
    "MOMENTUM",
    "PASSES",
    "Case",
    "Convolution",
    "Cost",
    "Inference",
    "MemoryBound",
    "Scaling",
    "Training",
    "aligned",
    "noise",
]

MOMENTUM = 0.9
FMA_PEAK = "FMA peak"


@lru_cache(maxsize=1)
def _images(network: str, n: int) -> tuple[Array, Array]:
    """Return n images, float32, and their labels: digits, or noise where others are asked for.

    A network that gives maps has such maps, float32, for labels.
    """
    if NETWORKS[network].input_shape != (28, 28, 1):
        return noise(network, n)
    x, y = strokes.draw(n)
    order = np.random.default_rng(0).permutation(n)
    return np.divide(x[order], np.float32(255), dtype=np.float32), y[order]


def noise(network: str, n: int) -> tuple[Array, Array]:
    """Return n images of noise, float32, and labels or maps, drawn as well."""
    shape, classes = NETWORKS[network].input_shape, NETWORKS[network].classes
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, *shape), np.float32)
    if NETWORKS[network].loss == "mean_squared_error":
        return x, rng.standard_normal((n, *shape[:2], classes), np.float32)
    return x, rng.integers(0, classes, n)


@dataclass(frozen=True)
class Training:
    """A network trained for an epoch, SGD with momentum, shuffled, in memory."""

    batch: int
    network: str = "sample"
    kind: ClassVar[str] = "training"
    unit: ClassVar[str] = "images/s"
    limit: ClassVar[str] = FMA_PEAK

    @property
    def title(self) -> str:
        return f"{NETWORKS[self.network].title}, training, batch {self.batch}"

    @property
    def steps(self) -> int:
        """How many steps an epoch has."""
        network = NETWORKS[self.network]
        return max(network.epoch_steps, -(-network.epoch // self.batch))

    @property
    def learning_rate(self) -> float:
        """The step size, of every step."""
        return NETWORKS[self.network].learning_rate

    @property
    def images(self) -> int:
        """How many images an epoch has: whole batches."""
        return self.batch * self.steps

    @property
    def checked(self) -> list[slice]:
        """The batches, in order, whose losses are compared; two at least, to see an update."""
        batches = min(NETWORKS[self.network].checked_batches, self.steps)
        starts = [step % batches * self.batch for step in range(max(2, batches))]
        return [slice(start, start + self.batch) for start in starts]

    @property
    def work(self) -> float:
        forward, first = _networks.flops(self.network)
        return float(self.images * (3 * forward - first))

    def figure(self, seconds: float) -> float:
        return self.images / seconds

    def data(self) -> tuple[Array, Array]:
        """Return x (images, H, W, C) float32 and y: labels (images,) int64, or maps float32."""
        return _images(self.network, self.images)


@dataclass(frozen=True)
class Scaling(Training):
    """The same, for fastcnn with other threads and instruction sets beside it."""

    kind: ClassVar[str] = "scaling"


@dataclass(frozen=True)
class Inference:
    """A network's logits of one batch."""

    batch: int
    network: str = "sample"
    kind: ClassVar[str] = "inference"
    unit: ClassVar[str] = "images/s"
    limit: ClassVar[str] = FMA_PEAK

    @property
    def title(self) -> str:
        return f"{NETWORKS[self.network].title}, inference, batch {self.batch}"

    @property
    def work(self) -> float:
        return float(self.batch * _networks.flops(self.network)[0])

    def figure(self, seconds: float) -> float:
        return self.batch / seconds

    def data(self) -> Array:
        """Return x (batch, H, W, C) float32."""
        return _images(self.network, self.batch)[0]


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
    limit: ClassVar[str] = FMA_PEAK

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

    def figure(self, seconds: float) -> float:
        return self.work / seconds / 1e9

    @property
    def work(self) -> float:
        """2 N P Q R S C K, as is the custom: products with the padding's zeros count."""
        return self._flops(self.output * self.kernel)

    @property
    def direct(self) -> bool:
        """Whether it is done directly: fastcnn may do 3x3 kernels of stride 1 by Winograd's way."""
        return (self.kernel, self.stride, self.groups) != (3, 1, 1)

    @property
    def least_work(self) -> float:
        """Like work without the padding: what no direct convolution can do without."""
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
        x, w, dy = (aligned(rng.standard_normal(shape, np.float32)) for shape in shapes)
        return x, w, dy


def aligned(array: Array) -> Array:
    """Return a copy whose data starts at a multiple of 64 bytes."""
    memory = np.empty(array.size + 16, array.dtype)
    start = -memory.ctypes.data % 64 // array.itemsize
    copy = memory[start : start + array.size].reshape(array.shape)
    copy[...] = array
    return copy


# The operations that memory bounds, and the bytes that each must touch for a byte of its largest
# tensor: every tensor counts once, also one that is read twice or changed in place. Pooling is 2x2
# and keeps a byte of argmax a value.
MEMORY_BOUND = {
    "max-pool forward": 1 + 1 / 4 + 1 / 16,
    "max-pool backward": 1 / 4 + 1 / 16 + 1,
    "average pool forward": 1 + 1 / 4,
    "average pool backward": 1 / 4 + 1,
    "batch norm forward": 2.0,
    "batch norm backward": 3.0,
    "ReLU forward": 2.0,
    "ReLU backward": 3.0,
    "softmax cross-entropy": 2.0,  # logits and their gradient
    "SGD step": 3.0,  # weights, gradient, velocity
    "Adam step": 4.0,  # weights, gradient, two moments
}
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class MemoryBound:
    """One of MEMORY_BOUND on a float32 tensor of about so many MB."""

    op: str
    megabytes: int = 64
    kind: ClassVar[str] = "memory_bound"
    unit: ClassVar[str] = "GB/s"

    @property
    def title(self) -> str:
        return f"{self.op}, {self.megabytes} MB"

    @property
    def limit(self) -> str:
        """A copy that touches as many bytes as it must: of an array of half of them."""
        return f"copy of {self.megabytes * MEMORY_BOUND[self.op] / 2:g} MB"

    @property
    def shape(self) -> tuple[int, ...]:
        """The largest tensor's shape."""
        if self.op == "softmax cross-entropy":
            return max(1, round(self.megabytes * MEGABYTE / 4000)), 1000
        if self.op.endswith("step"):
            return (self.megabytes * MEGABYTE // 4,)
        return max(1, round(self.megabytes * MEGABYTE / (4 * 56 * 56 * 64))), 56, 56, 64

    @property
    def results(self) -> tuple[str, ...]:
        """The names of what is compared."""
        if self.op == "batch norm backward":
            return "dx", "dgamma", "dbeta"
        if self.op == "softmax cross-entropy":
            return "loss", "dx"
        names = {"forward": "y", "backward": "dx", "step": "w"}
        return (names[self.op.rpartition(" ")[2]],)

    @property
    def work(self) -> float:
        return 4 * float(np.prod(self.shape)) * MEMORY_BOUND[self.op]

    def figure(self, seconds: float) -> float:
        return self.work / seconds / 1e9

    def data(self) -> tuple[Array, Array]:
        """Return x, of `shape`, and the gradient that comes back, of the result's; float32.

        They are aligned to 64 bytes, as in Convolution.
        """
        rng = np.random.default_rng(0)
        n, *rest = self.shape
        back = (n, 28, 28, 64) if "pool" in self.op else (n, *rest)
        x, dy = (aligned(rng.standard_normal(shape, np.float32)) for shape in (self.shape, back))
        return x, dy

    def channels(self) -> tuple[Array, Array]:
        """Return gamma and beta of batch normalization."""
        rng = np.random.default_rng(1)
        gamma, beta = rng.uniform(0.5, 1.5, (2, self.shape[-1])).astype(np.float32)
        return gamma, beta

    def labels(self) -> Array:
        """Return the labels of cross-entropy."""
        return np.random.default_rng(1).integers(0, self.shape[-1], self.shape[0])


@dataclass(frozen=True)
class Cost:
    """What a network costs beside its time: measured in a fresh process at each turn."""

    what: str
    batch: int = 1
    network: str = "sample"
    kind: ClassVar[str] = "cost"
    limit: ClassVar[str] = ""
    work: ClassVar[float] = 0.0

    @property
    def unit(self) -> str:
        if self.what.startswith("peak memory"):
            return "MB"
        return "a step" if self.what == "page faults" else "ms"

    @property
    def title(self) -> str:
        batch = f", training at batch {self.batch}" if self.batch > 1 else ""
        network = "" if self.network == "sample" else f"{NETWORKS[self.network].title}, "
        return f"{network}{self.what}{batch}, {self.unit}"

    def figure(self, value: float) -> float:
        """Return milliseconds of seconds, megabytes of bytes, or the faults as they are."""
        return value * {"MB": 1 / MEGABYTE, "ms": 1e3}.get(self.unit, 1.0)


Case = Training | Inference | Convolution | MemoryBound | Cost

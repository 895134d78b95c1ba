"""The tables T1 to T5, the sample network's and that of graphs: which cases each has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks._cases import (
    MEMORY_BOUND,
    PASSES,
    Case,
    Convolution,
    Cost,
    Inference,
    MemoryBound,
    Scaling,
    Training,
)

__all__ = [
    "TABLES",
    "graphs_table",
    "sample_table",
    "t1_table",
    "t2_table",
    "t3_table",
    "t4_table",
    "t5_table",
]


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


def t3_table(batches: Sequence[int] = ()) -> list[Case]:
    """Return what memory bounds: beyond every cache, about half of the last one, within it; MB."""
    return [MemoryBound(op, size) for size in batches or (64, 13, 4) for op in MEMORY_BOUND]


def t4_table(batches: Sequence[int] = ()) -> list[Case]:
    """Return whole networks in training and inference: small ones, and those of 224x224."""
    cases: list[Case] = []
    for network in ("sample", "sample-bn"):
        sizes = batches or (1, 32, 128, 512)
        # Batch normalization cannot train on one value a channel, but on an image it can.
        cases += [Training(batch, network) for batch in sizes]
        cases += [Inference(batch, network) for batch in sizes]
    for network in ("lenet5", "resnet20"):
        cases += [Training(batch, network) for batch in batches or (128,)]
        cases += [Inference(batch, network) for batch in batches or (1, 128)]
    for network in ("resnet18", "mobilenetv2"):
        cases += [Training(batch, network) for batch in batches or (16,)]
        cases += [Inference(batch, network) for batch in batches or (1, 16)]
    return cases


def t5_table(batches: Sequence[int] = ()) -> list[Case]:
    """Return what small work and a fresh start cost, memory, and how fastcnn scales."""
    cases: list[Case] = [Cost("import time"), Cost("first prediction"), Inference(1)]
    cases += [Training(batch) for batch in batches or (1, 2, 4, 8)]
    cases += [Cost("peak memory", 512), Cost("page faults", 128), Cost("page faults", 512)]
    return [*cases, Scaling(128)]


def graphs_table(batches: Sequence[int] = ()) -> list[Case]:
    """Return the training of networks that are no chains of layers."""
    sizes = {"resnet20": (32, 128), "mobilenetv2": (16,), "unet": (8,), "unet-upsampled": (8,)}
    return [
        Training(batch, network) for network, usual in sizes.items() for batch in batches or usual
    ]


TABLES: dict[str, Callable[[Sequence[int]], list[Case]]] = {
    "sample": sample_table,
    "t1": t1_table,
    "t2": t2_table,
    "t3": t3_table,
    "t4": t4_table,
    "t5": t5_table,
    "graphs": graphs_table,
}

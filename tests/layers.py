"""Every layer with options that matter, the sample network, and a backend that takes notes."""

from __future__ import annotations

from typing import Any

from fastcnn import nn

# Every layer with options that matter, and the shape of one input.
LAYERS: list[tuple[Any, tuple[int, ...]]] = [
    (lambda: nn.Conv2D(3, 3), (6, 5, 2)),
    (lambda: nn.Conv2D(4, (2, 3), stride=(2, 1), padding="same", groups=2), (5, 6, 2)),
    (lambda: nn.Conv2D(2, 2, dilation=2, padding=((1, 0), (0, 2)), use_bias=False), (5, 4, 2)),
    (lambda: nn.Conv2D(3, 1, activation="leaky_relu", in_channels=2, padding="valid"), (3, 2, 2)),
    (lambda: nn.DepthwiseConv2D(3, padding=1, depth_multiplier=2), (4, 3, 2)),
    (lambda: nn.DepthwiseConv2D((1, 2), stride=2, activation="tanh"), (3, 5, 3)),
    (lambda: nn.SeparableConv2D(3, (3, 2), padding="same", use_bias=False), (4, 3, 2)),
    (
        lambda: nn.SeparableConv2D(
            2, 3, stride=(1, 2), dilation=(2, 1), depth_multiplier=2, activation="relu"
        ),
        (6, 5, 3),
    ),
    (lambda: nn.Conv1D(3, 3), (6, 2)),
    (lambda: nn.Conv1D(4, 2, stride=2, padding="same", groups=2, activation="elu"), (7, 4)),
    (lambda: nn.Conv1D(2, 3, dilation=2, padding=(4, 0), use_bias=False, in_channels=3), (5, 3)),
    (lambda: nn.MaxPool1D(), (5, 2)),
    (lambda: nn.MaxPool1D(3, stride=2, padding=1, dilation=2, ceil_mode=True), (8, 2)),
    (lambda: nn.AvgPool1D(3, stride=2, padding=(0, 1), count_include_pad=True), (6, 2)),
    (lambda: nn.AvgPool1D(2, padding="same", dilation=2, ceil_mode=True), (5, 3)),
    (lambda: nn.GlobalAvgPool1D(), (5, 3)),
    (lambda: nn.Conv2DTranspose(3, 2, stride=2), (3, 2, 2)),
    (lambda: nn.Conv2DTranspose(4, (3, 2), stride=(2, 3), padding="same", groups=2), (3, 2, 4)),
    (
        lambda: nn.Conv2DTranspose(
            2, 3, stride=(2, 1), padding=((1, 0), (0, 2)), output_padding=(1, 0), use_bias=False
        ),
        (3, 4, 2),
    ),
    (lambda: nn.Conv2DTranspose(3, 1, stride=2, activation="tanh", in_channels=2), (2, 3, 2)),
    (lambda: nn.UpSample2D(), (3, 2, 2)),
    (lambda: nn.UpSample2D((3, 2), method="bilinear"), (2, 3, 2)),
    (lambda: nn.Resize2D((2, 5), method="bilinear"), (3, 2, 2)),
    (lambda: nn.Resize2D(scale=(1.5, 0.7), coordinates="asymmetric", rounding="floor"), (3, 5, 2)),
    (lambda: nn.Resize2D(4, scale=1.7, method="cubic", exclude_outside=True), (2, 3, 2)),
    (lambda: nn.MaxPool2D(), (5, 4, 2)),
    (lambda: nn.MaxPool2D((3, 2), stride=2, padding=(1, 0), ceil_mode=True), (6, 5, 2)),
    (lambda: nn.MaxPool2D(2, stride=(3, 4), padding=1, ceil_mode=True), (4, 6, 1)),
    (lambda: nn.MaxPool2D(2, stride=1, padding=(0, 1), dilation=(2, 3)), (4, 6, 2)),
    (lambda: nn.AvgPool2D(2, padding=1), (4, 5, 2)),
    (
        lambda: nn.AvgPool2D(3, stride=2, padding=1, ceil_mode=True, count_include_pad=True),
        (6, 4, 1),
    ),
    (lambda: nn.AdaptiveAvgPool2D((2, 3)), (3, 5, 2)),
    (lambda: nn.AvgPool2D(2, stride=(1, 2), padding=1, dilation=(2, 3)), (4, 6, 2)),
    (lambda: nn.GlobalAvgPool2D(), (3, 4, 2)),
    (lambda: nn.GlobalMaxPool2D(), (3, 4, 2)),
    (lambda: nn.BatchNorm(), (3, 2, 2)),
    (lambda: nn.BatchNorm(momentum=0.5, epsilon=1e-3, running_variance="biased"), (4,)),
    (lambda: nn.LayerNorm(), (3, 2, 5)),
    (lambda: nn.LayerNorm(axis=1, epsilon=1e-3, center=False), (3, 4)),
    (lambda: nn.GroupNorm(2), (3, 2, 4)),
    (lambda: nn.GroupNorm(3, epsilon=1e-2, scale=False), (6,)),
    (lambda: nn.InstanceNorm(), (3, 2, 4)),
    (lambda: nn.InstanceNorm(center=False, scale=False), (2, 3, 2)),
    (lambda: nn.LocalResponseNorm(), (3, 2, 7)),
    (lambda: nn.LocalResponseNorm(4, alpha=0.5, beta=0.5, k=2.0), (6,)),
    (lambda: nn.LayerScale(), (5,)),
    (lambda: nn.LayerScale(-0.5), (3, 2, 4)),
    (lambda: nn.Rescaling(1 / 255), (3, 2, 2)),
    (lambda: nn.Rescaling((0.5, -2.0), (0.25, 0.0)), (3, 2)),
    (lambda: nn.Normalization(), (3, 2, 2)),
    (lambda: nn.Normalization((0.5, -1.0, 100.0), (2.0, 0.0, 0.25)), (3,)),
    (lambda: nn.Dense(4), (5,)),
    (lambda: nn.Dense(3, activation="sigmoid", use_bias=False, in_features=4), (4,)),
    (lambda: nn.Flatten(), (3, 2, 2)),
    (lambda: nn.Reshape((-1, 3)), (3, 2, 2)),
    (lambda: nn.Permute((3, 1, 2)), (3, 2, 2)),
    (lambda: nn.Pad2D(), (3, 2, 2)),
    (lambda: nn.Pad2D(((0, 2), (1, 0)), value=-1.5), (2, 3, 2)),
    (lambda: nn.Pad2D((2, 1), mode="reflect"), (3, 4, 2)),
    (lambda: nn.Pad2D((3, 0), mode="edge"), (3, 2, 2)),
    (lambda: nn.Slice((1, None, 0), (None, -4, 2), (1, -1, None)), (3, 4, 3)),
    (lambda: nn.Cropping2D(((0, 1), (2, 0))), (3, 4, 2)),
    (lambda: nn.DepthToSpace(2), (3, 2, 8)),
    (lambda: nn.SpaceToDepth(2, mode="CRD"), (4, 6, 3)),
    (lambda: nn.Function("erf"), (3, 4)),
    (lambda: nn.Function("exp"), (3, 4)),
    (lambda: nn.Function("negative"), (3,)),
    (lambda: nn.Reduce("mean", -1, keepdims=True), (3, 4)),
    (lambda: nn.Reduce("sum", (0, -1)), (3, 4, 2)),
    (lambda: nn.Reduce("max", [1]), (3, 4, 2)),
    (lambda: nn.Take((3, 0, -1)), (2, 4)),
    (lambda: nn.Dropout(0.4), (3, 4)),
    (lambda: nn.SpatialDropout2D(0.4), (3, 4, 5)),
    (lambda: nn.StochasticDepth(0.4), (3, 2, 2)),
    (lambda: nn.ReLU(), (3, 2)),
    (lambda: nn.LeakyReLU(0.2), (3, 2)),
    (lambda: nn.PReLU(), (3, 2)),
    (lambda: nn.PReLU(shared=True), (3, 2, 2)),
    (lambda: nn.Clip(-0.5, 0.75), (3, 2)),
    (lambda: nn.Clip(high=0.25), (3, 2)),
    (lambda: nn.ReLU6(), (3, 2)),
    (lambda: nn.HardSigmoid(0.2, 0.4), (3, 2)),
    (lambda: nn.HardSwish(), (3, 2)),
    (lambda: nn.ELU(0.7), (3, 2)),
    (lambda: nn.SELU(), (3, 2)),
    (lambda: nn.CELU(0.7), (3, 2)),
    (lambda: nn.GELU(), (3, 2)),
    (lambda: nn.GELU(approximate=True), (3, 2)),
    (lambda: nn.SiLU(), (3, 2)),
    (lambda: nn.Mish(), (3, 2)),
    (lambda: nn.Softplus(), (3, 2)),
    (lambda: nn.Sigmoid(), (3, 2)),
    (lambda: nn.Tanh(), (3, 2)),
    (lambda: nn.Softmax(), (3, 4)),
    (lambda: nn.Softmax(0), (3, 2, 4)),
    (lambda: nn.LogSoftmax(-2), (3, 4)),
    (lambda: nn.Residual(nn.Conv2D(2, 3, padding=1, activation="gelu")), (3, 4, 2)),
    (
        lambda: nn.Residual(
            nn.Sequential([nn.Conv2D(3, 3, stride=2, padding="same"), nn.BatchNorm(), nn.ELU()]),
            nn.Conv2D(3, 1, stride=2, use_bias=False),
        ),
        (4, 3, 2),
    ),
    (
        lambda: nn.Sequential(
            [nn.Conv2D(3, 2, activation="silu"), nn.AvgPool2D(), nn.Flatten(), nn.Dense(2)]
        ),
        (5, 6, 2),
    ),
]
# Layers that have no gradient: they run in inference alone.
UNTRAINED: list[tuple[Any, tuple[int, ...]]] = [
    (lambda: nn.LSTM(3), (4, 2)),
    (lambda: nn.LSTM(5, return_sequences=False, use_bias=False), (3, 4)),
    (lambda: nn.LSTM(2, bidirectional=True), (4, 3)),
    (lambda: nn.LSTM(2, bidirectional=True, return_sequences=False), (1, 3)),
]
IDS = [f"{index}-{type(make()).__name__}" for index, (make, _) in enumerate(LAYERS)]


def sample_network() -> nn.Sequential:
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


class Recorder:
    """A backend that writes down the ops it is asked for, and their keyword arguments."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def op(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, kwargs))
            return getattr(self.backend, name)(*args, **kwargs)

        return op

    def asked(self, name: str) -> list[dict[str, Any]]:
        return [kwargs for called, kwargs in self.calls if called == name]

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
    (lambda: nn.MaxPool2D(), (5, 4, 2)),
    (lambda: nn.MaxPool2D((3, 2), stride=2, padding=(1, 0), ceil_mode=True), (6, 5, 2)),
    (lambda: nn.MaxPool2D(2, stride=(3, 4), padding=1, ceil_mode=True), (4, 6, 1)),
    (lambda: nn.AvgPool2D(2, padding=1), (4, 5, 2)),
    (
        lambda: nn.AvgPool2D(3, stride=2, padding=1, ceil_mode=True, count_include_pad=True),
        (6, 4, 1),
    ),
    (lambda: nn.GlobalAvgPool2D(), (3, 4, 2)),
    (lambda: nn.GlobalMaxPool2D(), (3, 4, 2)),
    (lambda: nn.BatchNorm(), (3, 2, 2)),
    (lambda: nn.BatchNorm(momentum=0.5, epsilon=1e-3, running_variance="biased"), (4,)),
    (lambda: nn.Rescaling(1 / 255), (3, 2, 2)),
    (lambda: nn.Rescaling((0.5, -2.0), (0.25, 0.0)), (3, 2)),
    (lambda: nn.Normalization(), (3, 2, 2)),
    (lambda: nn.Normalization((0.5, -1.0, 100.0), (2.0, 0.0, 0.25)), (3,)),
    (lambda: nn.Dense(4), (5,)),
    (lambda: nn.Dense(3, activation="sigmoid", use_bias=False, in_features=4), (4,)),
    (lambda: nn.Flatten(), (3, 2, 2)),
    (lambda: nn.Dropout(0.4), (3, 4)),
    (lambda: nn.ReLU(), (3, 2)),
    (lambda: nn.LeakyReLU(0.2), (3, 2)),
    (lambda: nn.ELU(0.7), (3, 2)),
    (lambda: nn.GELU(), (3, 2)),
    (lambda: nn.SiLU(), (3, 2)),
    (lambda: nn.HardSwish(), (3, 2)),
    (lambda: nn.Sigmoid(), (3, 2)),
    (lambda: nn.Tanh(), (3, 2)),
    (lambda: nn.Softmax(), (3, 4)),
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

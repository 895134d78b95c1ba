"""Batch normalization."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np

from fastcnn._options import choice, number
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._run import Tracing
from fastcnn.nn._variable import Buffer, Parameter


class BatchNorm(Module):
    """Normalize each channel by the batch, in inference by running statistics.

    y = gamma * (x - mean) / sqrt(variance + epsilon) + beta (Ioffe and Szegedy, 2015), over all
    axes but the last: (C,) and (H, W, C) inputs. In training mean and (biased) variance are the
    batch's, and running = momentum * running + (1 - momentum) * batch; a layer at several places
    does so at each of them, one after the other.
    running_variance: "unbiased" divides the batch's squares by n - 1 for the running variance
    (PyTorch's rule), "biased" by n (Keras's).

    Parameters: gamma (C,), beta (C,). Buffers: running_mean (C,), running_variance (C,).
    """

    gamma: Parameter
    beta: Parameter
    _running_mean: Buffer
    _running_variance: Buffer
    _hint = "; the number of channels is found by build"
    _settings: ClassVar = {
        "momentum": partial(number, where="BatchNorm: momentum", low=0.0, high=1.0),
        "epsilon": partial(number, where="BatchNorm: epsilon", low=0.0, open_low=True),
        "running_variance": partial(
            choice, where="BatchNorm: running_variance", choices=("unbiased", "biased")
        ),
    }

    def __init__(
        self,
        *,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        running_variance: str = "unbiased",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.momentum = momentum
        self.epsilon = epsilon
        self.running_variance = running_variance

    def declare(self, input_shape: Shape) -> Shape:
        shape = input_shape[-1:]
        if len(input_shape) not in (1, 3):
            raise ValueError(
                f"BatchNorm: expected an input of shape (C,) or (H, W, C), got {input_shape}"
            )
        self.gamma = self.declare_parameter("gamma", shape, lambda rng: np.ones(shape))
        self.beta = self.declare_parameter("beta", shape, lambda rng: np.zeros(shape))
        self._running_mean = self.declare_buffer("running_mean", shape, lambda rng: np.zeros(shape))
        self._running_variance = self.declare_buffer(
            "running_variance", shape, lambda rng: np.ones(shape)
        )
        return input_shape

    @property
    def min_batch(self) -> int:
        """Two where an input has one value a channel: one value has no variance."""
        one = all(size == 1 for size in self.input_shape[:-1])
        return 2 if one and not self._frozen else 1

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        self._require_built()
        gamma, beta, epsilon = self.gamma, self.beta, self.epsilon
        training = training and not self._frozen
        if training:
            y, mean, variance = backend.batch_norm(x, gamma._data, beta._data, epsilon=epsilon)
            count = x.size // len(mean)
            if isinstance(backend, Tracing):
                backend.update(self._running, (mean, variance), self._averaging(count))
            else:
                self.track(mean, variance, count)
        else:
            mean, variance = self._running_mean._data, self._running_variance._data
            y = backend.batch_norm_inference(
                x, gamma._data, beta._data, mean, variance, epsilon=epsilon
            )

        def backward(dy: Array) -> Array | None:
            op = backend.batch_norm_backward if training else backend.batch_norm_inference_backward
            dx, *gradients = op(dy, x, gamma._data, mean, variance, epsilon=epsilon)
            gamma.grad, beta.grad = (None, None) if self._frozen else gradients
            return dx

        return y, backward

    def track(self, mean: Array, variance: Array, count: int) -> None:
        """Leave the next running statistics, `count` values a channel, for apply_updates.

        They go on from those that were left since, as at another place of this layer.
        """
        mean_before, variance_before = (
            each._data if each.update is None else each.update for each in self._running
        )
        new = running_statistics(
            mean_before, variance_before, mean, variance, **self._averaging(count)
        )
        for buffer, value in zip(self._running, new, strict=True):
            buffer.update = value

    @property
    def _running(self) -> tuple[Buffer, Buffer]:
        return self._running_mean, self._running_variance

    def _averaging(self, count: int) -> dict[str, float]:
        """Return the options of running_statistics, for `count` values a channel."""
        factor = count / (count - 1) if self.running_variance == "unbiased" else 1.0
        return {"momentum": self.momentum, "factor": factor}


def running_statistics(
    running_mean: Array,
    running_variance: Array,
    mean: Array,
    variance: Array,
    *,
    momentum: float,
    factor: float,
) -> tuple[Array, Array]:
    """Return momentum * running + (1 - momentum) * batch of both, the variance times a factor."""
    if factor != 1.0:
        variance = variance * factor
    return (
        momentum * running_mean + (1.0 - momentum) * mean,
        momentum * running_variance + (1.0 - momentum) * variance,
    )

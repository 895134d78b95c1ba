"""Normalization by statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op, same
from fastcnn._types import Array, Shape

__all__ = ["ROWS", "Normalization"]


class Normalization(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    def batch_norm(
        self, x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, *, epsilon: float = 1e-5
    ) -> tuple[Array, Array, Array]:
        """Normalize each channel by the statistics of the batch (Ioffe and Szegedy, 2015).

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, mean and biased variance over all
        axes but the last. x (N, C) or (N, H, W, C); gamma, beta (C,). Returns (y, mean, variance).
        Fewer than two values a channel is a ValueError.
        """

    def batch_norm_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta); dx carries the terms through mean and variance."""

    def batch_norm_inference(
        self,
        x: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> Array:
        """Normalize each channel by the given mean and variance (those of training)."""

    def batch_norm_inference_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta) with mean and variance held constant."""

    def layer_norm(
        self,
        x: ArrayLike,
        gamma: ArrayLike | None = None,
        beta: ArrayLike | None = None,
        *,
        axis: int = -1,
        epsilon: float = 1e-5,
    ) -> Array:
        """Normalize each row by its own statistics (Ba, Kiros and Hinton, 2016).

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, mean and biased variance over the
        axes from `axis` to the last, as in ONNX: the channels of each pixel by default, all of a
        sample with axis=1. x of rank 2 or more; gamma, beta x.shape[axis:], ones and zeros where
        they are None. The first axis, of samples, is never among them.
        """

    def layer_norm_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike | None = None,
        *,
        axis: int = -1,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta), the two last of gamma and beta that are None as well."""

    def group_norm(
        self,
        x: ArrayLike,
        gamma: ArrayLike | None = None,
        beta: ArrayLike | None = None,
        *,
        groups: int,
        epsilon: float = 1e-5,
    ) -> Array:
        """Normalize groups of channels by the statistics of each sample (Wu and He, 2018).

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, mean and biased variance over all
        pixels of a sample and the C // groups channels of a group, which lie side by side. x (N, C)
        or (N, H, W, C); gamma, beta (C,), ones and zeros where they are None. With as many groups
        as channels it is instance normalization (Ulyanov et al., 2016).
        """

    def group_norm_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike | None = None,
        *,
        groups: int,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta), the two last of gamma and beta that are None as well."""

    def local_response_norm(
        self,
        x: ArrayLike,
        *,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
    ) -> Array:
        """Divide by the squares of neighbouring channels (Krizhevsky et al., 2012).

        y = x / (k + alpha / size * s)**beta, s the sum of x**2 over the channels from
        c - (size - 1) // 2 to c + size // 2, as far as there are some (ONNX's window; that of
        PyTorch is the same for odd sizes, and leans to the other side for even ones). x of rank 2
        or more, channels last; alpha and beta at least 0, k above 0.
        """

    def local_response_norm_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        *,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
    ) -> Array:
        """Return dx."""


def _batch_norm(x: Shape, gamma: Shape, beta: Shape, **options: Any) -> Sequence[Shape]:
    if not gamma == beta == x[-1:]:
        raise ValueError(
            f"batch_norm: expected gamma and beta of shape {x[-1:]}, got {gamma}, {beta}"
        )
    return x, gamma, gamma


ROWS = {
    "batch_norm": Op(("y", "mean", "variance"), ("x", "gamma", "beta"), _batch_norm),
    "batch_norm_inference": Op(("y",), ("x", "gamma", "beta"), same),
    "layer_norm": Op(("y",), ("x", "gamma", "beta"), same),
    "group_norm": Op(("y",), ("x", "gamma", "beta"), same),
    "local_response_norm": Op(("y",), ("x",), same),
}

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


def _batch_norm(x: Shape, gamma: Shape, beta: Shape, **options: Any) -> Sequence[Shape]:
    if not gamma == beta == x[-1:]:
        raise ValueError(
            f"batch_norm: expected gamma and beta of shape {x[-1:]}, got {gamma}, {beta}"
        )
    return x, gamma, gamma


ROWS = {
    "batch_norm": Op(("y", "mean", "variance"), ("x", "gamma", "beta"), _batch_norm),
    "batch_norm_inference": Op(("y",), ("x", "gamma", "beta"), same),
}

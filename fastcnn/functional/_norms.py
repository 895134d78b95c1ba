"""Normalization of each sample by itself."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.functional._call import backend_of, on_batch, with_names

__all__ = ["group_norm", "layer_norm", "local_response_norm"]


@with_names()
def layer_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    backend: str | Backend = "fast",
) -> Array:
    """Normalize each row by its own statistics, over the axes from `axis` to the last.

    x is (N, C), (N, H, W, C) or one image (H, W, C); gamma and beta are shaped like the axes from
    `axis` on, (C,) by default. A positive axis counts that of the batch, which an image lacks.
    """
    return on_batch(
        "layer_norm",
        lambda batch: backend_of(backend).layer_norm(
            batch, gamma, beta, axis=axis, epsilon=epsilon
        ),
        x,
        (3, 4, 2),
    )


@with_names()
def group_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    groups: int,
    epsilon: float = 1e-5,
    backend: str | Backend = "fast",
) -> Array:
    """Normalize groups of channels by the statistics of each sample.

    x is (N, C), (N, H, W, C) or one image (H, W, C); gamma and beta are (C,).
    """
    return on_batch(
        "group_norm",
        lambda batch: backend_of(backend).group_norm(
            batch, gamma, beta, groups=groups, epsilon=epsilon
        ),
        x,
        (3, 4, 2),
    )


@with_names()
def local_response_norm(
    x: ArrayLike,
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    backend: str | Backend = "fast",
) -> Array:
    """Return x / (k + alpha / size * s)**beta, s the sum of squares of neighbouring channels.

    x is (N, C), (N, H, W, C) or one image (H, W, C).
    """
    return on_batch(
        "local_response_norm",
        lambda batch: backend_of(backend).local_response_norm(
            batch, size=size, alpha=alpha, beta=beta, k=k
        ),
        x,
        (3, 4, 2),
    )

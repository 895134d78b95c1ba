"""The part of the backend contract that is blocks: what several of its other ops do, as one op."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "Blocks", "Padding", "Size2D", "sees_few"]

Array = NDArray[Any]
Size2D = int | tuple[int, int]
Padding = str | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]

_FEW_NUMBERS = 9  # of a filter, as in a first layer's 3x3 of one channel


class Blocks(Protocol):
    """The blocks of `fastcnn.backend.Backend`, whose rules hold for them too."""

    def conv_block(
        self,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array]:
        """Return max_pool2d(relu(conv2d(x, w, b))) in one pass, with the places of its winners.

        Arguments as in conv2d and max_pool2d; the pool has no padding and at most 255 places.
        Returns y (N, P, Q, K) and argmax, uint8: the place of each winner in its pool window,
        or the number of places where y is 0, since ReLU lets no gradient pass there.
        """

    def conv_block_backward(
        self,
        dy: ArrayLike,
        argmax: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array | None, Array, Array]:
        """Return (dx, dw, db) as conv2d_backward does, from the winners' gradients alone."""

    def batch_norm_block(
        self,
        x: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        *,
        epsilon: float = 1e-5,
        pool_size: Size2D = 1,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """Return max_pool2d(relu(batch_norm(x))), the places of its winners, mean and variance.

        x (N, H, W, C), y and argmax (N, P, Q, C); argmax and the pool as in conv_block. A window
        of one place is ReLU alone, and argmax its mask: 0 where y is above 0 or NaN, else 1.
        """

    def batch_norm_block_backward(
        self,
        dy: ArrayLike,
        argmax: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
        pool_size: Size2D = 1,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta) as batch_norm_backward does, from the winners' gradients."""

    def conv_norm_block(
        self,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None,
        gamma: ArrayLike,
        beta: ArrayLike,
        *,
        epsilon: float = 1e-5,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """Return batch_norm_block(conv2d(x, w, b), gamma, beta): y, argmax, mean and variance.

        Arguments and errors are those of the two. See `sees_few` for when it pays; else, and
        where x needs a gradient, backward computes the convolution again.
        """

    def conv_norm_block_backward(
        self,
        dy: ArrayLike,
        argmax: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array | None, Array, Array, Array, Array]:
        """Return (dx, dw, db, dgamma, dbeta); dx is None where `input_gradient` is False."""


def sees_few(w: Array, groups: int) -> bool:
    """Return whether conv_norm_block of filters w can do without the convolution's result.

    The moments of the few numbers that a filter sees tell its statistics, for less than it takes
    to write the result and to read it again (benchmarks/paths.py). In double they are exact
    enough for float32.
    """
    return groups == 1 and w.dtype == np.float32 and math.prod(w.shape[:3]) <= _FEW_NUMBERS

"""Steps of optimizers."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import ArrayLike

from fastcnn._types import Array

__all__ = ["Steps"]


class Steps(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    # The only ops that write to arguments: to `w` and the state arrays, which must be C-contiguous,
    # writable, native float arrays of one dtype, apart from each other in memory. `dw` counts as it
    # was before the step, wherever it lies.
    def sgd_step(
        self,
        w: Array,
        dw: ArrayLike,
        velocity: Array | None,
        *,
        learning_rate: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        """One step of gradient descent, in place, with PyTorch's rule.

        g = dw + weight_decay * w; velocity = momentum * velocity + g;
        w -= learning_rate * (g + momentum * velocity if nesterov else velocity).
        Without momentum `velocity` may be None and w -= learning_rate * g. A g or a velocity
        beyond the dtype's largest number is infinite, and so is its w.
        """

    def adam_step(
        self,
        w: Array,
        dw: ArrayLike,
        m: Array,
        v: Array,
        *,
        step: int,
        learning_rate: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        """Step number `step` (from 1) of Adam (Kingma and Ba, 2015), in place.

        g = dw + weight_decay * w, or, `decoupled` (AdamW, Loshchilov and Hutter, 2019),
        g = dw and w *= 1 - learning_rate * weight_decay first; m = beta1*m + (1-beta1)*g;
        v = beta2*v + (1-beta2)*g*g; w -= learning_rate * m / (1 - beta1**step)
        / (sqrt(v / (1 - beta2**step)) + epsilon). A v beyond the dtype's largest number is
        infinite: from then on, or a step later, its w moves no more (but for a decoupled decay).
        """

"""Optimizer steps, the only ops that write to their arguments.

w and the state arrays are updated in place, all of them or, after an error, none: they must be
C-contiguous, writable, native arrays of one dtype (float32 or float64) and one shape, apart from
each other in memory. dw may have any layout, and be a view of one of them: it counts as it was
before the step. TypeError for wrong types and dtypes, ValueError for wrong shapes, layouts and
values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import (
    Array,
    array,
    check_shape,
    flag,
    float_dtype,
    fraction,
    integer,
    not_negative,
    own_memory,
    positive,
    silent,
    updatable,
)


@silent
def sgd_step(
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
    Without momentum `velocity` may be None and w -= learning_rate * g. Sutskever et al., 2013.
    """
    op = "sgd_step"
    g = _gradient(op, w, dw)
    learning_rate = not_negative(op, "learning_rate", learning_rate)
    momentum = not_negative(op, "momentum", momentum)
    nesterov = flag(op, "nesterov", nesterov)
    weight_decay = not_negative(op, "weight_decay", weight_decay)
    if velocity is not None:
        _check_state(op, "velocity", velocity, w)
        own_memory(op, w=w, velocity=velocity)
    elif momentum:
        raise TypeError(f"{op}: velocity: expected an array for momentum {momentum}, got None")

    w64 = w.astype(np.float64)
    g = g + weight_decay * w64
    if velocity is None:
        w[...] = w64 - learning_rate * g
        return
    new_velocity = momentum * velocity.astype(np.float64) + g
    velocity[...] = new_velocity
    w[...] = w64 - learning_rate * (g + momentum * new_velocity if nesterov else new_velocity)


@silent
def adam_step(
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

    g = dw + weight_decay * w, or, `decoupled` (AdamW, Loshchilov and Hutter, 2019), g = dw and
    w *= 1 - learning_rate * weight_decay first; m = beta1*m + (1-beta1)*g;
    v = beta2*v + (1-beta2)*g*g; w -= learning_rate * m / (1 - beta1**step)
    / (sqrt(v / (1 - beta2**step)) + epsilon).
    """
    op = "adam_step"
    g = _gradient(op, w, dw)
    _check_state(op, "m", m, w)
    _check_state(op, "v", v, w)
    own_memory(op, w=w, m=m, v=v)
    step = integer(op, "step", step, 1)
    learning_rate = not_negative(op, "learning_rate", learning_rate)
    beta1 = fraction(op, "beta1", beta1, one=False)
    beta2 = fraction(op, "beta2", beta2, one=False)
    epsilon = positive(op, "epsilon", epsilon)
    weight_decay = not_negative(op, "weight_decay", weight_decay)
    decoupled = flag(op, "decoupled", decoupled)

    w64 = w.astype(np.float64)
    if decoupled:
        w64 = w64 * (1 - learning_rate * weight_decay)
    else:
        g = g + weight_decay * w64
    new_m = beta1 * m.astype(np.float64) + (1 - beta1) * g
    new_v = beta2 * v.astype(np.float64) + (1 - beta2) * g * g
    m_hat = new_m / (1 - beta1**step)
    v_hat = new_v / (1 - beta2**step)
    m[...] = new_m
    v[...] = new_v
    w[...] = w64 - learning_rate * m_hat / (np.sqrt(v_hat) + epsilon)


def _gradient(op: str, w: Array, dw: ArrayLike) -> Array:
    """Return dw as float64 after a check that w can be updated with it."""
    updatable(op, "w", w)
    dtype = float_dtype(op, w=w, dw=dw)
    return array(op, "dw", dw, dtype, w.shape)


def _check_state(op: str, name: str, state: Array, w: Array) -> None:
    """Raise unless `state` can be updated and agrees with w in dtype and shape."""
    updatable(op, name, state)
    if state.dtype != w.dtype:
        raise TypeError(f"{op}: {name}: expected {w.dtype} as w has, got {state.dtype}")
    check_shape(op, name, state.shape, w.shape)
